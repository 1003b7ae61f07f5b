/* bench.h: what the kinds of `sluice bench` share: options, load, outcome. */
#ifndef SLUICE_BENCH_H
#define SLUICE_BENCH_H

#include "client/cli/cli.h"
#include "client/histogram.h"

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

struct bench {
    struct cli *cli;
    const char *test, *stream;
    uint64_t records, record_size, rate, depth, producers, consumers, shards;
    bool compressible, stamped;
    struct bench_producer *all_producers;
    unsigned n_open; /* producers that answered */
    unsigned clients_closing;
    uint8_t *pool;          /* record data are cut out of it */
    size_t pool_size;
    uint64_t key_seed;
    unsigned turn;
    uint64_t sent, completed, errors, counted, counted_bytes; /* counted: what the result is about */
    uint64_t start_ns, end_ns;
    uint64_t clock_turn_ns, clock_ns; /* the clock, read once per turn */
    struct histogram *latency;
    struct env_timer pacer, progress;
    bool terminal, done, started;
    char first_error[256];
    void (*completed_all)(struct bench *b);
};

/* Options that all of them have; the last is {NULL}. */
#define BENCH_OPTIONS_COMMON \
    {"stream", "NAME", "created if it is not there (default bench)"}, {"shards", "N", "of a stream that is created (default 4)"}, \
    {"records", "N", "in all"}, {"record-size", "BYTES", "of data per record (default 1024; k and m are understood)"}, \
    {"producers", "N", "connections to put over (default 1)"}, {"depth", "N", "unacknowledged records over all producers"}, \
    {"rate", "N", "records per second over all producers (default 0: as fast as it goes); latency counts from the intended time"}, \
    {"compressible", NULL, "text that compresses well instead of random bytes"}

struct bench_defaults { const char *test; uint64_t records, depth; };
/* Reads the options, opens the client, makes the stream if need be. 0 or the exit status. */
int bench_open(struct bench *b, struct cli *c, const struct bench_defaults *d);
/* Opens the producers, waits for them, starts the load. completed_all runs when every record is completed. */
int bench_load_start(struct bench *b);
/* Runs the loop until `done`. */
void bench_run(struct bench *b);
/* Closes a client of the bench's and waits for it. */
void bench_client_close(struct bench *b, struct sluice_client *c);
/* Prints the JSON line, frees; returns the exit status. */
int bench_close(struct bench *b);
void bench_stop(struct bench *b);
uint64_t bench_clock(struct bench *b);
void bench_error(struct bench *b, int code, const char *message);

/* One reader per shard of the stream, over the consumers' clients in turn. */
struct bench_reader {
    struct bench *bench;
    struct sluice_reader *reader;
    uint64_t delivered_ns; /* the last delivery */
    bool ready, ended;
    void (*each)(struct bench_reader *r, const struct sluice_records *batch);
    void (*caught_up)(struct bench_reader *r);
    void (*end)(struct bench_reader *r);
};
struct bench_reading { struct bench_reader *readers; size_t n; struct sluice_client **clients; unsigned n_clients; };
/* pattern: the callbacks of all readers. 0 or the exit status. */
int bench_readers_open(struct bench *b, struct bench_reading *g, const struct sluice_position *from, bool follow, const struct bench_reader *pattern);
void bench_readers_close(struct bench *b, struct bench_reading *g);

#endif
