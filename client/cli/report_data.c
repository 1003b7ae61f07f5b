/* Medians and distributions out of the lines of a report. */
#include <stdlib.h>

#include "client/cli/report.h"

enum { ROUNDS_MAX = 99 };

const json_t *report_line(const json_t *lines, const char *id)
{
    size_t i;
    json_t *line;
    json_array_foreach((json_t *)(uintptr_t)lines, i, line) {
        if (strcmp(report_string(line, "id"), id) == 0) {
            return line;
        }
    }
    return NULL;
}

const char *report_string(const json_t *line, const char *field)
{
    const char *text = json_string_value(json_object_get(line, field));
    return text != NULL ? text : "";
}

/* A field of the line with this id and round. */
static bool value_at(const json_t *lines, const char *id, json_int_t round, const char *field, double *out)
{
    size_t i;
    json_t *line;
    json_array_foreach((json_t *)(uintptr_t)lines, i, line) {
        const json_t *v = json_object_get(line, field);
        if (strcmp(report_string(line, "id"), id) == 0 && json_integer_value(json_object_get(line, "round")) == round && json_is_number(v)) {
            *out = json_number_value(v);
            return true;
        }
    }
    return false;
}

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

static double median(double *v, size_t n)
{
    qsort(v, n, sizeof *v, compare);
    return n % 2 == 1 ? v[n / 2] : (v[n / 2 - 1] + v[n / 2]) / 2;
}

struct report_figure report_figure_of(const json_t *lines, const struct report_goal *g)
{
    double v[ROUNDS_MAX];
    size_t n = 0;
    for (json_int_t round = 1; round <= ROUNDS_MAX; round++) {
        double a, b = 0;
        if (!value_at(lines, g->id, round, g->field, &a) || (g->op != '\0' && !value_at(lines, g->other_id, round, g->other_field, &b))) {
            continue;
        }
        if (g->op == '/' && b <= 0) {
            continue;
        }
        v[n++] = (g->op == '/' ? a / b : g->op == '-' ? a - b : a) * g->factor;
    }
    if (n == 0) {
        return (struct report_figure){0};
    }
    double m = median(v, n);
    return (struct report_figure){.n = n, .median = m, .low = v[0], .high = v[n - 1]};
}

struct report_figure report_figure(const json_t *lines, const char *id, const char *field)
{
    return report_figure_of(lines, &(struct report_goal){.id = id, .field = field, .factor = 1});
}

/* The value of a curve at a share, between its points. */
static double curve_at(const json_t *curve, double share)
{
    double last_share = 0, last = 0;
    size_t i;
    json_t *point;
    json_array_foreach((json_t *)(uintptr_t)curve, i, point) {
        double s = json_number_value(json_array_get(point, 0)), v = json_number_value(json_array_get(point, 1));
        if (s >= share) {
            return s > last_share ? last + (v - last) * (share - last_share) / (s - last_share) : v;
        }
        last_share = s;
        last = v;
    }
    return last;
}

size_t report_curve(const json_t *lines, const char *id, double *share, double *ms, size_t max)
{
    const json_t *longest = NULL;
    size_t i, points = 0;
    json_t *line, *point;
    json_array_foreach((json_t *)(uintptr_t)lines, i, line) {
        const json_t *curve = json_object_get(line, "curve");
        if (strcmp(report_string(line, "id"), id) == 0 && json_array_size(curve) > json_array_size(longest)) {
            longest = curve;
        }
    }
    json_array_foreach((json_t *)(uintptr_t)longest, i, point) {
        double s = json_number_value(json_array_get(point, 0)), v[ROUNDS_MAX];
        size_t n = 0, j;
        if (s >= 1 || points == max) { /* the maximum has no place on an axis of nines */
            continue;
        }
        json_array_foreach((json_t *)(uintptr_t)lines, j, line) {
            const json_t *curve = json_object_get(line, "curve");
            if (strcmp(report_string(line, "id"), id) == 0 && json_array_size(curve) > 0 && n < ROUNDS_MAX) {
                v[n++] = curve_at(curve, s);
            }
        }
        share[points] = s;
        ms[points++] = median(v, n);
    }
    return points;
}
