/* The readers of `sluice bench`: one per shard, or with fan-out one per shard and consumer. */
#include <stdlib.h>

#include "client/cli/bench.h"

static void reader_records(struct sluice_reader *r, const struct sluice_records *batch, void *user)
{
    struct bench_reader *br = user;
    (void)r;
    br->each(br, batch);
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
    if (from == NULL) {
        cli_ask_ends(b->cli, reply->stream);
    }
    unsigned copies = b->fan_out ? (unsigned)b->consumers : 1;
    g->readers = xcalloc(reply->stream->n_shards * copies + 1, sizeof *g->readers);
    g->clients = xcalloc(b->consumers, sizeof(struct sluice_client *));
    const struct sluice_client_options co = {.endpoints = b->cli->endpoints, .agent = "sluice-bench/" SLUICE_VERSION};
    for (; g->n_clients < b->consumers && status == 0; g->n_clients += status == 0) {
        status = sluice_client_open(b->cli->env, &co, &g->clients[g->n_clients]) != 0 ? CLI_FAILED : 0;
    }
    for (size_t i = 0; i < reply->stream->n_shards * copies && status == 0; i++) {
        struct bench_reader *r = &g->readers[g->n];
        *r = *pattern;
        r->bench = b;
        r->consumer = (unsigned)(b->fan_out ? i / reply->stream->n_shards : i % b->consumers);
        const Sluice__ShardInfo *shard = reply->stream->shards[i % reply->stream->n_shards];
        const struct sluice_position end = {.kind = SLUICE_AT_OFFSET, .offset = shard->end_offset};
        const struct sluice_reader_options o = {.no_follow = !follow, .timeout_ms = 60000, .max_bytes = 1 << 20, .records = reader_records,
                                                .ended = reader_ended, .user = r};
        if (from == NULL && shard->end_offset == CLI_NO_OFFSET) {
            status = cli_error("bench: it is not known where shard %u of '%s' ends", shard->shard, b->stream);
            continue;
        }
        int code = sluice_reader_open(g->clients[r->consumer], b->stream, shard->shard, from != NULL ? from : &end, &o, &r->reader);
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
