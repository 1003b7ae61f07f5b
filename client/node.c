/* A node and the connection to it.
 *
 * The normal course: the first request opens a connection and waits; connected; hello; the hello's answer lets the waiting
 * requests go; answers find their request by the correlation id; an idle connection stays.
 *
 * How it fails: a connection that breaks fails everything on it (what was written: outcome unknown), and the node rests for a
 * backoff with full jitter, in which it counts as not usable so that callers turn to others. A node that has said nothing for
 * `silence_ms` although something was asked is treated the same: a paused or cut off node does not reset its connections. Long
 * polls say nothing by design, so pings are sent beside them. */
#include <stdio.h>
#include <stdlib.h>

#include "client/client_impl.h"

enum { SEEK_EVERY_MS = 20, SEEK_LATER_MS = 5000, SEEKS_PER_LANE = 6, LANES_SOUGHT_MAX = 64 };
enum { TICK_MS = 100, PING_AFTER_MS = 400, QUIET_MS = 650, BACKOFF_MIN_MS = 5, BACKOFF_BASE_MS = 25, BACKOFF_CAP_MS = 1000, SILENT_REST_MS = 500, SLOTS_MAX = 1 << 16 };

struct wire {
    struct env_conn conn;
    struct sluice_client *client;
    struct node *node; /* NULL: given up */
    struct frame_reader reader;
    struct request_list sent;       /* not answered */
    struct request_list subscribed; /* answered, and more answers follow */
    struct request **slots; /* by the low half of the correlation id */
    uint32_t *free_slots;
    uint32_t n_slots, n_free, generation;
    uint64_t heard_ns, opened_ns;
    struct request hello, ping;
};

/* One frame on its way. */
struct out {
    struct env_write write;
    struct iovec iov[2];
    struct blob *payload;
    uint8_t head[];
};

static void tick(struct env_timer *t);
static void wire_fail(struct wire *w, int code, const char *why);

/* ---- blobs, lists ------------------------------------------------------------------------------------------------------ */

struct blob *blob_new(void *data, size_t len)
{
    struct blob *b = xmalloc(sizeof *b);
    *b = (struct blob){.refs = 1, .len = len, .data = data};
    return b;
}

void blob_release(struct blob *b)
{
    if (b != NULL && --b->refs == 0) {
        free(b->data);
        free(b);
    }
}

static void list_append(struct request_list *l, struct request *r)
{
    r->list = l;
    r->next = NULL;
    r->prev = l->tail;
    *(l->tail != NULL ? &l->tail->next : &l->head) = r;
    l->tail = r;
    l->n++;
}

static void list_remove(struct request *r)
{
    struct request_list *l = r->list;
    *(r->prev != NULL ? &r->prev->next : &l->head) = r->next;
    *(r->next != NULL ? &r->next->prev : &l->tail) = r->prev;
    r->prev = r->next = NULL;
    r->list = NULL;
    l->n--;
}

static void list_move(struct request_list *to, struct request_list *from)
{
    while (from->head != NULL) {
        struct request *r = from->head;
        list_remove(r);
        list_append(to, r);
    }
}

/* ---- sending --------------------------------------------------------------------------------------------------------------- */

static void write_done(struct env_write *write)
{
    struct out *o = container_of(write, struct out, write);
    blob_release(o->payload);
    free(o);
}

static uint32_t slot_take(struct wire *w)
{
    if (w->n_free == 0) {
        uint32_t n = w->n_slots == 0 ? 16 : w->n_slots * 2;
        w->slots = xrealloc(w->slots, n * sizeof *w->slots);
        w->free_slots = xrealloc(w->free_slots, n * sizeof *w->free_slots);
        for (uint32_t i = n; i > w->n_slots; i--) {
            w->slots[i - 1] = NULL;
            w->free_slots[w->n_free++] = i - 1;
        }
        w->n_slots = n;
    }
    return w->free_slots[--w->n_free];
}

static void slot_free(struct wire *w, struct request *r)
{
    uint32_t slot = (uint32_t)r->correlation;
    sluice_assert(slot < w->n_slots && w->slots[slot] == r);
    w->slots[slot] = NULL;
    w->free_slots[w->n_free++] = slot;
}

static bool wire_busy(const struct wire *w) { return w->sent.n > 0 || w->subscribed.n > 0; }

static void wire_write(struct wire *w, uint8_t kind, uint64_t correlation, const uint8_t *packed, size_t packed_len, struct blob *payload)
{
    struct out *o = xmalloc(sizeof *o + FRAME_HEADER_SIZE + packed_len);
    o->payload = payload;
    uint32_t payload_len = 0;
    if (payload != NULL) {
        payload->refs++;
        payload_len = (uint32_t)payload->len;
        o->iov[1] = (struct iovec){.iov_base = payload->data, .iov_len = payload->len};
    }
    if (packed_len > 0) {
        memcpy(o->head + FRAME_HEADER_SIZE, packed, packed_len);
    }
    frame_header_encode(o->head, kind, correlation, o->head + FRAME_HEADER_SIZE, (uint32_t)packed_len, payload_len);
    o->iov[0] = (struct iovec){.iov_base = o->head, .iov_len = FRAME_HEADER_SIZE + packed_len};
    o->write.iov = o->iov;
    o->write.n_iov = payload_len > 0 ? 2 : 1;
    w->client->stats.bytes_sent += o->iov[0].iov_len + payload_len;
    env_conn_write(&w->conn, &o->write, write_done);
}

static void wire_send(struct wire *w, struct request *r)
{
    uint32_t slot = slot_take(w);
    w->slots[slot] = r;
    r->correlation = (uint64_t)++w->generation << 32 | slot;
    struct node *n = w->node;
    r->node = n;
    r->wire = w;
    r->written = true;
    uint64_t now = env_now_ns(w->client->env);
    r->sent_ns = now;
    if (!wire_busy(w)) {
        w->heard_ns = max_u64(w->heard_ns, now); /* silence counts from the first thing asked */
    }
    list_append(&w->sent, r);
    w->client->stats.requests++;
    wire_write(w, r->kind, r->correlation, r->packed, r->packed_len, r->payload);
}

void request_note(struct request *r, uint8_t kind, const ProtobufCMessage *message)
{
    if (r->wire != NULL) {
        size_t n;
        uint8_t *packed = message_pack(message, &n);
        wire_write(r->wire, kind, r->correlation, packed, n, NULL);
        free(packed);
    }
}

static void arm_tick(struct node *n)
{
    n->tick_ns = env_now_ns(n->client->env);
    env_timer_start_ms(&n->timer, TICK_MS);
}

/* Lets waiting requests go as far as the node allows. */
static void send_waiting(struct node *n)
{
    struct wire *w = n->wire;
    while (n->state == NODE_READY && n->waiting.head != NULL && w->sent.n < SLOTS_MAX &&
           (n->in_flight_max == 0 || w->sent.n < n->in_flight_max)) {
        struct request *r = n->waiting.head;
        list_remove(r);
        wire_send(w, r);
    }
}

/* ---- connecting ------------------------------------------------------------------------------------------------------------ */

static void conn_connected(struct env_conn *c, int status);
static size_t conn_buffer(struct env_conn *c, void **base);
static void conn_read(struct env_conn *c, void *data, ssize_t n);
static void conn_closed(struct env_conn *c);

static const struct env_conn_ops conn_ops = {
    .connected = conn_connected, .buffer = conn_buffer, .read = conn_read, .closed = conn_closed,
};

static void node_rest(struct node *n)
{
    n->state = NODE_BACKOFF;
    n->wire = NULL;
    uint64_t ms = backoff_ms(n->client->env, n->failures, BACKOFF_MIN_MS, BACKOFF_BASE_MS, BACKOFF_CAP_MS);
    n->retry_at_ns = max_u64(env_now_ns(n->client->env) + ms * 1000000u, n->silent_until_ns);
    n->failures++;
}

/* Notes why a node cannot be used, and tells it if it is news. */
static void note_trouble(struct node *n, const char *why)
{
    bool news = n->failures == 0 && n->first == NULL; /* of a further connection nobody needs to hear */
    snprintf(n->last_why, sizeof n->last_why, "%s", why);
    if (news && n->client->options.trouble != NULL) {
        n->client->options.trouble(n->client->options.user, n->address, n->last_why);
    }
}

void nodes_out_of_reach(const struct sluice_client *c, char *out, size_t size)
{
    size_t at = 0;
    out[0] = '\0';
    for (const struct node *n = c->nodes; n != NULL; n = n->next) {
        if (n->failures > 0 && at < size) {
            at += (size_t)snprintf(out + at, size - at, "%s%s: %s", at > 0 ? "; " : "", n->address, n->last_why);
        }
    }
}

struct node *node_make(struct sluice_client *c, const char *host, uint16_t port)
{
    struct node *n = xcalloc(1, sizeof *n);
    n->client = c;
    snprintf(n->host, sizeof n->host, "%s", host);
    n->port = port;
    snprintf(n->address, sizeof n->address, strchr(host, ':') != NULL ? "[%s]:%u" : "%s:%u", n->host, port);
    env_timer_init(c->env, &n->timer, tick);
    return n;
}

/* False: could not even begin. */
static bool node_connect(struct node *n)
{
    struct sluice_client *c = n->client;
    struct wire *w = xcalloc(1, sizeof *w);
    w->client = c;
    w->node = n;
    w->conn.ops = &conn_ops;
    w->conn.user = w;
    w->opened_ns = w->heard_ns = env_now_ns(c->env);
    n->attempted_ns = w->opened_ns;
    int rc = env_connect(c->env, &w->conn, n->host, n->port);
    if (rc != 0) {
        free(w);
        c->stats.connects_failed++;
        note_trouble(n, strerror(-rc));
        node_rest(n);
        return false;
    }
    frame_reader_init(&w->reader, FRAME_MESSAGE_MAX, FRAME_PAYLOAD_MAX);
    c->wires++;
    n->wire = w;
    n->state = NODE_CONNECTING;
    arm_tick(n);
    return true;
}

/* The connection of n, a node's first one, or of its further ones but `but`, that is open and with that lane; or NULL. */
static struct node *via_ready(struct node *n, unsigned lane, const struct node *but)
{
    if (n->state == NODE_READY && n->lane == lane) {
        return n;
    }
    for (struct node *f = n->further; f != NULL; f = f->further_next) {
        if (f != but && f->state == NODE_READY && f->lane == lane) {
            return f;
        }
    }
    return NULL;
}

/* Closes a connection on which nothing but the hello was sent. */
static void wire_end(struct wire *w)
{
    sluice_assert(w->sent.n == 0 && w->node->waiting.n == 0);
    env_timer_stop(&w->node->timer);
    w->node->wire = NULL;
    w->node = NULL;
    env_conn_close(&w->conn);
}

/* Which lane gets a connection is chance: so they are made until one is with the lane, and given up for a while after many in vain. */
static void seek(struct node *n)
{
    uint64_t now = env_now_ns(n->client->env);
    if (now < n->seek_at_ns || n->n_lanes > LANES_SOUGHT_MAX) {
        return;
    }
    unsigned count = 0;
    struct node *idle = NULL;
    for (struct node *f = n->further; f != NULL; f = f->further_next) {
        if (f->state == NODE_CONNECTING || f->state == NODE_HELLO) {
            return;
        }
        idle = f->state != NODE_READY && node_usable(f) ? f : idle;
        count++;
    }
    bool in_vain = n->seeks >= SEEKS_PER_LANE * n->n_lanes;
    n->seeks = in_vain ? 0 : n->seeks;
    n->seek_at_ns = now + (uint64_t)(in_vain ? SEEK_LATER_MS : SEEK_EVERY_MS) * 1000000u;
    if (idle == NULL && count < n->n_lanes) {
        idle = node_make(n->client, n->host, n->port);
        idle->first = n;
        idle->further_next = n->further;
        n->further = idle;
    }
    if (idle != NULL && !in_vain) {
        node_connect(idle);
    }
}

struct node *node_via(struct node *n, unsigned lane)
{
    if (lane == 0 || n->state != NODE_READY || n->n_lanes < 2 || n->lane + 1 == lane) {
        return n;
    }
    struct node *found = via_ready(n, lane - 1, NULL);
    if (found == NULL) {
        seek(n);
    }
    return found != NULL ? found : n;
}

static void hello_done(struct request *r, const struct answer *a)
{
    struct wire *w = container_of(r, struct wire, hello);
    struct node *n = w->node;
    if (a->code != 0) {
        if (n != NULL) {
            wire_fail(w, SLUICE_E_NO_CONNECTION, a->message);
        }
        return;
    }
    Sluice__HelloReply *reply = (Sluice__HelloReply *)answer_unpack(&sluice__hello_reply__descriptor, a->frame);
    if (reply == NULL || a->frame->kind != FRAME_HELLO_REPLY) {
        if (reply != NULL) {
            sluice__hello_reply__free_unpacked(reply, NULL);
        }
        wire_fail(w, SLUICE_E_PROTOCOL, "malformed answer to the hello");
        return;
    }
    n->id = reply->node_id;
    n->in_flight_max = reply->in_flight_max;
    n->n_lanes = reply->lanes;
    n->lane = reply->lane;
    n->record_max = reply->record_max;
    n->frame_max = reply->frame_max;
    if (n->record_max != 0) {
        n->client->record_max = n->record_max;
    }
    sluice__hello_reply__free_unpacked(reply, NULL);
    n->state = NODE_READY;
    n->failures = 0;
    n->client->stats.connects++;
    if (n->first != NULL && via_ready(n->first, n->lane, n) != NULL) {
        n->first->seeks++;
        wire_end(w); /* the lane has one already */
        n->state = NODE_IDLE;
        return;
    }
    if (n->first != NULL) {
        n->first->seeks = 0;
    }
    send_waiting(n);
}

static void conn_connected(struct env_conn *c, int status)
{
    struct wire *w = c->user;
    struct node *n = w->node;
    if (n == NULL) {
        return;
    }
    if (status != 0) {
        w->client->stats.connects_failed++;
        wire_fail(w, SLUICE_E_NO_CONNECTION, strerror(-status));
        return;
    }
    n->state = NODE_HELLO;
    env_conn_read(c, true);
    Sluice__Hello hello = SLUICE__HELLO__INIT;
    hello.version_min = FRAME_VERSION;
    hello.version_max = FRAME_VERSION;
    hello.agent = (char *)(uintptr_t)w->client->options.agent;
    hello.role = SLUICE__HELLO__ROLE__CLIENT;
    size_t len;
    uint8_t *packed = message_pack(&hello.base, &len);
    w->hello = (struct request){.kind = FRAME_HELLO, .packed = packed, .packed_len = len, .done = hello_done,
                                .timeout_ms = w->client->options.connect_timeout_ms, .started_ns = env_now_ns(w->client->env)};
    wire_send(w, &w->hello);
    w->hello.packed = NULL; /* written frames are copies */
    free(packed);
}

/* ---- receiving ------------------------------------------------------------------------------------------------------------- */

static size_t conn_buffer(struct env_conn *c, void **base)
{
    struct wire *w = c->user;
    return frame_reader_buffer(&w->reader, base);
}

static bool answers(const struct request *r, uint8_t kind) { return kind == r->kind + 1 || (r->subscribes && kind == FRAME_PUSH); }

/* The request that the frame answers; NULL: it was cancelled. It is taken off the wire, unless more answers follow this one. */
static struct request *take_request(struct wire *w, const struct frame *f)
{
    uint32_t slot = (uint32_t)f->correlation;
    if (slot >= w->n_slots || w->slots[slot] == NULL || w->slots[slot]->correlation != f->correlation) {
        return NULL;
    }
    struct request *r = w->slots[slot];
    list_remove(r);
    if (r->subscribes && answers(r, f->kind)) {
        r->started_ns = env_now_ns(w->client->env);
        list_append(&w->subscribed, r);
        return r;
    }
    slot_free(w, r);
    r->node = NULL;
    r->wire = NULL;
    return r;
}

static void deliver(struct wire *w, struct request *r, struct frame *f)
{
    struct answer a = {.message = "", .hint = "", .leader_address = "", .frame = f, .reader = &w->reader};
    Sluice__Error *e = NULL;
    if (f->kind == FRAME_ERROR) {
        e = (Sluice__Error *)answer_unpack(&sluice__error__descriptor, f);
        if (e == NULL) {
            a.code = SLUICE_E_PROTOCOL;
            a.maybe = true;
            a.message = "malformed error answer";
        } else {
            a.code = e->code == 0 ? SLUICE_E_INTERNAL : (int)e->code;
            a.maybe = sluice_error_outcome(a.code) == SLUICE_UNKNOWN;
            a.message = e->message;
            a.hint = e->hint;
            a.leader_node = e->leader_node;
            a.leader_address = e->leader_address;
            a.retry_after_ms = e->retry_after_ms;
        }
        a.frame = NULL;
    } else if (!answers(r, f->kind)) {
        a.code = SLUICE_E_PROTOCOL;
        a.maybe = true;
        a.message = "the answer is of another kind than the request";
        a.frame = NULL;
    }
    r->done(r, &a);
    if (e != NULL) {
        sluice__error__free_unpacked(e, NULL);
    }
}

static void conn_read(struct env_conn *c, void *data, ssize_t n)
{
    struct wire *w = c->user;
    (void)data;
    if (w->node == NULL) {
        return;
    }
    if (n <= 0) {
        wire_fail(w, SLUICE_E_UNKNOWN_OUTCOME, n == 0 ? "the node closed the connection" : "the connection was lost");
        return;
    }
    w->heard_ns = env_now_ns(w->client->env);
    w->client->stats.bytes_received += (uint64_t)n;
    frame_reader_fed(&w->reader, (size_t)n);
    struct frame f;
    int got = 0;
    while (w->node != NULL && (got = frame_reader_next(&w->reader, &f)) > 0) {
        struct request *r = take_request(w, &f);
        if (r != NULL) {
            deliver(w, r, &f);
        }
    }
    if (w->node != NULL && got < 0) {
        wire_fail(w, SLUICE_E_UNKNOWN_OUTCOME, "the node sent something that is not this protocol");
    }
    if (w->node != NULL) {
        send_waiting(w->node);
    }
}

static void conn_closed(struct env_conn *c)
{
    struct wire *w = c->user;
    sluice_assert(w->node == NULL);
    frame_reader_deinit(&w->reader);
    free(w->slots);
    free(w->free_slots);
    struct sluice_client *client = w->client;
    free(w);
    client_wire_gone(client);
}

/* ---- failing --------------------------------------------------------------------------------------------------------------- */

static void fail_one(struct request *r, int code, bool maybe, const char *why)
{
    struct answer a = {.code = code, .maybe = maybe, .message = why, .hint = "", .leader_address = ""};
    r->done(r, &a);
}

/* Gives a connection up: the node rests, what was written ends with `code`, what waited was never sent. */
static void wire_fail(struct wire *w, int code, const char *why)
{
    struct node *n = w->node;
    sluice_assert(n != NULL && n->wire == w);
    if (n->state == NODE_READY) {
        w->client->stats.connections_lost++;
    }
    w->node = NULL;
    note_trouble(n, why);
    node_rest(n);
    env_timer_stop(&n->timer);
    env_conn_close(&w->conn);
    list_move(&w->sent, &w->subscribed);
    for (struct request *r = w->sent.head; r != NULL; r = r->next) {
        w->slots[(uint32_t)r->correlation] = NULL;
        r->wire = NULL;
    }
    char text[128];
    snprintf(text, sizeof text, "%s", why); /* may lie in an answer that the callbacks free */
    /* A list of their own: the callbacks may cancel each other's requests and send new ones. */
    struct request_list failed = {0};
    list_move(&failed, &w->sent);
    list_move(&failed, &n->waiting);
    while (failed.head != NULL) {
        struct request *r = failed.head;
        list_remove(r);
        r->node = NULL;
        fail_one(r, r->written ? code : SLUICE_E_NO_CONNECTION, r->written, text);
    }
}

void request_cancel(struct request *r)
{
    if (r->node == NULL) {
        return;
    }
    if (r->wire != NULL) {
        slot_free(r->wire, r);
    }
    list_remove(r);
    r->node = NULL;
    r->wire = NULL;
}

/* ---- watching -------------------------------------------------------------------------------------------------------------- */

static void ping_done(struct request *r, const struct answer *a)
{
    (void)r;
    (void)a; /* hearing anything is what counts */
}

/* Ends requests whose attempt took too long. Their answers may still come and are dropped. */
static void expire(struct node *n, struct request_list *l, uint64_t now)
{
    for (struct request *r = l->head; r != NULL;) {
        struct request *next = r->next;
        if (now - r->started_ns >= (uint64_t)r->timeout_ms * 1000000u && (n->wire == NULL || (r != &n->wire->hello && r != &n->wire->ping))) {
            request_cancel(r);
            fail_one(r, r->written ? SLUICE_E_TIMEOUT : SLUICE_E_NO_CONNECTION, r->written, "no answer in time");
            /* The callback may have changed the list: begin again (ended requests are gone from it). */
            next = l->head;
            if (n->wire == NULL) {
                return;
            }
        }
        r = next;
    }
}

static void tick(struct env_timer *t)
{
    struct node *n = container_of(t, struct node, timer);
    struct wire *w = n->wire;
    if (w == NULL) {
        return;
    }
    struct sluice_client *c = n->client;
    uint64_t now = env_now_ns(c->env);
    if (now - n->tick_ns > 3u * TICK_MS * 1000000u) {
        w->heard_ns = w->opened_ns = now; /* this loop was late itself: what the node sent may not have been read yet */
    }
    if (n->state == NODE_CONNECTING || n->state == NODE_HELLO) {
        if (now - w->opened_ns >= (uint64_t)c->options.connect_timeout_ms * 1000000u) {
            c->stats.connects_failed++;
            wire_fail(w, SLUICE_E_NO_CONNECTION, "no connection in time");
            return;
        }
        arm_tick(n);
        return;
    }
    if (wire_busy(w)) {
        uint64_t silent = now - w->heard_ns;
        if (silent >= (uint64_t)c->options.silence_ms * 1000000u) {
            c->stats.silent++;
            /* Its system may go on taking connections (a paused process): rest longer before the next is tried. */
            uint64_t rest = now + (SILENT_REST_MS + env_random_below(c->env, SILENT_REST_MS)) * 1000000u;
            n->silent_until_ns = rest;
            wire_fail(w, SLUICE_E_TIMEOUT, "the node has fallen silent");
            return;
        }
        if (silent >= (uint64_t)PING_AFTER_MS * 1000000u && w->ping.node == NULL) {
            w->ping = (struct request){.kind = FRAME_PING, .done = ping_done, .timeout_ms = UINT32_MAX, .started_ns = now};
            wire_send(w, &w->ping);
        }
    }
    expire(n, &w->sent, now);
    if (n->wire == w) {
        expire(n, &w->subscribed, now);
    }
    if (n->wire == w) {
        expire(n, &n->waiting, now);
    }
    if (n->wire == w && (wire_busy(w) || n->waiting.n > 0)) {
        arm_tick(n);
    } else if (n->wire == w) {
        n->tick_ns = 0;
    }
}

int request_send(struct node *n, struct request *r)
{
    sluice_assert(r->node == NULL);
    struct sluice_client *c = n->client;
    if (c->closing || !node_usable(n)) {
        return SLUICE_E_NO_CONNECTION;
    }
    if ((n->state == NODE_IDLE || n->state == NODE_BACKOFF) && !node_connect(n)) {
        return SLUICE_E_NO_CONNECTION;
    }
    r->started_ns = env_now_ns(c->env);
    r->node = n;
    r->wire = NULL;
    r->written = false;
    bool idle = n->wire->sent.n == 0 && n->waiting.n == 0;
    list_append(&n->waiting, r);
    send_waiting(n);
    if (n->state == NODE_READY && (idle || n->tick_ns == 0)) {
        arm_tick(n);
    }
    return 0;
}

/* ---- the list of nodes ----------------------------------------------------------------------------------------------------- */

bool node_usable(const struct node *n)
{
    return n->state != NODE_BACKOFF || env_now_ns(n->client->env) >= n->retry_at_ns;
}

/* Something was asked a while ago and nothing was heard since: others are asked first. */
bool node_quiet(const struct node *n)
{
    return n->wire != NULL && wire_busy(n->wire) && env_now_ns(n->client->env) - n->wire->heard_ns > (uint64_t)QUIET_MS * 1000000u;
}

void node_close(struct node *n)
{
    for (struct node *f = n->further; f != NULL; f = f->further_next) {
        node_close(f);
    }
    env_timer_close(&n->timer);
    for (struct request *r = n->waiting.head, *next; r != NULL; r = next) {
        next = r->next;
        request_cancel(r);
    }
    struct wire *w = n->wire;
    if (w != NULL) {
        list_move(&w->sent, &w->subscribed);
        for (struct request *r = w->sent.head, *next; r != NULL; r = next) {
            next = r->next;
            request_cancel(r);
        }
        n->wire = NULL;
        w->node = NULL;
        env_conn_close(&w->conn);
    }
}
