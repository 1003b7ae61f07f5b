/* kinesis.h: the Kinesis endpoint of a lane: HTTP in, the native protocol out.
 *
 * Each lane of a node serves the port (share_port), with its own HTTP server and its own client of the native protocol (client/sluice.h), which knows the shards'
 * leaders, tries again and keeps outcomes apart; so any node serves any request, and forwards it once. What only needs the cluster's map is answered from the lane's.
 * Everything here is called on the lane's own thread. */
#ifndef SLUICE_KINESIS_H
#define SLUICE_KINESIS_H

#include <stdbool.h>
#include <stdint.h>

#include "server/http/http.h"

struct lane;
struct kinesis;

/* *port: 0 takes a free one; set to the bound one (lane 0 opens first, the others are given its port). 0 or -errno. The lane must be serving. */
int kinesis_open(struct kinesis **out, struct lane *l, const char *host, uint16_t *port);
/* The lane has a new map: calls that wait for what they changed go on; subscriptions of consumers that are gone end. */
void kinesis_map(struct kinesis *k);
/* Of connections from now on. The endpoint has one already. */
void kinesis_set_tls(struct kinesis *k, struct tls_context *tls);
/* Orderly: no new requests, grace_ms for those under way; done runs once on a later turn, the memory is gone then. */
void kinesis_close(struct kinesis *k, uint64_t grace_ms, void (*done)(void *arg), void *arg);

/* X(field, "name", "type", "help"): what an endpoint counts, beside http_server_counters(). Names get the prefix sluice_kinesis_. */
#define KINESIS_METRICS(X) \
    X(calls, "calls", "gauge", "Calls not yet answered.") \
    X(put_records_total, "put_records_total", "counter", "Records acknowledged over the Kinesis endpoint.") \
    X(put_throttled_total, "put_throttled_total", "counter", "Records answered with ProvisionedThroughputExceededException.") \
    X(put_failed_total, "put_failed_total", "counter", "Records answered with another error.") \
    X(get_records_total, "get_records_total", "counter", "Records given out by GetRecords.") \
    X(pushed_records_total, "pushed_records_total", "counter", "Records pushed by SubscribeToShard.") \
    X(subscriptions, "subscriptions", "gauge", "SubscribeToShard calls that are being served.") \
    X(rate_exceeded_total, "rate_exceeded_total", "counter", "Control calls answered with LimitExceededException: Rate exceeded.") \
    X(signatures_refused_total, "signatures_refused_total", "counter", "Calls whose signature or access key was refused.")

enum { KINESIS_OPERATIONS_MAX = 64 };
struct kinesis_metrics {
#define X(field, name, type, help) uint64_t field;
    KINESIS_METRICS(X)
#undef X
    uint64_t requests[KINESIS_OPERATIONS_MAX]; /* by enum aws_op */
    uint64_t errors[KINESIS_OPERATIONS_MAX];   /* by enum aws_error */
    struct http_counters http;
};
/* A copy, on the lane's thread. */
void kinesis_metrics(const struct kinesis *k, struct kinesis_metrics *out);

#endif
