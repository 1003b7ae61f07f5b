/* Recovery, reading: finds the blocks of a segment file by their headers, or by its footer, in whatever state the file is. */
#include <errno.h>
#include <stdlib.h>

#include "proto/crc32c.h"
#include "storage/journal_impl.h"

enum { WINDOW_BYTES = 1 << 20 };

/* A window onto a file, moved forward; what lies beyond the end of the file reads as zeros. */
struct window {
    struct env *env;
    struct env_file *file;
    uint8_t *buf;
    uint64_t pos;
    size_t len, cap;
    uint64_t unreadable; /* end of the last page that the disk did not give, in spite of repeats */
    int error;
};

enum { READ_ATTEMPTS = 3 }; /* an error or a flipped bit on the way from the disk must not pass for a torn tail */

static bool read_page(struct window *w, uint8_t *to, uint64_t pos)
{
    for (int i = 0; i < READ_ATTEMPTS; i++) {
        ssize_t n = env_file_pread(w->env, w->file, to, JF_ALIGN, pos);
        if (n >= 0) {
            memset(to + n, 0, JF_ALIGN - (size_t)n);
            return true;
        }
    }
    memset(to, 0, JF_ALIGN);
    return false;
}

static const uint8_t *window_at(struct window *w, uint64_t pos, size_t n)
{
    if (pos >= w->pos && pos + n <= w->pos + w->len) {
        return w->buf + (pos - w->pos);
    }
    uint64_t from = pos / JF_ALIGN * JF_ALIGN;
    size_t want = (size_t)ALIGN_UP(pos + n - from, JF_ALIGN);
    int64_t size = env_file_size(w->env, w->file);
    uint64_t ahead = size > 0 && (uint64_t)size > from ? min_u64(WINDOW_BYTES, ALIGN_UP((uint64_t)size - from, JF_ALIGN)) : 0;
    want = max_u64(want, ahead); /* no more than there is: segments may be small */
    if (want > w->cap) {
        free(w->buf);
        w->cap = 0;
        w->buf = aligned_alloc(JF_ALIGN, want);
        if (w->buf == NULL) {
            w->error = -ENOMEM;
            return NULL;
        }
        w->cap = want;
    }
    ssize_t got = env_file_pread(w->env, w->file, w->buf, want, from);
    if (got < 0) {
        /* One bad sector must not hide the rest: what cannot be read piece by piece either reads as zeros, which is damage. */
        for (size_t at = 0; at < want; at += JF_ALIGN) {
            if (!read_page(w, w->buf + at, from + at)) {
                w->unreadable = max_u64(w->unreadable, from + at + JF_ALIGN);
            }
        }
        got = (ssize_t)want;
    }
    memset(w->buf + got, 0, want - (size_t)got);
    w->pos = from;
    w->len = want;
    return w->buf + (pos - from);
}

static void scan_add_entry(struct scan *s, const struct jf_dirent *d, bool bad)
{
    if (s->n_dir == s->cap_dir) {
        s->cap_dir = s->cap_dir > 0 ? 2 * s->cap_dir : 256;
        s->dir = xrealloc(s->dir, s->cap_dir * sizeof *s->dir);
        s->bad = xrealloc(s->bad, s->cap_dir * sizeof *s->bad);
    }
    s->dir[s->n_dir] = *d;
    s->bad[s->n_dir++] = bad;
}

static struct scanned_block *scan_add_block(struct scan *s)
{
    if (s->n_blocks == s->cap_blocks) {
        s->cap_blocks = s->cap_blocks > 0 ? 2 * s->cap_blocks : 64;
        s->blocks = xrealloc(s->blocks, s->cap_blocks * sizeof *s->blocks);
    }
    struct scanned_block *b = &s->blocks[s->n_blocks++];
    memset(b, 0, sizeof *b);
    return b;
}

/* Records of a block: by its directory, or, if that is damaged, from record header to record header. */
static void scan_records(const struct segment *s, const struct jf_block_header *h, uint32_t pos, const uint8_t *p, struct scanned_block *b, struct scan *out)
{
    const uint8_t *dir = p + h->dir_pos;
    bool dir_ok = jf_directory_crc(s->salt, dir, (size_t)h->n_records * JF_DIRENT_SIZE) == h->dir_crc;
    b->complete = b->complete && dir_ok;
    if (h->kind == JF_BLOCK_FOOTER) {
        return;
    }
    uint32_t at = JF_BLOCK_HEADER_SIZE;
    for (uint32_t i = 0; i < h->n_records; i++) {
        struct jf_dirent d;
        bool own_ok = at + JF_RECORD_HEADER_SIZE <= h->dir_pos && jf_record_header_decode(p + at, h->dir_pos - at, s->salt, &d);
        if (dir_ok) {
            jf_dirent_decode(dir + (size_t)i * JF_DIRENT_SIZE, &d);
        } else if (!own_ok) {
            b->n_lost = h->n_records - i;
            break;
        }
        uint64_t end = (uint64_t)at + jf_record_length(d.len);
        if (d.pos != pos + at + JF_RECORD_HEADER_SIZE || end > h->dir_pos) {
            b->n_lost = h->n_records - i;
            b->complete = false;
            break;
        }
        bool bad = crc32c(0, p + at + JF_RECORD_HEADER_SIZE, d.len) != d.crc;
        b->complete = b->complete && own_ok && !bad;
        scan_add_entry(out, &d, bad);
        b->n++;
        at = (uint32_t)end;
    }
}

/* Is there a block of ours whose header (at pos) or trailer (before pos) is right? Only block boundaries are looked at, and a block must name
 * its own place; so bytes of clients never pass for one (F8). */
static bool block_at(struct window *w, const struct segment *s, uint64_t pos, uint64_t from, uint64_t limit, uint64_t seq_min, struct jf_block_header *h,
                     uint64_t *start, bool *header_ok)
{
    const uint8_t *p;
    if (pos > from && (p = window_at(w, pos - JF_BLOCK_HEADER_SIZE, JF_BLOCK_HEADER_SIZE)) != NULL &&
        jf_block_header_decode(p, JF_BLOCK_HEADER_SIZE, s->salt, true, h) && h->length <= pos - from && h->seq >= seq_min &&
        h->position == s->position + (pos - h->length - JF_DATA)) {
        *start = pos - h->length;
        *header_ok = false;
        return true;
    }
    if (pos + JF_ALIGN <= limit && (p = window_at(w, pos, JF_BLOCK_HEADER_SIZE)) != NULL &&
        jf_block_header_decode(p, JF_BLOCK_HEADER_SIZE, s->salt, false, h) && h->length <= limit - pos && h->seq >= seq_min &&
        h->position == s->position + (pos - JF_DATA)) {
        *start = pos;
        *header_ok = true;
        return true;
    }
    return false;
}

static void scan_block(struct window *w, const struct segment *s, uint64_t start, const struct jf_block_header *h, bool header_ok, struct scanned_block *b,
                       struct scan *out)
{
    const uint8_t *p = window_at(w, start, h->length);
    if (p == NULL) {
        return;
    }
    struct jf_block_header t;
    bool trailer_ok = jf_block_header_decode(p + h->length - JF_BLOCK_HEADER_SIZE, JF_BLOCK_HEADER_SIZE, s->salt, true, &t) && t.seq == h->seq;
    uint8_t again[JF_BLOCK_HEADER_SIZE];
    *b = (struct scanned_block){.pos = (uint32_t)start, .length = h->length, .seq = h->seq, .position = h->position, .vouched = h->vouched,
                                .incarnation = h->incarnation, .first_jseq = h->first_jseq, .kind = h->kind, .first = out->n_dir,
                                .complete = header_ok && trailer_ok, .crc = jf_block_header_encode(again, h, false)};
    scan_records(s, h, b->pos, p, b, out);
}

int scan_open_direct(struct journal *j, struct segment *s, struct env_file **out)
{
    char path[JOURNAL_PATH_MAX];
    segment_path(j, path, "seg", s->number);
    int e = env_file_open(j->env, path, ENV_OPEN_READ | ENV_OPEN_DIRECT, out);
    /* Some file systems (in memory, mostly) know no such thing. */
    return e == -EINVAL ? env_file_open(j->env, path, ENV_OPEN_READ, out) : e;
}

int scan_segment(struct journal *j, struct segment *s, uint64_t limit, bool direct, struct scan *out)
{
    memset(out, 0, sizeof *out);
    struct window w = {.env = j->env, .file = s->file};
    if (direct) {
        int e = scan_open_direct(j, s, &w.file);
        if (e != 0) {
            return e;
        }
    }
    int64_t size = env_file_size(j->env, w.file);
    if (size < 0) {
        w.error = (int)size;
    }
    limit = min_u64(limit, size > 0 ? ALIGN_UP((uint64_t)size, JF_ALIGN) : 0);
    uint64_t pos = JF_DATA, seq = s->first_seq;
    uint32_t prev_crc = 0;
    while (pos < limit && w.error == 0) {
        struct jf_block_header h;
        uint64_t start = 0;
        bool header_ok = false, found = false;
        for (int i = 1; i < READ_ATTEMPTS && w.error == 0 && !block_at(&w, s, pos, pos, limit, seq, &h, &start, &header_ok); i++) {
            w.len = 0; /* read again: usually the end of the log, but who knows */
        }
        for (uint64_t at = pos; at <= limit && !found && w.error == 0; at += JF_ALIGN) {
            found = block_at(&w, s, at, pos, limit, seq, &h, &start, &header_ok);
        }
        if (!found) {
            break;
        }
        struct scanned_block *b = scan_add_block(out);
        for (int i = 0; i < READ_ATTEMPTS && w.error == 0; i++) {
            out->n_dir = b->first = i == 0 ? out->n_dir : b->first;
            scan_block(&w, s, start, &h, header_ok, b, out);
            if (h.seq == seq && h.prev_crc != prev_crc) {
                b->complete = false; /* the chain does not hold */
            }
            if (b->complete) {
                break;
            }
            w.len = 0;
            struct jf_block_header again;
            uint64_t where;
            bool ok;
            if (block_at(&w, s, start, start, limit, seq, &again, &where, &ok)) {
                h = again;
                header_ok = true;
            }
        }
        prev_crc = b->crc;
        seq = h.seq + 1;
        pos = start + h.length;
    }
    if (direct) {
        env_file_close(j->env, w.file);
    }
    out->unreadable = w.unreadable;
    free(w.buf);
    if (w.error != 0) {
        scan_free(out);
    }
    return w.error;
}

void scan_free(struct scan *s)
{
    free(s->blocks);
    free(s->dir);
    free(s->bad);
    memset(s, 0, sizeof *s);
}

static bool footer_once(struct journal *j, struct segment *s, uint64_t end, struct jf_dirent **dir, size_t *n, uint32_t *footer_pos, struct jf_block_header *h)
{
    struct window w = {.env = j->env, .file = s->file};
    bool ok = false;
    const uint8_t *p = NULL;
    if (end >= JF_DATA + JF_ALIGN && end % JF_ALIGN == 0) {
        p = window_at(&w, end - JF_ALIGN, JF_ALIGN);
    }
    if (p != NULL && jf_block_header_decode(p + JF_ALIGN - JF_BLOCK_HEADER_SIZE, JF_BLOCK_HEADER_SIZE, s->salt, true, h) && h->kind == JF_BLOCK_FOOTER &&
        h->length <= end - JF_DATA && h->position == s->position + (end - h->length - JF_DATA)) {
        p = window_at(&w, end - h->length, h->length);
        const uint8_t *d = p != NULL ? p + h->dir_pos : NULL;
        if (d != NULL && jf_directory_crc(s->salt, d, (size_t)h->n_records * JF_DIRENT_SIZE) == h->dir_crc) {
            ok = true;
            *n = h->n_records;
            *dir = xmalloc((*n > 0 ? *n : 1) * sizeof **dir);
            for (size_t i = 0; i < *n; i++) {
                jf_dirent_decode(d + i * JF_DIRENT_SIZE, &(*dir)[i]);
                ok = ok && (*dir)[i].pos >= JF_DATA && (uint64_t)(*dir)[i].pos + (*dir)[i].len <= end;
            }
            if (!ok) {
                free(*dir);
            }
        }
        *footer_pos = (uint32_t)(end - h->length);
    }
    free(w.buf);
    return ok;
}

bool scan_footer(struct journal *j, struct segment *s, uint64_t end, struct jf_dirent **dir, size_t *n, uint32_t *footer_pos, struct jf_block_header *h)
{
    bool ok = false;
    for (int i = 0; i < READ_ATTEMPTS && !ok; i++) {
        ok = footer_once(j, s, end, dir, n, footer_pos, h);
    }
    return ok;
}
