/* node_metrics.c: the counters of all lanes, added up on lane 0. Each lane copies its own into a message; nothing is shared. */
#include <stdlib.h>

#include "proto/base.h"
#include "server/node_impl.h"
#include "server/shard.h"

struct gather {
    struct node *node;
    struct node_metrics sum;
    unsigned left;
    void (*done)(void *arg, const struct node_metrics *sum);
    void *arg;
};

struct part {
    struct gather *gather;
    struct lane_metrics metrics;
    struct journal_stats journal;
    struct groups_stats groups;
    struct links_stats links;
    struct kinesis_metrics kinesis;
    bool full, has_kinesis;
};

static void add_node(struct gather *g)
{
    struct node *n = g->node;
    struct node_metrics *m = &g->sum;
    char why[256];
    m->node_id = n->identity.node_id;
    m->n_lanes = n->n_lanes;
    m->incarnation = n->identity.incarnation;
    m->uptime_ms = env_now_ms(n->env) - n->started_ms;
    m->map_version = n->map != NULL ? n->map->version : 0;
    m->ready = node_ready(n, why);
    env_disk_free(n->env, n->settings.data, &m->disk_free);
    env_usage(n->env, &m->process);
    if (n->controller != NULL) {
        struct controller_stats s = { 0 };
        controller_stats(n->controller, &s);
        m->streams = s.streams;
        m->shards = s.shards;
        m->reshards = s.reshards;
        m->leaderless = s.leaderless;
        m->under_replicated = s.under_replicated;
        m->nodes = s.nodes;
        m->nodes_alive = s.nodes_alive;
        m->controller_leader = s.is_leader;
    }
}

static void finish(struct gather *g)
{
    add_node(g);
    g->done(g->arg, &g->sum);
    free(g);
}

static void part_back(struct lane *zero, void *arg)
{
    (void)zero;
    struct part *p = arg;
    struct gather *g = p->gather;
    if (p->full) {
        metrics_add(&g->sum, &p->metrics, &p->journal, &p->groups, &p->links);
    } else {
        metrics_add(&g->sum, &p->metrics, NULL, NULL, NULL);
    }
    if (p->has_kinesis) {
        metrics_add_kinesis(&g->sum, &p->kinesis);
    }
    free(p);
    if (--g->left == 0) {
        finish(g);
    }
}

static void part_here(struct lane *l, void *arg)
{
    struct part *p = arg;
    p->metrics = l->metrics;
    p->full = l->serving;
    if (p->full) {
        journal_stats(l->journal, &p->journal);
        groups_stats(l->groups, &p->groups);
        links_stats(groups_links(l->groups), &p->links);
    }
    p->has_kinesis = l->kinesis != NULL;
    if (p->has_kinesis) {
        kinesis_metrics(l->kinesis, &p->kinesis);
    }
    lane_run(l->node->lanes[0], part_back, p);
}

void node_metrics_gather(struct node *n, void (*done)(void *arg, const struct node_metrics *sum), void *arg)
{
    struct gather *g = xcalloc(1, sizeof *g);
    *g = (struct gather){ .node = n, .done = done, .arg = arg };
    if (n->phase != NODE_PHASE_RUNNING) {
        finish(g);
        return;
    }
    g->left = n->n_lanes;
    for (unsigned i = 0; i < n->n_lanes; i++) {
        struct part *p = xcalloc(1, sizeof *p);
        p->gather = g;
        lane_run(n->lanes[i], part_here, p);
    }
}
