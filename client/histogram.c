/* A log-linear histogram: values below 64 have a bucket each; above, each power of two is cut into 64. */
#include "client/histogram.h"

static unsigned bucket_of(uint64_t value)
{
    if (value < HISTOGRAM_SUB) {
        return (unsigned)value;
    }
    unsigned shift = 63u - (unsigned)__builtin_clzll(value) - 6u;
    return (shift + 1) * HISTOGRAM_SUB + (unsigned)((value >> shift) - HISTOGRAM_SUB);
}

static uint64_t bucket_top(unsigned bucket)
{
    if (bucket < HISTOGRAM_SUB) {
        return bucket;
    }
    unsigned shift = bucket / HISTOGRAM_SUB - 1;
    return ((((uint64_t)bucket % HISTOGRAM_SUB) + HISTOGRAM_SUB) << shift) + ((1ull << shift) - 1);
}

void histogram_add(struct histogram *h, uint64_t value)
{
    h->counts[bucket_of(value)]++;
    h->n++;
    h->sum += value;
    h->max = value > h->max ? value : h->max;
}

uint64_t histogram_quantile(const struct histogram *h, double q)
{
    if (h->n == 0) {
        return 0;
    }
    double wanted = q * (double)h->n;
    uint64_t rank = (uint64_t)wanted + ((double)(uint64_t)wanted < wanted), seen = 0;
    rank = rank == 0 ? 1 : rank > h->n ? h->n : rank;
    for (unsigned i = 0; i < HISTOGRAM_BUCKETS; i++) {
        seen += h->counts[i];
        if (seen >= rank) {
            uint64_t top = bucket_top(i);
            return top < h->max ? top : h->max;
        }
    }
    return h->max;
}
