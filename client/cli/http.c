/* HTTP/1.1 over struct env (see http.h). An answer is told when it is whole and the request has left; if the connection ends with it, when the connection is closed. */
#include "client/cli/http.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proto/base.h"

bool http_url_parse(const char *text, size_t n, struct http_url *out)
{
    *out = (struct http_url){.tls = n > 8 && strncmp(text, "https://", 8) == 0};
    size_t scheme = out->tls ? 8 : 7;
    if (n <= scheme || (!out->tls && strncmp(text, "http://", 7) != 0)) {
        return false;
    }
    text += scheme;
    n -= scheme;
    n -= text[n - 1] == '/';
    if (n == 0 || n >= sizeof out->authority || memchr(text, '/', n) != NULL || memchr(text, '@', n) != NULL || memchr(text, '?', n) != NULL) {
        return false;
    }
    memcpy(out->authority, text, n);
    const char *end = text + n, *close = text[0] == '[' ? memchr(text, ']', n) : NULL, *from = close != NULL ? text + 1 : text;
    const char *colon = memchr(close != NULL ? close : text, ':', (size_t)(end - (close != NULL ? close : text)));
    const char *host_end = close != NULL ? close : colon != NULL ? colon : end;
    if (host_end == from || (size_t)(host_end - from) >= sizeof out->host || (close != NULL && close + 1 != (colon != NULL ? colon : end))) {
        return false;
    }
    memcpy(out->host, from, (size_t)(host_end - from));
    out->port = out->tls ? 443 : 80;
    if (colon != NULL) {
        unsigned port = 0;
        for (const char *p = colon + 1; p < end; p++) {
            if (*p < '0' || *p > '9' || (port = port * 10 + (unsigned)(*p - '0')) > 65535) {
                return false;
            }
        }
        if (port == 0) {
            return false;
        }
        out->port = (uint16_t)port;
    }
    return true;
}

void http_client_close(struct http_client *h, const char *why)
{
    if (!h->closing) {
        h->closing = true;
        snprintf(h->why, sizeof h->why, "%s", why);
        env_conn_close(&h->conn);
    }
}

/* ---- sending -------------------------------------------------------------------------------------------------------------------- */

/* What TLS has to send, one of them per turn of the handshake or request. */
struct sealed { struct env_write write; struct iovec iov; struct http_client *client; };

static void written(struct http_client *h);

static void sealed_written(struct env_write *w)
{
    struct sealed *s = container_of(w, struct sealed, write);
    struct http_client *h = s->client;
    free(s->iov.iov_base);
    free(s);
    written(h);
}

static void plain_written(struct env_write *w) { written(container_of(w, struct http_client, write)); }

static void flush_tls(struct http_client *h)
{
    if (tls_output_bytes(h->tls) == 0) {
        return;
    }
    struct sealed *s = xcalloc(1, sizeof *s);
    s->client = h;
    s->iov.iov_base = tls_output_take(h->tls, &s->iov.iov_len);
    s->write = (struct env_write){.iov = &s->iov, .n_iov = 1};
    h->writes++;
    env_conn_write(&h->conn, &s->write, sealed_written);
}

void http_client_send(struct http_client *h, const struct iovec *iov, unsigned n_iov)
{
    sluice_assert(h->ready && !h->asked);
    h->asked = true;
    if (h->closing) {
        return;
    }
    if (h->tls == NULL) {
        h->write = (struct env_write){.iov = iov, .n_iov = n_iov};
        h->writes++;
        env_conn_write(&h->conn, &h->write, plain_written);
        return;
    }
    for (unsigned i = 0; i < n_iov; i++) {
        if (tls_write(h->tls, iov[i].iov_base, iov[i].iov_len) != 0) {
            http_client_close(h, tls_error(h->tls));
            return;
        }
    }
    flush_tls(h);
}

/* ---- receiving ------------------------------------------------------------------------------------------------------------------ */

/* The value of a header in the head, or NULL. */
static const char *header(const struct http_client *h, const char *name)
{
    size_t n = strlen(name);
    for (const char *line = memmem(h->in, h->head_n, "\r\n", 2); line != NULL;) {
        line += 2;
        size_t left = (size_t)(h->in + h->head_n - line);
        if (left > n && strncasecmp(line, name, n) == 0 && line[n] == ':') {
            return line + n + 1 + strspn(line + n + 1, " \t");
        }
        line = memmem(line, left, "\r\n", 2);
    }
    return NULL;
}

/* The head has arrived: how long is the body? False: closed, as something is wrong. */
static bool head_read(struct http_client *h)
{
    char why[100] = "";
    h->status = 0;
    if (h->head_n >= 13 && memcmp(h->in, "HTTP/1.", 7) == 0 && h->in[8] == ' ') {
        h->status = (unsigned)strtoul(h->in + 9, NULL, 10); /* ends at the blank or the line's end at the latest */
    }
    if (h->status < 200 || h->status > 999) {
        http_client_close(h, "the server does not speak HTTP/1.1");
        return false;
    }
    const char *length = header(h, "Content-Length"), *connection = header(h, "Connection");
    h->last = h->in[7] != '1' || (connection != NULL && strncasecmp(connection, "close", 5) == 0);
    char *end = NULL;
    unsigned long n = length != NULL && length[0] >= '0' && length[0] <= '9' ? strtoul(length, &end, 10) : 0;
    if (end == NULL || *end != '\r') {
        snprintf(why, sizeof why, "an answer with status %u without a Content-Length", h->status);
    } else if (n > HTTP_BODY_MAX) {
        snprintf(why, sizeof why, "an answer of %lu bytes", n);
    }
    if (why[0] != '\0') {
        http_client_close(h, why);
        return false;
    }
    h->body_n = n;
    return true;
}

static bool whole(const struct http_client *h) { return h->head_n > 0 && h->in_n == h->head_n + h->body_n; }

static void tell(struct http_client *h)
{
    const struct http_answer a = {.status = h->status, .body = h->in + h->head_n, .n = h->body_n, .last = h->last};
    h->asked = false;
    h->in_n = h->head_n = 0; /* the bytes stay where they are during the call: nothing is read within it */
    h->ops->answer(h, &a);
}

static void tell_if_whole(struct http_client *h)
{
    if (!whole(h) || h->writes > 0 || h->closing) {
        return;
    }
    if (h->last) {
        http_client_close(h, "the server closed the connection");
    } else {
        tell(h);
    }
}

static void written(struct http_client *h)
{
    h->writes--;
    tell_if_whole(h);
}

/* Plain bytes of answers. */
static void take(struct http_client *h, const void *data, size_t n)
{
    if (!h->asked) {
        http_client_close(h, "an answer that was not asked for");
        return;
    }
    if (h->in_n + n + 1 > h->in_cap) {
        h->in_cap = max_u64(h->in_cap * 2, h->in_n + n + 1);
        h->in = xrealloc(h->in, h->in_cap);
    }
    memcpy(h->in + h->in_n, data, n);
    h->in_n += n;
    h->in[h->in_n] = '\0';
    if (h->head_n == 0) {
        const char *end = memmem(h->in, h->in_n, "\r\n\r\n", 4);
        if (end == NULL && h->in_n <= HTTP_HEAD_MAX) {
            return;
        }
        if (end == NULL) {
            http_client_close(h, "a head without an end");
            return;
        }
        h->head_n = (size_t)(end - h->in) + 4;
        if (!head_read(h)) {
            h->head_n = 0;
            return;
        }
    }
    if (h->in_n > h->head_n + h->body_n) {
        h->head_n = 0;
        http_client_close(h, "more than an answer");
        return;
    }
    tell_if_whole(h);
}

static void on_read(struct env_conn *conn, void *data, ssize_t n)
{
    struct http_client *h = conn->user;
    if (n <= 0) {
        h->last = true;
        http_client_close(h, n == 0 ? "the server closed the connection" : strerror((int)-n));
        return;
    }
    if (h->tls == NULL) {
        take(h, data, (size_t)n);
        return;
    }
    tls_give(h->tls, data, (size_t)n);
    char plain[16 << 10];
    ssize_t got = 0;
    while (!h->closing && (got = tls_read(h->tls, plain, sizeof plain)) > 0) {
        take(h, plain, (size_t)got);
    }
    if (h->closing) {
        return;
    }
    flush_tls(h);
    if (got < 0) {
        h->last = true;
        http_client_close(h, got == TLS_ENDED ? "the server closed the connection" : tls_error(h->tls));
    } else if (!h->ready && tls_ready(h->tls)) {
        h->ready = true;
        h->ops->ready(h);
    }
}

/* ---- opening and closing ---------------------------------------------------------------------------------------------------------- */

static void on_connected(struct env_conn *conn, int status)
{
    struct http_client *h = conn->user;
    if (status != 0) {
        http_client_close(h, strerror(-status));
        return;
    }
    env_conn_read(conn, true);
    if (h->tls_context == NULL) {
        h->ready = true;
        h->ops->ready(h);
        return;
    }
    h->tls = tls_open_to(h->tls_context, h->host);
    if (h->tls == NULL) {
        http_client_close(h, "TLS cannot be set up");
        return;
    }
    flush_tls(h);
}

static void on_closed(struct env_conn *conn)
{
    struct http_client *h = conn->user;
    tls_close(h->tls);
    h->tls = NULL;
    if (h->asked && whole(h)) {
        h->last = true;
        tell(h);
    }
    h->open = h->ready = false;
    h->ops->gone(h, h->why);
}

static const struct env_conn_ops conn_ops = {.connected = on_connected, .read = on_read, .closed = on_closed};

int http_client_open(struct http_client *h, struct env *env, const struct http_url *url, struct tls_context *tls)
{
    h->tls = NULL;
    h->tls_context = url->tls ? tls : NULL;
    snprintf(h->host, sizeof h->host, "%s", url->host);
    h->in_n = h->head_n = h->writes = 0;
    h->ready = h->asked = h->closing = h->last = false;
    h->why[0] = '\0';
    h->conn = (struct env_conn){.ops = &conn_ops, .user = h};
    int code = env_connect(env, &h->conn, url->host, url->port);
    h->open = code == 0;
    return code;
}

void http_client_deinit(struct http_client *h)
{
    free(h->in);
    h->in = NULL;
    h->in_cap = 0;
}
