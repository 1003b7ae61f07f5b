/* lane_kinesis.c: the Kinesis endpoint in a lane's life: opened once every lane serves, closed before leaderships have gone and connections end. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proto/base.h"
#include "server/kinesis/kinesis.h"
#include "server/kinesis/kinesis_keys.h"
#include "server/node_impl.h"

enum { GRACE_MS = 2000 }; /* for calls under way when the node stops; never more than half of stop-timeout-ms */

static void nobody(struct env_listener *l) { (void)l; }

int lane_kinesis_check(struct lane *l)
{
    char host[256];
    uint16_t port;
    node_split_address(l->node->settings.kinesis, host, &port);
    struct env_listener probe;
    /* Without share_port: another process that shares the port must be noticed. */
    int rc = env_listen(l->env, &probe, host, port, false, nobody);
    if (rc == 0) {
        env_listener_close(&probe);
    }
    return rc;
}

struct opening { uint16_t port; };

static void open_here(struct lane *l, void *arg)
{
    struct opening *o = arg;
    struct node *n = l->node;
    char host[256];
    uint16_t port;
    node_split_address(n->settings.kinesis, host, &port);
    port = o->port != 0 ? o->port : port;
    free(o);
    if (l->stopping || l->closing) {
        return;
    }
    int rc = kinesis_open(&l->kinesis, l, host, &port);
    if (rc != 0) {
        log_error(&l->log, "cannot listen on the Kinesis address", "lane=%u address=%s reason=\"%s\"", l->number, n->settings.kinesis, strerror(-rc));
        env_fatal(l->env, 1, "cannot listen on the Kinesis address");
        return;
    }
    if (l->number == 0) {
        log_info(&l->log, "Kinesis endpoint open", "address=%s port=%u", n->settings.kinesis, port);
        for (unsigned i = 1; i < n->n_lanes; i++) {
            lane_kinesis(n->lanes[i], port);
        }
    }
}

void lane_kinesis(struct lane *l, uint16_t port)
{
    struct opening *o = xmalloc(sizeof *o);
    o->port = port;
    lane_run(l, open_here, o);
}

static void closed(void *arg)
{
    struct lane *l = arg;
    l->kinesis = NULL;
    lane_transfer_step(l);
    lane_close_step(l);
}

void lane_kinesis_close(struct lane *l)
{
    if (l->kinesis != NULL) {
        kinesis_close(l->kinesis, min_u64(GRACE_MS, l->node->settings.stop_timeout_ms / 2), closed, l);
    }
}
