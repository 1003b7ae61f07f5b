/* The admin listener: what it answers, what it refuses, and that it ends whatever is under way. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "proto/base.h"
#include "server/admin.h"
#include "storage/env_sim.h"

struct test { struct env *env, *server; struct admin *admin; bool ready, hold, stopped; void (*held)(void *darg, const struct node_metrics *sum); void *held_arg; char got[200000]; size_t n; bool ended; struct env_conn conn; const char *request; struct env_write w; struct iovec iov; };

static bool ready(void *arg, char why[256])
{
    struct test *t = arg;
    snprintf(why, 256, "recovering");
    return t->ready;
}

static void gather(void *arg, void (*done)(void *darg, const struct node_metrics *sum), void *darg)
{
    struct test *t = arg;
    if (t->hold) {
        t->held = done;
        t->held_arg = darg;
        return;
    }
    static struct node_metrics sum;
    memset(&sum, 0, sizeof sum);
    struct lane_metrics lane = {0};
    metrics_request(&lane, FRAME_PUT);
    metrics_answer(&lane, 0);
    metrics_answer(&lane, SLUICE_E_NOT_LEADER);
    metrics_observe(&lane.put_latency, 60000);
    metrics_observe(&lane.put_latency, 1);
    metrics_add(&sum, &lane, NULL, NULL, NULL);
    metrics_add(&sum, &lane, NULL, NULL, NULL);
    sum.process = (struct env_usage){.cpu_ns = 1500000000, .resident_bytes = 4096};
    done(darg, &sum);
}

static void server_main(struct env *env, void *arg)
{
    struct test *t = arg;
    t->server = env;
    struct admin_options o = {.env = env, .host = "n1", .port = 4571, .arg = t, .ready = ready, .gather = gather};
    assert_int_equal(admin_open(&t->admin, &o), 0);
}

static void written(struct env_write *w) { (void)w; }

static void connected(struct env_conn *c, int status)
{
    struct test *t = c->user;
    assert_int_equal(status, 0);
    env_conn_read(c, true);
    t->iov = (struct iovec){.iov_base = (void *)(uintptr_t)t->request, .iov_len = strlen(t->request)};
    t->w = (struct env_write){.iov = &t->iov, .n_iov = 1};
    env_conn_write(c, &t->w, written);
}

static void got(struct env_conn *c, void *data, ssize_t n)
{
    struct test *t = c->user;
    if (n <= 0) {
        t->ended = true;
        env_conn_close(c);
        return;
    }
    memcpy(t->got + t->n, data, (size_t)n);
    t->n += (size_t)n;
    t->got[t->n] = '\0';
}

static void closed(struct env_conn *c) { (void)c; }
static const struct env_conn_ops ops = {.connected = connected, .read = got, .closed = closed};

static void client_main(struct env *env, void *arg)
{
    struct test *t = arg;
    t->env = env;
}

static const char *ask(struct sim *sim, struct test *t, const char *request)
{
    t->request = request;
    t->n = 0;
    t->got[0] = '\0';
    t->ended = false;
    memset(&t->conn, 0, sizeof t->conn);
    t->conn.ops = &ops;
    t->conn.user = t;
    assert_int_equal(env_connect(t->env, &t->conn, "n1", 4571), 0);
    sim_run_until(sim, sim_now_ns(sim) + 2000000000);
    assert_true(t->ended); /* one answer, then it closes */
    return t->got;
}

static void answers(void **state)
{
    (void)state;
    static struct test t;
    struct sim_options o = {.seed = 1, .net = {.delay_ns = {100000, 200000}}};
    struct sim *sim = sim_open(&o);
    struct sim_host *host = sim_host_add(sim, "n1");
    assert_int_equal(sim_process_start(host, server_main, &t), 0);
    sim_client_start(sim_host_add(sim, "c"), client_main, &t);
    assert_non_null(strstr(ask(sim, &t, "GET /health/live HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"), "200 OK"));
    assert_non_null(strstr(ask(sim, &t, "GET /health/ready HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"), "503 Service Unavailable"));
    assert_non_null(strstr(t.got, "recovering"));
    t.ready = true;
    assert_non_null(strstr(ask(sim, &t, "GET /health/ready HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"), "200 OK"));
    assert_non_null(strstr(ask(sim, &t, "GET /nothing HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"), "404 Not Found"));
    assert_non_null(strstr(ask(sim, &t, "HEAD /health/live HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"), "Content-Length: 5\r\n"));
    assert_non_null(strstr(ask(sim, &t, "DELETE /metrics HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"), "Allow: GET, HEAD"));
    assert_non_null(strstr(ask(sim, &t, "\x01\x02"), "400 Bad Request"));
    const char *text = ask(sim, &t, "GET /metrics HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
    assert_non_null(strstr(text, "\nprocess_cpu_seconds_total 1.500000\n"));
    assert_non_null(strstr(text, "\nprocess_resident_memory_bytes 4096\n"));
    assert_non_null(strstr(text, "sluice_requests_total{kind=\"put\"} 2\n"));
    assert_non_null(strstr(text, "sluice_answers_total{code=\"NOT_LEADER\"} 2\n"));
    assert_non_null(strstr(text, "sluice_put_seconds_bucket{le=\"5e-05\"} 2\n"));
    assert_non_null(strstr(text, "sluice_put_seconds_bucket{le=\"0.0001\"} 4\n"));
    assert_non_null(strstr(text, "sluice_put_seconds_bucket{le=\"+Inf\"} 4\n"));
    assert_non_null(strstr(text, "sluice_put_seconds_count 4\n"));
    assert_non_null(strstr(text, "\nsluice_lanes 2\n"));
    /* A client that says nothing is let go. */
    t.request = "";
    t.ended = false;
    memset(&t.conn, 0, sizeof t.conn);
    t.conn.ops = &ops;
    t.conn.user = &t;
    assert_int_equal(env_connect(t.env, &t.conn, "n1", 4571), 0);
    sim_run_until(sim, sim_now_ns(sim) + 15000000000u);
    assert_true(t.ended);
    sim_close(sim);
}

static void stopped(void *arg) { ((struct test *)arg)->stopped = true; }

static void stop(void *arg)
{
    struct test *t = arg;
    admin_close(t->admin, stopped, t);
}

static void figures_come(void *arg)
{
    static const struct node_metrics sum;
    struct test *t = arg;
    t->held(t->held_arg, &sum);
}

/* The listener closes while figures are on their way: it waits for them, and for nothing else. */
static void ends(void **state)
{
    (void)state;
    static struct test t;
    t.hold = true;
    struct sim_options o = {.seed = 1, .net = {.delay_ns = {100000, 200000}}};
    struct sim *sim = sim_open(&o);
    assert_int_equal(sim_process_start(sim_host_add(sim, "n1"), server_main, &t), 0);
    sim_client_start(sim_host_add(sim, "c"), client_main, &t);
    t.request = "GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n";
    t.conn.ops = &ops;
    t.conn.user = &t;
    assert_int_equal(env_connect(t.env, &t.conn, "n1", 4571), 0);
    sim_run_until(sim, sim_now_ns(sim) + 100000000);
    assert_true(t.held != NULL);
    sim_call(t.server, sim_now_ns(sim), stop, &t);
    sim_run_until(sim, sim_now_ns(sim) + 100000000);
    assert_true(t.ended && !t.stopped);
    sim_call(t.server, sim_now_ns(sim), figures_come, &t);
    sim_run_until(sim, sim_now_ns(sim) + 100000000);
    assert_true(t.stopped);
    sim_close(sim);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(answers),
        cmocka_unit_test(ends),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
