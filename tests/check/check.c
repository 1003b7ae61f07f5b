/* check.c: finds anomalies by sorting and sweeping; every check is linear after the sorts.
 *
 * For each shard: F = the longest final; every other final must be a prefix of it (1). Then acks, reads and finals are joined on (shard, offset) (2, 3, 6) and on
 * value (4, 5), and the sweeps over time follow (10, 12). */
#include "tests/check/check_judge.h"

#include "proto/base.h"

#include <stdarg.h>
#include <stdlib.h>

#define GROW(array, n, cap) \
    do { \
        if ((n) == (cap)) { \
            (cap) = (cap) ? (cap)*2 : 64; \
            (array) = xrealloc((array), (cap) * sizeof *(array)); \
        } \
    } while (0)

void history_init(struct history *h) { memset(h, 0, sizeof *h); }

void history_deinit(struct history *h)
{
    free(h->puts);
    free(h->reads);
    free(h->finals);
    free(h->records);
    free(h->shards);
    memset(h, 0, sizeof *h);
}

void history_put(struct history *h, const struct check_put *p)
{
    GROW(h->puts, h->n_puts, h->cap_puts);
    h->puts[h->n_puts++] = *p;
}

void history_shard(struct history *h, const struct check_shard *s)
{
    GROW(h->shards, h->n_shards, h->cap_shards);
    h->shards[h->n_shards++] = *s;
}

static size_t add_records(struct history *h, const struct check_record *records, size_t n)
{
    size_t first = h->n_records;
    if (h->n_records + n > h->cap_records) {
        h->cap_records = (h->n_records + n) * 2;
        h->records = xrealloc(h->records, h->cap_records * sizeof *h->records);
    }
    if (n > 0) {
        memcpy(h->records + first, records, n * sizeof *records);
    }
    h->n_records += n;
    return first;
}

void history_read(struct history *h, struct check_read r, const struct check_record *records, size_t n)
{
    r.first = add_records(h, records, n);
    r.n = n;
    GROW(h->reads, h->n_reads, h->cap_reads);
    h->reads[h->n_reads++] = r;
}

void history_final(struct history *h, struct check_final f, const struct check_record *records, size_t n)
{
    f.first = add_records(h, records, n);
    f.n = n;
    GROW(h->finals, h->n_finals, h->cap_finals);
    h->finals[h->n_finals++] = f;
}

void anomaly(struct judge *j, unsigned kind, const char *format, ...)
{
    j->s->anomalies++;
    j->s->by_kind[kind]++;
    if (j->out != NULL && j->s->anomalies <= 20) {
        va_list args;
        va_start(args, format);
        fprintf(j->out, "anomaly %u: ", kind);
        vfprintf(j->out, format, args);
        fputc('\n', j->out);
        va_end(args);
    }
}

typedef unsigned long long ull;

const struct check_final *check_final_of(const struct history *h, uint32_t shard)
{
    const struct check_final *best = NULL;
    for (size_t i = 0; i < h->n_finals; i++) {
        const struct check_final *f = &h->finals[i];
        if (f->shard == shard && (best == NULL || f->trim + f->n > best->trim + best->n ||
                                  (f->trim + f->n == best->trim + best->n && f->n > best->n))) {
            best = f;
        }
    }
    return best;
}

static const struct check_record *final_record(const struct history *h, const struct check_final *f, uint64_t offset)
{
    if (f == NULL || offset < f->trim || offset - f->trim >= f->n) {
        return NULL;
    }
    return &h->records[f->first + (offset - f->trim)];
}

static void check_finals(struct judge *j)
{
    const struct history *h = j->h;
    for (size_t i = 0; i < h->n_finals; i++) {
        const struct check_final *f = &h->finals[i];
        j->s->records_final += f->n;
        bool contiguous = true;
        for (size_t k = 0; k < f->n && contiguous; k++) {
            if (h->records[f->first + k].offset != f->trim + k) {
                anomaly(j, 7, "shard %u on node %u: record %zu of the final log has offset %llu, not %llu", f->shard, f->node, k,
                        (ull)h->records[f->first + k].offset, (ull)(f->trim + k));
                contiguous = false;
            }
        }
        const struct check_final *best = check_final_of(h, f->shard);
        if (best == f || !contiguous) {
            continue;
        }
        uint64_t from = max_u64(f->trim, best->trim);
        for (uint64_t o = from; o < f->trim + f->n; o++) {
            const struct check_record *a = final_record(h, f, o), *b = final_record(h, best, o);
            if (b == NULL || a->value != b->value) {
                anomaly(j, 1, "shard %u offset %llu: node %u has %llu, node %u has %llu", f->shard, (ull)o, f->node, (ull)a->value,
                        best->node, b != NULL ? (ull)b->value : 0ull);
                break;
            }
        }
        if (f->trim + f->n < best->trim + best->n) {
            anomaly(j, 1, "shard %u: node %u ends at %llu, node %u at %llu after healing", f->shard, f->node, (ull)(f->trim + f->n),
                    best->node, (ull)(best->trim + best->n));
        }
    }
}

/* Puts by value. */
static int by_value(const void *a, const void *b)
{
    uint64_t x = (*(const struct check_put *const *)a)->value, y = (*(const struct check_put *const *)b)->value;
    return x < y ? -1 : x > y;
}

struct put_index { size_t n; const struct check_put **order; };

static const struct check_put *put_of(const struct put_index *x, uint64_t value)
{
    size_t low = 0, high = x->n;
    while (low < high) {
        size_t mid = (low + high) / 2;
        uint64_t v = x->order[mid]->value;
        if (v == value) {
            return x->order[mid];
        }
        if (v < value) {
            low = mid + 1;
        } else {
            high = mid;
        }
    }
    return NULL;
}

static void check_record_has_put(struct judge *j, const struct put_index *x, uint32_t shard, const struct check_record *r, const char *where)
{
    const struct check_put *p = put_of(x, r->value);
    if (p == NULL) {
        anomaly(j, 4, "%s of shard %u holds value %llu at %llu that nobody put", where, shard, (ull)r->value, (ull)r->offset);
    } else if (p->result == CHECK_FAIL) {
        anomaly(j, 4, "%s of shard %u holds value %llu at %llu whose put surely failed", where, shard, (ull)r->value, (ull)r->offset);
    } else if (p->result == CHECK_OK && (p->shard != shard || p->offset != r->offset)) {
        anomaly(j, p->shard == shard ? 3 : 5, "value %llu was acknowledged at shard %u offset %llu and is at shard %u offset %llu in a %s",
                (ull)r->value, p->shard, (ull)p->offset, shard, (ull)r->offset, where);
    }
}

static void check_puts(struct judge *j)
{
    const struct history *h = j->h;
    for (size_t i = 0; i < h->n_puts; i++) {
        const struct check_put *p = &h->puts[i];
        if (p->result == CHECK_OK) {
            j->s->acked++;
            const struct check_final *f = check_final_of(h, p->shard);
            if (f == NULL || p->offset < f->trim) {
                continue;
            }
            const struct check_record *r = final_record(h, f, p->offset);
            if (r == NULL) {
                anomaly(j, 2, "acknowledged value %llu at shard %u offset %llu is lost (the log ends at %llu)", (ull)p->value, p->shard,
                        (ull)p->offset, (ull)(f->trim + f->n));
            } else if (r->value != p->value) {
                anomaly(j, 2, "acknowledged value %llu at shard %u offset %llu: the log holds %llu there", (ull)p->value, p->shard,
                        (ull)p->offset, (ull)r->value);
            }
        } else if (p->result == CHECK_FAIL) {
            j->s->failed++;
        } else {
            j->s->unknown++;
        }
    }
}

struct seen { uint64_t value, offset; uint32_t shard; };
static int by_seen(const void *a, const void *b)
{
    const struct seen *x = a, *y = b;
    if (x->value != y->value) {
        return x->value < y->value ? -1 : 1;
    }
    if (x->shard != y->shard) {
        return x->shard < y->shard ? -1 : 1;
    }
    return x->offset < y->offset ? -1 : x->offset > y->offset;
}

/* 5: a value stands at one place only, over all shards. */
static void check_duplicates(struct judge *j, const struct put_index *x)
{
    const struct history *h = j->h;
    struct seen *all = xmalloc((h->n_records + 1) * sizeof *all);
    size_t n = 0;
    for (size_t i = 0; i < h->n_finals; i++) {
        const struct check_final *f = &h->finals[i];
        if (check_final_of(h, f->shard) == f) {
            for (size_t k = 0; k < f->n; k++) {
                all[n++] = (struct seen){h->records[f->first + k].value, h->records[f->first + k].offset, f->shard};
            }
        }
    }
    qsort(all, n, sizeof *all, by_seen);
    for (size_t i = 1; i < n; i++) {
        if (all[i].value == all[i - 1].value) {
            const struct check_put *p = put_of(x, all[i].value);
            if (p == NULL || p->idempotent) {
                anomaly(j, 5, "value %llu stands at shard %u offset %llu and at shard %u offset %llu", (ull)all[i].value, all[i - 1].shard,
                        (ull)all[i - 1].offset, all[i].shard, (ull)all[i].offset);
            }
        }
    }
    free(all);
}

static void check_reads(struct judge *j, const struct put_index *x)
{
    const struct history *h = j->h;
    for (size_t i = 0; i < h->n_reads; i++) {
        const struct check_read *r = &h->reads[i];
        if (r->result != CHECK_OK) {
            continue;
        }
        j->s->records_read += r->n;
        const struct check_final *f = check_final_of(h, r->shard);
        for (size_t k = 0; k < r->n; k++) {
            const struct check_record *rec = &h->records[r->first + k];
            if (k > 0 && rec->offset <= rec[-1].offset) {
                anomaly(j, 7, "a read of shard %u goes from offset %llu to %llu", r->shard, (ull)rec[-1].offset, (ull)rec->offset);
            } else if (k > 0 && rec->offset != rec[-1].offset + 1) {
                anomaly(j, 8, "a read of shard %u skips from offset %llu to %llu", r->shard, (ull)rec[-1].offset, (ull)rec->offset);
            }
            check_record_has_put(j, x, r->shard, rec, "read");
            if (f != NULL && rec->offset >= f->trim) {
                const struct check_record *last = final_record(h, f, rec->offset);
                if (last == NULL) {
                    anomaly(j, 6, "value %llu read at shard %u offset %llu vanished", (ull)rec->value, r->shard, (ull)rec->offset);
                } else if (last->value != rec->value) {
                    anomaly(j, 3, "shard %u offset %llu was read as %llu and is %llu in the end", r->shard, (ull)rec->offset,
                            (ull)rec->value, (ull)last->value);
                }
            }
        }
        if (r->n > 0 && r->from != UINT64_MAX && h->records[r->first].offset != r->from) {
            anomaly(j, 8, "a read of shard %u from offset %llu began at %llu", r->shard, (ull)r->from, (ull)h->records[r->first].offset);
        }
        if (r->closed && f != NULL) {
            uint64_t end = r->n > 0 ? h->records[r->first + r->n - 1].offset + 1 : r->from;
            if (!f->closed || end != f->trim + f->n) {
                anomaly(j, 9, "shard %u was called closed at offset %llu", r->shard, (ull)end);
            }
        }
    }
}

/* 8: within a session each read goes on where the one before ended. Reads of a session stand in the history in their order. */
static int by_session(const void *a, const void *b)
{
    const struct check_read *x = *(const struct check_read *const *)a, *y = *(const struct check_read *const *)b;
    if (x->process != y->process) {
        return x->process < y->process ? -1 : 1;
    }
    if (x->session != y->session) {
        return x->session < y->session ? -1 : 1;
    }
    return x < y ? -1 : x > y;
}

static void check_sessions(struct judge *j)
{
    const struct history *h = j->h;
    const struct check_read **order = xmalloc((h->n_reads + 1) * sizeof *order);
    size_t n = 0;
    for (size_t i = 0; i < h->n_reads; i++) {
        if (h->reads[i].result == CHECK_OK && h->reads[i].n > 0 && h->reads[i].session != 0) {
            order[n++] = &h->reads[i];
        }
    }
    qsort(order, n, sizeof *order, by_session);
    for (size_t i = 1; i < n; i++) {
        const struct check_read *a = order[i - 1], *b = order[i];
        if (a->process == b->process && a->session == b->session) {
            uint64_t end = h->records[a->first + a->n - 1].offset + 1, start = h->records[b->first].offset;
            if (start != end) {
                anomaly(j, 8, "session %u of process %u on shard %u ended a read at %llu and began the next at %llu", b->session, b->process,
                        b->shard, (ull)end, (ull)start);
            }
        }
    }
    free(order);
}

struct timed { uint64_t at; int kind; uint64_t offset; uint32_t shard; };
static int by_time(const void *a, const void *b)
{
    const struct timed *x = a, *y = b;
    if (x->shard != y->shard) {
        return x->shard < y->shard ? -1 : 1;
    }
    if (x->at != y->at) {
        return x->at < y->at ? -1 : 1;
    }
    return x->kind < y->kind ? -1 : x->kind > y->kind;
}

/* 12: a fresh read that claims the tail has seen everything that was acknowledged, or read fresh, before it began. */
static void check_fresh(struct judge *j)
{
    const struct history *h = j->h;
    enum { START, ACKED };
    struct timed *t = xmalloc((h->n_puts + 2 * h->n_reads + 1) * sizeof *t);
    size_t n = 0;
    for (size_t i = 0; i < h->n_puts; i++) {
        if (h->puts[i].result == CHECK_OK) {
            t[n++] = (struct timed){h->puts[i].end, ACKED, h->puts[i].offset + 1, h->puts[i].shard};
        }
    }
    for (size_t i = 0; i < h->n_reads; i++) {
        const struct check_read *r = &h->reads[i];
        if (r->result == CHECK_OK && r->fresh && r->tail) {
            uint64_t end = r->n > 0 ? h->records[r->first + r->n - 1].offset + 1 : r->from;
            t[n++] = (struct timed){r->start, START, end, r->shard};
            t[n++] = (struct timed){r->end, ACKED, end, r->shard};
        }
    }
    qsort(t, n, sizeof *t, by_time);
    uint64_t top = 0;
    for (size_t i = 0; i < n; i++) {
        if (i > 0 && t[i].shard != t[i - 1].shard) {
            top = 0;
        }
        if (t[i].kind == ACKED) {
            top = max_u64(top, t[i].offset);
        } else if (t[i].offset != UINT64_MAX && t[i].offset < top) {
            anomaly(j, 12, "a fresh read of shard %u saw the end at %llu although %llu was acknowledged before it began", t[i].shard,
                    (ull)t[i].offset, (ull)top);
        }
    }
    free(t);
}

static int by_offset(const void *a, const void *b)
{
    const struct check_put *x = *(const struct check_put *const *)a, *y = *(const struct check_put *const *)b;
    if (x->shard != y->shard) {
        return x->shard < y->shard ? -1 : 1;
    }
    return x->offset < y->offset ? -1 : x->offset > y->offset;
}
static int by_client_order(const void *a, const void *b)
{
    const struct check_put *x = *(const struct check_put *const *)a, *y = *(const struct check_put *const *)b;
    if (x->shard != y->shard) {
        return x->shard < y->shard ? -1 : 1;
    }
    if (x->process != y->process) {
        return x->process < y->process ? -1 : 1;
    }
    return x->order < y->order ? -1 : x->order > y->order;
}

/* 3 (two acks for one place), 10 (real-time order) and 7 (a client's own order per shard). */
static void check_order(struct judge *j)
{
    const struct history *h = j->h;
    const struct check_put **order = xmalloc((h->n_puts + 1) * sizeof *order);
    size_t n = 0;
    for (size_t i = 0; i < h->n_puts; i++) {
        if (h->puts[i].result == CHECK_OK) {
            order[n++] = &h->puts[i];
        }
    }
    qsort(order, n, sizeof *order, by_offset);
    uint64_t least_end = UINT64_MAX;
    for (size_t i = n; i-- > 0;) {
        if (i + 1 < n && order[i]->shard != order[i + 1]->shard) {
            least_end = UINT64_MAX;
        } else if (i + 1 < n && order[i]->offset == order[i + 1]->offset) {
            anomaly(j, 3, "values %llu and %llu were both acknowledged at shard %u offset %llu", (ull)order[i]->value,
                    (ull)order[i + 1]->value, order[i]->shard, (ull)order[i]->offset);
        }
        if (order[i]->start > least_end) {
            anomaly(j, 10, "value %llu at shard %u offset %llu began after a later record had been acknowledged", (ull)order[i]->value,
                    order[i]->shard, (ull)order[i]->offset);
        }
        least_end = min_u64(least_end, order[i]->end);
    }
    qsort(order, n, sizeof *order, by_client_order);
    for (size_t i = 1; i < n; i++) {
        const struct check_put *a = order[i - 1], *b = order[i];
        /* What a child gets at a merge comes out of two queues: there only the order of each key counts (11). */
        if (a->shard == b->shard && a->process == b->process && a->order != 0 && b->order != 0 && a->offset >= b->offset && !check_is_child(h, a->shard)) {
            anomaly(j, 7, "process %u sent value %llu before %llu to shard %u but they stand at %llu and %llu", a->process, (ull)a->value,
                    (ull)b->value, a->shard, (ull)a->offset, (ull)b->offset);
        }
    }
    free(order);
}

void check(const struct history *h, struct check_summary *s, FILE *out)
{
    memset(s, 0, sizeof *s);
    struct judge j = {h, s, out};
    struct put_index x = {h->n_puts, xmalloc((h->n_puts + 1) * sizeof(void *))};
    for (size_t i = 0; i < h->n_puts; i++) {
        x.order[i] = &h->puts[i];
    }
    qsort(x.order, h->n_puts, sizeof *x.order, by_value);
    check_finals(&j);
    check_puts(&j);
    for (size_t i = 0; i < h->n_finals; i++) {
        const struct check_final *f = &h->finals[i];
        if (check_final_of(h, f->shard) == f) {
            for (size_t k = 0; k < f->n; k++) {
                check_record_has_put(&j, &x, f->shard, &h->records[f->first + k], "final log");
            }
        }
    }
    check_duplicates(&j, &x);
    check_reads(&j, &x);
    check_sessions(&j);
    check_order(&j);
    check_fresh(&j);
    check_lineage(&j);
    free(x.order);
}
