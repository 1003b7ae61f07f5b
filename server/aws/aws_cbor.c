/* aws_cbor.c: a CBOR reader (RFC 8949) over libcbor's streaming decoder, which takes one head at a time, allocates nothing and believes no length that the
 * body does not have. */
#include <cbor.h>

#include "proto/base.h"
#include "server/aws/aws_source.h"
#include "server/aws/utf8.h"

enum { TAG_TIME = 1, TAGS_MAX = 4 };

enum head_kind {
    HEAD_NONE, HEAD_INTEGER, HEAD_FLOAT, HEAD_BOOLEAN, HEAD_NULL, HEAD_BYTES, HEAD_TEXT, HEAD_BYTES_PIECES, HEAD_TEXT_PIECES, HEAD_LIST, HEAD_LIST_OPEN, HEAD_MAP, HEAD_MAP_OPEN, HEAD_TAG,
    HEAD_BREAK
};

/* What libcbor told of one head. */
struct head {
    enum head_kind kind;
    bool boolean;
    int64_t integer;
    uint64_t count; /* entries, or the tag */
    double number;
    const uint8_t *p;
    size_t n;
};

static void unsigned_head(void *context, uint64_t v)
{
    struct head *h = context;
    h->kind = HEAD_INTEGER;
    h->integer = v > INT64_MAX ? INT64_MAX : (int64_t)v;
}

static void negative_head(void *context, uint64_t v)
{
    struct head *h = context;
    h->kind = HEAD_INTEGER;
    h->integer = v > INT64_MAX ? INT64_MIN : -1 - (int64_t)v;
}

static void u8(void *c, uint8_t v) { unsigned_head(c, v); }
static void u16(void *c, uint16_t v) { unsigned_head(c, v); }
static void u32(void *c, uint32_t v) { unsigned_head(c, v); }
static void n8(void *c, uint8_t v) { negative_head(c, v); }
static void n16(void *c, uint16_t v) { negative_head(c, v); }
static void n32(void *c, uint32_t v) { negative_head(c, v); }

static void double_head(void *context, double v)
{
    struct head *h = context;
    h->kind = HEAD_FLOAT;
    h->number = v;
}

static void float_head(void *context, float v) { double_head(context, v); }

static void string_head(struct head *h, enum head_kind kind, const uint8_t *p, size_t n)
{
    h->kind = kind;
    h->p = p;
    h->n = n;
}

static void bytes_head(void *context, const uint8_t *p, size_t n) { string_head(context, HEAD_BYTES, p, n); }
static void text_head(void *context, const uint8_t *p, size_t n) { string_head(context, HEAD_TEXT, p, n); }
static void bytes_pieces_head(void *context) { ((struct head *)context)->kind = HEAD_BYTES_PIECES; }
static void text_pieces_head(void *context) { ((struct head *)context)->kind = HEAD_TEXT_PIECES; }
static void list_open_head(void *context) { ((struct head *)context)->kind = HEAD_LIST_OPEN; }
static void map_open_head(void *context) { ((struct head *)context)->kind = HEAD_MAP_OPEN; }
static void null_head(void *context) { ((struct head *)context)->kind = HEAD_NULL; }
static void break_head(void *context) { ((struct head *)context)->kind = HEAD_BREAK; }

static void count_head(struct head *h, enum head_kind kind, uint64_t count)
{
    h->kind = kind;
    h->count = count;
}

static void list_head(void *context, size_t n) { count_head(context, HEAD_LIST, n); }
static void map_head(void *context, size_t n) { count_head(context, HEAD_MAP, n); }
static void tag_head(void *context, uint64_t tag) { count_head(context, HEAD_TAG, tag); }

static void boolean_head(void *context, bool v)
{
    struct head *h = context;
    h->kind = HEAD_BOOLEAN;
    h->boolean = v;
}

static const struct cbor_callbacks callbacks = {
    .uint8 = u8, .uint16 = u16, .uint32 = u32, .uint64 = unsigned_head,
    .negint8 = n8, .negint16 = n16, .negint32 = n32, .negint64 = negative_head,
    .byte_string_start = bytes_pieces_head, .byte_string = bytes_head,
    .string = text_head, .string_start = text_pieces_head,
    .indef_array_start = list_open_head, .array_start = list_head,
    .indef_map_start = map_open_head, .map_start = map_head,
    .tag = tag_head, .float2 = float_head, .float4 = float_head, .float8 = double_head,
    .undefined = null_head, .null = null_head, .boolean = boolean_head, .indef_break = break_head,
};

static bool head_read(struct aws_source *s, struct head *h)
{
    h->kind = HEAD_NONE;
    struct cbor_decoder_result r = cbor_stream_decode((const uint8_t *)s->at, (size_t)(s->end - s->at), &callbacks, h);
    if (r.status != CBOR_DECODER_FINISHED || h->kind == HEAD_NONE) {
        return false;
    }
    s->at += r.read;
    return true;
}

/* The pieces of a string of indefinite length, moved together: each lies behind where it goes. */
static bool pieces_join(struct aws_source *s, enum head_kind kind, struct aws_text *text)
{
    char *start = s->at;
    char *out = start;
    struct head h = {0};
    while (head_read(s, &h) && (h.kind == kind || h.kind == HEAD_BREAK)) {
        if (h.kind == HEAD_BREAK) {
            *text = (struct aws_text){start, (size_t)(out - start)};
            return true;
        }
        if (kind == HEAD_TEXT && !utf8_valid((const char *)h.p, h.n)) {
            return false;
        }
        memmove(out, h.p, h.n);
        out += h.n;
    }
    return false;
}

enum aws_token aws_cbor_next(struct aws_source *s, struct aws_level *level)
{
    struct head h = {0};
    s->tagged_time = false;
    for (unsigned tags = 0;; tags++) {
        if (!head_read(s, &h)) {
            return AWS_TOKEN_BAD;
        }
        if (h.kind != HEAD_TAG) {
            break;
        }
        if (tags == TAGS_MAX) {
            return AWS_TOKEN_BAD;
        }
        s->tagged_time |= h.count == TAG_TIME;
    }
    switch (h.kind) {
    case HEAD_INTEGER: s->integer = h.integer; return AWS_TOKEN_INTEGER;
    case HEAD_FLOAT: s->number = h.number; return AWS_TOKEN_FLOAT;
    case HEAD_BOOLEAN: s->boolean = h.boolean; return AWS_TOKEN_BOOLEAN;
    case HEAD_NULL: return AWS_TOKEN_NULL;
    case HEAD_BYTES: s->text = (struct aws_text){(const char *)h.p, h.n}; return AWS_TOKEN_BYTES;
    case HEAD_BYTES_PIECES: return pieces_join(s, HEAD_BYTES, &s->text) ? AWS_TOKEN_BYTES : AWS_TOKEN_BAD;
    case HEAD_TEXT:
        s->text = (struct aws_text){(const char *)h.p, h.n};
        return utf8_valid(s->text.p, s->text.n) ? AWS_TOKEN_TEXT : AWS_TOKEN_BAD;
    case HEAD_TEXT_PIECES: return pieces_join(s, HEAD_TEXT, &s->text) ? AWS_TOKEN_TEXT : AWS_TOKEN_BAD;
    case HEAD_LIST:
    case HEAD_MAP: *level = (struct aws_level){.left = h.count, .map = h.kind == HEAD_MAP}; break;
    case HEAD_LIST_OPEN:
    case HEAD_MAP_OPEN: *level = (struct aws_level){.indefinite = true, .map = h.kind == HEAD_MAP_OPEN}; break;
    default: return AWS_TOKEN_BAD;
    }
    return level->map ? AWS_TOKEN_MAP : AWS_TOKEN_LIST;
}

int aws_cbor_more(struct aws_source *s, struct aws_level *level)
{
    if (!level->indefinite) {
        if (level->left == 0) {
            return 0;
        }
        level->left--;
        return 1;
    }
    if (s->at < s->end && (uint8_t)*s->at == 0xff) {
        s->at++;
        return 0;
    }
    return s->at < s->end ? 1 : -1;
}

bool aws_cbor_key(struct aws_source *s, struct aws_text *key)
{
    struct head h = {0};
    if (!head_read(s, &h)) {
        return false;
    }
    if (h.kind == HEAD_TEXT_PIECES) {
        return pieces_join(s, HEAD_TEXT, key);
    }
    *key = (struct aws_text){(const char *)h.p, h.n};
    return h.kind == HEAD_TEXT && utf8_valid(key->p, key->n);
}
