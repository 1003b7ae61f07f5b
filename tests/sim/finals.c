/* finals.c: reads every replica at the end, and judges the history by what they hold.
 *
 * Shards are those of the newest map, `numbers` is above all of theirs. Which replicas there should be is what the controller's newest map says: replicas on their way in or out have to be done with by then. */
#include "tests/sim/world.h"

#include "proto/base.h"
#include "server/node_impl.h"

#include <stdio.h>
#include <stdlib.h>

#define MS 1000000ull

/* One replica of one shard. */
struct final_read {
    struct world *world;
    uint64_t group;
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

/* F31: the time of a record rests on the median of the clocks. Those of all but one node are right, give or take 20 s and what they drift (5 %) in a run. */
static void check_time(const struct final_read *f, const void *data, uint32_t len)
{
    const int64_t away_ms = 30000;
    struct batch_header h;
    int64_t now = SIM_WALL_START_MS + (int64_t)(sim_now_ns(f->world->sim) / MS);
    if (batch_header_decode(&h, data, len, false, NULL) == 0 && ((int64_t)h.time_ms > now + away_ms || (int64_t)h.time_ms < SIM_WALL_START_MS - away_ms)) {
        world_fail(f->world, 10, "node %u shard %u: the batch at %llu has a time that is %lld s away from true time", f->node->number, f->shard,
                   (unsigned long long)h.first_offset, (long long)((int64_t)h.time_ms - now) / 1000);
    }
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
    check_time(f, data, len);
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
    if (f->node->node != NULL && f->node->node->phase == NODE_PHASE_RUNNING) { /* else it is still joining, or stopping */
        node_debug_read(f->node->node, f->group, on_final_batch, f);
    }
}

static const struct map_shard *newest_shard(const struct world *w, uint32_t shard)
{
    const struct map_stream *s = world_stream(w);
    return s != NULL ? cluster_map_shard(s, shard) : NULL;
}

static bool is_member(const struct map_shard *s, unsigned node)
{
    const struct map_replica *r = s != NULL ? cluster_map_replica(s, node) : NULL;
    return r != NULL && !r->leaving && !r->joining;
}

/* As many replicas as there should be, no more, all with the same end, and the shard's reader has reached it. */
static bool shard_agrees(struct world *w, const struct final_read *reads, uint32_t numbers, uint32_t shard)
{
    unsigned replicas = w->options.profile->replicas != 0 ? w->options.profile->replicas : 3;
    unsigned at_top = 0, wanted = w->n_nodes < replicas ? w->n_nodes : replicas;
    const struct map_shard *map = newest_shard(w, shard);
    if (map == NULL) {
        return world_stream(w) != NULL; /* a split that was undone had this number */
    }
    if (map->n_replicas != wanted) {
        return false;
    }
    uint64_t top = 0;
    for (unsigned i = 0; i < w->n_nodes; i++) {
        const struct final_read *f = &reads[i * numbers + shard];
        if (f->done && !f->failed && is_member(map, i + 1)) {
            at_top = f->trim + f->n > top ? 1 : at_top + (f->trim + f->n == top);
            top = max_u64(top, f->trim + f->n);
        }
    }
    /* Replicas that all have just been started know nothing to be committed before they have a leader. Open shards took a write since; closed ones end where they said. */
    return at_top == wanted && (!map->ended || top == map->ended_offset) && workload_caught_up(w->workload, shard, top);
}

/* Reads every replica of every shard; true if all agree on the end and the readers have it all. */
static bool read_finals(struct world *w, struct final_read *reads, uint32_t numbers)
{
    for (unsigned i = 0; i < w->n_nodes; i++) {
        for (uint32_t s = 0; s < numbers; s++) {
            struct final_read *f = &reads[i * numbers + s];
            free(f->records);
            const struct map_shard *m = newest_shard(w, s);
            *f = (struct final_read){.world = w, .node = &w->nodes[i], .shard = s, .group = m != NULL ? m->group : 0};
            if (m == NULL && world_stream(w) != NULL) {
                continue;
            }
            if (w->nodes[i].node == NULL) { /* a planned stop was still going on */
                sim_run_until(w->sim, sim_now_ns(w->sim) + 200 * MS);
                return false;
            }
            sim_call(node_env(w->nodes[i].node), sim_now_ns(w->sim), begin_final, f);
        }
    }
    sim_run_until(w->sim, sim_now_ns(w->sim) + 200 * MS);
    const struct map_stream *stream = world_stream(w);
    bool agree = stream != NULL && stream->status == STREAM_ACTIVE; /* a request for a split that was on its way may have come */
    for (uint32_t s = 0; s < numbers; s++) {
        agree = agree && shard_agrees(w, reads, numbers, s);
    }
    return agree;
}

static void explain_ends(struct world *w, const struct final_read *reads, uint32_t numbers)
{
    char text[400];
    size_t at = 0;
    for (uint32_t s = 0; s < numbers; s++) {
        if (shard_agrees(w, reads, numbers, s)) {
            continue;
        }
        at += (size_t)snprintf(text + at, sizeof text - at, " shard %u (reader %llu):", s, (unsigned long long)workload_read_to(w->workload, s));
        for (unsigned i = 0; i < w->n_nodes && at < sizeof text; i++) {
            const struct final_read *f = &reads[i * numbers + s];
            at += (size_t)snprintf(text + at, sizeof text - at, f->done && !f->failed ? " %llu" : f->done ? " -" : " ?", (unsigned long long)(f->trim + f->n));
        }
        at = at < sizeof text ? at : sizeof text - 1;
    }
    world_fail(w, 21, "replicas or readers did not catch up within 20 s after healing; ends by node:%s", text);
}

static void tell_shards(struct world *w)
{
    const struct map_stream *s = world_stream(w);
    for (unsigned i = 0; s != NULL && i < s->n_shards; i++) {
        const struct map_shard *m = &s->shards[i];
        if (m->coming) {
            continue;
        }
        struct check_shard c = {.shard = m->shard, .parents = {m->parents[0], m->parents[1]}, .n_parents = m->n_parents, .closed = m->closed, .first = m->first, .last = m->last,
                                .created_s = m->created_s};
        history_shard(&w->history, &c);
        w->result->reshards += m->closed;
    }
    if (s != NULL) {
        workload_told_children(w->workload, s);
    }
}

static void judge(struct world *w, struct final_read *reads, uint32_t numbers)
{
    tell_shards(w);
    for (unsigned i = 0; i < w->n_nodes * numbers; i++) {
        const struct final_read *f = &reads[i];
        if (f->done && !f->failed && f->trim > 0) { /* no record of a run is as old as the retention */
            world_fail(w, 2, "node %u shard %u: trimmed to %llu by a clock that stepped", f->node->number, f->shard, (unsigned long long)f->trim);
        }
        if (f->done && !f->failed && is_member(newest_shard(w, f->shard), f->node->number)) {
            history_final(&w->history, (struct check_final){.shard = f->shard, .node = f->node->number, .trim = f->trim, .closed = newest_shard(w, f->shard)->ended}, f->records, f->n);
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

/* ---- the controller's machine ---- */

static uint64_t mix(uint64_t h, uint64_t v) { return (h ^ v) * 0x9e3779b97f4a7c15u ^ h >> 29; }

static uint64_t map_hash(const struct cluster_map *m)
{
    uint64_t h = mix(m->n_nodes, m->n_streams);
    for (unsigned i = 0; i < m->n_nodes; i++) {
        h = mix(mix(mix(h, m->nodes[i].id), m->nodes[i].state), m->nodes[i].incarnation);
    }
    for (unsigned i = 0; i < m->n_streams; i++) {
        for (unsigned s = 0; s < m->streams[i].n_shards; s++) {
            const struct map_shard *shard = &m->streams[i].shards[s];
            h = mix(mix(h, shard->group), shard->generation);
            h = mix(mix(h, shard->shard), shard->coming + 2u * shard->closed + 4u * shard->ended + 8u * shard->opened);
            for (unsigned r = 0; r < shard->n_replicas; r++) {
                h = mix(mix(h, (uint64_t)shard->replicas[r].node << 32 | shard->replicas[r].generation), shard->replicas[r].joining + 2u * shard->replicas[r].leaving);
            }
        }
    }
    return h;
}

/* The controller's machine is deterministic: nodes that applied the same entries have the same map. */
static void check_maps(struct world *w)
{
    const struct cluster_map *first = NULL;
    unsigned who = 0;
    for (unsigned i = 0; i < w->n_nodes; i++) {
        const struct cluster_map *m = w->nodes[i].node != NULL ? w->nodes[i].node->map : NULL;
        if (m == NULL) {
            continue;
        }
        if (first == NULL || m->version > first->version) {
            first = m;
            who = i + 1;
        } else if (m->version == first->version && map_hash(m) != map_hash(first)) {
            world_fail(w, 1, "nodes %u and %u have different maps of version %llu", who, i + 1, (unsigned long long)m->version);
            return;
        }
    }
}

static void free_finals(struct world *w, struct final_read *reads, uint32_t numbers)
{
    for (unsigned i = 0; reads != NULL && i < w->n_nodes * numbers; i++) {
        free(reads[i].records);
    }
    free(reads);
}

void world_judge(struct world *w)
{
    struct final_read *reads = NULL;
    uint32_t numbers = 0;
    bool agree = false;
    for (unsigned i = 0; i < 100 && !agree; i++) {
        /* Nodes that have just started have an old map, or none: each look is by the newest of the moment, which may know more shards than the one before. */
        uint32_t known = world_stream(w) != NULL ? world_stream(w)->next_shard : w->n_shards;
        if (known != numbers) {
            free_finals(w, reads, numbers);
            numbers = known;
            reads = xcalloc(w->n_nodes * numbers, sizeof *reads);
        }
        agree = read_finals(w, reads, numbers) && world_stream(w)->next_shard == numbers;
    }
    if (!agree) {
        explain_ends(w, reads, numbers);
    }
    workload_finish(w->workload);
    check_maps(w);
    judge(w, reads, numbers);
    free_finals(w, reads, numbers);
}
