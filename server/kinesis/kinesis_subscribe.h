/* kinesis_subscribe.h: a SubscribeToShard call: what its shard's leader pushed (kinesis_subscribe.c) becomes events (kinesis_events.c). */
#ifndef SLUICE_KINESIS_SUBSCRIBE_H
#define SLUICE_KINESIS_SUBSCRIBE_H

#include "server/kinesis/kinesis_get.h"

/* What the leader pushed at once, until all of it has left. */
struct push {
    struct push *next;       /* in the queue */
    struct push *live_next, **live_prev;
    struct subscriber *s;    /* NULL: it has ended */
    unsigned refs;           /* the queue's, and one for each event that refers to it */
    uint64_t offset, millis_behind;
    uint8_t *data;           /* NULL: a heartbeat */
    size_t len, pos;         /* pos: of the batch that is next */
};

struct subscriber {
    struct kinesis *k;
    struct call *call;
    struct subscriber *next, **prev;
    struct sluice_client *client;
    struct sluice_subscription *subscription; /* NULL: it has ended */
    uint8_t stream_id[16];
    char stream[NAME_MAX_LEN + 1];
    uint64_t consumer_id, map_version, created_s;
    uint32_t shard;
    uint64_t next_offset;    /* to be written */
    bool streaming;          /* the answer has begun */
    struct push *queue, **queue_tail, *live;
    bool over, closed;       /* nothing more will be pushed; the shard has ended */
    enum aws_error error;    /* over: the exception to end with; NONE: a clean end */
    char message[256];
    uint32_t children[CHILDREN_MAX];
    size_t n_children;
    struct env_timer timer;  /* 5 minutes; then the wait for the children */
};

/* One reference less. With the last one its memory goes, and what it took of the subscriber's credit is given back. */
void push_unref(struct push *p);

/* Each writes one event of the streaming answer. False: there is no memory, or the data is damaged.
 * The next records of the queue's first push, or none if it is a heartbeat; a push that is written leaves the queue. */
bool events_write_push(struct subscriber *s);
/* The end of the shard, whose children the map has. */
bool events_write_children(struct subscriber *s, const struct map_stream *m);
/* The exception of s->error. */
bool events_write_exception(struct subscriber *s);

#endif
