/* HTTP/2, the receiving half: session, header blocks, bodies, floods (see http_impl.h; h2_out.c answers).
 *
 * libnghttp2 reads and writes frames, keeps HPACK and flow control, and checks what RFC 9113 demands of frames and of header fields. Its own limits that are relied
 * on: 8 CONTINUATION frames a block, 1000 unsent acknowledgements, 32 settings a frame, resets (1000, then 33 a second). Ours: size and number of headers, size of
 * bodies, memory, frames that carry nothing, frames that wait to be sent.
 * Windows are opened for all that comes, since what is refused is thrown away: memory is bounded by refusing (413, 503) and not by letting a sender wait. */
#include <stdlib.h>
#include <string.h>

#include <nghttp2/nghttp2.h>

#include "proto/base.h"
#include "server/http/h2_impl.h"

enum { STREAM_WINDOW = 1 << 20, CONNECTION_WINDOW = 8 << 20, BLOCK_FIRST = 2048, OUTBOUND_MAX = 4000 };

static struct request *stream(nghttp2_session *session, int32_t id) { return nghttp2_session_get_stream_user_data(session, id); }

/* ---- floods ---- */

/* A frame that carries nothing (nghttp2 skips those of unknown types itself). Honest peers send few; whoever sends more than the bucket holds is cut off. */
static void take_token(struct conn *c)
{
    const struct http_limits *l = &c->server->limits;
    uint64_t now_ms = env_now_ms(c->server->env);
    uint64_t earned = (now_ms - c->h2.tokens_ms) * l->control_rate / 1000;
    if (earned > 0) {
        c->h2.tokens = min_u64(c->h2.tokens + earned, l->control_burst);
        c->h2.tokens_ms = now_ms;
    }
    if (c->h2.tokens == 0) {
        c->h2.flooded = true;
    } else {
        c->h2.tokens--;
    }
}

static int on_begin_frame(nghttp2_session *session, const nghttp2_frame_hd *hd, void *user)
{
    (void)session;
    struct conn *c = user;
    bool idle = hd->type == NGHTTP2_PING || hd->type == NGHTTP2_SETTINGS || hd->type == NGHTTP2_PRIORITY || hd->type == NGHTTP2_RST_STREAM ||
                (hd->type == NGHTTP2_DATA && hd->length == 0 && !(hd->flags & NGHTTP2_FLAG_END_STREAM));
    if (idle) {
        take_token(c);
    }
    return c->h2.flooded ? NGHTTP2_ERR_CALLBACK_FAILURE : 0;
}

/* A stream that we break off for the peer's fault costs it a token as well. */
static int on_frame_send(nghttp2_session *session, const nghttp2_frame *frame, void *user)
{
    struct conn *c = user;
    uint32_t error = frame->hd.type == NGHTTP2_RST_STREAM ? frame->rst_stream.error_code : frame->hd.type == NGHTTP2_GOAWAY ? frame->goaway.error_code : NGHTTP2_NO_ERROR;
    if (error != NGHTTP2_NO_ERROR && error != NGHTTP2_CANCEL && error != NGHTTP2_INTERNAL_ERROR) {
        c->server->counters.refused_bad_total++;
        take_token(c);
    }
    bool ends = (frame->hd.type == NGHTTP2_HEADERS || frame->hd.type == NGHTTP2_DATA) && (frame->hd.flags & NGHTTP2_FLAG_END_STREAM);
    struct request *r = ends ? stream(session, frame->hd.stream_id) : NULL;
    if (r != NULL && r->body_open && nghttp2_session_get_stream_remote_close(session, frame->hd.stream_id) == 0) {
        nghttp2_submit_rst_stream(session, NGHTTP2_FLAG_NONE, frame->hd.stream_id, NGHTTP2_NO_ERROR); /* answered: the rest of its body is not wanted */
    }
    return 0;
}

/* ---- header blocks ---- */

static int on_begin_headers(nghttp2_session *session, const nghttp2_frame *frame, void *user)
{
    struct conn *c = user;
    if (frame->hd.type == NGHTTP2_HEADERS && frame->headers.cat == NGHTTP2_HCAT_REQUEST) {
        struct request *r = request_new(c);
        r->stream_id = frame->hd.stream_id;
        r->pub.version = HTTP_2;
        r->body_open = true;
        c->h2.streams++;
        nghttp2_session_set_stream_user_data(session, r->stream_id, r);
        c->h2.block = r;
        r->head_since_ms = env_now_ms(c->server->env);
    }
    return 0;
}

static void rebase(struct http_view *v, const char *from, char *to) { v->p = v->p != NULL ? to + (v->p - from) : NULL; }

/* A copy in the request's block, whose views move with it. */
static struct http_view keep(struct request *r, const uint8_t *p, size_t n)
{
    if (r->block_cap - r->block_len < n) {
        size_t cap = max_u64(r->block_cap > 0 ? r->block_cap * 2 : BLOCK_FIRST, r->block_len + n);
        char *block = xmalloc(cap), *old = r->block;
        if (old != NULL) {
            memcpy(block, old, r->block_len);
            for (unsigned i = 0; i < r->n_headers; i++) {
                rebase(&r->headers[i].name, old, block);
                rebase(&r->headers[i].value, old, block);
            }
            rebase(&r->pub.method, old, block);
            rebase(&r->pub.target, old, block);
        }
        server_charge(r->conn, cap - r->block_cap);
        r->charged += cap - r->block_cap;
        r->block = block;
        r->block_cap = cap;
        free(old);
    }
    struct http_view v = {r->block + r->block_len, n};
    if (n > 0) {
        memcpy(r->block + r->block_len, p, n);
        r->block_len += n;
    }
    return v;
}

static void add_header(struct request *r, const uint8_t *name, size_t name_len, const uint8_t *value, size_t value_len)
{
    if (r->n_headers == r->pub.server->limits.headers_max) {
        r->bad = 431;
        return;
    }
    if (r->n_headers == r->cap_headers) {
        unsigned cap = r->cap_headers > 0 ? r->cap_headers * 2 : 16;
        r->headers = xrealloc(r->headers, cap * sizeof *r->headers);
        server_charge(r->conn, (cap - r->cap_headers) * sizeof *r->headers);
        r->charged += (cap - r->cap_headers) * sizeof *r->headers;
        r->cap_headers = cap;
    }
    struct http_header *h = &r->headers[r->n_headers];
    *h = (struct http_header){{"", 0}, {"", 0}}; /* not counted yet, so not moved */
    struct http_view kept_name = keep(r, name, name_len);
    r->n_headers++;
    h->name = kept_name;
    h->value = (struct http_view){kept_name.p, 0};
    h->value = keep(r, value, value_len);
}

static void look_at_header(struct request *r)
{
    const struct http_header *h = &r->headers[r->n_headers - 1];
    if (http_view_is(h->name, "content-length")) {
        if (!http_number(h->value, &r->body_expected)) {
            r->bad = 400;
        }
    } else if (http_view_is(h->name, "expect")) {
        r->expects = http_view_is_nocase(h->value, "100-continue");
        r->bad = r->expects ? r->bad : 417;
    } else if (http_view_is(h->name, "host")) {
        /* A second name of the host must be the same: what was signed and what is looked at must not differ. */
        const struct http_view *first = &h->value;
        for (unsigned i = 0; r->has_host && first == &h->value; i++) {
            first = http_view_is(r->headers[i].name, "host") ? &r->headers[i].value : first;
        }
        if (first->n != h->value.n || memcmp(first->p, h->value.p, first->n) != 0) {
            r->bad = 400;
        } else if (r->has_host) {
            r->n_headers--;
        }
        r->has_host = true;
    }
}

static int on_header(nghttp2_session *session, const nghttp2_frame *frame, const uint8_t *name, size_t name_len, const uint8_t *value, size_t value_len,
                     uint8_t flags, void *user)
{
    (void)flags;
    struct conn *c = user;
    struct request *r = frame->hd.type == NGHTTP2_HEADERS ? stream(session, frame->hd.stream_id) : NULL;
    if (r == NULL) {
        return 0;
    }
    r->head_bytes += name_len + value_len + 32;
    if (r->head_bytes > c->server->limits.head_max) {
        r->bad = 431;
        /* HPACK makes large out of small: whoever goes on far above what he was told is cut off. */
        c->h2.flooded = c->h2.flooded || r->head_bytes > 16 * c->server->limits.head_max;
        return c->h2.flooded ? NGHTTP2_ERR_CALLBACK_FAILURE : 0;
    }
    if (r->bad != 0 || r->state != REQUEST_READING || frame->headers.cat != NGHTTP2_HCAT_REQUEST) {
        return 0; /* trailers are not looked at */
    }
    if (name_len > 0 && name[0] == ':') {
        struct http_view n = {(const char *)name, name_len};
        if (http_view_is(n, ":method")) {
            r->pub.method = keep(r, value, value_len);
        } else if (http_view_is(n, ":path")) {
            r->pub.target = keep(r, value, value_len);
        } else if (http_view_is(n, ":authority")) {
            add_header(r, (const uint8_t *)"host", 4, value, value_len);
            r->has_host = true;
        }
        return 0;
    }
    unsigned before = r->n_headers;
    add_header(r, name, name_len, value, value_len);
    if (r->n_headers > before) {
        look_at_header(r);
    }
    return 0;
}

static void refuse(struct request *r, int status)
{
    struct http_counters *n = &r->pub.server->counters;
    *(status == 413 || status == 431 ? &n->refused_large_total : status == 503 ? &n->refused_memory_total : status == 408 ? &n->slow_total : &n->refused_bad_total) += 1;
    h2_refuse(r, status);
}

static void head_complete(struct conn *c, struct request *r, bool ends)
{
    struct http_server *s = c->server;
    c->h2.block = NULL;
    if (r->bad == 0 && !request_split_target(r, r->pub.target)) {
        r->bad = 400;
    }
    if (r->bad == 0 && r->body_expected != UINT64_MAX && r->body_expected > s->limits.body_max) {
        r->bad = 413;
    }
    if (r->bad == 0 && !request_admitted(c, ends ? 0 : r->body_expected)) {
        r->bad = 503;
    }
    r->body_open = !ends;
    r->window_ms = env_now_ms(s->env);
    if (r->bad != 0) {
        refuse(r, r->bad);
    } else if (ends) {
        request_hand_out(r);
    } else if (r->expects) {
        h2_continue(r);
    }
}

static int on_frame_recv(nghttp2_session *session, const nghttp2_frame *frame, void *user)
{
    struct conn *c = user;
    bool ends = frame->hd.flags & NGHTTP2_FLAG_END_STREAM;
    struct request *r = frame->hd.type == NGHTTP2_HEADERS || frame->hd.type == NGHTTP2_DATA ? stream(session, frame->hd.stream_id) : NULL;
    if (r == NULL) {
        return 0;
    }
    if (frame->hd.type == NGHTTP2_HEADERS && frame->headers.cat == NGHTTP2_HCAT_REQUEST) {
        head_complete(c, r, ends);
    } else if (ends && r->state == REQUEST_READING) {
        request_hand_out(r); /* nghttp2 has compared the body with content-length */
    } else if (ends) {
        r->body_open = false; /* it was refused */
    }
    return 0;
}

/* ---- bodies ---- */

static int on_data(nghttp2_session *session, uint8_t flags, int32_t id, const uint8_t *p, size_t n, void *user)
{
    (void)flags;
    struct conn *c = user;
    nghttp2_session_consume(session, id, n);
    struct request *r = stream(session, id);
    if (r == NULL || r->state != REQUEST_READING) {
        return 0;
    }
    if (n > c->server->limits.body_max - r->body_len) {
        refuse(r, 413);
    } else if (!request_body_room(r, r->body_len + n)) {
        refuse(r, 503);
    } else if (n > 0) {
        memcpy(r->body + r->body_len, p, n);
        r->body_len += n;
    }
    return 0;
}

static int on_stream_close(nghttp2_session *session, int32_t id, uint32_t error, void *user)
{
    (void)error;
    struct conn *c = user;
    struct request *r = stream(session, id);
    if (r == NULL) {
        return 0;
    }
    nghttp2_session_set_stream_user_data(session, id, NULL);
    if (c->h2.block == r) {
        c->h2.block = NULL;
    }
    r->stream_id = 0;
    c->h2.streams--;
    c->h2.last_ms = env_now_ms(c->server->env);
    request_gone(r);
    return 0;
}

/* ---- the session ---- */

bool h2_init(struct http_server *s)
{
    if (nghttp2_session_callbacks_new(&s->h2_callbacks) != 0 || nghttp2_option_new(&s->h2_options) != 0) {
        h2_deinit(s);
        return false;
    }
    nghttp2_session_callbacks *b = s->h2_callbacks;
    nghttp2_session_callbacks_set_on_begin_frame_callback(b, on_begin_frame);
    nghttp2_session_callbacks_set_on_frame_send_callback(b, on_frame_send);
    nghttp2_session_callbacks_set_on_begin_headers_callback(b, on_begin_headers);
    nghttp2_session_callbacks_set_on_header_callback(b, on_header);
    nghttp2_session_callbacks_set_on_frame_recv_callback(b, on_frame_recv);
    nghttp2_session_callbacks_set_on_data_chunk_recv_callback(b, on_data);
    nghttp2_session_callbacks_set_on_stream_close_callback(b, on_stream_close);
    nghttp2_session_callbacks_set_send_data_callback(b, h2_send_data);
    nghttp2_option_set_no_auto_window_update(s->h2_options, 1);
    nghttp2_option_set_no_closed_streams(s->h2_options, 1); /* they would be kept for priorities, which nobody uses */
    nghttp2_option_set_max_send_header_block_length(s->h2_options, HTTP_ANSWER_HEAD_MAX * 2);
    return true;
}

void h2_deinit(struct http_server *s)
{
    nghttp2_session_callbacks_del(s->h2_callbacks);
    nghttp2_option_del(s->h2_options);
    s->h2_callbacks = NULL;
    s->h2_options = NULL;
}

bool h2_start(struct conn *c)
{
    struct http_server *s = c->server;
    memset(&c->h2, 0, sizeof c->h2);
    c->h2.tokens = s->limits.control_burst;
    c->h2.tokens_ms = c->h2.last_ms = env_now_ms(s->env);
    if (nghttp2_session_server_new2(&c->h2.session, s->h2_callbacks, c, s->h2_options) != 0) {
        return false;
    }
    nghttp2_settings_entry settings[] = {
        {NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS, (uint32_t)s->limits.streams_max},
        {NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, STREAM_WINDOW},
        {NGHTTP2_SETTINGS_MAX_HEADER_LIST_SIZE, (uint32_t)s->limits.head_max},
    };
    conn_dirty(c);
    return nghttp2_submit_settings(c->h2.session, NGHTTP2_FLAG_NONE, settings, ARRAY_LEN(settings)) == 0 &&
           nghttp2_session_set_local_window_size(c->h2.session, NGHTTP2_FLAG_NONE, 0, CONNECTION_WINDOW) == 0;
}

void h2_end(struct conn *c)
{
    nghttp2_session_del(c->h2.session);
    c->h2.session = NULL;
}

/* Cuts the peer off, with the reason, and forgets what was under way. */
static void cut_off(struct conn *c, uint32_t error)
{
    h2_goaway(c, error);
    c->close_after = c->close_linger = true;
    while (c->requests != NULL) {
        struct request *r = c->requests;
        if (r->stream_id != 0) {
            nghttp2_session_set_stream_user_data(c->h2.session, r->stream_id, NULL);
        }
        request_gone(r);
    }
    conn_dirty(c);
}

static bool h2_input(struct conn *c, const uint8_t *p, size_t n)
{
    struct http_counters *counters = &c->server->counters;
    ssize_t used = nghttp2_session_mem_recv(c->h2.session, p, n);
    bool flooded = c->h2.flooded || used == NGHTTP2_ERR_FLOODED || nghttp2_session_get_outbound_queue_size(c->h2.session) > OUTBOUND_MAX;
    if (flooded) {
        counters->floods_total++;
        cut_off(c, NGHTTP2_ENHANCE_YOUR_CALM);
    } else if (used < 0) {
        counters->refused_bad_total++;
        cut_off(c, NGHTTP2_PROTOCOL_ERROR);
    }
    conn_dirty(c);
    return true;
}

static void h2_eof(struct conn *c) { conn_close(c); }

bool h2_done(struct conn *c) { return nghttp2_session_want_read(c->h2.session) == 0 && nghttp2_session_want_write(c->h2.session) == 0; }

static void h2_tick(struct conn *c, uint64_t now_ms)
{
    const struct http_limits *l = &c->server->limits;
    if (c->h2.block != NULL && now_ms >= c->h2.block->head_since_ms + l->head_ms) {
        c->server->counters.slow_total++;
        cut_off(c, NGHTTP2_ENHANCE_YOUR_CALM);
        return;
    }
    if (c->h2.streams == 0 && now_ms >= c->h2.last_ms + l->idle_ms) {
        nghttp2_session_terminate_session(c->h2.session, NGHTTP2_NO_ERROR);
        conn_dirty(c);
        return;
    }
    for (struct request *r = c->requests; r != NULL; r = r->next) {
        if (r->state == REQUEST_READING) {
            if (c->h2.block != r && request_body_slow(r, now_ms)) {
                refuse(r, 408);
            }
        } else if (r->queue != NULL && h2_reader_stalls(r, now_ms)) {
            c->server->counters.slow_total++;
            nghttp2_submit_rst_stream(c->h2.session, NGHTTP2_FLAG_NONE, r->stream_id, NGHTTP2_CANCEL);
            conn_dirty(c);
        }
    }
}

/* Streams that are open are answered; later ones the peer may send again elsewhere, as GOAWAY tells it. */
static void h2_stop(struct conn *c)
{
    nghttp2_submit_goaway(c->h2.session, NGHTTP2_FLAG_NONE, nghttp2_session_get_last_proc_stream_id(c->h2.session), NGHTTP2_NO_ERROR, NULL, 0);
}

const struct protocol h2_protocol = {
    .input = h2_input, .eof = h2_eof, .fill = h2_fill, .tick = h2_tick, .stop = h2_stop,
    .answer = h2_answer, .stream_begin = h2_stream_begin, .stream_write = h2_stream_write, .stream_end = h2_stream_end, .stream_reset = h2_stream_reset,
};
