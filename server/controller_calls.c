/* Control requests on their way: answered here, or by the controller's leader.
 *
 * The normal course of a write on another node: NEW -> (normalized: request id, account) -> FORWARDED -> the leader: NEW -> PROPOSED -> WAIT_ACTIVE -> answer in
 * FORWARD_REPLY -> answer. Retries: no leader known, connection lost, leader not heard any more (links.h), leadership lost, outcome unknown: every write carries a
 * request id, so asking again is safe, until the deadline. The leader itself never retries what was forwarded: it answers at once why not, and the node that has the client tries again. */
#include "server/controller_impl.h"

#include <stdlib.h>
#include <string.h>

static void call_free_if_over(struct call *call)
{
    if (!call->answered || call->pending > 0) {
        return;
    }
    *call->prev = call->next;
    if (call->next != NULL) {
        call->next->prev = call->prev;
    }
    call->c->n_calls--;
    free(call->message);
    free(call);
}

/* message: an encoded protobuf message. */
static void answer_bytes(struct call *call, uint8_t kind, const void *message, size_t len)
{
    if (call->answered) {
        return;
    }
    call->answered = true;
    uint8_t *frame;
    size_t frame_len;
    if (call->was_forwarded) {
        Sluice__ForwardReply reply = SLUICE__FORWARD_REPLY__INIT;
        reply.kind = kind;
        reply.message = (ProtobufCBinaryData){.len = len, .data = (uint8_t *)message};
        frame = frame_encode(FRAME_FORWARD_REPLY, call->correlation, &reply, 0, &frame_len);
        sluice_assert(frame != NULL);
    } else {
        frame_len = FRAME_HEADER_SIZE + len;
        frame = xmalloc(frame_len);
        if (len > 0) {
            memcpy(frame + FRAME_HEADER_SIZE, message, len);
        }
        frame_header_encode(frame, kind, call->correlation, frame + FRAME_HEADER_SIZE, (uint32_t)len, 0);
    }
    call->reply(call->arg, frame, frame_len);
    call_free_if_over(call);
}

void call_answer(struct call *call, uint8_t kind, const void *protobuf_message)
{
    size_t n = protobuf_c_message_get_packed_size(protobuf_message);
    if (n > FRAME_MESSAGE_MAX - 64) {
        call_error(call, SLUICE_E_TOO_LARGE, "the answer does not fit into a frame");
        return;
    }
    uint8_t *bytes = xmalloc(n + 1);
    protobuf_c_message_pack(protobuf_message, bytes);
    answer_bytes(call, kind, bytes, n);
    free(bytes);
}

void call_error(struct call *call, int code, const char *why)
{
    Sluice__Error e = SLUICE__ERROR__INIT;
    e.code = (uint32_t)code;
    e.message = (char *)(why != NULL ? why : sluice_error_text(code));
    uint32_t leader = controller_leader_node(call->c);
    char address[80] = "";
    if ((code == SLUICE_E_NOT_LEADER || code == SLUICE_E_NO_CONTROLLER) && leader != 0 && call->c->map != NULL) {
        const struct map_node *n = cluster_map_node(call->c->map, leader);
        if (n != NULL) {
            controller_address(n, address);
        }
        e.leader_node = leader;
        e.leader_address = address;
    }
    if (sluice_error_retry(code) == SLUICE_RETRY_SAME) {
        e.retry_after_ms = code == SLUICE_E_NOT_READY ? 20 : 200; /* a node that starts is soon ready */
    }
    size_t n = sluice__error__get_packed_size(&e);
    uint8_t *bytes = xmalloc(n + 1);
    sluice__error__pack(&e, bytes);
    answer_bytes(call, FRAME_ERROR, bytes, n);
    free(bytes);
}

void call_retry(struct call *call, int code)
{
    if (call->answered) {
        call_free_if_over(call);
        return;
    }
    uint64_t now = controller_now(call->c);
    call->last_code = code;
    if (call->was_forwarded || now + CALL_RETRY_MS >= call->deadline_ms) {
        call_error(call, code, NULL);
        return;
    }
    call->state = CALL_RETRY;
    call->retry_ms = now + CALL_RETRY_MS;
}

/* This node's map has the stream (or consumer) that a read asks about. */
static bool read_known(const struct call *call)
{
    const struct cluster_map *map = call->c->map;
    if (call->kind == FRAME_STREAM_LIST) {
        return true;
    }
    if (call->kind != FRAME_STREAM_DESCRIBE) {
        return meta_known(call);
    }
    Sluice__StreamDescribe *m = sluice__stream_describe__unpack(NULL, call->len, call->message);
    bool known = map != NULL && (m->stream_id.len == 16 ? cluster_map_stream_by_id(map, m->stream_id.data) : cluster_map_stream(map, m->account, m->name)) != NULL;
    sluice__stream_describe__free_unpacked(m, NULL);
    return known;
}

static void answer_read(struct call *call);

static void leader_confirmed(struct group_fresh *f, int status)
{
    struct call *call = container_of(f, struct call, fresh);
    call->pending--;
    call->confirmed = status == 0;
    if (call->answered || call->c->closing) {
        call_free_if_over(call);
    } else if (status == 0) {
        answer_read(call);
    } else {
        call_error(call, call->was_forwarded ? SLUICE_E_NOT_LEADER : SLUICE_E_NO_CONTROLLER, NULL);
    }
}

/* "Not found" is said only by a leader that a quorum has just confirmed: what this node has not heard of may have been made a moment ago elsewhere. */
static void answer_read(struct call *call)
{
    struct controller *c = call->c;
    if (call->kind == FRAME_CLUSTER_STATUS) {
        call_status(call);
    } else if (call->confirmed || read_known(call)) {
        call_read(call);
    } else if (controller_ready(c)) {
        call->pending++;
        group_fresh_read(c->group, &call->fresh, leader_confirmed);
    } else {
        call_error(call, call->was_forwarded ? SLUICE_E_NOT_LEADER : SLUICE_E_NO_CONTROLLER, NULL);
    }
}

static void on_forward(void *arg, int code, uint8_t kind, const void *message, size_t len)
{
    struct call *call = arg;
    struct controller *c = call->c;
    call->pending--;
    if (call->answered || c->closing) {
        call_free_if_over(call);
        return;
    }
    Sluice__ForwardReply *reply = NULL;
    if (code == SLUICE_E_OK && kind == FRAME_FORWARD_REPLY) {
        reply = sluice__forward_reply__unpack(NULL, len, message);
    }
    if (code == SLUICE_E_OK && reply == NULL) {
        code = SLUICE_E_PROTOCOL;
    }
    if (reply != NULL && reply->kind == FRAME_ERROR) {
        Sluice__Error *e = sluice__error__unpack(NULL, reply->message.len, reply->message.data);
        code = e != NULL && e->code != 0 ? (int)e->code : SLUICE_E_INTERNAL;
        sluice__error__free_unpacked(e, NULL);
    }
    bool again = code == SLUICE_E_NOT_LEADER || code == SLUICE_E_NO_CONNECTION || code == SLUICE_E_TIMEOUT || code == SLUICE_E_UNKNOWN_OUTCOME
                 || code == SLUICE_E_NOT_READY || code == SLUICE_E_BUSY || code == SLUICE_E_SHUTTING_DOWN || code == SLUICE_E_NO_CONTROLLER;
    if (call->read && (again || code == SLUICE_E_PROTOCOL)) {
        answer_read(call);
    } else if (again) {
        call_retry(call, code);
    } else if (reply != NULL) {
        answer_bytes(call, (uint8_t)reply->kind, reply->message.data, reply->message.len);
    } else {
        call_error(call, code, NULL);
    }
    sluice__forward_reply__free_unpacked(reply, NULL);
}

/* False: there is no leader to ask, or it cannot be asked now. */
static bool forward(struct call *call, uint64_t timeout_ms)
{
    struct controller *c = call->c;
    uint32_t leader = controller_leader_node(c);
    if (leader == 0 || leader == c->self || !links_peer_up(groups_links(c->o.groups), leader)) { /* a connection to one that is down would only tell when its time is over */
        return false;
    }
    Sluice__Forward m = SLUICE__FORWARD__INIT;
    m.kind = call->kind;
    m.message = (ProtobufCBinaryData){.len = call->len, .data = call->message};
    if (peer_client_request(c->peers, leader, FRAME_FORWARD, &m, timeout_ms, on_forward, call) != 0) {
        return false;
    }
    call->pending++;
    call->sent_on = true;
    call->state = CALL_FORWARDED;
    return true;
}

static void call_step(struct call *call)
{
    struct controller *c = call->c;
    if (call->read) {
        bool ask = !call->was_forwarded && !call->asked_leader && !controller_ready(c) && (call->kind == FRAME_CLUSTER_STATUS || !read_known(call));
        call->asked_leader = call->asked_leader || ask;
        if (!ask || !forward(call, 1000)) {
            answer_read(call);
        }
        return;
    }
    if (controller_ready(c) && controller_machine_initialized(c->machine)) {
        call_lead(call);
    } else if (call->was_forwarded) {
        call_error(call, SLUICE_E_NOT_LEADER, NULL);
    } else if (call->level > controller_machine_level(c->machine) && controller_leader_node(c) != 0) {
        /* The leader may run an older program that passes over what it does not know. */
        if (controller_now(c) - call->began_ms >= CALL_LEADERLESS_MS) {
            call_error(call, SLUICE_E_NOT_SUPPORTED, "a node of the cluster runs a version that does not know this, or has not told its version yet: all nodes must be upgraded first");
        } else {
            call_retry(call, SLUICE_E_NOT_READY);
        }
    } else {
        uint64_t now = controller_now(c);
        uint64_t left = call->deadline_ms > now ? call->deadline_ms - now : 1;
        if (forward(call, left)) {
            return;
        }
        if (!call->sent_on && now - call->began_ms >= CALL_LEADERLESS_MS) {
            call_error(call, SLUICE_E_NO_CONTROLLER, NULL);
        } else {
            call_retry(call, SLUICE_E_NO_CONTROLLER);
        }
    }
}

static void start(struct controller *c, uint8_t kind, uint64_t correlation, const void *message, size_t len, bool from_peer, bool forwarded, control_reply reply, void *arg)
{
    struct call *call = xcalloc(1, sizeof *call);
    call->c = c;
    call->kind = kind;
    call->correlation = correlation;
    call->from_peer = from_peer;
    call->was_forwarded = forwarded;
    /* Who forwards waits a little longer than the leader does, so that the leader's "still creating" comes through. */
    call->began_ms = controller_now(c);
    call->deadline_ms = call->began_ms + CALL_TIMEOUT_MS + (forwarded || controller_ready(c) ? 0 : CALL_FORWARD_MORE_MS);
    call->reply = reply;
    call->arg = arg;
    call->next = c->calls;
    call->prev = &c->calls;
    if (c->calls != NULL) {
        c->calls->prev = &call->next;
    }
    c->calls = call;
    c->n_calls++;
    const char *why = NULL;
    int code = c->n_calls > CALLS_MAX ? SLUICE_E_BUSY : c->closing ? SLUICE_E_SHUTTING_DOWN : call_normalize(call, message, len, &why);
    if (code != SLUICE_E_OK) {
        call_error(call, code, why);
        return;
    }
    call_step(call);
}

static void answer_simple(uint8_t kind, uint64_t correlation, const void *protobuf_message, control_reply reply, void *arg)
{
    size_t n;
    void *frame = frame_encode(kind, correlation, protobuf_message, 0, &n);
    sluice_assert(frame != NULL);
    reply(arg, frame, n);
}

static void answer_error(uint64_t correlation, int code, control_reply reply, void *arg)
{
    Sluice__Error e = SLUICE__ERROR__INIT;
    e.code = (uint32_t)code;
    e.message = (char *)sluice_error_text(code);
    answer_simple(FRAME_ERROR, correlation, &e, reply, arg);
}

static void take_report(struct controller *c, uint64_t correlation, const void *message, size_t len, control_reply reply, void *arg)
{
    Sluice__Report *m = sluice__report__unpack(NULL, len, message);
    bool want_complete = false;
    int code = m == NULL ? SLUICE_E_PROTOCOL : reports_take(c, m, &want_complete);
    if (m != NULL) {
        sluice__report__free_unpacked(m, NULL);
    }
    if (code != SLUICE_E_OK) {
        answer_error(correlation, code, reply, arg);
        return;
    }
    Sluice__ReportReply r = SLUICE__REPORT_REPLY__INIT;
    r.map_version = c->map != NULL ? c->map->version : 0;
    r.want_complete = want_complete;
    answer_simple(FRAME_REPORT_REPLY, correlation, &r, reply, arg);
}

/* An order of the controller's leader for a group that this node leads. */
struct order { uint64_t correlation; control_reply reply; void *arg; };

static void order_done(void *arg, int code)
{
    struct order *o = arg;
    if (code == SLUICE_E_OK) {
        Sluice__Empty m = SLUICE__EMPTY__INIT;
        answer_simple(FRAME_REPLICA_REPLY, o->correlation, &m, o->reply, o->arg);
    } else {
        answer_error(o->correlation, code, o->reply, o->arg);
    }
    free(o);
}

static void take_order(struct controller *c, uint64_t correlation, const void *message, size_t len, control_reply reply, void *arg)
{
    Sluice__ReplicaOrder *m = sluice__replica_order__unpack(NULL, len, message);
    if (m == NULL) {
        answer_error(correlation, SLUICE_E_PROTOCOL, reply, arg);
        return;
    }
    struct order *o = xmalloc(sizeof *o);
    *o = (struct order){.correlation = correlation, .reply = reply, .arg = arg};
    c->o.order(c->o.arg, m->group, (int)m->kind, m->raft_id, order_done, o);
    sluice__replica_order__free_unpacked(m, NULL);
}

/* Asking whether there is a cluster, from a node without one. A wish to join (it names the cluster and itself) goes to the leader as a write. */
static void take_form(struct controller *c, uint64_t correlation, const void *message, size_t len, control_reply reply, void *arg)
{
    Sluice__Form *m = sluice__form__unpack(NULL, len, message);
    if (m == NULL) {
        answer_error(correlation, SLUICE_E_PROTOCOL, reply, arg);
        return;
    }
    bool join = m->cluster_id.len == 16;
    sluice__form__free_unpacked(m, NULL);
    if (join) {
        start(c, FRAME_FORM, correlation, message, len, true, false, reply, arg);
        return;
    }
    Sluice__FormReply r = SLUICE__FORM_REPLY__INIT;
    r.formed = true;
    r.cluster_id = (ProtobufCBinaryData){.len = 16, .data = (uint8_t *)node_identity(c->o.node)->cluster_id};
    answer_simple(FRAME_FORM_REPLY, correlation, &r, reply, arg);
}

void controller_request(struct controller *c, uint8_t kind, uint64_t correlation, const void *message, size_t len, bool from_peer, control_reply reply, void *arg)
{
    bool peers_only = kind == FRAME_FORWARD || kind == FRAME_REPORT || kind == FRAME_REPLICA || kind == FRAME_FORM;
    if (peers_only && !from_peer) {
        answer_error(correlation, SLUICE_E_NOT_SUPPORTED, reply, arg);
        return;
    }
    switch (kind) {
    case FRAME_REPORT:
        take_report(c, correlation, message, len, reply, arg);
        break;
    case FRAME_REPLICA:
        take_order(c, correlation, message, len, reply, arg);
        break;
    case FRAME_FORM:
        take_form(c, correlation, message, len, reply, arg);
        break;
    case FRAME_FORWARD: {
        Sluice__Forward *m = sluice__forward__unpack(NULL, len, message);
        if (m == NULL || m->kind > UINT8_MAX) {
            answer_error(correlation, SLUICE_E_PROTOCOL, reply, arg);
        } else {
            start(c, (uint8_t)m->kind, correlation, m->message.data, m->message.len, true, true, reply, arg);
        }
        if (m != NULL) {
            sluice__forward__free_unpacked(m, NULL);
        }
        break;
    }
    default:
        start(c, kind, correlation, message, len, from_peer, false, reply, arg);
    }
}

/* Steps every call whose time has come. A step may end any call, so the walk begins anew after each. */
static void step_waiting(struct controller *c)
{
    uint64_t now = controller_now(c);
    struct call *call = c->calls;
    while (call != NULL) {
        bool again = false;
        if (!call->answered) {
            if (call->state == CALL_RETRY && now >= call->retry_ms) {
                call->state = CALL_NEW;
                call_step(call);
                again = true;
            } else if (call->state == CALL_WAIT_ACTIVE || call->state == CALL_WAIT_GONE) {
                const struct map_stream *s = c->map != NULL ? cluster_map_stream_by_id(c->map, call->stream_id) : NULL;
                bool over = now >= call->deadline_ms;
                if (call->state == CALL_WAIT_ACTIVE && (s == NULL || s->status != STREAM_CREATING || over)) {
                    call_describe(call, s, FRAME_STREAM_CREATE_REPLY);
                    again = true;
                } else if (call->state == CALL_WAIT_GONE && (s == NULL || over)) {
                    call_describe(call, s, FRAME_STREAM_DELETE_REPLY);
                    again = true;
                }
            }
        }
        call = again ? c->calls : call->next;
    }
}

void calls_tick(struct controller *c) { step_waiting(c); }
void calls_map_changed(struct controller *c) { step_waiting(c); }

void calls_close(struct controller *c)
{
    struct call *call = c->calls;
    while (call != NULL) {
        if (call->answered) {
            call = call->next;
        } else {
            call_error(call, SLUICE_E_SHUTTING_DOWN, NULL);
            call = c->calls;
        }
    }
}
