/* A subscription: a shard's records, pushed by its leader.
 *
 *   MAP -> CONSUMER (asks which number has the name) -> POSITION -> SUBSCRIBE -> PUSHED, again and again -> ENDED
 *
 * Whatever goes wrong on the way to the leader or at it leads back to SUBSCRIBE, at exactly the offset that comes next: every push has to continue there, so nothing is
 * skipped and nothing delivered twice. It then says `resumed`, under the same random id: the place that it had is its own, unless a newer subscriber has taken it.
 * A leader that is silent is noticed by its connection (pings), one that no longer pushes by its missing heartbeats. */
#include <stdio.h>
#include <stdlib.h>

#include "client/client_impl.h"

enum {
    CREDIT_DEFAULT = 1 << 20, HEARTBEAT_DEFAULT_MS = 5000,
    DAMAGE_MAX = 8,     /* pushes with damage in a row */
    MAP_TRIES = 200,    /* maps without the shard, each is another node's or 50 ms newer */
    NOT_FOUND_TRIES = 8 /* nodes that do not know the stream, the shard or the consumer: their maps may be old */
};

enum subscription_state { SUBSCRIPTION_MAP, SUBSCRIPTION_CONSUMER, SUBSCRIPTION_POSITION, SUBSCRIPTION_SUBSCRIBE, SUBSCRIPTION_ENDED };

struct sluice_subscription {
    struct sluice_client *client;
    struct sluice_subscription_options options;
    char *consumer, *sequence;
    uint64_t consumer_id, map_version;
    struct stream *stream;
    struct stream_watch watch;
    uint32_t shard;
    uint8_t stream_id[16], subscriber[16];
    struct sluice_position position;
    enum subscription_state state;
    struct target target;
    struct node *node;
    struct request request;
    uint8_t *packed;
    unsigned failures, damaged, map_tries, not_found;
    uint64_t next_offset, began_ns, shard_created_s; /* began_ns: of the first attempt that was or may have been taken */
    uint64_t end_offset;     /* of the shard, as the leader told last */
    uint64_t unread;         /* bytes delivered and not given back */
    uint64_t to_tell;        /* given back, and the leader does not know it */
    uint64_t debt;           /* so much of what is given back was never the leader's: a subscription begins with one byte of credit at least */
    uint64_t good_ns;        /* last success */
    bool waiting;            /* the timer runs */
    bool subscribed;         /* the leader took it; it may still be so if the way to it broke */
    bool perhaps;            /* a former attempt may have been taken */
    bool positioned;         /* next_offset is known */
    bool started, pushed_any, asking, closing;
    struct env_timer timer;
    struct env_task task;
};

static void step(struct sluice_subscription *s);
static void answered(struct request *q, const struct answer *a);

/* ---- ending ---------------------------------------------------------------------------------------------------------------- */

/* The leader need not push any more. */
static void leave(struct sluice_subscription *s)
{
    if (request_active(&s->request) && s->request.kind == FRAME_SUBSCRIBE) {
        s->perhaps = s->perhaps || s->request.written;
        Sluice__Credit m = SLUICE__CREDIT__INIT;
        m.end = true;
        request_note(&s->request, FRAME_CREDIT, &m.base);
    }
    request_cancel(&s->request);
    s->subscribed = false;
}

static void end(struct sluice_subscription *s, int code, const char *message, const Sluice__Push *last)
{
    if (s->state == SUBSCRIPTION_ENDED) {
        return;
    }
    s->state = SUBSCRIPTION_ENDED;
    char text[256];
    snprintf(text, sizeof text, "%s", message);
    leave(s);
    env_timer_stop(&s->timer);
    const struct sluice_read_end e = {.code = code, .message = text, .closed = last != NULL, .next_offset = s->next_offset,
                                      .children = last != NULL ? last->children : NULL, .n_children = last != NULL ? last->n_children : 0};
    s->options.ended(s, &e, s->options.user);
}

static void run_task(struct env_task *t)
{
    struct sluice_subscription *s = container_of(t, struct sluice_subscription, task);
    if (!s->closing) {
        step(s);
    } else if (!s->asking) { /* else when that came back */
        free(s->consumer);
        free(s->sequence);
        free(s->packed);
        free(s);
    }
}

void sluice_subscription_close(struct sluice_subscription *s)
{
    sluice_assert(!s->closing);
    s->closing = true;
    s->state = SUBSCRIPTION_ENDED;
    leave(s);
    env_timer_close(&s->timer);
    stream_watch_remove(s->stream, &s->watch);
    stream_put(s->stream);
    env_defer(s->client->env, &s->task, run_task); /* the caller may be inside a callback of it */
}

/* ---- trying again ---------------------------------------------------------------------------------------------------------- */

static void timer_over(struct env_timer *t)
{
    struct sluice_subscription *s = container_of(t, struct sluice_subscription, timer);
    s->waiting = false;
    step(s);
}

static void pause_ms(struct sluice_subscription *s, uint64_t ms)
{
    s->waiting = true;
    env_timer_start_ms(&s->timer, ms);
}

static bool out_of_time(const struct sluice_subscription *s)
{
    return s->options.timeout_ms != 0 && env_now_ns(s->client->env) - s->good_ns >= s->options.timeout_ms * 1000000u;
}

static void retry(struct sluice_subscription *s, const struct answer *a)
{
    struct sluice_client *c = s->client;
    leave(s);
    c->stats.retries++;
    target_learn(&s->target, s->stream, s->shard, s->node, a);
    if (out_of_time(s)) {
        end(s, a->code, a->message, NULL);
        return;
    }
    pause_ms(s, target_pause_ms(&s->target, c->env, s->failures++, a));
}

static void damaged(struct sluice_subscription *s, const char *why)
{
    if (++s->damaged >= DAMAGE_MAX) {
        end(s, SLUICE_E_CORRUPT, why, NULL);
        return;
    }
    const struct answer a = {.code = SLUICE_E_CORRUPT, .message = why, .hint = "", .leader_address = ""};
    retry(s, &a);
}

static void good(struct sluice_subscription *s)
{
    s->failures = 0;
    s->good_ns = env_now_ns(s->client->env);
    target_learn(&s->target, s->stream, s->shard, s->node, NULL);
}

/* ---- credit ---------------------------------------------------------------------------------------------------------------- */

void sluice_subscription_credit(struct sluice_subscription *s, uint64_t bytes)
{
    bytes = min_u64(bytes, s->unread);
    s->unread -= bytes;
    uint64_t paid = min_u64(bytes, s->debt);
    s->debt -= paid;
    s->to_tell += bytes - paid;
    if (s->subscribed && s->to_tell > 0 && s->to_tell >= s->options.credit / 4) {
        Sluice__Credit m = SLUICE__CREDIT__INIT;
        m.bytes = s->to_tell;
        s->to_tell = 0;
        request_note(&s->request, FRAME_CREDIT, &m.base);
    }
}

bool sluice_subscription_caught_up(const struct sluice_subscription *s)
{
    return s->started && s->next_offset >= s->end_offset;
}

/* ---- answers --------------------------------------------------------------------------------------------------------------- */

static void take_position(struct sluice_subscription *s, const struct answer *a)
{
    Sluice__PositionReply *m = (Sluice__PositionReply *)answer_unpack(&sluice__position_reply__descriptor, a->frame);
    if (m == NULL) {
        damaged(s, "malformed answer to a position");
        return;
    }
    s->next_offset = m->offset;
    s->positioned = true;
    sluice__position_reply__free_unpacked(m, NULL);
    good(s);
    s->state = SUBSCRIPTION_SUBSCRIBE;
    step(s);
}

static void take_reply(struct sluice_subscription *s, const struct answer *a)
{
    Sluice__SubscribeReply *m = (Sluice__SubscribeReply *)answer_unpack(&sluice__subscribe_reply__descriptor, a->frame);
    if (m == NULL) {
        damaged(s, "malformed answer to a subscription");
        return;
    }
    s->shard_created_s = m->shard_created_s;
    s->end_offset = m->end_offset;
    sluice__subscribe_reply__free_unpacked(m, NULL);
    good(s);
    s->not_found = 0;
    s->subscribed = s->perhaps = true;
    s->request.timeout_ms = 3 * s->options.heartbeat_ms + 1000;
    if (!s->started) {
        s->started = true;
        if (s->options.started != NULL) {
            s->options.started(s, s->options.user);
        }
    }
}

/* The last push of this leader. */
static void push_ended(struct sluice_subscription *s, const Sluice__Push *m)
{
    request_cancel(&s->request);
    s->subscribed = false;
    int code = (int)m->ended;
    if (code == SLUICE_E_CORRUPT) {
        damaged(s, m->message);
    } else if (sluice_error_retry(code) == SLUICE_RETRY_NEVER) {
        end(s, code, m->message, NULL);
    } else {
        const struct answer a = {.code = code, .message = m->message, .hint = "", .leader_address = "", .leader_node = m->leader_node};
        retry(s, &a);
    }
}

static void deliver(struct sluice_subscription *s, const Sluice__Push *m, const struct answer *a)
{
    size_t len = a->frame->payload_len;
    struct sluice_pushed p = {.offset = s->next_offset, .next_offset = m->next_offset, .end_offset = m->end_offset, .millis_behind = m->millis_behind,
                              .shard_created_s = s->shard_created_s, .len = len};
    uint8_t *data = len > 0 ? frame_take_payload(a->reader, a->frame) : NULL;
    p.data = data;
    s->next_offset = m->next_offset;
    s->end_offset = m->end_offset;
    s->unread += len;
    s->pushed_any = s->pushed_any || len > 0;
    s->options.pushed(s, &p, s->options.user);
    if (!p.taken) {
        free(data);
        sluice_subscription_credit(s, len);
    }
}

static void take_push(struct sluice_subscription *s, const struct answer *a)
{
    Sluice__Push *m = (Sluice__Push *)answer_unpack(&sluice__push__descriptor, a->frame);
    if (m == NULL || !s->subscribed) {
        if (m != NULL) {
            sluice__push__free_unpacked(m, NULL);
        }
        damaged(s, "malformed push");
        return;
    }
    const char *wrong = m->ended == 0 ? batches_check(s->stream_id, s->shard, s->next_offset, a->frame->payload, a->frame->payload_len, m->next_offset) : NULL;
    if (wrong == NULL && m->ended == 0 && m->closed && m->next_offset < m->end_offset) {
        wrong = "a closed shard's end was told before all of it was pushed";
    }
    if (wrong != NULL) {
        sluice__push__free_unpacked(m, NULL);
        damaged(s, wrong);
        return;
    }
    if (m->ended != 0) {
        push_ended(s, m);
        sluice__push__free_unpacked(m, NULL);
        return;
    }
    s->damaged = 0;
    s->good_ns = env_now_ns(s->client->env);
    if (m->closed) { /* the last one: nothing is to be told to the leader any more */
        request_cancel(&s->request);
        s->subscribed = false;
    }
    if (!m->closed || a->frame->payload_len > 0) {
        deliver(s, m, a);
    }
    if (m->closed && s->state != SUBSCRIPTION_ENDED) {
        end(s, 0, "", m);
    }
    sluice__push__free_unpacked(m, NULL);
}

static void refused(struct sluice_subscription *s, const struct answer *a)
{
    if (a->code == SLUICE_E_CORRUPT) {
        damaged(s, a->message);
    } else if (a->code == SLUICE_E_EXPIRED && s->position.kind == SLUICE_TRIM_HORIZON && !s->pushed_any) {
        s->state = SUBSCRIPTION_POSITION; /* the horizon moved on between asking for it and subscribing */
        retry(s, a);
    } else if (a->code == SLUICE_E_NOT_FOUND && (s->consumer != NULL || s->not_found++ < NOT_FOUND_TRIES)) {
        /* The node's map may be older than ours. A new one of the stream tells, or ends it; so does the controller's list, if the consumer has a name. */
        s->target.failed = s->node;
        stream_refresh(s->stream);
        s->state = s->consumer != NULL ? SUBSCRIPTION_CONSUMER : s->state;
        retry(s, a);
    } else if (sluice_error_retry(a->code) == SLUICE_RETRY_NEVER) {
        end(s, a->code, a->message, NULL);
    } else {
        retry(s, a);
    }
}

static void answered(struct request *q, const struct answer *a)
{
    struct sluice_subscription *s = container_of(q, struct sluice_subscription, request);
    if (a->code != 0) {
        s->subscribed = false;
        s->perhaps = s->perhaps || (a->maybe && q->kind == FRAME_SUBSCRIBE);
        refused(s, a);
    } else if (s->state == SUBSCRIPTION_POSITION) {
        take_position(s, a);
    } else if (a->frame->kind == FRAME_SUBSCRIBE_REPLY) {
        take_reply(s, a);
    } else {
        take_push(s, a);
    }
}

/* ---- the consumer's number ------------------------------------------------------------------------------------------------- */

static void consumers_told(const struct sluice_result *r, void *user)
{
    struct sluice_subscription *s = user;
    s->asking = false;
    if (s->closing) {
        env_defer(s->client->env, &s->task, run_task);
        return;
    }
    if (s->state != SUBSCRIPTION_CONSUMER) {
        return;
    }
    if (r->code != 0) {
        if (sluice_error_retry(r->code) == SLUICE_RETRY_NEVER || out_of_time(s)) {
            end(s, r->code, r->message, NULL);
        } else {
            step(s);
        }
        return;
    }
    const Sluice__ConsumerListReply *m = (const Sluice__ConsumerListReply *)r->reply;
    if (m->stream_id.len != sizeof s->stream_id || memcmp(m->stream_id.data, s->stream_id, sizeof s->stream_id) != 0) {
        end(s, SLUICE_E_NOT_FOUND, "the stream was deleted; another one has its name now", NULL);
        return;
    }
    if (m->map_version < s->map_version) { /* that node does not know yet what this program knows: a former consumer may have the name there */
        if (out_of_time(s)) {
            end(s, SLUICE_E_NOT_READY, "no node that can be reached knows the consumer yet", NULL);
        } else {
            pause_ms(s, 50);
        }
        return;
    }
    for (size_t i = 0; i < m->n_consumers; i++) {
        if (strcmp(m->consumers[i]->name, s->consumer) == 0 && (s->consumer_id == 0 || s->consumer_id == m->consumers[i]->id)) {
            s->consumer_id = m->consumers[i]->id;
            s->map_version = m->map_version;
            s->state = s->positioned ? SUBSCRIPTION_SUBSCRIBE : SUBSCRIPTION_POSITION;
            step(s);
            return;
        }
    }
    end(s, SLUICE_E_NOT_FOUND, "the stream has no such consumer", NULL);
}

static void ask_consumers(struct sluice_subscription *s)
{
    if (s->asking || s->waiting) {
        return;
    }
    Sluice__ConsumerList m = SLUICE__CONSUMER_LIST__INIT;
    m.stream = s->stream->name;
    m.consumer = s->consumer;
    if (s->client->options.account != NULL) {
        m.account = (char *)(uintptr_t)s->client->options.account;
    }
    s->asking = sluice_call(s->client, FRAME_CONSUMER_LIST, &m.base, NULL, consumers_told, s) == 0;
    if (!s->asking) {
        end(s, SLUICE_E_MEMORY, "no memory to ask for the consumer", NULL);
    }
}

/* ---- steps ----------------------------------------------------------------------------------------------------------------- */

static void pack(struct sluice_subscription *s)
{
    free(s->packed);
    ProtobufCBinaryData id = {.len = sizeof s->stream_id, .data = s->stream_id};
    s->request = (struct request){.done = answered, .timeout_ms = s->client->options.request_timeout_ms};
    if (s->state == SUBSCRIPTION_POSITION) {
        Sluice__Position m = SLUICE__POSITION__INIT;
        m.stream_id = id;
        m.shard = s->shard;
        m.kind = (Sluice__Position__Kind)s->position.kind;
        m.time_ms = s->position.time_ms;
        if (s->sequence != NULL) {
            m.sequence = s->sequence;
        }
        s->packed = message_pack(&m.base, &s->request.packed_len);
        s->request.kind = FRAME_POSITION;
    } else {
        Sluice__Subscribe m = SLUICE__SUBSCRIBE__INIT;
        m.stream_id = id;
        m.shard = s->shard;
        m.consumer_id = s->consumer_id;
        m.map_version = s->map_version;
        m.offset = s->next_offset;
        m.credit = s->options.credit > s->unread ? s->options.credit - s->unread : 1;
        uint64_t now_ns = env_now_ns(s->client->env);
        s->began_ns = s->perhaps ? s->began_ns : now_ns;
        m.age_ms = (now_ns - s->began_ns) / 1000000u;
        m.subscriber = (ProtobufCBinaryData){.len = sizeof s->subscriber, .data = s->subscriber};
        m.resumed = s->perhaps;
        m.heartbeat_ms = s->options.heartbeat_ms;
        s->debt = s->unread >= s->options.credit ? s->unread + 1 - s->options.credit : 0;
        s->to_tell = 0;
        s->packed = message_pack(&m.base, &s->request.packed_len);
        s->request.kind = FRAME_SUBSCRIBE;
        s->request.subscribes = true;
    }
    s->request.packed = s->packed;
}

static void ask(struct sluice_subscription *s)
{
    pack(s);
    s->node = target_choose(&s->target, s->stream, s->shard, false);
    if (s->node != NULL && request_send(s->node, &s->request) == 0) {
        return;
    }
    if (out_of_time(s)) {
        end(s, SLUICE_E_NO_CONNECTION, "no node of the shard can be reached", NULL);
        return;
    }
    stream_refresh(s->stream);
    pause_ms(s, target_pause_ms(&s->target, s->client->env, s->failures++, NULL));
}

static void begin(struct sluice_subscription *s)
{
    memcpy(s->stream_id, s->stream->id, sizeof s->stream_id);
    if (stream_shard(s->stream, s->shard) == NULL) { /* or it is newer than this map, and than those of some nodes */
        if (s->map_tries++ == MAP_TRIES) {
            end(s, SLUICE_E_NOT_FOUND, "no such shard", NULL);
        } else {
            stream_refresh(s->stream);
        }
        return;
    }
    s->good_ns = env_now_ns(s->client->env);
    s->state = s->consumer_id != 0 ? SUBSCRIPTION_POSITION : SUBSCRIPTION_CONSUMER;
}

static void step(struct sluice_subscription *s)
{
    if (s->state == SUBSCRIPTION_MAP && !s->stream->known) {
        stream_refresh(s->stream);
        return;
    }
    if (s->state == SUBSCRIPTION_MAP) {
        begin(s);
    }
    if (s->state == SUBSCRIPTION_CONSUMER) {
        if (!s->waiting) {
            ask_consumers(s);
        }
        return;
    }
    if (s->state == SUBSCRIPTION_POSITION && s->position.kind == SLUICE_AT_OFFSET) {
        s->positioned = true;
        s->next_offset = s->position.offset;
        s->state = SUBSCRIPTION_SUBSCRIBE;
    }
    bool asks = s->state == SUBSCRIPTION_POSITION || s->state == SUBSCRIPTION_SUBSCRIBE;
    if (asks && !s->waiting && !request_active(&s->request)) {
        ask(s);
    }
}

static void map_changed(struct stream_watch *w, int code, const char *message)
{
    struct sluice_subscription *s = container_of(w, struct sluice_subscription, watch);
    if (s->state == SUBSCRIPTION_ENDED) {
        return;
    }
    if (code == SLUICE_E_NOT_FOUND) {
        end(s, code, message, NULL);
    } else if (code != 0 && s->state == SUBSCRIPTION_MAP) {
        if (out_of_time(s)) {
            end(s, code, message, NULL);
        } else {
            stream_refresh(s->stream);
        }
    } else if (code == 0 && s->state == SUBSCRIPTION_MAP) {
        step(s);
    } else if (code == 0 && memcmp(s->stream_id, s->stream->id, sizeof s->stream_id) != 0) {
        end(s, SLUICE_E_NOT_FOUND, "the stream was deleted; another one has its name now", NULL);
    }
}

int sluice_subscription_open(struct sluice_client *c, const char *stream, uint32_t shard, const struct sluice_position *position,
                             const struct sluice_subscription_options *o, struct sluice_subscription **out)
{
    bool by_sequence = position->kind == SLUICE_AT_SEQUENCE || position->kind == SLUICE_AFTER_SEQUENCE;
    struct seqno seqno;
    if (stream == NULL || stream[0] == '\0' || o->pushed == NULL || o->ended == NULL || c->closing || (unsigned)position->kind > SLUICE_AT_OFFSET ||
        (o->consumer_id == 0 && (o->consumer == NULL || o->consumer[0] == '\0')) ||
        (by_sequence && (position->sequence == NULL || !seqno_parse(position->sequence, &seqno)))) {
        return SLUICE_E_INVALID;
    }
    struct sluice_subscription *s = xcalloc(1, sizeof *s);
    *s = (struct sluice_subscription){.client = c, .options = *o, .shard = shard, .position = *position, .consumer_id = o->consumer_id, .map_version = o->map_version};
    s->consumer = o->consumer != NULL ? xstrdup(o->consumer) : NULL;
    s->sequence = by_sequence ? xstrdup(position->sequence) : NULL;
    s->options.credit = o->credit != 0 ? o->credit : CREDIT_DEFAULT;
    s->options.heartbeat_ms = o->heartbeat_ms != 0 ? o->heartbeat_ms : HEARTBEAT_DEFAULT_MS;
    s->target.turn = shard;
    s->good_ns = env_now_ns(c->env);
    env_random(c->env, s->subscriber, sizeof s->subscriber);
    s->stream = stream_get(c, stream);
    s->watch.changed = map_changed;
    stream_watch_add(s->stream, &s->watch);
    env_timer_init(c->env, &s->timer, timer_over);
    env_defer(c->env, &s->task, run_task);
    *out = s;
    return 0;
}
