/* aws_decode.c: the tree of values from a source of tokens, by the shapes of the model. */
#include "server/aws/aws_decode.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>

#include "proto/base.h"

struct decoder {
    struct aws_source source;
    struct arena *arena;
    unsigned depth;
    bool no_memory;
    const char *message; /* of the first value of a wrong type */
};

/* The first wrong type is told; the rest is still read, because a body that is not well-formed comes before. */
__attribute__((format(printf, 2, 3))) static void wrong_type(struct decoder *d, const char *format, ...)
{
    if (d->message != NULL) {
        return;
    }
    char text[256];
    va_list args;
    va_start(args, format);
    int n = vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    size_t size = min_u64((size_t)n, sizeof(text) - 1);
    char *copy = arena_alloc(d->arena, size + 1);
    for (size_t i = 0; copy != NULL && i < size; i++) {
        copy[i] = text[i] >= ' ' && text[i] <= '~' ? text[i] : '?'; /* beginnings of texts may end within a character */
    }
    d->message = copy != NULL ? copy : "";
}

/* ---- what is not kept ----------------------------------------------------------------------------------------------- */

/* Reads to the end of a value whose head was `token`. False: not well-formed. */
static bool skip(struct decoder *d, enum aws_token token, struct aws_level *level)
{
    struct aws_text text;
    switch (token) {
    case AWS_TOKEN_BAD: return false;
    case AWS_TOKEN_TEXT: return aws_source_text(&d->source, &text);
    case AWS_TOKEN_LIST:
    case AWS_TOKEN_MAP: break;
    default: return true;
    }
    if (d->depth == AWS_NESTING_MAX) {
        return false;
    }
    d->depth++;
    int more;
    while ((more = aws_source_more(&d->source, level)) > 0) {
        if (level->map && !aws_source_key(&d->source, &text)) {
            return false;
        }
        struct aws_level inner;
        if (!skip(d, aws_source_next(&d->source, &inner), &inner)) {
            return false;
        }
    }
    d->depth--;
    return more == 0;
}

/* ---- single values ---------------------------------------------------------------------------------------------------- */

static const char *const type_words[] = {
    [AWS_STRING] = "an String", [AWS_BLOB] = "a Blob", [AWS_INTEGER] = "an Integer", [AWS_LONG] = "an Long", [AWS_DOUBLE] = "an Double",
    [AWS_BOOLEAN] = "an Boolean", [AWS_TIMESTAMP] = "milliseconds since epoch",
};

/* The words for a value that has the wrong type; it is read to its end. */
static bool refuse(struct decoder *d, const struct aws_shape *shape, enum aws_token token, struct aws_level *level)
{
    if (token == AWS_TOKEN_LIST) {
        wrong_type(d, "Start of list found where not expected");
    } else if (token == AWS_TOKEN_MAP) {
        wrong_type(d, "Start of structure or map found where not expected.");
    } else if (shape->type == AWS_LIST) {
        wrong_type(d, "Expected list or null");
    } else if (shape->type == AWS_MAP) {
        wrong_type(d, "Expected map or null");
    } else if (shape->type == AWS_STRUCTURE) {
        wrong_type(d, "Expected null");
    } else {
        const char *class = token == AWS_TOKEN_BOOLEAN ? "java.lang.Boolean"
            : token == AWS_TOKEN_TEXT                  ? "java.lang.String"
            : token == AWS_TOKEN_BYTES                 ? "java.nio.HeapByteBuffer"
                                                       : "com.amazon.coral.value.json.numbers.TruncatingBigNumber";
        wrong_type(d, "class %s can not be converted to %s", class, type_words[shape->type]);
    }
    return skip(d, token, level);
}

static bool read_blob(struct decoder *d, struct aws_value *out)
{
    struct aws_blob_error e;
    if (!aws_source_blob(&d->source, &out->text, &e)) {
        return false;
    }
    int n = (int)e.text_n;
    const char *cut = e.given > e.text_n ? "..." : "";
    switch (e.error) {
    case BASE64_OK: break;
    case BASE64_LENGTH:
        wrong_type(d, "'%.*s%s' can not be converted to a Blob: Base64 encoded length is expected a multiple of 4 bytes but found: %zu", n, e.text, cut, e.given);
        break;
    case BASE64_CHARACTER:
        wrong_type(d, "'%.*s%s' can not be converted to a Blob: Invalid Base64 character: '%c'", n, e.text, cut, e.bad);
        break;
    case BASE64_LAST:
        wrong_type(d, "'%.*s%s' can not be converted to a Blob: Invalid last non-pad Base64 character dectected", n, e.text, cut);
        break;
    }
    return true;
}

/* Words that AWS takes for booleans too. */
static bool read_boolean_word(struct decoder *d, struct aws_value *out)
{
    struct aws_text t;
    if (!aws_source_text(&d->source, &t)) {
        return false;
    }
    char upper[32];
    size_t n = min_u64(t.n, sizeof(upper));
    for (size_t i = 0; i < n; i++) {
        upper[i] = (char)(t.p[i] >= 'a' && t.p[i] <= 'z' ? t.p[i] - 'a' + 'A' : t.p[i]);
    }
    struct aws_text word = {upper, n};
    out->boolean = aws_text_is(word, "TRUE") || aws_text_is(word, "YES") || aws_text_is(word, "1");
    if (!out->boolean && !aws_text_is(word, "FALSE") && !aws_text_is(word, "NO") && !aws_text_is(word, "0")) {
        wrong_type(d, "'%.*s' can not be converted to an Boolean", (int)n, upper);
    }
    return true;
}

/* Cut off at the type's bounds; towards minus infinity. */
static int64_t whole_number(double v, int64_t low, int64_t high)
{
    v = floor(v);
    return isnan(v) ? 0 : v <= (double)low ? low : v >= (double)high ? high : (int64_t)v;
}

static int64_t clamp(int64_t v, int64_t low, int64_t high) { return v < low ? low : v > high ? high : v; }

/* Timestamps: JSON counts seconds with a fraction, CBOR whole milliseconds with tag 1 or without; a CBOR float can only be seconds as the standard has them. */
static void read_number(struct decoder *d, const struct aws_shape *shape, bool integer, struct aws_value *out)
{
    const struct aws_source *s = &d->source;
    int64_t low = shape->type == AWS_INTEGER ? INT32_MIN : INT64_MIN, high = shape->type == AWS_INTEGER ? INT32_MAX : INT64_MAX;
    if (shape->type == AWS_DOUBLE) {
        out->number = integer ? (double)s->integer : s->number;
    } else if (shape->type != AWS_TIMESTAMP) {
        out->integer = integer ? clamp(s->integer, low, high) : whole_number(s->number, low, high);
    } else if (!integer) {
        out->integer = whole_number(s->number * 1000 + 0.5, INT64_MIN, INT64_MAX);
    } else {
        bool seconds = s->format == AWS_JSON;
        out->integer = seconds ? clamp(s->integer, INT64_MIN / 1000, INT64_MAX / 1000) * 1000 : s->integer;
    }
}

/* ---- lists, maps, structures ------------------------------------------------------------------------------------------- */

static bool read_value(struct decoder *d, const struct aws_shape *shape, struct aws_value *out);

/* Room for one more entry of `width` values; the room doubles. */
static struct aws_value *entry_add(struct decoder *d, struct aws_value *out, unsigned width)
{
    uint32_t n = out->list.n;
    if (n == 0 || (n & (n - 1)) == 0) { /* the room is always the next power of two */
        size_t size = sizeof(struct aws_value) * width;
        struct aws_value *v = arena_grow(d->arena, out->list.v, n * size, (n == 0 ? 1 : 2 * (size_t)n) * size);
        if (v == NULL) {
            d->no_memory = true;
            return NULL;
        }
        out->list.v = v;
    }
    out->list.n++;
    return &out->list.v[n * width];
}

/* Entries beyond the shape's bound are counted and not kept: the count alone makes the input invalid. */
static bool read_list(struct decoder *d, const struct aws_shape *shape, struct aws_level *level, struct aws_value *out)
{
    unsigned width = level->map ? 2 : 1;
    int64_t keep = shape->bounded && shape->max < INT64_MAX ? shape->max : AWS_UNBOUNDED_LIST_MAX;
    int more;
    while ((more = aws_source_more(&d->source, level)) > 0) {
        struct aws_text key;
        if (level->map && !aws_source_key(&d->source, &key)) {
            return false;
        }
        if (out->list.given < UINT32_MAX) {
            out->list.given++;
        }
        struct aws_value *entry = out->list.n < keep && !d->no_memory ? entry_add(d, out, width) : NULL;
        if (entry == NULL) {
            struct aws_level inner;
            if (!skip(d, aws_source_next(&d->source, &inner), &inner)) {
                return false;
            }
            continue;
        }
        if (level->map) {
            for (uint32_t i = 0; i + 1 < out->list.n; i++) {
                const struct aws_text *other = &out->list.v[2 * i].text;
                if (other->n == key.n && memcmp(other->p, key.p, key.n) == 0) {
                    return false;
                }
            }
            entry->shape = shape->key;
            entry->text = key;
            entry++;
        }
        if (!read_value(d, shape->item, entry)) {
            return false;
        }
    }
    return more == 0;
}

static int member_find(const struct aws_shape *shape, struct aws_text key)
{
    for (unsigned i = 0; i < shape->n_members; i++) {
        if (aws_text_is(key, aws_member_names[shape->members[i].id])) {
            return (int)i;
        }
    }
    return -1;
}

static bool read_structure(struct decoder *d, const struct aws_shape *shape, struct aws_level *level, struct aws_value *out)
{
    out->list.n = out->list.given = shape->n_members;
    out->list.v = arena_alloc(d->arena, sizeof(struct aws_value) * shape->n_members);
    if (out->list.v == NULL) {
        d->no_memory = true;
    }
    uint32_t seen = 0;
    int more;
    while ((more = aws_source_more(&d->source, level)) > 0) {
        struct aws_text key;
        if (!aws_source_key(&d->source, &key)) {
            return false;
        }
        int i = out->list.v == NULL ? -1 : member_find(shape, key);
        if (i < 0) {
            struct aws_level inner;
            if (!skip(d, aws_source_next(&d->source, &inner), &inner)) {
                return false;
            }
            continue;
        }
        if ((seen & 1u << i) != 0) {
            return false;
        }
        seen |= 1u << i;
        if (!read_value(d, shape->members[i].shape, &out->list.v[i])) {
            return false;
        }
    }
    return more == 0;
}

/* The next value, as `shape` wants it. False: the body is not well-formed. */
static bool read_value(struct decoder *d, const struct aws_shape *shape, struct aws_value *out)
{
    struct aws_level level;
    enum aws_token token = aws_source_next(&d->source, &level);
    if (token == AWS_TOKEN_BAD || token == AWS_TOKEN_NULL) {
        return token == AWS_TOKEN_NULL;
    }
    out->shape = shape;
    switch (shape->type) {
    case AWS_STRING:
        return token == AWS_TOKEN_TEXT ? aws_source_text(&d->source, &out->text) : refuse(d, shape, token, &level);
    case AWS_BLOB:
        if (token == AWS_TOKEN_BYTES) {
            out->text = d->source.text;
            return true;
        }
        return token == AWS_TOKEN_TEXT ? read_blob(d, out) : refuse(d, shape, token, &level);
    case AWS_BOOLEAN:
        if (token == AWS_TOKEN_BOOLEAN) {
            out->boolean = d->source.boolean;
            return true;
        }
        return token == AWS_TOKEN_TEXT ? read_boolean_word(d, out) : refuse(d, shape, token, &level);
    case AWS_INTEGER:
    case AWS_LONG:
    case AWS_DOUBLE:
    case AWS_TIMESTAMP:
        if (token == AWS_TOKEN_INTEGER || token == AWS_TOKEN_FLOAT) {
            read_number(d, shape, token == AWS_TOKEN_INTEGER, out);
            return true;
        }
        return refuse(d, shape, token, &level);
    case AWS_LIST:
    case AWS_MAP:
    case AWS_STRUCTURE: break;
    }
    if (token != (shape->type == AWS_LIST ? AWS_TOKEN_LIST : AWS_TOKEN_MAP)) {
        return refuse(d, shape, token, &level);
    }
    sluice_assert(d->depth < AWS_DEPTH_MAX); /* of the model, not of the body */
    d->depth++;
    bool ok = shape->type == AWS_STRUCTURE ? read_structure(d, shape, &level, out) : read_list(d, shape, &level, out);
    d->depth--;
    return ok;
}

enum aws_decoded aws_decode(enum aws_format format, const struct aws_shape *input, void *body, size_t n, struct arena *arena, const struct aws_value **value,
                            const char **message)
{
    struct decoder d = {.source = {.format = format, .at = body, .end = (char *)body + n}, .arena = arena};
    *value = NULL;
    *message = NULL;
    struct aws_value *root = arena_alloc(arena, sizeof(*root));
    if (root == NULL) {
        return AWS_NO_MEMORY;
    }
    struct aws_level level;
    if (aws_source_next(&d.source, &level) != AWS_TOKEN_MAP) {
        return AWS_UNPARSABLE;
    }
    d.depth = 1;
    bool ok;
    if (input == NULL) {
        d.depth = 0;
        ok = skip(&d, AWS_TOKEN_MAP, &level);
    } else {
        root->shape = input;
        ok = read_structure(&d, input, &level, root);
    }
    if (!ok || !aws_source_ended(&d.source)) {
        return AWS_UNPARSABLE;
    }
    if (d.no_memory) {
        return AWS_NO_MEMORY;
    }
    if (d.message != NULL) {
        *message = d.message;
        return AWS_WRONG_TYPE;
    }
    if (input != NULL && (*message = aws_validate(root, arena)) != NULL) {
        return AWS_INVALID;
    }
    *value = input != NULL ? root : NULL;
    return AWS_DECODED;
}
