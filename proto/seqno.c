#include "proto/seqno.h"

#include "proto/base.h"

/* 192 bits as three words, the lowest first. From the lowest bit up: 2 (4 bits) | shard (32) | time (36) | 00 (8) |
 * offset (64, below 2^63) | shard & 0xf (4) | created (36) | 2 (4). */
struct wide {
    uint64_t word[3];
};

enum { POS_SHARD = 4, POS_TIME = 36, POS_ZERO = 72, POS_OFFSET = 80, POS_NIBBLE = 144, POS_CREATED = 148, POS_VERSION = 184 };
enum { BITS_36 = 36, DIGITS_MAX = 56 };
#define SECONDS_LIMIT (1ULL << BITS_36)
#define LAYOUT_VERSION 2
#define CHUNK_DIGITS 19
#define CHUNK 10000000000000000000ULL /* 10^19, the largest power of ten in a word */

static void put_bits(struct wide *w, unsigned pos, uint64_t value)
{
    unsigned word = pos / 64;
    unsigned shift = pos % 64;
    w->word[word] |= value << shift;
    if (shift > 0 && word < 2) {
        w->word[word + 1] |= value >> (64 - shift);
    }
}

static uint64_t get_bits(const struct wide *w, unsigned pos, unsigned bits)
{
    unsigned word = pos / 64;
    unsigned shift = pos % 64;
    uint64_t value = w->word[word] >> shift;
    if (shift > 0 && word < 2) {
        value |= w->word[word + 1] << (64 - shift);
    }
    return bits == 64 ? value : value & ((1ULL << bits) - 1);
}

void seqno_format(const struct seqno *s, char text[SEQNO_TEXT_MAX])
{
    sluice_assert(s->shard_created_s < SECONDS_LIMIT);
    sluice_assert(s->time_s < SECONDS_LIMIT);
    sluice_assert(s->offset <= SEQNO_OFFSET_MAX);
    struct wide w = {{0}};
    put_bits(&w, 0, LAYOUT_VERSION);
    put_bits(&w, POS_SHARD, s->shard);
    put_bits(&w, POS_TIME, s->time_s);
    put_bits(&w, POS_OFFSET, s->offset);
    put_bits(&w, POS_NIBBLE, s->shard & 0xf);
    put_bits(&w, POS_CREATED, s->shard_created_s);
    put_bits(&w, POS_VERSION, LAYOUT_VERSION);

    /* Nineteen digits per division. The number lies between 2^185 and 3 * 2^184: it always has 56 digits. */
    uint64_t chunk[3];
    for (int i = 0; i < 3; i++) {
        uint64_t rest = 0;
        for (int k = 2; k >= 0; k--) {
            unsigned __int128 value = (unsigned __int128)rest << 64 | w.word[k];
            w.word[k] = (uint64_t)(value / CHUNK);
            rest = (uint64_t)(value % CHUNK);
        }
        chunk[i] = rest;
    }
    char digits[3 * CHUNK_DIGITS];
    for (int i = 0; i < 3; i++) {
        for (int k = 0; k < CHUNK_DIGITS; k++) {
            digits[3 * CHUNK_DIGITS - 1 - i * CHUNK_DIGITS - k] = (char)('0' + chunk[i] % 10);
            chunk[i] /= 10;
        }
    }
    size_t skip = 0;
    while (digits[skip] == '0') {
        skip++;
    }
    memcpy(text, digits + skip, sizeof(digits) - skip);
    text[sizeof(digits) - skip] = '\0';
}

/* False if not a decimal integer below 2^192, or with a needless zero in front. */
static bool wide_from_decimal(const char *text, struct wide *w)
{
    size_t n = strnlen(text, DIGITS_MAX + 1);
    if (n == 0 || n > DIGITS_MAX || (text[0] == '0' && n > 1)) {
        return false;
    }
    *w = (struct wide){{0}};
    for (size_t i = 0; i < n; i++) {
        if (text[i] < '0' || text[i] > '9') {
            return false;
        }
        unsigned __int128 carry = (unsigned)(text[i] - '0');
        for (int k = 0; k < 3; k++) {
            carry += (unsigned __int128)w->word[k] * 10;
            w->word[k] = (uint64_t)carry;
            carry >>= 64;
        }
        if (carry != 0) {
            return false;
        }
    }
    return true;
}

bool seqno_parse(const char *text, struct seqno *out)
{
    struct wide w;
    if (!wide_from_decimal(text, &w)) {
        return false;
    }
    struct seqno s = {
        .shard_created_s = get_bits(&w, POS_CREATED, BITS_36),
        .shard = (uint32_t)get_bits(&w, POS_SHARD, 32),
        .offset = get_bits(&w, POS_OFFSET, 64),
        .time_s = get_bits(&w, POS_TIME, BITS_36),
    };
    if (get_bits(&w, POS_VERSION, 8) != LAYOUT_VERSION || get_bits(&w, 0, 4) != LAYOUT_VERSION ||
        get_bits(&w, POS_ZERO, 8) != 0 || get_bits(&w, POS_NIBBLE, 4) != (s.shard & 0xf) || s.offset > SEQNO_OFFSET_MAX) {
        return false;
    }
    *out = s;
    return true;
}

int seqno_compare_text(const char *a, const char *b)
{
    a += strspn(a, "0");
    b += strspn(b, "0");
    size_t na = strlen(a);
    size_t nb = strlen(b);
    if (na != nb) {
        return na < nb ? -1 : 1;
    }
    int order = strcmp(a, b);
    return (order > 0) - (order < 0);
}
