/* group_read.c: fresh reads by read-index: the leader asks a quorum whether its term still stands, and answers from what was committed before the question.
 *
 * A round is one question to every voter; it confirms all reads that were waiting when it was sent. A voter grants while its term is not above the asker's: so no
 * leader of a higher term had its vote when it answered. Rounds need no clocks and no leases. */
#include "group_impl.h"

#include <stdlib.h>

enum { FRESH_TIMEOUT_MS = 2000, FRESH_RESEND_MS = 200 };

void group_fresh_read(struct group *g, struct group_fresh *f, group_fresh_done done)
{
    f->done = done;
    f->next = NULL;
    f->term = g->raft.current_term;
    f->index = g->raft.commit_index;
    f->round = g->read_round + 1;
    f->deadline_ms = group_now(g) + FRESH_TIMEOUT_MS;
    *g->fresh_tail = f;
    g->fresh_tail = &f->next;
    g->read_due = true;
    groups_later(g);
}

/* Has a quorum, we included, confirmed this round? */
static bool confirmed(struct group *g, uint64_t round)
{
    bool self;
    unsigned voters = group_voters(g, &self), have = self ? 1 : 0;
    for (unsigned i = 0; i < g->raft.configuration.n; i++) {
        const struct raft_server *s = &g->raft.configuration.servers[i];
        if (s->role == RAFT_VOTER && s->id != g->raft_id) {
            have += group_peer(g, s->id)->round >= round;
        }
    }
    return have > voters / 2;
}

static void ask(struct group *g)
{
    g->read_due = false;
    g->read_round++;
    g->read_sent_ms = group_now(g);
    for (unsigned i = 0; i < g->raft.configuration.n; i++) {
        const struct raft_server *s = &g->raft.configuration.servers[i];
        if (s->role == RAFT_VOTER && s->id != g->raft_id) {
            struct link_message m = {.type = LINK_READ_INDEX, .term = g->raft.current_term, .a = g->read_round};
            group_post(g, s->id, &m, 0);
        }
    }
}

/* 0: goes on waiting; else the read is over with *status. */
static bool over(struct group *g, const struct group_fresh *f, int *status)
{
    if (!group_leads(g) || f->term != g->raft.current_term) {
        *status = SLUICE_E_NOT_LEADER;
        return true;
    }
    if (!group_ready(g)) {
        *status = SLUICE_E_NOT_READY;
        return true;
    }
    if (f->round <= g->read_round && g->raft.last_applied >= f->index && confirmed(g, f->round)) {
        *status = 0;
        return true;
    }
    *status = SLUICE_E_TIMEOUT;
    return group_now(g) >= f->deadline_ms;
}

/* Finished reads leave the list before any is told, as their callbacks may ask again. */
static void settle(struct group *g)
{
    struct group_fresh *finished = NULL, **finished_tail = &finished;
    struct group_fresh **at = &g->fresh;
    while (*at != NULL) {
        struct group_fresh *f = *at;
        int status;
        if (over(g, f, &status)) {
            *at = f->next;
            f->next = NULL;
            f->index = (uint64_t)status;
            *finished_tail = f;
            finished_tail = &f->next;
        } else {
            at = &f->next;
        }
    }
    g->fresh_tail = at;
    while (finished != NULL) {
        struct group_fresh *f = finished;
        finished = f->next;
        f->done(f, (int)f->index);
    }
}

/* Once a turn, after what arrived was handled. */
void group_read_work(struct group *g)
{
    if (g->fresh == NULL) {
        return;
    }
    if (g->read_due && group_leads(g)) {
        ask(g);
    }
    settle(g);
}

void group_read_asked(struct group *g, const struct link_message *m)
{
    struct link_message answer = {.type = LINK_READ_INDEX_RESULT, .term = m->term, .a = m->a};
    answer.flags = g->raft.current_term <= m->term ? LINK_GRANTED : 0;
    group_post(g, m->from, &answer, 0);
}

void group_read_confirmed(struct group *g, const struct link_message *m)
{
    if (!group_leads(g) || m->term != g->raft.current_term || (m->flags & LINK_GRANTED) == 0) {
        return;
    }
    struct peer *p = group_peer(g, m->from);
    p->round = max_u64(p->round, min_u64(m->a, g->read_round));
    groups_later(g);
}

/* With every tick: lost questions are asked again, late reads given up. */
void group_read_tick(struct group *g)
{
    if (g->fresh != NULL) {
        if (group_now(g) - g->read_sent_ms >= FRESH_RESEND_MS) {
            g->read_due = true;
        }
        groups_later(g);
    }
}

/* Closing: every waiting read ends. */
void group_read_fail(struct group *g, int status)
{
    struct group_fresh *f = g->fresh;
    g->fresh = NULL;
    g->fresh_tail = &g->fresh;
    while (f != NULL) {
        struct group_fresh *next = f->next;
        f->done(f, status);
        f = next;
    }
}
