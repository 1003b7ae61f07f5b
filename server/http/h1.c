/* HTTP/1.1 and 1.0: one request at a time per connection (see http_impl.h).
 *
 * Normal course: HEAD (bytes are kept until the empty line came) -> BODY or CHUNKED -> BUSY (the owner's; pipelined bytes wait, up to a bound) -> the answer -> HEAD.
 * What cannot be a request is refused with a short answer, then the connection ends (LAST): behind a malformed request nothing can be trusted. */
#include <stdio.h>
#include <string.h>

#include "proto/base.h"
#include "server/http/http_impl.h"

enum { KEPT_MAX = 64 << 10, UNSENT_MAX = 1 << 20 };

void h1_start(struct conn *c)
{
    memset(&c->h1, 0, sizeof c->h1);
    c->h1.state = H1_HEAD;
    c->h1.keep_alive = true;
    c->first_byte = true; /* since_ms is that of the connection: a first request must come soon */
}

/* ---- heads of answers ---- */

static char *append(char *at, const char *p, size_t n)
{
    memcpy(at, p, n);
    return at + n;
}

static char *append_text(char *at, const char *s) { return append(at, s, strlen(s)); }

/* body: how it ends. */
enum framing { FRAMING_NONE, FRAMING_LENGTH, FRAMING_CHUNKED, FRAMING_CLOSE };

static void write_head(struct conn *c, const struct http_answer_head *head, enum framing framing, size_t length)
{
    struct http_server *s = c->server;
    const char *name = s->o.server_name;
    size_t room = 256 + (name != NULL ? strlen(name) : 0);
    for (unsigned i = 0; i < head->n_headers; i++) {
        room += head->headers[i].name.n + head->headers[i].value.n + 4;
    }
    char *begin = out_reserve(c, room), *at = begin;
    at += snprintf(at, 96, "HTTP/1.1 %d %s\r\nDate: ", head->status, http_status_text(head->status));
    at = append_text(at, server_date(s));
    at = append_text(at, "\r\n");
    if (name != NULL) {
        at = append_text(append_text(append_text(at, "Server: "), name), "\r\n");
    }
    if (framing == FRAMING_LENGTH) {
        at += snprintf(at, 48, "Content-Length: %zu\r\n", length);
    } else if (framing == FRAMING_CHUNKED) {
        at = append_text(at, "Transfer-Encoding: chunked\r\n");
    }
    if (!c->h1.keep_alive) {
        at = append_text(at, "Connection: close\r\n");
    }
    for (unsigned i = 0; i < head->n_headers; i++) {
        const struct http_header *h = &head->headers[i];
        at = append(append(append(append(at, h->name.p, h->name.n), ": ", 2), h->value.p, h->value.n), "\r\n", 2);
    }
    at = append_text(at, "\r\n");
    sluice_assert((size_t)(at - begin) <= room);
    out_commit(c, (size_t)(at - begin));
    conn_dirty(c);
}

/* No further request on this connection. */
static void last(struct conn *c, bool linger)
{
    c->h1.state = H1_LAST;
    c->h1.keep_alive = false;
    c->close_after = true;
    c->close_linger = linger;
    conn_drop_kept(c);
    conn_dirty(c);
}

static void drop_request(struct conn *c)
{
    struct request *r = c->h1.req;
    if (r != NULL) {
        c->h1.req = NULL;
        request_detach(r);
        request_unref(r);
    }
}

/* Answers what is not handed out. */
static void refuse(struct conn *c, int status, const char *why)
{
    struct http_counters *n = &c->server->counters;
    *(status == 413 || status == 431 ? &n->refused_large_total : status == 503 ? &n->refused_memory_total : status == 408 ? &n->slow_total : &n->refused_bad_total) += 1;
    drop_request(c);
    c->h1.keep_alive = false;
    struct http_header headers[2] = {{http_view_of("Content-Type"), http_view_of("text/plain; charset=utf-8")}, {http_view_of("Retry-After"), http_view_of("1")}};
    char text[128];
    int len = snprintf(text, sizeof text, "%s\n", why);
    write_head(c, &(struct http_answer_head){.status = status, .headers = headers, .n_headers = status == 503 ? 2 : 1}, FRAMING_LENGTH, (size_t)len);
    out_copy(c, text, (size_t)len);
    last(c, true);
}

/* ---- in ---- */

static const char *why_refused(int status)
{
    switch (status) {
    case 413: return "the body is larger than is taken here";
    case 417: return "only 100-continue can be expected";
    case 431: return "the head of the request is too large";
    case 501: return "the only transfer encoding taken is chunked";
    case 503: return "too much is under way, try again";
    case 505: return "HTTP/1.1, 1.0 and 2 are spoken here";
    default: return "malformed request";
    }
}

static void body_complete(struct conn *c)
{
    c->h1.state = H1_BUSY;
    request_hand_out(c->h1.req);
}

/* The head is p[0, n). */
static void head_complete(struct conn *c, const char *p, size_t n, bool more_here)
{
    const struct http_limits *l = &c->server->limits;
    unsigned lines = 0;
    for (const char *lf = p; (lf = memchr(lf, '\n', (size_t)(p + n - lf))) != NULL; lf++) {
        lines++;
    }
    lines -= 2; /* request line, empty line */
    if (lines > l->headers_max) {
        refuse(c, 431, why_refused(431));
        return;
    }
    size_t headers_bytes = lines * sizeof(struct http_header);
    struct request *r = c->h1.req = request_new(c);
    r->block = xmalloc(n);
    r->headers = xmalloc(headers_bytes > 0 ? headers_bytes : 1);
    memcpy(r->block, p, n);
    r->charged = n + headers_bytes;
    server_charge(c, r->charged);
    struct h1_head head;
    int status = h1_head_parse(r->block, n, r->headers, lines, &head);
    if (status == 0) {
        r->n_headers = head.n_headers;
        r->pub.method = head.method;
        r->pub.version = head.version;
        status = !request_split_target(r, head.target) ? 400 : 0;
    }
    if (status == 0 && head.content_length != UINT64_MAX && head.content_length > l->body_max) {
        status = 413;
    }
    if (status == 0 && !request_admitted(c, head.content_length)) {
        status = 503;
    }
    if (status != 0) {
        refuse(c, status, why_refused(status));
        return;
    }
    c->h1.keep_alive = head.keep_alive && !c->server->closing;
    if (!head.chunked && (head.content_length == UINT64_MAX || head.content_length == 0)) {
        body_complete(c);
        return;
    }
    r->body_open = true;
    r->body_expected = head.chunked ? UINT64_MAX : head.content_length;
    r->window_ms = env_now_ms(c->server->env);
    c->h1.state = head.chunked ? H1_CHUNKED : H1_BODY;
    c->h1.chunks = (struct h1_chunks){0};
    if (head.expect_continue && !more_here) {
        static const char go_on[] = "HTTP/1.1 100 Continue\r\n\r\n";
        out_copy(c, go_on, sizeof go_on - 1);
        conn_dirty(c);
    }
}

static bool add_body(struct conn *c, const uint8_t *p, size_t n)
{
    struct request *r = c->h1.req;
    if (n > c->server->limits.body_max - r->body_len) {
        refuse(c, 413, why_refused(413));
        return false;
    }
    if (!request_body_room(r, r->body_len + n)) {
        refuse(c, 503, why_refused(503));
        return false;
    }
    memcpy(r->body + r->body_len, p, n);
    r->body_len += n;
    return true;
}

size_t h1_body_buffer(struct conn *c, void **base)
{
    struct request *r = c->h1.req;
    if (c->h1.state != H1_BODY || c->in_len > 0 || !request_body_room(r, r->body_len + 1)) {
        return 0;
    }
    *base = r->body + r->body_len;
    return r->body_cap - r->body_len;
}

/* Uses what it can of the bytes; returns how many. */
static size_t take(struct conn *c, const uint8_t *p, size_t n)
{
    struct h1 *h = &c->h1;
    struct http_server *s = c->server;
    size_t at = 0;
    while (at < n && c->state == CONN_OPEN && !c->abort) {
        if (h->state == H1_HEAD) {
            if (c->building.bytes > UNSENT_MAX || (c->in_flight && c->flying.bytes > UNSENT_MAX)) {
                return at; /* it does not read its answers */
            }
            if (h->scanned == 0 && !h->blank && p[at] == '\r' && (n - at == 1 || p[at + 1] == '\n')) {
                if (n - at == 1) {
                    return at;
                }
                h->blank = true; /* RFC 9112, 2.2: an empty line behind the body before */
                at += 2;
                continue;
            }
            long len = h1_head_end((const char *)p + at, n - at, &h->scanned);
            if (len < 0) {
                refuse(c, 400, why_refused(400));
            } else if ((len == 0 && n - at >= s->limits.head_max) || (size_t)len > s->limits.head_max) {
                refuse(c, 431, why_refused(431));
            } else if (len == 0) {
                return at;
            } else {
                h->scanned = 0;
                h->blank = false;
                head_complete(c, (const char *)p + at, (size_t)len, n - at > (size_t)len);
                at += (size_t)len;
            }
        } else if (h->state == H1_BODY) {
            struct request *r = h->req;
            size_t part = (size_t)min_u64(n - at, r->body_expected - r->body_len);
            if (add_body(c, p + at, part)) {
                at += part;
                if (r->body_len == r->body_expected) {
                    body_complete(c);
                }
            }
        } else if (h->state == H1_CHUNKED) {
            const uint8_t *data;
            size_t len;
            at += h1_chunks_next(&h->chunks, p + at, n - at, &data, &len);
            if (len > 0 && !add_body(c, data, len)) {
                break;
            }
            if (h->chunks.state == H1_CHUNKS_BAD) {
                refuse(c, 400, "malformed chunk");
            } else if (h->chunks.state == H1_CHUNK_DATA && h->chunks.left > c->server->limits.body_max - h->req->body_len) {
                refuse(c, 413, why_refused(413)); /* before it comes */
            } else if (h->chunks.state == H1_CHUNKS_DONE) {
                body_complete(c);
            }
        } else if (h->state == H1_BUSY) {
            return at;
        } else {
            return n;
        }
    }
    return h->state == H1_LAST ? n : at;
}

/* Goes on with what is kept. */
static void take_kept(struct conn *c)
{
    size_t used = take(c, c->in, c->in_len);
    if (c->in_len > 0 && used >= c->in_len) {
        conn_drop_kept(c);
    } else if (used > 0 && c->in_len > 0) {
        memmove(c->in, c->in + used, c->in_len - used);
        c->in_len -= used;
    }
    conn_read(c, c->in_len <= KEPT_MAX + c->server->limits.head_max || (c->h1.state != H1_BUSY && !c->in_flight));
}

static bool h1_input(struct conn *c, const uint8_t *p, size_t n)
{
    struct h1 *h = &c->h1;
    struct request *r = h->req;
    if (h->state == H1_BODY && p == r->body + r->body_len) { /* it landed where it stays */
        r->body_len += n;
        if (r->body_len == r->body_expected) {
            body_complete(c);
        }
        return true;
    }
    if (h->state == H1_HEAD && !c->first_byte) {
        c->first_byte = true;
        c->since_ms = env_now_ms(c->server->env);
    }
    size_t used = c->in_len == 0 ? take(c, p, n) : 0;
    if (used == n || h->state == H1_LAST || c->state != CONN_OPEN) {
        return true;
    }
    if (!conn_keep(c, p + used, n - used)) {
        if (h->state == H1_BUSY) {
            return false;
        }
        refuse(c, 503, why_refused(503));
        return true;
    }
    take_kept(c);
    return true;
}

/* The peer may have closed its sending side only: what it asked for is still answered. But nobody streams to a peer that may be gone. */
static void h1_eof(struct conn *c)
{
    bool pending = c->in_flight || c->building.n_iov > 0;
    if (c->h1.state == H1_BUSY && c->h1.req->state != REQUEST_STREAMING) {
        c->h1.keep_alive = false;
    } else if (c->h1.state == H1_HEAD && pending) {
        last(c, false);
    } else {
        conn_close(c);
    }
}

static void h1_fill(struct conn *c)
{
    if (c->eof && c->h1.state == H1_BUSY && c->h1.req->state == REQUEST_STREAMING) {
        conn_close(c);
    } else if (c->h1.state == H1_HEAD && c->in_len > 0) {
        take_kept(c);
    }
}

/* ---- out ---- */

/* The answer is queued: what comes next? */
static void answered(struct conn *c)
{
    drop_request(c);
    if (!c->h1.keep_alive || c->server->closing || c->eof) {
        last(c, false);
        return;
    }
    c->h1.state = H1_HEAD;
    c->since_ms = env_now_ms(c->server->env);
    c->first_byte = c->in_len > 0;
    conn_dirty(c); /* pipelined requests wait for that */
}

static void h1_answer(struct request *r, const struct http_answer_head *head, struct out_body *body)
{
    struct conn *c = r->conn;
    bool no_body = head->status == 204 || head->status == 304;
    c->h1.keep_alive = c->h1.keep_alive && !c->server->closing && !c->eof;
    write_head(c, head, no_body ? FRAMING_NONE : FRAMING_LENGTH, body != NULL ? body->total : 0);
    if (body != NULL) {
        if (!no_body && !r->head_only && body->total > 0) {
            out_refer(c, body, body->total);
        }
        out_body_unref(body);
    }
    answered(c);
}

static void h1_stream_begin(struct request *r, const struct http_answer_head *head)
{
    struct conn *c = r->conn;
    c->h1.chunked_answer = r->pub.version == HTTP_1_1;
    c->h1.keep_alive = c->h1.keep_alive && c->h1.chunked_answer && !c->server->closing;
    write_head(c, head, c->h1.chunked_answer ? FRAMING_CHUNKED : FRAMING_CLOSE, 0);
}

static void h1_stream_write(struct request *r, struct out_body *body)
{
    struct conn *c = r->conn;
    char size[24];
    if (c->h1.chunked_answer) {
        out_copy(c, size, (size_t)snprintf(size, sizeof size, "%zx\r\n", body->total));
    }
    out_refer(c, body, body->total);
    if (c->h1.chunked_answer) {
        out_copy(c, "\r\n", 2);
    }
    out_body_unref(body);
    conn_dirty(c);
}

static void h1_stream_end(struct request *r)
{
    struct conn *c = r->conn;
    if (c->h1.chunked_answer && !r->head_only) {
        out_copy(c, "0\r\n\r\n", 5);
    }
    answered(c);
}

static void h1_stream_reset(struct request *r)
{
    struct conn *c = r->conn;
    drop_request(c);
    c->h1.state = H1_LAST;
    c->abort = true;
    conn_dirty(c);
}

/* ---- time, end ---- */

static void h1_tick(struct conn *c, uint64_t now_ms)
{
    const struct http_limits *l = &c->server->limits;
    switch (c->h1.state) {
    case H1_HEAD:
        if (c->in_flight) {
            break; /* it is still taking the answer before */
        }
        if (!c->first_byte && now_ms >= c->since_ms + l->idle_ms) {
            c->close_after = true;
            conn_dirty(c);
        } else if (c->first_byte && now_ms >= c->since_ms + l->head_ms) {
            refuse(c, 408, "the head of the request did not come in time");
        }
        break;
    case H1_BODY:
    case H1_CHUNKED:
        if (request_body_slow(c->h1.req, now_ms)) {
            refuse(c, 408, "the body came too slowly");
        }
        break;
    default:
        break;
    }
}

static void h1_stop(struct conn *c)
{
    if (c->h1.state == H1_HEAD && c->in_len == 0) {
        c->close_after = true;
    }
}

const struct protocol h1_protocol = {
    .input = h1_input, .eof = h1_eof, .fill = h1_fill, .tick = h1_tick, .stop = h1_stop,
    .answer = h1_answer, .stream_begin = h1_stream_begin, .stream_write = h1_stream_write, .stream_end = h1_stream_end, .stream_reset = h1_stream_reset,
};
