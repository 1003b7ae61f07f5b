/* group.h: Raft groups of a lane, on libraft 0.15 through a raft_io of our own (rules R1-R12: raft/README.md).
 *
 * struct groups is the Raft side of one lane: its journal, its links, its groups. A group is one replica of one Raft group. All calls and callbacks on the
 * lane's thread.
 *
 * Identity: a raft id belongs to one life of one replica's log and is never used again: raft_id = node id << 32 | generation (>= 1), issued by the controller. So
 * the node of a raft id is known without a table.
 *
 * A proposal ends in one of three ways: done (applied here: status 0), rejected (group_propose() returned a code: nothing happened), unknown
 * (SLUICE_E_UNKNOWN_OUTCOME: leadership was lost after it was taken). All that is in flight belongs to one term; `role` tells when a term ended
 * (before the futures of that term end as unknown). */
#ifndef SLUICE_GROUP_H
#define SLUICE_GROUP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "raft/links.h"
#include "storage/batch_log.h"
#include "storage/env.h"
#include "storage/journal.h"

struct groups;
struct group;

static inline uint64_t raft_id_make(uint32_t node, uint32_t generation) { return (uint64_t)node << 32 | generation; }
static inline uint32_t raft_id_node(uint64_t raft_id) { return (uint32_t)(raft_id >> 32); }

enum group_rule { /* bits of groups_options.test_disable */
    GROUP_RULE_R1 = 1 << 1, GROUP_RULE_R2 = 1 << 2, GROUP_RULE_R3 = 1 << 3, GROUP_RULE_R4 = 1 << 4, GROUP_RULE_R5 = 1 << 5, GROUP_RULE_R6 = 1 << 6,
    GROUP_RULE_R7 = 1 << 7, GROUP_RULE_R8 = 1 << 8, GROUP_RULE_R9 = 1 << 9, GROUP_RULE_R10 = 1 << 10, GROUP_RULE_R11 = 1 << 11, GROUP_RULE_R12 = 1 << 12
};

struct groups_options {
    struct env *env;
    struct journal *journal;        /* groups_open() becomes its owner for needs/moved */
    uint8_t cluster_id[16];
    uint32_t node_id, lane, lanes;
    uint64_t incarnation, life, prior_end, born; /* as in links.h */
    unsigned heartbeat_ms, election_ms;          /* 300, 3000: long; the detector makes failover fast */
    uint32_t in_flight_bytes;                    /* per group, default 1 MiB (or one largest batch) */
    uint32_t snapshot_bytes;                     /* log bytes between snapshots, default 4 MiB */
    uint32_t trailing_bytes;                     /* kept behind a snapshot for slow followers, default 4 MiB */
    uint64_t seed_bytes_per_s;                   /* at most given to replicas that lack data while puts come in, at least 1 MiB; 0: no limit */
    uint64_t memory_max;                         /* log bytes in memory over all groups of the lane */
    unsigned liveness_ms, silence_ms;            /* of the links: 50, 800 */
    unsigned test_disable;                       /* simulator builds: enum group_rule bits that are switched off */
    void *arg;
    /* A record for a group that is not open on this lane: the node hands it to the lane that has it (deep copy) or drops it. NULL: dropped. */
    void (*stray)(void *arg, uint32_t from_node, struct link_message *m);
    void (*peer_changed)(void *arg, uint32_t node, bool up);
    void (*refused)(void *arg, uint32_t node, int code, const char *message);
};

int groups_open(struct groups **out, const struct groups_options *o);
/* Closes every group, then the links; done once all callbacks ran. */
void groups_close(struct groups *gs, void (*done)(void *arg), void *arg);
struct links *groups_links(struct groups *gs);
/* What the links remember of peers (rule F27) is kept as notes of the lane's journal: the groups write them, and this gives back what a recovery found. own: it was found in
 * this lane's journal, not in another one's of the node. */
void groups_take_note(struct groups *gs, const struct recovered_note *note, bool own);
static inline unsigned groups_note_lane(const struct recovered_note *note) { return (unsigned)(note->note & 0xffff); } /* the peer's lane that it is about */
struct group *groups_find(struct groups *gs, uint64_t group);
/* A record from the links of another lane of this node (see options.stray). */
void groups_receive(struct groups *gs, uint32_t from_node, struct link_message *m);
/* This group was removed from this node in an earlier life (recovered_group.removed): the journal may drop all of it. group_close(remove) tells it by itself. */
void groups_set_removed(struct groups *gs, uint64_t group);
/* Iterates: *cursor starts at 0; NULL at the end; in order of group ids. */
struct group *groups_next(struct groups *gs, uint64_t *cursor);

enum group_role { GROUP_FOLLOWER, GROUP_CANDIDATE, GROUP_LEADER };

/* The state machine above a group. Its callbacks don't call group_propose() or other functions that change the group (except group_trim()); `role` and the
 * completions (done) may. Deterministic: the same entries in the same order give the same state on every replica. */
struct group_sink {
    void *arg;
    /* A committed command, in order, exactly once per life of the process and index (again after a restart from the snapshot on). Must not fail: an entry it does
     * not know ends the process (ENV_EXIT_FORMAT). `place` is where its bytes lie in the journal. */
    void (*apply)(void *arg, uint64_t index, uint64_t term, const void *data, uint32_t len, const struct place *place);
    /* The machine's state as bytes (malloc'ed, taken over by the group). 0, or non-zero to try later. */
    int (*snapshot)(void *arg, void **data, uint32_t *len);
    /* Replaces the state. local: from this node's disk at start; else installed by the leader. 0, or non-zero if the bytes are malformed (the replica stops). */
    int (*restore)(void *arg, const void *data, uint32_t len, bool local);
    /* The range of offsets [first, next) a snapshot speaks of; used to seed missing batches before an install completes (F11). A machine without records: 0, 0. */
    int (*range)(void *arg, const void *data, uint32_t len, uint64_t *first, uint64_t *next);
    /* Role, term or leader changed, or `ready` did (leader whose own-term barrier has applied: from then on proposals are taken). */
    void (*role)(void *arg);
    /* Batches that arrived by seeding or repair: l is in the journal, durable. */
    void (*seeded)(void *arg, const struct locator *l);
    /* Memory for logs is short, and this leader's group is idle: an entry of any kind lets each replica take a snapshot and drop its log. May be NULL. */
    void (*nudge)(void *arg);
};

struct group_member { uint64_t raft_id; bool voter; };

struct group_options {
    uint64_t group, raft_id;
    const struct group_member *members; /* first creation: the first configuration, the same on every member; NULL: join (wait to be added) */
    unsigned n_members;
    const struct recovered_group *recovered; /* after a restart: what the journal holds; then members is ignored */
    struct group_sink sink;
    struct batch_log *batches;               /* the group's history of records; NULL: a machine without records (controller) */
    bool prefer_leader;                      /* campaign at once at first creation */
    unsigned heartbeat_ms, election_ms;      /* 0: the lane's; the controller uses 100 and 1000 */
};
/* Opens and starts a replica: restores its snapshot (sink.restore, inside this call), hands it its log. On first creation a durable JOURNAL_GROUP record is written
 * before it takes part: then, and for a sole voter, group_open() returns before the replica runs (role GROUP_FOLLOWER, term 0; `role` tells when it leads).
 * The batch_log: group_open() calls batch_log_recover() for what lies below the snapshot, after sink.restore (not if the sink has done so itself); an install resets
 * it before sink.restore; the sink appends in apply and trims. Holes found are fetched from peers in the background.
 * 0; -errno (-EINVAL: removed, lost or another raft id; -EIO: a damaged entry of the Raft tail); ENV_EXIT_FORMAT; ENV_EXIT_DAMAGE. */
int group_open(struct groups *gs, const struct group_options *o, struct group **out);
/* Stops this replica; its data stays. remove: for ever (durable note; its data is freed): only on the controller's order. */
void group_close(struct group *g, bool remove, void (*done)(void *arg), void *arg);

/* The trim point moved (told by an entry that the sink applied): written to the journal, and once durable the journal may free what lies below. The sink trims its
 * batch_log itself. */
void group_trim(struct group *g, uint64_t first);

uint64_t group_id(const struct group *g);
uint64_t group_raft_id(const struct group *g);
enum group_role group_role(const struct group *g);
uint64_t group_term(const struct group *g);
bool group_ready(const struct group *g);             /* leads and may take proposals */
uint64_t group_leader(const struct group *g);        /* raft id of the leader as far as known, 0: none */
uint64_t group_last_index(const struct group *g);
uint64_t group_commit_index(const struct group *g);
/* Milliseconds since anything came from a valid leader (0 on the leader itself while it has a quorum): for stale reads (F28). */
uint64_t group_contact_age_ms(const struct group *g);
bool group_joined(const struct group *g);            /* false: a joining replica that has no configuration yet */

struct group_propose;
typedef void (*group_propose_done)(struct group_propose *p, int status);
struct group_propose {
    group_propose_done done;  /* status 0: applied here (sink.apply ran before); SLUICE_E_UNKNOWN_OUTCOME */
    uint64_t index;           /* out, at once */
    uint64_t term;            /* out, at once */
    void *impl;               /* group's own */
};
/* Memory for an entry; becomes the group's when group_propose() returned 0, else it is still yours (group_buffer_free()). */
void *group_buffer_alloc(size_t n);
void group_buffer_free(void *p);
/* The index that the next proposal will get (known synchronously), for stamping batches. */
uint64_t group_next_index(const struct group *g);
/* a, b, c: what the journal's directory remembers of the entry: first offset, record count, time_ms; 0 for entries that are not batches.
 * 0; SLUICE_E_NOT_LEADER, _NOT_READY, _BUSY (in-flight bound: retry when `role` or a done fires), _NO_SPACE, _MEMORY. */
int group_propose(struct group *g, struct group_propose *p, void *data, uint32_t len, uint64_t a, uint64_t b, uint64_t c, group_propose_done done);

/* Fresh read: confirms by a quorum round, begun now, that this node still leads in this term; done(status 0) when everything committed before the call is applied here.
 * Errors: SLUICE_E_NOT_LEADER, _NOT_READY, _TIMEOUT (rejected: nothing happened). */
struct group_fresh;
typedef void (*group_fresh_done)(struct group_fresh *f, int status);
struct group_fresh { group_fresh_done done; uint64_t round, index, term, deadline_ms; struct group_fresh *next; };
void group_fresh_read(struct group *g, struct group_fresh *f, group_fresh_done done);

/* Hands leadership to a voter (0: the best one); gives up after 150 ms so that writes go on (F23). done: 0 or SLUICE_E_. One at a time: SLUICE_E_CONFLICT. */
int group_transfer(struct group *g, uint64_t to_raft_id, void (*done)(void *arg, int status), void *arg);
/* Campaign now (placement, failover drills). */
void group_campaign(struct group *g);

enum group_change_kind { GROUP_ADD_SPARE, GROUP_ASSIGN_STANDBY, GROUP_ASSIGN_VOTER, GROUP_REMOVE };
/* One membership change at a time, on the leader. done: 0, SLUICE_E_CONFLICT, _NOT_LEADER, _TIMEOUT... The leader of a group of two is never removed (R12). */
int group_change(struct group *g, enum group_change_kind kind, uint64_t raft_id, void (*done)(void *arg, int status), void *arg);

struct group_peer { uint64_t raft_id; bool voter, standby, recent; uint64_t match_index; };
/* The configuration as this replica knows it; progress is filled on the leader. Returns the number written (at most max). */
unsigned group_peers(const struct group *g, struct group_peer *out, unsigned max);

struct groups_stats { uint64_t groups, leaders, elections, term_changes, snapshots, installs, seeded_bytes, log_bytes, proposals, transfers; };
void groups_stats(const struct groups *gs, struct groups_stats *out);

#endif
