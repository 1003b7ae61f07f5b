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
export function cluster(version, options = {}) {
    const clients = endpoints.map(endpoint => new sdk.KinesisClient({
        endpoint, region, maxAttempts: 2,
        requestHandler: version === 1 ? new NodeHttpHandler({ requestTimeout: 30000 }) : new NodeHttp2Handler({ requestTimeout: 30000 }), ...options,
    }))
    let turn = 0
    const send = (operation, input = {}) => clients[turn++ % clients.length].send(new sdk[`${operation}Command`](input))
    send.close = () => clients.forEach(c => c.destroy())
    return send
}

export async function active(send, StreamName) {
    for (let n = 0; n < endpoints.length; n++) {
        if (!await until(30000, async () => (await send('DescribeStreamSummary', { StreamName }).catch(() => undefined))?.StreamDescriptionSummary.StreamStatus === 'ACTIVE')) {
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
