/* kinesis_get.h: what GetShardIterator (kinesis_iterator.c), GetRecords (kinesis_get.c) and SubscribeToShard (kinesis_subscribe.c) share. */
#ifndef SLUICE_KINESIS_GET_H
#define SLUICE_KINESIS_GET_H

#include "server/kinesis/kinesis_impl.h"

/* Seals it, issued now. False: answered. */
bool call_iterator_seal(struct call *c, struct aws_iterator *it, char out[AWS_ITERATOR_SIZE]);
/* The error of a read of a shard: its limits in AWS's words; others as call_native_error(). */
void call_read_error(struct call *c, int code, const char *message, uint32_t shard, const char *stream);

/* A record, and the key "ChildShards" with its list, as answers and events have them. Data of 512 bytes and more is only referred to in CBOR (aws_writer.h). */
void kinesis_write_record(struct aws_writer *w, uint32_t shard, uint64_t created_s, uint64_t time_ms, const struct batch_record *r);
void kinesis_write_children(struct aws_writer *w, const struct map_stream *s, const uint32_t *children, size_t n);
/* Does this map know all children of a shard that ended? If it lags behind, the end is told later: an end without children is taken for a deleted stream. */
bool kinesis_children_known(const struct map_stream *s, const uint32_t *children, size_t n);

#endif
