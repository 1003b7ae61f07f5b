/* HTTP/1 heads and chunked bodies (see h1_parse.h). */
#include "server/http/h1_parse.h"

#include <string.h>
#include <strings.h>

#include "proto/base.h"

bool http_token_char(unsigned char c)
{
    static const char others[] = "!#$%&'*+-.^_`|~";
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || (c != '\0' && memchr(others, c, sizeof others - 1) != NULL);
}

bool http_number(struct http_view v, uint64_t *out)
{
    uint64_t n = 0;
    if (v.n == 0 || v.n > 19) { /* 19 digits always fit */
        return false;
    }
    for (size_t i = 0; i < v.n; i++) {
        if (v.p[i] < '0' || v.p[i] > '9') {
            return false;
        }
        n = n * 10 + (uint64_t)(v.p[i] - '0');
    }
    *out = n;
    return true;
}

bool http_view_is(struct http_view v, const char *s) { return strlen(s) == v.n && memcmp(v.p, s, v.n) == 0; }
bool http_view_is_nocase(struct http_view v, const char *s) { return strlen(s) == v.n && strncasecmp(v.p, s, v.n) == 0; }

/* ---- heads ---- */

long h1_head_end(const char *p, size_t n, size_t *scanned)
{
    if (n > 0 && !http_token_char((unsigned char)p[0])) {
        return -1;
    }
    size_t at = *scanned;
    while (at < n) {
        const char *lf = memchr(p + at, '\n', n - at);
        if (lf == NULL) {
            at = n;
            break;
        }
        size_t i = (size_t)(lf - p);
        if (i == 0 || p[i - 1] != '\r') {
            return -1;
        }
        if (i >= 3 && p[i - 2] == '\n') { /* the one before was CR LF, or it had been refused */
            return (long)i + 1;
        }
        at = i + 1;
    }
    *scanned = at;
    return 0;
}

static bool skip_prefix(struct http_view *v, const char *prefix)
{
    size_t n = strlen(prefix);
    if (v->n < n || strncasecmp(v->p, prefix, n) != 0) {
        return false;
    }
    v->p += n;
    v->n -= n;
    return true;
}

/* METHOD SP target SP HTTP/1.x */
static int parse_request_line(struct http_view line, struct h1_head *out)
{
    const char *end = line.p + line.n;
    const char *space = memchr(line.p, ' ', line.n);
    if (space == NULL || space == line.p || space - line.p > 32) {
        return 400;
    }
    for (const char *c = line.p; c < space; c++) {
        if (!http_token_char((unsigned char)*c)) {
            return 400;
        }
    }
    out->method = (struct http_view){line.p, (size_t)(space - line.p)};
    const char *target = space + 1;
    const char *second = memchr(target, ' ', (size_t)(end - target));
    if (second == NULL || second == target) {
        return 400;
    }
    for (const char *c = target; c < second; c++) {
        if ((unsigned char)*c <= ' ' || (unsigned char)*c >= 127) {
            return 400;
        }
    }
    struct http_view version = {second + 1, (size_t)(end - second - 1)};
    if (version.n != 8 || memcmp(version.p, "HTTP/", 5) != 0 || version.p[6] != '.') {
        return 400;
    }
    if (version.p[5] != '1' || (version.p[7] != '0' && version.p[7] != '1')) {
        return version.p[5] >= '0' && version.p[5] <= '9' && version.p[7] >= '0' && version.p[7] <= '9' ? 505 : 400;
    }
    out->version = version.p[7] == '0' ? HTTP_1_0 : HTTP_1_1;
    struct http_view t = {target, (size_t)(second - target)};
    if (skip_prefix(&t, "http://") || skip_prefix(&t, "https://")) {
        const char *path = t.n > 0 ? memchr(t.p, '/', t.n) : NULL;
        const char *query = t.n > 0 ? memchr(t.p, '?', t.n) : NULL;
        if (t.n == 0 || path == t.p || query == t.p || (path == NULL && query != NULL) || (path != NULL && query != NULL && query < path)) {
            return 400;
        }
        t = path != NULL ? (struct http_view){path, (size_t)(second - path)} : (struct http_view){"/", 1};
    }
    if (t.p[0] != '/' && !(http_view_is(t, "*") && http_view_is(out->method, "OPTIONS"))) {
        return 400;
    }
    out->target = t;
    return 0;
}

/* "close" or "keep-alive" in a list of tokens. */
static void look_at_connection(struct http_view v, struct h1_head *out)
{
    while (v.n > 0) {
        const char *comma = memchr(v.p, ',', v.n);
        struct http_view word = {v.p, comma != NULL ? (size_t)(comma - v.p) : v.n};
        v.n -= word.n + (comma != NULL);
        v.p += word.n + (comma != NULL);
        while (word.n > 0 && (word.p[0] == ' ' || word.p[0] == '\t')) {
            word.p++;
            word.n--;
        }
        while (word.n > 0 && (word.p[word.n - 1] == ' ' || word.p[word.n - 1] == '\t')) {
            word.n--;
        }
        if (http_view_is_nocase(word, "close")) {
            out->keep_alive = false;
        }
    }
}

struct seen { unsigned hosts, lengths, encodings; };

static int look_at_header(const struct http_header *h, struct h1_head *out, struct seen *seen)
{
    switch (h->name.n) {
    case 4:
        if (http_view_is_nocase(h->name, "host")) {
            static const char never[] = "/\\?#@,<>\"{}";
            for (size_t i = 0; i < h->value.n; i++) {
                unsigned char c = (unsigned char)h->value.p[i];
                if (c <= ' ' || c >= 127 || memchr(never, c, sizeof never - 1) != NULL) {
                    return 400;
                }
            }
            return seen->hosts++ > 0 || h->value.n == 0 ? 400 : 0;
        }
        return 0;
    case 6:
        if (http_view_is_nocase(h->name, "expect")) {
            if (!http_view_is_nocase(h->value, "100-continue")) {
                return 417;
            }
            out->expect_continue = true;
        }
        return 0;
    case 10:
        if (http_view_is_nocase(h->name, "connection")) {
            look_at_connection(h->value, out);
        }
        return 0;
    case 14:
        if (http_view_is_nocase(h->name, "content-length")) {
            return seen->lengths++ > 0 || !http_number(h->value, &out->content_length) ? 400 : 0;
        }
        return 0;
    case 17:
        if (http_view_is_nocase(h->name, "transfer-encoding")) {
            if (seen->encodings++ > 0) {
                return 400;
            }
            out->chunked = http_view_is_nocase(h->value, "chunked");
            return out->chunked ? 0 : 501;
        }
        return 0;
    default:
        return 0;
    }
}

static int parse_header(struct http_view line, struct http_header *h)
{
    const char *colon = memchr(line.p, ':', line.n);
    if (colon == NULL || colon == line.p) {
        return 400;
    }
    for (const char *c = line.p; c < colon; c++) {
        if (!http_token_char((unsigned char)*c)) { /* also refuses folded lines, which begin with a blank */
            return 400;
        }
    }
    h->name = (struct http_view){line.p, (size_t)(colon - line.p)};
    const char *first = colon + 1, *end = line.p + line.n;
    while (first < end && (*first == ' ' || *first == '\t')) {
        first++;
    }
    while (end > first && (end[-1] == ' ' || end[-1] == '\t')) {
        end--;
    }
    for (const char *c = first; c < end; c++) {
        if (!http_value_char((unsigned char)*c)) {
            return 400;
        }
    }
    h->value = (struct http_view){first, (size_t)(end - first)};
    return 0;
}

int h1_head_parse(const char *p, size_t n, struct http_header *headers, unsigned max, struct h1_head *out)
{
    *out = (struct h1_head){.content_length = UINT64_MAX, .keep_alive = true};
    struct seen seen = {0};
    const char *end = p + n - 2; /* the empty line */
    const char *lf = memchr(p, '\n', n);
    sluice_assert(n >= 4 && lf != NULL);
    int status = parse_request_line((struct http_view){p, (size_t)(lf - 1 - p)}, out);
    for (p = lf + 1; status == 0 && p < end; p = lf + 1) {
        lf = memchr(p, '\n', (size_t)(end - p));
        sluice_assert(lf != NULL);
        if (out->n_headers == max) {
            return 431;
        }
        struct http_header *h = &headers[out->n_headers++];
        status = parse_header((struct http_view){p, (size_t)(lf - 1 - p)}, h);
        if (status == 0) {
            status = look_at_header(h, out, &seen);
        }
    }
    if (status != 0) {
        return status;
    }
    if (seen.encodings > 0 && (seen.lengths > 0 || out->version == HTTP_1_0)) {
        return 400;
    }
    if (out->version == HTTP_1_0) {
        out->keep_alive = false;
        out->expect_continue = false;
    } else if (seen.hosts != 1) {
        return 400;
    }
    return 0;
}

/* ---- chunked bodies ---- */

static int hex_digit(uint8_t c)
{
    if (c >= '0' && c <= '9') {
        return c - '0';
    }
    c |= 0x20;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* One byte that is not body. */
static void chunk_byte(struct h1_chunks *s, uint8_t c)
{
    int digit;
    switch (s->state) {
    case H1_CHUNK_SIZE:
        digit = hex_digit(c);
        if (digit >= 0 && s->digits < 15) {
            s->left = s->left << 4 | (uint64_t)digit;
            s->digits++;
            return;
        }
        if (digit >= 0 || s->digits == 0) {
            break;
        }
        s->state = c == '\r' ? H1_CHUNK_SIZE_LF : c == ';' ? H1_CHUNK_EXT : c == ' ' || c == '\t' ? H1_CHUNK_BLANK : H1_CHUNKS_BAD;
        return;
    case H1_CHUNK_BLANK:
        if (++s->extensions > H1_EXTENSIONS_MAX) {
            break;
        }
        s->state = c == '\r' ? H1_CHUNK_SIZE_LF : c == ';' ? H1_CHUNK_EXT : c == ' ' || c == '\t' ? H1_CHUNK_BLANK : H1_CHUNKS_BAD;
        return;
    case H1_CHUNK_EXT:
        if (c == '\r') {
            s->state = H1_CHUNK_SIZE_LF;
            return;
        }
        if (!http_value_char(c) || ++s->extensions > H1_EXTENSIONS_MAX) {
            break;
        }
        return;
    case H1_CHUNK_SIZE_LF:
        if (c != '\n') {
            break;
        }
        s->state = s->left > 0 ? H1_CHUNK_DATA : H1_TRAILER_START;
        return;
    case H1_CHUNK_CR:
        if (c != '\r') {
            break;
        }
        s->state = H1_CHUNK_LF;
        return;
    case H1_CHUNK_LF:
        if (c != '\n') {
            break;
        }
        s->state = H1_CHUNK_SIZE;
        s->digits = 0;
        return;
    case H1_TRAILER_START:
        if (c == '\r') {
            s->state = H1_LAST_LF;
            return;
        }
        if (!http_token_char(c)) {
            break;
        }
        s->state = H1_TRAILER_NAME;
        s->trailers++;
        return;
    case H1_TRAILER_NAME:
        if (++s->trailers > H1_TRAILERS_MAX || (c != ':' && !http_token_char(c))) {
            break;
        }
        s->state = c == ':' ? H1_TRAILER_VALUE : H1_TRAILER_NAME;
        return;
    case H1_TRAILER_VALUE:
        if (c == '\r') {
            s->state = H1_TRAILER_LF;
            return;
        }
        if (++s->trailers > H1_TRAILERS_MAX || !http_value_char(c)) {
            break;
        }
        return;
    case H1_TRAILER_LF:
        if (c != '\n') {
            break;
        }
        s->state = H1_TRAILER_START;
        return;
    case H1_LAST_LF:
        if (c != '\n') {
            break;
        }
        s->state = H1_CHUNKS_DONE;
        return;
    default:
        break;
    }
    s->state = H1_CHUNKS_BAD;
}

size_t h1_chunks_next(struct h1_chunks *s, const uint8_t *p, size_t n, const uint8_t **data, size_t *len)
{
    *data = p;
    *len = 0;
    size_t at = 0;
    while (at < n && s->state != H1_CHUNKS_DONE && s->state != H1_CHUNKS_BAD) {
        if (s->state == H1_CHUNK_DATA) {
            *data = p + at;
            *len = (size_t)min_u64(s->left, n - at);
            s->left -= *len;
            if (s->left == 0) {
                s->state = H1_CHUNK_CR;
            }
            return at + *len;
        }
        chunk_byte(s, p[at++]);
    }
    return at;
}
