/* What the journal keeps in memory per group: the newest state records, and the truncates that still matter. */
#include <stdlib.h>

#include "storage/journal_impl.h"

static size_t group_at(const struct journal *j, uint64_t group)
{
    size_t lo = 0, hi = j->n_groups;
    while (lo < hi) {
        size_t mid = (lo + hi) / 2;
        if (j->groups[mid].group < group) {
            lo = mid + 1;
        } else {
            hi = mid;
        }
    }
    return lo;
}

static struct journal_group *group_find(const struct journal *j, uint64_t group)
{
    size_t i = group_at(j, group);
    return i < j->n_groups && j->groups[i].group == group ? &j->groups[i] : NULL;
}

struct journal_group *group_get(struct journal *j, uint64_t group)
{
    size_t i = group_at(j, group);
    if (i == j->n_groups || j->groups[i].group != group) {
        if (j->n_groups == j->cap_groups) {
            j->cap_groups = j->cap_groups > 0 ? 2 * j->cap_groups : 16;
            j->groups = xrealloc(j->groups, j->cap_groups * sizeof *j->groups);
        }
        memmove(j->groups + i + 1, j->groups + i, (j->n_groups - i) * sizeof *j->groups);
        memset(&j->groups[i], 0, sizeof j->groups[i]);
        j->groups[i].group = group;
        j->n_groups++;
    }
    return &j->groups[i];
}

static struct state_record *note_state(struct journal *j, uint64_t note)
{
    for (size_t i = 0; i < j->n_notes; i++) {
        if (j->notes[i].note == note) {
            return &j->notes[i].state;
        }
    }
    if (j->n_notes == j->cap_notes) {
        j->cap_notes = j->cap_notes > 0 ? 2 * j->cap_notes : 8;
        j->notes = xrealloc(j->notes, j->cap_notes * sizeof *j->notes);
    }
    j->notes[j->n_notes] = (struct journal_note_state){.note = note};
    return &j->notes[j->n_notes++].state;
}

struct state_record *state_of(struct journal *j, const struct jf_dirent *d)
{
    switch (d->kind) {
    case JOURNAL_TERM: return &group_get(j, d->group)->state[STATE_TERM];
    case JOURNAL_SNAPSHOT: return &group_get(j, d->group)->state[STATE_SNAPSHOT];
    case JOURNAL_TRIM: return &group_get(j, d->group)->state[STATE_TRIM];
    case JOURNAL_GROUP: return &group_get(j, d->group)->state[STATE_GROUP];
    case JOURNAL_NOTE: return note_state(j, d->a);
    default: return NULL;
    }
}

/* A removed group is remembered by its JOURNAL_GROUP record alone; the rest of its state need not be carried along for ever. */
static void drop_removed(struct journal *j, struct journal_group *g)
{
    for (size_t k = 0; k < STATE_SLOTS; k++) {
        struct state_record *r = &g->state[k];
        struct segment *s = k != STATE_GROUP && r->segment != 0 ? segment_find(j, r->segment) : NULL;
        if (s != NULL) {
            sluice_assert(s->live_states > 0);
            s->live_states--;
            free(r->data);
            r->data = NULL;
            r->segment = 0;
        }
    }
}

void state_note(struct journal *j, struct segment *s, const struct jf_dirent *d, const void *data, const struct iovec *parts, unsigned n_parts)
{
    struct state_record *r = state_of(j, d);
    if (r->segment != 0 && d->c < r->d.c) {
        return; /* a carried copy that was overtaken */
    }
    if (r->segment != 0) {
        struct segment *before = segment_find(j, r->segment);
        if (before != NULL) {
            sluice_assert(before->live_states > 0);
            before->live_states--;
        }
    }
    void *copy = NULL;
    if (d->len > 0) {
        copy = xmalloc(d->len);
        if (n_parts > 0) {
            size_t at = 0;
            for (unsigned i = 0; i < n_parts; i++) {
                memcpy((char *)copy + at, parts[i].iov_base, parts[i].iov_len);
                at += parts[i].iov_len;
            }
        } else {
            memcpy(copy, data, d->len); /* data may be r->data itself: freed only below */
        }
    }
    free(r->data);
    r->data = copy;
    r->d = *d;
    r->segment = s->number;
    s->live_states++;
    if (d->kind == JOURNAL_GROUP && d->b == 1) {
        drop_removed(j, group_get(j, d->group));
    }
}

static void truncate_place(struct journal *j, struct journal_truncate *t, struct segment *s)
{
    struct segment *before = segment_find(j, t->segment);
    if (before != NULL) {
        sluice_assert(before->live_truncates > 0);
        before->live_truncates--;
    }
    t->segment = s->number;
    s->live_truncates++;
}

void truncate_note(struct journal *j, struct segment *s, const struct jf_dirent *d)
{
    struct journal_group *g = group_get(j, d->group);
    for (unsigned i = 0; i < g->n_truncates; i++) {
        if (g->truncates[i].jseq == d->jseq) {
            truncate_place(j, &g->truncates[i], s);
            return;
        }
    }
    if (g->n_truncates == g->cap_truncates) {
        g->cap_truncates = g->cap_truncates > 0 ? 2 * g->cap_truncates : 4;
        g->truncates = xrealloc(g->truncates, g->cap_truncates * sizeof *g->truncates);
    }
    struct journal_truncate *t = &g->truncates[g->n_truncates++];
    *t = (struct journal_truncate){.index = d->index, .jseq = d->jseq};
    truncate_place(j, t, s);
    if ((d->flags & JF_CARRIED) == 0 && g->last_index >= d->index) {
        g->last_index = d->index - (d->index > 0 ? 1 : 0);
    }
}

static const struct segment_group *segment_group_find(const struct segment *s, uint64_t group)
{
    size_t lo = 0, hi = s->n_groups;
    while (lo < hi) {
        size_t mid = (lo + hi) / 2;
        if (s->groups[mid].group < group) {
            lo = mid + 1;
        } else {
            hi = mid;
        }
    }
    return lo < s->n_groups && s->groups[lo].group == group ? &s->groups[lo] : NULL;
}

bool truncate_is_live(const struct journal *j, uint64_t group, const struct journal_truncate *t)
{
    for (size_t i = 0; i < j->n_segments; i++) {
        const struct segment_group *g = segment_group_find(j->segments[i], group);
        if (g != NULL && g->index_max >= t->index && g->jseq_min < t->jseq) {
            return true;
        }
    }
    return false;
}

bool entry_is_truncated(const struct journal *j, const struct jf_dirent *d)
{
    const struct journal_group *g = d->kind == JOURNAL_ENTRY ? group_find(j, d->group) : NULL;
    for (unsigned i = 0; g != NULL && i < g->n_truncates; i++) {
        if (g->truncates[i].index <= d->index && g->truncates[i].jseq > d->jseq) {
            return true;
        }
    }
    return false;
}

void state_free_all(struct journal *j)
{
    for (size_t i = 0; i < j->n_groups; i++) {
        for (size_t k = 0; k < STATE_SLOTS; k++) {
            free(j->groups[i].state[k].data);
        }
        free(j->groups[i].truncates);
    }
    for (size_t i = 0; i < j->n_notes; i++) {
        free(j->notes[i].state.data);
    }
    free(j->groups);
    free(j->notes);
    j->groups = NULL;
    j->notes = NULL;
    j->n_groups = j->n_notes = 0;
}
