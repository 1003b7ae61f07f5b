/* arena.h: memory of one request, given back as a whole, with a bound. */
#ifndef SLUICE_ARENA_H
#define SLUICE_ARENA_H

#include <stddef.h>

struct arena_block;

/* Embedded by the caller. */
struct arena {
    struct arena_block *blocks; /* the newest first */
    size_t used, size;          /* of the newest */
    size_t total, limit;        /* bytes of all blocks; never more than the limit */
};

/* limit: bytes, headers included. Nothing is allocated yet. */
void arena_init(struct arena *a, size_t limit);
void arena_deinit(struct arena *a);
/* Zeroed memory, aligned to 8; NULL beyond the limit or if the system has none. Valid until arena_deinit(). */
void *arena_alloc(struct arena *a, size_t n);
/* A larger place for what stands at p (n bytes of it are kept); in place if it is the newest piece. NULL as above, p stays then. */
void *arena_grow(struct arena *a, void *p, size_t n, size_t wanted);

#endif
