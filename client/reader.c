/* The reader of one shard.
 *
 *   MAP -> (no_follow: END, asks where the shard ends now) -> POSITION -> FETCH <-> deliver -> ... -> ENDED
 *
 * The next fetch is sent as soon as the present answer is known to be good and before it is delivered, so that the node works
 * while the caller does. Offsets must continue: an answer that would skip a record is damage and is never delivered. What may
 * get better elsewhere (a lagging, stale or damaged replica, a dead node) is tried at the other replicas at the same offset. */
#include <stdio.h>
#include <stdlib.h>

#include "client/client_impl.h"
#include "client/unpack.h"

enum {
    MAX_BYTES_DEFAULT = 1 << 20, WAIT_MS_DEFAULT = 5000, WAIT_MS_MAX = 60000,
    DAMAGE_MAX = 8, /* answers with damage in a row, over all replicas, before the reader gives up */
    MAP_TRIES = 200 /* maps without the shard; each is another node's or 50 ms newer. A child is known from its parent, while nodes without a controller may lag for seconds */
};

enum reader_state { READER_MAP, READER_END, READER_POSITION, READER_FETCH, READER_ENDED };

/* Batches of an answer, being delivered. */
struct chunk { struct chunk *next; uint8_t *data; size_t len, pos; uint64_t end_offset, next_offset, millis_behind, shard_created_s; };

struct sluice_reader {
    struct sluice_client *client;
    struct sluice_reader_options options;
    struct stream *stream;
    struct stream_watch watch;
    uint32_t shard;
    uint8_t stream_id[16];
    struct sluice_position position;
    char *sequence;
    enum reader_state state;
    struct target target;
    struct node *node;
    struct request request;
    uint8_t *packed;
    unsigned failures, damaged;
    uint64_t next_offset;    /* to be delivered */
    uint64_t fetch_offset;   /* to be asked for: the end of what has arrived */
    uint64_t until;          /* no_follow: where to end */
    uint64_t good_ns;        /* last success */
    bool waiting; /* the timer runs: nothing is asked before */
    bool paused, caught_up, delivering, closing, closed_shard, starting, answered;
    uint32_t *children;
    size_t n_children;
    struct chunk *chunks, **chunks_end;
    unsigned n_chunks;
    unsigned map_tries;      /* maps that did not have the shard */
    struct unpacker unpacker;
    struct env_timer timer;
    struct env_task task;
};

static void reader_step(struct sluice_reader *r);
static void reader_answered(struct request *q, const struct answer *a);

/* ---- ending ---------------------------------------------------------------------------------------------------------------- */

static void reader_end(struct sluice_reader *r, int code, const char *message)
{
    if (r->state == READER_ENDED) {
        return;
    }
    r->state = READER_ENDED;
    request_cancel(&r->request);
    env_timer_stop(&r->timer);
    char text[256];
    snprintf(text, sizeof text, "%s", message);
    const struct sluice_read_end end = {.code = code, .message = text, .closed = code == 0 && r->closed_shard && r->next_offset == r->fetch_offset,
                                        .next_offset = r->next_offset, .children = r->children, .n_children = r->n_children};
    r->options.ended(r, &end, r->options.user);
}

static void free_task(struct env_task *t)
{
    struct sluice_reader *r = container_of(t, struct sluice_reader, task);
    while (r->chunks != NULL) {
        struct chunk *k = r->chunks;
        r->chunks = k->next;
        free(k->data);
        free(k);
    }
    unpacker_free(&r->unpacker);
    free(r->children);
    free(r->sequence);
    free(r->packed);
    free(r);
}

static void reader_task(struct env_task *t)
{
    struct sluice_reader *r = container_of(t, struct sluice_reader, task);
    if (r->closing) {
        free_task(t);
    } else {
        reader_step(r);
    }
}

void sluice_reader_close(struct sluice_reader *r)
{
    sluice_assert(!r->closing);
    r->closing = true;
    r->state = READER_ENDED;
    request_cancel(&r->request);
    env_timer_close(&r->timer);
    stream_watch_remove(r->stream, &r->watch);
    stream_put(r->stream);
    env_defer(r->client->env, &r->task, reader_task); /* the caller may be inside a callback of it */
}

/* ---- asking ---------------------------------------------------------------------------------------------------------------- */

static void reader_timer(struct env_timer *t)
{
    struct sluice_reader *r = container_of(t, struct sluice_reader, timer);
    r->waiting = false;
    reader_step(r);
}

static void reader_pack(struct sluice_reader *r)
{
    free(r->packed);
    ProtobufCBinaryData id = {.len = sizeof r->stream_id, .data = r->stream_id};
    r->request = (struct request){.done = reader_answered};
    if (r->state == READER_FETCH) {
        Sluice__Fetch m = SLUICE__FETCH__INIT;
        m.stream_id = id;
        m.shard = r->shard;
        m.offset = r->fetch_offset;
        m.max_bytes = r->options.max_bytes;
        m.max_records = r->options.max_records;
        m.wait_ms = r->options.no_follow || !r->answered ? 0 : r->options.wait_ms; /* the first answer tells how far the shard goes: at once */
        m.mode = r->options.fresh ? SLUICE__READ_MODE__FRESH : SLUICE__READ_MODE__COMMITTED;
        r->packed = message_pack(&m.base, &r->request.packed_len);
        r->request.kind = FRAME_FETCH;
        r->request.long_poll = m.wait_ms > 0;
        r->request.timeout_ms = r->client->options.request_timeout_ms + m.wait_ms;
    } else {
        Sluice__Position m = SLUICE__POSITION__INIT;
        m.stream_id = id;
        m.shard = r->shard;
        /* LATEST is a fresh read: it comes after everything acknowledged before it was asked. */
        m.kind = r->state == READER_END ? SLUICE__POSITION__KIND__LATEST : (Sluice__Position__Kind)r->position.kind;
        if (r->state == READER_POSITION) {
            m.time_ms = r->position.time_ms;
            if (r->sequence != NULL) {
                m.sequence = r->sequence;
            }
        }
        r->packed = message_pack(&m.base, &r->request.packed_len);
        r->request.kind = FRAME_POSITION;
        r->request.timeout_ms = r->client->options.request_timeout_ms;
    }
    r->request.packed = r->packed;
}

static void reader_pause_ms(struct sluice_reader *r, uint64_t ms)
{
    r->waiting = true;
    env_timer_start_ms(&r->timer, ms);
}

static void reader_ask(struct sluice_reader *r)
{
    reader_pack(r);
    bool any = r->options.spread && r->state == READER_FETCH;
    r->node = target_choose(&r->target, r->stream, r->shard, any);
    if (r->node == NULL || request_send(r->node, &r->request) != 0) {
        uint64_t now = env_now_ns(r->client->env);
        if (r->options.timeout_ms != 0 && now - r->good_ns >= r->options.timeout_ms * 1000000u) {
            reader_end(r, SLUICE_E_NO_CONNECTION, "no node of the shard can be reached");
            return;
        }
        stream_refresh(r->stream);
        reader_pause_ms(r, target_pause_ms(&r->target, r->client->env, r->failures++, NULL));
    }
}

/* The fetch after next is not sent before what has arrived is delivered: at most two answers are held. */
static void reader_fetch_more(struct sluice_reader *r)
{
    bool enough = r->closed_shard || (r->options.no_follow && r->fetch_offset >= r->until);
    if (r->state == READER_FETCH && !enough && !r->paused && !r->waiting && r->n_chunks < 2 && !request_active(&r->request)) {
        reader_ask(r);
    }
}

/* ---- delivering ------------------------------------------------------------------------------------------------------------ */

/* One batch. False: the reader has ended. */
static bool deliver_batch(struct sluice_reader *r, struct chunk *k)
{
    struct sluice_records records = {.shard = r->shard, .shard_created_s = k->shard_created_s, .millis_behind = k->millis_behind};
    uint32_t len; /* checked when the answer came, as the checksum was */
    const char *why = "";
    int code = unpack_batch(&r->unpacker, k->data + k->pos, r->next_offset, r->options.no_follow ? r->until : UINT64_MAX, &records, &len, &why);
    if (code != 0) {
        reader_end(r, code, why);
        return false;
    }
    k->pos += len;
    if (records.n == 0) {
        return true;
    }
    sluice_assert(records.v[0].offset == r->next_offset);
    r->next_offset += records.n;
    r->caught_up = false;
    r->options.records(r, &records, r->options.user);
    return r->state != READER_ENDED;
}

static void deliver(struct sluice_reader *r)
{
    if (r->delivering) {
        return;
    }
    r->delivering = true;
    while (r->state == READER_FETCH && !r->paused && r->chunks != NULL) {
        struct chunk *k = r->chunks;
        if (k->pos < k->len) {
            if (!deliver_batch(r, k)) {
                break;
            }
            continue;
        }
        r->chunks = k->next;
        if (r->chunks == NULL) {
            r->chunks_end = &r->chunks;
        }
        r->n_chunks--;
        bool at_end = k->next_offset >= k->end_offset && r->chunks == NULL;
        free(k->data);
        free(k);
        if (at_end && !r->caught_up && r->options.caught_up != NULL) {
            r->caught_up = true;
            r->options.caught_up(r, r->next_offset, r->options.user);
        } else {
            r->caught_up = r->caught_up && at_end;
        }
    }
    r->delivering = false;
    if (r->state != READER_FETCH || r->paused) {
        return;
    }
    bool all = r->chunks == NULL && r->next_offset == r->fetch_offset;
    if ((r->options.no_follow && r->next_offset >= r->until) || (all && r->closed_shard)) {
        reader_end(r, 0, "");
        return;
    }
    reader_fetch_more(r);
}

/* ---- answers --------------------------------------------------------------------------------------------------------------- */

/* Something that another replica may do better. */
static void reader_retry(struct sluice_reader *r, const struct answer *a)
{
    struct sluice_client *c = r->client;
    c->stats.retries++;
    target_learn(&r->target, r->stream, r->shard, r->node, a);
    uint64_t now = env_now_ns(c->env);
    if (r->options.timeout_ms != 0 && now - r->good_ns >= r->options.timeout_ms * 1000000u) {
        reader_end(r, a->code, a->message);
        return;
    }
    reader_pause_ms(r, target_pause_ms(&r->target, c->env, r->failures++, a));
}

static void reader_damaged(struct sluice_reader *r, const char *why)
{
    if (++r->damaged >= DAMAGE_MAX) {
        reader_end(r, SLUICE_E_CORRUPT, why);
        return;
    }
    const struct answer a = {.code = SLUICE_E_CORRUPT, .message = why, .hint = "", .leader_address = ""};
    reader_retry(r, &a);
}

static void reader_expired(struct sluice_reader *r, const char *message)
{
    if (r->position.kind == SLUICE_TRIM_HORIZON && r->starting) { /* the horizon moved on between asking for it and reading */
        r->state = READER_POSITION;
        reader_step(r);
    } else {
        reader_end(r, SLUICE_E_EXPIRED, message);
    }
}

static void take_fetch(struct sluice_reader *r, const struct answer *a)
{
    Sluice__FetchReply *m;
    const char *why;
    int code = fetch_reply_check(a, r->stream_id, r->shard, r->fetch_offset, false, &m, &why);
    if (code == SLUICE_E_EXPIRED) {
        reader_expired(r, why);
        return;
    }
    if (code != 0) {
        reader_damaged(r, why);
        return;
    }
    r->failures = r->damaged = 0;
    r->good_ns = env_now_ns(r->client->env);
    target_learn(&r->target, r->stream, r->shard, r->node, NULL);
    r->starting = r->starting && a->frame->payload_len == 0;
    r->answered = true;
    struct chunk *k = xcalloc(1, sizeof *k);
    *k = (struct chunk){.len = a->frame->payload_len, .end_offset = m->end_offset, .next_offset = m->next_offset,
                        .millis_behind = m->millis_behind, .shard_created_s = m->shard_created_s};
    k->data = k->len > 0 ? frame_take_payload(a->reader, a->frame) : NULL;
    *r->chunks_end = k;
    r->chunks_end = &k->next;
    r->n_chunks++;
    r->fetch_offset = m->next_offset;
    if (m->closed) {
        r->closed_shard = true;
        free(r->children);
        r->children = xmalloc((m->n_children + 1) * sizeof *r->children);
        r->n_children = m->n_children;
        if (m->n_children > 0) {
            memcpy(r->children, m->children, m->n_children * sizeof *r->children);
        }
    }
    bool nothing = k->len == 0;
    sluice__fetch_reply__free_unpacked(m, NULL);
    if (nothing && r->options.no_follow && !r->closed_shard && r->fetch_offset < r->until) {
        /* The replica has not got so far yet. */
        const struct answer behind = {.code = SLUICE_E_AHEAD, .message = "", .hint = "", .leader_address = ""};
        reader_retry(r, &behind);
        deliver(r);
        return;
    }
    reader_fetch_more(r);
    deliver(r);
}

static void take_position(struct sluice_reader *r, const struct answer *a)
{
    Sluice__PositionReply *m = (Sluice__PositionReply *)answer_unpack(&sluice__position_reply__descriptor, a->frame);
    if (m == NULL) {
        reader_damaged(r, "malformed answer to a position");
        return;
    }
    uint64_t offset = m->offset;
    sluice__position_reply__free_unpacked(m, NULL);
    r->failures = 0;
    r->good_ns = env_now_ns(r->client->env);
    target_learn(&r->target, r->stream, r->shard, r->node, NULL);
    if (r->state == READER_END) {
        r->until = offset;
        r->state = READER_POSITION;
    } else {
        r->next_offset = r->fetch_offset = offset;
        r->state = READER_FETCH;
    }
    reader_step(r);
}

static void reader_answered(struct request *q, const struct answer *a)
{
    struct sluice_reader *r = container_of(q, struct sluice_reader, request);
    if (a->code == 0 && r->state == READER_FETCH) {
        take_fetch(r, a);
    } else if (a->code == 0) {
        take_position(r, a);
    } else if (a->code == SLUICE_E_CORRUPT) {
        reader_damaged(r, a->message);
    } else if (a->code == SLUICE_E_EXPIRED && r->state == READER_FETCH) {
        reader_expired(r, a->message);
    } else if (sluice_error_retry(a->code) == SLUICE_RETRY_NEVER && a->code != SLUICE_E_NOT_FOUND) {
        /* What has arrived before is good and comes first. */
        if (r->chunks != NULL && r->paused) {
            reader_retry(r, a);
        } else {
            reader_end(r, a->code, a->message);
        }
    } else {
        if (a->code == SLUICE_E_NOT_FOUND) {
            stream_refresh(r->stream); /* the new map tells, or ends the reader */
            r->target.failed = r->node;
        }
        reader_retry(r, a);
    }
}

/* ---- steps ----------------------------------------------------------------------------------------------------------------- */

static void reader_step(struct sluice_reader *r)
{
    if (r->state == READER_MAP) {
        if (!r->stream->known) {
            stream_refresh(r->stream);
            return;
        }
        memcpy(r->stream_id, r->stream->id, sizeof r->stream_id);
        r->good_ns = env_now_ns(r->client->env);
        if (stream_shard(r->stream, r->shard) == NULL) { /* or it is newer than this map, and than those of some nodes */
            if (r->map_tries++ == MAP_TRIES) {
                reader_end(r, SLUICE_E_NOT_FOUND, "no such shard");
            } else {
                stream_refresh(r->stream);
            }
            return;
        }
        r->state = r->options.no_follow ? READER_END : READER_POSITION;
    }
    if (r->state == READER_POSITION && r->position.kind == SLUICE_AT_OFFSET) {
        r->next_offset = r->fetch_offset = r->position.offset;
        r->state = READER_FETCH;
    }
    if (r->state == READER_FETCH) {
        deliver(r); /* ends, or fetches more */
    } else if (r->state != READER_ENDED && !r->waiting && !request_active(&r->request)) {
        reader_ask(r);
    }
}

static void reader_map_changed(struct stream_watch *w, int code, const char *message)
{
    struct sluice_reader *r = container_of(w, struct sluice_reader, watch);
    if (r->state == READER_ENDED) {
        return;
    }
    if (code == SLUICE_E_NOT_FOUND) {
        reader_end(r, code, message);
    } else if (code != 0) {
        if (r->state == READER_MAP) {
            uint64_t now = env_now_ns(r->client->env);
            if (r->options.timeout_ms != 0 && now - r->good_ns >= r->options.timeout_ms * 1000000u) {
                reader_end(r, code, message);
            } else {
                stream_refresh(r->stream);
            }
        }
    } else if (r->state == READER_MAP) {
        reader_step(r);
    } else if (memcmp(r->stream_id, r->stream->id, sizeof r->stream_id) != 0) {
        reader_end(r, SLUICE_E_NOT_FOUND, "the stream was deleted; another one has its name now");
    }
}

int sluice_reader_open(struct sluice_client *c, const char *stream, uint32_t shard, const struct sluice_position *position,
                       const struct sluice_reader_options *o, struct sluice_reader **out)
{
    bool by_sequence = position->kind == SLUICE_AT_SEQUENCE || position->kind == SLUICE_AFTER_SEQUENCE;
    struct seqno seqno;
    if (stream == NULL || stream[0] == '\0' || o->records == NULL || o->ended == NULL || c->closing || (unsigned)position->kind > SLUICE_AT_OFFSET ||
        (by_sequence && (position->sequence == NULL || !seqno_parse(position->sequence, &seqno)))) {
        return SLUICE_E_INVALID;
    }
    struct sluice_reader *r = xcalloc(1, sizeof *r);
    *r = (struct sluice_reader){.client = c, .options = *o, .shard = shard, .position = *position, .starting = true};
    r->sequence = by_sequence ? xstrdup(position->sequence) : NULL;
    r->options.max_bytes = o->max_bytes != 0 ? o->max_bytes : MAX_BYTES_DEFAULT;
    r->options.wait_ms = o->wait_ms == 0 ? WAIT_MS_DEFAULT : o->wait_ms < WAIT_MS_MAX ? o->wait_ms : WAIT_MS_MAX;
    r->chunks_end = &r->chunks;
    r->target.turn = shard;
    r->good_ns = env_now_ns(c->env);
    r->stream = stream_get(c, stream);
    r->watch.changed = reader_map_changed;
    stream_watch_add(r->stream, &r->watch);
    env_timer_init(c->env, &r->timer, reader_timer);
    env_defer(c->env, &r->task, reader_task);
    *out = r;
    return 0;
}

void sluice_reader_pause(struct sluice_reader *r, bool paused)
{
    if (r->paused && !paused && r->state != READER_ENDED) {
        env_defer(r->client->env, &r->task, reader_task);
    }
    r->paused = paused;
}

uint64_t sluice_reader_next_offset(const struct sluice_reader *r)
{
    return r->next_offset;
}

void sluice_record_sequence(const struct sluice_records *b, size_t i, char text[SEQNO_TEXT_MAX])
{
    const struct seqno s = {.shard_created_s = b->shard_created_s, .shard = b->shard, .offset = b->v[i].offset, .time_s = b->time_ms / 1000};
    seqno_format(&s, text);
}
