/* Opening, closing and appending: which block takes a record, and where in it; barriers, space, numbers. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "proto/crc32c.h"
#include "storage/journal_impl.h"

/* ---- open, close ---- */

static void options_defaults(struct journal_options *o)
{
    if (o->segment_first == 0) {
        o->segment_first = 4u << 20;
    }
    if (o->segment_max == 0) {
        o->segment_max = 256u << 20;
    }
    if (o->flush_max == 0) {
        o->flush_max = 4u << 20;
    }
    uint32_t least = JF_DATA + 4 * JF_ALIGN;
    o->segment_first = ALIGN_UP(o->segment_first < least ? least : o->segment_first, JF_ALIGN);
    o->segment_max = o->segment_max < o->segment_first ? o->segment_first : o->segment_max / JF_ALIGN * JF_ALIGN;
    if (o->flush_max < JF_ALIGN) {
        o->flush_max = JF_ALIGN;
    }
}

int journal_open(struct journal **out, const struct journal_options *o, struct recovered **rec, char err[256])
{
    err[0] = '\0';
    if (strlen(o->dir) >= sizeof ((struct journal *)0)->dir) {
        snprintf(err, 256, "the journal's folder name is too long");
        return -ENAMETOOLONG;
    }
    struct journal *j = xcalloc(1, sizeof *j);
    struct recovered *r = xcalloc(1, sizeof *r);
    j->o = *o;
    options_defaults(&j->o);
    j->env = o->env;
    snprintf(j->dir, sizeof j->dir, "%s", o->dir);
    j->o.dir = j->dir;
    j->refs = 1;
    j->next_number = 1;
    j->next_seq = 1;
    j->next_jseq = 1;
    j->planned_size = j->o.segment_first;
    j->cache = cache_open(j->o.cache_bytes);
    j->blocking = true;
    int e = pool_open(j);
    e = e == 0 ? journal_recover(j, r, err) : e;
    j->blocking = false;
    if (e != 0) {
        journal_recovered_free(r);
        journal_close(j);
        return e;
    }
    *out = j;
    *rec = r;
    return 0;
}

static void journal_free(struct journal *j)
{
    journal_reads_free(j);
    carry_abort(j);
    carried_free_all(j);
    unit_free_all(j);
    for (size_t i = 0; i < j->n_segments; i++) {
        struct segment *s = j->segments[i];
        if (s->file != NULL) {
            env_file_close(j->env, s->file);
        }
        free(s->dir);
        free(s->groups);
        free(s);
    }
    if (j->spare_state == SPARE_READY) {
        env_file_close(j->env, j->spare.file);
    }
    state_free_all(j);
    cache_close(j->cache);
    free(j->segments);
    free(j->pool);
    free(j);
}

void journal_unref(struct journal *j)
{
    sluice_assert(j->refs > 0);
    j->refs--;
    if (j->refs == 0) {
        journal_free(j);
    }
}

void journal_close(struct journal *j)
{
    j->closed = true;
    pool_close(j);
    journal_unref(j);
}

/* ---- append ---- */

static struct unit *open_block(const struct journal *j)
{
    struct unit *u = j->tail;
    return u != NULL && u->kind == UNIT_BLOCK && !u->closed ? u : NULL;
}

static bool fits(const struct segment *s, const struct unit *u, uint64_t body, unsigned n)
{
    uint64_t start = u != NULL ? u->pos : s->tail;
    uint64_t block = jf_block_length((u != NULL ? u->body : 0) + body, (u != NULL ? u->n : 0) + n);
    return start + block + jf_block_length(0, s->n_dir + n) <= s->size;
}

static uint64_t manifest_bytes(const struct journal *j)
{
    return (uint64_t)JF_MANIFEST_ENTRY * (j->n_segments + 1);
}

static void own_done(struct journal_append *a)
{
    free(a);
}

/* Every segment begins with the list of segments in use at that moment: a file that is missing after a crash is missed. */
static void put_manifest(struct journal *j)
{
    size_t n = 0;
    struct journal_append *a = xcalloc(1, sizeof *a + manifest_bytes(j));
    uint8_t *bytes = (uint8_t *)(a + 1);
    for (size_t i = 0; i < j->n_segments; i++) {
        const struct segment *s = j->segments[i];
        if (s->state == SEGMENT_ACTIVE || s->state == SEGMENT_SEALED) {
            put_u64(bytes + n, s->number);
            put_u64(bytes + n + 8, s->salt);
            put_u64(bytes + n + 16, s->state == SEGMENT_SEALED ? s->tail : 0);
            n += JF_MANIFEST_ENTRY;
        }
    }
    a->record.kind = (enum journal_kind)JF_KIND_MANIFEST;
    a->record.data = bytes;
    a->record.len = (uint32_t)n;
    journal_put_own(j, a);
}

/* The open block, with room for a record that takes `body` bytes in it. */
static struct unit *room_for(struct journal *j, uint64_t body)
{
    struct unit *u = open_block(j);
    if (u != NULL && u->n > 0 && jf_block_length(u->body + body, u->n + 1) > j->o.flush_max) {
        unit_close(j, u);
        u = NULL;
    }
    bool fresh = j->active->tail == JF_DATA && j->active->n_dir == 0;
    uint64_t with = body + (fresh ? jf_record_length(manifest_bytes(j)) : 0);
    if (!fits(j->active, u, with, fresh ? 2 : 1)) {
        if (u != NULL) {
            unit_close(j, u);
            u = NULL;
        }
        uint64_t first = body + jf_record_length(manifest_bytes(j) + JF_MANIFEST_ENTRY);
        segment_begin(j, jf_block_length(first, 2) + jf_block_length(0, 2));
        fresh = true;
    }
    if (u == NULL) {
        u = unit_add(j, UNIT_BLOCK, j->active);
    }
    if (fresh) {
        put_manifest(j);
    }
    return u;
}

static void put(struct journal *j, struct journal_append *a, struct jf_dirent *d, bool is_new)
{
    const struct journal_record *r = &a->record;
    sluice_assert(r->len <= JOURNAL_RECORD_MAX && (r->len == 0 || r->data != NULL || a->n_parts > 0));
    struct unit *u = NULL;
    if (d->kind == JF_KIND_MANIFEST) {
        u = open_block(j); /* room_for() made the room */
    } else {
        u = room_for(j, jf_record_length(r->len));
    }
    struct segment *s = u->segment;
    if (is_new) {
        d->jseq = j->next_jseq++;
    }
    d->pos = (uint32_t)(u->pos + JF_BLOCK_HEADER_SIZE + u->body + JF_RECORD_HEADER_SIZE);
    d->len = r->len;
    if (a->n_parts > 0) {
        d->crc = 0;
        uint64_t sum = 0;
        for (unsigned i = 0; i < a->n_parts; i++) {
            d->crc = crc32c(d->crc, a->parts[i].iov_base, a->parts[i].iov_len);
            sum += a->parts[i].iov_len;
        }
        sluice_assert(sum == r->len);
    } else {
        d->crc = crc32c(0, r->data, r->len);
    }
    if (u->n == u->cap_records) {
        u->cap_records = u->cap_records > 0 ? 2 * u->cap_records : 64;
        u->records = xrealloc(u->records, u->cap_records * sizeof *u->records);
    }
    u->acknowledges = u->acknowledges || (d->kind < JOURNAL_NOTE && (d->flags & JF_CARRIED) == 0);
    u->records[u->n++] = (struct unit_record){.data = r->data, .parts = a->parts, .n_parts = a->n_parts, .len = r->len};
    u->body += jf_record_length(r->len);
    u->payload += r->len;
    segment_dir_add(s, d);
    segment_note(s, d);

    a->place = (struct place){.segment = s->number, .pos = d->pos, .len = d->len, .crc = d->crc};
    a->jseq = d->jseq;
    a->end = u->position + JF_BLOCK_HEADER_SIZE + u->body;
    j->end = a->end;
    j->backlog += r->len + JF_RECORD_HEADER_SIZE;
    a->next = NULL;
    if (u->tail != NULL) {
        u->tail->next = a;
    } else {
        u->head = a;
    }
    u->tail = a;
    j->stats.appends++;
    j->stats.bytes_payload += r->len;
    if (!j->blocking) {
        journal_flush_later(j);
    }
}

static struct jf_dirent dirent_of(const struct journal_record *r)
{
    return (struct jf_dirent){.group = r->group, .index = r->index, .term = r->term, .a = r->a, .b = r->b, .c = r->c,
                              .kind = (uint8_t)r->kind, .type = r->type};
}

void journal_put_own(struct journal *j, struct journal_append *a)
{
    if (a->done == NULL) {
        a->done = own_done;
    }
    struct jf_dirent d = dirent_of(&a->record);
    put(j, a, &d, true);
    if (d.kind == JOURNAL_TRUNCATE) {
        truncate_note(j, segment_find(j, a->place.segment), &d);
    }
}

static void put_truncate(struct journal *j, uint64_t group, uint64_t index)
{
    struct journal_append *a = xcalloc(1, sizeof *a);
    a->record = (struct journal_record){.kind = JOURNAL_TRUNCATE, .group = group, .index = index};
    journal_put_own(j, a);
}

void journal_put_carried(struct journal *j, struct journal_append *a, const struct jf_dirent *d)
{
    struct jf_dirent copy = *d;
    copy.flags |= JF_CARRIED;
    bool is_new = rule_off(j, JOURNAL_RULE_F1);
    if (is_new) {
        copy.flags = 0; /* the mistake that the rule forbids: the copy counts as a later event */
    }
    put(j, a, &copy, is_new);
    struct segment *s = segment_find(j, a->place.segment);
    if (kind_is_state(copy.kind)) {
        state_note(j, s, &copy, a->record.data, a->parts, a->n_parts);
    } else if (copy.kind == JOURNAL_TRUNCATE) {
        truncate_note(j, s, &copy);
    }
}

void journal_put_raw(struct journal *j, struct journal_append *a, const struct jf_dirent *d)
{
    struct jf_dirent copy = *d;
    copy.flags |= JF_CARRIED;
    put(j, a, &copy, false);
    struct segment *s = j->active;
    s->dir[s->n_dir - 1].crc = d->crc;
}

void journal_append(struct journal *j, struct journal_append *a)
{
    struct journal_record *r = &a->record;
    sluice_assert(r->kind >= JOURNAL_ENTRY && r->kind <= JOURNAL_NOTE);
    sluice_assert(r->kind == JOURNAL_NOTE ? r->group == 0 : r->group != 0);
    if (r->kind == JOURNAL_ENTRY && r->index <= group_get(j, r->group)->last_index) {
        put_truncate(j, r->group, r->index); /* said outright, so that it outlives this entry */
    }
    struct jf_dirent d = dirent_of(r);
    if (kind_is_state(r->kind)) {
        r->number = state_of(j, &d)->d.c + 1;
        d.c = r->number;
    }
    put(j, a, &d, true);
    struct segment *s = segment_find(j, a->place.segment);
    if (kind_is_state(r->kind)) {
        state_note(j, s, &d, r->data, a->parts, a->n_parts);
    } else if (r->kind == JOURNAL_TRUNCATE) {
        truncate_note(j, s, &d);
    }
    if (r->kind == JOURNAL_ENTRY) {
        group_get(j, r->group)->last_index = r->index;
    }
    if (r->kind != JOURNAL_NOTE && j->ride != NULL) {
        j->ride(j->owner);
    }
}

static void ready_turn(struct env_task *t)
{
    struct journal *j = container_of(t, struct journal, ready_task);
    struct journal_append *a = j->ready_head;
    j->ready_head = j->ready_tail = NULL;
    while (a != NULL && !j->closed && !j->dead) {
        struct journal_append *next = a->next;
        if (a->done != NULL) {
            a->done(a);
        }
        a = next;
    }
    journal_unref(j);
}

void journal_barrier(struct journal *j, struct journal_append *a)
{
    a->place = (struct place){0};
    a->jseq = 0;
    a->end = j->end;
    a->next = NULL;
    struct journal_append **head = j->tail != NULL ? &j->tail->head : &j->ready_head;
    struct journal_append **tail = j->tail != NULL ? &j->tail->tail : &j->ready_tail;
    if (*tail != NULL) {
        (*tail)->next = a;
    } else {
        *head = a;
        if (j->tail == NULL) {
            j->refs++;
            env_defer(j->env, &j->ready_task, ready_turn);
        }
    }
    *tail = a;
}

/* ---- positions, space, numbers ---- */

uint64_t journal_end(const struct journal *j)
{
    return j->end;
}

uint64_t journal_durable(const struct journal *j)
{
    return j->durable;
}

uint64_t journal_flush_ns(const struct journal *j)
{
    uint64_t waits = j->in_flight > 0 ? env_clock_ns(j->env) - j->head->started_ns : 0;
    return max_u64(waits, j->recent_flush_ns);
}

uint64_t journal_acknowledged(const struct journal *j)
{
    return j->acknowledged;
}

static void space_work(struct env_job *job)
{
    struct segment_job *s = container_of(job, struct segment_job, job);
    s->status = env_disk_free(s->journal->env, s->from, &s->free_bytes);
}

static void space_done(struct env_job *job)
{
    struct segment_job *s = container_of(job, struct segment_job, job);
    struct journal *j = s->journal;
    j->space_busy = false;
    if (s->status == 0) {
        j->disk_free = s->free_bytes;
        /* What was written while the question was under way may or may not be counted: it stays counted against us until the next one. */
        j->grown -= min_u64(j->grown, s->written);
    }
    journal_unref(j);
}

void journal_refresh_space(struct journal *j)
{
    if (j->space_busy || j->dead) {
        return;
    }
    j->space_busy = true;
    j->refs++;
    j->space_job.journal = j;
    j->space_job.written = j->grown;
    snprintf(j->space_job.from, sizeof j->space_job.from, "%s", j->dir);
    env_job_submit(j->env, ENV_QUEUE_BULK, &j->space_job.job, space_work, space_done);
}

bool journal_space(const struct journal *j)
{
    uint64_t room = j->disk_free + j->pool_bytes;
    return room > j->grown + j->backlog + j->o.reserve;
}

void journal_set_owner(struct journal *j, void *arg, journal_needs_fn needs, journal_moved_fn moved, journal_ride_fn ride)
{
    j->owner = arg;
    j->needs = needs;
    j->moved = moved;
    j->ride = ride;
}

void journal_stats(const struct journal *j, struct journal_stats *out)
{
    *out = j->stats;
    out->segments = j->n_segments;
    out->pool_segments = j->n_pool;
    out->pool_bytes = j->pool_bytes;
    out->pool_want = j->pool_want;
    out->cache_bytes = cache_bytes(j->cache);
    out->backlog = j->backlog;
}
