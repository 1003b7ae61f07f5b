/* The controller's state machine: nodes, the controller group's own members, remembered requests; streams and replicas are in
 * controller_machine_streams.c, tags, policies and consumers in controller_machine_meta.c, splits and merges in controller_machine_reshard.c, the snapshot in controller_snapshot.c. */
#include "server/controller_machine_impl.h"

#include <stdlib.h>
#include <string.h>

#include "proto/base.h"
#include "proto/error.h"
#include "server/map_resource.h"

static const uint8_t no_id[16];

struct controller_machine *controller_machine_new(void)
{
    struct controller_machine *m = xcalloc(1, sizeof *m);
    m->next_group = CONTROLLER_GROUP + 1;
    m->level = FEATURE_LEVEL_FIRST;
    return m;
}

void controller_machine_free(struct controller_machine *m)
{
    if (m == NULL) {
        return;
    }
    for (unsigned i = 0; i < m->n_streams; i++) {
        machine_stream_free(m->streams[i]);
    }
    free(m->streams);
    free(m->accounts);
    id_table_deinit(&m->groups);
    free(m);
}

struct map_node *machine_node(const struct controller_machine *m, uint32_t id)
{
    for (unsigned i = 0; i < m->n_nodes; i++) {
        if (m->nodes[i].id == id) {
            return (struct map_node *)&m->nodes[i];
        }
    }
    return NULL;
}

static struct machine_member *member(struct controller_machine *m, uint32_t node)
{
    for (unsigned i = 0; i < m->n_members; i++) {
        if (m->members[i].node == node) {
            return &m->members[i];
        }
    }
    return NULL;
}

static void member_insert(struct controller_machine *m, struct machine_member new)
{
    sluice_assert(m->n_members < NODES_MAX);
    unsigned at = 0;
    while (at < m->n_members && m->members[at].node < new.node) {
        at++;
    }
    memmove(&m->members[at + 1], &m->members[at], (m->n_members - at) * sizeof m->members[0]);
    m->members[at] = new;
    m->n_members++;
}

static unsigned voters(const struct controller_machine *m)
{
    unsigned n = 0;
    for (unsigned i = 0; i < m->n_members; i++) {
        n += m->members[i].voter;
    }
    return n;
}

static void apply_init(struct controller_machine *m, const struct controller_entry *e, struct controller_result *r)
{
    if (m->initialized) {
        r->code = memcmp(m->cluster_id, e->cluster_id, 16) == 0 ? SLUICE_E_OK : SLUICE_E_CONFLICT;
        return;
    }
    memcpy(m->cluster_id, e->cluster_id, 16);
    for (uint32_t i = 0; i < e->n_nodes; i++) {
        m->nodes[i] = e->nodes[i];
        m->nodes[i].state = NODE_ALIVE;
        m->nodes[i].incarnation = m->nodes[i].blank_since = 0;
        m->members[i] = (struct machine_member){.node = e->nodes[i].id, .generation = 1, .voter = i < e->n_voters, .first = true};
    }
    m->n_nodes = m->n_members = e->n_nodes;
    m->controller_generation = 1;
    m->initialized = true;
}

/* Addresses and zone as told; what is empty stays. */
static void node_describe(struct map_node *n, const struct map_node *told)
{
    if (told->host[0] != '\0') {
        memcpy(n->host, told->host, sizeof n->host);
        n->port = told->port;
    }
    memcpy(n->zone, told->zone[0] != '\0' ? told->zone : n->zone, sizeof n->zone);
    memcpy(n->kinesis, told->kinesis[0] != '\0' ? told->kinesis : n->kinesis, sizeof n->kinesis);
    memcpy(n->admin, told->admin[0] != '\0' ? told->admin : n->admin, sizeof n->admin);
}

static void apply_node(struct controller_machine *m, const struct controller_entry *e, struct controller_result *r)
{
    struct map_node *n = machine_node(m, e->node.id);
    if (n == NULL) {
        if (m->n_nodes == NODES_MAX || e->node.host[0] == '\0') {
            r->code = SLUICE_E_INVALID;
            return;
        }
        unsigned at = 0;
        while (at < m->n_nodes && m->nodes[at].id < e->node.id) {
            at++;
        }
        memmove(&m->nodes[at + 1], &m->nodes[at], (m->n_nodes - at) * sizeof m->nodes[0]);
        memmove(&m->lives[at + 1], &m->lives[at], m->n_nodes - at);
        m->n_nodes++;
        n = &m->nodes[at];
        memset(n, 0, sizeof *n);
        m->lives[at] = LIFE_KEPT;
        n->id = e->node.id;
        n->state = NODE_JOINING;
    } else if (n->state == NODE_REMOVED) {
        n->state = NODE_JOINING;
    }
    node_describe(n, &e->node);
}

static void apply_node_state(struct controller_machine *m, const struct controller_entry *e, struct controller_result *r)
{
    struct map_node *n = machine_node(m, e->node.id);
    if (n == NULL || (n->state == NODE_REMOVED && e->node.state != NODE_REMOVED)) {
        r->code = SLUICE_E_NOT_FOUND;
        return;
    }
    if (e->node.state == n->state) {
        return;
    }
    if (e->node.state == NODE_JOINING || (e->node.state == NODE_DEAD && n->state != NODE_ALIVE)) {
        r->code = SLUICE_E_CONFLICT;
        return;
    }
    if (e->node.state == NODE_REMOVED) {
        struct machine_member *own = member(m, n->id);
        if (machine_node_has_replicas(m, n->id) || (own != NULL && own->voter && voters(m) == 1)) {
            r->code = SLUICE_E_CONFLICT;
            return;
        }
        if (own != NULL) {
            unsigned at = (unsigned)(own - m->members);
            memmove(own, own + 1, (m->n_members - at - 1) * sizeof *own);
            m->n_members--;
        }
    }
    n->state = e->node.state;
}

static void apply_node_life(struct controller_machine *m, const struct controller_entry *e, struct controller_result *r)
{
    struct map_node *n = machine_node(m, e->node.id);
    if (n == NULL || n->state == NODE_REMOVED) {
        r->code = SLUICE_E_NOT_FOUND;
        return;
    }
    struct machine_member *own = member(m, n->id);
    uint8_t *life = &m->lives[n - m->nodes];
    r->incarnation = n->incarnation;
    r->generation = own != NULL ? own->generation : 0;
    if (e->incarnation < n->incarnation || (e->incarnation == n->incarnation && e->life != LIFE_KEPT && e->life != *life)) {
        r->code = SLUICE_E_CONFLICT; /* an older life, or another disk that counted up to the same number */
        return;
    }
    if (e->life == LIFE_BLANK && e->incarnation > n->incarnation && e->incarnation < n->incarnation + BLANK_LIFE_JUMP) {
        r->code = SLUICE_E_CONFLICT; /* it may be the number of a life of another disk that was never reported */
        return;
    }
    if (e->incarnation > n->incarnation) {
        n->incarnation = e->incarnation;
        *life = e->life;
        if (e->life != LIFE_KEPT) {
            uint32_t generation = ++m->controller_generation;
            if (own == NULL) {
                member_insert(m, (struct machine_member){.node = n->id, .generation = generation});
            } else {
                own->generation = generation;
                own->first = false;
                own->voter = own->voter && voters(m) == 1; /* the reconciler makes it a voter again when it has caught up */
            }
            r->generation = generation;
        }
        if (e->life == LIFE_BLANK) {
            n->blank_since = e->incarnation;
            machine_renew_replicas(m, n->id);
        }
    }
    node_describe(n, &e->node);
    r->incarnation = n->incarnation;
}

static void apply_voters(struct controller_machine *m, const struct controller_entry *e, struct controller_result *r)
{
    for (uint32_t i = 0; i < e->n_voters; i++) {
        if (member(m, e->voters[i]) == NULL) {
            r->code = SLUICE_E_CONFLICT;
            return;
        }
    }
    for (unsigned i = 0; i < m->n_members; i++) {
        m->members[i].voter = false;
    }
    for (uint32_t i = 0; i < e->n_voters; i++) {
        member(m, e->voters[i])->voter = true;
    }
}

bool controller_machine_known_request(const struct controller_machine *m, const uint8_t request_id[16], struct controller_result *r)
{
    if (memcmp(request_id, no_id, 16) == 0) {
        return false;
    }
    for (uint32_t i = 0; i < m->n_requests; i++) {
        if (memcmp(m->requests[i].request_id, request_id, 16) == 0) {
            *r = (struct controller_result){.code = m->requests[i].code};
            memcpy(r->stream_id, m->requests[i].stream_id, 16);
            return true;
        }
    }
    return false;
}

/* CONFLICT is not an answer to remember: the proposer tries again with what has changed. */
static void remember_request(struct controller_machine *m, const uint8_t request_id[16], const struct controller_result *r)
{
    if (memcmp(request_id, no_id, 16) == 0 || r->code == SLUICE_E_CONFLICT) {
        return;
    }
    struct machine_request *slot = &m->requests[m->next_request];
    memcpy(slot->request_id, request_id, 16);
    memcpy(slot->stream_id, r->stream_id, 16);
    slot->code = r->code;
    m->next_request = (m->next_request + 1) % REQUESTS_REMEMBERED;
    m->n_requests += m->n_requests < REQUESTS_REMEMBERED;
}

static void dispatch(struct controller_machine *m, const struct controller_entry *e, struct controller_result *r)
{
    switch (e->kind) {
    case CONTROLLER_INIT:
        apply_init(m, e, r);
        break;
    case CONTROLLER_NODE:
        apply_node(m, e, r);
        break;
    case CONTROLLER_NODE_STATE:
        apply_node_state(m, e, r);
        break;
    case CONTROLLER_NODE_LIFE:
        apply_node_life(m, e, r);
        break;
    case CONTROLLER_STREAM_CREATE:
        machine_stream_create(m, e, r);
        break;
    case CONTROLLER_STREAM_ACTIVE:
        machine_stream_active(m, e, r);
        break;
    case CONTROLLER_STREAM_UPDATE:
        machine_stream_update(m, e, r);
        break;
    case CONTROLLER_STREAM_DELETE:
        machine_stream_delete(m, e, r);
        break;
    case CONTROLLER_REPLICA:
        machine_replica(m, e, r);
        break;
    case CONTROLLER_PREFERRED:
        machine_preferred(m, e, r);
        break;
    case CONTROLLER_VOTERS:
        apply_voters(m, e, r);
        break;
    case CONTROLLER_RESHARD_BEGIN:
        machine_reshard_begin(m, e, r);
        break;
    case CONTROLLER_RESHARD_TARGET:
        machine_reshard_target(m, e, r);
        break;
    case CONTROLLER_RESHARD_STEP:
        machine_reshard_step(m, e, r);
        break;
    case CONTROLLER_LEVEL:
        machine_level(m, e, r);
        break;
    case CONTROLLER_STREAM_CREATE_WITH:
        machine_stream_create(m, e, r);
        break;
    case CONTROLLER_STREAM_CHANGE:
        machine_stream_change(m, e, r);
        break;
    case CONTROLLER_STREAM_DROP:
        machine_stream_drop(m, e, r);
        break;
    case CONTROLLER_CONSUMER_REGISTER:
        machine_consumer_register(m, e, r);
        break;
    case CONTROLLER_CONSUMER_REMOVE:
        machine_consumer_remove(m, e, r);
        break;
    case CONTROLLER_RESOURCE:
        machine_resource(m, e, r);
        break;
    case CONTROLLER_ACCOUNT:
        machine_account(m, e, r);
        break;
    case CONTROLLER_TOKEN_KEY:
        machine_token_key(m, e, r);
        break;
    }
}

int controller_machine_apply(struct controller_machine *m, uint64_t index, const void *data, size_t n, struct controller_result *r)
{
    struct controller_result unused;
    r = r == NULL ? &unused : r;
    *r = (struct controller_result){0};
    struct controller_entry e;
    int code = controller_entry_decode(&e, data, n);
    if (code != SLUICE_E_OK) {
        return code;
    }
    m->index = index;
    m->time_ms = max_u64(m->time_ms, e.now_ms);
    if (!m->initialized && e.kind != CONTROLLER_INIT) {
        r->code = SLUICE_E_NOT_READY;
    } else if (controller_entry_level(e.kind) > m->level) {
        r->code = SLUICE_E_NOT_SUPPORTED; /* no leader that keeps the rule proposes it (F37); the same on every replica that can read it */
    } else if (!controller_machine_known_request(m, e.request_id, r)) {
        dispatch(m, &e, r);
        remember_request(m, e.request_id, r);
    }
    controller_entry_deinit(&e);
    return SLUICE_E_OK;
}

void controller_machine_disable(struct controller_machine *m, unsigned rules) { m->disabled = rules; }
unsigned controller_machine_level(const struct controller_machine *m) { return m->level; }
bool controller_machine_has_token_key(const struct controller_machine *m) { return m->has_token_key; }
bool controller_machine_initialized(const struct controller_machine *m) { return m->initialized; }
uint64_t controller_machine_time_ms(const struct controller_machine *m) { return m->time_ms; }

/* Tags, policies and consumers of a stream. */
static void map_beside(struct map_stream *to, const struct map_stream *from)
{
    to->resource = map_resource_ref(&from->resource);
    to->consumers = xcalloc(from->n_consumers + 1, sizeof *to->consumers);
    for (unsigned i = 0; i < from->n_consumers; i++) {
        to->consumers[i] = from->consumers[i];
        to->consumers[i].resource = map_resource_ref(&from->consumers[i].resource);
    }
}

struct cluster_map *controller_machine_map(const struct controller_machine *m)
{
    if (!m->initialized) {
        return NULL;
    }
    struct cluster_map *map = cluster_map_new();
    map->version = m->index;
    map->next_group = m->next_group;
    memcpy(map->cluster_id, m->cluster_id, 16);
    memcpy(map->nodes, m->nodes, sizeof map->nodes);
    map->n_nodes = m->n_nodes;
    for (unsigned pass = 0; pass < 2; pass++) { /* voters first */
        for (unsigned i = 0; i < m->n_members; i++) {
            const struct machine_member *x = &m->members[i];
            if (x->voter == (pass == 0) && map->n_controller < ARRAY_LEN(map->controller)) {
                map->controller[map->n_controller++] = (struct map_replica){.node = x->node, .generation = x->generation, .first = x->first};
                map->n_controller_voters += x->voter;
            }
        }
    }
    map->streams = xcalloc(m->n_streams + 1, sizeof *map->streams);
    map->n_streams = m->n_streams;
    for (unsigned i = 0; i < m->n_streams; i++) {
        map->streams[i] = *m->streams[i];
        map->streams[i].shards = xcalloc(m->streams[i]->n_shards, sizeof(struct map_shard));
        memcpy(map->streams[i].shards, m->streams[i]->shards, m->streams[i]->n_shards * sizeof(struct map_shard));
        map->streams[i].reshards = xcalloc(m->streams[i]->n_reshards + 1, sizeof(struct map_reshard));
        if (m->streams[i]->n_reshards > 0) {
            memcpy(map->streams[i].reshards, m->streams[i]->reshards, m->streams[i]->n_reshards * sizeof(struct map_reshard));
        }
        map_beside(&map->streams[i], m->streams[i]);
    }
    map->accounts = xcalloc(m->n_accounts + 1, sizeof *map->accounts);
    map->n_accounts = m->n_accounts;
    for (unsigned i = 0; i < m->n_accounts; i++) {
        map->accounts[i] = m->accounts[i];
    }
    map->has_token_key = m->has_token_key;
    memcpy(map->token_key, m->token_key, sizeof map->token_key);
    cluster_map_finish(map);
    return map;
}
