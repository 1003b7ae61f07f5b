/* Immutable snapshots of the controller's state: reference counts and lookups. */
#include "server/cluster_map.h"

#include <stdlib.h>
#include <string.h>

#include "proto/base.h"
#include "server/id_table.h"
#include "server/map_resource.h"

struct map_index {
    struct id_table groups;         /* group -> struct map_shard */
    const struct map_stream **ids;  /* streams by id */
};

struct cluster_map *cluster_map_new(void)
{
    struct cluster_map *m = xcalloc(1, sizeof *m);
    atomic_init(&m->references, 1);
    return m;
}

static int compare_ids(const void *a, const void *b)
{
    return memcmp((*(const struct map_stream *const *)a)->id, (*(const struct map_stream *const *)b)->id, 16);
}

static int compare_first(const void *a, const void *b)
{
    const struct map_shard *x = *(const struct map_shard *const *)a;
    const struct map_shard *y = *(const struct map_shard *const *)b;
    int order = memcmp(x->first.b, y->first.b, sizeof x->first.b);
    return order != 0 ? order : (x->shard > y->shard) - (x->shard < y->shard);
}

void cluster_map_finish(struct cluster_map *m)
{
    sluice_assert(m->index == NULL);
    struct map_index *x = xcalloc(1, sizeof *x);
    m->index = x;
    x->ids = xcalloc(m->n_streams + 1, sizeof(void *));
    for (unsigned i = 0; i < m->n_streams; i++) {
        struct map_stream *s = &m->streams[i];
        x->ids[i] = s;
        s->open = xcalloc(s->n_shards + 1, sizeof(void *));
        s->n_open = 0;
        for (unsigned k = 0; k < s->n_shards; k++) {
            struct map_shard *shard = &s->shards[k];
            sluice_assert(k == 0 || shard->shard > s->shards[k - 1].shard);
            shard->stream = s;
            id_table_put(&x->groups, shard->group, shard);
            if (!shard->closed && !shard->coming) {
                s->open[s->n_open++] = shard;
            }
        }
        qsort(s->open, s->n_open, sizeof(void *), compare_first);
    }
    qsort(x->ids, m->n_streams, sizeof(void *), compare_ids);
}

struct cluster_map *cluster_map_ref(struct cluster_map *m)
{
    if (m != NULL) {
        atomic_fetch_add_explicit(&m->references, 1, memory_order_relaxed);
    }
    return m;
}

void cluster_map_unref(struct cluster_map *m)
{
    if (m == NULL || atomic_fetch_sub_explicit(&m->references, 1, memory_order_acq_rel) != 1) {
        return;
    }
    struct map_index *x = m->index;
    if (x != NULL) {
        id_table_deinit(&x->groups);
        free(x->ids);
        free(x);
    }
    for (unsigned i = 0; i < m->n_streams; i++) {
        free(m->streams[i].shards);
        free(m->streams[i].reshards);
        free(m->streams[i].open);
        map_resource_unref(&m->streams[i].resource);
        for (unsigned k = 0; k < m->streams[i].n_consumers; k++) {
            map_resource_unref(&m->streams[i].consumers[k].resource);
        }
        free(m->streams[i].consumers);
    }
    free(m->streams);
    free(m->accounts);
    free(m);
}

const struct map_stream *cluster_map_stream(const struct cluster_map *m, const char *account, const char *name)
{
    unsigned low = 0;
    unsigned high = m->n_streams;
    while (low < high) {
        unsigned middle = low + (high - low) / 2;
        const struct map_stream *s = &m->streams[middle];
        int order = strcmp(account, s->account);
        order = order != 0 ? order : strcmp(name, s->name);
        if (order == 0) {
            return s;
        }
        if (order < 0) {
            high = middle;
        } else {
            low = middle + 1;
        }
    }
    return NULL;
}

const struct map_stream *cluster_map_stream_by_id(const struct cluster_map *m, const uint8_t id[16])
{
    const struct map_index *x = m->index;
    unsigned low = 0;
    unsigned high = m->n_streams;
    while (low < high) {
        unsigned middle = low + (high - low) / 2;
        int order = memcmp(id, x->ids[middle]->id, 16);
        if (order == 0) {
            return x->ids[middle];
        }
        if (order < 0) {
            high = middle;
        } else {
            low = middle + 1;
        }
    }
    return NULL;
}

const struct map_shard *cluster_map_shard_by_group(const struct cluster_map *m, uint64_t group)
{
    return id_table_get(&((const struct map_index *)m->index)->groups, group);
}

const struct map_node *cluster_map_node(const struct cluster_map *m, uint32_t id)
{
    for (unsigned i = 0; i < m->n_nodes; i++) {
        if (m->nodes[i].id == id) {
            return &m->nodes[i];
        }
    }
    return NULL;
}

struct map_shard *cluster_map_shard(const struct map_stream *s, uint32_t shard)
{
    unsigned low = 0;
    unsigned high = s->n_shards;
    while (low < high) {
        unsigned middle = low + (high - low) / 2;
        if (s->shards[middle].shard < shard) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low < s->n_shards && s->shards[low].shard == shard ? &s->shards[low] : NULL;
}

const struct map_consumer *cluster_map_consumer(const struct map_stream *s, const char *name, size_t name_len)
{
    for (unsigned i = 0; i < s->n_consumers; i++) {
        if (strlen(s->consumers[i].name) == name_len && memcmp(s->consumers[i].name, name, name_len) == 0) {
            return &s->consumers[i];
        }
    }
    return NULL;
}

const struct map_consumer *cluster_map_consumer_by_id(const struct map_stream *s, uint64_t id)
{
    for (unsigned i = 0; i < s->n_consumers; i++) {
        if (s->consumers[i].id == id) {
            return &s->consumers[i];
        }
    }
    return NULL;
}

const struct map_shard *cluster_map_route(const struct map_stream *s, const struct hash128 *key)
{
    unsigned low = 0;
    unsigned high = s->n_open; /* the last open shard that begins at or before the key */
    while (low < high) {
        unsigned middle = low + (high - low) / 2;
        if (memcmp(s->open[middle]->first.b, key->b, sizeof key->b) <= 0) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    if (low == 0) {
        return NULL;
    }
    const struct map_shard *shard = s->open[low - 1];
    return memcmp(key->b, shard->last.b, sizeof key->b) <= 0 ? shard : NULL;
}

const struct map_replica *cluster_map_replica(const struct map_shard *s, uint32_t node)
{
    const struct map_replica *best = NULL;
    for (unsigned i = 0; i < s->n_replicas; i++) {
        const struct map_replica *r = &s->replicas[i];
        if (r->node == node && (best == NULL || r->generation > best->generation)) {
            best = r;
        }
    }
    return best;
}

enum replica_verdict cluster_map_verdict(const struct cluster_map *m, uint64_t group, uint32_t node, uint32_t generation, const struct map_replica **want)
{
    if (want != NULL) {
        *want = NULL;
    }
    if (group == CONTROLLER_GROUP) {
        return REPLICA_KEEP;
    }
    const struct map_shard *s = cluster_map_shard_by_group(m, group);
    if (s == NULL) {
        return group < m->next_group ? REPLICA_REMOVE : REPLICA_WAIT;
    }
    const struct map_replica *r = cluster_map_replica(s, node);
    if (r != NULL && want != NULL) {
        *want = r;
    }
    if (r != NULL && r->generation == generation) {
        return REPLICA_KEEP;
    }
    if (generation > s->generation) {
        return REPLICA_WAIT; /* issued by an entry that this map does not have yet */
    }
    for (unsigned i = 0; i < s->n_replicas; i++) {
        if (s->replicas[i].node == node && s->replicas[i].generation == generation) {
            return REPLICA_KEEP; /* an older one of two on this node: it goes when the group's configuration let go of it */
        }
    }
    return r != NULL && r->generation > generation ? REPLICA_REPLACED : REPLICA_REMOVE;
}
