/* What tags and policies may look like. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "server/cluster_map.h"
#include "server/tag_letters.h"
#include "server/tag_text.h"

static void letters_of_all_scripts(void **state)
{
    (void)state;
    static const char *const good[] = {"a", "Z9", "a b", "_.:/=+-%@", "\xc3\xa4\xc3\x9f", "\xe6\x97\xa5\xe6\x9c\xac", "\xe0\xa4\xb9\xe0\xa4\xbf\xe0\xa4\xa8", "\xd7\xa9", "\xe2\x85\xa7" /* number */,
                                       "\xf0\x9d\x94\xb8" /* beyond 16 bits */, "\xc2\xa0" /* a space */, "\xd9\xa3" /* a digit */, "aws", "AW:"};
    static const char *const bad[] = {"", "a!", "a,b", "a#", "a*", "a\\", "a\"", "a'", "a|", "a\x01", "a\x7f", "a\xc2\x80" /* control */, "\xe2\x82\xac" /* euro */, "\xf0\x9f\x98\x80" /* emoji */,
                                      "\xe2\x80\x94" /* dash */, "aws:x", "AWS:x", "Aws:"};
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) {
        if (!tag_key_ok(good[i]) || !tag_value_ok(good[i])) {
            fail_msg("'%s' is good", good[i]);
        }
    }
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        if (tag_key_ok(bad[i])) {
            fail_msg("'%s' is bad", bad[i]);
        }
    }
    assert_true(tag_value_ok("") && tag_value_ok("aws:x"));
}

static void only_utf8(void **state)
{
    (void)state;
    static const char *const bad[] = {"\x80", "\xc3", "\xc3\x61", "\xc0\xaf", "\xc1\xa1", "\xe0\x80\xaf", "\xe6\x97", "\xed\xa0\x80", "\xf0\x80\x80\xaf", "\xf4\x90\x80\x80", "\xf5\x80\x80\x80", "\xff", "a\xe6"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        char *copy = strdup(bad[i]); /* so that a sanitizer sees what is read behind its end */
        assert_false(tag_value_ok(copy));
        free(copy);
    }
}

static char *repeat(const char *what, unsigned n)
{
    char *text = calloc(n, strlen(what) + 1);
    for (unsigned i = 0; i < n; i++) {
        strcat(text, what);
    }
    return text;
}

static void lengths_count_characters(void **state)
{
    (void)state;
    const char *const what[] = {"k", "\xe6\x97\xa5", "\xf0\x9d\x94\xb8"};
    for (unsigned i = 0; i < 3; i++) {
        char *longest = repeat(what[i], 256);
        char *half = repeat(what[i], 128);
        char *more = repeat(what[i], 257);
        char *half_more = repeat(what[i], 129);
        assert_true(tag_value_ok(longest) && tag_key_ok(half));
        assert_false(tag_value_ok(more) || tag_key_ok(half_more));
        assert_true(strlen(half) <= TAG_KEY_BYTES && strlen(longest) <= TAG_VALUE_BYTES);
        free(longest);
        free(half);
        free(more);
        free(half_more);
    }
}

static void ranges_are_in_order(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof tag_letters / sizeof tag_letters[0]; i++) {
        assert_true(tag_letters[i][0] <= tag_letters[i][1] && tag_letters[i][0] >= 0x80);
        assert_true(i == 0 || tag_letters[i - 1][1] < tag_letters[i][0]);
    }
}

static void policies_are_json_objects(void **state)
{
    (void)state;
    assert_true(policy_ok("{}") && policy_ok(" {\"Version\": \"2012-10-17\", \"Statement\": [{\"a\": 1.5}]}\n"));
    assert_false(policy_ok("") || policy_ok("[]") || policy_ok("{") || policy_ok("{} {}") || policy_ok("x") || policy_ok("{\"a\":}") || policy_ok("\"{}\"") || policy_ok("{\"a\":\"\xff\"}"));
    char *deep = repeat("[", 20000);
    assert_false(policy_ok(deep));
    free(deep);
    char *text = malloc(POLICY_BYTES + 2);
    memset(text, ' ', POLICY_BYTES + 1);
    text[POLICY_BYTES + 1] = '\0';
    text[0] = '{';
    text[POLICY_BYTES] = '}';
    assert_false(policy_ok(text)); /* one too many */
    text[POLICY_BYTES - 1] = '}';
    text[POLICY_BYTES] = '\0';
    assert_true(policy_ok(text));
    free(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(letters_of_all_scripts),   cmocka_unit_test(only_utf8),  cmocka_unit_test(lengths_count_characters), cmocka_unit_test(ranges_are_in_order),
        cmocka_unit_test(policies_are_json_objects),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
