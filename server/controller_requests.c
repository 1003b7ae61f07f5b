/* What each control request does on the controller's leader. */
#include "server/controller_impl.h"

#include <stdlib.h>
#include <stdio.h>
#include <string.h>

#include "server/formation.h"

/* What to do when the proposal's end is known: each kind has its own. */
struct lead { struct call *call; void (*applied)(struct call *call, const struct controller_result *r); };

static void lead_done(void *arg, int code, const struct controller_result *r)
{
    struct lead *l = arg;
    struct call *call = l->call;
    void (*applied)(struct call *, const struct controller_result *) = l->applied;
    free(l);
    call->pending--;
    if (call->answered || r == NULL || (code == SLUICE_E_CONFLICT && call->kind == FRAME_STREAM_CREATE)) {
        call_retry(call, code); /* an answered call is only freed there */
        return;
    }
    controller_fresh_map(call->c);
    applied(call, r);
}

void call_propose(struct call *call, struct controller_entry *e, void (*applied)(struct call *call, const struct controller_result *r))
{
    struct lead *l = xmalloc(sizeof *l);
    *l = (struct lead){.call = call, .applied = applied};
    call->pending++;
    call->state = CALL_PROPOSED;
    int code = controller_propose(call->c, e, lead_done, l);
    if (code != SLUICE_E_OK) {
        free(l);
        call->pending--;
        call_retry(call, code);
    }
}

unsigned controller_placement(struct controller *c, struct placement_node *out, bool up_only)
{
    const struct cluster_map *map = controller_fresh_map(c);
    unsigned usable = 0;
    for (unsigned i = 0; i < map->n_nodes; i++) {
        const struct map_node *n = &map->nodes[i];
        const struct actual_node *a = actual_node(c, n->id);
        bool takes = n->state == NODE_ALIVE || (!up_only && n->state == NODE_DEAD);
        out[i] = (struct placement_node){.id = n->id, .zone = n->zone};
        out[i].usable = takes && (!up_only || (node_up(c, n->id) && a != NULL && !a->stopping));
        usable += out[i].usable;
    }
    for (unsigned i = 0; i < map->n_streams; i++) {
        for (unsigned k = 0; k < map->streams[i].n_shards; k++) {
            const struct map_shard *s = &map->streams[i].shards[k];
            for (unsigned n = 0; n < map->n_nodes; n++) {
                out[n].leaders += s->preferred_leader == out[n].id;
                out[n].replicas += cluster_map_replica(s, out[n].id) != NULL;
            }
        }
    }
    return usable;
}

static void create_applied(struct call *call, const struct controller_result *r)
{
    if (r->code != SLUICE_E_OK) {
        call_error(call, r->code, NULL);
        return;
    }
    memcpy(call->stream_id, r->stream_id, 16);
    call->state = CALL_WAIT_ACTIVE;
    calls_map_changed(call->c);
}

static void lead_create(struct call *call)
{
    struct controller *c = call->c;
    Sluice__StreamCreate *m = sluice__stream_create__unpack(NULL, call->len, call->message);
    sluice_assert(m != NULL);
    struct controller_result known;
    controller_fresh_map(c);
    if (controller_machine_known_request(c->machine, m->request_id.data, &known)) {
        sluice__stream_create__free_unpacked(m, NULL);
        create_applied(call, &known);
        return;
    }
    if (cluster_map_stream(controller_fresh_map(c), m->account, m->name) != NULL) {
        /* Asked again after its id was forgotten, the entry would find that it is the same request. */
        const struct map_stream *s = cluster_map_stream(c->map, m->account, m->name);
        bool same = memcmp(s->request_id, m->request_id.data, 16) == 0;
        struct controller_result r = {.code = same ? SLUICE_E_OK : SLUICE_E_EXISTS};
        memcpy(r.stream_id, s->id, 16);
        sluice__stream_create__free_unpacked(m, NULL);
        create_applied(call, &r);
        return;
    }
    struct placement_node nodes[NODES_MAX];
    unsigned usable = controller_placement(c, nodes, true);
    unsigned all = 0;
    for (unsigned i = 0; i < c->map->n_nodes; i++) {
        all += c->map->nodes[i].state == NODE_ALIVE || c->map->nodes[i].state == NODE_DEAD;
    }
    uint32_t replicas = m->replicas != 0 ? m->replicas : (uint32_t)min_u64(min_u64(c->settings->replicas, STREAM_REPLICAS_MAX), all);
    if (usable < replicas) { /* nodes that are down now count too: they open their replicas when they come back */
        usable = controller_placement(c, nodes, false);
    }
    if (usable < replicas) {
        sluice__stream_create__free_unpacked(m, NULL);
        call_error(call, SLUICE_E_INVALID, "more replicas than there are nodes");
        return;
    }
    struct controller_entry e = {.kind = CONTROLLER_STREAM_CREATE, .shards = m->shards, .replicas = replicas, .on_demand = m->on_demand,
                                 .retention_hours = m->retention_hours != 0 ? m->retention_hours : 24,
                                 .limits_off = strcmp(c->settings->limits, "off") == 0, .record_max = m->record_max != 0 ? m->record_max : (uint32_t)c->settings->record_max, .warm_mibps = m->warm_mibps};
    if (m->n_tags > 0 || m->warm_mibps != 0) {
        e.kind = CONTROLLER_STREAM_CREATE_WITH;
        entry_take_tags(&e, m->tags, m->n_tags);
    }
    memcpy(e.request_id, m->request_id.data, 16);
    env_random(c->o.env, e.stream_id, sizeof e.stream_id);
    snprintf(e.account, sizeof e.account, "%s", m->account);
    snprintf(e.name, sizeof e.name, "%s", m->name);
    uint32_t *placement = xcalloc((size_t)m->shards * replicas, sizeof *placement);
    uint32_t rotation = (uint32_t)c->map->next_group;
    for (uint32_t i = 0; i < m->shards; i++) {
        placement_choose(nodes, c->map->n_nodes, replicas, rotation + i, &placement[i * replicas]);
    }
    e.placement = placement;
    call_propose(call, &e, create_applied);
    free(e.tags);
    free(placement);
    sluice__stream_create__free_unpacked(m, NULL);
}

static void update_applied(struct call *call, const struct controller_result *r)
{
    if (r->code != SLUICE_E_OK) {
        call_error(call, r->code, NULL);
        return;
    }
    call_describe(call, cluster_map_stream_by_id(call->c->map, r->stream_id), FRAME_STREAM_UPDATE_REPLY);
}

static void lead_update(struct call *call)
{
    struct controller *c = call->c;
    Sluice__StreamUpdate *m = sluice__stream_update__unpack(NULL, call->len, call->message);
    sluice_assert(m != NULL);
    const struct map_stream *s = cluster_map_stream(controller_fresh_map(c), m->account, m->name);
    struct controller_result known;
    if (controller_machine_known_request(c->machine, m->request_id.data, &known)) {
        update_applied(call, &known); /* asked again: what it changed may have changed since */
    } else if (s == NULL) {
        call_error(call, SLUICE_E_NOT_FOUND, NULL);
    } else if (machine_retention_ok(s, m->retention_hours, (enum retention_way)m->retention) != SLUICE_E_OK) {
        char why[320];
        bool up = m->retention == SLUICE__STREAM_UPDATE__RETENTION__UP;
        snprintf(why, sizeof why, "Requested retention period (%u hours) for stream %.128s can not be %s than existing retention period (%u hours). Use %sRetentionPeriod API.", m->retention_hours,
                 s->name, up ? "shorter" : "longer", s->settings.retention_hours, up ? "Decrease" : "Increase");
        call_error(call, SLUICE_E_INVALID, why);
    } else {
        struct controller_entry e = {.kind = call->level > FEATURE_LEVEL_FIRST ? CONTROLLER_STREAM_CHANGE : CONTROLLER_STREAM_UPDATE, .retention_hours = m->retention_hours,
                                     .limits = m->limits == SLUICE__STREAM_UPDATE__LIMITS__OFF ? 2 : m->limits == SLUICE__STREAM_UPDATE__LIMITS__KINESIS ? 1 : 0,
                                     .way = (enum retention_way)m->retention, .record_max = m->record_max, .mode = (enum stream_mode)m->mode, .metrics_on = m->metrics_on,
                                     .metrics_off = m->metrics_off, .warm = m->warm, .warm_mibps = m->warm_mibps};
        memcpy(e.request_id, m->request_id.data, 16);
        memcpy(e.stream_id, s->id, 16);
        call_propose(call, &e, update_applied);
    }
    sluice__stream_update__free_unpacked(m, NULL);
}

static void delete_applied(struct call *call, const struct controller_result *r)
{
    if (r->code != SLUICE_E_OK) {
        call_error(call, r->code, r->code == SLUICE_E_IN_USE ? "the stream has registered consumers" : NULL);
        return;
    }
    memcpy(call->stream_id, r->stream_id, 16);
    call->state = CALL_WAIT_GONE;
    calls_map_changed(call->c);
}

static void lead_delete(struct call *call)
{
    struct controller *c = call->c;
    Sluice__StreamDelete *m = sluice__stream_delete__unpack(NULL, call->len, call->message);
    sluice_assert(m != NULL);
    struct controller_result known;
    const struct map_stream *s = cluster_map_stream(controller_fresh_map(c), m->account, m->name);
    if (controller_machine_known_request(c->machine, m->request_id.data, &known)) {
        delete_applied(call, &known);
    } else if (s == NULL) {
        call_error(call, SLUICE_E_NOT_FOUND, NULL);
    } else {
        /* Below level 2 there are no consumers. */
        bool keep = m->keep_if_consumers && controller_machine_level(c->machine) > FEATURE_LEVEL_FIRST;
        struct controller_entry e = {.kind = keep ? CONTROLLER_STREAM_DROP : CONTROLLER_STREAM_DELETE};
        memcpy(e.request_id, m->request_id.data, 16);
        memcpy(e.stream_id, s->id, 16);
        call_propose(call, &e, delete_applied);
    }
    sluice__stream_delete__free_unpacked(m, NULL);
}

static void node_applied(struct call *call, const struct controller_result *r)
{
    if (r->code != SLUICE_E_OK) {
        call_error(call, r->code, r->code == SLUICE_E_CONFLICT ? "the node still holds replicas, or it is the only voter: drain it first" : NULL);
        return;
    }
    Sluice__Empty m = SLUICE__EMPTY__INIT;
    call_answer(call, FRAME_NODE_CHANGE_REPLY, &m);
}

static void lead_node(struct call *call)
{
    Sluice__NodeChange *m = sluice__node_change__unpack(NULL, call->len, call->message);
    if (m == NULL) {
        call_error(call, SLUICE_E_PROTOCOL, NULL);
        return;
    }
    const struct map_node *n = cluster_map_node(controller_fresh_map(call->c), m->node);
    struct controller_entry e = {.kind = CONTROLLER_NODE_STATE};
    e.node.id = m->node;
    const char *why = NULL;
    switch (m->kind) {
    case SLUICE__NODE_CHANGE__KIND__ADD:
        e.kind = CONTROLLER_NODE;
        if (m->node == 0 || m->node > 65535 || !formation_parse_address(m->address, e.node.host, &e.node.port)) {
            why = "a node needs a number of 1 to 65535 and an address host:port";
        } else if (strlen(m->zone) >= sizeof e.node.zone) {
            why = "the zone's name is too long";
        } else if (n != NULL && (n->state == NODE_ALIVE || n->state == NODE_DRAINING) && (strcmp(n->host, e.node.host) != 0 || n->port != e.node.port)) {
            why = "a node of this number is a member, alive, with another address"; /* a slip would cut it off from those that read the map */
        } else {
            snprintf(e.node.zone, sizeof e.node.zone, "%s", m->zone);
        }
        break;
    case SLUICE__NODE_CHANGE__KIND__DRAIN:
        e.node.state = NODE_DRAINING;
        break;
    case SLUICE__NODE_CHANGE__KIND__UNDRAIN:
        e.node.state = NODE_ALIVE;
        why = n != NULL && n->state != NODE_DRAINING ? "the node is not draining" : NULL;
        break;
    case SLUICE__NODE_CHANGE__KIND__REMOVE:
        e.node.state = NODE_REMOVED;
        break;
    default:
        why = "unknown kind of change";
    }
    sluice__node_change__free_unpacked(m, NULL);
    if (why != NULL) {
        call_error(call, SLUICE_E_INVALID, why);
    } else if (n == NULL && e.kind == CONTROLLER_NODE_STATE) {
        call_error(call, SLUICE_E_NOT_FOUND, "no such node");
    } else {
        call_propose(call, &e, node_applied);
    }
}

static void transfer_done(void *arg, int code)
{
    struct call *call = arg;
    call->pending--;
    if (call->answered) {
        call_retry(call, code);
    } else if (code == SLUICE_E_OK) {
        Sluice__Empty m = SLUICE__EMPTY__INIT;
        call_answer(call, FRAME_TRANSFER_REPLY, &m);
    } else {
        call_error(call, code, NULL);
    }
}

static void lead_transfer(struct call *call)
{
    struct controller *c = call->c;
    Sluice__Transfer *m = sluice__transfer__unpack(NULL, call->len, call->message);
    const struct map_stream *s = m != NULL && m->stream_id.len == 16 ? cluster_map_stream_by_id(controller_fresh_map(c), m->stream_id.data) : NULL;
    uint32_t shard = m != NULL ? m->shard : 0;
    uint32_t to = m != NULL ? m->to_node : 0;
    if (m != NULL) {
        sluice__transfer__free_unpacked(m, NULL);
    }
    const struct map_shard *of = s != NULL ? cluster_map_shard(s, shard) : NULL;
    if (of == NULL) {
        call_error(call, SLUICE_E_NOT_FOUND, NULL);
        return;
    }
    const struct map_replica *r = to != 0 ? cluster_map_replica(of, to) : NULL;
    if (to != 0 && (r == NULL || r->joining || r->leaving)) {
        call_error(call, SLUICE_E_INVALID, "that node has no voting replica of the shard");
        return;
    }
    struct actual_group *a = actual_group(c, of->group);
    if (!group_led(c, a)) {
        call_error(call, SLUICE_E_NOT_READY, NULL);
        return;
    }
    if (to == a->leader) {
        Sluice__Empty empty = SLUICE__EMPTY__INIT;
        call_answer(call, FRAME_TRANSFER_REPLY, &empty);
        return;
    }
    call->pending++;
    call->state = CALL_ORDERED;
    int code = controller_order(c, a->leader, a->group, SLUICE__REPLICA_ORDER__KIND__TRANSFER, r != NULL ? raft_id_make(to, r->generation) : 0, transfer_done, call);
    if (code != SLUICE_E_OK) {
        call->pending--;
        call_error(call, code, NULL);
    }
}

/* ---- joining (formation.h) ---- */

static void join_applied(struct call *call, const struct controller_result *r)
{
    const struct cluster_map *map = call->c->map;
    Sluice__FormReply m = SLUICE__FORM_REPLY__INIT;
    Sluice__NodeInfo nodes[NODES_MAX];
    Sluice__NodeInfo *list[NODES_MAX];
    char addresses[NODES_MAX][80];
    m.formed = true;
    m.cluster_id = (ProtobufCBinaryData){.len = 16, .data = (uint8_t *)map->cluster_id};
    m.accepted = r->code == SLUICE_E_OK;
    m.controller_generation = r->generation;
    for (unsigned i = 0; i < map->n_nodes; i++) {
        sluice__node_info__init(&nodes[i]);
        controller_address(&map->nodes[i], addresses[i]);
        nodes[i].id = map->nodes[i].id;
        nodes[i].address = addresses[i];
        nodes[i].state = (Sluice__NodeInfo__State)map->nodes[i].state;
        nodes[i].incarnation = map->nodes[i].incarnation;
        list[i] = &nodes[i];
    }
    m.n_nodes = map->n_nodes;
    m.nodes = list;
    call_answer(call, FRAME_FORM_REPLY, &m);
}

/* A node that was told to join is added first; then its wish is looked at again. */
static void join_added(struct call *call, const struct controller_result *r)
{
    if (r->code != SLUICE_E_OK) {
        call_error(call, r->code, NULL);
    } else {
        call_lead(call);
    }
}

static void lead_form(struct call *call)
{
    struct controller *c = call->c;
    bool add = false;
    Sluice__Form *m = sluice__form__unpack(NULL, call->len, call->message);
    struct controller_entry e = {.kind = CONTROLLER_NODE_LIFE};
    bool ok = m != NULL && m->node > 0 && m->node <= 65535 && m->n_nodes == 1 && m->nodes[0]->id == m->node && m->incarnation > 0;
    controller_fresh_map(c);
    bool same = ok && m->cluster_id.len == 16 && memcmp(m->cluster_id.data, c->map->cluster_id, 16) == 0;
    if (ok) {
        const Sluice__NodeInfo *n = m->nodes[0];
        e.node.id = m->node;
        e.incarnation = m->incarnation;
        e.life = m->blank ? LIFE_BLANK : LIFE_CONTROLLER_LOST;
        ok = formation_parse_address(n->address, e.node.host, &e.node.port) && strlen(n->zone) < sizeof e.node.zone && strlen(n->kinesis) < sizeof e.node.kinesis
             && strlen(n->admin) < sizeof e.node.admin;
        snprintf(e.node.zone, sizeof e.node.zone, "%s", n->zone);
        snprintf(e.node.kinesis, sizeof e.node.kinesis, "%s", n->kinesis);
        snprintf(e.node.admin, sizeof e.node.admin, "%s", n->admin);
        const struct map_node *known = cluster_map_node(c->map, m->node);
        add = n->state == SLUICE__NODE_INFO__STATE__JOINING && (known == NULL || known->state == NODE_REMOVED);
    }
    if (m != NULL) {
        sluice__form__free_unpacked(m, NULL);
    }
    if (!ok) {
        call_error(call, SLUICE_E_INVALID, "a node that joins tells its number, address and incarnation");
    } else if (!same) {
        call_error(call, SLUICE_E_WRONG_CLUSTER, NULL);
    } else if (add) {
        e.kind = CONTROLLER_NODE;
        call_propose(call, &e, join_added);
    } else {
        call_propose(call, &e, join_applied);
    }
}

void call_lead(struct call *call)
{
    char why[320];
    int code = controller_level_missing(call->c, call->level, why, sizeof why);
    if (code == SLUICE_E_NOT_SUPPORTED) {
        call_error(call, code, why);
        return;
    }
    if (code != SLUICE_E_OK) {
        call_retry(call, code);
        return;
    }
    switch (call->kind) {
    case FRAME_STREAM_CREATE:
        lead_create(call);
        break;
    case FRAME_STREAM_UPDATE:
        lead_update(call);
        break;
    case FRAME_STREAM_DELETE:
        lead_delete(call);
        break;
    case FRAME_NODE_CHANGE:
        lead_node(call);
        break;
    case FRAME_TRANSFER:
        lead_transfer(call);
        break;
    case FRAME_STREAM_RESHARD:
        lead_reshard(call);
        break;
    case FRAME_FORM:
        lead_form(call);
        break;
    default:
        lead_meta(call);
    }
}
