/* cli.h: what the commands of `sluice` share: arguments, requests, output, exit status. One file per noun. */
#ifndef SLUICE_CLI_H
#define SLUICE_CLI_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "client/sluice.h"
#include "proto/base.h"
#include "storage/env.h"
#include "storage/env_uv.h"

enum cli_exit { CLI_DONE = 0, CLI_FAILED = 1, CLI_USAGE = 2, CLI_UNKNOWN = 3, CLI_NO_LEADER = 4, CLI_INTERRUPTED = 130 };

/* ---- arguments ---- */

struct cli_option {
    const char *name; /* without the dashes */
    const char *arg;  /* "N"; NULL: a flag */
    const char *help;
};
enum { CLI_OPTIONS_MAX = 24, CLI_WORDS_MAX = 4 };

struct cli;
struct cli_command {
    const char *noun, *verb;   /* verb NULL: the noun is the command */
    const char *words;         /* what stands beside options, for the help: "STREAM [FILE]" */
    unsigned words_min, words_max;
    const char *summary;
    struct cli_option options[CLI_OPTIONS_MAX]; /* ended by a NULL name */
    int (*run)(struct cli *c);
};

struct cli {
    const struct cli_command *command;
    const char *values[CLI_OPTIONS_MAX]; /* "" for a flag that is set, NULL: absent */
    const char *words[CLI_WORDS_MAX];
    unsigned n_words;
    const char *endpoints;
    const char *access_key, *secret_key, *region, *authorities; /* of the AWS variables of the environment, or NULL */
    bool json;
    struct env *env;
    struct sluice_client *client;
    bool closed;
};

/* An option's value, or NULL. */
const char *cli_value(const struct cli *c, const char *name);
/* The command knows this option. */
bool cli_has(const struct cli *c, const char *name);
bool cli_flag(const struct cli *c, const char *name);
/* An option as a number in [min, max]: *out is set (to otherwise if it is absent). False: said on stderr, end with CLI_USAGE. */
bool cli_number(const struct cli *c, const char *name, uint64_t otherwise, uint64_t min, uint64_t max, uint64_t *out);
/* The same for a size: "65536", "64k", "1m". */
bool cli_size(const struct cli *c, const char *name, uint64_t otherwise, uint64_t min, uint64_t max, uint64_t *out);
bool cli_parse_number(const char *text, uint64_t *out);
/* Time as "2026-01-31T12:00:00Z" (also with fraction, without Z: UTC, and a date alone) or seconds since 1970, with fraction. */
bool cli_parse_time(const char *text, uint64_t *ms);
/* An option as a list of tags, KEY=VALUE,... or, without values, KEY,...; empty if it is absent (cli_tags_free). False: said on stderr, end with CLI_USAGE. */
struct cli_tags { size_t n; Sluice__Tag **list, *infos; char **keys, *text; };
bool cli_tags(struct cli *c, const char *option, bool values, struct cli_tags *out);
void cli_tags_free(struct cli_tags *t);

/* "sluice: ..." and, for usage, where to read on. Returns the status. */
int cli_usage(const struct cli *c, const char *format, ...) __attribute__((format(printf, 2, 3)));
int cli_error(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* ---- requests ---- */

/* Opens the loop and the client; true, or said on stderr. */
bool cli_open(struct cli *c);
void cli_close(struct cli *c);
/* Sends and waits. 0 and *reply (cli_free), or the exit status, with the reason told on stderr. */
int cli_request(struct cli *c, enum frame_kind kind, const ProtobufCMessage *message, const struct sluice_call_options *o, void *reply_out);
/* The same, silent: an error code, its text in message (may be NULL). */
int cli_ask(struct cli *c, enum frame_kind kind, const ProtobufCMessage *message, const struct sluice_call_options *o, void *reply_out,
            char *message_out, size_t message_size);
void cli_free(void *message);
/* Tells of a failed request; returns the exit status. */
int cli_failed(const char *what, int code, enum sluice_outcome outcome, const char *message, const char *hint);
/* Runs the loop for a while. */
void cli_sleep(struct cli *c, unsigned ms);
/* Describes a stream: 0 and *reply (cli_free), or the exit status. */
int cli_describe(struct cli *c, const char *stream, Sluice__StreamReply **reply);
/* Asks the leader of each shard where the shard begins and ends and sets that in the map; CLI_NO_OFFSET if it does not answer within 2 s. */
#define CLI_NO_OFFSET UINT64_MAX
void cli_ask_ends(struct cli *c, Sluice__StreamInfo *s);
/* How many records the shards hold by these numbers. False: of some it is not known. */
bool cli_records(const Sluice__StreamInfo *s, uint64_t *n);
/* Asks for a split, a merge or another number of shards, and waits until it is over unless no_wait. Returns the exit status; on CLI_DONE *reply (cli_free) is the
 * stream as it is then. */
int cli_reshard(struct cli *c, const Sluice__StreamReshard *m, bool no_wait, Sluice__StreamReply **reply);
/* Waits until the stream is active and every shard has a leader. False: not within ms. */
bool cli_wait_active(struct cli *c, const char *stream, unsigned ms);

/* ---- output ---- */

void cli_print_json(json_t *j); /* one line on stdout; takes j */
/* Decimal text of a 128-bit field, "" if it is none. */
void cli_hash_text(const ProtobufCBinaryData *d, char text[40]);
/* Up to 16 bytes in hexadecimal. */
void cli_hex(const ProtobufCBinaryData *d, char text[33]);
json_t *cli_ids(const uint32_t *ids, size_t n);
/* "2026-01-31T12:00:00Z" */
void cli_time_text(uint64_t ms, char text[32]);
json_t *cli_tags_json(Sluice__Tag *const *tags, size_t n);
/* Columns: rows of cells, padded to the widest. The first row is the heading. */
enum { CLI_COLUMNS_MAX = 16 };
struct cli_table { char **cells; unsigned columns; size_t n; };
void cli_table_cell(struct cli_table *t, const char *format, ...) __attribute__((format(printf, 2, 3)));
void cli_table_print(struct cli_table *t, FILE *to); /* and frees */
void cli_table_free(struct cli_table *t);
/* A list in the form asked for: as JSON or as a table; takes both. CLI_DONE. */
int cli_print_list(struct cli *c, json_t *all, struct cli_table *t);
/* "12.3 MB", "1,234" into a buffer that the caller gives. */
const char *cli_bytes(double n, char out[32]);

/* ---- commands ---- */

extern const struct cli_command cli_put_command, cli_get_command, cli_tail_command, cli_top_command;
extern const struct cli_command cli_stream_create, cli_stream_update, cli_stream_list, cli_stream_describe, cli_stream_delete, cli_stream_tag, cli_stream_policy;
extern const struct cli_command cli_consumer_register, cli_consumer_list, cli_consumer_remove;
extern const struct cli_command cli_shard_list, cli_shard_split, cli_shard_merge, cli_shard_transfer, cli_cluster_status;
extern const struct cli_command cli_node_list, cli_node_drain, cli_node_undrain, cli_node_remove, cli_node_add;
extern const struct cli_command cli_bench_put, cli_bench_read, cli_bench_e2e, cli_bench_push, cli_bench_latency, cli_bench_scale, cli_bench_disk, cli_bench_report;
extern const struct cli_command *const cli_commands[]; /* ended by NULL */

#endif
