/* metrics.h: every metric once. Plain counters per lane (struct lane_metrics), added up on lane 0 when someone asks: no shared mutable state.
 *
 * A lane adds to its own lane_metrics. To answer /metrics the node posts to each lane, which copies its counters, journal_stats(), groups_stats() and
 * links_stats() into a message back; lane 0 adds them up (metrics_add) and fills the node's own gauges. */
#ifndef SLUICE_METRICS_H
#define SLUICE_METRICS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/error.h"
#include "proto/frame.h"
#include "raft/group.h"
#include "raft/links.h"
#include "server/kinesis/kinesis.h"
#include "storage/journal.h"

/* X(field, "name", "type", "help"): counters and gauges of a lane that the server itself keeps. Names get the prefix sluice_. */
#define LANE_METRICS(X) \
    X(connections, "connections", "gauge", "Open client connections.") \
    X(peer_connections, "peer_connections", "gauge", "Open connections from other nodes.") \
    X(connections_total, "connections_total", "counter", "Connections accepted.") \
    X(connections_refused_total, "connections_refused_total", "counter", "Connections refused or closed for a protocol error.") \
    X(bytes_received_total, "received_bytes_total", "counter", "Bytes received from clients.") \
    X(bytes_sent_total, "sent_bytes_total", "counter", "Bytes sent to clients.") \
    X(put_records_total, "put_records_total", "counter", "Records acknowledged.") \
    X(put_bytes_total, "put_bytes_total", "counter", "Bytes of batches acknowledged.") \
    X(put_duplicates_total, "put_duplicates_total", "counter", "Batches answered as duplicates of an earlier one.") \
    X(put_throttled_total, "put_throttled_total", "counter", "Batches refused by a shard's write limit.") \
    X(reads_throttled_total, "reads_throttled_total", "counter", "Shared reads refused by a shard's read limit.") \
    X(fetch_records_total, "fetch_records_total", "counter", "Records read.") \
    X(fetch_bytes_total, "fetch_bytes_total", "counter", "Bytes of batches read.") \
    X(fetch_waiting, "fetch_waiting", "gauge", "Long polls waiting for records.") \
    X(fetch_memory_bytes, "fetch_memory_bytes", "gauge", "Bytes of answers to fetches that are prepared or being written.") \
    X(fetch_memory_waiting, "fetch_memory_waiting", "gauge", "Fetches that wait for memory for their answers.") \
    X(fetch_memory_waits_total, "fetch_memory_waits_total", "counter", "Fetches that had to wait for memory.") \
    X(subscriptions, "subscriptions", "gauge", "Subscriptions of shards led here: records are pushed to them.") \
    X(subscriptions_total, "subscriptions_total", "counter", "Subscriptions taken.") \
    X(push_records_total, "push_records_total", "counter", "Records pushed to subscribers.") \
    X(push_bytes_total, "push_bytes_total", "counter", "Bytes of batches pushed to subscribers.") \
    X(connections_stalled_total, "connections_stalled_total", "counter", "Connections closed because they did not take their answers while others lacked memory.") \
    X(requests_in_flight, "requests_in_flight", "gauge", "Requests not yet answered.") \
    X(handed_over_total, "lane_hand_overs_total", "counter", "Requests handed to another lane.") \
    X(trims_total, "trims_total", "counter", "Trims of shards by retention.") \
    X(closed_total, "shards_closed_total", "counter", "Shards led here that were closed by a split or merge.") \
    X(memory_bytes, "memory_bytes", "gauge", "Bytes of the memory budget in use.")

enum { METRICS_KINDS = 64, METRICS_ERRORS = 40, METRICS_BUCKETS = 22 };

/* Upper bounds double: bucket i holds values up to 50 us << i; the last one holds the rest. */
struct metrics_histogram { uint64_t buckets[METRICS_BUCKETS], count, sum_ns; };
void metrics_observe(struct metrics_histogram *h, uint64_t ns);

struct lane_metrics {
#define X(field, name, type, help) uint64_t field;
    LANE_METRICS(X)
#undef X
    uint64_t requests[METRICS_KINDS]; /* by request kind / 2 */
    uint64_t errors[METRICS_ERRORS];  /* answers by error code; 0 counts successes */
    struct metrics_histogram put_latency, fetch_latency;
};
static inline void metrics_request(struct lane_metrics *m, uint8_t kind) { m->requests[(kind / 2) % METRICS_KINDS]++; }
static inline void metrics_answer(struct lane_metrics *m, int code) { m->errors[(unsigned)code < METRICS_ERRORS ? (unsigned)code : SLUICE_E_INTERNAL]++; }

struct node_metrics {
    struct lane_metrics lanes;    /* summed */
    struct journal_stats journal;
    struct groups_stats groups;
    struct links_stats links;
    struct kinesis_metrics kinesis;
    bool has_kinesis;
    /* Of the node; filled on lane 0. */
    uint32_t node_id, n_lanes;
    uint64_t incarnation, uptime_ms, disk_free, map_version;
    struct env_usage process;
    uint64_t streams, shards, reshards, leaderless, under_replicated, nodes, nodes_alive; /* controller_stats(); the four last ones are told by the controller's leader only */
    bool ready, controller_leader;
};
/* Adds one lane's figures to the sum. Any of the three stats may be NULL. */
void metrics_add(struct node_metrics *sum, const struct lane_metrics *m, const struct journal_stats *j, const struct groups_stats *g, const struct links_stats *l);
/* The same for its Kinesis endpoint. */
void metrics_add_kinesis(struct node_metrics *sum, const struct kinesis_metrics *k);
/* The Prometheus text (malloc'ed, *len bytes, NUL-terminated). */
char *metrics_text(const struct node_metrics *m, size_t *len);

#endif
