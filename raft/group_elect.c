/* group_elect.c: fast elections (F22), and R12 for a sole voter.
 *
 * libraft's own timers stay long. Who should campaign when there is no leader is decided here: the voters, in an order that comes from their ids and the group's id,
 * without those whose links are down, have ranks; rank 0 campaigns first, each further one 150 ms later. A campaign always begins with libraft's pre-vote, so it
 * disturbs nobody who still hears from a leader. There are no leases: nothing rests on these times but speed. */
#include "group_impl.h"

static void expire_timer(struct group *g) { g->raft.election_timer_start = group_now(g) - 4u * (uint64_t)g->election_ms; }

/* Our place among the voters that are there; n_up: how many are (with us). */
static unsigned rank_of(const struct group *g, unsigned *n_up, unsigned *voters)
{
    uint64_t ids[64];
    unsigned n = 0;
    for (unsigned i = 0; i < g->raft.configuration.n && n < ARRAY_LEN(ids); i++) {
        const struct raft_server *s = &g->raft.configuration.servers[i];
        if (s->role != RAFT_VOTER) {
            continue;
        }
        unsigned at = n++;
        for (; at > 0 && ids[at - 1] > s->id; at--) {
            ids[at] = ids[at - 1];
        }
        ids[at] = s->id;
    }
    *voters = n;
    *n_up = 0;
    unsigned rank = n;
    /* Every node comes to the same order. The groups of a dead leader differ in where it begins and which way it goes, else all of them would fall to one survivor. */
    uint64_t hash = g->id * 0x9e3779b97f4a7c15u;
    unsigned begin = n > 0 ? (unsigned)((hash >> 32) % n) : 0;
    bool back = (hash >> 31) % 2 != 0;
    for (unsigned i = 0; i < n; i++) {
        uint64_t id = ids[(begin + (back ? n - i : i)) % n];
        if (id == g->raft_id) {
            rank = *n_up;
            ++*n_up;
        } else if (links_peer_up(g->gs->links, raft_id_node(id))) {
            ++*n_up;
        }
    }
    return rank;
}

static bool leaderless(const struct group *g)
{
    if (g->state != GROUP_RUNNING || g->raft.state == RAFT_LEADER || g->raft.state == RAFT_UNAVAILABLE ||
        (group_installing(g) && group_rule_on(g, GROUP_RULE_R6))) {
        return false;
    }
    const struct raft_server *self = group_server(g, g->raft_id, NULL);
    if (self == NULL || self->role != RAFT_VOTER) {
        return false;
    }
    return g->raft.state == RAFT_CANDIDATE || g->raft.follower_state.current_leader.id == 0;
}

static void elect_at(struct group *g, uint64_t ms)
{
    g->elect_at_ms = ms;
    groups_schedule_election(g->gs, ms);
}

static unsigned rank_delay(const struct group *g)
{
    unsigned up, voters, rank = rank_of(g, &up, &voters);
    return rank * GROUP_RANK_MS;
}

/* How long a round of votes may take. The candidate's own vote waits for a sync, those of the others for theirs: as long as our own disk would take for all that, and
 * longer with each round that failed, as theirs may be slower. */
static unsigned vote_patience(const struct group *g)
{
    uint64_t flushes = GROUP_VOTE_FLUSHES * journal_flush_ns(g->gs->o.journal) / 1000000;
    return (unsigned)max_u64(GROUP_VOTE_MS << (g->vote_rounds < 4 ? g->vote_rounds : 4), min_u64(flushes, GROUP_VOTE_MS << 4));
}

/* We ask for votes, or will as soon as our own is durable. */
static bool in_round(const struct group *g) { return g->raft.state == RAFT_CANDIDATE && !g->raft.candidate_state.in_pre_vote; }

/* So many refused that the others are no majority. */
static bool round_lost(const struct group *g)
{
    bool self;
    unsigned voters = group_voters(g, &self), refused = 0;
    for (unsigned i = 0; i < g->n_peers; i++) {
        const struct raft_server *s = g->peers[i].refused ? group_server(g, g->peers[i].id, NULL) : NULL;
        refused += s != NULL && s->role == RAFT_VOTER;
    }
    return voters - refused <= voters / 2;
}

/* Our round of votes may still be won. */
static bool round_open(const struct group *g)
{
    return in_round(g) && !round_lost(g) && (g->vote_term != g->raft.current_term || group_now(g) - g->vote_ms < vote_patience(g));
}

/* When whoever has our (pre-)vote has had the time to win; 0: nobody has it. */
static uint64_t promised_until(const struct group *g) { return g->promised_to != 0 ? g->promised_ms + vote_patience(g) : 0; }

/* After every event: begins or ends the watch over a leaderless group. */
void group_watch_election(struct group *g)
{
    if (!leaderless(g)) {
        g->elect_at_ms = 0;
        if (group_leads(g) || g->raft.state == RAFT_FOLLOWER) {
            g->elect_tries = 0;
            g->vote_rounds = 0;
            g->promised_to = 0;
        }
        return;
    }
    if (in_round(g) && g->vote_term != g->raft.current_term && g->term_end <= journal_durable(g->gs->o.journal)) {
        g->vote_term = g->raft.current_term;
        g->vote_ms = group_now(g);
    }
    if (g->elect_at_ms != 0) {
        return;
    }
    uint64_t now = group_now(g);
    bool self;
    if (group_voters(g, &self) == 1 && self) {
        elect_at(g, now);
    } else if (g->prefer_leader && g->told_term <= 1) {
        elect_at(g, now);
    } else if (g->contact_ms == 0) {
        elect_at(g, now + GROUP_START_MS + rank_delay(g)); /* just started: there may be a leader */
    } else {
        elect_at(g, now + GROUP_RANK_MS + rank_delay(g)); /* stepped down: whoever caused it may be winning */
    }
}

/* The detector's verdict on the leader's node: forget the leader, campaign in the order of ranks. */
void group_leader_lost(struct group *g, uint32_t node)
{
    if (g->promised_to != 0 && raft_id_node(g->promised_to) == node) {
        g->promised_to = 0; /* the candidate that has our vote is gone */
        if (g->elect_at_ms != 0 && !round_open(g)) {
            elect_at(g, min_u64(g->elect_at_ms, group_now(g) + rank_delay(g)));
        }
    }
    if (g->state != GROUP_RUNNING || g->raft.state != RAFT_FOLLOWER || g->raft.follower_state.current_leader.id == 0 ||
        raft_id_node(g->raft.follower_state.current_leader.id) != node) {
        return;
    }
    group_enter(g);
    g->raft.follower_state.current_leader.id = 0;
    g->elect_tries = 0;
    if (leaderless(g)) {
        elect_at(g, group_now(g) + rank_delay(g));
    }
    group_leave(g);
}

/* The detector judges nodes. A leader may also fall silent while its node is well (it stepped down, or its replica began anew), or speak to us over a link that was
 * never up both ways. The caller has entered the group. */
void group_check_contact(struct group *g)
{
    if (g->raft.state != RAFT_FOLLOWER || g->raft.follower_state.current_leader.id == 0 || group_installing(g)) {
        return;
    }
    uint32_t node = raft_id_node(g->raft.follower_state.current_leader.id);
    uint64_t silence = group_now(g) - g->contact_ms;
    if (silence > 3u * g->heartbeat_ms + g->gs->o.silence_ms || (silence > g->gs->o.silence_ms && !links_peer_up(g->gs->links, node))) {
        group_leader_lost(g, node);
    }
}

void group_peer_up(struct group *g)
{
    if (g->elect_at_ms == 0) {
        return;
    }
    uint64_t now = group_now(g);
    if (g->prefer_leader && g->told_term <= 1) {
        g->elect_tries = 0;
        elect_at(g, now);
    } else if (g->contact_ms == 0 && g->elect_tries == 0) {
        elect_at(g, max_u64(now, g->opened_ms + GROUP_START_MS) + rank_delay(g)); /* ranks are known better now */
    } else {
        g->elect_tries = 0;
        elect_at(g, min_u64(g->elect_at_ms, now + 20 + rank_delay(g)));
    }
}

/* We just gave somebody our (pre-)vote: let it finish. */
void group_vote_given(struct group *g, uint64_t to, bool pre_vote)
{
    if (!pre_vote || g->promised_to != to || group_now(g) >= promised_until(g)) { /* asking again for a pre-vote gains no time: somebody else may have to have a turn */
        g->promised_to = to;
        g->promised_ms = group_now(g);
    }
    g->vote_rounds += !pre_vote;
    if (g->elect_at_ms != 0) {
        elect_at(g, max_u64(g->elect_at_ms, promised_until(g) + rank_delay(g)));
    }
}

/* Whoever had our pre-vote can't have our vote: the others need not wait for it any longer. */
void group_vote_refused(struct group *g, uint64_t to)
{
    if (g->promised_to != to) {
        return;
    }
    g->promised_to = 0;
    if (g->elect_at_ms != 0 && !round_open(g)) {
        elect_at(g, min_u64(g->elect_at_ms, group_now(g) + GROUP_RANK_MS + rank_delay(g)));
    }
}

/* libraft gives its pre-vote to anybody, even while it asks for votes itself: with slow disks all would win pre-votes, and the rounds of votes would be split or ended
 * by the next one's higher term. One at a time: others wait until the one we favour has had its time. */
bool group_ignores_prevote(const struct group *g, uint64_t from)
{
    return leaderless(g) && (round_open(g) || (g->promised_to != from && group_now(g) < promised_until(g)));
}

/* While there is no leader, group_run_election() alone says when the next round begins. */
bool group_election_rests(const struct group *g) { return g->elect_at_ms != 0 && !g->campaigning && leaderless(g); }

/* The time has come. */
void group_run_election(struct group *g)
{
    uint64_t now = group_now(g);
    if (!leaderless(g) || g->elect_at_ms == 0) {
        g->elect_at_ms = 0;
        return;
    }
    if (g->elect_at_ms > now) {
        groups_schedule_election(g->gs, g->elect_at_ms);
        return;
    }
    unsigned up, voters, rank = rank_of(g, &up, &voters);
    if (up <= voters / 2) {
        elect_at(g, now + 50 + rank * 5); /* nobody there to vote; an arriving link hastens it */
        return;
    }
    uint64_t patience = vote_patience(g);
    if (round_open(g)) {
        elect_at(g, (g->vote_term == g->raft.current_term ? g->vote_ms : now) + patience + env_random_below(g->gs->o.env, GROUP_VOTE_MS));
        return;
    }
    if (now < promised_until(g)) {
        elect_at(g, promised_until(g) + rank_delay(g));
        return;
    }
    if (in_round(g)) {
        /* libraft would raise its term at once, again and again, and with it disturb a leader that the others have found meanwhile. */
        g->vote_rounds++;
        g->raft.candidate_state.in_pre_vote = true;
        g->raft.candidate_state.disrupt_leader = false;
    }
    unsigned shift = g->elect_tries < 6 ? g->elect_tries : 6;
    g->elect_tries++;
    elect_at(g, now + (30u << shift) + rank * GROUP_RANK_MS / 2 + env_random_below(g->gs->o.env, 20u << shift));
    group_enter(g);
    expire_timer(g);
    g->campaigning = true;
    group_tick(g);
    g->campaigning = false;
    group_leave(g);
}

void group_campaign(struct group *g)
{
    if (g->state == GROUP_RUNNING && g->raft.state == RAFT_FOLLOWER && leaderless(g)) {
        g->elect_tries = 0;
        elect_at(g, group_now(g));
    }
}

/* ---- R12 ---- */

static void sole_term_written(struct group *g, struct state_write *w)
{
    if (w->value == g->raft.current_term) {
        g->sole_term = w->value;
    }
    g->sole_writing = 0;
    if (g->elect_at_ms != 0) {
        elect_at(g, group_now(g));
    }
}

/* A follower that sees itself as the only voter would lead in its present term without asking anybody, perhaps beside the leader of that term: it gets no tick
 * before a raised term is durable. */
bool group_sole_hold(struct group *g)
{
    bool self;
    if (g->raft.state != RAFT_FOLLOWER || group_voters(g, &self) != 1 || !self || !group_rule_on(g, GROUP_RULE_R12) || g->sole_term == g->raft.current_term) {
        return false;
    }
    if (g->sole_writing == 0 && g->raft.follower_state.current_leader.id == 0) {
        g->sole_writing = g->raft.current_term + 1;
        g->raft.current_term++;
        g->raft.voted_for = 0;
        g->disk_term = g->raft.current_term;
        group_write_state(g, (struct journal_record){.kind = JOURNAL_TERM, .a = g->raft.current_term}, NULL, g->raft.current_term, sole_term_written);
    } else if (g->sole_writing == 0 && group_now(g) - g->contact_ms > g->election_ms) {
        g->raft.follower_state.current_leader.id = 0; /* the leader that removed itself is gone */
    }
    return true;
}
