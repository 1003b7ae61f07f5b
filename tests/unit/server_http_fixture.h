/* server_http_fixture.h: an HTTP server in a simulated world that does what the path says, and peers that say exactly the bytes a test wants. */
#ifndef SLUICE_SERVER_HTTP_FIXTURE_H
#define SLUICE_SERVER_HTTP_FIXTURE_H

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "proto/base.h"
#include "server/http/http.h"
#include "storage/env_sim.h"

enum { APP_HELD_MAX = 4096, BIG_BYTES = 10 << 20, MS = 1000000 };

/* What the paths do:
 *   /echo    "METHOD target body-length\n" and the body again
 *   /big     10 MiB, always the same memory
 *   /hold    nothing: the test answers from app.held[]
 *   /stream  begins a streaming answer; the test goes on from app.held[]
 *   /reset   breaks off */
struct app {
    struct env *env;
    struct http_server *server;
    struct http_options o;
    struct http_request *held[APP_HELD_MAX];
    unsigned n_held;
    unsigned gone, released, writable, closed, taken;
    uint8_t *big;
    bool in_call; /* no callback may run inside a call of the owner's */
    char last_host[64];
};

static inline void app_release(void *arg)
{
    struct app *a = arg;
    assert_false(a->in_call);
    a->released++;
}

static inline void app_writable(struct http_request *r)
{
    struct app *a = r->user;
    assert_false(a->in_call);
    a->writable++;
}

static inline void app_gone(struct http_request *r)
{
    struct app *a = r->user;
    assert_false(a->in_call);
    a->gone++;
    for (unsigned i = 0; i < a->n_held; i++) {
        if (a->held[i] == r) {
            a->held[i] = NULL;
        }
    }
}

static inline void app_request(void *arg, struct http_request *r)
{
    struct app *a = arg;
    r->user = a;
    a->taken++;
    const struct http_view *host = http_header(r, "HOST");
    snprintf(a->last_host, sizeof a->last_host, "%.*s", host != NULL ? (int)host->n : 0, host != NULL ? host->p : "");
    struct http_header type = {http_view_of("Content-Type"), http_view_of("application/octet-stream")};
    struct http_answer_head head = {.status = 200, .headers = &type, .n_headers = 1};
    a->in_call = true;
    if (http_view_is(r->path, "/echo")) {
        char *text = malloc(r->body_len + r->target.n + 80);
        int n = sprintf(text, "%.*s %.*s %zu\n", (int)r->method.n, r->method.p, (int)r->target.n, r->target.p, r->body_len);
        if (r->body_len > 0) {
            memcpy(text + n, r->body, r->body_len);
        }
        struct iovec iov = {.iov_base = text, .iov_len = (size_t)n + r->body_len};
        http_answer(r, &head, &(struct http_bytes){.iov = &iov, .n_iov = 1, .release = free, .arg = text});
    } else if (http_view_is(r->path, "/big")) {
        struct iovec iov[2] = {{a->big, BIG_BYTES / 3}, {a->big + BIG_BYTES / 3, BIG_BYTES - BIG_BYTES / 3}};
        http_answer(r, &head, &(struct http_bytes){.iov = iov, .n_iov = 2, .release = app_release, .arg = a});
    } else if (http_view_is(r->path, "/hold") || http_view_is(r->path, "/stream")) {
        assert_true(a->n_held < APP_HELD_MAX);
        a->held[a->n_held++] = r;
        if (http_view_is(r->path, "/stream")) {
            http_stream_begin(r, &head);
        }
    } else if (http_view_is(r->path, "/reset")) {
        http_stream_reset(r);
    } else {
        http_answer_text(r, 404, NULL, "nothing here");
    }
    a->in_call = false;
}

static inline void app_closed(void *arg)
{
    struct app *a = arg;
    a->closed++;
    a->server = NULL;
}

static inline void app_main(struct env *env, void *arg)
{
    struct app *a = arg;
    a->env = env;
    a->o.env = env;
    if (a->o.host == NULL) {
        a->o.host = "n1";
        a->o.port = 4568;
    }
    a->o.arg = a;
    a->o.callbacks = (struct http_callbacks){.request = app_request, .gone = app_gone, .writable = app_writable};
    a->big = malloc(BIG_BYTES);
    for (unsigned i = 0; i < BIG_BYTES; i++) {
        a->big[i] = (uint8_t)(i * 2654435761u >> 24);
    }
    assert_int_equal(http_server_open(&a->server, &a->o), 0);
}

/* ---- a world ---- */

struct world { struct sim *sim; struct sim_host *host; struct env *client; struct app app; };

static inline void world_client(struct env *env, void *arg) { ((struct world *)arg)->client = env; }

/* limits: what differs from the defaults. */
static inline void world_open(struct world *w, const struct http_limits *limits)
{
    memset(w, 0, sizeof *w);
    struct sim_options o = {.seed = 1, .net = {.delay_ns = {20000, 50000}}};
    w->sim = sim_open(&o);
    w->host = sim_host_add(w->sim, "n1");
    if (limits != NULL) {
        w->app.o.limits = *limits;
    }
    w->app.o.server_name = "test";
    assert_int_equal(sim_process_start(w->host, app_main, &w->app), 0);
    sim_client_start(sim_host_add(w->sim, "c"), world_client, w);
}

static inline void run_ms(struct world *w, uint64_t ms) { sim_run_until(w->sim, sim_now_ns(w->sim) + ms * MS); }

static inline void world_call(struct world *w, void (*fn)(void *arg), void *arg)
{
    sim_call(w->app.env, sim_now_ns(w->sim), fn, arg);
    run_ms(w, 1);
}

static inline void world_stop_now(void *arg)
{
    struct world *w = arg;
    http_server_close(w->app.server, 1000, app_closed, &w->app);
}

/* Every world ends with an orderly stop, after which nothing is left. */
static inline void world_close(struct world *w)
{
    if (w->app.server != NULL) {
        const struct http_counters *n = http_server_counters(w->app.server);
        world_call(w, world_stop_now, w);
        for (unsigned i = 0; i < 100 && w->app.server != NULL && n->connections > 0; i++) {
            run_ms(w, 100);
        }
        run_ms(w, 3000);
    }
    assert_int_equal(w->app.closed, 1);
    free(w->app.big);
    sim_close(w->sim);
}

/* ---- a peer: bytes out, bytes in ---- */

struct peer_write { struct env_write w; struct iovec iov; char data[]; };
struct peer {
    struct env_conn conn;
    struct world *world;
    char *got;
    size_t n, cap;
    bool ended, failed, connected;
    bool deaf;       /* reads nothing */
    uint64_t unsent; /* writes not taken yet */
    void (*on_bytes)(struct peer *p, const uint8_t *data, size_t n);
    void *user;
};

static inline void peer_connected(struct env_conn *c, int status)
{
    struct peer *p = c->user;
    p->connected = status == 0;
    env_conn_read(c, status == 0 && !p->deaf);
}

static inline void peer_read(struct env_conn *c, void *data, ssize_t n)
{
    struct peer *p = c->user;
    if (n <= 0) {
        p->ended = true;
        p->failed = n < 0;
        env_conn_close(c);
        return;
    }
    if (p->cap - p->n < (size_t)n + 1) {
        p->cap = (p->n + (size_t)n + 1) * 2;
        p->got = realloc(p->got, p->cap);
    }
    memcpy(p->got + p->n, data, (size_t)n);
    p->n += (size_t)n;
    p->got[p->n] = '\0';
    if (p->on_bytes != NULL) {
        p->on_bytes(p, data, (size_t)n);
    }
}

static inline void peer_gone(struct env_conn *c) { (void)c; }
static const struct env_conn_ops peer_ops = {.connected = peer_connected, .read = peer_read, .closed = peer_gone};

static inline void peer_written(struct env_write *w)
{
    struct peer_write *pw = container_of(w, struct peer_write, w);
    ((struct peer *)w->conn->user)->unsent -= pw->iov.iov_len;
    free(pw);
}

static inline void peer_send(struct peer *p, const void *data, size_t n)
{
    struct peer_write *pw = malloc(sizeof *pw + n);
    memcpy(pw->data, data, n);
    pw->iov = (struct iovec){.iov_base = pw->data, .iov_len = n};
    pw->w = (struct env_write){.iov = &pw->iov, .n_iov = 1};
    p->unsent += n;
    env_conn_write(&p->conn, &pw->w, peer_written);
}

static inline void peer_text(struct peer *p, const char *text) { peer_send(p, text, strlen(text)); }

static inline struct peer *peer_open_as(struct world *w, bool deaf)
{
    struct peer *p = calloc(1, sizeof *p);
    p->world = w;
    p->conn.ops = &peer_ops;
    p->conn.user = p;
    p->deaf = deaf;
    p->got = calloc(1, 1);
    p->cap = 1;
    assert_int_equal(env_connect(w->client, &p->conn, "n1", 4568), 0);
    run_ms(w, 1);
    return p;
}

static inline struct peer *peer_open(struct world *w) { return peer_open_as(w, false); }

static inline void peer_close(struct peer *p)
{
    env_conn_close(&p->conn);
    run_ms(p->world, 2);
    free(p->got);
    free(p);
}

/* Says it and waits; what came back is text. */
static inline const char *peer_ask(struct peer *p, const char *request)
{
    p->n = 0;
    p->got[0] = '\0';
    peer_text(p, request);
    run_ms(p->world, 50);
    return p->got;
}

static inline bool has(const char *text, const char *part) { return strstr(text, part) != NULL; }

/* The server is well: a fresh client is answered at once. */
static inline void check_well(struct world *w)
{
    struct peer *p = peer_open(w);
    assert_true(has(peer_ask(p, "GET /echo HTTP/1.1\r\nHost: a\r\n\r\n"), "GET /echo 0\n"));
    peer_close(p);
}

#endif
