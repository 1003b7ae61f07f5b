/* group_change.c: membership changes and hand-over of leadership. */
#include "group_impl.h"

#include <stdio.h>
#include <stdlib.h>

/* ---- membership ---- */

struct change_op {
    struct completion completion;
    struct raft_change req;
    struct group *g;
    void (*done)(void *arg, int status);
    void *arg;
};

static void change_over(struct group *g, struct completion *c)
{
    (void)g;
    struct change_op *op = container_of(c, struct change_op, completion);
    void (*done)(void *arg, int status) = op->done;
    void *arg = op->arg;
    int status = c->status;
    free(op);
    if (done != NULL) {
        done(arg, status);
    }
}

static void on_changed(struct raft_change *req, int status)
{
    struct change_op *op = container_of(req, struct change_op, req);
    op->g->change = NULL;
    group_complete(op->g, &op->completion, status == 0 ? 0 : status == RAFT_NOCONNECTION ? SLUICE_E_TIMEOUT : SLUICE_E_UNKNOWN_OUTCOME);
}

static int start_change(struct group *g, enum group_change_kind kind, uint64_t id, struct change_op *op, const struct raft_server *s, unsigned at)
{
    struct raft *r = &g->raft;
    char text[24];
    switch (kind) {
    case GROUP_ADD_SPARE:
        snprintf(text, sizeof text, "%llu", (unsigned long long)id);
        return raft_add(r, &op->req, id, text, on_changed);
    case GROUP_ASSIGN_STANDBY:
        return raft_assign(r, &op->req, id, RAFT_STANDBY, on_changed);
    case GROUP_ASSIGN_VOTER: {
        /* Promoted only when close: a voter that lags weakens the quorum. */
        const struct raft_progress *p = &r->leader_state.progress[at];
        uint64_t lag = group_log_bytes_to(&g->log, UINT64_MAX) - group_log_bytes_to(&g->log, p->match_index);
        if (p->match_index < g->log.first || p->state == PROGRESS_SNAPSHOT || lag > max_u64(g->gs->o.in_flight_bytes, 1 << 20)) {
            return RAFT_BUSY;
        }
        return raft_assign(r, &op->req, id, RAFT_VOTER, on_changed);
    }
    case GROUP_REMOVE:
        return raft_remove(r, &op->req, id, on_changed);
    }
    (void)s;
    return RAFT_INVALID;
}

int group_change(struct group *g, enum group_change_kind kind, uint64_t id, void (*done)(void *arg, int status), void *arg)
{
    if (g->state != GROUP_RUNNING || !group_leads(g)) {
        return SLUICE_E_NOT_LEADER;
    }
    if (!group_ready(g)) {
        return SLUICE_E_NOT_READY;
    }
    if (g->change != NULL || g->raft.configuration_uncommitted_index != 0) {
        return SLUICE_E_CONFLICT;
    }
    unsigned at = 0;
    const struct raft_server *s = group_server(g, id, &at);
    bool self;
    unsigned voters = group_voters(g, &self);
    if (id == 0 || (s == NULL && kind != GROUP_ADD_SPARE && kind != GROUP_REMOVE) || (s == NULL && g->raft.configuration.n >= GROUP_MEMBERS_MAX)) {
        return SLUICE_E_INVALID;
    }
    if (id == g->raft_id && (kind == GROUP_REMOVE || kind == GROUP_ASSIGN_STANDBY) && voters <= 2 && group_rule_on(g, GROUP_RULE_R12)) {
        return voters == 1 ? SLUICE_E_INVALID : SLUICE_E_CONFLICT; /* R12: it hands over first */
    }
    struct change_op *op = xcalloc(1, sizeof *op);
    op->completion.run = change_over;
    op->g = g;
    op->done = done;
    op->arg = arg;
    bool already = kind == GROUP_ADD_SPARE ? s != NULL : kind == GROUP_REMOVE ? s == NULL
                 : s->role == (kind == GROUP_ASSIGN_VOTER ? RAFT_VOTER : RAFT_STANDBY);
    group_enter(g);
    int rv = 0;
    if (already) {
        group_complete(g, &op->completion, 0);
    } else {
        rv = start_change(g, kind, id, op, s, at);
        if (rv == 0) {
            g->change = op;
        } else {
            if (group_leads(g) && g->raft.leader_state.change == &op->req) {
                g->raft.leader_state.change = NULL;
            }
            free(op);
        }
    }
    g->depth--;
    groups_later(g);
    return rv == 0 ? 0 : rv == RAFT_CANTCHANGE ? SLUICE_E_CONFLICT : rv == RAFT_NOMEM ? SLUICE_E_MEMORY : SLUICE_E_NOT_READY;
}

/* ---- hand-over ---- */

struct transfer_op {
    struct completion completion;
    struct raft_transfer req;
    struct group *g;
    uint64_t target, started_ms;
    void (*done)(void *arg, int status);
    void *arg;
};

static void transfer_over(struct group *g, struct completion *c)
{
    (void)g;
    struct transfer_op *op = container_of(c, struct transfer_op, completion);
    void (*done)(void *arg, int status) = op->done;
    void *arg = op->arg;
    int status = c->status;
    free(op);
    if (done != NULL) {
        done(arg, status);
    }
}

static void on_transferred(struct raft_transfer *req)
{
    struct transfer_op *op = container_of(req, struct transfer_op, req);
    struct group *g = op->g;
    bool ok = g->raft.state == RAFT_FOLLOWER && g->raft.follower_state.current_leader.id == op->target;
    g->transfer = NULL;
    g->timeout_now_out.type = 0;
    g->gs->stats.transfers += ok;
    group_complete(g, &op->completion, ok ? 0 : SLUICE_E_TIMEOUT);
}

/* The voter that has most of our log, of those that are there. */
static uint64_t best_target(const struct group *g)
{
    uint64_t best = 0, match = 0;
    for (unsigned i = 0; i < g->raft.configuration.n; i++) {
        const struct raft_server *s = &g->raft.configuration.servers[i];
        const struct raft_progress *p = &g->raft.leader_state.progress[i];
        if (s->id != g->raft_id && s->role == RAFT_VOTER && links_peer_up(g->gs->links, raft_id_node(s->id)) && (best == 0 || p->match_index > match)) {
            best = s->id;
            match = p->match_index;
        }
    }
    return best;
}

int group_transfer(struct group *g, uint64_t to, void (*done)(void *arg, int status), void *arg)
{
    if (g->state != GROUP_RUNNING || !group_leads(g)) {
        return SLUICE_E_NOT_LEADER;
    }
    if (g->transfer != NULL || g->raft.transfer != NULL) {
        return SLUICE_E_CONFLICT;
    }
    if (!group_ready(g)) {
        return SLUICE_E_NOT_READY;
    }
    to = to == 0 ? best_target(g) : to;
    if (to == 0 || !links_peer_up(g->gs->links, raft_id_node(to))) {
        return SLUICE_E_NO_CONNECTION;
    }
    struct transfer_op *op = xcalloc(1, sizeof *op);
    op->completion.run = transfer_over;
    op->g = g;
    op->target = to;
    op->started_ms = group_now(g);
    op->done = done;
    op->arg = arg;
    group_enter(g);
    int rv = raft_transfer(&g->raft, &op->req, to, on_transferred);
    if (rv == 0) {
        g->transfer = op;
        groups_schedule_election(g->gs, op->started_ms + GROUP_TRANSFER_MS);
    } else {
        free(op);
    }
    g->depth--;
    groups_later(g);
    return rv == 0 ? 0 : rv == RAFT_BADID ? SLUICE_E_INVALID : SLUICE_E_NOT_READY;
}

/* F23: libraft would refuse writes for a whole election timeout if TimeoutNow or what it caused is lost. The caller has entered the group. */
void group_transfer_tick(struct group *g)
{
    struct transfer_op *op = g->transfer;
    if (op == NULL || g->raft.transfer != &op->req) {
        return;
    }
    uint64_t age = group_now(g) - op->started_ms, patience = group_leads(g) ? GROUP_TRANSFER_MS : 4 * GROUP_TRANSFER_MS;
    if (age < patience) {
        groups_schedule_election(g->gs, op->started_ms + patience);
        return;
    }
    op->req.start -= 2u * (uint64_t)g->election_ms;
    g->tick(&g->io); /* closes it */
}
