/* Timers of a loop: a heap of deadlines in nanoseconds and one timerfd that ends polling at the first of them.
 *
 * libuv's timers count milliseconds, too coarse for a producer's linger or a group commit. The timerfd is set anew only when
 * the first deadline lies before what it is set to: a timer that is stopped leaves at most one early wake-up behind, and
 * restarting a timer in every turn costs no system call.
 */
#include "storage/env_uv_impl.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#define NOT_IN_HEAP UINT32_MAX

struct uv_timer {
    struct env_timer *t;
    struct env_uv *e;
    uint64_t deadline_ns;
    uint64_t seq;   /* order of starting: breaks ties */
    uint32_t place; /* in the heap, or NOT_IN_HEAP */
};

static bool before(const struct uv_timer *a, const struct uv_timer *b)
{
    return a->deadline_ns != b->deadline_ns ? a->deadline_ns < b->deadline_ns : a->seq < b->seq;
}

static void put(struct env_uv *e, uint32_t place, struct uv_timer *timer)
{
    e->heap[place] = timer;
    timer->place = place;
}

static void sift_up(struct env_uv *e, struct uv_timer *timer)
{
    uint32_t i = timer->place;
    while (i > 0 && before(timer, e->heap[(i - 1) / 2])) {
        put(e, i, e->heap[(i - 1) / 2]);
        i = (i - 1) / 2;
    }
    put(e, i, timer);
}

static void sift_down(struct env_uv *e, struct uv_timer *timer)
{
    uint32_t i = timer->place;
    for (;;) {
        uint32_t child = 2 * i + 1;
        if (child >= e->n_heap) {
            break;
        }
        if (child + 1 < e->n_heap && before(e->heap[child + 1], e->heap[child])) {
            child++;
        }
        if (!before(e->heap[child], timer)) {
            break;
        }
        put(e, i, e->heap[child]);
        i = child;
    }
    put(e, i, timer);
}

static void heap_remove(struct env_uv *e, struct uv_timer *timer)
{
    if (timer->place == NOT_IN_HEAP) {
        return;
    }
    struct uv_timer *last = e->heap[--e->n_heap];
    if (last != timer) {
        put(e, timer->place, last);
        sift_up(e, last);
        sift_down(e, last);
    }
    timer->place = NOT_IN_HEAP;
}

int env_uv_timer_init(struct env *env, struct env_timer *t)
{
    struct env_uv *e = env_uv_of(env);
    struct uv_timer *timer = calloc(1, sizeof *timer);
    if (timer == NULL) {
        return -ENOMEM;
    }
    if (e->n_timers == e->heap_cap) {
        unsigned cap = e->heap_cap == 0 ? 16 : e->heap_cap * 2;
        struct uv_timer **heap = realloc(e->heap, cap * sizeof(struct uv_timer *));
        if (heap == NULL) {
            free(timer);
            return -ENOMEM;
        }
        e->heap = heap;
        e->heap_cap = cap;
    }
    e->n_timers++;
    timer->t = t;
    timer->e = e;
    timer->place = NOT_IN_HEAP;
    t->impl = timer;
    return 0;
}

void env_uv_timer_start(struct env_timer *t, uint64_t after_ns)
{
    struct uv_timer *timer = t->impl;
    struct env_uv *e = timer->e;
    heap_remove(e, timer);
    /* Far beyond any life of a machine, and small enough never to overflow. */
    uint64_t farthest = UINT64_MAX / 4;
    timer->deadline_ns = e->env.now_ns + min_u64(after_ns, farthest);
    timer->seq = ++e->timer_seq;
    timer->place = e->n_heap++;
    sift_up(e, timer);
}

void env_uv_timer_stop(struct env_timer *t)
{
    struct uv_timer *timer = t->impl;
    heap_remove(timer->e, timer);
}

void env_uv_timer_close(struct env_timer *t)
{
    struct uv_timer *timer = t->impl;
    heap_remove(timer->e, timer);
    timer->e->n_timers--;
    free(timer);
}

bool env_uv_timers_due(const struct env_uv *e, uint64_t now_ns)
{
    return e->n_heap > 0 && e->heap[0]->deadline_ns <= now_ns;
}

void env_uv_timers_run(struct env_uv *e)
{
    /* A timer that is started by a callback with no delay waits for the next turn: sockets get their share. Those started
     * now have a higher seq and, with the clock standing still within a turn, no earlier deadline than any due before. */
    uint64_t last_seq = e->timer_seq;
    while (env_uv_timers_due(e, e->env.now_ns) && e->heap[0]->seq <= last_seq) {
        struct uv_timer *timer = e->heap[0];
        heap_remove(e, timer);
        timer->t->cb(timer->t);
    }
}

void env_uv_timers_arm(struct env_uv *e)
{
    uint64_t first = e->n_heap > 0 ? e->heap[0]->deadline_ns : 0;
    bool sleeps_long_enough = e->armed_ns != 0 && (first == 0 || e->armed_ns <= first);
    if (!e->timer_ready && (sleeps_long_enough || (first == 0 && e->armed_ns == 0))) {
        return;
    }
    /* All zero disarms, which also ends its being readable. */
    struct itimerspec spec = {.it_value = {.tv_sec = (time_t)(first / 1000000000u), .tv_nsec = (long)(first % 1000000000u)}};
    sluice_assert(timerfd_settime(e->timer_fd, TFD_TIMER_ABSTIME, &spec, NULL) == 0);
    e->armed_ns = first;
    e->timer_ready = false;
}

static void timer_fd_readable(uv_poll_t *poll, int status, int events)
{
    (void)status;
    (void)events;
    struct env_uv *e = container_of(poll, struct env_uv, timer_poll);
    e->timer_ready = true;
    e->armed_ns = 0;
    env_uv_touch(e, false);
}

int env_uv_timers_open(struct env_uv *e)
{
    e->timer_fd = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
    if (e->timer_fd < 0) {
        return -errno;
    }
    int rc = uv_poll_init(&e->loop, &e->timer_poll, e->timer_fd);
    if (rc == 0) {
        rc = uv_poll_start(&e->timer_poll, UV_READABLE, timer_fd_readable);
    }
    return rc;
}

void env_uv_timers_close(struct env_uv *e)
{
    if (e->timer_fd >= 0) {
        close(e->timer_fd);
    }
    /* Open timers that are not armed are beyond reach here; their owners close them or the process ends. */
    for (unsigned i = 0; i < e->n_heap; i++) {
        free(e->heap[i]);
    }
    free(e->heap);
}
