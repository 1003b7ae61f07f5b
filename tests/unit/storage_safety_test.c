/* The scenarios of the safety rules that storage keeps, each with the rule on (it holds) and, where the rule has a switch, off (it is seen to fail). */
#include "storage_fixture.h"

static unsigned rules_off; /* of the story that is played; set before the fork */

static struct world *new_world(uint64_t seed)
{
    struct world *w = world_new(seed);
    w->o.test_disable = rules_off;
    return w;
}

static void settle(struct world *w)
{
    world_run_ms(w, 200);
    CHECK(journal_durable(w->j) == journal_end(w->j));
}

/* Also vouches for everything: an idle second. */
static void settle_vouched(struct world *w)
{
    settle(w);
    journal_collect(w->j);
    settle(w);
}

static void fill_with_dead(struct world *w, uint64_t group, unsigned segments)
{
    uint64_t until = w->j != NULL ? segments : 0;
    struct journal_stats st;
    journal_stats(w->j, &st);
    until += st.segments;
    while (st.segments < until) {
        put_entry(w, group, 1, 8000, 1);
        world_run_ms(w, 5);
        journal_stats(w->j, &st);
    }
    settle(w);
    w->g[group].needed_entry = w->g[group].last + 1;
    w->g[group].needed_offset = w->g[group].offset;
}

/* F1: a record is carried forward while a new leader overwrites it; its copy lands behind the overwrite and must not undo it. */
static void story_f1(uint64_t seed)
{
    struct world *w = new_world(seed);
    world_start(w);
    put_term(w, 1, 3, 1);
    put_entry(w, 1, 3, 500, 1);
    put_entry(w, 1, 3, 500, 1);
    fill_with_dead(w, 2, 2);
    struct sim_disk slow = {.sync_ns = {100000, 100000}, .read_ns = {20000000, 20000000}};
    sim_host_set_disk(w->host, &slow);
    for (int i = 0; i < 6; i++) {
        journal_collect(w->j);
    }
    world_run_ms(w, 30); /* the footer is read; the first entry is being read */
    put_term(w, 1, 4, 2);
    put_truncate_at(w, 1, 1);
    put_entry(w, 1, 4, 300, 1);
    put_entry(w, 1, 4, 300, 1);
    world_run_ms(w, 300);
    struct journal_stats st;
    journal_stats(w->j, &st);
    CHECK(st.carried_bytes > 0);
    world_crash(w, SIM_CRASH_POWER);
    world_start(w);
    check_recovered(w);
    const struct recovered_group *g = rec_group(w, 1);
    CHECK(g->term == 4 && g->vote == 2 && g->n_entries == 2 && g->entries[0].term == 4 && g->entries[1].term == 4);
}

static void test_f1(void **state)
{
    (void)state;
    rules_off = 0;
    run_story(story_f1, 1);
    rules_off = JOURNAL_RULE_F1;
    assert_false(story_holds(story_f1, 1));
    rules_off = 0;
}

/* F2: of two flushes in flight the first is torn and the second is whole: a torn tail, no damage. */
static void story_f2(uint64_t seed)
{
    struct world *w = new_world(seed);
    world_start(w);
    put_group(w, 1, 7);
    put_term(w, 1, 1, 1);
    put_entry(w, 1, 1, 100, 1);
    settle(w);
    put_entry(w, 1, 1, 20000, 1);
    put_entry(w, 1, 1, 20000, 1);
    settle(w);
    struct jf_block_header h[16];
    uint32_t pos[16];
    size_t n = segment_blocks(w, 1, h, pos, 16);
    CHECK(n >= 3 && h[n - 1].vouched <= h[n - 2].position); /* both were in flight */
    world_crash(w, SIM_CRASH_POWER);
    segment_zero(w, 1, pos[n - 2] + 8192, 4096);
    world_start(w);
    CHECK(w->open_error == 0);
    const struct recovered_group *g = rec_group(w, 1);
    CHECK(g != NULL && !g->lost && g->n_entries == 1 && !g->entries[0].damaged && w->rec->cut_bytes > 0);
    /* The cut is durable: the next start does not see the torn blocks again. */
    world_crash(w, SIM_CRASH_POWER);
    world_start(w);
    CHECK(w->open_error == 0 && w->rec->cut_bytes == 0 && rec_group(w, 1)->n_entries == 1);
}

static void test_f2(void **state)
{
    (void)state;
    run_story(story_f2, 1);
    rules_off = JOURNAL_RULE_F2;
    assert_false(story_holds(story_f2, 1));
    rules_off = 0;
}

/* Damage below what was vouched for is no torn tail: the entry is known, its bytes are reported as bad, and what follows stays. */
static void story_damage(uint64_t seed)
{
    struct world *w = new_world(seed);
    world_start(w);
    put_term(w, 1, 1, 1);
    put_entry(w, 1, 1, 20000, 1);
    settle(w);
    put_entry(w, 1, 1, 100, 1);
    settle_vouched(w);
    struct place p = w->g[1].e[1].place;
    world_crash(w, SIM_CRASH_POWER);
    segment_zero(w, p.segment, p.pos + 5000, 300);
    for (int i = 0; i < 2; i++) {
        world_start(w);
        CHECK(w->open_error == 0);
        const struct recovered_group *g = rec_group(w, 1);
        CHECK(g != NULL && !g->lost && g->n_entries == 2 && g->entries[0].damaged && !g->entries[1].damaged && g->entries[0].term == 1);
        void *bytes;
        CHECK(journal_read_blocking(w->j, &g->entries[0].place, &bytes) == -EIO);
        CHECK(w->rec->message[0] != '\0');
        world_crash(w, SIM_CRASH_POWER);
    }
}

static void test_damage(void **state)
{
    (void)state;
    run_story(story_damage, 1);
}

/* F3: killed before the sync, seen after the restart, then a power cut: what recovery handed over stays. */
static void story_f3(uint64_t seed)
{
    struct world *w = new_world(seed);
    world_start(w);
    for (int i = 0; i < 10; i++) {
        put_entry(w, 1, 1, 1000 + (uint32_t)(sim_random(w->sim) % 3000), 1);
        sim_run_until(w->sim, sim_now_ns(w->sim) + sim_random(w->sim) % 600000);
    }
    world_crash(w, SIM_CRASH_KILL);
    world_start(w);
    check_recovered(w);
    adopt(w); /* from here on everything recovered counts as stored */
    world_crash(w, SIM_CRASH_POWER);
    world_start(w);
    check_recovered(w);
}

static void test_f3(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 40; seed++) {
        run_story(story_f3, seed);
    }
    rules_off = JOURNAL_RULE_F3;
    unsigned caught = 0;
    for (uint64_t seed = 1; seed <= 40; seed++) {
        caught += !story_holds(story_f3, seed);
    }
    assert_true(caught > 0);
    rules_off = 0;
}

/* F3, after an error: the page cache shows bytes that never reached the disk. Nothing is acknowledged, the process ends with its own exit code, and
 * the next life takes only what is really there. */
static void story_io_error(uint64_t seed)
{
    struct world *w = new_world(seed);
    world_start(w);
    put_group(w, 1, 5);
    put_term(w, 1, 1, 1);
    for (int i = 0; i < 10; i++) {
        put_entry(w, 1, 1, 2000, 1);
        world_run_ms(w, (uint64_t)i % 3);
    }
    settle(w);
    fail_a_write(w);
    world_start(w);
    check_recovered(w);
    CHECK(rec_group(w, 1)->n_entries == 10 && rec_group(w, 1)->raft_id == 5 && rec_group(w, 1)->term == 1);
    adopt(w);
    if (seed % 2 == 0) {
        put_entry(w, 1, 1, 2000, 1);
        settle(w);
    }
    w->o.after_io_error = seed % 3 == 0;
    world_crash(w, seed % 4 < 2 ? SIM_CRASH_POWER : SIM_CRASH_KILL);
    world_start(w);
    check_recovered(w);
    CHECK(rec_group(w, 1)->n_entries == 10 + (seed % 2 == 0));
    CHECK(sim_disk_size(w->host, DIR_NAME "/seg-0000000000000001") < 0); /* rewritten and deleted */
}

static void test_io_error(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 12; seed++) {
        run_story(story_io_error, seed);
    }
}

/* F6: one copy of a block's directory is enough; without both, every group that has no newer hard state is lost, the others are not. */
static void f6(uint64_t seed, int damage)
{
    struct world *w = new_world(seed);
    world_start(w);
    put_term(w, 1, 1, 1);
    put_term(w, 2, 1, 1);
    settle(w);
    put_entry(w, 1, 1, 3000, 1);
    put_entry(w, 2, 1, 3000, 1);
    settle(w);
    put_term(w, 2, 2, 1);
    put_snapshot(w, 2, 1, 1);
    put_entry(w, 2, 2, 50, 1);
    settle_vouched(w);
    struct jf_block_header h[16];
    uint32_t pos[16];
    CHECK(segment_blocks(w, 1, h, pos, 16) >= 3 && h[1].n_records == 2);
    world_crash(w, SIM_CRASH_POWER);
    if (damage & 1) {
        segment_zero(w, 1, pos[1], 512); /* header and the first record header */
    }
    if (damage & 2) {
        segment_zero(w, 1, pos[1] + h[1].length - 512, 512); /* trailer */
        segment_zero(w, 1, pos[1] + h[1].dir_pos, 2 * JF_DIRENT_SIZE);
    }
    world_start(w);
    CHECK(w->open_error == 0);
    const struct recovered_group *one = rec_group(w, 1), *two = rec_group(w, 2);
    CHECK(one->lost == (damage == 3));
    CHECK(!two->lost);
    CHECK(w->rec->message[0] != '\0');
    if (damage != 3) {
        CHECK(one->n_entries == 1 && one->entries[0].term == 1 && one->entries[0].place.len == 3000);
        CHECK(one->entries[0].damaged == (damage == 1));
    }
    CHECK(two->term == 2 && rec_entry(two, 2) != NULL);
}

/* F5, F6: a replica was removed, a newer life of it came and voted, and the damage took all that tells of the newer one: what is left is no proof that nothing was here. */
static void story_f6_removed(uint64_t seed)
{
    struct world *w = new_world(seed);
    world_start(w);
    put_group(w, 1, 7);
    put_term(w, 1, 1, 1);
    put_group(w, 2, 5);
    for (uint64_t g = 1; g <= 2; g++) {
        struct op *op = op_new(w, JOURNAL_GROUP, g, 0);
        op->a.record.a = g == 1 ? 7 : 5;
        op->a.record.b = 1; /* removed */
        journal_append(w->j, &op->a);
    }
    settle(w);
    put_group(w, 1, 8);
    put_term(w, 1, 4, 2);
    settle(w);
    put_term(w, 3, 1, 1);
    settle_vouched(w);
    struct jf_block_header h[16];
    uint32_t pos[16];
    CHECK(segment_blocks(w, 1, h, pos, 16) >= 3 && h[1].n_records == 2);
    world_crash(w, SIM_CRASH_POWER);
    for (int life = 0; life < 2; life++) {
        world_start(w);
        const struct recovered_group *one = rec_group(w, 1), *two = rec_group(w, 2);
        CHECK(w->open_error == 0 && w->rec->gaps == (life == 1));
        CHECK(one->removed == (life == 1) && one->raft_id == (life == 1 ? 7 : 8) && one->lost == (life == 1));
        CHECK(two->removed && two->lost == (life == 1));
        world_crash(w, SIM_CRASH_POWER);
        segment_zero(w, 1, pos[1], h[1].length); /* the block of the newer life */
    }
}

static void story_f6_head(uint64_t seed) { f6(seed, 1); }
static void story_f6_tail(uint64_t seed) { f6(seed, 2); }
static void story_f6_both(uint64_t seed) { f6(seed, 3); }

static void test_f6(void **state)
{
    (void)state;
    run_story(story_f6_head, 1);
    run_story(story_f6_tail, 1);
    run_story(story_f6_both, 1);
    run_story(story_f6_removed, 1);
}

/* F7: segments are freed and reused all the time, and the power fails at any moment: nothing that is not trimmed durably is missed. */
static void story_f7(uint64_t seed)
{
    struct world *w = new_world(seed);
    world_start(w);
    put_term(w, 1, 1, 1);
    for (unsigned i = 0; i < 60 + sim_random(w->sim) % 60; i++) {
        put_entry(w, 1, 1, 9000, 1);
        if (i % 8 == 7 && w->g[1].e[w->g[1].last - 4].acked) {
            put_snapshot(w, 1, w->g[1].last - 4, 1);
            put_trim(w, 1, w->g[1].e[w->g[1].last - 4].a);
        }
        journal_collect(w->j);
        sim_run_until(w->sim, sim_now_ns(w->sim) + sim_random(w->sim) % 3000000);
    }
    struct journal_stats st;
    journal_stats(w->j, &st);
    CHECK(st.freed_segments > 3);
    /* The worst moment: right after a segment was freed. */
    for (uint64_t freed = st.freed_segments; st.freed_segments == freed;) {
        put_entry(w, 1, 1, 9000, 1);
        if (w->g[1].last % 4 == 0 && w->g[1].e[w->g[1].last - 4].acked) {
            put_snapshot(w, 1, w->g[1].last - 4, 1);
            put_trim(w, 1, w->g[1].e[w->g[1].last - 4].a);
        }
        journal_collect(w->j);
        for (int i = 0; i < 20 && st.freed_segments == freed; i++) {
            sim_run_until(w->sim, sim_now_ns(w->sim) + 50000);
            journal_stats(w->j, &st);
        }
    }
    sim_run_until(w->sim, sim_now_ns(w->sim) + sim_random(w->sim) % 300000);
    world_crash(w, SIM_CRASH_POWER);
    world_start(w);
    check_recovered(w);
}

static void test_f7(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 40; seed++) {
        run_story(story_f7, seed);
    }
    rules_off = JOURNAL_RULE_F7;
    unsigned caught = 0;
    for (uint64_t seed = 1; seed <= 40; seed++) {
        caught += !story_holds(story_f7, seed);
    }
    assert_true(caught > 0);
    rules_off = 0;
}

/* F8: a client sends bytes that look like a block, with everything a client could guess; a torn flush then leaves them in the way of recovery. */
static void story_f8(uint64_t seed)
{
    struct world *w = new_world(seed);
    world_start(w);
    put_term(w, 1, 1, 1);
    settle(w);
    struct jf_block_header h[16];
    uint32_t pos[16];
    size_t n = segment_blocks(w, 1, h, pos, 16);
    CHECK(n == 1);
    uint32_t next = pos[0] + h[0].length;
    struct op *op = op_new(w, JOURNAL_ENTRY, 1, 24000);
    op->a.record.index = 1;
    op->a.record.term = 1;
    uint32_t inside = 8192; /* from the start of the block to come: a block boundary in the client's bytes */
    struct jf_block_header fake = {.salt = 0, .seq = h[0].seq + 2, .position = next - JF_DATA + inside, .vouched = next - JF_DATA + inside, .incarnation = 1,
                                   .first_jseq = 1000, .length = 4096, .dir_pos = JF_BLOCK_HEADER_SIZE, .kind = JF_BLOCK_DATA,
                                   .dir_crc = jf_directory_crc(0, NULL, 0)};
    uint8_t *to = op->bytes + inside - JF_BLOCK_HEADER_SIZE - JF_RECORD_HEADER_SIZE;
    jf_block_header_encode(to, &fake, false);
    jf_block_header_encode(to + 4096 - JF_BLOCK_HEADER_SIZE, &fake, true);
    journal_append(w->j, &op->a);
    CHECK(op->a.place.pos == next + JF_BLOCK_HEADER_SIZE + JF_RECORD_HEADER_SIZE);
    settle(w);
    n = segment_blocks(w, 1, h, pos, 16);
    CHECK(n == 2);
    world_crash(w, SIM_CRASH_POWER);
    segment_zero(w, 1, pos[1], 512);
    segment_zero(w, 1, pos[1] + h[1].length - 512, 512);
    world_start(w);
    CHECK(w->open_error == 0);
    CHECK(!rec_group(w, 1)->lost && rec_group(w, 1)->n_entries == 0 && rec_group(w, 1)->term == 1);
}

static void test_f8(void **state)
{
    (void)state;
    run_story(story_f8, 1);
    rules_off = JOURNAL_RULE_F8;
    assert_false(story_holds(story_f8, 1));
    rules_off = 0;
}

/* F10: entries in a sealed segment, their truncate in a later one; then an installed snapshot voids entries, and a later snapshot of our own takes
 * its place: the void ones do not come back, not even after their segments' neighbours are gone. */
static void story_f10(uint64_t seed)
{
    struct world *w = new_world(seed);
    world_start(w);
    put_term(w, 1, 3, 1);
    for (int i = 0; i < 5; i++) {
        put_entry(w, 1, 3, 700, 1);
    }
    fill_with_dead(w, 2, 2);
    put_truncate_at(w, 1, 3);
    settle(w);
    world_crash(w, SIM_CRASH_POWER);
    world_start(w);
    CHECK(w->open_error == 0 && rec_group(w, 1)->n_entries == 2); /* whatever the sealed segment lists */
    put_entry(w, 1, 4, 900, 1);
    fill_with_dead(w, 2, 2);
    world_crash(w, SIM_CRASH_POWER);
    world_start(w);
    const struct recovered_group *g = rec_group(w, 1);
    CHECK(w->open_error == 0 && g->n_entries == 3 && g->entries[2].term == 4 && g->entries[1].term == 3);
    for (int life = 0; life < 3; life++) {
        if (life == 0) {
            put_snapshot(w, 1, 100, 5); /* as an install writes it: the snapshot, then what it voids */
            put_truncate_at(w, 1, 1);
            w->g[1].last = 100;
            settle(w);
            put_snapshot(w, 1, 101, 5);
            settle(w);
        }
        w->g[1].needed_entry = 1; /* keep whatever there is */
        fill_with_dead(w, 2, 1);
        for (int i = 0; i < 40; i++) {
            journal_collect(w->j);
            world_run_ms(w, 20);
        }
        world_crash(w, SIM_CRASH_POWER);
        world_start(w);
        g = rec_group(w, 1);
        CHECK(w->open_error == 0 && g->snapshot_index == 101 && g->n_entries == 0 && !g->lost && g->term == 3);
    }
}

static void test_f10(void **state)
{
    (void)state;
    run_story(story_f10, 1);
}

/* Acknowledging without a sync is seen. */
static void story_sync(uint64_t seed)
{
    struct world *w = new_world(seed);
    world_start(w);
    for (int i = 0; i < 10; i++) {
        put_entry(w, 1, 1, 1000, 1);
        world_run_ms(w, 2);
    }
    world_crash(w, SIM_CRASH_POWER);
    world_start(w);
    check_recovered(w);
}

static void test_sync(void **state)
{
    (void)state;
    rules_off = JOURNAL_RULE_SYNC;
    unsigned caught = 0;
    for (uint64_t seed = 1; seed <= 10; seed++) {
        caught += !story_holds(story_sync, seed);
    }
    assert_true(caught > 0);
    rules_off = 0;
    run_story(story_sync, 1);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_f1), cmocka_unit_test(test_f2),  cmocka_unit_test(test_damage), cmocka_unit_test(test_f3), cmocka_unit_test(test_io_error),
        cmocka_unit_test(test_f6), cmocka_unit_test(test_f7),  cmocka_unit_test(test_f8),     cmocka_unit_test(test_f10), cmocka_unit_test(test_sync),
    };
    if (argc > 1) {
        cmocka_set_test_filter(argv[1]);
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
