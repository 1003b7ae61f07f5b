/* groups.c: a lane's table of groups: messages, timers, the detector's verdicts, the journal's questions. */
#include "group_impl.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

/* ---- the table: by group id ---- */

static unsigned position(const struct groups *gs, uint64_t id)
{
    unsigned low = 0, high = gs->n_groups;
    while (low < high) {
        unsigned mid = (low + high) / 2;
        if (gs->slots[mid].id < id) {
            low = mid + 1;
        } else {
            high = mid;
        }
    }
    return low;
}

struct group *groups_find(struct groups *gs, uint64_t id)
{
    unsigned at = position(gs, id);
    return at < gs->n_groups && gs->slots[at].id == id ? gs->slots[at].g : NULL;
}

struct group *groups_find_near(struct groups *gs, uint64_t id, unsigned *at)
{
    /* The ids of a beat leave out those of other leaders, which are every second or third: a few steps are cheaper than a search. */
    for (unsigned steps = 0; steps < 4 && *at < gs->n_groups && gs->slots[*at].id < id; steps++) {
        ++*at;
    }
    if (*at >= gs->n_groups || gs->slots[*at].id != id) {
        *at = position(gs, id);
    }
    return *at < gs->n_groups && gs->slots[*at].id == id ? gs->slots[*at].g : NULL;
}

struct group *groups_next(struct groups *gs, uint64_t *cursor)
{
    unsigned at = position(gs, *cursor);
    if (at == gs->n_groups) {
        return NULL;
    }
    *cursor = gs->slots[at].id + 1;
    return gs->slots[at].g;
}

void groups_insert(struct group *g)
{
    struct groups *gs = g->gs;
    if (gs->n_groups == gs->cap_groups) {
        gs->cap_groups = gs->cap_groups == 0 ? 16 : 2 * gs->cap_groups;
        gs->slots = xrealloc(gs->slots, gs->cap_groups * sizeof *gs->slots);
    }
    unsigned at = position(gs, g->id);
    memmove(&gs->slots[at + 1], &gs->slots[at], (gs->n_groups - at) * sizeof *gs->slots);
    /* Not all in the same turn of the timer. */
    gs->slots[at] = (struct group_slot){.id = g->id, .due_ms = group_now(g) + g->id * 37 % (g->heartbeat_ms / 2), .g = g};
    gs->n_groups++;
    if (g->heartbeat_ms / 2 < gs->tick_ms) {
        gs->tick_ms = g->heartbeat_ms / 2;
        env_timer_start_ms(&gs->timer, gs->tick_ms);
    }
}

void groups_wake(struct group *g)
{
    unsigned at = position(g->gs, g->id);
    if (at < g->gs->n_groups && g->gs->slots[at].g == g) {
        g->gs->slots[at].due_ms = 0;
    }
}

static void unlink_from(struct group **list, struct group *g, bool later)
{
    for (; *list != NULL; list = later ? &(*list)->later_next : &(*list)->commits_next) {
        if (*list == g) {
            *list = later ? g->later_next : g->commits_next;
            return;
        }
    }
}

static void maybe_over(struct groups *gs);

void groups_forget(struct group *g)
{
    struct groups *gs = g->gs;
    unsigned at = position(gs, g->id);
    sluice_assert(at < gs->n_groups && gs->slots[at].g == g);
    memmove(&gs->slots[at], &gs->slots[at + 1], (gs->n_groups - at - 1) * sizeof *gs->slots);
    gs->n_groups--;
    if (g->in_later) {
        unlink_from(&gs->later, g, true);
    }
    if (g->in_commits) {
        unlink_from(&gs->commits, g, false);
    }
}

void groups_set_removed(struct groups *gs, uint64_t id)
{
    gs->removed = xrealloc(gs->removed, (gs->n_removed + 1) * sizeof *gs->removed);
    unsigned at = gs->n_removed++;
    for (; at > 0 && gs->removed[at - 1] > id; at--) {
        gs->removed[at] = gs->removed[at - 1];
    }
    gs->removed[at] = id;
}

bool groups_take_removed(struct groups *gs, uint64_t id)
{
    bool found = false;
    for (unsigned i = 0; i < gs->n_removed;) {
        if (gs->removed[i] == id) {
            found = true;
            memmove(&gs->removed[i], &gs->removed[i + 1], (--gs->n_removed - i) * sizeof *gs->removed);
        } else {
            i++;
        }
    }
    return found;
}

void groups_log(struct group *g, const char *format, ...)
{
    char line[512];
    int n = snprintf(line, sizeof line, "raft group=%llu id=%llx: ", (unsigned long long)g->id, (unsigned long long)g->raft_id);
    va_list ap;
    va_start(ap, format);
    n += vsnprintf(line + n, sizeof line - (size_t)n, format, ap);
    va_end(ap);
    env_log_line(g->gs->o.env, line, min_u64((uint64_t)n, sizeof line - 1));
}

/* ---- messages ---- */

void groups_receive(struct groups *gs, uint32_t from_node, struct link_message *m)
{
    struct group *g = groups_find(gs, m->group);
    if (g != NULL) {
        group_receive(g, from_node, m);
    } else if (gs->o.stray != NULL) {
        gs->o.stray(gs->o.arg, from_node, m);
    }
}

static void on_receive(void *arg, uint32_t from_node, struct link_message *m)
{
    if (m->type == LINK_BEAT || m->type == LINK_BEAT_RESULT) {
        groups_beat_received(arg, from_node, m);
    } else {
        groups_receive(arg, from_node, m);
    }
}

static void on_peer_changed(void *arg, uint32_t node, bool up, bool by_reset)
{
    struct groups *gs = arg;
    (void)by_reset;
    uint64_t cursor = 0;
    for (struct group *g; (g = groups_next(gs, &cursor)) != NULL;) {
        if (g->state != GROUP_RUNNING || !g->started) {
            continue;
        }
        if (up) {
            group_peer_up(g);
        } else {
            group_leader_lost(g, node);
        }
    }
    if (gs->o.peer_changed != NULL) {
        gs->o.peer_changed(gs->o.arg, node, up);
    }
}

static void on_refused(void *arg, uint32_t node, int code, const char *message)
{
    struct groups *gs = arg;
    if (gs->o.refused != NULL) {
        gs->o.refused(gs->o.arg, node, code, message);
    }
}

/* ---- timers ---- */

static void tick_group(struct groups *gs, unsigned at, uint64_t now)
{
    struct group *g = gs->slots[at].g;
    gs->slots[at].due_ms = now + g->heartbeat_ms / 2;
    if (g->state != GROUP_RUNNING || !g->started) {
        return;
    }
    uint64_t rest = group_beat(g, now);
    if (rest != 0) {
        gs->slots[at].due_ms = rest;
        return;
    }
    group_enter(g);
    group_tick(g);
    group_check_contact(g);
    group_read_tick(g);
    group_seed_tick(g);
    group_leave(g);
}

/* Memory for logs is short: groups that are written to take snapshots as they go, idle ones have to be nudged. Some at a time. */
static void reclaim(struct groups *gs)
{
    if (gs->log_bytes <= gs->o.memory_max / 8 * 5) {
        return;
    }
    unsigned looks = gs->n_groups < GROUP_RECLAIM_LOOKS ? gs->n_groups : GROUP_RECLAIM_LOOKS;
    for (unsigned nudged = 0; looks > 0 && nudged < GROUP_RECLAIM_NUDGES; looks--) {
        gs->reclaim_at = gs->reclaim_at < gs->n_groups ? gs->reclaim_at : 0;
        struct group *g = gs->slots[gs->reclaim_at++].g;
        if (g->started && group_ready(g) && g->in_flight == 0 && g->put == NULL && g->sink.nudge != NULL && group_holds_much(g)) {
            g->sink.nudge(g->sink.arg);
            nudged++;
        }
    }
}

static void on_tick(struct env_timer *t)
{
    struct groups *gs = container_of(t, struct groups, timer);
    env_timer_start_ms(&gs->timer, gs->tick_ms);
    uint64_t now = env_now_ms(gs->o.env);
    seed_pace_tick(gs);
    for (unsigned at = 0; at < gs->n_groups; at++) {
        if (now < gs->slots[at].due_ms) {
            continue;
        }
        uint64_t id = gs->slots[at].id;
        tick_group(gs, at, now);
        if (at >= gs->n_groups || gs->slots[at].id != id) {
            at = position(gs, id + 1) - 1; /* a group was closed meanwhile; before the first, ++ makes it 0 again */
        }
    }
    groups_beat_flush(gs);
    reclaim(gs);
    if (now - gs->collect_ms >= 1000) {
        gs->collect_ms = now;
        groups_write_notes(gs);
        journal_collect(gs->o.journal);
    }
}

static void on_elect(struct env_timer *t)
{
    struct groups *gs = container_of(t, struct groups, elect_timer);
    gs->elect_armed = false;
    uint64_t cursor = 0;
    for (struct group *g; (g = groups_next(gs, &cursor)) != NULL;) {
        if (g->elect_at_ms != 0) {
            group_run_election(g);
        }
        if (g->transfer != NULL) {
            group_enter(g);
            group_transfer_tick(g);
            group_leave(g);
        }
    }
}

void groups_schedule_election(struct groups *gs, uint64_t at_ms)
{
    if (gs->closing || (gs->elect_armed && gs->elect_next_ms <= at_ms)) {
        return;
    }
    uint64_t now = env_now_ms(gs->o.env);
    gs->elect_armed = true;
    gs->elect_next_ms = at_ms;
    env_timer_start_ms(&gs->elect_timer, at_ms > now ? at_ms - now : 0);
}

static void on_commit(struct env_timer *t)
{
    struct groups *gs = container_of(t, struct groups, commit_timer);
    gs->commit_armed = false;
    struct group *list = gs->commits;
    gs->commits = NULL;
    while (list != NULL) {
        struct group *g = list;
        list = g->commits_next;
        g->in_commits = false;
        if (g->state == GROUP_RUNNING) {
            group_send_commit(g);
        }
    }
}

void groups_commit_moved(struct group *g)
{
    struct groups *gs = g->gs;
    if (g->in_commits || g->raft.configuration.n < 2 || gs->closing) {
        return;
    }
    g->in_commits = true;
    g->commits_next = gs->commits;
    gs->commits = g;
    if (!gs->commit_armed) {
        gs->commit_armed = true;
        env_timer_start_ms(&gs->commit_timer, GROUP_COMMIT_MS);
    }
}

static void on_later(struct env_task *t)
{
    struct groups *gs = container_of(t, struct groups, later_task);
    while (gs->later != NULL) {
        struct group *g = gs->later;
        gs->later = g->later_next;
        g->in_later = false;
        group_enter(g);
        group_read_work(g);
        group_leave(g);
    }
    maybe_over(gs);
}

void groups_later(struct group *g)
{
    struct groups *gs = g->gs;
    if (!g->in_later) {
        g->in_later = true;
        g->later_next = gs->later;
        gs->later = g;
    }
    env_defer(gs->o.env, &gs->later_task, on_later);
}

/* ---- the journal's questions ---- */

static void on_needs(void *arg, uint64_t id, struct journal_needs *out)
{
    struct groups *gs = arg;
    *out = (struct journal_needs){0}; /* unknown here (not opened yet): everything is needed */
    const struct group *g = groups_find(gs, id);
    if (g != NULL) {
        out->entry_needed = g->snap_durable + 1;
        out->offset_needed = g->trim_durable;
        return;
    }
    for (unsigned i = 0; i < gs->n_removed; i++) {
        out->removed |= gs->removed[i] == id;
    }
}

static bool same_place(const struct place *a, const struct place *b) { return a->segment == b->segment && a->pos == b->pos && a->len == b->len; }

static void on_moved(void *arg, const struct journal_record *r, const struct place *from, const struct place *to)
{
    struct group *g = groups_find(arg, r->group);
    if (g == NULL || (r->kind != JOURNAL_ENTRY && r->kind != JOURNAL_BATCH)) {
        return;
    }
    if (r->kind == JOURNAL_ENTRY) {
        struct slot *s = group_log_at(&g->log, r->index);
        if (s != NULL && same_place(&s->place, from)) {
            s->place = *to;
        }
    }
    if (r->b > 0 && g->batches != NULL) {
        batch_log_moved(g->batches, r->a, from, to);
    }
}

/* ---- open, close ---- */

int groups_open(struct groups **out, const struct groups_options *o)
{
    struct groups *gs = xcalloc(1, sizeof *gs);
    gs->o = *o;
    gs->o.heartbeat_ms = o->heartbeat_ms != 0 ? o->heartbeat_ms : 300;
    gs->o.election_ms = o->election_ms != 0 ? o->election_ms : 3000;
    gs->o.in_flight_bytes = o->in_flight_bytes != 0 ? o->in_flight_bytes : 1 << 20;
    gs->o.snapshot_bytes = o->snapshot_bytes != 0 ? o->snapshot_bytes : 4 << 20;
    gs->o.trailing_bytes = o->trailing_bytes != 0 ? o->trailing_bytes : 4 << 20;
    gs->o.memory_max = o->memory_max != 0 ? o->memory_max : 1 << 30;
    gs->o.silence_ms = o->silence_ms != 0 ? o->silence_ms : 800;
    gs->tick_ms = gs->o.heartbeat_ms / 2;
    gs->collect_ms = env_now_ms(o->env);
    struct links_options lo = {.env = o->env, .node_id = o->node_id, .lane = o->lane, .lanes = o->lanes, .incarnation = o->incarnation, .life = o->life,
                               .prior_end = o->prior_end, .born = o->born, .liveness_ms = o->liveness_ms, .silence_ms = o->silence_ms, .arg = gs, .position = groups_position, .receive = on_receive,
                               .peer_changed = on_peer_changed, .refused = on_refused};
    memcpy(lo.cluster_id, o->cluster_id, sizeof lo.cluster_id);
    int rv = env_timer_init(o->env, &gs->timer, on_tick);
    if (rv == 0) {
        rv = env_timer_init(o->env, &gs->elect_timer, on_elect);
    }
    if (rv == 0) {
        rv = env_timer_init(o->env, &gs->commit_timer, on_commit);
    }
    if (rv == 0) {
        rv = links_open(&gs->links, &lo);
    }
    if (rv != 0) {
        env_timer_close(&gs->timer);
        env_timer_close(&gs->elect_timer);
        env_timer_close(&gs->commit_timer);
        free(gs);
        return rv;
    }
    journal_set_owner(o->journal, gs, on_needs, on_moved, groups_ride);
    env_timer_start_ms(&gs->timer, gs->tick_ms);
    *out = gs;
    return 0;
}

struct links *groups_links(struct groups *gs) { return gs->links; }

static void maybe_over(struct groups *gs)
{
    if (!gs->closing || gs->n_groups > 0 || gs->close_done == NULL) {
        return;
    }
    void (*done)(void *arg) = gs->close_done;
    void *arg = gs->close_arg;
    links_close(gs->links);
    journal_set_owner(gs->o.journal, NULL, NULL, NULL, NULL);
    free(gs->slots);
    groups_beat_free(gs);
    free(gs->removed);
    free(gs);
    done(arg);
}

static void on_group_closed(void *arg)
{
    struct groups *gs = arg;
    env_defer(gs->o.env, &gs->later_task, on_later);
}

void groups_close(struct groups *gs, void (*done)(void *arg), void *arg)
{
    gs->closing = true;
    gs->close_done = done;
    gs->close_arg = arg;
    env_timer_close(&gs->timer);
    env_timer_close(&gs->elect_timer);
    env_timer_close(&gs->commit_timer);
    uint64_t cursor = 0;
    for (struct group *g; (g = groups_next(gs, &cursor)) != NULL;) {
        if (g->state != GROUP_CLOSING && g->state != GROUP_CLOSED) {
            group_close(g, false, on_group_closed, gs);
        }
    }
    env_defer(gs->o.env, &gs->later_task, on_later);
}

void groups_stats(const struct groups *gs, struct groups_stats *out)
{
    *out = gs->stats;
    out->groups = gs->n_groups;
    out->leaders = 0;
    out->log_bytes = gs->log_bytes;
    for (unsigned i = 0; i < gs->n_groups; i++) {
        out->leaders += group_role(gs->slots[i].g) == GROUP_LEADER;
    }
}
