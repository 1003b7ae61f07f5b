/* The reader and the control calls against a fake cluster: nothing is skipped or delivered twice, whatever the nodes do. */
#include "client_fake.h"

struct reading {
    struct fake *fake;
    struct sluice_client *client;
    struct sluice_reader *reader;
    uint64_t next, delivered, stop_after, pause_every;
    bool ended, closed;
    int code;
    unsigned caught_up;
    size_t n_children;
    char sequence[SEQNO_TEXT_MAX];
};

static void records(struct sluice_reader *r, const struct sluice_records *batch, void *user)
{
    struct reading *g = user;
    for (size_t i = 0; i < batch->n; i++) {
        assert_int_equal(batch->v[i].offset, g->next);
        char text[32] = "";
        memcpy(text, batch->v[i].data, batch->v[i].data_len);
        assert_int_equal(strtoull(text, NULL, 10), g->next);
        if (g->delivered == 2) {
            sluice_record_sequence(batch, i, g->sequence);
        }
        g->next++;
        g->delivered++;
    }
    if (g->pause_every != 0 && g->delivered / g->pause_every != (g->delivered - batch->n) / g->pause_every) {
        sluice_reader_pause(r, true);
        env_stop(g->fake->env);
    }
    if (g->stop_after != 0 && g->delivered >= g->stop_after) {
        env_stop(g->fake->env);
    }
}

static void ended(struct sluice_reader *r, const struct sluice_read_end *end, void *user)
{
    struct reading *g = user;
    (void)r;
    assert_false(g->ended);
    g->ended = true;
    g->code = end->code;
    g->closed = end->closed;
    g->n_children = end->n_children;
    assert_int_equal(end->next_offset, g->next);
    env_stop(g->fake->env);
}

static void caught_up(struct sluice_reader *r, uint64_t next, void *user)
{
    struct reading *g = user;
    (void)r;
    assert_int_equal(next, g->next);
    g->caught_up++;
}

static struct reading *reading_open(struct fake *f, const struct sluice_position *from, struct sluice_reader_options o)
{
    struct reading *g = xcalloc(1, sizeof *g);
    g->fake = f;
    g->client = fake_client(f, NULL);
    o.records = records;
    o.ended = ended;
    o.caught_up = caught_up;
    o.user = g;
    static const struct sluice_position horizon = {.kind = SLUICE_TRIM_HORIZON};
    assert_int_equal(sluice_reader_open(g->client, "s", 0, from != NULL ? from : &horizon, &o, &g->reader), 0);
    return g;
}

static void reading_close(struct reading *g)
{
    sluice_reader_close(g->reader);
    sluice_client_close(g->client, NULL, NULL);
    fake_run(g->fake, 20);
    fake_close(g->fake);
    free(g);
}

static void test_reads_all_to_the_present_end(void **state)
{
    (void)state;
    struct fake *f = fake_open(1);
    fake_fill(f, 0, 300, 7);
    struct reading *g = reading_open(f, NULL, (struct sluice_reader_options){.no_follow = true, .max_bytes = 1000});
    assert_false(fake_run(f, 5000));
    assert_true(g->ended);
    assert_int_equal(g->code, 0);
    assert_int_equal(g->delivered, 2100);
    assert_false(g->closed);
    assert_true(g->sequence[0] != '\0');
    reading_close(g);
}

static void test_follows_and_tells_when_caught_up(void **state)
{
    (void)state;
    struct fake *f = fake_open(1);
    fake_fill(f, 0, 10, 3);
    struct reading *g = reading_open(f, NULL, (struct sluice_reader_options){.wait_ms = 100});
    g->stop_after = 30;
    assert_false(fake_run(f, 3000));
    assert_true(fake_run(f, 50));
    assert_int_equal(g->caught_up, 1);
    g->stop_after = 36;
    fake_fill(f, 0, 2, 3);
    assert_false(fake_run(f, 3000));
    assert_true(fake_run(f, 250)); /* empty long polls come and go */
    assert_int_equal(g->delivered, 36);
    assert_true(g->caught_up >= 2);
    assert_false(g->ended);
    reading_close(g);
}

/* A merge of several shards waits for each to tell: an empty one must not wait for its first record to do so. */
static void test_an_empty_shard_is_caught_up_at_once(void **state)
{
    (void)state;
    struct fake *f = fake_open(1);
    struct reading *g = reading_open(f, NULL, (struct sluice_reader_options){.wait_ms = 20000});
    assert_true(fake_run(f, 500));
    assert_int_equal(g->caught_up, 1);
    assert_true(f->nodes[0].fetches <= 2); /* and asking goes on with waiting */
    g->stop_after = 3;
    fake_fill(f, 0, 1, 3);
    assert_false(fake_run(f, 3000));
    reading_close(g);
}

static void test_starts_at_a_sequence_number_and_at_the_end(void **state)
{
    (void)state;
    struct fake *f = fake_open(1);
    fake_fill(f, 0, 10, 10);
    char text[SEQNO_TEXT_MAX];
    const struct seqno q = {.shard_created_s = 1000, .shard = 0, .offset = 37, .time_s = 1700000000};
    seqno_format(&q, text);
    const struct sluice_position after = {.kind = SLUICE_AFTER_SEQUENCE, .sequence = text};
    struct reading *g = reading_open(f, &after, (struct sluice_reader_options){.no_follow = true});
    g->next = 38; /* in the middle of a batch */
    assert_false(fake_run(f, 3000));
    assert_int_equal(g->delivered, 62);
    reading_close(g);

    f = fake_open(1);
    fake_fill(f, 0, 10, 10);
    const struct sluice_position latest = {.kind = SLUICE_LATEST};
    g = reading_open(f, &latest, (struct sluice_reader_options){.no_follow = true});
    g->next = 100;
    assert_false(fake_run(f, 3000));
    assert_int_equal(g->delivered, 0);
    assert_int_equal(g->code, 0);
    reading_close(g);
}

static void test_a_gap_is_an_error_and_not_skipped(void **state)
{
    (void)state;
    struct fake *f = fake_open(1);
    fake_fill(f, 0, 20, 5);
    f->shards[0].gap_at = 50;
    struct reading *g = reading_open(f, NULL, (struct sluice_reader_options){.no_follow = true, .max_bytes = 100});
    assert_false(fake_run(f, 10000));
    assert_int_equal(g->code, SLUICE_E_CORRUPT);
    assert_int_equal(g->delivered, 50); /* all before it, nothing behind it */
    reading_close(g);
}

static void test_a_damaged_batch_is_not_delivered(void **state)
{
    (void)state;
    struct fake *f = fake_open(1);
    fake_fill(f, 0, 20, 5);
    f->shards[0].batches[7].data[BATCH_HEADER_SIZE + 3] ^= 4;
    struct reading *g = reading_open(f, NULL, (struct sluice_reader_options){.no_follow = true, .max_bytes = 100});
    assert_false(fake_run(f, 10000));
    assert_int_equal(g->code, SLUICE_E_CORRUPT);
    assert_int_equal(g->delivered, 35);
    reading_close(g);
}

static void test_trimmed_position_is_told(void **state)
{
    (void)state;
    struct fake *f = fake_open(1);
    fake_fill(f, 0, 20, 5);
    f->shards[0].horizon = 50;
    const struct sluice_position at = {.kind = SLUICE_AT_OFFSET, .offset = 20};
    struct reading *g = reading_open(f, &at, (struct sluice_reader_options){.no_follow = true});
    g->next = 20;
    assert_false(fake_run(f, 3000));
    assert_int_equal(g->code, SLUICE_E_EXPIRED);
    assert_int_equal(g->delivered, 0);
    reading_close(g);
}

static void test_goes_on_after_the_leader_dies(void **state)
{
    (void)state;
    struct fake *f = fake_open(1);
    fake_fill(f, 0, 10, 10);
    struct reading *g = reading_open(f, NULL, (struct sluice_reader_options){.wait_ms = 60000});
    g->stop_after = 100;
    assert_false(fake_run(f, 3000));
    fake_node_kill(&f->nodes[0]);
    fake_lead(f, 0, 3);
    fake_fill(f, 0, 10, 10);
    g->stop_after = 200;
    assert_false(fake_run(f, 3000));
    fake_node_pause(&f->nodes[1], true); /* one that is silent, and long polls notice it by pings */
    fake_node_pause(&f->nodes[2], true);
    fake_node_start(&f->nodes[0]);
    fake_lead(f, 0, 1);
    fake_fill(f, 0, 10, 10);
    g->stop_after = 300;
    assert_false(fake_run(f, 6000));
    assert_int_equal(g->delivered, 300);
    reading_close(g);
}

static void test_pausing_holds_records_back(void **state)
{
    (void)state;
    struct fake *f = fake_open(1);
    fake_fill(f, 0, 100, 10);
    struct reading *g = reading_open(f, NULL, (struct sluice_reader_options){.no_follow = true, .max_bytes = 2000});
    g->pause_every = 100;
    unsigned pauses = 0;
    while (!g->ended && pauses < 100) {
        fake_run(f, 3000);
        uint64_t before = g->delivered;
        if (!g->ended) {
            assert_true(fake_run(f, 20)); /* nothing comes while it is paused */
            assert_int_equal(g->delivered, before);
            pauses++;
            sluice_reader_pause(g->reader, false);
        }
    }
    assert_int_equal(g->delivered, 1000);
    assert_true(pauses >= 5);
    reading_close(g);
}

static void test_the_end_of_a_closed_shard(void **state)
{
    (void)state;
    struct fake *f = fake_open(1);
    fake_fill(f, 0, 10, 10);
    f->shards[0].open = false;
    f->shards[0].n_children = 2;
    f->shards[0].children[0] = 1;
    f->shards[0].children[1] = 2;
    struct reading *g = reading_open(f, NULL, (struct sluice_reader_options){.max_bytes = 500});
    assert_false(fake_run(f, 3000));
    assert_true(g->ended && g->closed);
    assert_int_equal(g->code, 0);
    assert_int_equal(g->delivered, 100);
    assert_int_equal(g->n_children, 2);
    reading_close(g);
}

/* ---- calls ---- */

struct called { struct fake *fake; int code; unsigned attempts, n; enum sluice_outcome outcome; };

static void call_done(const struct sluice_result *r, void *user)
{
    struct called *c = user;
    c->code = r->code;
    c->outcome = r->outcome;
    c->attempts = r->attempts;
    c->n++;
    assert_true((r->reply != NULL) == (r->code == 0));
    env_stop(c->fake->env);
}

static uint8_t first_id[16];
static int cut_twice(struct fake *f, struct fake_node *n, uint8_t kind, void *arg)
{
    (void)n;
    unsigned *calls = arg;
    if (kind != FRAME_STREAM_CREATE) {
        return FAKE_SERVE;
    }
    ++*calls;
    memcpy(first_id, f->last_request_id, 16);
    return *calls == 1 ? FAKE_CUT : *calls == 2 ? SLUICE_E_NO_CONTROLLER : FAKE_SERVE;
}

static void test_a_call_is_repeated_until_it_is_answered(void **state)
{
    (void)state;
    struct fake *f = fake_open(1);
    unsigned calls = 0;
    f->on_call = cut_twice;
    f->arg = &calls;
    struct called c = {.fake = f};
    struct sluice_client *client = fake_client(f, NULL);
    assert_int_equal(sluice_stream_create(client, "s", 1, 0, 0, call_done, &c), 0);
    assert_int_equal(c.n, 0); /* never inside the call */
    assert_false(fake_run(f, 5000));
    assert_int_equal(c.code, 0);
    assert_int_equal(c.attempts, 3);
    sluice_client_close(client, NULL, NULL);
    fake_run(f, 20);
    fake_close(f);
}

static void test_once_reports_an_unknown_outcome(void **state)
{
    (void)state;
    struct fake *f = fake_open(1);
    unsigned calls = 0;
    f->on_call = cut_twice;
    f->arg = &calls;
    struct called c = {.fake = f};
    struct sluice_client *client = fake_client(f, NULL);
    Sluice__StreamCreate m = SLUICE__STREAM_CREATE__INIT;
    m.name = (char *)(uintptr_t)"s";
    m.shards = 1;
    const struct sluice_call_options o = {.once = true};
    assert_int_equal(sluice_call(client, FRAME_STREAM_CREATE, &m.base, &o, call_done, &c), 0);
    assert_false(fake_run(f, 5000));
    assert_int_not_equal(c.code, 0);
    assert_int_equal(c.outcome, SLUICE_UNKNOWN);
    assert_int_equal(calls, 1);
    assert_int_equal(sluice_call(client, FRAME_PUT, &m.base, &o, call_done, &c), SLUICE_E_INVALID);
    sluice_client_close(client, NULL, NULL);
    fake_run(f, 20);
    fake_close(f);
}

static void test_no_node_at_all(void **state)
{
    (void)state;
    struct fake *f = fake_open(1);
    struct called c = {.fake = f};
    struct sluice_client *client = fake_client(f, NULL);
    for (unsigned i = 0; i < FAKE_NODES; i++) {
        fake_node_kill(&f->nodes[i]);
    }
    const struct sluice_call_options o = {.timeout_ms = 500};
    Sluice__Empty m = SLUICE__EMPTY__INIT;
    assert_int_equal(sluice_call(client, FRAME_CLUSTER_STATUS, &m.base, &o, call_done, &c), 0);
    assert_false(fake_run(f, 3000));
    assert_int_equal(c.code, SLUICE_E_NO_CONNECTION);
    assert_int_equal(c.outcome, SLUICE_REJECTED);
    /* A call that is still waiting ends with the client. */
    assert_int_equal(sluice_call(client, FRAME_CLUSTER_STATUS, &m.base, NULL, call_done, &c), 0);
    sluice_client_close(client, NULL, NULL);
    assert_int_equal(c.code, SLUICE_E_SHUTTING_DOWN);
    fake_run(f, 20);
    fake_close(f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_reads_all_to_the_present_end),
        cmocka_unit_test(test_follows_and_tells_when_caught_up), cmocka_unit_test(test_an_empty_shard_is_caught_up_at_once),
        cmocka_unit_test(test_starts_at_a_sequence_number_and_at_the_end),
        cmocka_unit_test(test_a_gap_is_an_error_and_not_skipped),
        cmocka_unit_test(test_a_damaged_batch_is_not_delivered),
        cmocka_unit_test(test_trimmed_position_is_told),
        cmocka_unit_test(test_goes_on_after_the_leader_dies),
        cmocka_unit_test(test_pausing_holds_records_back),
        cmocka_unit_test(test_the_end_of_a_closed_shard),
        cmocka_unit_test(test_a_call_is_repeated_until_it_is_answered),
        cmocka_unit_test(test_once_reports_an_unknown_outcome),
        cmocka_unit_test(test_no_node_at_all),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
