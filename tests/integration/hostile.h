/* hostile.h: what the parts of sluice-hostile share: connections, the state of the cluster that must not change, the list of attacks. */
#ifndef SLUICE_HOSTILE_H
#define SLUICE_HOSTILE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/batch.h"
#include "proto/frame.h"
#include "sluice.pb-c.h"

enum { PIDS_MAX = 8, SHARDS_MAX = 16, ANSWER_MS = 10000 };

/* One stream as it was before the attacks; every shard's records as a checksum over keys, data and offsets. */
struct shard_state {
    char leader[96]; /* host:port */
    struct hash128 first, last;
    uint64_t end;
    uint32_t sum;
};

struct hostile {
    const char *endpoint; /* the node that is asked whether all is well */
    const char *stream;
    int pids[PIDS_MAX];   /* of all nodes: each must go on living */
    unsigned n_pids;
    uint64_t rss_max_kib;
    uint8_t stream_id[16];
    uint32_t record_max;
    uint32_t n_shards;
    struct shard_state shards[SHARDS_MAX];
    uint32_t n_streams, n_nodes;
    uint8_t cluster_id[16];
    uint32_t node_id;
    uint64_t random;      /* state of a generator with a fixed seed: a failure can be repeated */
    unsigned failures, checks;
};

/* ---- hostile_net.c: sockets and frames ---- */

/* A blocking socket with time limits; -1: refused, or not in time. */
int dial(const char *address);
bool send_all(int fd, const void *data, size_t n);
/* Like send_all, but gives up after ms without progress and tells how much went. */
size_t send_some(int fd, const void *data, size_t n, int ms);

/* What the node said next on a connection. */
struct answer {
    enum { ANSWER_FRAME, ANSWER_CLOSED, ANSWER_NONE, ANSWER_GARBAGE } what;
    uint8_t kind;
    uint64_t correlation;
    uint8_t *message; /* malloc'ed */
    size_t message_len;
    uint8_t *payload; /* malloc'ed */
    size_t payload_len;
    int code;         /* of an ERROR frame; -1: its message does not decode */
    char text[160];   /* of an ERROR frame */
};
void receive(int fd, struct answer *a, int ms);
void answer_free(struct answer *a);
const char *answer_text(const struct answer *a);

/* Sends one frame; message may be NULL. */
bool send_frame(int fd, uint8_t kind, uint64_t correlation, const void *message, const void *payload, size_t payload_len);
/* The same with the message already encoded. */
bool send_raw_frame(int fd, uint8_t kind, uint64_t correlation, const void *message, size_t message_len, const void *payload, size_t payload_len);
/* A connection after a client's HELLO; -1: the node did not take it. */
int dial_client(const char *address);

/* ---- hostile.c: judging ---- */

uint64_t random_u64(struct hostile *h);
void random_bytes(struct hostile *h, void *out, size_t n);
void note(struct hostile *h, bool fine, const char *format, ...) __attribute__((format(printf, 3, 4)));
/* Every node lives, its memory is bounded, the attacked node answers PING, cluster and records are as they were. */
void all_is_well(struct hostile *h, const char *after);
/* The node answers with an ERROR of one of the codes (ended by -1), or, if may_close, ends the connection. Takes the answer off the connection. */
bool expect_error(struct hostile *h, int fd, const char *what, bool may_close, const int *codes);
/* The connection ends within ms, perhaps after an ERROR. */
bool expect_end(struct hostile *h, int fd, const char *what, int ms);
#define CODES(...) ((const int[]){__VA_ARGS__, -1})

/* ---- the attacks ---- */

struct attack { const char *name; void (*run)(struct hostile *h); };
extern const struct attack frame_attacks[], message_attacks[], batch_attacks[], crowd_attacks[]; /* ended by a NULL name */
/* Holds n connections of clients, each after its HELLO as far as the node takes them, until the standard input ends. Prints how many. */
int crowd_hold(const char *address, unsigned n);

#endif
