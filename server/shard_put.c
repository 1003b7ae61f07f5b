/* shard_put.c: a batch from its arrival on the shard's lane to its answer.
 *
 *   shard_put      leader? open? batch_check: header, checksum, records, sizes; stream, shard and hash range
 *   step_put       idempotent producer (applied and in flight) -> answered, followed or new; quota; disk space; offset and time given; proposed
 *   put_done       applied here: answered with its numbers; or the term ended: unknown
 *
 * No room in flight, or the shard is about to close: the put waits in the shard's queue, in order of arrival, and everything after it as well. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proto/base.h"
#include "server/node_impl.h"
#include "server/shard.h"
#include "sluice.pb-c.h"

static void answer_numbers(struct shard *s, struct request *r, const struct dedupe_numbers *n, bool duplicate)
{
    struct lane_metrics *m = &s->lane->metrics;
    if (duplicate) {
        m->put_duplicates_total++;
    } else {
        m->put_records_total += n->count;
        m->put_bytes_total += r->u.put.header.total_len;
    }
    metrics_observe(&m->put_latency, env_now_ns(s->lane->env) - r->arrived_ns);
    Sluice__PutReply reply = SLUICE__PUT_REPLY__INIT;
    reply.first_offset = n->offset;
    reply.count = n->count;
    reply.time_ms = n->time_ms;
    reply.duplicate = duplicate;
    reply.shard_created_s = s->state.identity.created_s;
    reply.lane = s->lane->number + 1;
    request_answer(r, FRAME_PUT_REPLY, &reply);
}

static void put_done(struct group_propose *p, int status)
{
    struct request *r = container_of(p, struct request, u.put.propose);
    struct shard *s = r->shard_at;
    if (s->in_flight != NULL) {
        dedupe_in_flight_remove(s->in_flight, &r->u.put.pending);
    }
    struct dedupe_numbers n = { .offset = r->u.put.first_offset, .time_ms = r->u.put.time_ms, .count = r->u.put.header.record_count };
    struct request *followers = r->u.put.followers;
    if (status == 0) {
        answer_numbers(s, r, &n, false);
    } else {
        request_error(r, status, NULL, 0, 0);
    }
    while (followers != NULL) {
        struct request *f = followers;
        followers = f->queue_next;
        if (status == 0) {
            answer_numbers(s, f, &n, true);
        } else {
            request_error(f, status, NULL, 0, 0);
        }
    }
    if (s->queue != NULL) {
        shard_put_pump(s);
    }
}

static void follow(struct request *first, struct request *r)
{
    r->u.put.state = PUT_FOLLOWING;
    r->queue_next = NULL;
    struct request **end = &first->u.put.followers;
    while (*end != NULL) {
        end = &(*end)->queue_next;
    }
    *end = r;
}

static int verdict_code(enum dedupe_verdict v)
{
    switch (v) {
    case DEDUPE_FENCED: return SLUICE_E_PRODUCER_FENCED;
    case DEDUPE_UNKNOWN: return SLUICE_E_PRODUCER_UNKNOWN;
    case DEDUPE_GAP: return SLUICE_E_SEQUENCE_GAP;
    case DEDUPE_OLD: return SLUICE_E_SEQUENCE_OLD;
    default: return SLUICE_E_INTERNAL;
    }
}

/* True if the put was dealt with as a duplicate or a refused sequence (answered, or waiting for the first attempt). */
static bool settle_producer(struct shard *s, struct request *r, uint64_t time_ms)
{
    struct put *put = &r->u.put;
    if (!shard_batch_key(&put->header, &put->pending.key) || s->state.ignore_producers) {
        return false;
    }
    struct dedupe_numbers numbers;
    struct dedupe_pending *found = NULL;
    enum dedupe_verdict v = dedupe_in_flight_decide(s->in_flight, s->state.dedupe, &put->pending.key, time_ms, &numbers, &found);
    switch (v) {
    case DEDUPE_NEW:
        return false;
    case DEDUPE_DUPLICATE:
        answer_numbers(s, r, &numbers, true);
        return true;
    case DEDUPE_PENDING:
        follow(container_of(found, struct request, u.put.pending), r);
        return true;
    default:
        request_error(r, verdict_code(v), NULL, 0, 0);
        return true;
    }
}

/* What it took it goes on to tell; the rest belongs to its children. */
static void answer_closed(struct shard *s, struct request *r)
{
    struct put *put = &r->u.put;
    struct dedupe_numbers numbers;
    struct dedupe_pending *found = NULL;
    if (shard_batch_key(&put->header, &put->pending.key) && !s->state.ignore_producers &&
        dedupe_in_flight_decide(s->in_flight, s->state.dedupe, &put->pending.key, 0, &numbers, &found) == DEDUPE_DUPLICATE) {
        answer_numbers(s, r, &numbers, true);
        return;
    }
    char why[160];
    const uint32_t *children = s->state.children;
    if (s->state.n_children == 2) {
        snprintf(why, sizeof why, "shard %u is closed: its keys are in shards %u and %u now", s->state.identity.shard, children[0], children[1]);
    } else if (s->state.n_children == 1) {
        snprintf(why, sizeof why, "shard %u is closed: its keys are in shard %u now", s->state.identity.shard, children[0]);
    } else {
        snprintf(why, sizeof why, "shard %u is closed for writes", s->state.identity.shard);
    }
    request_error(r, SLUICE_E_CLOSED, why, 0, 0);
}

/* Proposes the put, or answers it; false: no room in flight, nothing happened. */
static bool step_put(struct shard *s, struct request *r)
{
    struct put *put = &r->u.put;
    uint64_t now_ms = env_now_ms(s->lane->env);
    uint64_t time_ms = shard_time(s);
    if (s->state.closed) {
        answer_closed(s, r);
        return true;
    }
    if (s->close_in_flight) {
        /* Not told before it is committed (F21): a leader that loses its CLOSE is followed by one that takes batches, and who was told "closed" sends them to the children as well. */
        if ((s->lane->node->settings.test_disable_server & SERVER_RULE_CLOSED) != 0) {
            answer_closed(s, r);
            return true;
        }
        return false;
    }
    if (settle_producer(s, r, time_ms)) {
        return true;
    }
    if (shard_limited(s)) {
        uint64_t wait = max_u64(quota_wait_ms(&s->bytes, batch_weight(put->header.raw_len, put->header.record_count), now_ms), quota_wait_ms(&s->records, put->header.record_count, now_ms));
        if (wait > 0) {
            s->lane->metrics.put_throttled_total++;
            request_error(r, SLUICE_E_THROTTLED, NULL, 0, (uint32_t)min_u64(wait, 60000));
            return true;
        }
    }
    if (!journal_space(s->lane->journal)) {
        request_error(r, SLUICE_E_NO_SPACE, NULL, 0, 1000);
        return true;
    }
    put->first_offset = s->next_in_flight;
    put->time_ms = time_ms;
    batch_stamp(r->payload, put->first_offset, time_ms, group_next_index(s->group), s->state.settings.version);
    r->shard_at = s;
    int rc = group_propose(s->group, &put->propose, r->payload, (uint32_t)r->payload_len, put->first_offset, put->header.record_count, time_ms, put_done);
    if (rc == SLUICE_E_BUSY) {
        return false;
    }
    if (rc == SLUICE_E_NOT_LEADER || rc == SLUICE_E_NOT_READY) {
        shard_not_leader(s, r);
        return true;
    }
    if (rc != 0) {
        request_error(r, rc, NULL, 0, 200);
        return true;
    }
    r->payload = NULL; /* the Raft log's now */
    put->state = PUT_PROPOSED;
    s->next_in_flight += put->header.record_count;
    s->time_in_flight = time_ms;
    if (shard_limited(s)) {
        quota_take(&s->bytes, batch_weight(put->header.raw_len, put->header.record_count), now_ms);
        quota_take(&s->records, put->header.record_count, now_ms);
    }
    if (shard_batch_key(&put->header, &put->pending.key)) {
        dedupe_in_flight_add(s->in_flight, &put->pending);
    }
    return true;
}

static void enqueue(struct shard *s, struct request *r)
{
    r->u.put.state = PUT_QUEUED;
    r->shard_at = s;
    r->queue_next = NULL;
    *s->queue_tail = r;
    s->queue_tail = &r->queue_next;
    s->queue_bytes += r->payload_len;
    shard_stir(s);
}

static struct request *dequeue(struct shard *s)
{
    struct request *r = s->queue;
    s->queue = r->queue_next;
    if (s->queue == NULL) {
        s->queue_tail = &s->queue;
    }
    r->queue_next = NULL;
    s->queue_bytes -= r->payload_len;
    return r;
}

void shard_put_pump(struct shard *s)
{
    while (s->queue != NULL && s->ready && s->phase == SHARD_RUNNING) {
        struct request *r = s->queue;
        struct request *next = r->queue_next;
        uint64_t len = r->payload_len;
        /* Taken out first: step_put may link the request elsewhere. */
        s->queue = next;
        r->queue_next = NULL;
        if (next == NULL) {
            s->queue_tail = &s->queue;
        }
        if (!step_put(s, r)) {
            r->queue_next = s->queue;
            s->queue = r;
            if (next == NULL) {
                s->queue_tail = &r->queue_next;
            }
            return;
        }
        s->queue_bytes -= len;
    }
}

void shard_put_reject_queue(struct shard *s, int code)
{
    /* Never proposed: surely nothing happened. */
    while (s->queue != NULL) {
        struct request *r = dequeue(s);
        if (code == SLUICE_E_NOT_LEADER || code == SLUICE_E_NOT_READY) {
            shard_not_leader(s, r);
        } else {
            request_error(r, code, NULL, 0, 0);
        }
    }
}

void shard_put_closed(struct shard *s)
{
    while (s->queue != NULL && s->in_flight != NULL) {
        answer_closed(s, dequeue(s));
    }
}

/* Everything about the batch that does not depend on what else is in flight. True: fine; false: answered. */
static bool check_batch(struct shard *s, struct request *r)
{
    struct lane *l = s->lane;
    const struct shard_state *state = &s->state;
    const char *why = NULL;
    int rc = batch_check(r->payload, r->payload_len, state->settings.record_max, &l->scratch, &l->scratch_size, &r->u.put.header, &why);
    const struct batch_header *h = &r->u.put.header;
    if (rc == 0 && (memcmp(h->stream_id, state->identity.stream_id, 16) != 0 || h->shard != state->identity.shard)) {
        rc = SLUICE_E_INVALID;
        why = "the batch names another stream or shard than the request";
    }
    if (rc == 0 && (hash_compare(&h->hash_min, &state->identity.first) < 0 || hash_compare(&h->hash_max, &state->identity.last) > 0)) {
        rc = SLUICE_E_WRONG_SHARD;
    }
    if (rc != 0) {
        request_error(r, rc, why, 0, 0);
        return false;
    }
    return true;
}

void shard_put(struct shard *s, struct request *r)
{
    if (!s->ready || s->phase != SHARD_RUNNING || !s->state.opened) {
        shard_not_leader(s, r);
        return;
    }
    if (!shard_request_ok(s, r) || !check_batch(s, r)) {
        return;
    }
    if (s->lane->stopping) {
        request_error(r, SLUICE_E_SHUTTING_DOWN, NULL, 0, 0);
        return;
    }
    if (s->queue == NULL && step_put(s, r)) {
        return;
    }
    if (s->queue_bytes + r->payload_len > SHARD_QUEUE_BYTES_MAX) {
        request_error(r, SLUICE_E_BUSY, NULL, 0, 100);
        return;
    }
    enqueue(s, r);
}
