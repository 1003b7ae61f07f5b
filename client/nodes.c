/* The nodes that a client knows: found by address or id, chosen in turn. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "client/client_impl.h"

static struct node *node_find(struct sluice_client *c, const char *host, uint16_t port)
{
    for (struct node *n = c->nodes; n != NULL; n = n->next) {
        if (n->port == port && strcmp(n->host, host) == 0) {
            return n;
        }
    }
    return NULL;
}

void node_add(struct sluice_client *c, const char *host, uint16_t port)
{
    if (node_find(c, host, port) != NULL) {
        return;
    }
    struct node *n = node_make(c, host, port);
    struct node **p = &c->nodes;
    while (*p != NULL) {
        p = &(*p)->next;
    }
    *p = n;
    c->n_nodes++;
}

struct found { struct sluice_client *client; struct node *node; };

static void found_one(void *arg, const char *host, uint16_t port)
{
    struct found *f = arg;
    node_add(f->client, host, port);
    f->node = node_find(f->client, host, port);
}

struct node *node_get(struct sluice_client *c, const char *address)
{
    struct found f = {.client = c};
    return sluice_endpoints_each(address, found_one, &f) == 0 ? f.node : NULL;
}

struct node *node_by_id(struct sluice_client *c, uint32_t id)
{
    struct node *best = NULL;
    for (struct node *n = c->nodes; id != 0 && n != NULL; n = n->next) {
        /* A connected one first: the same node may be known by two addresses. Else the latest told. */
        if (n->id == id && (best == NULL || n->state == NODE_READY || (best->state != NODE_READY && n->state != NODE_BACKOFF))) {
            best = n;
            if (n->state == NODE_READY) {
                break;
            }
        }
    }
    return best;
}

struct node *node_in_turn(struct sluice_client *c, unsigned *turn, const struct node *avoid)
{
    struct node *second = NULL;
    for (unsigned i = 0; i < c->n_nodes; i++) {
        unsigned at = (*turn + i) % c->n_nodes;
        struct node *n = c->nodes;
        while (at-- > 0) {
            sluice_assert(n != NULL); /* the list has n_nodes */
            n = n->next;
        }
        if (!node_usable(n)) {
            continue;
        }
        if (n != avoid && !node_quiet(n)) {
            *turn += i + 1;
            return n;
        }
        second = second == NULL || second == avoid ? n : second;
    }
    return second;
}
