/* bench.h: what the kinds of `sluice bench` share: options, load of puts, readers, what the nodes spent, the outcome.
 *
 * bench.c: options, the stream, the result; bench_load.c: producers; bench_kinesis.c: puts through the Kinesis API; bench_readers.c: readers and
 * subscriptions; bench_e2e.c: from the one to the other; bench_cost.c: what a run cost the nodes. A kind opens what it needs,
 * runs the loop phase by phase (bench_run) and fills the fields of the result. */
#ifndef SLUICE_BENCH_H
#define SLUICE_BENCH_H

#include "client/cli/cli.h"
#include "client/cli/nodes.h"
#include "client/histogram.h"
#include "client/unpack.h"

enum { BENCH_CLIENTS_MAX = 256, BENCH_STAMP = 16 /* first bytes of an e2e record: intended time, number */ };

struct bench;

/* A producer with a client of its own, so with connections of its own. */
struct bench_producer {
    struct bench *bench;
    struct sluice_client *client;
    struct sluice_producer *producer;
    uint64_t in_flight, depth;
    bool full; /* answered BUSY */
};

struct bench_load {
    uint64_t n_producers, depth, rate, seconds; /* rate 0: as fast as it goes; seconds 0: until all records are put */
    struct bench_producer *producers;
    unsigned n_open, turn;
    bool stamped, started, closing;
    uint64_t records;        /* to be put in this phase */
    uint64_t sent, completed, failed, acked;
    uint64_t start_ns, deadline_ns;
    struct histogram *latency; /* from the intended time to the acknowledgement */
    struct env_timer pacer;
    void (*completed_all)(struct bench *b); /* ends the phase unless a kind sets something else */
};

/* What the nodes and this machine have spent so far. */
struct bench_spent {
    bool nodes_known;
    double server_cpu_s, written, prewritten, resident_max;
    double client_cpu_s, busy_s; /* busy: of all cores of this machine; negative: not known */
};

struct bench {
    struct cli *cli;
    const char *test, *stream;
    uint64_t records, record_size, consumers, shards, warmup;
    bool compressible, fan_out, curve;
    struct bench_load load;
    uint8_t *pool;          /* record data are cut out of it */
    size_t pool_size;
    uint64_t key_seed;
    unsigned clients_closing;
    struct cli_nodes nodes;
    struct bench_spent before, after;
    struct env_timer progress;
    bool terminal, done;
    uint64_t clock_turn_ns, clock_ns; /* the clock, read once per turn */
    uint64_t errors;
    char first_error[256];
    /* The result. */
    uint64_t counted, counted_bytes, start_ns, end_ns;
    struct histogram *latency;
    bool tells_ack;         /* the load's own latencies are told beside */
    bool no_cost;           /* it is not about records: what one costs is not told */
    json_t *more;           /* fields of the kind's own, or NULL */
};

/* Options of the stream and the records, and of the load; the list is ended by {NULL}. */
#define BENCH_OPTIONS_COMMON \
    {"stream", "NAME", "created if it is not there (default bench)"}, {"shards", "N", "of a stream that is created (default 4)"}, \
    {"records", "N", "in all"}, {"record-size", "BYTES", "of data per record (default 1024; k and m are understood)"}, \
    {"producers", "N", "connections to put over (default 1)"}, {"depth", "N", "unacknowledged records over all producers"}, \
    {"compressible", NULL, "text that compresses well instead of random bytes"}, \
    {"curve", NULL, "tell the whole distribution of latencies, too"}, \
    {"admin", "LIST", "admin addresses of the nodes, HOST:PORT,... (default: as the cluster tells)"}
#define BENCH_OPTIONS_LOAD \
    {"rate", "N", "records per second over all producers (default 0: as fast as it goes); latency counts from the intended time"}, \
    {"seconds", "S", "put for so long instead of a number of records"}, {"warmup", "N", "records that are put first and not counted"}
#define BENCH_OPTIONS_CONSUMERS \
    {"consumers", "N", "connections to read over (default 1)"}, {"fan-out", NULL, "every consumer reads the whole stream instead of a part of its shards"}

struct bench_defaults { const char *test; uint64_t records, depth; };
/* Reads the options. 0 or the exit status. */
int bench_options(struct bench *b, struct cli *c, const struct bench_defaults *d);
/* Makes ready what a run needs, after the options: histograms, the line of progress. The loop is open. */
void bench_begin(struct bench *b);
/* Both, and between them opens the client and makes the stream if need be. 0 or the exit status. */
int bench_open(struct bench *b, struct cli *c, const struct bench_defaults *d);
/* Runs the loop until bench_stop(). */
void bench_run(struct bench *b);
void bench_stop(struct bench *b);
/* Closes a client of the bench's and waits for it. */
void bench_client_close(struct bench *b, struct sluice_client *c);
/* Prints the JSON line, frees; returns the exit status. */
int bench_close(struct bench *b);
/* The time, read once per turn of the loop. */
uint64_t bench_clock(struct bench *b);
void bench_error(struct bench *b, int code, const char *message);
/* Counts n errors; the first one's text is told at the end. */
void bench_errors(struct bench *b, uint64_t n, const char *text);
/* Prints ,"curve":[[share, ms], ...] of a distribution. */
void bench_print_curve(const struct histogram *h);

/* ---- bench_load.c ---- */

/* Fills the pool that record data are cut out of; record i's begin at bench_load_data(). */
void bench_load_pool(struct bench *b);
uint8_t *bench_load_data(const struct bench *b, uint64_t i);
enum { BENCH_KEY = 16 };
/* The partition key of record i: keys are even over all hash keys, and differ from run to run. */
void bench_load_key(const struct bench *b, uint64_t i, char key[BENCH_KEY]);
/* When record i is meant to be sent: at its place in the rate, or now. */
uint64_t bench_load_intended(const struct bench_load *l, uint64_t i, uint64_t now);
/* How many records may have been sent by now. When the time is over, those that were: no more follow. */
uint64_t bench_load_due(struct bench_load *l, uint64_t now);
/* Opens the producers and waits for them. 0 or the exit status. */
int bench_load_open(struct bench *b);
/* Starts to put this many records; b->load counts from zero. Ends by itself. */
void bench_load_go(struct bench *b, uint64_t records);
/* Puts this many records and waits until they are completed; they are not counted. True: without errors. */
bool bench_load_quietly(struct bench *b, uint64_t records);
void bench_load_close(struct bench *b);

/* ---- bench_readers.c ---- */

/* Registered consumers of the bench's own. */
struct bench_consumers { unsigned n; uint64_t ids[BENCH_CLIENTS_MAX], map_version, seed; };

/* One reader per shard of the stream; the consumers' clients take turns, or with fan-out read each shard all of them. */
struct bench_reader {
    struct bench *bench;
    struct bench_reading *reading;
    struct sluice_reader *reader;             /* the one or the other */
    struct sluice_subscription *subscription;
    unsigned consumer;
    uint64_t delivered_ns; /* the last delivery */
    bool ended;
    void (*each)(struct bench_reader *r, const struct sluice_records *batch);
    void (*end)(struct bench_reader *r);
};
struct bench_reading {
    const struct bench_consumers *push; /* not NULL: what is read is pushed, with fan-out, to these */
    uint64_t credit;                    /* of each subscription; 0: the library's default */
    Sluice__StreamReply *at;            /* where the shards ended once (bench_readers_note_ends) */
    struct bench_reader *readers;
    size_t n;
    struct sluice_client **clients;
    unsigned n_clients;
    struct unpacker unpacker;
    /* Of each consumer: counted by the kinds; stored: bytes of the batches pushed since the start; when the last record came. */
    uint64_t counted[BENCH_CLIENTS_MAX], bytes[BENCH_CLIENTS_MAX], stored[BENCH_CLIENTS_MAX], last_ns[BENCH_CLIENTS_MAX];
};
/* Notes where the shards end now. 0 or the exit status. */
int bench_readers_note_ends(struct bench *b, struct bench_reading *g);
/* from NULL: where the shards ended when that was noted, which it is now if it was not. pattern: the callbacks of all readers. 0 or the exit status. */
int bench_readers_open(struct bench *b, struct bench_reading *g, const struct sluice_position *from, bool follow, const struct bench_reader *pattern);
void bench_readers_close(struct bench *b, struct bench_reading *g);

/* ---- bench_e2e.c ---- */

struct bench_e2e {
    struct bench b;
    struct bench_reading g;
    bool backlog;           /* everything is put before anything is read */
    struct env_timer late;
    uint64_t since_ns;      /* records put from then on count */
    uint64_t seen;          /* that were counted when it was looked last */
    bool load_done;
};
/* The options, the stream, the producers. 0 or the exit status. */
int bench_e2e_open(struct bench_e2e *e, struct cli *c, const char *test);
/* Puts, and counts what arrives until it is all there. 0 or the exit status. */
int bench_e2e_run(struct bench_e2e *e);

/* ---- bench_kinesis.c ---- */

/* sluice bench put --kinesis. Returns the exit status. */
int bench_kinesis(struct cli *c);

/* ---- bench_cost.c ---- */

/* Notes what was spent until now. */
void bench_spent(struct bench *b, struct bench_spent *out);
/* Prints ,"server_cpu_s":... for what was spent between b->before and b->after. */
void bench_print_cost(const struct bench *b, double seconds);

#endif
