/* Three nodes in a simulated world: electing, proposing, crashing, coming back. */
#include "raft_fixture.h"

/* A new group is writable soon, and what is proposed is applied everywhere. */
STORY(elects_and_applies)
{
    struct world *w = world_new(1, 3, 3);
    world_start(w);
    int64_t ms = world_await_leaders(w, 5000);
    printf("ready after %lld ms\n", (long long)ms);
    CHECK(ms >= 0 && ms < 200);
    for (unsigned i = 0; i < 300; i++) {
        for (uint64_t g = 1; g <= 3; g++) {
            CHECK(world_put(w, g, 100) == 0);
        }
        run_ms(w, 2);
    }
    run_ms(w, 100);
    CHECK(w->done == 900 && w->unknown == 0);
    world_check(w, true);
}

static void await_ready(struct world *w)
{
    int64_t ms = world_await_leaders(w, 10000);
    CHECK(ms >= 0);
}

/* Runs with a put per group and 5 ms. */
static void traffic(struct world *w, unsigned ms)
{
    for (unsigned i = 0; i < ms / 5; i++) {
        for (uint64_t g = 1; g <= w->n_groups; g++) {
            world_put(w, g, 200);
        }
        run_ms(w, 5);
    }
}

static void settle(struct world *w)
{
    CHECK(world_await_leaders(w, 10000) >= 0);
    for (uint64_t g = 1; g <= w->n_groups; g++) {
        CHECK(world_put(w, g, 10) == 0);
    }
    run_ms(w, 4000);
    world_check(w, true);
}

/* The death of a leader is seen as a reset connection: others lead within 300 ms (p50) and 1 s at most. */
static void kill_leaders(enum sim_crash how)
{
    struct world *w = world_new(2 + how, 3, 3);
    world_start(w);
    await_ready(w);
    uint64_t times[20];
    for (unsigned k = 0; k < 20; k++) {
        traffic(w, 300);
        int l = world_leader(w, 1 + k % 3);
        CHECK(l >= 0);
        node_crash(w, (unsigned)l, how);
        if (how == SIM_CRASH_POWER) { /* the cable is cut as well: nobody is told by a reset */
            for (unsigned i = 0; i < 3; i++) {
                if ((int)i != l) {
                    sim_reset_connections(w->sim, w->nodes[i].host, w->nodes[l].host);
                }
            }
        }
        int64_t ms = world_await_leaders(w, 20000);
        CHECK(ms >= 0);
        times[k] = (uint64_t)ms;
        traffic(w, 200);
        node_start(w, (unsigned)l);
        run_ms(w, 1000);
    }
    for (unsigned i = 1; i < 20; i++) {
        for (unsigned j = i; j > 0 && times[j] < times[j - 1]; j--) {
            uint64_t t = times[j];
            times[j] = times[j - 1];
            times[j - 1] = t;
        }
    }
    printf("failover: p50 %llu ms, max %llu ms; %u done, %u unknown\n", (unsigned long long)times[10], (unsigned long long)times[19], w->done, w->unknown);
    CHECK(times[10] < 300 && times[19] < 1000);
    settle(w);
}

STORY(leader_killed) { kill_leaders(SIM_CRASH_KILL); }
STORY(leader_loses_power) { kill_leaders(SIM_CRASH_POWER); }

/* A leader that falls silent is replaced within 2 s. */
STORY(leader_paused)
{
    struct world *w = world_new(7, 3, 3);
    world_start(w);
    await_ready(w);
    for (unsigned k = 0; k < 10; k++) {
        traffic(w, 300);
        int l = world_leader(w, 1 + k % 3);
        CHECK(l >= 0);
        uint64_t term = group_term(machine_of(w, (unsigned)l, 1 + k % 3)->g), start = now_ms(w);
        sim_process_pause(w->nodes[l].host, true);
        while (now_ms(w) - start < 5000) {
            int n = world_leader(w, 1 + k % 3);
            if (n >= 0 && n != l && group_term(machine_of(w, (unsigned)n, 1 + k % 3)->g) > term) {
                break;
            }
            run_ms(w, 1);
        }
        printf("silent leader replaced after %llu ms\n", (unsigned long long)(now_ms(w) - start));
        CHECK(now_ms(w) - start < 2000);
        sim_process_pause(w->nodes[l].host, false);
        run_ms(w, 1500);
    }
    settle(w);
}

/* All nodes die at once, in every way, and come back with everything that was acknowledged. */
STORY(all_restart)
{
    struct world *w = world_new(8, 3, 4);
    world_start(w);
    await_ready(w);
    for (unsigned k = 0; k < 12; k++) {
        traffic(w, 400);
        for (unsigned i = 0; i < 3; i++) {
            node_crash(w, i, k % 2 == 0 ? SIM_CRASH_POWER : SIM_CRASH_KILL);
        }
        run_ms(w, 100);
        world_start(w);
        int64_t ms = world_await_leaders(w, 10000);
        printf("cluster of 3 ready %lld ms after a restart of all\n", (long long)ms);
        CHECK(ms >= 0 && ms < 1200);
    }
    settle(w);
}

/* A node that was away long gets the snapshot of the moment and the batches behind it from the leader's journal. */
STORY(catches_up_by_snapshot)
{
    struct world *w = world_new(9, 3, 2);
    w->snapshot_bytes = 64 << 10;
    w->trailing_bytes = 32 << 10;
    world_start(w);
    await_ready(w);
    for (unsigned k = 0; k < 4; k++) {
        traffic(w, 300);
        unsigned away = k % 3;
        node_crash(w, away, SIM_CRASH_KILL);
        await_ready(w);
        for (unsigned i = 0; i < 600; i++) {
            world_put(w, 1, 2000);
            world_put(w, 2, 1000);
            run_ms(w, 2);
        }
        node_start(w, away);
        for (unsigned i = 0; i < 400; i++) { /* while others write on */
            world_put(w, 1, 2000);
            world_put(w, 2, 1000);
            run_ms(w, 5);
        }
        run_ms(w, 2000);
        struct machine *m = machine_of(w, away, 1);
        printf("node %u: %llu installs, %llu batches seeded, last %llu\n", away, (unsigned long long)m->installs, (unsigned long long)m->seeded,
               (unsigned long long)m->last_index);
        CHECK(m->installs >= 1 && m->seeded > 0);
        settle(w);
    }
    for (unsigned i = 0; i < 3; i++) {
        node_crash(w, i, SIM_CRASH_POWER);
    }
    world_start(w);
    settle(w);
}

/* One node alone: ready at once, at first and after each restart, in a new term each time (R12). */
STORY(single_voter)
{
    struct world *w = world_new(10, 1, 3);
    uint64_t term = 0;
    for (unsigned k = 0; k < 5; k++) {
        world_start(w);
        int64_t ms = world_await_leaders(w, 5000);
        CHECK(ms >= 0 && ms < 30);
        CHECK(group_term(machine_of(w, 0, 1)->g) > term);
        term = group_term(machine_of(w, 0, 1)->g);
        traffic(w, 200);
        CHECK(w->done > k * 100);
        node_crash(w, 0, k % 2 == 0 ? SIM_CRASH_POWER : SIM_CRASH_KILL);
    }
    world_start(w);
    settle(w);
}

static int change_status;
static void changed(void *arg, int status) { (void)arg; change_status = status; }

static void change(struct world *w, uint64_t group, enum group_change_kind kind, uint64_t id)
{
    uint64_t start = now_ms(w);
    for (;;) {
        int l = world_leader(w, group);
        change_status = -1;
        int rv = l < 0 ? SLUICE_E_NOT_LEADER : group_change(machine_of(w, (unsigned)l, group)->g, kind, id, changed, NULL);
        while (rv == 0 && change_status == -1 && now_ms(w) - start < 20000) {
            run_ms(w, 1);
        }
        if (rv == 0 && change_status == 0) {
            return;
        }
        if (now_ms(w) - start >= 20000) {
            fprintf(stderr, "change %d of %llx: %d, %d\n", kind, (unsigned long long)id, rv, change_status);
            CHECK(!"a change that never ends");
        }
        run_ms(w, 20);
    }
}

static void join(struct world *w, unsigned node, uint64_t group, uint32_t generation)
{
    machine_open(&w->nodes[node], group, raft_id_make(node + 1, generation), NULL, 0, NULL);
    run_ms(w, 20);
}

static void closed(void *arg) { *(bool *)arg = true; }

/* A replica is replaced: the new one joins as spare, is seeded, promoted; the old one is removed and closed for ever. */
STORY(replaces_a_member)
{
    struct world *w = world_new(11, 4, 2);
    w->n_members = 3;
    w->snapshot_bytes = 64 << 10;
    w->trailing_bytes = 16 << 10;
    world_start(w);
    await_ready(w);
    traffic(w, 3000);
    join(w, 3, 1, 1);
    change(w, 1, GROUP_ADD_SPARE, raft_id_make(4, 1));
    change(w, 1, GROUP_ASSIGN_STANDBY, raft_id_make(4, 1));
    traffic(w, 1000);
    change(w, 1, GROUP_ASSIGN_VOTER, raft_id_make(4, 1));
    CHECK(machine_of(w, 3, 1)->installs == 1);
    traffic(w, 200);
    unsigned old = world_leader(w, 1) == 0 ? 1 : 0;
    change(w, 1, GROUP_REMOVE, raft_id_make(old + 1, 1));
    bool over = false;
    group_close(machine_of(w, old, 1)->g, true, closed, &over);
    machine_of(w, old, 1)->g = NULL;
    traffic(w, 300);
    CHECK(over);
    struct group_peer peers[8];
    CHECK(group_peers(machine_of(w, 3, 1)->g, peers, 8) == 3);
    settle(w);
    for (unsigned i = 0; i < 4; i++) {
        node_crash(w, i, SIM_CRASH_POWER);
    }
    world_start(w);
    settle(w);
    CHECK(machine_of(w, old, 1) == NULL);
    CHECK(machine_of(w, 3, 1) != NULL && group_joined(machine_of(w, 3, 1)->g));
}

/* From one voter to three, and back to one after hand-overs; the leader of two is never removed. */
STORY(grows_and_shrinks)
{
    struct world *w = world_new(12, 3, 1);
    w->n_members = 1;
    world_start(w);
    await_ready(w);
    traffic(w, 500);
    for (unsigned i = 1; i < 3; i++) {
        join(w, i, 1, 1);
        change(w, 1, GROUP_ADD_SPARE, raft_id_make(i + 1, 1));
        change(w, 1, GROUP_ASSIGN_STANDBY, raft_id_make(i + 1, 1));
        traffic(w, 300);
        change(w, 1, GROUP_ASSIGN_VOTER, raft_id_make(i + 1, 1));
        traffic(w, 300);
    }
    settle(w);
    unsigned l = (unsigned)world_leader(w, 1), gone = (l + 1) % 3, stays = (l + 2) % 3;
    change(w, 1, GROUP_REMOVE, raft_id_make(gone + 1, 1));
    l = (unsigned)world_leader(w, 1);
    stays = 3 - gone - l;
    CHECK(group_change(machine_of(w, l, 1)->g, GROUP_REMOVE, raft_id_make(l + 1, 1), changed, NULL) == SLUICE_E_CONFLICT);
    change_status = -1;
    CHECK(group_transfer(machine_of(w, l, 1)->g, 0, changed, NULL) == 0);
    run_ms(w, 200);
    CHECK(change_status == 0 && world_leader(w, 1) == (int)stays);
    change(w, 1, GROUP_REMOVE, raft_id_make(l + 1, 1));
    traffic(w, 300);
    CHECK(world_leader(w, 1) == (int)stays);
    node_crash(w, stays, SIM_CRASH_POWER);
    node_start(w, stays);
    int64_t ms = world_await_leaders(w, 5000);
    CHECK(ms >= 0 && ms < 100 && world_leader(w, 1) == (int)stays);
    traffic(w, 100);
    CHECK(w->violations == 0);
}

/* Hand-over takes milliseconds; to a dead target it is given up after 150 ms and writes go on (F23). */
STORY(transfers)
{
    struct world *w = world_new(13, 3, 1);
    world_start(w);
    await_ready(w);
    for (unsigned k = 0; k < 10; k++) {
        traffic(w, 100);
        unsigned l = (unsigned)world_leader(w, 1);
        change_status = -1;
        CHECK(group_transfer(machine_of(w, l, 1)->g, raft_id_make((l + 1) % 3 + 1, 1), changed, NULL) == 0);
        uint64_t start = now_ms(w);
        while (change_status == -1) {
            run_ms(w, 1);
        }
        CHECK(change_status == 0);
        CHECK(world_await_leaders(w, 100) >= 0 && world_leader(w, 1) == (int)((l + 1) % 3));
        CHECK(now_ms(w) - start < 60);
    }
    unsigned l = (unsigned)world_leader(w, 1), t = (l + 1) % 3;
    sim_process_pause(w->nodes[t].host, true);
    run_ms(w, 5);
    change_status = -1;
    uint64_t start = now_ms(w);
    CHECK(group_transfer(machine_of(w, l, 1)->g, raft_id_make(t + 1, 1), changed, NULL) == 0);
    CHECK(world_put(w, 1, 10) != 0);
    while (change_status == -1) {
        run_ms(w, 1);
    }
    CHECK(change_status == SLUICE_E_TIMEOUT && now_ms(w) - start < 200);
    CHECK(world_put(w, 1, 10) == 0);
    sim_process_pause(w->nodes[t].host, false);
    settle(w);
}

static int fresh_status;
static void fresh_done(struct group_fresh *f, int status) { (void)f; fresh_status = status; }

/* A fresh read costs a round; a leader that was cut off and replaced cannot serve one. */
STORY(fresh_reads)
{
    struct world *w = world_new(14, 3, 1);
    world_start(w);
    await_ready(w);
    traffic(w, 100);
    unsigned l = (unsigned)world_leader(w, 1);
    struct group_fresh f;
    fresh_status = -1;
    group_fresh_read(machine_of(w, l, 1)->g, &f, fresh_done);
    CHECK(fresh_status == -1);
    run_ms(w, 10);
    CHECK(fresh_status == 0);
    fresh_status = -1;
    group_fresh_read(machine_of(w, (l + 1) % 3, 1)->g, &f, fresh_done);
    run_ms(w, 10);
    CHECK(fresh_status == SLUICE_E_NOT_LEADER);
    for (unsigned i = 0; i < 3; i++) {
        if (i != l) {
            sim_cut(w->sim, w->nodes[l].host, w->nodes[i].host, true);
            sim_cut(w->sim, w->nodes[i].host, w->nodes[l].host, true);
        }
    }
    run_ms(w, 1500);
    int n = world_leader(w, 1);
    CHECK(n >= 0 && n != (int)l);
    CHECK(group_role(machine_of(w, l, 1)->g) == GROUP_LEADER); /* still thinks so */
    CHECK(group_contact_age_ms(machine_of(w, l, 1)->g) > 500);
    CHECK(world_put(w, 1, 10) == 0);
    fresh_status = -1;
    group_fresh_read(machine_of(w, l, 1)->g, &f, fresh_done);
    run_ms(w, 4000);
    CHECK(fresh_status == SLUICE_E_TIMEOUT || fresh_status == SLUICE_E_NOT_LEADER);
    for (unsigned i = 0; i < 3; i++) {
        sim_cut(w->sim, w->nodes[l].host, w->nodes[i].host, false);
        sim_cut(w->sim, w->nodes[i].host, w->nodes[l].host, false);
    }
    run_ms(w, 1000);
    settle(w);
}

/* Bounds: what is in flight, and one entry larger than every window (F24). */
STORY(bounds_and_large_entries)
{
    struct world *w = world_new(15, 3, 2);
    w->in_flight = 256 << 10;
    world_start(w);
    await_ready(w);
    unsigned taken = 0;
    while (world_put(w, 1, 10000) == 0) {
        taken++;
    }
    CHECK(taken >= 20 && taken <= 27);
    run_ms(w, 100);
    CHECK(w->done == taken);
    CHECK(world_put(w, 1, 10 << 20) == 0);
    CHECK(world_put(w, 1, 10) == SLUICE_E_BUSY);
    CHECK(world_put(w, 2, 10) == 0);
    run_ms(w, 1000);
    CHECK(w->done == taken + 2);
    settle(w);
}

/* Groups close while everything is under way; futures end as unknown; nothing leaks (ASan). */
static void gs_closed(void *arg) { *(bool *)arg = true; }
STORY(closes)
{
    struct world *w = world_new(16, 3, 3);
    world_start(w);
    await_ready(w);
    traffic(w, 100);
    for (unsigned i = 0; i < 20; i++) {
        for (uint64_t g = 1; g <= 3; g++) {
            world_put(w, g, 3000);
        }
    }
    unsigned before = w->done;
    bool over[3] = {false};
    for (unsigned i = 0; i < 3; i++) {
        w->nodes[i].closed = true;
        groups_close(w->nodes[i].gs, gs_closed, &over[i]);
    }
    run_ms(w, 1000);
    CHECK(over[0] && over[1] && over[2]);
    CHECK(w->unknown + w->done == before + 60);
    CHECK(w->violations == 0);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(elects_and_applies), cmocka_unit_test(leader_killed),           cmocka_unit_test(leader_loses_power),
        cmocka_unit_test(leader_paused),      cmocka_unit_test(all_restart),             cmocka_unit_test(catches_up_by_snapshot),
        cmocka_unit_test(single_voter),       cmocka_unit_test(replaces_a_member),       cmocka_unit_test(grows_and_shrinks),
        cmocka_unit_test(transfers),          cmocka_unit_test(fresh_reads),             cmocka_unit_test(bounds_and_large_entries),
        cmocka_unit_test(closes),
    };
    if (argc > 1) {
        cmocka_set_test_filter(argv[1]);
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
