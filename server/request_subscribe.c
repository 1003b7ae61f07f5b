/* request_subscribe.c: FRAME_SUBSCRIBE and FRAME_CREDIT, and what a connection knows of its subscriptions.
 *
 * A subscription's request belongs to the shard's lane or is on its way to the socket; its connection knows it by the correlation id and talks to the shard's lane by the
 * subscription's number, as the subscription may have ended there meanwhile. */
#include <stdlib.h>
#include <string.h>

#include "proto/base.h"
#include "server/connection.h"
#include "server/node_impl.h"
#include "server/shard.h"
#include "sluice.pb-c.h"

static bool well_formed(const Sluice__Subscribe *m)
{
    return m != NULL && m->stream_id.len == 16 && m->subscriber.len == 16 && m->credit > 0 && m->consumer_id != 0;
}

void request_subscribe(struct request *r, const struct frame *f)
{
    struct connection *c = r->conn;
    struct lane *l = r->at;
    Sluice__Subscribe *m = sluice__subscribe__unpack(NULL, f->message_len, f->message);
    if (!well_formed(m) || f->correlation == 0 || id_table_get(&c->subscriptions, f->correlation) != NULL) {
        if (m != NULL) {
            sluice__subscribe__free_unpacked(m, NULL);
        }
        request_error(r, SLUICE_E_PROTOCOL, "malformed Subscribe", 0, 0);
        return;
    }
    if (c->subscriptions.n >= CONNECTION_SUBSCRIPTIONS_MAX) {
        sluice__subscribe__free_unpacked(m, NULL);
        request_error(r, SLUICE_E_BUSY, "too many subscriptions on one connection", 0, 1000);
        return;
    }
    memcpy(r->stream_id, m->stream_id.data, 16);
    r->shard = m->shard;
    r->u.subscribe = (struct subscribe){ .id = ++l->subscriptions_made * LANES_MAX + l->number, .consumer = m->consumer_id, .offset = m->offset, .credit = m->credit,
                                         .age_ms = m->age_ms, .map_version = m->map_version, .resumed = m->resumed,
                                         .heartbeat_ms = (uint32_t)max_u64(min_u64(m->heartbeat_ms != 0 ? m->heartbeat_ms : 5000, SHARD_PUSH_HEARTBEAT_MAX_MS),
                                                                           SHARD_PUSH_HEARTBEAT_MIN_MS) };
    memcpy(r->u.subscribe.subscriber, m->subscriber.data, 16);
    sluice__subscribe__free_unpacked(m, NULL);
    id_table_put(&c->subscriptions, r->correlation, r);
    request_to_shard(r, shard_subscribe);
}

struct told { uint64_t id, bytes; bool end; };

static void told_here(struct lane *l, void *arg)
{
    struct told *t = arg;
    shard_push_credit(l, t->id, t->bytes, t->end);
    free(t);
}

/* r is the shard lane's: only what never changes is looked at. */
static void tell(const struct request *r, uint64_t bytes, bool end)
{
    struct told *t = xmalloc(sizeof *t);
    *t = (struct told){ .id = r->u.subscribe.id, .bytes = bytes, .end = end };
    lane_run(r->at, told_here, t);
}

void request_credit(struct connection *c, const struct frame *f)
{
    Sluice__Credit *m = sluice__credit__unpack(NULL, f->message_len, f->message);
    if (m == NULL) {
        connection_refuse(c, SLUICE_E_PROTOCOL, f->correlation, "malformed Credit");
        return;
    }
    struct request *r = id_table_get(&c->subscriptions, f->correlation);
    if (r != NULL) { /* else it has ended meanwhile */
        r->unwanted = r->unwanted || m->end;
        tell(r, m->bytes, m->end);
    }
    sluice__credit__free_unpacked(m, NULL);
}

void request_subscribed(struct request *r)
{
    if (r->unwanted) { /* told before the shard's lane knew it */
        tell(r, 0, true);
    }
}

void request_subscribe_ended(struct request *r)
{
    struct connection *c = r->conn;
    if (id_table_get(&c->subscriptions, r->correlation) == r) {
        id_table_take(&c->subscriptions, r->correlation);
    }
}

void request_subscriptions_forget(struct connection *c)
{
    for (size_t i = 0; i < c->subscriptions.cap; i++) {
        const struct request *r = c->subscriptions.slots[i].value;
        if (c->subscriptions.slots[i].id != 0) {
            tell(r, 0, true);
        }
    }
}
