/* Placement of replicas and leaders. */
#include "server/placement.h"

#include <stddef.h>
#include <string.h>

#include "proto/base.h"

static struct placement_node *find(struct placement_node *nodes, unsigned n, uint32_t id)
{
    for (unsigned i = 0; i < n; i++) {
        if (nodes[i].id == id) {
            return &nodes[i];
        }
    }
    return NULL;
}

static bool holds(const uint32_t *have, unsigned n_have, uint32_t id)
{
    for (unsigned i = 0; i < n_have; i++) {
        if (have[i] == id) {
            return true;
        }
    }
    return false;
}

/* Replicas of the shard that are in this node's zone already. */
static unsigned zone_load(struct placement_node *nodes, unsigned n, const uint32_t *have, unsigned n_have, const struct placement_node *candidate)
{
    unsigned load = 0;
    for (unsigned i = 0; i < n_have && candidate->zone[0] != '\0'; i++) {
        const struct placement_node *other = find(nodes, n, have[i]);
        load += other != NULL && strcmp(other->zone, candidate->zone) == 0;
    }
    return load;
}

uint32_t placement_add(struct placement_node *nodes, unsigned n, const uint32_t *have, unsigned n_have, uint32_t rotation)
{
    struct placement_node *best = NULL;
    unsigned best_zone = 0;
    for (unsigned k = 0; k < n; k++) {
        struct placement_node *node = &nodes[(k + rotation) % n];
        if (!node->usable || holds(have, n_have, node->id)) {
            continue;
        }
        unsigned zone = zone_load(nodes, n, have, n_have, node);
        if (best == NULL || zone < best_zone || (zone == best_zone && node->replicas < best->replicas)) {
            best = node;
            best_zone = zone;
        }
    }
    if (best == NULL) {
        return 0;
    }
    best->replicas++;
    return best->id;
}

uint32_t placement_leader(struct placement_node *nodes, unsigned n, const uint32_t *have, unsigned n_have, uint32_t rotation)
{
    struct placement_node *best = NULL;
    for (unsigned k = 0; k < n_have; k++) {
        struct placement_node *node = find(nodes, n, have[(k + rotation) % n_have]);
        if (node != NULL && node->usable && (best == NULL || node->leaders < best->leaders)) {
            best = node;
        }
    }
    if (best == NULL) {
        return 0;
    }
    best->leaders++;
    return best->id;
}

unsigned placement_choose(struct placement_node *nodes, unsigned n, unsigned replicas, uint32_t rotation, uint32_t *out)
{
    unsigned usable = 0;
    for (unsigned i = 0; i < n; i++) {
        usable += nodes[i].usable;
    }
    if (usable < replicas) {
        return usable;
    }
    for (unsigned k = 0; k < replicas; k++) {
        out[k] = placement_add(nodes, n, out, k, rotation);
        sluice_assert(out[k] != 0);
    }
    uint32_t leader = placement_leader(nodes, n, out, replicas, rotation);
    for (unsigned k = 0; k < replicas; k++) {
        if (out[k] == leader) {
            out[k] = out[0];
            out[0] = leader;
        }
    }
    return replicas;
}
