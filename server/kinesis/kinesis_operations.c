/* kinesis_operations.c: which function each operation has, and how often a second an account may call it. */
#include <string.h>

#include "proto/base.h"
#include "server/kinesis/kinesis_impl.h"
#include "server/node_impl.h"

#define OPERATION(name, rate) [AWS_OP_##name] = {kinesis_##name, rate}

/* Rates of AWS's documentation; 0: none on the control plane, the shards have limits of their own. */
static const struct { kinesis_operation run; uint32_t per_s; } operations[] = {
    OPERATION(AddTagsToStream, 5),
    OPERATION(CreateChannel, 5),
    OPERATION(CreateStream, 5),
    OPERATION(DecreaseStreamRetentionPeriod, 5),
    OPERATION(DeleteChannel, 5),
    OPERATION(DeleteResourcePolicy, 5),
    OPERATION(DeleteStream, 5),
    OPERATION(DeregisterStreamConsumer, 5),
    OPERATION(DescribeAccountSettings, 5),
    OPERATION(DescribeChannel, 10),
    OPERATION(DescribeLimits, 1),
    OPERATION(DescribeStream, 10),
    OPERATION(DescribeStreamConsumer, 20),
    OPERATION(DescribeStreamSummary, 20),
    OPERATION(DisableEnhancedMonitoring, 5),
    OPERATION(EnableEnhancedMonitoring, 5),
    OPERATION(GetRecords, 0),
    OPERATION(GetResourcePolicy, 5),
    OPERATION(GetShardIterator, 0),
    OPERATION(IncreaseStreamRetentionPeriod, 5),
    OPERATION(ListChannels, 5),
    OPERATION(ListShards, 1000),
    OPERATION(ListStreamConsumers, 5),
    OPERATION(ListStreams, 5),
    OPERATION(ListTagsForResource, 5),
    OPERATION(ListTagsForStream, 5),
    OPERATION(MergeShards, 5),
    OPERATION(PutRecord, 0),
    OPERATION(PutRecords, 0),
    OPERATION(PutResourcePolicy, 5),
    OPERATION(RegisterStreamConsumer, 5),
    OPERATION(RemoveTagsFromStream, 5),
    OPERATION(SplitShard, 5),
    OPERATION(StartStreamEncryption, 5),
    OPERATION(StopStreamEncryption, 5),
    OPERATION(SubscribeToShard, 0),
    OPERATION(TagResource, 5),
    OPERATION(UntagResource, 5),
    OPERATION(UpdateAccountSettings, 5),
    OPERATION(UpdateChannel, 5),
    OPERATION(UpdateMaxRecordSize, 5),
    OPERATION(UpdateShardCount, 10),
    OPERATION(UpdateStreamMode, 5),
    OPERATION(UpdateStreamRecordDistributionStrategy, 5),
    OPERATION(UpdateStreamWarmThroughput, 5),
};
_Static_assert(ARRAY_LEN(operations) == AWS_OPERATION_COUNT && (int)AWS_OPERATION_COUNT <= (int)KINESIS_OPERATIONS_MAX && (int)AWS_ERROR_COUNT <= (int)KINESIS_OPERATIONS_MAX, "an operation has no function");

void kinesis_run_now(struct call *c)
{
    if (c->k->lane->map == NULL) {
        call_fail_text(c, AWS_E_ServiceUnavailable, "The node does not know the cluster yet.");
        return;
    }
    operations[c->op_number].run(c);
}

void kinesis_run(struct call *c)
{
    uint32_t per_s = operations[c->op_number].per_s;
    if (per_s == 0 || strcmp(c->k->lane->node->settings.limits, "off") == 0) {
        kinesis_run_now(c);
    } else {
        kinesis_rates_ask(c, per_s, kinesis_run_now);
    }
}
