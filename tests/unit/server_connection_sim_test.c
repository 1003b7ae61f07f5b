/* A node and a raw client in the simulated world: what a connection may do and what happens at its bounds. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "proto/base.h"
#include "proto/batch.h"
#include "proto/error.h"
#include "proto/frame.h"
#include "raft/link_codec.h"
#include "server/node.h"
#include "server/settings.h"
#include "sluice.pb-c.h"
#include "storage/env_sim.h"

#define CHECK(cond) \
    do { \
        if (!(cond)) { \
            fprintf(stderr, "%s:%d: not true: %s\n", __FILE__, __LINE__, #cond); \
            fflush(stderr); \
            _exit(1); \
        } \
    } while (0)

enum { SECOND = 1000000000, FRAMES_MAX = 256 };

struct got { uint8_t kind; uint64_t correlation; uint8_t *message; size_t len, payload_len; };

struct client {
    struct env_conn conn;
    struct frame_reader reader;
    bool connected, ended, closed;
    struct got got[FRAMES_MAX];
    unsigned n_got;
    uint64_t correlation;
};

struct world {
    struct sim *sim;
    struct sim_host *server, *other;
    struct settings settings;
    struct node *node;
    struct env *env; /* the client's */
    bool stopped;
};

/* ---- client ---- */

static void on_connected(struct env_conn *conn, int status)
{
    struct client *c = conn->user;
    CHECK(status == 0);
    c->connected = true;
    env_conn_read(conn, true);
}

static size_t on_buffer(struct env_conn *conn, void **base)
{
    return frame_reader_buffer(&((struct client *)conn->user)->reader, base);
}

static void on_read(struct env_conn *conn, void *data, ssize_t n)
{
    (void)data;
    struct client *c = conn->user;
    if (n <= 0) {
        c->ended = true;
        env_conn_close(conn);
        return;
    }
    frame_reader_fed(&c->reader, (size_t)n);
    struct frame f;
    while (frame_reader_next(&c->reader, &f) == 1) {
        CHECK(c->n_got < FRAMES_MAX);
        struct got *g = &c->got[c->n_got++];
        *g = (struct got){ .kind = f.kind, .correlation = f.correlation, .len = f.message_len, .payload_len = f.payload_len };
        g->message = malloc(f.message_len + 1);
        memcpy(g->message, f.message, f.message_len);
    }
}

static void on_closed(struct env_conn *conn)
{
    ((struct client *)conn->user)->closed = true;
}

static const struct env_conn_ops ops = { .connected = on_connected, .buffer = on_buffer, .read = on_read, .closed = on_closed };

struct out { struct env_write write; struct iovec iov; };

static void written(struct env_write *w)
{
    struct out *o = container_of(w, struct out, write);
    free(o->iov.iov_base);
    free(o);
}

static void send_bytes(struct client *c, const void *data, size_t n)
{
    struct out *o = calloc(1, sizeof *o);
    o->iov = (struct iovec){ .iov_base = malloc(n), .iov_len = n };
    memcpy(o->iov.iov_base, data, n);
    o->write.iov = &o->iov;
    o->write.n_iov = 1;
    env_conn_write(&c->conn, &o->write, written);
}

static uint64_t send_message(struct client *c, uint8_t kind, const void *message, const void *payload, uint32_t payload_len)
{
    size_t n;
    void *frame = frame_encode(kind, ++c->correlation, message, payload_len, &n);
    uint8_t *all = malloc(n + payload_len);
    memcpy(all, frame, n);
    if (payload_len > 0) {
        memcpy(all + n, payload, payload_len);
    }
    send_bytes(c, all, n + payload_len);
    free(all);
    free(frame);
    return c->correlation;
}

static void run(struct world *w, double seconds)
{
    sim_run_until(w->sim, sim_now_ns(w->sim) + (uint64_t)(seconds * SECOND));
}

static const struct got *answer_to(const struct client *c, uint64_t correlation)
{
    for (unsigned i = 0; i < c->n_got; i++) {
        if (c->got[i].correlation == correlation) {
            return &c->got[i];
        }
    }
    return NULL;
}

static uint32_t error_code(const struct got *g)
{
    CHECK(g != NULL && g->kind == FRAME_ERROR);
    Sluice__Error *e = sluice__error__unpack(NULL, g->len, g->message);
    CHECK(e != NULL && e->message[0] != 0);
    uint32_t code = e->code;
    sluice__error__free_unpacked(e, NULL);
    return code;
}

static struct client *dial(struct world *w)
{
    struct client *c = calloc(1, sizeof *c);
    c->conn.ops = &ops;
    c->conn.user = c;
    frame_reader_init(&c->reader, FRAME_MESSAGE_MAX, FRAME_PAYLOAD_MAX);
    CHECK(env_connect(w->env, &c->conn, "n1", 4570) == 0);
    for (int i = 0; i < 100 && !c->connected; i++) {
        run(w, 0.01);
    }
    CHECK(c->connected);
    return c;
}

static struct client *dial_client(struct world *w)
{
    struct client *c = dial(w);
    Sluice__Hello h = SLUICE__HELLO__INIT;
    h.version_min = h.version_max = 1;
    uint64_t id = send_message(c, FRAME_HELLO, &h, NULL, 0);
    run(w, 0.1);
    CHECK(answer_to(c, id) != NULL && answer_to(c, id)->kind == FRAME_HELLO_REPLY);
    return c;
}

static bool alive(struct world *w, struct client *c)
{
    Sluice__Empty e = SLUICE__EMPTY__INIT;
    uint64_t id = send_message(c, FRAME_PING, &e, NULL, 0);
    run(w, 0.5);
    return answer_to(c, id) != NULL && answer_to(c, id)->kind == FRAME_PING_REPLY;
}

/* ---- world ---- */

static void log_line(void *arg, struct sim_host *host, const char *line, size_t n)
{
    (void)arg;
    (void)host;
    if (getenv("SLUICE_TEST_LOG") != NULL) {
        fprintf(stderr, "%.*s\n", (int)n, line);
    }
}

static void exited(void *arg, struct sim_host *host, int code, const char *why)
{
    (void)arg;
    (void)host;
    fprintf(stderr, "the node ended: %d %s\n", code, why);
    _exit(1);
}

static void node_main(struct env *env, void *arg)
{
    struct world *w = arg;
    char err[256];
    CHECK(node_start(env, &w->settings, &w->node, err) == 0);
}

static void client_main(struct env *env, void *arg)
{
    ((struct world *)arg)->env = env;
}

static void start(struct world *w)
{
    struct sim_options o = { .seed = 7, .net = { .delay_ns = { 100000, 300000 } }, .disk = { .sync_ns = { 100000, 400000 }, .write_ns = { 10000, 20000 }, .read_ns = { 10000, 50000 } },
                             .log = log_line, .exited = exited };
    w->sim = sim_open(&o);
    w->server = sim_host_add(w->sim, "n1");
    w->other = sim_host_add(w->sim, "c1");
    CHECK(sim_process_start(w->server, node_main, w) == 0);
    w->env = sim_client_start(w->other, client_main, w);
    char why[256];
    for (int i = 0; i < 100 && !node_ready(w->node, why); i++) {
        run(w, 0.1);
    }
    CHECK(node_ready(w->node, why));
}

static void defaults(struct world *w)
{
    char err[256];
    memset(w, 0, sizeof *w);
    settings_defaults(&w->settings);
    CHECK(settings_set(&w->settings, "listen", "n1:4570", err) == 0);
    CHECK(settings_set(&w->settings, "admin", "", err) == 0);
    CHECK(settings_set(&w->settings, "data", "/data", err) == 0);
    CHECK(settings_set(&w->settings, "lanes", "2", err) == 0);
    CHECK(settings_set(&w->settings, "replicas", "1", err) == 0);
    CHECK(settings_set(&w->settings, "limits", "off", err) == 0);
    CHECK(settings_set(&w->settings, "pool-max", "0", err) == 0);
    CHECK(settings_set(&w->settings, "disk-reserve", "0", err) == 0);
}

/* Each story runs in a child: the simulated process is never torn down. */
static void story(void (*fn)(struct world *w))
{
    fflush(NULL);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        struct world *w = malloc(sizeof *w);
        defaults(w);
        fn(w);
        _exit(0);
    }
    int status;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

/* ---- stories ---- */

static void hello_comes_first(struct world *w)
{
    start(w);
    struct client *c = dial(w);
    Sluice__Empty e = SLUICE__EMPTY__INIT;
    uint64_t id = send_message(c, FRAME_PING, &e, NULL, 0);
    run(w, 1);
    CHECK(error_code(answer_to(c, id)) == SLUICE_E_PROTOCOL);
    CHECK(c->ended);
    /* Silent ones are cut off after five seconds, not before. */
    c = dial(w);
    run(w, 4);
    CHECK(!c->ended);
    run(w, 3);
    CHECK(c->ended);
    /* A version that nobody speaks yet. */
    c = dial(w);
    Sluice__Hello h = SLUICE__HELLO__INIT;
    h.version_min = 2;
    h.version_max = 3;
    id = send_message(c, FRAME_HELLO, &h, NULL, 0);
    run(w, 1);
    CHECK(error_code(answer_to(c, id)) == SLUICE_E_VERSION);
    CHECK(c->ended);
    /* A large frame before the hello is refused from its header alone. */
    c = dial(w);
    uint8_t header[FRAME_HEADER_SIZE];
    frame_header_encode(header, FRAME_HELLO, 9, "", 0, 1 << 20);
    send_bytes(c, header, sizeof header);
    run(w, 1);
    CHECK(answer_to(c, 9) == NULL); /* a header that is not believed names no request */
    CHECK(error_code(answer_to(c, 0)) == SLUICE_E_TOO_LARGE);
    CHECK(c->ended);
}

static void garbage_ends_the_connection(struct world *w)
{
    start(w);
    struct client *c = dial_client(w);
    char garbage[200];
    memset(garbage, 'G', sizeof garbage);
    send_bytes(c, garbage, sizeof garbage);
    run(w, 1);
    CHECK(c->ended && c->n_got == 2 && error_code(&c->got[1]) == SLUICE_E_PROTOCOL && c->got[1].correlation == 0);
    /* A flipped bit in a message is noticed. */
    c = dial_client(w);
    Sluice__StreamDescribe d = SLUICE__STREAM_DESCRIBE__INIT;
    d.name = (char *)"some-name";
    size_t n;
    uint8_t *frame = frame_encode(FRAME_STREAM_DESCRIBE, 5, &d, 0, &n);
    frame[n - 1] ^= 4;
    send_bytes(c, frame, n);
    run(w, 1);
    CHECK(c->ended);
    /* Others are not touched. */
    CHECK(alive(w, dial_client(w)));
}

static void bad_requests_get_errors(struct world *w)
{
    start(w);
    struct client *c = dial_client(w);
    /* A well-framed message that is no Put: the connection goes on. */
    uint8_t frame[FRAME_HEADER_SIZE + 3];
    memcpy(frame + FRAME_HEADER_SIZE, "\xff\xff\xff", 3);
    frame_header_encode(frame, FRAME_PUT, 77, frame + FRAME_HEADER_SIZE, 3, 0);
    send_bytes(c, frame, sizeof frame);
    run(w, 0.5);
    CHECK(error_code(answer_to(c, 77)) == SLUICE_E_PROTOCOL);
    Sluice__Empty e = SLUICE__EMPTY__INIT;
    CHECK(alive(w, c));
    uint64_t id = send_message(c, FRAME_REPORT, &e, NULL, 0);
    uint64_t id2 = send_message(c, 200, &e, NULL, 0);
    run(w, 0.5);
    CHECK(error_code(answer_to(c, id)) == SLUICE_E_REFUSED);
    CHECK(error_code(answer_to(c, id2)) == SLUICE_E_REFUSED || error_code(answer_to(c, id2)) == SLUICE_E_NOT_SUPPORTED);
    id = send_message(c, 58, &e, NULL, 0); /* an even kind below 64 that is not given out */
    run(w, 0.5);
    CHECK(error_code(answer_to(c, id)) == SLUICE_E_NOT_SUPPORTED);
    CHECK(alive(w, c));
    /* A node of another cluster. */
    c = dial(w);
    uint8_t cluster[16] = { 1 };
    Sluice__Hello h = SLUICE__HELLO__INIT;
    h.version_min = h.version_max = 1;
    h.role = SLUICE__HELLO__ROLE__PEER;
    h.cluster_id = (ProtobufCBinaryData){ .len = 16, .data = cluster };
    h.node_id = 2;
    id = send_message(c, FRAME_HELLO, &h, NULL, 0);
    run(w, 1);
    CHECK(error_code(answer_to(c, id)) == SLUICE_E_WRONG_CLUSTER);
    CHECK(c->ended);
}

static void send_alive_record(struct client *c)
{
    uint8_t frame[FRAME_HEADER_SIZE + LINK_HEADER_SIZE];
    link_record_encode(&(struct link_message){ .type = LINK_ALIVE, .from = 2, .to = 1, .c = 1 }, NULL, 0, frame + FRAME_HEADER_SIZE);
    frame_header_encode(frame, FRAME_LINK, 0, NULL, 0, LINK_HEADER_SIZE);
    send_bytes(c, frame, sizeof frame);
}

/* A link lives on whole frames. Behind a length that was damaged on the way its records only feed a frame that never ends, so bytes alone must not keep it. */
static void a_link_that_makes_no_sense_ends(struct world *w)
{
    start(w);
    struct client *c = dial(w);
    Sluice__Hello h = SLUICE__HELLO__INIT;
    h.version_min = h.version_max = 1;
    uint64_t id = send_message(c, FRAME_HELLO, &h, NULL, 0);
    run(w, 0.5);
    Sluice__HelloReply *r = sluice__hello_reply__unpack(NULL, answer_to(c, id)->len, answer_to(c, id)->message);
    CHECK(r != NULL && r->cluster_id.len == 16);
    c = dial(w);
    h.role = SLUICE__HELLO__ROLE__PEER;
    h.cluster_id = r->cluster_id;
    h.node_id = 2;
    h.to_node = 1;
    h.incarnation = h.lanes = 1;
    id = send_message(c, FRAME_HELLO, &h, NULL, 0);
    run(w, 0.5);
    CHECK(answer_to(c, id) != NULL && answer_to(c, id)->kind == FRAME_HELLO_REPLY);
    for (int i = 0; i < 200; i++) { /* 10 s */
        send_alive_record(c);
        run(w, 0.05);
        CHECK(!c->ended);
    }
    uint8_t damaged[FRAME_HEADER_SIZE];
    void *much = calloc(1, FRAME_MESSAGE_MAX);
    frame_header_encode(damaged, FRAME_LINK, 0, much, FRAME_MESSAGE_MAX, LINK_HEADER_SIZE);
    free(much);
    send_bytes(c, damaged, sizeof damaged);
    for (int i = 0; i < 160 && !c->ended; i++) { /* 8 s */
        send_alive_record(c);
        run(w, 0.05);
    }
    CHECK(c->ended);
    sluice__hello_reply__free_unpacked(r, NULL);
}

static void create_stream(struct world *w, struct client *c, uint8_t stream_id[16])
{
    Sluice__StreamCreate m = SLUICE__STREAM_CREATE__INIT;
    uint8_t request[16] = { 3 };
    m.name = (char *)"s";
    m.shards = 1;
    m.replicas = 1;
    m.request_id = (ProtobufCBinaryData){ .len = 16, .data = request };
    uint64_t id = send_message(c, FRAME_STREAM_CREATE, &m, NULL, 0);
    for (int i = 0; i < 100 && answer_to(c, id) == NULL; i++) {
        run(w, 0.1);
    }
    const struct got *g = answer_to(c, id);
    CHECK(g != NULL && g->kind == FRAME_STREAM_CREATE_REPLY);
    Sluice__StreamReply *r = sluice__stream_reply__unpack(NULL, g->len, g->message);
    CHECK(r != NULL && r->stream->id.len == 16);
    memcpy(stream_id, r->stream->id.data, 16);
    run(w, 1);
}

static uint64_t send_put(struct client *c, const uint8_t stream_id[16], unsigned i)
{
    struct batch_builder b;
    batch_builder_init(&b);
    char data[32];
    snprintf(data, sizeof data, "record %u", i);
    struct hash128 hash;
    hash_key_of("key", 3, &hash);
    CHECK(batch_builder_add(&b, "key", 3, data, strlen(data), &hash, false) == 0);
    struct batch_identity id = { .stream_id = stream_id };
    void *batch;
    size_t n;
    CHECK(batch_builder_finish(&b, &id, false, &batch, &n) == 0);
    Sluice__Put m = SLUICE__PUT__INIT;
    m.stream_id = (ProtobufCBinaryData){ .len = 16, .data = (uint8_t *)(uintptr_t)stream_id };
    uint64_t correlation = send_message(c, FRAME_PUT, &m, batch, (uint32_t)n);
    free(batch);
    batch_builder_deinit(&b);
    return correlation;
}

static uint64_t send_fetch(struct client *c, const uint8_t stream_id[16], uint64_t offset, uint32_t wait_ms)
{
    Sluice__Fetch m = SLUICE__FETCH__INIT;
    m.stream_id = (ProtobufCBinaryData){ .len = 16, .data = (uint8_t *)(uintptr_t)stream_id };
    m.offset = offset;
    m.wait_ms = wait_ms;
    return send_message(c, FRAME_FETCH, &m, NULL, 0);
}

static void puts_keep_their_order(struct world *w)
{
    start(w);
    uint8_t stream_id[16];
    struct client *c = dial_client(w);
    create_stream(w, c, stream_id);
    uint64_t ids[50];
    for (unsigned i = 0; i < 50; i++) {
        ids[i] = send_put(c, stream_id, i);
    }
    run(w, 2);
    for (unsigned i = 0; i < 50; i++) {
        const struct got *g = answer_to(c, ids[i]);
        CHECK(g != NULL && g->kind == FRAME_PUT_REPLY);
        Sluice__PutReply *r = sluice__put_reply__unpack(NULL, g->len, g->message);
        CHECK(r->first_offset == i && r->count == 1);
        sluice__put_reply__free_unpacked(r, NULL);
    }
    /* A client that leaves in the middle takes nothing with it. */
    struct client *gone = dial_client(w);
    for (unsigned i = 0; i < 20; i++) {
        send_put(gone, stream_id, i);
    }
    send_fetch(gone, stream_id, 100000, 60000);
    run(w, 0.001);
    env_conn_close(&gone->conn);
    run(w, 1);
    uint64_t id = send_fetch(c, stream_id, 0, 0);
    run(w, 1);
    const struct got *g = answer_to(c, id);
    CHECK(g != NULL && g->kind == FRAME_FETCH_REPLY && g->payload_len > 0);
    Sluice__FetchReply *r = sluice__fetch_reply__unpack(NULL, g->len, g->message);
    CHECK(r->end_offset >= 50 && r->end_offset <= 70 && r->next_offset <= r->end_offset);
    CHECK(alive(w, c));
}

static void long_polls_wait_and_are_bounded(struct world *w)
{
    w->settings.requests_max = 4;
    start(w);
    uint8_t stream_id[16];
    struct client *c = dial_client(w);
    create_stream(w, c, stream_id);
    uint64_t ids[10];
    for (unsigned i = 0; i < 10; i++) {
        ids[i] = send_fetch(c, stream_id, 0, 3000);
    }
    Sluice__Empty e = SLUICE__EMPTY__INIT;
    uint64_t ping = send_message(c, FRAME_PING, &e, NULL, 0);
    run(w, 2);
    CHECK(answer_to(c, ids[0]) == NULL); /* nothing to read yet */
    CHECK(answer_to(c, ping) == NULL);   /* not even looked at: four requests are open */
    struct client *writer = dial_client(w);
    send_put(writer, stream_id, 1);
    run(w, 0.5);
    for (unsigned i = 0; i < 10; i++) {
        CHECK(answer_to(c, ids[i]) != NULL && answer_to(c, ids[i])->payload_len > 0);
    }
    CHECK(answer_to(c, ping) != NULL);
    /* At the end a poll comes back empty, when its time is over. */
    uint64_t id = send_fetch(c, stream_id, 1, 1000);
    run(w, 0.9);
    CHECK(answer_to(c, id) == NULL);
    run(w, 0.3);
    CHECK(answer_to(c, id) != NULL && answer_to(c, id)->kind == FRAME_FETCH_REPLY && answer_to(c, id)->payload_len == 0);
}

static void limits_throttle(struct world *w)
{
    snprintf(w->settings.limits, sizeof w->settings.limits, "kinesis");
    w->settings.shard_records_per_s = 10;
    start(w);
    uint8_t stream_id[16];
    struct client *c = dial_client(w);
    create_stream(w, c, stream_id);
    unsigned taken = 0;
    unsigned refused = 0;
    uint64_t ids[30];
    for (unsigned i = 0; i < 30; i++) {
        ids[i] = send_put(c, stream_id, i);
    }
    run(w, 0.5);
    for (unsigned i = 0; i < 30; i++) {
        const struct got *g = answer_to(c, ids[i]);
        CHECK(g != NULL);
        if (g->kind == FRAME_PUT_REPLY) {
            taken++;
        } else {
            CHECK(error_code(g) == SLUICE_E_THROTTLED);
            refused++;
        }
    }
    CHECK(taken == 10 && refused == 20);
    run(w, 1);
    uint64_t id = send_put(c, stream_id, 99);
    run(w, 0.5);
    CHECK(answer_to(c, id)->kind == FRAME_PUT_REPLY);
}

static uint64_t first_offset_now(struct world *w, struct client *c, const uint8_t stream_id[16])
{
    Sluice__Position m = SLUICE__POSITION__INIT;
    m.stream_id = (ProtobufCBinaryData){ .len = 16, .data = (uint8_t *)(uintptr_t)stream_id };
    m.kind = SLUICE__POSITION__KIND__TRIM_HORIZON;
    uint64_t id = send_message(c, FRAME_POSITION, &m, NULL, 0);
    run(w, 0.5);
    const struct got *g = answer_to(c, id);
    CHECK(g != NULL && g->kind == FRAME_POSITION_REPLY);
    Sluice__PositionReply *r = sluice__position_reply__unpack(NULL, g->len, g->message);
    uint64_t first = r->first_offset;
    CHECK(r->offset == first);
    sluice__position_reply__free_unpacked(r, NULL);
    return first;
}

/* The shortest retention is a day, so this story lasts more than one. */
static void retention_drops_what_is_old(struct world *w)
{
    w->settings.lanes = 1;
    start(w);
    uint8_t stream_id[16];
    struct client *c = dial_client(w);
    create_stream(w, c, stream_id);
    for (unsigned i = 0; i < 5; i++) {
        send_put(c, stream_id, i);
    }
    run(w, 12 * 3600);
    CHECK(c->ended); /* idle for longer than a client may be */
    c = dial_client(w);
    for (unsigned i = 0; i < 5; i++) {
        send_put(c, stream_id, i);
    }
    run(w, 60);
    CHECK(first_offset_now(w, c, stream_id) == 0);
    run(w, 12 * 3600); /* the first five are older than a day now, the others are not */
    c = dial_client(w);
    CHECK(first_offset_now(w, c, stream_id) == 5);
    uint64_t gone = send_fetch(c, stream_id, 0, 0);
    uint64_t there = send_fetch(c, stream_id, 5, 0);
    run(w, 0.5);
    CHECK(error_code(answer_to(c, gone)) == SLUICE_E_EXPIRED);
    CHECK(answer_to(c, there)->payload_len > 0);
    /* A longer retention keeps what is there, and brings nothing back. */
    Sluice__StreamUpdate m = SLUICE__STREAM_UPDATE__INIT;
    uint8_t request[16] = { 9 };
    m.name = (char *)"s";
    m.retention_hours = 72;
    m.request_id = (ProtobufCBinaryData){ .len = 16, .data = request };
    send_message(c, FRAME_STREAM_UPDATE, &m, NULL, 0);
    run(w, 10);
    CHECK(first_offset_now(w, c, stream_id) == 5);
    run(w, 20 * 3600);
    c = dial_client(w);
    CHECK(first_offset_now(w, c, stream_id) == 5);
}

static void stopped(void *arg)
{
    ((struct world *)arg)->stopped = true;
}

static void stop_answers_everything(struct world *w)
{
    start(w);
    uint8_t stream_id[16];
    struct client *c = dial_client(w);
    create_stream(w, c, stream_id);
    send_fetch(c, stream_id, 0, 60000);
    run(w, 0.5);
    node_stop(w->node, stopped, w);
    run(w, 5);
    CHECK(w->stopped);
    CHECK(c->ended);
}

static void test_hello(void **state) { (void)state; story(hello_comes_first); }
static void test_garbage(void **state) { (void)state; story(garbage_ends_the_connection); }
static void test_bad_requests(void **state) { (void)state; story(bad_requests_get_errors); }
static void test_link(void **state) { (void)state; story(a_link_that_makes_no_sense_ends); }
static void test_order(void **state) { (void)state; story(puts_keep_their_order); }
static void test_polls(void **state) { (void)state; story(long_polls_wait_and_are_bounded); }
static void test_limits(void **state) { (void)state; story(limits_throttle); }
static void test_retention(void **state) { (void)state; story(retention_drops_what_is_old); }
static void test_stop(void **state) { (void)state; story(stop_answers_everything); }

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_hello), cmocka_unit_test(test_garbage), cmocka_unit_test(test_bad_requests), cmocka_unit_test(test_link), cmocka_unit_test(test_order),
        cmocka_unit_test(test_polls), cmocka_unit_test(test_limits), cmocka_unit_test(test_retention), cmocka_unit_test(test_stop),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
