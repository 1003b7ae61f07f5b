/* Requests of the Kinesis endpoint: bodies in JSON and CBOR become checked trees, or the errors of AWS with their words. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <cmocka.h>

#include "proto/base.h"
#include "server/aws/aws_decode.h"
#include "server/aws/base64.h"
#include "server/aws/utf8.h"

/* ---- helpers ---------------------------------------------------------------------------------------------------------- */

struct decoded {
    struct arena arena;
    char *body;
    enum aws_decoded outcome;
    const struct aws_value *value;
    const char *message;
};

static void decode(struct decoded *d, enum aws_format format, int op, const void *body, size_t n)
{
    arena_init(&d->arena, AWS_DECODE_MEMORY);
    d->body = malloc(n + 1); /* a copy of that size, so that sanitizers see what reads beyond */
    memcpy(d->body, body, n);
    d->outcome = aws_decode(format, op >= 0 ? aws_operations[op].input : NULL, d->body, n, &d->arena, &d->value, &d->message);
}

static void done(struct decoded *d)
{
    arena_deinit(&d->arena);
    free(d->body);
}

static void json(struct decoded *d, int op, const char *body) { decode(d, AWS_JSON, op, body, strlen(body)); }

static void expect_json(int op, const char *body, enum aws_decoded outcome, const char *message)
{
    struct decoded d;
    json(&d, op, body);
    if (d.outcome != outcome || (message != NULL && strcmp(d.message, message) != 0)) {
        print_error("%s: %d, %s\nwanted %d, %s\n", body, d.outcome, d.message, outcome, message);
    }
    assert_int_equal(d.outcome, outcome);
    if (message != NULL) {
        assert_string_equal(d.message, message);
    }
    done(&d);
}

static void expect_text(struct aws_text t, const char *text)
{
    assert_non_null(t.p);
    assert_int_equal(t.n, strlen(text));
    assert_memory_equal(t.p, text, t.n);
}

/* Bytes from hexadecimal digits; blanks do not count. */
static size_t hex(uint8_t *out, const char *text)
{
    size_t n = 0;
    for (unsigned v; *text != '\0'; text += 2) {
        while (*text == ' ') {
            text++;
        }
        assert_int_equal(sscanf(text, "%2x", &v), 1);
        out[n++] = (uint8_t)v;
    }
    return n;
}

static void cbor(struct decoded *d, int op, const char *digits)
{
    uint8_t bytes[1024];
    decode(d, AWS_CBOR, op, bytes, hex(bytes, digits));
}

/* ---- the model -------------------------------------------------------------------------------------------------------- */

static unsigned shape_depth(const struct aws_shape *s)
{
    unsigned deepest = s->item != NULL ? shape_depth(s->item) : 0;
    assert_true(s->n_members <= AWS_STRUCTURE_MEMBERS_MAX);
    for (unsigned i = 0; i < s->n_members; i++) {
        unsigned depth = shape_depth(s->members[i].shape);
        deepest = depth > deepest ? depth : deepest;
    }
    return deepest + 1;
}

static void test_every_operation_has_a_shape_and_is_found_by_its_target(void **state)
{
    (void)state;
    assert_int_equal(AWS_OPERATION_COUNT, 45);
    for (int i = 0; i < AWS_OPERATION_COUNT; i++) {
        char target[128];
        int n = snprintf(target, sizeof(target), "Kinesis_20131202.%s", aws_operations[i].name);
        assert_int_equal(aws_operation_find(target, (size_t)n), i);
        assert_true(shape_depth(aws_operations[i].input) <= AWS_DEPTH_MAX);
    }
    assert_int_equal(aws_operation_find("Kinesis_20131202.putRecord", 26), -1);
    assert_int_equal(aws_operation_find("Kinesis_20131202.", 17), -1);
    assert_int_equal(aws_operation_find("DynamoDB_20120810.ListStreams", 29), -1);
    assert_true(aws_operations[AWS_OP_SubscribeToShard].event_stream);
    assert_false(aws_operations[AWS_OP_DescribeStream].event_stream);
    assert_false(aws_operations[AWS_OP_CreateStream].has_output);
}

static void expect_match(const char *pattern, const char *text, bool wanted)
{
    if (aws_pattern_match(pattern, text, strlen(text)) != wanted) {
        fail_msg("%s against %s", text, pattern);
    }
}

static void test_patterns(void **state)
{
    (void)state;
    const char *name = "[a-zA-Z0-9_.-]+", *key = "0|[1-9]\\d{0,38}";
    expect_match(name, "a.B-9_", true);
    expect_match(name, "", false);
    expect_match(name, "a b", false);
    expect_match(name, "a\n", false);
    expect_match(key, "0", true);
    expect_match(key, "01", false);
    expect_match(key, "340282366920938463463374607431768211455", true);
    expect_match(key, "3402823669209384634633746074317682114550", false);
    const char *arn = "arn:aws.*:kinesis:.*:\\d{12}:stream/\\S+";
    expect_match(arn, "arn:aws:kinesis:us-east-1:000000000000:stream/foo", true);
    expect_match(arn, "arn:aws-cn:kinesis:cn-north-1:000000000000:stream/foo", true);
    expect_match(arn, "arn:aws:kinesis:us-east-1:00000000000:stream/foo", false);
    expect_match(arn, "arn:aws:kinesis:us-east-1:000000000000:stream/fo o", false);
    expect_match("[^:*]*", "abc", true);
    expect_match("[^:*]*", "a:c", false);
    expect_match("[0-9A-Za-z!\\-_'.*()\\/]+", "a-b(c)/", true);
    expect_match("x{3}", "xx", false);
    expect_match("x{2,3}y", "xxxy", true);
    /* What would take for ever with naive backtracking ends. */
    char *hostile = malloc(2048);
    for (int i = 0; i < 2048; i++) {
        hostile[i] = "arn:aws:kinesis:"[i % 16];
    }
    assert_false(aws_pattern_match(arn, hostile, 2048));
    free(hostile);
}

/* ---- JSON --------------------------------------------------------------------------------------------------------------- */

static void test_a_put_in_json(void **state)
{
    (void)state;
    struct decoded d;
    json(&d, AWS_OP_PutRecords,
         " { \"Records\" : [ {\"Data\":\"AQID\",\"PartitionKey\":\"k\\u00e9\\ud83d\\ude00\\n\"} , {\"PartitionKey\":\"b\",\"Data\":\"\",\"ExplicitHashKey\":\"17\"},"
         "{\"Data\":\"\\/\\/8=\"}],\"StreamName\":\"s\",\"StreamARN\":null,\"Other\":{\"a\":[1,-2.5e3,null,{}]},\"DryRun\":false}\r\n");
    assert_int_equal(d.outcome, AWS_DECODED);
    expect_text(aws_member_text(d.value, AWS_M_StreamName), "s");
    assert_null(aws_member(d.value, AWS_M_StreamARN));
    assert_false(aws_member_boolean(d.value, AWS_M_DryRun, true));
    const struct aws_value *records = aws_member(d.value, AWS_M_Records);
    assert_int_equal(records->list.n, 3);
    expect_text(aws_member_text(&records->list.v[0], AWS_M_Data), "\1\2\3");
    expect_text(aws_member_text(&records->list.v[0], AWS_M_PartitionKey), "k\xc3\xa9\xf0\x9f\x98\x80\n");
    assert_int_equal(aws_member_text(&records->list.v[1], AWS_M_Data).n, 0);
    assert_non_null(aws_member_text(&records->list.v[1], AWS_M_Data).p);
    expect_text(aws_member_text(&records->list.v[1], AWS_M_ExplicitHashKey), "17");
    expect_text(aws_member_text(&records->list.v[2], AWS_M_Data), "\xff\xff");
    assert_string_equal(aws_validate_partition_keys(d.value, &d.arena),
                        "1 validation error detected: Value null at 'records.3.member.partitionKey' failed to satisfy constraint: Member must not be null");
    done(&d);
}

static void test_ill_formed_json(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "", " ", "null", "[]", "3", "\"a\"", "{", "{}x", "{}{}", "{,}", "{\"a\":1,}", "{\"a\" 1}", "{a:1}", "{\"a\":01}", "{\"a\":1.}", "{\"a\":.5}", "{\"a\":-}",
        "{\"a\":1e}", "{\"a\":+1}", "{\"a\":NaN}", "{\"a\":tru}", "{\"a\":[1,]}", "{\"a\":[1 2]}", "{\"a\":[1}", "{\"a\":\"\\x\"}", "{\"a\":\"\\ud800\"}",
        "{\"a\":\"\\udc00\"}", "{\"a\":\"\\ud800\\u0041\"}", "{\"a\":\"\\u00g0\"}", "{\"a\":\"\x01\"}", "{\"a\":\"\n\"}", "{\"a\":\"\xff\"}", "{\"a\":\"\xc0\xaf\"}",
        "{\"a\":\"\xed\xa0\x80\"}", "{\"a\":\"\xf4\x90\x80\x80\"}", "{\"a\":\"", "{\"a", "{\"StreamName\":\"a\",\"StreamName\":\"b\"}", "{'a':1}", "{\"a\":1}\x01",
        "{\"a\":1234567890123456789012345678901234567890123456789012345678901234}", "/**/{}",
    };
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        expect_json(AWS_OP_DescribeStream, bad[i], AWS_UNPARSABLE, NULL);
        if (strstr(bad[i], "StreamName") == NULL) {
            expect_json(-1, bad[i], AWS_UNPARSABLE, NULL);
        }
    }
    /* Ill-formed goes before wrong types, wherever it is. */
    expect_json(AWS_OP_DescribeStream, "{\"StreamName\":1,\"Limit\":[}", AWS_UNPARSABLE, NULL);
    char deep[256] = "{\"a\":";
    memset(deep + 5, '[', 100);
    memset(deep + 105, ']', 100);
    strcpy(deep + 205, "}");
    expect_json(AWS_OP_DescribeStream, deep, AWS_UNPARSABLE, NULL);
    memcpy(deep, "{\"a\":[[[[[[[[]]]]]]]]}", 23);
    expect_json(-1, deep, AWS_DECODED, NULL);
}

static void test_wrong_types_in_json(void **state)
{
    (void)state;
    static const struct {
        int op;
        const char *body, *message;
    } cases[] = {
        {AWS_OP_DescribeStream, "{\"StreamName\":1}", "class com.amazon.coral.value.json.numbers.TruncatingBigNumber can not be converted to an String"},
        {AWS_OP_DescribeStream, "{\"StreamName\":true}", "class java.lang.Boolean can not be converted to an String"},
        {AWS_OP_DescribeStream, "{\"StreamName\":[]}", "Start of list found where not expected"},
        {AWS_OP_DescribeStream, "{\"StreamName\":{}}", "Start of structure or map found where not expected."},
        {AWS_OP_DescribeStream, "{\"Limit\":\"1\"}", "class java.lang.String can not be converted to an Integer"},
        {AWS_OP_DescribeStream, "{\"Limit\":false,\"StreamName\":1}", "class java.lang.Boolean can not be converted to an Integer"},
        {AWS_OP_PutRecord, "{\"Data\":1}", "class com.amazon.coral.value.json.numbers.TruncatingBigNumber can not be converted to a Blob"},
        {AWS_OP_PutRecord, "{\"Data\":\"abc\"}",
         "'abc' can not be converted to a Blob: Base64 encoded length is expected a multiple of 4 bytes but found: 3"},
        {AWS_OP_PutRecord, "{\"Data\":\"a.bc\"}", "'a.bc' can not be converted to a Blob: Invalid Base64 character: '.'"},
        {AWS_OP_PutRecord, "{\"Data\":\"=bcd\"}", "'=bcd' can not be converted to a Blob: Invalid Base64 character: '='"},
        {AWS_OP_PutRecord, "{\"Data\":\"abd=\"}", "'abd=' can not be converted to a Blob: Invalid last non-pad Base64 character dectected"},
        {AWS_OP_PutRecord, "{\"Data\":\"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA-\"}",
         "'AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA...' can not be converted to a Blob: Invalid Base64 character: '-'"},
        {AWS_OP_PutRecords, "{\"Records\":\"a\"}", "Expected list or null"},
        {AWS_OP_PutRecords, "{\"Records\":[3]}", "Expected null"},
        {AWS_OP_PutRecords, "{\"Records\":{}}", "Start of structure or map found where not expected."},
        {AWS_OP_AddTagsToStream, "{\"Tags\":3}", "Expected map or null"},
        {AWS_OP_AddTagsToStream, "{\"Tags\":[]}", "Start of list found where not expected"},
        {AWS_OP_GetShardIterator, "{\"Timestamp\":\"2020\"}", "class java.lang.String can not be converted to milliseconds since epoch"},
        {AWS_OP_DeleteStream, "{\"EnforceConsumerDeletion\":\"hellowtf\"}", "'HELLOWTF' can not be converted to an Boolean"},
        {AWS_OP_DeleteStream, "{\"EnforceConsumerDeletion\":1}",
         "class com.amazon.coral.value.json.numbers.TruncatingBigNumber can not be converted to an Boolean"},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        expect_json(cases[i].op, cases[i].body, AWS_WRONG_TYPE, cases[i].message);
    }
}

static void test_numbers_times_and_booleans_in_json(void **state)
{
    (void)state;
    static const struct {
        const char *body;
        int64_t shards;
    } cases[] = {
        {"{\"StreamName\":\"a\",\"ShardCount\":17}", 17}, {"{\"StreamName\":\"a\",\"ShardCount\":2.9}", 2}, {"{\"StreamName\":\"a\",\"ShardCount\":1e2}", 100},
        {"{\"StreamName\":\"a\",\"ShardCount\":99999999999}", INT32_MAX}, {"{\"StreamName\":\"a\",\"ShardCount\":1e300}", INT32_MAX},
        {"{\"StreamName\":\"a\",\"ShardCount\":null}", -5},
    };
    struct decoded d;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        json(&d, AWS_OP_CreateStream, cases[i].body);
        assert_int_equal(d.outcome, AWS_DECODED);
        assert_int_equal(aws_member_integer(d.value, AWS_M_ShardCount, -5), cases[i].shards);
        done(&d);
    }
    json(&d, AWS_OP_GetShardIterator, "{\"ShardId\":\"0\",\"ShardIteratorType\":\"AT_TIMESTAMP\",\"Timestamp\":1443128914.123}");
    assert_int_equal(d.outcome, AWS_DECODED);
    assert_int_equal(aws_member_integer(d.value, AWS_M_Timestamp, 0), 1443128914123);
    done(&d);
    json(&d, AWS_OP_GetShardIterator, "{\"ShardId\":\"0\",\"ShardIteratorType\":\"AT_TIMESTAMP\",\"Timestamp\":1443128914}");
    assert_int_equal(aws_member_integer(d.value, AWS_M_Timestamp, 0), 1443128914000);
    done(&d);
    json(&d, AWS_OP_DeleteStream, "{\"StreamName\":\"a\",\"EnforceConsumerDeletion\":\"Yes\"}");
    assert_true(aws_member_boolean(d.value, AWS_M_EnforceConsumerDeletion, false));
    done(&d);
}

/* ---- validation ----------------------------------------------------------------------------------------------------------- */

static void test_validation_texts(void **state)
{
    (void)state;
    static const struct {
        int op;
        const char *body, *message;
    } cases[] = {
        {AWS_OP_CreateStream, "{}", "1 validation error detected: Value null at 'streamName' failed to satisfy constraint: Member must not be null"},
        {AWS_OP_CreateStream, "{\"StreamName\":\"\",\"ShardCount\":0}",
         "3 validation errors detected: Value '' at 'streamName' failed to satisfy constraint: Member must satisfy regular expression pattern: [a-zA-Z0-9_.-]+; "
         "Value '' at 'streamName' failed to satisfy constraint: Member must have length greater than or equal to 1; "
         "Value '0' at 'shardCount' failed to satisfy constraint: Member must have value greater than or equal to 1"},
        {AWS_OP_DescribeStream, "{\"StreamName\":\"a\",\"Limit\":10001}",
         "1 validation error detected: Value '10001' at 'limit' failed to satisfy constraint: Member must have value less than or equal to 10000"},
        {AWS_OP_GetShardIterator, "{\"ShardId\":\"a\",\"ShardIteratorType\":\"X\",\"StartingSequenceNumber\":\"-1\"}",
         "2 validation errors detected: Value 'X' at 'shardIteratorType' failed to satisfy constraint: Member must satisfy enum value set: "
         "[AT_SEQUENCE_NUMBER, AFTER_SEQUENCE_NUMBER, TRIM_HORIZON, LATEST, AT_TIMESTAMP]; Value '-1' at 'startingSequenceNumber' failed to satisfy "
         "constraint: Member must satisfy regular expression pattern: 0|([1-9]\\d{0,128})"},
        {AWS_OP_PutRecords, "{\"Records\":[],\"StreamName\":\"a\"}",
         "1 validation error detected: Value '[]' at 'records' failed to satisfy constraint: Member must have length greater than or equal to 1"},
        {AWS_OP_PutRecords, "{\"Records\":[{\"Data\":\"\"},{\"PartitionKey\":\"\",\"ExplicitHashKey\":\"x\"},null],\"StreamName\":\"a\"}",
         "4 validation errors detected: Value null at 'records.2.member.data' failed to satisfy constraint: Member must not be null; "
         "Value 'x' at 'records.2.member.explicitHashKey' failed to satisfy constraint: Member must satisfy regular expression pattern: 0|([1-9]\\d{0,38}); "
         "Value '' at 'records.2.member.partitionKey' failed to satisfy constraint: Member must have length greater than or equal to 1; "
         "Value null at 'records.3.member' failed to satisfy constraint: Member must not be null"},
        {AWS_OP_AddTagsToStream, "{\"StreamName\":\"a\",\"Tags\":{\"\":\"b\",\"c\":\"d\"}}",
         "1 validation error detected: Value '{=b, c=d}' at 'tags' failed to satisfy constraint: Map keys must satisfy constraint: [Member must have length less "
         "than or equal to 128, Member must have length greater than or equal to 1]"},
        {AWS_OP_RemoveTagsFromStream, "{\"StreamName\":\"a\",\"TagKeys\":[\"a\",\"\"]}",
         "1 validation error detected: Value '[a, ]' at 'tagKeys' failed to satisfy constraint: Member must satisfy constraint: [Member must have length less "
         "than or equal to 128, Member must have length greater than or equal to 1]"},
        {AWS_OP_SubscribeToShard, "{\"ShardId\":\"0\",\"StartingPosition\":{},\"ConsumerARN\":\"arn:aws:kinesis:r:000000000000:stream/a/consumer/b:1\"}",
         "1 validation error detected: Value null at 'startingPosition.type' failed to satisfy constraint: Member must not be null"},
        {AWS_OP_EnableEnhancedMonitoring, "{\"StreamName\":\"a\",\"ShardLevelMetrics\":[\"ALL\",\"x\"]}",
         "1 validation error detected: Value '[ALL, x]' at 'shardLevelMetrics' failed to satisfy constraint: Member must satisfy constraint: [Member must "
         "satisfy enum value set: [IncomingBytes, IncomingRecords, OutgoingBytes, OutgoingRecords, WriteProvisionedThroughputExceeded, "
         "ReadProvisionedThroughputExceeded, IteratorAgeMilliseconds, ALL]]"},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        expect_json(cases[i].op, cases[i].body, AWS_INVALID, cases[i].message);
    }
    expect_json(AWS_OP_AddTagsToStream, "{\"StreamName\":\"a\",\"Tags\":{\"a\":\"b\",\"a\":\"d\"}}", AWS_UNPARSABLE, NULL);
}

static void test_at_most_ten_errors_and_lengths_in_characters(void **state)
{
    (void)state;
    char body[8192];
    size_t n = (size_t)snprintf(body, sizeof(body), "{\"StreamName\":\"a\",\"Records\":[");
    for (int i = 0; i < 30; i++) {
        n += (size_t)snprintf(body + n, sizeof(body) - n, "%s{}", i > 0 ? "," : "");
    }
    snprintf(body + n, sizeof(body) - n, "]}");
    struct decoded d;
    json(&d, AWS_OP_PutRecords, body);
    assert_int_equal(d.outcome, AWS_INVALID);
    assert_memory_equal(d.message, "10 validation errors detected: ", 31);
    assert_non_null(strstr(d.message, "records.10.member.data"));
    assert_null(strstr(d.message, "records.11"));
    done(&d);

    /* 256 characters of two bytes are a key, 257 are none; so are 501 records. */
    for (int chars = 256; chars <= 257; chars++) {
        n = (size_t)snprintf(body, sizeof(body), "{\"Data\":\"\",\"PartitionKey\":\"");
        for (int i = 0; i < chars; i++) {
            n += (size_t)snprintf(body + n, sizeof(body) - n, "\xc3\xa4");
        }
        snprintf(body + n, sizeof(body) - n, "\"}");
        expect_json(AWS_OP_PutRecord, body, chars == 256 ? AWS_DECODED : AWS_INVALID, NULL);
    }
    for (int records = 500; records <= 5000; records *= 10) {
        char *many = malloc(64 + 16 * (size_t)records);
        n = (size_t)sprintf(many, "{\"Records\":[");
        for (int i = 0; i < records; i++) {
            n += (size_t)sprintf(many + n, "%s{\"Data\":\"\"}", i > 0 ? "," : "");
        }
        sprintf(many + n, "]}");
        json(&d, AWS_OP_PutRecords, many);
        assert_int_equal(d.outcome, records == 500 ? AWS_DECODED : AWS_INVALID);
        if (records > 500) {
            assert_non_null(strstr(d.message, "' at 'records' failed to satisfy constraint: Member must have length less than or equal to 500"));
            assert_true(d.arena.total < 256 * 1024);
        }
        done(&d);
        free(many);
    }
}

/* ---- CBOR ------------------------------------------------------------------------------------------------------------------- */

static void test_a_put_in_cbor(void **state)
{
    (void)state;
    /* As Jackson writes it: the tag that says CBOR, maps and lists of indefinite length. */
    struct decoded d;
    cbor(&d, AWS_OP_PutRecords,
         "d9d9f7 bf 67 5265636f726473 9f bf 64 44617461 43 010203 6c 506172746974696f6e4b6579 61 6b ff"
         "a2 64 44617461 5f 42 0102 41 03 ff 6c 506172746974696f6e4b6579 7f 61 6b 61 6c ff ff 6a 53747265616d4e616d65 61 73 61 78 f6 ff");
    assert_int_equal(d.outcome, AWS_DECODED);
    const struct aws_value *records = aws_member(d.value, AWS_M_Records);
    assert_int_equal(records->list.n, 2);
    expect_text(aws_member_text(&records->list.v[0], AWS_M_Data), "\1\2\3");
    expect_text(aws_member_text(&records->list.v[0], AWS_M_PartitionKey), "k");
    expect_text(aws_member_text(&records->list.v[1], AWS_M_Data), "\1\2\3");
    expect_text(aws_member_text(&records->list.v[1], AWS_M_PartitionKey), "kl");
    expect_text(aws_member_text(d.value, AWS_M_StreamName), "s");
    /* The payload lies where it came in. */
    const char *data = aws_member_text(&records->list.v[0], AWS_M_Data).p;
    assert_true(data > d.body && data < d.body + 64);
    done(&d);
}

static void test_times_and_numbers_in_cbor(void **state)
{
    (void)state;
    static const struct {
        const char *digits;
        int64_t ms;
    } times[] = {
        {"c1 1b 0000014fffc0e74b", 1443104876363}, {"1b 0000014fffc0e74b", 1443104876363}, /* milliseconds, tagged or not */
        {"c1 fb 41d5809d5f880000", 1443001726125}, {"1a 00000064", 100}, {"c1 20", -1},
    };
    for (size_t i = 0; i < ARRAY_LEN(times); i++) {
        char digits[256];
        snprintf(digits, sizeof(digits), "a3 67 53686172644964 61 30 71 53686172644974657261746f7254797065 66 4c4154455354 69 54696d657374616d70 %s", times[i].digits);
        struct decoded d;
        cbor(&d, AWS_OP_GetShardIterator, digits);
        assert_int_equal(d.outcome, AWS_DECODED);
        assert_int_equal(aws_member_integer(d.value, AWS_M_Timestamp, 0), times[i].ms);
        done(&d);
    }
    struct decoded d;
    cbor(&d, AWS_OP_DescribeStream, "a1 65 4c696d6974 1b ffffffffffffffff");
    assert_int_equal(d.outcome, AWS_INVALID);
    assert_non_null(strstr(d.message, "Value '2147483647' at 'limit'"));
    done(&d);
    cbor(&d, AWS_OP_DescribeStream, "a1 65 4c696d6974 61 31");
    assert_int_equal(d.outcome, AWS_WRONG_TYPE);
    assert_string_equal(d.message, "class java.lang.String can not be converted to an Integer");
    done(&d);
    cbor(&d, AWS_OP_PutRecord, "a1 64 44617461 64 41514944"); /* base64 in a text is taken */
    assert_int_equal(d.outcome, AWS_DECODED);
    expect_text(aws_member_text(d.value, AWS_M_Data), "\1\2\3");
    done(&d);
}

static void test_ill_formed_cbor(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "80", "a1", "a1 61", "a1 61 61", "bf", "bf 61 61 01", "a1 01 01", "a0 00", "a1 61 61 5b ffffffffffffffff 00", "a1 61 61 9b ffffffffffffffff", "a1 61 61 bb 7fffffffffffffff",
        "a1 61 61 7f 41 61 ff", "a1 61 61 5f 41", "a1 61 61 ff", "a1 61 61 62 ff61", "a1 61 61 1c", "c1 c1 c1 c1 c1 a0", "a1 61 61 c1", "a2 65 4c696d6974 01 65 4c696d6974 01",
        "a1 61 61 5f 5f 41 61 ff ff",
    };
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        struct decoded d;
        cbor(&d, AWS_OP_DescribeStream, bad[i]);
        if (d.outcome != AWS_UNPARSABLE) {
            fail_msg("%s: %d", bad[i], d.outcome);
        }
        done(&d);
    }
    /* Nested lists beyond the bound; a list of a length that is not there takes no memory. */
    uint8_t deep[80];
    memset(deep, 0x81, sizeof(deep));
    memcpy(deep, "\xa1\x61\x61", 3);
    struct decoded d;
    decode(&d, AWS_CBOR, AWS_OP_DescribeStream, deep, sizeof(deep));
    assert_int_equal(d.outcome, AWS_UNPARSABLE);
    done(&d);
    cbor(&d, AWS_OP_PutRecords, "a1 67 5265636f726473 9b 7fffffffffffffff a0");
    assert_int_equal(d.outcome, AWS_UNPARSABLE);
    assert_true(d.arena.total < 64 * 1024);
    done(&d);
}

/* ---- base64, UTF-8, arena ---------------------------------------------------------------------------------------------------- */

static void test_base64_of_all_lengths_and_in_place(void **state)
{
    (void)state;
    uint8_t plain[300], out[512];
    for (size_t i = 0; i < sizeof(plain); i++) {
        plain[i] = (uint8_t)(i * 151 + (i >> 3));
    }
    for (size_t n = 0; n <= sizeof(plain); n++) {
        char *text = malloc(base64_encoded_size(n) + 1);
        base64_encode(text, plain, n);
        size_t m = base64_encoded_size(n), out_n, bad_at;
        assert_int_equal(base64_decode(out, text, m, &out_n, &bad_at), BASE64_OK);
        assert_int_equal(out_n, n);
        assert_memory_equal(out, plain, n);
        assert_int_equal(base64_decode((uint8_t *)text, text, m, &out_n, &bad_at), BASE64_OK);
        assert_int_equal(out_n, n);
        assert_memory_equal(text, plain, n);
        free(text);
    }
    /* Each character that is none of the alphabet is found, at each place. */
    static const char alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    for (unsigned c = 1; c < 256; c++) {
        for (size_t at = 0; at < 64; at++) {
            char text[64];
            memcpy(text, alphabet, 64);
            text[at] = (char)c;
            size_t out_n, bad_at;
            enum base64_error e = base64_decode(out, text, 64, &out_n, &bad_at);
            if (strchr(alphabet, (int)c) != NULL) {
                assert_int_equal(e, BASE64_OK);
            } else if (c == '=' && at == 63) {
                assert_int_equal(e, BASE64_LAST);
            } else {
                assert_int_equal(e, BASE64_CHARACTER);
                assert_int_equal(bad_at, at);
            }
        }
    }
    char text[9];
    base64_encode(text, "sluice", 6);
    assert_memory_equal(text, "c2x1aWNl", 8);
}

static void test_an_arena_keeps_its_bound(void **state)
{
    (void)state;
    struct arena a;
    arena_init(&a, 100 * 1024);
    assert_null(arena_alloc(&a, 100 * 1024));
    size_t got = 0;
    for (void *p; (p = arena_alloc(&a, 1000)) != NULL; got += 1000) {
        memset(p, 0xff, 1000);
    }
    assert_true(got >= 80 * 1000 && a.total <= a.limit);
    arena_deinit(&a);
    uint64_t *p = arena_alloc(&a, 16);
    p[0] = 7;
    uint64_t *q = arena_grow(&a, p, 16, 64);
    assert_ptr_equal(p, q);
    arena_alloc(&a, 8);
    q = arena_grow(&a, p, 64, 128);
    assert_ptr_not_equal(p, q);
    assert_true(q[0] == 7 && q[15] == 0);
    arena_deinit(&a);
}

/* ---- how fast: told, not asserted -------------------------------------------------------------------------------------------- */

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static size_t bench_body(enum aws_format format, char *body)
{
    uint8_t record[1024];
    char *p = body;
    p += format == AWS_JSON ? sprintf(p, "{\"StreamName\":\"bench\",\"Records\":[") : 0;
    if (format == AWS_CBOR) {
        memcpy(p, "\xbf\x67Records\x9f", 10);
        p += 10;
    }
    for (int i = 0; i < 500; i++) {
        for (size_t k = 0; k < sizeof(record); k++) {
            record[k] = (uint8_t)(k * 31 + (size_t)i * 7 + (k >> 5));
        }
        if (format == AWS_JSON) {
            p += sprintf(p, "%s{\"Data\":\"", i > 0 ? "," : "");
            base64_encode(p, record, sizeof(record));
            p += base64_encoded_size(sizeof(record));
            p += sprintf(p, "\",\"PartitionKey\":\"key-%06d\"}", i);
        } else {
            memcpy(p, "\xbf\x64" "Data\x59\x04\x00", 9);
            memcpy(p + 9, record, sizeof(record));
            p += 9 + sizeof(record);
            p += sprintf(p, "\x6cPartitionKey\x6akey-%06d\xff", i);
        }
    }
    if (format == AWS_JSON) {
        p += sprintf(p, "]}");
    } else {
        memcpy(p, "\xff\x6aStreamName\x65" "bench\xff", 19);
        p += 19;
    }
    return (size_t)(p - body);
}

static void test_a_full_put_and_how_fast_it_is_decoded(void **state)
{
    (void)state;
    char *body = malloc(2 << 20), *copy = malloc(2 << 20);
    for (int format = AWS_JSON; format <= AWS_CBOR; format++) {
        size_t n = bench_body((enum aws_format)format, body);
        double spent = 0;
        int rounds = 20;
        for (int i = 0; i < rounds; i++) {
            memcpy(copy, body, n);
            struct arena arena;
            arena_init(&arena, AWS_DECODE_MEMORY);
            const struct aws_value *value;
            const char *message;
            double from = now();
            enum aws_decoded outcome = aws_decode((enum aws_format)format, aws_operations[AWS_OP_PutRecords].input, copy, n, &arena, &value, &message);
            spent += now() - from;
            assert_int_equal(outcome, AWS_DECODED);
            const struct aws_value *records = aws_member(value, AWS_M_Records);
            assert_int_equal(records->list.n, 500);
            struct aws_text data = aws_member_text(&records->list.v[499], AWS_M_Data);
            assert_int_equal(data.n, 1024);
            assert_int_equal((uint8_t)data.p[1000], (uint8_t)(1000 * 31 + 499 * 7 + (1000 >> 5)));
            arena_deinit(&arena);
        }
        print_message("%s: %.0f MB/s of body, %.0f MB/s of data\n", format == AWS_JSON ? "JSON" : "CBOR", (double)n * rounds / spent / 1e6,
                      500.0 * 1024 * rounds / spent / 1e6);
    }
    free(body);
    free(copy);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_operation_has_a_shape_and_is_found_by_its_target),
        cmocka_unit_test(test_patterns),
        cmocka_unit_test(test_a_put_in_json),
        cmocka_unit_test(test_ill_formed_json),
        cmocka_unit_test(test_wrong_types_in_json),
        cmocka_unit_test(test_numbers_times_and_booleans_in_json),
        cmocka_unit_test(test_validation_texts),
        cmocka_unit_test(test_at_most_ten_errors_and_lengths_in_characters),
        cmocka_unit_test(test_a_put_in_cbor),
        cmocka_unit_test(test_times_and_numbers_in_cbor),
        cmocka_unit_test(test_ill_formed_cbor),
        cmocka_unit_test(test_base64_of_all_lengths_and_in_place),
        cmocka_unit_test(test_an_arena_keeps_its_bound),
        cmocka_unit_test(test_a_full_put_and_how_fast_it_is_decoded),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
