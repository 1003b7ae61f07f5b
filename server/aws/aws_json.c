/* aws_json.c: a strict JSON reader (RFC 8259) that works in place. */
#include <stdlib.h>

#include "proto/base.h"
#include "server/aws/aws_source.h"
#include "server/aws/utf8.h"

enum { NUMBER_MAX = 63 }; /* characters of a number: none that makes sense is longer */

static void blanks(struct aws_source *s)
{
    while (s->at < s->end && (*s->at == ' ' || *s->at == '\n' || *s->at == '\t' || *s->at == '\r')) {
        s->at++;
    }
}

bool aws_json_ended(struct aws_source *s)
{
    blanks(s);
    return s->at == s->end;
}

static bool word(struct aws_source *s, const char *text)
{
    size_t n = strlen(text);
    if ((size_t)(s->end - s->at) < n || memcmp(s->at, text, n) != 0) {
        return false;
    }
    s->at += n;
    return true;
}

static size_t digits(const char *p, const char *end)
{
    size_t n = 0;
    while (p + n < end && p[n] >= '0' && p[n] <= '9') {
        n++;
    }
    return n;
}

static enum aws_token number(struct aws_source *s)
{
    const char *p = s->at;
    bool negative = *p == '-';
    p += negative;
    size_t whole = digits(p, s->end);
    if (whole == 0 || (whole > 1 && *p == '0')) {
        return AWS_TOKEN_BAD;
    }
    const char *first = p;
    p += whole;
    bool integer = true;
    if (p < s->end && *p == '.') {
        size_t fraction = digits(p + 1, s->end);
        if (fraction == 0) {
            return AWS_TOKEN_BAD;
        }
        p += 1 + fraction;
        integer = false;
    }
    if (p < s->end && (*p == 'e' || *p == 'E')) {
        p++;
        p += p < s->end && (*p == '+' || *p == '-');
        size_t exponent = digits(p, s->end);
        if (exponent == 0) {
            return AWS_TOKEN_BAD;
        }
        p += exponent;
        integer = false;
    }
    size_t n = (size_t)(p - s->at);
    if (n > NUMBER_MAX) {
        return AWS_TOKEN_BAD;
    }
    if (integer && whole <= 18) {
        int64_t v = 0;
        for (size_t i = 0; i < whole; i++) {
            v = v * 10 + (first[i] - '0');
        }
        s->integer = negative ? -v : v;
        s->at += n;
        return AWS_TOKEN_INTEGER;
    }
    char copy[NUMBER_MAX + 1];
    memcpy(copy, s->at, n);
    copy[n] = '\0';
    s->number = strtod(copy, NULL);
    s->at += n;
    return AWS_TOKEN_FLOAT;
}

enum aws_token aws_json_next(struct aws_source *s, struct aws_level *level)
{
    blanks(s);
    if (s->at == s->end) {
        return AWS_TOKEN_BAD;
    }
    switch (*s->at) {
    case '{':
    case '[':
        *level = (struct aws_level){.map = *s->at == '{'};
        s->at++;
        return level->map ? AWS_TOKEN_MAP : AWS_TOKEN_LIST;
    case '"':
        s->at++;
        return AWS_TOKEN_TEXT;
    case 't':
    case 'f':
        s->boolean = *s->at == 't';
        return word(s, s->boolean ? "true" : "false") ? AWS_TOKEN_BOOLEAN : AWS_TOKEN_BAD;
    case 'n':
        return word(s, "null") ? AWS_TOKEN_NULL : AWS_TOKEN_BAD;
    default:
        return number(s);
    }
}

int aws_json_more(struct aws_source *s, struct aws_level *level)
{
    blanks(s);
    if (s->at == s->end) {
        return -1;
    }
    if (*s->at == (level->map ? '}' : ']')) {
        s->at++;
        return 0;
    }
    if (level->begun) {
        if (*s->at != ',') {
            return -1;
        }
        s->at++;
    }
    level->begun = true;
    return 1;
}

bool aws_json_key(struct aws_source *s, struct aws_text *key)
{
    blanks(s);
    if (s->at == s->end || *s->at++ != '"' || !aws_json_text(s, key)) {
        return false;
    }
    blanks(s);
    return s->at < s->end && *s->at++ == ':';
}

/* Four hexadecimal digits at p, or -1. */
static int32_t hex4(const char *p, const char *end)
{
    if (end - p < 4) {
        return -1;
    }
    int32_t v = 0;
    for (int i = 0; i < 4; i++) {
        char c = p[i];
        int digit = c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
        if (digit < 0) {
            return -1;
        }
        v = v << 4 | digit;
    }
    return v;
}

/* What stands behind a backslash at s->at, written to out; returns the bytes, 0: bad. Never more than were read. */
static size_t unescape(struct aws_source *s, char *out)
{
    if (s->at == s->end) {
        return 0;
    }
    char c = *s->at++;
    switch (c) {
    case '"':
    case '\\':
    case '/': *out = c; return 1;
    case 'b': *out = '\b'; return 1;
    case 'f': *out = '\f'; return 1;
    case 'n': *out = '\n'; return 1;
    case 'r': *out = '\r'; return 1;
    case 't': *out = '\t'; return 1;
    case 'u': break;
    default: return 0;
    }
    int32_t code = hex4(s->at, s->end);
    if (code < 0 || (code >= 0xdc00 && code < 0xe000)) {
        return 0;
    }
    s->at += 4;
    if (code >= 0xd800 && code < 0xdc00) {
        int32_t low = s->end - s->at >= 2 && s->at[0] == '\\' && s->at[1] == 'u' ? hex4(s->at + 2, s->end) : -1;
        if (low < 0xdc00 || low >= 0xe000) {
            return 0;
        }
        s->at += 6;
        code = 0x10000 + ((code - 0xd800) << 10) + (low - 0xdc00);
    }
    char bytes[4];
    size_t n = utf8_put(bytes, (uint32_t)code);
    memcpy(out, bytes, n);
    return n;
}

/* Characters that end the plain part of a string: quote, backslash, control characters. Eight at a time. */
static char *plain_end(char *p, const char *end)
{
    const uint64_t ones = 0x0101010101010101ULL, tops = 0x8080808080808080ULL;
    while (end - p >= 8) {
        uint64_t v = get_u64(p);
        uint64_t quote = v ^ ones * '"', backslash = v ^ ones * '\\';
        /* A byte of these is below its bound (and below 0x80) where the subtraction borrows; the first one found is right. */
        uint64_t found = ((quote - ones) & ~quote) | ((backslash - ones) & ~backslash) | ((v - ones * 0x20) & ~v);
        found &= tops;
        if (found != 0) {
            return p + (__builtin_ctzll(found) >> 3);
        }
        p += 8;
    }
    while (p < end && *p != '"' && *p != '\\' && (uint8_t)*p >= 0x20) {
        p++;
    }
    return p;
}

bool aws_json_text(struct aws_source *s, struct aws_text *text)
{
    char *start = s->at;
    char *out = start;
    for (;;) {
        char *stop = plain_end(s->at, s->end);
        size_t n = (size_t)(stop - s->at);
        if (out != s->at) {
            memmove(out, s->at, n);
        }
        out += n;
        s->at = stop;
        if (stop == s->end || (*stop != '"' && *stop != '\\')) {
            return false;
        }
        s->at++;
        if (*stop == '"') {
            break;
        }
        size_t put = unescape(s, out);
        if (put == 0) {
            return false;
        }
        out += put;
    }
    *text = (struct aws_text){start, (size_t)(out - start)};
    return utf8_valid(start, text->n);
}
