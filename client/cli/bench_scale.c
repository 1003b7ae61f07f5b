/* sluice bench scale: how long many shards take to be made, and what they cost while nothing happens.
 *
 * Creates a stream, waits until every shard has a leader, puts a record into each, lets the nodes come to rest, and then measures their processor time and the
 * memory that they hold more than before. */
#include "client/cli/bench.h"

enum { WAIT_MS = 300000, REST_MS = 2000, RESTS_MAX = 60 };

struct scale {
    struct bench b;
    uint64_t idle_s;
    double made_ms, led_ms, writable_ms;
};

static double since_ms(const struct bench *b, uint64_t from)
{
    return (double)(env_clock_ns(b->cli->env) - from) / 1e6;
}

static int make(struct scale *s)
{
    struct bench *b = &s->b;
    Sluice__StreamCreate m = SLUICE__STREAM_CREATE__INIT;
    m.name = (char *)(uintptr_t)b->stream;
    m.shards = (uint32_t)b->shards;
    const struct sluice_call_options o = {.timeout_ms = WAIT_MS};
    Sluice__StreamReply *reply;
    b->start_ns = env_clock_ns(b->cli->env);
    int status = cli_request(b->cli, FRAME_STREAM_CREATE, &m.base, &o, &reply);
    if (status != 0) {
        return status;
    }
    cli_free(reply);
    s->made_ms = since_ms(b, b->start_ns);
    if (!cli_wait_active(b->cli, b->stream, WAIT_MS)) {
        return cli_error("bench scale: not every shard of '%s' has a leader", b->stream);
    }
    s->led_ms = since_ms(b, b->start_ns);
    return 0;
}

struct first_puts { struct scale *scale; struct sluice_producer *producer; const Sluice__StreamInfo *stream; size_t sent, done; };

static void put_done(const struct sluice_put_result *r, void *user)
{
    struct first_puts *f = user;
    struct bench *b = &f->scale->b;
    if (r->code != 0) {
        bench_error(b, r->code, r->message);
    } else {
        histogram_add(b->latency, env_clock_ns(b->cli->env) - b->load.start_ns);
        b->counted++;
    }
    if (++f->done == f->stream->n_shards) {
        bench_stop(b);
    }
}

static void writable(struct sluice_producer *p, void *user)
{
    struct first_puts *f = user;
    struct bench *b = &f->scale->b;
    for (; f->sent < f->stream->n_shards; f->sent++) {
        struct hash128 first;
        memcpy(first.b, f->stream->shards[f->sent]->hash_first.data, sizeof first.b);
        const struct sluice_record r = {.key = "first", .key_len = 5, .data = "x", .data_len = 1, .hash = &first};
        int code = sluice_producer_put(p, &r, put_done, f);
        if (code == SLUICE_E_BUSY) {
            return;
        }
        if (code != 0) {
            const char *message = "";
            sluice_producer_error(p, &message);
            bench_error(b, code, message);
            bench_stop(b);
            return;
        }
    }
}

/* A record into each shard: a shard is writable when that is acknowledged. */
static int first_puts(struct scale *s)
{
    struct bench *b = &s->b;
    Sluice__StreamReply *reply;
    int status = cli_describe(b->cli, b->stream, &reply);
    if (status != 0) {
        return status;
    }
    for (size_t i = 0; i < reply->stream->n_shards; i++) {
        sluice_assert(reply->stream->shards[i]->hash_first.len == sizeof(struct hash128));
    }
    struct first_puts f = {.scale = s, .stream = reply->stream};
    const struct sluice_producer_options o = {.writable = writable, .user = &f};
    b->load.start_ns = env_clock_ns(b->cli->env);
    int code = sluice_producer_open(b->cli->client, b->stream, &o, &f.producer);
    if (code == 0) {
        writable(f.producer, &f);
        bench_run(b);
        sluice_producer_close(f.producer);
        s->writable_ms = since_ms(b, b->start_ns);
    } else {
        status = cli_failed("bench", code, SLUICE_REJECTED, "", "");
    }
    cli_free(reply);
    return status;
}

static double resident(const struct bench *b)
{
    return cli_nodes_sum(&b->nodes, "process_resident_memory_bytes");
}

static double replicas(const struct bench *b)
{
    return cli_nodes_sum(&b->nodes, "sluice_replicas");
}

/* Waits until the nodes have done what they do after traffic: pre-writing segments for the next. For two minutes at most. */
static void rest(struct bench *b)
{
    double written = -1, now = 0;
    for (unsigned i = 0; i < RESTS_MAX && now != written; i++) {
        written = now;
        cli_sleep(b->cli, REST_MS);
        bench_spent(b, &b->before);
        now = b->before.prewritten + b->before.written;
    }
}

static int measure(struct scale *s)
{
    struct bench *b = &s->b;
    bench_spent(b, &b->before);
    bool known = b->before.nodes_known;
    double resident_before = resident(b), replicas_before = replicas(b);
    int status = make(s);
    status = status == 0 ? first_puts(s) : status;
    if (status != 0) {
        return status;
    }
    rest(b);
    double resident_idle = resident(b), replicas_idle = replicas(b);
    uint64_t from = env_clock_ns(b->cli->env);
    cli_sleep(b->cli, (unsigned)s->idle_s * 1000);
    bench_spent(b, &b->after);
    b->more = json_pack("{s:f, s:f, s:f}", "made_ms", s->made_ms, "led_ms", s->led_ms, "writable_ms", s->writable_ms);
    if (known && b->before.nodes_known && b->after.nodes_known) {
        double added = replicas_idle - replicas_before, more = resident_idle - resident_before, cpu = b->after.server_cpu_s - b->before.server_cpu_s;
        json_object_update_new(b->more, json_pack("{s:I, s:f}", "replicas", (json_int_t)replicas_idle, "idle_cores", cpu * 1e3 / since_ms(b, from)));
        if (added > 0 && more > 0) { /* not if the nodes took it out of what they held already */
            json_object_set_new(b->more, "rss_bytes_per_replica", json_real(more / added));
        }
    }
    return 0;
}

static int drop(struct bench *b)
{
    Sluice__StreamDelete m = SLUICE__STREAM_DELETE__INIT;
    m.name = (char *)(uintptr_t)b->stream;
    Sluice__StreamReply *reply;
    int status = cli_request(b->cli, FRAME_STREAM_DELETE, &m.base, NULL, &reply);
    if (status == 0) {
        cli_free(reply);
    }
    return status;
}

static int scale(struct cli *c)
{
    struct scale s = {0};
    struct bench *b = &s.b;
    *b = (struct bench){.cli = c, .test = "scale", .stream = cli_value(c, "stream") != NULL ? cli_value(c, "stream") : "bench-scale", .record_size = 1, .no_cost = true};
    if (!cli_number(c, "shards", 1000, 1, 10000, &b->shards) || !cli_number(c, "seconds", 5, 1, 3600, &s.idle_s)) {
        return CLI_USAGE;
    }
    if (!cli_open(c)) {
        return CLI_FAILED;
    }
    int status = cli_nodes_find(c, cli_value(c, "admin"), &b->nodes);
    if (status != 0) {
        return status;
    }
    b->latency = xcalloc(1, sizeof *b->latency);
    b->load.latency = xcalloc(1, sizeof *b->load.latency);
    status = measure(&s);
    if (status == 0 && !cli_flag(c, "keep")) {
        status = drop(b);
    }
    if (status != 0) {
        return status;
    }
    return bench_close(b);
}

const struct cli_command cli_bench_scale = {
    "bench", "scale", "", 0, 0,
    "Measure how long a stream of many shards takes until all are led and writable, and what the nodes use while it is idle. Ends with one JSON line.",
    {{"stream", "NAME", "must not be there yet (default bench-scale)"}, {"shards", "N", "how many (default 1000)"},
     {"seconds", "S", "how long to watch the idle nodes (default 5)"}, {"keep", NULL, "do not delete the stream at the end"},
     {"admin", "LIST", "admin addresses of the nodes, HOST:PORT,... (default: as the cluster tells)"}},
    scale};
