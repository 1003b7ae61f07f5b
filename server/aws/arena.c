/* arena.c: memory of one request. */
#include "server/aws/arena.h"

#include <stdlib.h>

#include "proto/base.h"

enum { ARENA_BLOCK = 16 * 1024 };

struct arena_block {
    struct arena_block *next;
    uint8_t bytes[];
};

void arena_init(struct arena *a, size_t limit) { *a = (struct arena){.limit = limit}; }

void arena_deinit(struct arena *a)
{
    while (a->blocks != NULL) {
        struct arena_block *b = a->blocks;
        a->blocks = b->next;
        free(b);
    }
    arena_init(a, a->limit);
}

void *arena_alloc(struct arena *a, size_t n)
{
    if (n > a->limit) {
        return NULL;
    }
    n = ALIGN_UP(max_u64(n, 1), (size_t)8);
    if (a->size - a->used < n) {
        size_t size = max_u64(n, ARENA_BLOCK);
        size_t with_header = size + sizeof(struct arena_block);
        if (a->limit - a->total < with_header) {
            return NULL;
        }
        struct arena_block *b = malloc(with_header);
        if (b == NULL) {
            return NULL;
        }
        b->next = a->blocks;
        a->blocks = b;
        a->used = 0;
        a->size = size;
        a->total += with_header;
    }
    void *p = a->blocks->bytes + a->used;
    a->used += n;
    memset(p, 0, n);
    return p;
}

void *arena_grow(struct arena *a, void *p, size_t n, size_t wanted)
{
    sluice_assert(wanted >= n && n % 8 == 0);
    if (p != NULL && wanted <= a->limit && (uint8_t *)p + n == a->blocks->bytes + a->used && a->size - a->used >= ALIGN_UP(wanted, (size_t)8) - n) {
        memset((uint8_t *)p + n, 0, wanted - n);
        a->used += ALIGN_UP(wanted, (size_t)8) - n;
        return p;
    }
    void *q = arena_alloc(a, wanted);
    if (q != NULL && p != NULL) {
        memcpy(q, p, n);
    }
    return q;
}
