/* The parts that the kinds of `sluice bench` share: options, the stream, the outcome. */
#include "client/cli/bench.h"

#include <stdlib.h>
#include <unistd.h>

enum { PROGRESS_MS = 1000, STREAM_WAIT_MS = 60000 };

uint64_t bench_clock(struct bench *b)
{
    uint64_t turn = env_now_ns(b->cli->env);
    if (turn != b->clock_turn_ns) {
        b->clock_turn_ns = turn;
        b->clock_ns = env_clock_ns(b->cli->env);
    }
    return b->clock_ns;
}

void bench_stop(struct bench *b)
{
    if (!b->done) {
        b->done = true;
        b->end_ns = env_clock_ns(b->cli->env);
        env_stop(b->cli->env);
    }
}

void bench_errors(struct bench *b, uint64_t n, const char *text)
{
    if (b->errors == 0) {
        snprintf(b->first_error, sizeof b->first_error, "%s", text);
    }
    b->errors += n;
}

void bench_error(struct bench *b, int code, const char *message)
{
    char text[256];
    snprintf(text, sizeof text, "%s%s%s", sluice_error_text(code), message[0] != '\0' ? ": " : "", message);
    bench_errors(b, 1, text);
}

static void progress(struct env_timer *t)
{
    struct bench *b = container_of(t, struct bench, progress);
    double s = (double)(env_clock_ns(b->cli->env) - b->load.start_ns) / 1e9;
    fprintf(stderr, "\r%llu records acknowledged, %.0f/s, p99 %.2f ms; %llu delivered\033[K", (unsigned long long)b->load.acked,
            s > 0 ? (double)b->load.acked / s : 0, (double)histogram_quantile(b->load.latency, 0.99) / 1e6, (unsigned long long)b->counted);
    env_timer_start_ms(t, PROGRESS_MS);
}

/* ---- opening --------------------------------------------------------------------------------------------------------------- */

static int stream_make(struct bench *b)
{
    struct cli *c = b->cli;
    Sluice__StreamDescribe m = SLUICE__STREAM_DESCRIBE__INIT;
    m.name = (char *)(uintptr_t)b->stream;
    Sluice__StreamReply *reply;
    char message[256];
    int code = cli_ask(c, FRAME_STREAM_DESCRIBE, &m.base, NULL, &reply, message, sizeof message);
    if (code == SLUICE_E_NOT_FOUND) {
        cli_free(reply);
        Sluice__StreamCreate create = SLUICE__STREAM_CREATE__INIT;
        create.name = m.name;
        create.shards = (uint32_t)b->shards;
        code = cli_ask(c, FRAME_STREAM_CREATE, &create.base, NULL, &reply, message, sizeof message);
    }
    if (code == 0 && reply->stream != NULL) {
        b->shards = reply->stream->shard_count;
    }
    cli_free(reply);
    if (code != 0) {
        return cli_failed("bench", code, SLUICE_REJECTED, message, "");
    }
    return cli_wait_active(c, b->stream, STREAM_WAIT_MS) ? 0 : cli_error("bench: not every shard of '%s' has a leader", b->stream);
}

/* A number that not every kind takes; 0 if it is absent. */
static bool optional(struct cli *c, const char *name, uint64_t max, uint64_t *out)
{
    *out = 0;
    return !cli_has(c, name) || cli_number(c, name, 0, 0, max, out);
}

int bench_options(struct bench *b, struct cli *c, const struct bench_defaults *d)
{
    *b = (struct bench){.cli = c, .test = d->test};
    b->stream = cli_value(c, "stream") != NULL ? cli_value(c, "stream") : "bench";
    if (!cli_number(c, "records", d->records, 1, 1000000000000, &b->records) || !cli_number(c, "shards", 4, 1, 10000, &b->shards) ||
        !cli_size(c, "record-size", 1024, 0, BATCH_RECORD_BYTES_MAX - BATCH_KEY_MAX, &b->record_size) ||
        !cli_number(c, "producers", 1, 1, BENCH_CLIENTS_MAX, &b->load.n_producers) || !cli_number(c, "depth", d->depth, 1, 100000000, &b->load.depth) ||
        !optional(c, "rate", 1000000000, &b->load.rate) || !optional(c, "seconds", 86400, &b->load.seconds) ||
        !optional(c, "warmup", 1000000000, &b->warmup) || !optional(c, "consumers", BENCH_CLIENTS_MAX, &b->consumers)) {
        return CLI_USAGE;
    }
    b->consumers = max_u64(b->consumers, 1);
    b->fan_out = cli_has(c, "fan-out") && cli_flag(c, "fan-out");
    b->compressible = cli_flag(c, "compressible");
    b->curve = cli_flag(c, "curve");
    b->load.n_producers = min_u64(b->load.n_producers, b->load.depth);
    return 0;
}

void bench_begin(struct bench *b)
{
    b->latency = xcalloc(1, sizeof *b->latency);
    b->load.latency = xcalloc(1, sizeof *b->load.latency);
    b->terminal = isatty(STDERR_FILENO);
    env_timer_init(b->cli->env, &b->progress, progress);
    if (b->terminal) {
        env_timer_start_ms(&b->progress, PROGRESS_MS);
    }
}

int bench_open(struct bench *b, struct cli *c, const struct bench_defaults *d)
{
    int status = bench_options(b, c, d);
    if (status != 0) {
        return status;
    }
    if (!cli_open(c)) {
        return CLI_FAILED;
    }
    status = stream_make(b);
    status = status == 0 ? cli_nodes_find(c, cli_value(c, "admin"), &b->nodes) : status;
    if (status == 0) {
        bench_begin(b);
    }
    return status;
}

/* ---- the end --------------------------------------------------------------------------------------------------------------- */

void bench_run(struct bench *b)
{
    while (!b->done) {
        env_uv_run(b->cli->env);
    }
    b->done = false;
}

static void client_closed(void *user)
{
    struct bench *b = user;
    b->clients_closing--;
    env_stop(b->cli->env);
}

void bench_client_close(struct bench *b, struct sluice_client *c)
{
    b->clients_closing++;
    sluice_client_close(c, client_closed, b);
    while (b->clients_closing > 0) {
        env_uv_run(b->cli->env);
    }
}

void bench_print_curve(const struct histogram *h)
{
    printf(",\"curve\":[");
    double q = 0;
    for (unsigned i = 0, nines = 0; q < 1 && h->n > 0; i++) { /* hundredths, then tenths of what is left, as far as there are records */
        printf("%s[%g,%.4g]", i == 0 ? "" : ",", q, (double)histogram_quantile(h, q) / 1e6);
        double step = 1;
        for (unsigned n = 0; n < nines + 2; n++) {
            step /= 10;
        }
        q += step;
        if (1 - q < step * 5) { /* from 0.95 in steps of 0.001, from 0.995 of 0.0001 ... */
            nines++;
        }
        if ((1 - q) * (double)h->n < 1) {
            break;
        }
    }
    printf("%s[1,%.4g]]", h->n > 0 ? "," : "", (double)h->max / 1e6);
}

static void print_result(const struct bench *b)
{
    double s = b->end_ns > b->start_ns && b->start_ns != 0 ? (double)(b->end_ns - b->start_ns) / 1e9 : 0;
    double bytes = (double)b->counted_bytes;
    printf("{\"test\":\"%s\",\"records\":%llu,\"bytes\":%.0f,\"seconds\":%.3f,\"records_per_s\":%.1f,\"mb_per_s\":%.3f,\"p50_ms\":%.3f,"
           "\"p99_ms\":%.3f,\"p999_ms\":%.3f,\"errors\":%llu",
           b->test, (unsigned long long)b->counted, bytes, s, s > 0 ? (double)b->counted / s : 0, s > 0 ? bytes / 1e6 / s : 0,
           (double)histogram_quantile(b->latency, 0.5) / 1e6, (double)histogram_quantile(b->latency, 0.99) / 1e6,
           (double)histogram_quantile(b->latency, 0.999) / 1e6, (unsigned long long)b->errors);
    printf(",\"record_size\":%llu,\"shards\":%llu,\"producers\":%llu,\"depth\":%llu,\"rate\":%llu,\"consumers\":%llu,\"fan_out\":%s",
           (unsigned long long)b->record_size, (unsigned long long)b->shards, (unsigned long long)b->load.n_producers, (unsigned long long)b->load.depth,
           (unsigned long long)b->load.rate, (unsigned long long)b->consumers, b->fan_out ? "true" : "false");
    if (b->tells_ack) {
        printf(",\"ack_p50_ms\":%.3f,\"ack_p99_ms\":%.3f,\"ack_p999_ms\":%.3f", (double)histogram_quantile(b->load.latency, 0.5) / 1e6,
               (double)histogram_quantile(b->load.latency, 0.99) / 1e6, (double)histogram_quantile(b->load.latency, 0.999) / 1e6);
    }
    if (!b->no_cost) {
        bench_print_cost(b, s);
    }
    const char *key;
    json_t *value;
    json_object_foreach(b->more, key, value) {
        char *text = json_dumps(value, JSON_ENCODE_ANY | JSON_COMPACT | JSON_REAL_PRECISION(6));
        printf(",\"%s\":%s", key, text);
        free(text);
    }
    if (b->curve) {
        bench_print_curve(b->latency);
    }
    printf("}\n");
}

int bench_close(struct bench *b)
{
    bench_load_close(b);
    env_timer_close(&b->progress);
    if (b->terminal) {
        fputs("\r\033[K", stderr);
    }
    if (b->errors > 0) {
        fprintf(stderr, "sluice: bench: %llu errors, the first: %s\n", (unsigned long long)b->errors, b->first_error);
    }
    print_result(b);
    int status = b->errors > 0 ? CLI_FAILED : CLI_DONE;
    json_decref(b->more);
    cli_nodes_free(&b->nodes);
    free(b->latency);
    free(b->load.latency);
    free(b->pool);
    cli_close(b->cli);
    return status;
}
