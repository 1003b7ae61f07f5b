/* The cache: a hash table of entries, slabs with counts of references, eviction as by a clock's hand.
 *
 * A pinned entry keeps its place in the round. With entries put behind the hand when they are unpinned, clusters with much data to catch up on
 * (the simulator's profile "backlog") stopped taking writes. */
#include "storage/cache.h"

#include <stdlib.h>

#include "proto/base.h"

enum { CACHE_BUCKETS_MIN = 256 };

struct cache {
    uint64_t max, bytes;
    struct cache_entry **buckets;
    size_t n_buckets, n_entries;
    size_t n_idle;            /* entries that nobody has pinned: what may be evicted */
    struct cache_entry *hand;
};

static size_t bucket_of(const struct cache *c, uint64_t segment, uint32_t pos)
{
    uint64_t h = (segment * 0x9e3779b97f4a7c15ull) ^ ((uint64_t)(pos >> 3) * 0xc2b2ae3d27d4eb4full);
    return (size_t)((h ^ (h >> 29)) & (c->n_buckets - 1));
}

struct cache *cache_open(uint64_t bytes_max)
{
    struct cache *c = xcalloc(1, sizeof *c);
    c->max = bytes_max;
    c->n_buckets = CACHE_BUCKETS_MIN;
    c->buckets = xcalloc(c->n_buckets, sizeof *c->buckets);
    return c;
}

struct cache_slab *cache_slab_new(struct cache *c, size_t size)
{
    struct cache_slab *s = malloc(sizeof *s + size);
    if (s == NULL) {
        return NULL;
    }
    s->refs = 1;
    s->size = size;
    c->bytes += size;
    return s;
}

void cache_slab_unref(struct cache *c, struct cache_slab *s)
{
    sluice_assert(s->refs > 0);
    s->refs--;
    if (s->refs == 0) {
        sluice_assert(c->bytes >= s->size);
        c->bytes -= s->size;
        free(s);
    }
}

static void pin(struct cache *c, struct cache_entry *e)
{
    c->n_idle -= e->pins == 0;
    e->pins++;
}

static struct cache_entry **hash_find(const struct cache *c, uint64_t segment, uint32_t pos)
{
    struct cache_entry **at = &c->buckets[bucket_of(c, segment, pos)];
    while (*at != NULL && ((*at)->segment != segment || (*at)->pos != pos)) {
        at = &(*at)->hash_next;
    }
    return at;
}

static void hash_remove(struct cache *c, struct cache_entry *e)
{
    struct cache_entry **at = hash_find(c, e->segment, e->pos);
    sluice_assert(*at == e);
    *at = e->hash_next;
    e->dropped = true;
}

static void entry_free(struct cache *c, struct cache_entry *e)
{
    sluice_assert(e->dropped && e->pins == 0 && c->n_idle > 0);
    c->n_idle--;
    if (e->clock_next == e) {
        c->hand = NULL;
    } else {
        e->clock_prev->clock_next = e->clock_next;
        e->clock_next->clock_prev = e->clock_prev;
        if (c->hand == e) {
            c->hand = e->clock_next;
        }
    }
    c->n_entries--;
    cache_slab_unref(c, e->slab);
    free(e);
}

static void evict(struct cache *c)
{
    /* Two rounds: the first takes away the mark of use, the second evicts. What is still there then is pinned. */
    size_t steps = 2 * c->n_entries;
    while (c->bytes > c->max && c->n_idle > 0 && steps-- > 0) {
        struct cache_entry *e = c->hand;
        c->hand = e->clock_next;
        if (e->pins > 0) {
            continue;
        }
        if (e->used) {
            e->used = false;
            continue;
        }
        hash_remove(c, e);
        entry_free(c, e);
    }
}

static void grow(struct cache *c)
{
    struct cache_entry **old = c->buckets;
    size_t n_old = c->n_buckets;
    c->n_buckets *= 2;
    c->buckets = xcalloc(c->n_buckets, sizeof *c->buckets);
    for (size_t i = 0; i < n_old; i++) {
        while (old[i] != NULL) {
            struct cache_entry *e = old[i];
            old[i] = e->hash_next;
            struct cache_entry **to = &c->buckets[bucket_of(c, e->segment, e->pos)];
            e->hash_next = *to;
            *to = e;
        }
    }
    free(old);
}

struct cache_entry *cache_get(struct cache *c, uint64_t segment, uint32_t pos, uint32_t len)
{
    struct cache_entry *e = *hash_find(c, segment, pos);
    if (e == NULL || e->len != len) {
        return NULL;
    }
    pin(c, e);
    e->used = true;
    return e;
}

bool cache_has(const struct cache *c, uint64_t segment, uint32_t pos) { return *hash_find(c, segment, pos) != NULL; }

struct cache_entry *cache_put(struct cache *c, uint64_t segment, uint32_t pos, uint32_t len, struct cache_slab *s, const uint8_t *data)
{
    struct cache_entry *e = *hash_find(c, segment, pos);
    if (e != NULL) {
        sluice_assert(e->len == len); /* a place is written once per use of a segment */
        pin(c, e);
        return e;
    }
    e = calloc(1, sizeof *e);
    if (e == NULL) {
        return NULL;
    }
    if (c->n_entries >= c->n_buckets) {
        grow(c);
    }
    e->segment = segment;
    e->pos = pos;
    e->len = len;
    e->pins = 1;
    e->slab = s;
    e->data = data;
    s->refs++;
    struct cache_entry **at = &c->buckets[bucket_of(c, segment, pos)];
    e->hash_next = *at;
    *at = e;
    if (c->hand == NULL) {
        e->clock_next = e->clock_prev = e;
        c->hand = e;
    } else {
        /* Behind the hand: the last one that it will come to. */
        e->clock_next = c->hand;
        e->clock_prev = c->hand->clock_prev;
        e->clock_prev->clock_next = e;
        c->hand->clock_prev = e;
    }
    c->n_entries++;
    evict(c);
    return e;
}

void cache_unpin(struct cache *c, struct cache_entry *e)
{
    sluice_assert(e->pins > 0);
    e->pins--;
    c->n_idle += e->pins == 0;
    if (e->pins == 0 && e->dropped) {
        entry_free(c, e);
    } else if (e->pins == 0) {
        evict(c);
    }
}

void cache_drop_segment(struct cache *c, uint64_t segment)
{
    for (size_t i = 0; i < c->n_buckets; i++) {
        struct cache_entry *e = c->buckets[i];
        while (e != NULL) {
            struct cache_entry *next = e->hash_next;
            if (e->segment == segment) {
                hash_remove(c, e);
                if (e->pins == 0) {
                    entry_free(c, e);
                }
            }
            e = next;
        }
    }
}

uint64_t cache_bytes(const struct cache *c)
{
    return c->bytes;
}

void cache_close(struct cache *c)
{
    if (c == NULL) {
        return;
    }
    for (size_t i = 0; i < c->n_buckets; i++) {
        while (c->buckets[i] != NULL) {
            struct cache_entry *e = c->buckets[i];
            hash_remove(c, e);
            c->n_idle += e->pins > 0;
            e->pins = 0;
            entry_free(c, e);
        }
    }
    free(c->buckets);
    free(c);
}
