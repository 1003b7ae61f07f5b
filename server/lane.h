/* lane.h: one event loop of a node and what it owns: journal, Raft groups, shards, client connections, counters.
 *
 * Between lanes there are only messages (env_post). What is handed over is owned by the receiver. */
#ifndef SLUICE_LANE_H
#define SLUICE_LANE_H

#include "raft/group.h"
#include "server/cluster_map.h"
#include "server/fetch_room.h"
#include "server/id_table.h"
#include "server/log.h"
#include "server/metrics.h"
#include "server/routes.h"
#include "storage/env.h"
#include "storage/journal.h"

struct node;
struct shard;
struct connection;
struct request;
struct kinesis;

enum {
    LANE_TICK_MS = 100,
    LANE_CONNECTIONS_MS = 1000,
    LANE_RETENTION_MS = 5000,
    LANE_STATUS_MS = 1000,
    LANE_STATUS_IDLE_MS = 5000     /* while nothing goes on */
};

struct lane {
    struct node *node;
    struct env *env;
    unsigned number;
    struct log log;
    struct journal *journal;
    struct recovered *recovered;   /* from journal_open() until all its groups were opened */
    struct groups *groups;
    struct cluster_map *map;       /* newest this lane has; NULL at first */
    struct routes routes;          /* which lane has which group; the same on every lane, kept up by messages */
    struct shard *shards;          /* list in order of opening */
    struct shard *by_group[1024];  /* hash by group id */
    unsigned n_shards;
    struct shard *stirred;         /* those that the tick looks at: thousands of idle shards cost it nothing */
    /* connections */
    struct env_listener listener;
    bool listening;
    struct connection *connections;
    uint64_t connections_made;
    unsigned n_connections, n_connections_max, n_accept_max; /* now; of clients; of all, with nodes and those that have not said HELLO */
    uint64_t bytes_held, bytes_max; /* payloads of requests of this lane's connections; the bound */
    bool reads_paused;              /* bytes_held reached the bound: no connection is read */
    uint64_t bytes_receiving;       /* payloads of clients that are not whole yet; bytes_max bounds them too */
    unsigned n_parked;              /* connections that wait for room there */
    struct fetch_room fetch_room;   /* answers to fetches of this lane's shards, until they are written */
    struct env_task fetch_task;     /* at the end of the turn: those that waited for room and have it now */
    struct id_table subscriptions;  /* of this lane's shards, by their numbers */
    uint64_t subscriptions_made;    /* by connections of this lane: for their numbers */
    uint64_t crowded_until_ms;      /* on some lane fetches lack room: connections that do not drain are closed */
    struct kinesis *kinesis;        /* while its port is served; NULL: none */
    /* work */
    struct env_timer tick;
    uint64_t ticks;
    int64_t wall_less_clock_ms;    /* own wall clock less the monotonic one at the last tick, to tell of steps */
    void *scratch;                 /* batch_check() */
    size_t scratch_size;
    struct lane_metrics metrics;
    bool status_wanted;            /* something changed: tell lane 0 at the end of the turn */
    struct env_task status_task;
    struct env_timer status_timer; /* gathers changes of a few ms into one report to lane 0 */
    bool status_armed, status_settled; /* settled: the last report held nothing that changes by itself */
    bool serving;                  /* recovered replicas are open, requests are taken */
    bool stopping;                 /* leaderships are handed over, no new puts */
    bool quiet;                    /* none is left, and the Kinesis endpoint has closed */
    unsigned transfers;            /* hand-overs going on */
    bool closing, drained;         /* shards and connections are being closed; all are gone */
    struct journal_append barrier;
    struct lane_past *past;        /* replicas whose data was here and may not be created anew */
    bool gaps;                     /* the journal has lost whole blocks: replicas may have been here that it does not know */
    uint64_t new_groups;           /* with gaps: groups from this id on were made after this node came back; 0: not known yet */
    struct log_limit limit_protocol, limit_stray, limit_refused;
};

/* A replica that was removed, or is lost (recovery could not vouch for its votes): its group is never created here again, only joined under a newer generation. */
struct lane_past { struct lane_past *next; uint64_t group, raft_id; bool lost, pinned; /* pinned: raft_id covers what the map knew at the return */ };

/* Makes lane `number` (not yet running). */
struct lane *lane_make(struct node *n, unsigned number);
void lane_free(struct lane *l);
/* Lane 0 only: the listener that takes FORM frames before there are lanes; port is set to the bound one. 0 or -errno. */
int lane_listen(struct lane *l, const char *host, uint16_t *port);
/* Opens journal and groups: on lane 0 at once, else on a thread of its own; then node_lane_opened() runs on lane 0. Damage and refusals end the process
 * with their exit code. */
int lane_start(struct lane *l);

/* The functions below post to the lane and are called on lane 0's thread. */
struct lane_route { uint64_t group; unsigned lane; };
struct lane_note { struct recovered_note note; unsigned lane; };
/* On lane 0, before lane_start(): its port is served when the lanes serve, but that the Kinesis endpoint's address, access keys or certificate cannot be used is told now.
 * Loads the certificate. 0, -errno or SLUICE_E_INVALID with the reason. */
int lane_kinesis_check(struct lane *l, char err[256]);
/* Every lane opened: open recovered replicas, accept connections; then node_lane_serving(). all, notes: where the replicas of the whole node lie, and what its journals remember of
 * peers (both copied). */
void lane_serve(struct lane *l, const struct lane_route *all, size_t n_all, const struct lane_note *notes, size_t n_notes);
void lane_map(struct lane *l, struct cluster_map *map);  /* takes over a reference */
void lane_stop(struct lane *l);                          /* hand leaderships over; then node_lane_quiet() */
void lane_drain(struct lane *l);                         /* close shards and connections; then node_lane_drained() */
void lane_close(struct lane *l);                         /* every lane is drained: close groups and journal; then node_lane_closed() */
/* Every lane serves: open the Kinesis port, which lane 0 may have chosen. */
void lane_kinesis(struct lane *l, uint16_t port);
/* Runs fn(l, arg) on the lane. */
void lane_run(struct lane *l, void (*fn)(struct lane *l, void *arg), void *arg);

/* ---- on the lane's own thread ---- */
/* The lane for a group: where its replica lies, else group % lanes. */
struct lane *lane_for_group(struct lane *from, uint64_t group);
struct shard *lane_shard(struct lane *l, uint64_t group);
/* While draining: looks whether all is gone. */
void lane_close_step(struct lane *l);
/* Stopping: the Kinesis endpoint closes (lane_kinesis.c), then the lane may be quiet, and drained. */
void lane_kinesis_close(struct lane *l);
/* Something that lane 0 reports to the controller changed. */
void lane_status_changed(struct lane *l);
/* Memory of requests: counts, and pauses or resumes reading at the bound. */
void lane_hold(struct lane *l, uint64_t bytes);
void lane_release(struct lane *l, uint64_t bytes);
/* "host:port" of a node by the lane's map; "" if unknown. */
void lane_node_address(const struct lane *l, uint32_t node, char buf[96]);

/* ---- lane_shards.c: which replicas run here ---- */
void lane_open_recovered(struct lane *l);
void lane_reconcile(struct lane *l);
void lane_announce(struct lane *l, uint64_t group, bool here, const uint8_t stream_id[16], uint32_t shard); /* to the routes of every lane */
void lane_send_status(struct lane *l);
void lane_transfer_step(struct lane *l); /* while stopping: hands over what is still led here */

#endif
