/* settings.h: every setting once: name (flag, environment SLUICE_NAME, file key), type, default, text. Tables and --help come from
 * this list; tests/script/settings_doc.sh holds deploy/sluice.conf and deploy/README.md to it. Unknown settings are refused. */
#ifndef SLUICE_SETTINGS_H
#define SLUICE_SETTINGS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* X(type, field, "name", default, min, max, "text"); type: TEXT (default a string), NUMBER, SIZE (bytes, accepts KiB MiB GiB), BOOL */
#define SLUICE_SETTINGS(X) \
    X(NUMBER, node_id, "node-id", 1, 1, 65535, "this node's number in the cluster") \
    X(TEXT, data, "data", "./sluice-data", 0, 0, "data folder") \
    X(TEXT, listen, "listen", "127.0.0.1:4570", 0, 0, "address of the native protocol, for clients and peers") \
    X(TEXT, kinesis, "kinesis", "127.0.0.1:4567", 0, 0, "address of the Kinesis endpoint; empty: none") \
    X(TEXT, admin, "admin", "127.0.0.1:4571", 0, 0, "address of metrics and health; empty: none") \
    X(TEXT, cluster, "cluster", "", 0, 0, "the first nodes: \"1=host:port,2=host:port\"; empty: a cluster of this node alone") \
    X(BOOL, join, "join", 0, 0, 1, "join an existing cluster (named by cluster) instead of forming one") \
    X(NUMBER, lanes, "lanes", 0, 0, 64, "event-loop threads; 0: as many as the data folder has, one per core if it is new") \
    X(TEXT, zone, "zone", "", 0, 0, "failure zone of this node; replicas are spread over zones") \
    X(TEXT, region, "region", "us-east-1", 0, 0, "region in ARNs") \
    X(TEXT, account, "account", "000000000000", 0, 0, "default account, 12 digits") \
    X(TEXT, access_keys, "access-keys", "", 0, 0, "file of the access keys that the Kinesis endpoint takes, a line each: access key, secret, maybe an account; empty: any credentials") \
    X(TEXT, kinesis_tls_cert, "kinesis-tls-cert", "", 0, 0, "PEM file of the Kinesis endpoint's certificate and those between it and the root; with kinesis-tls-key it takes TLS alone; empty: plain text") \
    X(TEXT, kinesis_tls_key, "kinesis-tls-key", "", 0, 0, "PEM file of that certificate's private key, not encrypted") \
    X(TEXT, limits, "limits", "kinesis", 0, 0, "throughput limits of new streams and of the node: kinesis or off") \
    X(NUMBER, replicas, "replicas", 3, 1, 7, "replicas of a new stream; never more than there are nodes") \
    X(NUMBER, controller_nodes, "controller-nodes", 3, 1, 5, "voters of the controller group: 1, 3 or 5") \
    X(SIZE, segment_first, "segment-first", 4194304, 65536, 1073741824, "size of a journal's first segment; doubles up to segment-max") \
    X(SIZE, segment_max, "segment-max", 268435456, 65536, 1073741824, "largest journal segment") \
    X(SIZE, pool_max, "pool-max", 1073741824, 0, 1099511627776, "files kept ready to be overwritten, per lane") \
    X(SIZE, flush_max, "flush-max", 4194304, 32768, 67108864, "bytes in one group commit") \
    X(SIZE, disk_reserve, "disk-reserve", 67108864, 0, 1099511627776, "free disk space below which writes are refused") \
    X(SIZE, seed_rate, "seed-rate", 268435456, 0, 1099511627776, "most bytes per second (at least 1 MiB) that a lane gives to replicas that lack data while it takes puts; 0: no limit") \
    X(SIZE, cache, "cache", 134217728, 1048576, 1099511627776, "read cache per node") \
    X(SIZE, fetch_memory, "fetch-memory", 134217728, 1048576, 1099511627776, "bytes of answers to fetches that clients have not taken yet, per node; at the bound fetches wait in turn") \
    X(SIZE, memory, "memory", 1073741824, 67108864, 1099511627776, "bound for Raft logs, buffers and requests of the node") \
    X(NUMBER, heartbeat_ms, "heartbeat-ms", 300, 10, 60000, "Raft heartbeat of shards") \
    X(NUMBER, election_ms, "election-ms", 3000, 50, 600000, "Raft election timeout of shards; the failure detector is what makes failover fast") \
    X(NUMBER, silence_ms, "silence-ms", 800, 50, 60000, "silence after which a peer counts as down") \
    X(NUMBER, replace_after_s, "replace-after-s", 300, 1, 604800, "how long a node may be dead before its replicas are replaced") \
    X(NUMBER, connections_max, "connections-max", 10000, 1, 1000000, "client connections per node") \
    X(NUMBER, requests_max, "requests-max", 1024, 1, 65536, "unanswered requests per connection") \
    X(SIZE, in_flight, "in-flight", 1048576, 65536, 67108864, "bytes proposed and not yet committed per shard") \
    X(SIZE, record_max, "record-max", 1048576, 1024, 10485760, "largest record (key and data) of new streams") \
    X(NUMBER, shard_bytes_per_s, "shard-bytes-per-s", 1000000, 0, 1099511627776, "write limit per shard in bytes; 0: none") \
    X(NUMBER, shard_records_per_s, "shard-records-per-s", 1000, 0, 1099511627776, "write limit per shard in records; 0: none") \
    X(NUMBER, shard_read_calls_per_s, "shard-read-calls-per-s", 5, 0, 1099511627776, "limit per shard of the calls of readers that share it (GetRecords, GetShardIterator); 0: none") \
    X(NUMBER, shard_read_bytes_per_s, "shard-read-bytes-per-s", 2097152, 0, 1099511627776, "limit per shard of what readers that share it take together, in bytes; 0: none") \
    X(NUMBER, push_bytes_per_s, "push-bytes-per-s", 2000000, 0, 1099511627776, "push limit per consumer and shard in bytes; 0: none") \
    X(NUMBER, subscriptions_max, "subscriptions-max", 20000, 1, 1000000, "subscriptions to shards that the node leads") \
    X(NUMBER, producers_per_shard, "producers-per-shard", 4096, 16, 1000000, "idempotent producers remembered per shard") \
    X(NUMBER, producer_expiry_s, "producer-expiry-s", 604800, 60, 31536000, "an idle idempotent producer is forgotten after this long") \
    X(NUMBER, stop_timeout_ms, "stop-timeout-ms", 10000, 0, 600000, "how long SIGTERM waits for leadership to move") \
    X(NUMBER, spin_us, "spin-us", 0, 0, 1000, "microseconds a lane polls before it blocks") \
    X(TEXT, log_level, "log-level", "info", 0, 0, "error, warn, info or debug") \
    X(TEXT, log_format, "log-format", "text", 0, 0, "text or json")

/* Rules that simulator builds can switch off (settings.test_disable_server), to prove that the checker sees what they prevent. README.md says what each does. */
enum server_rule {
    SERVER_RULE_F18 = 1,   /* what is pending dies with its term */
    SERVER_RULE_F20 = 2,   /* idempotent producers are checked */
    SERVER_RULE_F28 = 4,   /* a replica without a leader answers stale; positions beyond the end are no error */
    SERVER_RULE_FRESH = 8, /* fresh reads ask a quorum */
    SERVER_RULE_DECIDE = 16,  /* F29: what is decided is not undone */
    SERVER_RULE_OPEN = 32,    /* F29: a child takes nothing before each parent's CLOSE is committed */
    SERVER_RULE_CLOSED = 64,  /* F21: a writer is told "closed" only when CLOSE is committed */
    SERVER_RULE_NUMBERS = 128 /* F33: a child's numbers lie above its parents' */
};

struct settings {
#define SETTING_TEXT(field) char field[1024];
#define SETTING_NUMBER(field) uint64_t field;
#define SETTING_SIZE(field) uint64_t field;
#define SETTING_BOOL(field) bool field;
#define X(type, field, name, def, min, max, text) SETTING_##type(field)
    SLUICE_SETTINGS(X)
#undef X
    uint64_t files_max;                                                    /* descriptors that the process may have, filled in by main.c; 0: not known */
    uint32_t cores;                                                        /* of this machine, filled in by main.c: lanes of a new data folder if `lanes` is 0 */
    unsigned test_disable_raft, test_disable_journal, test_disable_server; /* simulator only: no flag sets them */
    unsigned test_features;                                                /* tests only: the feature level of an older program; 0: this one's */
    uint32_t snapshot_bytes, trailing_bytes;                               /* 0: defaults */
};

void settings_defaults(struct settings *s);
/* One setting by name; "" or a reason in err. 0 or SLUICE_E_INVALID. */
int settings_set(struct settings *s, const char *name, const char *value, char err[256]);
/* Flag, then environment SLUICE_NAME, then file (--config FILE). *help is set for --help/--version. 0 or SLUICE_E_INVALID with err. */
int settings_load(struct settings *s, int argc, char **argv, char **environ, bool *help, char err[256]);
/* Cross-checks: addresses, bounds that relate. */
int settings_check(const struct settings *s, char err[256]);
/* Calls back for every setting: the text of --help. */
void settings_each(void (*cb)(void *arg, const char *name, const char *type, const char *def, const char *text), void *arg);

#endif
