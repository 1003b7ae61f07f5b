/* Merging shards by arrival time: a heap of the sources that have a batch waiting. */
#include "client/merge.h"

#include <stdlib.h>

#include "proto/base.h"

enum source_state { SOURCE_LIVE, SOURCE_WAITS, SOURCE_IDLE, SOURCE_ENDED };

struct source {
    uint32_t shard;
    enum source_state state;
    struct merge_block *head, **end;
    size_t bytes;
};

struct merge {
    struct source **sources;
    unsigned n, cap;
    unsigned *heap; /* sources with a head, the earliest first */
    unsigned n_heap;
    unsigned blocking; /* LIVE ones without a head */
    unsigned not_ended;
};

struct merge_block *merge_block_copy(const struct sluice_records *r)
{
    size_t bytes = 0;
    for (size_t i = 0; i < r->n; i++) {
        bytes += r->v[i].key_len + r->v[i].data_len;
    }
    struct merge_block *b = xmalloc(sizeof *b + r->n * sizeof *b->v + bytes);
    *b = (struct merge_block){.time_ms = r->time_ms, .shard_created_s = r->shard_created_s, .shard = r->shard, .n = r->n, .bytes = bytes,
                              .v = (struct batch_record *)(void *)(b + 1)};
    uint8_t *p = (uint8_t *)(b->v + r->n);
    for (size_t i = 0; i < r->n; i++) {
        b->v[i] = r->v[i];
        b->v[i].key = memcpy(p, r->v[i].key, r->v[i].key_len);
        p += r->v[i].key_len;
        b->v[i].data = p;
        if (r->v[i].data_len > 0) {
            memcpy(p, r->v[i].data, r->v[i].data_len);
        }
        p += r->v[i].data_len;
    }
    return b;
}

struct merge *merge_open(void)
{
    return xcalloc(1, sizeof(struct merge));
}

void merge_close(struct merge *m)
{
    for (unsigned i = 0; i < m->n; i++) {
        for (struct merge_block *b; (b = m->sources[i]->head) != NULL;) {
            m->sources[i]->head = b->next;
            free(b);
        }
        free(m->sources[i]);
    }
    free(m->sources);
    free(m->heap);
    free(m);
}

/* ---- the heap -------------------------------------------------------------------------------------------------------------- */

static bool before(const struct merge *m, unsigned a, unsigned b)
{
    const struct source *x = m->sources[a], *y = m->sources[b];
    return x->head->time_ms != y->head->time_ms ? x->head->time_ms < y->head->time_ms : x->shard < y->shard;
}

static void heap_down(struct merge *m)
{
    unsigned at = 0;
    while (true) {
        unsigned least = at, left = 2 * at + 1;
        for (unsigned child = left; child <= left + 1 && child < m->n_heap; child++) {
            if (before(m, m->heap[child], m->heap[least])) {
                least = child;
            }
        }
        if (least == at) {
            return;
        }
        unsigned other = m->heap[at];
        m->heap[at] = m->heap[least];
        m->heap[least] = other;
        at = least;
    }
}

static void heap_add(struct merge *m, unsigned source)
{
    unsigned at = m->n_heap++;
    m->heap[at] = source;
    while (at > 0 && before(m, m->heap[at], m->heap[(at - 1) / 2])) {
        unsigned up = (at - 1) / 2, other = m->heap[at];
        m->heap[at] = m->heap[up];
        m->heap[up] = other;
        at = up;
    }
}

/* ---- sources --------------------------------------------------------------------------------------------------------------- */

unsigned merge_source_add(struct merge *m, uint32_t shard)
{
    if (m->n == m->cap) {
        m->cap = m->cap == 0 ? 16 : m->cap * 2;
        m->sources = xrealloc(m->sources, m->cap * sizeof *m->sources);
        m->heap = xrealloc(m->heap, m->cap * sizeof *m->heap);
    }
    struct source *s = xcalloc(1, sizeof *s);
    s->shard = shard;
    s->end = &s->head;
    m->sources[m->n] = s;
    m->blocking++;
    m->not_ended++;
    return m->n++;
}

static void set_state(struct merge *m, struct source *s, enum source_state state)
{
    m->blocking -= s->state == SOURCE_LIVE && s->head == NULL;
    s->state = state;
    m->blocking += s->state == SOURCE_LIVE && s->head == NULL;
}

void merge_source_wait(struct merge *m, unsigned source, bool waits)
{
    set_state(m, m->sources[source], waits ? SOURCE_WAITS : SOURCE_LIVE);
}

void merge_source_idle(struct merge *m, unsigned source)
{
    if (m->sources[source]->state == SOURCE_LIVE) {
        set_state(m, m->sources[source], SOURCE_IDLE);
    }
}

void merge_source_end(struct merge *m, unsigned source)
{
    if (m->sources[source]->state != SOURCE_ENDED) {
        set_state(m, m->sources[source], SOURCE_ENDED);
        m->not_ended--;
    }
}

void merge_push(struct merge *m, unsigned source, struct merge_block *b)
{
    struct source *s = m->sources[source];
    bool first = s->head == NULL;
    b->next = NULL;
    m->blocking -= s->state == SOURCE_LIVE && first;
    s->state = s->state == SOURCE_IDLE ? SOURCE_LIVE : s->state;
    *s->end = b;
    s->end = &b->next;
    s->bytes += b->bytes;
    if (first) {
        heap_add(m, source);
    }
}

size_t merge_source_bytes(const struct merge *m, unsigned source)
{
    return m->sources[source]->bytes;
}

struct merge_block *merge_pop(struct merge *m, unsigned *source)
{
    if (m->blocking > 0 || m->n_heap == 0) {
        return NULL;
    }
    *source = m->heap[0];
    struct source *s = m->sources[*source];
    struct merge_block *b = s->head;
    s->head = b->next;
    s->bytes -= b->bytes;
    if (s->head == NULL) {
        s->end = &s->head;
        m->blocking += s->state == SOURCE_LIVE;
        m->heap[0] = m->heap[--m->n_heap];
    }
    heap_down(m);
    return b;
}

bool merge_ended(const struct merge *m)
{
    return m->not_ended == 0 && m->n_heap == 0;
}
