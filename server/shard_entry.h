/* shard_entry.h: the entries of a shard's log beside batches (ENTRY_BATCH = 1, proto/batch.h). Pure functions.
 *
 *   entry = u8 version = 1 | u8 kind | u16 0 | u32 0 | u64 log time ms | body; little-endian; the lengths are exact
 *   SETTINGS body = u64 trim_to | settings          the stream's settings as of a version; what was expired under the old ones goes first (trim_to)
 *   TRIM     body = u64 first                       the first offset kept
 *   CLOSE    body = u64 reshard | u32 n | u32 children[2]   no batch after it
 *   TICK     body = nothing                         log time alone
 *   OPEN     body = identity | settings             the first entry of every shard: who it is; before it no batch is taken
 *   identity = u64 group | 16 stream id | u32 shard | u32 n_parents | u32 parents[2] | u64 created_s | 16 first hash key | 16 last hash key
 *   settings = u64 version | u32 retention_hours | u32 flags (1: limits off) | u32 record_max | u32 producers_max | u64 producer_expiry_ms
 *
 * Feature level 1 of a group has exactly these; a kind or version that is not known stops the replica (ENV_EXIT_FORMAT), because skipping it would make
 * replicas differ. */
#ifndef SLUICE_SHARD_ENTRY_H
#define SLUICE_SHARD_ENTRY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/batch.h"

enum shard_entry_kind { SHARD_ENTRY_SETTINGS = 2, SHARD_ENTRY_TRIM = 3, SHARD_ENTRY_CLOSE = 4, SHARD_ENTRY_TICK = 5, SHARD_ENTRY_OPEN = 6 };
enum { SHARD_ENTRY_HEADER = 16, SHARD_IDENTITY_SIZE = 80, SHARD_SETTINGS_SIZE = 32, SHARD_ENTRY_MAX = SHARD_ENTRY_HEADER + SHARD_IDENTITY_SIZE + SHARD_SETTINGS_SIZE,
       SHARD_PARENTS_MAX = 2, SHARD_CHILDREN_MAX = 2 };

struct shard_identity {
    uint64_t group, created_s;
    uint8_t stream_id[16];
    uint32_t shard, n_parents, parents[SHARD_PARENTS_MAX];
    struct hash128 first, last;
};
struct shard_settings {
    uint64_t version, producer_expiry_ms;
    uint32_t retention_hours, record_max, producers_max;
    bool limits_off;
};
struct shard_entry {
    enum shard_entry_kind kind;
    uint64_t time_ms;
    uint64_t trim;                        /* SETTINGS, TRIM */
    uint64_t reshard;                     /* CLOSE */
    uint32_t n_children, children[SHARD_CHILDREN_MAX];
    struct shard_identity identity;       /* OPEN */
    struct shard_settings settings;       /* OPEN, SETTINGS */
};

/* Bytes written. */
size_t shard_entry_encode(const struct shard_entry *e, uint8_t out[SHARD_ENTRY_MAX]);
/* False: malformed or of an unknown version or kind. */
bool shard_entry_decode(struct shard_entry *e, const uint8_t *data, size_t n);

void shard_identity_encode(const struct shard_identity *i, uint8_t out[SHARD_IDENTITY_SIZE]);
bool shard_identity_decode(struct shard_identity *i, const uint8_t *data);
void shard_settings_encode(const struct shard_settings *s, uint8_t out[SHARD_SETTINGS_SIZE]);
bool shard_settings_decode(struct shard_settings *s, const uint8_t *data);

#endif
