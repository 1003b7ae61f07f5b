/* One fetch: a FETCH, tried until there is an answer that counts; and the checks that everything has to pass which a node sends as a shard's records.
 *
 *   MAP (the stream's map is not known yet, or is of another incarnation, or lacks the shard) -> SENT -> answer: done, or a pause -> SENT ... */
#include <stdio.h>
#include <stdlib.h>

#include "client/client_impl.h"

enum {
    DAMAGE_MAX = 8,    /* damaged answers in a row, over all replicas */
    MAP_TRIES = 20,    /* maps without the shard or of another incarnation; each is another node's or 50 ms newer */
    WAIT_MS_MAX = 60000
};

struct sluice_fetch {
    struct sluice_client *client;
    struct sluice_fetch *next, **prev;
    struct sluice_fetch_options options;
    bool incarnation_given;
    uint8_t stream_id[16];
    struct stream *stream;
    struct stream_watch watch;
    uint32_t shard;
    struct target target;
    struct node *node;
    struct request request;
    uint8_t *packed;          /* NULL: waits for the map */
    unsigned failures, damaged, map_tries;
    uint64_t timeout_ms, deadline_ns; /* 0: not begun */
    int last_code;
    char last_text[200];
    struct env_timer timer;
    void (*cb)(struct sluice_fetched *f, void *user);
    void *user;
};

/* ---- checks ---------------------------------------------------------------------------------------------------------------- */

const char *batches_check(const uint8_t stream_id[16], uint32_t shard, uint64_t from, const uint8_t *data, size_t len, uint64_t next_offset)
{
    uint64_t at = from;
    for (size_t pos = 0; pos < len;) {
        struct batch_header h;
        const char *why = "";
        if (batch_header_decode(&h, data + pos, len - pos, false, &why) != 0 || h.total_len > len - pos) {
            return "a batch's header is damaged";
        }
        if (!batch_body_ok(data + pos, h.total_len)) {
            return "a batch is damaged";
        }
        if (h.shard != shard || memcmp(h.stream_id, stream_id, sizeof h.stream_id) != 0) {
            return "a batch of another shard was delivered";
        }
        uint64_t end = h.first_offset + h.record_count;
        if (pos == 0 ? h.first_offset > at || end <= at : h.first_offset != at) {
            return "offsets do not continue: a record would be skipped";
        }
        at = end;
        pos += h.total_len;
    }
    return next_offset == at ? NULL : "the answer's next offset does not fit its batches";
}

int fetch_reply_check(const struct answer *a, const uint8_t stream_id[16], uint32_t shard, uint64_t offset, bool from_horizon, Sluice__FetchReply **m, const char **why)
{
    const struct frame *f = a->frame;
    Sluice__FetchReply *reply = (Sluice__FetchReply *)answer_unpack(&sluice__fetch_reply__descriptor, f);
    if (reply == NULL) {
        *why = "malformed answer to a fetch";
        return SLUICE_E_CORRUPT;
    }
    int code = 0;
    bool has = f->payload_len >= BATCH_HEADER_SIZE && get_u64((const uint8_t *)f->payload + 16) <= offset;
    if (reply->first_offset > offset && !has && !from_horizon) {
        *why = "records before the trim horizon were asked for";
        code = SLUICE_E_EXPIRED;
    } else {
        uint64_t from = has ? offset : max_u64(offset, reply->first_offset);
        *why = batches_check(stream_id, shard, from, f->payload, f->payload_len, reply->next_offset);
        code = *why != NULL ? SLUICE_E_CORRUPT : 0;
    }
    if (code != 0) {
        sluice__fetch_reply__free_unpacked(reply, NULL);
        return code;
    }
    *m = reply;
    return 0;
}

/* ---- ending ---------------------------------------------------------------------------------------------------------------- */

void sluice_fetch_cancel(struct sluice_fetch *f)
{
    request_cancel(&f->request);
    env_timer_close(&f->timer);
    stream_watch_remove(f->stream, &f->watch);
    stream_put(f->stream);
    *f->prev = f->next;
    if (f->next != NULL) {
        f->next->prev = f->prev;
    }
    free(f->packed);
    free(f);
}

static void fetch_end(struct sluice_fetch *f, struct sluice_fetched *out)
{
    void (*cb)(struct sluice_fetched *out, void *user) = f->cb;
    void *user = f->user;
    sluice_fetch_cancel(f);
    cb(out, user);
    free(out->data);
}

static void fetch_fail(struct sluice_fetch *f, int code, const char *message, uint32_t retry_after_ms)
{
    char text[256];
    snprintf(text, sizeof text, "%s", message);
    fetch_end(f, &(struct sluice_fetched){.code = code, .message = text, .retry_after_ms = retry_after_ms});
}

void fetches_drop(struct sluice_client *c)
{
    while (c->fetches != NULL) {
        fetch_fail(c->fetches, SLUICE_E_SHUTTING_DOWN, "the client was closed", 0);
    }
}

uint8_t *sluice_fetched_take(struct sluice_fetched *f)
{
    uint8_t *data = f->data;
    f->data = NULL;
    return data;
}

/* ---- answers --------------------------------------------------------------------------------------------------------------- */

static uint64_t left_ms(const struct sluice_fetch *f)
{
    uint64_t now = env_now_ns(f->client->env);
    return f->deadline_ns > now ? (f->deadline_ns - now) / 1000000u : 0;
}

static void fetch_pause(struct sluice_fetch *f, uint64_t ms)
{
    env_timer_start_ms(&f->timer, min_u64(ms, left_ms(f) + 1));
}

/* Something that may be better later or elsewhere. */
static void fetch_again(struct sluice_fetch *f, const struct answer *a)
{
    f->client->stats.retries++;
    f->last_code = a->code;
    snprintf(f->last_text, sizeof f->last_text, "%s", a->message);
    target_learn(&f->target, f->stream, f->shard, f->node, a);
    fetch_pause(f, target_pause_ms(&f->target, f->client->env, f->failures++, a));
}

static void fetch_damaged(struct sluice_fetch *f, const char *why)
{
    if (++f->damaged >= DAMAGE_MAX) {
        fetch_fail(f, SLUICE_E_CORRUPT, why, 0);
    } else {
        fetch_again(f, &(struct answer){.code = SLUICE_E_CORRUPT, .message = why, .hint = "", .leader_address = ""});
    }
}

static void fetch_take(struct sluice_fetch *f, const struct answer *a)
{
    Sluice__FetchReply *m;
    const char *why = "";
    int code = fetch_reply_check(a, f->stream_id, f->shard, f->options.offset, f->options.from_horizon, &m, &why);
    if (code == SLUICE_E_CORRUPT) {
        fetch_damaged(f, why);
        return;
    }
    if (code != 0) {
        fetch_fail(f, code, why, 0);
        return;
    }
    target_learn(&f->target, f->stream, f->shard, f->node, NULL);
    size_t len = a->frame->payload_len;
    struct sluice_fetched out = {.message = "", .offset = f->options.from_horizon ? max_u64(f->options.offset, m->first_offset) : f->options.offset,
                                 .next_offset = m->next_offset, .first_offset = m->first_offset, .end_offset = m->end_offset, .millis_behind = m->millis_behind,
                                 .shard_created_s = m->shard_created_s, .closed = m->closed, .children = m->children, .n_children = m->n_children, .len = len,
                                 .data = len > 0 ? frame_take_payload(a->reader, a->frame) : NULL};
    fetch_end(f, &out);
    sluice__fetch_reply__free_unpacked(m, NULL);
}

static void fetch_answered(struct request *q, const struct answer *a)
{
    struct sluice_fetch *f = container_of(q, struct sluice_fetch, request);
    if (a->code == 0) {
        fetch_take(f, a);
    } else if (a->code == SLUICE_E_CORRUPT) {
        fetch_damaged(f, a->message);
    } else if (a->code == SLUICE_E_THROTTLED && f->options.shared) {
        fetch_fail(f, a->code, a->message, a->retry_after_ms);
    } else if (a->code == SLUICE_E_NOT_FOUND && f->map_tries++ < MAP_TRIES) {
        f->target.failed = f->node; /* its map may be older than ours, or ours is old: a new one tells */
        stream_refresh(f->stream);
        fetch_again(f, a);
    } else if (sluice_error_retry(a->code) == SLUICE_RETRY_NEVER) {
        fetch_fail(f, a->code, a->message, 0);
    } else {
        fetch_again(f, a);
    }
}

/* ---- asking ---------------------------------------------------------------------------------------------------------------- */

static void fetch_pack(struct sluice_fetch *f)
{
    Sluice__Fetch m = SLUICE__FETCH__INIT;
    m.stream_id = (ProtobufCBinaryData){.len = sizeof f->stream_id, .data = f->stream_id};
    m.shard = f->shard;
    m.offset = f->options.offset;
    m.max_bytes = f->options.max_bytes;
    m.max_records = f->options.max_records;
    m.wait_ms = f->options.wait_ms;
    m.shared = f->options.shared;
    m.continued = f->options.continued;
    m.from_horizon = f->options.from_horizon;
    f->packed = message_pack(&m.base, &f->request.packed_len);
    f->request.packed = f->packed;
}

/* Is the map the one to ask by? */
static bool fetch_map_fits(struct sluice_fetch *f)
{
    const struct stream *s = f->stream;
    return s->known && (!f->incarnation_given || memcmp(f->stream_id, s->id, sizeof f->stream_id) == 0) && stream_shard(s, f->shard) != NULL;
}

static void fetch_try(struct sluice_fetch *f)
{
    struct sluice_client *c = f->client;
    env_timer_stop(&f->timer);
    if (f->deadline_ns == 0) {
        f->deadline_ns = env_now_ns(c->env) + f->timeout_ms * 1000000u; /* counts from the loop's turn, not from a call made outside of it */
    }
    uint64_t left = left_ms(f);
    if (left == 0) {
        char why[sizeof f->last_text];
        nodes_out_of_reach(c, why, sizeof why);
        const char *message = f->last_text[0] != '\0' ? f->last_text : why[0] != '\0' ? why : "no node of the shard answered in time";
        fetch_fail(f, f->last_code != 0 ? f->last_code : SLUICE_E_NO_CONNECTION, message, 0);
        return;
    }
    if (f->packed == NULL) {
        if (!fetch_map_fits(f)) {
            stream_refresh(f->stream); /* the watch tells */
            fetch_pause(f, left);
            return;
        }
        memcpy(f->stream_id, f->stream->id, sizeof f->stream_id);
        fetch_pack(f);
    }
    f->node = target_choose(&f->target, f->stream, f->shard, false);
    f->request.timeout_ms = (uint32_t)min_u64(c->options.request_timeout_ms + f->options.wait_ms, left);
    if (f->node == NULL || request_send(f->node, &f->request) != 0) {
        stream_refresh(f->stream);
        fetch_pause(f, target_pause_ms(&f->target, c->env, f->failures++, NULL));
    }
}

static void fetch_timer(struct env_timer *t)
{
    fetch_try(container_of(t, struct sluice_fetch, timer));
}

static void fetch_map_changed(struct stream_watch *w, int code, const char *message)
{
    struct sluice_fetch *f = container_of(w, struct sluice_fetch, watch);
    bool asked = f->packed != NULL;
    if (code != 0) {
        if (sluice_error_retry(code) == SLUICE_RETRY_NEVER) {
            fetch_fail(f, code, message, 0);
        } else if (!asked) {
            f->last_code = code;
            snprintf(f->last_text, sizeof f->last_text, "%s", message);
            stream_refresh(f->stream);
        }
    } else if (asked && memcmp(f->stream_id, f->stream->id, sizeof f->stream_id) != 0) {
        fetch_fail(f, SLUICE_E_NOT_FOUND, "the stream was deleted; another one has its name now", 0);
    } else if (!asked && fetch_map_fits(f)) {
        fetch_try(f);
    } else if (!asked && f->map_tries++ >= MAP_TRIES) {
        bool another = f->incarnation_given && memcmp(f->stream_id, f->stream->id, sizeof f->stream_id) != 0;
        fetch_fail(f, SLUICE_E_NOT_FOUND, another ? "the stream was deleted; another one has its name now" : "no such shard", 0);
    } else if (!asked) {
        stream_refresh(f->stream);
    }
}

int sluice_fetch(struct sluice_client *c, const char *stream, uint32_t shard, const struct sluice_fetch_options *o,
                 void (*cb)(struct sluice_fetched *f, void *user), void *user, struct sluice_fetch **out)
{
    if (stream == NULL || stream[0] == '\0' || cb == NULL || c->closing) {
        return SLUICE_E_INVALID;
    }
    struct sluice_fetch *f = xcalloc(1, sizeof *f);
    *f = (struct sluice_fetch){.client = c, .options = *o, .shard = shard, .cb = cb, .user = user, .incarnation_given = o->stream_id != NULL};
    if (o->stream_id != NULL) {
        memcpy(f->stream_id, o->stream_id, sizeof f->stream_id);
    }
    f->options.wait_ms = (uint32_t)min_u64(o->wait_ms, WAIT_MS_MAX);
    f->timeout_ms = (o->timeout_ms != 0 ? o->timeout_ms : c->options.call_timeout_ms) + f->options.wait_ms;
    f->request = (struct request){.kind = FRAME_FETCH, .long_poll = f->options.wait_ms > 0, .done = fetch_answered};
    f->target.turn = shard;
    f->next = c->fetches;
    f->prev = &c->fetches;
    if (f->next != NULL) {
        f->next->prev = &f->next;
    }
    c->fetches = f;
    f->stream = stream_get(c, stream);
    f->watch.changed = fetch_map_changed;
    stream_watch_add(f->stream, &f->watch);
    env_timer_init(c->env, &f->timer, fetch_timer);
    env_timer_start_ns(&f->timer, 0); /* callbacks never run inside the call that started them */
    if (out != NULL) {
        *out = f;
    }
    return 0;
}
