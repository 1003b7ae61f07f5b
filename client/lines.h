/* lines.h: cuts a byte stream that comes in blocks into lines. A line ends at \n, which is not part of it; the last one may lack it; empty
 * lines count; CR is data. Lines that lie whole in a block are not copied. */
#ifndef SLUICE_LINES_H
#define SLUICE_LINES_H

#include <stdbool.h>
#include <stddef.h>

struct lines {
    const char *p, *end;   /* what is left of the present block */
    char *carry;           /* the beginning of a line whose end has not come yet */
    size_t carry_len, carry_cap, line_max;
    bool carry_used;       /* the last line given out lies in carry */
};
/* line_max: longest line in bytes. */
void lines_init(struct lines *l, size_t line_max);
void lines_deinit(struct lines *l);
/* The next block; the one before must be used up (lines_next() gave 0). It stays the caller's and must stay valid until it is used up. */
void lines_feed(struct lines *l, const char *data, size_t n);
/* 1: *line is the next, valid until the next call; 0: the block is used up; -1: the line is longer than line_max. */
int lines_next(struct lines *l, const char **line, size_t *len);
/* After the last block: 1 if a last line without \n is left, else 0. */
int lines_last(struct lines *l, const char **line, size_t *len);

#endif
