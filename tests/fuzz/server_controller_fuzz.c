/* The controller's log: entries cut out of the bytes (u16 length each) are applied one after another to a machine, whose
 * snapshot must restore to a machine with the same snapshot. First byte odd: the bytes are a snapshot instead. Entries
 * that are no entries must be refused and change nothing. */
#include "fuzz.h"

#include "server/controller_entry.h"
#include "server/controller_machine.h"

static void check_snapshot(const struct controller_machine *m)
{
    struct out_buffer a = {0};
    struct out_buffer b = {0};
    struct controller_machine *m2 = NULL;
    controller_machine_snapshot(m, &a);
    sluice_assert(controller_machine_restore(&m2, a.data, a.len) == 0);
    controller_machine_snapshot(m2, &b);
    sluice_assert(a.len == b.len);
    sluice_assert(memcmp(a.data, b.data, a.len) == 0);
    struct cluster_map *map = controller_machine_map(m);
    if (map != NULL) {
        cluster_map_unref(map);
    }
    controller_machine_free(m2);
    free(a.data);
    free(b.data);
}

static void apply_all(const uint8_t *p, size_t n)
{
    struct controller_machine *m = controller_machine_new();
    uint64_t index = 1;
    while (n >= 2) {
        size_t len = min_u64(get_u16(p), n - 2);
        uint8_t *entry = fuzz_copy(p + 2, len);
        struct controller_result r;
        memset(&r, 0, sizeof(r));
        int code = controller_machine_apply(m, index++, entry, len, &r);
        free(entry);
        if (code != 0) {
            break; /* the replica stops */
        }
        p += 2 + len;
        n -= 2 + len;
    }
    check_snapshot(m);
    controller_machine_free(m);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0) {
        return 0;
    }
    uint8_t *p = fuzz_copy(data + 1, size - 1);
    if (data[0] & 1) {
        struct controller_machine *m = NULL;
        if (controller_machine_restore(&m, p, size - 1) == 0) {
            check_snapshot(m);
            controller_machine_free(m);
        }
    } else {
        apply_all(p, size - 1);
    }
    free(p);
    return 0;
}
