/* batch_layout.h: positions inside a batch, for batch.c and batch_build.c alone. */
#ifndef SLUICE_BATCH_LAYOUT_H
#define SLUICE_BATCH_LAYOUT_H

#include "proto/batch.h"

enum {
    POS_VERSION = 0,
    POS_KIND = 1,
    POS_CODEC = 2,
    POS_CIPHER = 3,
    POS_TOTAL_LEN = 4,
    POS_HEADER_CRC = 8,
    POS_BODY_CRC = 12,
    POS_FIRST_OFFSET = 16,
    POS_RECORD_COUNT = 24,
    POS_RAW_LEN = 28,
    POS_TIME_MS = 32,
    POS_PRODUCER_ID = 40,
    POS_PRODUCER_EPOCH = 56,
    POS_SHARD = 60,
    POS_PRODUCER_SEQUENCE = 64,
    POS_RAFT_INDEX = 72,
    POS_STREAM_ID = 80,
    POS_HASH_MIN = 96,
    POS_HASH_MAX = 112,
    POS_KEY_ID = 128,
    POS_NONCE = 132,
    POS_SETTINGS_VERSION = 144,
    POS_RESERVED = 152
};
_Static_assert(POS_RESERVED + 8 == BATCH_HEADER_SIZE, "the last field ends the header");

enum { RECORD_HAS_HASH = 1 };

static inline uint64_t batch_record_size(uint64_t key_len, uint64_t data_len, bool has_hash)
{
    return BATCH_RECORD_HEADER + (has_hash ? sizeof(struct hash128) : 0) + key_len + data_len;
}

static inline void hash_widen(struct hash128 *min, struct hash128 *max, const struct hash128 *hash)
{
    if (hash_compare(hash, min) < 0) {
        *min = *hash;
    }
    if (hash_compare(hash, max) > 0) {
        *max = *hash;
    }
}

#endif
