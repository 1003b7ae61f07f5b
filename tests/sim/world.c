/* world.c: plays one seed from formation to verdict. */
#include "tests/sim/world.h"

#include "proto/base.h"
#include "server/lane.h"
#include "server/node_impl.h"

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

const struct map_stream *world_stream(const struct world *w)
{
    const struct cluster_map *newest = NULL;
    for (unsigned i = 0; i < w->n_nodes; i++) {
        const struct cluster_map *m = w->nodes[i].node != NULL ? w->nodes[i].node->map : NULL;
        newest = m != NULL && (newest == NULL || m->version > newest->version) ? m : newest;
    }
    return newest != NULL ? cluster_map_stream(newest, "000000000000", "s") : NULL;
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

struct sim_disk world_disk(const struct world *w)
{
    const struct world_profile *p = w->options.profile;
    struct sim_disk d = {.sync_ns = {100000, 1500000}, .write_ns = {5000, 50000}, .read_ns = {20000, 200000}};
    d.sync_ns = p->sync_ns.max != 0 ? p->sync_ns : d.sync_ns;
    d.write_ns = p->write_ns.max != 0 ? p->write_ns : d.write_ns;
    return d;
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
    s->kinesis[0] = '\0';
    size_t at = 0;
    for (unsigned i = 1; i <= w->n_nodes; i++) {
        at += (size_t)snprintf(s->cluster + at, sizeof s->cluster - at, "%s%u=n%u:4570", i > 1 ? "," : "", i, i);
    }
    s->lanes = 1 + (w->options.seed % 8 == 3);
    s->segment_first = 64 << 10;
    s->segment_max = 256 << 10;
    s->pool_max = 512 << 10;
    s->flush_max = 32 << 10;
    s->disk_reserve = 256 << 10;
    s->cache = 1 << 20;
    const struct world_profile *p = w->options.profile;
    s->snapshot_bytes = p->snapshot_bytes != 0 ? p->snapshot_bytes : 24 << 10;
    s->trailing_bytes = p->trailing_bytes != 0 ? p->trailing_bytes : 16 << 10;
    s->controller_nodes = p->controller_nodes != 0 ? p->controller_nodes : s->controller_nodes;
    snprintf(s->limits, sizeof s->limits, "off");
    snprintf(s->log_level, sizeof s->log_level, w->options.verbose ? "debug" : "error");
    s->test_disable_raft = w->options.disable_raft;
    s->test_disable_journal = w->options.disable_journal;
    s->test_disable_server = w->options.disable_server;
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

/* After a few splits a shard may have none of the keys. */
static bool lacks_ack(struct world *w, const struct map_shard *s)
{
    return workload_last_ack(w->workload, s->shard) < w->healed_at && workload_has_key(w->workload, &s->first, &s->last);
}

static bool every_shard_acks(struct world *w)
{
    const struct map_stream *s = world_stream(w);
    for (unsigned i = 0; s != NULL && i < s->n_open; i++) {
        if (lacks_ack(w, s->open[i])) {
            return false;
        }
    }
    return s != NULL;
}

/* No split or merge stays on its way. */
static bool reshards_over(struct world *w)
{
    const struct map_stream *s = world_stream(w);
    return s != NULL && s->status == STREAM_ACTIVE;
}

/* What is queued to a peer that is far behind is bounded (R9). */
static void check_queues(struct world *w)
{
    uint64_t most = w->options.profile->queued_max;
    for (unsigned i = 0; i < w->n_nodes && most != 0; i++) {
        const struct node *n = w->nodes[i].up ? w->nodes[i].node : NULL;
        for (unsigned k = 0; n != NULL && k < n->n_lanes; k++) {
            struct links_stats s = {0};
            if (n->lanes[k] != NULL && n->lanes[k]->groups != NULL) {
                links_stats(groups_links(n->lanes[k]->groups), &s);
            }
            if (s.queued > most && w->result->message[0] == '\0') {
                world_fail(w, 21, "node %u has %llu bytes queued to its peers", w->nodes[i].number, (unsigned long long)s.queued);
            }
        }
    }
}

/* What each replica thinks: for whoever looks into a failing seed. */
static void print_groups(struct world *w)
{
    for (unsigned i = 0; i < w->n_nodes; i++) {
        const struct node *n = w->nodes[i].up ? w->nodes[i].node : NULL;
        fprintf(stderr, "node %u: %s, phase %d\n", i + 1, n != NULL ? "up" : "down", n != NULL ? (int)n->phase : -1);
        for (unsigned k = 0; n != NULL && k < n->n_lanes; k++) {
            uint64_t cursor = 0;
            struct groups *gs = n->lanes[k] != NULL ? n->lanes[k]->groups : NULL;
            for (struct group *g; gs != NULL && (g = groups_next(gs, &cursor)) != NULL;) {
                fprintf(stderr, "  group %llu id %llx: role %d term %llu leader %llx ready %d last %llu commit %llu; members", (unsigned long long)group_id(g),
                        (unsigned long long)group_raft_id(g), (int)group_role(g), (unsigned long long)group_term(g), (unsigned long long)group_leader(g),
                        group_ready(g), (unsigned long long)group_last_index(g), (unsigned long long)group_commit_index(g));
                struct group_peer peers[16];
                unsigned n_peers = group_peers(g, peers, 16);
                for (unsigned p = 0; p < n_peers; p++) {
                    fprintf(stderr, " %llx%s match %llu", (unsigned long long)peers[p].raft_id, peers[p].voter ? "" : peers[p].standby ? " (standby)" : " (spare)",
                            (unsigned long long)peers[p].match_index);
                }
                fprintf(stderr, "\n");
            }
        }
    }
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
    if (o->profile->delay_ns.max != 0) {
        w->calm.delay_ns = o->profile->delay_ns;
    }
    struct sim_options so = {
        .seed = o->seed,
        .net = w->calm,
        .disk = world_disk(w),
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
    uint64_t step = o->profile->queued_max != 0 ? 10 * MS : SECOND;
    while (sim_now_ns(w->sim) < end) {
        sim_run_until(w->sim, min_u64(end, sim_now_ns(w->sim) + step));
        check_queues(w);
    }
    faults_heal(w);
    w->healed_at = sim_now_ns(w->sim) + 1;
    workload_stop_reshards(w->workload);
    if (!wait_for(w, reshards_over, 15 * SECOND)) {
        world_fail(w, 21, "the stream was not ACTIVE within 15 s after healing");
    }
    if (!wait_for(w, every_shard_acks, 15 * SECOND)) {
        const struct map_stream *s = world_stream(w);
        for (unsigned i = 0; s != NULL && i < s->n_open; i++) {
            if (lacks_ack(w, s->open[i])) {
                world_fail(w, 21, "shard %u took no write within 15 s after healing", s->open[i]->shard);
            }
        }
    }
    workload_stop_puts(w->workload);
    if (!wait_for(w, drained, 30 * SECOND)) {
        world_fail(w, 21, "a put had no outcome 30 s after the last fault");
    }
    world_judge(w);
    if (r->anomalies > 0 && o->verbose) {
        print_groups(w);
    }
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
