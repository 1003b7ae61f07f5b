/* server_cluster_fixture.h: whole nodes in a simulated world with one stream of one shard, and raw clients that send frames of their own making: what the client
 * library would repair or hide is seen here as the nodes say it. Each story runs in a child process: the memory of crashed processes is never freed. */
#ifndef SERVER_CLUSTER_FIXTURE_H
#define SERVER_CLUSTER_FIXTURE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
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
#include "server/node_impl.h"
#include "server/shard.h"
#include "sluice.pb-c.h"
#include "storage/env_sim.h"

enum { NODES = 4, NO_NODE = NODES };
#define MS 1000000ull

struct test_node { struct world *w; struct sim_host *host; struct node *node; unsigned at, exits; int exit_code; char why[256]; };
struct world {
    struct sim *sim;
    struct test_node nodes[NODES];
    unsigned first;                                            /* how many nodes form the cluster */
    void (*tune)(struct settings *s, unsigned node);           /* settings of a story */
    struct sim_host *clients;
    struct env *env;                                           /* the clients' */
    uint8_t stream_id[16];
    uint64_t group;
    uint64_t seed;
};

#define CHECK(cond) \
    do { \
        if (!(cond)) { \
            fprintf(stderr, "%s:%d: not true: %s\n", __FILE__, __LINE__, #cond); \
            fflush(stderr); \
            fflush(stdout); \
            _exit(1); \
        } \
    } while (0)

/* ---- nodes ---- */

static inline void world_log(void *arg, struct sim_host *host, const char *line, size_t n)
{
    struct world *w = arg;
    if (getenv("VERBOSE") != NULL) {
        fprintf(stderr, "%8.3f %s %.*s\n", (double)sim_now_ns(w->sim) / 1e9, sim_host_name(host), (int)n, line);
    }
}

static inline void world_exited(void *arg, struct sim_host *host, int code, const char *why)
{
    struct world *w = arg;
    for (unsigned i = 0; i < NODES; i++) {
        if (w->nodes[i].host == host) {
            w->nodes[i].exits++;
            w->nodes[i].exit_code = code;
            if (w->nodes[i].why[0] == 0) { /* else it said itself why it cannot start */
                snprintf(w->nodes[i].why, sizeof w->nodes[i].why, "%s", why != NULL ? why : "");
            }
            w->nodes[i].node = NULL;
        }
    }
}

static inline void node_main(struct env *env, void *arg)
{
    struct test_node *t = arg;
    struct settings s;
    settings_defaults(&s);
    s.node_id = t->at + 1;
    snprintf(s.data, sizeof s.data, "data");
    snprintf(s.listen, sizeof s.listen, "n%u:4570", t->at + 1);
    s.admin[0] = 0;
    s.kinesis[0] = 0;
    if (t->w->first > 1) {
        size_t at = 0;
        for (unsigned i = 0; i < t->w->first; i++) {
            at += (size_t)snprintf(s.cluster + at, sizeof s.cluster - at, "%s%u=n%u:4570", i > 0 ? "," : "", i + 1, i + 1);
        }
    }
    s.lanes = 1;
    s.replicas = t->w->first < 3 ? 1 : 3;
    snprintf(s.limits, sizeof s.limits, "off");
    s.segment_first = 65536;
    s.segment_max = 1 << 20;
    s.pool_max = 0;
    s.disk_reserve = 0;
    if (t->w->tune != NULL) {
        t->w->tune(&s, t->at);
    }
    char err[256] = "";
    int rc = node_start(env, &s, &t->node, err);
    if (rc != 0) {
        snprintf(t->why, sizeof t->why, "%s", err);
        t->node = NULL;
        env_stop(env);
    }
}

static inline void node_up(struct world *w, unsigned i)
{
    w->nodes[i].why[0] = 0;
    w->nodes[i].exit_code = 0;
    CHECK(sim_process_start(w->nodes[i].host, node_main, &w->nodes[i]) == 0);
}

static inline void node_down(struct world *w, unsigned i, enum sim_crash how)
{
    if (sim_process_up(w->nodes[i].host)) {
        sim_process_crash(w->nodes[i].host, how);
    }
    w->nodes[i].node = NULL;
}

static inline void run_ms(struct world *w, uint64_t ms) { sim_run_until(w->sim, sim_now_ns(w->sim) + ms * MS); }
static inline uint64_t now_ms(const struct world *w) { return sim_now_ns(w->sim) / MS; }

static inline void cut(struct world *w, unsigned a, unsigned b, bool on)
{
    sim_cut(w->sim, w->nodes[a].host, w->nodes[b].host, on);
    sim_cut(w->sim, w->nodes[b].host, w->nodes[a].host, on);
}

/* From the other nodes; clients still reach it. */
static inline void cut_off(struct world *w, unsigned i, bool on)
{
    for (unsigned k = 0; k < w->first; k++) {
        if (k != i) {
            cut(w, i, k, on);
        }
    }
}

/* The replica of the stream's shard on node i; NULL: none now. */
static inline struct shard *shard_on(struct world *w, unsigned i)
{
    struct node *n = w->nodes[i].node;
    for (unsigned k = 0; n != NULL && k < n->n_lanes; k++) {
        struct lane *l = n->lanes[k];
        struct shard *s = l != NULL && l->serving ? lane_shard(l, w->group) : NULL;
        if (s != NULL && s->phase == SHARD_RUNNING && s->group != NULL) {
            return s;
        }
    }
    return NULL;
}

/* The node whose replica leads in the newest term and takes writes; NO_NODE. */
static inline unsigned leader(struct world *w)
{
    unsigned best = NO_NODE;
    for (unsigned i = 0; i < w->first; i++) {
        const struct shard *s = shard_on(w, i);
        if (s != NULL && s->ready && s->state.opened && (best == NO_NODE || s->term > shard_on(w, best)->term)) {
            best = i;
        }
    }
    return best;
}

static inline unsigned await_leader(struct world *w, unsigned not_this)
{
    for (unsigned k = 0; k < 2000; k++) {
        unsigned l = leader(w);
        if (l != NO_NODE && l != not_this) {
            return l;
        }
        run_ms(w, 10);
    }
    CHECK(!"the shard gets a leader");
    return NO_NODE;
}

/* ---- raw clients ---- */

struct got { uint8_t kind; uint64_t correlation; uint8_t *message; size_t len, payload_len; };
enum { GOT_MAX = 512 };
struct client {
    struct world *w;
    unsigned node;
    struct env_conn conn;
    struct frame_reader reader;
    bool connected, ended;
    struct got got[GOT_MAX];
    unsigned n_got;
    uint64_t correlation;
};

static inline void client_connected(struct env_conn *conn, int status)
{
    struct client *c = conn->user;
    c->connected = status == 0;
    c->ended = status != 0;
    if (status == 0) {
        env_conn_read(conn, true);
    } else {
        env_conn_close(conn);
    }
}

static inline size_t client_buffer(struct env_conn *conn, void **base) { return frame_reader_buffer(&((struct client *)conn->user)->reader, base); }

static inline void client_read(struct env_conn *conn, void *data, ssize_t n)
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
        CHECK(c->n_got < GOT_MAX);
        struct got *g = &c->got[c->n_got++];
        *g = (struct got){.kind = f.kind, .correlation = f.correlation, .len = f.message_len, .payload_len = f.payload_len};
        g->message = xmalloc(f.message_len + 1);
        memcpy(g->message, f.message, f.message_len);
    }
}

static inline void client_closed(struct env_conn *conn) { (void)conn; }

static const struct env_conn_ops client_ops = {.connected = client_connected, .buffer = client_buffer, .read = client_read, .closed = client_closed};

struct client_write { struct env_write write; struct iovec iov; };

static inline void client_written(struct env_write *w)
{
    struct client_write *o = container_of(w, struct client_write, write);
    free(o->iov.iov_base);
    free(o);
}

static inline uint64_t client_send(struct client *c, uint8_t kind, const void *message, const void *payload, uint32_t payload_len)
{
    size_t n;
    uint8_t *frame = frame_encode(kind, ++c->correlation, message, payload_len, &n);
    struct client_write *o = xcalloc(1, sizeof *o);
    o->iov = (struct iovec){.iov_base = xrealloc(frame, n + payload_len), .iov_len = n + payload_len};
    if (payload_len > 0) {
        memcpy((uint8_t *)o->iov.iov_base + n, payload, payload_len);
    }
    o->write.iov = &o->iov;
    o->write.n_iov = 1;
    env_conn_write(&c->conn, &o->write, client_written);
    return c->correlation;
}

static inline const struct got *client_got(const struct client *c, uint64_t correlation)
{
    for (unsigned i = 0; i < c->n_got; i++) {
        if (c->got[i].correlation == correlation) {
            return &c->got[i];
        }
    }
    return NULL;
}

static inline const struct got *client_await(struct client *c, uint64_t correlation, uint64_t ms)
{
    for (uint64_t t = 0; t < ms && client_got(c, correlation) == NULL && !c->ended; t += 5) {
        run_ms(c->w, 5);
    }
    return client_got(c, correlation);
}

static inline struct client *dial(struct world *w, unsigned node)
{
    struct client *c = xcalloc(1, sizeof *c);
    c->w = w;
    c->node = node;
    c->conn.ops = &client_ops;
    c->conn.user = c;
    frame_reader_init(&c->reader, FRAME_MESSAGE_MAX, FRAME_PAYLOAD_MAX);
    char name[8];
    snprintf(name, sizeof name, "n%u", node + 1);
    CHECK(env_connect(w->env, &c->conn, name, 4570) == 0);
    for (int i = 0; i < 100 && !c->connected; i++) {
        run_ms(w, 10);
    }
    CHECK(c->connected);
    Sluice__Hello h = SLUICE__HELLO__INIT;
    h.version_min = h.version_max = 1;
    const struct got *g = client_await(c, client_send(c, FRAME_HELLO, &h, NULL, 0), 1000);
    CHECK(g != NULL && g->kind == FRAME_HELLO_REPLY);
    return c;
}

/* ---- requests ---- */

struct answer { int code; uint32_t leader; uint64_t offset, end, first, next, time_ms, count; bool duplicate, closed; int outcome; size_t payload; };

static inline struct answer decode(const struct got *g)
{
    struct answer a = {.code = -1}; /* no answer came */
    if (g == NULL) {
        return a;
    }
    a.code = 0;
    a.payload = g->payload_len;
    if (g->kind == FRAME_ERROR) {
        Sluice__Error *e = sluice__error__unpack(NULL, g->len, g->message);
        CHECK(e != NULL && e->code != 0);
        a.code = (int)e->code;
        a.leader = e->leader_node;
        sluice__error__free_unpacked(e, NULL);
    } else if (g->kind == FRAME_PUT_REPLY) {
        Sluice__PutReply *r = sluice__put_reply__unpack(NULL, g->len, g->message);
        a.offset = r->first_offset;
        a.count = r->count;
        a.time_ms = r->time_ms;
        a.duplicate = r->duplicate;
        sluice__put_reply__free_unpacked(r, NULL);
    } else if (g->kind == FRAME_FETCH_REPLY) {
        Sluice__FetchReply *r = sluice__fetch_reply__unpack(NULL, g->len, g->message);
        a.next = r->next_offset;
        a.first = r->first_offset;
        a.end = r->end_offset;
        a.closed = r->closed;
        sluice__fetch_reply__free_unpacked(r, NULL);
    } else if (g->kind == FRAME_RESOLVE_REPLY) {
        Sluice__ResolveReply *r = sluice__resolve_reply__unpack(NULL, g->len, g->message);
        a.outcome = (int)r->outcome;
        a.offset = r->first_offset;
        a.count = r->count;
        sluice__resolve_reply__free_unpacked(r, NULL);
    } else if (g->kind == FRAME_POSITION_REPLY) {
        Sluice__PositionReply *r = sluice__position_reply__unpack(NULL, g->len, g->message);
        a.offset = r->offset;
        a.first = r->first_offset;
        a.end = r->end_offset;
        sluice__position_reply__free_unpacked(r, NULL);
    }
    return a;
}

struct producer { uint8_t id[16]; uint32_t epoch; };

/* One batch of `count` records of `bytes` bytes, compressed or not; p NULL: no producer. */
static inline uint64_t put_send_as(struct client *c, const struct producer *p, uint64_t sequence, unsigned count, uint32_t bytes, bool lz4)
{
    struct batch_builder b;
    batch_builder_init(&b);
    uint8_t *data = xmalloc(bytes > 0 ? bytes : 1);
    memset(data, (int)(sequence & 0x7f), bytes);
    struct hash128 hash;
    hash_key_of("key", 3, &hash);
    for (unsigned i = 0; i < count; i++) {
        CHECK(batch_builder_add(&b, "key", 3, data, bytes, &hash, false) == 0);
    }
    struct batch_identity id = {.stream_id = c->w->stream_id};
    if (p != NULL) {
        id.producer_id = p->id;
        id.producer_epoch = p->epoch;
        id.producer_sequence = sequence;
    }
    void *batch;
    size_t n;
    CHECK(batch_builder_finish(&b, &id, lz4, &batch, &n) == 0);
    Sluice__Put m = SLUICE__PUT__INIT;
    m.stream_id = (ProtobufCBinaryData){.len = 16, .data = c->w->stream_id};
    uint64_t correlation = client_send(c, FRAME_PUT, &m, batch, (uint32_t)n);
    free(batch);
    free(data);
    batch_builder_deinit(&b);
    return correlation;
}

static inline uint64_t put_send(struct client *c, const struct producer *p, uint64_t sequence, unsigned count, uint32_t bytes)
{
    return put_send_as(c, p, sequence, count, bytes, false);
}

static inline struct answer put(struct client *c, const struct producer *p, uint64_t sequence, unsigned count)
{
    return decode(client_await(c, put_send(c, p, sequence, count, 50), 5000));
}

static inline uint64_t fetch_send(struct client *c, uint64_t offset, uint32_t wait_ms)
{
    Sluice__Fetch m = SLUICE__FETCH__INIT;
    m.stream_id = (ProtobufCBinaryData){.len = 16, .data = c->w->stream_id};
    m.offset = offset;
    m.wait_ms = wait_ms;
    return client_send(c, FRAME_FETCH, &m, NULL, 0);
}

static inline struct answer fetch(struct client *c, uint64_t offset, uint32_t wait_ms) { return decode(client_await(c, fetch_send(c, offset, wait_ms), wait_ms + 5000)); }

static inline struct answer resolve(struct client *c, const struct producer *p, uint64_t sequence)
{
    Sluice__Resolve m = SLUICE__RESOLVE__INIT;
    m.stream_id = (ProtobufCBinaryData){.len = 16, .data = c->w->stream_id};
    m.producer_id = (ProtobufCBinaryData){.len = 16, .data = (uint8_t *)(uintptr_t)p->id};
    m.epoch = p->epoch;
    m.sequence = sequence;
    return decode(client_await(c, client_send(c, FRAME_RESOLVE, &m, NULL, 0), 5000));
}

static inline struct answer position(struct client *c, Sluice__Position__Kind kind, const char *sequence)
{
    Sluice__Position m = SLUICE__POSITION__INIT;
    m.stream_id = (ProtobufCBinaryData){.len = 16, .data = c->w->stream_id};
    m.kind = kind;
    m.sequence = (char *)(uintptr_t)sequence;
    return decode(client_await(c, client_send(c, FRAME_POSITION, &m, NULL, 0), 5000));
}

/* ---- worlds ---- */

static inline void clients_main(struct env *env, void *arg) { ((struct world *)arg)->env = env; }

/* A stream of one shard; the world's requests are for the one created last. The first letter of its name makes its request id. */
static inline void create_stream(struct world *w, unsigned node, const char *name, uint32_t replicas)
{
    struct client *c = dial(w, node);
    Sluice__StreamCreate m = SLUICE__STREAM_CREATE__INIT;
    uint8_t id[16] = {(uint8_t)name[0], (uint8_t)now_ms(w), (uint8_t)(now_ms(w) >> 8), 1};
    m.name = (char *)(uintptr_t)name;
    m.shards = 1;
    m.replicas = replicas;
    m.request_id = (ProtobufCBinaryData){.len = 16, .data = id};
    const struct got *g = client_await(c, client_send(c, FRAME_STREAM_CREATE, &m, NULL, 0), 20000);
    CHECK(g != NULL && g->kind == FRAME_STREAM_CREATE_REPLY);
    Sluice__StreamReply *r = sluice__stream_reply__unpack(NULL, g->len, g->message);
    memcpy(w->stream_id, r->stream->id.data, 16);
    sluice__stream_reply__free_unpacked(r, NULL);
    for (unsigned k = 0; k < 100; k++) {
        const struct map_stream *s = cluster_map_stream_by_id(w->nodes[node].node->map, w->stream_id);
        if (s != NULL) {
            w->group = s->shards[0].group;
            await_leader(w, NO_NODE);
            return;
        }
        run_ms(w, 50);
    }
    CHECK(!"the stream is in the map");
}

static inline void world_open(struct world *w, unsigned first)
{
    w->first = first;
    struct sim_options o = {.seed = w->seed, .net = {.delay_ns = {100000, 1 * MS}}, .log = world_log, .exited = world_exited, .arg = w,
                            .disk = {.sync_ns = {100000, 2 * MS}, .write_ns = {10000, 50000}, .read_ns = {10000, 50000}}};
    w->sim = sim_open(&o);
    for (unsigned i = 0; i < NODES; i++) {
        char name[8];
        snprintf(name, sizeof name, "n%u", i + 1);
        w->nodes[i] = (struct test_node){.w = w, .host = sim_host_add(w->sim, name), .at = i};
    }
    w->clients = sim_host_add(w->sim, "clients");
    for (unsigned i = 0; i < first; i++) {
        node_up(w, i);
    }
    w->env = sim_client_start(w->clients, clients_main, w);
    char why[256];
    for (unsigned k = 0; k < 200; k++) {
        run_ms(w, 100);
        bool all = true;
        for (unsigned i = 0; i < first; i++) {
            all = all && w->nodes[i].node != NULL && node_ready(w->nodes[i].node, why);
        }
        if (all) {
            return;
        }
    }
    CHECK(!"the cluster forms");
}

/* n records, one at a time, each acknowledged by whoever leads. */
static inline void put_some(struct world *w, unsigned n)
{
    struct client *c = dial(w, await_leader(w, NO_NODE));
    for (unsigned i = 0; i < n; i++) {
        struct answer a = put(c, NULL, 0, 1);
        CHECK(a.code == 0);
    }
    env_conn_close(&c->conn);
}

/* All nodes that are up hold the same state of the shard, byte for byte. */
static inline bool replicas_agree(struct world *w)
{
    uint8_t *seen = NULL;
    uint32_t n_seen = 0;
    bool same = true;
    for (unsigned i = 0; i < w->first; i++) {
        struct shard *s = shard_on(w, i);
        if (s == NULL) {
            continue;
        }
        uint32_t n;
        uint8_t *bytes = shard_snapshot_encode(&s->state, &n);
        same = same && (seen == NULL || (n == n_seen && memcmp(bytes, seen, n) == 0));
        free(seen);
        seen = bytes;
        n_seen = n;
    }
    free(seen);
    return same && seen != NULL;
}

static inline bool await_agreement(struct world *w, uint64_t ms)
{
    for (uint64_t t = 0; t < ms; t += 50) {
        if (replicas_agree(w)) {
            return true;
        }
        run_ms(w, 50);
    }
    return replicas_agree(w);
}

static inline bool story_holds(void (*fn)(struct world *w), uint64_t seed)
{
    fflush(NULL);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        alarm(120);
        struct world *w = xcalloc(1, sizeof *w);
        w->seed = seed;
        fn(w);
        _exit(0);
    }
    int status = 0;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

#define STORY(name) \
    static void name##_story(struct world *w); \
    static void name(void **state) { (void)state; assert_true(story_holds(name##_story, 1)); } \
    static void name##_story(struct world *w)

#endif
