/* The controller's machine: entries in, state out; deterministic; first wins; generations and group ids are never given twice. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "proto/base.h"
#include "proto/error.h"
#include "server/controller_machine.h"

struct world { struct controller_machine *m; uint64_t index; };

static struct controller_result apply(struct world *w, const struct controller_entry *e)
{
    struct out_buffer out = {0};
    controller_entry_encode(e, &out);
    struct controller_result r;
    assert_int_equal(controller_machine_apply(w->m, ++w->index, out.data, out.len, &r), 0);
    free(out.data);
    return r;
}

static void init(struct world *w, unsigned n)
{
    struct map_node nodes[8];
    memset(nodes, 0, sizeof nodes);
    for (unsigned i = 0; i < n; i++) {
        nodes[i].id = i + 1;
        snprintf(nodes[i].host, sizeof nodes[i].host, "n%u", i + 1);
        nodes[i].port = 4570;
    }
    *w = (struct world){.m = controller_machine_new()};
    struct controller_entry e = {.kind = CONTROLLER_INIT, .now_ms = 5000, .nodes = nodes, .n_nodes = n, .n_voters = n < 3 ? n : 3};
    memset(e.cluster_id, 7, 16);
    assert_int_equal(apply(w, &e).code, 0);
}

static struct controller_result create(struct world *w, const char *name, uint8_t id, uint8_t request, uint32_t shards)
{
    uint32_t placement[64];
    for (uint32_t i = 0; i < shards * 3; i++) {
        placement[i] = (i + i / 3) % 3 + 1;
    }
    struct controller_entry e = {.kind = CONTROLLER_STREAM_CREATE, .now_ms = 9000, .shards = shards, .replicas = 3, .retention_hours = 24,
                                 .record_max = 1 << 20, .placement = placement};
    memset(e.stream_id, id, 16);
    memset(e.request_id, request, 16);
    snprintf(e.name, sizeof e.name, "%s", name);
    snprintf(e.account, sizeof e.account, "000000000000");
    return apply(w, &e);
}

static struct controller_result replica(struct world *w, uint64_t group, enum replica_op op, uint32_t node, uint32_t generation, uint32_t to)
{
    struct controller_entry e = {.kind = CONTROLLER_REPLICA, .group = group, .op = op, .replica_node = node, .replica_generation = generation, .to_node = to};
    return apply(w, &e);
}

static struct controller_result life(struct world *w, uint32_t node, uint64_t incarnation, enum node_life life_kind)
{
    struct controller_entry e = {.kind = CONTROLLER_NODE_LIFE, .incarnation = incarnation, .life = life_kind};
    e.node.id = node;
    return apply(w, &e);
}

static void state_change(struct world *w, uint32_t node, enum node_state to, int code)
{
    struct controller_entry e = {.kind = CONTROLLER_NODE_STATE};
    e.node.id = node;
    e.node.state = to;
    assert_int_equal(apply(w, &e).code, code);
}

/* A snapshot restores to the same state: the bytes are the same again, and so is what later entries do. */
static void check_snapshot(struct world *w)
{
    struct out_buffer a = {0};
    controller_machine_snapshot(w->m, &a);
    struct controller_machine *copy;
    assert_int_equal(controller_machine_restore(&copy, a.data, a.len), 0);
    struct out_buffer b = {0};
    controller_machine_snapshot(copy, &b);
    assert_int_equal(a.len, b.len);
    assert_memory_equal(a.data, b.data, a.len);
    for (size_t n = 0; n < a.len; n++) { /* every cut is refused */
        struct controller_machine *none;
        assert_int_not_equal(controller_machine_restore(&none, a.data, n), 0);
    }
    controller_machine_free(w->m);
    w->m = copy;
    free(a.data);
    free(b.data);
}

static void streams_are_created_once(void **state)
{
    (void)state;
    struct world w;
    init(&w, 3);
    assert_int_equal(create(&w, "a", 1, 1, 4).code, 0);
    struct controller_result again = create(&w, "a", 2, 1, 4); /* the same request id, proposed twice */
    assert_int_equal(again.code, 0);
    assert_int_equal(again.stream_id[0], 1);
    assert_int_equal(create(&w, "a", 3, 3, 4).code, SLUICE_E_EXISTS);
    assert_int_equal(create(&w, "b/", 4, 4, 1).code, SLUICE_E_INVALID);
    assert_int_equal(create(&w, "b", 5, 5, 2).code, 0);
    check_snapshot(&w);
    assert_int_equal(create(&w, "b", 6, 5, 2).stream_id[0], 5);
    struct cluster_map *map = controller_machine_map(w.m);
    assert_int_equal(map->n_streams, 2);
    const struct map_stream *a = cluster_map_stream(map, "000000000000", "a");
    const struct map_stream *b = cluster_map_stream(map, "000000000000", "b");
    assert_non_null(a);
    assert_non_null(b);
    assert_int_equal(a->shards[0].group, 2);
    assert_int_equal(b->shards[1].group, 7);
    assert_int_equal(map->next_group, 8);
    assert_int_equal(a->created_ms, 9000);
    assert_int_equal(a->shards[0].created_s, 9);
    assert_ptr_equal(cluster_map_stream_by_id(map, b->id), b);
    assert_ptr_equal(cluster_map_shard_by_group(map, 5), &a->shards[3]);
    assert_null(cluster_map_shard_by_group(map, 8));
    struct hash128 key;
    memset(&key, 0xff, sizeof key);
    assert_ptr_equal(cluster_map_route(a, &key), &a->shards[3]);
    memset(&key, 0, sizeof key);
    assert_ptr_equal(cluster_map_route(a, &key), &a->shards[0]);
    assert_ptr_equal(cluster_map_route(a, &a->shards[2].first), &a->shards[2]);
    assert_ptr_equal(cluster_map_route(a, &a->shards[1].last), &a->shards[1]);
    cluster_map_unref(cluster_map_ref(map));
    cluster_map_unref(map);
    controller_machine_free(w.m);
}

static void deleted_groups_are_gone_for_ever(void **state)
{
    (void)state;
    struct world w;
    init(&w, 3);
    create(&w, "a", 1, 1, 2); /* groups 2, 3 */
    struct controller_entry e = {.kind = CONTROLLER_STREAM_DELETE, .done = true};
    memset(e.stream_id, 1, 16);
    assert_int_equal(apply(&w, &e).code, SLUICE_E_CONFLICT); /* not begun */
    e.done = false;
    assert_int_equal(apply(&w, &e).code, 0);
    e.done = true;
    assert_int_equal(apply(&w, &e).code, 0);
    assert_int_equal(create(&w, "a", 2, 2, 1).code, 0); /* the name is free again, the group ids are not */
    struct cluster_map *map = controller_machine_map(w.m);
    assert_int_equal(map->streams[0].shards[0].group, 4);
    const struct map_replica *want;
    assert_int_equal(cluster_map_verdict(map, 2, 1, 1, &want), REPLICA_REMOVE);
    assert_int_equal(cluster_map_verdict(map, 4, 1, 1, &want), REPLICA_KEEP);
    assert_int_equal(cluster_map_verdict(map, 4, 1, 2, &want), REPLICA_WAIT); /* a generation this map does not know yet */
    assert_int_equal(cluster_map_verdict(map, 5, 1, 1, &want), REPLICA_WAIT); /* a group this map does not know yet */
    cluster_map_unref(map);
    check_snapshot(&w);
    controller_machine_free(w.m);
}

static void a_replica_is_replaced_in_place(void **state)
{
    (void)state;
    struct world w;
    init(&w, 4);
    create(&w, "a", 1, 1, 1);
    assert_int_equal(replica(&w, 2, REPLICA_OP_REPLACE, 2, 1, 3).code, SLUICE_E_CONFLICT); /* 3 has one already */
    assert_int_equal(replica(&w, 2, REPLICA_OP_REPLACE, 2, 1, 4).code, 0);
    assert_int_equal(replica(&w, 2, REPLICA_OP_REPLACE, 2, 1, 4).code, SLUICE_E_CONFLICT); /* a repeated proposal loses */
    struct cluster_map *map = controller_machine_map(w.m);
    const struct map_shard *s = cluster_map_shard_by_group(map, 2);
    const struct map_replica *r = cluster_map_replica(s, 4);
    assert_non_null(r);
    assert_int_equal(r->generation, 2);
    assert_true(r->joining && !r->first);
    assert_int_equal(cluster_map_verdict(map, 2, 2, 1, NULL), REPLICA_REMOVE);
    cluster_map_unref(map);
    assert_int_equal(replica(&w, 2, REPLICA_OP_JOINED, 4, 2, 0).code, 0);
    check_snapshot(&w);
    controller_machine_free(w.m);
}

static void a_moved_replica_leaves_after_the_new_one_votes(void **state)
{
    (void)state;
    struct world w;
    init(&w, 4);
    create(&w, "a", 1, 1, 1);
    struct cluster_map *map = controller_machine_map(w.m);
    uint32_t old = map->streams[0].shards[0].preferred_leader;
    cluster_map_unref(map);
    assert_int_equal(replica(&w, 2, REPLICA_OP_MOVE, old, 1, 4).code, 0);
    assert_int_equal(replica(&w, 2, REPLICA_OP_GONE, old, 1, 0).code, SLUICE_E_CONFLICT);
    assert_int_equal(replica(&w, 2, REPLICA_OP_REPLACE, old, 1, old).code, SLUICE_E_CONFLICT); /* one is under way already */
    assert_int_equal(replica(&w, 2, REPLICA_OP_JOINED, 4, 2, 0).code, 0);
    map = controller_machine_map(w.m);
    const struct map_shard *s = &map->streams[0].shards[0];
    assert_int_equal(s->n_replicas, 4);
    assert_true(cluster_map_replica(s, old)->leaving);
    assert_int_equal(s->preferred_leader, 4);
    assert_int_equal(cluster_map_verdict(map, 2, old, 1, NULL), REPLICA_KEEP); /* until the configuration let go of it */
    cluster_map_unref(map);
    assert_int_equal(replica(&w, 2, REPLICA_OP_GONE, old, 1, 0).code, 0);
    map = controller_machine_map(w.m);
    assert_int_equal(map->streams[0].shards[0].n_replicas, 3);
    assert_int_equal(cluster_map_verdict(map, 2, old, 1, NULL), REPLICA_REMOVE);
    cluster_map_unref(map);
    controller_machine_free(w.m);
}

/* What takes the place of a replica that lost its disk meanwhile is an ordinary one from then on: nobody must think that a replica is missing. */
static void a_moved_replica_that_lost_its_disk_is_gone(void **state)
{
    (void)state;
    struct world w;
    init(&w, 4);
    create(&w, "a", 1, 1, 1);
    assert_int_equal(replica(&w, 2, REPLICA_OP_MOVE, 1, 1, 4).code, 0);
    assert_int_equal(life(&w, 1, BLANK_LIFE_JUMP, LIFE_BLANK).code, 0);
    struct cluster_map *map = controller_machine_map(w.m);
    const struct map_shard *s = &map->streams[0].shards[0];
    assert_int_equal(s->n_replicas, 3);
    assert_null(cluster_map_replica(s, 1));
    assert_int_equal(cluster_map_replica(s, 4)->replaces_node, 0);
    assert_int_equal(cluster_map_replica(s, 4)->replaces_generation, 0);
    assert_true(cluster_map_replica(s, 4)->joining);
    cluster_map_unref(map);
    check_snapshot(&w);
    controller_machine_free(w.m);
}

static void a_blank_disk_gets_new_generations_once_per_life(void **state)
{
    (void)state;
    struct world w;
    init(&w, 3);
    create(&w, "a", 1, 1, 2);
    assert_int_equal(life(&w, 3, 4, LIFE_KEPT).code, 0);
    struct controller_result r = life(&w, 3, 1, LIFE_BLANK); /* a wiped disk counts from 1: it must count above what is known */
    assert_int_equal(r.code, SLUICE_E_CONFLICT);
    assert_int_equal(r.incarnation, 4);
    assert_int_equal(life(&w, 3, 4, LIFE_BLANK).code, SLUICE_E_CONFLICT); /* the same number, but another disk */
    assert_int_equal(life(&w, 3, 5, LIFE_BLANK).code, SLUICE_E_CONFLICT); /* the old disk may have lived as 5 without being heard */
    uint64_t now = 4 + BLANK_LIFE_JUMP;
    r = life(&w, 3, now, LIFE_BLANK);
    assert_int_equal(r.code, 0);
    assert_int_equal(r.generation, 2);
    r = life(&w, 3, now, LIFE_BLANK); /* asked again in the same life: the same answer, no new generations */
    assert_int_equal(r.code, 0);
    assert_int_equal(r.generation, 2);
    struct cluster_map *map = controller_machine_map(w.m);
    for (unsigned i = 0; i < 2; i++) {
        const struct map_replica *x = cluster_map_replica(&map->streams[0].shards[i], 3);
        assert_int_equal(x->generation, 2);
        assert_true(x->joining && !x->first);
        assert_int_equal(cluster_map_verdict(map, map->streams[0].shards[i].group, 3, 1, NULL), REPLICA_REPLACED);
    }
    assert_int_equal(map->n_controller, 3);
    assert_int_equal(map->n_controller_voters, 2); /* it votes again only when it caught up */
    assert_int_equal(map->controller[2].node, 3);
    assert_int_equal(map->controller[2].generation, 2);
    assert_int_equal(cluster_map_node(map, 3)->blank_since, now);
    cluster_map_unref(map);
    assert_int_equal(life(&w, 3, now + 1, LIFE_CONTROLLER_LOST).generation, 3);
    map = controller_machine_map(w.m);
    assert_int_equal(cluster_map_replica(&map->streams[0].shards[0], 3)->generation, 2);
    cluster_map_unref(map);
    check_snapshot(&w);
    controller_machine_free(w.m);
}

static void nodes_come_drain_and_go(void **state)
{
    (void)state;
    struct world w;
    init(&w, 3);
    create(&w, "a", 1, 1, 1);
    struct controller_entry add = {.kind = CONTROLLER_NODE};
    add.node.id = 9;
    snprintf(add.node.host, sizeof add.node.host, "n9");
    assert_int_equal(apply(&w, &add).code, 0);
    assert_int_equal(apply(&w, &add).code, 0);
    assert_int_equal(replica(&w, 2, REPLICA_OP_MOVE, 1, 1, 9).code, SLUICE_E_CONFLICT); /* still joining */
    assert_int_equal(life(&w, 9, BLANK_LIFE_JUMP, LIFE_BLANK).generation, 2);
    state_change(&w, 9, NODE_ALIVE, 0);
    state_change(&w, 1, NODE_DRAINING, 0);
    state_change(&w, 1, NODE_REMOVED, SLUICE_E_CONFLICT); /* has replicas */
    assert_int_equal(replica(&w, 2, REPLICA_OP_MOVE, 1, 1, 9).code, 0);
    assert_int_equal(replica(&w, 2, REPLICA_OP_JOINED, 9, 2, 0).code, 0);
    assert_int_equal(replica(&w, 2, REPLICA_OP_GONE, 1, 1, 0).code, 0);
    state_change(&w, 1, NODE_REMOVED, 0);
    assert_int_equal(life(&w, 1, 10, LIFE_KEPT).code, SLUICE_E_NOT_FOUND);
    struct cluster_map *map = controller_machine_map(w.m);
    assert_int_equal(map->n_controller, 3);
    assert_int_equal(cluster_map_node(map, 1)->state, NODE_REMOVED);
    cluster_map_unref(map);
    check_snapshot(&w);
    controller_machine_free(w.m);
}

static void settings_have_versions(void **state)
{
    (void)state;
    struct world w;
    init(&w, 3);
    create(&w, "a", 1, 1, 1);
    struct controller_entry e = {.kind = CONTROLLER_STREAM_UPDATE, .retention_hours = 48};
    memset(e.stream_id, 1, 16);
    assert_int_equal(apply(&w, &e).code, 0);
    assert_int_equal(apply(&w, &e).code, 0); /* no change, no version */
    e.retention_hours = 23;
    assert_int_equal(apply(&w, &e).code, SLUICE_E_INVALID);
    struct cluster_map *map = controller_machine_map(w.m);
    assert_int_equal(map->streams[0].settings.version, 2);
    assert_int_equal(map->streams[0].settings.retention_hours, 48);
    cluster_map_unref(map);
    controller_machine_free(w.m);
}

static void malformed_entries_stop_the_replica(void **state)
{
    (void)state;
    struct world w;
    init(&w, 3);
    struct controller_entry e = {.kind = CONTROLLER_VOTERS, .n_voters = 1, .voters = {1}};
    struct out_buffer out = {0};
    controller_entry_encode(&e, &out);
    for (size_t n = 0; n < out.len; n++) {
        assert_int_equal(controller_machine_apply(w.m, 100, out.data, n, NULL), SLUICE_E_INVALID);
    }
    out.data[1] = 200;
    assert_int_equal(controller_machine_apply(w.m, 100, out.data, out.len, NULL), SLUICE_E_NOT_SUPPORTED);
    out.data[0] = 2;
    assert_int_equal(controller_machine_apply(w.m, 100, out.data, out.len, NULL), SLUICE_E_VERSION);
    free(out.data);
    /* Noise never does more than fail. */
    uint64_t x = 42;
    for (unsigned i = 0; i < 20000; i++) {
        uint8_t noise[96];
        for (unsigned k = 0; k < sizeof noise; k++) {
            x = x * 6364136223846793005u + 1442695040888963407u;
            noise[k] = (uint8_t)(x >> 56) & (k > 28 ? 0x0f : 0xff);
        }
        noise[0] = 1;
        noise[1] = (uint8_t)(CONTROLLER_INIT + noise[1] % 11);
        noise[2] = noise[3] = 0;
        controller_machine_apply(w.m, 100 + i, noise, x % sizeof noise, NULL);
        struct controller_machine *none;
        noise[1] &= 1;
        if (controller_machine_restore(&none, noise, sizeof noise) == 0) {
            controller_machine_free(none);
        }
    }
    check_snapshot(&w);
    controller_machine_free(w.m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(streams_are_created_once),
        cmocka_unit_test(deleted_groups_are_gone_for_ever),
        cmocka_unit_test(a_replica_is_replaced_in_place),
        cmocka_unit_test(a_moved_replica_leaves_after_the_new_one_votes),
        cmocka_unit_test(a_moved_replica_that_lost_its_disk_is_gone),
        cmocka_unit_test(a_blank_disk_gets_new_generations_once_per_life),
        cmocka_unit_test(nodes_come_drain_and_go),
        cmocka_unit_test(settings_have_versions),
        cmocka_unit_test(malformed_entries_stop_the_replica),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
