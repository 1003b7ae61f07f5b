/* The pool: files that were written before, kept to be overwritten. A commit into such a file changes no metadata of the file system and
 * is so about twice as fast as one that makes its file grow. Files come from segments that were freed; what is missing is pre-written with
 * zeros, and how much that is follows the traffic: about what the busiest minute of late wrote. Pre-writing is paced: it rests while
 * records come in fast, as it would only write every byte twice then, and while some come in it takes a hundredth of the time at most. A commit that
 * meets a step waits for it, and where the disk itself is made as it is written (thin volumes) a step may take a second. A file whose rest finds little room,
 * as somebody else fills the disk, is taken as it is. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "storage/journal_impl.h"

enum {
    PREWRITE_STEP = 1 << 20,       /* bytes written and synced at once while nothing comes in */
    PREWRITE_STEP_SMALL = 128 << 10, /* and while something does: a commit that meets a step waits for it */
    PREWRITE_PIECE = 64 << 10,     /* bytes given to the kernel at once: larger pieces make new pages of the page cache dearer */
    PREWRITE_PAUSE_MS = 10,        /* between steps, so at most 100 MB/s */
    PREWRITE_SHARE = 100,          /* beside some traffic a step is followed by a pause this many times as long */
    PREWRITE_PAUSE_MAX_MS = 30000,
    PREWRITE_BUSY = 12 << 20,      /* bytes appended per second from which on the traffic has the disk for itself */
    PREWRITE_BUSY_PAUSE_MS = 100,
    BURST_S = 60,                  /* the time whose traffic the pool should take */
    MEMORY_S = 1800,               /* the time in which a past burst is forgotten */
    POOL_SHARE = 10,               /* the pool pre-writes at most this part of the free disk */
};

static const uint8_t zeros[PREWRITE_PIECE];

void pool_note(struct journal *j, uint64_t id, uint64_t size)
{
    if (j->n_pool == j->cap_pool) {
        j->cap_pool = j->cap_pool > 0 ? 2 * j->cap_pool : 8;
        j->pool = xrealloc(j->pool, j->cap_pool * sizeof *j->pool);
    }
    j->pool[j->n_pool++] = (struct pool_file){.id = id, .size = size};
    j->pool_bytes += size;
    j->next_pool_id = max_u64(j->next_pool_id, id + 1);
}

void pool_take(struct journal *j, struct segment_job *job)
{
    job->from[0] = '\0';
    job->size = 0;
    if (j->n_pool == 0) {
        return;
    }
    size_t best = 0;
    for (size_t i = 1; i < j->n_pool; i++) {
        best = j->pool[i].size > j->pool[best].size ? i : best;
    }
    segment_path(j, job->from, "pool", j->pool[best].id);
    job->size = j->pool[best].size;
    j->pool_bytes -= job->size;
    j->n_pool--;
    memmove(j->pool + best, j->pool + best + 1, (j->n_pool - best) * sizeof *j->pool);
}

void pool_name(struct journal *j, struct segment_job *job)
{
    job->to[0] = '\0';
    if (j->pool_bytes + job->size <= max_u64(j->o.pool_max, 2 * j->planned_size) && 2 * job->size >= j->planned_size) {
        job->number = j->next_pool_id++;
        segment_path(j, job->to, "pool", job->number);
    }
}

/* ---- pre-writing ---- */

static void step_later(struct journal *j, uint64_t ms)
{
    if (!j->pool_armed) {
        j->pool_armed = true;
        env_timer_start_ms(&j->pool_timer, ms);
    }
}

static void prewrite_work(struct env_job *job)
{
    struct segment_job *s = container_of(job, struct segment_job, job);
    struct env *env = s->journal->env;
    s->status = 0;
    if (s->file == NULL) {
        s->status = env_file_open(env, s->to, ENV_OPEN_READ | ENV_OPEN_WRITE | ENV_OPEN_CREATE, &s->file);
    }
    uint64_t begun = s->written, stop = min_u64(s->size, s->written + s->step);
    while (s->status == 0 && s->written < stop) {
        uint64_t n = min_u64(PREWRITE_PIECE, stop - s->written);
        s->status = env_file_pwrite(env, s->file, zeros, n, s->written);
        s->written += n;
    }
    s->step = s->written - begun;
    s->status = s->status == 0 ? env_file_sync(env, s->file) : s->status;
    if (s->status != 0 || s->written == s->size) {
        if (s->file != NULL) {
            env_file_close(env, s->file);
            s->file = NULL;
        }
        if (s->status != 0) {
            env_unlink(env, s->to); /* nothing was promised about it: no segment, no harm */
        } else {
            s->status = env_dir_sync(env, s->journal->dir);
        }
    }
}

static void prewrite_done(struct env_job *job)
{
    struct segment_job *s = container_of(job, struct segment_job, job);
    struct journal *j = s->journal;
    j->pool_busy = false;
    j->grown += s->step;
    if (s->file == NULL && s->status == 0) {
        pool_note(j, s->number, s->size);
        j->stats.pool_written += s->size;
    }
    if (j->closed || j->dead) {
        if (s->file != NULL) {
            env_file_close(j->env, s->file);
            s->file = NULL;
        }
    } else if (s->status == 0) {
        uint64_t took = env_now_ns(j->env) - j->pool_step_ns;
        uint64_t pause = j->pool_beside ? PREWRITE_SHARE * took / 1000000u : 0;
        step_later(j, max_u64(PREWRITE_PAUSE_MS, min_u64(pause, PREWRITE_PAUSE_MAX_MS)));
    } /* else: the next look of pool_tick() tries again */
    journal_unref(j);
}

static void prewrite_step(struct env_timer *t)
{
    struct journal *j = container_of(t, struct journal, pool_timer);
    struct segment_job *s = &j->pool_job;
    j->pool_armed = false;
    if (j->dead || j->closed || j->pool_busy) {
        return;
    }
    uint64_t now = env_now_ns(j->env), appended = j->stats.bytes_written - j->pool_step_bytes;
    bool busy = appended >= PREWRITE_BUSY / 1000000 * (now - j->pool_step_ns) / 1000;
    j->pool_step_bytes = j->stats.bytes_written;
    j->pool_step_ns = now;
    if (busy && appended > 0) {
        step_later(j, PREWRITE_BUSY_PAUSE_MS);
        return;
    }
    uint64_t spare = j->disk_free - min_u64(j->disk_free, j->grown + j->o.reserve);
    if (s->file != NULL && spare < 4 * (s->size - s->written)) {
        s->size = s->written; /* somebody else fills the disk: what there is of the file will do, and is room for records */
    }
    if (s->file == NULL) {
        uint64_t size = j->planned_size;
        if (j->pool_bytes >= j->pool_want || spare < 4 * size) {
            return;
        }
        s->journal = j;
        s->written = 0;
        s->size = size;
        s->number = j->next_pool_id++;
        segment_path(j, s->to, "pool", s->number);
    }
    j->pool_beside = appended > 0;
    s->step = j->pool_beside ? PREWRITE_STEP_SMALL : PREWRITE_STEP;
    j->pool_busy = true;
    j->refs++;
    env_job_submit(j->env, ENV_QUEUE_BULK, &s->job, prewrite_work, prewrite_done);
}

/* What a minute of the traffic of late wrote, as a leaky bucket, and the largest such value, slowly forgotten. */
static void want_update(struct journal *j)
{
    uint64_t now = env_clock_ns(j->env);
    uint64_t ms = min_u64((now - j->pool_tick_ns) / 1000000u, BURST_S * 1000u);
    uint64_t bytes = j->stats.bytes_written - j->pool_tick_bytes;
    j->pool_tick_ns = now;
    j->pool_tick_bytes = j->stats.bytes_written;
    j->pool_level = j->pool_level - j->pool_level / (BURST_S * 1000u) * ms + bytes;
    j->pool_want = max_u64(j->pool_want - j->pool_want / (MEMORY_S * 1000u) * ms, max_u64(j->pool_level, j->planned_size));
    j->pool_want = min_u64(j->pool_want, min_u64(j->o.pool_max, j->disk_free / POOL_SHARE));
}

int pool_open(struct journal *j)
{
    j->pool_tick_ns = env_clock_ns(j->env);
    return env_timer_init(j->env, &j->pool_timer, prewrite_step);
}

void pool_close(struct journal *j)
{
    env_timer_close(&j->pool_timer);
    if (!j->pool_busy && j->pool_job.file != NULL) {
        env_file_close(j->env, j->pool_job.file);
        j->pool_job.file = NULL;
    }
}

void pool_tick(struct journal *j)
{
    if (!j->served || j->dead) {
        return;
    }
    want_update(j);
    if (!j->pool_busy && (j->pool_bytes < j->pool_want || j->pool_job.file != NULL)) {
        step_later(j, PREWRITE_PAUSE_MS);
    }
}
