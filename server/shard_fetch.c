/* shard_fetch.c: reading records: committed ones only, as whole batches, sent from where they lie.
 *
 *   shard_fetch   stale replica -> STALE; mode fresh -> one quorum round first
 *   step          below the first readable offset -> EXPIRED; below the end -> read; at or beyond the end -> wait for records, at most wait_ms
 *   start_read    no room for the answer in the lane's memory (fetch_room.h) -> waits for it, then steps again
 *   read_done     the batches are pinned in the journal's memory; they are the answer's payload; unpinned when it was sent
 *
 * A position beyond the end is never an error on a follower (F28): it waits, then answers AHEAD with the leader as hint; the leader, after a quorum round, answers AHEAD
 * as the last word. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "proto/base.h"
#include "server/node_impl.h"
#include "server/shard.h"
#include "sluice.pb-c.h"

struct fetch_read {
    struct batch_read read;
    struct iovec iov[BATCH_READ_MAX];
    struct request *request;
};
_Static_assert(sizeof(struct fetch_read) <= FETCH_ROOM_OVERHEAD, "it is counted as overhead");

static void step(struct shard *s, struct request *r, bool may_wait);

static uint32_t leader_node(const struct shard *s)
{
    return s->group != NULL && !s->leading ? raft_id_node(group_leader(s->group)) : 0;
}

/* ---- waiting ---- */

static void stop_waiting(struct shard *s, struct request *r)
{
    struct fetch *f = &r->u.fetch;
    if (!f->waiting) {
        return;
    }
    f->waiting = false;
    *f->waiter_prev = f->waiter_next;
    if (f->waiter_next != NULL) {
        f->waiter_next->u.fetch.waiter_prev = f->waiter_prev;
    }
    s->lane->metrics.fetch_waiting--;
    env_timer_stop(&f->timer);
}

static void end_timer(struct request *r)
{
    if (r->u.fetch.timer_ready) {
        env_timer_close(&r->u.fetch.timer);
        r->u.fetch.timer_ready = false;
    }
}

static void wait_over(struct env_timer *t)
{
    struct request *r = container_of(t, struct request, u.fetch.timer);
    struct shard *s = r->shard_at;
    stop_waiting(s, r);
    r->u.fetch.wait_ms = 0;
    step(s, r, false);
}

static bool start_waiting(struct shard *s, struct request *r)
{
    struct fetch *f = &r->u.fetch;
    if (!f->timer_ready) {
        if (env_timer_init(s->lane->env, &f->timer, wait_over) != 0) {
            return false;
        }
        f->timer_ready = true;
    }
    /* Counted from the arrival, so that being woken and finding nothing does not lengthen it. */
    uint64_t passed_ms = (env_now_ns(s->lane->env) - r->arrived_ns) / 1000000;
    env_timer_start_ms(&f->timer, f->wait_ms > passed_ms ? f->wait_ms - passed_ms : 0);
    f->waiting = true;
    f->claim.turn = false; /* it had its turn */
    f->waiter_next = s->waiters;
    f->waiter_prev = &s->waiters;
    if (f->waiter_next != NULL) {
        f->waiter_next->u.fetch.waiter_prev = &f->waiter_next;
    }
    s->waiters = r;
    s->lane->metrics.fetch_waiting++;
    return true;
}

/* ---- memory for answers ---- */

static void go_on(struct env_task *t);

/* Deferred, as a connection may end inside the call that gave something back. */
static void room_changed(struct lane *l)
{
    l->metrics.fetch_memory_bytes = l->fetch_room.used;
    l->metrics.fetch_memory_waiting = l->fetch_room.waiting;
    if (l->fetch_room.ring != NULL) {
        env_defer(l->env, &l->fetch_task, go_on);
    }
}

/* Those that have room now. */
static void go_on(struct env_task *t)
{
    struct lane *l = container_of(t, struct lane, fetch_task);
    struct fetch_claim *c;
    while ((c = fetch_room_next(&l->fetch_room, env_now_ms(l->env))) != NULL) {
        struct request *r = container_of(c, struct request, u.fetch.claim);
        step(r->shard_at, r, true);
    }
    l->metrics.fetch_memory_waiting = l->fetch_room.waiting;
}

static void room_released(struct lane *l, struct request *r)
{
    fetch_room_release(&l->fetch_room, &r->u.fetch.claim);
    room_changed(l);
}

/* ---- answers ---- */

static void fill_reply(struct shard *s, Sluice__FetchReply *reply, uint64_t next_offset)
{
    reply->next_offset = next_offset;
    reply->first_offset = shard_first_readable(s);
    reply->end_offset = s->state.next;
    reply->log_time_ms = s->state.time_ms;
    reply->shard_created_s = s->state.identity.created_s;
    if (next_offset < s->state.next) {
        struct locator l;
        uint64_t now = env_wall_ms(s->lane->env);
        if (batch_log_find(s->batches, next_offset, &l) && l.time_ms < now) {
            reply->millis_behind = now - l.time_ms;
        }
    }
    if (s->state.closed && next_offset == s->state.next) {
        reply->closed = true;
        reply->children = s->state.children;
        reply->n_children = s->state.n_children;
    }
}

static void answer_empty(struct shard *s, struct request *r)
{
    end_timer(r);
    metrics_observe(&s->lane->metrics.fetch_latency, env_now_ns(s->lane->env) - r->arrived_ns);
    Sluice__FetchReply reply = SLUICE__FETCH_REPLY__INIT;
    fill_reply(s, &reply, r->u.fetch.offset);
    request_answer(r, FRAME_FETCH_REPLY, &reply);
}

static void fail(struct shard *s, struct request *r, int code, const char *why, uint32_t node)
{
    stop_waiting(s, r);
    end_timer(r);
    room_released(s->lane, r);
    request_error(r, code, why, node, code == SLUICE_E_BUSY ? 1000 : 0);
}

static void fail_expired(struct shard *s, struct request *r)
{
    char why[120];
    snprintf(why, sizeof why, "offset %llu lies before the trim horizon %llu", (unsigned long long)r->u.fetch.offset, (unsigned long long)shard_first_readable(s));
    fail(s, r, SLUICE_E_EXPIRED, why, 0);
}

/* ---- reading ---- */

static void release(struct request *r)
{
    struct fetch_read *fr = r->u.fetch.read;
    struct shard *s = r->shard_at;
    batch_read_end(&fr->read);
    free(fr);
    r->u.fetch.read = NULL;
    room_released(s->lane, r);
    shard_unpin(s);
}

static void read_failed(struct shard *s, struct request *r, int status)
{
    release(r);
    switch (status) {
    case -ENOENT:
        if (r->u.fetch.from_horizon && r->u.fetch.offset < shard_first_readable(s)) {
            step(s, r, false); /* the horizon moved on while it was read */
        } else {
            fail_expired(s, r);
        }
        return;
    case -EAGAIN:
        fail(s, r, SLUICE_E_STALE, "these records are still being copied to this replica", leader_node(s));
        return;
    case -ENOMEM:
        fail(s, r, SLUICE_E_MEMORY, NULL, 0);
        return;
    case -EIO:
        log_error(&s->lane->log, "damaged batch", "group=%llu offset=%llu", (unsigned long long)s->group_id, (unsigned long long)r->u.fetch.offset);
        fail(s, r, SLUICE_E_CORRUPT, NULL, leader_node(s));
        return;
    default:
        fail(s, r, SLUICE_E_INTERNAL, "reading failed", 0);
        return;
    }
}

/* What a shared answer counts: the records that were asked for, as they are without compression. Of a batch in part its share. */
static uint64_t shared_bytes(const struct fetch_read *fr, uint64_t from)
{
    uint64_t bytes = 0, to = fr->read.limit;
    for (unsigned i = 0; i < fr->read.n; i++) {
        const uint8_t *batch = fr->read.reads[i].data;
        uint64_t first = get_u64(batch + 16), count = get_u32(batch + 24);
        uint64_t begin = max_u64(first, from), end = min_u64(first + count, to);
        bytes += end > begin ? get_u32(batch + 28) * (end - begin) / count : 0;
    }
    return min_u64(bytes, SHARD_FETCH_BYTES_MAX);
}

static void read_finished(struct fetch_read *fr)
{
    struct request *r = fr->request;
    struct shard *s = r->shard_at;
    struct batch_read *read = &fr->read;
    if (read->status != 0 || read->n == 0) {
        read_failed(s, r, read->status != 0 ? read->status : -EIO);
        return;
    }
    struct lane_metrics *m = &s->lane->metrics;
    uint64_t bytes = 0;
    for (unsigned i = 0; i < read->n; i++) {
        fr->iov[i] = (struct iovec){ .iov_base = (void *)(uintptr_t)read->reads[i].data, .iov_len = read->reads[i].place.len };
        bytes += read->reads[i].place.len;
    }
    if (r->u.fetch.shared) {
        quota_take(&s->read_payload, shared_bytes(fr, r->u.fetch.offset), env_now_ms(s->lane->env));
    }
    s->read_bytes += bytes;
    s->read_records += read->next_offset - r->u.fetch.offset;
    m->fetch_bytes_total += bytes;
    fetch_room_settle(&s->lane->fetch_room, &r->u.fetch.claim, bytes);
    room_changed(s->lane);
    m->fetch_records_total += read->next_offset - r->u.fetch.offset;
    metrics_observe(&m->fetch_latency, env_now_ns(s->lane->env) - r->arrived_ns);
    end_timer(r);
    Sluice__FetchReply reply = SLUICE__FETCH_REPLY__INIT;
    fill_reply(s, &reply, read->next_offset);
    request_answer_body(r, FRAME_FETCH_REPLY, &reply, fr->iov, read->n, release);
}

static void read_done(struct batch_read *read)
{
    read_finished(container_of(read, struct fetch_read, read));
}

static void start_read(struct shard *s, struct request *r)
{
    struct fetch *f = &r->u.fetch;
    struct lane *l = s->lane;
    struct locator first;
    uint64_t least = batch_log_find(s->batches, f->offset, &first) ? first.place.len : 0;
    uint64_t want = min_u64(f->max_bytes != 0 ? f->max_bytes : 1 << 20, SHARD_FETCH_BYTES_MAX);
    uint64_t room = fetch_room_claim(&l->fetch_room, &f->claim, r->conn_id, least, max_u64(want, 1), env_now_ms(l->env));
    room_changed(l);
    if (room == 0) {
        l->metrics.fetch_memory_waits_total++;
        return;
    }
    struct fetch_read *fr = malloc(sizeof *fr); /* large: of its arrays only what is read gets filled in */
    if (fr == NULL) {
        fail(s, r, SLUICE_E_MEMORY, NULL, 0);
        return;
    }
    fr->request = r;
    fr->read.offset = f->offset;
    fr->read.max_bytes = (uint32_t)min_u64(room, want);
    fr->read.limit = f->max_records != 0 ? min_u64(s->state.next, f->offset + f->max_records) : s->state.next;
    fr->read.done = read_done;
    f->read = fr;
    shard_pin(s);
    if (batch_read_begin(s->batches, &fr->read) == 1) {
        read_finished(fr);
    }
}

static void beyond_confirmed(struct group_fresh *g, int status)
{
    struct request *r = container_of(g, struct request, fresh);
    struct shard *s = r->shard_at;
    if (status == 0 && r->u.fetch.offset <= s->state.next) {
        step(s, r, false);
    } else {
        fail(s, r, status == 0 ? SLUICE_E_AHEAD : status, status == 0 ? "no such offset: it lies beyond the shard's end" : NULL, leader_node(s));
    }
}

static void step(struct shard *s, struct request *r, bool may_wait)
{
    struct fetch *f = &r->u.fetch;
    end_timer(r); /* whatever follows, the request may be gone after it */
    if (shard_answer_if_stale(s, r)) {
        return;
    }
    uint64_t first = shard_first_readable(s);
    if (f->offset < first && f->from_horizon) {
        f->offset = first;
    }
    if (f->offset < first) {
        fail_expired(s, r);
        return;
    }
    if (f->offset < s->state.next) {
        start_read(s, r);
        return;
    }
    bool at_closed_end = s->state.closed && f->offset == s->state.next;
    if (may_wait && f->wait_ms > 0 && !at_closed_end) {
        if (!start_waiting(s, r)) {
            fail(s, r, SLUICE_E_MEMORY, NULL, 0);
        }
        return;
    }
    if (f->offset == s->state.next) {
        answer_empty(s, r);
    } else if ((s->lane->node->settings.test_disable_server & SERVER_RULE_F28) != 0) {
        fail_expired(s, r);
    } else if (s->ready) {
        group_fresh_read(s->group, &r->fresh, beyond_confirmed);
    } else {
        fail(s, r, SLUICE_E_AHEAD, NULL, leader_node(s));
    }
}

static void fresh_confirmed(struct group_fresh *g, int status)
{
    struct request *r = container_of(g, struct request, fresh);
    struct shard *s = r->shard_at;
    if (status == SLUICE_E_NOT_LEADER || status == SLUICE_E_NOT_READY) {
        shard_not_leader(s, r);
    } else if (status != 0) {
        fail(s, r, status, NULL, 0);
    } else {
        step(s, r, true);
    }
}

void shard_fetch(struct shard *s, struct request *r)
{
    r->shard_at = s;
    if (!shard_request_ok(s, r)) {
        return;
    }
    struct fetch *f = &r->u.fetch;
    if (f->shared) {
        f->max_records = f->max_records != 0 ? (uint32_t)min_u64(f->max_records, SHARD_SHARED_RECORDS_MAX) : SHARD_SHARED_RECORDS_MAX;
        if (!f->continued && !shard_shared_read_ok(s, r, &s->read_calls)) {
            return;
        }
    }
    s->fetched_ns = env_now_ns(s->lane->env);
    if (r->u.fetch.fresh && (s->lane->node->settings.test_disable_server & SERVER_RULE_FRESH) == 0) {
        if (!s->ready || s->phase != SHARD_RUNNING) {
            shard_not_leader(s, r);
            return;
        }
        group_fresh_read(s->group, &r->fresh, fresh_confirmed);
        return;
    }
    step(s, r, true);
}

void shard_fetch_wake(struct shard *s)
{
    /* Only those whose record is there; others go on waiting. A waiter that is answered leaves the list, so the next one is taken first. */
    struct request *r = s->waiters;
    while (r != NULL) {
        struct request *next = r->u.fetch.waiter_next;
        if (r->u.fetch.offset < s->state.next || (s->state.closed && r->u.fetch.offset == s->state.next)) {
            stop_waiting(s, r);
            step(s, r, true);
        }
        r = next;
    }
}

void shard_fetch_reject(struct shard *s, int code)
{
    while (s->waiters != NULL) {
        fail(s, s->waiters, code, NULL, 0);
    }
    for (struct fetch_claim *c = s->lane->fetch_room.oldest, *later; c != NULL; c = later) {
        later = c->later;
        struct request *r = container_of(c, struct request, u.fetch.claim);
        if (r->shard_at == s) {
            fail(s, r, code, NULL, 0);
        }
    }
}

static void memory_is_short(struct lane *l, void *arg)
{
    (void)arg;
    l->crowded_until_ms = env_now_ms(l->env) + SHARD_FETCH_CROWDED_MS;
}

void shard_fetch_tick(struct lane *l)
{
    uint64_t now = env_now_ms(l->env);
    struct fetch_claim *c;
    while ((c = l->fetch_room.oldest) != NULL && now - c->since_ms > SHARD_FETCH_ROOM_WAIT_MS) {
        struct request *r = container_of(c, struct request, u.fetch.claim);
        fail(r->shard_at, r, SLUICE_E_BUSY, "the memory for answers is taken by others that have not been read yet", 0);
    }
    if (fetch_room_crowded(&l->fetch_room)) {
        for (unsigned i = 0; i < l->node->n_lanes; i++) {
            lane_run(l->node->lanes[i], memory_is_short, NULL);
        }
    }
}

void shard_fetch_forget(struct lane *l, uint64_t connection)
{
    struct fetch_claim *c;
    while ((c = fetch_room_of(&l->fetch_room, connection)) != NULL) {
        struct request *r = container_of(c, struct request, u.fetch.claim);
        fail(r->shard_at, r, SLUICE_E_SHUTTING_DOWN, NULL, 0);
    }
}
