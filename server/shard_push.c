/* shard_push.c: subscriptions: a shard's records are pushed to registered consumers by the shard's leader, the moment they are committed.
 *
 *   shard_subscribe   not the ready leader -> NOT_LEADER with hint; consumer not in the map -> NOT_FOUND (NOT_READY if the map may be too old); another began less than 5 s
 *                     ago -> IN_USE; else it takes the consumer's place, and who had it is told SUPERSEDED
 *   step              the one place that decides what is done next: the end -> read and push -> the end of a closed shard -> a heartbeat -> wait
 *
 * One subscription is a loop: read what is committed, within its credit and its rate; give it to the connection; when it was written, again. So there is never more than
 * one push of a subscription on its way to the socket, and who does not drain its socket or gives no credit costs nothing but that one. The request that subscribed is
 * what travels (request.h, `again`): while it is away the subscription only takes notes.
 *
 * Places belong to the leader's memory. A subscriber that lost its leader comes again with `resumed`, its id and how long ago it began; at a new leader it is
 * let in at once, but not past one that began later. So all beginnings are times of the leader's clock: no two machines' clocks are compared. Ends: the client's word or its connection's end (released at once, nothing is sent); else a last push that says why. */
#include <stdlib.h>
#include <string.h>

#include "proto/base.h"
#include "server/node_impl.h"
#include "server/shard.h"
#include "sluice.pb-c.h"

/* A consumer's place at this shard. It stays when the subscription has ended: for the 5 s rule, the rate and the order of subscribers. */
struct push_place {
    struct push_place *next;
    uint64_t consumer;
    struct subscription *holder;    /* NULL: nobody now */
    uint8_t subscriber[16];
    int64_t began_ms;               /* by the lane's clock, which may be younger than the subscription: below 0 then */
    struct quota bytes;
};

struct subscription {
    struct shard *shard;
    struct subscription *next, **prev;
    struct push_place *place;       /* NULL: it lost it, or it is ending */
    struct request *request;
    uint64_t id, consumer, offset;
    int64_t credit;                 /* below 0 by no more than a batch */
    uint32_t heartbeat_ms;
    uint64_t pushed_ms;             /* when the last push went */
    struct shard_batches batches;   /* of the push that is being made or written */
    struct env_timer timer;
    bool away;                      /* the request is on its way to the socket */
    bool gone;                      /* nobody is there any more */
    int end;                        /* not 0: a last push with this code is due */
    const char *why;
    uint32_t leader;
};

static void step(struct subscription *u);

/* ---- ends ---- */

static void leave_place(struct subscription *u)
{
    if (u->place != NULL) {
        u->place->holder = NULL;
        u->place = NULL;
    }
}

/* The request is not touched. The shard may be gone after it. */
static void finish(struct subscription *u)
{
    struct shard *s = u->shard;
    leave_place(u);
    shard_batches_end(&u->batches);
    env_timer_close(&u->timer);
    *u->prev = u->next;
    if (u->next != NULL) {
        u->next->prev = u->prev;
    }
    id_table_take(&s->lane->subscriptions, u->id);
    s->lane->metrics.subscriptions--;
    free(u);
    shard_unpin(s);
}

static void end(struct subscription *u, int code, const char *why)
{
    if (u->end == 0) {
        const struct shard *s = u->shard;
        u->end = code;
        u->why = why != NULL ? why : sluice_error_text(code);
        bool elsewhere = sluice_error_retry(code) == SLUICE_RETRY_ELSEWHERE && s->group != NULL && !s->leading;
        u->leader = elsewhere ? raft_id_node(group_leader(s->group)) : 0;
        leave_place(u);
    }
    step(u);
}

/* ---- pushes ---- */

/* It was given up on the way: the connection has ended. */
static void release(struct request *r)
{
    finish(r->u.subscribe.it);
}

static void again(struct request *r)
{
    struct subscription *u = r->u.subscribe.it;
    u->away = false;
    if (u->batches.read != NULL) {
        shard_batches_end(&u->batches);
    } /* else it was a heartbeat, and it may wait for room */
    step(u);
}

static void fill(const struct subscription *u, Sluice__Push *m)
{
    struct shard *s = u->shard;
    m->next_offset = u->offset;
    m->end_offset = s->state.next;
    m->millis_behind = shard_millis_behind(s, u->offset);
    if (u->end == 0 && s->state.closed && u->offset == s->state.next) {
        m->closed = true;
        m->children = s->state.children;
        m->n_children = s->state.n_children;
    }
}

/* A push without records: a heartbeat, or the last one. */
static void send_empty(struct subscription *u)
{
    struct request *r = u->request;
    Sluice__Push m = SLUICE__PUSH__INIT;
    fill(u, &m);
    u->pushed_ms = env_now_ms(u->shard->lane->env);
    bool last = m.closed || u->end != 0;
    if (!last) {
        r->again = again;
        r->release = release;
        u->away = true;
        request_answer(r, FRAME_PUSH, &m);
        return;
    }
    m.ended = (uint32_t)u->end;
    m.message = (char *)(uintptr_t)(u->end != 0 ? u->why : "");
    m.leader_node = u->leader;
    struct shard *s = u->shard;
    r->again = NULL;
    r->release = NULL;
    shard_pin(s); /* the message lies in it */
    finish(u);
    request_answer(r, FRAME_PUSH, &m);
    shard_unpin(s);
}

static void read_done(struct shard_batches *b)
{
    struct subscription *u = container_of(b, struct subscription, batches);
    struct shard *s = u->shard;
    const char *why;
    int code = shard_batches_code(b, &why);
    if (code != 0 || u->gone || u->end != 0) {
        shard_batches_end(b);
        if (code != 0) {
            end(u, code, why);
        } else {
            step(u);
        }
        return;
    }
    const struct shard_batches_read *read = b->read;
    uint64_t now = env_now_ms(s->lane->env), records = read->read.next_offset - u->offset;
    u->credit -= (int64_t)read->bytes;
    if (shard_limited(s)) {
        quota_take(&u->place->bytes, shard_batches_weight(b, u->offset), now);
    }
    u->offset = read->read.next_offset;
    u->pushed_ms = now;
    s->read_bytes += read->bytes;
    s->read_records += records;
    s->lane->metrics.push_bytes_total += read->bytes;
    s->lane->metrics.push_records_total += records;
    Sluice__Push m = SLUICE__PUSH__INIT;
    fill(u, &m);
    u->away = true;
    u->request->again = m.closed ? NULL : again;
    request_answer_body(u->request, FRAME_PUSH, &m, read->iov, read->read.n, release);
}

static void room(struct shard_batches *b)
{
    step(container_of(b, struct subscription, batches));
}

static void refused(struct shard_batches *b, int code, const char *why)
{
    shard_batches_end(b);
    end(container_of(b, struct subscription, batches), code, why);
}

static void read_more(struct subscription *u)
{
    struct shard *s = u->shard;
    uint64_t want = min_u64((uint64_t)u->credit, shard_limited(s) ? SHARD_PUSH_LIMITED_BYTES : SHARD_PUSH_BYTES);
    switch (shard_batches_read(&u->batches, u->request->conn_id, u->offset, want, s->state.next)) {
    case SHARD_BATCHES_NO_MEMORY: end(u, SLUICE_E_MEMORY, NULL); break;
    case SHARD_BATCHES_WAITS: step(u); break; /* heartbeats meanwhile */
    case SHARD_BATCHES_READS: break;
    }
}

/* ---- what next ---- */

static void timer_over(struct env_timer *t)
{
    step(container_of(t, struct subscription, timer));
}

static void step(struct subscription *u)
{
    struct shard *s = u->shard;
    if (u->away || u->batches.read != NULL) {
        return; /* it comes back */
    }
    if (u->gone) {
        struct request *r = u->request;
        finish(u);
        request_drop(r);
        return;
    }
    if (u->end != 0) {
        send_empty(u);
        return;
    }
    uint64_t now = env_now_ms(s->lane->env), wait_ms = u->heartbeat_ms;
    bool serving = s->ready && s->phase == SHARD_RUNNING;
    s->fetched_ns = env_now_ns(s->lane->env); /* followed: new batches stay in memory */
    if (serving && !u->batches.claim.waiting) {
        if (u->offset < shard_first_readable(s)) {
            end(u, SLUICE_E_EXPIRED, NULL);
            return;
        }
        if (s->state.closed && u->offset == s->state.next) {
            send_empty(u);
            return;
        }
        if (u->offset < s->state.next && u->credit > 0) {
            uint64_t rate_ms = shard_limited(s) ? quota_wait_ms(&u->place->bytes, 1, now) : 0;
            if (rate_ms == 0) {
                read_more(u);
                return;
            }
            wait_ms = min_u64(wait_ms, rate_ms);
        }
        u->batches.claim.turn = false;
    }
    if (serving) {
        if (now - u->pushed_ms >= u->heartbeat_ms) {
            send_empty(u);
            return;
        }
        wait_ms = min_u64(wait_ms, u->heartbeat_ms - (now - u->pushed_ms));
    }
    env_timer_start_ms(&u->timer, wait_ms);
}

/* ---- subscribing ---- */

static const struct map_consumer *consumer_in_map(const struct shard *s, uint64_t consumer)
{
    const struct cluster_map *map = s->lane->map;
    const struct map_stream *stream = map != NULL ? cluster_map_stream_by_id(map, s->state.identity.stream_id) : NULL;
    return stream != NULL && stream->status != STREAM_DELETING ? cluster_map_consumer_by_id(stream, consumer) : NULL;
}

static struct push_place *place_of(struct shard *s, uint64_t consumer)
{
    struct push_place *p = s->places;
    while (p != NULL && p->consumer != consumer) {
        p = p->next;
    }
    return p;
}

/* By the lane's clock. */
static int64_t began_ms(const struct subscribe *q, uint64_t now)
{
    return (int64_t)now - (q->resumed ? (int64_t)min_u64(q->age_ms, INT64_MAX / 2) : 0);
}

/* 0, or why the request may not have the place. */
static int may_take(const struct push_place *p, const struct subscribe *q, uint64_t now)
{
    if (p == NULL || memcmp(p->subscriber, q->subscriber, 16) == 0) {
        return 0;
    }
    if (q->resumed) {
        return p->began_ms > began_ms(q, now) ? SLUICE_E_SUPERSEDED : 0;
    }
    return (int64_t)now - p->began_ms < SHARD_PUSH_IN_USE_MS ? SLUICE_E_IN_USE : 0;
}

/* Who had it is told. */
static struct push_place *take_place(struct shard *s, const struct subscribe *q, uint64_t now)
{
    struct push_place *p = place_of(s, q->consumer);
    if (p == NULL) {
        p = xcalloc(1, sizeof *p);
        p->consumer = q->consumer;
        quota_init(&p->bytes, s->lane->node->settings.push_bytes_per_s, 0, now);
        p->next = s->places;
        s->places = p;
    } else if (p->holder != NULL) {
        end(p->holder, SLUICE_E_SUPERSEDED, NULL);
    }
    if (memcmp(p->subscriber, q->subscriber, 16) == 0) {
        return p;
    }
    p->began_ms = began_ms(q, now);
    memcpy(p->subscriber, q->subscriber, 16);
    return p;
}

static void begin(struct shard *s, struct request *r)
{
    struct lane *l = s->lane;
    const struct subscribe *q = &r->u.subscribe;
    struct subscription *u = calloc(1, sizeof *u);
    if (u == NULL || env_timer_init(l->env, &u->timer, timer_over) != 0) {
        free(u);
        request_error(r, SLUICE_E_MEMORY, NULL, 0, 1000);
        return;
    }
    shard_pin(s);
    uint64_t now = env_now_ms(l->env);
    u->shard = s;
    u->request = r;
    u->id = q->id;
    u->consumer = q->consumer;
    u->offset = q->offset;
    u->credit = (int64_t)min_u64(q->credit, SHARD_PUSH_CREDIT_MAX);
    u->heartbeat_ms = q->heartbeat_ms;
    u->pushed_ms = now;
    u->batches = (struct shard_batches){ .shard = s, .room = room, .refused = refused, .done = read_done };
    u->next = s->subscriptions;
    u->prev = &s->subscriptions;
    if (u->next != NULL) {
        u->next->prev = &u->next;
    }
    s->subscriptions = u;
    id_table_put(&l->subscriptions, u->id, u);
    l->metrics.subscriptions++;
    l->metrics.subscriptions_total++;
    u->place = take_place(s, q, now);
    u->place->holder = u;
    r->u.subscribe.it = u;
    r->again = again;
    r->release = release;
    u->away = true;
    Sluice__SubscribeReply reply = SLUICE__SUBSCRIBE_REPLY__INIT;
    reply.first_offset = shard_first_readable(s);
    reply.end_offset = s->state.next;
    reply.shard_created_s = s->state.identity.created_s;
    request_answer(r, FRAME_SUBSCRIBE_REPLY, &reply);
}

static void take(struct shard *s, struct request *r)
{
    const struct subscribe *q = &r->u.subscribe;
    struct lane *l = s->lane;
    if (consumer_in_map(s, q->consumer) == NULL) {
        bool old = l->map == NULL || l->map->version < q->map_version;
        request_error(r, old ? SLUICE_E_NOT_READY : SLUICE_E_NOT_FOUND, old ? "this node does not know the consumer yet" : "no such consumer", 0, old ? 50 : 0);
        return;
    }
    if (q->offset < shard_first_readable(s)) {
        request_error(r, SLUICE_E_EXPIRED, NULL, 0, 0);
        return;
    }
    int code = may_take(place_of(s, q->consumer), q, env_now_ms(l->env));
    if (code != 0) {
        request_error(r, code, code == SLUICE_E_IN_USE ? "another subscription of this consumer to the shard began less than 5 s ago" : NULL, 0, 0);
        return;
    }
    if (l->subscriptions.n >= l->node->settings.subscriptions_max / l->node->n_lanes + 1) {
        request_error(r, SLUICE_E_BUSY, "the node has as many subscriptions as it may have", 0, 1000);
        return;
    }
    begin(s, r);
}

static void beyond_confirmed(struct group_fresh *g, int status)
{
    struct request *r = container_of(g, struct request, fresh);
    struct shard *s = r->shard_at;
    if (status == SLUICE_E_NOT_LEADER || status == SLUICE_E_NOT_READY || !s->ready || s->phase != SHARD_RUNNING) {
        shard_not_leader(s, r);
    } else if (status != 0) {
        request_error(r, status, NULL, 0, 50);
    } else if (r->u.subscribe.offset > s->state.next) {
        request_error(r, SLUICE_E_AHEAD, "no such offset: it lies beyond the shard's end", 0, 0);
    } else {
        take(s, r);
    }
}

void shard_subscribe(struct shard *s, struct request *r)
{
    r->shard_at = s;
    if (!shard_request_ok(s, r)) {
        return;
    }
    if (!s->ready || !s->state.opened || s->phase != SHARD_RUNNING) {
        shard_not_leader(s, r);
        return;
    }
    if (r->u.subscribe.offset > s->state.next) { /* it may be this leader that lags behind a newer one (F28) */
        group_fresh_read(s->group, &r->fresh, beyond_confirmed);
        return;
    }
    take(s, r);
}

/* ---- what happens to the shard and its subscriptions ---- */

void shard_push_credit(struct lane *l, uint64_t id, uint64_t bytes, bool over)
{
    struct subscription *u = id_table_get(&l->subscriptions, id);
    if (u == NULL) {
        return;
    }
    int64_t sum = u->credit + (int64_t)min_u64(bytes, SHARD_PUSH_CREDIT_MAX);
    u->credit = sum < SHARD_PUSH_CREDIT_MAX ? sum : SHARD_PUSH_CREDIT_MAX;
    if (over) {
        u->gone = true;
        leave_place(u);
    }
    step(u);
}

void shard_push_wake(struct shard *s)
{
    for (struct subscription *u = s->subscriptions, *next; u != NULL; u = next) {
        next = u->next;
        step(u);
    }
}

void shard_push_reject(struct shard *s, int code)
{
    for (struct subscription *u = s->subscriptions, *next; u != NULL; u = next) {
        next = u->next;
        end(u, code, NULL);
    }
    while (s->places != NULL) {
        struct push_place *p = s->places;
        s->places = p->next;
        free(p);
    }
}

void shard_push_map(struct shard *s)
{
    for (struct subscription *u = s->subscriptions, *next; u != NULL; u = next) {
        next = u->next;
        if (consumer_in_map(s, u->consumer) == NULL) {
            end(u, SLUICE_E_NOT_FOUND, "the consumer was removed, or its stream deleted");
        }
    }
    for (struct push_place **at = &s->places; *at != NULL;) {
        struct push_place *p = *at;
        if (consumer_in_map(s, p->consumer) != NULL) {
            at = &p->next;
            continue;
        }
        *at = p->next;
        free(p);
    }
}
