/* sluice top: the cluster and the rates of its streams, again and again. Rates come from the ends of the shards. */
#include "client/cli/cli.h"

#include <signal.h>
#include <stdlib.h>
#include <unistd.h>

enum { STREAMS_MAX = 50 };

struct seen { char name[256]; uint64_t end, at_ns; bool known; };

/* Records per second since the last look; -1 at the first. */
static double rate(struct seen *all, const char *name, uint64_t end, uint64_t now)
{
    struct seen *s = NULL;
    for (unsigned i = 0; i < STREAMS_MAX; i++) {
        if (all[i].known && strcmp(all[i].name, name) == 0) {
            s = &all[i];
            break;
        }
        if (!all[i].known && s == NULL) {
            s = &all[i];
        }
    }
    if (s == NULL) {
        return -1;
    }
    double r = s->known && now > s->at_ns && end >= s->end ? (double)(end - s->end) * 1e9 / (double)(now - s->at_ns) : -1;
    snprintf(s->name, sizeof s->name, "%s", name);
    s->end = end;
    s->at_ns = now;
    s->known = true;
    return r;
}

static json_t *stream_row(struct cli *c, struct cli_table *t, const char *name, struct seen *seen)
{
    Sluice__StreamDescribe m = SLUICE__STREAM_DESCRIBE__INIT;
    m.name = (char *)(uintptr_t)name;
    Sluice__StreamReply *reply;
    if (cli_ask(c, FRAME_STREAM_DESCRIBE, &m.base, NULL, &reply, NULL, 0) != 0 || reply->stream == NULL) {
        cli_free(reply);
        return NULL;
    }
    cli_ask_ends(c, reply->stream);
    uint64_t end = 0, kept = 0;
    unsigned leaderless = 0, open = 0;
    for (size_t i = 0; i < reply->stream->n_shards; i++) {
        const Sluice__ShardInfo *s = reply->stream->shards[i];
        end += s->end_offset != CLI_NO_OFFSET ? s->end_offset : 0;
        kept += s->end_offset - min_u64(s->first_offset, s->end_offset);
        open += s->open;
        leaderless += s->open && s->leader == 0;
    }
    cli_free(reply);
    double r = rate(seen, name, end, env_clock_ns(c->env));
    cli_table_cell(t, "%s", name);
    cli_table_cell(t, "%u", open);
    cli_table_cell(t, "%u", leaderless);
    cli_table_cell(t, "%llu", (unsigned long long)kept);
    if (r >= 0) {
        cli_table_cell(t, "%.0f", r);
    } else {
        cli_table_cell(t, "-");
    }
    return json_pack("{s:s, s:i, s:i, s:I, s:o}", "stream", name, "open_shards", (int)open, "without_leader", (int)leaderless, "records", (json_int_t)kept,
                     "records_per_s", r >= 0 ? json_real(r) : json_null());
}

static int look(struct cli *c, struct seen *seen, bool screen)
{
    Sluice__Empty empty = SLUICE__EMPTY__INIT;
    Sluice__ClusterStatusReply *status;
    int code = cli_request(c, FRAME_CLUSTER_STATUS, &empty.base, NULL, &status);
    if (code != 0) {
        return code;
    }
    Sluice__StreamList list = SLUICE__STREAM_LIST__INIT;
    list.limit = STREAMS_MAX;
    Sluice__StreamListReply *streams;
    code = cli_request(c, FRAME_STREAM_LIST, &list.base, NULL, &streams);
    if (code != 0) {
        cli_free(status);
        return code;
    }
    struct cli_table nodes = {.columns = 5}, rows = {.columns = 5};
    static const char *const node_heads[] = {"NODE", "ADDRESS", "ALIVE", "LEADERS", "REPLICAS"};
    static const char *const heads[] = {"STREAM", "SHARDS", "LEADERLESS", "RECORDS", "RECORDS/S"};
    for (size_t i = 0; i < 5; i++) {
        cli_table_cell(&nodes, "%s", node_heads[i]);
        cli_table_cell(&rows, "%s", heads[i]);
    }
    json_t *node_list = json_array(), *stream_list = json_array();
    for (size_t i = 0; i < status->n_nodes; i++) {
        const Sluice__NodeInfo *n = status->nodes[i];
        bool alive = n->state == SLUICE__NODE_INFO__STATE__ALIVE || n->state == SLUICE__NODE_INFO__STATE__DRAINING;
        cli_table_cell(&nodes, "%u", n->id);
        cli_table_cell(&nodes, "%s", n->address);
        cli_table_cell(&nodes, "%s", alive ? "yes" : "no");
        cli_table_cell(&nodes, "%u", n->leaders);
        cli_table_cell(&nodes, "%u", n->replicas);
        json_array_append_new(node_list, json_pack("{s:I, s:b, s:i, s:i}", "node", (json_int_t)n->id, "alive", alive, "leaders", (int)n->leaders, "replicas",
                                                   (int)n->replicas));
    }
    for (size_t i = 0; i < streams->n_streams && i < STREAMS_MAX; i++) {
        json_t *row = stream_row(c, &rows, streams->streams[i]->name, seen);
        if (row != NULL) {
            json_array_append_new(stream_list, row);
        }
    }
    if (c->json) {
        cli_print_json(json_pack("{s:i, s:i, s:o, s:o}", "shards_without_leader", (int)status->shards_without_leader, "under_replicated",
                                 (int)status->under_replicated, "nodes", node_list, "streams", stream_list));
        cli_table_free(&nodes);
        cli_table_free(&rows);
    } else {
        fputs(screen ? "\033[H\033[2J" : "", stdout);
        printf("%u streams, %u shards, %u without a leader, %u under-replicated\n\n", status->streams, status->shards, status->shards_without_leader,
               status->under_replicated);
        cli_table_print(&nodes, stdout);
        putchar('\n');
        cli_table_print(&rows, stdout);
        if (streams->more) {
            printf("(the first %d streams)\n", STREAMS_MAX);
        }
        json_decref(node_list);
        json_decref(stream_list);
    }
    fflush(stdout);
    cli_free(status);
    cli_free(streams);
    return 0;
}

static int top(struct cli *c)
{
    uint64_t interval, count;
    if (!cli_number(c, "interval", 1, 1, 3600, &interval) || !cli_number(c, "count", 0, 0, UINT64_MAX, &count) || !cli_open(c)) {
        return CLI_USAGE;
    }
    struct seen *seen = xcalloc(STREAMS_MAX, sizeof *seen);
    bool screen = isatty(STDOUT_FILENO) && !c->json;
    int status = 0;
    for (uint64_t i = 0; status == 0 && (count == 0 || i < count) && !ferror(stdout); i++) {
        if (i > 0) {
            cli_sleep(c, (unsigned)interval * 1000);
        }
        status = look(c, seen, screen);
    }
    free(seen);
    return status;
}

const struct cli_command cli_top_command = {
    "top", NULL, "", 0, 0, "Show the cluster and the rates of its streams, again and again until interrupted.",
    {{"interval", "SECONDS", "between two looks (default 1)"}, {"count", "N", "end after N looks (default 0: never)"}},
    top};
