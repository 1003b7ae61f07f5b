/* The snapshot of the idempotent producers. What decodes encodes to as many bytes and decodes again. */
#include "fuzz.h"

#include "server/dedupe.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    uint8_t *p = fuzz_copy(data, size);
    struct dedupe *d = dedupe_open(64, 1000000);
    size_t used = dedupe_decode(d, p, size);
    sluice_assert(used <= size);
    if (used > 0) {
        sluice_assert(dedupe_count(d) <= 64);
        size_t n = dedupe_encoded_size(d);
        uint8_t *again = malloc(n);
        dedupe_encode(d, again);
        struct dedupe *d2 = dedupe_open(64, 1000000);
        sluice_assert(dedupe_decode(d2, again, n) == n);
        sluice_assert(dedupe_count(d2) == dedupe_count(d));
        dedupe_close(d2);
        free(again);
    }
    dedupe_close(d);
    free(p);
    return 0;
}
