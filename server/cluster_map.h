/* cluster_map.h: what the controller's log says, as an immutable snapshot that every lane reads.
 *
 * The controller's machine (lane 0) builds a new map after it applied entries; the node hands a reference to each lane by a message. Reference counts
 * are atomic; contents never change after publication. Nodes that are not members of the controller group hold a replica of it as standby,
 * so every node has the map from its own disk (rule F36). */
#ifndef SLUICE_CLUSTER_MAP_H
#define SLUICE_CLUSTER_MAP_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "proto/batch.h"

enum { REPLICAS_MAX = 7, PARENTS_MAX = 2, CHILDREN_MAX = 2, NODES_MAX = 64, NAME_MAX_LEN = 128, CONTROLLER_GROUP = 1 };

enum node_state { NODE_ALIVE, NODE_DEAD, NODE_DRAINING, NODE_REMOVED, NODE_JOINING };

struct map_node {
    uint32_t id;
    char host[64];
    uint16_t port;           /* native and peer */
    char zone[32];
    enum node_state state;   /* as decided in the log; ALIVE/DEAD by the controller's leader after its delay */
    uint64_t incarnation;    /* highest known */
    uint64_t blank_since;    /* the incarnation in which it last came with an empty disk: what earlier ones acknowledged is void (F27 asks for nothing older) */
    char kinesis[72], admin[72];
};

/* A replica as the controller wants it. generation makes the raft id (raft/group.h). `first`: it belongs to the group's first configuration:
 * only such a replica may ever be created with members (F5: once, and only while this node's disk has never known the group); all others join.
 * `joining`: added, not a voter yet; when it became one, the replica (replaces_node, replaces_generation) is `leaving`: it goes on until the
 * group's configuration no longer holds it, then it vanishes from the list. */
struct map_replica {
    uint32_t node;
    uint32_t generation;
    bool first;
    bool joining;
    bool leaving;
    uint32_t replaces_node, replaces_generation; /* 0: none */
};

struct map_stream;
struct map_shard {
    uint64_t group;          /* Raft group id, never reused */
    uint32_t shard;          /* number within the stream */
    const struct map_stream *stream;
    struct hash128 first, last;
    uint32_t parents[PARENTS_MAX], children[CHILDREN_MAX]; /* children: once decided. Parents may have vanished since */
    unsigned n_parents, n_children;
    /* A child: coming (prepared, undecided: nobody is told of it) -> decided: it has its keys -> opened: its log says that it takes batches.
     * A parent: closed: its children are decided and have its keys -> ended: its log says that it takes no more. */
    bool coming, opened, closed, ended;
    uint64_t ended_offset, ended_ms; /* of the parent's end: offset after its last record, time of its log */
    uint64_t reshard;        /* the one it takes part in; 0: none */
    uint64_t created_s;      /* for sequence numbers: above its parents' */
    struct map_replica replicas[REPLICAS_MAX];
    unsigned n_replicas;
    uint32_t preferred_leader; /* node id */
    uint32_t generation;       /* highest generation ever issued for this group */
};

/* A split (one parent, two children) or a merge (two parents, one child) on its way. Before it is decided it can only be undone, after that only go forward (rule F29). */
struct map_reshard {
    uint64_t id;             /* the group of its first child: given once for ever */
    uint64_t began_ms;       /* by the controller's log */
    bool decided;
    unsigned n_parents, n_children;
    uint32_t parents[PARENTS_MAX], children[CHILDREN_MAX];
};

enum { RESHARDS_MAX = 64, SCALINGS_MAX = 10 }; /* per stream: at a time; changes of the number of shards within SCALINGS_WINDOW_MS */
#define SCALINGS_WINDOW_MS 86400000u

enum stream_status { STREAM_CREATING, STREAM_ACTIVE, STREAM_UPDATING, STREAM_DELETING };
struct stream_settings {
    uint64_t version;        /* rises with every change; delivered to each shard through its own log */
    uint32_t retention_hours;
    bool limits_off;
    uint32_t record_max;     /* bytes, key + data */
};
/* What a stream and a consumer carry beside: all of it belongs to the map. Tags in order of their keys. */
enum { TAGS_MAX = 50, TAG_KEY_BYTES = 512, TAG_VALUE_BYTES = 1024, POLICY_BYTES = 20480, CONSUMERS_MAX = 50, ACCOUNTS_MAX = 1024 };
struct map_tag { char *key, *value; };
struct map_block;
struct map_resource {
    struct map_tag *tags;
    unsigned n_tags;
    char *policy;            /* JSON; NULL: none */
    struct map_block *block; /* own: the memory of all of it, shared by reference (map_resource.h) */
};
/* A registered consumer of a stream, for push. */
struct map_consumer {
    uint64_t id;             /* index of the entry that made it: never used twice */
    char name[NAME_MAX_LEN + 1];
    uint64_t created_ms;
    struct map_resource resource;
};

struct map_stream {
    uint8_t id[16];          /* incarnation */
    char name[NAME_MAX_LEN + 1];
    char account[16];
    enum stream_status status;
    uint64_t created_ms;
    uint32_t replicas;
    bool on_demand;
    struct stream_settings settings;
    struct map_shard *shards; /* by shard number; numbers are given once, so there may be gaps */
    unsigned n_shards;
    uint32_t next_shard;     /* number of the next one */
    uint32_t target;         /* a change of the number of open shards is on its way to this one; 0: none */
    uint64_t scaled_ms[SCALINGS_MAX]; /* when the last ones began, oldest first */
    unsigned n_scaled;
    struct map_reshard *reshards;
    unsigned n_reshards;
    uint8_t request_id[16];  /* of its creation */
    struct map_resource resource;
    struct map_consumer *consumers; /* by name */
    unsigned n_consumers;
    uint32_t metrics;        /* shard-level metrics that are on, a bit each in the order of the API's enumeration (IncomingBytes is 1) */
    uint32_t warm_mibps;     /* 0: none */
    const struct map_shard **open; /* open shards by first hash key: together they hold every key once. For cluster_map_route() */
    unsigned n_open;
};

struct map_account {
    char account[16];
    uint32_t commitment;     /* to a minimum of throughput: 1 on, 2 off; only kept */
    uint64_t since_ms;
};

struct cluster_map {
    atomic_uint references;
    uint64_t version;        /* index of the last applied entry of the controller's log */
    uint8_t cluster_id[16];
    struct map_node nodes[NODES_MAX];
    unsigned n_nodes;
    struct map_stream *streams; /* by (account, name) */
    unsigned n_streams;
    struct map_replica controller[REPLICAS_MAX * 8]; /* members of the controller group: voters first */
    unsigned n_controller, n_controller_voters;
    struct map_account *accounts; /* those of which something is kept, by account */
    unsigned n_accounts;
    bool has_token_key;      /* the controller's leader makes it soon after the cluster was formed */
    uint8_t token_key[32];   /* random, of the cluster: seals shard iterators and NextTokens, so that each node reads what another gave out */
    uint64_t next_group;     /* group ids below it were given out: such a group that is in no stream was deleted for ever */
    void *index;             /* own: lookups by id and group */
};

/* An empty map with one reference; the maker fills it (malloc'ed streams, shards, reshards, consumers, accounts; streams in order of (account, name), shards by number), then calls
 * cluster_map_finish() once before it publishes it. */
struct cluster_map *cluster_map_new(void);
void cluster_map_finish(struct cluster_map *m);
struct cluster_map *cluster_map_ref(struct cluster_map *m);
void cluster_map_unref(struct cluster_map *m);
const struct map_stream *cluster_map_stream(const struct cluster_map *m, const char *account, const char *name);
const struct map_stream *cluster_map_stream_by_id(const struct cluster_map *m, const uint8_t id[16]);
const struct map_shard *cluster_map_shard_by_group(const struct cluster_map *m, uint64_t group);
const struct map_node *cluster_map_node(const struct cluster_map *m, uint32_t id);
/* What becomes of a replica that this node has on disk or running, by a map that may be older than the replica (after a restart the map lags until the
 * controller's log was replayed). KEEP: it is wanted. WAIT: the map is too old to tell: keep it, change nothing. REMOVE: gone for ever: group_close(remove) and free
 * its data. REPLACED: the same node has a replica of the group under a newer generation (*want): remove the old one, then open the new one as joining. */
enum replica_verdict { REPLICA_KEEP, REPLICA_WAIT, REPLICA_REMOVE, REPLICA_REPLACED };
enum replica_verdict cluster_map_verdict(const struct cluster_map *m, uint64_t group, uint32_t node, uint32_t generation, const struct map_replica **want);
/* The replica of a shard that `node` should run (the highest generation, if it has several), or NULL. */
const struct map_replica *cluster_map_replica(const struct map_shard *s, uint32_t node);
/* By number; NULL: there is none of that number (any more). */
struct map_shard *cluster_map_shard(const struct map_stream *s, uint32_t shard);
const struct map_consumer *cluster_map_consumer(const struct map_stream *s, const char *name, size_t name_len);
const struct map_consumer *cluster_map_consumer_by_id(const struct map_stream *s, uint64_t id);
/* The open shard that holds a hash key; NULL while none does. */
const struct map_shard *cluster_map_route(const struct map_stream *s, const struct hash128 *key);

#endif
