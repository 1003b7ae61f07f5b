/* node.h: one sluiced: its lanes, its place in the cluster. Many nodes can live in one process (the simulator).
 *
 * A node runs L lanes. Lane 0 is the env that node_start() is called on: it owns the controller's replica, formation, the admin listener. Each lane owns its
 * journal (DATA/lane-K/), its links and groups, its client connections, and a reference to the newest cluster map. A shard's group lives on lane group % lanes of
 * its node unless its journal lies elsewhere (the number of lanes was changed: then it stays where its journal is). Between lanes there are only messages
 * (env_post): a request for a shard of another lane is handed over and answered back in order. */
#ifndef SLUICE_NODE_H
#define SLUICE_NODE_H

#include <stdbool.h>
#include <stdint.h>

#include "server/cluster_map.h"
#include "server/settings.h"
#include "storage/env.h"
#include "storage/identity.h"

struct node;
struct lane;

/* Starts a node on env (its lane 0). settings is copied. All further work happens in callbacks. On a refusal (identity, damage) it ends the process by
 * env_fatal() with its own exit code. Returns 0 or -errno / SLUICE_E_ for settings that cannot work (message in err). */
int node_start(struct env *env, const struct settings *settings, struct node **out, char err[256]);
/* SIGTERM: stops taking requests, hands leaderships over (at most settings.stop_timeout_ms), flushes, closes, then done. */
void node_stop(struct node *n, void (*done)(void *arg), void *arg);
/* SIGHUP: the files of the Kinesis endpoint's certificate are read again, for connections that are opened from then on. What is wrong with them is logged, and the old ones stay. */
void node_reload_tls(struct node *n);
/* Serving: identity taken, recovered, map known, every replica that should run here runs and has caught up with its leader as of its start, controller reachable. */
bool node_ready(const struct node *n, char why[256]);
const struct settings *node_settings(const struct node *n);
struct env *node_env(struct node *n);
uint32_t node_id(const struct node *n);
const struct identity *node_identity(const struct node *n);

/* For the simulator's checker: reads this replica's committed records directly (no quota), shard by shard: calls back with whole batches in order. Blocks nothing; finished when
 * data == NULL. See server/debug_read.c. */
typedef void (*node_debug_batch)(void *arg, uint64_t group, uint64_t first_offset, const void *data, uint32_t len, int status);
void node_debug_read(struct node *n, uint64_t group, node_debug_batch cb, void *arg);

#endif
