/* env_sim.h: a simulated world: hosts with clocks and disks, processes, a network; all from one seed.
 *
 * One `struct sim` is one world, single-threaded. Hosts hold a disk that survives its processes. A process is a set of envs
 * (its loops) that die together. Virtual time jumps from event to event. The same seed and the same calls give the same trace:
 * sim_trace_hash() sums up every event delivered.
 *
 * Memory of a crashed process is not freed (its code never gets to run again): worlds are run in a forked child each.
 */
#ifndef SLUICE_ENV_SIM_H
#define SLUICE_ENV_SIM_H

#include "env.h"

struct sim;
struct sim_host;

enum sim_crash {
    SIM_CRASH_KILL, /* SIGKILL: the page cache stays: unsynced writes are visible after restart, but not durable. Peers get resets */
    SIM_CRASH_POWER /* power cut: each unsynced sector (512 bytes) and name change is kept, lost or torn by chance. Peers hear
                     * nothing until the next process starts on the host; attempts to connect time out till then */
};

/* Ranges are drawn uniformly, in nanoseconds; probabilities are per million. */
struct sim_range { uint64_t min, max; };

struct sim_net {
    struct sim_range delay_ns;      /* one way */
    unsigned loss_ppm;              /* a stream's bytes are never lost silently: the connection breaks (reset on both sides, or
                                     * silence on one for a while and then reset) */
    unsigned reorder_ppm;           /* between connections; bytes within one stay in order */
    unsigned stall_ppm;             /* a chunk is held back for up to stall_ns */
    struct sim_range stall_ns;
    unsigned corrupt_ppm;           /* a bit flips past TCP's checksum */
    unsigned split_ppm;             /* a write arrives in several pieces */
    unsigned duplicate_connect_ppm; /* a late connection attempt arrives although its sender gave up */
};

struct sim_disk {
    struct sim_range sync_ns, write_ns, read_ns; /* per request */
    unsigned slow_ppm;                           /* a sync takes slow_ns instead */
    struct sim_range slow_ns;
    unsigned read_error_ppm;  /* -EIO from a read */
    unsigned write_error_ppm; /* -EIO from a write or sync: after it the unsynced data is gone though it still reads back */
    unsigned flip_ppm;        /* a read returns data with a flipped bit */
    uint64_t capacity;        /* bytes; writes that need more fail with -ENOSPC; 0: no limit */
};

struct sim_options {
    uint64_t seed;
    struct sim_net net;
    struct sim_disk disk;
    void (*log)(void *arg, struct sim_host *host, const char *line, size_t n); /* log lines of processes; NULL: dropped */
    void (*exited)(void *arg, struct sim_host *host, int exit_code, const char *why); /* env_fatal or env_stop of the first loop */
    void (*turn)(void *arg, struct sim_host *host, bool begins); /* around each turn of a loop, for who counts what hosts do; may be NULL */
    void *arg;
};

struct sim *sim_open(const struct sim_options *o);
void sim_close(struct sim *s);

/* A machine. name is also its address for env_listen/env_connect ("n1"), copied. Disk options start as the world's. */
struct sim_host *sim_host_add(struct sim *s, const char *name);
const char *sim_host_name(const struct sim_host *h);
void sim_host_set_disk(struct sim_host *h, const struct sim_disk *d);
#define SIM_WALL_START_MS 1767225600000ll /* ms since 1970 at the start of every world (2026-01-01 00:00 UTC) */
/* Wall clock = true time + offset, and both clocks run at (1 + ppm/1e6). */
void sim_host_set_clock(struct sim_host *h, int64_t wall_offset_ms, int drift_ppm);

/* Starts a process on an idle host: its first loop runs main(env, arg) now. The env dies with the process. */
int sim_process_start(struct sim_host *h, env_lane_main main, void *arg);
bool sim_process_up(const struct sim_host *h);
void sim_process_crash(struct sim_host *h, enum sim_crash how);
/* Paused processes get no events (SIGSTOP); what arrives waits. */
void sim_process_pause(struct sim_host *h, bool paused);
/* Delivers a signal to the process's first loop (env_signal_start); no effect if it does not listen for it. */
void sim_process_signal(struct sim_host *h, int signum);
/* An independent process on the same host (clients): several may run. They never crash by sim_process_crash() nor pause, and end
 * by env_stop() or env_fatal() alone (options.exited is told of them too). */
struct env *sim_client_start(struct sim_host *h, env_lane_main main, void *arg);

/* Cuts or heals from -> to (one way). Open connections stall; after heal they go on or break by chance. */
void sim_cut(struct sim *s, struct sim_host *from, struct sim_host *to, bool cut);
void sim_set_net(struct sim *s, const struct sim_net *n);
/* Resets every connection between the two hosts now. */
void sim_reset_connections(struct sim *s, struct sim_host *a, struct sim_host *b);

/* Disk surgery on a host without a process. */
int sim_disk_flip_bit(struct sim_host *h, const char *path, uint64_t bit);
int sim_disk_zero(struct sim_host *h, const char *path, uint64_t pos, uint64_t len);
void sim_disk_wipe(struct sim_host *h);
struct sim_disk_copy *sim_disk_copy(struct sim_host *h);                /* what is durable now */
void sim_disk_restore(struct sim_host *h, struct sim_disk_copy *c);     /* c stays the caller's */
void sim_disk_copy_free(struct sim_disk_copy *c);
int64_t sim_disk_size(struct sim_host *h, const char *path);
/* Reads a durable file's bytes (golden tests, checkers). */
ssize_t sim_disk_read(struct sim_host *h, const char *path, void *buf, size_t n, uint64_t pos);

uint64_t sim_now_ns(const struct sim *s);         /* true time since the start of the world */
uint64_t sim_random(struct sim *s);               /* the world's own stream of random numbers, for drivers */
uint64_t sim_random_in(struct sim *s, struct sim_range r);
/* Runs events up to and including time t (ns), then the clock stands at t. */
void sim_run_until(struct sim *s, uint64_t t_ns);
/* A driver's own event at time t. */
void sim_at(struct sim *s, uint64_t t_ns, void (*fn)(void *arg), void *arg);
/* Runs fn(arg) at time t as a turn of env's loop (its clock is set, its deferred tasks run after it, a pause holds it back, a death
 * drops it): how a driver makes a process do something. Use it rather than calling into a process's code from sim_at(). */
void sim_call(struct env *env, uint64_t t_ns, void (*fn)(void *arg), void *arg);
uint64_t sim_trace_hash(const struct sim *s);
uint64_t sim_events(const struct sim *s);
/* Prints the last events (bounded ring) to stderr: for failing seeds. */
void sim_print_tail(const struct sim *s, unsigned n);

#endif
