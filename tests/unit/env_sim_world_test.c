/* Virtual time, loops and processes of the simulator: one seed, one run; timers, tasks, messages, lanes, pauses, clocks, exits. */
#include "env_sim_fixture.h"

/* ---- determinism --------------------------------------------------------------------------------------------------- */

/* A process whose timers fire at random times, post to a lane, and write to a file. */
struct busy {
    struct env *env, *lane;
    struct env_timer timer;
    struct env_msg msg;
    struct env_file *file;
    struct env_io io;
    struct iovec iov;
    uint64_t value;
    bool io_busy;
    unsigned fired;
};

static void busy_msg(struct env_msg *m) { (void)m; }
static void lane_idle(struct env *env, void *arg) { (void)env; (void)arg; }
static void busy_written(struct env_io *io) { container_of(io, struct busy, io)->io_busy = false; }

static void busy_tick(struct env_timer *t)
{
    struct busy *b = container_of(t, struct busy, timer);
    b->fired++;
    b->value = env_random_u64(b->env);
    env_post(b->lane, &b->msg, busy_msg);
    if (!b->io_busy) {
        b->io_busy = true;
        b->iov = (struct iovec){ &b->value, sizeof b->value };
        b->io = (struct env_io){ .file = b->file, .op = ENV_IO_WRITE_SYNC, .iov = &b->iov, .n_iov = 1, .pos = b->value % 65536 };
        env_io_submit(b->env, ENV_QUEUE_SYNC, &b->io, busy_written);
    }
    env_timer_start_ns(t, env_random_below(b->env, 5 * MS));
}

static void busy_main(struct env *env, void *arg)
{
    struct busy *b = arg;
    b->env = env;
    assert_int_equal(env_lane_start(env, "lane", lane_idle, NULL, &b->lane), 0);
    assert_int_equal(env_file_open(env, "/f", ENV_OPEN_READ | ENV_OPEN_WRITE | ENV_OPEN_CREATE, &b->file), 0);
    env_timer_init(env, &b->timer, busy_tick);
    env_timer_start_ns(&b->timer, MS);
}

static uint64_t busy_hash(uint64_t seed, uint64_t *events)
{
    struct sim_options o = world_options(seed);
    struct sim *s = sim_open(&o);
    struct busy *b[3];
    for (unsigned i = 0; i < 3; i++) {
        char name[8];
        snprintf(name, sizeof name, "n%u", i);
        b[i] = calloc(1, sizeof **b);
        assert_int_equal(sim_process_start(sim_host_add(s, name), busy_main, b[i]), 0);
    }
    sim_run_until(s, SEC);
    *events = sim_events(s);
    uint64_t hash = sim_trace_hash(s);
    sim_close(s);
    for (unsigned i = 0; i < 3; i++) {
        assert_true(b[i]->fired > 300);
        free(b[i]);
    }
    return hash;
}

static void same_seed_same_trace(void **state)
{
    (void)state;
    uint64_t e1, e2, e3;
    uint64_t a = busy_hash(1, &e1);
    assert_int_equal(a, busy_hash(1, &e2));
    assert_int_equal(e1, e2);
    assert_int_not_equal(a, busy_hash(2, &e3));
    assert_true(e1 > 2000);
}

/* ---- timers -------------------------------------------------------------------------------------------------------- */

struct clockwork {
    struct env *env;
    struct env_timer t[4];
    uint64_t fired_at[4];
    unsigned fires[4];
};

static void note(struct env_timer *t)
{
    struct clockwork *c = NULL;
    for (unsigned i = 0; i < 4; i++) {
        struct clockwork *maybe = container_of(t, struct clockwork, t[i]);
        if (t->env->user == maybe) {
            c = maybe;
            c->fires[i]++;
            c->fired_at[i] = env_now_ns(t->env);
        }
    }
    assert_non_null(c);
}

static void clockwork_main(struct env *env, void *arg)
{
    struct clockwork *c = arg;
    c->env = env;
    env->user = c;
    for (unsigned i = 0; i < 4; i++) {
        env_timer_init(env, &c->t[i], note);
    }
    assert_true(env_now_ns(env) > 0);
}

static void timers_fire_once_at_their_time(void **state)
{
    (void)state;
    struct sim_options o = world_options(1);
    struct sim *s = sim_open(&o);
    struct clockwork c = { 0 };
    sim_process_start(sim_host_add(s, "n1"), clockwork_main, &c);
    uint64_t start = env_now_ns(c.env);
    env_timer_start_ms(&c.t[0], 10);
    env_timer_start_ms(&c.t[1], 10); /* stopped */
    env_timer_stop(&c.t[1]);
    env_timer_start_ms(&c.t[2], 10); /* moved to later */
    env_timer_start_ms(&c.t[2], 30);
    env_timer_start_ms(&c.t[3], 50); /* moved to earlier */
    env_timer_start_ms(&c.t[3], 5);
    run_ms(s, 20);
    assert_int_equal(c.fires[0], 1);
    assert_int_equal(c.fires[2], 0);
    assert_int_equal(c.fired_at[3], start + 5 * MS);
    /* Stopped and started again while its old event is still on its way. */
    env_timer_start_ms(&c.t[1], 40);
    env_timer_stop(&c.t[1]);
    env_timer_start_ms(&c.t[1], 20);
    run_ms(s, 200);
    assert_int_equal(c.fired_at[0], start + 10 * MS);
    assert_int_equal(c.fired_at[2], start + 30 * MS);
    assert_int_equal(c.fired_at[1], start + 40 * MS);
    for (unsigned i = 0; i < 4; i++) {
        assert_int_equal(c.fires[i], 1);
        env_timer_start_ms(&c.t[i], 1);
        env_timer_close(&c.t[i]);
        env_timer_close(&c.t[i]);
    }
    run_ms(s, 100);
    for (unsigned i = 0; i < 4; i++) {
        assert_int_equal(c.fires[i], 1);
    }
    sim_close(s);
}

static void clocks_drift_and_differ(void **state)
{
    (void)state;
    struct sim_options o = world_options(1);
    struct sim *s = sim_open(&o);
    struct clockwork fast = { 0 }, slow = { 0 };
    struct sim_host *hosts[2] = { sim_host_add(s, "fast"), sim_host_add(s, "slow") };
    sim_host_set_clock(hosts[0], 3600000, 50000);
    sim_host_set_clock(hosts[1], 0, -50000);
    sim_process_start(hosts[0], clockwork_main, &fast);
    sim_process_start(hosts[1], clockwork_main, &slow);
    uint64_t fast_start = env_now_ns(fast.env), slow_start = env_now_ns(slow.env);
    assert_int_not_equal(fast_start, slow_start);
    assert_in_range(env_wall_ms(fast.env) - env_wall_ms(slow.env), 3600000, 3600000);
    env_timer_start_ms(&fast.t[0], 1000);
    env_timer_start_ms(&slow.t[0], 1000);
    sim_run_until(s, 940 * (uint64_t)MS);
    assert_int_equal(fast.fires[0], 0);
    sim_run_until(s, 960 * (uint64_t)MS); /* 1000 / 1.05 = 952 */
    assert_int_equal(fast.fires[0], 1);
    sim_run_until(s, 1050 * (uint64_t)MS);
    assert_int_equal(slow.fires[0], 0);
    sim_run_until(s, 1060 * (uint64_t)MS); /* 1000 / 0.95 = 1053 */
    assert_int_equal(slow.fires[0], 1);
    assert_in_range(fast.fired_at[0], fast_start + SEC, fast_start + SEC + 10);
    assert_in_range(slow.fired_at[0], slow_start + SEC, slow_start + SEC + 10);
    uint64_t before = env_clock_ns(fast.env);
    sim_host_set_clock(hosts[0], -3600000, 0); /* the wall clock jumps back, the other does not */
    assert_in_range(env_clock_ns(fast.env), before, before);
    assert_true(env_wall_ms(fast.env) < env_wall_ms(slow.env));
    sim_close(s);
}

/* ---- turns, messages, lanes ---------------------------------------------------------------------------------------- */

struct turns;
struct numbered {
    struct env_msg msg;
    struct turns *turns;
    unsigned number;
};

struct turns {
    struct env *env, *lane;
    char log[64];
    struct env_task a, b;
    struct numbered msgs[20];
    unsigned next_msg;
    struct env_msg stop;
    bool lane_ran, in_order;
};

static void task_b(struct env_task *t) { strcat(container_of(t, struct turns, b)->log, "b"); }

static void task_a(struct env_task *t)
{
    struct turns *w = container_of(t, struct turns, a);
    strcat(w->log, "a");
    env_defer(w->env, &w->b, task_b);
    strcat(w->log, "-");
}

static void turn_of_tasks(void *arg)
{
    struct turns *w = arg;
    env_defer(w->env, &w->a, task_a);
    env_defer(w->env, &w->a, task_a);
    strcat(w->log, "turn ");
}

static void lane_msg(struct env_msg *m)
{
    struct numbered *n = container_of(m, struct numbered, msg);
    struct turns *w = n->turns;
    w->in_order = w->in_order && n->number == w->next_msg && w->lane_ran;
    w->next_msg++;
}

static void lane_stop(struct env_msg *m) { env_stop(container_of(m, struct turns, stop)->lane); }

static void lane_main(struct env *env, void *arg)
{
    struct turns *w = arg;
    w->lane_ran = true;
    assert_int_equal(env->lane, 1);
}

static void start_lane(void *arg)
{
    struct turns *w = arg;
    assert_int_equal(env_lane_start(w->env, "one", lane_main, w, &w->lane), 0);
    assert_false(w->lane_ran);
    for (unsigned i = 0; i < 20; i++) {
        w->msgs[i].turns = w;
        w->msgs[i].number = i;
        env_post(w->lane, &w->msgs[i].msg, lane_msg);
    }
}

static void stop_lane(void *arg)
{
    struct turns *w = arg;
    env_post(w->lane, &w->stop, lane_stop);
    env_lane_join(w->lane); /* returns once the lane has handled the message */
    strcat(w->log, "joined");
    env_stop(w->env);
}

static void on_exit_turns(void *arg, struct sim_host *h, int code, const char *why)
{
    (void)why;
    assert_false(sim_process_up(h));
    *(int *)arg = code;
}

static void tasks_messages_and_lanes(void **state)
{
    (void)state;
    int exit_code = -1;
    struct sim_options o = world_options(7);
    o.exited = on_exit_turns;
    o.arg = &exit_code;
    struct sim *s = sim_open(&o);
    struct turns w = { .in_order = true };
    struct sim_host *h = sim_host_add(s, "n1");
    sim_process_start(h, keep_env, &w.env);
    sim_call(w.env, MS, turn_of_tasks, &w);
    sim_run_until(s, MS);
    assert_string_equal(w.log, "turn a-b");
    sim_call(w.env, 2 * MS, start_lane, &w);
    sim_run_until(s, 3 * MS);
    assert_int_equal(w.next_msg, 20);
    assert_true(w.in_order);
    /* A driver that calls from outside: the tasks still run, in a turn of their own. */
    w.log[0] = '\0';
    env_defer(w.env, &w.a, task_a);
    assert_string_equal(w.log, "");
    sim_run_until(s, 4 * MS);
    assert_string_equal(w.log, "a-b");
    assert_int_equal(exit_code, -1);
    sim_call(w.env, 5 * MS, stop_lane, &w);
    sim_run_until(s, 6 * MS);
    assert_string_equal(w.log, "a-bjoined");
    assert_int_equal(exit_code, 0);
    assert_false(sim_process_up(h));
    sim_close(s);
}

/* ---- pause, crash, fatal, signals ---------------------------------------------------------------------------------- */

static void a_pause_holds_everything_back(void **state)
{
    (void)state;
    struct sim_options o = world_options(3);
    struct sim *s = sim_open(&o);
    struct sim_host *h = sim_host_add(s, "n1");
    struct clockwork c = { 0 };
    sim_process_start(h, clockwork_main, &c);
    env_timer_start_ms(&c.t[0], 10);
    env_timer_start_ms(&c.t[1], 200);
    sim_process_pause(h, true);
    run_ms(s, 100);
    assert_int_equal(c.fires[0], 0);
    uint64_t before = env_clock_ns(c.env);
    sim_process_pause(h, false);
    run_ms(s, 1);
    assert_int_equal(c.fires[0], 1);
    assert_int_equal(c.fired_at[0], before); /* late, and the clock tells the truth */
    run_ms(s, 150);
    assert_int_equal(c.fires[1], 1);
    sim_process_pause(h, true);
    env_timer_start_ms(&c.t[2], 1);
    run_ms(s, 10);
    sim_process_crash(h, SIM_CRASH_KILL); /* what was held back is dropped */
    run_ms(s, 10);
    assert_int_equal(c.fires[2], 0);
    assert_false(sim_process_up(h));
    sim_close(s);
}

struct refusal {
    struct env *env;
    struct env_file *file;
    struct env_task task;
    bool task_ran;
    int exit_code;
    char why[32];
    unsigned exits;
    struct env_signal sig;
    unsigned signals;
};

static void refusal_task(struct env_task *t) { container_of(t, struct refusal, task)->task_ran = true; }

static void refuse(void *arg)
{
    struct refusal *r = arg;
    env_defer(r->env, &r->task, refusal_task);
    assert_int_equal(env_file_pwrite(r->env, r->file, "before", 6, 0), 0);
    env_fatal(r->env, ENV_EXIT_DISK, "disk");
    env_fatal(r->env, ENV_EXIT_DAMAGE, "second");
    assert_int_equal(env_file_pwrite(r->env, r->file, "after!", 6, 0), -EIO); /* nothing reaches the world any more */
    assert_int_equal(r->exits, 0);
}

static void refusal_exited(void *arg, struct sim_host *h, int code, const char *why)
{
    struct refusal *r = arg;
    assert_false(sim_process_up(h));
    r->exits++;
    r->exit_code = code;
    snprintf(r->why, sizeof r->why, "%s", why);
}

static void on_signal(struct env_signal *sig) { container_of(sig, struct refusal, sig)->signals++; }

static void refusal_main(struct env *env, void *arg)
{
    struct refusal *r = arg;
    r->env = env;
    assert_int_equal(env_file_open(env, "/f", ENV_OPEN_WRITE | ENV_OPEN_CREATE, &r->file), 0);
    assert_int_equal(env_signal_start(env, &r->sig, 15, on_signal), 0);
}

static void fatal_ends_the_process_after_the_turn(void **state)
{
    (void)state;
    struct refusal r = { 0 };
    struct sim_options o = world_options(3);
    o.exited = refusal_exited;
    o.arg = &r;
    struct sim *s = sim_open(&o);
    struct sim_host *h = sim_host_add(s, "n1");
    sim_process_start(h, refusal_main, &r);
    assert_int_equal(sim_process_start(h, refusal_main, &r), -EBUSY);
    sim_process_signal(h, 15);
    sim_process_signal(h, 10);
    run_ms(s, 1);
    assert_int_equal(r.signals, 1);
    sim_call(r.env, sim_now_ns(s), refuse, &r);
    run_ms(s, 1);
    assert_int_equal(r.exits, 1);
    assert_int_equal(r.exit_code, ENV_EXIT_DISK);
    assert_string_equal(r.why, "disk");
    assert_false(r.task_ran);
    sim_call(r.env, sim_now_ns(s), refuse, &r); /* dropped: nobody is there */
    run_ms(s, 1);
    assert_int_equal(sim_process_start(h, refusal_main, &r), 0);
    char buf[8] = "";
    assert_int_equal(env_file_pread(r.env, r.file, buf, 6, 0), 6);
    assert_string_equal(buf, "before"); /* the page cache outlives the process */
    /* From outside a turn. */
    env_fatal(r.env, ENV_EXIT_MEMORY, "memory");
    run_ms(s, 1);
    assert_int_equal(r.exit_code, ENV_EXIT_MEMORY);
    sim_close(s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(same_seed_same_trace),
        cmocka_unit_test(timers_fire_once_at_their_time),
        cmocka_unit_test(clocks_drift_and_differ),
        cmocka_unit_test(tasks_messages_and_lanes),
        cmocka_unit_test(a_pause_holds_everything_back),
        cmocka_unit_test(fatal_ends_the_process_after_the_turn),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
