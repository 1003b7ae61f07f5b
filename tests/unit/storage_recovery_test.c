/* Recovery that is itself cut off: at each call of journal_open() that changes the disk the process dies once, by SIGKILL or by a power cut; often the next recoveries,
 * too. Whatever was acknowledged is there in the end, and what a finished recovery handed over stays. */
#include "storage_fixture.h"

/* Stands between the journal and the simulator while a journal is opened. */
static struct {
    struct env_ops ops;
    const struct env_ops *real;
    struct sim_host *host;
    unsigned calls, at;       /* how many changes of the disk so far; before which the process dies, 0: before none */
    enum sim_crash how;
} cut;

static struct env *before_change(struct env *env)
{
    if (++cut.calls == cut.at) {
        sim_process_crash(cut.host, cut.how); /* nothing done from here on reaches the disk */
    }
    return env;
}

static int cut_open(struct env *e, const char *path, unsigned flags, struct env_file **out) { return cut.real->file_open(before_change(e), path, flags, out); }
static int cut_pwrite(struct env *e, struct env_file *f, const void *buf, size_t n, uint64_t pos) { return cut.real->file_pwrite(before_change(e), f, buf, n, pos); }
static int cut_sync(struct env *e, struct env_file *f) { return cut.real->file_sync(before_change(e), f); }
static int cut_truncate(struct env *e, struct env_file *f, uint64_t size) { return cut.real->file_truncate(before_change(e), f, size); }
static int cut_dir_sync(struct env *e, const char *path)
{
    bool of_journal = strcmp(path, "/") != 0; /* the fixture's own */
    return cut.real->dir_sync(of_journal ? before_change(e) : e, path);
}
static int cut_rename(struct env *e, const char *from, const char *to) { return cut.real->rename(before_change(e), from, to); }
static int cut_unlink(struct env *e, const char *path) { return cut.real->unlink(before_change(e), path); }

static void cut_main(struct env *env, void *arg)
{
    cut.real = env->ops;
    cut.ops = *env->ops;
    cut.ops.file_open = cut_open;
    cut.ops.file_pwrite = cut_pwrite;
    cut.ops.file_sync = cut_sync;
    cut.ops.file_truncate = cut_truncate;
    cut.ops.dir_sync = cut_dir_sync;
    cut.ops.rename = cut_rename;
    cut.ops.unlink = cut_unlink;
    env->ops = &cut.ops;
    world_main(env, arg);
    env->ops = cut.real;
}

/* Starts and dies before the at-th change of the disk. False: recovery made fewer, and the process lives. */
static bool start_cut(struct world *w, unsigned at, enum sim_crash how)
{
    cut.host = w->host;
    cut.calls = 0;
    cut.at = at;
    cut.how = how;
    w->exit_code = 0;
    CHECK(sim_process_start(w->host, cut_main, w) == 0);
    CHECK(sim_process_up(w->host) == (cut.calls < at));
    return cut.calls >= at;
}

/* The world is down. From its present disk: every recovery that is cut off once, then perhaps again and again, ends well. Returns how many changes it makes. */
static unsigned cut_everywhere(struct world *w, void (*check)(struct world *w))
{
    struct sim_disk_copy *disk = sim_disk_copy(w->host);
    struct model_group *model = xmalloc(sizeof w->g);
    memcpy(model, w->g, sizeof w->g);
    bool cut_off = true;
    unsigned at = 0;
    while (cut_off) {
        at++;
        for (unsigned again = 0; again < 4; again++) {
            sim_disk_restore(w->host, disk);
            memcpy(w->g, model, sizeof w->g);
            cut_off = start_cut(w, at, again % 2 == 0 ? SIM_CRASH_POWER : SIM_CRASH_KILL);
            for (unsigned i = 0; cut_off && i < 3 * (again / 2); i++) {
                if (!start_cut(w, 1 + (unsigned)(sim_random(w->sim) % (at + 10)), sim_random(w->sim) % 2 == 0 ? SIM_CRASH_POWER : SIM_CRASH_KILL)) {
                    CHECK(w->open_error == 0);
                    check_recovered(w);
                    adopt(w);
                    world_crash(w, SIM_CRASH_POWER);
                }
            }
            if (cut_off) {
                world_start(w);
            }
            CHECK(w->open_error == 0);
            check_recovered(w);
            check(w);
            adopt(w);
            put_entry(w, 1, 9, 700, 1); /* and it goes on from there */
            world_run_ms(w, 200);
            CHECK(journal_durable(w->j) == journal_end(w->j));
            world_crash(w, SIM_CRASH_POWER);
            world_start(w);
            CHECK(w->open_error == 0);
            check_recovered(w);
            world_crash(w, SIM_CRASH_POWER);
        }
    }
    sim_disk_copy_free(disk);
    free(model);
    return at;
}

/* ---- a torn tail, several segments, killed or without power ---- */

static void anything(struct world *w) { CHECK(w->rec != NULL); }

static void story_recovery(uint64_t seed)
{
    struct world *w = world_new(seed);
    world_start(w);
    put_group(w, 1, 7);
    for (unsigned i = 0; i < 60; i++) {
        uint64_t group = 1 + i % 3;
        if (i % 10 < 3) {
            put_term(w, group, 1 + i / 10, 1);
        }
        put_entry(w, group, 1 + i / 10, 100 + (uint32_t)(sim_random(w->sim) % 5000), 1);
        sim_run_until(w->sim, sim_now_ns(w->sim) + sim_random(w->sim) % 900000);
    }
    put_entry(w, 2, 7, 20000, 1); /* two flushes in flight */
    put_entry(w, 3, 7, 20000, 1);
    sim_run_until(w->sim, sim_now_ns(w->sim) + 150000 + sim_random(w->sim) % 300000);
    world_crash(w, seed % 2 == 0 ? SIM_CRASH_POWER : SIM_CRASH_KILL);
    unsigned changes = cut_everywhere(w, anything);
    CHECK(changes > 5);
    fprintf(stderr, "seed %" PRIu64 ": recovery changed the disk %u times\n", seed, changes - 1);
}

/* ---- the tail is written anew after an I/O error (F3) ---- */

static void ten_entries(struct world *w)
{
    const struct recovered_group *g = rec_group(w, 1);
    CHECK(g->n_entries == 10 && g->raft_id == 5 && g->term == 1);
    CHECK(sim_disk_size(w->host, DIR_NAME "/seg-0000000000000001") < 0); /* rewritten and deleted */
}

static void story_rewrite(uint64_t seed)
{
    struct world *w = world_new(seed);
    world_start(w);
    put_group(w, 1, 5);
    put_term(w, 1, 1, 1);
    for (unsigned i = 0; i < 10; i++) {
        put_entry(w, 1, 1, 2000, 1);
        world_run_ms(w, i % 3);
    }
    world_run_ms(w, 200);
    fail_a_write(w);
    unsigned changes = cut_everywhere(w, ten_entries);
    CHECK(changes > 8);
    fprintf(stderr, "seed %" PRIu64 ": rewriting changed the disk %u times\n", seed, changes - 1);
}

static void test_recovery(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 12; seed++) {
        run_story(story_recovery, seed);
    }
}

static void test_rewrite(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 6; seed++) {
        run_story(story_rewrite, seed);
    }
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_recovery), cmocka_unit_test(test_rewrite)};
    if (argc > 1) {
        cmocka_set_test_filter(argv[1]);
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
