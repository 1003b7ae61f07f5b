/* group.c: proposing, roles, and settling after each event. */
#include "group_impl.h"

#include <stdlib.h>

/* ---- what it is now ---- */

uint64_t group_id(const struct group *g) { return g->id; }
uint64_t group_raft_id(const struct group *g) { return g->raft_id; }

enum group_role group_role(const struct group *g)
{
    return g->state != GROUP_RUNNING ? GROUP_FOLLOWER : group_leads(g) ? GROUP_LEADER : g->raft.state == RAFT_CANDIDATE ? GROUP_CANDIDATE : GROUP_FOLLOWER;
}

uint64_t group_term(const struct group *g) { return g->raft.current_term; }

bool group_ready(const struct group *g)
{
    return g->state == GROUP_RUNNING && group_leads(g) && g->ready_term == g->raft.current_term && g->raft.transfer == NULL;
}

uint64_t group_leader(const struct group *g)
{
    if (g->state != GROUP_RUNNING) {
        return 0;
    }
    return group_leads(g) ? g->raft_id : g->raft.state == RAFT_FOLLOWER ? g->raft.follower_state.current_leader.id : 0;
}

uint64_t group_last_index(const struct group *g) { return group_log_last(&g->log); }
uint64_t group_next_index(const struct group *g) { return group_log_last(&g->log) + 1; }
uint64_t group_commit_index(const struct group *g) { return g->raft.commit_index; }
bool group_joined(const struct group *g) { return g->raft.configuration.n > 0 && group_server(g, g->raft_id, NULL) != NULL; }

uint64_t group_contact_age_ms(const struct group *g)
{
    uint64_t now = group_now(g);
    if (!group_leads(g)) {
        return g->contact_ms == 0 ? now - g->opened_ms : now - g->contact_ms;
    }
    /* The leader's own: how long ago a quorum was last heard. */
    bool self;
    unsigned voters = group_voters(g, &self), need = voters / 2, k = 0;
    uint64_t heard[64];
    for (unsigned i = 0; i < g->n_peers && k < ARRAY_LEN(heard); i++) {
        const struct raft_server *s = group_server(g, g->peers[i].id, NULL);
        if (s == NULL || s->role != RAFT_VOTER) {
            continue;
        }
        unsigned at = k++;
        for (; at > 0 && heard[at - 1] < g->peers[i].heard_ms; at--) {
            heard[at] = heard[at - 1];
        }
        heard[at] = g->peers[i].heard_ms;
    }
    uint64_t last = need == 0 ? now : k < need ? 0 : heard[need - 1];
    return now - last <= 2u * g->heartbeat_ms ? 0 : now - last;
}

unsigned group_peers(const struct group *g, struct group_peer *out, unsigned max)
{
    unsigned n = 0;
    for (unsigned i = 0; i < g->raft.configuration.n && n < max; i++) {
        const struct raft_server *s = &g->raft.configuration.servers[i];
        out[n] = (struct group_peer){.raft_id = s->id, .voter = s->role == RAFT_VOTER, .standby = s->role == RAFT_STANDBY};
        if (s->id == g->raft_id) {
            out[n].match_index = g->raft.last_stored;
            out[n].recent = true;
        } else if (group_leads(g) && g->raft.leader_state.progress != NULL) {
            out[n].match_index = g->raft.leader_state.progress[i].match_index;
            for (unsigned k = 0; k < g->n_peers; k++) {
                if (g->peers[k].id == s->id) {
                    out[n].recent = group_now(g) - g->peers[k].heard_ms <= 3u * g->heartbeat_ms && g->peers[k].heard_ms != 0;
                }
            }
        }
        n++;
    }
    return n;
}

/* ---- settling ---- */

void group_complete(struct group *g, struct completion *c, int status)
{
    c->status = status;
    c->next = NULL;
    *g->completions_tail = c;
    g->completions_tail = &c->next;
}

static void tell_role(struct group *g)
{
    enum group_role role = group_role(g);
    uint64_t term = group_term(g), leader = group_leader(g);
    bool ready = group_ready(g);
    if (role == g->told_role && term == g->told_term && leader == g->told_leader && ready == g->told_ready) {
        return;
    }
    g->told_role = role;
    g->told_term = term;
    g->told_leader = leader;
    g->told_ready = ready;
    if (g->sink.role != NULL && g->started && g->state == GROUP_RUNNING) {
        g->sink.role(g->sink.arg);
    }
}

static bool run_completions(struct group *g)
{
    bool any = false;
    while (g->completions != NULL) {
        struct completion *c = g->completions;
        if (c->status != 0) {
            tell_role(g); /* the end of a term is told before its futures end */
        }
        sluice_assert(g->completions == c);
        g->completions = c->next;
        if (g->completions == NULL) {
            g->completions_tail = &g->completions;
        }
        c->run(g, c);
        any = true;
    }
    return any;
}

/* Looks at what libraft's last step did to the state; true if that started something. */
static bool watch(struct group *g)
{
    struct raft *r = &g->raft;
    if (g->state != GROUP_RUNNING || !g->started) {
        return false;
    }
    if (r->state == RAFT_UNAVAILABLE) {
        groups_log(g, "libraft stopped the replica: term %llu, commit %llu, last %llu", r->current_term, r->commit_index,
                   (unsigned long long)group_log_last(&g->log));
        env_fatal(g->gs->o.env, ENV_EXIT_DAMAGE, "libraft stopped a replica: out of memory, or the log contradicts what is committed");
        g->state = GROUP_CLOSING;
        return false;
    }
    bool any = false;
    if (r->current_term != g->seen_term || r->state != g->seen_state) {
        groups_wake(g);
    }
    if (r->current_term != g->seen_term) {
        g->seen_term = r->current_term;
        group_new_term(g);
        group_read_fail(g, SLUICE_E_NOT_LEADER);
        any = true;
    }
    if (r->state != g->seen_state) {
        g->gs->stats.elections += r->state == RAFT_LEADER;
        if (g->seen_state == RAFT_LEADER) {
            group_read_fail(g, SLUICE_E_NOT_LEADER);
        }
        g->seen_state = r->state;
        any = true;
    }
    if (group_leads(g) && g->barrier_term != r->current_term) {
        any |= group_lead(g);
    }
    if (r->commit_index != g->seen_commit) {
        g->seen_commit = r->commit_index;
        if (g->n_confs > 1) {
            group_conf_settle(g);
        }
        if (group_leads(g)) {
            groups_commit_moved(g);
        }
    }
    group_watch_election(g);
    return any;
}

void group_leave(struct group *g)
{
    sluice_assert(g->depth > 0);
    if (--g->depth > 0 || g->settling) {
        return;
    }
    g->settling = true;
    bool again;
    do {
        again = group_run_sent(g);
        again |= watch(g);
        again |= group_deliver_appends(g);
        again |= group_run_gets(g);
        again |= watch(g);
        if (g->state == GROUP_RUNNING && g->started) {
            group_send_timeout_now(g);
            group_deliver_timeout_now(g);
        }
        group_release_held(g);
        again |= g->n_sent > 0;
        again |= run_completions(g);
        tell_role(g);
        again |= g->completions != NULL;
    } while (again);
    g->settling = false;
    group_maybe_closed(g);
}

/* The caller has entered the group. */
void group_tick(struct group *g)
{
    if (g->state != GROUP_RUNNING || !g->started || (group_installing(g) && group_rule_on(g, GROUP_RULE_R6)) || group_sole_hold(g) || group_election_rests(g)) {
        return;
    }
    g->tick(&g->io);
}

/* ---- proposing ---- */

struct proposal {
    struct completion completion;
    struct raft_apply apply;
    struct group *group;
    struct group_propose *propose;
    uint32_t len;
};

void *group_buffer_alloc(size_t n) { return raft_malloc(n > 0 ? n : 1); }
void group_buffer_free(void *p) { raft_free(p); }

static void proposal_over(struct group *g, struct completion *c)
{
    (void)g;
    struct proposal *p = container_of(c, struct proposal, completion);
    struct group_propose *user = p->propose;
    int status = c->status;
    free(p);
    user->impl = NULL;
    user->done(user, status);
}

static void on_applied(struct raft_apply *req, int status, void *result)
{
    (void)result;
    struct proposal *p = container_of(req, struct proposal, apply);
    p->group->in_flight -= p->len;
    group_complete(p->group, &p->completion, status == 0 ? 0 : SLUICE_E_UNKNOWN_OUTCOME);
}

static int may_propose(struct group *g, uint32_t len)
{
    if (g->state != GROUP_RUNNING || !group_leads(g)) {
        return SLUICE_E_NOT_LEADER;
    }
    if (!group_ready(g)) {
        return SLUICE_E_NOT_READY;
    }
    if (!journal_space(g->gs->o.journal) && group_rule_on(g, GROUP_RULE_R4)) {
        return SLUICE_E_NO_SPACE;
    }
    if (g->in_flight > 0 && g->in_flight + len > g->gs->o.in_flight_bytes) {
        return SLUICE_E_BUSY;
    }
    /* What is small goes through: it may be what lets a snapshot be taken. */
    if (g->gs->log_bytes + len > g->gs->o.memory_max && len > GROUP_SMALL_ENTRY) {
        if (group_holds_much(g)) {
            group_want_snapshot(g);
        }
        return g->in_flight > 0 ? SLUICE_E_BUSY : g->gs->log_bytes + len > g->gs->o.memory_max + g->gs->o.memory_max / 8 ? SLUICE_E_MEMORY : 0;
    }
    return 0;
}

int group_propose(struct group *g, struct group_propose *p, void *data, uint32_t len, uint64_t a, uint64_t b, uint64_t c, group_propose_done done)
{
    sluice_assert(len > 0 && done != NULL);
    int rv = may_propose(g, len);
    if (rv != 0) {
        return rv;
    }
    struct proposal *own = calloc(1, sizeof *own);
    if (own == NULL) {
        return SLUICE_E_MEMORY;
    }
    own->completion.run = proposal_over;
    own->group = g;
    own->propose = p;
    own->len = len;
    p->done = done;
    p->impl = own;
    struct raft_buffer buf = {data, len};
    group_enter(g);
    g->abc = true;
    g->a = a;
    g->b = b;
    g->c = c;
    rv = raft_apply(&g->raft, &own->apply, &buf, 1, on_applied);
    g->abc = false;
    if (rv != 0) {
        free(own);
        p->impl = NULL;
    } else {
        g->in_flight += len;
        p->index = own->apply.index;
        p->term = g->raft.current_term;
        g->gs->stats.proposals++;
        g->gs->proposed_ms = group_now(g);
        g->gs->stats.log_bytes = g->gs->log_bytes;
    }
    /* Nothing of what is noted here may call back inside this call: it is settled at the end of the turn. */
    g->depth--;
    groups_later(g);
    return rv == 0 ? 0 : rv == RAFT_NOMEM ? SLUICE_E_MEMORY : SLUICE_E_NOT_LEADER;
}
