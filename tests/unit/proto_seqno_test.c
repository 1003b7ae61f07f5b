/* sequence numbers: values computed independently, round trips, order, and texts that must be refused. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

#include "proto/seqno.h"

static const struct {
    struct seqno s;
    const char *text;
} known[] = {
    {{0, 0, 0, 0}, "49039857307708443467467104868809893875799651909875269634"},
    {{1, 1, 1, 1}, "49039857308087556135842125462217210012254288753371119634"},
    {{(1ULL << 36) - 1, UINT32_MAX, SEQNO_OFFSET_MAX, (1ULL << 36) - 1}, "73559785961551514828601391991642868751110021924530421746"},
    {{1700000000, 7, 1000, 1700000123}, "49646437577264581633306590769025605273108605834018947186"},
    {{1700000000, 9999, SEQNO_OFFSET_MAX, 1700000123}, "49646437577454137967494101064518524132991873102939058418"},
    {{1421906522, 0, 123456789012345, 1421906530}, "49547210508400457662503984983074751022606905937823268866"},
};

static void assert_same(const struct seqno *a, const struct seqno *b)
{
    assert_int_equal(a->shard_created_s, b->shard_created_s);
    assert_int_equal(a->shard, b->shard);
    assert_int_equal(a->offset, b->offset);
    assert_int_equal(a->time_s, b->time_s);
}

static void test_known_values(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++) {
        char text[SEQNO_TEXT_MAX];
        seqno_format(&known[i].s, text);
        assert_string_equal(text, known[i].text);
        struct seqno back;
        assert_true(seqno_parse(text, &back));
        assert_same(&back, &known[i].s);
    }
}

/* A number that Kinesis itself gave (the PutRecord example of its API reference) has our layout. */
static void test_number_of_kinesis(void **state)
{
    (void)state;
    struct seqno s;
    assert_true(seqno_parse("49590338271490256608559692538361571095921575989136588898", &s));
    assert_int_equal(s.shard_created_s, 0x05bf4e5c2);
    assert_int_equal(s.shard, 6);
    assert_int_equal(s.offset, 0x67648a17);
    assert_int_equal(s.time_s, 0x05c181eea);
}

static void test_every_bit_round_trips(void **state)
{
    (void)state;
    for (unsigned bit = 0; bit < 36 + 32 + 63 + 36; bit++) {
        struct seqno s = {0};
        if (bit < 36) {
            s.shard_created_s = 1ULL << bit;
        } else if (bit < 68) {
            s.shard = 1u << (bit - 36);
        } else if (bit < 131) {
            s.offset = 1ULL << (bit - 68);
        } else {
            s.time_s = 1ULL << (bit - 131);
        }
        char text[SEQNO_TEXT_MAX];
        seqno_format(&s, text);
        struct seqno back;
        assert_true(seqno_parse(text, &back));
        assert_same(&back, &s);
    }
}

/* Within a shard the offset decides, whatever the times; a child's created time puts it above its parents. */
static void test_order(void **state)
{
    (void)state;
    const struct seqno rising[] = {
        {1700000000, 5, 0, 1700009999}, {1700000000, 5, 1, 1700000001}, {1700000000, 5, 2, 1700000000},
        {1700000000, 5, SEQNO_OFFSET_MAX, 0}, {1700000001, 2, 0, 0}, {1700000001, 2, 1, 0},
    };
    char before[SEQNO_TEXT_MAX];
    seqno_format(&rising[0], before);
    assert_int_equal(seqno_compare_text(before, before), 0);
    for (size_t i = 1; i < sizeof(rising) / sizeof(rising[0]); i++) {
        char text[SEQNO_TEXT_MAX];
        seqno_format(&rising[i], text);
        assert_int_equal(seqno_compare_text(before, text), -1);
        assert_int_equal(seqno_compare_text(text, before), 1);
        memcpy(before, text, sizeof(before));
    }
    assert_int_equal(seqno_compare_text("9", "10"), -1);
    assert_int_equal(seqno_compare_text("0", "00"), 0);
    assert_int_equal(seqno_compare_text("010", "9"), 1);
}

static void test_refused(void **state)
{
    (void)state;
    const char *bad[] = {
        "", "0", "1", "-1", "+1", " 1", "abc", "49646437577264581633306590769025605273108605834018947186 ",
        "049646437577264581633306590769025605273108605834018947186",  /* leading zero */
        "4964643757726458163330659076902560527310860583401894718x",
        "4964643757726458163330659076902560527310860583401894718",    /* a digit short */
        "496464375772645816333065907690256052731086058340189471860",  /* a digit more */
        "49646437577264581633306590769025605273108605834018947187",   /* low digit 3 */
        "73559785961551514828601391991642868751110021924530421747",   /* above the largest */
        "99999999999999999999999999999999999999999999999999999999",
        "9999999999999999999999999999999999999999999999999999999999999999999999999999999999999999",
    };
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        struct seqno s = {.offset = 77};
        assert_false(seqno_parse(bad[i], &s));
        assert_int_equal(s.offset, 77);
    }
    /* one digit changed: nearly all break a fixed field; those that parse must give other fields, never the same */
    char text[SEQNO_TEXT_MAX];
    struct seqno good = known[3].s;
    seqno_format(&good, text);
    for (size_t i = 0; text[i] != '\0'; i++) {
        char kept = text[i];
        for (char c = '0'; c <= '9'; c++) {
            struct seqno s;
            text[i] = c;
            if (c != kept && seqno_parse(text, &s)) {
                char again[SEQNO_TEXT_MAX];
                seqno_format(&s, again);
                assert_string_equal(again, text);
            }
        }
        text[i] = kept;
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_known_values),
        cmocka_unit_test(test_number_of_kinesis),
        cmocka_unit_test(test_every_bit_round_trips),
        cmocka_unit_test(test_order),
        cmocka_unit_test(test_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
