#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "storage/journal_recover.h"

/* Recovery, from the newest segment to the oldest:
 *
 *   list files -> headers: begun or not -> scan the newest (the tail) -> cut it where nothing was vouched for (F2)
 *   -> each older one: end known by its successor's header or by the manifest -> footer, or a scan
 *   -> segments that are freed: to the pool; that are missing: everything before them may be lost
 *   -> fdatasync (F3) -> replay in the order of jseq (F1) -> begin a fresh segment, whose header makes the cut durable */

#define POOL_IDS ((uint64_t)1 << 63) /* no journal makes so many files: what bears a higher number is not ours */

static bool name_number(const char *name, const char *prefix, uint64_t *number)
{
    size_t n = strlen(prefix);
    if (strncmp(name, prefix, n) != 0 || strlen(name) != n + 16 || strspn(name + n, "0123456789abcdef") != 16) {
        return false;
    }
    *number = strtoull(name + n, NULL, 16);
    return true;
}

/* What bears the name but cannot be written is left alone, and its name is not taken for another file. Holes (of a file that was copied, say) do not count:
 * what is written into them takes room that the disk may not have. */
static void pool_found(struct journal *j, uint64_t number)
{
    char path[JOURNAL_PATH_MAX];
    struct env_file *file;
    if (number >= POOL_IDS) {
        return;
    }
    j->next_pool_id = max_u64(j->next_pool_id, number + 1);
    segment_path(j, path, "pool", number);
    if (env_file_open(j->env, path, ENV_OPEN_READ | ENV_OPEN_WRITE, &file) == 0) {
        int64_t size = env_file_size(j->env, file), taken = env_file_allocated(j->env, file);
        env_file_close(j->env, file);
        if (size >= 0 && taken >= 0) {
            pool_note(j, number, min_u64((uint64_t)size, (uint64_t)taken));
        }
    }
}

static void name_found(void *arg, const char *name)
{
    struct names *l = arg;
    uint64_t number;
    if (name_number(name, "pool-", &number)) {
        pool_found(l->j, number);
    } else if (name_number(name, "seg-", &number) && number > 0) {
        if (l->n == l->cap) {
            l->cap = l->cap > 0 ? 2 * l->cap : 16;
            l->files = xrealloc(l->files, l->cap * sizeof *l->files);
        }
        l->files[l->n++] = (struct found){.number = number};
    }
}

static int read_header(struct journal *j, struct recovery *r, struct found *f)
{
    char path[JOURNAL_PATH_MAX];
    segment_path(j, path, "seg", f->number);
    int e = env_file_open(j->env, path, ENV_OPEN_READ | ENV_OPEN_WRITE, &f->file);
    if (e != 0) {
        recovery_complain(r, "cannot open %s: %s", path, strerror(-e));
        return e;
    }
    f->size = env_file_size(j->env, f->file);
    uint8_t *buf = xcalloc(1, JF_DATA);
    bool ok[2], any = false;
    for (int i = 0; i < 2; i++) {
        struct jf_segment_header h;
        uint8_t *at = buf + i * JF_SEGMENT_HEADER_SIZE;
        ok[i] = false;
        for (int k = 0; k < 3 && !ok[i]; k++) {
            ssize_t got = env_file_pread(j->env, f->file, at, JF_SEGMENT_HEADER_SIZE, (uint64_t)i * JF_SEGMENT_HEADER_SIZE);
            ok[i] = got == JF_SEGMENT_HEADER_SIZE && jf_segment_header_decode(at, JF_SEGMENT_HEADER_SIZE, &h);
        }
        any = any || ok[i];
        ok[i] = ok[i] && h.number == f->number;
        if (ok[i]) {
            f->h = h;
        }
    }
    free(buf);
    f->begun = ok[0] || ok[1];
    f->one_bad = f->begun && !(ok[0] && ok[1]);
    f->unreadable = !f->begun && !any;
    if (!f->begun) {
        return 0;
    }
    static const uint8_t none[16];
    const struct jf_segment_header *h = &f->h;
    if (h->version != JF_VERSION) {
        recovery_complain(r, "%s has format version %u; this program knows %d", path, h->version, JF_VERSION);
        return ENV_EXIT_FORMAT;
    }
    if (h->node_id != j->o.node_id || h->lane != j->o.lane) {
        recovery_complain(r, "%s belongs to node %u lane %u, not to node %u lane %u", path, h->node_id, h->lane, j->o.node_id, j->o.lane);
        return ENV_EXIT_IDENTITY;
    }
    if (memcmp(h->cluster_id, none, 16) != 0 && memcmp(j->o.cluster_id, none, 16) != 0 && memcmp(h->cluster_id, j->o.cluster_id, 16) != 0) {
        recovery_complain(r, "%s belongs to another cluster", path);
        return ENV_EXIT_IDENTITY;
    }
    if (h->incarnation >= j->o.incarnation) {
        recovery_complain(r, "%s was written by life %" PRIu64 ", this is life %" PRIu64 ": the identity file is an older copy", path, h->incarnation,
                 j->o.incarnation);
        return ENV_EXIT_IDENTITY;
    }
    return 0;
}

/* A file that holds nothing that counts. */
static int to_pool(struct journal *j, struct found *f)
{
    char from[JOURNAL_PATH_MAX], to[JOURNAL_PATH_MAX];
    env_file_close(j->env, f->file);
    f->file = NULL;
    segment_path(j, from, "seg", f->number);
    segment_path(j, to, "pool", j->next_pool_id);
    int e = env_rename(j->env, from, to);
    if (e == 0) {
        pool_note(j, j->next_pool_id, f->size > 0 ? (uint64_t)f->size : 0);
    }
    return e;
}

static struct segment *take_segment(struct journal *j, struct found *f)
{
    struct segment *s = segment_add(j, f->number);
    s->file = f->file;
    f->file = NULL;
    s->salt = f->h.salt;
    s->size = f->h.size;
    s->position = f->h.position;
    s->prior = f->h.prior;
    s->prior_end = f->h.prior_end;
    s->first_seq = f->h.first_seq;
    s->first_jseq = f->h.first_jseq;
    s->rewrites = f->h.rewrites;
    s->allocated = f->size > 0 ? (uint64_t)f->size : 0;
    s->state = SEGMENT_SEALED;
    s->header_durable = true;
    return s;
}

static bool is_freed(const struct recovery *r, const struct jf_segment_header *h)
{
    for (size_t i = 0; i < r->n_frees; i++) {
        if (r->frees[i].a == h->number && r->frees[i].b == h->salt) {
            return true;
        }
    }
    if (r->manifest.jseq == 0 || h->number >= r->manifest.segment) {
        return false;
    }
    for (size_t i = 0; i < r->manifest.n; i++) {
        if (get_u64(r->manifest.bytes + i * JF_MANIFEST_ENTRY) == h->number) {
            return false;
        }
    }
    return true;
}

static uint64_t end_of(const struct journal *j, const struct recovery *r, const struct found *f)
{
    for (size_t i = 0; i < j->n_segments; i++) {
        if (j->segments[i]->prior == f->number) {
            return j->segments[i]->prior_end;
        }
    }
    for (size_t i = 0; i < r->manifest.n; i++) {
        const uint8_t *p = r->manifest.bytes + i * JF_MANIFEST_ENTRY;
        if (get_u64(p) == f->number && get_u64(p + 16) != 0) {
            return get_u64(p + 16);
        }
    }
    return f->h.size;
}

static bool is_expected(const struct journal *j, const struct recovery *r, uint64_t number)
{
    for (size_t i = 0; i < j->n_segments; i++) {
        if (j->segments[i]->prior == number) {
            return true;
        }
    }
    for (size_t i = 0; i < r->manifest.n; i++) {
        if (get_u64(r->manifest.bytes + i * JF_MANIFEST_ENTRY) == number) {
            return true;
        }
    }
    return false;
}

static int missing_segments(struct journal *j, struct recovery *r)
{
    for (size_t i = 0; i < r->manifest.n; i++) {
        uint64_t number = get_u64(r->manifest.bytes + i * JF_MANIFEST_ENTRY);
        struct jf_segment_header h = {.number = number, .salt = get_u64(r->manifest.bytes + i * JF_MANIFEST_ENTRY + 8)};
        if (segment_find(j, number) == NULL && !is_freed(r, &h)) {
            size_t k = 0;
            while (k < j->n_segments && j->segments[k]->number < number) {
                k++;
            }
            r->replay.lost_below = max_u64(r->replay.lost_below, k < j->n_segments ? j->segments[k]->first_jseq : j->next_jseq);
            r->lost_blocks++;
        }
    }
    return 0;
}

/* Files to segments and to the pool; from the newest to the oldest, since the newer ones tell about the older ones. */
static int recover_segments(struct journal *j, struct recovery *r, struct segment **tail)
{
    int e = 0;
    for (size_t i = r->names.n; i-- > 0 && e == 0;) {
        struct found *f = &r->names.files[i];
        j->next_number = max_u64(j->next_number, f->number + 1);
        if (f->unreadable && is_expected(j, r, f->number)) {
            continue; /* both headers are damaged: the file is left alone and counts as missing */
        }
        if (!f->begun || is_freed(r, &f->h)) {
            e = to_pool(j, f);
            continue;
        }
        r->rec->prior_incarnation = max_u64(r->rec->prior_incarnation, f->h.incarnation);
        j->next_seq = max_u64(j->next_seq, f->h.first_seq);
        j->next_jseq = max_u64(j->next_jseq, f->h.first_jseq);
        r->header_copies += f->one_bad;
        struct segment *s = take_segment(j, f);
        if (*tail != NULL) {
            e = recover_sealed(j, r, s, end_of(j, r, f));
            continue;
        }
        size_t replayed = r->replay.n;
        e = recover_scanned(j, r, s, s->size, true);
        if (e == 0 && s->rewrites != 0) {
            struct jf_segment_header old = {0};
            for (size_t k = 0; k < i; k++) {
                old = r->names.files[k].begun && r->names.files[k].number == s->rewrites ? r->names.files[k].h : old;
            }
            if (old.number != 0 && !is_freed(r, &old)) {
                /* The life before was about to rewrite the old tail and did not finish: as if it had not begun. */
                j->o.after_io_error = true;
                r->replay.n = replayed;
                free(r->manifest.bytes);
                r->manifest = (struct manifest){0};
                r->n_frees = 0;
                f->file = s->file;
                s->file = NULL;
                segment_remove(j, s);
                e = to_pool(j, f);
                continue;
            }
        }
        *tail = s;
        j->end = segment_position(s, s->tail);
    }
    return e;
}

static int repair_headers(struct journal *j, struct recovery *r)
{
    uint8_t *buf = xmalloc(JF_SEGMENT_HEADER_SIZE);
    int e = 0;
    for (size_t i = 0; i < r->names.n && e == 0; i++) {
        struct segment *s = segment_find(j, r->names.files[i].number);
        if (s != NULL && r->names.files[i].one_bad) {
            jf_segment_header_encode(buf, &r->names.files[i].h);
            e = env_file_pwrite(j->env, s->file, buf, JF_SEGMENT_HEADER_SIZE, 0);
            e = e == 0 ? env_file_pwrite(j->env, s->file, buf, JF_SEGMENT_HEADER_SIZE, JF_SEGMENT_HEADER_SIZE) : e;
            e = e == 0 ? env_file_sync(j->env, s->file) : e;
        }
    }
    free(buf);
    return e;
}

static int compare_found(const void *a, const void *b)
{
    const struct found *x = a, *y = b;
    return x->number < y->number ? -1 : x->number > y->number;
}

static int recover(struct journal *j, struct recovery *r)
{
    int e = env_mkdir(j->env, j->dir);
    char parent[JOURNAL_PATH_MAX];
    snprintf(parent, sizeof parent, "%s", j->dir);
    char *slash = strrchr(parent, '/');
    if (slash != NULL && slash != parent) {
        *slash = '\0';
    } else {
        snprintf(parent, sizeof parent, "%s", slash != NULL ? "/" : ".");
    }
    e = e == 0 ? env_dir_sync(j->env, parent) : e; /* or the folder itself may be gone after a power cut */
    e = e == 0 ? env_dir_list(j->env, j->dir, name_found, &r->names) : e;
    e = e == 0 ? env_disk_free(j->env, j->dir, &j->disk_free) : e;
    if (e != 0) {
        recovery_complain(r, "cannot use %s: %s", j->dir, strerror(-e));
        return e;
    }
    if (r->names.n > 0) {
        qsort(r->names.files, r->names.n, sizeof *r->names.files, compare_found);
    }
    bool begun = false;
    for (size_t i = 0; i < r->names.n && e == 0; i++) {
        e = read_header(j, r, &r->names.files[i]);
        begun = begun || r->names.files[i].begun;
    }
    struct segment *tail = NULL;
    e = e == 0 ? recover_segments(j, r, &tail) : e;
    e = e == 0 ? missing_segments(j, r) : e;
    e = e == 0 ? repair_headers(j, r) : e;
    if (e != 0) {
        return e;
    }
    r->rec->blank = !begun;
    r->rec->prior_end = j->end;
    j->durable = j->acknowledged = j->end;
    /* F3: what recovery read may still be only in the page cache. Nothing leaves this function before it is on the disk. */
    for (size_t i = 0; i < j->n_segments && e == 0 && !rule_off(j, JOURNAL_RULE_F3); i++) {
        if (j->segments[i]->footer_pos == 0) {
            e = env_file_sync(j->env, j->segments[i]->file);
        }
    }
    e = e == 0 ? env_dir_sync(j->env, j->dir) : e;
    for (size_t i = 0; i < j->n_segments; i++) {
        j->planned_size = min_u64(max_u64(j->planned_size, j->segments[i]->size), j->o.segment_max);
    }
    if (e == 0 && tail != NULL && j->o.after_io_error) {
        e = rewrite_tail(j, &r->replay, tail);
    } else if (e == 0) {
        j->active = tail;
        segment_begin(j, 0);
        journal_flush(j);
        e = j->dead ? -EIO : 0;
    }
    if (e != 0) {
        if (r->err[0] == '\0') {
            recovery_complain(r, "recovery of %s failed: %s", j->dir, strerror(-e));
        }
        return e;
    }
    return replay_run(j, &r->replay, r->rec);
}

int journal_recover(struct journal *j, struct recovered *rec, char err[256])
{
    struct recovery r = {.names = {.j = j}, .rec = rec, .err = err};
    int e = recover(j, &r);
    for (size_t i = 0; i < r.names.n; i++) {
        if (r.names.files[i].file != NULL) {
            env_file_close(j->env, r.names.files[i].file);
        }
    }
    if (e == 0) {
        rec->end = j->end;
        j->served = false;
        j->durable = j->end;
        j->durable_segment = j->active->number;
        j->durable_pos = j->active->tail;
        if (rec->cut_bytes + r.damaged_records + r.damaged_blocks + r.lost_blocks + r.header_copies > 0) {
            snprintf(rec->message, sizeof rec->message,
                     "torn tail of %" PRIu64 " bytes cut; damage: %" PRIu64 " records, %" PRIu64 " blocks in part, %" PRIu64 " blocks or segments as a whole, %" PRIu64
                     " segment headers in one copy (repaired)",
                     rec->cut_bytes, r.damaged_records, r.damaged_blocks, r.lost_blocks, r.header_copies);
        }
    }
    free(r.names.files);
    free(r.manifest.bytes);
    free(r.frees);
    replay_free(&r.replay);
    return e;
}
