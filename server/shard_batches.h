/* shard_batches.h: whole batches for an answer, read from where they lie within the lane's memory for answers (fetch_room.h). Fetches and push read this way.
 *
 *   shard_batches_read   room -> read from the cache or the disk, then `done` (perhaps within the call); no room -> waits: `room` runs when it has its turn, and the
 *                        owner asks again
 *   shard_batches_end    unpins what was read and gives the room back: when the answer was sent, or is not wanted any more */
#ifndef SLUICE_SHARD_BATCHES_H
#define SLUICE_SHARD_BATCHES_H

#include <sys/uio.h>

#include "server/fetch_room.h"
#include "storage/batch_log.h"

struct lane;
struct shard;
struct shard_batches;

/* What is being read or was read: as long as this exists the batches are pinned, and so is the shard. */
struct shard_batches_read {
    struct batch_read read;
    struct iovec iov[BATCH_READ_MAX];
    struct shard_batches *owner;
    uint64_t bytes;
};

/* One reader's. Zeroed at first, but for shard and the callbacks. */
struct shard_batches {
    struct fetch_claim claim;
    struct shard *shard;
    struct shard_batches_read *read;                                        /* NULL: nothing was begun */
    void (*room)(struct shard_batches *b);                                  /* it has its turn: ask again, or let it pass */
    void (*refused)(struct shard_batches *b, int code, const char *why);    /* it waited too long, or the shard or its connection ends: the owner ends it */
    void (*done)(struct shard_batches *b);                                  /* shard_batches_code() tells how; the owner ends it one day */
};

enum shard_batches_begun {
    SHARD_BATCHES_NO_MEMORY, /* nothing was begun */
    SHARD_BATCHES_WAITS,     /* for room */
    SHARD_BATCHES_READS      /* or has read: the owner may have ended it */
};
/* Reads from `offset` up to max_bytes (at least one batch), no batch at or above `limit`. */
enum shard_batches_begun shard_batches_read(struct shard_batches *b, uint64_t connection, uint64_t offset, uint64_t max_bytes, uint64_t limit);
/* 0, or the error of a read that ended; *why may be set to NULL. */
int shard_batches_code(const struct shard_batches *b, const char **why);
/* What limits count of a read that succeeded: keys and data of the records from `from` on, unpacked. Of a batch in part its share. */
uint64_t shard_batches_weight(const struct shard_batches *b, uint64_t from);
/* Also fine if nothing was begun or it still waits for room; not while it reads. The shard may be gone after it. */
void shard_batches_end(struct shard_batches *b);

/* Every one of this shard's that waits for room is refused. */
void shard_batches_reject(struct shard *s, int code);
/* Once a second: those that waited too long for memory; tells every lane if memory is short. */
void shard_batches_tick(struct lane *l);
/* The connection is gone: what it still wants is not read (on lane `l`). */
void shard_batches_forget(struct lane *l, uint64_t connection);

#endif
