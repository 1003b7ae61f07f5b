/* group_impl.h: what the files of raft/ that make up a group share. The rules R1-R12 are told in README.md; each is kept where its name stands.
 *
 * Every way into libraft is bracketed by group_enter() and group_leave(). libraft has no callback for a change of state and calls us back in the middle of its own
 * work; so callbacks of ours only note things, and group_leave(), outermost, settles: it runs noted completions, delivers finished appends, looks at the state and
 * tells the sink, until nothing more happens. */
#ifndef SLUICE_GROUP_IMPL_H
#define SLUICE_GROUP_IMPL_H

#include <raft.h>

#include "proto/base.h"
#include "proto/error.h"
#include "raft/group.h"

/* The shim reads and writes fields of libraft 0.15.0's structs. */
_Static_assert(sizeof(struct raft) == 656, "not the struct raft of libraft 0.15.0 on x86-64");
_Static_assert(sizeof(struct raft_io) == 408, "not the struct raft_io of libraft 0.15.0");
_Static_assert(sizeof(struct raft_progress) == 56, "not the struct raft_progress of libraft 0.15.0");
_Static_assert(sizeof(struct raft_entry) == 40, "not the struct raft_entry of libraft 0.15.0");
_Static_assert(sizeof(struct raft_entry_ref) == 32, "not the struct raft_entry_ref of libraft 0.15.0");

enum { PROGRESS_PROBE, PROGRESS_PIPELINE, PROGRESS_SNAPSHOT }; /* raft_progress.state */

enum {
    GROUP_MEMBERS_MAX = 16,
    GROUP_FRAGMENT_BYTES = 256 << 10,   /* an AppendEntries goes in pieces of about this (R9) */
    GROUP_FRAGMENT_ENTRIES = 1024,
    GROUP_SEED_BYTES = 1 << 20,         /* one answer while seeding */
    GROUP_TRANSFER_MS = 150,            /* a hand-over that takes longer is given up (F23) */
    GROUP_RANK_MS = 150,                /* stagger of candidates */
    GROUP_START_MS = 300,               /* patience for an existing leader after a start */
    GROUP_VOTE_MS = 400,                /* patience with an election round, at least */
    GROUP_VOTE_FLUSHES = 4,             /* and so many flushes: the candidate's vote and those of the others, each behind one that is being written */
    GROUP_COMMIT_MS = 5,                /* how long followers of an idle leader wait to hear of a commit */
    GROUP_RECLAIM_LOOKS = 512, GROUP_RECLAIM_NUDGES = 32, /* per turn of the timer while memory for logs is short */
    GROUP_SMALL_ENTRY = 64,             /* bytes: entries of the machine's own; no batch is so small */
    GROUP_SHARE_MIN = 4096,             /* bytes of log that a group may hold however many there are */
    GROUP_SNAPSHOT_ENTRIES = 16384,     /* entries between snapshots at most, however small */
    GROUP_INSTALL_MS = 3600 * 1000,
    GROUP_INSTALL_RETRY_MS = 2000,
    GROUP_SEED_RETRY_MS = 2000
};

/* ---- the shadow of the log (group_log.c) ---- */

/* What the shim must know of each entry that libraft holds in memory: it can't ask libraft, whose log functions are private. */
struct slot {
    uint64_t term, bytes; /* bytes: sum of lengths up to and including this entry */
    struct place place;
    uint64_t offset;      /* of a batch: its first offset */
    uint32_t count;       /* and how many records it has; 0: no batch */
    uint8_t type;
};
struct group_log {
    struct slot *slots;
    size_t cap;                     /* power of two */
    uint64_t first;                 /* index of the first slot; first - 1 is known by base_term alone */
    uint64_t n;
    uint64_t base_term, base_bytes;
};
void group_log_reset(struct group_log *l, uint64_t first, uint64_t base_term);
void group_log_free(struct group_log *l);
struct slot *group_log_push(struct group_log *l, uint64_t term, uint8_t type, uint32_t len, const struct place *place);
void group_log_truncate(struct group_log *l, uint64_t index);   /* index and above are gone */
void group_log_trim(struct group_log *l, uint64_t first);       /* below first only the term of first - 1 stays */
struct slot *group_log_at(const struct group_log *l, uint64_t index); /* NULL: not here */
uint64_t group_log_term(const struct group_log *l, uint64_t index);   /* 0: unknown */
uint64_t group_log_bytes_to(const struct group_log *l, uint64_t index); /* clamped to what is known */
static inline uint64_t group_log_last(const struct group_log *l) { return l->first + l->n - 1; }

/* ---- requests ---- */

/* Something of the user's that is over and waits for group_leave(). */
struct completion {
    struct completion *next;
    void (*run)(struct group *g, struct completion *c);
    int status;
};

/* raft_io.append: one per request, in submission order. */
struct append_op {
    struct append_op *next;
    struct group *g;
    struct raft_io_append *req;
    uint64_t first, last, term;
    bool by_leader, durable;
    bool refused;                      /* R4 switched off: the disk is full and the caller is told */
    struct journal_append last_record; /* of the last entry: durable after all before it */
    struct journal_append records[];   /* of the others */
};

/* A state record on its way into the journal. */
struct state_write {
    struct journal_append append;
    struct group *g;
    void (*done)(struct group *g, struct state_write *w);
    uint64_t value;
    void *data;      /* freed with it */
};

/* What libraft waits for until all pieces of a message have left (or were lost). */
struct send_req {
    struct raft_io_send *req;
    raft_io_send_cb cb;
    unsigned refs;
    int status;
    uint64_t to;     /* AppendEntries: the replica it goes to; else 0 */
    void *data;      /* freed with it */
};

/* A message on its way; held until the journal is durable up to `need` (R5). */
struct outgoing {
    struct outgoing *next;
    struct group *g;
    struct link_send send;
    struct send_req *req; /* may be NULL */
    uint64_t need;
    uint32_t node;
    bool small;      /* links_post() */
};

struct sent_callback { struct raft_io_send *req; raft_io_send_cb cb; int status; };

/* What a replica knows of another one in the present term. */
struct peer {
    uint64_t id;
    uint64_t ack;            /* leader: highest index acknowledged in this term (also if libraft was not told yet, R3) */
    uint64_t heard_ms;
    uint64_t progress_ms;    /* when ack last rose or sending began */
    uint64_t epoch;          /* of the link when sent_* were valid */
    uint64_t sent_from, sent_end; /* entries that are on their way, contiguous (R9) */
    uint64_t commit_told;
    uint64_t round;          /* read-index round confirmed */
    uint64_t offered_ms;     /* a snapshot was offered */
    bool refused;            /* candidate: gave us no vote in this term */
};

/* A configuration in the log, for R7. */
struct conf_entry { uint64_t index; struct raft_buffer bytes; };

struct snapshot_meta { /* the latest durable snapshot */
    uint64_t index, term, conf_index, kept, raft_id;
    struct raft_buffer conf, data;
};

enum group_state { GROUP_OPENING, GROUP_RUNNING, GROUP_CLOSING, GROUP_CLOSED };

struct seeder;
struct seed_answer;
struct change_op;
struct transfer_op;

struct group {
    struct groups *gs;
    uint64_t id, raft_id;
    enum group_state state;
    struct raft raft;
    struct raft_io io;
    struct raft_fsm fsm;
    raft_io_tick_cb tick;
    raft_io_recv_cb recv;
    struct group_sink sink;
    struct batch_log *batches;
    bool prefer_leader;
    unsigned heartbeat_ms, election_ms;
    unsigned depth;
    bool settling, started, loading;
    unsigned busy;                 /* requests that are still with the journal, the links or the batch log */

    /* load (consumed by raft_io.load) */
    uint64_t load_term, load_vote, load_start, load_truncate;
    struct raft_snapshot *load_snapshot;
    struct raft_entry *load_entries;
    size_t load_n;

    struct group_log log;
    struct append_op *ops, **ops_tail;
    uint64_t disk_term;            /* of the latest term record */
    uint64_t term_end, append_end; /* journal positions behind the last term record and the last append */
    uint64_t a, b, c;              /* of the entry that is being proposed */
    bool abc;
    struct outgoing *held, **held_tail;
    struct sent_callback *sent;    /* callbacks owed to libraft */
    unsigned n_sent, cap_sent;
    struct completion *completions, **completions_tail;

    struct peer *peers;
    unsigned n_peers;
    uint64_t seen_term;
    unsigned short seen_state;
    uint64_t seen_commit;

    uint64_t verified_term, verified; /* R1 */
    uint64_t barrier_term, barrier_index, ready_term; /* R3 */
    bool barrier_durable;
    struct raft_barrier barrier;
    bool barrier_busy;
    uint64_t sole_term, sole_writing; /* R12 */
    uint64_t applies;              /* R10 switched off: the last index as counting calls from the snapshot on would have it */

    struct conf_entry *confs;      /* R7: configurations in the log, by index */
    unsigned n_confs;

    struct link_message timeout_now_in, timeout_now_out; /* type 0: none */
    uint64_t timeout_now_ms;

    /* snapshots */
    struct snapshot_meta snap;
    uint64_t snap_durable;         /* index */
    uint64_t trim_last, trim_durable;
    uint64_t snap_bytes;           /* log position (bytes) of the latest snapshot */
    struct raft_io_snapshot_put *put; raft_io_snapshot_put_cb put_cb; /* an install */
    uint64_t put_index, put_term, put_request_term, put_kept;
    uint8_t *put_bytes; uint32_t put_len;
    uint64_t put_first, put_next;
    bool mute_result;              /* the answer to what is being received is not wanted */
    struct { struct raft_io_snapshot_get *req; raft_io_snapshot_get_cb cb; } gets[GROUP_MEMBERS_MAX];
    unsigned n_gets;
    struct seeder *seeder;
    struct seed_answer *answers;   /* being read for others */

    /* proposals and reads */
    uint64_t in_flight;
    struct group_fresh *fresh, **fresh_tail;
    uint64_t read_round, read_sent_ms;
    bool read_due;
    struct change_op *change;
    struct transfer_op *transfer;

    /* elections */
    uint64_t elect_at_ms, contact_ms;
    unsigned elect_tries, vote_rounds;
    uint64_t vote_term, vote_ms, opened_ms;   /* in which term our own vote is durable, since when: the requests for votes left then */
    uint64_t promised_to, promised_ms;        /* whom we last gave a (pre-)vote, and when */
    bool campaigning;                         /* inside group_run_election() */

    /* what the sink was told */
    enum group_role told_role;
    uint64_t told_term, told_leader;
    bool told_ready;
    bool in_later, in_commits;
    struct group *later_next, *commits_next;

    bool remove;
    raft_io_close_cb close_cb;
    bool raft_closed;
    void (*close_done)(void *arg);
    void *close_arg;
};

struct seed_pace {
    uint64_t rate;                 /* bytes per second at present; 0: nobody is being seeded */
    uint64_t due_ns;               /* when the next answer may begin */
    uint64_t given_ms, looked_ms;  /* the last answer, the last look at the commits */
    uint64_t flushes, flush_ns;    /* the journal's counts at the last look */
    uint64_t calm_ns;              /* how long a commit takes while nobody is seeded; 0: not known */
};

/* Place of a group in the table. The timer looks at this alone: of thousands of groups few are due, and the others' memory is not touched. */
struct group_slot { uint64_t id, due_ms; struct group *g; };

struct beat_out;

struct groups {
    struct groups_options o;
    struct links *links;
    struct group_slot *slots;      /* by id */
    unsigned n_groups, cap_groups;
    struct beat_out **beats;       /* one per node that idle groups here have followers on */
    unsigned n_beats;
    uint64_t *removed;             /* ids, sorted */
    unsigned n_removed;
    struct env_timer timer, elect_timer, commit_timer;
    bool commit_armed;
    uint64_t elect_next_ms, collect_ms;
    bool elect_armed;
    unsigned tick_ms;
    struct env_task later_task;
    struct group *later, *commits;
    uint64_t log_bytes;
    unsigned reclaim_at;           /* place in the table where the search for logs to drop goes on */
    uint64_t proposed_ms;          /* the last proposal of any group; 0: none yet */
    struct seed_pace pace;
    bool closing;
    void (*close_done)(void *arg);
    void *close_arg;
    struct groups_stats stats;
};

static inline uint64_t group_now(const struct group *g) { return env_now_ms(g->gs->o.env); }
static inline bool group_rule_on(const struct group *g, unsigned rule) { return (g->gs->o.test_disable & rule) == 0; }
static inline bool group_leads(const struct group *g) { return g->raft.state == RAFT_LEADER; }

/* groups.c */
void groups_insert(struct group *g);
bool groups_take_removed(struct groups *gs, uint64_t id); /* true if it was in the list of removed groups; it is no longer */
void groups_later(struct group *g);                 /* group_later_work() at the end of the turn */
void groups_commit_moved(struct group *g);          /* followers are told soon */
void groups_schedule_election(struct groups *gs, uint64_t at_ms);
void groups_forget(struct group *g);                /* a closed group leaves the table */
void groups_wake(struct group *g);                  /* due for a tick with the next turn of the timer */
struct group *groups_find_near(struct groups *gs, uint64_t id, unsigned *at); /* as groups_find(), for ids in ascending order; *at: 0 at first */
void groups_log(struct group *g, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* groups_notes.c */
uint64_t groups_position(void *arg);
void groups_ride(void *arg);                        /* the journal: a flush comes anyway */
void groups_write_notes(struct groups *gs);         /* what no flush took along */

/* group.c */
static inline void group_enter(struct group *g) { g->depth++; }
void group_leave(struct group *g);
void group_complete(struct group *g, struct completion *c, int status);
void group_tick(struct group *g);
void group_write_state(struct group *g, struct journal_record record, void *data, uint64_t value, void (*done)(struct group *g, struct state_write *w));
void group_maybe_closed(struct group *g);

/* group_open.c */
int group_start(struct group *g);
int io_load(struct raft_io *io, raft_term *term, raft_id *vote, struct raft_snapshot **snapshot, raft_index *start, struct raft_entry *entries[], size_t *n);

/* group_beat.c */
uint64_t group_beat(struct group *g, uint64_t now); /* instead of a tick; 0: it needs one */
void groups_beat_flush(struct groups *gs);
void groups_beat_received(struct groups *gs, uint32_t from_node, const struct link_message *m);
void groups_beat_free(struct groups *gs);

/* group_io.c */
void group_io_init(struct group *g);
bool group_deliver_appends(struct group *g);

/* group_send.c */
int io_send(struct raft_io *io, struct raft_io_send *req, const struct raft_message *message, raft_io_send_cb cb);
bool group_run_sent(struct group *g);
void group_release_held(struct group *g);
void group_send_commit(struct group *g);
void group_post(struct group *g, uint64_t to, struct link_message *m, uint64_t need);
void group_send_timeout_now(struct group *g);
void group_send_parts(struct group *g, uint64_t to, struct link_message *m, const struct iovec *parts, unsigned n_parts, struct send_req *req, uint64_t need);
void group_send_req_done(struct group *g, struct send_req *r);

/* group_recv.c */
void group_receive(struct group *g, uint32_t from_node, struct link_message *m);
void group_deliver_timeout_now(struct group *g);

/* group_ack.c: R1, R2, R3 */
struct peer *group_peer(struct group *g, uint64_t id);
void group_new_term(struct group *g);
void group_verify(struct group *g, const struct raft_append_entries *a);
bool group_clamp(struct group *g, struct raft_append_entries_result *r);
uint64_t group_retreat(const struct group *g, uint64_t rejected, uint64_t last);
bool group_hold_back(struct group *g, const struct append_op *op);
bool group_take_ack(struct group *g, uint64_t from, struct raft_append_entries_result *r);
void group_open_gate(struct group *g);
bool group_lead(struct group *g);                   /* false: nothing could be done yet */
unsigned group_voters(const struct group *g, bool *self);

/* group_elect.c */
void group_watch_election(struct group *g);
void group_run_election(struct group *g);
void group_leader_lost(struct group *g, uint32_t node);
void group_vote_given(struct group *g, uint64_t to, bool pre_vote);
void group_vote_refused(struct group *g, uint64_t to);  /* not a pre-vote */
bool group_ignores_prevote(const struct group *g, uint64_t from);
bool group_election_rests(const struct group *g);   /* no tick: libraft's own timer is not to end a round of votes */
void group_check_contact(struct group *g);
void group_peer_up(struct group *g);                /* a link came up: an election may succeed now */
bool group_sole_hold(struct group *g);              /* R12: true: no tick now */

/* group_conf.c */
int group_conf_decode(const void *data, size_t n, struct raft_configuration *out); /* bounded; 0 or SLUICE_E_PROTOCOL */
/* libraft leaves the padding behind a configuration that it encoded as malloc() gave it: these zero it, so that none of our memory goes to disk or peers. */
void group_conf_clean(void *data, size_t n);
int group_conf_encode(const struct raft_configuration *c, struct raft_buffer *out); /* 0 or libraft's code; *out is freed by raft_free() */
void group_conf_note(struct group *g, uint64_t index, const struct raft_buffer *bytes);
void group_conf_truncate(struct group *g, uint64_t index);
void group_conf_settle(struct group *g);            /* forgets those before the committed one */
const struct conf_entry *group_conf_committed(const struct group *g);
void group_conf_before_conflict(struct group *g, uint64_t conflict); /* R7 */
void group_conf_after_start(struct group *g);
struct raft_server *group_server(const struct group *g, uint64_t id, unsigned *at);
int group_conf_encode_members(const struct group_member *members, unsigned n, struct raft_buffer *out);

/* group_change.c */
void group_transfer_tick(struct group *g);

/* group_snapshot.c */
int io_snapshot_put(struct raft_io *io, unsigned trailing, struct raft_io_snapshot_put *req, const struct raft_snapshot *s, raft_io_snapshot_put_cb cb);
int io_snapshot_get(struct raft_io *io, struct raft_io_snapshot_get *req, raft_io_snapshot_get_cb cb);
bool group_run_gets(struct group *g);
bool group_installing(const struct group *g);
int fsm_snapshot(struct raft_fsm *fsm, struct raft_buffer *bufs[], unsigned *n_bufs);
int fsm_restore(struct raft_fsm *fsm, struct raft_buffer *buf);
int fsm_apply(struct raft_fsm *fsm, const struct raft_buffer *buf, void **result);
int group_snapshot_decode(const void *data, size_t n, struct snapshot_meta *out); /* conf and data point into data */
void group_want_snapshot(struct group *g);
bool group_holds_much(const struct group *g);       /* of the memory for logs, which is short: more than its share */
void group_install_seeded(struct group *g);         /* every batch is durable here: the put goes on */
void group_cancel_install(struct group *g);
void group_snapshot_watch(struct group *g, uint64_t peer_id, bool installing);

/* group_seed.c */
void group_seed_begin(struct group *g, uint64_t first, uint64_t next);
void group_seed_tick(struct group *g);
void group_seed_stop(struct group *g);
void group_seed_asked(struct group *g, const struct link_message *m);
void group_seed_data(struct group *g, struct link_message *m);

/* seed_pace.c */
bool seed_pace_applies(const struct groups *gs);                                   /* puts come in, so answers are paced */
uint64_t seed_pace_take(struct groups *gs, uint64_t bytes);                        /* milliseconds to wait before giving `bytes` */
void seed_pace_refund(struct groups *gs, uint64_t charged, uint64_t used);         /* fewer were given; after seed_pace_take() only */
void seed_pace_tick(struct groups *gs);                                            /* learns how long commits take undisturbed */

/* group_read.c */
void group_read_work(struct group *g);
void group_read_asked(struct group *g, const struct link_message *m);
void group_read_confirmed(struct group *g, const struct link_message *m);
void group_read_tick(struct group *g);
void group_read_fail(struct group *g, int status);

#endif
