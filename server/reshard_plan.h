/* reshard_plan.h: what to ask of splits and merges: which pairs and keys are right, and the way to a number of shards of equal width. Pure. */
#ifndef SLUICE_RESHARD_PLAN_H
#define SLUICE_RESHARD_PLAN_H

#include "server/cluster_map.h"

struct reshard_step_plan { uint32_t parents[PARENTS_MAX]; unsigned n_parents; struct hash128 at; /* split: where the upper child begins */ };

/* Shards that are told of: decided, not closed. */
unsigned reshard_open_count(const struct map_stream *s);
/* Every open shard is one of `target` ranges of equal width. */
bool reshard_is_even(const struct map_stream *s, uint32_t target);
/* Splits and merges that can begin now on the way to `target` shards of equal width: a shard with a border of the target inside is split there, then
 * neighbours within one range of the target are merged. What takes part in a reshard is left alone. Returns how many, at most max. */
unsigned reshard_plan(const struct map_stream *s, uint32_t target, struct reshard_step_plan *out, unsigned max);

#endif
