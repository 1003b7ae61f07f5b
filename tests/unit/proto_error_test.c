/* errors: wire values never move, every code has a name, text, outcome and advice, unknown codes are safe. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include "proto/error.h"

static const int all[] = {
#define X(name, value, outcome, retry, text) SLUICE_E_##name,
    SLUICE_ERRORS(X)
#undef X
};

static void test_list_is_dense_and_unique(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++) {
        assert_int_equal(all[i], i);
        assert_true(strlen(sluice_error_text(all[i])) > 0);
        for (size_t k = 0; k < i; k++) {
            assert_string_not_equal(sluice_error_name(all[i]), sluice_error_name(all[k]));
        }
    }
}

static void test_known_codes(void **state)
{
    (void)state;
    assert_string_equal(sluice_error_name(4), "NOT_LEADER");
    assert_int_equal(sluice_error_outcome(4), SLUICE_REJECTED);
    assert_int_equal(sluice_error_retry(4), SLUICE_RETRY_ELSEWHERE);
    assert_int_equal(sluice_error_outcome(0), SLUICE_DONE);
    assert_int_equal(sluice_error_outcome(16), SLUICE_UNKNOWN);
    assert_int_equal(sluice_error_retry(17), SLUICE_RETRY_SAME_UNKNOWN);
    assert_string_equal(sluice_error_text(9), "the shard is closed for writes");
}

/* A code of a newer peer must never read as "nothing happened". */
static void test_unknown_codes(void **state)
{
    (void)state;
    const int codes[] = {-1, sizeof(all) / sizeof(all[0]), 1000, 0x7fffffff, -0x7fffffff - 1};
    for (size_t i = 0; i < sizeof(codes) / sizeof(codes[0]); i++) {
        assert_string_equal(sluice_error_name(codes[i]), "INTERNAL");
        assert_int_equal(sluice_error_outcome(codes[i]), SLUICE_UNKNOWN);
        assert_int_equal(sluice_error_retry(codes[i]), SLUICE_RETRY_SAME_UNKNOWN);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_list_is_dense_and_unique),
        cmocka_unit_test(test_known_codes),
        cmocka_unit_test(test_unknown_codes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
