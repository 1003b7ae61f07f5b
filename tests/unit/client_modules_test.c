/* The small modules of the client: cutting lines, merging shards, the histogram, reading endpoints. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "client/histogram.h"
#include "client/lines.h"
#include "client/merge.h"
#include "proto/base.h"

/* ---- lines ---- */

/* Feeds text in blocks of `step` bytes and writes the lines as "<a><b>". */
static void cut(const char *text, size_t n, size_t step, char *out)
{
    struct lines l;
    lines_init(&l, 100);
    const char *line;
    size_t len;
    for (size_t i = 0; i < n; i += step) {
        char *block = malloc(step); /* on the heap, so that a stale pointer into it would be noticed */
        size_t size = n - i < step ? n - i : step;
        memcpy(block, text + i, size);
        lines_feed(&l, block, size);
        while (lines_next(&l, &line, &len) == 1) {
            out += sprintf(out, "<%.*s>", (int)len, line);
        }
        free(block);
    }
    if (lines_last(&l, &line, &len) == 1) {
        out += sprintf(out, "<%.*s>", (int)len, line);
    }
    *out = '\0';
    lines_deinit(&l);
}

static void test_lines(void **state)
{
    (void)state;
    static const struct { const char *text, *expected; } cases[] = {
        {"", ""}, {"a", "<a>"}, {"a\n", "<a>"}, {"\n", "<>"}, {"\n\n", "<><>"}, {"a\n\nbc", "<a><><bc>"},
        {"one\r\ntwo\r\n", "<one\r><two\r>"}, {"x\ny\nz", "<x><y><z>"}, {"\n\nend", "<><><end>"},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        for (size_t step = 1; step < 8; step++) {
            char out[256];
            cut(cases[i].text, strlen(cases[i].text), step, out);
            assert_string_equal(out, cases[i].expected);
        }
    }
}

static void test_a_line_too_long_is_told(void **state)
{
    (void)state;
    struct lines l;
    const char *line;
    size_t len;
    lines_init(&l, 4);
    lines_feed(&l, "1234\n", 5);
    assert_int_equal(lines_next(&l, &line, &len), 1);
    assert_int_equal(lines_next(&l, &line, &len), 0);
    lines_feed(&l, "123", 3);
    assert_int_equal(lines_next(&l, &line, &len), 0);
    lines_feed(&l, "45\n", 3);
    assert_int_equal(lines_next(&l, &line, &len), -1);
    lines_deinit(&l);
}

/* ---- merge ---- */

static void push(struct merge *m, unsigned source, uint32_t shard, uint64_t time, const char *data)
{
    const struct batch_record rec = {.key = (const uint8_t *)"k", .key_len = 1, .data = (const uint8_t *)data, .data_len = (uint32_t)strlen(data)};
    const struct sluice_records r = {.shard = shard, .time_ms = time, .n = 1, .v = &rec};
    merge_push(m, source, merge_block_copy(&r));
}

static void pop_all(struct merge *m, char *out)
{
    unsigned source;
    for (struct merge_block *b; (b = merge_pop(m, &source)) != NULL; free(b)) {
        out += sprintf(out, "%.*s ", (int)b->v[0].data_len, (const char *)b->v[0].data);
    }
    *out = '\0';
}

static void test_merge_by_time_then_shard(void **state)
{
    (void)state;
    struct merge *m = merge_open();
    unsigned a = merge_source_add(m, 0), b = merge_source_add(m, 1), c = merge_source_add(m, 2);
    char out[128];
    push(m, c, 2, 5, "c5");
    push(m, a, 0, 10, "a10");
    push(m, a, 0, 10, "a10'");
    push(m, a, 0, 30, "a30");
    pop_all(m, out);
    assert_string_equal(out, ""); /* b may bring something earlier */
    push(m, b, 1, 10, "b10");
    pop_all(m, out);
    assert_string_equal(out, "c5 "); /* then c has nothing waiting */
    merge_source_end(m, c);
    pop_all(m, out);
    assert_string_equal(out, "a10 a10' b10 "); /* ties by shard */
    assert_int_equal(merge_source_bytes(m, a), 4);
    merge_source_end(m, b);
    assert_false(merge_ended(m));
    pop_all(m, out);
    assert_string_equal(out, "a30 ");
    merge_source_end(m, a);
    assert_true(merge_ended(m));
    merge_close(m);
}

static void test_merge_children_and_idle(void **state)
{
    (void)state;
    struct merge *m = merge_open();
    unsigned parent = merge_source_add(m, 0), child = merge_source_add(m, 1), other = merge_source_add(m, 2);
    char out[128];
    merge_source_wait(m, child, true);
    push(m, other, 2, 50, "o50");
    push(m, parent, 0, 10, "p10");
    pop_all(m, out);
    assert_string_equal(out, "p10 ");
    merge_source_wait(m, child, false);
    merge_source_end(m, parent);
    pop_all(m, out);
    assert_string_equal(out, ""); /* the child's first may be earlier than 50 */
    push(m, child, 1, 20, "c20");
    merge_source_idle(m, other); /* has a batch: being idle changes nothing */
    pop_all(m, out);
    assert_string_equal(out, "c20 ");
    merge_source_idle(m, child);
    pop_all(m, out);
    assert_string_equal(out, "o50 ");
    merge_close(m);
}

/* ---- histogram ---- */

static void test_histogram_quantiles(void **state)
{
    (void)state;
    struct histogram *h = xcalloc(1, sizeof *h);
    assert_int_equal(histogram_quantile(h, 0.5), 0);
    for (uint64_t i = 1; i <= 100000; i++) {
        histogram_add(h, i * 1000);
    }
    const double qs[] = {0.01, 0.5, 0.99, 0.999, 1};
    for (size_t i = 0; i < ARRAY_LEN(qs); i++) {
        double exact = qs[i] * 1e8, got = (double)histogram_quantile(h, qs[i]);
        assert_true(got >= exact * 0.999 && got <= exact * 1.017);
    }
    assert_int_equal(histogram_quantile(h, 1), 100000000);
    histogram_add(h, UINT64_MAX);
    assert_int_equal(histogram_quantile(h, 1), UINT64_MAX);
    free(h);
}

/* ---- endpoints ---- */

static void endpoint(void *arg, const char *host, uint16_t port)
{
    char *out = arg;
    sprintf(out + strlen(out), "%s %u;", host, port);
}

static void test_endpoints(void **state)
{
    (void)state;
    static const struct { const char *text, *expected; } cases[] = {
        {"a:1", "a 1;"}, {"a", "a 4570;"}, {"a:1,b:65535", "a 1;b 65535;"}, {"[::1]:9,[fe80::1]", "::1 9;fe80::1 4570;"},
        {"", NULL}, {"a:", NULL}, {"a:0", NULL}, {"a:65536", NULL}, {"a:x", NULL}, {":1", NULL}, {"a,,b", NULL}, {"a:1,", NULL},
        {"[::1", NULL}, {"[]:1", NULL}, {"a b:1", NULL}, {"[::1]x", NULL},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        char out[256] = "";
        int code = sluice_endpoints_each(cases[i].text, endpoint, out);
        assert_int_equal(code, cases[i].expected == NULL ? SLUICE_E_INVALID : 0);
        assert_string_equal(out, cases[i].expected == NULL ? "" : cases[i].expected); /* all or nothing */
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_lines), cmocka_unit_test(test_a_line_too_long_is_told), cmocka_unit_test(test_merge_by_time_then_shard),
        cmocka_unit_test(test_merge_children_and_idle), cmocka_unit_test(test_histogram_quantiles), cmocka_unit_test(test_endpoints),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
