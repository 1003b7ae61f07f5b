/* Building batches: records are laid out behind room for the header, so a batch that is not compressed is finished in
 * place and handed over without a copy. */
#include <lz4.h>
#include <stdlib.h>

#include "proto/base.h"
#include "proto/batch.h"
#include "proto/batch_layout.h"
#include "proto/crc32c.h"
#include "proto/error.h"

/* total_len must leave room for the tag, should the leader seal the batch. */
enum { BUILD_LEN_MAX = BATCH_BYTES_MAX - BATCH_TAG_SIZE, BUILD_CAP_MIN = 4 << 10 };
_Static_assert((int)BUILD_LEN_MAX - (int)BATCH_HEADER_SIZE <= (int)BATCH_RAW_MAX, "a full builder's body is below its bound");

void batch_builder_init(struct batch_builder *b)
{
    *b = (struct batch_builder){.len = BATCH_HEADER_SIZE};
    batch_builder_reset(b);
}

void batch_builder_deinit(struct batch_builder *b)
{
    free(b->buf);
    *b = (struct batch_builder){.len = BATCH_HEADER_SIZE};
}

void batch_builder_reset(struct batch_builder *b)
{
    b->len = BATCH_HEADER_SIZE;
    b->count = 0;
    memset(b->min.b, 0xff, sizeof(b->min.b));
    memset(b->max.b, 0, sizeof(b->max.b));
}

size_t batch_builder_size_with(const struct batch_builder *b, size_t key_len, size_t data_len, bool has_hash)
{
    return b->len + batch_record_size(key_len, data_len, has_hash);
}

static bool builder_reserve(struct batch_builder *b, size_t len)
{
    if (len <= b->cap) {
        return true;
    }
    size_t cap = max_u64(BUILD_CAP_MIN, b->cap == 0 ? b->hint : b->cap * 2);
    cap = max_u64(len, min_u64(cap, BUILD_LEN_MAX));
    uint8_t *bigger = realloc(b->buf, cap);
    if (bigger == NULL) {
        return false;
    }
    b->buf = bigger;
    b->cap = cap;
    return true;
}

int batch_builder_add(struct batch_builder *b, const void *key, size_t key_len, const void *data, size_t data_len,
                      const struct hash128 *hash, bool explicit_hash)
{
    if (key_len == 0) {
        return SLUICE_E_INVALID;
    }
    if (key_len > BATCH_KEY_MAX || data_len > BATCH_RECORD_BYTES_MAX || key_len + data_len > BATCH_RECORD_BYTES_MAX) {
        return SLUICE_E_TOO_LARGE;
    }
    size_t len = batch_builder_size_with(b, key_len, data_len, explicit_hash);
    if (b->count == BATCH_RECORDS_MAX || len > BUILD_LEN_MAX) {
        return SLUICE_E_TOO_LARGE;
    }
    if (!builder_reserve(b, len)) {
        return SLUICE_E_MEMORY;
    }
    uint8_t *p = b->buf + b->len;
    put_u32(p, (uint32_t)data_len);
    put_u16(p + 4, (uint16_t)key_len);
    put_u16(p + 6, explicit_hash ? RECORD_HAS_HASH : 0);
    p += BATCH_RECORD_HEADER;
    if (explicit_hash) {
        memcpy(p, hash->b, sizeof(hash->b));
        p += sizeof(hash->b);
    }
    memcpy(p, key, key_len);
    if (data_len > 0) {
        memcpy(p + key_len, data, data_len);
    }
    hash_widen(&b->min, &b->max, hash);
    b->len = len;
    b->count++;
    return SLUICE_E_OK;
}

/* A buffer of header room and compressed body if that saves an eighth; NULL otherwise, also when memory is short: the
 * plain form needs none. */
static uint8_t *compress(const uint8_t *raw, size_t raw_len, size_t *len)
{
    size_t limit = raw_len - raw_len / 8;
    if (limit == raw_len) {
        return NULL;
    }
    uint8_t *out = malloc(BATCH_HEADER_SIZE + limit);
    if (out == NULL) {
        return NULL;
    }
    int n = LZ4_compress_default((const char *)raw, (char *)out + BATCH_HEADER_SIZE, (int)raw_len, (int)limit);
    if (n <= 0) {
        free(out);
        return NULL;
    }
    *len = BATCH_HEADER_SIZE + (size_t)n;
    return out;
}

/* Gives back what the buffer holds beyond its content, if that is much: batches in flight are counted by their length. */
static uint8_t *trim_buffer(uint8_t *buf, size_t len, size_t cap)
{
    if (cap - len <= len / 8) {
        return buf;
    }
    uint8_t *smaller = realloc(buf, len);
    if (smaller == NULL) {
        return buf;
    }
    return smaller;
}

int batch_builder_finish(struct batch_builder *b, const struct batch_identity *id, bool lz4, void **out, size_t *out_len)
{
    sluice_assert(b->count > 0);
    size_t raw_len = b->len - BATCH_HEADER_SIZE;
    size_t len = 0;
    size_t cap = BATCH_HEADER_SIZE + raw_len;
    uint8_t *batch = lz4 ? compress(b->buf + BATCH_HEADER_SIZE, raw_len, &len) : NULL;
    bool compressed = batch != NULL;
    if (!compressed) {
        batch = b->buf;
        len = b->len;
        cap = b->cap;
    }
    struct batch_header h = {
        .version = BATCH_VERSION,
        .kind = ENTRY_BATCH,
        .codec = compressed ? BATCH_LZ4 : BATCH_PLAIN,
        .total_len = (uint32_t)len,
        .body_crc = crc32c(0, batch + BATCH_HEADER_SIZE, len - BATCH_HEADER_SIZE),
        .record_count = b->count,
        .raw_len = (uint32_t)raw_len,
        .producer_epoch = id->producer_epoch,
        .shard = id->shard,
        .producer_sequence = id->producer_sequence,
        .hash_min = b->min,
        .hash_max = b->max,
    };
    memcpy(h.stream_id, id->stream_id, sizeof(h.stream_id));
    if (id->producer_id != NULL) {
        memcpy(h.producer_id, id->producer_id, sizeof(h.producer_id));
    }
    batch_header_encode(&h, batch);
    if (!compressed) {
        b->hint = b->len;
        b->buf = NULL;
        b->cap = 0;
    }
    *out = trim_buffer(batch, len, cap);
    *out_len = len;
    batch_builder_reset(b);
    return SLUICE_E_OK;
}
