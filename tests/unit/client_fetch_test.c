/* One fetch against a fake cluster: one answer, checked, whatever the nodes do before it. */
#include "client_fake.h"

struct fetched {
    struct fake *fake;
    struct sluice_client *client;
    unsigned calls;
    int code;
    uint32_t retry_after_ms;
    uint64_t offset, next, end, records, first_record;
    bool closed, take;
    size_t n_children;
    uint8_t *taken;
    size_t len;
};

static void count(struct fetched *g, const uint8_t *data, size_t len)
{
    void *scratch = NULL;
    size_t scratch_size = 0;
    uint64_t expected = g->offset;
    for (size_t pos = 0; pos < len;) {
        struct batch_reader br;
        struct batch_record r;
        uint32_t n = get_u32(data + pos + 4);
        assert_int_equal(batch_reader_open_verified(&br, data + pos, n, &scratch, &scratch_size, NULL), 0);
        while (batch_reader_next(&br, &r) == 1) {
            if (r.offset >= g->offset) {
                assert_int_equal(r.offset, expected++);
                g->records++;
            }
        }
        pos += n;
    }
    assert_int_equal(expected, g->next);
    free(scratch);
}

static void done(struct sluice_fetched *f, void *user)
{
    struct fetched *g = user;
    g->calls++;
    g->code = f->code;
    assert_non_null(f->message);
    g->retry_after_ms = f->retry_after_ms;
    g->offset = f->offset;
    g->next = f->next_offset;
    g->end = f->end_offset;
    g->closed = f->closed;
    g->n_children = f->n_children;
    g->len = f->len;
    if (f->code == 0) {
        count(g, f->data, f->len);
    }
    if (g->take) {
        g->taken = sluice_fetched_take(f);
        assert_null(f->data);
    }
    env_stop(g->fake->env);
}

static struct fetched open_at(struct fake *f)
{
    return (struct fetched){.fake = f, .client = fake_client(f, NULL)};
}

static void end(struct fetched *g)
{
    sluice_client_close(g->client, NULL, NULL);
    fake_run(g->fake, 20);
    fake_close(g->fake);
}

static void ask(struct fetched *g, const struct sluice_fetch_options *o)
{
    g->calls = 0;
    g->records = 0;
    assert_int_equal(sluice_fetch(g->client, "s", 0, o, done, g, NULL), 0);
    assert_int_equal(g->calls, 0);
    assert_false(fake_run(g->fake, 8000));
    assert_int_equal(g->calls, 1);
}

static void test_one_answer(void **state)
{
    (void)state;
    struct fake *f = fake_open(1);
    fake_fill(f, 0, 20, 5);
    struct fetched g = open_at(f);
    ask(&g, &(struct sluice_fetch_options){.max_bytes = 1 << 20});
    assert_int_equal(g.code, 0);
    assert_int_equal(g.records, 100);
    assert_int_equal(g.end, 100);
    ask(&g, &(struct sluice_fetch_options){.offset = 52, .max_bytes = 1}); /* in the middle of a batch */
    assert_int_equal(g.records, 3);
    assert_int_equal(g.next, 55);
    ask(&g, &(struct sluice_fetch_options){.offset = 100}); /* at the end: nothing, at once */
    assert_int_equal(g.code, 0);
    assert_int_equal(g.len, 0);
    assert_int_equal(g.next, 100);
    g.take = true;
    ask(&g, &(struct sluice_fetch_options){.max_bytes = 1 << 20});
    assert_non_null(g.taken);
    assert_int_equal(get_u32(g.taken + 24), 5);
    free(g.taken);
    end(&g);
}

static void test_bad_arguments(void **state)
{
    (void)state;
    struct fetched g = open_at(fake_open(1));
    const struct sluice_fetch_options o = {0};
    assert_int_equal(sluice_fetch(g.client, "", 0, &o, done, &g, NULL), SLUICE_E_INVALID);
    assert_int_equal(sluice_fetch(g.client, "s", 0, &o, NULL, &g, NULL), SLUICE_E_INVALID);
    end(&g);
}

/* Damaged answers are never handed out: asked again elsewhere, and told in the end. */
static void test_damage_is_not_delivered(void **state)
{
    (void)state;
    struct fake *f = fake_open(1);
    fake_fill(f, 0, 20, 5);
    struct fetched g = open_at(f);
    f->damage = true;
    ask(&g, &(struct sluice_fetch_options){.max_bytes = 1 << 20});
    assert_int_equal(g.code, SLUICE_E_CORRUPT);
    assert_true((f->nodes[0].fetches > 0) + (f->nodes[1].fetches > 0) + (f->nodes[2].fetches > 0) >= 2);
    f->damage = false;
    f->shards[0].gap_at = 50; /* a record would be skipped */
    ask(&g, &(struct sluice_fetch_options){.offset = 45, .max_bytes = 1 << 20});
    assert_int_equal(g.code, SLUICE_E_CORRUPT);
    f->shards[0].gap_at = 0;
    ask(&g, &(struct sluice_fetch_options){.offset = 45, .max_bytes = 1 << 20});
    assert_int_equal(g.records, 55);
    end(&g);
}

static void test_the_trim_horizon(void **state)
{
    (void)state;
    struct fake *f = fake_open(1);
    fake_fill(f, 0, 20, 5);
    f->shards[0].horizon = 30;
    struct fetched g = open_at(f);
    ask(&g, &(struct sluice_fetch_options){.offset = 10, .max_bytes = 1 << 20});
    assert_int_equal(g.code, SLUICE_E_EXPIRED);
    ask(&g, &(struct sluice_fetch_options){.offset = 10, .max_bytes = 1 << 20, .from_horizon = true});
    assert_int_equal(g.code, 0);
    assert_int_equal(g.offset, 30);
    assert_int_equal(g.records, 70);
    f->shards[0].horizon = 100; /* everything is gone */
    ask(&g, &(struct sluice_fetch_options){.offset = 10, .from_horizon = true});
    assert_int_equal(g.code, 0);
    assert_int_equal(g.offset, 100);
    assert_int_equal(g.next, 100);
    end(&g);
}

static int throttled(struct fake *f, struct fake_node *n, uint8_t kind, void *arg)
{
    (void)f;
    (void)n;
    unsigned *left = arg;
    return kind == FRAME_FETCH && *left > 0 && (*left)-- > 0 ? SLUICE_E_THROTTLED : FAKE_SERVE;
}

/* A shared fetch goes to the leader alone and does not wait when it is throttled; another one does. */
static void test_shared(void **state)
{
    (void)state;
    struct fake *f = fake_open(1);
    fake_fill(f, 0, 20, 5);
    struct fetched g = open_at(f);
    ask(&g, &(struct sluice_fetch_options){.shared = true, .max_bytes = 1 << 20});
    assert_int_equal(g.records, 100);
    fake_lead(f, 0, 3); /* the map says 1: its refusal names the new one */
    ask(&g, &(struct sluice_fetch_options){.shared = true, .max_bytes = 1 << 20});
    assert_int_equal(g.code, 0);
    assert_true(f->nodes[2].fetches > 0);
    unsigned left = 1;
    f->on_call = throttled;
    f->arg = &left;
    ask(&g, &(struct sluice_fetch_options){.shared = true});
    assert_int_equal(g.code, SLUICE_E_THROTTLED);
    left = 2;
    ask(&g, &(struct sluice_fetch_options){.max_bytes = 1 << 20});
    assert_int_equal(g.code, 0);
    assert_int_equal(left, 0);
    end(&g);
}

static void test_a_killed_leader(void **state)
{
    (void)state;
    struct fake *f = fake_open(1);
    fake_fill(f, 0, 20, 5);
    struct fetched g = open_at(f);
    ask(&g, &(struct sluice_fetch_options){.shared = true});
    fake_node_kill(&f->nodes[0]);
    fake_lead(f, 0, 2);
    ask(&g, &(struct sluice_fetch_options){.shared = true, .max_bytes = 1 << 20});
    assert_int_equal(g.code, 0);
    assert_int_equal(g.records, 100);
    end(&g);
}

static void test_what_is_not_there(void **state)
{
    (void)state;
    struct fake *f = fake_open(1);
    struct fetched g = open_at(f);
    uint8_t other[16];
    memcpy(other, f->stream_id, sizeof other);
    other[15] ^= 1;
    ask(&g, &(struct sluice_fetch_options){.stream_id = other});
    assert_int_equal(g.code, SLUICE_E_NOT_FOUND);
    assert_int_equal(f->nodes[0].fetches + f->nodes[1].fetches + f->nodes[2].fetches, 0);
    ask(&g, &(struct sluice_fetch_options){.stream_id = f->stream_id});
    assert_int_equal(g.code, 0);
    f->stream_id[3] ^= 1; /* deleted and made anew: nodes do not know the old one any more */
    f->shards[0].exists = false;
    ask(&g, &(struct sluice_fetch_options){0});
    assert_int_equal(g.code, SLUICE_E_NOT_FOUND);
    f->exists = false;
    ask(&g, &(struct sluice_fetch_options){.stream_id = other});
    assert_int_equal(g.code, SLUICE_E_NOT_FOUND);
    end(&g);
}

static void test_a_closed_shard_tells_its_children(void **state)
{
    (void)state;
    struct fake *f = fake_open(1);
    fake_fill(f, 0, 2, 5);
    f->shards[0].open = false;
    f->shards[0].n_children = 2;
    struct fetched g = open_at(f);
    ask(&g, &(struct sluice_fetch_options){.max_bytes = 1});
    assert_false(g.closed);
    ask(&g, &(struct sluice_fetch_options){.offset = 5, .max_bytes = 1 << 20});
    assert_true(g.closed);
    assert_int_equal(g.n_children, 2);
    end(&g);
}

static int mute(struct fake *f, struct fake_node *n, uint8_t kind, void *arg)
{
    (void)f;
    (void)n;
    (void)arg;
    return kind == FRAME_FETCH ? SLUICE_E_NOT_READY : FAKE_SERVE;
}

static void test_cancel_close_and_time(void **state)
{
    (void)state;
    struct fake *f = fake_open(1);
    struct fetched g = open_at(f);
    f->on_call = mute;
    ask(&g, &(struct sluice_fetch_options){.timeout_ms = 300});
    assert_int_equal(g.code, SLUICE_E_NOT_READY);
    struct sluice_fetch *h;
    const struct sluice_fetch_options o = {0};
    g.calls = 0;
    assert_int_equal(sluice_fetch(g.client, "s", 0, &o, done, &g, &h), 0);
    sluice_fetch_cancel(h); /* before it began */
    assert_int_equal(sluice_fetch(g.client, "s", 0, &o, done, &g, &h), 0);
    assert_true(fake_run(f, 50));
    sluice_fetch_cancel(h);
    assert_true(fake_run(f, 300));
    assert_int_equal(g.calls, 0);
    assert_int_equal(sluice_fetch(g.client, "s", 0, &o, done, &g, NULL), 0);
    end(&g);
    assert_int_equal(g.calls, 1);
    assert_int_equal(g.code, SLUICE_E_SHUTTING_DOWN);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_one_answer), cmocka_unit_test(test_bad_arguments), cmocka_unit_test(test_damage_is_not_delivered),
        cmocka_unit_test(test_the_trim_horizon), cmocka_unit_test(test_shared), cmocka_unit_test(test_a_killed_leader),
        cmocka_unit_test(test_what_is_not_there), cmocka_unit_test(test_a_closed_shard_tells_its_children),
        cmocka_unit_test(test_cancel_close_and_time),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
