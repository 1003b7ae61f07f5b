#include <errno.h>
#include <stdlib.h>

#include "proto/crc32c.h"
#include "storage/journal_impl.h"

/* journal_read(): cache -> a read under way that covers the place -> wait until the place is durable -> the disk.
 *
 * A disk read fetches the record with its record header. When a segment is read in order, it fetches up to JOURNAL_READ_AHEAD bytes more, and the
 * records found in them (by their record headers, which must pass the segment's salted checksum) go to the cache without being copied. */

enum { READ_ATTEMPTS = 3 };

struct disk_read {
    struct journal *journal;
    struct segment *segment;
    uint32_t pos;               /* of the first byte read */
    uint32_t len;
    struct cache_slab *slab;
    struct journal_read *head, *tail;
    unsigned attempts;
    struct env_io io;
    struct iovec iov;
    struct disk_read *next;
};

static const uint8_t nothing[1];

static void finish(struct journal_read *r, int status, struct cache_entry *e)
{
    r->status = status;
    r->impl = e;
    r->data = e != NULL ? e->data : NULL;
}

static void fire(struct journal *j, struct journal_read *list)
{
    while (list != NULL && !j->closed) {
        struct journal_read *next = list->next;
        list->done(list);
        list = next;
    }
}

/* good: the record's checksum was seen to be right. */
static void waiter_finish(struct journal *j, struct disk_read *d, struct journal_read *r, int status, bool good)
{
    if (status == 0 && r->place.pos + (uint64_t)r->place.len > d->pos + (uint64_t)d->io.n_done) {
        status = -EIO;
    }
    if (status != 0) {
        finish(r, status, NULL);
        return;
    }
    struct cache_entry *e = cache_get(j->cache, r->place.segment, r->place.pos, r->place.len);
    if (e == NULL) {
        const uint8_t *p = d->slab->bytes + (r->place.pos - d->pos);
        if (!good && crc32c(0, p, r->place.len) != r->place.crc) {
            d->segment->damaged = true;
            finish(r, -EIO, NULL);
            return;
        }
        e = cache_put(j->cache, r->place.segment, r->place.pos, r->place.len, d->slab, p);
    }
    finish(r, e != NULL ? 0 : -ENOMEM, e);
}

/* Whatever whole records of the same group lie behind the one that was asked for. */
static void take_neighbours(struct journal *j, struct disk_read *d)
{
    const uint8_t *p = d->slab->bytes;
    size_t n = d->io.n_done, at = 0;
    uint64_t group = 0;
    while (at + JF_RECORD_HEADER_SIZE <= n) {
        struct jf_dirent e;
        uint32_t pos = d->pos + (uint32_t)at;
        if (jf_record_header_decode(p + at, n - at, d->segment->salt, &e) && e.pos == pos + JF_RECORD_HEADER_SIZE) {
            uint64_t end = at + jf_record_length(e.len);
            group = at == 0 ? e.group : group;
            if (at > 0 && e.group == group && kind_is_stored(e.kind) && e.len > 0 && at + JF_RECORD_HEADER_SIZE + e.len <= n) {
                const uint8_t *data = p + at + JF_RECORD_HEADER_SIZE;
                bool wanted = !cache_has(j->cache, d->segment->number, e.pos) && crc32c(0, data, e.len) == e.crc;
                struct cache_entry *c = wanted ? cache_put(j->cache, d->segment->number, e.pos, e.len, d->slab, data) : NULL;
                if (c != NULL) {
                    cache_unpin(j->cache, c);
                }
            }
            at = end;
            continue;
        }
        /* Behind the last record of a block: on to the next block's first record. */
        size_t edge = ALIGN_UP(pos, JF_ALIGN) - d->pos;
        struct jf_block_header h;
        while (edge + JF_BLOCK_HEADER_SIZE <= n && !jf_block_header_decode(p + edge, n - edge, d->segment->salt, false, &h)) {
            edge += JF_ALIGN;
        }
        at = edge + JF_BLOCK_HEADER_SIZE;
    }
}

static bool is_good(const struct disk_read *d, const struct journal_read *r)
{
    return d->io.status == 0 && r->place.pos + (uint64_t)r->place.len <= d->pos + (uint64_t)d->io.n_done &&
           crc32c(0, d->slab->bytes + (r->place.pos - d->pos), r->place.len) == r->place.crc;
}

static void disk_read_done(struct env_io *io)
{
    struct disk_read *d = container_of(io, struct disk_read, io);
    struct journal *j = d->journal;
    bool good = is_good(d, d->head);
    if (!good && ++d->attempts < READ_ATTEMPTS && !j->closed) {
        env_io_submit(j->env, ENV_QUEUE_READ, &d->io, disk_read_done); /* the disk may do better the next time */
        return;
    }
    struct disk_read **at = &j->disk_reads;
    while (*at != d) {
        at = &(*at)->next;
    }
    *at = d->next;
    struct journal_read *list = d->head;
    for (struct journal_read *r = list; r != NULL; r = r->next) {
        waiter_finish(j, d, r, io->status, good && r == list);
    }
    if (io->status == 0 && !j->closed) {
        take_neighbours(j, d);
    }
    cache_slab_unref(j->cache, d->slab);
    segment_unpin(j, d->segment);
    free(d);
    fire(j, list);
    journal_unref(j);
}

/* Is this the next stretch of a segment that someone reads in order? */
static bool sequential(struct journal *j, uint64_t segment, uint32_t pos, uint32_t end)
{
    for (unsigned i = 0; i < JOURNAL_READ_STREAMS; i++) {
        if (j->streams[i].segment == segment && pos >= j->streams[i].end && pos - j->streams[i].end < JOURNAL_READ_AHEAD) {
            j->streams[i].end = end;
            return true;
        }
    }
    j->streams[j->next_stream].segment = segment;
    j->streams[j->next_stream].end = end;
    j->next_stream = (j->next_stream + 1) % JOURNAL_READ_STREAMS;
    return false;
}

static bool is_durable(const struct journal *j, const struct place *p)
{
    return p->segment < j->durable_segment || (p->segment == j->durable_segment && p->pos + (uint64_t)p->len <= j->durable_pos);
}

/* True if the read is finished (status says how). */
static bool read_from_disk(struct journal *j, struct journal_read *r)
{
    struct segment *s = segment_find(j, r->place.segment);
    if (s == NULL || s->file == NULL || s->state == SEGMENT_FREE) {
        finish(r, -ENOENT, NULL);
        return true;
    }
    for (struct disk_read *d = j->disk_reads; d != NULL; d = d->next) {
        if (d->segment == s && r->place.pos >= d->pos && r->place.pos + (uint64_t)r->place.len <= d->pos + (uint64_t)d->len) {
            d->tail->next = r;
            d->tail = r;
            return false;
        }
    }
    uint32_t pos = r->place.pos - JF_RECORD_HEADER_SIZE;
    uint64_t end = r->place.pos + (uint64_t)r->place.len;
    if (sequential(j, s->number, r->place.pos, (uint32_t)end)) {
        uint64_t stop = s->number == j->durable_segment ? j->durable_pos : s->tail;
        end = max_u64(end, min_u64(stop, (uint64_t)pos + JOURNAL_READ_AHEAD));
    }
    struct disk_read *d = calloc(1, sizeof *d);
    struct cache_slab *slab = d != NULL ? cache_slab_new(j->cache, (size_t)(end - pos)) : NULL;
    if (slab == NULL) {
        free(d);
        finish(r, -ENOMEM, NULL);
        return true;
    }
    d->journal = j;
    d->segment = s;
    d->pos = pos;
    d->len = (uint32_t)(end - pos);
    d->slab = slab;
    d->head = d->tail = r;
    d->next = j->disk_reads;
    j->disk_reads = d;
    d->iov = (struct iovec){.iov_base = slab->bytes, .iov_len = d->len};
    d->io = (struct env_io){.file = s->file, .op = ENV_IO_READ, .iov = &d->iov, .n_iov = 1, .pos = pos};
    s->pins++;
    j->refs++;
    j->stats.disk_reads++;
    env_io_submit(j->env, ENV_QUEUE_READ, &d->io, disk_read_done);
    return false;
}

int journal_read(struct journal *j, struct journal_read *r)
{
    r->journal = j;
    r->next = NULL;
    r->impl = NULL;
    r->data = NULL;
    if (r->place.pos < JF_DATA + JF_RECORD_HEADER_SIZE || segment_find(j, r->place.segment) == NULL) {
        finish(r, -ENOENT, NULL);
        return 1;
    }
    if (r->place.len == 0) {
        finish(r, 0, NULL);
        r->data = nothing;
        return 1;
    }
    struct cache_entry *e = cache_get(j->cache, r->place.segment, r->place.pos, r->place.len);
    if (e != NULL) {
        j->stats.cache_hits++;
        finish(r, 0, e);
        return 1;
    }
    j->stats.cache_misses++;
    if (!is_durable(j, &r->place)) {
        /* Committed by the others before it is durable here, and already gone from the cache: it waits for its flush. */
        if (j->waiting_tail != NULL) {
            j->waiting_tail->next = r;
        } else {
            j->waiting = r;
        }
        j->waiting_tail = r;
        return 0;
    }
    return read_from_disk(j, r) ? 1 : 0;
}

void journal_reads_wake(struct journal *j)
{
    struct journal_read *list = j->waiting, *finished = NULL;
    j->waiting = j->waiting_tail = NULL;
    while (list != NULL && !j->closed && !j->dead) {
        struct journal_read *r = list;
        list = r->next;
        r->next = NULL;
        if (!is_durable(j, &r->place)) {
            if (j->waiting_tail != NULL) {
                j->waiting_tail->next = r;
            } else {
                j->waiting = r;
            }
            j->waiting_tail = r;
        } else if (read_from_disk(j, r)) {
            r->next = finished;
            finished = r;
        }
    }
    fire(j, finished);
}

void journal_unpin(struct journal *j, struct journal_read *r)
{
    if (r->impl != NULL) {
        cache_unpin(j->cache, r->impl);
        r->impl = NULL;
    }
    r->data = NULL;
}

void journal_cache_put(struct journal *j, const struct place *p, const void *data)
{
    if (p->len == 0 || p->len > j->o.cache_bytes) {
        return;
    }
    struct cache_slab *s = cache_slab_new(j->cache, p->len);
    if (s == NULL) {
        return; /* a cache may forget */
    }
    memcpy(s->bytes, data, p->len);
    struct cache_entry *e = cache_put(j->cache, p->segment, p->pos, p->len, s, s->bytes);
    cache_slab_unref(j->cache, s);
    if (e != NULL) {
        cache_unpin(j->cache, e);
    }
}

int journal_read_blocking(struct journal *j, const struct place *p, void **out)
{
    struct segment *s = segment_find(j, p->segment);
    if (s == NULL || s->file == NULL) {
        return -EIO;
    }
    void *bytes = malloc(p->len > 0 ? p->len : 1);
    if (bytes == NULL) {
        return -ENOMEM;
    }
    if (journal_pread(j, s, bytes, p->len, p->pos, p->crc) != 0) {
        free(bytes);
        return -EIO;
    }
    *out = bytes;
    return 0;
}

void journal_reads_free(struct journal *j)
{
    /* Reads under way hold a reference to the journal, so there are none here; those that wait belong to their callers. */
    sluice_assert(j->disk_reads == NULL);
    j->waiting = j->waiting_tail = NULL;
}
