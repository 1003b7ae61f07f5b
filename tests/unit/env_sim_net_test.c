/* The simulated network: order, back-pressure, refusals, ends, resets, deaths, cuts, faults. */
#include "env_sim_fixture.h"

/* One side of a connection that writes and reads a known sequence of bytes. */
struct side {
    struct env_conn conn;
    struct env_write w;
    struct iovec iov[2];
    struct side *world_next;
    uint8_t buf[1000]; /* for ops->buffer */
    bool use_buffer, close_on_end, connected, accepted, written, drained, closed;
    int connect_status, write_status, end;
    bool ended, in_sequence;
    uint64_t n_read;
    uint64_t connected_at, ended_at;
    unsigned reads;
};

struct net {
    struct sim *s;
    struct sim_host *a, *b;
    struct env *client, *server;
    struct env_listener listener;
    struct side cs, ss;     /* the client's side and the server's */
    unsigned accepts;
    const struct env_conn_ops *ops;
};

static uint8_t byte_at(uint64_t i) { return (uint8_t)(i * 131 + (i >> 8)); }

static void side_connected(struct env_conn *c, int status)
{
    struct side *x = container_of(c, struct side, conn);
    assert_false(x->connected);
    x->connected = true;
    x->connect_status = status;
    x->connected_at = env_now_ns(c->env);
}

static size_t side_buffer(struct env_conn *c, void **base)
{
    struct side *x = container_of(c, struct side, conn);
    *base = x->buf;
    return 1 + (x->n_read * 7) % sizeof x->buf;
}

static void side_read(struct env_conn *c, void *data, ssize_t n)
{
    struct side *x = container_of(c, struct side, conn);
    assert_false(x->ended);
    if (n <= 0) {
        x->ended = true;
        x->end = (int)n;
        x->ended_at = env_now_ns(c->env);
        if (x->close_on_end) {
            env_conn_close(c);
        }
        return;
    }
    x->reads++;
    for (ssize_t i = 0; i < n; i++) {
        x->in_sequence = x->in_sequence && ((uint8_t *)data)[i] == byte_at(x->n_read + (uint64_t)i);
    }
    if (x->use_buffer) {
        assert_ptr_equal(data, x->buf);
    }
    x->n_read += (uint64_t)n;
}

static void side_drained(struct env_conn *c) { container_of(c, struct side, conn)->drained = true; }

static void side_closed(struct env_conn *c)
{
    struct side *x = container_of(c, struct side, conn);
    assert_false(x->closed);
    x->closed = true;
}

static const struct env_conn_ops plain_ops = { .connected = side_connected, .read = side_read, .drained = side_drained, .closed = side_closed };
static const struct env_conn_ops buffer_ops = {
    .connected = side_connected, .read = side_read, .drained = side_drained, .closed = side_closed, .buffer = side_buffer
};

static void side_written(struct env_write *w)
{
    struct side *x = container_of(w, struct side, w);
    assert_false(x->written);
    x->written = true;
    x->write_status = w->status;
}

static void side_init(struct side *x, const struct env_conn_ops *ops)
{
    *x = (struct side){ .conn = { .ops = ops }, .in_sequence = true, .use_buffer = ops->buffer != NULL, .write_status = 1 };
}

/* Writes bytes [from, from + n) of the sequence; the caller frees what is returned after the callback. */
static uint8_t *side_write(struct side *x, uint64_t from, size_t n)
{
    uint8_t *data = malloc(n);
    for (size_t i = 0; i < n; i++) {
        data[i] = byte_at(from + i);
    }
    x->written = false;
    x->iov[0] = (struct iovec){ data, n / 3 };
    x->iov[1] = (struct iovec){ data + n / 3, n - n / 3 };
    x->w = (struct env_write){ .iov = x->iov, .n_iov = 2 };
    env_conn_write(&x->conn, &x->w, side_written);
    assert_false(x->written);
    return data;
}

static void on_accept(struct env_listener *l)
{
    struct net *n = container_of(l, struct net, listener);
    if (n->accepts++ == 0) {
        side_init(&n->ss, n->ops);
        assert_int_equal(env_accept(l, &n->ss.conn), 0);
        n->ss.accepted = true;
    }
}

static void server_main(struct env *env, void *arg)
{
    struct net *n = arg;
    n->server = env;
    n->accepts = 0;
    assert_int_equal(env_listen(env, &n->listener, "b", 7000, false, on_accept), 0);
}

static void net_open(struct net *n, const struct sim_options *o)
{
    *n = (struct net){ .s = sim_open(o), .ops = &plain_ops };
    n->a = sim_host_add(n->s, "a");
    n->b = sim_host_add(n->s, "b");
    sim_client_start(n->a, keep_env, &n->client);
}

static void net_connect(struct net *n)
{
    if (!sim_process_up(n->b)) {
        assert_int_equal(sim_process_start(n->b, server_main, n), 0);
    }
    side_init(&n->cs, n->ops);
    assert_int_equal(env_connect(n->client, &n->cs.conn, "b", 7000), 0);
    assert_false(n->cs.connected);
    run_ms(n->s, 20);
}

static void net_connected(struct net *n, uint64_t seed)
{
    struct sim_options o = world_options(seed);
    net_open(n, &o);
    net_connect(n);
    assert_true(n->cs.connected && n->ss.accepted);
    assert_int_equal(n->cs.connect_status, 0);
    env_conn_read(&n->cs.conn, true);
    env_conn_read(&n->ss.conn, true);
}

/* ---- the normal course --------------------------------------------------------------------------------------------- */

static void bytes_arrive_in_order(void **state)
{
    (void)state;
    for (uint64_t seed = 0; seed < 40; seed++) {
        struct sim_options o = world_options(seed);
        o.net.split_ppm = 500000;
        o.net.reorder_ppm = 100000;
        o.net.stall_ppm = 50000;
        o.net.stall_ns = (struct sim_range){ MS, 50 * MS };
        struct net n;
        net_open(&n, &o);
        n.ops = seed % 2 == 0 ? &plain_ops : &buffer_ops;
        net_connect(&n);
        env_conn_read(&n.ss.conn, true);
        uint64_t sent = 0;
        while (sent < 200000) {
            size_t part = 1 + (size_t)sim_random_in(n.s, (struct sim_range){ 0, 20000 });
            uint8_t *data = side_write(&n.cs, sent, part);
            sent += part;
            run_ms(n.s, 1);
            assert_true(n.cs.written);
            assert_int_equal(n.cs.write_status, 0);
            memset(data, 0xee, part); /* copied: what the caller does now changes nothing */
            free(data);
        }
        run_ms(n.s, 5000);
        assert_int_equal(n.ss.n_read, sent);
        assert_true(n.ss.in_sequence);
        assert_true(n.ss.reads > 15);
        char peer[32];
        env_conn_peer(&n.cs.conn, peer, sizeof peer);
        assert_string_equal(peer, "b:7000");
        env_conn_peer(&n.ss.conn, peer, sizeof peer);
        assert_memory_equal(peer, "a:", 2);
        sim_close(n.s);
    }
}

static void a_reader_that_stops_holds_the_writer_back(void **state)
{
    (void)state;
    struct net n;
    net_connected(&n, 1);
    env_conn_read(&n.ss.conn, false);
    size_t total = 3u << 20;
    uint8_t *data = side_write(&n.cs, 0, total);
    assert_int_equal(env_conn_unsent(&n.cs.conn), total - (1u << 20)); /* the window is 1 MiB */
    run_ms(n.s, 1000);
    assert_int_equal(env_conn_unsent(&n.cs.conn), total - (1u << 20));
    assert_false(n.cs.written || n.cs.drained);
    assert_int_equal(n.ss.n_read, 0);
    env_conn_read(&n.ss.conn, true);
    assert_int_equal(n.ss.n_read, 0); /* never inside the call */
    run_ms(n.s, 1000);
    assert_int_equal(n.ss.n_read, total);
    assert_true(n.ss.in_sequence && n.cs.written && n.cs.drained);
    assert_int_equal(env_conn_unsent(&n.cs.conn), 0);
    free(data);
    /* A write that fits at once owes no `drained`. */
    n.cs.drained = false;
    free(side_write(&n.cs, total, 100));
    run_ms(n.s, 100);
    assert_true(n.cs.written && !n.cs.drained);
    sim_close(n.s);
}

static void writes_before_the_connection_stands_are_sent(void **state)
{
    (void)state;
    struct sim_options o = world_options(5);
    struct net n;
    net_open(&n, &o);
    assert_int_equal(sim_process_start(n.b, server_main, &n), 0);
    side_init(&n.cs, n.ops);
    assert_int_equal(env_connect(n.client, &n.cs.conn, "b", 7000), 0);
    uint8_t *data = side_write(&n.cs, 0, 500);
    run_ms(n.s, 20);
    env_conn_read(&n.ss.conn, true);
    run_ms(n.s, 20);
    assert_int_equal(n.ss.n_read, 500);
    free(data);
    sim_close(n.s);
}

static void an_end_comes_after_the_data(void **state)
{
    (void)state;
    struct net n;
    net_connected(&n, 2);
    free(side_write(&n.cs, 0, 5000));
    env_conn_close(&n.cs.conn);
    env_conn_close(&n.cs.conn);
    assert_false(n.cs.closed);
    n.ss.close_on_end = true;
    run_ms(n.s, 50);
    assert_true(n.cs.closed && n.cs.written);
    assert_int_equal(n.ss.n_read, 5000);
    assert_true(n.ss.ended && n.ss.closed);
    assert_int_equal(n.ss.end, 0);
    sim_close(n.s);
}

static void closing_calls_waiting_writes_off(void **state)
{
    (void)state;
    struct net n;
    net_connected(&n, 3);
    env_conn_read(&n.ss.conn, false);
    uint8_t *data = side_write(&n.cs, 0, 2u << 20);
    run_ms(n.s, 100);
    env_conn_close(&n.cs.conn);
    run_ms(n.s, 1);
    assert_true(n.cs.written && n.cs.closed);
    assert_int_equal(n.cs.write_status, -ECANCELED);
    free(data);
    sim_close(n.s);
}

/* ---- connecting ---------------------------------------------------------------------------------------------------- */

static int connect_outcome(struct net *n, const char *host, uint64_t wait_ms, uint64_t *took_ms)
{
    side_init(&n->cs, n->ops);
    uint64_t start = env_clock_ns(n->client);
    assert_int_equal(env_connect(n->client, &n->cs.conn, host, 7000), 0);
    run_ms(n->s, wait_ms);
    assert_true(n->cs.connected);
    *took_ms = (n->cs.connected_at - start) / MS;
    int status = n->cs.connect_status;
    env_conn_close(&n->cs.conn);
    run_ms(n->s, 10);
    assert_true(n->cs.closed);
    return status;
}

static void connecting_fails_in_its_own_ways(void **state)
{
    (void)state;
    struct sim_options o = world_options(1);
    struct net n;
    uint64_t took;
    net_open(&n, &o);
    assert_int_equal(connect_outcome(&n, "b", 10, &took), -ECONNREFUSED);
    assert_int_equal(connect_outcome(&n, "nowhere", 10, &took), -EHOSTUNREACH);
    assert_int_equal(sim_process_start(n.b, server_main, &n), 0);
    struct env_listener second;
    assert_int_equal(env_listen(n.server, &second, "b", 7000, true, on_accept), -EADDRINUSE);
    sim_cut(n.s, n.a, n.b, true);
    assert_int_equal(connect_outcome(&n, "b", 3010, &took), -ETIMEDOUT);
    assert_int_equal(took, 3000);
    sim_cut(n.s, n.a, n.b, false);
    sim_cut(n.s, n.b, n.a, true); /* the answer's way */
    assert_int_equal(connect_outcome(&n, "b", 3010, &took), -ETIMEDOUT);
    assert_int_equal(n.accepts, 0);
    sim_cut(n.s, n.b, n.a, false);
    assert_int_equal(connect_outcome(&n, "b", 10, &took), 0);
    assert_int_equal(n.accepts, 1);
    /* A machine without power does not even refuse. */
    sim_process_crash(n.b, SIM_CRASH_POWER);
    assert_int_equal(connect_outcome(&n, "b", 3010, &took), -ETIMEDOUT);
    sim_close(n.s);
}

static void a_paused_server_is_connected_to_all_the_same(void **state)
{
    (void)state;
    struct sim_options o = world_options(1);
    struct net n;
    net_open(&n, &o);
    assert_int_equal(sim_process_start(n.b, server_main, &n), 0);
    sim_process_pause(n.b, true);
    side_init(&n.cs, n.ops);
    assert_int_equal(env_connect(n.client, &n.cs.conn, "b", 7000), 0);
    run_ms(n.s, 20);
    assert_true(n.cs.connected && n.cs.connect_status == 0);
    uint8_t *data = side_write(&n.cs, 0, 1000);
    run_ms(n.s, 100);
    assert_int_equal(n.accepts, 0);
    sim_process_pause(n.b, false);
    run_ms(n.s, 1);
    assert_int_equal(n.accepts, 1);
    env_conn_read(&n.ss.conn, true);
    run_ms(n.s, 1);
    assert_int_equal(n.ss.n_read, 1000);
    free(data);
    sim_close(n.s);
}

static void a_late_attempt_is_accepted_and_reset(void **state)
{
    (void)state;
    struct sim_options o = world_options(1);
    o.net.duplicate_connect_ppm = 1000000;
    struct net n;
    net_open(&n, &o);
    net_connect(&n);
    run_ms(n.s, 3100);
    assert_int_equal(n.accepts, 2);
    sim_close(n.s);
}

/* ---- death --------------------------------------------------------------------------------------------------------- */

static void a_death_resets_its_connections(void **state)
{
    (void)state;
    unsigned lost_data = 0;
    for (uint64_t seed = 0; seed < 40; seed++) {
        struct net n;
        net_connected(&n, seed);
        free(side_write(&n.ss, 0, 100));
        sim_process_crash(n.b, SIM_CRASH_KILL);
        run_ms(n.s, 50);
        assert_true(n.cs.ended);
        assert_int_equal(n.cs.end, -ECONNRESET);
        assert_true(n.cs.n_read == 0 || n.cs.n_read == 100);
        lost_data += n.cs.n_read == 0;
        free(side_write(&n.cs, 0, 10)); /* fails, and still calls back */
        run_ms(n.s, 10);
        assert_int_equal(n.cs.write_status, -ECONNRESET);
        net_connect(&n); /* the next process answers */
        assert_int_equal(n.cs.connect_status, 0);
        sim_close(n.s);
    }
    assert_in_range(lost_data, 5, 35);
}

static void a_death_behind_a_cut_is_silent(void **state)
{
    (void)state;
    struct net n;
    net_connected(&n, 4);
    sim_cut(n.s, n.b, n.a, true);
    sim_process_crash(n.b, SIM_CRASH_KILL);
    run_ms(n.s, 10000);
    assert_false(n.cs.ended);
    sim_cut(n.s, n.b, n.a, false);
    run_ms(n.s, 10000);
    assert_true(n.cs.ended);
    sim_close(n.s);
}

static void a_power_cut_is_silent_until_the_host_is_back(void **state)
{
    (void)state;
    struct net n;
    net_connected(&n, 4);
    sim_process_crash(n.b, SIM_CRASH_POWER);
    free(side_write(&n.cs, 0, 100));
    run_ms(n.s, 10000);
    assert_false(n.cs.ended);
    assert_int_equal(sim_process_start(n.b, server_main, &n), 0);
    run_ms(n.s, 100);
    assert_true(n.cs.ended);
    assert_int_equal(n.cs.end, -ECONNRESET);
    sim_close(n.s);
}

static void drivers_reset_connections(void **state)
{
    (void)state;
    struct net n;
    net_connected(&n, 4);
    sim_reset_connections(n.s, n.b, n.a);
    run_ms(n.s, 1);
    assert_true(n.cs.ended && n.ss.ended);
    assert_int_equal(n.ss.end, -ECONNRESET);
    sim_close(n.s);
}

/* ---- cuts and faults ----------------------------------------------------------------------------------------------- */

static void a_one_way_cut_stalls_one_way(void **state)
{
    (void)state;
    unsigned went_on = 0, broke = 0;
    for (uint64_t seed = 0; seed < 60; seed++) {
        struct net n;
        net_connected(&n, seed);
        uint8_t *early = side_write(&n.cs, 0, 1000);
        sim_cut(n.s, n.a, n.b, true); /* catches what is on its way */
        run_ms(n.s, 10);
        uint8_t *to = side_write(&n.cs, 1000, 500);
        uint8_t *back = side_write(&n.ss, 0, 300);
        run_ms(n.s, 2000);
        assert_int_equal(n.ss.n_read, 0);
        assert_int_equal(n.cs.n_read, 300);
        sim_cut(n.s, n.a, n.b, false);
        free(to);
        to = side_write(&n.cs, 1500, 500); /* must not overtake what was held back */
        run_ms(n.s, 6000);
        assert_true(n.ss.in_sequence);
        if (n.ss.ended) {
            broke++;
            assert_true(n.cs.ended);
            assert_int_equal(n.ss.end, -ECONNRESET);
        } else {
            went_on++;
            assert_int_equal(n.ss.n_read, 2000);
        }
        free(early);
        free(to);
        free(back);
        sim_close(n.s);
    }
    assert_true(went_on > 25 && broke > 5);
}

/* Nothing tells the writer that its bytes were read: one window passes, no more. */
static void without_the_way_back_one_window_passes(void **state)
{
    (void)state;
    struct net n;
    net_connected(&n, 9);
    sim_cut(n.s, n.b, n.a, true);
    uint8_t *data = side_write(&n.cs, 0, 3u << 20);
    run_ms(n.s, 1000);
    assert_int_equal(n.ss.n_read, 1u << 20);
    sim_cut(n.s, n.b, n.a, false);
    run_ms(n.s, 1000);
    assert_int_equal(n.ss.n_read, 3u << 20);
    assert_true(n.ss.in_sequence && n.cs.written && n.cs.drained);
    free(data);
    sim_close(n.s);
}

static void a_loss_breaks_the_connection_on_both_sides(void **state)
{
    (void)state;
    unsigned late = 0;
    for (uint64_t seed = 0; seed < 40; seed++) {
        struct net n;
        net_connected(&n, seed);
        struct sim_net bad = world_options(0).net;
        bad.loss_ppm = 1000000;
        sim_set_net(n.s, &bad);
        free(side_write(&n.cs, 0, 100));
        run_ms(n.s, 10000);
        assert_int_equal(n.ss.n_read, 0);
        assert_true(n.cs.ended && n.ss.ended);
        assert_int_equal(n.cs.end, -ECONNRESET);
        assert_int_equal(n.ss.end, -ECONNRESET);
        uint64_t a = n.cs.ended_at - env_clock_ns(n.client), b = n.ss.ended_at - env_clock_ns(n.server);
        late += (a > b ? a - b : b - a) > 100 * MS;
        sim_close(n.s);
    }
    assert_in_range(late, 5, 35);
}

static void corruption_flips_a_bit(void **state)
{
    (void)state;
    struct net n;
    net_connected(&n, 1);
    struct sim_net bad = world_options(0).net;
    bad.corrupt_ppm = 1000000;
    sim_set_net(n.s, &bad);
    free(side_write(&n.cs, 0, 100));
    run_ms(n.s, 100);
    assert_int_equal(n.ss.n_read, 100);
    assert_false(n.ss.in_sequence);
    sim_close(n.s);
}

/* ---- determinism --------------------------------------------------------------------------------------------------- */

static uint64_t faulty_hash(uint64_t seed)
{
    struct sim_options o = world_options(seed);
    o.net.loss_ppm = 20000;
    o.net.split_ppm = 300000;
    o.net.stall_ppm = 50000;
    o.net.stall_ns = (struct sim_range){ MS, 100 * MS };
    o.net.duplicate_connect_ppm = 100000;
    struct net n;
    net_open(&n, &o);
    uint8_t *data[200];
    struct side *sides = calloc(200, sizeof *sides);
    assert_int_equal(sim_process_start(n.b, server_main, &n), 0);
    for (unsigned i = 0; i < 200; i++) {
        side_init(&sides[i], &plain_ops);
        assert_int_equal(env_connect(n.client, &sides[i].conn, "b", 7000), 0);
        env_conn_read(&sides[i].conn, true);
        data[i] = side_write(&sides[i], 0, 3000);
        switch (sim_random(n.s) % 8) {
        case 0: sim_cut(n.s, n.a, n.b, true); break;
        case 1: sim_cut(n.s, n.b, n.a, true); break;
        case 2:
            sim_process_crash(n.b, SIM_CRASH_KILL);
            assert_int_equal(sim_process_start(n.b, server_main, &n), 0);
            break;
        case 3: sim_process_pause(n.b, sim_random(n.s) % 2 == 0); break;
        case 4:
            if (!sides[i / 2].closed) {
                env_conn_close(&sides[i / 2].conn);
            }
            break;
        default:
            sim_cut(n.s, n.a, n.b, false);
            sim_cut(n.s, n.b, n.a, false);
        }
        run_ms(n.s, 1 + sim_random(n.s) % 300);
    }
    uint64_t hash = sim_trace_hash(n.s);
    sim_close(n.s);
    for (unsigned i = 0; i < 200; i++) {
        free(data[i]);
    }
    free(sides);
    return hash;
}

static void faults_replay_from_the_seed(void **state)
{
    (void)state;
    for (uint64_t seed = 0; seed < 30; seed++) {
        assert_int_equal(faulty_hash(seed), faulty_hash(seed));
    }
    assert_int_not_equal(faulty_hash(1), faulty_hash(2));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bytes_arrive_in_order),
        cmocka_unit_test(a_reader_that_stops_holds_the_writer_back),
        cmocka_unit_test(writes_before_the_connection_stands_are_sent),
        cmocka_unit_test(an_end_comes_after_the_data),
        cmocka_unit_test(closing_calls_waiting_writes_off),
        cmocka_unit_test(connecting_fails_in_its_own_ways),
        cmocka_unit_test(a_paused_server_is_connected_to_all_the_same),
        cmocka_unit_test(a_late_attempt_is_accepted_and_reset),
        cmocka_unit_test(a_death_resets_its_connections),
        cmocka_unit_test(a_death_behind_a_cut_is_silent),
        cmocka_unit_test(a_power_cut_is_silent_until_the_host_is_back),
        cmocka_unit_test(drivers_reset_connections),
        cmocka_unit_test(a_one_way_cut_stalls_one_way),
        cmocka_unit_test(without_the_way_back_one_window_passes),
        cmocka_unit_test(a_loss_breaks_the_connection_on_both_sides),
        cmocka_unit_test(corruption_flips_a_bit),
        cmocka_unit_test(faults_replay_from_the_seed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
