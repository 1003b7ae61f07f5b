/* controller_machine_impl.h: the state behind controller_machine.h, for its own files (machine, streams, meta, reshard, snapshot, tests). */
#ifndef SLUICE_CONTROLLER_MACHINE_IMPL_H
#define SLUICE_CONTROLLER_MACHINE_IMPL_H

#include "server/controller_machine.h"
#include "server/id_table.h"

enum { REQUESTS_REMEMBERED = 1024 };

struct machine_member { uint32_t node, generation; bool voter, first; };
struct machine_request { uint8_t request_id[16], stream_id[16]; int32_t code; };

struct controller_machine {
    bool initialized;
    uint8_t cluster_id[16];
    uint64_t index, time_ms;
    uint64_t next_group;           /* first is CONTROLLER_GROUP + 1 */
    uint32_t controller_generation; /* highest given for the controller group */
    struct map_node nodes[NODES_MAX]; /* by id; removed ones stay, so that their incarnations are remembered */
    uint8_t lives[NODES_MAX];      /* enum node_life that nodes[i].incarnation began with */
    unsigned n_nodes;
    struct machine_member members[NODES_MAX]; /* of the controller group, by node */
    unsigned n_members;
    struct map_stream **streams;   /* by (account, name); shards malloc'ed, `open` unused */
    unsigned n_streams, cap_streams;
    uint64_t n_shards;
    struct id_table groups;        /* group -> struct map_shard */
    struct machine_request requests[REQUESTS_REMEMBERED]; /* a ring */
    uint32_t n_requests, next_request;
    uint32_t level;                /* feature level: entries up to it may be in the log */
    struct map_account *accounts;  /* by account */
    unsigned n_accounts;
    uint64_t resource_bytes;       /* of all tags and policies */
    bool has_token_key;
    uint8_t token_key[32];
    unsigned disabled;             /* simulator: enum server_rule that are switched off; the same on every node */
};

/* controller_machine_streams.c */
void machine_stream_create(struct controller_machine *m, const struct controller_entry *e, struct controller_result *r);
void machine_stream_active(struct controller_machine *m, const struct controller_entry *e, struct controller_result *r);
void machine_stream_update(struct controller_machine *m, const struct controller_entry *e, struct controller_result *r);
void machine_stream_delete(struct controller_machine *m, const struct controller_entry *e, struct controller_result *r);
void machine_replica(struct controller_machine *m, const struct controller_entry *e, struct controller_result *r);
void machine_preferred(struct controller_machine *m, const struct controller_entry *e, struct controller_result *r);
/* controller_machine_reshard.c */
void machine_reshard_begin(struct controller_machine *m, const struct controller_entry *e, struct controller_result *r);
void machine_reshard_target(struct controller_machine *m, const struct controller_entry *e, struct controller_result *r);
void machine_reshard_step(struct controller_machine *m, const struct controller_entry *e, struct controller_result *r);
/* controller_machine_meta.c */
void machine_stream_change(struct controller_machine *m, const struct controller_entry *e, struct controller_result *r);
void machine_stream_drop(struct controller_machine *m, const struct controller_entry *e, struct controller_result *r);
void machine_consumer_register(struct controller_machine *m, const struct controller_entry *e, struct controller_result *r);
void machine_consumer_remove(struct controller_machine *m, const struct controller_entry *e, struct controller_result *r);
void machine_resource(struct controller_machine *m, const struct controller_entry *e, struct controller_result *r);
void machine_account(struct controller_machine *m, const struct controller_entry *e, struct controller_result *r);
void machine_token_key(struct controller_machine *m, const struct controller_entry *e, struct controller_result *r);
void machine_level(struct controller_machine *m, const struct controller_entry *e, struct controller_result *r);
/* The entry's tags as a new resource: 0 or LIMIT. */
int machine_resource_make(struct controller_machine *m, const struct controller_entry *e, struct map_resource *out);
void machine_resource_drop(struct controller_machine *m, struct map_resource *r);
/* Every replica of a node whose disk is blank gets a new generation. */
void machine_renew_replicas(struct controller_machine *m, uint32_t node);
bool machine_node_has_replicas(const struct controller_machine *m, uint32_t node);
/* Inserts a stream (taken over) in order and its shards into the table of groups. False if the name is taken or a group id is. */
bool machine_stream_insert(struct controller_machine *m, struct map_stream *s);
struct map_stream *machine_stream_by_id(const struct controller_machine *m, const uint8_t id[16]);
/* e->placement: existing nodes, those of a shard all different. */
bool machine_placement_ok(const struct controller_machine *m, const struct controller_entry *e);
void machine_stream_free(struct map_stream *s);
struct map_node *machine_node(const struct controller_machine *m, uint32_t id);

#endif
