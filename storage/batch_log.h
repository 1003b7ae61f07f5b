/* batch_log.h: a shard's history on this replica: the list of locators of its committed batches.
 *
 * Built by recovery (batches at or below the snapshot and, through apply, those after it), by apply, and by seeding. It is an index, never
 * state: everything in it can be rebuilt from the journal. Offsets in it are contiguous from `first` to `next` except while a replica is being
 * seeded (then [first, next) has a hole and reads of it answer -EAGAIN). */
#ifndef SLUICE_BATCH_LOG_H
#define SLUICE_BATCH_LOG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "storage/journal.h"

struct batch_log;

struct locator {
    uint64_t offset;     /* first record */
    uint64_t time_ms;
    struct place place;
    uint32_t count;
};

struct batch_log *batch_log_open(struct journal *j, uint64_t group);
void batch_log_close(struct batch_log *b);
/* After recovery: takes what the journal found at or below `next` (the snapshot's next offset) and at or above its trim point. 0 or -EIO if a hole
 * is left between first and next (then *hole_from, *hole_to tell it: to be seeded). */
int batch_log_recover(struct batch_log *b, const struct recovered_group *g, uint64_t first, uint64_t next, uint64_t *hole_from, uint64_t *hole_to);
/* A committed batch at the end; l->offset must equal batch_log_next() (asserted). */
void batch_log_append(struct batch_log *b, const struct locator *l);
/* A seeded batch (any order, inside a hole or beyond the end while seeding). 0, or -EEXIST if those offsets are there already. */
int batch_log_insert(struct batch_log *b, const struct locator *l);
/* First hole in [from, to): true and its bounds. */
bool batch_log_hole(const struct batch_log *b, uint64_t from, uint64_t to, uint64_t *hole_from, uint64_t *hole_to);
/* A snapshot came by install: the log is [first, next) now. Of what is stored only batches in this range stay (seeded ones, or had before). */
void batch_log_reset(struct batch_log *b, uint64_t first, uint64_t next);
/* Forgets batches that lie wholly below `first`. */
void batch_log_trim(struct batch_log *b, uint64_t first);
uint64_t batch_log_first(const struct batch_log *b);   /* first offset readable */
uint64_t batch_log_next(const struct batch_log *b);
/* The batch that holds `offset`; false if it is not here. */
bool batch_log_find(const struct batch_log *b, uint64_t offset, struct locator *out);
/* The first batch whose time is >= time_ms; false if there is none (position: next). */
bool batch_log_find_time(const struct batch_log *b, uint64_t time_ms, struct locator *out);
/* The carried copy of a batch: moves its locator. */
void batch_log_moved(struct batch_log *b, uint64_t offset, const struct place *from, const struct place *to);
/* Highest offset (exclusive) of batches older than time_ms: what retention may trim to. */
uint64_t batch_log_older_than(const struct batch_log *b, uint64_t time_ms);
uint64_t batch_log_bytes(const struct batch_log *b);   /* payload bytes stored */

/* Reads consecutive batches from `offset`: up to max_bytes (at least one batch). Embedded request. */
struct batch_read;
typedef void (*batch_read_done)(struct batch_read *r);
enum { BATCH_READ_MAX = 64 };
struct batch_read {
    uint64_t offset;           /* in */
    uint32_t max_bytes;        /* in */
    uint64_t limit;            /* in: stop before batches at or above this offset (the commit end) */
    batch_read_done done;
    int status;                /* 0; -ENODATA (offset == end); -ENOENT (below first); -EAGAIN (hole: being seeded); -EIO (damaged) */
    unsigned n;                /* out: number of batches */
    struct journal_read reads[BATCH_READ_MAX]; /* out: data and place.len of each; pinned until batch_read_end() */
    uint32_t counts[BATCH_READ_MAX]; /* out: records of each */
    uint64_t next_offset;      /* out: after the last batch */
    unsigned pending;          /* own */
    struct batch_log *log;     /* own */
};
/* 1: finished at once (status set, done is not called); 0: done will be called. */
int batch_read_begin(struct batch_log *b, struct batch_read *r);
/* Releases the pins; always after begin finished (also on error). */
void batch_read_end(struct batch_read *r);

#endif
