/* The identity file: lives are counted, strangers and damage are refused, a crash while it is replaced leaves the old or the new one. */
#include "storage/identity.h"
#include "storage_fixture.h"

struct idw {
    struct sim *sim;
    struct sim_host *host;
    struct env *env;
    const char *dir; /* NULL: /data */
    uint32_t node;
    struct identity id;
    int result;
    char err[256];
};

static void id_main(struct env *env, void *arg)
{
    struct idw *w = arg;
    w->env = env;
    w->result = identity_open(env, w->dir != NULL ? w->dir : "/data", w->node, &w->id, w->err);
}

static struct idw *id_world(uint64_t seed)
{
    struct idw *w = xcalloc(1, sizeof *w);
    struct sim_options o = {.seed = seed};
    w->sim = sim_open(&o);
    w->host = sim_host_add(w->sim, "n1");
    w->node = 3;
    return w;
}

static void start(struct idw *w)
{
    CHECK(sim_process_start(w->host, id_main, w) == 0);
}

static void story_lives(uint64_t seed)
{
    struct idw *w = id_world(seed);
    start(w);
    CHECK(w->result == 0 && w->id.incarnation == 1 && w->id.node_id == 3 && !w->id.formed && w->id.last_end == IDENTITY_CLEAN);
    w->id.formed = true;
    w->id.lanes = 2;
    w->id.cluster_id[0] = 0xab;
    CHECK(identity_save(w->env, "/data", &w->id) == 0);
    sim_process_crash(w->host, SIM_CRASH_POWER);
    start(w);
    CHECK(w->result == 0 && w->id.incarnation == 2 && w->id.formed && w->id.lanes == 2 && w->id.cluster_id[0] == 0xab);
    CHECK(w->id.last_end == IDENTITY_RUNNING);
    w->id.end = IDENTITY_IO_ERROR;
    CHECK(identity_save(w->env, "/data", &w->id) == 0);
    struct env_file *again;
    CHECK(env_lock(w->env, "/data/lock", &again) == -EWOULDBLOCK);
    sim_process_crash(w->host, SIM_CRASH_KILL);
    start(w);
    CHECK(w->result == 0 && w->id.incarnation == 3 && w->id.last_end == IDENTITY_IO_ERROR && w->id.end == IDENTITY_RUNNING);
    sim_process_crash(w->host, SIM_CRASH_KILL);
    w->node = 4;
    start(w);
    CHECK(w->result == ENV_EXIT_IDENTITY && strstr(w->err, "node 3") != NULL);
    sim_process_crash(w->host, SIM_CRASH_KILL);
    w->node = 3;
    start(w);
    CHECK(w->result == 0 && w->id.incarnation == 4); /* the refusal changed nothing */
    sim_process_crash(w->host, SIM_CRASH_POWER);
    CHECK(sim_disk_flip_bit(w->host, "/data/identity", 8 * 40) == 0);
    start(w);
    CHECK(w->result == ENV_EXIT_DAMAGE && w->err[0] != '\0');
}

/* Power cuts at every moment of replacing it, by seed: the life's number never goes back. */
static void story_replace(uint64_t seed)
{
    struct idw *w = id_world(seed);
    uint64_t before = 0;
    for (int i = 0; i < 10; i++) {
        start(w);
        CHECK(w->result == 0 && w->id.incarnation > before);
        before = w->id.incarnation;
        /* The next one begins and is cut before anything is synced. */
        struct env_file *f;
        CHECK(env_file_open(w->env, "/data/identity.new", ENV_OPEN_WRITE | ENV_OPEN_CREATE, &f) == 0);
        uint8_t junk[IDENTITY_BYTES];
        memset(junk, 0x5a, sizeof junk);
        CHECK(env_file_pwrite(w->env, f, junk, sizeof junk, 0) == 0);
        sim_process_crash(w->host, SIM_CRASH_POWER);
    }
}

/* A folder's name that leaves no room for the files' names is refused before anything is made. */
static void story_long_name(uint64_t seed)
{
    struct idw *w = id_world(seed);
    char name[700];
    memset(name, 'x', sizeof name);
    name[0] = '/';
    name[sizeof name - 1] = '\0';
    w->dir = name;
    start(w);
    CHECK(w->result == -ENAMETOOLONG && strstr(w->err, "too long") != NULL);
    CHECK(env_dir_sync(w->env, name) == -ENOENT);
}

/* Data without an identity is not taken for a new folder. */
static void orphan_main(struct env *env, void *arg)
{
    CHECK(env_mkdir(env, "/data") == 0 && env_mkdir(env, "/data/lane-0") == 0);
    id_main(env, arg);
}

static void story_orphan(uint64_t seed)
{
    struct idw *w = id_world(seed);
    CHECK(sim_process_start(w->host, orphan_main, w) == 0);
    CHECK(w->result == ENV_EXIT_IDENTITY && w->err[0] != '\0');
}

/* A journal of another node, lane or cluster, or of a later life, is refused and not changed. */
static void story_foreign(uint64_t seed)
{
    struct world *w = world_new(seed);
    world_start(w);
    put_term(w, 1, 1, 1);
    world_run_ms(w, 100);
    world_crash(w, SIM_CRASH_POWER);
    struct journal_options good = w->o;
    for (int i = 0; i < 4; i++) {
        w->o = good;
        uint64_t life = w->incarnation;
        if (i == 0) {
            w->o.node_id = 2;
        } else if (i == 1) {
            w->o.lane = 1;
        } else if (i == 2) {
            w->o.cluster_id[5] ^= 1;
        } else {
            w->incarnation = 0; /* an old copy of the identity file */
        }
        world_start(w);
        CHECK(w->open_error == ENV_EXIT_IDENTITY && w->err[0] != '\0' && w->j == NULL);
        world_crash(w, SIM_CRASH_POWER);
        w->incarnation = life;
    }
    w->o = good;
    memset(w->o.cluster_id, 0, 16); /* not formed yet: takes what is there */
    world_start(w);
    check_recovered(w);
    CHECK(rec_group(w, 1)->term == 1);
}

static void test_lives(void **state)
{
    (void)state;
    run_story(story_lives, 1);
    run_story(story_orphan, 1);
    run_story(story_long_name, 1);
}

static void test_replace(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed < 30; seed++) {
        run_story(story_replace, seed);
    }
}

static void test_foreign(void **state)
{
    (void)state;
    run_story(story_foreign, 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_lives), cmocka_unit_test(test_replace), cmocka_unit_test(test_foreign)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
