/* Reading and checking batches. The building is in batch_build.c. */
#include "proto/batch.h"

#include <lz4.h>
#include <stdlib.h>

#include "proto/base.h"
#include "proto/batch_layout.h"
#include "proto/crc32c.h"
#include "proto/error.h"

/* The largest claims that a header may make fit the bounds of everything that carries batches. */
_Static_assert(BATCH_RECORD_BYTES_MAX + BATCH_RECORD_HEADER + 16 <= BATCH_RAW_MAX, "the largest record fits a batch");

static int refuse(const char **why, const char *text, int code)
{
    if (why != NULL) {
        *why = text;
    }
    return code;
}

static uint32_t batch_header_crc(const uint8_t *p)
{
    uint32_t crc = crc32c(0, p + POS_BODY_CRC, BATCH_HEADER_SIZE - POS_BODY_CRC);
    return crc32c(crc, p, POS_HEADER_CRC);
}

static bool all_zero(const uint8_t *p, size_t n)
{
    uint8_t any = 0;
    for (size_t i = 0; i < n; i++) {
        any |= p[i];
    }
    return any == 0;
}

static int check_header(const struct batch_header *h, const uint8_t *p, size_t n, bool fresh, const char **why)
{
    if (h->total_len > BATCH_BYTES_MAX || h->raw_len > BATCH_RAW_MAX || h->record_count > BATCH_RECORDS_MAX) {
        return refuse(why, "the batch is larger than its bound", SLUICE_E_TOO_LARGE);
    }
    if (h->header_crc != batch_header_crc(p)) {
        return refuse(why, "the checksum of the batch header is wrong", SLUICE_E_CORRUPT);
    }
    if (h->codec != BATCH_PLAIN && h->codec != BATCH_LZ4) {
        return refuse(why, "unknown codec", SLUICE_E_NOT_SUPPORTED);
    }
    if (h->cipher != 0 || h->key_id != 0 || !all_zero(h->nonce, sizeof(h->nonce))) {
        return refuse(why, "unknown cipher", SLUICE_E_NOT_SUPPORTED);
    }
    if (get_u64(p + POS_RESERVED) != 0) {
        return refuse(why, "the reserved field is not zero", SLUICE_E_NOT_SUPPORTED);
    }
    if (h->total_len > n || h->total_len <= BATCH_HEADER_SIZE) {
        return refuse(why, "the batch's length does not fit its bytes", SLUICE_E_INVALID);
    }
    if (h->codec == BATCH_PLAIN && h->raw_len != h->total_len - BATCH_HEADER_SIZE) {
        return refuse(why, "the length of the plain body is wrong", SLUICE_E_INVALID);
    }
    if (h->record_count == 0 || h->raw_len < (uint64_t)h->record_count * (BATCH_RECORD_HEADER + 1)) {
        return refuse(why, "the record count does not fit the body", SLUICE_E_INVALID);
    }
    if (hash_compare(&h->hash_min, &h->hash_max) > 0) {
        return refuse(why, "the lowest hash key is above the highest", SLUICE_E_INVALID);
    }
    if (fresh && (h->first_offset != 0 || h->time_ms != 0 || h->raft_index != 0 || h->settings_version != 0)) {
        return refuse(why, "a field of the leader's is set", SLUICE_E_INVALID);
    }
    return SLUICE_E_OK;
}

int batch_header_decode(struct batch_header *h, const void *data, size_t n, bool fresh, const char **why)
{
    const uint8_t *p = data;
    if (n < BATCH_HEADER_SIZE) {
        return refuse(why, "too short for a batch header", SLUICE_E_INVALID);
    }
    if (p[POS_VERSION] != BATCH_VERSION) {
        return refuse(why, "unknown batch version", SLUICE_E_VERSION);
    }
    if (p[POS_KIND] != ENTRY_BATCH) {
        return refuse(why, "not a batch", SLUICE_E_INVALID);
    }
    *h = (struct batch_header){
        .version = p[POS_VERSION],
        .kind = p[POS_KIND],
        .codec = p[POS_CODEC],
        .cipher = p[POS_CIPHER],
        .total_len = get_u32(p + POS_TOTAL_LEN),
        .header_crc = get_u32(p + POS_HEADER_CRC),
        .body_crc = get_u32(p + POS_BODY_CRC),
        .first_offset = get_u64(p + POS_FIRST_OFFSET),
        .record_count = get_u32(p + POS_RECORD_COUNT),
        .raw_len = get_u32(p + POS_RAW_LEN),
        .time_ms = get_u64(p + POS_TIME_MS),
        .producer_epoch = get_u32(p + POS_PRODUCER_EPOCH),
        .shard = get_u32(p + POS_SHARD),
        .producer_sequence = get_u64(p + POS_PRODUCER_SEQUENCE),
        .raft_index = get_u64(p + POS_RAFT_INDEX),
        .key_id = get_u32(p + POS_KEY_ID),
        .settings_version = get_u64(p + POS_SETTINGS_VERSION),
    };
    memcpy(h->producer_id, p + POS_PRODUCER_ID, sizeof(h->producer_id));
    memcpy(h->stream_id, p + POS_STREAM_ID, sizeof(h->stream_id));
    memcpy(h->hash_min.b, p + POS_HASH_MIN, sizeof(h->hash_min.b));
    memcpy(h->hash_max.b, p + POS_HASH_MAX, sizeof(h->hash_max.b));
    memcpy(h->nonce, p + POS_NONCE, sizeof(h->nonce));
    return check_header(h, p, n, fresh, why);
}

void batch_header_encode(const struct batch_header *h, void *out)
{
    uint8_t *p = out;
    p[POS_VERSION] = h->version;
    p[POS_KIND] = h->kind;
    p[POS_CODEC] = h->codec;
    p[POS_CIPHER] = h->cipher;
    put_u32(p + POS_TOTAL_LEN, h->total_len);
    put_u32(p + POS_BODY_CRC, h->body_crc);
    put_u64(p + POS_FIRST_OFFSET, h->first_offset);
    put_u32(p + POS_RECORD_COUNT, h->record_count);
    put_u32(p + POS_RAW_LEN, h->raw_len);
    put_u64(p + POS_TIME_MS, h->time_ms);
    memcpy(p + POS_PRODUCER_ID, h->producer_id, sizeof(h->producer_id));
    put_u32(p + POS_PRODUCER_EPOCH, h->producer_epoch);
    put_u32(p + POS_SHARD, h->shard);
    put_u64(p + POS_PRODUCER_SEQUENCE, h->producer_sequence);
    put_u64(p + POS_RAFT_INDEX, h->raft_index);
    memcpy(p + POS_STREAM_ID, h->stream_id, sizeof(h->stream_id));
    memcpy(p + POS_HASH_MIN, h->hash_min.b, sizeof(h->hash_min.b));
    memcpy(p + POS_HASH_MAX, h->hash_max.b, sizeof(h->hash_max.b));
    put_u32(p + POS_KEY_ID, h->key_id);
    memcpy(p + POS_NONCE, h->nonce, sizeof(h->nonce));
    put_u64(p + POS_SETTINGS_VERSION, h->settings_version);
    put_u64(p + POS_RESERVED, 0);
    put_u32(p + POS_HEADER_CRC, batch_header_crc(p));
}

void batch_stamp(void *batch, uint64_t first_offset, uint64_t time_ms, uint64_t raft_index, uint64_t settings_version)
{
    uint8_t *p = batch;
    put_u64(p + POS_FIRST_OFFSET, first_offset);
    put_u64(p + POS_TIME_MS, time_ms);
    put_u64(p + POS_RAFT_INDEX, raft_index);
    put_u64(p + POS_SETTINGS_VERSION, settings_version);
    put_u32(p + POS_HEADER_CRC, batch_header_crc(p));
}

bool batch_body_ok(const void *batch, size_t n)
{
    const uint8_t *p = batch;
    return n >= BATCH_HEADER_SIZE && get_u32(p + POS_TOTAL_LEN) == n &&
           get_u32(p + POS_BODY_CRC) == crc32c(0, p + BATCH_HEADER_SIZE, n - BATCH_HEADER_SIZE);
}

/* raw_len was checked against BATCH_RAW_MAX: no batch, however small, makes more than that be allocated. */
static int decompress(const struct batch_header *h, const uint8_t *body, size_t n, void **scratch, size_t *scratch_size,
                      const char **why)
{
    if (*scratch_size < h->raw_len) {
        size_t size = ALIGN_UP((size_t)h->raw_len, 64 << 10);
        void *bigger = malloc(size);
        if (bigger == NULL) {
            return refuse(why, "no memory to decompress the batch", SLUICE_E_MEMORY);
        }
        free(*scratch);
        *scratch = bigger;
        *scratch_size = size;
    }
    if (LZ4_decompress_safe((const char *)body, *scratch, (int)n, (int)h->raw_len) != (int)h->raw_len) {
        return refuse(why, "the body does not decompress to its stated length", SLUICE_E_INVALID);
    }
    return SLUICE_E_OK;
}

static int reader_open(struct batch_reader *r, const void *batch, size_t n, bool fresh, bool verified, void **scratch,
                       size_t *scratch_size, const char **why)
{
    *r = (struct batch_reader){.left = 0};
    int code = batch_header_decode(&r->header, batch, n, fresh, why);
    if (code != SLUICE_E_OK) {
        return code;
    }
    if (r->header.total_len != n) {
        return refuse(why, "bytes follow the batch", SLUICE_E_INVALID);
    }
    if (!verified && !batch_body_ok(batch, n)) {
        return refuse(why, "the checksum of the batch's body is wrong", SLUICE_E_CORRUPT);
    }
    const uint8_t *body = (const uint8_t *)batch + BATCH_HEADER_SIZE;
    if (r->header.codec == BATCH_LZ4) {
        code = decompress(&r->header, body, n - BATCH_HEADER_SIZE, scratch, scratch_size, why);
        if (code != SLUICE_E_OK) {
            return code;
        }
        body = *scratch;
    }
    r->p = body;
    r->end = body + r->header.raw_len;
    r->left = r->header.record_count;
    r->next_offset = r->header.first_offset;
    return SLUICE_E_OK;
}

int batch_reader_open(struct batch_reader *r, const void *batch, size_t n, void **scratch, size_t *scratch_size, const char **why)
{
    return reader_open(r, batch, n, false, false, scratch, scratch_size, why);
}

int batch_reader_open_verified(struct batch_reader *r, const void *batch, size_t n, void **scratch, size_t *scratch_size,
                               const char **why)
{
    return reader_open(r, batch, n, false, true, scratch, scratch_size, why);
}

int batch_reader_next(struct batch_reader *r, struct batch_record *rec)
{
    if (r->left == 0) {
        return r->p == r->end ? 0 : -SLUICE_E_INVALID;
    }
    size_t have = (size_t)(r->end - r->p);
    if (have < BATCH_RECORD_HEADER) {
        return -SLUICE_E_INVALID;
    }
    const uint8_t *p = r->p;
    uint32_t data_len = get_u32(p);
    uint32_t key_len = get_u16(p + 4);
    uint32_t flags = get_u16(p + 6);
    if ((flags & ~(uint32_t)RECORD_HAS_HASH) != 0) {
        return -SLUICE_E_NOT_SUPPORTED;
    }
    uint64_t need = batch_record_size(key_len, data_len, flags != 0);
    if (need > have || key_len == 0 || key_len > BATCH_KEY_MAX) {
        return -SLUICE_E_INVALID;
    }
    *rec = (struct batch_record){.offset = r->next_offset, .key_len = key_len, .data_len = data_len, .has_hash = flags != 0};
    p += BATCH_RECORD_HEADER;
    if (rec->has_hash) {
        memcpy(rec->hash.b, p, sizeof(rec->hash.b));
        p += sizeof(rec->hash.b);
    }
    rec->key = p;
    rec->data = p + key_len;
    r->p += need;
    r->left--;
    r->next_offset++;
    return 1;
}

int batch_check(const void *batch, size_t n, uint32_t record_max, void **scratch, size_t *scratch_size, struct batch_header *out,
                const char **why)
{
    struct batch_reader r;
    int code = reader_open(&r, batch, n, true, false, scratch, scratch_size, why);
    if (code != SLUICE_E_OK) {
        return code;
    }
    struct hash128 min;
    struct hash128 max;
    memset(min.b, 0xff, sizeof(min.b));
    memset(max.b, 0, sizeof(max.b));
    struct batch_record records[HASH_KEYS_MAX];
    struct hash128 hashes[HASH_KEYS_MAX];
    size_t waiting = 0;
    int more;
    do {
        more = batch_reader_next(&r, &records[waiting]);
        if (more > 0) {
            if ((uint64_t)records[waiting].key_len + records[waiting].data_len > record_max) {
                return refuse(why, "a record is larger than the limit", SLUICE_E_TOO_LARGE);
            }
            waiting++;
        }
        if (waiting == HASH_KEYS_MAX || more <= 0) {
            hash_keys_of(records, waiting, hashes);
            for (size_t i = 0; i < waiting; i++) {
                hash_widen(&min, &max, &hashes[i]);
            }
            waiting = 0;
        }
    } while (more > 0);
    if (more == -SLUICE_E_NOT_SUPPORTED) {
        return refuse(why, "a record has an unknown flag", -more);
    }
    if (more < 0) {
        return refuse(why, "the records do not fill the body exactly", -more);
    }
    if (hash_compare(&min, &r.header.hash_min) != 0 || hash_compare(&max, &r.header.hash_max) != 0) {
        return refuse(why, "the header's hash keys are not those of the records", SLUICE_E_INVALID);
    }
    *out = r.header;
    return SLUICE_E_OK;
}
