/* aws_writer.c: answers, in JSON or CBOR. */
#include "server/aws/aws_writer.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "proto/base.h"
#include "server/aws/utf8.h"

enum { BLOCK_MIN = 4096, BLOCK_MAX = 1024 * 1024 };

struct aws_writer_block {
    struct aws_writer_block *next;
    size_t size;
    char bytes[];
};

void aws_writer_init(struct aws_writer *w, enum aws_format format, size_t limit) { *w = (struct aws_writer){.format = format, .limit = limit}; }

void aws_writer_deinit(struct aws_writer *w)
{
    while (w->blocks != NULL) {
        struct aws_writer_block *b = w->blocks;
        w->blocks = b->next;
        free(b);
    }
    free(w->iov);
    aws_writer_init(w, w->format, w->limit);
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

/* Room for n bytes in one block, at w->at; false: failed. */
static bool room(struct aws_writer *w, size_t n)
{
    if ((size_t)(w->end - w->at) >= n) {
        return !w->failed;
    }
    piece_end(w);
    size_t size = w->blocks == NULL ? BLOCK_MIN : min_u64(w->blocks->size * 2, BLOCK_MAX);
    size = max_u64(size, n);
    if (w->failed || n > w->limit) {
        w->failed = true;
        return false;
    }
    struct aws_writer_block *b = malloc(sizeof(*b) + size);
    if (b == NULL) {
        w->failed = true;
        return false;
    }
    b->next = w->blocks;
    b->size = size;
    w->blocks = b;
    w->from = w->at = b->bytes;
    w->end = b->bytes + size;
    return true;
}

static void put(struct aws_writer *w, const void *p, size_t n)
{
    if (room(w, n)) {
        memcpy(w->at, p, n);
        w->at += n;
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
    /* In steps, so that blocks stay of a moderate size; 3 bytes are 4 characters, so each step but the last is without padding. */
    const size_t step = BLOCK_MAX / 8 * 3;
    put_byte(w, '"');
    for (const uint8_t *from = p; n > 0;) {
        size_t take = min_u64(n, step), characters = base64_encoded_size(take);
        if (!room(w, characters)) {
            return;
        }
        base64_encode(w->at, from, take);
        w->at += characters;
        from += take;
        n -= take;
    }
    put_byte(w, '"');
}

void aws_write_integer(struct aws_writer *w, int64_t v)
{
    entry(w);
    if (w->format == AWS_CBOR) {
        put_head(w, v < 0 ? 1 : 0, v < 0 ? (uint64_t)(-1 - v) : (uint64_t)v);
        return;
    }
    char text[24];
    put(w, text, (size_t)snprintf(text, sizeof(text), "%lld", (long long)v));
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
    uint64_t amount = ms < 0 ? 0 - (uint64_t)ms : (uint64_t)ms;
    char text[32];
    put(w, text, (size_t)snprintf(text, sizeof(text), "%s%llu.%03u", ms < 0 ? "-" : "", (unsigned long long)(amount / 1000), (unsigned)(amount % 1000)));
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
