/* client_impl.h: what the files of the client library share: nodes and requests, targets, the shard map.
 *
 * Life of a request: its owner (a call, a batch, a reader) embeds a struct request; request_send() puts it on a node's connection, or in
 * the node's queue until the connection is ready; `done` runs once with the answer, or request_cancel() forgets it. A request
 * that was written and not answered has an unknown outcome: answer.maybe says so. */
#ifndef SLUICE_CLIENT_IMPL_H
#define SLUICE_CLIENT_IMPL_H

#include "client/sluice.h"
#include "proto/base.h"
#include "storage/env.h"

/* ---- bytes that several writes may share ---- */

/* A batch that is re-sent may still lie in the queue of a connection that is going away. */
struct blob {
    unsigned refs;
    size_t len;
    uint8_t *data; /* malloc'ed */
};
struct blob *blob_new(void *data, size_t len); /* takes data */
void blob_release(struct blob *b);

/* ---- requests ---- */

struct node;
struct wire;
struct request;
struct request_list;

struct answer {
    int code;             /* 0: frame holds the reply */
    bool maybe;           /* the request may have been carried out although there is no reply */
    const char *message, *hint;
    uint32_t leader_node; /* hints of an Error, 0 and "" if there are none */
    const char *leader_address;
    uint32_t retry_after_ms;
    struct frame *frame;
    struct frame_reader *reader; /* to take the payload from */
};
typedef void (*request_done)(struct request *r, const struct answer *a);

struct request {
    /* The owner's, unchanged until done or cancelled. */
    uint8_t kind;
    const uint8_t *packed; /* the packed message */
    size_t packed_len;
    struct blob *payload;  /* may be NULL; a reference is held while it is being written */
    uint32_t timeout_ms;   /* for this attempt */
    bool long_poll;        /* the node may be silent on it */
    bool subscribes;       /* answers keep coming: done runs for each, until the owner cancels it or an error comes, which is the last. The time counts from the newest */
    request_done done;
    /* The node's. */
    struct node *node;     /* NULL: not under way */
    struct wire *wire;     /* NULL: waiting for the connection */
    struct request_list *list;
    struct request *prev, *next;
    bool written;          /* handed to the connection: it may be carried out. Stays after done */
    uint64_t correlation, started_ns, sent_ns;
};

struct request_list { struct request *head, *tail; unsigned n; };

/* ---- nodes ---- */

enum node_state { NODE_IDLE, NODE_CONNECTING, NODE_HELLO, NODE_READY, NODE_BACKOFF };
enum { NODE_HOST_MAX = 256, NODE_ADDRESS_MAX = NODE_HOST_MAX + 8 };

struct node {
    struct sluice_client *client;
    struct node *next;
    char host[NODE_HOST_MAX];
    char address[NODE_ADDRESS_MAX];
    uint16_t port;
    uint32_t id; /* 0: not known yet */
    enum node_state state;
    struct wire *wire; /* CONNECTING, HELLO, READY */
    struct request_list waiting;
    unsigned failures; /* in a row */
    char last_why[80]; /* how the last of them came about */
    uint64_t retry_at_ns, attempted_ns, silent_until_ns;
    uint64_t tick_ns;  /* when the tick was last armed: a late loop must not blame the node */
    struct env_timer timer;
    uint32_t in_flight_max, record_max, frame_max; /* from the hello; 0 unknown */
    /* A node has several event loops (lanes), and the system picks which of them gets a connection. */
    uint32_t n_lanes, lane;  /* from the hello: of the node; which of them has this connection */
    struct node *first;      /* a further connection to the node `first`; NULL: it is in the client's list itself */
    struct node *further;    /* the first one's further connections, at most one more than there are lanes; kept, also those that are not connected */
    struct node *further_next;
    unsigned seeks;          /* further connections begun in vain, in a row */
    uint64_t seek_at_ns;     /* the next one not before */
};

/* Sends, connecting first if need be. 0, or SLUICE_E_NO_CONNECTION (the node is not usable now): done does not run then. */
int request_send(struct node *n, struct request *r);
/* Forgets a request: a late answer is dropped. Fine on one that is not under way. */
void request_cancel(struct request *r);
/* Sends a frame that has no answer, about a request that was answered and goes on (or nothing if it is not under way). */
void request_note(struct request *r, uint8_t kind, const ProtobufCMessage *message);
static inline bool request_active(const struct request *r) { return r->node != NULL; }

/* The connection to that lane of the node (counted from 1; 0: not known), if there is one; else n itself, and one is looked for. */
struct node *node_via(struct node *n, unsigned lane);

/* Worth sending to: connected, connecting, or not known to be dead. */
bool node_usable(const struct node *n);
/* Something was asked a while ago and nothing was heard since: others are asked first. */
bool node_quiet(const struct node *n);
/* One that is in no list yet. */
struct node *node_make(struct sluice_client *c, const char *host, uint16_t port);
/* Finds or adds; NULL if the address cannot be read. */
struct node *node_get(struct sluice_client *c, const char *address);
struct node *node_by_id(struct sluice_client *c, uint32_t id);
void node_add(struct sluice_client *c, const char *host, uint16_t port);
/* Next of all nodes in turn that is usable, else NULL. */
struct node *node_in_turn(struct sluice_client *c, unsigned *turn, const struct node *avoid);
/* The nodes that cannot be reached at the moment, each with the reason; "" if there is none. */
void nodes_out_of_reach(const struct sluice_client *c, char *out, size_t size);
/* Fails everything with SHUTTING_DOWN's silence: no callbacks. */
void node_close(struct node *n);

/* ---- the shard map ---- */

struct shard {
    uint32_t id;
    struct hash128 first, last;
    bool open;
    uint32_t leader;
    uint64_t term;
    uint32_t *replicas, *parents, *children;
    uint32_t n_replicas, n_parents, n_children;
    uint64_t created_s, first_offset, end_offset;
};

struct stream_watch {
    void (*changed)(struct stream_watch *w, int code, const char *message); /* a refresh ended */
    struct stream_watch *next;
};

struct stream {
    struct sluice_client *client;
    struct stream *next;
    char *name;
    unsigned refs;
    bool known;
    uint8_t id[16];
    uint32_t record_max;  /* 0: not told */
    uint64_t map_version; /* what is older is not taken: a shard that is closed stays closed */
    struct shard *shards; /* by id */
    size_t n_shards;
    struct stream_watch *watches, *todo; /* todo: not yet told of the present outcome */
    struct env_timer timer;
    bool refreshing, again;
    uint64_t refreshed_ns; /* start of the last refresh */
    unsigned failures;
};

struct stream *stream_get(struct sluice_client *c, const char *name); /* takes a reference */
void stream_put(struct stream *s);
void stream_watch_add(struct stream *s, struct stream_watch *w);
void stream_watch_remove(struct stream *s, struct stream_watch *w);
/* Asks a node for the map soon (at most every 50 ms); watches hear of the outcome. */
void stream_refresh(struct stream *s);
struct shard *stream_shard(const struct stream *s, uint32_t id);

/* ---- where to send a shard's requests ---- */

struct target {
    struct node *hint;   /* an error named it as leader */
    struct node *failed; /* the last that refused */
    unsigned turn;
};
/* A usable node, or NULL: none now, try again after a while. any: any replica does, `spread` the starting point. */
struct node *target_choose(struct target *t, const struct stream *s, uint32_t shard, bool any);
/* Learns from an answer (a NULL: the node took the request and answered well). Asks for a new map when that may help. */
void target_learn(struct target *t, struct stream *s, uint32_t shard, struct node *n, const struct answer *a);

/* ---- records that a node sends (fetch.c) ---- */

/* Are these whole, undamaged batches of that shard which follow each other, from a record `from` on to next_offset? NULL, or what is wrong. */
const char *batches_check(const uint8_t stream_id[16], uint32_t shard, uint64_t from, const uint8_t *data, size_t len, uint64_t next_offset);
/* Unpacks and checks an answer to a fetch at `offset`. 0: *m is the caller's; SLUICE_E_EXPIRED: the offset was trimmed (unless from_horizon); SLUICE_E_CORRUPT: *why tells. */
int fetch_reply_check(const struct answer *a, const uint8_t stream_id[16], uint32_t shard, uint64_t offset, bool from_horizon, Sluice__FetchReply **m, const char **why);

/* How long to wait before a node is asked again, after the n-th failure in a row (from 0), ms. It was answered by `a`: as long as that says; not at all if it named the
 * leader, the first times; else, and if no node could be asked (NULL), with full jitter. */
uint64_t target_pause_ms(const struct target *t, struct env *env, unsigned n, const struct answer *a);

/* Full jitter: uniform in [min, min(cap, base << attempt)], ms. */
uint64_t backoff_ms(struct env *env, unsigned attempt, unsigned min_ms, unsigned base_ms, unsigned cap_ms);

/* ---- client ---- */

struct call;

struct sluice_client {
    struct env *env;
    struct sluice_client_options options; /* strings owned */
    struct node *nodes; /* in the order in which they became known */
    unsigned n_nodes, turn;
    struct stream *streams;
    struct call *calls;
    struct sluice_fetch *fetches;
    unsigned wires;    /* connections not yet closed by the env */
    bool closing;
    struct env_task close_task;
    void (*closed)(void *user);
    void *closed_user;
    struct sluice_client_stats stats;
    uint32_t record_max; /* smallest that a hello told; 0 unknown */
};

/* The last connection has gone: ends a closing client. */
void client_wire_gone(struct sluice_client *c);
void calls_drop(struct sluice_client *c);
void fetches_drop(struct sluice_client *c);
void streams_drop(struct sluice_client *c);

/* Unpacks an answer's message; NULL: malformed. */
ProtobufCMessage *answer_unpack(const ProtobufCMessageDescriptor *d, const struct frame *f);
uint8_t *message_pack(const ProtobufCMessage *m, size_t *n); /* malloc'ed, never NULL */

#endif
