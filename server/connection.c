/* connection.c: one accepted connection (see connection.h).
 *
 * Normal course: accept -> read -> frames out of the reader, one after another, while nothing holds it up -> requests -> their answers written in any order.
 * connection_progress() is the one place that decides whether frames are taken and whether the socket is read; everything that may change the answer calls it.
 * Ways to end: the peer closed; a frame that is malformed, or not allowed now (an ERROR frame first, where the framing is intact); idle for too long. The connection's memory
 * stays until its last request came home. */
#include "server/connection.h"

#include <stdlib.h>
#include <string.h>

#include "proto/base.h"
#include "server/node_impl.h"
#include "server/shard.h"
#include "sluice.pb-c.h"

/* ---- out ---- */

struct out_frame { struct env_write write; struct iovec iov; struct connection *conn; bool then_close; };

static void out_written(struct env_write *w)
{
    struct out_frame *o = container_of(w, struct out_frame, write);
    struct connection *c = o->conn;
    bool then_close = o->then_close;
    free(o->iov.iov_base);
    free(o);
    c->messages_out--;
    if (then_close) {
        connection_close(c);
    }
    connection_maybe_free(c);
}

void connection_send_frame(struct connection *c, void *frame, size_t len, bool then_close)
{
    struct out_frame *o = frame != NULL ? calloc(1, sizeof *o) : NULL;
    if (o == NULL || c->state == CONNECTION_CLOSING) {
        free(frame);
        free(o);
        if (then_close) {
            connection_close(c);
        }
        return;
    }
    o->conn = c;
    o->then_close = then_close;
    o->iov = (struct iovec){ .iov_base = frame, .iov_len = len };
    o->write.iov = &o->iov;
    o->write.n_iov = 1;
    c->messages_out++;
    c->lane->metrics.bytes_sent_total += len;
    c->bytes_out += len;
    env_conn_write(&c->conn, &o->write, out_written);
}

void connection_refuse(struct connection *c, int code, uint64_t correlation, const char *why)
{
    struct lane *l = c->lane;
    if (c->state == CONNECTION_CLOSING || c->close_when_sent) {
        return;
    }
    c->close_when_sent = true;
    l->metrics.connections_refused_total++;
    if (log_limit_ok(&l->limit_protocol, env_now_ms(l->env), 10, 10000)) {
        char peer[96];
        env_conn_peer(&c->conn, peer, sizeof peer);
        log_warn(&l->log, "connection refused", "peer=%s code=%s reason=\"%s\"", peer, sluice_error_name(code), why != NULL ? why : sluice_error_text(code));
    }
    Sluice__Error e = SLUICE__ERROR__INIT;
    e.code = (uint32_t)code;
    e.message = (char *)(uintptr_t)(why != NULL ? why : sluice_error_text(code));
    size_t n = 0;
    void *frame = frame_encode(FRAME_ERROR, correlation, &e, 0, &n);
    connection_send_frame(c, frame, n, true);
}

/* The first answer of a subscription was written: from now on it is no unanswered request. */
static void subscribed(struct connection *c, struct request *r)
{
    r->subscribed = true;
    c->n_subscriptions++;
    c->n_requests--;
    c->lane->metrics.requests_in_flight--;
}

static void answer_written(struct env_write *w)
{
    struct request *r = container_of(w, struct request, write);
    struct connection *c = r->conn;
    if (c->state == CONNECTION_CLOSING) {
        request_free(r);
        return;
    }
    bool first = r->again != NULL && !r->subscribed;
    if (first) {
        subscribed(c, r);
    }
    if (first) {
        request_subscribed(r);
    }
    request_answered(r);
    if (first) {
        connection_progress(c);
    }
}

void connection_send(struct request *r)
{
    struct connection *c = r->conn;
    struct lane *l = c->lane;
    if (r->silent) {
        request_free(r);
        return;
    }
    if (!r->subscribed) {
        metrics_answer(&l->metrics, r->code);
    }
    unsigned n = 1 + (r->body_len > 0 ? r->n_body : 0);
    if (c->state == CONNECTION_CLOSING || r->head == NULL) {
        bool broken = c->state != CONNECTION_CLOSING; /* no memory for the answer: the client must not wait for ever */
        request_free(r);
        if (broken) {
            connection_close(c);
        }
        return;
    }
    r->iov = malloc(n * sizeof *r->iov);
    if (r->iov == NULL) {
        request_free(r);
        connection_close(c);
        return;
    }
    r->iov[0] = (struct iovec){ .iov_base = r->head, .iov_len = r->head_len };
    if (n > 1) {
        memcpy(&r->iov[1], r->body, r->n_body * sizeof *r->iov);
    }
    r->write.iov = r->iov;
    r->write.n_iov = n;
    l->metrics.bytes_sent_total += r->head_len + r->body_len;
    c->bytes_out += r->head_len + r->body_len;
    env_conn_write(&c->conn, &r->write, answer_written);
}

void connection_request_done(struct connection *c, uint64_t held, bool subscribed)
{
    struct lane *l = c->lane;
    if (subscribed) {
        sluice_assert(c->n_subscriptions > 0);
        c->n_subscriptions--;
    } else {
        sluice_assert(c->n_requests > 0);
        c->n_requests--;
        l->metrics.requests_in_flight--;
    }
    c->bytes_open -= held;
    lane_release(l, held);
    if (c->state == CONNECTION_CLOSING) {
        connection_maybe_free(c);
    } else {
        connection_progress(c);
    }
}

/* ---- payloads under way ---- */

/* Lets those go on that waited for room. They have nothing to be looked at, so this does not lead back here. */
static void wake_parked(struct lane *l)
{
    for (struct connection *c = l->connections, *next; c != NULL && l->n_parked > 0 && !l->closing; c = next) {
        next = c->next;
        if (c->parked) {
            connection_progress(c);
        }
    }
}

static void set_parked(struct connection *c, bool parked)
{
    if (c->parked != parked) {
        c->parked = parked;
        if (parked) {
            c->lane->n_parked++;
        } else {
            c->lane->n_parked--;
        }
    }
}

static void receive_done(struct connection *c)
{
    set_parked(c, false);
    if (c->receiving > 0) {
        c->lane->bytes_receiving -= c->receiving;
        c->receiving = 0;
        wake_parked(c->lane);
    }
}

/* Asked when all bytes were looked at: a payload that the reader holds then is not whole. It takes memory before it is a request, and a peer that never sends
 * the rest must not make us hold more than the bound. One is always let in. */
static bool may_receive(struct connection *c)
{
    struct lane *l = c->lane;
    uint64_t len = c->reader.header.payload_len;
    if (c->receiving > 0 || c->state != CONNECTION_CLIENT || c->reader.payload == NULL || len < CONNECTION_RECEIVE_SMALL) {
        return true;
    }
    bool room = l->bytes_receiving == 0 || l->bytes_receiving + len <= l->bytes_max;
    set_parked(c, !room);
    if (room) {
        c->receiving = len;
        c->receiving_from_ms = env_now_ms(l->env);
        l->bytes_receiving += len;
    }
    return room;
}

static bool receives_too_slowly(struct connection *c, uint64_t now)
{
    if (c->receiving == 0 || !c->reading) {
        c->receiving_from_ms = now; /* it is we who do not read */
        return false;
    }
    uint64_t limit = c->lane->n_parked > 0 ? CONNECTION_RECEIVE_CROWDED_MS + c->receiving / CONNECTION_RECEIVE_CROWDED_BYTES_PER_MS
                                           : CONNECTION_RECEIVE_MS + c->receiving / CONNECTION_RECEIVE_BYTES_PER_MS;
    return now - c->receiving_from_ms > limit;
}

/* ---- answers that are not taken ---- */

static bool takes_nothing(struct connection *c, uint64_t now)
{
    uint64_t unsent = env_conn_unsent(&c->conn);
    uint64_t left = c->bytes_out - unsent;
    if (unsent == 0 || left - c->stall_bytes >= CONNECTION_STALL_BYTES || c->stall_from_ms == 0) {
        c->stall_bytes = left;
        c->stall_from_ms = now;
        return false;
    }
    if (now >= c->lane->crowded_until_ms || now - c->stall_from_ms < CONNECTION_STALL_MS) {
        return false;
    }
    c->lane->metrics.connections_stalled_total++;
    if (log_limit_ok(&c->lane->limit_protocol, now, 10, 10000)) {
        char peer[96];
        env_conn_peer(&c->conn, peer, sizeof peer);
        log_warn(&c->lane->log, "connection closed", "peer=%s reason=\"it does not take its answers and memory for them is short\" unsent=%llu", peer, (unsigned long long)unsent);
    }
    return true;
}

/* What it wanted to read and nobody will take is not read. */
static void forget_here(struct lane *l, void *arg)
{
    uint64_t *id = arg;
    shard_batches_forget(l, *id);
    free(id);
}

static void forget_reads(struct connection *c)
{
    if (!c->lane->serving) {
        return; /* before it serves no fetch was taken, and other lanes may not have begun; after it all of them end */
    }
    request_subscriptions_forget(c);
    if (c->n_requests == 0) {
        return;
    }
    for (unsigned i = 0; i < c->lane->node->n_lanes; i++) {
        uint64_t *id = xmalloc(sizeof *id);
        *id = c->id;
        lane_run(c->lane->node->lanes[i], forget_here, id);
    }
}

/* ---- life ---- */

void connection_maybe_free(struct connection *c)
{
    if (!c->closed || c->n_requests > 0 || c->n_subscriptions > 0 || c->messages_out > 0 || c->in_frames) {
        return;
    }
    struct lane *l = c->lane;
    *c->prev = c->next;
    if (c->next != NULL) {
        c->next->prev = c->prev;
    }
    l->n_connections--;
    frame_reader_deinit(&c->reader);
    id_table_deinit(&c->subscriptions);
    free(c);
    if (l->closing) {
        lane_close_step(l);
    }
}

void connection_close(struct connection *c)
{
    if (c->state == CONNECTION_CLOSING) {
        return;
    }
    struct lane *l = c->lane;
    if (c->state == CONNECTION_CLIENT) {
        l->metrics.connections--;
        forget_reads(c);
    } else if (c->state == CONNECTION_PEER_LINK || c->state == CONNECTION_PEER_CONTROL) {
        l->metrics.peer_connections--;
    }
    c->state = CONNECTION_CLOSING;
    receive_done(c);
    connection_link_ended(c);
    env_conn_close(&c->conn);
}

static void on_closed(struct env_conn *conn)
{
    struct connection *c = conn->user;
    c->closed = true;
    connection_maybe_free(c);
}

/* ---- in ---- */

static bool may_take(const struct connection *c)
{
    const struct lane *l = c->lane;
    switch (c->state) {
    case CONNECTION_HELLO:
    case CONNECTION_PEER_LINK: return !c->close_when_sent; /* links have windows of their own */
    case CONNECTION_CHECKING:
    case CONNECTION_CLOSING: return false;
    case CONNECTION_PEER_CONTROL:
    case CONNECTION_CLIENT: break;
    }
    return !c->close_when_sent && !l->reads_paused && c->n_requests < l->node->settings.requests_max && c->bytes_open < CONNECTION_REQUEST_BYTES_MAX &&
           env_conn_unsent(&c->conn) < CONNECTION_UNSENT_MAX;
}

struct link_frame { struct env_msg msg; struct lane *to; struct links_origin from; void *payload; size_t len; };

static void link_arrived(struct env_msg *m)
{
    struct link_frame *lf = container_of(m, struct link_frame, msg);
    struct lane *l = lf->to;
    if (l->groups == NULL || l->closing) {
        free(lf->payload);
    } else if (links_receive(groups_links(l->groups), &lf->from, lf->payload, lf->len) != 0 && log_limit_ok(&l->limit_protocol, env_now_ms(l->env), 10, 10000)) {
        log_warn(&l->log, "malformed link frame", "from=%u", lf->from.node);
    }
    free(lf);
}

static void take_link(struct connection *c, struct frame *f)
{
    struct lane *to = c->lane->node->lanes[c->to_lane];
    size_t len = f->payload_len;
    struct links_origin from = {.node = c->peer_node, .lane = c->peer_lane, .incarnation = c->peer_incarnation, .position = f->correlation};
    void *payload = frame_take_payload(&c->reader, f);
    if (payload == NULL) {
        connection_refuse(c, SLUICE_E_PROTOCOL, f->correlation, "a link frame without payload");
        return;
    }
    if (to == c->lane) {
        if (to->groups == NULL || to->closing) {
            free(payload);
        } else if (links_receive(groups_links(to->groups), &from, payload, len) != 0) {
            connection_refuse(c, SLUICE_E_PROTOCOL, f->correlation, "malformed link records");
        }
        return;
    }
    struct link_frame *lf = xcalloc(1, sizeof *lf);
    *lf = (struct link_frame){ .to = to, .from = from, .payload = payload, .len = len };
    env_post(to->env, &lf->msg, link_arrived);
}

static void take_frame(struct connection *c, struct frame *f)
{
    if (c->state == CONNECTION_HELLO) {
        if (f->kind != FRAME_HELLO) {
            connection_refuse(c, SLUICE_E_PROTOCOL, f->correlation, "the first frame must be HELLO");
            return;
        }
        connection_hello(c, f);
        return;
    }
    if (f->kind == FRAME_HELLO) {
        connection_refuse(c, SLUICE_E_PROTOCOL, f->correlation, "a second HELLO");
        return;
    }
    if (c->state == CONNECTION_PEER_LINK) {
        if (f->kind != FRAME_LINK) {
            connection_refuse(c, SLUICE_E_PROTOCOL, f->correlation, "a link carries nothing but link frames");
            return;
        }
        c->last_ms = env_now_ms(c->lane->env);
        take_link(c, f);
        return;
    }
    if (c->state == CONNECTION_PEER_CONTROL && !c->formed && f->kind != FRAME_FORM && f->kind != FRAME_PING) {
        connection_refuse(c, SLUICE_E_WRONG_CLUSTER, f->correlation, "a node that is in no cluster may only ask for one");
        return;
    }
    request_dispatch(c, f);
}

void connection_progress(struct connection *c)
{
    if (c->in_frames || c->state == CONNECTION_CLOSING) {
        return;
    }
    c->in_frames = true;
    while (!c->drained && may_take(c)) {
        struct frame f;
        int rc = frame_reader_next(&c->reader, &f);
        if (rc == 0) {
            c->drained = true;
        } else if (rc < 0) {
            /* Nothing after it can be understood, and nothing in its header believed: the ERROR answers no request (a correlation id damaged on the way could name
             * another one, which may well be done). */
            connection_refuse(c, -rc, 0, NULL);
        } else {
            receive_done(c);
            take_frame(c, &f);
        }
    }
    c->in_frames = false;
    if (c->state == CONNECTION_CLOSING) {
        connection_maybe_free(c);
        return;
    }
    bool read = c->drained && may_take(c) && may_receive(c);
    if (read != c->reading) {
        c->reading = read;
        env_conn_read(&c->conn, read);
    }
}

static size_t on_buffer(struct env_conn *conn, void **base)
{
    struct connection *c = conn->user;
    return frame_reader_buffer(&c->reader, base);
}

static void on_read(struct env_conn *conn, void *data, ssize_t n)
{
    (void)data;
    struct connection *c = conn->user;
    struct lane *l = c->lane;
    if (n <= 0) {
        connection_close(c);
        return;
    }
    /* A HELLO that trickles in is not waited for longer than one that does not come. On a link bytes alone prove nothing: behind a length that was damaged
     * on the way, liveness records would feed a frame that never ends. */
    if (c->state != CONNECTION_HELLO && c->state != CONNECTION_PEER_LINK) {
        c->last_ms = env_now_ms(l->env);
    }
    l->metrics.bytes_received_total += (uint64_t)n;
    frame_reader_fed(&c->reader, (size_t)n);
    c->drained = false;
    connection_progress(c);
}

static void on_drained(struct env_conn *conn)
{
    connection_progress(conn->user);
}

static const struct env_conn_ops connection_ops = { .buffer = on_buffer, .read = on_read, .drained = on_drained, .closed = on_closed };

void connection_accept(struct lane *l)
{
    struct connection *c = xcalloc(1, sizeof *c);
    c->lane = l;
    c->id = ++l->connections_made * LANES_MAX + l->number;
    c->conn.ops = &connection_ops;
    c->conn.user = c;
    if (env_accept(&l->listener, &c->conn) != 0) {
        free(c);
        return;
    }
    frame_reader_init(&c->reader, CONNECTION_HELLO_MESSAGE_MAX, 0);
    c->state = CONNECTION_HELLO;
    c->drained = true;
    c->last_ms = env_now_ms(l->env);
    c->next = l->connections;
    c->prev = &l->connections;
    if (c->next != NULL) {
        c->next->prev = &c->next;
    }
    l->connections = c;
    l->n_connections++;
    l->metrics.connections_total++;
    if (l->n_connections > l->n_accept_max || l->closing) {
        connection_refuse(c, l->closing ? SLUICE_E_SHUTTING_DOWN : SLUICE_E_BUSY, 0, l->closing ? NULL : "too many connections");
        return;
    }
    connection_progress(c);
}

void connections_tick(struct lane *l)
{
    uint64_t now = env_now_ms(l->env);
    for (struct connection *c = l->connections, *next; c != NULL; c = next) {
        next = c->next;
        uint64_t idle = now - c->last_ms;
        bool over = false;
        switch (c->state) {
        case CONNECTION_HELLO:
        case CONNECTION_CHECKING: over = idle > CONNECTION_HELLO_MS; break;
        case CONNECTION_CLIENT:
            over = receives_too_slowly(c, now) || takes_nothing(c, now) || (idle > CONNECTION_IDLE_MS && (c->n_requests + c->n_subscriptions == 0 || env_conn_unsent(&c->conn) > 0));
            break;
        case CONNECTION_PEER_CONTROL: over = idle > CONNECTION_IDLE_MS; break;
        case CONNECTION_PEER_LINK: over = idle > CONNECTION_PEER_IDLE_MS; break;
        case CONNECTION_CLOSING: break;
        }
        if (over || (c->close_when_sent && idle > CONNECTION_HELLO_MS)) {
            connection_close(c);
        }
    }
}

void connections_resume(struct lane *l)
{
    for (struct connection *c = l->connections, *next; c != NULL; c = next) {
        next = c->next;
        connection_progress(c);
    }
}

void connections_close_all(struct lane *l)
{
    for (struct connection *c = l->connections, *next; c != NULL; c = next) {
        next = c->next;
        connection_close(c);
    }
}
