/* Snapshot of the controller's machine. Pure; the same state gives the same bytes.
 *
 *   u8 version = 1 | u8 initialized | u16 0 | 16 B cluster id | u64 index | u64 time_ms | u64 next_group | u32 controller_generation
 *   u16 nodes   | nodes: node (controller_entry.h) | u8 state | u64 incarnation | u64 blank since | u8 life
 *   u16 members | members: u32 node | u32 generation | u8 voter | u8 first
 *   u32 streams | streams: 16 B id | text name | text account | 16 B request id | u8 status | u64 created_ms | u32 replicas | u8 on_demand
 *               | u64 settings version | u32 retention_hours | u8 limits_off | u32 record_max | u32 shards | shards:
 *                 u64 group | 16 B first | 16 B last | u8 parents, u32 each | u8 closed | u64 created_s | u32 preferred | u32 generation | u8 replicas:
 *                 u32 node | u32 generation | u8 flags (1 first, 2 joining, 4 leaving) | u32 replaces node | u32 replaces generation
 *   u32 requests | oldest first: 16 B request id | 16 B stream id | u32 code */
#include "server/controller_machine_impl.h"

#include "proto/base.h"
#include "proto/error.h"

enum { SNAPSHOT_VERSION = 1, SHARD_BYTES_MIN = 8 + 32 + 1 + 1 + 8 + 4 + 4 + 1 };

static void encode_shard(const struct map_shard *s, struct out_buffer *out)
{
    out_u64(out, s->group);
    out_bytes(out, s->first.b, 16);
    out_bytes(out, s->last.b, 16);
    out_u8(out, (uint8_t)s->n_parents);
    for (unsigned i = 0; i < s->n_parents; i++) {
        out_u32(out, s->parents[i]);
    }
    out_u8(out, s->closed);
    out_u64(out, s->created_s);
    out_u32(out, s->preferred_leader);
    out_u32(out, s->generation);
    out_u8(out, (uint8_t)s->n_replicas);
    for (unsigned i = 0; i < s->n_replicas; i++) {
        const struct map_replica *r = &s->replicas[i];
        out_u32(out, r->node);
        out_u32(out, r->generation);
        out_u8(out, (uint8_t)((r->first ? 1 : 0) | (r->joining ? 2 : 0) | (r->leaving ? 4 : 0)));
        out_u32(out, r->replaces_node);
        out_u32(out, r->replaces_generation);
    }
}

static void encode_stream(const struct map_stream *s, struct out_buffer *out)
{
    out_bytes(out, s->id, 16);
    out_text(out, s->name);
    out_text(out, s->account);
    out_bytes(out, s->request_id, 16);
    out_u8(out, (uint8_t)s->status);
    out_u64(out, s->created_ms);
    out_u32(out, s->replicas);
    out_u8(out, s->on_demand);
    out_u64(out, s->settings.version);
    out_u32(out, s->settings.retention_hours);
    out_u8(out, s->settings.limits_off);
    out_u32(out, s->settings.record_max);
    out_u32(out, s->n_shards);
    for (unsigned i = 0; i < s->n_shards; i++) {
        encode_shard(&s->shards[i], out);
    }
}

void controller_machine_snapshot(const struct controller_machine *m, struct out_buffer *out)
{
    out_u8(out, SNAPSHOT_VERSION);
    out_u8(out, m->initialized);
    out_u16(out, 0);
    out_bytes(out, m->cluster_id, 16);
    out_u64(out, m->index);
    out_u64(out, m->time_ms);
    out_u64(out, m->next_group);
    out_u32(out, m->controller_generation);
    out_u16(out, (uint16_t)m->n_nodes);
    for (unsigned i = 0; i < m->n_nodes; i++) {
        map_node_encode(&m->nodes[i], out);
        out_u8(out, (uint8_t)m->nodes[i].state);
        out_u64(out, m->nodes[i].incarnation);
        out_u64(out, m->nodes[i].blank_since);
        out_u8(out, m->lives[i]);
    }
    out_u16(out, (uint16_t)m->n_members);
    for (unsigned i = 0; i < m->n_members; i++) {
        out_u32(out, m->members[i].node);
        out_u32(out, m->members[i].generation);
        out_u8(out, m->members[i].voter);
        out_u8(out, m->members[i].first);
    }
    out_u32(out, m->n_streams);
    for (unsigned i = 0; i < m->n_streams; i++) {
        encode_stream(m->streams[i], out);
    }
    out_u32(out, m->n_requests);
    for (uint32_t i = 0; i < m->n_requests; i++) {
        const struct machine_request *q = &m->requests[(m->next_request + REQUESTS_REMEMBERED - m->n_requests + i) % REQUESTS_REMEMBERED];
        out_bytes(out, q->request_id, 16);
        out_bytes(out, q->stream_id, 16);
        out_u32(out, (uint32_t)q->code);
    }
}

static void decode_shard(struct map_shard *s, uint32_t number, uint64_t next_group, struct cursor *c)
{
    s->shard = number;
    s->group = cursor_u64(c);
    cursor_bytes(c, s->first.b, 16);
    cursor_bytes(c, s->last.b, 16);
    s->n_parents = cursor_u8(c);
    if (s->n_parents > PARENTS_MAX || s->group >= next_group) {
        c->bad = true;
        return;
    }
    for (unsigned i = 0; i < s->n_parents; i++) {
        s->parents[i] = cursor_u32(c);
    }
    s->closed = cursor_bool(c);
    s->created_s = cursor_u64(c);
    s->preferred_leader = cursor_u32(c);
    s->generation = cursor_u32(c);
    s->n_replicas = cursor_u8(c);
    if (s->n_replicas > REPLICAS_MAX) {
        c->bad = true;
        return;
    }
    for (unsigned i = 0; i < s->n_replicas; i++) {
        struct map_replica *r = &s->replicas[i];
        r->node = cursor_u32(c);
        r->generation = cursor_u32(c);
        uint8_t flags = cursor_u8(c);
        r->first = flags & 1;
        r->joining = flags & 2;
        r->leaving = flags & 4;
        r->replaces_node = cursor_u32(c);
        r->replaces_generation = cursor_u32(c);
        c->bad |= flags > 7 || r->generation == 0 || r->generation > s->generation;
    }
}

static struct map_stream *decode_stream(uint64_t next_group, struct cursor *c)
{
    struct map_stream *s = xcalloc(1, sizeof *s);
    cursor_bytes(c, s->id, 16);
    cursor_text(c, s->name, sizeof s->name);
    cursor_text(c, s->account, sizeof s->account);
    cursor_bytes(c, s->request_id, 16);
    s->status = cursor_u8(c);
    s->created_ms = cursor_u64(c);
    s->replicas = cursor_u32(c);
    s->on_demand = cursor_bool(c);
    s->settings.version = cursor_u64(c);
    s->settings.retention_hours = cursor_u32(c);
    s->settings.limits_off = cursor_bool(c);
    s->settings.record_max = cursor_u32(c);
    uint32_t n = cursor_u32(c);
    c->bad |= s->status > STREAM_DELETING || n == 0 || n > CLUSTER_SHARDS_MAX || (size_t)n * SHARD_BYTES_MIN > c->left;
    if (c->bad) {
        return s;
    }
    s->n_shards = n;
    s->shards = xcalloc(n, sizeof *s->shards);
    for (uint32_t i = 0; i < n && !c->bad; i++) {
        decode_shard(&s->shards[i], i, next_group, c);
    }
    return s;
}

static void decode_nodes(struct controller_machine *m, struct cursor *c)
{
    m->n_nodes = cursor_u16(c);
    if (m->n_nodes > NODES_MAX) {
        m->n_nodes = 0;
        c->bad = true;
        return;
    }
    for (unsigned i = 0; i < m->n_nodes; i++) {
        map_node_decode(&m->nodes[i], c);
        m->nodes[i].state = cursor_u8(c);
        m->nodes[i].incarnation = cursor_u64(c);
        m->nodes[i].blank_since = cursor_u64(c);
        m->lives[i] = cursor_u8(c);
        c->bad |= m->nodes[i].state > NODE_JOINING || m->lives[i] > LIFE_CONTROLLER_LOST || (i > 0 && m->nodes[i].id <= m->nodes[i - 1].id);
    }
    m->n_members = cursor_u16(c);
    if (m->n_members > NODES_MAX) {
        m->n_members = 0;
        c->bad = true;
        return;
    }
    for (unsigned i = 0; i < m->n_members; i++) {
        m->members[i].node = cursor_u32(c);
        m->members[i].generation = cursor_u32(c);
        m->members[i].voter = cursor_bool(c);
        m->members[i].first = cursor_bool(c);
        c->bad |= (i > 0 && m->members[i].node <= m->members[i - 1].node) || machine_node(m, m->members[i].node) == NULL;
    }
}

int controller_machine_restore(struct controller_machine **out, const void *data, size_t n)
{
    struct cursor c = {.p = data, .left = n};
    uint8_t version = cursor_u8(&c);
    if (c.bad || version != SNAPSHOT_VERSION) {
        return c.bad ? SLUICE_E_INVALID : SLUICE_E_VERSION;
    }
    struct controller_machine *m = controller_machine_new();
    m->initialized = cursor_bool(&c);
    c.bad |= cursor_u16(&c) != 0;
    cursor_bytes(&c, m->cluster_id, 16);
    m->index = cursor_u64(&c);
    m->time_ms = cursor_u64(&c);
    m->next_group = cursor_u64(&c);
    c.bad |= m->next_group <= CONTROLLER_GROUP;
    m->controller_generation = cursor_u32(&c);
    decode_nodes(m, &c);
    uint32_t streams = cursor_u32(&c);
    c.bad |= streams > CLUSTER_STREAMS_MAX;
    for (uint32_t i = 0; i < streams && !c.bad; i++) {
        struct map_stream *s = decode_stream(m->next_group, &c);
        if (c.bad || !machine_stream_insert(m, s)) {
            c.bad = true;
            free(s->shards);
            free(s);
        }
    }
    m->n_requests = cursor_u32(&c);
    c.bad |= m->n_requests > REQUESTS_REMEMBERED;
    for (uint32_t i = 0; i < m->n_requests && !c.bad; i++) {
        cursor_bytes(&c, m->requests[i].request_id, 16);
        cursor_bytes(&c, m->requests[i].stream_id, 16);
        m->requests[i].code = (int32_t)cursor_u32(&c);
    }
    m->next_request = c.bad ? 0 : m->n_requests % REQUESTS_REMEMBERED;
    if (c.bad || c.left != 0) {
        controller_machine_free(m);
        return SLUICE_E_INVALID;
    }
    *out = m;
    return SLUICE_E_OK;
}
