/* links_peer.c: our connection to one peer.
 *
 *   IDLE --connect--> CONNECTING --connected--> HELLO --hello reply--> READY
 *   any --error, refusal, impatience, silence--> IDLE, and again after a backoff
 *
 * At the end of a turn the pump turns what is queued into frames: first all small records, then bulk records up to 256 KiB a frame; it stops while the
 * connection has 256 KiB unsent, so that small messages never wait behind more than that. */
#include "links_impl.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "sluice.pb-c.h"

static void on_pump(struct env_task *t);

/* ---- frames ---- */

static struct links_frame *frame_get(struct links_peer *p)
{
    struct links_frame *f = p->spare;
    if (f != NULL) {
        p->spare = f->next;
    } else {
        f = xcalloc(1, sizeof *f);
    }
    f->next = NULL;
    f->len = 0;
    f->n_iov = 0;
    f->done = NULL;
    f->done_tail = &f->done;
    return f;
}

static void frame_free(struct links_frame *f)
{
    free(f->buf);
    free(f->iov);
    free(f->at);
    free(f);
}

static uint8_t *frame_room(struct links_frame *f, size_t n)
{
    if (f->len + n > f->cap) {
        f->cap = f->cap * 2 > f->len + n ? f->cap * 2 : f->len + n + 512;
        f->buf = xrealloc(f->buf, f->cap);
    }
    uint8_t *p = f->buf + f->len;
    f->len += n;
    return p;
}

/* base NULL: the last n bytes of buf. */
static void frame_piece(struct links_frame *f, void *base, size_t n)
{
    if (base == NULL && f->n_iov > 0 && f->iov[f->n_iov - 1].iov_base == NULL) {
        f->iov[f->n_iov - 1].iov_len += n;
        return;
    }
    if (f->n_iov == f->cap_iov) {
        f->cap_iov = f->cap_iov == 0 ? 16 : 2 * f->cap_iov;
        f->iov = xrealloc(f->iov, f->cap_iov * sizeof *f->iov);
        f->at = xrealloc(f->at, f->cap_iov * sizeof *f->at);
    }
    f->at[f->n_iov] = f->len - (base == NULL ? n : 0);
    f->iov[f->n_iov++] = (struct iovec){base, n};
}

static void pop_bulk(struct links_peer *p)
{
    struct link_send *s = p->bulk;
    unsigned k = links_counter(s->message.group);
    size_t n = link_record_size(&s->message) + s->message.payload_len;
    p->bulk = s->next;
    if (p->bulk == NULL) {
        p->bulk_tail = &p->bulk;
    }
    s->next = NULL;
    p->bulk_bytes -= n;
    p->counts[k]--;
    p->links->stats.queued -= n;
}

static struct link_send *take_bulk(struct links_peer *p)
{
    struct link_send *list = p->bulk;
    while (p->bulk != NULL) {
        struct link_send *s = p->bulk;
        pop_bulk(p);
        s->next = p->bulk;
    }
    return list;
}

/* The bytes [pos, pos + n) of a send, header first then its parts, as pieces of the frame. */
static unsigned slice(const struct link_send *s, size_t pos, size_t n, struct iovec *out, unsigned max)
{
    unsigned k = 0;
    size_t head = link_record_size(&s->message);
    if (pos < head) {
        size_t take = min_u64(n, head - pos);
        out[k++] = (struct iovec){s->head + pos, take};
        n -= take;
        pos = 0;
    } else {
        pos -= head;
    }
    for (unsigned i = 0; i < s->n_parts && n > 0 && k < max; i++) {
        if (pos >= s->parts[i].iov_len) {
            pos -= s->parts[i].iov_len;
            continue;
        }
        size_t take = min_u64(n, s->parts[i].iov_len - pos);
        out[k++] = (struct iovec){(uint8_t *)s->parts[i].iov_base + pos, take};
        n -= take;
        pos = 0;
    }
    sluice_assert(n == 0 || k == max);
    return k;
}

/* Adds a piece of a long record; true when it was the last. */
static bool add_chunk(struct links_peer *p, struct links_frame *f, struct link_send *s)
{
    size_t head = link_record_size(&s->message), total = head + s->message.payload_len;
    if (s->head == NULL) {
        s->head = xmalloc(head);
        link_record_encode(&s->message, s->parts, s->n_parts, s->head);
        p->chunk_id++;
    }
    struct iovec pieces[256];
    size_t n = min_u64(LINK_CHUNK_MAX, total - s->sent);
    unsigned k = slice(s, s->sent, n, pieces, ARRAY_LEN(pieces));
    n = 0;
    for (unsigned i = 0; i < k; i++) {
        n += pieces[i].iov_len;
    }
    struct link_message chunk = {.type = LINK_CHUNK, .group = s->message.group, .a = p->chunk_id, .b = s->sent, .c = total, .payload_len = (uint32_t)n};
    link_record_encode(&chunk, pieces, k, frame_room(f, LINK_HEADER_SIZE));
    frame_piece(f, NULL, LINK_HEADER_SIZE);
    for (unsigned i = 0; i < k; i++) {
        frame_piece(f, pieces[i].iov_base, pieces[i].iov_len);
    }
    s->sent += (uint32_t)n;
    return s->sent == total;
}

static void on_written(struct env_write *w)
{
    struct links_frame *f = container_of(w, struct links_frame, write);
    struct links_conn *c = f->conn;
    struct link_send *list = f->done;
    int status = w->status;
    f->done = NULL;
    if (c->peer != NULL && c->peer->conn == c) {
        f->next = c->peer->spare;
        c->peer->spare = f;
        if (c->peer->bulk != NULL) {
            links_peer_wake(c->peer);
        }
    } else {
        frame_free(f);
    }
    links_finish_sends(list, status);
}

static void send_frame(struct links_peer *p)
{
    struct links *l = p->links;
    struct links_frame *f = frame_get(p);
    frame_room(f, FRAME_HEADER_SIZE);
    frame_piece(f, NULL, FRAME_HEADER_SIZE);
    size_t n = 0;
    if (p->small_len > 0) {
        memcpy(frame_room(f, p->small_len), p->small, p->small_len);
        frame_piece(f, NULL, p->small_len);
        n = p->small_len;
        p->small_len = 0;
    }
    while (p->bulk != NULL && n < LINKS_FRAME_BYTES) {
        struct link_send *s = p->bulk;
        size_t head = link_record_size(&s->message), size = head + s->message.payload_len;
        bool whole = true;
        if (size <= LINKS_CUT && n > 0 && n + size > LINKS_FRAME_BYTES) {
            break; /* the next frame has room for all of it */
        }
        if (size > LINKS_CUT) {
            size_t before = s->sent;
            whole = add_chunk(p, f, s);
            n += LINK_HEADER_SIZE + s->sent - before;
        } else {
            link_record_encode(&s->message, s->parts, s->n_parts, frame_room(f, head));
            frame_piece(f, NULL, head);
            for (unsigned i = 0; i < s->n_parts; i++) {
                frame_piece(f, s->parts[i].iov_base, s->parts[i].iov_len);
            }
            n += size;
        }
        if (whole) {
            l->stats.records_sent++;
            pop_bulk(p);
            *f->done_tail = s;
            f->done_tail = &s->next;
        }
    }
    /* The position as of now covers every result in the frame: what is acknowledged was durable before its result was made. */
    frame_header_encode(f->buf, FRAME_LINK, l->o.position != NULL ? l->o.position(l->o.arg) : 0, NULL, 0, (uint32_t)n);
    for (unsigned i = 0; i < f->n_iov; i++) {
        if (f->iov[i].iov_base == NULL) {
            f->iov[i].iov_base = f->buf + f->at[i];
        }
    }
    f->conn = p->conn;
    f->write.iov = f->iov;
    f->write.n_iov = f->n_iov;
    p->sent_ns = env_now_ns(l->o.env);
    l->stats.frames_sent++;
    l->stats.bytes_sent += FRAME_HEADER_SIZE + n;
    env_conn_write(&p->conn->conn, &f->write, on_written);
}

static void on_pump(struct env_task *t)
{
    struct links_peer *p = container_of(t, struct links_peer, pump);
    if (p->dead) {
        links_peer_free(p);
        return;
    }
    while (p->state == LINKS_READY && (p->small_len > 0 || (p->bulk != NULL && env_conn_unsent(&p->conn->conn) < LINKS_UNSENT_MAX))) {
        send_frame(p);
    }
}

void links_peer_wake(struct links_peer *p)
{
    if (p->state == LINKS_READY) {
        env_defer(p->links->o.env, &p->pump, on_pump);
    }
}

/* ---- the connection ---- */

static void conn_refused(struct links_peer *p, const struct frame *f)
{
    Sluice__Error *e = sluice__error__unpack(NULL, f->message_len, f->message);
    int code = e != NULL ? (int)e->code : SLUICE_E_PROTOCOL;
    bool for_good = code == SLUICE_E_REFUSED || code == SLUICE_E_WRONG_CLUSTER || code == SLUICE_E_OLDER_COPY;
    struct links *l = p->links;
    uint32_t node = p->node;
    p->backoff_ms = for_good ? LINKS_BACKOFF_REFUSED_MS : p->backoff_ms;
    links_peer_disconnect(p, true);
    if (for_good && l->o.refused != NULL) {
        l->o.refused(l->o.arg, node, code, e != NULL ? e->message : "");
    }
    if (e != NULL) {
        sluice__error__free_unpacked(e, NULL);
    }
}

static void conn_hello_reply(struct links_peer *p, const struct frame *f)
{
    struct links *l = p->links;
    Sluice__HelloReply *r = sluice__hello_reply__unpack(NULL, f->message_len, f->message);
    bool ok = r != NULL && r->node_id == p->node && r->cluster_id.len == 16 && memcmp(r->cluster_id.data, l->o.cluster_id, 16) == 0;
    bool other_cluster = r != NULL && !ok && r->node_id == p->node && r->cluster_id.len == 16;
    if (r != NULL) {
        sluice__hello_reply__free_unpacked(r, NULL);
    }
    if (!ok) {
        uint32_t node = p->node;
        p->backoff_ms = LINKS_BACKOFF_REFUSED_MS;
        links_peer_disconnect(p, true);
        if (other_cluster && l->o.refused != NULL) {
            l->o.refused(l->o.arg, node, SLUICE_E_WRONG_CLUSTER, "the peer belongs to another cluster");
        }
        return;
    }
    env_timer_stop(&p->retry);
    p->state = LINKS_READY;
    p->backoff_ms = LINKS_BACKOFF_MIN_MS;
    p->epoch++;
    p->sent_ns = 0;
    p->alive_turn = 0;
    /* The first liveness record goes at once: the peer learns that we are there. */
    links_send_alive(p);
    links_judge(p, false);
}

static size_t conn_buffer(struct env_conn *ec, void **base)
{
    struct links_conn *c = container_of(ec, struct links_conn, conn);
    return frame_reader_buffer(&c->reader, base);
}

static void conn_read(struct env_conn *ec, void *data, ssize_t n)
{
    (void)data;
    struct links_conn *c = container_of(ec, struct links_conn, conn);
    if (c->peer == NULL) {
        return;
    }
    if (n <= 0) {
        links_peer_disconnect(c->peer, true);
        return;
    }
    frame_reader_fed(&c->reader, (size_t)n);
    struct frame f;
    int rv;
    while (c->peer != NULL && (rv = frame_reader_next(&c->reader, &f)) != 0) {
        if (rv > 0 && f.kind == FRAME_HELLO_REPLY && c->peer->state == LINKS_HELLO) {
            conn_hello_reply(c->peer, &f);
        } else if (rv > 0 && f.kind == FRAME_ERROR) {
            conn_refused(c->peer, &f);
        } else {
            links_peer_disconnect(c->peer, true);
        }
    }
}

static void on_hello_written(struct env_write *w)
{
    struct links_conn *c = container_of(w, struct links_conn, hello);
    free(c->hello_iov.iov_base);
    c->hello_iov.iov_base = NULL;
}

static void conn_connected(struct env_conn *ec, int status)
{
    struct links_conn *c = container_of(ec, struct links_conn, conn);
    struct links_peer *p = c->peer;
    if (p == NULL) {
        return;
    }
    if (status != 0) {
        links_peer_disconnect(p, true);
        return;
    }
    struct links *l = p->links;
    Sluice__Hello hello = SLUICE__HELLO__INIT;
    hello.version_min = 1;
    hello.version_max = 1;
    hello.agent = (char *)"sluiced/" SLUICE_VERSION;
    hello.role = SLUICE__HELLO__ROLE__PEER;
    hello.cluster_id.len = 16;
    hello.cluster_id.data = l->o.cluster_id;
    hello.node_id = l->o.node_id;
    hello.incarnation = l->o.incarnation;
    hello.lane = l->o.lane;
    hello.lanes = l->o.lanes;
    hello.to_lane = l->o.lane;
    hello.prior_end = l->o.prior_end;
    hello.life = l->o.life;
    hello.born = l->o.born;
    hello.to_node = p->node;
    hello.features = 1;
    size_t n;
    void *bytes = frame_encode(FRAME_HELLO, 1, &hello, 0, &n);
    if (bytes == NULL) {
        links_peer_disconnect(p, true);
        return;
    }
    c->hello_iov = (struct iovec){bytes, n};
    c->hello.iov = &c->hello_iov;
    c->hello.n_iov = 1;
    c->connected = true;
    p->state = LINKS_HELLO;
    env_conn_write(&c->conn, &c->hello, on_hello_written);
    env_conn_read(&c->conn, true);
}

static void conn_closed(struct env_conn *ec)
{
    struct links_conn *c = container_of(ec, struct links_conn, conn);
    struct links *l = c->links;
    /* All writes have called back: nothing refers to the sends' bytes any more. */
    for (struct link_send *s = c->orphans; s != NULL;) {
        struct link_send *next = s->next;
        links_end_send(l, s, -ENOTCONN);
        s = next;
    }
    frame_reader_deinit(&c->reader);
    free(c);
    l->conns--;
    if (l->closing) {
        env_defer(l->o.env, &l->finish, l->finish.cb);
    }
}

static const struct env_conn_ops conn_ops = {.connected = conn_connected, .buffer = conn_buffer, .read = conn_read, .closed = conn_closed};

static void on_retry(struct env_timer *t)
{
    struct links_peer *p = container_of(t, struct links_peer, retry);
    if (p->state == LINKS_IDLE) {
        links_peer_connect(p);
    } else if (p->state != LINKS_READY) {
        links_peer_disconnect(p, true);
    }
}

static void start_timer(struct links_peer *p, unsigned ms)
{
    if (p->retry.env == NULL) {
        if (env_timer_init(p->links->o.env, &p->retry, on_retry) != 0) {
            env_fatal(p->links->o.env, ENV_EXIT_MEMORY, "no memory for a timer");
            return;
        }
    }
    env_timer_start_ms(&p->retry, ms);
}

void links_peer_connect(struct links_peer *p)
{
    struct links *l = p->links;
    if (p->state != LINKS_IDLE || l->closing) {
        return;
    }
    struct links_conn *c = xcalloc(1, sizeof *c);
    c->peer = p;
    c->links = l;
    c->conn.ops = &conn_ops;
    frame_reader_init(&c->reader, 64 << 10, 0);
    int rv = env_connect(l->o.env, &c->conn, p->host, p->port);
    if (rv != 0) {
        frame_reader_deinit(&c->reader);
        free(c);
        start_timer(p, p->backoff_ms);
        p->backoff_ms = (unsigned)min_u64(2 * p->backoff_ms, LINKS_BACKOFF_MAX_MS);
        return;
    }
    l->conns++;
    p->conn = c;
    p->state = LINKS_CONNECTING;
    start_timer(p, LINKS_HELLO_MS);
}

void links_peer_disconnect(struct links_peer *p, bool retry)
{
    struct links *l = p->links;
    struct links_conn *c = p->conn;
    if (p->state == LINKS_READY) {
        l->stats.reconnects++;
    }
    p->state = LINKS_IDLE;
    p->small_len = 0;
    if (c != NULL) {
        p->conn = NULL;
        c->peer = NULL;
        c->orphans = take_bulk(p);
        env_conn_close(&c->conn);
    }
    if (retry && !l->closing) {
        start_timer(p, p->backoff_ms);
        p->backoff_ms = (unsigned)(p->backoff_ms >= LINKS_BACKOFF_MAX_MS ? p->backoff_ms : min_u64(2 * p->backoff_ms, LINKS_BACKOFF_MAX_MS));
    } else if (p->retry.env != NULL) {
        env_timer_stop(&p->retry);
    }
    links_judge(p, true);
}

void links_peer_free(struct links_peer *p)
{
    env_timer_close(&p->retry);
    if (p->pump.queued) {
        p->dead = true; /* the task frees it */
        return;
    }
    while (p->spare != NULL) {
        struct links_frame *f = p->spare;
        p->spare = f->next;
        frame_free(f);
    }
    free(p->small);
    free(p->whole);
    free(p->host);
    free(p);
}
