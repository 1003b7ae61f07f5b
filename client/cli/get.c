/* sluice get: the records of a stream on the standard output, fetched by a reader per shard. */
#include "client/cli/records.h"

static void records(struct sluice_reader *r, const struct sluice_records *b, void *user)
{
    (void)r;
    records_came(user, b);
}

static void caught_up(struct sluice_reader *r, uint64_t next, void *user)
{
    (void)r;
    (void)next;
    records_caught_up(user);
}

static void ended(struct sluice_reader *r, const struct sluice_read_end *end, void *user)
{
    (void)r;
    records_ended(user, end);
}

static int get_open(struct records_shard *s, const struct sluice_position *from)
{
    const struct records *g = s->all;
    /* A closed shard is read to its end, also while its closing is still on its way: its children are read behind it. */
    const struct sluice_reader_options o = {.no_follow = !g->follow && s->open, .timeout_ms = g->follow ? 0 : 60000, .max_bytes = 1 << 20,
                                            .records = records, .ended = ended, .caught_up = caught_up, .user = s};
    struct sluice_reader *r;
    int code = sluice_reader_open(g->cli->client, g->cli->words[0], s->shard, from, &o, &r);
    s->from = code == 0 ? r : NULL;
    return code;
}

static void get_pause(struct records_shard *s, bool paused)
{
    sluice_reader_pause(s->from, paused);
}

static void get_close(struct records_shard *s)
{
    sluice_reader_close(s->from);
}

static const char *get_hint(int code)
{
    (void)code;
    return "";
}

static int get(struct cli *c)
{
    static const struct records_source source = {get_open, get_pause, get_close, get_hint};
    struct records g = {.source = &source, .follow = cli_flag(c, "follow")};
    int status = records_options(&g, c, SLUICE_TRIM_HORIZON);
    return status != 0 ? status : records_run(&g);
}

const struct cli_command cli_get_command = {
    "get", NULL, "STREAM", 1, 1,
    "Write a stream's records to the standard output, each with a newline: in order within a shard, over shards by arrival time. "
    "Ends where the shards end at the start, unless --follow.",
    {{"from", "POSITION", "trim-horizon (default), latest, a sequence number, or a time"},
     RECORDS_OPTIONS_SHARD,
     {"follow", NULL, "go on with what arrives later"},
     RECORDS_OPTIONS_FORMAT},
    get};
