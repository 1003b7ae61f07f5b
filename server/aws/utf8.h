/* utf8.h: UTF-8, strictly: no overlong forms, no surrogates, nothing beyond U+10FFFF. */
#ifndef SLUICE_UTF8_H
#define SLUICE_UTF8_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

bool utf8_valid(const char *p, size_t n);
/* Code points of valid text. */
size_t utf8_length(const char *p, size_t n);
/* Writes one code point (below 0x110000, no surrogate); returns the bytes, 1..4. */
size_t utf8_put(char out[4], uint32_t code);

#endif
