/* raft_fixture.h: nodes with journals, links and groups in a simulated world, each group with a toy machine; the checker stands outside the nodes.
 *
 * The toy machine counts offsets and sums up what it applied. Every applied (group, index) must have the same bytes on every node and in every life; every
 * acknowledged proposal must be among them; offsets continue. Each story runs in a child process of its own: the memory of crashed processes is never freed. */
#ifndef RAFT_FIXTURE_H
#define RAFT_FIXTURE_H

#include <errno.h>
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
#include "proto/batch.h"
#include "proto/crc32c.h"
#include "proto/error.h"
#include "proto/frame.h"
#include "raft/group_impl.h"
#include "raft/group.h"
#include "sluice.pb-c.h"
#include "storage/env_sim.h"

#define CHECK(cond) \
    do { \
        if (!(cond)) { \
            fprintf(stderr, "%s:%d: not true: %s\n", __FILE__, __LINE__, #cond); \
            fflush(stderr); \
            fflush(stdout); \
            _exit(1); \
        } \
    } while (0)

enum { NODES_MAX = 7, GROUPS_MAX = 64, INDEX_MAX = 1 << 16, FIX_PORT = 4570 };
#define MS 1000000u

struct world;
struct node;

/* The toy machine: one per (life of a node, group). */
struct machine {
    struct node *node;
    struct group *g;
    uint64_t group;
    struct batch_log *batches;
    uint64_t first, next, sum, last_index, in_flight_next, told_term;
    uint64_t applied, restores, installs, seeded, roles;
    bool snapshot_busy;
};

struct node {
    struct world *w;
    unsigned at;
    struct sim_host *host;
    char name[8];
    uint64_t incarnation;
    /* this life */
    struct env *env;
    struct journal *journal;
    struct recovered *rec;
    struct groups *gs;
    struct env_listener listener;
    struct machine *machines[GROUPS_MAX];
    bool closed, dead;
};

struct seen { uint32_t crc; uint64_t term; };

struct world {
    struct sim *sim;
    struct node nodes[NODES_MAX];
    unsigned n_nodes, n_groups, n_members; /* groups 1..n_groups; members: the first nodes */
    unsigned disable;
    uint32_t in_flight, snapshot_bytes, trailing_bytes;
    unsigned heartbeat_ms, election_ms;
    uint64_t memory_max;
    struct seen *seen[GROUPS_MAX];  /* by index */
    struct { uint64_t index; uint32_t crc; } *acked[GROUPS_MAX];
    unsigned n_acked[GROUPS_MAX], cap_acked[GROUPS_MAX];
    unsigned done, unknown, refused;
    unsigned violations, exits;
    bool quiet_violations; /* counted, not fatal: for stories with a rule switched off */
    bool no_prefer, hold_start;
    bool verbose;
    uint64_t extra_removed;
};

static inline uint64_t now_ms(const struct world *w) { return sim_now_ns(w->sim) / MS; }
static inline void run_ms(struct world *w, uint64_t ms) { sim_run_until(w->sim, sim_now_ns(w->sim) + ms * MS); }

static inline void violation(struct world *w, const char *what, uint64_t group, uint64_t index)
{
    w->violations++;
    if (!w->quiet_violations) {
        fprintf(stderr, "violation at %llu ms: %s group %llu index %llu\n", (unsigned long long)now_ms(w), what, (unsigned long long)group,
                (unsigned long long)index);
        sim_print_tail(w->sim, 30);
        CHECK(!"violation");
    }
}

/* ---- machine ---- */

static inline void machine_apply(void *arg, uint64_t index, uint64_t term, const void *data, uint32_t len, const struct place *place)
{
    struct machine *m = arg;
    struct world *w = m->node->w;
    CHECK(index < INDEX_MAX);
    uint32_t crc = crc32c(0, data, len);
    struct seen *s = &w->seen[m->group][index];
    if (s->term == 0) {
        *s = (struct seen){crc, term};
    } else if (s->crc != crc || s->term != term) {
        violation(w, "replicas differ", m->group, index);
    }
    if (index <= m->last_index) {
        violation(w, "applied twice", m->group, index);
    }
    m->last_index = index;
    m->applied++;
    struct batch_header h;
    if (batch_header_decode(&h, data, len, false, NULL) == 0) {
        if (h.first_offset != m->next) {
            violation(w, "offset does not continue", m->group, index);
            return;
        }
        CHECK(place->segment != 0 && place->len == len);
        batch_log_append(m->batches, &(struct locator){.offset = h.first_offset, .time_ms = h.time_ms, .place = *place, .count = h.record_count});
        m->next += h.record_count;
    }
    m->sum = m->sum * 31 + crc;
}

static inline int machine_snapshot(void *arg, void **data, uint32_t *len)
{
    struct machine *m = arg;
    if (m->snapshot_busy) {
        return 1;
    }
    uint8_t *p = malloc(32);
    put_u64(p, m->first);
    put_u64(p + 8, m->next);
    put_u64(p + 16, m->sum);
    put_u64(p + 24, m->last_index);
    *data = p;
    *len = 32;
    return 0;
}

static inline int machine_restore(void *arg, const void *data, uint32_t len, bool local)
{
    struct machine *m = arg;
    if (len != 32) {
        return 1;
    }
    m->first = get_u64(data);
    m->next = get_u64((const uint8_t *)data + 8);
    m->sum = get_u64((const uint8_t *)data + 16);
    m->last_index = get_u64((const uint8_t *)data + 24);
    m->restores++;
    m->installs += !local;
    if (!local) {
        uint64_t a, b;
        CHECK(batch_log_first(m->batches) == m->first && batch_log_next(m->batches) == m->next);
        if (batch_log_hole(m->batches, m->first, m->next, &a, &b)) {
            violation(m->node->w, "a hole after an install", m->group, m->last_index);
        }
    }
    return 0;
}

static inline int machine_range(void *arg, const void *data, uint32_t len, uint64_t *first, uint64_t *next)
{
    (void)arg;
    if (len != 32) {
        return 1;
    }
    *first = get_u64(data);
    *next = get_u64((const uint8_t *)data + 8);
    return 0;
}

static inline void machine_role(void *arg)
{
    struct machine *m = arg;
    m->roles++;
    if (m->node->w->verbose) {
        printf("%6llu ms node %u group %llu: role %d term %llu leader %llx ready %d\n", (unsigned long long)now_ms(m->node->w), m->node->at,
               (unsigned long long)m->group, group_role(m->g), (unsigned long long)group_term(m->g), (unsigned long long)group_leader(m->g),
               group_ready(m->g));
    }
}

static inline void machine_seeded(void *arg, const struct locator *l) { (void)l; ((struct machine *)arg)->seeded++; }

/* ---- the node's server: takes connections, answers hellos, hands frames on ---- */

struct server_conn {
    struct env_conn conn;
    struct node *node;
    struct frame_reader reader;
    uint32_t from;
    uint64_t incarnation;
    struct env_write write;
    struct iovec iov;
};

static inline size_t server_buffer(struct env_conn *c, void **base) { return frame_reader_buffer(&container_of(c, struct server_conn, conn)->reader, base); }

static inline void server_written(struct env_write *w) { free(((struct iovec *)w->iov)->iov_base); }

static inline void server_end(struct server_conn *c)
{
    if (c->from != 0) {
        uint32_t from = c->from;
        c->from = 0;
        if (!c->node->closed) {
            links_incoming(groups_links(c->node->gs), from, c->incarnation, false);
        }
    }
    env_conn_close(&c->conn);
}

static inline void server_read(struct env_conn *ec, void *data, ssize_t n)
{
    (void)data;
    struct server_conn *c = container_of(ec, struct server_conn, conn);
    if (n <= 0 || c->node->closed) {
        server_end(c);
        return;
    }
    frame_reader_fed(&c->reader, (size_t)n);
    struct frame f;
    int rv;
    while ((rv = frame_reader_next(&c->reader, &f)) > 0) {
        if (f.kind == FRAME_HELLO) {
            Sluice__Hello *h = sluice__hello__unpack(NULL, f.message_len, f.message);
            CHECK(h != NULL && h->to_node == c->node->at + 1);
            c->from = h->node_id;
            c->incarnation = h->incarnation;
            sluice__hello__free_unpacked(h, NULL);
            Sluice__HelloReply r = SLUICE__HELLO_REPLY__INIT;
            uint8_t cluster[16] = {1};
            r.version = 1;
            r.node_id = c->node->at + 1;
            r.cluster_id.data = cluster;
            r.cluster_id.len = 16;
            size_t len;
            c->iov.iov_base = frame_encode(FRAME_HELLO_REPLY, f.correlation, &r, 0, &len);
            c->iov.iov_len = len;
            c->write.iov = &c->iov;
            c->write.n_iov = 1;
            env_conn_write(&c->conn, &c->write, server_written);
            links_incoming(groups_links(c->node->gs), c->from, c->incarnation, true);
        } else if (f.kind == FRAME_LINK && c->from != 0) {
            size_t len = f.payload_len;
            struct links_origin from = {.node = c->from, .incarnation = c->incarnation, .position = f.correlation};
            if (links_receive(groups_links(c->node->gs), &from, frame_take_payload(&c->reader, &f), len) != 0) {
                server_end(c);
                return;
            }
        } else {
            CHECK(!"a frame that nobody sends");
        }
    }
    if (rv < 0) {
        server_end(c);
    }
}

static inline void server_closed(struct env_conn *ec)
{
    struct server_conn *c = container_of(ec, struct server_conn, conn);
    frame_reader_deinit(&c->reader);
    free(c);
}

static const struct env_conn_ops server_ops = {.buffer = server_buffer, .read = server_read, .closed = server_closed};

static inline void server_accept(struct env_listener *l)
{
    struct node *n = container_of(l, struct node, listener);
    struct server_conn *c = xcalloc(1, sizeof *c);
    c->node = n;
    c->conn.ops = &server_ops;
    frame_reader_init(&c->reader, 64 << 10, FRAME_PAYLOAD_MAX);
    if (env_accept(l, &c->conn) != 0) {
        frame_reader_deinit(&c->reader);
        free(c);
        return;
    }
    env_conn_read(&c->conn, true);
}

/* ---- nodes ---- */

static inline struct machine *machine_open(struct node *n, uint64_t group, uint64_t raft_id, const struct group_member *members, unsigned n_members,
                                           const struct recovered_group *rec)
{
    struct world *w = n->w;
    struct machine *m = xcalloc(1, sizeof *m);
    m->node = n;
    m->group = group;
    m->batches = batch_log_open(n->journal, group);
    n->machines[group] = m;
    struct group_options o = {.group = group, .raft_id = raft_id, .members = members, .n_members = n_members, .recovered = rec, .batches = m->batches,
                              .prefer_leader = members != NULL && !w->no_prefer && group % n_members == n->at,
                              .sink = {.arg = m, .apply = machine_apply, .snapshot = machine_snapshot, .restore = machine_restore, .range = machine_range,
                                       .role = machine_role, .seeded = machine_seeded}};
    int rv = group_open(n->gs, &o, &m->g);
    if (rv != 0) {
        fprintf(stderr, "group_open: %d\n", rv);
    }
    CHECK(rv == 0);
    return m;
}

static inline void node_refused(void *arg, uint32_t node, int code, const char *message)
{
    (void)arg;
    (void)node;
    (void)code;
    (void)message;
}

static inline void node_main(struct env *env, void *arg)
{
    struct node *n = arg;
    struct world *w = n->w;
    n->env = env;
    n->closed = false;
    memset(n->machines, 0, sizeof n->machines);
    struct journal_options jo = {.env = env, .dir = "/data/j", .cluster_id = {1}, .node_id = n->at + 1, .incarnation = n->incarnation, .cache_bytes = 1 << 20,
                                 .segment_first = 1 << 20, .segment_max = 4 << 20, .pool_max = 4 << 20, .flush_max = 4 << 20};
    char err[256] = "";
    env_mkdir(env, "/data");
    env_dir_sync(env, "/");
    int rv = journal_open(&n->journal, &jo, &n->rec, err);
    if (rv != 0) {
        fprintf(stderr, "journal_open: %d %s\n", rv, err);
    }
    CHECK(rv == 0);
    struct groups_options go = {.env = env, .journal = n->journal, .cluster_id = {1}, .node_id = n->at + 1, .lanes = 1, .incarnation = n->incarnation,
                                .test_disable = w->disable, .in_flight_bytes = w->in_flight, .snapshot_bytes = w->snapshot_bytes,
                                .trailing_bytes = w->trailing_bytes, .heartbeat_ms = w->heartbeat_ms, .election_ms = w->election_ms,
                                .memory_max = w->memory_max, .refused = node_refused};
    CHECK(groups_open(&n->gs, &go) == 0);
    for (uint64_t g = 1; g <= w->n_groups; g++) {
        const struct recovered_group *rec = NULL;
        for (size_t i = 0; i < n->rec->n_groups; i++) {
            if (n->rec->groups[i].group == g) {
                rec = &n->rec->groups[i];
            }
        }
        if (rec != NULL && rec->removed) {
            groups_set_removed(n->gs, g);
        } else if (rec != NULL) {
            machine_open(n, g, 0, NULL, 0, rec);
        } else if (n->at < w->n_members) {
            struct group_member members[NODES_MAX];
            for (unsigned i = 0; i < w->n_members; i++) {
                members[i] = (struct group_member){raft_id_make(i + 1, 1), true};
            }
            machine_open(n, g, raft_id_make(n->at + 1, 1), members, w->n_members, NULL);
        }
    }
    journal_recovered_free(n->rec);
    n->rec = NULL;
    CHECK(env_listen(env, &n->listener, n->name, FIX_PORT, false, server_accept) == 0);
    for (unsigned i = 0; i < w->n_nodes; i++) {
        if (i != n->at) {
            links_set_peer(groups_links(n->gs), i + 1, w->nodes[i].name, FIX_PORT);
        }
    }
}

static inline void node_start(struct world *w, unsigned i)
{
    struct node *n = &w->nodes[i];
    n->incarnation++;
    CHECK(sim_process_start(n->host, node_main, n) == 0);
}

static inline bool node_up(const struct world *w, unsigned i) { return sim_process_up(w->nodes[i].host); }

static inline void node_crash(struct world *w, unsigned i, enum sim_crash how)
{
    sim_process_crash(w->nodes[i].host, how);
}

static inline void world_log(void *arg, struct sim_host *host, const char *line, size_t n)
{
    struct world *w = arg;
    if (w->verbose) {
        printf("%6llu ms %s: %.*s\n", (unsigned long long)now_ms(w), sim_host_name(host), (int)n, line);
    }
}

static inline void world_exited(void *arg, struct sim_host *host, int code, const char *why)
{
    struct world *w = arg;
    w->exits++;
    if (!w->quiet_violations) {
        fprintf(stderr, "%s exited with %d: %s\n", sim_host_name(host), code, why);
        CHECK(!"a node ended");
    }
}

static inline struct world *world_new(uint64_t seed, unsigned n_nodes, unsigned n_groups)
{
    struct world *w = xcalloc(1, sizeof *w);
    struct sim_options o = {.seed = seed, .net = {.delay_ns = {100000, 1 * MS}}, .log = world_log, .exited = world_exited, .arg = w,
                            .disk = {.sync_ns = {200000, 2 * MS}, .write_ns = {10000, 100000}, .read_ns = {50000, 200000}}};
    w->sim = sim_open(&o);
    w->n_nodes = w->n_members = n_nodes;
    w->n_groups = n_groups;
    w->verbose = getenv("VERBOSE") != NULL;
    for (unsigned i = 0; i < NODES_MAX; i++) {
        struct node *n = &w->nodes[i];
        n->w = w;
        n->at = i;
        snprintf(n->name, sizeof n->name, "n%u", i + 1);
        n->host = sim_host_add(w->sim, n->name);
    }
    for (unsigned g = 0; g < GROUPS_MAX; g++) {
        w->seen[g] = g <= n_groups ? xcalloc(INDEX_MAX, sizeof *w->seen[g]) : NULL;
    }
    return w;
}

static inline void world_start(struct world *w)
{
    for (unsigned i = 0; i < w->n_nodes; i++) {
        node_start(w, i);
    }
}

/* The node that leads the group and takes proposals, of the newest term; -1: none. */
static inline int world_leader(struct world *w, uint64_t group)
{
    int best = -1;
    uint64_t term = 0;
    for (unsigned i = 0; i < w->n_nodes; i++) {
        struct machine *m = node_up(w, i) && !w->nodes[i].closed ? w->nodes[i].machines[group] : NULL;
        if (m != NULL && m->g != NULL && group_ready(m->g) && group_term(m->g) > term) {
            best = (int)i;
            term = group_term(m->g);
        }
    }
    return best;
}

static inline struct machine *machine_of(struct world *w, unsigned node, uint64_t group) { return w->nodes[node].machines[group]; }

/* Runs until every group has a ready leader; ms that took, or -1. */
static inline int64_t world_await_leaders(struct world *w, uint64_t limit_ms)
{
    uint64_t start = now_ms(w);
    for (;;) {
        bool all = true;
        for (uint64_t g = 1; g <= w->n_groups; g++) {
            all &= world_leader(w, g) >= 0;
        }
        if (all) {
            return (int64_t)(now_ms(w) - start);
        }
        if (now_ms(w) - start >= limit_ms) {
            return -1;
        }
        run_ms(w, 1);
    }
}

struct put {
    struct group_propose propose;
    struct world *w;
    uint64_t group;
    uint32_t crc;
    int *status;
};

static inline void put_done(struct group_propose *p, int status)
{
    struct put *put = container_of(p, struct put, propose);
    struct world *w = put->w;
    if (status == 0) {
        w->done++;
        uint64_t g = put->group;
        if (w->n_acked[g] == w->cap_acked[g]) {
            w->cap_acked[g] = w->cap_acked[g] == 0 ? 256 : 2 * w->cap_acked[g];
            w->acked[g] = xrealloc(w->acked[g], w->cap_acked[g] * sizeof *w->acked[g]);
        }
        w->acked[g][w->n_acked[g]].index = p->index;
        w->acked[g][w->n_acked[g]++].crc = put->crc;
        if (p->index < INDEX_MAX && w->seen[g][p->index].crc != put->crc) {
            violation(w, "acknowledged but other bytes were applied", g, p->index);
        }
    } else {
        CHECK(status == SLUICE_E_UNKNOWN_OUTCOME);
        w->unknown++;
    }
    if (put->status != NULL) {
        *put->status = status;
    }
    free(put);
}

/* Proposes a batch of `count` records with about `bytes` bytes on this node. status (optional): -1 until it is over. */
static inline int node_put(struct world *w, unsigned node, uint64_t group, uint32_t count, uint32_t bytes, int *status)
{
    struct machine *m = machine_of(w, node, group);
    if (m == NULL || m->g == NULL || !group_ready(m->g)) {
        return SLUICE_E_NOT_LEADER;
    }
    if (m->told_term != group_term(m->g)) {
        m->told_term = group_term(m->g);
        m->in_flight_next = m->next;
    }
    bytes = bytes < 100 ? 100 : bytes; /* room for the records that the header speaks of */
    uint32_t len = BATCH_HEADER_SIZE + bytes;
    uint8_t *data = group_buffer_alloc(len);
    for (uint32_t i = 0; i < bytes; i++) {
        data[BATCH_HEADER_SIZE + i] = (uint8_t)(i ^ (sim_random(w->sim) & (i == 0 ? 0xff : 0)));
    }
    struct batch_header h = {.version = BATCH_VERSION, .kind = ENTRY_BATCH, .total_len = len, .record_count = count, .raw_len = bytes,
                             .body_crc = crc32c(0, data + BATCH_HEADER_SIZE, bytes), .producer_sequence = sim_random(w->sim)};
    batch_header_encode(&h, data);
    batch_stamp(data, m->in_flight_next, 1000 + now_ms(w), group_next_index(m->g), 0);
    struct put *put = xcalloc(1, sizeof *put);
    put->w = w;
    put->group = group;
    put->crc = crc32c(0, data, len);
    put->status = status;
    if (status != NULL) {
        *status = -1;
    }
    int rv = group_propose(m->g, &put->propose, data, len, m->in_flight_next, count, 1000 + now_ms(w), put_done);
    if (rv != 0) {
        group_buffer_free(data);
        free(put);
        w->refused++;
        return rv;
    }
    m->in_flight_next += count;
    return 0;
}

static inline int world_put(struct world *w, uint64_t group, uint32_t bytes)
{
    int l = world_leader(w, group);
    return l < 0 ? SLUICE_E_NOT_LEADER : node_put(w, (unsigned)l, group, 1 + (uint32_t)(sim_random(w->sim) % 3), bytes, NULL);
}

static inline void group_dump(const struct group *g)
{
    const struct raft *r = &g->raft;
    fprintf(stderr, "group %llu of %llx: state %u term %llu commit %llu applied %llu stored %llu snapshot %llu offset %llu last %llu put %d verified %llu/%llu\n",
            (unsigned long long)g->id, (unsigned long long)g->raft_id, r->state, r->current_term, r->commit_index, r->last_applied, r->last_stored,
            r->log.snapshot.last_index, r->log.offset, (unsigned long long)group_log_last(&g->log), r->snapshot.put.data != NULL,
            (unsigned long long)g->verified, (unsigned long long)g->verified_term);
    for (unsigned i = 0; r->state == RAFT_LEADER && i < r->configuration.n; i++) {
        const struct raft_progress *p = &r->leader_state.progress[i];
        fprintf(stderr, "  %llx: state %u next %llu match %llu snapshot %llu recent %d", r->configuration.servers[i].id, p->state, p->next_index, p->match_index,
                p->snapshot_index, p->recent_recv);
        for (unsigned k = 0; k < g->n_peers; k++) {
            const struct peer *q = &g->peers[k];
            if (q->id == r->configuration.servers[i].id) {
                fprintf(stderr, " | ack %llu sent %llu..%llu heard %llu ms", (unsigned long long)q->ack, (unsigned long long)q->sent_from,
                        (unsigned long long)q->sent_end, (unsigned long long)(group_now(g) - q->heard_ms));
            }
        }
        fprintf(stderr, "\n");
    }
}

/* Every acknowledged proposal must be what all nodes of the group hold; all nodes must have caught up with each other. */
static inline void world_check(struct world *w, bool converged)
{
    for (uint64_t g = 1; g <= w->n_groups; g++) {
        uint64_t last = 0, sum = 0, next = 0;
        int l = world_leader(w, g);
        if (converged) {
            CHECK(l >= 0);
            last = machine_of(w, (unsigned)l, g)->last_index;
            sum = machine_of(w, (unsigned)l, g)->sum;
            next = machine_of(w, (unsigned)l, g)->next;
        }
        for (unsigned i = 0; i < w->n_acked[g]; i++) {
            const struct seen *s = &w->seen[g][w->acked[g][i].index];
            if (s->crc != w->acked[g][i].crc) {
                violation(w, "an acknowledged proposal is lost", g, w->acked[g][i].index);
            }
            if (converged && w->acked[g][i].index > last) {
                violation(w, "an acknowledged proposal is not on the leader", g, w->acked[g][i].index);
            }
        }
        for (unsigned i = 0; converged && i < w->n_nodes; i++) {
            struct machine *m = node_up(w, i) && !w->nodes[i].closed ? w->nodes[i].machines[g] : NULL;
            const struct raft_server *s = m == NULL || m->g == NULL ? NULL : group_server(machine_of(w, (unsigned)l, g)->g, group_raft_id(m->g), NULL);
            if (s == NULL || s->role == RAFT_SPARE) {
                continue; /* not a replica (any more), or one that gets nothing yet */
            }
            if (m->last_index != last || m->sum != sum || m->next != next) {
                fprintf(stderr, "node %u group %llu: last %llu of %llu, next %llu of %llu\n", i, (unsigned long long)g, (unsigned long long)m->last_index,
                        (unsigned long long)last, (unsigned long long)m->next, (unsigned long long)next);
                group_dump(machine_of(w, (unsigned)l, g)->g);
                group_dump(m->g);
                violation(w, "a node did not catch up", g, m->last_index);
            }
            uint64_t a, b;
            if (batch_log_hole(m->batches, m->first, m->next, &a, &b)) {
                violation(w, "a hole", g, a);
            }
        }
    }
}

/* Runs a story in a child; its exit status must be 0. */
static inline void run_story(void (*story)(void))
{
    fflush(stdout);
    fflush(stderr);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        alarm(300);
        story();
        fflush(stdout);
        _exit(0);
    }
    int status = 0;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    if (!WIFEXITED(status) || WEXITSTATUS(status) != 0) {
        fail_msg("the story ended with status %x", status);
    }
}

#define STORY(name) \
    static void name##_story(void); \
    static void name(void **state) { (void)state; run_story(name##_story); } \
    static void name##_story(void)

#endif
