/* formation.h: how a node finds its cluster: first formation, joining, coming back with an empty disk (rule F5).
 *
 * Runs before the journals are opened when the identity says "not formed", and at every start to read DATA/formation. The order in node.c:
 *
 *   identity_open -> native listener (FRAME_FORM only; everything else NOT_READY) -> formation_start -> done(result), identity is formed
 *   -> journals, groups -> controller_open(recovered controller group, else result.first_nodes) -> formation_opened()
 *
 * If lane 0's recovery then shows that the controller group's record is gone or lost although result.opened is set, the node calls
 * formation_rejoin() and waits for a new result before controller_open().
 *
 * First formation: nodes ask each other with FRAME_FORM. If one answers that it is formed, nobody bootstraps here. If all of the first nodes answer that they are
 * not, the lowest id saves a proposal (cluster id, node list) and sends it; the others save it as accepted; when all have, the proposer is formed, and the others
 * learn it by asking. Each step is durable before it is told. So a blank node never takes part in a first configuration that another disk of its own may have used.
 * Joining: the formed cluster gives this node's life an incarnation above all earlier ones and its replicas new generations, in the controller's log. */
#ifndef SLUICE_FORMATION_H
#define SLUICE_FORMATION_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "server/cluster_map.h"
#include "server/controller.h"
#include "server/peer_client.h"
#include "server/settings.h"
#include "storage/env.h"
#include "storage/identity.h"

struct formation;

struct formation_result {
    struct map_node first_nodes[NODES_MAX]; /* the first configuration, the same on every first node; n_first 0: this node joined */
    unsigned n_first;
    bool opened;                    /* an earlier life opened the controller group: its journal must have it */
    uint64_t join_incarnation;      /* for controller_options: no map counts before it shows this node with at least this incarnation */
    uint32_t controller_generation; /* raft generation of this node's controller replica: 1 in a first configuration */
};

struct formation_options {
    struct env *env;
    const struct settings *settings;
    const char *dir;                /* data folder */
    struct identity *identity;      /* changed and saved by formation: cluster_id, formed, incarnation */
    struct peer_client *peers;      /* to use; NULL: formation opens one of its own when it needs it */
    const char *address;            /* how others reach this node: "host:port" (native); bound port filled in */
    const char *kinesis, *admin;
    void *arg;
    /* Formed: identity is saved. Never inside formation_start(). */
    void (*done)(void *arg, const struct formation_result *r);
    /* For the log: what it waits for. May be NULL. */
    void (*note)(void *arg, const char *text);
};

/* 0, -errno, or a positive enum env_exit / SLUICE_E_INVALID (bad `cluster` text) with a message in err. */
int formation_start(struct formation **out, const struct formation_options *o, char err[256]);
/* FRAME_FORM from a peer while this node has no controller yet (afterwards: controller_request()). Same contract as controller_request(). */
void formation_request(struct formation *f, uint64_t correlation, const void *message, size_t len, control_reply reply, void *arg);
/* No other node is known: there is nobody to join. */
bool formation_alone(const struct formation *f);
/* The controller group's record is durable: remembered in DATA/formation. 0 or -errno. */
int formation_opened(struct formation *f);
/* The controller replica of this node was lost. all: so were the shards (blank journals): every replica of this node gets a new generation. done is called again. */
void formation_rejoin(struct formation *f, bool all);
const char *formation_state(const struct formation *f); /* for /health/ready */
void formation_close(struct formation *f);

/* DATA/formation, decoded. Pure; fuzzed:
 *   u32 magic "SLF1" | u8 version = 1 | u8 state | u8 opened | u8 0 | 16 B cluster id | u64 join incarnation | u32 generation | u16 n | n nodes
 *   (controller_entry.h) | u32 CRC32C of all before */
enum formation_step { FORMATION_BLANK = 0, FORMATION_PROPOSING = 1, FORMATION_ACCEPTED = 2, FORMATION_JOINED = 3 };
struct formation_file {
    enum formation_step step;
    bool opened;
    uint8_t cluster_id[16];
    uint64_t join_incarnation;
    uint32_t generation;
    struct map_node nodes[NODES_MAX];
    unsigned n_nodes;
};
bool formation_file_decode(struct formation_file *f, const void *data, size_t n);
struct out_buffer;
void formation_file_encode(const struct formation_file *f, struct out_buffer *out);

/* "1=host:port,2=host:port": fills nodes by id. Count, or -SLUICE_E_INVALID with err. */
int formation_parse_cluster(const char *text, struct map_node *out, unsigned max, char err[256]);
bool formation_parse_address(const char *text, char host[64], uint16_t *port);

#endif
