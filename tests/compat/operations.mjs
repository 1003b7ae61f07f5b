// Every operation that the AWS SDK for JavaScript knows, once: what it answers, and that all that it answers are members the SDK knows. The table is the list of operations: one that a newer
// SDK brings is missing in it and fails.
import { account, active, arn, check, cluster, endpoints, equal, matches, refused, run, sdk, until } from './harness.mjs'

const S0 = 'shardId-000000000000'
const send = cluster(2, endpoints.slice(0, 1)) // one node, so that what is changed is seen at once
const stream = { StreamName: 'ops' }, StreamARN = arn('ops')
const kept = {} // what later rows need
const text = value => new TextEncoder().encode(value)
const settled = answer => active(send, 'ops').then(() => answer)

// operation: input, then what its answer must be like; or the error that is documented for it. In this order.
const table = [
    ['CreateStream', () => ({ ...stream, ShardCount: 2, Tags: { made: 'here' } }), settled],
    ['DescribeStream', () => stream, a => equal('its shards', a.StreamDescription.Shards.length, 2)],
    ['DescribeStreamSummary', () => ({ StreamARN }), a => check('it', a.StreamDescriptionSummary.StreamARN === StreamARN && a.StreamDescriptionSummary.StreamCreationTimestamp instanceof Date, a)],
    ['ListStreams', () => ({}), a => check('it is among them', a.StreamNames.includes('ops') && a.StreamSummaries.some(s => s.StreamARN === StreamARN && s.StreamStatus === 'ACTIVE'), a)],
    ['ListShards', () => stream, a => equal('two', a.Shards.map(s => s.ShardId), [S0, 'shardId-000000000001'])],
    ['ListTagsForStream', () => stream, a => equal('the tag of its creation', a.Tags, [{ Key: 'made', Value: 'here' }])],
    ['AddTagsToStream', () => ({ ...stream, Tags: { a: 'b' } })],
    ['RemoveTagsFromStream', () => ({ ...stream, TagKeys: ['made'] })],
    ['TagResource', () => ({ ResourceARN: StreamARN, Tags: { c: 'd' } })],
    ['UntagResource', () => ({ ResourceARN: StreamARN, TagKeys: ['a'] })],
    ['ListTagsForResource', () => ({ ResourceARN: StreamARN }), a => equal('both ways lead to the same tags', a.Tags, [{ Key: 'c', Value: 'd' }])],
    ['PutRecord', () => ({ ...stream, Data: text('one'), PartitionKey: 'k', ExplicitHashKey: '0' }), a => { kept.sequence = a.SequenceNumber; equal('where', a.ShardId, S0) }],
    ['PutRecords', () => ({ ...stream, Records: [{ Data: text('two'), PartitionKey: 'k', ExplicitHashKey: '0' }] }), a => equal('none failed', a.FailedRecordCount, 0)],
    ['GetShardIterator', () => ({ ...stream, ShardId: S0, ShardIteratorType: 'AT_SEQUENCE_NUMBER', StartingSequenceNumber: kept.sequence }), a => { kept.iterator = a.ShardIterator; check('a text', a.ShardIterator.length <= 512) }],
    ['GetRecords', () => ({ ShardIterator: kept.iterator }), a => equal('both', a.Records.map(r => Buffer.from(r.Data).toString()), ['one', 'two'])],
    ['RegisterStreamConsumer', () => ({ StreamARN, ConsumerName: 'c', Tags: { of: 'consumer' } }), async a => {
        kept.consumer = a.Consumer.ConsumerARN
        check('ACTIVE soon', await until(10000, async () => (await send('DescribeStreamConsumer', { ConsumerARN: kept.consumer })).ConsumerDescription.ConsumerStatus === 'ACTIVE'))
        equal('its tags', (await send('ListTagsForResource', { ResourceARN: kept.consumer })).Tags, [{ Key: 'of', Value: 'consumer' }])
    }],
    ['DescribeStreamConsumer', () => ({ ConsumerARN: kept.consumer }), a => equal('it', a.ConsumerDescription.ConsumerName, 'c')],
    ['ListStreamConsumers', () => ({ StreamARN }), a => equal('it', a.Consumers.map(c => c.ConsumerARN), [kept.consumer])],
    ['SubscribeToShard', () => ({ ConsumerARN: kept.consumer, ShardId: S0, StartingPosition: { Type: 'TRIM_HORIZON' } }), async a => {
        const records = []
        for await (const event of a.EventStream) {
            records.push(...event.SubscribeToShardEvent.Records.map(r => Buffer.from(r.Data).toString()))
            if (records.length >= 2) break
        }
        equal('the records', records, ['one', 'two'])
    }],
    ['PutResourcePolicy', () => ({ ResourceARN: StreamARN, Policy: '{"Version":"2012-10-17","Statement":[]}' })],
    ['GetResourcePolicy', () => ({ ResourceARN: StreamARN }), a => equal('it', JSON.parse(a.Policy).Version, '2012-10-17')],
    ['DeleteResourcePolicy', () => ({ ResourceARN: StreamARN }), async () => equal('there is none then', (await send('GetResourcePolicy', { ResourceARN: StreamARN })).Policy, '{}')],
    ['IncreaseStreamRetentionPeriod', () => ({ ...stream, RetentionPeriodHours: 30 }), settled],
    ['DecreaseStreamRetentionPeriod', () => ({ ...stream, RetentionPeriodHours: 24 }), settled],
    ['EnableEnhancedMonitoring', () => ({ ...stream, ShardLevelMetrics: ['IncomingBytes'] }), a => equal('before and after', [a.CurrentShardLevelMetrics, a.DesiredShardLevelMetrics], [[], ['IncomingBytes']])],
    ['DisableEnhancedMonitoring', () => ({ ...stream, ShardLevelMetrics: ['ALL'] }), a => equal('none', a.DesiredShardLevelMetrics, [])],
    ['SplitShard', () => ({ ...stream, ShardToSplit: S0, NewStartingHashKey: '1000000' }), settled],
    ['MergeShards', () => ({ ...stream, ShardToMerge: 'shardId-000000000002', AdjacentShardToMerge: 'shardId-000000000003' }), settled],
    ['UpdateShardCount', () => ({ ...stream, TargetShardCount: 3, ScalingType: 'UNIFORM_SCALING' }), async a => {
        equal('from and to', [a.CurrentShardCount, a.TargetShardCount, a.StreamARN], [2, 3, StreamARN])
        await settled()
        equal('three are open', (await send('DescribeStreamSummary', stream)).StreamDescriptionSummary.OpenShardCount, 3)
    }],
    ['UpdateStreamMode', () => ({ StreamARN, StreamModeDetails: { StreamMode: 'ON_DEMAND' } }), async () => {
        await settled()
        equal('it is', (await send('DescribeStreamSummary', stream)).StreamDescriptionSummary.StreamModeDetails.StreamMode, 'ON_DEMAND')
    }],
    ['UpdateMaxRecordSize', () => ({ StreamARN, MaxRecordSizeInKiB: 2048 }), async () => {
        await settled()
        equal('it is', (await send('DescribeStreamSummary', stream)).StreamDescriptionSummary.MaxRecordSizeInKiB, 2048)
    }],
    ['UpdateStreamWarmThroughput', () => ({ StreamARN, WarmThroughputMiBps: 4 }), a => check('what is wanted', a.StreamARN === StreamARN && a.WarmThroughput.TargetMiBps === 4, a)],
    ['UpdateStreamRecordDistributionStrategy', () => ({ StreamARN, RecordDistributionStrategy: 'USER_PARTITION_KEY' }), settled],
    ['DescribeLimits', () => ({}), a => check('four numbers', [a.ShardLimit, a.OpenShardCount, a.OnDemandStreamCount, a.OnDemandStreamCountLimit].every(n => Number.isInteger(n)), a)],
    ['DescribeAccountSettings', () => ({}), a => matches('a status', a.MinimumThroughputBillingCommitment.Status, /^(DISABLED|ENABLED)/)],
    ['UpdateAccountSettings', () => ({ MinimumThroughputBillingCommitment: { Status: 'DISABLED' } }), a => equal('it stays so', a.MinimumThroughputBillingCommitment.Status, 'DISABLED')],
    ['StartStreamEncryption', () => ({ ...stream, EncryptionType: 'KMS', KeyId: 'alias/none' }), /^KMS/],
    ['StopStreamEncryption', () => ({ ...stream, EncryptionType: 'KMS', KeyId: 'alias/none' }), /^(KMS|InvalidArgument|ResourceInUse)/],
    ['CreateChannel', () => ({ ChannelName: 'ch', ServiceExecutionRoleARN: `arn:aws:iam::${account}:role/r`, StreamConfigurationList: [{ StreamARN, RecordConfiguration: { RecordFormatType: 'JSON', GSRSchemaARN: `arn:aws:glue:us-east-1:${account}:schema/a/b` } }] }), /Exception$/],
    ['DescribeChannel', () => ({ ChannelARN: StreamARN.replace('stream/', 'channel/') }), 'ResourceNotFoundException'],
    ['UpdateChannel', () => ({ ChannelARN: StreamARN.replace('stream/', 'channel/') }), 'ResourceNotFoundException'],
    ['DeleteChannel', () => ({ ChannelARN: StreamARN.replace('stream/', 'channel/') }), 'ResourceNotFoundException'],
    ['ListChannels', () => ({}), a => equal('none', a.ChannelSummaries, [])],
    ['DeregisterStreamConsumer', () => ({ ConsumerARN: kept.consumer }), async () => check('it is gone', await until(10000, async () => (await send('ListStreamConsumers', { StreamARN })).Consumers.length === 0))],
    ['DeleteStream', () => ({ ...stream, EnforceConsumerDeletion: true }), async () => check('it is gone', await until(20000, async () => !(await send('ListStreams')).StreamNames.includes('ops')))],
]

async function all() {
    const known = Object.keys(sdk).filter(name => name.endsWith('Command') && name !== '$Command').map(name => name.slice(0, -'Command'.length)).sort()
    equal('the table has what the SDK knows', table.map(row => row[0]).sort(), known)
    for (const [operation, input, wanted] of table) {
        if (wanted instanceof RegExp || typeof wanted === 'string') {
            const error = await refused(`${operation} is refused as documented`, send(operation, input()), wanted)
            check(`${operation} says why, and with which request`, error?.message && /^[0-9a-f-]{36}$/.test(error.$metadata?.requestId), error)
            continue
        }
        try {
            const answer = await send(operation, input())
            check(`${operation} is done`, answer.$metadata.httpStatusCode === 200 && /^[0-9a-f-]{36}$/.test(answer.$metadata.requestId), answer.$metadata)
            await wanted?.(answer)
        } catch (e) {
            check(`${operation} is done`, false, `${e.name}: ${e.message}`)
        }
    }
}

await run('all operations, SDK for JavaScript', all)
