/* Hundreds of shards on three simulated nodes: created at once, led at once, silent while nothing is written, led again after a node's death, and led by all nodes again
 * after its return. All figures are counts in simulated time. */
#include "server_cluster_fixture.h"

enum { SHARDS = 300, SHARDS_MANY = 900 };

static unsigned led_by(struct world *w, unsigned i)
{
    struct groups_stats stats = {0};
    if (w->nodes[i].node != NULL && w->nodes[i].node->lanes[0]->groups != NULL) {
        groups_stats(w->nodes[i].node->lanes[0]->groups, &stats);
    }
    return (unsigned)stats.leaders;
}

/* Shards with a leader that takes writes. */
static unsigned writable(struct world *w)
{
    unsigned n = 0;
    for (unsigned i = 0; i < w->first; i++) {
        struct node *node = w->nodes[i].node;
        for (const struct shard *s = node != NULL ? node->lanes[0]->shards : NULL; s != NULL; s = s->next) {
            n += s->ready && s->state.opened;
        }
    }
    return n;
}

/* Milliseconds until all shards take writes. */
static uint64_t await_writable(struct world *w, unsigned shards, uint64_t ms)
{
    uint64_t start = now_ms(w);
    while (writable(w) != shards) {
        CHECK(now_ms(w) - start < ms);
        run_ms(w, 5);
    }
    return now_ms(w) - start;
}

static void create_shards(struct world *w, const char *name, uint32_t shards)
{
    struct client *c = dial(w, 1);
    Sluice__StreamCreate m = SLUICE__STREAM_CREATE__INIT;
    m.name = (char *)(uintptr_t)name;
    m.shards = shards;
    m.replicas = 3;
    const struct got *g = client_await(c, client_send(c, FRAME_STREAM_CREATE, &m, NULL, 0), 20000);
    CHECK(g != NULL && g->kind == FRAME_STREAM_CREATE_REPLY);
    Sluice__StreamReply *r = sluice__stream_reply__unpack(NULL, g->len, g->message);
    CHECK(r != NULL && r->stream->status == SLUICE__STREAM_INFO__STATUS__ACTIVE && r->stream->n_shards == shards); /* which fits into a frame */
    memcpy(w->stream_id, r->stream->id.data, 16);
    sluice__stream_reply__free_unpacked(r, NULL);
}

/* Large as on a real node: what all these groups keep fits into one, and is not carried around. */
static void large_segments(struct settings *s, unsigned node)
{
    (void)node;
    s->segment_first = 4 << 20;
    s->segment_max = 64 << 20;
}

struct traffic { uint64_t records, frames, flushes, elections; };

static struct traffic traffic(struct world *w)
{
    struct traffic t = {0};
    for (unsigned i = 0; i < 3; i++) {
        struct lane *l = w->nodes[i].node->lanes[0];
        struct groups_stats g;
        struct links_stats k;
        struct journal_stats j;
        groups_stats(l->groups, &g);
        links_stats(groups_links(l->groups), &k);
        journal_stats(l->journal, &j);
        t.records += k.records_sent;
        t.frames += k.frames_sent;
        t.flushes += j.flushes;
        t.elections += g.elections;
    }
    return t;
}

/* What goes on in ten idle seconds, all nodes together. */
static struct traffic idle(struct world *w)
{
    struct traffic before = traffic(w);
    run_ms(w, 10000);
    struct traffic after = traffic(w);
    return (struct traffic){after.records - before.records, after.frames - before.frames, after.flushes - before.flushes, after.elections - before.elections};
}

/* No disk is written and no election held; the links carry their signs of life and a few records more, however many shards there are. With libraft's own heartbeats 300 shards
 * would make 40,000 records in ten seconds, 900 three times as many. */
STORY(idle_shards_cost_next_to_nothing)
{
    w->tune = large_segments;
    world_open(w, 3);
    run_ms(w, 3000);
    struct traffic none = idle(w);
    create_shards(w, "a", SHARDS);
    await_writable(w, SHARDS, 1000);
    run_ms(w, 3000);
    struct traffic some = idle(w);
    create_shards(w, "b", SHARDS_MANY - SHARDS);
    await_writable(w, SHARDS_MANY, 1000);
    run_ms(w, 3000);
    struct traffic many = idle(w);
    printf("records in 10 s: %llu with no shard, %llu with %d, %llu with %d; frames %llu, %llu, %llu\n", (unsigned long long)none.records,
           (unsigned long long)some.records, SHARDS, (unsigned long long)many.records, SHARDS_MANY, (unsigned long long)none.frames, (unsigned long long)some.frames,
           (unsigned long long)many.frames);
    CHECK(some.records < none.records + 3000 && many.records < none.records + 3000);
    CHECK(some.flushes == 0 && some.elections == 0 && many.flushes == 0 && many.elections == 0);
    for (unsigned i = 0; i < 3; i++) {
        CHECK(led_by(w, i) > SHARDS_MANY / 3 - 10 && led_by(w, i) < SHARDS_MANY / 3 + 10);
    }
}

/* The shards of a dead node fall to both others, at once; when it is back, so are its leaderships. A follower of idle shards counts as fresh, and a cut-off one as stale. */
STORY(shards_of_a_dead_node_are_led_again)
{
    world_open(w, 3);
    create_shards(w, "a", SHARDS);
    run_ms(w, 15000);
    unsigned dead = 2;
    unsigned before[3] = {led_by(w, 0), led_by(w, 1), led_by(w, dead)};
    CHECK(before[dead] > SHARDS / 3 - 10);
    node_down(w, dead, SIM_CRASH_KILL);
    uint64_t took = await_writable(w, SHARDS, 2000);
    printf("led again after %llu ms; %u and %u were led, now %u and %u\n", (unsigned long long)took, before[0], before[1], led_by(w, 0), led_by(w, 1));
    CHECK(led_by(w, 0) > before[0] + SHARDS / 12 && led_by(w, 1) > before[1] + SHARDS / 12);
    node_up(w, dead);
    for (unsigned k = 0; k < 600 && led_by(w, dead) < SHARDS / 3 - 10; k++) {
        run_ms(w, 100);
    }
    CHECK(led_by(w, dead) >= SHARDS / 3 - 10 && writable(w) == SHARDS);
    run_ms(w, 5000);
    for (const struct shard *s = w->nodes[dead].node->lanes[0]->shards; s != NULL; s = s->next) {
        CHECK(group_contact_age_ms(s->group) < 1000);
    }
    cut_off(w, dead, true);
    run_ms(w, 8000);
    for (const struct shard *s = w->nodes[dead].node->lanes[0]->shards; s != NULL; s = s->next) {
        CHECK(!s->ready && group_contact_age_ms(s->group) > 5000);
    }
    CHECK(writable(w) == SHARDS);
    cut_off(w, dead, false);
    run_ms(w, 5000);
    CHECK(writable(w) == SHARDS);
}

/* A record that tells of a commit is lost while the group goes idle: the follower learns of it all the same. */
STORY(a_lost_commit_is_told_again)
{
    world_open(w, 3);
    create_stream(w, 0, "a", 3);
    for (unsigned k = 0; k < 40; k++) {
        unsigned l = await_leader(w, NO_NODE), other = (l + 1) % 3;
        put_send(dial(w, l), NULL, 0, 1, 100);
        for (unsigned i = 0; i < k % 20; i++) {
            sim_run_until(w->sim, sim_now_ns(w->sim) + MS / 2);
        }
        sim_reset_connections(w->sim, w->nodes[l].host, w->nodes[other].host);
        run_ms(w, 3000);
        uint64_t commit = 0;
        for (unsigned i = 0; i < 3; i++) {
            uint64_t here = group_commit_index(shard_on(w, i)->group);
            CHECK(commit == 0 || here == commit);
            commit = here;
        }
    }
}

static void small_memory(struct settings *s, unsigned node)
{
    large_segments(s, node);
    s->memory = 8 << 20; /* half of it for logs */
}

/* A record of `bytes` bytes to one shard. */
static uint64_t put_shard(struct client *c, const struct map_shard *m, uint32_t bytes)
{
    struct batch_builder b;
    batch_builder_init(&b);
    uint8_t *data = xcalloc(1, bytes);
    CHECK(batch_builder_add(&b, "key", 3, data, bytes, &m->first, true) == 0);
    struct batch_identity id = {.stream_id = c->w->stream_id, .shard = m->shard};
    void *batch;
    size_t n;
    CHECK(batch_builder_finish(&b, &id, false, &batch, &n) == 0);
    Sluice__Put put = SLUICE__PUT__INIT;
    put.stream_id = (ProtobufCBinaryData){.len = 16, .data = c->w->stream_id};
    put.shard = m->shard;
    uint64_t correlation = client_send(c, FRAME_PUT, &put, batch, (uint32_t)n);
    free(batch);
    free(data);
    batch_builder_deinit(&b);
    return correlation;
}

/* Many shards that each hold little fill the memory for logs all the same. Idle ones give it back, and no snapshot is taken per record. */
STORY(memory_for_logs_is_shared)
{
    w->tune = small_memory;
    world_open(w, 3);
    create_shards(w, "a", SHARDS);
    await_writable(w, SHARDS, 1000);
    run_ms(w, 1000);
    struct node *first = w->nodes[0].node;
    const struct map_stream *stream = cluster_map_stream_by_id(cluster_map_ref(first->map), w->stream_id);
    struct client *c = NULL;
    unsigned puts = 0, refused = 0;
    uint64_t highest = 0;
    struct groups_stats g;
    for (unsigned round = 0; round < 12; round++) {
        for (unsigned k = 0; k < SHARDS; k++) {
            const struct map_shard *m = &stream->shards[k];
            const struct shard *s = lane_shard(first->lanes[0], m->group);
            if (!s->ready) {
                continue; /* led elsewhere; the memory is the same on every node */
            }
            if (puts++ % 400 == 0) {
                c = dial(w, 0);
            }
            int code = SLUICE_E_BUSY;
            for (unsigned tries = 0; code != 0; tries++) {
                CHECK(tries < 100);
                code = decode(client_await(c, put_shard(c, m, 16 << 10), 5000)).code;
                refused += code != 0;
                run_ms(w, code != 0 ? 100 : 0);
            }
            groups_stats(first->lanes[0]->groups, &g);
            highest = max_u64(highest, g.log_bytes);
        }
    }
    printf("%u puts of 16 KiB, %u refused on the way; %llu snapshots; logs held at most %llu bytes\n", puts, refused, (unsigned long long)g.snapshots,
           (unsigned long long)highest);
    CHECK((uint64_t)puts * (16 << 10) > 4 * (4 << 20)); /* four times what there is room for */
    CHECK(highest < (4 << 20) + (1 << 20));
    run_ms(w, 5000);
    groups_stats(first->lanes[0]->groups, &g);
    CHECK(g.log_bytes <= (4 << 20) / 8 * 5);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(idle_shards_cost_next_to_nothing), cmocka_unit_test(shards_of_a_dead_node_are_led_again), cmocka_unit_test(a_lost_commit_is_told_again),
        cmocka_unit_test(memory_for_logs_is_shared),
    };
    if (argc > 1) {
        cmocka_set_test_filter(argv[1]);
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
