/* Link records, one after another, as the payload of a link frame. First byte: bit 0 puts right checksums. Lengths hold,
 * nothing is read behind the end, and what decodes encodes to the same bytes. */
#include "fuzz.h"

#include "proto/crc32c.h"
#include "raft/link_codec.h"

enum { POS_CRC = 8, POS_RESERVED = 12 };

/* The checksum covers the fixed part without itself, then all that follows; "how long" stands in front. */
static void reseal(uint8_t *p, size_t n)
{
    for (size_t pos = 0; pos + LINK_HEADER_SIZE <= n;) {
        uint32_t length = get_u32(p + pos);
        if (length < LINK_HEADER_SIZE || length > n - pos) {
            return;
        }
        uint32_t crc = crc32c(0, p + pos, POS_CRC);
        crc = crc32c(crc, p + pos + POS_CRC + 4, length - POS_CRC - 4);
        put_u32(p + pos + POS_CRC, crc);
        pos += length;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct link_entry table[LINK_ENTRIES_MAX];
    if (size == 0) {
        return 0;
    }
    size_t n = size - 1;
    uint8_t *p = fuzz_copy(data + 1, n);
    if (data[0] & 1) {
        reseal(p, n);
    }
    for (size_t pos = 0; pos < n;) {
        struct link_message m = {0};
        long got = link_record_decode(&m, p + pos, n - pos, table);
        if (got <= 0) {
            break;
        }
        sluice_assert((size_t)got <= n - pos);
        sluice_assert((size_t)got >= LINK_HEADER_SIZE);
        sluice_assert(m.n_entries <= LINK_ENTRIES_MAX);
        size_t head = link_record_size(&m);
        sluice_assert(head + m.payload_len == (size_t)got);
        uint64_t sum = 0;
        for (uint32_t i = 0; i < m.n_entries; i++) {
            sum += m.entries[i].len;
        }
        sluice_assert(m.n_entries == 0 || sum == m.payload_len);
        uint8_t *again = malloc(head);
        struct iovec part = {(void *)m.payload, m.payload_len};
        link_record_encode(&m, &part, m.payload_len > 0 ? 1 : 0, again);
        /* what is reserved is ignored when read and zero when written */
        memset(p + pos + POS_RESERVED, 0, 4);
        for (uint32_t i = 0; i < m.n_entries; i++) {
            memset(p + pos + LINK_HEADER_SIZE + (size_t)i * LINK_ENTRY_SIZE + 14, 0, 2);
        }
        memcpy(p + pos + POS_CRC, again + POS_CRC, 4);
        sluice_assert(memcmp(again, p + pos, head) == 0);
        free(again);
        pos += (size_t)got;
    }
    free(p);
    return 0;
}
