/* First formation among simulated nodes that crash at any moment: all that are formed agree on one cluster id and one list; a node whose disk was lost never takes
 * part in a first configuration another of its disks may have used. Also: texts of addresses, and the bytes of DATA/formation. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "proto/base.h"
#include "proto/error.h"
#include "server/cursor.h"
#include "server/formation.h"
#include "sluice.pb-c.h"
#include "storage/env_sim.h"

enum { NODES = 3 };

/* A node that can do nothing but form: what a process remembers; what the test remembers of it. */
struct peer_conn { struct env_conn conn; struct mini *mini; struct frame_reader reader; };
struct mini {
    struct env *env;
    struct test_node *t;
    struct identity identity;
    struct settings settings;
    struct formation *formation;
    struct peer_client *peers;
    struct env_listener listener;
};
struct test_node {
    struct sim_host *host;
    uint32_t id;
    unsigned formed;              /* times `done` was called */
    uint8_t cluster_id[16];
    struct formation_result result;
    bool lost;                    /* its disk was wiped after it may have accepted */
};

struct sent { struct env_write w; struct iovec iov; };

static void sent_done(struct env_write *w)
{
    struct sent *s = container_of(w, struct sent, w);
    free(s->iov.iov_base);
    free(s);
}

static void send_back(void *arg, void *frame, size_t len)
{
    struct peer_conn *c = arg;
    struct sent *s = calloc(1, sizeof *s);
    s->iov = (struct iovec){.iov_base = frame, .iov_len = len};
    s->w.iov = &s->iov;
    s->w.n_iov = 1;
    env_conn_write(&c->conn, &s->w, sent_done);
}

static size_t on_buffer(struct env_conn *conn, void **base) { return frame_reader_buffer(&((struct peer_conn *)conn->user)->reader, base); }

static void on_read(struct env_conn *conn, void *data, ssize_t n)
{
    (void)data;
    struct peer_conn *c = conn->user;
    if (n <= 0) {
        env_conn_close(conn);
        return;
    }
    frame_reader_fed(&c->reader, (size_t)n);
    struct frame f;
    while (frame_reader_next(&c->reader, &f) == 1) {
        if (f.kind == FRAME_HELLO) {
            Sluice__HelloReply r = SLUICE__HELLO_REPLY__INIT;
            size_t len;
            send_back(c, frame_encode(FRAME_HELLO_REPLY, f.correlation, &r, 0, &len), FRAME_HEADER_SIZE + sluice__hello_reply__get_packed_size(&r));
        } else if (f.kind == FRAME_FORM) {
            formation_request(c->mini->formation, f.correlation, f.message, f.message_len, send_back, c);
        }
    }
}

static void on_closed(struct env_conn *conn)
{
    struct peer_conn *c = conn->user;
    frame_reader_deinit(&c->reader);
    free(c);
}

static const struct env_conn_ops ops = {.buffer = on_buffer, .read = on_read, .closed = on_closed};

static void on_accept(struct env_listener *l)
{
    struct peer_conn *c = calloc(1, sizeof *c);
    c->mini = container_of(l, struct mini, listener);
    c->conn.ops = &ops;
    c->conn.user = c;
    if (env_accept(l, &c->conn) != 0) {
        free(c);
        return;
    }
    frame_reader_init(&c->reader, FRAME_MESSAGE_MAX, 0);
    env_conn_read(&c->conn, true);
}

static void on_formed(void *arg, const struct formation_result *r)
{
    struct mini *m = arg;
    m->t->formed++;
    m->t->result = *r;
    memcpy(m->t->cluster_id, m->identity.cluster_id, 16);
    assert_true(m->identity.formed);
    peer_client_identity(m->peers, m->identity.cluster_id, m->identity.incarnation);
}

static void mini_main(struct env *env, void *arg)
{
    struct test_node *t = arg;
    struct mini *m = calloc(1, sizeof *m);
    m->env = env;
    m->t = t;
    char err[256] = "";
    settings_defaults(&m->settings);
    snprintf(m->settings.cluster, sizeof m->settings.cluster, "1=n1:4570,2=n2:4570,3=n3:4570");
    env_mkdir(env, "data");
    int rc = identity_open(env, "data", t->id, &m->identity, err);
    if (rc != 0) {
        fail_msg("identity: %s", err);
    }
    char host[8];
    snprintf(host, sizeof host, "n%u", t->id);
    assert_int_equal(env_listen(env, &m->listener, host, 4570, false, on_accept), 0);
    struct peer_client_options po = {.env = env, .node_id = t->id, .incarnation = m->identity.incarnation};
    memcpy(po.cluster_id, m->identity.cluster_id, 16);
    assert_int_equal(peer_client_open(&m->peers, &po), 0);
    struct formation_options fo = {.env = env, .settings = &m->settings, .dir = "data", .identity = &m->identity, .peers = m->peers, .arg = m, .done = on_formed};
    char address[32];
    snprintf(address, sizeof address, "n%u:4570", t->id);
    fo.address = address;
    rc = formation_start(&m->formation, &fo, err);
    if (rc != 0) {
        fail_msg("formation: %s", err);
    }
}

struct world { struct sim *sim; struct test_node nodes[NODES]; };

static void world_open(struct world *w, uint64_t seed)
{
    memset(w, 0, sizeof *w);
    struct sim_options o = {.seed = seed,
                            .net = {.delay_ns = {100000, 2000000}},
                            .disk = {.sync_ns = {100000, 3000000}, .write_ns = {10000, 100000}, .read_ns = {10000, 100000}}};
    w->sim = sim_open(&o);
    for (uint32_t i = 0; i < NODES; i++) {
        char name[8];
        snprintf(name, sizeof name, "n%u", i + 1);
        w->nodes[i].host = sim_host_add(w->sim, name);
        w->nodes[i].id = i + 1;
    }
}

static void up(struct world *w, unsigned i)
{
    if (!sim_process_up(w->nodes[i].host)) {
        assert_int_equal(sim_process_start(w->nodes[i].host, mini_main, &w->nodes[i]), 0);
    }
}

static void run_ms(struct world *w, uint64_t ms) { sim_run_until(w->sim, sim_now_ns(w->sim) + ms * 1000000); }

static void check_agreement(struct world *w)
{
    const struct test_node *first = NULL;
    for (unsigned i = 0; i < NODES; i++) {
        const struct test_node *t = &w->nodes[i];
        if (t->formed == 0 || t->result.n_first == 0) {
            continue;
        }
        assert_int_equal(t->result.n_first, NODES);
        first = first == NULL ? t : first;
        assert_memory_equal(t->cluster_id, first->cluster_id, 16);
    }
}

/* Crashed processes leave memory behind: each world runs in a child. */
static void in_child(void (*run)(uint64_t seed), uint64_t seed)
{
    fflush(NULL);
    pid_t pid = fork();
    if (pid == 0) {
        run(seed);
        _exit(0);
    }
    int status;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    if (status != 0) {
        fail_msg("seed %llu failed with status %d", (unsigned long long)seed, status);
    }
}

/* SEEDS=n in the environment: n seeds of each story. */
static void seeds(void (*run)(uint64_t seed), uint64_t first, uint64_t count)
{
    const char *more = getenv("SEEDS");
    count = more != NULL ? strtoull(more, NULL, 10) : count;
    for (uint64_t seed = first; seed < first + count; seed++) {
        in_child(run, seed);
    }
}

#define CHECK(cond) \
    do { \
        if (!(cond)) { \
            fprintf(stderr, "seed %llu: %s (line %d)\n", (unsigned long long)seed, #cond, __LINE__); \
            _exit(1); \
        } \
    } while (0)

static void run_calm(uint64_t seed)
{
    struct world w;
    world_open(&w, seed);
    up(&w, 0);
    up(&w, 2);
    run_ms(&w, 3000);
    CHECK(w.nodes[0].formed == 0 && w.nodes[2].formed == 0); /* one is missing: nobody goes ahead */
    up(&w, 1);
    run_ms(&w, 3000);
    for (unsigned i = 0; i < NODES; i++) {
        CHECK(w.nodes[i].formed == 1 && w.nodes[i].result.n_first == NODES && w.nodes[i].result.controller_generation == 1);
        CHECK(memcmp(w.nodes[i].cluster_id, w.nodes[0].cluster_id, 16) == 0);
    }
    for (unsigned i = 0; i < NODES; i++) { /* the same after a restart of all */
        sim_process_crash(w.nodes[i].host, SIM_CRASH_POWER);
    }
    for (unsigned i = 0; i < NODES; i++) {
        up(&w, i);
    }
    run_ms(&w, 1000);
    for (unsigned i = 0; i < NODES; i++) {
        CHECK(w.nodes[i].formed == 2 && w.nodes[i].result.n_first == NODES);
    }
    check_agreement(&w);
    sim_close(w.sim);
}

static void all_first_nodes_form_one_cluster(void **state)
{
    (void)state;
    seeds(run_calm, 1, 5);
}

static void run_crashes(uint64_t seed)
{
    struct world w;
    world_open(&w, seed);
    for (unsigned i = 0; i < NODES; i++) {
        up(&w, i);
    }
    for (unsigned k = 0; k < 40; k++) {
        run_ms(&w, sim_random(w.sim) % 120);
        unsigned i = (unsigned)(sim_random(w.sim) % NODES);
        if (sim_process_up(w.nodes[i].host)) {
            sim_process_crash(w.nodes[i].host, sim_random(w.sim) % 2 == 0 ? SIM_CRASH_KILL : SIM_CRASH_POWER);
        }
        if (sim_random(w.sim) % 4 != 0) {
            up(&w, i);
        }
        check_agreement(&w);
    }
    for (unsigned i = 0; i < NODES; i++) {
        up(&w, i);
    }
    run_ms(&w, 10000);
    for (unsigned i = 0; i < NODES; i++) {
        CHECK(w.nodes[i].formed > 0 && w.nodes[i].result.n_first == NODES);
        CHECK(memcmp(w.nodes[i].cluster_id, w.nodes[0].cluster_id, 16) == 0);
    }
    sim_close(w.sim);
}

static void crashes_in_the_middle_do_no_harm(void **state)
{
    (void)state;
    seeds(run_crashes, 100, 40);
}

static void run_wipe(uint64_t seed)
{
    struct world w;
    world_open(&w, seed);
    for (unsigned i = 0; i < NODES; i++) {
        up(&w, i);
    }
    run_ms(&w, 3000);
    unsigned i = (unsigned)(seed % NODES);
    CHECK(w.nodes[i].formed == 1);
    sim_process_crash(w.nodes[i].host, SIM_CRASH_POWER);
    sim_disk_wipe(w.nodes[i].host);
    w.nodes[i].formed = 0;
    up(&w, i);
    run_ms(&w, 10000);
    CHECK(w.nodes[i].formed == 0); /* it waits to be admitted: there is no controller here to do it */
    check_agreement(&w);
    sim_close(w.sim);
}

static void a_wiped_node_does_not_bootstrap(void **state)
{
    (void)state;
    seeds(run_wipe, 200, 6);
}

static void addresses(void **state)
{
    (void)state;
    char host[64];
    uint16_t port;
    assert_true(formation_parse_address("127.0.0.1:4570", host, &port));
    assert_string_equal(host, "127.0.0.1");
    assert_int_equal(port, 4570);
    assert_true(formation_parse_address("[::1]:1", host, &port));
    assert_string_equal(host, "::1");
    const char *bad[] = {"", "a", ":1", "a:", "a:x", "a:65536", "::1:5", "a:1x", "a:-1", "a: 1"};
    for (unsigned i = 0; i < ARRAY_LEN(bad); i++) {
        assert_false(formation_parse_address(bad[i], host, &port));
    }
    struct map_node nodes[4];
    char err[256];
    assert_int_equal(formation_parse_cluster("2=b:2,1=a:1", nodes, 4, err), 2);
    assert_int_equal(nodes[0].id, 1);
    assert_string_equal(nodes[1].host, "b");
    assert_int_equal(formation_parse_cluster("", nodes, 4, err), 0);
    const char *worse[] = {"1", "1=a", "=a:1", "1=a:1,1=b:1", "0=a:1", "65536=a:1", "1=a:1,", ",1=a:1", "1=a:0", "x=a:1", "1 =a:1", "1=a:1,2=a:1,3=a:1,4=a:1,5=a:1"};
    for (unsigned i = 0; i < ARRAY_LEN(worse); i++) {
        err[0] = '\0';
        assert_true(formation_parse_cluster(worse[i], nodes, 4, err) < 0);
        assert_true(err[0] != '\0');
    }
}

static void the_file_is_refused_when_a_bit_flips(void **state)
{
    (void)state;
    struct formation_file f = {.step = FORMATION_ACCEPTED, .opened = true, .join_incarnation = 5, .generation = 3, .n_nodes = 2};
    f.nodes[0].id = 1;
    f.nodes[1].id = 2;
    snprintf(f.nodes[1].host, sizeof f.nodes[1].host, "host");
    struct out_buffer out = {0};
    formation_file_encode(&f, &out);
    struct formation_file g;
    assert_true(formation_file_decode(&g, out.data, out.len));
    assert_memory_equal(&f, &g, sizeof f);
    for (size_t i = 0; i < out.len * 8; i++) {
        out.data[i / 8] ^= (uint8_t)(1 << i % 8);
        assert_false(formation_file_decode(&g, out.data, out.len));
        out.data[i / 8] ^= (uint8_t)(1 << i % 8);
    }
    for (size_t n = 0; n < out.len; n++) {
        assert_false(formation_file_decode(&g, out.data, n));
    }
    free(out.data);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(addresses),
        cmocka_unit_test(the_file_is_refused_when_a_bit_flips),
        cmocka_unit_test(all_first_nodes_form_one_cluster),
        cmocka_unit_test(crashes_in_the_middle_do_no_harm),
        cmocka_unit_test(a_wiped_node_does_not_bootstrap),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
