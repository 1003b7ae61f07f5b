/* shard_entry.c: see shard_entry.h. */
#include "server/shard_entry.h"

#include <string.h>

#include "proto/base.h"

enum { ENTRY_VERSION = 1, SETTINGS_LIMITS_OFF = 1 };

void shard_identity_encode(const struct shard_identity *i, uint8_t out[SHARD_IDENTITY_SIZE])
{
    put_u64(out, i->group);
    memcpy(out + 8, i->stream_id, 16);
    put_u32(out + 24, i->shard);
    put_u32(out + 28, i->n_parents);
    put_u32(out + 32, i->parents[0]);
    put_u32(out + 36, i->parents[1]);
    put_u64(out + 40, i->created_s);
    memcpy(out + 48, i->first.b, 16);
    memcpy(out + 64, i->last.b, 16);
}

bool shard_identity_decode(struct shard_identity *i, const uint8_t *data)
{
    *i = (struct shard_identity){ .group = get_u64(data), .shard = get_u32(data + 24), .n_parents = get_u32(data + 28),
                                  .parents = { get_u32(data + 32), get_u32(data + 36) }, .created_s = get_u64(data + 40) };
    memcpy(i->stream_id, data + 8, 16);
    memcpy(i->first.b, data + 48, 16);
    memcpy(i->last.b, data + 64, 16);
    return i->n_parents <= SHARD_PARENTS_MAX && i->group != 0 && i->created_s < 1ull << 36 && memcmp(i->first.b, i->last.b, 16) <= 0;
}

void shard_settings_encode(const struct shard_settings *s, uint8_t out[SHARD_SETTINGS_SIZE])
{
    put_u64(out, s->version);
    put_u32(out + 8, s->retention_hours);
    put_u32(out + 12, s->limits_off ? SETTINGS_LIMITS_OFF : 0);
    put_u32(out + 16, s->record_max);
    put_u32(out + 20, s->producers_max);
    put_u64(out + 24, s->producer_expiry_ms);
}

bool shard_settings_decode(struct shard_settings *s, const uint8_t *data)
{
    uint32_t flags = get_u32(data + 12);
    *s = (struct shard_settings){ .version = get_u64(data), .retention_hours = get_u32(data + 8), .limits_off = (flags & SETTINGS_LIMITS_OFF) != 0,
                                  .record_max = get_u32(data + 16), .producers_max = get_u32(data + 20), .producer_expiry_ms = get_u64(data + 24) };
    return (flags & ~(uint32_t)SETTINGS_LIMITS_OFF) == 0 && s->retention_hours > 0 && s->record_max > 0 && s->record_max <= BATCH_RECORD_BYTES_MAX && s->producers_max > 0;
}

size_t shard_entry_encode(const struct shard_entry *e, uint8_t out[SHARD_ENTRY_MAX])
{
    memset(out, 0, SHARD_ENTRY_MAX);
    out[0] = ENTRY_VERSION;
    out[1] = (uint8_t)e->kind;
    put_u64(out + 8, e->time_ms);
    uint8_t *body = out + SHARD_ENTRY_HEADER;
    switch (e->kind) {
    case SHARD_ENTRY_SETTINGS:
        put_u64(body, e->trim);
        shard_settings_encode(&e->settings, body + 8);
        return SHARD_ENTRY_HEADER + 8 + SHARD_SETTINGS_SIZE;
    case SHARD_ENTRY_TRIM:
        put_u64(body, e->trim);
        return SHARD_ENTRY_HEADER + 8;
    case SHARD_ENTRY_CLOSE:
        put_u64(body, e->reshard);
        put_u32(body + 8, e->n_children);
        put_u32(body + 12, e->children[0]);
        put_u32(body + 16, e->children[1]);
        return SHARD_ENTRY_HEADER + 20;
    case SHARD_ENTRY_TICK:
        return SHARD_ENTRY_HEADER;
    case SHARD_ENTRY_OPEN:
        shard_identity_encode(&e->identity, body);
        shard_settings_encode(&e->settings, body + SHARD_IDENTITY_SIZE);
        return SHARD_ENTRY_HEADER + SHARD_IDENTITY_SIZE + SHARD_SETTINGS_SIZE;
    }
    sluice_assert(!"entry kind");
    return 0;
}

bool shard_entry_decode(struct shard_entry *e, const uint8_t *data, size_t n)
{
    memset(e, 0, sizeof *e);
    if (n < SHARD_ENTRY_HEADER || data[0] != ENTRY_VERSION || get_u16(data + 2) != 0 || get_u32(data + 4) != 0) {
        return false;
    }
    e->kind = (enum shard_entry_kind)data[1];
    e->time_ms = get_u64(data + 8);
    const uint8_t *body = data + SHARD_ENTRY_HEADER;
    size_t len = n - SHARD_ENTRY_HEADER;
    switch (e->kind) {
    case SHARD_ENTRY_SETTINGS:
        if (len != 8 + SHARD_SETTINGS_SIZE) {
            return false;
        }
        e->trim = get_u64(body);
        return shard_settings_decode(&e->settings, body + 8);
    case SHARD_ENTRY_TRIM:
        e->trim = len == 8 ? get_u64(body) : 0;
        return len == 8;
    case SHARD_ENTRY_CLOSE:
        if (len != 20) {
            return false;
        }
        e->reshard = get_u64(body);
        e->n_children = get_u32(body + 8);
        e->children[0] = get_u32(body + 12);
        e->children[1] = get_u32(body + 16);
        return e->n_children <= SHARD_CHILDREN_MAX;
    case SHARD_ENTRY_TICK:
        return len == 0;
    case SHARD_ENTRY_OPEN:
        return len == SHARD_IDENTITY_SIZE + SHARD_SETTINGS_SIZE && shard_identity_decode(&e->identity, body) &&
               shard_settings_decode(&e->settings, body + SHARD_IDENTITY_SIZE);
    }
    return false;
}
