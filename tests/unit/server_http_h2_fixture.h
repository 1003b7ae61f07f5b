/* server_http_h2_fixture.h: an HTTP/2 client on a peer of the simulated world: nghttp2's client for what is right, raw frames for what is not. */
#ifndef SLUICE_SERVER_HTTP_H2_FIXTURE_H
#define SLUICE_SERVER_HTTP_H2_FIXTURE_H

#include "server_http_fixture.h"

#include <nghttp2/nghttp2.h>

enum { REPLIES_MAX = 4096 };

struct reply {
    int status;
    char retry_after[8];
    char *body;
    size_t n, cap;
    bool ended;      /* END_STREAM came */
    bool closed;
    uint32_t error;  /* with which it was closed */
    unsigned frames; /* DATA frames with bytes */
    size_t lengths[16];
};

struct h2_client {
    struct peer *peer;
    nghttp2_session *session;
    struct reply replies[REPLIES_MAX]; /* by stream id / 2 */
    bool goaway, acked;
    uint32_t goaway_error;
    int32_t goaway_last;
    bool hold_windows; /* does not read: windows stay shut */
    const uint8_t *upload;
    size_t upload_left;
};

static inline struct reply *reply_of(struct h2_client *h, int32_t id) { return &h->replies[id / 2]; }

static inline int hc_header(nghttp2_session *s, const nghttp2_frame *f, const uint8_t *name, size_t n, const uint8_t *value, size_t vn, uint8_t flags, void *user)
{
    (void)s;
    (void)flags;
    struct reply *r = reply_of(user, f->hd.stream_id);
    if (n == 7 && memcmp(name, ":status", 7) == 0) {
        r->status = atoi((const char *)value);
    } else if (n == 11 && memcmp(name, "retry-after", 11) == 0) {
        snprintf(r->retry_after, sizeof r->retry_after, "%.*s", (int)vn, value);
    }
    return 0;
}

static inline int hc_data(nghttp2_session *s, uint8_t flags, int32_t id, const uint8_t *p, size_t n, void *user)
{
    (void)flags;
    struct h2_client *h = user;
    struct reply *r = reply_of(h, id);
    if (r->cap - r->n < n + 1) {
        r->cap = (r->n + n + 1) * 2;
        r->body = realloc(r->body, r->cap);
    }
    memcpy(r->body + r->n, p, n);
    r->n += n;
    r->body[r->n] = '\0';
    if (!h->hold_windows) {
        nghttp2_session_consume(s, id, n);
    }
    return 0;
}

static inline int hc_frame(nghttp2_session *s, const nghttp2_frame *f, void *user)
{
    (void)s;
    struct h2_client *h = user;
    if (f->hd.type == NGHTTP2_GOAWAY) {
        h->goaway = true;
        h->goaway_error = f->goaway.error_code;
        h->goaway_last = f->goaway.last_stream_id;
    } else if (f->hd.type == NGHTTP2_DATA) {
        struct reply *r = reply_of(h, f->hd.stream_id);
        r->ended = r->ended || (f->hd.flags & NGHTTP2_FLAG_END_STREAM);
        if (f->hd.length > 0) {
            r->lengths[r->frames++ % 16] = f->hd.length;
        }
    } else if (f->hd.type == NGHTTP2_HEADERS && (f->hd.flags & NGHTTP2_FLAG_END_STREAM)) {
        reply_of(h, f->hd.stream_id)->ended = true;
    }
    return 0;
}

static inline int hc_closed(nghttp2_session *s, int32_t id, uint32_t error, void *user)
{
    (void)s;
    reply_of(user, id)->closed = true;
    reply_of(user, id)->error = error;
    return 0;
}

static inline void hc_flush(struct h2_client *h)
{
    const uint8_t *p;
    ssize_t n;
    while ((n = nghttp2_session_mem_send(h->session, &p)) > 0) {
        peer_send(h->peer, p, (size_t)n);
    }
}

static inline void hc_bytes(struct peer *p, const uint8_t *data, size_t n)
{
    struct h2_client *h = p->user;
    if (nghttp2_session_mem_recv(h->session, data, n) == (ssize_t)n) {
        hc_flush(h);
    }
    p->n = 0;
}

static inline ssize_t hc_upload(nghttp2_session *s, int32_t id, uint8_t *buf, size_t n, uint32_t *flags, nghttp2_data_source *source, void *user)
{
    (void)s;
    (void)id;
    (void)source;
    struct h2_client *h = user;
    n = min_u64(n, h->upload_left);
    memcpy(buf, h->upload, n);
    h->upload += n;
    h->upload_left -= n;
    if (h->upload_left == 0) {
        *flags |= NGHTTP2_DATA_FLAG_EOF;
    }
    return (ssize_t)n;
}

static inline struct h2_client *h2_open(struct world *w)
{
    struct h2_client *h = calloc(1, sizeof *h);
    h->peer = peer_open(w);
    h->peer->user = h;
    h->peer->on_bytes = hc_bytes;
    nghttp2_session_callbacks *b;
    nghttp2_option *o;
    nghttp2_session_callbacks_new(&b);
    nghttp2_session_callbacks_set_on_header_callback(b, hc_header);
    nghttp2_session_callbacks_set_on_data_chunk_recv_callback(b, hc_data);
    nghttp2_session_callbacks_set_on_frame_recv_callback(b, hc_frame);
    nghttp2_session_callbacks_set_on_stream_close_callback(b, hc_closed);
    nghttp2_option_new(&o);
    nghttp2_option_set_no_auto_window_update(o, 1);
    nghttp2_option_set_max_send_header_block_length(o, 1 << 20);
    assert_int_equal(nghttp2_session_client_new2(&h->session, b, h, o), 0);
    nghttp2_session_callbacks_del(b);
    nghttp2_option_del(o);
    nghttp2_submit_settings(h->session, NGHTTP2_FLAG_NONE, NULL, 0);
    hc_flush(h);
    run_ms(w, 2);
    return h;
}

static inline void h2_close(struct h2_client *h)
{
    peer_close(h->peer);
    nghttp2_session_del(h->session);
    for (unsigned i = 0; i < REPLIES_MAX; i++) {
        free(h->replies[i].body);
    }
    free(h);
}

#define HC_NV(n, v) {(uint8_t *)(uintptr_t)(n), (uint8_t *)(uintptr_t)(v), strlen(n), strlen(v), NGHTTP2_NV_FLAG_NONE}

/* body NULL: none. Returns the stream's id; nothing has come back yet. */
static inline int32_t h2_send(struct h2_client *h, const char *method, const char *path, const void *body, size_t n, const char *name, const char *value)
{
    nghttp2_nv nv[] = {HC_NV(":method", method), HC_NV(":path", path), HC_NV(":scheme", "http"), HC_NV(":authority", "auth:1"), HC_NV(name, value)};
    nghttp2_data_provider provider = {.read_callback = hc_upload};
    h->upload = body;
    h->upload_left = n;
    int32_t id = nghttp2_submit_request(h->session, NULL, nv, name[0] != '\0' ? 5 : 4, body != NULL ? &provider : NULL, NULL);
    hc_flush(h);
    return id;
}

static inline struct reply *h2_ask(struct h2_client *h, const char *method, const char *path)
{
    int32_t id = h2_send(h, method, path, NULL, 0, "", "");
    run_ms(h->peer->world, 20);
    return reply_of(h, id);
}

/* ---- raw frames ---- */

static inline size_t raw_frame(uint8_t *at, uint8_t type, uint8_t flags, uint32_t id, const void *payload, size_t n)
{
    at[0] = (uint8_t)(n >> 16);
    at[1] = (uint8_t)(n >> 8);
    at[2] = (uint8_t)n;
    at[3] = type;
    at[4] = flags;
    at[5] = (uint8_t)(id >> 24);
    at[6] = (uint8_t)(id >> 16);
    at[7] = (uint8_t)(id >> 8);
    at[8] = (uint8_t)id;
    if (n > 0) {
        memcpy(at + 9, payload, n);
    }
    return n + 9;
}

static inline void raw_send(struct h2_client *h, uint8_t type, uint8_t flags, uint32_t id, const void *payload, size_t n)
{
    uint8_t *frame = malloc(n + 9);
    peer_send(h->peer, frame, raw_frame(frame, type, flags, id, payload, n));
    free(frame);
}

/* GET http a/hold, from HPACK's static table and literals that are not kept. */
static const uint8_t raw_get[] = {0x82, 0x86, 0x04, 0x05, '/', 'h', 'o', 'l', 'd', 0x01, 0x01, 'a'};

#endif
