/* shard_filter.h: which shards ListShards tells of: its filters, and where a listing stands between two of its pages. Pure. */
#ifndef SLUICE_SHARD_FILTER_H
#define SLUICE_SHARD_FILTER_H

#include "server/aws/aws_value.h"
#include "server/cluster_map.h"

/* AFTER_SHARD_ID and FROM_TRIM_HORIZON are all that is kept: what retention has taken is not in the map. */
enum shard_filter_kind { SHARDS_ALL, SHARDS_AFTER_SHARD_ID, SHARDS_AT_TRIM_HORIZON, SHARDS_AT_LATEST, SHARDS_AT_TIMESTAMP, SHARDS_FROM_TIMESTAMP };

struct shard_filter {
    uint8_t stream[16]; /* the stream's incarnation */
    enum shard_filter_kind kind;
    uint64_t time_ms;   /* of the two by timestamp */
    uint32_t next;      /* shards below this number were told */
};

/* By the API's word. False: there is none such. */
bool shard_filter_kind(struct aws_text word, enum shard_filter_kind *out);
bool shard_filter_takes(const struct shard_filter *f, const struct map_stream *s, const struct map_shard *shard, uint64_t now_ms);

/* The content of a NextToken. False: these bytes are none. */
enum { SHARD_FILTER_BYTES = 29 };
void shard_filter_pack(const struct shard_filter *f, uint8_t out[SHARD_FILTER_BYTES]);
bool shard_filter_unpack(struct shard_filter *f, const uint8_t *p, size_t n);

#endif
