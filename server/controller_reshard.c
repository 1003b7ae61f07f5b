/* Requests to split, to merge, and for another number of shards: what is wrong with them is said here, before anything is proposed; the machine checks again. */
#include "server/controller_impl.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "server/reshard_plan.h"

static const char *status_name(enum stream_status s)
{
    static const char *const names[] = {"CREATING", "ACTIVE", "UPDATING", "DELETING"};
    return names[s];
}

static void reshard_applied(struct call *call, const struct controller_result *r)
{
    if (r->code != SLUICE_E_OK) {
        call_error(call, r->code, r->code == SLUICE_E_TOO_LARGE ? "the stream or the cluster would have too many shards, or its number was changed too often today" : NULL);
        return;
    }
    call_describe(call, cluster_map_stream_by_id(call->c->map, r->stream_id), FRAME_STREAM_RESHARD_REPLY);
}

/* What is wrong with the shard of a request, in why: 0 if nothing. */
static int check_shard(const struct map_stream *s, uint32_t number, char *why, size_t size)
{
    const struct map_shard *m = cluster_map_shard(s, number);
    if (m == NULL || m->coming) {
        snprintf(why, size, "could not find shard %u in stream %.64s", number, s->name);
        return SLUICE_E_NOT_FOUND;
    }
    if (m->closed) {
        snprintf(why, size, "shard %u of stream %.64s was split or merged before: it is closed", number, s->name);
        return SLUICE_E_INVALID;
    }
    return SLUICE_E_OK;
}

static int check_split(const struct map_stream *s, const Sluice__StreamReshard *m, struct controller_entry *e, char *why, size_t size)
{
    int code = check_shard(s, m->shard, why, size);
    if (code != SLUICE_E_OK) {
        return code;
    }
    const struct map_shard *shard = cluster_map_shard(s, m->shard);
    if (m->hash.len == 16) {
        memcpy(e->at.b, m->hash.data, 16);
    } else {
        hash_middle(&shard->first, &shard->last, &e->at);
    }
    /* As Kinesis has it: first + 1 < key < last, so each child has two keys at least. */
    bool above = hash_compare(&e->at, &shard->first) > 0 && !hash_follows(&shard->first, &e->at);
    if (!above || hash_compare(&e->at, &shard->last) >= 0) {
        char at[40];
        char first[40];
        char last[40];
        hash_to_decimal(&e->at, at);
        hash_to_decimal(&shard->first, first);
        hash_to_decimal(&shard->last, last);
        snprintf(why, size, "the hash key %s is not both greater than one plus the shard's first hash key %s and less than its last %s", at, first, last);
        return SLUICE_E_INVALID;
    }
    e->n_parents = 1;
    e->parents[0] = m->shard;
    return SLUICE_E_OK;
}

static int check_merge(const struct map_stream *s, const Sluice__StreamReshard *m, struct controller_entry *e, char *why, size_t size)
{
    int code = check_shard(s, m->shard, why, size);
    code = code != SLUICE_E_OK ? code : check_shard(s, m->adjacent, why, size);
    if (code != SLUICE_E_OK) {
        return code;
    }
    if (!hash_follows(&cluster_map_shard(s, m->shard)->last, &cluster_map_shard(s, m->adjacent)->first)) {
        snprintf(why, size, "shards %u and %u of stream %.64s are not an adjacent pair: the second must begin where the first ends", m->shard, m->adjacent, s->name);
        return SLUICE_E_INVALID;
    }
    e->n_parents = 2;
    e->parents[0] = m->shard;
    e->parents[1] = m->adjacent;
    return SLUICE_E_OK;
}

static int check_count(const struct map_stream *s, const Sluice__StreamReshard *m, struct controller_entry *e, char *why, size_t size)
{
    uint64_t open = reshard_open_count(s);
    if (m->target < 1 || m->target > STREAM_SHARDS_MAX || m->target > 2 * open || 2ull * m->target < open) {
        snprintf(why, size, "from %llu shards the number can go to at least half and at most twice as many, 1 to %d", (unsigned long long)open, STREAM_SHARDS_MAX);
        return SLUICE_E_INVALID;
    }
    e->kind = CONTROLLER_RESHARD_TARGET;
    e->target = m->target;
    return SLUICE_E_OK;
}

static int check(const struct map_stream *s, const Sluice__StreamReshard *m, struct controller_entry *e, char *why, size_t size)
{
    if (s->on_demand) {
        snprintf(why, size, "stream %.64s is on demand: its shards are the cluster's to choose", s->name);
        return SLUICE_E_INVALID;
    }
    if (s->status != STREAM_ACTIVE) {
        snprintf(why, size, "stream %.64s is not ACTIVE but %s", s->name, status_name(s->status));
        return SLUICE_E_NOT_ACTIVE;
    }
    switch (m->kind) {
    case SLUICE__STREAM_RESHARD__KIND__SPLIT:
        return check_split(s, m, e, why, size);
    case SLUICE__STREAM_RESHARD__KIND__MERGE:
        return check_merge(s, m, e, why, size);
    default:
        return check_count(s, m, e, why, size);
    }
}

bool reshard_place(struct controller *c, const struct map_stream *s, struct controller_entry *e, struct placement_node *nodes, unsigned n_nodes)
{
    e->kind = CONTROLLER_RESHARD_BEGIN;
    e->replicas = s->replicas;
    uint32_t children = reshard_children(e->n_parents);
    e->placement = xcalloc((size_t)children * s->replicas, sizeof *e->placement);
    for (uint32_t i = 0; i < children; i++) {
        uint32_t rotation = (uint32_t)c->map->next_group + i;
        uint32_t *out = &e->placement[i * s->replicas];
        if (placement_choose(nodes, n_nodes, s->replicas, rotation, out) == s->replicas) {
            continue;
        }
        struct placement_node all[NODES_MAX]; /* those that are down take their part when they come back; until then a majority has to do */
        controller_placement(c, all, false);
        if (placement_choose(all, n_nodes, s->replicas, rotation, out) != s->replicas) {
            return false;
        }
    }
    return true;
}

void lead_reshard(struct call *call)
{
    struct controller *c = call->c;
    Sluice__StreamReshard *m = sluice__stream_reshard__unpack(NULL, call->len, call->message);
    sluice_assert(m != NULL);
    const struct map_stream *s = cluster_map_stream(controller_fresh_map(c), m->account, m->name);
    struct controller_result known;
    struct controller_entry e = {.kind = CONTROLLER_RESHARD_BEGIN};
    char why[320] = "";
    int code = SLUICE_E_OK;
    bool before = controller_machine_known_request(c->machine, m->request_id.data, &known);
    if (!before) {
        code = s == NULL ? SLUICE_E_NOT_FOUND : check(s, m, &e, why, sizeof why);
    }
    if (!before && code == SLUICE_E_OK) {
        memcpy(e.request_id, m->request_id.data, 16);
        memcpy(e.stream_id, s->id, 16);
        struct placement_node nodes[NODES_MAX];
        if (e.kind == CONTROLLER_RESHARD_BEGIN) {
            controller_placement(c, nodes, true);
            if (!reshard_place(c, s, &e, nodes, c->map->n_nodes)) {
                code = SLUICE_E_NOT_READY;
                snprintf(why, sizeof why, "there are fewer nodes than the stream has replicas: new shards cannot be placed");
            }
        }
    }
    sluice__stream_reshard__free_unpacked(m, NULL);
    if (before) {
        reshard_applied(call, &known);
    } else if (code != SLUICE_E_OK) {
        call_error(call, code, why[0] != '\0' ? why : NULL);
    } else {
        call_propose(call, &e, reshard_applied);
    }
    free(e.placement);
}
