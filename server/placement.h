/* placement.h: which nodes get the replicas of a shard and which one should lead. Pure.
 *
 * Rules, in this order: a node holds at most one replica of a shard; zones that hold the fewest replicas of this shard first (so no two in one zone
 * while there are enough zones); nodes with the fewest replicas first; ties by rotation, so that equal nodes take turns. A node without a zone is a zone of its own.
 * Leaders: the replica whose node leads the fewest; ties by rotation. */
#ifndef SLUICE_PLACEMENT_H
#define SLUICE_PLACEMENT_H

#include <stdbool.h>
#include <stdint.h>

struct placement_node {
    uint32_t id;
    const char *zone;          /* "" : none */
    uint32_t replicas, leaders; /* what it has; counted up by the functions below */
    bool usable;               /* may take more */
};

/* Chooses `replicas` nodes for a new shard; out[0] is the preferred leader. Returns the number chosen: less than wanted if there are too few usable nodes
 * (then nothing is counted). */
unsigned placement_choose(struct placement_node *nodes, unsigned n, unsigned replicas, uint32_t rotation, uint32_t *out);
/* One more node for a shard that has replicas on `have`; 0: none. Counts its replica. */
uint32_t placement_add(struct placement_node *nodes, unsigned n, const uint32_t *have, unsigned n_have, uint32_t rotation);
/* Among `have`, the usable node that should lead; 0: none. Counts its leadership. */
uint32_t placement_leader(struct placement_node *nodes, unsigned n, const uint32_t *have, unsigned n_have, uint32_t rotation);

#endif
