/* map_resource.h: the tags and the policy of a stream or consumer, as one immutable block of memory that the controller's machine and every map share by reference.
 *
 * The count of references is atomic: maps are let go on any lane. */
#ifndef SLUICE_MAP_RESOURCE_H
#define SLUICE_MAP_RESOURCE_H

#include "server/cluster_map.h"

/* Copies n tags (in order of their keys, each key once) and the policy (NULL: none) into a new block with one reference. */
void map_resource_make(struct map_resource *out, const struct map_tag *tags, unsigned n, const char *policy);
/* The same block with one more reference. */
struct map_resource map_resource_ref(const struct map_resource *r);
void map_resource_unref(struct map_resource *r);
/* Bytes of its texts. */
uint64_t map_resource_bytes(const struct map_resource *r);

#endif
