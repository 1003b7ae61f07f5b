/* How a subscription ends, and what bad leaders can not make it do. */
#include "client_fake_subscriber.h"

/* ---- ends ------------------------------------------------------------------------------------------------------------------ */

static int refusal, refusals;
static int refuse(struct fake *f, struct fake_node *n, uint8_t kind, void *arg)
{
    (void)f;
    (void)n;
    (void)arg;
    if (kind != FRAME_SUBSCRIBE || refusals == 0) {
        return FAKE_SERVE;
    }
    refusals--;
    return refusal;
}

static void test_in_use_and_superseded_end_it(void **state)
{
    (void)state;
    struct subscribing *g = make();
    g->fake->on_call = refuse;
    refusal = SLUICE_E_IN_USE;
    refusals = 1;
    fake_fill(g->fake, 0, 1, 1);
    subscribe(g, NULL, (struct sluice_subscription_options){0});
    until_ended(g, SLUICE_E_IN_USE);
    assert_string_equal(g->message, "the fake says so");
    assert_true(fake_run(g->fake, 300));
    assert_int_equal(g->push->n_asked + g->started, 0); /* and it does not try again */
    finish(g);

    static const int codes[] = {SLUICE_E_SUPERSEDED, SLUICE_E_NOT_FOUND, SLUICE_E_EXPIRED};
    for (size_t i = 0; i < ARRAY_LEN(codes); i++) {
        g = over(NULL, (struct sluice_subscription_options){0}, 10, 10);
        deliver(g, 100);
        fake_push_all_end(g->push, codes[i]);
        until_ended(g, codes[i]);
        assert_string_equal(g->message, "the fake ends it");
        assert_false(g->shard_closed);
        fake_fill(g->fake, 0, 1, 1);
        assert_true(fake_run(g->fake, 300));
        assert_int_equal(g->push->n_asked, 1);
        finish(g);
    }
}

static void test_what_may_get_better_is_tried_again(void **state)
{
    (void)state;
    static const int codes[] = {SLUICE_E_NOT_READY, SLUICE_E_BUSY, SLUICE_E_NOT_LEADER, SLUICE_E_SHUTTING_DOWN};
    for (size_t i = 0; i < ARRAY_LEN(codes); i++) {
        struct subscribing *g = make();
        g->fake->on_call = refuse;
        refusal = codes[i];
        refusals = 3;
        fake_fill(g->fake, 0, 10, 10);
        subscribe(g, NULL, (struct sluice_subscription_options){0});
        deliver(g, 100);
        assert_int_equal(refusals, 0);
        assert_false(g->push->asked[0].resumed); /* it was surely not taken before */
        finish(g);
    }
}

/* The way breaks before the answer: perhaps it was taken, and then the place is its own. */
static void test_an_attempt_without_an_answer_may_have_been_taken(void **state)
{
    (void)state;
    struct subscribing *g = make();
    g->fake->on_call = refuse;
    refusal = FAKE_CUT;
    refusals = 1;
    fake_fill(g->fake, 0, 10, 10);
    subscribe(g, NULL, (struct sluice_subscription_options){0});
    deliver(g, 100);
    assert_true(g->push->asked[0].resumed);
    finish(g);
}

static void test_no_such_consumer_stream_or_shard(void **state)
{
    (void)state;
    struct subscribing *g = make();
    g->push->consumer_id = 0;
    subscribe(g, NULL, (struct sluice_subscription_options){0});
    until_ended(g, SLUICE_E_NOT_FOUND);
    assert_string_equal(g->message, "the stream has no such consumer");
    finish(g);

    g = make();
    g->fake->exists = false;
    subscribe(g, NULL, (struct sluice_subscription_options){0});
    until_ended(g, SLUICE_E_NOT_FOUND);
    finish(g);

    g = make(); /* deleted, and made anew under the same name: not what was meant */
    fake_fill(g->fake, 0, 1, 10);
    subscribe(g, NULL, (struct sluice_subscription_options){0});
    deliver(g, 10);
    g->fake->stream_id[0] ^= 1;
    g->fake->map_version++;
    fake_push_all_end(g->push, SLUICE_E_NOT_LEADER);
    until_ended(g, SLUICE_E_NOT_FOUND);
    finish(g);
}

static void test_the_end_of_a_closed_shard(void **state)
{
    (void)state;
    struct subscribing *g = over(NULL, (struct sluice_subscription_options){.credit = 1000}, 20, 10);
    deliver(g, 200);
    g->fake->shards[0].n_children = 2;
    g->fake->shards[0].children[0] = 1;
    g->fake->shards[0].children[1] = 2;
    fake_fill(g->fake, 0, 5, 10);
    g->fake->shards[0].open = false;
    until_ended(g, 0);
    assert_true(g->shard_closed);
    assert_int_equal(g->delivered, 250);
    assert_int_equal(g->n_children, 2);
    assert_int_equal(g->push->left, 0); /* nothing is to be told to a leader that has said its last word */
    finish(g);
}

/* The horizon moves on between the question for it and the subscription: only then it is asked for again. */
static int trim_once(struct fake *f, struct fake_node *n, uint8_t kind, void *arg)
{
    (void)n;
    (void)arg;
    if (kind == FRAME_SUBSCRIBE && f->shards[0].horizon == 0) {
        f->shards[0].horizon = 50;
    }
    return FAKE_SERVE;
}

static void test_trimmed_positions(void **state)
{
    (void)state;
    struct subscribing *g = make();
    g->fake->on_call = trim_once;
    g->next = 50;
    fake_fill(g->fake, 0, 10, 10);
    subscribe(g, NULL, (struct sluice_subscription_options){0});
    deliver(g, 50);
    finish(g);

    const struct sluice_position at = {.kind = SLUICE_AT_OFFSET, .offset = 20};
    g = make();
    g->fake->shards[0].horizon = 50;
    g->next = 20;
    fake_fill(g->fake, 0, 10, 10);
    subscribe(g, &at, (struct sluice_subscription_options){0});
    until_ended(g, SLUICE_E_EXPIRED);
    assert_int_equal(g->delivered, 0);
    finish(g);

    g = over(NULL, (struct sluice_subscription_options){0}, 10, 10); /* fallen behind: what it lacks is not left out */
    deliver(g, 100);
    g->push->mute = true;
    fake_fill(g->fake, 0, 10, 10);
    g->fake->shards[0].horizon = 150;
    g->push->mute = false;
    g->push->damage = DAMAGE_BODY; /* makes it subscribe again */
    g->push->damages = 1;
    until_ended(g, SLUICE_E_EXPIRED);
    assert_int_equal(g->delivered, 100);
    finish(g);
}

/* ---- bad leaders ----------------------------------------------------------------------------------------------------------- */

static void test_damage_is_not_delivered_and_mended_by_asking_again(void **state)
{
    (void)state;
    for (int damage = DAMAGE_NONE + 1; damage < DAMAGE_N; damage++) {
        struct subscribing *g = make();
        g->push->batches = 3;
        fake_fill(g->fake, 0, 40, 5);
        g->push->damage = damage;
        g->push->damages = 1;
        subscribe(g, NULL, (struct sluice_subscription_options){.heartbeat_ms = 200});
        g->stop_after = 200;
        bool late = fake_run(g->fake, 6000);
        if (late || g->delivered != 200 || g->push->n_asked < 2) {
            print_error("damage %d: %llu of 200 delivered, %u subscriptions, ended %d\n", damage, (unsigned long long)g->delivered, g->push->n_asked, g->code);
        }
        assert_false(late);
        assert_int_equal(g->delivered, 200);
        assert_true(g->push->n_asked >= 2);
        assert_resumed(g->push);
        finish(g);
    }
}

static void test_damage_that_stays_ends_it(void **state)
{
    (void)state;
    for (int damage = DAMAGE_NONE + 1; damage < DAMAGE_N; damage++) {
        struct subscribing *g = make();
        g->push->batches = 3;
        fake_fill(g->fake, 0, 10, 5);
        subscribe(g, NULL, (struct sluice_subscription_options){0});
        deliver(g, 50);
        g->push->damage = damage;
        g->push->damages = 1000;
        if (damage == DAMAGE_EARLY) {
            fake_push_all_end(g->push, SLUICE_E_NOT_LEADER);
        }
        fake_fill(g->fake, 0, 10, 5);
        until_ended(g, SLUICE_E_CORRUPT);
        assert_int_equal(g->delivered, 50);
        assert_true(g->push->n_asked >= 3 && g->push->n_asked < 20);
        assert_true(g->message[0] != '\0');
        finish(g);
    }
}

/* "This was all", and it was not: records would be left out and the children begun. */
static void test_an_early_end_is_damage(void **state)
{
    (void)state;
    struct subscribing *g = over(NULL, (struct sluice_subscription_options){0}, 10, 10);
    deliver(g, 100);
    g->push->mute = true;
    fake_fill(g->fake, 0, 10, 10);
    fake_push_all_end(g->push, 0);
    g->push->mute = false;
    deliver(g, 200);
    assert_false(g->ended);
    assert_resumed(g->push);
    finish(g);
}

/* A leader that ends it for damage of its own is no better: another attempt, a bounded number of them. */
static void test_a_leader_with_damage_of_its_own(void **state)
{
    (void)state;
    struct subscribing *g = over(NULL, (struct sluice_subscription_options){0}, 10, 10);
    deliver(g, 100);
    fake_push_all_end(g->push, SLUICE_E_CORRUPT);
    fake_fill(g->fake, 0, 10, 10);
    deliver(g, 200);
    assert_resumed(g->push);
    finish(g);

    g = make();
    g->fake->on_call = refuse;
    refusal = SLUICE_E_CORRUPT;
    refusals = 1000;
    subscribe(g, NULL, (struct sluice_subscription_options){0});
    until_ended(g, SLUICE_E_CORRUPT);
    assert_true(refusals > 980);
    finish(g);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_in_use_and_superseded_end_it),
        cmocka_unit_test(test_what_may_get_better_is_tried_again),
        cmocka_unit_test(test_an_attempt_without_an_answer_may_have_been_taken),
        cmocka_unit_test(test_no_such_consumer_stream_or_shard),
        cmocka_unit_test(test_the_end_of_a_closed_shard),
        cmocka_unit_test(test_trimmed_positions),
        cmocka_unit_test(test_damage_is_not_delivered_and_mended_by_asking_again),
        cmocka_unit_test(test_damage_that_stays_ends_it),
        cmocka_unit_test(test_an_early_end_is_damage),
        cmocka_unit_test(test_a_leader_with_damage_of_its_own),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
