/* Segments: the list, files, the spare, recycling, pins. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "storage/journal_impl.h"

/* ---- the list ---- */

static size_t segment_at(const struct journal *j, uint64_t number)
{
    size_t lo = 0, hi = j->n_segments;
    while (lo < hi) {
        size_t mid = (lo + hi) / 2;
        if (j->segments[mid]->number < number) {
            lo = mid + 1;
        } else {
            hi = mid;
        }
    }
    return lo;
}

struct segment *segment_find(const struct journal *j, uint64_t number)
{
    if (j->active != NULL && j->active->number == number) {
        return j->active;
    }
    size_t i = segment_at(j, number);
    return i < j->n_segments && j->segments[i]->number == number ? j->segments[i] : NULL;
}

struct segment *segment_add(struct journal *j, uint64_t number)
{
    struct segment *s = xcalloc(1, sizeof *s);
    s->number = number;
    s->journal = j;
    s->tail = JF_DATA;
    if (j->n_segments == j->cap_segments) {
        j->cap_segments = j->cap_segments > 0 ? 2 * j->cap_segments : 16;
        j->segments = xrealloc(j->segments, j->cap_segments * sizeof(struct segment *));
    }
    size_t i = segment_at(j, number);
    memmove(j->segments + i + 1, j->segments + i, (j->n_segments - i) * sizeof(struct segment *));
    j->segments[i] = s;
    j->n_segments++;
    return s;
}

void segment_remove(struct journal *j, struct segment *s)
{
    size_t i = segment_at(j, s->number);
    sluice_assert(i < j->n_segments && j->segments[i] == s && s != j->active);
    j->n_segments--;
    memmove(j->segments + i, j->segments + i + 1, (j->n_segments - i) * sizeof(struct segment *));
    if (s->file != NULL) {
        env_file_close(j->env, s->file);
    }
    free(s->dir);
    free(s->groups);
    free(s);
}

void segment_dir_add(struct segment *s, const struct jf_dirent *d)
{
    if (s->n_dir == s->cap_dir) {
        s->cap_dir = s->cap_dir > 0 ? 2 * s->cap_dir : 64;
        s->dir = xrealloc(s->dir, s->cap_dir * sizeof *s->dir);
    }
    s->dir[s->n_dir++] = *d;
}

void segment_note(struct segment *s, const struct jf_dirent *d)
{
    if (!kind_is_stored(d->kind)) {
        return;
    }
    size_t lo = 0, hi = s->n_groups;
    while (lo < hi) {
        size_t mid = (lo + hi) / 2;
        if (s->groups[mid].group < d->group) {
            lo = mid + 1;
        } else {
            hi = mid;
        }
    }
    if (lo == s->n_groups || s->groups[lo].group != d->group) {
        if (s->n_groups == s->cap_groups) {
            s->cap_groups = s->cap_groups > 0 ? 2 * s->cap_groups : 8;
            s->groups = xrealloc(s->groups, s->cap_groups * sizeof *s->groups);
        }
        memmove(s->groups + lo + 1, s->groups + lo, (s->n_groups - lo) * sizeof *s->groups);
        s->n_groups++;
        s->groups[lo] = (struct segment_group){.group = d->group, .jseq_min = UINT64_MAX};
    }
    struct segment_group *g = &s->groups[lo];
    if (d->kind == JOURNAL_ENTRY) {
        g->index_max = max_u64(g->index_max, d->index);
        g->jseq_min = min_u64(g->jseq_min, d->jseq);
    }
    if (d->b > 0) {
        g->end_max = max_u64(g->end_max, d->a + d->b);
    }
    g->bytes += jf_record_length(d->len);
}

void segment_path(const struct journal *j, char *buf, const char *prefix, uint64_t number)
{
    snprintf(buf, JOURNAL_PATH_MAX, "%s/%s-%016" PRIx64, j->dir, prefix, number);
}

void segment_header_bytes(const struct journal *j, const struct segment *s, uint8_t *buf)
{
    struct jf_segment_header h = {
        .version = JF_VERSION, .node_id = j->o.node_id, .lane = j->o.lane, .number = s->number, .salt = s->salt, .size = s->size,
        .position = s->position, .incarnation = j->o.incarnation, .prior = s->prior, .prior_end = s->prior_end,
        .first_seq = s->first_seq, .first_jseq = s->first_jseq, .rewrites = s->rewrites,
    };
    memcpy(h.cluster_id, j->o.cluster_id, sizeof h.cluster_id);
    jf_segment_header_encode(buf, &h);
}

void segment_begin(struct journal *j, uint64_t need)
{
    struct segment *old = j->active;
    if (old != NULL && old->state == SEGMENT_ACTIVE) {
        struct unit *footer = unit_add(j, UNIT_FOOTER, old);
        unit_close(j, footer);
        old->state = SEGMENT_SEALED;
        j->planned_size = min_u64(2 * j->planned_size, j->o.segment_max);
    }
    struct segment *s = segment_add(j, j->next_number++);
    s->state = SEGMENT_ACTIVE;
    s->size = max_u64(j->planned_size, ALIGN_UP(JF_DATA + need, JF_ALIGN));
    sluice_assert(s->size <= UINT32_MAX);
    s->salt = rule_off(j, JOURNAL_RULE_F8) ? 0 : env_random_u64(j->env);
    s->position = j->end;
    if (old != NULL) {
        s->prior = old->number;
        s->prior_end = old->tail;
    }
    s->first_jseq = j->next_jseq;
    j->active = s;
    struct unit *header = unit_add(j, UNIT_HEADER, s);
    unit_close(j, header);
    if (!j->blocking) {
        spare_prepare(j);
    }
}

/* ---- the spare: the file of the next segment, ready before it is needed ---- */

/* The segment that the spare is for: the first one that has no file yet, or the next one. */
static struct segment *spare_wanted(const struct journal *j, uint64_t *number)
{
    struct segment *first = NULL;
    *number = j->next_number;
    for (size_t i = j->n_segments; i > 0; i--) {
        if (j->segments[i - 1]->file != NULL) {
            break;
        }
        first = j->segments[i - 1];
        *number = first->number;
    }
    return first;
}

static void spare_work(struct env_job *job)
{
    struct segment_job *s = container_of(job, struct segment_job, job);
    struct env *env = s->journal->env;
    if (s->from[0] != '\0' && env_rename(env, s->from, s->to) != 0) {
        s->size = 0; /* the pool's file is gone: a new one does it too */
    }
    s->status = env_file_open(env, s->to, ENV_OPEN_READ | ENV_OPEN_WRITE | ENV_OPEN_CREATE, &s->file);
    s->status = s->status == 0 ? env_dir_sync(env, s->journal->dir) : s->status;
}

static void spare_start(struct journal *j, uint64_t number)
{
    struct segment_job *s = &j->spare;
    s->journal = j;
    s->number = number;
    s->file = NULL;
    pool_take(j, s);
    segment_path(j, s->to, "seg", number);
    j->spare_state = SPARE_RUNNING;
}

static void spare_take(struct journal *j, struct segment *s)
{
    sluice_assert(j->spare_state == SPARE_READY && j->spare.number == s->number && s->file == NULL);
    s->file = j->spare.file;
    s->allocated = j->spare.size;
    j->spare_state = SPARE_NONE;
}

static void spare_done(struct env_job *job)
{
    struct segment_job *sj = container_of(job, struct segment_job, job);
    struct journal *j = sj->journal;
    if (sj->status != 0) {
        j->spare_state = SPARE_NONE;
        if (!j->closed) {
            journal_disk_error(j, "making a segment file", sj->status);
        }
    } else {
        j->spare_state = SPARE_READY;
        if (!j->closed && !j->dead) {
            spare_prepare(j);
            journal_flush_later(j);
        }
    }
    journal_unref(j);
}

void spare_prepare(struct journal *j)
{
    uint64_t number;
    struct segment *s = spare_wanted(j, &number);
    if (j->spare_state == SPARE_READY && s != NULL) {
        spare_take(j, s);
        spare_wanted(j, &number);
    }
    if (j->spare_state == SPARE_NONE && !j->dead && !j->closed) {
        if (j->blocking) {
            spare_start(j, number);
            spare_work(&j->spare.job);
            if (j->spare.status != 0) {
                journal_disk_error(j, "making a segment file", j->spare.status);
                j->spare_state = SPARE_NONE;
                return;
            }
            j->spare_state = SPARE_READY;
            s = spare_wanted(j, &number);
            if (s != NULL) {
                spare_take(j, s);
            }
            return;
        }
        spare_start(j, number);
        j->refs++;
        env_job_submit(j->env, ENV_QUEUE_BULK, &j->spare.job, spare_work, spare_done);
    }
}

/* to is empty: the file is not worth keeping. */
static void recycle_work(struct env_job *job)
{
    struct segment_job *s = container_of(job, struct segment_job, job);
    struct env *env = s->journal->env;
    env_file_close(env, s->file);
    s->status = s->to[0] != '\0' ? env_rename(env, s->from, s->to) : env_unlink(env, s->from);
}

static void recycle_done(struct env_job *job)
{
    struct segment_job *s = container_of(job, struct segment_job, job);
    struct journal *j = s->journal;
    if (s->status == 0 && s->to[0] != '\0') {
        pool_note(j, s->number, s->size);
    }
    free(s);
    journal_unref(j);
}

void segment_recycle(struct journal *j, struct segment *s)
{
    sluice_assert(s->pins == 0 && s->state == SEGMENT_FREE && s->file != NULL);
    struct segment_job *job = xcalloc(1, sizeof *job);
    job->journal = j;
    job->file = s->file;
    job->size = max_u64(s->allocated, s->tail);
    s->file = NULL;
    segment_path(j, job->from, "seg", s->number);
    pool_name(j, job);
    cache_drop_segment(j->cache, s->number);
    segment_remove(j, s);
    j->stats.freed_segments++;
    j->refs++;
    env_job_submit(j->env, ENV_QUEUE_BULK, &job->job, recycle_work, recycle_done);
}

void segment_unpin(struct journal *j, struct segment *s)
{
    sluice_assert(s->pins > 0);
    s->pins--;
    if (s->pins == 0 && s->state == SEGMENT_FREE && !j->closed && !j->dead) {
        segment_recycle(j, s);
    }
}
