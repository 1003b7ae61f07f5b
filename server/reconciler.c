/* The reconciler: on the controller's leader, compares what the log wants with what the nodes report, and takes one small step after another. Every step is
 * an entry or an order that is safe to repeat, so a new leader just goes on. Steps wait for those before them: a pass runs when no entry of an earlier pass is
 * on its way, and a group gets one order at a time.
 *
 * Nodes: no report for a while -> DEAD; reports again -> ALIVE. JOINING -> ALIVE when its controller replica follows. Controller group: as many voters as
 * settings.controller_nodes and live nodes allow (odd), everybody else a standby. Streams: CREATING -> ACTIVE when every shard is led; DELETING -> gone.
 * Shards: reconciler_shard.c. Splits and merges: reconciler_reshard.c. */
#include "server/controller_impl.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { PASS_MS = 100, IDLE_PASS_MS = 1000, PROPOSALS_MAX = 64, CONTROLLER_CHANGE_PAUSE_MS = 1000, BALANCE_MS = 2000, UP_STABLE_MS = 5000, CAUGHT_UP_ENTRIES = 256, ORDER_PAUSE_MS = 400,
       ORDER_RETRY_MS = 2000, ORDER_TIMEOUT_MS = 60000,
       VOTER_PATIENCE_MS = 10000 };

void reconciler_note(struct controller *c, const char *format, ...)
{
    if (c->rec.n_notes == NOTES_MAX) {
        return;
    }
    va_list args;
    va_start(args, format);
    vsnprintf(c->rec.notes[c->rec.n_notes++], NOTE_LEN, format, args);
    va_end(args);
}

/* ---- entries and orders ---- */

static void proposed(void *arg, int code, const struct controller_result *r)
{
    (void)code; /* the next pass sees what came of it */
    (void)r;
    struct controller *c = arg;
    c->rec.proposals--;
}

bool reconciler_propose(struct controller *c, struct controller_entry *e)
{
    if (c->rec.proposals >= PROPOSALS_MAX || controller_propose(c, e, proposed, c) != 0) {
        return false;
    }
    c->rec.proposals++;
    return true;
}

/* An order to a node, here or elsewhere. Outlives the controller's closing only as `async`, which the closing waits for. */
struct order_out { struct controller *c; void (*done)(void *arg, int code); void *arg; };

static void order_over(struct order_out *o, int code)
{
    struct controller *c = o->c;
    o->done(o->arg, code);
    free(o);
    controller_async_done(c);
}

static void order_here_done(void *arg, int code) { order_over(arg, code); }

static void order_there_done(void *arg, int code, uint8_t kind, const void *message, size_t len)
{
    (void)message;
    (void)len;
    order_over(arg, code == SLUICE_E_OK && kind != FRAME_REPLICA_REPLY ? SLUICE_E_PROTOCOL : code);
}

int controller_order(struct controller *c, uint32_t node, uint64_t group, int kind, uint64_t raft_id, void (*done)(void *arg, int code), void *arg)
{
    struct order_out *o = xmalloc(sizeof *o);
    *o = (struct order_out){.c = c, .done = done, .arg = arg};
    c->async++;
    if (node == c->self) {
        c->o.order(c->o.arg, group, kind, raft_id, order_here_done, o);
        return SLUICE_E_OK;
    }
    Sluice__ReplicaOrder m = SLUICE__REPLICA_ORDER__INIT;
    m.group = group;
    m.kind = (Sluice__ReplicaOrder__Kind)kind;
    m.raft_id = raft_id;
    int code = peer_client_request(c->peers, node, FRAME_REPLICA, &m, ORDER_TIMEOUT_MS, order_there_done, o);
    if (code != SLUICE_E_OK) {
        c->async--;
        free(o);
    }
    return code;
}

/* Groups are forgotten when leadership moves; so the answer finds its group by id, and only the one that waits for it. */
struct group_order { struct controller *c; uint64_t group; int kind; };

static void group_ordered(void *arg, int code)
{
    struct group_order *o = arg;
    struct controller *c = o->c;
    c->rec.orders--;
    c->rec.stirred = true;
    c->rec.transfers -= o->kind == SLUICE__REPLICA_ORDER__KIND__TRANSFER;
    struct actual_group *a = actual_group(c, o->group);
    if (a != NULL) {
        a->ordered = false;
        a->order_after_ms = controller_now(c) + (code == SLUICE_E_OK ? ORDER_PAUSE_MS : ORDER_RETRY_MS);
    }
    free(o);
}

bool reconciler_order(struct controller *c, struct actual_group *a, int kind, uint64_t raft_id)
{
    enum { ORDERS_MAX = 16, TRANSFERS_MAX = 8 };
    bool transfer = kind == SLUICE__REPLICA_ORDER__KIND__TRANSFER;
    if (a->ordered || controller_now(c) < a->order_after_ms || c->rec.orders >= ORDERS_MAX || (transfer && c->rec.transfers >= TRANSFERS_MAX)) {
        return false;
    }
    struct group_order *o = xmalloc(sizeof *o);
    *o = (struct group_order){.c = c, .group = a->group, .kind = kind};
    c->rec.orders++;
    c->rec.transfers += transfer;
    a->ordered = true;
    if (controller_order(c, a->leader, a->group, kind, raft_id, group_ordered, o) != SLUICE_E_OK) {
        group_ordered(o, SLUICE_E_NO_CONNECTION);
        return false;
    }
    return true;
}

/* ---- nodes ---- */

static void propose_state(struct controller *c, uint32_t node, enum node_state state)
{
    struct controller_entry e = {.kind = CONTROLLER_NODE_STATE};
    e.node.id = node;
    e.node.state = state;
    reconciler_propose(c, &e);
}

static const struct map_replica *member_of(const struct cluster_map *map, uint32_t node, bool *voter)
{
    for (unsigned i = 0; i < map->n_controller; i++) {
        if (map->controller[i].node == node) {
            *voter = i < map->n_controller_voters;
            return &map->controller[i];
        }
    }
    *voter = false;
    return NULL;
}

static const struct group_peer *peer_of(const struct group_peer *peers, unsigned n, uint64_t raft_id)
{
    for (unsigned i = 0; i < n; i++) {
        if (peers[i].raft_id == raft_id) {
            return &peers[i];
        }
    }
    return NULL;
}

static void reconcile_nodes(struct controller *c, const struct cluster_map *map, const struct group_peer *peers, unsigned n_peers)
{
    for (unsigned i = 0; i < map->n_nodes; i++) {
        const struct map_node *n = &map->nodes[i];
        bool up = node_up(c, n->id);
        uint64_t down = node_down_ms(c, n->id);
        if (n->state == NODE_ALIVE && !up && down > c->settings->silence_ms + REPORT_LATE_MS) {
            propose_state(c, n->id, NODE_DEAD);
        } else if (n->state == NODE_DEAD && up) {
            propose_state(c, n->id, NODE_ALIVE);
        } else if (n->state == NODE_JOINING) {
            bool voter;
            const struct map_replica *m = member_of(map, n->id, &voter);
            const struct group_peer *p = m != NULL ? peer_of(peers, n_peers, raft_id_make(m->node, m->generation)) : NULL;
            if (up && p != NULL && (p->standby || p->voter) && p->match_index + CAUGHT_UP_ENTRIES >= group_commit_index(c->group)) {
                propose_state(c, n->id, NODE_ALIVE);
            } else {
                reconciler_note(c, "node %u joins: %s", n->id, m == NULL ? "it has not been seen yet" : p == NULL ? "becoming a member of the controller group" : "catching up");
            }
        } else if (n->state == NODE_DEAD) {
            reconciler_note(c, "node %u is down for %llu s; its replicas are replaced after %llu s", n->id, (unsigned long long)(down / 1000),
                            (unsigned long long)c->settings->replace_after_s);
        } else if (n->state == NODE_DRAINING) {
            unsigned left = 0;
            for (unsigned k = 0; k < map->n_streams; k++) {
                for (unsigned s = 0; s < map->streams[k].n_shards; s++) {
                    left += cluster_map_replica(&map->streams[k].shards[s], n->id) != NULL;
                }
            }
            reconciler_note(c, left == 0 ? "node %u is drained and may be removed (%u replicas)" : "node %u drains: %u replicas left", n->id, left);
        }
    }
}

/* ---- the controller group itself ---- */

static void controller_changed(void *arg, int status)
{
    (void)status; /* the next pass looks at the configuration */
    struct controller *c = arg;
    c->rec.group_change = false;
    c->rec.stirred = true;
    c->rec.group_change_after_ms = controller_now(c) + 200;
    controller_async_done(c);
}

static bool change_controller(struct controller *c, enum group_change_kind kind, uint64_t raft_id)
{
    c->async++;
    c->rec.group_change = true;
    if (group_change(c->group, kind, raft_id, controller_changed, c) != 0) {
        c->async--;
        c->rec.group_change = false;
        c->rec.group_change_after_ms = controller_now(c) + CONTROLLER_CHANGE_PAUSE_MS;
    }
    return true;
}

/* One step of the configuration towards the map. Lost and removed replicas go first (they are dead weight in every quorum), then the missing come, then voters are
 * added, and only when all wanted ones vote are others made standbys: never fewer voters than there were. True: a step was taken. */
static bool reconcile_members(struct controller *c, const struct cluster_map *map, const struct group_peer *peers, unsigned n_peers)
{
    for (unsigned i = 0; i < n_peers; i++) {
        bool voter;
        const struct map_replica *m = member_of(map, raft_id_node(peers[i].raft_id), &voter);
        bool wanted = m != NULL && raft_id_make(m->node, m->generation) == peers[i].raft_id;
        if (!wanted && peers[i].raft_id != group_raft_id(c->group)) {
            return change_controller(c, GROUP_REMOVE, peers[i].raft_id);
        }
    }
    bool all_vote = true;
    for (unsigned i = 0; i < map->n_controller; i++) {
        const struct map_replica *m = &map->controller[i];
        uint64_t raft_id = raft_id_make(m->node, m->generation);
        const struct group_peer *p = peer_of(peers, n_peers, raft_id);
        if (p == NULL) {
            return change_controller(c, GROUP_ADD_SPARE, raft_id);
        }
        if (!p->voter && !p->standby) {
            return change_controller(c, GROUP_ASSIGN_STANDBY, raft_id);
        }
        if (i >= map->n_controller_voters || p->voter) {
            continue;
        }
        all_vote = false;
        if (node_up(c, m->node) && p->match_index + CAUGHT_UP_ENTRIES >= group_last_index(c->group)) {
            return change_controller(c, GROUP_ASSIGN_VOTER, raft_id);
        }
        reconciler_note(c, "node %u will vote in the controller group when it has caught up", m->node);
    }
    for (unsigned i = 0; i < n_peers && all_vote; i++) {
        bool voter;
        member_of(map, raft_id_node(peers[i].raft_id), &voter);
        if (!voter && peers[i].voter && peers[i].raft_id != group_raft_id(c->group)) {
            return change_controller(c, GROUP_ASSIGN_STANDBY, peers[i].raft_id);
        }
    }
    return false;
}

/* A node that may vote: one that is down for a moment keeps its place. */
static bool may_vote(const struct controller *c, const struct map_node *n)
{
    return n != NULL && (n->state == NODE_ALIVE || (n->state == NODE_DEAD && node_down_ms(c, n->id) < VOTER_PATIENCE_MS));
}

/* The leader is no wanted voter: one of those that are takes over. Any other could find that it is not wanted either, and hand over in turn for ever. */
static void hand_over_to(struct controller *c, const struct cluster_map *map, const uint32_t *want, unsigned n)
{
    reconciler_note(c, "the controller's leader hands over before it stops voting");
    if (c->rec.group_change || controller_now(c) < c->rec.group_change_after_ms) {
        return;
    }
    for (unsigned i = 0; i < n; i++) {
        bool voter;
        const struct map_replica *m = member_of(map, want[i], &voter);
        if (m == NULL || !voter || !node_up(c, want[i])) {
            continue;
        }
        c->async++;
        c->rec.group_change = true;
        if (group_transfer(c->group, raft_id_make(m->node, m->generation), controller_changed, c) == 0) {
            return;
        }
        c->async--;
        c->rec.group_change = false;
    }
}

/* Wanted voters: those that vote and live stay, the leader before all; others come by lowest id. A dead voter is replaced only when a live node can take its place. */
static void reconcile_voters(struct controller *c, const struct cluster_map *map)
{
    uint32_t want[REPLICAS_MAX];
    unsigned n = 0;
    unsigned live = 0;
    for (unsigned i = 0; i < map->n_controller; i++) {
        const struct map_node *node = cluster_map_node(map, map->controller[i].node);
        live += may_vote(c, node);
    }
    unsigned size = (unsigned)min_u64(c->settings->controller_nodes, max_u64(live, 1));
    size -= size % 2 == 0;
    /* Fewer live nodes than voters: keep the configuration; a voter that is down for a while comes back. Shrinking would lose what it can still do. */
    if (size < map->n_controller_voters && live < map->n_controller) {
        return;
    }
    for (unsigned pass = 0; pass < 3 && n < size; pass++) {
        for (unsigned i = 0; i < map->n_controller && n < size; i++) {
            const struct map_node *node = cluster_map_node(map, map->controller[i].node);
            bool voter = i < map->n_controller_voters;
            if (may_vote(c, node) && pass == (!voter ? 2u : node->id != c->self ? 1u : 0u)) {
                want[n++] = node->id;
            }
        }
    }
    unsigned kept = 0;
    for (unsigned i = 0; i < n; i++) {
        bool voter;
        member_of(map, want[i], &voter);
        kept += voter;
    }
    if (n == 0 || n % 2 == 0 || (kept == n && map->n_controller_voters == n)) {
        return;
    }
    bool self_wanted = false;
    for (unsigned i = 0; i < n; i++) {
        self_wanted = self_wanted || want[i] == c->self;
    }
    if (!self_wanted) {
        hand_over_to(c, map, want, n);
        return;
    }
    struct controller_entry e = {.kind = CONTROLLER_VOTERS, .n_voters = n};
    memcpy(e.voters, want, n * sizeof want[0]);
    reconciler_propose(c, &e);
}

/* ---- streams and leaders ---- */

static void reconcile_stream(struct controller *c, const struct map_stream *s)
{
    if (s->status == STREAM_DELETING) {
        struct controller_entry e = {.kind = CONTROLLER_STREAM_DELETE, .done = true};
        memcpy(e.stream_id, s->id, 16);
        reconciler_propose(c, &e);
        return;
    }
    if (s->status != STREAM_CREATING) {
        return;
    }
    unsigned led = 0;
    for (unsigned i = 0; i < s->n_shards; i++) {
        led += group_led(c, actual_group(c, s->shards[i].group));
    }
    if (led == s->n_shards) {
        struct controller_entry e = {.kind = CONTROLLER_STREAM_ACTIVE};
        memcpy(e.stream_id, s->id, 16);
        reconciler_propose(c, &e);
    } else {
        reconciler_note(c, "stream %.40s is being created: %u of %u shards have a leader", s->name, led, s->n_shards);
    }
}

/* Preferred leaderships are evened out, one at a time, while every node is up and settled. */
static void balance(struct controller *c, const struct cluster_map *map, const struct placement_node *nodes)
{
    uint64_t now = controller_now(c);
    const struct placement_node *most = NULL;
    const struct placement_node *least = NULL;
    for (unsigned i = 0; i < map->n_nodes; i++) {
        const struct actual_node *a = actual_node(c, nodes[i].id);
        if (map->nodes[i].state == NODE_DEAD || (nodes[i].usable && (a == NULL || now < a->up_since_ms + UP_STABLE_MS))) {
            return;
        }
        if (nodes[i].usable) {
            most = most == NULL || nodes[i].leaders > most->leaders ? &nodes[i] : most;
            least = least == NULL || nodes[i].leaders < least->leaders ? &nodes[i] : least;
        }
    }
    if (most == NULL || most->leaders < least->leaders + 2) {
        return;
    }
    for (unsigned i = 0; i < map->n_streams; i++) {
        for (unsigned k = 0; k < map->streams[i].n_shards; k++) {
            const struct map_shard *s = &map->streams[i].shards[k];
            const struct map_replica *r = s->preferred_leader == most->id ? cluster_map_replica(s, least->id) : NULL;
            if (r != NULL && !r->joining && !r->leaving) {
                struct controller_entry e = {.kind = CONTROLLER_PREFERRED, .group = s->group, .replica_node = least->id};
                reconciler_propose(c, &e);
                return;
            }
        }
    }
}

/* Forgets groups that were deleted. */
static void forget_deleted(struct controller *c, const struct cluster_map *map)
{
    for (size_t i = 0; i < c->actual.cap;) {
        struct actual_group *a = c->actual.slots[i].id != 0 ? c->actual.slots[i].value : NULL;
        if (a != NULL && cluster_map_shard_by_group(map, a->group) == NULL) {
            id_table_take(&c->actual, a->group);
            free(a); /* an order on its way finds it gone */
        } else {
            i++;
        }
    }
}

/* A pass looks at every shard. When the last one found nothing to do and nothing came since, another is needed only for what time alone brings about. */
static bool idle(struct controller *c, uint64_t now)
{
    unsigned up = 0;
    for (unsigned i = 0; i < c->n_actual_nodes; i++) {
        up += node_up(c, c->actual_nodes[i].id);
    }
    bool cause = c->rec.stirred || up != c->rec.nodes_up || now >= c->rec.idle_ms;
    c->rec.stirred = false;
    c->rec.nodes_up = up;
    return !cause;
}

void reconciler_tick(struct controller *c)
{
    uint64_t now = controller_now(c);
    if (now < c->rec.next_ms || c->rec.proposals > 0) {
        return;
    }
    c->rec.next_ms = now + PASS_MS;
    if (idle(c, now)) {
        return;
    }
    const struct cluster_map *map = cluster_map_ref(controller_fresh_map(c)); /* entries applied during the pass may publish another */
    c->rec.n_notes = 0;
    c->rec.joins = 0;
    struct group_peer peers[NODES_MAX * 2];
    unsigned n_peers = group_peers(c->group, peers, ARRAY_LEN(peers));
    reconcile_nodes(c, map, peers, n_peers);
    reconcile_voters(c, map);
    if (!c->rec.group_change && now >= c->rec.group_change_after_ms) {
        reconcile_members(c, map, peers, n_peers);
    }
    struct placement_node nodes[NODES_MAX];
    controller_placement(c, nodes, true);
    unsigned unwell = 0;
    for (unsigned i = 0; i < map->n_streams; i++) {
        const struct map_stream *s = &map->streams[i];
        reconcile_stream(c, s);
        reconcile_reshards(c, s, nodes, map->n_nodes);
        for (unsigned k = 0; k < s->n_shards && s->status != STREAM_DELETING; k++) {
            struct shard_look look;
            reconcile_shard(c, &s->shards[k], nodes, map->n_nodes);
            controller_look(c, &s->shards[k], &look);
            unwell += look.leader == 0 || look.under_replicated;
        }
    }
    if (now >= c->rec.balance_ms && c->rec.proposals == 0) {
        c->rec.balance_ms = now + BALANCE_MS;
        balance(c, map, nodes);
    }
    forget_deleted(c, map);
    bool busy = c->rec.n_notes + c->rec.joins + c->rec.orders + c->rec.proposals + unwell > 0 || c->rec.group_change;
    c->rec.idle_ms = busy ? 0 : now + IDLE_PASS_MS;
    cluster_map_unref((struct cluster_map *)map);
}
