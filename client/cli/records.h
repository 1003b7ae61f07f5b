/* records.h: the records of a stream's shards on the standard output, what `sluice get` and `sluice tail` share.
 *
 * They differ in where a shard's records come from: the source, fetches or pushes. records.c decides which shards are read when (children behind their parents), merges them
 * by arrival time and pauses a shard while enough of it waits; records_print.c writes. */
#ifndef SLUICE_RECORDS_H
#define SLUICE_RECORDS_H

#include "client/cli/cli.h"
#include "client/merge.h"

struct records;

struct records_shard {
    struct records *all;
    uint32_t shard;
    void *from;    /* the source's own, from open() to close(); else NULL */
    unsigned source;
    bool started, ended, paused;
    bool known;    /* the map told what follows; of a child that its parent named, it has yet to */
    bool open;     /* when it was first heard of */
    bool brought;  /* records */
    uint32_t n_parents, parents[2];
};

struct records_source {
    int (*open)(struct records_shard *s, const struct sluice_position *from); /* 0 or a SLUICE_E_ code */
    void (*pause)(struct records_shard *s, bool paused);                     /* nothing is delivered during the call */
    void (*close)(struct records_shard *s);
    /* What someone can do about this error; "" if that is clear. */
    const char *(*hint)(int code);
};

/* Where the lines go. */
struct records_out { char *text; size_t len; bool json, broken; };

struct records {
    struct cli *cli;
    const struct records_source *source;
    void *user;             /* the source's */
    struct sluice_position from;
    bool follow;            /* goes on with what arrives later, and with children */
    bool whole, by_sequence; /* no --shard; --from is a sequence number */
    uint32_t only;
    uint64_t limit, given;
    bool direct;            /* one shard, nothing to merge */
    bool asking;            /* for the map */
    bool done;
    int status;
    struct records_out out;
    struct env_timer again, watch; /* following: is anybody still reading what is written? */
    struct env_signal interrupt;
    struct merge *merge;
    struct records_shard **shards; /* by source */
    size_t n_shards;
};

/* The options that both commands have. */
#define RECORDS_OPTIONS_SHARD {"shard", "S", "only this shard"}, {"limit", "N", "end after N records in all (default 0: no limit)"}
#define RECORDS_OPTIONS_FORMAT {"format", "data|json", "data (default), or a JSON object per line"}
/* Reads them into *r. otherwise: the position without --from. 0 or CLI_USAGE. */
int records_options(struct records *r, struct cli *c, enum sluice_position_kind otherwise);
/* Writes the records; r's fields up to by_sequence are set. Returns the exit status. */
int records_run(struct records *r);

/* ---- what a source tells ---- */

void records_came(struct records_shard *s, const struct sluice_records *batch);
/* Everything that there was is delivered. */
void records_caught_up(struct records_shard *s);
/* The last word about a shard. */
void records_ended(struct records_shard *s, const struct sluice_read_end *end);

/* ---- records_print.c ---- */

void records_out_open(struct records_out *o, bool json);
void records_out_close(struct records_out *o);
/* False: nobody reads it any more, or it cannot be written, which was told. */
bool records_out_add(struct records_out *o, const struct sluice_records *b, size_t i);
bool records_out_flush(struct records_out *o);
/* A follower that has nothing to write would not notice that its reader has gone. */
bool records_out_gone(void);

#endif
