/* shard.h: a replica of a shard on this node: the machine (shard_state.h), its Raft group, the index of its records, and, while it leads, what is in flight.
 *
 * Files: shard.c (life, sink, role), shard_put.c (writes), shard_fetch.c (reads of records), shard_batches.c (the batches of an answer), shard_push.c (subscriptions),
 * shard_read.c (positions, resolve), shard_control.c (entries that the leader proposes by itself: OPEN, SETTINGS, TRIM), shard_clock.c (the log's time),
 * shard_limits.c (throughput limits). All on the lane's thread.
 *
 * Phases: RUNNING -> CLOSING (group_close is on its way, waiters are answered) -> freed once the group is closed and no read holds a pin. */
#ifndef SLUICE_SHARD_H
#define SLUICE_SHARD_H

#include "raft/group.h"
#include "server/cluster_map.h"
#include "server/controller.h"
#include "server/lane.h"
#include "server/quota.h"
#include "server/request.h"
#include "server/shard_batches.h"
#include "server/shard_state.h"
#include "storage/batch_log.h"

enum {
    SHARD_STALE_MS = 5000,               /* a replica without its leader for so long answers STALE (F28) */
    SHARD_QUEUE_BYTES_MAX = 64 << 20,    /* puts that wait for room in flight; above: BUSY. Connections stop earlier: CONNECTION_REQUEST_BYTES_MAX */
    SHARD_WAIT_MAX_MS = 60000,
    SHARD_FETCH_BYTES_MAX = 10 << 20,
    SHARD_SHARED_RECORDS_MAX = 10000,    /* of one shared fetch */
    SHARD_FETCH_ROOM_WAIT_MS = 15000,    /* a fetch waits for memory at most so long, then BUSY: longer than connections that hang are borne with */
    SHARD_FETCH_CROWDED_MS = 2500,       /* how long the word that memory is short holds; it is said every second */
    SHARD_PUSH_IN_USE_MS = 5000,         /* a new subscriber takes over no sooner after the one before it */
    SHARD_PUSH_HEARTBEAT_MIN_MS = 100, SHARD_PUSH_HEARTBEAT_MAX_MS = 60000,
    SHARD_PUSH_BYTES = 1 << 20, SHARD_PUSH_LIMITED_BYTES = 256 << 10, /* one push, or one batch; limited: little at a time, so that it flows evenly */
    SHARD_PUSH_CREDIT_MAX = 1 << 30
};
#define SHARD_FOLLOWED_NS 30000000000u /* so long after a fetch new batches go to the cache */

enum shard_phase { SHARD_RUNNING, SHARD_CLOSING };

struct shard {
    struct lane *lane;
    struct shard *next, **prev;   /* the lane's list */
    struct shard *hash_next;
    struct shard *stirred_next;   /* the lane's list of those that the tick looks at */
    bool stirred;
    uint64_t group_id, raft_id;
    enum shard_phase phase;
    bool remove;                  /* its data goes with it */
    bool group_closed;
    unsigned pins;                /* reads whose bytes are still being sent */
    void (*closed)(struct lane *l);
    struct group *group;          /* NULL until group_open() returned */
    struct batch_log *batches;
    struct shard_state state;
    const struct recovered_group *recovered; /* during group_open() only */
    /* As of the last role callback. */
    uint64_t term;
    bool leading, ready;
    /* In flight: belongs to (group, term); rebuilt from the applied state when the own-term barrier has applied (F18). */
    uint64_t in_flight_term;      /* the term that the fields below belong to */
    uint64_t next_in_flight;      /* offset after everything proposed */
    uint64_t time_in_flight;
    bool close_in_flight;
    struct dedupe_in_flight *in_flight; /* made with the first leadership */
    struct request *queue, **queue_tail;
    uint64_t queue_bytes;
    struct quota bytes, records;   /* what is put */
    struct quota read_calls, read_payload, position_calls; /* what is read with `shared` */
    struct group_propose control;  /* one entry of its own at a time */
    bool control_busy, control_due; /* due: could not be proposed */
    bool expired;                  /* closed, and nothing is left that its retention keeps: as last seen while leading */
    struct request *waiters;       /* fetches waiting for records */
    struct subscription *subscriptions; /* server/shard_push.c */
    struct push_place *places;     /* of consumers that subscribed in this leadership */
    uint64_t fetched_ns;           /* when the last fetch came; 0: none yet */
    /* While leading: the replicas' clocks against ours (F31), looked at when they are needed and older than a tick. */
    uint64_t clocks_seen_ms;       /* 0: not in this term */
    int64_t median_clock_ms;       /* median of the replicas' wall clocks, each less our monotonic one */
    bool clocks_agree;             /* a majority lies within a minute of the median */
    /* For reports. */
    bool caught_up;
    uint64_t still_commit, still_since_ms;
    uint64_t read_records, read_bytes; /* fetched here since the replica was opened */
    uint64_t written_bytes, rate_from_bytes, rate_from_ms, write_bytes_per_s;
};

struct shard_open_options {
    uint64_t group, raft_id;
    const struct group_member *members; /* first creation */
    unsigned n_members;
    const struct recovered_group *recovered;
    bool prefer_leader;
};
/* Adds it to the lane. 0, or a positive enum env_exit / -errno. */
int shard_open(struct lane *l, const struct shard_open_options *o, struct shard **out);
/* Waiters are answered; closed (may be NULL) runs after it was freed. */
void shard_close(struct shard *s, bool remove, void (*closed)(struct lane *l));
/* For fetches: keeps the shard until shard_unpin(). */
void shard_pin(struct shard *s);
void shard_unpin(struct shard *s);

/* The error for a request that needs the leader, with its hint. Answers the request. */
void shard_not_leader(struct shard *s, struct request *r);
/* True (and answered STALE) if this replica must not answer reads now. */
bool shard_answer_if_stale(struct shard *s, struct request *r);
/* First offset that may be read: by the trim point and by log time (F32). */
uint64_t shard_first_readable(const struct shard *s);
/* True if the request names this shard's incarnation; else it was answered. */
bool shard_request_ok(struct shard *s, struct request *r);
/* Something happened that needs the tick: a shard that rests costs nothing. */
void shard_stir(struct shard *s);
/* Every 100 ms for those that were stirred. False: nothing more to look after, until it is stirred again. */
bool shard_tick(struct shard *s);

/* shard_clock.c: time for the log: never above the median of the replicas' clocks + 5 s, never below what the log has. */
uint64_t shard_time(struct shard *s);
bool shard_clocks_agree(struct shard *s); /* a majority of them lies within a minute of the median */

/* shard_limits.c */
void shard_limits_init(struct shard *s);              /* all buckets are full: also after a change of the leader */
bool shard_limited(const struct shard *s);            /* do the throughput limits hold? */
/* A shared read, which the leader alone serves, and only within the limits. False: it was answered NOT_LEADER or THROTTLED. calls: the bucket it takes one from. */
bool shard_shared_read_ok(struct shard *s, struct request *r, struct quota *calls);
/* shard_put.c */
void shard_put(struct shard *s, struct request *r);
void shard_put_pump(struct shard *s);                 /* proposes what is queued as far as there is room */
void shard_put_reject_queue(struct shard *s, int code);
void shard_put_closed(struct shard *s);               /* CLOSE was applied: what waited in the queue is told */
/* shard_fetch.c */
void shard_fetch(struct shard *s, struct request *r);
void shard_fetch_wake(struct shard *s);               /* records or a close were applied */
void shard_fetch_reject(struct shard *s, int code);
/* How long ago the record at `offset` arrived; 0 at the end. */
uint64_t shard_millis_behind(const struct shard *s, uint64_t offset);
/* shard_push.c */
void shard_subscribe(struct shard *s, struct request *r);
void shard_push_wake(struct shard *s);                /* records or a close were applied, or it is ready again */
void shard_push_reject(struct shard *s, int code);    /* all of them end; the places are free */
void shard_push_map(struct shard *s);                 /* the lane has a new map: those of consumers that are gone end */
/* More credit for a subscription of the lane, if it is there; over: its end, nothing more is sent. */
void shard_push_credit(struct lane *l, uint64_t id, uint64_t bytes, bool over);
/* shard_read.c */
void shard_position(struct shard *s, struct request *r);
void shard_resolve(struct shard *s, struct request *r);
/* shard_control.c */
void shard_control_step(struct shard *s);             /* proposes OPEN or SETTINGS if they are due */
void shard_retention_step(struct shard *s);           /* proposes a TRIM if something has expired */
void shard_nudge(struct shard *s);                    /* proposes an entry for its own sake: a TICK */

#endif
