/* sluice bench put --kinesis: how fast records are acknowledged through the Kinesis API, by signed PutRecords requests in JSON or CBOR. It needs no native endpoint, so it measures any
 * server of that API; what the run cost the nodes is told if --admin says where they are. */
#include "client/cli/bench_kinesis.h"

#include <stdlib.h>

#include "client/kinesis_answer.h"

enum { STREAM_WAIT_MS = 60000, STREAM_POLL_MS = 50, BODY_MAX = 10 << 20, BODY_DEFAULT = 5 << 20 /* what older servers take, in base64 too */, STREAM_NAME_MAX = 128 };

/* ---- options -------------------------------------------------------------------------------------------------------------------- */

static int places_read(struct kinesis_bench *k, struct cli *c)
{
    const char *list = cli_value(c, "kinesis"), *access_key = c->access_key, *secret = c->secret_key;
    if ((access_key == NULL) != (secret == NULL)) {
        return cli_usage(c, "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY: both or none");
    }
    for (const char *p = list; *p != '\0'; k->n_places++) {
        size_t n = strcspn(p, ",");
        struct kinesis_place *place = &k->places[k->n_places];
        if (k->n_places == KINESIS_URLS_MAX || !http_url_parse(p, n, &place->url)) {
            return cli_usage(c, "--kinesis: http://HOST:PORT or https://HOST:PORT is needed, up to %d of them separated by commas, not '%s'", KINESIS_URLS_MAX, list);
        }
        if (!kinesis_signer_init(&place->signer, access_key != NULL ? access_key : "sluice", secret != NULL ? secret : "sluice", c->region != NULL ? c->region : "us-east-1",
                                 place->url.authority)) {
            return cli_usage(c, "AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY or AWS_REGION is too long");
        }
        p += n + (p[n] == ',');
    }
    return k->n_places > 0 ? 0 : cli_usage(c, "--kinesis: http://HOST:PORT or https://HOST:PORT is needed, not ''");
}

static int options_read(struct kinesis_bench *k, struct cli *c)
{
    if (cli_value(c, "producers") != NULL || cli_value(c, "depth") != NULL) {
        return cli_usage(c, "with --kinesis, --connections and --batch say how much is under way, not --producers and --depth");
    }
    int status = bench_options(&k->b, c, &(struct bench_defaults){.test = "put", .records = 200000, .depth = 1});
    uint64_t fit = max_u64(1, min_u64(KINESIS_RECORDS_MAX, BODY_DEFAULT / (k->b.record_size + BENCH_KEY)));
    if (status != 0 || !cli_number(c, "connections", 1, 1, BENCH_CLIENTS_MAX, &k->n_connections) || !cli_number(c, "batch", fit, 1, KINESIS_RECORDS_MAX, &k->batch)) {
        return CLI_USAGE;
    }
    if (k->batch * (k->b.record_size + BENCH_KEY) > BODY_MAX) {
        return cli_usage(c, "--batch: %llu records of %llu bytes and a key are more than a request may hold, 10 MiB", (unsigned long long)k->batch,
                         (unsigned long long)k->b.record_size);
    }
    if (strlen(k->b.stream) > STREAM_NAME_MAX || k->b.stream[strspn(k->b.stream, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_.-")] != '\0') {
        return cli_usage(c, "--stream: up to %d letters, digits, '_', '.' and '-'", STREAM_NAME_MAX);
    }
    k->cbor = cli_flag(c, "cbor");
    k->b.load.n_producers = k->n_connections;
    k->b.load.depth = k->n_connections * k->batch;
    return places_read(k, c);
}

static int tls_set_up(struct kinesis_bench *k, struct cli *c)
{
    bool needed = false;
    for (unsigned i = 0; i < k->n_places; i++) {
        needed = needed || k->places[i].url.tls;
    }
    const char *file = cli_value(c, "ca") != NULL ? cli_value(c, "ca") : c->authorities;
    char err[256];
    return !needed || tls_context_client(c->env, &k->tls, file, err) == 0 ? 0 : cli_error("bench: %s", err);
}

/* ---- the stream ------------------------------------------------------------------------------------------------------------------- */

/* What a call failed with. */
static int call_failed(const struct kinesis_bench *k, const char *operation, unsigned status)
{
    const struct kinesis_connection *c = &k->connections[0];
    if (status == 0) {
        return cli_error("bench: %s: %s", operation, k->trouble);
    }
    char type[64], message[200];
    kinesis_error_read(false, c->answer, c->answer_n, type, message);
    return cli_error("bench: %s: %u %s%s%s", operation, status, type, message[0] != '\0' ? ": " : "", message);
}

/* Asks what there is. 0, and *active; or the exit status; CLI_UNKNOWN: there is no such stream. */
static int stream_describe(struct kinesis_bench *k, bool *active)
{
    char body[256], type[64], message[200];
    snprintf(body, sizeof body, "{\"StreamName\":\"%s\"}", k->b.stream);
    unsigned status = kinesis_call(k, "DescribeStreamSummary", body);
    const struct kinesis_connection *c = &k->connections[0];
    if (status == 400) {
        kinesis_error_read(false, c->answer, c->answer_n, type, message);
        if (strcmp(type, "ResourceNotFoundException") == 0) {
            return CLI_UNKNOWN;
        }
    }
    if (status != 200) {
        return call_failed(k, "DescribeStreamSummary", status);
    }
    json_t *all = json_loadb(c->answer, c->answer_n, 0, NULL);
    const json_t *summary = json_object_get(all, "StreamDescriptionSummary");
    const char *state = json_string_value(json_object_get(summary, "StreamStatus"));
    *active = state != NULL && strcmp(state, "ACTIVE") == 0;
    k->b.shards = (uint64_t)json_integer_value(json_object_get(summary, "OpenShardCount"));
    json_decref(all);
    return 0;
}

static int stream_make(struct kinesis_bench *k, struct cli *c)
{
    bool active = false;
    uint64_t shards = k->b.shards;
    int status = stream_describe(k, &active);
    if (status == CLI_UNKNOWN) {
        char body[256];
        snprintf(body, sizeof body, "{\"StreamName\":\"%s\",\"ShardCount\":%llu}", k->b.stream, (unsigned long long)shards);
        unsigned code = kinesis_call(k, "CreateStream", body);
        status = code == 200 ? 0 : call_failed(k, "CreateStream", code);
    }
    uint64_t end = env_clock_ns(c->env) + STREAM_WAIT_MS * 1000000ull;
    while (status == 0 && !active) {
        if (env_clock_ns(c->env) >= end) {
            return cli_error("bench: stream '%s' is not active", k->b.stream);
        }
        cli_sleep(c, STREAM_POLL_MS);
        status = stream_describe(k, &active);
        status = status == CLI_UNKNOWN ? 0 : status; /* asked of a node that has not heard of it yet */
    }
    return status;
}

/* ---- the run ------------------------------------------------------------------------------------------------------------------------ */

static int run(struct kinesis_bench *k, struct cli *c)
{
    struct bench *b = &k->b;
    if (c->env == NULL && env_uv_open(&c->env) != 0) {
        return cli_error("cannot open an event loop");
    }
    int status = tls_set_up(k, c);
    if (status == 0 && cli_value(c, "admin") != NULL) {
        status = cli_nodes_find(c, cli_value(c, "admin"), &b->nodes);
    }
    if (status != 0) {
        return status;
    }
    bench_begin(b);
    status = kinesis_load_open(k);
    status = status == 0 ? stream_make(k, c) : status;
    if (status != 0) {
        return status;
    }
    if (b->warmup > 0) {
        uint64_t rate = b->load.rate, seconds = b->load.seconds;
        b->load.rate = b->load.seconds = 0;
        kinesis_load_run(k, b->warmup);
        b->load.rate = rate;
        b->load.seconds = seconds;
    }
    if (b->errors == 0) {
        bench_spent(b, &b->before);
        kinesis_load_run(k, b->load.seconds != 0 && cli_value(c, "records") == NULL ? UINT64_MAX : b->records);
        bench_spent(b, &b->after);
        b->start_ns = b->load.start_ns;
        b->counted = b->load.acked;
        b->counted_bytes = b->load.acked * b->record_size;
        *b->latency = *b->load.latency;
    }
    return 0;
}

int bench_kinesis(struct cli *c)
{
    struct kinesis_bench *k = xcalloc(1, sizeof *k);
    int status = options_read(k, c);
    status = status == 0 ? run(k, c) : status;
    if (k->connections != NULL) {
        kinesis_load_close(k);
    }
    tls_context_unref(k->tls);
    if (status == 0) {
        k->b.more = json_pack("{s:s, s:I, s:I, s:I, s:I, s:I, s:I}", "kinesis", k->cbor ? "cbor" : "json", "connections", (json_int_t)k->n_connections, "batch", (json_int_t)k->batch,
                              "requests", (json_int_t)k->requests, "throttled", (json_int_t)k->throttled, "rejected", (json_int_t)k->rejected, "unknown", (json_int_t)k->unknown);
        status = bench_close(&k->b);
    }
    free(k);
    return status;
}
