/* sluice bench put|latency: how fast records are acknowledged. With --kinesis: bench_kinesis.c. */
#include "client/cli/bench.h"

static int run_load(struct cli *c, const struct bench_defaults *d)
{
    struct bench b;
    int status = bench_open(&b, c, d);
    status = status == 0 ? bench_load_open(&b) : status;
    if (status != 0) {
        return status;
    }
    if (b.warmup == 0 || bench_load_quietly(&b, b.warmup)) {
        bench_spent(&b, &b.before);
        bench_load_go(&b, b.load.seconds != 0 && cli_value(c, "records") == NULL ? UINT64_MAX : b.records);
        bench_run(&b);
        bench_spent(&b, &b.after);
    }
    b.start_ns = b.load.start_ns;
    b.counted = b.load.acked;
    b.counted_bytes = b.load.acked * b.record_size;
    *b.latency = *b.load.latency;
    return bench_close(&b);
}

static int put(struct cli *c)
{
    if (cli_value(c, "kinesis") != NULL) {
        return bench_kinesis(c);
    }
    static const char *const only[] = {"cbor", "connections", "batch", "ca"};
    for (size_t i = 0; i < ARRAY_LEN(only); i++) {
        if (cli_value(c, only[i]) != NULL) {
            return cli_usage(c, "--%s is for --kinesis", only[i]);
        }
    }
    return run_load(c, &(struct bench_defaults){.test = "put", .records = 200000, .depth = 4096});
}

/* The same, one record at a time: what a lone caller waits for. At a rate as many as it takes. */
static int latency(struct cli *c)
{
    return run_load(c, &(struct bench_defaults){.test = "latency", .records = 2000, .depth = cli_value(c, "rate") != NULL ? 4096 : 1});
}

const struct cli_command cli_bench_put = {
    "bench", "put", "", 0, 0, "Measure how fast records are acknowledged. Ends with one JSON line.", 
    {BENCH_OPTIONS_COMMON, BENCH_OPTIONS_LOAD, {"kinesis", "URL,...", "through the Kinesis API at these URLs (http://HOST:PORT or https://...), by PutRecords"},
     {"cbor", NULL, "with --kinesis: CBOR instead of JSON"},
     {"connections", "N", "with --kinesis: each with one request at a time (default 1)"},
     {"batch", "N", "with --kinesis: records per request (default 500, or what makes 5 MiB)"},
     {"ca", "FILE", "with --kinesis: trusted authorities for https, PEM (default: $AWS_CA_BUNDLE, or the system's)"}},
    put};
const struct cli_command cli_bench_latency = {
    "bench", "latency", "", 0, 0,
    "Measure how long one record at a time, or with --rate each of a steady flow, takes to be acknowledged. Ends with one JSON line.",
    {BENCH_OPTIONS_COMMON, BENCH_OPTIONS_LOAD}, latency};
