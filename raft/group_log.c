/* group_log.c: the shadow of libraft's log: term, bytes and place of each entry it holds, as a ring. */
#include "group_impl.h"

#include <stdlib.h>

void group_log_reset(struct group_log *l, uint64_t first, uint64_t base_term)
{
    sluice_assert(first > 0);
    l->base_bytes = l->n > 0 ? group_log_at(l, group_log_last(l))->bytes : l->base_bytes;
    l->first = first;
    l->n = 0;
    l->base_term = base_term;
}

void group_log_free(struct group_log *l)
{
    free(l->slots);
    *l = (struct group_log){.first = 1};
}

struct slot *group_log_at(const struct group_log *l, uint64_t index)
{
    return index < l->first || index - l->first >= l->n ? NULL : &l->slots[index & (l->cap - 1)];
}

uint64_t group_log_term(const struct group_log *l, uint64_t index)
{
    const struct slot *s = group_log_at(l, index);
    return s != NULL ? s->term : index + 1 == l->first ? l->base_term : 0;
}

uint64_t group_log_bytes_to(const struct group_log *l, uint64_t index)
{
    if (index < l->first || l->n == 0) {
        return l->base_bytes;
    }
    return group_log_at(l, min_u64(index, group_log_last(l)))->bytes;
}

/* cap: a power of two, room for all slots. */
static void resize(struct group_log *l, size_t cap)
{
    struct slot *slots = xmalloc(cap * sizeof *slots);
    for (uint64_t i = l->first; i < l->first + l->n; i++) {
        slots[i & (cap - 1)] = l->slots[i & (l->cap - 1)];
    }
    free(l->slots);
    l->slots = slots;
    l->cap = cap;
}

struct slot *group_log_push(struct group_log *l, uint64_t term, uint8_t type, uint32_t len, const struct place *place)
{
    if (l->n == l->cap) {
        resize(l, l->cap == 0 ? 16 : 2 * l->cap);
    }
    uint64_t index = l->first + l->n;
    uint64_t before = group_log_bytes_to(l, index - 1);
    l->n++;
    struct slot *s = &l->slots[index & (l->cap - 1)];
    *s = (struct slot){.term = term, .bytes = before + len, .place = *place, .type = type};
    return s;
}

void group_log_truncate(struct group_log *l, uint64_t index)
{
    sluice_assert(index >= l->first);
    if (index - l->first < l->n) {
        l->n = index - l->first;
    }
}

void group_log_trim(struct group_log *l, uint64_t first)
{
    if (first <= l->first) {
        return;
    }
    sluice_assert(first <= l->first + l->n);
    const struct slot *s = group_log_at(l, first - 1);
    l->base_term = s->term;
    l->base_bytes = s->bytes;
    l->n -= first - l->first;
    l->first = first;
    if (l->cap > 1024 && l->n < l->cap / 8) {
        resize(l, l->cap / 4);
    }
}
