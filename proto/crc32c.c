/* CRC-32C three ways, all with the same result:
 *
 *   - folded: SSE4.2's crc32 instruction has a latency of three cycles but starts one per cycle, so three blocks are
 *     taken side by side and joined by one carry-less multiplication each;
 *   - straight: the instruction on what is left over;
 *   - tables: eight bytes per step, for processors without the instruction.
 *
 * The processor is asked on each call: that is a load and a test, and needs no variable of ours. */
#include "proto/crc32c.h"

#include "proto/base.h"

/* For the polynomial 0x82f63b78 (bits reversed). The table for byte i at distance k is linear in i: its 256 entries follow from those of the eight single bits. */
#define BIT(i, n, v) (((i) & (1 << (n))) ? (v) : 0u)
#define E(i, a, b, c, d, e, f, g, h) \
    (BIT(i, 0, a) ^ BIT(i, 1, b) ^ BIT(i, 2, c) ^ BIT(i, 3, d) ^ BIT(i, 4, e) ^ BIT(i, 5, f) ^ BIT(i, 6, g) ^ BIT(i, 7, h))
#define E4(i, ...) E(i, __VA_ARGS__), E((i) + 1, __VA_ARGS__), E((i) + 2, __VA_ARGS__), E((i) + 3, __VA_ARGS__)
#define E16(i, ...) E4(i, __VA_ARGS__), E4((i) + 4, __VA_ARGS__), E4((i) + 8, __VA_ARGS__), E4((i) + 12, __VA_ARGS__)
#define E64(i, ...) E16(i, __VA_ARGS__), E16((i) + 16, __VA_ARGS__), E16((i) + 32, __VA_ARGS__), E16((i) + 48, __VA_ARGS__)
#define ROW(...) {E64(0, __VA_ARGS__), E64(64, __VA_ARGS__), E64(128, __VA_ARGS__), E64(192, __VA_ARGS__)}

static const uint32_t table[8][256] = {
    ROW(0xf26b8303, 0xe13b70f7, 0xc79a971f, 0x8ad958cf, 0x105ec76f, 0x20bd8ede, 0x417b1dbc, 0x82f63b78),
    ROW(0x13a29877, 0x274530ee, 0x4e8a61dc, 0x9d14c3b8, 0x3fc5f181, 0x7f8be302, 0xff17c604, 0xfbc3faf9),
    ROW(0xa541927e, 0x4f6f520d, 0x9edea41a, 0x38513ec5, 0x70a27d8a, 0xe144fb14, 0xc76580d9, 0x8b277743),
    ROW(0xdd45aab8, 0xbf672381, 0x7b2231f3, 0xf64463e6, 0xe964b13d, 0xd725148b, 0xaba65fe7, 0x52a0c93f),
    ROW(0x38116fac, 0x7022df58, 0xe045beb0, 0xc5670b91, 0x8f2261d3, 0x1ba8b557, 0x37516aae, 0x6ea2d55c),
    ROW(0xef306b19, 0xdb8ca0c3, 0xb2f53777, 0x6006181f, 0xc00c303e, 0x85f4168d, 0x0e045beb, 0x1c08b7d6),
    ROW(0x68032cc8, 0xd0065990, 0xa5e0c5d1, 0x4e2dfd53, 0x9c5bfaa6, 0x3d5b83bd, 0x7ab7077a, 0xf56e0ef4),
    ROW(0x493c7d27, 0x9278fa4e, 0x211d826d, 0x423b04da, 0x847609b4, 0x0d006599, 0x1a00cb32, 0x34019664),
};

static uint32_t crc_by_table(uint32_t crc, const uint8_t *p, size_t n)
{
    while (n >= 8) {
        uint64_t v = get_u64(p) ^ crc;
        crc = table[7][v & 255] ^ table[6][(v >> 8) & 255] ^ table[5][(v >> 16) & 255] ^ table[4][(v >> 24) & 255] ^
              table[3][(v >> 32) & 255] ^ table[2][(v >> 40) & 255] ^ table[1][(v >> 48) & 255] ^ table[0][v >> 56];
        p += 8;
        n -= 8;
    }
    while (n-- > 0) {
        crc = (crc >> 8) ^ table[0][(crc ^ *p++) & 255];
    }
    return crc;
}

#ifdef __x86_64__
#include <nmmintrin.h>
#include <wmmintrin.h>

/* x^(8n - 33) and x^(16n - 33) modulo the polynomial, bits reflected: what moves a block's CRC over one or two further
 * blocks of n bytes, given that the crc32 instruction which reduces the 64-bit product moves it by 33. */
#define LONG_BLOCK 1024
#define LONG_OVER_1 0x170076fa
#define LONG_OVER_2 0xa51b6135
#define SHORT_BLOCK 256
#define SHORT_OVER_1 0xb9e02b86
#define SHORT_OVER_2 0xdd7e3b0c

__attribute__((target("sse4.2,pclmul"))) static inline uint64_t multiply(uint32_t crc, uint64_t power)
{
    __m128i product = _mm_clmulepi64_si128(_mm_cvtsi32_si128((int)crc), _mm_cvtsi64_si128((int64_t)power), 0);
    return (uint64_t)_mm_cvtsi128_si64(product);
}

__attribute__((target("sse4.2,pclmul"))) static inline uint32_t crc_three(uint32_t crc, const uint8_t *p, size_t block,
                                                                          uint64_t over_1, uint64_t over_2)
{
    uint64_t a = crc;
    uint64_t b = 0;
    uint64_t c = 0;
    for (const uint8_t *end = p + block; p < end; p += 8) {
        a = _mm_crc32_u64(a, get_u64(p));
        b = _mm_crc32_u64(b, get_u64(p + block));
        c = _mm_crc32_u64(c, get_u64(p + 2 * block));
    }
    return (uint32_t)c ^ (uint32_t)_mm_crc32_u64(0, multiply((uint32_t)a, over_2) ^ multiply((uint32_t)b, over_1));
}

__attribute__((target("sse4.2,pclmul"))) static uint32_t crc_by_instruction(uint32_t crc, const uint8_t *p, size_t n)
{
    for (; n >= 3 * LONG_BLOCK; p += 3 * LONG_BLOCK, n -= 3 * LONG_BLOCK) {
        crc = crc_three(crc, p, LONG_BLOCK, LONG_OVER_1, LONG_OVER_2);
    }
    for (; n >= 3 * SHORT_BLOCK; p += 3 * SHORT_BLOCK, n -= 3 * SHORT_BLOCK) {
        crc = crc_three(crc, p, SHORT_BLOCK, SHORT_OVER_1, SHORT_OVER_2);
    }
    uint64_t wide = crc;
    for (; n >= 8; p += 8, n -= 8) {
        wide = _mm_crc32_u64(wide, get_u64(p));
    }
    crc = (uint32_t)wide;
    while (n-- > 0) {
        crc = _mm_crc32_u8(crc, *p++);
    }
    return crc;
}
#endif

uint32_t crc32c(uint32_t crc, const void *data, size_t n)
{
#ifdef __x86_64__
    if (__builtin_cpu_supports("sse4.2") && __builtin_cpu_supports("pclmul")) {
        return ~crc_by_instruction(~crc, data, n);
    }
#endif
    return crc32c_portable(crc, data, n);
}

uint32_t crc32c_portable(uint32_t crc, const void *data, size_t n)
{
    return ~crc_by_table(~crc, data, n);
}

/* x^(8 * 2^k) modulo the polynomial, bits reflected: what moves a CRC over 2^k bytes. */
static const uint32_t over[32] = {
    0x00800000, 0x00008000, 0x82f63b78, 0x6ea2d55c, 0x18b8ea18, 0x510ac59a, 0xb82be955, 0xb8fdb1e7,
    0x88e56f72, 0x74c360a4, 0xe4172b16, 0x0d65762a, 0x35d73a62, 0x28461564, 0xbf455269, 0xe2ea32dc,
    0xfe7740e6, 0xf946610b, 0x3c204f8f, 0x538586e3, 0x59726915, 0x734d5309, 0xbc1ac763, 0x7d0722cc,
    0xd289cabe, 0xe94ca9bc, 0x05b74f3f, 0xa51e1f42, 0x40000000, 0x20000000, 0x08000000, 0x00800000,
};

static uint32_t times(uint32_t a, uint32_t b)
{
    uint32_t product = 0;
    for (; a != 0; a <<= 1) {
        product ^= b & -(a >> 31);
        b = b >> 1 ^ (0x82f63b78 & -(b & 1));
    }
    return product;
}

uint32_t crc32c_join(uint32_t a, uint32_t b, uint64_t b_len)
{
    sluice_assert(b_len >> ARRAY_LEN(over) == 0);
    for (unsigned k = 0; b_len != 0; k++, b_len >>= 1) {
        if ((b_len & 1) != 0) {
            a = times(over[k], a);
        }
    }
    return a ^ b;
}
