/* A subscription against a fake cluster: every record once and in order, within the credit, whatever the leaders do; what a bad one pushes is never delivered. */
#include "client_fake_push.h"

struct subscribing {
    struct fake *fake;
    struct fake_push *push;
    struct sluice_client *client;
    struct sluice_subscription *subscription;
    uint64_t next, delivered, stop_after, held, held_most, chunk_most, beats;
    unsigned started;
    bool hold;             /* takes what is pushed, and gives nothing back */
    bool started_caught_up, caught_up;
    bool close_in_started, close_in_pushed, close_in_ended, closed;
    bool ended, shard_closed;
    int code;
    char message[256];
    size_t n_children;
    void *scratch;
    size_t scratch_size;
};

static void close_it(struct subscribing *g)
{
    sluice_subscription_close(g->subscription);
    g->closed = true;
    env_stop(g->fake->env);
}

static void started(struct sluice_subscription *u, void *user)
{
    struct subscribing *g = user;
    assert_false(g->closed || g->ended);
    g->started++;
    g->started_caught_up = sluice_subscription_caught_up(u);
    if (g->close_in_started) {
        close_it(g);
    }
}

/* Each record's data is its offset. */
static void pushed(struct sluice_subscription *u, struct sluice_pushed *p, void *user)
{
    struct subscribing *g = user;
    assert_false(g->closed || g->ended);
    assert_int_equal(g->started, 1);
    assert_int_equal(p->offset, g->next);
    for (size_t pos = 0; pos < p->len;) {
        struct batch_reader br;
        struct batch_record r;
        size_t n = get_u32(p->data + pos + 4);
        assert_int_equal(batch_reader_open(&br, p->data + pos, n, &g->scratch, &g->scratch_size, NULL), 0);
        while (batch_reader_next(&br, &r) == 1) {
            if (r.offset < p->offset) {
                assert_true(pos == 0 && g->delivered == 0); /* of the very first batch alone */
                continue;
            }
            char text[32] = "";
            memcpy(text, r.data, r.data_len);
            assert_int_equal(r.offset, g->next);
            assert_int_equal(strtoull(text, NULL, 10), g->next);
            g->next++;
            g->delivered++;
        }
        pos += n;
    }
    assert_int_equal(p->next_offset, g->next);
    assert_int_equal(p->shard_created_s, 1000);
    assert_true((p->data == NULL) == (p->len == 0));
    g->beats += p->len == 0;
    g->caught_up = sluice_subscription_caught_up(u);
    assert_true(g->caught_up == (p->next_offset >= p->end_offset));
    g->chunk_most = max_u64(g->chunk_most, p->len);
    if (g->hold) {
        free((void *)(uintptr_t)p->data);
        p->taken = true;
        g->held += p->len;
        g->held_most = max_u64(g->held_most, g->held);
    }
    if (g->close_in_pushed) {
        close_it(g);
    }
    if (g->stop_after != 0 && g->delivered >= g->stop_after) {
        env_stop(g->fake->env);
    }
}

static void ended(struct sluice_subscription *u, const struct sluice_read_end *end, void *user)
{
    struct subscribing *g = user;
    (void)u;
    assert_false(g->closed || g->ended);
    g->ended = true;
    g->code = end->code;
    g->shard_closed = end->closed;
    g->n_children = end->n_children;
    snprintf(g->message, sizeof g->message, "%s", end->message);
    assert_int_equal(end->next_offset, g->next);
    if (g->close_in_ended) {
        close_it(g);
    }
    env_stop(g->fake->env);
}

static struct subscribing *make(void)
{
    struct subscribing *g = xcalloc(1, sizeof *g);
    g->fake = fake_open(1);
    g->push = fake_push_open(g->fake);
    g->client = fake_client(g->fake, NULL);
    return g;
}

static void subscribe(struct subscribing *g, const struct sluice_position *from, struct sluice_subscription_options o)
{
    static const struct sluice_position horizon = {.kind = SLUICE_TRIM_HORIZON};
    o.consumer = o.consumer == NULL && o.consumer_id == 0 ? "c" : o.consumer;
    o.started = started;
    o.pushed = pushed;
    o.ended = ended;
    o.user = g;
    assert_int_equal(sluice_subscription_open(g->client, "s", 0, from != NULL ? from : &horizon, &o, &g->subscription), 0);
    assert_int_equal(g->started + g->beats + g->delivered, 0); /* nothing happens within the call */
}

static struct subscribing *over(const struct sluice_position *from, struct sluice_subscription_options o, unsigned batches, unsigned per_batch)
{
    struct subscribing *g = make();
    fake_fill(g->fake, 0, batches, per_batch);
    subscribe(g, from, o);
    return g;
}

static void finish(struct subscribing *g)
{
    if (!g->closed) {
        sluice_subscription_close(g->subscription);
    }
    sluice_client_close(g->client, NULL, NULL);
    fake_run(g->fake, 20);
    fake_push_close(g->push);
    free(g->scratch);
    free(g);
}

/* Until this many records were delivered. */
static void deliver(struct subscribing *g, uint64_t n)
{
    g->stop_after = n;
    if (g->delivered < n) {
        assert_false(fake_run(g->fake, 8000));
    }
    if (g->code != 0) {
        print_error("it ended: %d %s\n", g->code, g->message);
    }
    assert_int_equal(g->code, 0);
    assert_int_equal(g->delivered, n);
    g->stop_after = 0;
}

static void until_ended(struct subscribing *g, int code)
{
    g->stop_after = 0;
    if (!g->ended) {
        assert_false(fake_run(g->fake, 20000));
    }
    assert_true(g->ended);
    assert_int_equal(g->code, code);
}

/* Every attempt after the first says that it comes again, under the same id, and is older than the one before. */
static void assert_resumed(const struct fake_push *p)
{
    assert_false(p->asked[0].resumed);
    for (unsigned i = 1; i < p->n_asked; i++) {
        assert_true(p->asked[i].resumed);
        assert_memory_equal(p->asked[i].subscriber, p->asked[0].subscriber, 16);
        assert_true(i < 2 || p->asked[i].age_ms >= p->asked[i - 1].age_ms);
        assert_true(p->asked[i].offset >= p->asked[i - 1].offset);
    }
}

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
        cmocka_unit_test(test_closing_at_any_time),
        cmocka_unit_test(test_closing_in_callbacks),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
