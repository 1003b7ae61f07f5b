/* sluice bench e2e: how long records take from the producer to consumers that follow; what it shares with bench push. */
#include "client/cli/bench.h"

enum { LATE_MS = 10000, SETTLE_MS = 200 };

/* What was acknowledged has arrived, at everyone who reads all of it. */
static bool all_there(const struct bench_e2e *e)
{
    return e->b.counted >= e->b.load.acked * (e->b.fan_out ? e->b.consumers : 1);
}

static void e2e_each(struct bench_reader *r, const struct sluice_records *batch)
{
    struct bench *b = r->bench;
    struct bench_e2e *e = container_of(b, struct bench_e2e, b);
    uint64_t now = env_clock_ns(b->cli->env), bytes = 0;
    for (size_t i = 0; i < batch->n; i++) {
        if (batch->v[i].data_len < BENCH_STAMP || e->since_ns == 0) {
            continue; /* somebody else's, or of the warm-up */
        }
        uint64_t intended = get_u64(batch->v[i].data);
        if (intended < e->since_ns || intended > now + 1000000000u) {
            continue;
        }
        histogram_add(b->latency, now > intended ? now - intended : 0);
        b->counted++;
        bytes += batch->v[i].data_len;
    }
    if (bytes > 0) {
        b->counted_bytes += bytes;
        e->g.bytes[r->consumer] += bytes;
        e->g.last_ns[r->consumer] = now;
    }
    if (e->load_done && all_there(e)) {
        bench_stop(b);
    }
}

static void too_late(struct env_timer *t)
{
    struct bench_e2e *e = container_of(t, struct bench_e2e, late);
    if (e->seen == e->b.counted) {
        bench_error(&e->b, SLUICE_E_TIMEOUT, "acknowledged records are missing, and none arrived for 10 s");
        bench_stop(&e->b);
        return;
    }
    e->seen = e->b.counted;
    env_timer_start_ms(&e->late, LATE_MS);
}

static void e2e_loaded(struct bench *b)
{
    struct bench_e2e *e = container_of(b, struct bench_e2e, b);
    e->load_done = true;
    if (e->backlog || all_there(e)) {
        bench_stop(b);
    } else {
        e->seen = b->counted;
        env_timer_start_ms(&e->late, LATE_MS);
    }
}

int bench_e2e_open(struct bench_e2e *e, struct cli *c, const char *test)
{
    struct bench *b = &e->b;
    int status = bench_open(b, c, &(struct bench_defaults){.test = test, .records = 100000, .depth = 1024});
    if (status == 0 && b->record_size < BENCH_STAMP) {
        status = cli_usage(c, "--record-size: at least %d bytes, for the time of sending", BENCH_STAMP);
    }
    if (status != 0) {
        return status;
    }
    b->tells_ack = true;
    b->load.stamped = true;
    b->load.completed_all = e2e_loaded;
    return bench_load_open(b);
}

static int readers(struct bench_e2e *e)
{
    const struct bench_reader pattern = {.each = e2e_each};
    return bench_readers_open(&e->b, &e->g, NULL, true, &pattern);
}

static void put_all(struct bench *b)
{
    bench_load_go(b, b->load.seconds != 0 && cli_value(b->cli, "records") == NULL ? UINT64_MAX : b->records);
    bench_run(b);
}

static int put_before(struct bench_e2e *e)
{
    struct bench *b = &e->b;
    if (b->warmup != 0 && !bench_load_quietly(b, b->warmup)) {
        return 0; /* the error was counted */
    }
    int status = bench_readers_note_ends(b, &e->g);
    if (status != 0) {
        return status;
    }
    e->since_ns = env_clock_ns(b->cli->env);
    put_all(b);
    bench_spent(b, &b->before);
    b->start_ns = env_clock_ns(b->cli->env);
    status = b->errors == 0 ? readers(e) : 0;
    if (status == 0 && b->errors == 0) {
        env_timer_start_ms(&e->late, LATE_MS);
        bench_run(b);
    }
    bench_spent(b, &b->after);
    return status;
}

static int put_meanwhile(struct bench_e2e *e)
{
    struct bench *b = &e->b;
    int status = readers(e);
    if (status != 0) {
        return status;
    }
    cli_sleep(b->cli, SETTLE_MS); /* until the readers' first requests wait at the nodes */
    if (b->errors == 0 && (b->warmup == 0 || bench_load_quietly(b, b->warmup))) {
        bench_spent(b, &b->before);
        b->start_ns = e->since_ns = env_clock_ns(b->cli->env);
        put_all(b);
        bench_spent(b, &b->after);
    }
    return 0;
}

int bench_e2e_run(struct bench_e2e *e)
{
    env_timer_init(e->b.cli->env, &e->late, too_late);
    int status = e->backlog ? put_before(e) : put_meanwhile(e);
    env_timer_close(&e->late);
    bench_readers_close(&e->b, &e->g);
    return status;
}

static int e2e(struct cli *c)
{
    struct bench_e2e e = {0};
    int status = bench_e2e_open(&e, c, "e2e");
    status = status == 0 ? bench_e2e_run(&e) : status;
    return status == 0 ? bench_close(&e.b) : status;
}

const struct cli_command cli_bench_e2e = {
    "bench", "e2e", "", 0, 0,
    "Measure how long records take from the producer to a consumer that follows. ack_p50_ms and ack_p99_ms are of their acknowledgements. Ends with one JSON line.",
    {BENCH_OPTIONS_COMMON, BENCH_OPTIONS_LOAD, BENCH_OPTIONS_CONSUMERS}, e2e};
