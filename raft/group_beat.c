/* group_beat.c: heartbeats of idle groups.
 *
 * A node may hold thousands of groups, and most are idle at any time. A heartbeat of libraft's costs two records of 80 bytes, two checksums and two walks through the
 * library for each follower. An idle leader's heartbeats go into one LINK_BEAT per pair of nodes instead, 24 bytes a group, and the follower's node answers with
 * those that it agrees with. Nobody asks libraft: its timers are set as a heartbeat would set them.
 *
 * A beat says nothing about logs, so nothing can be committed by it; no rule of README.md rests on one. It counts only where a heartbeat would change nothing:
 * the follower has all of the log and knows all of the commit, in the leader's term. Whatever is not as it should be (a record lost, a group on another lane of the
 * peer, a follower that lags) leaves the beat unanswered, and the group goes back to heartbeats of libraft's within half a period. */
#include "group_impl.h"

#include <stdlib.h>

enum { BEAT_SIZE = 24 }; /* u64 group | u64 term | u64 commit index */

/* What is to go to one node. Within a record the groups are in ascending order, which makes finding them cheap. */
struct beat_out {
    uint32_t node, len;
    uint8_t bytes[LINK_POST_MAX - LINK_POST_MAX % BEAT_SIZE];
};

static void post(struct groups *gs, uint32_t node, enum link_type type, const uint8_t *bytes, uint32_t len)
{
    links_post(gs->links, node, &(struct link_message){.type = type, .from = gs->o.node_id, .to = node, .payload = bytes, .payload_len = len});
}

static void flush(struct groups *gs, struct beat_out *b)
{
    if (b->len > 0) {
        post(gs, b->node, LINK_BEAT, b->bytes, b->len);
        b->len = 0;
    }
}

void groups_beat_flush(struct groups *gs)
{
    for (unsigned i = 0; i < gs->n_beats; i++) {
        flush(gs, gs->beats[i]);
    }
}

void groups_beat_free(struct groups *gs)
{
    for (unsigned i = 0; i < gs->n_beats; i++) {
        free(gs->beats[i]);
    }
    free(gs->beats);
}

static struct beat_out *beat_to(struct groups *gs, uint32_t node)
{
    for (unsigned i = 0; i < gs->n_beats; i++) {
        if (gs->beats[i]->node == node) {
            return gs->beats[i];
        }
    }
    gs->beats = xrealloc(gs->beats, (gs->n_beats + 1) * sizeof *gs->beats);
    struct beat_out *b = xmalloc(sizeof *b);
    b->node = node;
    b->len = 0;
    gs->beats[gs->n_beats++] = b;
    return b;
}

static void add(struct groups *gs, uint32_t node, const struct group *g)
{
    struct beat_out *b = beat_to(gs, node);
    if (b->len == sizeof b->bytes) {
        flush(gs, b);
    }
    uint8_t *p = b->bytes + b->len;
    put_u64(p, g->id);
    put_u64(p + 8, g->raft.current_term);
    put_u64(p + 16, g->raft.commit_index);
    b->len += BEAT_SIZE;
}

/* Nothing goes on in the group that its tick would have to look after. */
static bool calm(const struct group *g)
{
    return g->held == NULL && g->ops == NULL && g->fresh == NULL && g->seeder == NULL && g->answers == NULL && g->change == NULL && g->transfer == NULL &&
           g->put == NULL && g->n_gets == 0 && g->timeout_now_in.type == 0 && g->timeout_now_out.type == 0;
}

/* ---- the leader ---- */

/* The peer has everything, was told so, and answers. */
static bool follows(struct group *g, const struct raft_server *s, const struct raft_progress *progress, uint64_t last, uint64_t now)
{
    const struct peer *p = group_peer(g, s->id);
    return s->role != RAFT_SPARE && progress->state == PROGRESS_PIPELINE && progress->match_index == last && p->commit_told == last &&
           now - p->heard_ms <= g->heartbeat_ms + g->heartbeat_ms / 2;
}

/* Beats for the followers that need no more; the others get libraft's heartbeats by the tick. */
static uint64_t lead(struct group *g, uint64_t now)
{
    uint64_t last = group_log_last(&g->log);
    if (!group_ready(g) || !calm(g) || g->raft.commit_index != last || g->raft.last_applied != last || g->raft.leader_state.promotee_id != 0) {
        return 0;
    }
    bool all = true;
    uint64_t next = now + g->heartbeat_ms;
    for (unsigned i = 0; i < g->raft.configuration.n; i++) {
        const struct raft_server *s = &g->raft.configuration.servers[i];
        struct raft_progress *progress = &g->raft.leader_state.progress[i];
        if (s->id == g->raft_id) {
            continue;
        }
        if (!follows(g, s, progress, last, now)) {
            all = false;
            continue;
        }
        if (now - progress->last_send >= g->heartbeat_ms) {
            add(g->gs, raft_id_node(s->id), g);
            progress->last_send = now;
        }
        next = min_u64(next, progress->last_send + g->heartbeat_ms);
    }
    return all ? next : 0;
}

/* Instead of a tick. 0: the group has to be ticked; else when to look at it again. */
uint64_t group_beat(struct group *g, uint64_t now)
{
    if (group_leads(g)) {
        return lead(g, now);
    }
    /* A follower's tick only looks whether the leader has been silent for too long. */
    uint64_t quiet = g->contact_ms + 2u * g->heartbeat_ms;
    bool follower = g->raft.state == RAFT_FOLLOWER && g->raft.follower_state.current_leader.id != 0;
    return follower && now < quiet && calm(g) && !group_installing(g) ? quiet : 0;
}

static void confirmed(struct group *g, uint32_t from_node, uint64_t term, uint64_t now)
{
    if (!group_leads(g) || term != g->raft.current_term) {
        return;
    }
    for (unsigned i = 0; i < g->raft.configuration.n; i++) {
        const struct raft_server *s = &g->raft.configuration.servers[i];
        if (raft_id_node(s->id) == from_node && s->id != g->raft_id && g->raft.leader_state.progress[i].state == PROGRESS_PIPELINE) {
            group_peer(g, s->id)->heard_ms = now;
            g->raft.leader_state.progress[i].recent_recv = true;
        }
    }
}

/* ---- the follower ---- */

static bool agrees(struct group *g, uint32_t from_node, uint64_t term, uint64_t commit)
{
    return g->raft.state == RAFT_FOLLOWER && term == g->raft.current_term && raft_id_node(g->raft.follower_state.current_leader.id) == from_node &&
           g->raft.commit_index >= commit && !group_installing(g) && g->term_end <= journal_durable(g->gs->o.journal);
}

void groups_beat_received(struct groups *gs, uint32_t from_node, const struct link_message *m)
{
    uint8_t answer[sizeof ((struct beat_out *)0)->bytes];
    uint32_t len = 0;
    uint64_t now = env_now_ms(gs->o.env);
    if (m->payload_len % BEAT_SIZE != 0 || m->payload_len > sizeof answer || m->from != from_node) {
        return;
    }
    unsigned at = 0;
    const uint8_t *p = m->payload;
    for (const uint8_t *end = p + m->payload_len; p < end; p += BEAT_SIZE) {
        struct group *g = groups_find_near(gs, get_u64(p), &at);
        if (g == NULL || g->state != GROUP_RUNNING || !g->started) {
            continue;
        }
        uint64_t term = get_u64(p + 8);
        if (m->type == LINK_BEAT_RESULT) {
            confirmed(g, from_node, term, now);
        } else if (agrees(g, from_node, term, get_u64(p + 16))) {
            g->contact_ms = now;
            g->raft.election_timer_start = now;
            memcpy(answer + len, p, BEAT_SIZE);
            len += BEAT_SIZE;
        }
    }
    if (len > 0) {
        post(gs, from_node, LINK_BEAT_RESULT, answer, len);
    }
}
