/* A subscription against a fake cluster: order, credit, changes of leaders, closing. */
#include "client_fake_subscriber.h"

/* ---- in order -------------------------------------------------------------------------------------------------------------- */

static void test_all_from_the_horizon_and_what_comes_later(void **state)
{
    (void)state;
    struct subscribing *g = over(NULL, (struct sluice_subscription_options){.credit = 3000, .heartbeat_ms = 50}, 300, 7);
    deliver(g, 2100);
    assert_false(g->started_caught_up);
    assert_true(fake_run(g->fake, 200));
    assert_true(g->beats >= 2);
    assert_true(g->caught_up);
    fake_fill(g->fake, 0, 20, 3);
    deliver(g, 2160);
    assert_int_equal(g->push->n_asked, 1);
    assert_int_equal(g->push->asked[0].consumer, FAKE_CONSUMER);
    assert_int_equal(g->push->asked[0].map_version, 9); /* of the answer that named the consumer */
    assert_int_equal(g->push->asked[0].credit, 3000);
    assert_int_equal(g->push->asked[0].age_ms, 0);
    finish(g);
}

static void test_positions(void **state)
{
    (void)state;
    const struct sluice_position middle = {.kind = SLUICE_AT_OFFSET, .offset = 33}, latest = {.kind = SLUICE_LATEST};
    struct subscribing *g = make();
    g->next = 33; /* in the middle of a batch, which is pushed whole */
    fake_fill(g->fake, 0, 10, 10);
    subscribe(g, &middle, (struct sluice_subscription_options){.consumer_id = 4, .map_version = 3});
    deliver(g, 67);
    assert_int_equal(g->push->lists, 0); /* it was told which consumer it is */
    assert_int_equal(g->push->asked[0].consumer, 4);
    assert_int_equal(g->push->asked[0].map_version, 3);
    finish(g);

    char text[SEQNO_TEXT_MAX];
    const struct seqno q = {.shard_created_s = 1000, .shard = 0, .offset = 37, .time_s = 1700000000};
    seqno_format(&q, text);
    struct sluice_position after = {.kind = SLUICE_AFTER_SEQUENCE, .sequence = text};
    g = make();
    g->next = 38;
    fake_fill(g->fake, 0, 10, 10);
    subscribe(g, &after, (struct sluice_subscription_options){0});
    memset(text, 0, sizeof text); /* it has a copy */
    deliver(g, 62);
    finish(g);

    g = make();
    g->next = 100;
    fake_fill(g->fake, 0, 10, 10);
    subscribe(g, &latest, (struct sluice_subscription_options){0});
    assert_true(fake_run(g->fake, 100));
    assert_true(g->started == 1 && g->started_caught_up); /* an idle shard is known to be so without waiting for a heartbeat */
    fake_fill(g->fake, 0, 1, 5);
    deliver(g, 5);
    finish(g);
}

static void test_arguments(void **state)
{
    (void)state;
    struct subscribing *g = make();
    const struct sluice_position horizon = {.kind = SLUICE_TRIM_HORIZON}, wrong = {.kind = SLUICE_AT_SEQUENCE, .sequence = "12x"}, none = {.kind = SLUICE_AFTER_SEQUENCE};
    const struct sluice_subscription_options good = {.consumer = "c", .pushed = pushed, .ended = ended}, nobody = {.pushed = pushed, .ended = ended},
                                             deaf = {.consumer = "c", .ended = ended};
    struct sluice_subscription *u;
    assert_int_equal(sluice_subscription_open(g->client, "s", 0, &wrong, &good, &u), SLUICE_E_INVALID);
    assert_int_equal(sluice_subscription_open(g->client, "s", 0, &none, &good, &u), SLUICE_E_INVALID);
    assert_int_equal(sluice_subscription_open(g->client, "s", 0, &horizon, &nobody, &u), SLUICE_E_INVALID);
    assert_int_equal(sluice_subscription_open(g->client, "s", 0, &horizon, &deaf, &u), SLUICE_E_INVALID);
    assert_int_equal(sluice_subscription_open(g->client, "", 0, &horizon, &good, &u), SLUICE_E_INVALID);
    g->closed = true;
    finish(g);
}

/* ---- credit ---------------------------------------------------------------------------------------------------------------- */

static void test_what_is_held_is_bounded_by_the_credit(void **state)
{
    (void)state;
    struct subscribing *g = make();
    g->hold = true;
    fake_fill(g->fake, 0, 400, 5);
    subscribe(g, NULL, (struct sluice_subscription_options){.credit = 2000, .heartbeat_ms = 5000});
    uint64_t batch = g->fake->shards[0].batches[399].len, given = 0;
    assert_true(fake_run(g->fake, 150));
    uint64_t first = g->held;
    assert_true(first >= 2000 && first < 2000 + batch);
    assert_true(fake_run(g->fake, 50));
    assert_int_equal(g->held, first); /* nothing more */
    sluice_subscription_credit(g->subscription, 100); /* too little to be worth a word */
    given += 100;
    g->held -= 100;
    assert_true(fake_run(g->fake, 30));
    assert_int_equal(g->push->credits, 0);
    while (g->delivered < 2000) {
        uint64_t all = g->held;
        sluice_subscription_credit(g->subscription, UINT64_MAX); /* no more than there was */
        g->held = 0;
        given += all;
        uint64_t before = g->delivered;
        assert_true(fake_run(g->fake, 20));
        assert_true(g->delivered > before);
        assert_true(g->held < 2000 + batch);
    }
    assert_true(g->push->credit_most <= 2000);
    assert_int_equal(g->push->n_asked, 1);
    assert_true(given > 20000);
    finish(g);
}

static void test_credit_flows_by_itself_in_few_words(void **state)
{
    (void)state;
    struct subscribing *g = make();
    g->push->batches = 1;
    fake_fill(g->fake, 0, 1000, 5);
    subscribe(g, NULL, (struct sluice_subscription_options){.credit = 8000});
    deliver(g, 5000);
    assert_true(g->push->credit_most <= 8000);
    assert_true(g->push->credits >= 10 && g->push->credits < 100); /* of a thousand pushes */
    finish(g);
}

/* A new leader is given what is not held already: the bound is the client's memory, not the leader's. */
static void test_what_is_held_counts_at_the_next_leader(void **state)
{
    (void)state;
    struct subscribing *g = make();
    g->hold = true;
    g->push->batches = 1;
    fake_fill(g->fake, 0, 100, 5);
    subscribe(g, NULL, (struct sluice_subscription_options){.credit = 3000});
    uint64_t batch = g->fake->shards[0].batches[99].len;
    assert_true(fake_run(g->fake, 150));
    uint64_t held = g->held;
    assert_true(held >= 3000);
    sluice_subscription_credit(g->subscription, 500); /* not told to the old leader: less than a quarter */
    g->held -= 500;
    fake_lead(g->fake, 0, 2);
    assert_true(fake_run(g->fake, 500));
    assert_int_equal(g->push->n_asked, 2);
    assert_int_equal(g->push->asked[1].credit, 3000 > held - 500 ? 3000 - (held - 500) : 1);
    assert_true(g->held < 3000 + batch);
    assert_resumed(g->push);
    /* And what was given back before counts once. */
    sluice_subscription_credit(g->subscription, UINT64_MAX);
    g->held = 0;
    assert_true(fake_run(g->fake, 100));
    assert_true(g->held < 3000 + batch && g->held > 0);
    assert_true(g->push->credit_most <= 3000);
    finish(g);
}

/* ---- leaders --------------------------------------------------------------------------------------------------------------- */

static void test_goes_on_at_the_next_leader(void **state)
{
    (void)state;
    struct subscribing *g = over(NULL, (struct sluice_subscription_options){0}, 10, 10);
    deliver(g, 100);
    fake_lead(g->fake, 0, 2); /* the old one ends it, and knows who leads */
    fake_fill(g->fake, 0, 10, 10);
    deliver(g, 200);
    g->fake->hide_leader = true; /* or does not */
    fake_lead(g->fake, 0, 3);
    assert_true(fake_run(g->fake, 100));
    g->fake->hide_leader = false;
    fake_fill(g->fake, 0, 10, 10);
    deliver(g, 300);
    fake_node_kill(&g->fake->nodes[2]);
    fake_lead(g->fake, 0, 1);
    fake_fill(g->fake, 0, 10, 10);
    deliver(g, 400);
    assert_int_equal(g->push->n_asked, 4);
    assert_resumed(g->push);
    assert_int_equal(g->push->lists, 1); /* the consumer's number does not change */
    finish(g);
}

/* Stopped, not dead: nothing is reset. The connection's silence tells. */
static void test_a_leader_that_is_silent_is_left(void **state)
{
    (void)state;
    struct subscribing *g = over(NULL, (struct sluice_subscription_options){.heartbeat_ms = 60000}, 10, 10);
    deliver(g, 100);
    fake_node_pause(&g->fake->nodes[0], true);
    fake_lead(g->fake, 0, 2);
    fake_fill(g->fake, 0, 10, 10);
    deliver(g, 200);
    assert_resumed(g->push);
    finish(g);
}

/* It answers pings, but the subscription is forgotten: three heartbeats are missing. */
static void test_missing_heartbeats_are_noticed(void **state)
{
    (void)state;
    struct subscribing *g = over(NULL, (struct sluice_subscription_options){.heartbeat_ms = 100}, 10, 10);
    deliver(g, 100);
    assert_true(fake_run(g->fake, 2000)); /* with them it stays */
    assert_int_equal(g->push->n_asked, 1);
    assert_true(g->beats >= 10);
    g->push->mute = true;
    uint64_t at = env_now_ns(g->fake->env);
    while (g->push->n_asked == 1 && env_now_ns(g->fake->env) - at < 5000000000u) {
        fake_run(g->fake, 20);
    }
    uint64_t ms = (env_now_ns(g->fake->env) - at) / 1000000;
    assert_int_equal(g->push->n_asked, 2);
    assert_true(ms >= 1000 && ms < 3000); /* 3 of them and a second */
    g->push->mute = false;
    fake_fill(g->fake, 0, 10, 10);
    deliver(g, 200);
    assert_resumed(g->push);
    assert_false(g->ended);
    finish(g);
}

static void test_connections_that_break_all_the_time(void **state)
{
    (void)state;
    struct subscribing *g = make();
    fake_fill(g->fake, 0, 200, 3);
    g->push->batches = 3;
    g->push->cut_every = 7;
    subscribe(g, NULL, (struct sluice_subscription_options){.credit = 1500});
    for (unsigned i = 0; g->delivered < 600 && i < 300; i++) {
        fake_lead(g->fake, 0, i % 2 + 1);
        fake_run(g->fake, 40);
        g->stop_after = 600;
    }
    assert_int_equal(g->delivered, 600);
    assert_true(g->push->n_asked > 5);
    assert_resumed(g->push);
    finish(g);
}

static void test_without_any_leader_it_ends_in_time(void **state)
{
    (void)state;
    struct subscribing *g = over(NULL, (struct sluice_subscription_options){.timeout_ms = 1000, .heartbeat_ms = 100}, 10, 10);
    deliver(g, 100);
    g->fake->hide_leader = true;
    g->fake->shards[0].leader = 0;
    uint64_t at = env_now_ns(g->fake->env);
    until_ended(g, SLUICE_E_NOT_LEADER);
    uint64_t ms = (env_now_ns(g->fake->env) - at) / 1000000;
    assert_true(ms >= 800 && ms < 5000);
    assert_false(g->shard_closed);
    finish(g);

    g = over(NULL, (struct sluice_subscription_options){.timeout_ms = 500}, 10, 10);
    deliver(g, 100);
    for (unsigned i = 0; i < FAKE_NODES; i++) {
        fake_node_kill(&g->fake->nodes[i]);
    }
    until_ended(g, SLUICE_E_NO_CONNECTION);
    finish(g);
}

/* ---- closing --------------------------------------------------------------------------------------------------------------- */

static void test_closing_at_any_time(void **state)
{
    (void)state;
    for (unsigned ms = 0; ms < 25; ms++) { /* before the map, while the consumer or the position is asked for, while it is subscribed */
        struct subscribing *g = over(NULL, (struct sluice_subscription_options){.credit = 500}, 100, 10);
        if (ms > 0) {
            fake_run(g->fake, ms / 2);
        }
        sluice_subscription_close(g->subscription);
        g->closed = true;
        assert_true(fake_run(g->fake, 20));
        assert_int_equal(fake_push_subs(g->push), 0); /* the leader was told */
        finish(g);
    }
}

static void test_closing_in_callbacks(void **state)
{
    (void)state;
    for (unsigned which = 0; which < 4; which++) {
        struct subscribing *g = make();
        g->close_in_started = which == 0;
        g->close_in_pushed = which == 1 || which == 2;
        g->hold = which == 2;
        g->close_in_ended = which == 3;
        fake_fill(g->fake, 0, 20, 10);
        g->fake->shards[0].open = which == 1; /* the last push may be the one in which it is closed */
        g->push->batches = which == 1 ? 1 : 0;
        subscribe(g, NULL, (struct sluice_subscription_options){0});
        assert_false(fake_run(g->fake, 3000));
        assert_true(g->closed);
        fake_fill(g->fake, 0, 20, 10);
        fake_run(g->fake, 60); /* no callback after it: they assert that */
        assert_int_equal(fake_push_subs(g->push), 0);
        finish(g);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_all_from_the_horizon_and_what_comes_later),
        cmocka_unit_test(test_positions),
        cmocka_unit_test(test_arguments),
        cmocka_unit_test(test_what_is_held_is_bounded_by_the_credit),
        cmocka_unit_test(test_credit_flows_by_itself_in_few_words),
        cmocka_unit_test(test_what_is_held_counts_at_the_next_leader),
        cmocka_unit_test(test_goes_on_at_the_next_leader),
        cmocka_unit_test(test_a_leader_that_is_silent_is_left),
        cmocka_unit_test(test_missing_heartbeats_are_noticed),
        cmocka_unit_test(test_connections_that_break_all_the_time),
        cmocka_unit_test(test_without_any_leader_it_ends_in_time),
        cmocka_unit_test(test_closing_at_any_time),
        cmocka_unit_test(test_closing_in_callbacks),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
