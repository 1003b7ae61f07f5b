/* Snapshot of the controller's machine. Pure; the same state gives the same bytes.
 *
 *   u8 version = 3 or 2 | u8 initialized | u16 0 | 16 B cluster id | u64 index | u64 time_ms | u64 next_group | u32 controller_generation
 *   [3: u32 feature level | u8 there is a token key | 32 B it | u16 accounts | accounts: text account | u8 commitment | u64 since_ms]
 *   u16 nodes   | nodes: node (controller_entry.h) | u8 state | u64 incarnation | u64 blank since | u8 life
 *   u16 members | members: u32 node | u32 generation | u8 voter | u8 first
 *   u32 streams | streams: 16 B id | text name | text account | 16 B request id | u8 status | u64 created_ms | u32 replicas | u8 on_demand
 *               | u64 settings version | u32 retention_hours | u8 limits_off | u32 record_max
 *               | [3: u32 metrics | u32 warm_mibps | resource | u8 consumers: u64 id | text name | u64 created_ms | resource]
 *               | u32 next shard | u32 target | u8 scalings, u64 ms each | u8 reshards: u64 id | u64 began_ms | u8 decided | u8 parents, u32 each | u8 children, u32 each
 *               | u32 shards | shards:
 *                 u32 number | u64 group | 16 B first | 16 B last | u8 parents, u32 each | u8 children, u32 each | u8 flags (1 coming, 2 opened, 4 closed, 8 ended)
 *                 | u64 ended_offset | u64 ended_ms | u64 reshard | u64 created_s | u32 preferred | u32 generation | u8 replicas:
 *                 u32 node | u32 generation | u8 flags (1 first, 2 joining, 4 leaving) | u32 replaces node | u32 replaces generation
 *   u32 requests | oldest first: 16 B request id | 16 B stream id | u32 code
 *   resource = tags (controller_entry.h) | u8 there is a policy | long policy
 *
 * Version 2 is written as long as the cluster's feature level is 1: then a program that does not know level 2 may be the one to read it (rule F37), and what version 3 has more is empty.
 * Version 1, which is still read, is from before there were splits and merges: numbers of shards have no gaps, and `u8 closed` (0) stands where the children begin. */
#include "server/controller_machine_impl.h"

#include "proto/base.h"
#include "proto/error.h"
#include "server/map_resource.h"

enum { SNAPSHOT_VERSION = 3, SNAPSHOT_BEFORE_META = 2, SNAPSHOT_FIRST = 1, SHARD_BYTES_MIN = 8 + 32 + 1 + 1 + 8 + 4 + 4 + 1 };
enum { FLAG_COMING = 1, FLAG_OPENED = 2, FLAG_CLOSED = 4, FLAG_ENDED = 8 };

static void encode_numbers(const uint32_t *numbers, unsigned n, struct out_buffer *out)
{
    out_u8(out, (uint8_t)n);
    for (unsigned i = 0; i < n; i++) {
        out_u32(out, numbers[i]);
    }
}

static void encode_shard(const struct map_shard *s, struct out_buffer *out)
{
    out_u32(out, s->shard);
    out_u64(out, s->group);
    out_bytes(out, s->first.b, 16);
    out_bytes(out, s->last.b, 16);
    encode_numbers(s->parents, s->n_parents, out);
    encode_numbers(s->children, s->n_children, out);
    out_u8(out, (uint8_t)((s->coming ? FLAG_COMING : 0) | (s->opened ? FLAG_OPENED : 0) | (s->closed ? FLAG_CLOSED : 0) | (s->ended ? FLAG_ENDED : 0)));
    out_u64(out, s->ended_offset);
    out_u64(out, s->ended_ms);
    out_u64(out, s->reshard);
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

static void encode_resource(const struct map_resource *r, struct out_buffer *out)
{
    map_tags_encode(r->tags, r->n_tags, out);
    out_u8(out, r->policy != NULL);
    out_long(out, r->policy != NULL ? r->policy : "");
}

static void encode_meta(const struct map_stream *s, struct out_buffer *out)
{
    out_u32(out, s->metrics);
    out_u32(out, s->warm_mibps);
    encode_resource(&s->resource, out);
    out_u8(out, (uint8_t)s->n_consumers);
    for (unsigned i = 0; i < s->n_consumers; i++) {
        out_u64(out, s->consumers[i].id);
        out_text(out, s->consumers[i].name);
        out_u64(out, s->consumers[i].created_ms);
        encode_resource(&s->consumers[i].resource, out);
    }
}

static void encode_stream(const struct map_stream *s, bool meta, struct out_buffer *out)
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
    if (meta) {
        encode_meta(s, out);
    }
    out_u32(out, s->next_shard);
    out_u32(out, s->target);
    out_u8(out, (uint8_t)s->n_scaled);
    for (unsigned i = 0; i < s->n_scaled; i++) {
        out_u64(out, s->scaled_ms[i]);
    }
    out_u8(out, (uint8_t)s->n_reshards);
    for (unsigned i = 0; i < s->n_reshards; i++) {
        const struct map_reshard *x = &s->reshards[i];
        out_u64(out, x->id);
        out_u64(out, x->began_ms);
        out_u8(out, x->decided);
        encode_numbers(x->parents, x->n_parents, out);
        encode_numbers(x->children, x->n_children, out);
    }
    out_u32(out, s->n_shards);
    for (unsigned i = 0; i < s->n_shards; i++) {
        encode_shard(&s->shards[i], out);
    }
}

void controller_machine_snapshot(const struct controller_machine *m, struct out_buffer *out)
{
    bool meta = m->level > FEATURE_LEVEL_FIRST;
    out_u8(out, meta ? SNAPSHOT_VERSION : SNAPSHOT_BEFORE_META);
    out_u8(out, m->initialized);
    out_u16(out, 0);
    out_bytes(out, m->cluster_id, 16);
    out_u64(out, m->index);
    out_u64(out, m->time_ms);
    out_u64(out, m->next_group);
    out_u32(out, m->controller_generation);
    if (meta) {
        out_u32(out, m->level);
        out_u8(out, m->has_token_key);
        out_bytes(out, m->token_key, sizeof m->token_key);
        out_u16(out, (uint16_t)m->n_accounts);
        for (unsigned i = 0; i < m->n_accounts; i++) {
            out_text(out, m->accounts[i].account);
            out_u8(out, (uint8_t)m->accounts[i].commitment);
            out_u64(out, m->accounts[i].since_ms);
        }
    }
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
        encode_stream(m->streams[i], meta, out);
    }
    out_u32(out, m->n_requests);
    for (uint32_t i = 0; i < m->n_requests; i++) {
        const struct machine_request *q = &m->requests[(m->next_request + REQUESTS_REMEMBERED - m->n_requests + i) % REQUESTS_REMEMBERED];
        out_bytes(out, q->request_id, 16);
        out_bytes(out, q->stream_id, 16);
        out_u32(out, (uint32_t)q->code);
    }
}

static void decode_numbers(uint32_t *numbers, unsigned *n, unsigned max, struct cursor *c)
{
    unsigned told = cursor_u8(c);
    c->bad |= told > max;
    *n = c->bad ? 0 : told;
    for (unsigned i = 0; i < *n; i++) {
        numbers[i] = cursor_u32(c);
    }
}

static void decode_life(struct map_shard *s, struct cursor *c)
{
    decode_numbers(s->children, &s->n_children, CHILDREN_MAX, c);
    uint8_t flags = cursor_u8(c);
    s->coming = flags & FLAG_COMING;
    s->opened = flags & FLAG_OPENED;
    s->closed = flags & FLAG_CLOSED;
    s->ended = flags & FLAG_ENDED;
    s->ended_offset = cursor_u64(c);
    s->ended_ms = cursor_u64(c);
    s->reshard = cursor_u64(c);
    c->bad |= flags > 15 || (s->ended && !s->closed) || (s->coming && (s->closed || s->opened || s->reshard == 0));
}

static void decode_shard(struct map_shard *s, uint8_t version, uint32_t number, uint64_t next_group, struct cursor *c)
{
    s->shard = version > SNAPSHOT_FIRST ? cursor_u32(c) : number;
    s->group = cursor_u64(c);
    cursor_bytes(c, s->first.b, 16);
    cursor_bytes(c, s->last.b, 16);
    decode_numbers(s->parents, &s->n_parents, PARENTS_MAX, c);
    if (c->bad || s->group >= next_group || memcmp(s->first.b, s->last.b, 16) > 0) {
        c->bad = true;
        return;
    }
    if (version > SNAPSHOT_FIRST) {
        decode_life(s, c);
    } else {
        s->opened = true;
        c->bad |= cursor_u8(c) != 0;
    }
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

static void decode_reshards(struct map_stream *s, struct cursor *c)
{
    s->next_shard = cursor_u32(c);
    s->target = cursor_u32(c);
    s->n_scaled = cursor_u8(c);
    if (s->n_scaled > SCALINGS_MAX) {
        s->n_scaled = 0;
        c->bad = true;
    }
    for (unsigned i = 0; i < s->n_scaled; i++) {
        s->scaled_ms[i] = cursor_u64(c);
    }
    unsigned n = cursor_u8(c);
    if (c->bad || n > RESHARDS_MAX || s->target > STREAM_SHARDS_MAX) {
        c->bad = true;
        return;
    }
    s->reshards = xcalloc(n + 1, sizeof *s->reshards);
    s->n_reshards = n;
    for (unsigned i = 0; i < n && !c->bad; i++) {
        struct map_reshard *x = &s->reshards[i];
        x->id = cursor_u64(c);
        x->began_ms = cursor_u64(c);
        x->decided = cursor_bool(c);
        decode_numbers(x->parents, &x->n_parents, PARENTS_MAX, c);
        decode_numbers(x->children, &x->n_children, CHILDREN_MAX, c);
        c->bad |= x->id == 0 || x->n_parents == 0 || x->n_children != reshard_children(x->n_parents);
    }
}

/* What the machine's steps rely on: a shard takes part in at most one reshard, which is there and knows it. */
static bool reshards_fit(const struct map_stream *s)
{
    unsigned taking_part = 0;
    unsigned named = 0;
    for (unsigned i = 0; i < s->n_shards; i++) {
        taking_part += s->shards[i].reshard != 0;
        if (s->shards[i].shard >= s->next_shard || (i > 0 && s->shards[i].shard <= s->shards[i - 1].shard)) {
            return false;
        }
    }
    for (unsigned i = 0; i < s->n_reshards; i++) {
        const struct map_reshard *x = &s->reshards[i];
        for (unsigned k = 0; k < x->n_parents + x->n_children; k++) {
            bool parent = k < x->n_parents;
            const struct map_shard *m = cluster_map_shard(s, parent ? x->parents[k] : x->children[k - x->n_parents]);
            if (m == NULL || m->reshard != x->id || (parent ? m->coming || m->closed != x->decided : m->closed || m->coming == x->decided)) {
                return false;
            }
            named++;
        }
        for (unsigned k = 0; k < i; k++) {
            if (s->reshards[k].id == x->id) {
                return false;
            }
        }
    }
    return named == taking_part;
}

static void decode_resource(struct map_resource *r, struct cursor *c)
{
    enum { TEXTS_MAX = TAGS_MAX * (TAG_KEY_BYTES + TAG_VALUE_BYTES + 2) + POLICY_BYTES + 1 };
    struct map_tag tags[TAGS_MAX];
    char *memory = xmalloc(TEXTS_MAX);
    char *texts = memory;
    unsigned n = map_tags_decode(tags, c, &texts);
    bool has_policy = cursor_bool(c);
    char *policy = cursor_long(c, POLICY_BYTES, &texts);
    for (unsigned i = 1; i < n; i++) {
        c->bad |= strcmp(tags[i - 1].key, tags[i].key) >= 0;
    }
    c->bad |= !c->bad && has_policy != (policy[0] != '\0');
    if (!c->bad) {
        map_resource_make(r, tags, n, has_policy ? policy : NULL);
    }
    free(memory);
}

static void decode_meta(struct map_stream *s, uint64_t index, struct cursor *c)
{
    s->metrics = cursor_u32(c);
    s->warm_mibps = cursor_u32(c);
    decode_resource(&s->resource, c);
    unsigned n = cursor_u8(c);
    c->bad |= n > CONSUMERS_MAX || (s->metrics & ~(uint32_t)METRICS_ALL) != 0;
    s->consumers = c->bad ? NULL : xcalloc(n + 1, sizeof *s->consumers);
    for (unsigned i = 0; i < n && !c->bad; i++) {
        struct map_consumer *x = &s->consumers[i];
        x->id = cursor_u64(c);
        cursor_text(c, x->name, sizeof x->name);
        x->created_ms = cursor_u64(c);
        c->bad |= x->id == 0 || x->id > index || cluster_map_consumer_by_id(s, x->id) != NULL || !stream_name_ok(x->name)
                  || (i > 0 && strcmp(s->consumers[i - 1].name, x->name) >= 0);
        decode_resource(&x->resource, c);
        s->n_consumers = i + 1;
    }
}

/* What the cluster as a whole carries. */
static int decode_cluster(struct controller_machine *m, struct cursor *c)
{
    m->level = cursor_u32(c);
    if (!c->bad && m->level > FEATURE_LEVEL) {
        return SLUICE_E_VERSION;
    }
    m->has_token_key = cursor_bool(c);
    cursor_bytes(c, m->token_key, sizeof m->token_key);
    unsigned n = cursor_u16(c);
    c->bad |= m->level <= FEATURE_LEVEL_FIRST || n > ACCOUNTS_MAX;
    m->accounts = c->bad ? NULL : xcalloc(n + 1, sizeof *m->accounts);
    for (unsigned i = 0; i < n && !c->bad; i++) {
        cursor_text(c, m->accounts[i].account, sizeof m->accounts[i].account);
        m->accounts[i].commitment = cursor_u8(c);
        m->accounts[i].since_ms = cursor_u64(c);
        c->bad |= !account_ok(m->accounts[i].account) || m->accounts[i].commitment == 0 || m->accounts[i].commitment > 2
                  || (i > 0 && strcmp(m->accounts[i - 1].account, m->accounts[i].account) >= 0);
        m->n_accounts = i + 1;
    }
    return SLUICE_E_OK;
}

static uint64_t resource_bytes(const struct map_stream *s)
{
    uint64_t bytes = map_resource_bytes(&s->resource);
    for (unsigned i = 0; i < s->n_consumers; i++) {
        bytes += map_resource_bytes(&s->consumers[i].resource);
    }
    return bytes;
}

static struct map_stream *decode_stream(uint64_t index, uint64_t next_group, uint8_t version, struct cursor *c)
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
    if (version > SNAPSHOT_BEFORE_META) {
        decode_meta(s, index, c);
    }
    if (version > SNAPSHOT_FIRST) {
        decode_reshards(s, c);
    }
    uint32_t n = cursor_u32(c);
    c->bad |= s->status > STREAM_DELETING || n == 0 || n > CLUSTER_SHARDS_MAX || (size_t)n * SHARD_BYTES_MIN > c->left;
    if (c->bad) {
        return s;
    }
    s->n_shards = n;
    s->shards = xcalloc(n, sizeof *s->shards);
    for (uint32_t i = 0; i < n && !c->bad; i++) {
        decode_shard(&s->shards[i], version, i, next_group, c);
    }
    s->next_shard = version > SNAPSHOT_FIRST ? s->next_shard : n;
    c->bad |= !c->bad && !reshards_fit(s);
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
    if (c.bad || version < SNAPSHOT_FIRST || version > SNAPSHOT_VERSION) {
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
    int code = version > SNAPSHOT_BEFORE_META ? decode_cluster(m, &c) : SLUICE_E_OK;
    if (code != SLUICE_E_OK) {
        controller_machine_free(m);
        return code;
    }
    decode_nodes(m, &c);
    uint32_t streams = cursor_u32(&c);
    c.bad |= streams > CLUSTER_STREAMS_MAX;
    for (uint32_t i = 0; i < streams && !c.bad; i++) {
        struct map_stream *s = decode_stream(m->index, m->next_group, version, &c);
        if (c.bad || !machine_stream_insert(m, s)) {
            c.bad = true;
            machine_stream_free(s);
        } else {
            m->resource_bytes += resource_bytes(s);
            c.bad |= m->resource_bytes > RESOURCES_BYTES_MAX;
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
