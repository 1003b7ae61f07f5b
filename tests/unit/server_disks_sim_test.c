/* Disks that come back empty, old, damaged or with other lanes: what a node must not do with them, and how it comes back. */
#include "server_cluster_fixture.h"

#include "storage/journal_format.h"

static const struct map_replica *replica_of(struct world *w, unsigned teller, unsigned node)
{
    const struct map_shard *m = cluster_map_shard_by_group(w->nodes[teller].node->map, w->group);
    CHECK(m != NULL);
    return cluster_map_replica(m, node + 1);
}

/* Until node i runs a replica with generation `above` or later that votes and agrees with the others. */
static void await_rejoined(struct world *w, unsigned i, uint32_t generation)
{
    for (unsigned k = 0; k < 600; k++) {
        run_ms(w, 100);
        const struct shard *s = shard_on(w, i);
        const struct shard *l = leader(w) != NO_NODE ? shard_on(w, leader(w)) : NULL;
        if (s == NULL || l == NULL || (uint32_t)s->raft_id < generation) {
            continue;
        }
        struct group_peer peers[REPLICAS_MAX + 2];
        unsigned n = group_peers(l->group, peers, ARRAY_LEN(peers));
        for (unsigned p = 0; p < n; p++) {
            if (peers[p].voter && peers[p].raft_id == s->raft_id && n == 3 && replicas_agree(w)) {
                return;
            }
        }
    }
    CHECK(!"the replica joined anew");
}

/* F5: Q acknowledged what F never got, and then lost its disk. When L is gone too, F and the empty Q must not elect anybody: what L and Q acknowledged would be lost. */
STORY(an_empty_disk_does_not_vote)
{
    world_open(w, 3);
    create_stream(w, 0, "s", 3);
    unsigned l = leader(w), f = (l + 1) % 3, q = (l + 2) % 3;
    put_some(w, 10);
    run_ms(w, 1000);
    cut_off(w, f, true);
    put_some(w, 20);
    node_down(w, q, SIM_CRASH_POWER);
    sim_disk_wipe(w->nodes[q].host);
    node_down(w, l, SIM_CRASH_POWER);
    cut_off(w, f, false);
    node_up(w, q);
    for (unsigned k = 0; k < 300; k++) {
        run_ms(w, 100);
        CHECK(leader(w) == NO_NODE);
    }
    node_up(w, l);
    CHECK(await_leader(w, NO_NODE) != q);
    await_rejoined(w, q, 2);
    CHECK(replica_of(w, l, q)->generation >= 2 && shard_on(w, q)->state.next == 30);
    CHECK(fetch(dial(w, await_leader(w, NO_NODE)), 29, 0).payload > 0);
}

/* ---- damage ---- */

/* Destroys both copies of the directory of every block of node i's journal that holds a record for which `hit` says so. Returns how many. */
static unsigned damage_blocks(struct world *w, unsigned i, bool (*hit)(struct world *w, const struct jf_dirent *d))
{
    unsigned n = 0;
    for (unsigned number = 1; number < 100; number++) {
        char path[64];
        snprintf(path, sizeof path, "data/lane-0/seg-%016x", number);
        int64_t size = sim_disk_size(w->nodes[i].host, path);
        if (size <= 0) {
            continue;
        }
        uint8_t *bytes = xmalloc((size_t)size);
        CHECK(sim_disk_read(w->nodes[i].host, path, bytes, (size_t)size, 0) == (ssize_t)size);
        struct jf_segment_header sh;
        CHECK(jf_segment_header_decode(bytes, (size_t)size, &sh));
        for (uint32_t pos = JF_DATA; pos + JF_BLOCK_HEADER_SIZE <= (uint64_t)size;) {
            struct jf_block_header h;
            if (!jf_block_header_decode(bytes + pos, JF_BLOCK_HEADER_SIZE, sh.salt, false, &h) || h.length == 0) {
                break;
            }
            bool found = false;
            for (uint32_t k = 0; k < h.n_records && h.kind == JF_BLOCK_DATA; k++) {
                struct jf_dirent d;
                jf_dirent_decode(bytes + pos + h.dir_pos + k * JF_DIRENT_SIZE, &d);
                found = found || hit(w, &d);
            }
            if (found) {
                CHECK(sim_disk_zero(w->nodes[i].host, path, pos, 512) == 0);
                CHECK(sim_disk_zero(w->nodes[i].host, path, pos + h.length - 512, 512) == 0);
                CHECK(sim_disk_zero(w->nodes[i].host, path, pos + h.dir_pos, h.n_records * JF_DIRENT_SIZE) == 0);
                n++;
            }
            pos += h.length;
        }
        free(bytes);
    }
    return n;
}

static bool of_group(struct world *w, const struct jf_dirent *d) { return d->group == w->group; }
static bool of_vote(struct world *w, const struct jf_dirent *d) { return d->group == w->group && d->kind == JOURNAL_TERM && d->a > 1; }
static uint64_t raft_id_hit;
static bool of_raft_id(struct world *w, const struct jf_dirent *d) { return d->group == w->group && d->kind == JOURNAL_GROUP && d->a == raft_id_hit; }

/* A node whose journal lost records for good, with records of others behind them. */
static void damage_and_restart(struct world *w, unsigned i, bool (*hit)(struct world *w, const struct jf_dirent *d))
{
    run_ms(w, 3000); /* other groups' records vouch for these */
    uint8_t stream_id[16];
    uint64_t group = w->group;
    memcpy(stream_id, w->stream_id, 16);
    char name[8];
    snprintf(name, sizeof name, "x%u", (unsigned)now_ms(w));
    create_stream(w, (i + 1) % 3, name, 3);
    for (unsigned k = 0; k < 5; k++) {
        put_some(w, 2);
        run_ms(w, 500);
    }
    w->group = group;
    memcpy(w->stream_id, stream_id, 16);
    node_down(w, i, SIM_CRASH_POWER);
    CHECK(damage_blocks(w, i, hit) > 0);
    node_up(w, i);
}

/* Segments so large that nothing is carried: a block of carried records would hold those of the controller too. */
static void roomy(struct settings *s, unsigned node)
{
    (void)node;
    s->segment_first = s->segment_max = 4 << 20;
}

/* F5, F6: damage took every record of a group, so the journal does not even know that it was here. The map still says "first member, generation 1": the replica must
 * not be made anew under the id that has voted. */
STORY(a_group_lost_without_a_trace_joins_anew)
{
    w->tune = roomy;
    world_open(w, 3);
    create_stream(w, 0, "s", 3);
    put_some(w, 5);
    unsigned i = (leader(w) + 1) % 3;
    damage_and_restart(w, i, of_group);
    await_rejoined(w, i, 2);
    CHECK(replica_of(w, (i + 1) % 3, i)->generation >= 2 && shard_on(w, i)->state.next == 5);
    create_stream(w, 0, "later", 3); /* what is made from now on cannot have been here */
    put_some(w, 5);
    CHECK(await_agreement(w, 5000) && (uint32_t)shard_on(w, i)->raft_id == 1);
}

/* F5: the journal still holds an older life of the replica; the records of the newer one, which has voted too, are gone. Neither id is used again. */
STORY(an_older_life_on_the_disk_is_no_proof)
{
    w->tune = roomy;
    world_open(w, 3);
    create_stream(w, 0, "s", 3);
    put_some(w, 5);
    unsigned i = (leader(w) + 1) % 3;
    uint32_t generation = 1;
    static bool (*const hits[])(struct world *w, const struct jf_dirent *d) = {of_vote, of_raft_id, of_vote, of_group};
    for (unsigned life = 0; life < ARRAY_LEN(hits); life++) {
        raft_id_hit = shard_on(w, i)->raft_id;
        CHECK((uint32_t)raft_id_hit == generation);
        damage_and_restart(w, i, hits[life]);
        await_rejoined(w, i, generation + 1);
        CHECK((uint32_t)shard_on(w, i)->raft_id > generation);
        generation = (uint32_t)shard_on(w, i)->raft_id;
    }
    put_some(w, 5);
    CHECK(await_agreement(w, 5000) && shard_on(w, i)->state.next == 10);
}

/* ---- older copies ---- */

static void expect_refused(struct world *w, unsigned i, unsigned exits)
{
    for (unsigned k = 0; k < 200 && w->nodes[i].exits < exits; k++) {
        run_ms(w, 100);
        CHECK(shard_on(w, i) == NULL || !shard_on(w, i)->leading);
    }
    CHECK(w->nodes[i].exits == exits && w->nodes[i].exit_code == ENV_EXIT_IDENTITY && strstr(w->nodes[i].why, "older") != NULL);
}

/* F27: the disk is put back to an older copy of itself, taken while it ran. The others remember what it had acknowledged and refuse it; it ends, and its user starts it
 * with an empty folder. `lives`: it was restarted so many times between the copy and the return. */
static void older_copy(struct world *w, unsigned lives)
{
    world_open(w, 3);
    create_stream(w, 0, "s", 3);
    put_some(w, 20);
    run_ms(w, 1000);
    unsigned i = (leader(w) + 1) % 3;
    struct sim_disk_copy *copy = sim_disk_copy(w->nodes[i].host);
    put_some(w, 40);
    for (unsigned k = 0; k < lives; k++) {
        node_down(w, i, SIM_CRASH_KILL);
        node_up(w, i);
        run_ms(w, 3000);
        put_some(w, 40);
    }
    run_ms(w, 1000);
    node_down(w, i, SIM_CRASH_POWER);
    sim_disk_restore(w->nodes[i].host, copy);
    for (unsigned k = 1; k <= 5; k++) { /* however often it is tried, also when its count of lives reaches that of the lives that are lost */
        node_up(w, i);
        expect_refused(w, i, k);
    }
    sim_disk_wipe(w->nodes[i].host);
    node_up(w, i);
    await_rejoined(w, i, 2);
    CHECK(w->nodes[i].exits == 5 && shard_on(w, i)->state.next == 60 + 40 * lives);
}

static void copy_of_the_last_life(struct world *w) { older_copy(w, 0); }
static void copy_of_the_life_before(struct world *w) { older_copy(w, 1); }
static void copy_of_an_old_life(struct world *w) { older_copy(w, 3); }

static void an_older_copy_is_refused(void **state)
{
    (void)state;
    assert_true(story_holds(copy_of_the_last_life, 1));
    assert_true(story_holds(copy_of_the_life_before, 1));
    assert_true(story_holds(copy_of_an_old_life, 1));
}

/* ---- lanes ---- */

static unsigned lanes_of[NODES];

static void by_node(struct settings *s, unsigned node) { s->lanes = lanes_of[node]; }

/* F26: nodes with different numbers of lanes share groups; a node comes back with more lanes and its groups stay where their journals are; with fewer it says so, changes
 * nothing, and comes back with the old number. */
STORY(lanes_differ_and_change)
{
    static const unsigned lanes[3] = {3, 1, 2}, more[3] = {5, 2, 2};
    memcpy(lanes_of, lanes, sizeof lanes);
    w->tune = by_node;
    world_open(w, 3);
    uint8_t ids[4][16];
    uint64_t groups[4];
    for (unsigned s = 0; s < 4; s++) {
        char name[2] = {(char)('a' + s), 0};
        create_stream(w, s % 3, name, 3);
        memcpy(ids[s], w->stream_id, 16);
        groups[s] = w->group;
    }
    for (unsigned round = 0; round < 4; round++) {
        for (unsigned s = 0; s < 4; s++) {
            memcpy(w->stream_id, ids[s], 16);
            w->group = groups[s];
            put_some(w, 5);
            CHECK(await_agreement(w, 20000));
            for (unsigned i = 0; i < 3; i++) {
                CHECK(shard_on(w, i) != NULL && shard_on(w, i)->state.next == 5 * (round + 1));
                CHECK(fetch(dial(w, i), 5 * round, 0).payload > 0); /* whichever lane the connection came to */
            }
        }
        unsigned i = round % 3;
        node_down(w, i, SIM_CRASH_KILL);
        if (round == 2) {
            lanes_of[i] = 1;
            node_up(w, i);
            run_ms(w, 1000);
            CHECK(w->nodes[i].node == NULL && strstr(w->nodes[i].why, "can be raised but not lowered") != NULL);
            node_down(w, i, SIM_CRASH_KILL);
        }
        lanes_of[i] = more[i];
        node_up(w, i);
        run_ms(w, 5000);
        CHECK(w->nodes[i].node != NULL && w->nodes[i].node->n_lanes == more[i]);
    }
}

/* ---- large records ---- */

static void large(struct settings *s, unsigned node)
{
    (void)node;
    s->record_max = 10 << 20;
    s->in_flight = 64 << 10;
    s->flush_max = 256 << 10;
    s->segment_first = 65536;
    s->segment_max = 1 << 20;
}

/* F24: one record larger than every window passes, and neither elections nor other shards' writes wait for it. */
STORY(the_largest_record_passes)
{
    w->tune = large;
    world_open(w, 3);
    create_stream(w, 0, "b", 3);
    uint8_t small_id[16];
    memcpy(small_id, w->stream_id, 16);
    uint64_t small_group = w->group, big_group;
    unsigned small_leader = leader(w);
    uint64_t small_term = shard_on(w, small_leader)->term;
    create_stream(w, 0, "s", 3);
    uint8_t big_id[16];
    memcpy(big_id, w->stream_id, 16);
    big_group = w->group;
    unsigned l = leader(w);
    uint64_t term = shard_on(w, l)->term;
    struct client *c = dial(w, l), *other = dial(w, small_leader);
    uint64_t sent[4];
    for (unsigned i = 0; i < 4; i++) {
        sent[i] = put_send(c, NULL, 0, 1, (10 << 20) - 3);
    }
    memcpy(w->stream_id, small_id, 16);
    uint64_t longest = 0;
    for (unsigned i = 0; i < 100; i++) {
        uint64_t start = now_ms(w);
        CHECK(decode(client_await(other, put_send(other, NULL, 0, 1, 50), 5000)).code == 0);
        longest = max_u64(longest, now_ms(w) - start);
    }
    printf("small puts beside 10 MiB records: at most %llu ms\n", (unsigned long long)longest);
    CHECK(longest < 500);
    for (unsigned i = 0; i < 4; i++) {
        struct answer a = decode(client_await(c, sent[i], 20000));
        CHECK(a.code == 0 && a.offset == i);
    }
    memcpy(w->stream_id, big_id, 16);
    CHECK(fetch(c, 3, 0).payload > 10 << 20);
    for (unsigned i = 0; i < 2; i++) {
        w->group = i == 0 ? small_group : big_group;
        CHECK(await_agreement(w, 10000));
        CHECK(shard_on(w, i == 0 ? small_leader : l)->term == (i == 0 ? small_term : term)); /* nobody was thought dead meanwhile */
    }
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_empty_disk_does_not_vote), cmocka_unit_test(a_group_lost_without_a_trace_joins_anew), cmocka_unit_test(an_older_life_on_the_disk_is_no_proof),
        cmocka_unit_test(an_older_copy_is_refused), cmocka_unit_test(lanes_differ_and_change), cmocka_unit_test(the_largest_record_passes),
    };
    if (argc > 1) {
        cmocka_set_test_filter(argv[1]);
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
