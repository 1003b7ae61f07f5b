/* aws_writer.c: answers, in JSON or CBOR. */
#include "server/aws/aws_writer.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "proto/base.h"
#include "server/aws/utf8.h"

struct aws_writer_block {
    struct aws_writer_block *next;
    char bytes[AWS_WRITER_BLOCK];
};

void aws_block_pool_init(struct aws_block_pool *pool, unsigned max) { *pool = (struct aws_block_pool){.max = max}; }

void aws_block_pool_deinit(struct aws_block_pool *pool)
{
    while (pool->free != NULL) {
        struct aws_writer_block *b = pool->free;
        pool->free = b->next;
        free(b);
    }
    aws_block_pool_init(pool, pool->max);
}

static struct aws_writer_block *block_take(struct aws_block_pool *pool)
{
    if (pool == NULL || pool->free == NULL) {
        return malloc(sizeof(struct aws_writer_block));
    }
    struct aws_writer_block *b = pool->free;
    pool->free = b->next;
    pool->n--;
    return b;
}

static void block_give(struct aws_block_pool *pool, struct aws_writer_block *b)
{
    if (pool == NULL || pool->n == pool->max) {
        free(b);
        return;
    }
    b->next = pool->free;
    pool->free = b;
    pool->n++;
}

void aws_writer_init(struct aws_writer *w, enum aws_format format, size_t limit, struct aws_block_pool *pool)
{
    *w = (struct aws_writer){.format = format, .limit = limit, .pool = pool};
}

void aws_writer_deinit(struct aws_writer *w)
{
    while (w->blocks != NULL) {
        struct aws_writer_block *b = w->blocks;
        w->blocks = b->next;
        block_give(w->pool, b);
    }
    free(w->iov);
    aws_writer_init(w, w->format, w->limit, w->pool);
}

/* ---- bytes ---------------------------------------------------------------------------------------------------------- */

static void piece_add(struct aws_writer *w, const void *p, size_t n)
{
    if (n == 0 || w->failed) {
        return;
    }
    if (w->n_iov == w->iov_room) {
        unsigned room = w->iov_room == 0 ? 8 : 2 * w->iov_room;
        struct iovec *iov = realloc(w->iov, room * sizeof(*iov));
        if (iov == NULL) {
            w->failed = true;
            return;
        }
        w->iov = iov;
        w->iov_room = room;
    }
    if (w->limit - w->bytes < n) {
        w->failed = true;
        return;
    }
    w->bytes += n;
    w->iov[w->n_iov++] = (struct iovec){(void *)(uintptr_t)p, n};
}

/* The present piece is complete. */
static void piece_end(struct aws_writer *w)
{
    piece_add(w, w->from, (size_t)(w->at - w->from));
    w->from = w->at;
}

/* A new block; false: failed. */
static bool block_add(struct aws_writer *w)
{
    piece_end(w);
    struct aws_writer_block *b = w->failed ? NULL : block_take(w->pool);
    if (b == NULL) {
        w->failed = true;
        return false;
    }
    b->next = w->blocks;
    w->blocks = b;
    w->from = w->at = b->bytes;
    w->end = b->bytes + sizeof(b->bytes);
    return true;
}

static void put(struct aws_writer *w, const void *p, size_t n)
{
    const char *from = p;
    while (n > 0 && (w->at < w->end || block_add(w))) {
        size_t take = min_u64(n, (size_t)(w->end - w->at));
        memcpy(w->at, from, take);
        w->at += take;
        from += take;
        n -= take;
        if (w->failed) {
            return;
        }
    }
}

static void put_byte(struct aws_writer *w, uint8_t c) { put(w, &c, 1); }

/* A CBOR head: major type and argument, in as few bytes as it takes; big-endian, as CBOR has it. */
static void put_head(struct aws_writer *w, unsigned major, uint64_t v)
{
    uint8_t head[9];
    unsigned bytes = v < 24 ? 0 : v < 0x100 ? 1 : v < 0x10000 ? 2 : v < 0x100000000ULL ? 4 : 8;
    head[0] = (uint8_t)(major << 5 | (bytes == 0 ? (unsigned)v : bytes == 1 ? 24u : bytes == 2 ? 25u : bytes == 4 ? 26u : 27u));
    for (unsigned i = 0; i < bytes; i++) {
        head[1 + i] = (uint8_t)(v >> 8 * (bytes - 1 - i));
    }
    put(w, head, 1 + bytes);
}

int aws_writer_end(struct aws_writer *w, const struct iovec **iov, unsigned *n_iov, size_t *bytes)
{
    sluice_assert(w->failed || (w->depth == 0 && !w->after_key));
    piece_end(w);
    if (w->failed) {
        return -ENOMEM;
    }
    *iov = w->iov;
    *n_iov = w->n_iov;
    *bytes = w->bytes;
    return 0;
}

/* ---- structure -------------------------------------------------------------------------------------------------------- */

/* Before a value in a list, or a key: the comma of JSON. A value after its key has none. */
static void entry(struct aws_writer *w)
{
    if (w->after_key) {
        w->after_key = false;
        return;
    }
    uint32_t bit = 1u << w->depth;
    if ((w->begun & bit) != 0 && w->format == AWS_JSON) {
        put_byte(w, ',');
    }
    w->begun |= bit;
}

static void open_level(struct aws_writer *w, uint8_t json, uint8_t cbor)
{
    entry(w);
    put_byte(w, w->format == AWS_JSON ? json : cbor);
    sluice_assert(w->depth + 1 < AWS_WRITER_DEPTH_MAX);
    w->depth++;
    w->begun &= ~(1u << w->depth);
}

static void close_level(struct aws_writer *w, uint8_t json)
{
    sluice_assert(w->depth > 0 && !w->after_key);
    w->depth--;
    put_byte(w, w->format == AWS_JSON ? json : 0xff);
}

void aws_write_object(struct aws_writer *w) { open_level(w, '{', 0xbf); }
void aws_write_object_end(struct aws_writer *w) { close_level(w, '}'); }
void aws_write_list(struct aws_writer *w) { open_level(w, '[', 0x9f); }
void aws_write_list_end(struct aws_writer *w) { close_level(w, ']'); }

/* ---- values ----------------------------------------------------------------------------------------------------------- */

/* Escaped where it must be: quotes, backslashes, control characters. */
static void put_json_text(struct aws_writer *w, const char *p, size_t n, bool valid)
{
    put_byte(w, '"');
    size_t plain = 0; /* of what was looked at, these many at the end are not written yet */
    for (size_t i = 0; i < n; i++) {
        uint8_t c = (uint8_t)p[i];
        if (c >= 0x20 && c != '"' && c != '\\' && (c < 0x80 || valid)) {
            plain++;
            continue;
        }
        put(w, p + i - plain, plain);
        plain = 0;
        char escape[8];
        int bytes = c >= 0x80              ? snprintf(escape, sizeof(escape), "?")
            : c == '"' || c == '\\'        ? snprintf(escape, sizeof(escape), "\\%c", c)
            : c == '\n'                    ? snprintf(escape, sizeof(escape), "\\n")
                                           : snprintf(escape, sizeof(escape), "\\u%04x", c);
        put(w, escape, (size_t)bytes);
    }
    put(w, p + n - plain, plain);
    put_byte(w, '"');
}

static void put_cbor_text(struct aws_writer *w, const char *p, size_t n, bool valid)
{
    put_head(w, 3, n);
    if (valid) {
        put(w, p, n);
        return;
    }
    for (size_t i = 0; i < n; i++) {
        put_byte(w, (uint8_t)p[i] < 0x80 ? (uint8_t)p[i] : '?');
    }
}

void aws_write_text(struct aws_writer *w, const char *p, size_t n)
{
    entry(w);
    bool valid = utf8_valid(p, n);
    if (w->format == AWS_JSON) {
        put_json_text(w, p, n, valid);
    } else {
        put_cbor_text(w, p, n, valid);
    }
}

void aws_write_key(struct aws_writer *w, const char *key)
{
    sluice_assert(!w->after_key && w->depth > 0);
    entry(w);
    size_t n = strlen(key);
    if (w->format == AWS_JSON) {
        put_json_text(w, key, n, true);
        put_byte(w, ':');
    } else {
        put_cbor_text(w, key, n, true);
    }
    w->after_key = true;
}

void aws_write_blob(struct aws_writer *w, const void *p, size_t n)
{
    entry(w);
    if (w->format == AWS_CBOR) {
        put_head(w, 2, n);
        if (n < AWS_BLOB_BY_REFERENCE) {
            put(w, p, n);
        } else {
            piece_end(w);
            piece_add(w, p, n);
        }
        return;
    }
    /* What fits into the block at a time; 3 bytes are 4 characters, so only the end has padding. */
    put_byte(w, '"');
    for (const uint8_t *from = p; n > 0;) {
        if (w->end - w->at < 4 && !block_add(w)) {
            return;
        }
        size_t take = min_u64(n, (size_t)(w->end - w->at) / 4 * 3);
        base64_encode(w->at, from, take);
        w->at += base64_encoded_size(take);
        from += take;
        n -= take;
    }
    put_byte(w, '"');
}

/* A decimal number, with a point before its last `fraction` digits if there are any. */
static void put_decimal(struct aws_writer *w, int64_t v, unsigned fraction)
{
    char text[32];
    char *p = text + sizeof(text);
    uint64_t amount = v < 0 ? 0 - (uint64_t)v : (uint64_t)v;
    for (unsigned i = 0; amount > 0 || i <= fraction; i++) {
        if (i == fraction && fraction > 0) {
            *--p = '.';
        }
        *--p = (char)('0' + amount % 10);
        amount /= 10;
    }
    if (v < 0) {
        *--p = '-';
    }
    put(w, p, (size_t)(text + sizeof(text) - p));
}

void aws_write_integer(struct aws_writer *w, int64_t v)
{
    entry(w);
    if (w->format == AWS_CBOR) {
        put_head(w, v < 0 ? 1 : 0, v < 0 ? (uint64_t)(-1 - v) : (uint64_t)v);
        return;
    }
    put_decimal(w, v, 0);
}

void aws_write_boolean(struct aws_writer *w, bool v)
{
    entry(w);
    if (w->format == AWS_CBOR) {
        put_byte(w, v ? 0xf5 : 0xf4);
    } else {
        put(w, v ? "true" : "false", v ? 4 : 5);
    }
}

void aws_write_time(struct aws_writer *w, int64_t ms)
{
    if (w->format == AWS_CBOR) {
        entry(w);
        put_byte(w, 0xc1);
        put_head(w, ms < 0 ? 1 : 0, ms < 0 ? (uint64_t)(-1 - ms) : (uint64_t)ms);
        return;
    }
    if (ms % 1000 == 0) {
        aws_write_integer(w, ms / 1000);
        return;
    }
    entry(w);
    put_decimal(w, ms, 3);
}

void aws_member_write_text(struct aws_writer *w, const char *key, const char *text)
{
    if (text != NULL) {
        aws_write_key(w, key);
        aws_write_text(w, text, strlen(text));
    }
}

void aws_member_write_integer(struct aws_writer *w, const char *key, int64_t v)
{
    aws_write_key(w, key);
    aws_write_integer(w, v);
}

void aws_member_write_boolean(struct aws_writer *w, const char *key, bool v)
{
    aws_write_key(w, key);
    aws_write_boolean(w, v);
}

void aws_member_write_time(struct aws_writer *w, const char *key, int64_t ms)
{
    aws_write_key(w, key);
    aws_write_time(w, ms);
}
