/* One look at a cluster: its status, every node's metrics, and what passed through each shard by its leader's own count. */
#include <stdlib.h>

#include "client/cli/top.h"

/* ---- nodes ----------------------------------------------------------------------------------------------------------------- */

static void take_metrics(struct top_node *n, const struct cli_node *from)
{
    static const struct { const char *name; size_t at; } fields[] = {
        {"process_cpu_seconds_total", offsetof(struct top_node, cpu_s)},          {"process_resident_memory_bytes", offsetof(struct top_node, resident)},
        {"sluice_disk_free_bytes", offsetof(struct top_node, disk_free)},         {"sluice_put_records_total", offsetof(struct top_node, put_records)},
        {"sluice_put_bytes_total", offsetof(struct top_node, put_bytes)},         {"sluice_fetch_records_total", offsetof(struct top_node, fetch_records)},
        {"sluice_fetch_bytes_total", offsetof(struct top_node, fetch_bytes)},
    };
    n->known = from->text != NULL;
    n->at_ns = from->at_ns;
    for (size_t i = 0; n->known && i < ARRAY_LEN(fields); i++) {
        n->known = exposition_value(from->text, fields[i].name, (double *)(void *)((char *)n + fields[i].at));
    }
    if (n->known) {
        exposition_histogram_add(from->text, "sluice_put_seconds", &n->put_latency);
    }
}

static void take_nodes(struct cli *c, struct cli_nodes *nodes, const Sluice__ClusterStatusReply *status, struct top_look *out)
{
    cli_nodes_update(nodes, status);
    cli_nodes_ask(c, nodes);
    out->nodes = xcalloc(status->n_nodes + 1, sizeof *out->nodes);
    for (size_t i = 0; i < status->n_nodes; i++) {
        const Sluice__NodeInfo *info = status->nodes[i];
        struct top_node *n = &out->nodes[out->n_nodes++];
        *n = (struct top_node){.id = info->id, .leaders = info->leaders, .replicas = info->replicas, .state = (int)info->state};
        snprintf(n->address, sizeof n->address, "%s", info->address);
        for (size_t j = 0; j < nodes->n; j++) {
            if (nodes->v[j].id == info->id) {
                take_metrics(n, &nodes->v[j]);
            }
        }
    }
}

/* ---- shards ---------------------------------------------------------------------------------------------------------------- */

struct asking { struct cli *cli; size_t waiting; };
struct ask { struct asking *all; struct top_shard *shard; };

static void position_known(const struct sluice_result *r, void *user)
{
    struct ask *a = user;
    if (r->code == 0) {
        const Sluice__PositionReply *p = (const Sluice__PositionReply *)r->reply;
        a->shard->answered = true;
        a->shard->first = p->first_offset;
        a->shard->end = p->offset;
        a->shard->written_bytes = p->written_bytes;
        a->shard->read_records = p->read_records;
        a->shard->read_bytes = p->read_bytes;
        a->shard->behind = p->entries_behind;
    }
    if (--a->all->waiting == 0) {
        env_stop(a->all->cli->env);
    }
}

static void take_stream(struct cli *c, const char *name, struct top_look *out, size_t *n_asked)
{
    Sluice__StreamDescribe m = SLUICE__STREAM_DESCRIBE__INIT;
    m.name = (char *)(uintptr_t)name;
    Sluice__StreamReply *reply;
    if (cli_ask(c, FRAME_STREAM_DESCRIBE, &m.base, NULL, &reply, NULL, 0) != 0 || reply->stream == NULL) {
        cli_free(reply);
        return; /* deleted since it was listed */
    }
    struct top_stream *s = &out->streams[out->n_streams++];
    snprintf(s->name, sizeof s->name, "%s", name);
    size_t n = min_u64(reply->stream->n_shards, TOP_SHARDS_MAX - *n_asked);
    out->more = out->more || n < reply->stream->n_shards;
    *n_asked += n;
    s->shards = xcalloc(n + 1, sizeof *s->shards);
    struct asking all = {.cli = c};
    struct ask *each = xcalloc(n + 1, sizeof *each);
    for (size_t i = 0; i < n; i++) {
        const Sluice__ShardInfo *info = reply->stream->shards[i];
        struct top_shard *shard = &s->shards[s->n++];
        *shard = (struct top_shard){.shard = info->shard, .leader = info->leader, .open = info->open};
        Sluice__Position p = SLUICE__POSITION__INIT;
        p.shard = info->shard;
        p.kind = SLUICE__POSITION__KIND__LATEST;
        const struct sluice_call_options o = {.stream = name, .shard = info->shard, .timeout_ms = 1000};
        each[i] = (struct ask){.all = &all, .shard = shard};
        all.waiting += sluice_call(c->client, FRAME_POSITION, &p.base, &o, position_known, &each[i]) == 0;
    }
    while (all.waiting > 0) {
        env_uv_run(c->env);
    }
    free(each);
    cli_free(reply);
}

/* ---- all of it ------------------------------------------------------------------------------------------------------------- */

int top_look(struct cli *c, struct cli_nodes *nodes, struct top_look *out)
{
    *out = (struct top_look){0};
    Sluice__Empty empty = SLUICE__EMPTY__INIT;
    Sluice__ClusterStatusReply *status;
    int code = cli_request(c, FRAME_CLUSTER_STATUS, &empty.base, NULL, &status);
    if (code != 0) {
        return code;
    }
    Sluice__StreamList list = SLUICE__STREAM_LIST__INIT;
    list.limit = TOP_STREAMS_MAX;
    Sluice__StreamListReply *streams;
    code = cli_request(c, FRAME_STREAM_LIST, &list.base, NULL, &streams);
    if (code != 0) {
        cli_free(status);
        return code;
    }
    out->at_ns = env_clock_ns(c->env);
    out->n_streams_all = status->streams;
    out->n_shards_all = status->shards;
    out->leaderless = status->shards_without_leader;
    out->under_replicated = status->under_replicated;
    out->more = streams->more;
    out->seen_by = status->controller_leader == 0 || status->controller_leader != status->answering_node ? status->answering_node : 0;
    take_nodes(c, nodes, status, out);
    out->streams = xcalloc(TOP_STREAMS_MAX, sizeof *out->streams);
    size_t n_asked = 0;
    for (size_t i = 0; i < streams->n_streams && i < TOP_STREAMS_MAX; i++) {
        take_stream(c, streams->streams[i]->name, out, &n_asked);
    }
    cli_free(status);
    cli_free(streams);
    return 0;
}

void top_look_free(struct top_look *l)
{
    for (size_t i = 0; i < l->n_streams; i++) {
        free(l->streams[i].shards);
    }
    free(l->streams);
    free(l->nodes);
    *l = (struct top_look){0};
}
