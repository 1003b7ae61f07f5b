/* world.h: one simulated cluster: nodes, clients, faults, from one seed.
 *
 * run_seed() plays one seed: form the cluster, create the stream, let clients write and read while faults strike (phase one), heal everything and
 * demand liveness (phase two), then read every replica and judge the history. */
#ifndef SLUICE_TESTS_SIM_WORLD_H
#define SLUICE_TESTS_SIM_WORLD_H

#include "server/node.h"
#include "storage/env_sim.h"
#include "tests/check/check.h"

enum { WORLD_NODES_MAX = 5 };

/* Kinds of faults; each seed draws which are on (swarm testing). */
enum fault_kind {
    FAULT_KILL = 1 << 0,       /* SIGKILL: page cache stays */
    FAULT_POWER = 1 << 1,      /* power cut: unsynced sectors kept, lost or torn */
    FAULT_POWER_ALL = 1 << 2,  /* every node at once */
    FAULT_PAUSE = 1 << 3,
    FAULT_CUT = 1 << 4,        /* one way */
    FAULT_PARTITION = 1 << 5,  /* a minority away from the rest */
    FAULT_NET = 1 << 6,        /* delay, loss, stalls, split writes */
    FAULT_RESET = 1 << 7,
    FAULT_CLOCK = 1 << 8,      /* wall steps of 20 s and drift; of 100 days, there and back, on one node only */
    FAULT_SLOW_DISK = 1 << 9,
    FAULT_NOSPACE = 1 << 10,
    FAULT_READ_ERROR = 1 << 11,
    FAULT_WRITE_ERROR = 1 << 12,
    FAULT_FLIP = 1 << 13,      /* damage on one node's disk only */
    FAULT_CORRUPT_NET = 1 << 14,
    FAULT_STOP = 1 << 15,      /* planned stop (SIGTERM) and restart */
    FAULT_ALL = (1 << 16) - 1, /* the rest only in profiles that name them */
    FAULT_WIPE = 1 << 16,      /* a node loses its disk and joins anew: one node only, the same as damage */
    FAULT_DRAIN = 1 << 17      /* replicas are moved off a node, and back */
};
enum { FAULT_KINDS = 18 };

/* A set of circumstances (profiles.c); zero: as without a profile. */
struct world_profile {
    const char *name, *text;
    unsigned faults;           /* these and no others; each seed draws from them unless `fixed` */
    bool fixed;
    unsigned nodes, shards, seconds, operations;
    unsigned tick_ms, tick_spread_ms;     /* between two strikes */
    unsigned restart_ms;                  /* a crashed node is back within this */
    uint32_t snapshot_bytes, trailing_bytes, record_bytes;
    unsigned replicas, controller_nodes;
    struct sim_range sync_ns, write_ns, delay_ns; /* of a healthy disk, of a calm network */
    uint64_t queued_max;                  /* bytes that a node may have queued to its peers */
    unsigned keys;                        /* how many partition keys there are; 0: 1000 */
    unsigned reshard_ms;                  /* a split, merge or change of the number of shards about every so often; 0: none */
    bool steady;                          /* producers never burst */
    bool subscribers;                     /* registered consumers in every seed, not only in every fourth */
};
const struct world_profile *profile_find(const char *name); /* NULL: unknown */
void profiles_print(void);

struct world_options {
    uint64_t seed;
    unsigned nodes;            /* 3 or 5; 0: by seed (mostly 3) */
    unsigned shards;           /* 0: by seed, 4 to 8 */
    unsigned seconds;          /* of faults; 0: 20 */
    unsigned operations;       /* puts per simulated second over all clients; 0: 30 to 50 by seed */
    unsigned faults;           /* fault kinds allowed; each seed draws from them */
    const struct world_profile *profile; /* never NULL */
    unsigned disable_raft, disable_journal, disable_server; /* rules that are switched off */
    bool verbose;              /* logs of the nodes to stderr */
    bool fixed_faults;         /* all of `faults` on, no drawing */
};

struct world_result {
    uint64_t seed, trace_hash, events, simulated_ns;
    uint64_t acked, unknown, failed, read, faults, leader_changes, crashes;
    uint64_t anomalies, reshards, pushed;
    unsigned by_kind[32];
    char message[512];         /* first anomaly or what went wrong; empty: all well */
};

struct world_node {
    struct world *world;
    struct sim_host *host;
    struct settings settings;
    struct node *node;         /* NULL while down */
    unsigned number;           /* 1.. */
    bool up, paused, damaged;
    bool stepped;              /* its wall clock is or was days away from the others' */
    bool expect_exit;          /* a disk fault is on: exit 10 is planned */
    uint64_t restart_at;       /* ns; 0: no restart planned */
};

struct world {
    struct world_options options;
    struct world_result *result;
    struct sim *sim;
    struct world_node nodes[WORLD_NODES_MAX];
    unsigned n_nodes, n_shards;
    struct history history;
    struct sim_net calm, rough;
    unsigned faults;           /* drawn */
    bool healing;
    struct workload *workload;
    char endpoints[256];
    uint64_t healed_at;        /* ns; when the last fault ended */
    unsigned drained;          /* number of the node that is drained, 0: none */
};

void run_seed(const struct world_options *o, struct world_result *r);

/* world.c */
void world_fail(struct world *w, unsigned kind, const char *format, ...) __attribute__((format(printf, 3, 4)));
void world_start_node(struct world *w, struct world_node *n);
/* The stream as the newest map of a running node has it; NULL: none knows it. Valid until the simulation goes on. */
struct map_stream;
const struct map_stream *world_stream(const struct world *w);
void world_crash_node(struct world *w, struct world_node *n, enum sim_crash how);
struct sim_disk world_disk(const struct world *w); /* a healthy one */

/* finals.c */
void world_judge(struct world *w);

/* faults.c: strikes at random until `until_ns`, then heals everything. */
void faults_begin(struct world *w, uint64_t until_ns);
void faults_heal(struct world *w);

/* workload.c: producers and readers through the client library. */
struct workload;
struct workload *workload_start(struct world *w);
bool workload_ready(const struct workload *l);                        /* the stream exists and clients know it */
void workload_run(struct workload *l);                                /* start putting and reading */
void workload_stop_reshards(struct workload *l);
void workload_stop_puts(struct workload *l);
bool workload_drained(const struct workload *l);                      /* every put has an outcome */
bool workload_caught_up(const struct workload *l, uint32_t shard, uint64_t end); /* its reader got everything below end, and nothing above: else the end is an old one */
uint64_t workload_read_to(const struct workload *l, uint32_t shard); /* next offset of the shard's reader */
uint64_t workload_last_ack(const struct workload *l, uint32_t shard); /* ns of the last acknowledgement; 0: none */
bool workload_has_key(const struct workload *l, const struct hash128 *first, const struct hash128 *last); /* some record's key lies there */
void workload_told_children(struct workload *l, const struct map_stream *s); /* what readers were told of children, against the truth */
void workload_drain(struct workload *l, unsigned node, bool on);      /* asks the cluster to drain a node, or to use it again */
void workload_finish(struct workload *l);                             /* writes what is still open into the history as unknown */

/* subscribers.c: registered consumers that have records pushed to them. */
struct subscribers;
struct map_shard;
struct subscribers *subscribers_start(struct world *w);
bool subscribers_caught_up(const struct subscribers *a, uint32_t shard, uint64_t end); /* each consumer got everything below end */
uint64_t subscribers_got(const struct subscribers *a, uint32_t shard);                 /* what the slowest of them has got to */
void subscribers_told_children(const struct subscribers *a, const struct map_shard *m); /* what they were told, against the truth */

#endif
