/* dedupe.c: see dedupe.h. */
#include "server/dedupe.h"

#include <stdlib.h>
#include <string.h>

#include "proto/base.h"

struct producer {
    uint8_t id[DEDUPE_ID];
    uint32_t epoch;
    uint8_t n;                                   /* numbers in the window: newest at [n - 1] */
    uint64_t last;                               /* sequence of the newest */
    struct dedupe_numbers window[DEDUPE_WINDOW]; /* consecutive sequences last - n + 1 .. last */
    struct producer *chain;
    struct producer *idler, *busier;             /* list in log order */
};

struct dedupe {
    uint32_t producers_max, count;
    uint64_t expiry_ms, forgotten;
    struct producer **buckets;
    uint32_t n_buckets; /* power of two */
    struct producer *idlest, *busiest;
};

/* Ids are random, so any of their bytes make a hash; mixing protects against ids that are not. */
static uint32_t id_hash(const uint8_t id[DEDUPE_ID])
{
    uint64_t h = (get_u64(id) ^ (get_u64(id + 8) * 0x9e3779b97f4a7c15u)) * 0xff51afd7ed558ccdu;
    return (uint32_t)(h >> 32);
}

struct dedupe *dedupe_open(uint32_t producers_max, uint64_t expiry_ms)
{
    struct dedupe *d = xcalloc(1, sizeof *d);
    d->producers_max = producers_max;
    d->expiry_ms = expiry_ms;
    d->n_buckets = 16;
    d->buckets = xcalloc(d->n_buckets, sizeof *d->buckets);
    return d;
}

void dedupe_close(struct dedupe *d)
{
    if (d == NULL) {
        return;
    }
    for (struct producer *p = d->idlest; p != NULL;) {
        struct producer *next = p->busier;
        free(p);
        p = next;
    }
    free(d->buckets);
    free(d);
}

static struct producer *find(const struct dedupe *d, const uint8_t id[DEDUPE_ID])
{
    struct producer *p = d->buckets[id_hash(id) & (d->n_buckets - 1)];
    while (p != NULL && memcmp(p->id, id, DEDUPE_ID) != 0) {
        p = p->chain;
    }
    return p;
}

static void list_remove(struct dedupe *d, struct producer *p)
{
    *(p->idler != NULL ? &p->idler->busier : &d->idlest) = p->busier;
    *(p->busier != NULL ? &p->busier->idler : &d->busiest) = p->idler;
    p->idler = p->busier = NULL;
}

static void list_append(struct dedupe *d, struct producer *p)
{
    p->idler = d->busiest;
    p->busier = NULL;
    *(d->busiest != NULL ? &d->busiest->busier : &d->idlest) = p;
    d->busiest = p;
}

static void forget(struct dedupe *d, struct producer *p)
{
    struct producer **link = &d->buckets[id_hash(p->id) & (d->n_buckets - 1)];
    while (*link != p) {
        link = &(*link)->chain;
    }
    *link = p->chain;
    list_remove(d, p);
    free(p);
    d->count--;
    d->forgotten++;
}

static void grow(struct dedupe *d)
{
    uint32_t n = d->n_buckets * 2;
    struct producer **buckets = xcalloc(n, sizeof *buckets);
    for (struct producer *p = d->idlest; p != NULL; p = p->busier) {
        uint32_t i = id_hash(p->id) & (n - 1);
        p->chain = buckets[i];
        buckets[i] = p;
    }
    free(d->buckets);
    d->buckets = buckets;
    d->n_buckets = n;
}

static struct producer *add(struct dedupe *d, const uint8_t id[DEDUPE_ID])
{
    if (d->count >= d->n_buckets) {
        grow(d);
    }
    struct producer *p = xcalloc(1, sizeof *p);
    memcpy(p->id, id, DEDUPE_ID);
    uint32_t i = id_hash(id) & (d->n_buckets - 1);
    p->chain = d->buckets[i];
    d->buckets[i] = p;
    list_append(d, p);
    d->count++;
    return p;
}

static bool expired(const struct dedupe *d, const struct producer *p, uint64_t time_ms)
{
    return p->window[p->n - 1].time_ms + d->expiry_ms < time_ms;
}

void dedupe_expire(struct dedupe *d, uint64_t time_ms)
{
    while (d->idlest != NULL && expired(d, d->idlest, time_ms)) {
        forget(d, d->idlest);
    }
}

void dedupe_set_bounds(struct dedupe *d, uint32_t producers_max, uint64_t expiry_ms)
{
    d->producers_max = producers_max;
    d->expiry_ms = expiry_ms;
    while (d->count > producers_max) {
        forget(d, d->idlest);
    }
}

/* The rule for a producer whose newest epoch and sequence are known. */
static enum dedupe_verdict judge(uint32_t epoch, uint64_t last, const struct dedupe_key *k)
{
    if (k->epoch < epoch) {
        return DEDUPE_FENCED;
    }
    if (k->epoch > epoch) {
        return k->sequence == 0 ? DEDUPE_NEW : DEDUPE_UNKNOWN;
    }
    if (k->sequence > last) {
        return k->sequence - last == 1 ? DEDUPE_NEW : DEDUPE_GAP;
    }
    return DEDUPE_DUPLICATE;
}

enum dedupe_verdict dedupe_decide(const struct dedupe *d, const struct dedupe_key *k, uint64_t time_ms, struct dedupe_numbers *numbers)
{
    const struct producer *p = find(d, k->id);
    if (p == NULL || expired(d, p, time_ms)) {
        return k->sequence == 0 ? DEDUPE_NEW : DEDUPE_UNKNOWN;
    }
    enum dedupe_verdict v = judge(p->epoch, p->last, k);
    if (v == DEDUPE_DUPLICATE) {
        uint64_t back = p->last - k->sequence;
        if (back >= p->n) {
            return DEDUPE_OLD;
        }
        *numbers = p->window[p->n - 1 - back];
    }
    return v;
}

bool dedupe_record(struct dedupe *d, const struct dedupe_key *k, const struct dedupe_numbers *numbers)
{
    dedupe_expire(d, numbers->time_ms);
    bool consistent = true;
    struct producer *p = find(d, k->id);
    if (p == NULL) {
        /* Sequence 0, or a producer that was evicted between proposal and apply: what the leader took counts. */
        p = add(d, k->id);
    } else {
        consistent = judge(p->epoch, p->last, k) == DEDUPE_NEW;
        list_remove(d, p);
        list_append(d, p);
    }
    if (p->epoch != k->epoch || p->n == 0 || k->sequence != p->last + 1) {
        p->n = 0;
    }
    if (p->n == DEDUPE_WINDOW) {
        memmove(&p->window[0], &p->window[1], (DEDUPE_WINDOW - 1) * sizeof p->window[0]);
        p->n--;
    }
    p->window[p->n++] = *numbers;
    p->epoch = k->epoch;
    p->last = k->sequence;
    while (d->count > d->producers_max) {
        forget(d, d->idlest);
    }
    return consistent;
}

uint32_t dedupe_count(const struct dedupe *d)
{
    return d->count;
}

uint64_t dedupe_forgotten(const struct dedupe *d)
{
    return d->forgotten;
}

int dedupe_find(const struct dedupe *d, const uint8_t id[DEDUPE_ID], uint32_t *epoch, uint64_t *last)
{
    const struct producer *p = find(d, id);
    if (p == NULL) {
        return 0;
    }
    *epoch = p->epoch;
    *last = p->last;
    return 1;
}

/* ---- snapshot ---- */

enum { PRODUCER_FIXED = DEDUPE_ID + 4 + 8 + 1, NUMBERS_SIZE = 8 + 8 + 4 };

size_t dedupe_encoded_size(const struct dedupe *d)
{
    size_t n = 12;
    for (const struct producer *p = d->idlest; p != NULL; p = p->busier) {
        n += PRODUCER_FIXED + (size_t)p->n * NUMBERS_SIZE;
    }
    return n;
}

void dedupe_encode(const struct dedupe *d, uint8_t *out)
{
    put_u64(out, d->forgotten);
    put_u32(out + 8, d->count);
    out += 12;
    for (const struct producer *p = d->idlest; p != NULL; p = p->busier) {
        memcpy(out, p->id, DEDUPE_ID);
        put_u32(out + 16, p->epoch);
        put_u64(out + 20, p->last);
        out[28] = p->n;
        out += PRODUCER_FIXED;
        for (unsigned i = 0; i < p->n; i++, out += NUMBERS_SIZE) {
            put_u64(out, p->window[i].offset);
            put_u64(out + 8, p->window[i].time_ms);
            put_u32(out + 16, p->window[i].count);
        }
    }
}

size_t dedupe_decode(struct dedupe *d, const uint8_t *data, size_t n)
{
    sluice_assert(d->count == 0);
    if (n < 12) {
        return 0;
    }
    uint32_t count = get_u32(data + 8);
    size_t pos = 12;
    for (uint32_t i = 0; i < count; i++) {
        if (n - pos < PRODUCER_FIXED) {
            return 0;
        }
        const uint8_t *in = data + pos;
        unsigned window = in[28];
        uint64_t last = get_u64(in + 20);
        if (window == 0 || window > DEDUPE_WINDOW || window - 1 > last || find(d, in) != NULL) {
            return 0;
        }
        pos += PRODUCER_FIXED;
        if (n - pos < (size_t)window * NUMBERS_SIZE) {
            return 0;
        }
        struct producer *p = add(d, in);
        p->epoch = get_u32(in + 16);
        p->last = last;
        p->n = (uint8_t)window;
        for (unsigned w = 0; w < window; w++, pos += NUMBERS_SIZE) {
            p->window[w] = (struct dedupe_numbers){ .offset = get_u64(data + pos), .time_ms = get_u64(data + pos + 8), .count = get_u32(data + pos + 16) };
        }
    }
    d->forgotten = get_u64(data);
    return pos;
}

/* ---- in flight ---- */

static struct dedupe_pending **newest_slot(const struct dedupe_in_flight *f, const uint8_t id[DEDUPE_ID])
{
    struct dedupe_pending *const *slot = &f->buckets[id_hash(id) % DEDUPE_BUCKETS];
    while (*slot != NULL && memcmp((*slot)->key.id, id, DEDUPE_ID) != 0) {
        slot = &(*slot)->chain;
    }
    return (struct dedupe_pending **)slot;
}

enum dedupe_verdict dedupe_in_flight_decide(const struct dedupe_in_flight *f, const struct dedupe *d, const struct dedupe_key *k, uint64_t time_ms,
                                            struct dedupe_numbers *numbers, struct dedupe_pending **found)
{
    struct dedupe_pending *newest = *newest_slot(f, k->id);
    if (newest == NULL) {
        return dedupe_decide(d, k, time_ms, numbers);
    }
    enum dedupe_verdict v = judge(newest->key.epoch, newest->key.sequence, k);
    if (v != DEDUPE_DUPLICATE) {
        return v;
    }
    for (struct dedupe_pending *p = newest; p != NULL; p = p->older) {
        if (p->key.epoch == k->epoch && p->key.sequence == k->sequence) {
            *found = p;
            return DEDUPE_PENDING;
        }
    }
    /* Same epoch and below everything in flight: it was applied, if it is remembered at all. */
    v = dedupe_decide(d, k, time_ms, numbers);
    return v == DEDUPE_DUPLICATE ? v : DEDUPE_OLD;
}

void dedupe_in_flight_add(struct dedupe_in_flight *f, struct dedupe_pending *p)
{
    sluice_assert(!p->linked);
    struct dedupe_pending **slot = newest_slot(f, p->key.id);
    struct dedupe_pending *before = *slot;
    p->older = before;
    p->newer = NULL;
    p->chain = before != NULL ? before->chain : NULL;
    if (before != NULL) {
        before->newer = p;
        before->chain = NULL;
    }
    *slot = p;
    p->linked = true;
}

void dedupe_in_flight_remove(struct dedupe_in_flight *f, struct dedupe_pending *p)
{
    if (!p->linked) {
        return;
    }
    if (p->newer != NULL) {
        p->newer->older = p->older;
    } else {
        struct dedupe_pending **slot = newest_slot(f, p->key.id);
        sluice_assert(*slot == p);
        if (p->older != NULL) {
            p->older->chain = p->chain;
            *slot = p->older;
        } else {
            *slot = p->chain;
        }
    }
    if (p->older != NULL) {
        p->older->newer = p->newer;
    }
    p->older = p->newer = p->chain = NULL;
    p->linked = false;
}

void dedupe_in_flight_clear(struct dedupe_in_flight *f)
{
    for (unsigned i = 0; i < DEDUPE_BUCKETS; i++) {
        while (f->buckets[i] != NULL) {
            dedupe_in_flight_remove(f, f->buckets[i]);
        }
    }
}
