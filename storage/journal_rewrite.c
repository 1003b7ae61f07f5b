/* Recovery after an I/O error: what is really on the disk of the newest segment is written anew into a fresh one (F3). */
#include <errno.h>
#include <stdlib.h>

#include "proto/crc32c.h"
#include "storage/journal_impl.h"

struct rewritten {
    struct journal_append append;
    uint8_t *bytes;
    struct rewritten *next;
};
enum { REWRITE_STEP = 4 << 20 };

static int flush_rewritten(struct journal *j, struct rewritten **list)
{
    journal_flush(j);
    while (*list != NULL) {
        struct rewritten *w = *list;
        *list = w->next;
        free(w->bytes);
        free(w);
    }
    return j->dead ? -EIO : 0;
}

/* What the scan found good must be good again; a record that was found damaged is taken as it is, under the checksum that tells so. */
static int read_checked(struct journal *j, struct env_file *file, uint8_t *buf, size_t n, uint64_t from, const struct jf_dirent *d, bool damaged_too)
{
    ssize_t got = 0;
    for (int i = 0; i < 3 && n > 0; i++) {
        got = env_file_pread(j->env, file, buf, n, from);
        if (got >= 0 && (uint64_t)got >= d->pos - from + d->len && crc32c(0, buf + (d->pos - from), d->len) == d->crc) {
            return 0;
        }
    }
    return n == 0 || (got >= 0 && damaged_too) ? 0 : -EIO;
}

/* F3, after an error the page cache is not to be believed: what was accepted (read past the cache) is written again, into a fresh segment; each
 * record keeps its identity, as any carried copy does. The old file is deleted, not recycled. */
int rewrite_tail(struct journal *j, struct replay *replay, struct segment *old)
{
    char path[JOURNAL_PATH_MAX];
    segment_path(j, path, "seg", old->number);
    struct env_file *file;
    int e = scan_open_direct(j, old, &file);
    if (e != 0) {
        return e;
    }
    j->active = old;
    segment_begin(j, 2 * (uint64_t)old->tail + JF_ALIGN);
    struct segment *s = j->active;
    s->rewrites = old->number;
    struct rewritten *pending = NULL;
    for (size_t i = 0; i < old->n_dir && e == 0; i++) {
        const struct jf_dirent *d = &old->dir[i];
        if (d->kind == JF_KIND_MANIFEST) {
            continue;
        }
        uint64_t from = d->pos / JF_ALIGN * JF_ALIGN;
        size_t n = (size_t)ALIGN_UP(d->pos + d->len - from, JF_ALIGN);
        struct rewritten *w = xcalloc(1, sizeof *w);
        w->next = pending;
        pending = w;
        w->bytes = aligned_alloc(JF_ALIGN, n > 0 ? n : JF_ALIGN);
        e = w->bytes == NULL ? -ENOMEM : read_checked(j, file, w->bytes, n, from, d, old->damaged);
        w->append.record = (struct journal_record){.kind = (enum journal_kind)d->kind, .data = w->bytes + (d->pos - from), .len = d->len};
        if (e == 0) {
            journal_put_raw(j, &w->append, d);
        }
        if (j->backlog >= REWRITE_STEP) {
            e = e == 0 ? flush_rewritten(j, &pending) : e;
        }
    }
    e = e == 0 ? flush_rewritten(j, &pending) : e;
    env_file_close(j->env, file);
    if (e != 0) {
        return e;
    }
    struct journal_append *a = xcalloc(1, sizeof *a);
    a->record = (struct journal_record){.kind = (enum journal_kind)JF_KIND_FREE, .a = old->number, .b = old->salt};
    old->state = SEGMENT_FREEING;
    journal_put_own(j, a);
    e = flush_rewritten(j, &pending);
    if (e != 0) {
        return e;
    }
    size_t kept = 0, k = 0;
    for (size_t i = 0; i < replay->n; i++) {
        struct replay_entry *p = &replay->entries[i];
        if (p->segment == old) {
            if (p->d.kind == JF_KIND_MANIFEST) {
                continue;
            }
            while (k < s->n_dir && s->dir[k].jseq != p->d.jseq) {
                k++;
            }
            sluice_assert(k < s->n_dir);
            p->d = s->dir[k];
            p->segment = s;
            s->damaged = s->damaged || p->damaged;
        }
        replay->entries[kept++] = *p;
    }
    replay->n = kept;
    segment_remove(j, old);
    env_unlink(j->env, path);
    return env_dir_sync(j->env, j->dir);
}
