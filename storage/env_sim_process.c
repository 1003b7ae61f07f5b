/* Processes and their loops: turns, tasks, messages, lanes, signals; pausing and dying.
 *
 * A process dies between two turns, never inside one: a crash or env_fatal() asked for in the middle of a turn is noted
 * (`dying`); from then on nothing the code does reaches disk or network, and the death follows when the turn ends. */
#include "env_sim_impl.h"

#include <stdio.h>
#include <stdlib.h>

/* Hand-over between loops and the start of a lane take up to this long. */
#define SIM_HANDOVER_NS 5000u

static void process_die(struct sim_process *p);
static const struct env_ops sim_ops;

/* ---- turns --------------------------------------------------------------------------------------------------------- */

void sim_turn_begin(struct sim_loop *l, struct sim_loop **saved)
{
    *saved = l->sim->current;
    l->sim->current = l;
    l->env.now_ns = sim_host_clock(l->proc->host);
    const struct sim_options *o = &l->sim->opt;
    if (*saved == NULL && o->turn != NULL) {
        o->turn(o->arg, l->proc->host, true);
    }
}

static void run_deferred(struct sim_loop *l)
{
    while (l->defer != NULL && !l->proc->dying) {
        struct env_task *t = l->defer;
        l->defer = t->next;
        if (l->defer == NULL) {
            l->defer_tail = &l->defer;
        }
        t->queued = false;
        t->cb(t);
    }
}

void sim_turn_end(struct sim_loop *l, struct sim_loop *saved)
{
    struct sim_process *p = l->proc;
    run_deferred(l);
    const struct sim_options *o = &l->sim->opt;
    if (saved == NULL && o->turn != NULL) {
        o->turn(o->arg, p->host, false);
    }
    if (l->stopped && l == p->loops && !p->dying) {
        p->dying = true;
        p->exits = true;
        p->exit_code = 0;
        snprintf(p->why, sizeof p->why, "stopped");
    }
    l->sim->current = saved;
    if (p->dying && (saved == NULL || saved->proc != p)) {
        process_die(p);
    }
}

/* ---- start --------------------------------------------------------------------------------------------------------- */

static struct sim_loop *loop_new(struct sim_process *p, const char *name, env_lane_main main, void *arg)
{
    struct sim *s = p->sim;
    struct sim_loop *l = xcalloc(1, sizeof *l);
    l->env.ops = &sim_ops;
    l->env.lane = p->n_loops++;
    l->env.now_ns = sim_host_clock(p->host);
    l->sim = s;
    l->proc = p;
    l->id = ++s->n_loops;
    l->name = xstrdup(name);
    l->main = main;
    l->arg = arg;
    l->defer_tail = &l->defer;
    for (unsigned i = 0; i < ENV_QUEUES; i++) {
        l->queues[i].last = &l->queues[i].first;
    }
    /* A stream of its own: what a loop draws moves nothing elsewhere in the world. */
    sim_rng_seed(&l->rng, s->opt.seed * 0x9e3779b97f4a7c15u + l->id);
    l->all = s->loops;
    s->loops = l;
    *p->loops_tail = l;
    p->loops_tail = &l->next;
    return l;
}

static struct sim_process *process_new(struct sim_host *h, bool client)
{
    struct sim_process *p = xcalloc(1, sizeof *p);
    p->sim = h->sim;
    p->host = h;
    p->client = client;
    p->loops_tail = &p->loops;
    p->parked_tail = &p->parked;
    p->all = h->sim->processes;
    h->sim->processes = p;
    return p;
}

static void loop_run_main(struct sim_loop *l)
{
    struct sim_loop *saved;
    sim_turn_begin(l, &saved);
    l->main(&l->env, l->arg);
    sim_turn_end(l, saved);
}

int sim_process_start(struct sim_host *h, env_lane_main main, void *arg)
{
    if (h->proc != NULL) {
        return -EBUSY;
    }
    struct sim_process *p = process_new(h, false);
    h->proc = p;
    if (h->off) {
        h->off = false;
        sim_net_host_back(h);
    }
    loop_run_main(loop_new(p, "main", main, arg));
    return 0;
}

struct env *sim_client_start(struct sim_host *h, env_lane_main main, void *arg)
{
    struct sim_loop *l = loop_new(process_new(h, true), "client", main, arg);
    loop_run_main(l);
    return &l->env;
}

bool sim_process_up(const struct sim_host *h) { return h->proc != NULL; }

/* ---- pause, signals, death ----------------------------------------------------------------------------------------- */

void sim_process_pause(struct sim_host *h, bool paused)
{
    struct sim_process *p = h->proc;
    if (p == NULL || p->paused == paused) {
        return;
    }
    p->paused = paused;
    if (paused) {
        return;
    }
    struct sim_event *ev = p->parked;
    p->parked = NULL;
    p->parked_tail = &p->parked;
    while (ev != NULL) {
        struct sim_event *next = ev->next;
        sim_event_push(h->sim, h->sim->now, ev->kind, ev->loop, ev->a, ev->u);
        sim_pool_put(&h->sim->event_pool, ev);
        ev = next;
    }
}

void sim_process_signal(struct sim_host *h, int signum)
{
    if (h->proc != NULL) {
        sim_event_push(h->sim, h->sim->now, SIM_EV_SIGNAL, h->proc->loops, NULL, (uint64_t)signum);
    }
}

void sim_signal_run(struct sim *s, struct sim_event *ev, bool live)
{
    (void)s;
    for (struct sim_loop *l = ev->loop; live && l != NULL; l = NULL) {
        for (unsigned i = 0; i < ARRAY_LEN(l->signals); i++) {
            if (l->signals[i] != NULL && l->signals[i]->signum == (int)ev->u) {
                l->signals[i]->cb(l->signals[i]);
            }
        }
    }
}

/* In a turn of the process: when it ends. Else now. */
static void die_when_possible(struct sim_process *p)
{
    struct sim *s = p->sim;
    p->dying = true;
    if (s->current == NULL || s->current->proc != p) {
        process_die(p);
    }
}

void sim_process_crash(struct sim_host *h, enum sim_crash how)
{
    struct sim_process *p = h->proc;
    if (p == NULL) {
        if (how == SIM_CRASH_POWER) {
            sim_store_power_cut(&h->store, &h->sim->rng);
            h->off = true;
        }
        return;
    }
    p->how = how;
    p->exits = false;
    die_when_possible(p);
}

static void process_die(struct sim_process *p)
{
    struct sim *s = p->sim;
    if (p->dead) {
        return;
    }
    p->dead = true;
    sim_trace_mix(s, 0xdead0000u + (uint64_t)p->how);
    for (struct sim_loop *l = p->loops; l != NULL; l = l->next) {
        sim_io_crash(l);
    }
    while (p->files != NULL) {
        sim_file_drop(p->files);
    }
    if (!p->client) {
        p->host->proc = NULL;
        if (p->how == SIM_CRASH_POWER) {
            p->host->off = true;
            sim_store_power_cut(&p->host->store, &s->rng);
        }
    }
    sim_net_process_died(p, p->how);
    struct sim_event *ev = p->parked;
    p->parked = NULL;
    p->parked_tail = &p->parked;
    p->paused = false;
    while (ev != NULL) {
        struct sim_event *next = ev->next; /* delivered to a dead process: releases what it holds */
        sim_event_push(s, s->now, ev->kind, ev->loop, ev->a, ev->u);
        sim_pool_put(&s->event_pool, ev);
        ev = next;
    }
    if (p->exits && s->opt.exited != NULL) {
        s->opt.exited(s->opt.arg, p->host, p->exit_code, p->why);
    }
}

void sim_exit_run(struct sim *s, struct sim_event *ev, bool live)
{
    (void)s;
    if (live) {
        process_die(ev->a);
    }
}

static void sim_fatal(struct env *e, int exit_code, const char *why)
{
    struct sim_loop *l = sim_loop_of(e);
    struct sim_process *p = l->proc;
    if (p->dying || p->dead) {
        return;
    }
    p->dying = true;
    p->exits = true;
    p->how = SIM_CRASH_KILL;
    p->exit_code = exit_code;
    snprintf(p->why, sizeof p->why, "%s", why);
    if (l->sim->current == NULL || l->sim->current->proc != p) {
        sim_event_push(l->sim, l->sim->now, SIM_EV_EXIT, NULL, p, 0);
    }
}

void sim_process_free_all(struct sim *s)
{
    while (s->processes != NULL) {
        struct sim_process *p = s->processes;
        s->processes = p->all;
        while (p->files != NULL) {
            sim_file_drop(p->files);
        }
        free(p);
    }
    while (s->loops != NULL) {
        struct sim_loop *l = s->loops;
        s->loops = l->all;
        free(l->last_post);
        free(l->name);
        free(l);
    }
}

/* ---- clocks and random numbers ------------------------------------------------------------------------------------- */

static uint64_t sim_clock_ns(struct env *e) { return sim_host_clock(container_of(e, struct sim_loop, env)->proc->host); }
static uint64_t sim_wall_ms(struct env *e) { return sim_host_wall_ms(container_of(e, struct sim_loop, env)->proc->host); }

static void sim_env_random(struct env *e, void *buf, size_t n)
{
    struct sim_loop *l = sim_loop_of(e);
    char *out = buf;
    while (n > 0) {
        uint64_t v = sim_rng_next(&l->rng);
        size_t part = n < sizeof v ? n : sizeof v;
        memcpy(out, &v, part);
        out += part;
        n -= part;
    }
}

/* ---- tasks and messages -------------------------------------------------------------------------------------------- */

static void sim_defer(struct env *e, struct env_task *t)
{
    struct sim_loop *l = sim_loop_of(e);
    t->queued = true;
    t->next = NULL;
    *l->defer_tail = t;
    l->defer_tail = &t->next;
    if (l->sim->current != l && !l->defer_event) { /* a driver called from outside any turn of this loop */
        l->defer_event = true;
        sim_event_push(l->sim, l->sim->now, SIM_EV_DEFER, l, NULL, 0);
    }
}

void sim_defer_run(struct sim *s, struct sim_event *ev, bool live)
{
    (void)s;
    (void)live;
    ev->loop->defer_event = false; /* the tasks run at the end of this turn */
}

static void sim_post(struct env *to, struct env_msg *m)
{
    struct sim_loop *l = container_of(to, struct sim_loop, env);
    struct sim *s = l->sim;
    unsigned from = s->current != NULL && s->current->proc == l->proc ? s->current->env.lane + 1 : 0;
    if (from >= l->n_last_post) {
        l->last_post = xrealloc(l->last_post, (from + 1) * sizeof *l->last_post);
        memset(l->last_post + l->n_last_post, 0, (from + 1 - l->n_last_post) * sizeof *l->last_post);
        l->n_last_post = from + 1;
    }
    uint64_t at = max_u64(s->now + sim_rng_below(&s->rng, SIM_HANDOVER_NS + 1), max_u64(l->last_post[from], l->starts));
    l->last_post[from] = at;
    sim_event_push(s, at, SIM_EV_POST, l, m, from);
}

void sim_post_run(struct sim *s, struct sim_event *ev, bool live)
{
    (void)s;
    struct env_msg *m = ev->a;
    if (live) {
        m->cb(m);
    }
}

/* ---- lanes --------------------------------------------------------------------------------------------------------- */

static int sim_lane_start(struct env *parent, const char *name, env_lane_main main, void *arg, struct env **out)
{
    struct sim_loop *p = sim_loop_of(parent);
    struct sim_loop *l = loop_new(p->proc, name, main, arg);
    *out = &l->env;
    l->starts = p->sim->now + sim_rng_below(&p->sim->rng, SIM_HANDOVER_NS + 1);
    sim_event_push(p->sim, l->starts, SIM_EV_LANE, l, NULL, 0);
    return 0;
}

void sim_lane_run(struct sim *s, struct sim_event *ev, bool live)
{
    (void)s;
    if (live) {
        ev->loop->main(&ev->loop->env, ev->loop->arg);
    }
}

/* The parent blocks: the lane's own events go on until one of them stops it. A lane that nothing can stop any more would block a
 * real parent for ever; here the call returns. Its memory goes at sim_close(). */
static void sim_lane_join(struct env *lane)
{
    struct sim_loop *l = container_of(lane, struct sim_loop, env);
    while (!l->stopped && !l->proc->dying && sim_step_loop(l->sim, l)) {
    }
}

static void sim_stop(struct env *e) { sim_loop_of(e)->stopped = true; }

/* ---- the rest ------------------------------------------------------------------------------------------------------ */

static int sim_signal_start(struct env *e, struct env_signal *sig)
{
    struct sim_loop *l = sim_loop_of(e);
    for (unsigned i = 0; i < ARRAY_LEN(l->signals); i++) {
        if (l->signals[i] == NULL) {
            l->signals[i] = sig;
            return 0;
        }
    }
    return -ENOMEM;
}

static void sim_signal_stop(struct env *e, struct env_signal *sig)
{
    struct sim_loop *l = sim_loop_of(e);
    for (unsigned i = 0; i < ARRAY_LEN(l->signals); i++) {
        if (l->signals[i] == sig) {
            l->signals[i] = NULL;
        }
    }
}

static void sim_log(struct env *e, const char *line, size_t n)
{
    struct sim_loop *l = container_of(e, struct sim_loop, env);
    const struct sim_options *o = &l->sim->opt;
    if (o->log != NULL) {
        o->log(o->arg, l->proc->host, line, n);
    }
}

static const struct env_ops sim_ops = {
    .clock_ns = sim_clock_ns,
    .wall_ms = sim_wall_ms,
    .random = sim_env_random,
    .timer_init = sim_timer_init,
    .timer_start = sim_timer_start,
    .timer_stop = sim_timer_stop,
    .timer_close = sim_timer_close,
    .defer = sim_defer,
    .post = sim_post,
    .lane_start = sim_lane_start,
    .lane_join = sim_lane_join,
    .stop = sim_stop,
    .file_open = sim_file_open,
    .file_close = sim_file_close,
    .file_size = sim_file_size,
    .file_allocated = sim_file_allocated,
    .file_pread = sim_file_pread,
    .file_pwrite = sim_file_pwrite,
    .file_sync = sim_file_sync,
    .file_truncate = sim_file_truncate,
    .mkdir = sim_mkdir,
    .dir_list = sim_dir_list,
    .dir_sync = sim_dir_sync,
    .rename = sim_rename,
    .unlink = sim_unlink,
    .lock = sim_lock,
    .disk_free = sim_disk_free,
    .usage = sim_usage,
    .io_submit = sim_io_submit,
    .job_submit = sim_job_submit,
    .listen = sim_listen,
    .accept = sim_accept,
    .listener_close = sim_listener_close,
    .connect = sim_connect,
    .conn_write = sim_conn_write,
    .conn_read = sim_conn_read,
    .conn_unsent = sim_conn_unsent,
    .conn_peer = sim_conn_peer,
    .conn_close = sim_conn_close,
    .signal_start = sim_signal_start,
    .signal_stop = sim_signal_stop,
    .log = sim_log,
    .fatal = sim_fatal,
};
