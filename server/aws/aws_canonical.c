/* aws_canonical.c: the canonical form of a request's head, as Signature version 4 wants it. */
#include "server/aws/aws_canonical.h"

#include <stdlib.h>
#include <strings.h>

#include "proto/base.h"

/* ---- percent encoding --------------------------------------------------------------------------------------------------- */

static bool unreserved(uint8_t c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' || c == '_' || c == '.' || c == '~';
}

static size_t encode_one(char out[3], uint8_t c, bool keep_slash)
{
    static const char digits[] = "0123456789ABCDEF";
    if (unreserved(c) || (keep_slash && c == '/')) {
        out[0] = (char)c;
        return 1;
    }
    out[0] = '%';
    out[1] = digits[c >> 4];
    out[2] = digits[c & 15];
    return 3;
}

static int hex_digit(char c) { return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1; }

static bool decode(struct arena *arena, struct aws_text in, struct aws_text *out)
{
    char *p = arena_alloc(arena, in.n);
    if (p == NULL) {
        return false;
    }
    *out = (struct aws_text){p, 0};
    for (size_t i = 0; i < in.n; i++) {
        char c = in.p[i];
        if (c == '%') {
            if (in.n - i < 3 || hex_digit(in.p[i + 1]) < 0 || hex_digit(in.p[i + 2]) < 0) {
                return false;
            }
            c = (char)(hex_digit(in.p[i + 1]) << 4 | hex_digit(in.p[i + 2]));
            i += 2;
        }
        p[out->n++] = c;
    }
    return true;
}

static bool encode(struct arena *arena, struct aws_text in, struct aws_text *out)
{
    char *p = arena_alloc(arena, 3 * in.n);
    if (p == NULL) {
        return false;
    }
    *out = (struct aws_text){p, 0};
    for (size_t i = 0; i < in.n; i++) {
        out->n += encode_one(p + out->n, (uint8_t)in.p[i], false);
    }
    return true;
}

/* ---- the query ------------------------------------------------------------------------------------------------------------ */

bool aws_query_parse(struct aws_text target, struct arena *arena, struct aws_query *q)
{
    q->n = 0;
    const char *p = target.n > 0 ? memchr(target.p, '?', target.n) : NULL;
    const char *end = target.p + target.n;
    while (p != NULL && p < end) {
        p++;
        const char *stop = p < end ? memchr(p, '&', (size_t)(end - p)) : NULL;
        struct aws_text pair = {p, (size_t)((stop != NULL ? stop : end) - p)};
        p = stop;
        if (pair.n == 0) {
            continue;
        }
        const char *equals = memchr(pair.p, '=', pair.n);
        struct aws_text name = {pair.p, equals != NULL ? (size_t)(equals - pair.p) : pair.n};
        struct aws_text value = {equals != NULL ? equals + 1 : pair.p + pair.n, equals != NULL ? pair.n - name.n - 1 : 0};
        if (q->n == AWS_QUERY_PARAMETERS_MAX) {
            return false;
        }
        struct aws_parameter *a = &q->p[q->n++];
        if (!decode(arena, name, &a->name) || !decode(arena, value, &a->value) || !encode(arena, a->name, &a->encoded_name) ||
            !encode(arena, a->value, &a->encoded_value)) {
            return false;
        }
    }
    return true;
}

struct aws_text aws_query_value(const struct aws_query *q, const char *name)
{
    for (unsigned i = 0; i < q->n; i++) {
        if (aws_text_is(q->p[i].name, name)) {
            return q->p[i].value;
        }
    }
    return (struct aws_text){NULL, 0};
}

static int text_compare(struct aws_text a, struct aws_text b)
{
    int order = memcmp(a.p, b.p, min_u64(a.n, b.n));
    return order != 0 ? order : a.n < b.n ? -1 : a.n > b.n;
}

static int parameter_compare(const void *a, const void *b)
{
    const struct aws_parameter *x = a, *y = b;
    int order = text_compare(x->encoded_name, y->encoded_name);
    return order != 0 ? order : text_compare(x->encoded_value, y->encoded_value);
}

void aws_query_sort(struct aws_query *q) { qsort(q->p, q->n, sizeof(q->p[0]), parameter_compare); }

/* ---- the path ---------------------------------------------------------------------------------------------------------------- */

/* Without empty segments, `.` and `..`; what is percent-encoded already is encoded once more (S3 is the service that does not). */
static bool add_path(struct aws_sink *sink, struct aws_text target, struct arena *arena)
{
    const char *question = target.n > 0 ? memchr(target.p, '?', target.n) : NULL;
    size_t n = question != NULL ? (size_t)(question - target.p) : target.n;
    char *path = arena_alloc(arena, n + 1);
    if (path == NULL) {
        return false;
    }
    size_t out = 0;
    bool slash = n == 0 || target.p[n - 1] == '/';
    for (size_t i = 0; i < n;) {
        if (target.p[i] == '/') {
            i++;
            continue;
        }
        const char *stop = memchr(target.p + i, '/', n - i);
        struct aws_text segment = {target.p + i, stop != NULL ? (size_t)(stop - target.p) - i : n - i};
        i += segment.n;
        if (aws_text_is(segment, "..")) {
            while (out > 0 && path[--out] != '/') {
            }
        } else if (!aws_text_is(segment, ".")) {
            path[out++] = '/';
            memcpy(path + out, segment.p, segment.n);
            out += segment.n;
        }
    }
    if (out == 0 || slash) {
        path[out++] = '/';
    }
    for (size_t i = 0; i < out; i++) {
        char one[3];
        sink->add(sink, one, encode_one(one, (uint8_t)path[i], true));
    }
    return true;
}

/* ---- headers --------------------------------------------------------------------------------------------------------------------- */

/* Blanks around it go, several within it become one. */
static void add_value(struct aws_sink *sink, struct aws_text v)
{
    bool blank = false, begun = false;
    for (size_t i = 0; i < v.n; i++) {
        if (v.p[i] == ' ' || v.p[i] == '\t') {
            blank = begun;
            continue;
        }
        if (blank) {
            sink->add(sink, " ", 1);
        }
        blank = false;
        begun = true;
        sink->add(sink, v.p + i, 1);
    }
}

/* "name:value,value\n" of all headers of a name. */
static bool add_header(struct aws_sink *sink, const struct aws_request *r, struct aws_text name)
{
    bool found = false;
    for (unsigned i = 0; i < r->n_headers; i++) {
        const struct aws_header *h = &r->headers[i];
        if (h->name.n != name.n || strncasecmp(h->name.p, name.p, name.n) != 0) {
            continue;
        }
        if (found) {
            sink->add(sink, ",", 1);
        } else {
            sink->add(sink, name.p, name.n);
            sink->add(sink, ":", 1);
        }
        found = true;
        add_value(sink, h->value);
    }
    if (found) {
        sink->add(sink, "\n", 1);
    }
    return found;
}

bool aws_canonical_request(struct aws_sink *sink, const struct aws_request *r, struct aws_query *q, struct aws_text signed_headers, struct aws_text payload_hash,
                           struct arena *arena)
{
    sink->add(sink, r->method.p, r->method.n);
    sink->add(sink, "\n", 1);
    if (!add_path(sink, r->target, arena)) {
        return false;
    }
    sink->add(sink, "\n", 1);
    aws_query_sort(q);
    bool begun = false;
    for (unsigned i = 0; i < q->n; i++) {
        const struct aws_parameter *a = &q->p[i];
        if (aws_text_is(a->name, "X-Amz-Signature")) {
            continue;
        }
        sink->add(sink, "&", begun ? 1 : 0);
        begun = true;
        sink->add(sink, a->encoded_name.p, a->encoded_name.n);
        sink->add(sink, "=", 1);
        sink->add(sink, a->encoded_value.p, a->encoded_value.n);
    }
    sink->add(sink, "\n", 1);
    unsigned headers = 0;
    for (size_t i = 0; i < signed_headers.n; headers++) {
        const char *semicolon = memchr(signed_headers.p + i, ';', signed_headers.n - i);
        struct aws_text name = {signed_headers.p + i, (semicolon != NULL ? (size_t)(semicolon - signed_headers.p) : signed_headers.n) - i};
        if (headers == AWS_SIGNED_HEADERS_MAX || !add_header(sink, r, name)) {
            return false;
        }
        i += name.n + 1;
    }
    sink->add(sink, "\n", 1);
    sink->add(sink, signed_headers.p, signed_headers.n);
    sink->add(sink, "\n", 1);
    sink->add(sink, payload_hash.p, payload_hash.n);
    return true;
}
