/* client_fake_push.h: subscriptions at the fake cluster: a shard's leader pushes what its store has, within the credit, with heartbeats; a test silences it, lets it end
 * subscriptions, or damages what it pushes. */
#ifndef SLUICE_CLIENT_FAKE_PUSH_H
#define SLUICE_CLIENT_FAKE_PUSH_H

#include "client_fake.h"

enum { FAKE_SUBS = 32, FAKE_ASKED = 512, FAKE_CONSUMER = 77 };

enum fake_damage {
    DAMAGE_NONE,
    DAMAGE_GAP,        /* a batch is left out */
    DAMAGE_INNER_GAP,  /* the second of a push's batches is left out */
    DAMAGE_OVERLAP,    /* the last one again */
    DAMAGE_BODY,       /* one bit of the last batch's body */
    DAMAGE_HEADER,     /* one bit of the first one's header */
    DAMAGE_CUT,        /* the last byte is missing */
    DAMAGE_NEXT,       /* next_offset is one too far */
    DAMAGE_SHARD,      /* a good batch of another shard */
    DAMAGE_STREAM,     /* a good batch of another incarnation */
    DAMAGE_BEAT,       /* a heartbeat that is ahead */
    DAMAGE_EARLY,      /* a push before the answer to the subscription */
    DAMAGE_MESSAGE,    /* a message that cannot be read */
    DAMAGE_N
};

struct fake_sub {
    struct fake_conn *conn; /* NULL: free */
    uint64_t correlation, offset, pushed_ns;
    uint32_t shard, heartbeat_ms;
    int64_t credit;
};

struct fake_asked { uint32_t node; uint64_t offset, credit, age_ms, map_version, consumer; uint8_t subscriber[16]; bool resumed; };

struct fake_push {
    struct fake *fake;
    struct env_timer timer;
    struct fake_sub subs[FAKE_SUBS];
    struct fake_asked asked[FAKE_ASKED]; /* every SUBSCRIBE that came to the leader */
    unsigned n_asked, lists, credits, left; /* left: a CREDIT that ended one */
    unsigned batches;        /* in one push at most; 0: what the credit allows */
    unsigned cut_every;      /* the connection breaks instead of each n-th push; 0: never */
    unsigned pushes, beats;
    bool mute;               /* no pushes, no heartbeats; requests are answered */
    enum fake_damage damage;
    unsigned damages;        /* so many of the next pushes */
    int64_t credit_most;
    uint64_t consumer_id;    /* 0: there is no consumer */
};

static inline void fake_push_send(struct fake_push *p, struct fake_sub *u, Sluice__Push *m, const void *payload, size_t n)
{
    uint8_t *copy = n > 0 ? memcpy(xmalloc(n), payload, n) : NULL;
    struct fake_shard *s = fake_shard(p->fake, u->shard);
    m->end_offset = s->end;
    u->pushed_ns = env_now_ns(p->fake->env);
    fake_answer(u->conn, FRAME_PUSH, u->correlation, m, copy, n);
}

/* The last push. */
static inline void fake_push_end(struct fake_push *p, struct fake_sub *u, int code)
{
    Sluice__Push m = SLUICE__PUSH__INIT;
    struct fake_shard *s = fake_shard(p->fake, u->shard);
    m.next_offset = u->offset;
    m.ended = (uint32_t)code;
    m.closed = code == 0;
    m.message = (char *)(uintptr_t)"the fake ends it";
    m.leader_node = code == SLUICE_E_NOT_LEADER && !p->fake->hide_leader ? s->leader : 0;
    m.n_children = code == 0 ? s->n_children : 0;
    m.children = s->children;
    fake_push_send(p, u, &m, NULL, 0);
    u->conn = NULL;
}

static inline void fake_push_all_end(struct fake_push *p, int code)
{
    for (unsigned i = 0; i < FAKE_SUBS; i++) {
        if (p->subs[i].conn != NULL) {
            fake_push_end(p, &p->subs[i], code);
        }
    }
}

static inline unsigned fake_push_subs(const struct fake_push *p)
{
    unsigned n = 0;
    for (unsigned i = 0; i < FAKE_SUBS; i++) {
        n += p->subs[i].conn != NULL;
    }
    return n;
}

/* A batch of one record with other identity, where one of this shard was to be. */
static inline void fake_push_foreign(struct fake_push *p, struct fake_sub *u, Sluice__Push *m)
{
    struct batch_builder b;
    struct hash128 hash = p->fake->shards[0].first;
    uint8_t other[16];
    void *data;
    size_t n;
    memcpy(other, p->fake->stream_id, 16);
    other[3] ^= p->damage == DAMAGE_STREAM;
    batch_builder_init(&b);
    assert_int_equal(batch_builder_add(&b, "k", 1, "foreign", 7, &hash, true), 0);
    const struct batch_identity id = {.stream_id = other, .shard = u->shard + (p->damage == DAMAGE_SHARD)};
    assert_int_equal(batch_builder_finish(&b, &id, true, &data, &n), 0);
    batch_stamp(data, u->offset, p->fake->clock_ms, 1, 1);
    m->next_offset = u->offset + 1;
    fake_push_send(p, u, m, data, n);
    free(data);
    batch_builder_deinit(&b);
}

/* One push with what the credit allows, damaged if that is asked for. */
static inline void fake_push_one(struct fake_push *p, struct fake_sub *u)
{
    struct fake_shard *s = fake_shard(p->fake, u->shard);
    bool bad = p->damages > 0;
    enum fake_damage damage = bad ? p->damage : DAMAGE_NONE;
    Sluice__Push m = SLUICE__PUSH__INIT;
    uint8_t *out = NULL;
    size_t len = 0, last = 0;
    unsigned n = 0;
    uint64_t at = u->offset;
    p->damages -= bad;
    p->pushes++;
    if (damage == DAMAGE_SHARD || damage == DAMAGE_STREAM) {
        fake_push_foreign(p, u, &m);
        return;
    }
    for (unsigned b = 0; b < s->n_batches && (int64_t)len < u->credit && (p->batches == 0 || n < p->batches); b++) {
        uint64_t first = get_u64(s->batches[b].data + 16), count = get_u32(s->batches[b].data + 24);
        if (first + count <= u->offset) {
            continue;
        }
        bool skip = (damage == DAMAGE_GAP && at == u->offset && first <= u->offset) || (damage == DAMAGE_INNER_GAP && n == 1);
        n += damage == DAMAGE_INNER_GAP;
        if (!skip) {
            out = xrealloc(out, len + s->batches[b].len);
            memcpy(out + len, s->batches[b].data, s->batches[b].len);
            last = len;
            len += s->batches[b].len;
            n += damage != DAMAGE_INNER_GAP;
        }
        at = first + count;
    }
    if (damage == DAMAGE_OVERLAP) {
        size_t again = len - last;
        out = xrealloc(out, len + again);
        memcpy(out + len, out + last, again);
        len += again;
    } else if (damage == DAMAGE_BODY) {
        out[len - 1] ^= 1;
    } else if (damage == DAMAGE_HEADER) {
        out[24] ^= 1;
    } else if (damage == DAMAGE_CUT) {
        len--;
    } else if (damage == DAMAGE_BEAT) {
        len = 0;
    }
    m.next_offset = at + (damage == DAMAGE_NEXT);
    u->offset = at;
    u->credit -= (int64_t)len;
    if (damage == DAMAGE_MESSAGE) {
        static const Sluice__Error nonsense = SLUICE__ERROR__INIT;
        Sluice__Error e = nonsense;
        e.message = (char *)(uintptr_t)"not a push"; /* a string where a number must be */
        fake_answer(u->conn, FRAME_PUSH, u->correlation, &e, NULL, 0);
        free(out);
        return;
    }
    fake_push_send(p, u, &m, out, len);
    free(out);
}

static inline void fake_push_step(struct fake_push *p, struct fake_sub *u)
{
    struct fake_shard *s = fake_shard(p->fake, u->shard);
    if (u->conn->closing || u->conn->node->paused || p->mute) {
        return;
    }
    if (s->leader != u->conn->node->id) {
        fake_push_end(p, u, SLUICE_E_NOT_LEADER);
        return;
    }
    if (u->offset < s->end && u->credit > 0) {
        if (p->cut_every != 0 && (p->pushes + 1) % p->cut_every == 0) {
            p->pushes++;
            fake_conn_close(u->conn);
            return;
        }
        fake_push_one(p, u);
    } else if (u->offset == s->end && !s->open) {
        fake_push_end(p, u, 0);
    } else if (env_now_ns(p->fake->env) - u->pushed_ns >= u->heartbeat_ms * 1000000ull) {
        Sluice__Push m = SLUICE__PUSH__INIT;
        m.next_offset = u->offset;
        p->beats++;
        fake_push_send(p, u, &m, NULL, 0);
    }
}

static inline void fake_push_tick(struct env_timer *t)
{
    struct fake_push *p = container_of(t, struct fake_push, timer);
    for (unsigned i = 0; i < FAKE_SUBS; i++) {
        if (p->subs[i].conn != NULL) {
            fake_push_step(p, &p->subs[i]);
        }
    }
    env_timer_start_ms(t, 1);
}

static inline void fake_subscribe(struct fake_push *p, struct fake_conn *c, const struct frame *f)
{
    Sluice__Subscribe *m = sluice__subscribe__unpack(NULL, f->message_len, f->message);
    struct fake_shard *s = fake_shard(p->fake, m->shard);
    assert_int_equal(m->subscriber.len, 16);
    assert_int_equal(m->stream_id.len, 16);
    if (s == NULL || memcmp(m->stream_id.data, p->fake->stream_id, 16) != 0) {
        fake_error(c, f->correlation, SLUICE_E_NOT_FOUND, 0);
    } else if (s->leader != c->node->id) {
        fake_error(c, f->correlation, SLUICE_E_NOT_LEADER, p->fake->hide_leader ? 0 : s->leader);
    } else if (m->offset < s->horizon) {
        fake_error(c, f->correlation, SLUICE_E_EXPIRED, 0);
    } else {
        struct fake_sub *u = p->subs;
        while (u->conn != NULL) {
            assert_true(++u < p->subs + FAKE_SUBS);
        }
        assert_true(p->n_asked < FAKE_ASKED);
        struct fake_asked *a = &p->asked[p->n_asked++];
        *a = (struct fake_asked){.node = c->node->id, .offset = m->offset, .credit = m->credit, .age_ms = m->age_ms, .map_version = m->map_version,
                                 .consumer = m->consumer_id, .resumed = m->resumed};
        memcpy(a->subscriber, m->subscriber.data, 16);
        *u = (struct fake_sub){.conn = c, .correlation = f->correlation, .offset = m->offset, .shard = m->shard, .heartbeat_ms = m->heartbeat_ms,
                               .credit = (int64_t)m->credit, .pushed_ns = env_now_ns(p->fake->env)};
        p->credit_most = max_u64((uint64_t)p->credit_most, m->credit);
        if (p->damages > 0 && p->damage == DAMAGE_EARLY) {
            fake_push_one(p, u); /* and no answer */
        } else {
            Sluice__SubscribeReply r = SLUICE__SUBSCRIBE_REPLY__INIT;
            r.first_offset = s->horizon;
            r.end_offset = s->end;
            r.shard_created_s = 1000 + s->id;
            fake_answer(c, FRAME_SUBSCRIBE_REPLY, f->correlation, &r, NULL, 0);
        }
    }
    sluice__subscribe__free_unpacked(m, NULL);
}

static inline void fake_credit(struct fake_push *p, struct fake_conn *c, const struct frame *f)
{
    Sluice__Credit *m = sluice__credit__unpack(NULL, f->message_len, f->message);
    p->credits++;
    for (unsigned i = 0; i < FAKE_SUBS; i++) {
        struct fake_sub *u = &p->subs[i];
        if (u->conn == c && u->correlation == f->correlation) {
            u->credit += (int64_t)m->bytes;
            p->credit_most = u->credit > p->credit_most ? u->credit : p->credit_most;
            p->left += m->end;
            u->conn = m->end ? NULL : c;
        }
    }
    sluice__credit__free_unpacked(m, NULL);
}

static inline bool fake_push_frame(struct fake_conn *c, const struct frame *f)
{
    struct fake_push *p = c->node->fake->more_arg;
    if (f->kind == FRAME_SUBSCRIBE) {
        fake_subscribe(p, c, f);
    } else if (f->kind == FRAME_CREDIT) {
        fake_credit(p, c, f);
    } else if (f->kind == FRAME_CONSUMER_LIST) {
        Sluice__ConsumerListReply r = SLUICE__CONSUMER_LIST_REPLY__INIT;
        Sluice__ConsumerInfo other = SLUICE__CONSUMER_INFO__INIT, one = SLUICE__CONSUMER_INFO__INIT, *list[] = {&other, &one};
        other.name = (char *)(uintptr_t)"another";
        other.id = 5;
        one.name = (char *)(uintptr_t)"c";
        one.id = p->consumer_id;
        r.n_consumers = p->consumer_id != 0 ? 2 : 1;
        r.consumers = list;
        r.stream_id = (ProtobufCBinaryData){16, c->node->fake->stream_id};
        r.map_version = 9;
        p->lists++;
        fake_answer(c, FRAME_CONSUMER_LIST_REPLY, f->correlation, &r, NULL, 0);
    } else {
        return false;
    }
    return true;
}

static inline void fake_push_closed(struct fake_conn *c)
{
    struct fake_push *p = c->node->fake->more_arg;
    for (unsigned i = 0; i < FAKE_SUBS; i++) {
        if (p->subs[i].conn == c) {
            p->subs[i].conn = NULL;
        }
    }
}

static inline struct fake_push *fake_push_open(struct fake *f)
{
    static const struct fake_more more = {fake_push_frame, fake_push_closed};
    struct fake_push *p = xcalloc(1, sizeof *p);
    p->fake = f;
    p->consumer_id = FAKE_CONSUMER;
    f->more = &more;
    f->more_arg = p;
    env_timer_init(f->env, &p->timer, fake_push_tick);
    env_timer_start_ms(&p->timer, 1);
    return p;
}

/* With the cluster. */
static inline void fake_push_close(struct fake_push *p)
{
    struct fake *f = p->fake;
    env_timer_close(&p->timer);
    memset(p->subs, 0, sizeof p->subs);
    fake_close(f);
    free(p);
}

#endif
