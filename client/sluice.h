/* sluice.h: the C client library of Sluice.
 *
 * Two layers. The asynchronous one works on any `struct env` (a libuv loop, the simulator): no threads, no system calls of its
 * own; every function is called and every callback runs on the env's thread; a callback never runs inside the call that
 * started it. The blocking one (at the end) runs a loop of its own on the calling thread and suits simple programs.
 *
 * Errors are the codes of proto/error.h (SLUICE_E_...); 0 is success. Each failed request says its outcome: SLUICE_REJECTED
 * (surely nothing happened) or SLUICE_UNKNOWN (it may have happened). The library retries what may succeed later within the
 * request's time; it retries an unknown outcome only where repeating is harmless (reads, idempotent puts, control requests
 * with a request id).
 *
 * Texts and buffers handed to callbacks are valid during the callback only. Strings in options are copied.
 */
#ifndef SLUICE_H
#define SLUICE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/batch.h"
#include "proto/error.h"
#include "proto/frame.h"
#include "proto/seqno.h"
#include "sluice.pb-c.h"

struct env;
struct sluice_client;
struct sluice_producer;
struct sluice_reader;

/* ---- client ------------------------------------------------------------------------------------------------------------ */

struct sluice_client_options {
    const char *endpoints;       /* "host:port,[v6]:port,..." any nodes of the cluster; NULL or "": 127.0.0.1:4570 */
    const char *agent;           /* told in the hello; NULL: "libsluice/VERSION" */
    const char *account;         /* whose streams are meant, 12 digits; NULL: the node's own */
    bool in_order;               /* what any node can do is asked of the first endpoint that can be reached, not of all in turn */
    unsigned connect_timeout_ms; /* 0: 1000 */
    unsigned request_timeout_ms; /* one attempt at one node; 0: 5000 */
    unsigned silence_ms;         /* a node that says nothing for so long while requests wait is taken for dead; 0: 1500 */
    unsigned call_timeout_ms;    /* a control request with all its retries; 0: 30000 */
    /* A connection could not be made or broke: the first time per node, and again after it had been there. May be NULL; must not call the client. */
    void (*trouble)(void *user, const char *address, const char *why);
    void *user;
};

/* Connections are opened when first needed: this call does no I/O. *out is ended by sluice_client_close(). 0 or SLUICE_E_INVALID
 * (an endpoint cannot be read), SLUICE_E_MEMORY. options NULL: all defaults. */
int sluice_client_open(struct env *env, const struct sluice_client_options *options, struct sluice_client **out);
/* Producers and readers of it must have been closed. Calls that are still waiting end with SLUICE_E_SHUTTING_DOWN before this
 * returns. closed (may be NULL) runs when every connection is gone. */
void sluice_client_close(struct sluice_client *c, void (*closed)(void *user), void *user);

struct sluice_client_stats {
    uint64_t connects, connects_failed, connections_lost, silent; /* silent: connections given up because nothing was heard */
    uint64_t requests, retries, map_refreshes;
    uint64_t bytes_sent, bytes_received;
};
void sluice_client_stats(const struct sluice_client *c, struct sluice_client_stats *out);

/* Takes a list of endpoints apart, calling each for every one. 0 or SLUICE_E_INVALID (nothing or something unreadable). */
int sluice_endpoints_each(const char *list, void (*each)(void *arg, const char *host, uint16_t port), void *arg);

/* ---- control calls ------------------------------------------------------------------------------------------------------- */

struct sluice_result {
    int code;                    /* SLUICE_OK or SLUICE_E_... */
    enum sluice_outcome outcome; /* of the last attempt that mattered: UNKNOWN if any attempt may have been carried out */
    const char *message;         /* what exactly ("" if nothing is to be added to the code's text) */
    const char *hint;            /* what the user can do ("" if unknown) */
    unsigned attempts;
    uint8_t kind;                /* frame kind of the answer */
    const ProtobufCMessage *reply; /* the unpacked answer (Sluice__StreamReply * ...); NULL on error */
};
typedef void (*sluice_call_cb)(const struct sluice_result *r, void *user);

enum { SLUICE_OK = 0 };

struct sluice_call_options {
    unsigned timeout_ms;   /* with all retries; 0: the client's call_timeout_ms */
    const char *stream;    /* not NULL: the request concerns this stream's shard and goes to its leader first */
    uint32_t shard;
    bool once;             /* report an unknown outcome instead of trying again */
    bool no_throttle_wait; /* report SLUICE_E_THROTTLED instead of trying again later */
};

/* Sends a request and calls back once with its answer. message is packed before the call returns. Which requests: HELLO, PUT and
 * FETCH excepted, every client request of proto/frame.h. An empty request_id (create, update, delete) is filled in, so that
 * retries cannot be carried out twice; an empty account becomes the client's. Requests with a stream_id need `stream`, and their empty stream_id is filled in. 0, or
 * SLUICE_E_INVALID, SLUICE_E_MEMORY: no callback then. */
int sluice_call(struct sluice_client *c, enum frame_kind kind, const ProtobufCMessage *message, const struct sluice_call_options *o,
                sluice_call_cb cb, void *user);

/* The usual ones; the reply's type is named. account is the client's. */
int sluice_stream_create(struct sluice_client *c, const char *name, uint32_t shards, uint32_t retention_hours, uint32_t replicas,
                         sluice_call_cb cb, void *user);                                          /* Sluice__StreamReply */
int sluice_stream_describe(struct sluice_client *c, const char *name, sluice_call_cb cb, void *user); /* Sluice__StreamReply */
int sluice_stream_delete(struct sluice_client *c, const char *name, sluice_call_cb cb, void *user);   /* Sluice__StreamReply */
int sluice_cluster_status(struct sluice_client *c, sluice_call_cb cb, void *user);                /* Sluice__ClusterStatusReply */

/* ---- positions --------------------------------------------------------------------------------------------------------- */

enum sluice_position_kind {
    SLUICE_TRIM_HORIZON = 0,  /* the oldest record that is kept */
    SLUICE_LATEST = 1,        /* what comes after the newest */
    SLUICE_AT_SEQUENCE = 2,
    SLUICE_AFTER_SEQUENCE = 3,
    SLUICE_AT_TIME = 4,       /* the first record that arrived at or after time_ms */
    SLUICE_AT_OFFSET = 5      /* this library's own: the offset is known already, nothing is asked */
};
struct sluice_position {
    enum sluice_position_kind kind;
    const char *sequence; /* AT_SEQUENCE, AFTER_SEQUENCE: decimal text */
    uint64_t time_ms;     /* AT_TIME: ms since 1970 */
    uint64_t offset;      /* AT_OFFSET */
};

/* ---- producer ---------------------------------------------------------------------------------------------------------- */

struct sluice_record {
    const void *key;  /* partition key: 1..1024 bytes */
    size_t key_len;
    const void *data;
    size_t data_len;
    const struct hash128 *hash; /* explicit hash key instead of the key's MD5; NULL: none */
};

struct sluice_put_result {
    int code;                    /* SLUICE_OK: acknowledged = durable on a majority */
    enum sluice_outcome outcome;
    const char *message;         /* "" or what exactly went wrong */
    uint32_t shard;
    uint64_t offset;             /* valid if code == 0, as the next two; sluice_put_sequence() makes the number */
    uint64_t time_ms;
    uint64_t shard_created_s;
    unsigned attempts;           /* how often the record's batch was sent */
    bool duplicate;              /* a former attempt had already done it: these are the original numbers */
    void *producer_user;         /* sluice_producer_options.user: the put's own user pointer may then be a plain number */
};
/* The record's sequence number as decimal text. */
void sluice_put_sequence(const struct sluice_put_result *r, char text[SEQNO_TEXT_MAX]);
/* Runs once for each accepted record, within a shard in the order of the puts. */
typedef void (*sluice_put_cb)(const struct sluice_put_result *r, void *user);

struct sluice_producer_options {
    bool no_throttle_wait;        /* a record that meets a shard's throughput limit (SLUICE_E_THROTTLED) is told as rejected instead of sent again, unless its outcome is in doubt */
    const uint8_t *stream_id;     /* 16 bytes: the incarnation of the stream that is meant: another one of its name is not written to. NULL: the one that is found */
    bool not_idempotent;          /* retries may then duplicate nothing, but an unknown outcome is reported instead of retried */
    bool no_lz4;                  /* default: batches are compressed when that saves 1/8 */
    unsigned linger_us;           /* how long to gather even when nothing is in flight; 0: send at the end of the loop's turn */
    uint32_t batch_bytes;         /* 0: 64 KiB, and up to 256 KiB while the shard's window is closed */
    unsigned batches_in_flight;   /* per shard, 1..5; 0: 5 (not idempotent: always 1, to keep the order) */
    uint32_t bytes_in_flight;     /* per shard; 0: 1 MiB. One batch is always allowed */
    uint32_t record_max;          /* largest record, key and data; 0: what the stream allows, as far as this client knows */
    size_t buffered_bytes_max;    /* records accepted and not yet completed; 0: 32 MiB */
    uint64_t delivery_timeout_ms; /* from put to giving up, and to fetch the map at first; 0: 120000; UINT64_MAX: for ever */
    /* After sluice_producer_put() answered SLUICE_E_BUSY: there is room again (or the producer is open now, or it failed: the next put
     * says so). May be NULL. */
    void (*writable)(struct sluice_producer *p, void *user);
    void *user;
};
/* The stream's map is fetched in the background; until then puts answer SLUICE_E_BUSY. 0, SLUICE_E_INVALID or SLUICE_E_MEMORY. */
int sluice_producer_open(struct sluice_client *c, const char *stream, const struct sluice_producer_options *o, struct sluice_producer **out);
/* Copies the record. 0: cb runs later. SLUICE_E_BUSY: wait for `writable`. Other codes: refused, nothing happened, cb does not
 * run: SLUICE_E_INVALID (empty or long key), SLUICE_E_TOO_LARGE, SLUICE_E_NOT_FOUND (no such stream), ... */
int sluice_producer_put(struct sluice_producer *p, const struct sluice_record *r, sluice_put_cb cb, void *user);
/* cb runs when every record accepted before is completed. Several may wait. */
void sluice_producer_flush(struct sluice_producer *p, void (*cb)(void *user), void *user);
/* Records not completed: those never sent are completed as rejected, those sent as unknown, before this call returns (within a put's
 * callback: the other records of that batch right after it). Flush first if that is not wanted. */
void sluice_producer_close(struct sluice_producer *p);
/* Why the producer cannot work (the stream does not exist ...), or 0. *message may be NULL. */
int sluice_producer_error(const struct sluice_producer *p, const char **message);
uint32_t sluice_producer_shards(const struct sluice_producer *p); /* open shards; 0 while the map is not known */

struct sluice_producer_stats {
    uint64_t records, bytes;               /* accepted */
    uint64_t acked, failed, unknown;
    uint64_t batches, batches_resent, duplicates, epochs, buffered_bytes;
};
void sluice_producer_stats(const struct sluice_producer *p, struct sluice_producer_stats *out);

/* ---- one fetch ---------------------------------------------------------------------------------------------------------- */

/* An answer to one FETCH. The batches' bytes belong to the callback's owner if it takes them (sluice_fetched_take()). */
struct sluice_fetched {
    int code;                   /* SLUICE_OK or SLUICE_E_...; the fields below are valid with SLUICE_OK */
    const char *message;
    uint32_t retry_after_ms;
    uint64_t offset;            /* of the first record that is meant: the one asked for, or the trim horizon (from_horizon) */
    uint64_t next_offset, first_offset, end_offset, millis_behind, shard_created_s;
    bool closed;                /* the shard is closed and next_offset is its end */
    const uint32_t *children;
    size_t n_children;
    uint8_t *data;              /* whole batches as stored, each checked (batch.h reads them); the first may begin below `offset` */
    size_t len;
};
/* The bytes are the caller's now (free()); NULL if there are none. */
uint8_t *sluice_fetched_take(struct sluice_fetched *f);

struct sluice_fetch_options {
    uint64_t offset;
    bool from_horizon;               /* an offset before the trim horizon means the horizon; else it is SLUICE_E_EXPIRED */
    const uint8_t *stream_id;        /* 16 bytes: the incarnation that is meant, another one is SLUICE_E_NOT_FOUND; NULL: whatever has the name */
    uint32_t max_bytes, max_records; /* 0: the node's defaults */
    uint32_t wait_ms;                /* long poll; 0: at once */
    uint32_t timeout_ms;             /* with all retries, beside wait_ms; 0: the client's call_timeout_ms */
    bool continued;                  /* with shared: the rest of a call that was answered a moment ago: not counted as another one */
    bool shared;                     /* asks the leader, and counts against the shard's shared read limits: SLUICE_E_THROTTLED is told, not waited for */
};
struct sluice_fetch;
/* Fetches once, from the shard's leader (not `shared`: from another replica while that is out of reach); calls back once, unless it is cancelled before.
 * 0 (*out, may be NULL, is valid until cb runs), SLUICE_E_INVALID or _MEMORY. */
int sluice_fetch(struct sluice_client *c, const char *stream, uint32_t shard, const struct sluice_fetch_options *o,
                 void (*cb)(struct sluice_fetched *f, void *user), void *user, struct sluice_fetch **out);
void sluice_fetch_cancel(struct sluice_fetch *f);

/* ---- push -------------------------------------------------------------------------------------------------------------- */

/* How a reader or a subscription ended. */
struct sluice_read_end {
    int code;               /* SLUICE_OK: the end of the shard, or with `follow` off the end as of the start */
    const char *message;
    bool closed;            /* the shard is closed and all of it was delivered */
    uint64_t next_offset;   /* where to go on */
    const uint32_t *children;
    size_t n_children;
};

struct sluice_subscription;

/* What was pushed: whole batches, none in a heartbeat. */
struct sluice_pushed {
    uint64_t offset;            /* first record of it that is wanted: only the very first batch may begin below */
    uint64_t next_offset, end_offset, millis_behind, shard_created_s;
    const uint8_t *data;        /* batches as stored, checked; offsets continue. Valid during the callback, unless it takes them */
    size_t len;
    bool taken;                 /* set by the callback: the bytes are its own now (free((void *)data)); credit is given back by sluice_subscription_credit() then */
};
struct sluice_subscription_options {
    const char *consumer;       /* the registered consumer's name; NULL: consumer_id tells which */
    uint64_t consumer_id;       /* not 0: it is known already, with the map that has it (0: any); nobody is asked for it */
    uint64_t map_version;       /* of an answer that told of the consumer: nodes whose maps are older are not believed, also when it is named (0: any is) */
    uint64_t credit;            /* bytes that may be on their way or unread; 0: 1 MiB. What a callback did not take is given back after it */
    uint32_t heartbeat_ms;      /* 0: 5000 */
    uint64_t timeout_ms;        /* without a leader that takes it, before it ends with an error; 0: for ever */
    void (*started)(struct sluice_subscription *s, void *user); /* the leader took it, for the first time. May be NULL */
    void (*pushed)(struct sluice_subscription *s, struct sluice_pushed *p, void *user);
    void (*ended)(struct sluice_subscription *s, const struct sluice_read_end *end, void *user); /* the last callback. SLUICE_E_IN_USE: another began less than 5 s
                                                                                                    ago; SLUICE_E_SUPERSEDED: another took over */
    void *user;
};
/* Has a shard's records pushed by its leader, in order, none skipped, from `position` on; goes on at the new leader after a failure. 0, SLUICE_E_INVALID or _MEMORY. */
int sluice_subscription_open(struct sluice_client *c, const char *stream, uint32_t shard, const struct sluice_position *position,
                             const struct sluice_subscription_options *o, struct sluice_subscription **out);
void sluice_subscription_credit(struct sluice_subscription *s, uint64_t bytes);
/* Everything that the leader had when it spoke last was delivered. It is told in `started` and in each push. */
bool sluice_subscription_caught_up(const struct sluice_subscription *s);
/* No callback after it returned. Also allowed in the callbacks, and needed after `ended`. */
void sluice_subscription_close(struct sluice_subscription *s);

/* ---- reader ------------------------------------------------------------------------------------------------------------ */

/* Records of one batch, consecutive offsets, in order. */
struct sluice_records {
    uint32_t shard;
    uint64_t shard_created_s;
    uint64_t time_ms;       /* arrival time of all of them */
    uint64_t millis_behind; /* how far behind the shard's end the answer was */
    size_t n;
    const struct batch_record *v;
};
void sluice_record_sequence(const struct sluice_records *r, size_t i, char text[SEQNO_TEXT_MAX]);

struct sluice_reader_options {
    bool no_follow;         /* end at the shard's end as of the start */
    bool fresh;             /* every fetch is confirmed by a majority (read-index) */
    bool spread;            /* read from any replica rather than the leader */
    uint32_t max_bytes;     /* per fetch; 0: 1 MiB */
    uint32_t max_records;   /* per fetch; 0: no bound */
    uint32_t wait_ms;       /* long poll; 0: 5000 */
    uint64_t timeout_ms;    /* how long to try without success before the reader ends with an error; 0: for ever */
    void (*records)(struct sluice_reader *r, const struct sluice_records *batch, void *user);
    void (*ended)(struct sluice_reader *r, const struct sluice_read_end *end, void *user);     /* the last callback */
    /* Everything that the node had was delivered; told again after each time the reader fell behind. May be NULL. */
    void (*caught_up)(struct sluice_reader *r, uint64_t next_offset, void *user);
    void *user;
};
/* Reads one shard in order. Never skips: what cannot be read ends the reader with the reason (SLUICE_E_EXPIRED: the position was
 * trimmed; SLUICE_E_CORRUPT: offsets did not continue, or no replica had an undamaged copy). After failures it goes on at the same offset
 * at another replica. 0, SLUICE_E_INVALID or SLUICE_E_MEMORY. */
int sluice_reader_open(struct sluice_client *c, const char *stream, uint32_t shard, const struct sluice_position *position,
                       const struct sluice_reader_options *o, struct sluice_reader **out);
/* Paused: what is fetched already waits, nothing more is fetched. May be called from the callbacks: the rest of the batches of
 * the present answer wait, too. */
void sluice_reader_pause(struct sluice_reader *r, bool paused);
uint64_t sluice_reader_next_offset(const struct sluice_reader *r);
/* No callback after it returned. Also allowed in the callbacks, and needed after `ended`. */
void sluice_reader_close(struct sluice_reader *r);

/* ---- blocking layer ------------------------------------------------------------------------------------------------------
 *
 * One handle, one thread. Each function runs the handle's own loop until its answer is there. */

struct sluice;
/* endpoints as in sluice_client_options. 0 or SLUICE_E_...; does not wait for a connection. */
int sluice_connect(const char *endpoints, struct sluice **out);
void sluice_disconnect(struct sluice *s);
struct env *sluice_env(struct sluice *s);
struct sluice_client *sluice_handle(struct sluice *s);
/* What the last failed function had to say; "" if nothing. Valid until the next call. */
const char *sluice_message(const struct sluice *s);
int sluice_create(struct sluice *s, const char *stream, uint32_t shards);
/* Puts one record and waits until it is durable on a majority. sequence may be NULL, else room for the number. */
int sluice_put(struct sluice *s, const char *stream, const void *key, size_t key_len, const void *data, size_t data_len,
               char *sequence /* SEQNO_TEXT_MAX */);
/* Reads a shard from a position to its present end, calling `each` for every record (false: stop here). */
int sluice_get(struct sluice *s, const char *stream, uint32_t shard, const struct sluice_position *from,
               bool (*each)(const struct sluice_records *batch, size_t i, void *user), void *user);
/* Any control request. On success *reply is the caller's: protobuf_c_message_free_unpacked(*reply, NULL). */
int sluice_request(struct sluice *s, enum frame_kind kind, const ProtobufCMessage *message, const struct sluice_call_options *o,
                   ProtobufCMessage **reply);

#endif
