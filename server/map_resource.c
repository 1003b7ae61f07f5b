/* Tags and policies, shared by reference. */
#include "server/map_resource.h"

#include <stdlib.h>
#include <string.h>

#include "proto/base.h"

struct map_block {
    atomic_uint references;
    uint64_t bytes;
    struct map_tag tags[]; /* then the texts */
};

static char *put_text(char **at, const char *text)
{
    size_t n = strlen(text) + 1;
    char *copy = *at;
    memcpy(copy, text, n);
    *at += n;
    return copy;
}

void map_resource_make(struct map_resource *out, const struct map_tag *tags, unsigned n, const char *policy)
{
    *out = (struct map_resource){0};
    if (n == 0 && policy == NULL) {
        return;
    }
    uint64_t bytes = policy != NULL ? strlen(policy) : 0;
    for (unsigned i = 0; i < n; i++) {
        bytes += strlen(tags[i].key) + strlen(tags[i].value);
    }
    size_t ends = 2 * (size_t)n + (policy != NULL);
    struct map_block *b = xmalloc(sizeof *b + n * sizeof b->tags[0] + bytes + ends);
    atomic_init(&b->references, 1);
    b->bytes = bytes;
    char *at = (char *)&b->tags[n];
    for (unsigned i = 0; i < n; i++) {
        sluice_assert(i == 0 || strcmp(tags[i - 1].key, tags[i].key) < 0);
        b->tags[i].key = put_text(&at, tags[i].key);
        b->tags[i].value = put_text(&at, tags[i].value);
    }
    *out = (struct map_resource){.tags = b->tags, .n_tags = n, .policy = policy != NULL ? put_text(&at, policy) : NULL, .block = b};
}

struct map_resource map_resource_ref(const struct map_resource *r)
{
    if (r->block != NULL) {
        atomic_fetch_add_explicit(&r->block->references, 1, memory_order_relaxed);
    }
    return *r;
}

void map_resource_unref(struct map_resource *r)
{
    if (r->block != NULL && atomic_fetch_sub_explicit(&r->block->references, 1, memory_order_acq_rel) == 1) {
        free(r->block);
    }
    *r = (struct map_resource){0};
}

uint64_t map_resource_bytes(const struct map_resource *r) { return r->block != NULL ? r->block->bytes : 0; }
