/* cache.h: bytes of records in memory, by (segment, pos), bounded in bytes.
 *
 * Bytes lie in slabs (one read from disk, or one copy); entries point into slabs and a slab lives while an entry does. Pinned entries are never
 * evicted, so the bound can be exceeded by what is pinned. Eviction goes round like a clock: an entry used since the hand's last visit stays. */
#ifndef SLUICE_CACHE_H
#define SLUICE_CACHE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct cache;

struct cache_slab {
    uint32_t refs;
    size_t size;
    uint8_t bytes[];
};
struct cache_entry {
    uint64_t segment;
    uint32_t pos, len;
    uint32_t pins;
    bool used, dropped;
    struct cache_slab *slab;
    const uint8_t *data;
    struct cache_entry *hash_next;
    struct cache_entry *clock_next, *clock_prev;
};

struct cache *cache_open(uint64_t bytes_max);
/* Every entry must be unpinned, or is abandoned. */
void cache_close(struct cache *c);
/* NULL without memory. The caller holds one reference. */
struct cache_slab *cache_slab_new(struct cache *c, size_t size);
void cache_slab_unref(struct cache *c, struct cache_slab *s);
/* The entry, pinned; NULL if it is not there. */
struct cache_entry *cache_get(struct cache *c, uint64_t segment, uint32_t pos, uint32_t len);
/* Whether there is an entry; that somebody asks is no use of it. */
bool cache_has(const struct cache *c, uint64_t segment, uint32_t pos);
/* Takes a reference to the slab; returns the entry, pinned (an entry already there is returned instead). NULL without memory. */
struct cache_entry *cache_put(struct cache *c, uint64_t segment, uint32_t pos, uint32_t len, struct cache_slab *s, const uint8_t *data);
void cache_unpin(struct cache *c, struct cache_entry *e);
/* Forgets a segment's entries (pinned ones when they are unpinned). */
void cache_drop_segment(struct cache *c, uint64_t segment);
uint64_t cache_bytes(const struct cache *c);

#endif
