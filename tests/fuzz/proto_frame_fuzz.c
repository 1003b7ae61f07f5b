/* The stream reader of frames. First byte: bit 0 puts right checksums into the frames, so that what lies behind them is
 * reached; the other bits are the size of the reads. Whatever comes, bounds hold and the same bytes give the same frames
 * in reads of any size. */
#include "fuzz.h"

#include "proto/crc32c.h"
#include "proto/frame.h"

enum { MESSAGE_MAX = 4096, PAYLOAD_MAX = 16384 };

static void reseal(uint8_t *p, size_t n)
{
    for (size_t pos = 0; pos + FRAME_HEADER_SIZE <= n;) {
        uint64_t end = pos + FRAME_HEADER_SIZE + (uint64_t)get_u32(p + pos + 4);
        if (end > n) {
            return;
        }
        uint32_t crc = crc32c(0, p + pos + FRAME_HEADER_SIZE, (size_t)(end - pos) - FRAME_HEADER_SIZE);
        crc = crc32c(crc, p + pos, 12);
        put_u32(p + pos + 12, crc32c(crc, p + pos + 16, 8));
        end += get_u32(p + pos + 8);
        if (end > n) {
            return;
        }
        pos = (size_t)end;
    }
}

struct outcome {
    uint32_t digest;
    unsigned frames;
    int end;
};

static struct outcome run(const uint8_t *p, size_t n, size_t step)
{
    struct frame_reader r;
    frame_reader_init(&r, MESSAGE_MAX, PAYLOAD_MAX);
    struct outcome o = {0};
    size_t pos = 0;
    while (pos < n && o.end == 0) {
        void *base;
        size_t room = frame_reader_buffer(&r, &base);
        sluice_assert(room > 0);
        size_t take = min_u64(min_u64(room, step), n - pos);
        memcpy(base, p + pos, take);
        frame_reader_fed(&r, take);
        pos += take;
        struct frame f;
        while ((o.end = frame_reader_next(&r, &f)) > 0) {
            sluice_assert(f.message_len <= MESSAGE_MAX);
            sluice_assert(f.payload_len <= PAYLOAD_MAX);
            o.frames++;
            o.digest = crc32c(o.digest, f.message, f.message_len);
            if (f.payload_len > 0) {
                o.digest = crc32c(o.digest, f.payload, f.payload_len);
            }
            if (o.frames % 2 == 0) {
                free(frame_take_payload(&r, &f));
            }
        }
        sluice_assert(r.small_cap <= 256 << 10);
    }
    frame_reader_deinit(&r);
    return o;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0) {
        return 0;
    }
    uint8_t *p = fuzz_copy(data + 1, size - 1);
    if (data[0] & 1) {
        reseal(p, size - 1);
    }
    struct outcome a = run(p, size - 1, 1 + (data[0] >> 1) * 37u);
    struct outcome b = run(p, size - 1, 1 << 20);
    sluice_assert(a.end == b.end);
    sluice_assert(a.frames == b.frames);
    sluice_assert(a.digest == b.digest);
    free(p);
    return 0;
}
