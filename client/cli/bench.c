/* The parts that the kinds of `sluice bench` share: the load and the outcome. */
#include "client/cli/bench.h"

#include <stdlib.h>
#include <unistd.h>

enum { POOL_BYTES = 4 << 20, PROGRESS_MS = 1000, PACER_NS = 200000, STREAM_WAIT_MS = 30000 };

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

void bench_error(struct bench *b, int code, const char *message)
{
    if (b->errors++ == 0) {
        snprintf(b->first_error, sizeof b->first_error, "%s%s%s", sluice_error_text(code), message[0] != '\0' ? ": " : "", message);
    }
}

static void progress(struct env_timer *t)
{
    struct bench *b = container_of(t, struct bench, progress);
    double s = (double)(env_now_ns(b->cli->env) - b->start_ns) / 1e9;
    fprintf(stderr, "\r%llu of %llu records, %.0f/s, p99 %.2f ms\033[K", (unsigned long long)b->counted, (unsigned long long)b->records,
            s > 0 ? (double)b->counted / s : 0, (double)histogram_quantile(b->latency, 0.99) / 1e6);
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
    cli_free(reply);
    if (code == SLUICE_E_NOT_FOUND) {
        Sluice__StreamCreate create = SLUICE__STREAM_CREATE__INIT;
        create.name = m.name;
        create.shards = (uint32_t)b->shards;
        code = cli_ask(c, FRAME_STREAM_CREATE, &create.base, NULL, &reply, message, sizeof message);
        cli_free(reply);
    }
    if (code != 0) {
        return cli_failed("bench", code, SLUICE_REJECTED, message, "");
    }
    return cli_wait_active(c, b->stream, STREAM_WAIT_MS) ? 0 : cli_error("bench: not every shard of '%s' has a leader", b->stream);
}

static void pool_fill(struct bench *b)
{
    b->pool_size = POOL_BYTES + b->record_size;
    b->pool = xmalloc(b->pool_size);
    if (!b->compressible) {
        env_random(b->cli->env, b->pool, b->pool_size);
        return;
    }
    uint64_t x = 1;
    for (size_t n = 0; n < b->pool_size;) {
        char text[160];
        x = x * 6364136223846793005ull + 1442695040888963407ull;
        int len = snprintf(text, sizeof text, "{\"id\":%llu,\"user\":\"u%05llu\",\"event\":\"page_view\",\"path\":\"/item/%llu\",\"ok\":true}\n",
                           (unsigned long long)(x >> 40), (unsigned long long)(x >> 33) % 50000, (unsigned long long)(x >> 50));
        size_t part = min_u64((uint64_t)len, b->pool_size - n);
        memcpy(b->pool + n, text, part);
        n += part;
    }
}

int bench_open(struct bench *b, struct cli *c, const struct bench_defaults *d)
{
    *b = (struct bench){.cli = c, .test = d->test, .consumers = 1};
    b->stream = cli_value(c, "stream") != NULL ? cli_value(c, "stream") : "bench";
    if (!cli_number(c, "records", d->records, 1, 1000000000000, &b->records) || !cli_number(c, "shards", 4, 1, 10000, &b->shards) ||
        !cli_size(c, "record-size", 1024, 0, BATCH_RECORD_BYTES_MAX - BATCH_KEY_MAX, &b->record_size) ||
        !cli_number(c, "producers", 1, 1, BENCH_CLIENTS_MAX, &b->producers) || !cli_number(c, "depth", d->depth, 1, 100000000, &b->depth) ||
        !cli_number(c, "rate", 0, 0, 1000000000, &b->rate)) {
        return CLI_USAGE;
    }
    b->compressible = cli_flag(c, "compressible");
    b->producers = min_u64(b->producers, b->depth);
    if (!cli_open(c)) {
        return CLI_FAILED;
    }
    int status = stream_make(b);
    if (status != 0) {
        return status;
    }
    b->latency = xcalloc(1, sizeof *b->latency);
    b->key_seed = env_random_u64(c->env);
    pool_fill(b);
    b->terminal = isatty(STDERR_FILENO);
    env_timer_init(c->env, &b->progress, progress);
    return 0;
}

/* ---- the load -------------------------------------------------------------------------------------------------------------- */

static void fill(struct bench *b);

/* The user pointer is the intended time. */
static void put_done(const struct sluice_put_result *r, void *user)
{
    struct bench_producer *p = r->producer_user;
    struct bench *b = p->bench;
    p->in_flight--;
    b->completed++;
    if (r->code != 0) {
        bench_error(b, r->code, r->message);
    } else if (!b->stamped) {
        uint64_t now = bench_clock(b), intended = (uint64_t)(uintptr_t)user;
        histogram_add(b->latency, now > intended ? now - intended : 0);
        b->counted++;
        b->counted_bytes += b->record_size;
    }
    if (b->completed == b->records) {
        b->completed_all(b);
    } else if (b->rate == 0 && p->in_flight <= p->depth - (p->depth + 3) / 4) {
        fill(b); /* refilled by quarters, so that small depths stay exact and large ones are cheap */
    }
}

static bool put_one(struct bench *b, struct bench_producer *p, uint64_t intended)
{
    uint64_t i = b->sent;
    char key[16];
    uint64_t x = b->key_seed + i * 0x9e3779b97f4a7c15ull;
    for (int k = 0; k < 16; k++) {
        key[k] = "0123456789abcdef"[x >> (4 * k) & 15];
    }
    uint8_t *data = b->pool + (i * 4099) % POOL_BYTES;
    if (b->stamped) { /* copied by the put, so the pool may be written over */
        put_u64(data, intended);
        put_u64(data + 8, i);
    }
    const struct sluice_record r = {.key = key, .key_len = sizeof key, .data = data, .data_len = b->record_size};
    int code = sluice_producer_put(p->producer, &r, put_done, (void *)(uintptr_t)intended);
    if (code == SLUICE_E_BUSY) {
        p->full = true;
        return false;
    }
    b->sent++;
    if (code != 0) {
        const char *message = "";
        sluice_producer_error(p->producer, &message);
        bench_error(b, code, message);
        if (++b->completed == b->records) {
            b->completed_all(b);
        }
        return true;
    }
    p->in_flight++;
    return true;
}

/* The next producer in turn that may send, or NULL. */
static struct bench_producer *next_producer(struct bench *b)
{
    for (unsigned i = 0; i < b->producers; i++) {
        struct bench_producer *p = &b->all_producers[b->turn++ % b->producers];
        if (!p->full && p->in_flight < p->depth) {
            return p;
        }
    }
    return NULL;
}

static void fill(struct bench *b)
{
    uint64_t now = b->rate == 0 ? env_clock_ns(b->cli->env) : 0;
    uint64_t due = b->records;
    if (b->rate != 0) {
        now = env_clock_ns(b->cli->env);
        due = (uint64_t)((double)(now - b->start_ns) * (double)b->rate / 1e9) + 1;
    }
    for (struct bench_producer *p; b->sent < b->records && b->sent < due && (p = next_producer(b)) != NULL;) {
        uint64_t intended = b->rate == 0 ? now : b->start_ns + (uint64_t)((double)b->sent * 1e9 / (double)b->rate);
        put_one(b, p, intended);
    }
}

static void pace(struct env_timer *t)
{
    struct bench *b = container_of(t, struct bench, pacer);
    fill(b);
    if (b->sent < b->records && !b->done) {
        uint64_t next = b->start_ns + (uint64_t)((double)b->sent * 1e9 / (double)b->rate), now = env_clock_ns(b->cli->env);
        env_timer_start_ns(t, next > now ? max_u64(next - now, 1000) : PACER_NS);
    }
}

static void load_go(struct bench *b)
{
    b->started = true;
    b->start_ns = env_clock_ns(b->cli->env);
    if (b->terminal) {
        env_timer_start_ms(&b->progress, PROGRESS_MS);
    }
    if (b->rate != 0) {
        env_timer_init(b->cli->env, &b->pacer, pace);
        pace(&b->pacer);
    } else {
        fill(b);
    }
}

static void writable(struct sluice_producer *producer, void *user)
{
    struct bench_producer *p = user;
    struct bench *b = p->bench;
    const char *message;
    int code = sluice_producer_error(producer, &message);
    if (!b->started) {
        if (code != 0) {
            bench_error(b, code, message);
            bench_stop(b);
        } else if (++b->n_open == b->producers) {
            for (unsigned i = 0; i < b->producers; i++) {
                b->all_producers[i].full = false;
            }
            load_go(b);
        }
        return;
    }
    p->full = false;
    fill(b);
}

int bench_load_start(struct bench *b)
{
    b->all_producers = xcalloc(b->producers, sizeof *b->all_producers);
    for (unsigned i = 0; i < b->producers; i++) {
        struct bench_producer *p = &b->all_producers[i];
        p->bench = b;
        p->depth = b->depth / b->producers + (i < b->depth % b->producers);
        const struct sluice_client_options co = {.endpoints = b->cli->endpoints, .agent = "sluice-bench/" SLUICE_VERSION};
        if (sluice_client_open(b->cli->env, &co, &p->client) != 0) {
            return CLI_FAILED;
        }
        const struct sluice_producer_options o = {.buffered_bytes_max = 256u << 20, .no_lz4 = false, .writable = writable, .user = p};
        int code = sluice_producer_open(p->client, b->stream, &o, &p->producer);
        if (code != 0) {
            return cli_failed("bench", code, SLUICE_REJECTED, "", "");
        }
        /* The first answer is BUSY: it makes the producer tell when it is open. */
        const struct sluice_record probe = {.key = "k", .key_len = 1};
        code = sluice_producer_put(p->producer, &probe, NULL, NULL);
        sluice_assert(code == SLUICE_E_BUSY);
    }
    return 0;
}

/* ---- readers --------------------------------------------------------------------------------------------------------------- */

static void reader_records(struct sluice_reader *r, const struct sluice_records *batch, void *user)
{
    struct bench_reader *br = user;
    (void)r;
    br->each(br, batch);
}

static void reader_caught_up(struct sluice_reader *r, uint64_t next, void *user)
{
    struct bench_reader *br = user;
    (void)r;
    (void)next;
    if (br->caught_up != NULL) {
        br->caught_up(br);
    }
}

static void reader_ended(struct sluice_reader *r, const struct sluice_read_end *end, void *user)
{
    struct bench_reader *br = user;
    (void)r;
    br->ended = true;
    if (end->code != 0) {
        bench_error(br->bench, end->code, end->message);
        bench_stop(br->bench);
    } else if (br->end != NULL) {
        br->end(br);
    }
}

int bench_readers_open(struct bench *b, struct bench_reading *g, const struct sluice_position *from, bool follow, const struct bench_reader *pattern)
{
    Sluice__StreamReply *reply;
    int status = cli_describe(b->cli, b->stream, &reply);
    if (status != 0) {
        return status;
    }
    g->readers = xcalloc(reply->stream->n_shards + 1, sizeof *g->readers);
    g->clients = xcalloc(b->consumers, sizeof(struct sluice_client *));
    const struct sluice_client_options co = {.endpoints = b->cli->endpoints, .agent = "sluice-bench/" SLUICE_VERSION};
    for (; g->n_clients < b->consumers && status == 0; g->n_clients += status == 0) {
        status = sluice_client_open(b->cli->env, &co, &g->clients[g->n_clients]) != 0 ? CLI_FAILED : 0;
    }
    for (size_t i = 0; i < reply->stream->n_shards && status == 0; i++) {
        struct bench_reader *r = &g->readers[g->n];
        *r = *pattern;
        r->bench = b;
        const struct sluice_reader_options o = {.no_follow = !follow, .timeout_ms = 60000, .max_bytes = 1 << 20, .records = reader_records,
                                                .caught_up = reader_caught_up, .ended = reader_ended, .user = r};
        int code = sluice_reader_open(g->clients[i % b->consumers], b->stream, reply->stream->shards[i]->shard, from, &o, &r->reader);
        if (code != 0) {
            status = cli_failed("bench", code, SLUICE_REJECTED, "", "");
        } else {
            g->n++;
        }
    }
    cli_free(reply);
    return status;
}

void bench_readers_close(struct bench *b, struct bench_reading *g)
{
    for (size_t i = 0; i < g->n; i++) {
        sluice_reader_close(g->readers[i].reader);
    }
    for (unsigned i = 0; i < g->n_clients; i++) {
        bench_client_close(b, g->clients[i]);
    }
    free(g->readers);
    free(g->clients);
    *g = (struct bench_reading){0};
}

/* ---- the end --------------------------------------------------------------------------------------------------------------- */

void bench_run(struct bench *b)
{
    while (!b->done) {
        env_uv_run(b->cli->env);
    }
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

int bench_close(struct bench *b)
{
    if (b->all_producers != NULL) {
        b->done = true; /* what is completed now is not counted */
        b->completed = b->records + 1;
        uint64_t errors = b->errors, counted = b->counted;
        for (unsigned i = 0; i < b->producers; i++) {
            if (b->all_producers[i].producer != NULL) {
                sluice_producer_close(b->all_producers[i].producer);
            }
            if (b->all_producers[i].client != NULL) {
                bench_client_close(b, b->all_producers[i].client);
            }
        }
        b->errors = errors;
        b->counted = counted;
    }
    env_timer_close(&b->progress);
    env_timer_close(&b->pacer);
    if (b->terminal) {
        fputs("\r\033[K", stderr);
    }
    if (b->errors > 0) {
        fprintf(stderr, "sluice: bench: %llu errors, the first: %s\n", (unsigned long long)b->errors, b->first_error);
    }
    double s = b->end_ns > b->start_ns && b->start_ns != 0 ? (double)(b->end_ns - b->start_ns) / 1e9 : 0;
    double bytes = (double)b->counted_bytes;
    printf("{\"test\":\"%s\",\"records\":%llu,\"bytes\":%.0f,\"seconds\":%.3f,\"records_per_s\":%.1f,\"mb_per_s\":%.3f,\"p50_ms\":%.3f,"
           "\"p99_ms\":%.3f,\"p999_ms\":%.3f,\"errors\":%llu}\n",
           b->test, (unsigned long long)b->counted, bytes, s, s > 0 ? (double)b->counted / s : 0, s > 0 ? bytes / 1e6 / s : 0,
           (double)histogram_quantile(b->latency, 0.5) / 1e6, (double)histogram_quantile(b->latency, 0.99) / 1e6,
           (double)histogram_quantile(b->latency, 0.999) / 1e6, (unsigned long long)b->errors);
    int status = b->errors > 0 ? CLI_FAILED : CLI_DONE;
    free(b->all_producers);
    free(b->latency);
    free(b->pool);
    cli_close(b->cli);
    return status;
}
