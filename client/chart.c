/* Axes, lines and bars as SVG. Everything is laid out in a box of fixed size that the page scales. */
#include "client/chart.h"

#include <math.h>
#include <string.h>

enum { WIDTH = 720, NARROW = 500, HEIGHT = 360, LEFT = 64, RIGHT = 20, TOP = 58, BOTTOM = 52, BAR = 34, BAR_LEFT = 190, BAR_RIGHT = 120, TICKS_MAX = 40 };

void chart_text(FILE *to, const char *text)
{
    for (; *text != '\0'; text++) {
        switch (*text) {
        case '&': fputs("&amp;", to); break;
        case '<': fputs("&lt;", to); break;
        case '>': fputs("&gt;", to); break;
        case '"': fputs("&quot;", to); break;
        case '\'': fputs("&#39;", to); break;
        default: fputc(*text, to);
        }
    }
}

const char *chart_number(double v, char out[32])
{
    double size = fabs(v);
    if (!isfinite(v) || size >= 1e15) {
        snprintf(out, 32, "-");
    } else if (size >= 1000) {
        double unit = size < 10000 ? 10 : pow(10, floor(log10(size)) - 2); /* three digits, four below ten thousand */
        char digits[24];
        int n = snprintf(digits, sizeof digits, "%.0f", round(v / unit) * unit), at = 0;
        for (int i = 0; i < n; i++) {
            out[at++] = digits[i];
            if (digits[i] != '-' && (n - i - 1) % 3 == 0 && i + 1 < n) {
                out[at++] = ',';
            }
        }
        out[at] = '\0';
    } else {
        int decimals = size >= 100 ? 0 : size >= 10 ? 1 : size >= 1 ? 2 : size >= 0.1 ? 3 : 4;
        snprintf(out, 32, "%.*f", size == 0 ? 0 : decimals, v);
    }
    return out;
}

/* ---- axes ------------------------------------------------------------------------------------------------------------------ */

struct axis { enum chart_scale scale; double min, max, from, to; /* values, and where they lie in the box */ };

static double project(enum chart_scale scale, double v)
{
    switch (scale) {
    case CHART_LOG: return log10(v);
    case CHART_NINES: return -log10(fmax(1 - v, 1e-7));
    default: return v;
    }
}

static bool fits(enum chart_scale scale, double v)
{
    return isfinite(v) && (scale != CHART_LOG || v > 0) && (scale != CHART_NINES || (v >= 0 && v < 1));
}

static double place(const struct axis *a, double v)
{
    double low = project(a->scale, a->min), high = project(a->scale, a->max);
    return a->from + (a->to - a->from) * (high > low ? (project(a->scale, v) - low) / (high - low) : 0);
}

/* Steps of 1, 2 or 5 times a power of ten, at most eight of them. */
static double nice_step(double range)
{
    double step = pow(10, floor(log10(range / 8)));
    while (range / step > 8) {
        step *= range / (step * 2) <= 8 ? 2 : range / (step * 5) <= 8 ? 5 : 10;
    }
    return step;
}

/* Makes the range end on ticks. */
static void axis_round(struct axis *a)
{
    if (!(a->max > a->min)) {
        a->max = a->scale == CHART_LOG ? a->min * 10 : a->min + 1;
    }
    if (a->scale == CHART_LINEAR) {
        double step = nice_step(a->max - a->min);
        a->max = ceil(a->max / step - 1e-9) * step;
    } else if (a->scale == CHART_LOG) {
        static const double parts[] = {1, 2, 5, 10};
        double low = pow(10, floor(log10(a->min) + 1e-9)), high = pow(10, floor(log10(a->max) + 1e-9));
        for (size_t i = 4; i-- > 0;) {
            if (low * parts[i] <= a->min * 1.0001) {
                a->min = low * parts[i];
                break;
            }
        }
        for (size_t i = 0; i < 4; i++) {
            if (high * parts[i] >= a->max * 0.9999) {
                a->max = high * parts[i];
                break;
            }
        }
    }
}

static size_t axis_ticks(const struct axis *a, double ticks[TICKS_MAX])
{
    size_t n = 0;
    if (a->scale == CHART_NINES) {
        static const double shares[] = {0, 0.5, 0.9, 0.99, 0.999, 0.9999, 0.99999, 0.999999};
        for (size_t i = 0; i < sizeof shares / sizeof shares[0] && shares[i] <= a->max; i++) {
            ticks[n++] = shares[i];
        }
    } else if (a->scale == CHART_LOG) {
        bool wide = log10(a->max / a->min) > 3.5; /* then only the powers of ten */
        int last = (int)floor(log10(a->max) + 1e-9);
        for (int exponent = (int)floor(log10(a->min) + 1e-9); exponent <= last; exponent++) {
            double decade = pow(10, exponent);
            for (unsigned i = 0; i < (wide ? 1 : 3) && n < TICKS_MAX; i++) {
                double v = decade * (i == 0 ? 1 : i == 1 ? 2 : 5);
                if (v >= a->min * 0.9999 && v <= a->max * 1.0001) {
                    ticks[n++] = v;
                }
            }
        }
    } else {
        double step = nice_step(a->max - a->min);
        while (n < TICKS_MAX && a->min + (double)n * step <= a->max + step / 2) {
            ticks[n] = a->min + (double)n * step;
            n++;
        }
    }
    return n;
}

static void tick_text(FILE *to, const struct axis *a, double v)
{
    char text[32];
    if (a->scale == CHART_NINES) {
        fprintf(to, "%g %%", v * 100);
    } else if (fabs(v) >= 1000) {
        fputs(chart_number(v, text), to);
    } else {
        fprintf(to, "%g", fabs(v) < 1e-12 ? 0 : v);
    }
}

static void text_at(FILE *to, double x, double y, const char *class, const char *anchor, const char *text)
{
    fprintf(to, "<text x=\"%.1f\" y=\"%.1f\" class=\"%s\" text-anchor=\"%s\">", x, y, class, anchor);
    chart_text(to, text);
    fputs("</text>", to);
}

static void line_at(FILE *to, double x1, double y1, double x2, double y2, const char *class)
{
    fprintf(to, "<line x1=\"%.1f\" y1=\"%.1f\" x2=\"%.1f\" y2=\"%.1f\" class=\"%s\"/>", x1, y1, x2, y2, class);
}

static void svg_open(FILE *to, int width, double height, const char *title)
{
    fprintf(to, "<svg viewBox=\"0 0 %d %.0f\" role=\"img\" aria-label=\"", width, height);
    chart_text(to, title);
    fputs("\">", to);
    text_at(to, 4, 18, "title", "start", title);
}

/* ---- lines ----------------------------------------------------------------------------------------------------------------- */

static void find_range(const struct chart_lines *c, struct axis *x, struct axis *y)
{
    x->min = y->min = INFINITY;
    x->max = y->max = -INFINITY;
    for (size_t i = 0; i < c->n_series; i++) {
        const struct chart_series *s = &c->series[i];
        for (size_t j = 0; j < s->n; j++) {
            if (fits(x->scale, s->x[j]) && fits(y->scale, s->y[j])) {
                x->min = fmin(x->min, s->x[j]);
                x->max = fmax(x->max, s->x[j]);
                y->min = fmin(y->min, s->y[j]);
                y->max = fmax(y->max, s->y[j]);
            }
        }
    }
    if (!isfinite(x->min)) {
        x->min = y->min = x->scale == CHART_NINES ? 0 : 1;
        x->max = y->max = x->scale == CHART_NINES ? 0.9 : 10;
    }
    if (c->limit.name != NULL && fits(y->scale, c->limit.y)) {
        y->min = fmin(y->min, c->limit.y);
        y->max = fmax(y->max, c->limit.y);
    }
    y->min = y->scale == CHART_LINEAR ? 0 : y->min;
    axis_round(y);
    if (x->scale != CHART_NINES) {
        axis_round(x);
    }
}

static void draw_axes(FILE *to, const struct chart_lines *c, const struct axis *x, const struct axis *y)
{
    double ticks[TICKS_MAX];
    size_t n = axis_ticks(y, ticks);
    for (size_t i = 0; i < n; i++) {
        double at = place(y, ticks[i]);
        line_at(to, LEFT, at, x->to, at, "grid");
        fprintf(to, "<text x=\"%d\" y=\"%.1f\" class=\"tick\" text-anchor=\"end\">", LEFT - 8, at + 4);
        tick_text(to, y, ticks[i]);
        fputs("</text>", to);
    }
    n = axis_ticks(x, ticks);
    for (size_t i = 0; i < n; i++) {
        double at = place(x, ticks[i]);
        line_at(to, at, HEIGHT - BOTTOM, at, HEIGHT - BOTTOM + 5, "axis");
        fprintf(to, "<text x=\"%.1f\" y=\"%d\" class=\"tick\" text-anchor=\"middle\">", at, HEIGHT - BOTTOM + 20);
        tick_text(to, x, ticks[i]);
        fputs("</text>", to);
    }
    line_at(to, LEFT, HEIGHT - BOTTOM, x->to, HEIGHT - BOTTOM, "axis");
    text_at(to, (x->from + x->to) / 2, HEIGHT - 10, "label", "middle", c->x_label);
    fprintf(to, "<text transform=\"translate(16 %.1f) rotate(-90)\" class=\"label\" text-anchor=\"middle\">", (TOP + HEIGHT - BOTTOM) / 2.0);
    chart_text(to, c->y_label);
    fputs("</text>", to);
}

static void draw_series(FILE *to, const struct chart_series *s, size_t color, const struct axis *x, const struct axis *y)
{
    bool begun = false;
    fprintf(to, "<path class=\"line s%zu\" d=\"", color);
    for (size_t i = 0; i < s->n; i++) {
        if (fits(x->scale, s->x[i]) && fits(y->scale, s->y[i])) {
            fprintf(to, "%c%.1f %.1f", begun ? 'L' : 'M', place(x, s->x[i]), place(y, s->y[i]));
            begun = true;
        }
    }
    fputs("\"><title>", to);
    chart_text(to, s->name);
    fputs("</title></path>", to);
    for (size_t i = 0; s->marks && i < s->n; i++) {
        if (fits(x->scale, s->x[i]) && fits(y->scale, s->y[i])) {
            char a[32], b[32];
            fprintf(to, "<circle class=\"mark s%zu\" cx=\"%.1f\" cy=\"%.1f\" r=\"4\"><title>", color, place(x, s->x[i]), place(y, s->y[i]));
            chart_text(to, s->name);
            fprintf(to, ": %s at %s</title></circle>", chart_number(s->y[i], a), chart_number(s->x[i], b));
        }
    }
}

static void draw_legend(FILE *to, const struct chart_lines *c)
{
    double at = LEFT;
    for (size_t i = 0; i < c->n_series; i++) {
        fprintf(to, "<rect class=\"mark s%zu\" x=\"%.1f\" y=\"34\" width=\"14\" height=\"4\" rx=\"2\"/>", i, at);
        text_at(to, at + 20, 40, "tick", "start", c->series[i].name);
        at += 44 + 6.6 * (double)strlen(c->series[i].name);
    }
}

void chart_lines(FILE *to, const struct chart_lines *c)
{
    struct axis x = {.scale = c->x_scale, .from = LEFT, .to = (c->narrow ? NARROW : WIDTH) - RIGHT}, y = {.scale = c->y_scale, .from = HEIGHT - BOTTOM, .to = TOP};
    find_range(c, &x, &y);
    svg_open(to, (int)x.to + RIGHT, HEIGHT, c->title);
    draw_axes(to, c, &x, &y);
    if (c->limit.name != NULL && fits(y.scale, c->limit.y)) {
        double at = place(&y, c->limit.y);
        line_at(to, LEFT, at, x.to, at, "limit");
        text_at(to, LEFT + 6, at - 6, "note", "start", c->limit.name);
    }
    for (size_t i = 0; i < c->n_series; i++) {
        draw_series(to, &c->series[i], i, &x, &y);
    }
    draw_legend(to, c);
    fputs("</svg>\n", to);
}

/* ---- bars ------------------------------------------------------------------------------------------------------------------ */

void chart_bars(FILE *to, const struct chart_bars *c)
{
    struct axis x = {.scale = CHART_LINEAR, .min = 0, .max = 0, .from = BAR_LEFT, .to = WIDTH - BAR_RIGHT};
    for (size_t i = 0; i < c->n; i++) {
        x.max = fmax(x.max, fmax(c->bars[i].value, c->bars[i].high));
    }
    if (c->limit.name != NULL) {
        x.max = fmax(x.max, c->limit.y);
    }
    axis_round(&x);
    double top = c->limit.name != NULL ? 48 : 32, bottom = top + (double)c->n * BAR;
    svg_open(to, WIDTH, bottom + BOTTOM, c->title);
    double ticks[TICKS_MAX];
    size_t n = axis_ticks(&x, ticks);
    for (size_t i = 0; i < n; i++) {
        double at = place(&x, ticks[i]);
        line_at(to, at, top, at, bottom, "grid");
        fprintf(to, "<text x=\"%.1f\" y=\"%.1f\" class=\"tick\" text-anchor=\"middle\">", at, bottom + 18);
        tick_text(to, &x, ticks[i]);
        fputs("</text>", to);
    }
    for (size_t i = 0; i < c->n; i++) {
        const struct chart_bar *b = &c->bars[i];
        char text[32];
        double y = top + (double)i * BAR + 7, end = place(&x, b->value), middle = y + (BAR - 14) / 2.0;
        text_at(to, BAR_LEFT - 10, middle + 4, "name", "end", b->name);
        fprintf(to, "<rect class=\"bar s%u\" x=\"%d\" y=\"%.1f\" width=\"%.1f\" height=\"%d\" rx=\"2\"/>", b->color, BAR_LEFT, y, fmax(end - BAR_LEFT, 1), BAR - 14);
        if (b->high > b->low) {
            line_at(to, place(&x, b->low), middle, place(&x, b->high), middle, "range");
        }
        text_at(to, fmax(end, place(&x, b->high)) + 8, middle + 4, "value", "start", b->text != NULL ? b->text : chart_number(b->value, text));
    }
    line_at(to, BAR_LEFT, top, BAR_LEFT, bottom, "axis");
    if (c->limit.name != NULL) {
        double at = place(&x, c->limit.y);
        bool right = at > (x.from + x.to) / 2;
        line_at(to, at, top - 6, at, bottom, "limit");
        text_at(to, at + (right ? 4 : -4), top - 10, "note", right ? "end" : "start", c->limit.name);
    }
    text_at(to, (x.from + x.to) / 2, bottom + 40, "label", "middle", c->x_label);
    fputs("</svg>\n", to);
}
