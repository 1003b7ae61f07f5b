/* request.c: requests: made, sent to their lane, answered (see request.h). */
#include "server/request.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proto/base.h"
#include "server/connection.h"
#include "server/node_impl.h"
#include "server/shard.h"
#include "sluice.pb-c.h"

/* ---- in ---- */

void request_dispatch(struct connection *c, struct frame *f)
{
    struct lane *l = c->lane;
    if (f->kind == FRAME_CREDIT) {
        metrics_request(&l->metrics, f->kind);
        request_credit(c, f);
        return;
    }
    struct request *r = calloc(1, sizeof *r);
    if (r == NULL) {
        connection_refuse(c, SLUICE_E_MEMORY, f->correlation, NULL);
        return;
    }
    r->home = r->at = l;
    r->conn = c;
    r->conn_id = c->id;
    r->kind = f->kind;
    r->correlation = f->correlation;
    r->from_peer = c->state == CONNECTION_PEER_CONTROL;
    r->arrived_ns = env_now_ns(l->env);
    r->conn_next = c->requests;
    r->conn_prev = &c->requests;
    if (r->conn_next != NULL) {
        r->conn_next->conn_prev = &r->conn_next;
    }
    c->requests = r;
    c->n_requests++;
    l->metrics.requests_in_flight++;
    metrics_request(&l->metrics, f->kind);
    if (f->payload != NULL && f->kind == FRAME_PUT) {
        r->payload_len = f->payload_len;
        r->payload = frame_take_payload(&c->reader, f);
        r->held = r->payload_len;
        c->bytes_open += r->held;
        lane_hold(l, r->held);
    }
    bool peers_only = f->kind >= FRAME_LINK;
    if (peers_only && !r->from_peer) {
        request_error(r, SLUICE_E_REFUSED, "requests of this kind are taken from nodes of the cluster only", 0, 0);
        return;
    }
    if (!l->serving && f->kind != FRAME_FORM && f->kind != FRAME_PING) {
        request_error(r, l->closing ? SLUICE_E_SHUTTING_DOWN : SLUICE_E_NOT_READY, l->closing ? NULL : "the node is starting", 0, 100);
        return;
    }
    switch (f->kind) {
    case FRAME_PUT: request_put(r, f); break;
    case FRAME_FETCH: request_fetch(r, f); break;
    case FRAME_POSITION: request_position(r, f); break;
    case FRAME_RESOLVE: request_resolve(r, f); break;
    case FRAME_PING: request_ping(r, f); break;
    case FRAME_SUBSCRIBE: request_subscribe(r, f); break;
    case FRAME_STREAM_CREATE:
    case FRAME_STREAM_UPDATE:
    case FRAME_STREAM_DELETE:
    case FRAME_STREAM_LIST:
    case FRAME_STREAM_DESCRIBE:
    case FRAME_CLUSTER_STATUS:
    case FRAME_NODE_CHANGE:
    case FRAME_TRANSFER:
    case FRAME_STREAM_RESHARD:
    case FRAME_CONSUMER_REGISTER:
    case FRAME_CONSUMER_REMOVE:
    case FRAME_CONSUMER_LIST:
    case FRAME_RESOURCE_CHANGE:
    case FRAME_RESOURCE_GET:
    case FRAME_ACCOUNT:
    case FRAME_FORWARD:
    case FRAME_REPORT:
    case FRAME_REPLICA:
    case FRAME_FORM: request_control(r, f); break;
    default: request_error(r, SLUICE_E_NOT_SUPPORTED, NULL, 0, 0); break;
    }
}

/* ---- to the shard's lane ---- */

static void run_here(struct request *r)
{
    struct shard *s = lane_shard(r->at, r->group);
    if (s == NULL) {
        request_error(r, SLUICE_E_NOT_LEADER, "the shard has left this node", 0, 0);
        return;
    }
    r->run(s, r);
}

static void arrived(struct env_msg *m)
{
    run_here(container_of(m, struct request, msg));
}

/* A node that has a replica, the preferred leader first, those that the controller takes for dead last. */
static uint32_t node_with_replica(const struct cluster_map *map, const struct map_shard *s)
{
    const struct map_node *preferred = cluster_map_node(map, s->preferred_leader);
    if (preferred != NULL && preferred->state != NODE_DEAD) {
        return preferred->id;
    }
    uint32_t any = 0;
    for (unsigned i = 0; i < s->n_replicas; i++) {
        const struct map_node *n = cluster_map_node(map, s->replicas[i].node);
        if (n != NULL && (any == 0 || n->state != NODE_DEAD)) {
            any = n->id;
        }
    }
    return any;
}

static void no_replica_here(struct request *r)
{
    struct lane *l = r->at;
    const struct map_stream *stream = l->map != NULL ? cluster_map_stream_by_id(l->map, r->stream_id) : NULL;
    if (l->map == NULL) {
        request_error(r, SLUICE_E_NOT_READY, "the node has no cluster map yet", 0, 100);
        return;
    }
    if (stream == NULL) {
        request_error(r, SLUICE_E_NOT_FOUND, NULL, 0, 0);
        return;
    }
    const struct map_shard *s = cluster_map_shard(stream, r->shard);
    if (s == NULL) { /* or this node's map is older than the client's: clients ask again before they believe it */
        request_error(r, SLUICE_E_NOT_FOUND, "the stream has no such shard", 0, 0);
        return;
    }
    const struct route *route = routes_group(&l->routes, s->group);
    if (route != NULL) {
        r->group = route->group;
        struct lane *to = l->node->lanes[route->lane];
        if (to == l) {
            run_here(r);
        } else {
            r->at = to;
            l->metrics.handed_over_total++;
            env_post(to->env, &r->msg, arrived);
        }
        return;
    }
    uint32_t self = l->node->identity.node_id;
    for (unsigned i = 0; i < s->n_replicas; i++) {
        if (s->replicas[i].node == self && !s->replicas[i].leaving) {
            request_error(r, SLUICE_E_NOT_READY, "the shard's replica is being opened", 0, 50);
            return;
        }
    }
    uint32_t node = node_with_replica(l->map, s);
    if (node == 0) {
        request_error(r, SLUICE_E_NOT_READY, NULL, 0, 200);
    } else {
        request_error(r, SLUICE_E_NOT_LEADER, NULL, node, 0);
    }
}

void request_to_shard(struct request *r, void (*run)(struct shard *s, struct request *r))
{
    struct lane *l = r->at;
    r->run = run;
    const struct route *route = routes_name(&l->routes, r->stream_id, r->shard);
    if (route == NULL) {
        no_replica_here(r);
        return;
    }
    r->group = route->group;
    struct lane *to = l->node->lanes[route->lane];
    if (to == l) {
        run_here(r);
        return;
    }
    r->at = to;
    l->metrics.handed_over_total++;
    env_post(to->env, &r->msg, arrived);
}

/* ---- out ---- */

static void came_home(struct env_msg *m)
{
    connection_send(container_of(m, struct request, msg));
}

static void go_home(struct request *r)
{
    if (r->at == r->home) {
        connection_send(r);
    } else {
        env_post(r->home->env, &r->msg, came_home);
    }
}

static void answer(struct request *r, uint8_t kind, const void *message)
{
    r->head = frame_encode(kind, r->correlation, message, (uint32_t)r->body_len, &r->head_len);
    go_home(r);
}

void request_answer(struct request *r, uint8_t kind, const void *message)
{
    answer(r, kind, message);
}

void request_answer_body(struct request *r, uint8_t kind, const void *message, const struct iovec *body, unsigned n_body, void (*release)(struct request *r))
{
    r->body = body;
    r->n_body = n_body;
    r->body_len = 0;
    for (unsigned i = 0; i < n_body; i++) {
        r->body_len += body[i].iov_len;
    }
    r->release = release;
    answer(r, kind, message);
}

void request_answer_frame(struct request *r, int code, void *frame, size_t len)
{
    r->code = code;
    r->head = frame;
    r->head_len = len;
    go_home(r);
}

void request_drop(struct request *r)
{
    r->silent = true;
    r->again = NULL;
    r->release = NULL;
    go_home(r);
}

static const char *hint_of(int code)
{
    switch (code) {
    case SLUICE_E_NOT_LEADER: return "send it to the leader";
    case SLUICE_E_THROTTLED: return "slow down, add shards, or lift the limits of the stream";
    case SLUICE_E_BUSY: return "send less at once";
    case SLUICE_E_NO_SPACE: return "free disk space on the node or lower the retention";
    case SLUICE_E_UNKNOWN_OUTCOME: return "send the same batch again with the same producer sequence";
    case SLUICE_E_EXPIRED: return "read from the trim horizon";
    case SLUICE_E_STALE: return "ask another replica";
    case SLUICE_E_PRODUCER_UNKNOWN: return "start a new epoch at sequence 0";
    default: return "";
    }
}

void request_error(struct request *r, int code, const char *why, uint32_t leader_node, uint32_t retry_after_ms)
{
    sluice_assert(code > 0);
    char address[96];
    lane_node_address(r->at, leader_node, address);
    Sluice__Error e = SLUICE__ERROR__INIT;
    e.code = (uint32_t)code;
    e.message = (char *)(uintptr_t)(why != NULL ? why : sluice_error_text(code));
    e.leader_node = leader_node;
    e.leader_address = address;
    e.retry_after_ms = retry_after_ms;
    e.hint = (char *)(uintptr_t)hint_of(code);
    r->code = code;
    r->body_len = 0;
    r->again = NULL;
    answer(r, FRAME_ERROR, &e);
}

static void free_memory(struct request *r)
{
    free(r->payload);
    free(r->message);
    free(r->head);
    free(r->iov);
    free(r);
}

static void released(struct env_msg *m)
{
    struct request *r = container_of(m, struct request, msg);
    r->release(r);
    free_memory(r);
}

static void returned(struct env_msg *m)
{
    struct request *r = container_of(m, struct request, msg);
    r->again(r);
}

void request_answered(struct request *r)
{
    if (r->again == NULL) {
        request_free(r);
        return;
    }
    free(r->head);
    free(r->iov);
    r->head = NULL;
    r->iov = NULL;
    r->body = NULL;
    r->n_body = 0;
    r->body_len = 0;
    if (r->at == r->home) {
        r->again(r);
    } else {
        env_post(r->at->env, &r->msg, returned);
    }
}

void request_free(struct request *r)
{
    if (r->kind == FRAME_SUBSCRIBE) {
        request_subscribe_ended(r);
    }
    *r->conn_prev = r->conn_next;
    if (r->conn_next != NULL) {
        r->conn_next->conn_prev = r->conn_prev;
    }
    struct connection *c = r->conn;
    struct lane *at = r->at;
    uint64_t held = r->held;
    bool subscribed = r->subscribed;
    r->conn = NULL;
    if (r->release != NULL && at != r->home) {
        env_post(at->env, &r->msg, released);
    } else {
        if (r->release != NULL) {
            r->release(r);
        }
        free_memory(r);
    }
    connection_request_done(c, held, subscribed);
}
