/* Splits and merges, one small step after another, each an entry of the controller's log. What the shards do themselves (create the children, CLOSE, OPEN) they do when
 * their maps say so; here it is only noted that they did. A new leader goes on where the log ends:
 *
 *   undecided   the children and the parents are led, and all of the children have begun -> DECIDE; not within PATIENCE_MS -> UNDO
 *   decided     a parent says that it is closed -> ENDED; a child says that it is open -> OPENED. Never back (rule F29), however long it takes
 *   target      what can begin on the way to the wanted number of shards -> BEGIN
 *   closed      the shard says that nothing is left that its retention keeps -> GONE */
#include "server/controller_impl.h"

#include <stdlib.h>
#include <string.h>

#include "server/reshard_plan.h"

enum { PATIENCE_MS = 10000, DEAD_MS = 5000, IMPATIENCE_MS = 1000, BEGINS_MAX = 16 };

static void propose_step(struct controller *c, const struct map_stream *s, enum reshard_step step, uint64_t reshard, const struct map_shard *of)
{
    struct controller_entry e = {.kind = CONTROLLER_RESHARD_STEP, .step = step, .reshard = reshard};
    memcpy(e.stream_id, s->id, 16);
    if (of != NULL) {
        const struct actual_group *a = actual_group(c, of->group);
        e.shard = of->shard;
        e.offset = step == RESHARD_STEP_ENDED ? a->ended_offset : 0;
        e.time_ms = step == RESHARD_STEP_ENDED ? a->ended_ms : 0;
    }
    reconciler_propose(c, &e);
}

/* By the log's time: a new leader does not begin to wait anew. */
static bool out_of_patience(const struct controller *c, const struct map_reshard *x, uint64_t ms)
{
    return max_u64(env_wall_ms(c->o.env), controller_machine_time_ms(c->machine)) > x->began_ms + ms;
}

static bool led(const struct controller *c, const struct map_stream *s, const uint32_t *shards, unsigned n)
{
    for (unsigned i = 0; i < n; i++) {
        if (!group_led(c, actual_group(c, cluster_map_shard(s, shards[i])->group))) {
            return false;
        }
    }
    return true;
}

/* Each member of the children has taken an entry, so its log is there. A child whose members did not all begin has less left to lose than its parent had: one disk, and
 * it would be without a quorum. */
static bool whole(const struct controller *c, const struct map_stream *s, const struct map_reshard *x)
{
    for (unsigned i = 0; i < x->n_children; i++) {
        const struct map_shard *child = cluster_map_shard(s, x->children[i]);
        const struct actual_group *a = actual_group(c, child->group);
        for (unsigned k = 0; k < child->n_replicas; k++) {
            uint64_t raft_id = raft_id_make(child->replicas[k].node, child->replicas[k].generation);
            bool there = raft_id == a->leader_raft_id || (!node_up(c, child->replicas[k].node) && out_of_patience(c, x, DEAD_MS));
            for (unsigned p = 0; p < a->n_peers && !there; p++) {
                there = a->peers[p].raft_id == raft_id && a->peers[p].voter && a->peers[p].match_index > 0;
            }
            if (!there) {
                return false;
            }
        }
    }
    return true;
}

static void prepare(struct controller *c, const struct map_stream *s, const struct map_reshard *x)
{
    bool children = led(c, s, x->children, x->n_children);
    if (children && whole(c, s, x) && led(c, s, x->parents, x->n_parents)) {
        propose_step(c, s, RESHARD_STEP_DECIDE, x->id, NULL);
    } else if (out_of_patience(c, x, PATIENCE_MS)) {
        propose_step(c, s, RESHARD_STEP_UNDO, x->id, NULL);
    } else {
        reconciler_note(c, "stream %.40s: the %s of shard %u waits for leaders of the %s shards", s->name, x->n_parents == 1 ? "split" : "merge", x->parents[0],
                        children ? "old" : "new");
    }
}

static void go_forward(struct controller *c, const struct map_stream *s, const struct map_reshard *x)
{
    unsigned steps = 0;
    for (unsigned i = 0; i < x->n_parents; i++) {
        const struct map_shard *parent = cluster_map_shard(s, x->parents[i]);
        const struct actual_group *a = actual_group(c, parent->group);
        if (!parent->ended && a != NULL && a->closed) {
            propose_step(c, s, RESHARD_STEP_ENDED, x->id, parent);
            steps++;
        }
    }
    for (unsigned i = 0; i < x->n_children; i++) {
        const struct map_shard *child = cluster_map_shard(s, x->children[i]);
        const struct actual_group *a = actual_group(c, child->group);
        if (!child->opened && a != NULL && a->opened) {
            propose_step(c, s, RESHARD_STEP_OPENED, x->id, child);
            steps++;
        }
    }
    if (steps == 0) {
        reconciler_note(c, "stream %.40s: the %s of shard %u is decided; old shards close, then new ones open", s->name, x->n_parents == 1 ? "split" : "merge", x->parents[0]);
    }
    if ((c->settings->test_disable_server & SERVER_RULE_DECIDE) != 0 && out_of_patience(c, x, IMPATIENCE_MS)) {
        propose_step(c, s, RESHARD_STEP_UNDO, x->id, NULL);
    }
}

static void scale(struct controller *c, const struct map_stream *s, struct placement_node *nodes, unsigned n_nodes)
{
    struct reshard_step_plan plan[BEGINS_MAX];
    unsigned n = reshard_plan(s, s->target, plan, (unsigned)min_u64(BEGINS_MAX, RESHARDS_MAX - s->n_reshards));
    for (unsigned i = 0; i < n; i++) {
        struct controller_entry e = {.n_parents = plan[i].n_parents, .at = plan[i].at, .target = s->target};
        memcpy(e.stream_id, s->id, 16);
        memcpy(e.parents, plan[i].parents, sizeof e.parents);
        bool begun = reshard_place(c, s, &e, nodes, n_nodes) && reconciler_propose(c, &e);
        free(e.placement);
        if (!begun) {
            reconciler_note(c, "stream %.40s: its number of shards goes to %u when enough nodes are up for new ones", s->name, s->target);
            return;
        }
    }
    reconciler_note(c, "stream %.40s: its number of shards goes to %u; it has %u now", s->name, s->target, s->n_open);
}

void reconcile_reshards(struct controller *c, const struct map_stream *s, struct placement_node *nodes, unsigned n_nodes)
{
    if (s->status == STREAM_DELETING) {
        return;
    }
    for (unsigned i = 0; i < s->n_reshards; i++) {
        const struct map_reshard *x = &s->reshards[i];
        if (x->decided) {
            go_forward(c, s, x);
        } else {
            prepare(c, s, x);
        }
    }
    if (s->target != 0) {
        scale(c, s, nodes, n_nodes);
    }
    for (unsigned i = 0; i < s->n_shards; i++) {
        const struct map_shard *m = &s->shards[i];
        const struct actual_group *a = m->ended && m->reshard == 0 ? actual_group(c, m->group) : NULL;
        if (a != NULL && a->expired && group_led(c, a)) {
            propose_step(c, s, RESHARD_STEP_GONE, 0, m);
        }
    }
}
