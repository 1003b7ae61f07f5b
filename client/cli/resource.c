/* sluice stream tag|policy: what a stream, or one of its consumers, carries beside. */
#include "client/cli/cli.h"

#include <errno.h>
#include <stdlib.h>

/* ---- lists of tags as arguments ---- */

bool cli_tags(struct cli *c, const char *option, bool values, struct cli_tags *out)
{
    *out = (struct cli_tags){0};
    const char *text = cli_value(c, option);
    if (text == NULL) {
        return true;
    }
    out->text = xstrdup(text);
    char *rest = out->text;
    for (char *item = strsep(&rest, ","); item != NULL; item = strsep(&rest, ",")) {
        char *equals = values ? strchr(item, '=') : NULL;
        if (item[0] == '\0' || (values && (equals == NULL || equals == item))) {
            cli_usage(c, "--%s: %s is needed, not '%s'", option, values ? "KEY=VALUE,KEY=VALUE,..." : "KEY,KEY,...", text);
            cli_tags_free(out);
            return false;
        }
        if (values) {
            *equals = '\0';
        }
        out->infos = xrealloc(out->infos, (out->n + 1) * sizeof *out->infos);
        sluice__tag__init(&out->infos[out->n]);
        out->infos[out->n].key = item;
        out->infos[out->n].value = values ? equals + 1 : item;
        out->n++;
    }
    out->list = xcalloc(out->n, sizeof *out->list);
    out->keys = xcalloc(out->n, sizeof *out->keys);
    for (size_t i = 0; i < out->n; i++) {
        out->list[i] = &out->infos[i];
        out->keys[i] = out->infos[i].key;
    }
    return true;
}

void cli_tags_free(struct cli_tags *t)
{
    free(t->text);
    free(t->infos);
    free(t->list);
    free(t->keys);
    *t = (struct cli_tags){0};
}

json_t *cli_tags_json(Sluice__Tag *const *tags, size_t n)
{
    json_t *all = json_object();
    for (size_t i = 0; i < n; i++) {
        json_object_set_new(all, tags[i]->key, json_string(tags[i]->value));
    }
    return all;
}

/* ---- asking and changing ---- */

static int get(struct cli *c, Sluice__ResourceReply **reply)
{
    Sluice__ResourceGet m = SLUICE__RESOURCE_GET__INIT;
    m.stream = (char *)(uintptr_t)c->words[0];
    m.consumer = (char *)(uintptr_t)(cli_value(c, "consumer") != NULL ? cli_value(c, "consumer") : "");
    return cli_request(c, FRAME_RESOURCE_GET, &m.base, NULL, reply);
}

static int change(struct cli *c, Sluice__ResourceChange *m, Sluice__ResourceReply **reply)
{
    m->stream = (char *)(uintptr_t)c->words[0];
    m->consumer = (char *)(uintptr_t)(cli_value(c, "consumer") != NULL ? cli_value(c, "consumer") : "");
    return cli_request(c, FRAME_RESOURCE_CHANGE, &m->base, NULL, reply);
}

static int tag(struct cli *c)
{
    struct cli_tags set, gone;
    if (!cli_tags(c, "set", true, &set)) {
        return CLI_USAGE;
    }
    if (!cli_tags(c, "remove", false, &gone)) {
        cli_tags_free(&set);
        return CLI_USAGE;
    }
    Sluice__ResourceChange m = SLUICE__RESOURCE_CHANGE__INIT;
    m.n_tags = set.n;
    m.tags = set.list;
    m.n_untag = gone.n;
    m.untag = gone.keys;
    Sluice__ResourceReply *reply;
    int status = set.n + gone.n > 0 ? change(c, &m, &reply) : get(c, &reply);
    cli_tags_free(&set);
    cli_tags_free(&gone);
    if (status != CLI_DONE) {
        return status;
    }
    struct cli_table t = {.columns = 2};
    cli_table_cell(&t, "KEY");
    cli_table_cell(&t, "VALUE");
    for (size_t i = 0; i < reply->n_tags; i++) {
        cli_table_cell(&t, "%s", reply->tags[i]->key);
        cli_table_cell(&t, "%s", reply->tags[i]->value);
    }
    json_t *all = cli_tags_json(reply->tags, reply->n_tags);
    cli_free(reply);
    return cli_print_list(c, all, &t);
}

const struct cli_command cli_stream_tag = {
    "stream", "tag", "NAME", 1, 1, "Set, remove and list tags: those that are there after it are listed.",
    {{"set", "KEY=VALUE,...", "tags to set"},
     {"remove", "KEY,...", "tags to take away"},
     {"consumer", "NAME", "of this consumer, instead of the stream's own"}},
    tag};

/* The whole of a small file; malloc'ed. NULL: told on stderr. */
static char *read_small(const char *file)
{
    enum { MOST = 20480 };
    FILE *f = strcmp(file, "-") == 0 ? stdin : fopen(file, "re");
    if (f == NULL) {
        cli_error("cannot open %s: %s", file, strerror(errno));
        return NULL;
    }
    char *text = xmalloc(MOST + 2);
    size_t n = fread(text, 1, MOST + 1, f);
    bool bad = ferror(f) || n > MOST || memchr(text, 0, n) != NULL;
    text[n] = '\0';
    if (f != stdin) {
        fclose(f);
    }
    if (bad) {
        cli_error("%s cannot be read, or is no text of at most 20 KiB", file);
        free(text);
        return NULL;
    }
    return text;
}

static int policy(struct cli *c)
{
    const char *file = cli_value(c, "set");
    bool drop = cli_flag(c, "delete");
    if (file != NULL && drop) {
        return cli_usage(c, "--set and --delete exclude each other");
    }
    char *text = file != NULL ? read_small(file) : NULL;
    if (file != NULL && text == NULL) {
        return CLI_FAILED;
    }
    Sluice__ResourceChange m = SLUICE__RESOURCE_CHANGE__INIT;
    m.drop_policy = drop;
    m.policy = text != NULL ? text : m.policy;
    if (text != NULL && text[0] == '\0') {
        free(text);
        return cli_usage(c, "--set: %s is empty", file);
    }
    Sluice__ResourceReply *reply;
    int status = text != NULL || drop ? change(c, &m, &reply) : get(c, &reply);
    free(text);
    if (status != CLI_DONE) {
        return status;
    }
    if (c->json) {
        json_t *j = json_loads(reply->policy, 0, NULL);
        cli_print_json(json_pack("{s:o}", "policy", j != NULL ? j : json_null()));
    } else if (file == NULL && !drop && reply->policy[0] != '\0') {
        puts(reply->policy);
    } else {
        fprintf(stderr, "%s\n", drop ? "the policy is deleted" : file != NULL ? "the policy is set" : "there is no policy");
    }
    cli_free(reply);
    return CLI_DONE;
}

const struct cli_command cli_stream_policy = {
    "stream", "policy", "NAME", 1, 1, "Print, set or delete a resource policy. It is kept for AWS's tools and not enforced.",
    {{"set", "FILE", "set it: a JSON object, - is the standard input"},
     {"delete", NULL, "delete it"},
     {"consumer", "NAME", "of this consumer, instead of the stream's own"}},
    policy};
