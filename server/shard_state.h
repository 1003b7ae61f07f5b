/* shard_state.h: the deterministic machine of a shard: entries in, state out. No clock, no I/O; the same entries in the same order give the same state on
 * every replica and in every version. The records themselves are not part of it: they lie in the journal, found by the batch log, which is an index.
 *
 * Life: EMPTY (a group without its OPEN entry) -> OPEN (takes batches) -> CLOSED (after CLOSE; still trimmed and read until its stream goes). */
#ifndef SLUICE_SHARD_STATE_H
#define SLUICE_SHARD_STATE_H

#include <stdbool.h>
#include <stdint.h>

#include "proto/batch.h"
#include "server/dedupe.h"
#include "server/shard_entry.h"

struct shard_state {
    bool opened, closed;
    struct shard_identity identity;   /* valid once opened */
    struct shard_settings settings;
    uint64_t first, next;             /* offsets kept: [first, next) */
    uint64_t time_ms;                 /* log time: of the last entry, never falls */
    uint64_t reshard;                 /* of the CLOSE entry */
    uint32_t n_children, children[SHARD_CHILDREN_MAX];
    struct dedupe *dedupe;
    bool ignore_producers;            /* simulator: rule F20 switched off */
};

/* What an entry changed, for the replica around the machine. */
enum shard_effect { SHARD_EFFECT_TRIM = 1, SHARD_EFFECT_OPEN = 2, SHARD_EFFECT_SETTINGS = 4, SHARD_EFFECT_CLOSE = 8 };

void shard_state_init(struct shard_state *s);
void shard_state_deinit(struct shard_state *s);
/* A committed batch. Asserts that its offset is `next` (rule F19: neither skipping nor overlapping is survivable), the shard is open, and its producer's
 * sequence fits. */
void shard_state_batch(struct shard_state *s, const struct batch_header *h);
/* Any other entry; returns shard_effect bits. */
unsigned shard_state_entry(struct shard_state *s, const struct shard_entry *e);
/* The key of a batch's producer; false if it is not idempotent. */
bool shard_batch_key(const struct batch_header *h, struct dedupe_key *k);

/* ---- snapshot (shard_snapshot.c) ----
 * u16 version = 1 | u16 flags (1 opened, 2 closed) | u32 length of all | identity | settings | u64 first | u64 next | u64 time | u64 reshard | u32 n_children | u32 children[2]
 * | dedupe (dedupe.h) | u32 CRC32C of all before */
/* malloc'ed; NULL: out of memory. */
uint8_t *shard_snapshot_encode(const struct shard_state *s, uint32_t *len);
/* Into an initialized, empty state. False: malformed (the state is then to be thrown away). */
bool shard_snapshot_decode(struct shard_state *s, const uint8_t *data, size_t n);
/* Only the range of offsets. */
bool shard_snapshot_range(const uint8_t *data, size_t n, uint64_t *first, uint64_t *next);

#endif
