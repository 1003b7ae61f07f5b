/* sluice stream create|update|list|describe|delete */
#include "client/cli/cli.h"

#include <stdlib.h>

enum { ACTIVE_WAIT_MS = 30000, RECORD_LEAST = 1 << 20, RECORD_MOST = 10 << 20 };

static const char *status_text(int status)
{
    static const char *const texts[] = {"CREATING", "ACTIVE", "UPDATING", "DELETING"};
    return status >= 0 && status < (int)ARRAY_LEN(texts) ? texts[status] : "UNKNOWN";
}

static json_t *stream_json(const Sluice__StreamInfo *s)
{
    char id[33], created[32];
    cli_hex(&s->id, id);
    cli_time_text(s->created_ms, created);
    size_t open = 0;
    for (size_t i = 0; i < s->n_shards; i++) {
        open += s->shards[i]->open;
    }
    uint64_t records;
    bool known = cli_records(s, &records);
    json_t *j = json_pack("{s:s, s:s, s:s, s:s, s:i, s:i, s:s, s:s, s:b}", "name", s->name, "account", s->account, "id", id, "status",
                          status_text((int)s->status), "retention_hours", (int)s->retention_hours, "replicas", (int)s->replicas, "created", created,
                          "limits", s->limits_off ? "off" : "kinesis", "on_demand", s->on_demand);
    json_object_set_new(j, "record_max", json_integer((json_int_t)s->record_max));
    json_object_set_new(j, "consumers", json_integer((json_int_t)s->consumers));
    json_object_set_new(j, "shards", json_integer((json_int_t)(s->n_shards > 0 ? s->n_shards : s->shard_count)));
    if (s->n_shards > 0) {
        json_object_set_new(j, "open_shards", json_integer((json_int_t)open));
        json_object_set_new(j, "records", known ? json_integer((json_int_t)records) : json_null());
        json_object_set_new(j, "tags", cli_tags_json(s->tags, s->n_tags)); /* lists have none */
    }
    return j;
}

static int print_stream(struct cli *c, const Sluice__StreamInfo *s)
{
    if (c->json) {
        cli_print_json(stream_json(s));
        return CLI_DONE;
    }
    char id[33], created[32];
    cli_hex(&s->id, id);
    cli_time_text(s->created_ms, created);
    uint64_t records;
    bool known = cli_records(s, &records);
    unsigned open = 0, leaderless = 0;
    for (size_t i = 0; i < s->n_shards; i++) {
        const Sluice__ShardInfo *sh = s->shards[i];
        open += sh->open;
        leaderless += sh->open && sh->leader == 0;
    }
    printf("name        %s\nstatus      %s\nid          %s\ncreated     %s\nshards      %zu (%u open%s)\nreplicas    %u\nretention   %u h\nlimits      %s%s\n"
           "records     %s%llu%s\nrecord max  %u KiB\nconsumers   %u\n",
           s->name, status_text((int)s->status), id, created, s->n_shards > 0 ? s->n_shards : s->shard_count, open, leaderless > 0 ? ", some without a leader" : "",
           s->replicas, s->retention_hours, s->limits_off ? "off" : "kinesis", s->on_demand ? ", on demand" : "", known ? "" : "at least ", (unsigned long long)records, known ? "" : " (not every shard has a leader that answers)",
           s->record_max / 1024, s->consumers);
    for (size_t i = 0; i < s->n_tags; i++) {
        printf("%-12s%s = %s\n", i == 0 ? "tags" : "", s->tags[i]->key, s->tags[i]->value);
    }
    return CLI_DONE;
}

static int create(struct cli *c)
{
    uint64_t shards, hours, replicas, record_max;
    if (!cli_number(c, "shards", cli_flag(c, "on-demand") ? 0 : 1, 1, 10000, &shards) || !cli_number(c, "retention-hours", 0, 24, 8760, &hours) ||
        !cli_number(c, "replicas", 0, 1, 7, &replicas) || !cli_size(c, "record-max", 0, RECORD_LEAST, RECORD_MOST, &record_max)) {
        return CLI_USAGE;
    }
    if (cli_flag(c, "on-demand") && cli_value(c, "shards") != NULL) {
        return cli_usage(c, "--on-demand and --shards exclude each other");
    }
    Sluice__StreamCreate m = SLUICE__STREAM_CREATE__INIT;
    m.name = (char *)(uintptr_t)c->words[0];
    m.shards = (uint32_t)shards;
    m.retention_hours = (uint32_t)hours;
    m.replicas = (uint32_t)replicas;
    m.on_demand = cli_flag(c, "on-demand");
    m.record_max = (uint32_t)record_max;
    struct cli_tags tags;
    if (!cli_tags(c, "tags", true, &tags)) {
        return CLI_USAGE;
    }
    m.n_tags = tags.n;
    m.tags = tags.list;
    Sluice__StreamReply *reply;
    int status = cli_request(c, FRAME_STREAM_CREATE, &m.base, NULL, &reply);
    cli_tags_free(&tags);
    if (status != 0) {
        return status;
    }
    cli_free(reply);
    if (!cli_flag(c, "no-wait") && !cli_wait_active(c, c->words[0], ACTIVE_WAIT_MS)) {
        return cli_error("the stream '%s' was created, but not every shard has a leader after %d s", c->words[0], ACTIVE_WAIT_MS / 1000);
    }
    status = cli_describe(c, c->words[0], &reply);
    /* Another node may answer than the one waited for, with a map that is a moment older. */
    for (int i = 0; i < 100 && status == 0 && !cli_flag(c, "no-wait") && reply->stream->status == SLUICE__STREAM_INFO__STATUS__CREATING; i++) {
        cli_free(reply);
        cli_sleep(c, 30);
        status = cli_describe(c, c->words[0], &reply);
    }
    if (status == 0) {
        if (c->json) {
            cli_ask_ends(c, reply->stream);
            cli_print_json(stream_json(reply->stream));
        } else {
            fprintf(stderr, "created %s with %zu shard%s\n", c->words[0], reply->stream->n_shards, reply->stream->n_shards == 1 ? "" : "s");
        }
        cli_free(reply);
    }
    return status;
}

const struct cli_command cli_stream_create = {
    "stream", "create", "NAME", 1, 1, "Create a stream and wait until its shards have leaders.",
    {{"shards", "N", "number of shards (default 1)"},
     {"on-demand", NULL, "let the cluster choose the number of shards (4)"},
     {"retention-hours", "H", "how long records are kept, 24 to 8760 (default 24)"},
     {"replicas", "R", "copies of each shard (default: the cluster's)"},
     {"record-max", "SIZE", "largest record, key and data, 1m to 10m (default: the cluster's)"},
     {"tags", "KEY=VALUE,...", "its tags"},
     {"no-wait", NULL, "do not wait for leaders"}},
    create};

static int update(struct cli *c)
{
    uint64_t hours, shards, record_max;
    if (!cli_number(c, "retention-hours", 0, 24, 8760, &hours) || !cli_number(c, "shards", 0, 1, 10000, &shards) ||
        !cli_size(c, "record-max", 0, RECORD_LEAST, RECORD_MOST, &record_max)) {
        return CLI_USAGE;
    }
    const char *mode = cli_value(c, "mode");
    if (mode != NULL && strcmp(mode, "provisioned") != 0 && strcmp(mode, "on-demand") != 0) {
        return cli_usage(c, "--mode: provisioned or on-demand, not '%s'", mode);
    }
    const char *limits = cli_value(c, "limits");
    if (limits != NULL && strcmp(limits, "kinesis") != 0 && strcmp(limits, "off") != 0) {
        return cli_usage(c, "--limits: kinesis or off, not '%s'", limits);
    }
    bool settings = limits != NULL || hours != 0 || record_max != 0 || mode != NULL;
    if (!settings && shards == 0) {
        return cli_usage(c, "nothing to change");
    }
    if (cli_flag(c, "no-wait") && shards == 0) {
        return cli_usage(c, "--no-wait is about --shards");
    }
    Sluice__StreamUpdate m = SLUICE__STREAM_UPDATE__INIT;
    m.name = (char *)(uintptr_t)c->words[0];
    m.retention_hours = (uint32_t)hours;
    if (limits != NULL) {
        m.limits = strcmp(limits, "off") == 0 ? SLUICE__STREAM_UPDATE__LIMITS__OFF : SLUICE__STREAM_UPDATE__LIMITS__KINESIS;
    }
    m.record_max = (uint32_t)record_max;
    if (mode != NULL) {
        m.mode = strcmp(mode, "on-demand") == 0 ? SLUICE__STREAM_UPDATE__MODE__ON_DEMAND : SLUICE__STREAM_UPDATE__MODE__PROVISIONED;
    }
    Sluice__StreamReply *reply = NULL;
    int status = settings ? cli_request(c, FRAME_STREAM_UPDATE, &m.base, NULL, &reply) : CLI_DONE;
    if (status == 0 && shards != 0) {
        cli_free(reply);
        Sluice__StreamReshard to = SLUICE__STREAM_RESHARD__INIT;
        to.name = m.name;
        to.kind = SLUICE__STREAM_RESHARD__KIND__COUNT;
        to.target = (uint32_t)shards;
        status = cli_reshard(c, &to, cli_flag(c, "no-wait"), &reply);
    }
    if (status == 0) {
        if (c->json && reply != NULL && reply->stream != NULL) {
            cli_print_json(stream_json(reply->stream));
        } else if (!c->json) {
            fprintf(stderr, "updated %s\n", c->words[0]);
        }
        cli_free(reply);
    }
    return status;
}

const struct cli_command cli_stream_update = {
    "stream", "update", "NAME", 1, 1, "Change a stream's settings.",
    {{"retention-hours", "H", "how long records are kept, 24 to 8760"},
     {"limits", "kinesis|off", "throughput limits per shard"},
     {"record-max", "SIZE", "largest record, key and data, 1m to 10m"},
     {"mode", "provisioned|on-demand", "who chooses the number of shards"},
     {"shards", "N", "number of open shards, all of equal width: half to twice as many as there are"},
     {"no-wait", NULL, "do not wait until there are so many"}},
    update};

static int list(struct cli *c)
{
    char after[256] = "";
    bool more = true;
    json_t *all = json_array();
    struct cli_table t = {.columns = 5};
    cli_table_cell(&t, "NAME");
    cli_table_cell(&t, "STATUS");
    cli_table_cell(&t, "SHARDS");
    cli_table_cell(&t, "RETENTION");
    cli_table_cell(&t, "LIMITS");
    while (more) {
        Sluice__StreamList m = SLUICE__STREAM_LIST__INIT;
        m.after = after;
        m.limit = 1000;
        Sluice__StreamListReply *reply;
        int status = cli_request(c, FRAME_STREAM_LIST, &m.base, NULL, &reply);
        if (status != 0) {
            json_decref(all);
            return status;
        }
        for (size_t i = 0; i < reply->n_streams; i++) {
            const Sluice__StreamInfo *s = reply->streams[i];
            json_array_append_new(all, stream_json(s));
            cli_table_cell(&t, "%s", s->name);
            cli_table_cell(&t, "%s", status_text((int)s->status));
            cli_table_cell(&t, "%u", s->shard_count); /* open ones */
            cli_table_cell(&t, "%u h", s->retention_hours);
            cli_table_cell(&t, "%s", s->limits_off ? "off" : "kinesis");
            snprintf(after, sizeof after, "%s", s->name);
        }
        more = reply->more && reply->n_streams > 0;
        cli_free(reply);
    }
    return cli_print_list(c, all, &t);
}

const struct cli_command cli_stream_list = {"stream", "list", "", 0, 0, "List the streams.", {{.name = NULL}}, list};

static int describe(struct cli *c)
{
    Sluice__StreamReply *reply;
    int status = cli_describe(c, c->words[0], &reply);
    if (status == 0) {
        cli_ask_ends(c, reply->stream);
        print_stream(c, reply->stream);
        cli_free(reply);
    }
    return status;
}

const struct cli_command cli_stream_describe = {"stream", "describe", "NAME", 1, 1, "Tell about one stream.", {{.name = NULL}}, describe};

static int delete(struct cli *c)
{
    Sluice__StreamDelete m = SLUICE__STREAM_DELETE__INIT;
    m.name = (char *)(uintptr_t)c->words[0];
    m.keep_if_consumers = cli_flag(c, "keep-if-consumers");
    Sluice__StreamReply *reply;
    int status = cli_request(c, FRAME_STREAM_DELETE, &m.base, NULL, &reply);
    if (status == 0) {
        cli_free(reply);
        if (c->json) {
            cli_print_json(json_pack("{s:s}", "deleted", c->words[0]));
        } else {
            fprintf(stderr, "deleted %s\n", c->words[0]);
        }
    }
    return status;
}

const struct cli_command cli_stream_delete = {"stream", "delete", "NAME", 1, 1, "Delete a stream, its records and its consumers.",
                                              {{"keep-if-consumers", NULL, "refuse if consumers are registered"}}, delete};
