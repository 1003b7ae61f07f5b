/* quota.h: a token bucket. Pure: time comes from the caller. */
#ifndef SLUICE_QUOTA_H
#define SLUICE_QUOTA_H

#include <stdbool.h>
#include <stdint.h>

/* rate tokens per second, up to `burst` saved. rate 0: no limit. Tokens are kept in thousandths, so that slow rates add up exactly. */
struct quota {
    uint64_t rate, burst;
    int64_t milli;        /* may be negative: a request larger than the burst is let through when the bucket is full, and paid back */
    uint64_t at_ms;
};

/* Full at first. burst 0: one second's worth. */
void quota_init(struct quota *q, uint64_t rate, uint64_t burst, uint64_t now_ms);
/* 0: there is room (nothing is taken yet); else milliseconds until it is worth asking again. */
uint64_t quota_wait_ms(struct quota *q, uint64_t n, uint64_t now_ms);
/* Takes n tokens, whether they are there or not. */
void quota_take(struct quota *q, uint64_t n, uint64_t now_ms);

#endif
