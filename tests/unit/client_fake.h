/* client_fake.h: a cluster made of listeners in the test's own loop: nodes that speak the native protocol over one store that all of them
 * see. A test decides by a hook what happens to each put, moves leaders, silences and kills nodes, and looks at the store. */
#ifndef SLUICE_CLIENT_FAKE_H
#define SLUICE_CLIENT_FAKE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "client/client_impl.h"
#include "storage/env_uv.h"

enum { FAKE_NODES = 3, FAKE_SHARDS = 8, FAKE_LOG = 20000, FAKE_PRODUCERS = 64 };

/* What the hook says about a put. */
enum fake_action {
    FAKE_SERVE = 0,      /* as a node would; any other value below 1000: answer with this error, nothing done */
    FAKE_APPLY_CUT = 1001, /* done, but the connection breaks before the answer */
    FAKE_CUT,              /* not done, the connection breaks */
    FAKE_APPLY_MUTE,       /* done, never answered */
    FAKE_MUTE
};

struct fake_shard {
    uint32_t id;
    bool exists, open;
    struct hash128 first, last;
    uint32_t leader; /* node id */
    uint64_t term, end, horizon;
    struct { uint8_t *data; size_t len; } batches[FAKE_LOG];
    unsigned n_batches;
    struct { uint8_t id[16]; uint32_t epoch; uint64_t last; } producers[FAKE_PRODUCERS];
    unsigned n_producers;
    uint32_t parent, children[2];
    unsigned n_children;
    bool has_parent;
    uint64_t gap_at; /* fetches skip the batch that begins here (damage); 0: none */
};

struct fake;
struct fake_conn;
/* What only some tests need: requests that the fake does not know itself, and a connection's end. */
struct fake_more { bool (*frame)(struct fake_conn *c, const struct frame *f); void (*closed)(struct fake_conn *c); };

struct fake_node {
    struct fake *fake;
    uint32_t id;
    struct env_listener listener;
    uint16_t port;
    bool up, paused;
    struct fake_conn *conns;
    uint64_t puts, fetches, describes;
    uint64_t accepted, crossed; /* connections; puts that came to another lane than their shard's */
};

struct fake_conn {
    struct env_conn conn;
    struct fake_node *node;
    struct fake_conn *next;
    struct frame_reader reader;
    uint32_t lane;
    bool closing;
    struct { bool waiting; uint64_t correlation; uint32_t shard; uint64_t offset, until_ns; uint32_t max_bytes; } polls[32];
};

struct fake {
    struct env *env;
    struct fake_node nodes[FAKE_NODES];
    struct fake_shard shards[FAKE_SHARDS];
    uint8_t stream_id[16];
    bool exists;
    uint32_t n_lanes;   /* of each node: connections go to them in turn, shards by number; 0: not told */
    bool first_lane_only; /* it gets all connections */
    bool damage;        /* one byte of what is fetched is changed, until it is switched off */
    bool hide_leader;   /* NOT_LEADER without a hint, and no leader in maps */
    uint64_t clock_ms;
    uint64_t map_version;
    unsigned old_maps;  /* so many of the next maps are from before any split */
    uint64_t dup_offsets; /* batches answered as duplicates */
    int (*on_put)(struct fake *f, struct fake_node *n, struct fake_shard *s, const struct batch_header *h, void *arg);
    int (*on_call)(struct fake *f, struct fake_node *n, uint8_t kind, void *arg);
    void *arg;
    const struct fake_more *more;
    void *more_arg;
    uint8_t last_request_id[16];
    struct env_timer poll_timer, deadline;
    bool timed_out;
};

struct fake_out { struct env_write write; struct iovec iov[2]; void *frame; void *payload; };

static inline void fake_out_done(struct env_write *w)
{
    struct fake_out *o = container_of(w, struct fake_out, write);
    free(o->frame);
    free(o->payload);
    free(o);
}

static inline void fake_answer(struct fake_conn *c, uint8_t kind, uint64_t correlation, const void *message, void *payload, size_t payload_len)
{
    struct fake_out *o = xcalloc(1, sizeof *o);
    size_t n;
    o->frame = frame_encode(kind, correlation, message, (uint32_t)payload_len, &n);
    o->payload = payload;
    o->iov[0] = (struct iovec){o->frame, n};
    o->iov[1] = (struct iovec){payload, payload_len};
    o->write.iov = o->iov;
    o->write.n_iov = payload_len > 0 ? 2 : 1;
    env_conn_write(&c->conn, &o->write, fake_out_done);
}

static inline void fake_error(struct fake_conn *c, uint64_t correlation, int code, uint32_t leader)
{
    Sluice__Error e = SLUICE__ERROR__INIT;
    e.code = (uint32_t)code;
    e.message = (char *)(uintptr_t)"the fake says so";
    char address[32];
    if (leader != 0) {
        e.leader_node = leader;
        snprintf(address, sizeof address, "127.0.0.1:%u", c->node->fake->nodes[leader - 1].port);
        e.leader_address = address;
    }
    fake_answer(c, FRAME_ERROR, correlation, &e, NULL, 0);
}

static inline void fake_conn_close(struct fake_conn *c)
{
    if (!c->closing) {
        c->closing = true;
        env_conn_close(&c->conn);
    }
}

static inline struct fake_shard *fake_shard(struct fake *f, uint32_t id)
{
    return id < FAKE_SHARDS && f->shards[id].exists ? &f->shards[id] : NULL;
}

/* Appends a batch as the leader would. */
static inline uint64_t fake_append(struct fake *f, struct fake_shard *s, const void *batch, size_t n, uint32_t count)
{
    assert_true(s->n_batches < FAKE_LOG);
    uint8_t *copy = xmalloc(n);
    memcpy(copy, batch, n);
    uint64_t first = s->end;
    batch_stamp(copy, first, f->clock_ms++, 1, 1);
    s->batches[s->n_batches].data = copy;
    s->batches[s->n_batches++].len = n;
    s->end += count;
    return first;
}

static inline void fake_put(struct fake_conn *c, const struct frame *f)
{
    struct fake *k = c->node->fake;
    c->node->puts++;
    Sluice__Put *m = sluice__put__unpack(NULL, f->message_len, f->message);
    assert_non_null(m);
    struct fake_shard *s = fake_shard(k, m->shard);
    sluice__put__free_unpacked(m, NULL);
    struct batch_header h;
    static void *scratch;
    static size_t scratch_size;
    const char *why = "";
    assert_int_equal(batch_check(f->payload, f->payload_len, 1 << 20, &scratch, &scratch_size, &h, &why), 0);
    if (s == NULL) {
        fake_error(c, f->correlation, SLUICE_E_NOT_FOUND, 0);
        return;
    }
    if (s->leader != c->node->id) {
        fake_error(c, f->correlation, SLUICE_E_NOT_LEADER, k->hide_leader ? 0 : s->leader);
        return;
    }
    int action = k->on_put != NULL ? k->on_put(k, c->node, s, &h, k->arg) : FAKE_SERVE;
    if (action == FAKE_CUT) {
        fake_conn_close(c);
        return;
    }
    if (action == FAKE_MUTE) {
        return;
    }
    if (action > 0 && action < 1000) {
        fake_error(c, f->correlation, action, 0);
        return;
    }
    static const uint8_t zero[16];
    Sluice__PutReply r = SLUICE__PUT_REPLY__INIT;
    r.count = h.record_count;
    r.shard_created_s = 1000 + s->id;
    if (k->n_lanes > 0) {
        r.lane = s->id % k->n_lanes + 1;
        c->node->crossed += c->lane + 1 != r.lane;
    }
    if (memcmp(h.producer_id, zero, 16) != 0) {
        unsigned i = 0;
        while (i < s->n_producers && memcmp(s->producers[i].id, h.producer_id, 16) != 0) {
            i++;
        }
        bool known = i < s->n_producers;
        int code = 0;
        if (!known || h.producer_epoch > s->producers[i].epoch) {
            code = h.producer_sequence != 0 ? SLUICE_E_PRODUCER_UNKNOWN : 0;
        } else if (h.producer_epoch < s->producers[i].epoch) {
            code = SLUICE_E_PRODUCER_FENCED;
        } else if (h.producer_sequence > s->producers[i].last + 1) {
            code = SLUICE_E_SEQUENCE_GAP;
        } else if (h.producer_sequence <= s->producers[i].last) {
            for (unsigned b = s->n_batches; b > 0 && !r.duplicate; b--) {
                struct batch_header old;
                assert_int_equal(batch_header_decode(&old, s->batches[b - 1].data, s->batches[b - 1].len, false, NULL), 0);
                if (memcmp(old.producer_id, h.producer_id, 16) == 0 && old.producer_epoch == h.producer_epoch &&
                    old.producer_sequence == h.producer_sequence) {
                    r.duplicate = true;
                    r.first_offset = old.first_offset;
                    r.time_ms = old.time_ms;
                    k->dup_offsets++;
                }
            }
            assert_true(r.duplicate);
        }
        if (code != 0 || (!s->open && !r.duplicate)) {
            fake_error(c, f->correlation, code != 0 ? code : SLUICE_E_CLOSED, 0);
            return;
        }
        if (!r.duplicate) {
            assert_true(i < FAKE_PRODUCERS);
            memcpy(s->producers[i].id, h.producer_id, 16);
            s->producers[i].epoch = h.producer_epoch;
            s->producers[i].last = h.producer_sequence;
            s->n_producers += !known;
        }
    } else if (!s->open) {
        fake_error(c, f->correlation, SLUICE_E_CLOSED, 0);
        return;
    }
    if (hash_compare(&h.hash_min, &s->first) < 0 || hash_compare(&h.hash_max, &s->last) > 0) {
        fake_error(c, f->correlation, SLUICE_E_WRONG_SHARD, 0);
        return;
    }
    if (!r.duplicate) {
        r.time_ms = k->clock_ms;
        r.first_offset = fake_append(k, s, f->payload, f->payload_len, h.record_count);
    }
    if (action == FAKE_APPLY_CUT) {
        fake_conn_close(c);
    } else if (action != FAKE_APPLY_MUTE) {
        fake_answer(c, FRAME_PUT_REPLY, f->correlation, &r, NULL, 0);
    }
}

static inline bool fake_fetch_answer(struct fake_conn *c, unsigned i, bool final)
{
    struct fake_shard *s = fake_shard(c->node->fake, c->polls[i].shard);
    uint64_t at = c->polls[i].offset;
    if (at >= s->end && s->open && !final) {
        return false;
    }
    uint8_t *out = NULL;
    size_t len = 0;
    for (unsigned b = 0; b < s->n_batches && (len == 0 || len < c->polls[i].max_bytes); b++) {
        uint64_t first = get_u64(s->batches[b].data + 16);
        uint64_t count = get_u32(s->batches[b].data + 24);
        if (first + count <= at || first < s->horizon || (s->gap_at != 0 && first == s->gap_at)) {
            continue;
        }
        out = xrealloc(out, len + s->batches[b].len);
        memcpy(out + len, s->batches[b].data, s->batches[b].len);
        len += s->batches[b].len;
        at = first + count;
    }
    if (c->node->fake->damage && len > 0) {
        out[len - 1] ^= 1;
    }
    Sluice__FetchReply r = SLUICE__FETCH_REPLY__INIT;
    r.next_offset = at;
    r.first_offset = s->horizon;
    r.end_offset = s->end;
    r.shard_created_s = 1000 + s->id;
    r.closed = !s->open && at >= s->end;
    if (r.closed) {
        r.n_children = s->n_children;
        r.children = s->children;
    }
    c->polls[i].waiting = false;
    fake_answer(c, FRAME_FETCH_REPLY, c->polls[i].correlation, &r, out, len);
    return true;
}

static inline void fake_fetch(struct fake_conn *c, const struct frame *f)
{
    c->node->fetches++;
    Sluice__Fetch *m = sluice__fetch__unpack(NULL, f->message_len, f->message);
    unsigned i = 0;
    while (i < ARRAY_LEN(c->polls) && c->polls[i].waiting) {
        i++;
    }
    assert_true(i < ARRAY_LEN(c->polls));
    struct fake_shard *s = fake_shard(c->node->fake, m->shard);
    if (s == NULL) {
        fake_error(c, f->correlation, SLUICE_E_NOT_FOUND, 0);
    } else if (m->shared && s->leader != c->node->id) {
        fake_error(c, f->correlation, SLUICE_E_NOT_LEADER, c->node->fake->hide_leader ? 0 : s->leader);
    } else {
        c->polls[i].waiting = true;
        c->polls[i].correlation = f->correlation;
        c->polls[i].shard = m->shard;
        c->polls[i].offset = m->from_horizon && m->offset < s->horizon ? s->horizon : m->offset;
        c->polls[i].max_bytes = m->max_bytes;
        c->polls[i].until_ns = env_now_ns(c->node->fake->env) + m->wait_ms * 1000000ull;
        fake_fetch_answer(c, i, m->wait_ms == 0);
    }
    sluice__fetch__free_unpacked(m, NULL);
}

static inline void fake_position(struct fake_conn *c, const struct frame *f)
{
    Sluice__Position *m = sluice__position__unpack(NULL, f->message_len, f->message);
    struct fake_shard *s = fake_shard(c->node->fake, m->shard);
    Sluice__PositionReply r = SLUICE__POSITION_REPLY__INIT;
    struct seqno q;
    r.first_offset = s->horizon;
    r.end_offset = s->end;
    r.offset = m->kind == SLUICE__POSITION__KIND__TRIM_HORIZON ? s->horizon : s->end;
    if (m->kind == SLUICE__POSITION__KIND__AT_SEQUENCE || m->kind == SLUICE__POSITION__KIND__AFTER_SEQUENCE) {
        assert_true(seqno_parse(m->sequence, &q));
        r.offset = q.offset + (m->kind == SLUICE__POSITION__KIND__AFTER_SEQUENCE);
    }
    sluice__position__free_unpacked(m, NULL);
    if (s->leader != c->node->id) {
        fake_error(c, f->correlation, SLUICE_E_NOT_LEADER, s->leader);
    } else {
        fake_answer(c, FRAME_POSITION_REPLY, f->correlation, &r, NULL, 0);
    }
}

static inline void fake_resolve(struct fake_conn *c, const struct frame *f)
{
    Sluice__Resolve *m = sluice__resolve__unpack(NULL, f->message_len, f->message);
    struct fake_shard *s = fake_shard(c->node->fake, m->shard);
    Sluice__ResolveReply r = SLUICE__RESOLVE_REPLY__INIT;
    for (unsigned b = 0; b < s->n_batches; b++) {
        struct batch_header h;
        assert_int_equal(batch_header_decode(&h, s->batches[b].data, s->batches[b].len, false, NULL), 0);
        if (memcmp(h.producer_id, m->producer_id.data, 16) == 0 && h.producer_epoch == m->epoch && h.producer_sequence == m->sequence) {
            r.outcome = SLUICE__RESOLVE_REPLY__OUTCOME__DONE;
            r.first_offset = h.first_offset;
            r.count = h.record_count;
            r.time_ms = h.time_ms;
        }
    }
    sluice__resolve__free_unpacked(m, NULL);
    fake_answer(c, FRAME_RESOLVE_REPLY, f->correlation, &r, NULL, 0);
}

static inline void fake_describe(struct fake_conn *c, const struct frame *f, uint8_t kind)
{
    struct fake *k = c->node->fake;
    c->node->describes++;
    if (!k->exists) {
        fake_error(c, f->correlation, SLUICE_E_NOT_FOUND, 0);
        return;
    }
    Sluice__StreamReply r = SLUICE__STREAM_REPLY__INIT;
    Sluice__StreamInfo info = SLUICE__STREAM_INFO__INIT;
    Sluice__ShardInfo shards[FAKE_SHARDS], *shard_list[FAKE_SHARDS];
    Sluice__NodeInfo nodes[FAKE_NODES], *node_list[FAKE_NODES];
    char addresses[FAKE_NODES][32];
    uint32_t replicas[FAKE_NODES] = {1, 2, 3};
    info.name = (char *)(uintptr_t)"s";
    info.id = (ProtobufCBinaryData){16, k->stream_id};
    info.status = SLUICE__STREAM_INFO__STATUS__ACTIVE;
    bool old = k->old_maps > 0;
    k->old_maps -= old;
    info.map_version = old ? 1 : k->map_version;
    for (unsigned i = 0; i < FAKE_SHARDS; i++) {
        struct fake_shard *s = &k->shards[i];
        if (!s->exists || (old && i > 0)) {
            continue;
        }
        Sluice__ShardInfo *o = &shards[info.n_shards];
        sluice__shard_info__init(o);
        o->shard = i;
        o->hash_first = (ProtobufCBinaryData){16, s->first.b};
        o->hash_last = (ProtobufCBinaryData){16, s->last.b};
        o->open = s->open || old;
        o->leader = k->hide_leader ? 0 : s->leader;
        o->term = s->term;
        o->n_replicas = FAKE_NODES;
        o->replicas = replicas;
        o->created_s = 1000 + i;
        o->n_parents = s->has_parent;
        o->parents = &s->parent;
        shard_list[info.n_shards++] = o;
    }
    info.shards = shard_list;
    for (unsigned i = 0; i < FAKE_NODES; i++) {
        sluice__node_info__init(&nodes[i]);
        nodes[i].id = i + 1;
        snprintf(addresses[i], sizeof addresses[i], "127.0.0.1:%u", k->nodes[i].port);
        nodes[i].address = addresses[i];
        node_list[i] = &nodes[i];
    }
    r.stream = &info;
    r.n_nodes = FAKE_NODES;
    r.nodes = node_list;
    fake_answer(c, kind, f->correlation, &r, NULL, 0);
}

static inline void fake_frame(struct fake_conn *c, const struct frame *f)
{
    struct fake *k = c->node->fake;
    if (k->on_call != NULL && f->kind != FRAME_HELLO && f->kind != FRAME_PUT && f->kind != FRAME_PING) {
        int action = k->on_call(k, c->node, f->kind, k->arg);
        if (action == FAKE_CUT) {
            fake_conn_close(c);
            return;
        }
        if (action > 0 && action < 1000) {
            fake_error(c, f->correlation, action, 0);
            return;
        }
    }
    if (f->kind == FRAME_HELLO) {
        Sluice__HelloReply r = SLUICE__HELLO_REPLY__INIT;
        r.version = 1;
        r.node_id = c->node->id;
        r.record_max = 1 << 20;
        r.in_flight_max = 100;
        r.lanes = c->node->fake->n_lanes;
        r.lane = c->lane;
        fake_answer(c, FRAME_HELLO_REPLY, f->correlation, &r, NULL, 0);
    } else if (f->kind == FRAME_PUT) {
        fake_put(c, f);
    } else if (f->kind == FRAME_FETCH) {
        fake_fetch(c, f);
    } else if (f->kind == FRAME_POSITION) {
        fake_position(c, f);
    } else if (f->kind == FRAME_RESOLVE) {
        fake_resolve(c, f);
    } else if (f->kind == FRAME_STREAM_DESCRIBE) {
        fake_describe(c, f, FRAME_STREAM_DESCRIBE_REPLY);
    } else if (f->kind == FRAME_STREAM_CREATE) {
        Sluice__StreamCreate *m = sluice__stream_create__unpack(NULL, f->message_len, f->message);
        assert_int_equal(m->request_id.len, 16);
        memcpy(k->last_request_id, m->request_id.data, 16);
        sluice__stream_create__free_unpacked(m, NULL);
        k->exists = true;
        fake_describe(c, f, FRAME_STREAM_CREATE_REPLY);
    } else if (f->kind == FRAME_PING) {
        Sluice__Empty e = SLUICE__EMPTY__INIT;
        fake_answer(c, FRAME_PING_REPLY, f->correlation, &e, NULL, 0);
    } else if (k->more == NULL || !k->more->frame(c, f)) {
        fake_error(c, f->correlation, SLUICE_E_NOT_SUPPORTED, 0);
    }
}

static inline size_t fake_conn_buffer(struct env_conn *conn, void **base)
{
    return frame_reader_buffer(&((struct fake_conn *)conn->user)->reader, base);
}

static inline void fake_conn_read(struct env_conn *conn, void *data, ssize_t n)
{
    struct fake_conn *c = conn->user;
    (void)data;
    if (n <= 0) {
        fake_conn_close(c);
        return;
    }
    frame_reader_fed(&c->reader, (size_t)n);
    struct frame f;
    while (!c->closing && !c->node->paused && frame_reader_next(&c->reader, &f) > 0) {
        fake_frame(c, &f);
    }
}

static inline void fake_conn_closed(struct env_conn *conn)
{
    struct fake_conn *c = conn->user;
    struct fake_conn **p = &c->node->conns;
    while (*p != c) {
        p = &(*p)->next;
    }
    *p = c->next;
    if (c->node->fake->more != NULL) {
        c->node->fake->more->closed(c);
    }
    frame_reader_deinit(&c->reader);
    free(c);
}

static const struct env_conn_ops fake_conn_ops = {.buffer = fake_conn_buffer, .read = fake_conn_read, .closed = fake_conn_closed};

static inline void fake_accept(struct env_listener *l)
{
    struct fake_node *n = container_of(l, struct fake_node, listener);
    struct fake_conn *c = xcalloc(1, sizeof *c);
    c->node = n;
    c->lane = n->fake->n_lanes > 0 && !n->fake->first_lane_only ? (uint32_t)(n->accepted % n->fake->n_lanes) : 0;
    n->accepted++;
    c->conn.ops = &fake_conn_ops;
    c->conn.user = c;
    assert_int_equal(env_accept(l, &c->conn), 0);
    frame_reader_init(&c->reader, FRAME_MESSAGE_MAX, FRAME_PAYLOAD_MAX);
    c->next = n->conns;
    n->conns = c;
    env_conn_read(&c->conn, !n->paused);
}

static inline void fake_node_start(struct fake_node *n)
{
    assert_int_equal(env_listen(n->fake->env, &n->listener, "127.0.0.1", n->port, false, fake_accept), 0);
    n->port = n->listener.port;
    n->up = true;
}

/* Like SIGKILL: connections reset, nobody listens. */
static inline void fake_node_kill(struct fake_node *n)
{
    env_listener_close(&n->listener);
    n->up = false;
    for (struct fake_conn *c = n->conns; c != NULL; c = c->next) {
        fake_conn_close(c);
    }
}

/* Like SIGSTOP: connections are accepted by the system, nothing is ever answered. */
static inline void fake_node_pause(struct fake_node *n, bool paused)
{
    n->paused = paused;
    for (struct fake_conn *c = n->conns; c != NULL; c = c->next) {
        env_conn_read(&c->conn, !paused);
    }
}

static inline void fake_lead(struct fake *f, uint32_t shard, uint32_t node)
{
    f->shards[shard].leader = node;
    f->shards[shard].term++;
}

static inline void fake_poll(struct env_timer *t)
{
    struct fake *f = container_of(t, struct fake, poll_timer);
    uint64_t now = env_now_ns(f->env);
    for (unsigned i = 0; i < FAKE_NODES; i++) {
        for (struct fake_conn *c = f->nodes[i].conns; c != NULL; c = c->next) {
            for (unsigned j = 0; j < ARRAY_LEN(c->polls) && !c->closing && !f->nodes[i].paused; j++) {
                if (c->polls[j].waiting) {
                    fake_fetch_answer(c, j, now >= c->polls[j].until_ns);
                }
            }
        }
    }
    env_timer_start_ms(t, 2);
}

/* A stream "s" with n equal shards, led by the nodes in turn. */
static inline struct fake *fake_open(uint32_t n_shards)
{
    struct fake *f = xcalloc(1, sizeof *f);
    assert_int_equal(env_uv_open(&f->env), 0);
    env_random(f->env, f->stream_id, 16);
    f->exists = true;
    f->clock_ms = 1700000000000u;
    for (unsigned i = 0; i < FAKE_NODES; i++) {
        f->nodes[i] = (struct fake_node){.fake = f, .id = i + 1};
        fake_node_start(&f->nodes[i]);
    }
    for (uint32_t i = 0; i < n_shards; i++) {
        f->shards[i].id = i;
        f->shards[i].exists = f->shards[i].open = true;
        f->shards[i].leader = i % FAKE_NODES + 1;
        f->shards[i].term = 1;
        hash_range(i, n_shards, &f->shards[i].first, &f->shards[i].last);
    }
    env_timer_init(f->env, &f->poll_timer, fake_poll);
    env_timer_start_ms(&f->poll_timer, 2);
    return f;
}

static inline struct sluice_client *fake_client(struct fake *f, const struct sluice_client_options *options)
{
    char endpoints[128];
    snprintf(endpoints, sizeof endpoints, "127.0.0.1:%u,127.0.0.1:%u,127.0.0.1:%u", f->nodes[0].port, f->nodes[1].port, f->nodes[2].port);
    struct sluice_client_options o = options != NULL ? *options : (struct sluice_client_options){0};
    o.endpoints = endpoints;
    struct sluice_client *c;
    assert_int_equal(sluice_client_open(f->env, &o, &c), 0);
    return c;
}

static inline void fake_deadline(struct env_timer *t)
{
    struct fake *f = container_of(t, struct fake, deadline);
    f->timed_out = true;
    env_stop(f->env);
}

/* Runs until a callback stops the loop, or ms have passed (true). */
static inline bool fake_run(struct fake *f, unsigned ms)
{
    f->timed_out = false;
    env_timer_init(f->env, &f->deadline, fake_deadline);
    env_timer_start_ms(&f->deadline, ms);
    env_uv_run(f->env);
    env_timer_close(&f->deadline);
    return f->timed_out;
}

static inline void fake_close(struct fake *f)
{
    for (unsigned i = 0; i < FAKE_NODES; i++) {
        if (f->nodes[i].up) {
            fake_node_kill(&f->nodes[i]);
        }
    }
    env_timer_close(&f->poll_timer);
    fake_run(f, 20);
    env_uv_close(f->env);
    for (unsigned i = 0; i < FAKE_SHARDS; i++) {
        for (unsigned b = 0; b < f->shards[i].n_batches; b++) {
            free(f->shards[i].batches[b].data);
        }
    }
    free(f);
}

/* Batches of records whose data are their offsets. */
static inline void fake_fill(struct fake *f, uint32_t shard, unsigned batches, unsigned per_batch)
{
    struct batch_builder b;
    batch_builder_init(&b);
    uint64_t n = f->shards[shard].end;
    for (unsigned i = 0; i < batches; i++) {
        for (unsigned j = 0; j < per_batch; j++) {
            char text[32];
            int len = snprintf(text, sizeof text, "%llu", (unsigned long long)n++);
            struct hash128 hash = f->shards[shard].first;
            assert_int_equal(batch_builder_add(&b, "k", 1, text, (size_t)len, &hash, true), 0);
        }
        const struct batch_identity id = {.stream_id = f->stream_id, .shard = shard};
        void *data;
        size_t len;
        assert_int_equal(batch_builder_finish(&b, &id, true, &data, &len), 0);
        fake_append(f, &f->shards[shard], data, len, per_batch);
        free(data);
    }
    batch_builder_deinit(&b);
}

/* Every record of a shard in order. */
static inline void fake_each(struct fake *f, uint32_t shard, void (*each)(const struct batch_record *r, void *arg), void *arg)
{
    struct fake_shard *s = &f->shards[shard];
    void *scratch = NULL;
    size_t scratch_size = 0;
    for (unsigned b = 0; b < s->n_batches; b++) {
        struct batch_reader br;
        struct batch_record r;
        assert_int_equal(batch_reader_open(&br, s->batches[b].data, s->batches[b].len, &scratch, &scratch_size, NULL), 0);
        while (batch_reader_next(&br, &r) == 1) {
            each(&r, arg);
        }
    }
    free(scratch);
}

#endif
