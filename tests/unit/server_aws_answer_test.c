/* Answers of the Kinesis endpoint: JSON and CBOR through one writer, errors, fixed answers, frames of the event stream. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <cmocka.h>

#include "proto/base.h"
#include "server/aws/aws_decode.h"
#include "server/aws/aws_event.h"
#include "server/aws/aws_request.h"

/* ---- helpers ------------------------------------------------------------------------------------------------------------ */

/* The whole answer in one piece, NUL behind it; free() it. The writer is closed. */
static char *finish(struct aws_writer *w, size_t *n)
{
    const struct iovec *iov;
    unsigned n_iov;
    size_t at = 0;
    assert_int_equal(aws_writer_end(w, &iov, &n_iov, n), 0);
    char *all = malloc(*n + 1);
    for (unsigned i = 0; i < n_iov; i++) {
        memcpy(all + at, iov[i].iov_base, iov[i].iov_len);
        at += iov[i].iov_len;
    }
    assert_int_equal(at, *n);
    all[at] = '\0';
    aws_writer_deinit(w);
    return all;
}

static void expect_json(struct aws_writer *w, const char *text)
{
    size_t n;
    char *all = finish(w, &n);
    assert_string_equal(all, text);
    free(all);
}

static void expect_hex(struct aws_writer *w, const char *digits)
{
    size_t n;
    char *all = finish(w, &n), *text = calloc(2, n + 1);
    for (size_t i = 0; i < n; i++) {
        sprintf(text + 2 * i, "%02x", (uint8_t)all[i]);
    }
    assert_string_equal(text, digits);
    free(text);
    free(all);
}

static struct aws_text text_of(const char *s) { return (struct aws_text){s, strlen(s)}; }

/* ---- the writer ----------------------------------------------------------------------------------------------------------- */

static void write_sample(struct aws_writer *w)
{
    aws_write_object(w);
    aws_member_write_text(w, "Name", "a\"\\\n\x01\xc3\xa9");
    aws_member_write_text(w, "Absent", NULL);
    aws_member_write_integer(w, "N", -25);
    aws_member_write_boolean(w, "B", true);
    aws_member_write_time(w, "T", 1443104876363);
    aws_member_write_time(w, "U", 1443104876000);
    aws_write_key(w, "L");
    aws_write_list(w);
    aws_write_integer(w, 0);
    aws_write_object(w);
    aws_write_object_end(w);
    aws_write_blob(w, "\1\2\3\4", 4);
    aws_write_list(w);
    aws_write_list_end(w);
    aws_write_list_end(w);
    aws_write_object_end(w);
}

static void test_the_same_calls_write_json_and_cbor(void **state)
{
    (void)state;
    struct aws_writer w;
    aws_writer_init(&w, AWS_JSON, 1000, NULL);
    write_sample(&w);
    expect_json(&w, "{\"Name\":\"a\\\"\\\\\\n\\u0001\xc3\xa9\",\"N\":-25,\"B\":true,\"T\":1443104876.363,\"U\":1443104876,\"L\":[0,{},\"AQIDBA==\",[]]}");
    aws_writer_init(&w, AWS_CBOR, 1000, NULL);
    write_sample(&w);
    expect_hex(&w, "bf" "644e616d65" "6761225c0a01c3a9" "614e3818" "6142f5" "6154c11b0000014fffc0e74b" "6155c11b0000014fffc0e5e0" "614c9f00bfff4401020304" "9fffff" "ff");
}

static void test_numbers_in_cbor_take_as_few_bytes_as_they_can(void **state)
{
    (void)state;
    struct aws_writer w;
    aws_writer_init(&w, AWS_CBOR, 1000, NULL);
    aws_write_list(&w);
    static const int64_t numbers[] = {23, 24, 255, 256, 65535, 65536, 4294967295, 4294967296, INT64_MAX, -1, -24, -25, INT64_MIN};
    for (size_t i = 0; i < ARRAY_LEN(numbers); i++) {
        aws_write_integer(&w, numbers[i]);
    }
    aws_write_list_end(&w);
    expect_hex(&w, "9f17181818ff19010019ffff1a000100001affffffff1b00000001000000001b7fffffffffffffff2037" "3818" "3b7fffffffffffffff" "ff");
}

static void test_numbers_in_json(void **state)
{
    (void)state;
    struct aws_writer w;
    aws_writer_init(&w, AWS_JSON, 1000, NULL);
    aws_write_list(&w);
    static const int64_t numbers[] = {0, 7, -1, 10, INT64_MAX, INT64_MIN};
    for (size_t i = 0; i < ARRAY_LEN(numbers); i++) {
        aws_write_integer(&w, numbers[i]);
    }
    static const int64_t times[] = {0, 1, 999, 1001, -1, -1500, 1443104876030};
    for (size_t i = 0; i < ARRAY_LEN(times); i++) {
        aws_write_time(&w, times[i]);
    }
    aws_write_list_end(&w);
    expect_json(&w, "[0,7,-1,10,9223372036854775807,-9223372036854775808,0,0.001,0.999,1.001,-0.001,-1.500,1443104876.030]");
}

static void test_what_is_not_utf8_becomes_question_marks(void **state)
{
    (void)state;
    struct aws_writer w;
    aws_writer_init(&w, AWS_JSON, 1000, NULL);
    aws_write_text(&w, "a\xff\xc3\"", 4);
    expect_json(&w, "\"a??\\\"\"");
    aws_writer_init(&w, AWS_CBOR, 1000, NULL);
    aws_write_text(&w, "a\xff\xc3\"", 4);
    expect_hex(&w, "64613f3f22");
}

/* What is written can be read again, over many blocks; large payloads stay where they are in CBOR. */
static void test_an_answer_of_many_records(void **state)
{
    (void)state;
    enum { RECORDS = 300, BYTES = 5000 };
    uint8_t *payload = malloc(BYTES);
    for (int i = 0; i < BYTES; i++) {
        payload[i] = (uint8_t)(i * 17);
    }
    for (int format = AWS_JSON; format <= AWS_CBOR; format++) {
        struct aws_writer w;
        aws_writer_init(&w, (enum aws_format)format, 8 << 20, NULL);
        aws_write_object(&w);
        aws_write_key(&w, "Records");
        aws_write_list(&w);
        for (int i = 0; i < RECORDS; i++) {
            aws_write_object(&w);
            aws_write_key(&w, "Data");
            aws_write_blob(&w, payload, BYTES - (size_t)i);
            aws_member_write_text(&w, "PartitionKey", "key");
            aws_write_object_end(&w);
        }
        aws_write_list_end(&w);
        aws_write_object_end(&w);
        const struct iovec *iov;
        unsigned n_iov, by_reference = 0;
        size_t n;
        assert_int_equal(aws_writer_end(&w, &iov, &n_iov, &n), 0);
        for (unsigned i = 0; i < n_iov; i++) {
            by_reference += iov[i].iov_base == payload;
        }
        assert_int_equal(by_reference, format == AWS_CBOR ? RECORDS : 0);
        char *all = finish(&w, &n);
        struct arena arena;
        arena_init(&arena, AWS_DECODE_MEMORY);
        const struct aws_value *value;
        const char *message;
        assert_int_equal(aws_decode((enum aws_format)format, aws_operations[AWS_OP_PutRecords].input, all, n, &arena, &value, &message), AWS_DECODED);
        const struct aws_value *records = aws_member(value, AWS_M_Records);
        assert_int_equal(records->list.n, RECORDS);
        for (int i = 0; i < RECORDS; i++) {
            struct aws_text data = aws_member_text(&records->list.v[i], AWS_M_Data);
            assert_int_equal(data.n, BYTES - i);
            assert_memory_equal(data.p, payload, data.n);
        }
        arena_deinit(&arena);
        free(all);
    }
    free(payload);
}

static void test_an_answer_beyond_its_limit_fails(void **state)
{
    (void)state;
    uint8_t *payload = calloc(1, 100000);
    for (int format = AWS_JSON; format <= AWS_CBOR; format++) {
        struct aws_writer w;
        aws_writer_init(&w, (enum aws_format)format, 50000, NULL);
        aws_write_object(&w);
        aws_write_key(&w, "Data");
        aws_write_blob(&w, payload, 100000);
        aws_write_object_end(&w);
        const struct iovec *iov;
        unsigned n_iov;
        size_t n;
        assert_int_equal(aws_writer_end(&w, &iov, &n_iov, &n), -12);
        aws_writer_deinit(&w);
    }
    free(payload);
}

/* ---- errors and fixed answers ------------------------------------------------------------------------------------------------ */

static void test_errors(void **state)
{
    (void)state;
    struct aws_writer w;
    aws_writer_init(&w, AWS_JSON, 1000, NULL);
    aws_write_error(&w, AWS_E_ResourceNotFoundException, "Stream s under account 000000000000 not found.");
    expect_json(&w, "{\"__type\":\"ResourceNotFoundException\",\"message\":\"Stream s under account 000000000000 not found.\"}");
    aws_writer_init(&w, AWS_JSON, 1000, NULL);
    aws_write_error(&w, AWS_E_SerializationException, "Expected null");
    expect_json(&w, "{\"__type\":\"SerializationException\",\"Message\":\"Expected null\"}");
    aws_writer_init(&w, AWS_JSON, 1000, NULL);
    aws_write_error(&w, AWS_E_SerializationException, NULL);
    expect_json(&w, "{\"__type\":\"SerializationException\"}");
    aws_writer_init(&w, AWS_CBOR, 1000, NULL);
    aws_write_error(&w, AWS_E_KMSOptInRequired, "x");
    expect_hex(&w, "bf665f5f7479706570" "4b4d534f7074496e5265717569726564" "676d6573736167656178ff");
    assert_int_equal(aws_error_status(AWS_E_ProvisionedThroughputExceededException), 400);
    assert_int_equal(aws_error_status(AWS_E_AccessDeniedException), 400);
    assert_int_equal(aws_error_status(AWS_E_InternalFailure), 500);
}

static void front(struct aws_front *f, const char *method, const char *type, const char *target, const char *origin, size_t body_n)
{
    struct aws_header headers[3];
    struct aws_request r = {.method = text_of(method), .target = {"/", 1}, .headers = headers, .body_n = body_n};
    const char *const names[] = {"Content-Type", "X-AMZ-TARGET", "origin"}, *const values[] = {type, target, origin};
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        if (values[i] != NULL) {
            headers[r.n_headers++] = (struct aws_header){text_of(names[i]), text_of(values[i])};
        }
    }
    aws_front(&r, f);
}

static void test_what_is_answered_before_the_body_is_read(void **state)
{
    (void)state;
    struct aws_front f;
    const char *json = "application/x-amz-json-1.1", *cbor = "application/x-amz-cbor-1.1", *list = "Kinesis_20131202.ListStreams";
    front(&f, "POST", " application/x-amz-json-1.1 ; charset=utf-8", list, NULL, 2);
    assert_true(f.kind == AWS_FRONT_DECODE && f.format == AWS_JSON && f.op == AWS_OP_ListStreams);
    front(&f, "POST", cbor, list, "http://a", 2);
    assert_true(f.kind == AWS_FRONT_DECODE && f.format == AWS_CBOR && f.op == AWS_OP_ListStreams);
    front(&f, "POST", json, "Kinesis_20131202.Nothing", NULL, 2);
    assert_true(f.kind == AWS_FRONT_DECODE && f.op == -1);
    aws_front_unknown(&f);
    assert_true(f.kind == AWS_FRONT_ERROR && f.error == AWS_E_UnknownOperationException && f.format == AWS_JSON);
    front(&f, "POST", json, list, NULL, 2);
    aws_front_unparsable(&f);
    assert_true(f.kind == AWS_FRONT_ERROR && f.error == AWS_E_SerializationException);

    front(&f, "OPTIONS", NULL, NULL, "http://a", 0);
    assert_int_equal(f.kind, AWS_FRONT_CORS);
    static const char *const methods[] = {"OPTIONS", "GET", "PUT", "DELETE", "post"};
    for (size_t i = 0; i < ARRAY_LEN(methods); i++) {
        front(&f, methods[i], json, list, NULL, 2);
        assert_true(f.kind == AWS_FRONT_FIXED && f.fixed.status == 403);
        assert_string_equal(f.fixed.body,
                            "<AccessDeniedException>\n  <Message>Unable to determine service/operation name to be authorized</Message>\n</AccessDeniedException>\n");
    }
    front(&f, "POST", NULL, NULL, NULL, 2);
    assert_true(f.kind == AWS_FRONT_FIXED && f.fixed.status == 403);
    front(&f, "POST", "text/plain", list, NULL, 2);
    assert_true(f.kind == AWS_FRONT_FIXED && f.fixed.status == 404);
    assert_string_equal(f.fixed.body, "<UnknownOperationException/>\n");

    front(&f, "POST", json, list, NULL, 0);
    assert_true(f.kind == AWS_FRONT_ERROR && f.error == AWS_E_SerializationException && f.format == AWS_JSON);
    front(&f, "POST", "text/plain", NULL, NULL, 0);
    assert_true(f.kind == AWS_FRONT_ERROR && f.error == AWS_E_UnknownOperationException && f.format == AWS_CBOR);

    front(&f, "POST", "application/json", list, NULL, 2);
    assert_true(f.kind == AWS_FRONT_DECODE && f.op == -1);
    aws_front_unknown(&f);
    assert_true(f.kind == AWS_FRONT_FIXED && f.fixed.status == 404);
    assert_string_equal(f.fixed.body, "{\"Output\":{\"__type\":\"com.amazon.coral.service#UnknownOperationException\"},\"Version\":\"1.0\"}");
}

static void test_headers_and_ids_of_answers(void **state)
{
    (void)state;
    struct aws_header headers[] = {{text_of("Origin"), text_of("x")}, {text_of("access-control-request-headers"), text_of("A, b")}};
    struct aws_request r = {.method = text_of("OPTIONS"), .headers = headers, .n_headers = 2};
    struct aws_header out[AWS_CORS_HEADERS_MAX];
    assert_int_equal(aws_cors_headers(&r, out), 3);
    assert_true(aws_text_is(out[0].name, "Access-Control-Allow-Origin") && aws_text_is(out[0].value, "*"));
    assert_true(aws_text_is(out[1].value, "A, b") && aws_text_is(out[2].value, "172800"));
    r.method = text_of("POST");
    assert_int_equal(aws_cors_headers(&r, out), 2);
    assert_true(aws_text_is(out[1].name, "Access-Control-Expose-Headers"));
    r.n_headers = 0;
    assert_int_equal(aws_cors_headers(&r, out), 0);

    uint8_t random[AWS_ID_2_RANDOM];
    memset(random, 0xff, sizeof(random));
    char id[AWS_REQUEST_ID_SIZE], id_2[AWS_ID_2_SIZE];
    aws_request_id(id, random);
    assert_string_equal(id, "ffffffff-ffff-4fff-bfff-ffffffffffff");
    aws_id_2(id_2, random);
    assert_int_equal(strlen(id_2), 96);
}

/* ---- the event stream --------------------------------------------------------------------------------------------------------- */

static void test_frames_are_read_as_they_were_sealed(void **state)
{
    (void)state;
    uint8_t initial[AWS_EVENT_HEAD_MAX];
    size_t n = aws_event_initial_response(initial, AWS_JSON);
    struct aws_event_view v;
    assert_int_equal(aws_event_read(initial, n, &v), (ssize_t)n);
    assert_true(aws_text_is(v.message_type, "event") && aws_text_is(v.event_type, "initial-response"));
    assert_true(aws_text_is(v.content_type, "application/x-amz-json-1.1") && v.exception_type.p == NULL);
    assert_true(v.payload_n == 2 && memcmp(v.payload, "{}", 2) == 0);
    for (size_t i = 0; i < n; i++) {
        assert_int_equal(aws_event_read(initial, i, &v), 0);
        initial[i] ^= 0x10;
        assert_true(aws_event_read(initial, n, &v) <= 0); /* a length that changed may ask for more; nothing damaged is taken */
        initial[i] ^= 0x10;
    }

    struct iovec pieces[] = {{(void *)(uintptr_t)"{\"mess", 6}, {(void *)(uintptr_t)"age\":\"x\"}", 9}};
    struct aws_event e;
    aws_event_seal_exception(&e, AWS_JSON, AWS_E_ResourceInUseException, pieces, 2);
    uint8_t frame[512];
    memcpy(frame, e.head, e.head_n);
    memcpy(frame + e.head_n, "{\"message\":\"x\"}", 15);
    memcpy(frame + e.head_n + 15, e.tail, 4);
    assert_int_equal(aws_event_read(frame, sizeof(frame), &v), (ssize_t)e.head_n + 19);
    assert_true(aws_text_is(v.message_type, "exception") && aws_text_is(v.exception_type, "ResourceInUseException") && v.event_type.p == NULL);
    assert_true(v.payload_n == 15 && memcmp(v.payload, "{\"message\":\"x\"}", 15) == 0);
}

/* ---- how fast: told, not asserted ---------------------------------------------------------------------------------------------- */

static void test_how_fast_answers_are_written(void **state)
{
    (void)state;
    static uint8_t payload[1024];
    struct aws_block_pool pool;
    aws_block_pool_init(&pool, 256);
    memset(payload, 0xa5, sizeof(payload));
    for (int format = AWS_JSON; format <= AWS_CBOR; format++) {
        struct timespec from, to;
        size_t bytes = 0;
        clock_gettime(CLOCK_MONOTONIC, &from);
        for (int round = 0; round < 10; round++) {
            struct aws_writer w;
            aws_writer_init(&w, (enum aws_format)format, 16 << 20, &pool);
            aws_write_object(&w);
            aws_write_key(&w, "Records");
            aws_write_list(&w);
            for (int i = 0; i < 5000; i++) {
                aws_write_object(&w);
                aws_write_key(&w, "Data");
                aws_write_blob(&w, payload, sizeof(payload));
                aws_member_write_text(&w, "PartitionKey", "key-000000");
                aws_member_write_text(&w, "SequenceNumber", "49646437577264581633306590769025605273108605834018947186");
                aws_member_write_time(&w, "ApproximateArrivalTimestamp", 1443104876363);
                aws_write_object_end(&w);
                bytes += sizeof(payload);
            }
            aws_write_list_end(&w);
            aws_write_object_end(&w);
            const struct iovec *iov;
            unsigned n_iov;
            size_t n;
            assert_int_equal(aws_writer_end(&w, &iov, &n_iov, &n), 0);
            aws_writer_deinit(&w);
        }
        clock_gettime(CLOCK_MONOTONIC, &to);
        double s = (double)(to.tv_sec - from.tv_sec) + (double)(to.tv_nsec - from.tv_nsec) / 1e9;
        print_message("%s: %.0f MB/s of data\n", format == AWS_JSON ? "JSON" : "CBOR", (double)bytes / s / 1e6);
    }
    assert_true(pool.n > 0 && pool.n <= pool.max);
    aws_block_pool_deinit(&pool);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_the_same_calls_write_json_and_cbor),
        cmocka_unit_test(test_numbers_in_cbor_take_as_few_bytes_as_they_can),
        cmocka_unit_test(test_numbers_in_json),
        cmocka_unit_test(test_what_is_not_utf8_becomes_question_marks),
        cmocka_unit_test(test_an_answer_of_many_records),
        cmocka_unit_test(test_an_answer_beyond_its_limit_fails),
        cmocka_unit_test(test_errors),
        cmocka_unit_test(test_what_is_answered_before_the_body_is_read),
        cmocka_unit_test(test_headers_and_ids_of_answers),
        cmocka_unit_test(test_frames_are_read_as_they_were_sealed),
        cmocka_unit_test(test_how_fast_answers_are_written),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
