/* Encoding and decoding of the controller's entries; the bodies of those of feature level 2 are in controller_entry_meta.c. */
#include "server/controller_entry.h"

#include "proto/error.h"

void map_node_encode(const struct map_node *n, struct out_buffer *out)
{
    out_u32(out, n->id);
    out_text(out, n->host);
    out_u16(out, n->port);
    out_text(out, n->zone);
    out_text(out, n->kinesis);
    out_text(out, n->admin);
}

void map_node_decode(struct map_node *n, struct cursor *c)
{
    memset(n, 0, sizeof *n);
    n->id = cursor_u32(c);
    cursor_text(c, n->host, sizeof n->host);
    n->port = cursor_u16(c);
    cursor_text(c, n->zone, sizeof n->zone);
    cursor_text(c, n->kinesis, sizeof n->kinesis);
    cursor_text(c, n->admin, sizeof n->admin);
    c->bad |= n->id == 0 || n->id > 65535;
}

void controller_entry_create_encode(const struct controller_entry *e, struct out_buffer *out)
{
    out_bytes(out, e->stream_id, 16);
    out_text(out, e->account);
    out_text(out, e->name);
    out_u32(out, e->shards);
    out_u32(out, e->replicas);
    out_u32(out, e->retention_hours);
    out_u8(out, e->on_demand);
    out_u8(out, e->limits_off);
    out_u32(out, e->record_max);
    for (uint32_t i = 0; i < e->shards * e->replicas; i++) {
        out_u16(out, (uint16_t)e->placement[i]);
    }
}

void controller_entry_encode(const struct controller_entry *e, struct out_buffer *out)
{
    out_u8(out, CONTROLLER_ENTRY_VERSION);
    out_u8(out, (uint8_t)e->kind);
    out_u16(out, 0);
    out_u64(out, e->now_ms);
    out_bytes(out, e->request_id, 16);
    switch (e->kind) {
    case CONTROLLER_INIT:
        out_bytes(out, e->cluster_id, 16);
        out_u16(out, (uint16_t)e->n_nodes);
        out_u16(out, (uint16_t)e->n_voters);
        for (uint32_t i = 0; i < e->n_nodes; i++) {
            map_node_encode(&e->nodes[i], out);
        }
        break;
    case CONTROLLER_NODE:
        map_node_encode(&e->node, out);
        break;
    case CONTROLLER_NODE_STATE:
        out_u32(out, e->node.id);
        out_u8(out, (uint8_t)e->node.state);
        break;
    case CONTROLLER_NODE_LIFE:
        map_node_encode(&e->node, out);
        out_u64(out, e->incarnation);
        out_u8(out, (uint8_t)e->life);
        break;
    case CONTROLLER_STREAM_CREATE:
        controller_entry_create_encode(e, out);
        break;
    case CONTROLLER_STREAM_ACTIVE:
        out_bytes(out, e->stream_id, 16);
        break;
    case CONTROLLER_STREAM_UPDATE:
        out_bytes(out, e->stream_id, 16);
        out_u32(out, e->retention_hours);
        out_u8(out, e->limits);
        break;
    case CONTROLLER_STREAM_DELETE:
        out_bytes(out, e->stream_id, 16);
        out_u8(out, e->done);
        break;
    case CONTROLLER_REPLICA:
        out_u64(out, e->group);
        out_u8(out, (uint8_t)e->op);
        out_u32(out, e->replica_node);
        out_u32(out, e->replica_generation);
        out_u32(out, e->to_node);
        break;
    case CONTROLLER_PREFERRED:
        out_u64(out, e->group);
        out_u32(out, e->replica_node);
        break;
    case CONTROLLER_VOTERS:
        out_u16(out, (uint16_t)e->n_voters);
        for (uint32_t i = 0; i < e->n_voters; i++) {
            out_u32(out, e->voters[i]);
        }
        break;
    case CONTROLLER_RESHARD_BEGIN:
        out_bytes(out, e->stream_id, 16);
        out_u32(out, e->target);
        out_u8(out, (uint8_t)e->n_parents);
        for (uint32_t i = 0; i < e->n_parents; i++) {
            out_u32(out, e->parents[i]);
        }
        out_bytes(out, e->at.b, 16);
        out_u32(out, e->replicas);
        for (uint32_t i = 0; i < reshard_children(e->n_parents) * e->replicas; i++) {
            out_u16(out, (uint16_t)e->placement[i]);
        }
        break;
    case CONTROLLER_RESHARD_TARGET:
        out_bytes(out, e->stream_id, 16);
        out_u32(out, e->target);
        break;
    case CONTROLLER_RESHARD_STEP:
        out_bytes(out, e->stream_id, 16);
        out_u8(out, (uint8_t)e->step);
        out_u64(out, e->reshard);
        out_u32(out, e->shard);
        out_u64(out, e->offset);
        out_u64(out, e->time_ms);
        break;
    default:
        controller_entry_meta_encode(e, out);
    }
}

static void decode_init(struct controller_entry *e, struct cursor *c)
{
    cursor_bytes(c, e->cluster_id, 16);
    e->n_nodes = cursor_u16(c);
    e->n_voters = cursor_u16(c);
    if (e->n_nodes == 0 || e->n_nodes > NODES_MAX || e->n_voters == 0 || e->n_voters > e->n_nodes || e->n_voters > REPLICAS_MAX) {
        c->bad = true;
        return;
    }
    e->nodes = xcalloc(e->n_nodes, sizeof *e->nodes);
    for (uint32_t i = 0; i < e->n_nodes; i++) {
        map_node_decode(&e->nodes[i], c);
        c->bad |= i > 0 && e->nodes[i].id <= e->nodes[i - 1].id;
    }
}

void controller_entry_create_decode(struct controller_entry *e, struct cursor *c)
{
    cursor_bytes(c, e->stream_id, 16);
    cursor_text(c, e->account, sizeof e->account);
    cursor_text(c, e->name, sizeof e->name);
    e->shards = cursor_u32(c);
    e->replicas = cursor_u32(c);
    e->retention_hours = cursor_u32(c);
    e->on_demand = cursor_bool(c);
    e->limits_off = cursor_bool(c);
    e->record_max = cursor_u32(c);
    if (c->bad || e->shards == 0 || e->shards > STREAM_SHARDS_MAX || e->replicas == 0 || e->replicas > STREAM_REPLICAS_MAX
        || c->left != (size_t)e->shards * e->replicas * 2) {
        c->bad = true;
        return;
    }
    e->placement = xcalloc((size_t)e->shards * e->replicas, sizeof *e->placement);
    for (uint32_t i = 0; i < e->shards * e->replicas; i++) {
        e->placement[i] = cursor_u16(c);
    }
}

static void decode_voters(struct controller_entry *e, struct cursor *c)
{
    e->n_voters = cursor_u16(c);
    if (e->n_voters == 0 || e->n_voters > REPLICAS_MAX) {
        c->bad = true;
        return;
    }
    for (uint32_t i = 0; i < e->n_voters; i++) {
        e->voters[i] = cursor_u32(c);
    }
}

static void decode_reshard(struct controller_entry *e, struct cursor *c)
{
    cursor_bytes(c, e->stream_id, 16);
    e->target = cursor_u32(c);
    e->n_parents = cursor_u8(c);
    if (e->n_parents == 0 || e->n_parents > PARENTS_MAX) {
        e->n_parents = 0;
        c->bad = true;
        return;
    }
    for (uint32_t i = 0; i < e->n_parents; i++) {
        e->parents[i] = cursor_u32(c);
    }
    cursor_bytes(c, e->at.b, 16);
    e->shards = reshard_children(e->n_parents);
    e->replicas = cursor_u32(c);
    if (c->bad || e->replicas == 0 || e->replicas > STREAM_REPLICAS_MAX || c->left != (size_t)e->shards * e->replicas * 2) {
        c->bad = true;
        return;
    }
    e->placement = xcalloc((size_t)e->shards * e->replicas, sizeof *e->placement);
    for (uint32_t i = 0; i < e->shards * e->replicas; i++) {
        e->placement[i] = cursor_u16(c);
    }
}

static void decode_body(struct controller_entry *e, struct cursor *c)
{
    switch (e->kind) {
    case CONTROLLER_INIT:
        decode_init(e, c);
        break;
    case CONTROLLER_NODE:
        map_node_decode(&e->node, c);
        break;
    case CONTROLLER_NODE_STATE:
        e->node.id = cursor_u32(c);
        e->node.state = cursor_u8(c);
        c->bad |= e->node.state > NODE_JOINING;
        break;
    case CONTROLLER_NODE_LIFE:
        map_node_decode(&e->node, c);
        e->incarnation = cursor_u64(c);
        e->life = cursor_u8(c);
        c->bad |= e->life > LIFE_CONTROLLER_LOST;
        break;
    case CONTROLLER_STREAM_CREATE:
        controller_entry_create_decode(e, c);
        break;
    case CONTROLLER_STREAM_ACTIVE:
        cursor_bytes(c, e->stream_id, 16);
        break;
    case CONTROLLER_STREAM_UPDATE:
        cursor_bytes(c, e->stream_id, 16);
        e->retention_hours = cursor_u32(c);
        e->limits = cursor_u8(c);
        c->bad |= e->limits > 2;
        break;
    case CONTROLLER_STREAM_DELETE:
        cursor_bytes(c, e->stream_id, 16);
        e->done = cursor_bool(c);
        break;
    case CONTROLLER_REPLICA:
        e->group = cursor_u64(c);
        e->op = cursor_u8(c);
        c->bad |= e->op > REPLICA_OP_GONE;
        e->replica_node = cursor_u32(c);
        e->replica_generation = cursor_u32(c);
        e->to_node = cursor_u32(c);
        break;
    case CONTROLLER_PREFERRED:
        e->group = cursor_u64(c);
        e->replica_node = cursor_u32(c);
        break;
    case CONTROLLER_VOTERS:
        decode_voters(e, c);
        break;
    case CONTROLLER_RESHARD_BEGIN:
        decode_reshard(e, c);
        break;
    case CONTROLLER_RESHARD_TARGET:
        cursor_bytes(c, e->stream_id, 16);
        e->target = cursor_u32(c);
        break;
    case CONTROLLER_RESHARD_STEP:
        cursor_bytes(c, e->stream_id, 16);
        e->step = cursor_u8(c);
        c->bad |= e->step > RESHARD_STEP_GONE;
        e->reshard = cursor_u64(c);
        e->shard = cursor_u32(c);
        e->offset = cursor_u64(c);
        e->time_ms = cursor_u64(c);
        break;
    default:
        controller_entry_meta_decode(e, c);
    }
}

int controller_entry_decode(struct controller_entry *e, const void *data, size_t n)
{
    memset(e, 0, sizeof *e);
    struct cursor c = {.p = data, .left = n};
    uint8_t version = cursor_u8(&c);
    uint8_t kind = cursor_u8(&c);
    uint16_t zero = cursor_u16(&c);
    e->now_ms = cursor_u64(&c);
    cursor_bytes(&c, e->request_id, 16);
    if (c.bad) {
        return SLUICE_E_INVALID;
    }
    if (version != CONTROLLER_ENTRY_VERSION) {
        return SLUICE_E_VERSION;
    }
    if (kind < CONTROLLER_INIT || kind > CONTROLLER_TOKEN_KEY) {
        return SLUICE_E_NOT_SUPPORTED;
    }
    e->kind = kind;
    decode_body(e, &c);
    if (kind == CONTROLLER_LEVEL && e->level > FEATURE_LEVEL) {
        return SLUICE_E_NOT_SUPPORTED; /* what follows is not for this program */
    }
    if (c.bad || c.left != 0 || zero != 0) {
        controller_entry_deinit(e);
        return SLUICE_E_INVALID;
    }
    return SLUICE_E_OK;
}

void controller_entry_deinit(struct controller_entry *e)
{
    free(e->nodes);
    free(e->placement);
    free(e->tags);
    free(e->untags);
    free(e->texts);
    e->nodes = NULL;
    e->placement = NULL;
    e->tags = e->untags = NULL;
    e->texts = e->policy = NULL;
}
