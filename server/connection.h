/* connection.h: one accepted connection of the native protocol.
 *
 * States: HELLO (nothing but a FRAME_HELLO is taken, 5 s) -> CLIENT | PEER_LINK (its FRAME_LINK payloads go to the lane it named) | PEER_CONTROL
 * -> CLOSING (waits for its requests and for env's closed).
 *
 * It is read only while all of this holds: unanswered requests below requests_max and REQUEST_BYTES_MAX, unsent answers below UNSENT_MAX, the lane's memory bound not
 * reached. So a client that does not read its answers, or sends faster than the shard commits, is slowed down by TCP. Payloads that are not whole yet have a bound of
 * their own per lane, of the same size: who finds no room is not read until others are done, and who sends too slowly then is closed. Answers to fetches are
 * bounded where they are made (fetch_room.h); while that room is short, a client that does not take its answers is closed. */
#ifndef SLUICE_CONNECTION_H
#define SLUICE_CONNECTION_H

#include "proto/frame.h"
#include "server/id_table.h"
#include "server/lane.h"
#include "server/request.h"

enum {
    CONNECTION_HELLO_MS = 5000,
    CONNECTION_IDLE_MS = 600000,         /* a client without requests */
    CONNECTION_PEER_IDLE_MS = 5000,      /* a link without a whole frame: its liveness records come every 50 ms */
    CONNECTION_UNSENT_MAX = 8 << 20,     /* bytes of answers that wait for the client to read */
    CONNECTION_REQUEST_BYTES_MAX = 16 << 20, /* payload bytes of unanswered requests */
    CONNECTION_HELLO_MESSAGE_MAX = 4096,
    CONNECTION_RESERVE = 256,            /* beyond connections-max, which counts clients: for nodes and for those that have not said HELLO; fewer if descriptors are few */
    /* A payload under way from a client: bounded by time, as others may wait for its place. */
    CONNECTION_RECEIVE_SMALL = 64 << 10, /* below this it is not counted */
    CONNECTION_RECEIVE_MS = 10000, CONNECTION_RECEIVE_BYTES_PER_MS = 64,
    CONNECTION_RECEIVE_CROWDED_MS = 2000, CONNECTION_RECEIVE_CROWDED_BYTES_PER_MS = 1024,
    /* A client with unsent answers, while memory for answers is short: so many bytes in so long, or it is closed. */
    CONNECTION_STALL_MS = 3000, CONNECTION_STALL_BYTES = 16 << 10,
    CONNECTION_SUBSCRIPTIONS_MAX = 10000 /* of one connection: an endpoint has those of all its clients on one */
};

enum connection_state { CONNECTION_HELLO, CONNECTION_CHECKING, CONNECTION_CLIENT, CONNECTION_PEER_LINK, CONNECTION_PEER_CONTROL, CONNECTION_CLOSING };

struct connection {
    struct env_conn conn;
    struct lane *lane;
    uint64_t id;                  /* its number on this node: never used twice */
    struct frame_reader reader;
    enum connection_state state;
    struct connection *next, **prev;
    struct request *requests;
    unsigned n_requests;          /* unanswered ones */
    unsigned n_subscriptions;     /* that were answered and go on */
    struct id_table subscriptions; /* by correlation id: those and the ones that wait for their answer */
    uint64_t bytes_open;          /* payload bytes of unanswered requests */
    bool reading;                 /* env_conn_read() is on */
    bool in_frames;               /* guards against re-entry while frames are handled */
    bool closed;                  /* env said closed: memory goes with the last request */
    bool close_when_sent;         /* an ERROR is on its way, then it ends */
    uint64_t last_ms;             /* accepted; after the HELLO the last byte received, of a link the last whole frame */
    bool drained;                 /* every byte read was looked at */
    uint64_t receiving;           /* bytes of a large payload under way, counted in lane.bytes_receiving; 0: none */
    uint64_t receiving_from_ms;
    uint64_t bytes_out;           /* given to the socket so far */
    uint64_t stall_bytes, stall_from_ms; /* how much had left at the last moment when it took its answers as it should */
    bool parked;                  /* its payload waits for room: not read; counted in lane.n_parked */
    unsigned messages_out;        /* hellos being checked on another lane, ERROR frames being sent */
    bool formed;                  /* a peer that named our cluster */
    /* peers */
    uint32_t peer_node;
    uint64_t peer_incarnation;
    uint32_t peer_lane;
    unsigned to_lane;
    bool told_links;              /* links_incoming(open) was said */
};

void connection_accept(struct lane *l);
/* Once a second: hello and idle limits. */
void connections_tick(struct lane *l);
/* The lane's memory bound was left: read again where allowed. */
void connections_resume(struct lane *l);
void connections_close_all(struct lane *l);
/* The answer of a request is ready (on home). */
void connection_send(struct request *r);
/* A request of it came to its end: its memory and its place are free again (on home; r is not touched). subscribed: it was answered before, as a subscription. */
void connection_request_done(struct connection *c, uint64_t held, bool subscribed);
/* An ERROR frame, after which the connection ends. */
void connection_refuse(struct connection *c, int code, uint64_t correlation, const char *why);
void connection_close(struct connection *c);
/* connection_hello.c: the first frame. */
void connection_hello(struct connection *c, const struct frame *f);
/* A whole frame that is no request, encoded; taken over. then_close: ends the connection when it was sent. */
void connection_send_frame(struct connection *c, void *frame, size_t len, bool then_close);
/* Looks at what was read, and reads on where allowed. */
void connection_progress(struct connection *c);
void connection_maybe_free(struct connection *c);
/* Says to the links of the lane it named that the peer's connection is gone. */
void connection_link_ended(struct connection *c);

#endif
