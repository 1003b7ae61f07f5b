/* A whole HTTP connection, in the simulated world: whatever a peer sends, in whatever pieces, the server stays well and has nothing left afterwards.
 * First byte: 0x01 puts an HTTP/2 preface and SETTINGS before the rest, 0x02 cuts into small writes, 0x04 lets answers come later. */
#include "fuzz.h"

#include "server/http/http.h"
#include "storage/env_sim.h"

struct run {
    struct http_server *server;
    struct env *env, *client;
    struct http_request *held[64];
    unsigned n_held;
    bool later, stopped;
    const uint8_t *data;
    size_t n, step;
    struct env_conn conn;
    struct env_write writes[512];
    struct iovec iov[512];
};

static void answer(struct http_request *r)
{
    http_stream_begin(r, &(struct http_answer_head){.status = 200});
    static char text[] = "some text";
    struct iovec iov = {text, sizeof(text) - 1};
    sluice_assert(http_stream_write(r, &(struct http_bytes){.iov = &iov, .n_iov = 1}) == 0);
    if (r->body_len & 1) {
        http_stream_reset(r);
    } else {
        http_stream_end(r);
    }
}

static void on_request(void *arg, struct http_request *r)
{
    struct run *run = arg;
    r->user = run;
    size_t sum = r->method.n + r->path.n + r->query.n;
    for (unsigned i = 0; i < r->n_headers; i++) {
        sum += memchr(r->headers[i].name.p, ' ', r->headers[i].name.n) != NULL;
        sum += r->headers[i].value.n > 0 && r->headers[i].value.p[r->headers[i].value.n - 1] == '\n';
    }
    for (size_t i = 0; i < r->body_len; i++) {
        sum += r->body[i];
    }
    if (run->later && run->n_held < ARRAY_LEN(run->held)) {
        run->held[run->n_held++] = r;
    } else if (sum & 1) {
        http_answer_text(r, 200, NULL, "an answer");
    } else {
        answer(r);
    }
}

static void on_gone(struct http_request *r)
{
    struct run *run = r->user;
    for (unsigned i = 0; i < run->n_held; i++) {
        run->held[i] = run->held[i] == r ? NULL : run->held[i];
    }
}

static void server_main(struct env *env, void *arg)
{
    struct run *run = arg;
    run->env = env;
    struct http_options o = {.env = env, .host = "n1", .port = 80, .arg = run, .callbacks = {.request = on_request, .gone = on_gone},
                             .limits = {.memory_max = 1 << 20, .body_max = 100000, .head_max = 4096, .streams_max = 8}};
    sluice_assert(http_server_open(&run->server, &o) == 0);
}

static void client_main(struct env *env, void *arg) { ((struct run *)arg)->client = env; }

static void written(struct env_write *w) { (void)w; }
static void on_read(struct env_conn *c, void *data, ssize_t n)
{
    (void)data;
    if (n <= 0) {
        env_conn_close(c);
    }
}
static void on_closed(struct env_conn *c) { (void)c; }

static void connected(struct env_conn *c, int status)
{
    struct run *run = c->user;
    sluice_assert(status == 0);
    env_conn_read(c, true);
    size_t step = max_u64(run->step, (run->n + 511) / 512);
    unsigned k = 0;
    for (size_t at = 0; at < run->n; at += step, k++) {
        run->iov[k] = (struct iovec){.iov_base = (void *)(uintptr_t)(run->data + at), .iov_len = min_u64(step, run->n - at)};
        run->writes[k] = (struct env_write){.iov = &run->iov[k], .n_iov = 1};
        env_conn_write(c, &run->writes[k], written);
    }
}

static void answer_held(void *arg)
{
    struct run *run = arg;
    for (unsigned i = run->n_held; i-- > 0;) {
        if (run->held[i] != NULL) {
            answer(run->held[i]);
        }
    }
    run->n_held = 0;
}

static void stopped(void *arg) { ((struct run *)arg)->stopped = true; }

static void stop(void *arg)
{
    struct run *run = arg;
    const struct http_counters *n = http_server_counters(run->server);
    sluice_assert(n->memory_bytes == 0 && n->requests == 0 && n->connections == 0);
    http_server_close(run->server, 100, stopped, run);
}

static const struct env_conn_ops ops = {.connected = connected, .read = on_read, .closed = on_closed};

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0 || size > 65536) {
        return 0;
    }
    static const uint8_t preface[] = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0\0";
    size_t before = data[0] & 1 ? sizeof(preface) - 1 : 0;
    uint8_t *all = malloc(before + size);
    memcpy(all, preface, before);
    memcpy(all + before, data + 1, size - 1);
    struct run *run = calloc(1, sizeof(*run));
    *run = (struct run){.data = all, .n = before + size - 1, .step = data[0] & 2 ? 7 : SIZE_MAX, .later = data[0] & 4};
    struct sim_options o = {.seed = 1, .net = {.delay_ns = {1000, 2000}}};
    struct sim *sim = sim_open(&o);
    sluice_assert(sim_process_start(sim_host_add(sim, "n1"), server_main, run) == 0);
    sim_client_start(sim_host_add(sim, "c"), client_main, run);
    run->conn.ops = &ops;
    run->conn.user = run;
    sluice_assert(env_connect(run->client, &run->conn, "n1", 80) == 0);
    sim_run_until(sim, sim_now_ns(sim) + 50000000);
    sim_call(run->env, sim_now_ns(sim), answer_held, run);
    sim_run_until(sim, sim_now_ns(sim) + 50000000);
    sim_call(run->env, sim_now_ns(sim), answer_held, run);
    sim_run_until(sim, sim_now_ns(sim) + 50000000);
    env_conn_close(&run->conn);
    sim_run_until(sim, sim_now_ns(sim) + 50000000);
    sim_call(run->env, sim_now_ns(sim), stop, run);
    sim_run_until(sim, sim_now_ns(sim) + 500000000);
    sluice_assert(run->stopped);
    sim_close(sim);
    free(run);
    free(all);
    return 0;
}
