/* What the client says to the Kinesis API and understands of it: signed heads, bodies put together from entries, answers in both formats. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "client/kinesis_answer.h"
#include "client/kinesis_request.h"
#include "proto/base.h"

/* ---- heads ---- */

#define NOON 1769862896000ull /* 2026-01-31 12:34:56 UTC */

static void test_a_head_is_signed_as_botocore_signs_it(void **state)
{
    (void)state;
    static const char body[] = "{\"StreamName\":\"bench\"}";
    static const char *const signatures[] = {"ad77cdb4e69852543ec3ff817321cfcf58e05b360d96a4ca032e2d737aeed313", "0a0b51b7607815c93b249d9edacdfc8c066aea43c6d0331c988fb59c3257c860"};
    struct kinesis_signer s;
    assert_true(kinesis_signer_init(&s, "AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY", "eu-west-1", "127.0.0.1:4567"));
    struct iovec pieces[2] = {{(char *)(uintptr_t)body, 5}, {(char *)(uintptr_t)body + 5, sizeof body - 1 - 5}};
    uint8_t sha256[KINESIS_SHA256];
    kinesis_hash(pieces, 2, sha256);
    char head[KINESIS_HEAD_MAX], other[KINESIS_HEAD_MAX], expected[KINESIS_HEAD_MAX];
    for (int cbor = 0; cbor < 2; cbor++) {
        size_t n = kinesis_head(&s, "PutRecords", cbor, NOON, sha256, sizeof body - 1, head);
        snprintf(expected, sizeof expected, "POST / HTTP/1.1\r\nHost: 127.0.0.1:4567\r\nContent-Type: application/x-amz-%s-1.1\r\nX-Amz-Date: 20260131T123456Z\r\n"
                 "X-Amz-Target: Kinesis_20131202.PutRecords\r\nAuthorization: AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20260131/eu-west-1/kinesis/aws4_request, "
                 "SignedHeaders=content-type;host;x-amz-date;x-amz-target, Signature=%s\r\nUser-Agent: sluice-bench/" SLUICE_VERSION "\r\nContent-Length: 22\r\n\r\n",
                 cbor ? "cbor" : "json", signatures[cbor]);
        assert_string_equal(head, expected);
        assert_int_equal(n, strlen(expected));
    }
    /* Another day has another key; back on the first day the first one is made again. */
    kinesis_head(&s, "PutRecords", true, NOON + 86400000, sha256, sizeof body - 1, other);
    assert_non_null(strstr(other, "/20260201/eu-west-1/"));
    assert_null(strstr(other, signatures[1]));
    kinesis_head(&s, "PutRecords", true, NOON, sha256, sizeof body - 1, other);
    assert_string_equal(other, head);
}

static void test_long_credentials_are_refused(void **state)
{
    (void)state;
    struct kinesis_signer s;
    char text[KINESIS_CREDENTIAL_MAX + 2];
    memset(text, 'a', sizeof text - 1);
    text[sizeof text - 1] = '\0';
    assert_false(kinesis_signer_init(&s, text, "s", "r", "h"));
    assert_false(kinesis_signer_init(&s, "a", text, "r", "h"));
    assert_false(kinesis_signer_init(&s, "a", "s", text, "h"));
    assert_true(kinesis_signer_init(&s, text + 1, text + 1, "r", "h"));
}

/* ---- bodies ---- */

/* Three records of which the first and the last are put. */
static size_t body(bool cbor, uint8_t out[1000])
{
    size_t size = kinesis_entry_size(cbor, 2, 4), n = 0;
    uint8_t *entries = malloc(3 * size), prefix[KINESIS_PREFIX_MAX];
    static const char *const data[] = {"abcd", "\xff\xfe\xfd\xfc", "\x00\x01\x02\x03"}, *const keys[] = {"k1", "k2", "k3"};
    for (size_t i = 0; i < 3; i++) {
        kinesis_entry_write(cbor, keys[i], 2, data[i], 4, entries + i * size);
    }
    struct iovec iov[4] = {{prefix, kinesis_prefix_write(cbor, "st", 2, prefix)}, {entries, size}, {entries + 2 * size, size}};
    unsigned pieces = kinesis_body_end(cbor, iov, 3);
    for (unsigned i = 0; i < pieces; i++) {
        memcpy(out + n, iov[i].iov_base, iov[i].iov_len);
        n += iov[i].iov_len;
    }
    free(entries);
    return n;
}

static void test_bodies(void **state)
{
    (void)state;
    uint8_t out[1000];
    static const char json[] = "{\"StreamName\":\"st\",\"Records\":[{\"Data\":\"YWJjZA==\",\"PartitionKey\":\"k1\"},{\"Data\":\"AAECAw==\",\"PartitionKey\":\"k3\"}]}";
    assert_int_equal(body(false, out), sizeof json - 1);
    assert_memory_equal(out, json, sizeof json - 1);
    static const char cbor[] = "\xa2\x6aStreamName\x62st\x67Records\x82\xa2\x64" "Data\x44" "abcd\x6cPartitionKey\x62k1\xa2\x64" "Data\x44\x00\x01\x02\x03\x6cPartitionKey\x62k3";
    assert_int_equal(body(true, out), sizeof cbor - 1);
    assert_memory_equal(out, cbor, sizeof cbor - 1);
    /* Lengths of each size: 23, 24, 255, 256, 65535, 65536 bytes of data, and lists alike. */
    static const struct { size_t n, head; } lengths[] = {{23, 1}, {24, 2}, {255, 2}, {256, 3}, {65535, 3}, {65536, 5}};
    for (size_t i = 0; i < ARRAY_LEN(lengths); i++) {
        assert_int_equal(kinesis_entry_size(true, 0, lengths[i].n), 1 + 5 + lengths[i].head + lengths[i].n + 13 + 1);
    }
    assert_int_equal(kinesis_prefix_write(true, "st", 500, out), 1 + 11 + 3 + 8 + 3);
    assert_memory_equal(out + 23, "\x99\x01\xf4", 3);
}

/* ---- answers ---- */

struct told { unsigned n; bool stored[10]; char code[10][64], message[10][64]; };

static void each(void *user, size_t index, const struct kinesis_outcome *o)
{
    struct told *t = user;
    assert_int_equal(index, t->n);
    t->stored[t->n] = o->stored;
    snprintf(t->code[t->n], 64, "%s", o->code);
    snprintf(t->message[t->n++], 64, "%s", o->message);
}

/* Reads it out of memory of exactly its size, so that a byte too many would be noticed. */
static bool outcomes(bool cbor, const char *text, size_t n, size_t expected, struct told *t)
{
    *t = (struct told){0};
    char *exact = malloc(n > 0 ? n : 1);
    memcpy(exact, text, n);
    bool good = kinesis_outcomes_read(cbor, exact, n, expected, each, t);
    assert_int_equal(t->n, good ? expected : 0);
    free(exact);
    return good;
}

static const char json_answer[] = " {\"FailedRecordCount\":1, \"EncryptionType\" : \"NONE\",\"Other\":{\"Records\":[1,-2.5e+3,{\"a\":[]}],\"b\":null},\n"
    "\"Records\":[{\"SequenceNumber\":\"123\",\"ShardId\":\"shardId-000000000001\"},{\"ErrorCode\":\"ProvisionedThroughputExceededException\",\"ErrorMessage\":\"a \\\"slow\\\" shard\"},"
    "{\"ErrorCode\":null,\"SequenceNumber\":\"9\",\"x\":true}, {}]} ";
#define CBOR_RECORDS "\x67Records\x84\xa2\x6eSequenceNumber\x63" "123\x67ShardId\x61s" \
    "\xbf\x69" "ErrorCode\x78\x26ProvisionedThroughputExceededException\x6c" "ErrorMessage\x6e" "a \"slow\" shard\xff" \
    "\xbf\x6eSequenceNumber\x61" "9\x61x\xf5\x61t\xc1\xfb\0\0\0\0\0\0\0\0\xff\xa0"
static const char cbor_definite[] = "\xa3\x71" "FailedRecordCount\x01\x65Other\xa1\x67Records\x82\x01\xf6" CBOR_RECORDS;
static const char cbor_endless[] = "\xbf\x71" "FailedRecordCount\x19\x01\x02\x61" "b\x9f\x41\xff\xff" CBOR_RECORDS "\xff";

static void answer_is_told(bool cbor, const char *text, size_t n)
{
    struct told t;
    assert_true(outcomes(cbor, text, n, 4, &t));
    assert_true(t.stored[0] && !t.stored[1] && t.stored[2] && !t.stored[3]);
    assert_string_equal(t.code[0], "");
    assert_string_equal(t.code[1], "ProvisionedThroughputExceededException");
    assert_true(kinesis_throttled(t.code[1]));
    assert_string_equal(t.message[1], cbor ? "a \"slow\" shard" : "a \\\"slow\\\" shard");
    assert_string_equal(t.code[3], "");
    assert_false(outcomes(cbor, text, n, 3, &t));
    assert_false(outcomes(cbor, text, n, 5, &t));
    for (size_t cut = 0; cut + 1 + (cbor ? 0 : 1) < n; cut++) {
        assert_false(outcomes(cbor, text, cut, 4, &t));
    }
    char more[1000];
    memcpy(more, text, n);
    more[n] = '{';
    assert_false(outcomes(cbor, more, n + 1, 4, &t));
    /* Each bit wrong: whatever is told, nothing is read beyond the end (seen by the sanitizer) and the number is right. */
    for (size_t i = 0; i < n * 8; i++) {
        memcpy(more, text, n);
        more[i / 8] = (char)(more[i / 8] ^ 1 << i % 8);
        outcomes(cbor, more, n, 4, &t);
    }
}

static void test_answers(void **state)
{
    (void)state;
    answer_is_told(false, json_answer, sizeof json_answer - 1);
    answer_is_told(true, cbor_definite, sizeof cbor_definite - 1);
    answer_is_told(true, cbor_endless, sizeof cbor_endless - 1);
}

static void test_answers_that_are_none(void **state)
{
    (void)state;
    struct told t;
    static const char *const json[] = {"", "{", "[]", "{\"Records\":[{}]", "{\"Records\":[{]}", "{\"Records\":[}]}", "{\"Records\"}", "{\"Records\":[{\"a\"}]}", "{\"Records\":[{\"a\":}]}",
                                       "{\"Records\":[{1:2}]}", "{\"Records\":[{}]}}", "{\"Records\":[1]}", "\"Records\"", "{\"Records\":[{\"a\":\"\\"};
    for (size_t i = 0; i < ARRAY_LEN(json); i++) {
        assert_false(outcomes(false, json[i], strlen(json[i]), 1, &t));
    }
    char deep[400] = "{\"a\":";
    memset(deep + 5, '[', 300);
    assert_false(outcomes(false, deep, strlen(deep), 0, &t));
    static const char *const cbor[] = {"\xa1\x67Records\x9b\xff\xff\xff\xff\xff\xff\xff\xff", "\xa1\x7f", "\xa1\x67Records\x9c", "\xa1\x67Records\xff", "\xa1\x01\x01", "\x81\xa0", "\xff", "\xbf\x61\x61\xff",
                                       "\xa1\x67Records\x5b\xff\xff\xff\xff\xff\xff\xff\xff", "\xa1\x67Records\xc1\xc1"};
    for (size_t i = 0; i < ARRAY_LEN(cbor); i++) {
        assert_false(outcomes(true, cbor[i], strlen(cbor[i]), 1, &t));
    }
    assert_true(outcomes(false, "{}", 2, 0, &t));
}

static void test_errors(void **state)
{
    (void)state;
    static const struct { bool cbor; const char *text, *type, *message; bool throttled; } cases[] = {
        {false, "{\"__type\":\"ResourceNotFoundException\",\"message\":\"Stream s under account 1 not found.\"}", "ResourceNotFoundException", "Stream s under account 1 not found.", false},
        {false, "{\"__type\":\"com.amazonaws.kinesis#LimitExceededException\",\"Message\":\"Rate exceeded\"}", "LimitExceededException", "Rate exceeded", true},
        {true, "\xa2\x66__type\x74ValidationException!\x67message\x61m", "ValidationException!", "m", false},
        {false, "<html>502</html>", "", "", false},
        {false, "", "", "", false},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        char type[64], message[200];
        kinesis_error_read(cases[i].cbor, cases[i].text, strlen(cases[i].text), type, message);
        assert_string_equal(type, cases[i].type);
        assert_string_equal(message, cases[i].message);
        assert_int_equal(kinesis_throttled(type), cases[i].throttled);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_head_is_signed_as_botocore_signs_it), cmocka_unit_test(test_long_credentials_are_refused), cmocka_unit_test(test_bodies),
        cmocka_unit_test(test_answers), cmocka_unit_test(test_answers_that_are_none), cmocka_unit_test(test_errors),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
