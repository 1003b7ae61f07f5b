/* log.h: structured log lines: time, level, node, message, key=value pairs; as text or JSON; written through env_log_line().
 *
 * Pairs are given as one format: "group=%llu reason=\"%s\"". A value with spaces stands in double quotes; quotes inside a value are replaced. */
#ifndef SLUICE_LOG_H
#define SLUICE_LOG_H

#include <stdbool.h>
#include <stdint.h>

#include "storage/env.h"

enum log_level { LOG_ERROR, LOG_WARN, LOG_INFO, LOG_DEBUG };

/* One per lane, so that a line can be written from the lane's own thread without sharing anything. */
struct log {
    struct env *env;
    uint32_t node;
    enum log_level level;
    bool json;
};

/* False if the name is none of error, warn, info, debug. */
bool log_level_parse(const char *name, enum log_level *out);
/* pairs may be NULL. */
void log_write(const struct log *l, enum log_level level, const char *message, const char *pairs, ...) __attribute__((format(printf, 4, 5)));
#define log_error(l, ...) log_write((l), LOG_ERROR, __VA_ARGS__)
#define log_warn(l, ...) log_write((l), LOG_WARN, __VA_ARGS__)
#define log_info(l, ...) log_write((l), LOG_INFO, __VA_ARGS__)
#define log_debug(l, ...) log_write((l), LOG_DEBUG, __VA_ARGS__)

/* Lets through the first `burst` calls of each `period_ms`: for lines that a peer or client could trigger at will. Zeroed at first. */
struct log_limit { uint64_t since_ms; uint32_t count; };
bool log_limit_ok(struct log_limit *lim, uint64_t now_ms, uint32_t burst, uint64_t period_ms);

/* The formatted line without a newline, for tests: returns its length (cut at n - 1). */
int log_format(char *out, int n, const struct log *l, uint64_t wall_ms, enum log_level level, const char *message, const char *pairs_text);

#endif
