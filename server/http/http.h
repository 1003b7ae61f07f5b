/* http.h: an HTTP server on one event loop: HTTP/1.1 and HTTP/2, plain and TLS, all on one port. It knows nothing of what is served.
 *
 * A request comes whole (head and body) to callbacks.request and is then the owner's until exactly one of these ends it:
 *   http_answer()         the answer at once; what remains to be sent is the server's affair
 *   http_stream_end()     after http_stream_begin(): a streaming answer is complete
 *   http_stream_reset()   without or in the middle of an answer: the stream (HTTP/2) or the connection (HTTP/1) is broken off
 *   callbacks.gone        the peer cancelled or went away, or the server closed the connection (time limits, http_server_close())
 * Then the handle and everything it shows (header, body, ...) are invalid. An answer may come inside the callback or in any later turn. Requests of one
 * HTTP/2 connection may be answered in any order; an HTTP/1 connection hands out one request at a time, so pipelined ones are answered in order.
 *
 * Order rule: no callback (gone, writable, release) runs inside an http_* call; `release` runs exactly once for every body that was taken.
 * All functions are called on the loop's own thread. Several loops may serve one port (share_port), each with a server of its own. */
#ifndef SLUICE_HTTP_H
#define SLUICE_HTTP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#include "storage/env.h"

struct http_server;
struct tls_context; /* storage/env_tls.h */

/* Bytes that are somebody else's; not NUL-terminated. */
struct http_view { const char *p; size_t n; };
struct http_header { struct http_view name, value; };

enum http_version { HTTP_1_0, HTTP_1_1, HTTP_2 };

/* What a request shows. The fields are the server's, but for `user`. */
struct http_request {
    struct http_view method;    /* "POST" */
    struct http_view target;    /* as it was sent, without scheme and authority: path and query */
    struct http_view path;      /* "/a/b", not decoded; never empty ("*" for OPTIONS) */
    struct http_view query;     /* what follows the first '?', not decoded; may be empty */
    const struct http_header *headers; /* names as they were sent (HTTP/2: lower case). HTTP/2's :authority stands here as "host", first. */
    unsigned n_headers;
    const uint8_t *body;        /* contiguous; NULL if there is none */
    size_t body_len;
    const char *peer;           /* "host:port" */
    bool tls;
    enum http_version version;
    struct http_server *server;
    void *user;                 /* the owner's; NULL at first */
};

struct http_callbacks {
    void (*request)(void *arg, struct http_request *r);
    void (*gone)(struct http_request *r);     /* see above; the handle is invalid when it returns. It may end other requests */
    void (*writable)(struct http_request *r); /* a streaming answer that had more than stream_high_bytes queued has at most half of that now; may be NULL */
};

/* Limits. Zero in http_options means the default. Bytes, milliseconds, counts. */
#define HTTP_LIMITS(X) \
    X(connections_max, 1024)            /* more are closed at once */ \
    X(memory_max, 256u << 20)           /* request bodies, unsent answers: more requests get 503 with Retry-After */ \
    X(body_max, 16u << 20)              /* a request's body: 413 */ \
    X(head_max, 64u << 10)              /* request line and headers: 431 */ \
    X(headers_max, 100)                 /* number of header lines: 431 */ \
    X(streams_max, 128)                 /* concurrent requests of an HTTP/2 connection */ \
    X(head_ms, 10000)                   /* from the connection's start or a request's first byte to the end of its head (408) */ \
    X(idle_ms, 120000)                  /* a connection without a request */ \
    X(body_ms, 10000)                   /* for each of these periods a body must bring body_min_bytes, or what is left of it (408) */ \
    X(body_min_bytes, 16u << 10) \
    X(answer_ms, 30000)                 /* for each of these periods a peer must take answer_min_bytes of an answer, or what is queued: else reset */ \
    X(answer_min_bytes, 16u << 10) \
    X(tight_ms, 2000)                   /* body_ms and answer_ms are at most this while more than half of memory_max is in use: who neither sends nor reads must not keep others out */ \
    X(stream_stall_ms, 330000)          /* the same for streaming answers, whose readers may rest while back-pressure is told */ \
    X(stream_high_bytes, 256u << 10)    /* see callbacks.writable */ \
    X(stream_max_bytes, 16u << 20)      /* queued of one streaming answer: http_stream_write() refuses more */ \
    X(linger_ms, 2000)                  /* after a refusal: how long further bytes of the peer's are thrown away, so that it can read the answer */ \
    X(control_burst, 1000)              /* HTTP/2 frames that carry nothing (PING, SETTINGS, PRIORITY, RST_STREAM, empty DATA): burst and per second */ \
    X(control_rate, 50)

struct http_limits {
#define X(name, value) uint64_t name;
    HTTP_LIMITS(X)
#undef X
};

struct http_options {
    struct env *env;
    const char *host;
    uint16_t port;            /* 0: a free one (http_server_port) */
    bool share_port;          /* several loops of this process serve the port */
    struct tls_context *tls;  /* NULL: plain only. Else a connection whose first byte is 0x16 is TLS. The server takes a reference */
    bool tls_only;            /* plain connections are closed */
    struct http_limits limits;
    struct http_callbacks callbacks;
    void *arg;
    const char *server_name;  /* the Server header; NULL: none. Stays valid */
};

/* Returns 0 or -errno of env_listen(). */
int http_server_open(struct http_server **out, const struct http_options *o);
uint16_t http_server_port(const struct http_server *s);
/* New connections use this context (a renewed certificate); those that are open keep theirs. NULL: no TLS any more. */
void http_server_set_tls(struct http_server *s, struct tls_context *tls);
/* Orderly stop: listens no more, closes idle connections, tells the others (GOAWAY, Connection: close), waits up to grace_ms for requests to be answered and
 * answers to be taken, then closes what is left (gone). done runs once, on a later turn; the server's memory is gone then. */
void http_server_close(struct http_server *s, uint64_t grace_ms, void (*done)(void *arg), void *arg);

/* X(field, type, help): what a server counts. */
#define HTTP_COUNTERS(X) \
    X(connections, "gauge", "Open connections.") \
    X(connections_total, "counter", "Connections accepted.") \
    X(connections_refused_total, "counter", "Connections closed at once because there were too many.") \
    X(tls_failures_total, "counter", "TLS handshakes or records that failed.") \
    X(requests, "gauge", "Requests handed out and not yet answered.") \
    X(requests_total, "counter", "Requests handed out.") \
    X(requests_h2_total, "counter", "Of these over HTTP/2.") \
    X(refused_bad_total, "counter", "Malformed requests and protocol errors.") \
    X(refused_large_total, "counter", "Requests whose head or body was too large.") \
    X(refused_memory_total, "counter", "Requests refused because the memory budget was used up.") \
    X(slow_total, "counter", "Connections or streams ended because the peer sent or read too slowly.") \
    X(floods_total, "counter", "HTTP/2 connections ended for floods of control frames or resets.") \
    X(gone_total, "counter", "Requests whose peer went away before they were answered.") \
    X(received_bytes_total, "counter", "Bytes received (with TLS: of ciphertext).") \
    X(sent_bytes_total, "counter", "Bytes handed to sockets (with TLS: of ciphertext).") \
    X(memory_bytes, "gauge", "Bytes of the memory budget in use.")

struct http_counters {
#define X(name, type, help) uint64_t name;
    HTTP_COUNTERS(X)
#undef X
};
const struct http_counters *http_server_counters(const struct http_server *s);

/* ---- requests ---- */

/* The value of the first header of that name (any case), or NULL. */
const struct http_view *http_header(const struct http_request *r, const char *name);
/* Equal to a C string, case counting or not. */
bool http_view_is(struct http_view v, const char *s);
bool http_view_is_nocase(struct http_view v, const char *s);
static inline struct http_view http_view_of(const char *s) { return (struct http_view){s, __builtin_strlen(s)}; }
/* Gives the memory of body and headers back before the request has ended (for long streaming answers): method ... body are empty afterwards. */
void http_request_drop(struct http_request *r);

/* Bytes to send: not copied, so they stay valid and unchanged until release(arg), which also tells that they were dropped because the peer is gone. The iovecs
 * themselves are copied. release may be NULL for bytes that live for ever. */
struct http_bytes {
    const struct iovec *iov;
    unsigned n_iov;
    void (*release)(void *arg);
    void *arg;
};

enum { HTTP_ANSWER_HEADERS_MAX = 32, HTTP_ANSWER_HEAD_MAX = 8192 };
/* Headers of an answer are copied; at most HTTP_ANSWER_HEADERS_MAX and HTTP_ANSWER_HEAD_MAX bytes, without CR, LF or NUL (asserted: they come from our own code, which
 * does not pass on what a client wrote without looking at it). Content-Length, Transfer-Encoding, Connection, Date and Server are the server's own. */
struct http_answer_head {
    int status;
    const struct http_header *headers;
    unsigned n_headers;
};

/* The whole answer. Ends the request. To HEAD only the head is sent, with the body's length. */
void http_answer(struct http_request *r, const struct http_answer_head *head, const struct http_bytes *body);
/* The same with a body of one C string or none, which is copied. */
void http_answer_text(struct http_request *r, int status, const char *content_type, const char *text);

/* A streaming answer: each write becomes a chunk (HTTP/1.1) or DATA frames (HTTP/2) of its own, never merged with another. */
void http_stream_begin(struct http_request *r, const struct http_answer_head *head);
/* Takes the bytes (0, also of length 0: nothing is sent), or refuses them because stream_max_bytes would be exceeded (-ENOBUFS; they stay the caller's). */
int http_stream_write(struct http_request *r, const struct http_bytes *bytes);
/* Bytes written and not yet taken by the peer's side of the system. */
size_t http_stream_queued(const struct http_request *r);
void http_stream_end(struct http_request *r);
void http_stream_reset(struct http_request *r);

#endif
