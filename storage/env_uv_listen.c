/* Listeners: accepting by hand on a polled socket, so that a full table of descriptors cannot stop or spin it.
 *
 * At EMFILE the waiting connection would stay ready for ever and polling would turn in circles. A descriptor kept in reserve
 * is given up to accept the connection and close it: the client sees a clear end instead of silence. If even that fails
 * the listener rests for a moment.
 */
#include "storage/env_uv_impl.h"

#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define BACKLOG 1024
#define ACCEPTS_PER_TURN 64u
#define REST_MS 50u
#define LOG_EVERY_NS 10000000000u

struct listener {
    struct env_uv *e;
    struct env_listener *l; /* NULL: closed */
    uv_poll_t poll;
    struct env_timer rest;
    int fd;
    int waiting; /* accepted from the system, not yet taken by the owner; -1: none */
    int reserve;
};

static int reserve_open(void)
{
    return open("/dev/null", O_RDONLY | O_CLOEXEC);
}

static void connection_ready(uv_poll_t *poll, int status, int events);

static void rest_over(struct env_timer *t)
{
    struct listener *ls = container_of(t, struct listener, rest);
    uv_poll_start(&ls->poll, UV_READABLE, connection_ready);
}

static void rest(struct listener *ls)
{
    uv_poll_stop(&ls->poll);
    env_timer_start_ms(&ls->rest, REST_MS);
}

/* Out of descriptors: turns one connection away. */
static void turn_away(struct listener *ls)
{
    if (ls->e->accept_log_ns == 0 || ls->e->env.now_ns - ls->e->accept_log_ns > LOG_EVERY_NS) {
        ls->e->accept_log_ns = ls->e->env.now_ns;
        char line[128];
        int n = snprintf(line, sizeof line, "port %u: out of file descriptors, connections are turned away", ls->l->port);
        env_log_line(&ls->e->env, line, (size_t)n);
    }
    if (ls->reserve >= 0) {
        close(ls->reserve);
        ls->reserve = -1;
        int fd = accept4(ls->fd, NULL, NULL, SOCK_CLOEXEC);
        if (fd >= 0) {
            close(fd);
        }
    }
    ls->reserve = reserve_open();
    if (ls->reserve < 0) {
        rest(ls);
    }
}

/* Accepts until nothing waits, the owner leaves one waiting, or others should have their turn. */
static void accept_some(struct listener *ls)
{
    for (unsigned i = 0; i < ACCEPTS_PER_TURN; i++) {
        int fd = accept4(ls->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd < 0) {
            switch (errno) {
            case EAGAIN:
                return;
            case EMFILE:
            case ENFILE:
                turn_away(ls);
                return;
            case ENOBUFS:
            case ENOMEM:
                rest(ls);
                return;
            default: /* errors of the connection that was waiting: gone with it */
                continue;
            }
        }
        struct env_listener *l = ls->l;
        ls->waiting = fd;
        l->cb(l);
        if (ls->l == NULL) {
            return; /* closed by its owner */
        }
        if (ls->waiting >= 0) {
            uv_poll_stop(&ls->poll); /* until it is taken */
            return;
        }
    }
}

static void connection_ready(uv_poll_t *poll, int status, int events)
{
    (void)status;
    (void)events;
    struct listener *ls = container_of(poll, struct listener, poll);
    if (ls->l == NULL || ls->e->closing) {
        return;
    }
    env_uv_touch(ls->e, true);
    accept_some(ls);
}

int env_uv_accept(struct env_listener *l, struct env_conn *conn)
{
    struct listener *ls = l->impl;
    conn->impl = NULL;
    if (ls == NULL || ls->waiting < 0) {
        return -EAGAIN;
    }
    int fd = ls->waiting;
    ls->waiting = -1;
    if (!uv_is_active((uv_handle_t *)&ls->poll)) {
        uv_poll_start(&ls->poll, UV_READABLE, connection_ready);
    }
    return env_uv_conn_take(&ls->e->env, conn, fd);
}

/* ---- opening and closing -------------------------------------------------------------------------------------------- */

static int set_option(int fd, int option)
{
    int on = 1;
    return setsockopt(fd, SOL_SOCKET, option, &on, sizeof on) == 0 ? 0 : -errno;
}

static int open_socket(const struct addrinfo *addr, bool share_port, int *out)
{
    int fd = socket(addr->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0) {
        return -errno;
    }
    int rc = set_option(fd, SO_REUSEADDR);
    if (rc == 0 && share_port) {
        rc = set_option(fd, SO_REUSEPORT);
    }
    if (rc == 0 && (bind(fd, addr->ai_addr, addr->ai_addrlen) != 0 || listen(fd, BACKLOG) != 0)) {
        rc = -errno;
    }
    if (rc != 0) {
        close(fd);
        return rc;
    }
    *out = fd;
    return 0;
}

static int bound_port(int fd, uint16_t *port)
{
    struct sockaddr_storage addr = {0};
    socklen_t len = sizeof addr;
    if (getsockname(fd, (struct sockaddr *)&addr, &len) != 0) {
        return -errno;
    }
    *port = ntohs(addr.ss_family == AF_INET6 ? ((struct sockaddr_in6 *)&addr)->sin6_port : ((struct sockaddr_in *)&addr)->sin_port);
    return 0;
}

static int open_bound(struct env_uv *e, const char *host, uint16_t port, bool share_port, int *fd)
{
    char service[8];
    snprintf(service, sizeof service, "%u", port);
    struct addrinfo hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE | AI_NUMERICSERV};
    struct addrinfo *res = NULL;
    int rc = getaddrinfo(host, service, &hints, &res);
    if (rc != 0) {
        return rc == EAI_MEMORY ? -ENOMEM : rc == EAI_AGAIN ? -EAGAIN : -EADDRNOTAVAIL;
    }
    rc = 0;
    if (share_port && port != 0 && e->first && e->n_lanes == 0) {
        /* Sharing is among the loops of this process. The kernel would let a second process of the same user in as well and
         * give it every other connection: the first loop makes sure that nobody listens there. */
        rc = open_socket(res, false, fd);
        if (rc == 0) {
            close(*fd);
        }
    }
    if (rc == 0) {
        rc = open_socket(res, share_port, fd);
    }
    freeaddrinfo(res);
    return rc;
}

static void close_fds(struct listener *ls)
{
    close(ls->fd);
    if (ls->waiting >= 0) {
        close(ls->waiting);
    }
    if (ls->reserve >= 0) {
        close(ls->reserve);
    }
}

int env_uv_listen(struct env *env, struct env_listener *l, const char *host, uint16_t port, bool share_port)
{
    struct env_uv *e = env_uv_of(env);
    struct listener *ls = calloc(1, sizeof *ls);
    if (ls == NULL) {
        return -ENOMEM;
    }
    ls->e = e;
    ls->waiting = -1;
    int rc = open_bound(e, host, port, share_port, &ls->fd);
    if (rc != 0) {
        free(ls);
        return rc;
    }
    ls->reserve = reserve_open();
    rc = bound_port(ls->fd, &l->port);
    if (rc == 0) {
        rc = env_timer_init(env, &ls->rest, rest_over);
    }
    if (rc == 0) {
        rc = uv_poll_init(&e->loop, &ls->poll, ls->fd);
        if (rc != 0) {
            env_timer_close(&ls->rest);
        }
    }
    if (rc != 0) {
        close_fds(ls);
        free(ls);
        return rc;
    }
    ls->poll.data = ls;
    ls->l = l;
    l->impl = ls;
    uv_poll_start(&ls->poll, UV_READABLE, connection_ready);
    return 0;
}

static void listener_freed(uv_handle_t *handle)
{
    free(container_of((uv_poll_t *)handle, struct listener, poll));
}

static void listener_end(struct listener *ls)
{
    ls->l = NULL;
    env_timer_close(&ls->rest);
    uv_close((uv_handle_t *)&ls->poll, listener_freed); /* stops polling at once: the port is free when this returns */
    close_fds(ls);
}

void env_uv_listener_close(struct env_listener *l)
{
    listener_end(l->impl);
}

void env_uv_listener_abandon(uv_handle_t *handle)
{
    listener_end(container_of((uv_poll_t *)handle, struct listener, poll));
}
