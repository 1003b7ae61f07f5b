/* links_impl.h: what links.c (the lane's table, receiving, the detector) and links_peer.c (one peer: connecting, queues, frames) share. */
#ifndef SLUICE_LINKS_IMPL_H
#define SLUICE_LINKS_IMPL_H

#include "proto/base.h"
#include "proto/error.h"
#include "proto/frame.h"
#include "raft/links.h"

enum {
    LINKS_FRAME_BYTES = 256 << 10,      /* a frame is closed when it reaches this */
    LINKS_UNSENT_MAX = 256 << 10,       /* bytes left with the connection: what a small message may have to wait behind */
    LINKS_SMALL_MAX = 1 << 20,          /* small messages gathered; more are dropped (Raft repeats them) */
    LINKS_CUT = LINKS_FRAME_BYTES,      /* longer records go in chunks, which costs a second checksum and a copy: the batches of a busy producer pass whole */
    LINKS_COUNTERS = 256,
    LINKS_BACKOFF_MIN_MS = 20, LINKS_BACKOFF_MAX_MS = 500, LINKS_BACKOFF_REFUSED_MS = 2000,
    LINKS_HELLO_MS = 1000,              /* patience for connecting and the hello */
    LINKS_MEMORY_MAX = 64 * 64          /* peers' lanes remembered: as many as nodes and lanes there may be */
};

struct links_peer;

/* One frame on its way. Reused. */
struct links_frame {
    struct links_frame *next;
    struct links_conn *conn;
    struct env_write write;
    uint8_t *buf;                  /* frame header, small records, record headers */
    size_t len, cap;
    struct iovec *iov;             /* while building, pieces of buf have base NULL and their position in `at` */
    size_t *at;
    unsigned n_iov, cap_iov;
    struct link_send *done, **done_tail; /* sends that end with this frame */
};

/* Our connection to a peer. Lives until its closed callback, while the peer may already have the next one. */
struct links_conn {
    struct env_conn conn;
    struct links_peer *peer;       /* NULL: the peer let go of it */
    struct links *links;
    struct frame_reader reader;
    struct link_send *orphans;     /* sends that end when the connection has closed */
    struct env_write hello;
    struct iovec hello_iov;
    bool connected;
};

enum links_state { LINKS_IDLE, LINKS_CONNECTING, LINKS_HELLO, LINKS_READY };

struct links_peer {
    struct links *links;
    uint32_t node;
    char *host;
    uint16_t port;

    /* outgoing */
    enum links_state state;
    struct links_conn *conn;
    struct env_timer retry;        /* next attempt; or the patience with the present one */
    unsigned backoff_ms;
    uint64_t epoch;
    uint8_t *small;                /* encoded small records of this turn */
    size_t small_len, small_cap;
    struct link_send *bulk, **bulk_tail;
    uint64_t bulk_bytes;
    uint32_t counts[LINKS_COUNTERS];
    struct links_frame *spare;
    struct env_task pump;
    bool dead;                     /* freed by the queued pump */
    uint64_t sent_ns;              /* when something was last sent */
    uint64_t chunk_id;
    unsigned alive_turn;

    /* incoming */
    unsigned incoming;             /* open connections of the peer's present incarnation */
    uint64_t incarnation;
    uint64_t heard_ns;             /* 0: not since the last verdict */
    bool up, heard_down;           /* heard_down: it spoke after it was found to be down */
    uint8_t *whole;                /* a record that comes in chunks */
    uint32_t whole_len, whole_have;
    uint64_t whole_id;

    int64_t clock_offset_ms;
    bool clock_known;
};

struct links_remembered {
    struct links_memory m;
    bool due;                      /* changed since it was last written */
    uint64_t changed_ms, due_ms;   /* when it last changed, and when it did first since it was written */
};

struct links {
    struct links_options o;
    struct links_peer **peers;     /* by node id */
    unsigned n_peers;
    struct env_timer timer;
    struct env_task finish;        /* done callbacks of sends that ended without a connection */
    struct link_send *ended, **ended_tail;
    struct link_entry *table;
    uint64_t tick_ns, late_ns;
    struct links_remembered *memory;
    unsigned n_memory, n_due;      /* in all; not written down yet */
    uint64_t ride_after_ms;
    unsigned conns;
    bool closing;
    struct links_stats stats;
};

/* (Re)connects now. */
void links_peer_connect(struct links_peer *p);
/* Gives up the present connection; ends everything queued. retry: try again after the backoff. */
void links_peer_disconnect(struct links_peer *p, bool retry);
void links_peer_free(struct links_peer *p);
/* Frames go out at the end of the turn. */
void links_peer_wake(struct links_peer *p);
/* Ends a send later in this turn, outside its starter. */
void links_end_send(struct links *l, struct link_send *s, int status);
void links_finish_sends(struct link_send *list, int status);
/* A frame came that tells a position. */
void links_told(struct links *l, const struct links_origin *from);
void links_send_alive(struct links_peer *p);
/* Re-evaluates whether the peer is up and tells it. */
void links_judge(struct links_peer *p, bool by_reset);

static inline unsigned links_counter(uint64_t group) { return (unsigned)((group * 0x9e3779b97f4a7c15u) >> 56); }

#endif
