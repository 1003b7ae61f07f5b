/* Units (blocks and segment headers) on their way to the disk: encoded, written and synced, at most two at a time, told in order. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "storage/journal_impl.h"

enum { UNITS_KEPT = 4, META_KEPT = 1 << 20 };

/* ---- units ---- */

struct unit *unit_add(struct journal *j, enum unit_kind kind, struct segment *s)
{
    struct unit *u = j->idle;
    if (u != NULL) {
        j->idle = u->next;
        j->n_idle--;
    } else {
        u = xcalloc(1, sizeof *u);
    }
    u->kind = kind;
    u->closed = u->submitted = u->acknowledges = false;
    u->segment = s;
    u->pos = kind == UNIT_HEADER ? 0 : s->tail;
    u->length = 0;
    u->position = segment_position(s, s->tail);
    u->body = u->payload = 0;
    u->first_jseq = j->next_jseq;
    u->first_dir = s->n_dir;
    u->n = 0;
    u->head = u->tail = NULL;
    u->owned = NULL;
    u->journal = j;
    u->next = NULL;
    if (j->tail != NULL) {
        j->tail->next = u;
    } else {
        j->head = u;
    }
    j->tail = u;
    return u;
}

static void unit_free(struct unit *u)
{
    free(u->records);
    free(u->meta);
    free(u->iov);
    free(u->owned);
    free(u);
}

static void unit_retire(struct journal *j, struct unit *u)
{
    free(u->owned);
    u->owned = NULL;
    if (j->n_idle >= UNITS_KEPT || u->cap_meta > META_KEPT) {
        unit_free(u);
        return;
    }
    u->next = j->idle;
    j->idle = u;
    j->n_idle++;
}

void unit_free_all(struct journal *j)
{
    struct unit *lists[] = {j->head, j->idle};
    for (size_t i = 0; i < ARRAY_LEN(lists); i++) {
        for (struct unit *u = lists[i]; u != NULL;) {
            struct unit *next = u->next;
            unit_free(u);
            u = next;
        }
    }
    j->head = j->tail = j->idle = NULL;
}

/* From here on the unit has its length, and the segment's next block its place. */
void unit_close(struct journal *j, struct unit *u)
{
    sluice_assert(!u->closed);
    u->closed = true;
    if (u->kind == UNIT_HEADER) {
        u->length = JF_DATA;
        return;
    }
    struct segment *s = u->segment;
    u->length = u->kind == UNIT_FOOTER ? jf_block_length(0, s->n_dir) : jf_block_length(u->body, u->n);
    sluice_assert(u->pos == s->tail && u->pos + u->length <= s->size);
    s->tail = (uint32_t)(u->pos + u->length);
    j->end = segment_position(s, s->tail);
}

/* ---- bytes ---- */

static void meta_reserve(struct unit *u, size_t n)
{
    if (u->cap_meta < n) {
        free(u->meta);
        u->cap_meta = n < 4096 ? 4096 : n;
        u->meta = xmalloc(u->cap_meta);
    }
}

static void iov_add(struct unit *u, unsigned *n, const void *p, size_t len)
{
    if (len == 0) {
        return;
    }
    /* Neighbours in memory are one piece: zeros, record headers and directory often are. */
    if (*n > 0 && (const char *)u->iov[*n - 1].iov_base + u->iov[*n - 1].iov_len == (const char *)p) {
        u->iov[*n - 1].iov_len += len;
        return;
    }
    sluice_assert(*n < u->cap_iov);
    u->iov[(*n)++] = (struct iovec){.iov_base = (void *)(uintptr_t)p, .iov_len = len};
}

static void iov_reserve(struct unit *u)
{
    size_t need = 4;
    for (size_t i = 0; i < u->n; i++) {
        need += 3 + (u->records[i].n_parts > 0 ? u->records[i].n_parts : 1);
    }
    if (u->cap_iov < need) {
        free(u->iov);
        u->cap_iov = need;
        u->iov = xmalloc(need * sizeof *u->iov);
    }
}

/* Blocks and footers. Record bytes are taken from where the callers hold them; the rest lies in u->meta in the order of the file. */
static unsigned block_encode(struct journal *j, struct unit *u)
{
    struct segment *s = u->segment;
    bool footer = u->kind == UNIT_FOOTER;
    const struct jf_dirent *dir = footer ? s->dir : s->dir + u->first_dir;
    size_t n = footer ? s->n_dir : u->n;
    uint64_t bytes = 0;
    for (size_t i = 0; i < u->n; i++) {
        bytes += u->records[i].len;
    }
    size_t meta_len = (size_t)(u->length - bytes);
    meta_reserve(u, meta_len);
    iov_reserve(u);
    memset(u->meta, 0, meta_len);
    unsigned n_iov = 0;
    uint8_t *m = u->meta + JF_BLOCK_HEADER_SIZE;
    uint8_t *from = u->meta; /* what of meta is not in the iov yet */
    for (size_t i = 0; i < u->n; i++) {
        const struct unit_record *r = &u->records[i];
        jf_record_header_encode(m, s->salt, &dir[i]);
        m += JF_RECORD_HEADER_SIZE;
        iov_add(u, &n_iov, from, (size_t)(m - from));
        from = m;
        if (r->n_parts > 0) {
            for (unsigned k = 0; k < r->n_parts; k++) {
                iov_add(u, &n_iov, r->parts[k].iov_base, r->parts[k].iov_len);
            }
        } else {
            iov_add(u, &n_iov, r->data, r->len);
        }
        m += (8 - r->len % 8) % 8;
    }
    uint8_t *directory = m;
    for (size_t i = 0; i < n; i++) {
        jf_dirent_encode(m, &dir[i]);
        m += JF_DIRENT_SIZE;
    }
    struct jf_block_header h = {
        .salt = s->salt, .seq = j->next_seq++, .position = u->position, .vouched = j->durable, .incarnation = j->o.incarnation,
        .first_jseq = u->first_jseq, .length = (uint32_t)u->length, .n_records = (uint32_t)n,
        .dir_pos = (uint32_t)((uint64_t)(directory - u->meta) + bytes), .dir_crc = jf_directory_crc(s->salt, directory, n * JF_DIRENT_SIZE),
        .prev_crc = s->prev_crc, .kind = footer ? JF_BLOCK_FOOTER : JF_BLOCK_DATA,
    };
    s->prev_crc = jf_block_header_encode(u->meta, &h, false);
    jf_block_header_encode(u->meta + meta_len - JF_BLOCK_HEADER_SIZE, &h, true);
    iov_add(u, &n_iov, from, (size_t)(u->meta + meta_len - from));
    return n_iov;
}

static unsigned header_encode(struct journal *j, struct unit *u)
{
    meta_reserve(u, JF_DATA);
    iov_reserve(u);
    u->segment->first_seq = j->next_seq;
    segment_header_bytes(j, u->segment, u->meta);
    memcpy(u->meta + JF_SEGMENT_HEADER_SIZE, u->meta, JF_SEGMENT_HEADER_SIZE);
    u->iov[0] = (struct iovec){.iov_base = u->meta, .iov_len = JF_DATA};
    return 1;
}

/* ---- writing ---- */

void journal_disk_error(struct journal *j, const char *what, int status)
{
    if (j->dead) {
        return;
    }
    j->dead = true;
    if (j->o.io_error != NULL) {
        j->o.io_error(j->o.io_error_arg);
    }
    char why[160];
    snprintf(why, sizeof why, "journal of lane %u: %s failed: %s; nothing more is acknowledged", j->o.lane, what, strerror(-status));
    env_fatal(j->env, ENV_EXIT_DISK, why);
}

static void unit_done(struct journal *j, struct unit *u)
{
    struct segment *s = u->segment;
    uint64_t took = env_clock_ns(j->env) - u->started_ns;
    j->stats.flushes++;
    j->stats.bytes_written += u->length;
    j->stats.flush_ns_sum += took;
    j->stats.flush_ns_max = max_u64(j->stats.flush_ns_max, took);
    j->recent_flush_ns = max_u64(took, j->recent_flush_ns - j->recent_flush_ns / 8);
    if (u->kind == UNIT_HEADER) {
        s->header_durable = true;
    } else {
        j->durable = u->position + u->length;
        j->acknowledged = u->acknowledges ? j->durable : j->acknowledged;
        j->durable_segment = s->number;
        j->durable_pos = (uint32_t)(u->pos + u->length);
    }
    if (u->kind == UNIT_FOOTER) {
        s->footer_pos = u->pos;
        free(s->dir);
        s->dir = NULL;
        s->cap_dir = 0;
    }
    if (u->kind == UNIT_BLOCK) {
        j->served = true;
    }
    j->backlog -= u->payload + u->n * JF_RECORD_HEADER_SIZE;
    struct journal_append *a = u->head;
    unit_retire(j, u);
    while (a != NULL && !j->dead && !j->closed) {
        struct journal_append *next = a->next;
        if (a->done != NULL) {
            a->done(a);
        }
        a = next;
    }
}

static void unit_written(struct env_io *io)
{
    struct unit *u = container_of(io, struct unit, io);
    struct journal *j = u->journal;
    sluice_assert(j->head == u && j->in_flight > 0);
    j->in_flight--;
    if (!j->dead && !j->closed) {
        if (io->status == 0 && io->n_done != u->length) {
            io->status = -EIO;
        }
        if (io->status != 0) {
            journal_disk_error(j, "a flush", io->status);
        } else {
            j->head = u->next;
            if (j->head == NULL) {
                j->tail = NULL;
            }
            unit_done(j, u);
            journal_reads_wake(j);
            journal_flush_later(j);
        }
    }
    journal_unref(j);
}

static void unit_write_blocking(struct journal *j, struct unit *u, unsigned n_iov)
{
    uint64_t pos = u->pos;
    int e = 0;
    for (unsigned i = 0; i < n_iov && e == 0; i++) {
        e = env_file_pwrite(j->env, u->segment->file, u->iov[i].iov_base, u->iov[i].iov_len, pos);
        pos += u->iov[i].iov_len;
    }
    e = e == 0 ? env_file_sync(j->env, u->segment->file) : e;
    if (e != 0) {
        journal_disk_error(j, "a write of recovery", e);
        return;
    }
    j->head = u->next;
    if (j->head == NULL) {
        j->tail = NULL;
    }
    unit_done(j, u);
}

/* A segment change waits for everything before it: two flushes in flight never belong to different segments, so that after an error only the
 * last segment is in doubt; and nothing is written to a segment before its header is durable (F8). */
static bool may_submit(struct journal *j, struct unit *u)
{
    if (j->in_flight == 0 && u->kind == UNIT_HEADER) {
        if (u->segment->file == NULL) {
            spare_prepare(j); /* takes it over if it is ready, and calls journal_flush() again otherwise */
        }
        return u->segment->file != NULL;
    }
    return u->kind != UNIT_HEADER && u->segment->header_durable && j->in_flight < JOURNAL_IN_FLIGHT_MAX;
}

void journal_flush(struct journal *j)
{
    if (j->dead || j->closed) {
        return;
    }
    struct unit *u = j->head;
    while (u != NULL && u->submitted) {
        u = u->next;
    }
    while (u != NULL && may_submit(j, u)) {
        struct unit *next = u->next;
        if (!u->closed) {
            unit_close(j, u);
        }
        unsigned n_iov = u->kind == UNIT_HEADER ? header_encode(j, u) : block_encode(j, u);
        u->submitted = true;
        u->started_ns = env_clock_ns(j->env);
        j->vouched = u->kind == UNIT_HEADER ? j->vouched : j->durable;
        j->grown += u->length;
        if (j->blocking) {
            unit_write_blocking(j, u, n_iov);
            if (j->dead) {
                return;
            }
        } else {
            j->in_flight++;
            j->refs++;
            u->io.file = u->segment->file;
            u->io.op = rule_off(j, JOURNAL_RULE_SYNC) ? ENV_IO_WRITE : ENV_IO_WRITE_SYNC;
            u->io.iov = u->iov;
            u->io.n_iov = n_iov;
            u->io.pos = u->pos;
            env_io_submit(j->env, ENV_QUEUE_SYNC, &u->io, unit_written);
        }
        u = next;
    }
}

static void flush_turn(struct env_task *t)
{
    struct journal *j = container_of(t, struct journal, flush_task);
    journal_flush(j);
    journal_unref(j);
}

void journal_flush_later(struct journal *j)
{
    if (!j->flush_task.queued) {
        j->refs++;
        env_defer(j->env, &j->flush_task, flush_turn);
    }
}
