/* Entries and snapshots of a shard's machine. First byte: which; bit 7 puts the right checksum behind a snapshot. What
 * decodes encodes to the same bytes. */
#include "fuzz.h"

#include "proto/crc32c.h"
#include "server/shard_entry.h"
#include "server/shard_state.h"

static void entry(const uint8_t *p, size_t n)
{
    struct shard_entry e;
    memset(&e, 0, sizeof(e));
    if (!shard_entry_decode(&e, p, n)) {
        return;
    }
    uint8_t again[SHARD_ENTRY_MAX];
    size_t len = shard_entry_encode(&e, again);
    struct shard_entry e2;
    memset(&e2, 0, sizeof(e2));
    sluice_assert(len == n);
    sluice_assert(shard_entry_decode(&e2, again, len));
    sluice_assert(e2.kind == e.kind && e2.time_ms == e.time_ms && e2.trim == e.trim);
}

static void snapshot(const uint8_t *p, size_t n)
{
    struct shard_state s;
    shard_state_init(&s);
    uint64_t first;
    uint64_t next;
    bool range = shard_snapshot_range(p, n, &first, &next);
    if (shard_snapshot_decode(&s, p, n)) {
        sluice_assert(range);
        sluice_assert(first == s.first && next == s.next);
        sluice_assert(s.first <= s.next);
        uint32_t len;
        uint8_t *again = shard_snapshot_encode(&s, &len);
        struct shard_state s2;
        shard_state_init(&s2);
        sluice_assert(shard_snapshot_decode(&s2, again, len));
        sluice_assert(s2.next == s.next);
        shard_state_deinit(&s2);
        free(again);
    }
    shard_state_deinit(&s);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0) {
        return 0;
    }
    size_t n = size - 1;
    uint8_t *p = fuzz_copy(data + 1, n);
    if (data[0] & 1) {
        entry(p, n);
    } else {
        if ((data[0] & 128) && n >= 12) {
            put_u32(p + 4, (uint32_t)n);
            put_u32(p + n - 4, crc32c(0, p, n - 4));
        }
        snapshot(p, n);
    }
    free(p);
    return 0;
}
