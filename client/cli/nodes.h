/* nodes.h: the metrics of the cluster's nodes, fetched from their admin addresses. */
#ifndef SLUICE_CLI_NODES_H
#define SLUICE_CLI_NODES_H

#include "client/cli/cli.h"

struct cli_node {
    uint32_t id;      /* as the cluster tells, or as the text does; 0: not known */
    char host[256];   /* of the admin address; "": the node has none */
    uint16_t port;
    char *text;       /* the metrics as of the last cli_nodes_ask(); NULL: not reached */
    uint64_t at_ns;   /* when they came */
};
struct cli_nodes { struct cli_node *v; size_t n; };

/* The admin addresses: `admin` ("HOST:PORT,...") if it is not NULL, else those that the cluster tells. 0 or the exit status. */
int cli_nodes_find(struct cli *c, const char *admin, struct cli_nodes *out);
/* Sets the addresses by what the cluster said; nodes known already keep their places. */
void cli_nodes_update(struct cli_nodes *n, const Sluice__ClusterStatusReply *status);
/* Looks again if a node's address was not known: a node that was started just now has not told it yet. */
void cli_nodes_refresh(struct cli *c, struct cli_nodes *n);
/* Asks all of them at once and waits for at most a second. Returns how many answered. */
size_t cli_nodes_ask(struct cli *c, struct cli_nodes *n);
/* The sum, or the largest, of a metric over the nodes that answered; 0 if none has it. */
double cli_nodes_sum(const struct cli_nodes *n, const char *metric);
double cli_nodes_max(const struct cli_nodes *n, const char *metric);
/* Every node answered, and there is one. */
bool cli_nodes_all(const struct cli_nodes *n);
/* All of them are on this machine: their addresses are loopback ones. */
bool cli_nodes_local(const struct cli_nodes *n);
void cli_nodes_free(struct cli_nodes *n);

#endif
