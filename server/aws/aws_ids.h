/* aws_ids.h: names of things in requests and answers: shard ids and ARNs. */
#ifndef SLUICE_AWS_IDS_H
#define SLUICE_AWS_IDS_H

#include "server/aws/arena.h"
#include "server/aws/aws_error.h"

enum {
    AWS_STREAM_NAME_MAX = 128,
    AWS_CONSUMER_NAME_MAX = 128,
    AWS_SHARD_ID_SIZE = 24, /* NUL included */
    AWS_ARN_SIZE = 512      /* of the ARNs that are written, NUL included */
};

/* "shardId-000000000007" */
void aws_shard_id_format(char out[AWS_SHARD_ID_SIZE], uint32_t shard);
/* That, and what AWS takes too: "shardId-7", "x-7", "7". Below 2^31. False: none of these. */
bool aws_shard_id_parse(struct aws_text text, uint32_t *shard);

/* arn:PARTITION:kinesis:REGION:ACCOUNT:stream/NAME, with /consumer/CONSUMER:CREATED behind it for a consumer. The texts point into what was parsed. */
struct aws_arn {
    struct aws_text region, account, stream;
    struct aws_text consumer; /* {NULL, 0}: the ARN of a stream */
    int64_t consumer_created_s;
};

bool aws_arn_parse(struct aws_text text, struct aws_arn *out);
/* Writes "arn:aws:kinesis:...", with the consumer if there is one. Region and account of at most 64 bytes each, names within their bounds (asserted). */
void aws_arn_format(char out[AWS_ARN_SIZE], const struct aws_arn *arn);

/* Who the endpoint is. */
struct aws_scope {
    const char *region;
    const char *account; /* of the caller */
};

/* The stream that an input names by StreamName, StreamARN or both, which must agree. AWS_E_NONE and *name (points into the input), or the error and *message (in
 * the arena). An ARN of another account or region names a stream that is not found here. */
enum aws_error aws_stream_of(const struct aws_value *input, const struct aws_scope *scope, struct arena *arena, struct aws_text *name, const char **message);

/* A stream, or a consumer of one, that an input names by ConsumerARN, or by StreamARN and ConsumerName; or by ResourceARN (then out->consumer may be absent). If
 * ConsumerARN is given, consumer_created_s tells which consumer of that name is meant; otherwise it is -1. Errors as above. */
enum aws_error aws_consumer_of(const struct aws_value *input, const struct aws_scope *scope, struct arena *arena, struct aws_arn *out, const char **message);
enum aws_error aws_resource_of(const struct aws_value *input, const struct aws_scope *scope, struct arena *arena, struct aws_arn *out, const char **message);

#endif
