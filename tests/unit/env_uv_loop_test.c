/* The loop of env_uv: timers, deferred tasks, messages between lanes, signals, the log and the planned end. */
#include "env_uv_fixture.h"

#include <pthread.h>
#include <signal.h>
#include <sys/resource.h>
#include <time.h>

/* ---- timers ------------------------------------------------------------------------------------------------------- */

struct trace {
    struct env *env;
    int order[64];
    unsigned n;
};

struct traced_timer {
    struct env_timer t;
    struct trace *trace;
    int id;
    uint64_t fired_ns;
};

static void traced_fired(struct env_timer *t)
{
    struct traced_timer *tt = container_of(t, struct traced_timer, t);
    tt->fired_ns = env_now_ns(t->env);
    tt->trace->order[tt->trace->n++] = tt->id;
}

static void stop_fired(struct env_timer *t)
{
    env_stop(t->env);
}

/* Timers fire by deadline, equal ones in the order of starting, never early, and neither stopped nor closed ones. */
static void test_timers_fire_in_order(void **state)
{
    (void)state;
    struct env *env = open_loop();
    struct trace trace = {.env = env};
    static const uint64_t after_us[] = {9000, 3000, 3000, 700, 3000, 20000, 1, 5000, 5000};
    struct traced_timer timers[ARRAY_LEN(after_us)];
    uint64_t start_ns = env_now_ns(env);
    for (unsigned i = 0; i < ARRAY_LEN(after_us); i++) {
        timers[i].trace = &trace;
        timers[i].id = (int)i;
        assert_int_equal(env_timer_init(env, &timers[i].t, traced_fired), 0);
        env_timer_start_ns(&timers[i].t, after_us[i] * 1000);
    }
    env_timer_stop(&timers[7].t);
    env_timer_close(&timers[8].t);
    env_timer_close(&timers[8].t); /* idempotent */
    env_timer_start_ns(&timers[1].t, 4000000); /* moved behind 2 and 4 */
    struct env_timer end;
    assert_int_equal(env_timer_init(env, &end, stop_fired), 0);
    env_timer_start_ms(&end, 30);
    run_loop(env);
    static const int expected[] = {6, 3, 2, 4, 1, 0, 5};
    assert_int_equal(trace.n, ARRAY_LEN(expected));
    for (unsigned i = 0; i < ARRAY_LEN(expected); i++) {
        assert_int_equal(trace.order[i], expected[i]);
        struct traced_timer *tt = &timers[expected[i]];
        uint64_t after_ns = expected[i] == 1 ? 4000000 : after_us[expected[i]] * 1000;
        assert_true(tt->fired_ns >= start_ns + after_ns);
    }
    for (unsigned i = 0; i < ARRAY_LEN(after_us); i++) {
        env_timer_close(&timers[i].t);
    }
    env_timer_close(&end);
    env_uv_close(env);
}

struct heap_timer {
    struct env_timer t;
    uint64_t deadline_ns;
    uint64_t *last_ns;
    unsigned *fired;
    bool done;
};

static void heap_fired(struct env_timer *t)
{
    struct heap_timer *h = container_of(t, struct heap_timer, t);
    assert_false(h->done);
    assert_true(h->deadline_ns >= *h->last_ns);
    assert_true(env_now_ns(t->env) >= h->deadline_ns);
    *h->last_ns = h->deadline_ns;
    (*h->fired)++;
    h->done = true;
    env_timer_close(t); /* from its own callback */
}

/* A thousand timers, a third of them stopped and a third moved at random: the rest fire in the order of their deadlines. */
static void test_many_timers(void **state)
{
    (void)state;
    struct env *env = open_loop();
    enum { N = 1000 };
    struct heap_timer *timers = calloc(N, sizeof *timers);
    uint64_t last_ns = 0;
    unsigned fired = 0, stopped = 0;
    unsigned seed = 7;
    for (unsigned round = 0; round < 2; round++) {
        for (unsigned i = 0; i < N; i++) {
            if (round == 0) {
                timers[i].last_ns = &last_ns;
                timers[i].fired = &fired;
                assert_int_equal(env_timer_init(env, &timers[i].t, heap_fired), 0);
            } else if (i % 3 == 0) {
                env_timer_stop(&timers[i].t);
                stopped++;
                continue;
            } else if (i % 3 == 1) {
                continue;
            }
            uint64_t after_ns = (uint64_t)(rand_r(&seed) % 30000) * 1000;
            timers[i].deadline_ns = env_now_ns(env) + after_ns;
            env_timer_start_ns(&timers[i].t, after_ns);
        }
    }
    struct env_timer end;
    assert_int_equal(env_timer_init(env, &end, stop_fired), 0);
    env_timer_start_ms(&end, 40);
    run_loop(env);
    assert_int_equal(fired, N - stopped);
    for (unsigned i = 0; i < N; i++) {
        env_timer_close(&timers[i].t);
    }
    env_timer_close(&end);
    free(timers);
    env_uv_close(env);
}

struct again {
    struct env_timer t;
    unsigned left;
    uint64_t now_ns;
};

static void again_fired(struct env_timer *t)
{
    struct again *a = container_of(t, struct again, t);
    /* Restarted without delay it runs in a later turn, so that sockets get theirs: the clock has been read anew. */
    assert_true(env_now_ns(t->env) > a->now_ns);
    a->now_ns = env_now_ns(t->env);
    assert_true(env_clock_ns(t->env) >= a->now_ns);
    assert_int_equal(env_now_ns(t->env), a->now_ns); /* stands still within a turn */
    if (--a->left == 0) {
        env_stop(t->env);
    } else {
        env_timer_start_ns(t, 0);
    }
}

static void test_timer_restarted_without_delay(void **state)
{
    (void)state;
    struct env *env = open_loop();
    struct again a = {.left = 100};
    assert_int_equal(env_timer_init(env, &a.t, again_fired), 0);
    env_timer_start_ns(&a.t, 0);
    run_loop(env);
    assert_int_equal(a.left, 0);
    env_timer_close(&a.t);
    env_uv_close(env);
}

/* Short timers are not rounded up to milliseconds. */
static void test_timer_resolution(void **state)
{
    (void)state;
    struct env *env = open_loop();
    uint64_t best_ns = UINT64_MAX;
    for (unsigned i = 0; i < 20; i++) {
        struct env_timer t;
        assert_int_equal(env_timer_init(env, &t, stop_fired), 0);
        uint64_t start_ns = env_clock_ns(env);
        env_timer_start_ns(&t, 200000 + (env_clock_ns(env) - env_now_ns(env)));
        run_loop(env);
        best_ns = min_u64(best_ns, env_clock_ns(env) - start_ns);
        env_timer_close(&t);
    }
    assert_true(best_ns >= 200000);
    assert_true(best_ns < 900000);
    env_uv_close(env);
}

/* ---- deferred tasks -------------------------------------------------------------------------------------------------- */

struct traced_task {
    struct env_task task;
    struct trace *trace;
    int id;
    struct traced_task *then;
};

static void traced_ran(struct env_task *task)
{
    struct traced_task *t = container_of(task, struct traced_task, task);
    assert_false(task->queued);
    t->trace->order[t->trace->n++] = t->id;
    if (t->then != NULL) {
        env_defer(t->trace->env, &t->then->task, traced_ran);
    }
}

struct defer_timer {
    struct env_timer t;
    struct trace *trace;
    struct traced_task *tasks;
};

static void defer_fired(struct env_timer *t)
{
    struct defer_timer *d = container_of(t, struct defer_timer, t);
    struct env *env = t->env;
    d->trace->order[d->trace->n++] = 100;
    env_defer(env, &d->tasks[0].task, traced_ran);
    env_defer(env, &d->tasks[1].task, traced_ran);
    env_defer(env, &d->tasks[0].task, traced_ran); /* queued already: no effect */
    d->trace->order[d->trace->n++] = 101;
}

static void second_fired(struct env_timer *t)
{
    struct defer_timer *d = container_of(t, struct defer_timer, t);
    d->trace->order[d->trace->n++] = 102;
}

/* Tasks run after all callbacks of the turn, in order, those deferred by tasks in the same pass, each once. */
static void test_defer_order(void **state)
{
    (void)state;
    struct env *env = open_loop();
    struct trace trace = {.env = env};
    struct traced_task tasks[3] = {{.trace = &trace, .id = 0}, {.trace = &trace, .id = 1}, {.trace = &trace, .id = 2}};
    tasks[0].then = &tasks[2];
    struct defer_timer first = {.trace = &trace, .tasks = tasks}, second = {.trace = &trace};
    assert_int_equal(env_timer_init(env, &first.t, defer_fired), 0);
    assert_int_equal(env_timer_init(env, &second.t, second_fired), 0);
    struct env_timer end;
    assert_int_equal(env_timer_init(env, &end, stop_fired), 0);
    env_timer_start_ms(&first.t, 1); /* both due in the same turn */
    env_timer_start_ms(&second.t, 1);
    env_timer_start_ms(&end, 10);
    run_loop(env);
    static const int expected[] = {100, 101, 102, 0, 1, 2};
    assert_int_equal(trace.n, ARRAY_LEN(expected));
    for (unsigned i = 0; i < ARRAY_LEN(expected); i++) {
        assert_int_equal(trace.order[i], expected[i]);
    }
    env_timer_close(&first.t);
    env_timer_close(&second.t);
    env_timer_close(&end);
    env_uv_close(env);
}

static void task_stops(struct env_task *task)
{
    (void)task;
}

struct stop_task {
    struct env_task task;
    struct env *env;
};

static void stop_task_ran(struct env_task *task)
{
    env_stop(container_of(task, struct stop_task, task)->env);
}

/* A task deferred before the loop runs does not wait for an event. */
static void test_defer_before_run(void **state)
{
    (void)state;
    struct env *env = open_loop();
    struct stop_task t = {.env = env};
    struct env_task other = {0};
    env_defer(env, &t.task, stop_task_ran);
    env_defer(env, &other, task_stops);
    run_loop(env);
    assert_false(other.queued); /* the turn is finished also after a stop */
    env_uv_close(env);
}

/* ---- lanes and messages ---------------------------------------------------------------------------------------------- */

struct flood_msg {
    struct env_msg m;
    struct flood *flood;
    unsigned lane;
    unsigned number;
};

struct flood_lane {
    struct flood *flood;
    struct env *env;
    struct env_msg stop;
    unsigned index;
};

enum { FLOOD_LANES = 2, FLOOD_MSGS = 20000 };

struct flood {
    struct env *env;
    pthread_t main_thread;
    struct flood_lane lanes[FLOOD_LANES];
    unsigned next[FLOOD_LANES];
    unsigned n;
};

static void flood_arrived(struct env_msg *m)
{
    struct flood_msg *fm = container_of(m, struct flood_msg, m);
    struct flood *f = fm->flood;
    assert_true(pthread_equal(pthread_self(), f->main_thread));
    assert_int_equal(fm->number, f->next[fm->lane]);
    f->next[fm->lane]++;
    free(fm);
    if (++f->n == FLOOD_LANES * FLOOD_MSGS) {
        env_stop(f->env);
    }
}

static void flood_lane_main(struct env *env, void *arg)
{
    struct flood_lane *lane = arg;
    assert_ptr_equal(env, lane->env);
    assert_true(env_now_ns(env) > 0);
    for (unsigned i = 0; i < FLOOD_MSGS; i++) {
        struct flood_msg *m = malloc(sizeof *m);
        *m = (struct flood_msg){.flood = lane->flood, .lane = lane->index, .number = i};
        env_post(lane->flood->env, &m->m, flood_arrived);
    }
}

static void lane_stopped(struct env_msg *m)
{
    env_stop(container_of(m, struct flood_lane, stop)->env);
}

/* Two lanes post at full speed: nothing lost, first in first out per lane, delivered on the receiver's thread. */
static void test_post_from_lanes(void **state)
{
    (void)state;
    struct flood f = {.env = open_loop(), .main_thread = pthread_self()};
    for (unsigned i = 0; i < FLOOD_LANES; i++) {
        f.lanes[i] = (struct flood_lane){.flood = &f, .index = i};
        assert_int_equal(env_lane_start(f.env, "flood", flood_lane_main, &f.lanes[i], &f.lanes[i].env), 0);
        assert_int_equal(f.lanes[i].env->lane, i + 1);
    }
    run_loop(f.env);
    for (unsigned i = 0; i < FLOOD_LANES; i++) {
        assert_int_equal(f.next[i], FLOOD_MSGS);
        env_post(f.lanes[i].env, &f.lanes[i].stop, lane_stopped);
        env_lane_join(f.lanes[i].env);
    }
    env_uv_close(f.env);
}

struct ping {
    struct env_msg m;
    struct env *main, *lane;
    unsigned left;
};

static void pong(struct env_msg *m);

static void ping(struct env_msg *m)
{
    struct ping *p = container_of(m, struct ping, m);
    env_post(p->main, m, pong);
}

static void ping_last(struct env_msg *m)
{
    env_stop(container_of(m, struct ping, m)->lane);
}

static void pong(struct env_msg *m)
{
    struct ping *p = container_of(m, struct ping, m);
    if (--p->left == 0) {
        env_stop(p->main);
    } else {
        env_post(p->lane, m, ping);
    }
}

static void quiet_main(struct env *env, void *arg)
{
    (void)env;
    (void)arg;
}

/* A message to and fro wakes sleeping loops each time; with spinning set the loops still end and still sleep when idle. */
static void test_ping_pong(void **state)
{
    (void)state;
    for (unsigned spin_us = 0; spin_us <= 50; spin_us += 50) {
        struct env *env = open_loop();
        env_uv_set_spin(env, spin_us);
        struct ping p = {.main = env, .left = 2000};
        assert_int_equal(env_lane_start(env, "ping", quiet_main, NULL, &p.lane), 0);
        env_post(p.lane, &p.m, ping);
        run_loop(env);
        env_post(p.lane, &p.m, ping_last);
        env_lane_join(p.lane);
        env_uv_close(env);
    }
}

/* A loop without events sleeps, also with spinning on: it uses next to no CPU. */
static void test_idle_loop_sleeps(void **state)
{
    (void)state;
    struct env *env = open_loop();
    env_uv_set_spin(env, 1000000);
    struct env_timer end;
    assert_int_equal(env_timer_init(env, &end, stop_fired), 0);
    env_timer_start_ms(&end, 200);
    struct timespec before, after;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &before);
    run_loop(env);
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &after);
    int64_t used_ns = (after.tv_sec - before.tv_sec) * 1000000000ll + (after.tv_nsec - before.tv_nsec);
    assert_true(used_ns < 50000000);
    env_timer_close(&end);
    env_uv_close(env);
}

/* ---- signals, randomness, log, end ----------------------------------------------------------------------------------- */

struct caught {
    struct env_signal s;
    struct env *env;
    unsigned n;
};

static void signal_arrived(struct env_signal *s)
{
    struct caught *c = container_of(s, struct caught, s);
    c->n++;
    env_stop(c->env);
}

static void test_signal(void **state)
{
    (void)state;
    struct env *env = open_loop();
    struct caught c = {.env = env};
    assert_int_equal(env_signal_start(env, &c.s, SIGUSR1, signal_arrived), 0);
    raise(SIGUSR1);
    run_loop(env);
    assert_int_equal(c.n, 1);
    env_signal_stop(env, &c.s);
    env_signal_stop(env, &c.s); /* idempotent */
    struct caught abandoned = {.env = env};
    assert_int_equal(env_signal_start(env, &abandoned.s, SIGUSR2, signal_arrived), 0);
    assert_true(env_signal_start(env, &abandoned.s, 4711, signal_arrived) < 0);
    env_uv_close(env);
    signal(SIGUSR1, SIG_DFL);
}

static void test_clock_and_random(void **state)
{
    (void)state;
    struct env *env = open_loop();
    assert_true(env_now_ns(env) > 0);
    assert_true(env_clock_ns(env) >= env_now_ns(env));
    assert_true(env_wall_ms(env) / 1000 >= (uint64_t)time(NULL) - 2);
    uint64_t a = env_random_u64(env), b = env_random_u64(env);
    assert_true(a != b);
    unsigned char bytes[64] = {0};
    env_random(env, bytes, sizeof bytes);
    unsigned zero = 0;
    for (unsigned i = 0; i < sizeof bytes; i++) {
        zero += bytes[i] == 0;
    }
    assert_true(zero < 8);
    assert_true(env_random_below(env, 10) < 10);
    env_uv_close(env);
}

/* The planned end: the reason on stderr after what was logged, the exit code as asked. */
static void test_log_and_fatal(void **state)
{
    (void)state;
    int fds[2];
    assert_int_equal(pipe(fds), 0);
    pid_t pid = fork();
    if (pid == 0) {
        dup2(fds[1], STDERR_FILENO);
        struct env *env = open_loop();
        env_log_line(env, "hello", 5);
        env_log_line(env, "world\n", 6);
        env_fatal(env, ENV_EXIT_DISK, "the disk is gone");
        _exit(0);
    }
    close(fds[1]);
    char text[256] = {0};
    size_t n = 0;
    ssize_t r;
    while (n < sizeof text - 1 && (r = read(fds[0], text + n, sizeof text - 1 - n)) > 0) {
        n += (size_t)r;
    }
    close(fds[0]);
    int status;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), ENV_EXIT_DISK);
    assert_string_equal(text, "hello\nworld\nfatal (exit code 10): the disk is gone\n");
}

/* A peer that is gone is an error of a write, never the end of the process. */
static void test_sigpipe_ignored(void **state)
{
    (void)state;
    struct env *env = open_loop();
    int fds[2];
    assert_int_equal(pipe(fds), 0);
    close(fds[0]);
    assert_int_equal(write(fds[1], "x", 1), -1);
    assert_int_equal(errno, EPIPE);
    close(fds[1]);
    env_uv_close(env);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_timers_fire_in_order),
        cmocka_unit_test(test_many_timers),
        cmocka_unit_test(test_timer_restarted_without_delay),
        cmocka_unit_test(test_timer_resolution),
        cmocka_unit_test(test_defer_order),
        cmocka_unit_test(test_defer_before_run),
        cmocka_unit_test(test_post_from_lanes),
        cmocka_unit_test(test_ping_pong),
        cmocka_unit_test(test_idle_loop_sleeps),
        cmocka_unit_test(test_signal),
        cmocka_unit_test(test_clock_and_random),
        cmocka_unit_test(test_log_and_fatal),
        cmocka_unit_test(test_sigpipe_ignored),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
