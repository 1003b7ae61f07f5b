/* routes.c: see routes.h. */
#include "server/routes.h"

#include <stdlib.h>
#include <string.h>

#include "proto/base.h"

static unsigned group_bucket(uint64_t group)
{
    return (unsigned)((group * 0x9e3779b97f4a7c15u) >> 53);
}

static unsigned name_bucket(const uint8_t id[16], uint32_t shard)
{
    return (unsigned)(((get_u64(id) ^ get_u64(id + 8) ^ ((uint64_t)shard << 20)) * 0x9e3779b97f4a7c15u) >> 53);
}
_Static_assert(ROUTE_BUCKETS == 1 << 11, "the hashes keep their top 11 bits");

static struct route **group_slot(const struct routes *r, uint64_t group)
{
    struct route *const *slot = &r->by_group[group_bucket(group)];
    while (*slot != NULL && (*slot)->group != group) {
        slot = &(*slot)->by_group;
    }
    return (struct route **)slot;
}

static void unname(struct routes *r, struct route *e)
{
    if (!e->named) {
        return;
    }
    struct route **slot = &r->by_name[name_bucket(e->stream_id, e->shard)];
    while (*slot != e) {
        slot = &(*slot)->by_name;
    }
    *slot = e->by_name;
    e->named = false;
}

void routes_deinit(struct routes *r)
{
    for (unsigned i = 0; i < ROUTE_BUCKETS; i++) {
        while (r->by_group[i] != NULL) {
            struct route *e = r->by_group[i];
            r->by_group[i] = e->by_group;
            free(e);
        }
    }
    memset(r, 0, sizeof *r);
}

void routes_set(struct routes *r, uint64_t group, unsigned lane, const uint8_t stream_id[16], uint32_t shard)
{
    struct route **slot = group_slot(r, group);
    struct route *e = *slot;
    if (e == NULL) {
        e = xcalloc(1, sizeof *e);
        e->group = group;
        *slot = e;
        r->count++;
    }
    e->lane = lane;
    if (stream_id != NULL) {
        unname(r, e);
        memcpy(e->stream_id, stream_id, 16);
        e->shard = shard;
        e->named = true;
        struct route **name = &r->by_name[name_bucket(stream_id, shard)];
        e->by_name = *name;
        *name = e;
    }
}

void routes_remove(struct routes *r, uint64_t group)
{
    struct route **slot = group_slot(r, group);
    struct route *e = *slot;
    if (e == NULL) {
        return;
    }
    unname(r, e);
    *slot = e->by_group;
    free(e);
    r->count--;
}

const struct route *routes_group(const struct routes *r, uint64_t group)
{
    return *group_slot(r, group);
}

const struct route *routes_name(const struct routes *r, const uint8_t stream_id[16], uint32_t shard)
{
    const struct route *e = r->by_name[name_bucket(stream_id, shard)];
    while (e != NULL && (e->shard != shard || memcmp(e->stream_id, stream_id, 16) != 0)) {
        e = e->by_name;
    }
    return e;
}
