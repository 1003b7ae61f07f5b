/* HTTP/2, the sending half: answers as frames (see http_impl.h).
 *
 * A stream has a queue of bodies. nghttp2 asks for bytes when windows allow: it is told how many (a frame never crosses from one body into the next, so that each write
 * of a streaming answer has frames of its own), and the frame goes into the batch as nine copied bytes and references to the owner's memory. */
#include <stdio.h>
#include <string.h>

#include "proto/base.h"
#include "server/http/h2_impl.h"

enum { BATCH_BYTES = 512 << 10 };

/* ---- frames ---- */

static ssize_t read_data(nghttp2_session *session, int32_t id, uint8_t *buf, size_t n, uint32_t *flags, nghttp2_data_source *source, void *user)
{
    (void)session;
    (void)id;
    (void)buf;
    (void)user;
    struct request *r = source->ptr;
    if (r->queue == NULL) {
        if (r->ending) {
            *flags |= NGHTTP2_DATA_FLAG_EOF;
            return 0;
        }
        r->deferred = true;
        return NGHTTP2_ERR_DEFERRED;
    }
    *flags |= NGHTTP2_DATA_FLAG_NO_COPY;
    n = min_u64(n, r->queue->left);
    if (n == r->queue->left && r->queue->next == NULL && r->ending) {
        *flags |= NGHTTP2_DATA_FLAG_EOF;
    }
    return (ssize_t)n;
}

int h2_send_data(nghttp2_session *session, nghttp2_frame *frame, const uint8_t *framehd, size_t length, nghttp2_data_source *source, void *user)
{
    (void)session;
    (void)frame;
    struct conn *c = user;
    struct request *r = source->ptr;
    if (c->building.bytes >= BATCH_BYTES) {
        return NGHTTP2_ERR_WOULDBLOCK; /* the rest with the next write */
    }
    struct out_body *b = r->queue;
    sluice_assert(b != NULL && b->left >= length);
    out_copy(c, framehd, 9);
    out_refer(c, b, length);
    r->taken += length;
    if (b->left == 0) {
        r->queue = b->next;
        if (r->queue == NULL) {
            r->queue_end = &r->queue;
        }
        out_body_unref(b);
    }
    return 0;
}

void h2_fill(struct conn *c)
{
    while (!c->close_after && c->building.bytes < BATCH_BYTES) { /* behind our own GOAWAY nothing follows */
        const uint8_t *p;
        ssize_t n = nghttp2_session_mem_send(c->h2.session, &p);
        if (n < 0) {
            c->abort = true;
            return;
        }
        if (n == 0) {
            return;
        }
        out_copy(c, p, (size_t)n);
    }
}

void h2_goaway(struct conn *c, uint32_t error)
{
    uint32_t last = (uint32_t)nghttp2_session_get_last_proc_stream_id(c->h2.session);
    uint8_t frame[17] = {0, 0, 8, NGHTTP2_GOAWAY, 0, 0, 0, 0, 0, (uint8_t)(last >> 24), (uint8_t)(last >> 16), (uint8_t)(last >> 8), (uint8_t)last,
                         (uint8_t)(error >> 24), (uint8_t)(error >> 16), (uint8_t)(error >> 8), (uint8_t)error};
    out_copy(c, frame, sizeof frame);
}

/* ---- heads ---- */

static nghttp2_nv nv(const char *name, size_t name_len, const char *value, size_t value_len)
{
    return (nghttp2_nv){.name = (uint8_t *)(uintptr_t)name, .namelen = name_len, .value = (uint8_t *)(uintptr_t)value, .valuelen = value_len, .flags = NGHTTP2_NV_FLAG_NONE};
}

/* length: UINT64_MAX if it is not told. data: a body follows. */
static void submit_head(struct request *r, const struct http_answer_head *head, uint64_t length, bool data)
{
    struct conn *c = r->conn;
    struct http_server *s = c->server;
    nghttp2_nv all[HTTP_ANSWER_HEADERS_MAX + 4];
    char status[8], digits[24], names[HTTP_ANSWER_HEAD_MAX];
    size_t n = 0, at = 0;
    all[n++] = nv(":status", 7, status, (size_t)snprintf(status, sizeof status, "%03d", head->status));
    all[n++] = nv("date", 4, server_date(s), strlen(server_date(s)));
    if (s->o.server_name != NULL) {
        all[n++] = nv("server", 6, s->o.server_name, strlen(s->o.server_name));
    }
    if (length != UINT64_MAX) {
        all[n++] = nv("content-length", 14, digits, (size_t)snprintf(digits, sizeof digits, "%llu", (unsigned long long)length));
    }
    for (unsigned i = 0; i < head->n_headers; i++) {
        const struct http_header *h = &head->headers[i];
        for (size_t k = 0; k < h->name.n; k++) {
            char x = h->name.p[k];
            names[at + k] = (char)(x >= 'A' && x <= 'Z' ? x | 0x20 : x);
        }
        all[n++] = nv(names + at, h->name.n, h->value.p, h->value.n);
        at += h->name.n;
    }
    nghttp2_data_provider provider = {.source.ptr = r, .read_callback = read_data};
    r->window_ms = env_now_ms(s->env);
    r->window_bytes = r->taken;
    if (nghttp2_submit_response(c->h2.session, r->stream_id, all, n, data ? &provider : NULL) != 0) {
        nghttp2_submit_rst_stream(c->h2.session, NGHTTP2_FLAG_NONE, r->stream_id, NGHTTP2_INTERNAL_ERROR);
    }
    conn_dirty(c);
}

static void enqueue(struct request *r, struct out_body *body)
{
    if (r->queue == NULL) {
        r->window_ms = env_now_ms(r->pub.server->env);
        r->window_bytes = r->taken;
    }
    body->next = NULL;
    *r->queue_end = body;
    r->queue_end = &body->next;
}

static void resume(struct request *r)
{
    if (r->deferred) {
        r->deferred = false;
        nghttp2_session_resume_data(r->conn->h2.session, r->stream_id);
    }
    conn_dirty(r->conn);
}

/* ---- answers ---- */

void h2_answer(struct request *r, const struct http_answer_head *head, struct out_body *body)
{
    uint64_t length = body != NULL ? body->total : 0;
    bool no_body = head->status == 204 || head->status == 304;
    bool data = length > 0 && !no_body && !r->head_only;
    r->ending = true;
    if (data) {
        enqueue(r, body);
    } else if (body != NULL) {
        out_body_unref(body);
    }
    submit_head(r, head, no_body ? UINT64_MAX : length, data);
}

void h2_refuse(struct request *r, int status)
{
    static const struct http_header headers[2] = {{{"content-type", 12}, {"text/plain; charset=utf-8", 25}}, {{"retry-after", 11}, {"1", 1}}};
    const char *text = http_status_text(status);
    struct iovec iov = {.iov_base = (void *)(uintptr_t)text, .iov_len = strlen(text)};
    r->refused = true;
    r->state = REQUEST_ENDED;
    h2_answer(r, &(struct http_answer_head){.status = status, .headers = headers, .n_headers = status == 503 ? 2 : 1},
              out_body_new(r, &(struct http_bytes){.iov = &iov, .n_iov = 1}));
    http_request_drop(&r->pub);
}

void h2_continue(struct request *r)
{
    nghttp2_nv status = nv(":status", 7, "100", 3);
    nghttp2_submit_headers(r->conn->h2.session, NGHTTP2_FLAG_NONE, r->stream_id, NULL, &status, 1, NULL);
    conn_dirty(r->conn);
}

void h2_stream_begin(struct request *r, const struct http_answer_head *head)
{
    submit_head(r, head, UINT64_MAX, true); /* also to HEAD: an empty frame at http_stream_end() ends the stream, so that it is not gone before */
}

void h2_stream_write(struct request *r, struct out_body *body)
{
    enqueue(r, body);
    resume(r);
}

void h2_stream_end(struct request *r)
{
    r->ending = true;
    resume(r);
}

void h2_stream_reset(struct request *r)
{
    nghttp2_submit_rst_stream(r->conn->h2.session, NGHTTP2_FLAG_NONE, r->stream_id, NGHTTP2_INTERNAL_ERROR);
    conn_dirty(r->conn);
}

bool h2_reader_stalls(struct request *r, uint64_t now_ms)
{
    const struct http_limits *l = &r->pub.server->limits;
    uint64_t period = r->state == REQUEST_STREAMING ? max_u64(l->stream_stall_ms, l->answer_ms) : server_patience_ms(r->pub.server, l->answer_ms);
    if (now_ms < r->window_ms + period) {
        return false;
    }
    if (r->taken - r->window_bytes < l->answer_min_bytes) {
        return true;
    }
    r->window_ms = now_ms;
    r->window_bytes = r->taken;
    return false;
}
