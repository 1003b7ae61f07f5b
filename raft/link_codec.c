/* link_codec.c: bytes of the records between nodes; the layout is in the header. */
#include "raft/link_codec.h"

#include "proto/base.h"
#include "proto/crc32c.h"
#include "proto/error.h"

enum { AT_LENGTH = 0, AT_TYPE = 4, AT_FLAGS = 5, AT_COUNT = 6, AT_CRC = 8, AT_GROUP = 16, AT_FROM = 24, AT_TO = 32, AT_TERM = 40, AT_A = 48, AT_B = 56,
       AT_C = 64, AT_D = 72 };

size_t link_record_size(const struct link_message *m) { return LINK_HEADER_SIZE + (size_t)m->n_entries * LINK_ENTRY_SIZE; }

void link_record_encode(const struct link_message *m, const struct iovec *parts, unsigned n_parts, void *out)
{
    uint8_t *p = out;
    size_t head = link_record_size(m);
    put_u32(p + AT_LENGTH, (uint32_t)(head + m->payload_len));
    p[AT_TYPE] = (uint8_t)m->type;
    p[AT_FLAGS] = m->flags;
    put_u16(p + AT_COUNT, (uint16_t)m->n_entries);
    put_u32(p + AT_CRC, 0);
    put_u32(p + AT_CRC + 4, 0);
    put_u64(p + AT_GROUP, m->group);
    put_u64(p + AT_FROM, m->from);
    put_u64(p + AT_TO, m->to);
    put_u64(p + AT_TERM, m->term);
    put_u64(p + AT_A, m->a);
    put_u64(p + AT_B, m->b);
    put_u64(p + AT_C, m->c);
    put_u64(p + AT_D, m->d);
    uint8_t *e = p + LINK_HEADER_SIZE;
    for (uint32_t i = 0; i < m->n_entries; i++, e += LINK_ENTRY_SIZE) {
        put_u64(e, m->entries[i].term);
        put_u32(e + 8, m->entries[i].len);
        put_u16(e + 12, m->entries[i].type);
        put_u16(e + 14, 0);
    }
    uint32_t crc = crc32c(0, p, AT_CRC);
    crc = crc32c(crc, p + AT_CRC + 4, head - AT_CRC - 4);
    if (n_parts == 0 && m->payload_len > 0) {
        crc = crc32c(crc, m->payload, m->payload_len);
    }
    for (unsigned i = 0; i < n_parts; i++) {
        const struct link_entry *entry = n_parts == m->n_entries ? &m->entries[i] : NULL;
        if (entry != NULL && entry->crc_known && entry->len == parts[i].iov_len && entry->len >= CRC32C_JOIN_MIN) {
            crc = crc32c_join(crc, entry->crc, entry->len);
        } else {
            crc = crc32c(crc, parts[i].iov_base, parts[i].iov_len);
        }
    }
    put_u32(p + AT_CRC, crc);
}

long link_record_decode(struct link_message *m, const void *data, size_t n, struct link_entry *table)
{
    const uint8_t *p = data;
    if (n < LINK_HEADER_SIZE) {
        return 0;
    }
    uint32_t length = get_u32(p + AT_LENGTH);
    if (length > LINK_RECORD_MAX) {
        return -SLUICE_E_TOO_LARGE;
    }
    uint32_t n_entries = get_u16(p + AT_COUNT);
    size_t head = LINK_HEADER_SIZE + (size_t)n_entries * LINK_ENTRY_SIZE;
    if (length < head || n_entries > LINK_ENTRIES_MAX || p[AT_TYPE] < LINK_ALIVE || p[AT_TYPE] > LINK_BEAT_RESULT) {
        return -SLUICE_E_PROTOCOL;
    }
    if (n < length) {
        return 0;
    }
    uint32_t crc = crc32c(0, p, AT_CRC);
    if (crc32c(crc, p + AT_CRC + 4, length - AT_CRC - 4) != get_u32(p + AT_CRC)) {
        return -SLUICE_E_CORRUPT;
    }
    *m = (struct link_message){
        .type = (enum link_type)p[AT_TYPE], .flags = p[AT_FLAGS], .group = get_u64(p + AT_GROUP), .from = get_u64(p + AT_FROM), .to = get_u64(p + AT_TO),
        .term = get_u64(p + AT_TERM), .a = get_u64(p + AT_A), .b = get_u64(p + AT_B), .c = get_u64(p + AT_C), .d = get_u64(p + AT_D),
        .entries = table, .n_entries = n_entries, .payload = p + head, .payload_len = (uint32_t)(length - head)};
    uint64_t sum = 0;
    const uint8_t *e = p + LINK_HEADER_SIZE;
    for (uint32_t i = 0; i < n_entries; i++, e += LINK_ENTRY_SIZE) {
        table[i] = (struct link_entry){.term = get_u64(e), .len = get_u32(e + 8), .type = get_u16(e + 12)};
        sum += table[i].len;
    }
    if (m->type == LINK_APPEND ? sum != m->payload_len : n_entries != 0) {
        return -SLUICE_E_PROTOCOL;
    }
    return (long)length;
}
