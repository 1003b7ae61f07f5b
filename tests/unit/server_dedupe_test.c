/* Idempotent producers: the rule last + 1, the window, epochs, expiry and eviction in log order, what is in flight, and the snapshot's bytes. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "server/dedupe.h"

static struct dedupe_key key(unsigned producer, uint32_t epoch, uint64_t sequence)
{
    struct dedupe_key k = { .epoch = epoch, .sequence = sequence };
    memcpy(k.id, &producer, sizeof producer);
    k.id[15] = 7;
    return k;
}

static void record(struct dedupe *d, struct dedupe_key k, uint64_t offset, uint64_t time_ms)
{
    struct dedupe_numbers n = { .offset = offset, .time_ms = time_ms, .count = 3 };
    assert_true(dedupe_record(d, &k, &n));
}

static enum dedupe_verdict decide(struct dedupe *d, struct dedupe_key k, uint64_t time_ms, struct dedupe_numbers *n)
{
    struct dedupe_numbers none;
    return dedupe_decide(d, &k, time_ms, n != NULL ? n : &none);
}

static void sequence_must_continue(void **state)
{
    (void)state;
    struct dedupe *d = dedupe_open(10, 1000000);
    assert_int_equal(decide(d, key(1, 0, 5), 0, NULL), DEDUPE_UNKNOWN); /* never seen, does not start at 0 */
    assert_int_equal(decide(d, key(1, 0, 0), 0, NULL), DEDUPE_NEW);
    record(d, key(1, 0, 0), 100, 10);
    assert_int_equal(decide(d, key(1, 0, 1), 10, NULL), DEDUPE_NEW);
    assert_int_equal(decide(d, key(1, 0, 2), 10, NULL), DEDUPE_GAP);
    struct dedupe_numbers n;
    assert_int_equal(decide(d, key(1, 0, 0), 10, &n), DEDUPE_DUPLICATE);
    assert_int_equal(n.offset, 100);
    assert_int_equal(n.count, 3);
    assert_int_equal(n.time_ms, 10);
    dedupe_close(d);
}

static void window_of_eight(void **state)
{
    (void)state;
    struct dedupe *d = dedupe_open(10, 1000000);
    for (uint64_t i = 0; i < 20; i++) {
        record(d, key(1, 0, i), 100 + 3 * i, 10);
    }
    struct dedupe_numbers n;
    for (uint64_t i = 12; i < 20; i++) {
        assert_int_equal(decide(d, key(1, 0, i), 10, &n), DEDUPE_DUPLICATE);
        assert_int_equal(n.offset, 100 + 3 * i);
    }
    assert_int_equal(decide(d, key(1, 0, 11), 10, &n), DEDUPE_OLD);
    assert_int_equal(decide(d, key(1, 0, 0), 10, &n), DEDUPE_OLD);
    dedupe_close(d);
}

static void epochs_fence(void **state)
{
    (void)state;
    struct dedupe *d = dedupe_open(10, 1000000);
    record(d, key(1, 1, 0), 0, 10);
    record(d, key(1, 1, 1), 3, 10);
    assert_int_equal(decide(d, key(1, 0, 2), 10, NULL), DEDUPE_FENCED);
    assert_int_equal(decide(d, key(1, 2, 2), 10, NULL), DEDUPE_UNKNOWN); /* a new epoch starts at 0 */
    assert_int_equal(decide(d, key(1, 2, 0), 10, NULL), DEDUPE_NEW);
    record(d, key(1, 2, 0), 6, 10);
    assert_int_equal(decide(d, key(1, 1, 1), 10, NULL), DEDUPE_FENCED); /* even what it once wrote */
    assert_int_equal(decide(d, key(1, 2, 1), 10, NULL), DEDUPE_NEW);
    dedupe_close(d);
}

static void contradiction_is_told(void **state)
{
    (void)state;
    struct dedupe *d = dedupe_open(10, 1000000);
    record(d, key(1, 0, 0), 0, 10);
    struct dedupe_key k = key(1, 0, 5);
    struct dedupe_numbers n = { .offset = 3, .time_ms = 10, .count = 1 };
    assert_false(dedupe_record(d, &k, &n));
    dedupe_close(d);
}

static void expiry_by_log_time(void **state)
{
    (void)state;
    struct dedupe *d = dedupe_open(10, 1000);
    record(d, key(1, 0, 0), 0, 10);
    record(d, key(2, 0, 0), 3, 500);
    assert_int_equal(decide(d, key(1, 0, 1), 1010, NULL), DEDUPE_NEW);
    assert_int_equal(decide(d, key(1, 0, 1), 1011, NULL), DEDUPE_UNKNOWN); /* the verdict looks ahead to the batch's own time */
    dedupe_expire(d, 1011);
    assert_int_equal(dedupe_count(d), 1);
    assert_int_equal(dedupe_forgotten(d), 1);
    dedupe_close(d);
}

static void longest_idle_goes_first(void **state)
{
    (void)state;
    struct dedupe *d = dedupe_open(3, 1000000);
    record(d, key(1, 0, 0), 0, 10);
    record(d, key(2, 0, 0), 3, 10);
    record(d, key(3, 0, 0), 6, 10);
    record(d, key(1, 0, 1), 9, 10); /* 2 is the longest idle now */
    record(d, key(4, 0, 0), 12, 10);
    assert_int_equal(dedupe_count(d), 3);
    assert_int_equal(decide(d, key(2, 0, 1), 10, NULL), DEDUPE_UNKNOWN);
    assert_int_equal(decide(d, key(1, 0, 2), 10, NULL), DEDUPE_NEW);
    dedupe_close(d);
}

static void snapshot_round_trip(void **state)
{
    (void)state;
    struct dedupe *d = dedupe_open(50, 1000000);
    for (unsigned p = 0; p < 60; p++) {
        for (uint64_t i = 0; i <= p % 12; i++) {
            record(d, key(p, p % 3, i), p * 100 + i * 3, 10 + p);
        }
    }
    size_t n = dedupe_encoded_size(d);
    uint8_t *a = malloc(n);
    uint8_t *b = malloc(n);
    dedupe_encode(d, a);
    struct dedupe *copy = dedupe_open(50, 1000000);
    assert_int_equal(dedupe_decode(copy, a, n), n);
    assert_int_equal(dedupe_encoded_size(copy), n);
    dedupe_encode(copy, b);
    assert_memory_equal(a, b, n);
    assert_int_equal(dedupe_forgotten(copy), 10);
    /* The copy goes on like the original: the same one is evicted next. */
    record(d, key(100, 0, 0), 1, 100);
    record(copy, key(100, 0, 0), 1, 100);
    dedupe_encode(d, a);
    for (size_t cut = 0; cut < n; cut += 7) {
        struct dedupe *broken = dedupe_open(50, 1000000);
        assert_int_not_equal(dedupe_decode(broken, b, cut), n); /* every truncation is refused or shorter */
        dedupe_close(broken);
    }
    free(a);
    free(b);
    dedupe_close(copy);
    dedupe_close(d);
}

static enum dedupe_verdict in_flight(struct dedupe_in_flight *f, struct dedupe *d, struct dedupe_key k, struct dedupe_pending **found)
{
    struct dedupe_numbers n;
    return dedupe_in_flight_decide(f, d, &k, 10, &n, found);
}

static void in_flight_counts_as_applied(void **state)
{
    (void)state;
    struct dedupe *d = dedupe_open(10, 1000000);
    struct dedupe_in_flight *f = calloc(1, sizeof *f);
    record(d, key(1, 0, 0), 0, 10);
    struct dedupe_pending p1 = { .key = key(1, 0, 1) }, p2 = { .key = key(1, 0, 2) }, other = { .key = key(9, 0, 0) };
    struct dedupe_pending *found = NULL;
    assert_int_equal(in_flight(f, d, key(1, 0, 1), &found), DEDUPE_NEW);
    dedupe_in_flight_add(f, &p1);
    dedupe_in_flight_add(f, &other);
    assert_int_equal(in_flight(f, d, key(1, 0, 2), &found), DEDUPE_NEW);
    dedupe_in_flight_add(f, &p2);
    assert_int_equal(in_flight(f, d, key(1, 0, 1), &found), DEDUPE_PENDING);
    assert_ptr_equal(found, &p1);
    assert_int_equal(in_flight(f, d, key(1, 0, 0), &found), DEDUPE_DUPLICATE); /* below all in flight, applied */
    assert_int_equal(in_flight(f, d, key(1, 0, 4), &found), DEDUPE_GAP);
    assert_int_equal(in_flight(f, d, key(1, 1, 0), &found), DEDUPE_NEW);
    dedupe_in_flight_remove(f, &p1);
    record(d, p1.key, 3, 10);
    assert_int_equal(in_flight(f, d, key(1, 0, 1), &found), DEDUPE_DUPLICATE);
    assert_int_equal(in_flight(f, d, key(1, 0, 3), &found), DEDUPE_NEW);
    /* The term ends: 2 never happened as far as this leader knows. */
    dedupe_in_flight_clear(f);
    assert_false(p2.linked);
    assert_int_equal(in_flight(f, d, key(1, 0, 2), &found), DEDUPE_NEW);
    assert_int_equal(in_flight(f, d, key(1, 0, 3), &found), DEDUPE_GAP);
    dedupe_in_flight_remove(f, &p2); /* harmless */
    free(f);
    dedupe_close(d);
}

static void in_flight_table_survives_collisions(void **state)
{
    (void)state;
    struct dedupe *d = dedupe_open(10, 1000000);
    struct dedupe_in_flight *f = calloc(1, sizeof *f);
    enum { N = 2000 };
    struct dedupe_pending *p = calloc(N * 2, sizeof *p);
    for (unsigned i = 0; i < N; i++) {
        p[2 * i].key = key(i, 0, 0);
        p[2 * i + 1].key = key(i, 0, 1);
        dedupe_in_flight_add(f, &p[2 * i]);
        dedupe_in_flight_add(f, &p[2 * i + 1]);
    }
    struct dedupe_pending *found;
    for (unsigned i = 0; i < N; i += 3) {
        dedupe_in_flight_remove(f, &p[2 * i + 1]); /* the newest first: the older one takes its place */
    }
    for (unsigned i = 0; i < N; i++) {
        assert_int_equal(in_flight(f, d, key(i, 0, 0), &found), DEDUPE_PENDING);
        assert_ptr_equal(found, &p[2 * i]);
        assert_int_equal(in_flight(f, d, key(i, 0, 1), &found), i % 3 == 0 ? DEDUPE_NEW : DEDUPE_PENDING);
    }
    dedupe_in_flight_clear(f);
    free(p);
    free(f);
    dedupe_close(d);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sequence_must_continue), cmocka_unit_test(window_of_eight), cmocka_unit_test(epochs_fence), cmocka_unit_test(contradiction_is_told),
        cmocka_unit_test(expiry_by_log_time), cmocka_unit_test(longest_idle_goes_first), cmocka_unit_test(snapshot_round_trip),
        cmocka_unit_test(in_flight_counts_as_applied), cmocka_unit_test(in_flight_table_survives_collisions),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
