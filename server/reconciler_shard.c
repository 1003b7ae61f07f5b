/* One step for one shard. In this order, the first that applies:
 *   1. its group is led? else only a note
 *   2. the group's configuration follows the map: members that are in no map go; joining ones come: spare -> standby -> voter when caught up -> JOINED; leaving ones go -> GONE
 *   3. a replica whose log is lost joins anew on its node; one on a node that is dead for long, elsewhere; one on a draining node moves
 *   4. the preferred leader: chosen anew if its node drains or stops; moved back to it when it is up, ready, and at the end of the log, not within 10 s of an election
 * Dead replicas are dropped from the map before their successor votes: the group's quorum needs the same live nodes either way (rule F5: never the same id again). */
#include "server/controller_impl.h"

enum { CAUGHT_UP_ENTRIES = 64, HYSTERESIS_MS = 10000, UP_STABLE_MS = 3000, JOINS_MAX = 8, NODE_STOPPED_MS = 5000 };

static const struct group_peer *peer_of(const struct actual_group *a, uint64_t raft_id)
{
    for (unsigned i = 0; i < a->n_peers; i++) {
        if (a->peers[i].raft_id == raft_id) {
            return &a->peers[i];
        }
    }
    return NULL;
}

static bool wanted(const struct map_shard *s, uint64_t raft_id)
{
    for (unsigned i = 0; i < s->n_replicas; i++) {
        if (raft_id_make(s->replicas[i].node, s->replicas[i].generation) == raft_id) {
            return true;
        }
    }
    return false;
}

static void propose_replica(struct controller *c, const struct map_shard *s, enum replica_op op, const struct map_replica *r, uint32_t to)
{
    struct controller_entry e = {.kind = CONTROLLER_REPLICA, .group = s->group, .op = op, .to_node = to};
    if (r != NULL) {
        e.replica_node = r->node;
        e.replica_generation = r->generation;
    }
    reconciler_propose(c, &e);
}

static bool is_lost(const struct actual_group *a, const struct map_replica *r)
{
    for (unsigned i = 0; i < LOST_MAX; i++) {
        if (a->lost[i] == raft_id_make(r->node, r->generation)) {
            return true;
        }
    }
    return false;
}

/* True: a step was taken, or one is awaited. */
static bool follow_map(struct controller *c, const struct map_shard *s, struct actual_group *a)
{
    for (unsigned i = 0; i < a->n_peers; i++) {
        uint64_t raft_id = a->peers[i].raft_id;
        if (!wanted(s, raft_id)) {
            if (raft_id == a->leader_raft_id) {
                reconciler_order(c, a, SLUICE__REPLICA_ORDER__KIND__TRANSFER, 0);
            } else {
                reconciler_order(c, a, SLUICE__REPLICA_ORDER__KIND__REMOVE, raft_id);
            }
            return true;
        }
    }
    for (unsigned i = 0; i < s->n_replicas; i++) {
        const struct map_replica *r = &s->replicas[i];
        uint64_t raft_id = raft_id_make(r->node, r->generation);
        const struct group_peer *p = peer_of(a, raft_id);
        if (r->joining) {
            c->rec.joins++;
            if (is_lost(a, r)) {
                continue; /* it will never catch up, though its node is up: it gets another generation */
            }
            if (p != NULL && p->voter) {
                propose_replica(c, s, REPLICA_OP_JOINED, r, 0);
                return true;
            }
            reconciler_note(c, "group %llu: replica on node %u %s", (unsigned long long)s->group, r->node,
                            !node_up(c, r->node) ? "joins when its node is up" : p == NULL ? "is being added" : p->standby ? "catches up" : "is being seeded");
            if (!node_up(c, r->node) && p == NULL) {
                continue;
            }
            if (p == NULL) {
                reconciler_order(c, a, SLUICE__REPLICA_ORDER__KIND__ADD_SPARE, raft_id);
            } else if (!p->standby) {
                reconciler_order(c, a, SLUICE__REPLICA_ORDER__KIND__ASSIGN_STANDBY, raft_id);
            } else if (p->match_index + CAUGHT_UP_ENTRIES >= a->last_index) {
                reconciler_order(c, a, SLUICE__REPLICA_ORDER__KIND__ASSIGN_VOTER, raft_id);
            }
            return node_up(c, r->node);
        }
        if (r->leaving) {
            if (p == NULL) {
                propose_replica(c, s, REPLICA_OP_GONE, r, 0);
            } else if (raft_id == a->leader_raft_id) {
                reconciler_order(c, a, SLUICE__REPLICA_ORDER__KIND__TRANSFER, 0);
            } else {
                reconciler_order(c, a, SLUICE__REPLICA_ORDER__KIND__REMOVE, raft_id);
            }
            return true;
        }
    }
    return false;
}

static bool being_replaced(const struct map_shard *s, const struct map_replica *r)
{
    for (unsigned i = 0; i < s->n_replicas; i++) {
        if (s->replicas[i].replaces_node == r->node && s->replicas[i].replaces_generation == r->generation) {
            return true;
        }
    }
    return false;
}

static uint32_t another_node(struct controller *c, const struct map_shard *s, const struct map_replica *leaves, struct placement_node *nodes, unsigned n_nodes)
{
    /* The zone of the one that leaves counts as free, so it is left out; its node is not usable anyway unless it is the only choice. */
    uint32_t have[REPLICAS_MAX];
    unsigned n = 0;
    for (unsigned i = 0; i < s->n_replicas; i++) {
        if (&s->replicas[i] != leaves) {
            have[n++] = s->replicas[i].node;
        }
    }
    bool was = false;
    for (unsigned i = 0; leaves != NULL && i < n_nodes; i++) {
        if (nodes[i].id == leaves->node) {
            was = nodes[i].usable;
            nodes[i].usable = false;
        }
    }
    uint32_t to = placement_add(nodes, n_nodes, have, n, (uint32_t)s->group);
    for (unsigned i = 0; leaves != NULL && i < n_nodes; i++) {
        if (nodes[i].id == leaves->node) {
            nodes[i].usable = was;
        }
    }
    (void)c;
    return to;
}

/* True: a step was taken. */
static bool renew_replicas(struct controller *c, const struct map_shard *s, const struct actual_group *a, struct placement_node *nodes, unsigned n_nodes)
{
    unsigned staying = 0;
    for (unsigned i = 0; i < s->n_replicas; i++) {
        const struct map_replica *r = &s->replicas[i];
        const struct map_node *n = cluster_map_node(c->map, r->node);
        staying += !r->leaving && r->replaces_node == 0;
        if (r->leaving || n == NULL || being_replaced(s, r)) {
            continue;
        }
        /* Not held up by the bound on joins: one that was lost while it joined counts there, and would wait for itself. */
        if (is_lost(a, r) && (r->joining || c->rec.joins < JOINS_MAX)) {
            propose_replica(c, s, REPLICA_OP_REPLACE, r, r->node);
            return true;
        }
        if (c->rec.joins >= JOINS_MAX) {
            continue;
        }
        uint64_t down = node_down_ms(c, r->node);
        bool dead = (n->state == NODE_DEAD && down > c->settings->replace_after_s * 1000) || (n->state == NODE_DRAINING && down > NODE_STOPPED_MS);
        bool drain = n->state == NODE_DRAINING && down == 0 && !r->joining;
        if (!dead && !drain) {
            continue;
        }
        uint32_t to = another_node(c, s, r, nodes, n_nodes);
        if (to == 0) {
            reconciler_note(c, "group %llu: no node can take the replica of node %u", (unsigned long long)s->group, r->node);
            continue;
        }
        c->rec.joins++;
        propose_replica(c, s, dead ? REPLICA_OP_REPLACE : REPLICA_OP_MOVE, r, to);
        return true;
    }
    if (staying < s->stream->replicas && c->rec.joins < JOINS_MAX) {
        uint32_t to = another_node(c, s, NULL, nodes, n_nodes);
        if (to != 0) {
            c->rec.joins++;
            propose_replica(c, s, REPLICA_OP_MOVE, NULL, to);
            return true;
        }
    }
    return false;
}

static bool may_lead(const struct controller *c, const struct map_replica *r)
{
    const struct map_node *n = cluster_map_node(c->map, r->node);
    const struct actual_node *a = actual_node(c, r->node);
    return !r->joining && !r->leaving && n != NULL && n->state == NODE_ALIVE && node_up(c, r->node) && a != NULL && !a->stopping;
}

static void move_leader(struct controller *c, const struct map_shard *s, struct actual_group *a, struct placement_node *nodes, unsigned n_nodes)
{
    const struct map_replica *preferred = cluster_map_replica(s, s->preferred_leader);
    const struct map_node *n = cluster_map_node(c->map, s->preferred_leader);
    if (preferred == NULL || preferred->leaving || n == NULL || n->state == NODE_DRAINING || n->state == NODE_REMOVED) {
        uint32_t able[REPLICAS_MAX];
        unsigned k = 0;
        for (unsigned i = 0; i < s->n_replicas; i++) {
            if (may_lead(c, &s->replicas[i])) {
                able[k++] = s->replicas[i].node;
            }
        }
        uint32_t to = k > 0 ? placement_leader(nodes, n_nodes, able, k, (uint32_t)s->group) : 0;
        if (to != 0) {
            struct controller_entry e = {.kind = CONTROLLER_PREFERRED, .group = s->group, .replica_node = to};
            reconciler_propose(c, &e);
        }
        return;
    }
    uint64_t now = controller_now(c);
    const struct actual_node *up = actual_node(c, s->preferred_leader);
    if (a->leader == s->preferred_leader || !may_lead(c, preferred) || now < up->up_since_ms + UP_STABLE_MS || now < a->since_ms + HYSTERESIS_MS) {
        return;
    }
    uint64_t raft_id = raft_id_make(preferred->node, preferred->generation);
    const struct group_peer *p = peer_of(a, raft_id);
    if (p != NULL && p->voter && p->match_index + CAUGHT_UP_ENTRIES >= a->last_index) {
        reconciler_order(c, a, SLUICE__REPLICA_ORDER__KIND__TRANSFER, raft_id);
    }
}

void reconcile_shard(struct controller *c, const struct map_shard *s, struct placement_node *nodes, unsigned n_nodes)
{
    struct actual_group *a = actual_group(c, s->group);
    unsigned live = 0;
    for (unsigned i = 0; i < s->n_replicas; i++) {
        const struct map_replica *r = &s->replicas[i];
        live += !r->joining && !r->leaving && node_up(c, r->node) && (a == NULL || !is_lost(a, r));
    }
    if (!group_led(c, a)) {
        if (live * 2 <= s->n_replicas) {
            reconciler_note(c, "group %llu (stream %.40s shard %u) has no leader: %u of %u replicas are up", (unsigned long long)s->group, s->stream->name, s->shard, live,
                            s->n_replicas);
        }
        return;
    }
    if (a->ordered || controller_now(c) < a->order_after_ms) {
        for (unsigned i = 0; i < s->n_replicas; i++) {
            c->rec.joins += s->replicas[i].joining;
        }
        return;
    }
    if (follow_map(c, s, a) || renew_replicas(c, s, a, nodes, n_nodes)) {
        return;
    }
    move_leader(c, s, a, nodes, n_nodes);
}
