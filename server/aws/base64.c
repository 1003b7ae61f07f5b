/* base64.c: base64, 32 characters at a time where the processor has AVX2.
 *
 * Encoding spreads each 3 bytes over 4 places of 6 bits by shuffles and multiplications, and adds to each place what its range of the alphabet is away from
 * its value. Decoding looks both halves of each character up in two tables whose common bits tell bad characters, and packs 6 bits each together. */
#include "server/aws/base64.h"

#include <immintrin.h>
#include <stdbool.h>
#include <string.h>

static const char alphabet[64] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/* ---- AVX2 --------------------------------------------------------------------------------------------------------- */

/* Encodes as long as 28 bytes can be read from `in`, 24 of them are used each time. Returns the bytes taken. */
__attribute__((target("avx2"))) static size_t encode_avx2(char *out, const uint8_t *in, size_t n)
{
    const __m256i spread = _mm256_setr_epi8(1, 0, 2, 1, 4, 3, 5, 4, 7, 6, 8, 7, 10, 9, 11, 10, 1, 0, 2, 1, 4, 3, 5, 4, 7, 6, 8, 7, 10, 9, 11, 10);
    /* By range of the alphabet: 0: a-z, 1..10: 0-9, 11: +, 12: /, 13: A-Z. */
    const __m256i away = _mm256_setr_epi8(71, -4, -4, -4, -4, -4, -4, -4, -4, -4, -4, -19, -16, 65, 0, 0, 71, -4, -4, -4, -4, -4, -4, -4, -4, -4, -4, -19,
                                          -16, 65, 0, 0);
    size_t i = 0;
    for (; n - i >= 28; i += 24, out += 32) {
        __m128i low = _mm_loadu_si128((const __m128i *)(in + i));
        __m128i high = _mm_loadu_si128((const __m128i *)(in + i + 12));
        __m256i v = _mm256_shuffle_epi8(_mm256_set_m128i(high, low), spread);
        __m256i ac = _mm256_mulhi_epu16(_mm256_and_si256(v, _mm256_set1_epi32(0x0fc0fc00)), _mm256_set1_epi32(0x04000040));
        __m256i bd = _mm256_mullo_epi16(_mm256_and_si256(v, _mm256_set1_epi32(0x003f03f0)), _mm256_set1_epi32(0x01000010));
        __m256i places = _mm256_or_si256(ac, bd);
        __m256i range = _mm256_subs_epu8(places, _mm256_set1_epi8(51));
        __m256i capital = _mm256_cmpgt_epi8(_mm256_set1_epi8(26), places);
        range = _mm256_or_si256(range, _mm256_and_si256(capital, _mm256_set1_epi8(13)));
        _mm256_storeu_si256((__m256i *)out, _mm256_add_epi8(places, _mm256_shuffle_epi8(away, range)));
    }
    return i;
}

/* Decodes 32 characters at a time, as long as all are of the alphabet. Each store writes 32 bytes, of which 24 count: within what was read already. */
__attribute__((target("avx2"))) static size_t decode_avx2(uint8_t *out, const char *in, size_t n)
{
    const __m256i by_high = _mm256_setr_epi8(0x10, 0x10, 0x01, 0x02, 0x04, 0x08, 0x04, 0x08, 0x10, 0x10, 0x10, 0x10, 0x10, 0x10, 0x10, 0x10, 0x10, 0x10,
                                             0x01, 0x02, 0x04, 0x08, 0x04, 0x08, 0x10, 0x10, 0x10, 0x10, 0x10, 0x10, 0x10, 0x10);
    const __m256i by_low = _mm256_setr_epi8(0x15, 0x11, 0x11, 0x11, 0x11, 0x11, 0x11, 0x11, 0x11, 0x11, 0x13, 0x1a, 0x1b, 0x1b, 0x1b, 0x1a, 0x15, 0x11,
                                            0x11, 0x11, 0x11, 0x11, 0x11, 0x11, 0x11, 0x11, 0x13, 0x1a, 0x1b, 0x1b, 0x1b, 0x1a);
    const __m256i away = _mm256_setr_epi8(0, 16, 19, 4, -65, -65, -71, -71, 0, 0, 0, 0, 0, 0, 0, 0, 0, 16, 19, 4, -65, -65, -71, -71, 0, 0, 0, 0, 0, 0, 0, 0);
    const __m256i pack = _mm256_setr_epi8(2, 1, 0, 6, 5, 4, 10, 9, 8, 14, 13, 12, -1, -1, -1, -1, 2, 1, 0, 6, 5, 4, 10, 9, 8, 14, 13, 12, -1, -1, -1, -1);
    const __m256i slash = _mm256_set1_epi8(0x2f);
    size_t i = 0;
    for (; n - i >= 32; i += 32, out += 24) {
        __m256i v = _mm256_loadu_si256((const __m256i *)(in + i));
        __m256i high = _mm256_and_si256(_mm256_srli_epi32(v, 4), slash);
        __m256i low = _mm256_and_si256(v, slash);
        if (!_mm256_testz_si256(_mm256_shuffle_epi8(by_low, low), _mm256_shuffle_epi8(by_high, high))) {
            break;
        }
        __m256i range = _mm256_add_epi8(_mm256_cmpeq_epi8(v, slash), high);
        v = _mm256_add_epi8(v, _mm256_shuffle_epi8(away, range));
        v = _mm256_madd_epi16(_mm256_maddubs_epi16(v, _mm256_set1_epi32(0x01400140)), _mm256_set1_epi32(0x00011000));
        v = _mm256_permutevar8x32_epi32(_mm256_shuffle_epi8(v, pack), _mm256_setr_epi32(0, 1, 2, 4, 5, 6, -1, -1));
        _mm256_storeu_si256((__m256i *)out, v);
    }
    return i;
}

/* ---- encoding ------------------------------------------------------------------------------------------------------ */

void base64_encode(char *out, const void *in, size_t n)
{
    const uint8_t *p = in;
    if (n >= 32 && __builtin_cpu_supports("avx2")) {
        size_t taken = encode_avx2(out, p, n);
        p += taken;
        n -= taken;
        out += taken / 3 * 4;
    }
    for (; n >= 3; n -= 3, p += 3, out += 4) {
        uint32_t v = (uint32_t)p[0] << 16 | (uint32_t)p[1] << 8 | p[2];
        out[0] = alphabet[v >> 18];
        out[1] = alphabet[v >> 12 & 63];
        out[2] = alphabet[v >> 6 & 63];
        out[3] = alphabet[v & 63];
    }
    if (n > 0) {
        uint32_t v = (uint32_t)p[0] << 16 | (n == 2 ? (uint32_t)p[1] << 8 : 0);
        out[0] = alphabet[v >> 18];
        out[1] = alphabet[v >> 12 & 63];
        out[2] = n == 2 ? alphabet[v >> 6 & 63] : '=';
        out[3] = '=';
    }
}

/* ---- decoding ------------------------------------------------------------------------------------------------------ */

/* The value of a character, or 64 and more. */
static inline uint32_t value_of(char character)
{
    unsigned char c = (unsigned char)character;
    if (c >= 'a' && c <= 'z') {
        return c - 'a' + 26u;
    }
    if (c >= 'A' && c <= 'Z') {
        return c - 'A' + 0u;
    }
    if (c >= '0' && c <= '9') {
        return c - '0' + 52u;
    }
    return c == '+' ? 62 : c == '/' ? 63 : 64;
}

size_t base64_decode_run(uint8_t *out, const char *in, size_t n)
{
    size_t i = 0;
    if (n >= 32 && __builtin_cpu_supports("avx2")) {
        i = decode_avx2(out, in, n);
        out += i / 4 * 3;
    }
    for (; n - i >= 4; i += 4, out += 3) {
        uint32_t a = value_of(in[i]), b = value_of(in[i + 1]), c = value_of(in[i + 2]), d = value_of(in[i + 3]);
        if ((a | b | c | d) >= 64) {
            break;
        }
        uint32_t v = a << 18 | b << 12 | c << 6 | d;
        out[0] = (uint8_t)(v >> 16);
        out[1] = (uint8_t)(v >> 8);
        out[2] = (uint8_t)v;
    }
    return i;
}

enum base64_error base64_decode(uint8_t *out, const char *in, size_t n, size_t *out_n, size_t *bad_at)
{
    size_t taken = base64_decode_run(out, in, n);
    *out_n = taken / 4 * 3;
    *bad_at = taken;
    if (n % 4 != 0) {
        return BASE64_LENGTH;
    }
    if (taken == n) {
        return BASE64_OK;
    }
    /* The last group with its padding, or a bad character somewhere. */
    const char *g = in + taken;
    if (taken + 4 < n || value_of(g[0]) >= 64 || value_of(g[1]) >= 64 || g[3] != '=' || (value_of(g[2]) >= 64 && g[2] != '=')) {
        while (*bad_at < n - 1 && value_of(in[*bad_at]) < 64) {
            (*bad_at)++;
        }
        return BASE64_CHARACTER;
    }
    bool two = g[2] != '=';
    uint32_t v = value_of(g[0]) << 18 | value_of(g[1]) << 12 | (two ? value_of(g[2]) << 6 : 0);
    if ((v & (two ? 0xff : 0xffff)) != 0) {
        return BASE64_LAST;
    }
    out += *out_n;
    out[0] = (uint8_t)(v >> 16);
    if (two) {
        out[1] = (uint8_t)(v >> 8);
    }
    *out_n += two ? 2 : 1;
    return BASE64_OK;
}
