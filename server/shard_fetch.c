/* shard_fetch.c: reading records: committed ones only, as whole batches, sent from where they lie.
 *
 *   shard_fetch   stale replica -> STALE; mode fresh -> one quorum round first
 *   step          below the first readable offset -> EXPIRED; below the end -> read; at or beyond the end -> wait for records, at most wait_ms
 *   start_read    no room for the answer in the lane's memory (shard_batches.h) -> waits for it, then steps again
 *   read_done     the batches are pinned in the journal's memory; they are the answer's payload; unpinned when it was sent
 *
 * A position beyond the end is never an error on a follower (F28): it waits, then answers AHEAD with the leader as hint; the leader, after a quorum round, answers AHEAD
 * as the last word. */
#include <stdio.h>

#include "proto/base.h"
#include "server/node_impl.h"
#include "server/shard.h"
#include "sluice.pb-c.h"

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
    f->batches.claim.turn = false; /* it had its turn */
    f->waiter_next = s->waiters;
    f->waiter_prev = &s->waiters;
    if (f->waiter_next != NULL) {
        f->waiter_next->u.fetch.waiter_prev = &f->waiter_next;
    }
    s->waiters = r;
    s->lane->metrics.fetch_waiting++;
    return true;
}

/* ---- answers ---- */

uint64_t shard_millis_behind(const struct shard *s, uint64_t offset)
{
    struct locator l;
    uint64_t now = env_wall_ms(s->lane->env);
    return offset < s->state.next && batch_log_find(s->batches, offset, &l) && l.time_ms < now ? now - l.time_ms : 0;
}

static void fill_reply(struct shard *s, Sluice__FetchReply *reply, uint64_t next_offset)
{
    reply->next_offset = next_offset;
    reply->first_offset = shard_first_readable(s);
    reply->end_offset = s->state.next;
    reply->log_time_ms = s->state.time_ms;
    reply->shard_created_s = s->state.identity.created_s;
    reply->millis_behind = shard_millis_behind(s, next_offset);
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

/* The shard may be gone after it. */
static void fail(struct shard *s, struct request *r, int code, const char *why, uint32_t node)
{
    stop_waiting(s, r);
    end_timer(r);
    shard_batches_end(&r->u.fetch.batches);
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
    shard_batches_end(&r->u.fetch.batches);
}

static void room(struct shard_batches *b)
{
    struct request *r = container_of(b, struct request, u.fetch.batches);
    step(r->shard_at, r, true);
}

static void refused(struct shard_batches *b, int code, const char *why)
{
    struct request *r = container_of(b, struct request, u.fetch.batches);
    fail(r->shard_at, r, code, why, 0);
}

static void read_done(struct shard_batches *b)
{
    struct request *r = container_of(b, struct request, u.fetch.batches);
    struct shard *s = r->shard_at;
    const char *why;
    int code = shard_batches_code(b, &why);
    if (code == SLUICE_E_EXPIRED && r->u.fetch.from_horizon && r->u.fetch.offset < shard_first_readable(s)) {
        shard_batches_end(b);
        step(s, r, false); /* the horizon moved on while it was read */
        return;
    }
    if (code == SLUICE_E_EXPIRED) {
        fail_expired(s, r);
        return;
    }
    if (code != 0) {
        fail(s, r, code, why, code == SLUICE_E_STALE || code == SLUICE_E_CORRUPT ? leader_node(s) : 0);
        return;
    }
    const struct shard_batches_read *read = b->read;
    struct lane_metrics *m = &s->lane->metrics;
    if (r->u.fetch.shared) {
        quota_take(&s->read_payload, min_u64(shard_batches_weight(b, r->u.fetch.offset), SHARD_FETCH_BYTES_MAX), env_now_ms(s->lane->env));
    }
    s->read_bytes += read->bytes;
    s->read_records += read->read.next_offset - r->u.fetch.offset;
    m->fetch_bytes_total += read->bytes;
    m->fetch_records_total += read->read.next_offset - r->u.fetch.offset;
    metrics_observe(&m->fetch_latency, env_now_ns(s->lane->env) - r->arrived_ns);
    end_timer(r);
    Sluice__FetchReply reply = SLUICE__FETCH_REPLY__INIT;
    fill_reply(s, &reply, read->read.next_offset);
    request_answer_body(r, FRAME_FETCH_REPLY, &reply, read->iov, read->read.n, release);
}

static void start_read(struct shard *s, struct request *r)
{
    struct fetch *f = &r->u.fetch;
    uint64_t want = min_u64(f->max_bytes != 0 ? f->max_bytes : 1 << 20, SHARD_FETCH_BYTES_MAX);
    uint64_t limit = f->max_records != 0 ? min_u64(s->state.next, f->offset + f->max_records) : s->state.next;
    if (shard_batches_read(&f->batches, r->conn_id, f->offset, want, limit) == SHARD_BATCHES_NO_MEMORY) {
        fail(s, r, SLUICE_E_MEMORY, NULL, 0);
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
    r->u.fetch.batches = (struct shard_batches){ .shard = s, .room = room, .refused = refused, .done = read_done };
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
    shard_batches_reject(s, code);
}
