/* Requests to other nodes.
 *
 * The normal course: a request is encoded and queued; the first one connects; connected -> HELLO -> HELLO_REPLY -> queued frames are sent in
 * order; answers find their request by correlation id.
 * What can fail: connect or hello fail: every queued request ends as NO_CONNECTION (surely not sent), the next attempt waits for the backoff. The connection
 * breaks: what was sent ends as TIMEOUT (it may have been done). A request's time is over: TIMEOUT if it was sent, else NO_CONNECTION; and if nothing at all came
 * since it was sent, the connection is given up as half open. */
#include "server/peer_client.h"

#include <stdlib.h>
#include <string.h>

#include "proto/base.h"
#include "proto/error.h"
#include "proto/frame.h"
#include "sluice.pb-c.h"

enum { BACKOFF_FIRST_MS = 20, BACKOFF_MAX_MS = 1000, TICK_MS = 20, HELLO_MS = 2000 };

struct peer_request {
    struct peer_request *next;
    uint64_t correlation, deadline_ms, sent_ms; /* sent_ms 0: not sent */
    void *frame;
    size_t len;
    peer_reply reply;
    void *arg;
};

enum peer_state { PEER_IDLE, PEER_CONNECTING, PEER_HELLO, PEER_READY };

/* One connection attempt; outlives its use by a peer until env says closed. */
struct peer_conn {
    struct env_conn conn;
    struct peer_client *client;
    struct peer *peer; /* NULL: given up */
    struct frame_reader reader;
};

struct peer {
    struct peer *next;
    struct peer_client *client;
    uint32_t node;
    char host[64];
    uint16_t port;
    enum peer_state state;
    struct peer_conn *conn;
    uint64_t backoff_ms, retry_at_ms, since_ms, heard_ms;
    struct peer_request *requests; /* oldest first */
    unsigned n_requests;
};

struct peer_client {
    struct peer_client_options o;
    struct peer *peers;
    uint64_t correlation;
    struct env_timer timer;
    bool timer_on, closing;
    unsigned n_conns;
    void (*done)(void *arg);
    void *done_arg;
};

struct peer_write { struct env_write write; struct iovec iov; };

static void write_done(struct env_write *w)
{
    struct peer_write *p = container_of(w, struct peer_write, write);
    free(p->iov.iov_base);
    free(p);
}

/* Takes the frame over. */
static void send_frame(struct peer *p, void *frame, size_t len)
{
    struct peer_write *w = xcalloc(1, sizeof *w);
    w->iov = (struct iovec){.iov_base = frame, .iov_len = len};
    w->write.iov = &w->iov;
    w->write.n_iov = 1;
    env_conn_write(&p->conn->conn, &w->write, write_done);
}

static void arm(struct peer_client *c)
{
    if (!c->timer_on && !c->closing) {
        c->timer_on = true;
        env_timer_start_ms(&c->timer, TICK_MS);
    }
}

static void finish(struct peer_request *r, int code, uint8_t kind, const void *message, size_t len)
{
    peer_reply reply = r->reply;
    void *arg = r->arg;
    free(r->frame);
    free(r);
    reply(arg, code, kind, message, len);
}

static struct peer *find(struct peer_client *c, uint32_t node)
{
    struct peer *p = c->peers;
    while (p != NULL && p->node != node) {
        p = p->next;
    }
    return p;
}

/* Lets go of the connection; what was sent on it is unknown from now on, what was not sent ends with `code` if it is not 0. */
static void drop(struct peer *p, int code)
{
    if (p->conn != NULL) {
        p->conn->peer = NULL;
        env_conn_close(&p->conn->conn);
        p->conn = NULL;
    }
    p->state = PEER_IDLE;
    struct peer_request *list = NULL;
    struct peer_request **tail = &list;
    for (struct peer_request **at = &p->requests; *at != NULL;) {
        struct peer_request *r = *at;
        if (r->sent_ms == 0 && code == 0) {
            at = &r->next;
            continue;
        }
        *at = r->next;
        r->next = NULL;
        *tail = r;
        tail = &r->next;
        p->n_requests--;
    }
    while (list != NULL) { /* the callbacks may come back with new requests, or remove this peer */
        struct peer_request *r = list;
        list = r->next;
        finish(r, r->sent_ms != 0 ? SLUICE_E_TIMEOUT : code, 0, NULL, 0);
    }
}

static void failed(struct peer *p, int code)
{
    uint64_t now = env_now_ms(p->client->o.env);
    p->backoff_ms = p->backoff_ms == 0 ? BACKOFF_FIRST_MS : min_u64(p->backoff_ms * 2, BACKOFF_MAX_MS);
    p->retry_at_ms = now + p->backoff_ms;
    drop(p, code);
}

static void send_waiting(struct peer *p)
{
    for (struct peer_request *r = p->requests; r != NULL; r = r->next) {
        if (r->sent_ms == 0) {
            r->sent_ms = env_now_ms(p->client->o.env);
            void *frame = r->frame;
            r->frame = NULL;
            send_frame(p, frame, r->len);
        }
    }
}

static void on_frame(struct peer *p, const struct frame *f)
{
    if (p->state == PEER_HELLO) {
        if (f->kind == FRAME_HELLO_REPLY) {
            p->state = PEER_READY;
            p->backoff_ms = 0;
            send_waiting(p);
            return;
        }
        int code = SLUICE_E_PROTOCOL;
        if (f->kind == FRAME_ERROR) {
            Sluice__Error *e = sluice__error__unpack(NULL, f->message_len, f->message);
            code = e != NULL && e->code != 0 ? (int)e->code : code;
            sluice__error__free_unpacked(e, NULL);
        }
        failed(p, code);
        return;
    }
    struct peer_request **at = &p->requests;
    while (*at != NULL && (*at)->correlation != f->correlation) {
        at = &(*at)->next;
    }
    struct peer_request *r = *at;
    if (r == NULL || r->sent_ms == 0) {
        return; /* its time was over */
    }
    *at = r->next;
    p->n_requests--;
    int code = SLUICE_E_OK;
    if (f->kind == FRAME_ERROR) {
        Sluice__Error *e = sluice__error__unpack(NULL, f->message_len, f->message);
        code = e != NULL && e->code != 0 ? (int)e->code : SLUICE_E_INTERNAL;
        sluice__error__free_unpacked(e, NULL);
    }
    finish(r, code, f->kind, f->message, f->message_len);
}

static void on_connected(struct env_conn *conn, int status)
{
    struct peer_conn *pc = conn->user;
    struct peer *p = pc->peer;
    if (p == NULL) {
        return;
    }
    if (status != 0) {
        failed(p, SLUICE_E_NO_CONNECTION);
        return;
    }
    struct peer_client *c = p->client;
    static const uint8_t none[16];
    bool formed = memcmp(c->o.cluster_id, none, 16) != 0;
    Sluice__Hello hello = SLUICE__HELLO__INIT;
    hello.version_min = hello.version_max = FRAME_VERSION;
    hello.agent = (char *)"sluiced/" SLUICE_VERSION;
    hello.role = SLUICE__HELLO__ROLE__PEER;
    hello.cluster_id = (ProtobufCBinaryData){.len = formed ? 16 : 0, .data = c->o.cluster_id};
    hello.node_id = c->o.node_id;
    hello.incarnation = c->o.incarnation;
    hello.to_lane = PEER_CONTROL_LANE;
    hello.to_node = p->node;
    size_t n;
    void *frame = frame_encode(FRAME_HELLO, 0, &hello, 0, &n);
    sluice_assert(frame != NULL);
    p->state = PEER_HELLO;
    p->since_ms = p->heard_ms = env_now_ms(c->o.env);
    env_conn_read(conn, true);
    send_frame(p, frame, n);
}

static size_t on_buffer(struct env_conn *conn, void **base)
{
    struct peer_conn *pc = conn->user;
    return frame_reader_buffer(&pc->reader, base);
}

static void on_read(struct env_conn *conn, void *data, ssize_t n)
{
    (void)data;
    struct peer_conn *pc = conn->user;
    if (pc->peer == NULL) {
        return;
    }
    if (n <= 0) {
        failed(pc->peer, SLUICE_E_NO_CONNECTION);
        return;
    }
    pc->peer->heard_ms = env_now_ms(pc->client->o.env);
    frame_reader_fed(&pc->reader, (size_t)n);
    struct frame f;
    int got = 0;
    while (pc->peer != NULL && (got = frame_reader_next(&pc->reader, &f)) == 1) {
        on_frame(pc->peer, &f);
    }
    if (pc->peer != NULL && got < 0) {
        failed(pc->peer, SLUICE_E_NO_CONNECTION);
    }
}

static void maybe_done(struct peer_client *c)
{
    if (c->closing && c->n_conns == 0) {
        void (*done)(void *) = c->done;
        void *arg = c->done_arg;
        free(c);
        if (done != NULL) {
            done(arg);
        }
    }
}

static void on_closed(struct env_conn *conn)
{
    struct peer_conn *pc = conn->user;
    struct peer_client *c = pc->client;
    sluice_assert(pc->peer == NULL);
    frame_reader_deinit(&pc->reader);
    free(pc);
    c->n_conns--;
    maybe_done(c);
}

static const struct env_conn_ops conn_ops = {.connected = on_connected, .buffer = on_buffer, .read = on_read, .closed = on_closed};

/* True if a connection attempt is under way now. */
static bool start_connect(struct peer *p)
{
    struct peer_client *c = p->client;
    uint64_t now = env_now_ms(c->o.env);
    if (now < p->retry_at_ms) {
        return false;
    }
    struct peer_conn *pc = xcalloc(1, sizeof *pc);
    pc->client = c;
    pc->peer = p;
    pc->conn.ops = &conn_ops;
    pc->conn.user = pc;
    if (env_connect(c->o.env, &pc->conn, p->host, p->port) != 0) {
        free(pc);
        p->backoff_ms = p->backoff_ms == 0 ? BACKOFF_FIRST_MS : min_u64(p->backoff_ms * 2, BACKOFF_MAX_MS);
        p->retry_at_ms = now + p->backoff_ms;
        return false;
    }
    frame_reader_init(&pc->reader, FRAME_MESSAGE_MAX, 0);
    c->n_conns++;
    p->conn = pc;
    p->state = PEER_CONNECTING;
    p->since_ms = now;
    return true;
}

/* Ends at most one request whose time is over; true: look again from the start, as the callback may have changed everything. */
static bool expire_one(struct peer *p, uint64_t now)
{
    for (struct peer_request **at = &p->requests; *at != NULL; at = &(*at)->next) {
        struct peer_request *r = *at;
        if (now < r->deadline_ms) {
            continue;
        }
        *at = r->next;
        p->n_requests--;
        bool sent = r->sent_ms != 0;
        if (sent && p->heard_ms < r->sent_ms) {
            struct peer_request *alone = r;
            failed(p, 0);
            finish(alone, SLUICE_E_TIMEOUT, 0, NULL, 0);
            return true;
        }
        finish(r, sent ? SLUICE_E_TIMEOUT : SLUICE_E_NO_CONNECTION, 0, NULL, 0);
        return true;
    }
    return false;
}

static void on_tick(struct env_timer *t)
{
    struct peer_client *c = container_of(t, struct peer_client, timer);
    c->timer_on = false;
    uint64_t now = env_now_ms(c->o.env);
    struct peer *at = c->peers;
    while (at != NULL) {
        at = expire_one(at, now) ? c->peers : at->next;
    }
    bool busy = false;
    for (struct peer *p = c->peers; p != NULL; p = p->next) {
        if ((p->state == PEER_HELLO || p->state == PEER_CONNECTING) && now >= p->since_ms + HELLO_MS) {
            failed(p, SLUICE_E_NO_CONNECTION);
            arm(c);
            return; /* callbacks may have changed the list: the next tick looks at the rest */
        }
        if (p->state == PEER_IDLE && p->requests != NULL) {
            start_connect(p);
        }
        busy = busy || p->requests != NULL || p->state == PEER_HELLO || p->state == PEER_CONNECTING;
    }
    if (busy) {
        arm(c);
    }
}

int peer_client_open(struct peer_client **out, const struct peer_client_options *o)
{
    struct peer_client *c = xcalloc(1, sizeof *c);
    c->o = *o;
    c->correlation = 1;
    int rc = env_timer_init(o->env, &c->timer, on_tick);
    if (rc != 0) {
        free(c);
        return rc;
    }
    *out = c;
    return 0;
}

void peer_client_close(struct peer_client *c, void (*done)(void *arg), void *arg)
{
    c->closing = true;
    c->done = done;
    c->done_arg = arg;
    env_timer_close(&c->timer);
    c->n_conns++; /* holds c while the loops below call back */
    while (c->peers != NULL) {
        peer_client_remove(c, c->peers->node);
    }
    c->n_conns--;
    maybe_done(c);
}

void peer_client_identity(struct peer_client *c, const uint8_t cluster_id[16], uint64_t incarnation)
{
    memcpy(c->o.cluster_id, cluster_id, 16);
    c->o.incarnation = incarnation;
    for (struct peer *p = c->peers; p != NULL; p = p->next) {
        drop(p, 0);
        p->retry_at_ms = 0;
    }
}

void peer_client_lost(struct peer_client *c, uint32_t node)
{
    struct peer *p = find(c, node);
    if (p != NULL) {
        drop(p, SLUICE_E_NO_CONNECTION);
    }
}

void peer_client_set(struct peer_client *c, uint32_t node, const char *host, uint16_t port)
{
    struct peer *p = find(c, node);
    if (p != NULL && strcmp(p->host, host) == 0 && p->port == port) {
        return;
    }
    if (p == NULL) {
        p = xcalloc(1, sizeof *p);
        p->client = c;
        p->node = node;
        struct peer **at = &c->peers;
        while (*at != NULL && (*at)->node < node) {
            at = &(*at)->next;
        }
        p->next = *at;
        *at = p;
    }
    size_t n = strnlen(host, sizeof p->host - 1);
    memcpy(p->host, host, n);
    p->host[n] = '\0';
    p->port = port;
    p->retry_at_ms = p->backoff_ms = 0;
    if (p->state != PEER_IDLE) {
        drop(p, 0);
    }
}

void peer_client_remove(struct peer_client *c, uint32_t node)
{
    struct peer **at = &c->peers;
    while (*at != NULL && (*at)->node != node) {
        at = &(*at)->next;
    }
    struct peer *p = *at;
    if (p != NULL) {
        *at = p->next;
        p->next = NULL;
        drop(p, SLUICE_E_NO_CONNECTION);
        sluice_assert(p->requests == NULL);
        free(p);
    }
}

int peer_client_request(struct peer_client *c, uint32_t node, uint8_t kind, const void *message, uint64_t timeout_ms, peer_reply reply, void *arg)
{
    struct peer *p = c->closing ? NULL : find(c, node);
    if (p == NULL) {
        return SLUICE_E_NOT_FOUND;
    }
    if (p->n_requests >= PEER_REQUESTS_MAX) {
        return SLUICE_E_BUSY;
    }
    struct peer_request *r = xcalloc(1, sizeof *r);
    r->correlation = c->correlation++;
    r->frame = frame_encode(kind, r->correlation, message, 0, &r->len);
    if (r->frame == NULL) {
        free(r);
        return SLUICE_E_BUSY;
    }
    r->deadline_ms = env_now_ms(c->o.env) + timeout_ms;
    r->reply = reply;
    r->arg = arg;
    struct peer_request **at = &p->requests;
    while (*at != NULL) {
        at = &(*at)->next;
    }
    *at = r;
    p->n_requests++;
    if (p->state == PEER_READY) {
        send_waiting(p);
    } else if (p->state == PEER_IDLE) {
        start_connect(p);
    }
    arm(c);
    return SLUICE_E_OK;
}
