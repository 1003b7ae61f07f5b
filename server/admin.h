/* admin.h: the admin listener: metrics and health over HTTP/1.1, GET only, on lane 0.
 *
 * GET /metrics, /health/live, /health/ready. Strict: a request line and headers of at most 4 KiB, no body; everything else gets 400, 404, 405 or 431 and the
 * connection is closed. One request per connection is answered, then it closes. At most ADMIN_CONNECTIONS_MAX connections; idle ones end after 10 s. */
#ifndef SLUICE_ADMIN_H
#define SLUICE_ADMIN_H

#include <stdbool.h>
#include <stdint.h>

#include "server/metrics.h"
#include "storage/env.h"

enum { ADMIN_CONNECTIONS_MAX = 64 };

struct admin;
struct admin_options {
    struct env *env;
    const char *host;
    uint16_t port;     /* 0: a free one */
    void *arg;
    /* Ready: true; else false and why. */
    bool (*ready)(void *arg, char why[256]);
    /* Asks every lane for its counters (lane_metrics_fill on the lane, env_post back) and calls done(darg, sum) on lane 0, once; may do so inside. The sum
     * (metrics_add) is valid during done. */
    void (*gather)(void *arg, void (*done)(void *darg, const struct node_metrics *sum), void *darg);
};
int admin_open(struct admin **out, const struct admin_options *o);
/* done may be NULL; it runs when all connections are closed. */
void admin_close(struct admin *a, void (*done)(void *arg), void *arg);

/* Parses a request head (ends with an empty line). 0: more bytes needed; 200: *path is set (NUL-terminated in place); else the HTTP status to answer. Pure, fuzzed. */
int admin_parse(char *data, size_t n, const char **path);

#endif
