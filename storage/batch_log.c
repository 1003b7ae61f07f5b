/* The index of a shard's batches: an array in the order of offsets, searched by halves; reads of consecutive batches. */
#include "storage/batch_log.h"

#include <errno.h>
#include <stdlib.h>

#include "proto/base.h"

/* Locators by offset in one array; those before `head` are forgotten. Batches never overlap; between two of them there may be a hole. */
struct batch_log {
    struct journal *journal;
    uint64_t group;
    uint64_t first, next;
    struct locator *items;
    size_t head, end, cap;
    uint64_t bytes;
};

struct batch_log *batch_log_open(struct journal *j, uint64_t group)
{
    struct batch_log *b = xcalloc(1, sizeof *b);
    b->journal = j;
    b->group = group;
    return b;
}

void batch_log_close(struct batch_log *b)
{
    if (b != NULL) {
        free(b->items);
        free(b);
    }
}

/* The first batch that ends after `offset`. */
static size_t position_of(const struct batch_log *b, uint64_t offset)
{
    size_t lo = b->head, hi = b->end;
    while (lo < hi) {
        size_t mid = lo + (hi - lo) / 2;
        if (b->items[mid].offset + b->items[mid].count <= offset) {
            lo = mid + 1;
        } else {
            hi = mid;
        }
    }
    return lo;
}

static void reserve(struct batch_log *b)
{
    if (b->end < b->cap) {
        return;
    }
    if (b->head > b->cap / 2) {
        memmove(b->items, b->items + b->head, (b->end - b->head) * sizeof *b->items);
        b->end -= b->head;
        b->head = 0;
        return;
    }
    b->cap = b->cap > 0 ? b->cap + b->cap / 2 : 16;
    b->items = xrealloc(b->items, b->cap * sizeof *b->items);
}

void batch_log_append(struct batch_log *b, const struct locator *l)
{
    sluice_assert(l->offset == b->next);
    sluice_assert(l->count > 0);
    reserve(b);
    b->items[b->end++] = *l;
    b->next += l->count;
    b->bytes += l->place.len;
}

int batch_log_insert(struct batch_log *b, const struct locator *l)
{
    sluice_assert(l->count > 0);
    reserve(b);
    size_t i = position_of(b, l->offset);
    if (i < b->end && b->items[i].offset < l->offset + l->count) {
        return -EEXIST;
    }
    memmove(b->items + i + 1, b->items + i, (b->end - i) * sizeof *b->items);
    b->items[i] = *l;
    b->end++;
    b->bytes += l->place.len;
    return 0;
}

static void take(struct batch_log *b, const struct recovered_entry *e)
{
    if (e->b == 0 || e->damaged || e->a + e->b <= b->first || e->a >= b->next) {
        return;
    }
    struct locator l = {.offset = e->a, .time_ms = e->c, .place = e->place, .count = (uint32_t)e->b};
    if (b->end > b->head && b->items[b->end - 1].offset + b->items[b->end - 1].count <= l.offset) {
        reserve(b);
        b->items[b->end++] = l;
        b->bytes += l.place.len;
    } else {
        batch_log_insert(b, &l); /* -EEXIST: a second copy of offsets that are there */
    }
}

int batch_log_recover(struct batch_log *b, const struct recovered_group *g, uint64_t first, uint64_t next, uint64_t *hole_from, uint64_t *hole_to)
{
    b->head = b->end = 0;
    b->bytes = 0;
    b->first = first;
    b->next = next;
    for (size_t i = 0; i < g->n_entries && g->entries[i].index <= g->snapshot_index; i++) {
        take(b, &g->entries[i]);
    }
    for (size_t i = 0; i < g->n_batches; i++) {
        take(b, &g->batches[i]);
    }
    return batch_log_hole(b, first, next, hole_from, hole_to) ? -EIO : 0;
}

bool batch_log_hole(const struct batch_log *b, uint64_t from, uint64_t to, uint64_t *hole_from, uint64_t *hole_to)
{
    uint64_t at = from;
    for (size_t i = position_of(b, from); i < b->end && at < to; i++) {
        if (b->items[i].offset > at) {
            *hole_from = at;
            *hole_to = min_u64(b->items[i].offset, to);
            return true;
        }
        at = b->items[i].offset + b->items[i].count;
    }
    if (at < to) {
        *hole_from = at;
        *hole_to = to;
        return true;
    }
    return false;
}

void batch_log_trim(struct batch_log *b, uint64_t first)
{
    if (first <= b->first) {
        return;
    }
    b->first = first;
    b->next = max_u64(b->next, first);
    while (b->head < b->end && b->items[b->head].offset + b->items[b->head].count <= first) {
        b->bytes -= b->items[b->head].place.len;
        b->head++;
    }
}

void batch_log_reset(struct batch_log *b, uint64_t first, uint64_t next)
{
    sluice_assert(first <= next);
    size_t from = position_of(b, first), kept = 0;
    b->bytes = 0;
    for (size_t i = from; i < b->end && b->items[i].offset < next; i++) {
        b->bytes += b->items[i].place.len;
        b->items[kept++] = b->items[i];
    }
    b->head = 0;
    b->end = kept;
    b->first = first;
    b->next = next;
}

uint64_t batch_log_first(const struct batch_log *b)
{
    return b->first;
}

uint64_t batch_log_next(const struct batch_log *b)
{
    return b->next;
}

bool batch_log_find(const struct batch_log *b, uint64_t offset, struct locator *out)
{
    size_t i = position_of(b, offset);
    if (i == b->end || b->items[i].offset > offset) {
        return false;
    }
    *out = b->items[i];
    return true;
}

static size_t time_position(const struct batch_log *b, uint64_t time_ms)
{
    size_t lo = b->head, hi = b->end;
    while (lo < hi) {
        size_t mid = lo + (hi - lo) / 2;
        if (b->items[mid].time_ms < time_ms) {
            lo = mid + 1;
        } else {
            hi = mid;
        }
    }
    return lo;
}

bool batch_log_find_time(const struct batch_log *b, uint64_t time_ms, struct locator *out)
{
    size_t i = time_position(b, time_ms);
    if (i == b->end) {
        return false;
    }
    *out = b->items[i];
    return true;
}

uint64_t batch_log_older_than(const struct batch_log *b, uint64_t time_ms)
{
    size_t i = time_position(b, time_ms);
    return i < b->end ? max_u64(b->items[i].offset, b->first) : b->next;
}

void batch_log_moved(struct batch_log *b, uint64_t offset, const struct place *from, const struct place *to)
{
    size_t i = position_of(b, offset);
    if (i < b->end && b->items[i].offset == offset && b->items[i].place.segment == from->segment && b->items[i].place.pos == from->pos) {
        b->items[i].place = *to;
    }
}

uint64_t batch_log_bytes(const struct batch_log *b)
{
    return b->bytes;
}

/* ---- reading ---- */

/* Only the batches before the first bad one count. */
static void read_finish(struct batch_read *r)
{
    unsigned good = 0;
    while (good < r->n && r->reads[good].status == 0) {
        good++;
    }
    if (good == 0) {
        r->status = r->reads[0].status;
    }
    for (unsigned i = good; i < r->n; i++) {
        journal_unpin(r->reads[i].journal, &r->reads[i]);
        r->next_offset -= r->counts[i];
    }
    r->n = good;
}

static void one_read(struct journal_read *jr)
{
    struct batch_read *r = jr->user;
    sluice_assert(r->pending > 0);
    r->pending--;
    if (r->pending == 0) {
        read_finish(r);
        r->done(r);
    }
}

int batch_read_begin(struct batch_log *b, struct batch_read *r)
{
    r->log = b;
    r->n = 0;
    r->pending = 0;
    r->status = 0;
    r->next_offset = r->offset;
    uint64_t end = min_u64(b->next, r->limit);
    size_t i = position_of(b, r->offset);
    if (r->offset < b->first) {
        r->status = -ENOENT;
    } else if (r->offset >= end) {
        r->status = -ENODATA;
    } else if (i == b->end || b->items[i].offset > r->offset) {
        r->status = -EAGAIN;
    }
    if (r->status != 0) {
        return 1;
    }
    uint64_t bytes = 0;
    r->next_offset = b->items[i].offset;
    for (; i < b->end && r->n < BATCH_READ_MAX; i++) {
        const struct locator *l = &b->items[i];
        if (l->offset != r->next_offset || l->offset >= end || (r->n > 0 && bytes + l->place.len > r->max_bytes)) {
            break;
        }
        bytes += l->place.len;
        r->next_offset += l->count;
        r->counts[r->n] = l->count;
        r->reads[r->n++] = (struct journal_read){.place = l->place, .user = r, .done = one_read};
    }
    for (unsigned k = 0; k < r->n; k++) {
        if (journal_read(b->journal, &r->reads[k]) == 0) {
            r->pending++; /* done comes later than this call, so the count cannot reach 0 meanwhile */
        }
    }
    if (r->pending > 0) {
        return 0;
    }
    read_finish(r);
    return 1;
}

void batch_read_end(struct batch_read *r)
{
    sluice_assert(r->pending == 0);
    for (unsigned i = 0; i < r->n; i++) {
        journal_unpin(r->reads[i].journal, &r->reads[i]);
    }
    r->n = 0;
}
