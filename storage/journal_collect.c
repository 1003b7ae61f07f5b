#include <errno.h>
#include <stdlib.h>

#include "proto/crc32c.h"
#include "storage/journal_impl.h"

/* Freeing and carrying forward.
 *
 *   sealed -> (all dead) ------------------------------------------> free record appended -> it is durable -> no pins -> pool
 *          -> (little is alive) -> directory read -> copies appended ^ (behind the copies in the journal, so durable after them)
 *
 * One segment is carried at a time, JOURNAL_CARRY_PER_CALL bytes per journal_collect(). State records and truncates are written from memory, the
 * rest is read from the segment (READ queue) and checked; a copy that does not match its checksum ends the attempt and the segment stays. */

enum carry_state {
    CARRY_DIR,    /* reading the footer */
    CARRY_PARKED, /* the budget of this call is used up, or nothing was started yet */
    CARRY_READ,   /* reading a record */
    CARRY_SETTLE  /* all copies are appended; waiting until the last one is durable */
};

struct carry {
    enum carry_state state;
    struct journal *journal;
    struct segment *segment;
    uint8_t *footer;
    size_t footer_len;
    struct jf_dirent *dir;   /* own copy */
    size_t n_dir, next;
    uint64_t budget;
    struct carried *reading;
    struct env_io io;
    struct iovec iov;
    struct journal_append settle;
};

/* One copy on its way: freed when it is durable. */
struct carried {
    struct journal_append append;
    struct jf_dirent d;
    struct place from;
    struct journal *journal;
    struct carried *next, **prev; /* in journal.carried, so that those never written are freed at the end */
    uint8_t bytes[];
};

/* ---- what is alive ---- */

static void needs_of(struct journal *j, uint64_t group, struct journal_needs *n)
{
    *n = (struct journal_needs){0};
    if (j->needs != NULL) { /* no owner (any more): everything is needed */
        j->needs(j->owner, group, n);
    }
}

/* Bytes of s that may still be needed; 0: none. Not more than an upper bound: a group's records count as a whole. */
static uint64_t live_bytes(struct journal *j, const struct segment *s)
{
    uint64_t sum = 0;
    for (size_t i = 0; i < s->n_groups; i++) {
        const struct segment_group *g = &s->groups[i];
        struct journal_needs n;
        needs_of(j, g->group, &n);
        if (!n.removed && ((g->index_max != 0 && g->index_max >= n.entry_needed) || g->end_max > n.offset_needed)) {
            sum += g->bytes;
        }
    }
    return sum;
}

static bool record_is_live(struct journal *j, const struct jf_dirent *d)
{
    if (!kind_is_stored(d->kind)) {
        return false; /* states and truncates are carried from memory; free records and manifests have newer ones */
    }
    struct journal_needs n;
    needs_of(j, d->group, &n);
    if (n.removed || entry_is_truncated(j, d)) {
        return false;
    }
    return (d->kind == JOURNAL_ENTRY && d->index >= n.entry_needed) || (d->b > 0 && d->a + d->b > n.offset_needed);
}

static void drop_dead_truncates(struct journal *j, struct segment *s)
{
    for (size_t i = 0; i < j->n_groups && s->live_truncates > 0; i++) {
        struct journal_group *g = &j->groups[i];
        for (unsigned k = 0; k < g->n_truncates;) {
            if (g->truncates[k].segment == s->number && !truncate_is_live(j, g->group, &g->truncates[k])) {
                s->live_truncates--;
                g->truncates[k] = g->truncates[--g->n_truncates];
            } else {
                k++;
            }
        }
    }
}

/* ---- freeing ---- */

static void freed(struct journal_append *a)
{
    struct segment *s = container_of(a, struct segment, free_append);
    s->state = SEGMENT_FREE;
    if (s->pins == 0) {
        segment_recycle(s->journal, s);
    }
}

static void segment_free(struct journal *j, struct segment *s)
{
    if (rule_off(j, JOURNAL_RULE_F7)) {
        /* The mistake: recycled before anything that frees it is durable. */
        struct journal_append *a = xcalloc(1, sizeof *a);
        a->record = (struct journal_record){.kind = (enum journal_kind)JF_KIND_FREE, .a = s->number, .b = s->salt};
        journal_put_own(j, a);
        s->state = SEGMENT_FREE;
        if (s->pins == 0) {
            segment_recycle(j, s);
        }
        return;
    }
    s->state = SEGMENT_FREEING;
    s->free_append = (struct journal_append){.record = {.kind = (enum journal_kind)JF_KIND_FREE, .a = s->number, .b = s->salt}, .done = freed};
    journal_put_own(j, &s->free_append);
}

/* ---- carrying ---- */

static void carried_free(struct carried *c)
{
    if (c != NULL) {
        *c->prev = c->next;
        if (c->next != NULL) {
            c->next->prev = c->prev;
        }
        free(c);
    }
}

void carried_free_all(struct journal *j)
{
    while (j->carried != NULL) {
        struct carried *c = j->carried;
        j->carried = c->next;
        free(c);
    }
}

static void carried_done(struct journal_append *a)
{
    struct carried *c = container_of(a, struct carried, append);
    struct journal *j = c->journal;
    if (c->d.len > 0 && j->moved != NULL) {
        struct journal_record r = {.kind = (enum journal_kind)c->d.kind, .type = c->d.type, .group = c->d.group, .index = c->d.index, .term = c->d.term,
                                   .a = c->d.a, .b = c->d.b, .c = c->d.c, .len = c->d.len};
        j->moved(j->owner, &r, &c->from, &a->place);
    }
    carried_free(c);
}

static struct carried *carried_new(struct journal *j, const struct segment *s, const struct jf_dirent *d)
{
    struct carried *c = malloc(sizeof *c + d->len);
    if (c == NULL) {
        return NULL;
    }
    memset(c, 0, sizeof *c);
    c->journal = j;
    c->d = *d;
    c->from = (struct place){.segment = s->number, .pos = d->pos, .len = d->len, .crc = d->crc};
    c->next = j->carried;
    c->prev = &j->carried;
    if (c->next != NULL) {
        c->next->prev = &c->next;
    }
    j->carried = c;
    c->append.done = carried_done;
    c->append.record = (struct journal_record){.kind = (enum journal_kind)d->kind, .data = c->bytes, .len = d->len};
    return c;
}

static void carry_put(struct journal *j, struct carried *c)
{
    j->stats.carried_bytes += jf_record_length(c->d.len);
    journal_put_carried(j, &c->append, &c->d);
}

static void carry_state_record(struct journal *j, struct segment *s, const struct state_record *r)
{
    if (r->segment != s->number) {
        return;
    }
    struct carried *c = carried_new(j, s, &r->d);
    if (c != NULL) {
        memcpy(c->bytes, r->data != NULL ? r->data : c->bytes, r->d.len);
        carry_put(j, c);
    }
}

static void carry_from_memory(struct journal *j, struct segment *s)
{
    for (size_t i = 0; i < j->n_groups; i++) {
        for (size_t k = 0; k < STATE_SLOTS && s->live_states > 0; k++) {
            carry_state_record(j, s, &j->groups[i].state[k]);
        }
        for (unsigned k = 0; k < j->groups[i].n_truncates && s->live_truncates > 0; k++) {
            struct journal_truncate *t = &j->groups[i].truncates[k];
            if (t->segment == s->number) {
                struct jf_dirent d = {.kind = JOURNAL_TRUNCATE, .group = j->groups[i].group, .index = t->index, .jseq = t->jseq};
                struct carried *c = carried_new(j, s, &d);
                if (c != NULL) {
                    carry_put(j, c);
                }
            }
        }
    }
    for (size_t i = 0; i < j->n_notes && s->live_states > 0; i++) {
        carry_state_record(j, s, &j->notes[i].state);
    }
}

void carry_abort(struct journal *j)
{
    struct carry *c = j->carry;
    if (c != NULL) {
        j->carry = NULL;
        free(c->footer);
        free(c->dir);
        carried_free(c->reading);
        free(c);
    }
}

static void carry_step(struct carry *c);

static void carry_settled(struct journal_append *a)
{
    struct carry *c = container_of(a, struct carry, settle);
    struct journal *j = c->journal;
    struct segment *s = c->segment;
    carry_abort(j);
    drop_dead_truncates(j, s);
    if (s->live_states == 0 && s->live_truncates == 0 && !s->damaged) {
        segment_free(j, s);
    }
}

static void carry_record_read(struct env_io *io)
{
    struct carry *c = container_of(io, struct carry, io);
    struct journal *j = c->journal;
    struct carried *r = c->reading;
    segment_unpin(j, c->segment);
    if (!j->closed && !j->dead) {
        if (io->status != 0 || io->n_done != r->d.len || crc32c(0, r->bytes, r->d.len) != r->d.crc) {
            c->segment->damaged = true; /* kept where it is, so that whoever needs it sees the damage */
            carry_abort(j);
        } else {
            c->reading = NULL;
            carry_put(j, r);
            carry_step(c);
        }
    }
    journal_unref(j);
}

static void carry_submit(struct carry *c, void *buf, size_t n, uint64_t pos, env_io_cb cb)
{
    c->iov = (struct iovec){.iov_base = buf, .iov_len = n};
    c->io = (struct env_io){.file = c->segment->file, .op = ENV_IO_READ, .iov = &c->iov, .n_iov = 1, .pos = pos};
    c->segment->pins++;
    c->journal->refs++;
    env_io_submit(c->journal->env, ENV_QUEUE_READ, &c->io, cb);
}

/* Appends copies until the budget is used up, a record must be read, or nothing is left. */
static void carry_step(struct carry *c)
{
    struct journal *j = c->journal;
    c->state = CARRY_PARKED;
    while (c->next < c->n_dir) {
        const struct jf_dirent *d = &c->dir[c->next];
        if (!record_is_live(j, d)) {
            c->next++;
            continue;
        }
        if (c->budget == 0 || !journal_space(j)) {
            return;
        }
        c->next++;
        c->budget -= min_u64(c->budget, jf_record_length(d->len));
        struct carried *r = carried_new(j, c->segment, d);
        if (r == NULL) {
            carry_abort(j);
            return;
        }
        if (d->len == 0) {
            carry_put(j, r);
            continue;
        }
        c->state = CARRY_READ;
        c->reading = r;
        carry_submit(c, r->bytes, d->len, d->pos, carry_record_read);
        return;
    }
    carry_from_memory(j, c->segment);
    c->state = CARRY_SETTLE;
    c->settle.done = carry_settled;
    journal_barrier(j, &c->settle);
}

static void carry_dir_read(struct env_io *io)
{
    struct carry *c = container_of(io, struct carry, io);
    struct journal *j = c->journal;
    struct segment *s = c->segment;
    segment_unpin(j, s);
    if (!j->closed && !j->dead) {
        struct jf_block_header h;
        bool ok = io->status == 0 && io->n_done == c->footer_len && jf_block_header_decode(c->footer, c->footer_len, s->salt, false, &h) &&
                  h.length == c->footer_len && jf_directory_crc(s->salt, c->footer + h.dir_pos, (size_t)h.n_records * JF_DIRENT_SIZE) == h.dir_crc;
        if (!ok) {
            s->damaged = true;
            carry_abort(j);
        } else {
            c->n_dir = h.n_records;
            c->dir = xmalloc((c->n_dir > 0 ? c->n_dir : 1) * sizeof *c->dir);
            for (size_t i = 0; i < c->n_dir; i++) {
                jf_dirent_decode(c->footer + h.dir_pos + i * JF_DIRENT_SIZE, &c->dir[i]);
            }
            free(c->footer);
            c->footer = NULL;
            carry_step(c);
        }
    }
    journal_unref(j);
}

static void carry_begin(struct journal *j, struct segment *s)
{
    struct carry *c = xcalloc(1, sizeof *c);
    j->carry = c;
    c->journal = j;
    c->segment = s;
    c->budget = JOURNAL_CARRY_PER_CALL;
    if (s->footer_pos == 0) {
        c->n_dir = s->n_dir;
        c->dir = xmalloc((s->n_dir > 0 ? s->n_dir : 1) * sizeof *c->dir);
        memcpy(c->dir, s->dir, s->n_dir * sizeof *c->dir);
        carry_step(c);
        return;
    }
    c->state = CARRY_DIR;
    c->footer_len = s->tail - s->footer_pos;
    c->footer = xmalloc(c->footer_len);
    carry_submit(c, c->footer, c->footer_len, s->footer_pos, carry_dir_read);
}

/* ---- the round ---- */

/* True if the segment was dead or is being carried now. */
static bool look_at(struct journal *j, struct segment *s)
{
    uint64_t live = live_bytes(j, s);
    if (s->live_truncates > 0 && live == 0) {
        drop_dead_truncates(j, s);
    }
    if (live == 0 && s->live_states == 0 && s->live_truncates == 0) {
        segment_free(j, s);
        return true;
    }
    s->stable = live == s->live_seen ? s->stable + 1 : 0;
    s->live_seen = live;
    /* Carrying what is about to die anyway would write it twice for nothing, so the live share must have stood still for a while. */
    bool unsealed = s->footer_pos == 0; /* left by an earlier life: scanned at every start until it is gone */
    if (j->carry == NULL && !s->damaged && s->stable >= JOURNAL_STABLE_CALLS && (2 * live <= s->tail - JF_DATA || (unsealed && live <= JOURNAL_CARRY_PER_CALL))) {
        carry_begin(j, s);
        return true;
    }
    return false;
}

/* The newest flush cannot be vouched for by a later one as long as nothing follows it: an empty block does it, so that damage to a quiet journal is
 * told from a torn tail (F2). */
static void vouch(struct journal *j)
{
    struct segment *s = j->active;
    if (j->head == NULL && s->n_dir > 0 && j->vouched < j->end && s->header_durable &&
        s->tail + 2 * (uint64_t)JF_ALIGN + jf_block_length(0, s->n_dir) <= s->size && s->tail > s->vouch_pos) {
        unit_add(j, UNIT_BLOCK, s);
        s->vouch_pos = s->tail + JF_ALIGN;
        journal_flush_later(j);
    }
}

void journal_collect(struct journal *j)
{
    if (j->dead || j->closed) {
        return;
    }
    journal_refresh_space(j);
    vouch(j);
    pool_tick(j);
    if (j->needs == NULL) {
        return;
    }
    if (j->carry != NULL && j->carry->state == CARRY_PARKED) {
        j->carry->budget = JOURNAL_CARRY_PER_CALL;
        carry_step(j->carry);
    }
    uint64_t checks = 0;
    size_t seen = 0;
    while (seen < j->n_segments && checks < JOURNAL_CHECKS_PER_CALL) {
        if (j->collect_cursor >= j->n_segments) {
            j->collect_cursor = 0;
        }
        struct segment *s = j->segments[j->collect_cursor];
        seen++;
        checks += s->n_groups + 1;
        bool busy = j->carry != NULL && j->carry->segment == s;
        /* A sealed segment whose footer is not written yet still has its directory in memory, as one that an earlier life left. */
        bool settled = s->state == SEGMENT_SEALED && (s->number < j->durable_segment || s->footer_pos != 0);
        size_t before = j->n_segments;
        if (settled && !busy) {
            look_at(j, s);
        }
        if (j->n_segments == before) {
            j->collect_cursor++;
        }
    }
}
