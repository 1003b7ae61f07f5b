/* lane_shards.c: which replicas run on a lane: those its journal holds, at start; then what the cluster map says.
 *
 * A replica is created as a first member only if the map says that it belongs to the first configuration, nothing was ever replaced in the group, and this disk never knew it
 * (F5). Everything else joins under the generation that the controller gave it, or is not opened. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "proto/base.h"
#include "server/node_impl.h"
#include "server/shard.h"

/* ---- routes ---- */

struct announcement { struct env_msg msg; struct lane *to; uint64_t group; unsigned lane; bool here, named; uint8_t stream_id[16]; uint32_t shard; };

static void announced(struct env_msg *m)
{
    struct announcement *a = container_of(m, struct announcement, msg);
    if (a->here) {
        routes_set(&a->to->routes, a->group, a->lane, a->named ? a->stream_id : NULL, a->shard);
    } else {
        routes_remove(&a->to->routes, a->group);
    }
    free(a);
}

void lane_announce(struct lane *l, uint64_t group, bool here, const uint8_t stream_id[16], uint32_t shard)
{
    for (unsigned i = 0; i < l->node->n_lanes; i++) {
        struct announcement *a = xcalloc(1, sizeof *a);
        *a = (struct announcement){ .to = l->node->lanes[i], .group = group, .lane = l->number, .here = here, .named = stream_id != NULL, .shard = shard };
        if (stream_id != NULL) {
            memcpy(a->stream_id, stream_id, 16);
        }
        if (a->to == l) {
            announced(&a->msg);
        } else {
            env_post(a->to->env, &a->msg, announced);
        }
    }
}

/* ---- what was here ---- */

static struct lane_past *lane_past_add(struct lane *l, uint64_t group, uint64_t raft_id, bool lost)
{
    struct lane_past *p = xcalloc(1, sizeof *p);
    *p = (struct lane_past){ .next = l->past, .group = group, .raft_id = raft_id, .lost = lost };
    l->past = p;
    return p;
}

/* The newest replica of a group that was here; NULL if there never was one. */
static struct lane_past *past_of(struct lane *l, uint64_t group)
{
    struct lane_past *found = NULL;
    for (struct lane_past *p = l->past; p != NULL; p = p->next) {
        if (p->group == group && (found == NULL || p->raft_id > found->raft_id)) {
            found = p;
        }
    }
    return found;
}

void lane_open_recovered(struct lane *l)
{
    unsigned n = 0;
    l->gaps = l->recovered->gaps;
    for (size_t i = 0; i < l->recovered->n_groups; i++) {
        const struct recovered_group *g = &l->recovered->groups[i];
        if (g->group == CONTROLLER_GROUP || g->group == 0) {
            continue;
        }
        if (g->removed) {
            groups_set_removed(l->groups, g->group);
        }
        if (g->removed || g->lost || g->raft_id == 0) {
            bool lost = g->lost || (g->raft_id == 0 && !g->removed); /* without its first record nobody knows whose votes these are */
            lane_past_add(l, g->group, g->raft_id, lost);
            if (lost && !g->removed) {
                log_error(&l->log, "replica lost by damage; it will join anew", "group=%llu generation=%u", (unsigned long long)g->group, (uint32_t)g->raft_id);
            }
            continue;
        }
        struct shard_open_options o = { .group = g->group, .raft_id = g->raft_id, .recovered = g };
        struct shard *s;
        int rc = shard_open(l, &o, &s);
        if (rc == -EIO || rc == ENV_EXIT_DAMAGE) {
            /* Part of its Raft log is damaged: it must not vote with what is left. */
            log_error(&l->log, "replica damaged; it will join anew", "group=%llu code=%d", (unsigned long long)g->group, rc);
            lane_past_add(l, g->group, g->raft_id, true);
            continue;
        }
        if (rc != 0) {
            log_error(&l->log, "cannot open a replica", "group=%llu code=%d", (unsigned long long)g->group, rc);
            env_fatal(l->env, rc > 0 ? rc : ENV_EXIT_DAMAGE, "cannot open a replica");
            return;
        }
        n++;
    }
    if (n > 0) {
        log_info(&l->log, "replicas recovered", "lane=%u replicas=%u", l->number, n);
    }
}

/* ---- what should be here ---- */

static void shard_gone(struct lane *l)
{
    if (l->closing) {
        lane_close_step(l);
    } else {
        lane_reconcile(l);
    }
}

static void remove_unwanted(struct lane *l)
{
    uint32_t self = l->node->identity.node_id;
    for (struct shard *s = l->shards, *next; s != NULL; s = next) {
        next = s->next;
        if (s->phase != SHARD_RUNNING) {
            continue;
        }
        const struct map_replica *want = NULL;
        enum replica_verdict v = cluster_map_verdict(l->map, s->group_id, self, (uint32_t)s->raft_id, &want);
        if (v == REPLICA_REMOVE || v == REPLICA_REPLACED) {
            log_info(&l->log, "replica removed", "group=%llu generation=%u", (unsigned long long)s->group_id, (uint32_t)s->raft_id);
            lane_past_add(l, s->group_id, s->raft_id, false);
            shard_close(s, true, shard_gone);
        }
    }
}

static bool first_creation(const struct map_shard *m, const struct map_replica *mine)
{
    if (!mine->first || mine->leaving || mine->joining || m->generation > 1) {
        return false;
    }
    for (unsigned i = 0; i < m->n_replicas; i++) {
        if (!m->replicas[i].first || m->replicas[i].leaving || m->replicas[i].joining) {
            return false;
        }
    }
    return true;
}

/* True if a replica that the journal knows nothing of may have lived here under this very id, and the damage took every record of it (F5, F6). */
static bool perhaps_forgotten(const struct lane *l, const struct map_shard *m)
{
    return l->gaps && (l->new_groups == 0 || m->group < l->new_groups);
}

static void open_wanted(struct lane *l, const struct map_shard *m, const struct map_replica *mine)
{
    uint32_t self = l->node->identity.node_id;
    uint64_t raft_id = raft_id_make(self, mine->generation);
    struct lane_past *past = past_of(l, m->group);
    if (past == NULL && perhaps_forgotten(l, m)) {
        if (l->new_groups != 0) {
            log_error(&l->log, "replica perhaps lost by damage; it will join anew", "group=%llu generation=%u", (unsigned long long)m->group, mine->generation);
            lane_past_add(l, m->group, raft_id, true)->pinned = true;
            lane_status_changed(l);
        }
        return;
    }
    if (past != NULL && past->lost && !past->pinned) {
        /* What the damage took may have been the record of a newer life than the newest one that can still be read: so no generation that the map knew
         * when this node came back is ever used again (F5). */
        past->pinned = true;
        past->raft_id = max_u64(past->raft_id, raft_id);
        lane_status_changed(l);
    }
    if (past != NULL && past->raft_id >= raft_id) {
        return; /* this very life of the replica ended here: only a newer generation may come */
    }
    struct shard_open_options o = { .group = m->group, .raft_id = raft_id };
    struct group_member members[REPLICAS_MAX];
    if (past == NULL && mine->first) {
        if (!first_creation(m, mine)) {
            /* Too late for a first configuration: told as lost, so that the controller gives it a new generation. */
            lane_past_add(l, m->group, raft_id, true);
            lane_status_changed(l);
            return;
        }
        for (unsigned i = 0; i < m->n_replicas; i++) {
            members[i] = (struct group_member){ .raft_id = raft_id_make(m->replicas[i].node, m->replicas[i].generation), .voter = true };
        }
        o.members = members;
        o.n_members = m->n_replicas;
        o.prefer_leader = m->preferred_leader == self;
    }
    struct shard *s;
    int rc = shard_open(l, &o, &s);
    if (rc != 0) {
        log_error(&l->log, "cannot create a replica", "group=%llu code=%d", (unsigned long long)m->group, rc);
        env_fatal(l->env, rc > 0 ? rc : ENV_EXIT_MEMORY, "cannot create a replica");
        return;
    }
    log_info(&l->log, "replica opened", "group=%llu generation=%u first=%d shard=%u stream=%s", (unsigned long long)m->group, mine->generation, o.members != NULL, m->shard,
             m->stream->name);
}

void lane_reconcile(struct lane *l)
{
    if (l->map == NULL || l->closing || l->stopping) {
        return;
    }
    remove_unwanted(l);
    uint32_t self = l->node->identity.node_id;
    const struct map_node *own = cluster_map_node(l->map, self);
    if (l->new_groups == 0 && own != NULL && own->incarnation >= l->node->identity.incarnation) {
        l->new_groups = l->map->next_group; /* the first map that shows this life of the node: it has every group that there was when the node came back */
    }
    for (unsigned i = 0; i < l->map->n_streams; i++) {
        const struct map_stream *stream = &l->map->streams[i];
        for (unsigned k = 0; k < stream->n_shards; k++) {
            const struct map_shard *m = &stream->shards[k];
            const struct map_replica *mine = cluster_map_replica(m, self);
            if (mine == NULL || mine->leaving || lane_for_group(l, m->group) != l || lane_shard(l, m->group) != NULL) {
                continue;
            }
            open_wanted(l, m, mine);
        }
    }
}

/* ---- reports ---- */

struct status_message { struct env_msg msg; struct node *node; unsigned lane; struct replica_status *status; unsigned n, not_caught_up, lost_copies; bool has_map; };

static void status_arrived(struct env_msg *m)
{
    struct status_message *s = container_of(m, struct status_message, msg);
    node_lane_status(s->node, s->lane, s->status, s->n, s->not_caught_up, s->lost_copies, s->has_map);
    free(s);
}

static void fill_status(const struct shard *s, struct replica_status *st)
{
    st->group = s->group_id;
    st->raft_id = s->raft_id;
    st->term = group_term(s->group);
    st->last_index = group_last_index(s->group);
    st->commit_index = group_commit_index(s->group);
    st->leader = group_leader(s->group);
    st->role = group_role(s->group);
    st->ready = s->ready;
    st->joined = group_joined(s->group);
    st->write_bytes_per_s = s->write_bytes_per_s;
    st->opened = s->state.opened;
    st->closed = s->state.closed;
    st->next_offset = s->state.next;
    st->log_time_ms = s->state.time_ms;
    st->expired = s->expired;
    if (s->leading) {
        st->n_peers = group_peers(s->group, st->peers, ARRAY_LEN(st->peers));
    }
}

/* Nothing in it changes without an event that is told by lane_status_changed(). */
static bool settled(const struct replica_status *st)
{
    for (unsigned i = 0; i < st->n_peers; i++) {
        const struct group_peer *p = &st->peers[i];
        if (!p->voter || !p->recent || p->match_index != st->last_index) {
            return false;
        }
    }
    return st->leader != 0 && st->joined;
}

void lane_send_status(struct lane *l)
{
    if (l->closing) {
        return;
    }
    unsigned n_past = 0;
    for (const struct lane_past *p = l->past; p != NULL; p = p->next) {
        n_past += p->lost;
    }
    l->status_settled = n_past == 0;
    struct status_message *m = xcalloc(1, sizeof *m);
    *m = (struct status_message){ .node = l->node, .lane = l->number, .has_map = l->map != NULL };
    m->status = xcalloc(l->n_shards + n_past + 1, sizeof *m->status);
    for (const struct shard *s = l->shards; s != NULL; s = s->next) {
        if (s->phase != SHARD_RUNNING || s->group == NULL) {
            continue;
        }
        struct replica_status *st = &m->status[m->n++];
        fill_status(s, st);
        l->status_settled = l->status_settled && settled(st);
        const struct map_shard *wanted = l->map != NULL ? cluster_map_shard_by_group(l->map, s->group_id) : NULL;
        const struct map_replica *mine = wanted != NULL ? cluster_map_replica(wanted, l->node->identity.node_id) : NULL;
        m->not_caught_up += !s->caught_up || (mine != NULL && mine->joining); /* before it votes the group has a replica less than it should */
    }
    for (const struct lane_past *p = l->past; p != NULL; p = p->next) {
        if (p->lost && lane_shard(l, p->group) == NULL) {
            m->status[m->n++] = (struct replica_status){ .group = p->group, .raft_id = p->raft_id, .lost = true };
            const struct map_shard *wanted = l->map != NULL ? cluster_map_shard_by_group(l->map, p->group) : NULL;
            bool here = wanted != NULL && cluster_map_replica(wanted, l->node->identity.node_id) != NULL;
            m->lost_copies += here && wanted->n_replicas == 1; /* nobody else has it */
            m->not_caught_up += here && wanted->n_replicas > 1; /* not ready before it joined anew */
        }
    }
    env_post(l->node->env, &m->msg, status_arrived);
}

/* ---- hand-over before a stop ---- */

static void transferred(void *arg, int status)
{
    struct lane *l = arg;
    (void)status; /* what did not go is tried again */
    l->transfers--;
    if (l->transfers == 0 && !l->closing) {
        lane_transfer_step(l);
    }
}

static void tell_quiet(struct lane *zero, void *arg)
{
    (void)arg;
    node_lane_quiet(zero->node);
}

void lane_transfer_step(struct lane *l)
{
    if (!l->stopping || l->quiet || l->transfers > 0) {
        return;
    }
    unsigned left = 0;
    for (struct shard *s = l->shards; s != NULL; s = s->next) {
        if (s->phase != SHARD_RUNNING || group_role(s->group) != GROUP_LEADER) {
            continue;
        }
        struct group_peer peers[REPLICAS_MAX + 2];
        unsigned n = group_peers(s->group, peers, ARRAY_LEN(peers));
        bool other = false;
        for (unsigned i = 0; i < n; i++) {
            other = other || (peers[i].voter && peers[i].recent && peers[i].raft_id != s->raft_id);
        }
        if (!other) {
            continue; /* nobody to hand it to */
        }
        left++;
        if (group_transfer(s->group, 0, transferred, l) == 0) {
            l->transfers++;
        }
    }
    if (left == 0 && l->kinesis == NULL) {
        l->quiet = true;
        lane_run(l->node->lanes[0], tell_quiet, NULL);
    }
}
