/* The producer against a fake cluster: every accepted record is completed once, acknowledged ones are in the store exactly once, and the order
 * per shard holds through errors, broken connections, lost answers, silent and changing leaders, forgotten producers and a reshard. */
#include "client_load.h"

/* ---- the plain course ---- */

static void test_all_are_acknowledged_in_order(void **state)
{
    (void)state;
    struct load *l = load_open(fake_open(4), 10000, NULL, NULL);
    assert_false(fake_run(l->fake, 10000));
    assert_int_equal(l->acked, 10000);
    look(l);
    assert_int_equal(l->in_store, 10000);
    for (unsigned s = 0; s < 4; s++) {
        assert_true(l->fake->shards[s].n_batches > 0); /* the fake refuses what is not the shard's */
    }
    assert_int_equal(l->fake->dup_offsets, 0);
    load_close(l);
}

/* Puts 50 more records, n times, with pauses in which connections can be made. */
static void put_slowly(struct load *l, unsigned n)
{
    for (unsigned i = 0; i < n; i++) {
        l->total += 50;
        feed(l);
        assert_false(fake_run(l->fake, 5000));
        fake_run(l->fake, 10);
    }
}

/* A node's lanes have connections of their own: each shard's puts go to its lane, once that is known and connected, and their order holds. */
static void test_each_lane_has_a_connection(void **state)
{
    (void)state;
    struct fake *f = fake_open(4);
    f->n_lanes = 3;
    struct load *l = load_open(f, 1000, NULL, NULL);
    assert_false(fake_run(f, 10000));
    put_slowly(l, 30);
    for (unsigned i = 0; i < FAKE_NODES; i++) {
        f->nodes[i].crossed = 0;
    }
    l->total += 5000;
    feed(l);
    assert_false(fake_run(f, 10000));
    assert_int_equal(l->acked, l->total);
    look(l);
    for (unsigned i = 0; i < FAKE_NODES; i++) {
        assert_int_equal(f->nodes[i].crossed, 0);
        assert_true(f->nodes[i].accepted <= 2 * 3);
    }
    assert_int_equal(f->dup_offsets, 0);
    struct sluice_producer_stats stats;
    sluice_producer_stats(l->producer, &stats);
    assert_int_equal(stats.batches_resent, 0);
    load_close(l);
}

/* Which lane gets a connection is the system's choice: one that is not got is not sought for ever. */
static void test_a_lane_that_is_not_got(void **state)
{
    (void)state;
    struct fake *f = fake_open(2);
    f->n_lanes = 2;
    f->first_lane_only = true;
    uint64_t begun = env_now_ns(f->env);
    struct load *l = load_open(f, 1, NULL, NULL);
    put_slowly(l, 100);
    assert_int_equal(l->acked, l->total);
    look(l);
    uint64_t most = 0, seconds = (env_now_ns(f->env) - begun) / 1000000000u;
    for (unsigned i = 0; i < FAKE_NODES; i++) {
        most = f->nodes[i].accepted > most ? f->nodes[i].accepted : most;
    }
    assert_true(most > 3 && most <= 14 * (1 + seconds / 5));
    load_close(l);
}

/* Shows that a lone record is sent at once and that gathering makes few batches of many records. */
static void test_batches_grow_with_the_load(void **state)
{
    (void)state;
    const struct sluice_producer_options o = {.batch_bytes = 16384};
    struct load *l = load_open(fake_open(1), 1, &o, NULL);
    assert_false(fake_run(l->fake, 2000));
    l->total = 5000;
    feed(l);
    assert_false(fake_run(l->fake, 5000));
    assert_true(l->fake->shards[0].n_batches < 40);
    look(l);
    load_close(l);
}

/* ---- failures that may be retried ---- */

static int random_trouble(struct fake *f, struct fake_node *n, struct fake_shard *s, const struct batch_header *h, void *arg)
{
    (void)n;
    (void)h;
    (void)s;
    unsigned *left = arg;
    uint64_t dice = env_random_below(f->env, 12);
    if (*left == 0 || dice >= 6) {
        return FAKE_SERVE;
    }
    --*left;
    switch (dice) {
    case 0: return SLUICE_E_THROTTLED;
    case 1: return SLUICE_E_NOT_READY;
    case 2: return FAKE_APPLY_CUT;
    case 3: return FAKE_CUT;
    case 4: return SLUICE_E_UNKNOWN_OUTCOME;
    default: return SLUICE_E_NOT_LEADER;
    }
}

static void order_holds_through_trouble(uint32_t n_lanes)
{
    struct fake *f = fake_open(3);
    f->n_lanes = n_lanes;
    unsigned left = 60;
    f->on_put = random_trouble;
    f->arg = &left;
    struct load *l = load_open(f, 3000, NULL, NULL);
    assert_false(fake_run(f, 30000));
    assert_int_equal(l->acked, 3000);
    look(l);
    assert_int_equal(l->in_store, 3000);
    assert_int_equal(left, 0);
    assert_true(f->dup_offsets > 0); /* some answers were lost: the node recognised the repetition */
    load_close(l);
}

static void test_order_holds_through_trouble(void **state)
{
    (void)state;
    order_holds_through_trouble(0);
    order_holds_through_trouble(3);
}

static int lose_second_answer(struct fake *f, struct fake_node *n, struct fake_shard *s, const struct batch_header *h, void *arg)
{
    (void)f;
    (void)n;
    (void)h;
    (void)arg;
    return s->n_batches == 1 ? FAKE_APPLY_CUT : FAKE_SERVE;
}

static void test_without_idempotence_an_unknown_outcome_is_told(void **state)
{
    (void)state;
    struct fake *f = fake_open(1);
    f->on_put = lose_second_answer;
    const struct sluice_producer_options o = {.not_idempotent = true, .batch_bytes = 300};
    struct load *l = load_open(f, 200, &o, NULL);
    assert_false(fake_run(f, 5000));
    assert_true(l->unknown > 0 && l->unknown < 200);
    assert_int_equal(l->acked + l->unknown, 200);
    look(l);
    assert_int_equal(l->in_store, 200); /* the unknown ones were done, and not a second time */
    load_close(l);
}

static void kill_timer(struct env_timer *t);
struct later { struct env_timer timer; struct fake *fake; void (*fn)(struct fake *f); };
static void kill_timer(struct env_timer *t)
{
    struct later *a = container_of(t, struct later, timer);
    a->fn(a->fake);
}
static void later(struct later *a, struct fake *f, unsigned ms, void (*fn)(struct fake *f))
{
    *a = (struct later){.fake = f, .fn = fn};
    env_timer_init(f->env, &a->timer, kill_timer);
    env_timer_start_ms(&a->timer, ms);
}

static void elect_two(struct fake *f) { fake_lead(f, 0, 2); }

static int pause_leader(struct fake *f, struct fake_node *n, struct fake_shard *s, const struct batch_header *h, void *arg)
{
    (void)h;
    struct later *a = arg;
    if (s->n_batches == 3 && a->fake == NULL) {
        fake_node_pause(n, true); /* takes this one and says nothing any more */
        later(a, f, 300, elect_two);
        return FAKE_APPLY_MUTE;
    }
    return FAKE_SERVE;
}

static void test_a_silent_leader_is_left(void **state)
{
    (void)state;
    struct fake *f = fake_open(1);
    struct later a = {0};
    f->on_put = pause_leader;
    f->arg = &a;
    struct load *l = load_open(f, 2000, NULL, NULL);
    uint64_t start = env_now_ns(f->env);
    assert_false(fake_run(f, 10000));
    uint64_t took_ms = (env_now_ns(f->env) - start) / 1000000u;
    assert_int_equal(l->acked, 2000);
    assert_true(took_ms >= 300 && took_ms < 2500);
    look(l);
    assert_int_equal(l->in_store, 2000);
    assert_true(f->dup_offsets >= 1);
    env_timer_close(&a.timer);
    load_close(l);
}

static void elect_three(struct fake *f) { fake_lead(f, 0, 3); }

static int kill_leader(struct fake *f, struct fake_node *n, struct fake_shard *s, const struct batch_header *h, void *arg)
{
    (void)h;
    struct later *a = arg;
    if (s->n_batches == 3 && a->fake == NULL) {
        fake_node_kill(n);
        later(a, f, 200, elect_three);
        return FAKE_APPLY_MUTE;
    }
    return FAKE_SERVE;
}

static void test_a_killed_leader_is_left_at_once(void **state)
{
    (void)state;
    struct fake *f = fake_open(1);
    struct later a = {0};
    f->on_put = kill_leader;
    f->arg = &a;
    struct load *l = load_open(f, 2000, NULL, NULL);
    uint64_t start = env_now_ns(f->env);
    assert_false(fake_run(f, 10000));
    uint64_t took_ms = (env_now_ns(f->env) - start) / 1000000u;
    assert_int_equal(l->acked, 2000);
    assert_true(took_ms < 900); /* 200 of them without a leader */
    look(l);
    assert_int_equal(l->in_store, 2000);
    env_timer_close(&a.timer);
    load_close(l);
}

/* ---- ends and limits ---- */

static int never_ready(struct fake *f, struct fake_node *n, struct fake_shard *s, const struct batch_header *h, void *arg)
{
    (void)f;
    (void)n;
    (void)h;
    (void)arg;
    return s->id == 0 ? SLUICE_E_NOT_READY : FAKE_SERVE;
}

static void test_delivery_timeout_tells_rejected(void **state)
{
    (void)state;
    struct fake *f = fake_open(2);
    f->on_put = never_ready;
    const struct sluice_producer_options o = {.batch_bytes = 300, .delivery_timeout_ms = 700};
    struct load *l = load_open(f, 400, &o, NULL);
    assert_false(fake_run(f, 5000));
    assert_true(l->failed > 0);
    assert_int_equal(l->acked + l->failed, 400);
    assert_true(l->last_code == SLUICE_E_NOT_READY || l->last_code == SLUICE_E_NOT_LEADER); /* what the last node asked said */
    look(l);
    load_close(l);
}

static int mute_then_refuse(struct fake *f, struct fake_node *n, struct fake_shard *s, const struct batch_header *h, void *arg)
{
    (void)n;
    (void)h;
    (void)arg;
    (void)f;
    return s->n_batches == 2 ? FAKE_CUT : s->n_batches > 2 ? FAKE_SERVE : FAKE_SERVE;
}

static void test_delivery_timeout_tells_unknown(void **state)
{
    (void)state;
    struct fake *f = fake_open(1);
    f->on_put = mute_then_refuse; /* the third batch never gets through and breaks the connection each time */
    const struct sluice_producer_options o = {.batch_bytes = 300, .delivery_timeout_ms = 600};
    struct load *l = load_open(f, 300, &o, NULL);
    assert_false(fake_run(f, 8000));
    assert_true(l->unknown > 0);
    assert_int_equal(l->acked + l->unknown + l->failed, 300);
    look(l);
    load_close(l);
}

static int refuse_one(struct fake *f, struct fake_node *n, struct fake_shard *s, const struct batch_header *h, void *arg)
{
    (void)f;
    (void)n;
    (void)h;
    unsigned *left = arg;
    if (s->n_batches == 4 && *left > 0) {
        --*left;
        return SLUICE_E_INVALID;
    }
    return FAKE_SERVE;
}

/* A batch that is refused for good goes, and those behind it go on in a new epoch. */
static void test_a_refused_batch_does_not_block(void **state)
{
    (void)state;
    struct fake *f = fake_open(1);
    unsigned left = 1;
    f->on_put = refuse_one;
    f->arg = &left;
    struct load *l = load_open(f, 2000, NULL, NULL);
    assert_false(fake_run(f, 5000));
    assert_true(l->failed > 0 && l->failed < 100);
    assert_int_equal(l->acked + l->failed, 2000);
    struct sluice_producer_stats stats;
    sluice_producer_stats(l->producer, &stats);
    assert_int_equal(stats.epochs, 1);
    look(l);
    load_close(l);
}

/* Callbacks that put into the very shard that is failing disturb nothing. */
static void test_putting_again_from_the_callback(void **state)
{
    (void)state;
    struct fake *f = fake_open(1);
    unsigned left = 3;
    f->on_put = refuse_one;
    f->arg = &left;
    struct load *l = load_open(f, 2000, &(struct sluice_producer_options){.batch_bytes = 300}, NULL);
    l->put_again = true;
    assert_false(fake_run(f, 5000));
    assert_true(l->again > 0);
    struct sluice_producer_stats stats;
    sluice_producer_stats(l->producer, &stats);
    assert_int_equal(stats.epochs, 1); /* the refused ones were in flight together; nothing went out under a number that was given up */
    assert_int_equal(l->acked, 2000);
    look(l);
    assert_int_equal(l->in_store, 2000);
    load_close(l);
}

static int forget(struct fake *f, struct fake_node *n, struct fake_shard *s, const struct batch_header *h, void *arg)
{
    (void)f;
    (void)n;
    (void)h;
    unsigned *left = arg;
    if (s->n_batches >= 5 && *left > 0) {
        --*left;
        s->n_producers = 0; /* expired */
    }
    return FAKE_SERVE;
}

static void test_a_forgotten_producer_starts_a_new_epoch(void **state)
{
    (void)state;
    struct fake *f = fake_open(1);
    unsigned left = 1;
    f->on_put = forget;
    f->arg = &left;
    struct load *l = load_open(f, 2000, NULL, NULL);
    assert_false(fake_run(f, 5000));
    assert_int_equal(l->acked, 2000);
    look(l);
    assert_int_equal(l->in_store, 2000);
    load_close(l);
}

static void test_back_pressure(void **state)
{
    (void)state;
    const struct sluice_producer_options o = {.batch_bytes = 512, .buffered_bytes_max = 4096};
    struct load *l = load_open(fake_open(2), 5000, &o, NULL);
    assert_false(fake_run(l->fake, 10000));
    assert_true(l->busy_seen);
    assert_int_equal(l->acked, 5000);
    struct sluice_producer_stats stats;
    sluice_producer_stats(l->producer, &stats);
    assert_int_equal(stats.buffered_bytes, 0);
    load_close(l);
}

static void test_bad_records_are_refused(void **state)
{
    (void)state;
    struct load *l = load_open(fake_open(1), 1, NULL, NULL);
    assert_false(fake_run(l->fake, 2000));
    char long_key[BATCH_KEY_MAX + 1] = {0};
    char *big = xcalloc(1, 2 << 20);
    struct sluice_record r = {.key = "", .key_len = 0, .data = "x", .data_len = 1};
    assert_int_equal(sluice_producer_put(l->producer, &r, put_done, NULL), SLUICE_E_INVALID);
    r = (struct sluice_record){.key = long_key, .key_len = sizeof long_key, .data = "x", .data_len = 1};
    assert_int_equal(sluice_producer_put(l->producer, &r, put_done, NULL), SLUICE_E_INVALID);
    r = (struct sluice_record){.key = "k", .key_len = 1, .data = big, .data_len = 1 << 20};
    assert_int_equal(sluice_producer_put(l->producer, &r, put_done, NULL), SLUICE_E_TOO_LARGE); /* the hello told the limit */
    free(big);
    load_close(l);
}

static void test_an_unknown_stream_is_told(void **state)
{
    (void)state;
    struct fake *f = fake_open(1);
    f->exists = false;
    struct load *l = load_open(f, 1, NULL, NULL);
    assert_false(fake_run(f, 3000)); /* `writable` stops it */
    const struct sluice_record r = {.key = "k", .key_len = 1};
    assert_int_equal(sluice_producer_put(l->producer, &r, NULL, NULL), SLUICE_E_NOT_FOUND);
    load_close(l);
}

static void flushed(void *user)
{
    struct load *l = user;
    assert_int_equal(l->completed, 700); /* all before the flush; the later ones wait for nothing */
    l->total = l->next;
    l->last_code = 12345;
    env_stop(l->fake->env);
}

static void test_flush_waits_for_what_came_before(void **state)
{
    (void)state;
    struct load *l = load_open(fake_open(3), 1, NULL, NULL);
    assert_false(fake_run(l->fake, 2000));
    l->total = 700;
    feed(l);
    l->total = RECORDS_MAX; /* put_done shall not stop the loop */
    sluice_producer_flush(l->producer, flushed, l);
    assert_false(fake_run(l->fake, 3000));
    assert_int_equal(l->last_code, 12345);
    load_close(l);
}

/* ---- reshard ---- */

static void open_children(struct fake *f)
{
    for (unsigned i = 1; i <= 2; i++) {
        f->shards[i].open = f->shards[i].exists = true;
    }
}

static int split_when_five(struct fake *f, struct fake_node *n, struct fake_shard *s, const struct batch_header *h, void *arg)
{
    (void)n;
    (void)h;
    struct later *a = arg;
    if (s->id == 0 && s->n_batches == 5 && a->fake == NULL) {
        /* The next batch is taken and its answer lost; then the shard closes. */
        for (unsigned i = 1; i <= 2; i++) {
            f->shards[i].id = i;
            f->shards[i].leader = i + 1;
            f->shards[i].term = 1;
            hash_range(i - 1, 2, &f->shards[i].first, &f->shards[i].last);
            s->children[i - 1] = i;
        }
        s->n_children = 2;
        later(a, f, 150, open_children);
        return FAKE_APPLY_CUT;
    }
    if (s->id == 0 && s->n_batches == 6) {
        s->open = false;
    }
    return FAKE_SERVE;
}

static void test_records_follow_a_split_in_order(void **state)
{
    (void)state;
    struct fake *f = fake_open(1);
    struct later a = {0};
    f->on_put = split_when_five;
    f->arg = &a;
    struct load *l = load_open(f, 3000, NULL, NULL);
    assert_false(fake_run(f, 10000));
    assert_int_equal(l->acked, 3000);
    look(l); /* once each, in order per key over parent and children */
    assert_int_equal(l->in_store, 3000);
    assert_true(f->shards[1].n_batches > 0 && f->shards[2].n_batches > 0);
    assert_int_equal(f->shards[0].n_batches, 6);
    assert_int_equal(sluice_producer_shards(l->producer), 2);
    env_timer_close(&a.timer);
    load_close(l);
}

static int split_twice(struct fake *f, struct fake_node *n, struct fake_shard *s, const struct batch_header *h, void *arg)
{
    if (s->id == 1 && s->n_batches == 3 && s->n_children == 0) {
        for (unsigned i = 3; i <= 4; i++) {
            struct fake_shard *child = &f->shards[i];
            *child = (struct fake_shard){.id = i, .leader = 2, .term = 1, .open = true, .exists = true, .first = s->first, .last = s->last};
            s->children[i - 3] = i;
        }
        hash_middle(&s->first, &s->last, &f->shards[4].first);
        hash_before(&f->shards[4].first, &f->shards[3].last);
        s->n_children = 2;
        s->open = false;
        f->old_maps = 2; /* the producer asks for the new map, and lagging nodes answer */
    }
    return split_when_five(f, n, s, h, arg);
}

/* Two splits, one after the other; after the second a node answers with the map from before the first. Taken, it would have the producer begin anew in shard 0, which
 * remembers those numbers, and take its answers for acknowledgements of records that are nowhere. */
static void test_an_older_map_opens_no_shard_again(void **state)
{
    (void)state;
    struct fake *f = fake_open(1);
    struct later a = {0};
    f->on_put = split_twice;
    f->arg = &a;
    f->map_version = 2;
    struct load *l = load_open(f, 3000, NULL, NULL);
    assert_false(fake_run(f, 10000));
    assert_int_equal(l->acked, 3000);
    look(l);
    assert_int_equal(l->in_store, 3000);
    assert_int_equal(f->old_maps, 0);
    assert_int_equal(sluice_producer_shards(l->producer), 3);
    assert_true(f->shards[3].n_batches > 0 && f->shards[4].n_batches > 0);
    env_timer_close(&a.timer);
    load_close(l);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_all_are_acknowledged_in_order),
        cmocka_unit_test(test_each_lane_has_a_connection), cmocka_unit_test(test_a_lane_that_is_not_got),
        cmocka_unit_test(test_batches_grow_with_the_load),
        cmocka_unit_test(test_order_holds_through_trouble),
        cmocka_unit_test(test_without_idempotence_an_unknown_outcome_is_told),
        cmocka_unit_test(test_a_silent_leader_is_left),
        cmocka_unit_test(test_a_killed_leader_is_left_at_once),
        cmocka_unit_test(test_delivery_timeout_tells_rejected),
        cmocka_unit_test(test_delivery_timeout_tells_unknown),
        cmocka_unit_test(test_a_refused_batch_does_not_block),
        cmocka_unit_test(test_putting_again_from_the_callback),
        cmocka_unit_test(test_a_forgotten_producer_starts_a_new_epoch),
        cmocka_unit_test(test_back_pressure),
        cmocka_unit_test(test_bad_records_are_refused),
        cmocka_unit_test(test_an_unknown_stream_is_told),
        cmocka_unit_test(test_flush_waits_for_what_came_before),
        cmocka_unit_test(test_records_follow_a_split_in_order),
        cmocka_unit_test(test_an_older_map_opens_no_shard_again),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
