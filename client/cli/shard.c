/* sluice shard list|split|merge|transfer */
#include "client/cli/cli.h"

#include <stdlib.h>
#include <string.h>

static int list(struct cli *c)
{
    Sluice__StreamReply *reply;
    int status = cli_describe(c, c->words[0], &reply);
    if (status != 0) {
        return status;
    }
    cli_ask_ends(c, reply->stream);
    json_t *all = json_array();
    struct cli_table t = {.columns = 7};
    static const char *const heads[] = {"SHARD", "STATE", "LEADER", "REPLICAS", "FIRST", "NEXT", "START HASH"};
    for (size_t i = 0; i < ARRAY_LEN(heads); i++) {
        cli_table_cell(&t, "%s", heads[i]);
    }
    for (size_t i = 0; i < reply->stream->n_shards; i++) {
        const Sluice__ShardInfo *s = reply->stream->shards[i];
        char start[40], end[40], replicas[128] = "";
        cli_hash_text(&s->hash_first, start);
        cli_hash_text(&s->hash_last, end);
        size_t len = 0;
        for (size_t j = 0; j < s->n_replicas && len + 16 < sizeof replicas; j++) {
            len += (size_t)snprintf(replicas + len, sizeof replicas - len, "%s%u", j > 0 ? "," : "", s->replicas[j]);
        }
        bool known = s->end_offset != CLI_NO_OFFSET;
        json_t *leader = s->leader != 0 ? json_integer(s->leader) : json_null();
        json_array_append_new(all, json_pack("{s:I, s:o, s:o, s:b, s:o, s:s, s:s, s:o, s:o}", "shard", (json_int_t)s->shard, "leader", leader, "replicas",
                                             cli_ids(s->replicas, s->n_replicas), "open", s->open, "parents", cli_ids(s->parents, s->n_parents), "start_hash",
                                             start, "end_hash", end, "first", known ? json_integer((json_int_t)s->first_offset) : json_null(), "next",
                                             known ? json_integer((json_int_t)s->end_offset) : json_null()));
        cli_table_cell(&t, "%u", s->shard);
        cli_table_cell(&t, "%s", s->open ? "open" : "closed");
        if (s->leader != 0) {
            cli_table_cell(&t, "%u", s->leader);
        } else {
            cli_table_cell(&t, "none");
        }
        cli_table_cell(&t, "%s", replicas);
        if (known) {
            cli_table_cell(&t, "%llu", (unsigned long long)s->first_offset);
            cli_table_cell(&t, "%llu", (unsigned long long)s->end_offset);
        } else {
            cli_table_cell(&t, "?");
            cli_table_cell(&t, "?");
        }
        cli_table_cell(&t, "%s", start);
    }
    cli_free(reply);
    return cli_print_list(c, all, &t);
}

const struct cli_command cli_shard_list = {"shard", "list", "STREAM", 1, 1, "List a stream's shards with their leaders, replicas and offsets.", {{.name = NULL}}, list};

/* A shard by number or by the name that the AWS tools use. */
static bool parse_shard(struct cli *c, unsigned word, uint32_t *shard)
{
    const char *text = c->words[word];
    uint64_t n;
    if (!cli_parse_number(strncmp(text, "shardId-", 8) == 0 ? text + 8 : text, &n) || n > UINT32_MAX) {
        cli_usage(c, "a shard's number is needed, not '%s'", text);
        return false;
    }
    *shard = (uint32_t)n;
    return true;
}

/* The shards that have a shard among their parents. */
static json_t *children_of(const Sluice__StreamInfo *s, uint32_t parent)
{
    json_t *list = json_array();
    for (size_t i = 0; i < s->n_shards; i++) {
        for (size_t k = 0; k < s->shards[i]->n_parents; k++) {
            if (s->shards[i]->parents[k] == parent) {
                json_array_append_new(list, json_integer((json_int_t)s->shards[i]->shard));
            }
        }
    }
    return list;
}

/* Asks, waits, tells. */
static int reshard(struct cli *c, const Sluice__StreamReshard *m, const char *what)
{
    Sluice__StreamReply *reply;
    int status = cli_reshard(c, m, cli_flag(c, "no-wait"), &reply);
    if (status != CLI_DONE) {
        return status;
    }
    json_t *children = children_of(reply->stream, m->shard);
    if (c->json) {
        cli_print_json(json_pack("{s:s, s:I, s:O}", "stream", c->words[0], "shard", (json_int_t)m->shard, "children", children));
    } else if (json_array_size(children) == 0) {
        fprintf(stderr, "the %s of shard %u has begun\n", what, m->shard);
    } else {
        char *text = json_dumps(children, JSON_COMPACT);
        fprintf(stderr, "%s: the keys of shard %u are in %s now\n", what, m->shard, text);
        free(text);
    }
    json_decref(children);
    cli_free(reply);
    return CLI_DONE;
}

static int split(struct cli *c)
{
    Sluice__StreamReshard m = SLUICE__STREAM_RESHARD__INIT;
    struct hash128 at;
    m.name = (char *)(uintptr_t)c->words[0];
    m.kind = SLUICE__STREAM_RESHARD__KIND__SPLIT;
    if (!parse_shard(c, 1, &m.shard)) {
        return CLI_USAGE;
    }
    const char *text = cli_value(c, "at");
    if (text != NULL) {
        if (!hash_from_decimal(text, &at)) {
            return cli_usage(c, "--at: a hash key is a number below 2^128, not '%s'", text);
        }
        m.hash = (ProtobufCBinaryData){.len = 16, .data = at.b};
    }
    return reshard(c, &m, "split");
}

const struct cli_command cli_shard_split = {
    "shard", "split", "STREAM SHARD", 2, 2,
    "Split a shard in two, while it is written and read: it is closed, and two new ones share its keys. Waits until they take records.",
    {{"at", "HASH", "the first hash key of the upper one (default: the middle)"}, {"no-wait", NULL, "do not wait"}},
    split};

static int merge(struct cli *c)
{
    Sluice__StreamReshard m = SLUICE__STREAM_RESHARD__INIT;
    m.name = (char *)(uintptr_t)c->words[0];
    m.kind = SLUICE__STREAM_RESHARD__KIND__MERGE;
    if (!parse_shard(c, 1, &m.shard) || !parse_shard(c, 2, &m.adjacent)) {
        return CLI_USAGE;
    }
    return reshard(c, &m, "merge");
}

const struct cli_command cli_shard_merge = {
    "shard", "merge", "STREAM A B", 3, 3,
    "Merge two neighbours, B beginning where A ends, while they are written and read: both are closed, and a new shard has their keys. Waits until it takes records.",
    {{"no-wait", NULL, "do not wait"}},
    merge};

static int transfer(struct cli *c)
{
    uint32_t shard;
    uint64_t to;
    if (!parse_shard(c, 1, &shard) || !cli_number(c, "to", 0, 1, UINT32_MAX, &to)) {
        return CLI_USAGE;
    }
    Sluice__Transfer m = SLUICE__TRANSFER__INIT;
    m.shard = shard;
    m.to_node = (uint32_t)to;
    const struct sluice_call_options o = {.stream = c->words[0], .shard = shard};
    Sluice__Empty *reply;
    int status = cli_request(c, FRAME_TRANSFER, &m.base, &o, &reply);
    if (status == 0) {
        cli_free(reply);
        if (c->json) {
            cli_print_json(json_pack("{s:I}", "shard", (json_int_t)shard));
        } else {
            fprintf(stderr, "the leadership of shard %u was handed over\n", shard);
        }
    }
    return status;
}

const struct cli_command cli_shard_transfer = {
    "shard", "transfer", "STREAM SHARD", 2, 2, "Hand a shard's leadership to another replica.", {{"to", "NODE", "to which node (default: any)"}}, transfer};
