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

static const uint8_t alpn[] = "\x02h2\x08http/1.1";
static const struct tls_options tls_options = {.alpn = alpn, .alpn_len = sizeof alpn - 1};

static int load_tls(struct lane *l, char err[256])
{
    const struct settings *s = &l->node->settings;
    if (s->kinesis_tls_cert[0] == 0) {
        return 0;
    }
    char why[256];
    if (tls_context_load(l->env, &l->node->kinesis_tls, s->kinesis_tls_cert, s->kinesis_tls_key, &tls_options, why) != 0) {
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

/* ---- a renewed certificate ---- */

struct tls_reload {
    struct env_job job;
    struct env *env;
    struct node *node; /* NULL: it has ended */
    char cert[1024], key[1024], why[256];
    struct tls_context *tls;
};

static void take_tls(struct lane *l, void *arg)
{
    struct tls_context *tls = arg;
    if (l->kinesis != NULL) {
        kinesis_set_tls(l->kinesis, tls);
    }
    tls_context_unref(tls);
}

static void read_again(struct env_job *j)
{
    struct tls_reload *r = container_of(j, struct tls_reload, job);
    if (tls_context_load(r->env, &r->tls, r->cert, r->key, &tls_options, r->why) != 0) {
        r->tls = NULL;
    }
}

static void was_read(struct env_job *j)
{
    struct tls_reload *r = container_of(j, struct tls_reload, job);
    struct node *n = r->node;
    if (n != NULL) {
        n->tls_reload = NULL;
    }
    if (n != NULL && r->tls == NULL) {
        log_error(&n->log, "the renewed certificate cannot be used, the old one stays", "reason=\"%s\"", r->why);
    } else if (n != NULL && n->phase == NODE_PHASE_RUNNING) {
        for (unsigned i = 0; i < n->n_lanes; i++) {
            lane_run(n->lanes[i], take_tls, tls_context_ref(r->tls));
        }
        log_info(&n->log, "the certificate was read again", "file=\"%s\"", r->cert);
    }
    tls_context_unref(r->tls);
    free(r);
}

void node_reload_tls(struct node *n)
{
    /* Lanes that have not opened their endpoint would take the old one. */
    if (n->kinesis_tls == NULL || n->tls_reload != NULL || n->phase != NODE_PHASE_RUNNING || n->lanes[0]->kinesis == NULL) {
        log_warn(&n->log, "the certificate is not read again", "reason=\"%s\"", n->kinesis_tls == NULL ? "there is none" : n->tls_reload != NULL ? "it is being read" : "the node does not serve");
        return;
    }
    struct tls_reload *r = xcalloc(1, sizeof *r);
    r->env = n->env;
    r->node = n;
    memcpy(r->cert, n->settings.kinesis_tls_cert, sizeof r->cert);
    memcpy(r->key, n->settings.kinesis_tls_key, sizeof r->key);
    n->tls_reload = r;
    env_job_submit(n->env, ENV_QUEUE_BULK, &r->job, read_again, was_read);
}

void node_reload_tls_forget(struct node *n)
{
    if (n->tls_reload != NULL) {
        n->tls_reload->node = NULL;
    }
}
