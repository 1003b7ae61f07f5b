/* seqno.h: sequence numbers as users see them: the decimal of a 186-bit integer (Kinesis's layout, version 2).
 *
 * Hexadecimal digits, from the top: 2 | shard create seconds (9) | shard & 0xf (1) | offset (16, below 2^63) | 00 | time seconds (9) |
 * shard number (8) | 2. Strictly rising within a shard by offset; a child is above its parents because its create seconds are.
 * Nothing of it is stored but the shard's create seconds, the offset and the batch's time. */
#ifndef SLUICE_SEQNO_H
#define SLUICE_SEQNO_H

#include <stdbool.h>
#include <stdint.h>

enum { SEQNO_TEXT_MAX = 64 };

struct seqno {
    uint64_t shard_created_s; /* below 2^36 */
    uint32_t shard;
    uint64_t offset;          /* below 2^63 */
    uint64_t time_s;          /* below 2^36 */
};
#define SEQNO_OFFSET_MAX 0x7fffffffffffffffULL

/* Decimal text without leading zeros, NUL-terminated. */
void seqno_format(const struct seqno *s, char text[SEQNO_TEXT_MAX]);
/* False if the text is not a decimal of that layout. */
bool seqno_parse(const char *text, struct seqno *out);
/* Compares two decimal texts as integers: <0, 0, >0. */
int seqno_compare_text(const char *a, const char *b);

#endif
