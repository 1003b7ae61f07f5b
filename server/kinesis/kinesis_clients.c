/* kinesis_clients.c: the native clients of an endpoint, one for each account that calls. How many there can be is bounded by the file of access keys. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proto/base.h"
#include "server/kinesis/kinesis_impl.h"
#include "server/node_impl.h"

struct account_client {
    struct account_client *next;
    char account[16];
    struct sluice_client *client;
};

struct kinesis_clients {
    struct account_client *first;
    unsigned n, closing;
    void (*done)(void *arg);
    void *arg;
};

void kinesis_clients_open(struct kinesis *k) { k->clients = xcalloc(1, sizeof *k->clients); }

static void add_address(char *list, size_t size, const char *host, uint16_t port)
{
    size_t n = strlen(list);
    snprintf(list + n, size - n, strchr(host, ':') != NULL ? "%s[%s]:%u" : "%s%s:%u", n > 0 ? "," : "", host, port);
}

/* This node first: it takes control calls at once, and hands them on if need be. The others for when it stops. */
static void endpoints(const struct kinesis *k, char *list, size_t size)
{
    const struct node *n = k->lane->node;
    const char *host = strcmp(n->host, "0.0.0.0") == 0 ? "127.0.0.1" : strcmp(n->host, "::") == 0 ? "::1" : n->host; /* "any" is no address to connect to */
    list[0] = '\0';
    add_address(list, size, host, n->port);
    const struct cluster_map *m = k->lane->map;
    for (unsigned i = 0; m != NULL && i < m->n_nodes; i++) {
        if (m->nodes[i].id != n->identity.node_id && m->nodes[i].state != NODE_REMOVED && m->nodes[i].port != 0) {
            add_address(list, size, m->nodes[i].host, m->nodes[i].port);
        }
    }
}

struct sluice_client *call_client(struct call *c)
{
    struct kinesis *k = c->k;
    struct account_client *a = k->clients->first;
    while (a != NULL && strcmp(a->account, c->account) != 0) {
        a = a->next;
    }
    if (a != NULL) {
        return a->client;
    }
    if (k->clients->n > KEYS_ACCOUNTS_MAX || k->clients->closing > 0) {
        call_fail(c, AWS_E_ServiceUnavailable, "The node is stopping.");
        return NULL;
    }
    a = xcalloc(1, sizeof *a);
    memcpy(a->account, c->account, sizeof a->account);
    enum { LIST_MAX = 350 + NODES_MAX * 80 };
    char *list = xmalloc(LIST_MAX);
    endpoints(k, list, LIST_MAX);
    struct sluice_client_options o = {.endpoints = list, .agent = "sluice-kinesis/" SLUICE_VERSION, .account = a->account, .in_order = true};
    int rc = sluice_client_open(k->env, &o, &a->client);
    free(list);
    if (rc != 0) {
        free(a);
        call_fail(c, AWS_E_InternalFailure, "The node cannot reach itself: %s.", sluice_error_text(rc));
        return NULL;
    }
    a->next = k->clients->first;
    k->clients->first = a;
    k->clients->n++;
    return a->client;
}

static void closed(void *user)
{
    struct kinesis_clients *clients = user;
    if (--clients->closing > 0) {
        return;
    }
    void (*done)(void *) = clients->done;
    void *arg = clients->arg;
    free(clients);
    done(arg);
}

void kinesis_clients_close(struct kinesis *k, void (*done)(void *arg), void *arg)
{
    struct kinesis_clients *clients = k->clients;
    clients->done = done;
    clients->arg = arg;
    clients->closing = clients->n + 1;
    while (clients->first != NULL) {
        struct account_client *a = clients->first;
        clients->first = a->next;
        sluice_client_close(a->client, closed, clients); /* calls end, and release what they hold, before this returns */
        free(a);
    }
    closed(clients);
}
