/* group_ack.c: which acknowledgements count: R1 (a follower vouches only for what it compared with this leader), R2 (a leader's own copy counts once a
 * quorum of followers has the entry), R3 (nothing counts before an entry of the leader's own term). */
#include "group_impl.h"

#include <stdlib.h>

struct peer *group_peer(struct group *g, uint64_t id)
{
    for (unsigned i = 0; i < g->n_peers; i++) {
        if (g->peers[i].id == id) {
            return &g->peers[i];
        }
    }
    g->peers = xrealloc(g->peers, (g->n_peers + 1) * sizeof *g->peers);
    struct peer *p = &g->peers[g->n_peers++];
    *p = (struct peer){.id = id};
    return p;
}

/* Nothing known of the peers outlives a term (F18). */
void group_new_term(struct group *g)
{
    g->n_peers = 0;
    g->timeout_now_in.type = 0;
    g->timeout_now_out.type = 0;
    g->gs->stats.term_changes++;
}

unsigned group_voters(const struct group *g, bool *self)
{
    unsigned n = 0;
    *self = false;
    for (unsigned i = 0; i < g->raft.configuration.n; i++) {
        if (g->raft.configuration.servers[i].role == RAFT_VOTER) {
            n++;
            *self |= g->raft.configuration.servers[i].id == g->raft_id;
        }
    }
    return n;
}

/* ---- R1: the follower's side ---- */

/* libraft answers a successful AppendEntries with all it has stored, which may include leftovers of older terms that this leader never saw. What this leader has
 * compared with us is prev + n of its requests whose prev matched. */
void group_verify(struct group *g, const struct raft_append_entries *a)
{
    if (a->term < g->raft.current_term) {
        return;
    }
    if (a->term > g->verified_term) {
        g->verified_term = a->term;
        g->verified = 0;
    }
    if (a->prev_log_index == 0 || group_log_term(&g->log, a->prev_log_index) == a->prev_log_term) {
        g->verified = max_u64(g->verified, a->prev_log_index + a->n_entries);
    }
}

/* False: the acknowledgement belongs to another term and is not sent. */
bool group_clamp(struct group *g, struct raft_append_entries_result *r)
{
    if (r->rejected != 0 || !group_rule_on(g, GROUP_RULE_R1)) {
        return true;
    }
    if (r->term != g->verified_term) {
        return false;
    }
    r->last_log_index = min_u64(r->last_log_index, g->verified);
    return true;
}

/* What to tell a leader whose prev we refuse: libraft has it step back one entry at a time; the whole of the term that does not match may be skipped, but nothing
 * that is committed here. Only a hint: the next request is compared again. */
uint64_t group_retreat(const struct group *g, uint64_t rejected, uint64_t last)
{
    uint64_t term = group_log_term(&g->log, rejected), index = rejected;
    if (rejected > last || term == 0) {
        return last;
    }
    while (index > g->raft.commit_index + 1 && index > g->log.first && group_log_term(&g->log, index - 1) == term) {
        index--;
    }
    return min_u64(last, index - 1);
}

/* ---- R2 and R3: the leader's side ---- */

/* The highest index that a quorum without us has acknowledged in this term. */
static uint64_t quorum_ack(struct group *g)
{
    bool self;
    unsigned voters = group_voters(g, &self), k = 0;
    unsigned need = self ? voters / 2 : voters / 2 + 1;
    if (need == 0) {
        return UINT64_MAX;
    }
    uint64_t acks[64];
    for (unsigned i = 0; i < g->raft.configuration.n && k < ARRAY_LEN(acks); i++) {
        const struct raft_server *s = &g->raft.configuration.servers[i];
        if (s->role != RAFT_VOTER || s->id == g->raft_id) {
            continue;
        }
        uint64_t ack = group_peer(g, s->id)->ack;
        unsigned at = k++;
        for (; at > 0 && acks[at - 1] < ack; at--) {
            acks[at] = acks[at - 1];
        }
        acks[at] = ack;
    }
    return k < need ? 0 : acks[need - 1];
}

/* R2: libraft looks for a commit only at the very end of what it has stored itself, so under an open stream of writes it would never find one. The completion of
 * our own write therefore waits until a quorum of followers has that entry: then the end of what is stored is just what can be committed. */
bool group_hold_back(struct group *g, const struct append_op *op)
{
    if (!group_leads(g) || !op->by_leader || op->term != g->raft.current_term || !group_rule_on(g, GROUP_RULE_R2)) {
        return false;
    }
    return quorum_ack(g) < op->last;
}

static bool gate_open(const struct group *g, uint64_t index)
{
    if (!group_rule_on(g, GROUP_RULE_R3) || g->ready_term == g->raft.current_term) {
        return true;
    }
    return g->barrier_term == g->raft.current_term && g->barrier_durable && index >= g->barrier_index;
}

/* A successful result came in. True: libraft is to see it (perhaps changed). */
bool group_take_ack(struct group *g, uint64_t from, struct raft_append_entries_result *r)
{
    struct peer *p = group_peer(g, from);
    uint64_t index = min_u64(r->last_log_index, group_log_last(&g->log));
    if (index > p->ack) {
        p->ack = index;
        p->progress_ms = group_now(g);
    }
    if (gate_open(g, index)) {
        return true;
    }
    unsigned at;
    if (group_server(g, from, &at) == NULL) {
        return false;
    }
    /* R3: entries of former terms are not committed by counting; the acknowledgement is kept for when our own entry is durable. */
    struct raft_progress *progress = &g->raft.leader_state.progress[at];
    progress->recent_recv = true;
    if (progress->state == PROGRESS_SNAPSHOT && index >= progress->snapshot_index && progress->snapshot_index <= g->raft.commit_index) {
        /* An installed snapshot holds nothing but committed entries: saying so commits nothing, and lets the peer go on with the log. */
        r->last_log_index = progress->snapshot_index;
        return true;
    }
    return false;
}

/* Our own-term entry is durable here: what the peers acknowledged meanwhile counts now. */
void group_open_gate(struct group *g)
{
    g->barrier_durable = true;
    uint64_t term = g->raft.current_term;
    for (unsigned i = 0; i < g->n_peers && group_leads(g) && g->raft.current_term == term; i++) {
        if (g->peers[i].ack >= g->barrier_index && group_server(g, g->peers[i].id, NULL) != NULL) {
            struct raft_message m = {.type = RAFT_IO_APPEND_ENTRIES_RESULT, .server_id = g->peers[i].id, .server_address = ""};
            m.append_entries_result = (struct raft_append_entries_result){.term = term, .last_log_index = g->peers[i].ack};
            g->recv(&g->io, &m);
        }
    }
}

static void on_barrier(struct raft_barrier *b, int status)
{
    struct group *g = container_of(b, struct group, barrier);
    g->barrier_busy = false;
    if (status == 0) {
        g->ready_term = g->raft.current_term;
    }
}

/* Seen to lead in a term for the first time: libraft 0.15 writes no entry of its own at an election, we do. Until then io_send() lets no AppendEntries out. */
bool group_lead(struct group *g)
{
    if (!group_rule_on(g, GROUP_RULE_R3)) {
        g->barrier_term = g->ready_term = g->raft.current_term;
        return true;
    }
    if (g->barrier_busy) {
        return false; /* that of a former term is not over yet */
    }
    g->barrier_term = g->raft.current_term;
    g->barrier_index = group_log_last(&g->log) + 1;
    g->barrier_durable = false;
    g->barrier_busy = true;
    if (raft_barrier(&g->raft, &g->barrier, on_barrier) != 0) {
        g->barrier_busy = false;
        g->barrier_term = 0; /* tried again with the next event */
        return false;
    }
    return true;
}
