/* env_uv_impl.h: what the env_uv*.c files share. Nothing else includes it.
 *
 * One turn of a loop, as env_uv.c drives it:
 *   closing and pending callbacks of libuv -> end of turn -> poll -> callbacks of what is ready -> due timers -> end of turn
 * "End of turn" delivers finished writes and runs deferred tasks. It stands in two places because libuv runs some callbacks
 * after polling and some just before it. The clock is read at the first callback after polling (env_uv_touch).
 */
#ifndef SLUICE_ENV_UV_IMPL_H
#define SLUICE_ENV_UV_IMPL_H

#include "storage/env.h"
#include "proto/base.h"

#include <pthread.h>
#include <uv.h>

/* A request of a helper's queue. */
struct uv_item {
    void *req; /* struct env_io or struct env_job */
    bool is_job;
};

/* A growing array used as a batch: filled under a lock, swapped out whole, worked through without it. */
struct uv_items {
    struct uv_item *v;
    unsigned n;
    unsigned cap;
};

/* One thread for one queue of one loop, started at the first request. */
struct uv_helper {
    struct env_uv *e;
    enum env_queue queue;
    bool started; /* the loop's own */
    pthread_t thread;
    pthread_mutex_t mutex; /* guards what follows */
    pthread_cond_t cond;
    struct uv_items todo;
    bool waiting;
    bool stop;
};

struct uv_timer; /* env_uv_timer.c */

struct env_uv {
    struct env env; /* must be the first member */
    uv_loop_t loop;
    uv_prepare_t prepare; /* just before polling */
    uv_idle_t idle;       /* active: polling does not block */
    uv_async_t wake;      /* another thread put something into the inbox */
    bool stop;
    bool stale;           /* polled since now_ns was read */
    bool closing;         /* env_uv_close(): nothing calls back any more */
    bool first;           /* opened by env_uv_open(), not a lane */
    unsigned n_lanes;     /* lanes started from this loop */
    uint64_t spin_ns;
    uint64_t active_ns;   /* when something last arrived */

    /* Deferred tasks, first in first out. */
    struct env_task *tasks;
    struct env_task **tasks_end;

    /* Writes whose outcome is known and not yet told. */
    struct env_write *written;
    struct env_write **written_end;

    /* Timers: a binary heap by deadline, then by order of starting. */
    struct uv_timer **heap;
    unsigned n_heap;
    unsigned heap_cap;  /* at least the number of open timers, so that starting one never fails */
    unsigned n_timers;
    uint64_t timer_seq;
    int timer_fd;       /* timerfd: libuv's own timers know only milliseconds */
    uv_poll_t timer_poll;
    uint64_t armed_ns;  /* when timer_fd fires; 0: not armed */
    bool timer_ready;   /* timer_fd is readable until it is set anew */

    /* From other threads. */
    pthread_mutex_t inbox_mutex; /* guards what follows up to inbox_done */
    struct env_msg *inbox;
    struct env_msg **inbox_end;
    struct uv_items inbox_done;
    struct uv_items done; /* the batch being delivered; the loop's own */

    struct uv_helper helpers[ENV_QUEUES];

    void *read_buf;         /* for connections without a buffer of their own; lazily */
    uint64_t accept_log_ns; /* when running out of descriptors was last logged */

    /* A lane's thread. */
    pthread_t thread;
    env_lane_main lane_main;
    void *lane_arg;
};

static inline struct env_uv *env_uv_of(struct env *env) { return (struct env_uv *)env; }

/* Every callback of libuv starts with it: reads the clock once per turn. `traffic`: something arrived from outside. */
void env_uv_touch(struct env_uv *e, bool traffic);
/* From a thread of any kind: makes the loop look into its inbox. */
void env_uv_wake(struct env_uv *e);

/* env_uv_timer.c */
int env_uv_timers_open(struct env_uv *e);
void env_uv_timers_close(struct env_uv *e); /* after the loop's handles are closed */
void env_uv_timers_run(struct env_uv *e);   /* those that are due now; not those started meanwhile */
bool env_uv_timers_due(const struct env_uv *e, uint64_t now_ns);
void env_uv_timers_arm(struct env_uv *e);   /* so that polling ends at the first deadline */
int env_uv_timer_init(struct env *env, struct env_timer *t);
void env_uv_timer_start(struct env_timer *t, uint64_t after_ns);
void env_uv_timer_stop(struct env_timer *t);
void env_uv_timer_close(struct env_timer *t);

/* env_uv_queue.c */
void env_uv_helpers_init(struct env_uv *e);
void env_uv_helpers_stop(struct env_uv *e); /* finishes what is queued, joins the threads */
void env_uv_helpers_deliver(struct env_uv *e, struct uv_items *done);
void env_uv_io_submit(struct env *env, enum env_queue q, struct env_io *io);
void env_uv_job_submit(struct env *env, enum env_queue q, struct env_job *j);

/* env_uv_file.c */
void env_uv_io_execute(struct env_io *io); /* on a helper thread: does it, sets status and n_done */
int env_uv_file_open(struct env *env, const char *path, unsigned flags, struct env_file **out);
void env_uv_file_close(struct env *env, struct env_file *f);
int64_t env_uv_file_size(struct env *env, struct env_file *f);
int64_t env_uv_file_allocated(struct env *env, struct env_file *f);
ssize_t env_uv_file_pread(struct env *env, struct env_file *f, void *buf, size_t n, uint64_t pos);
int env_uv_file_pwrite(struct env *env, struct env_file *f, const void *buf, size_t n, uint64_t pos);
int env_uv_file_sync(struct env *env, struct env_file *f);
int env_uv_file_truncate(struct env *env, struct env_file *f, uint64_t size);
int env_uv_mkdir(struct env *env, const char *path);
int env_uv_dir_list(struct env *env, const char *path, env_dir_cb cb, void *arg);
int env_uv_dir_sync(struct env *env, const char *path);
int env_uv_rename(struct env *env, const char *from, const char *to);
int env_uv_unlink(struct env *env, const char *path);
int env_uv_lock(struct env *env, const char *path, struct env_file **out);
int env_uv_disk_free(struct env *env, const char *path, uint64_t *bytes);
void env_uv_usage(struct env *env, struct env_usage *out);

/* env_uv_net.c */
void env_uv_writes_deliver(struct env_uv *e); /* those known now; not those that become known meanwhile */
int env_uv_connect(struct env *env, struct env_conn *conn, const char *host, uint16_t port);
int env_uv_conn_take(struct env *env, struct env_conn *conn, int fd); /* fd is the connection's, also on an error */
void env_uv_conn_write(struct env_conn *conn, struct env_write *w);
void env_uv_conn_read(struct env_conn *conn, bool on);
size_t env_uv_conn_unsent(const struct env_conn *conn);
void env_uv_conn_peer(const struct env_conn *conn, char *buf, size_t n);
void env_uv_conn_close(struct env_conn *conn);
/* For the handle of a connection, by env_uv_close(): frees what it belongs to. */
void env_uv_conn_abandon(uv_handle_t *handle);

/* env_uv_listen.c */
int env_uv_listen(struct env *env, struct env_listener *l, const char *host, uint16_t port, bool share_port);
int env_uv_accept(struct env_listener *l, struct env_conn *conn);
void env_uv_listener_close(struct env_listener *l);
void env_uv_listener_abandon(uv_handle_t *handle); /* as env_uv_conn_abandon() */

#endif
