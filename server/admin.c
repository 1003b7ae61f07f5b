/* The admin listener: strict HTTP/1.1 for metrics and health.
 *
 * A connection: reads a head (admin_parse) -> answers one request -> closes. While /metrics is being gathered from the lanes the connection waits; if it
 * goes away meanwhile, its memory stays until the figures came. */
#include "server/admin.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proto/base.h"

enum { HEAD_MAX = 4096, IDLE_MS = 10000, TICK_MS = 1000 };

struct client {
    struct env_conn conn;
    struct admin *admin;
    struct client *next, **prev;
    char head[HEAD_MAX];
    size_t n;
    uint64_t since_ms;
    bool answering, gathering, closed;
    struct env_write write;
    struct iovec iov[2];
    char answer_head[256];
    char *body;
};

struct admin {
    struct admin_options o;
    struct env_listener listener;
    struct env_timer timer;
    struct client *clients;
    unsigned n_clients;
    bool closing;
    void (*done)(void *arg);
    void *done_arg;
};

/* ---- the head of a request ---- */

static bool token_char(char c) { return (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || (c != '\0' && strchr("!#$%&'*+-.^_`|~", c) != NULL); }

/* Checks "name: value" lines; a body is not taken. */
static int parse_fields(const char *p, const char *end)
{
    while (p < end) {
        const char *eol = memmem(p, (size_t)(end - p), "\r\n", 2);
        if (eol == NULL) {
            return 400;
        }
        const char *colon = memchr(p, ':', (size_t)(eol - p));
        if (colon == NULL || colon == p) {
            return 400;
        }
        for (const char *c = p; c < colon; c++) {
            if (!token_char(*c)) {
                return 400;
            }
        }
        size_t name = (size_t)(colon - p);
        const char *value = colon + 1;
        while (value < eol && (*value == ' ' || *value == '\t')) {
            value++;
        }
        for (const char *c = value; c < eol; c++) {
            if ((unsigned char)*c < ' ' && *c != '\t') {
                return 400;
            }
        }
        bool body = (name == 17 && strncasecmp(p, "transfer-encoding", 17) == 0)
                    || (name == 14 && strncasecmp(p, "content-length", 14) == 0 && !(eol - value == 1 && *value == '0'));
        if (body) {
            return 400;
        }
        p = eol + 2;
    }
    return 200;
}

int admin_parse(char *data, size_t n, const char **path)
{
    char *end = memmem(data, n, "\r\n\r\n", 4);
    char *eol = memmem(data, n, "\r\n", 2);
    if (eol == NULL || end == NULL) {
        /* What can be no request line is refused at once, not after a time-out. */
        for (size_t i = 0; i < n && (eol == NULL || data + i < eol); i++) {
            if ((unsigned char)data[i] < ' ' && !(data[i] == '\r' && i + 1 == n)) {
                return 400;
            }
        }
        return n >= HEAD_MAX ? 431 : 0;
    }
    char *space = memchr(data, ' ', (size_t)(eol - data));
    if (space == NULL || space == data) {
        return 400;
    }
    for (char *c = data; c < space; c++) {
        if (!token_char(*c)) {
            return 400;
        }
    }
    char *target = space + 1;
    char *second = memchr(target, ' ', (size_t)(eol - target));
    if (second == NULL || second == target || target[0] != '/' || eol - second != 9 || memcmp(second + 1, "HTTP/1.", 7) != 0
        || (second[8] != '1' && second[8] != '0')) {
        return 400;
    }
    for (char *c = target; c < second; c++) {
        if ((unsigned char)*c <= ' ' || (unsigned char)*c >= 127) {
            return 400;
        }
    }
    int code = parse_fields(eol + 2, end + 2);
    if (code != 200) {
        return code;
    }
    if (space - data != 3 || memcmp(data, "GET", 3) != 0) {
        return 405;
    }
    *second = '\0';
    char *query = strchr(target, '?');
    if (query != NULL) {
        *query = '\0';
    }
    *path = target;
    return 200;
}

/* ---- connections ---- */

static void maybe_done(struct admin *a)
{
    if (a->closing && a->clients == NULL) {
        void (*done)(void *) = a->done;
        void *arg = a->done_arg;
        free(a);
        if (done != NULL) {
            done(arg);
        }
    }
}

static void client_free(struct client *k)
{
    if (!k->closed || k->gathering) {
        return;
    }
    struct admin *a = k->admin;
    *k->prev = k->next;
    if (k->next != NULL) {
        k->next->prev = k->prev;
    }
    a->n_clients--;
    free(k->body);
    free(k);
    maybe_done(a);
}

static void on_closed(struct env_conn *conn)
{
    struct client *k = conn->user;
    k->closed = true;
    client_free(k);
}

static void on_written(struct env_write *w)
{
    struct client *k = container_of(w, struct client, write);
    env_conn_close(&k->conn);
}

static const char *status_text(int code)
{
    switch (code) {
    case 200:
        return "OK";
    case 400:
        return "Bad Request";
    case 404:
        return "Not Found";
    case 405:
        return "Method Not Allowed";
    case 431:
        return "Request Header Fields Too Large";
    default:
        return "Service Unavailable";
    }
}

/* body is taken over (malloc'ed). */
static void answer(struct client *k, int code, const char *type, char *body, size_t len)
{
    k->answering = true;
    k->body = body;
    int n = snprintf(k->answer_head, sizeof k->answer_head, "HTTP/1.1 %d %s\r\nContent-Type: %s\r\nContent-Length: %zu\r\nCache-Control: no-store\r\n%sConnection: close\r\n\r\n",
                     code, status_text(code), type, len, code == 405 ? "Allow: GET\r\n" : "");
    k->iov[0] = (struct iovec){.iov_base = k->answer_head, .iov_len = (size_t)n};
    k->iov[1] = (struct iovec){.iov_base = body, .iov_len = len};
    k->write.iov = k->iov;
    k->write.n_iov = 2;
    env_conn_write(&k->conn, &k->write, on_written);
}

static void answer_text(struct client *k, int code, const char *text)
{
    size_t n = strlen(text);
    char *body = xmalloc(n + 2);
    memcpy(body, text, n);
    memcpy(body + n, "\n", 2);
    answer(k, code, "text/plain; charset=utf-8", body, n + 1);
}

static void gathered(void *arg, const struct node_metrics *sum)
{
    struct client *k = arg;
    k->gathering = false;
    if (k->closed) {
        client_free(k);
        return;
    }
    if (k->admin->closing) {
        return; /* env_conn_close() was called; closed comes */
    }
    size_t n;
    char *text = metrics_text(sum, &n);
    answer(k, 200, "text/plain; version=0.0.4; charset=utf-8", text, n);
}

static void route(struct client *k, const char *path)
{
    struct admin *a = k->admin;
    if (strcmp(path, "/health/live") == 0) {
        answer_text(k, 200, "live");
    } else if (strcmp(path, "/health/ready") == 0) {
        char why[256] = "";
        bool ready = a->o.ready(a->o.arg, why);
        answer_text(k, ready ? 200 : 503, ready ? "ready" : why[0] != '\0' ? why : "not ready");
    } else if (strcmp(path, "/metrics") == 0) {
        k->answering = k->gathering = true;
        a->o.gather(a->o.arg, gathered, k);
    } else {
        answer_text(k, 404, "there is /metrics, /health/live and /health/ready");
    }
}

static size_t on_buffer(struct env_conn *conn, void **base)
{
    struct client *k = conn->user;
    *base = k->head + k->n;
    return HEAD_MAX - k->n;
}

static void on_read(struct env_conn *conn, void *data, ssize_t n)
{
    (void)data;
    struct client *k = conn->user;
    if (n <= 0) {
        env_conn_close(conn);
        return;
    }
    k->n += (size_t)n;
    const char *path;
    int code = admin_parse(k->head, k->n, &path);
    if (code == 0) {
        return;
    }
    env_conn_read(conn, false); /* one request per connection */
    if (code == 200) {
        route(k, path);
    } else {
        answer_text(k, code, status_text(code));
    }
}

static const struct env_conn_ops conn_ops = {.buffer = on_buffer, .read = on_read, .closed = on_closed};

static void on_accept(struct env_listener *l)
{
    struct admin *a = container_of(l, struct admin, listener);
    struct client *k = xcalloc(1, sizeof *k);
    k->conn.ops = &conn_ops;
    k->conn.user = k;
    k->admin = a;
    k->since_ms = env_now_ms(a->o.env);
    if (env_accept(l, &k->conn) != 0) {
        free(k);
        return;
    }
    k->next = a->clients;
    k->prev = &a->clients;
    if (a->clients != NULL) {
        a->clients->prev = &k->next;
    }
    a->clients = k;
    a->n_clients++;
    if (a->n_clients > ADMIN_CONNECTIONS_MAX || a->closing) {
        env_conn_close(&k->conn);
        return;
    }
    env_conn_read(&k->conn, true);
}

static void on_tick(struct env_timer *t)
{
    struct admin *a = container_of(t, struct admin, timer);
    uint64_t now = env_now_ms(a->o.env);
    for (struct client *k = a->clients; k != NULL; k = k->next) {
        if (now >= k->since_ms + IDLE_MS && !k->gathering && !k->closed) {
            env_conn_close(&k->conn);
        }
    }
    env_timer_start_ms(&a->timer, TICK_MS);
}

int admin_open(struct admin **out, const struct admin_options *o)
{
    struct admin *a = xcalloc(1, sizeof *a);
    a->o = *o;
    int rc = env_timer_init(o->env, &a->timer, on_tick);
    if (rc != 0) {
        free(a);
        return rc;
    }
    rc = env_listen(o->env, &a->listener, o->host, o->port, false, on_accept);
    if (rc != 0) {
        env_timer_close(&a->timer);
        free(a);
        return rc;
    }
    env_timer_start_ms(&a->timer, TICK_MS);
    *out = a;
    return 0;
}


void admin_close(struct admin *a, void (*done)(void *arg), void *arg)
{
    a->closing = true;
    a->done = done;
    a->done_arg = arg;
    env_timer_close(&a->timer);
    env_listener_close(&a->listener);
    for (struct client *k = a->clients; k != NULL; k = k->next) {
        if (!k->closed) {
            env_conn_close(&k->conn);
        }
    }
    maybe_done(a);
}
