/* The journal on a simulated disk: what was acknowledged survives crashes, in order. */
#include "storage_fixture.h"

/* Appends of several groups are acknowledged in order, and a reopened journal has all of them. */
static void story_roundtrip(uint64_t seed)
{
    struct world *w = world_new(seed);
    world_start(w);
    CHECK(w->open_error == 0 && w->rec->blank);
    put_group(w, 1, 77);
    put_term(w, 1, 3, 2);
    for (int i = 0; i < 200; i++) {
        put_entry(w, 1 + (uint64_t)i % 3, 3, 100 + (uint32_t)i * 7, 2);
        if (i % 5 == 0) {
            world_run_ms(w, 1);
        }
    }
    world_run_ms(w, 100);
    CHECK(w->acks == 202);
    CHECK(journal_durable(w->j) == journal_end(w->j));
    struct journal_stats stats;
    journal_stats(w->j, &stats);
    CHECK(stats.backlog == 0);
    uint64_t end = journal_end(w->j);
    world_crash(w, SIM_CRASH_POWER);
    world_start(w);
    check_recovered(w);
    const struct recovered_group *g = rec_group(w, 1);
    CHECK(g->raft_id == 77 && g->term == 3 && g->vote == 2 && !w->rec->blank);
    CHECK(w->rec->prior_incarnation == 1 && w->rec->prior_end == end && w->rec->cut_bytes == 0);
    CHECK(rec_entry(g, 5)->b == 2 && rec_entry(g, 5)->c == 50 && rec_entry(g, 5)->type == 1);
    void *bytes;
    CHECK(journal_read_blocking(w->j, &g->group_data, &bytes) == 0);
    uint8_t want[24];
    fill(want, 24, 77);
    CHECK(memcmp(bytes, want, 24) == 0);
}

static void random_work(struct world *w, unsigned steps, bool collect)
{
    for (unsigned i = 0; i < steps && sim_process_up(w->host); i++) {
        uint64_t id = 1 + sim_random(w->sim) % (GROUPS_MAX - 1);
        struct model_group *m = &w->g[id];
        switch (sim_random(w->sim) % 16) {
        case 0:
            put_term(w, id, m->term + 1, sim_random(w->sim) % 3 + 1);
            break;
        case 1:
            if (m->last > m->needed_entry + 1 && m->last > 2) {
                uint64_t at = m->last - sim_random(w->sim) % 2;
                if (at >= m->needed_entry) {
                    put_truncate_at(w, id, at);
                    put_term(w, id, m->term + 1, 1);
                }
            }
            break;
        case 2:
            if (m->last > 2) {
                uint64_t at = m->needed_entry + sim_random(w->sim) % 3;
                if (at < m->last && m->e[at].acked && at >= m->needed_entry) {
                    put_snapshot(w, id, at, m->e[at].term);
                    put_trim(w, id, max_u64(m->trim_acked, m->e[at].a));
                }
            }
            break;
        case 3:
            put_entry(w, id, m->term, 20000 + (uint32_t)(sim_random(w->sim) % 40000), 1);
            break;
        case 4:
            world_run_ms(w, 3);
            break;
        default:
            put_entry(w, id, m->term, (uint32_t)(sim_random(w->sim) % 3000), 1);
            break;
        }
        if (collect && i % 8 == 0) {
            journal_collect(w->j);
        }
        if (sim_random(w->sim) % 3 == 0) {
            sim_run_until(w->sim, sim_now_ns(w->sim) + sim_random(w->sim) % 2000000);
        }
    }
}

/* Crashes at random points, power cuts and kills mixed: everything acknowledged is there each time, nothing is out of order. */
static void story_crashes(uint64_t seed)
{
    struct world *w = world_new(seed);
    w->o.pool_max = (seed % 3) * (64 << 10);
    for (int life = 0; life < 6; life++) {
        world_start(w);
        check_recovered(w);
        adopt(w);
        random_work(w, 40 + (unsigned)(sim_random(w->sim) % 60), seed % 2 == 0);
        world_crash(w, sim_random(w->sim) % 3 == 0 ? SIM_CRASH_KILL : SIM_CRASH_POWER);
    }
}

static void settle(struct world *w)
{
    world_run_ms(w, 200);
    CHECK(journal_durable(w->j) == journal_end(w->j));
}

/* Notes, seeded batches, removed groups and barriers. */
static unsigned barriers;
static void barrier_done(struct journal_append *a)
{
    (void)a;
    barriers++;
}

static void put_any(struct world *w, struct journal_record r, uint32_t seed)
{
    struct op *op = op_new(w, r.kind, r.group, r.len);
    r.data = op->bytes;
    fill(op->bytes, r.len, seed);
    op->a.record = r;
    journal_append(w->j, &op->a);
}

static void story_kinds(uint64_t seed)
{
    struct world *w = world_new(seed);
    world_start(w);
    struct journal_append b[3] = {{.done = barrier_done}, {.done = barrier_done}, {.done = barrier_done}};
    journal_barrier(w->j, &b[0]); /* nothing to wait for, yet not at once */
    CHECK(barriers == 0);
    world_run_ms(w, 1);
    CHECK(barriers == 1);
    put_any(w, (struct journal_record){.kind = JOURNAL_NOTE, .a = 4, .b = 44, .len = 10}, 1);
    put_any(w, (struct journal_record){.kind = JOURNAL_NOTE, .a = 5, .len = 10}, 2);
    put_any(w, (struct journal_record){.kind = JOURNAL_NOTE, .a = 4, .b = 45, .len = 20}, 3);
    put_group(w, 1, 9);
    put_term(w, 1, 1, 1);
    put_group(w, 2, 10);
    put_entry(w, 1, 1, 100, 10); /* offsets 0..9 */
    put_entry(w, 1, 1, 100, 10); /* 10..19 */
    put_snapshot(w, 1, 1, 1);
    put_any(w, (struct journal_record){.kind = JOURNAL_BATCH, .group = 1, .a = 30, .b = 5, .c = 7, .len = 300}, 4);
    put_any(w, (struct journal_record){.kind = JOURNAL_BATCH, .group = 1, .a = 0, .b = 10, .c = 7, .len = 300}, 5);  /* as entry 1 */
    put_any(w, (struct journal_record){.kind = JOURNAL_BATCH, .group = 1, .a = 10, .b = 10, .c = 7, .len = 300}, 6); /* entry 2 is not surely committed */
    put_any(w, (struct journal_record){.kind = JOURNAL_BATCH, .group = 1, .a = 30, .b = 5, .c = 7, .len = 300}, 4);  /* twice */
    put_any(w, (struct journal_record){.kind = JOURNAL_GROUP, .group = 2, .a = 10, .b = 1}, 0);
    journal_barrier(w->j, &b[1]);
    CHECK(w->acks == 0 && barriers == 1);
    settle(w);
    CHECK(barriers == 2);
    for (int life = 0; life < 3; life++) {
        world_crash(w, SIM_CRASH_POWER);
        world_start(w);
        CHECK(w->open_error == 0 && w->rec->n_notes == 2 && w->rec->message[0] == '\0');
        CHECK(w->rec->notes[0].note == 4 && w->rec->notes[0].b == 45 && w->rec->notes[0].place.len == 20);
        void *bytes;
        uint8_t want[20];
        fill(want, 20, 3);
        CHECK(journal_read_blocking(w->j, &w->rec->notes[0].place, &bytes) == 0 && memcmp(bytes, want, 20) == 0);
        const struct recovered_group *g = rec_group(w, 1);
        CHECK(g->n_entries == 2 && g->n_batches == 2 && g->batches[0].a == 10 && g->batches[1].a == 30 && g->batches[1].b == 5 && g->batches[1].c == 7);
        CHECK(rec_group(w, 2)->removed && rec_group(w, 2)->raft_id == 10);
        /* An idle life or two: the short segments that lives leave behind are carried together. */
        for (int i = 0; i < 60; i++) {
            journal_collect(w->j);
            world_run_ms(w, 20);
        }
        struct journal_stats st;
        journal_stats(w->j, &st);
        CHECK(st.segments <= 3);
    }
}

/* Notes ride on flushes that others cause, and do not count as acknowledged: what one node notes of another must give the other nothing to note (F27). */
static unsigned rides;
static void ride(void *arg)
{
    struct world *w = arg;
    rides++;
    put_any(w, (struct journal_record){.kind = JOURNAL_NOTE, .a = 7, .index = 1000 + rides, .term = 3, .b = 5}, 0);
}

static void story_riding_notes(uint64_t seed)
{
    struct world *w = world_new(seed);
    world_start(w);
    CHECK(journal_acknowledged(w->j) == 0);
    put_group(w, 1, 9);
    settle(w);
    uint64_t acknowledged = journal_acknowledged(w->j), durable = journal_durable(w->j);
    CHECK(acknowledged > 0 && acknowledged == durable);
    put_any(w, (struct journal_record){.kind = JOURNAL_NOTE, .a = 7, .index = 1, .term = 2, .b = 3}, 0);
    settle(w);
    CHECK(journal_durable(w->j) > durable && journal_acknowledged(w->j) == acknowledged);
    for (int i = 0; i < 5; i++) { /* an empty block that vouches for the others */
        journal_collect(w->j);
        settle(w);
    }
    CHECK(journal_acknowledged(w->j) == acknowledged);
    journal_set_owner(w->j, w, needs, moved, ride);
    struct journal_stats before, after;
    journal_stats(w->j, &before);
    put_entry(w, 1, 1, 100, 1);
    CHECK(rides == 1 && journal_acknowledged(w->j) == acknowledged);
    settle(w);
    journal_stats(w->j, &after);
    CHECK(after.flushes == before.flushes + 1 && journal_acknowledged(w->j) == journal_durable(w->j));
    put_any(w, (struct journal_record){.kind = JOURNAL_NOTE, .a = 8, .index = 4}, 0); /* notes cause no rides */
    settle(w);
    CHECK(rides == 1);
    uint64_t end = journal_end(w->j);
    world_crash(w, SIM_CRASH_POWER);
    world_start(w);
    CHECK(w->open_error == 0 && w->rec->n_notes == 2 && w->rec->notes[0].note == 7 && w->rec->notes[1].note == 8 && w->rec->notes[1].index == 4);
    CHECK(w->rec->notes[0].index == 1001 && w->rec->notes[0].term == 3 && w->rec->notes[0].b == 5 && w->rec->notes[0].place.len == 0);
    CHECK(w->rec->prior_end == end && journal_acknowledged(w->j) == end); /* it is all durable, whoever made it */
}

/* A segment file that is missing, or that lost both headers, is missed: its groups do not vote. One damaged header copy is repaired. */
static void missing(uint64_t seed, int what)
{
    struct world *w = world_new(seed);
    world_start(w);
    put_term(w, 1, 1, 1);
    for (int i = 0; i < 30; i++) {
        put_entry(w, 1, 1, 8000, 1);
        world_run_ms(w, 5);
    }
    settle(w);
    world_crash(w, SIM_CRASH_POWER);
    if (what == 0) {
        segment_zero(w, 2, 0, 4096);
    } else if (what == 1) {
        segment_zero(w, 2, 0, 8192);
    } else {
        segment_zero(w, 1, 4096, 4096);
        segment_zero(w, 3, 4096, 4096);
    }
    for (int life = 0; life < 2; life++) {
        world_start(w);
        CHECK(w->open_error == 0);
        CHECK(rec_group(w, 1)->lost == (what == 1));
        CHECK((w->rec->message[0] != '\0') == (life == 0 || what == 1)); /* repaired: nothing to tell the second time */
        if (what != 1) {
            check_recovered(w);
        }
        world_crash(w, SIM_CRASH_POWER);
    }
    CHECK(sim_disk_size(w->host, DIR_NAME "/seg-0000000000000002") > 0); /* never deleted without being told to */
}

static void story_header_one(uint64_t seed) { missing(seed, 0); }
static void story_header_both(uint64_t seed) { missing(seed, 1); }
static void story_header_two(uint64_t seed) { missing(seed, 2); }

static void test_kinds(void **state)
{
    (void)state;
    run_story(story_kinds, 1);
}
static void test_riding_notes(void **state)
{
    (void)state;
    run_story(story_riding_notes, 1);
}

static void test_missing(void **state)
{
    (void)state;
    run_story(story_header_one, 1);
    run_story(story_header_both, 1);
    run_story(story_header_two, 1);
}

static void test_roundtrip(void **state)
{
    (void)state;
    run_story(story_roundtrip, 1);
}

/* The same on a bad disk: writes and syncs fail (the process ends; the next life takes only what is on the disk), reads fail and flip bits on the way. */
static void story_bad_disk(uint64_t seed)
{
    struct world *w = world_new(seed);
    for (int life = 0; life < 8; life++) {
        struct sim_disk d = {.sync_ns = {200000, 900000}, .write_ns = {20000, 90000}, .read_ns = {20000, 90000}, .write_error_ppm = life % 2 == 1 ? 20000 : 0,
                             .read_error_ppm = 2000, .flip_ppm = 2000};
        struct sim_disk good = {.sync_ns = {200000, 900000}, .write_ns = {20000, 90000}};
        sim_host_set_disk(w->host, &d);
        unsigned errors = w->io_errors;
        world_start(w);
        if (w->open_error != 0) {
            w->o.after_io_error = w->o.after_io_error || w->io_errors > errors || w->open_error == -EIO;
            world_crash(w, SIM_CRASH_KILL);
            sim_host_set_disk(w->host, &good);
            world_start(w);
        }
        sim_host_set_disk(w->host, &good); /* the check reads, too */
        check_recovered(w);
        adopt(w);
        sim_host_set_disk(w->host, &d);
        errors = w->io_errors;
        random_work(w, 40 + (unsigned)(sim_random(w->sim) % 60), seed % 2 == 0);
        bool up = sim_process_up(w->host);
        CHECK(up || w->exit_code == ENV_EXIT_DISK);
        w->o.after_io_error = w->io_errors > errors;
        world_crash(w, sim_random(w->sim) % 2 == 0 ? SIM_CRASH_KILL : SIM_CRASH_POWER);
    }
}

static void test_bad_disk(void **state)
{
    (void)state;
    const char *from = getenv("SEED");
    uint64_t first = from != NULL ? strtoull(from, NULL, 10) : 1;
    for (uint64_t seed = first; seed < first + (from != NULL ? 1 : 60); seed++) {
        run_story(story_bad_disk, seed);
    }
}

static void test_crashes(void **state)
{
    (void)state;
    const char *from = getenv("SEED");
    const char *count = getenv("SEEDS");
    uint64_t first = from != NULL ? strtoull(from, NULL, 10) : 1;
    uint64_t n = count != NULL ? strtoull(count, NULL, 10) : from != NULL ? 1 : 100;
    for (uint64_t seed = first; seed < first + n; seed++) {
        run_story(story_crashes, seed);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_roundtrip),
        cmocka_unit_test(test_kinds),
        cmocka_unit_test(test_riding_notes),
        cmocka_unit_test(test_missing),
        cmocka_unit_test(test_crashes),
        cmocka_unit_test(test_bad_disk),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
