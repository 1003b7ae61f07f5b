/* lane_kinesis.c: the Kinesis endpoint in a lane's life: opened once every lane serves, closed before leaderships have gone and connections end. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proto/base.h"
#include "proto/error.h"
#include "server/kinesis/kinesis.h"
#include "server/kinesis/kinesis_keys.h"
#include "server/node_impl.h"
#include "storage/env_tls.h"

enum { GRACE_MS = 2000 }; /* for calls under way when the node stops; never more than half of stop-timeout-ms */

static void nobody(struct env_listener *l) { (void)l; }

static int check_port(struct lane *l, char err[256])
{
    char host[256];
    uint16_t port;
    node_split_address(l->node->settings.kinesis, host, &port);
    struct env_listener probe;
    /* Without share_port: another process that shares the port must be noticed. */
    int rc = env_listen(l->env, &probe, host, port, false, nobody);
    if (rc == 0) {
        env_listener_close(&probe);
    } else {
        snprintf(err, 256, "cannot listen on the Kinesis address %.100s: %s", l->node->settings.kinesis, strerror(-rc));
    }
    return rc;
}

static int check_access_keys(struct lane *l, char err[256])
{
    const struct settings *s = &l->node->settings;
    if (s->access_keys[0] == 0) {
        return 0;
    }
    char why[256];
    struct kinesis_keys *keys = kinesis_keys_load(l->env, s->access_keys, s->account, why);
    if (keys == NULL) {
        snprintf(err, 256, "setting access-keys: %.100s: %.120s", s->access_keys, why);
        return SLUICE_E_INVALID;
    }
    kinesis_keys_free(keys);
    return 0;
}

static int load_tls(struct lane *l, char err[256])
{
    static const uint8_t alpn[] = "\x02h2\x08http/1.1";
    const struct settings *s = &l->node->settings;
    if (s->kinesis_tls_cert[0] == 0) {
        return 0;
    }
    char why[256];
    const struct tls_options o = {.alpn = alpn, .alpn_len = sizeof alpn - 1};
    if (tls_context_load(l->env, &l->node->kinesis_tls, s->kinesis_tls_cert, s->kinesis_tls_key, &o, why) != 0) {
        snprintf(err, 256, "settings kinesis-tls-cert, kinesis-tls-key: %.200s", why);
        return SLUICE_E_INVALID;
    }
    return 0;
}

int lane_kinesis_check(struct lane *l, char err[256])
{
    if (l->node->settings.kinesis[0] == 0) {
        return 0;
    }
    int rc = check_port(l, err);
    rc = rc == 0 ? check_access_keys(l, err) : rc;
    return rc == 0 ? load_tls(l, err) : rc;
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
        log_info(&l->log, "Kinesis endpoint open", "address=%s port=%u tls=%s", n->settings.kinesis, port, n->kinesis_tls != NULL ? "yes" : "no");
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
