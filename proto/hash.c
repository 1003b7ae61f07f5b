/* Hash keys: 128-bit integers, kept as 16 big-endian bytes. */
#include "proto/base.h"
#include "proto/batch.h"
#include "proto/md5.h"

typedef unsigned __int128 u128;
#define U128_MAX (~(u128)0)

static u128 hash_to_u128(const struct hash128 *h)
{
    u128 v = 0;
    for (size_t i = 0; i < sizeof(h->b); i++) {
        v = v << 8 | h->b[i];
    }
    return v;
}

static void hash_from_u128(u128 v, struct hash128 *h)
{
    for (size_t i = sizeof(h->b); i-- > 0; v >>= 8) {
        h->b[i] = (uint8_t)v;
    }
}

void hash_key_of(const void *key, size_t n, struct hash128 *out) { md5(key, n, out->b); }

/* The i-th half as a number. */
static inline uint64_t half(const struct hash128 *h, size_t i) { return __builtin_bswap64(get_u64(h->b + 8 * i)); }

int hash_compare(const struct hash128 *a, const struct hash128 *b)
{
    uint64_t x = half(a, 0);
    uint64_t y = half(b, 0);
    if (x == y) {
        x = half(a, 1);
        y = half(b, 1);
    }
    return (x > y) - (x < y);
}

void hash_keys_of(const struct batch_record *records, size_t n, struct hash128 *out)
{
    sluice_assert(n <= HASH_KEYS_MAX);
    const void *keys[4];
    size_t lens[4];
    uint8_t *to[4];
    size_t waiting = 0;
    for (size_t i = 0; i < n; i++) {
        if (records[i].has_hash) {
            out[i] = records[i].hash;
        } else if (records[i].key_len > MD5_SHORT) {
            hash_key_of(records[i].key, records[i].key_len, &out[i]);
        } else {
            keys[waiting] = records[i].key;
            lens[waiting] = records[i].key_len;
            to[waiting++] = out[i].b;
        }
    }
    if (waiting == 1) {
        md5(keys[0], lens[0], to[0]);
    } else if (waiting > 1) {
        for (size_t i = waiting; i < 4; i++) { /* lanes that would be idle do the first key's work again */
            keys[i] = keys[0];
            lens[i] = lens[0];
            to[i] = to[0];
        }
        md5_four(keys, lens, to);
    }
}

void hash_to_decimal(const struct hash128 *h, char text[40])
{
    u128 v = hash_to_u128(h);
    char digits[40];
    size_t n = 0;
    do {
        digits[n++] = (char)('0' + (int)(v % 10));
        v /= 10;
    } while (v > 0);
    for (size_t i = 0; i < n; i++) {
        text[i] = digits[n - 1 - i];
    }
    text[n] = '\0';
}

bool hash_from_decimal(const char *text, struct hash128 *out)
{
    if (text[0] == '\0' || (text[0] == '0' && text[1] != '\0')) {
        return false;
    }
    u128 v = 0;
    for (; *text != '\0'; text++) {
        if (*text < '0' || *text > '9') {
            return false;
        }
        unsigned digit = (unsigned)(*text - '0');
        if (v > (U128_MAX - digit) / 10) {
            return false;
        }
        v = v * 10 + digit;
    }
    hash_from_u128(v, out);
    return true;
}

void hash_range(uint32_t i, uint32_t n, struct hash128 *first, struct hash128 *last)
{
    sluice_assert(n > 0);
    sluice_assert(i < n);
    /* 2^128 itself does not fit: divide 2^128 - 1 and add the one that a remainder of n - 1 hides. With n = 1 the width
     * wraps to 0, which the single range never uses. */
    u128 width = U128_MAX / n + (U128_MAX % n == n - 1 ? 1 : 0);
    hash_from_u128(width * i, first);
    hash_from_u128(i == n - 1 ? U128_MAX : width * (i + 1) - 1, last);
}

uint32_t hash_range_of(const struct hash128 *h, uint32_t n)
{
    sluice_assert(n > 0);
    u128 width = U128_MAX / n + (U128_MAX % n == n - 1 ? 1 : 0);
    if (n == 1) {
        return 0;
    }
    u128 i = hash_to_u128(h) / width;
    return i < n ? (uint32_t)i : n - 1; /* what the division left over belongs to the last one */
}

void hash_before(const struct hash128 *h, struct hash128 *out)
{
    u128 v = hash_to_u128(h);
    sluice_assert(v > 0);
    hash_from_u128(v - 1, out);
}

bool hash_follows(const struct hash128 *a, const struct hash128 *b)
{
    u128 v = hash_to_u128(b);
    return v > 0 && hash_to_u128(a) == v - 1;
}

void hash_middle(const struct hash128 *first, const struct hash128 *last, struct hash128 *out)
{
    u128 a = hash_to_u128(first);
    u128 b = hash_to_u128(last);
    sluice_assert(a <= b);
    hash_from_u128(a + (b - a) / 2 + (a < b), out);
}
