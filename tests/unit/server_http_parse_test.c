/* Pure parts of the HTTP layer: heads of HTTP/1, chunked bodies, numbers. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "proto/base.h"
#include "server/http/h1_parse.h"

static struct http_header headers[8];

/* As a connection would do it. 0: taken; a status; -1: no head; 1: more is needed. */
static int parse(const char *text, struct h1_head *out)
{
    size_t n = strlen(text), scanned = 0;
    long len = h1_head_end(text, n, &scanned);
    if (len <= 0) {
        return len < 0 ? -1 : 1;
    }
    char *copy = malloc((size_t)len); /* of exactly that size, so that a sanitizer sees a byte too many; leaked views are not looked at */
    memcpy(copy, text, (size_t)len);
    int status = h1_head_parse(copy, (size_t)len, headers, ARRAY_LEN(headers), out);
    free(copy);
    if (status == 0) {
        status = h1_head_parse(text, (size_t)len, headers, ARRAY_LEN(headers), out);
    }
    return status;
}

static void heads_that_are_taken(void **state)
{
    (void)state;
    struct h1_head h;
    assert_int_equal(parse("POST /a/b?c=d HTTP/1.1\r\nHost: x:1\r\nContent-Length: 12\r\nX-A:  b c \t\r\nEmpty:\r\n\r\n", &h), 0);
    assert_true(http_view_is(h.method, "POST"));
    assert_true(http_view_is(h.target, "/a/b?c=d"));
    assert_int_equal(h.content_length, 12);
    assert_int_equal(h.n_headers, 4);
    assert_true(http_view_is(headers[2].value, "b c"));
    assert_true(http_view_is(headers[3].value, ""));
    assert_true(h.keep_alive);
    assert_false(h.chunked);
    assert_int_equal(parse("GET / HTTP/1.1\r\nhost: a\r\nConnection: foo , CLOSE\r\ntransfer-encoding: Chunked\r\nexpect: 100-Continue\r\n\r\n", &h), 0);
    assert_false(h.keep_alive);
    assert_true(h.chunked);
    assert_true(h.expect_continue);
    assert_int_equal(h.content_length, UINT64_MAX);
    assert_int_equal(parse("GET / HTTP/1.0\r\n\r\n", &h), 0);
    assert_false(h.keep_alive);
    assert_int_equal(parse("GET http://a.b:80/c?d HTTP/1.1\r\nHost: a\r\n\r\n", &h), 0);
    assert_true(http_view_is(h.target, "/c?d"));
    assert_int_equal(parse("GET HTTPS://a.b HTTP/1.1\r\nHost: a\r\n\r\n", &h), 0);
    assert_true(http_view_is(h.target, "/"));
    assert_int_equal(parse("OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n", &h), 0);
}

static void heads_that_are_refused(void **state)
{
    (void)state;
    static const struct { int status; const char *text; } cases[] = {
        {1, ""}, {1, "GET / HT"}, {1, "GET / HTTP/1.1\r\nHost: a\r\n"}, {1, "GET / HTTP/1.1\r\nHost: a\r\n\r"},
        {-1, " GET / HTTP/1.1\r\nHost: a\r\n\r\n"}, {-1, "\x16\x03\x01"}, {-1, "SL\n"},
        {-1, "GET / HTTP/1.1\nHost: a\n\n"}, {-1, "GET / HTTP/1.1\r\nHost: a\n\r\n"}, {-1, "GET / HTTP/1.1\r\nHost: a\r\nX: b\n\nGET / HTTP/1.1\r\n\r\n"},
        {400, "GET / HTTP/1.1\r\nHost: a\rX: b\r\n\r\n"}, {400, "GET / HTTP/1.1\r\nHost: a\r\n X: folded\r\n\r\n"}, {400, "GET / HTTP/1.1\r\nHost: a\r\n\tfolded\r\n\r\n"},
        {400, "GET / HTTP/1.1\r\nHost : a\r\n\r\n"}, {400, "GET / HTTP/1.1\r\n: a\r\n\r\n"}, {400, "GET / HTTP/1.1\r\nHost: a\r\nno colon\r\n\r\n"},
        {400, "GET / HTTP/1.1\r\nHost: a\r\nX: a\x01" "b\r\n\r\n"}, {400, "GET / HTTP/1.1\r\nHost: a\r\nX: \x7f\r\n\r\n"},
        {400, "GET / HTTP/1.1\r\n\r\n"}, {400, "GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n"}, {400, "GET / HTTP/1.1\r\nHost:\r\n\r\n"}, {400, "GET / HTTP/1.1\r\nHost: a/b\r\n\r\n"},
        {400, "GET / HTTP/1.1\r\nHost: a b\r\n\r\n"}, {400, "GET  / HTTP/1.1\r\nHost: a\r\n\r\n"}, {400, "GET / x HTTP/1.1\r\nHost: a\r\n\r\n"}, {400, "GET /\r\nHost: a\r\n\r\n"},
        {400, "GET a HTTP/1.1\r\nHost: a\r\n\r\n"}, {400, "GET * HTTP/1.1\r\nHost: a\r\n\r\n"}, {400, "CONNECT a:1 HTTP/1.1\r\nHost: a\r\n\r\n"}, {400, "GET http:///a HTTP/1.1\r\nHost: a\r\n\r\n"},
        {400, "GET /\x80 HTTP/1.1\r\nHost: a\r\n\r\n"}, {400, "GET / http/1.1\r\nHost: a\r\n\r\n"}, {400, "GET / HTTP/1.12\r\nHost: a\r\n\r\n"}, {400, "G@T / HTTP/1.1\r\nHost: a\r\n\r\n"},
        {505, "GET / HTTP/2.0\r\nHost: a\r\n\r\n"}, {505, "GET / HTTP/1.2\r\nHost: a\r\n\r\n"},
        {400, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\n"}, {400, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1, 1\r\n\r\n"},
        {400, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: +1\r\n\r\n"}, {400, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n"}, {400, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0x1\r\n\r\n"},
        {400, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length:\r\n\r\n"}, {400, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999999999999999\r\n\r\n"},
        {400, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n"}, {400, "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nContent-Length: 1\r\n\r\n"},
        {400, "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n"}, {400, "POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n"},
        {501, "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n"}, {501, "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: identity\r\n\r\n"},
        {501, "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: xchunked\r\n\r\n"}, {417, "POST / HTTP/1.1\r\nHost: a\r\nExpect: coffee\r\n\r\n"},
        {431, "GET / HTTP/1.1\r\nHost: a\r\na:1\r\na:1\r\na:1\r\na:1\r\na:1\r\na:1\r\na:1\r\na:1\r\n\r\n"},
    };
    for (unsigned i = 0; i < ARRAY_LEN(cases); i++) {
        struct h1_head h;
        int status = parse(cases[i].text, &h);
        if (status != cases[i].status) {
            fail_msg("%d instead of %d: %s", status, cases[i].status, cases[i].text);
        }
    }
}

/* Wherever the bytes are cut, the end of the head is found at the same place. */
static void heads_in_pieces(void **state)
{
    (void)state;
    const char *text = "GET / HTTP/1.1\r\nHost: a\r\nX: yz\r\n\r\nGET /";
    size_t head = strlen(text) - 5;
    for (size_t first = 0; first < head; first++) {
        for (size_t second = first; second < head; second++) {
            size_t scanned = 0;
            assert_int_equal(h1_head_end(text, first, &scanned), 0);
            assert_int_equal(h1_head_end(text, second, &scanned), 0);
            assert_int_equal(h1_head_end(text, strlen(text), &scanned), head);
        }
    }
}

/* Decodes in pieces of `step` bytes. Returns the state; *used: bytes up to the end. */
static int unchunk(const char *text, size_t step, char out[256], size_t *used)
{
    struct h1_chunks s = {0};
    size_t n = strlen(text), at = 0, filled = 0;
    while (at < n && s.state != H1_CHUNKS_DONE && s.state != H1_CHUNKS_BAD) {
        const uint8_t *data;
        size_t len, part = min_u64(step, n - at);
        size_t took = h1_chunks_next(&s, (const uint8_t *)text + at, part, &data, &len);
        assert_true(took > 0 && took <= part && filled + len < 256);
        memcpy(out + filled, data, len);
        filled += len;
        at += took;
    }
    out[filled] = '\0';
    *used = at;
    return s.state;
}

static void chunks(void **state)
{
    (void)state;
    char out[256];
    size_t used;
    for (size_t step = 1; step < 60; step++) {
        const char *text = "5\r\nhello\r\n00A;x=\"y\" z\r\n, world...\r\n0 \t;end\r\nTrailer: a b\r\nOther:\r\n\r\nrest";
        assert_int_equal(unchunk(text, step, out, &used), H1_CHUNKS_DONE);
        assert_string_equal(out, "hello, world...");
        assert_string_equal(text + used, "rest");
    }
    static const char *bad[] = {"\r\n", "5\nhello", "5\r\nhello\n", "5\r\nhelloX", "5 5\r\n", "-1\r\n", "0x5\r\n", "1234567890123456\r\n", "5;a\nb\r\n", "5;\x01\r\n", "g\r\n", "0\r\n folded\r\n",
                                "0\r\nno colon\r\n", "0\r\n\rX", "0\r\na:b\n", "0\r\n:b\r\n\r\n" /* an empty name */, ";x\r\n"};
    for (unsigned i = 0; i < ARRAY_LEN(bad); i++) {
        for (size_t step = 1; step < 20; step++) {
            if (unchunk(bad[i], step, out, &used) != H1_CHUNKS_BAD) {
                fail_msg("taken: %s", bad[i]);
            }
        }
    }
    /* Extensions and trailers are bounded over the whole body. */
    struct h1_chunks s = {0};
    const uint8_t *data;
    size_t len;
    unsigned i = 0;
    for (; i < 100000 && s.state != H1_CHUNKS_BAD; i++) {
        static const uint8_t chunk[] = "1;xxxxxxxx\r\na\r\n";
        for (size_t at = 0; at < sizeof chunk - 1 && s.state != H1_CHUNKS_BAD;) {
            at += h1_chunks_next(&s, chunk + at, sizeof chunk - 1 - at, &data, &len);
        }
    }
    assert_true(i <= H1_EXTENSIONS_MAX / 8 + 1);
}

static void numbers(void **state)
{
    (void)state;
    uint64_t n;
    assert_true(http_number(http_view_of("0"), &n) && n == 0);
    assert_true(http_number(http_view_of("9999999999999999999"), &n) && n == 9999999999999999999u);
    assert_false(http_number(http_view_of(""), &n));
    assert_false(http_number(http_view_of("10000000000000000000"), &n));
    assert_false(http_number(http_view_of(" 1"), &n));
    assert_false(http_number(http_view_of("1a"), &n));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(heads_that_are_taken), cmocka_unit_test(heads_that_are_refused), cmocka_unit_test(heads_in_pieces), cmocka_unit_test(chunks), cmocka_unit_test(numbers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
