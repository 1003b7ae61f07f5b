/* The readers of `sluice bench`: one per shard, or with fan-out one per shard and consumer; or as many subscriptions of registered consumers. */
#include <stdlib.h>

#include "client/cli/bench.h"

static void tell_end(struct bench_reader *br, const struct sluice_read_end *end)
{
    br->ended = true;
    if (end->code != 0) {
        bench_error(br->bench, end->code, end->message);
        bench_stop(br->bench);
    } else if (br->end != NULL) {
        br->end(br);
    }
}

static void reader_records(struct sluice_reader *r, const struct sluice_records *batch, void *user)
{
    struct bench_reader *br = user;
    (void)r;
    br->each(br, batch);
}

static void reader_ended(struct sluice_reader *r, const struct sluice_read_end *end, void *user)
{
    (void)r;
    tell_end(user, end);
}

static void pushed(struct sluice_subscription *u, struct sluice_pushed *p, void *user)
{
    struct bench_reader *br = user;
    struct bench_reading *g = br->reading;
    uint64_t from = p->offset;
    (void)u;
    g->stored[br->consumer] += br->bench->start_ns != 0 ? p->len : 0;
    for (size_t pos = 0; pos < p->len;) {
        struct sluice_records records = {0};
        uint32_t len;
        const char *why = "";
        int code = unpack_batch(&g->unpacker, p->data + pos, from, UINT64_MAX, &records, &len, &why);
        if (code != 0) {
            bench_error(br->bench, code, why);
            bench_stop(br->bench);
            return;
        }
        pos += len;
        if (records.n > 0) {
            br->each(br, &records);
        }
    }
}

static void push_ended(struct sluice_subscription *u, const struct sluice_read_end *end, void *user)
{
    (void)u;
    tell_end(user, end);
}

/* ---- opening --------------------------------------------------------------------------------------------------------------- */

int bench_readers_note_ends(struct bench *b, struct bench_reading *g)
{
    int status = cli_describe(b->cli, b->stream, &g->at);
    if (status == 0) {
        cli_ask_ends(b->cli, g->at->stream);
    }
    return status;
}

static int open_one(struct bench *b, struct bench_reading *g, struct bench_reader *r, uint32_t shard, const struct sluice_position *from, bool follow)
{
    if (g->push == NULL) {
        const struct sluice_reader_options o = {.no_follow = !follow, .timeout_ms = 60000, .max_bytes = 1 << 20, .records = reader_records,
                                                .ended = reader_ended, .user = r};
        return sluice_reader_open(g->clients[r->consumer], b->stream, shard, from, &o, &r->reader);
    }
    const struct sluice_subscription_options o = {.consumer_id = g->push->ids[r->consumer], .map_version = g->push->map_version, .timeout_ms = 60000,
                                                  .credit = g->credit, .pushed = pushed, .ended = push_ended, .user = r};
    return sluice_subscription_open(g->clients[r->consumer], b->stream, shard, from, &o, &r->subscription);
}

int bench_readers_open(struct bench *b, struct bench_reading *g, const struct sluice_position *from, bool follow, const struct bench_reader *pattern)
{
    int status = g->at == NULL ? bench_readers_note_ends(b, g) : 0;
    if (status != 0) {
        return status;
    }
    const Sluice__StreamInfo *stream = g->at->stream;
    unsigned copies = b->fan_out ? (unsigned)b->consumers : 1;
    g->readers = xcalloc(stream->n_shards * copies + 1, sizeof *g->readers);
    g->clients = xcalloc(b->consumers, sizeof(struct sluice_client *));
    const struct sluice_client_options co = {.endpoints = b->cli->endpoints, .agent = "sluice-bench/" SLUICE_VERSION};
    for (; g->n_clients < b->consumers && status == 0; g->n_clients += status == 0) {
        status = sluice_client_open(b->cli->env, &co, &g->clients[g->n_clients]) != 0 ? CLI_FAILED : 0;
    }
    for (size_t i = 0; i < stream->n_shards * copies && status == 0; i++) {
        struct bench_reader *r = &g->readers[g->n];
        *r = *pattern;
        r->bench = b;
        r->reading = g;
        r->consumer = (unsigned)(b->fan_out ? i / stream->n_shards : i % b->consumers);
        const Sluice__ShardInfo *shard = stream->shards[i % stream->n_shards];
        const struct sluice_position end = {.kind = SLUICE_AT_OFFSET, .offset = shard->end_offset};
        if (from == NULL && shard->end_offset == CLI_NO_OFFSET) {
            status = cli_error("bench: it is not known where shard %u of '%s' ends", shard->shard, b->stream);
            continue;
        }
        int code = open_one(b, g, r, shard->shard, from != NULL ? from : &end, follow);
        if (code != 0) {
            status = cli_failed("bench", code, SLUICE_REJECTED, "", "");
        } else {
            g->n++;
        }
    }
    return status;
}

void bench_readers_close(struct bench *b, struct bench_reading *g)
{
    for (size_t i = 0; i < g->n; i++) {
        if (g->readers[i].reader != NULL) {
            sluice_reader_close(g->readers[i].reader);
        } else {
            sluice_subscription_close(g->readers[i].subscription);
        }
    }
    for (unsigned i = 0; i < g->n_clients; i++) {
        bench_client_close(b, g->clients[i]);
    }
    free(g->readers);
    free(g->clients);
    cli_free(g->at);
    unpacker_free(&g->unpacker);
    g->n = 0;
    g->n_clients = 0;
    g->readers = NULL;
    g->clients = NULL;
    g->at = NULL;
}
