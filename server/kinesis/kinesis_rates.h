/* kinesis_rates.h: how often an account may call each operation of the control plane: a token bucket for each, twice a second's worth deep.
 *
 * AWS counts for an account in a region; here each node counts for itself: lane 0 has the buckets, the other lanes ask it. */
#ifndef SLUICE_KINESIS_RATES_H
#define SLUICE_KINESIS_RATES_H

#include <stdbool.h>
#include <stdint.h>

struct kinesis_rates;
struct call;

struct kinesis_rates *rates_make(void);
void rates_free(struct kinesis_rates *r);
/* May this account call the operation (a number below AWS_OPERATION_COUNT) now? Takes a token if so. now_ms never goes back. */
bool rates_take(struct kinesis_rates *r, const char *account, unsigned operation, uint32_t per_s, uint64_t now_ms);

/* Asks lane 0; then runs `then` if the call may go on and its peer is still there, or answers LimitExceededException. On lane 0 at once. */
void kinesis_rates_ask(struct call *c, uint32_t per_s, void (*then)(struct call *c));

#endif
