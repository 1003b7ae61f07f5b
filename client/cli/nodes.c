/* Fetching /metrics of every node at once: one request per connection, which the node closes. */
#include "client/cli/nodes.h"

#include <stdlib.h>

#include "client/cli/http.h"
#include "client/exposition.h"

enum { ASK_MS = 1000 };

struct asking;
struct ask {
    struct http_client http;
    struct iovec iov;
    struct asking *all;
    struct cli_node *node;
    char request[400];
};
struct asking { struct cli *cli; struct env_timer timer; struct ask *v; size_t n, open; };

static void on_ready(struct http_client *h)
{
    struct ask *a = h->user;
    http_client_send(h, &a->iov, 1);
}

static void on_answer(struct http_client *h, const struct http_answer *answer)
{
    struct ask *a = h->user;
    if (answer->status == 200) {
        a->node->text = strndup(answer->body, answer->n);
        a->node->at_ns = env_clock_ns(a->all->cli->env);
    }
}

static void on_gone(struct http_client *h, const char *why)
{
    (void)why;
    struct ask *a = h->user;
    if (--a->all->open == 0) {
        env_stop(a->all->cli->env);
    }
}

static const struct http_client_ops ops = {.ready = on_ready, .answer = on_answer, .gone = on_gone};

static void too_late(struct env_timer *t)
{
    struct asking *all = container_of(t, struct asking, timer);
    for (size_t i = 0; i < all->n; i++) {
        if (all->v[i].http.open) {
            http_client_close(&all->v[i].http, "no answer");
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
        *a = (struct ask){.http = {.ops = &ops, .user = a}, .all = &all, .node = &n->v[i]};
        struct http_url url = {.port = n->v[i].port};
        memcpy(url.host, n->v[i].host, sizeof url.host);
        int len = snprintf(a->request, sizeof a->request, "GET /metrics HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n", url.host);
        a->iov = (struct iovec){.iov_base = a->request, .iov_len = (size_t)len};
        all.open += http_client_open(&a->http, c->env, &url, NULL) == 0;
    }
    while (all.open > 0) {
        env_uv_run(c->env);
    }
    env_timer_close(&all.timer);
    for (size_t i = 0; i < n->n; i++) {
        answered += n->v[i].text != NULL;
        http_client_deinit(&all.v[i].http);
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
