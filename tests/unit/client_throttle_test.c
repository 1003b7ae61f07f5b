/* A producer that tells throttled records instead of sending them again: what is told as rejected is not in the store, what stands behind goes on, in order and once. */
#include "client_load.h"

static const struct sluice_producer_options no_wait = {.batch_bytes = 512, .no_throttle_wait = true};

static int throttle_third(struct fake *f, struct fake_node *n, struct fake_shard *s, const struct batch_header *h, void *arg)
{
    (void)f;
    (void)n;
    (void)s;
    (void)h;
    unsigned *puts = arg;
    return ++*puts == 3 ? SLUICE_E_THROTTLED : FAKE_SERVE;
}

/* The third batch is throttled while those behind it are in flight: they are refused as gaps, and come in a new epoch. */
static void test_followers_in_flight_go_on(void **state)
{
    (void)state;
    struct fake *f = fake_open(1);
    unsigned puts = 0;
    f->on_put = throttle_third;
    f->arg = &puts;
    struct load *l = load_open(f, 1000, &no_wait, NULL);
    uint64_t start = env_now_ns(f->env);
    assert_false(fake_run(f, 5000));
    assert_true(l->failed > 0 && l->failed < 100); /* one batch */
    assert_int_equal(l->acked + l->failed, 1000);
    assert_int_equal(l->last_code, SLUICE_E_THROTTLED);
    assert_true(env_now_ns(f->env) - start < 2000000000u);
    look(l);
    assert_int_equal(l->in_store, l->acked);
    struct sluice_producer_stats stats;
    sluice_producer_stats(l->producer, &stats);
    assert_int_equal(stats.epochs, 1);
    assert_true(stats.batches_resent > 0);
    load_close(l);
}

static int throttle_all_but_ten(struct fake *f, struct fake_node *n, struct fake_shard *s, const struct batch_header *h, void *arg)
{
    (void)f;
    (void)n;
    (void)h;
    (void)arg;
    return s->n_batches < 10 ? FAKE_SERVE : SLUICE_E_THROTTLED;
}

/* A limit that stays: every record is told soon, and no batch travels more often than it must. */
static void test_a_lasting_limit_rejects_the_rest(void **state)
{
    (void)state;
    struct fake *f = fake_open(1);
    f->on_put = throttle_all_but_ten;
    struct load *l = load_open(f, 3000, &no_wait, NULL);
    assert_false(fake_run(f, 5000));
    assert_int_equal(l->acked + l->failed, 3000);
    assert_int_equal(f->shards[0].n_batches, 10);
    look(l);
    struct sluice_producer_stats stats;
    sluice_producer_stats(l->producer, &stats);
    assert_true(stats.batches_resent <= 5); /* what was in flight behind the first that met the limit */
    assert_int_equal(stats.unknown, 0);
    load_close(l);
}

/* Whether it waits is the option's choice. */
static void test_without_the_option_all_are_taken(void **state)
{
    (void)state;
    struct fake *f = fake_open(1);
    unsigned puts = 0;
    f->on_put = throttle_third;
    f->arg = &puts;
    struct load *l = load_open(f, 1000, NULL, NULL);
    assert_false(fake_run(f, 5000));
    assert_int_equal(l->acked, 1000);
    look(l);
    load_close(l);
}

struct resend { unsigned sent, throttled; int first; };

static int lost_then_throttled(struct fake *f, struct fake_node *n, struct fake_shard *s, const struct batch_header *h, void *arg)
{
    (void)f;
    (void)n;
    (void)s;
    struct resend *a = arg;
    if (h->producer_epoch != 0 || h->producer_sequence != 2) {
        return FAKE_SERVE;
    }
    if (a->sent++ == 0) {
        return a->first;
    }
    return a->throttled++ < 3 ? SLUICE_E_THROTTLED : FAKE_SERVE;
}

static void throttled_after_a_lost_answer(int first)
{
    struct fake *f = fake_open(1);
    struct resend a = {.first = first};
    f->on_put = lost_then_throttled;
    f->arg = &a;
    struct load *l = load_open(f, 1000, &no_wait, NULL);
    assert_false(fake_run(f, 5000));
    assert_int_equal(a.throttled, 4);
    assert_int_equal(l->acked, 1000); /* THROTTLED did not turn what was in doubt into a rejection */
    look(l);
    assert_int_equal(l->in_store, 1000);
    load_close(l);
}

/* The connection broke: the batch may be there. It is sent again through the limit until that is known. */
static void test_what_is_in_doubt_is_not_rejected(void **state)
{
    (void)state;
    throttled_after_a_lost_answer(FAKE_APPLY_CUT);
    throttled_after_a_lost_answer(FAKE_CUT);
}

static int refused_then_throttled(struct fake *f, struct fake_node *n, struct fake_shard *s, const struct batch_header *h, void *arg)
{
    (void)f;
    (void)n;
    (void)s;
    struct resend *a = arg;
    if (h->producer_epoch != 0 || h->producer_sequence != 2) {
        return FAKE_SERVE;
    }
    return a->sent++ == 0 ? SLUICE_E_NOT_READY : SLUICE_E_THROTTLED;
}

/* A batch that surely was not taken the first time may be rejected the second time. */
static void test_throttled_after_a_sure_refusal(void **state)
{
    (void)state;
    struct fake *f = fake_open(1);
    struct resend a = {0};
    f->on_put = refused_then_throttled;
    f->arg = &a;
    struct load *l = load_open(f, 1000, &no_wait, NULL);
    assert_false(fake_run(f, 5000));
    assert_int_equal(a.sent, 2);
    assert_true(l->failed > 0);
    assert_int_equal(l->acked + l->failed, 1000);
    look(l);
    load_close(l);
}

static int trouble(struct fake *f, struct fake_node *n, struct fake_shard *s, const struct batch_header *h, void *arg)
{
    (void)n;
    (void)h;
    (void)s;
    unsigned *left = arg;
    uint64_t dice = env_random_below(f->env, 16);
    if (*left == 0 || dice >= 9) {
        return FAKE_SERVE;
    }
    --*left;
    switch (dice) {
    case 0: return SLUICE_E_NOT_READY;
    case 1: return FAKE_APPLY_CUT;
    case 2: return FAKE_CUT;
    case 3: return SLUICE_E_UNKNOWN_OUTCOME;
    case 4: return SLUICE_E_NOT_LEADER;
    default: return SLUICE_E_THROTTLED;
    }
}

static void test_nothing_is_lost_or_doubled_in_trouble(void **state)
{
    (void)state;
    for (unsigned run = 0; run < 8; run++) {
        struct fake *f = fake_open(3);
        f->n_lanes = run % 2 * 3;
        unsigned left = 60;
        f->on_put = trouble;
        f->arg = &left;
        struct load *l = load_open(f, 3000, &no_wait, NULL);
        assert_false(fake_run(f, 30000));
        assert_int_equal(l->acked + l->failed, 3000);
        assert_int_equal(l->unknown, 0);
        look(l);
        assert_int_equal(l->in_store, l->acked);
        load_close(l);
    }
}

/* The incarnation that is meant is given: the one that has the name now is not written to. */
static void test_another_incarnation_is_not_written_to(void **state)
{
    (void)state;
    struct fake *f = fake_open(1);
    uint8_t other[16];
    memcpy(other, f->stream_id, sizeof other);
    other[0] ^= 1;
    const struct sluice_producer_options o = {.stream_id = other};
    struct load *l = load_open(f, 10, &o, NULL);
    assert_true(l->busy_seen);
    assert_false(fake_run(f, 5000));
    assert_int_equal(sluice_producer_error(l->producer, NULL), SLUICE_E_NOT_FOUND);
    assert_int_equal(f->shards[0].n_batches, 0);
    load_close(l);
    /* It comes with a newer map. */
    f = fake_open(1);
    memcpy(other, f->stream_id, sizeof other);
    f->stream_id[0] ^= 1;
    l = load_open(f, 10, &o, NULL);
    assert_true(fake_run(f, 150));
    f->stream_id[0] ^= 1;
    f->map_version++;
    assert_false(fake_run(f, 5000));
    assert_int_equal(l->acked, 10);
    load_close(l);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_followers_in_flight_go_on),
        cmocka_unit_test(test_a_lasting_limit_rejects_the_rest),
        cmocka_unit_test(test_without_the_option_all_are_taken),
        cmocka_unit_test(test_what_is_in_doubt_is_not_rejected),
        cmocka_unit_test(test_throttled_after_a_sure_refusal),
        cmocka_unit_test(test_nothing_is_lost_or_doubled_in_trouble),
        cmocka_unit_test(test_another_incarnation_is_not_written_to),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
