/* request.h: a request of a client or peer, from its frame to its answer.
 *
 * Made on the lane of its connection (home), handled on the lane of its shard (at), answered at home. It travels by env_post() and is owned by one lane at a time.
 * The requests of one connection for one shard keep their order on the way there; answers may come in any order. */
#ifndef SLUICE_REQUEST_H
#define SLUICE_REQUEST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#include "proto/batch.h"
#include "proto/error.h"
#include "proto/frame.h"
#include "raft/group.h"
#include "server/dedupe.h"
#include "server/shard_batches.h"
#include "storage/env.h"

struct lane;
struct shard;
struct connection;
struct request;

/* States of a put on its shard (server/shard_put.c):
 *   QUEUED    waits for room in flight (in the shard's queue)
 *   PROPOSED  in the Raft log of this term
 *   FOLLOWING a duplicate of a proposed batch: answered with it */
enum put_state { PUT_NEW, PUT_QUEUED, PUT_PROPOSED, PUT_FOLLOWING };

struct put {
    enum put_state state;
    struct batch_header header;
    struct group_propose propose;
    struct dedupe_pending pending;
    struct request *followers;    /* duplicates that wait for this one, oldest first; linked by queue_next */
    uint64_t first_offset, time_ms;
};

struct fetch {
    uint64_t offset;
    uint32_t max_bytes, wait_ms, max_records;
    bool fresh, fresh_done;
    bool shared, continued, from_horizon; /* proto/sluice.proto */
    bool waiting;                 /* in the shard's list of waiters */
    struct env_timer timer;
    bool timer_ready;
    struct request *waiter_next, **waiter_prev;
    struct shard_batches batches; /* the answer's */
};

/* A subscription's request goes back and forth between its shard and its connection: each push is an answer, and when it was written the request returns. */
struct subscribe {
    uint64_t id;                  /* its number on this node, by which the lanes talk of it: never used twice */
    uint64_t consumer, offset, credit, age_ms, map_version;
    uint32_t heartbeat_ms;
    uint8_t subscriber[16];
    bool resumed;
    struct subscription *it;      /* server/shard_push.c; the shard's lane's */
};

struct request {
    struct env_msg msg;
    struct lane *home, *at;
    struct connection *conn;      /* home's; not touched elsewhere */
    uint64_t conn_id;             /* its number, for other lanes */
    struct request *conn_next, **conn_prev;
    struct request *queue_next;   /* the shard's put queue, or a put's followers */
    struct shard *shard_at;       /* while it waits in a shard */
    void (*run)(struct shard *s, struct request *r);
    uint64_t group;               /* of the shard, once found */
    uint8_t kind;
    bool from_peer;
    uint64_t correlation;
    uint64_t arrived_ns;
    uint8_t stream_id[16];
    uint32_t shard;
    void *payload;                /* put: the batch; becomes the Raft entry */
    size_t payload_len;
    uint64_t held;                /* bytes counted on home against its memory bound */
    void *message;                /* control requests: a copy of the message */
    size_t message_len;
    struct group_fresh fresh;     /* fetch, position, resolve */
    union {
        struct put put;
        struct fetch fetch;
        struct { int kind; bool shared; uint64_t time_ms; char sequence[64]; } position;
        struct { struct dedupe_key key; bool confirmed; } resolve;
        struct subscribe subscribe;
    } u;
    bool subscribed;              /* home's: its first answer was written, so it counts as a subscription */
    bool unwanted;                /* home's: the client ended it */
    /* the answer */
    int code;
    void *head;                   /* encoded frame header and message */
    size_t head_len;
    const struct iovec *body;     /* payload in pieces; stays valid until release */
    unsigned n_body;
    size_t body_len;
    void (*release)(struct request *r); /* on `at`, when the answer was sent or given up; NULL: nothing to release */
    void (*again)(struct request *r);   /* on `at`, when the answer was sent: more of them follow. NULL: it was the last. Given up: release runs instead */
    bool silent;                  /* no answer: it only goes home to be freed */
    struct iovec *iov;
    struct env_write write;
};

/* A frame of a client or peer: makes a request and sends it on its way, or answers an error. The payload is taken from the reader if it is wanted. */
void request_dispatch(struct connection *c, struct frame *f);

/* Sends the request to the lane that has its shard, or answers that none has. run is called there. */
void request_to_shard(struct request *r, void (*run)(struct shard *s, struct request *r));

/* Answers (on `at`; the request is not touched afterwards). */
void request_answer(struct request *r, uint8_t kind, const void *protobuf_message);
void request_answer_body(struct request *r, uint8_t kind, const void *protobuf_message, const struct iovec *body, unsigned n_body, void (*release)(struct request *r));
void request_answer_frame(struct request *r, int code, void *frame, size_t len); /* an encoded frame, taken over */
/* why: NULL for the code's own text. leader_node: 0 unknown. */
void request_error(struct request *r, int code, const char *why, uint32_t leader_node, uint32_t retry_after_ms);
void request_drop(struct request *r); /* ends it without an answer: for those that nobody wants any more */
/* On home: its answer was written. Frees it, or sends it back to `at` if more answers follow. */
void request_answered(struct request *r);
/* Frees on home; release has run. */
void request_free(struct request *r);

/* One file per kind: decodes the message, checks it, sends the request on (or answers it). The payload is r's already. */
void request_put(struct request *r, const struct frame *f);
void request_fetch(struct request *r, const struct frame *f);
void request_position(struct request *r, const struct frame *f);
void request_resolve(struct request *r, const struct frame *f);
void request_control(struct request *r, const struct frame *f);
void request_ping(struct request *r, const struct frame *f);
/* request_subscribe.c */
void request_subscribe(struct request *r, const struct frame *f);
void request_credit(struct connection *c, const struct frame *f);
void request_subscribed(struct request *r);              /* on home, when its first answer was written */
void request_subscribe_ended(struct request *r);         /* on home, before it is freed: its connection forgets it */
void request_subscriptions_forget(struct connection *c); /* the connection is gone: its subscriptions are released at once */

#endif
