/* sluice bench put|latency: how fast records are acknowledged. */
#include "client/cli/bench.h"

static void all_completed(struct bench *b)
{
    bench_stop(b);
}

static int run_load(struct cli *c, const struct bench_defaults *d)
{
    struct bench b;
    int status = bench_open(&b, c, d);
    if (status != 0) {
        return status;
    }
    b.completed_all = all_completed;
    status = bench_load_start(&b);
    if (status != 0) {
        return status;
    }
    bench_run(&b);
    return bench_close(&b);
}

static int put(struct cli *c)
{
    return run_load(c, &(struct bench_defaults){.test = "put", .records = 200000, .depth = 4096});
}

/* The same, one record at a time: what a lone caller waits for. */
static int latency(struct cli *c)
{
    return run_load(c, &(struct bench_defaults){.test = "latency", .records = 2000, .depth = 1});
}

const struct cli_command cli_bench_put = {
    "bench", "put", "", 0, 0, "Measure how fast records are acknowledged. Ends with one JSON line.", {BENCH_OPTIONS_COMMON}, put};
const struct cli_command cli_bench_latency = {
    "bench", "latency", "", 0, 0, "Measure how long one record at a time takes to be acknowledged. Ends with one JSON line.", {BENCH_OPTIONS_COMMON}, latency};
