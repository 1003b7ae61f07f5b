/* Pure: the way from the open shards that there are to `target` ones of equal width. */
#include "server/reshard_plan.h"

#include <stdlib.h>
#include <string.h>

#include "proto/base.h"

unsigned reshard_open_count(const struct map_stream *s)
{
    unsigned n = 0;
    for (unsigned i = 0; i < s->n_shards; i++) {
        n += !s->shards[i].closed && !s->shards[i].coming;
    }
    return n;
}

static int compare_first(const void *a, const void *b)
{
    return hash_compare(&(*(const struct map_shard *const *)a)->first, &(*(const struct map_shard *const *)b)->first);
}

/* The open shards by first hash key; malloc'ed. */
static const struct map_shard **open_in_order(const struct map_stream *s, unsigned *n)
{
    const struct map_shard **list = xcalloc(s->n_shards + 1, sizeof *list);
    *n = 0;
    for (unsigned i = 0; i < s->n_shards; i++) {
        if (!s->shards[i].closed && !s->shards[i].coming) {
            list[(*n)++] = &s->shards[i];
        }
    }
    qsort(list, *n, sizeof *list, compare_first);
    return list;
}

bool reshard_is_even(const struct map_stream *s, uint32_t target)
{
    unsigned n;
    const struct map_shard **list = open_in_order(s, &n);
    bool even = n == target;
    for (unsigned i = 0; even && i < n; i++) {
        struct hash128 first;
        struct hash128 last;
        hash_range(i, target, &first, &last);
        even = hash_compare(&list[i]->first, &first) == 0 && hash_compare(&list[i]->last, &last) == 0;
    }
    free(list);
    return even;
}

static bool idle(const struct map_shard *s) { return s != NULL && s->reshard == 0 && s->opened; }

unsigned reshard_plan(const struct map_stream *s, uint32_t target, struct reshard_step_plan *out, unsigned max)
{
    unsigned n;
    unsigned found = 0;
    const struct map_shard **list = open_in_order(s, &n);
    for (unsigned i = 0; i < n && found < max; i++) {
        const struct map_shard *a = list[i];
        const struct map_shard *b = i + 1 < n ? list[i + 1] : NULL;
        uint32_t from = hash_range_of(&a->first, target);
        uint32_t to = hash_range_of(&a->last, target);
        if (!idle(a)) {
            continue;
        }
        if (from != to) {
            struct hash128 last;
            out[found] = (struct reshard_step_plan){.parents = {a->shard}, .n_parents = 1};
            hash_range((uint32_t)(((uint64_t)from + to + 1) / 2), target, &out[found].at, &last);
            found++;
        } else if (idle(b) && hash_range_of(&b->first, target) == from && hash_range_of(&b->last, target) == from) {
            out[found++] = (struct reshard_step_plan){.parents = {a->shard, b->shard}, .n_parents = 2};
            i++;
        }
    }
    free(list);
    return found;
}
