// Records pushed over HTTP/2 by SubscribeToShard of the AWS SDK for JavaScript: tests/bench/push starts it. Usage: push.mjs STREAM OPTION=VALUE...
//   live:    rate=R seconds=S warmup=S: puts R records of 1 KiB per second, in an open loop, and measures by one clock how long each takes from the time at which it should have been
//            sent until it is acknowledged, and until it is at a consumer. By PutRecords, a hundred times a second: a process of this kind is busy with 1,000 requests per second
//   backlog: records=N: what the stream holds is pushed to the consumers from the horizon on; how fast each gets it
//   both:    consumers=N, each with a subscription per shard and connections of its own
// Prints a JSON line of the form of `sluice bench push`.
import { randomBytes } from 'node:crypto'
import { arn, cluster, sleep, until } from '../compat/harness.mjs'

const RECORD = 1024, LATE_MS = 10000
const [stream, ...pairs] = process.argv.slice(2)
const o = { rate: 0, seconds: 10, warmup: 2, records: 0, consumers: 1 }
for (const pair of pairs) {
    const [name, value] = pair.split('=')
    if (!(name in o) || !(Number(value) >= 0)) throw new Error(`unknown option ${pair}`)
    o[name] = Number(value)
}
const backlog = o.records > 0
const ack = [], push = []
let acked = 0, failed = 0, firstError

function error(e) {
    failed++
    firstError ??= `${e.name}: ${e.message}`
}

// A consumer of this run's own, registered and subscribed to each shard.
async function consume(n, shards) {
    const c = { send: cluster(2), name: `push-${process.pid}-${Date.now()}-${n}`, n: 0, bytes: 0, counted: 0, last: 0 }
    const { Consumer } = await c.send('RegisterStreamConsumer', { StreamARN: arn(stream), ConsumerName: c.name })
    c.ConsumerARN = Consumer.ConsumerARN
    if (!await until(10000, async () => (await c.send('DescribeStreamConsumer', { ConsumerARN: c.ConsumerARN })).ConsumerDescription.ConsumerStatus === 'ACTIVE')) throw new Error('the consumer is not ACTIVE')
    c.subscribe = async each => {
        for (const { ShardId } of shards) {
            const { EventStream } = await c.send('SubscribeToShard', { ConsumerARN: c.ConsumerARN, ShardId, StartingPosition: { Type: backlog ? 'TRIM_HORIZON' : 'LATEST' } })
            void (async () => {
                try {
                    for await (const event of EventStream) each(c, event.SubscribeToShardEvent?.Records ?? [])
                } catch (e) {
                    if (!c.over) error(e)
                }
            })()
        }
    }
    return c
}

const number = data => new DataView(data.buffer, data.byteOffset, data.byteLength).getFloat64(0)

async function live(consumers) {
    let since = Infinity
    for (const c of consumers) {
        await c.subscribe((at, records) => {
            const now = performance.now()
            for (const { Data } of records) {
                const intended = number(Data)
                if (intended < since) continue
                push.push(now - intended)
                at.counted++
                at.bytes += Data.length
                at.last = now
            }
        })
    }
    const send = cluster(2), begin = performance.now() + 200, total = Math.floor((o.warmup + o.seconds) * o.rate)
    since = begin + o.warmup * 1000
    let open = 0
    const put = async (intended, count) => {
        open++
        try {
            const Records = Array.from({ length: count }, (_, i) => {
                const Data = randomBytes(RECORD)
                Data.writeDoubleBE(intended)
                return { PartitionKey: `${intended} ${i}`, Data }
            })
            const { FailedRecordCount } = await send('PutRecords', { StreamName: stream, Records })
            if (FailedRecordCount > 0) throw new Error(`${FailedRecordCount} records were refused`)
            const now = performance.now()
            for (let i = 0; i < count && intended >= since; i++) ack.push(now - intended)
            if (intended >= since) acked += count
        } catch (e) {
            error(e)
        }
        open--
    }
    const each = Math.max(1, Math.round(o.rate / 100)) // records in a request
    for (let n = 0; n < total;) {
        for (const now = performance.now(); n < total && begin + n * 1000 / o.rate <= now; n += each) void put(begin + n * 1000 / o.rate, Math.min(each, total - n))
        await sleep(1)
    }
    await until(LATE_MS, async () => open === 0)
    if (!await until(LATE_MS, async () => consumers.every(c => c.counted >= acked))) error(new Error('acknowledged records did not arrive within 10 s'))
    send.close()
    return since
}

async function drain(consumers) {
    const begin = performance.now()
    let progress = begin
    for (const c of consumers) {
        await c.subscribe((at, records) => {
            const room = records.slice(0, o.records - at.counted)
            at.counted += room.length
            for (const { Data } of room) at.bytes += Data.length
            if (room.length) at.last = progress = performance.now()
        })
    }
    await until(280000, async () => consumers.every(c => c.counted >= o.records) || performance.now() - progress > LATE_MS) // subscriptions end after 5 minutes
    if (!consumers.every(c => c.counted >= o.records)) error(new Error('not all records arrived'))
    return begin
}

const control = cluster(2), consumers = []
let begin = 0
try {
    const { Shards } = await control('ListShards', { StreamName: stream })
    for (let n = 0; n < o.consumers; n++) consumers.push(await consume(n, Shards))
    begin = await (backlog ? drain : live)(consumers)
} catch (e) {
    error(e)
}
for (const c of consumers) {
    c.over = true
    await control('DeregisterStreamConsumer', { ConsumerARN: c.ConsumerARN }).catch(error)
}

const quantile = (v, q) => Number((v[Math.min(v.length - 1, Math.floor(q * v.length))] ?? 0).toFixed(3))
const sum = f => consumers.reduce((all, c) => all + f(c), 0), seconds = Math.max(0, ...consumers.map(c => c.last - begin)) / 1000
const rates = consumers.map(c => c.last > begin ? c.bytes / 1e3 / (c.last - begin) : 0)
for (const v of [ack, push]) v.sort((a, b) => a - b)
if (failed) console.error(`push.mjs: ${failed} errors, the first: ${firstError}`)
console.log(JSON.stringify({
    test: 'push-h2', records: sum(c => c.counted), bytes: sum(c => c.bytes), seconds: Number(seconds.toFixed(3)), records_per_s: Number((sum(c => c.counted) / seconds || 0).toFixed(1)),
    mb_per_s: Number((sum(c => c.bytes) / 1e6 / seconds || 0).toFixed(3)), p50_ms: quantile(push, 0.5), p99_ms: quantile(push, 0.99), p999_ms: quantile(push, 0.999), errors: failed,
    record_size: RECORD, rate: o.rate, consumers: o.consumers, fan_out: true, ack_p50_ms: quantile(ack, 0.5), ack_p99_ms: quantile(ack, 0.99), ack_p999_ms: quantile(ack, 0.999),
    backlog, consumer_mb_per_s_min: Number(Math.min(...rates).toFixed(3)),
}))
process.exit(failed ? 1 : 0)
