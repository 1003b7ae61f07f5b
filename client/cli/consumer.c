/* sluice consumer register|list|remove */
#include "client/cli/cli.h"

#include <stdlib.h>

static json_t *consumer_json(const Sluice__ConsumerInfo *x)
{
    char created[32];
    cli_time_text(x->created_ms, created);
    return json_pack("{s:s, s:I, s:s, s:o}", "name", x->name, "id", (json_int_t)x->id, "created", created, "tags", cli_tags_json(x->tags, x->n_tags));
}

static int register_one(struct cli *c)
{
    Sluice__ConsumerRegister m = SLUICE__CONSUMER_REGISTER__INIT;
    struct cli_tags tags;
    m.stream = (char *)(uintptr_t)c->words[0];
    m.name = (char *)(uintptr_t)c->words[1];
    if (!cli_tags(c, "tags", true, &tags)) {
        return CLI_USAGE;
    }
    m.n_tags = tags.n;
    m.tags = tags.list;
    Sluice__ConsumerReply *reply;
    int status = cli_request(c, FRAME_CONSUMER_REGISTER, &m.base, NULL, &reply);
    cli_tags_free(&tags);
    if (status != CLI_DONE) {
        return status;
    }
    if (reply->consumer == NULL) {
        status = cli_error("the node's answer names no consumer");
    } else if (c->json) {
        cli_print_json(consumer_json(reply->consumer));
    } else {
        fprintf(stderr, "registered %s\n", reply->consumer->name);
    }
    cli_free(reply);
    return status;
}

const struct cli_command cli_consumer_register = {
    "consumer", "register", "STREAM NAME", 2, 2, "Register a consumer of a stream: records are pushed to it, with a throughput of its own.",
    {{"tags", "KEY=VALUE,...", "its tags"}},
    register_one};

static int list(struct cli *c)
{
    Sluice__ConsumerList m = SLUICE__CONSUMER_LIST__INIT;
    m.stream = (char *)(uintptr_t)c->words[0];
    Sluice__ConsumerListReply *reply;
    int status = cli_request(c, FRAME_CONSUMER_LIST, &m.base, NULL, &reply);
    if (status != CLI_DONE) {
        return status;
    }
    json_t *all = json_array();
    struct cli_table t = {.columns = 3};
    cli_table_cell(&t, "NAME");
    cli_table_cell(&t, "CREATED");
    cli_table_cell(&t, "TAGS");
    for (size_t i = 0; i < reply->n_consumers; i++) {
        const Sluice__ConsumerInfo *x = reply->consumers[i];
        char created[32];
        cli_time_text(x->created_ms, created);
        json_array_append_new(all, consumer_json(x));
        cli_table_cell(&t, "%s", x->name);
        cli_table_cell(&t, "%s", created);
        cli_table_cell(&t, "%zu", x->n_tags);
    }
    cli_free(reply);
    return cli_print_list(c, all, &t);
}

const struct cli_command cli_consumer_list = {"consumer", "list", "STREAM", 1, 1, "List the registered consumers of a stream.", {{.name = NULL}}, list};

static int remove_one(struct cli *c)
{
    Sluice__ConsumerRemove m = SLUICE__CONSUMER_REMOVE__INIT;
    m.stream = (char *)(uintptr_t)c->words[0];
    m.name = (char *)(uintptr_t)c->words[1];
    Sluice__ConsumerReply *reply;
    int status = cli_request(c, FRAME_CONSUMER_REMOVE, &m.base, NULL, &reply);
    if (status == CLI_DONE) {
        cli_free(reply);
        if (c->json) {
            cli_print_json(json_pack("{s:s}", "removed", c->words[1]));
        } else {
            fprintf(stderr, "removed %s\n", c->words[1]);
        }
    }
    return status;
}

const struct cli_command cli_consumer_remove = {
    "consumer", "remove", "STREAM NAME", 2, 2, "Remove a registered consumer: what is pushed to it ends.", {{.name = NULL}}, remove_one};
