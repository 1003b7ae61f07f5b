/* Splits and merges in the controller's machine.
 *
 *   BEGIN   children are in the map as coming: nodes create their groups; nobody else is told of them
 *   UNDO    the children go, the parents are as before                                             (only before DECIDE)
 *   DECIDE  the point of no return (rule F29): in one entry the parents are closed and the children have their keys, so every map tiles the keys.
 *           The parents' leaders read it in their maps and write CLOSE into their logs
 *   ENDED   a parent's CLOSE is committed. When all are, the children's leaders write OPEN into their logs
 *   OPENED  a child's OPEN is committed. With the last one the reshard is over
 *   GONE    a closed shard that has nothing left to keep vanishes
 *
 * TARGET asks for a number of shards; the reconciler brings it about by BEGINs, and the stream is ACTIVE again when its open shards are even. */
#include "server/controller_machine_impl.h"

#include <stdlib.h>
#include <string.h>

#include "proto/base.h"
#include "proto/error.h"
#include "server/reshard_plan.h"
#include "server/settings.h"

/* ---- the list of shards ---- */

/* The array may have moved: the table of groups points into it. */
static void index_groups(struct controller_machine *m, struct map_stream *s)
{
    for (unsigned i = 0; i < s->n_shards; i++) {
        id_table_put(&m->groups, s->shards[i].group, &s->shards[i]);
    }
}

static struct map_shard *shard_append(struct controller_machine *m, struct map_stream *s)
{
    s->shards = xrealloc(s->shards, (s->n_shards + 1) * sizeof *s->shards);
    struct map_shard *new = &s->shards[s->n_shards++];
    memset(new, 0, sizeof *new);
    new->group = m->next_group++;
    new->shard = s->next_shard++;
    m->n_shards++;
    index_groups(m, s);
    return new;
}

static void shard_drop(struct controller_machine *m, struct map_stream *s, uint32_t number)
{
    struct map_shard *old = cluster_map_shard(s, number);
    sluice_assert(old != NULL && s->n_shards > 1);
    id_table_take(&m->groups, old->group);
    memmove(old, old + 1, (size_t)(&s->shards[s->n_shards] - (old + 1)) * sizeof *old);
    s->n_shards--;
    m->n_shards--;
    index_groups(m, s);
}

/* ---- reshards ---- */

static struct map_reshard *reshard_find(struct map_stream *s, uint64_t id)
{
    for (unsigned i = 0; i < s->n_reshards; i++) {
        if (s->reshards[i].id == id) {
            return &s->reshards[i];
        }
    }
    return NULL;
}

static void reshard_over(struct map_stream *s, struct map_reshard *x)
{
    for (unsigned i = 0; i < x->n_parents; i++) {
        struct map_shard *parent = cluster_map_shard(s, x->parents[i]);
        parent->reshard = 0;
    }
    memmove(x, x + 1, (size_t)(&s->reshards[s->n_reshards] - (x + 1)) * sizeof *x);
    s->n_reshards--;
    if (s->n_reshards > 0) {
        return;
    }
    if (s->target != 0 && reshard_is_even(s, s->target)) {
        s->target = 0;
    }
    if (s->target == 0 && s->status == STREAM_UPDATING) {
        s->status = STREAM_ACTIVE;
    }
}

/* May this shard be split or merged? */
static int parent_ok(const struct map_shard *s)
{
    if (s == NULL || s->coming) {
        return SLUICE_E_NOT_FOUND;
    }
    if (s->closed) {
        return SLUICE_E_INVALID;
    }
    return s->reshard != 0 || !s->opened ? SLUICE_E_CONFLICT : SLUICE_E_OK;
}

static int begin_ok(const struct controller_machine *m, const struct map_stream *s, const struct controller_entry *e)
{
    if (s == NULL || s->status == STREAM_DELETING) {
        return SLUICE_E_NOT_FOUND;
    }
    bool may = e->target == 0 ? s->status == STREAM_ACTIVE : s->target == e->target && s->status == STREAM_UPDATING;
    if (!may && e->target == 0) {
        return SLUICE_E_NOT_ACTIVE;
    }
    if (!may || s->n_reshards >= RESHARDS_MAX || e->replicas != s->replicas) {
        return SLUICE_E_CONFLICT;
    }
    for (uint32_t i = 0; i < e->n_parents; i++) {
        int code = parent_ok(cluster_map_shard(s, e->parents[i]));
        if (code != SLUICE_E_OK) {
            return code;
        }
    }
    const struct map_shard *a = cluster_map_shard(s, e->parents[0]);
    bool split = e->n_parents == 1;
    bool right = split ? hash_compare(&a->first, &e->at) < 0 && hash_compare(&e->at, &a->last) <= 0 : hash_follows(&a->last, &cluster_map_shard(s, e->parents[1])->first);
    if (!right) {
        return SLUICE_E_INVALID;
    }
    if (m->n_shards + e->shards > CLUSTER_SHARDS_MAX || (split && reshard_open_count(s) >= STREAM_SHARDS_MAX)) {
        return SLUICE_E_TOO_LARGE;
    }
    return machine_placement_ok(m, e) ? SLUICE_E_OK : SLUICE_E_CONFLICT;
}

void machine_reshard_begin(struct controller_machine *m, const struct controller_entry *e, struct controller_result *r)
{
    struct map_stream *s = machine_stream_by_id(m, e->stream_id);
    memcpy(r->stream_id, e->stream_id, 16);
    r->code = begin_ok(m, s, e);
    if (r->code != SLUICE_E_OK) {
        return;
    }
    const struct map_shard *a = cluster_map_shard(s, e->parents[0]);
    const struct map_shard *b = cluster_map_shard(s, e->parents[e->n_parents - 1]);
    struct hash128 first = a->first;
    struct hash128 last = b->last;
    /* A child's numbers lie above its parents': so does the second of its creation, whatever the clock says (rule F33). */
    uint64_t above = max_u64(a->created_s, b->created_s) + 1;
    bool unsafe = (m->disabled & SERVER_RULE_NUMBERS) != 0;
    s->reshards = xrealloc(s->reshards, (s->n_reshards + 1) * sizeof *s->reshards);
    struct map_reshard *x = &s->reshards[s->n_reshards++];
    *x = (struct map_reshard){.id = m->next_group, .began_ms = m->time_ms, .n_parents = e->n_parents, .n_children = e->shards};
    memcpy(x->parents, e->parents, sizeof x->parents);
    for (uint32_t i = 0; i < e->shards; i++) {
        struct map_shard *child = shard_append(m, s);
        child->coming = true;
        child->reshard = x->id;
        child->created_s = unsafe ? above - 1 : max_u64(m->time_ms / 1000, above);
        child->generation = 1;
        child->n_parents = e->n_parents;
        memcpy(child->parents, e->parents, sizeof child->parents);
        child->first = i == 0 ? first : e->at;
        child->last = last;
        if (i == 0 && e->n_parents == 1) {
            hash_before(&e->at, &child->last);
        }
        child->n_replicas = e->replicas;
        for (uint32_t k = 0; k < e->replicas; k++) {
            child->replicas[k] = (struct map_replica){.node = e->placement[i * e->replicas + k], .generation = 1, .first = true};
        }
        child->preferred_leader = child->replicas[0].node;
        x->children[i] = child->shard;
    }
    for (uint32_t i = 0; i < e->n_parents; i++) {
        struct map_shard *parent = cluster_map_shard(s, e->parents[i]);
        parent->reshard = x->id;
    }
    s->status = STREAM_UPDATING;
}

void machine_reshard_target(struct controller_machine *m, const struct controller_entry *e, struct controller_result *r)
{
    struct map_stream *s = machine_stream_by_id(m, e->stream_id);
    memcpy(r->stream_id, e->stream_id, 16);
    if (s == NULL || s->status == STREAM_DELETING) {
        r->code = SLUICE_E_NOT_FOUND;
        return;
    }
    if (s->status != STREAM_ACTIVE) {
        r->code = SLUICE_E_NOT_ACTIVE;
        return;
    }
    uint64_t open = reshard_open_count(s);
    if (e->target == 0 || e->target > STREAM_SHARDS_MAX || e->target > 2 * open || 2ull * e->target < open) {
        r->code = SLUICE_E_INVALID;
        return;
    }
    if (reshard_is_even(s, e->target)) {
        return;
    }
    unsigned old = 0;
    while (old < s->n_scaled && s->scaled_ms[old] + SCALINGS_WINDOW_MS <= m->time_ms) {
        old++;
    }
    memmove(s->scaled_ms, s->scaled_ms + old, (s->n_scaled - old) * sizeof s->scaled_ms[0]);
    s->n_scaled -= old;
    if (s->n_scaled == SCALINGS_MAX && !s->settings.limits_off) {
        r->code = SLUICE_E_TOO_LARGE;
        return;
    }
    if (s->n_scaled == SCALINGS_MAX) {
        memmove(s->scaled_ms, s->scaled_ms + 1, (SCALINGS_MAX - 1) * sizeof s->scaled_ms[0]);
        s->n_scaled--;
    }
    s->scaled_ms[s->n_scaled++] = m->time_ms;
    s->target = e->target;
    s->status = STREAM_UPDATING;
}

/* ---- steps ---- */

static int step_undo(struct controller_machine *m, struct map_stream *s, struct map_reshard *x)
{
    if (x->decided && (m->disabled & SERVER_RULE_DECIDE) == 0) {
        return SLUICE_E_CONFLICT;
    }
    for (unsigned i = 0; i < x->n_parents; i++) {
        struct map_shard *parent = cluster_map_shard(s, x->parents[i]);
        parent->closed = parent->ended = false; /* as it was: only a rule that is switched off lets a decided one come here */
        parent->n_children = 0;
    }
    for (unsigned i = 0; i < x->n_children; i++) {
        shard_drop(m, s, x->children[i]);
    }
    reshard_over(s, x);
    return SLUICE_E_OK;
}

static int step_decide(struct map_stream *s, struct map_reshard *x)
{
    if (x->decided) {
        return SLUICE_E_CONFLICT;
    }
    x->decided = true;
    for (unsigned i = 0; i < x->n_parents; i++) {
        struct map_shard *parent = cluster_map_shard(s, x->parents[i]);
        parent->closed = true;
        parent->n_children = x->n_children;
        memcpy(parent->children, x->children, sizeof parent->children);
    }
    for (unsigned i = 0; i < x->n_children; i++) {
        struct map_shard *child = cluster_map_shard(s, x->children[i]);
        child->coming = false;
    }
    return SLUICE_E_OK;
}

/* The reshard is over when its parents have ended and its children are open. */
static void finish_if_over(struct map_stream *s, struct map_reshard *x)
{
    for (unsigned i = 0; i < x->n_parents; i++) {
        const struct map_shard *parent = cluster_map_shard(s, x->parents[i]);
        if (!parent->ended) {
            return;
        }
    }
    for (unsigned i = 0; i < x->n_children; i++) {
        const struct map_shard *child = cluster_map_shard(s, x->children[i]);
        if (!child->opened) {
            return;
        }
    }
    for (unsigned i = 0; i < x->n_children; i++) {
        struct map_shard *child = cluster_map_shard(s, x->children[i]);
        child->reshard = 0;
    }
    reshard_over(s, x);
}

static int step_ended(struct map_stream *s, struct map_reshard *x, const struct controller_entry *e)
{
    struct map_shard *parent = cluster_map_shard(s, e->shard);
    if (!x->decided || parent == NULL || parent->reshard != x->id || !parent->closed || parent->ended) {
        return SLUICE_E_CONFLICT;
    }
    parent->ended = true;
    parent->ended_offset = e->offset;
    parent->ended_ms = e->time_ms;
    finish_if_over(s, x);
    return SLUICE_E_OK;
}

static int step_opened(const struct controller_machine *m, struct map_stream *s, struct map_reshard *x, const struct controller_entry *e)
{
    struct map_shard *child = cluster_map_shard(s, e->shard);
    if (!x->decided || child == NULL || child->reshard != x->id || child->closed || child->opened) {
        return SLUICE_E_CONFLICT;
    }
    bool ended = true;
    for (unsigned i = 0; i < x->n_parents; i++) {
        const struct map_shard *parent = cluster_map_shard(s, x->parents[i]);
        ended = ended && parent->ended;
    }
    if (!ended && (m->disabled & SERVER_RULE_OPEN) == 0) {
        return SLUICE_E_CONFLICT;
    }
    child->opened = true;
    finish_if_over(s, x);
    return SLUICE_E_OK;
}

void machine_reshard_step(struct controller_machine *m, const struct controller_entry *e, struct controller_result *r)
{
    struct map_stream *s = machine_stream_by_id(m, e->stream_id);
    memcpy(r->stream_id, e->stream_id, 16);
    if (s == NULL || s->status == STREAM_DELETING) {
        r->code = SLUICE_E_NOT_FOUND;
        return;
    }
    if (e->step == RESHARD_STEP_GONE) {
        const struct map_shard *old = cluster_map_shard(s, e->shard);
        r->code = old == NULL ? SLUICE_E_NOT_FOUND : !old->ended || old->reshard != 0 || s->n_shards == 1 ? SLUICE_E_CONFLICT : SLUICE_E_OK;
        if (r->code == SLUICE_E_OK) {
            shard_drop(m, s, e->shard);
        }
        return;
    }
    struct map_reshard *x = reshard_find(s, e->reshard);
    if (x == NULL) {
        r->code = SLUICE_E_NOT_FOUND;
        return;
    }
    switch (e->step) {
    case RESHARD_STEP_UNDO:
        r->code = step_undo(m, s, x);
        break;
    case RESHARD_STEP_DECIDE:
        r->code = step_decide(s, x);
        break;
    case RESHARD_STEP_ENDED:
        r->code = step_ended(s, x, e);
        break;
    case RESHARD_STEP_OPENED:
        r->code = step_opened(m, s, x, e);
        break;
    case RESHARD_STEP_GONE:
        break;
    }
}
