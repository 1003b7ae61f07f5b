/* history_file.h: the history of a run on real processes, as JSON lines (format: jepsen/README.md). */
#ifndef SLUICE_JEPSEN_HISTORY_FILE_H
#define SLUICE_JEPSEN_HISTORY_FILE_H

#include "client/sluice.h"

#include <stdio.h>

/* The history's clock: CLOCK_MONOTONIC, ns. */
uint64_t history_file_clock(void);
void history_file_put(FILE *f, const char *stream, unsigned process, uint64_t start, uint64_t end, const char *outcome, uint64_t value, uint32_t shard,
                      const char *sequence, uint64_t order);
void history_file_read(FILE *f, unsigned process, uint64_t start, uint64_t end, uint32_t shard, unsigned session, const struct sluice_records *batch);
/* Asks one node, by the wire protocol, for everything it holds of each shard of the stream that it has a replica of, and appends a `final` line for each. 0 or 1. */
int history_file_final(FILE *f, const char *endpoints, const char *stream, const char *node, unsigned number);

#endif
