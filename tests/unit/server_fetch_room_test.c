/* Memory for answers to fetches: bounded whoever reads, shared so that those that hang don't starve the others, waiting in turn. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <cmocka.h>

#include "server/fetch_room.h"

enum { KIB = 1 << 10, MIB = 1 << 20, HANGING = 40 };

static void a_bound_whoever_hangs(void **state)
{
    (void)state;
    struct fetch_room room;
    fetch_room_init(&room, 64 * MIB);
    static struct fetch_claim claims[HANGING][20];
    unsigned served = 0;
    for (unsigned i = 0; i < HANGING; i++) {
        bool any = false;
        for (unsigned k = 0; k < 20; k++) { /* none is ever given back */
            claims[i][k] = (struct fetch_claim){ .bytes = 0 };
            any = fetch_room_claim(&room, &claims[i][k], i + 1, 50 * KIB, 10 * MIB, 0) > 0 || any;
            while (fetch_room_next(&room, 0) != NULL) {
                fail_msg("nothing was given back, but a claim has its turn");
            }
        }
        served += any;
        assert_true(room.used <= 64 * MIB);
    }
    assert_int_equal(served, HANGING); /* everyone got at least a first answer */
    assert_true(fetch_room_crowded(&room));
    for (unsigned i = 0; i < HANGING; i++) {
        for (unsigned k = 0; k < 20; k++) {
            fetch_room_release(&room, &claims[i][k]);
        }
    }
    assert_int_equal(room.used, 0);
    assert_false(fetch_room_crowded(&room));
    fetch_room_deinit(&room);
}

static void one_connection_has_a_share(void **state)
{
    (void)state;
    struct fetch_room room;
    fetch_room_init(&room, 90 * MIB);
    struct fetch_claim c[100] = { 0 }, other = { 0 };
    for (unsigned i = 0; i < 100; i++) {
        fetch_room_claim(&room, &c[i], 7, MIB, MIB, 0);
    }
    assert_in_range(room.used, 9 * MIB, 10 * MIB); /* an eighth of what it leaves free */
    assert_int_equal(fetch_room_claim(&room, &other, 8, 10 * MIB, 10 * MIB, 0), 10 * MIB); /* waiting claims of another do not hold it up */
    /* What comes back goes to its next claim, oldest first. */
    unsigned had = 0;
    while (had < 100 && !c[had].waiting) {
        had++;
    }
    fetch_room_release(&room, &other);
    fetch_room_release(&room, &c[0]);
    assert_ptr_equal(fetch_room_next(&room, 0), &c[had]);
    assert_int_equal(fetch_room_claim(&room, &c[had], 7, MIB, MIB, 0), MIB);
    assert_null(fetch_room_next(&room, 0));
    for (unsigned i = 0; i < 100; i++) {
        fetch_room_release(&room, &c[i]);
    }
    assert_int_equal(room.waiting, 0);
    fetch_room_deinit(&room);
}

static void in_turn_and_large_ones_too(void **state)
{
    (void)state;
    struct fetch_room room;
    fetch_room_init(&room, 10 * MIB);
    struct fetch_claim full = { 0 }, large = { 0 }, small[3] = { 0 };
    assert_int_equal(fetch_room_claim(&room, &full, 1, 8 * MIB, 8 * MIB, 0), 8 * MIB);
    assert_int_equal(fetch_room_claim(&room, &large, 2, 4 * MIB, 4 * MIB, 0), 0);
    for (unsigned i = 0; i < 3; i++) { /* nobody overtakes by arriving; the turns decide */
        assert_int_equal(fetch_room_claim(&room, &small[i], 3 + i, 100 * KIB, MIB, 500 + i), 0);
    }
    assert_ptr_equal(fetch_room_next(&room, 600), &small[0]);
    assert_true(fetch_room_claim(&room, &small[0], 3, 100 * KIB, MIB, 600) >= 100 * KIB);
    assert_null(fetch_room_next(&room, FETCH_ROOM_PASS_MS)); /* the large one was passed for long enough */
    fetch_room_release(&room, &small[0]);
    assert_null(fetch_room_next(&room, FETCH_ROOM_PASS_MS));
    fetch_room_release(&room, &full);
    assert_ptr_equal(fetch_room_next(&room, FETCH_ROOM_PASS_MS), &large);
    assert_true(fetch_room_claim(&room, &large, 2, 4 * MIB, 4 * MIB, FETCH_ROOM_PASS_MS) == 4 * MIB);
    assert_ptr_equal(fetch_room_next(&room, FETCH_ROOM_PASS_MS), &small[1]);
    fetch_room_release(&room, &large);
    fetch_room_release(&room, &small[2]); /* one that waits may go as well */
    assert_null(fetch_room_next(&room, 2 * FETCH_ROOM_PASS_MS));
    assert_int_equal(room.used, 0);
    fetch_room_deinit(&room);
}

static void larger_than_all_is_read_alone(void **state)
{
    (void)state;
    struct fetch_room room;
    fetch_room_init(&room, MIB);
    struct fetch_claim small = { 0 }, huge = { 0 };
    assert_true(fetch_room_claim(&room, &small, 1, 10, 10, 0) == 10);
    assert_int_equal(fetch_room_claim(&room, &huge, 2, 10 * MIB, 10 * MIB, 0), 0);
    fetch_room_release(&room, &small);
    assert_ptr_equal(fetch_room_next(&room, 0), &huge);
    assert_int_equal(fetch_room_claim(&room, &huge, 2, 10 * MIB, 10 * MIB, 0), 10 * MIB);
    assert_int_equal(fetch_room_claim(&room, &small, 1, 10, 10, 0), 0);
    assert_ptr_equal(fetch_room_of(&room, 1), &small);
    fetch_room_release(&room, &huge);
    fetch_room_release(&room, &small);
    fetch_room_deinit(&room);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_bound_whoever_hangs), cmocka_unit_test(one_connection_has_a_share), cmocka_unit_test(in_turn_and_large_ones_too),
        cmocka_unit_test(larger_than_all_is_read_alone),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
