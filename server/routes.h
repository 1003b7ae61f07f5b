/* routes.h: which lane of this node has which replica: by group, and by (stream, shard) once that is known. Every lane has its own copy. Pure. */
#ifndef SLUICE_ROUTES_H
#define SLUICE_ROUTES_H

#include <stdbool.h>
#include <stdint.h>

struct route {
    uint64_t group;
    unsigned lane;
    bool named;              /* stream_id and shard are known */
    uint8_t stream_id[16];
    uint32_t shard;
    struct route *by_group, *by_name; /* chains */
};
enum { ROUTE_BUCKETS = 2048 };
struct routes {
    struct route *by_group[ROUTE_BUCKETS], *by_name[ROUTE_BUCKETS];
    unsigned count;
};

void routes_deinit(struct routes *r);
/* Adds or changes. stream_id NULL: not known (what was known stays). */
void routes_set(struct routes *r, uint64_t group, unsigned lane, const uint8_t stream_id[16], uint32_t shard);
void routes_remove(struct routes *r, uint64_t group);
const struct route *routes_group(const struct routes *r, uint64_t group);
const struct route *routes_name(const struct routes *r, const uint8_t stream_id[16], uint32_t shard);

#endif
