/* workload.c: sluice-workload: clients that put unique values and tail every shard, writing a history that sluice-check judges.
 *
 * sluice-workload run --endpoints LIST --stream NAME --shards N [--producers 4] [--readers 4] [--rate 2000] --history FILE
 *     puts until SIGTERM, then waits for every outcome and for the readers to reach the end, and exits 0 (1 if that took over 60 s)
 * sluice-workload final --node HOST:PORT --number N --endpoints LIST --stream NAME --history FILE
 *     appends what this one node holds of every shard it has a replica of
 * sluice-workload clock
 *     prints the clock of the history: CLOCK_MONOTONIC in ns
 */
#include "client/sluice.h"
#include "jepsen/history_file.h"
#include "proto/base.h"
#include "storage/env_uv.h"

#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>

enum { CLIENTS_MAX = 64, SHARDS_MAX = 256, OPEN_MAX = 20000, DATA = 100 };

struct run;
struct producer {
    struct run *run;
    struct sluice_client *client;
    struct sluice_producer *producer;
    struct env_timer timer;
    unsigned number;
    uint64_t sent, open;
    double due; /* puts owed by the rate */
    uint64_t last_ns;
};
struct pending { struct producer *producer; uint64_t value, start, order; };
struct tail {
    struct run *run;
    struct sluice_reader *reader;
    unsigned process;
    uint32_t shard;
    uint64_t next, last_read;
};
struct run {
    struct env *env;
    const char *endpoints, *stream;
    unsigned n_producers, n_readers, n_shards, rate;
    FILE *history;
    struct producer producers[CLIENTS_MAX];
    struct sluice_client *reader_clients[CLIENTS_MAX];
    struct tail tails[CLIENTS_MAX * 16];
    unsigned n_tails;
    struct env_signal term, interrupt;
    struct env_timer drain;
    uint64_t end[SHARDS_MAX], acked, stop_ns;
    bool stopping;
    int status;
};

static struct sluice_client *open_client(struct run *r)
{
    struct sluice_client *c;
    struct sluice_client_options o = {.endpoints = r->endpoints, .agent = "sluice-workload"};
    if (sluice_client_open(r->env, &o, &c) != 0) {
        fprintf(stderr, "sluice-workload: cannot use the endpoints %s\n", r->endpoints);
        exit(2);
    }
    return c;
}

static void put_done(const struct sluice_put_result *result, void *user)
{
    struct pending *p = user;
    struct run *r = p->producer->run;
    char sequence[SEQNO_TEXT_MAX] = "";
    const char *outcome = result->code == 0 ? "ok" : result->outcome == SLUICE_UNKNOWN ? "info" : "fail";
    if (result->code == 0) {
        sluice_put_sequence(result, sequence);
        r->acked++;
        if (result->shard < SHARDS_MAX) {
            r->end[result->shard] = max_u64(r->end[result->shard], result->offset + 1);
        }
    }
    history_file_put(r->history, r->stream, p->producer->number, p->start, env_clock_ns(r->env), outcome, p->value, result->shard, sequence, p->order);
    p->producer->open--;
    free(p);
}

static bool put_one(struct producer *p)
{
    struct run *r = p->run;
    uint8_t data[DATA];
    uint64_t value = (uint64_t)p->number << 40 | (p->sent + 1);
    memset(data, 'x', sizeof data);
    memcpy(data, &value, sizeof value);
    char key[32];
    int key_len = snprintf(key, sizeof key, "%llu", (unsigned long long)env_random_below(r->env, 100000));
    struct pending *q = xmalloc(sizeof *q);
    *q = (struct pending){p, value, env_clock_ns(r->env), p->sent + 1};
    struct sluice_record record = {.key = key, .key_len = (size_t)key_len, .data = data, .data_len = sizeof data};
    int rc = sluice_producer_put(p->producer, &record, put_done, q);
    if (rc != 0) {
        free(q);
        if (rc != SLUICE_E_BUSY) {
            fprintf(stderr, "sluice-workload: put refused: %s\n", sluice_error_text(rc));
            r->status = 1;
            env_stop(r->env);
        }
        return false;
    }
    p->sent++;
    p->open++;
    return true;
}

static void produce(struct env_timer *t)
{
    struct producer *p = container_of(t, struct producer, timer);
    struct run *r = p->run;
    if (r->stopping) {
        return;
    }
    uint64_t now = env_clock_ns(r->env);
    p->due += (double)(now - p->last_ns) / 1e9 * r->rate / r->n_producers;
    p->last_ns = now;
    p->due = p->due > 1000 ? 1000 : p->due;
    while (p->due >= 1 && p->open < OPEN_MAX && put_one(p)) {
        p->due -= 1;
    }
    env_timer_start_ms(&p->timer, 2);
}

static void on_records(struct sluice_reader *reader, const struct sluice_records *batch, void *user)
{
    (void)reader;
    struct tail *t = user;
    uint64_t now = env_clock_ns(t->run->env);
    history_file_read(t->run->history, t->process, t->last_read, now, t->shard, (unsigned)(t - t->run->tails) + 1, batch);
    if (batch->n > 0) {
        t->next = batch->v[batch->n - 1].offset + 1;
    }
    t->last_read = now;
}

static void on_ended(struct sluice_reader *reader, const struct sluice_read_end *end, void *user)
{
    (void)reader;
    struct tail *t = user;
    fprintf(stderr, "sluice-workload: the reader of shard %u ended at offset %llu: %s: %s\n", t->shard, (unsigned long long)end->next_offset,
            sluice_error_text(end->code), end->message != NULL ? end->message : "");
    t->run->status = 1;
    env_stop(t->run->env);
}

static void drain_tick(struct env_timer *timer)
{
    struct run *r = container_of(timer, struct run, drain);
    uint64_t open = 0, behind = 0;
    for (unsigned i = 0; i < r->n_producers; i++) {
        open += r->producers[i].open;
    }
    for (unsigned i = 0; i < r->n_tails; i++) {
        behind += r->tails[i].next < r->end[r->tails[i].shard];
    }
    if (open == 0 && behind == 0) {
        env_stop(r->env);
        return;
    }
    if (env_clock_ns(r->env) - r->stop_ns > 60000000000ull) {
        fprintf(stderr, "sluice-workload: after 60 s %llu puts have no outcome and %llu readers are behind\n", (unsigned long long)open,
                (unsigned long long)behind);
        r->status = 1;
        env_stop(r->env);
        return;
    }
    env_timer_start_ms(&r->drain, 20);
}

static void on_term(struct env_signal *s)
{
    struct run *r = s->signum == SIGTERM ? container_of(s, struct run, term) : container_of(s, struct run, interrupt);
    if (!r->stopping) {
        r->stopping = true;
        r->stop_ns = env_clock_ns(r->env);
        env_timer_start_ms(&r->drain, 1);
    }
}

static int run(struct run *r)
{
    if (env_uv_open(&r->env) != 0) {
        return 1;
    }
    env_signal_start(r->env, &r->term, SIGTERM, on_term);
    env_signal_start(r->env, &r->interrupt, SIGINT, on_term);
    env_timer_init(r->env, &r->drain, drain_tick);
    for (unsigned i = 0; i < r->n_producers; i++) {
        struct producer *p = &r->producers[i];
        p->run = r;
        p->number = i + 1;
        p->client = open_client(r);
        struct sluice_producer_options o = {.delivery_timeout_ms = UINT64_MAX};
        if (sluice_producer_open(p->client, r->stream, &o, &p->producer) != 0 || env_timer_init(r->env, &p->timer, produce) != 0) {
            return 1;
        }
        p->last_ns = env_clock_ns(r->env);
        env_timer_start_ms(&p->timer, 1 + i);
    }
    for (unsigned i = 0; i < r->n_readers; i++) {
        r->reader_clients[i] = open_client(r);
        for (uint32_t s = 0; s < r->n_shards && r->n_tails < ARRAY_LEN(r->tails); s++) {
            struct tail *t = &r->tails[r->n_tails++];
            *t = (struct tail){.run = r, .process = 1000 + i, .shard = s, .last_read = env_clock_ns(r->env)};
            struct sluice_reader_options o = {.records = on_records, .ended = on_ended, .user = t, .spread = i % 2 == 1};
            struct sluice_position from = {.kind = SLUICE_TRIM_HORIZON};
            if (sluice_reader_open(r->reader_clients[i], r->stream, s, &from, &o, &t->reader) != 0) {
                return 1;
            }
        }
    }
    env_uv_run(r->env);
    uint64_t sent = 0;
    for (unsigned i = 0; i < r->n_producers; i++) {
        sent += r->producers[i].sent;
    }
    fprintf(stderr, "sluice-workload: %llu put, %llu acknowledged\n", (unsigned long long)sent, (unsigned long long)r->acked);
    return fclose(r->history) == 0 ? r->status : 1;
}

int main(int argc, char **argv)
{
    struct run *r = xcalloc(1, sizeof *r);
    *r = (struct run){.endpoints = "127.0.0.1:4570", .stream = "jepsen", .n_producers = 4, .n_readers = 4, .n_shards = 8, .rate = 2000};
    const char *verb = argc > 1 ? argv[1] : "", *history = NULL, *node = NULL;
    unsigned number = 0;
    static const struct option options[] = {
        {"endpoints", required_argument, NULL, 'e'}, {"stream", required_argument, NULL, 's'},    {"shards", required_argument, NULL, 'n'},
        {"producers", required_argument, NULL, 'p'}, {"readers", required_argument, NULL, 'r'},   {"rate", required_argument, NULL, 't'},
        {"history", required_argument, NULL, 'h'},   {"node", required_argument, NULL, 'd'},      {"number", required_argument, NULL, 'm'},
        {NULL, 0, NULL, 0},
    };
    optind = 2;
    for (int c; (c = getopt_long(argc, argv, "", options, NULL)) != -1;) {
        switch (c) {
        case 'e': r->endpoints = optarg; break;
        case 's': r->stream = optarg; break;
        case 'n': r->n_shards = (unsigned)atoi(optarg); break;
        case 'p': r->n_producers = (unsigned)atoi(optarg); break;
        case 'r': r->n_readers = (unsigned)atoi(optarg); break;
        case 't': r->rate = (unsigned)atoi(optarg); break;
        case 'h': history = optarg; break;
        case 'd': node = optarg; break;
        case 'm': number = (unsigned)atoi(optarg); break;
        default: return 2;
        }
    }
    if (strcmp(verb, "clock") == 0) {
        printf("%llu\n", (unsigned long long)history_file_clock());
        return 0;
    }
    if (history == NULL || r->n_producers > CLIENTS_MAX || r->n_readers > CLIENTS_MAX || r->n_shards > SHARDS_MAX ||
        (strcmp(verb, "run") != 0 && strcmp(verb, "final") != 0)) {
        fprintf(stderr, "usage: sluice-workload run|final|clock --history FILE ... (see jepsen/README.md)\n");
        return 2;
    }
    r->history = fopen(history, "a");
    if (r->history == NULL) {
        perror(history);
        return 1;
    }
    if (strcmp(verb, "final") == 0) {
        return history_file_final(r->history, r->endpoints, r->stream, node, number);
    }
    return run(r);
}
