/* storage_fixture.h: one simulated host with one journal, and a model of what was appended and acknowledged.
 *
 * Each story runs in a child process of its own (run_story): the memory of crashed processes is never freed. CHECK ends the child, which the
 * parent sees. */
#ifndef STORAGE_FIXTURE_H
#define STORAGE_FIXTURE_H

#include <errno.h>
#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "proto/base.h"
#include "proto/crc32c.h"
#include "storage/env_sim.h"
#include "storage/journal.h"
#include "storage/journal_format.h"

#define CHECK(cond) \
    do { \
        if (!(cond)) { \
            fprintf(stderr, "%s:%d: not true: %s\n", __FILE__, __LINE__, #cond); \
            fflush(stderr); \
            _exit(1); \
        } \
    } while (0)

#define DIR_NAME "/data/j"

enum { GROUPS_MAX = 8, ENTRIES_MAX = 4096 };

struct world;

/* What the caller of the journal believes of a group. */
struct model_entry {
    uint64_t term;
    uint32_t len, seed;
    uint64_t a;
    bool acked;
    struct place place;
};
struct model_group {
    uint64_t last;                      /* index */
    struct model_entry e[ENTRIES_MAX];  /* by index */
    uint64_t term, vote, term_acked;
    uint64_t trim_put, trim_acked;
    uint64_t needed_entry, needed_offset;
    uint64_t offset;
    uint64_t damaged_ok;
};

struct world {
    struct sim *sim;
    struct sim_host *host;
    struct env *env;
    struct journal *j;
    struct recovered *rec;
    struct journal_options o;
    int open_error;
    char err[256];
    uint64_t incarnation;
    int exit_code;
    unsigned io_errors;
    struct model_group g[GROUPS_MAX];
    uint64_t last_ack_jseq;
    uint64_t acks, life;
    uint64_t moves;
};

struct op {
    struct journal_append a;
    struct world *w;
    uint64_t group, index, life;
    int what;
    struct iovec parts[3];
    uint8_t bytes[];
};

static inline void fill(uint8_t *p, size_t n, uint32_t seed)
{
    uint64_t x = seed * 0x9e3779b97f4a7c15ull + 1;
    for (size_t i = 0; i < n; i++) {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        p[i] = (uint8_t)x;
    }
}

static inline void needs(void *arg, uint64_t group, struct journal_needs *n)
{
    struct world *w = arg;
    CHECK(group < GROUPS_MAX);
    n->entry_needed = w->g[group].needed_entry;
    n->offset_needed = w->g[group].needed_offset;
}

static inline void moved(void *arg, const struct journal_record *r, const struct place *from, const struct place *to)
{
    struct world *w = arg;
    w->moves++;
    CHECK(from->segment != to->segment);
    if (r->kind == JOURNAL_ENTRY && r->index <= w->g[r->group].last) {
        struct model_entry *e = &w->g[r->group].e[r->index];
        if (e->place.segment == from->segment && e->place.pos == from->pos) {
            e->place = *to;
        }
    }
}

static inline void noted_io_error(void *arg)
{
    ((struct world *)arg)->io_errors++;
}

static inline void world_exited(void *arg, struct sim_host *host, int code, const char *why)
{
    (void)host;
    (void)why;
    ((struct world *)arg)->exit_code = code;
}

static inline void world_main(struct env *env, void *arg)
{
    struct world *w = arg;
    w->env = env;
    w->o.env = env;
    w->o.incarnation = ++w->incarnation;
    w->last_ack_jseq = 0;
    w->life++;
    w->j = NULL;
    w->rec = NULL;
    CHECK(env_mkdir(env, "/data") == 0);
    CHECK(env_dir_sync(env, "/") == 0);
    w->open_error = journal_open(&w->j, &w->o, &w->rec, w->err);
    if (w->open_error == 0) {
        journal_set_owner(w->j, w, needs, moved, NULL);
    }
}

static inline void world_start(struct world *w)
{
    w->exit_code = 0;
    CHECK(sim_process_start(w->host, world_main, w) == 0);
}

static inline struct world *world_new(uint64_t seed)
{
    struct world *w = xcalloc(1, sizeof *w);
    struct sim_options o = {.seed = seed, .exited = world_exited, .arg = w};
    o.disk.sync_ns = (struct sim_range){200000, 900000};
    o.disk.write_ns = (struct sim_range){20000, 90000};
    o.disk.read_ns = (struct sim_range){20000, 90000};
    w->sim = sim_open(&o);
    w->host = sim_host_add(w->sim, "n1");
    w->o = (struct journal_options){.dir = DIR_NAME, .cluster_id = {1, 2, 3}, .node_id = 1, .segment_first = 64 << 10, .segment_max = 64 << 10,
                                    .flush_max = 32 << 10, .cache_bytes = 64 << 10, .io_error = noted_io_error, .io_error_arg = w};
    for (unsigned i = 0; i < GROUPS_MAX; i++) {
        w->g[i].needed_entry = 1;
    }
    return w;
}

static inline void world_run_ms(struct world *w, uint64_t ms)
{
    sim_run_until(w->sim, sim_now_ns(w->sim) + ms * 1000000u);
}

static inline void op_done(struct journal_append *a)
{
    struct op *op = container_of(a, struct op, a);
    struct world *w = op->w;
    CHECK(op->life == w->life);
    CHECK(a->jseq > w->last_ack_jseq); /* in order */
    w->last_ack_jseq = a->jseq;
    CHECK(journal_durable(w->j) >= a->end);
    CHECK(a->record.kind == JOURNAL_NOTE || journal_acknowledged(w->j) >= a->end); /* what is told with an acknowledgement covers it */
    w->acks++;
    struct model_group *g = &w->g[op->group];
    switch (a->record.kind) {
    case JOURNAL_ENTRY:
        if (op->index <= g->last && g->e[op->index].place.pos == a->place.pos && g->e[op->index].place.segment == a->place.segment) {
            g->e[op->index].acked = true;
        }
        break;
    case JOURNAL_TERM:
        g->term_acked = a->record.a;
        break;
    case JOURNAL_TRIM:
        g->trim_acked = a->record.a;
        g->needed_offset = a->record.a;
        break;
    case JOURNAL_SNAPSHOT:
        g->needed_entry = a->record.index + 1;
        break;
    default:
        break;
    }
    free(op);
}

static inline struct op *op_new(struct world *w, enum journal_kind kind, uint64_t group, size_t len)
{
    struct op *op = xcalloc(1, sizeof *op + len);
    op->w = w;
    op->group = group;
    op->life = w->life;
    op->a.record.kind = kind;
    op->a.record.group = group;
    op->a.record.data = op->bytes;
    op->a.record.len = (uint32_t)len;
    op->a.done = op_done;
    return op;
}

static inline void put_entry(struct world *w, uint64_t group, uint64_t term, uint32_t len, uint32_t count)
{
    struct model_group *g = &w->g[group];
    struct op *op = op_new(w, JOURNAL_ENTRY, group, len);
    uint64_t index = ++g->last;
    CHECK(index < ENTRIES_MAX);
    op->index = index;
    uint32_t seed = (uint32_t)(group * 1000003 + index * 31 + term * 7 + len);
    fill(op->bytes, len, seed);
    op->a.record.index = index;
    op->a.record.term = term;
    op->a.record.type = 1;
    op->a.record.a = g->offset;
    op->a.record.b = count;
    op->a.record.c = index * 10;
    if (len > 64 && index % 3 == 0) {
        op->parts[0] = (struct iovec){op->bytes, 17};
        op->parts[1] = (struct iovec){op->bytes + 17, len - 17};
        op->a.parts = op->parts;
        op->a.n_parts = 2;
        op->a.record.data = NULL;
    }
    journal_append(w->j, &op->a);
    g->e[index] = (struct model_entry){.term = term, .len = len, .seed = seed, .a = g->offset, .place = op->a.place};
    g->offset += count;
}

static inline void put_truncate_at(struct world *w, uint64_t group, uint64_t index)
{
    struct model_group *g = &w->g[group];
    struct op *op = op_new(w, JOURNAL_TRUNCATE, group, 0);
    op->a.record.index = index;
    journal_append(w->j, &op->a);
    if (index <= g->last) {
        g->offset = g->e[index].a;
        g->last = index - 1;
    }
}

static inline void put_term(struct world *w, uint64_t group, uint64_t term, uint64_t vote)
{
    struct op *op = op_new(w, JOURNAL_TERM, group, 0);
    op->a.record.a = term;
    op->a.record.b = vote;
    w->g[group].term = term;
    w->g[group].vote = vote;
    journal_append(w->j, &op->a);
}

static inline void put_trim(struct world *w, uint64_t group, uint64_t offset)
{
    struct op *op = op_new(w, JOURNAL_TRIM, group, 0);
    w->g[group].trim_put = max_u64(w->g[group].trim_put, offset); /* trim points never go back */
    op->a.record.a = w->g[group].trim_put;
    journal_append(w->j, &op->a);
}

static inline void put_snapshot(struct world *w, uint64_t group, uint64_t index, uint64_t term)
{
    struct op *op = op_new(w, JOURNAL_SNAPSHOT, group, 40);
    fill(op->bytes, 40, (uint32_t)index);
    op->a.record.index = index;
    op->a.record.term = term;
    journal_append(w->j, &op->a);
}

static inline void put_group(struct world *w, uint64_t group, uint64_t raft_id)
{
    struct op *op = op_new(w, JOURNAL_GROUP, group, 24);
    fill(op->bytes, 24, (uint32_t)raft_id);
    op->a.record.a = raft_id;
    journal_append(w->j, &op->a);
}

static inline const struct recovered_group *rec_group(const struct world *w, uint64_t group)
{
    for (size_t i = 0; i < w->rec->n_groups; i++) {
        if (w->rec->groups[i].group == group) {
            return &w->rec->groups[i];
        }
    }
    return NULL;
}

static inline const struct recovered_entry *rec_entry(const struct recovered_group *g, uint64_t index)
{
    for (size_t i = 0; g != NULL && i < g->n_entries; i++) {
        if (g->entries[i].index == index) {
            return &g->entries[i];
        }
    }
    return NULL;
}

/* Everything acknowledged is there with its bytes; what was not is there in order or not at all. The model is then set to what was found. */
static inline void check_recovered(struct world *w)
{
    CHECK(w->open_error == 0);
    for (uint64_t id = 1; id < GROUPS_MAX; id++) {
        struct model_group *m = &w->g[id];
        const struct recovered_group *g = rec_group(w, id);
        CHECK(g == NULL || !g->lost);
        CHECK(m->term_acked <= (g != NULL ? g->term : 0));
        CHECK(m->trim_acked <= (g != NULL ? g->trim : 0));
        uint64_t last = g != NULL && g->n_entries > 0 ? g->entries[g->n_entries - 1].index : 0;
        for (uint64_t i = 1; i <= m->last; i++) {
            const struct model_entry *e = &m->e[i];
            const struct recovered_entry *r = rec_entry(g, i);
            bool dead = i < m->needed_entry && e->a + 1 <= m->needed_offset;
            if (r == NULL) {
                if (!dead && e->acked) {
                    fprintf(stderr, "group %" PRIu64 " index %" PRIu64 " lost: term %" PRIu64 " segment %" PRIu64 " pos %u; needed %" PRIu64 " offset %" PRIu64 " of %" PRIu64 "; last %" PRIu64 " recovered last %" PRIu64 " %s\n", id, i, e->term,
                            e->place.segment, e->place.pos, m->needed_entry, m->needed_offset, e->a, m->last, last, w->rec->message);
                }
                CHECK(dead || !e->acked);
                continue;
            }
            if (r->term != e->term || r->a != e->a) {
                CHECK(!e->acked); /* an overwrite that did not make it */
                continue;
            }
            CHECK(!r->damaged);
            CHECK(r->place.len == e->len);
            void *bytes = NULL;
            CHECK(journal_read_blocking(w->j, &r->place, &bytes) == 0);
            uint8_t *want = xmalloc(e->len + 1);
            fill(want, e->len, e->seed);
            CHECK(memcmp(bytes, want, e->len) == 0);
            free(bytes);
            free(want);
        }
        for (size_t i = 1; g != NULL && i < g->n_entries; i++) {
            CHECK(g->entries[i].index > g->entries[i - 1].index);
            CHECK(g->entries[i].index == g->entries[i - 1].index + 1 || g->entries[i].index <= m->needed_entry);
        }
    }
}

/* After check_recovered(): the caller goes on from what is really there. */
static inline void adopt(struct world *w)
{
    for (uint64_t id = 1; id < GROUPS_MAX; id++) {
        struct model_group *m = &w->g[id];
        const struct recovered_group *g = rec_group(w, id);
        uint64_t old_last = m->last;
        m->last = g != NULL && g->n_entries > 0 ? g->entries[g->n_entries - 1].index : g != NULL ? g->snapshot_index : 0;
        CHECK(m->last <= old_last || g->n_entries > 0);
        if (g == NULL) {
            m->offset = 0;
            m->term = m->term_acked = 0;
            continue;
        }
        for (size_t i = 0; i < g->n_entries; i++) {
            const struct recovered_entry *r = &g->entries[i];
            struct model_entry *e = &m->e[r->index];
            e->place = r->place;
            e->acked = true; /* recovery synced it */
            m->offset = r->a + r->b;
            if (e->term != r->term || e->a != r->a) { /* the older one is back */
                e->term = r->term;
                e->a = r->a;
                e->len = r->place.len;
                e->seed = (uint32_t)(id * 1000003 + r->index * 31 + r->term * 7 + r->place.len);
            }
        }
        m->term = m->term_acked = g->term;
        m->vote = g->vote;
        m->trim_put = m->trim_acked = g->trim;
        m->needed_offset = g->trim;
        m->needed_entry = g->snapshot_index + 1;
    }
}

static inline void world_crash(struct world *w, enum sim_crash how)
{
    if (sim_process_up(w->host)) {
        sim_process_crash(w->host, how);
    }
}

/* The disk refuses what is written next: the process ends, nothing of it is acknowledged, and the next life opens knowing of the error. */
static inline void fail_a_write(struct world *w)
{
    uint64_t acks = w->acks;
    struct sim_disk bad = {.sync_ns = {100000, 100000}, .write_error_ppm = 1000000};
    sim_host_set_disk(w->host, &bad);
    put_entry(w, 1, 1, 2000, 1);
    put_entry(w, 1, 1, 30000, 1);
    world_run_ms(w, 50);
    CHECK(w->exit_code == ENV_EXIT_DISK && w->io_errors == 1 && w->acks == acks && !sim_process_up(w->host));
    struct sim_disk good = {.sync_ns = {100000, 100000}};
    sim_host_set_disk(w->host, &good);
    w->o.after_io_error = true; /* the node's note of the error stays until a journal was opened */
}

/* A process that opens nothing, so that a power cut can follow a kill. */
static inline void idle_main(struct env *env, void *arg)
{
    (void)env;
    (void)arg;
}

/* ---- surgery: durable bytes of a segment ---- */

static inline void segment_name(char *buf, size_t n, uint64_t number)
{
    snprintf(buf, n, DIR_NAME "/seg-%016" PRIx64, number);
}

static inline struct jf_segment_header segment_header(struct world *w, uint64_t number)
{
    char path[128];
    segment_name(path, sizeof path, number);
    uint8_t buf[JF_SEGMENT_HEADER_SIZE];
    struct jf_segment_header h;
    CHECK(sim_disk_read(w->host, path, buf, sizeof buf, 0) == sizeof buf);
    CHECK(jf_segment_header_decode(buf, sizeof buf, &h));
    return h;
}

/* Headers of the blocks of a segment, in order; returns how many. */
static inline size_t segment_blocks(struct world *w, uint64_t number, struct jf_block_header *out, uint32_t *pos, size_t max)
{
    char path[128];
    segment_name(path, sizeof path, number);
    struct jf_segment_header h = segment_header(w, number);
    uint32_t at = JF_DATA;
    size_t n = 0;
    uint8_t buf[JF_BLOCK_HEADER_SIZE];
    while (n < max && sim_disk_read(w->host, path, buf, sizeof buf, at) == sizeof buf &&
           jf_block_header_decode(buf, sizeof buf, h.salt, false, &out[n])) {
        pos[n] = at;
        at += out[n++].length;
    }
    return n;
}

static inline void segment_zero(struct world *w, uint64_t number, uint64_t pos, uint64_t len)
{
    char path[128];
    segment_name(path, sizeof path, number);
    CHECK(sim_disk_zero(w->host, path, pos, len) == 0);
}

/* True if the story came to its end. */
static inline bool story_holds(void (*story)(uint64_t), uint64_t seed)
{
    fflush(NULL);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        if (freopen("/dev/null", "w", stderr) == NULL) {
            _exit(2);
        }
        story(seed);
        _exit(0);
    }
    int status = 0;
    assert_true(waitpid(pid, &status, 0) == pid);
    return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

static inline void run_story(void (*story)(uint64_t), uint64_t seed)
{
    fflush(NULL);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        story(seed);
        _exit(0);
    }
    int status = 0;
    assert_true(waitpid(pid, &status, 0) == pid);
    if (!(WIFEXITED(status) && WEXITSTATUS(status) == 0)) {
        fail_msg("the story failed with seed %" PRIu64, seed);
    }
}

#endif
