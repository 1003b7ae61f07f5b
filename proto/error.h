/* error.h: the one list of error codes: enum, texts, wire values, and what a client may do.
 *
 * Outcome kinds: DONE; REJECTED (surely nothing happened); UNKNOWN (it may have happened: retry only with the same producer
 * sequence). `retry` tells whether the same request may succeed later: NEVER, SAME (same node, after a while), ELSEWHERE (another
 * node; the error's hint says which), SAME_UNKNOWN (outcome unknown). */
#ifndef SLUICE_ERROR_H
#define SLUICE_ERROR_H

#include <stdbool.h>

#define SLUICE_ERRORS(X) \
    /* name, wire value, outcome, retry, text */ \
    X(OK, 0, DONE, NEVER, "done") \
    X(INVALID, 1, REJECTED, NEVER, "invalid argument") \
    X(NOT_FOUND, 2, REJECTED, NEVER, "no such stream, shard or node") \
    X(EXISTS, 3, REJECTED, NEVER, "the stream exists already") \
    X(NOT_LEADER, 4, REJECTED, ELSEWHERE, "this node does not lead the shard") \
    X(NOT_READY, 5, REJECTED, SAME, "the shard has no leader yet") \
    X(THROTTLED, 6, REJECTED, SAME, "the shard's throughput limit is exceeded") \
    X(BUSY, 7, REJECTED, SAME, "too much is in flight") \
    X(NO_SPACE, 8, REJECTED, SAME, "the disk is nearly full: writes are refused until there is room") \
    X(CLOSED, 9, REJECTED, NEVER, "the shard is closed for writes") \
    X(WRONG_SHARD, 10, REJECTED, NEVER, "a record's hash key lies outside the shard") \
    X(TOO_LARGE, 11, REJECTED, NEVER, "a record, batch or frame exceeds its limit") \
    X(PRODUCER_FENCED, 12, REJECTED, NEVER, "a newer epoch of this producer exists") \
    X(PRODUCER_UNKNOWN, 13, REJECTED, NEVER, "unknown or expired producer: start a new epoch at sequence 0") \
    X(SEQUENCE_GAP, 14, REJECTED, NEVER, "the producer's sequence does not continue") \
    X(SEQUENCE_OLD, 15, UNKNOWN, NEVER, "the sequence is older than the window that is remembered") \
    X(UNKNOWN_OUTCOME, 16, UNKNOWN, SAME_UNKNOWN, "the outcome is unknown: leadership changed after the write was proposed") \
    X(TIMEOUT, 17, UNKNOWN, SAME_UNKNOWN, "no answer in time: the outcome is unknown") \
    X(EXPIRED, 18, REJECTED, NEVER, "the position lies before the trim horizon") \
    X(STALE, 19, REJECTED, ELSEWHERE, "this replica has no contact with the shard's leader") \
    X(CORRUPT, 20, REJECTED, ELSEWHERE, "damaged data was found on this node") \
    X(PROTOCOL, 21, REJECTED, NEVER, "malformed frame or message") \
    X(VERSION, 22, REJECTED, NEVER, "unsupported protocol version") \
    X(NOT_SUPPORTED, 23, REJECTED, NEVER, "unknown request") \
    X(SHUTTING_DOWN, 24, REJECTED, ELSEWHERE, "the node is stopping") \
    X(NO_CONTROLLER, 25, REJECTED, SAME, "the controller has no leader") \
    X(CONFLICT, 26, REJECTED, SAME, "another change is going on") \
    X(WRONG_CLUSTER, 27, REJECTED, NEVER, "the peer belongs to another cluster") \
    X(REFUSED, 28, REJECTED, NEVER, "refused") \
    X(NO_CONNECTION, 29, REJECTED, ELSEWHERE, "cannot reach the node") \
    X(INTERNAL, 30, UNKNOWN, SAME_UNKNOWN, "internal error") \
    X(AHEAD, 31, REJECTED, ELSEWHERE, "the position lies beyond what this replica has") \
    X(MEMORY, 32, REJECTED, SAME, "the node's memory budget is used up") \
    X(OLDER_COPY, 33, REJECTED, NEVER, "the node's disk is an older copy of itself") \
    X(NOT_ACTIVE, 34, REJECTED, NEVER, "the stream is not active: it is being created or changed") \
    X(LIMIT, 35, REJECTED, NEVER, "a limit on how many there may be is reached") \
    X(IN_USE, 36, REJECTED, NEVER, "in use") \
    X(SUPERSEDED, 37, REJECTED, NEVER, "another subscriber of this consumer took over")

enum sluice_error {
#define X(name, value, outcome, retry, text) SLUICE_E_##name = value,
    SLUICE_ERRORS(X)
#undef X
};

enum sluice_outcome { SLUICE_DONE, SLUICE_REJECTED, SLUICE_UNKNOWN };
enum sluice_retry { SLUICE_RETRY_NEVER, SLUICE_RETRY_SAME, SLUICE_RETRY_ELSEWHERE, SLUICE_RETRY_SAME_UNKNOWN };

/* Unknown codes (from a newer peer) read as INTERNAL. */
const char *sluice_error_text(int code);
const char *sluice_error_name(int code); /* "NOT_LEADER" */
enum sluice_outcome sluice_error_outcome(int code);
enum sluice_retry sluice_error_retry(int code);

#endif
