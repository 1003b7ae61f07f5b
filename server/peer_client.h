/* peer_client.h: requests from this node to others, outside of the links: one native connection per node on lane 0.
 *
 * Carries FORWARD, REPORT, REPLICA and FORM. The connection's hello has role PEER and to_lane = PEER_CONTROL_LANE: the server then treats it as
 * a control connection (no links_incoming(), frames go to controller_request() with from_peer set, FORM to formation_request() while the node
 * is not formed). Before formation the hello's cluster_id is empty; the server accepts that, and answers nothing but FORM to it.
 *
 * Connects when there is something to send, with backoff (20 ms to 1 s). A request ends exactly once: with the answer, or with NO_CONNECTION (it was surely
 * not sent), or TIMEOUT (also: the connection broke after it was sent). Bounds: PEER_REQUESTS_MAX per node, else BUSY. Not to be closed inside a reply. */
#ifndef SLUICE_PEER_CLIENT_H
#define SLUICE_PEER_CLIENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "storage/env.h"

enum { PEER_CONTROL_LANE = 0xffff, PEER_REQUESTS_MAX = 256 };

struct peer_client;
struct peer_client_options {
    struct env *env;
    uint32_t node_id;
    uint64_t incarnation;
    uint8_t cluster_id[16]; /* zero before formation; see peer_client_identity() */
};
int peer_client_open(struct peer_client **out, const struct peer_client_options *o);
/* Every open request ends (NO_CONNECTION or TIMEOUT) first; done runs when all connections are closed. done may be NULL. */
void peer_client_close(struct peer_client *p, void (*done)(void *arg), void *arg);
/* New identity for hellos; drops the connections. */
void peer_client_identity(struct peer_client *p, const uint8_t cluster_id[16], uint64_t incarnation);
/* Adds or moves a node. */
void peer_client_set(struct peer_client *p, uint32_t node, const char *host, uint16_t port);
void peer_client_remove(struct peer_client *p, uint32_t node);

/* The failure detector has lost the node: what was sent to it ends as TIMEOUT now and not when its time is over, what was not as NO_CONNECTION. Not inside a reply. */
void peer_client_lost(struct peer_client *p, uint32_t node);

/* code 0: the answer is (kind, message); FRAME_ERROR answers come with code = the error's code and the Error message. Else a SLUICE_E_ code, message NULL.
 * The message is valid during the call. */
typedef void (*peer_reply)(void *arg, int code, uint8_t kind, const void *message, size_t len);
/* message: a ProtobufCMessage *, encoded at once. 0: reply will be called (never inside); else SLUICE_E_NOT_FOUND (no such node) or _BUSY, and it won't. */
int peer_client_request(struct peer_client *p, uint32_t node, uint8_t kind, const void *message, uint64_t timeout_ms, peer_reply reply, void *arg);

#endif
