#include <errno.h>
#include <stdlib.h>

#include "storage/journal_impl.h"

/* The records of all segments, ordered by jseq, make every group's state again. Copies of a record have the same jseq: the best one counts, at the
 * record's own time, wherever it lies (F1). */

struct stored {
    struct recovered_entry e;
    uint64_t jseq;
};
struct stored_list {
    struct stored *items;
    size_t n, cap;
};
struct replay_group {
    uint64_t group;
    struct stored_list entries, batches;
    bool state_damaged;
};
struct replay_groups {
    struct replay_group *items;
    size_t n, cap;
};

void replay_add(struct replay *r, const struct jf_dirent *d, struct segment *s, bool damaged)
{
    if (r->n == r->cap) {
        r->cap = r->cap > 0 ? 2 * r->cap : 1024;
        r->entries = xrealloc(r->entries, r->cap * sizeof *r->entries);
    }
    r->entries[r->n++] = (struct replay_entry){.d = *d, .segment = s, .damaged = damaged};
}

void replay_free(struct replay *r)
{
    free(r->entries);
    r->entries = NULL;
    r->n = r->cap = 0;
}

/* Of equal jseq the best copy comes last: undamaged, in the newest segment. */
static int compare_replay(const void *a, const void *b)
{
    const struct replay_entry *x = a, *y = b;
    if (x->d.jseq != y->d.jseq) {
        return x->d.jseq < y->d.jseq ? -1 : 1;
    }
    if (x->damaged != y->damaged) {
        return x->damaged ? -1 : 1;
    }
    if (x->segment->number != y->segment->number) {
        return x->segment->number < y->segment->number ? -1 : 1;
    }
    return x->d.pos < y->d.pos ? -1 : x->d.pos > y->d.pos;
}

static struct replay_group *replay_group_get(struct replay_groups *gs, uint64_t group)
{
    size_t lo = 0, hi = gs->n;
    while (lo < hi) {
        size_t mid = (lo + hi) / 2;
        if (gs->items[mid].group < group) {
            lo = mid + 1;
        } else {
            hi = mid;
        }
    }
    if (lo == gs->n || gs->items[lo].group != group) {
        if (gs->n == gs->cap) {
            gs->cap = gs->cap > 0 ? 2 * gs->cap : 64;
            gs->items = xrealloc(gs->items, gs->cap * sizeof *gs->items);
        }
        memmove(gs->items + lo + 1, gs->items + lo, (gs->n - lo) * sizeof *gs->items);
        memset(&gs->items[lo], 0, sizeof gs->items[lo]);
        gs->items[lo].group = group;
        gs->n++;
    }
    return &gs->items[lo];
}

static void push(struct stored_list *l, const struct replay_entry *p)
{
    if (l->n == l->cap) {
        l->cap = l->cap > 0 ? 2 * l->cap : 16;
        l->items = xrealloc(l->items, l->cap * sizeof *l->items);
    }
    const struct jf_dirent *d = &p->d;
    l->items[l->n++] = (struct stored){
        .e = {.index = d->index, .term = d->term, .a = d->a, .b = d->b, .c = d->c, .crc = d->crc, .type = d->type, .damaged = p->damaged,
              .place = {.segment = p->segment->number, .pos = d->pos, .len = d->len, .crc = d->crc}},
        .jseq = d->jseq,
    };
}

static void cut_from(struct stored_list *l, uint64_t index)
{
    while (l->n > 0 && l->items[l->n - 1].e.index >= index) {
        l->n--;
    }
}

static void replay_one(struct journal *j, struct replay_groups *gs, const struct replay_entry *p)
{
    const struct jf_dirent *d = &p->d;
    if (d->kind > JOURNAL_NOTE) {
        return;
    }
    if (kind_is_state(d->kind)) {
        struct state_record *r = state_of(j, d);
        if (r->segment == 0 || d->c >= r->d.c) {
            r->d = *d;
            r->segment = p->segment->number;
        }
        if (d->kind != JOURNAL_NOTE) {
            replay_group_get(gs, d->group);
        }
        return;
    }
    struct replay_group *g = replay_group_get(gs, d->group);
    if (d->kind == JOURNAL_ENTRY) {
        cut_from(&g->entries, d->index);
        push(&g->entries, p);
    } else if (d->kind == JOURNAL_TRUNCATE) {
        cut_from(&g->entries, d->index);
    } else {
        push(&g->batches, p);
    }
}

/* Bytes of the newest state record. False: damaged. */
static bool load_state(struct journal *j, struct state_record *r)
{
    if (r->segment == 0) {
        return true;
    }
    struct segment *s = segment_find(j, r->segment);
    sluice_assert(s != NULL);
    s->live_states++;
    if (r->d.len == 0) {
        return true;
    }
    r->data = malloc(r->d.len);
    return r->data != NULL && journal_pread(j, s, r->data, r->d.len, r->d.pos, r->d.crc) == 0;
}

static struct place state_place(const struct state_record *r)
{
    return (struct place){.segment = r->segment, .pos = r->d.pos, .len = r->d.len, .crc = r->d.crc};
}

static int compare_batches(const void *a, const void *b)
{
    const struct stored *x = a, *y = b;
    if (x->e.a != y->e.a) {
        return x->e.a < y->e.a ? -1 : 1;
    }
    if (x->e.damaged != y->e.damaged) {
        return x->e.damaged ? 1 : -1;
    }
    return x->jseq > y->jseq ? -1 : x->jseq < y->jseq;
}

static int compare_offsets(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return x < y ? -1 : x > y;
}

/* Batches that say no more than an entry that is surely committed, or than another batch, go. */
static void unique_batches(struct replay_group *g, uint64_t snapshot_index)
{
    if (g->batches.n == 0) {
        return;
    }
    qsort(g->batches.items, g->batches.n, sizeof *g->batches.items, compare_batches);
    uint64_t *offsets = xmalloc((g->entries.n + 1) * sizeof *offsets);
    size_t n = 0;
    for (size_t i = 0; i < g->entries.n; i++) {
        const struct recovered_entry *e = &g->entries.items[i].e;
        if (e->index <= snapshot_index && e->b > 0 && !e->damaged) {
            offsets[n++] = e->a;
        }
    }
    qsort(offsets, n, sizeof *offsets, compare_offsets);
    size_t kept = 0;
    for (size_t i = 0; i < g->batches.n; i++) {
        const struct stored *b = &g->batches.items[i];
        bool again = kept > 0 && g->batches.items[kept - 1].e.a == b->e.a;
        if (!again && (n == 0 || bsearch(&b->e.a, offsets, n, sizeof *offsets, compare_offsets) == NULL)) {
            g->batches.items[kept++] = *b;
        }
    }
    g->batches.n = kept;
    free(offsets);
}

static struct recovered_entry *hand_over(const struct stored_list *l)
{
    struct recovered_entry *e = xcalloc(l->n, sizeof *e);
    for (size_t i = 0; i < l->n; i++) {
        e[i] = l->items[i].e;
    }
    return e;
}

static void finish_group(struct journal *j, struct replay_group *g, uint64_t lost_below, struct recovered_group *out)
{
    struct journal_group *own = group_get(j, g->group);
    const struct state_record *term = &own->state[STATE_TERM], *snapshot = &own->state[STATE_SNAPSHOT];
    const struct state_record *trim = &own->state[STATE_TRIM], *group = &own->state[STATE_GROUP];
    out->group = g->group;
    out->raft_id = group->d.a;
    out->removed = group->d.b == 1;
    out->group_data = state_place(group);
    out->has_term = term->segment != 0;
    out->term = term->d.a;
    out->vote = term->d.b;
    out->has_snapshot = snapshot->segment != 0;
    out->snapshot_index = snapshot->d.index;
    out->snapshot_term = snapshot->d.term;
    out->snapshot = state_place(snapshot);
    out->trim = trim->d.a;
    out->lost = g->state_damaged;
    /* Entries above the snapshot follow each other; what comes behind a hole is of no use. */
    size_t n = 0;
    bool newer = true;
    while (n < g->entries.n) {
        const struct stored *s = &g->entries.items[n];
        const struct stored *before = n > 0 ? &g->entries.items[n - 1] : NULL;
        if (s->e.index > out->snapshot_index) {
            bool follows = before == NULL || before->e.index <= out->snapshot_index ? !out->has_snapshot || s->e.index == out->snapshot_index + 1
                                                                                  : s->e.index == before->e.index + 1;
            if (!follows) {
                out->lost = true;
                break;
            }
            newer = newer && s->jseq >= lost_below;
        }
        n++;
    }
    g->entries.n = n;
    if (lost_below > 0 && !(term->segment != 0 && term->d.jseq >= lost_below && snapshot->segment != 0 && snapshot->d.jseq >= lost_below && newer)) {
        out->lost = true; /* F6: what was there may have been this group's term, vote or truncate */
    }
    /* A replica that was removed has nothing to lose; but where its note lies before the damage, a newer life of it may have come and be lost. */
    out->lost = out->lost && (!out->removed || group->d.jseq < lost_below);
    own->last_index = n > 0 ? max_u64(g->entries.items[n - 1].e.index, out->snapshot_index) : out->snapshot_index;
    unique_batches(g, out->snapshot_index);
    out->entries = hand_over(&g->entries);
    out->n_entries = g->entries.n;
    out->batches = hand_over(&g->batches);
    out->n_batches = g->batches.n;
}

static int compare_notes(const void *a, const void *b)
{
    const struct recovered_note *x = a, *y = b;
    return x->note < y->note ? -1 : x->note > y->note;
}

int replay_run(struct journal *j, struct replay *r, struct recovered *rec)
{
    struct replay_groups gs = {0};
    if (r->n > 0) {
        qsort(r->entries, r->n, sizeof *r->entries, compare_replay);
    }
    for (size_t i = 0; i < r->n; i++) {
        struct replay_entry *p = &r->entries[i];
        if (p->segment->state != SEGMENT_ACTIVE) {
            segment_note(p->segment, &p->d); /* what is in the active one was noted when it was put there */
        }
        if (p->d.kind == JOURNAL_TRUNCATE) {
            truncate_note(j, p->segment, &p->d);
        }
        if (i + 1 == r->n || r->entries[i + 1].d.jseq != p->d.jseq) {
            replay_one(j, &gs, p);
        }
    }
    for (size_t i = 0; i < j->n_groups; i++) {
        for (size_t k = 0; k < STATE_SLOTS; k++) {
            if (!load_state(j, &j->groups[i].state[k])) {
                replay_group_get(&gs, j->groups[i].group)->state_damaged = true;
            }
        }
    }
    rec->gaps = r->lost_below > 0;
    rec->groups = xcalloc(gs.n, sizeof *rec->groups);
    rec->n_groups = gs.n;
    for (size_t i = 0; i < gs.n; i++) {
        finish_group(j, &gs.items[i], r->lost_below, &rec->groups[i]);
        free(gs.items[i].entries.items);
        free(gs.items[i].batches.items);
    }
    free(gs.items);
    rec->notes = xcalloc(j->n_notes, sizeof *rec->notes);
    for (size_t i = 0; i < j->n_notes; i++) {
        struct state_record *s = &j->notes[i].state;
        if (!load_state(j, s)) {
            continue; /* a damaged note is as good as none; what it said is asked for again */
        }
        rec->notes[rec->n_notes++] = (struct recovered_note){.note = j->notes[i].note, .index = s->d.index, .term = s->d.term, .b = s->d.b, .place = state_place(s)};
    }
    if (rec->n_notes > 1) {
        qsort(rec->notes, rec->n_notes, sizeof *rec->notes, compare_notes);
    }
    return 0;
}

void journal_recovered_free(struct recovered *rec)
{
    if (rec == NULL) {
        return;
    }
    for (size_t i = 0; i < rec->n_groups; i++) {
        free(rec->groups[i].entries);
        free(rec->groups[i].batches);
    }
    free(rec->groups);
    free(rec->notes);
    free(rec);
}
