/* Adding up the lanes' counters, and the Prometheus text. */
#include "server/metrics.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proto/base.h"
#include "server/aws/aws_error.h"
#include "server/aws/aws_model.h"

enum { FIRST_BUCKET_NS = 50000 };

void metrics_observe(struct metrics_histogram *h, uint64_t ns)
{
    unsigned i = 0;
    while (i + 1 < METRICS_BUCKETS && ns > (uint64_t)FIRST_BUCKET_NS << i) {
        i++;
    }
    h->buckets[i]++;
    h->count++;
    h->sum_ns += ns;
}

static void add_histogram(struct metrics_histogram *sum, const struct metrics_histogram *h)
{
    for (unsigned i = 0; i < METRICS_BUCKETS; i++) {
        sum->buckets[i] += h->buckets[i];
    }
    sum->count += h->count;
    sum->sum_ns += h->sum_ns;
}

/* The stats of the lower layers, listed once for adding and for printing. X(field, "name", "type", "help") */
#define JOURNAL_METRICS(X) \
    X(appends, "journal_appends_total", "counter", "Records appended to journals.") \
    X(flushes, "journal_flushes_total", "counter", "Group commits: one write and one fdatasync each.") \
    X(bytes_payload, "journal_payload_bytes_total", "counter", "Bytes of record data appended.") \
    X(bytes_written, "journal_written_bytes_total", "counter", "Bytes written to disk by journals.") \
    X(segments, "journal_segments", "gauge", "Segments that hold data.") \
    X(pool_segments, "journal_pool_segments", "gauge", "Files kept ready to be overwritten.") \
    X(pool_bytes, "journal_pool_bytes", "gauge", "Bytes of the files kept ready to be overwritten.") \
    X(pool_want, "journal_pool_wanted_bytes", "gauge", "Bytes that should be kept ready: what the busiest minute of late wrote.") \
    X(carried_bytes, "journal_carried_bytes_total", "counter", "Bytes carried forward out of freed segments.") \
    X(freed_segments, "journal_freed_segments_total", "counter", "Segments freed.") \
    X(cache_bytes, "cache_bytes", "gauge", "Bytes in the read cache.") \
    X(cache_hits, "cache_hits_total", "counter", "Reads answered from memory.") \
    X(cache_misses, "cache_misses_total", "counter", "Reads that went to disk.") \
    X(disk_reads, "disk_reads_total", "counter", "Read requests to the disk.") \
    X(backlog, "journal_backlog_bytes", "gauge", "Bytes queued or being flushed.") \
    X(pool_written, "journal_pool_written_bytes_total", "counter", "Bytes pre-written to warm the pool of segments.")
#define GROUPS_METRICS(X) \
    X(groups, "replicas", "gauge", "Replicas on this node.") \
    X(leaders, "shards_led", "gauge", "Groups this node leads (with the controller, if it leads that).") \
    X(elections, "elections_total", "counter", "Elections this node stood in.") \
    X(term_changes, "term_changes_total", "counter", "Changes of a group's term.") \
    X(snapshots, "snapshots_total", "counter", "Snapshots taken.") \
    X(installs, "snapshot_installs_total", "counter", "Snapshots installed from a leader.") \
    X(seeded_bytes, "seeded_bytes_total", "counter", "Bytes of batches copied from other replicas.") \
    X(log_bytes, "raft_log_bytes", "gauge", "Bytes of Raft logs in memory.") \
    X(proposals, "proposals_total", "counter", "Raft proposals taken.") \
    X(transfers, "leader_transfers_total", "counter", "Leaderships handed over.")
#define LINKS_METRICS(X) \
    X(frames_sent, "link_frames_sent_total", "counter", "Frames sent to other nodes.") \
    X(frames_received, "link_frames_received_total", "counter", "Frames received from other nodes.") \
    X(records_sent, "link_records_sent_total", "counter", "Link records sent.") \
    X(records_received, "link_records_received_total", "counter", "Link records received.") \
    X(bytes_sent, "link_sent_bytes_total", "counter", "Bytes sent to other nodes.") \
    X(bytes_received, "link_received_bytes_total", "counter", "Bytes received from other nodes.") \
    X(reconnects, "link_reconnects_total", "counter", "Connections to other nodes made again.") \
    X(queued, "link_queued_bytes", "gauge", "Bytes queued to other nodes.")
#define NODE_METRICS(X) \
    X(incarnation, "incarnation", "gauge", "Life of this node: rises with every start.") \
    X(disk_free, "disk_free_bytes", "gauge", "Free space where the data folder is.") \
    X(map_version, "map_version", "gauge", "Index of the controller's log that this node's map shows.") \
    X(streams, "streams", "gauge", "Streams in the cluster.") \
    X(shards, "shards", "gauge", "Shards in the cluster, closed ones that are still kept included.") \
    X(reshards, "reshards", "gauge", "Splits and merges on their way in the cluster.") \
    X(nodes, "nodes", "gauge", "Nodes in the cluster.") \
    X(nodes_alive, "nodes_alive", "gauge", "Nodes that the controller takes for alive.")

void metrics_add(struct node_metrics *sum, const struct lane_metrics *m, const struct journal_stats *j, const struct groups_stats *g, const struct links_stats *l)
{
    if (m != NULL) {
#define X(field, name, type, help) sum->lanes.field += m->field;
        LANE_METRICS(X)
#undef X
        for (unsigned i = 0; i < METRICS_KINDS; i++) {
            sum->lanes.requests[i] += m->requests[i];
        }
        for (unsigned i = 0; i < METRICS_ERRORS; i++) {
            sum->lanes.errors[i] += m->errors[i];
        }
        add_histogram(&sum->lanes.put_latency, &m->put_latency);
        add_histogram(&sum->lanes.fetch_latency, &m->fetch_latency);
        sum->n_lanes++;
    }
    if (j != NULL) {
#define X(field, name, type, help) sum->journal.field += j->field;
        JOURNAL_METRICS(X)
#undef X
        sum->journal.flush_ns_sum += j->flush_ns_sum;
        sum->journal.flush_ns_max = max_u64(sum->journal.flush_ns_max, j->flush_ns_max);
    }
    if (g != NULL) {
#define X(field, name, type, help) sum->groups.field += g->field;
        GROUPS_METRICS(X)
#undef X
    }
    if (l != NULL) {
#define X(field, name, type, help) sum->links.field += l->field;
        LINKS_METRICS(X)
#undef X
    }
}

void metrics_add_kinesis(struct node_metrics *sum, const struct kinesis_metrics *k)
{
    sum->has_kinesis = true;
#define X(field, name, type, help) sum->kinesis.field += k->field;
    KINESIS_METRICS(X)
#undef X
#define X(field, type, help) sum->kinesis.http.field += k->http.field;
    HTTP_COUNTERS(X)
#undef X
    for (unsigned i = 0; i < KINESIS_OPERATIONS_MAX; i++) {
        sum->kinesis.requests[i] += k->requests[i];
        sum->kinesis.errors[i] += k->errors[i];
    }
}

/* ---- text ---- */

struct text { char *data; size_t len, cap; };

static void say(struct text *t, const char *format, ...) __attribute__((format(printf, 2, 3)));
static void say(struct text *t, const char *format, ...)
{
    char line[512];
    va_list args;
    va_start(args, format);
    int n = vsnprintf(line, sizeof line, format, args);
    va_end(args);
    sluice_assert(n >= 0 && (size_t)n < sizeof line);
    if (t->len + (size_t)n + 1 > t->cap) {
        t->cap = (t->cap + (size_t)n) * 2 + 4096;
        t->data = xrealloc(t->data, t->cap);
    }
    memcpy(t->data + t->len, line, (size_t)n + 1);
    t->len += (size_t)n;
}

static void say_head(struct text *t, const char *name, const char *type, const char *help)
{
    say(t, "# HELP sluice_%s %s\n# TYPE sluice_%s %s\n", name, help, name, type);
}

static void say_one(struct text *t, const char *name, const char *type, const char *help, uint64_t value)
{
    say_head(t, name, type, help);
    say(t, "sluice_%s %" PRIu64 "\n", name, value);
}

static void say_histogram(struct text *t, const char *name, const char *help, const struct metrics_histogram *h)
{
    say_head(t, name, "histogram", help);
    uint64_t below = 0;
    for (unsigned i = 0; i + 1 < METRICS_BUCKETS; i++) {
        below += h->buckets[i];
        say(t, "sluice_%s_bucket{le=\"%g\"} %" PRIu64 "\n", name, (double)((uint64_t)FIRST_BUCKET_NS << i) / 1e9, below);
    }
    say(t, "sluice_%s_bucket{le=\"+Inf\"} %" PRIu64 "\n", name, h->count);
    say(t, "sluice_%s_sum %.9f\nsluice_%s_count %" PRIu64 "\n", name, (double)h->sum_ns / 1e9, name, h->count);
}

static const char *kind_name(unsigned kind)
{
    switch (kind) {
    case FRAME_HELLO:
        return "hello";
    case FRAME_PUT:
        return "put";
    case FRAME_FETCH:
        return "fetch";
    case FRAME_STREAM_CREATE:
        return "stream_create";
    case FRAME_STREAM_UPDATE:
        return "stream_update";
    case FRAME_STREAM_DELETE:
        return "stream_delete";
    case FRAME_STREAM_LIST:
        return "stream_list";
    case FRAME_STREAM_DESCRIBE:
        return "stream_describe";
    case FRAME_CLUSTER_STATUS:
        return "cluster_status";
    case FRAME_POSITION:
        return "position";
    case FRAME_RESOLVE:
        return "resolve";
    case FRAME_NODE_CHANGE:
        return "node_change";
    case FRAME_PING:
        return "ping";
    case FRAME_TRANSFER:
        return "transfer";
    case FRAME_STREAM_RESHARD:
        return "stream_reshard";
    case FRAME_CONSUMER_REGISTER:
        return "consumer_register";
    case FRAME_CONSUMER_REMOVE:
        return "consumer_remove";
    case FRAME_CONSUMER_LIST:
        return "consumer_list";
    case FRAME_RESOURCE_CHANGE:
        return "resource_change";
    case FRAME_RESOURCE_GET:
        return "resource_get";
    case FRAME_ACCOUNT:
        return "account";
    case FRAME_FORWARD:
        return "forward";
    case FRAME_REPORT:
        return "report";
    case FRAME_REPLICA:
        return "replica";
    case FRAME_FORM:
        return "form";
    default:
        return NULL;
    }
}

/* Under the names that every exporter uses for them, so without our prefix. */
static void say_process(struct text *t, const struct env_usage *u)
{
    say(t, "# HELP process_cpu_seconds_total Processor time of all threads.\n# TYPE process_cpu_seconds_total counter\n");
    say(t, "process_cpu_seconds_total %.6f\n", (double)u->cpu_ns / 1e9);
    say(t, "# HELP process_resident_memory_bytes Memory that the process holds.\n# TYPE process_resident_memory_bytes gauge\n");
    say(t, "process_resident_memory_bytes %" PRIu64 "\n", u->resident_bytes);
}

static void say_kinesis(struct text *t, const struct kinesis_metrics *k)
{
#define X(field, name, type, help) say_one(t, "kinesis_" name, type, help, k->field);
    KINESIS_METRICS(X)
#undef X
#define X(field, type, help) say_one(t, "kinesis_http_" #field, type, help, k->http.field);
    HTTP_COUNTERS(X)
#undef X
    say_head(t, "kinesis_requests_total", "counter", "Calls of the Kinesis endpoint by operation.");
    for (unsigned i = 0; i < AWS_OPERATION_COUNT; i++) {
        if (k->requests[i] > 0) {
            say(t, "sluice_kinesis_requests_total{operation=\"%s\"} %" PRIu64 "\n", aws_operations[i].name, k->requests[i]);
        }
    }
    say_head(t, "kinesis_errors_total", "counter", "Calls of the Kinesis endpoint answered with an error, by its name.");
    for (unsigned i = AWS_E_NONE + 1; i < AWS_ERROR_COUNT; i++) {
        if (k->errors[i] > 0) {
            say(t, "sluice_kinesis_errors_total{error=\"%s\"} %" PRIu64 "\n", aws_error_name((enum aws_error)i), k->errors[i]);
        }
    }
}

char *metrics_text(const struct node_metrics *m, size_t *len)
{
    struct text t = {0};
    say_head(&t, "build_info", "gauge", "Version of this node.");
    say(&t, "sluice_build_info{version=\"%s\",node=\"%u\"} 1\n", SLUICE_VERSION, m->node_id);
    say_head(&t, "uptime_seconds", "gauge", "Seconds since this node started.");
    say(&t, "sluice_uptime_seconds %.3f\n", (double)m->uptime_ms / 1e3);
    say_process(&t, &m->process);
    say_one(&t, "ready", "gauge", "1: this node serves (see /health/ready).", m->ready);
    say_one(&t, "controller_leader", "gauge", "1: this node leads the controller.", m->controller_leader);
    say_one(&t, "lanes", "gauge", "Event loops of this node.", m->n_lanes);
#define X(field, name, type, help) say_one(&t, name, type, help, m->field);
    NODE_METRICS(X)
#undef X
    if (m->controller_leader) { /* nobody else knows */
        say_one(&t, "shards_without_leader", "gauge", "Shards in the cluster that have no leader.", m->leaderless);
        say_one(&t, "shards_under_replicated", "gauge", "Shards in the cluster with fewer live replicas than wanted.", m->under_replicated);
    }
#define X(field, name, type, help) say_one(&t, name, type, help, m->lanes.field);
    LANE_METRICS(X)
#undef X
    say_head(&t, "requests_total", "counter", "Requests by kind.");
    for (unsigned i = 0; i < METRICS_KINDS; i++) {
        const char *name = kind_name(i * 2);
        if (name != NULL) {
            say(&t, "sluice_requests_total{kind=\"%s\"} %" PRIu64 "\n", name, m->lanes.requests[i]);
        }
    }
    say_head(&t, "answers_total", "counter", "Answers by error code; OK: successes.");
    for (unsigned i = 0; i < METRICS_ERRORS; i++) {
        if (m->lanes.errors[i] > 0 || i == 0) {
            say(&t, "sluice_answers_total{code=\"%s\"} %" PRIu64 "\n", sluice_error_name((int)i), m->lanes.errors[i]);
        }
    }
    say_histogram(&t, "put_seconds", "From the arrival of a put's frame to its acknowledgement.", &m->lanes.put_latency);
    say_histogram(&t, "fetch_seconds", "From the arrival of a fetch's frame to its answer, with the time it waited for records.", &m->lanes.fetch_latency);
#define X(field, name, type, help) say_one(&t, name, type, help, m->journal.field);
    JOURNAL_METRICS(X)
#undef X
    say_head(&t, "journal_flush_seconds_total", "counter", "Time spent in group commits.");
    say(&t, "sluice_journal_flush_seconds_total %.9f\n", (double)m->journal.flush_ns_sum / 1e9);
    say_head(&t, "journal_flush_seconds_max", "gauge", "Longest group commit since the start.");
    say(&t, "sluice_journal_flush_seconds_max %.9f\n", (double)m->journal.flush_ns_max / 1e9);
#define X(field, name, type, help) say_one(&t, name, type, help, m->groups.field);
    GROUPS_METRICS(X)
#undef X
#define X(field, name, type, help) say_one(&t, name, type, help, m->links.field);
    LINKS_METRICS(X)
#undef X
    if (m->has_kinesis) {
        say_kinesis(&t, &m->kinesis);
    }
    *len = t.len;
    return t.data;
}
