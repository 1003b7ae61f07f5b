/* Subscriptions as the nodes speak them: what is pushed, how much, who has the place, and every way to end. */
#include "server_cluster_fixture.h"

struct pushes { unsigned n, empty; uint64_t next, bytes, records_of_first; uint32_t ended, leader; bool closed; size_t n_children; };

static uint64_t consumer_version; /* of the map that has the consumer registered last */

static uint64_t register_consumer(struct world *w, unsigned node, const char *name)
{
    struct client *c = dial(w, node);
    Sluice__ConsumerRegister m = SLUICE__CONSUMER_REGISTER__INIT;
    uint8_t id[16] = {(uint8_t)name[0], (uint8_t)now_ms(w), (uint8_t)(now_ms(w) >> 8), 9};
    m.stream = (char *)"s";
    m.name = (char *)(uintptr_t)name;
    m.request_id = (ProtobufCBinaryData){.len = 16, .data = id};
    const struct got *g = client_await(c, client_send(c, FRAME_CONSUMER_REGISTER, &m, NULL, 0), 20000);
    CHECK(g != NULL && g->kind == FRAME_CONSUMER_REGISTER_REPLY);
    Sluice__ConsumerReply *r = sluice__consumer_reply__unpack(NULL, g->len, g->message);
    uint64_t number = r->consumer->id;
    consumer_version = r->map_version;
    sluice__consumer_reply__free_unpacked(r, NULL);
    env_conn_close(&c->conn);
    run_ms(w, 500);
    return number;
}

struct subscribing { uint64_t consumer, offset, credit, age, version; uint8_t subscriber; bool resumed; uint32_t heartbeat; };

static uint64_t subscribe_send(struct client *c, const struct subscribing *s)
{
    Sluice__Subscribe m = SLUICE__SUBSCRIBE__INIT;
    uint8_t id[16] = {s->subscriber};
    m.stream_id = (ProtobufCBinaryData){.len = 16, .data = c->w->stream_id};
    m.consumer_id = s->consumer;
    m.offset = s->offset;
    m.credit = s->credit != 0 ? s->credit : 1 << 20;
    m.age_ms = s->age;
    m.subscriber = (ProtobufCBinaryData){.len = 16, .data = id};
    m.resumed = s->resumed;
    m.heartbeat_ms = s->heartbeat;
    m.map_version = s->version;
    return client_send(c, FRAME_SUBSCRIBE, &m, NULL, 0);
}

/* 0 or the error. */
static int subscribe(struct client *c, const struct subscribing *s, uint64_t *correlation)
{
    *correlation = subscribe_send(c, s);
    const struct got *g = client_await(c, *correlation, 5000);
    CHECK(g != NULL && (g->kind == FRAME_SUBSCRIBE_REPLY || g->kind == FRAME_ERROR));
    return decode(g).code;
}

/* What came of a subscription; every push must continue where the one before it ended, beginning at `from`. */
static struct pushes pushed(const struct client *c, uint64_t correlation, uint64_t from)
{
    struct pushes p = {.next = from};
    for (unsigned i = 0; i < c->n_got; i++) {
        const struct got *g = &c->got[i];
        if (g->correlation != correlation || g->kind != FRAME_PUSH) {
            continue;
        }
        Sluice__Push *m = sluice__push__unpack(NULL, g->len, g->message);
        CHECK(m != NULL && !p.closed && p.ended == 0); /* nothing after the last */
        CHECK(g->payload_len > 0 ? m->next_offset > p.next : m->next_offset == p.next);
        p.n++;
        p.empty += g->payload_len == 0;
        p.bytes += g->payload_len;
        p.next = m->next_offset;
        p.closed = m->closed;
        p.n_children = m->n_children;
        p.ended = m->ended;
        p.leader = m->leader_node;
        sluice__push__free_unpacked(m, NULL);
    }
    return p;
}

static void credit(struct client *c, uint64_t correlation, uint64_t bytes, bool end)
{
    Sluice__Credit m = SLUICE__CREDIT__INIT;
    m.bytes = bytes;
    m.end = end;
    uint64_t own = c->correlation;
    c->correlation = correlation - 1; /* it takes the next one */
    client_send(c, FRAME_CREDIT, &m, NULL, 0);
    c->correlation = own;
}

static uint64_t subscriptions(struct world *w)
{
    uint64_t n = 0;
    for (unsigned i = 0; i < w->first; i++) {
        for (unsigned k = 0; w->nodes[i].node != NULL && k < w->nodes[i].node->n_lanes; k++) {
            n += w->nodes[i].node->lanes[k]->metrics.subscriptions;
        }
    }
    return n;
}

/* What was there comes at once, what is put comes as soon as it is committed, and nothing comes twice; heartbeats when there is nothing. */
static void pushes_in_order(struct world *w)
{
    world_open(w, 3);
    create_stream(w, 0, "s", 3);
    uint64_t consumer = register_consumer(w, 1, "c"), sub, at;
    unsigned l = leader(w);
    struct client *p = dial(w, l), *c = dial(w, l);
    CHECK(put(p, NULL, 0, 10).code == 0);
    CHECK(subscribe(c, &(struct subscribing){.consumer = consumer, .offset = 3, .subscriber = 1, .version = consumer_version, .heartbeat = 1000}, &sub) == 0);
    run_ms(w, 50);
    CHECK(pushed(c, sub, 3).next == 10 && subscriptions(w) == 1);
    for (unsigned i = 0; i < 20; i++) {
        at = put(p, NULL, 0, 5).offset;
        run_ms(w, 10);
        CHECK(pushed(c, sub, 3).next == at + 5);
    }
    CHECK(pushed(c, sub, 3).empty == 0);
    run_ms(w, 5500);
    CHECK(pushed(c, sub, 3).empty == 5);
    /* A second consumer of the same connection; a subscription is no unanswered request. */
    uint64_t other = register_consumer(w, 1, "d"), second;
    CHECK(subscribe(c, &(struct subscribing){.consumer = other, .subscriber = 2}, &second) == 0);
    run_ms(w, 50);
    CHECK(pushed(c, second, 0).next == 110 && subscriptions(w) == 2);
    CHECK(w->nodes[l].node->lanes[0]->metrics.requests_in_flight == 0);
    /* The client's word ends it without another. */
    credit(c, sub, 0, true);
    run_ms(w, 20);
    CHECK(put(p, NULL, 0, 5).offset == 110);
    run_ms(w, 3000);
    CHECK(pushed(c, sub, 3).next == 110 && pushed(c, sub, 3).ended == 0 && pushed(c, second, 0).next == 115 && subscriptions(w) == 1);
    /* And so does its connection's end. */
    env_conn_close(&c->conn);
    run_ms(w, 50);
    CHECK(subscriptions(w) == 0);
}

STORY(pushed_in_order) { pushes_in_order(w); }

static void two_lanes(struct settings *s, unsigned node)
{
    (void)node;
    s->lanes = 2;
}

/* Whichever lane has the connection. */
STORY(pushed_over_lanes)
{
    w->tune = two_lanes;
    world_open(w, 3);
    create_stream(w, 0, "s", 3);
    uint64_t consumer = register_consumer(w, 1, "c");
    unsigned l = leader(w);
    struct client *p = dial(w, l);
    CHECK(put(p, NULL, 0, 10).code == 0);
    uint64_t next = 10;
    for (unsigned i = 0; i < 12; i++) {
        struct client *c = dial(w, l);
        uint64_t sub;
        CHECK(subscribe(c, &(struct subscribing){.consumer = consumer, .subscriber = (uint8_t)(i + 1), .credit = 700}, &sub) == 0);
        run_ms(w, 100);
        CHECK(put(p, NULL, 0, 10).offset == next);
        next += 10;
        credit(c, sub, 1 << 20, false);
        run_ms(w, 100);
        CHECK(pushed(c, sub, 0).next == next && subscriptions(w) == 1);
        if (i % 3 == 0) {
            credit(c, sub, 0, true);
        } else if (i % 3 == 1) {
            env_conn_close(&c->conn);
        }
        run_ms(w, 5100);
        CHECK(subscriptions(w) == (i % 3 == 2));
    }
}

/* No more than its credit and one batch is on its way. */
STORY(credit_holds)
{
    world_open(w, 3);
    create_stream(w, 0, "s", 3);
    uint64_t consumer = register_consumer(w, 1, "c"), sub;
    struct client *p = dial(w, leader(w)), *c = dial(w, leader(w));
    for (unsigned i = 0; i < 10; i++) {
        put_send(p, NULL, 0, 1, 10000);
    }
    run_ms(w, 500);
    CHECK(subscribe(c, &(struct subscribing){.consumer = consumer, .subscriber = 1, .credit = 1, .heartbeat = 1000}, &sub) == 0);
    run_ms(w, 300);
    struct pushes a = pushed(c, sub, 0);
    CHECK(a.next == 1 && a.bytes > 10000);
    credit(c, sub, a.bytes - 1, false); /* 1 - batch + (batch - 1) = 0: nothing yet */
    run_ms(w, 300);
    CHECK(pushed(c, sub, 0).next == 1);
    credit(c, sub, 15000, false); /* one more, and one beyond the credit */
    run_ms(w, 300);
    CHECK(pushed(c, sub, 0).next == 3);
    run_ms(w, 3000);
    CHECK(pushed(c, sub, 0).empty >= 2); /* heartbeats go on */
    credit(c, sub, UINT64_MAX, false);
    credit(c, sub, UINT64_MAX, false);
    run_ms(w, 300);
    CHECK(pushed(c, sub, 0).next == 10);
    credit(c, 12345, 1, false); /* of nobody: nothing happens */
    credit(c, 12345, 1, true);
    run_ms(w, 50);
    CHECK(!c->ended);
}

/* One place per consumer and shard. */
STORY(places)
{
    world_open(w, 3);
    create_stream(w, 0, "s", 3);
    uint64_t consumer = register_consumer(w, 1, "c"), first, second, third;
    unsigned l = leader(w);
    struct client *a = dial(w, l), *b = dial(w, l), *p = dial(w, l);
    CHECK(put(p, NULL, 0, 1).code == 0);
    CHECK(subscribe(dial(w, (l + 1) % 3), &(struct subscribing){.consumer = consumer, .subscriber = 1}, &first) == SLUICE_E_NOT_LEADER);
    CHECK(subscribe(a, &(struct subscribing){.consumer = consumer + 1000, .subscriber = 1}, &first) == SLUICE_E_NOT_FOUND);
    CHECK(subscribe(a, &(struct subscribing){.consumer = consumer + 1000, .subscriber = 1, .version = 1000000}, &first) == SLUICE_E_NOT_READY);
    CHECK(subscribe(a, &(struct subscribing){.consumer = consumer, .subscriber = 1, .offset = 1000}, &first) == SLUICE_E_AHEAD);
    CHECK(subscribe(a, &(struct subscribing){.consumer = consumer, .subscriber = 1}, &first) == 0);
    CHECK(subscribe(b, &(struct subscribing){.consumer = consumer, .subscriber = 2}, &second) == SLUICE_E_IN_USE);
    env_conn_close(&a->conn); /* even if it has gone meanwhile */
    run_ms(w, 100);
    CHECK(subscribe(b, &(struct subscribing){.consumer = consumer, .subscriber = 2}, &second) == SLUICE_E_IN_USE);
    a = dial(w, l);
    CHECK(subscribe(a, &(struct subscribing){.consumer = consumer, .subscriber = 1, .age = 100, .resumed = true}, &first) == 0); /* but it gets its own back */
    run_ms(w, 5100);
    CHECK(subscribe(b, &(struct subscribing){.consumer = consumer, .subscriber = 2}, &second) == 0);
    run_ms(w, 100);
    CHECK(pushed(a, first, 0).ended == SLUICE_E_SUPERSEDED && subscriptions(w) == 1);
    CHECK(subscribe(a, &(struct subscribing){.consumer = consumer, .subscriber = 1, .age = 5200, .resumed = true}, &third) == SLUICE_E_SUPERSEDED);
    CHECK(subscribe(b, &(struct subscribing){.consumer = consumer, .subscriber = 2, .age = 100, .resumed = true}, &third) == 0);
    run_ms(w, 100);
    CHECK(pushed(b, second, 0).ended == SLUICE_E_SUPERSEDED && pushed(b, third, 0).next == 1 && subscriptions(w) == 1);
}

static unsigned moved(struct world *w, unsigned l)
{
    CHECK(group_transfer(shard_on(w, l)->group, 0, NULL, NULL) == 0);
    return await_leader(w, l);
}

/* A leader that is one no more says so; at the next one the subscriber has its place, and one that began earlier does not get it. */
STORY(leaders_change)
{
    world_open(w, 3);
    create_stream(w, 0, "s", 3);
    uint64_t consumer = register_consumer(w, 1, "c"), first, second, third;
    unsigned l = leader(w);
    struct client *a = dial(w, l), *b = dial(w, (l + 1) % 3), *d = dial(w, (l + 2) % 3);
    struct client *at[3];
    at[l] = a;
    at[(l + 1) % 3] = b;
    at[(l + 2) % 3] = d;
    CHECK(put(a, NULL, 0, 5).code == 0);
    CHECK(subscribe(a, &(struct subscribing){.consumer = consumer, .subscriber = 1}, &first) == 0);
    run_ms(w, 6000);
    unsigned next = moved(w, l);
    run_ms(w, 100);
    CHECK(pushed(a, first, 0).ended == SLUICE_E_NOT_LEADER && pushed(a, first, 0).next == 5 && subscriptions(w) == 0);
    struct client *n = at[next];
    CHECK(subscribe(n, &(struct subscribing){.consumer = consumer, .offset = 5, .subscriber = 1, .age = 6100, .resumed = true}, &second) == 0);
    CHECK(put(n, NULL, 0, 5).offset == 5);
    run_ms(w, 100);
    CHECK(pushed(n, second, 5).next == 10);
    /* It began long ago: another takes over without the wait. */
    CHECK(subscribe(n, &(struct subscribing){.consumer = consumer, .offset = 5, .subscriber = 2}, &third) == 0);
    run_ms(w, 100);
    CHECK(pushed(n, second, 5).ended == SLUICE_E_SUPERSEDED);
    unsigned last = moved(w, next);
    run_ms(w, 100);
    CHECK(pushed(n, third, 5).ended == SLUICE_E_NOT_LEADER);
    CHECK(subscribe(at[last], &(struct subscribing){.consumer = consumer, .offset = 10, .subscriber = 2, .age = 1000, .resumed = true}, &third) == 0);
    CHECK(subscribe(at[last], &(struct subscribing){.consumer = consumer, .offset = 10, .subscriber = 1, .age = 8000, .resumed = true}, &second) == SLUICE_E_SUPERSEDED);
}

/* The 5 s go on at the next leader, whatever the nodes' and the clients' wall clocks say, and also at one whose own clock is younger than the subscription. */
STORY(five_seconds_over_leaders)
{
    world_open(w, 3);
    create_stream(w, 0, "s", 3);
    uint64_t consumer = register_consumer(w, 1, "c"), first, second;
    unsigned l = leader(w);
    CHECK(subscribe(dial(w, l), &(struct subscribing){.consumer = consumer, .subscriber = 1}, &first) == 0);
    for (unsigned i = 0; i < 3; i++) {
        sim_host_set_clock(w->nodes[i].host, 3600000, 0);
    }
    unsigned next = moved(w, l);
    struct client *a = dial(w, next), *b = dial(w, next);
    CHECK(subscribe(a, &(struct subscribing){.consumer = consumer, .subscriber = 1, .age = 1000, .resumed = true}, &first) == 0);
    run_ms(w, 3500);
    CHECK(subscribe(b, &(struct subscribing){.consumer = consumer, .subscriber = 2}, &second) == SLUICE_E_IN_USE);
    for (unsigned i = 0; i < 3; i++) {
        sim_host_set_clock(w->nodes[i].host, -3600000, 0);
    }
    next = moved(w, next);
    a = dial(w, next);
    b = dial(w, next);
    CHECK(subscribe(a, &(struct subscribing){.consumer = consumer, .subscriber = 1, .age = UINT64_MAX, .resumed = true}, &first) == 0);
    CHECK(subscribe(b, &(struct subscribing){.consumer = consumer, .subscriber = 2}, &second) == 0);
    CHECK(subscribe(a, &(struct subscribing){.consumer = consumer, .subscriber = 1, .age = 1ull << 40, .resumed = true}, &first) == SLUICE_E_SUPERSEDED);
}

/* The consumer is removed; the shard is split; the stream is deleted. */
STORY(ends)
{
    world_open(w, 3);
    create_stream(w, 0, "s", 3);
    uint64_t gone = register_consumer(w, 1, "c"), stays = register_consumer(w, 1, "d"), third = register_consumer(w, 1, "e"), a, b, e;
    struct client *c = dial(w, leader(w));
    CHECK(put(c, NULL, 0, 5).code == 0);
    CHECK(subscribe(c, &(struct subscribing){.consumer = gone, .subscriber = 1}, &a) == 0);
    CHECK(subscribe(c, &(struct subscribing){.consumer = stays, .subscriber = 2}, &b) == 0);
    Sluice__ConsumerRemove m = SLUICE__CONSUMER_REMOVE__INIT;
    uint8_t id[16] = {77};
    m.stream = (char *)"s";
    m.name = (char *)"c";
    m.request_id = (ProtobufCBinaryData){.len = 16, .data = id};
    CHECK(client_await(c, client_send(c, FRAME_CONSUMER_REMOVE, &m, NULL, 0), 10000)->kind == FRAME_CONSUMER_REMOVE_REPLY);
    run_ms(w, 1000);
    CHECK(pushed(c, a, 0).ended == SLUICE_E_NOT_FOUND && pushed(c, b, 0).ended == 0 && pushed(c, b, 0).next == 5);
    Sluice__StreamReshard r = SLUICE__STREAM_RESHARD__INIT;
    r.name = (char *)"s";
    CHECK(client_await(c, client_send(c, FRAME_STREAM_RESHARD, &r, NULL, 0), 10000)->kind == FRAME_STREAM_RESHARD_REPLY);
    run_ms(w, 5000);
    struct pushes p = pushed(c, b, 0);
    CHECK(p.closed && p.n_children == 2 && p.ended == 0 && p.next == 5 && subscriptions(w) == 0);
    /* All of a closed shard with its last push; and again at its very end. */
    CHECK(subscribe(c, &(struct subscribing){.consumer = third, .subscriber = 3}, &e) == 0);
    run_ms(w, 100);
    p = pushed(c, e, 0);
    CHECK(p.closed && p.n_children == 2 && p.next == 5 && p.n == 1);
    run_ms(w, 5000);
    CHECK(subscribe(c, &(struct subscribing){.consumer = third, .subscriber = 4, .offset = 5}, &e) == 0);
    run_ms(w, 100);
    p = pushed(c, e, 5);
    CHECK(p.closed && p.n_children == 2 && p.next == 5 && p.empty == 1 && subscriptions(w) == 0);
}

STORY(stream_deleted)
{
    world_open(w, 3);
    create_stream(w, 0, "s", 3);
    uint64_t consumer = register_consumer(w, 1, "c"), sub;
    struct client *c = dial(w, leader(w));
    CHECK(subscribe(c, &(struct subscribing){.consumer = consumer, .subscriber = 1}, &sub) == 0);
    Sluice__StreamDelete m = SLUICE__STREAM_DELETE__INIT;
    uint8_t id[16] = {78};
    m.name = (char *)"s";
    m.request_id = (ProtobufCBinaryData){.len = 16, .data = id};
    CHECK(client_await(c, client_send(c, FRAME_STREAM_DELETE, &m, NULL, 0), 10000)->kind == FRAME_STREAM_DELETE_REPLY);
    run_ms(w, 3000);
    CHECK(pushed(c, sub, 0).ended == SLUICE_E_NOT_FOUND && subscriptions(w) == 0);
}

static void slow_rate(struct settings *s, unsigned node)
{
    (void)node;
    snprintf(s->limits, sizeof s->limits, "kinesis");
    s->shard_bytes_per_s = s->shard_records_per_s = 0;
    s->push_bytes_per_s = 100000;
}

/* Each consumer has a rate of its own. */
STORY(rate_limit)
{
    w->tune = slow_rate;
    world_open(w, 3);
    create_stream(w, 0, "s", 3);
    uint64_t one = register_consumer(w, 1, "c"), two = register_consumer(w, 1, "d"), a, b;
    struct client *p = dial(w, leader(w)), *c = dial(w, leader(w));
    for (unsigned i = 0; i < 100; i++) {
        put_send(p, NULL, 0, 1, 10000);
    }
    run_ms(w, 1000);
    CHECK(subscribe(c, &(struct subscribing){.consumer = one, .subscriber = 1, .credit = 10 << 20}, &a) == 0);
    CHECK(subscribe(c, &(struct subscribing){.consumer = two, .subscriber = 2, .credit = 10 << 20}, &b) == 0);
    run_ms(w, 4000);
    struct pushes x = pushed(c, a, 0), y = pushed(c, b, 0);
    CHECK(x.bytes >= 400000 && x.bytes <= 800000 && y.bytes >= 400000 && y.bytes <= 800000); /* a second's worth at once, then 100 KB a second, a push of 256 KiB ahead */
    run_ms(w, 8000);
    CHECK(pushed(c, a, 0).next == 100 && pushed(c, b, 0).next == 100);
}

/* What counts is what the records weigh unpacked. */
STORY(rate_of_compressed)
{
    w->tune = slow_rate;
    world_open(w, 3);
    create_stream(w, 0, "s", 3);
    uint64_t one = register_consumer(w, 1, "c"), a;
    struct client *p = dial(w, leader(w)), *c = dial(w, leader(w));
    for (unsigned i = 0; i < 150; i++) { /* a read takes 64 batches */
        put_send_as(p, NULL, 0, 1, 10000, true);
    }
    run_ms(w, 1000);
    CHECK(subscribe(c, &(struct subscribing){.consumer = one, .subscriber = 1, .credit = 10 << 20}, &a) == 0);
    run_ms(w, 4000);
    CHECK(pushed(c, a, 0).next == 64 && pushed(c, a, 0).bytes < 30000);
    run_ms(w, 12000);
    CHECK(pushed(c, a, 0).next == 150);
}

static void little_memory(struct settings *s, unsigned node)
{
    (void)node;
    s->fetch_memory = 1 << 20;
}

/* Who does not drain its socket holds what it has and nobody up; when it is gone so is what it held. */
STORY(hanging_subscribers)
{
    w->tune = little_memory;
    world_open(w, 3);
    create_stream(w, 0, "s", 3);
    uint64_t ids[8], sub;
    for (unsigned i = 0; i < 8; i++) {
        char name[8];
        snprintf(name, sizeof name, "%c", (char)('a' + i));
        ids[i] = register_consumer(w, 1, name);
    }
    unsigned l = leader(w);
    struct client *p = dial(w, l), *c = dial(w, l), *hang[7];
    for (unsigned i = 0; i < 100; i++) {
        put_send(p, NULL, 0, 1, 50000);
    }
    run_ms(w, 2000);
    for (unsigned i = 0; i < 7; i++) {
        hang[i] = dial(w, l);
        subscribe_send(hang[i], &(struct subscribing){.consumer = ids[i], .subscriber = 1, .credit = 100 << 20});
        env_conn_read(&hang[i]->conn, false);
    }
    run_ms(w, 1000);
    CHECK(subscribe(c, &(struct subscribing){.consumer = ids[7], .subscriber = 1, .credit = 100 << 20}, &sub) == 0);
    run_ms(w, 8000);
    CHECK(pushed(c, sub, 0).next == 100);
    for (unsigned i = 0; i < 7; i++) {
        if (!hang[i]->ended) {
            env_conn_close(&hang[i]->conn);
        }
    }
    env_conn_close(&c->conn);
    run_ms(w, 1000);
    CHECK(subscriptions(w) == 0 && w->nodes[l].node->lanes[0]->fetch_room.used == 0);
}

/* Who waits for memory is told that it is not forgotten. */
STORY(heartbeats_without_room)
{
    w->tune = little_memory;
    world_open(w, 3);
    create_stream(w, 0, "s", 3);
    uint64_t one = register_consumer(w, 1, "c"), two = register_consumer(w, 1, "d"), sub;
    unsigned l = leader(w);
    struct client *p = dial(w, l), *c = dial(w, l), *hang = dial(w, l);
    CHECK(client_await(p, put_send(p, NULL, 0, 1, 100000), 5000) != NULL);
    CHECK(client_await(p, put_send(p, NULL, 0, 1, 1000000), 5000) != NULL); /* no room for it beside the other one */
    subscribe_send(hang, &(struct subscribing){.consumer = one, .subscriber = 1});
    env_conn_read(&hang->conn, false);
    run_ms(w, 100);
    CHECK(subscribe(c, &(struct subscribing){.consumer = two, .offset = 1, .subscriber = 2, .credit = 2 << 20, .heartbeat = 100}, &sub) == 0);
    run_ms(w, 1050);
    struct pushes waiting = pushed(c, sub, 1);
    CHECK(waiting.next == 1 && waiting.empty >= 9 && waiting.empty <= 11 && w->nodes[l].node->lanes[0]->fetch_room.waiting == 1);
    env_conn_close(&hang->conn);
    run_ms(w, 50);
    CHECK(pushed(c, sub, 1).next == 2);
    env_conn_close(&c->conn);
    run_ms(w, 100);
    CHECK(subscriptions(w) == 0 && w->nodes[l].node->lanes[0]->fetch_room.used == 0);
}

static void stopped(void *arg) { env_stop(arg); }

/* A node that stops ends what it pushes, whatever the sockets do. */
STORY(node_stops)
{
    world_open(w, 3);
    create_stream(w, 0, "s", 3);
    uint64_t consumer = register_consumer(w, 1, "c"), other = register_consumer(w, 1, "d"), sub;
    unsigned l = leader(w);
    struct client *p = dial(w, l), *c = dial(w, l), *hang = dial(w, l);
    for (unsigned i = 0; i < 100; i++) {
        put_send(p, NULL, 0, 1, 50000);
    }
    run_ms(w, 2000);
    CHECK(subscribe(c, &(struct subscribing){.consumer = consumer, .subscriber = 1, .credit = 100 << 20}, &sub) == 0);
    subscribe_send(hang, &(struct subscribing){.consumer = other, .subscriber = 2, .credit = 100 << 20});
    env_conn_read(&hang->conn, false);
    run_ms(w, 100);
    node_stop(w->nodes[l].node, stopped, w->nodes[l].node->env);
    run_ms(w, 15000);
    CHECK(w->nodes[l].exits == 1 && w->nodes[l].exit_code == 0);
    CHECK(pushed(c, sub, 0).next <= 100);
}

/* Malformed ones change nothing. */
STORY(malformed)
{
    world_open(w, 3);
    create_stream(w, 0, "s", 3);
    uint64_t consumer = register_consumer(w, 1, "c"), sub;
    struct client *c = dial(w, leader(w));
    CHECK(subscribe(c, &(struct subscribing){.consumer = 0, .subscriber = 1}, &sub) == SLUICE_E_PROTOCOL);
    Sluice__Subscribe m = SLUICE__SUBSCRIBE__INIT;
    m.stream_id = (ProtobufCBinaryData){.len = 16, .data = w->stream_id};
    m.consumer_id = consumer;
    m.credit = 1;
    CHECK(decode(client_await(c, client_send(c, FRAME_SUBSCRIBE, &m, NULL, 0), 1000)).code == SLUICE_E_PROTOCOL); /* no subscriber */
    CHECK(subscribe(c, &(struct subscribing){.consumer = consumer, .subscriber = 1}, &sub) == 0);
    c->correlation = sub - 1; /* the same correlation id again */
    subscribe_send(c, &(struct subscribing){.consumer = consumer, .subscriber = 1});
    run_ms(w, 100);
    CHECK(c->got[c->n_got - 1].kind == FRAME_ERROR && subscriptions(w) == 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pushed_in_order), cmocka_unit_test(pushed_over_lanes), cmocka_unit_test(credit_holds), cmocka_unit_test(places), cmocka_unit_test(leaders_change), cmocka_unit_test(five_seconds_over_leaders),
        cmocka_unit_test(ends), cmocka_unit_test(stream_deleted), cmocka_unit_test(rate_limit), cmocka_unit_test(rate_of_compressed), cmocka_unit_test(heartbeats_without_room),
        cmocka_unit_test(hanging_subscribers), cmocka_unit_test(node_stops), cmocka_unit_test(malformed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
