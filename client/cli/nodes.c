/* Fetching /metrics of every node at once: one request of HTTP/1.1 per connection, which the node closes. */
#include "client/cli/nodes.h"

#include <stdlib.h>

#include "client/exposition.h"

enum { ASK_MS = 1000, TEXT_MAX = 4 << 20 };

struct asking;
struct ask {
    struct env_conn conn;
    struct env_write write;
    struct iovec iov;
    struct asking *all;
    struct cli_node *node;
    char request[400];
    char *data;
    size_t n, cap;
    bool open, closing;
};
struct asking { struct cli *cli; struct env_timer timer; struct ask *v; size_t n, open; };

static void ask_close(struct ask *a)
{
    if (!a->closing) {
        a->closing = true;
        env_conn_close(&a->conn);
    }
}

/* The text of a whole answer, or nothing. */
static void take(struct ask *a)
{
    static const char ok[] = "HTTP/1.1 200 ";
    char *body = a->n > sizeof ok ? memmem(a->data, a->n, "\r\n\r\n", 4) : NULL;
    if (body == NULL || memcmp(a->data, ok, sizeof ok - 1) != 0) {
        return;
    }
    struct cli_node *node = a->node;
    free(node->text);
    node->text = strdup(body + 4);
    node->at_ns = env_clock_ns(a->all->cli->env);
}

static void on_closed(struct env_conn *conn)
{
    struct ask *a = conn->user;
    a->open = false;
    if (--a->all->open == 0) {
        env_stop(conn->env);
    }
}

static void on_read(struct env_conn *conn, void *data, ssize_t n)
{
    struct ask *a = conn->user;
    if (n <= 0 || a->n + (size_t)n > TEXT_MAX) {
        if (n == 0) {
            take(a);
        }
        ask_close(a);
        return;
    }
    if (a->n + (size_t)n + 1 > a->cap) {
        a->cap = (a->n + (size_t)n + 1) * 2;
        a->data = xrealloc(a->data, a->cap);
    }
    memcpy(a->data + a->n, data, (size_t)n);
    a->n += (size_t)n;
    a->data[a->n] = '\0';
}

static void on_written(struct env_write *w)
{
    (void)w;
}

static void on_connected(struct env_conn *conn, int status)
{
    struct ask *a = conn->user;
    if (status != 0) {
        ask_close(a);
        return;
    }
    a->write = (struct env_write){.iov = &a->iov, .n_iov = 1};
    env_conn_write(conn, &a->write, on_written);
    env_conn_read(conn, true);
}

static const struct env_conn_ops ops = {.connected = on_connected, .read = on_read, .closed = on_closed};

static void too_late(struct env_timer *t)
{
    struct asking *all = container_of(t, struct asking, timer);
    for (size_t i = 0; i < all->n; i++) {
        if (all->v[i].open) {
            ask_close(&all->v[i]);
        }
    }
}

size_t cli_nodes_ask(struct cli *c, struct cli_nodes *n)
{
    struct asking all = {.cli = c, .v = xcalloc(n->n + 1, sizeof(struct ask)), .n = n->n};
    size_t answered = 0;
    env_timer_init(c->env, &all.timer, too_late);
    env_timer_start_ms(&all.timer, ASK_MS);
    for (size_t i = 0; i < n->n; i++) {
        struct ask *a = &all.v[i];
        free(n->v[i].text);
        n->v[i].text = NULL;
        if (n->v[i].host[0] == '\0') {
            continue;
        }
        *a = (struct ask){.all = &all, .node = &n->v[i]};
        a->conn.ops = &ops;
        a->conn.user = a;
        int len = snprintf(a->request, sizeof a->request, "GET /metrics HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n", n->v[i].host);
        a->iov = (struct iovec){.iov_base = a->request, .iov_len = (size_t)len};
        if (env_connect(c->env, &a->conn, n->v[i].host, n->v[i].port) == 0) {
            a->open = true;
            all.open++;
        }
    }
    while (all.open > 0) {
        env_uv_run(c->env);
    }
    env_timer_close(&all.timer);
    for (size_t i = 0; i < n->n; i++) {
        answered += n->v[i].text != NULL;
        free(all.v[i].data);
    }
    free(all.v);
    return answered;
}

/* ---- addresses ---- */

static void address(void *arg, const char *host, uint16_t port)
{
    struct cli_node *node = arg;
    snprintf(node->host, sizeof node->host, "%s", host);
    node->port = port;
}

static void add_address(void *arg, const char *host, uint16_t port)
{
    struct cli_nodes *n = arg;
    n->v = xrealloc(n->v, (n->n + 1) * sizeof *n->v);
    n->v[n->n] = (struct cli_node){.port = port};
    snprintf(n->v[n->n].host, sizeof n->v[n->n].host, "%s", host);
    n->n++;
}

void cli_nodes_update(struct cli_nodes *n, const Sluice__ClusterStatusReply *status)
{
    for (size_t i = 0; i < status->n_nodes; i++) {
        const Sluice__NodeInfo *info = status->nodes[i];
        struct cli_node *node = NULL;
        for (size_t j = 0; j < n->n && node == NULL; j++) {
            node = n->v[j].id == info->id ? &n->v[j] : NULL;
        }
        if (node == NULL) {
            n->v = xrealloc(n->v, (n->n + 1) * sizeof *n->v);
            node = &n->v[n->n++];
            *node = (struct cli_node){.id = info->id};
        }
        node->host[0] = '\0';
        if (info->admin[0] != '\0' && info->state != SLUICE__NODE_INFO__STATE__REMOVED) {
            sluice_endpoints_each(info->admin, address, node);
        }
        if (strcmp(node->host, "0.0.0.0") == 0 || strcmp(node->host, "::") == 0) {
            /* It listens everywhere, so also where clients reach it. */
            uint16_t port = node->port;
            sluice_endpoints_each(info->address, address, node);
            node->port = port;
        }
    }
}

void cli_nodes_refresh(struct cli *c, struct cli_nodes *n)
{
    bool missing = false;
    for (size_t i = 0; i < n->n; i++) {
        missing = missing || n->v[i].host[0] == '\0';
    }
    Sluice__Empty empty = SLUICE__EMPTY__INIT;
    Sluice__ClusterStatusReply *status = NULL;
    if (missing && cli_ask(c, FRAME_CLUSTER_STATUS, &empty.base, NULL, &status, NULL, 0) == 0) {
        cli_nodes_update(n, status);
    }
    cli_free(status);
}

int cli_nodes_find(struct cli *c, const char *admin, struct cli_nodes *out)
{
    *out = (struct cli_nodes){0};
    if (admin != NULL) {
        return sluice_endpoints_each(admin, add_address, out) == 0 ? 0 : cli_usage(c, "--admin: host:port,host:port,... is needed, not '%s'", admin);
    }
    Sluice__Empty empty = SLUICE__EMPTY__INIT;
    Sluice__ClusterStatusReply *status;
    int code = cli_request(c, FRAME_CLUSTER_STATUS, &empty.base, NULL, &status);
    if (code == 0) {
        cli_nodes_update(out, status);
        cli_free(status);
    }
    return code;
}

/* ---- sums ---- */

double cli_nodes_sum(const struct cli_nodes *n, const char *metric)
{
    double sum = 0, v;
    for (size_t i = 0; i < n->n; i++) {
        sum += n->v[i].text != NULL && exposition_value(n->v[i].text, metric, &v) ? v : 0;
    }
    return sum;
}

double cli_nodes_max(const struct cli_nodes *n, const char *metric)
{
    double max = 0, v;
    for (size_t i = 0; i < n->n; i++) {
        max = n->v[i].text != NULL && exposition_value(n->v[i].text, metric, &v) && v > max ? v : max;
    }
    return max;
}

bool cli_nodes_all(const struct cli_nodes *n)
{
    size_t answered = 0;
    for (size_t i = 0; i < n->n; i++) {
        answered += n->v[i].text != NULL;
    }
    return answered == n->n && n->n > 0;
}

bool cli_nodes_local(const struct cli_nodes *n)
{
    for (size_t i = 0; i < n->n; i++) {
        const char *host = n->v[i].host;
        if (host[0] != '\0' && strncmp(host, "127.", 4) != 0 && strcmp(host, "::1") != 0 && strcmp(host, "localhost") != 0) {
            return false;
        }
    }
    return n->n > 0;
}

void cli_nodes_free(struct cli_nodes *n)
{
    for (size_t i = 0; i < n->n; i++) {
        free(n->v[i].text);
    }
    free(n->v);
    *n = (struct cli_nodes){0};
}
