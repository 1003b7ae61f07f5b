/* sluice bench push: how long records take from the producer to consumers that they are pushed to, and how much of them each consumer gets. */
#include "client/cli/bench.h"

#include <inttypes.h>
#include <signal.h>

struct push_bench {
    struct bench_e2e e;
    struct bench_consumers consumers;
    struct env_signal interrupt;
    bool interrupted;
};

enum { NAME_MAX_LEN = 48 };

/* Names of this run's own: a consumer's place cannot be taken again within 5 s. */
static void consumer_name(const struct bench_consumers *c, unsigned i, char name[NAME_MAX_LEN])
{
    snprintf(name, NAME_MAX_LEN, "bench-push-%016" PRIx64 "-%u", c->seed, i);
}

static int register_all(struct push_bench *p)
{
    struct bench *b = &p->e.b;
    struct bench_consumers *c = &p->consumers;
    c->seed = env_random_u64(b->cli->env);
    for (int status; c->n < b->consumers; c->n++) {
        char name[NAME_MAX_LEN];
        consumer_name(c, c->n, name);
        Sluice__ConsumerRegister m = SLUICE__CONSUMER_REGISTER__INIT;
        m.stream = (char *)(uintptr_t)b->stream;
        m.name = name;
        Sluice__ConsumerReply *reply;
        status = cli_request(b->cli, FRAME_CONSUMER_REGISTER, &m.base, NULL, &reply);
        if (status != 0) {
            return status;
        }
        if (reply->consumer == NULL) {
            cli_free(reply);
            return cli_error("the node's answer names no consumer");
        }
        c->ids[c->n] = reply->consumer->id;
        c->map_version = reply->map_version;
        cli_free(reply);
    }
    return 0;
}

static int remove_all(struct push_bench *p)
{
    int status = 0;
    for (unsigned i = 0; i < p->consumers.n; i++) {
        char name[NAME_MAX_LEN];
        consumer_name(&p->consumers, i, name);
        Sluice__ConsumerRemove m = SLUICE__CONSUMER_REMOVE__INIT;
        m.stream = (char *)(uintptr_t)p->e.b.stream;
        m.name = name;
        Sluice__ConsumerReply *reply = NULL;
        int one = cli_request(p->e.b.cli, FRAME_CONSUMER_REMOVE, &m.base, NULL, &reply);
        cli_free(reply);
        status = status != 0 ? status : one;
    }
    return status;
}

/* The registered consumers are removed all the same. */
static void interrupted(struct env_signal *s)
{
    struct push_bench *p = container_of(s, struct push_bench, interrupt);
    p->interrupted = true;
    bench_errors(&p->e.b, 1, "interrupted");
    bench_stop(&p->e.b);
}

static void tell_lowest(struct push_bench *p)
{
    struct bench *b = &p->e.b;
    const struct bench_reading *g = &p->e.g;
    double lowest = 0, stored = 0;
    for (unsigned i = 0; i < b->consumers; i++) {
        double s = g->last_ns[i] > b->start_ns ? (double)(g->last_ns[i] - b->start_ns) / 1e9 : 0;
        double data = s > 0 ? (double)g->bytes[i] / 1e6 / s : 0, all = s > 0 ? (double)g->stored[i] / 1e6 / s : 0;
        lowest = i == 0 || data < lowest ? data : lowest;
        stored = i == 0 || all < stored ? all : stored;
    }
    b->more = json_pack("{s:b, s:f, s:f}", "backlog", p->e.backlog, "consumer_mb_per_s_min", lowest, "consumer_stored_mb_per_s_min", stored);
}

static int push(struct cli *c)
{
    struct push_bench p = {0};
    struct bench *b = &p.e.b;
    int status = bench_e2e_open(&p.e, c, "push");
    if (status != 0) {
        return status;
    }
    b->fan_out = true;
    p.e.backlog = cli_flag(c, "backlog");
    p.e.g.push = &p.consumers;
    if (!cli_size(c, "credit", 0, 1, UINT32_MAX, &p.e.g.credit)) {
        return CLI_USAGE;
    }
    bool signals = env_signal_start(c->env, &p.interrupt, SIGINT, interrupted) == 0;
    status = register_all(&p);
    status = status == 0 && !p.interrupted ? bench_e2e_run(&p.e) : status;
    int removed = remove_all(&p);
    if (signals) {
        env_signal_stop(c->env, &p.interrupt);
    }
    if (status != 0) {
        return status;
    }
    tell_lowest(&p);
    status = bench_close(b);
    return p.interrupted ? CLI_INTERRUPTED : status != 0 ? status : removed;
}

const struct cli_command cli_bench_push = {
    "bench", "push", "", 0, 0,
    "Measure how long records take from the producer to consumers that they are pushed to, each of which gets all of them. The consumers are registered for the run. "
    "ack_p50_ms, ack_p99_ms and ack_p999_ms are of the acknowledgements, mb_per_s of all consumers together. Ends with one JSON line.",
    {BENCH_OPTIONS_COMMON, BENCH_OPTIONS_LOAD,
     {"consumers", "N", "registered consumers, each with a connection and a subscription per shard (default 1)"},
     {"credit", "BYTES", "that may be on their way to a subscription (default 1m)"},
     {"backlog", NULL, "put everything first, then have it pushed: the consumers' throughput alone"}},
    push};
