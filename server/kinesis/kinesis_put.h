/* kinesis_put.h: calls that put records (kinesis_put.c), and the producers that they share (kinesis_producers.c): one for each stream that this lane's callers write to. */
#ifndef SLUICE_KINESIS_PUT_H
#define SLUICE_KINESIS_PUT_H

#include "server/kinesis/kinesis_impl.h"

struct stream_producer;
struct put_call;

/* Of a record: its explicit hash key until it is handed over, then what became of it. */
struct put_slot {
    struct put_call *put;
    int code;
    uint32_t shard;
    bool unknown, has_hash;
    union {
        struct hash128 hash;
        struct { uint64_t offset, time_ms; };
    };
    uint64_t shard_created_s;
};

/* In the call's arena; holds the call. */
struct put_call {
    struct call *call;
    const struct aws_value *records; /* in the request: not to be looked at once the call is gone */
    struct put_slot *slots;
    uint32_t n, next, pending;       /* records; the next to be handed over; handed over and not completed */
    bool feeding;
    uint64_t bytes;                  /* keys and data of all */
    char stream[NAME_MAX_LEN + 1];
    /* kinesis_producers.c */
    struct stream_producer *producer;
    struct put_call *wait_next, **wait_prev; /* waits for room */
    uint64_t waits_since_ms;
};

/* Hands records over as far as the producer takes them. False: no room, the rest waits. True: all are handed over or refused; p may be gone. */
bool put_feed(struct put_call *p, struct sluice_producer *producer);
/* What is not handed over yet ends with this code: surely nothing happened to it. p may be gone afterwards. */
void put_give_up(struct put_call *p, int code);

/* Has the stream's producer take the call's records, now and as there is room. */
void put_producer_use(struct put_call *p, struct sluice_client *client, const struct map_stream *s);
/* The call does not wait for room any more. Fine on one that does not. */
void put_producer_unwait(struct put_call *p);
/* All the call's records are completed. */
void put_producer_leave(struct put_call *p);

#endif
