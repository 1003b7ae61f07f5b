/* Splits on whole nodes, as writers and readers see them: "closed" is told when it is committed, a reshard outlives the controller's leader, expired parents vanish. */
#include "server_cluster_fixture.h"

#include "server/controller.h"

/* The stream as the newest map has it. */
static const struct map_stream *stream_now(struct world *w)
{
    const struct cluster_map *newest = NULL;
    for (unsigned i = 0; i < w->first; i++) {
        const struct cluster_map *m = w->nodes[i].node != NULL ? w->nodes[i].node->map : NULL;
        newest = m != NULL && (newest == NULL || m->version > newest->version) ? m : newest;
    }
    return newest != NULL ? cluster_map_stream_by_id(newest, w->stream_id) : NULL;
}

static bool await_active(struct world *w, uint64_t ms)
{
    for (uint64_t t = 0; t < ms; t += 10) {
        const struct map_stream *s = stream_now(w);
        if (s != NULL && s->status == STREAM_ACTIVE) {
            return true;
        }
        run_ms(w, 10);
    }
    return false;
}

static uint64_t split_send(struct client *c, uint32_t shard)
{
    Sluice__StreamReshard m = SLUICE__STREAM_RESHARD__INIT;
    m.name = (char *)"s";
    m.kind = SLUICE__STREAM_RESHARD__KIND__SPLIT;
    m.shard = shard;
    return client_send(c, FRAME_STREAM_RESHARD, &m, NULL, 0);
}

/* One record with the given hash key to a shard; asks all nodes until one that leads has answered. */
static int put_to(struct world *w, uint32_t shard, const struct hash128 *hash, const struct producer *p, uint64_t sequence)
{
    struct batch_builder b;
    batch_builder_init(&b);
    CHECK(batch_builder_add(&b, "key", 3, "data", 4, hash, true) == 0);
    struct batch_identity id = {.stream_id = w->stream_id, .shard = shard, .producer_id = p->id, .producer_epoch = p->epoch, .producer_sequence = sequence};
    void *batch;
    size_t n;
    CHECK(batch_builder_finish(&b, &id, false, &batch, &n) == 0);
    Sluice__Put m = SLUICE__PUT__INIT;
    m.stream_id = (ProtobufCBinaryData){.len = 16, .data = w->stream_id};
    m.shard = shard;
    int code = -1;
    for (unsigned i = 0; i < 3 * w->first; i++) {
        if (w->nodes[i % w->first].node == NULL) {
            continue;
        }
        struct client *c = dial(w, i % w->first);
        code = decode(client_await(c, client_send(c, FRAME_PUT, &m, batch, (uint32_t)n), 2000)).code;
        if (code != SLUICE_E_NOT_LEADER && code != SLUICE_E_NOT_READY) {
            break;
        }
    }
    free(batch);
    batch_builder_deinit(&b);
    return code;
}

static void slow_disks(struct world *w, uint64_t sync_ms)
{
    for (unsigned i = 0; i < w->first; i++) {
        sim_host_set_disk(w->nodes[i].host, &(struct sim_disk){.sync_ns = {sync_ms * MS, sync_ms * MS}, .write_ns = {10000, 50000}, .read_ns = {10000, 50000}});
    }
}

/* F21: a put that comes while the closing entry is on its way waits. Told "closed" before that is committed, the writer would ask a next leader, which may never have heard of
 * the closing, what became of its batches, and send them to the children as well. */
static void put_while_closing(struct world *w)
{
    world_open(w, 3);
    create_stream(w, 0, "s", 3);
    struct producer p = {.id = {7}};
    unsigned l = leader(w);
    struct client *c = dial(w, l);
    CHECK(put(c, &p, 0, 1).code == 0);
    slow_disks(w, 200);
    split_send(c, 0);
    const struct shard *s = shard_on(w, l);
    for (unsigned i = 0; i < 3000 && !s->close_in_flight; i++) {
        run_ms(w, 2);
    }
    CHECK(s->close_in_flight && !s->state.closed && s->ready);
    uint64_t sent = put_send(c, &p, 1, 1, 50);
    for (unsigned i = 0; i < 1000 && client_got(c, sent) == NULL; i++) {
        run_ms(w, 2);
        CHECK(client_got(c, sent) == NULL || s->state.closed);
    }
    CHECK(decode(client_got(c, sent)).code == SLUICE_E_CLOSED);
    CHECK(resolve(c, &p, 1).outcome == SLUICE__RESOLVE_REPLY__OUTCOME__NOT_DONE);
    struct answer again = put(c, &p, 0, 1); /* what it took, it goes on to tell */
    CHECK(again.code == 0 && again.duplicate && again.offset == 0);
}

static void rule_off(struct settings *s, unsigned node)
{
    (void)node;
    s->test_disable_server = SERVER_RULE_CLOSED;
}

static void put_while_closing_without_the_rule(struct world *w)
{
    w->tune = rule_off;
    put_while_closing(w);
}

static void closed_is_told_when_it_is_committed(void **state)
{
    (void)state;
    assert_true(story_holds(put_while_closing, 1));
    assert_true(story_holds(put_while_closing, 2));
    assert_false(story_holds(put_while_closing_without_the_rule, 1));
}

/* F29: the leader of the controller dies when the split is decided, and the parent's leader has not heard of it: the next one goes forward. Nothing is lost or taken twice. */
STORY(decided_goes_forward)
{
    world_open(w, 3);
    create_stream(w, 0, "s", 3);
    struct producer p = {.id = {7}};
    struct hash128 low = {{0}}, high;
    memset(&high, 0xff, sizeof high);
    unsigned l = leader(w);
    CHECK(put_to(w, 0, &low, &p, 0) == 0);
    unsigned controller = controller_leader_node(w->nodes[l].node->controller) - 1;
    CHECK(controller < w->first);
    split_send(dial(w, (controller + 1) % 3), 0);
    for (unsigned i = 0; i < 3000 && !(stream_now(w)->n_open == 2); i++) {
        run_ms(w, 1);
    }
    CHECK(stream_now(w)->n_open == 2);
    node_down(w, controller, SIM_CRASH_KILL);
    CHECK(await_active(w, 10000));
    const struct map_stream *s = stream_now(w);
    CHECK(s->n_shards == 3 && s->shards[0].ended && s->shards[0].ended_offset == 1 && s->shards[1].opened && s->shards[2].opened);
    CHECK(put_to(w, 0, &low, &p, 1) == SLUICE_E_CLOSED);
    CHECK(put_to(w, 1, &low, &p, 0) == 0 && put_to(w, 2, &high, &p, 0) == 0);
    CHECK(put_to(w, 2, &low, &p, 1) == SLUICE_E_WRONG_SHARD);
    node_up(w, controller);
    run_ms(w, 2000);
    CHECK(put_to(w, 1, &low, &p, 1) == 0);
}

/* F29: not decided, and the children never get leaders: undone after a while, the parent is as before. */
STORY(undecided_is_undone)
{
    world_open(w, 3);
    create_stream(w, 0, "s", 3);
    struct producer p = {.id = {7}};
    struct hash128 low = {{0}};
    slow_disks(w, 100); /* so that there is time to strike between the steps */
    unsigned l = leader(w);
    unsigned controller = controller_leader_node(w->nodes[l].node->controller) - 1;
    struct client *c = dial(w, l);
    split_send(c, 0);
    for (unsigned i = 0; i < 3000 && stream_now(w)->n_shards == 1; i++) {
        run_ms(w, 1);
    }
    CHECK(stream_now(w)->n_shards == 3 && stream_now(w)->n_open == 1); /* children, of which nobody is told */
    for (unsigned i = 0; i < 3; i++) {
        if (i != controller) {
            node_down(w, i, SIM_CRASH_KILL);
        }
    }
    run_ms(w, 2000);
    CHECK(stream_now(w)->n_open == 1);
    for (unsigned i = 0; i < 3; i++) {
        if (i != controller) {
            node_up(w, i);
        }
    }
    CHECK(await_active(w, 40000)); /* either end is right, nothing between */
    const struct map_stream *s = stream_now(w);
    bool undone = s->n_open == 1;
    CHECK(s->n_shards == (undone ? 1u : 3u) && s->n_reshards == 0);
    CHECK(put_to(w, 0, &low, &p, 0) == (undone ? 0 : SLUICE_E_CLOSED));
}

/* A closed parent is listed and read until its retention has passed, then it vanishes, with its group; its children keep its number. */
STORY(expired_parents_vanish)
{
    world_open(w, 1);
    create_stream(w, 0, "s", 1);
    struct producer p = {.id = {7}};
    struct client *c = dial(w, 0);
    CHECK(put(c, &p, 0, 3).code == 0);
    uint64_t group = w->group;
    split_send(c, 0);
    run_ms(w, 1000);
    CHECK(await_active(w, 5000));
    CHECK(fetch(c, 0, 0).payload > 0 && fetch(c, 3, 0).closed);
    run_ms(w, 23 * 3600 * 1000ull);
    c = dial(w, 0);
    CHECK(fetch(c, 0, 0).payload > 0 && cluster_map_shard(stream_now(w), 0) != NULL);
    CHECK(resolve(c, &p, 0).outcome == SLUICE__RESOLVE_REPLY__OUTCOME__DONE);
    run_ms(w, 2 * 3600 * 1000ull);
    const struct map_stream *s = stream_now(w);
    CHECK(cluster_map_shard(s, 0) == NULL && s->n_shards == 2 && s->n_open == 2 && s->shards[0].parents[0] == 0);
    c = dial(w, 0);
    CHECK(fetch(c, 0, 0).code == SLUICE_E_NOT_FOUND);
    for (unsigned i = 0; i < w->nodes[0].node->n_lanes; i++) {
        CHECK(lane_shard(w->nodes[0].node->lanes[i], group) == NULL);
    }
    struct hash128 low = {{0}};
    CHECK(put_to(w, 1, &low, &p, 0) == 0);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(closed_is_told_when_it_is_committed), cmocka_unit_test(decided_goes_forward), cmocka_unit_test(undecided_is_undone),
        cmocka_unit_test(expired_parents_vanish),
    };
    if (argc > 1) {
        cmocka_set_test_filter(argv[1]);
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
