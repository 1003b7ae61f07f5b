/* shard_batches.c: see shard_batches.h. */
#include "server/shard_batches.h"

#include <errno.h>
#include <stdlib.h>

#include "proto/base.h"
#include "server/node_impl.h"
#include "server/shard.h"

_Static_assert(sizeof(struct shard_batches_read) <= FETCH_ROOM_OVERHEAD, "it is counted as overhead");

/* ---- room ---- */

static void go_on(struct env_task *t);

/* Deferred, as a connection may end inside the call that gave something back. */
static void room_changed(struct lane *l)
{
    l->metrics.fetch_memory_bytes = l->fetch_room.used;
    l->metrics.fetch_memory_waiting = l->fetch_room.waiting;
    if (l->fetch_room.ring != NULL) {
        env_defer(l->env, &l->fetch_task, go_on);
    }
}

/* Those that have room now. */
static void go_on(struct env_task *t)
{
    struct lane *l = container_of(t, struct lane, fetch_task);
    struct fetch_claim *c;
    while ((c = fetch_room_next(&l->fetch_room, env_now_ms(l->env))) != NULL) {
        struct shard_batches *b = container_of(c, struct shard_batches, claim);
        b->room(b);
    }
    l->metrics.fetch_memory_waiting = l->fetch_room.waiting;
}

void shard_batches_reject(struct shard *s, int code)
{
    for (struct fetch_claim *c = s->lane->fetch_room.oldest, *later; c != NULL; c = later) {
        later = c->later;
        struct shard_batches *b = container_of(c, struct shard_batches, claim);
        if (b->shard == s) {
            b->refused(b, code, NULL);
        }
    }
}

static void memory_is_short(struct lane *l, void *arg)
{
    (void)arg;
    l->crowded_until_ms = env_now_ms(l->env) + SHARD_FETCH_CROWDED_MS;
}

void shard_batches_tick(struct lane *l)
{
    uint64_t now = env_now_ms(l->env);
    struct fetch_claim *c;
    while ((c = l->fetch_room.oldest) != NULL && now - c->since_ms > SHARD_FETCH_ROOM_WAIT_MS) {
        struct shard_batches *b = container_of(c, struct shard_batches, claim);
        b->refused(b, SLUICE_E_BUSY, "the memory for answers is taken by others that have not been read yet");
    }
    if (fetch_room_crowded(&l->fetch_room)) {
        for (unsigned i = 0; i < l->node->n_lanes; i++) {
            lane_run(l->node->lanes[i], memory_is_short, NULL);
        }
    }
}

void shard_batches_forget(struct lane *l, uint64_t connection)
{
    struct fetch_claim *c;
    while ((c = fetch_room_of(&l->fetch_room, connection)) != NULL) {
        struct shard_batches *b = container_of(c, struct shard_batches, claim);
        b->refused(b, SLUICE_E_SHUTTING_DOWN, NULL);
    }
}

/* ---- reading ---- */

static void read_finished(struct shard_batches_read *read)
{
    struct shard_batches *b = read->owner;
    struct lane *l = b->shard->lane;
    struct batch_read *r = &read->read;
    if (r->status == 0 && r->n == 0) {
        r->status = -EIO;
    }
    for (unsigned i = 0; r->status == 0 && i < r->n; i++) {
        read->iov[i] = (struct iovec){ .iov_base = (void *)(uintptr_t)r->reads[i].data, .iov_len = r->reads[i].place.len };
        read->bytes += r->reads[i].place.len;
    }
    if (r->status == 0) {
        fetch_room_settle(&l->fetch_room, &b->claim, read->bytes);
        room_changed(l);
    }
    b->done(b);
}

static void read_done(struct batch_read *read)
{
    read_finished(container_of(read, struct shard_batches_read, read));
}

enum shard_batches_begun shard_batches_read(struct shard_batches *b, uint64_t connection, uint64_t offset, uint64_t max_bytes, uint64_t limit)
{
    struct shard *s = b->shard;
    struct lane *l = s->lane;
    struct locator first;
    uint64_t least = batch_log_find(s->batches, offset, &first) ? first.place.len : 0;
    uint64_t want = max_u64(max_bytes, 1);
    uint64_t room = fetch_room_claim(&l->fetch_room, &b->claim, connection, least, want, env_now_ms(l->env));
    room_changed(l);
    if (room == 0) {
        l->metrics.fetch_memory_waits_total++;
        return SHARD_BATCHES_WAITS;
    }
    struct shard_batches_read *read = malloc(sizeof *read); /* large: of its arrays only what is read gets filled in */
    if (read == NULL) {
        fetch_room_release(&l->fetch_room, &b->claim);
        room_changed(l);
        return SHARD_BATCHES_NO_MEMORY;
    }
    read->owner = b;
    read->bytes = 0;
    read->read.offset = offset;
    read->read.max_bytes = (uint32_t)min_u64(room, want);
    read->read.limit = limit;
    read->read.done = read_done;
    b->read = read;
    shard_pin(s);
    if (batch_read_begin(s->batches, &read->read) == 1) {
        read_finished(read);
    }
    return SHARD_BATCHES_READS;
}

int shard_batches_code(const struct shard_batches *b, const char **why)
{
    *why = NULL;
    switch (b->read->read.status) {
    case 0: return 0;
    case -ENOENT: return SLUICE_E_EXPIRED;
    case -EAGAIN: *why = "these records are still being copied to this replica"; return SLUICE_E_STALE;
    case -ENOMEM: return SLUICE_E_MEMORY;
    case -EIO:
        log_error(&b->shard->lane->log, "damaged batch", "group=%llu offset=%llu", (unsigned long long)b->shard->group_id, (unsigned long long)b->read->read.offset);
        return SLUICE_E_CORRUPT;
    default: *why = "reading failed"; return SLUICE_E_INTERNAL;
    }
}

uint64_t shard_batches_weight(const struct shard_batches *b, uint64_t from)
{
    const struct batch_read *read = &b->read->read;
    uint64_t bytes = 0, to = read->limit;
    for (unsigned i = 0; i < read->n; i++) {
        const uint8_t *batch = read->reads[i].data;
        uint32_t count = get_u32(batch + 24);
        uint64_t first = get_u64(batch + 16), begin = max_u64(first, from), end = min_u64(first + count, to);
        bytes += end > begin ? batch_weight(get_u32(batch + 28), count) * (end - begin) / count : 0;
    }
    return bytes;
}

void shard_batches_end(struct shard_batches *b)
{
    struct shard *s = b->shard;
    struct shard_batches_read *read = b->read;
    b->read = NULL;
    if (read != NULL) {
        batch_read_end(&read->read);
        free(read);
    }
    b->claim.turn = false;
    if (b->claim.account != NULL) {
        fetch_room_release(&s->lane->fetch_room, &b->claim);
        room_changed(s->lane);
    }
    if (read != NULL) {
        shard_unpin(s);
    }
}
