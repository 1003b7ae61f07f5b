/* MD5 (RFC 1321) in one call. Partition keys are short and there are millions a second: a library call that looks up
 * an algorithm and allocates a context for each costs several times the hash itself. Each step of MD5 waits for the one before, so
 * one text leaves a processor mostly idle; four in the lanes of a vector take hardly longer. Not for security. */
#include "proto/md5.h"

#include "proto/base.h"

/* A word of four texts, a lane each. */
typedef uint32_t words __attribute__((vector_size(16)));

#define ROTATE(v, n) ((v) << (n) | (v) >> (32 - (n)))
/* The four round functions, in forms with short dependency chains: g's halves never share a bit, so + serves as |. */
#define F(b, c, d) ((d) ^ ((b) & ((c) ^ (d))))
#define G(b, c, d) (((d) & (b)) + (~(d) & (c)))
#define H(b, c, d) ((b) ^ (c) ^ (d))
#define I(b, c, d) ((c) ^ ((b) | ~(d)))
#define STEP(f, a, b, c, d, k, s, t) (a) += f(b, c, d) + x[k] + (t); (a) = (b) + ROTATE(a, s)
#define FOUR(f, k0, k1, k2, k3, s0, s1, s2, s3, t0, t1, t2, t3) \
    STEP(f, a, b, c, d, k0, s0, t0); \
    STEP(f, d, a, b, c, k1, s1, t1); \
    STEP(f, c, d, a, b, k2, s2, t2); \
    STEP(f, b, c, d, a, k3, s3, t3)

/* All 64 steps on a, b, c, d and x, be they words of one text or of four. */
#define ROUNDS \
    FOUR(F, 0, 1, 2, 3, 7, 12, 17, 22, 0xd76aa478, 0xe8c7b756, 0x242070db, 0xc1bdceee); \
    FOUR(F, 4, 5, 6, 7, 7, 12, 17, 22, 0xf57c0faf, 0x4787c62a, 0xa8304613, 0xfd469501); \
    FOUR(F, 8, 9, 10, 11, 7, 12, 17, 22, 0x698098d8, 0x8b44f7af, 0xffff5bb1, 0x895cd7be); \
    FOUR(F, 12, 13, 14, 15, 7, 12, 17, 22, 0x6b901122, 0xfd987193, 0xa679438e, 0x49b40821); \
    FOUR(G, 1, 6, 11, 0, 5, 9, 14, 20, 0xf61e2562, 0xc040b340, 0x265e5a51, 0xe9b6c7aa); \
    FOUR(G, 5, 10, 15, 4, 5, 9, 14, 20, 0xd62f105d, 0x02441453, 0xd8a1e681, 0xe7d3fbc8); \
    FOUR(G, 9, 14, 3, 8, 5, 9, 14, 20, 0x21e1cde6, 0xc33707d6, 0xf4d50d87, 0x455a14ed); \
    FOUR(G, 13, 2, 7, 12, 5, 9, 14, 20, 0xa9e3e905, 0xfcefa3f8, 0x676f02d9, 0x8d2a4c8a); \
    FOUR(H, 5, 8, 11, 14, 4, 11, 16, 23, 0xfffa3942, 0x8771f681, 0x6d9d6122, 0xfde5380c); \
    FOUR(H, 1, 4, 7, 10, 4, 11, 16, 23, 0xa4beea44, 0x4bdecfa9, 0xf6bb4b60, 0xbebfbc70); \
    FOUR(H, 13, 0, 3, 6, 4, 11, 16, 23, 0x289b7ec6, 0xeaa127fa, 0xd4ef3085, 0x04881d05); \
    FOUR(H, 9, 12, 15, 2, 4, 11, 16, 23, 0xd9d4d039, 0xe6db99e5, 0x1fa27cf8, 0xc4ac5665); \
    FOUR(I, 0, 7, 14, 5, 6, 10, 15, 21, 0xf4292244, 0x432aff97, 0xab9423a7, 0xfc93a039); \
    FOUR(I, 12, 3, 10, 1, 6, 10, 15, 21, 0x655b59c3, 0x8f0ccc92, 0xffeff47d, 0x85845dd1); \
    FOUR(I, 8, 15, 6, 13, 6, 10, 15, 21, 0x6fa87e4f, 0xfe2ce6e0, 0xa3014314, 0x4e0811a1); \
    FOUR(I, 4, 11, 2, 9, 6, 10, 15, 21, 0xf7537e82, 0xbd3af235, 0x2ad7d2bb, 0xeb86d391)

static void md5_block(uint32_t state[4], const uint8_t block[64])
{
    uint32_t x[16];
    memcpy(x, block, 64);
    uint32_t a = state[0];
    uint32_t b = state[1];
    uint32_t c = state[2];
    uint32_t d = state[3];
    ROUNDS;
    state[0] += a;
    state[1] += b;
    state[2] += c;
    state[3] += d;
}

void md5(const void *data, size_t n, uint8_t out[16])
{
    uint32_t state[4] = {0x67452301, 0xefcdab89, 0x98badcfe, 0x10325476};
    const uint8_t *p = data;
    size_t left = n;
    for (; left >= 64; p += 64, left -= 64) {
        md5_block(state, p);
    }
    uint8_t tail[128];
    size_t size = left <= MD5_SHORT ? 64 : 128;
    memset(tail, 0, size);
    if (left > 0) {
        memcpy(tail, p, left);
    }
    tail[left] = 0x80;
    put_u64(tail + size - 8, (uint64_t)n * 8);
    md5_block(state, tail);
    if (size == 128) {
        md5_block(state, tail + 64);
    }
    memcpy(out, state, 16);
}

void md5_four(const void *const data[4], const size_t n[4], uint8_t *const out[4])
{
    uint32_t block[4][16] = {{0}};
    for (unsigned i = 0; i < 4; i++) {
        uint8_t *p = (uint8_t *)block[i];
        sluice_assert(n[i] <= MD5_SHORT);
        if (n[i] > 0) {
            memcpy(p, data[i], n[i]);
        }
        p[n[i]] = 0x80;
        put_u64(p + 56, (uint64_t)n[i] * 8);
    }
    words x[16];
    for (unsigned k = 0; k < 16; k++) {
        x[k] = (words){block[0][k], block[1][k], block[2][k], block[3][k]};
    }
    const words none = {0};
    words a = none + 0x67452301;
    words b = none + 0xefcdab89;
    words c = none + 0x98badcfe;
    words d = none + 0x10325476;
    ROUNDS;
    a += 0x67452301;
    b += 0xefcdab89;
    c += 0x98badcfe;
    d += 0x10325476;
    for (unsigned i = 0; i < 4; i++) {
        uint32_t state[4] = {a[i], b[i], c[i], d[i]};
        memcpy(out[i], state, sizeof(state));
    }
}
