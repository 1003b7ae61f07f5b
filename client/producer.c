/* The producer: puts, routing, completion, flush.
 *
 * A put finds the shard by its hash key and copies the record into the shard's open batch. The batch goes at once when it is
 * full; else at the end of the loop's turn if nothing of the shard is in flight; else when an answer arrives. So batches grow by
 * themselves with the load, and a lone record waits for nothing. */
#include <stdio.h>
#include <stdlib.h>

#include "client/producer_impl.h"

enum {
    BATCH_BYTES_DEFAULT = 64 << 10, BATCH_BYTES_WAITING_MAX = 256 << 10, FLIGHT_BYTES_DEFAULT = 1 << 20, BUFFERED_DEFAULT = 32 << 20,
    RECORD_COST = 48,  /* what a record costs beside its bytes */
    SPARE_MAX = 64, TICK_MS = 100,
    OTHER_MAPS_MAX = 20 /* maps of another incarnation than the one given, before it is taken for gone: each is another node's or 50 ms newer */
};

static void producer_task(struct env_task *t);
static void producer_map_changed(struct stream_watch *w, int code, const char *message);
static void producer_tick(struct env_timer *t);

/* ---- opening and closing --------------------------------------------------------------------------------------------------- */

int sluice_producer_open(struct sluice_client *c, const char *stream, const struct sluice_producer_options *o, struct sluice_producer **out)
{
    if (stream == NULL || stream[0] == '\0' || c->closing) {
        return SLUICE_E_INVALID;
    }
    struct sluice_producer *p = xcalloc(1, sizeof *p);
    p->client = c;
    if (o != NULL) {
        p->options = *o;
    }
    struct sluice_producer_options *po = &p->options;
    bool batch_given = po->batch_bytes != 0;
    po->batch_bytes = batch_given ? po->batch_bytes : BATCH_BYTES_DEFAULT;
    po->bytes_in_flight = po->bytes_in_flight != 0 ? po->bytes_in_flight : FLIGHT_BYTES_DEFAULT;
    po->batches_in_flight = po->batches_in_flight >= 1 && po->batches_in_flight <= 5 ? po->batches_in_flight : 5;
    if (po->not_idempotent) {
        po->batches_in_flight = 1; /* without sequences a retry could overtake */
    }
    p->batch_bytes_waiting = batch_given ? po->batch_bytes : (uint32_t)max_u64(po->batch_bytes, min_u64(po->bytes_in_flight / po->batches_in_flight, BATCH_BYTES_WAITING_MAX));
    po->buffered_bytes_max = po->buffered_bytes_max != 0 ? po->buffered_bytes_max : BUFFERED_DEFAULT;
    po->delivery_timeout_ms = po->delivery_timeout_ms != 0 ? po->delivery_timeout_ms : 120000;
    env_random(c->env, p->id, sizeof p->id);
    p->id[0] |= 1; /* all zero means: not idempotent */
    p->opened_ns = env_now_ns(c->env);
    p->stream = stream_get(c, stream);
    p->watch.changed = producer_map_changed;
    stream_watch_add(p->stream, &p->watch);
    env_timer_init(c->env, &p->tick, producer_tick);
    if (o != NULL && o->stream_id != NULL) {
        memcpy(p->stream_id, o->stream_id, sizeof p->stream_id);
        p->incarnation_given = true;
    }
    if (p->stream->known) {
        producer_routes_build(p);
    } else {
        stream_refresh(p->stream);
    }
    *out = p;
    return 0;
}

static void free_task(struct env_task *t)
{
    struct sluice_producer *p = container_of(t, struct sluice_producer, task);
    if (p->resolving > 0) {
        return;
    }
    for (uint32_t i = 0; i < p->n_lanes; i++) {
        send_lane_free(p->lanes[i]);
    }
    while (p->spare != NULL) {
        struct out_batch *b = p->spare;
        p->spare = b->next;
        free(b->entries);
        free(b);
    }
    free(p->lanes);
    free(p->first);
    free(p->first_high);
    free(p);
}

/* Completes everything with one code. Puts made by the callbacks are refused by then. */
static void complete_all(struct sluice_producer *p, int code, const char *message)
{
    for (uint32_t i = 0; i < p->n_lanes; i++) {
        struct lane *l = p->lanes[i];
        env_timer_stop(&l->timer);
        if (l->open != NULL) {
            lane_seal(l);
        }
        lane_requeue(l, true);
        while (l->head != NULL) {
            struct out_batch *b = l->head;
            lane_unlink(l, b);
            if (b->state == BATCH_DONE) {
                producer_complete(l, b, 0, SLUICE_DONE, "");
            } else if (b->maybe) {
                producer_complete(l, b, SLUICE_E_UNKNOWN_OUTCOME, SLUICE_UNKNOWN, message);
            } else {
                producer_complete(l, b, code, SLUICE_REJECTED, message);
            }
        }
    }
}

static void producer_fail(struct sluice_producer *p, int code, const char *message)
{
    if (p->error != 0) {
        return;
    }
    p->error = code;
    snprintf(p->error_text, sizeof p->error_text, "%s", message);
    complete_all(p, code, p->error_text);
    if (!p->closing) {
        env_defer(p->client->env, &p->task, producer_task);
    }
}

void sluice_producer_close(struct sluice_producer *p)
{
    sluice_assert(!p->closing);
    p->closing = true;
    if (p->error == 0) {
        p->error = SLUICE_E_SHUTTING_DOWN;
        snprintf(p->error_text, sizeof p->error_text, "the producer was closed");
        complete_all(p, SLUICE_E_SHUTTING_DOWN, p->error_text);
    }
    for (struct flush_wait *f; (f = p->flushes) != NULL;) {
        p->flushes = f->next;
        free(f);
    }
    stream_watch_remove(p->stream, &p->watch);
    stream_put(p->stream);
    env_timer_close(&p->tick);
    for (uint32_t i = 0; i < p->n_lanes; i++) {
        env_timer_close(&p->lanes[i]->timer);
    }
    /* The caller may be inside one of this producer's callbacks: the memory goes at the end of the turn. If the task is
     * queued already, it sees `closing`. */
    env_defer(p->client->env, &p->task, producer_task);
}

void producer_free_later(struct sluice_producer *p)
{
    env_defer(p->client->env, &p->task, producer_task);
}

/* ---- batches --------------------------------------------------------------------------------------------------------------- */

static struct out_batch *producer_batch_take(struct sluice_producer *p, struct lane *l)
{
    struct out_batch *b = p->spare;
    if (b != NULL) {
        p->spare = b->next;
        p->n_spare--;
        struct done_entry *entries = b->entries;
        uint32_t cap = b->entries_cap;
        *b = (struct out_batch){.entries = entries, .entries_cap = cap};
    } else {
        b = xcalloc(1, sizeof *b);
    }
    b->lane = l;
    b->flush_gen = p->flush_gen;
    p->outstanding++;
    return b;
}

static void producer_batch_free(struct sluice_producer *p, struct out_batch *b)
{
    blob_release(b->blob);
    b->blob = NULL;
    if (p->n_spare < SPARE_MAX) {
        b->next = p->spare;
        p->spare = b;
        p->n_spare++;
    } else {
        free(b->entries);
        free(b);
    }
}

static void flush_count(struct sluice_producer *p, uint64_t gen)
{
    for (struct flush_wait *f = p->flushes; f != NULL; f = f->next) {
        if (gen < f->gen) {
            f->batches--;
        }
    }
}

/* Ends a batch that has left its lane's list: calls back for each record, in order. */
void producer_complete(struct lane *l, struct out_batch *b, int code, enum sluice_outcome outcome, const char *message)
{
    struct sluice_producer *p = l->p;
    struct sluice_put_result r = {.code = code, .outcome = outcome, .message = message, .shard = l->shard, .offset = b->first_offset,
                                  .time_ms = b->time_ms, .shard_created_s = b->shard_created_s, .attempts = b->attempts,
                                  .duplicate = b->duplicate, .producer_user = p->options.user};
    p->buffered -= b->cost;
    p->outstanding--;
    uint64_t *counter = code == 0 ? &p->stats.acked : outcome == SLUICE_UNKNOWN ? &p->stats.unknown : &p->stats.failed;
    *counter += b->count;
    for (uint32_t i = 0; i < b->count; i++) {
        if (b->entries[i].cb != NULL) {
            b->entries[i].cb(&r, b->entries[i].user);
        }
        r.offset++;
    }
    flush_count(p, b->flush_gen);
    producer_batch_free(p, b);
    if (!p->closing) {
        env_defer(p->client->env, &p->task, producer_task);
    }
}

/* ---- routing --------------------------------------------------------------------------------------------------------------- */

static uint64_t hash_high(const struct hash128 *h)
{
    uint64_t v;
    memcpy(&v, h->b, sizeof v);
    return __builtin_bswap64(v);
}

struct lane *producer_route(const struct sluice_producer *p, const struct hash128 *hash)
{
    /* The last lane whose first hash key is not above the record's. */
    uint64_t high = hash_high(hash);
    uint32_t low = 0, n = p->n_lanes;
    while (n > 1) {
        uint32_t half = n / 2;
        bool above = p->first_high[low + half] > high ||
                     (p->first_high[low + half] == high && hash_compare(&p->first[low + half], hash) > 0);
        low += above ? 0 : half;
        n = above ? half : n - half;
    }
    return p->lanes[low];
}

static int shard_by_first(const void *a, const void *b)
{
    return hash_compare(&(*(const struct shard *const *)a)->first, &(*(const struct shard *const *)b)->first);
}

/* Do the open shards cover every hash key exactly once? In the middle of a reshard a map may not. */
static bool ranges_cover(struct shard **open, size_t n)
{
    struct hash128 expected = {0};
    for (size_t i = 0; i < n; i++) {
        if (hash_compare(&open[i]->first, &expected) != 0) {
            return false;
        }
        expected = open[i]->last;
        int at = 15;
        while (at >= 0 && ++expected.b[at] == 0) {
            at--;
        }
        if (at < 0) {
            return i == n - 1;
        }
    }
    return false;
}

void producer_routes_build(struct sluice_producer *p)
{
    const struct stream *s = p->stream;
    struct shard **open = xcalloc(s->n_shards + 1, sizeof(struct shard *));
    uint32_t n = 0;
    for (size_t i = 0; i < s->n_shards; i++) {
        if (s->shards[i].open) {
            open[n++] = &s->shards[i];
        }
    }
    qsort(open, n, sizeof *open, shard_by_first);
    bool another = p->incarnation_given && memcmp(p->stream_id, s->id, sizeof p->stream_id) != 0;
    if (another || !ranges_cover(open, n)) {
        free(open);
        stream_refresh(p->stream); /* the stream is being made (anew), or a reshard is under way */
        return;
    }
    memcpy(p->stream_id, s->id, sizeof p->stream_id);
    struct lane **lanes = xcalloc(n, sizeof(struct lane *));
    uint64_t *first_high = xcalloc(n, sizeof *first_high);
    struct hash128 *first = xcalloc(n, sizeof *first);
    for (uint32_t i = 0; i < n; i++) {
        first[i] = open[i]->first;
        first_high[i] = hash_high(&first[i]);
        for (uint32_t j = 0; j < p->n_lanes; j++) {
            if (p->lanes[j] != NULL && p->lanes[j]->shard == open[i]->id) {
                lanes[i] = p->lanes[j];
                p->lanes[j] = NULL;
                break;
            }
        }
        if (lanes[i] == NULL) {
            lanes[i] = lane_new(p, open[i]->id);
        }
    }
    for (uint32_t j = 0; j < p->n_lanes; j++) {
        sluice_assert(p->lanes[j] == NULL); /* producer_reroute() took the others out */
    }
    free(p->lanes);
    free(p->first_high);
    free(p->first);
    free(open);
    p->lanes = lanes;
    p->first_high = first_high;
    p->first = first;
    p->n_lanes = n;
    p->open = true;
}

static void producer_map_changed(struct stream_watch *w, int code, const char *message)
{
    struct sluice_producer *p = container_of(w, struct sluice_producer, watch);
    if (p->error != 0) {
        return;
    }
    if (code == SLUICE_E_NOT_FOUND) {
        producer_fail(p, code, message[0] != '\0' ? message : "no such stream");
        return;
    }
    if (code == 0 && !p->open && p->incarnation_given && memcmp(p->stream_id, p->stream->id, sizeof p->stream_id) != 0 && ++p->other_maps >= OTHER_MAPS_MAX) {
        producer_fail(p, SLUICE_E_NOT_FOUND, "the stream was deleted; another one has its name now");
        return;
    }
    if (code != 0) {
        uint64_t limit_ms = p->options.delivery_timeout_ms, now = env_now_ns(p->client->env);
        if (!p->open && limit_ms < UINT64_MAX / 1000000u && now - p->opened_ns >= limit_ms * 1000000u) {
            producer_fail(p, code, message); /* nothing could be put in all that time */
        } else if (!p->open || p->closed_lanes > 0) {
            stream_refresh(p->stream);
        }
        return;
    }
    if (p->open && memcmp(p->stream_id, p->stream->id, sizeof p->stream_id) != 0) {
        producer_fail(p, SLUICE_E_NOT_FOUND, "the stream was deleted; another one has its name now");
        return;
    }
    if (!p->open) {
        producer_routes_build(p);
    } else if (p->closed_lanes > 0) {
        producer_reroute(p);
    }
    if (p->open) {
        uint64_t now = env_now_ns(p->client->env);
        for (uint32_t i = 0; i < p->n_lanes; i++) {
            lane_check(p->lanes[i], now);
        }
    }
    env_defer(p->client->env, &p->task, producer_task);
}

/* ---- putting --------------------------------------------------------------------------------------------------------------- */

static void lane_mark_dirty(struct lane *l)
{
    if (!l->dirty) {
        struct sluice_producer *p = l->p;
        l->dirty = true;
        l->next_dirty = p->dirty;
        p->dirty = l;
        env_defer(p->client->env, &p->task, producer_task);
    }
}

/* How large the open batch may grow. One that must wait for the window anyway takes more, so that the window's bytes and not its batches are what limits a shard. */
static uint32_t batch_limit(const struct lane *l)
{
    const struct sluice_producer *p = l->p;
    return l->unsent != NULL || l->n_sent >= p->options.batches_in_flight ? p->batch_bytes_waiting : p->options.batch_bytes;
}

int producer_add(struct sluice_producer *p, struct lane *l, const struct sluice_record *r, const struct hash128 *hash, sluice_put_cb cb,
                 void *user, uint64_t created_ns)
{
    if (l->open != NULL && (batch_builder_size_with(&l->builder, r->key_len, r->data_len, r->hash != NULL) > batch_limit(l) ||
                            l->open->count == BATCH_RECORDS_MAX)) {
        lane_seal(l);
        lane_pump(l);
        if (p->error != 0) {
            return p->error;
        }
    }
    int code = batch_builder_add(&l->builder, r->key, r->key_len, r->data, r->data_len, hash, r->hash != NULL);
    if (code != 0) {
        return code;
    }
    struct out_batch *b = l->open;
    if (b == NULL) {
        b = l->open = producer_batch_take(p, l);
        b->created_ns = created_ns;
    }
    if (b->count == b->entries_cap) {
        b->entries_cap = b->entries_cap == 0 ? 16 : b->entries_cap * 2;
        b->entries = xrealloc(b->entries, b->entries_cap * sizeof *b->entries);
    }
    b->entries[b->count++] = (struct done_entry){.cb = cb, .user = user};
    size_t cost = r->key_len + r->data_len + RECORD_COST;
    b->cost += cost;
    p->buffered += cost;
    lane_mark_dirty(l);
    return 0;
}

static uint32_t record_max(const struct sluice_producer *p)
{
    uint32_t max = p->options.record_max != 0 ? p->options.record_max : p->stream->record_max != 0 ? p->stream->record_max : p->client->record_max;
    return max != 0 && max < BATCH_RECORD_BYTES_MAX ? max : BATCH_RECORD_BYTES_MAX;
}

int sluice_producer_put(struct sluice_producer *p, const struct sluice_record *r, sluice_put_cb cb, void *user)
{
    if (p->error != 0) {
        return p->error;
    }
    if (r->key_len == 0 || r->key_len > BATCH_KEY_MAX) {
        return SLUICE_E_INVALID;
    }
    size_t bytes = r->key_len + r->data_len;
    if (bytes > record_max(p) || r->data_len > BATCH_RECORD_BYTES_MAX) {
        return SLUICE_E_TOO_LARGE;
    }
    if (!p->open || (p->buffered + bytes > p->options.buffered_bytes_max && p->buffered > 0)) {
        p->blocked = true;
        return SLUICE_E_BUSY;
    }
    struct hash128 hash;
    if (r->hash != NULL) {
        hash = *r->hash;
    } else {
        hash_key_of(r->key, r->key_len, &hash);
    }
    int code = producer_add(p, producer_route(p, &hash), r, &hash, cb, user, env_now_ns(p->client->env));
    if (code == 0) {
        p->stats.records++;
        p->stats.bytes += r->data_len;
    }
    return code;
}

/* ---- the end of the turn --------------------------------------------------------------------------------------------------- */

static void producer_task(struct env_task *t)
{
    struct sluice_producer *p = container_of(t, struct sluice_producer, task);
    if (p->closing) {
        free_task(t);
        return;
    }
    for (struct flush_wait **fp = &p->flushes; *fp != NULL;) {
        struct flush_wait *f = *fp;
        if (f->batches > 0) {
            fp = &f->next;
            continue;
        }
        *fp = f->next;
        void (*cb)(void *user) = f->cb;
        void *user = f->user;
        free(f);
        cb(user);
        if (p->closing) {
            return; /* the task was deferred again and frees */
        }
        fp = &p->flushes;
    }
    bool room = p->error != 0 || (p->open && p->buffered <= p->options.buffered_bytes_max / 4 * 3);
    if (p->blocked && room) {
        p->blocked = false;
        if (p->options.writable != NULL) {
            p->options.writable(p, p->options.user);
            if (p->closing) {
                return;
            }
        }
    }
    while (p->dirty != NULL) {
        struct lane *l = p->dirty;
        p->dirty = l->next_dirty;
        l->dirty = false;
        lane_pump(l);
        if (p->closing) {
            return;
        }
    }
    if (p->outstanding > 0 && !p->ticking) {
        p->ticking = true;
        env_timer_start_ms(&p->tick, TICK_MS);
    }
}

static void producer_tick(struct env_timer *t)
{
    struct sluice_producer *p = container_of(t, struct sluice_producer, tick);
    p->ticking = false;
    uint64_t now = env_now_ns(p->client->env);
    for (uint32_t i = 0; i < p->n_lanes && !p->closing && p->error == 0; i++) {
        lane_check(p->lanes[i], now);
    }
    if (!p->closing && p->error == 0 && p->open && p->closed_lanes > 0) {
        producer_reroute(p); /* a lane whose shard is closed, too, had something on its way when the map came: by now it may be answered */
    }
    if (!p->closing && p->outstanding > 0) {
        p->ticking = true;
        env_timer_start_ms(&p->tick, TICK_MS);
    }
}

void sluice_producer_flush(struct sluice_producer *p, void (*cb)(void *user), void *user)
{
    sluice_assert(!p->closing);
    p->flush_gen++;
    for (uint32_t i = 0; i < p->n_lanes; i++) {
        if (p->lanes[i]->open != NULL) {
            lane_seal(p->lanes[i]); /* what comes later is another batch */
            lane_mark_dirty(p->lanes[i]);
        }
    }
    struct flush_wait *f = xmalloc(sizeof *f);
    *f = (struct flush_wait){.gen = p->flush_gen, .batches = p->outstanding, .cb = cb, .user = user};
    struct flush_wait **end = &p->flushes;
    while (*end != NULL) {
        end = &(*end)->next;
    }
    *end = f;
    env_defer(p->client->env, &p->task, producer_task);
}

int sluice_producer_error(const struct sluice_producer *p, const char **message)
{
    if (message != NULL) {
        *message = p->error_text;
    }
    return p->error;
}

uint32_t sluice_producer_shards(const struct sluice_producer *p)
{
    return p->open ? p->n_lanes : 0;
}

void sluice_producer_stats(const struct sluice_producer *p, struct sluice_producer_stats *out)
{
    *out = p->stats;
    out->buffered_bytes = p->buffered;
}

void sluice_put_sequence(const struct sluice_put_result *r, char text[SEQNO_TEXT_MAX])
{
    const struct seqno s = {.shard_created_s = r->shard_created_s, .shard = r->shard, .offset = r->offset, .time_s = r->time_ms / 1000};
    seqno_format(&s, text);
}
