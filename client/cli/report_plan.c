/* The set of `sluice bench report`, and the figures that are wanted of it. */
#include "client/cli/report.h"

#define DEPTH(n) {"depth-" n, "1 KiB, 12 shards, depth " n, "put --seconds 3 --warmup 2000 --depth " n, "put --seconds 1 --depth " n, "report-depth", 12, false}

const struct report_test report_tests[] = {
    {"disk", "The bare machine", "disk --nodes 3 --seconds 3 --curve", "disk --nodes 3 --seconds 1 --curve", NULL, 0, false},
    {"disk-rate", "The bare machine at 1,000/s", "disk --nodes 3 --seconds 10 --rate 1000 --curve", "disk --nodes 3 --seconds 2 --rate 1000 --curve", NULL, 0, false},
    /* Next to the disk's own latency: behind runs that write gigabytes the disk has no calm of its own for a while. */
    {"latency", "Acknowledgement, 1,000/s of 1 KiB", "latency --rate 1000 --seconds 10 --warmup 2000 --curve",
     "latency --rate 1000 --seconds 2 --warmup 500 --curve", "report-latency", 4, false},
    {"e2e", "Put to a following reader, 1,000/s", "e2e --rate 1000 --seconds 10 --warmup 2000 --curve", "e2e --rate 1000 --seconds 2 --warmup 500 --curve",
     "report-latency", 4, true},
    {"scale", "Many shards", "scale --shards 1000 --seconds 10 --stream report-scale", "scale --shards 200 --seconds 2 --stream report-scale", NULL, 0, false},
    {"put-1k", "1 KiB, 12 shards", "put --seconds 6 --warmup 300000 --depth 16384", "put --seconds 2 --warmup 20000 --depth 16384", "report-put", 12, true},
    {"put-1k-1", "1 KiB, one shard", "put --seconds 6 --warmup 100000 --depth 8192", "put --seconds 2 --warmup 20000 --depth 8192", "report-one", 1, true},
    {"put-100", "100 bytes, 12 shards", "put --record-size 100 --seconds 6 --warmup 500000 --depth 65536",
     "put --record-size 100 --seconds 2 --warmup 50000 --depth 65536", "report-small", 12, true},
    {"put-64k", "64 KiB, 12 shards", "put --record-size 64k --seconds 6 --warmup 4000 --depth 256",
     "put --record-size 64k --seconds 2 --warmup 400 --depth 256", "report-large", 12, true},
    DEPTH("1"), DEPTH("8"), DEPTH("64"), DEPTH("512"), DEPTH("4096"),
    {"depth-32768", "1 KiB, 12 shards, depth 32768", "put --seconds 3 --warmup 2000 --depth 32768", "put --seconds 1 --depth 32768", "report-depth", 12, true},
    {"read", "Replay, one reader", "read --records 2097152", "read --records 131072", "report-read", 4, false},
    {"read-5", "Replay, five readers of all", "read --records 2097152 --consumers 5 --fan-out", "read --records 131072 --consumers 5 --fan-out", "report-read", 4, false},
    {"read-writers", "Replay while 1,000/s are put", "read --records 2097152 --rate 1000", "read --records 131072 --rate 1000", "report-read", 4, true},
    {"follow-5", "Five readers follow one shard", "e2e --seconds 6 --warmup 50000 --depth 4096 --consumers 5 --fan-out",
     "e2e --seconds 2 --warmup 5000 --depth 4096 --consumers 5 --fan-out", "report-follow", 1, true},
};
const size_t report_tests_n = ARRAY_LEN(report_tests);

const struct report_goal report_goals[] = {
    {"1 KiB over 12 shards", "records/s", "put-1k", "records_per_s", 0, NULL, NULL, 1, true, 200000},
    {"… of the disk bound (64 KiB × 8)", "×", "put-1k", "mb_per_s", '/', "disk-65536", "mb_per_s", 1, true, 0.45},
    {"1 KiB, one shard", "records/s", "put-1k-1", "records_per_s", 0, NULL, NULL, 1, true, 120000},
    {"100 bytes over 12 shards", "records/s", "put-100", "records_per_s", 0, NULL, NULL, 1, true, 600000},
    {"64 KiB over 12 shards", "MB/s", "put-64k", "mb_per_s", 0, NULL, NULL, 1, true, 250},
    {"Bytes written per payload byte, all nodes, 1 KiB", "", "put-1k", "written_per_byte", 0, NULL, NULL, 1, false, 3.3},
    {"Server CPU per 1 KiB record, all nodes", "µs", "put-1k", "server_cpu_us_per_record", 0, NULL, NULL, 1, false, 7},
    {"Server CPU per 100-byte record, all nodes", "µs", "put-100", "server_cpu_us_per_record", 0, NULL, NULL, 1, false, 2},
    {"Acknowledgement p50 at 1,000/s, against 4 KiB × 1", "×", "latency", "p50_ms", '/', "disk-4096", "p50_ms", 1, false, 2.5},
    {"Acknowledgement p99 at 1,000/s, against 4 KiB × 1", "×", "latency", "p99_ms", '/', "disk-4096", "p99_ms", 1, false, 4},
    {"… against commits of 4 KiB at the same rate", "×", "latency", "p99_ms", '/', "disk-rate", "p99_ms", 1, false, 4},
    {"Reader's p50 above the acknowledgement's", "ms", "e2e", "p50_ms", '-', "e2e", "ack_p50_ms", 1, false, 0.3},
    {"Replay, one reader", "MB/s", "read", "mb_per_s", 0, NULL, NULL, 1, true, 700},
    {"Writers' p99 while a reader replays, against without", "×", "read-writers", "ack_p99_ms", '/', "latency", "p99_ms", 1, false, 2},
    {"Five readers following one shard, delivered", "MB/s", "follow-5", "mb_per_s", 0, NULL, NULL, 1, true, 450},
    {"Push: a consumer's p50 above the acknowledgement's, native", "ms", "push", "p50_ms", '-', "push", "ack_p50_ms", 1, false, 1},
    {"Push: a consumer's p99, native", "ms", "push", "p99_ms", 0, NULL, NULL, 1, false, 20},
    {"Push: a consumer's p50 above the acknowledgement's, HTTP/2", "ms", "push-h2", "p50_ms", '-', "push-h2", "ack_p50_ms", 1, false, 1},
    {"Push: a consumer's p99, HTTP/2", "ms", "push-h2", "p99_ms", 0, NULL, NULL, 1, false, 20},
    {"Push: the slowest of five consumers of a shard with limits, HTTP/2", "MB/s", "push-limited-h2", "consumer_stored_mb_per_s_min", 0, NULL, NULL, 1, true, 2},
    {"Push: the slowest of five consumers of a shard with limits, native", "MB/s", "push-limited", "consumer_stored_mb_per_s_min", 0, NULL, NULL, 1, true, 2},
    {"Push: five native consumers without limits", "MB/s", "push-5", "mb_per_s", 0, NULL, NULL, 1, true, 450},
    {"Idle processor time of all nodes, of one core", "%", "scale", "idle_cores", 0, NULL, NULL, 100, false, 4},
    {"Memory per replica", "KiB", "scale", "rss_bytes_per_replica", 0, NULL, NULL, 1.0 / 1024, false, 32},
    {"Until all shards are led again after a node's death", "s", "kill", "led_ms", 0, NULL, NULL, 1e-3, false, 5},
    {"Writers' p99 while a node catches up, against without", "×", "catchup", "p99_ms", '/', "catchup", "base_p99_ms", 1, false, 2},
    {"Until all shards are led", "s", "scale", "led_ms", 0, NULL, NULL, 1e-3, false, 10},
};
const size_t report_goals_n = ARRAY_LEN(report_goals);
