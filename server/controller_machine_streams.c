/* Streams, their shards and replicas in the controller's machine. */
#include "server/controller_machine_impl.h"

#include <stdlib.h>
#include <string.h>

#include "proto/base.h"
#include "proto/error.h"
#include "server/map_resource.h"

bool stream_name_ok(const char *name)
{
    size_t n = strlen(name);
    if (n == 0 || n > NAME_MAX_LEN) {
        return false;
    }
    for (size_t i = 0; i < n; i++) {
        char c = name[i];
        if (!((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' || c == '.' || c == '-')) {
            return false;
        }
    }
    return true;
}

bool account_ok(const char *account)
{
    size_t n = strlen(account);
    for (size_t i = 0; i < n; i++) {
        if (account[i] < '0' || account[i] > '9') {
            return false;
        }
    }
    return n == 12;
}

static int compare_names(const struct map_stream *a, const char *account, const char *name)
{
    int order = strcmp(a->account, account);
    return order != 0 ? order : strcmp(a->name, name);
}

void machine_stream_free(struct map_stream *s)
{
    free(s->shards);
    free(s->reshards);
    map_resource_unref(&s->resource);
    for (unsigned i = 0; i < s->n_consumers; i++) {
        map_resource_unref(&s->consumers[i].resource);
    }
    free(s->consumers);
    free(s);
}

static unsigned position(const struct controller_machine *m, const char *account, const char *name, bool *found)
{
    unsigned low = 0;
    unsigned high = m->n_streams;
    while (low < high) {
        unsigned middle = low + (high - low) / 2;
        if (compare_names(m->streams[middle], account, name) < 0) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    *found = low < m->n_streams && compare_names(m->streams[low], account, name) == 0;
    return low;
}

struct map_stream *machine_stream_by_id(const struct controller_machine *m, const uint8_t id[16])
{
    for (unsigned i = 0; i < m->n_streams; i++) {
        if (memcmp(m->streams[i]->id, id, 16) == 0) {
            return m->streams[i];
        }
    }
    return NULL;
}

bool machine_stream_insert(struct controller_machine *m, struct map_stream *s)
{
    bool found;
    unsigned at = position(m, s->account, s->name, &found);
    if (found) {
        return false;
    }
    for (unsigned i = 0; i < s->n_shards; i++) {
        if (s->shards[i].group <= CONTROLLER_GROUP || id_table_get(&m->groups, s->shards[i].group) != NULL) {
            return false; /* only a damaged snapshot can say so; the machine is thrown away */
        }
        id_table_put(&m->groups, s->shards[i].group, &s->shards[i]);
    }
    if (m->n_streams == m->cap_streams) {
        m->cap_streams = m->cap_streams == 0 ? 16 : m->cap_streams * 2;
        m->streams = xrealloc(m->streams, m->cap_streams * sizeof *m->streams);
    }
    memmove(&m->streams[at + 1], &m->streams[at], (m->n_streams - at) * sizeof *m->streams);
    m->streams[at] = s;
    m->n_streams++;
    m->n_shards += s->n_shards;
    return true;
}

bool machine_placement_ok(const struct controller_machine *m, const struct controller_entry *e)
{
    for (uint32_t i = 0; i < e->shards * e->replicas; i++) {
        const struct map_node *n = machine_node(m, e->placement[i]);
        if (n == NULL || n->state == NODE_REMOVED || n->state == NODE_JOINING) {
            return false;
        }
        for (uint32_t k = i / e->replicas * e->replicas; k < i; k++) {
            if (e->placement[k] == e->placement[i]) {
                return false;
            }
        }
    }
    return true;
}

void machine_stream_create(struct controller_machine *m, const struct controller_entry *e, struct controller_result *r)
{
    static const uint8_t none[16];
    if (!stream_name_ok(e->name) || !account_ok(e->account) || e->retention_hours < 24 || e->retention_hours > 8760 || memcmp(e->stream_id, none, 16) == 0) {
        r->code = SLUICE_E_INVALID;
        return;
    }
    bool found;
    unsigned at = position(m, e->account, e->name, &found);
    if (found) {
        const struct map_stream *other = m->streams[at];
        bool same = memcmp(e->request_id, none, 16) != 0 && memcmp(other->request_id, e->request_id, 16) == 0;
        r->code = same ? SLUICE_E_OK : SLUICE_E_EXISTS;
        memcpy(r->stream_id, other->id, 16);
        return;
    }
    if (!machine_placement_ok(m, e) || machine_stream_by_id(m, e->stream_id) != NULL) {
        r->code = SLUICE_E_CONFLICT;
        return;
    }
    if (m->n_streams >= CLUSTER_STREAMS_MAX || m->n_shards + e->shards > CLUSTER_SHARDS_MAX) {
        r->code = SLUICE_E_TOO_LARGE;
        return;
    }
    struct map_resource resource;
    r->code = machine_resource_make(m, e, &resource);
    if (r->code != SLUICE_E_OK) {
        return;
    }
    struct map_stream *s = xcalloc(1, sizeof *s);
    s->resource = resource;
    s->warm_mibps = e->warm_mibps;
    memcpy(s->id, e->stream_id, 16);
    memcpy(s->name, e->name, sizeof s->name);
    memcpy(s->account, e->account, sizeof s->account);
    memcpy(s->request_id, e->request_id, 16);
    s->status = STREAM_CREATING;
    s->created_ms = m->time_ms;
    s->replicas = e->replicas;
    s->on_demand = e->on_demand;
    s->settings = (struct stream_settings){.version = 1, .retention_hours = e->retention_hours, .limits_off = e->limits_off, .record_max = e->record_max};
    s->n_shards = s->next_shard = e->shards;
    s->shards = xcalloc(e->shards, sizeof *s->shards);
    for (uint32_t i = 0; i < e->shards; i++) {
        struct map_shard *shard = &s->shards[i];
        shard->group = m->next_group++;
        shard->shard = i;
        hash_range(i, e->shards, &shard->first, &shard->last);
        shard->created_s = m->time_ms / 1000;
        shard->opened = true;
        shard->generation = 1;
        shard->n_replicas = e->replicas;
        for (uint32_t k = 0; k < e->replicas; k++) {
            shard->replicas[k] = (struct map_replica){.node = e->placement[i * e->replicas + k], .generation = 1, .first = true};
        }
        shard->preferred_leader = shard->replicas[0].node;
    }
    sluice_assert(machine_stream_insert(m, s));
    memcpy(r->stream_id, s->id, 16);
}

void machine_stream_active(struct controller_machine *m, const struct controller_entry *e, struct controller_result *r)
{
    struct map_stream *s = machine_stream_by_id(m, e->stream_id);
    memcpy(r->stream_id, e->stream_id, 16);
    if (s == NULL || s->status == STREAM_DELETING) {
        r->code = SLUICE_E_NOT_FOUND;
        return;
    }
    if (s->status == STREAM_CREATING) {
        s->status = STREAM_ACTIVE;
    }
}

void machine_stream_update(struct controller_machine *m, const struct controller_entry *e, struct controller_result *r)
{
    struct map_stream *s = machine_stream_by_id(m, e->stream_id);
    memcpy(r->stream_id, e->stream_id, 16);
    if (s == NULL || s->status == STREAM_DELETING) {
        r->code = SLUICE_E_NOT_FOUND;
        return;
    }
    if (e->retention_hours != 0 && (e->retention_hours < 24 || e->retention_hours > 8760)) {
        r->code = SLUICE_E_INVALID;
        return;
    }
    struct stream_settings now = s->settings;
    now.retention_hours = e->retention_hours != 0 ? e->retention_hours : now.retention_hours;
    now.limits_off = e->limits != 0 ? e->limits == 2 : now.limits_off;
    if (now.retention_hours != s->settings.retention_hours || now.limits_off != s->settings.limits_off) {
        now.version++;
        s->settings = now;
    }
}

void machine_stream_delete(struct controller_machine *m, const struct controller_entry *e, struct controller_result *r)
{
    struct map_stream *s = machine_stream_by_id(m, e->stream_id);
    memcpy(r->stream_id, e->stream_id, 16);
    if (s == NULL) {
        r->code = SLUICE_E_NOT_FOUND;
        return;
    }
    if (!e->done) {
        s->status = STREAM_DELETING;
        return;
    }
    if (s->status != STREAM_DELETING) {
        r->code = SLUICE_E_CONFLICT;
        return;
    }
    bool found;
    unsigned at = position(m, s->account, s->name, &found);
    sluice_assert(found);
    for (unsigned i = 0; i < s->n_shards; i++) {
        id_table_take(&m->groups, s->shards[i].group);
    }
    machine_resource_drop(m, &s->resource);
    for (unsigned i = 0; i < s->n_consumers; i++) {
        machine_resource_drop(m, &s->consumers[i].resource);
    }
    m->n_shards -= s->n_shards;
    memmove(&m->streams[at], &m->streams[at + 1], (m->n_streams - at - 1) * sizeof *m->streams);
    m->n_streams--;
    machine_stream_free(s);
}

/* ---- replicas ---- */

static struct map_replica *replica(struct map_shard *s, uint32_t node, uint32_t generation)
{
    for (unsigned i = 0; i < s->n_replicas; i++) {
        if (s->replicas[i].node == node && (generation == 0 || s->replicas[i].generation == generation)) {
            return &s->replicas[i];
        }
    }
    return NULL;
}

static struct map_replica *replacer(struct map_shard *s, const struct map_replica *old)
{
    for (unsigned i = 0; i < s->n_replicas; i++) {
        if (s->replicas[i].replaces_node == old->node && s->replicas[i].replaces_generation == old->generation) {
            return &s->replicas[i];
        }
    }
    return NULL;
}

static void replica_drop(struct map_shard *s, struct map_replica *r)
{
    unsigned at = (unsigned)(r - s->replicas);
    memmove(r, r + 1, (s->n_replicas - at - 1) * sizeof *r);
    s->n_replicas--;
    memset(&s->replicas[s->n_replicas], 0, sizeof *r);
}

static bool may_take_replicas(const struct controller_machine *m, uint32_t node)
{
    const struct map_node *n = machine_node(m, node);
    return n != NULL && n->state == NODE_ALIVE;
}

/* The place in the list stays; its new holder joins under a new generation. */
static void replica_renew(struct map_shard *s, struct map_replica *r, uint32_t node)
{
    if (s->preferred_leader == r->node) {
        s->preferred_leader = node;
    }
    r->node = node;
    r->generation = ++s->generation;
    r->first = false;
    r->joining = true;
}

static int replica_replace(struct controller_machine *m, struct map_shard *s, const struct controller_entry *e)
{
    struct map_replica *old = replica(s, e->replica_node, e->replica_generation);
    bool same_node = e->to_node == e->replica_node;
    if (old == NULL || e->replica_generation == 0 || old->leaving || replacer(s, old) != NULL) {
        return SLUICE_E_CONFLICT;
    }
    const struct map_node *n = machine_node(m, e->to_node);
    if (same_node ? n == NULL || n->state == NODE_REMOVED : !may_take_replicas(m, e->to_node) || replica(s, e->to_node, 0) != NULL) {
        return SLUICE_E_CONFLICT;
    }
    replica_renew(s, old, e->to_node);
    return SLUICE_E_OK;
}

static int replica_move(struct controller_machine *m, struct map_shard *s, const struct controller_entry *e)
{
    if (!may_take_replicas(m, e->to_node) || replica(s, e->to_node, 0) != NULL || s->n_replicas == REPLICAS_MAX) {
        return SLUICE_E_CONFLICT;
    }
    struct map_replica new = {.node = e->to_node, .joining = true};
    if (e->replica_node != 0) {
        struct map_replica *old = replica(s, e->replica_node, e->replica_generation);
        if (old == NULL || e->replica_generation == 0 || old->leaving || old->joining || replacer(s, old) != NULL) {
            return SLUICE_E_CONFLICT;
        }
        new.replaces_node = old->node;
        new.replaces_generation = old->generation;
    }
    new.generation = ++s->generation;
    s->replicas[s->n_replicas++] = new;
    return SLUICE_E_OK;
}

static int replica_joined(struct map_shard *s, const struct controller_entry *e)
{
    struct map_replica *new = replica(s, e->replica_node, e->replica_generation);
    if (new == NULL || e->replica_generation == 0 || !new->joining) {
        return SLUICE_E_CONFLICT;
    }
    new->joining = false;
    if (new->replaces_node != 0) {
        struct map_replica *old = replica(s, new->replaces_node, new->replaces_generation);
        if (old != NULL) {
            old->leaving = true;
            if (s->preferred_leader == old->node) {
                s->preferred_leader = new->node;
            }
        }
        new->replaces_node = new->replaces_generation = 0;
    }
    return SLUICE_E_OK;
}

void machine_replica(struct controller_machine *m, const struct controller_entry *e, struct controller_result *r)
{
    struct map_shard *s = id_table_get(&m->groups, e->group);
    if (s == NULL) {
        r->code = SLUICE_E_NOT_FOUND;
        return;
    }
    switch (e->op) {
    case REPLICA_OP_REPLACE:
        r->code = replica_replace(m, s, e);
        break;
    case REPLICA_OP_MOVE:
        r->code = replica_move(m, s, e);
        break;
    case REPLICA_OP_JOINED:
        r->code = replica_joined(s, e);
        break;
    case REPLICA_OP_GONE: {
        struct map_replica *old = replica(s, e->replica_node, e->replica_generation);
        if (old == NULL || e->replica_generation == 0 || !old->leaving) {
            r->code = SLUICE_E_CONFLICT;
        } else {
            replica_drop(s, old);
        }
        break;
    }
    }
}

void machine_preferred(struct controller_machine *m, const struct controller_entry *e, struct controller_result *r)
{
    struct map_shard *s = id_table_get(&m->groups, e->group);
    struct map_replica *to = s != NULL ? replica(s, e->replica_node, 0) : NULL;
    if (to == NULL || to->leaving) {
        r->code = s == NULL ? SLUICE_E_NOT_FOUND : SLUICE_E_CONFLICT;
        return;
    }
    s->preferred_leader = e->replica_node;
}

void machine_renew_replicas(struct controller_machine *m, uint32_t node)
{
    for (unsigned i = 0; i < m->n_streams; i++) {
        for (unsigned k = 0; k < m->streams[i]->n_shards; k++) {
            struct map_shard *s = &m->streams[i]->shards[k];
            struct map_replica *r = replica(s, node, 0);
            if (r == NULL) {
                continue;
            }
            struct map_replica *by = replacer(s, r);
            if (r->leaving || by != NULL) {
                if (by != NULL) {
                    by->replaces_node = by->replaces_generation = 0; /* or it would count as a replica more than wanted, and another one would be added */
                }
                replica_drop(s, r); /* it was on its way out: what takes its place goes on joining */
            } else {
                replica_renew(s, r, node);
            }
        }
    }
}

bool machine_node_has_replicas(const struct controller_machine *m, uint32_t node)
{
    for (unsigned i = 0; i < m->n_streams; i++) {
        for (unsigned k = 0; k < m->streams[i]->n_shards; k++) {
            if (replica(&m->streams[i]->shards[k], node, 0) != NULL) {
                return true;
            }
        }
    }
    return false;
}
