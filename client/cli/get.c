/* sluice get: the records of a stream on the standard output.
 *
 * A reader per shard; with several shards their batches are merged by arrival time. A shard whose parents are being read begins when
 * they have ended. When a shard ends while we follow, the map is asked for its children, and they are read on. Each reader is paused
 * while enough of its records wait. */
#include "client/cli/cli.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <unistd.h>

#include "client/merge.h"

enum { OUT_BYTES = 256 << 10, BUFFERED_MAX = 4 << 20, OUTPUT_WATCH_MS = 500, MAP_AGAIN_MS = 50 };

struct get_shard {
    struct getting *get;
    uint32_t shard;
    struct sluice_reader *reader;
    unsigned source;
    bool started, ended, paused;
    bool known;    /* the map told what follows; of a child that a reader named, it has yet to */
    bool open;     /* when it was first heard of */
    bool brought;  /* records */
    uint32_t n_parents, parents[2];
};

struct getting {
    struct cli *cli;
    struct sluice_position from;
    bool follow, json_lines, done, direct; /* direct: one shard, nothing to merge */
    bool children;          /* shards that come later are read, too */
    bool asking;            /* for the map */
    struct env_timer again;
    uint64_t limit, given;
    struct env_timer watch; /* following: is anybody still reading what is written? */
    struct merge *merge;
    struct get_shard **shards; /* by source */
    size_t n_shards;
    char *out;
    size_t out_len;
    int status;
};

/* ---- output ---------------------------------------------------------------------------------------------------------------- */

static void stop(struct getting *g, int status)
{
    if (!g->done) {
        g->done = true;
        g->status = status;
        env_stop(g->cli->env);
    }
}

static void out_write(struct getting *g, const char *data, size_t n)
{
    while (n > 0) {
        ssize_t r = write(STDOUT_FILENO, data, n);
        if (r < 0 && errno == EINTR) {
            continue;
        }
        if (r < 0) {
            if (errno != EPIPE) {
                cli_error("cannot write the output: %s", strerror(errno));
            }
            stop(g, CLI_FAILED);
            return;
        }
        data += r;
        n -= (size_t)r;
    }
}

static void out_flush(struct getting *g)
{
    size_t n = g->out_len;
    g->out_len = 0;
    out_write(g, g->out, n);
}

static void out_add(struct getting *g, const void *data, size_t n)
{
    if (g->out_len + n > OUT_BYTES) {
        out_flush(g);
    }
    if (n > OUT_BYTES) {
        out_write(g, data, n);
    } else if (n > 0) {
        memcpy(g->out + g->out_len, data, n);
        g->out_len += n;
    }
}

/* A follower that has nothing to write would not notice that its reader has gone. */
static void watch_output(struct env_timer *t)
{
    struct getting *g = container_of(t, struct getting, watch);
    struct pollfd out = {.fd = STDOUT_FILENO};
    if (poll(&out, 1, 0) == 1 && (out.revents & (POLLERR | POLLHUP)) != 0) {
        stop(g, CLI_FAILED);
        return;
    }
    env_timer_start_ms(t, OUTPUT_WATCH_MS);
}

/* Text if it is valid UTF-8, else base64 under another name. */
static void json_bytes(json_t *j, const char *name, const char *name_base64, const uint8_t *data, size_t n)
{
    json_t *text = json_stringn((const char *)data, n);
    if (text != NULL) {
        json_object_set_new(j, name, text);
        return;
    }
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    char *coded = xmalloc((n + 2) / 3 * 4 + 1);
    size_t len = 0;
    for (size_t i = 0; i < n; i += 3) {
        uint32_t v = (uint32_t)data[i] << 16 | (i + 1 < n ? (uint32_t)data[i + 1] << 8 : 0) | (i + 2 < n ? data[i + 2] : 0);
        coded[len++] = digits[v >> 18];
        coded[len++] = digits[v >> 12 & 63];
        coded[len++] = i + 1 < n ? digits[v >> 6 & 63] : '=';
        coded[len++] = i + 2 < n ? digits[v & 63] : '=';
    }
    json_object_set_new(j, name_base64, json_stringn(coded, len));
    free(coded);
}

static void give_json(struct getting *g, const struct sluice_records *b, size_t i)
{
    char sequence[SEQNO_TEXT_MAX];
    sluice_record_sequence(b, i, sequence);
    json_t *j = json_pack("{s:I, s:s, s:I, s:I}", "shard", (json_int_t)b->shard, "sequence", sequence, "offset", (json_int_t)b->v[i].offset, "time_ms",
                          (json_int_t)b->time_ms);
    json_bytes(j, "key", "key_base64", b->v[i].key, b->v[i].key_len);
    json_bytes(j, "data", "data_base64", b->v[i].data, b->v[i].data_len);
    char *text = json_dumps(j, JSON_COMPACT);
    out_add(g, text, strlen(text));
    free(text);
    json_decref(j);
}

static void give(struct getting *g, const struct sluice_records *b)
{
    for (size_t i = 0; i < b->n && !g->done; i++) {
        if (g->json_lines) {
            give_json(g, b, i);
        } else {
            out_add(g, b->v[i].data, b->v[i].data_len);
        }
        out_add(g, "\n", 1);
        if (++g->given == g->limit) {
            out_flush(g);
            stop(g, CLI_DONE);
        }
    }
}

/* ---- merging --------------------------------------------------------------------------------------------------------------- */

static void give_merged(struct getting *g)
{
    unsigned source;
    for (struct merge_block *b; !g->done && (b = merge_pop(g->merge, &source)) != NULL; free(b)) {
        const struct sluice_records r = {.shard = b->shard, .shard_created_s = b->shard_created_s, .time_ms = b->time_ms, .n = b->n, .v = b->v};
        give(g, &r);
        struct get_shard *s = g->shards[source];
        if (s->paused && !s->ended && merge_source_bytes(g->merge, source) < BUFFERED_MAX / 2) {
            s->paused = false;
            sluice_reader_pause(s->reader, false);
        }
    }
    if (!g->done && merge_ended(g->merge)) {
        out_flush(g);
        stop(g, CLI_DONE);
    }
}

static void records(struct sluice_reader *r, const struct sluice_records *b, void *user)
{
    struct get_shard *s = user;
    struct getting *g = s->get;
    s->brought = true;
    if (g->direct) {
        give(g, b);
        return;
    }
    merge_push(g->merge, s->source, merge_block_copy(b));
    if (merge_source_bytes(g->merge, s->source) >= BUFFERED_MAX) {
        s->paused = true;
        sluice_reader_pause(r, true);
    }
    give_merged(g);
}

static void caught_up(struct sluice_reader *r, uint64_t next, void *user)
{
    struct get_shard *s = user;
    struct getting *g = s->get;
    (void)r;
    (void)next;
    if (g->follow) {
        merge_source_idle(g->merge, s->source);
        give_merged(g);
        out_flush(g);
    }
}

static void start_ready(struct getting *g);

/* ---- children -------------------------------------------------------------------------------------------------------------- */

static struct get_shard *find_shard(const struct getting *g, uint32_t shard)
{
    for (size_t i = 0; i < g->n_shards; i++) {
        if (g->shards[i]->shard == shard) {
            return g->shards[i];
        }
    }
    return NULL;
}

static struct get_shard *add_shard(struct getting *g, uint32_t shard)
{
    struct get_shard *s = xcalloc(1, sizeof *s);
    *s = (struct get_shard){.get = g, .shard = shard};
    s->source = merge_source_add(g->merge, shard);
    g->shards = xrealloc(g->shards, (g->n_shards + 1) * sizeof *g->shards);
    g->shards[g->n_shards++] = s;
    sluice_assert(s->source + 1 == g->n_shards);
    return s;
}

static void know_shard(struct get_shard *s, const Sluice__ShardInfo *info)
{
    s->known = true;
    s->open = info->open;
    s->n_parents = (uint32_t)(info->n_parents < 2 ? info->n_parents : 2);
    for (uint32_t i = 0; i < s->n_parents; i++) {
        s->parents[i] = info->parents[i];
    }
    merge_source_wait(s->get->merge, s->source, true);
}

static void ask_map(struct getting *g);

static void map_told(const struct sluice_result *r, void *user)
{
    struct getting *g = user;
    const Sluice__StreamReply *reply = (const Sluice__StreamReply *)r->reply;
    g->asking = false;
    if (g->done) {
        return;
    }
    if (r->code != 0 && sluice_error_retry(r->code) == SLUICE_RETRY_NEVER) {
        stop(g, cli_failed("get", r->code, SLUICE_REJECTED, r->message, ""));
        return;
    }
    for (size_t i = 0; r->code == 0 && reply->stream != NULL && i < reply->stream->n_shards; i++) {
        struct get_shard *s = find_shard(g, reply->stream->shards[i]->shard);
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
    struct getting *g = container_of(t, struct getting, again);
    if (!g->done && sluice_stream_describe(g->cli->client, g->cli->words[0], map_told, g) != 0) {
        g->asking = false;
    }
}

/* For the parents of those shards of which only the number is known. */
static void ask_map(struct getting *g)
{
    for (size_t i = 0; i < g->n_shards && !g->asking; i++) {
        if (!g->shards[i]->known) {
            g->asking = true;
            env_timer_start_ms(&g->again, MAP_AGAIN_MS);
        }
    }
}

static void add_children(struct getting *g, const struct sluice_read_end *end)
{
    for (size_t i = 0; i < end->n_children && g->children; i++) {
        if (find_shard(g, end->children[i]) == NULL) {
            add_shard(g, end->children[i]); /* holds the others up until it is known when it begins */
            g->direct = false;
        }
    }
    ask_map(g);
}

static void ended(struct sluice_reader *r, const struct sluice_read_end *end, void *user)
{
    struct get_shard *s = user;
    struct getting *g = s->get;
    (void)r;
    s->ended = true;
    if (end->code != 0) {
        out_flush(g);
        char what[96];
        snprintf(what, sizeof what, "get: shard %u at offset %llu", s->shard, (unsigned long long)end->next_offset);
        cli_failed(what, end->code, SLUICE_REJECTED, end->message, "");
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
static struct sluice_position begin_at(const struct getting *g, const struct get_shard *s)
{
    for (uint32_t p = 0; p < s->n_parents; p++) {
        const struct get_shard *parent = find_shard(g, s->parents[p]);
        if (parent != NULL && g->from.kind != SLUICE_AT_TIME && (parent->open || parent->brought)) {
            return (struct sluice_position){.kind = SLUICE_TRIM_HORIZON};
        }
    }
    return g->from;
}

/* Starts the readers of shards whose parents, as far as they are read at all, have ended. */
static void start_ready(struct getting *g)
{
    for (size_t i = 0; i < g->n_shards && !g->done; i++) {
        struct get_shard *s = g->shards[i];
        bool ready = !s->started && s->known;
        for (uint32_t p = 0; ready && p < s->n_parents; p++) {
            const struct get_shard *parent = find_shard(g, s->parents[p]);
            ready = parent == NULL || parent->ended;
        }
        if (!ready) {
            continue;
        }
        struct sluice_position from = begin_at(g, s);
        /* A closed shard is read to its end, also while its closing is still on its way: its children are read behind it. */
        s->started = true;
        merge_source_wait(g->merge, s->source, false);
        const struct sluice_reader_options o = {.no_follow = !g->follow && s->open, .timeout_ms = g->follow ? 0 : 60000, .max_bytes = 1 << 20,
                                                .records = records, .ended = ended, .caught_up = caught_up, .user = s};
        int code = sluice_reader_open(g->cli->client, g->cli->words[0], s->shard, &from, &o, &s->reader);
        if (code != 0) {
            s->ended = true;
            s->reader = NULL;
            stop(g, cli_failed("get", code, SLUICE_REJECTED, "", ""));
        }
    }
}

static bool parse_from(struct cli *c, struct sluice_position *from, bool *sequence)
{
    const char *text = cli_value(c, "from");
    struct seqno q;
    *sequence = false;
    *from = (struct sluice_position){.kind = SLUICE_TRIM_HORIZON};
    if (text == NULL || strcmp(text, "trim-horizon") == 0) {
        return true;
    }
    if (strcmp(text, "latest") == 0) {
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

static int get(struct cli *c)
{
    struct getting g = {.cli = c, .follow = cli_flag(c, "follow"), .json_lines = c->json};
    bool by_sequence;
    uint64_t only = 0;
    const char *shard = cli_value(c, "shard"), *format = cli_value(c, "format");
    if (!parse_from(c, &g.from, &by_sequence) || !cli_number(c, "limit", 0, 0, UINT64_MAX, &g.limit)) {
        return CLI_USAGE;
    }
    if (shard != NULL && !parse_shard(shard, &only)) {
        return cli_usage(c, "--shard: a shard's number is needed, not '%s'", shard);
    }
    if (format != NULL && strcmp(format, "data") != 0 && strcmp(format, "json") != 0) {
        return cli_usage(c, "--format: data or json, not '%s'", format);
    }
    if (format != NULL) {
        g.json_lines = strcmp(format, "json") == 0;
    }
    Sluice__StreamReply *reply = NULL;
    int status = cli_describe(c, c->words[0], &reply);
    if (status != 0) {
        return status;
    }
    const Sluice__StreamInfo *info = reply->stream;
    if (by_sequence && shard == NULL && info->n_shards > 1) {
        struct seqno q;
        seqno_parse(g.from.sequence, &q);
        cli_free(reply);
        return cli_usage(c, "--from with a sequence number needs --shard (the number is one of shard %u's)", q.shard);
    }
    g.children = g.follow && shard == NULL;
    g.merge = merge_open();
    g.out = xmalloc(OUT_BYTES);
    for (size_t i = 0; i < info->n_shards; i++) {
        if (shard == NULL || info->shards[i]->shard == only) {
            know_shard(add_shard(&g, info->shards[i]->shard), info->shards[i]);
        }
    }
    for (size_t i = 0; i < info->n_shards; i++) {
        const Sluice__ShardInfo *s = info->shards[i];
        if (find_shard(&g, s->shard) != NULL && s->open && s->leader == 0) { /* it may get one in a moment, but who waits shall know for what */
            fprintf(stderr, "sluice: shard %u has no leader: waiting for one%s\n", s->shard, g.follow ? "" : ", at most a minute");
            break;
        }
    }
    g.direct = g.n_shards == 1;
    if (g.n_shards == 0) {
        status = shard != NULL ? cli_error("get: the stream has no shard %s", shard) : cli_error("get: the stream has no shards yet");
    } else {
        env_timer_init(c->env, &g.watch, watch_output);
        env_timer_init(c->env, &g.again, ask_again);
        if (g.follow) {
            env_timer_start_ms(&g.watch, OUTPUT_WATCH_MS);
        }
        start_ready(&g);
        while (!g.done) {
            env_uv_run(c->env);
        }
        env_timer_close(&g.watch);
        env_timer_close(&g.again);
        status = g.status;
    }
    for (size_t i = 0; i < g.n_shards; i++) {
        if (g.shards[i]->reader != NULL) {
            sluice_reader_close(g.shards[i]->reader);
        }
    }
    cli_close(c);
    merge_close(g.merge);
    for (size_t i = 0; i < g.n_shards; i++) {
        free(g.shards[i]);
    }
    free(g.shards);
    free(g.out);
    cli_free(reply);
    return status;
}

const struct cli_command cli_get_command = {
    "get", NULL, "STREAM", 1, 1,
    "Write a stream's records to the standard output, each with a newline: in order within a shard, over shards by arrival time. "
    "Ends where the shards end at the start, unless --follow.",
    {{"from", "POSITION", "trim-horizon (default), latest, a sequence number, or a time"},
     {"shard", "S", "only this shard"},
     {"limit", "N", "end after N records in all (default 0: no limit)"},
     {"follow", NULL, "go on with what arrives later"},
     {"format", "data|json", "data (default), or a JSON object per line"}},
    get};
