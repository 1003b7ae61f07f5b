/* producer_impl.h: the producer's insides: batches, lanes, and who does what.
 *
 * producer.c       puts, routing by hash key, completion, flush, limits
 * producer_lane.c  one shard's queue: sending, retrying, in order
 * producer_epoch.c what to do when sequences cannot just go on: resolve, new epoch, re-routing after a reshard
 *
 * A lane's batches stand in one list, oldest first, and are completed from its head only. States of a batch:
 *   OPEN -> QUEUED -> SENT -> DONE (waits for its turn at the head) -> completed
 *                      |-> FAILED(code) -> when it is the head: QUEUED again, or completed with the code
 * Sequences are given when a batch is queued. They may be renumbered (a new epoch) only when no batch of the list may have been
 * carried out under its old number: `maybe` says that an attempt was written and got no definite answer. */
#ifndef SLUICE_PRODUCER_IMPL_H
#define SLUICE_PRODUCER_IMPL_H

#include "client/client_impl.h"

struct done_entry { sluice_put_cb cb; void *user; };

enum batch_state { BATCH_OPEN, BATCH_QUEUED, BATCH_SENT, BATCH_DONE, BATCH_FAILED };

struct out_batch {
    struct out_batch *prev, *next;
    struct lane *lane;
    struct request request;
    struct blob *blob;
    struct done_entry *entries;
    uint32_t count, entries_cap;
    size_t cost;            /* bytes it counts towards buffered_bytes_max */
    uint64_t created_ns, sequence, flush_gen;
    enum batch_state state;
    bool maybe;
    unsigned attempts;
    int code;               /* FAILED */
    bool duplicate;
    uint64_t first_offset, time_ms, shard_created_s; /* DONE */
};

enum lane_state {
    LANE_RUN,     /* sends */
    LANE_WAIT,    /* until the timer */
    LANE_RESOLVE, /* asks what became of the head */
    LANE_FAILING, /* within lane_fail_head(): what callbacks put meanwhile waits for its number */
    LANE_CLOSED   /* the shard takes no more: waits for the new map */
};

struct lane {
    struct sluice_producer *p;
    uint32_t shard;
    enum lane_state state;
    struct batch_builder builder;
    struct out_batch *open;        /* its records are in the builder */
    struct out_batch *head, *tail; /* queued and beyond */
    struct out_batch *unsent;      /* first QUEUED one; all before it are SENT, DONE or FAILED */
    unsigned n_sent;
    size_t sent_bytes;
    uint32_t epoch;
    uint64_t next_sequence;
    struct target target;
    struct node *node;             /* where the SENT ones are; kept while there are any */
    struct node *via;              /* the connection to it that has the SENT ones; kept as long */
    unsigned at_lane;              /* of node has the shard, counted from 1; 0: not known */
    bool moving;                   /* a better connection is there: nothing is sent before what is SENT is answered, as order holds on one connection only */
    uint64_t term;                 /* of the map when node was chosen */
    unsigned failures;             /* in a row */
    bool probing;                  /* only the head goes until a node has taken it */
    bool resolved_closed;          /* LANE_RESOLVE because the shard is closed */
    bool dirty;
    struct lane *next_dirty;
    unsigned incompressible;       /* batches in a row that LZ4 did not shrink */
    uint8_t *put_packed;
    size_t put_packed_len;
    struct env_timer timer;
};

struct flush_wait { struct flush_wait *next; uint64_t gen, batches; void (*cb)(void *user); void *user; };

struct sluice_producer {
    struct sluice_client *client;
    struct sluice_producer_options options;
    uint32_t batch_bytes_waiting; /* bound of a batch while the window is closed */
    struct stream *stream;
    struct stream_watch watch;
    uint8_t id[16], stream_id[16];
    bool incarnation_given; /* stream_id was told by the user: no other one is taken */
    unsigned other_maps;    /* that had another one */
    bool open;              /* the map is known and lanes exist */
    uint64_t opened_ns;     /* when sluice_producer_open() was called */
    struct lane **lanes;    /* of the open shards, ordered by first hash key, which together cover all */
    uint64_t *first_high;   /* upper halves of the first hash keys: what a put searches */
    struct hash128 *first;
    uint32_t n_lanes;
    struct lane *dirty;
    struct env_task task;
    struct env_timer tick;
    bool ticking, blocked, closing, rerouting;
    size_t buffered;
    uint64_t outstanding;   /* batches not completed, open ones included */
    uint64_t flush_gen;
    struct flush_wait *flushes;
    struct out_batch *spare; /* for reuse, with their entry arrays */
    unsigned n_spare;
    unsigned closed_lanes;   /* in LANE_CLOSED */
    unsigned resolving;      /* calls that will come back to this producer: it is freed after them */
    int error;
    char error_text[256];
    struct sluice_producer_stats stats;
};

/* producer.c */
void producer_complete(struct lane *l, struct out_batch *b, int code, enum sluice_outcome outcome, const char *message); /* b off the list */
int producer_add(struct sluice_producer *p, struct lane *l, const struct sluice_record *r, const struct hash128 *hash, sluice_put_cb cb,
                 void *user, uint64_t created_ns);
struct lane *producer_route(const struct sluice_producer *p, const struct hash128 *hash);
void producer_free_later(struct sluice_producer *p);
void producer_routes_build(struct sluice_producer *p); /* from the stream's map; lanes that go on are kept */

/* producer_lane.c */
struct lane *lane_new(struct sluice_producer *p, uint32_t shard);
void send_lane_free(struct lane *l); /* its lists are empty */
void lane_seal(struct lane *l);
void lane_pump(struct lane *l);
void lane_requeue(struct lane *l, bool maybe);
void lane_unlink(struct lane *l, struct out_batch *b);
void lane_head_step(struct lane *l);
void lane_check(struct lane *l, uint64_t now_ns); /* the producer's tick: delivery time-outs, leaders that moved */
void lane_fail_head(struct lane *l, int code, enum sluice_outcome outcome, const char *message);

/* producer_epoch.c */
void lane_new_epoch(struct lane *l);
void lane_resolve(struct lane *l, bool closed);
void producer_reroute(struct sluice_producer *p); /* after a new map, when every closed lane is resolved */

#endif
