/* Sockets of env_uv: echo, back-pressure, half-close, refusal, closing with writes pending. */
#include "env_uv_fixture.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>

/* ---- an echo server with back-pressure and a client that checks what comes back -------------------------------------- */

enum { TOTAL = 24 << 20, CHUNK = 100000, ECHO_HIGH = 1 << 20 };

struct echo_write {
    struct env_write w;
    struct iovec iov;
    struct echo *echo;
    char data[];
};

struct echo {
    struct env *env;
    struct env_listener listener;
    struct env_conn server, client;
    bool in_call; /* inside env_conn_write(): no callback may run */
    bool ended;

    /* server */
    unsigned pauses, drained;
    size_t most_unsent;

    /* client */
    size_t sent, acked, received;
    bool reading;
    unsigned done_order, submit_order;
    unsigned closed;
    char *payload; /* the client's stream repeats it */
};

static void count_closed(struct env_conn *c)
{
    struct echo *e = c->user;
    if (++e->closed == 2) {
        env_stop(e->env);
    }
}

static void echo_written(struct env_write *w)
{
    struct echo_write *ew = container_of(w, struct echo_write, w);
    assert_false(ew->echo->in_call);
    free(ew);
}

static void server_read(struct env_conn *c, void *data, ssize_t n)
{
    struct echo *e = c->user;
    if (n <= 0) {
        env_conn_close(c);
        return;
    }
    struct echo_write *ew = malloc(sizeof *ew + (size_t)n);
    memcpy(ew->data, data, (size_t)n);
    ew->iov = (struct iovec){.iov_base = ew->data, .iov_len = (size_t)n};
    ew->echo = e;
    ew->w = (struct env_write){.iov = &ew->iov, .n_iov = 1};
    e->in_call = true;
    env_conn_write(c, &ew->w, echo_written);
    e->in_call = false;
    size_t unsent = env_conn_unsent(c);
    e->most_unsent = max_u64(e->most_unsent, unsent);
    if (unsent > ECHO_HIGH) {
        e->pauses++;
        env_conn_read(c, false);
    }
}

static void server_drained(struct env_conn *c)
{
    struct echo *e = c->user;
    assert_int_equal(env_conn_unsent(c), 0);
    e->drained++;
    env_conn_read(c, true);
}

static const struct env_conn_ops server_ops = {.read = server_read, .drained = server_drained, .closed = count_closed};

static void echo_accept(struct env_listener *l)
{
    struct echo *e = container_of(l, struct echo, listener);
    e->server.ops = &server_ops;
    e->server.user = e;
    assert_int_equal(env_accept(l, &e->server), 0);
    char peer[64];
    env_conn_peer(&e->server, peer, sizeof peer);
    assert_non_null(strstr(peer, "127.0.0.1:"));
    env_conn_read(&e->server, true);
}

struct client_write {
    struct env_write w;
    struct iovec iov[3];
    struct echo *echo;
    unsigned number;
    size_t bytes;
};

static void client_send(struct echo *e);

static void client_written(struct env_write *w)
{
    struct client_write *cw = container_of(w, struct client_write, w);
    struct echo *e = cw->echo;
    assert_false(e->in_call);
    assert_int_equal(w->status, 0);
    assert_int_equal(cw->number, e->done_order);
    e->done_order++;
    e->acked += cw->bytes;
    free(cw);
    client_send(e);
}

/* One chunk in three buffers, one of them empty. */
static void client_send(struct echo *e)
{
    if (e->sent == TOTAL) {
        return;
    }
    struct client_write *cw = calloc(1, sizeof *cw);
    cw->bytes = min_u64(CHUNK, TOTAL - e->sent);
    cw->echo = e;
    cw->number = e->submit_order++;
    char *p = e->payload + e->sent % CHUNK;
    size_t first = cw->bytes / 3;
    cw->iov[0] = (struct iovec){.iov_base = p, .iov_len = first};
    cw->iov[1] = (struct iovec){.iov_base = p, .iov_len = 0};
    cw->iov[2] = (struct iovec){.iov_base = p + first, .iov_len = cw->bytes - first};
    cw->w = (struct env_write){.iov = cw->iov, .n_iov = 3};
    e->sent += cw->bytes;
    e->in_call = true;
    env_conn_write(&e->client, &cw->w, client_written);
    e->in_call = false;
}

static void client_connected(struct env_conn *c, int status)
{
    struct echo *e = c->user;
    assert_int_equal(status, 0);
    for (unsigned i = 0; i < 8; i++) {
        client_send(e);
    }
}

static char client_room[33333];

static size_t client_buffer(struct env_conn *c, void **base)
{
    (void)c;
    *base = client_room;
    return sizeof client_room;
}

static void client_read(struct env_conn *c, void *data, ssize_t n)
{
    struct echo *e = c->user;
    assert_true(n > 0);
    assert_ptr_equal(data, client_room);
    for (ssize_t i = 0; i < n; i++) {
        if (client_room[i] != e->payload[(e->received + (size_t)i) % CHUNK]) {
            fail_msg("byte %zu differs", e->received + (size_t)i);
        }
    }
    e->received += (size_t)n;
    if (e->received == TOTAL) {
        assert_int_equal(e->acked, TOTAL);
        env_conn_close(c);
        env_conn_close(c); /* idempotent */
    }
}

static const struct env_conn_ops client_ops = {
    .connected = client_connected, .buffer = client_buffer, .read = client_read, .closed = count_closed};

static void start_reading(struct env_timer *t)
{
    struct echo **e = (struct echo **)(void *)(t + 1);
    env_conn_read(&(*e)->client, true);
}

/* 24 MB to and fro; the client starts to read late, so that everything in between fills up and the server has to pause. */
static void test_echo_with_back_pressure(void **state)
{
    (void)state;
    struct env *env = open_loop();
    struct echo e = {.env = env, .payload = malloc(2 * CHUNK)};
    for (unsigned i = 0; i < 2 * CHUNK; i++) {
        e.payload[i] = (char)((i % CHUNK) * 7 + (i % CHUNK) / 251);
    }
    assert_int_equal(env_listen(env, &e.listener, "127.0.0.1", 0, false, echo_accept), 0);
    assert_true(e.listener.port > 0);
    e.client.ops = &client_ops;
    e.client.user = &e;
    assert_int_equal(env_connect(env, &e.client, "127.0.0.1", e.listener.port), 0);
    struct {
        struct env_timer t;
        struct echo *e;
    } late = {.e = &e};
    assert_int_equal(env_timer_init(env, &late.t, start_reading), 0);
    env_timer_start_ms(&late.t, 100);
    run_loop(env);
    assert_int_equal(e.received, TOTAL);
    assert_true(e.pauses > 0);
    assert_true(e.drained >= e.pauses);
    assert_true(e.most_unsent < ECHO_HIGH + (256 << 10) + 1);
    env_timer_close(&late.t);
    env_listener_close(&e.listener);
    env_uv_close(env);
    free(e.payload);
}

/* ---- a plain peer: what the loop's side sees of its ends ---------------------------------------------------------------- */

struct plain {
    struct env *env;
    struct env_listener listener;
    struct env_conn conn;
    struct env_timer timer;
    struct env_write writes[8];
    unsigned n_writes;
    int statuses[8];
    unsigned n_done;
    char received[256];
    size_t n_received;
    int connected; /* 1 until told */
    ssize_t ended; /* 1 until told */
    unsigned n_closed;
    unsigned done_when_closed;
    bool stop_at_end;
};

static void plain_read(struct env_conn *c, void *data, ssize_t n)
{
    struct plain *p = c->user;
    assert_int_equal(p->ended, 1); /* nothing after the end */
    if (n > 0) {
        assert_true(p->n_received + (size_t)n <= sizeof p->received);
        memcpy(p->received + p->n_received, data, (size_t)n);
        p->n_received += (size_t)n;
        return;
    }
    p->ended = n;
    if (p->stop_at_end) {
        env_stop(p->env);
    }
}

static void plain_connected(struct env_conn *c, int status)
{
    struct plain *p = c->user;
    p->connected = status;
    env_stop(p->env);
}

static void plain_closed(struct env_conn *c)
{
    struct plain *p = c->user;
    p->n_closed++;
    p->done_when_closed = p->n_done;
    env_stop(p->env);
}

static const struct env_conn_ops plain_ops = {.connected = plain_connected, .read = plain_read, .closed = plain_closed};

static void plain_accept(struct env_listener *l)
{
    struct plain *p = container_of(l, struct plain, listener);
    p->conn.ops = &plain_ops;
    p->conn.user = p;
    assert_int_equal(env_accept(l, &p->conn), 0);
    env_stop(p->env);
}

static void plain_init(struct plain *p, struct env *env)
{
    *p = (struct plain){.env = env, .connected = 1, .ended = 1, .conn = {.ops = &plain_ops, .user = p}};
}

/* A blocking client socket connected to the listener of p, whose side has been accepted. */
static int plain_pair(struct plain *p, struct env *env)
{
    plain_init(p, env);
    assert_int_equal(env_listen(env, &p->listener, "127.0.0.1", 0, false, plain_accept), 0);
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    struct sockaddr_in addr = {.sin_family = AF_INET, .sin_port = htons(p->listener.port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    assert_int_equal(connect(fd, (struct sockaddr *)&addr, sizeof addr), 0);
    run_loop(env);
    return fd;
}

static void plain_written(struct env_write *w)
{
    struct plain *p = w->conn->user;
    assert_int_equal(p->n_closed, 0);
    p->statuses[p->n_done++] = w->status;
}

static void plain_write(struct plain *p, const struct iovec *iov)
{
    struct env_write *w = &p->writes[p->n_writes++];
    w->iov = iov;
    w->n_iov = 1;
    env_conn_write(&p->conn, w, plain_written);
}

static void plain_end(struct plain *p)
{
    env_conn_close(&p->conn);
    assert_int_equal(p->n_closed, 0); /* never inside the call */
    run_loop(p->env);
    assert_int_equal(p->n_closed, 1);
    env_listener_close(&p->listener);
    env_uv_close(p->env);
}

/* The peer ends its side: what it sent arrives, then the end, and the answer still gets through. */
static void test_half_close(void **state)
{
    (void)state;
    struct plain p;
    int fd = plain_pair(&p, open_loop());
    p.stop_at_end = true;
    assert_int_equal(write(fd, "question", 8), 8);
    shutdown(fd, SHUT_WR);
    env_conn_read(&p.conn, true);
    run_loop(p.env);
    assert_int_equal(p.ended, 0);
    assert_int_equal(p.n_received, 8);
    assert_memory_equal(p.received, "question", 8);
    const struct iovec answer = {.iov_base = (char[]){"answer"}, .iov_len = 6};
    plain_write(&p, &answer);
    assert_int_equal(p.n_done, 0);
    char back[16];
    assert_int_equal(read(fd, back, sizeof back), 6); /* sent at once, the loop is not running */
    assert_memory_equal(back, "answer", 6);
    plain_end(&p);
    assert_int_equal(p.n_done, 1);
    assert_int_equal(p.statuses[0], 0);
    close(fd);
}

/* A peer that resets the connection: the error comes by `read`, a later write fails by its callback. */
static void test_reset(void **state)
{
    (void)state;
    struct plain p;
    int fd = plain_pair(&p, open_loop());
    p.stop_at_end = true;
    struct linger linger = {.l_onoff = 1, .l_linger = 0};
    setsockopt(fd, SOL_SOCKET, SO_LINGER, &linger, sizeof linger);
    close(fd);
    env_conn_read(&p.conn, true);
    run_loop(p.env);
    assert_int_equal(p.ended, -ECONNRESET);
    const struct iovec bytes = {.iov_base = (char[]){"x"}, .iov_len = 1};
    plain_write(&p, &bytes);
    plain_write(&p, &bytes);
    assert_int_equal(p.n_done, 0);
    plain_end(&p);
    assert_int_equal(p.n_done, 2);
    assert_true(p.statuses[0] < 0);
    assert_true(p.statuses[1] < 0);
}

/* Closing with writes pending: each calls back with -ECANCELED, in order and before `closed`; what was sent stays sent. */
static void test_close_with_pending_writes(void **state)
{
    (void)state;
    struct plain p;
    int fd = plain_pair(&p, open_loop());
    enum { BIG = 64 << 20 };
    struct iovec small = {.iov_base = (char[]){"hello"}, .iov_len = 5}, empty = {.iov_base = NULL, .iov_len = 0};
    struct iovec big = {.iov_base = calloc(1, BIG), .iov_len = BIG};
    plain_write(&p, &small);
    plain_write(&p, &empty);
    assert_int_equal(env_conn_unsent(&p.conn), 0);
    plain_write(&p, &big);
    assert_true(env_conn_unsent(&p.conn) > 0);
    assert_true(env_conn_unsent(&p.conn) < BIG);
    plain_write(&p, &small);
    size_t unsent = env_conn_unsent(&p.conn);
    assert_true(unsent > 5 && unsent < BIG + 5);
    env_conn_close(&p.conn);
    plain_write(&p, &small); /* after the close as well */
    assert_int_equal(p.n_done, 0);
    run_loop(p.env);
    static const int expected[] = {0, 0, -ECANCELED, -ECANCELED, -ECANCELED};
    assert_int_equal(p.n_closed, 1);
    assert_int_equal(p.done_when_closed, ARRAY_LEN(expected));
    for (unsigned i = 0; i < ARRAY_LEN(expected); i++) {
        assert_int_equal(p.statuses[i], expected[i]);
    }
    env_conn_close(&p.conn); /* idempotent, also afterwards */
    env_listener_close(&p.listener);
    env_uv_close(p.env);
    free(big.iov_base);
    close(fd);
}

struct closing {
    struct plain p;
    struct iovec big;
};

static void write_and_close(struct env_conn *c, void *data, ssize_t n)
{
    (void)data;
    struct plain *p = c->user;
    struct closing *cl = container_of(p, struct closing, p);
    assert_int_equal(n, 2);
    plain_write(p, &cl->big);
    plain_write(p, &cl->big);
    env_conn_close(c);
    assert_int_equal(p->n_done, 0);
}

/* The same from a callback, where the handle is closed before the turn ends: the writes still come first. */
static void test_close_inside_a_callback(void **state)
{
    (void)state;
    static const struct env_conn_ops ops = {.read = write_and_close, .closed = plain_closed};
    struct closing cl;
    int fd = plain_pair(&cl.p, open_loop());
    cl.big = (struct iovec){.iov_base = calloc(1, 64 << 20), .iov_len = 64 << 20};
    cl.p.conn.ops = &ops;
    assert_int_equal(write(fd, "go", 2), 2);
    env_conn_read(&cl.p.conn, true);
    run_loop(cl.p.env);
    assert_int_equal(cl.p.n_closed, 1);
    assert_int_equal(cl.p.done_when_closed, 2);
    assert_int_equal(cl.p.statuses[0], -ECANCELED);
    assert_int_equal(cl.p.statuses[1], -ECANCELED);
    env_listener_close(&cl.p.listener);
    env_uv_close(cl.p.env);
    free(cl.big.iov_base);
    close(fd);
}

struct chain {
    struct env_write w;
    struct iovec iov;
    struct plain *p;
    unsigned left;
    bool in_call;
};

static void chain_written(struct env_write *w)
{
    struct chain *c = container_of(w, struct chain, w);
    assert_false(c->in_call);
    assert_int_equal(w->status, 0);
    if (c->left == 0) {
        env_stop(c->p->env);
        return;
    }
    c->left--;
    c->in_call = true;
    env_conn_write(&c->p->conn, w, chain_written);
    c->in_call = false;
}

static void chain_stop(struct env_timer *t)
{
    env_stop(t->env);
}

/* Each write starts the next from its callback and the system takes all of them at once: no event of the socket will ever come, yet
 * the chain goes on; and it does not keep timers from firing. */
static void test_chained_writes(void **state)
{
    (void)state;
    struct plain p;
    int fd = plain_pair(&p, open_loop());
    struct chain c = {.p = &p, .left = 1000, .iov = {.iov_base = (char[]){"0123456789"}, .iov_len = 10}};
    c.w = (struct env_write){.iov = &c.iov, .n_iov = 1};
    env_conn_write(&p.conn, &c.w, chain_written);
    run_loop(p.env);
    assert_int_equal(c.left, 0);
    char back[10];
    for (unsigned i = 0; i < 1001; i++) {
        assert_int_equal(recv(fd, back, sizeof back, MSG_WAITALL), sizeof back);
        assert_memory_equal(back, "0123456789", sizeof back);
    }
    struct chain endless = {.p = &p, .left = UINT32_MAX};
    struct env_timer t;
    assert_int_equal(env_timer_init(p.env, &t, chain_stop), 0);
    env_timer_start_ms(&t, 10);
    env_conn_write(&p.conn, &endless.w, chain_written); /* empty: always taken */
    run_loop(p.env);
    assert_true(endless.left < UINT32_MAX - 10);
    env_timer_close(&t);
    env_uv_close(p.env);
    close(fd);
}

/* Abandoned with everything open: env_uv_close() frees what is the env's and calls nothing. */
static void test_abandon(void **state)
{
    (void)state;
    struct plain p;
    int fd = plain_pair(&p, open_loop());
    struct iovec big = {.iov_base = calloc(1, 16 << 20), .iov_len = 16 << 20};
    plain_write(&p, &big);
    env_conn_read(&p.conn, true);
    env_uv_close(p.env);
    assert_int_equal(p.n_done, 0);
    assert_int_equal(p.n_closed, 0);
    free(big.iov_base);
    close(fd);
}

/* ---- connecting ------------------------------------------------------------------------------------------------------ */

static uint16_t free_port(struct env *env)
{
    struct env_listener l;
    assert_int_equal(env_listen(env, &l, "127.0.0.1", 0, false, plain_accept), 0);
    uint16_t port = l.port;
    env_listener_close(&l);
    return port;
}

/* Nobody listens: told by `connected`, for a literal address and for a name; writes queued before fail too. */
static void test_connect_refused(void **state)
{
    (void)state;
    static const char *const hosts[] = {"127.0.0.1", "::1", "localhost"};
    for (unsigned i = 0; i < ARRAY_LEN(hosts); i++) {
        struct env *env = open_loop();
        struct plain p;
        plain_init(&p, env);
        int rc = env_connect(env, &p.conn, hosts[i], free_port(env));
        if (rc == -EADDRNOTAVAIL || rc == -EAFNOSUPPORT) {
            env_uv_close(env); /* a machine without IPv6 */
            continue;
        }
        assert_int_equal(rc, 0);
        const struct iovec bytes = {.iov_base = (char[]){"x"}, .iov_len = 1};
        plain_write(&p, &bytes);
        assert_int_equal(env_conn_unsent(&p.conn), 1);
        assert_int_equal(p.connected, 1);
        run_loop(env);
        assert_true(p.connected == -ECONNREFUSED || (i > 0 && p.connected < 0));
        env_conn_close(&p.conn);
        run_loop(env);
        assert_int_equal(p.n_closed, 1);
        assert_int_equal(p.n_done, 1);
        assert_int_equal(p.statuses[0], p.connected);
        env_uv_close(env);
    }
}

/* By name: the system's own, whose first address need not be the right one; a name that is none is an error. */
static void test_connect_by_name(void **state)
{
    (void)state;
    struct env *env = open_loop();
    struct plain server, client;
    plain_init(&server, env);
    plain_init(&client, env);
    assert_int_equal(env_listen(env, &server.listener, "127.0.0.1", 0, false, plain_accept), 0);
    assert_int_equal(env_connect(env, &client.conn, "localhost", server.listener.port), 0);
    while (client.connected == 1) {
        run_loop(env);
    }
    assert_int_equal(client.connected, 0);
    char peer[64];
    env_conn_peer(&client.conn, peer, sizeof peer);
    char expected[64];
    snprintf(expected, sizeof expected, "127.0.0.1:%u", server.listener.port);
    assert_string_equal(peer, expected);
    env_uv_close(env);

    env = open_loop();
    plain_init(&client, env);
    int rc = env_connect(env, &client.conn, "no such host!", 1);
    if (rc == 0) {
        run_loop(env);
        assert_true(client.connected < 0);
        env_conn_close(&client.conn);
        run_loop(env);
        assert_int_equal(client.n_closed, 1);
    }
    env_uv_close(env);
}

/* Closed while the look-up or the handshake is under way: only `closed` comes. */
static void test_close_while_connecting(void **state)
{
    (void)state;
    static const char *const hosts[] = {"localhost", "127.0.0.1"};
    for (unsigned i = 0; i < ARRAY_LEN(hosts); i++) {
        struct env *env = open_loop();
        struct plain p;
        plain_init(&p, env);
        assert_int_equal(env_connect(env, &p.conn, hosts[i], free_port(env)), 0);
        env_conn_read(&p.conn, true);
        env_conn_close(&p.conn);
        run_loop(env);
        assert_int_equal(p.n_closed, 1);
        assert_int_equal(p.connected, 1);
        env_uv_close(env);
    }
}

/* ---- listening ------------------------------------------------------------------------------------------------------- */

static void test_listen_errors(void **state)
{
    (void)state;
    struct env *env = open_loop();
    struct env_listener first, second;
    assert_int_equal(env_listen(env, &first, "127.0.0.1", 0, false, plain_accept), 0);
    assert_int_equal(env_listen(env, &second, "127.0.0.1", first.port, false, plain_accept), -EADDRINUSE);
    assert_int_equal(env_listen(env, &second, "127.0.0.1", first.port, true, plain_accept), -EADDRINUSE);
    assert_true(env_listen(env, &second, "203.0.113.77", 0, false, plain_accept) < 0);
    uint16_t port = first.port;
    env_listener_close(&first);
    env_listener_close(&first); /* idempotent */
    assert_int_equal(env_listen(env, &second, "127.0.0.1", port, false, plain_accept), 0);
    env_listener_close(&second);
    /* A port that another process shares is not joined by accident. */
    int fd = socket(AF_INET, SOCK_STREAM, 0), on = 1;
    setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &on, sizeof on);
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    struct sockaddr_in addr = {.sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    assert_int_equal(bind(fd, (struct sockaddr *)&addr, sizeof addr), 0);
    assert_int_equal(listen(fd, 1), 0);
    assert_int_equal(env_listen(env, &second, "127.0.0.1", port, true, plain_accept), -EADDRINUSE);
    close(fd);
    env_uv_close(env);
}

enum { SHARED_CONNS = 64 };

struct sharer {
    struct env *env;
    struct env_listener listener;
    struct env_conn conns[SHARED_CONNS];
    unsigned n;
    struct env_msg m;
    struct shared *shared;
};

struct shared {
    struct env *main;
    struct sharer lanes[2];
    uint16_t port;
    unsigned listening;
    int started[2];
};

static const struct env_conn_ops sharer_ops = {.read = plain_read, .closed = plain_closed};

static void sharer_accept(struct env_listener *l)
{
    struct sharer *s = container_of(l, struct sharer, listener);
    assert_true(s->n < SHARED_CONNS);
    struct env_conn *c = &s->conns[s->n++];
    c->ops = &sharer_ops;
    assert_int_equal(env_accept(l, c), 0);
}

static void sharer_up(struct env_msg *m)
{
    struct sharer *s = container_of(m, struct sharer, m);
    if (++s->shared->listening == 2) {
        env_stop(s->shared->main);
    }
}

static void sharer_main(struct env *env, void *arg)
{
    struct sharer *s = arg;
    assert_int_equal(env_listen(env, &s->listener, "127.0.0.1", s->shared->port, true, sharer_accept), 0);
    env_post(s->shared->main, &s->m, sharer_up);
}

static void sharer_stop(struct env_msg *m)
{
    env_stop(container_of(m, struct sharer, m)->env);
}

/* Two lanes listen on one port: the kernel gives each a part of the connections, and each connection to one of them. */
static void test_share_port(void **state)
{
    (void)state;
    struct shared shared = {.main = open_loop()};
    shared.port = free_port(shared.main);
    for (unsigned i = 0; i < 2; i++) {
        shared.lanes[i].shared = &shared;
        assert_int_equal(env_lane_start(shared.main, "share", sharer_main, &shared.lanes[i], &shared.lanes[i].env), 0);
    }
    run_loop(shared.main);
    int fds[SHARED_CONNS];
    struct sockaddr_in addr = {.sin_family = AF_INET, .sin_port = htons(shared.port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    for (unsigned i = 0; i < SHARED_CONNS; i++) {
        fds[i] = socket(AF_INET, SOCK_STREAM, 0);
        assert_int_equal(connect(fds[i], (struct sockaddr *)&addr, sizeof addr), 0);
    }
    usleep(100000);
    for (unsigned i = 0; i < 2; i++) {
        env_post(shared.lanes[i].env, &shared.lanes[i].m, sharer_stop);
        env_lane_join(shared.lanes[i].env);
    }
    assert_true(shared.lanes[0].n > 0);
    assert_true(shared.lanes[1].n > 0);
    assert_int_equal(shared.lanes[0].n + shared.lanes[1].n, SHARED_CONNS);
    for (unsigned i = 0; i < SHARED_CONNS; i++) {
        close(fds[i]);
    }
    env_uv_close(shared.main);
}

/* A connection left waiting in the callback is taken later; those behind it wait their turn. */
struct lazy {
    struct env *env;
    struct env_listener listener;
    struct env_conn conns[3];
    unsigned n, called;
    struct env_timer timer;
};

static void lazy_accept(struct env_listener *l)
{
    struct lazy *z = container_of(l, struct lazy, listener);
    z->called++;
    env_timer_start_ms(&z->timer, 1);
}

static void lazy_take(struct env_timer *t)
{
    struct lazy *z = container_of(t, struct lazy, timer);
    struct env_conn *c = &z->conns[z->n++];
    c->ops = &sharer_ops;
    assert_int_equal(z->called, z->n);
    assert_int_equal(env_accept(&z->listener, c), 0);
    assert_int_equal(env_accept(&z->listener, &z->conns[2]), -EAGAIN); /* one each */
    if (z->n == 3) {
        env_stop(z->env);
    }
}

static void test_accept_later(void **state)
{
    (void)state;
    struct lazy z = {.env = open_loop()};
    assert_int_equal(env_listen(z.env, &z.listener, "127.0.0.1", 0, false, lazy_accept), 0);
    assert_int_equal(env_timer_init(z.env, &z.timer, lazy_take), 0);
    int fds[3];
    struct sockaddr_in addr = {.sin_family = AF_INET, .sin_port = htons(z.listener.port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    for (unsigned i = 0; i < 3; i++) {
        fds[i] = socket(AF_INET, SOCK_STREAM, 0);
        assert_int_equal(connect(fds[i], (struct sockaddr *)&addr, sizeof addr), 0);
    }
    run_loop(z.env);
    assert_int_equal(z.n, 3);
    env_timer_close(&z.timer);
    env_uv_close(z.env);
    for (unsigned i = 0; i < 3; i++) {
        close(fds[i]);
    }
}

/* With no descriptor left a client is turned away, the loop does not turn in circles, and later ones are served again. */
static void stop_loop(struct env_timer *t)
{
    env_stop(t->env);
}

static void test_out_of_descriptors(void **state)
{
    (void)state;
    struct plain p;
    struct env *env = open_loop();
    plain_init(&p, env);
    assert_int_equal(env_listen(env, &p.listener, "127.0.0.1", 0, false, plain_accept), 0);
    struct sockaddr_in addr = {.sin_family = AF_INET, .sin_port = htons(p.listener.port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int clients[2] = {socket(AF_INET, SOCK_STREAM, 0), socket(AF_INET, SOCK_STREAM, 0)};
    struct rlimit old, low;
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &old), 0);
    low = (struct rlimit){.rlim_cur = 200, .rlim_max = old.rlim_max};
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &low), 0);
    int hogs[200];
    unsigned n_hogs = 0;
    while (n_hogs < ARRAY_LEN(hogs) && (hogs[n_hogs] = dup(clients[0])) >= 0) {
        n_hogs++;
    }
    assert_int_equal(connect(clients[0], (struct sockaddr *)&addr, sizeof addr), 0);
    struct env_timer t;
    assert_int_equal(env_timer_init(env, &t, stop_loop), 0);
    env_timer_start_ms(&t, 150);
    struct timespec before, after;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &before);
    run_loop(env);
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &after);
    int64_t used_ns = (after.tv_sec - before.tv_sec) * 1000000000ll + (after.tv_nsec - before.tv_nsec);
    assert_true(used_ns < 75000000);
    char byte;
    assert_int_equal(recv(clients[0], &byte, 1, MSG_DONTWAIT), 0); /* closed, not left hanging */
    assert_null(p.conn.impl);
    while (n_hogs > 0) {
        close(hogs[--n_hogs]);
    }
    setrlimit(RLIMIT_NOFILE, &old);
    assert_int_equal(connect(clients[1], (struct sockaddr *)&addr, sizeof addr), 0);
    run_loop(env); /* stopped by the accept */
    assert_non_null(p.conn.impl);
    env_timer_close(&t);
    close(clients[0]);
    close(clients[1]);
    plain_end(&p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_echo_with_back_pressure),
        cmocka_unit_test(test_half_close),
        cmocka_unit_test(test_reset),
        cmocka_unit_test(test_close_with_pending_writes),
        cmocka_unit_test(test_close_inside_a_callback),
        cmocka_unit_test(test_chained_writes),
        cmocka_unit_test(test_abandon),
        cmocka_unit_test(test_connect_refused),
        cmocka_unit_test(test_connect_by_name),
        cmocka_unit_test(test_close_while_connecting),
        cmocka_unit_test(test_listen_errors),
        cmocka_unit_test(test_share_port),
        cmocka_unit_test(test_accept_later),
        cmocka_unit_test(test_out_of_descriptors),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
