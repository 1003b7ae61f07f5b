/* Batches: header, body, LZ4, records. First byte: bit 0 puts right checksums, bit 1 puts the right lengths, so that
 * what lies behind those checks is reached. What the full check accepts must read back record by record. */
#include "fuzz.h"

#include "proto/batch.h"
#include "proto/crc32c.h"
#include "proto/error.h"

static void read_all(const uint8_t *p, size_t n, bool must_work)
{
    void *scratch = NULL;
    size_t scratch_size = 0;
    struct batch_reader r;
    const char *why = NULL;
    int code = batch_reader_open(&r, p, n, &scratch, &scratch_size, &why);
    sluice_assert((code == SLUICE_E_OK) == (why == NULL));
    if (code == SLUICE_E_OK) {
        uint64_t bytes = 0;
        uint32_t count = 0;
        struct batch_record rec;
        int more;
        while ((more = batch_reader_next(&r, &rec)) > 0) {
            bytes += rec.key_len + (uint64_t)rec.data_len;
            count++;
            /* every byte is there */
            (void)crc32c(crc32c(0, rec.key, rec.key_len), rec.data, rec.data_len);
        }
        sluice_assert(bytes <= BATCH_RAW_MAX);
        sluice_assert(count <= BATCH_RECORDS_MAX);
        sluice_assert(more <= 0);
        sluice_assert(!must_work || (more == 0 && count == r.header.record_count));
    }
    sluice_assert(!must_work || code == SLUICE_E_OK);
    free(scratch);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0) {
        return 0;
    }
    size_t n = size - 1;
    uint8_t *p = fuzz_copy(data + 1, n);
    if (n >= BATCH_HEADER_SIZE) {
        if (data[0] & 2) {
            put_u32(p + 4, (uint32_t)n);
            if (p[2] == BATCH_PLAIN) {
                put_u32(p + 28, (uint32_t)n - BATCH_HEADER_SIZE);
            }
        }
        if (data[0] & 1) {
            put_u32(p + 12, crc32c(0, p + BATCH_HEADER_SIZE, n - BATCH_HEADER_SIZE));
            put_u32(p + 8, crc32c(crc32c(0, p + 12, BATCH_HEADER_SIZE - 12), p, 8));
        }
    }
    struct batch_header h;
    if (batch_header_decode(&h, p, n, false, NULL) == SLUICE_E_OK) {
        uint8_t again[BATCH_HEADER_SIZE];
        batch_header_encode(&h, again);
        sluice_assert(memcmp(again, p, BATCH_HEADER_SIZE) == 0);
    }
    read_all(p, n, false);
    void *scratch = NULL;
    size_t scratch_size = 0;
    if (batch_check(p, n, 1 << 20, &scratch, &scratch_size, &h, NULL) == SLUICE_E_OK) {
        batch_stamp(p, 5, 6, 7, 8);
        read_all(p, n, true);
    }
    free(scratch);
    free(p);
    return 0;
}
