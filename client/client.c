/* The client: its options, its nodes, its end. */
#include <stdio.h>
#include <stdlib.h>

#include "client/client_impl.h"

enum { PORT_DEFAULT = 4570 };

/* ---- endpoints ------------------------------------------------------------------------------------------------------------- */

/* One "host:port", "host", "[v6]:port" or "[v6]". */
static int endpoint_parse(const char *text, size_t n, char *host, size_t host_size, uint16_t *port)
{
    const char *end = text + n, *colon;
    size_t host_len;
    if (n > 0 && text[0] == '[') {
        const char *close = memchr(text, ']', n);
        if (close == NULL || (close + 1 < end && close[1] != ':')) {
            return SLUICE_E_INVALID;
        }
        text++;
        host_len = (size_t)(close - text);
        colon = close + 1 < end ? close + 1 : NULL;
    } else {
        colon = memchr(text, ':', n);
        host_len = colon != NULL ? (size_t)(colon - text) : n;
    }
    if (host_len == 0 || host_len >= host_size || memchr(text, ' ', host_len) != NULL) {
        return SLUICE_E_INVALID;
    }
    memcpy(host, text, host_len);
    host[host_len] = '\0';
    unsigned long value = 0;
    if (colon == NULL) {
        value = PORT_DEFAULT;
    } else {
        if (end - colon < 2 || end - colon > 6) {
            return SLUICE_E_INVALID;
        }
        for (const char *p = colon + 1; p < end; p++) {
            if (*p < '0' || *p > '9') {
                return SLUICE_E_INVALID;
            }
            value = value * 10 + (unsigned long)(*p - '0');
        }
    }
    if (value == 0 || value > 65535) {
        return SLUICE_E_INVALID;
    }
    *port = (uint16_t)value;
    return 0;
}

int sluice_endpoints_each(const char *list, void (*each)(void *arg, const char *host, uint16_t port), void *arg)
{
    /* Everything is checked before the first is told. */
    for (int pass = 0; pass < 2; pass++) {
        const char *p = list;
        while (true) {
            size_t n = strcspn(p, ",");
            char host[NODE_HOST_MAX];
            uint16_t port;
            if (endpoint_parse(p, n, host, sizeof host, &port) != 0) {
                return SLUICE_E_INVALID;
            }
            if (pass == 1) {
                each(arg, host, port);
            }
            if (p[n] == '\0') {
                break;
            }
            p += n + 1;
        }
    }
    return 0;
}

static void add_seed(void *arg, const char *host, uint16_t port)
{
    node_add(arg, host, port);
}

/* ---- opening and closing --------------------------------------------------------------------------------------------------- */

int sluice_client_open(struct env *env, const struct sluice_client_options *options, struct sluice_client **out)
{
    struct sluice_client *c = xcalloc(1, sizeof *c);
    c->env = env;
    if (options != NULL) {
        c->options = *options;
    }
    struct sluice_client_options *o = &c->options;
    o->connect_timeout_ms = o->connect_timeout_ms != 0 ? o->connect_timeout_ms : 1000;
    o->request_timeout_ms = o->request_timeout_ms != 0 ? o->request_timeout_ms : 5000;
    o->silence_ms = o->silence_ms != 0 ? o->silence_ms : 1500;
    o->call_timeout_ms = o->call_timeout_ms != 0 ? o->call_timeout_ms : 30000;
    o->account = o->account != NULL ? xstrdup(o->account) : NULL;
    o->agent = xstrdup(o->agent != NULL ? o->agent : "libsluice/" SLUICE_VERSION);
    const char *endpoints = o->endpoints != NULL && o->endpoints[0] != '\0' ? o->endpoints : "127.0.0.1:4570";
    o->endpoints = NULL;
    if (sluice_endpoints_each(endpoints, add_seed, c) != 0) {
        free((char *)(uintptr_t)o->agent);
        free((char *)(uintptr_t)o->account);
        free(c);
        return SLUICE_E_INVALID;
    }
    /* Clients with the same list should not all begin with the same node. */
    c->turn = o->in_order ? 0 : (unsigned)env_random_below(env, c->n_nodes);
    *out = c;
    return 0;
}

static void close_task(struct env_task *t)
{
    struct sluice_client *c = container_of(t, struct sluice_client, close_task);
    for (struct node *n = c->nodes, *next; n != NULL; n = next) {
        next = n->next;
        for (struct node *f = n->further, *after; f != NULL; f = after) {
            after = f->further_next;
            free(f);
        }
        free(n);
    }
    free((char *)(uintptr_t)c->options.agent);
    free((char *)(uintptr_t)c->options.account);
    void (*closed)(void *user) = c->closed;
    void *user = c->closed_user;
    free(c);
    if (closed != NULL) {
        closed(user);
    }
}

void client_wire_gone(struct sluice_client *c)
{
    sluice_assert(c->wires > 0);
    c->wires--;
    if (c->closing && c->wires == 0) {
        env_defer(c->env, &c->close_task, close_task);
    }
}

void sluice_client_close(struct sluice_client *c, void (*closed)(void *user), void *user)
{
    sluice_assert(!c->closing);
    c->closing = true;
    c->closed = closed;
    c->closed_user = user;
    calls_drop(c);
    fetches_drop(c);
    streams_drop(c);
    for (struct node *n = c->nodes; n != NULL; n = n->next) {
        node_close(n);
    }
    if (c->wires == 0) {
        env_defer(c->env, &c->close_task, close_task);
    }
}

void sluice_client_stats(const struct sluice_client *c, struct sluice_client_stats *out)
{
    *out = c->stats;
}

uint64_t backoff_ms(struct env *env, unsigned attempt, unsigned min_ms, unsigned base_ms, unsigned cap_ms)
{
    uint64_t top = min_u64(cap_ms, (uint64_t)base_ms << (attempt < 16 ? attempt : 16));
    return top <= min_ms ? min_ms : min_ms + env_random_below(env, top - min_ms + 1);
}
