/* The admin listener: metrics and health on the HTTP layer (server/http).
 *
 * While /metrics is being gathered from the lanes its request waits; if the peer goes away meanwhile, the figures go nowhere when they come. */
#include "server/admin.h"

#include <stdlib.h>
#include <string.h>

#include "proto/base.h"
#include "server/http/http.h"

struct admin {
    struct admin_options o;
    struct http_server *http;
    unsigned n_gathering;
    void (*done)(void *arg);
    void *done_arg;
};

struct gathering { struct admin *admin; struct http_request *request; /* NULL: gone */ };

static void maybe_done(struct admin *a)
{
    if (a->http == NULL && a->n_gathering == 0) {
        void (*done)(void *) = a->done;
        void *arg = a->done_arg;
        free(a);
        if (done != NULL) {
            done(arg);
        }
    }
}

/* body is taken over (malloc'ed). */
static void answer(struct http_request *r, int status, const char *type, char *body, size_t n)
{
    struct http_header headers[] = {
        {http_view_of("Content-Type"), http_view_of(type)}, {http_view_of("Cache-Control"), http_view_of("no-store")}, {http_view_of("Allow"), http_view_of("GET, HEAD")},
    };
    struct http_answer_head head = {.status = status, .headers = headers, .n_headers = status == 405 ? 3 : 2};
    struct iovec iov = {.iov_base = body, .iov_len = n};
    http_answer(r, &head, &(struct http_bytes){.iov = &iov, .n_iov = 1, .release = free, .arg = body});
}

static void answer_text(struct http_request *r, int status, const char *text)
{
    size_t n = strlen(text);
    char *body = xmalloc(n + 1);
    memcpy(body, text, n + 1);
    body[n] = '\n';
    answer(r, status, "text/plain; charset=utf-8", body, n + 1);
}

static void gathered(void *arg, const struct node_metrics *sum)
{
    struct gathering *g = arg;
    struct admin *a = g->admin;
    if (g->request != NULL) {
        size_t n;
        char *text = metrics_text(sum, &n);
        answer(g->request, 200, "text/plain; version=0.0.4; charset=utf-8", text, n);
    }
    free(g);
    a->n_gathering--;
    maybe_done(a);
}

static void on_request(void *arg, struct http_request *r)
{
    struct admin *a = arg;
    if (!http_view_is(r->method, "GET") && !http_view_is(r->method, "HEAD")) {
        answer_text(r, 405, "Method Not Allowed");
    } else if (http_view_is(r->path, "/health/live")) {
        answer_text(r, 200, "live");
    } else if (http_view_is(r->path, "/health/ready")) {
        char why[256] = "";
        bool ready = a->o.ready(a->o.arg, why);
        answer_text(r, ready ? 200 : 503, ready ? "ready" : why[0] != '\0' ? why : "not ready");
    } else if (http_view_is(r->path, "/metrics")) {
        struct gathering *g = xcalloc(1, sizeof *g);
        *g = (struct gathering){.admin = a, .request = r};
        r->user = g;
        a->n_gathering++;
        a->o.gather(a->o.arg, gathered, g);
    } else {
        answer_text(r, 404, "there is /metrics, /health/live and /health/ready");
    }
}

static void on_gone(struct http_request *r)
{
    struct gathering *g = r->user;
    g->request = NULL;
}

int admin_open(struct admin **out, const struct admin_options *o)
{
    struct admin *a = xcalloc(1, sizeof *a);
    a->o = *o;
    struct http_options http = {
        .env = o->env, .host = o->host, .port = o->port, .arg = a,
        .callbacks = {.request = on_request, .gone = on_gone},
        .limits = {.connections_max = ADMIN_CONNECTIONS_MAX, .head_max = 16 << 10, .body_max = 1024, .memory_max = 16 << 20, .streams_max = 16, .idle_ms = 60000, .answer_ms = 10000, .linger_ms = 1000},
    };
    int rc = http_server_open(&a->http, &http);
    if (rc != 0) {
        free(a);
        return rc;
    }
    *out = a;
    return 0;
}

static void on_closed(void *arg)
{
    struct admin *a = arg;
    a->http = NULL;
    maybe_done(a);
}

void admin_close(struct admin *a, void (*done)(void *arg), void *arg)
{
    a->done = done;
    a->done_arg = arg;
    http_server_close(a->http, 0, on_closed, a);
}
