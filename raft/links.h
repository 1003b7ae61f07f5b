/* links.h: the messages between the same lane of two nodes: one outgoing connection per peer (node, lane), everything of a loop turn in as few
 * frames as possible.
 *
 * Each side owns the connection on which it sends; what it receives comes on connections the peer opened (accepted by the server, which hands
 * their FRAME_LINK payloads to links_receive()). The server's hello tells who the peer is.
 *
 * Order: messages to one peer that concern one group are delivered in order or not at all (a lost connection loses what was unsent; the
 * sender's `done` tells). Small messages (votes, results, heartbeats of groups with nothing queued, read-index, liveness) overtake bulk ones of other
 * groups; records larger than 256 KiB go in chunks so that they never hold up the rest for long.
 * Back-pressure: at most `window_peer` bytes queued per peer; at the bound bulk sends end with -EAGAIN, small ones still go.
 *
 * Detector: every link sends at least a liveness record every 50 ms (idle: that is all it sends). A peer is *down* at once when its connection to us is
 * reset, or ours is refused or reset, and after 800 ms of silence (doubled while our own loop was late); it is *up* with the next
 * record received. One verdict per peer and lane, told by `peer_changed`. */
#ifndef SLUICE_LINKS_H
#define SLUICE_LINKS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "raft/link_codec.h"
#include "storage/env.h"

struct links;

struct links_options {
    struct env *env;
    uint8_t cluster_id[16];
    uint32_t node_id, lane, lanes;
    uint64_t incarnation;
    uint64_t life;                 /* a random number of this start (rule F27); 0: none */
    uint64_t prior_end;            /* where this lane's journal ended in the life before (rule F27); 0: there was none */
    uint64_t born;                 /* the incarnation in which this node last came with an empty disk; 0: its first */
    unsigned liveness_ms;          /* 50 */
    unsigned silence_ms;           /* 800 */
    uint64_t window_peer;          /* bytes queued to one peer, default 4 MiB; never less than one largest record */
    void *arg;
    /* How far this lane's journal may have acknowledged anything (rule F27): asked for every frame, so that it covers the results in it. NULL: nothing. */
    uint64_t (*position)(void *arg);
    /* A whole record arrived. m->payload is valid during the call; with LINK_APPEND its bytes may be taken (m->payload_owned, free()).
     * A record of a group that lives on another lane is handed over by the owner. */
    void (*receive)(void *arg, uint32_t from_node, struct link_message *m);
    /* Peers are not removed inside it. Down is told once more if the peer spoke after the first time, on a connection of its own that then ended too. */
    void (*peer_changed)(void *arg, uint32_t node, bool up, bool by_reset);
    /* A peer refused us for good (SLUICE_E_REFUSED, SLUICE_E_WRONG_CLUSTER, SLUICE_E_OLDER_COPY), with its message. */
    void (*refused)(void *arg, uint32_t node, int code, const char *message);
};

int links_open(struct links **out, const struct links_options *o);
void links_close(struct links *l);
/* Adds or moves a peer; connects by itself, with backoff (first retry 20 ms, at most 500 ms). */
void links_set_peer(struct links *l, uint32_t node, const char *host, uint16_t port);
void links_remove_peer(struct links *l, uint32_t node);
bool links_peer_up(const struct links *l, uint32_t node);

/* A message on its way. `done` (may be NULL) runs when its bytes were handed to the system or given up (status != 0), never inside links_send().
 * Until then entries/payload parts stay valid. The header fields are copied at once. */
struct link_send;
typedef void (*link_send_done)(struct link_send *s);
struct link_send {
    struct link_message message;
    const struct iovec *parts;  /* payload in pieces; message.payload_len is their sum */
    unsigned n_parts;
    link_send_done done;
    int status;                 /* out: 0, -EAGAIN (window full), -ENOTCONN, -ECANCELED */
    struct link_send *next;     /* links' own, as all below */
    uint8_t *head;              /* encoded header of a record that goes in chunks */
    uint32_t sent;
    bool copied;                /* made by links_post(): freed by the links */
};
/* The link_send is the links' until done. For small messages without payload use links_post(), which copies. */
void links_send(struct links *l, uint32_t node, struct link_send *s);
/* Copies a message without payload (or with a small one, up to LINK_POST_MAX). Dropped silently if the peer is not connected. */
void links_post(struct links *l, uint32_t node, const struct link_message *m);
/* Counts the connections we opened to the peer; 0: none now. What was sent in another epoch may be lost. */
uint64_t links_epoch(const struct links *l, uint32_t node);
/* The peer's wall clock less our monotonic one (env_now_ms()), as of its last liveness record; false: unknown. Our own wall clock has no part in it: it may have stepped
 * since. */
bool links_clock_offset(const struct links *l, uint32_t node, int64_t *offset_ms);

/* Where a FRAME_LINK frame came from: what the hello of its connection named, and the frame's correlation id, which carries the sender's position. */
struct links_origin { uint32_t node, lane; uint64_t incarnation, position; };
/* From the server: the payload of a FRAME_LINK frame; free()d by the links. 0 or a SLUICE_E_ code (malformed: the server closes the connection). */
int links_receive(struct links *l, const struct links_origin *from, void *payload, size_t n);
/* From the server: a peer's connection was accepted or ended (reset). */
void links_incoming(struct links *l, uint32_t from_node, uint64_t incarnation, bool open);

/* ---- rule F27: what is remembered of a peer's lane (links_memory.c) ---- */
struct links_memory {
    uint32_t node, lane;
    uint64_t incarnation;          /* the highest that came */
    uint64_t life;                 /* its random number; 0: not told */
    uint64_t position;             /* the highest position of its journal that it told, in that incarnation or (of the same journal) before */
};
/* NULL: nothing. Valid until the next links_remember(). */
const struct links_memory *links_recall(const struct links *l, uint32_t node, uint32_t lane);
/* Takes over what is newer than what is remembered. noted: it comes from this lane's journal and need not be written again. */
void links_remember(struct links *l, const struct links_memory *m, bool noted);
/* Gives to `write` what changed since it was last given and should be written now. rides: a flush comes anyway (then at most every 20 ms); else only what has stood still
 * for a second, or waited for ten. */
void links_write_memory(struct links *l, bool rides, void (*write)(void *arg, const struct links_memory *m), void *arg);

struct links_stats { uint64_t frames_sent, frames_received, records_sent, records_received, bytes_sent, bytes_received, reconnects, queued; };
void links_stats(const struct links *l, struct links_stats *out);

#endif
