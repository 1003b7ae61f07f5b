/* group_read.c: read-index: a fresh read waits for a round of messages, begun after it arrived, in which a quorum confirms that our term is still the newest it knows.
 * The reads of a turn share a round. There are no leases (F22). */
#include "group_impl.h"

#include <stdlib.h>

struct fresh_end {
    struct completion completion;
    struct group_fresh *fresh;
};

static void run_end(struct group *g, struct completion *c)
{
    (void)g;
    struct fresh_end *e = container_of(c, struct fresh_end, completion);
    struct group_fresh *f = e->fresh;
    int status = c->status;
    free(e);
    f->done(f, status);
}

static void end(struct group *g, struct group_fresh *f, int status)
{
    struct fresh_end *e = xcalloc(1, sizeof *e);
    e->completion.run = run_end;
    e->fresh = f;
    group_complete(g, &e->completion, status);
}

void group_read_fail(struct group *g, int status)
{
    struct group_fresh *list = g->fresh;
    g->fresh = NULL;
    g->fresh_tail = &g->fresh;
    while (list != NULL) {
        struct group_fresh *f = list;
        list = f->next;
        end(g, f, status);
    }
}

static uint64_t confirmed_round(struct group *g)
{
    bool self;
    unsigned voters = group_voters(g, &self), k = 0, need = self ? voters / 2 : voters / 2 + 1;
    uint64_t rounds[64];
    for (unsigned i = 0; i < g->n_peers && k < ARRAY_LEN(rounds); i++) {
        const struct raft_server *s = group_server(g, g->peers[i].id, NULL);
        if (s == NULL || s->role != RAFT_VOTER || s->id == g->raft_id) {
            continue;
        }
        unsigned at = k++;
        for (; at > 0 && rounds[at - 1] < g->peers[i].round; at--) {
            rounds[at] = rounds[at - 1];
        }
        rounds[at] = g->peers[i].round;
    }
    return need == 0 ? g->read_round : k < need ? 0 : rounds[need - 1];
}

static void check(struct group *g)
{
    uint64_t round = confirmed_round(g);
    while (g->fresh != NULL && g->fresh->round <= round && g->raft.last_applied >= g->fresh->index) {
        struct group_fresh *f = g->fresh;
        g->fresh = f->next;
        if (g->fresh == NULL) {
            g->fresh_tail = &g->fresh;
        }
        end(g, f, 0);
    }
}

void group_fresh_read(struct group *g, struct group_fresh *f, group_fresh_done done)
{
    f->done = done;
    f->next = NULL;
    if (!group_leads(g) || g->state != GROUP_RUNNING) {
        end(g, f, SLUICE_E_NOT_LEADER);
    } else if (g->ready_term != g->raft.current_term) {
        end(g, f, SLUICE_E_NOT_READY);
    } else {
        f->round = g->read_round + 1;
        f->index = g->raft.commit_index;
        f->term = g->raft.current_term;
        f->deadline_ms = group_now(g) + g->election_ms;
        *g->fresh_tail = f;
        g->fresh_tail = &f->next;
        g->read_due = true;
    }
    groups_later(g);
}

static void send_round(struct group *g)
{
    g->read_sent_ms = group_now(g);
    for (unsigned i = 0; i < g->raft.configuration.n; i++) {
        const struct raft_server *s = &g->raft.configuration.servers[i];
        if (s->role == RAFT_VOTER && s->id != g->raft_id) {
            struct link_message m = {.type = LINK_READ_INDEX, .term = g->raft.current_term, .a = g->read_round};
            group_post(g, s->id, &m, g->term_end);
        }
    }
}

/* At the end of the turn. */
void group_read_work(struct group *g)
{
    if (g->read_due) {
        g->read_due = false;
        if (group_leads(g) && g->state == GROUP_RUNNING && g->fresh != NULL) {
            g->read_round++;
            send_round(g);
            check(g);
        }
    }
}

/* The follower's side: our word that we know of no later term than the leader's. */
void group_read_asked(struct group *g, const struct link_message *m)
{
    struct link_message out = {.type = LINK_READ_INDEX_RESULT, .term = g->raft.current_term, .a = m->a};
    if (m->term == g->raft.current_term && g->raft.state == RAFT_FOLLOWER) {
        out.flags = LINK_GRANTED;
    }
    group_post(g, m->from, &out, g->term_end);
}

void group_read_confirmed(struct group *g, const struct link_message *m)
{
    if (!group_leads(g) || m->term != g->raft.current_term || (m->flags & LINK_GRANTED) == 0 || m->a > g->read_round) {
        return;
    }
    struct peer *p = group_peer(g, m->from);
    p->round = max_u64(p->round, m->a);
    p->heard_ms = group_now(g);
    check(g);
}

void group_read_tick(struct group *g)
{
    uint64_t now = group_now(g);
    while (g->fresh != NULL && g->fresh->deadline_ms <= now) {
        struct group_fresh *f = g->fresh;
        g->fresh = f->next;
        if (g->fresh == NULL) {
            g->fresh_tail = &g->fresh;
        }
        end(g, f, SLUICE_E_TIMEOUT);
    }
    if (g->fresh != NULL && group_leads(g) && now - g->read_sent_ms >= g->heartbeat_ms / 2) {
        send_round(g);
        check(g);
    }
}
