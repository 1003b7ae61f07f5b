/* The world: virtual time as a heap of events, the trace, random numbers, hosts with their clocks, and what drivers call.
 *
 * The normal course: pop the earliest event (ties: the one pushed first), find the loop whose turn it is, drop the event if the
 * loop is dead, park it if its process is paused; else set the loop's clock, run the event, then the loop's deferred tasks.
 * Nothing here looks at an address, the real time or a real random number, so one seed gives one run. */
#include "env_sim_impl.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

/* ---- random numbers ------------------------------------------------------------------------------------------------ */

void sim_rng_seed(struct sim_rng *r, uint64_t seed)
{
    for (unsigned i = 0; i < 4; i++) { /* splitmix64 */
        seed += 0x9e3779b97f4a7c15u;
        uint64_t z = seed;
        z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
        z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
        r->s[i] = z ^ (z >> 31);
    }
}

/* ---- pools --------------------------------------------------------------------------------------------------------- */

void *sim_pool_get(struct sim_pool *p)
{
    if (p->free == NULL) {
        const size_t count = 64;
        char *slab = xmalloc(16 + p->size * count);
        *(void **)slab = p->slabs;
        p->slabs = slab;
        for (size_t i = count; i-- > 0;) {
            void *obj = slab + 16 + i * p->size;
            *(void **)obj = p->free;
            p->free = obj;
        }
    }
    void *obj = p->free;
    p->free = *(void **)obj;
    memset(obj, 0, p->size);
    return obj;
}

void sim_pool_put(struct sim_pool *p, void *obj)
{
    *(void **)obj = p->free;
    p->free = obj;
}

static void sim_pool_clear(struct sim_pool *p)
{
    while (p->slabs != NULL) {
        void *slab = p->slabs;
        p->slabs = *(void **)slab;
        free(slab);
    }
    p->free = NULL;
}

/* ---- heap of events ------------------------------------------------------------------------------------------------ */

static inline bool slot_before(const struct sim_heap_slot *a, const struct sim_heap_slot *b)
{
    return a->time < b->time || (a->time == b->time && a->seq < b->seq);
}

/* Four children a node: half the levels, and the children share a cache line or two. */
static void heap_push(struct sim *s, struct sim_heap_slot slot)
{
    if (s->n_heap == s->cap_heap) {
        s->cap_heap = s->cap_heap == 0 ? 256 : s->cap_heap * 2;
        s->heap = xrealloc(s->heap, s->cap_heap * sizeof *s->heap);
    }
    size_t i = s->n_heap++;
    while (i > 0) {
        size_t parent = (i - 1) / 4;
        if (!slot_before(&slot, &s->heap[parent])) {
            break;
        }
        s->heap[i] = s->heap[parent];
        i = parent;
    }
    s->heap[i] = slot;
}

static struct sim_heap_slot heap_pop(struct sim *s)
{
    struct sim_heap_slot top = s->heap[0];
    struct sim_heap_slot last = s->heap[--s->n_heap];
    size_t n = s->n_heap;
    size_t i = 0;
    for (;;) {
        size_t child = i * 4 + 1;
        if (child >= n) {
            break;
        }
        size_t end = child + 4 < n ? child + 4 : n;
        size_t least = child;
        for (size_t c = child + 1; c < end; c++) {
            if (slot_before(&s->heap[c], &s->heap[least])) {
                least = c;
            }
        }
        if (!slot_before(&s->heap[least], &last)) {
            break;
        }
        s->heap[i] = s->heap[least];
        i = least;
    }
    if (n > 0) {
        s->heap[i] = last;
    }
    return top;
}

struct sim_event *sim_event_push(struct sim *s, uint64_t time, enum sim_kind kind, struct sim_loop *loop, void *a, uint64_t u)
{
    struct sim_event *ev = sim_pool_get(&s->event_pool);
    ev->kind = kind;
    ev->loop = loop;
    ev->a = a;
    ev->u = u;
    heap_push(s, (struct sim_heap_slot){ .time = max_u64(time, s->now), .seq = s->seq++, .ev = ev });
    return ev;
}

/* ---- delivery ------------------------------------------------------------------------------------------------------ */

static void driver_run(struct sim *s, struct sim_event *ev, bool live)
{
    (void)s;
    if (live) {
        ((void (*)(void *))(uintptr_t)ev->u)(ev->a);
    }
}

static const struct {
    const char *name;
    sim_event_run run;
} kinds[SIM_EV_KINDS] = {
    [SIM_EV_DRIVER] = { "driver", driver_run },
    [SIM_EV_CALL] = { "call", driver_run },
    [SIM_EV_TIMER] = { "timer", sim_timer_run },
    [SIM_EV_DEFER] = { "defer", sim_defer_run },
    [SIM_EV_POST] = { "post", sim_post_run },
    [SIM_EV_LANE] = { "lane", sim_lane_run },
    [SIM_EV_EXIT] = { "exit", sim_exit_run },
    [SIM_EV_SIGNAL] = { "signal", sim_signal_run },
    [SIM_EV_IO] = { "io", sim_io_run },
    [SIM_EV_JOB_WORK] = { "job work", sim_job_work_run },
    [SIM_EV_JOB_DONE] = { "job done", sim_job_done_run },
    [SIM_EV_SYN] = { "syn", sim_syn_run },
    [SIM_EV_CONNECTED] = { "connected", sim_connected_run },
    [SIM_EV_ACCEPT] = { "accept", sim_accept_run },
    [SIM_EV_CHUNK] = { "chunk", sim_chunk_run },
    [SIM_EV_RESET] = { "reset", sim_reset_run },
    [SIM_EV_READABLE] = { "readable", sim_readable_run },
    [SIM_EV_WRITABLE] = { "writable", sim_writable_run },
    [SIM_EV_WRITTEN] = { "written", sim_written_run },
    [SIM_EV_CLOSED] = { "closed", sim_closed_run },
};

/* A connection's end may be given to a loop (env_accept) while an event for it is on its way. */
static struct sim_loop *event_loop(const struct sim_event *ev)
{
    return ev->kind == SIM_EV_CHUNK || ev->kind == SIM_EV_RESET ? ((struct sim_end *)ev->a)->loop : ev->loop;
}

static void trace(struct sim *s, const struct sim_event *ev, const struct sim_loop *l)
{
    /* The u of driver events is a function's address, which differs from run to run. */
    uint64_t detail = ev->kind <= SIM_EV_CALL ? 0 : ev->u;
    uint32_t loop = l == NULL ? 0 : l->id;
    sim_trace_mix(s, s->now);
    sim_trace_mix(s, detail ^ ((uint64_t)ev->kind << 56) ^ ((uint64_t)loop << 32));
    s->ring[s->events++ % SIM_RING] = (struct sim_trace){ .time = s->now, .detail = detail, .loop = loop, .kind = ev->kind };
}

/* True if something was delivered; false if the event was stale, parked or its receiver is dead. */
static bool deliver(struct sim *s, struct sim_event *ev)
{
    if (ev == NULL) {
        return false; /* taken out by sim_step_loop() */
    }
    struct sim_loop *l = event_loop(ev);
    bool delivered = false;
    if (l == NULL) {
        trace(s, ev, NULL);
        struct sim_loop *saved = s->current;
        s->current = NULL;
        kinds[ev->kind].run(s, ev, true);
        s->current = saved;
        delivered = true;
    } else if (l->proc->dead || l->stopped) {
        kinds[ev->kind].run(s, ev, false);
    } else if (ev->kind == SIM_EV_TIMER && !sim_timer_due(s, ev)) {
        delivered = false;
    } else if (l->proc->paused) {
        ev->next = NULL;
        *l->proc->parked_tail = ev;
        l->proc->parked_tail = &ev->next;
        return false;
    } else {
        trace(s, ev, l);
        struct sim_loop *saved;
        sim_turn_begin(l, &saved);
        kinds[ev->kind].run(s, ev, true);
        sim_turn_end(l, saved);
        delivered = true;
    }
    sim_pool_put(&s->event_pool, ev);
    return delivered;
}

static bool deliver_next(struct sim *s)
{
    struct sim_heap_slot slot = heap_pop(s);
    s->now = max_u64(s->now, slot.time);
    return deliver(s, slot.ev);
}

void sim_run_until(struct sim *s, uint64_t t_ns)
{
    while (s->n_heap > 0 && s->heap[0].time <= t_ns) {
        deliver_next(s);
    }
    s->now = max_u64(s->now, t_ns);
}

bool sim_step_loop(struct sim *s, struct sim_loop *l)
{
    for (;;) {
        struct sim_heap_slot *best = NULL;
        for (size_t i = 0; i < s->n_heap; i++) {
            struct sim_heap_slot *slot = &s->heap[i];
            if (slot->ev != NULL && event_loop(slot->ev) == l && (best == NULL || slot_before(slot, best))) {
                best = slot;
            }
        }
        if (best == NULL) {
            return false;
        }
        struct sim_event *ev = best->ev;
        best->ev = NULL;
        s->now = max_u64(s->now, best->time);
        if (deliver(s, ev)) {
            return true;
        }
    }
}

/* ---- hosts and clocks ---------------------------------------------------------------------------------------------- */

static uint64_t drifted(uint64_t ns, int ppm)
{
    if (ppm == 0) {
        return ns;
    }
    int64_t whole = (int64_t)(ns / 1000000) * ppm;
    int64_t rest = (int64_t)(ns % 1000000) * ppm / 1000000;
    return ns + (uint64_t)(whole + rest);
}

static uint64_t host_elapsed(const struct sim_host *h)
{
    return h->elapsed_base + drifted(h->sim->now - h->true_base, h->drift_ppm);
}

uint64_t sim_host_clock(const struct sim_host *h) { return h->boot_ns + host_elapsed(h); }

uint64_t sim_host_true_ns(const struct sim_host *h, uint64_t ns)
{
    if (h->drift_ppm == 0) {
        return ns;
    }
    return (uint64_t)(((unsigned __int128)ns * 1000000u) / (uint64_t)(1000000 + h->drift_ppm)) + 2;
}

uint64_t sim_host_wall_ms(const struct sim_host *h)
{
    return (uint64_t)(SIM_WALL_START_MS + (int64_t)(host_elapsed(h) / 1000000) + h->wall_offset_ms);
}

struct sim_host *sim_host_add(struct sim *s, const char *name)
{
    sluice_assert(sim_host_find(s, name) == NULL);
    struct sim_host *h = xcalloc(1, sizeof *h);
    h->sim = s;
    h->id = s->n_hosts++;
    h->name = xstrdup(name);
    h->next_port = 32768;
    h->true_base = s->now;
    h->elapsed_base = s->now;
    /* Every machine booted at another time, so that code which compares clocks of two machines fails here. */
    h->boot_ns = 1000000000u + sim_rng_below(&s->rng, 1000000) * 1000000u;
    sim_store_init(&h->store, s, &s->opt.disk);
    *s->hosts_tail = h;
    s->hosts_tail = &h->next;
    return h;
}

const char *sim_host_name(const struct sim_host *h) { return h->name; }

struct sim_host *sim_host_find(struct sim *s, const char *name)
{
    for (struct sim_host *h = s->hosts; h != NULL; h = h->next) {
        if (strcmp(h->name, name) == 0) {
            return h;
        }
    }
    return NULL;
}

void sim_host_set_disk(struct sim_host *h, const struct sim_disk *d) { h->store.opt = *d; }

void sim_host_set_clock(struct sim_host *h, int64_t wall_offset_ms, int drift_ppm)
{
    sluice_assert(drift_ppm > -1000000);
    h->elapsed_base = host_elapsed(h);
    h->true_base = h->sim->now;
    h->wall_offset_ms = wall_offset_ms;
    h->drift_ppm = drift_ppm;
}

/* ---- the world ----------------------------------------------------------------------------------------------------- */

struct sim *sim_open(const struct sim_options *o)
{
    struct sim *s = xcalloc(1, sizeof *s);
    s->opt = *o;
    s->hosts_tail = &s->hosts;
    s->event_pool.size = sizeof(struct sim_event);
    s->timer_pool.size = sizeof(struct sim_timer);
    s->link_pool.size = sizeof(struct sim_link);
    s->listener_pool.size = sizeof(struct sim_listener);
    sim_rng_seed(&s->rng, o->seed);
    sim_rng_seed(&s->driver_rng, o->seed ^ 0x6472697665727321u);
    s->hash = o->seed;
    return s;
}

void sim_close(struct sim *s)
{
    sluice_assert(s->current == NULL);
    /* What events and parked events hold goes first: none of their processes runs again. */
    while (s->n_heap > 0) {
        struct sim_event *ev = s->heap[--s->n_heap].ev;
        if (ev != NULL && ev->kind != SIM_EV_DRIVER) {
            kinds[ev->kind].run(s, ev, false);
        }
    }
    for (struct sim_process *p = s->processes; p != NULL; p = p->all) {
        while (p->parked != NULL) {
            struct sim_event *ev = p->parked;
            p->parked = ev->next;
            kinds[ev->kind].run(s, ev, false);
        }
    }
    sim_net_close(s);
    sim_process_free_all(s);
    while (s->hosts != NULL) {
        struct sim_host *h = s->hosts;
        s->hosts = h->next;
        sim_store_clear(&h->store);
        free(h->cut_to);
        free(h->name);
        free(h);
    }
    sim_pool_clear(&s->event_pool);
    sim_pool_clear(&s->timer_pool);
    sim_pool_clear(&s->link_pool);
    sim_pool_clear(&s->listener_pool);
    free(s->heap);
    free(s);
}

uint64_t sim_now_ns(const struct sim *s) { return s->now; }
uint64_t sim_random(struct sim *s) { return sim_rng_next(&s->driver_rng); }
uint64_t sim_random_in(struct sim *s, struct sim_range r) { return sim_rng_in(&s->driver_rng, r); }

void sim_at(struct sim *s, uint64_t t_ns, void (*fn)(void *arg), void *arg)
{
    sim_event_push(s, t_ns, SIM_EV_DRIVER, NULL, arg, (uintptr_t)fn);
}

void sim_call(struct env *e, uint64_t t_ns, void (*fn)(void *arg), void *arg)
{
    struct sim_loop *l = container_of(e, struct sim_loop, env);
    sim_event_push(l->sim, t_ns, SIM_EV_CALL, l, arg, (uintptr_t)fn);
}

uint64_t sim_trace_hash(const struct sim *s) { return s->hash; }
uint64_t sim_events(const struct sim *s) { return s->events; }

void sim_print_tail(const struct sim *s, unsigned n)
{
    uint64_t count = min_u64(min_u64(n, SIM_RING), s->events);
    for (uint64_t i = s->events - count; i < s->events; i++) {
        const struct sim_trace *t = &s->ring[i % SIM_RING];
        const struct sim_loop *l = s->loops;
        while (l != NULL && l->id != t->loop) {
            l = l->all;
        }
        fprintf(stderr, "event %" PRIu64 " at %" PRIu64 ".%09" PRIu64 " s: %s%s%s %s %" PRIx64 "\n", i, t->time / 1000000000u,
            t->time % 1000000000u, l == NULL ? "world" : l->proc->host->name, l == NULL ? "" : "/", l == NULL ? "" : l->name,
            kinds[t->kind].name, t->detail);
    }
}
