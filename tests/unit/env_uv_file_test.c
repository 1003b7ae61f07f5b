/* Files of env_uv: blocking calls, requests and jobs on the helper threads, errors of the disk. */
#include "env_uv_fixture.h"

#include <fcntl.h>
#include <pthread.h>
#include <sys/stat.h>

struct io_test {
    struct env *env;
    unsigned left;
    int order[512];
    unsigned n;
};

struct io {
    struct env_io io;
    struct io_test *test;
    int id;
};

static void io_done(struct env_io *eio)
{
    struct io *io = container_of(eio, struct io, io);
    io->test->order[io->test->n++] = io->id;
    if (--io->test->left == 0) {
        env_stop(io->test->env);
    }
}

static void fill(unsigned char *p, size_t n, unsigned seed)
{
    for (size_t i = 0; i < n; i++) {
        p[i] = (unsigned char)(seed + i * 31 + (i >> 8) * 7);
    }
}

/* Runs one request and returns its status. */
static int do_io(struct env *env, enum env_queue q, struct env_file *f, enum env_io_op op, const struct iovec *iov, unsigned n_iov,
                 uint64_t pos, size_t *n_done)
{
    struct io_test test = {.env = env, .left = 1};
    struct io io = {.test = &test, .io = {.file = f, .op = op, .iov = iov, .n_iov = n_iov, .pos = pos}};
    env_io_submit(env, q, &io.io, io_done);
    assert_int_equal(test.n, 0); /* never inside the call */
    run_loop(env);
    assert_int_equal(test.n, 1);
    if (n_done != NULL) {
        *n_done = io.io.n_done;
    }
    return io.io.status;
}

/* What was written in odd pieces, more of them than IOV_MAX, comes back by one read and by many. */
static void test_write_and_read_back(void **state)
{
    (void)state;
    struct env *env = open_loop();
    char dir[64], path[128];
    make_dir(dir);
    snprintf(path, sizeof path, "%s/file", dir);
    struct env_file *f;
    assert_int_equal(env_file_open(env, path, ENV_OPEN_READ, &f), -ENOENT);
    assert_int_equal(env_file_open(env, path, ENV_OPEN_WRITE | ENV_OPEN_CREATE | ENV_OPEN_EXCL, &f), 0);

    enum { N_IOV = 3000 };
    size_t total = 0;
    struct iovec *iov = calloc(N_IOV, sizeof *iov);
    for (unsigned i = 0; i < N_IOV; i++) {
        iov[i].iov_len = i % 7 == 0 ? 0 : i == 5 ? 300001 : (i * 13) % 997;
        total += iov[i].iov_len;
    }
    unsigned char *data = malloc(total), *back = calloc(1, total + 100);
    fill(data, total, 3);
    size_t at = 0;
    for (unsigned i = 0; i < N_IOV; i++) {
        iov[i].iov_base = data + at;
        at += iov[i].iov_len;
    }
    size_t n_done;
    assert_int_equal(do_io(env, ENV_QUEUE_SYNC, f, ENV_IO_WRITE_SYNC, iov, N_IOV, 777, &n_done), 0);
    assert_int_equal(n_done, total);
    assert_int_equal(env_file_size(env, f), (int64_t)total + 777);
    assert_int_equal(do_io(env, ENV_QUEUE_SYNC, f, ENV_IO_SYNC, NULL, 0, 0, NULL), 0);

    struct iovec whole = {.iov_base = back, .iov_len = total + 100};
    assert_int_equal(do_io(env, ENV_QUEUE_READ, f, ENV_IO_READ, &whole, 1, 777, &n_done), 0);
    assert_int_equal(n_done, total); /* short only at the end */
    assert_memory_equal(back, data, total);
    memset(data, 0, total);
    assert_int_equal(do_io(env, ENV_QUEUE_READ, f, ENV_IO_READ, iov, N_IOV, 777, &n_done), 0);
    assert_int_equal(n_done, total);
    assert_memory_equal(back, data, total);
    assert_int_equal(do_io(env, ENV_QUEUE_READ, f, ENV_IO_READ, &whole, 1, 777 + total, &n_done), 0);
    assert_int_equal(n_done, 0);

    env_file_close(env, f);
    free(iov);
    free(data);
    free(back);
    remove_dir(dir);
    env_uv_close(env);
}

/* Requests and jobs of one queue complete in the order of submission, whatever the other queues do. */
struct job {
    struct env_job job;
    struct io_test *test;
    int id;
    pthread_t loop_thread;
};

static void job_work(struct env_job *j)
{
    struct job *job = container_of(j, struct job, job);
    assert_false(pthread_equal(pthread_self(), job->loop_thread));
    job->id += 1000;
}

static void job_done(struct env_job *j)
{
    struct job *job = container_of(j, struct job, job);
    assert_true(pthread_equal(pthread_self(), job->loop_thread));
    job->test->order[job->test->n++] = job->id;
    if (--job->test->left == 0) {
        env_stop(job->test->env);
    }
}

static void test_queue_order(void **state)
{
    (void)state;
    struct env *env = open_loop();
    char dir[64], path[128];
    make_dir(dir);
    snprintf(path, sizeof path, "%s/file", dir);
    struct env_file *f;
    assert_int_equal(env_file_open(env, path, ENV_OPEN_WRITE | ENV_OPEN_CREATE, &f), 0);
    enum { N = 100 };
    struct io_test sync_test = {.env = env, .left = 2 * N};
    struct io_test *test = &sync_test;
    struct io *ios = calloc(N, sizeof *ios);
    struct job *jobs = calloc(N, sizeof *jobs);
    unsigned char byte[N];
    struct iovec iov[N];
    for (unsigned i = 0; i < N; i++) {
        byte[i] = (unsigned char)i;
        iov[i] = (struct iovec){.iov_base = &byte[i], .iov_len = 1};
        ios[i] = (struct io){.test = test, .id = (int)i, .io = {.file = f, .op = ENV_IO_WRITE, .iov = &iov[i], .n_iov = 1, .pos = 0}};
        jobs[i] = (struct job){.test = test, .id = (int)i, .loop_thread = pthread_self()};
        env_io_submit(env, ENV_QUEUE_BULK, &ios[i].io, io_done);
        env_job_submit(env, ENV_QUEUE_BULK, &jobs[i].job, job_work, job_done);
    }
    run_loop(env);
    for (unsigned i = 0; i < N; i++) {
        assert_int_equal(test->order[2 * i], i);
        assert_int_equal(test->order[2 * i + 1], 1000 + i);
        assert_int_equal(ios[i].io.status, 0);
    }
    unsigned char last;
    assert_int_equal(env_file_pread(env, f, &last, 1, 0), 1);
    assert_int_equal(last, N - 1); /* all wrote the same place, the last one last */
    env_file_close(env, f);
    free(ios);
    free(jobs);
    remove_dir(dir);
    env_uv_close(env);
}

/* A queue that is busy does not hold up another. */
struct gate {
    struct env_job job;
    struct io_test *test;
    pthread_mutex_t mutex;
};

static void gate_work(struct env_job *j)
{
    struct gate *g = container_of(j, struct gate, job);
    pthread_mutex_lock(&g->mutex);
    pthread_mutex_unlock(&g->mutex);
}

static void gate_done(struct env_job *j)
{
    struct gate *g = container_of(j, struct gate, job);
    g->test->order[g->test->n++] = 7;
    env_stop(g->test->env);
}

static void test_queues_are_independent(void **state)
{
    (void)state;
    struct env *env = open_loop();
    struct io_test test = {.env = env, .left = 1};
    struct gate gate = {.test = &test};
    pthread_mutex_init(&gate.mutex, NULL);
    pthread_mutex_lock(&gate.mutex);
    env_job_submit(env, ENV_QUEUE_SYNC, &gate.job, gate_work, gate_done);
    struct job quick = {.test = &test, .id = 1, .loop_thread = pthread_self()};
    env_job_submit(env, ENV_QUEUE_READ, &quick.job, job_work, job_done);
    run_loop(env);
    assert_int_equal(test.n, 1);
    assert_int_equal(test.order[0], 1001);
    pthread_mutex_unlock(&gate.mutex);
    run_loop(env);
    assert_int_equal(test.n, 2);
    assert_int_equal(test.order[1], 7);
    pthread_mutex_destroy(&gate.mutex);
    env_uv_close(env);
}

/* Errors of the disk come back as they are. */
static void test_errors(void **state)
{
    (void)state;
    struct env *env = open_loop();
    struct env_file *full, *readonly;
    static char bytes[200000];
    struct iovec iov = {.iov_base = bytes, .iov_len = sizeof bytes};
    size_t n_done;
    assert_int_equal(env_file_open(env, "/dev/full", ENV_OPEN_WRITE, &full), 0);
    assert_int_equal(do_io(env, ENV_QUEUE_SYNC, full, ENV_IO_WRITE, &iov, 1, 0, &n_done), -ENOSPC);
    assert_int_equal(n_done, 0);
    assert_int_equal(do_io(env, ENV_QUEUE_SYNC, full, ENV_IO_WRITE_SYNC, &iov, 1, 0, NULL), -ENOSPC);
    assert_int_equal(env_file_pwrite(env, full, bytes, sizeof bytes, 0), -ENOSPC);
    assert_int_equal(do_io(env, ENV_QUEUE_SYNC, full, ENV_IO_SYNC, NULL, 0, 0, NULL), -EINVAL); /* no such thing for a device */
    env_file_close(env, full);

    char dir[64], path[128], other[128];
    make_dir(dir);
    snprintf(path, sizeof path, "%s/file", dir);
    snprintf(other, sizeof other, "%s/other", dir);
    struct env_file *f;
    assert_int_equal(env_file_open(env, path, ENV_OPEN_WRITE | ENV_OPEN_CREATE, &f), 0);
    env_file_close(env, f);
    assert_int_equal(env_file_open(env, path, ENV_OPEN_WRITE | ENV_OPEN_CREATE | ENV_OPEN_EXCL, &f), -EEXIST);
    assert_int_equal(env_file_open(env, path, ENV_OPEN_READ, &readonly), 0);
    assert_int_equal(do_io(env, ENV_QUEUE_SYNC, readonly, ENV_IO_WRITE, &iov, 1, 0, NULL), -EBADF);
    assert_int_equal(env_file_pwrite(env, readonly, bytes, 10, 0), -EBADF);
    env_file_close(env, readonly);
    assert_int_equal(env_mkdir(env, path), -EEXIST); /* there, but no folder */
    assert_int_equal(mkfifo(other, 0600), 0);
    assert_int_equal(env_file_open(env, other, ENV_OPEN_READ, &f), -ESPIPE); /* at once, though nobody writes into it */
    assert_int_equal(env_file_open(env, other, ENV_OPEN_READ | ENV_OPEN_WRITE, &f), -ESPIPE);
    assert_int_equal(env_unlink(env, other), 0);
    assert_int_equal(env_file_open(env, dir, ENV_OPEN_READ, &f), -EISDIR);
    assert_int_equal(env_rename(env, other, path), -ENOENT);
    assert_int_equal(env_unlink(env, other), -ENOENT);
    assert_int_equal(env_dir_sync(env, other), -ENOENT);
    uint64_t bytes_free;
    assert_int_equal(env_disk_free(env, other, &bytes_free), -ENOENT);
    remove_dir(dir);
    env_uv_close(env);
}

/* Both come from the system, so only their direction is known: time is used up, memory that was touched is held. */
static void test_usage(void **state)
{
    (void)state;
    struct env *env;
    assert_int_equal(env_uv_open(&env), 0);
    struct env_usage before, after;
    env_usage(env, &before);
    assert_true(before.resident_bytes > 0);
    size_t n = 32u << 20;
    volatile uint8_t *held = malloc(n);
    assert_non_null((void *)(uintptr_t)held);
    do {
        for (size_t i = 0; i < n; i += 512) {
            held[i]++;
        }
        env_usage(env, &after);
    } while (after.cpu_ns == before.cpu_ns);
    assert_true(after.cpu_ns > before.cpu_ns);
    assert_true(after.resident_bytes >= before.resident_bytes + n / 2);
    free((void *)(uintptr_t)held);
    env_uv_close(env);
}

struct names {
    char text[256];
};

static void name_found(void *arg, const char *name)
{
    struct names *names = arg;
    size_t n = strlen(names->text);
    snprintf(names->text + n, sizeof names->text - n, "%s ", name);
}

/* Folders and names: listed in order, renamed, deleted, flushed. */
static void test_names(void **state)
{
    (void)state;
    struct env *env = open_loop();
    char dir[64], sub[128], path[256], to[256];
    make_dir(dir);
    snprintf(sub, sizeof sub, "%s/sub", dir);
    assert_int_equal(env_mkdir(env, sub), 0);
    assert_int_equal(env_mkdir(env, sub), 0);
    static const char *const files[] = {"b", "a10", "c", "B", "a9"};
    for (unsigned i = 0; i < ARRAY_LEN(files); i++) {
        struct env_file *f;
        snprintf(path, sizeof path, "%s/%s", sub, files[i]);
        assert_int_equal(env_file_open(env, path, ENV_OPEN_WRITE | ENV_OPEN_CREATE, &f), 0);
        assert_int_equal(env_file_pwrite(env, f, "0123456789", 10, 5), 0);
        assert_int_equal(env_file_size(env, f), 15);
        assert_int_equal(env_file_truncate(env, f, 8), 0);
        char back[16] = {0};
        assert_int_equal(env_file_pread(env, f, back, sizeof back, 4), 4);
        assert_memory_equal(back, "\0"
                                  "012",
                            4);
        assert_int_equal(env_file_sync(env, f), 0);
        env_file_close(env, f);
    }
    snprintf(path, sizeof path, "%s/c", sub);
    snprintf(to, sizeof to, "%s/a9", sub);
    assert_int_equal(env_rename(env, path, to), 0);
    assert_int_equal(env_dir_sync(env, sub), 0);
    snprintf(path, sizeof path, "%s/b", sub);
    assert_int_equal(env_unlink(env, path), 0);
    struct names names = {0};
    assert_int_equal(env_dir_list(env, sub, name_found, &names), 0);
    assert_string_equal(names.text, "B a10 a9 ");
    snprintf(path, sizeof path, "%s/none", sub);
    assert_int_equal(env_dir_list(env, path, name_found, &names), -ENOENT);
    uint64_t bytes_free = 0;
    assert_int_equal(env_disk_free(env, sub, &bytes_free), 0);
    assert_true(bytes_free > 0);
    remove_dir(dir);
    env_uv_close(env);
}

/* A second holder of a lock is refused, in this process and in another, and let in when the first is gone. */
static void test_lock(void **state)
{
    (void)state;
    struct env *env = open_loop();
    char dir[64], path[128];
    make_dir(dir);
    snprintf(path, sizeof path, "%s/lock", dir);
    struct env_file *first, *second;
    assert_int_equal(env_lock(env, path, &first), 0);
    assert_int_equal(env_lock(env, path, &second), -EWOULDBLOCK);
    pid_t pid = fork();
    if (pid == 0) {
        struct env_file *third;
        _exit(env_lock(env, path, &third) == -EWOULDBLOCK ? 0 : 1);
    }
    int status;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
    env_file_close(env, first);
    assert_int_equal(env_lock(env, path, &second), 0);
    env_file_close(env, second);
    remove_dir(dir);
    env_uv_close(env);
}

/* Reading past the page cache: whole blocks, and the odd end of a file. */
static void test_direct(void **state)
{
    (void)state;
    struct env *env = open_loop();
    char dir[64], path[128];
    make_dir(dir);
    snprintf(path, sizeof path, "%s/file", dir);
    struct env_file *f;
    unsigned char data[10000];
    fill(data, sizeof data, 9);
    assert_int_equal(env_file_open(env, path, ENV_OPEN_WRITE | ENV_OPEN_CREATE, &f), 0);
    assert_int_equal(env_file_pwrite(env, f, data, sizeof data, 0), 0);
    assert_int_equal(env_file_sync(env, f), 0);
    env_file_close(env, f);
    assert_int_equal(env_file_open(env, path, ENV_OPEN_READ | ENV_OPEN_DIRECT, &f), 0);
    unsigned char *buf = aligned_alloc(4096, 16384);
    assert_int_equal(env_file_pread(env, f, buf, 16384, 0), sizeof data);
    assert_memory_equal(buf, data, sizeof data);
    assert_int_equal(env_file_pread(env, f, buf, 4096, 4096), 4096);
    assert_memory_equal(buf, data + 4096, 4096);
    free(buf);
    env_file_close(env, f);
    remove_dir(dir);
    env_uv_close(env);
}

/* Closing an env finishes what its helpers have in hand, so that no buffer is used after it. */
static void test_close_with_requests(void **state)
{
    (void)state;
    struct env *env = open_loop();
    char dir[64], path[128];
    make_dir(dir);
    snprintf(path, sizeof path, "%s/file", dir);
    struct env_file *f;
    assert_int_equal(env_file_open(env, path, ENV_OPEN_WRITE | ENV_OPEN_CREATE, &f), 0);
    struct io_test test = {.env = env, .left = 50};
    unsigned char *data = calloc(1, 1 << 20);
    struct iovec iov = {.iov_base = data, .iov_len = 1 << 20};
    struct io ios[10];
    for (unsigned i = 0; i < ARRAY_LEN(ios); i++) {
        ios[i] = (struct io){.test = &test, .io = {.file = f, .op = ENV_IO_WRITE, .iov = &iov, .n_iov = 1, .pos = (uint64_t)i << 20}};
        env_io_submit(env, ENV_QUEUE_SYNC, &ios[i].io, io_done);
    }
    env_uv_close(env);
    free(data);
    assert_int_equal(test.n, 0);
    env = open_loop();
    assert_int_equal(env_file_size(env, f), 10 << 20); /* all were carried out */
    env_file_close(env, f);
    env_uv_close(env);
    remove_dir(dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_write_and_read_back),
        cmocka_unit_test(test_queue_order),
        cmocka_unit_test(test_queues_are_independent),
        cmocka_unit_test(test_errors),
        cmocka_unit_test(test_names),
        cmocka_unit_test(test_usage),
        cmocka_unit_test(test_lock),
        cmocka_unit_test(test_direct),
        cmocka_unit_test(test_close_with_requests),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
