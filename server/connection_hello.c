/* connection_hello.c: the first frame of a connection: version, role; for nodes: cluster, identity, and whether the peer's disk is what it was (F27).
 *
 * A peer that comes to a lane other than the one it asks for is checked on that lane (its links know the positions), by a message there and back; no frame is taken in between. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proto/base.h"
#include "server/connection.h"
#include "server/controller_entry.h"
#include "server/node_impl.h"
#include "sluice.pb-c.h"

enum { CLIENT_MESSAGE_MAX = 256 << 10 };

struct hello_check {
    struct env_msg msg;
    struct connection *conn;
    struct lane *home, *to;
    uint32_t node, lane;
    uint64_t incarnation, life, prior_end, born, correlation;
    int code;
    char why[160];
};

static void send_reply(struct connection *c, uint64_t correlation)
{
    const struct node *n = c->lane->node;
    Sluice__HelloReply reply = SLUICE__HELLO_REPLY__INIT;
    reply.version = FRAME_VERSION;
    if (n->identity.formed) {
        reply.cluster_id.data = (uint8_t *)(uintptr_t)n->identity.cluster_id;
        reply.cluster_id.len = sizeof n->identity.cluster_id;
    }
    reply.node_id = n->identity.node_id;
    reply.frame_max = BATCH_BYTES_MAX;
    reply.record_max = (uint32_t)n->settings.record_max;
    reply.incarnation = n->identity.incarnation;
    reply.lanes = n->n_lanes;
    reply.lane = c->lane->number;
    reply.in_flight_max = (uint32_t)n->settings.requests_max;
    reply.features = FEATURE_LEVEL;
    reply.region = (char *)(uintptr_t)n->settings.region;
    reply.account = (char *)(uintptr_t)n->settings.account;
    size_t len = 0;
    void *frame = frame_encode(FRAME_HELLO_REPLY, correlation, &reply, 0, &len);
    connection_send_frame(c, frame, len, frame == NULL);
}

/* On the lane the peer asked for. */
static void check_peer(struct hello_check *h)
{
    struct lane *l = h->to;
    h->code = 0;
    if (!l->serving || l->closing) { /* what the journals of its node remember is not here before */
        h->code = SLUICE_E_NOT_READY;
        snprintf(h->why, sizeof h->why, "the node is starting or stopping");
        return;
    }
    struct links *links = groups_links(l->groups);
    const struct links_memory *m = links_recall(links, h->node, h->lane);
    uint64_t known = m != NULL ? m->incarnation : 0, position = m != NULL ? m->position : 0;
    if (known > h->incarnation) {
        h->code = SLUICE_E_OLDER_COPY;
        snprintf(h->why, sizeof h->why, "older disk copy: life %llu of node %u, but life %llu was seen", (unsigned long long)h->incarnation, h->node, (unsigned long long)known);
        return;
    }
    /* A node that came back with an empty disk was given new raft ids by the controller: what its earlier lives acknowledged is void. It says so itself, as the map here may be
     * old; an older copy says when the copied disk was new, and of the lives since then something is known here, or nothing of it was acknowledged to this lane. A lane that is
     * new there has no life before (its node refuses to start if the journal of an old one is gone). */
    const struct map_node *node = l->map != NULL ? cluster_map_node(l->map, h->node) : NULL;
    bool renewed = h->prior_end == 0 || h->born > known || (node != NULL && node->blank_since > known);
    if (known != 0 && known < h->incarnation && !renewed && h->prior_end < position) {
        h->code = SLUICE_E_OLDER_COPY;
        snprintf(h->why, sizeof h->why, "older disk copy: the journal of node %u ended at %llu, but had acknowledged up to %llu", h->node, (unsigned long long)h->prior_end,
                 (unsigned long long)position);
        return;
    }
    /* A folder that was put back to where it stood before its last start begins that incarnation a second time: the number alone does not tell. */
    if (known == h->incarnation && m != NULL && m->life != 0 && h->life != 0 && m->life != h->life) {
        h->code = SLUICE_E_OLDER_COPY;
        snprintf(h->why, sizeof h->why, "older disk copy: node %u began its life %llu twice", h->node, (unsigned long long)h->incarnation);
        return;
    }
    links_remember(links, &(struct links_memory){ .node = h->node, .lane = h->lane, .incarnation = h->incarnation, .life = h->life, .position = renewed ? 0 : position }, false);
    links_incoming(links, h->node, h->incarnation, true);
}

static void finish_peer(struct hello_check *h)
{
    struct connection *c = h->conn;
    if (h->code == 0) {
        c->told_links = true;
        if (c->state == CONNECTION_CLOSING) {
            connection_link_ended(c);
        } else {
            c->state = CONNECTION_PEER_LINK;
            c->lane->metrics.peer_connections++;
            send_reply(c, h->correlation);
        }
    } else if (c->state != CONNECTION_CLOSING) {
        connection_refuse(c, h->code, h->correlation, h->why);
    }
}

static void check_came_back(struct env_msg *m)
{
    struct hello_check *h = container_of(m, struct hello_check, msg);
    struct connection *c = h->conn;
    finish_peer(h);
    free(h);
    c->messages_out--;
    if (c->state == CONNECTION_CLOSING) {
        connection_maybe_free(c);
    } else {
        connection_progress(c);
    }
}

static void check_there(struct env_msg *m)
{
    struct hello_check *h = container_of(m, struct hello_check, msg);
    check_peer(h);
    env_post(h->home->env, &h->msg, check_came_back);
}

struct link_end { struct env_msg msg; struct lane *to; uint32_t node; uint64_t incarnation; };

static void end_there(struct env_msg *m)
{
    struct link_end *e = container_of(m, struct link_end, msg);
    if (e->to->groups != NULL && !e->to->closing) {
        links_incoming(groups_links(e->to->groups), e->node, e->incarnation, false);
    }
    free(e);
}

void connection_link_ended(struct connection *c)
{
    if (!c->told_links) {
        return;
    }
    c->told_links = false;
    struct lane *to = c->lane->node->lanes[c->to_lane];
    struct link_end *e = xcalloc(1, sizeof *e);
    *e = (struct link_end){ .to = to, .node = c->peer_node, .incarnation = c->peer_incarnation };
    if (to == c->lane) {
        end_there(&e->msg);
    } else {
        env_post(to->env, &e->msg, end_there);
    }
}

static void hello_client(struct connection *c, uint64_t correlation)
{
    if (c->lane->metrics.connections >= c->lane->n_connections_max) {
        connection_refuse(c, SLUICE_E_BUSY, correlation, "too many connections");
        return;
    }
    c->state = CONNECTION_CLIENT;
    c->lane->metrics.connections++;
    c->reader.message_max = CLIENT_MESSAGE_MAX;
    c->reader.payload_max = BATCH_BYTES_MAX;
    send_reply(c, correlation);
}

static void hello_peer(struct connection *c, const Sluice__Hello *m, uint64_t correlation)
{
    struct lane *l = c->lane;
    const struct identity *id = &l->node->identity;
    bool named = m->cluster_id.len == 16;
    if (named && id->formed && memcmp(m->cluster_id.data, id->cluster_id, 16) != 0) {
        connection_refuse(c, SLUICE_E_WRONG_CLUSTER, correlation, NULL);
        return;
    }
    if (m->node_id == 0 || m->node_id == id->node_id) {
        connection_refuse(c, SLUICE_E_REFUSED, correlation, "another node uses this node's number, or a node calls itself");
        return;
    }
    if (m->to_node != 0 && m->to_node != id->node_id) {
        connection_refuse(c, SLUICE_E_REFUSED, correlation, "this is another node than the one called");
        return;
    }
    c->peer_node = m->node_id;
    c->peer_incarnation = m->incarnation;
    c->peer_lane = m->lane;
    c->formed = named && id->formed;
    c->reader.message_max = FRAME_MESSAGE_MAX;
    if (m->to_lane == PEER_CONTROL_LANE) {
        c->state = CONNECTION_PEER_CONTROL;
        l->metrics.peer_connections++;
        send_reply(c, correlation);
        return;
    }
    if (m->lane >= LANES_MAX || m->node_id > UINT16_MAX) {
        connection_refuse(c, SLUICE_E_REFUSED, correlation, "no such node or lane");
        return;
    }
    if (!c->formed || !l->serving) {
        connection_refuse(c, SLUICE_E_NOT_READY, correlation, "the node is starting");
        return;
    }
    c->reader.payload_max = FRAME_PAYLOAD_MAX;
    c->to_lane = m->to_lane % l->node->n_lanes;
    struct hello_check *h = xcalloc(1, sizeof *h);
    *h = (struct hello_check){ .conn = c, .home = l, .to = l->node->lanes[c->to_lane], .node = m->node_id, .lane = m->lane, .incarnation = m->incarnation, .life = m->life,
                               .prior_end = m->prior_end, .born = m->born, .correlation = correlation };
    if (h->to == l) {
        check_peer(h);
        finish_peer(h);
        free(h);
        return;
    }
    c->state = CONNECTION_CHECKING;
    c->messages_out++;
    env_post(h->to->env, &h->msg, check_there);
}

void connection_hello(struct connection *c, const struct frame *f)
{
    Sluice__Hello *m = sluice__hello__unpack(NULL, f->message_len, f->message);
    if (m == NULL) {
        connection_refuse(c, SLUICE_E_PROTOCOL, f->correlation, "malformed Hello");
        return;
    }
    if (m->version_min > FRAME_VERSION || m->version_max < FRAME_VERSION) {
        char why[120];
        snprintf(why, sizeof why, "this node speaks version %d, the caller %u to %u", FRAME_VERSION, m->version_min, m->version_max);
        connection_refuse(c, SLUICE_E_VERSION, f->correlation, why);
    } else if (m->role == SLUICE__HELLO__ROLE__PEER) {
        hello_peer(c, m, f->correlation);
    } else if (m->role == SLUICE__HELLO__ROLE__CLIENT) {
        hello_client(c, f->correlation);
    } else {
        connection_refuse(c, SLUICE_E_PROTOCOL, f->correlation, "unknown role");
    }
    sluice__hello__free_unpacked(m, NULL);
}
