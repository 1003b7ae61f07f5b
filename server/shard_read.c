/* shard_read.c: positions and outcomes: what a reader starts from, and what became of a producer's batch. */
#include <stdio.h>
#include <string.h>

#include "proto/base.h"
#include "proto/seqno.h"
#include "server/node_impl.h"
#include "server/shard.h"
#include "sluice.pb-c.h"

/* Runs `then` when this node was confirmed as the leader; else answers. */
static void confirm_leader(struct shard *s, struct request *r, group_fresh_done then)
{
    r->shard_at = s;
    if (!s->ready || s->phase != SHARD_RUNNING) {
        shard_not_leader(s, r);
        return;
    }
    if ((s->lane->node->settings.test_disable_server & SERVER_RULE_FRESH) != 0) {
        then(&r->fresh, 0);
        return;
    }
    group_fresh_read(s->group, &r->fresh, then);
}

static bool confirmed(struct shard *s, struct request *r, int status)
{
    if (status == SLUICE_E_NOT_LEADER || status == SLUICE_E_NOT_READY) {
        shard_not_leader(s, r);
    } else if (status != 0) {
        request_error(r, status, NULL, 0, 50);
    }
    return status == 0;
}

/* ---- positions ---- */

/* How much the slowest voter lacks; 0 if this replica does not lead. */
static uint64_t entries_behind(const struct shard *s)
{
    struct group_peer peers[REPLICAS_MAX + 2];
    uint64_t last = group_last_index(s->group), behind = 0;
    unsigned n = s->leading ? group_peers(s->group, peers, ARRAY_LEN(peers)) : 0;
    for (unsigned i = 0; i < n; i++) {
        if (peers[i].voter && peers[i].match_index < last) {
            behind = max_u64(behind, last - peers[i].match_index);
        }
    }
    return behind;
}

static void answer_position(struct shard *s, struct request *r, uint64_t offset)
{
    Sluice__PositionReply reply = SLUICE__POSITION_REPLY__INIT;
    reply.offset = offset;
    reply.first_offset = shard_first_readable(s);
    reply.end_offset = s->state.next;
    reply.written_bytes = s->written_bytes;
    reply.read_records = s->read_records;
    reply.read_bytes = s->read_bytes;
    reply.entries_behind = entries_behind(s);
    request_answer(r, FRAME_POSITION_REPLY, &reply);
}

static void latest_confirmed(struct group_fresh *g, int status)
{
    struct request *r = container_of(g, struct request, fresh);
    struct shard *s = r->shard_at;
    if (confirmed(s, r, status)) {
        answer_position(s, r, s->state.next);
    }
}

static void at_sequence(struct shard *s, struct request *r, bool sure);

static void sequence_confirmed(struct group_fresh *g, int status)
{
    struct request *r = container_of(g, struct request, fresh);
    struct shard *s = r->shard_at;
    if (confirmed(s, r, status)) {
        at_sequence(s, r, true);
    }
}

/* sure: this node leads and has applied everything that was committed when the request came. */
static void at_sequence(struct shard *s, struct request *r, bool sure)
{
    struct seqno q;
    bool after = r->u.position.kind == SLUICE__POSITION__KIND__AFTER_SEQUENCE;
    if (!seqno_parse(r->u.position.sequence, &q)) {
        request_error(r, SLUICE_E_INVALID, "malformed sequence number", 0, 0);
        return;
    }
    if (s->state.opened && (q.shard != s->state.identity.shard || q.shard_created_s != s->state.identity.created_s)) {
        request_error(r, SLUICE_E_INVALID, "the sequence number belongs to another shard", 0, 0);
        return;
    }
    if (q.offset >= s->state.next && !sure) {
        /* Only the leader may say that there is no such number (F28). */
        confirm_leader(s, r, sequence_confirmed);
        return;
    }
    if (q.offset >= s->state.next) {
        request_error(r, SLUICE_E_INVALID, "no such sequence number: it lies beyond the shard's end", 0, 0);
        return;
    }
    uint64_t offset = q.offset + (after ? 1 : 0);
    uint64_t first = shard_first_readable(s);
    if (offset < first) {
        request_error(r, SLUICE_E_EXPIRED, NULL, 0, 0);
        return;
    }
    answer_position(s, r, offset);
}

static void at_time(struct shard *s, struct request *r)
{
    struct locator l;
    uint64_t first = shard_first_readable(s);
    uint64_t offset = s->state.next;
    if (batch_log_find_time(s->batches, r->u.position.time_ms, &l)) {
        offset = min_u64(max_u64(l.offset, first), s->state.next);
    }
    answer_position(s, r, offset);
}

void shard_position(struct shard *s, struct request *r)
{
    if (!shard_request_ok(s, r) || shard_answer_if_stale(s, r)) {
        return;
    }
    if (!s->state.opened) {
        shard_not_leader(s, r);
        return;
    }
    if (r->u.position.shared && !shard_shared_read_ok(s, r, &s->position_calls)) {
        return;
    }
    switch (r->u.position.kind) {
    case SLUICE__POSITION__KIND__TRIM_HORIZON: answer_position(s, r, shard_first_readable(s)); return;
    case SLUICE__POSITION__KIND__LATEST: confirm_leader(s, r, latest_confirmed); return;
    case SLUICE__POSITION__KIND__AT_SEQUENCE:
    case SLUICE__POSITION__KIND__AFTER_SEQUENCE: at_sequence(s, r, false); return;
    case SLUICE__POSITION__KIND__AT_TIME: at_time(s, r); return;
    default: request_error(r, SLUICE_E_INVALID, "unknown kind of position", 0, 0); return;
    }
}

/* ---- resolve ---- */

static void answer_outcome(struct request *r, int outcome, const struct dedupe_numbers *n)
{
    Sluice__ResolveReply reply = SLUICE__RESOLVE_REPLY__INIT;
    reply.outcome = (Sluice__ResolveReply__Outcome)outcome;
    if (n != NULL) {
        reply.first_offset = n->offset;
        reply.count = n->count;
        reply.time_ms = n->time_ms;
    }
    request_answer(r, FRAME_RESOLVE_REPLY, &reply);
}

static void resolve_confirmed(struct group_fresh *g, int status)
{
    struct request *r = container_of(g, struct request, fresh);
    struct shard *s = r->shard_at;
    if (!confirmed(s, r, status)) {
        return;
    }
    const struct dedupe_key *k = &r->u.resolve.key;
    struct dedupe_numbers n;
    struct dedupe_pending *pending = NULL;
    enum dedupe_verdict v = dedupe_in_flight_decide(s->in_flight, s->state.dedupe, k, s->state.closed ? 0 : s->state.time_ms, &n, &pending); /* closed: nobody expires */
    uint32_t epoch;
    uint64_t last;
    switch (v) {
    case DEDUPE_DUPLICATE:
        answer_outcome(r, SLUICE__RESOLVE_REPLY__OUTCOME__DONE, &n);
        return;
    case DEDUPE_PENDING:
        /* In flight here: not known before it commits or its term ends. The caller asks again. */
        request_error(r, SLUICE_E_NOT_READY, "the batch is in flight", 0, 20);
        return;
    case DEDUPE_NEW:
    case DEDUPE_GAP:
        /* Above everything this shard has of the producer: surely not done. A producer that is not remembered at all is only known never to have been here if none
         * was ever forgotten. */
        if (dedupe_find(s->state.dedupe, k->id, &epoch, &last) || dedupe_forgotten(s->state.dedupe) == 0) {
            answer_outcome(r, SLUICE__RESOLVE_REPLY__OUTCOME__NOT_DONE, NULL);
            return;
        }
        break;
    case DEDUPE_UNKNOWN:
        if (dedupe_forgotten(s->state.dedupe) == 0) {
            answer_outcome(r, SLUICE__RESOLVE_REPLY__OUTCOME__NOT_DONE, NULL);
            return;
        }
        break;
    default:
        break;
    }
    answer_outcome(r, SLUICE__RESOLVE_REPLY__OUTCOME__UNKNOWN, NULL);
}

void shard_resolve(struct shard *s, struct request *r)
{
    if (!shard_request_ok(s, r)) {
        return;
    }
    confirm_leader(s, r, resolve_confirmed);
}
