/* What the cluster is like now: which nodes are alive, which shards lack replicas or a leader. For `sluice cluster status` and the metrics; nothing is decided by it.
 *
 * Alive is who the failure detector of this node's links hears, so that a death is seen within `silence-ms`; the map's DEAD, which has replicas replaced in the end,
 * follows seconds later by the log. */
#include <stdlib.h>

#include "raft/links.h"
#include "server/controller_impl.h"

enum { FIRST_REPORT_MS = 2000 };

/* On the leader it must report as well; to one that leads since a moment nobody has reported yet. */
static bool alive(const struct controller *c, uint32_t node)
{
    if (node == c->self) {
        return true;
    }
    return links_peer_up(groups_links(c->o.groups), node) && (!controller_ready(c) || node_up(c, node) || node_down_ms(c, node) < FIRST_REPORT_MS);
}

bool controller_majority(const struct controller *c, const struct cluster_map *map)
{
    unsigned up = 0;
    for (unsigned i = 0; i < map->n_controller_voters; i++) {
        up += alive(c, map->controller[i].node);
    }
    return up * 2 > map->n_controller_voters;
}

static bool lost(const struct actual_group *a, const struct map_replica *r)
{
    for (unsigned i = 0; a != NULL && i < LOST_MAX; i++) {
        if (a->lost[i] == raft_id_make(r->node, r->generation)) {
            return true;
        }
    }
    return false;
}

void controller_look(const struct controller *c, const struct map_shard *s, struct shard_look *out)
{
    const struct actual_group *a = actual_group(c, s->group);
    *out = (struct shard_look){.leader = controller_shard_leader(c, s->group)};
    unsigned wanted = 0;
    for (unsigned i = 0; i < s->n_replicas; i++) {
        const struct map_replica *r = &s->replicas[i];
        wanted += !r->joining && !r->leaving;
        out->live += !r->joining && !r->leaving && alive(c, r->node) && !lost(a, r);
    }
    bool led = out->leader != 0 && alive(c, out->leader) && (!controller_ready(c) || group_led(c, a));
    if (!led || out->live * 2 <= wanted) {
        out->leader = 0; /* the one that led finds no majority */
    }
    out->under_replicated = out->live < s->stream->replicas;
}

static void add_nodes(const struct controller *c, const struct cluster_map *map, struct node_infos *nodes)
{
    controller_fill_nodes(map, nodes);
    for (size_t i = 0; i < nodes->n; i++) {
        Sluice__NodeInfo *info = &nodes->infos[i];
        const struct actual_node *n = controller_ready(c) ? actual_node(c, info->id) : NULL;
        bool dead = !alive(c, info->id);
        if (dead && info->state != SLUICE__NODE_INFO__STATE__JOINING) {
            info->state = SLUICE__NODE_INFO__STATE__DEAD;
        }
        info->version = (char *)(info->id == c->self ? SLUICE_VERSION : n != NULL ? n->version : "");
    }
}

static void add_shards(const struct controller *c, const struct cluster_map *map, struct node_infos *nodes, Sluice__ClusterStatusReply *reply)
{
    for (unsigned i = 0; i < map->n_streams; i++) {
        for (unsigned k = 0; k < map->streams[i].n_shards; k++) {
            const struct map_shard *s = &map->streams[i].shards[k];
            struct shard_look look;
            controller_look(c, s, &look);
            reply->shards++;
            reply->shards_without_leader += look.leader == 0;
            reply->under_replicated += look.under_replicated;
            for (size_t n = 0; n < nodes->n; n++) {
                nodes->infos[n].leaders += look.leader != 0 && nodes->infos[n].id == look.leader;
                nodes->infos[n].replicas += cluster_map_replica(s, nodes->infos[n].id) != NULL;
            }
        }
    }
}

/* Exact on the controller's leader; on another node (asked because the leader could not be) what it knows itself. */
void call_status(struct call *call)
{
    struct controller *c = call->c;
    Sluice__ClusterStatusReply reply = SLUICE__CLUSTER_STATUS_REPLY__INIT;
    reply.answering_node = c->self;
    reply.controller_leader = controller_leader_node(c);
    reply.cluster_id = (ProtobufCBinaryData){.len = 16, .data = (uint8_t *)node_identity(c->o.node)->cluster_id};
    struct node_infos *nodes = xcalloc(1, sizeof *nodes);
    char *notes[NOTES_MAX + 2];
    const struct cluster_map *map = controller_ready(c) ? controller_fresh_map(c) : c->map;
    bool majority = map == NULL || controller_majority(c, map);
    if (map != NULL) {
        reply.map_version = map->version;
        reply.streams = map->n_streams;
        add_nodes(c, map, nodes);
        add_shards(c, map, nodes, &reply);
        reply.n_nodes = nodes->n;
        reply.nodes = nodes->list;
    }
    if (!majority || (reply.controller_leader != 0 && !alive(c, reply.controller_leader))) {
        reply.controller_leader = 0; /* it leads no more, though its time has not run out yet */
    }
    if (c->leading && majority) {
        for (unsigned i = 0; i < c->rec.n_notes; i++) {
            notes[reply.n_notes++] = c->rec.notes[i];
        }
    } else if (!majority) {
        notes[reply.n_notes++] = (char *)"the controller has no majority: this is what this node sees itself; nothing can be changed, shards with a majority of their own go on";
    } else {
        notes[reply.n_notes++] = (char *)(reply.controller_leader == 0 ? "the controller has no leader: this is what this node sees itself"
                                                                       : "the controller's leader did not answer: this is what this node sees itself");
    }
    reply.notes = notes;
    call_answer(call, FRAME_CLUSTER_STATUS_REPLY, &reply);
    free(nodes);
}

void controller_stats(const struct controller *c, struct controller_stats *out)
{
    *out = (struct controller_stats){.is_leader = c->leading};
    const struct cluster_map *map = c->map;
    if (map == NULL) {
        return;
    }
    out->streams = map->n_streams;
    for (unsigned i = 0; i < map->n_streams; i++) {
        out->shards += map->streams[i].n_shards;
        out->reshards += map->streams[i].n_reshards;
        for (unsigned k = 0; c->leading && k < map->streams[i].n_shards; k++) {
            struct shard_look look;
            controller_look(c, &map->streams[i].shards[k], &look);
            out->leaderless += look.leader == 0;
            out->under_replicated += look.under_replicated;
        }
    }
    for (unsigned i = 0; i < map->n_nodes; i++) {
        const struct map_node *n = &map->nodes[i];
        out->nodes += n->state != NODE_REMOVED;
        out->nodes_alive += n->state == NODE_ALIVE && alive(c, n->id);
    }
}
