/* Reading back: cache, read-ahead, pins, batch log; space and pool; single flipped bits. */
#include "storage/batch_log.h"
#include "storage/cache.h"
#include "storage_fixture.h"

static void settle(struct world *w)
{
    world_run_ms(w, 200);
    CHECK(journal_durable(w->j) == journal_end(w->j));
}

/* The cache stays within its bound, keeps what is pinned, and forgets a segment on demand. */
static void test_cache(void **state)
{
    (void)state;
    struct cache *c = cache_open(10000);
    struct cache_entry *pinned = NULL;
    for (uint32_t i = 0; i < 100; i++) {
        struct cache_slab *s = cache_slab_new(c, 1000);
        memset(s->bytes, (int)i, 1000);
        struct cache_entry *e = cache_put(c, 1 + i % 2, 8 * i, 1000, s, s->bytes);
        cache_slab_unref(c, s);
        if (i == 0) {
            pinned = e;
        } else {
            cache_unpin(c, e);
        }
        assert_true(cache_bytes(c) <= 10000);
    }
    assert_int_equal(pinned->data[999], 0);
    assert_ptr_equal(cache_get(c, 1, 0, 1000), pinned);
    cache_unpin(c, pinned);
    assert_null(cache_get(c, 2, 8, 1000)); /* long evicted */
    struct cache_entry *last = cache_get(c, 2, 8 * 99, 1000);
    assert_non_null(last);
    assert_null(cache_get(c, 2, 8 * 99, 999)); /* another length is another place */
    cache_drop_segment(c, 2);
    assert_null(cache_get(c, 2, 8 * 99, 1000));
    assert_int_equal(last->data[0], 99); /* still pinned */
    cache_unpin(c, last);
    cache_drop_segment(c, 1);
    assert_int_equal(cache_bytes(c), 1000);
    cache_unpin(c, pinned);
    assert_int_equal(cache_bytes(c), 0);
    /* Two entries of one slab count once; the slab lives until the last one goes. */
    struct cache_slab *s = cache_slab_new(c, 4000);
    struct cache_entry *a = cache_put(c, 3, 0, 100, s, s->bytes), *b = cache_put(c, 3, 100, 100, s, s->bytes + 100);
    cache_slab_unref(c, s);
    cache_unpin(c, a);
    assert_int_equal(cache_bytes(c), 4000);
    cache_unpin(c, b);
    cache_close(c);
}

struct reading {
    struct batch_read r;
    bool finished;
};

static void read_finished(struct batch_read *r)
{
    container_of(r, struct reading, r)->finished = true;
}

/* Reads [offset, ...) through the batch log and compares bytes. Returns the next offset. */
static uint64_t read_from(struct world *w, struct batch_log *b, uint64_t group, uint64_t offset, uint64_t limit)
{
    struct reading *x = xcalloc(1, sizeof *x);
    x->r.offset = offset;
    x->r.max_bytes = 10000;
    x->r.limit = limit;
    x->r.done = read_finished;
    if (batch_read_begin(b, &x->r) == 0) {
        CHECK(!x->finished);
        world_run_ms(w, 50);
        CHECK(x->finished);
    }
    CHECK(x->r.status == 0 && x->r.n > 0);
    uint64_t at = offset, bytes = 0;
    for (unsigned i = 0; i < x->r.n; i++) {
        struct locator l;
        CHECK(batch_log_find(b, at, &l));
        uint64_t index = l.time_ms / 10;
        const struct model_entry *e = &w->g[group].e[index];
        uint8_t *want = xmalloc(e->len + 1);
        fill(want, e->len, e->seed);
        CHECK(l.place.len == e->len && x->r.reads[i].place.len == e->len && memcmp(x->r.reads[i].data, want, e->len) == 0);
        free(want);
        bytes += e->len;
        at = l.offset + l.count;
    }
    CHECK(x->r.next_offset == at && (bytes <= 10000 || x->r.n == 1));
    batch_read_end(&x->r);
    free(x);
    return at;
}

static void append_locator(struct world *w, struct batch_log *b, uint64_t group, uint64_t index, uint32_t count)
{
    const struct model_entry *e = &w->g[group].e[index];
    struct locator l = {.offset = e->a, .time_ms = index * 10, .place = e->place, .count = count};
    batch_log_append(b, &l);
}

/* Cold reads through several segments, with read errors and flipped bits on the way: always the right bytes, and fewer disk reads than batches. */
static void story_cold(uint64_t seed)
{
    struct world *w = world_new(seed);
    world_start(w);
    struct batch_log *b = batch_log_open(w->j, 1);
    for (uint64_t i = 1; i <= 150; i++) {
        put_entry(w, 1, 1, 1 + (uint32_t)(sim_random(w->sim) % 3000), 3);
        if (i % 2 == 0) {
            put_entry(w, 2, 1, 700, 1);
        }
        append_locator(w, b, 1, i, 3);
        if (i % 4 == 0) {
            world_run_ms(w, 3);
        }
    }
    /* Read before it is durable: waits for its flush. */
    struct reading *early = xcalloc(1, sizeof *early);
    early->r = (struct batch_read){.offset = 149 * 3, .max_bytes = 1, .limit = UINT64_MAX, .done = read_finished};
    CHECK(batch_read_begin(b, &early->r) == 0);
    CHECK(!early->finished);
    settle(w);
    CHECK(early->finished && early->r.status == 0 && early->r.n == 1);
    batch_read_end(&early->r);
    if (seed > 1) {
        struct sim_disk d = {.read_ns = {1000, 400000}, .read_error_ppm = 30000, .flip_ppm = 30000};
        sim_host_set_disk(w->host, &d);
    }
    struct journal_stats before, after;
    journal_stats(w->j, &before);
    uint64_t at = 0;
    while (at < 450) {
        at = read_from(w, b, 1, at, UINT64_MAX);
    }
    journal_stats(w->j, &after);
    if (seed == 1) {
        CHECK(after.disk_reads - before.disk_reads < 75);
    }
    CHECK(after.cache_bytes <= w->o.cache_bytes + JF_ALIGN);
    CHECK(read_from(w, b, 1, 1, 2) == 3); /* in the middle of a batch; the limit lies in the same batch */
    batch_log_close(b);
}

static void test_cold(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed < 20; seed++) {
        run_story(story_cold, seed);
    }
}

/* Edges of the batch log: holes, trims, resets, times, answers to reads that cannot be served. */
static void story_batch_log(uint64_t seed)
{
    struct world *w = world_new(seed);
    world_start(w);
    struct batch_log *b = batch_log_open(w->j, 1);
    struct locator l;
    uint64_t from, to;
    for (uint64_t i = 1; i <= 10; i++) {
        put_entry(w, 1, 1, 100, 5);
        append_locator(w, b, 1, i, 5);
    }
    settle(w);
    CHECK(batch_log_next(b) == 50 && batch_log_first(b) == 0 && batch_log_bytes(b) == 1000);
    CHECK(batch_log_find(b, 49, &l) && l.offset == 45 && !batch_log_find(b, 50, &l));
    CHECK(batch_log_find_time(b, 35, &l) && l.time_ms == 40 && !batch_log_find_time(b, 101, &l));
    CHECK(batch_log_find_time(b, 0, &l) && l.offset == 0);
    CHECK(batch_log_older_than(b, 35) == 15 && batch_log_older_than(b, 1000) == 50 && batch_log_older_than(b, 10) == 0);
    batch_log_trim(b, 12);
    CHECK(batch_log_first(b) == 12 && batch_log_find(b, 12, &l) && l.offset == 10 && !batch_log_find(b, 9, &l));
    CHECK(batch_log_bytes(b) == 800 && batch_log_older_than(b, 30) == 12);
    CHECK(!batch_log_hole(b, 12, 50, &from, &to));
    CHECK(batch_log_hole(b, 12, 60, &from, &to) && from == 50 && to == 60);
    struct batch_read r = {.offset = 11, .max_bytes = 1000, .limit = 100};
    CHECK(batch_read_begin(b, &r) == 1 && r.status == -ENOENT && r.n == 0);
    batch_read_end(&r);
    r.offset = 50;
    CHECK(batch_read_begin(b, &r) == 1 && r.status == -ENODATA);
    r.offset = 30;
    r.limit = 30;
    CHECK(batch_read_begin(b, &r) == 1 && r.status == -ENODATA);
    /* A snapshot came: [20, 100) is to be seeded; what is there of it stays. */
    batch_log_reset(b, 20, 100);
    CHECK(batch_log_first(b) == 20 && batch_log_next(b) == 100 && batch_log_bytes(b) == 600);
    CHECK(batch_log_hole(b, 20, 100, &from, &to) && from == 50 && to == 100);
    r.offset = 60;
    r.limit = 100;
    CHECK(batch_read_begin(b, &r) == 1 && r.status == -EAGAIN);
    l = (struct locator){.offset = 70, .count = 30, .place = w->g[1].e[1].place};
    CHECK(batch_log_insert(b, &l) == 0 && batch_log_insert(b, &l) == -EEXIST);
    l.offset = 65;
    CHECK(batch_log_insert(b, &l) == -EEXIST); /* overlaps */
    l = (struct locator){.offset = 50, .count = 20, .place = w->g[1].e[2].place};
    CHECK(batch_log_insert(b, &l) == 0 && !batch_log_hole(b, 20, 100, &from, &to));
    struct place moved_to = {.segment = 9, .pos = 9000, .len = 100};
    batch_log_moved(b, 50, &w->g[1].e[1].place, &moved_to); /* not where it is now: nothing happens */
    CHECK(batch_log_find(b, 55, &l) && l.place.segment != 9);
    batch_log_moved(b, 50, &w->g[1].e[2].place, &moved_to);
    CHECK(batch_log_find(b, 55, &l) && l.place.segment == 9);
    /* A place whose segment is gone. */
    r = (struct batch_read){.offset = 50, .limit = 100, .max_bytes = 100};
    CHECK(batch_read_begin(b, &r) == 1 && r.status == -ENOENT && r.n == 0);
    /* Recovery: entries at or below the snapshot and seeded batches, damaged ones are holes. */
    struct recovered_entry e[] = {{.index = 1, .a = 0, .b = 10}, {.index = 2, .a = 10, .b = 10, .damaged = true}, {.index = 3, .a = 20, .b = 10}, {.index = 9, .a = 30, .b = 10}};
    struct recovered_entry s[] = {{.a = 0, .b = 10}, {.a = 10, .b = 5}};
    struct recovered_group g = {.snapshot_index = 3, .entries = e, .n_entries = 4, .batches = s, .n_batches = 2};
    CHECK(batch_log_recover(b, &g, 0, 30, &from, &to) == -EIO && from == 15 && to == 20);
    s[1].b = 10;
    CHECK(batch_log_recover(b, &g, 5, 30, &from, &to) == 0 && batch_log_next(b) == 30 && batch_log_first(b) == 5);
    batch_log_close(b);
}

static void test_batch_log(void **state)
{
    (void)state;
    run_story(story_batch_log, 1);
}

/* A full disk: new data is refused in time, state records still go, and freeing makes room again. */
static void story_full(uint64_t seed)
{
    struct world *w = world_new(seed);
    struct sim_disk d = {.sync_ns = {100000, 100000}, .capacity = 800 << 10};
    sim_host_set_disk(w->host, &d);
    w->o.reserve = 160 << 10;
    world_start(w);
    CHECK(w->open_error == 0);
    unsigned n = 0;
    while (journal_space(w->j)) {
        put_entry(w, 1, 1, 5000, 1);
        journal_collect(w->j);
        world_run_ms(w, 5);
        CHECK(++n < 1000 && sim_process_up(w->host));
    }
    CHECK(n > 50);
    for (int i = 0; i < 20; i++) {
        put_term(w, 1, (uint64_t)i + 1, 1);
        world_run_ms(w, 5);
    }
    CHECK(sim_process_up(w->host) && w->acks == n + 20);
    put_snapshot(w, 1, w->g[1].last, 20);
    put_trim(w, 1, w->g[1].offset);
    for (int i = 0; i < 30; i++) {
        journal_collect(w->j);
        world_run_ms(w, 10);
    }
    CHECK(sim_process_up(w->host) && journal_space(w->j));
    world_crash(w, SIM_CRASH_POWER);
    world_start(w);
    check_recovered(w);
    CHECK(rec_group(w, 1)->term == 20);
}

static void test_full(void **state)
{
    (void)state;
    run_story(story_full, 1);
}

/* What the pool pre-writes takes room too, before anybody looks again how much the disk has. */
static void story_pool_room(uint64_t seed)
{
    struct world *w = world_new(seed);
    struct sim_disk d = {.sync_ns = {100000, 100000}, .capacity = 2000 << 10};
    sim_host_set_disk(w->host, &d);
    w->o.pool_max = 1 << 20;
    w->o.reserve = 400 << 10;
    world_start(w);
    put_entry(w, 1, 1, 5000, 1);
    world_run_ms(w, 5);
    journal_collect(w->j);
    world_run_ms(w, 1000);
    struct journal_stats st;
    journal_stats(w->j, &st);
    CHECK(st.pool_bytes > 60 << 10);
    while (journal_space(w->j)) {
        put_entry(w, 1, 1, 5000, 1);
        world_run_ms(w, 5);
    }
    uint64_t left;
    CHECK(env_disk_free(w->env, DIR_NAME, &left) == 0);
    journal_stats(w->j, &st);
    CHECK(left + st.pool_bytes >= w->o.reserve);
}

/* Somebody else fills the disk while a file is pre-written: the rest is left, and what there is of it is room. */
static void story_pool_crowded(uint64_t seed)
{
    struct world *w = world_new(seed);
    struct sim_disk d = {.sync_ns = {5000000, 5000000}, .capacity = 100 << 20};
    sim_host_set_disk(w->host, &d);
    w->o.segment_first = w->o.segment_max = w->o.pool_max = 16 << 20;
    w->o.reserve = 4 << 20;
    world_start(w);
    put_entry(w, 1, 1, 5000, 1);
    world_run_ms(w, 20);
    journal_collect(w->j);
    world_run_ms(w, 60); /* some steps of a file's sixteen */
    uint64_t left, other = 5 << 20; /* what the other leaves */
    CHECK(env_disk_free(w->env, DIR_NAME, &left) == 0 && left < 99 << 20);
    struct env_file *f;
    CHECK(env_file_open(w->env, "filler", ENV_OPEN_WRITE | ENV_OPEN_CREATE, &f) == 0);
    CHECK(env_file_pwrite(w->env, f, "x", 1, left - other - 1) == 0);
    for (unsigned i = 0; i < 10; i++) {
        journal_collect(w->j);
        world_run_ms(w, 100);
    }
    CHECK(env_disk_free(w->env, DIR_NAME, &left) == 0 && left > 3 << 20);
    struct journal_stats st;
    journal_stats(w->j, &st);
    CHECK(st.pool_bytes > 0 && st.pool_bytes < 16 << 20 && st.pool_written == st.pool_bytes);
    CHECK(journal_space(w->j));
    put_entry(w, 1, 1, 5000, 1);
    world_run_ms(w, 20);
    env_file_close(w->env, f);
}

static void test_pool_room(void **state)
{
    (void)state;
    run_story(story_pool_room, 1);
    run_story(story_pool_crowded, 1);
}

/* Segments go round: what is written over and over takes a bounded number of files. */
static void story_pool(uint64_t seed)
{
    struct world *w = world_new(seed);
    w->o.pool_max = 128 << 10;
    world_start(w);
    put_term(w, 3, 9, 1); /* an idle group, carried along */
    put_group(w, 3, 33);
    for (unsigned i = 0; i < 400; i++) {
        put_entry(w, 1, 1, 6000, 1);
        if (i % 20 == 19) {
            put_snapshot(w, 1, w->g[1].last - 5, 1);
            put_trim(w, 1, w->g[1].e[w->g[1].last - 5].a);
        }
        journal_collect(w->j);
        world_run_ms(w, 5);
    }
    struct journal_stats st;
    journal_stats(w->j, &st);
    CHECK(st.freed_segments > 20 && st.segments < 12 && st.pool_segments <= 4);
    CHECK(st.bytes_written < 2 * st.bytes_payload && st.pool_written > 0);
    world_crash(w, SIM_CRASH_POWER);
    world_start(w);
    check_recovered(w);
    CHECK(rec_group(w, 3)->term == 9 && rec_group(w, 3)->raft_id == 33);
}

static void test_pool(void **state)
{
    (void)state;
    run_story(story_pool, 1);
}

/* Any flipped bit of a quiet journal is either told or without effect. */
static void story_flips(uint64_t seed)
{
    struct world *w = world_new(seed);
    world_start(w);
    put_group(w, 1, 5);
    put_term(w, 1, 2, 1);
    settle(w);
    for (int i = 0; i < 4; i++) {
        put_entry(w, 1, 2, 300, 1);
        put_entry(w, 2, 1, 200, 1);
        settle(w);
    }
    put_truncate_at(w, 1, 4);
    put_entry(w, 1, 2, 400, 1);
    put_trim(w, 1, 1);
    settle(w);
    journal_collect(w->j);
    settle(w);
    world_crash(w, SIM_CRASH_POWER);
    struct sim_disk_copy *copy = sim_disk_copy(w->host);
    int64_t size = sim_disk_size(w->host, DIR_NAME "/seg-0000000000000001");
    CHECK(size > 6 * 4096);
    unsigned told = 0, harmless = 0;
    for (uint64_t bit = seed; bit < (uint64_t)size * 8; bit += 331) {
        sim_disk_restore(w->host, copy);
        CHECK(sim_disk_flip_bit(w->host, DIR_NAME "/seg-0000000000000001", bit) == 0);
        world_start(w);
        bool reported = w->open_error != 0 || w->rec->message[0] != '\0';
        if (w->open_error == 0) {
            const struct recovered_group *g = rec_group(w, 1);
            if (!reported) {
                check_recovered(w);
                CHECK(g->raft_id == 5 && g->term == 2 && g->vote == 1 && g->trim == 1 && g->n_entries == 4 && !g->lost);
            }
            for (size_t i = 0; g != NULL && !g->lost && i < g->n_entries; i++) {
                const struct model_entry *e = &w->g[1].e[g->entries[i].index];
                CHECK(g->entries[i].damaged || (g->entries[i].term == e->term && g->entries[i].place.len == e->len));
            }
            CHECK(g == NULL || g->lost || (g->n_entries == 4 && g->term == 2));
        }
        told += reported;
        harmless += !reported;
        world_crash(w, SIM_CRASH_POWER);
    }
    CHECK(told > 50 && harmless > 50);
}

static void test_flips(void **state)
{
    (void)state;
    for (uint64_t seed = 0; seed < 6; seed++) {
        run_story(story_flips, seed * 53);
    }
}

/* Read errors and flipped bits on the way from the disk during recovery: tried again, never taken for a torn tail. */
static void story_bad_reads(uint64_t seed)
{
    struct world *w = world_new(seed);
    world_start(w);
    put_term(w, 1, 1, 1);
    for (int i = 0; i < 60; i++) {
        put_entry(w, 1, 1, 2000, 1);
        world_run_ms(w, 2);
    }
    settle(w);
    world_crash(w, SIM_CRASH_POWER);
    struct sim_disk d = {.read_error_ppm = 50000, .flip_ppm = 50000};
    sim_host_set_disk(w->host, &d);
    world_start(w);
    struct sim_disk good = {.read_error_ppm = 0};
    sim_host_set_disk(w->host, &good);
    if (w->open_error == 0) {
        check_recovered(w);
        CHECK(rec_group(w, 1)->n_entries == 60);
    }
}

static void test_bad_reads(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed < 40; seed++) {
        run_story(story_bad_reads, seed);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_cache), cmocka_unit_test(test_cold), cmocka_unit_test(test_batch_log), cmocka_unit_test(test_full),
        cmocka_unit_test(test_pool), cmocka_unit_test(test_pool_room),  cmocka_unit_test(test_flips), cmocka_unit_test(test_bad_reads),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
