/* Signature version 4: published examples, what is missing, what does not match, clocks. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

#include "proto/base.h"
#include "server/aws/aws_signature.h"
#include "server/aws/aws_time.h"

#define SECRET "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"
#define EMPTY_HASH "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
enum { NOW = 1440938160 }; /* 20150830T123600Z */

static struct aws_text text_of(const char *s) { return (struct aws_text){s, strlen(s)}; }

struct request {
    struct aws_request r;
    struct aws_header headers[16];
    struct arena arena;
};

static void begin(struct request *q, const char *method, const char *target)
{
    memset(q, 0, sizeof(*q));
    q->r = (struct aws_request){.method = text_of(method), .target = text_of(target), .headers = q->headers};
    arena_init(&q->arena, AWS_SIGNATURE_MEMORY);
}

static void header(struct request *q, const char *name, const char *value)
{
    q->headers[q->r.n_headers++] = (struct aws_header){text_of(name), text_of(value)};
}

/* Sets a header that is there already. */
static void change(struct request *q, const char *name, const char *value)
{
    for (unsigned i = 0; i < q->r.n_headers; i++) {
        if (aws_text_is(q->headers[i].name, name)) {
            q->headers[i].value = text_of(value);
            return;
        }
    }
    fail_msg("no header %s", name);
}

static struct aws_signature scope(const char *date, const char *service, const char *signed_headers)
{
    return (struct aws_signature){.date = text_of(date), .region = text_of("us-east-1"), .service = text_of(service), .signed_headers = text_of(signed_headers)};
}

static void expect_signature(struct request *q, const struct aws_signature *s, const char *secret, const char *timestamp, const char *payload_hash, const char *expected)
{
    uint8_t key[AWS_SHA256];
    char out[2 * AWS_SHA256 + 1] = "";
    aws_signing_key(text_of(secret), s->date, s->region, s->service, key);
    assert_true(aws_signature_compute(&q->r, s, &q->arena, text_of(timestamp), key, text_of(payload_hash), out));
    assert_string_equal(out, expected);
}

/* ---- published examples -------------------------------------------------------------------------------------------------- */

static void test_published_signatures(void **state)
{
    (void)state;
    struct request q;
    begin(&q, "GET", "/?Action=ListUsers&Version=2010-05-08");
    header(&q, "Content-Type", "application/x-www-form-urlencoded; charset=utf-8");
    header(&q, "Host", "iam.amazonaws.com");
    header(&q, "X-Amz-Date", "20150830T123600Z");
    struct aws_signature s = scope("20150830", "iam", "content-type;host;x-amz-date");
    expect_signature(&q, &s, SECRET, "20150830T123600Z", EMPTY_HASH, "5d672d79c15b13162d9279b0855cfba6789a8edb4c82c400e06b5924a6f2b5d7");
    uint8_t key[AWS_SHA256];
    aws_signing_key(text_of(SECRET), text_of("20150830"), text_of("us-east-1"), text_of("iam"), key);
    static const uint8_t expected[AWS_SHA256] = {0xc4, 0xaf, 0xb1, 0xcc, 0x57, 0x71, 0xd8, 0x71, 0x76, 0x3a, 0x39, 0x3e, 0x44, 0xb7, 0x03, 0x57,
                                                 0x1b, 0x55, 0xcc, 0x28, 0x42, 0x4d, 0x1a, 0x5e, 0x86, 0xda, 0x6e, 0xd3, 0xc1, 0x54, 0xa4, 0xb9};
    assert_memory_equal(key, expected, sizeof(key));
    arena_deinit(&q.arena);

    begin(&q, "GET", "/");
    header(&q, "Host", "example.amazonaws.com");
    header(&q, "X-Amz-Date", "20150830T123600Z");
    s = scope("20150830", "service", "host;x-amz-date");
    expect_signature(&q, &s, SECRET, "20150830T123600Z", EMPTY_HASH, "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31");
    /* Segments that lead nowhere do not count. */
    q.r.target = text_of("//a/.././");
    expect_signature(&q, &s, SECRET, "20150830T123600Z", EMPTY_HASH, "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31");
    arena_deinit(&q.arena);
}

static void test_published_chunks(void **state)
{
    (void)state;
    struct aws_signature s = scope("20130524", "s3", "");
    uint8_t key[AWS_SHA256], hash[AWS_SHA256];
    aws_signing_key(text_of("wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"), s.date, s.region, s.service, key);
    char *a = malloc(65536);
    memset(a, 'a', 65536);
    static const struct {
        size_t n;
        const char *signature;
    } chunks[] = {
        {65536, "ad80c730a21e5b8d04586a2213dd63b9a0e99e0e2307b0ade35a65485a288648"},
        {1024, "0055627c9e194cb4542bae2aa5492e3c1575bbb81b612b7d234b86a503ef5497"},
        {0, "b6c6ea8a5354eaf15b3cb7646744f4275b71ea724fed81ceb9323e279d449df9"},
    };
    const char *previous = "4f232c4386841ef735655705268965c44a0e4690baa4adea153f7db9fa80a0a9";
    char out[2 * AWS_SHA256 + 1];
    for (size_t i = 0; i < ARRAY_LEN(chunks); i++) {
        aws_sha256(hash, a, chunks[i].n);
        aws_signature_chunk(&s, text_of("20130524T000000Z"), key, previous, hash, out);
        assert_string_equal(out, chunks[i].signature);
        previous = chunks[i].signature;
    }
    free(a);
}

/* ---- parts that are missing ---------------------------------------------------------------------------------------------------- */

static void expect_parse(struct request *q, enum aws_error e, const char *message)
{
    struct aws_signature s;
    const char *told;
    assert_int_equal(aws_signature_parse(&q->r, &q->arena, &s, &told), e);
    if (message != NULL) {
        assert_string_equal(told, message);
    } else {
        assert_null(told);
    }
    arena_deinit(&q->arena);
}

static void test_missing_parts(void **state)
{
    (void)state;
    struct request q;
    begin(&q, "POST", "/");
    expect_parse(&q, AWS_E_MissingAuthenticationTokenException, "Missing Authentication Token");
    begin(&q, "POST", "/?X-Amz-Algorithm");
    header(&q, "Authorization", "x");
    expect_parse(&q, AWS_E_InvalidSignatureException, "Found both 'X-Amz-Algorithm' as a query-string param and 'Authorization' as HTTP header.");
    begin(&q, "POST", "/");
    header(&q, "Authorization", "AWS4-HMAC-SHA256 Signature=b,Credential=a");
    expect_parse(&q, AWS_E_IncompleteSignatureException,
                 "Authorization header requires 'SignedHeaders' parameter. Authorization header requires existence of either a 'X-Amz-Date' or a 'Date' header. "
                 "Authorization=AWS4-HMAC-SHA256 Signature=b,Credential=a");
    begin(&q, "POST", "/");
    header(&q, "Authorization", "X");
    header(&q, "Date", "x");
    expect_parse(&q, AWS_E_IncompleteSignatureException,
                 "Authorization header requires 'Credential' parameter. Authorization header requires 'Signature' parameter. Authorization header requires "
                 "'SignedHeaders' parameter. Authorization=X");
    begin(&q, "POST", "/?X-Amz-Algorithm=a&X-Amz-Date=b");
    expect_parse(&q, AWS_E_IncompleteSignatureException,
                 "AWS query-string parameters must include 'X-Amz-Credential'. AWS query-string parameters must include 'X-Amz-Signature'. AWS query-string "
                 "parameters must include 'X-Amz-SignedHeaders'. Re-examine the query-string parameters.");
    begin(&q, "POST", "/");
    header(&q, "Authorization", "AWS4-HMAC-SHA256 Credential=a/b/c, SignedHeaders=d, Signature=e");
    header(&q, "X-Amz-Date", "a");
    expect_parse(&q, AWS_E_NONE, NULL);
}

/* ---- verifying --------------------------------------------------------------------------------------------------------------------- */

/* A good request with its signature; the authorization header's text stays in `line`. */
static void good(struct request *q, char line[1024])
{
    begin(q, "POST", "/?b=2&a=%7e%20x&a=");
    header(q, "host", "localhost:4567");
    header(q, "x-amz-date", "20150830T123600Z");
    header(q, "x-amz-target", "Kinesis_20131202.ListStreams");
    header(q, "content-type", "  application/x-amz-json-1.1 ");
    header(q, "x-two", "a   b");
    header(q, "x-two", "c");
    struct aws_signature s = scope("20150830", "kinesis", "content-type;host;x-amz-date;x-amz-target;x-two");
    uint8_t key[AWS_SHA256];
    char out[2 * AWS_SHA256 + 1];
    aws_signing_key(text_of(SECRET), s.date, s.region, s.service, key);
    assert_true(aws_signature_compute(&q->r, &s, &q->arena, text_of("20150830T123600Z"), key, text_of(EMPTY_HASH), out));
    snprintf(line, 1024, "AWS4-HMAC-SHA256 Credential=ab/c/20150830/us-east-1/kinesis/aws4_request, SignedHeaders=%.*s, Signature=%s", (int)s.signed_headers.n,
             s.signed_headers.p, out);
    header(q, "authorization", line);
}

static enum aws_error verify(struct request *q, int64_t now_s, const char *secret, const char **message)
{
    struct aws_signature s;
    enum aws_error e = aws_signature_parse(&q->r, &q->arena, &s, message);
    if (e != AWS_E_NONE) {
        return e;
    }
    uint8_t key[AWS_SHA256], hash[AWS_SHA256];
    aws_sha256(hash, "", 0);
    aws_signing_key(text_of(secret), s.date, s.region, s.service, key);
    struct aws_verify_options o = {.now_s = now_s, .region = "us-east-1", .service = "kinesis", .key = key, .body_sha256 = hash};
    return aws_signature_verify(&q->r, &s, &q->arena, &o, message);
}

static void expect_verify(struct request *q, int64_t now_s, const char *secret, enum aws_error wanted, const char *part)
{
    const char *message;
    enum aws_error e = verify(q, now_s, secret, &message);
    if (e != wanted || (part != NULL && strstr(message, part) == NULL)) {
        fail_msg("%d: %s", e, message);
    }
    arena_deinit(&q->arena);
}

static const char mismatch[] = "does not match the signature you provided";

static void test_a_signed_request_and_each_thing_that_may_be_wrong(void **state)
{
    (void)state;
    struct request q;
    char line[1024];
    struct aws_signature s;
    const char *message;
    good(&q, line);
    assert_int_equal(aws_signature_parse(&q.r, &q.arena, &s, &message), AWS_E_NONE);
    assert_true(aws_text_is(s.access_key, "ab/c") && aws_text_is(s.date, "20150830") && aws_text_is(s.region, "us-east-1") && aws_text_is(s.service, "kinesis"));
    expect_verify(&q, NOW, SECRET, AWS_E_NONE, NULL);
    good(&q, line);
    expect_verify(&q, NOW, "another", AWS_E_InvalidSignatureException, mismatch);
    good(&q, line);
    change(&q, "x-amz-target", "Kinesis_20131202.DeleteStream");
    expect_verify(&q, NOW, SECRET, AWS_E_InvalidSignatureException, mismatch);
    good(&q, line);
    change(&q, "host", "localhost:4568");
    expect_verify(&q, NOW, SECRET, AWS_E_InvalidSignatureException, mismatch);
    good(&q, line);
    change(&q, "x-two", "a b"); /* blanks do not count */
    q.r.target = text_of("/?a=&a=~%20x&b=2"); /* nor does the order */
    expect_verify(&q, NOW, SECRET, AWS_E_NONE, NULL);
    good(&q, line);
    q.r.target = text_of("/?a=&a=~%20x&b=3");
    expect_verify(&q, NOW, SECRET, AWS_E_InvalidSignatureException, mismatch);
    good(&q, line);
    q.r.method = text_of("PUT");
    expect_verify(&q, NOW, SECRET, AWS_E_InvalidSignatureException, mismatch);
    good(&q, line);
    header(&q, "X-Two", "d");
    expect_verify(&q, NOW, SECRET, AWS_E_InvalidSignatureException, mismatch);
    good(&q, line);
    header(&q, "x-amz-security-token", "d");
    expect_verify(&q, NOW, SECRET, AWS_E_InvalidSignatureException, "'x-amz-security-token' must be a 'SignedHeader'");
    good(&q, line);
    line[strlen(line) - 1] ^= 1;
    expect_verify(&q, NOW, SECRET, AWS_E_InvalidSignatureException, mismatch);
    good(&q, line);
    line[strlen(line) - 1] = '\0';
    change(&q, "authorization", line);
    expect_verify(&q, NOW, SECRET, AWS_E_InvalidSignatureException, mismatch);
    static const struct {
        const char *was, *is, *told;
        enum aws_error e;
    } scopes[] = {
        {"/kinesis/", "/kinesos/", "correct service: 'kinesis'", AWS_E_InvalidSignatureException},
        {"us-east-1", "us-west-2", "valid region, not 'us-west-2'", AWS_E_InvalidSignatureException},
        {"/20150830/", "/20150831/", "'20150831' != '20150830', from '20150830T123600Z'", AWS_E_InvalidSignatureException},
        {"aws4_request", "aws5_request", "exactly 5 slash-delimited elements", AWS_E_IncompleteSignatureException},
        {"AWS4-HMAC-SHA256", "AWS4-HMAC-SHA257", "Unsupported AWS 'algorithm'", AWS_E_IncompleteSignatureException},
        {";host;", ";hast;", "'Host' or ':authority' must be a 'SignedHeader'", AWS_E_InvalidSignatureException},
        {";x-two", ";x-tow", mismatch, AWS_E_InvalidSignatureException},
    };
    for (size_t i = 0; i < ARRAY_LEN(scopes); i++) {
        good(&q, line);
        memcpy(strstr(line, scopes[i].was), scopes[i].is, strlen(scopes[i].is));
        expect_verify(&q, NOW, SECRET, scopes[i].e, scopes[i].told);
    }
}

static void test_clocks(void **state)
{
    (void)state;
    struct request q;
    char line[1024];
    static const struct {
        int64_t now_s;
        const char *told;
    } times[] = {
        {NOW + 300, NULL}, {NOW - 300, NULL},
        {NOW + 301, "Signature expired: 20150830T123600Z is now earlier than 20150830T123601Z (20150830T124101Z - 5 min.)"},
        {NOW - 301, "Signature not yet current: 20150830T123600Z is still later than 20150830T123559Z (20150830T123059Z + 5 min.)"},
    };
    for (size_t i = 0; i < ARRAY_LEN(times); i++) {
        good(&q, line);
        expect_verify(&q, times[i].now_s, SECRET, times[i].told != NULL ? AWS_E_InvalidSignatureException : AWS_E_NONE, times[i].told);
    }
    good(&q, line);
    change(&q, "x-amz-date", "20150830T123600");
    expect_verify(&q, NOW, SECRET, AWS_E_IncompleteSignatureException, "Date must be in ISO-8601");
}

static void test_payload_that_is_not_signed(void **state)
{
    (void)state;
    struct request q;
    begin(&q, "POST", "/");
    header(&q, "host", "h");
    header(&q, "x-amz-date", "20150830T123600Z");
    header(&q, "x-amz-content-sha256", "UNSIGNED-PAYLOAD");
    struct aws_signature s = scope("20150830", "kinesis", "host;x-amz-content-sha256;x-amz-date");
    uint8_t key[AWS_SHA256], hash[AWS_SHA256];
    char out[2 * AWS_SHA256 + 1];
    aws_signing_key(text_of(SECRET), s.date, s.region, s.service, key);
    assert_true(aws_signature_compute(&q.r, &s, &q.arena, text_of("20150830T123600Z"), key, text_of("UNSIGNED-PAYLOAD"), out));
    s.signature = text_of(out);
    s.algorithm = text_of("AWS4-HMAC-SHA256");
    s.timestamp = text_of("20150830T123600Z");
    s.scoped = true;
    aws_sha256(hash, "any body", 8);
    struct aws_verify_options o = {.now_s = NOW, .region = "us-east-1", .service = "kinesis", .key = key, .body_sha256 = hash};
    const char *message;
    assert_int_equal(aws_signature_verify(&q.r, &s, &q.arena, &o, &message), AWS_E_InvalidSignatureException);
    o.unsigned_payload = true;
    assert_int_equal(aws_signature_verify(&q.r, &s, &q.arena, &o, &message), AWS_E_NONE);
    arena_deinit(&q.arena);
}

static void test_a_query_beyond_its_bounds(void **state)
{
    (void)state;
    char target[4096] = "/?X-Amz-Algorithm=a";
    size_t n = strlen(target);
    for (int i = 0; i < 70; i++) {
        n += (size_t)snprintf(target + n, sizeof(target) - n, "&p%d=", i);
    }
    struct request q;
    begin(&q, "POST", target);
    expect_parse(&q, AWS_E_IncompleteSignatureException, "The query string cannot be read, or is too long.");
    begin(&q, "POST", "/?a=%g0");
    expect_parse(&q, AWS_E_IncompleteSignatureException, "The query string cannot be read, or is too long.");
}

static void test_times(void **state)
{
    (void)state;
    int64_t s;
    char text[AWS_TIME_LONG_SIZE];
    assert_true(aws_time_parse(text_of("Sun, 30 Aug 2015 12:36:00 GMT"), &s) && s == NOW);
    assert_true(aws_time_parse(text_of("20150830T123600Z"), &s) && s == NOW);
    assert_true(aws_time_parse(text_of("19700101T000000Z"), &s) && s == 0);
    assert_true(aws_time_parse(text_of("20000229T235959Z"), &s) && s == 951868799);
    static const char *const bad[] = {"", "20151330T123600Z", "20150830T243600Z", "20150830X123600Z", "2015083aT123600Z", "Sun, 30 Abc 2015 12:36:00 GMT", "Sun, 30 Aug 2015 12:36:00 CET"};
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        assert_false(aws_time_parse(text_of(bad[i]), &s));
    }
    /* Every day of 800 years there and back. */
    for (int64_t day = -141427; day < 150000; day++) {
        aws_time_basic(text, day * 86400 + 86399);
        assert_true(aws_time_parse(text_of(text), &s));
        assert_int_equal(s, day * 86400 + 86399);
    }
    aws_time_long(text, 1421889722);
    assert_string_equal(text, "Thu Jan 22 01:22:02 UTC 2015");
    aws_time_http(text, NOW);
    assert_string_equal(text, "Sun, 30 Aug 2015 12:36:00 GMT");
    aws_time_long(text, INT64_MAX);
    assert_string_equal(text, "Fri Dec 31 23:59:59 UTC 9999");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_published_signatures),
        cmocka_unit_test(test_published_chunks),
        cmocka_unit_test(test_missing_parts),
        cmocka_unit_test(test_a_signed_request_and_each_thing_that_may_be_wrong),
        cmocka_unit_test(test_clocks),
        cmocka_unit_test(test_payload_that_is_not_signed),
        cmocka_unit_test(test_a_query_beyond_its_bounds),
        cmocka_unit_test(test_times),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
