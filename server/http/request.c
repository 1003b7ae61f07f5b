/* Requests: their memory, and the calls of owners (see http.h and http_impl.h). */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "proto/base.h"
#include "server/http/http_impl.h"

enum { BODY_FIRST_KNOWN = 1 << 20, BODY_FIRST_UNKNOWN = 16 << 10 }; /* what is known is believed so far only while a quarter of the memory is in use */

/* ---- memory ---- */

void server_charge(struct conn *c, size_t n)
{
    c->server->counters.memory_bytes += n;
    c->memory += n;
}

void server_uncharge(struct http_server *s, struct conn *c, size_t n)
{
    sluice_assert(s->counters.memory_bytes >= n);
    s->counters.memory_bytes -= n;
    if (c != NULL) {
        sluice_assert(c->memory >= n);
        c->memory -= n;
    }
}

struct request *request_new(struct conn *c)
{
    struct request *r = xcalloc(1, sizeof *r);
    r->pub.server = c->server;
    r->pub.peer = c->peer;
    r->pub.tls = c->tls != NULL;
    r->conn = c;
    r->refs = 1;
    r->state = REQUEST_READING;
    r->body_expected = UINT64_MAX;
    r->queue_end = &r->queue;
    r->next = c->requests;
    r->prev = &c->requests;
    if (r->next != NULL) {
        r->next->prev = &r->next;
    }
    c->requests = r;
    c->n_requests++;
    return r;
}

/* What the request brought; its answer may still be going out. */
static void drop_input(struct request *r)
{
    server_uncharge(r->pub.server, r->conn, r->charged);
    r->charged = 0;
    free(r->block);
    free(r->headers);
    free(r->body);
    r->block = NULL;
    r->headers = NULL;
    r->body = NULL;
    r->block_len = r->block_cap = r->body_len = r->body_cap = 0;
    r->n_headers = r->cap_headers = 0;
    struct http_view none = {"", 0};
    r->pub.method = r->pub.target = r->pub.path = r->pub.query = none;
    r->pub.headers = NULL;
    r->pub.n_headers = 0;
    r->pub.body = NULL;
    r->pub.body_len = 0;
}

void request_unref(struct request *r)
{
    sluice_assert(r->refs > 0);
    if (--r->refs == 0) {
        sluice_assert(r->conn == NULL && r->queue == NULL && r->queued == 0);
        drop_input(r);
        free(r);
    }
}

void request_detach(struct request *r)
{
    struct conn *c = r->conn;
    if (c == NULL) {
        return;
    }
    *r->prev = r->next;
    if (r->next != NULL) {
        r->next->prev = r->prev;
    }
    sluice_assert(c->n_requests > 0 && c->memory >= r->charged + r->queued);
    c->n_requests--;
    c->memory -= r->charged + r->queued;
    r->conn = NULL;
    r->pub.peer = "?";
}

bool request_admitted(struct conn *c, uint64_t body_bytes)
{
    const struct http_server *s = c->server;
    uint64_t need = body_bytes == UINT64_MAX ? 0 : body_bytes;
    /* One connection has at most half, so that it cannot keep the others out. */
    return s->counters.memory_bytes + need < s->limits.memory_max && c->memory + need <= s->limits.memory_max / 2;
}

bool request_body_room(struct request *r, size_t n)
{
    if (n <= r->body_cap) {
        return true;
    }
    const struct http_server *s = r->pub.server;
    bool known = r->body_expected != UINT64_MAX, plenty = s->counters.memory_bytes < s->limits.memory_max / 4;
    /* What was only announced is not allocated beyond a first part: the rest grows with what comes. */
    size_t cap = r->body_cap > 0 ? r->body_cap * 2 : known && plenty ? BODY_FIRST_KNOWN : BODY_FIRST_UNKNOWN;
    cap = max_u64(cap, n);
    cap = min_u64(cap, known ? max_u64(r->body_expected, n) : max_u64(s->limits.body_max, n));
    size_t more = cap - r->body_cap;
    if (!request_admitted(r->conn, more)) {
        return false;
    }
    uint8_t *body = realloc(r->body, cap);
    if (body == NULL) {
        return false;
    }
    r->body = body;
    r->body_cap = cap;
    r->charged += more;
    server_charge(r->conn, more);
    return true;
}

/* ---- what a request shows ---- */

bool request_split_target(struct request *r, struct http_view target)
{
    if (target.n == 0 || (target.p[0] != '/' && !(http_view_is(target, "*") && http_view_is(r->pub.method, "OPTIONS")))) {
        return false;
    }
    const char *mark = memchr(target.p, '?', target.n);
    r->pub.target = r->pub.path = target;
    r->pub.query = (struct http_view){"", 0};
    if (mark != NULL) {
        r->pub.path.n = (size_t)(mark - target.p);
        r->pub.query = (struct http_view){mark + 1, target.n - r->pub.path.n - 1};
    }
    return true;
}

const struct http_view *http_header(const struct http_request *r, const char *name)
{
    size_t n = strlen(name);
    for (unsigned i = 0; i < r->n_headers; i++) {
        const struct http_header *h = &r->headers[i];
        if (h->name.n == n && strncasecmp(h->name.p, name, n) == 0) {
            return &h->value;
        }
    }
    return NULL;
}

void http_request_drop(struct http_request *pub)
{
    drop_input(container_of(pub, struct request, pub));
}

void request_hand_out(struct request *r)
{
    struct http_server *s = r->pub.server;
    sluice_assert(r->state == REQUEST_READING);
    r->state = REQUEST_HANDED;
    r->body_open = false;
    r->head_only = http_view_is(r->pub.method, "HEAD");
    r->pub.headers = r->headers;
    r->pub.n_headers = r->n_headers;
    r->pub.body = r->body;
    r->pub.body_len = r->body_len;
    r->refs++;
    s->counters.requests++;
    s->counters.requests_total++;
    s->counters.requests_h2_total += r->pub.version == HTTP_2;
    s->o.callbacks.request(s->o.arg, &r->pub);
}

static void ended(struct request *r)
{
    r->state = REQUEST_ENDED;
    r->pub.server->counters.requests--;
}

void request_gone(struct request *r)
{
    struct http_server *s = r->pub.server;
    bool owned = r->state == REQUEST_HANDED || r->state == REQUEST_STREAMING;
    request_detach(r);
    while (r->queue != NULL) {
        struct out_body *b = r->queue;
        r->queue = b->next;
        out_body_unref(b);
    }
    r->queue_end = &r->queue;
    if (owned) {
        ended(r);
        s->counters.gone_total++;
        s->o.callbacks.gone(&r->pub);
        sluice_assert(r->refs > 1); /* the owner's and the connection's */
        request_unref(r);
    } else {
        r->state = REQUEST_ENDED;
    }
    request_unref(r);
}

bool request_body_slow(struct request *r, uint64_t now_ms)
{
    const struct http_limits *l = &r->pub.server->limits;
    if (now_ms < r->window_ms + server_patience_ms(r->pub.server, l->body_ms)) {
        return false;
    }
    uint64_t need = l->body_min_bytes;
    if (r->body_expected != UINT64_MAX) {
        need = min_u64(need, r->body_expected - r->window_bytes);
    }
    if (r->body_len - r->window_bytes < max_u64(need, 1)) {
        return true;
    }
    r->window_ms = now_ms;
    r->window_bytes = r->body_len;
    return false;
}

/* ---- what owners call ---- */

static struct request *owned(struct http_request *pub, bool streaming)
{
    struct request *r = container_of(pub, struct request, pub);
    sluice_assert(r->state == (streaming ? REQUEST_STREAMING : REQUEST_HANDED));
    return r;
}

/* Its connection is being closed and `gone` is on its way to others: what is answered now goes nowhere. */
static bool closing(const struct request *r) { return r->conn == NULL || r->conn->state == CONN_CLOSING; }

static void check_head(const struct http_answer_head *head)
{
    sluice_assert(head->status >= 200 && head->status <= 999 && head->n_headers <= HTTP_ANSWER_HEADERS_MAX);
    size_t n = 0;
    for (unsigned i = 0; i < head->n_headers; i++) {
        const struct http_header *h = &head->headers[i];
        sluice_assert(h->name.n > 0);
        for (size_t k = 0; k < h->name.n; k++) {
            sluice_assert(http_token_char((unsigned char)h->name.p[k]));
        }
        for (size_t k = 0; k < h->value.n; k++) {
            sluice_assert(http_value_char((unsigned char)h->value.p[k]));
        }
        n += h->name.n + h->value.n + 4;
    }
    sluice_assert(n <= HTTP_ANSWER_HEAD_MAX);
}

void http_answer(struct http_request *pub, const struct http_answer_head *head, const struct http_bytes *bytes)
{
    struct request *r = owned(pub, false);
    check_head(head);
    struct out_body *body = bytes != NULL ? out_body_new(r, bytes) : NULL;
    ended(r);
    if (!closing(r)) {
        r->conn->protocol->answer(r, head, body);
    } else if (body != NULL) {
        out_body_unref(body);
    }
    drop_input(r);
    request_unref(r);
}

void http_answer_text(struct http_request *pub, int status, const char *content_type, const char *text)
{
    struct http_header type = {http_view_of("Content-Type"), http_view_of(content_type != NULL ? content_type : "text/plain; charset=utf-8")};
    struct http_answer_head head = {.status = status, .headers = &type, .n_headers = text != NULL};
    if (text == NULL) {
        http_answer(pub, &head, NULL);
        return;
    }
    char *copy = xstrdup(text);
    struct iovec iov = {.iov_base = copy, .iov_len = strlen(copy)};
    http_answer(pub, &head, &(struct http_bytes){.iov = &iov, .n_iov = 1, .release = free, .arg = copy});
}

void http_stream_begin(struct http_request *pub, const struct http_answer_head *head)
{
    struct request *r = owned(pub, false);
    check_head(head);
    r->state = REQUEST_STREAMING;
    if (!closing(r)) {
        r->conn->protocol->stream_begin(r, head);
    }
}

int http_stream_write(struct http_request *pub, const struct http_bytes *bytes)
{
    struct request *r = owned(pub, true);
    size_t n = 0;
    for (unsigned i = 0; i < bytes->n_iov; i++) {
        n += bytes->iov[i].iov_len;
    }
    if (r->queued + n > r->pub.server->limits.stream_max_bytes) {
        return -ENOBUFS;
    }
    struct out_body *body = out_body_new(r, bytes);
    if (n == 0 || r->head_only || closing(r)) {
        out_body_unref(body);
        return 0;
    }
    r->above = r->above || r->queued > r->pub.server->limits.stream_high_bytes;
    r->conn->protocol->stream_write(r, body);
    return 0;
}

size_t http_stream_queued(const struct http_request *pub) { return container_of(pub, const struct request, pub)->queued; }

void http_stream_end(struct http_request *pub)
{
    struct request *r = owned(pub, true);
    ended(r);
    if (!closing(r)) {
        r->conn->protocol->stream_end(r);
    }
    drop_input(r);
    request_unref(r);
}

void http_stream_reset(struct http_request *pub)
{
    struct request *r = container_of(pub, struct request, pub);
    sluice_assert(r->state == REQUEST_HANDED || r->state == REQUEST_STREAMING);
    ended(r);
    if (!closing(r)) {
        r->conn->protocol->stream_reset(r);
    }
    drop_input(r);
    request_unref(r);
}
