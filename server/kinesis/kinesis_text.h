/* kinesis_text.h: pieces of inputs and answers that several operations share. What answers a call says so; a false or NULL then means "answered". */
#ifndef SLUICE_KINESIS_TEXT_H
#define SLUICE_KINESIS_TEXT_H

#include "server/kinesis/kinesis_impl.h"

/* A NUL-terminated copy in the call's arena. NULL: answered. */
char *call_text(struct call *c, struct aws_text t);
/* The input's Tags, checked as AWS does, in the arena; none if there are none. */
bool call_tags(struct call *c, Sluice__Tag ***tags, size_t *n);
/* The input's TagKeys. */
bool call_tag_keys(struct call *c, char ***keys, size_t *n);
/* A shard's number for paging: the shard itself need not be there (any more). InvalidArgumentException if it is none. */
bool call_shard_number(struct call *c, struct aws_text id, int64_t *number);

/* The cursor of the input's NextToken, which must be of this operation; a NextToken for this operation. */
bool call_token_open(struct call *c, struct aws_text token, uint8_t cursor[AWS_CURSOR_MAX], size_t *n);
bool call_token_seal(struct call *c, const void *cursor, size_t n, char token[AWS_NEXT_TOKEN_SIZE]);

/* A shard as DescribeStream and ListShards tell of it, an object. */
void call_write_shard(struct aws_writer *w, const struct map_shard *shard);
/* The key "HashKeyRange" and its object. */
void call_write_hash_range(struct aws_writer *w, const struct map_shard *shard);
/* A list of shard-level metrics, by their bits. */
enum { METRIC_BITS = 7 };
extern const char *const kinesis_metric_names[METRIC_BITS];
void call_write_metrics(struct aws_writer *w, const char *key, uint32_t bits);
/* WarmThroughput {TargetMiBps, CurrentMiBps}. */
void call_write_warm(struct aws_writer *w, const struct map_stream *s);
/* The map's tags as a list of Key and Value. */
void call_write_tags(struct aws_writer *w, const struct map_tag *tags, unsigned n);

/* StreamCreationTimestamp, if it is given, is this stream's; else answered (kinesis_shards.c). */
bool call_creation_agrees(struct call *c, const struct map_stream *s);
/* The error of a native request on a stream or consumer that was there when the call came. */
void call_changed_error(struct call *c, const struct sluice_result *r);

/* Open shards of the account's provisioned streams, and the limit that is told (kinesis_account.c). */
enum { ACCOUNT_SHARD_LIMIT = 10000 };
unsigned long long account_open_shards(const struct call *c);

#endif
