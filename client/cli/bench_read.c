/* sluice bench read: how fast a stream comes back, and what that does to those who put meanwhile. */
#include "client/cli/bench.h"

struct read_bench { struct bench b; struct bench_reading g; size_t ended; };

static void read_each(struct bench_reader *r, const struct sluice_records *batch)
{
    struct bench *b = r->bench;
    struct read_bench *rb = container_of(b, struct read_bench, b);
    uint64_t now = env_clock_ns(b->cli->env);
    histogram_add(b->latency, now - (r->delivered_ns != 0 ? r->delivered_ns : b->start_ns));
    r->delivered_ns = now;
    uint64_t *own = b->fan_out ? &rb->g.counted[r->consumer] : &b->counted; /* each consumer counts the whole stream, or all of them together */
    uint64_t copies = b->fan_out ? b->consumers : 1;
    uint64_t n = min_u64(batch->n, b->records - *own);
    for (size_t i = 0; i < n; i++) {
        b->counted_bytes += batch->v[i].data_len;
    }
    *own += n;
    b->counted += b->fan_out ? n : 0;
    if (b->counted == b->records * copies) {
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

/* A load without an end: the readers end the run. */
static void never(struct bench *b)
{
    (void)b;
}

static int read_all(struct read_bench *rb)
{
    struct bench *b = &rb->b;
    bench_spent(b, &b->before);
    if (b->load.rate != 0) {
        b->tells_ack = true;
        b->load.completed_all = never;
        bench_load_go(b, UINT64_MAX);
    }
    b->start_ns = env_clock_ns(b->cli->env);
    const struct sluice_position from = {.kind = SLUICE_TRIM_HORIZON};
    const struct bench_reader pattern = {.each = read_each, .end = read_end};
    int status = bench_readers_open(b, &rb->g, &from, false, &pattern);
    if (status != 0) {
        return status;
    }
    bench_run(b);
    bench_spent(b, &b->after);
    if (b->counted < b->records * (b->fan_out ? b->consumers : 1) && b->errors == 0) {
        bench_error(b, SLUICE_E_CORRUPT, "the shards ended before all records were read");
    }
    bench_readers_close(b, &rb->g);
    return 0;
}

static int read_bench(struct cli *c)
{
    struct read_bench rb = {0};
    struct bench *b = &rb.b;
    uint64_t have;
    int status = bench_open(b, c, &(struct bench_defaults){.test = "read", .records = 200000, .depth = 4096});
    status = status == 0 ? stream_records(b, &have) : status;
    if (status == 0 && (have < b->records || b->load.rate != 0)) {
        status = bench_load_open(b);
    }
    if (status != 0) {
        return status;
    }
    if (have < b->records) { /* too little to read: that much is put first, and not measured */
        fprintf(stderr, "putting %llu records first\n", (unsigned long long)(b->records - have));
        bench_load_quietly(b, b->records - have);
    }
    if (b->errors == 0) {
        status = read_all(&rb);
        if (status != 0) {
            return status;
        }
    }
    return bench_close(b);
}

const struct cli_command cli_bench_read = {
    "bench", "read", "", 0, 0,
    "Measure how fast a stream is read. Puts the missing records first, then reads from the trim horizon. The percentiles are of the time between two "
    "deliveries of a shard. Ends with one JSON line.",
    {BENCH_OPTIONS_COMMON, BENCH_OPTIONS_CONSUMERS,
     {"rate", "N", "records per second that are put meanwhile; their acknowledgements are told as ack_p50_ms and ack_p99_ms (default 0: none)"}},
    read_bench};
