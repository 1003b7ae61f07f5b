/* sluice cluster status, sluice node list|add|drain|undrain|remove */
#include "client/cli/cli.h"

#include <stdlib.h>

static const char *state_text(int state)
{
    static const char *const texts[] = {"alive", "dead", "draining", "removed", "joining"};
    return state >= 0 && state < (int)ARRAY_LEN(texts) ? texts[state] : "unknown";
}

static json_t *node_json(const Sluice__NodeInfo *n)
{
    return json_pack("{s:I, s:s, s:s, s:s, s:i, s:i, s:s, s:s, s:s}", "node", (json_int_t)n->id, "address", n->address, "zone", n->zone, "state",
                     state_text((int)n->state), "leaders", (int)n->leaders, "replicas", (int)n->replicas, "kinesis", n->kinesis, "admin", n->admin,
                     "version", n->version);
}

static json_t *nodes_json(const Sluice__ClusterStatusReply *r)
{
    json_t *a = json_array();
    for (size_t i = 0; i < r->n_nodes; i++) {
        json_array_append_new(a, node_json(r->nodes[i]));
    }
    return a;
}

static void print_nodes(const Sluice__ClusterStatusReply *r)
{
    struct cli_table t = {.columns = 6};
    static const char *const heads[] = {"NODE", "STATE", "ADDRESS", "ZONE", "LEADERS", "REPLICAS"};
    for (size_t i = 0; i < ARRAY_LEN(heads); i++) {
        cli_table_cell(&t, "%s", heads[i]);
    }
    for (size_t i = 0; i < r->n_nodes; i++) {
        const Sluice__NodeInfo *n = r->nodes[i];
        cli_table_cell(&t, "%u", n->id);
        cli_table_cell(&t, "%s", state_text((int)n->state));
        cli_table_cell(&t, "%s", n->address);
        cli_table_cell(&t, "%s", n->zone[0] != '\0' ? n->zone : "-");
        cli_table_cell(&t, "%u", n->leaders);
        cli_table_cell(&t, "%u", n->replicas);
    }
    cli_table_print(&t, stdout);
}

/* Only the controller's leader sees the whole; others tell what they see themselves. */
static bool from_leader(const Sluice__ClusterStatusReply *r) { return r->controller_leader != 0 && r->controller_leader == r->answering_node; }

/* While a leader is being elected, another look in a moment tells more. */
static int get_status(struct cli *c, Sluice__ClusterStatusReply **reply)
{
    enum { PATIENCE_MS = 3000, AGAIN_MS = 200 };
    Sluice__Empty m = SLUICE__EMPTY__INIT;
    int status = cli_request(c, FRAME_CLUSTER_STATUS, &m.base, NULL, reply);
    uint64_t end = env_clock_ns(c->env) + PATIENCE_MS * 1000000ull;
    while (status == 0 && !from_leader(*reply) && env_clock_ns(c->env) < end) {
        cli_sleep(c, AGAIN_MS);
        Sluice__ClusterStatusReply *next;
        if (cli_ask(c, FRAME_CLUSTER_STATUS, &m.base, NULL, &next, NULL, 0) != 0) {
            break;
        }
        cli_free(*reply);
        *reply = next;
    }
    return status;
}

/* The exit status of what was printed. */
static int judge(const Sluice__ClusterStatusReply *r)
{
    if (from_leader(r)) {
        return CLI_DONE;
    }
    fprintf(stderr, "sluice: %s: this is what node %u sees itself\n",
            r->controller_leader == 0 ? "the controller has no leader" : "the controller's leader did not answer", r->answering_node);
    return CLI_NO_LEADER;
}

static int cluster_status(struct cli *c)
{
    Sluice__ClusterStatusReply *r;
    int status = get_status(c, &r);
    if (status != 0) {
        return status;
    }
    char id[33];
    cli_hex(&r->cluster_id, id);
    if (c->json) {
        json_t *notes = json_array();
        for (size_t i = 0; i < r->n_notes; i++) {
            json_array_append_new(notes, json_string(r->notes[i]));
        }
        json_t *leader = r->controller_leader != 0 ? json_integer(r->controller_leader) : json_null();
        cli_print_json(json_pack("{s:s, s:o, s:I, s:b, s:i, s:i, s:i, s:i, s:o, s:o}", "cluster", id, "controller_leader", leader, "answering_node",
                                 (json_int_t)r->answering_node, "from_leader", from_leader(r), "streams", (int)r->streams, "shards", (int)r->shards, "shards_without_leader",
                                 (int)r->shards_without_leader, "under_replicated", (int)r->under_replicated, "nodes", nodes_json(r), "notes", notes));
    } else {
        printf("cluster             %s\ncontroller leader   ", id);
        if (r->controller_leader != 0) {
            printf("node %u", r->controller_leader);
        } else {
            printf("none");
        }
        printf("\nstreams             %u\nshards              %u (%u without a leader, %u under-replicated)\n\n", r->streams, r->shards,
               r->shards_without_leader, r->under_replicated);
        print_nodes(r);
        for (size_t i = 0; i < r->n_notes; i++) {
            printf("%s- %s\n", i == 0 ? "\n" : "", r->notes[i]);
        }
    }
    status = judge(r);
    cli_free(r);
    return status;
}

const struct cli_command cli_cluster_status = {"cluster", "status", "", 0, 0, "Tell about the cluster and its nodes. Ends with 4 if the controller has no leader that answers: then it is only what one node sees.", {{.name = NULL}}, cluster_status};

static int node_list(struct cli *c)
{
    Sluice__ClusterStatusReply *r;
    int status = get_status(c, &r);
    if (status == 0) {
        if (c->json) {
            cli_print_json(nodes_json(r));
        } else {
            print_nodes(r);
        }
        status = judge(r);
        cli_free(r);
    }
    return status;
}

const struct cli_command cli_node_list = {"node", "list", "", 0, 0, "List the nodes. Ends with 4 if the controller has no leader that answers.", {{.name = NULL}}, node_list};

static int change(struct cli *c, Sluice__NodeChange__Kind kind, const char *done)
{
    uint64_t id;
    if (!cli_parse_number(c->words[0], &id) || id == 0 || id > UINT32_MAX) {
        return cli_usage(c, "a node's number is needed, not '%s'", c->words[0]);
    }
    Sluice__NodeChange m = SLUICE__NODE_CHANGE__INIT;
    m.kind = kind;
    m.node = (uint32_t)id;
    if (kind == SLUICE__NODE_CHANGE__KIND__ADD) {
        m.address = (char *)(uintptr_t)c->words[1];
        if (cli_value(c, "zone") != NULL) {
            m.zone = (char *)(uintptr_t)cli_value(c, "zone");
        }
    }
    Sluice__ClusterStatusReply *r;
    int status = cli_request(c, FRAME_NODE_CHANGE, &m.base, NULL, &r);
    if (status == 0) {
        if (c->json) {
            cli_print_json(nodes_json(r));
        } else {
            fprintf(stderr, "node %llu %s\n", (unsigned long long)id, done);
        }
        cli_free(r);
    }
    return status;
}

static int node_add(struct cli *c) { return change(c, SLUICE__NODE_CHANGE__KIND__ADD, "is added"); }
static int node_drain(struct cli *c) { return change(c, SLUICE__NODE_CHANGE__KIND__DRAIN, "is being drained ('sluice cluster status' tells the progress)"); }
static int node_undrain(struct cli *c) { return change(c, SLUICE__NODE_CHANGE__KIND__UNDRAIN, "takes replicas again"); }
static int node_remove(struct cli *c) { return change(c, SLUICE__NODE_CHANGE__KIND__REMOVE, "is removed"); }

const struct cli_command cli_node_add = {
    "node", "add", "NODE HOST:PORT", 2, 2, "Let a new node join the cluster.", {{"zone", "NAME", "the zone it stands in"}}, node_add};
const struct cli_command cli_node_drain = {"node", "drain", "NODE", 1, 1, "Move all replicas away from a node.", {{.name = NULL}}, node_drain};
const struct cli_command cli_node_undrain = {"node", "undrain", "NODE", 1, 1, "Take a drain back.", {{.name = NULL}}, node_undrain};
const struct cli_command cli_node_remove = {"node", "remove", "NODE", 1, 1, "Remove a drained or dead node for good.", {{.name = NULL}}, node_remove};
