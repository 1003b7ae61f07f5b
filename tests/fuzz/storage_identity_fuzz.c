/* The identity file of a data folder. First byte odd: right magic and checksum are put in first. */
#include "fuzz.h"

#include "proto/crc32c.h"
#include "storage/identity.h"

#define MAGIC 0x4449454349554c53ull /* "SLUICEID" */

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0) {
        return 0;
    }
    uint8_t *p = calloc(1, IDENTITY_BYTES);
    size_t n = min_u64(size - 1, IDENTITY_BYTES);
    memcpy(p, data + 1, n);
    if (data[0] & 1) {
        put_u64(p, MAGIC);
        put_u32(p + 8, 1);
        put_u32(p + 12, crc32c(crc32c(0, p, 12), p + 16, IDENTITY_BYTES - 16));
        n = IDENTITY_BYTES;
    }
    struct identity id;
    if (identity_decode(p, n, &id) == 0) {
        uint8_t again[IDENTITY_BYTES];
        struct identity id2;
        id.end = id.last_end;
        identity_encode(again, &id);
        sluice_assert(identity_decode(again, sizeof(again), &id2) == 0);
        sluice_assert(id2.incarnation == id.incarnation && id2.node_id == id.node_id);
    }
    free(p);
    return 0;
}
