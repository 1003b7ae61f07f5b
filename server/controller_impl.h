/* controller_impl.h: the inside of struct controller, for its files: controller.c (group, machine, proposals, maps), controller_calls.c (requests and forwarding),
 * controller_checks.c, controller_requests.c, controller_meta.c and controller_reshard.c (what each request does on the leader), controller_features.c (the
 * cluster's feature level), controller_describe.c (answers), controller_status.c (what is alive), controller_reports.c (who runs what), reconciler.c, reconciler_shard.c and reconciler_reshard.c. */
#ifndef SLUICE_CONTROLLER_IMPL_H
#define SLUICE_CONTROLLER_IMPL_H

#include "proto/base.h"
#include "proto/error.h"
#include "server/controller.h"
#include "server/controller_machine.h"
#include "server/id_table.h"
#include "server/peer_client.h"
#include "server/placement.h"
#include "sluice.pb-c.h"

enum {
    CONTROLLER_TICK_MS = 50,
    CONTROLLER_HEARTBEAT_MS = 100, CONTROLLER_ELECTION_MS = 1000,
    REPORT_CHANGED_MS = 200, REPORT_IDLE_MS = 1000, REPORT_LATE_MS = 2000, /* late: beyond settings.silence_ms a node counts as down */
    CALLS_MAX = 4096,                  /* control requests waiting at once on one node */
    CALL_TIMEOUT_MS = 10000, CALL_FORWARD_MORE_MS = 2000, CALL_RETRY_MS = 50, CALL_LEADERLESS_MS = 3000, /* so long a call that went nowhere waits for a leader */
    LOST_MAX = 3,
    NOTES_MAX = 32, NOTE_LEN = 160
};

typedef void (*propose_done)(void *arg, int code, const struct controller_result *r);
struct proposal {
    struct group_propose p;
    struct controller *c;
    struct proposal *next;
    struct controller_result result;
    bool applied;
    propose_done done;
    void *arg;
};

/* ---- what is really there, from reports; on the leader only; built anew by each leader ---- */
struct actual_node {
    uint32_t id;
    uint64_t heard_ms, up_since_ms; /* heard_ms 0: never since this leader began */
    uint64_t incarnation, map_version, disk_free;
    bool complete, stopping;
    uint32_t leaders;
    unsigned features;          /* feature level of its program; 0: it has not told */
    char version[32];
};
struct actual_group {
    uint64_t group;
    uint32_t leader;            /* node, 0: none known */
    uint64_t leader_raft_id, term, last_index, commit_index;
    bool ready;
    uint64_t since_ms;          /* when this leader was first told */
    uint64_t seen;              /* serial of the report that last spoke of it */
    struct group_peer peers[REPLICAS_MAX + 2];
    unsigned n_peers;
    uint64_t lost[LOST_MAX];    /* raft ids whose logs are lost, as their nodes say */
    bool opened, closed, expired; /* what its log says: committed, so it stays true */
    uint64_t ended_offset, ended_ms; /* if closed */
    /* work in progress */
    bool ordered;               /* an order is on its way */
    uint64_t order_after_ms;    /* none before this time: reports need to show what the last one did */
};

struct reconciler {
    unsigned proposals, orders, joins, transfers; /* in flight */
    bool group_change;                            /* of the controller group itself */
    uint64_t group_change_after_ms, next_ms, balance_ms;
    bool stirred;                                 /* a report, a map or an answer came since the last pass */
    unsigned nodes_up;                            /* at the last pass */
    uint64_t idle_ms;                             /* 0: the last pass left something to do; else when the next is due without a cause */
    char notes[NOTES_MAX][NOTE_LEN];
    unsigned n_notes;
};

/* ---- requests ---- */
enum call_state {
    CALL_NEW,
    CALL_RETRY,       /* waits until retry_ms */
    CALL_FORWARDED,   /* the leader has it */
    CALL_PROPOSED,    /* in the log */
    CALL_ORDERED,     /* a shard's leader was asked (TRANSFER) */
    CALL_WAIT_ACTIVE, /* until the stream is active */
    CALL_WAIT_GONE    /* until the stream is deleted */
};
struct call {
    struct controller *c;
    struct call *next, **prev;
    enum call_state state;
    uint8_t kind;
    uint64_t correlation, began_ms, deadline_ms, retry_ms;
    bool from_peer, was_forwarded; /* came inside FORWARD: the answer goes into FORWARD_REPLY */
    bool sent_on;                  /* some leader may have got it: its outcome may be unknown */
    bool asked_leader;             /* a read that the leader was asked about already */
    bool confirmed;                /* a read at the leader, which a quorum has confirmed since */
    struct group_fresh fresh;
    bool answered;                 /* reply was called; freed when nothing is on its way any more */
    unsigned pending;              /* forwards, proposals, orders that will call back */
    uint8_t *message;              /* checked and completed by call_normalize() */
    size_t len;
    bool read;                     /* changes nothing: any node's own map will do */
    unsigned level;                /* feature level that the cluster must have for it */
    uint8_t stream_id[16];
    int last_code;                 /* why it is retried */
    control_reply reply;
    void *arg;
};

struct controller {
    struct controller_options o;
    const struct settings *settings;
    uint32_t self;
    struct group *group;
    struct controller_machine *machine;
    struct cluster_map *map;         /* newest; NULL before the first */
    bool map_dirty, map_told;
    struct env_task publish;
    struct peer_client *peers;
    struct env_timer tick;
    struct map_node first_nodes[NODES_MAX];
    unsigned n_first;
    bool init_proposed;
    bool feature_proposed;           /* controller_features.c */
    bool leading;                    /* leader and ready, as last seen */
    uint64_t leading_since_ms;
    struct proposal *proposals;
    struct call *calls;
    unsigned n_calls;
    /* reports: sending */
    struct replica_status *own;
    unsigned n_own, cap_own;
    struct id_table own_index;       /* group -> struct replica_status in own */
    struct id_table sent;            /* group -> hash of what was told (as a pointer), never 0 */
    bool own_changed, report_complete, report_out, stopping;
    uint64_t own_ms, report_ms;
    uint32_t reported_to;
    /* reports: received */
    struct actual_node actual_nodes[NODES_MAX];
    unsigned n_actual_nodes;
    struct id_table actual;          /* group -> struct actual_group */
    uint64_t report_serial;
    struct reconciler rec;
    bool closing;
    unsigned closing_left;
    unsigned async;                  /* orders and changes of the own group that will call back: closing waits for them */
    void (*close_done)(void *arg);
    void *close_arg;
};

/* controller.c */
uint64_t controller_now(const struct controller *c);
/* Proposes (fills now_ms). 0: done will be called; else a SLUICE_E_ code and it won't. */
int controller_propose(struct controller *c, struct controller_entry *e, propose_done done, void *arg);
bool controller_ready(const struct controller *c); /* this node leads the controller and may propose */
struct cluster_map *controller_fresh_map(struct controller *c); /* with everything applied so far; borrowed; NULL before INIT */
/* One of `async` called back. */
void controller_async_done(struct controller *c);
void controller_address(const struct map_node *n, char out[80]);

/* controller_calls.c */
void calls_tick(struct controller *c);
void calls_map_changed(struct controller *c);
void calls_close(struct controller *c);
void call_answer(struct call *call, uint8_t kind, const void *protobuf_message);
void call_error(struct call *call, int code, const char *why);
void call_retry(struct call *call, int code);

/* controller_checks.c */
/* Checks and completes a message where it enters the cluster (call->message, read, level): 0, or a code with *why. */
int call_normalize(struct call *call, const void *message, size_t len, const char **why);

/* controller_features.c */
unsigned controller_features(const struct controller *c); /* what this node's program can do */
/* On the leader: 0, or why entries of that level cannot be proposed: NOT_READY (in a moment) or NOT_SUPPORTED with the reason. */
int controller_level_missing(struct controller *c, unsigned level, char *why, size_t size);
void controller_features_step(struct controller *c);

/* controller_requests.c: on the leader. */
void call_lead(struct call *call);
/* Proposes; `applied` goes on with what came of it, unless the call is retried or over. */
void call_propose(struct call *call, struct controller_entry *e, void (*applied)(struct call *call, const struct controller_result *r));
/* controller_meta.c: consumers, tags, policies, accounts */
void lead_meta(struct call *call);
void read_meta(struct call *call);
bool meta_known(const struct call *call); /* this node's map has what a read asks about */
struct tag_infos { Sluice__Tag *infos, **list; };
void tags_fill(struct tag_infos *x, const struct map_resource *r, size_t *n, Sluice__Tag ***list); /* points into the map; tags_free() */
void tags_free(struct tag_infos *x);
void entry_take_tags(struct controller_entry *e, Sluice__Tag *const *tags, size_t n); /* e->tags is malloc'ed, its texts are the message's */
/* controller_reshard.c */
void lead_reshard(struct call *call);
/* Completes a RESHARD_BEGIN: where the children go. False: too few usable nodes. e->placement is malloc'ed in any case. */
bool reshard_place(struct controller *c, const struct map_stream *s, struct controller_entry *e, struct placement_node *nodes, unsigned n_nodes);
/* The nodes as placement sees them. up_only: only those that report. Returns how many are usable. */
unsigned controller_placement(struct controller *c, struct placement_node *out, bool up_only);

/* controller_describe.c */
void call_describe(struct call *call, const struct map_stream *s, uint8_t kind);
void call_read(struct call *call); /* LIST, DESCRIBE */
uint32_t controller_shard_leader(const struct controller *c, uint64_t group); /* node id, or 0 */
struct node_infos { Sluice__NodeInfo infos[NODES_MAX]; Sluice__NodeInfo *list[NODES_MAX]; char addresses[NODES_MAX][80]; size_t n; };
void controller_fill_nodes(const struct cluster_map *map, struct node_infos *x); /* points into the map */

/* controller_status.c */
void call_status(struct call *call);
/* A shard as it is now. leader: 0 if none that is alive and has a majority is known; live: replicas that are alive. */
struct shard_look { uint32_t leader; unsigned live; bool under_replicated; };
void controller_look(const struct controller *c, const struct map_shard *s, struct shard_look *out);
/* More than half of the controller's voters are alive. */
bool controller_majority(const struct controller *c, const struct cluster_map *map);

/* controller_reports.c */
void reports_tick(struct controller *c);
void reports_lead(struct controller *c); /* this node became the leader: forget what an earlier one knew */
void reports_close(struct controller *c);
/* 0 or a code; *want_complete as for ReportReply. */
int reports_take(struct controller *c, const Sluice__Report *report, bool *want_complete);
struct actual_node *actual_node(const struct controller *c, uint32_t id);
struct actual_group *actual_group(const struct controller *c, uint64_t group);
bool node_up(const struct controller *c, uint32_t id);
uint64_t node_down_ms(const struct controller *c, uint32_t id);
/* The group has a ready leader on a node that is up. */
bool group_led(const struct controller *c, const struct actual_group *a);

/* reconciler.c */
void reconciler_tick(struct controller *c);
void reconciler_note(struct controller *c, const char *format, ...) __attribute__((format(printf, 2, 3)));
bool reconciler_propose(struct controller *c, struct controller_entry *e);
/* Asks the group's leader; at most one order per group. */
bool reconciler_order(struct controller *c, struct actual_group *a, int kind, uint64_t raft_id);
/* Like it, for TRANSFER requests: done is called exactly once, later. */
int controller_order(struct controller *c, uint32_t leader_node, uint64_t group, int kind, uint64_t raft_id, void (*done)(void *arg, int code), void *arg);
/* reconciler_reshard.c: one step for each split or merge of the stream, and for what has expired. */
void reconcile_reshards(struct controller *c, const struct map_stream *s, struct placement_node *nodes, unsigned n_nodes);
/* reconciler_shard.c */
void reconcile_shard(struct controller *c, const struct map_shard *s, struct placement_node *nodes, unsigned n_nodes);

#endif
