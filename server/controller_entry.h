/* controller_entry.h: the entries of the controller's log. Pure; little-endian; every field is bounds-checked on decoding.
 *
 *   entry = u8 version = 1 | u8 kind | u16 0 | u64 now_ms | 16 B request id (zero: none) | body
 *   text  = u8 length | bytes          node = u32 id | text host | u16 port | text zone | text kinesis | text admin
 *
 *   INIT             16 B cluster id | u16 n | u16 voters | n nodes (by id; the first `voters` of them vote)
 *   NODE             node: adds it as JOINING, or changes its addresses and zone
 *   NODE_STATE       u32 node | u8 state
 *   NODE_LIFE        node | u64 incarnation | u8 life: 0 with its data, 1 blank (all its replicas get new generations), 2 only its controller replica is lost
 *   STREAM_CREATE    16 B stream id | text account | text name | u32 shards | u32 replicas | u32 retention_hours | u8 on_demand | u8 limits_off
 *                    | u32 record_max | shards * replicas * u16 node (the first of a shard is its preferred leader)
 *   STREAM_ACTIVE    16 B stream id
 *   STREAM_UPDATE    16 B stream id | u32 retention_hours (0: unchanged) | u8 limits (0 unchanged, 1 on, 2 off)
 *   STREAM_DELETE    16 B stream id | u8 done
 *   REPLICA          u64 group | u8 op | u32 node | u32 generation | u32 to_node
 *   PREFERRED        u64 group | u32 node
 *   VOTERS           u16 n | n * u32 node: the wanted voters of the controller group
 *   RESHARD_BEGIN    16 B stream id | u32 target (of the change of the number of shards that it belongs to; 0: a request of its own) | u8 parents (1: split, 2: merge)
 *                    | u32 each | 16 B first hash key of the upper child (split, else 0) | u32 replicas | children * replicas * u16 node
 *   RESHARD_TARGET   16 B stream id | u32 target: open shards, all of the same width
 *   RESHARD_STEP     16 B stream id | u8 step | u64 reshard | u32 shard | u64 offset | u64 time_ms
 *
 * Feature level 2 (rule F37: no entry above the level that every node can do is ever proposed; LEVEL raises it):
 *
 *   long  = u16 length | bytes         tags = u16 n | n * (long key | long value)
 *
 *   LEVEL              u32 feature level of the cluster from here on
 *   STREAM_CREATE_WITH u32 warm_mibps | tags | body of STREAM_CREATE
 *   STREAM_CHANGE      16 B stream id | u32 retention_hours (0: unchanged) | u8 way (0 any, 1 not shorter, 2 not longer) | u8 limits | u32 record_max (0: unchanged)
 *                      | u8 mode (0 unchanged, 1 provisioned, 2 on demand) | u32 metrics on | u32 metrics off | u8 warm is given | u32 warm_mibps
 *   STREAM_DROP        16 B stream id: STREAM_DELETE, unless the stream has consumers
 *   CONSUMER_REGISTER  16 B stream id | text name | tags
 *   CONSUMER_REMOVE    16 B stream id | u64 consumer
 *   RESOURCE           16 B stream id | u64 consumer (0: the stream itself) | tags to set | u16 n, n * long: keys of tags to take away | u8 policy (0 unchanged, 1 set, 2 drop) | long policy
 *   ACCOUNT            text account | u8 commitment (1 on, 2 off)
 *   TOKEN_KEY          32 B key; the first one stays
 *
 * Time and random choices ride in the entry; ids of groups and generations are given at apply from counters. */
#ifndef SLUICE_CONTROLLER_ENTRY_H
#define SLUICE_CONTROLLER_ENTRY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "server/cluster_map.h"
#include "server/cursor.h"

enum { CONTROLLER_ENTRY_VERSION = 1, FEATURE_LEVEL_FIRST = 1, FEATURE_LEVEL = 2 }; /* FEATURE_LEVEL: what this program can do */
enum { STREAM_SHARDS_MAX = 10000, STREAM_REPLICAS_MAX = 5, CLUSTER_SHARDS_MAX = 60000, CLUSTER_STREAMS_MAX = 10000 };

enum controller_entry_kind {
    CONTROLLER_INIT = 64, CONTROLLER_NODE = 65, CONTROLLER_NODE_STATE = 66, CONTROLLER_NODE_LIFE = 67, CONTROLLER_STREAM_CREATE = 68,
    CONTROLLER_STREAM_ACTIVE = 69, CONTROLLER_STREAM_UPDATE = 70, CONTROLLER_STREAM_DELETE = 71, CONTROLLER_REPLICA = 72,
    CONTROLLER_PREFERRED = 73, CONTROLLER_VOTERS = 74, CONTROLLER_RESHARD_BEGIN = 75, CONTROLLER_RESHARD_TARGET = 76, CONTROLLER_RESHARD_STEP = 77,
    CONTROLLER_LEVEL = 78, CONTROLLER_STREAM_CREATE_WITH = 79, CONTROLLER_STREAM_CHANGE = 80, CONTROLLER_STREAM_DROP = 81, CONTROLLER_CONSUMER_REGISTER = 82,
    CONTROLLER_CONSUMER_REMOVE = 83, CONTROLLER_RESOURCE = 84, CONTROLLER_ACCOUNT = 85, CONTROLLER_TOKEN_KEY = 86
};
enum { RECORD_MAX_LEAST = 1 << 20, RECORD_MAX_MOST = 10 << 20, METRICS_ALL = 0x7f, CONSUMERS_PROVISIONED = 20, CONSUMERS_ON_DEMAND = CONSUMERS_MAX, ON_DEMAND_SHARDS = 4,
       RESOURCES_BYTES_MAX = 64 << 20 }; /* the last: tags and policies of a cluster, in all */
enum retention_way { RETENTION_ANY = 0, RETENTION_UP = 1, RETENTION_DOWN = 2 };
enum stream_mode { MODE_SAME = 0, MODE_PROVISIONED = 1, MODE_ON_DEMAND = 2 };
enum policy_op { POLICY_SAME = 0, POLICY_SET = 1, POLICY_DROP = 2 };
/* A blank disk counts from 1 again. Its new life must lie above every earlier one, also above those that ended before the controller heard of them: so a blank life
 * begins this far above the highest known incarnation. */
enum { BLANK_LIFE_JUMP = 1000000 };
enum node_life { LIFE_KEPT = 0, LIFE_BLANK = 1, LIFE_CONTROLLER_LOST = 2 };
enum replica_op {
    REPLICA_OP_REPLACE = 0, /* (node, generation) is dead or lost: dropped now; a new replica on to_node (may be the same node) joins in its place */
    REPLICA_OP_MOVE = 1,    /* a new replica joins on to_node; when it votes, (node, generation) leaves. node 0: only adds */
    REPLICA_OP_JOINED = 2,  /* (node, generation) votes now; what it replaces is leaving */
    REPLICA_OP_GONE = 3     /* (node, generation), which was leaving, is out of the configuration */
};

enum reshard_step {
    RESHARD_STEP_UNDO = 0,   /* not decided: the children go */
    RESHARD_STEP_DECIDE = 1, /* the point of no return (rule F29): the children have the keys, the parents close */
    RESHARD_STEP_ENDED = 2,  /* the CLOSE entry of the parent `shard` is committed; it ended at (offset, time_ms) */
    RESHARD_STEP_OPENED = 3, /* the OPEN entry of the child `shard` is committed */
    RESHARD_STEP_GONE = 4    /* the closed shard `shard` has nothing left that its retention keeps */
};

struct controller_entry {
    enum controller_entry_kind kind;
    uint64_t now_ms;
    uint8_t request_id[16];
    /* INIT */
    uint8_t cluster_id[16];
    struct map_node *nodes;   /* malloc'ed by decode */
    uint32_t n_nodes, n_voters;
    /* NODE, NODE_STATE (id and state), NODE_LIFE */
    struct map_node node;
    uint64_t incarnation;
    enum node_life life;
    /* STREAM_*; by id, but CREATE */
    uint8_t stream_id[16];
    char account[16], name[NAME_MAX_LEN + 1];
    uint32_t shards, replicas, retention_hours, record_max;
    bool on_demand, limits_off, done;
    uint8_t limits;
    uint32_t *placement;      /* CREATE, RESHARD_BEGIN; malloc'ed by decode: shards * replicas node ids */
    /* REPLICA, PREFERRED */
    uint64_t group;
    enum replica_op op;
    uint32_t replica_node, replica_generation, to_node;
    /* RESHARD_* */
    uint32_t target, n_parents, parents[PARENTS_MAX];
    struct hash128 at;
    enum reshard_step step;
    uint64_t reshard, offset, time_ms;
    uint32_t shard;
    /* VOTERS */
    uint32_t voters[REPLICAS_MAX];
    /* LEVEL */
    uint32_t level;
    /* STREAM_CREATE_WITH, STREAM_CHANGE */
    uint32_t warm_mibps, metrics_on, metrics_off;
    bool warm;
    enum retention_way way;
    enum stream_mode mode;
    /* CONSUMER_* (the name in `name`), RESOURCE */
    uint64_t consumer;
    /* Texts of a decoded entry lie in `texts`; else they are the caller's. A tag to take away has no value. */
    struct map_tag *tags, *untags;
    uint32_t n_tags, n_untags;
    enum policy_op policy_op;
    char *policy, *texts;
    /* ACCOUNT */
    uint8_t commitment;
    uint8_t token_key[32];
};

/* Appends the encoding. */
void controller_entry_encode(const struct controller_entry *e, struct out_buffer *out);
/* 0; SLUICE_E_INVALID (malformed), _VERSION or _NOT_SUPPORTED (a kind from the future: the replica must stop). On 0 the arrays are the caller's: controller_entry_deinit(). */
int controller_entry_decode(struct controller_entry *e, const void *data, size_t n);
void controller_entry_deinit(struct controller_entry *e);

/* The least feature level of the cluster with which an entry of this kind may be in its log. */
static inline unsigned controller_entry_level(enum controller_entry_kind kind) { return kind > CONTROLLER_LEVEL ? 2 : FEATURE_LEVEL_FIRST; }

/* How many children a reshard of so many parents has. */
static inline uint32_t reshard_children(uint32_t parents) { return parents == 1 ? 2 : 1; }

/* Shared with the snapshot. */
void map_node_encode(const struct map_node *n, struct out_buffer *out);
void map_node_decode(struct map_node *n, struct cursor *c);
/* u16 length and text without NUL bytes, at most max; the text is copied to *texts, which moves on. NULL: the cursor is bad. */
void out_long(struct out_buffer *out, const char *text);
char *cursor_long(struct cursor *c, size_t max, char **texts);
void map_tags_encode(const struct map_tag *tags, unsigned n, struct out_buffer *out);
/* At most TAGS_MAX into tags. */
unsigned map_tags_decode(struct map_tag *tags, struct cursor *c, char **texts);

/* controller_entry_meta.c: bodies of the entries of feature level 2; the cursor tells what is wrong. */
void controller_entry_meta_encode(const struct controller_entry *e, struct out_buffer *out);
void controller_entry_meta_decode(struct controller_entry *e, struct cursor *c);
void controller_entry_create_encode(const struct controller_entry *e, struct out_buffer *out);
void controller_entry_create_decode(struct controller_entry *e, struct cursor *c);

#endif
