/* formation_impl.h: what formation.c and formation_join.c share. */
#ifndef SLUICE_FORMATION_IMPL_H
#define SLUICE_FORMATION_IMPL_H

#include "server/formation.h"
#include "sluice.pb-c.h"

enum { TICK_MS = 50, ASK_TIMEOUT_MS = 1000, JOIN_TIMEOUT_MS = 4000, FRESH_MS = 3000, ADMIT_PAUSE_MS = 1000, FILE_MAX = 64 << 10 };

struct other {
    struct formation *f;
    struct map_node node;
    bool asking, formed, accepted;
    uint64_t answered_ms;          /* 0: never */
    uint8_t cluster_id[16];        /* of its cluster if it is formed */
};

struct formation {
    struct formation_options o;
    struct peer_client *peers;
    bool own_peers;
    struct formation_file file;
    struct map_node self;
    struct other others[NODES_MAX];
    unsigned n_others;
    struct map_node first[NODES_MAX]; /* the list of `cluster`, or this node alone */
    unsigned n_first;
    struct env_timer timer;
    bool finishing;                /* done is called at the next tick */
    bool joining, join_out, join_all, heard_formed;
    uint8_t join_cluster[16];
    uint64_t join_after_ms;
    unsigned join_turn;
    unsigned out;                  /* requests that will call back */
    bool closed;
    char state[160];
};

/* formation.c */
void formation_note(struct formation *f, const char *text);
/* Durable, or the process ends: nothing was told to anybody yet. False: it ends. */
bool formation_save(struct formation *f);
bool formation_save_identity(struct formation *f);
/* The last step of every way: from here on this node belongs to the cluster of its file. */
void formation_formed(struct formation *f);
/* A request came back; false if nothing must be done with it any more. */
bool formation_came_back(struct formation *f);
void formation_fill_info(Sluice__NodeInfo *info, const struct map_node *n, char address[80]);

/* formation_join.c: asks a formed node for admission, again and again. */
void formation_join(struct formation *f);

#endif
