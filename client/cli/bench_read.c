/* sluice bench read|e2e: how fast records come back, and how long they take from the producer to the consumer. */
#include "client/cli/bench.h"

/* ---- read ------------------------------------------------------------------------------------------------------------------ */

struct read_bench { struct bench b; struct bench_reading g; size_t ended; };

static void loaded(struct bench *b)
{
    bench_stop(b);
}

static void read_each(struct bench_reader *r, const struct sluice_records *batch)
{
    struct bench *b = r->bench;
    uint64_t now = env_clock_ns(b->cli->env);
    histogram_add(b->latency, now - (r->delivered_ns != 0 ? r->delivered_ns : b->start_ns));
    r->delivered_ns = now;
    for (size_t i = 0; i < batch->n && b->counted < b->records; i++) {
        b->counted++;
        b->counted_bytes += batch->v[i].data_len;
    }
    if (b->counted == b->records) {
        bench_stop(b);
    }
}

static void read_end(struct bench_reader *r)
{
    struct bench *b = r->bench;
    struct read_bench *rb = container_of(b, struct read_bench, b);
    if (++rb->ended == rb->g.n) {
        bench_stop(b);
    }
}

/* How many records the stream holds now. */
static int stream_records(struct bench *b, uint64_t *n)
{
    Sluice__StreamReply *reply;
    int status = cli_describe(b->cli, b->stream, &reply);
    *n = 0;
    if (status == 0) {
        cli_ask_ends(b->cli, reply->stream);
    }
    if (status == 0) {
        cli_records(reply->stream, n);
        cli_free(reply);
    }
    return status;
}

static int read_bench(struct cli *c)
{
    struct read_bench rb = {0};
    struct bench *b = &rb.b;
    uint64_t consumers, have, wanted;
    if (!cli_number(c, "consumers", 1, 1, BENCH_CLIENTS_MAX, &consumers)) {
        return CLI_USAGE;
    }
    int status = bench_open(b, c, &(struct bench_defaults){.test = "read", .records = 200000, .depth = 4096});
    if (status == 0) {
        status = stream_records(b, &have);
    }
    if (status != 0) {
        return status;
    }
    b->consumers = consumers;
    wanted = b->records;
    if (have < wanted) { /* too little to read: that much is put first, and not measured */
        fprintf(stderr, "putting %llu records first\n", (unsigned long long)(wanted - have));
        b->records = wanted - have;
        b->completed_all = loaded;
        status = bench_load_start(b);
        if (status != 0) {
            return status;
        }
        bench_run(b);
        b->records = wanted;
        b->counted = b->counted_bytes = 0;
        *b->latency = (struct histogram){0};
    }
    if (b->errors == 0) {
        b->done = false;
        b->start_ns = env_clock_ns(c->env);
        const struct sluice_position from = {.kind = SLUICE_TRIM_HORIZON};
        const struct bench_reader pattern = {.each = read_each, .end = read_end};
        status = bench_readers_open(b, &rb.g, &from, false, &pattern);
        if (status != 0) {
            return status;
        }
        bench_run(b);
        if (b->counted < b->records && b->errors == 0) {
            bench_error(b, SLUICE_E_CORRUPT, "the shards ended before all records were read");
        }
        bench_readers_close(b, &rb.g);
    }
    return bench_close(b);
}

const struct cli_command cli_bench_read = {
    "bench", "read", "", 0, 0,
    "Measure how fast a stream is read. Puts the missing records first, then reads from the trim horizon; the shards are shared out among the consumers. "
    "The percentiles are of the time between two deliveries of a shard. Ends with one JSON line.",
    {BENCH_OPTIONS_COMMON, {"consumers", "N", "connections to read over (default 1)"}}, read_bench};

/* ---- e2e ------------------------------------------------------------------------------------------------------------------- */

struct e2e_bench { struct bench b; struct bench_reading g; size_t ready; struct env_timer late; bool load_done; uint64_t seen; };

static void e2e_each(struct bench_reader *r, const struct sluice_records *batch)
{
    struct bench *b = r->bench;
    struct e2e_bench *e = container_of(b, struct e2e_bench, b);
    uint64_t now = env_clock_ns(b->cli->env);
    for (size_t i = 0; i < batch->n; i++) {
        if (batch->v[i].data_len < BENCH_STAMP || !b->started) {
            continue; /* somebody else's */
        }
        uint64_t intended = get_u64(batch->v[i].data);
        if (intended < b->start_ns || intended > now + 1000000000u) {
            continue;
        }
        histogram_add(b->latency, now > intended ? now - intended : 0);
        b->counted++;
        b->counted_bytes += batch->v[i].data_len;
    }
    if (e->load_done && b->counted + b->errors >= b->records) {
        bench_stop(b);
    }
}

static void too_late(struct env_timer *t)
{
    struct e2e_bench *e = container_of(t, struct e2e_bench, late);
    bench_error(&e->b, SLUICE_E_TIMEOUT, "acknowledged records did not arrive within 10 s");
    bench_stop(&e->b);
}

static void e2e_loaded(struct bench *b)
{
    struct e2e_bench *e = container_of(b, struct e2e_bench, b);
    e->load_done = true;
    if (b->counted + b->errors >= b->records) {
        bench_stop(b);
    } else {
        env_timer_start_ms(&e->late, 10000);
    }
}

/* Every consumer stands at the end of its shards: the load may begin. */
static void e2e_caught_up(struct bench_reader *r)
{
    struct bench *b = r->bench;
    struct e2e_bench *e = container_of(b, struct e2e_bench, b);
    if (!r->ready) {
        r->ready = true;
        if (++e->ready == e->g.n && bench_load_start(b) != 0) {
            bench_error(b, SLUICE_E_INTERNAL, "cannot start the producers");
            bench_stop(b);
        }
    }
}

static int e2e(struct cli *c)
{
    struct e2e_bench e = {0};
    struct bench *b = &e.b;
    uint64_t consumers;
    if (!cli_number(c, "consumers", 1, 1, BENCH_CLIENTS_MAX, &consumers)) {
        return CLI_USAGE;
    }
    int status = bench_open(b, c, &(struct bench_defaults){.test = "e2e", .records = 100000, .depth = 1024});
    if (status != 0) {
        return status;
    }
    if (b->record_size < BENCH_STAMP) {
        return cli_usage(c, "--record-size: at least %d bytes, for the time of sending", BENCH_STAMP);
    }
    b->consumers = consumers;
    b->stamped = true;
    b->completed_all = e2e_loaded;
    env_timer_init(c->env, &e.late, too_late);
    const struct sluice_position from = {.kind = SLUICE_LATEST};
    const struct bench_reader pattern = {.each = e2e_each, .caught_up = e2e_caught_up};
    status = bench_readers_open(b, &e.g, &from, true, &pattern);
    if (status != 0) {
        return status;
    }
    bench_run(b);
    env_timer_close(&e.late);
    bench_readers_close(b, &e.g);
    return bench_close(b);
}

const struct cli_command cli_bench_e2e = {
    "bench", "e2e", "", 0, 0,
    "Measure how long records take from the producer to a consumer that follows. Ends with one JSON line.",
    {BENCH_OPTIONS_COMMON, {"consumers", "N", "connections to read over (default 1)"}}, e2e};
