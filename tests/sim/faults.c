/* faults.c: what goes wrong, within the budget that a cluster must survive.
 *
 * Budget: acknowledged data is safe as long as what is durable stays: any number of nodes may crash, be cut off or paused; but damage to a disk (flipped
 * bits, failed writes) strikes one node only in a run, as a healthy quorum must remain. */
#include "tests/sim/world.h"

#include "proto/base.h"

#define MS 1000000ull

static uint64_t pick(struct world *w, uint64_t n) { return sim_random(w->sim) % n; }

static struct world_node *any_node(struct world *w) { return &w->nodes[pick(w, w->n_nodes)]; }

static void restart_soon(struct world *w, struct world_node *n)
{
    uint64_t within = w->options.profile->restart_ms;
    n->restart_at = sim_now_ns(w->sim) + (within != 0 ? 1 + pick(w, within) : 100 + pick(w, pick(w, 4) == 0 ? 6000 : 1500)) * MS;
}

static void crash(struct world *w, struct world_node *n, enum sim_crash how)
{
    if (n->up && !n->paused) {
        world_crash_node(w, n, how);
        restart_soon(w, n);
    }
}

static void stopped(void *arg) { env_stop(arg); }

/* What SIGTERM does (server/main.c). */
static void stop_node(void *arg)
{
    struct world_node *n = arg;
    if (n->node != NULL) {
        node_stop(n->node, stopped, node_env(n->node));
    }
}

static void all_links(struct world *w, bool cut)
{
    for (unsigned i = 0; i < w->n_nodes; i++) {
        for (unsigned k = 0; k < w->n_nodes; k++) {
            if (i != k) {
                sim_cut(w->sim, w->nodes[i].host, w->nodes[k].host, cut);
            }
        }
    }
}

static void partition(struct world *w)
{
    unsigned minority = 1 + (w->n_nodes > 3 ? (unsigned)pick(w, 2) : 0);
    unsigned first = (unsigned)pick(w, w->n_nodes);
    for (unsigned i = 0; i < w->n_nodes; i++) {
        for (unsigned k = 0; k < w->n_nodes; k++) {
            bool a = (i + w->n_nodes - first) % w->n_nodes < minority, b = (k + w->n_nodes - first) % w->n_nodes < minority;
            if (a != b) {
                sim_cut(w->sim, w->nodes[i].host, w->nodes[k].host, true);
            }
        }
    }
}

static struct world_node *damage_target(struct world *w)
{
    for (unsigned i = 0; i < w->n_nodes; i++) {
        if (w->nodes[i].damaged) {
            return &w->nodes[i];
        }
    }
    return any_node(w);
}

/* Wall clocks step; the monotonic one never does. A majority of them is right, give or take 20 s, so there is one node at most whose clock steps by days. */
static void clock_fault(struct world *w, struct world_node *n)
{
    int64_t ms = (int64_t)pick(w, 40000) - 20000;
    if (pick(w, 3) == 0) {
        const int64_t day_ms = 86400000;
        for (unsigned i = 0; i < w->n_nodes; i++) {
            n = w->nodes[i].stepped ? &w->nodes[i] : n;
        }
        n->stepped = true;
        ms = ms * day_ms / 200; /* up to 100 days */
    }
    sim_host_set_clock(n->host, ms, (int)pick(w, 100000) - 50000);
}

static void disk_fault(struct world *w, enum fault_kind kind)
{
    struct sim_disk d = world_disk(w);
    struct world_node *n = any_node(w);
    switch (kind) {
    case FAULT_SLOW_DISK:
        d.slow_ppm = 50000 + (unsigned)pick(w, 200000);
        d.slow_ns = (struct sim_range){20 * MS, 400 * MS};
        break;
    case FAULT_NOSPACE:
        d.capacity = (1 << 20) + pick(w, 4 << 20);
        n->expect_exit = true;
        break;
    case FAULT_READ_ERROR:
        n = damage_target(w); /* what cannot be read while it starts is damage */
        n->damaged = n->expect_exit = true;
        d.read_error_ppm = 20000;
        break;
    case FAULT_WRITE_ERROR:
        n = damage_target(w);
        n->damaged = n->expect_exit = true;
        d.write_error_ppm = 5000;
        break;
    case FAULT_FLIP:
        n = damage_target(w);
        n->damaged = true;
        d.flip_ppm = 3000;
        break;
    default:
        return;
    }
    sim_host_set_disk(n->host, &d);
}

/* The disk is gone; the node comes back empty. */
static void wipe(struct world *w)
{
    struct world_node *n = damage_target(w);
    if (n->paused) {
        return;
    }
    n->damaged = true;
    if (n->up) {
        world_crash_node(w, n, SIM_CRASH_POWER);
    }
    sim_disk_wipe(n->host);
    restart_soon(w, n);
}

/* Without a profile a kind that is off is a turn without a strike. */
static enum fault_kind draw_kind(struct world *w)
{
    if (w->options.profile->faults == 0) {
        enum fault_kind kind = 1u << pick(w, 16);
        return (w->faults & kind) != 0 ? kind : 0;
    }
    unsigned on[FAULT_KINDS] = {0}, n = 0;
    for (unsigned i = 0; i < FAULT_KINDS; i++) {
        if ((w->faults & 1u << i) != 0) {
            on[n++] = 1u << i;
        }
    }
    return n > 0 ? on[pick(w, n)] : 0;
}

static void strike(struct world *w)
{
    enum fault_kind kind = draw_kind(w);
    if (kind == 0) {
        return;
    }
    w->result->faults++;
    struct world_node *n = any_node(w), *other = any_node(w);
    switch (kind) {
    case FAULT_KILL:
        crash(w, n, SIM_CRASH_KILL);
        break;
    case FAULT_POWER:
        crash(w, n, SIM_CRASH_POWER);
        break;
    case FAULT_POWER_ALL:
        for (unsigned i = 0; i < w->n_nodes; i++) {
            crash(w, &w->nodes[i], SIM_CRASH_POWER);
        }
        break;
    case FAULT_PAUSE:
        if (n->up && !n->paused) {
            n->paused = true;
            sim_process_pause(n->host, true);
        }
        break;
    case FAULT_CUT:
        if (n != other) {
            sim_cut(w->sim, n->host, other->host, true);
        }
        break;
    case FAULT_PARTITION:
        partition(w);
        break;
    case FAULT_NET:
        sim_set_net(w->sim, pick(w, 2) == 0 ? &w->calm : &w->rough);
        break;
    case FAULT_CORRUPT_NET: {
        struct sim_net net = w->calm;
        net.corrupt_ppm = 2000;
        sim_set_net(w->sim, &net);
        break;
    }
    case FAULT_RESET:
        if (n != other) {
            sim_reset_connections(w->sim, n->host, other->host);
        }
        break;
    case FAULT_CLOCK:
        clock_fault(w, n);
        break;
    case FAULT_STOP:
        if (n->up && !n->paused && n->node != NULL) {
            restart_soon(w, n);
            sim_call(node_env(n->node), sim_now_ns(w->sim), stop_node, n);
        }
        break;
    case FAULT_WIPE:
        wipe(w);
        break;
    case FAULT_DRAIN:
        if (w->drained == 0) {
            w->drained = n->number;
            workload_drain(w->workload, w->drained, true);
        } else if (pick(w, 4) == 0) {
            workload_drain(w->workload, w->drained, false);
            w->drained = 0;
        }
        break;
    default:
        disk_fault(w, kind);
        break;
    }
}

static void mend_some(struct world *w)
{
    switch (pick(w, 4)) {
    case 0:
        all_links(w, false);
        break;
    case 1:
        sim_set_net(w->sim, &w->calm);
        break;
    case 2: {
        struct sim_disk d = world_disk(w);
        sim_host_set_disk(any_node(w)->host, &d);
        break;
    }
    default: {
        struct world_node *n = any_node(w);
        if (n->paused) {
            n->paused = false;
            sim_process_pause(n->host, false);
        }
        break;
    }
    }
}

static void restart_due(struct world *w, bool all)
{
    for (unsigned i = 0; i < w->n_nodes; i++) {
        struct world_node *n = &w->nodes[i];
        if (!sim_process_up(n->host) && (all || (n->restart_at != 0 && n->restart_at <= sim_now_ns(w->sim)))) {
            world_start_node(w, n);
        }
    }
}

static void tick(void *arg)
{
    struct world *w = arg;
    if (w->healing) {
        restart_due(w, true);
        sim_at(w->sim, sim_now_ns(w->sim) + 200 * MS, tick, w);
        return;
    }
    strike(w);
    strike(w);
    mend_some(w);
    restart_due(w, false);
    const struct world_profile *p = w->options.profile;
    uint64_t ms = p->tick_ms != 0 ? p->tick_ms + pick(w, p->tick_spread_ms + 1) : 20 + pick(w, 400);
    sim_at(w->sim, sim_now_ns(w->sim) + ms * MS, tick, w);
}

void faults_begin(struct world *w, uint64_t until_ns)
{
    (void)until_ns;
    w->rough = (struct sim_net){
        .delay_ns = {100000, 5 * MS + pick(w, 100) * MS},
        .loss_ppm = (unsigned)pick(w, 3000),
        .reorder_ppm = 100000,
        .stall_ppm = 20000,
        .stall_ns = {MS, 300 * MS},
        .split_ppm = 100000,
        .duplicate_connect_ppm = 50000,
    };
    w->faults = w->options.faults;
    if (!w->options.fixed_faults) {
        unsigned first = (unsigned)sim_random(w->sim), second = (unsigned)sim_random(w->sim);
        w->faults &= first | second; /* three of four kinds, on average */
    }
    tick(w);
}

void faults_heal(struct world *w)
{
    w->healing = true;
    for (unsigned i = 0; i < w->n_nodes && (w->faults & FAULT_DRAIN) != 0; i++) {
        workload_drain(w->workload, i + 1, false); /* also those whose order was lost */
    }
    all_links(w, false);
    sim_set_net(w->sim, &w->calm);
    for (unsigned i = 0; i < w->n_nodes; i++) {
        struct world_node *n = &w->nodes[i];
        struct sim_disk d = world_disk(w);
        sim_host_set_disk(n->host, &d);
        sim_host_set_clock(n->host, 0, 0);
        if (n->paused) {
            n->paused = false;
            sim_process_pause(n->host, false);
        }
    }
    restart_due(w, true);
}
