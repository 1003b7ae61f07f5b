/* cursor.h: reading and writing little-endian fields one after another. A reader remembers its first error: read all fields, check once. */
#ifndef SLUICE_CURSOR_H
#define SLUICE_CURSOR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include "proto/base.h"

struct cursor { const uint8_t *p; size_t left; bool bad; };

static inline const void *cursor_take(struct cursor *c, size_t n)
{
    if (c->bad || c->left < n) {
        c->bad = true;
        return NULL;
    }
    const void *p = c->p;
    c->p += n;
    c->left -= n;
    return p;
}
static inline uint8_t cursor_u8(struct cursor *c) { const uint8_t *p = cursor_take(c, 1); return p == NULL ? 0 : *p; }
static inline uint16_t cursor_u16(struct cursor *c) { const void *p = cursor_take(c, 2); return p == NULL ? 0 : get_u16(p); }
static inline uint32_t cursor_u32(struct cursor *c) { const void *p = cursor_take(c, 4); return p == NULL ? 0 : get_u32(p); }
static inline uint64_t cursor_u64(struct cursor *c) { const void *p = cursor_take(c, 8); return p == NULL ? 0 : get_u64(p); }
static inline void cursor_bytes(struct cursor *c, void *out, size_t n)
{
    const void *p = cursor_take(c, n);
    if (p != NULL) {
        memcpy(out, p, n);
    } else {
        memset(out, 0, n);
    }
}
/* A flag: 0 or 1, anything else is an error. */
static inline bool cursor_bool(struct cursor *c) { uint8_t v = cursor_u8(c); c->bad |= v > 1; return v == 1; }
/* u8 length and text without NUL bytes; out has room for `size` bytes including the NUL. */
static inline void cursor_text(struct cursor *c, char *out, size_t size)
{
    size_t n = cursor_u8(c);
    const char *p = n < size ? cursor_take(c, n) : NULL;
    if (p == NULL || memchr(p, 0, n) != NULL) {
        c->bad = true;
        n = 0;
    } else {
        memcpy(out, p, n);
    }
    memset(out + n, 0, size - n);
}

struct out_buffer { uint8_t *data; size_t len, cap; };

static inline void *out_room(struct out_buffer *o, size_t n)
{
    if (o->len + n > o->cap) {
        o->cap = (o->len + n) * 2 + 64;
        o->data = xrealloc(o->data, o->cap);
    }
    o->len += n;
    return o->data + o->len - n;
}
static inline void out_u8(struct out_buffer *o, uint8_t v) { *(uint8_t *)out_room(o, 1) = v; }
static inline void out_u16(struct out_buffer *o, uint16_t v) { put_u16(out_room(o, 2), v); }
static inline void out_u32(struct out_buffer *o, uint32_t v) { put_u32(out_room(o, 4), v); }
static inline void out_u64(struct out_buffer *o, uint64_t v) { put_u64(out_room(o, 8), v); }
static inline void out_bytes(struct out_buffer *o, const void *p, size_t n) { memcpy(out_room(o, n), p, n); }
static inline void out_text(struct out_buffer *o, const char *s)
{
    size_t n = strlen(s);
    sluice_assert(n < 256);
    out_u8(o, (uint8_t)n);
    out_bytes(o, s, n);
}

#endif
