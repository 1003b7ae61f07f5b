/* exposition.h: reads the Prometheus text that nodes answer at /metrics: just what the command needs of it. */
#ifndef SLUICE_EXPOSITION_H
#define SLUICE_EXPOSITION_H

#include <stdbool.h>
#include <stddef.h>

/* The value of the sample with this name and no labels. False: there is none, or it is no number. */
bool exposition_value(const char *text, const char *name, double *out);

/* A histogram's cumulative counts. */
enum { EXPOSITION_BUCKETS_MAX = 64 };
struct exposition_histogram { unsigned n; double le[EXPOSITION_BUCKETS_MAX], below[EXPOSITION_BUCKETS_MAX]; /* the last le is infinite */ };
/* Adds the buckets of histogram `name` to *sum, which is all zero at first; false: there are none or they are cut differently. */
bool exposition_histogram_add(const char *text, const char *name, struct exposition_histogram *sum);
/* The value below which a share q (0..1) of what came between two looks lies, interpolated within its bucket; negative if nothing came. before NULL: since
 * the start. */
double exposition_quantile(const struct exposition_histogram *before, const struct exposition_histogram *after, double q);

#endif
