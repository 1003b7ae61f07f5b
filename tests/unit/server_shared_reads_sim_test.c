/* Reads that share a shard's read limits: its leader alone answers them, so many calls and bytes a second; other readers are not counted. And what counts of puts. */
#include "server_cluster_fixture.h"

static void kinesis_limits(struct settings *s, unsigned node)
{
    (void)node;
    snprintf(s->limits, sizeof s->limits, "kinesis");
    s->shard_bytes_per_s = s->shard_records_per_s = 0; /* only reading is limited here */
}

static void no_limits(struct settings *s, unsigned node)
{
    (void)node;
    snprintf(s->limits, sizeof s->limits, "off");
}

struct shared { uint64_t offset; uint32_t max_bytes, max_records; bool continued, from_horizon, position; };

static struct answer ask(struct client *c, const struct shared *o, uint32_t *retry_ms)
{
    uint64_t id;
    if (o->position) {
        Sluice__Position m = SLUICE__POSITION__INIT;
        m.stream_id = (ProtobufCBinaryData){.len = 16, .data = c->w->stream_id};
        m.kind = SLUICE__POSITION__KIND__LATEST;
        m.shared = true;
        id = client_send(c, FRAME_POSITION, &m, NULL, 0);
    } else {
        Sluice__Fetch m = SLUICE__FETCH__INIT;
        m.stream_id = (ProtobufCBinaryData){.len = 16, .data = c->w->stream_id};
        m.offset = o->offset;
        m.max_bytes = o->max_bytes;
        m.max_records = o->max_records;
        m.shared = true;
        m.continued = o->continued;
        m.from_horizon = o->from_horizon;
        id = client_send(c, FRAME_FETCH, &m, NULL, 0);
    }
    const struct got *g = client_await(c, id, 5000);
    if (g != NULL && g->kind == FRAME_ERROR && retry_ms != NULL) {
        Sluice__Error *e = sluice__error__unpack(NULL, g->len, g->message);
        *retry_ms = e->retry_after_ms;
        CHECK(e->code != SLUICE_E_THROTTLED || strstr(e->message, "a second") != NULL);
        sluice__error__free_unpacked(e, NULL);
    }
    return decode(g);
}

static const struct shared plain = {.max_bytes = 1 << 20};

STORY(only_the_leader_answers)
{
    w->tune = kinesis_limits;
    world_open(w, 3);
    create_stream(w, 0, "s", 3);
    unsigned l = leader(w);
    CHECK(put(dial(w, l), NULL, 0, 10).code == 0);
    run_ms(w, 500);
    struct client *other = dial(w, (l + 1) % 3);
    CHECK(fetch(other, 0, 0).payload > 0);
    struct answer a = ask(other, &plain, NULL);
    CHECK(a.code == SLUICE_E_NOT_LEADER && a.leader == l + 1);
    a = ask(other, &(struct shared){.position = true}, NULL);
    CHECK(a.code == SLUICE_E_NOT_LEADER && a.leader == l + 1);
    CHECK(ask(dial(w, l), &plain, NULL).payload > 0);
}

STORY(calls_are_counted)
{
    w->tune = kinesis_limits;
    world_open(w, 3);
    create_stream(w, 0, "s", 3);
    struct client *c = dial(w, leader(w));
    CHECK(put(c, NULL, 0, 10).code == 0);
    for (unsigned i = 0; i < 5; i++) {
        CHECK(ask(c, &plain, NULL).code == 0);
    }
    uint32_t retry = 0;
    CHECK(ask(c, &plain, &retry).code == SLUICE_E_THROTTLED && retry > 0 && retry <= 200);
    CHECK(ask(c, &(struct shared){.max_bytes = 1, .continued = true}, NULL).code == 0); /* the rest of a call is none */
    for (unsigned i = 0; i < 20; i++) {
        CHECK(fetch(c, 0, 0).code == 0); /* nor is what other readers ask */
    }
    for (unsigned i = 0; i < 5; i++) { /* positions have a bucket of their own */
        CHECK(ask(c, &(struct shared){.position = true}, NULL).offset == 10);
    }
    CHECK(ask(c, &(struct shared){.position = true}, &retry).code == SLUICE_E_THROTTLED);
    run_ms(w, retry + 1);
    CHECK(ask(c, &plain, NULL).code == 0);
    run_ms(w, 5000);
    unsigned taken = 0;
    for (unsigned i = 0; i < 8; i++) {
        taken += ask(c, &plain, NULL).code == 0;
    }
    CHECK(taken == 5); /* no more than one second's worth is saved up */
}

/* An answer of 8 MiB: nothing more before it is paid back, at 2 MiB a second of which one second's worth was there. */
STORY(bytes_are_paid_back)
{
    w->tune = kinesis_limits;
    world_open(w, 3);
    create_stream(w, 0, "s", 3);
    struct client *c = dial(w, leader(w));
    for (unsigned i = 0; i < 16; i++) {
        CHECK(decode(client_await(c, put_send(c, NULL, i, 1, 512 << 10), 5000)).code == 0);
    }
    run_ms(w, 2000);
    /* Of a batch in part its share: 2 of 10 records. */
    CHECK(put(c, NULL, 0, 10).code == 0);
    for (unsigned i = 0; i < 3; i++) {
        CHECK(ask(c, &(struct shared){.offset = 16, .max_bytes = 1 << 20, .max_records = 2}, NULL).code == 0);
    }
    struct answer a = ask(c, &(struct shared){.max_bytes = 10 << 20}, NULL);
    CHECK(a.code == 0 && a.payload > 8 << 20);
    uint32_t retry = 0;
    CHECK(ask(c, &plain, &retry).code == SLUICE_E_THROTTLED && retry > 2500 && retry < 3500);
    CHECK(fetch(c, 0, 0).code == 0);
    run_ms(w, 2000);
    CHECK(ask(c, &plain, &retry).code == SLUICE_E_THROTTLED);
    run_ms(w, retry + 1);
    CHECK(ask(c, &plain, NULL).code == 0);
}

STORY(one_answer_has_so_many_records)
{
    w->tune = kinesis_limits;
    world_open(w, 3);
    create_stream(w, 0, "s", 3);
    struct client *c = dial(w, leader(w));
    for (unsigned i = 0; i < 15; i++) {
        CHECK(decode(client_await(c, put_send(c, NULL, i, 1000, 1), 5000)).code == 0);
    }
    CHECK(ask(c, &plain, NULL).next == 10000);
    CHECK(ask(c, &(struct shared){.max_bytes = 1 << 20, .max_records = 20000}, NULL).next == 10000);
    CHECK(ask(c, &(struct shared){.max_bytes = 1 << 20, .max_records = 1500}, NULL).next == 2000); /* whole batches */
    CHECK(fetch(c, 0, 0).next == 15000);
}

static void lifted(struct world *w)
{
    world_open(w, 3);
    create_stream(w, 0, "s", 3);
    struct client *c = dial(w, leader(w));
    CHECK(put(c, NULL, 0, 10).code == 0);
    for (unsigned i = 0; i < 30; i++) {
        CHECK(ask(c, &plain, NULL).code == 0);
        CHECK(ask(c, &(struct shared){.position = true}, NULL).code == 0);
    }
}

static void lifted_on_the_node(struct world *w)
{
    w->tune = no_limits;
    lifted(w);
}

static void not_lifted(struct world *w)
{
    w->tune = kinesis_limits;
    lifted(w);
}

static void limits_can_be_lifted(void **state)
{
    (void)state;
    assert_true(story_holds(lifted_on_the_node, 1));
    assert_false(story_holds(not_lifted, 1));
}

/* What was trimmed is an error, or where the oldest record is now, as the reader wishes. */
STORY(from_the_trim_horizon)
{
    w->tune = no_limits;
    world_open(w, 3);
    create_stream(w, 0, "s", 3);
    struct client *c = dial(w, leader(w));
    CHECK(put(c, NULL, 0, 10).code == 0);
    for (unsigned i = 0; i < 3; i++) { /* a day passes on all clocks */
        sim_host_set_clock(w->nodes[i].host, 25ll * 3600 * 1000, 0);
    }
    run_ms(w, 60000);
    c = dial(w, leader(w));
    CHECK(put(c, NULL, 0, 5).offset == 10);
    CHECK(ask(c, &(struct shared){.offset = 3, .max_bytes = 1}, NULL).code == SLUICE_E_EXPIRED);
    struct answer a = ask(c, &(struct shared){.offset = 3, .max_bytes = 1, .from_horizon = true}, NULL);
    CHECK(a.code == 0 && a.first == 10 && a.next == 15);
    a = ask(c, &(struct shared){.offset = 12, .max_bytes = 1, .from_horizon = true}, NULL);
    CHECK(a.code == 0 && a.next == 15);
}

static void slow_puts(struct settings *s, unsigned node)
{
    (void)node;
    snprintf(s->limits, sizeof s->limits, "kinesis");
    s->shard_bytes_per_s = 10000;
    s->shard_records_per_s = 0;
}

/* Of a put count keys and data, not what stands around them. */
STORY(puts_weigh_keys_and_data)
{
    w->tune = slow_puts;
    world_open(w, 3);
    create_stream(w, 0, "s", 3);
    struct client *c = dial(w, leader(w));
    for (unsigned i = 0; i < 2; i++) { /* 4,000 bytes each */
        CHECK(decode(client_await(c, put_send(c, NULL, 0, 1000, 1), 5000)).code == 0);
    }
    CHECK(decode(client_await(c, put_send(c, NULL, 0, 1000, 1), 5000)).code == SLUICE_E_THROTTLED);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(only_the_leader_answers), cmocka_unit_test(calls_are_counted), cmocka_unit_test(bytes_are_paid_back),
        cmocka_unit_test(one_answer_has_so_many_records), cmocka_unit_test(limits_can_be_lifted), cmocka_unit_test(from_the_trim_horizon), cmocka_unit_test(puts_weigh_keys_and_data),
    };
    if (argc > 1) {
        cmocka_set_test_filter(argv[1]);
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
