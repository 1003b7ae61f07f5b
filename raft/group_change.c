/* group_change.c: membership changes (R7) and transfer of leadership (F23), one of each at a time. */
#include "group_impl.h"

#include <stdio.h>
#include <stdlib.h>

enum { CHANGE_TIMEOUT_MS = 60000 };

struct change_op {
    struct completion completion;
    struct raft_change req;
    struct group *g;
    uint64_t deadline_ms;
    bool told, finished;   /* the asker has its answer; libraft is done with req */
    void (*done)(void *arg, int status);
    void *arg;
};

struct transfer_op {
    struct completion completion;
    struct raft_transfer req;
    struct group *g;
    uint64_t started_ms, target;
    bool ended;            /* its clock was set back: the next tick ends it */
    void (*done)(void *arg, int status);
    void *arg;
};

static int error_of(int rc)
{
    switch (rc) {
    case 0: return 0;
    case RAFT_NOTLEADER: return SLUICE_E_NOT_LEADER;
    case RAFT_CANTCHANGE:
    case RAFT_BUSY: return SLUICE_E_CONFLICT;
    case RAFT_NOTFOUND:
    case RAFT_BADID: return SLUICE_E_NOT_FOUND;
    case RAFT_DUPLICATEID:
    case RAFT_DUPLICATEADDRESS: return SLUICE_E_EXISTS;
    case RAFT_BADROLE: return SLUICE_E_INVALID;
    case RAFT_NOMEM: return SLUICE_E_MEMORY;
    case RAFT_LEADERSHIPLOST:
    case RAFT_SHUTDOWN:
    case RAFT_CANCELED: return SLUICE_E_UNKNOWN_OUTCOME;
    case RAFT_NOCONNECTION: return SLUICE_E_TIMEOUT; /* a promotion gave up: the server did not catch up */
    default: return SLUICE_E_INTERNAL;
    }
}

/* ---- membership ---- */

static void change_told(struct group *g, struct completion *c)
{
    struct change_op *op = container_of(c, struct change_op, completion);
    (void)g;
    if (!op->told) {
        op->told = true;
        op->done(op->arg, c->status);
    }
    if (op->finished) {
        free(op);
    }
}

static void on_change(struct raft_change *req, int status)
{
    struct change_op *op = container_of(req, struct change_op, req);
    op->finished = true;
    op->g->change = NULL;
    group_complete(op->g, &op->completion, error_of(status));
}

/* What must not be asked of this group now, or 0. */
static int change_refused(struct group *g, enum group_change_kind kind, uint64_t raft_id)
{
    if (!group_leads(g)) {
        return SLUICE_E_NOT_LEADER;
    }
    if (!group_ready(g)) {
        return SLUICE_E_NOT_READY;
    }
    if (g->change != NULL || g->transfer != NULL || g->raft.configuration_uncommitted_index != 0) {
        return SLUICE_E_CONFLICT;
    }
    bool self;
    unsigned voters = group_voters(g, &self);
    bool demotes = kind == GROUP_REMOVE || kind == GROUP_ASSIGN_STANDBY;
    if (demotes && raft_id == g->raft_id && voters <= 2) {
        return SLUICE_E_REFUSED; /* R12: the other one would see itself as the only voter of our term */
    }
    return 0;
}

int group_change(struct group *g, enum group_change_kind kind, uint64_t raft_id, void (*done)(void *arg, int status), void *arg)
{
    int refused = change_refused(g, kind, raft_id);
    if (refused != 0) {
        return refused;
    }
    struct change_op *op = xcalloc(1, sizeof *op);
    *op = (struct change_op){.completion = {.run = change_told}, .g = g, .deadline_ms = group_now(g) + CHANGE_TIMEOUT_MS, .done = done, .arg = arg};
    char address[24]; /* libraft wants addresses that differ; ours are the ids */
    snprintf(address, sizeof address, "%llu", (unsigned long long)raft_id);
    group_enter(g);
    g->change = op;
    int rc;
    switch (kind) {
    case GROUP_ADD_SPARE:
        rc = raft_add(&g->raft, &op->req, raft_id, address, on_change);
        break;
    case GROUP_REMOVE:
        rc = raft_remove(&g->raft, &op->req, raft_id, on_change);
        break;
    default:
        rc = raft_assign(&g->raft, &op->req, raft_id, kind == GROUP_ASSIGN_VOTER ? RAFT_VOTER : RAFT_STANDBY, on_change);
        break;
    }
    if (rc != 0) {
        g->change = NULL;
        free(op);
    }
    group_leave(g);
    return error_of(rc);
}

/* A change that finds no quorum is not undone: its asker is told that it does not know. */
void group_change_tick(struct group *g)
{
    struct change_op *op = g->change;
    if (op != NULL && !op->told && group_now(g) >= op->deadline_ms) {
        op->told = true;
        op->done(op->arg, SLUICE_E_TIMEOUT);
    }
}

/* ---- transfer ---- */

static void transfer_told(struct group *g, struct completion *c)
{
    struct transfer_op *op = container_of(c, struct transfer_op, completion);
    (void)g;
    op->done(op->arg, c->status);
    free(op);
}

static void on_transfer(struct raft_transfer *req)
{
    struct transfer_op *op = container_of(req, struct transfer_op, req);
    op->g->transfer = NULL;
    group_complete(op->g, &op->completion, group_leads(op->g) ? SLUICE_E_TIMEOUT : 0);
}

/* The voter that has most of our log and was heard lately. */
static uint64_t best_voter(struct group *g)
{
    uint64_t best = 0, best_ack = 0;
    for (unsigned i = 0; i < g->raft.configuration.n; i++) {
        const struct raft_server *s = &g->raft.configuration.servers[i];
        if (s->role != RAFT_VOTER || s->id == g->raft_id || !links_peer_up(g->gs->links, raft_id_node(s->id))) {
            continue;
        }
        uint64_t ack = group_peer(g, s->id)->ack;
        if (best == 0 || ack > best_ack) {
            best = s->id;
            best_ack = ack;
        }
    }
    return best;
}

int group_transfer(struct group *g, uint64_t to_raft_id, void (*done)(void *arg, int status), void *arg)
{
    if (!group_leads(g)) {
        return SLUICE_E_NOT_LEADER;
    }
    if (g->change != NULL || g->transfer != NULL) {
        return SLUICE_E_CONFLICT;
    }
    uint64_t target = to_raft_id != 0 ? to_raft_id : best_voter(g);
    if (target == 0) {
        return SLUICE_E_NOT_FOUND;
    }
    struct transfer_op *op = xcalloc(1, sizeof *op);
    *op = (struct transfer_op){.completion = {.run = transfer_told}, .g = g, .started_ms = group_now(g), .target = target, .done = done, .arg = arg};
    group_enter(g);
    g->transfer = op;
    int rc = raft_transfer(&g->raft, &op->req, target, on_transfer);
    if (rc != 0) {
        g->transfer = NULL;
        free(op);
    } else {
        g->gs->stats.transfers++;
    }
    group_leave(g);
    return error_of(rc);
}

/* F23: while a transfer is on, libraft takes no proposals, and it waits for a whole election timeout if its one message was lost. Setting its start back makes the
 * next tick give it up. */
void group_transfer_tick(struct group *g)
{
    struct transfer_op *op = g->transfer;
    if (op != NULL && !op->ended && group_now(g) - op->started_ms >= GROUP_TRANSFER_MS) {
        op->ended = true;
        uint64_t back = g->raft.election_timeout + 1;
        op->req.start = op->req.start > back ? op->req.start - back : 0;
    }
}
