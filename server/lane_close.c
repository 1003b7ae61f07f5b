/* lane_close.c: how a lane ends: leaderships handed over, shards and connections closed, then groups and journal (the node tells when each step may begin). */
#include "server/lane.h"

#include <stdlib.h>

#include "proto/base.h"
#include "server/connection.h"
#include "server/node_impl.h"
#include "server/shard.h"

enum { LAST_TURNS_MS = 5 };

static void tell_drained(struct lane *zero, void *arg) { (void)arg; node_lane_drained(zero->node); }
static void tell_closed(struct lane *zero, void *arg) { (void)arg; node_lane_closed(zero->node); }

static void stop_here(struct lane *l, void *arg)
{
    (void)arg;
    l->stopping = true;
    lane_kinesis_close(l);
    lane_transfer_step(l);
}

void lane_stop(struct lane *l)
{
    lane_run(l, stop_here, NULL);
}

void lane_close_step(struct lane *l)
{
    if (!l->closing || l->drained || l->n_shards > 0 || l->n_connections > 0 || l->kinesis != NULL) {
        return;
    }
    l->drained = true;
    lane_run(l->node->lanes[0], tell_drained, NULL);
}

static void drain_here(struct lane *l, void *arg)
{
    (void)arg;
    l->closing = true;
    l->serving = false;
    env_timer_close(&l->tick);
    env_timer_close(&l->status_timer);
    if (l->listening) {
        env_listener_close(&l->listener);
        l->listening = false;
    }
    connections_close_all(l);
    for (struct shard *s = l->shards, *next; s != NULL; s = next) {
        next = s->next;
        shard_close(s, s->remove, lane_close_step);
    }
    lane_close_step(l);
}

void lane_drain(struct lane *l)
{
    lane_run(l, drain_here, NULL);
}

static void turns_over(struct env_timer *t)
{
    struct lane *l = container_of(t, struct lane, tick);
    env_timer_close(&l->tick);
    lane_run(l->node->lanes[0], tell_closed, NULL);
    if (l->number > 0) {
        env_stop(l->env);
    }
}

static void journal_flushed(struct journal_append *a)
{
    struct lane *l = container_of(a, struct lane, barrier);
    journal_close(l->journal);
    l->journal = NULL;
    journal_recovered_free(l->recovered);
    l->recovered = NULL;
    if (l->map != NULL) {
        cluster_map_unref(l->map);
        l->map = NULL;
    }
    /* Connections of the links are still being closed: a few turns more, and their memory is free. */
    if (env_timer_init(l->env, &l->tick, turns_over) != 0) {
        turns_over(&l->tick);
        return;
    }
    env_timer_start_ms(&l->tick, LAST_TURNS_MS);
}

static void groups_closed(void *arg)
{
    struct lane *l = arg;
    l->groups = NULL;
    l->barrier = (struct journal_append){ .done = journal_flushed };
    journal_barrier(l->journal, &l->barrier);
}

static void close_here(struct lane *l, void *arg)
{
    (void)arg;
    groups_close(l->groups, groups_closed, l);
}

void lane_close(struct lane *l)
{
    lane_run(l, close_here, NULL);
}
