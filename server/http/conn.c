/* Connections (see http_impl.h).
 *
 * Normal course: accepted -> the first byte tells TLS from plain -> ALPN or the first bytes tell HTTP/2 from HTTP/1 -> its protocol takes all plain bytes. Output is
 * gathered over a turn and goes out as one write at its end; the next write starts when that one is done. With TLS a part of what was gathered is encrypted at a time,
 * so that a large answer is never there twice.
 * Ways to end: the peer closed or broke; conn_close() at once (time limits, protocol errors that leave nothing to say); or `close_after`: when everything is
 * written, with `close_linger` after a while in which the peer's bytes are thrown away, because closing a socket with unread bytes would destroy the answer
 * on its way. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "proto/base.h"
#include "server/http/http_impl.h"
#include "storage/env_tls.h"

enum { TLS_PART = 256 << 10, PREFACE_BYTES = 24, TLS_HANDSHAKE_BYTE = 0x16 };
static const char preface[] = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/* ---- bytes that wait ---- */

bool conn_keep(struct conn *c, const uint8_t *p, size_t n)
{
    if (c->in_cap - c->in_len < n) {
        size_t cap = max_u64(c->in_cap * 2, ALIGN_UP(c->in_len + n, 1024));
        if (!request_admitted(c, cap - c->in_cap)) {
            return false;
        }
        uint8_t *in = realloc(c->in, cap);
        if (in == NULL) {
            return false;
        }
        server_charge(c, cap - c->in_cap);
        c->in = in;
        c->in_cap = cap;
    }
    memcpy(c->in + c->in_len, p, n);
    c->in_len += n;
    return true;
}

void conn_drop_kept(struct conn *c)
{
    server_uncharge(c->server, c, c->in_cap);
    free(c->in);
    c->in = NULL;
    c->in_len = c->in_cap = 0;
}

void conn_read(struct conn *c, bool on)
{
    if (c->reading != on && c->state != CONN_CLOSING) {
        c->reading = on;
        env_conn_read(&c->io, on);
    }
}

void conn_dirty(struct conn *c)
{
    if (!c->in_dirty_list && c->state != CONN_CLOSING) {
        c->in_dirty_list = true;
        c->dirty_next = c->server->dirty;
        c->server->dirty = c;
        server_defer(c->server);
    }
}

/* ---- the end ---- */

void conn_close(struct conn *c)
{
    if (c->state == CONN_CLOSING) {
        return;
    }
    c->state = CONN_CLOSING;
    while (c->requests != NULL) {
        request_gone(c->requests);
    }
    env_conn_close(&c->io);
}

static void on_closed(struct env_conn *io)
{
    struct conn *c = io->user;
    struct http_server *s = c->server;
    sluice_assert(!c->in_flight && c->requests == NULL);
    if (c->protocol == &h2_protocol) {
        h2_end(c);
    }
    tls_close(c->tls);
    conn_drop_kept(c);
    out_batch_deinit(s, &c->building);
    out_batch_deinit(s, &c->flying);
    if (c->in_dirty_list) {
        struct conn **at = &s->dirty;
        while (*at != c) {
            at = &(*at)->dirty_next;
        }
        *at = c->dirty_next;
    }
    *c->prev = c->next;
    if (c->next != NULL) {
        c->next->prev = c->prev;
    }
    s->counters.connections--;
    free(c);
    server_defer(s); /* it may have been the last one */
}

/* All that was to be written is written. */
static void written_out(struct conn *c)
{
    if (c->tls != NULL && !c->tls_ended) {
        c->tls_ended = true;
        tls_end(c->tls);
        conn_dirty(c); /* once more, with the farewell */
        return;
    }
    if (!c->close_linger || c->eof) {
        conn_close(c);
        return;
    }
    c->state = CONN_LINGER;
    c->since_ms = env_now_ms(c->server->env);
    conn_read(c, true);
}

/* ---- out ---- */

static void on_written(struct env_write *w)
{
    struct conn *c = container_of(w, struct conn, write);
    c->in_flight = false;
    if (c->tls != NULL) {
        free(c->tls_iov.iov_base);
        c->tls_iov.iov_base = NULL;
    }
    if (c->state == CONN_CLOSING) {
        return; /* `closed` follows and frees */
    }
    if (w->status != 0) {
        conn_close(c);
        return;
    }
    if (c->tls == NULL || c->tls_at == c->flying.n_iov) {
        out_batch_clear(c->server, &c->flying);
        c->tls_at = 0;
    }
    conn_dirty(c);
}

static void write_iov(struct conn *c, const struct iovec *iov, unsigned n_iov, size_t bytes)
{
    struct http_server *s = c->server;
    if (!c->stall_watched) {
        c->stall_watched = true;
        c->taken_ms = env_now_ms(s->env);
        c->taken = c->sent;
    }
    c->in_flight = true;
    c->sent += bytes;
    s->counters.sent_bytes_total += bytes;
    c->write = (struct env_write){.iov = iov, .n_iov = n_iov};
    env_conn_write(&c->io, &c->write, on_written);
}

/* The next part of what flies, encrypted. */
static bool encrypt_part(struct conn *c)
{
    struct out_batch *b = &c->flying;
    char joint[4096]; /* small neighbours go into one record */
    while (c->tls_at < b->n_iov && tls_output_bytes(c->tls) < TLS_PART) {
        size_t n = 0;
        while (c->tls_at < b->n_iov && b->iov[c->tls_at].iov_len <= sizeof joint - n) {
            memcpy(joint + n, b->iov[c->tls_at].iov_base, b->iov[c->tls_at].iov_len);
            n += b->iov[c->tls_at++].iov_len;
        }
        if (n > 0) {
            if (tls_write(c->tls, joint, n) != 0) {
                return false;
            }
            continue;
        }
        struct iovec *iov = &b->iov[c->tls_at];
        size_t part = min_u64(iov->iov_len, TLS_PART);
        if (tls_write(c->tls, iov->iov_base, part) != 0) {
            return false;
        }
        if (part == iov->iov_len) {
            c->tls_at++;
        } else {
            iov->iov_base = (char *)iov->iov_base + part;
            iov->iov_len -= part;
        }
    }
    return true;
}

static void swap_batches(struct conn *c)
{
    struct out_batch empty = c->flying;
    sluice_assert(empty.n_iov == 0 && empty.n_bodies == 0);
    c->flying = c->building;
    c->building = empty;
}

static void start_write(struct conn *c)
{
    if (c->tls == NULL) {
        if (c->building.n_iov > 0) {
            swap_batches(c);
            write_iov(c, c->flying.iov, c->flying.n_iov, c->flying.bytes);
        }
        return;
    }
    if (c->flying.n_iov == 0 && c->building.n_iov > 0 && tls_ready(c->tls)) {
        swap_batches(c);
        c->tls_at = 0;
    }
    if (!encrypt_part(c)) {
        conn_close(c);
        return;
    }
    c->tls_iov.iov_base = tls_output_take(c->tls, &c->tls_iov.iov_len);
    if (c->tls_iov.iov_len > 0) {
        write_iov(c, &c->tls_iov, 1, c->tls_iov.iov_len);
    } else {
        free(c->tls_iov.iov_base);
        c->tls_iov.iov_base = NULL;
    }
}

void conn_flush(struct conn *c)
{
    if (c->abort) {
        conn_close(c);
    }
    if (c->state == CONN_CLOSING || c->in_flight) {
        return;
    }
    if (c->protocol != NULL && c->state == CONN_OPEN && !c->tls_ended && c->flying.n_iov == 0) {
        c->protocol->fill(c);
    }
    if (c->state == CONN_CLOSING || c->abort) {
        conn_close(c);
        return;
    }
    start_write(c);
    if (c->state == CONN_CLOSING || c->in_flight) {
        return;
    }
    c->stall_watched = false;
    if (c->state != CONN_LINGER && c->building.n_iov == 0 && (c->close_after || (c->protocol == &h2_protocol && h2_done(c)))) {
        written_out(c);
    }
}

/* ---- in ---- */

static void open_protocol(struct conn *c, const struct protocol *p)
{
    c->state = CONN_OPEN;
    c->protocol = p;
    if (p == &h1_protocol) {
        h1_start(c);
    } else if (!h2_start(c)) {
        conn_close(c);
    }
}

static void protocol_input(struct conn *c, const uint8_t *p, size_t n)
{
    if (c->state == CONN_OPEN && !c->close_after && !c->protocol->input(c, p, n)) {
        conn_close(c);
    }
}

/* Plain bytes. */
static void conn_input(struct conn *c, const uint8_t *p, size_t n)
{
    if (c->state != CONN_PREFACE) {
        protocol_input(c, p, n);
        return;
    }
    size_t known = c->in_len; /* of the preface */
    size_t k = 0;
    while (known + k < PREFACE_BYTES && k < n && p[k] == (uint8_t)preface[known + k]) {
        k++;
    }
    if (known + k == PREFACE_BYTES) {
        conn_drop_kept(c);
        open_protocol(c, &h2_protocol);
        protocol_input(c, (const uint8_t *)preface, PREFACE_BYTES);
        protocol_input(c, p + k, n - k);
    } else if (k == n) {
        if (!conn_keep(c, p, n)) {
            conn_close(c);
        }
    } else {
        open_protocol(c, &h1_protocol);
        protocol_input(c, p, n); /* behind what is kept */
    }
}

static void on_eof(struct conn *c)
{
    c->eof = true;
    if (c->close_after && c->state != CONN_LINGER) {
        conn_dirty(c); /* what is queued still goes out */
    } else if (c->state == CONN_OPEN) {
        c->protocol->eof(c);
        conn_dirty(c);
    } else {
        conn_close(c);
    }
}

static void tls_input(struct conn *c, const uint8_t *p, size_t n)
{
    struct http_server *s = c->server;
    tls_give(c->tls, p, n);
    for (;;) {
        ssize_t got = tls_read(c->tls, s->clear, sizeof s->clear);
        if (!c->handshaken && tls_ready(c->tls)) {
            c->handshaken = true;
            c->state = CONN_PREFACE;
            if (tls_alpn_is(c->tls, "h2")) {
                open_protocol(c, &h2_protocol);
            }
        }
        if (got > 0) {
            conn_input(c, s->clear, (size_t)got);
            if (c->state == CONN_CLOSING) {
                return;
            }
            continue;
        }
        if (tls_output_bytes(c->tls) > 0) {
            conn_dirty(c); /* handshake, alerts, key updates */
        }
        if (got == TLS_ENDED) {
            on_eof(c);
        } else if (got < 0) {
            s->counters.tls_failures_total++;
            while (c->requests != NULL) {
                request_gone(c->requests);
            }
            if (tls_output_bytes(c->tls) > 0 && !c->in_flight) {
                c->tls_ended = c->close_after = true; /* the alert, and that was it */
                out_batch_clear(s, &c->building);
                conn_read(c, false);
            } else {
                conn_close(c);
            }
        } else if (tls_output_bytes(c->tls) > TLS_PART) {
            conn_close(c); /* asks without ever reading */
        }
        return;
    }
}

static size_t on_buffer(struct env_conn *io, void **base)
{
    struct conn *c = io->user;
    if (c->tls == NULL && c->state == CONN_OPEN && c->protocol == &h1_protocol) {
        size_t room = h1_body_buffer(c, base);
        if (room > 0) {
            return room;
        }
    }
    *base = c->server->scratch;
    return sizeof c->server->scratch;
}

static void on_read(struct env_conn *io, void *data, ssize_t n)
{
    struct conn *c = io->user;
    struct http_server *s = c->server;
    if (n < 0) {
        conn_close(c);
    } else if (n == 0 && c->state != CONN_CLOSING) {
        on_eof(c);
    }
    if (n <= 0 || c->state == CONN_CLOSING) {
        return;
    }
    s->counters.received_bytes_total += (uint64_t)n;
    const uint8_t *p = data;
    if (c->state == CONN_FIRST_BYTE) {
        if (p[0] == TLS_HANDSHAKE_BYTE && s->tls != NULL) {
            c->tls = tls_open(s->tls);
        }
        if ((p[0] == TLS_HANDSHAKE_BYTE || s->o.tls_only) && c->tls == NULL) {
            s->counters.refused_bad_total++;
            conn_close(c);
            return;
        }
        c->state = c->tls != NULL ? CONN_HANDSHAKE : CONN_PREFACE;
    }
    if (c->state == CONN_LINGER || c->close_after) {
        return;
    }
    if (c->tls != NULL) {
        tls_input(c, p, (size_t)n);
    } else {
        conn_input(c, p, (size_t)n);
    }
}

static const struct env_conn_ops conn_ops = {.buffer = on_buffer, .read = on_read, .closed = on_closed};

/* ---- life ---- */

void conn_accept(struct http_server *s)
{
    struct conn *c = xcalloc(1, sizeof *c);
    c->io.ops = &conn_ops;
    c->io.user = c;
    c->server = s;
    if (env_accept(&s->listener, &c->io) != 0) {
        free(c);
        return;
    }
    c->next = s->connections;
    c->prev = &s->connections;
    if (c->next != NULL) {
        c->next->prev = &c->next;
    }
    s->connections = c;
    s->counters.connections++;
    s->counters.connections_total++;
    c->since_ms = env_now_ms(s->env);
    if (s->counters.connections > s->limits.connections_max || s->closing) {
        s->counters.connections_refused_total++;
        conn_close(c);
        return;
    }
    env_conn_peer(&c->io, c->peer, sizeof c->peer);
    conn_read(c, true);
}

/* Does the peer take what it is sent? */
static bool reader_stalls(struct conn *c, uint64_t now_ms)
{
    if (!c->in_flight) {
        return false;
    }
    const struct http_limits *l = &c->server->limits;
    uint64_t period = server_patience_ms(c->server, l->answer_ms);
    for (const struct request *r = c->requests; r != NULL; r = r->next) {
        if (r->state == REQUEST_STREAMING) {
            period = max_u64(period, l->stream_stall_ms);
        }
    }
    if (now_ms < c->taken_ms + period) {
        return false;
    }
    uint64_t taken = c->sent - env_conn_unsent(&c->io);
    if (taken - c->taken < min_u64(l->answer_min_bytes, c->sent - c->taken)) {
        return true;
    }
    c->taken_ms = now_ms;
    c->taken = taken;
    return false;
}

void conn_tick(struct conn *c, uint64_t now_ms)
{
    struct http_server *s = c->server;
    if (c->state == CONN_CLOSING) {
        return;
    }
    if (reader_stalls(c, now_ms)) {
        s->counters.slow_total++;
        conn_close(c);
    } else if (c->state == CONN_LINGER) {
        if (now_ms >= c->since_ms + s->limits.linger_ms) {
            conn_close(c);
        }
    } else if (c->state != CONN_OPEN) {
        if (now_ms >= c->since_ms + s->limits.head_ms) {
            s->counters.slow_total++;
            conn_close(c);
        }
    } else if (!c->close_after) {
        c->protocol->tick(c, now_ms);
    }
}

void conn_stop(struct conn *c)
{
    if (c->state == CONN_OPEN && !c->close_after) {
        c->protocol->stop(c);
        conn_dirty(c);
    } else if (c->state < CONN_OPEN) {
        conn_close(c);
    }
}
