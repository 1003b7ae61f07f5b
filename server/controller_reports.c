/* Reports: what every node tells the controller's leader about its replicas, and what the leader makes of it.
 *
 * A report holds the groups this node leads (with their configuration and its progress), replicas that wait to join, and replicas whose logs are lost; of these only
 * what changed since the last report that arrived, unless it is complete. Sent at most each 200 ms when something changed, else each second as a sign of life.
 * A new leader knows nothing and asks for complete reports. */
#include "server/controller_impl.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proto/crc32c.h"

enum { REPORT_RUNNING = 0, REPORT_JOINING = 1, REPORT_LOST = 2 };

/* ---- sending ---- */

static void refresh_own(struct controller *c)
{
    for (;;) {
        unsigned n = c->cap_own > 0 ? c->o.replicas(c->o.arg, c->own, c->cap_own) : 0;
        if (c->cap_own > 0 && n < c->cap_own) {
            c->n_own = n;
            break;
        }
        c->cap_own = c->cap_own == 0 ? 64 : c->cap_own * 2;
        c->own = xrealloc(c->own, c->cap_own * sizeof *c->own);
    }
    id_table_deinit(&c->own_index);
    for (unsigned i = 0; i < c->n_own; i++) {
        if (c->own[i].group != 0) {
            id_table_put(&c->own_index, c->own[i].group, &c->own[i]);
        }
    }
}

static bool worth_telling(const struct replica_status *r) { return r->role == GROUP_LEADER || r->lost || !r->joined; }

/* Progress is told while someone may wait for it: a member that does not vote yet, a leader that is not where it should be, a child that is not decided about. */
static bool progress_matters(const struct controller *c, const struct replica_status *r)
{
    for (unsigned i = 0; i < r->n_peers; i++) {
        if (!r->peers[i].voter) {
            return true;
        }
    }
    const struct map_shard *s = c->map != NULL ? cluster_map_shard_by_group(c->map, r->group) : NULL;
    return s != NULL && (s->coming || s->preferred_leader != c->self);
}

static uintptr_t status_hash(const struct controller *c, const struct replica_status *r)
{
    bool progress = progress_matters(c, r);
    uint64_t words[12 + 4 * (REPLICAS_MAX + 2)] = {r->raft_id, r->term, (uint64_t)r->role, r->ready, r->joined, r->lost, progress ? r->last_index : 0, r->opened, r->closed,
                                                   r->expired};
    unsigned n = 10;
    for (unsigned i = 0; i < r->n_peers && i < REPLICAS_MAX + 2; i++) {
        words[n++] = r->peers[i].raft_id;
        words[n++] = (uint64_t)((r->peers[i].voter ? 1 : 0) | (r->peers[i].standby ? 2 : 0) | (r->peers[i].recent ? 4 : 0));
        words[n++] = progress ? r->peers[i].match_index : 0;
    }
    return (uintptr_t)crc32c(0, words, n * sizeof words[0]) | (uintptr_t)1 << 32;
}

struct report {
    Sluice__Report message;
    Sluice__ReplicaReport *replicas, **list;
    Sluice__ReplicaProgress *progress, **progress_list;
    size_t n_progress;
    char address[80];
};

static void add_replica(struct report *x, const struct replica_status *r)
{
    Sluice__ReplicaReport *m = &x->replicas[x->message.n_replicas];
    sluice__replica_report__init(m);
    m->group = r->group;
    m->raft_id = r->raft_id;
    m->role = (uint32_t)r->role;
    m->term = r->term;
    m->last_index = r->last_index;
    m->commit_index = r->commit_index;
    m->ready = r->ready;
    m->state = r->lost ? REPORT_LOST : !r->joined ? REPORT_JOINING : REPORT_RUNNING;
    m->write_bytes_per_s = r->write_bytes_per_s;
    m->opened = r->opened;
    m->closed = r->closed;
    m->next_offset = r->next_offset;
    m->log_time_ms = r->log_time_ms;
    m->expired = r->expired;
    m->progress = &x->progress_list[x->n_progress];
    for (unsigned i = 0; r->role == GROUP_LEADER && i < r->n_peers; i++) {
        Sluice__ReplicaProgress *p = &x->progress[x->n_progress];
        sluice__replica_progress__init(p);
        p->raft_id = r->peers[i].raft_id;
        p->role = r->peers[i].voter ? 2 : r->peers[i].standby ? 1 : 0;
        p->match_index = r->peers[i].match_index;
        p->recent = r->peers[i].recent;
        x->progress_list[x->n_progress++] = p;
        m->n_progress++;
    }
    x->list[x->message.n_replicas++] = m;
}

/* Decides what to tell; remembers it as told (a failed report makes the next one complete). news: false if no replica can have changed, it is a mere sign of life. */
static void build(struct controller *c, struct report *x, bool complete, bool news)
{
    unsigned n_own = news ? c->n_own : 0;
    size_t max = n_own + 1;
    memset(x, 0, sizeof *x);
    sluice__report__init(&x->message);
    x->replicas = xcalloc(max, sizeof *x->replicas);
    x->list = xcalloc(max, sizeof *x->list);
    x->progress = xcalloc(max * (REPLICAS_MAX + 2), sizeof *x->progress);
    x->progress_list = xcalloc(max * (REPLICAS_MAX + 2), sizeof *x->progress_list);
    x->message.replicas = x->list;
    if (complete) {
        id_table_deinit(&c->sent);
    }
    for (unsigned i = 0; i < n_own; i++) {
        const struct replica_status *r = &c->own[i];
        if (r->group <= CONTROLLER_GROUP) {
            continue; /* the controller's leader sees its own group itself */
        }
        void *told = id_table_get(&c->sent, r->group);
        if (!worth_telling(r)) {
            if (told != NULL) { /* it was led here: tell that it is not any more */
                add_replica(x, r);
                id_table_take(&c->sent, r->group);
            }
            continue;
        }
        void *now = (void *)status_hash(c, r);
        if (told != now) {
            add_replica(x, r);
            id_table_put(&c->sent, r->group, now);
        }
    }
    const struct settings *s = c->settings;
    Sluice__Report *m = &x->message;
    m->node = c->self;
    m->incarnation = node_identity(c->o.node)->incarnation;
    m->complete = complete;
    m->map_version = c->map_told ? c->map->version : 0;
    m->zone = (char *)s->zone;
    m->kinesis = (char *)s->kinesis;
    m->admin = (char *)s->admin;
    m->stopping = c->stopping;
    m->version = (char *)SLUICE_VERSION;
    m->features = controller_features(c);
    snprintf(x->address, sizeof x->address, "%.79s", s->listen);
    m->address = x->address;
    env_disk_free(c->o.env, s->data, &m->disk_free);
}

static void drop_report(struct report *x)
{
    free(x->replicas);
    free(x->list);
    free(x->progress);
    free(x->progress_list);
}

static void on_report(void *arg, int code, uint8_t kind, const void *message, size_t len)
{
    struct controller *c = arg;
    c->report_out = false;
    if (c->closing) {
        return;
    }
    Sluice__ReportReply *r = code == SLUICE_E_OK && kind == FRAME_REPORT_REPLY ? sluice__report_reply__unpack(NULL, len, message) : NULL;
    if (r == NULL || r->want_complete) {
        c->report_complete = true;
        c->own_changed = c->own_changed || r != NULL;
    }
    if (r != NULL) {
        sluice__report_reply__free_unpacked(r, NULL);
    }
}

void reports_tick(struct controller *c)
{
    uint64_t now = controller_now(c);
    uint64_t since = now - c->own_ms;
    bool changed = c->own_changed && since >= CONTROLLER_TICK_MS;
    if (!changed && since < REPORT_CHANGED_MS && c->own_ms != 0) {
        return;
    }
    uint32_t leader = controller_ready(c) ? c->self : controller_leader_node(c);
    if (leader != c->reported_to) {
        c->reported_to = leader;
        c->report_complete = true;
    }
    c->own_ms = now;
    bool news = c->own_changed || c->report_complete;
    if (!news && now - c->report_ms < REPORT_IDLE_MS) {
        return;
    }
    if (news) {
        refresh_own(c);
    }
    if (leader == 0 || c->report_out || (leader == c->self && !controller_ready(c))) {
        return;
    }
    struct report x;
    build(c, &x, c->report_complete, news);
    if (x.message.n_replicas == 0 && !c->report_complete && !c->own_changed && now - c->report_ms < REPORT_IDLE_MS) {
        drop_report(&x);
        return;
    }
    c->own_changed = false;
    c->report_ms = now;
    c->report_complete = false;
    if (leader == c->self) {
        bool want_complete = false;
        reports_take(c, &x.message, &want_complete);
        c->report_complete = want_complete;
    } else if (peer_client_request(c->peers, leader, FRAME_REPORT, &x.message, 2000, on_report, c) == 0) {
        c->report_out = true;
    } else {
        c->report_complete = true;
    }
    drop_report(&x);
}

/* ---- taking ---- */

struct actual_node *actual_node(const struct controller *c, uint32_t id)
{
    for (unsigned i = 0; i < c->n_actual_nodes; i++) {
        if (c->actual_nodes[i].id == id) {
            return (struct actual_node *)&c->actual_nodes[i];
        }
    }
    return NULL;
}

struct actual_group *actual_group(const struct controller *c, uint64_t group) { return id_table_get(&c->actual, group); }

static void forget_groups(struct controller *c)
{
    for (size_t i = 0; i < c->actual.cap; i++) {
        if (c->actual.slots[i].id != 0) {
            free(c->actual.slots[i].value);
        }
    }
    id_table_deinit(&c->actual);
}

void reports_lead(struct controller *c)
{
    forget_groups(c);
    memset(c->actual_nodes, 0, sizeof c->actual_nodes);
    c->n_actual_nodes = 0;
    c->reported_to = 0;
    c->own_changed = true;
    uint64_t next = controller_now(c);
    c->rec.next_ms = c->rec.balance_ms = next;
    c->rec.idle_ms = 0;
    c->rec.n_notes = 0;
}

void reports_close(struct controller *c)
{
    forget_groups(c);
    free(c->own);
    id_table_deinit(&c->own_index);
    id_table_deinit(&c->sent);
}

bool node_up(const struct controller *c, uint32_t id)
{
    const struct actual_node *n = actual_node(c, id);
    return id == c->self || (n != NULL && n->heard_ms != 0 && controller_now(c) < n->heard_ms + c->settings->silence_ms + REPORT_LATE_MS);
}

/* Counted from when this leader began, at the earliest: a new leader gives everybody time to report. */
uint64_t node_down_ms(const struct controller *c, uint32_t id)
{
    if (node_up(c, id)) {
        return 0;
    }
    const struct actual_node *n = actual_node(c, id);
    uint64_t since = max_u64(c->leading_since_ms, n != NULL ? n->heard_ms : 0);
    return controller_now(c) - since;
}

bool group_led(const struct controller *c, const struct actual_group *a) { return a != NULL && a->leader != 0 && a->ready && node_up(c, a->leader); }

static struct actual_group *group_make(struct controller *c, uint64_t group)
{
    struct actual_group *a = actual_group(c, group);
    if (a == NULL) {
        a = xcalloc(1, sizeof *a);
        a->group = group;
        id_table_put(&c->actual, group, a);
    }
    return a;
}

static void take_leader(struct controller *c, struct actual_group *a, uint32_t node, const Sluice__ReplicaReport *r)
{
    if (r->term < a->term) {
        return; /* it has not heard yet that another one leads */
    }
    if (a->leader_raft_id != r->raft_id || a->term != r->term) {
        a->since_ms = controller_now(c);
    }
    a->leader = node;
    a->leader_raft_id = r->raft_id;
    a->term = r->term;
    a->ready = r->ready;
    a->last_index = r->last_index;
    a->commit_index = r->commit_index;
    a->seen = c->report_serial;
    a->opened = a->opened || r->opened;
    a->expired = r->expired;
    if (r->closed && !a->closed) {
        a->closed = true;
        a->ended_offset = r->next_offset;
        a->ended_ms = r->log_time_ms;
    }
    const struct map_shard *s = cluster_map_shard_by_group(c->map, a->group);
    if (s != NULL && s->reshard != 0) {
        c->rec.next_ms = 0; /* keys wait for it */
    }
    a->n_peers = 0;
    for (size_t i = 0; i < r->n_progress && a->n_peers < ARRAY_LEN(a->peers); i++) {
        const Sluice__ReplicaProgress *p = r->progress[i];
        a->peers[a->n_peers++] = (struct group_peer){.raft_id = p->raft_id, .voter = p->role == 2, .standby = p->role == 1, .recent = p->recent, .match_index = p->match_index};
    }
}

static void take_lost(struct actual_group *a, uint64_t raft_id)
{
    unsigned free_slot = LOST_MAX - 1;
    for (unsigned i = 0; i < LOST_MAX; i++) {
        if (a->lost[i] == raft_id) {
            return;
        }
        if (a->lost[i] == 0) {
            free_slot = i;
        }
    }
    a->lost[free_slot] = raft_id;
}

static void take_replica(struct controller *c, uint32_t node, const Sluice__ReplicaReport *r)
{
    if (raft_id_node(r->raft_id) != node || r->group <= CONTROLLER_GROUP || c->map == NULL || cluster_map_shard_by_group(c->map, r->group) == NULL) {
        return;
    }
    struct actual_group *a = group_make(c, r->group);
    if (r->state == REPORT_LOST) {
        take_lost(a, r->raft_id);
    } else if (r->role == GROUP_LEADER) {
        take_leader(c, a, node, r);
    } else if (a->leader_raft_id == r->raft_id && r->term >= a->term) {
        a->leader = 0;
        a->leader_raft_id = 0;
        a->ready = false;
    }
}

/* The node's life and addresses as it tells them, if the map does not know them yet. */
static void learn_life(struct controller *c, const struct map_node *n, const Sluice__Report *m)
{
    bool same = m->incarnation == n->incarnation && strcmp(m->zone, n->zone) == 0 && strcmp(m->kinesis, n->kinesis) == 0 && strcmp(m->admin, n->admin) == 0;
    if (same || c->rec.proposals > 0 || strlen(m->zone) >= sizeof n->zone || strlen(m->kinesis) >= sizeof n->kinesis || strlen(m->admin) >= sizeof n->admin) {
        return;
    }
    if (m->incarnation == n->incarnation && (m->zone[0] == '\0' || strcmp(m->zone, n->zone) == 0) && (m->kinesis[0] == '\0' || strcmp(m->kinesis, n->kinesis) == 0)
        && (m->admin[0] == '\0' || strcmp(m->admin, n->admin) == 0)) {
        return; /* what is empty stays as it was */
    }
    struct controller_entry e = {.kind = CONTROLLER_NODE_LIFE, .incarnation = m->incarnation, .life = LIFE_KEPT};
    e.node.id = n->id;
    snprintf(e.node.zone, sizeof e.node.zone, "%s", m->zone);
    snprintf(e.node.kinesis, sizeof e.node.kinesis, "%s", m->kinesis);
    snprintf(e.node.admin, sizeof e.node.admin, "%s", m->admin);
    reconciler_propose(c, &e);
}

int reports_take(struct controller *c, const Sluice__Report *m, bool *want_complete)
{
    *want_complete = false;
    if (!controller_ready(c)) {
        return SLUICE_E_NOT_LEADER;
    }
    const struct cluster_map *map = controller_fresh_map(c);
    const struct map_node *known = map != NULL ? cluster_map_node(map, m->node) : NULL;
    if (known == NULL || known->state == NODE_REMOVED) {
        *want_complete = true;
        return map == NULL ? SLUICE_E_OK : SLUICE_E_NOT_FOUND;
    }
    if (m->incarnation < known->incarnation) {
        return SLUICE_E_REFUSED; /* an earlier life of this node speaks */
    }
    struct actual_node *n = actual_node(c, m->node);
    if (n == NULL) {
        sluice_assert(c->n_actual_nodes < NODES_MAX);
        n = &c->actual_nodes[c->n_actual_nodes++];
        *n = (struct actual_node){.id = m->node};
    }
    uint64_t now = controller_now(c);
    bool was_up = n->heard_ms != 0 && node_up(c, n->id);
    if (!was_up || n->incarnation != m->incarnation) {
        n->up_since_ms = now;
        n->complete = false;
    }
    n->heard_ms = now;
    n->incarnation = m->incarnation;
    n->map_version = m->map_version;
    n->stopping = m->stopping;
    n->disk_free = m->disk_free;
    n->features = m->features != 0 ? m->features : FEATURE_LEVEL_FIRST;
    snprintf(n->version, sizeof n->version, "%s", m->version);
    c->report_serial++;
    c->rec.stirred = c->rec.stirred || m->n_replicas > 0 || m->complete;
    for (size_t i = 0; i < m->n_replicas; i++) {
        take_replica(c, m->node, m->replicas[i]);
    }
    if (m->complete) {
        n->complete = true;
        for (size_t i = 0; i < c->actual.cap; i++) {
            struct actual_group *a = c->actual.slots[i].id != 0 ? c->actual.slots[i].value : NULL;
            if (a != NULL && a->leader == m->node && a->seen != c->report_serial) {
                a->leader = 0;
                a->ready = false;
            }
        }
    }
    *want_complete = !n->complete;
    learn_life(c, known, m);
    return SLUICE_E_OK;
}
