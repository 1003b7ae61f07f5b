/* kinesis_answer.h: answers of the Kinesis API to PutRecords, in JSON or CBOR: which records were stored, or what went wrong. Pure: bytes in, calls out. */
#ifndef SLUICE_KINESIS_ANSWER_H
#define SLUICE_KINESIS_ANSWER_H

#include <stdbool.h>
#include <stddef.h>

/* One record's outcome: stored if it has a sequence number and no error code, which is "" then. */
struct kinesis_outcome { bool stored; const char *code, *message; };
typedef void (*kinesis_outcome_cb)(void *user, size_t index, const struct kinesis_outcome *o);

/* Reads an answer with status 200 and tells each record's outcome in order. False: it cannot be read, or the number of its records is not `expected`; then `each` was not called. */
bool kinesis_outcomes_read(bool cbor, const void *p, size_t n, size_t expected, kinesis_outcome_cb each, void *user);

/* Reads an error: its type without a namespace, and its message; cut if they are long, "" if they are not there. */
void kinesis_error_read(bool cbor, const void *p, size_t n, char type[64], char message[200]);

/* Errors after which the same records may be put again soon, as nothing was done: the ones of throttling. */
bool kinesis_throttled(const char *type);

#endif
