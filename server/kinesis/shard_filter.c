/* shard_filter.c: see shard_filter.h. */
#include "server/kinesis/shard_filter.h"

#include <string.h>

#include "proto/base.h"

bool shard_filter_kind(struct aws_text word, enum shard_filter_kind *out)
{
    static const struct { const char *word; enum shard_filter_kind kind; } words[] = {
        {"AFTER_SHARD_ID", SHARDS_AFTER_SHARD_ID}, {"AT_TRIM_HORIZON", SHARDS_AT_TRIM_HORIZON}, {"FROM_TRIM_HORIZON", SHARDS_ALL},
        {"AT_LATEST", SHARDS_AT_LATEST}, {"AT_TIMESTAMP", SHARDS_AT_TIMESTAMP}, {"FROM_TIMESTAMP", SHARDS_FROM_TIMESTAMP},
    };
    for (size_t i = 0; i < ARRAY_LEN(words); i++) {
        if (aws_text_is(word, words[i].word)) {
            *out = words[i].kind;
            return true;
        }
    }
    return false;
}

/* A child begins when its parents' logs have ended; if they are not kept any more, its own creation tells. A shard of the stream's beginning has always been there. */
static uint64_t began_ms(const struct map_stream *s, const struct map_shard *shard)
{
    uint64_t began = 0;
    for (unsigned i = 0; i < shard->n_parents; i++) {
        const struct map_shard *parent = cluster_map_shard(s, shard->parents[i]);
        began = max_u64(began, parent != NULL && parent->ended ? parent->ended_ms : shard->created_s * 1000);
    }
    return began;
}

static uint64_t ended_ms(const struct map_shard *shard, uint64_t now_ms) { return !shard->closed ? UINT64_MAX : shard->ended ? shard->ended_ms : now_ms; }

bool shard_filter_takes(const struct shard_filter *f, const struct map_stream *s, const struct map_shard *shard, uint64_t now_ms)
{
    uint64_t kept_ms = (uint64_t)s->settings.retention_hours * 3600000;
    uint64_t horizon_ms = now_ms > kept_ms ? now_ms - kept_ms : 0;
    if (shard->coming || shard->shard < f->next) {
        return false;
    }
    switch (f->kind) {
    case SHARDS_AT_LATEST:
        return !shard->closed;
    case SHARDS_AT_TRIM_HORIZON:
        return began_ms(s, shard) <= horizon_ms && ended_ms(shard, now_ms) > horizon_ms;
    case SHARDS_AT_TIMESTAMP:
        return began_ms(s, shard) <= f->time_ms && ended_ms(shard, now_ms) > f->time_ms;
    case SHARDS_FROM_TIMESTAMP:
        return ended_ms(shard, now_ms) >= f->time_ms;
    default:
        return true;
    }
}

void shard_filter_pack(const struct shard_filter *f, uint8_t out[SHARD_FILTER_BYTES])
{
    memcpy(out, f->stream, 16);
    out[16] = (uint8_t)f->kind;
    put_u64(out + 17, f->time_ms);
    put_u32(out + 25, f->next);
}

bool shard_filter_unpack(struct shard_filter *f, const uint8_t *p, size_t n)
{
    if (n != SHARD_FILTER_BYTES || p[16] > SHARDS_FROM_TIMESTAMP) {
        return false;
    }
    memcpy(f->stream, p, 16);
    f->kind = (enum shard_filter_kind)p[16];
    f->time_ms = get_u64(p + 17);
    f->next = get_u32(p + 25);
    return true;
}
