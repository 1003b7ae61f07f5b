/* The journal on a real disk: append, read, close, recover, with libuv's loop and helper threads. */
#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "storage/env_uv.h"
#include "storage/identity.h"
#include "storage_fixture.h"

enum { RECORDS = 2000, RECORD_BYTES = 4000 };

struct run {
    struct env *env;
    struct journal *j;
    struct recovered *rec;
    struct journal_append appends[RECORDS];
    struct place places[RECORDS];
    uint8_t *bytes;
    unsigned sent, done, reads, quiet;
    bool finished;
    struct journal_read read;
    struct env_timer timer;
    char base[32], dir[64], lane[96]; /* base/data/lane-0 */
};

static void next_read(struct run *r);

static void read_done(struct journal_read *jr)
{
    struct run *r = jr->user;
    assert_int_equal(jr->status, 0);
    assert_memory_equal(jr->data, r->bytes + (r->reads * 7 % 1000), RECORD_BYTES);
    journal_unpin(r->j, jr);
    r->reads += 13;
    next_read(r);
}

static void next_read(struct run *r)
{
    while (r->reads < RECORDS) {
        r->read = (struct journal_read){.place = r->places[r->reads], .user = r, .done = read_done};
        if (journal_read(r->j, &r->read) == 0) {
            return;
        }
        assert_int_equal(r->read.status, 0);
        assert_memory_equal(r->read.data, r->bytes + (r->reads * 7 % 1000), RECORD_BYTES);
        journal_unpin(r->j, &r->read);
        r->reads += 13;
    }
    r->finished = true;
    env_timer_start_ms(&r->timer, 1);
}

/* Requests under way when a loop ends are abandoned, and the journal's memory with them: so the test ends with none. */
static void stop_when_quiet(struct run *r)
{
    if (journal_durable(r->j) == journal_end(r->j) && ++r->quiet > 30) {
        env_stop(r->env);
    } else {
        env_timer_start_ms(&r->timer, 2);
    }
}

static void tick(struct env_timer *t);

static void append_done(struct journal_append *a)
{
    (void)a;
}

static void counted(struct journal_append *a)
{
    struct run *r = (struct run *)((char *)(a - a->record.index + 1) - offsetof(struct run, appends));
    assert_int_equal(a->record.index, r->done + 1);
    r->done++;
    if (r->done == RECORDS) {
        next_read(r);
    }
}

static void tick(struct env_timer *t)
{
    struct run *r = container_of(t, struct run, timer);
    if (r->finished) {
        stop_when_quiet(r);
        return;
    }
    for (int i = 0; i < 100 && r->sent < RECORDS; i++, r->sent++) {
        struct journal_append *a = &r->appends[r->sent];
        *a = (struct journal_append){.record = {.kind = JOURNAL_ENTRY, .group = 1 + r->sent % 1, .index = r->sent + 1, .term = 1, .a = r->sent, .b = 1,
                                                .data = r->bytes + (r->sent * 7 % 1000), .len = RECORD_BYTES},
                                     .done = counted};
        journal_append(r->j, a);
        r->places[r->sent] = a->place;
    }
    if (r->sent < RECORDS) {
        env_timer_start_ms(t, 1);
    }
}

static void remove_all(const char *dir)
{
    DIR *d = opendir(dir);
    for (struct dirent *e; d != NULL && (e = readdir(d)) != NULL;) {
        char path[600];
        snprintf(path, sizeof path, "%s/%s", dir, e->d_name);
        if (strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0 && remove(path) != 0) {
            remove_all(path);
            remove(path);
        }
    }
    closedir(d);
}

static struct run *run_new(void)
{
    struct run *r = xcalloc(1, sizeof *r);
    snprintf(r->base, sizeof r->base, "storage-uv-XXXXXX");
    assert_non_null(mkdtemp(r->base));
    snprintf(r->dir, sizeof r->dir, "%s/data", r->base);
    snprintf(r->lane, sizeof r->lane, "%s/lane-0", r->dir);
    r->bytes = xmalloc(RECORD_BYTES + 1000);
    fill(r->bytes, RECORD_BYTES + 1000, 1);
    return r;
}

static void life_end(struct run *r, struct identity *id)
{
    env_timer_close(&r->timer);
    journal_recovered_free(r->rec);
    journal_close(r->j);
    identity_close(r->env, id);
    env_uv_close(r->env);
}

static void run_free(struct run *r)
{
    remove_all(r->base);
    remove(r->base);
    free(r->bytes);
    free(r);
}

static void test_real_disk(void **state)
{
    (void)state;
    struct run *r = run_new();
    const char *dir = r->dir, *lane = r->lane;
    char err[256];
    for (int life = 0; life < 2; life++) {
        assert_int_equal(env_uv_open(&r->env), 0);
        struct identity id;
        assert_int_equal(identity_open(r->env, dir, 1, &id, err), 0);
        assert_int_equal(id.incarnation, life + 1);
        struct journal_options o = {.env = r->env, .dir = lane, .node_id = 1, .incarnation = id.incarnation, .segment_first = 1 << 20, .segment_max = 4 << 20,
                                    .cache_bytes = 1 << 20, .after_io_error = life == 1};
        int e = journal_open(&r->j, &o, &r->rec, err);
        if (e != 0) {
            fail_msg("%d: %s", e, err);
        }
        r->finished = false;
        r->quiet = 0;
        env_timer_init(r->env, &r->timer, tick);
        if (life == 0) {
            assert_true(r->rec->blank && r->rec->n_groups == 0);
            env_timer_start_ms(&r->timer, 0);
        } else {
            assert_int_equal(r->rec->n_groups, 1);
            assert_int_equal(r->rec->groups[0].n_entries, RECORDS);
            for (unsigned i = 0; i < RECORDS; i++) {
                r->places[i] = r->rec->groups[0].entries[i].place;
            }
            r->reads = 0;
            r->appends[0] = (struct journal_append){.record = {.kind = JOURNAL_TERM, .group = 1, .a = 1}, .done = append_done};
            journal_append(r->j, &r->appends[0]);
            next_read(r);
        }
        assert_int_equal(env_uv_run(r->env), 0);
        assert_true(r->reads >= RECORDS);
        life_end(r, &id);
    }
    run_free(r);
}

static const char *path_of(char path[200], const char *lane, unsigned long long id)
{
    snprintf(path, 200, "%s/pool-%016llx", lane, id);
    return path;
}

static void make_file(const char *path, off_t written, off_t size)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_EXCL, 0640);
    assert_true(fd >= 0);
    assert_true(written == 0 || posix_fallocate(fd, 0, written) == 0);
    assert_int_equal(ftruncate(fd, size), 0);
    close(fd);
}

/* What bears the name of a file of the pool and is none, and files of the pool that somebody removes, cost nothing but the time to make new ones. */
static void test_pool_of_others(void **state)
{
    (void)state;
    struct run *r = run_new();
    const char *dir = r->dir, *lane = r->lane;
    char path[200], err[256];
    assert_int_equal(env_uv_open(&r->env), 0);
    struct identity id;
    assert_int_equal(identity_open(r->env, dir, 1, &id, err), 0);
    assert_int_equal(mkdir(lane, 0750), 0);
    assert_int_equal(mkdir(path_of(path, lane, 3), 0750), 0);
    assert_int_equal(mkfifo(path_of(path, lane, 4), 0640), 0);
    assert_int_equal(mkdir(path_of(path, lane, ~0ull), 0750), 0);
    make_file(path_of(path, lane, 8), 0, 64 << 20); /* a hole is no room: what is written there may find the disk full */
    make_file(path_of(path, lane, 5), 2 << 20, 2 << 20);
    make_file(path_of(path, lane, 6), 1 << 20, 1 << 20);
    struct journal_options o = {.env = r->env, .dir = lane, .node_id = 1, .incarnation = id.incarnation, .segment_first = 1 << 20, .segment_max = 1 << 20,
                                .pool_max = 4 << 20, .cache_bytes = 1 << 20};
    assert_int_equal(journal_open(&r->j, &o, &r->rec, err), 0);
    struct journal_stats st;
    journal_stats(r->j, &st);
    assert_int_equal(st.pool_segments, 2); /* the larger one is the first segment now */
    assert_int_equal(st.pool_bytes, 1 << 20);
    assert_int_equal(remove(path), 0);
    env_timer_init(r->env, &r->timer, tick);
    env_timer_start_ms(&r->timer, 0);
    assert_int_equal(env_uv_run(r->env), 0);
    assert_true(r->done == RECORDS && r->reads >= RECORDS);
    life_end(r, &id);
    run_free(r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_real_disk), cmocka_unit_test(test_pool_of_others)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
