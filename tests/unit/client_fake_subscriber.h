/* client_fake_subscriber.h: a subscription against a fake cluster, and what it must do whatever happens: every record once and in order, within the credit; what a bad leader
 * pushes is never delivered. */
#ifndef SLUICE_TEST_CLIENT_FAKE_SUBSCRIBER_H
#define SLUICE_TEST_CLIENT_FAKE_SUBSCRIBER_H

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

#endif
