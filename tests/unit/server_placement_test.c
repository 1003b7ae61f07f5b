/* Placement: zones first, then load, then turns. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "proto/base.h"
#include "server/placement.h"

static void three_nodes_share_everything_evenly(void **state)
{
    (void)state;
    struct placement_node nodes[] = {{1, "", 0, 0, true}, {2, "", 0, 0, true}, {3, "", 0, 0, true}};
    for (uint32_t i = 0; i < 9; i++) {
        uint32_t out[3];
        assert_int_equal(placement_choose(nodes, 3, 3, i, out), 3);
        assert_true(out[0] != out[1] && out[1] != out[2] && out[0] != out[2]);
    }
    for (unsigned i = 0; i < 3; i++) {
        assert_int_equal(nodes[i].replicas, 9);
        assert_int_equal(nodes[i].leaders, 3);
    }
}

static void no_two_replicas_share_a_zone_while_zones_suffice(void **state)
{
    (void)state;
    struct placement_node nodes[] = {{1, "a", 0, 0, true}, {2, "a", 0, 0, true}, {3, "a", 0, 0, true}, {4, "b", 50, 0, true}, {5, "c", 90, 0, true}};
    for (uint32_t i = 0; i < 30; i++) {
        uint32_t out[3];
        assert_int_equal(placement_choose(nodes, 5, 3, i, out), 3);
        unsigned in_a = 0;
        for (unsigned k = 0; k < 3; k++) {
            in_a += out[k] <= 3;
        }
        assert_int_equal(in_a, 1);
    }
    assert_int_equal(nodes[0].replicas, 10); /* zone a's nodes take turns */
    assert_int_equal(nodes[1].replicas, 10);
    assert_int_equal(nodes[3].replicas, 80);
    /* Five replicas over three zones: every node once. */
    uint32_t out[5];
    assert_int_equal(placement_choose(nodes, 5, 5, 0, out), 5);
}

static void the_least_loaded_node_is_taken_first(void **state)
{
    (void)state;
    struct placement_node nodes[] = {{1, "", 5, 0, true}, {2, "", 1, 0, true}, {3, "", 4, 0, true}, {4, "", 0, 0, false}};
    uint32_t out[2];
    assert_int_equal(placement_choose(nodes, 4, 2, 0, out), 2);
    assert_true((out[0] == 2 && out[1] == 3) || (out[0] == 3 && out[1] == 2));
    uint32_t have[] = {2, 3};
    assert_int_equal(placement_add(nodes, 4, have, 2, 0), 1); /* 4 is not usable */
    uint32_t all[] = {1, 2, 3};
    assert_int_equal(placement_add(nodes, 4, all, 3, 0), 0);
}

static void too_few_nodes_choose_nothing(void **state)
{
    (void)state;
    struct placement_node nodes[] = {{1, "", 0, 0, true}, {2, "", 0, 0, false}};
    uint32_t out[3];
    assert_int_equal(placement_choose(nodes, 2, 2, 0, out), 1);
    assert_int_equal(nodes[0].replicas, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(three_nodes_share_everything_evenly),
        cmocka_unit_test(no_two_replicas_share_a_zone_while_zones_suffice),
        cmocka_unit_test(the_least_loaded_node_is_taken_first),
        cmocka_unit_test(too_few_nodes_choose_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
