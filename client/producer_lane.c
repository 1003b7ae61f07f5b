/* One shard's queue of a producer.
 *
 * The normal course: pump sends queued batches, up to five at a time to one node; answers complete them from the head.
 *
 * How it fails: whatever goes wrong with a batch, only the head's fate is acted on. A head that may succeed later is sent again
 * with its old number after a pause, alone (probing), and everything behind it follows in order; the node drops what it has
 * already, so the order holds and nothing is doubled. An answer "gap" to a later batch is only the echo of the head's
 * failure. A head that cannot succeed is completed with its error, and what stands behind it goes on in a new epoch. */
#include <stdlib.h>

#include "client/producer_impl.h"

enum {
    LOAD_MIN_MS = 10, LOAD_BASE_MS = 50, LOAD_CAP_MS = 1000,  /* the node is overloaded */
    SLOW_MS = 700,      /* a head unanswered for so long makes us ask who leads: nodes notice a silent leader after 800 */
    LAST_ANSWER_MS = 1000, /* how long a late batch's last attempt is waited for: a sure outcome is worth more */
    GAPS_MAX = 3,       /* a head that is told "gap" so often has lost its predecessors there */
    LZ4_TRY_EVERY = 16, LZ4_GIVE_UP = 4
};

static void batch_answered(struct request *r, const struct answer *a);
static void lane_timer(struct env_timer *t);

struct lane *lane_new(struct sluice_producer *p, uint32_t shard)
{
    struct lane *l = xcalloc(1, sizeof *l);
    l->p = p;
    l->shard = shard;
    batch_builder_init(&l->builder);
    env_timer_init(p->client->env, &l->timer, lane_timer);
    Sluice__Put m = SLUICE__PUT__INIT;
    m.stream_id = (ProtobufCBinaryData){.len = sizeof p->stream_id, .data = p->stream_id};
    m.shard = shard;
    l->put_packed = message_pack(&m.base, &l->put_packed_len);
    return l;
}

void send_lane_free(struct lane *l)
{
    sluice_assert(l->head == NULL && l->open == NULL);
    env_timer_close(&l->timer);
    batch_builder_deinit(&l->builder);
    free(l->put_packed);
    free(l);
}

/* ---- the list -------------------------------------------------------------------------------------------------------------- */

void lane_unlink(struct lane *l, struct out_batch *b)
{
    sluice_assert(b->state != BATCH_SENT);
    if (l->unsent == b) {
        l->unsent = b->next;
    }
    *(b->prev != NULL ? &b->prev->next : &l->head) = b->next;
    *(b->next != NULL ? &b->next->prev : &l->tail) = b->prev;
    b->prev = b->next = NULL;
}

/* Closes the open batch and queues it with the next sequence. */
void lane_seal(struct lane *l)
{
    struct sluice_producer *p = l->p;
    struct out_batch *b = l->open;
    l->open = NULL;
    bool try_lz4 = !p->options.no_lz4 && (l->incompressible < LZ4_GIVE_UP || l->incompressible % LZ4_TRY_EVERY == 0);
    const struct batch_identity id = {.stream_id = p->stream_id, .shard = l->shard,
                                      .producer_id = p->options.not_idempotent ? NULL : p->id,
                                      .producer_epoch = p->options.not_idempotent ? 0 : l->epoch,
                                      .producer_sequence = p->options.not_idempotent ? 0 : l->next_sequence};
    void *data;
    size_t len, raw = l->builder.len;
    int code = batch_builder_finish(&l->builder, &id, try_lz4, &data, &len);
    if (code != 0) {
        batch_builder_reset(&l->builder);
        producer_complete(l, b, code, SLUICE_REJECTED, "no memory to make the batch");
        return;
    }
    l->incompressible = len < raw ? 0 : l->incompressible + 1;
    b->blob = blob_new(data, len);
    b->sequence = l->next_sequence++;
    b->state = BATCH_QUEUED;
    p->stats.batches++;
    b->next = NULL;
    b->prev = l->tail;
    *(l->tail != NULL ? &l->tail->next : &l->head) = b;
    l->tail = b;
    if (l->unsent == NULL) {
        l->unsent = b;
    }
}

static void lane_unsend(struct lane *l, struct out_batch *b)
{
    sluice_assert(b->state == BATCH_SENT && l->n_sent > 0);
    l->n_sent--;
    l->sent_bytes -= b->blob->len;
}

/* Takes everything that is not done back into the queue. maybe: what is under way may have been carried out. */
void lane_requeue(struct lane *l, bool maybe)
{
    l->unsent = NULL;
    for (struct out_batch *b = l->head; b != NULL; b = b->next) {
        if (b->state == BATCH_SENT) {
            b->maybe = b->maybe || (maybe && b->request.written);
            request_cancel(&b->request);
            lane_unsend(l, b);
            b->state = BATCH_QUEUED;
        } else if (b->state == BATCH_FAILED) {
            b->state = BATCH_QUEUED;
        }
        if (b->state == BATCH_QUEUED && l->unsent == NULL) {
            l->unsent = b;
        }
    }
}

/* ---- sending --------------------------------------------------------------------------------------------------------------- */

static void lane_wait(struct lane *l, uint64_t ms)
{
    l->state = LANE_WAIT;
    env_timer_start_ms(&l->timer, ms);
}

static void lane_timer(struct env_timer *t)
{
    struct lane *l = container_of(t, struct lane, timer);
    if (l->state == LANE_WAIT) {
        l->state = LANE_RUN;
        lane_pump(l);
    } else if (l->state == LANE_RESOLVE) {
        lane_resolve(l, l->resolved_closed);
    } else if (l->state == LANE_RUN) {
        lane_pump(l); /* the linger is over */
    }
}

static bool window_open(const struct lane *l, const struct out_batch *b)
{
    const struct sluice_producer_options *o = &l->p->options;
    if (l->n_sent == 0) {
        return true;
    }
    return !l->probing && !l->moving && l->n_sent < o->batches_in_flight && l->sent_bytes + b->blob->len <= o->bytes_in_flight;
}

static bool batch_send(struct lane *l, struct out_batch *b)
{
    struct sluice_producer *p = l->p;
    if (l->n_sent == 0) {
        const struct shard *s = stream_shard(p->stream, l->shard);
        struct node *n = target_choose(&l->target, p->stream, l->shard, false);
        l->at_lane = n == l->node ? l->at_lane : 0;
        l->node = n;
        l->via = n != NULL ? node_via(n, l->at_lane) : NULL;
        l->moving = false;
        l->term = s != NULL ? s->term : 0;
    }
    b->request = (struct request){.kind = FRAME_PUT, .packed = l->put_packed, .packed_len = l->put_packed_len, .payload = b->blob,
                                  .timeout_ms = p->client->options.request_timeout_ms, .done = batch_answered};
    if (l->via == NULL || request_send(l->via, &b->request) != 0) {
        return false;
    }
    if (b->attempts++ > 0) {
        p->stats.batches_resent++;
        p->client->stats.retries++;
    }
    b->state = BATCH_SENT;
    l->n_sent++;
    l->sent_bytes += b->blob->len;
    return true;
}

/* Is it time to close the open batch although it is not full? */
static bool gathered(struct lane *l)
{
    const struct sluice_producer_options *o = &l->p->options;
    if (l->p->flushes != NULL || o->linger_us == 0) {
        return true;
    }
    uint64_t age = env_now_ns(l->p->client->env) - l->open->created_ns, linger = (uint64_t)o->linger_us * 1000u;
    if (age >= linger) {
        return true;
    }
    env_timer_start_ns(&l->timer, linger - age);
    return false;
}

void lane_pump(struct lane *l)
{
    while (l->state == LANE_RUN) {
        struct out_batch *b = l->unsent;
        if (b == NULL && l->open != NULL && l->n_sent == 0 && gathered(l)) {
            lane_seal(l);
            b = l->unsent;
        }
        if (b == NULL || !window_open(l, b)) {
            return;
        }
        if (!batch_send(l, b)) {
            if (l->n_sent == 0) { /* else their answers tell more */
                lane_wait(l, target_pause_ms(&l->target, l->p->client->env, l->failures++, NULL));
                stream_refresh(l->p->stream);
            }
            return;
        }
        do {
            b = b->next;
        } while (b != NULL && b->state != BATCH_QUEUED);
        l->unsent = b;
    }
}

/* ---- answers --------------------------------------------------------------------------------------------------------------- */

static bool too_late(const struct lane *l, const struct out_batch *b, uint64_t now)
{
    uint64_t limit_ms = l->p->options.delivery_timeout_ms;
    return limit_ms < UINT64_MAX / 1000000u && now - b->created_ns >= limit_ms * 1000000u;
}

static void head_again(struct lane *l, const struct answer *a)
{
    struct out_batch *b = l->head;
    struct sluice_producer *p = l->p;
    enum sluice_retry retry = sluice_error_retry(a->code);
    if (too_late(l, b, env_now_ns(p->client->env))) {
        lane_fail_head(l, b->maybe ? SLUICE_E_TIMEOUT : a->code, b->maybe ? SLUICE_UNKNOWN : SLUICE_REJECTED, a->message);
        return;
    }
    /* What stands behind a head that surely was not taken was not taken either. */
    lane_requeue(l, b->maybe);
    target_learn(&l->target, p->stream, l->shard, l->node, a);
    l->probing = true;
    unsigned n = l->failures++;
    bool overload = a->retry_after_ms == 0 && retry == SLUICE_RETRY_SAME && a->code != SLUICE_E_NOT_READY;
    uint64_t ms = overload ? backoff_ms(p->client->env, n, LOAD_MIN_MS, LOAD_BASE_MS, LOAD_CAP_MS) : target_pause_ms(&l->target, p->client->env, n, a);
    if (ms == 0) {
        l->state = LANE_RUN;
        lane_pump(l);
    } else {
        lane_wait(l, ms);
    }
}

/* The head failed with an answer: again, or its end. */
static void head_failed(struct lane *l, const struct answer *a)
{
    struct out_batch *b = l->head;
    struct sluice_producer *p = l->p;
    bool idempotent = !p->options.not_idempotent;
    if (b->maybe && !idempotent) {
        lane_fail_head(l, a->code, SLUICE_UNKNOWN, a->message);
        return;
    }
    switch (a->code) {
    case SLUICE_E_CLOSED:
    case SLUICE_E_WRONG_SHARD:
        lane_requeue(l, b->maybe);
        lane_resolve(l, true);
        return;
    case SLUICE_E_SEQUENCE_GAP:
        if (++l->failures > GAPS_MAX) {
            lane_requeue(l, b->maybe);
            lane_resolve(l, false);
        } else {
            head_again(l, a);
        }
        return;
    case SLUICE_E_PRODUCER_UNKNOWN:
        lane_requeue(l, b->maybe);
        lane_resolve(l, false);
        return;
    case SLUICE_E_THROTTLED:
        /* One that may have been taken is sent again all the same: only so does it get a sure outcome. */
        if (p->options.no_throttle_wait && !b->maybe) {
            lane_fail_head(l, a->code, SLUICE_REJECTED, a->message);
            l->probing = true; /* what follows most likely meets the limit as well: one at a time, so that it does not travel in vain */
        } else {
            head_again(l, a);
        }
        return;
    case SLUICE_E_NOT_FOUND: /* an old map: the new one tells, or ends the producer */
        head_again(l, a);
        return;
    default:
        break;
    }
    if (sluice_error_retry(a->code) == SLUICE_RETRY_NEVER) {
        bool unknown = b->maybe || sluice_error_outcome(a->code) == SLUICE_UNKNOWN;
        lane_fail_head(l, a->code, unknown ? SLUICE_UNKNOWN : SLUICE_REJECTED, a->message);
        return;
    }
    head_again(l, a);
}

/* Completes what is done at the head. */
void lane_head_step(struct lane *l)
{
    struct sluice_producer *p = l->p;
    while (l->head != NULL && l->head->state == BATCH_DONE && !p->closing && p->error == 0) {
        struct out_batch *b = l->head;
        lane_unlink(l, b);
        producer_complete(l, b, 0, SLUICE_DONE, "");
    }
}

static void batch_done(struct out_batch *b, const struct answer *a)
{
    Sluice__PutReply *reply = (Sluice__PutReply *)answer_unpack(&sluice__put_reply__descriptor, a->frame);
    struct lane *l = b->lane;
    if (reply == NULL || reply->count != b->count) {
        if (reply != NULL) {
            sluice__put_reply__free_unpacked(reply, NULL);
        }
        b->state = BATCH_FAILED;
        b->code = SLUICE_E_PROTOCOL;
        b->maybe = true;
        return;
    }
    b->state = BATCH_DONE;
    b->maybe = false;
    b->first_offset = reply->first_offset;
    b->time_ms = reply->time_ms;
    b->shard_created_s = reply->shard_created_s;
    b->duplicate = reply->duplicate;
    unsigned lane = reply->lane;
    sluice__put_reply__free_unpacked(reply, NULL);
    l->p->stats.duplicates += b->duplicate;
    l->at_lane = lane;
    l->moving = l->node != NULL && node_via(l->node, lane) != l->via;
    l->failures = 0;
    l->probing = false;
    target_learn(&l->target, l->p->stream, l->shard, l->node, NULL);
}

static void batch_answered(struct request *r, const struct answer *a)
{
    struct out_batch *b = container_of(r, struct out_batch, request);
    struct lane *l = b->lane;
    struct sluice_producer *p = l->p;
    sluice_assert(b->state == BATCH_SENT);
    lane_unsend(l, b);
    if (a->code == 0) {
        batch_done(b, a);
    } else {
        b->state = BATCH_FAILED;
        b->code = a->code;
        b->maybe = b->maybe || a->maybe;
    }
    if (b == l->head && b->state == BATCH_FAILED) {
        struct answer text = *a;
        text.code = b->code;
        head_failed(l, &text);
    } else {
        lane_head_step(l);
        if (!p->closing && p->error == 0 && l->head != NULL && l->head->state == BATCH_FAILED) {
            /* Its answer came before its predecessor's. */
            struct answer old = {.code = l->head->code, .message = "", .hint = "", .leader_address = ""};
            head_failed(l, &old);
        }
    }
    if (!p->closing && p->error == 0) {
        lane_pump(l);
    }
}

/* ---- giving up ------------------------------------------------------------------------------------------------------------- */

void lane_fail_head(struct lane *l, int code, enum sluice_outcome outcome, const char *message)
{
    struct sluice_producer *p = l->p;
    lane_requeue(l, outcome == SLUICE_UNKNOWN);
    l->state = LANE_FAILING;
    env_timer_stop(&l->timer);
    /* If the head may have been carried out, so may those behind it that were sent. */
    do {
        struct out_batch *b = l->head;
        lane_unlink(l, b);
        if (b->state == BATCH_DONE) {
            producer_complete(l, b, 0, SLUICE_DONE, "");
        } else {
            producer_complete(l, b, code, outcome, message);
        }
        if (p->closing || p->error != 0) {
            return;
        }
    } while (outcome == SLUICE_UNKNOWN && !p->options.not_idempotent && l->head != NULL && (l->head->maybe || l->head->state == BATCH_DONE));
    /* What is left was never sent, or stood behind a head that surely was not taken: then the node refused it as a gap. */
    for (struct out_batch *b = l->head; b != NULL; b = b->next) {
        b->maybe = false;
    }
    lane_new_epoch(l);
    l->failures = 0;
    l->state = LANE_RUN; /* the caller pumps */
}

void lane_check(struct lane *l, uint64_t now)
{
    struct sluice_producer *p = l->p;
    bool failed = false;
    while (l->head != NULL && too_late(l, l->head, now)) {
        struct out_batch *b = l->head;
        if (b->state == BATCH_SENT && !b->maybe && now - b->request.started_ns < (uint64_t)LAST_ANSWER_MS * 1000000u) {
            break; /* its answer will tell for sure */
        }
        if (l->state == LANE_CLOSED) { /* resolved: nothing of it is in doubt, and no number will be used again */
            lane_unlink(l, b);
            producer_complete(l, b, SLUICE_E_CLOSED, SLUICE_REJECTED, "the shard is closed and its successors are not known in time");
            if (p->closing || p->error != 0) {
                return;
            }
            continue;
        }
        bool unknown = b->maybe || (b->state == BATCH_SENT && b->request.written);
        int code = unknown ? SLUICE_E_TIMEOUT : b->code != 0 ? b->code : SLUICE_E_NO_CONNECTION;
        char why[200] = "not delivered in time; ";
        nodes_out_of_reach(p->client, why + strlen(why), sizeof why - strlen(why));
        lane_fail_head(l, code, unknown ? SLUICE_UNKNOWN : SLUICE_REJECTED, why[strlen(why) - 1] == ' ' ? "not delivered in time" : why);
        if (p->closing || p->error != 0) {
            return;
        }
        failed = true;
    }
    if (failed) { /* not before: what is too late itself shall not be sent once more */
        lane_pump(l);
    }
    struct out_batch *b = l->head;
    if (b == NULL || b->state != BATCH_SENT || p->options.not_idempotent) {
        return;
    }
    /* Sent and nothing heard: has the shard another leader by now? Sending again there is harmless. */
    const struct shard *s = stream_shard(p->stream, l->shard);
    struct node *leader = s != NULL ? node_by_id(p->client, s->leader) : NULL;
    if (leader != NULL && leader != l->node && s->term > l->term && now - b->request.started_ns >= (uint64_t)SLOW_MS / 2 * 1000000u) {
        lane_requeue(l, true);
        l->target = (struct target){.hint = leader};
        l->probing = true;
        lane_pump(l);
    } else if (now - b->request.started_ns >= (uint64_t)SLOW_MS * 1000000u) {
        stream_refresh(p->stream);
    }
}
