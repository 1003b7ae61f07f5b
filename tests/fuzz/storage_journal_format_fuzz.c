/* Headers of segments, blocks and records. The salt is a secret of the segment in real life; here it is 0 or taken from
 * the bytes. First byte: which decoder, and whether right magic and checksum are put in first. What decodes encodes to
 * something that decodes to the same. */
#include "fuzz.h"

#include "proto/crc32c.h"
#include "storage/journal_format.h"

static void segment(const uint8_t *p, size_t n)
{
    struct jf_segment_header h;
    memset(&h, 0, sizeof(h));
    if (jf_segment_header_decode(p, n, &h)) {
        uint8_t again[JF_SEGMENT_HEADER_SIZE];
        struct jf_segment_header h2;
        memset(&h2, 0, sizeof(h2));
        jf_segment_header_encode(again, &h);
        sluice_assert(jf_segment_header_decode(again, sizeof(again), &h2));
        sluice_assert(h2.number == h.number);
        sluice_assert(h2.salt == h.salt);
    }
}

static void block(const uint8_t *p, size_t n, uint64_t salt, bool trailer)
{
    struct jf_block_header h;
    memset(&h, 0, sizeof(h));
    if (jf_block_header_decode(p, n, salt, trailer, &h)) {
        uint8_t again[JF_BLOCK_HEADER_SIZE];
        struct jf_block_header h2;
        memset(&h2, 0, sizeof(h2));
        h.salt = salt;
        jf_block_header_encode(again, &h, trailer);
        sluice_assert(jf_block_header_decode(again, sizeof(again), salt, trailer, &h2));
        sluice_assert(!jf_block_header_decode(again, sizeof(again), salt, !trailer, &h2));
        sluice_assert(h2.length == h.length);
        sluice_assert(h2.dir_pos == h.dir_pos);
        /* what a reader of the directory relies on */
        sluice_assert(h.length % JF_ALIGN == 0);
        sluice_assert((uint64_t)h.dir_pos + (uint64_t)h.n_records * JF_DIRENT_SIZE <= h.length);
    }
}

static void record(const uint8_t *p, size_t n, uint64_t salt)
{
    struct jf_dirent d;
    memset(&d, 0, sizeof(d));
    if (jf_record_header_decode(p, n, salt, &d)) {
        uint8_t again[JF_RECORD_HEADER_SIZE];
        struct jf_dirent d2;
        memset(&d2, 0, sizeof(d2));
        jf_record_header_encode(again, salt, &d);
        sluice_assert(jf_record_header_decode(again, sizeof(again), salt, &d2));
        sluice_assert(d2.pos == d.pos && d2.len == d.len && d2.jseq == d.jseq);
    }
}

static uint32_t salted(uint64_t salt, const uint8_t *p, size_t n)
{
    uint8_t seed[8];
    put_u64(seed, salt);
    return crc32c(crc32c(0, seed, sizeof(seed)), p, n);
}

static void reseal(uint8_t *p, size_t n, unsigned which, uint64_t salt)
{
    if (which == 0 && n >= JF_SEGMENT_HEADER_SIZE) {
        put_u64(p, JF_SEGMENT_MAGIC);
        put_u32(p + 12, crc32c(crc32c(0, p, 12), p + 16, JF_SEGMENT_HEADER_SIZE - 16));
    } else if ((which == 1 || which == 2) && n >= JF_BLOCK_HEADER_SIZE) {
        put_u32(p, which == 1 ? JF_BLOCK_MAGIC : JF_TRAILER_MAGIC);
        put_u64(p + 8, salt);
        put_u32(p + 4, crc32c(salted(salt, p, 4), p + 8, JF_BLOCK_HEADER_SIZE - 8));
    } else if (which == 3 && n >= JF_RECORD_HEADER_SIZE) {
        put_u32(p, JF_RECORD_MAGIC);
        put_u32(p + 4, salted(salt, p + 8, JF_DIRENT_SIZE));
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 1) {
        return 0;
    }
    size_t n = size - 1;
    uint8_t *p = fuzz_copy(data + 1, n);
    uint64_t salt = (data[0] & 128) && n >= 8 ? get_u64(p + n - 8) : 0;
    if (data[0] & 4) {
        reseal(p, n, data[0] & 3, salt);
    }
    switch (data[0] & 3) {
    case 0: segment(p, n); break;
    case 1: block(p, n, salt, false); break;
    case 2: block(p, n, salt, true); break;
    default: record(p, n, salt); break;
    }
    if (n >= JF_DIRENT_SIZE) {
        struct jf_dirent d;
        jf_dirent_decode(p, &d);
    }
    free(p);
    return 0;
}
