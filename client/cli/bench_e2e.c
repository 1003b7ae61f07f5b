/* sluice bench e2e: how long records take from the producer to consumers that follow. */
#include "client/cli/bench.h"

enum { LATE_MS = 10000, SETTLE_MS = 200 };

struct e2e_bench { struct bench b; struct bench_reading g; struct env_timer late; bool load_done; };

/* What was acknowledged has arrived, at everyone who reads all of it. */
static bool all_there(const struct e2e_bench *e)
{
    return e->b.counted >= e->b.load.acked * (e->b.fan_out ? e->b.consumers : 1);
}

static void e2e_each(struct bench_reader *r, const struct sluice_records *batch)
{
    struct bench *b = r->bench;
    struct e2e_bench *e = container_of(b, struct e2e_bench, b);
    uint64_t now = env_clock_ns(b->cli->env);
    for (size_t i = 0; i < batch->n; i++) {
        if (batch->v[i].data_len < BENCH_STAMP || b->start_ns == 0) {
            continue; /* somebody else's, or of the warm-up */
        }
        uint64_t intended = get_u64(batch->v[i].data);
        if (intended < b->start_ns || intended > now + 1000000000u) {
            continue;
        }
        histogram_add(b->latency, now > intended ? now - intended : 0);
        b->counted++;
        b->counted_bytes += batch->v[i].data_len;
    }
    if (e->load_done && all_there(e)) {
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
    if (all_there(e)) {
        bench_stop(b);
    } else {
        env_timer_start_ms(&e->late, LATE_MS);
    }
}

static int e2e(struct cli *c)
{
    struct e2e_bench e = {0};
    struct bench *b = &e.b;
    int status = bench_open(b, c, &(struct bench_defaults){.test = "e2e", .records = 100000, .depth = 1024});
    if (status != 0) {
        return status;
    }
    if (b->record_size < BENCH_STAMP) {
        return cli_usage(c, "--record-size: at least %d bytes, for the time of sending", BENCH_STAMP);
    }
    b->tells_ack = true;
    b->load.stamped = true;
    b->load.completed_all = e2e_loaded;
    env_timer_init(c->env, &e.late, too_late);
    const struct bench_reader pattern = {.each = e2e_each};
    status = bench_load_open(b);
    status = status == 0 ? bench_readers_open(b, &e.g, NULL, true, &pattern) : status;
    if (status != 0) {
        return status;
    }
    cli_sleep(c, SETTLE_MS); /* until the readers' first requests wait at the nodes */
    if (b->errors == 0 && (b->warmup == 0 || bench_load_quietly(b, b->warmup))) {
        bench_spent(b, &b->before);
        b->start_ns = env_clock_ns(c->env);
        bench_load_go(b, b->load.seconds != 0 && cli_value(c, "records") == NULL ? UINT64_MAX : b->records);
        bench_run(b);
        bench_spent(b, &b->after);
    }
    env_timer_close(&e.late);
    bench_readers_close(b, &e.g);
    return bench_close(b);
}

const struct cli_command cli_bench_e2e = {
    "bench", "e2e", "", 0, 0,
    "Measure how long records take from the producer to a consumer that follows. ack_p50_ms and ack_p99_ms are of their acknowledgements. Ends with one JSON line.",
    {BENCH_OPTIONS_COMMON, BENCH_OPTIONS_LOAD, BENCH_OPTIONS_CONSUMERS}, e2e};
