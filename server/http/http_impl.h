/* http_impl.h: what the files of this folder share. Callers include http.h.
 *
 * server.c    listener, connections' list, the end of a turn, time limits, stop
 * conn.c      a connection: plain or TLS bytes, which protocol they are, its end
 * out.c       what is to be sent: bodies by reference, batches, one write at a time
 * request.c   requests: memory, header look-up, and the calls of owners
 * h1.c        HTTP/1: a request at a time, answers;  h1_parse.c  pure: heads and chunks
 * h2.c        HTTP/2 through libnghttp2: session and streams;  h2_out.c  answers
 *
 * Who calls whom: conn.c feeds a protocol (struct protocol) with plain bytes; the protocol makes requests and hands them out; owners call request.c, which
 * calls the protocol's answer functions; these queue output (out.c) and mark the connection dirty; the end of the turn flushes dirty connections. So no call
 * of an owner ever reads, writes or calls back. */
#ifndef SLUICE_HTTP_IMPL_H
#define SLUICE_HTTP_IMPL_H

#include "server/http/http.h"
#include "server/http/h1_parse.h"

struct conn;
struct request;
struct tls;

/* ---- output (out.c) ---- */

/* Bytes of an owner's, queued. The server's memory budget is charged with them until they are released. */
struct out_body {
    struct http_server *server;
    struct request *req;     /* a reference; queued bytes are counted there */
    struct out_body *next;   /* a stream's queue (HTTP/2), then the server's list of what is to be released */
    unsigned refs;
    void (*release)(void *arg);
    void *arg;
    size_t total, left;      /* left, at, at_pos: what is not yet in a batch (HTTP/2) */
    unsigned at, n_iov;
    size_t at_pos;
    struct iovec iov[];
};

struct out_block { struct out_block *next; size_t used, cap; char data[]; };

/* Bytes gathered for one write. */
struct out_batch {
    struct iovec *iov;
    unsigned n_iov, cap_iov;
    struct out_block *blocks; /* copied bytes; newest first */
    struct out_body **bodies; /* a reference each */
    unsigned n_bodies, cap_bodies;
    size_t bytes;
};

struct out_body *out_body_new(struct request *r, const struct http_bytes *b);
void out_body_unref(struct out_body *b);
/* Copies bytes to the end of what is gathered. */
void out_copy(struct conn *c, const void *p, size_t n);
/* Appends n bytes of the body from its place (at, at_pos) on and moves that place. */
void out_refer(struct conn *c, struct out_body *b, size_t n);
/* Room for n bytes that the caller fills, in one piece; out_commit() says how many were used. */
char *out_reserve(struct conn *c, size_t n);
void out_commit(struct conn *c, size_t n);
void out_batch_deinit(struct http_server *s, struct out_batch *b);
void out_batch_clear(struct http_server *s, struct out_batch *b);
void out_release_all(struct http_server *s); /* runs the release functions that are due */

/* ---- requests (request.c) ---- */

enum request_state {
    REQUEST_READING,   /* the server's: head or body not complete */
    REQUEST_HANDED,    /* the owner's */
    REQUEST_STREAMING, /* the owner's, http_stream_begin() was called */
    REQUEST_ENDED      /* nobody's: its answer is queued or thrown away */
};

struct request {
    struct http_request pub;
    struct conn *conn;            /* NULL: detached (the connection or stream is gone) */
    struct request *next, **prev; /* the connection's list, while attached */
    unsigned refs;                /* the connection or stream, the owner's handle, each out_body */
    enum request_state state;
    bool head_only;               /* HEAD */
    bool body_open;               /* more of the body is to come */
    bool refused;                 /* answered by the server before the body came: what comes is thrown away */
    bool above;                   /* `writable` is due */

    char *block;                  /* head bytes; headers point into it */
    size_t block_len, block_cap;
    struct http_header *headers;
    unsigned n_headers, cap_headers;
    uint8_t *body;
    size_t body_len, body_cap;
    uint64_t body_expected;       /* UINT64_MAX: not known */
    size_t charged;               /* to the memory budget */
    size_t queued;                /* bytes of out_bodies not yet released */
    uint64_t window_ms;           /* start of the present period of body_ms, answer_ms or stream_stall_ms */
    uint64_t window_bytes;        /* body or answer bytes at its start */
    uint64_t taken;               /* answer bytes that left the stream's queue */

    /* HTTP/2 */
    int32_t stream_id;            /* 0: HTTP/1 or closed */
    struct out_body *queue, **queue_end; /* not yet in DATA frames */
    bool ending;                  /* end of the answer follows the queue */
    bool deferred;                /* nghttp2 waits for nghttp2_session_resume_data() */
    bool has_host;                /* a header "host" is there; :authority is one */
    int bad;                      /* status that the header block deserves, or 0 */
    size_t head_bytes;            /* of the header block, counted against head_max */
    uint64_t head_since_ms;
    bool expects;                 /* 100-continue */
};

struct request *request_new(struct conn *c);
void request_unref(struct request *r);
void request_detach(struct request *r); /* from its connection: not in the list any more */
/* Room for `n` body bytes in all, charged; false: memory budget (or the system's memory) is exhausted. */
bool request_body_room(struct request *r, size_t n);
/* May the connection take a request whose body has that many bytes (UINT64_MAX: unknown)? */
bool request_admitted(struct conn *c, uint64_t body_bytes);
bool request_split_target(struct request *r, struct http_view target);
void request_hand_out(struct request *r);
/* The peer is gone: tells the owner if there is one. Drops the caller's reference as well. */
void request_gone(struct request *r);
/* Is the sender of the body, or the reader of the answer, too slow? Moves the window on. */
bool request_body_slow(struct request *r, uint64_t now_ms);

/* ---- connections (conn.c) ---- */

/* What the two versions do. `input` takes all n bytes (keeps what it cannot use yet) and returns false if the connection is to be closed at once. */
struct protocol {
    bool (*input)(struct conn *c, const uint8_t *p, size_t n);
    void (*eof)(struct conn *c);
    void (*fill)(struct conn *c);  /* end of turn, nothing is flying: add output, go on with what waited */
    void (*tick)(struct conn *c, uint64_t now_ms);
    void (*stop)(struct conn *c);  /* orderly: no new requests */
    void (*answer)(struct request *r, const struct http_answer_head *head, struct out_body *body); /* takes over the reference; body may be NULL */
    void (*stream_begin)(struct request *r, const struct http_answer_head *head);
    void (*stream_write)(struct request *r, struct out_body *body); /* takes over the reference */
    void (*stream_end)(struct request *r);
    void (*stream_reset)(struct request *r);
};
extern const struct protocol h1_protocol, h2_protocol;

enum conn_state {
    CONN_FIRST_BYTE, /* plain or TLS? */
    CONN_HANDSHAKE,  /* of TLS */
    CONN_PREFACE,    /* which version? */
    CONN_OPEN,
    CONN_LINGER,     /* everything is written; the peer's bytes are thrown away for a while */
    CONN_CLOSING     /* env_conn_close() was called */
};

struct h1 {
    enum { H1_HEAD, H1_BODY, H1_CHUNKED, H1_BUSY, H1_LAST } state; /* LAST: no further request, closes when written */
    struct request *req;      /* being read or answered */
    struct h1_chunks chunks;
    size_t scanned;           /* of conn.in: no end of a head before here */
    bool keep_alive, chunked_answer;
    bool blank;               /* an empty line before the request line was passed over */
};

struct nghttp2_session;
struct h2 {
    struct nghttp2_session *session;
    struct request *block;    /* whose header block is being received */
    uint64_t tokens_ms;       /* token bucket of control frames */
    uint64_t tokens;
    bool flooded, receiving;
    unsigned streams;         /* open */
    uint64_t last_ms;         /* when the last stream closed */
};

struct conn {
    struct env_conn io;
    struct http_server *server;
    struct conn *next, **prev;
    struct conn *dirty_next;
    bool in_dirty_list;
    enum conn_state state;
    const struct protocol *protocol; /* NULL until it is known */
    struct tls *tls;
    bool handshaken;
    bool close_after;         /* when all is written */
    bool close_linger;        /* and then linger */
    bool abort;               /* at the end of this turn */
    bool eof;                 /* the peer sends no more */
    bool tls_ended;           /* the farewell is said */
    bool reading;
    bool stall_watched;       /* taken_ms and taken hold */
    uint64_t since_ms;        /* start of the present wait: connection, request's first byte, idle, linger */
    bool first_byte;          /* of a request: since_ms counts for head_ms, not idle_ms */
    char peer[56];

    uint8_t *in;              /* plain bytes kept for later */
    size_t in_len, in_cap;
    struct request *requests;
    unsigned n_requests;
    size_t memory;            /* of the budget, this connection's part */

    struct out_batch building, flying;
    bool in_flight;
    struct env_write write;
    struct iovec tls_iov;
    unsigned tls_at;          /* of flying.iov: what is encrypted already */
    uint64_t sent;            /* bytes handed to the socket, ever */
    uint64_t taken_ms, taken; /* when and how much the peer had taken at the start of the present period */

    union { struct h1 h1; struct h2 h2; };
};

void conn_accept(struct http_server *s);
void conn_dirty(struct conn *c);
void conn_flush(struct conn *c);   /* end of the turn */
void conn_tick(struct conn *c, uint64_t now_ms);
/* How long a peer is waited for: period_ms, or less while memory is tight. */
uint64_t server_patience_ms(const struct http_server *s, uint64_t period_ms);
void conn_stop(struct conn *c);
/* Ends it now: unsent bytes are dropped, its requests are gone. */
void conn_close(struct conn *c);
/* Keeps plain bytes for later; false: the memory budget is used up. */
bool conn_keep(struct conn *c, const uint8_t *p, size_t n);
void conn_drop_kept(struct conn *c);
void conn_read(struct conn *c, bool on);

/* ---- the server (server.c) ---- */

struct http_server {
    struct http_options o;
    struct env *env;
    struct http_limits limits;
    struct http_counters counters;
    struct tls_context *tls;
    struct env_listener listener;
    struct env_timer timer;
    bool timer_on;
    struct env_task task;       /* the end of the turn */
    struct conn *connections;
    struct conn *dirty;
    struct out_body *released, **released_end;
    struct out_block *blocks;   /* spare ones */
    unsigned n_blocks;
    uint64_t date_s;
    char date[32];              /* of date_s: "Sun, 06 Nov 1994 08:49:37 GMT" */
    bool closing, stop_asked;
    uint64_t stop_at_ms;
    void (*done)(void *arg);
    void *done_arg;
    struct nghttp2_session_callbacks *h2_callbacks;
    struct nghttp2_option *h2_options;
    uint8_t scratch[64 * 1024]; /* what sockets are read into, and where TLS is decrypted to: never across turns */
    uint8_t clear[32 * 1024];
};

void server_defer(struct http_server *s);
void server_charge(struct conn *c, size_t n);
void server_uncharge(struct http_server *s, struct conn *c, size_t n);
void http_date(uint64_t unix_s, char out[32]); /* "Sun, 06 Nov 1994 08:49:37 GMT" */
const char *server_date(struct http_server *s);
const char *http_status_text(int status);
bool h2_init(struct http_server *s);
void h2_deinit(struct http_server *s);
void h1_start(struct conn *c);
size_t h1_body_buffer(struct conn *c, void **base); /* where the rest of a body of known length may land; 0: nowhere */
bool h2_start(struct conn *c);
bool h2_done(struct conn *c);      /* nothing more is to come from either side */
void h2_end(struct conn *c);       /* frees what h2_start() made */

#endif
