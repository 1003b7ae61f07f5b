/* Each shim rule that can be switched off: the scenario in which its absence does harm, played with the rule off and on. */
#include "raft_fixture.h"

static void isolate(struct world *w, unsigned i, bool on)
{
    for (unsigned j = 0; j < w->n_nodes; j++) {
        if (j != i) {
            sim_cut(w->sim, w->nodes[i].host, w->nodes[j].host, on);
            sim_cut(w->sim, w->nodes[j].host, w->nodes[i].host, on);
        }
    }
}

static void ignore(void *arg, int status) { (void)arg; (void)status; }

enum { VARIANTS = 8 };
static unsigned variant; /* of the story that is played: another seed, so other delays; set before the fork */

static bool safe_in_child(bool (*play)(unsigned disable), unsigned disable)
{
    fflush(stdout);
    fflush(stderr);
    pid_t pid = fork();
    if (pid == 0) {
        alarm(60);
        _exit(play(disable) ? 0 : 3);
    }
    int status = 0;
    CHECK(waitpid(pid, &status, 0) == pid);
    CHECK(!WIFEXITED(status) || WEXITSTATUS(status) == 0 || WEXITSTATUS(status) == 3);
    return WIFEXITED(status) && WEXITSTATUS(status) == 0; /* a failed assertion of ours is harm too */
}

/* With the rules every seed is safe; without those in `disable` harm is seen. */
static void rule_matters(bool (*play)(unsigned disable), unsigned disable)
{
    unsigned harmful = 0;
    for (variant = 0; variant < VARIANTS; variant++) {
        if (!safe_in_child(play, 0)) {
            fail_msg("variant %u is harmful with all rules", variant);
        }
        harmful += !safe_in_child(play, disable);
    }
    variant = 0;
    printf("without rules %#x: harm with %u of %u seeds\n", disable, harmful, VARIANTS);
    if (harmful == 0) {
        fail_msg("without rules %#x no seed does harm", disable);
    }
}

/* R1, B1: a follower with leftovers of an old term vouches for them to a new leader, which commits an entry that only it has, and dies. */
static bool false_ack(unsigned disable)
{
    struct world *w = world_new(21 + 100 * variant, 3, 1);
    w->disable = disable;
    w->quiet_violations = true;
    world_start(w);
    CHECK(world_await_leaders(w, 5000) >= 0);
    unsigned old = (unsigned)world_leader(w, 1);
    for (unsigned i = 0; i < 20; i++) {
        world_put(w, 1, 100);
        run_ms(w, 5);
    }
    run_ms(w, 300);
    isolate(w, old, true);
    for (unsigned i = 0; i < 30; i++) { /* leftovers: only on the old leader */
        CHECK(node_put(w, old, 1, 1, 100, NULL) == 0);
    }
    uint64_t term = group_term(machine_of(w, old, 1)->g);
    int fresh = -1;
    for (unsigned ms = 0; ms < 5000 && fresh < 0; ms++) {
        run_ms(w, 1);
        int l = world_leader(w, 1);
        fresh = l >= 0 && l != (int)old && group_term(machine_of(w, (unsigned)l, 1)->g) > term ? l : -1;
    }
    CHECK(fresh >= 0);
    unsigned third = 3 - old - (unsigned)fresh;
    isolate(w, third, true);
    sim_cut(w->sim, w->nodes[old].host, w->nodes[fresh].host, false);
    sim_cut(w->sim, w->nodes[fresh].host, w->nodes[old].host, false);
    /* The answer to the first heartbeat after the cut meets new entries of the leader. */
    sim_set_net(w->sim, &(struct sim_net){.delay_ns = {30 * MS, 30 * MS}});
    struct group *g = machine_of(w, (unsigned)fresh, 1)->g;
    unsigned at;
    CHECK(group_server(g, raft_id_make(old + 1, 1), &at) != NULL);
    for (unsigned ms = 0; ms < 3000 && links_epoch(groups_links(w->nodes[fresh].gs), old + 1) == 0; ms++) {
        run_ms(w, 1);
    }
    uint64_t sent_ms = g->raft.leader_state.progress[at].last_send;
    for (unsigned ms = 0; ms < 1000 && g->raft.leader_state.progress[at].last_send == sent_ms; ms++) {
        run_ms(w, 1);
    }
    unsigned done = w->done;
    for (unsigned i = 0; i < 10; i++) {
        node_put(w, (unsigned)fresh, 1, 1, 100, NULL);
        run_ms(w, 4);
    }
    for (unsigned ms = 0; ms < 1000 && w->done == done; ms++) { /* it dies with the first acknowledgement */
        run_ms(w, 1);
    }
    CHECK(w->done > done);
    node_crash(w, (unsigned)fresh, SIM_CRASH_POWER);
    isolate(w, third, false);
    CHECK(world_await_leaders(w, 10000) >= 0);
    for (unsigned i = 0; i < 10; i++) {
        world_put(w, 1, 100);
        run_ms(w, 20);
    }
    node_start(w, (unsigned)fresh);
    run_ms(w, 5000);
    world_check(w, false);
    return w->violations == 0 && w->exits == 0;
}

static void apart(struct world *w, unsigned mask, bool on)
{
    for (unsigned i = 0; i < w->n_nodes; i++) {
        for (unsigned j = 0; j < w->n_nodes; j++) {
            if ((mask >> i & 1) != (mask >> j & 1)) {
                sim_cut(w->sim, w->nodes[i].host, w->nodes[j].host, on);
            }
        }
    }
}

static int await_other_leader(struct world *w, unsigned not_mask)
{
    for (unsigned ms = 0; ms < 10000; ms++) {
        run_ms(w, 1);
        for (unsigned i = 0; i < w->n_nodes; i++) {
            if ((not_mask >> i & 1) == 0 && node_up(w, i) && group_ready(machine_of(w, i, 1)->g)) {
                return (int)i;
            }
        }
    }
    return -1;
}

/* R1, B6, with R3 in force: a follower's slow disk finishes entries of an old leader when a leader two terms later has asked for something that the follower had to
 * refuse. libraft answers the new leader with all that is stored now: an acknowledgement of entries that the follower never got. */
static bool late_ack(unsigned disable)
{
    struct world *w = world_new(31 + 100 * variant, 5, 1);
    w->disable = disable;
    w->quiet_violations = true;
    world_start(w);
    CHECK(world_await_leaders(w, 5000) >= 0);
    unsigned old = (unsigned)world_leader(w, 1), slow = (old + 1) % 5;
    for (unsigned i = 0; i < 20; i++) {
        world_put(w, 1, 100);
        run_ms(w, 5);
    }
    run_ms(w, 300);
    unsigned two = 1u << old | 1u << slow;
    apart(w, two, true);
    sim_host_set_disk(w->nodes[slow].host, &(struct sim_disk){.sync_ns = {4000 * MS, 4000 * MS}, .write_ns = {10000, 20000}, .read_ns = {10000, 20000}});
    for (unsigned i = 0; i < 30; i++) {
        CHECK(node_put(w, old, 1, 1, 100, NULL) == 0);
    }
    run_ms(w, 20);
    int x = await_other_leader(w, two);
    CHECK(x >= 0);
    for (unsigned i = 0; i < 4; i++) {
        node_put(w, (unsigned)x, 1, 1, 100, NULL);
        run_ms(w, 5);
    }
    run_ms(w, 100);
    node_crash(w, (unsigned)x, SIM_CRASH_KILL);
    node_start(w, (unsigned)x);
    int y = await_other_leader(w, two | 1u << x);
    CHECK(y >= 0);
    /* The third leader sees the slow follower and one other, not the second leader. */
    unsigned z = 10 - old - slow - (unsigned)x - (unsigned)y;
    sim_host_set_disk(w->nodes[slow].host, &(struct sim_disk){.sync_ns = {1 * MS, 1 * MS}, .write_ns = {10000, 20000}, .read_ns = {10000, 20000}});
    apart(w, two, false);
    apart(w, 1u << old | 1u << x, true);
    sim_set_net(w->sim, &(struct sim_net){.delay_ns = {30 * MS, 30 * MS}});
    unsigned done = w->done;
    for (unsigned i = 0; i < 3000 && w->done == done; i++) { /* they die with the first acknowledgement */
        if (i % 30 == 0) {
            node_put(w, (unsigned)y, 1, 1, 100, NULL);
        }
        run_ms(w, 3);
    }
    CHECK(w->done > done);
    sim_cut(w->sim, w->nodes[y].host, w->nodes[slow].host, true);
    node_crash(w, (unsigned)y, SIM_CRASH_POWER);
    node_crash(w, z, SIM_CRASH_POWER);
    apart(w, 1u << old | 1u << x, false);
    sim_set_net(w->sim, &(struct sim_net){.delay_ns = {MS, MS}});
    run_ms(w, 3000);
    for (unsigned i = 0; i < 10; i++) {
        world_put(w, 1, 100);
        run_ms(w, 20);
    }
    sim_cut(w->sim, w->nodes[y].host, w->nodes[slow].host, false);
    node_start(w, (unsigned)y);
    node_start(w, z);
    run_ms(w, 5000);
    world_check(w, false);
    return w->violations == 0 && w->exits == 0;
}

/* R2, B3: under an open stream of writes libraft commits next to nothing. */
static bool open_stream(unsigned disable)
{
    struct world *w = world_new(22 + 100 * variant, 3, 1);
    w->disable = disable;
    sim_set_net(w->sim, &(struct sim_net){.delay_ns = {3 * MS, 3 * MS}});
    world_start(w);
    CHECK(world_await_leaders(w, 5000) >= 0);
    unsigned sent = 0;
    for (unsigned i = 0; i < 1000; i++) {
        sent += world_put(w, 1, 100) == 0;
        run_ms(w, 1);
    }
    CHECK(sent > 900);
    printf("open stream with rules %#x off: %u of %u done\n", disable, w->done, sent);
    return w->done > sent * 9 / 10;
}

/* R3: a leader that takes writes before an entry of its own term has applied does not know where the offsets end. */
static bool early_writes(unsigned disable)
{
    struct world *w = world_new(23 + 100 * variant, 3, 1);
    w->disable = disable;
    w->quiet_violations = true;
    world_start(w);
    CHECK(world_await_leaders(w, 5000) >= 0);
    for (unsigned k = 0; k < 5; k++) {
        for (unsigned i = 0; i < 40; i++) {
            for (unsigned n = 0; n < 3; n++) {
                node_put(w, n, 1, 1, 100, NULL);
            }
            run_ms(w, 1);
        }
        int l = world_leader(w, 1);
        CHECK(l >= 0);
        node_crash(w, (unsigned)l, SIM_CRASH_KILL);
        for (unsigned i = 0; i < 100; i++) {
            for (unsigned n = 0; n < 3; n++) {
                if (node_up(w, n)) {
                    node_put(w, n, 1, 1, 100, NULL);
                }
            }
            run_ms(w, 1);
        }
        node_start(w, (unsigned)l);
        run_ms(w, 300);
    }
    world_check(w, false);
    return w->violations == 0;
}


/* R12, F15: a sole voter sends an entry before it is durable, loses power, leads again in the same term and writes another one with the same index and term. */
static bool sole_voter(unsigned disable)
{
    struct world *w = world_new(24 + 100 * variant, 2, 1);
    w->disable = disable;
    w->quiet_violations = true;
    w->n_members = 1;
    world_start(w);
    CHECK(world_await_leaders(w, 5000) >= 0);
    machine_open(&w->nodes[1], 1, raft_id_make(2, 1), NULL, 0, NULL);
    run_ms(w, 100);
    CHECK(group_change(machine_of(w, 0, 1)->g, GROUP_ADD_SPARE, raft_id_make(2, 1), ignore, NULL) == 0);
    run_ms(w, 100);
    CHECK(group_change(machine_of(w, 0, 1)->g, GROUP_ASSIGN_STANDBY, raft_id_make(2, 1), ignore, NULL) == 0);
    run_ms(w, 1000);
    for (unsigned i = 0; i < 20; i++) {
        CHECK(world_put(w, 1, 100) == 0);
        run_ms(w, 10);
    }
    run_ms(w, 1000);
    sim_host_set_disk(w->nodes[0].host, &(struct sim_disk){.sync_ns = {400 * MS, 400 * MS}, .write_ns = {400 * MS, 400 * MS}, .read_ns = {10000, 20000}});
    CHECK(world_put(w, 1, 100) == 0);
    run_ms(w, 100); /* at the standby by now, not yet synced here */
    node_crash(w, 0, SIM_CRASH_POWER);
    sim_host_set_disk(w->nodes[0].host, &(struct sim_disk){.sync_ns = {1 * MS, 1 * MS}, .write_ns = {10000, 20000}, .read_ns = {10000, 20000}});
    node_start(w, 0);
    CHECK(world_await_leaders(w, 5000) >= 0);
    for (unsigned i = 0; i < 20; i++) {
        world_put(w, 1, 100);
        run_ms(w, 50);
    }
    run_ms(w, 2000);
    world_check(w, false);
    return w->violations == 0;
}

static void link_between(struct world *w, unsigned a, unsigned b, bool on)
{
    sim_cut(w->sim, w->nodes[a].host, w->nodes[b].host, !on);
    sim_cut(w->sim, w->nodes[b].host, w->nodes[a].host, !on);
}

/* R5: a vote that leaves before it is durable is forgotten in a power cut and given again: two leaders in a term. */
static bool forgotten_vote(unsigned disable)
{
    struct world *w = world_new(27 + 100 * variant, 3, 1);
    w->disable = disable;
    w->quiet_violations = true;
    world_start(w);
    CHECK(world_await_leaders(w, 5000) >= 0);
    unsigned c = (unsigned)world_leader(w, 1), a = 3;
    run_ms(w, 500);
    struct sim_disk slow = {.sync_ns = {1500 * MS, 1500 * MS}, .write_ns = {400 * MS, 400 * MS}, .read_ns = {10000, 20000}};
    struct sim_disk fast = {.sync_ns = {1 * MS, 1 * MS}, .write_ns = {10000, 20000}, .read_ns = {10000, 20000}};
    for (unsigned i = 0; i < 3; i++) {
        sim_host_set_disk(w->nodes[i].host, i == c ? &fast : &slow);
    }
    isolate(w, c, true);
    for (unsigned ms = 0; ms < 120000 && a == 3; ms++) {
        run_ms(w, 1);
        for (unsigned i = 0; i < 3; i++) {
            if (i != c && group_role(machine_of(w, i, 1)->g) == GROUP_LEADER) {
                a = i;
            }
        }
    }
    CHECK(a != 3);
    unsigned v = 3 - a - c;
    link_between(w, a, v, false);
    node_crash(w, v, SIM_CRASH_POWER);
    sim_host_set_disk(w->nodes[v].host, &fast);
    link_between(w, v, c, true);
    node_crash(w, c, SIM_CRASH_KILL);
    node_start(w, v);
    node_start(w, c);
    for (unsigned ms = 0; ms < 4000; ms++) {
        run_ms(w, 1);
        for (unsigned i = 0; i < 3; i++) {
            struct group *g = machine_of(w, i, 1)->g, *first = machine_of(w, a, 1)->g;
            if (i != a && group_role(g) == GROUP_LEADER && group_role(first) == GROUP_LEADER && group_term(g) == group_term(first)) {
                return false;
            }
        }
    }
    return w->violations == 0;
}

/* R7, B9: a change that was not committed when its node died is overwritten later; the node must fall back to the configuration before it. */
static bool forgotten_change(unsigned disable)
{
    struct world *w = world_new(28 + 100 * variant, 3, 1);
    w->disable = disable;
    world_start(w);
    CHECK(world_await_leaders(w, 5000) >= 0);
    for (unsigned i = 0; i < 20; i++) {
        CHECK(world_put(w, 1, 100) == 0);
        run_ms(w, 10);
    }
    unsigned l = (unsigned)world_leader(w, 1);
    isolate(w, l, true);
    CHECK(group_change(machine_of(w, l, 1)->g, GROUP_ADD_SPARE, raft_id_make(9, 1), ignore, NULL) == 0);
    run_ms(w, 100);
    node_crash(w, l, SIM_CRASH_KILL);
    CHECK(world_await_leaders(w, 5000) >= 0);
    CHECK(world_put(w, 1, 100) == 0);
    node_start(w, l);
    struct group_peer peers[8];
    CHECK(group_peers(machine_of(w, l, 1)->g, peers, 8) == 4);
    isolate(w, l, false);
    run_ms(w, 4000);
    world_check(w, true);
    return group_peers(machine_of(w, l, 1)->g, peers, 8) == 3;
}

/* R7: after a restart two changes lie above what is known to be committed. The second is overwritten; the first must stay in force. */
static bool second_change(unsigned disable)
{
    struct world *w = world_new(33 + 100 * variant, 3, 1);
    w->disable = disable;
    world_start(w);
    CHECK(world_await_leaders(w, 5000) >= 0);
    unsigned l = (unsigned)world_leader(w, 1);
    CHECK(group_change(machine_of(w, l, 1)->g, GROUP_ADD_SPARE, raft_id_make(8, 1), ignore, NULL) == 0);
    run_ms(w, 100);
    for (unsigned i = 0; i < 20; i++) {
        CHECK(world_put(w, 1, 100) == 0);
        run_ms(w, 10);
    }
    isolate(w, l, true);
    CHECK(group_change(machine_of(w, l, 1)->g, GROUP_ADD_SPARE, raft_id_make(9, 1), ignore, NULL) == 0);
    run_ms(w, 100);
    node_crash(w, l, SIM_CRASH_KILL);
    CHECK(world_await_leaders(w, 5000) >= 0);
    CHECK(world_put(w, 1, 100) == 0);
    node_start(w, l);
    struct group_peer peers[8];
    CHECK(group_peers(machine_of(w, l, 1)->g, peers, 8) == 5);
    isolate(w, l, false);
    run_ms(w, 4000);
    world_check(w, true);
    return group_peers(machine_of(w, l, 1)->g, peers, 8) == 4;
}

/* R6, B7: a follower that is installing a snapshot campaigns when the leader dies, and leads with a log and a machine that it does not have. */
static bool installing_candidate(unsigned disable)
{
    struct world *w = world_new(26 + 100 * variant, 3, 1);
    w->disable = disable;
    w->quiet_violations = true;
    w->snapshot_bytes = 32 << 10;
    w->trailing_bytes = 8 << 10;
    world_start(w);
    CHECK(world_await_leaders(w, 5000) >= 0);
    unsigned c = 1; /* first in the order of ranks */
    if (world_leader(w, 1) == 1) {
        CHECK(group_transfer(machine_of(w, 1, 1)->g, raft_id_make(1, 1), ignore, NULL) == 0);
        run_ms(w, 200);
    }
    node_crash(w, c, SIM_CRASH_KILL);
    for (unsigned i = 0; i < 400; i++) {
        world_put(w, 1, 500);
        run_ms(w, 5);
    }
    unsigned a = (unsigned)world_leader(w, 1);
    CHECK(a != c);
    sim_host_set_disk(w->nodes[c].host, &(struct sim_disk){.sync_ns = {1500 * MS, 1500 * MS}, .write_ns = {10000, 20000}, .read_ns = {10000, 20000}});
    node_start(w, c);
    for (unsigned ms = 0; ms < 5000 && !group_installing(machine_of(w, c, 1)->g); ms++) {
        run_ms(w, 1);
    }
    CHECK(group_installing(machine_of(w, c, 1)->g));
    node_crash(w, a, SIM_CRASH_KILL);
    for (unsigned i = 0; i < 1500; i++) {
        world_put(w, 1, 100);
        run_ms(w, 5);
    }
    sim_host_set_disk(w->nodes[c].host, &(struct sim_disk){.sync_ns = {1 * MS, 1 * MS}, .write_ns = {10000, 20000}, .read_ns = {10000, 20000}});
    node_start(w, a);
    run_ms(w, 6000);
    if (w->violations > 0 || w->exits > 0) {
        return false;
    }
    if (world_await_leaders(w, 5000) < 0) {
        return false;
    }
    world_check(w, true);
    return w->violations == 0;
}

/* R9: entries for a peer that was away go in pieces that are bounded. */
static bool bounded_messages(unsigned disable)
{
    struct world *w = world_new(25 + 100 * variant, 3, 1);
    w->disable = disable;
    w->snapshot_bytes = 64 << 20;
    world_start(w);
    CHECK(world_await_leaders(w, 5000) >= 0);
    unsigned l = (unsigned)world_leader(w, 1), away = (l + 1) % 3;
    node_crash(w, away, SIM_CRASH_KILL);
    run_ms(w, 500);
    for (unsigned i = 0; i < 200; i++) {
        CHECK(world_put(w, 1, 60000) == 0);
        run_ms(w, 10);
    }
    node_start(w, away);
    uint64_t most = 0;
    for (unsigned i = 0; i < 5000; i++) {
        struct links_stats s;
        links_stats(groups_links(w->nodes[l].gs), &s);
        most = max_u64(most, s.queued);
        run_ms(w, 1);
    }
    printf("most bytes queued with rules %#x off: %llu\n", disable, (unsigned long long)most);
    world_check(w, (disable & GROUP_RULE_R9) == 0);
    return most <= 2 << 20;
}

/* ---- elections that libraft alone would never end ---- */

static void slow_disk(struct world *w, unsigned i, bool on)
{
    struct sim_disk d = {.sync_ns = {1 * MS, 1 * MS}, .write_ns = {10000, 20000}, .read_ns = {10000, 20000}};
    if (on) {
        d.sync_ns = (struct sim_range){4000 * MS, 4000 * MS};
    }
    sim_host_set_disk(w->nodes[i].host, &d);
}

static bool leads_within(struct world *w, unsigned ms)
{
    for (; ms > 0; ms--) {
        run_ms(w, 1);
        for (unsigned i = 0; i < w->n_nodes; i++) {
            if (node_up(w, i) && w->nodes[i].machines[1] != NULL && group_ready(machine_of(w, i, 1)->g)) {
                return true;
            }
        }
    }
    return false;
}

/* Two of three are left: one has the longer log, the other one the higher term. The pre-vote of the first is refused for its term, which it must come to know. */
static bool longer_log_lower_term(unsigned disable)
{
    (void)disable;
    struct world *w = world_new(41 + 100 * variant, 3, 1);
    world_start(w);
    CHECK(world_await_leaders(w, 5000) >= 0);
    unsigned a = (unsigned)world_leader(w, 1), b = (a + 2) % 3, c = (a + 1) % 3; /* b campaigns first, by the order that the hash of the group gives */
    run_ms(w, 500);
    uint64_t term = group_term(machine_of(w, a, 1)->g);
    isolate(w, a, true);
    slow_disk(w, c, true); /* its votes come too late */
    for (unsigned i = 0; i < 10; i++) {
        CHECK(node_put(w, a, 1, 1, 100, NULL) == 0);
    }
    for (unsigned ms = 0; ms < 20000 && group_term(machine_of(w, b, 1)->g) < term + 2; ms++) {
        run_ms(w, 1);
    }
    CHECK(group_term(machine_of(w, b, 1)->g) >= term + 2);
    node_crash(w, c, SIM_CRASH_POWER);
    CHECK(group_role(machine_of(w, b, 1)->g) != GROUP_LEADER);
    node_crash(w, b, SIM_CRASH_KILL);
    node_start(w, b);
    for (unsigned ms = 0; ms < 10000 && group_role(machine_of(w, a, 1)->g) == GROUP_LEADER; ms++) {
        run_ms(w, 1);
    }
    isolate(w, a, false);
    return leads_within(w, 10000);
}

/* A promotion is known to two voters of four; the third is gone for good, the fourth is the new voter, which has not heard of it. */
static bool unaware_voter(unsigned disable)
{
    (void)disable;
    struct world *w = world_new(42 + 100 * variant, 4, 1);
    w->n_members = 3;
    world_start(w);
    CHECK(leads_within(w, 5000));
    unsigned l = (unsigned)world_leader(w, 1), x = (l + 1) % 3, z = (l + 2) % 3;
    uint64_t id = raft_id_make(4, 1);
    machine_open(&w->nodes[3], 1, id, NULL, 0, NULL);
    run_ms(w, 100);
    CHECK(group_change(machine_of(w, l, 1)->g, GROUP_ADD_SPARE, id, ignore, NULL) == 0);
    run_ms(w, 200);
    CHECK(group_change(machine_of(w, l, 1)->g, GROUP_ASSIGN_STANDBY, id, ignore, NULL) == 0);
    run_ms(w, 1000);
    node_crash(w, z, SIM_CRASH_KILL);
    isolate(w, 3, true);
    run_ms(w, 50);
    CHECK(world_leader(w, 1) == (int)l);
    CHECK(group_change(machine_of(w, l, 1)->g, GROUP_ASSIGN_VOTER, id, ignore, NULL) == 0);
    run_ms(w, 50);
    struct group_peer peers[8];
    CHECK(group_peers(machine_of(w, x, 1)->g, peers, 8) == 4 && peers[3].voter);
    node_crash(w, l, SIM_CRASH_KILL);
    node_start(w, l);
    isolate(w, 3, false);
    return leads_within(w, 10000);
}

static void elections_end(void **state)
{
    (void)state;
    for (variant = 0; variant < VARIANTS; variant++) {
        assert_true(safe_in_child(longer_log_lower_term, 0));
        assert_true(safe_in_child(unaware_voter, 0));
    }
    variant = 0;
}

static void r1_ack_clamp(void **state)
{
    (void)state;
    rule_matters(false_ack, GROUP_RULE_R3 | GROUP_RULE_R1);
    rule_matters(late_ack, GROUP_RULE_R1);
}

static void r2_hold_back(void **state)
{
    (void)state;
    rule_matters(open_stream, GROUP_RULE_R2);
}

static void r3_own_term(void **state)
{
    (void)state;
    rule_matters(early_writes, GROUP_RULE_R3);
}

static void r5_persist_before_send(void **state)
{
    (void)state;
    rule_matters(forgotten_vote, GROUP_RULE_R5);
}

static void r7_membership(void **state)
{
    (void)state;
    rule_matters(forgotten_change, GROUP_RULE_R7);
    rule_matters(second_change, GROUP_RULE_R7);
}

static void r6_installing(void **state)
{
    (void)state;
    rule_matters(installing_candidate, GROUP_RULE_R6);
}

static void r9_fragments(void **state)
{
    (void)state;
    rule_matters(bounded_messages, GROUP_RULE_R9);
}

static void r12_sole_voter(void **state)
{
    (void)state;
    rule_matters(sole_voter, GROUP_RULE_R12);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(r1_ack_clamp), cmocka_unit_test(r2_hold_back),   cmocka_unit_test(r3_own_term),
        cmocka_unit_test(r5_persist_before_send), cmocka_unit_test(r6_installing), cmocka_unit_test(r7_membership), cmocka_unit_test(r9_fragments), cmocka_unit_test(r12_sole_voter),
        cmocka_unit_test(elections_end),
    };
    if (argc > 1) {
        cmocka_set_test_filter(argv[1]);
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
