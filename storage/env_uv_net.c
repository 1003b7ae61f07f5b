/* Connections.
 *
 * Sending: the queue of a connection is a list of the callers' own requests. conn_write hands as much as the system takes to
 * it at once (one gathering call for everything queued); the rest waits in one uv_write at a time, and what is queued
 * meanwhile goes out together after it. A write whose outcome is known joins the loop's list of finished writes, delivered
 * at the end of the turn: its callback never runs inside conn_write, and in the order of sending.
 *
 * Connecting: a literal address is tried at once; a name is looked up on libuv's thread pool and its addresses are tried
 * one after the other.
 *
 * Closing: the caller's struct env_conn stays until `closed`, which comes after the handle is closed, the look-up has ended
 * and every write has called back.
 */
#include "storage/env_uv_impl.h"

#include <errno.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <strings.h>
#include <unistd.h>

#define READ_BUF_BYTES ((size_t)256 * 1024)
#define GATHER_MAX 64u

struct conn {
    struct env_uv *e;
    struct env_conn *conn; /* NULL: abandoned, or given up before the caller knew of it */
    uv_tcp_t tcp;
    uv_connect_t connect_req;
    uv_getaddrinfo_t lookup_req;
    struct addrinfo *addrs; /* result of the look-up */
    struct addrinfo *next_addr;
    bool looking_up;
    uint16_t localhost_port; /* not 0: the name is "localhost", which is the loopback address even where nobody resolves it (RFC 6761) */
    bool tcp_open;   /* the handle is initialised and not yet wholly closed: always, but between two addresses */
    bool connected;
    bool closing;    /* env_conn_close() was called */
    bool want_read;
    bool reading;
    bool read_ended; /* the end or an error was told */

    struct env_write *queue; /* not yet wholly taken by the system */
    struct env_write **queue_end;
    size_t queued;           /* bytes of queue not sent, those in flight included */
    int write_error;         /* the first; what comes after it fails alike */
    bool in_flight;          /* write_req is libuv's */
    size_t flight_bytes;
    uv_write_t write_req;
};

/* ---- finished writes ------------------------------------------------------------------------------------------------ */

static void write_finished(struct env_uv *e, struct env_write *w, int status)
{
    w->status = status;
    w->next = NULL;
    *e->written_end = w;
    e->written_end = &w->next;
}

void env_uv_writes_deliver(struct env_uv *e)
{
    /* Only those of now: a caller that writes again from each callback must not keep the loop from polling. The list is
     * shared with nested calls, so that the order holds. */
    struct env_write **last = e->written_end;
    while (e->written != NULL) {
        struct env_write *w = e->written;
        bool is_last = &w->next == last;
        e->written = w->next;
        if (e->written == NULL) {
            e->written_end = &e->written;
        }
        w->next = NULL;
        if (!e->closing) {
            w->cb(w);
        }
        if (is_last) {
            break;
        }
    }
}

static size_t write_bytes(const struct env_write *w)
{
    size_t n = 0;
    for (unsigned i = 0; i < w->n_iov; i++) {
        n += w->iov[i].iov_len;
    }
    return n;
}

/* ---- sending --------------------------------------------------------------------------------------------------------- */

/* The next bytes of the queue as buffers; returns how many, 0 if there is nothing to send. */
static unsigned gather(const struct conn *c, uv_buf_t *bufs, size_t *bytes)
{
    unsigned n = 0;
    *bytes = 0;
    for (const struct env_write *w = c->queue; w != NULL && n < GATHER_MAX; w = w->next) {
        size_t skip = w->sent;
        for (unsigned i = 0; i < w->n_iov && n < GATHER_MAX; i++) {
            size_t len = w->iov[i].iov_len;
            if (skip >= len) {
                skip -= len;
                continue;
            }
            /* libuv's lengths are size_t, the system's counts are int in places. */
            size_t part = min_u64(len - skip, 1u << 30);
            bufs[n++] = uv_buf_init((char *)w->iov[i].iov_base + skip, (unsigned)part);
            *bytes += part;
            if (part < len - skip || *bytes >= 1u << 30) {
                return n;
            }
            skip = 0;
        }
    }
    return n;
}

/* Bytes of the queue's head are the system's; writes sent wholly (also empty ones) are finished. */
static void advance(struct conn *c, size_t bytes)
{
    c->queued -= bytes;
    while (c->queue != NULL) {
        struct env_write *w = c->queue;
        size_t left = write_bytes(w) - w->sent;
        if (bytes < left) {
            w->sent += bytes;
            return;
        }
        bytes -= left;
        w->sent += left;
        c->queue = w->next;
        write_finished(c->e, w, 0);
    }
    c->queue_end = &c->queue;
    sluice_assert(bytes == 0);
}

static void fail_writes(struct conn *c, int status)
{
    if (c->write_error == 0) {
        c->write_error = status;
    }
    while (c->queue != NULL) {
        struct env_write *w = c->queue;
        c->queue = w->next;
        write_finished(c->e, w, status);
    }
    c->queue_end = &c->queue;
    c->queued = 0;
}

static void flight_done(uv_write_t *req, int status);

/* Sends what the system takes; the rest waits in flight. */
static void flush(struct conn *c)
{
    while (c->queue != NULL && !c->in_flight) {
        uv_buf_t bufs[GATHER_MAX];
        size_t bytes;
        unsigned n = gather(c, bufs, &bytes);
        if (n == 0) {
            advance(c, 0);
            return;
        }
        int r = uv_try_write((uv_stream_t *)&c->tcp, bufs, n);
        if (r < 0 && r != UV_EAGAIN) {
            fail_writes(c, r);
            return;
        }
        if (r > 0) {
            advance(c, (size_t)r);
        }
        if (r > 0 && (size_t)r == bytes) {
            continue;
        }
        n = gather(c, bufs, &bytes);
        r = uv_write(&c->write_req, (uv_stream_t *)&c->tcp, bufs, n, flight_done);
        if (r < 0) {
            fail_writes(c, r);
            return;
        }
        c->in_flight = true;
        c->flight_bytes = bytes;
    }
}

static void flight_done(uv_write_t *req, int status)
{
    struct conn *c = container_of(req, struct conn, write_req);
    c->in_flight = false;
    if (c->conn == NULL || c->closing || c->e->closing) {
        return; /* the writes were called off already */
    }
    env_uv_touch(c->e, true);
    if (status < 0) {
        fail_writes(c, status);
    } else {
        advance(c, c->flight_bytes);
        flush(c);
    }
    env_uv_writes_deliver(c->e);
    if (!c->closing && c->queue == NULL && c->write_error == 0 && c->conn->ops->drained != NULL) {
        c->conn->ops->drained(c->conn);
    }
}

void env_uv_conn_write(struct env_conn *conn, struct env_write *w)
{
    struct conn *c = conn->impl;
    w->conn = conn;
    w->next = NULL;
    w->sent = 0;
    w->status = 0;
    if (c == NULL) { /* never opened */
        write_finished(env_uv_of(conn->env), w, -ECANCELED);
        return;
    }
    if (c->closing || c->write_error != 0) {
        write_finished(c->e, w, c->closing ? -ECANCELED : c->write_error);
        return;
    }
    *c->queue_end = w;
    c->queue_end = &w->next;
    c->queued += write_bytes(w);
    if (c->connected) {
        flush(c);
    }
}

size_t env_uv_conn_unsent(const struct env_conn *conn)
{
    const struct conn *c = conn->impl;
    if (c == NULL) {
        return 0;
    }
    size_t sent_of_flight = c->in_flight ? c->flight_bytes - uv_stream_get_write_queue_size((const uv_stream_t *)&c->tcp) : 0;
    return c->queued - sent_of_flight;
}

/* ---- receiving ------------------------------------------------------------------------------------------------------- */

static void read_alloc(uv_handle_t *handle, size_t suggested, uv_buf_t *buf)
{
    (void)suggested;
    struct conn *c = handle->data;
    if (c->conn != NULL && c->conn->ops->buffer != NULL) {
        void *base = NULL;
        size_t room = c->conn->ops->buffer(c->conn, &base);
        sluice_assert(room > 0 && base != NULL);
        buf->base = base;
        buf->len = min_u64(room, 1u << 30);
        return;
    }
    if (c->e->read_buf == NULL) {
        c->e->read_buf = xmalloc(READ_BUF_BYTES);
    }
    buf->base = c->e->read_buf;
    buf->len = READ_BUF_BYTES;
}

static void read_done(uv_stream_t *stream, ssize_t n, const uv_buf_t *buf)
{
    struct conn *c = stream->data;
    if (c->conn == NULL || c->closing || c->e->closing || n == 0) {
        return; /* n == 0 is libuv's "not now" */
    }
    env_uv_touch(c->e, true);
    if (n < 0) {
        uv_read_stop(stream);
        c->reading = false;
        c->read_ended = true;
        n = n == UV_EOF ? 0 : n;
    }
    c->conn->ops->read(c->conn, buf->base, n);
}

static void update_reading(struct conn *c)
{
    bool on = c->want_read && c->connected && !c->closing && !c->read_ended;
    if (on && !c->reading) {
        sluice_assert(uv_read_start((uv_stream_t *)&c->tcp, read_alloc, read_done) == 0);
    } else if (!on && c->reading) {
        uv_read_stop((uv_stream_t *)&c->tcp);
    }
    c->reading = on;
}

void env_uv_conn_read(struct env_conn *conn, bool on)
{
    struct conn *c = conn->impl;
    if (c != NULL) {
        c->want_read = on;
        update_reading(c);
    }
}

void env_uv_conn_peer(const struct env_conn *conn, char *buf, size_t n)
{
    const struct conn *c = conn->impl;
    struct sockaddr_storage addr;
    int len = sizeof addr;
    char host[64], port[8];
    if (c == NULL || !c->tcp_open || c->closing || uv_tcp_getpeername(&c->tcp, (struct sockaddr *)&addr, &len) != 0 ||
        getnameinfo((struct sockaddr *)&addr, (socklen_t)len, host, sizeof host, port, sizeof port,
                    NI_NUMERICHOST | NI_NUMERICSERV) != 0) {
        snprintf(buf, n, "?");
        return;
    }
    snprintf(buf, n, addr.ss_family == AF_INET6 ? "[%s]:%s" : "%s:%s", host, port);
}

/* ---- closing --------------------------------------------------------------------------------------------------------- */

/* When nothing of libuv's refers to it any more. */
static void maybe_closed(struct conn *c)
{
    if (c->tcp_open || c->looking_up) {
        return;
    }
    if (c->addrs != NULL) {
        uv_freeaddrinfo(c->addrs);
    }
    struct env_conn *conn = c->conn;
    struct env_uv *e = c->e;
    free(c);
    if (conn == NULL || e->closing) {
        return;
    }
    env_uv_touch(e, false);
    env_uv_writes_deliver(e); /* pending writes first */
    conn->impl = NULL;
    conn->ops->closed(conn);
}

static void tcp_closed(uv_handle_t *handle)
{
    struct conn *c = handle->data;
    c->tcp_open = false;
    maybe_closed(c);
}

static void close_handles(struct conn *c)
{
    c->closing = true;
    if (c->looking_up) {
        uv_cancel((uv_req_t *)&c->lookup_req); /* if it is running already its end is waited for */
    }
    if (c->tcp_open && !uv_is_closing((uv_handle_t *)&c->tcp)) {
        uv_close((uv_handle_t *)&c->tcp, tcp_closed);
    }
}

void env_uv_conn_close(struct env_conn *conn)
{
    struct conn *c = conn->impl;
    if (c == NULL || c->closing) {
        return;
    }
    fail_writes(c, -ECANCELED);
    c->reading = false;
    close_handles(c);
}

/* ---- connecting ------------------------------------------------------------------------------------------------------ */

static void tcp_init(struct conn *c)
{
    sluice_assert(uv_tcp_init(&c->e->loop, &c->tcp) == 0); /* makes no socket yet */
    c->tcp.data = c;
    c->tcp_open = true;
}

static struct conn *conn_new(struct env_uv *e, struct env_conn *conn)
{
    struct conn *c = calloc(1, sizeof *c);
    if (c != NULL) {
        c->e = e;
        c->conn = conn;
        c->queue_end = &c->queue;
        tcp_init(c);
    }
    return c;
}

/* The caller never hears of it: frees itself when the handle is closed. */
static void give_up(struct conn *c)
{
    c->conn = NULL;
    close_handles(c);
}

int env_uv_conn_take(struct env *env, struct env_conn *conn, int fd)
{
    struct conn *c = conn_new(env_uv_of(env), conn);
    if (c == NULL) {
        close(fd);
        return -ENOMEM;
    }
    int rc = uv_tcp_open(&c->tcp, fd);
    if (rc != 0) {
        close(fd);
        give_up(c);
        return rc;
    }
    uv_tcp_nodelay(&c->tcp, 1);
    c->connected = true;
    conn->impl = c;
    return 0;
}

static void try_next_addr(struct conn *c);

static void told(struct conn *c, int status)
{
    if (status != 0) {
        fail_writes(c, status);
    }
    if (c->conn->ops->connected != NULL) {
        c->conn->ops->connected(c->conn, status);
    }
}

/* A failed socket cannot be used for another address: close it, then try the next. */
static void tcp_closed_retry(uv_handle_t *handle)
{
    struct conn *c = handle->data;
    c->tcp_open = false;
    if (c->closing || c->conn == NULL || c->e->closing) {
        maybe_closed(c);
        return;
    }
    env_uv_touch(c->e, false);
    tcp_init(c);
    try_next_addr(c);
}

static void address_failed(struct conn *c, int status)
{
    if (c->next_addr != NULL) {
        uv_close((uv_handle_t *)&c->tcp, tcp_closed_retry);
    } else {
        told(c, status);
    }
}

static void connect_done(uv_connect_t *req, int status)
{
    struct conn *c = container_of(req, struct conn, connect_req);
    if (c->closing || c->conn == NULL || c->e->closing) {
        return; /* tcp_closed follows */
    }
    env_uv_touch(c->e, true);
    if (status == 0) {
        uv_tcp_nodelay(&c->tcp, 1);
        c->connected = true;
        told(c, 0);
        if (!c->closing) {
            update_reading(c);
            flush(c);
        }
    } else {
        address_failed(c, status);
    }
}

/* After a look-up, on a callback of libuv: failures are told at once. */
static void try_next_addr(struct conn *c)
{
    struct addrinfo *addr = c->next_addr;
    c->next_addr = addr->ai_next;
    int rc = uv_tcp_connect(&c->connect_req, &c->tcp, addr->ai_addr, connect_done);
    if (rc != 0) {
        address_failed(c, rc);
    }
}

static int lookup_error(int status)
{
    switch (status) {
    case UV_EAI_AGAIN:
        return -EAGAIN;
    case UV_EAI_MEMORY:
        return -ENOMEM;
    case UV_ECANCELED:
    case UV_EAI_CANCELED:
        return -ECANCELED;
    default:
        return -EHOSTUNREACH;
    }
}

static void lookup_done(uv_getaddrinfo_t *req, int status, struct addrinfo *res)
{
    struct conn *c = container_of(req, struct conn, lookup_req);
    c->looking_up = false;
    c->addrs = res;
    if (c->closing || c->conn == NULL || c->e->closing) {
        maybe_closed(c);
        return;
    }
    env_uv_touch(c->e, true);
    if (status != 0 && c->localhost_port != 0) {
        struct sockaddr_in loopback = {.sin_family = AF_INET, .sin_port = htons(c->localhost_port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
        status = uv_tcp_connect(&c->connect_req, &c->tcp, (const struct sockaddr *)&loopback, connect_done);
        if (status != 0) {
            told(c, status);
        }
        return;
    }
    if (status != 0) {
        told(c, lookup_error(status));
        return;
    }
    c->next_addr = res;
    try_next_addr(c);
}

int env_uv_connect(struct env *env, struct env_conn *conn, const char *host, uint16_t port)
{
    struct conn *c = conn_new(env_uv_of(env), conn);
    if (c == NULL) {
        return -ENOMEM;
    }
    char service[8];
    snprintf(service, sizeof service, "%u", port);
    struct addrinfo hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICHOST | AI_NUMERICSERV};
    struct addrinfo *res = NULL;
    int rc;
    if (getaddrinfo(host, service, &hints, &res) == 0) {
        rc = uv_tcp_connect(&c->connect_req, &c->tcp, res->ai_addr, connect_done);
        freeaddrinfo(res);
    } else {
        hints.ai_flags = AI_NUMERICSERV;
        c->localhost_port = strcasecmp(host, "localhost") == 0 ? port : 0;
        rc = uv_getaddrinfo(&c->e->loop, &c->lookup_req, lookup_done, host, service, &hints);
        c->looking_up = rc == 0;
    }
    if (rc != 0) {
        give_up(c);
        return rc;
    }
    conn->impl = c;
    return 0;
}

void env_uv_conn_abandon(uv_handle_t *handle)
{
    struct conn *c = handle->data;
    c->conn = NULL;
    close_handles(c);
}
