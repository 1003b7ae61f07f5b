/* node_form.c: from a data folder to a running node: formation, lanes, controller (see formation.h for the order and its reasons). */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proto/base.h"
#include "server/node_impl.h"
#include "sluice.pb-c.h"

/* ---- controller ---- */

static void map_changed(void *arg, struct cluster_map *map)
{
    struct node *n = arg;
    if (n->map == NULL) {
        /* Entries were applied, so the controller group's own record is durable: an empty journal is from now on a loss, not a beginning. */
        int rc = formation_opened(n->formation);
        if (rc != 0) {
            log_error(&n->log, "cannot note that the controller runs", "reason=\"%s\"", strerror(-rc));
            env_fatal(n->env, ENV_EXIT_DISK, "cannot note that the controller runs");
            return;
        }
    } else {
        cluster_map_unref(n->map);
    }
    n->map = map;
    for (unsigned i = 0; i < n->n_lanes; i++) {
        lane_map(n->lanes[i], cluster_map_ref(map));
    }
}

static unsigned replicas(void *arg, struct replica_status *out, unsigned max)
{
    struct node *n = arg;
    unsigned count = 0;
    for (unsigned i = 0; i < n->n_lanes; i++) {
        for (unsigned k = 0; k < n->n_replicas[i] && count < max; k++) {
            out[count++] = n->replicas[i][k];
        }
    }
    return count;
}

struct order {
    struct node *node;
    uint64_t group, raft_id;
    int kind, code;
    void (*done)(void *darg, int code);
    void *darg;
};

static void order_back(struct lane *zero, void *arg)
{
    (void)zero;
    struct order *o = arg;
    o->done(o->darg, o->code);
    free(o);
}

static void order_done(void *arg, int status)
{
    struct order *o = arg;
    o->code = status;
    lane_run(o->node->lanes[0], order_back, o);
}

static void order_here(struct lane *l, void *arg)
{
    struct order *o = arg;
    struct group *g = l->closing ? NULL : groups_find(l->groups, o->group);
    int rc;
    if (g == NULL) {
        rc = SLUICE_E_NOT_FOUND;
    } else {
        switch (o->kind) {
        case SLUICE__REPLICA_ORDER__KIND__ADD_SPARE: rc = group_change(g, GROUP_ADD_SPARE, o->raft_id, order_done, o); break;
        case SLUICE__REPLICA_ORDER__KIND__ASSIGN_STANDBY: rc = group_change(g, GROUP_ASSIGN_STANDBY, o->raft_id, order_done, o); break;
        case SLUICE__REPLICA_ORDER__KIND__ASSIGN_VOTER: rc = group_change(g, GROUP_ASSIGN_VOTER, o->raft_id, order_done, o); break;
        case SLUICE__REPLICA_ORDER__KIND__REMOVE: rc = group_change(g, GROUP_REMOVE, o->raft_id, order_done, o); break;
        case SLUICE__REPLICA_ORDER__KIND__TRANSFER: rc = group_transfer(g, o->raft_id, order_done, o); break;
        case SLUICE__REPLICA_ORDER__KIND__CAMPAIGN:
            group_campaign(g);
            order_done(o, 0);
            return;
        default: rc = SLUICE_E_NOT_SUPPORTED; break;
        }
    }
    if (rc != 0) {
        order_done(o, rc);
    }
}

static void order(void *arg, uint64_t group, int kind, uint64_t raft_id, void (*done)(void *darg, int code), void *darg)
{
    struct node *n = arg;
    struct order *o = xcalloc(1, sizeof *o);
    *o = (struct order){ .node = n, .group = group, .raft_id = raft_id, .kind = kind, .done = done, .darg = darg };
    lane_run(lane_for_group(n->lanes[0], group), order_here, o);
}

static const struct recovered_group *recovered_controller(const struct node *n)
{
    const struct recovered *r = n->lanes[0]->recovered;
    for (size_t i = 0; i < r->n_groups; i++) {
        const struct recovered_group *g = &r->groups[i];
        if (g->group == CONTROLLER_GROUP && !g->removed && !g->lost && g->raft_id != 0) {
            return g;
        }
    }
    return NULL;
}

static void open_controller(struct node *n)
{
    const struct recovered_group *g = recovered_controller(n);
    if (g == NULL && n->formed.opened && formation_alone(n->formation)) {
        /* Nobody is known who could give what is missing, and going on without it would show an empty cluster in place of the old one. Nothing was changed or deleted. */
        static const char why[] = "the journal in lane-0 is damaged and has lost the cluster's own records, and no other node is known that has them: this node will not begin anew "
                                  "over its data. Put back a copy of the whole folder from before the damage; or, if the cluster has other nodes, name them in the setting "
                                  "'cluster'; or, if the data may be given up, start with an empty folder";
        log_error(&n->log, "damage", "folder=\"%s\" reason=\"%s\"", n->settings.data, why);
        env_fatal(n->env, ENV_EXIT_DAMAGE, why);
        return;
    }
    if (g == NULL && n->formed.opened) {
        log_warn(&n->log, "the controller's replica is gone from this disk; asking the cluster for a new one", NULL);
        n->phase = NODE_PHASE_FORMING;
        formation_rejoin(n->formation, n->lanes[0]->recovered->blank);
        return;
    }
    struct controller_options o = {
        .node = n, .env = n->env, .groups = n->lanes[0]->groups, .recovered = g, .join_incarnation = n->formed.join_incarnation,
        .controller_generation = n->formed.controller_generation, .arg = n, .map_changed = map_changed, .replicas = replicas, .order = order
    };
    n->phase = NODE_PHASE_RUNNING;
    int rc = controller_open(&n->controller, &o, n->formed.n_first > 0 ? n->formed.first_nodes : NULL, n->formed.n_first);
    if (rc != 0) {
        log_error(&n->log, "cannot open the controller", "code=%d", rc);
        env_fatal(n->env, rc > 0 ? rc : ENV_EXIT_DAMAGE, "cannot open the controller");
        return;
    }
    log_info(&n->log, "running", "listen=%s lanes=%u incarnation=%llu", n->address, n->n_lanes, (unsigned long long)n->identity.incarnation);
    if (n->settings.kinesis[0] != 0 && n->lanes[0]->kinesis == NULL) {
        lane_kinesis(n->lanes[0], 0);
    }
    if (n->stop_wanted) {
        node_stop(n, n->stop_done, n->stop_arg);
    }
}

/* ---- lanes ---- */

void node_lane_serving(struct node *n)
{
    if (++n->lanes_serving == n->n_lanes) {
        open_controller(n);
    }
}

static bool all_blank(const struct node *n)
{
    for (unsigned i = 0; i < n->n_lanes; i++) {
        if (!n->lanes[i]->recovered->blank) {
            return false;
        }
    }
    return true;
}

/* A lane that had a journal in an earlier life must have it still: its replicas' votes and records were in it, and opening them as new ones would break what they
 * promised (F5). New lanes are noted before anything is written to their journals' groups. */
static bool check_lanes(struct node *n)
{
    for (unsigned i = 0; i < n->n_lanes && i < n->identity.lanes && n->formed.opened; i++) {
        if (n->lanes[i]->recovered->blank && !(n->n_lanes == 1 || all_blank(n))) {
            char why[256];
            snprintf(why, sizeof why, "the journal of lane %u is gone; to rejoin the cluster with what the other nodes have, start with an empty data folder", i);
            log_error(&n->log, "damage", "reason=\"%s\"", why);
            env_fatal(n->env, ENV_EXIT_DAMAGE, why);
            return false;
        }
    }
    if (n->identity.lanes != n->n_lanes) {
        n->identity.lanes = n->n_lanes;
        int rc = identity_save(n->env, n->settings.data, &n->identity);
        if (rc != 0) {
            log_error(&n->log, "cannot save the identity", "reason=\"%s\"", strerror(-rc));
            env_fatal(n->env, ENV_EXIT_DISK, "cannot save the identity");
            return false;
        }
    }
    return true;
}

void node_lane_opened(struct node *n)
{
    if (++n->lanes_opened < n->n_lanes || !check_lanes(n)) {
        return;
    }
    size_t count = 0, n_notes = 0;
    for (unsigned i = 0; i < n->n_lanes; i++) {
        count += n->lanes[i]->recovered->n_groups;
        n_notes += n->lanes[i]->recovered->n_notes;
    }
    struct lane_note *notes = xcalloc(n_notes + 1, sizeof *notes);
    n_notes = 0;
    struct lane_route *routes = xcalloc(count + 1, sizeof *routes);
    size_t k = 0;
    for (unsigned i = 0; i < n->n_lanes; i++) {
        const struct recovered *r = n->lanes[i]->recovered;
        for (size_t g = 0; g < r->n_groups; g++) {
            if (!r->groups[g].removed && r->groups[g].group != CONTROLLER_GROUP && r->groups[g].group != 0) {
                routes[k++] = (struct lane_route){ .group = r->groups[g].group, .lane = i };
            }
        }
        for (size_t g = 0; g < r->n_notes; g++) {
            notes[n_notes++] = (struct lane_note){ .note = r->notes[g], .lane = i };
        }
    }
    for (unsigned i = 0; i < n->n_lanes; i++) {
        lane_serve(n->lanes[i], routes, k, notes, n_notes);
    }
    free(routes);
    free(notes);
}

static void open_lanes(struct node *n)
{
    n->phase = NODE_PHASE_OPENING;
    for (unsigned i = 0; i < n->n_lanes; i++) {
        int rc = lane_start(n->lanes[i]);
        if (rc != 0) {
            log_error(&n->log, "cannot start a lane", "lane=%u reason=\"%s\"", i, strerror(-rc));
            env_fatal(n->env, ENV_EXIT_MEMORY, "cannot start a lane");
            return;
        }
    }
}

/* ---- formation ---- */

static void formed(void *arg, const struct formation_result *r)
{
    struct node *n = arg;
    n->formed = *r;
    if (n->peers != NULL) {
        peer_client_identity(n->peers, n->identity.cluster_id, n->identity.incarnation);
    }
    if (n->phase >= NODE_PHASE_STOPPING) {
        return;
    }
    if (n->lanes_serving == n->n_lanes) {
        open_controller(n); /* came back from formation_rejoin() */
    } else {
        open_lanes(n);
    }
}

static void note(void *arg, const char *text)
{
    struct node *n = arg;
    log_info(&n->log, "formation", "note=\"%s\"", text);
}

int node_form_start(struct node *n, char err[256])
{
    struct peer_client_options po = { .env = n->env, .node_id = n->identity.node_id, .incarnation = n->identity.incarnation };
    memcpy(po.cluster_id, n->identity.cluster_id, 16);
    int rc = peer_client_open(&n->peers, &po);
    if (rc != 0) {
        snprintf(err, 256, "cannot make the connections to peers");
        return rc;
    }
    struct formation_options fo = {
        .env = n->env, .settings = &n->settings, .dir = n->settings.data, .identity = &n->identity, .peers = n->peers, .address = n->address,
        .kinesis = n->settings.kinesis, .admin = n->settings.admin, .arg = n, .done = formed, .note = note
    };
    n->phase = NODE_PHASE_FORMING;
    return formation_start(&n->formation, &fo, err);
}
