/* kinesis_impl.h: what the files of the Kinesis endpoint share: a call, from its request to its one answer.
 *
 * A request becomes a struct call (kinesis.c). It is checked in AWS's order (kinesis_front.c), then its operation's function runs (the table in kinesis_operations.c). An
 * operation answers exactly once, now or later, by call_reply(), call_reply_empty() or call_fail(); after that the call is not touched by it any more, unless it holds it.
 * Whatever is under way for a call (a native request, a put) holds it (call_hold); when the peer goes away call.gone is set, what comes back later is
 * dropped by call_reply() and call_fail() themselves, and the memory goes with the last call_release(). */
#ifndef SLUICE_KINESIS_IMPL_H
#define SLUICE_KINESIS_IMPL_H

#include "client/sluice.h"
#include "server/aws/aws_decode.h"
#include "server/aws/aws_ids.h"
#include "server/aws/aws_request.h"
#include "server/aws/aws_token.h"
#include "server/cluster_map.h"
#include "server/kinesis/kinesis.h"
#include "server/kinesis/kinesis_keys.h"
#include "server/kinesis/kinesis_rates.h"
#include "server/lane.h"

enum {
    CALL_HEADERS_MAX = 8,
    CALL_BYTES_MAX = 32 << 20, /* of an answer: GetRecords' 10 MiB in base64 and what stands around them */
    CALL_MEMORY = AWS_DECODE_MEMORY,
    CALL_MAP_WAIT_MS = 2000,  /* an answer waits at most so long until the lane's map shows what the call has changed */
    CALL_NATIVE_MS = 10000    /* a native request with its retries; then the outcome is unknown: InternalFailure */
};

struct kinesis {
    struct lane *lane;
    struct env *env;
    struct http_server *http;
    struct kinesis_clients *clients;     /* kinesis_clients.c: a native client per account */
    struct kinesis_producers *producers; /* kinesis_producers.c: a producer per stream that is written to; NULL: none yet */
    struct kinesis_keys *keys;           /* kinesis_keys.c: the configured access keys; NULL: any credentials are taken */
    struct kinesis_rates *rates;         /* kinesis_rates.c: control-plane rates; lane 0 has the buckets of the node */
    struct subscriber *subscribers;      /* kinesis_subscribe.c: SubscribeToShard calls */
    uint64_t memory_max;                 /* of the HTTP server: request bodies and unsent answers */
    uint64_t get_bytes, get_awaited;     /* of GetRecords calls that are not answered yet (kinesis_get.c): held, and what their fetches may bring */
    struct aws_block_pool blocks;
    struct call *calls;
    struct kinesis_metrics metrics;
    unsigned n_refreshing;               /* calls that bring the map up to date (kinesis_fresh.c) */
    bool closing;
    void (*done)(void *arg);             /* of kinesis_close() */
    void *done_arg;
};

struct call {
    struct kinesis *k;
    struct call *next, **prev;
    struct http_request *http;        /* NULL once it was answered or the peer is gone */
    unsigned holds;
    bool answered, gone;
    const struct aws_operation *op;
    int op_number;                    /* enum aws_op */
    enum aws_format format;
    struct arena arena;               /* goes with the call */
    const struct aws_value *input;
    struct aws_writer writer;
    bool writing;                     /* the writer is in use */
    char account[16];                 /* the caller's */
    char request_id[AWS_REQUEST_ID_SIZE];
    /* call_native() */
    void (*native_done)(struct call *c, const struct sluice_result *r);
    bool refreshing;                  /* counted in n_refreshing */
    bool fresh;                       /* the map has been brought up to date for this call, or it has asked for a change */
    uint64_t map_version;             /* the answer waits for it */
    ProtobufCMessage *map_reply;      /* a copy of the reply that waits */
    struct env_timer map_timer;
    bool map_waiting;
    void *user;                       /* the operation's */
    void (*abandoned)(struct call *c); /* the operation's, may be NULL: the peer is gone, so stop what is under way (holds stay the operation's to release) */
    void (*writable)(struct call *c);  /* of streaming answers (http.h), may be NULL */
};

/* ---- kinesis.c: answers ---- */
void call_hold(struct call *c);
void call_release(struct call *c);
/* The writer of the answer, with its outer object begun. */
struct aws_writer *call_writer(struct call *c);
/* Ends the outer object and sends it. What the writer refers to must live until release(arg) runs (NULL: it lives in the arena or in the writer). */
void call_reply(struct call *c);
void call_reply_referring(struct call *c, void (*release)(void *arg), void *arg);
void call_reply_empty(struct call *c);
void call_fail(struct call *c, enum aws_error e, const char *format, ...) __attribute__((format(printf, 3, 4)));
/* With a message as it is (from the aws_ functions); NULL: none. */
void call_fail_text(struct call *c, enum aws_error e, const char *message);
/* The headers that each answer has: ids, content type (NULL: none), CORS. Returns how many; the texts live as long as the call's arena and request. */
unsigned call_headers(struct call *c, const char *content_type, struct http_header out[CALL_HEADERS_MAX]);
/* A streaming answer has ended (http_stream_end() or _reset() was called): the call counts as answered. */
void call_streamed(struct call *c);
/* The error of a native request, in AWS's words. stream: its name as the call gave it, or NULL. */
void call_native_error(struct call *c, int code, const char *message, struct aws_text stream);

/* ---- lookups in the lane's map (kinesis_lookup.c): what is found is valid in this turn ----
 * NULL or false: answered with the error that belongs to it; or, if this node may only not know it yet, the call waits for what the controller's leader knows, and
 * its operation runs once more from its beginning. So these come first in an operation. */
/* By StreamName or StreamARN. A stream that is being deleted is found too: see its status. */
const struct map_stream *call_stream(struct call *c);
/* The same, and it must be ACTIVE: else ResourceInUseException. */
const struct map_stream *call_active_stream(struct call *c);
/* A stream whose records may be written and read: ACTIVE or UPDATING; for others it is not there. */
bool stream_has_data(const struct map_stream *s);
const struct map_stream *call_data_stream(struct call *c);
const char *stream_status_name(const struct map_stream *s);
/* A shard by the member's text; coming ones are not found. */
const struct map_shard *call_shard(struct call *c, const struct map_stream *s, struct aws_text id);
/* By ConsumerARN, or StreamARN and ConsumerName. */
bool call_consumer(struct call *c, const struct map_stream **s, const struct map_consumer **consumer);
/* By ResourceARN (or StreamName where the operation has that): a stream, or one of its consumers (*consumer else NULL). */
bool call_resource(struct call *c, const struct map_stream **s, const struct map_consumer **consumer);
void call_stream_arn(const struct call *c, const struct map_stream *s, char out[AWS_ARN_SIZE]);
void call_consumer_arn(const struct call *c, const struct map_stream *s, const struct map_consumer *consumer, char out[AWS_ARN_SIZE]);
/* "Stream S under account A not found." */
void call_no_stream(struct call *c, struct aws_text name);
const uint8_t *call_token_key(struct call *c); /* NULL: answered ServiceUnavailable: the cluster has none yet */
/* A sequence number as an input gives it; false: none of ours. */
bool call_sequence_parse(struct aws_text text, struct seqno *out);
/* The text of a record's sequence number. */
void call_sequence(char text[SEQNO_TEXT_MAX], uint64_t created_s, uint32_t shard, uint64_t offset, uint64_t time_ms);

/* ---- native requests (kinesis_native.c) ---- */
struct sluice_client *call_client(struct call *c);
/* A control request for the caller's account; done runs once (not if the call was abandoned), with a success not before the lane's map has what the reply's map_version says. On
 * an error done gets it too: call_native_error() is the usual answer. */
void call_native(struct call *c, enum frame_kind kind, const ProtobufCMessage *m, void (*done)(struct call *c, const struct sluice_result *r));
/* The usual done: an empty answer, or the error. */
void call_native_empty(struct call *c, const struct sluice_result *r);

/* For the endpoint's own files. Requests become calls (kinesis_front.c); calls that wait for the lane's map look again; the peer of a call is gone. */
void kinesis_front(struct kinesis *k, struct http_request *r);
bool call_native_map(struct call *c); /* true: it went on, and may be gone */
void call_native_gone(struct call *c);
struct call *call_new(struct kinesis *k, struct http_request *r);
/* An answer of fixed text, which lives for ever. type NULL: no content type; body NULL: empty. */
void call_reply_fixed(struct call *c, unsigned status, const char *type, const char *body);

/* Something was not found, or has to be as the controller's leader knows it. True: the call waits and its operation will run again. False: the map is as fresh as it will be. */
bool call_refresh(struct call *c);
void call_refresh_end(struct call *c); /* also when the peer of a call that waits is gone */

/* ---- native clients (kinesis_clients.c) ---- */
void kinesis_clients_open(struct kinesis *k);
/* Producers and readers are closed before. done runs when the memory is gone, maybe inside the call. */
void kinesis_clients_close(struct kinesis *k, void (*done)(void *arg), void *arg);

/* ---- what puts and subscriptions keep beside calls; all of these may be called again and again ---- */
void kinesis_subscribers_map(struct kinesis *k);   /* the lane has a new map */
void kinesis_subscribers_close(struct kinesis *k); /* the node stops: end those that are being served */
void kinesis_producers_map(struct kinesis *k);
void kinesis_producers_close(struct kinesis *k);   /* no call is left that could be answered */

/* ---- operations: one function each, in the file of its topic; the table is in kinesis_operations.c ---- */
typedef void (*kinesis_operation)(struct call *c);
#define X(name) void kinesis_##name(struct call *c);
AWS_OPERATIONS(X)
#undef X
/* The operation runs, without a look at its rate. */
void kinesis_run_now(struct call *c);
/* Within its rate, the call's operation runs: now, or in a later turn. */
void kinesis_run(struct call *c);

#endif
