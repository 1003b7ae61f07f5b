/* Which shards are read when, and their records in one order.
 *
 * A source per shard; with several shards their batches are merged by arrival time. A shard whose parents are being read begins when they have ended. When a shard ends while
 * we follow, the map is asked for its children, and they are read on. A shard is paused while enough of its records wait. */
#include "client/cli/records.h"

#include <signal.h>
#include <stdlib.h>

enum { BUFFERED_MAX = 4 << 20, OUTPUT_WATCH_MS = 500, MAP_AGAIN_MS = 50 };

static void stop(struct records *g, int status)
{
    if (!g->done) {
        g->done = true;
        g->status = status;
        env_stop(g->cli->env);
    }
}

static void flush(struct records *g)
{
    if (!records_out_flush(&g->out)) {
        stop(g, CLI_FAILED);
    }
}

static void watch_output(struct env_timer *t)
{
    struct records *g = container_of(t, struct records, watch);
    if (records_out_gone()) {
        stop(g, CLI_FAILED);
        return;
    }
    env_timer_start_ms(t, OUTPUT_WATCH_MS);
}

/* What was merged is written, the subscriptions or readers are closed, and that is told by the exit status. */
static void interrupted(struct env_signal *s)
{
    struct records *g = container_of(s, struct records, interrupt);
    flush(g);
    stop(g, CLI_INTERRUPTED);
}

/* ---- merging --------------------------------------------------------------------------------------------------------------- */

static void give(struct records *g, const struct sluice_records *b)
{
    for (size_t i = 0; i < b->n && !g->done; i++) {
        if (!records_out_add(&g->out, b, i)) {
            stop(g, CLI_FAILED);
        } else if (++g->given == g->limit) {
            flush(g);
            stop(g, CLI_DONE);
        }
    }
}

static void give_merged(struct records *g)
{
    unsigned source;
    for (struct merge_block *b; !g->done && (b = merge_pop(g->merge, &source)) != NULL; free(b)) {
        const struct sluice_records r = {.shard = b->shard, .shard_created_s = b->shard_created_s, .time_ms = b->time_ms, .n = b->n, .v = b->v};
        give(g, &r);
        struct records_shard *s = g->shards[source];
        if (s->paused && !s->ended && merge_source_bytes(g->merge, source) < BUFFERED_MAX / 2) {
            s->paused = false;
            g->source->pause(s, false);
        }
    }
    if (!g->done && merge_ended(g->merge)) {
        flush(g);
        stop(g, CLI_DONE);
    }
}

void records_came(struct records_shard *s, const struct sluice_records *b)
{
    struct records *g = s->all;
    s->brought = true;
    if (g->direct) {
        give(g, b);
        return;
    }
    merge_push(g->merge, s->source, merge_block_copy(b));
    if (merge_source_bytes(g->merge, s->source) >= BUFFERED_MAX) {
        s->paused = true;
        g->source->pause(s, true);
    }
    give_merged(g);
}

void records_caught_up(struct records_shard *s)
{
    struct records *g = s->all;
    if (g->follow && !g->done) {
        merge_source_idle(g->merge, s->source);
        give_merged(g);
        flush(g);
    }
}

static void start_ready(struct records *g);

/* ---- children -------------------------------------------------------------------------------------------------------------- */

static struct records_shard *find_shard(const struct records *g, uint32_t shard)
{
    for (size_t i = 0; i < g->n_shards; i++) {
        if (g->shards[i]->shard == shard) {
            return g->shards[i];
        }
    }
    return NULL;
}

static struct records_shard *add_shard(struct records *g, uint32_t shard)
{
    struct records_shard *s = xcalloc(1, sizeof *s);
    *s = (struct records_shard){.all = g, .shard = shard};
    s->source = merge_source_add(g->merge, shard);
    g->shards = xrealloc(g->shards, (g->n_shards + 1) * sizeof *g->shards);
    g->shards[g->n_shards++] = s;
    sluice_assert(s->source + 1 == g->n_shards);
    return s;
}

static void know_shard(struct records_shard *s, const Sluice__ShardInfo *info)
{
    s->known = true;
    s->open = info->open;
    s->n_parents = (uint32_t)(info->n_parents < 2 ? info->n_parents : 2);
    for (uint32_t i = 0; i < s->n_parents; i++) {
        s->parents[i] = info->parents[i];
    }
    merge_source_wait(s->all->merge, s->source, true);
}

static void ask_map(struct records *g);

static void map_told(const struct sluice_result *r, void *user)
{
    struct records *g = user;
    const Sluice__StreamReply *reply = (const Sluice__StreamReply *)r->reply;
    g->asking = false;
    if (g->done) {
        return;
    }
    if (r->code != 0 && sluice_error_retry(r->code) == SLUICE_RETRY_NEVER) {
        stop(g, cli_failed(g->cli->command->noun, r->code, SLUICE_REJECTED, r->message, ""));
        return;
    }
    for (size_t i = 0; r->code == 0 && reply->stream != NULL && i < reply->stream->n_shards; i++) {
        struct records_shard *s = find_shard(g, reply->stream->shards[i]->shard);
        if (s != NULL && !s->known) {
            know_shard(s, reply->stream->shards[i]);
        }
    }
    ask_map(g); /* the node that answered may have an older one */
    start_ready(g);
    if (!g->direct) {
        give_merged(g);
    }
}

static void ask_again(struct env_timer *t)
{
    struct records *g = container_of(t, struct records, again);
    if (!g->done && sluice_stream_describe(g->cli->client, g->cli->words[0], map_told, g) != 0) {
        g->asking = false;
    }
}

/* For the parents of those shards of which only the number is known. */
static void ask_map(struct records *g)
{
    for (size_t i = 0; i < g->n_shards && !g->asking; i++) {
        if (!g->shards[i]->known) {
            g->asking = true;
            env_timer_start_ms(&g->again, MAP_AGAIN_MS);
        }
    }
}

static void add_children(struct records *g, const struct sluice_read_end *end)
{
    for (size_t i = 0; i < end->n_children && g->follow && g->whole; i++) {
        if (find_shard(g, end->children[i]) == NULL) {
            add_shard(g, end->children[i]); /* holds the others up until it is known when it begins */
            g->direct = false;
        }
    }
    ask_map(g);
}

void records_ended(struct records_shard *s, const struct sluice_read_end *end)
{
    struct records *g = s->all;
    s->ended = true;
    if (end->code != 0) {
        flush(g);
        char what[96];
        snprintf(what, sizeof what, "%s: shard %u at offset %llu", g->cli->command->noun, s->shard, (unsigned long long)end->next_offset);
        cli_failed(what, end->code, SLUICE_REJECTED, end->message, g->source->hint(end->code));
        stop(g, CLI_FAILED);
        return;
    }
    add_children(g, end);
    start_ready(g); /* before the parent ends, so that its children hold the others up */
    merge_source_end(g->merge, s->source);
    give_merged(g);
}

/* ---- starting -------------------------------------------------------------------------------------------------------------- */

/* Where to begin. Behind a parent that was read to its end nothing is left out, whatever the position was. */
static struct sluice_position begin_at(const struct records *g, const struct records_shard *s)
{
    for (uint32_t p = 0; p < s->n_parents; p++) {
        const struct records_shard *parent = find_shard(g, s->parents[p]);
        if (parent != NULL && g->from.kind != SLUICE_AT_TIME && (parent->open || parent->brought)) {
            return (struct sluice_position){.kind = SLUICE_TRIM_HORIZON};
        }
    }
    return g->from;
}

/* Starts the shards whose parents, as far as they are read at all, have ended. */
static void start_ready(struct records *g)
{
    for (size_t i = 0; i < g->n_shards && !g->done; i++) {
        struct records_shard *s = g->shards[i];
        bool ready = !s->started && s->known;
        for (uint32_t p = 0; ready && p < s->n_parents; p++) {
            const struct records_shard *parent = find_shard(g, s->parents[p]);
            ready = parent == NULL || parent->ended;
        }
        if (!ready) {
            continue;
        }
        struct sluice_position from = begin_at(g, s);
        s->started = true;
        merge_source_wait(g->merge, s->source, false);
        int code = g->source->open(s, &from);
        if (code != 0) {
            s->ended = true;
            s->from = NULL;
            stop(g, cli_failed(g->cli->command->noun, code, SLUICE_REJECTED, "", g->source->hint(code)));
        }
    }
}

/* ---- options --------------------------------------------------------------------------------------------------------------- */

static bool parse_from(struct cli *c, enum sluice_position_kind otherwise, struct sluice_position *from, bool *sequence)
{
    const char *text = cli_value(c, "from");
    struct seqno q;
    *sequence = false;
    *from = (struct sluice_position){.kind = otherwise};
    if (text == NULL) {
        return true;
    }
    if (strcmp(text, "trim-horizon") == 0) {
        from->kind = SLUICE_TRIM_HORIZON;
    } else if (strcmp(text, "latest") == 0) {
        from->kind = SLUICE_LATEST;
    } else if (seqno_parse(text, &q)) {
        from->kind = SLUICE_AT_SEQUENCE;
        from->sequence = text;
        *sequence = true;
    } else if (cli_parse_time(text, &from->time_ms)) {
        from->kind = SLUICE_AT_TIME;
    } else {
        cli_usage(c, "--from: trim-horizon, latest, a sequence number or a time (2026-01-31T12:00:00Z or seconds since 1970), not '%s'", text);
        return false;
    }
    return true;
}

/* A shard by number or by the name that the AWS tools use. */
static bool parse_shard(const char *text, uint64_t *shard)
{
    if (strncmp(text, "shardId-", 8) == 0) {
        text += 8;
    }
    return cli_parse_number(text, shard) && *shard <= UINT32_MAX;
}

int records_options(struct records *r, struct cli *c, enum sluice_position_kind otherwise)
{
    const char *shard = cli_value(c, "shard"), *format = cli_value(c, "format");
    uint64_t only = 0;
    r->cli = c;
    if (!parse_from(c, otherwise, &r->from, &r->by_sequence) || !cli_number(c, "limit", 0, 0, UINT64_MAX, &r->limit)) {
        return CLI_USAGE;
    }
    if (shard != NULL && !parse_shard(shard, &only)) {
        return cli_usage(c, "--shard: a shard's number is needed, not '%s'", shard);
    }
    if (format != NULL && strcmp(format, "data") != 0 && strcmp(format, "json") != 0) {
        return cli_usage(c, "--format: data or json, not '%s'", format);
    }
    r->out.json = format != NULL ? strcmp(format, "json") == 0 : c->json;
    r->whole = shard == NULL;
    r->only = (uint32_t)only;
    return 0;
}

/* ---- running --------------------------------------------------------------------------------------------------------------- */

static int take_shards(struct records *g, const Sluice__StreamInfo *info)
{
    if (g->by_sequence && g->whole && info->n_shards > 1) {
        struct seqno q;
        seqno_parse(g->from.sequence, &q);
        return cli_usage(g->cli, "--from with a sequence number needs --shard (the number is one of shard %u's)", q.shard);
    }
    for (size_t i = 0; i < info->n_shards; i++) {
        if (g->whole || info->shards[i]->shard == g->only) {
            know_shard(add_shard(g, info->shards[i]->shard), info->shards[i]);
        }
    }
    if (g->n_shards == 0 && !g->whole) {
        return cli_error("%s: the stream has no shard %u", g->cli->command->noun, g->only);
    }
    if (g->n_shards == 0) {
        return cli_error("%s: the stream has no shards yet", g->cli->command->noun);
    }
    for (size_t i = 0; i < info->n_shards; i++) {
        const Sluice__ShardInfo *s = info->shards[i];
        if (find_shard(g, s->shard) != NULL && s->open && s->leader == 0) { /* it may get one in a moment, but who waits shall know for what */
            fprintf(stderr, "sluice: shard %u has no leader: waiting for one%s\n", s->shard, g->follow ? "" : ", at most a minute");
            break;
        }
    }
    g->direct = g->n_shards == 1;
    return CLI_DONE;
}

static void run(struct records *g)
{
    struct env *env = g->cli->env;
    env_timer_init(env, &g->watch, watch_output);
    env_timer_init(env, &g->again, ask_again);
    if (g->follow) {
        env_timer_start_ms(&g->watch, OUTPUT_WATCH_MS);
    }
    bool signals = env_signal_start(env, &g->interrupt, SIGINT, interrupted) == 0; /* else it just ends the program */
    start_ready(g);
    while (!g->done) {
        env_uv_run(env);
    }
    if (signals) {
        env_signal_stop(env, &g->interrupt);
    }
    env_timer_close(&g->watch);
    env_timer_close(&g->again);
}

int records_run(struct records *g)
{
    Sluice__StreamReply *reply = NULL;
    int status = cli_describe(g->cli, g->cli->words[0], &reply);
    if (status != 0) {
        return status;
    }
    g->merge = merge_open();
    records_out_open(&g->out, g->out.json);
    status = take_shards(g, reply->stream);
    if (status == CLI_DONE) {
        run(g);
        status = g->status;
    }
    for (size_t i = 0; i < g->n_shards; i++) {
        if (g->shards[i]->from != NULL) {
            g->source->close(g->shards[i]);
        }
    }
    cli_close(g->cli);
    merge_close(g->merge);
    for (size_t i = 0; i < g->n_shards; i++) {
        free(g->shards[i]);
    }
    free(g->shards);
    records_out_close(&g->out);
    cli_free(reply);
    return status;
}
