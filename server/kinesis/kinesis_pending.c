/* kinesis_pending.c: operations and hooks that are still missing. */
#include "server/kinesis/kinesis_impl.h"

#define PENDING(name) \
    void kinesis_##name(struct call *c) { call_error_text(c, AWS_E_InternalFailure, "not built yet"); }
PENDING(AddTagsToStream)
PENDING(CreateChannel)
PENDING(DecreaseStreamRetentionPeriod)
PENDING(DeleteChannel)
PENDING(DeleteResourcePolicy)
PENDING(DeregisterStreamConsumer)
PENDING(DescribeAccountSettings)
PENDING(DescribeChannel)
PENDING(DescribeLimits)
PENDING(DescribeStreamConsumer)
PENDING(DisableEnhancedMonitoring)
PENDING(EnableEnhancedMonitoring)
PENDING(GetResourcePolicy)
PENDING(IncreaseStreamRetentionPeriod)
PENDING(ListChannels)
PENDING(ListShards)
PENDING(ListStreamConsumers)
PENDING(ListTagsForResource)
PENDING(ListTagsForStream)
PENDING(MergeShards)
PENDING(PutResourcePolicy)
PENDING(RegisterStreamConsumer)
PENDING(RemoveTagsFromStream)
PENDING(SplitShard)
PENDING(StartStreamEncryption)
PENDING(StopStreamEncryption)
PENDING(SubscribeToShard)
PENDING(TagResource)
PENDING(UntagResource)
PENDING(UpdateAccountSettings)
PENDING(UpdateChannel)
PENDING(UpdateMaxRecordSize)
PENDING(UpdateShardCount)
PENDING(UpdateStreamMode)
PENDING(UpdateStreamRecordDistributionStrategy)
PENDING(UpdateStreamWarmThroughput)

void kinesis_subscribers_map(struct kinesis *k) { (void)k; }
void kinesis_subscribers_close(struct kinesis *k) { (void)k; }

/* Until server/cluster_map.c has it; that one then counts. */
__attribute__((weak)) const struct map_consumer *cluster_map_consumer(const struct map_stream *s, const char *name, size_t name_len)
{
    (void)s;
    (void)name;
    (void)name_len;
    return NULL;
}
