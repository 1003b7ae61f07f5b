/* bench_kinesis.h: what the two halves of `sluice bench put --kinesis` share. bench_kinesis.c: options, the stream, the outcome; bench_kinesis_load.c: connections and the records. */
#ifndef SLUICE_BENCH_KINESIS_H
#define SLUICE_BENCH_KINESIS_H

#include "client/cli/bench.h"
#include "client/cli/http.h"
#include "client/kinesis_request.h"

enum { KINESIS_URLS_MAX = 16, KINESIS_SLOTS_MAX = 16 };

/* A place of the cluster that requests go to, and who signs them: the signature covers the place. */
struct kinesis_place { struct http_url url; struct kinesis_signer signer; };

/*  DOWN --ready--> IDLE --send--> WAITING --answer--> IDLE, or PAUSED while records were throttled, which are sent again when the pause is over
 *  any --gone--> DOWN: what was sent and not answered is unknown; a new attempt follows, and if there is none for too long, GIVEN_UP */
enum kinesis_state { KINESIS_DOWN, KINESIS_IDLE, KINESIS_WAITING, KINESIS_PAUSED, KINESIS_GIVEN_UP };

struct kinesis_connection {
    struct kinesis_bench *k;
    struct kinesis_place *place;
    struct http_client http;
    struct env_timer timer; /* the answer's time limit, a pause, or the next attempt to connect */
    enum kinesis_state state;
    uint64_t down_since_ns; /* 0: was connected since */
    /* The records of the request under way, or to be sent again: where their entries are, and when they were meant to be sent. */
    unsigned n, entries[KINESIS_RECORDS_MAX], tries;
    uint64_t intended_ns[KINESIS_RECORDS_MAX], taken_ns;
    unsigned n_throttled;   /* of the answer being read: they are moved to the front */
    char head[KINESIS_HEAD_MAX];
    uint8_t prefix[KINESIS_PREFIX_MAX];
    struct iovec iov[KINESIS_RECORDS_MAX + 3];
    /* A call of the control plane. */
    bool calling;
    unsigned status;
    char *answer;           /* of it, or NULL: none came */
    size_t answer_n;
};

struct kinesis_bench {
    struct bench b;
    bool cbor;
    struct kinesis_place places[KINESIS_URLS_MAX];
    unsigned n_places;
    struct tls_context *tls;
    uint64_t n_connections, batch;
    struct kinesis_connection *connections;
    unsigned n_up, n_given_up;
    bool running; /* records are being put */
    /* All entries, written once: as many slots as a full request has records, which are used in turn. */
    uint8_t *entries;
    size_t entry_size;
    unsigned n_slots, at; /* at: the entry that is used next */
    struct { bool known; uint8_t sha256[KINESIS_SHA256]; } slots[KINESIS_SLOTS_MAX]; /* of a full request's body */
    uint64_t requests, throttled, unknown, rejected;
    char trouble[256]; /* why a connection failed last */
};

/* Writes the entries and connects. 0 or the exit status. */
int kinesis_load_open(struct kinesis_bench *k);
/* Puts this many records and waits until each one's outcome is told; counts from zero. */
void kinesis_load_run(struct kinesis_bench *k, uint64_t records);
void kinesis_load_close(struct kinesis_bench *k);
/* Sends a call over the first connection and waits: its HTTP status, or 0 if none came, and the body in c->answer. */
unsigned kinesis_call(struct kinesis_bench *k, const char *operation, const char *body);

#endif
