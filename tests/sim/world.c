/* world.c: plays one seed from formation to verdict. */
#include "tests/sim/world.h"

#include "proto/base.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#define MS 1000000ull
#define SECOND 1000000000ull

void world_fail(struct world *w, unsigned kind, const char *format, ...)
{
    w->result->anomalies++;
    if (kind < 32) {
        w->result->by_kind[kind]++;
    }
    if (w->result->message[0] == '\0') {
        va_list args;
        va_start(args, format);
        vsnprintf(w->result->message, sizeof w->result->message, format, args);
        va_end(args);
    }
}

static void node_main(struct env *env, void *arg)
{
    struct world_node *n = arg;
    char err[256] = "";
    int rc = node_start(env, &n->settings, &n->node, err);
    if ((n->expect_exit && (rc == -ENOSPC || rc == -EIO)) || (n->damaged && (rc == ENV_EXIT_DAMAGE || rc == -EIO))) {
        env_fatal(env, rc == ENV_EXIT_DAMAGE ? ENV_EXIT_DAMAGE : ENV_EXIT_DISK, err); /* as main() would; tried again later */
    } else if (rc != 0) {
        world_fail(n->world, 22, "node %u did not start: %s (%d)", n->number, err, rc);
    }
}

void world_start_node(struct world *w, struct world_node *n)
{
    n->restart_at = 0;
    n->paused = false;
    n->node = NULL;
    n->up = true;
    if (sim_process_start(n->host, node_main, n) != 0) {
        world_fail(w, 22, "node %u could not be started", n->number);
    }
}

void world_crash_node(struct world *w, struct world_node *n, enum sim_crash how)
{
    w->result->crashes++;
    n->up = false;
    n->node = NULL;
    sim_process_crash(n->host, how);
}

static void on_exit_of(void *arg, struct sim_host *host, int code, const char *why)
{
    struct world *w = arg;
    for (unsigned i = 0; i < w->n_nodes; i++) {
        struct world_node *n = &w->nodes[i];
        if (n->host != host) {
            continue;
        }
        n->up = false;
        n->node = NULL;
        bool planned = code == 0 || (code == ENV_EXIT_DISK && n->expect_exit) || (code == ENV_EXIT_DAMAGE && n->damaged);
        if (!planned) {
            world_fail(w, 22, "node %u ended with code %d: %s", n->number, code, why != NULL ? why : "");
        }
        if (n->restart_at == 0) {
            n->restart_at = sim_now_ns(w->sim) + 500 * MS;
        }
    }
}

static void on_log(void *arg, struct sim_host *host, const char *line, size_t n)
{
    struct world *w = arg;
    fprintf(stderr, "%10.3f %s %.*s\n", (double)sim_now_ns(w->sim) / 1e9, sim_host_name(host), (int)n, line);
}

static void make_settings(struct world *w, struct world_node *n)
{
    struct settings *s = &n->settings;
    settings_defaults(s);
    s->node_id = n->number;
    snprintf(s->data, sizeof s->data, "data");
    snprintf(s->listen, sizeof s->listen, "n%u:4570", n->number);
    s->admin[0] = '\0';
    size_t at = 0;
    for (unsigned i = 1; i <= w->n_nodes; i++) {
        at += (size_t)snprintf(s->cluster + at, sizeof s->cluster - at, "%s%u=n%u:4570", i > 1 ? "," : "", i, i);
    }
    s->lanes = 1 + (w->options.seed % 8 == 3);
    s->segment_first = 64 << 10;
    s->segment_max = 256 << 10;
    s->pool_segments = 1;
    s->flush_max = 32 << 10;
    s->disk_reserve = 256 << 10;
    s->cache = 1 << 20;
    s->snapshot_bytes = 24 << 10;
    s->trailing_bytes = 16 << 10;
    snprintf(s->limits, sizeof s->limits, "off");
    snprintf(s->log_level, sizeof s->log_level, w->options.verbose ? "debug" : "error");
    s->test_disable_raft = w->options.disable_raft;
    s->test_disable_journal = w->options.disable_journal;
    s->test_disable_server = w->options.disable_server;
}

/* ---- reading the replicas at the end ---- */

struct final_read {
    struct world *world;
    struct world_node *node;
    uint32_t shard;
    struct check_record *records;
    size_t n, cap;
    uint64_t trim;
    bool begun, done, failed;
};

static uint64_t value_of(const struct batch_record *r)
{
    uint64_t v = 0;
    if (r->data_len >= 8) {
        memcpy(&v, r->data, 8);
    }
    return v;
}

static void on_final_batch(void *arg, uint64_t group, uint64_t first_offset, const void *data, uint32_t len, int status)
{
    (void)group;
    struct final_read *f = arg;
    if (status != 0) {
        f->failed = true;
        f->done = true;
        return;
    }
    if (data == NULL) {
        if (!f->begun) {
            f->trim = first_offset;
        }
        f->done = true;
        return;
    }
    struct batch_reader reader;
    void *scratch = NULL;
    size_t scratch_size = 0;
    const char *why = NULL;
    if (batch_reader_open(&reader, data, len, &scratch, &scratch_size, &why) != 0) {
        world_fail(f->world, 1, "node %u shard %u: stored batch at %llu is malformed: %s", f->node->number, f->shard,
                   (unsigned long long)first_offset, why != NULL ? why : "");
        f->failed = true;
        return;
    }
    if (!f->begun) {
        f->begun = true;
        f->trim = first_offset;
    }
    struct batch_record rec;
    while (batch_reader_next(&reader, &rec) == 1) {
        if (f->n == f->cap) {
            f->cap = f->cap ? f->cap * 2 : 256;
            f->records = xrealloc(f->records, f->cap * sizeof *f->records);
        }
        f->records[f->n++] = (struct check_record){rec.offset, value_of(&rec)};
    }
    free(scratch);
}

static void begin_final(void *arg)
{
    struct final_read *f = arg;
    if (f->node->node != NULL) {
        node_debug_read(f->node->node, workload_shard_group(f->world->workload, f->shard), on_final_batch, f);
    }
}

/* As many replicas as there should be have the same end, and the shard's reader has reached it. */
static bool shard_agrees(struct world *w, const struct final_read *reads, uint32_t shard)
{
    uint64_t top = 0;
    unsigned at_top = 0, wanted = w->n_nodes < 3 ? w->n_nodes : 3;
    for (unsigned i = 0; i < w->n_nodes; i++) {
        const struct final_read *f = &reads[i * w->n_shards + shard];
        if (f->done && !f->failed) {
            at_top = f->trim + f->n > top ? 1 : at_top + (f->trim + f->n == top);
            top = max_u64(top, f->trim + f->n);
        }
    }
    return at_top >= wanted && workload_caught_up(w->workload, shard, top);
}

/* Reads every replica of every shard; true if all agree on the end and the readers have it all. */
static bool read_finals(struct world *w, struct final_read *reads)
{
    for (unsigned i = 0; i < w->n_nodes; i++) {
        for (uint32_t s = 0; s < w->n_shards; s++) {
            struct final_read *f = &reads[i * w->n_shards + s];
            free(f->records);
            *f = (struct final_read){.world = w, .node = &w->nodes[i], .shard = s};
            if (w->nodes[i].node == NULL) { /* a planned stop was still going on */
                sim_run_until(w->sim, sim_now_ns(w->sim) + 200 * MS);
                return false;
            }
            sim_call(node_env(w->nodes[i].node), sim_now_ns(w->sim), begin_final, f);
        }
    }
    sim_run_until(w->sim, sim_now_ns(w->sim) + 200 * MS);
    bool agree = true;
    for (uint32_t s = 0; s < w->n_shards; s++) {
        agree = agree && shard_agrees(w, reads, s);
    }
    return agree;
}

static void explain_ends(struct world *w, const struct final_read *reads)
{
    char text[400];
    size_t at = 0;
    for (uint32_t s = 0; s < w->n_shards; s++) {
        if (shard_agrees(w, reads, s)) {
            continue;
        }
        at += (size_t)snprintf(text + at, sizeof text - at, " shard %u (reader %llu):", s, (unsigned long long)workload_read_to(w->workload, s));
        for (unsigned i = 0; i < w->n_nodes && at < sizeof text; i++) {
            const struct final_read *f = &reads[i * w->n_shards + s];
            at += (size_t)snprintf(text + at, sizeof text - at, f->done && !f->failed ? " %llu" : f->done ? " -" : " ?", (unsigned long long)(f->trim + f->n));
        }
        at = at < sizeof text ? at : sizeof text - 1;
    }
    world_fail(w, 21, "replicas or readers did not catch up within 20 s after healing; ends by node:%s", text);
}

static void judge(struct world *w, struct final_read *reads)
{
    for (unsigned i = 0; i < w->n_nodes * w->n_shards; i++) {
        const struct final_read *f = &reads[i];
        if (f->done && !f->failed) {
            history_final(&w->history, (struct check_final){.shard = f->shard, .node = f->node->number, .trim = f->trim}, f->records, f->n);
        }
    }
    struct check_summary summary;
    char *text = NULL;
    size_t len = 0;
    FILE *out = open_memstream(&text, &len);
    check(&w->history, &summary, out);
    fclose(out);
    if (summary.anomalies > 0) {
        if (w->result->message[0] == '\0') {
            snprintf(w->result->message, sizeof w->result->message, "%.*s", 480, text);
        }
        w->result->anomalies += summary.anomalies;
        for (unsigned k = 0; k < 32; k++) {
            w->result->by_kind[k] += (unsigned)summary.by_kind[k];
        }
    }
    free(text);
    w->result->acked = summary.acked;
    w->result->failed = summary.failed;
    w->result->unknown = summary.unknown;
    w->result->read = summary.records_read;
}

static bool wait_for(struct world *w, bool (*done)(struct world *w), uint64_t limit_ns)
{
    uint64_t end = sim_now_ns(w->sim) + limit_ns;
    while (sim_now_ns(w->sim) < end) {
        if (done(w)) {
            return true;
        }
        sim_run_until(w->sim, sim_now_ns(w->sim) + 20 * MS);
    }
    return done(w);
}

static bool formed(struct world *w) { return workload_ready(w->workload); }

static bool every_shard_acks(struct world *w)
{
    for (uint32_t s = 0; s < w->n_shards; s++) {
        if (workload_last_ack(w->workload, s) < w->healed_at) {
            return false;
        }
    }
    return true;
}

static bool drained(struct world *w) { return workload_drained(w->workload); }

void run_seed(const struct world_options *o, struct world_result *r)
{
    struct world *w = xcalloc(1, sizeof *w);
    memset(r, 0, sizeof *r);
    r->seed = o->seed;
    w->options = *o;
    w->result = r;
    history_init(&w->history);
    w->calm = (struct sim_net){.delay_ns = {50000, 500000}, .split_ppm = 20000};
    struct sim_options so = {
        .seed = o->seed,
        .net = w->calm,
        .disk = {.sync_ns = {100000, 1500000}, .write_ns = {5000, 50000}, .read_ns = {20000, 200000}},
        .log = o->verbose ? on_log : NULL,
        .exited = on_exit_of,
        .arg = w,
    };
    w->sim = sim_open(&so);
    w->n_nodes = o->nodes != 0 ? o->nodes : (sim_random(w->sim) % 5 == 0 ? 5 : 3);
    w->n_shards = o->shards != 0 ? o->shards : 4 + (unsigned)(sim_random(w->sim) % 5);
    for (unsigned i = 0; i < w->n_nodes; i++) {
        struct world_node *n = &w->nodes[i];
        char name[16];
        snprintf(name, sizeof name, "n%u", i + 1);
        n->world = w;
        n->number = i + 1;
        n->host = sim_host_add(w->sim, name);
        size_t at = strlen(w->endpoints);
        snprintf(w->endpoints + at, sizeof w->endpoints - at, "%s%s:4570", i > 0 ? "," : "", name);
    }
    for (unsigned i = 0; i < w->n_nodes; i++) {
        make_settings(w, &w->nodes[i]);
        world_start_node(w, &w->nodes[i]);
    }
    w->workload = workload_start(w);
    if (!wait_for(w, formed, 30 * SECOND)) {
        world_fail(w, 21, "the cluster did not form in 30 s");
        goto out;
    }
    workload_run(w->workload);
    uint64_t seconds = o->seconds != 0 ? o->seconds : 20;
    uint64_t end = sim_now_ns(w->sim) + seconds * SECOND;
    if (o->faults != 0) {
        faults_begin(w, end);
    }
    while (sim_now_ns(w->sim) < end) {
        sim_run_until(w->sim, min_u64(end, sim_now_ns(w->sim) + SECOND));
    }
    faults_heal(w);
    w->healed_at = sim_now_ns(w->sim) + 1;
    if (!wait_for(w, every_shard_acks, 15 * SECOND)) {
        for (uint32_t s = 0; s < w->n_shards; s++) {
            if (workload_last_ack(w->workload, s) < w->healed_at) {
                world_fail(w, 21, "shard %u took no write within 15 s after healing", s);
            }
        }
    }
    workload_stop_puts(w->workload);
    if (!wait_for(w, drained, 30 * SECOND)) {
        world_fail(w, 21, "a put had no outcome 30 s after the last fault");
    }
    struct final_read *reads = xcalloc(w->n_nodes * w->n_shards, sizeof *reads);
    bool agree = false;
    for (unsigned i = 0; i < 100 && !agree; i++) {
        agree = read_finals(w, reads);
    }
    if (!agree) {
        explain_ends(w, reads);
    }
    workload_finish(w->workload);
    judge(w, reads);
    for (unsigned i = 0; i < w->n_nodes * w->n_shards; i++) {
        free(reads[i].records);
    }
    free(reads);
out:
    r->trace_hash = sim_trace_hash(w->sim);
    r->events = sim_events(w->sim);
    r->simulated_ns = sim_now_ns(w->sim);
    if (r->anomalies > 0) {
        sim_print_tail(w->sim, 40);
    }
    history_deinit(&w->history);
    sim_close(w->sim);
    free(w);
}
