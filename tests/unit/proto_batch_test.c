/* batches: round trips, every field that may be wrong, truncation and bit flips at every place, bounds. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "proto/base.h"
#include "proto/batch.h"
#include "proto/batch_layout.h"
#include "proto/crc32c.h"
#include "proto/error.h"

static const uint8_t stream_id[16] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16};
static const uint8_t producer_id[16] = {0xff, 1};

struct bytes {
    uint8_t *p;
    size_t n;
};

static int add(struct batch_builder *b, const char *key, const void *data, size_t n)
{
    struct hash128 hash;
    hash_key_of(key, strlen(key), &hash);
    return batch_builder_add(b, key, strlen(key), data, n, &hash, false);
}

static struct bytes finish(struct batch_builder *b, bool lz4)
{
    const struct batch_identity id = {
        .stream_id = stream_id, .shard = 7, .producer_id = producer_id, .producer_epoch = 3, .producer_sequence = 41};
    struct bytes out;
    void *p;
    assert_int_equal(batch_builder_finish(b, &id, lz4, &p, &out.n), SLUICE_E_OK);
    out.p = p;
    return out;
}

/* Three records: a plain one, one with a hash key of its own and no data, a compressible one. */
static struct bytes make_batch(bool lz4)
{
    struct batch_builder b;
    batch_builder_init(&b);
    char zeros[300] = {0};
    struct hash128 own = {{0xfe, 0xdc}};
    assert_int_equal(add(&b, "alpha", "hello", 5), 0);
    assert_int_equal(batch_builder_add(&b, "beta", 4, NULL, 0, &own, true), 0);
    assert_int_equal(add(&b, "gamma", zeros, sizeof(zeros)), 0);
    struct bytes out = finish(&b, lz4);
    batch_builder_deinit(&b);
    return out;
}

struct checker {
    void *scratch;
    size_t scratch_size;
    struct batch_header h;
    const char *why;
};

static int check(struct checker *c, const struct bytes *b, uint32_t record_max)
{
    c->why = NULL;
    int code = batch_check(b->p, b->n, record_max, &c->scratch, &c->scratch_size, &c->h, &c->why);
    assert_true((code == SLUICE_E_OK) == (c->why == NULL)); /* every refusal says why */
    return code;
}

/* After a field was changed on purpose: right checksums, so that the field's own check is what refuses. */
static void reseal(struct bytes *b)
{
    put_u32(b->p + POS_BODY_CRC, crc32c(0, b->p + BATCH_HEADER_SIZE, b->n - BATCH_HEADER_SIZE));
    uint32_t crc = crc32c(0, b->p + POS_BODY_CRC, BATCH_HEADER_SIZE - POS_BODY_CRC);
    put_u32(b->p + POS_HEADER_CRC, crc32c(crc, b->p, POS_HEADER_CRC));
}

static void test_round_trip(void **state)
{
    (void)state;
    for (int lz4 = 0; lz4 <= 1; lz4++) {
        struct bytes b = make_batch(lz4);
        struct checker c = {0};
        assert_int_equal(check(&c, &b, 1 << 20), SLUICE_E_OK);
        assert_int_equal(c.h.codec, lz4 ? BATCH_LZ4 : BATCH_PLAIN);
        assert_int_equal(c.h.total_len, b.n);
        assert_int_equal(c.h.record_count, 3);
        assert_int_equal(c.h.shard, 7);
        assert_int_equal(c.h.producer_epoch, 3);
        assert_int_equal(c.h.producer_sequence, 41);
        assert_memory_equal(c.h.stream_id, stream_id, 16);
        assert_memory_equal(c.h.producer_id, producer_id, 16);
        assert_int_equal(c.h.hash_max.b[0], 0xfe);

        batch_stamp(b.p, 1000, 1234567, 99, 4);
        assert_int_equal(check(&c, &b, 1 << 20), SLUICE_E_INVALID); /* no producer may send what a leader stamped */
        struct batch_reader r;
        assert_int_equal(batch_reader_open(&r, b.p, b.n, &c.scratch, &c.scratch_size, NULL), SLUICE_E_OK);
        assert_int_equal(r.header.time_ms, 1234567);
        assert_int_equal(r.header.raft_index, 99);
        assert_int_equal(r.header.settings_version, 4);
        struct batch_record rec;
        assert_int_equal(batch_reader_next(&r, &rec), 1);
        assert_int_equal(rec.offset, 1000);
        assert_int_equal(rec.key_len, 5);
        assert_memory_equal(rec.key, "alpha", 5);
        assert_int_equal(rec.data_len, 5);
        assert_memory_equal(rec.data, "hello", 5);
        assert_false(rec.has_hash);
        assert_int_equal(batch_reader_next(&r, &rec), 1);
        assert_int_equal(rec.data_len, 0);
        assert_true(rec.has_hash);
        assert_int_equal(rec.hash.b[1], 0xdc);
        assert_int_equal(batch_reader_next(&r, &rec), 1);
        assert_int_equal(rec.offset, 1002);
        assert_int_equal(rec.data_len, 300);
        assert_int_equal(batch_reader_next(&r, &rec), 0);
        assert_int_equal(batch_reader_next(&r, &rec), 0);
        free(c.scratch);
        free(b.p);
    }
}

/* The builder can be used again, and what does not shrink is left plain. */
static void test_incompressible_stays_plain(void **state)
{
    (void)state;
    uint8_t noise[5000];
    uint32_t x = 1;
    struct batch_builder b;
    batch_builder_init(&b);
    for (int round = 0; round < 3; round++) {
        for (int i = 0; i <= round; i++) {
            for (size_t k = 0; k < sizeof(noise); k++) {
                x = x * 1664525 + 1013904223;
                noise[k] = (uint8_t)(x >> 24);
            }
            assert_int_equal(add(&b, "k", noise, sizeof(noise)), 0);
        }
        struct bytes out = finish(&b, true);
        assert_int_equal(out.p[POS_CODEC], BATCH_PLAIN);
        assert_int_equal(out.n, BATCH_HEADER_SIZE + (round + 1) * (8 + 1 + sizeof(noise)));
        struct checker c = {0};
        assert_int_equal(check(&c, &out, 1 << 20), SLUICE_E_OK);
        assert_int_equal(c.h.record_count, round + 1);
        assert_null(c.scratch);
        free(out.p);
    }
    batch_builder_deinit(&b);
}

static void test_truncated_and_extended(void **state)
{
    (void)state;
    for (int lz4 = 0; lz4 <= 1; lz4++) {
        struct bytes whole = make_batch(lz4);
        struct checker c = {0};
        for (size_t n = 0; n < whole.n; n++) {
            struct bytes cut = {malloc(n > 0 ? n : 1), n}; /* memory of its own, so that ASan sees a read behind it */
            memcpy(cut.p, whole.p, n);
            assert_int_not_equal(check(&c, &cut, 1 << 20), SLUICE_E_OK);
            free(cut.p);
        }
        struct bytes longer = {calloc(1, whole.n + 1), whole.n + 1};
        memcpy(longer.p, whole.p, whole.n);
        assert_int_equal(check(&c, &longer, 1 << 20), SLUICE_E_INVALID);
        struct batch_header h;
        assert_int_equal(batch_header_decode(&h, longer.p, longer.n, true, NULL), SLUICE_E_OK); /* another may follow */
        assert_false(batch_body_ok(longer.p, longer.n));
        free(longer.p);
        free(whole.p);
        free(c.scratch);
    }
}

static void test_every_bit_flip_is_refused(void **state)
{
    (void)state;
    for (int lz4 = 0; lz4 <= 1; lz4++) {
        struct bytes b = make_batch(lz4);
        struct checker c = {0};
        for (size_t bit = 0; bit < b.n * 8; bit++) {
            b.p[bit / 8] ^= (uint8_t)(1u << (bit % 8));
            assert_int_not_equal(check(&c, &b, 1 << 20), SLUICE_E_OK);
            b.p[bit / 8] ^= (uint8_t)(1u << (bit % 8));
        }
        assert_int_equal(check(&c, &b, 1 << 20), SLUICE_E_OK);
        free(b.p);
        free(c.scratch);
    }
}

/* Each header field with a wrong value under right checksums. */
static void test_bad_header_fields(void **state)
{
    (void)state;
    const struct {
        int pos, size;
        uint64_t value;
        int want;
    } cases[] = {
        {POS_VERSION, 1, 0, SLUICE_E_VERSION},
        {POS_VERSION, 1, 2, SLUICE_E_VERSION},
        {POS_KIND, 1, 2, SLUICE_E_INVALID},
        {POS_CODEC, 1, 2, SLUICE_E_NOT_SUPPORTED},
        {POS_CODEC, 1, BATCH_LZ4, SLUICE_E_INVALID}, /* the body is plain */
        {POS_CIPHER, 1, 1, SLUICE_E_NOT_SUPPORTED},
        {POS_TOTAL_LEN, 4, 0, SLUICE_E_INVALID},
        {POS_TOTAL_LEN, 4, BATCH_HEADER_SIZE, SLUICE_E_INVALID},
        {POS_TOTAL_LEN, 4, BATCH_BYTES_MAX, SLUICE_E_INVALID},
        {POS_TOTAL_LEN, 4, BATCH_BYTES_MAX + 1, SLUICE_E_TOO_LARGE},
        {POS_TOTAL_LEN, 4, 0xffffffff, SLUICE_E_TOO_LARGE},
        {POS_RAW_LEN, 4, 0, SLUICE_E_INVALID},
        {POS_RAW_LEN, 4, BATCH_RAW_MAX, SLUICE_E_INVALID},
        {POS_RAW_LEN, 4, BATCH_RAW_MAX + 1, SLUICE_E_TOO_LARGE},
        {POS_RAW_LEN, 4, 0xffffffff, SLUICE_E_TOO_LARGE},
        {POS_RECORD_COUNT, 4, 0, SLUICE_E_INVALID},
        {POS_RECORD_COUNT, 4, 2, SLUICE_E_INVALID},
        {POS_RECORD_COUNT, 4, 4, SLUICE_E_INVALID},
        {POS_RECORD_COUNT, 4, BATCH_RECORDS_MAX, SLUICE_E_INVALID},
        {POS_RECORD_COUNT, 4, BATCH_RECORDS_MAX + 1, SLUICE_E_TOO_LARGE},
        {POS_RECORD_COUNT, 4, 0xffffffff, SLUICE_E_TOO_LARGE},
        {POS_FIRST_OFFSET, 8, 1, SLUICE_E_INVALID},
        {POS_TIME_MS, 8, 1, SLUICE_E_INVALID},
        {POS_RAFT_INDEX, 8, 1, SLUICE_E_INVALID},
        {POS_SETTINGS_VERSION, 8, 1, SLUICE_E_INVALID},
        {POS_KEY_ID, 4, 1, SLUICE_E_NOT_SUPPORTED},
        {POS_NONCE + 11, 1, 1, SLUICE_E_NOT_SUPPORTED},
        {POS_RESERVED, 8, 1ULL << 63, SLUICE_E_NOT_SUPPORTED},
        {POS_HASH_MIN, 1, 0xff, SLUICE_E_INVALID}, /* above the highest */
        {POS_HASH_MIN, 1, 0, SLUICE_E_INVALID},    /* lower than any record's */
        {POS_HASH_MAX, 1, 0xff, SLUICE_E_INVALID}, /* higher than any record's */
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct bytes b = make_batch(false);
        memcpy(b.p + cases[i].pos, &cases[i].value, (size_t)cases[i].size);
        reseal(&b);
        struct checker c = {0};
        int code = check(&c, &b, 1 << 20);
        if (code != cases[i].want) {
            fail_msg("case %zu: got %s (%s)", i, sluice_error_name(code), c.why);
        }
        free(b.p);
        free(c.scratch);
    }
}

/* A fresh batch whose producer fields were damaged on the way: its own checksum tells. */
static void test_producer_fields_are_guarded(void **state)
{
    (void)state;
    const int places[] = {POS_PRODUCER_ID, POS_PRODUCER_EPOCH, POS_SHARD, POS_PRODUCER_SEQUENCE, POS_STREAM_ID};
    for (size_t i = 0; i < ARRAY_LEN(places); i++) {
        struct bytes b = make_batch(false);
        b.p[places[i]] ^= 4;
        struct checker c = {0};
        assert_int_equal(check(&c, &b, 1 << 20), SLUICE_E_CORRUPT);
        free(b.p);
    }
}

static void test_bad_records(void **state)
{
    (void)state;
    enum { FIRST = BATCH_HEADER_SIZE, SECOND = FIRST + 8 + 5 + 5, THIRD = SECOND + 8 + 16 + 4 };
    const struct {
        int pos, size;
        uint64_t value;
        int want;
    } cases[] = {
        {FIRST, 4, 6, SLUICE_E_NOT_SUPPORTED},                    /* data reaches into the next record: its flags are nonsense */
        {FIRST, 4, 10, SLUICE_E_INVALID},
        {FIRST, 4, 0xffffffff, SLUICE_E_INVALID},                 /* data length beyond all */
        {FIRST, 4, 0xfffffff8, SLUICE_E_INVALID},                 /* and one that wraps 32 bits */
        {FIRST + 4, 2, 0, SLUICE_E_INVALID},                      /* empty key */
        {FIRST + 4, 2, BATCH_KEY_MAX + 1, SLUICE_E_INVALID},
        {FIRST + 4, 2, 0xffff, SLUICE_E_INVALID},
        {FIRST + 6, 2, 2, SLUICE_E_NOT_SUPPORTED},                /* unknown flag */
        {FIRST + 6, 2, 0x8001, SLUICE_E_NOT_SUPPORTED},
        {SECOND + 6, 2, 0, SLUICE_E_INVALID},                     /* the hash key read as something else */
        {SECOND + 8, 1, 0xfd, SLUICE_E_INVALID},                  /* another hash key than the header says */
        {THIRD + 8, 1, 'G', SLUICE_E_INVALID},                    /* another key, so another lowest hash */
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct bytes b = make_batch(false);
        memcpy(b.p + cases[i].pos, &cases[i].value, (size_t)cases[i].size);
        reseal(&b);
        struct checker c = {0};
        int code = check(&c, &b, 1 << 20);
        if (code != cases[i].want) {
            fail_msg("case %zu: got %s (%s)", i, sluice_error_name(code), c.why);
        }
        free(b.p);
    }
    struct bytes b = make_batch(false);
    struct checker c = {0};
    assert_int_equal(check(&c, &b, 305), SLUICE_E_OK); /* the largest: 5 bytes of key, 300 of data */
    assert_int_equal(check(&c, &b, 304), SLUICE_E_TOO_LARGE);
    free(b.p);
}

static void test_bad_lz4(void **state)
{
    (void)state;
    struct checker c = {0};
    const int64_t changes[] = {1, -1, 1000};
    for (size_t i = 0; i < ARRAY_LEN(changes); i++) { /* decompresses to another length than stated */
        struct bytes b = make_batch(true);
        put_u32(b.p + POS_RAW_LEN, (uint32_t)(get_u32(b.p + POS_RAW_LEN) + changes[i]));
        reseal(&b);
        assert_int_equal(check(&c, &b, 1 << 20), SLUICE_E_INVALID);
        free(b.p);
    }
    for (unsigned seed = 0; seed < 2000; seed++) { /* a body of nonsense is never more than an error */
        struct bytes b = make_batch(true);
        uint32_t x = seed;
        for (size_t k = 0; k < 4; k++) {
            x = x * 1664525 + 1013904223;
            b.p[BATCH_HEADER_SIZE + (x >> 8) % (b.n - BATCH_HEADER_SIZE)] = (uint8_t)(x >> 24);
        }
        reseal(&b);
        check(&c, &b, 1 << 20);
        free(b.p);
    }
    free(c.scratch);
}

static void test_builder_bounds(void **state)
{
    (void)state;
    struct batch_builder b;
    batch_builder_init(&b);
    struct hash128 hash = {{0}};
    char *key = malloc(BATCH_KEY_MAX + 1);
    memset(key, 'k', BATCH_KEY_MAX + 1);
    uint8_t *data = calloc(1, BATCH_RECORD_BYTES_MAX + 1);
    assert_int_equal(batch_builder_add(&b, key, 0, data, 1, &hash, false), SLUICE_E_INVALID);
    assert_int_equal(batch_builder_add(&b, key, BATCH_KEY_MAX + 1, data, 1, &hash, false), SLUICE_E_TOO_LARGE);
    assert_int_equal(batch_builder_add(&b, key, 1, data, BATCH_RECORD_BYTES_MAX, &hash, false), SLUICE_E_TOO_LARGE);
    assert_int_equal(batch_builder_add(&b, key, 1, data, SIZE_MAX, &hash, false), SLUICE_E_TOO_LARGE);
    assert_int_equal(b.count, 0);

    /* the largest record, with the longest key and a hash key of its own */
    hash_key_of("x", 1, &hash);
    assert_int_equal(batch_builder_add(&b, key, BATCH_KEY_MAX, data, BATCH_RECORD_BYTES_MAX - BATCH_KEY_MAX, &hash, true), 0);
    assert_int_equal(batch_builder_size_with(&b, 1, 0, false), b.len + 9);
    assert_int_equal(batch_builder_add(&b, key, 1, data, 1 << 20, &hash, true), SLUICE_E_TOO_LARGE);
    assert_int_equal(b.count, 1);
    for (int lz4 = 0; lz4 <= 1; lz4++) {
        if (lz4 == 1) {
            assert_int_equal(
                batch_builder_add(&b, key, BATCH_KEY_MAX, data, BATCH_RECORD_BYTES_MAX - BATCH_KEY_MAX, &hash, true), 0);
        }
        struct bytes out = finish(&b, lz4);
        struct checker c = {0};
        assert_true(out.n <= BATCH_BYTES_MAX);
        assert_int_equal(check(&c, &out, BATCH_RECORD_BYTES_MAX), SLUICE_E_OK);
        assert_int_equal(c.h.codec, lz4);
        free(out.p);
        free(c.scratch);
    }

    /* the most records */
    for (int i = 0; i < BATCH_RECORDS_MAX; i++) {
        assert_int_equal(batch_builder_add(&b, "x", 1, "", 0, &hash, false), 0);
    }
    assert_int_equal(batch_builder_add(&b, "x", 1, "", 0, &hash, false), SLUICE_E_TOO_LARGE);
    struct bytes out = finish(&b, false);
    struct checker c = {0};
    assert_int_equal(check(&c, &out, 1), SLUICE_E_OK);
    assert_int_equal(c.h.record_count, BATCH_RECORDS_MAX);
    assert_memory_equal(&c.h.hash_min, &hash, sizeof(hash));
    assert_memory_equal(&c.h.hash_max, &hash, sizeof(hash));
    free(out.p);
    free(key);
    free(data);
    batch_builder_deinit(&b);
}

/* A reset builder forgets everything, also the hash keys. */
static void test_builder_reset(void **state)
{
    (void)state;
    struct batch_builder b;
    batch_builder_init(&b);
    struct hash128 low = {{0}};
    assert_int_equal(batch_builder_add(&b, "old", 3, "old", 3, &low, true), 0);
    batch_builder_reset(&b);
    assert_int_equal(add(&b, "new", "new", 3), 0);
    struct bytes out = finish(&b, false);
    struct checker c = {0};
    assert_int_equal(check(&c, &out, 1000), SLUICE_E_OK);
    assert_int_equal(c.h.record_count, 1);
    free(out.p);
    batch_builder_deinit(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_round_trip),
        cmocka_unit_test(test_incompressible_stays_plain),
        cmocka_unit_test(test_truncated_and_extended),
        cmocka_unit_test(test_every_bit_flip_is_refused),
        cmocka_unit_test(test_bad_header_fields),
        cmocka_unit_test(test_producer_fields_are_guarded),
        cmocka_unit_test(test_bad_records),
        cmocka_unit_test(test_bad_lz4),
        cmocka_unit_test(test_builder_bounds),
        cmocka_unit_test(test_builder_reset),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
