/* top.h: what the parts of `sluice top` share: top.c the loop and the keys, top_look.c asking the cluster, top_show.c rates as tables and JSON. */
#ifndef SLUICE_CLI_TOP_H
#define SLUICE_CLI_TOP_H

#include "client/cli/nodes.h"
#include "client/exposition.h"

enum { TOP_STREAMS_MAX = 50, TOP_SHARDS_MAX = 2000 };

struct top_shard {
    uint32_t shard, leader; /* leader 0: none */
    bool open, answered;
    uint64_t first, end, written_bytes, read_records, read_bytes, behind; /* the last four as counted by the leader's replica */
};
struct top_stream { char name[256]; struct top_shard *shards; size_t n; };
struct top_node {
    uint32_t id, leaders, replicas;
    int state;              /* Sluice__NodeInfo__State */
    char address[256];
    bool known;             /* the fields below are; it answered with its metrics */
    uint64_t at_ns;
    double cpu_s, resident, disk_free, put_records, put_bytes, fetch_records, fetch_bytes;
    struct exposition_histogram put_latency;
};
/* What was seen at one moment. Rates come from two of them. */
struct top_look {
    uint64_t at_ns;
    uint32_t n_streams_all, n_shards_all, leaderless, under_replicated;
    uint32_t seen_by;       /* not 0: no leader of the controller answered, and this is what this node sees itself */
    bool more;              /* streams or shards that were not asked */
    struct top_node *nodes;
    size_t n_nodes;
    struct top_stream *streams;
    size_t n_streams;
};

/* Asks the cluster, its nodes and the leaders of the shards. 0, and *out is to be freed; or the exit status, told on stderr. */
int top_look(struct cli *c, struct cli_nodes *nodes, struct top_look *out);
void top_look_free(struct top_look *l);

enum top_sort { TOP_BY_NAME, TOP_BY_IN, TOP_BY_OUT, TOP_BY_BEHIND };
struct top_view { enum top_sort sort; bool shards; };
/* before->at_ns 0: there was no earlier look, and rates are not known. */
void top_print(FILE *to, const struct top_look *before, const struct top_look *now, struct top_view view);
json_t *top_json(const struct top_look *before, const struct top_look *now);

#endif
