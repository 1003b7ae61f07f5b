/* node.c: a node's life (see node.h, node_impl.h). How it comes to running lanes is in node_form.c.
 *
 *   node_start: settings, identity (locks the folder), listener -> formation -> lanes -> controller -> RUNNING
 *   node_stop:  leaderships handed over (bounded) -> controller closed -> lanes drained -> lanes closed -> identity says "clean" -> done */
#include "server/node.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proto/base.h"
#include "proto/error.h"
#include "server/node_impl.h"
#include "server/request.h"
#include "sluice.pb-c.h"
#include "storage/env_tls.h"

const struct settings *node_settings(const struct node *n) { return &n->settings; }
struct env *node_env(struct node *n) { return n->env; }
uint32_t node_id(const struct node *n) { return n->identity.node_id; }
const struct identity *node_identity(const struct node *n) { return &n->identity; }

/* ---- starting ---- */

void node_split_address(const char *text, char host[256], uint16_t *port)
{
    const char *colon = strrchr(text, ':');
    size_t n = (size_t)(colon - text);
    bool brackets = n >= 2 && text[0] == '[' && text[n - 1] == ']';
    snprintf(host, 256, "%.*s", (int)(brackets ? n - 2 : n), text + (brackets ? 1 : 0));
    *port = (uint16_t)strtoul(colon + 1, NULL, 10);
}

static bool admin_ready(void *arg, char why[256])
{
    return node_ready(arg, why);
}

static void admin_gather(void *arg, void (*done)(void *darg, const struct node_metrics *sum), void *darg)
{
    node_metrics_gather(arg, done, darg);
}

static int open_admin(struct node *n, char err[256])
{
    if (n->settings.admin[0] == 0) {
        return 0;
    }
    char host[256];
    struct admin_options o = { .env = n->env, .host = host, .arg = n, .ready = admin_ready, .gather = admin_gather };
    node_split_address(n->settings.admin, host, &o.port);
    int rc = admin_open(&n->admin, &o);
    if (rc != 0) {
        snprintf(err, 256, "cannot listen on the admin address %.100s: %s", n->settings.admin, strerror(-rc));
    }
    return rc;
}

/* What node_start() has made so far, of a node that will not be. Nothing has run on the loop yet, so nothing is under way. */
static void start_undo(struct node *n)
{
    if (n->formation != NULL) {
        formation_close(n->formation);
    }
    if (n->peers != NULL) {
        peer_client_close(n->peers, NULL, NULL);
    }
    tls_context_unref(n->kinesis_tls);
    for (unsigned i = 0; i < n->n_lanes; i++) {
        if (n->lanes[i]->listening) {
            env_listener_close(&n->lanes[i]->listener);
        }
        lane_free(n->lanes[i]);
    }
    identity_close(n->env, &n->identity);
    free(n);
}

int node_start(struct env *env, const struct settings *settings, struct node **out, char err[256])
{
    int rc = settings_check(settings, err);
    if (rc != 0) {
        return rc;
    }
    struct node *n = xcalloc(1, sizeof *n);
    n->env = env;
    n->settings = *settings;
    n->log = (struct log){ .env = env, .node = (uint32_t)settings->node_id, .json = strcmp(settings->log_format, "json") == 0 };
    log_level_parse(settings->log_level, &n->log.level);
    n->started_ms = env_now_ms(env);
    rc = env_mkdir(env, settings->data);
    if (rc != 0) {
        snprintf(err, 256, "cannot make the data folder %.150s: %s", settings->data, strerror(-rc));
        free(n);
        return rc;
    }
    rc = identity_open(env, settings->data, (uint32_t)settings->node_id, &n->identity, err);
    if (rc != 0) {
        log_error(&n->log, "the data folder cannot be used", "folder=\"%s\" reason=\"%s\"", settings->data, err);
        if (rc > 0) {
            env_fatal(env, rc, err);
        }
        free(n);
        return rc;
    }
    n->n_lanes = (unsigned)(settings->lanes != 0 ? settings->lanes : n->identity.lanes != 0 ? n->identity.lanes : max_u64(settings->cores, 1));
    if (n->n_lanes > LANES_MAX) {
        n->n_lanes = LANES_MAX;
    }
    if (n->identity.lanes > n->n_lanes) {
        snprintf(err, 256, "the data folder has journals of %u lanes, the setting lanes is %u: it can be raised but not lowered", n->identity.lanes, n->n_lanes);
        n->n_lanes = 0; /* none is made */
        start_undo(n);
        return SLUICE_E_INVALID;
    }
    for (unsigned i = 0; i < n->n_lanes; i++) {
        n->lanes[i] = lane_make(n, i);
    }
    node_split_address(settings->listen, n->host, &n->port);
    rc = lane_listen(n->lanes[0], n->host, &n->port);
    if (rc != 0) {
        snprintf(err, 256, "cannot listen on %.100s: %s", settings->listen, strerror(-rc));
    } else {
        snprintf(n->address, sizeof n->address, strchr(n->host, ':') != NULL ? "[%s]:%u" : "%s:%u", n->host, n->port);
        rc = lane_kinesis_check(n->lanes[0], err);
    }
    if (rc == 0) {
        rc = node_form_start(n, err);
    }
    if (rc == 0) {
        rc = open_admin(n, err); /* last: its end takes turns of the loop */
    }
    if (rc != 0) {
        start_undo(n);
        return rc;
    }
    *out = n;
    return 0;
}

/* ---- control requests ---- */

static void answer_error(uint64_t correlation, int code, const char *why, control_reply reply, void *arg)
{
    Sluice__Error e = SLUICE__ERROR__INIT;
    e.code = (uint32_t)code;
    e.message = (char *)(uintptr_t)(why != NULL ? why : sluice_error_text(code));
    e.retry_after_ms = 100;
    size_t len = 0;
    void *frame = frame_encode(FRAME_ERROR, correlation, &e, 0, &len);
    reply(arg, frame, len);
}

void node_control(struct node *n, uint8_t kind, uint64_t correlation, const void *message, size_t len, bool from_peer, control_reply reply, void *arg)
{
    if (n->controller != NULL) {
        controller_request(n->controller, kind, correlation, message, len, from_peer, reply, arg);
    } else if (n->phase >= NODE_PHASE_STOPPING) {
        answer_error(correlation, SLUICE_E_SHUTTING_DOWN, NULL, reply, arg);
    } else if (kind == FRAME_FORM && n->formation != NULL) {
        formation_request(n->formation, correlation, message, len, reply, arg);
    } else {
        answer_error(correlation, SLUICE_E_NOT_READY, "the node is starting", reply, arg);
    }
}

/* ---- what the lanes tell ---- */

void node_lane_status(struct node *n, unsigned number, struct replica_status *status, unsigned n_status, unsigned not_caught_up, unsigned lost_copies, bool has_map)
{
    free(n->replicas[number]);
    n->replicas[number] = status;
    n->n_replicas[number] = n_status;
    n->not_caught_up[number] = not_caught_up;
    if (lost_copies > n->lost_copies[number]) {
        log_error(&n->log, "the only copy of some shards is damaged; they stay closed, the others go on", "lane=%u shards=%u todo=\"put back a copy of the whole data folder, or delete the streams concerned\"",
                  number, lost_copies);
    }
    n->lost_copies[number] = lost_copies;
    n->told[number] = has_map;
    if (n->controller != NULL) {
        controller_replicas_changed(n->controller);
    }
}

bool node_ready(const struct node *n, char why[256])
{
    why[0] = 0;
    switch (n->phase) {
    case NODE_PHASE_STARTING:
    case NODE_PHASE_FORMING:
        snprintf(why, 256, "forming: %s", n->formation != NULL ? formation_state(n->formation) : "");
        return false;
    case NODE_PHASE_OPENING:
        snprintf(why, 256, "recovering the journals");
        return false;
    case NODE_PHASE_RUNNING:
        break;
    default:
        snprintf(why, 256, "stopping");
        return false;
    }
    if (n->controller == NULL || controller_leader_node(n->controller) == 0) {
        snprintf(why, 256, "the controller has no leader");
        return false;
    }
    if (n->map == NULL) {
        snprintf(why, 256, "no cluster map yet");
        return false;
    }
    unsigned missing = 0, lost = 0;
    for (unsigned i = 0; i < n->n_lanes; i++) {
        if (!n->told[i]) {
            snprintf(why, 256, "lane %u has no cluster map yet", i);
            return false;
        }
        missing += n->not_caught_up[i];
        lost += n->lost_copies[i];
    }
    if (lost > 0) {
        snprintf(why, 256, "the only copy of %u shards, here, is damaged (see the log): they stay closed, the others go on; put back a copy of the whole data folder, or delete their streams", lost);
        return false;
    }
    if (missing > 0) {
        snprintf(why, 256, "%u replicas have not caught up or do not vote yet", missing);
        return false;
    }
    return true;
}

/* ---- stopping ---- */

static void finish_stop(struct node *n)
{
    n->phase = NODE_PHASE_DONE;
    n->identity.last_end = IDENTITY_CLEAN;
    int rc = identity_save(n->env, n->settings.data, &n->identity);
    if (rc != 0) {
        log_warn(&n->log, "the clean end could not be noted", "reason=\"%s\"", strerror(-rc));
    }
    for (unsigned i = 0; i < n->n_lanes; i++) {
        if (i > 0 && n->lanes[i]->env != NULL) {
            env_lane_join(n->lanes[i]->env);
        }
        lane_free(n->lanes[i]);
        free(n->replicas[i]);
    }
    if (n->formation != NULL) {
        formation_close(n->formation);
    }
    if (n->map != NULL) {
        cluster_map_unref(n->map);
    }
    node_reload_tls_forget(n);
    tls_context_unref(n->kinesis_tls);
    identity_close(n->env, &n->identity); /* after the lanes: nothing writes any more */
    log_info(&n->log, "stopped", NULL);
    void (*done)(void *) = n->stop_done;
    void *arg = n->stop_arg;
    free(n);
    if (done != NULL) {
        done(arg);
    }
}

static void admin_closed(void *arg)
{
    struct node *n = arg;
    n->admin = NULL;
    finish_stop(n);
}

static void peers_closed(void *arg)
{
    struct node *n = arg;
    n->peers = NULL;
    if (n->admin != NULL) {
        admin_close(n->admin, admin_closed, n);
    } else {
        finish_stop(n);
    }
}

void node_lane_closed(struct node *n)
{
    if (++n->lanes_closed < n->n_lanes) {
        return;
    }
    if (n->peers != NULL) {
        peer_client_close(n->peers, peers_closed, n);
    } else {
        peers_closed(n);
    }
}

void node_lane_drained(struct node *n)
{
    if (++n->lanes_drained == n->n_lanes) {
        for (unsigned i = 0; i < n->n_lanes; i++) {
            lane_close(n->lanes[i]);
        }
    }
}

static void controller_closed(void *arg)
{
    struct node *n = arg;
    for (unsigned i = 0; i < n->n_lanes; i++) {
        lane_drain(n->lanes[i]);
    }
}

static void close_node(struct node *n)
{
    if (n->phase != NODE_PHASE_STOPPING) {
        return;
    }
    n->phase = NODE_PHASE_CLOSING;
    env_timer_close(&n->stop_timer);
    struct controller *c = n->controller;
    n->controller = NULL;
    controller_close(c, controller_closed, n);
}

static void stop_late(struct env_timer *t)
{
    struct node *n = container_of(t, struct node, stop_timer);
    log_warn(&n->log, "not all leaderships could be handed over in time", NULL);
    close_node(n);
}

static void controller_handed_over(void *arg, int status)
{
    struct node *n = arg;
    (void)status;
    close_node(n);
}

void node_lane_quiet(struct node *n)
{
    if (++n->lanes_quiet < n->n_lanes || n->phase != NODE_PHASE_STOPPING) {
        return;
    }
    /* The controller's leadership goes last: it placed the others'. */
    struct group *g = groups_find(n->lanes[0]->groups, CONTROLLER_GROUP);
    if (g == NULL || group_role(g) != GROUP_LEADER || n->map == NULL || n->map->n_controller_voters < 2 || group_transfer(g, 0, controller_handed_over, n) != 0) {
        close_node(n);
    }
}

/* A node that never came to run has nothing to hand over or to flush. */
static void stop_before_running(struct node *n)
{
    n->phase = NODE_PHASE_DONE;
    void (*done)(void *) = n->stop_done;
    void *arg = n->stop_arg;
    if (done != NULL) {
        done(arg);
    }
}

void node_stop(struct node *n, void (*done)(void *arg), void *arg)
{
    if (n->phase >= NODE_PHASE_STOPPING) {
        return;
    }
    n->stop_done = done;
    n->stop_arg = arg;
    if (n->phase == NODE_PHASE_OPENING) {
        n->stop_wanted = true; /* node_form.c stops as soon as the lanes run */
        return;
    }
    if (n->phase < NODE_PHASE_RUNNING) {
        stop_before_running(n);
        return;
    }
    log_info(&n->log, "stopping", NULL);
    n->phase = NODE_PHASE_STOPPING;
    controller_stopping(n->controller);
    if (env_timer_init(n->env, &n->stop_timer, stop_late) == 0) {
        env_timer_start_ms(&n->stop_timer, n->settings.stop_timeout_ms);
    }
    for (unsigned i = 0; i < n->n_lanes; i++) {
        lane_stop(n->lanes[i]);
    }
}
