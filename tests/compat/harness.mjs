// Counting checks, as harness.py; and clients of the AWS SDK for JavaScript. The SDK is in the folder $COMPAT_MODULES (tests/compat/clients.sh says how it gets there).
import { createRequire } from 'node:module'
import { isDeepStrictEqual, inspect } from 'node:util'

const require = createRequire(`${process.env.COMPAT_MODULES}/any.js`)
export const sdk = require('@aws-sdk/client-kinesis')
const { NodeHttpHandler, NodeHttp2Handler } = require('@smithy/node-http-handler')
export const endpoints = (process.env.KINESIS_ENDPOINTS ?? 'http://127.0.0.1:4567').split(',')
const region = process.env.AWS_DEFAULT_REGION ?? 'us-east-1'
export const account = process.env.COMPAT_ACCOUNT ?? '000000000000'
export const arn = stream => `arn:aws:kinesis:${region}:${account}:stream/${stream}`

let checks = 0, failures = 0

export function check(what, holds, seen = '') {
    checks++
    if (holds) {
        if (process.env.COMPAT_VERBOSE) console.log('ok', what)
        return true
    }
    failures++
    console.log(`FAIL: ${what}: ${typeof seen === 'string' ? seen : inspect(seen, { depth: 4 })}`.slice(0, 700))
    return false
}

export const equal = (what, got, wanted) => check(what, isDeepStrictEqual(got, wanted), `${inspect(got)} instead of ${inspect(wanted)}`)
export const matches = (what, text, pattern) => check(what, pattern.test(text), `${inspect(text)} does not match ${pattern}`)

// The promise must be refused with this error.
export async function refused(what, promise, name) {
    try {
        const answer = await promise
        check(what, false, answer)
    } catch (e) {
        check(what, name instanceof RegExp ? name.test(e.name) : e.name === name, `${e.name}: ${e.message}`)
        return e
    }
}

export const sleep = ms => new Promise(done => setTimeout(done, ms))

// The first true answer of question(), asked for until ms have passed.
export async function until(ms, question) {
    for (const deadline = Date.now() + ms; ;) {
        const answer = await question()
        if (answer || Date.now() > deadline) return answer
        await sleep(50)
    }
}

// A client per node. What is asked goes to the next of them: send('PutRecord', {...}).
export function cluster(version, nodes = endpoints) {
    const clients = nodes.map(endpoint => new sdk.KinesisClient({
        endpoint, region, maxAttempts: 2,
        requestHandler: version === 1 ? new NodeHttpHandler({ requestTimeout: 30000 }) : new NodeHttp2Handler({ requestTimeout: 30000 }),
    }))
    let turn = 0
    const send = (operation, input = {}) => clients[turn++ % clients.length].send(new sdk[`${operation}Command`](input))
    send.clients = clients
    send.close = () => clients.forEach(c => c.destroy())
    return send
}

// Each node says that the stream is ACTIVE, and has so many open shards if that is given.
export async function active(send, StreamName, open) {
    for (const client of send.clients) {
        const summary = async () => (await client.send(new sdk.DescribeStreamSummaryCommand({ StreamName })).catch(() => undefined))?.StreamDescriptionSummary
        if (!await until(30000, async () => { const s = await summary(); return s?.StreamStatus === 'ACTIVE' && (open === undefined || s.OpenShardCount === open) })) {
            throw new Error(`${StreamName} did not become ACTIVE`)
        }
    }
}

export async function run(title, ...parts) {
    for (const part of parts) {
        const before = checks, started = Date.now()
        try {
            await part()
        } catch (e) {
            check(`${title}: ${part.name} goes to its end`, false, e.stack)
        }
        console.log(`${title}: ${part.name}: ${checks - before} checks, ${((Date.now() - started) / 1000).toFixed(1)} s`)
    }
    console.log(`${title}: ${checks} checks, ${failures} failed`)
    process.exit(failures || !checks ? 1 : 0)
}
