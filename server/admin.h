/* admin.h: the admin listener: metrics and health over HTTP (server/http), on lane 0.
 *
 * GET /metrics, /health/live, /health/ready; HTTP/1 and HTTP/2. Everything else gets 404 or 405. At most ADMIN_CONNECTIONS_MAX connections; idle ones end after a
 * minute. */
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
/* Connections are closed at once. done may be NULL; it runs when all are closed and what was being gathered has come. */
void admin_close(struct admin *a, void (*done)(void *arg), void *arg);

#endif
