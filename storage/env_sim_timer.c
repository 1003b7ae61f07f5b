/* Timers of the simulator.
 *
 * An event in the heap is never taken out. A timer that moves to a later time leaves its event where it is, and the event, when
 * it comes, moves on; one that moves to an earlier time gets a new event, and the old one is known by its generation. Deadlines
 * are in the host's own time, so that a clock that drifts drifts for timers too. */
#include "env_sim_impl.h"

static void timer_push(struct sim_timer *t)
{
    struct sim *s = t->loop->sim;
    uint64_t now = sim_host_clock(t->loop->proc->host);
    uint64_t wait = t->deadline > now ? sim_host_true_ns(t->loop->proc->host, t->deadline - now) : 0;
    t->queued = s->now + wait;
    t->has_event = true;
    t->events++;
    sim_event_push(s, t->queued, SIM_EV_TIMER, t->loop, t, t->generation);
}

static void timer_event_gone(struct sim *s, struct sim_timer *t)
{
    t->events--;
    if (t->user == NULL && t->events == 0) {
        sim_pool_put(&s->timer_pool, t);
    }
}

bool sim_timer_due(struct sim *s, struct sim_event *ev)
{
    struct sim_timer *t = ev->a;
    if ((uint32_t)ev->u == t->generation && t->armed) {
        if (sim_host_clock(t->loop->proc->host) >= t->deadline) {
            return true;
        }
        timer_push(t);
    } else if ((uint32_t)ev->u == t->generation) {
        t->has_event = false;
    }
    timer_event_gone(s, t);
    return false;
}

void sim_timer_run(struct sim *s, struct sim_event *ev, bool live)
{
    struct sim_timer *t = ev->a;
    if (live) {
        struct env_timer *user = t->user;
        t->armed = false;
        t->has_event = false;
        t->events--;
        user->cb(user); /* may close and free the timer */
    } else {
        timer_event_gone(s, t);
    }
}

int sim_timer_init(struct env *e, struct env_timer *user)
{
    struct sim_loop *l = sim_loop_of(e);
    struct sim_timer *t = sim_pool_get(&l->sim->timer_pool);
    t->user = user;
    t->loop = l;
    user->impl = t;
    return 0;
}

void sim_timer_start(struct env_timer *user, uint64_t after_ns)
{
    struct sim_loop *l = sim_loop_of(user->env);
    struct sim_timer *t = user->impl;
    /* Counted from the start of the turn, as in libuv; the same in virtual time. */
    uint64_t now = sim_host_clock(l->proc->host);
    t->deadline = after_ns < UINT64_MAX / 2 - now ? now + after_ns : UINT64_MAX / 2;
    t->armed = true;
    uint64_t due = l->sim->now + sim_host_true_ns(l->proc->host, t->deadline - now);
    if (!t->has_event) {
        timer_push(t);
    } else if (due < t->queued) {
        t->generation++;
        timer_push(t);
    }
}

void sim_timer_stop(struct env_timer *user)
{
    struct sim_timer *t = user->impl;
    if (t != NULL) {
        t->armed = false;
    }
}

void sim_timer_close(struct env_timer *user)
{
    struct sim_loop *l = sim_loop_of(user->env);
    struct sim_timer *t = user->impl;
    t->armed = false;
    t->user = NULL;
    if (t->events == 0) {
        sim_pool_put(&l->sim->timer_pool, t);
    }
}
