/* Recovery, one segment: what a scan or a footer tells is judged (torn tail or damage) and noted for the replay. */
#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "proto/crc32c.h"
#include "storage/journal_recover.h"

void recovery_complain(struct recovery *r, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    vsnprintf(r->err, 256, format, args);
    va_end(args);
}

int journal_pread(struct journal *j, struct segment *s, void *buf, size_t n, uint64_t pos, uint32_t crc)
{
    for (int i = 0; i < 3; i++) {
        ssize_t got = env_file_pread(j->env, s->file, buf, n, pos);
        if (got >= 0 && (size_t)got == n && crc32c(0, buf, n) == crc) {
            return 0;
        }
    }
    return -EIO;
}

/* What the journal itself wrote among a segment's records. */
static int own_records(struct journal *j, struct recovery *r, struct segment *s, const struct jf_dirent *dir, const bool *bad, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        const struct jf_dirent *d = &dir[i];
        j->next_jseq = max_u64(j->next_jseq, d->jseq + 1);
        if (d->kind == JF_KIND_FREE) {
            if (r->n_frees == r->cap_frees) {
                r->cap_frees = r->cap_frees > 0 ? 2 * r->cap_frees : 16;
                r->frees = xrealloc(r->frees, r->cap_frees * sizeof *r->frees);
            }
            r->frees[r->n_frees++] = *d;
        } else if (d->kind == JF_KIND_MANIFEST && d->jseq > r->manifest.jseq && (bad == NULL || !bad[i])) {
            uint8_t *bytes = xmalloc(d->len);
            if (journal_pread(j, s, bytes, d->len, d->pos, d->crc) == 0) {
                free(r->manifest.bytes);
                r->manifest = (struct manifest){.segment = s->number, .jseq = d->jseq, .bytes = bytes, .n = d->len / JF_MANIFEST_ENTRY};
            } else {
                free(bytes);
            }
        } else if (d->kind > JOURNAL_NOTE && d->kind != JF_KIND_MANIFEST) {
            recovery_complain(r, "unknown record kind %u in segment %" PRIx64 ": written by a newer version", d->kind, s->number);
            return ENV_EXIT_FORMAT;
        }
    }
    return 0;
}

/* How far the tail is good: index of the first block that is not accepted. Also sets where the accepted bytes end. */
static size_t judge(struct journal *j, struct recovery *r, const struct segment *s, const struct scan *sc, bool is_tail, uint32_t *end)
{
    uint64_t vouched = max_u64(r->vouched, s->position);
    uint64_t last_complete = 0;
    for (size_t i = 0; i < sc->n_blocks; i++) {
        vouched = max_u64(vouched, sc->blocks[i].vouched);
        last_complete = sc->blocks[i].complete ? sc->blocks[i].position : last_complete;
    }
    if (rule_off(j, JOURNAL_RULE_F2)) {
        vouched = max_u64(vouched, last_complete); /* the mistake: a valid later record makes what lies before it damage */
    }
    if (!is_tail) {
        vouched = UINT64_MAX;
    }
    r->vouched = max_u64(r->vouched, is_tail ? vouched : 0);
    uint64_t pos = JF_DATA, seq = s->first_seq;
    *end = JF_DATA;
    for (size_t i = 0; i < sc->n_blocks; i++) {
        const struct scanned_block *b = &sc->blocks[i];
        if (b->pos != pos || b->seq != seq) {
            if (b->position > vouched || segment_position(s, (uint32_t)pos) >= vouched) {
                /* The hole reaches to where nothing was vouched for. If it begins below, what lay there is lost as well. */
                if (segment_position(s, (uint32_t)pos) < vouched) {
                    r->lost_blocks++;
                    r->replay.lost_below = max_u64(r->replay.lost_below, b->first_jseq);
                    *end = b->pos;
                    j->next_seq = max_u64(j->next_seq, b->seq);
                }
                return i;
            }
            r->lost_blocks++;
            r->replay.lost_below = max_u64(r->replay.lost_below, b->first_jseq);
        }
        if (!b->complete && b->position + b->length > vouched) {
            return i;
        }
        r->damaged_blocks += !b->complete;
        pos = (uint64_t)b->pos + b->length;
        seq = b->seq + 1;
        *end = (uint32_t)pos;
        j->next_seq = max_u64(j->next_seq, seq);
        r->rec->prior_incarnation = max_u64(r->rec->prior_incarnation, b->incarnation);
        j->next_jseq = max_u64(j->next_jseq, b->first_jseq);
    }
    return sc->n_blocks;
}

/* Accepted entries of a scanned segment. */
static int accept_blocks(struct journal *j, struct recovery *r, struct segment *s, struct scan *sc, size_t n_blocks)
{
    size_t n = 0;
    for (size_t i = 0; i < n_blocks; i++) {
        const struct scanned_block *b = &sc->blocks[i];
        n = b->first + b->n;
        if (b->n_lost > 0) {
            r->lost_blocks++;
            uint64_t next = i + 1 < n_blocks ? sc->blocks[i + 1].first_jseq : UINT64_MAX;
            for (size_t k = 0; next == UINT64_MAX && k < sc->n_dir; k++) {
                j->next_jseq = max_u64(j->next_jseq, sc->dir[k].jseq + 1 + b->n_lost);
            }
            r->replay.lost_below = max_u64(r->replay.lost_below, next == UINT64_MAX ? j->next_jseq : next);
        }
    }
    int e = own_records(j, r, s, sc->dir, sc->bad, n);
    for (size_t i = 0; i < n && e == 0; i++) {
        segment_dir_add(s, &sc->dir[i]);
        r->damaged_records += sc->bad[i];
        s->damaged = s->damaged || sc->bad[i];
        replay_add(&r->replay, &sc->dir[i], s, sc->bad[i]);
    }
    s->damaged = s->damaged || r->lost_blocks > 0;
    return e;
}

int recover_scanned(struct journal *j, struct recovery *r, struct segment *s, uint64_t limit, bool is_tail)
{
    struct scan sc;
    int e = scan_segment(j, s, limit, is_tail, &sc);
    if (e != 0) {
        recovery_complain(r, "cannot read segment %" PRIx64 ": %s", s->number, strerror(-e));
        return e;
    }
    uint32_t end;
    size_t n = judge(j, r, s, &sc, is_tail, &end);
    if (is_tail && sc.unreadable > end) {
        recovery_complain(r, "segment %" PRIx64 " has a page that cannot be read where the log ends: torn tail and damage cannot be told apart", s->number);
        scan_free(&sc);
        return ENV_EXIT_DAMAGE;
    }
    if (is_tail) {
        for (size_t i = n; i < sc.n_blocks; i++) {
            r->rec->cut_bytes += sc.blocks[i].length;
        }
        s->tail = end;
    } else {
        s->tail = limit < s->size ? (uint32_t)limit : end;
        if (end < s->tail) {
            r->lost_blocks++; /* blocks at its end are gone; their records come before those of the next segment */
            size_t i = 0;
            while (i < j->n_segments && j->segments[i]->number <= s->number) {
                i++;
            }
            r->replay.lost_below = max_u64(r->replay.lost_below, i < j->n_segments ? j->segments[i]->first_jseq : 0);
        }
    }
    e = accept_blocks(j, r, s, &sc, n);
    scan_free(&sc);
    return e;
}

int recover_sealed(struct journal *j, struct recovery *r, struct segment *s, uint64_t end)
{
    struct jf_dirent *dir = NULL;
    size_t n = 0;
    struct jf_block_header h;
    if (end <= s->size && scan_footer(j, s, end, &dir, &n, &s->footer_pos, &h)) {
        s->tail = (uint32_t)end;
        s->n_dir = n;
        j->next_seq = max_u64(j->next_seq, h.seq + 1);
        j->next_jseq = max_u64(j->next_jseq, h.first_jseq);
        r->rec->prior_incarnation = max_u64(r->rec->prior_incarnation, h.incarnation);
        int e = own_records(j, r, s, dir, NULL, n);
        for (size_t i = 0; i < n && e == 0; i++) {
            replay_add(&r->replay, &dir[i], s, false);
        }
        free(dir);
        return e;
    }
    s->footer_pos = 0;
    return recover_scanned(j, r, s, min_u64(end, s->size), false);
}
