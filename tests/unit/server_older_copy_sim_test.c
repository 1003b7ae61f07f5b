/* F27, what the peers of a node remember of its journal: over their own restarts, between nodes with different numbers of lanes, and without keeping each other awake. */
#include "server_cluster_fixture.h"

static void expect_refused(struct world *w, unsigned i, unsigned exits)
{
    for (unsigned k = 0; k < 200 && w->nodes[i].exits < exits; k++) {
        run_ms(w, 100);
        CHECK(shard_on(w, i) == NULL || !shard_on(w, i)->leading);
    }
    CHECK(w->nodes[i].exits == exits && w->nodes[i].exit_code == ENV_EXIT_IDENTITY && strstr(w->nodes[i].why, "older") != NULL);
}

/* A copy of node i's disk, `puts` older than it, is put back after all the others were restarted `how`, `after_ms` after the last acknowledgement. */
static void after_restarts(struct world *w, unsigned puts, uint64_t after_ms, enum sim_crash how, bool all_at_once)
{
    world_open(w, 3);
    create_stream(w, 0, "s", 3);
    put_some(w, 20);
    run_ms(w, 1000);
    unsigned i = (leader(w) + 1) % 3;
    struct sim_disk_copy *copy = sim_disk_copy(w->nodes[i].host);
    put_some(w, puts);
    run_ms(w, after_ms);
    node_down(w, i, SIM_CRASH_POWER);
    for (unsigned k = 0; k < 3; k++) {
        if (k != i) {
            node_down(w, k, how);
            if (!all_at_once) {
                node_up(w, k);
                run_ms(w, 5000);
            }
        }
    }
    for (unsigned k = 0; k < 3 && all_at_once; k++) {
        if (k != i) {
            node_up(w, k);
        }
    }
    sim_disk_restore(w->nodes[i].host, copy);
    for (unsigned k = 1; k <= 3; k++) {
        node_up(w, i);
        expect_refused(w, i, k);
    }
    CHECK(await_leader(w, NO_NODE) != i);
    put_some(w, 5);
}

STORY(peers_remember_over_their_restarts) { after_restarts(w, 40, 1000, SIM_CRASH_KILL, false); }
/* Nothing followed that one acknowledgement: the others wrote down by themselves what they knew. */
STORY(peers_remember_what_was_last) { after_restarts(w, 1, 5000, SIM_CRASH_POWER, true); }
/* Cut down at work: what was acknowledged before went along with the flushes that followed. */
STORY(what_was_acknowledged_rides_with_the_next_flush) { after_restarts(w, 40, 0, SIM_CRASH_POWER, true); }

/* ---- lanes ---- */

static void one_three_two(struct settings *s, unsigned node)
{
    static const unsigned lanes[NODES] = {1, 3, 2, 1};
    s->lanes = lanes[node];
}

/* Positions are of one lane's journal, whichever lane of ours it talks to: an older copy is refused, and a node that only restarts never is. */
STORY(older_copies_are_refused_between_unequal_lanes)
{
    w->tune = one_three_two;
    world_open(w, 3);
    for (unsigned s = 0; s < 6; s++) {
        create_stream(w, s % 3, (char[]){(char)('a' + s), 0}, 3);
        put_some(w, 20);
    }
    for (unsigned round = 0; round < 9; round++) {
        unsigned i = round % 3;
        node_down(w, i, round % 2 == 0 ? SIM_CRASH_KILL : SIM_CRASH_POWER);
        node_up(w, i);
        run_ms(w, 3000);
        put_some(w, 3);
        for (unsigned k = 0; k < 3; k++) {
            CHECK(w->nodes[k].exits == 0);
        }
    }
    for (unsigned i = 0; i < 3; i++) {
        run_ms(w, 3000);
        struct sim_disk_copy *copy = sim_disk_copy(w->nodes[i].host), *now;
        put_some(w, 20);
        run_ms(w, 1000);
        node_down(w, i, SIM_CRASH_POWER);
        now = sim_disk_copy(w->nodes[i].host);
        sim_disk_restore(w->nodes[i].host, copy);
        node_up(w, i);
        expect_refused(w, i, 1);
        /* With its own disk it is welcome, but not under the number of the life that the copy began. */
        sim_disk_restore(w->nodes[i].host, now);
        for (unsigned k = 0; k < 2; k++) {
            if (!sim_process_up(w->nodes[i].host)) {
                node_up(w, i);
            }
            run_ms(w, 5000);
        }
        CHECK(w->nodes[i].node != NULL && w->nodes[i].exits <= 2 && await_agreement(w, 20000));
    }
}

static unsigned lanes_now[NODES];
static void lanes_by_hand(struct settings *s, unsigned node) { s->lanes = lanes_now[node]; }

/* Only the second lane of node 1 acknowledges anything that its copy lacks. It called the only lane of the others, and calls another one when they come back with more: what
 * one lane wrote down, that one knows. */
STORY(what_one_lane_wrote_down_another_knows)
{
    w->tune = lanes_by_hand;
    memcpy(lanes_now, (unsigned[NODES]){1, 2, 1, 1}, sizeof lanes_now);
    world_open(w, 3);
    create_stream(w, 0, "a", 3);
    create_stream(w, 0, "b", 3);
    CHECK(w->group % 2 == 1);
    put_some(w, 10);
    run_ms(w, 3000);
    struct sim_disk_copy *copy = sim_disk_copy(w->nodes[1].host);
    put_some(w, 20);
    run_ms(w, 5000);
    node_down(w, 1, SIM_CRASH_POWER);
    lanes_now[0] = lanes_now[2] = 3;
    for (unsigned round = 0; round < 2; round++) { /* the second time from the journals of the new lanes */
        for (unsigned k = 0; k < 3; k += 2) {
            node_down(w, k, SIM_CRASH_POWER);
            node_up(w, k);
        }
        run_ms(w, 5000);
    }
    sim_disk_restore(w->nodes[1].host, copy);
    node_up(w, 1);
    expect_refused(w, 1, 1);
}

/* ---- new disks ---- */

/* What was acknowledged by a disk that is gone is not asked of the new one: its first life was never seen here, and the map is not there yet. */
STORY(a_new_disk_is_not_an_older_copy)
{
    world_open(w, 3);
    create_stream(w, 0, "s", 3);
    put_some(w, 60);
    run_ms(w, 3000);
    unsigned l = 0, q = 1, p = 2;
    CHECK(w->nodes[l].node->controller != NULL);
    cut(w, p, q, true);
    node_down(w, q, SIM_CRASH_POWER);
    sim_disk_wipe(w->nodes[q].host);
    node_up(w, q);
    run_ms(w, 20000);
    for (unsigned k = 0; k < 3; k++) {
        node_down(w, q, SIM_CRASH_KILL);
        node_down(w, p, SIM_CRASH_KILL);
        node_down(w, l, SIM_CRASH_KILL);
        cut(w, p, q, k == 0);
        node_up(w, q);
        node_up(w, p);
        run_ms(w, 2000); /* p has no map newer than its disk */
        node_up(w, l);
        run_ms(w, 5000);
        CHECK(w->nodes[q].exits == 0 && w->nodes[p].exits == 0);
    }
    put_some(w, 10);
    CHECK(await_agreement(w, 20000));
}

/* ---- at rest ---- */

static uint64_t written(struct world *w)
{
    uint64_t n = 0;
    for (unsigned i = 0; i < 3; i++) {
        for (unsigned k = 0; k < w->nodes[i].node->n_lanes; k++) {
            struct journal_stats st;
            journal_stats(w->nodes[i].node->lanes[k]->journal, &st);
            n += st.flushes;
        }
    }
    return n;
}

/* A note moves the end of the journal that it is in; if that were told and noted in turn, idle nodes would write for ever. */
STORY(an_idle_cluster_writes_nothing)
{
    w->tune = one_three_two;
    world_open(w, 3);
    create_stream(w, 0, "s", 3);
    put_some(w, 20);
    run_ms(w, 60000);
    for (unsigned k = 0; k < 3; k++) {
        uint64_t before = written(w);
        run_ms(w, 60000);
        CHECK(written(w) == before);
        put_some(w, 1);
        uint64_t with_put = written(w);
        run_ms(w, 60000);
        printf("flushes of all nodes after one put: %llu\n", (unsigned long long)(written(w) - with_put));
        fflush(stdout);
        CHECK(written(w) - with_put <= 24); /* 3 replicas: the commit's notes, and an empty block that vouches for them */
    }
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(peers_remember_over_their_restarts), cmocka_unit_test(peers_remember_what_was_last),
        cmocka_unit_test(what_was_acknowledged_rides_with_the_next_flush), cmocka_unit_test(older_copies_are_refused_between_unequal_lanes),
        cmocka_unit_test(what_one_lane_wrote_down_another_knows), cmocka_unit_test(a_new_disk_is_not_an_older_copy), cmocka_unit_test(an_idle_cluster_writes_nothing),
    };
    if (argc > 1) {
        cmocka_set_test_filter(argv[1]);
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
