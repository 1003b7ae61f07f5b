/* shard_snapshot.c: a shard's state as bytes (layout: shard_state.h). */
#include <stdlib.h>
#include <string.h>

#include "proto/base.h"
#include "proto/crc32c.h"
#include "server/shard_state.h"

enum {
    SNAPSHOT_VERSION = 1,
    FLAG_OPENED = 1,
    FLAG_CLOSED = 2,
    AT_IDENTITY = 8,
    AT_SETTINGS = AT_IDENTITY + SHARD_IDENTITY_SIZE,
    AT_FIRST = AT_SETTINGS + SHARD_SETTINGS_SIZE,
    AT_NEXT = AT_FIRST + 8,
    AT_TIME = AT_NEXT + 8,
    AT_RESHARD = AT_TIME + 8,
    AT_CHILDREN = AT_RESHARD + 8,
    AT_DEDUPE = AT_CHILDREN + 12,
    CRC_SIZE = 4
};

uint8_t *shard_snapshot_encode(const struct shard_state *s, uint32_t *len)
{
    size_t n = AT_DEDUPE + dedupe_encoded_size(s->dedupe) + CRC_SIZE;
    uint8_t *out = calloc(1, n);
    if (out == NULL || n > UINT32_MAX) {
        free(out);
        return NULL;
    }
    put_u16(out, SNAPSHOT_VERSION);
    put_u16(out + 2, (uint16_t)((s->opened ? FLAG_OPENED : 0) | (s->closed ? FLAG_CLOSED : 0)));
    put_u32(out + 4, (uint32_t)n);
    shard_identity_encode(&s->identity, out + AT_IDENTITY);
    shard_settings_encode(&s->settings, out + AT_SETTINGS);
    put_u64(out + AT_FIRST, s->first);
    put_u64(out + AT_NEXT, s->next);
    put_u64(out + AT_TIME, s->time_ms);
    put_u64(out + AT_RESHARD, s->reshard);
    put_u32(out + AT_CHILDREN, s->n_children);
    put_u32(out + AT_CHILDREN + 4, s->children[0]);
    put_u32(out + AT_CHILDREN + 8, s->children[1]);
    dedupe_encode(s->dedupe, out + AT_DEDUPE);
    put_u32(out + n - CRC_SIZE, crc32c(0, out, n - CRC_SIZE));
    *len = (uint32_t)n;
    return out;
}

static bool frame_ok(const uint8_t *data, size_t n)
{
    return n >= AT_DEDUPE + CRC_SIZE && get_u16(data) == SNAPSHOT_VERSION && get_u32(data + 4) == n && get_u32(data + n - CRC_SIZE) == crc32c(0, data, n - CRC_SIZE) &&
           get_u64(data + AT_FIRST) <= get_u64(data + AT_NEXT);
}

bool shard_snapshot_range(const uint8_t *data, size_t n, uint64_t *first, uint64_t *next)
{
    if (!frame_ok(data, n)) {
        return false;
    }
    *first = get_u64(data + AT_FIRST);
    *next = get_u64(data + AT_NEXT);
    return true;
}

bool shard_snapshot_decode(struct shard_state *s, const uint8_t *data, size_t n)
{
    if (!frame_ok(data, n)) {
        return false;
    }
    uint16_t flags = get_u16(data + 2);
    if ((flags & ~(FLAG_OPENED | FLAG_CLOSED)) != 0) {
        return false;
    }
    s->opened = (flags & FLAG_OPENED) != 0;
    s->closed = (flags & FLAG_CLOSED) != 0;
    if (s->opened && (!shard_identity_decode(&s->identity, data + AT_IDENTITY) || !shard_settings_decode(&s->settings, data + AT_SETTINGS))) {
        return false;
    }
    s->first = get_u64(data + AT_FIRST);
    s->next = get_u64(data + AT_NEXT);
    s->time_ms = get_u64(data + AT_TIME);
    s->reshard = get_u64(data + AT_RESHARD);
    s->n_children = get_u32(data + AT_CHILDREN);
    s->children[0] = get_u32(data + AT_CHILDREN + 4);
    s->children[1] = get_u32(data + AT_CHILDREN + 8);
    if (s->n_children > SHARD_CHILDREN_MAX) {
        return false;
    }
    size_t dedupe = n - CRC_SIZE - AT_DEDUPE;
    if (dedupe_decode(s->dedupe, data + AT_DEDUPE, dedupe) != dedupe) {
        return false;
    }
    if (s->opened && !s->closed) { /* a closed one forgets nobody */
        dedupe_set_bounds(s->dedupe, s->settings.producers_max, s->settings.producer_expiry_ms);
    }
    return true;
}
