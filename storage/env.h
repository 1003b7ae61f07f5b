/* env.h: the one door to the world.
 *
 * Everything outside env_*.c reaches clock, randomness, timers, files, sockets and threads through `struct env`.
 * One env is one event loop: a lane of a node, or a client's thread. Two implementations: env_uv (libuv; env_uv.h) and
 * env_sim (virtual time, disk and network with faults; env_sim.h). The code above cannot tell which one it runs on.
 *
 * Thread rule: every function but env_post() is called on the env's own thread, and every callback runs there.
 * Error rule: functions return 0 or a negative errno value (-ENOSPC ...). A call that returns an error never also calls
 * back; a callback never runs inside the call that started it.
 * Memory rule: handles and requests are embedded by the caller and stay valid until their done/closed callback ran (or, for
 * timers and tasks, until _close/_cancel returned). Fields marked "env's own" are not touched by callers.
 * Order rule: nothing depends on addresses or on thread timing: what completes is delivered as events of the loop, one at a time.
 */
#ifndef SLUICE_ENV_H
#define SLUICE_ENV_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

struct env;
struct env_timer;
struct env_task;
struct env_msg;
struct env_file;
struct env_io;
struct env_job;
struct env_listener;
struct env_conn;
struct env_write;
struct env_signal;

#ifndef container_of
#define container_of(ptr, type, member) ((type *)((char *)(ptr)-offsetof(type, member)))
#endif

/* ---- timers ------------------------------------------------------------------------------------------------------ */

typedef void (*env_timer_cb)(struct env_timer *t);

/* One-shot timer. */
struct env_timer {
    struct env *env;
    env_timer_cb cb;
    void *impl; /* env's own */
};

/* ---- end of turn, messages between loops -------------------------------------------------------------------------- */

typedef void (*env_task_cb)(struct env_task *t);

/* Runs once at the end of the present turn: after the callbacks that are ready now, before the loop polls again. What gathers
 * work over a turn (group commit, link frames) hangs here. */
struct env_task {
    env_task_cb cb;
    struct env_task *next; /* env's own */
    bool queued;           /* env's own; true from env_defer() until the callback starts */
};

typedef void (*env_msg_cb)(struct env_msg *m);

/* A message to another loop. Owned by the receiver from env_post() on. */
struct env_msg {
    env_msg_cb cb;
    struct env_msg *next; /* env's own */
};

/* ---- files --------------------------------------------------------------------------------------------------------- */

enum env_open_flags {
    ENV_OPEN_READ = 1,   /* always readable; without ENV_OPEN_WRITE read only */
    ENV_OPEN_WRITE = 2,
    ENV_OPEN_CREATE = 4, /* create if absent (never truncates) */
    ENV_OPEN_EXCL = 8,   /* with CREATE: -EEXIST if present */
    ENV_OPEN_DIRECT = 16 /* bypass the page cache when reading (O_DIRECT); buffers, positions, lengths multiples of 4096 */
};

/* A helper thread each, so that a slow flush never delays a read. First in, first out within a queue. */
enum env_queue { ENV_QUEUE_SYNC, ENV_QUEUE_READ, ENV_QUEUE_BULK, ENV_QUEUES };

enum env_io_op {
    ENV_IO_WRITE,      /* pwritev all of iov at pos */
    ENV_IO_WRITE_SYNC, /* the same, then fdatasync */
    ENV_IO_SYNC,       /* fdatasync */
    ENV_IO_READ        /* preadv; short only at the end of the file */
};

typedef void (*env_io_cb)(struct env_io *io);

/* Asynchronous file request. Buffers and iov stay valid and unchanged until cb. Requests of one queue complete in the order of
 * submission. A write in pieces of 64 KiB is the implementation's business, not the caller's. */
struct env_io {
    struct env_file *file;
    enum env_io_op op;
    const struct iovec *iov;
    unsigned n_iov; /* any number; the implementation splits at IOV_MAX */
    uint64_t pos;   /* bytes */
    env_io_cb cb;
    int status;     /* out: 0 or -errno. After a failed write or sync the file's state is unknown: never retry, stop. */
    size_t n_done;  /* out: bytes read or written */
    struct env *env;      /* env's own, as all below */
    struct env_io *next;
    void *impl;
    uint64_t impl_u64;
};

typedef void (*env_job_work)(struct env_job *j);
typedef void (*env_job_cb)(struct env_job *j);

/* Work for a helper thread. `work` touches only its own request (and calls only the env_file_* functions); in the simulator it
 * runs on the loop's thread at a time the simulator chooses. */
struct env_job {
    env_job_work work;
    env_job_cb cb;
    struct env *env; /* env's own, as all below */
    struct env_job *next;
    void *impl;
};

/* ---- sockets ------------------------------------------------------------------------------------------------------- */

typedef void (*env_accept_cb)(struct env_listener *l); /* call env_accept() once, in or after the callback */

struct env_listener {
    struct env *env;
    env_accept_cb cb;
    uint16_t port; /* out: the bound port */
    void *impl;    /* env's own */
};

/* What happens to a connection. All but `read` and `closed` may be NULL. */
struct env_conn_ops {
    void (*connected)(struct env_conn *c, int status); /* outcome of env_connect(); on error only env_conn_close() is left */
    /* Where the next bytes shall go: returns the room (> 0) and sets *base. NULL: a buffer of the env's is used. The memory stays
     * valid until the next `read` or `closed`. Lets a large payload land where it will stay. */
    size_t (*buffer)(struct env_conn *c, void **base);
    /* n > 0: bytes at data (inside what `buffer` gave). n == 0: the peer ended its side. n < 0: -errno, the connection is dead.
     * After n <= 0 nothing more is read; the owner calls env_conn_close(). */
    void (*read)(struct env_conn *c, void *data, ssize_t n);
    void (*drained)(struct env_conn *c); /* the write queue became empty after it had not been */
    void (*closed)(struct env_conn *c);  /* after env_conn_close(): memory may go */
};

struct env_conn {
    struct env *env;
    const struct env_conn_ops *ops;
    void *user;
    void *impl; /* env's own */
};

typedef void (*env_write_cb)(struct env_write *w);

/* Bytes to send, in order. iov and what it points to stay valid until cb (always called, also on close: status -ECANCELED). */
struct env_write {
    const struct iovec *iov;
    unsigned n_iov;
    env_write_cb cb;
    int status;             /* out */
    struct env_conn *conn;  /* env's own, as all below */
    struct env_write *next;
    size_t sent;
    void *impl;
};

/* ---- signals ------------------------------------------------------------------------------------------------------- */

typedef void (*env_signal_cb)(struct env_signal *s);
struct env_signal {
    env_signal_cb cb;
    int signum;
    void *impl; /* env's own */
};

/* ---- the process ---------------------------------------------------------------------------------------------------- */

/* What this process has used since its start: processor time of all threads, memory held now. 0 where it is not known (in the simulator). */
struct env_usage { uint64_t cpu_ns, resident_bytes; };

/* ---- the table ------------------------------------------------------------------------------------------------------ */

typedef void (*env_dir_cb)(void *arg, const char *name);
typedef void (*env_lane_main)(struct env *env, void *arg);

struct env_ops {
    uint64_t (*clock_ns)(struct env *);
    uint64_t (*wall_ms)(struct env *);
    void (*random)(struct env *, void *buf, size_t n);

    int (*timer_init)(struct env *, struct env_timer *);
    void (*timer_start)(struct env_timer *, uint64_t after_ns);
    void (*timer_stop)(struct env_timer *);
    void (*timer_close)(struct env_timer *);

    void (*defer)(struct env *, struct env_task *);
    void (*post)(struct env *to, struct env_msg *);
    int (*lane_start)(struct env *parent, const char *name, env_lane_main main, void *arg, struct env **out);
    void (*lane_join)(struct env *lane);
    void (*stop)(struct env *);

    int (*file_open)(struct env *, const char *path, unsigned flags, struct env_file **out);
    void (*file_close)(struct env *, struct env_file *);
    int64_t (*file_size)(struct env *, struct env_file *);
    int64_t (*file_allocated)(struct env *, struct env_file *);
    ssize_t (*file_pread)(struct env *, struct env_file *, void *buf, size_t n, uint64_t pos);
    int (*file_pwrite)(struct env *, struct env_file *, const void *buf, size_t n, uint64_t pos);
    int (*file_sync)(struct env *, struct env_file *);
    int (*file_truncate)(struct env *, struct env_file *, uint64_t size);
    int (*mkdir)(struct env *, const char *path);
    int (*dir_list)(struct env *, const char *path, env_dir_cb cb, void *arg);
    int (*dir_sync)(struct env *, const char *path);
    int (*rename)(struct env *, const char *from, const char *to);
    int (*unlink)(struct env *, const char *path);
    int (*lock)(struct env *, const char *path, struct env_file **out);
    int (*disk_free)(struct env *, const char *path, uint64_t *bytes);
    void (*usage)(struct env *, struct env_usage *out);
    void (*io_submit)(struct env *, enum env_queue, struct env_io *);
    void (*job_submit)(struct env *, enum env_queue, struct env_job *);

    int (*listen)(struct env *, struct env_listener *, const char *host, uint16_t port, bool share_port);
    int (*accept)(struct env_listener *, struct env_conn *);
    void (*listener_close)(struct env_listener *);
    int (*connect)(struct env *, struct env_conn *, const char *host, uint16_t port);
    void (*conn_write)(struct env_conn *, struct env_write *);
    void (*conn_read)(struct env_conn *, bool on);
    size_t (*conn_unsent)(const struct env_conn *);
    void (*conn_peer)(const struct env_conn *, char *buf, size_t n);
    void (*conn_close)(struct env_conn *);

    int (*signal_start)(struct env *, struct env_signal *);
    void (*signal_stop)(struct env *, struct env_signal *);
    void (*log)(struct env *, const char *line, size_t n);
    void (*fatal)(struct env *, int exit_code, const char *why);
};

/* Implementations embed this as their first member. */
struct env {
    const struct env_ops *ops;
    uint64_t now_ns;   /* monotonic time, read once a turn; never goes back. env's own: read it by env_now_ns() */
    unsigned lane;     /* 0 for the first loop of a process, as given by the node for the others */
    void *user;        /* the owner's: a node finds its lane here */
};

/* Monotonic nanoseconds as of the start of this turn; starts above 0; never goes back. For time-outs and intervals. */
static inline uint64_t env_now_ns(const struct env *e) { return e->now_ns; }
static inline uint64_t env_now_ms(const struct env *e) { return e->now_ns / 1000000u; }
/* The same clock, read now (for measuring within a turn; also on helper threads). */
static inline uint64_t env_clock_ns(struct env *e) { return e->ops->clock_ns(e); }
/* Wall clock, ms since 1970; may jump either way. Safety never rests on it. */
static inline uint64_t env_wall_ms(struct env *e) { return e->ops->wall_ms(e); }
/* Cryptographically strong in env_uv, from the seed in env_sim. */
static inline void env_random(struct env *e, void *buf, size_t n) { e->ops->random(e, buf, n); }
static inline uint64_t env_random_u64(struct env *e) { uint64_t v; e->ops->random(e, &v, sizeof v); return v; }
/* Uniform in [0, n), n > 0. */
static inline uint64_t env_random_below(struct env *e, uint64_t n) { return env_random_u64(e) % n; }

static inline int env_timer_init(struct env *e, struct env_timer *t, env_timer_cb cb)
{
    t->env = e;
    t->cb = cb;
    t->impl = NULL;
    return e->ops->timer_init(e, t);
}
/* (Re)arms; an armed timer is moved. */
static inline void env_timer_start_ns(struct env_timer *t, uint64_t after_ns) { t->env->ops->timer_start(t, after_ns); }
static inline void env_timer_start_ms(struct env_timer *t, uint64_t ms) { t->env->ops->timer_start(t, ms * 1000000u); }
static inline void env_timer_stop(struct env_timer *t) { t->env->ops->timer_stop(t); }
/* No callback after it returned; the memory may go at once. Idempotent on a zeroed or closed timer. */
static inline void env_timer_close(struct env_timer *t) { if (t->env != NULL && t->impl != NULL) { t->env->ops->timer_close(t); t->impl = NULL; } }

/* No effect on a task that is already queued. Tasks deferred by a task run in the same pass. */
static inline void env_defer(struct env *e, struct env_task *t, env_task_cb cb)
{
    if (!t->queued) {
        t->cb = cb;
        e->ops->defer(e, t);
    }
}
/* The only function that may be called from another thread. First in, first out per pair of loops. */
static inline void env_post(struct env *to, struct env_msg *m, env_msg_cb cb) { m->cb = cb; to->ops->post(to, m); }

/* A further loop of this process, on a thread of its own: runs main(env, arg) first, then its events until env_stop(). */
static inline int env_lane_start(struct env *parent, const char *name, env_lane_main main, void *arg, struct env **out)
{
    return parent->ops->lane_start(parent, name, main, arg, out);
}
/* Waits until a stopped lane's thread has ended and frees it. Called on the parent's thread. */
static inline void env_lane_join(struct env *lane) { lane->ops->lane_join(lane); }
/* The loop ends after this turn; handles still open are abandoned. On the own thread. */
static inline void env_stop(struct env *e) { e->ops->stop(e); }

/* Files: the functions below block. Loops call them only before they serve (recovery) and after they stopped; jobs call them
 * freely. */
static inline int env_file_open(struct env *e, const char *path, unsigned flags, struct env_file **out) { return e->ops->file_open(e, path, flags, out); }
static inline void env_file_close(struct env *e, struct env_file *f) { e->ops->file_close(e, f); }
static inline int64_t env_file_size(struct env *e, struct env_file *f) { return e->ops->file_size(e, f); } /* or -errno */
/* Bytes that it takes on the disk, or -errno: fewer than its size if it has holes. */
static inline int64_t env_file_allocated(struct env *e, struct env_file *f) { return e->ops->file_allocated(e, f); }
/* Bytes read (less than n only at the end of the file), or -errno. */
static inline ssize_t env_file_pread(struct env *e, struct env_file *f, void *buf, size_t n, uint64_t pos) { return e->ops->file_pread(e, f, buf, n, pos); }
static inline int env_file_pwrite(struct env *e, struct env_file *f, const void *buf, size_t n, uint64_t pos) { return e->ops->file_pwrite(e, f, buf, n, pos); }
static inline int env_file_sync(struct env *e, struct env_file *f) { return e->ops->file_sync(e, f); } /* fdatasync */
static inline int env_file_truncate(struct env *e, struct env_file *f, uint64_t size) { return e->ops->file_truncate(e, f, size); }
static inline int env_mkdir(struct env *e, const char *path) { return e->ops->mkdir(e, path); } /* 0 also if it is there */
static inline int env_dir_list(struct env *e, const char *path, env_dir_cb cb, void *arg) { return e->ops->dir_list(e, path, cb, arg); } /* sorted by name */
static inline int env_dir_sync(struct env *e, const char *path) { return e->ops->dir_sync(e, path); }
static inline int env_rename(struct env *e, const char *from, const char *to) { return e->ops->rename(e, from, to); }
static inline int env_unlink(struct env *e, const char *path) { return e->ops->unlink(e, path); }
/* Creates and locks a file for this process's life (flock); -EWOULDBLOCK if another process holds it. */
static inline int env_lock(struct env *e, const char *path, struct env_file **out) { return e->ops->lock(e, path, out); }
static inline void env_usage(struct env *e, struct env_usage *out) { e->ops->usage(e, out); }
static inline int env_disk_free(struct env *e, const char *path, uint64_t *bytes) { return e->ops->disk_free(e, path, bytes); }

static inline void env_io_submit(struct env *e, enum env_queue q, struct env_io *io, env_io_cb cb) { io->cb = cb; e->ops->io_submit(e, q, io); }
static inline void env_job_submit(struct env *e, enum env_queue q, struct env_job *j, env_job_work work, env_job_cb cb)
{
    j->work = work;
    j->cb = cb;
    e->ops->job_submit(e, q, j);
}

/* host: a literal IPv4/IPv6 address or a name that the system resolves. port 0: a free one, told in l->port. share_port: several
 * loops of this process listen on the same port and the kernel spreads connections (SO_REUSEPORT). */
static inline int env_listen(struct env *e, struct env_listener *l, const char *host, uint16_t port, bool share_port, env_accept_cb cb)
{
    l->env = e;
    l->cb = cb;
    l->impl = NULL;
    return e->ops->listen(e, l, host, port, share_port);
}
/* Takes the waiting connection into *c (ops and user set by the caller before); reading is off until env_conn_read(). */
static inline int env_accept(struct env_listener *l, struct env_conn *c) { c->env = l->env; return l->env->ops->accept(l, c); }
static inline void env_listener_close(struct env_listener *l) { if (l->impl != NULL) { l->env->ops->listener_close(l); l->impl = NULL; } }
/* Starts connecting (TCP_NODELAY); ops->connected tells the outcome. Reading is off until env_conn_read(). On an error return
 * nothing was started and *c may go at once. */
static inline int env_connect(struct env *e, struct env_conn *c, const char *host, uint16_t port) { c->env = e; c->impl = NULL; return e->ops->connect(e, c, host, port); }
/* Sends after everything queued before; tries at once without waiting for the loop. */
static inline void env_conn_write(struct env_conn *c, struct env_write *w, env_write_cb cb) { w->cb = cb; c->env->ops->conn_write(c, w); }
static inline void env_conn_read(struct env_conn *c, bool on) { c->env->ops->conn_read(c, on); }
/* Bytes accepted by env_conn_write() and not yet taken by the system: what back-pressure looks at. */
static inline size_t env_conn_unsent(const struct env_conn *c) { return c->env->ops->conn_unsent(c); }
static inline void env_conn_peer(const struct env_conn *c, char *buf, size_t n) { c->env->ops->conn_peer(c, buf, n); } /* "host:port" */
/* Ends the connection (unsent bytes are dropped); pending writes call back with -ECANCELED, then ops->closed. Idempotent. */
static inline void env_conn_close(struct env_conn *c) { c->env->ops->conn_close(c); }

static inline int env_signal_start(struct env *e, struct env_signal *s, int signum, env_signal_cb cb)
{
    s->cb = cb;
    s->signum = signum;
    return e->ops->signal_start(e, s);
}
static inline void env_signal_stop(struct env *e, struct env_signal *s) { e->ops->signal_stop(e, s); }

/* One finished line to where logs go (stderr; the simulator's trace). Any thread. */
static inline void env_log_line(struct env *e, const char *line, size_t n) { e->ops->log(e, line, n); }
/* The whole process ends now, nothing is flushed: for planned refusals and disk errors, each with an exit code of its own
 * (enum env_exit). In the simulator the process of this env is dead when the present event has been handled; the call
 * returns there, so callers stop touching the world after it. */
static inline void env_fatal(struct env *e, int exit_code, const char *why) { e->ops->fatal(e, exit_code, why); }

/* Exit codes of sluiced beyond 0, 1 and 2 (docs: deploy/README.md). */
enum env_exit {
    ENV_EXIT_DISK = 10,     /* a write or sync failed: never retried; restart recovers from what is really there */
    ENV_EXIT_IDENTITY = 11, /* the data folder belongs to another node or cluster, or is an older copy */
    ENV_EXIT_DAMAGE = 12,   /* damage that may not be repaired alone */
    ENV_EXIT_LOCKED = 13,   /* another process uses the data folder */
    ENV_EXIT_FORMAT = 14,   /* a newer format or an unknown entry kind */
    ENV_EXIT_MEMORY = 15
};

#endif
