/* kinesis_get.h: what GetShardIterator (kinesis_iterator.c) and GetRecords (kinesis_get.c) share. */
#ifndef SLUICE_KINESIS_GET_H
#define SLUICE_KINESIS_GET_H

#include "server/kinesis/kinesis_impl.h"

/* Seals it, issued now. False: answered. */
bool call_iterator_seal(struct call *c, struct aws_iterator *it, char out[AWS_ITERATOR_SIZE]);
/* The error of a read of a shard: its limits in AWS's words; others as call_native_error(). */
void call_read_error(struct call *c, int code, const char *message, uint32_t shard, const char *stream);

#endif
