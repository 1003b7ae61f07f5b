/* Attacks by puts whose frame is fine and whose batch is not: each field of the header, records that do not fill the body, keys of
 * other shards, sizes beyond the limit, bombs. None may leave a trace. */
#include <lz4.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "proto/base.h"
#include "proto/batch_layout.h"
#include "proto/crc32c.h"
#include "proto/error.h"
#include "tests/integration/hostile.h"

/* A good batch of two records for shard 0, to be spoiled. The caller's to free. */
static uint8_t *good_batch(struct hostile *h, uint32_t shard, size_t *n)
{
    struct batch_builder b;
    batch_builder_init(&b);
    struct hash128 hash = h->shards[shard].first;
    batch_builder_add(&b, "key", 3, "never to be stored", 18, &hash, true);
    batch_builder_add(&b, "key", 3, "nor this", 8, &h->shards[shard].last, true);
    const struct batch_identity id = {.stream_id = h->stream_id, .shard = shard};
    void *batch;
    int code = batch_builder_finish(&b, &id, false, &batch, n);
    sluice_assert(code == 0);
    batch_builder_deinit(&b);
    return batch;
}

static void seal_header(uint8_t *batch)
{
    uint32_t crc = crc32c(0, batch + POS_BODY_CRC, BATCH_HEADER_SIZE - POS_BODY_CRC);
    put_u32(batch + POS_HEADER_CRC, crc32c(crc, batch, POS_HEADER_CRC));
}

static void seal(uint8_t *batch, size_t n)
{
    put_u32(batch + POS_TOTAL_LEN, (uint32_t)n);
    put_u32(batch + POS_BODY_CRC, crc32c(0, batch + BATCH_HEADER_SIZE, n - BATCH_HEADER_SIZE));
    seal_header(batch);
}

static void put_to(struct hostile *h, int fd, const char *what, const void *batch, size_t n, const int *codes)
{
    Sluice__Put m = SLUICE__PUT__INIT;
    m.stream_id = (ProtobufCBinaryData){.len = 16, .data = h->stream_id};
    send_frame(fd, FRAME_PUT, 1, &m, batch, n);
    expect_error(h, fd, what, false, codes);
}

static void put_bad(struct hostile *h, const char *what, const void *batch, size_t n, const int *codes)
{
    int fd = dial_client(h->shards[0].leader);
    put_to(h, fd, what, batch, n, codes);
    /* The connection is not spoiled by it. */
    struct answer a;
    send_frame(fd, FRAME_PING, 2, NULL, NULL, 0);
    receive(fd, &a, ANSWER_MS);
    note(h, a.what == ANSWER_FRAME && a.kind == FRAME_PING_REPLY, "after %s: PING is answered by %s", what, answer_text(&a));
    answer_free(&a);
    close(fd);
}

struct spoil { const char *what; size_t at; unsigned bytes; uint64_t value; int code; };

static void header_fields(struct hostile *h)
{
    size_t n;
    uint8_t *good = good_batch(h, 0, &n);
    uint8_t *bad = xmalloc(n + 64);
    const uint32_t raw = (uint32_t)(n - BATCH_HEADER_SIZE);
    const struct spoil list[] = {
        {"version 0", POS_VERSION, 1, 0, SLUICE_E_VERSION},
        {"version 2", POS_VERSION, 1, 2, SLUICE_E_VERSION},
        {"kind 0", POS_KIND, 1, 0, SLUICE_E_INVALID},
        {"kind 2, an entry that only leaders make", POS_KIND, 1, 2, SLUICE_E_INVALID},
        {"kind 255", POS_KIND, 1, 255, SLUICE_E_INVALID},
        {"codec 2", POS_CODEC, 1, 2, SLUICE_E_NOT_SUPPORTED},
        {"codec 255", POS_CODEC, 1, 255, SLUICE_E_NOT_SUPPORTED},
        {"plain called LZ4", POS_CODEC, 1, 1, SLUICE_E_INVALID},
        {"cipher 1", POS_CIPHER, 1, 1, SLUICE_E_NOT_SUPPORTED},
        {"total length 0", POS_TOTAL_LEN, 4, 0, SLUICE_E_INVALID},
        {"total length of the header", POS_TOTAL_LEN, 4, BATCH_HEADER_SIZE, SLUICE_E_INVALID},
        {"total length one short", POS_TOTAL_LEN, 4, n - 1, SLUICE_E_INVALID},
        {"total length one more", POS_TOTAL_LEN, 4, n + 1, SLUICE_E_INVALID},
        {"total length 2^31", POS_TOTAL_LEN, 4, 1u << 31, SLUICE_E_TOO_LARGE},
        {"total length 2^32-1", POS_TOTAL_LEN, 4, UINT32_MAX, SLUICE_E_TOO_LARGE},
        {"another body checksum", POS_BODY_CRC, 4, 12345, SLUICE_E_CORRUPT},
        {"a first offset", POS_FIRST_OFFSET, 8, 7, SLUICE_E_INVALID},
        {"a first offset of 2^64-1", POS_FIRST_OFFSET, 8, UINT64_MAX, SLUICE_E_INVALID},
        {"no records", POS_RECORD_COUNT, 4, 0, SLUICE_E_INVALID},
        {"one record fewer", POS_RECORD_COUNT, 4, 1, SLUICE_E_INVALID},
        {"one record more", POS_RECORD_COUNT, 4, 3, SLUICE_E_INVALID},
        {"65537 records", POS_RECORD_COUNT, 4, BATCH_RECORDS_MAX + 1, SLUICE_E_TOO_LARGE},
        {"2^32-1 records", POS_RECORD_COUNT, 4, UINT32_MAX, SLUICE_E_TOO_LARGE},
        {"raw length 0", POS_RAW_LEN, 4, 0, SLUICE_E_INVALID},
        {"raw length one short", POS_RAW_LEN, 4, raw - 1, SLUICE_E_INVALID},
        {"raw length one more", POS_RAW_LEN, 4, raw + 1, SLUICE_E_INVALID},
        {"raw length 2^32-1", POS_RAW_LEN, 4, UINT32_MAX, SLUICE_E_TOO_LARGE},
        {"a time", POS_TIME_MS, 8, 1700000000000, SLUICE_E_INVALID},
        {"another shard", POS_SHARD, 4, 1, SLUICE_E_INVALID},
        {"shard 2^32-1", POS_SHARD, 4, UINT32_MAX, SLUICE_E_INVALID},
        {"a Raft index", POS_RAFT_INDEX, 8, 1, SLUICE_E_INVALID},
        {"another stream", POS_STREAM_ID, 8, 1, SLUICE_E_INVALID},
        {"a lowest hash key that is not the records'", POS_HASH_MIN + 15, 1, 1, SLUICE_E_INVALID},
        {"a highest hash key that is not the records'", POS_HASH_MAX, 1, h->shards[0].last.b[0] ^ 1, SLUICE_E_INVALID},
        {"hash keys in the wrong order", POS_HASH_MIN, 8, UINT64_MAX, SLUICE_E_INVALID},
        {"a key id", POS_KEY_ID, 4, 1, SLUICE_E_NOT_SUPPORTED},
        {"a nonce", POS_NONCE + 4, 8, 1, SLUICE_E_NOT_SUPPORTED},
        {"a settings version", POS_SETTINGS_VERSION, 8, 1, SLUICE_E_INVALID},
        {"something in the reserved field", POS_RESERVED, 8, 1, SLUICE_E_NOT_SUPPORTED},
    };
    for (size_t i = 0; i < ARRAY_LEN(list); i++) {
        const struct spoil *s = &list[i];
        memcpy(bad, good, n);
        memcpy(bad + s->at, &s->value, s->bytes);
        seal_header(bad);
        put_bad(h, s->what, bad, n, CODES(s->code));
    }
    memcpy(bad, good, n);
    bad[POS_HEADER_CRC] ^= 1;
    put_bad(h, "another header checksum", bad, n, CODES(SLUICE_E_CORRUPT));
    put_bad(h, "no batch", bad, 0, CODES(SLUICE_E_INVALID));
    put_bad(h, "one byte of a batch", good, 1, CODES(SLUICE_E_INVALID, SLUICE_E_VERSION));
    put_bad(h, "a batch header one byte short", good, BATCH_HEADER_SIZE - 1, CODES(SLUICE_E_INVALID));
    put_bad(h, "a batch header alone", good, BATCH_HEADER_SIZE, CODES(SLUICE_E_INVALID));
    put_bad(h, "a batch one byte short", good, n - 1, CODES(SLUICE_E_INVALID));
    memcpy(bad, good, n);
    put_bad(h, "a byte behind the batch", bad, n + 1, CODES(SLUICE_E_INVALID));
    uint8_t *two = xmalloc(2 * n);
    memcpy(two, good, n);
    memcpy(two + n, good, n);
    put_bad(h, "two batches in one put", two, 2 * n, CODES(SLUICE_E_INVALID));
    free(two);
    free(bad);
    free(good);
}

/* Every bit of a whole batch, one at a time, the checksums as they were. */
static void flipped_bits(struct hostile *h)
{
    size_t n;
    uint8_t *good = good_batch(h, 0, &n);
    int fd = dial_client(h->shards[0].leader);
    for (size_t bit = 0; bit < n * 8; bit++) {
        good[bit / 8] ^= (uint8_t)(1 << bit % 8);
        char what[64];
        snprintf(what, sizeof what, "a batch with bit %zu flipped", bit);
        put_to(h, fd, what, good, n, CODES(SLUICE_E_CORRUPT, SLUICE_E_INVALID, SLUICE_E_VERSION, SLUICE_E_NOT_SUPPORTED, SLUICE_E_TOO_LARGE));
        good[bit / 8] ^= (uint8_t)(1 << bit % 8);
    }
    close(fd);
    free(good);
}

/* Records that lie about themselves, under right checksums. */
static void records(struct hostile *h)
{
    size_t n;
    uint8_t *good = good_batch(h, 0, &n), *bad = xmalloc(n);
    static const struct { const char *what; size_t at; unsigned bytes; uint32_t value; int code; } list[] = {
        {"a record's data of 2^32-1 bytes", 0, 4, UINT32_MAX, SLUICE_E_INVALID},
        {"a record's data one byte longer", 0, 4, 19, SLUICE_E_INVALID},
        {"a record's data of no bytes", 0, 4, 0, SLUICE_E_INVALID},
        {"a key of no bytes", 4, 2, 0, SLUICE_E_INVALID},
        {"a key of 65535 bytes", 4, 2, 65535, SLUICE_E_INVALID},
        {"flag 2", 6, 2, 2, SLUICE_E_NOT_SUPPORTED},
        {"flags 3", 6, 2, 3, SLUICE_E_NOT_SUPPORTED},
        {"all flags", 6, 2, 65535, SLUICE_E_NOT_SUPPORTED},
        {"no explicit hash key where one is", 6, 2, 0, SLUICE_E_INVALID},
    };
    for (size_t i = 0; i < ARRAY_LEN(list); i++) {
        memcpy(bad, good, n);
        memcpy(bad + BATCH_HEADER_SIZE + list[i].at, &list[i].value, list[i].bytes);
        seal(bad, n);
        put_bad(h, list[i].what, bad, n, CODES(list[i].code, SLUICE_E_INVALID, SLUICE_E_NOT_SUPPORTED));
    }
    free(good);
    free(bad);
}

/* A batch of one record with data_len bytes. The caller's to free. */
static uint8_t *batch_of(struct hostile *h, size_t data_len, const struct hash128 *hash, bool lz4, size_t *n)
{
    struct batch_builder b;
    batch_builder_init(&b);
    uint8_t *data = xcalloc(1, data_len + 1);
    if (!lz4) {
        random_bytes(h, data, data_len);
    }
    int code = batch_builder_add(&b, "key", 3, data, data_len, hash, true);
    sluice_assert(code == 0);
    free(data);
    const struct batch_identity id = {.stream_id = h->stream_id};
    void *batch;
    code = batch_builder_finish(&b, &id, lz4, &batch, n);
    sluice_assert(code == 0);
    batch_builder_deinit(&b);
    return batch;
}

static void limits(struct hostile *h)
{
    size_t n;
    uint8_t *batch = batch_of(h, h->record_max - 3 + 1, &h->shards[0].first, false, &n);
    put_bad(h, "a record one byte over the limit", batch, n, CODES(SLUICE_E_TOO_LARGE));
    free(batch);
    batch = batch_of(h, h->record_max - 3 + 1, &h->shards[0].first, true, &n);
    put_bad(h, "a compressed record one byte over the limit", batch, n, CODES(SLUICE_E_TOO_LARGE));
    free(batch);
    batch = batch_of(h, BATCH_RECORD_BYTES_MAX - 3, &h->shards[0].first, false, &n);
    put_bad(h, "a record of 10 MiB", batch, n, CODES(SLUICE_E_TOO_LARGE));
    free(batch);

    if (h->n_shards > 1) { /* a record's hash key decides: its shard is another */
        batch = batch_of(h, 10, &h->shards[1].first, false, &n);
        put_bad(h, "a record of another shard", batch, n, CODES(SLUICE_E_WRONG_SHARD));
        free(batch);
        struct batch_builder b;
        batch_builder_init(&b);
        batch_builder_add(&b, "key", 3, "mine", 4, &h->shards[0].last, true);
        batch_builder_add(&b, "key", 3, "not mine", 8, &h->shards[1].first, true);
        const struct batch_identity id = {.stream_id = h->stream_id};
        void *mixed;
        sluice_assert(batch_builder_finish(&b, &id, false, &mixed, &n) == 0);
        put_bad(h, "one record of another shard among others", mixed, n, CODES(SLUICE_E_WRONG_SHARD));
        free(mixed);
        batch_builder_deinit(&b);
        /* The request says shard 1, the batch shard 0, and the other way round. */
        uint8_t *good = good_batch(h, 0, &n);
        int fd = dial_client(h->shards[1].leader);
        Sluice__Put m = SLUICE__PUT__INIT;
        m.stream_id = (ProtobufCBinaryData){.len = 16, .data = h->stream_id};
        m.shard = 1;
        send_frame(fd, FRAME_PUT, 1, &m, good, n);
        expect_error(h, fd, "a put to shard 1 of a batch for shard 0", false, CODES(SLUICE_E_INVALID, SLUICE_E_WRONG_SHARD));
        m.shard = 4242;
        send_frame(fd, FRAME_PUT, 1, &m, good, n);
        expect_error(h, fd, "a put to no shard", false, CODES(SLUICE_E_NOT_FOUND));
        m.shard = 0;
        m.stream_id.len = 8;
        send_frame(fd, FRAME_PUT, 1, &m, good, n);
        expect_error(h, fd, "a put to half a stream", false, CODES(SLUICE_E_PROTOCOL, SLUICE_E_INVALID));
        uint8_t strange[16];
        random_bytes(h, strange, sizeof strange);
        m.stream_id = (ProtobufCBinaryData){.len = 16, .data = strange};
        send_frame(fd, FRAME_PUT, 1, &m, good, n);
        expect_error(h, fd, "a put to no stream", false, CODES(SLUICE_E_NOT_FOUND));
        close(fd);
        free(good);
    }
}

/* Idempotence abused: sequences from nowhere. */
static void producers(struct hostile *h)
{
    size_t n;
    uint8_t *good = good_batch(h, 0, &n);
    for (int i = 0; i < 50; i++) {
        random_bytes(h, good + POS_PRODUCER_ID, 16);
        put_u32(good + POS_PRODUCER_EPOCH, (uint32_t)random_u64(h));
        put_u64(good + POS_PRODUCER_SEQUENCE, i == 0 ? UINT64_MAX : 1 + random_u64(h) % 1000000);
        seal_header(good);
        put_bad(h, "an unknown producer in the middle of its sequence", good, n, CODES(SLUICE_E_PRODUCER_UNKNOWN, SLUICE_E_SEQUENCE_GAP));
    }
    free(good);
}

static uint8_t *lz4_batch(struct hostile *h, const void *body, size_t body_len, uint32_t raw_len, uint32_t count, size_t *n)
{
    size_t len;
    uint8_t *good = good_batch(h, 0, &len);
    uint8_t *batch = xmalloc(BATCH_HEADER_SIZE + body_len);
    memcpy(batch, good, BATCH_HEADER_SIZE);
    memcpy(batch + BATCH_HEADER_SIZE, body, body_len);
    free(good);
    batch[POS_CODEC] = BATCH_LZ4;
    put_u32(batch + POS_RAW_LEN, raw_len);
    put_u32(batch + POS_RECORD_COUNT, count);
    *n = BATCH_HEADER_SIZE + body_len;
    seal(batch, *n);
    return batch;
}

/* What decompresses to much more than it is, to something else than it says, or not at all. */
static void bombs(struct hostile *h)
{
    size_t n;
    enum { ZEROS = 64 << 20 };
    char *zeros = xcalloc(1, ZEROS);
    int bound = LZ4_compressBound(ZEROS);
    char *packed = xmalloc((size_t)bound);
    static const uint32_t claims[] = {1, 100, 1 << 20, BATCH_RAW_MAX, BATCH_RAW_MAX + 1u, 64 << 20, 1u << 31, UINT32_MAX};
    int len = LZ4_compress_default(zeros, packed, ZEROS, bound);
    for (size_t i = 0; i < ARRAY_LEN(claims); i++) {
        char what[96];
        snprintf(what, sizeof what, "64 MiB of zeros in %d bytes, said to be %u", len, claims[i]);
        uint8_t *batch = lz4_batch(h, packed, (size_t)len, claims[i], 2, &n);
        put_bad(h, what, batch, n, CODES(SLUICE_E_INVALID, SLUICE_E_TOO_LARGE));
        free(batch);
    }
    len = LZ4_compress_default(zeros, packed, BATCH_RAW_MAX, bound);
    uint8_t *batch = lz4_batch(h, packed, (size_t)len, BATCH_RAW_MAX, BATCH_RECORDS_MAX, &n);
    put_bad(h, "the largest bomb that a header allows", batch, n, CODES(SLUICE_E_INVALID, SLUICE_E_TOO_LARGE));
    /* Many of them at once on several connections, answers unread meanwhile. */
    int fds[8];
    for (size_t c = 0; c < ARRAY_LEN(fds); c++) {
        fds[c] = dial_client(h->shards[0].leader);
        Sluice__Put m = SLUICE__PUT__INIT;
        m.stream_id = (ProtobufCBinaryData){.len = 16, .data = h->stream_id};
        for (int i = 0; i < 25; i++) {
            send_frame(fds[c], FRAME_PUT, (uint64_t)i, &m, batch, n);
        }
    }
    for (size_t c = 0; c < ARRAY_LEN(fds); c++) {
        for (int i = 0; i < 25; i++) {
            expect_error(h, fds[c], "a bomb among others", false, CODES(SLUICE_E_INVALID, SLUICE_E_TOO_LARGE, SLUICE_E_BUSY, SLUICE_E_MEMORY));
        }
        close(fds[c]);
    }
    free(batch);
    for (int i = 0; i < 300; i++) {
        uint8_t body[200];
        size_t body_len = 1 + random_u64(h) % sizeof body;
        random_bytes(h, body, body_len);
        batch = lz4_batch(h, body, body_len, 18 + (uint32_t)(random_u64(h) % 100000), 2, &n);
        put_bad(h, "garbage called LZ4", batch, n, CODES(SLUICE_E_INVALID));
        free(batch);
    }
    free(zeros);
    free(packed);
}

const struct attack batch_attacks[] = {
    {"each field of the header", header_fields},
    {"flipped bits", flipped_bits},
    {"records that lie", records},
    {"limits and wrong shards", limits},
    {"producers from nowhere", producers},
    {"bombs", bombs},
    {NULL, NULL},
};
