/* What a shard promises while leaders change, replicas lag and nodes restart: pending writes, idempotent producers, resolving, reads on followers, the state after a restart. */
#include "server_cluster_fixture.h"

static void ignore(void *arg, int status) { (void)arg; (void)status; }

/* Leadership goes to the replica on node `to`. */
static void hand_to_now(void *arg)
{
    struct test_node *t = arg;
    struct world *w = t->w;
    struct shard *s = shard_on(w, leader(w));
    CHECK(group_transfer(s->group, shard_on(w, t->at)->raft_id, ignore, NULL) == 0);
}

static void hand_to(struct world *w, unsigned to)
{
    for (unsigned k = 0; k < 50 && leader(w) != to; k++) {
        unsigned l = await_leader(w, NO_NODE);
        if (l != to) {
            sim_call(shard_on(w, l)->lane->env, sim_now_ns(w->sim), hand_to_now, &w->nodes[to]);
            run_ms(w, 300);
        }
    }
    CHECK(leader(w) == to);
}

static void set_disks(struct world *w, uint64_t sync_ms)
{
    for (unsigned i = 0; i < w->first; i++) {
        sim_host_set_disk(w->nodes[i].host, &(struct sim_disk){.sync_ns = {sync_ms * MS, sync_ms * MS}, .write_ns = {10000, 50000}, .read_ns = {10000, 50000}});
    }
}

/* An entry of the leader's own (close, trim), as the code that proposes such entries does it. */
struct own_entry { struct group_propose propose; struct world *w; struct shard_entry e; int status; };

static void own_done(struct group_propose *p, int status) { container_of(p, struct own_entry, propose)->status = status; }

static void propose_now(void *arg)
{
    struct own_entry *o = arg;
    struct shard *s = shard_on(o->w, leader(o->w));
    uint8_t bytes[SHARD_ENTRY_MAX];
    o->e.time_ms = shard_time(s);
    size_t n = shard_entry_encode(&o->e, bytes);
    void *data = group_buffer_alloc(n);
    memcpy(data, bytes, n);
    CHECK(group_propose(s->group, &o->propose, data, (uint32_t)n, 0, 0, 0, own_done) == 0);
    s->close_in_flight = s->close_in_flight || o->e.kind == SHARD_ENTRY_CLOSE;
}

static void propose(struct world *w, struct shard_entry e)
{
    struct own_entry *o = xcalloc(1, sizeof *o);
    o->w = w;
    o->e = e;
    o->status = -1;
    sim_call(shard_on(w, await_leader(w, NO_NODE))->lane->env, sim_now_ns(w->sim), propose_now, o);
    run_ms(w, 500);
    CHECK(o->status == 0);
}

/* F18: what is in flight belongs to one term. A leader that is cut off, replaced and comes back knows nothing of what it had proposed: the retry is neither told
 * "done" nor given an offset that leaves a gap. */
static void cut_off_leader(struct world *w)
{
    world_open(w, 3);
    create_stream(w, 0, "s", 3);
    struct producer p = {.id = {7}};
    unsigned old = leader(w);
    struct client *c = dial(w, old), *c2 = dial(w, old);
    for (uint64_t i = 0; i < 5; i++) {
        CHECK(put(c, &p, i, 2).code == 0);
    }
    cut_off(w, old, true);
    uint64_t pending = put_send(c, &p, 5, 3, 50);
    run_ms(w, 20);
    uint64_t again = put_send(c2, &p, 5, 3, 50);
    unsigned fresh = await_leader(w, old);
    CHECK(client_got(c, pending) == NULL && client_got(c2, again) == NULL); /* a duplicate of a pending batch waits for it */
    struct client *f = dial(w, fresh);
    CHECK(put(f, NULL, 0, 1).offset == 10); /* takes the place of the pending one */
    CHECK(decode(client_await(c, pending, 8000)).code == SLUICE_E_UNKNOWN_OUTCOME);
    CHECK(decode(client_await(c2, again, 8000)).code == SLUICE_E_UNKNOWN_OUTCOME);
    cut_off(w, old, false);
    run_ms(w, 2000);
    hand_to(w, old);
    c = dial(w, old);
    CHECK(resolve(c, &p, 5).outcome == SLUICE__RESOLVE_REPLY__OUTCOME__NOT_DONE);
    struct answer a = put(c, &p, 5, 3);
    CHECK(a.code == 0 && !a.duplicate && a.offset == 11);
    a = put(c, &p, 5, 3);
    CHECK(a.code == 0 && a.duplicate && a.offset == 11);
    CHECK(put(c, &p, 6, 1).offset == 14);
    CHECK(await_agreement(w, 5000));
    for (unsigned i = 0; i < 3; i++) {
        CHECK(w->nodes[i].exits == 0);
    }
}

static void f18_off(struct settings *s, unsigned node)
{
    (void)node;
    s->test_disable_server = SERVER_RULE_F18;
}

static void cut_off_leader_without_f18(struct world *w)
{
    w->tune = f18_off;
    cut_off_leader(w);
}

static void pending_ends_with_its_term(void **state)
{
    (void)state;
    assert_true(story_holds(cut_off_leader, 1));
    assert_true(story_holds(cut_off_leader, 2));
    assert_false(story_holds(cut_off_leader_without_f18, 1));
}

/* F18: a duplicate of a batch that is in flight is answered with it, not before. */
STORY(duplicate_of_a_pending_batch_waits)
{
    world_open(w, 3);
    create_stream(w, 0, "s", 3);
    struct producer p = {.id = {7}};
    struct client *c = dial(w, leader(w)), *c2 = dial(w, leader(w));
    CHECK(put(c, &p, 0, 2).code == 0);
    set_disks(w, 300);
    uint64_t first = put_send(c, &p, 1, 3, 50);
    run_ms(w, 20);
    uint64_t second = put_send(c2, &p, 1, 3, 50);
    run_ms(w, 100);
    CHECK(client_got(c, first) == NULL && client_got(c2, second) == NULL);
    struct answer a = decode(client_await(c, first, 5000)), b = decode(client_await(c2, second, 100));
    CHECK(a.code == 0 && !a.duplicate && a.offset == 2);
    CHECK(b.code == 0 && b.duplicate && b.offset == 2 && b.time_ms == a.time_ms && b.count == 3);
}

/* F20: gap, window, epochs and forgotten producers, as a producer sees them; also behind a change of leaders. */
static void few_producers(struct settings *s, unsigned node)
{
    (void)node;
    s->producers_per_shard = 16;
    s->snapshot_bytes = 2048;
    s->trailing_bytes = 256;
}

STORY(sequences_are_checked)
{
    w->tune = few_producers;
    world_open(w, 3);
    create_stream(w, 0, "s", 3);
    struct producer p = {.id = {9}};
    for (unsigned life = 0; life < 3; life++) {
        unsigned l = await_leader(w, NO_NODE);
        struct client *c = dial(w, l);
        p.epoch = 10 * life;
        uint64_t at[12];
        CHECK(put(c, &p, 3, 1).code == SLUICE_E_PRODUCER_UNKNOWN); /* an epoch starts at 0 */
        for (uint64_t i = 0; i < 12; i++) {
            struct answer a = put(c, &p, i, 2);
            CHECK(a.code == 0 && !a.duplicate);
            at[i] = a.offset;
        }
        CHECK(put(c, &p, 13, 1).code == SLUICE_E_SEQUENCE_GAP);
        CHECK(put(c, &p, 3, 2).code == SLUICE_E_SEQUENCE_OLD); /* outside the window of eight: no longer known, so not taken as new */
        sim_process_crash(w->nodes[l].host, SIM_CRASH_KILL);
        w->nodes[l].node = NULL;
        c = dial(w, await_leader(w, l));
        for (uint64_t i = 4; i < 12; i++) { /* the numbers are the first ones, also from the new leader */
            struct answer a = put(c, &p, i, 2);
            CHECK(a.code == 0 && a.duplicate && a.offset == at[i]);
        }
        struct producer higher = p;
        higher.epoch++;
        CHECK(put(c, &higher, 0, 1).code == 0);
        CHECK(put(c, &p, 12, 1).code == SLUICE_E_PRODUCER_FENCED);
        for (unsigned i = 0; i < 16; i++) { /* sixteen others: the longest idle goes */
            struct producer other = {.id = {100, (uint8_t)i, (uint8_t)life}};
            CHECK(put(c, &other, 0, 1).code == 0);
        }
        CHECK(put(c, &higher, 1, 1).code == SLUICE_E_PRODUCER_UNKNOWN);
        CHECK(resolve(c, &higher, 1).outcome == SLUICE__RESOLVE_REPLY__OUTCOME__UNKNOWN); /* forgotten is not "never was" */
        node_up(w, l);
        run_ms(w, 1500);
    }
    CHECK(await_agreement(w, 10000));
}

/* F12: leases of state that has no offset (producers, trims, settings) come from snapshot and replay alone: the same bytes before and after a restart of all. */
static void often(struct settings *s, unsigned node)
{
    (void)node;
    s->snapshot_bytes = 3000;
    s->trailing_bytes = 1000;
}

STORY(state_is_snapshot_and_replay)
{
    w->tune = often;
    world_open(w, 3);
    create_stream(w, 0, "s", 3);
    uint64_t last[4] = {0}, offset[4] = {0};
    for (unsigned life = 0; life < 4; life++) {
        struct client *c = dial(w, await_leader(w, NO_NODE));
        for (unsigned i = 0; i < 60; i++) {
            struct producer p = {.id = {1, (uint8_t)(i % 4)}, .epoch = life};
            struct answer a = put(c, &p, i / 4, 1 + i % 3);
            CHECK(a.code == 0 && !a.duplicate);
            last[i % 4] = i / 4;
            offset[i % 4] = a.offset;
            if (i % 20 == 10) {
                propose(w, (struct shard_entry){.kind = SHARD_ENTRY_TRIM, .trim = a.offset - 5});
            }
        }
        CHECK(await_agreement(w, 5000));
        uint64_t snapshots = 0;
        for (unsigned i = 0; i < 3; i++) {
            struct groups_stats st;
            groups_stats(w->nodes[i].node->lanes[0]->groups, &st);
            snapshots += st.snapshots;
        }
        CHECK(snapshots >= 3);
        uint32_t n, m;
        uint8_t *before = shard_snapshot_encode(&shard_on(w, 0)->state, &n);
        uint64_t first = shard_on(w, 0)->state.first;
        CHECK(first > 0);
        for (unsigned i = 0; i < 3; i++) {
            node_down(w, i, life % 2 == 0 ? SIM_CRASH_POWER : SIM_CRASH_KILL);
        }
        for (unsigned i = 0; i < 3; i++) {
            node_up(w, i);
        }
        unsigned l = await_leader(w, NO_NODE);
        CHECK(await_agreement(w, 5000));
        uint8_t *after = shard_snapshot_encode(&shard_on(w, l)->state, &m);
        CHECK(n == m && memcmp(before, after, n) == 0);
        c = dial(w, l);
        for (unsigned k = 0; k < 4; k++) {
            struct producer p = {.id = {1, (uint8_t)k}, .epoch = life};
            struct answer a = put(c, &p, last[k], 1);
            CHECK(a.code == 0 && a.duplicate && a.offset == offset[k]);
        }
        CHECK(fetch(c, first - 1, 0).code == SLUICE_E_EXPIRED && fetch(c, first, 0).code == 0);
    }
}

/* F21: a closed shard goes on telling what became of a batch, on every leader and after restarts; it takes nothing more, and its end is told at its exact offset. */
STORY(closed_shard_resolves)
{
    w->tune = often;
    world_open(w, 3);
    create_stream(w, 0, "s", 3);
    struct producer p = {.id = {7}}, other = {.id = {8}};
    unsigned l = leader(w), lag = (l + 1) % 3;
    struct client *c = dial(w, l), *reader = dial(w, lag);
    uint64_t at[5];
    for (uint64_t i = 0; i < 5; i++) {
        at[i] = put(c, &p, i, 2).offset;
    }
    run_ms(w, 500);
    cut_off(w, lag, true);
    propose(w, (struct shard_entry){.kind = SHARD_ENTRY_CLOSE, .reshard = 1, .n_children = 2, .children = {1, 2}});
    CHECK(put(c, &p, 5, 1).code == SLUICE_E_CLOSED);
    struct answer end = fetch(c, 10, 1000), early = fetch(reader, 10, 200);
    CHECK(end.code == 0 && end.closed && end.next == 10 && end.payload == 0);
    CHECK(early.code == 0 && !early.closed); /* a replica that has not applied the closing entry does not know the end */
    end = fetch(c, 0, 0);
    CHECK(end.code == 0 && end.payload > 0 && end.closed == (end.next == 10));
    cut_off(w, lag, false);
    end = fetch(reader, 10, 3000);
    CHECK(end.code == 0 && end.closed);
    for (unsigned life = 0; life < 3; life++) {
        l = await_leader(w, NO_NODE);
        c = dial(w, l);
        for (uint64_t i = 0; i < 5; i++) {
            struct answer a = resolve(c, &p, i);
            CHECK(a.code == 0 && a.outcome == SLUICE__RESOLVE_REPLY__OUTCOME__DONE && a.offset == at[i] && a.count == 2);
        }
        CHECK(resolve(c, &p, 5).outcome == SLUICE__RESOLVE_REPLY__OUTCOME__NOT_DONE);
        CHECK(resolve(c, &other, 0).outcome == SLUICE__RESOLVE_REPLY__OUTCOME__NOT_DONE);
        struct answer again = put(c, &p, 4, 2); /* what it took it tells a writer, too */
        CHECK(put(c, &p, 5, 1).code == SLUICE_E_CLOSED && again.code == 0 && again.offset == at[4]);
        struct answer f = resolve(dial(w, (l + 1) % 3), &p, 0);
        CHECK(f.code == SLUICE_E_NOT_LEADER && f.leader == l + 1); /* only a leader that asked a quorum answers */
        for (unsigned i = 0; i < 3; i++) {
            if (life > 0 || i == l) {
                node_down(w, i, SIM_CRASH_POWER);
                node_up(w, i);
            }
        }
        run_ms(w, 1500);
    }
    CHECK(await_agreement(w, 5000));
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pending_ends_with_its_term), cmocka_unit_test(duplicate_of_a_pending_batch_waits), cmocka_unit_test(sequences_are_checked),
        cmocka_unit_test(state_is_snapshot_and_replay), cmocka_unit_test(closed_shard_resolves),
    };
    if (argc > 1) {
        cmocka_set_test_filter(argv[1]);
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
