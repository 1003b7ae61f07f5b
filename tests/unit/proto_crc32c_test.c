/* crc32c: known values, all three ways agree at every length and alignment, pieces join to the whole. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "proto/crc32c.h"

static void fill(uint8_t *p, size_t n)
{
    uint32_t x = 12345;
    for (size_t i = 0; i < n; i++) {
        x = x * 1103515245 + 12345;
        p[i] = (uint8_t)(x >> 16);
    }
}

static uint32_t bit_by_bit(const uint8_t *p, size_t n)
{
    uint32_t crc = 0xffffffff;
    for (size_t i = 0; i < n; i++) {
        crc ^= p[i];
        for (int k = 0; k < 8; k++) {
            crc = (crc >> 1) ^ ((crc & 1) ? 0x82f63b78 : 0);
        }
    }
    return ~crc;
}

/* RFC 3720, B.4. */
static void test_known_values(void **state)
{
    (void)state;
    uint8_t block[32];
    assert_int_equal(crc32c(0, "123456789", 9), 0xe3069283);
    assert_int_equal(crc32c(0, "", 0), 0);
    memset(block, 0, sizeof(block));
    assert_int_equal(crc32c(0, block, sizeof(block)), 0x8a9136aa);
    memset(block, 0xff, sizeof(block));
    assert_int_equal(crc32c(0, block, sizeof(block)), 0x62a8ab43);
    for (size_t i = 0; i < sizeof(block); i++) {
        block[i] = (uint8_t)i;
    }
    assert_int_equal(crc32c(0, block, sizeof(block)), 0x46dd794e);
    assert_int_equal(crc32c_portable(0, block, sizeof(block)), 0x46dd794e);
}

static void test_all_ways_agree(void **state)
{
    (void)state;
    enum { SIZE = 9000 };
    uint8_t *p = malloc(SIZE);
    fill(p, SIZE);
    for (size_t n = 0; n < 1000; n++) {
        uint32_t want = bit_by_bit(p + n % 9, n);
        assert_int_equal(crc32c(0, p + n % 9, n), want);
        assert_int_equal(crc32c_portable(0, p + n % 9, n), want);
    }
    /* around the lengths where blocks are taken three at a time */
    const size_t edges[] = {767, 768, 769, 1535, 1536, 1537, 3071, 3072, 3073, 3839, 3840, 3841, 6144, 6152, 8999};
    for (size_t i = 0; i < sizeof(edges) / sizeof(edges[0]); i++) {
        assert_int_equal(crc32c(0, p + 1, edges[i]), bit_by_bit(p + 1, edges[i]));
        assert_int_equal(crc32c_portable(0, p + 1, edges[i]), bit_by_bit(p + 1, edges[i]));
    }
    free(p);
}

static void test_pieces_join(void **state)
{
    (void)state;
    enum { SIZE = 7001 };
    uint8_t *p = malloc(SIZE);
    fill(p, SIZE);
    uint32_t whole = crc32c(0, p, SIZE);
    for (size_t cut = 0; cut <= SIZE; cut += 173) {
        uint32_t a = crc32c(0, p, cut);
        assert_int_equal(crc32c(a, p + cut, SIZE - cut), whole);
    }
    free(p);
}

/* The checksum of a whole from those of its halves, wherever it is cut. */
static void test_join(void **state)
{
    (void)state;
    enum { SIZE = 300000 };
    uint8_t *p = malloc(SIZE);
    fill(p, SIZE);
    uint32_t whole = crc32c(0, p, SIZE);
    for (size_t cut = 0; cut <= SIZE; cut += cut < 300 || cut > SIZE - 300 ? 1 : 997) {
        size_t at = cut < SIZE ? cut : SIZE;
        assert_int_equal(crc32c_join(crc32c(0, p, at), crc32c(0, p + at, SIZE - at), SIZE - at), whole);
    }
    assert_int_equal(crc32c_join(whole, 0, 0), whole);
    free(p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_known_values),
        cmocka_unit_test(test_all_ways_agree),
        cmocka_unit_test(test_join),
        cmocka_unit_test(test_pieces_join),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
