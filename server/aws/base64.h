/* base64.h: base64 with the usual alphabet and padding, fast: record payloads go through it in JSON requests and answers. */
#ifndef SLUICE_BASE64_H
#define SLUICE_BASE64_H

#include <stddef.h>
#include <stdint.h>

/* Characters for n bytes, with padding. */
static inline size_t base64_encoded_size(size_t n) { return (n + 2) / 3 * 4; }

/* Writes base64_encoded_size(n) characters, no end mark. `out` and `in` do not overlap. */
void base64_encode(char *out, const void *in, size_t n);

enum base64_error { BASE64_OK, BASE64_LENGTH, BASE64_CHARACTER, BASE64_LAST };

/* Decodes all n characters: a multiple of four, padding only at the end, unused bits of the last character zero. `out` has room for n bytes and may be
 * the same memory as `in`. *out_n: bytes written. BASE64_CHARACTER: *bad_at is the position of the character that is none. */
enum base64_error base64_decode(uint8_t *out, const char *in, size_t n, size_t *out_n, size_t *bad_at);

/* Decodes whole groups of four characters as long as none of them is outside the alphabet (padding is outside too). Returns the characters taken, a
 * multiple of 4; three bytes are written for each four. `out` may be the same memory as `in` or lie before it; up to n bytes of it are written over. */
size_t base64_decode_run(uint8_t *out, const char *in, size_t n);

#endif
