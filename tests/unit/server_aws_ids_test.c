/* Names in requests of the Kinesis endpoint: shard ids, ARNs, shard iterators, NextTokens. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

#include "proto/base.h"
#include "server/aws/aws_decode.h"
#include "server/aws/aws_ids.h"
#include "server/aws/aws_token.h"
#include "server/aws/base64.h"

static struct aws_text text_of(const char *s) { return (struct aws_text){s, strlen(s)}; }

static void test_shard_ids(void **state)
{
    (void)state;
    static const char *const good[] = {"shardId-000000000007", "shardId-7", "7", "x-7", "-7", "00007"};
    uint32_t shard;
    for (size_t i = 0; i < ARRAY_LEN(good); i++) {
        shard = 0;
        assert_true(aws_shard_id_parse(text_of(good[i]), &shard));
        assert_int_equal(shard, 7);
    }
    static const char *const bad[] = {"", "shardId-", "shardId-a", "shardId-2147483648", "99999999999999999999999", "a", "shard-Id-7", "7 ", "+7"};
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        assert_false(aws_shard_id_parse(text_of(bad[i]), &shard));
    }
    char text[AWS_SHARD_ID_SIZE];
    aws_shard_id_format(text, 2147483647);
    assert_string_equal(text, "shardId-002147483647");
    assert_true(aws_shard_id_parse(text_of(text), &shard) && shard == 2147483647);
}

static void test_arns(void **state)
{
    (void)state;
    static const char *const whole[] = {"arn:aws:kinesis:us-east-1:000000000000:stream/foo", "arn:aws:kinesis:us-east-1:000000000000:stream/f.o-o_/consumer/bar:1565210041"};
    struct aws_arn arn;
    char text[AWS_ARN_SIZE];
    for (size_t i = 0; i < ARRAY_LEN(whole); i++) {
        assert_true(aws_arn_parse(text_of(whole[i]), &arn));
        aws_arn_format(text, &arn);
        assert_string_equal(text, whole[i]);
    }
    assert_true(aws_text_is(arn.stream, "f.o-o_") && aws_text_is(arn.consumer, "bar") && arn.consumer_created_s == 1565210041);
    assert_true(aws_arn_parse(text_of("arn:aws-cn:kinesis:cn-north-1:123456789012:stream/a"), &arn));
    static const char *const bad[] = {
        "", "arn", "arn:aws:kinesis:r:000000000000:stream/", "arn:aws:kinesis:r:00000000000:stream/a", "arn:aws:kinesis:r:000000000000:table/a",
        "arn:gcp:kinesis:r:000000000000:stream/a", "arn:aws:s3:r:000000000000:stream/a", "arn:aws:kinesis:r:000000000000:stream/a/", "arn:aws:kinesis:r:00000000000x:stream/a",
        "arn:aws:kinesis:r:000000000000:stream/a b", "arn:aws:kinesis:r:000000000000:stream/a/consumer/b", "arn:aws:kinesis:r:000000000000:stream/a/consumer/b:",
        "arn:aws:kinesis:r:000000000000:stream/a/consumer/b:x", "arn:aws:kinesis:r:000000000000:stream/a/consumer/:1",
    };
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        assert_false(aws_arn_parse(text_of(bad[i]), &arn));
    }
}

static const struct aws_scope here = {"us-east-1", "000000000000"};

/* What an input names: "name", or the error's message. */
static void expect_named(int op, const char *body, enum aws_error wanted, const char *text)
{
    char *copy = strdup(body);
    struct arena arena;
    arena_init(&arena, AWS_DECODE_MEMORY);
    const struct aws_value *value;
    const char *message;
    assert_int_equal(aws_decode(AWS_JSON, aws_operations[op].input, copy, strlen(copy), &arena, &value, &message), AWS_DECODED);
    struct aws_text name = {NULL, 0};
    struct aws_arn arn = {.consumer_created_s = 0};
    enum aws_error e;
    if (op == AWS_OP_DescribeStream) {
        e = aws_stream_of(value, &here, &arena, &name, &message);
    } else {
        e = op == AWS_OP_TagResource ? aws_resource_of(value, &here, &arena, &arn, &message) : aws_consumer_of(value, &here, &arena, &arn, &message);
        name = arn.consumer.p != NULL ? arn.consumer : arn.stream;
    }
    if (e != wanted) {
        fail_msg("%s: %d %s", body, e, message);
    }
    if (e == AWS_E_NONE) {
        assert_true(aws_text_is(name, text));
    } else {
        assert_string_equal(message, text);
    }
    arena_deinit(&arena);
    free(copy);
}

#define ARN "arn:aws:kinesis:us-east-1:000000000000:stream/foo"

static void test_streams_and_consumers_that_inputs_name(void **state)
{
    (void)state;
    int op = AWS_OP_DescribeStream;
    expect_named(op, "{\"StreamName\":\"foo\"}", AWS_E_NONE, "foo");
    expect_named(op, "{\"StreamARN\":\"" ARN "\"}", AWS_E_NONE, "foo");
    expect_named(op, "{\"StreamARN\":\"" ARN "\",\"StreamName\":\"foo\"}", AWS_E_NONE, "foo");
    expect_named(op, "{\"StreamARN\":\"" ARN "\",\"StreamName\":\"bar\"}", AWS_E_InvalidArgumentException, "StreamARN " ARN " does not match StreamName bar.");
    expect_named(op, "{}", AWS_E_InvalidArgumentException, "Either StreamARN or StreamName must be provided.");
    expect_named(op, "{\"StreamARN\":\"arn:aws:kinesis:us-east-1:111111111111:stream/foo\"}", AWS_E_ResourceNotFoundException,
                 "Stream foo under account 111111111111 not found.");
    expect_named(op, "{\"StreamARN\":\"" ARN "/consumer/c:1\"}", AWS_E_InvalidArgumentException, "StreamARN " ARN "/consumer/c:1 is invalid.");
    op = AWS_OP_DescribeStreamConsumer;
    expect_named(op, "{\"StreamARN\":\"" ARN "\",\"ConsumerName\":\"c\"}", AWS_E_NONE, "c");
    expect_named(op, "{\"ConsumerARN\":\"" ARN "/consumer/c:1\"}", AWS_E_NONE, "c");
    expect_named(op, "{\"ConsumerARN\":\"" ARN "/consumer/c:1\",\"ConsumerName\":\"c\",\"StreamARN\":\"" ARN "\"}", AWS_E_NONE, "c");
    expect_named(op, "{\"ConsumerARN\":\"" ARN "/consumer/c:1\",\"ConsumerName\":\"d\"}", AWS_E_InvalidArgumentException,
                 "ConsumerARN does not match StreamARN and ConsumerName.");
    expect_named(op, "{\"ConsumerName\":\"d\"}", AWS_E_InvalidArgumentException, "Either ConsumerARN or both StreamARN and ConsumerName must be provided.");
    op = AWS_OP_TagResource;
    expect_named(op, "{\"Tags\":{\"a\":\"b\"},\"ResourceARN\":\"" ARN "\"}", AWS_E_NONE, "foo");
    expect_named(op, "{\"Tags\":{\"a\":\"b\"},\"ResourceARN\":\"" ARN "/consumer/c:1\"}", AWS_E_NONE, "c");
}

/* ---- tokens ----------------------------------------------------------------------------------------------------------------- */

static const uint8_t key[AWS_TOKEN_KEY] = "cluster key of thirty-two bytes";
static const uint8_t randomness[AWS_TOKEN_RANDOM] = "random, as far as known";

static void test_iterators(void **state)
{
    (void)state;
    const int64_t now = 1421889722000;
    struct aws_iterator it = {.stream = "an incarnation", .shard = 2147483647, .position = AWS_POSITION_OFFSET, .at = 1ULL << 62, .issued_ms = now}, out;
    char text[AWS_ITERATOR_SIZE + 2], message[AWS_TOKEN_MESSAGE_SIZE];
    aws_iterator_seal(text, key, randomness, &it);
    assert_memory_equal(text, "AAAAAAAAAA", 10);
    size_t n, bad_at;
    uint8_t bytes[256];
    assert_int_equal(base64_decode(bytes, text, strlen(text), &n, &bad_at), BASE64_OK);
    assert_memory_equal(bytes, "\0\0\0\0\0\0\0\1", 8);
    assert_int_equal((n - 8) % 16, 0);

    memset(&out, 0, sizeof(out));
    assert_int_equal(aws_iterator_open(text_of(text), key, now, &out, message), AWS_E_NONE);
    assert_true(memcmp(out.stream, it.stream, 16) == 0 && out.shard == it.shard && out.position == it.position && out.at == it.at && out.issued_ms == now);
    char quoted[AWS_ITERATOR_SIZE + 2];
    snprintf(quoted, sizeof(quoted), "\"%s\"", text);
    assert_int_equal(aws_iterator_open(text_of(quoted), key, now + 300000, &out, message), AWS_E_NONE);
    assert_int_equal(aws_iterator_open(text_of(text), key, now - 86400000, &out, message), AWS_E_NONE);
    assert_int_equal(aws_iterator_open(text_of(text), key, now + 300001, &out, message), AWS_E_ExpiredIteratorException);
    assert_string_equal(message, "Iterator expired. The iterator was created at time Thu Jan 22 01:22:02 UTC 2015 while right now it is Thu Jan 22 01:27:02 UTC 2015 "
                                 "which is further in the future than the tolerated delay of 300000 milliseconds.");

    /* Another key, any changed character, a shorter or a longer text: none of ours. */
    uint8_t other[AWS_TOKEN_KEY];
    memcpy(other, key, sizeof(other));
    other[31] ^= 1;
    assert_int_equal(aws_iterator_open(text_of(text), other, now, &out, message), AWS_E_InvalidArgumentException);
    assert_string_equal(message, "Invalid ShardIterator.");
    for (size_t i = 0; i < strlen(text); i++) {
        char was = text[i];
        text[i] = was == 'A' ? 'B' : 'A';
        assert_int_equal(aws_iterator_open(text_of(text), key, now, &out, message), AWS_E_InvalidArgumentException);
        text[i] = was;
        assert_int_equal(aws_iterator_open((struct aws_text){text, i}, key, now, &out, message), AWS_E_InvalidArgumentException);
    }
    static const char *const bad[] = {"", "\"", "\"\"", "AAAAAAAAAAE=", "not base64", "AAAA"};
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        assert_int_equal(aws_iterator_open(text_of(bad[i]), key, now, &out, message), AWS_E_InvalidArgumentException);
    }
    char large[2048];
    memset(large, 'A', sizeof(large));
    assert_int_equal(aws_iterator_open((struct aws_text){large, sizeof(large)}, key, now, &out, message), AWS_E_InvalidArgumentException);
}

static void test_next_tokens(void **state)
{
    (void)state;
    char text[AWS_NEXT_TOKEN_SIZE], message[AWS_TOKEN_MESSAGE_SIZE];
    uint8_t cursor[AWS_CURSOR_MAX], out[AWS_CURSOR_MAX];
    for (size_t i = 0; i < sizeof(cursor); i++) {
        cursor[i] = (uint8_t)(i * 3);
    }
    for (size_t n = 0; n <= AWS_CURSOR_MAX; n += n < 40 ? 1 : 59) {
        size_t m = 12345;
        aws_next_token_seal(text, key, randomness, AWS_OP_ListShards, 1000, cursor, n);
        assert_true(strlen(text) < AWS_NEXT_TOKEN_SIZE);
        assert_int_equal(aws_next_token_open(text_of(text), key, AWS_OP_ListShards, 301000, out, &m, message), AWS_E_NONE);
        assert_int_equal(m, n);
        assert_memory_equal(out, cursor, n);
        assert_int_equal(aws_next_token_open(text_of(text), key, AWS_OP_ListStreams, 301000, out, &m, message), AWS_E_InvalidArgumentException);
        assert_int_equal(aws_next_token_open(text_of(text), key, AWS_OP_ListShards, 301001, out, &m, message), AWS_E_ExpiredNextTokenException);
    }
    /* An iterator is no NextToken. */
    struct aws_iterator it = {.issued_ms = 1000};
    size_t m;
    aws_iterator_seal(text, key, randomness, &it);
    assert_int_equal(aws_next_token_open(text_of(text), key, AWS_OP_ListShards, 1000, out, &m, message), AWS_E_InvalidArgumentException);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_shard_ids), cmocka_unit_test(test_arns),       cmocka_unit_test(test_streams_and_consumers_that_inputs_name),
        cmocka_unit_test(test_iterators), cmocka_unit_test(test_next_tokens),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
