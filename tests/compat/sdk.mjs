// The AWS SDK for JavaScript, over HTTP/2 (its default) and over HTTP/1.1: records of all sizes, errors as its classes, and SubscribeToShard with records pushed while they are put,
// takeover, and the end of a shard.
import { randomBytes } from 'node:crypto'
import { active, arn, check, cluster, equal, refused, run, sdk, sleep, until } from './harness.mjs'

const S0 = 'shardId-000000000000', half = (2n ** 127n).toString()
const text = value => new TextEncoder().encode(value)
const string = data => Buffer.from(data).toString()

async function create(send, StreamName, ShardCount = 1, more = {}) {
    await send('CreateStream', { StreamName, ShardCount, ...more })
    await active(send, StreamName)
}

async function consumer(send, stream, ConsumerName) {
    const { Consumer } = await send('RegisterStreamConsumer', { StreamARN: arn(stream), ConsumerName })
    await until(10000, async () => (await send('DescribeStreamConsumer', { ConsumerARN: Consumer.ConsumerARN })).ConsumerDescription.ConsumerStatus === 'ACTIVE')
    return Consumer.ConsumerARN
}

// Reads a shard until `wanted` records are there.
async function drain(send, StreamName, ShardId, wanted) {
    let at = (await send('GetShardIterator', { StreamName, ShardId, ShardIteratorType: 'TRIM_HORIZON' })).ShardIterator
    const found = []
    for (const deadline = Date.now() + 20000; at && found.length < wanted && Date.now() < deadline;) {
        const answer = await send('GetRecords', { ShardIterator: at })
        found.push(...answer.Records)
        at = answer.NextShardIterator
    }
    return found
}

// A subscription that is read in the background: its events, whether and how it ended.
function follow(answer) {
    const seen = { events: [], ended: false, error: undefined }
    seen.datas = () => seen.events.flatMap(e => e.Records.map(r => string(r.Data)))
    seen.done = (async () => {
        try {
            for await (const event of answer.EventStream) {
                if (event.SubscribeToShardEvent) seen.events.push({ ...event.SubscribeToShardEvent, at: performance.now() })
                else seen.error = Object.keys(event)[0]
            }
        } catch (e) {
            seen.error = e.name
        }
        seen.ended = true
    })()
    return seen
}

async function records(send, stream) {
    const bytes = Uint8Array.from({ length: 256 }, (_, n) => n)
    const put = await send('PutRecord', { StreamName: stream, Data: bytes, PartitionKey: 'k', ExplicitHashKey: '0' })
    equal('a record of all bytes is put', put.ShardId, S0)
    const large = randomBytes(1024 * 1024 - 1)
    await send('PutRecord', { StreamName: stream, Data: large, PartitionKey: 'k', ExplicitHashKey: '0' })
    const [first, second] = await drain(send, stream, S0, 2)
    check('its bytes come back', Buffer.from(first.Data).equals(Buffer.from(bytes)))
    check('its time is a time', first.ApproximateArrivalTimestamp instanceof Date && Math.abs(first.ApproximateArrivalTimestamp - Date.now()) < 60000, first.ApproximateArrivalTimestamp)
    check('a record of 1 MiB comes back', Buffer.from(second.Data).equals(large))
    const answers = await Promise.all(Array.from({ length: 100 }, (_, n) => send('PutRecord', { StreamName: stream, Data: text(`${n}`), PartitionKey: `${n}` })))
    equal('a hundred puts at once', new Set(answers.map(a => a.SequenceNumber + a.ShardId)).size, 100)
    const many = await send('PutRecords', { StreamName: stream, Records: Array.from({ length: 500 }, (_, n) => ({ Data: text(`p${n}`), PartitionKey: `${n}` })) })
    equal('five hundred in one', [many.FailedRecordCount, many.Records.length], [0, 500])
    const { Shards } = await send('ListShards', { StreamName: stream })
    const all = (await Promise.all(Shards.map(s => drain(send, stream, s.ShardId, [put, ...answers, ...many.Records].filter(a => a.ShardId === s.ShardId).length + (s.ShardId === S0 ? 1 : 0))))).flat()
    equal('all are there', all.length, 602)
    equal('each once', new Set(all.map(r => r.SequenceNumber + r.PartitionKey)).size, 602)
}

async function errors(send, stream) {
    const error = await refused('a stream that is not there', send('DescribeStreamSummary', { StreamName: 'nothing' }), 'ResourceNotFoundException')
    check('is an exception of the SDK', error instanceof sdk.ResourceNotFoundException, error)
    check('with its words', /^Stream nothing under account \d{12} not found\.$/.test(error?.message), error?.message)
    check('a status, a request id', error?.$metadata?.httpStatusCode === 400 && /^[0-9a-f-]{36}$/.test(error.$metadata.requestId), error?.$metadata)
    await refused('the stream once more', send('CreateStream', { StreamName: stream, ShardCount: 1 }), 'ResourceInUseException')
    await refused('a bad iterator', send('GetRecords', { ShardIterator: 'x' }), 'InvalidArgumentException')
    await refused('a bad name', send('CreateStream', { StreamName: 'a b', ShardCount: 1 }), 'ValidationException')
}

// Records of 10 MiB, in a stream that takes them.
async function large(send, stream) {
    const size = 10 * 1024 * 1024 - 1
    await create(send, stream, 1, { MaxRecordSizeInKiB: 10240 })
    const data = randomBytes(size)
    await send('PutRecord', { StreamName: stream, Data: data, PartitionKey: 'k' })
    const [record] = await drain(send, stream, S0, 1)
    check('a record of 10 MiB comes back', record && Buffer.from(record.Data).equals(data), record && record.Data.length)
    await refused('one byte more does not fit', send('PutRecord', { StreamName: stream, Data: Buffer.concat([data, text('x')]), PartitionKey: 'k' }), 'ValidationException')
    await send('DeleteStream', { StreamName: stream })
}

async function push(send, stream) {
    await create(send, stream)
    const ConsumerARN = await consumer(send, stream, 'push')
    await send('PutRecord', { StreamName: stream, Data: text('before'), PartitionKey: 'k' })
    const subscribe = StartingPosition => send('SubscribeToShard', { ConsumerARN, ShardId: S0, StartingPosition })
    const started = Date.now()
    const first = follow(await subscribe({ Type: 'LATEST' }))
    await sleep(200)
    await refused('a second subscription within 5 s', subscribe({ Type: 'LATEST' }), 'ResourceInUseException')
    const acknowledged = new Map()
    for (let n = 0; n < 100; n++) {
        const { SequenceNumber } = await send('PutRecord', { StreamName: stream, Data: text(`${n}`), PartitionKey: 'k' })
        acknowledged.set(SequenceNumber, performance.now())
        await sleep(5)
    }
    check('records are pushed while they are put', first.datas().length > 50, first.datas().length)
    await until(10000, () => first.datas().length >= 100)
    const delays = first.events.flatMap(e => e.Records.map(r => e.at - acknowledged.get(r.SequenceNumber))).sort((a, b) => a - b)
    equal('all records are pushed, once and in order, and none from before', first.datas(), Array.from({ length: 100 }, (_, n) => `${n}`))
    check('each event says where to go on', first.events.every(e => e.ContinuationSequenceNumber !== undefined && e.ChildShards === undefined))
    console.log(`HTTP push, from the acknowledgement to the consumer: p50 ${delays[50]?.toFixed(2)} ms, most ${delays.at(-1)?.toFixed(2)} ms`)
    await sleep(Math.max(0, 5500 - (Date.now() - started)))
    const at = first.events.findLast(e => e.Records.length).Records[0].SequenceNumber
    const second = follow(await subscribe({ Type: 'AT_SEQUENCE_NUMBER', SequenceNumber: at }))
    check('after 5 s it takes over', await until(5000, () => second.datas().length > 0))
    check('and the first ends', await until(5000, () => first.ended), first.error ?? 'goes on')
    equal('AT_SEQUENCE_NUMBER begins there', second.datas()[0], '99')
    check('an idle subscription has a heartbeat', await until(7000, () => second.events.some(e => e.Records.length === 0 && e.MillisBehindLatest === 0)), second.events.length)
    await send('SplitShard', { StreamName: stream, ShardToSplit: S0, NewStartingHashKey: half })
    check('the subscription ends with its shard', await until(15000, () => second.ended))
    check('cleanly', second.error === undefined, second.error)
    const last = second.events.at(-1)
    check('the last event has no continuation', last.ContinuationSequenceNumber === undefined, last)
    equal('but the children', last.ChildShards?.map(c => [c.ShardId, c.ParentShards]).sort(), [['shardId-000000000001', [S0]], ['shardId-000000000002', [S0]]])

    await active(send, stream, 2)
    const positions = [[{ Type: 'TRIM_HORIZON' }, 'before', 101], [{ Type: 'AFTER_SEQUENCE_NUMBER', SequenceNumber: at }, undefined, 0], [{ Type: 'AT_TIMESTAMP', Timestamp: new Date(Date.now() - 3600000) }, 'before', 101]]
    for (const [n, [position, wanted, count]] of positions.entries()) {
        const other = await consumer(send, stream, `position-${n}`)
        const seen = follow(await send('SubscribeToShard', { ConsumerARN: other, ShardId: S0, StartingPosition: position }))
        await until(10000, () => seen.ended)
        equal(`${position.Type} in a closed shard: its records, then the end`, [seen.datas()[0], seen.datas().length, seen.ended, seen.events.at(-1)?.ContinuationSequenceNumber], [wanted, count, true, undefined])
    }
    const child = follow(await send('SubscribeToShard', { ConsumerARN, ShardId: 'shardId-000000000001', StartingPosition: { Type: 'TRIM_HORIZON' } }))
    await send('PutRecord', { StreamName: stream, Data: text('child'), PartitionKey: 'k', ExplicitHashKey: '0' })
    check('the child goes on', await until(5000, () => child.datas().includes('child')))
    await send('DeregisterStreamConsumer', { ConsumerARN })
    check('without its consumer a subscription ends', await until(10000, () => child.ended))
    await refused('a subscription of none', send('SubscribeToShard', { ConsumerARN, ShardId: 'shardId-000000000001', StartingPosition: { Type: 'LATEST' } }), 'ResourceNotFoundException')
    await send('DeleteStream', { StreamName: stream, EnforceConsumerDeletion: true })
}

const parts = []
for (const version of [2, 1]) {
    const send = cluster(version), name = `sdk-h${version}`
    const part = (title, f) => parts.push(Object.defineProperty(f, 'name', { value: `HTTP/${version}: ${title}` }))
    part('records', async () => {
        await create(send, name, 2)
        await records(send, name)
    })
    part('errors', () => errors(send, name))
    part('large records', () => large(send, `${name}-large`))
    part('push', () => push(send, `${name}-push`))
    part('end', async () => {
        await send('DeleteStream', { StreamName: name })
        check('the stream is gone', await until(20000, async () => !(await send('ListStreams')).StreamNames.includes(name)))
        send.close()
    })
}
await run('SDK for JavaScript', ...parts)
