/* hash keys: MD5 by RFC 1321's vectors and around its block edges, decimals, ranges that tile exactly. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

#include "proto/batch.h"
#include "proto/md5.h"

static void assert_md5(const void *data, size_t n, const char *want)
{
    uint8_t out[16];
    md5(data, n, out);
    char text[33];
    for (int i = 0; i < 16; i++) {
        snprintf(text + 2 * i, 3, "%02x", out[i]);
    }
    assert_string_equal(text, want);
}

static void test_md5(void **state)
{
    (void)state;
    assert_md5("", 0, "d41d8cd98f00b204e9800998ecf8427e");
    assert_md5("a", 1, "0cc175b9c0f1b6a831c399e269772661");
    assert_md5("abc", 3, "900150983cd24fb0d6963f7d28e17f72");
    assert_md5("message digest", 14, "f96b697d7cb7938d525a2f31aaf161d0");
    assert_md5("abcdefghijklmnopqrstuvwxyz", 26, "c3fcd3d76192e4007dfb496cca67e13b");
    assert_md5("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789", 62, "d174ab98d277d9f5a5611c2c9f419d9f");
    assert_md5("12345678901234567890123456789012345678901234567890123456789012345678901234567890", 80,
               "57edf4a22be3c955ac49da2e2107b67a");
    char x[1024];
    memset(x, 'x', sizeof(x));
    assert_md5(x, 55, "04364420e25c512fd958a70738aa8f72");
    assert_md5(x, 56, "668a72d5ba17f08e62dabcafad6db14b");
    assert_md5(x, 63, "7dc2ca208106a2f703567bdff99d8981");
    assert_md5(x, 64, "c1bb4f81d892b2d57947682aeb252456");
    assert_md5(x, 65, "1bc932052302d074bdec39795fe00cf6");
    assert_md5(x, 1024, "7265f4d211b56873a381d321f586e4a9");
    struct hash128 h;
    hash_key_of("abc", 3, &h);
    assert_int_equal(h.b[0], 0x90);
    assert_int_equal(h.b[15], 0x72);
}

/* Side by side as one by one, whatever lies in the other lanes; RFC 1321's vectors first. */
static void test_several_keys(void **state)
{
    (void)state;
    const char *texts[4] = {"a", "", "message digest", "abc"};
    const char *want[4] = {"0cc175b9c0f1b6a831c399e269772661", "d41d8cd98f00b204e9800998ecf8427e", "f96b697d7cb7938d525a2f31aaf161d0",
                           "900150983cd24fb0d6963f7d28e17f72"};
    const void *data[4];
    size_t n[4];
    uint8_t out[4][16];
    uint8_t *to[4] = {out[0], out[1], out[2], out[3]};
    for (unsigned i = 0; i < 4; i++) {
        data[i] = texts[i];
        n[i] = strlen(texts[i]);
    }
    md5_four(data, n, to);
    for (unsigned i = 0; i < 4; i++) {
        char text[33];
        for (int k = 0; k < 16; k++) {
            snprintf(text + 2 * k, 3, "%02x", out[i][k]);
        }
        assert_string_equal(text, want[i]);
    }
    /* Any number of records, any length of key (above MD5_SHORT they go alone), some with a hash of their own. */
    char x[200];
    memset(x, 'x', sizeof(x));
    for (unsigned round = 0; round < 600; round++) {
        struct batch_record records[HASH_KEYS_MAX] = {{0}};
        struct hash128 got[HASH_KEYS_MAX];
        unsigned count = round % (HASH_KEYS_MAX + 1);
        for (unsigned i = 0; i < count; i++) {
            unsigned len = 1 + (round * 7 + i * 31) % 70;
            records[i] = (struct batch_record){.key = (const uint8_t *)x + i, .key_len = len, .has_hash = (round + i) % 5 == 0, .hash = {{(uint8_t)round, 1}}};
        }
        hash_keys_of(records, count, got);
        for (unsigned i = 0; i < count; i++) {
            struct hash128 alone = records[i].hash;
            if (!records[i].has_hash) {
                md5(records[i].key, records[i].key_len, alone.b);
            }
            assert_memory_equal(got[i].b, alone.b, 16);
        }
    }
}

static void test_compare(void **state)
{
    (void)state;
    for (unsigned i = 0; i < 16; i++) {
        struct hash128 a = {{0}}, b = {{0}};
        memset(a.b + i, 0x7f, 16 - i);
        memset(b.b + i, 0x7f, 16 - i);
        assert_int_equal(hash_compare(&a, &b), 0);
        b.b[i] = 0x80; /* the first byte that differs decides, as an unsigned one */
        assert_true(hash_compare(&a, &b) < 0 && hash_compare(&b, &a) > 0);
    }
}

static void test_decimals(void **state)
{
    (void)state;
    const char *good[] = {"0", "1", "9", "10", "255", "256", "18446744073709551615", "18446744073709551616",
                          "170141183460469231731687303715884105728", "340282366920938463463374607431768211455"};
    struct hash128 before = {{0}};
    for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
        struct hash128 h;
        char text[40];
        assert_true(hash_from_decimal(good[i], &h));
        hash_to_decimal(&h, text);
        assert_string_equal(text, good[i]);
        assert_true(i == 0 || hash_compare(&before, &h) < 0);
        before = h;
    }
    struct hash128 h;
    assert_true(hash_from_decimal("258", &h));
    assert_int_equal(h.b[14], 1);
    assert_int_equal(h.b[15], 2);
    const char *bad[] = {"", "-1", "+1", " 1", "1 ", "0x1", "00", "01", "1a", "340282366920938463463374607431768211456",
                         "999999999999999999999999999999999999999", "3402823669209384634633746074317682114550",
                         "99999999999999999999999999999999999999999999999999999999999999999999999999999999"};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        memset(&h, 7, sizeof(h));
        assert_false(hash_from_decimal(bad[i], &h));
        assert_int_equal(h.b[0], 7);
    }
}

static void increment(struct hash128 *h)
{
    for (int i = 15; i >= 0 && ++h->b[i] == 0; i--) {
    }
}

/* From 0 to 2^128 - 1 with no gap and no overlap. */
static void assert_tiles(uint32_t n)
{
    struct hash128 next = {{0}};
    for (uint32_t i = 0; i < n; i++) {
        struct hash128 first;
        struct hash128 last;
        hash_range(i, n, &first, &last);
        assert_int_equal(hash_compare(&first, &next), 0);
        assert_true(hash_compare(&first, &last) <= 0);
        next = last;
        increment(&next);
    }
    struct hash128 zero = {{0}};
    assert_int_equal(hash_compare(&next, &zero), 0);
}

static void test_ranges(void **state)
{
    (void)state;
    const uint32_t counts[] = {1, 2, 3, 4, 7, 100, 4096, 9999, 10000};
    for (size_t i = 0; i < sizeof(counts) / sizeof(counts[0]); i++) {
        assert_tiles(counts[i]);
    }
    struct hash128 first;
    struct hash128 last;
    char text[40];
    hash_range(1, 3, &first, &last);
    hash_to_decimal(&first, text);
    assert_string_equal(text, "113427455640312821154458202477256070485"); /* floor(2^128 / 3) */
    hash_range(1, 2, &first, &last);
    hash_to_decimal(&first, text);
    assert_string_equal(text, "170141183460469231731687303715884105728"); /* 2^127 */
    hash_range(9999, 10000, &first, &last);
    assert_int_equal(last.b[0], 0xff);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_md5),
        cmocka_unit_test(test_several_keys),
        cmocka_unit_test(test_compare),
        cmocka_unit_test(test_decimals),
        cmocka_unit_test(test_ranges),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
