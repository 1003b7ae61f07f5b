/* When sequences cannot just go on.
 *
 * A new epoch starts the lane's numbers at 0 again and shuts out what may still be under way of the old one. It is begun only
 * when no batch of the lane may have been carried out under its old number, else that batch would be there twice. So first the
 * node is asked what became of each doubtful batch (resolve): done: completed with its numbers; surely not done: it may go
 * again; not known any more: reported as unknown.
 *
 * A closed shard (reshard) answers `resolve` for ever from behind its closing entry. Only when nothing of the lane is in doubt do
 * its records go to the shards that took over, in their old order: so the order per partition key holds. */
#include <stdlib.h>

#include "client/producer_impl.h"

enum { RESOLVE_TIMEOUT_MS = 5000, AGAIN_MS = 100 };

/* ---- new epoch ------------------------------------------------------------------------------------------------------------- */

/* Gives a queued batch another number. Its bytes may still lie in a connection's queue: those are left alone. */
static void batch_renumber(struct lane *l, struct out_batch *b)
{
    struct batch_header h;
    struct blob *old = b->blob;
    if (old->refs > 1) {
        uint8_t *copy = xmalloc(old->len);
        memcpy(copy, old->data, old->len);
        b->blob = blob_new(copy, old->len);
        blob_release(old);
    }
    int code = batch_header_decode(&h, b->blob->data, b->blob->len, true, NULL);
    sluice_assert(code == 0);
    b->sequence = l->next_sequence++;
    h.producer_epoch = l->epoch;
    h.producer_sequence = b->sequence;
    batch_header_encode(&h, b->blob->data);
}

void lane_new_epoch(struct lane *l)
{
    if (l->p->options.not_idempotent) {
        return;
    }
    l->epoch++;
    l->next_sequence = 0;
    l->p->stats.epochs++;
    for (struct out_batch *b = l->head; b != NULL; b = b->next) {
        sluice_assert(!b->maybe);
        if (b->state == BATCH_QUEUED) {
            batch_renumber(l, b);
        }
    }
}

/* ---- resolve --------------------------------------------------------------------------------------------------------------- */

/* Which lane asked: it may be gone when the answer comes. */
struct resolving { struct sluice_producer *p; uint32_t shard, epoch; uint64_t sequence; };

static struct lane *lane_find(struct sluice_producer *p, uint32_t shard)
{
    for (uint32_t i = 0; i < p->n_lanes; i++) {
        if (p->lanes[i]->shard == shard) {
            return p->lanes[i];
        }
    }
    return NULL;
}

static void resolve_done(const struct sluice_result *r, void *user)
{
    struct resolving *q = user;
    struct sluice_producer *p = q->p;
    struct resolving got = *q;
    free(q);
    p->resolving--;
    if (p->closing) {
        producer_free_later(p); /* its end waited for this answer */
        return;
    }
    struct lane *l = p->error == 0 ? lane_find(p, got.shard) : NULL;
    struct out_batch *b = l != NULL ? l->head : NULL;
    if (b == NULL || l->state != LANE_RESOLVE || b->sequence != got.sequence || l->epoch != got.epoch) {
        return;
    }
    const Sluice__ResolveReply *reply = (const Sluice__ResolveReply *)r->reply;
    if (r->code != 0) {
        env_timer_start_ms(&l->timer, AGAIN_MS);
        return;
    }
    if (reply->outcome == SLUICE__RESOLVE_REPLY__OUTCOME__DONE) {
        b->state = BATCH_DONE;
        b->first_offset = reply->first_offset;
        b->time_ms = reply->time_ms;
        const struct shard *s = stream_shard(p->stream, l->shard);
        b->shard_created_s = s != NULL ? s->created_s : 0;
        b->duplicate = true;
        b->maybe = false;
        lane_unlink(l, b);
        producer_complete(l, b, 0, SLUICE_DONE, "");
    } else if (reply->outcome == SLUICE__RESOLVE_REPLY__OUTCOME__NOT_DONE) {
        b->maybe = false;
    } else {
        lane_unlink(l, b);
        producer_complete(l, b, SLUICE_E_SEQUENCE_OLD, SLUICE_UNKNOWN, "the shard does not remember what became of the batch");
    }
    if (!p->closing && p->error == 0) {
        lane_resolve(l, l->resolved_closed);
    }
}

static void resolve_ask(struct lane *l)
{
    struct sluice_producer *p = l->p;
    struct resolving *q = xcalloc(1, sizeof *q);
    *q = (struct resolving){.p = p, .shard = l->shard, .epoch = l->epoch, .sequence = l->head->sequence};
    Sluice__Resolve m = SLUICE__RESOLVE__INIT;
    m.stream_id = (ProtobufCBinaryData){.len = sizeof p->stream_id, .data = p->stream_id};
    m.shard = l->shard;
    m.producer_id = (ProtobufCBinaryData){.len = sizeof p->id, .data = p->id};
    m.epoch = l->epoch;
    m.sequence = l->head->sequence;
    const struct sluice_call_options o = {.timeout_ms = RESOLVE_TIMEOUT_MS, .stream = p->stream->name, .shard = l->shard};
    int code = sluice_call(p->client, FRAME_RESOLVE, &m.base, &o, resolve_done, q);
    sluice_assert(code == 0);
    p->resolving++;
}

/* Everything is in the queue. Asks about the first doubtful batch; without one the lane goes on. */
void lane_resolve(struct lane *l, bool closed)
{
    struct sluice_producer *p = l->p;
    l->state = LANE_RESOLVE;
    l->resolved_closed = closed;
    env_timer_stop(&l->timer);
    lane_head_step(l);
    if (p->closing || p->error != 0) {
        return;
    }
    if (l->head != NULL && l->head->maybe) {
        resolve_ask(l);
        return;
    }
    /* The head surely was not carried out under its number, so nothing behind it was. */
    for (struct out_batch *b = l->head; b != NULL; b = b->next) {
        b->maybe = false;
    }
    if (closed) {
        l->state = LANE_CLOSED;
        p->closed_lanes++;
        stream_refresh(p->stream);
        return;
    }
    lane_new_epoch(l);
    l->failures = 0;
    l->state = LANE_RUN;
    lane_pump(l);
}

/* ---- after a reshard ------------------------------------------------------------------------------------------------------- */

/* Feeds a batch's records to the shards that have their keys now. */
static void batch_recut(struct sluice_producer *p, struct lane *from, struct out_batch *b, void **scratch, size_t *scratch_size)
{
    struct batch_reader reader;
    struct batch_record rec;
    int code = batch_reader_open(&reader, b->blob->data, b->blob->len, scratch, scratch_size, NULL);
    sluice_assert(code == 0); /* it was built here */
    uint32_t i = 0;
    int refused = 0;
    while (refused == 0 && i < b->count && batch_reader_next(&reader, &rec) == 1) {
        struct hash128 hash = rec.hash;
        if (!rec.has_hash) {
            hash_key_of(rec.key, rec.key_len, &hash);
        }
        const struct sluice_record r = {.key = rec.key, .key_len = rec.key_len, .data = rec.data, .data_len = rec.data_len,
                                        .hash = rec.has_hash ? &hash : NULL};
        refused = producer_add(p, producer_route(p, &hash), &r, &hash, b->entries[i].cb, b->entries[i].user, b->created_ns);
        i += refused == 0;
    }
    /* Those moved are other batches' now. */
    if (i > 0) {
        memmove(b->entries, b->entries + i, (b->count - i) * sizeof *b->entries);
        b->count -= i;
    }
    producer_complete(from, b, refused, SLUICE_REJECTED, "the record could not be moved to another shard");
}

void producer_reroute(struct sluice_producer *p)
{
    uint32_t n_moved = 0;
    for (uint32_t i = 0; i < p->n_lanes; i++) {
        const struct shard *s = stream_shard(p->stream, p->lanes[i]->shard);
        bool open = s != NULL && s->open;
        struct lane *l = p->lanes[i];
        if (open && l->state == LANE_CLOSED) {
            stream_refresh(p->stream); /* the map does not know it yet */
            return;
        }
        if (!open && l->state != LANE_CLOSED) {
            if (l->head != NULL || l->open != NULL) {
                return; /* it has yet to find out that it is closed */
            }
            l->state = LANE_CLOSED;
            p->closed_lanes++;
        }
        n_moved += !open;
    }
    struct lane **moved = xcalloc(n_moved + 1, sizeof(struct lane *));
    struct lane **before = xcalloc(p->n_lanes + 1, sizeof(struct lane *));
    memcpy(before, p->lanes, p->n_lanes * sizeof *before);
    uint32_t n_before = p->n_lanes;
    uint32_t n = 0;
    for (uint32_t i = 0; i < n_before; i++) {
        if (before[i]->state == LANE_CLOSED) {
            moved[n++] = before[i];
            p->lanes[i] = NULL;
        }
    }
    p->open = false;
    producer_routes_build(p);
    if (!p->open) { /* the new shards do not cover all keys yet */
        memcpy(p->lanes, before, n_before * sizeof *before);
        p->open = true;
        n = 0;
    }
    free(before);
    void *scratch = NULL;
    size_t scratch_size = 0;
    for (uint32_t i = 0; i < n; i++) {
        struct lane *l = moved[i];
        p->closed_lanes--;
        if (l->open != NULL) {
            lane_seal(l);
        }
        if (l->dirty) {
            for (struct lane **d = &p->dirty; *d != NULL; d = &(*d)->next_dirty) {
                if (*d == l) {
                    *d = l->next_dirty;
                    break;
                }
            }
        }
        while (l->head != NULL) {
            struct out_batch *b = l->head;
            lane_unlink(l, b);
            if (p->closing || p->error != 0) {
                producer_complete(l, b, p->error, SLUICE_REJECTED, p->error_text);
            } else {
                batch_recut(p, l, b, &scratch, &scratch_size);
            }
        }
        send_lane_free(l);
    }
    free(scratch);
    free(moved);
}
