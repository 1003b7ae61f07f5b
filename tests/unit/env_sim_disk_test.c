/* The simulated disk: what survives a kill, what a power cut may leave, in contents and names; queues; full disk; I/O errors. */
#include "env_sim_fixture.h"

enum { SEEDS = 400, BLOCKS = 16, BLOCK = 512 };

struct node {
    struct sim *s;
    struct sim_host *h;
    struct env *env;
};

static struct node node_start(uint64_t seed, const struct sim_disk *disk)
{
    struct sim_options o = world_options(seed);
    if (disk != NULL) {
        o.disk = *disk;
    }
    struct node n = { .s = sim_open(&o) };
    n.h = sim_host_add(n.s, "n1");
    assert_int_equal(sim_process_start(n.h, keep_env, &n.env), 0);
    return n;
}

static void restart(struct node *n, enum sim_crash how)
{
    sim_process_crash(n->h, how);
    assert_false(sim_process_up(n->h));
    assert_int_equal(sim_process_start(n->h, keep_env, &n->env), 0);
}

static struct env_file *open_file(struct node *n, const char *path, unsigned flags)
{
    struct env_file *f = NULL;
    assert_int_equal(env_file_open(n->env, path, flags, &f), 0);
    return f;
}

#define RW (ENV_OPEN_READ | ENV_OPEN_WRITE)
#define RWC (RW | ENV_OPEN_CREATE)

static void fill(struct node *n, struct env_file *f, uint64_t pos, size_t len, char c)
{
    char *buf = malloc(len);
    memset(buf, c, len);
    assert_int_equal(env_file_pwrite(n->env, f, buf, len, pos), 0);
    free(buf);
}

/* ---- contents ------------------------------------------------------------------------------------------------------ */

static void plain_files_and_folders(void **state)
{
    (void)state;
    struct node n = node_start(1, NULL);
    struct env_file *f;
    char buf[64];
    assert_int_equal(env_file_open(n.env, "/no/f", RWC, &f), -ENOENT);
    assert_int_equal(env_file_open(n.env, "/f", RW, &f), -ENOENT);
    assert_int_equal(env_mkdir(n.env, "/a/b"), -ENOENT);
    assert_int_equal(env_mkdir(n.env, "/a"), 0);
    assert_int_equal(env_mkdir(n.env, "a/"), 0); /* there already, by another spelling */
    f = open_file(&n, "/a/f", RWC);
    assert_int_equal(env_file_open(n.env, "//a/f", RWC | ENV_OPEN_EXCL, &f), -EEXIST);
    fill(&n, f, 5000, 10, 'x');
    assert_int_equal(env_file_size(n.env, f), 5010);
    assert_int_equal(env_file_pread(n.env, f, buf, sizeof buf, 4990), 20);
    assert_memory_equal(buf, "\0\0\0\0\0\0\0\0\0\0xxxxxxxxxx", 20);
    assert_int_equal(env_file_truncate(n.env, f, 5002), 0);
    assert_int_equal(env_file_truncate(n.env, f, 5006), 0);
    assert_int_equal(env_file_pread(n.env, f, buf, sizeof buf, 5000), 6);
    assert_memory_equal(buf, "xx\0\0\0\0", 6);
    env_file_close(n.env, f);
    f = open_file(&n, "/a/f", ENV_OPEN_READ);
    assert_int_equal(env_file_pwrite(n.env, f, "y", 1, 0), -EBADF);
    assert_int_equal(env_rename(n.env, "/a/f", "/a/g"), 0);
    assert_int_equal(env_unlink(n.env, "/a/f"), -ENOENT);
    assert_int_equal(env_file_open(n.env, "/a/f", RW, &f), -ENOENT);
    assert_int_equal(env_unlink(n.env, "/a/g"), 0);
    assert_int_equal(env_file_pread(n.env, f, buf, 2, 5000), 2); /* open though nameless */
    sim_close(n.s);
}

static void list_name(void *arg, const char *name) { strcat(strcat(arg, name), " "); }

static void folders_are_listed_by_name(void **state)
{
    (void)state;
    struct node n = node_start(1, NULL);
    char names[128] = "";
    assert_int_equal(env_mkdir(n.env, "/d"), 0);
    assert_int_equal(env_mkdir(n.env, "/d/b"), 0);
    open_file(&n, "/d/c", RWC);
    open_file(&n, "/d/b/inner", RWC);
    open_file(&n, "/d/a", RWC);
    open_file(&n, "/d.x", RWC);
    assert_int_equal(env_dir_list(n.env, "/d", list_name, names), 0);
    assert_string_equal(names, "a b c ");
    names[0] = '\0';
    assert_int_equal(env_dir_list(n.env, "/", list_name, names), 0);
    assert_string_equal(names, "d d.x ");
    assert_int_equal(env_dir_list(n.env, "/e", list_name, names), -ENOENT);
    assert_int_equal(env_dir_list(n.env, "/d/c", list_name, names), -ENOTDIR);
    sim_close(n.s);
}

static void a_kill_keeps_what_was_written(void **state)
{
    (void)state;
    struct node n = node_start(1, NULL);
    struct env_file *f = open_file(&n, "/f", RWC);
    assert_int_equal(env_dir_sync(n.env, "/"), 0);
    fill(&n, f, 0, 100, 'a');
    restart(&n, SIM_CRASH_KILL);
    f = open_file(&n, "/f", RW);
    char buf[100];
    assert_int_equal(env_file_pread(n.env, f, buf, 100, 0), 100);
    assert_int_equal(buf[99], 'a');
    assert_int_equal(sim_disk_size(n.h, "/f"), 0); /* visible, not durable */
    assert_int_equal(env_file_sync(n.env, f), 0); /* another process makes it so */
    assert_int_equal(sim_disk_size(n.h, "/f"), 100);
    assert_int_equal(sim_disk_read(n.h, "/f", buf, 100, 0), 100);
    assert_int_equal(buf[0], 'a');
    sim_close(n.s);
}

/* Old blocks 'a', durable; new blocks 'b', not: after a power cut each is one or the other, and now and then one is torn. */
static void a_power_cut_keeps_loses_or_tears_unsynced_sectors(void **state)
{
    (void)state;
    unsigned all_kept = 0, all_lost = 0, mixed = 0, torn_files = 0;
    for (uint64_t seed = 0; seed < SEEDS; seed++) {
        struct node n = node_start(seed, NULL);
        struct env_file *f = open_file(&n, "/f", RWC);
        fill(&n, f, 0, BLOCKS * BLOCK, 'a');
        assert_int_equal(env_file_sync(n.env, f), 0);
        assert_int_equal(env_dir_sync(n.env, "/"), 0);
        fill(&n, f, BLOCK, (BLOCKS - 2) * BLOCK, 'b'); /* the first and last stay */
        restart(&n, SIM_CRASH_POWER);
        f = open_file(&n, "/f", RW);
        char buf[BLOCKS * BLOCK], a[BLOCK], b[BLOCK];
        memset(a, 'a', BLOCK);
        memset(b, 'b', BLOCK);
        assert_int_equal(env_file_pread(n.env, f, buf, sizeof buf, 0), sizeof buf);
        unsigned kept = 0, lost = 0, torn = 0;
        for (unsigned i = 0; i < BLOCKS; i++) {
            bool is_a = memcmp(buf + i * BLOCK, a, BLOCK) == 0;
            bool is_b = memcmp(buf + i * BLOCK, b, BLOCK) == 0;
            if (i == 0 || i == BLOCKS - 1) {
                assert_true(is_a);
            } else {
                kept += is_b;
                lost += is_a;
                torn += !is_a && !is_b;
            }
        }
        assert_true(torn <= 1);
        torn_files += torn;
        all_kept += kept == BLOCKS - 2;
        all_lost += lost == BLOCKS - 2;
        mixed += kept > 0 && lost > 0;
        /* What is there now is durable. */
        char again[BLOCKS * BLOCK];
        restart(&n, SIM_CRASH_POWER);
        assert_int_equal(sim_disk_read(n.h, "/f", again, sizeof again, 0), sizeof again);
        assert_memory_equal(buf, again, sizeof buf);
        sim_close(n.s);
    }
    assert_true(all_kept > SEEDS / 10);
    assert_true(all_lost > SEEDS / 10);
    assert_true(mixed > SEEDS / 4);
    assert_true(torn_files > SEEDS / 20);
}

static void a_power_cut_may_undo_a_size(void **state)
{
    (void)state;
    unsigned short_files = 0, long_files = 0, between = 0;
    for (uint64_t seed = 0; seed < SEEDS; seed++) {
        struct node n = node_start(seed, NULL);
        struct env_file *f = open_file(&n, "/f", RWC);
        fill(&n, f, 0, 1000, 'a');
        assert_int_equal(env_file_sync(n.env, f), 0);
        assert_int_equal(env_dir_sync(n.env, "/"), 0);
        fill(&n, f, 1000, 20000, 'b');
        restart(&n, SIM_CRASH_POWER);
        f = open_file(&n, "/f", RW);
        int64_t size = env_file_size(n.env, f);
        assert_in_range(size, 1000, 21000);
        short_files += size == 1000;
        long_files += size == 21000;
        between += size > 1000 && size < 21000;
        char buf[512];
        assert_int_equal(env_file_pread(n.env, f, buf, 512, 0), 512); /* the whole first sector was durable */
        assert_int_equal(buf[511], 'a');
        sim_close(n.s);
    }
    assert_true(short_files > SEEDS / 10 && long_files > SEEDS / 10 && between > SEEDS / 10);
}

/* ---- names --------------------------------------------------------------------------------------------------------- */

static bool exists(struct node *n, const char *path)
{
    struct env_file *f;
    int rv = env_file_open(n->env, path, ENV_OPEN_READ, &f);
    assert_true(rv == 0 || rv == -ENOENT);
    if (rv == 0) {
        env_file_close(n->env, f);
    }
    return rv == 0;
}

static void names_last_when_their_folder_was_synced(void **state)
{
    (void)state;
    unsigned created = 0, renamed = 0, removed = 0;
    for (uint64_t seed = 0; seed < SEEDS; seed++) {
        struct node n = node_start(seed, NULL);
        assert_int_equal(env_mkdir(n.env, "/d"), 0);
        assert_int_equal(env_dir_sync(n.env, "/"), 0);
        open_file(&n, "/d/old", RWC);
        open_file(&n, "/d/gone", RWC);
        open_file(&n, "/d/kept", RWC);
        assert_int_equal(env_dir_sync(n.env, "/d"), 0);
        /* Synced: always there. */
        struct env_file *f = open_file(&n, "/d/tmp", RWC);
        fill(&n, f, 0, 3, 'n');
        assert_int_equal(env_file_sync(n.env, f), 0);
        assert_int_equal(env_rename(n.env, "/d/tmp", "/d/current"), 0);
        assert_int_equal(env_dir_sync(n.env, "/d"), 0);
        /* Not synced: perhaps. */
        f = open_file(&n, "/d/new", RWC);
        assert_int_equal(env_file_sync(n.env, f), 0); /* of the file: says nothing of its name */
        assert_int_equal(env_rename(n.env, "/d/old", "/d/newer"), 0);
        assert_int_equal(env_unlink(n.env, "/d/gone"), 0);
        restart(&n, SIM_CRASH_POWER);
        assert_true(exists(&n, "/d/current") && exists(&n, "/d/kept") && !exists(&n, "/d/tmp"));
        created += exists(&n, "/d/new");
        renamed += exists(&n, "/d/newer");
        removed += !exists(&n, "/d/gone");
        assert_int_not_equal(exists(&n, "/d/old"), exists(&n, "/d/newer")); /* a rename happens or not */
        sim_close(n.s);
    }
    assert_in_range(created, SEEDS / 5, SEEDS * 4 / 5);
    assert_in_range(renamed, SEEDS / 5, SEEDS * 4 / 5);
    assert_in_range(removed, SEEDS / 5, SEEDS * 4 / 5);
}

static void what_lies_in_a_lost_folder_is_lost(void **state)
{
    (void)state;
    unsigned lost = 0;
    for (uint64_t seed = 0; seed < 50; seed++) {
        struct node n = node_start(seed, NULL);
        assert_int_equal(env_mkdir(n.env, "/d"), 0);
        open_file(&n, "/d/f", RWC);
        assert_int_equal(env_dir_sync(n.env, "/d"), 0); /* but not of "/" */
        restart(&n, SIM_CRASH_POWER);
        char names[64] = "";
        lost += env_dir_list(n.env, "/d", list_name, names) == -ENOENT;
        assert_int_equal(exists(&n, "/d/f"), strcmp(names, "f ") == 0);
        sim_close(n.s);
    }
    assert_in_range(lost, 5, 45);
}

static void a_lock_ends_with_its_process(void **state)
{
    (void)state;
    struct node n = node_start(1, NULL);
    struct env_file *lock, *second;
    struct env *other;
    assert_int_equal(env_lock(n.env, "/lock", &lock), 0);
    sim_client_start(n.h, keep_env, &other);
    assert_int_equal(env_lock(other, "/lock", &second), -EWOULDBLOCK);
    sim_process_crash(n.h, SIM_CRASH_KILL);
    assert_int_equal(env_lock(other, "/lock", &second), 0);
    sim_close(n.s);
}

/* ---- queues -------------------------------------------------------------------------------------------------------- */

struct request {
    struct env_io io;
    struct iovec iov[3];
    char data[8192];
    struct env_job job;
    char **log;
    char name;
    uint64_t done_at;
};

static void request_done(struct env_io *io)
{
    struct request *r = container_of(io, struct request, io);
    r->done_at = env_now_ns(io->env);
    if (r->log != NULL) {
        *(*r->log)++ = r->name;
    }
}

static void job_work(struct env_job *j)
{
    struct request *r = container_of(j, struct request, job);
    *(*r->log)++ = 'w';
}

static void job_done(struct env_job *j)
{
    struct request *r = container_of(j, struct request, job);
    *(*r->log)++ = 'j';
}

static void submit(struct node *n, struct request *r, enum env_io_op op, struct env_file *f, uint64_t pos)
{
    r->iov[0] = (struct iovec){ r->data, 3000 };
    r->iov[1] = (struct iovec){ r->data, 0 };
    r->iov[2] = (struct iovec){ r->data + 3000, sizeof r->data - 3000 };
    r->io = (struct env_io){ .file = f, .op = op, .iov = r->iov, .n_iov = 3, .pos = pos, .status = 1 };
    env_io_submit(n->env, op == ENV_IO_READ ? ENV_QUEUE_READ : ENV_QUEUE_SYNC, &r->io, request_done);
}

static void a_queue_is_first_in_first_out(void **state)
{
    (void)state;
    for (uint64_t seed = 0; seed < 20; seed++) {
        struct node n = node_start(seed, NULL);
        struct env_file *f = open_file(&n, "/f", RWC);
        char log[64] = "", *end = log;
        struct request r[8];
        for (unsigned i = 0; i < 8; i++) {
            r[i].log = &end;
            r[i].name = (char)('0' + i);
            memset(r[i].data, r[i].name, sizeof r[i].data);
            if (i == 4) {
                env_job_submit(n.env, ENV_QUEUE_SYNC, &r[i].job, job_work, job_done);
            } else {
                submit(&n, &r[i], i % 2 == 0 ? ENV_IO_WRITE : ENV_IO_WRITE_SYNC, f, i * 100);
            }
        }
        uint64_t start = env_clock_ns(n.env);
        assert_string_equal(log, ""); /* never inside the call */
        run_ms(n.s, 100);
        assert_string_equal(log, "0123wj567");
        assert_in_range(r[1].done_at - start, MS, 5 * MS);
        assert_int_equal(r[7].io.status, 0);
        assert_int_equal(r[7].io.n_done, 8192);
        /* A read does not wait behind a sync. */
        struct request sync = { 0 }, read = { 0 };
        submit(&n, &sync, ENV_IO_SYNC, f, 0);
        submit(&n, &read, ENV_IO_READ, f, 600);
        run_ms(n.s, 100);
        assert_true(read.done_at < sync.done_at);
        assert_int_equal(read.io.n_done, 8192);
        assert_int_equal(read.data[50], '6');
        assert_int_equal(read.data[150], '7');
        submit(&n, &read, ENV_IO_READ, f, 8000);
        run_ms(n.s, 10);
        assert_int_equal(read.io.n_done, 892); /* short at the end */
        sim_close(n.s);
    }
}

/* Three requests in flight at a kill: a first part of them happened, nobody was told. */
static void a_crash_cuts_requests_off_in_order(void **state)
{
    (void)state;
    unsigned seen[4] = { 0 }, partly = 0, durable = 0;
    for (uint64_t seed = 0; seed < SEEDS; seed++) {
        struct node n = node_start(seed, NULL);
        struct env_file *f = open_file(&n, "/f", RWC);
        env_dir_sync(n.env, "/");
        struct request *r = calloc(3, sizeof *r);
        for (unsigned i = 0; i < 3; i++) {
            memset(r[i].data, 'x', sizeof r[i].data);
            submit(&n, &r[i], ENV_IO_WRITE_SYNC, f, i * sizeof r[i].data);
        }
        restart(&n, SIM_CRASH_KILL);
        run_ms(n.s, 50);
        for (unsigned i = 0; i < 3; i++) {
            assert_int_equal(r[i].io.status, 1); /* no callback */
        }
        f = open_file(&n, "/f", RW);
        int64_t size = env_file_size(n.env, f);
        seen[size / 8192]++;
        partly += size % 8192 != 0;
        durable += sim_disk_size(n.h, "/f") > 0;
        sim_close(n.s);
        free(r);
    }
    assert_true(seen[0] > 20 && seen[1] > 20 && seen[2] > 20 && seen[3] > 20);
    assert_true(partly > 20);
    assert_true(durable > 20);
}

/* ---- trouble ------------------------------------------------------------------------------------------------------- */

static void a_full_disk_says_so(void **state)
{
    (void)state;
    struct node n = node_start(1, &(struct sim_disk){ .capacity = 64 * 1024 });
    uint64_t room;
    struct env_file *f = open_file(&n, "/f", RWC);
    fill(&n, f, 0, 60000, 'a');
    assert_int_equal(env_disk_free(n.env, "/", &room), 0);
    assert_int_equal(room, 64 * 1024 - 61440);
    fill(&n, f, 60000, 1000, 'a');
    assert_int_equal(env_file_pwrite(n.env, f, "x", 1, 65536), -ENOSPC);
    struct request r = { 0 };
    submit(&n, &r, ENV_IO_WRITE_SYNC, f, 64000);
    run_ms(n.s, 50);
    assert_int_equal(r.io.status, -ENOSPC);
    assert_int_equal(env_file_size(n.env, f), 61000);
    fill(&n, f, 0, 60000, 'b'); /* overwriting needs nothing */
    assert_int_equal(env_unlink(n.env, "/f"), 0);
    assert_int_equal(env_disk_free(n.env, "/", &room), 0);
    assert_int_equal(room, 64 * 1024 - 61440); /* still open */
    env_file_close(n.env, f);
    assert_int_equal(env_disk_free(n.env, "/", &room), 0);
    assert_int_equal(room, 64 * 1024);
    sim_close(n.s);
}

static void after_a_failed_sync_the_data_is_in_the_cache_alone(void **state)
{
    (void)state;
    struct node n = node_start(1, NULL);
    struct env_file *f = open_file(&n, "/f", RWC);
    fill(&n, f, 0, 4096, 'a');
    assert_int_equal(env_file_sync(n.env, f), 0);
    assert_int_equal(env_dir_sync(n.env, "/"), 0);
    fill(&n, f, 512, 512, 'b');
    struct sim_disk bad = { .write_error_ppm = 1000000 }, good = { 0 };
    sim_host_set_disk(n.h, &bad);
    assert_int_equal(env_file_sync(n.env, f), -EIO);
    sim_host_set_disk(n.h, &good);
    assert_int_equal(env_file_sync(n.env, f), 0); /* a second sync succeeds and means nothing */
    char buf[1024];
    assert_int_equal(env_file_pread(n.env, f, buf, 1024, 0), 1024);
    assert_int_equal(buf[600], 'b');
    restart(&n, SIM_CRASH_KILL);
    f = open_file(&n, "/f", RW);
    assert_int_equal(env_file_pread(n.env, f, buf, 1024, 0), 1024);
    assert_int_equal(buf[600], 'b'); /* the cache outlives the process */
    struct env_file *direct = open_file(&n, "/f", ENV_OPEN_READ | ENV_OPEN_DIRECT);
    char *page = aligned_alloc(4096, 4096);
    assert_int_equal(env_file_pread(n.env, direct, page, 512, 0), -EINVAL);
    assert_int_equal(env_file_pread(n.env, direct, page, 4096, 0), 4096);
    assert_int_equal(page[600], 'a'); /* the disk tells the truth */
    free(page);
    restart(&n, SIM_CRASH_POWER);
    f = open_file(&n, "/f", RW);
    assert_int_equal(env_file_pread(n.env, f, buf, 1024, 0), 1024);
    assert_int_equal(buf[600], 'a');
    /* Written again it lasts. */
    fill(&n, f, 512, 512, 'c');
    assert_int_equal(env_file_sync(n.env, f), 0);
    restart(&n, SIM_CRASH_POWER);
    assert_int_equal(sim_disk_read(n.h, "/f", buf, 1024, 0), 1024);
    assert_int_equal(buf[600], 'c');
    sim_close(n.s);
}

static void reads_fail_and_lie_when_told_to(void **state)
{
    (void)state;
    struct node n = node_start(1, NULL);
    struct env_file *f = open_file(&n, "/f", RWC);
    fill(&n, f, 0, 512, 'a');
    char buf[512];
    sim_host_set_disk(n.h, &(struct sim_disk){ .read_error_ppm = 1000000 });
    assert_int_equal(env_file_pread(n.env, f, buf, 512, 0), -EIO);
    sim_host_set_disk(n.h, &(struct sim_disk){ .flip_ppm = 1000000 });
    assert_int_equal(env_file_pread(n.env, f, buf, 512, 0), 512);
    unsigned wrong = 0;
    for (unsigned i = 0; i < 512; i++) {
        wrong += (unsigned)__builtin_popcount((unsigned char)(buf[i] ^ 'a'));
    }
    assert_int_equal(wrong, 1);
    sim_close(n.s);
}

static void drivers_damage_copy_and_restore(void **state)
{
    (void)state;
    struct node n = node_start(1, NULL);
    struct env_file *f = open_file(&n, "/f", RWC);
    fill(&n, f, 0, 10000, 'a');
    assert_int_equal(env_file_sync(n.env, f), 0);
    assert_int_equal(env_dir_sync(n.env, "/"), 0);
    fill(&n, f, 0, 10000, 'b'); /* not durable: not in the copy */
    struct sim_disk_copy *copy = sim_disk_copy(n.h);
    assert_int_equal(env_file_sync(n.env, f), 0);
    sim_process_crash(n.h, SIM_CRASH_KILL);
    char buf[3];
    assert_int_equal(sim_disk_flip_bit(n.h, "/f", 8 * 9999), 0);
    assert_int_equal(sim_disk_flip_bit(n.h, "/f", 8 * 10000), -EINVAL);
    assert_int_equal(sim_disk_flip_bit(n.h, "/g", 0), -ENOENT);
    assert_int_equal(sim_disk_zero(n.h, "/f", 9998, 1), 0);
    assert_int_equal(sim_disk_read(n.h, "/f", buf, 3, 9997), 3);
    assert_memory_equal(buf, "b\0c", 3);
    sim_disk_restore(n.h, copy);
    sim_disk_copy_free(copy);
    assert_int_equal(sim_disk_read(n.h, "/f", buf, 3, 9997), 3);
    assert_memory_equal(buf, "aaa", 3);
    sim_disk_wipe(n.h);
    assert_int_equal(sim_disk_size(n.h, "/f"), -ENOENT);
    assert_int_equal(sim_process_start(n.h, keep_env, &n.env), 0);
    assert_false(exists(&n, "/f"));
    sim_close(n.s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(plain_files_and_folders),
        cmocka_unit_test(folders_are_listed_by_name),
        cmocka_unit_test(a_kill_keeps_what_was_written),
        cmocka_unit_test(a_power_cut_keeps_loses_or_tears_unsynced_sectors),
        cmocka_unit_test(a_power_cut_may_undo_a_size),
        cmocka_unit_test(names_last_when_their_folder_was_synced),
        cmocka_unit_test(what_lies_in_a_lost_folder_is_lost),
        cmocka_unit_test(a_lock_ends_with_its_process),
        cmocka_unit_test(a_queue_is_first_in_first_out),
        cmocka_unit_test(a_crash_cuts_requests_off_in_order),
        cmocka_unit_test(a_full_disk_says_so),
        cmocka_unit_test(after_a_failed_sync_the_data_is_in_the_cache_alone),
        cmocka_unit_test(reads_fail_and_lie_when_told_to),
        cmocka_unit_test(drivers_damage_copy_and_restore),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
