/* kinesis_subscribe.c: SubscribeToShard: what the shard's leader pushes (client/sluice.h, subscriptions) goes on as a stream of events.
 *
 *   the leader took it -> initial-response -> events, as far as the client takes them -> an end:
 *     after 5 minutes, or when the node stops: clean, the client subscribes again behind the last ContinuationSequenceNumber
 *     the shard has ended: a last event with ChildShards and without that number
 *     another subscriber took over, the consumer or the stream is gone, no leader for a while: an exception event
 *
 * Pushes wait in a queue until the client has taken what was written before; only what has left is given back as credit, so a slow client has SUBSCRIBE_CREDIT bytes here, as
 * stored, and one event. The number of an event without records is that of a record which would stand before the next one: its offset, without a time; no record has that,
 * so that "after it" and "at it" both mean the next record. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proto/base.h"
#include "server/aws/aws_event.h"
#include "server/kinesis/kinesis_subscribe.h"

enum {
    SUBSCRIBE_MS = 300000,
    SUBSCRIBE_CREDIT = 1 << 20,
    SUBSCRIBE_HEARTBEAT_MS = 4000,  /* clients expect an event every 5 s */
    SUBSCRIBE_LEADERLESS_MS = 20000,
    CHILDREN_MS = 10000,            /* how long the end of a shard waits for a map that has its children */
    QUEUED_BYTES = 512 << 10        /* unsent: more is not written */
};

static void pump(struct subscriber *s);

/* ---- pushes ---------------------------------------------------------------------------------------------------------------- */

static void pushed(struct sluice_subscription *subscription, struct sluice_pushed *in, void *user)
{
    (void)subscription;
    struct subscriber *s = user;
    struct push *p = xcalloc(1, sizeof *p);
    *p = (struct push){.s = s, .refs = 1, .offset = in->offset, .millis_behind = in->millis_behind, .data = (uint8_t *)(uintptr_t)in->data, .len = in->len};
    in->taken = in->len > 0;
    s->created_s = in->shard_created_s;
    p->live_next = s->live;
    p->live_prev = &s->live;
    if (p->live_next != NULL) {
        p->live_next->live_prev = &p->live_next;
    }
    s->live = p;
    *s->queue_tail = p;
    s->queue_tail = &p->next;
    pump(s);
}

/* ---- the end --------------------------------------------------------------------------------------------------------------- */

static void subscription_close(struct subscriber *s)
{
    if (s->subscription != NULL) {
        sluice_subscription_close(s->subscription);
        s->subscription = NULL;
    }
}

/* The call is answered, or its peer is gone. Events on their way keep what they refer to. */
static void subscriber_free(struct subscriber *s)
{
    struct call *c = s->call;
    subscription_close(s);
    while (s->queue != NULL) {
        struct push *p = s->queue;
        s->queue = p->next;
        push_unref(p);
    }
    for (struct push *p = s->live, *later; p != NULL; p = later) {
        later = p->live_next;
        p->s = NULL;
        p->live_prev = &p->live_next; /* of a list of its own */
        p->live_next = NULL;
    }
    env_timer_close(&s->timer);
    *s->prev = s->next;
    if (s->next != NULL) {
        s->next->prev = s->prev;
    }
    s->k->metrics.subscriptions--;
    c->user = NULL;
    c->abandoned = NULL;
    c->writable = NULL;
    free(s);
    call_release(c);
}

static void abandoned(struct call *c) { subscriber_free(c->user); }

static void end_stream(struct subscriber *s)
{
    struct call *c = s->call;
    http_stream_end(c->http);
    call_streamed(c);
    subscriber_free(s);
}

/* Everything that was pushed is written. The subscriber may be gone afterwards. */
static void finish(struct subscriber *s)
{
    const struct map_stream *m = cluster_map_stream_by_id(s->k->lane->map, s->stream_id);
    if (s->error != AWS_E_NONE) {
        events_write_exception(s);
        end_stream(s);
    } else if (!s->closed || m == NULL) {
        end_stream(s);
    } else if (kinesis_children_known(m, s->children, s->n_children)) {
        events_write_children(s, m);
        end_stream(s);
    } /* else with a newer map, or when the wait for it is over: then without a word, and the client asks again */
}

static void pump(struct subscriber *s)
{
    struct call *c = s->call;
    if (!s->streaming) {
        return;
    }
    while (s->queue != NULL && http_stream_queued(c->http) < QUEUED_BYTES) {
        if (!events_write_push(s)) {
            http_stream_reset(c->http);
            call_streamed(c);
            subscriber_free(s);
            return;
        }
    }
    if (s->queue == NULL && s->over) {
        finish(s);
    }
}

static void writable(struct call *c) { pump(c->user); }

static void time_over(struct env_timer *t)
{
    struct subscriber *s = container_of(t, struct subscriber, timer);
    if (!s->streaming) {
        call_fail_text(s->call, AWS_E_InternalFailure, "The shard's leader did not take the subscription in time.");
        subscriber_free(s);
    } else {
        end_stream(s);
    }
}

/* ---- what the leader says -------------------------------------------------------------------------------------------------- */

static void started(struct sluice_subscription *subscription, void *user)
{
    (void)subscription;
    struct subscriber *s = user;
    struct call *c = s->call;
    struct http_header headers[CALL_HEADERS_MAX];
    struct http_answer_head head = {.status = 200, .headers = headers, .n_headers = call_headers(c, AWS_EVENT_CONTENT_TYPE, headers)};
    uint8_t *first = arena_alloc(&c->arena, AWS_EVENT_HEAD_MAX); /* lives as long as the call */
    http_stream_begin(c->http, &head);
    s->streaming = true;
    env_timer_start_ms(&s->timer, SUBSCRIBE_MS);
    struct iovec iov = {.iov_base = first, .iov_len = first != NULL ? aws_event_initial_response(first, c->format) : 0};
    if (first == NULL || http_stream_write(c->http, &(struct http_bytes){.iov = &iov, .n_iov = 1}) != 0) {
        end_stream(s);
        return;
    }
    http_request_drop(c->http);
    c->input = NULL; /* its texts lay in the request */
    pump(s);
}

static void open_at(struct subscriber *s, const struct sluice_position *at);

static enum aws_error error_of(int code)
{
    switch (code) {
    case SLUICE_E_IN_USE:
    case SLUICE_E_SUPERSEDED:
        return AWS_E_ResourceInUseException;
    case SLUICE_E_NOT_FOUND:
        return AWS_E_ResourceNotFoundException;
    case SLUICE_E_LIMIT:
        return AWS_E_LimitExceededException;
    default:
        return AWS_E_InternalFailureException;
    }
}

/* Before the stream has begun an error is an ordinary answer, afterwards the last event. */
static void ended(struct sluice_subscription *subscription, const struct sluice_read_end *end, void *user)
{
    (void)subscription;
    struct subscriber *s = user;
    subscription_close(s);
    if (end->code == SLUICE_E_EXPIRED) { /* what was trimmed meanwhile is gone: on at the horizon */
        open_at(s, &(struct sluice_position){.kind = SLUICE_TRIM_HORIZON});
        return;
    }
    s->over = true;
    s->closed = end->code == 0 && end->closed;
    s->n_children = min_u64(end->n_children, CHILDREN_MAX);
    for (size_t i = 0; i < s->n_children; i++) {
        s->children[i] = end->children[i];
    }
    if (end->code != 0) {
        s->error = error_of(end->code);
        snprintf(s->message, sizeof s->message, "%s", end->code == SLUICE_E_IN_USE       ? "Another active subscription exists for this consumer and shard; it began less than 5 seconds ago."
                                                      : end->code == SLUICE_E_SUPERSEDED ? "Another subscription of this consumer to this shard took over."
                                                      : end->message[0] != '\0'          ? end->message
                                                                                         : sluice_error_text(end->code));
    }
    if (s->streaming) {
        if (s->closed) {
            env_timer_start_ms(&s->timer, CHILDREN_MS);
        }
        pump(s);
    } else if (end->code == SLUICE_E_AHEAD) {
        call_fail_text(s->call, AWS_E_InvalidArgumentException, "The StartingPosition lies beyond the end of the shard.");
        subscriber_free(s);
    } else {
        call_fail_text(s->call, s->error != AWS_E_NONE ? s->error : AWS_E_InternalFailure, s->message);
        subscriber_free(s);
    }
}

static void open_at(struct subscriber *s, const struct sluice_position *at)
{
    const struct sluice_subscription_options o = {.consumer_id = s->consumer_id, .map_version = s->map_version, .credit = SUBSCRIBE_CREDIT, .heartbeat_ms = SUBSCRIBE_HEARTBEAT_MS,
                                                  .timeout_ms = SUBSCRIBE_LEADERLESS_MS, .started = s->streaming ? NULL : started, .pushed = pushed, .ended = ended, .user = s};
    if (sluice_subscription_open(s->client, s->stream, s->shard, at, &o, &s->subscription) == 0) {
        return;
    }
    s->subscription = NULL;
    if (s->streaming) {
        end_stream(s);
    } else {
        call_fail_text(s->call, AWS_E_InternalFailure, NULL);
        subscriber_free(s);
    }
}

/* ---- the call -------------------------------------------------------------------------------------------------------------- */

static bool bad(struct call *c, const char *why)
{
    call_fail(c, AWS_E_InvalidArgumentException, "StartingPosition is invalid: %s", why);
    return false;
}

/* The StartingPosition; false: answered. */
static bool position_of(struct call *c, const struct map_shard *shard, struct sluice_position *at)
{
    const struct aws_value *in = aws_member(c->input, AWS_M_StartingPosition);
    struct aws_text type = aws_member_text(in, AWS_M_Type), sequence = aws_member_text(in, AWS_M_SequenceNumber);
    bool after = aws_text_is(type, "AFTER_SEQUENCE_NUMBER");
    if (aws_text_is(type, "TRIM_HORIZON") || aws_text_is(type, "LATEST")) {
        at->kind = aws_text_is(type, "LATEST") ? SLUICE_LATEST : SLUICE_TRIM_HORIZON;
        return sequence.p == NULL || bad(c, "a SequenceNumber does not go with TRIM_HORIZON or LATEST.");
    }
    if (aws_text_is(type, "AT_TIMESTAMP")) {
        int64_t time = aws_member_integer(in, AWS_M_Timestamp, -1);
        *at = (struct sluice_position){.kind = SLUICE_AT_TIME, .time_ms = time > 0 ? (uint64_t)time : 0};
        return aws_member(in, AWS_M_Timestamp) == NULL ? bad(c, "AT_TIMESTAMP needs a Timestamp.")
               : time > (int64_t)env_wall_ms(c->k->env) ? bad(c, "the Timestamp lies in the future.")
                                                        : true;
    }
    struct seqno q;
    if (sequence.p == NULL) {
        return bad(c, "AT_SEQUENCE_NUMBER and AFTER_SEQUENCE_NUMBER need a SequenceNumber.");
    }
    if (!call_sequence_parse(sequence, &q) || q.shard != shard->shard || q.shard_created_s != shard->created_s) {
        return bad(c, "the SequenceNumber is none of this shard.");
    }
    if (q.offset == SEQNO_OFFSET_MAX) { /* EndingSequenceNumber of a closed shard */
        at->kind = SLUICE_LATEST;
        return !after || bad(c, "the SequenceNumber has reached the largest value of the shard.");
    }
    *at = (struct sluice_position){.kind = SLUICE_AT_OFFSET, .offset = q.offset + (after && q.time_s != 0)};
    return true;
}

void kinesis_SubscribeToShard(struct call *c)
{
    const struct map_stream *m;
    const struct map_consumer *consumer;
    if (!call_consumer(c, &m, &consumer)) {
        return;
    }
    if (!stream_has_data(m)) {
        call_no_stream(c, (struct aws_text){m->name, strlen(m->name)});
        return;
    }
    const struct map_shard *shard = call_shard(c, m, aws_member_text(c->input, AWS_M_ShardId));
    struct sluice_position at = {0};
    if (shard == NULL || !position_of(c, shard, &at)) {
        return;
    }
    struct sluice_client *client = call_client(c);
    if (client == NULL) {
        return;
    }
    struct kinesis *k = c->k;
    struct subscriber *s = xcalloc(1, sizeof *s);
    *s = (struct subscriber){.k = k, .call = c, .client = client, .shard = shard->shard, .created_s = shard->created_s, .consumer_id = consumer->id, .map_version = k->lane->map->version};
    memcpy(s->stream_id, m->id, sizeof s->stream_id);
    memcpy(s->stream, m->name, sizeof s->stream);
    s->queue_tail = &s->queue;
    s->next = k->subscribers;
    s->prev = &k->subscribers;
    if (s->next != NULL) {
        s->next->prev = &s->next;
    }
    k->subscribers = s;
    k->metrics.subscriptions++;
    env_timer_init(k->env, &s->timer, time_over);
    env_timer_start_ms(&s->timer, SUBSCRIBE_LEADERLESS_MS);
    call_hold(c);
    c->user = s;
    c->abandoned = abandoned;
    c->writable = writable;
    open_at(s, &at);
}

void kinesis_subscribers_map(struct kinesis *k)
{
    for (struct subscriber *s = k->subscribers, *next; s != NULL; s = next) {
        next = s->next;
        if (s->closed && s->queue == NULL) {
            finish(s);
        }
    }
}

void kinesis_subscribers_close(struct kinesis *k)
{
    while (k->subscribers != NULL) {
        struct subscriber *s = k->subscribers;
        if (s->streaming) {
            end_stream(s);
        } else {
            call_fail_text(s->call, AWS_E_ServiceUnavailable, "The node is stopping.");
            subscriber_free(s);
        }
    }
}
