/* merge.h: the records of several shards in one order: by arrival time, ties by shard, each shard's own order kept.
 *
 * All records of a batch arrived at the same time, so whole batches are merged. A batch may go out when no shard that is still being read
 * could bring an earlier one: each has a batch waiting, has ended, or (following) has nothing newer at the moment. */
#ifndef SLUICE_MERGE_H
#define SLUICE_MERGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "client/sluice.h"

/* A copy of a delivered batch. */
struct merge_block {
    struct merge_block *next;
    uint64_t time_ms, shard_created_s;
    uint32_t shard;
    size_t n, bytes;
    struct batch_record *v; /* point into the block itself */
};
struct merge_block *merge_block_copy(const struct sluice_records *r); /* free() */

struct merge;
struct merge *merge_open(void);
void merge_close(struct merge *m);
/* A shard that is being read. Returns its number, counted from 0. */
unsigned merge_source_add(struct merge *m, uint32_t shard);
/* A shard that is not read yet, as its parents come first: it holds nothing up. The same call with false starts it. */
void merge_source_wait(struct merge *m, unsigned source, bool waits);
/* Following: nothing newer at the moment; the next push ends it. */
void merge_source_idle(struct merge *m, unsigned source);
void merge_source_end(struct merge *m, unsigned source);
void merge_push(struct merge *m, unsigned source, struct merge_block *b); /* takes b */
size_t merge_source_bytes(const struct merge *m, unsigned source); /* waiting */
/* The next batch, the caller's to free(), and the source it came from; NULL: more must come first, or all have ended. */
struct merge_block *merge_pop(struct merge *m, unsigned *source);
bool merge_ended(const struct merge *m); /* every source has ended and nothing waits */

#endif
