/* node_impl.h: the inside of struct node, for the files of this folder that make up a node. Everything here belongs to lane 0's thread unless it says otherwise. */
#ifndef SLUICE_NODE_IMPL_H
#define SLUICE_NODE_IMPL_H

#include "server/admin.h"
#include "server/cluster_map.h"
#include "server/controller.h"
#include "server/formation.h"
#include "server/lane.h"
#include "server/log.h"
#include "server/metrics.h"
#include "server/node.h"
#include "server/peer_client.h"
#include "storage/identity.h"

enum { LANES_MAX = 64, NODE_REPLICAS_MAX = 65536 };

/* The phases of a node; each is entered once, in this order (a blank controller journal may lead from OPENING back to FORMING). */
enum node_phase {
    NODE_PHASE_STARTING, /* identity is taken; the listener of lane 0 answers FORM and nothing else */
    NODE_PHASE_FORMING,  /* waits for a cluster id */
    NODE_PHASE_OPENING,  /* the lanes recover their journals */
    NODE_PHASE_RUNNING,
    NODE_PHASE_STOPPING, /* leaderships are handed over */
    NODE_PHASE_CLOSING,
    NODE_PHASE_DONE
};

struct node {
    struct env *env;
    struct settings settings;   /* never changes after node_start(): any lane may read it */
    struct identity identity;   /* never changes once lanes run: any lane may read it */
    struct log log;
    enum node_phase phase;
    unsigned n_lanes;
    struct lane *lanes[LANES_MAX]; /* all set before any lane serves; then any lane may read it */
    unsigned lanes_opened, lanes_serving, lanes_quiet, lanes_drained, lanes_closed;
    char host[256], address[320]; /* of the native listener; address: as told to others */
    uint16_t port;
    struct peer_client *peers;
    struct formation *formation;
    struct formation_result formed;
    struct controller *controller;
    struct admin *admin;
    struct tls_context *kinesis_tls; /* of the Kinesis endpoints of all lanes; NULL: plain text. Never changes after node_start() */
    struct tls_reload *tls_reload;   /* lane_kinesis.c: a newer one is being read */
    struct cluster_map *map;    /* newest that was handed to the lanes */
    /* What the lanes' replicas do: each lane sends its part when something changed and about once a second. */
    struct replica_status *replicas[LANES_MAX];
    unsigned n_replicas[LANES_MAX];
    unsigned not_caught_up[LANES_MAX]; /* replicas that have not caught up since the start, or join and do not vote yet */
    unsigned lost_copies[LANES_MAX];   /* replicas lost by damage of which there is no other */
    bool told[LANES_MAX];              /* the lane sent its part after it got a map */
    uint64_t started_ms;
    struct env_timer stop_timer;
    uint64_t stop_deadline_ms;
    void (*stop_done)(void *arg);
    void *stop_arg;
    bool stop_wanted;           /* node_stop() came before the node ran */
};

/* ---- node.c ---- */
/* "host:port" or "[v6]:port" with a numeric port (settings_check() saw to the form). */
void node_split_address(const char *text, char host[256], uint16_t *port);
/* Lane 0 got a part from lane `number` (ownership of status moves). */
void node_lane_status(struct node *n, unsigned number, struct replica_status *status, unsigned n_status, unsigned not_caught_up, unsigned lost_copies, bool has_map);
void node_lane_opened(struct node *n);
void node_lane_serving(struct node *n);
void node_lane_quiet(struct node *n);   /* all leaderships of a lane were handed over */
void node_lane_drained(struct node *n);
void node_lane_closed(struct node *n);
/* A control request that arrived on lane 0's thread (server/request_control.c). */
void node_control(struct node *n, uint8_t kind, uint64_t correlation, const void *message, size_t len, bool from_peer, control_reply reply, void *arg);

/* ---- lane_kinesis.c ---- */
/* The node ends: what is being read finds nobody. */
void node_reload_tls_forget(struct node *n);

/* ---- node_form.c: from the identity to running lanes ---- */
int node_form_start(struct node *n, char err[256]);

/* ---- node_metrics.c ---- */
/* Adds up all lanes' counters; done on lane 0; the sum is valid during the call. */
void node_metrics_gather(struct node *n, void (*done)(void *arg, const struct node_metrics *sum), void *arg);

#endif
