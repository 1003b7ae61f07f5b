/* links.c: the lane's table of peers, sending into queues, receiving frames, and the detector. */
#include "links_impl.h"

#include <errno.h>
#include <stdlib.h>

static void on_timer(struct env_timer *t);
static void on_finish(struct env_task *t);

static struct links_peer *links_peer_find(const struct links *l, uint32_t node)
{
    for (unsigned i = 0; i < l->n_peers; i++) {
        if (l->peers[i]->node == node) {
            return l->peers[i];
        }
    }
    return NULL;
}

int links_open(struct links **out, const struct links_options *o)
{
    struct links *l = xcalloc(1, sizeof *l);
    l->o = *o;
    if (l->o.liveness_ms == 0) {
        l->o.liveness_ms = 50;
    }
    if (l->o.silence_ms == 0) {
        l->o.silence_ms = 800;
    }
    if (l->o.window_peer == 0) {
        l->o.window_peer = 4 << 20;
    }
    l->o.window_peer = max_u64(l->o.window_peer, LINK_RECORD_MAX);
    l->table = xmalloc(LINK_ENTRIES_MAX * sizeof *l->table);
    l->ended_tail = &l->ended;
    int rv = env_timer_init(o->env, &l->timer, on_timer);
    if (rv != 0) {
        free(l->table);
        free(l);
        return rv;
    }
    l->tick_ns = env_now_ns(o->env);
    env_timer_start_ms(&l->timer, l->o.liveness_ms);
    *out = l;
    return 0;
}

static void maybe_free(struct links *l)
{
    if (l->closing && l->conns == 0 && l->ended == NULL && !l->finish.queued) {
        for (unsigned i = 0; i < l->n_peers; i++) {
            links_peer_free(l->peers[i]);
        }
        free(l->peers);
        free(l->memory);
        free(l->table);
        free(l);
    }
}

void links_close(struct links *l)
{
    l->closing = true;
    env_timer_close(&l->timer);
    for (unsigned i = 0; i < l->n_peers; i++) {
        links_peer_disconnect(l->peers[i], false);
        env_timer_close(&l->peers[i]->retry);
    }
    env_defer(l->o.env, &l->finish, on_finish);
}

void links_set_peer(struct links *l, uint32_t node, const char *host, uint16_t port)
{
    struct links_peer *p = links_peer_find(l, node);
    if (p != NULL) {
        if (strcmp(p->host, host) == 0 && p->port == port) {
            return;
        }
        free(p->host);
        p->host = xstrdup(host);
        p->port = port;
        links_peer_disconnect(p, false);
        links_peer_connect(p);
        return;
    }
    p = xcalloc(1, sizeof *p);
    p->links = l;
    p->node = node;
    p->host = xstrdup(host);
    p->port = port;
    p->bulk_tail = &p->bulk;
    p->backoff_ms = LINKS_BACKOFF_MIN_MS;
    l->peers = xrealloc(l->peers, (l->n_peers + 1) * sizeof *l->peers);
    unsigned at = l->n_peers;
    while (at > 0 && l->peers[at - 1]->node > node) {
        l->peers[at] = l->peers[at - 1];
        at--;
    }
    l->peers[at] = p;
    l->n_peers++;
    links_peer_connect(p);
}

void links_remove_peer(struct links *l, uint32_t node)
{
    for (unsigned i = 0; i < l->n_peers; i++) {
        struct links_peer *p = l->peers[i];
        if (p->node == node) {
            links_peer_disconnect(p, false);
            p->heard_ns = 0;
            links_judge(p, true);
            memmove(&l->peers[i], &l->peers[i + 1], (l->n_peers - i - 1) * sizeof *l->peers);
            l->n_peers--;
            links_peer_free(p);
            return;
        }
    }
}

bool links_peer_up(const struct links *l, uint32_t node)
{
    const struct links_peer *p = links_peer_find(l, node);
    return p != NULL && p->up;
}

uint64_t links_epoch(const struct links *l, uint32_t node)
{
    const struct links_peer *p = links_peer_find(l, node);
    return p != NULL && p->state == LINKS_READY ? p->epoch : 0;
}

bool links_clock_offset(const struct links *l, uint32_t node, int64_t *offset_ms)
{
    const struct links_peer *p = links_peer_find(l, node);
    if (p == NULL || !p->clock_known) {
        return false;
    }
    *offset_ms = p->clock_offset_ms;
    return true;
}

/* ---- sending ---- */

void links_finish_sends(struct link_send *list, int status)
{
    while (list != NULL) {
        struct link_send *s = list;
        list = s->next;
        s->next = NULL;
        s->status = status;
        free(s->head);
        s->head = NULL;
        if (s->copied) {
            free(s);
        } else if (s->done != NULL) {
            s->done(s);
        }
    }
}

static void on_finish(struct env_task *t)
{
    struct links *l = container_of(t, struct links, finish);
    while (l->ended != NULL) {
        struct link_send *s = l->ended;
        l->ended = s->next;
        if (l->ended == NULL) {
            l->ended_tail = &l->ended;
        }
        s->next = NULL;
        links_finish_sends(s, s->status);
    }
    maybe_free(l);
}

void links_end_send(struct links *l, struct link_send *s, int status)
{
    s->status = status;
    s->next = NULL;
    *l->ended_tail = s;
    l->ended_tail = &s->next;
    env_defer(l->o.env, &l->finish, on_finish);
}

static void push_bulk(struct links_peer *p, struct link_send *s)
{
    unsigned k = links_counter(s->message.group);
    s->next = NULL;
    *p->bulk_tail = s;
    p->bulk_tail = &s->next;
    size_t n = link_record_size(&s->message) + s->message.payload_len;
    p->bulk_bytes += n;
    p->counts[k]++;
    p->links->stats.queued += n;
    links_peer_wake(p);
}

void links_send(struct links *l, uint32_t node, struct link_send *s)
{
    struct links_peer *p = links_peer_find(l, node);
    s->head = NULL;
    s->sent = 0;
    s->copied = false;
    size_t n = link_record_size(&s->message) + s->message.payload_len;
    if (p == NULL || p->state != LINKS_READY) {
        links_end_send(l, s, -ENOTCONN);
    } else if (n > LINK_RECORD_MAX || s->message.n_entries > LINK_ENTRIES_MAX) {
        links_end_send(l, s, -EMSGSIZE);
    } else if (p->bulk_bytes > 0 && p->bulk_bytes + n > l->o.window_peer) {
        links_end_send(l, s, -EAGAIN);
    } else {
        push_bulk(p, s);
    }
}

void links_post(struct links *l, uint32_t node, const struct link_message *m)
{
    struct links_peer *p = links_peer_find(l, node);
    if (p == NULL || p->state != LINKS_READY) {
        return;
    }
    sluice_assert(m->n_entries == 0 && m->payload_len <= LINK_POST_MAX);
    size_t n = LINK_HEADER_SIZE + m->payload_len;
    if (p->counts[links_counter(m->group)] != 0 && m->group != 0) {
        /* Something of this group waits: the message must not overtake it. */
        if (p->bulk_bytes + n > l->o.window_peer) {
            return;
        }
        struct link_send *s = malloc(sizeof *s + sizeof(struct iovec) + m->payload_len);
        if (s == NULL) {
            return;
        }
        struct iovec *iov = (struct iovec *)(s + 1);
        uint8_t *bytes = (uint8_t *)(iov + 1);
        *s = (struct link_send){.message = *m, .copied = true};
        if (m->payload_len > 0) {
            memcpy(bytes, m->payload, m->payload_len);
            *iov = (struct iovec){bytes, m->payload_len};
            s->parts = iov;
            s->n_parts = 1;
        }
        push_bulk(p, s);
        return;
    }
    if (p->small_len + n > p->small_cap) {
        if (p->small_len + n > LINKS_SMALL_MAX) {
            return;
        }
        size_t cap = p->small_cap * 2 > p->small_len + n ? p->small_cap * 2 : p->small_len + n + 1024;
        p->small = xrealloc(p->small, cap);
        p->small_cap = cap;
    }
    link_record_encode(m, NULL, 0, p->small + p->small_len);
    if (m->payload_len > 0) {
        memcpy(p->small + p->small_len + LINK_HEADER_SIZE, m->payload, m->payload_len);
    }
    p->small_len += n;
    l->stats.records_sent++;
    links_peer_wake(p);
}

/* ---- the detector ---- */

/* Up: our connection stands, the peer's has not ended, and it spoke since the last verdict. */
void links_judge(struct links_peer *p, bool by_reset)
{
    bool up = p->state == LINKS_READY && p->heard_ns != 0;
    if (up != p->up) {
        p->up = up;
        p->heard_down = false;
        if (p->links->o.peer_changed != NULL && !p->links->closing) {
            p->links->o.peer_changed(p->links->o.arg, p->node, up, by_reset);
        }
    }
}

void links_send_alive(struct links_peer *p)
{
    struct links *l = p->links;
    links_post(l, p->node, &(struct link_message){.type = LINK_ALIVE, .from = l->o.node_id, .to = p->node, .d = env_wall_ms(l->o.env)});
}

static void on_timer(struct env_timer *t)
{
    struct links *l = container_of(t, struct links, timer);
    uint64_t now = env_now_ns(l->o.env);
    uint64_t period = (uint64_t)l->o.liveness_ms * 1000000u, silence = (uint64_t)l->o.silence_ms * 1000000u;
    if (now - l->tick_ns > period + silence / 4) {
        l->late_ns = now; /* We slept: what the peers sent meanwhile may not have been read yet. */
    }
    l->tick_ns = now;
    env_timer_start_ms(&l->timer, l->o.liveness_ms);
    uint64_t limit = l->late_ns != 0 && now - l->late_ns < silence ? 2 * silence : silence;
    for (unsigned i = 0; i < l->n_peers; i++) {
        struct links_peer *p = l->peers[i];
        if (p->state == LINKS_READY) {
            /* Any record is a sign of life; the clock rides along now and then even under load. */
            if (now - p->sent_ns >= period - period / 8 || ++p->alive_turn >= 8) {
                p->alive_turn = 0;
                links_send_alive(p);
            }
        }
        if (p->heard_ns != 0 && now - p->heard_ns > limit) {
            p->heard_ns = 0;
            links_judge(p, false);
            if (p->state == LINKS_READY) {
                /* What is queued is stale by the time the peer wakes; a fresh connection starts clean. */
                links_peer_disconnect(p, true);
            }
        }
    }
}

void links_incoming(struct links *l, uint32_t from_node, uint64_t incarnation, bool open)
{
    struct links_peer *p = links_peer_find(l, from_node);
    if (p == NULL) {
        return;
    }
    if (open) {
        if (p->incarnation != incarnation) {
            if (p->incarnation != 0 && p->up) {
                /* A new life of the peer: the former one is gone, whatever its connections say. */
                p->heard_ns = 0;
                links_judge(p, true);
                links_peer_disconnect(p, true);
            }
            p->incarnation = incarnation;
            p->incoming = 0;
        }
        p->incoming++;
        if (p->state == LINKS_IDLE && p->backoff_ms < LINKS_BACKOFF_REFUSED_MS) {
            p->backoff_ms = LINKS_BACKOFF_MIN_MS;
            links_peer_connect(p); /* It is there: no need to sit out the backoff. */
        }
    } else if (p->incarnation == incarnation && p->incoming > 0 && --p->incoming == 0) {
        free(p->whole);
        p->whole = NULL;
        /* Down already, because our own connection ended first; what was still unread on this one may have spoken for a leader there once more. */
        bool again = !p->up && p->heard_down;
        p->heard_ns = 0;
        links_judge(p, true);
        if (again && l->o.peer_changed != NULL && !l->closing) {
            l->o.peer_changed(l->o.arg, from_node, false, true);
        }
    }
}

/* ---- receiving ---- */

static int receive_records(struct links_peer *p, void **owned, size_t n, bool joined);

static int receive_chunk(struct links_peer *p, const struct link_message *m)
{
    if (m->c > LINK_RECORD_MAX || m->c < LINK_HEADER_SIZE || m->b > m->c || m->payload_len > m->c - m->b) {
        return SLUICE_E_PROTOCOL;
    }
    if (m->b == 0) {
        free(p->whole);
        p->whole = malloc(m->c);
        if (p->whole == NULL) {
            return SLUICE_E_MEMORY;
        }
        p->whole_id = m->a;
        p->whole_len = (uint32_t)m->c;
        p->whole_have = 0;
    }
    if (p->whole == NULL || p->whole_id != m->a || p->whole_len != m->c || p->whole_have != m->b) {
        free(p->whole); /* The start of it went over a connection that broke. */
        p->whole = NULL;
        return 0;
    }
    memcpy(p->whole + m->b, m->payload, m->payload_len);
    p->whole_have += m->payload_len;
    if (p->whole_have < p->whole_len) {
        return 0;
    }
    void *whole = p->whole;
    p->whole = NULL;
    int rv = receive_records(p, &whole, p->whole_len, true);
    free(whole);
    return rv;
}

static void receive_alive(struct links_peer *p, const struct link_message *m)
{
    p->clock_offset_ms = (int64_t)(m->d - env_now_ms(p->links->o.env));
    p->clock_known = true;
}

/* owned: the memory that holds the records, n bytes. The receiver of the last one may take it, if most of it is that record's payload; it is NULL then.
 * joined: the memory was joined from chunks. */
static int receive_records(struct links_peer *p, void **owned, size_t n, bool joined)
{
    const uint8_t *data = *owned;
    struct links *l = p->links;
    uint32_t node = p->node;
    for (size_t pos = 0; pos < n;) {
        struct link_message m;
        long used = link_record_decode(&m, data + pos, n - pos, l->table);
        if (used <= 0) {
            return used == 0 ? SLUICE_E_PROTOCOL : (int)-used;
        }
        pos += (size_t)used;
        l->stats.records_received++;
        if (m.type == LINK_CHUNK) {
            if (joined) {
                return SLUICE_E_PROTOCOL; /* chunks of chunks */
            }
            int rv = receive_chunk(p, &m);
            if (rv != 0) {
                return rv;
            }
        } else if (m.type == LINK_ALIVE) {
            receive_alive(p, &m);
        } else {
            if (pos == n && m.payload_len >= n - n / 8) {
                m.payload_owned = *owned;
                l->o.receive(l->o.arg, node, &m);
                *owned = m.payload_owned;
            } else {
                l->o.receive(l->o.arg, node, &m);
            }
            if (l->closing || links_peer_find(l, node) != p) {
                return 0;
            }
        }
    }
    return 0;
}

int links_receive(struct links *l, const struct links_origin *from, void *payload, size_t n)
{
    struct links_peer *p = links_peer_find(l, from->node);
    int rv = 0;
    if (p != NULL && !l->closing) {
        p->heard_ns = env_now_ns(l->o.env);
        links_told(l, from); /* before what it covers is taken */
        l->stats.frames_received++;
        l->stats.bytes_received += n;
        links_judge(p, false);
        p->heard_down = !p->up;
        rv = receive_records(p, &payload, n, false);
    }
    free(payload);
    return rv;
}

void links_stats(const struct links *l, struct links_stats *out) { *out = l->stats; }
