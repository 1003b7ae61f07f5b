/* quota.c: see quota.h. */
#include "server/quota.h"

#include "proto/base.h"

void quota_init(struct quota *q, uint64_t rate, uint64_t burst, uint64_t now_ms)
{
    if (rate > INT64_MAX / 1000000) {
        rate = INT64_MAX / 1000000;
    }
    *q = (struct quota){ .rate = rate, .burst = burst != 0 ? min_u64(burst, INT64_MAX / 1000000) : rate, .at_ms = now_ms };
    q->milli = (int64_t)(q->burst * 1000);
}

static void refill(struct quota *q, uint64_t now_ms)
{
    if (now_ms <= q->at_ms) {
        return;
    }
    uint64_t passed = now_ms - q->at_ms;
    q->at_ms = now_ms;
    int64_t full = (int64_t)(q->burst * 1000);
    /* rate tokens a second are rate thousandths a millisecond. */
    uint64_t missing = (uint64_t)(full - q->milli);
    if (passed >= missing / q->rate + 1) {
        q->milli = full;
    } else {
        q->milli += (int64_t)(passed * q->rate);
    }
    if (q->milli > full) {
        q->milli = full;
    }
}

uint64_t quota_wait_ms(struct quota *q, uint64_t n, uint64_t now_ms)
{
    if (q->rate == 0) {
        return 0;
    }
    refill(q, now_ms);
    uint64_t need = min_u64(n, q->burst) * 1000;
    if (q->milli >= (int64_t)need) {
        return 0;
    }
    return ((uint64_t)((int64_t)need - q->milli) + q->rate - 1) / q->rate;
}

void quota_take(struct quota *q, uint64_t n, uint64_t now_ms)
{
    if (q->rate == 0) {
        return;
    }
    refill(q, now_ms);
    q->milli -= (int64_t)(min_u64(n, INT64_MAX / 4000000) * 1000);
}
