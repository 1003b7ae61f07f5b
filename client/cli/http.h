/* http.h: a connection of the command's to a server that speaks HTTP/1.1, plain or through TLS: one request at a time.
 *
 * Libcurl would do it too, but opens sockets of its own beside struct env, and neither copies nor parses less. What is not needed is not here: redirects, chunked
 * answers, proxies; an answer must say its Content-Length. */
#ifndef SLUICE_CLI_HTTP_H
#define SLUICE_CLI_HTTP_H

#include "storage/env.h"
#include "storage/env_tls.h"

enum { HTTP_HEAD_MAX = 64 << 10, HTTP_BODY_MAX = 64 << 20 };

struct http_url {
    char host[256];      /* without the brackets of an IPv6 address */
    char authority[300]; /* for the header Host: as it stands in the URL */
    uint16_t port;
    bool tls;
};
/* http://host[:port][/] or https://...; n bytes. False: it is none, or has a path or user. */
bool http_url_parse(const char *text, size_t n, struct http_url *out);

struct http_answer {
    unsigned status;
    const char *body; /* valid during the call */
    size_t n;
    bool last;        /* the connection is closed with it: `gone` follows, nothing may be sent */
};

struct http_client;
/* Never called inside http_client_open(), _send() and _close(). */
struct http_client_ops {
    void (*ready)(struct http_client *h);
    void (*answer)(struct http_client *h, const struct http_answer *a);
    /* The connection is closed, by whomever; the memory may go, or be opened again. What was sent and not answered stays so: its outcome is not known. */
    void (*gone)(struct http_client *h, const char *why);
};

struct http_client {
    const struct http_client_ops *ops;
    void *user;
    /* Its own from here on. */
    struct env_conn conn;
    struct tls *tls;
    struct tls_context *tls_context;
    char host[256];
    struct env_write write;
    char *in;
    size_t in_n, in_cap, head_n, body_n; /* head_n 0: the head is not whole yet */
    unsigned status;
    size_t writes; /* under way */
    bool open, ready, asked, closing, last; /* open: `gone` is still to come */
    char why[256];
};

/* Begins to connect; ops and user are set by the caller, the rest is zero or has been used before. tls: for https, kept by the caller. 0 (ready or gone follows) or -errno. */
int http_client_open(struct http_client *h, struct env *env, const struct http_url *url, struct tls_context *tls);
/* Sends a request; after `ready` or the last answer. The pieces stay valid and unchanged until the answer, or until `gone`. */
void http_client_send(struct http_client *h, const struct iovec *iov, unsigned n_iov);
/* `gone` follows, with this reason. Nothing if it is being closed already. */
void http_client_close(struct http_client *h, const char *why);
/* Frees what a client that is gone still holds for the next time. */
void http_client_deinit(struct http_client *h);

#endif
