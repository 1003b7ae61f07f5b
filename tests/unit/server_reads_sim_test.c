/* Readers and replicas that lag, are cut off, lose their controller, or meet entries and clocks that they cannot trust. */
#include "server_cluster_fixture.h"

#include "proto/seqno.h"

static bool goes_elsewhere(int code) { return code > 0 && sluice_error_retry(code) == SLUICE_RETRY_ELSEWHERE; }

/* F28: a reader moves from the leader to a replica that lags behind its position: it waits, then is sent to the leader. That is never an error about the position and
 * never a reset; only the leader says "no such number", and only after asking a quorum. */
static void reader_moves(struct world *w)
{
    world_open(w, 3);
    create_stream(w, 0, "s", 3);
    unsigned l = leader(w), lag = (l + 1) % 3;
    struct client *c = dial(w, l), *at_lag = dial(w, lag);
    CHECK(put(c, NULL, 0, 10).code == 0);
    run_ms(w, 500);
    CHECK(fetch(at_lag, 0, 0).payload > 0);
    cut_off(w, lag, true);
    CHECK(put(c, NULL, 0, 10).offset == 10);
    uint64_t start = now_ms(w);
    struct answer a = fetch(at_lag, 15, 500);
    CHECK(a.code == SLUICE_E_AHEAD && goes_elsewhere(a.code) && a.leader == l + 1 && now_ms(w) - start >= 500);
    char number[64];
    snprintf(number, sizeof number, "no number at all");
    CHECK(position(at_lag, SLUICE__POSITION__KIND__AT_SEQUENCE, number).code == SLUICE_E_INVALID);
    seqno_format(&(struct seqno){.shard_created_s = shard_on(w, l)->state.identity.created_s, .offset = 15, .time_s = 1}, number);
    a = position(at_lag, SLUICE__POSITION__KIND__AT_SEQUENCE, number);
    CHECK(a.code == SLUICE_E_NOT_LEADER && a.leader == l + 1);
    CHECK(position(c, SLUICE__POSITION__KIND__AT_SEQUENCE, number).offset == 15);
    CHECK(fetch(at_lag, 5, 0).payload > 0); /* what it has it gives, for a while */
    run_ms(w, 6000);
    a = fetch(at_lag, 5, 0);
    CHECK(a.code == SLUICE_E_STALE && goes_elsewhere(a.code)); /* cut off for 5 s: it may have been removed long ago */
    CHECK(position(at_lag, SLUICE__POSITION__KIND__TRIM_HORIZON, "").code == SLUICE_E_STALE);
    uint64_t waiting = fetch_send(at_lag, 15, 20000);
    CHECK(decode(client_await(at_lag, waiting, 6000)).code == SLUICE_E_STALE);
    cut_off(w, lag, false);
    run_ms(w, 2000);
    CHECK(fetch(at_lag, 15, 1000).payload > 0);
    /* One that waits gets what comes when the ways heal. */
    cut_off(w, lag, true);
    CHECK(put(c, NULL, 0, 1).offset == 20);
    waiting = fetch_send(at_lag, 20, 4000);
    run_ms(w, 500);
    CHECK(client_got(at_lag, waiting) == NULL);
    cut_off(w, lag, false);
    CHECK(decode(client_await(at_lag, waiting, 4000)).payload > 0);
    /* The leader's word is the last one; one that was replaced cannot give it. */
    CHECK(fetch(c, 1000, 0).code == SLUICE_E_AHEAD);
    cut_off(w, l, true);
    run_ms(w, 50);
    seqno_format(&(struct seqno){.shard_created_s = shard_on(w, l)->state.identity.created_s, .offset = 25, .time_s = 1}, number);
    Sluice__Position m = SLUICE__POSITION__INIT;
    m.stream_id = (ProtobufCBinaryData){.len = 16, .data = w->stream_id};
    m.kind = SLUICE__POSITION__KIND__AT_SEQUENCE;
    m.sequence = number;
    uint64_t asked = client_send(c, FRAME_POSITION, &m, NULL, 0);
    unsigned fresh = await_leader(w, l);
    CHECK(put(dial(w, fresh), NULL, 0, 20).offset == 21);
    a = decode(client_await(c, asked, 8000));
    CHECK(a.code != 0 && a.code != SLUICE_E_INVALID); /* 25 exists: the old leader must not deny it */
    CHECK(position(dial(w, fresh), SLUICE__POSITION__KIND__AT_SEQUENCE, number).offset == 25);
}

static void f28_off(struct settings *s, unsigned node)
{
    (void)node;
    s->test_disable_server = SERVER_RULE_F28;
}

static void fresh_off(struct settings *s, unsigned node)
{
    (void)node;
    s->test_disable_server = SERVER_RULE_FRESH;
}

static void reader_moves_without_f28(struct world *w)
{
    w->tune = f28_off;
    reader_moves(w);
}

static void reader_moves_without_fresh(struct world *w)
{
    w->tune = fresh_off;
    reader_moves(w);
}

static void reader_moves_to_a_lagging_replica(void **state)
{
    (void)state;
    assert_true(story_holds(reader_moves, 1));
    assert_false(story_holds(reader_moves_without_f28, 1));
    assert_false(story_holds(reader_moves_without_fresh, 1));
}

/* F28: readers of a replica that is taken away are sent elsewhere, those that wait and those that come later. */
static void drain(struct world *w, unsigned ask, unsigned node)
{
    struct client *c = dial(w, ask);
    Sluice__NodeChange m = SLUICE__NODE_CHANGE__INIT;
    m.kind = SLUICE__NODE_CHANGE__KIND__DRAIN;
    m.node = node + 1;
    m.address = (char *)(uintptr_t)"";
    const struct got *g = client_await(c, client_send(c, FRAME_NODE_CHANGE, &m, NULL, 0), 10000);
    CHECK(g != NULL && g->kind == FRAME_NODE_CHANGE_REPLY);
}

STORY(readers_of_a_removed_replica_are_sent_away)
{
    world_open(w, 4);
    create_stream(w, 0, "s", 3);
    unsigned goes = NO_NODE;
    for (unsigned i = 0; i < 4; i++) {
        goes = shard_on(w, i) != NULL && i != leader(w) ? i : goes;
    }
    CHECK(put(dial(w, leader(w)), NULL, 0, 10).code == 0);
    run_ms(w, 500);
    struct client *c = dial(w, goes);
    CHECK(fetch(c, 0, 0).payload > 0);
    uint64_t waiting = fetch_send(c, 10, 60000);
    drain(w, (goes + 1) % 4, goes);
    struct answer a = decode(client_await(c, waiting, 40000));
    CHECK(goes_elsewhere(a.code));
    for (unsigned k = 0; k < 100 && shard_on(w, goes) != NULL; k++) {
        run_ms(w, 100);
    }
    CHECK(shard_on(w, goes) == NULL);
    a = fetch(c, 0, 0);
    CHECK(goes_elsewhere(a.code) && a.leader == await_leader(w, NO_NODE) + 1);
}

/* F31: the leader's clock says 2036. What is stored gets times near the majority's clock, and nothing is trimmed. */
STORY(a_wrong_clock_trims_nothing)
{
    enum { YEARS = 10 };
    const int64_t wrong_ms = (int64_t)YEARS * 365 * 86400 * 1000;
    world_open(w, 3);
    create_stream(w, 0, "s", 3);
    struct answer a = put(dial(w, leader(w)), NULL, 0, 10);
    CHECK(a.code == 0);
    uint64_t wall = a.time_ms, began = now_ms(w);
    for (unsigned round = 0; round < 3; round++) {
        unsigned l = await_leader(w, NO_NODE);
        if (round < 2) { /* while it leads; then before it leads; in the end all are right again */
            unsigned liar = round == 0 ? l : (l + 1) % 3;
            sim_host_set_clock(w->nodes[liar].host, wrong_ms, 0);
            run_ms(w, 10000);
            if (round == 1) {
                for (unsigned k = 0; k < 20 && leader(w) != liar; k++) {
                    node_down(w, leader(w), SIM_CRASH_KILL);
                    run_ms(w, 3000);
                    for (unsigned i = 0; i < 3; i++) {
                        if (!sim_process_up(w->nodes[i].host)) {
                            node_up(w, i);
                        }
                    }
                    run_ms(w, 3000);
                    await_leader(w, NO_NODE);
                }
                CHECK(leader(w) == liar);
            }
            l = liar;
        }
        struct client *c = dial(w, l);
        a = put(c, NULL, 0, 10);
        CHECK(a.code == 0 && a.time_ms <= wall + (now_ms(w) - began) + 6000 && a.time_ms + 1000 >= wall + (now_ms(w) - began));
        run_ms(w, 60000);
        c = dial(w, l);
        CHECK(fetch(c, 0, 0).payload > 0);
        CHECK(position(c, SLUICE__POSITION__KIND__TRIM_HORIZON, "").offset == 0);
        for (unsigned i = 0; i < 3; i++) {
            CHECK(shard_on(w, i) != NULL && shard_on(w, i)->state.first == 0);
            sim_host_set_clock(w->nodes[i].host, 0, 0);
        }
        run_ms(w, 5000);
    }
}

/* F31: the leader's clock steps ahead and back again while records come in. Between the step and the next word of the peers no time may be taken from a comparison of
 * clocks of which one is of before the step. */
STORY(a_clock_that_steps_there_and_back_trims_nothing)
{
    const int64_t ahead_ms = (int64_t)100 * 86400 * 1000;
    world_open(w, 3);
    create_stream(w, 0, "s", 3);
    unsigned l = leader(w);
    struct client *c = dial(w, l);
    struct answer a = put(c, NULL, 0, 10);
    CHECK(a.code == 0);
    uint64_t wall = a.time_ms, began = now_ms(w);
    for (unsigned round = 0; round < 6; round++) {
        sim_host_set_clock(w->nodes[l].host, round % 2 == 0 ? ahead_ms : 0, 0);
        c = dial(w, l);
        for (unsigned k = 0; k < 25; k++) {
            a = put(c, NULL, 0, 10);
            CHECK(a.code == 0 && a.time_ms <= wall + (now_ms(w) - began) + 6000);
            run_ms(w, 20 + k * 7 % 60);
        }
    }
    run_ms(w, 20000);
    CHECK(shard_on(w, l)->state.first == 0);
}

/* F31: no two clocks agree within a minute: nobody knows what has expired, so nothing is trimmed. */
STORY(clocks_that_disagree_trim_nothing)
{
    const int64_t year_ms = (int64_t)365 * 86400 * 1000;
    world_open(w, 3);
    create_stream(w, 0, "s", 3);
    unsigned l = leader(w);
    CHECK(put(dial(w, l), NULL, 0, 10).code == 0);
    for (unsigned i = 0; i < 3; i++) {
        sim_host_set_clock(w->nodes[(l + i) % 3].host, (int64_t)(2 - i) * year_ms, 0); /* the leader's is the most ahead, by two years */
    }
    run_ms(w, 60000);
    for (unsigned i = 0; i < 3; i++) {
        CHECK(shard_on(w, i)->state.first == 0);
        sim_host_set_clock(w->nodes[i].host, 0, 0);
    }
    run_ms(w, 30000);
    CHECK(fetch(dial(w, await_leader(w, NO_NODE)), 0, 0).payload > 0);
}

/* F36: a node restarts while the controller has no quorum: its replicas serve. */
STORY(serves_without_a_controller)
{
    world_open(w, 3);
    create_stream(w, 0, "s", 1);
    unsigned has = leader(w);
    struct client *c = dial(w, has);
    struct producer p = {.id = {5}};
    CHECK(put(c, &p, 0, 10).code == 0);
    run_ms(w, 3000);
    for (unsigned i = 0; i < 3; i++) {
        node_down(w, i, SIM_CRASH_POWER);
    }
    node_up(w, has);
    CHECK(await_leader(w, NO_NODE) == has);
    CHECK(controller_leader_node(w->nodes[has].node->controller) == 0);
    c = dial(w, has);
    struct answer a = put(c, &p, 1, 5);
    CHECK(a.code == 0 && a.offset == 10);
    CHECK(fetch(c, 0, 0).payload > 0);
    CHECK(position(c, SLUICE__POSITION__KIND__LATEST, "").offset == 15);
    struct producer new_one = {.id = {6}}; /* producers make their own ids: a new one needs nobody's leave */
    CHECK(put(c, &new_one, 0, 1).code == 0);
    run_ms(w, 20000);
    CHECK(w->nodes[has].exits == 0 && fetch(dial(w, has), 15, 0).payload > 0);
}

/* F37: an entry of a kind that this program does not know stops the replicas that meet it; they don't skip it. */
static void ended(struct group_propose *p, int status)
{
    (void)p;
    (void)status;
}

static void propose_unknown(void *arg)
{
    struct world *w = arg;
    uint8_t *data = group_buffer_alloc(32);
    memset(data, 0, 32);
    data[0] = 1;
    data[1] = 77;
    struct group_propose *p = xcalloc(1, sizeof *p);
    CHECK(group_propose(shard_on(w, leader(w))->group, p, data, 32, 0, 0, 0, ended) == 0);
}

STORY(an_unknown_entry_stops_the_replica)
{
    world_open(w, 3);
    create_stream(w, 0, "s", 3);
    struct client *c = dial(w, leader(w));
    CHECK(put(c, NULL, 0, 10).code == 0);
    unsigned l = leader(w);
    sim_call(shard_on(w, l)->lane->env, sim_now_ns(w->sim), propose_unknown, w);
    run_ms(w, 0);
    uint64_t behind = put_send(c, NULL, 0, 1, 50);
    run_ms(w, 5000);
    const struct got *g = client_got(c, behind);
    CHECK(g == NULL || decode(g).code != 0); /* nothing behind it is acknowledged */
    unsigned stopped = 0;
    for (unsigned i = 0; i < 3; i++) {
        stopped += w->nodes[i].exits == 1 && w->nodes[i].exit_code == ENV_EXIT_FORMAT;
        const struct shard *s = shard_on(w, i);
        CHECK(s == NULL || s->state.next == 10);
    }
    CHECK(w->nodes[l].exit_code == ENV_EXIT_FORMAT && stopped >= 2); /* whoever learned that it is committed; the rest cannot commit anything more */
}

/* F38: a stream made anew under the same name is another one. */
STORY(a_name_made_anew_is_another_stream)
{
    world_open(w, 1);
    create_stream(w, 0, "s", 1);
    struct client *c = dial(w, 0);
    CHECK(put(c, NULL, 0, 10).code == 0);
    uint8_t old[16];
    memcpy(old, w->stream_id, 16);
    uint64_t group = w->group;
    Sluice__StreamDelete del = SLUICE__STREAM_DELETE__INIT;
    del.name = (char *)(uintptr_t)"s";
    const struct got *g = client_await(c, client_send(c, FRAME_STREAM_DELETE, &del, NULL, 0), 10000);
    CHECK(g != NULL && g->kind == FRAME_STREAM_DELETE_REPLY);
    create_stream(w, 0, "s", 1);
    CHECK(memcmp(old, w->stream_id, 16) != 0 && w->group != group);
    CHECK(put(c, NULL, 0, 1).offset == 0);
    memcpy(w->stream_id, old, 16);
    CHECK(put(c, NULL, 0, 1).code == SLUICE_E_NOT_FOUND && fetch(c, 0, 0).code == SLUICE_E_NOT_FOUND);
}

/* Readers that never read: what is prepared for them stays within fetch-memory, and who reads is served all the same: at once while there is a first answer's room left,
 * else after those that hang were closed. */
static void little_memory(struct settings *s, unsigned node)
{
    (void)node;
    s->fetch_memory = 4 << 20;
    s->lanes = 2;
}

STORY(readers_that_hang_do_not_starve_others)
{
    enum { HANG = 30, EACH = 20, BATCHES = 40, BATCH = 400 << 10 };
    w->tune = little_memory;
    world_open(w, 1);
    create_stream(w, 0, "s", 1);
    struct client *c = dial(w, 0);
    for (unsigned i = 0; i < BATCHES; i++) {
        CHECK(decode(client_await(c, put_send(c, NULL, 0, 1, BATCH), 5000)).code == 0);
    }
    struct client *hang[HANG];
    for (unsigned i = 0; i < HANG; i++) {
        hang[i] = dial(w, 0);
        env_conn_read(&hang[i]->conn, false);
        for (unsigned k = 0; k < EACH; k++) {
            fetch_send(hang[i], k, 0);
        }
    }
    run_ms(w, 500);
    struct lane *l = shard_on(w, 0)->lane;
    CHECK(l->metrics.fetch_memory_bytes > 1 << 20);
    CHECK(l->metrics.fetch_memory_bytes <= (2 << 20) + BATCH);
    CHECK(l->metrics.fetch_memory_waiting > HANG);
    uint64_t asked = now_ms(w), at = 0;
    while (at < BATCHES) {
        struct answer a = decode(client_await(c, fetch_send(c, at, 0), 20000));
        CHECK(a.code == SLUICE_E_BUSY || (a.code == 0 && a.next > at));
        at = a.code == 0 ? a.next : at;
        CHECK(l->metrics.fetch_memory_bytes <= (2 << 20) + BATCH);
    }
    CHECK(now_ms(w) - asked < 40000); /* four at a time hang, 3 s each */
    uint64_t closed = 0;
    for (unsigned i = 0; i < w->nodes[0].node->n_lanes; i++) {
        closed += w->nodes[0].node->lanes[i]->metrics.connections_stalled_total;
    }
    CHECK(closed > 0 && !c->ended);
    /* They go, and with them all that was theirs. */
    for (unsigned i = 0; i < HANG; i++) {
        env_conn_close(&hang[i]->conn);
    }
    run_ms(w, 1000);
    CHECK(l->metrics.fetch_memory_bytes == 0 && l->metrics.fetch_memory_waiting == 0);
    CHECK(fetch(c, 0, 0).code == 0);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reader_moves_to_a_lagging_replica), cmocka_unit_test(readers_of_a_removed_replica_are_sent_away), cmocka_unit_test(a_wrong_clock_trims_nothing),
        cmocka_unit_test(clocks_that_disagree_trim_nothing),
        cmocka_unit_test(a_clock_that_steps_there_and_back_trims_nothing),
        cmocka_unit_test(serves_without_a_controller), cmocka_unit_test(an_unknown_entry_stops_the_replica), cmocka_unit_test(a_name_made_anew_is_another_stream),
        cmocka_unit_test(readers_that_hang_do_not_starve_others),
    };
    if (argc > 1) {
        cmocka_set_test_filter(argv[1]);
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
