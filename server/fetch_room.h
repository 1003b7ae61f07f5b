/* fetch_room.h: memory for the answers of fetches, of one lane: bounded, and shared by the connections that read. Pure: no clock, no I/O.
 *
 * A fetch claims room before it reads and gives it back when its answer was written to the socket or dropped. Who does not drain its socket keeps what it has, so
 * nobody gets much: what a connection has may grow up to an eighth of what is then still free. However many connections hang, the next one finds room that way, less
 * and less, until what is free is smaller than its first batch.
 * Claims that find no room wait: per connection in their order, the connections in turn. A connection that has nothing is passed by others for at most
 * FETCH_ROOM_PASS_MS, so large batches are not starved by small ones. One that has its share waits for its own answers to go, and holds nobody up. */
#ifndef SLUICE_FETCH_ROOM_H
#define SLUICE_FETCH_ROOM_H

#include <stdbool.h>
#include <stdint.h>

#include "server/id_table.h"

enum {
    FETCH_ROOM_OVERHEAD = 16 << 10, /* what a prepared answer takes beside its bytes */
    FETCH_ROOM_SHARE = 8,
    FETCH_ROOM_PASS_MS = 1000
};

struct fetch_account;

/* One fetch. Zeroed at first. */
struct fetch_claim {
    struct fetch_account *account; /* NULL: has and wants nothing */
    uint64_t bytes;                /* what it has */
    uint64_t first;                /* what it needs at least */
    uint64_t since_ms;             /* waits from then on */
    bool waiting, turn;            /* turn: fetch_room_next() gave it out */
    struct fetch_claim *next;      /* of the same connection */
    struct fetch_claim *later, **earlier; /* all that wait, oldest first */
};

struct fetch_room {
    uint64_t max, used;
    struct id_table accounts;      /* by connection */
    struct fetch_account *ring, **ring_tail; /* connections whose claims may find room */
    struct fetch_claim *oldest, **newest;
    unsigned waiting;
};

void fetch_room_init(struct fetch_room *room, uint64_t max);
void fetch_room_deinit(struct fetch_room *room); /* no claims are left */

/* Claims between `first` (the first batch, which is read whole) and `want` bytes. Returns how many it may read (at least `first`), or 0: it waits until
 * fetch_room_next() returns it; then it claims again, and gets room unless `first` has grown. */
uint64_t fetch_room_claim(struct fetch_room *room, struct fetch_claim *c, uint64_t connection, uint64_t first, uint64_t want, uint64_t now_ms);
/* What it really has, once that is known. */
void fetch_room_settle(struct fetch_room *room, struct fetch_claim *c, uint64_t bytes);
/* Gives back what it has, or ends its waiting. No effect on a claim that has and wants nothing. */
void fetch_room_release(struct fetch_room *room, struct fetch_claim *c);
/* A waiting claim for which there is room now, taken out of the queue; NULL: none. Asked again until NULL after anything was given back or began to wait. */
struct fetch_claim *fetch_room_next(struct fetch_room *room, uint64_t now_ms);
/* Some connection that has nothing waits, or little is free: who hangs on to memory is in the way. */
bool fetch_room_crowded(const struct fetch_room *room);
/* The connection's oldest waiting claim; NULL: none. */
struct fetch_claim *fetch_room_of(const struct fetch_room *room, uint64_t connection);

#endif
