/* histogram.h: counts of durations in buckets that grow with the value (error below 1.6 %), for quantiles. */
#ifndef SLUICE_HISTOGRAM_H
#define SLUICE_HISTOGRAM_H

#include <stdint.h>

enum { HISTOGRAM_SUB = 64, HISTOGRAM_BUCKETS = 59 * HISTOGRAM_SUB };

struct histogram { uint64_t counts[HISTOGRAM_BUCKETS], n, max, sum; };

void histogram_add(struct histogram *h, uint64_t value);
/* The value below which a share q (0..1) of what was added lies, to the bucket's upper end; 0 if empty; never above the maximum. */
uint64_t histogram_quantile(const struct histogram *h, double q);

#endif
