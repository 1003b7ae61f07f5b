/* budget.c: sluice-budget: three nodes, a producer and a reader in one simulated world, made to be counted by callgrind.
 *
 * The real node and client code runs a fixed course of phases (below): the same instructions in every run. Costs are collected only in the turns of one
 * host, so that a run under callgrind tells what the leader, a follower, the producer or the reader spends; each phase is dumped under its name. What the
 * simulator itself spends in these turns is taken off by costs.awk, which knows its files. tests/budget/check.sh does all that.
 *
 * sluice-budget leader|follower|producer|reader|none     (none: the caller collects by other means)
 * On stdout: "phase NAME N UNIT", what was done in each phase, in the order of the dumps. */
#include "client/sluice.h"
#include "proto/base.h"
#include "server/lane.h"
#include "server/node_impl.h"
#include "storage/env_sim.h"

#include <stdio.h>
#include <stdlib.h>

#if __has_include(<valgrind/callgrind.h>)
#include <valgrind/callgrind.h>
enum { COUNTS = true };
#else
enum { COUNTS = false };
#define CALLGRIND_START_INSTRUMENTATION ((void)0)
#define CALLGRIND_TOGGLE_COLLECT ((void)0)
#define CALLGRIND_ZERO_STATS ((void)0)
#define CALLGRIND_DUMP_STATS_AT(name) ((void)(name))
#endif

#define MS 1000000ull
#define SECOND 1000000000ull
enum { NODES = 3, KEYS = 64, DATA_MAX = 1024 };

/* What each phase does. A record's data are random bytes: they don't compress. */
struct phase {
    const char *name;
    uint32_t puts, size, depth; /* records put, bytes of data of each, how many are unanswered at a time */
    uint32_t reads;             /* records read by a reader of its own: begins `back` records before the end, or at the very first */
    uint32_t back;
    bool follow;                /* a reader follows meanwhile */
    bool counted;
};

/* The first one fills pools and windows, the last but one the cache: its 4 MiB hold an eighth of all that is put. */
static const struct phase phases[] = {
    {.name = "warm-up", .puts = 24000, .size = 1024, .depth = 1024},
    {.name = "put-1k", .puts = 8192, .size = 1024, .depth = 1024, .counted = true},
    {.name = "put-100", .puts = 32768, .size = 100, .depth = 8192, .counted = true},
    {.name = "put-alone", .puts = 512, .size = 1024, .depth = 1, .counted = true},
    {.name = "follow-alone", .puts = 512, .size = 1024, .depth = 1, .follow = true, .counted = true},
    {.name = "follow-1k", .puts = 8192, .size = 1024, .depth = 1024, .follow = true, .counted = true},
    {.name = "read-disk", .reads = 8192, .counted = true},
    {.name = "read-again", .reads = 2048, .back = 2048},
    {.name = "read-cache", .reads = 2048, .back = 2048, .counted = true},
};

struct host {
    struct sim_host *sim;
    struct settings settings;
    struct node *node;
    unsigned number;
};

struct course {
    struct sim *sim;
    struct host nodes[NODES];
    struct sim_host *producer_host, *reader_host;
    const struct sim_host *counted; /* collected are this host's turns */
    bool counting;                  /* in a counted phase */
    char endpoints[64];

    struct env *producer_env, *reader_env;
    struct sluice_client *producer_client, *reader_client;
    struct sluice_producer *producer;
    struct sluice_reader *reader;
    struct env_timer retry;
    uint64_t group;                 /* of the stream's one shard; 0: not known yet */
    bool writable, finished_reading;

    const struct phase *phase;
    uint32_t sent, acked, read;
    uint64_t end;                   /* offset after the last acknowledged record */
    uint64_t random;
    uint8_t data[DATA_MAX];
};

static void fail(const char *why)
{
    fprintf(stderr, "sluice-budget: %s\n", why);
    exit(1);
}

/* ---- what is collected ---- */

static void turn(void *arg, struct sim_host *host, bool begins)
{
    (void)begins;
    const struct course *c = arg;
    if (c->counting && host == c->counted) {
        CALLGRIND_TOGGLE_COLLECT;
    }
}

static struct node *node_of(const struct course *c, bool leading)
{
    struct node *found = NULL;
    for (unsigned i = 0; i < NODES; i++) {
        struct node *n = c->nodes[i].node;
        uint64_t cursor = 0;
        for (struct group *g; n != NULL && (g = groups_next(n->lanes[0]->groups, &cursor)) != NULL;) {
            if (group_id(g) == c->group && group_ready(g) == leading) {
                found = n;
            }
        }
    }
    return found;
}

static const struct sim_host *host_of(const struct course *c, const char *role)
{
    if (strcmp(role, "producer") == 0) {
        return c->producer_host;
    }
    if (strcmp(role, "reader") == 0) {
        return c->reader_host;
    }
    bool leader = strcmp(role, "leader") == 0;
    if (!leader && strcmp(role, "follower") != 0) {
        return NULL;
    }
    const struct node *n = node_of(c, leader);
    for (unsigned i = 0; i < NODES; i++) {
        if (n != NULL && c->nodes[i].node == n) {
            return c->nodes[i].sim;
        }
    }
    fail("the shard has no leader");
    return NULL;
}

/* ---- producer ---- */

static void put_some(struct course *c);

static void put_done(const struct sluice_put_result *r, void *user)
{
    struct course *c = user;
    if (r->code != 0) {
        fail(sluice_error_text(r->code));
    }
    c->acked++;
    c->end = r->offset + 1;
    put_some(c);
}

static void put_some(struct course *c)
{
    while (c->sent < c->phase->puts && c->sent - c->acked < c->phase->depth) {
        c->random = c->random * 6364136223846793005u + 1442695040888963407u;
        for (uint32_t i = 0; i + 8 <= DATA_MAX; i += 8) {
            put_u64(c->data + i, (c->random + i) * 0x9e3779b97f4a7c15u);
        }
        char key[8];
        int n = snprintf(key, sizeof key, "k%02u", c->sent % KEYS);
        struct sluice_record r = {.key = key, .key_len = (size_t)n, .data = c->data, .data_len = c->phase->size};
        int rc = sluice_producer_put(c->producer, &r, put_done, c);
        if (rc == SLUICE_E_BUSY) {
            return; /* on_writable() goes on */
        }
        if (rc != 0) {
            fail(sluice_error_text(rc));
        }
        c->sent++;
    }
}

static void on_writable(struct sluice_producer *p, void *user)
{
    (void)p;
    struct course *c = user;
    if (c->phase != NULL) {
        put_some(c);
    }
}

static void created(const struct sluice_result *r, void *user)
{
    struct course *c = user;
    const Sluice__StreamReply *reply = (const Sluice__StreamReply *)r->reply;
    if (r->code != 0 || reply->stream == NULL || reply->stream->status != SLUICE__STREAM_INFO__STATUS__ACTIVE) {
        env_timer_start_ms(&c->retry, 100);
        return;
    }
    c->group = reply->stream->shards[0]->group;
    struct sluice_producer_options o = {.writable = on_writable, .user = c};
    if (sluice_producer_open(c->producer_client, "s", &o, &c->producer) != 0) {
        fail("no producer");
    }
}

static void create(struct env_timer *t)
{
    struct course *c = container_of(t, struct course, retry);
    sluice_stream_create(c->producer_client, "s", 1, 0, NODES, created, c);
}

static void producer_main(struct env *env, void *arg)
{
    struct course *c = arg;
    c->producer_env = env;
    struct sluice_client_options o = {.endpoints = c->endpoints, .agent = "budget"};
    if (sluice_client_open(env, &o, &c->producer_client) != 0 || env_timer_init(env, &c->retry, create) != 0) {
        fail("no client");
    }
    env_timer_start_ms(&c->retry, 2000);
}

static void start_puts(void *arg) { put_some(arg); }

/* ---- reader ---- */

static void on_records(struct sluice_reader *reader, const struct sluice_records *batch, void *user)
{
    (void)reader;
    struct course *c = user;
    c->read += (uint32_t)batch->n;
    if (!c->phase->follow && c->read >= c->phase->reads) {
        c->finished_reading = true;
        sluice_reader_pause(reader, true);
    }
}

static void on_ended(struct sluice_reader *reader, const struct sluice_read_end *end, void *user)
{
    (void)reader;
    (void)user;
    fail(end->message);
}

static void reader_main(struct env *env, void *arg)
{
    struct course *c = arg;
    c->reader_env = env;
    struct sluice_client_options o = {.endpoints = c->endpoints, .agent = "budget"};
    if (sluice_client_open(env, &o, &c->reader_client) != 0) {
        fail("no client");
    }
}

static void start_reader(void *arg)
{
    struct course *c = arg;
    struct sluice_reader_options o = {.records = on_records, .ended = on_ended, .user = c};
    struct sluice_position from = {.kind = SLUICE_AT_OFFSET, .offset = c->phase->follow ? c->end : c->phase->back != 0 ? c->end - c->phase->back : 0};
    if (sluice_reader_open(c->reader_client, "s", 0, &from, &o, &c->reader) != 0) {
        fail("no reader");
    }
}

static void stop_reader(void *arg)
{
    struct course *c = arg;
    sluice_reader_close(c->reader);
    c->reader = NULL;
}

/* ---- the course ---- */

static void node_main(struct env *env, void *arg)
{
    struct host *h = arg;
    char err[256] = "";
    if (node_start(env, &h->settings, &h->node, err) != 0) {
        fail(err);
    }
}

static void on_exit_of(void *arg, struct sim_host *host, int code, const char *why)
{
    (void)arg;
    fprintf(stderr, "sluice-budget: %s ended with %d: %s\n", sim_host_name(host), code, why != NULL ? why : "");
    exit(1);
}

static void start_node(struct course *c, unsigned i)
{
    struct host *h = &c->nodes[i];
    h->number = i + 1;
    struct settings *s = &h->settings;
    settings_defaults(s);
    s->node_id = h->number;
    snprintf(s->data, sizeof s->data, "data");
    snprintf(s->listen, sizeof s->listen, "n%u:4570", h->number);
    s->admin[0] = '\0';
    snprintf(s->cluster, sizeof s->cluster, "1=n1:4570,2=n2:4570,3=n3:4570");
    s->lanes = 1;
    s->segment_max = 16 << 20; /* what is written stays in memory here */
    s->pool_max = 32 << 20;
    s->cache = 4 << 20;
    snprintf(s->limits, sizeof s->limits, "off");
    snprintf(s->log_level, sizeof s->log_level, "error");
    if (sim_process_start(h->sim, node_main, h) != 0) {
        fail("a node did not start");
    }
}

static void run_ms(struct course *c, uint64_t ms) { sim_run_until(c->sim, sim_now_ns(c->sim) + ms * MS); }

static void play(struct course *c, const struct phase *p)
{
    c->phase = p;
    c->sent = c->acked = c->read = 0;
    c->finished_reading = false;
    bool reads = p->reads > 0 || p->follow;
    if (p->follow) { /* it stands at the end when the first record comes */
        sim_call(c->reader_env, sim_now_ns(c->sim), start_reader, c);
        run_ms(c, 20);
    }
    if (p->counted) {
        CALLGRIND_ZERO_STATS;
        c->counting = c->counted != NULL;
    }
    uint64_t from = sim_now_ns(c->sim);
    if (p->puts > 0) {
        sim_call(c->producer_env, from, start_puts, c);
    }
    if (reads && !p->follow) {
        sim_call(c->reader_env, from, start_reader, c);
    }
    /* Until the last answer is there. Timers (heartbeats, pings) are counted, too: they are few. */
    while (c->acked < p->puts || (p->follow && c->read < p->puts) || (reads && !p->follow && !c->finished_reading)) {
        if (sim_now_ns(c->sim) > from + 60 * SECOND) {
            fail("a phase does not end");
        }
        sim_run_until(c->sim, sim_now_ns(c->sim) + MS / 10);
    }
    if (p->counted) {
        c->counting = false;
        CALLGRIND_DUMP_STATS_AT(p->name);
        printf("phase %s %u\n", p->name, p->puts > 0 ? p->puts : c->read);
    }
    if (reads) {
        sim_call(c->reader_env, sim_now_ns(c->sim), stop_reader, c);
    }
    run_ms(c, 50);
}

int main(int argc, char **argv)
{
    if (argc != 2) {
        fail("usage: sluice-budget leader|follower|producer|reader|none");
    }
    if (!COUNTS) {
        fail("built without valgrind's headers, so nothing would be counted: deploy/packages test, then build anew");
    }
    struct course *c = xcalloc(1, sizeof *c);
    struct sim_options o = {
        .seed = 1,
        .net = {.delay_ns = {50000, 50000}},
        .disk = {.sync_ns = {200000, 200000}, .write_ns = {20000, 20000}, .read_ns = {20000, 20000}},
        .exited = on_exit_of,
        .turn = turn,
        .arg = c,
    };
    c->sim = sim_open(&o);
    snprintf(c->endpoints, sizeof c->endpoints, "n1:4570,n2:4570,n3:4570");
    for (unsigned i = 0; i < NODES; i++) {
        char name[8];
        snprintf(name, sizeof name, "n%u", i + 1);
        c->nodes[i].sim = sim_host_add(c->sim, name);
    }
    for (unsigned i = 0; i < NODES; i++) {
        start_node(c, i);
    }
    c->producer_host = sim_host_add(c->sim, "producer");
    c->reader_host = sim_host_add(c->sim, "reader");
    sim_client_start(c->producer_host, producer_main, c);
    sim_client_start(c->reader_host, reader_main, c);
    for (unsigned i = 0; c->producer == NULL || sluice_producer_shards(c->producer) == 0; i++) {
        if (i > 600) {
            fail("no stream after 60 s");
        }
        run_ms(c, 100);
    }
    play(c, &phases[0]);
    const struct node *leader = node_of(c, true);
    c->counted = host_of(c, argv[1]);
    CALLGRIND_START_INSTRUMENTATION;
    for (unsigned i = 1; i < ARRAY_LEN(phases); i++) {
        play(c, &phases[i]);
        if (node_of(c, true) != leader) {
            fail("the leader changed");
        }
    }
    return 0;
}
