/* Token buckets: rates add up exactly over time, a request larger than the bucket passes once and is paid back. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <cmocka.h>

#include "server/quota.h"

static void rate_is_kept(void **state)
{
    (void)state;
    struct quota q;
    quota_init(&q, 1000, 0, 50);
    uint64_t taken = 0;
    for (uint64_t now = 50; now < 50 + 10000; now += 7) {
        while (quota_wait_ms(&q, 100, now) == 0) {
            quota_take(&q, 100, now);
            taken += 100;
        }
    }
    assert_in_range(taken, 10900, 11000); /* one second's burst and ten seconds' rate */
}

static void wait_is_enough(void **state)
{
    (void)state;
    struct quota q;
    quota_init(&q, 300, 0, 0);
    quota_take(&q, 300, 0);
    uint64_t wait = quota_wait_ms(&q, 100, 0);
    assert_int_equal(wait, 334);
    assert_int_not_equal(quota_wait_ms(&q, 100, wait - 1), 0);
    assert_int_equal(quota_wait_ms(&q, 100, wait), 0);
}

static void large_request_is_paid_back(void **state)
{
    (void)state;
    struct quota q;
    quota_init(&q, 1000, 0, 0);
    assert_int_equal(quota_wait_ms(&q, 5000, 0), 0);
    quota_take(&q, 5000, 0);
    assert_int_not_equal(quota_wait_ms(&q, 1, 3999), 0);
    assert_int_equal(quota_wait_ms(&q, 1, 4001), 0);
}

static void no_limit(void **state)
{
    (void)state;
    struct quota q;
    quota_init(&q, 0, 0, 0);
    quota_take(&q, UINT64_MAX, 0);
    assert_int_equal(quota_wait_ms(&q, UINT64_MAX, 0), 0);
}

static void long_idle_does_not_overflow(void **state)
{
    (void)state;
    struct quota q;
    quota_init(&q, UINT64_MAX, 0, 0);
    quota_take(&q, 1, 0);
    assert_int_equal(quota_wait_ms(&q, 1, UINT64_MAX), 0);
    quota_init(&q, 3, 0, 0);
    quota_take(&q, 3, 0);
    assert_int_equal(quota_wait_ms(&q, 3, UINT64_MAX), 0);
    quota_take(&q, 1, UINT64_MAX);
    assert_int_not_equal(quota_wait_ms(&q, 3, UINT64_MAX), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rate_is_kept), cmocka_unit_test(wait_is_enough), cmocka_unit_test(large_request_is_paid_back), cmocka_unit_test(no_limit),
        cmocka_unit_test(long_idle_does_not_overflow),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
