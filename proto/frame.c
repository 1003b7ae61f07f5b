#include "proto/frame.h"

#include <protobuf-c/protobuf-c.h>
#include <stdlib.h>

#include "proto/base.h"
#include "proto/crc32c.h"
#include "proto/error.h"

enum { POS_MAGIC = 0, POS_VERSION = 2, POS_KIND = 3, POS_MESSAGE_LEN = 4, POS_PAYLOAD_LEN = 8, POS_CRC = 12, POS_CORRELATION = 16 };

static uint32_t frame_crc(const uint8_t *header, const void *message, size_t n)
{
    uint32_t crc = crc32c(0, message, n);
    crc = crc32c(crc, header, POS_CRC);
    return crc32c(crc, header + POS_CORRELATION, FRAME_HEADER_SIZE - POS_CORRELATION);
}

int frame_header_decode(struct frame_header *h, const void *data)
{
    const uint8_t *p = data;
    if (get_u16(p + POS_MAGIC) != FRAME_MAGIC) {
        return SLUICE_E_PROTOCOL;
    }
    if (p[POS_VERSION] != FRAME_VERSION) {
        return SLUICE_E_VERSION;
    }
    *h = (struct frame_header){
        .version = p[POS_VERSION],
        .kind = p[POS_KIND],
        .message_len = get_u32(p + POS_MESSAGE_LEN),
        .payload_len = get_u32(p + POS_PAYLOAD_LEN),
        .crc = get_u32(p + POS_CRC),
        .correlation = get_u64(p + POS_CORRELATION),
    };
    if (h->message_len > FRAME_MESSAGE_MAX || h->payload_len > FRAME_PAYLOAD_MAX) {
        return SLUICE_E_TOO_LARGE;
    }
    return SLUICE_E_OK;
}

bool frame_message_ok(const void *header24, const void *message, size_t n)
{
    const uint8_t *p = header24;
    return get_u32(p + POS_MESSAGE_LEN) == n && get_u32(p + POS_CRC) == frame_crc(p, message, n);
}

void frame_header_encode(void *header24, uint8_t kind, uint64_t correlation, const void *message, uint32_t message_len,
                         uint32_t payload_len)
{
    sluice_assert(message_len <= FRAME_MESSAGE_MAX);
    sluice_assert(payload_len <= FRAME_PAYLOAD_MAX);
    uint8_t *p = header24;
    put_u16(p + POS_MAGIC, FRAME_MAGIC);
    p[POS_VERSION] = FRAME_VERSION;
    p[POS_KIND] = kind;
    put_u32(p + POS_MESSAGE_LEN, message_len);
    put_u32(p + POS_PAYLOAD_LEN, payload_len);
    put_u64(p + POS_CORRELATION, correlation);
    put_u32(p + POS_CRC, frame_crc(p, message, message_len));
}

void *frame_encode(uint8_t kind, uint64_t correlation, const void *message, uint32_t payload_len, size_t *n)
{
    size_t message_len = protobuf_c_message_get_packed_size(message);
    if (message_len > FRAME_MESSAGE_MAX) {
        return NULL;
    }
    uint8_t *out = malloc(FRAME_HEADER_SIZE + message_len);
    if (out == NULL) {
        return NULL;
    }
    size_t packed = protobuf_c_message_pack(message, out + FRAME_HEADER_SIZE);
    sluice_assert(packed == message_len);
    frame_header_encode(out, kind, correlation, out + FRAME_HEADER_SIZE, (uint32_t)message_len, payload_len);
    *n = FRAME_HEADER_SIZE + message_len;
    return out;
}
