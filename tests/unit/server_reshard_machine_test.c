/* Splits and merges in the controller's machine: what may begin, the point of no return, tiling at every step, numbers above the parents', counts of shards. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "proto/base.h"
#include "proto/error.h"
#include "proto/seqno.h"
#include "server/controller_machine.h"
#include "server/reshard_plan.h"
#include "server/settings.h"
#include "tests/unit/server_machine_fixture.h"

struct world { struct controller_machine *m; uint64_t index, now_ms; };

static int apply(struct world *w, struct controller_entry *e)
{
    struct out_buffer out = {0};
    e->now_ms = w->now_ms;
    if (e->kind != CONTROLLER_INIT && e->kind != CONTROLLER_STREAM_CREATE) {
        memset(e->stream_id, 1, 16);
    }
    controller_entry_encode(e, &out);
    struct controller_result r;
    assert_int_equal(controller_machine_apply(w->m, ++w->index, out.data, out.len, &r), 0);
    free(out.data);
    return r.code;
}

static const uint32_t places[] = {1, 2, 3, 2, 3, 1, 3, 1, 2, 1, 2, 3, 1, 2, 3, 1, 2, 3, 1, 2, 3, 1, 2, 3};

/* Three nodes and an active stream. */
static void begin(struct world *w, uint32_t shards)
{
    struct map_node nodes[3];
    memset(nodes, 0, sizeof nodes);
    for (unsigned i = 0; i < 3; i++) {
        nodes[i].id = i + 1;
        snprintf(nodes[i].host, sizeof nodes[i].host, "n%u", i + 1);
    }
    *w = (struct world){.m = controller_machine_new(), .now_ms = 9000};
    struct controller_entry init = {.kind = CONTROLLER_INIT, .nodes = nodes, .n_nodes = 3, .n_voters = 3, .cluster_id = {7}};
    assert_int_equal(apply(w, &init), 0);
    struct controller_entry create = {.kind = CONTROLLER_STREAM_CREATE, .shards = shards, .replicas = 3, .retention_hours = 24, .record_max = 1 << 20, .name = "s",
                                      .account = "000000000000", .placement = (uint32_t *)places};
    memset(create.stream_id, 1, 16);
    assert_int_equal(apply(w, &create), 0);
    struct controller_entry active = {.kind = CONTROLLER_STREAM_ACTIVE};
    assert_int_equal(apply(w, &active), 0);
}

static int split_for(struct world *w, uint32_t shard, const struct hash128 *at, uint32_t target)
{
    struct controller_entry e = {.kind = CONTROLLER_RESHARD_BEGIN, .n_parents = 1, .parents = {shard}, .at = *at, .replicas = 3, .placement = (uint32_t *)places, .target = target};
    return apply(w, &e);
}
static int split(struct world *w, uint32_t shard, const struct hash128 *at) { return split_for(w, shard, at, 0); }

static int merge(struct world *w, uint32_t a, uint32_t b)
{
    struct controller_entry e = {.kind = CONTROLLER_RESHARD_BEGIN, .n_parents = 2, .parents = {a, b}, .replicas = 3, .placement = (uint32_t *)places};
    return apply(w, &e);
}

static int step(struct world *w, enum reshard_step what, uint64_t reshard, uint32_t shard, uint64_t offset, uint64_t time_ms)
{
    struct controller_entry e = {.kind = CONTROLLER_RESHARD_STEP, .step = what, .reshard = reshard, .shard = shard, .offset = offset, .time_ms = time_ms};
    return apply(w, &e);
}

static int target(struct world *w, uint32_t n)
{
    struct controller_entry e = {.kind = CONTROLLER_RESHARD_TARGET, .target = n};
    return apply(w, &e);
}

/* The stream as it is, after a look at what holds at every moment: what is told of tiles all keys, and a snapshot restores to the same state. */
static const struct map_stream *look(struct world *w, struct cluster_map **map)
{
    machine_through_snapshot(&w->m, 29); /* not each cut, as this is done after every step */
    *map = controller_machine_map(w->m);
    const struct map_stream *s = cluster_map_stream(*map, "000000000000", "s");
    static const struct hash128 lowest;
    struct hash128 highest;
    memset(&highest, 0xff, sizeof highest);
    assert_memory_equal(&s->open[0]->first, &lowest, 16);
    for (unsigned i = 1; i < s->n_open; i++) {
        assert_true(hash_follows(&s->open[i - 1]->last, &s->open[i]->first));
    }
    assert_memory_equal(&s->open[s->n_open - 1]->last, &highest, 16);
    for (unsigned i = 0; i < s->n_shards; i++) { /* every parent that is still there is closed, as far as its children are decided */
        for (unsigned k = 0; k < s->shards[i].n_parents; k++) {
            const struct map_shard *parent = cluster_map_shard(s, s->shards[i].parents[k]);
            assert_true(parent == NULL || parent->closed == !s->shards[i].coming);
            assert_true(parent == NULL || parent->created_s < s->shards[i].created_s);
        }
        assert_ptr_equal(cluster_map_shard_by_group(*map, s->shards[i].group), &s->shards[i]);
    }
    return s;
}

static struct hash128 middle_of(struct world *w, uint32_t shard)
{
    struct cluster_map *map;
    const struct map_shard *m = cluster_map_shard(look(w, &map), shard);
    struct hash128 at;
    hash_middle(&m->first, &m->last, &at);
    cluster_map_unref(map);
    return at;
}

static void a_split_goes_through_its_steps(void **state)
{
    (void)state;
    struct world w;
    struct cluster_map *map;
    begin(&w, 2);
    struct hash128 at = middle_of(&w, 1);
    assert_int_equal(split(&w, 1, &at), 0);
    const struct map_stream *s = look(&w, &map);
    assert_int_equal(s->status, STREAM_UPDATING);
    assert_int_equal(s->n_shards, 4);
    assert_int_equal(s->n_open, 2); /* nobody is told of the children */
    assert_true(s->shards[2].coming && s->shards[3].coming);
    uint64_t id = s->reshards[0].id;
    assert_int_equal(id, s->shards[2].group);
    cluster_map_unref(map);
    /* One at a time. */
    struct hash128 other = middle_of(&w, 0);
    assert_int_equal(split(&w, 0, &other), SLUICE_E_NOT_ACTIVE);
    assert_int_equal(target(&w, 3), SLUICE_E_NOT_ACTIVE);
    /* No step out of turn. */
    assert_int_equal(step(&w, RESHARD_STEP_ENDED, id, 1, 10, 100), SLUICE_E_CONFLICT);
    assert_int_equal(step(&w, RESHARD_STEP_OPENED, id, 2, 0, 0), SLUICE_E_CONFLICT);
    assert_int_equal(step(&w, RESHARD_STEP_DECIDE, id + 1, 0, 0, 0), SLUICE_E_NOT_FOUND);
    assert_int_equal(step(&w, RESHARD_STEP_DECIDE, id, 0, 0, 0), 0);
    s = look(&w, &map);
    assert_int_equal(s->n_open, 3);
    assert_true(s->shards[1].closed && !s->shards[1].ended);
    assert_int_equal(s->shards[1].n_children, 2);
    assert_int_equal(s->shards[1].children[0], 2);
    assert_int_equal(s->shards[1].children[1], 3);
    assert_memory_equal(&s->shards[2].first, &s->shards[1].first, 16);
    assert_memory_equal(&s->shards[3].first, &at, 16);
    assert_memory_equal(&s->shards[3].last, &s->shards[1].last, 16);
    cluster_map_unref(map);
    /* The point of no return: never back, and only once. */
    assert_int_equal(step(&w, RESHARD_STEP_UNDO, id, 0, 0, 0), SLUICE_E_CONFLICT);
    assert_int_equal(step(&w, RESHARD_STEP_DECIDE, id, 0, 0, 0), SLUICE_E_CONFLICT);
    assert_int_equal(step(&w, RESHARD_STEP_OPENED, id, 2, 0, 0), SLUICE_E_CONFLICT); /* its parent has not ended */
    assert_int_equal(step(&w, RESHARD_STEP_ENDED, id, 0, 10, 100), SLUICE_E_CONFLICT);
    assert_int_equal(step(&w, RESHARD_STEP_ENDED, id, 1, 10, 100), 0);
    assert_int_equal(step(&w, RESHARD_STEP_ENDED, id, 1, 99, 999), SLUICE_E_CONFLICT); /* the first word counts */
    assert_int_equal(step(&w, RESHARD_STEP_OPENED, id, 2, 0, 0), 0);
    s = look(&w, &map);
    assert_int_equal(s->status, STREAM_UPDATING);
    assert_int_equal(s->shards[1].ended_offset, 10);
    assert_int_equal(s->shards[1].ended_ms, 100);
    cluster_map_unref(map);
    assert_int_equal(step(&w, RESHARD_STEP_OPENED, id, 3, 0, 0), 0);
    s = look(&w, &map);
    assert_int_equal(s->status, STREAM_ACTIVE);
    assert_int_equal(s->n_reshards, 0);
    for (unsigned i = 0; i < s->n_shards; i++) {
        assert_int_equal(s->shards[i].reshard, 0);
    }
    /* Children in the second of their parent's creation still have higher numbers (F33). */
    char last[SEQNO_TEXT_MAX];
    char first[SEQNO_TEXT_MAX];
    seqno_format(&(struct seqno){.shard_created_s = s->shards[1].created_s, .shard = 1, .offset = SEQNO_OFFSET_MAX, .time_s = 5}, last);
    seqno_format(&(struct seqno){.shard_created_s = s->shards[2].created_s, .shard = 2, .offset = 0, .time_s = 5}, first);
    assert_true(seqno_compare_text(last, first) < 0);
    cluster_map_unref(map);
    /* A closed shard is not split again. */
    assert_int_equal(split(&w, 1, &at), SLUICE_E_INVALID);
    assert_int_equal(merge(&w, 0, 1), SLUICE_E_INVALID);
    controller_machine_free(w.m);
}

/* Until it is decided it can be undone; what was prepared goes for ever. */
static void an_undone_split_leaves_the_old_state(void **state)
{
    (void)state;
    struct world w;
    struct cluster_map *map;
    begin(&w, 1);
    struct hash128 at = middle_of(&w, 0);
    assert_int_equal(split(&w, 0, &at), 0);
    const struct map_stream *s = look(&w, &map);
    uint64_t id = s->reshards[0].id;
    uint64_t groups[] = {s->shards[1].group, s->shards[2].group};
    cluster_map_unref(map);
    assert_int_equal(step(&w, RESHARD_STEP_UNDO, id, 0, 0, 0), 0);
    assert_int_equal(step(&w, RESHARD_STEP_DECIDE, id, 0, 0, 0), SLUICE_E_NOT_FOUND);
    s = look(&w, &map);
    assert_int_equal(s->status, STREAM_ACTIVE);
    assert_int_equal(s->n_shards, 1);
    assert_int_equal(s->shards[0].reshard, 0);
    for (unsigned i = 0; i < 2; i++) {
        assert_int_equal(cluster_map_verdict(map, groups[i], 1, 1, NULL), REPLICA_REMOVE);
    }
    cluster_map_unref(map);
    /* The next one gets other numbers and groups. */
    assert_int_equal(split(&w, 0, &at), 0);
    s = look(&w, &map);
    assert_int_equal(s->shards[1].shard, 3);
    assert_true(s->shards[1].group > groups[1]);
    cluster_map_unref(map);
    controller_machine_free(w.m);
}

/* With the rule off a decided one is undone: the test of the switch. */
static void without_the_rule_a_decided_one_is_undone(void **state)
{
    (void)state;
    struct world w;
    struct cluster_map *map;
    begin(&w, 1);
    controller_machine_disable(w.m, SERVER_RULE_DECIDE);
    struct hash128 at = {.b = {0x40}};
    assert_int_equal(split(&w, 0, &at), 0);
    assert_int_equal(step(&w, RESHARD_STEP_DECIDE, 3, 0, 0, 0), 0);
    assert_int_equal(step(&w, RESHARD_STEP_UNDO, 3, 0, 0, 0), 0);
    const struct map_stream *s = look(&w, &map);
    assert_int_equal(s->n_open, 1);
    cluster_map_unref(map);
    controller_machine_free(w.m);
}

static void run_through(struct world *w)
{
    for (;;) {
        struct cluster_map *map;
        const struct map_stream *s = look(w, &map);
        if (s->n_reshards == 0) {
            cluster_map_unref(map);
            return;
        }
        struct map_reshard x = s->reshards[s->n_reshards - 1];
        cluster_map_unref(map);
        assert_int_equal(step(w, RESHARD_STEP_DECIDE, x.id, 0, 0, 0), 0);
        for (unsigned i = 0; i < x.n_parents; i++) {
            assert_int_equal(step(w, RESHARD_STEP_ENDED, x.id, x.parents[i], 5, w->now_ms), 0);
        }
        for (unsigned i = 0; i < x.n_children; i++) {
            assert_int_equal(step(w, RESHARD_STEP_OPENED, x.id, x.children[i], 0, 0), 0);
        }
    }
}

static void merges_take_neighbours_in_order(void **state)
{
    (void)state;
    struct world w;
    struct cluster_map *map;
    begin(&w, 4);
    assert_int_equal(merge(&w, 0, 2), SLUICE_E_INVALID);
    assert_int_equal(merge(&w, 2, 1), SLUICE_E_INVALID);
    assert_int_equal(merge(&w, 1, 1), SLUICE_E_INVALID);
    assert_int_equal(merge(&w, 3, 4), SLUICE_E_NOT_FOUND);
    assert_int_equal(merge(&w, 1, 2), 0);
    const struct map_stream *s = look(&w, &map);
    uint64_t id = s->reshards[0].id;
    cluster_map_unref(map);
    assert_int_equal(step(&w, RESHARD_STEP_DECIDE, id, 0, 0, 0), 0);
    assert_int_equal(step(&w, RESHARD_STEP_ENDED, id, 1, 3, 50), 0);
    assert_int_equal(step(&w, RESHARD_STEP_OPENED, id, 4, 0, 0), SLUICE_E_CONFLICT); /* the other parent goes on */
    assert_int_equal(step(&w, RESHARD_STEP_ENDED, id, 2, 3, 60), 0);
    assert_int_equal(step(&w, RESHARD_STEP_OPENED, id, 4, 0, 0), 0);
    s = look(&w, &map);
    assert_int_equal(s->status, STREAM_ACTIVE);
    const struct map_shard *child = cluster_map_shard(s, 4);
    assert_int_equal(child->n_parents, 2);
    assert_memory_equal(&child->first, &cluster_map_shard(s, 1)->first, 16);
    assert_memory_equal(&child->last, &cluster_map_shard(s, 2)->last, 16);
    cluster_map_unref(map);
    controller_machine_free(w.m);
}

static void the_key_of_a_split_lies_inside(void **state)
{
    (void)state;
    struct world w;
    struct cluster_map *map;
    begin(&w, 2);
    struct hash128 at = {{0}};
    assert_int_equal(split(&w, 0, &at), SLUICE_E_INVALID);
    at.b[15] = 1; /* one key for the lower child: requests refuse it, the machine could */
    assert_int_equal(split(&w, 0, &at), 0);
    const struct map_stream *s = look(&w, &map);
    assert_memory_equal(&s->shards[2].first, &s->shards[2].last, 16);
    cluster_map_unref(map);
    run_through(&w);
    at.b[0] = 0x80;
    at.b[15] = 0;
    assert_int_equal(split(&w, 1, &at), SLUICE_E_INVALID); /* where it begins already */
    assert_int_equal(split(&w, 3, &at), SLUICE_E_INVALID); /* another one's */
    assert_int_equal(split(&w, 9, &at), SLUICE_E_NOT_FOUND);
    controller_machine_free(w.m);
}

/* A change of the number of shards, as the reconciler brings it about: steps of the plan until the shards are even. */
static void scale(struct world *w, uint32_t to)
{
    assert_int_equal(target(w, to), 0);
    unsigned rounds = 0;
    for (;; rounds++) {
        struct cluster_map *map;
        const struct map_stream *s = look(w, &map);
        if (s->status == STREAM_ACTIVE) {
            assert_int_equal(s->n_open, to);
            assert_true(reshard_is_even(s, to));
            cluster_map_unref(map);
            break;
        }
        struct reshard_step_plan plan[RESHARDS_MAX];
        unsigned n = reshard_plan(s, to, plan, ARRAY_LEN(plan));
        assert_true(n > 0);
        cluster_map_unref(map);
        for (unsigned i = 0; i < n; i++) {
            struct controller_entry e = {.kind = CONTROLLER_RESHARD_BEGIN, .n_parents = plan[i].n_parents, .at = plan[i].at, .replicas = 3,
                                         .placement = (uint32_t *)places, .target = to};
            memcpy(e.parents, plan[i].parents, sizeof e.parents);
            assert_int_equal(apply(w, &e), 0);
        }
        run_through(w);
    }
    assert_true(rounds <= 4);
}

static void numbers_of_shards_become_even(void **state)
{
    (void)state;
    struct world w;
    begin(&w, 4);
    static const uint32_t way[] = {8, 4, 5, 7, 6, 3, 2, 4};
    for (unsigned i = 0; i < ARRAY_LEN(way); i++) {
        w.now_ms += 60000;
        scale(&w, way[i]);
    }
    controller_machine_free(w.m);
}

static void changes_of_the_number_have_bounds(void **state)
{
    (void)state;
    struct world w;
    begin(&w, 4);
    assert_int_equal(target(&w, 9), SLUICE_E_INVALID);
    assert_int_equal(target(&w, 1), SLUICE_E_INVALID);
    assert_int_equal(target(&w, 0), SLUICE_E_INVALID);
    assert_int_equal(target(&w, 4), 0); /* it is so already: nothing begins */
    struct cluster_map *map;
    assert_int_equal(look(&w, &map)->status, STREAM_ACTIVE);
    cluster_map_unref(map);
    for (unsigned i = 0; i < SCALINGS_MAX; i++) {
        scale(&w, i % 2 == 0 ? 5 : 4);
        w.now_ms += 1000;
    }
    assert_int_equal(target(&w, 5), SLUICE_E_TOO_LARGE); /* ten within a day */
    w.now_ms += SCALINGS_WINDOW_MS - 10000 + 500;       /* the first of them is a day old */
    assert_int_equal(target(&w, 5), 0);
    controller_machine_free(w.m);
}

/* A closed shard vanishes when its records have; its children keep its number, and it is never given again. */
static void what_has_expired_vanishes(void **state)
{
    (void)state;
    struct world w;
    struct cluster_map *map;
    begin(&w, 1);
    struct hash128 at = middle_of(&w, 0);
    assert_int_equal(step(&w, RESHARD_STEP_GONE, 0, 0, 0, 0), SLUICE_E_CONFLICT);
    assert_int_equal(split(&w, 0, &at), 0);
    assert_int_equal(step(&w, RESHARD_STEP_GONE, 0, 0, 0, 0), SLUICE_E_CONFLICT);
    run_through(&w);
    assert_int_equal(step(&w, RESHARD_STEP_GONE, 0, 0, 0, 0), 0);
    assert_int_equal(step(&w, RESHARD_STEP_GONE, 0, 0, 0, 0), SLUICE_E_NOT_FOUND);
    const struct map_stream *s = look(&w, &map);
    assert_int_equal(s->n_shards, 2);
    assert_int_equal(s->shards[0].shard, 1);
    assert_int_equal(s->shards[0].parents[0], 0);
    assert_int_equal(cluster_map_verdict(map, 2, 1, 1, NULL), REPLICA_REMOVE);
    cluster_map_unref(map);
    assert_int_equal(merge(&w, 1, 2), 0);
    run_through(&w);
    s = look(&w, &map);
    assert_int_equal(s->shards[2].shard, 3);
    cluster_map_unref(map);
    controller_machine_free(w.m);
}

/* Deleted in the middle of a split: everything goes, and no step comes after. */
static void a_stream_is_deleted_in_the_middle(void **state)
{
    (void)state;
    struct world w;
    begin(&w, 1);
    struct hash128 at = {.b = {0x70}};
    assert_int_equal(split(&w, 0, &at), 0);
    struct controller_entry delete = {.kind = CONTROLLER_STREAM_DELETE};
    assert_int_equal(apply(&w, &delete), 0);
    assert_int_equal(step(&w, RESHARD_STEP_DECIDE, 3, 0, 0, 0), SLUICE_E_NOT_FOUND);
    delete.done = true;
    assert_int_equal(apply(&w, &delete), 0);
    struct cluster_map *map = controller_machine_map(w.m);
    assert_int_equal(map->n_streams, 0);
    for (uint64_t g = 2; g < 5; g++) {
        assert_int_equal(cluster_map_verdict(map, g, 1, 1, NULL), REPLICA_REMOVE);
    }
    cluster_map_unref(map);
    controller_machine_free(w.m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_split_goes_through_its_steps),
        cmocka_unit_test(an_undone_split_leaves_the_old_state),
        cmocka_unit_test(without_the_rule_a_decided_one_is_undone),
        cmocka_unit_test(merges_take_neighbours_in_order),
        cmocka_unit_test(the_key_of_a_split_lies_inside),
        cmocka_unit_test(numbers_of_shards_become_even),
        cmocka_unit_test(changes_of_the_number_have_bounds),
        cmocka_unit_test(what_has_expired_vanishes),
        cmocka_unit_test(a_stream_is_deleted_in_the_middle),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
