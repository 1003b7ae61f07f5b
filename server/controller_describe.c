/* Answers: streams, their shards with leader hints, nodes. Made from this node's own copy of the controller's state. */
#include "server/controller_impl.h"

#include <stdlib.h>
#include <string.h>

enum { LIST_MAX = 1000 };

/* Gathered from reports: node id or 0. */
uint32_t controller_shard_leader(const struct controller *c, uint64_t group)
{
    const struct replica_status *own = id_table_get(&c->own_index, group);
    if (own != NULL && !own->lost && own->leader != 0) {
        return raft_id_node(own->leader);
    }
    const struct actual_group *a = actual_group(c, group);
    return a != NULL ? a->leader : 0;
}

static uint64_t shard_term(const struct controller *c, uint64_t group)
{
    const struct replica_status *own = id_table_get(&c->own_index, group);
    const struct actual_group *a = actual_group(c, group);
    return own != NULL && !own->lost ? own->term : a != NULL ? a->term : 0;
}

/* Memory behind one answer's shards, in one piece each. */
struct shard_infos { Sluice__ShardInfo *infos, **list; uint32_t *replicas, *parents, *children; };

/* Returns how many. */
static size_t fill_shards(const struct controller *c, const struct map_stream *s, struct shard_infos *x)
{
    size_t n = 0;
    x->infos = xcalloc(s->n_shards, sizeof *x->infos);
    x->list = xcalloc(s->n_shards, sizeof *x->list);
    x->replicas = xcalloc((size_t)s->n_shards * REPLICAS_MAX, sizeof *x->replicas);
    x->parents = xcalloc((size_t)s->n_shards * PARENTS_MAX, sizeof *x->parents);
    x->children = xcalloc((size_t)s->n_shards * CHILDREN_MAX, sizeof *x->children);
    for (unsigned i = 0; i < s->n_shards; i++) {
        const struct map_shard *shard = &s->shards[i];
        if (shard->coming) {
            continue; /* it may be undone */
        }
        Sluice__ShardInfo *info = &x->infos[i];
        sluice__shard_info__init(info);
        info->shard = shard->shard;
        info->group = shard->group;
        info->hash_first = (ProtobufCBinaryData){.len = 16, .data = (uint8_t *)shard->first.b};
        info->hash_last = (ProtobufCBinaryData){.len = 16, .data = (uint8_t *)shard->last.b};
        info->open = !shard->closed;
        info->leader = controller_shard_leader(c, shard->group);
        info->term = shard_term(c, shard->group);
        info->created_s = shard->created_s;
        info->replicas = &x->replicas[i * REPLICAS_MAX];
        info->n_replicas = shard->n_replicas;
        for (unsigned k = 0; k < shard->n_replicas; k++) {
            info->replicas[k] = shard->replicas[k].node;
        }
        info->parents = &x->parents[i * PARENTS_MAX];
        info->n_parents = shard->n_parents;
        memcpy(info->parents, shard->parents, shard->n_parents * sizeof info->parents[0]);
        info->children = &x->children[i * CHILDREN_MAX];
        info->n_children = shard->n_children;
        memcpy(info->children, shard->children, shard->n_children * sizeof info->children[0]);
        info->ended_offset = shard->ended_offset;
        info->ended_ms = shard->ended_ms;
        x->list[n++] = info;
    }
    return n;
}

static void free_shards(struct shard_infos *x)
{
    free(x->infos);
    free(x->list);
    free(x->replicas);
    free(x->parents);
    free(x->children);
}

/* Without tags, which would make a list of streams too long for a frame. */
static void fill_stream(Sluice__StreamInfo *info, const struct cluster_map *map, const struct map_stream *s)
{
    sluice__stream_info__init(info);
    info->name = (char *)s->name;
    info->account = (char *)s->account;
    info->id = (ProtobufCBinaryData){.len = 16, .data = (uint8_t *)s->id};
    info->status = (Sluice__StreamInfo__Status)s->status;
    info->retention_hours = s->settings.retention_hours;
    info->replicas = s->replicas;
    info->created_ms = s->created_ms;
    info->limits_off = s->settings.limits_off;
    info->on_demand = s->on_demand;
    info->settings_version = s->settings.version;
    info->shard_count = s->n_open;
    info->target_shards = s->target;
    info->record_max = s->settings.record_max;
    info->metrics = s->metrics;
    info->warm_mibps = s->warm_mibps;
    info->consumers = s->n_consumers;
    info->map_version = map->version;
}

void controller_fill_nodes(const struct cluster_map *map, struct node_infos *x)
{
    x->n = 0;
    for (unsigned i = 0; i < map->n_nodes; i++) {
        const struct map_node *n = &map->nodes[i];
        if (n->state == NODE_REMOVED) {
            continue;
        }
        Sluice__NodeInfo *info = &x->infos[x->n];
        sluice__node_info__init(info);
        controller_address(n, x->addresses[x->n]);
        info->id = n->id;
        info->address = x->addresses[x->n];
        info->zone = (char *)n->zone;
        info->state = (Sluice__NodeInfo__State)n->state;
        info->incarnation = n->incarnation;
        info->kinesis = (char *)n->kinesis;
        info->admin = (char *)n->admin;
        x->list[x->n++] = info;
    }
}

/* s NULL: the stream is gone; for a delete that is the wanted end. */
void call_describe(struct call *call, const struct map_stream *s, uint8_t kind)
{
    if (s == NULL && kind == FRAME_STREAM_CREATE_REPLY) { /* "not found" would say that nothing was done */
        call_error(call, SLUICE_E_UNKNOWN_OUTCOME, "the stream was made, and is gone again");
        return;
    }
    if (s == NULL && kind != FRAME_STREAM_DELETE_REPLY) {
        call_error(call, SLUICE_E_NOT_FOUND, NULL);
        return;
    }
    Sluice__StreamReply reply = SLUICE__STREAM_REPLY__INIT;
    Sluice__StreamInfo info;
    struct shard_infos shards = {0};
    struct tag_infos tags = {0};
    struct node_infos *nodes = xcalloc(1, sizeof *nodes);
    if (s != NULL) {
        fill_stream(&info, call->c->map, s);
        info.n_shards = fill_shards(call->c, s, &shards);
        info.shards = shards.list;
        tags_fill(&tags, &s->resource, &info.n_tags, &info.tags);
        reply.stream = &info;
    }
    reply.map_version = call->c->map->version;
    controller_fill_nodes(call->c->map, nodes);
    reply.n_nodes = nodes->n;
    reply.nodes = nodes->list;
    call_answer(call, kind, &reply);
    free_shards(&shards);
    tags_free(&tags);
    free(nodes);
}

static void read_list(struct call *call)
{
    Sluice__StreamList *m = sluice__stream_list__unpack(NULL, call->len, call->message);
    if (m == NULL) {
        call_error(call, SLUICE_E_PROTOCOL, NULL);
        return;
    }
    const struct cluster_map *map = call->c->map;
    unsigned limit = m->limit == 0 || m->limit > LIST_MAX ? LIST_MAX : m->limit;
    Sluice__StreamInfo *infos = xcalloc(limit, sizeof *infos);
    Sluice__StreamInfo **list = xcalloc(limit, sizeof *list);
    Sluice__StreamListReply reply = SLUICE__STREAM_LIST_REPLY__INIT;
    reply.streams = list;
    for (unsigned i = 0; i < map->n_streams; i++) {
        const struct map_stream *s = &map->streams[i];
        if (strcmp(s->account, m->account) != 0 || strcmp(s->name, m->after) <= 0) {
            continue;
        }
        if (reply.n_streams == limit) {
            reply.more = true;
            break;
        }
        fill_stream(&infos[reply.n_streams], map, s);
        list[reply.n_streams] = &infos[reply.n_streams];
        reply.n_streams++;
    }
    call_answer(call, FRAME_STREAM_LIST_REPLY, &reply);
    free(infos);
    free(list);
    sluice__stream_list__free_unpacked(m, NULL);
}

void call_read(struct call *call)
{
    struct controller *c = call->c;
    if (controller_ready(c)) {
        controller_fresh_map(c);
    }
    if (c->map == NULL || (!c->map_told && !controller_ready(c))) {
        call_retry(call, SLUICE_E_NO_CONTROLLER);
        return;
    }
    if (call->kind == FRAME_STREAM_LIST) {
        read_list(call);
        return;
    }
    if (call->kind != FRAME_STREAM_DESCRIBE) {
        read_meta(call);
        return;
    }
    Sluice__StreamDescribe *m = sluice__stream_describe__unpack(NULL, call->len, call->message);
    if (m == NULL || (m->stream_id.len != 0 && m->stream_id.len != 16)) {
        call_error(call, m == NULL ? SLUICE_E_PROTOCOL : SLUICE_E_INVALID, NULL);
    } else {
        const struct map_stream *s = m->stream_id.len == 16 ? cluster_map_stream_by_id(c->map, m->stream_id.data) : cluster_map_stream(c->map, m->account, m->name);
        call_describe(call, s, FRAME_STREAM_DESCRIBE_REPLY);
    }
    if (m != NULL) {
        sluice__stream_describe__free_unpacked(m, NULL);
    }
}
