/* check_lineage.c: what holds over splits and merges. Without shards told of (history_shard) there is nothing to judge.
 *
 * A key's records stand in one chain of shards, each the child of the one before; so (creation of the shard, offset) orders all records of a key. */
#include "tests/check/check_judge.h"

#include "proto/base.h"
#include "proto/batch.h"

#include <stdlib.h>
#include <string.h>

typedef unsigned long long ull;

static const struct check_shard *shard_of(const struct history *h, uint32_t shard)
{
    for (size_t i = 0; i < h->n_shards; i++) {
        if (h->shards[i].shard == shard) {
            return &h->shards[i];
        }
    }
    return NULL;
}

bool check_is_child(const struct history *h, uint32_t shard)
{
    const struct check_shard *s = shard_of(h, shard);
    return s != NULL && s->n_parents > 0;
}

static int by_first(const void *a, const void *b)
{
    return memcmp((*(const struct check_shard *const *)a)->first.b, (*(const struct check_shard *const *)b)->first.b, 16);
}

/* The shards, by first hash key, cover exactly from..to. */
static bool tiles(const struct check_shard **list, size_t n, const struct hash128 *from, const struct hash128 *to)
{
    if (n == 0) {
        return false;
    }
    qsort(list, n, sizeof *list, by_first);
    bool ok = memcmp(list[0]->first.b, from->b, 16) == 0 && memcmp(list[n - 1]->last.b, to->b, 16) == 0;
    for (size_t i = 1; i < n && ok; i++) {
        ok = hash_follows(&list[i - 1]->last, &list[i]->first);
    }
    return ok;
}

bool check_tiles(const struct check_shard *shards, size_t n)
{
    const struct check_shard **list = xmalloc((n + 1) * sizeof *list);
    size_t open = 0;
    for (size_t i = 0; i < n; i++) {
        if (!shards[i].closed) {
            list[open++] = &shards[i];
        }
    }
    static const struct hash128 lowest;
    struct hash128 highest;
    memset(&highest, 0xff, sizeof highest);
    bool ok = tiles(list, open, &lowest, &highest);
    free(list);
    return ok;
}

/* 14: what the shards' descriptions say of each other. */
static void check_family(struct judge *j)
{
    const struct history *h = j->h;
    const struct check_shard **list = xmalloc((h->n_shards + 1) * sizeof *list);
    if (!check_tiles(h->shards, h->n_shards)) {
        anomaly(j, 14, "the open shards do not cover every hash key exactly once");
    }
    for (size_t i = 0; i < h->n_shards; i++) {
        const struct check_shard *s = &h->shards[i];
        size_t n = 0;
        for (size_t k = 0; k < h->n_shards; k++) {
            const struct check_shard *child = &h->shards[k];
            bool of = false;
            for (unsigned p = 0; p < child->n_parents; p++) {
                of = of || child->parents[p] == s->shard;
            }
            if (!of) {
                continue;
            }
            if (child->created_s <= s->created_s) {
                anomaly(j, 14, "shard %u was created in second %llu, its parent %u in %llu: its numbers are not above", child->shard, (ull)child->created_s, s->shard,
                        (ull)s->created_s);
            }
            /* Of a merge's child only the part that was this parent's is looked at: the whole of it must be there. */
            list[n++] = child;
        }
        if (n == 0) {
            if (s->closed) {
                anomaly(j, 14, "shard %u is closed and has no children", s->shard);
            }
            continue;
        }
        if (!s->closed) {
            anomaly(j, 14, "shard %u is open and has children", s->shard);
        }
        bool whole = n == 1 ? memcmp(list[0]->first.b, s->first.b, 16) <= 0 && memcmp(list[0]->last.b, s->last.b, 16) >= 0 : tiles(list, n, &s->first, &s->last);
        if (!whole) {
            anomaly(j, 14, "the children of shard %u do not have its keys exactly once", s->shard);
        }
    }
    free(list);
}

/* 13: a record stands in the shard that has its key. */
static void check_ranges(struct judge *j)
{
    const struct history *h = j->h;
    for (size_t i = 0; i < h->n_puts; i++) {
        const struct check_put *p = &h->puts[i];
        const struct check_shard *s = p->result == CHECK_OK && p->key != 0 ? shard_of(h, p->shard) : NULL;
        if (s != NULL && (memcmp(p->hash.b, s->first.b, 16) < 0 || memcmp(p->hash.b, s->last.b, 16) > 0)) {
            anomaly(j, 13, "value %llu of key %llu stands in shard %u, which does not have the key", (ull)p->value, (ull)p->key, p->shard);
        }
    }
}

/* ---- 11 ---- */

struct place { const struct check_put *p; uint64_t created_s; };

static int by_place(const void *a, const void *b)
{
    const struct place *x = a;
    const struct place *y = b;
    if (x->p->key != y->p->key) {
        return x->p->key < y->p->key ? -1 : 1;
    }
    if (x->created_s != y->created_s) {
        return x->created_s < y->created_s ? -1 : 1;
    }
    return x->p->offset < y->p->offset ? -1 : x->p->offset > y->p->offset;
}

/* Records of one key, over all shards that had it, stand in the order of real time, and in each client's own. */
static void check_keys(struct judge *j)
{
    const struct history *h = j->h;
    struct place *list = xmalloc((h->n_puts + 1) * sizeof *list);
    size_t n = 0;
    for (size_t i = 0; i < h->n_puts; i++) {
        const struct check_put *p = &h->puts[i];
        const struct check_shard *s = p->result == CHECK_OK && p->key != 0 ? shard_of(h, p->shard) : NULL;
        if (s != NULL) {
            list[n++] = (struct place){p, s->created_s};
        }
    }
    qsort(list, n, sizeof *list, by_place);
    enum { PROCESSES = 64 };
    uint64_t least_end = UINT64_MAX;
    uint64_t next_order[PROCESSES];
    for (size_t i = n; i-- > 0;) {
        const struct check_put *p = list[i].p;
        if (i + 1 == n || list[i + 1].p->key != p->key) {
            least_end = UINT64_MAX;
            memset(next_order, 0xff, sizeof next_order);
        }
        if (p->start > least_end) {
            anomaly(j, 11, "value %llu of key %llu, at shard %u offset %llu, began after a record of the key that stands behind it was acknowledged", (ull)p->value, (ull)p->key,
                    p->shard, (ull)p->offset);
        }
        least_end = min_u64(least_end, p->end);
        if (p->process < PROCESSES && p->order != 0) {
            if (p->order >= next_order[p->process]) {
                anomaly(j, 11, "value %llu of key %llu, at shard %u offset %llu, stands before one that process %u put earlier", (ull)p->value, (ull)p->key, p->shard, (ull)p->offset,
                        p->process);
            }
            next_order[p->process] = p->order;
        }
    }
    free(list);
}

/* ---- 15 ---- */

static bool hands_over(const struct check_read *r, uint32_t application, uint32_t shard)
{
    return r->session != 0 && r->application == application && r->shard == shard && r->n > 0;
}

/* Nothing of a child is handed over to an application before the last record of each parent was. */
static void check_child(struct judge *j, const struct check_shard *s, uint32_t application)
{
    const struct history *h = j->h;
    size_t first = 0;
    while (first < h->n_reads && !hands_over(&h->reads[first], application, s->shard)) {
        first++;
    }
    for (unsigned p = 0; p < s->n_parents && first < h->n_reads; p++) {
        if (shard_of(h, s->parents[p]) == NULL) {
            continue;
        }
        uint64_t before = 0;
        for (size_t k = 0; k < first; k++) {
            const struct check_read *r = &h->reads[k];
            if (hands_over(r, application, s->parents[p])) {
                before = max_u64(before, h->records[r->first + r->n - 1].offset + 1);
            }
        }
        const struct check_final *f = check_final_of(h, s->parents[p]);
        if (f != NULL && before < f->trim + f->n) {
            anomaly(j, 15, "application %u: a record of shard %u was handed over when its parent %u had been read to %llu of %llu", application, s->shard, s->parents[p],
                    (ull)before, (ull)(f->trim + f->n));
        }
    }
}

static void check_hand_over(struct judge *j)
{
    const struct history *h = j->h;
    uint32_t applications = 1;
    for (size_t i = 0; i < h->n_reads; i++) {
        applications = h->reads[i].application >= applications ? h->reads[i].application + 1 : applications;
    }
    for (size_t i = 0; i < h->n_shards; i++) {
        for (uint32_t a = 0; a < applications; a++) {
            check_child(j, &h->shards[i], a);
        }
    }
}

void check_lineage(struct judge *j)
{
    if (j->h->n_shards == 0) {
        return;
    }
    check_family(j);
    check_ranges(j);
    check_keys(j);
    check_hand_over(j);
}
