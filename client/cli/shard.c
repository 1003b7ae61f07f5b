/* sluice shard list|transfer */
#include "client/cli/cli.h"

#include <stdlib.h>

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

static int transfer(struct cli *c)
{
    uint64_t shard, to;
    if (!cli_parse_number(c->words[1], &shard) || shard > UINT32_MAX) {
        return cli_usage(c, "a shard's number is needed, not '%s'", c->words[1]);
    }
    if (!cli_number(c, "to", 0, 1, UINT32_MAX, &to)) {
        return CLI_USAGE;
    }
    Sluice__Transfer m = SLUICE__TRANSFER__INIT;
    m.shard = (uint32_t)shard;
    m.to_node = (uint32_t)to;
    const struct sluice_call_options o = {.stream = c->words[0], .shard = (uint32_t)shard};
    Sluice__Empty *reply;
    int status = cli_request(c, FRAME_TRANSFER, &m.base, &o, &reply);
    if (status == 0) {
        cli_free(reply);
        if (c->json) {
            cli_print_json(json_pack("{s:I}", "shard", (json_int_t)shard));
        } else {
            fprintf(stderr, "the leadership of shard %llu was handed over\n", (unsigned long long)shard);
        }
    }
    return status;
}

const struct cli_command cli_shard_transfer = {
    "shard", "transfer", "STREAM SHARD", 2, 2, "Hand a shard's leadership to another replica.", {{"to", "NODE", "to which node (default: any)"}}, transfer};
