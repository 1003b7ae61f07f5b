/* The loop on libuv: turns, deferred tasks, messages between loops, lanes, signals, log and the planned end.
 *
 * The normal course of a turn: polling returns; callbacks of sockets, helpers and messages run and gather work in deferred
 * tasks; due timers run; the end of the turn delivers finished writes and runs the tasks; the loop polls again and blocks
 * until something arrives or the first timer is due, unless something is left to deliver or it spins.
 */
#include "storage/env_uv.h"
#include "storage/env_uv_impl.h"

#include <errno.h>
#include <fcntl.h>
#include <openssl/rand.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#define SPIN_NS_MAX 1000000u /* a loop that was idle for 1 ms blocks */

/* ---- clock and randomness ------------------------------------------------------------------------------------------ */

static uint64_t env_uv_clock(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec + 1;
}

static uint64_t clock_ns(struct env *env)
{
    (void)env;
    return env_uv_clock();
}

static uint64_t wall_ms(struct env *env)
{
    (void)env;
    struct timespec ts;
    clock_gettime(CLOCK_REALTIME, &ts);
    return (uint64_t)ts.tv_sec * 1000u + (uint64_t)ts.tv_nsec / 1000000u;
}

static void random_bytes(struct env *env, void *buf, size_t n)
{
    (void)env;
    char *p = buf;
    while (n > 0) {
        int piece = n < (1u << 20) ? (int)n : 1 << 20;
        sluice_assert(RAND_bytes((unsigned char *)p, piece) == 1);
        p += piece;
        n -= (size_t)piece;
    }
}

/* ---- log and the planned end --------------------------------------------------------------------------------------- */

static void write_stderr(const char *line, size_t n)
{
    struct iovec iov[2] = {{.iov_base = (void *)(uintptr_t)line, .iov_len = n}, {.iov_base = (char[]){'\n'}, .iov_len = 1}};
    int n_iov = n > 0 && line[n - 1] == '\n' ? 1 : 2;
    struct iovec *p = iov;
    while (n_iov > 0) {
        ssize_t r = writev(STDERR_FILENO, p, n_iov);
        if (r < 0 && errno == EINTR) {
            continue;
        }
        if (r < 0) {
            return; /* nowhere to complain */
        }
        while (n_iov > 0 && (size_t)r >= p->iov_len) {
            r -= (ssize_t)p->iov_len;
            p++;
            n_iov--;
        }
        if (n_iov > 0) {
            p->iov_base = (char *)p->iov_base + r;
            p->iov_len -= (size_t)r;
        }
    }
}

static void log_line(struct env *env, const char *line, size_t n)
{
    (void)env;
    write_stderr(line, n);
}

static void fatal(struct env *env, int exit_code, const char *why)
{
    (void)env;
    char line[1024];
    int n = snprintf(line, sizeof line, "fatal (exit code %d): %s", exit_code, why);
    write_stderr(line, n < (int)sizeof line ? (size_t)n : sizeof line - 1);
    _exit(exit_code);
}

/* ---- turns --------------------------------------------------------------------------------------------------------- */

void env_uv_touch(struct env_uv *e, bool traffic)
{
    if (e->stale) {
        e->stale = false;
        e->env.now_ns = max_u64(env_uv_clock(), e->env.now_ns);
    }
    if (traffic) {
        e->active_ns = e->env.now_ns;
    }
}

static void end_of_turn(struct env_uv *e)
{
    env_uv_writes_deliver(e);
    while (e->tasks != NULL) {
        struct env_task *t = e->tasks;
        e->tasks = t->next;
        if (e->tasks == NULL) {
            e->tasks_end = &e->tasks;
        }
        t->next = NULL;
        t->queued = false;
        t->cb(t);
    }
}

static void idle_cb(uv_idle_t *idle)
{
    (void)idle; /* its being active is what counts: polling does not block */
}

static void before_poll(uv_prepare_t *prepare)
{
    struct env_uv *e = container_of(prepare, struct env_uv, prepare);
    if (e->closing) {
        return;
    }
    env_uv_touch(e, false);
    end_of_turn(e);
    bool spin = e->spin_ns > 0 && e->env.now_ns - e->active_ns < e->spin_ns;
    if (spin || e->written != NULL || e->stop || env_uv_timers_due(e, e->env.now_ns)) {
        uv_idle_start(&e->idle, idle_cb);
    } else {
        uv_idle_stop(&e->idle);
        env_uv_timers_arm(e);
    }
    e->stale = true;
}

static void defer(struct env *env, struct env_task *t)
{
    struct env_uv *e = env_uv_of(env);
    t->queued = true;
    t->next = NULL;
    *e->tasks_end = t;
    e->tasks_end = &t->next;
}

static void stop(struct env *env)
{
    struct env_uv *e = env_uv_of(env);
    e->stop = true;
    uv_stop(&e->loop);
}

int env_uv_run(struct env *env)
{
    struct env_uv *e = env_uv_of(env);
    e->stale = true;
    env_uv_touch(e, false);
    end_of_turn(e); /* what the owner deferred before the first turn, or a lane's main did */
    while (!e->stop) {
        uv_run(&e->loop, UV_RUN_ONCE);
        env_uv_touch(e, false);
        env_uv_timers_run(e);
        end_of_turn(e);
    }
    e->stop = false; /* the owner may run it again, for instance to see connections closed */
    return 0;
}

void env_uv_set_spin(struct env *env, unsigned spin_us)
{
    env_uv_of(env)->spin_ns = min_u64((uint64_t)spin_us * 1000u, SPIN_NS_MAX);
}

/* ---- from other threads -------------------------------------------------------------------------------------------- */

void env_uv_wake(struct env_uv *e)
{
    uv_async_send(&e->wake);
}

static void post(struct env *to, struct env_msg *m)
{
    struct env_uv *e = env_uv_of(to);
    m->next = NULL;
    pthread_mutex_lock(&e->inbox_mutex);
    bool was_empty = e->inbox == NULL && e->inbox_done.n == 0;
    *e->inbox_end = m;
    e->inbox_end = &m->next;
    pthread_mutex_unlock(&e->inbox_mutex);
    if (was_empty) {
        env_uv_wake(e);
    }
}

static void inbox_ready(uv_async_t *wake)
{
    struct env_uv *e = container_of(wake, struct env_uv, wake);
    if (e->closing) {
        return;
    }
    env_uv_touch(e, true);
    pthread_mutex_lock(&e->inbox_mutex);
    struct env_msg *m = e->inbox;
    e->inbox = NULL;
    e->inbox_end = &e->inbox;
    struct uv_items swap = e->inbox_done;
    e->inbox_done = e->done;
    e->done = swap;
    pthread_mutex_unlock(&e->inbox_mutex);
    env_uv_helpers_deliver(e, &e->done);
    while (m != NULL) {
        struct env_msg *next = m->next; /* the receiver frees it */
        m->cb(m);
        m = next;
    }
}

/* ---- signals ------------------------------------------------------------------------------------------------------- */

static void signal_caught(uv_signal_t *handle, int signum)
{
    (void)signum;
    struct env_signal *s = handle->data;
    struct env_uv *e = handle->loop->data;
    if (s == NULL || e->closing) {
        return;
    }
    env_uv_touch(e, true);
    s->cb(s);
}

static void signal_closed(uv_handle_t *handle)
{
    free((uv_signal_t *)handle);
}

static int signal_start(struct env *env, struct env_signal *s)
{
    struct env_uv *e = env_uv_of(env);
    uv_signal_t *handle = xcalloc(1, sizeof *handle);
    s->impl = NULL;
    int rc = uv_signal_init(&e->loop, handle);
    if (rc != 0) {
        free(handle);
        return rc;
    }
    handle->data = s;
    rc = uv_signal_start(handle, signal_caught, s->signum);
    if (rc != 0) {
        uv_close((uv_handle_t *)handle, signal_closed);
        return rc;
    }
    s->impl = handle;
    return 0;
}

static void signal_stop(struct env *env, struct env_signal *s)
{
    (void)env;
    uv_signal_t *handle = s->impl;
    if (handle != NULL) {
        s->impl = NULL;
        handle->data = NULL;
        uv_close((uv_handle_t *)handle, signal_closed);
    }
}

/* ---- opening, lanes, closing --------------------------------------------------------------------------------------- */

static int lane_start(struct env *parent, const char *name, env_lane_main main, void *arg, struct env **out);
static void lane_join(struct env *lane);

static const struct env_ops ops = {
    .clock_ns = clock_ns,
    .wall_ms = wall_ms,
    .random = random_bytes,
    .timer_init = env_uv_timer_init,
    .timer_start = env_uv_timer_start,
    .timer_stop = env_uv_timer_stop,
    .timer_close = env_uv_timer_close,
    .defer = defer,
    .post = post,
    .lane_start = lane_start,
    .lane_join = lane_join,
    .stop = stop,
    .file_open = env_uv_file_open,
    .file_close = env_uv_file_close,
    .file_size = env_uv_file_size,
    .file_allocated = env_uv_file_allocated,
    .file_pread = env_uv_file_pread,
    .file_pwrite = env_uv_file_pwrite,
    .file_sync = env_uv_file_sync,
    .file_truncate = env_uv_file_truncate,
    .mkdir = env_uv_mkdir,
    .dir_list = env_uv_dir_list,
    .dir_sync = env_uv_dir_sync,
    .rename = env_uv_rename,
    .unlink = env_uv_unlink,
    .lock = env_uv_lock,
    .disk_free = env_uv_disk_free,
    .usage = env_uv_usage,
    .io_submit = env_uv_io_submit,
    .job_submit = env_uv_job_submit,
    .listen = env_uv_listen,
    .accept = env_uv_accept,
    .listener_close = env_uv_listener_close,
    .connect = env_uv_connect,
    .conn_write = env_uv_conn_write,
    .conn_read = env_uv_conn_read,
    .conn_unsent = env_uv_conn_unsent,
    .conn_peer = env_uv_conn_peer,
    .conn_close = env_uv_conn_close,
    .signal_start = signal_start,
    .signal_stop = signal_stop,
    .log = log_line,
    .fatal = fatal,
};

static void abandon_handle(uv_handle_t *handle, void *arg)
{
    struct env_uv *e = arg;
    if (uv_is_closing(handle)) {
        return; /* its own callback frees it */
    }
    if (handle == (uv_handle_t *)&e->prepare || handle == (uv_handle_t *)&e->idle || handle == (uv_handle_t *)&e->wake ||
        handle == (uv_handle_t *)&e->timer_poll) {
        uv_close(handle, NULL);
    } else if (handle->type == UV_SIGNAL) {
        uv_close(handle, signal_closed);
    } else if (handle->type == UV_TCP) {
        env_uv_conn_abandon(handle);
    } else {
        sluice_assert(handle->type == UV_POLL);
        env_uv_listener_abandon(handle);
    }
}

static void close_env(struct env_uv *e)
{
    e->closing = true;
    env_uv_helpers_stop(e);
    uv_walk(&e->loop, abandon_handle, e);
    while (uv_run(&e->loop, UV_RUN_DEFAULT) != 0) {
        uv_walk(&e->loop, abandon_handle, e);
    }
    sluice_assert(uv_loop_close(&e->loop) == 0);
    env_uv_timers_close(e);
    pthread_mutex_destroy(&e->inbox_mutex);
    free(e->inbox_done.v);
    free(e->done.v);
    free(e->read_buf);
    free(e);
}

static int open_env(struct env_uv **out)
{
    struct env_uv *e = calloc(1, sizeof *e);
    if (e == NULL) {
        return -ENOMEM;
    }
    int rc = uv_loop_init(&e->loop);
    if (rc != 0) {
        free(e);
        return rc;
    }
    e->env.ops = &ops;
    e->env.now_ns = env_uv_clock();
    e->loop.data = e;
    e->tasks_end = &e->tasks;
    e->written_end = &e->written;
    e->inbox_end = &e->inbox;
    e->timer_fd = -1;
    pthread_mutex_init(&e->inbox_mutex, NULL);
    env_uv_helpers_init(e);
    uv_prepare_init(&e->loop, &e->prepare);
    uv_prepare_start(&e->prepare, before_poll);
    uv_idle_init(&e->loop, &e->idle);
    rc = uv_async_init(&e->loop, &e->wake, inbox_ready);
    if (rc == 0) {
        rc = env_uv_timers_open(e);
    }
    if (rc != 0) {
        close_env(e);
        return rc;
    }
    *out = e;
    return 0;
}

/* A process may be started with 0, 1 or 2 closed. The next file would take that number, and what is printed would end up in it: a socket or a journal. */
static void fill_standard_files(void)
{
    for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++) {
        if (fcntl(fd, F_GETFD) == -1 && errno == EBADF) {
            /* Opened the other way round, so that its use fails as it would have. */
            if (open("/dev/null", fd == STDIN_FILENO ? O_WRONLY : O_RDONLY) < 0) {
                return;
            }
        }
    }
}

int env_uv_open(struct env **out)
{
    fill_standard_files();
    struct env_uv *e;
    int rc = open_env(&e);
    if (rc != 0) {
        return rc;
    }
    /* A peer that went away is an error of a write, not the end of the process. */
    signal(SIGPIPE, SIG_IGN);
    e->first = true;
    *out = &e->env;
    return 0;
}

void env_uv_close(struct env *env)
{
    close_env(env_uv_of(env));
}

static void *lane_thread(void *arg)
{
    struct env_uv *e = arg;
    e->stale = true;
    env_uv_touch(e, false);
    e->lane_main(&e->env, e->lane_arg);
    env_uv_run(&e->env);
    return NULL;
}

static int lane_start(struct env *parent, const char *name, env_lane_main main, void *arg, struct env **out)
{
    struct env_uv *p = env_uv_of(parent);
    struct env_uv *e;
    int rc = open_env(&e);
    if (rc != 0) {
        return rc;
    }
    e->env.lane = ++p->n_lanes;
    e->spin_ns = p->spin_ns;
    e->lane_main = main;
    e->lane_arg = arg;
    *out = &e->env; /* before the thread can look at it */
    /* Signals are told to the loop that asked for them; which thread catches them is of no interest, so let it be the first. */
    sigset_t all, old;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    rc = pthread_create(&e->thread, NULL, lane_thread, e);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    if (rc != 0) {
        *out = NULL;
        close_env(e);
        return -rc;
    }
    char short_name[16]; /* the kernel's limit */
    snprintf(short_name, sizeof short_name, "%s", name);
    pthread_setname_np(e->thread, short_name);
    return 0;
}

static void lane_join(struct env *lane)
{
    struct env_uv *e = env_uv_of(lane);
    pthread_join(e->thread, NULL);
    close_env(e);
}
