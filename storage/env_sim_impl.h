/* env_sim_impl.h: what the env_sim*.c files share. Nobody else includes it.
 *
 *   env_sim.c          the world: heap of events, trace, random numbers, hosts and clocks, drivers
 *   env_sim_process.c  processes, loops, tasks, messages, death
 *   env_sim_timer.c    timers
 *   env_sim_file.c     contents of files: what is visible, what is durable
 *   env_sim_dir.c      names: what is visible, what is durable; power cuts of a whole disk
 *   env_sim_io.c       the file functions of env.h: handles, queues, latency, errors
 *   env_sim_surgery.c  damage, copies and inspection by drivers
 *   env_sim_net.c      listening, connecting, cuts, resets
 *   env_sim_stream.c   the bytes of a connection
 */
#ifndef SLUICE_ENV_SIM_IMPL_H
#define SLUICE_ENV_SIM_IMPL_H

#include "proto/base.h"
#include "storage/env_sim.h"

#include <errno.h>
#include <sys/types.h>

struct sim_loop;
struct sim_process;
struct sim_end;

/* ---- random numbers (xoshiro256**) --------------------------------------------------------------------------------- */

struct sim_rng { uint64_t s[4]; };

void sim_rng_seed(struct sim_rng *r, uint64_t seed);

static inline uint64_t sim_rng_next(struct sim_rng *r)
{
    uint64_t *s = r->s;
    uint64_t m = s[1] * 5;
    uint64_t out = ((m << 7) | (m >> 57)) * 9;
    uint64_t t = s[1] << 17;
    s[2] ^= s[0];
    s[3] ^= s[1];
    s[1] ^= s[2];
    s[0] ^= s[3];
    s[2] ^= t;
    s[3] = (s[3] << 45) | (s[3] >> 19);
    return out;
}

/* Uniform in [0, n), n > 0. */
static inline uint64_t sim_rng_below(struct sim_rng *r, uint64_t n)
{
    return (uint64_t)(((unsigned __int128)sim_rng_next(r) * n) >> 64);
}

static inline uint64_t sim_rng_in(struct sim_rng *r, struct sim_range range)
{
    return range.max <= range.min ? range.min : range.min + sim_rng_below(r, range.max - range.min + 1);
}

/* No number is drawn for a chance of 0, so that switched-off faults cost nothing. */
static inline bool sim_rng_chance(struct sim_rng *r, unsigned ppm)
{
    return ppm != 0 && sim_rng_below(r, 1000000) < ppm;
}

/* ---- events -------------------------------------------------------------------------------------------------------- */

enum sim_kind {
    SIM_EV_DRIVER,
    SIM_EV_CALL,
    SIM_EV_TIMER,
    SIM_EV_DEFER,
    SIM_EV_POST,
    SIM_EV_LANE,
    SIM_EV_EXIT,
    SIM_EV_SIGNAL,
    SIM_EV_IO,
    SIM_EV_JOB_WORK,
    SIM_EV_JOB_DONE,
    SIM_EV_SYN,
    SIM_EV_CONNECTED,
    SIM_EV_ACCEPT,
    SIM_EV_CHUNK,
    SIM_EV_RESET,
    SIM_EV_READABLE,
    SIM_EV_WRITABLE,
    SIM_EV_WRITTEN,
    SIM_EV_CLOSED,
    SIM_EV_KINDS
};

/* Pooled. `next` chains the free list and the parked events of a paused process. */
struct sim_event {
    enum sim_kind kind;
    struct sim_loop *loop; /* whose turn it is; NULL: the world's own, or (connections) found at delivery */
    void *a;
    uint64_t u;
    struct sim_event *next;
};

/* live == false: the receiving process is dead; only release what the event holds. */
typedef void (*sim_event_run)(struct sim *s, struct sim_event *ev, bool live);

/* Fixed-size objects from slabs; all slabs go at sim_close(). */
struct sim_pool {
    size_t size;
    void *free;
    void *slabs;
};

void *sim_pool_get(struct sim_pool *p); /* zeroed */
void sim_pool_put(struct sim_pool *p, void *obj);

struct sim_heap_slot {
    uint64_t time, seq;
    struct sim_event *ev;
};

#define SIM_RING 1024u
struct sim_trace {
    uint64_t time, detail;
    uint32_t loop;
    uint32_t kind;
};

/* ---- disks --------------------------------------------------------------------------------------------------------- */

#define SIM_PAGE 4096u
#define SIM_SECTOR 512u

/* `data` is what a reader sees. Of a sector whose bit is in dirty or lost, `old` is what is durable (old == NULL: zeros, only
 * while fresh); of any other sector, data is. dirty: a sync makes data durable. lost: a failed write or sync left data in the page
 * cache alone; no sync will ever write it. A sector is never both. */
struct sim_page {
    uint8_t *old;
    uint8_t dirty, lost;
    bool fresh; /* nothing of it was ever durable */
    uint8_t data[SIM_PAGE];
};

struct sim_inode {
    struct sim_store *store;
    struct sim_inode *next, *prev; /* all of the store, in order of creation */
    unsigned refs;                 /* names (visible, durable), name operations, handles */
    unsigned names, opens;         /* visible names and handles: what keeps the space in use */
    bool dir;
    bool any_lost;
    uint64_t size, durable_size;
    uint64_t charged; /* bytes of the store's `used` */
    struct sim_page **pages;
    size_t n_pages;
    uint32_t *dirty; /* indexes of pages with dirty sectors, in order of dirtying */
    size_t n_dirty, cap_dirty;
    const struct env_file *locked_by;
};

struct sim_name {
    char *path;
    struct sim_inode *visible, *durable; /* NULL: absent */
};

enum sim_name_op_kind { SIM_NAME_LINK, SIM_NAME_UNLINK, SIM_NAME_RENAME };

/* A change of names that no sync of its folder made durable yet. */
struct sim_name_op {
    struct sim_name_op *next;
    enum sim_name_op_kind kind;
    char *path, *to;
    struct sim_inode *inode;
};

struct sim_store {
    struct sim *sim;
    struct sim_disk opt;
    struct sim_inode *first, *last;
    struct sim_name **names; /* sorted by path */
    size_t n_names, cap_names;
    struct sim_name_op *ops, **ops_tail;
    uint64_t used;
};

struct env_file {
    struct sim_process *proc;
    struct sim_inode *inode;
    unsigned flags;
    unsigned in_flight;
    bool closed; /* by its owner, while requests were in flight */
    struct env_file *next, *prev; /* handles of the process */
};

/* env_sim_file.c */
struct sim_inode *sim_inode_new(struct sim_store *d, bool dir);
void sim_inode_ref(struct sim_inode *n);
void sim_inode_unref(struct sim_inode *n);
void sim_inode_charge(struct sim_inode *n);
int sim_inode_write(struct sim_inode *n, const void *buf, size_t len, uint64_t pos);
size_t sim_inode_read(const struct sim_inode *n, void *buf, size_t len, uint64_t pos, bool direct);
size_t sim_inode_read_durable(const struct sim_inode *n, void *buf, size_t len, uint64_t pos);
int sim_inode_truncate(struct sim_inode *n, uint64_t size);
void sim_inode_sync(struct sim_inode *n);
void sim_inode_lose(struct sim_inode *n); /* what is dirty will never reach the disk, though it reads back */
void sim_inode_power_cut(struct sim_inode *n, struct sim_rng *r);
void sim_inode_damage(struct sim_inode *n, uint64_t pos, uint8_t keep_mask, uint8_t flip_mask);
struct sim_inode *sim_inode_clone_durable(struct sim_store *d, const struct sim_inode *from);

/* env_sim_dir.c */
void sim_store_init(struct sim_store *d, struct sim *s, const struct sim_disk *opt);
void sim_store_clear(struct sim_store *d);
void sim_store_power_cut(struct sim_store *d, struct sim_rng *r);
#define SIM_PATH_MAX 1024
/* One leading slash, none doubled, none at the end ("" is the root). */
int sim_path_normal(char *out, const char *path);
struct sim_name *sim_store_find(struct sim_store *d, const char *normal);
struct sim_name *sim_store_name(struct sim_store *d, const char *normal); /* found or added */
void sim_name_set(struct sim_inode **slot, struct sim_inode *n, bool visible);
int sim_store_create(struct sim_store *d, const char *normal, bool dir, struct sim_inode **out);
int sim_store_rename(struct sim_store *d, const char *from, const char *to);
int sim_store_unlink(struct sim_store *d, const char *path);
int sim_store_dir_sync(struct sim_store *d, const char *path);
int sim_store_list(struct sim_store *d, const char *path, bool durable, env_dir_cb cb, void *arg);

/* env_sim_io.c */
void sim_io_run(struct sim *s, struct sim_event *ev, bool live);
void sim_job_work_run(struct sim *s, struct sim_event *ev, bool live);
void sim_job_done_run(struct sim *s, struct sim_event *ev, bool live);
void sim_io_crash(struct sim_loop *l); /* decides what of the requests in flight had happened */
void sim_file_drop(struct env_file *f);
int sim_file_open(struct env *e, const char *path, unsigned flags, struct env_file **out);
void sim_file_close(struct env *e, struct env_file *f);
int64_t sim_file_size(struct env *e, struct env_file *f);
int64_t sim_file_allocated(struct env *e, struct env_file *f);
ssize_t sim_file_pread(struct env *e, struct env_file *f, void *buf, size_t n, uint64_t pos);
int sim_file_pwrite(struct env *e, struct env_file *f, const void *buf, size_t n, uint64_t pos);
int sim_file_sync(struct env *e, struct env_file *f);
int sim_file_truncate(struct env *e, struct env_file *f, uint64_t size);
int sim_mkdir(struct env *e, const char *path);
int sim_dir_list(struct env *e, const char *path, env_dir_cb cb, void *arg);
int sim_dir_sync(struct env *e, const char *path);
int sim_rename(struct env *e, const char *from, const char *to);
int sim_unlink(struct env *e, const char *path);
int sim_lock(struct env *e, const char *path, struct env_file **out);
int sim_disk_free(struct env *e, const char *path, uint64_t *bytes);
void sim_usage(struct env *e, struct env_usage *out);
void sim_io_submit(struct env *e, enum env_queue q, struct env_io *io);
void sim_job_submit(struct env *e, enum env_queue q, struct env_job *j);

/* ---- network ------------------------------------------------------------------------------------------------------- */

#define SIM_WINDOW (1u << 20) /* bytes of a direction that left the writer and were not read yet */
#define SIM_BACKLOG 511u

enum sim_chunk_kind { SIM_CHUNK_DATA, SIM_CHUNK_FIN, SIM_CHUNK_RESET };

struct sim_chunk {
    struct sim_chunk *next;
    enum sim_chunk_kind kind;
    uint32_t len, pos;
    uint8_t data[];
};

struct sim_chunks { struct sim_chunk *head, *tail; };

struct sim_listener {
    struct sim_listener *next, *prev; /* of the host */
    struct env_listener *user;
    struct sim_loop *loop;
    struct sim_host *host;
    bool shared, closed;
    unsigned events;
    struct sim_end *head, *tail; /* waiting for env_accept() */
    unsigned n_waiting;
};

enum sim_end_state {
    SIM_END_CONNECTING, /* env_connect() called; no peer yet */
    SIM_END_WAITING,    /* in a listener's backlog */
    SIM_END_OPEN,
    SIM_END_CLOSED /* by its owner, or its process is dead */
};

/* One side of a connection. The fields of a direction are its writer's. */
struct sim_end {
    struct sim_link *link;
    struct sim_end *peer;
    struct sim_host *host;
    struct sim_loop *loop; /* NULL while it waits in a backlog */
    struct env_conn *user;
    struct sim_end *next, *prev; /* of the process */
    struct sim_end *next_waiting;
    enum sim_end_state state;
    uint16_t port;
    bool reading;
    bool ended;        /* nothing more will be told to the reader */
    bool eof;          /* the peer's end came in order */
    bool reset_owed;   /* the host lost power: the peer is told when the host is back */
    bool readable_event, written_event, writable_event;
    bool blocked;      /* the window was full: ops->drained is owed */
    int error;
    struct sim_chunks in;         /* arrived, not read */
    struct sim_chunks flight;     /* sent by this side; an event each is on its way to the peer */
    struct sim_chunks held;       /* after them in age: what a cut kept back */
    struct env_write *out, **out_tail;
    struct env_write *done, **done_tail;
    size_t unsent, in_window;
    size_t acks_held;             /* read by the peer, not yet told because of a cut */
    uint64_t last_arrival;        /* nothing sent later arrives earlier */
};

struct sim_link {
    struct sim_link *next, *prev; /* all of the world */
    struct sim_end end[2];        /* 0 connects, 1 accepts */
    unsigned events;
    bool broken;                  /* nothing passes any more; resets are on their way */
    bool ghost;                   /* a late attempt whose sender gave up */
    uint64_t give_up;
};

/* env_sim_net.c */
void sim_syn_run(struct sim *s, struct sim_event *ev, bool live);
void sim_connected_run(struct sim *s, struct sim_event *ev, bool live);
void sim_accept_run(struct sim *s, struct sim_event *ev, bool live);
void sim_net_process_died(struct sim_process *p, enum sim_crash how);
void sim_net_host_back(struct sim_host *h);
void sim_net_close(struct sim *s);
bool sim_is_cut(const struct sim_host *from, const struct sim_host *to);
uint64_t sim_net_delay(struct sim *s, const struct sim_host *from, const struct sim_host *to);
void sim_link_release(struct sim *s, struct sim_link *l); /* freed if nothing refers to it any more */
int sim_listen(struct env *e, struct env_listener *l, const char *host, uint16_t port, bool share_port);
int sim_accept(struct env_listener *l, struct env_conn *c);
void sim_listener_close(struct env_listener *l);
int sim_connect(struct env *e, struct env_conn *c, const char *host, uint16_t port);
void sim_conn_peer(const struct env_conn *c, char *buf, size_t n);

/* env_sim_stream.c */
void sim_chunk_run(struct sim *s, struct sim_event *ev, bool live);
void sim_reset_run(struct sim *s, struct sim_event *ev, bool live);
void sim_readable_run(struct sim *s, struct sim_event *ev, bool live);
void sim_writable_run(struct sim *s, struct sim_event *ev, bool live);
void sim_written_run(struct sim *s, struct sim_event *ev, bool live);
void sim_closed_run(struct sim *s, struct sim_event *ev, bool live);
void sim_end_send_mark(struct sim *s, struct sim_end *from, enum sim_chunk_kind kind);
void sim_end_reset_at(struct sim *s, struct sim_end *to, uint64_t time);
void sim_end_heal(struct sim *s, struct sim_end *from);
void sim_end_opened(struct sim *s, struct sim_end *e, int status); /* outcome of env_connect() */
void sim_chunks_free(struct sim_chunks *l);
void sim_conn_write(struct env_conn *c, struct env_write *w);
void sim_conn_read(struct env_conn *c, bool on);
size_t sim_conn_unsent(const struct env_conn *c);
void sim_conn_close(struct env_conn *c);

/* ---- hosts, processes, loops --------------------------------------------------------------------------------------- */

struct sim_host {
    struct sim *sim;
    struct sim_host *next;
    unsigned id;
    char *name;
    struct sim_store store;
    struct sim_process *proc; /* the one that sim_process_start() started, while it lives */
    bool off;                 /* power cut, no process started since */
    struct sim_listener *listeners, *listeners_last;
    uint16_t next_port;
    bool *cut_to; /* by host id */
    unsigned n_cut_to;
    /* elapsed host time = elapsed_base + (true time - true_base) * (1 + ppm / 1e6) */
    uint64_t true_base, elapsed_base, boot_ns;
    int64_t wall_offset_ms;
    int drift_ppm;
};

struct sim_queue {
    struct env_io *first, **last;
    uint64_t busy_until;
};

struct sim_timer {
    struct env_timer *user; /* NULL: closed */
    struct sim_loop *loop;
    uint64_t deadline; /* host time */
    uint64_t queued;   /* true time of the event that counts */
    uint32_t generation;
    uint32_t events; /* in the heap */
    bool armed, has_event;
};

struct sim_loop {
    struct env env;
    struct sim *sim;
    struct sim_process *proc;
    struct sim_loop *next; /* of the process */
    struct sim_loop *all;  /* of the world */
    uint32_t id;
    char *name;
    env_lane_main main;
    void *arg;
    struct env_task *defer, **defer_tail;
    bool defer_event, stopped;
    uint64_t starts; /* a message waits until main ran */
    struct sim_rng rng;
    struct sim_queue queues[ENV_QUEUES];
    uint64_t *last_post; /* by lane of the sender + 1; 0: a driver */
    unsigned n_last_post;
    struct env_signal *signals[8];
};

struct sim_process {
    struct sim *sim;
    struct sim_host *host;
    struct sim_process *all;
    struct sim_loop *loops, **loops_tail;
    unsigned n_loops;
    bool dead, dying, paused, client;
    enum sim_crash how;
    bool exits; /* by itself: options.exited is told */
    int exit_code;
    char why[160];
    struct sim_event *parked, **parked_tail;
    struct env_file *files;
    struct sim_end *ends, *ends_last;
};

struct sim {
    struct sim_options opt;
    uint64_t now, seq, events, hash;
    struct sim_heap_slot *heap;
    size_t n_heap, cap_heap;
    struct sim_pool event_pool, timer_pool, link_pool, listener_pool;
    struct sim_rng rng, driver_rng;
    struct sim_loop *current; /* whose turn it is */
    struct sim_host *hosts, **hosts_tail;
    unsigned n_hosts;
    struct sim_process *processes;
    struct sim_loop *loops;
    uint32_t n_loops;
    struct sim_link *links, *links_last;
    struct sim_trace ring[SIM_RING];
};

struct sim_event *sim_event_push(struct sim *s, uint64_t time, enum sim_kind kind, struct sim_loop *loop, void *a, uint64_t u);
/* Takes the next event of one loop out of its turn and delivers it; false if it has none. */
bool sim_step_loop(struct sim *s, struct sim_loop *l);
/* Adds to the trace hash what an event carried. */
static inline void sim_trace_mix(struct sim *s, uint64_t v)
{
    uint64_t h = (s->hash ^ v) * 0x9fb21c651e98df25u;
    s->hash = h ^ (h >> 32);
}
/* Host time (ns since the host's boot plus something) now. */
uint64_t sim_host_clock(const struct sim_host *h);
/* True nanoseconds until the host's clock has moved by `ns`; rounded up. */
uint64_t sim_host_true_ns(const struct sim_host *h, uint64_t ns);
uint64_t sim_host_wall_ms(const struct sim_host *h);
struct sim_host *sim_host_find(struct sim *s, const char *name);

/* env_sim_timer.c */
/* False: nothing to deliver now (stopped, or moved to a later time, for which an event was pushed). */
bool sim_timer_due(struct sim *s, struct sim_event *ev);
void sim_timer_run(struct sim *s, struct sim_event *ev, bool live);
int sim_timer_init(struct env *e, struct env_timer *user);
void sim_timer_start(struct env_timer *user, uint64_t after_ns);
void sim_timer_stop(struct env_timer *user);
void sim_timer_close(struct env_timer *user);

/* env_sim_process.c */
void sim_turn_begin(struct sim_loop *l, struct sim_loop **saved);
void sim_turn_end(struct sim_loop *l, struct sim_loop *saved);
void sim_process_free_all(struct sim *s);
void sim_defer_run(struct sim *s, struct sim_event *ev, bool live);
void sim_post_run(struct sim *s, struct sim_event *ev, bool live);
void sim_lane_run(struct sim *s, struct sim_event *ev, bool live);
void sim_exit_run(struct sim *s, struct sim_event *ev, bool live);
void sim_signal_run(struct sim *s, struct sim_event *ev, bool live);

static inline struct sim_loop *sim_loop_of(const struct env *e)
{
    struct sim_loop *l = container_of((struct env *)(uintptr_t)e, struct sim_loop, env);
    /* A call into another loop of the same process would be a data race in the real world. */
    sluice_assert(l->sim->current == NULL || l->sim->current == l || l->sim->current->proc != l->proc);
    return l;
}

#endif
