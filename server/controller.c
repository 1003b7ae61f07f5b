/* The controller group on this node: its replica, its machine, proposals, and the maps that the node reads. */
#include "server/controller_impl.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "server/formation.h"

uint64_t controller_now(const struct controller *c) { return env_now_ms(c->o.env); }

void controller_address(const struct map_node *n, char out[80]) { snprintf(out, 80, strchr(n->host, ':') != NULL ? "[%s]:%u" : "%s:%u", n->host, n->port); }

/* ---- maps ---- */

struct cluster_map *controller_fresh_map(struct controller *c)
{
    if (c->map_dirty || c->map == NULL) {
        struct cluster_map *map = controller_machine_map(c->machine);
        if (map != NULL) {
            cluster_map_unref(c->map);
            c->map = map;
            c->map_told = false;
        }
        c->map_dirty = false;
    }
    return c->map;
}

/* A node that came back with an empty disk replays a log that still names its old replicas as "first". It must not create those: no map is told
 * before it shows this node's present life (F5). */
static bool map_counts(const struct controller *c, const struct cluster_map *map)
{
    if (c->o.join_incarnation == 0) {
        return true;
    }
    const struct map_node *own = cluster_map_node(map, c->self);
    return own != NULL && own->incarnation >= c->o.join_incarnation;
}

static void set_peers(struct controller *c, const struct cluster_map *map)
{
    for (unsigned i = 0; i < map->n_nodes; i++) {
        const struct map_node *n = &map->nodes[i];
        if (n->id == c->self) {
            continue;
        }
        if (n->state == NODE_REMOVED) {
            peer_client_remove(c->peers, n->id);
        } else {
            peer_client_set(c->peers, n->id, n->host, n->port);
        }
    }
}

static void publish(struct env_task *t)
{
    struct controller *c = container_of(t, struct controller, publish);
    if (c->closing) {
        return;
    }
    struct cluster_map *map = controller_fresh_map(c);
    if (map == NULL || c->map_told || !map_counts(c, map)) {
        return;
    }
    c->map_told = true;
    set_peers(c, map);
    c->o.map_changed(c->o.arg, cluster_map_ref(map));
    controller_features_step(c); /* a cluster of one goes on at once */
    calls_map_changed(c);
}

static void machine_changed(struct controller *c)
{
    c->map_dirty = true;
    c->rec.stirred = true;
    if (c->closing) {
        return; /* nothing may be queued that could outlive c */
    }
    env_defer(c->o.env, &c->publish, publish);
}

/* ---- the sink ---- */

static void sink_apply(void *arg, uint64_t index, uint64_t term, const void *data, uint32_t len, const struct place *place)
{
    (void)place;
    struct controller *c = arg;
    struct controller_result r;
    int code = controller_machine_apply(c->machine, index, data, len, &r);
    if (code != SLUICE_E_OK) {
        char why[128];
        snprintf(why, sizeof why, "controller entry %llu cannot be applied: %s", (unsigned long long)index, sluice_error_text(code));
        env_fatal(c->o.env, ENV_EXIT_FORMAT, why);
        return;
    }
    for (struct proposal *p = c->proposals; p != NULL; p = p->next) {
        if (p->p.index == index && p->p.term == term) {
            p->result = r;
            p->applied = true;
        }
    }
    machine_changed(c);
}

static int sink_snapshot(void *arg, void **data, uint32_t *len)
{
    struct controller *c = arg;
    struct out_buffer out = {0};
    controller_machine_snapshot(c->machine, &out);
    *data = out.data;
    *len = (uint32_t)out.len;
    return 0;
}

static int sink_restore(void *arg, const void *data, uint32_t len, bool local)
{
    (void)local;
    struct controller *c = arg;
    struct controller_machine *m;
    int code = controller_machine_restore(&m, data, len);
    if (code != SLUICE_E_OK) {
        return code;
    }
    controller_machine_free(c->machine);
    c->machine = m;
    controller_machine_disable(m, c->settings->test_disable_server);
    machine_changed(c);
    return 0;
}

static int sink_range(void *arg, const void *data, uint32_t len, uint64_t *first, uint64_t *next)
{
    (void)arg;
    (void)data;
    (void)len;
    *first = *next = 0;
    return 0;
}

static void look_at_role(struct controller *c)
{
    bool leading = c->group != NULL && group_ready(c->group);
    if (leading && !c->leading) {
        c->leading_since_ms = controller_now(c);
        c->init_proposed = false;
        reports_lead(c);
    }
    c->leading = leading;
}

static void sink_role(void *arg)
{
    struct controller *c = arg;
    look_at_role(c);
    c->own_changed = true;
}

/* ---- proposals ---- */

static void proposal_done(struct group_propose *gp, int status)
{
    struct proposal *p = container_of(gp, struct proposal, p);
    struct controller *c = p->c;
    struct proposal **at = &c->proposals;
    while (*at != p) {
        at = &(*at)->next;
    }
    *at = p->next;
    if (status == 0) {
        sluice_assert(p->applied);
        p->done(p->arg, p->result.code, &p->result);
    } else {
        p->done(p->arg, status, NULL);
    }
    free(p);
}

int controller_propose(struct controller *c, struct controller_entry *e, propose_done done, void *arg)
{
    if (!controller_ready(c)) {
        return SLUICE_E_NOT_LEADER;
    }
    e->now_ms = max_u64(env_wall_ms(c->o.env), controller_machine_time_ms(c->machine));
    struct out_buffer out = {0};
    controller_entry_encode(e, &out);
    void *data = group_buffer_alloc(out.len);
    if (data == NULL) {
        free(out.data);
        return SLUICE_E_MEMORY;
    }
    memcpy(data, out.data, out.len);
    struct proposal *p = xcalloc(1, sizeof *p);
    p->c = c;
    p->done = done;
    p->arg = arg;
    p->next = c->proposals; /* known before the call: index and term are set inside it */
    c->proposals = p;
    int code = group_propose(c->group, &p->p, data, (uint32_t)out.len, 0, 0, 0, proposal_done);
    free(out.data);
    if (code != 0) {
        group_buffer_free(data);
        sluice_assert(c->proposals == p);
        c->proposals = p->next;
        free(p);
    }
    return code;
}

static void init_done(void *arg, int code, const struct controller_result *r)
{
    (void)r;
    struct controller *c = arg;
    if (code != SLUICE_E_OK) {
        c->init_proposed = false; /* again by whoever leads */
    }
}

/* The first leader of a new cluster writes down what formation agreed upon; every first node would write the same. */
static void propose_init(struct controller *c)
{
    if (controller_machine_initialized(c->machine) || c->init_proposed || c->n_first == 0) {
        return;
    }
    struct controller_entry e = {.kind = CONTROLLER_INIT, .nodes = c->first_nodes, .n_nodes = c->n_first,
                                 .n_voters = (uint32_t)min_u64(c->settings->controller_nodes, c->n_first)};
    memcpy(e.cluster_id, node_identity(c->o.node)->cluster_id, 16);
    c->init_proposed = controller_propose(c, &e, init_done, c) == 0;
}

/* ---- life ---- */

static void on_tick(struct env_timer *t)
{
    struct controller *c = container_of(t, struct controller, tick);
    env_timer_start_ms(&c->tick, CONTROLLER_TICK_MS);
    look_at_role(c);
    if (controller_ready(c)) {
        propose_init(c);
        controller_features_step(c);
    }
    reports_tick(c);
    if (controller_ready(c) && controller_machine_initialized(c->machine)) {
        reconciler_tick(c);
    }
    calls_tick(c);
}

static int compare_nodes(const void *a, const void *b)
{
    const struct map_node *x = a;
    const struct map_node *y = b;
    return (x->id > y->id) - (x->id < y->id);
}

int controller_open(struct controller **out, const struct controller_options *o, const struct map_node *first_nodes, unsigned n_first)
{
    sluice_assert(n_first <= NODES_MAX);
    struct controller *c = xcalloc(1, sizeof *c);
    c->o = *o;
    c->settings = node_settings(o->node);
    c->self = node_id(o->node);
    c->machine = controller_machine_new();
    controller_machine_disable(c->machine, c->settings->test_disable_server);
    c->n_first = n_first;
    if (n_first > 0) {
        memcpy(c->first_nodes, first_nodes, n_first * sizeof *first_nodes);
        qsort(c->first_nodes, n_first, sizeof *c->first_nodes, compare_nodes);
    }
    struct peer_client_options po = {.env = o->env, .node_id = c->self, .incarnation = node_identity(o->node)->incarnation};
    memcpy(po.cluster_id, node_identity(o->node)->cluster_id, 16);
    int rc = peer_client_open(&c->peers, &po);
    if (rc != 0) {
        goto fail_machine;
    }
    for (unsigned i = 0; i < n_first; i++) {
        if (c->first_nodes[i].id != c->self) {
            peer_client_set(c->peers, c->first_nodes[i].id, c->first_nodes[i].host, c->first_nodes[i].port);
        }
    }
    /* A node that joined knows the leader's number before its first map tells the address. */
    struct map_node listed[NODES_MAX];
    char err[256];
    int n_listed = formation_parse_cluster(c->settings->cluster, listed, NODES_MAX, err);
    for (int i = 0; i < n_listed; i++) {
        if (listed[i].id != c->self) {
            peer_client_set(c->peers, listed[i].id, listed[i].host, listed[i].port);
        }
    }
    rc = env_timer_init(o->env, &c->tick, on_tick);
    if (rc != 0) {
        goto fail_peers;
    }
    struct group_member members[NODES_MAX];
    for (unsigned i = 0; i < n_first; i++) {
        members[i] = (struct group_member){.raft_id = raft_id_make(c->first_nodes[i].id, 1), .voter = i < c->settings->controller_nodes};
    }
    struct group_options go = {.group = CONTROLLER_GROUP, .recovered = o->recovered, .heartbeat_ms = CONTROLLER_HEARTBEAT_MS, .election_ms = CONTROLLER_ELECTION_MS};
    go.raft_id = o->recovered != NULL ? o->recovered->raft_id : raft_id_make(c->self, o->controller_generation != 0 ? o->controller_generation : 1);
    if (o->recovered == NULL && n_first > 0) {
        go.members = members;
        go.n_members = n_first;
        go.prefer_leader = c->first_nodes[0].id == c->self;
    }
    go.sink = (struct group_sink){.arg = c, .apply = sink_apply, .snapshot = sink_snapshot, .restore = sink_restore, .range = sink_range, .role = sink_role};
    rc = group_open(o->groups, &go, &c->group);
    if (rc != 0) {
        goto fail_timer;
    }
    env_timer_start_ms(&c->tick, 1);
    *out = c;
    return 0;

fail_timer:
    env_timer_close(&c->tick);
fail_peers:
    peer_client_close(c->peers, NULL, NULL);
fail_machine:
    controller_machine_free(c->machine);
    cluster_map_unref(c->map);
    free(c);
    return rc;
}

static void free_if_closed(struct controller *c)
{
    if (!c->closing || c->closing_left > 0 || c->async > 0) {
        return;
    }
    reports_close(c);
    controller_machine_free(c->machine);
    cluster_map_unref(c->map);
    void (*done)(void *) = c->close_done;
    void *done_arg = c->close_arg;
    free(c);
    done(done_arg);
}

static void closed_part(void *arg)
{
    struct controller *c = arg;
    c->closing_left--;
    free_if_closed(c);
}

void controller_async_done(struct controller *c)
{
    c->async--;
    free_if_closed(c);
}

/* Both parts are closed by callbacks; the peer client may be done inside its close, so a third part holds c until both were asked. A publish that is still queued
 * keeps c too: it runs at the end of this turn, before any later event. */
static void close_hold(struct env_timer *t)
{
    struct controller *c = container_of(t, struct controller, tick);
    env_timer_close(&c->tick);
    closed_part(c);
}

void controller_close(struct controller *c, void (*done)(void *arg), void *arg)
{
    sluice_assert(!c->closing);
    c->close_done = done;
    c->close_arg = arg;
    c->closing_left = 3;
    calls_close(c);
    c->closing = true;
    env_timer_close(&c->tick);
    if (env_timer_init(c->o.env, &c->tick, close_hold) == 0) {
        env_timer_start_ms(&c->tick, 1);
    } else {
        c->closing_left--;
    }
    peer_client_close(c->peers, closed_part, c);
    group_close(c->group, false, closed_part, c);
}

bool controller_ready(const struct controller *c) { return !c->closing && c->group != NULL && group_ready(c->group); }
uint32_t controller_leader_node(const struct controller *c) { return c->group == NULL ? 0 : raft_id_node(group_leader(c->group)); }

void controller_peer_lost(struct controller *c, uint32_t node) { peer_client_lost(c->peers, node); }

void controller_replicas_changed(struct controller *c)
{
    c->own_changed = true;
}

void controller_stopping(struct controller *c)
{
    c->stopping = true;
    c->own_changed = true;
}
