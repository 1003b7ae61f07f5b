/* dedupe.h: what a shard remembers of its idempotent producers, so that a retried batch gets the numbers of the first attempt. Pure; part of the replicated state.
 *
 * Per producer id: the newest epoch, its last sequence, and offset, count and time of its last DEDUPE_WINDOW batches. A sequence must be last + 1 (rule F20 of the
 * project's safety rules, explained in README.md); a higher epoch starts at 0 and fences the lower one. Producers are kept in the order of their last batch
 * in the log; the longest idle goes when there are too many or when it expired by the log's time. All changes happen at apply, so every replica holds the same.
 *
 * What is proposed and not yet applied lies in a second table (struct dedupe_pending), which belongs to one term of one leader (F18). */
#ifndef SLUICE_DEDUPE_H
#define SLUICE_DEDUPE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { DEDUPE_WINDOW = 8, DEDUPE_ID = 16 };

struct dedupe;

enum dedupe_verdict {
    DEDUPE_NEW,       /* take it */
    DEDUPE_DUPLICATE, /* it is there: the numbers are in the result */
    DEDUPE_PENDING,   /* it is in flight: wait for that batch */
    DEDUPE_FENCED,    /* a newer epoch exists */
    DEDUPE_UNKNOWN,   /* producer unknown or expired (or a new epoch), and the sequence is not 0 */
    DEDUPE_GAP,       /* above last + 1 */
    DEDUPE_OLD        /* at or below last, but no longer in the window: what became of it is not known any more */
};

struct dedupe_key { uint8_t id[DEDUPE_ID]; uint32_t epoch; uint64_t sequence; };
struct dedupe_numbers { uint64_t offset, time_ms; uint32_t count; };

struct dedupe *dedupe_open(uint32_t producers_max, uint64_t expiry_ms);
void dedupe_close(struct dedupe *d);
/* New bounds; evicts at once what is above them. */
void dedupe_set_bounds(struct dedupe *d, uint32_t producers_max, uint64_t expiry_ms);
/* The verdict on a batch that would get log time `time_ms`. numbers is set for DEDUPE_DUPLICATE. */
enum dedupe_verdict dedupe_decide(const struct dedupe *d, const struct dedupe_key *k, uint64_t time_ms, struct dedupe_numbers *numbers);
/* A batch was applied. Returns false if it contradicts what is remembered (a bug on the leader: the caller asserts). */
bool dedupe_record(struct dedupe *d, const struct dedupe_key *k, const struct dedupe_numbers *numbers);
/* Log time moved on without a batch. */
void dedupe_expire(struct dedupe *d, uint64_t time_ms);
uint32_t dedupe_count(const struct dedupe *d);
/* How many producers were ever forgotten: while it is 0, "not remembered" means "never was". */
uint64_t dedupe_forgotten(const struct dedupe *d);
/* 1: remembered (its epoch and last sequence are set); 0: not. */
int dedupe_find(const struct dedupe *d, const uint8_t id[DEDUPE_ID], uint32_t *epoch, uint64_t *last);

/* Snapshot part: u64 forgotten, u32 n, then per producer, the longest idle first: 16 id, u32 epoch, u64 last, u8 n, n x {u64 offset, u64 time_ms, u32 count}, newest last. */
size_t dedupe_encoded_size(const struct dedupe *d);
void dedupe_encode(const struct dedupe *d, uint8_t *out);
/* Bytes used, or 0 if malformed. The bounds are those given at open. */
size_t dedupe_decode(struct dedupe *d, const uint8_t *data, size_t n);

/* A proposed batch, embedded in the leader's bookkeeping of it. */
struct dedupe_pending {
    struct dedupe_key key;
    struct dedupe_pending *older;    /* same producer */
    struct dedupe_pending *newer;
    struct dedupe_pending *chain;    /* of the bucket; only in the newest one of a producer */
    bool linked;
};
enum { DEDUPE_BUCKETS = 256 };
struct dedupe_in_flight { struct dedupe_pending *buckets[DEDUPE_BUCKETS]; };
/* The verdict with what is in flight counted as applied. DEDUPE_PENDING sets *found. */
enum dedupe_verdict dedupe_in_flight_decide(const struct dedupe_in_flight *f, const struct dedupe *d, const struct dedupe_key *k, uint64_t time_ms,
                                            struct dedupe_numbers *numbers, struct dedupe_pending **found);
/* In the order of the log. */
void dedupe_in_flight_add(struct dedupe_in_flight *f, struct dedupe_pending *p);
/* Applied or given up; harmless if it is not linked. */
void dedupe_in_flight_remove(struct dedupe_in_flight *f, struct dedupe_pending *p);
/* The term ended: forgets all (F18). */
void dedupe_in_flight_clear(struct dedupe_in_flight *f);

#endif
