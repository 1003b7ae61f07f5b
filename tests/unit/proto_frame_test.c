/* frames: header checks, the incremental reader at every split, bounds, and that no damaged header passes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "proto/base.h"
#include "proto/error.h"
#include "proto/frame.h"
#include "sluice.pb-c.h"

struct bytes {
    uint8_t *p;
    size_t n;
};

/* A frame with a message and a payload of given sizes, filled from `seed`. */
static struct bytes make_frame(uint8_t kind, uint64_t correlation, uint32_t message_len, uint32_t payload_len, uint8_t seed)
{
    struct bytes b = {.n = FRAME_HEADER_SIZE + (size_t)message_len + payload_len};
    b.p = calloc(1, b.n);
    for (size_t i = FRAME_HEADER_SIZE; i < b.n; i++) {
        b.p[i] = (uint8_t)(seed + i * 7);
    }
    frame_header_encode(b.p, kind, correlation, b.p + FRAME_HEADER_SIZE, message_len, payload_len);
    return b;
}

static struct bytes join(const struct bytes *parts, size_t count)
{
    struct bytes all = {.n = 0};
    for (size_t i = 0; i < count; i++) {
        all.p = realloc(all.p, all.n + parts[i].n);
        memcpy(all.p + all.n, parts[i].p, parts[i].n);
        all.n += parts[i].n;
    }
    return all;
}

/* Feeds at most `step` bytes; returns how many were taken. */
static size_t feed(struct frame_reader *r, const uint8_t *p, size_t n, size_t step)
{
    void *base;
    size_t room = frame_reader_buffer(r, &base);
    assert_true(room > 0);
    size_t take = min_u64(min_u64(room, n), step);
    memcpy(base, p, take);
    frame_reader_fed(r, take);
    return take;
}

static void assert_frame(const struct frame *f, const struct bytes *want)
{
    struct frame_header h;
    assert_int_equal(frame_header_decode(&h, want->p), SLUICE_E_OK);
    assert_int_equal(f->kind, h.kind);
    assert_int_equal(f->correlation, h.correlation);
    assert_int_equal(f->message_len, h.message_len);
    assert_int_equal(f->payload_len, h.payload_len);
    assert_memory_equal(f->message, want->p + FRAME_HEADER_SIZE, h.message_len);
    if (h.payload_len > 0) {
        assert_memory_equal(f->payload, want->p + FRAME_HEADER_SIZE + h.message_len, h.payload_len);
    }
}

/* Whatever the size of the reads, the same frames come out. */
static void test_stream_in_steps(void **state)
{
    (void)state;
    struct bytes frames[] = {
        make_frame(FRAME_PING, 1, 0, 0, 0),        make_frame(FRAME_PUT, 2, 20, 100, 1),
        make_frame(FRAME_PUT, 3, 20, 70000, 2),    make_frame(FRAME_HELLO, 4, 300, 0, 3),
        make_frame(FRAME_FETCH, 5, 0, 4095, 4),    make_frame(FRAME_FETCH, 6, 0, 4096, 5),
        make_frame(FRAME_FETCH, 7, 1, 5000, 6),    make_frame(FRAME_FORWARD, 8, 200000, 9000, 7),
        make_frame(FRAME_PING, ~0ULL, 0, 0, 0),    make_frame(FRAME_PUT, 10, 65536, 65536, 8),
    };
    enum { COUNT = ARRAY_LEN(frames) };
    struct bytes all = join(frames, COUNT);
    const size_t steps[] = {1, 2, 23, 24, 25, 1000, 4096, 65536, 1 << 20};
    for (size_t s = 0; s < ARRAY_LEN(steps); s++) {
        struct frame_reader r;
        frame_reader_init(&r, FRAME_MESSAGE_MAX, FRAME_PAYLOAD_MAX);
        size_t got = 0;
        size_t pos = 0;
        while (pos < all.n) {
            pos += feed(&r, all.p + pos, all.n - pos, steps[s]);
            struct frame f;
            int more;
            while ((more = frame_reader_next(&r, &f)) > 0) {
                assert_true(got < COUNT);
                assert_frame(&f, &frames[got]);
                if (got % 2 == 1 && f.payload_len > 0) {
                    void *payload = frame_take_payload(&r, &f);
                    assert_null(f.payload);
                    free(payload);
                }
                got++;
            }
            assert_int_equal(more, 0);
        }
        assert_int_equal(got, COUNT);
        frame_reader_deinit(&r);
    }
    for (size_t i = 0; i < COUNT; i++) {
        free(frames[i].p);
    }
    free(all.p);
}

/* The rest of a large payload is read to where it stays, and the frame behind it is not lost. */
static void test_large_payload_is_read_in_place(void **state)
{
    (void)state;
    struct bytes big = make_frame(FRAME_PUT, 9, 5, 1 << 20, 1);
    struct bytes small = make_frame(FRAME_PING, 10, 0, 0, 1);
    struct frame_reader r;
    frame_reader_init(&r, FRAME_MESSAGE_MAX, FRAME_PAYLOAD_MAX);
    struct frame f;
    size_t pos = feed(&r, big.p, big.n, 100);
    assert_int_equal(frame_reader_next(&r, &f), 0);
    void *base;
    size_t room = frame_reader_buffer(&r, &base);
    assert_int_equal(room, big.n - pos);
    memcpy(base, big.p + pos, room);
    frame_reader_fed(&r, room);
    assert_int_equal(frame_reader_next(&r, &f), 1);
    assert_frame(&f, &big);
    assert_ptr_equal(f.payload, (uint8_t *)base - (pos - FRAME_HEADER_SIZE - 5));
    void *payload = frame_take_payload(&r, &f);
    assert_int_equal(frame_reader_next(&r, &f), 0);
    feed(&r, small.p, small.n, small.n);
    assert_int_equal(frame_reader_next(&r, &f), 1);
    assert_int_equal(f.correlation, 10);
    assert_memory_equal(payload, big.p + FRAME_HEADER_SIZE + 5, 1 << 20);
    free(payload);
    frame_reader_deinit(&r);
    free(big.p);
    free(small.p);
}

/* Every cut leaves the reader waiting, without error and without a frame. */
/* Large payloads come in a row: of each one but the first hardly anything goes through staging. */
static void test_large_payloads_in_a_row(void **state)
{
    (void)state;
    struct bytes parts[] = {make_frame(FRAME_PUT, 1, 5, 60000, 1), make_frame(FRAME_PUT, 2, 5, 200000, 2), make_frame(FRAME_PUT, 3, 5, 60000, 3),
                            make_frame(FRAME_PING, 4, 5, 0, 4), make_frame(FRAME_PING, 5, 5, 0, 5)};
    struct bytes all = join(parts, 5);
    struct frame_reader r;
    frame_reader_init(&r, FRAME_MESSAGE_MAX, FRAME_PAYLOAD_MAX);
    size_t pos = 0, staged = 0;
    for (unsigned i = 0; i < 5;) {
        struct frame f;
        void *base;
        if (frame_reader_next(&r, &f) == 1) {
            assert_frame(&f, &parts[i++]);
            staged = 0;
            continue;
        }
        size_t room = frame_reader_buffer(&r, &base);
        size_t n = min_u64(room, all.n - pos);
        assert_true(n > 0);
        memcpy(base, all.p + pos, n);
        staged += r.direct ? 0 : n;
        frame_reader_fed(&r, n);
        pos += n;
        assert_true(i == 0 || i > 2 || staged <= 4096);
    }
    /* What comes next is small again, and read as much at once as there is room for. */
    void *base;
    assert_true(frame_reader_buffer(&r, &base) > 4096 || r.small_cap <= 4096);
    frame_reader_deinit(&r);
    free(all.p);
    for (unsigned i = 0; i < 5; i++) {
        free(parts[i].p);
    }
}

static void test_truncation(void **state)
{
    (void)state;
    struct bytes b = make_frame(FRAME_PUT, 1, 30, 50, 9);
    for (size_t n = 0; n < b.n; n++) {
        struct frame_reader r;
        frame_reader_init(&r, 1000, 1000);
        if (n > 0) {
            feed(&r, b.p, n, n);
        }
        struct frame f;
        assert_int_equal(frame_reader_next(&r, &f), 0);
        frame_reader_deinit(&r);
    }
    free(b.p);
}

/* One flipped bit anywhere in header or message: an error at once, or bytes that never come; never a frame. */
static void test_bit_flips(void **state)
{
    (void)state;
    const uint32_t message_len = 30;
    for (size_t bit = 0; bit < (FRAME_HEADER_SIZE + message_len) * 8; bit++) {
        struct bytes b = make_frame(FRAME_PUT, 0x0102030405060708, message_len, 50, 9);
        b.p[bit / 8] ^= (uint8_t)(1u << (bit % 8));
        struct frame_reader r;
        frame_reader_init(&r, FRAME_MESSAGE_MAX, FRAME_PAYLOAD_MAX);
        feed(&r, b.p, b.n, b.n);
        struct frame f;
        int got = frame_reader_next(&r, &f);
        bool waits = bit / 8 >= 4 && bit / 8 < 8 && got == 0; /* a larger message length */
        assert_true(got < 0 || waits);
        if (got < 0) { /* an error is for good */
            void *base;
            assert_int_equal(frame_reader_next(&r, &f), got);
            assert_int_equal(frame_reader_buffer(&r, &base), 0);
        }
        frame_reader_deinit(&r);
        free(b.p);
    }
}

static int first_result(const uint8_t header[FRAME_HEADER_SIZE], uint32_t message_max, uint32_t payload_max)
{
    struct frame_reader r;
    frame_reader_init(&r, message_max, payload_max);
    feed(&r, header, FRAME_HEADER_SIZE, FRAME_HEADER_SIZE);
    struct frame f;
    int got = frame_reader_next(&r, &f);
    frame_reader_deinit(&r);
    return got;
}

static void test_bad_headers(void **state)
{
    (void)state;
    uint8_t good[FRAME_HEADER_SIZE];
    frame_header_encode(good, FRAME_PING, 5, NULL, 0, 0);
    assert_int_equal(first_result(good, 0, 0), 1);
    uint8_t bad[FRAME_HEADER_SIZE];
    memcpy(bad, "GET / HTTP/1.1\r\nHost: x\r\n", FRAME_HEADER_SIZE);
    assert_int_equal(first_result(bad, 1000, 1000), -SLUICE_E_PROTOCOL);
    memcpy(bad, good, sizeof(bad));
    bad[2] = 2;
    assert_int_equal(first_result(bad, 1000, 1000), -SLUICE_E_VERSION);
    const uint32_t lengths[] = {FRAME_PAYLOAD_MAX + 1, 0x7fffffff, 0x80000000, 0xffffffff};
    for (size_t i = 0; i < ARRAY_LEN(lengths); i++) {
        for (int at = 4; at <= 8; at += 4) {
            memcpy(bad, good, sizeof(bad));
            put_u32(bad + at, lengths[i]);
            assert_int_equal(first_result(bad, UINT32_MAX, UINT32_MAX), -SLUICE_E_TOO_LARGE);
        }
    }
}

/* The bounds of the connection: exactly at the bound passes, one above does not, and is told from the header alone. */
static void test_bounds(void **state)
{
    (void)state;
    struct {
        uint32_t message_len, payload_len;
        int want;
    } cases[] = {{100, 200, 1}, {101, 200, -SLUICE_E_TOO_LARGE}, {100, 201, -SLUICE_E_TOO_LARGE}};
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct bytes b = make_frame(FRAME_PUT, 1, cases[i].message_len, cases[i].payload_len, 3);
        struct frame_reader r;
        frame_reader_init(&r, 100, 200);
        feed(&r, b.p, cases[i].want == 1 ? b.n : FRAME_HEADER_SIZE, b.n);
        struct frame f;
        assert_int_equal(frame_reader_next(&r, &f), cases[i].want);
        frame_reader_deinit(&r);
        free(b.p);
    }
    struct bytes largest = make_frame(FRAME_PUT, 1, FRAME_MESSAGE_MAX, FRAME_PAYLOAD_MAX, 3);
    struct frame_reader r;
    frame_reader_init(&r, FRAME_MESSAGE_MAX, FRAME_PAYLOAD_MAX);
    size_t pos = 0;
    struct frame f;
    int got = 0;
    while (pos < largest.n) {
        assert_int_equal(got, 0);
        pos += feed(&r, largest.p + pos, largest.n - pos, 1 << 20);
        got = frame_reader_next(&r, &f);
    }
    assert_int_equal(got, 1);
    assert_frame(&f, &largest);
    assert_true(r.small_cap <= 2 * (FRAME_MESSAGE_MAX + FRAME_HEADER_SIZE + 4096));
    frame_reader_deinit(&r);
    free(largest.p);
}

/* A peer that announces the largest payload and sends a wrong checksum makes us allocate nothing for it. */
static void test_no_payload_memory_before_checksum(void **state)
{
    (void)state;
    uint8_t header[FRAME_HEADER_SIZE];
    frame_header_encode(header, FRAME_PUT, 5, NULL, 0, FRAME_PAYLOAD_MAX);
    header[12] ^= 1;
    struct frame_reader r;
    frame_reader_init(&r, 1000, FRAME_PAYLOAD_MAX);
    feed(&r, header, sizeof(header), sizeof(header));
    struct frame f;
    assert_int_equal(frame_reader_next(&r, &f), -SLUICE_E_PROTOCOL);
    assert_null(r.payload);
    frame_reader_deinit(&r);
}

static void test_frame_encode(void **state)
{
    (void)state;
    Sluice__Hello hello = SLUICE__HELLO__INIT;
    hello.version_min = 1;
    hello.agent = (char *)"x";
    size_t n;
    uint8_t *p = frame_encode(FRAME_HELLO, 7, &hello, 123, &n);
    struct frame_header h;
    assert_int_equal(frame_header_decode(&h, p), SLUICE_E_OK);
    assert_int_equal(h.kind, FRAME_HELLO);
    assert_int_equal(h.payload_len, 123);
    assert_int_equal(n, FRAME_HEADER_SIZE + h.message_len);
    assert_true(frame_message_ok(p, p + FRAME_HEADER_SIZE, h.message_len));
    assert_false(frame_message_ok(p, p + FRAME_HEADER_SIZE, h.message_len - 1));
    free(p);
    char *huge = malloc(FRAME_MESSAGE_MAX + 1);
    memset(huge, 'a', FRAME_MESSAGE_MAX);
    huge[FRAME_MESSAGE_MAX] = '\0';
    hello.agent = huge;
    assert_null(frame_encode(FRAME_HELLO, 7, &hello, 0, &n));
    free(huge);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_stream_in_steps),
        cmocka_unit_test(test_large_payload_is_read_in_place),
        cmocka_unit_test(test_large_payloads_in_a_row),
        cmocka_unit_test(test_truncation),
        cmocka_unit_test(test_bit_flips),
        cmocka_unit_test(test_bad_headers),
        cmocka_unit_test(test_bounds),
        cmocka_unit_test(test_no_payload_memory_before_checksum),
        cmocka_unit_test(test_frame_encode),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
