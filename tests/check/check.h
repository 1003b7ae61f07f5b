/* check.h: the judge of a history: stands outside the nodes and knows nothing of them.
 *
 * A history is what clients saw (puts, reads) and what every replica holds at the end (finals), timed by one clock. check() looks for the anomalies of
 * the table in jepsen/README.md (numbers as there): replica divergence (1), lost write (2), inconsistent offset (3), phantom (4), duplicate (5), vanished
 * read (6), non-monotonic numbers (7), gap in a read (8), closed too early (9), real-time order (10), stale fresh read (12); and, if it is told of the shards: order of a
 * key over parents and children (11), wrong shard (13), lineage (14), child before parent (15).
 * Values are unique 64-bit numbers, never 0; a record's place is (shard, offset). Used by the simulator and by sluice-check (JSON lines). */
#ifndef SLUICE_CHECK_H
#define SLUICE_CHECK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "proto/batch.h"

enum check_result { CHECK_OK, CHECK_FAIL /* surely not done */, CHECK_INFO /* unknown */ };

struct check_record { uint64_t offset, value; };

struct check_put {
    uint32_t process, shard;   /* shard: of the acknowledgement, else where it was sent */
    uint64_t start, end;       /* ns */
    enum check_result result;
    uint64_t value, offset;    /* offset if result is OK */
    bool idempotent;
    uint64_t order;            /* the client's own order of sending to this shard (rising); 0: not claimed */
    uint64_t key;              /* of the partition key, from 1; 0: not told */
    struct hash128 hash;       /* its hash key */
};
struct check_read {
    uint32_t process, shard, session;
    uint32_t application;      /* whose sessions make up one hand-over of all shards (15) */
    uint64_t start, end;
    enum check_result result;
    uint64_t from;             /* first offset asked for; UINT64_MAX: trim horizon */
    bool fresh, tail, closed;
    size_t first, n;           /* records in history.records */
};
struct check_final {
    uint32_t shard, node;
    uint64_t trim;             /* lowest offset kept */
    bool closed;
    size_t first, n;
};

struct check_shard {           /* as the cluster describes it in the end */
    uint32_t shard, parents[2];
    unsigned n_parents;
    bool closed;
    struct hash128 first, last;
    uint64_t created_s;
};

struct history {
    struct check_put *puts; size_t n_puts, cap_puts;
    struct check_read *reads; size_t n_reads, cap_reads;
    struct check_final *finals; size_t n_finals, cap_finals;
    struct check_record *records; size_t n_records, cap_records;
    struct check_shard *shards; size_t n_shards, cap_shards;
};

void history_init(struct history *h);
void history_deinit(struct history *h);
void history_put(struct history *h, const struct check_put *p);
/* records are copied; r->first and r->n are set here. */
void history_read(struct history *h, struct check_read r, const struct check_record *records, size_t n);
void history_final(struct history *h, struct check_final f, const struct check_record *records, size_t n);

void history_shard(struct history *h, const struct check_shard *s);
/* The open ones among them cover every hash key exactly once. */
bool check_tiles(const struct check_shard *shards, size_t n);

struct check_summary {
    size_t anomalies;          /* all of them; the first few are printed */
    size_t by_kind[32];        /* by number of the table */
    size_t acked, failed, unknown, records_read, records_final;
};
/* Judges; prints at most 20 anomalies to out (NULL: none). */
void check(const struct history *h, struct check_summary *s, FILE *out);

#endif
