/* chart.h: plots as inline SVG, for the benchmark's page. Colours come from the page's style: classes s0..s5 (series), grid, axis, limit, note. */
#ifndef SLUICE_CHART_H
#define SLUICE_CHART_H

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

enum { CHART_SERIES_MAX = 6 };

/* NINES: shares 0..1 drawn by how many nines they have, so that the tail of a distribution is wide. */
enum chart_scale { CHART_LINEAR, CHART_LOG, CHART_NINES };

struct chart_series {
    const char *name;
    size_t n;
    const double *x, *y; /* x rises */
    bool marks;          /* a dot at each point */
};
struct chart_limit { const char *name; double y; }; /* a dashed line across; name NULL: none */
struct chart_lines {
    const char *title, *x_label, *y_label; /* labels with units */
    enum chart_scale x_scale, y_scale;     /* y_scale is never NINES */
    struct chart_series series[CHART_SERIES_MAX];
    size_t n_series;
    struct chart_limit limit;
    bool narrow;                           /* for a page's half width */
};
/* Writes an <svg> element. Points that a logarithmic axis cannot show are left out. */
void chart_lines(FILE *to, const struct chart_lines *c);

struct chart_bar {
    const char *name;
    double value, low, high; /* low and high: range over the rounds */
    const char *text;        /* at the bar's end; NULL: the value */
    unsigned color;          /* 0..5 */
};
struct chart_bars {
    const char *title, *x_label;
    const struct chart_bar *bars;
    size_t n;
    struct chart_limit limit; /* here a line from top to bottom */
};
void chart_bars(FILE *to, const struct chart_bars *c);

/* Text as HTML: the five special characters are replaced. */
void chart_text(FILE *to, const char *text);
/* A number as people write it: three significant digits, thousands separated: 0.0123, 4.56, 1,230,000. */
const char *chart_number(double v, char out[32]);

#endif
