/* server_machine_fixture.h: what the tests of the controller's machine share. Included after cmocka.h. */
#ifndef SLUICE_SERVER_MACHINE_FIXTURE_H
#define SLUICE_SERVER_MACHINE_FIXTURE_H

#include <stdlib.h>

#include "server/controller_machine.h"

/* Puts the machine through a snapshot, which gives the same machine, and which no cut of it can stand for. `stride`: how far the cuts are apart, but for the last 64 bytes,
 * where each is tried. Returns the version that the snapshot was written in. */
static inline uint8_t machine_through_snapshot(struct controller_machine **m, size_t stride)
{
    struct out_buffer a = {0}, b = {0};
    struct controller_machine *copy;
    controller_machine_snapshot(*m, &a);
    assert_int_equal(controller_machine_restore(&copy, a.data, a.len), 0);
    controller_machine_snapshot(copy, &b);
    assert_int_equal(a.len, b.len);
    assert_memory_equal(a.data, b.data, a.len);
    for (size_t n = 0; n < a.len; n += a.len - n > 64 ? stride : 1) {
        struct controller_machine *none;
        assert_int_not_equal(controller_machine_restore(&none, a.data, n), 0);
    }
    controller_machine_free(*m);
    *m = copy;
    uint8_t version = a.data[0];
    free(a.data);
    free(b.data);
    return version;
}

#endif
