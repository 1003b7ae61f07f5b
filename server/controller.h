/* controller.h: the controller group on this node: metadata machine, reconciler, control requests.
 *
 * The machine is deterministic: entries (server/controller_entry.h) in, state out; side effects are the reconciler's, which runs on the leader only, compares wanted
 * and actual, and is safe to repeat. Creation of replicas is every node's own act: it sees in its own copy of the machine which groups it should have
 * (controller_callbacks.map_changed) and opens them; so first creation needs no remote call and happens once per group id.
 *
 * Lane 0 only. */
#ifndef SLUICE_CONTROLLER_H
#define SLUICE_CONTROLLER_H

#include <stdbool.h>
#include <stdint.h>

#include "proto/frame.h"
#include "raft/group.h"
#include "server/cluster_map.h"
#include "server/node.h"

struct controller;
struct replica_status;

struct controller_options {
    struct node *node;
    struct env *env;
    struct groups *groups;                   /* lane 0's */
    const struct recovered_group *recovered; /* the controller group's, or NULL */
    uint64_t join_incarnation;               /* formation_result.join_incarnation */
    uint32_t controller_generation;          /* formation_result.controller_generation: this node's raft id when joining */
    void *arg;
    /* A new map was built (ref held by the callee). Called on lane 0 after each batch of applied entries. */
    void (*map_changed)(void *arg, struct cluster_map *map);
    /* What this node's replicas are doing, asked for before each report (E: fills at most max; returns the number). Gathers over all lanes: the node keeps a
     * recent copy on lane 0. */
    unsigned (*replicas)(void *arg, struct replica_status *out, unsigned max);
    /* Orders for a group this node leads (from the controller's leader): on the group's lane; done on lane 0. */
    void (*order)(void *arg, uint64_t group, int kind, uint64_t raft_id, void (*done)(void *darg, int code), void *darg);
};
struct replica_status {
    uint64_t group, raft_id, term, last_index, commit_index, leader; /* leader: raft id */
    enum group_role role;
    bool ready, joined;
    bool lost;               /* recovery says this replica must not vote (recovered_group.lost): it is not running; raft_id is the old one */
    struct group_peer peers[REPLICAS_MAX + 2]; /* leader only */
    unsigned n_peers;
    uint64_t write_bytes_per_s;
    bool opened, closed, expired; /* shard.h */
    uint64_t next_offset, log_time_ms; /* if closed */
};

/* Gathering: the node calls controller_replicas_changed() when the role, term or leader of any of its replicas changed, so that
 * the report goes out within milliseconds instead of at the next tick. */
void controller_replicas_changed(struct controller *c);
/* The node is stopping: told in reports, so that no leadership comes here. */
void controller_stopping(struct controller *c);

/* The group that the node opens for the controller lives in o->groups; its sink is the controller's own.
 * first_nodes: what formation gave (n_first 0: joined), also when the group is recovered: its first leader
 * may still have to write the cluster's first entry. */
int controller_open(struct controller **out, const struct controller_options *o, const struct map_node *first_nodes, unsigned n_first);
void controller_close(struct controller *c, void (*done)(void *arg), void *arg);
uint32_t controller_leader_node(const struct controller *c);

/* A control request (STREAM_*, CONSUMER_*, RESOURCE_*, ACCOUNT, CLUSTER_STATUS, NODE_CHANGE, TRANSFER; from peers also FORWARD, REPORT, REPLICA, FORM) that came from a client or a peer: answered now or later through
 * `reply` exactly once with an encoded frame (malloc'ed, the callee's to free): kind and correlation set. Requests that need the leader are forwarded to it. `message` is valid
 * during the call only. */
typedef void (*control_reply)(void *arg, void *frame, size_t len);
void controller_request(struct controller *c, uint8_t kind, uint64_t correlation, const void *message, size_t len, bool from_peer, control_reply reply, void *arg);
/* Lane 0's links do not hear the node any more: what it was asked is asked again, of whoever leads then. */
void controller_peer_lost(struct controller *c, uint32_t node);
/* Counts for metrics: shards whose leader is unknown / with fewer live replicas than wanted. Exact on the controller's leader (is_leader true), else 0. */
struct controller_stats { uint64_t streams, shards, reshards, leaderless, under_replicated, nodes, nodes_alive; bool is_leader; };
void controller_stats(const struct controller *c, struct controller_stats *out);

#endif
