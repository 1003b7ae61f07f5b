/* What `sluice top` and the benchmark's page stand on: reading metrics, and drawing. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "client/chart.h"
#include "client/exposition.h"
#include "proto/base.h"

/* ---- metrics ---- */

static const char text[] =
    "# HELP a_total Things.\n# TYPE a_total counter\na_total 12\na_total_more 13\nb{kind=\"put\"} 4\nb 2.5\nbroken x\n"
    "h_bucket{le=\"0.001\"} 10\nh_bucket{le=\"0.002\"} 30\nh_bucket{le=\"+Inf\"} 40\nh_sum 1\nh_count 40\nlast 7";

static void test_values(void **state)
{
    (void)state;
    double v = -1;
    assert_true(exposition_value(text, "a_total", &v) && v == 12);
    assert_true(exposition_value(text, "b", &v) && v == 2.5); /* not the one with labels */
    assert_true(exposition_value(text, "last", &v) && v == 7);
    assert_false(exposition_value(text, "a_tota", &v));
    assert_false(exposition_value(text, "broken", &v));
    assert_false(exposition_value("", "a", &v));
}

static bool near(double a, double b)
{
    return a > b - 1e-9 && a < b + 1e-9;
}

static void test_histograms(void **state)
{
    (void)state;
    struct exposition_histogram one = {0}, two = {0}, other = {0}, none = {0};
    assert_true(exposition_histogram_add(text, "h", &one));
    assert_true(exposition_histogram_add(text, "h", &two));
    assert_true(exposition_histogram_add(text, "h", &two)); /* two nodes */
    assert_true(near(two.below[2], 80));
    assert_true(near(exposition_quantile(NULL, &one, 0.25), 0.001)); /* the whole first bucket */
    assert_true(near(exposition_quantile(NULL, &one, 0.5), 0.0015)); /* half of the second */
    assert_true(near(exposition_quantile(NULL, &one, 0.99), 0.002)); /* the last has no end */
    assert_true(near(exposition_quantile(&one, &two, 0.5), 0.0015)); /* what came since */
    assert_true(exposition_quantile(&one, &one, 0.5) < 0);           /* nothing came */
    assert_false(exposition_histogram_add(text, "a_total", &none));
    assert_true(exposition_quantile(NULL, &none, 0.5) < 0);
    /* Buckets that are cut otherwise are not added. */
    assert_true(exposition_histogram_add("h_bucket{le=\"0.5\"} 1\nh_bucket{le=\"+Inf\"} 2\n", "h", &other));
    assert_false(exposition_histogram_add(text, "h", &other));
    /* One without an end is none. */
    assert_false(exposition_histogram_add("h_bucket{le=\"0.5\"} 1\n", "h", &(struct exposition_histogram){0}));
}

/* ---- numbers and plots ---- */

static void test_numbers(void **state)
{
    (void)state;
    static const struct { double v; const char *expected; } cases[] = {
        {0, "0"}, {0.0123, "0.0123"}, {0.5, "0.500"}, {4.561, "4.56"}, {45.61, "45.6"}, {456.1, "456"}, {1234, "1,230"}, {12345, "12,300"},
        {1234567, "1,230,000"}, {999999, "1,000,000"}, {-2500, "-2,500"}, {1e300, "-"},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        char out[32];
        assert_string_equal(chart_number(cases[i].v, out), cases[i].expected);
    }
}

/* Every element that is opened is closed, in order; nothing stands outside of quotes that must not. */
static void assert_well_formed(const char *p)
{
    char open[16][16];
    unsigned depth = 0;
    for (p = strchr(p, '<'); p != NULL; p = strchr(p + 1, '<')) {
        const char *end = strchr(p, '>');
        assert_non_null(end);
        size_t quotes = 0;
        for (const char *q = p; q < end; q++) {
            quotes += *q == '"';
        }
        assert_int_equal(quotes % 2, 0);
        char name[16];
        bool closes = p[1] == '/';
        size_t n = strcspn(p + 1 + closes, " />");
        assert_true(n > 0 && n < sizeof name);
        snprintf(name, sizeof name, "%.*s", (int)n, p + 1 + closes);
        if (closes) {
            assert_true(depth > 0);
            assert_string_equal(name, open[--depth]);
        } else if (end[-1] != '/') {
            assert_true(depth < ARRAY_LEN(open));
            memcpy(open[depth++], name, sizeof name);
        }
    }
    assert_int_equal(depth, 0);
}

static char *draw_lines(const struct chart_lines *c)
{
    char *out;
    size_t n;
    FILE *f = open_memstream(&out, &n);
    chart_lines(f, c);
    fclose(f);
    assert_well_formed(out);
    assert_null(strstr(out, "nan"));
    assert_null(strstr(out, "inf"));
    return out;
}

static void test_lines(void **state)
{
    (void)state;
    const double x[] = {1, 10, 100, 1000}, y[] = {0, 5, 50, 90}, share[] = {0, 0.5, 0.99, 1};
    char *out = draw_lines(&(struct chart_lines){.title = "a < b & \"c\"", .x_label = "x", .y_label = "y", .x_scale = CHART_LOG, .y_scale = CHART_LINEAR,
                                                 .series = {{"one", 4, x, y, true}}, .n_series = 1, .limit = {"bound", 200}});
    assert_non_null(strstr(out, "a &lt; b &amp; &quot;c&quot;"));
    assert_null(strstr(out, "a < b"));
    assert_non_null(strstr(out, "bound"));
    assert_non_null(strstr(out, ">200</text>")); /* the axis reaches the limit */
    /* The path goes from corner to corner: 1 lies at the left, 1000 at the right. */
    assert_non_null(strstr(out, "d=\"M64.0 308.0L"));
    free(out);
    /* A logarithmic axis leaves out the 0, one of nines the 1. */
    out = draw_lines(&(struct chart_lines){.title = "t", .x_label = "x", .y_label = "y", .x_scale = CHART_NINES, .y_scale = CHART_LOG,
                                           .series = {{"one", 4, share, y, true}}, .n_series = 1});
    unsigned marks = 0;
    for (const char *p = out; (p = strstr(p, "<circle")) != NULL; p++) {
        marks++;
    }
    assert_int_equal(marks, 2);
    free(out);
    /* Nothing to draw, one point, all the same. */
    free(draw_lines(&(struct chart_lines){.title = "t", .x_label = "x", .y_label = "y", .x_scale = CHART_LOG, .y_scale = CHART_LOG}));
    free(draw_lines(&(struct chart_lines){.title = "t", .x_label = "x", .y_label = "y", .series = {{"one", 1, x, x, true}}, .n_series = 1, .narrow = true}));
    const double same[] = {7, 7, 7, 7};
    free(draw_lines(&(struct chart_lines){.title = "t", .x_label = "x", .y_label = "y", .y_scale = CHART_LOG, .series = {{"one", 4, x, same, false}}, .n_series = 1}));
}

static void test_bars(void **state)
{
    (void)state;
    const struct chart_bar bars[] = {{.name = "first", .value = 50, .low = 40, .high = 60}, {.name = "<second>", .value = 0, .text = "none", .color = 2}};
    char *out;
    size_t n;
    FILE *f = open_memstream(&out, &n);
    chart_bars(f, &(struct chart_bars){.title = "t", .x_label = "MB/s", .bars = bars, .n = 2, .limit = {"bound", 100}});
    fclose(f);
    assert_well_formed(out);
    assert_non_null(strstr(out, "&lt;second&gt;"));
    assert_non_null(strstr(out, "class=\"bar s2\""));
    assert_non_null(strstr(out, "width=\"205.0\"")); /* half of the 410 between name and text, as the limit is the end of the axis */
    free(out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_values), cmocka_unit_test(test_histograms), cmocka_unit_test(test_numbers), cmocka_unit_test(test_lines), cmocka_unit_test(test_bars),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
