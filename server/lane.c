/* lane.c: a lane's life, and the messages that come to it (see lane.h).
 *
 *   lane_make -> lane_start: journal recovered, groups ready -> lane_serve: recovered replicas run, connections are taken -> lane_map, again and again
 *   -> lane_stop: leaderships go -> lane_drain: shards and connections end -> lane_close: groups, barrier, journal */
#include "server/lane.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proto/base.h"
#include "server/connection.h"
#include "server/kinesis/kinesis.h"
#include "server/node_impl.h"
#include "server/shard.h"

enum {
    STATUS_GATHER_MS = 5,
    STATUS_GATHER_SHARDS = 64 /* one millisecond more for so many: a report tells of all of them, and while leaders move there is always one that changed */
};

struct lane *lane_make(struct node *n, unsigned number)
{
    struct lane *l = xcalloc(1, sizeof *l);
    l->node = n;
    l->number = number;
    l->n_connections_max = (unsigned)(n->settings.connections_max / n->n_lanes + 1);
    l->n_accept_max = l->n_connections_max + CONNECTION_RESERVE;
    /* Half of the descriptors are the journal's: a segment that cannot be opened ends the node, and clients must not be able to bring that about. */
    unsigned files = n->settings.files_max != 0 ? (unsigned)min_u64(n->settings.files_max / 2 / n->n_lanes, UINT_MAX) : UINT_MAX;
    if (l->n_accept_max > files) {
        unsigned reserve = (unsigned)min_u64(CONNECTION_RESERVE, files / 4);
        l->n_accept_max = files;
        l->n_connections_max = files - reserve;
    }
    /* A quarter of the memory setting is for requests, half for Raft logs (groups_options.memory_max), the rest for indexes and slack. */
    l->bytes_max = max_u64(n->settings.memory / 4 / n->n_lanes, CONNECTION_REQUEST_BYTES_MAX);
    fetch_room_init(&l->fetch_room, n->settings.fetch_memory / n->n_lanes);
    return l;
}

void lane_free(struct lane *l)
{
    routes_deinit(&l->routes);
    fetch_room_deinit(&l->fetch_room);
    sluice_assert(l->subscriptions.n == 0);
    id_table_deinit(&l->subscriptions);
    while (l->past != NULL) {
        struct lane_past *p = l->past;
        l->past = p->next;
        free(p);
    }
    free(l->scratch);
    free(l);
}

static void set_env(struct lane *l, struct env *env)
{
    l->env = env;
    env->user = l;
    env->lane = l->number;
    l->log = l->node->log;
    l->log.env = env;
}

/* ---- listening ---- */

static void on_accept(struct env_listener *listener)
{
    connection_accept(container_of(listener, struct lane, listener));
}

int lane_listen(struct lane *l, const char *host, uint16_t *port)
{
    if (l->env == NULL) {
        set_env(l, l->node->env);
    }
    int rc = env_listen(l->env, &l->listener, host, *port, l->node->n_lanes > 1, on_accept);
    if (rc == 0) {
        l->listening = true;
        *port = l->listener.port;
    }
    return rc;
}

/* ---- opening ---- */

static void stray(void *arg, uint32_t from_node, struct link_message *m);

struct lost { uint32_t node; };

static void lost_here(struct lane *zero, void *arg)
{
    struct lost *lost = arg;
    if (zero->node->controller != NULL) {
        controller_peer_lost(zero->node->controller, lost->node);
    }
    free(lost);
}

static void peer_changed(void *arg, uint32_t node, bool up)
{
    struct lane *l = arg;
    log_info(&l->log, up ? "peer is up" : "peer is down", "lane=%u peer=%u", l->number, node);
    lane_status_changed(l);
    if (!up && l->number == 0 && !l->closing) {
        struct lost *lost = xmalloc(sizeof *lost);
        lost->node = node;
        lane_run(l, lost_here, lost); /* what was asked of it may be asked of others: not within the links */
    }
}

static void refused(void *arg, uint32_t node, int code, const char *message)
{
    struct lane *l = arg;
    if (log_limit_ok(&l->limit_refused, env_now_ms(l->env), 5, 60000)) {
        log_error(&l->log, "a peer refuses this node", "peer=%u code=%s reason=\"%s\"", node, sluice_error_name(code), message);
    }
    /* F27: this disk lacks what it once acknowledged. Its votes could undo that, and it would follow without ever being counted: the node ends, and joins anew when its
     * folder is wiped. */
    if (code == SLUICE_E_OLDER_COPY) {
        env_fatal(l->env, ENV_EXIT_IDENTITY, message);
    }
}

static void note_io_error(void *arg)
{
    struct lane *l = arg;
    struct identity id = l->node->identity;
    id.last_end = IDENTITY_IO_ERROR;
    identity_save(l->env, l->node->settings.data, &id);
}

static void open_storage(struct lane *l)
{
    struct node *n = l->node;
    const struct settings *s = &n->settings;
    char dir[1100];
    snprintf(dir, sizeof dir, "%s/lane-%u", s->data, l->number);
    struct journal_options jo = {
        .env = l->env, .dir = dir, .node_id = n->identity.node_id, .lane = l->number, .incarnation = n->identity.incarnation,
        .segment_first = (uint32_t)s->segment_first, .segment_max = (uint32_t)s->segment_max, .pool_max = s->pool_max,
        .flush_max = (uint32_t)s->flush_max, .reserve = s->disk_reserve, .cache_bytes = s->cache / n->n_lanes,
        .after_io_error = n->identity.last_end == IDENTITY_IO_ERROR, .io_error = note_io_error, .io_error_arg = l, .test_disable = s->test_disable_journal
    };
    memcpy(jo.cluster_id, n->identity.cluster_id, 16);
    char err[256] = "";
    int rc = journal_open(&l->journal, &jo, &l->recovered, err);
    if (rc != 0) {
        log_error(&l->log, "cannot open the journal", "lane=%u reason=\"%s\"", l->number, err[0] != 0 ? err : strerror(-rc));
        env_fatal(l->env, rc > 0 ? rc : ENV_EXIT_DISK, err);
        return;
    }
    if (l->recovered->message[0] != 0 || l->recovered->cut_bytes > 0) {
        log_warn(&l->log, "journal recovered", "lane=%u cut_bytes=%llu note=\"%s\"", l->number, (unsigned long long)l->recovered->cut_bytes, l->recovered->message);
    }
    struct groups_options go = {
        .env = l->env, .journal = l->journal, .node_id = n->identity.node_id, .lane = l->number, .lanes = n->n_lanes, .incarnation = n->identity.incarnation, .life = n->identity.life,
        .prior_end = l->recovered->prior_end, .born = n->formed.join_incarnation, .heartbeat_ms = (unsigned)s->heartbeat_ms, .election_ms = (unsigned)s->election_ms,
        .in_flight_bytes = (uint32_t)s->in_flight, .snapshot_bytes = s->snapshot_bytes,
        .trailing_bytes = s->trailing_bytes, .seed_bytes_per_s = s->seed_rate, .memory_max = s->memory / 2 / n->n_lanes, .silence_ms = (unsigned)s->silence_ms, .test_disable = s->test_disable_raft,
        .arg = l, .stray = stray, .peer_changed = peer_changed, .refused = refused
    };
    memcpy(go.cluster_id, n->identity.cluster_id, 16);
    rc = groups_open(&l->groups, &go);
    if (rc != 0) {
        log_error(&l->log, "cannot start the groups", "lane=%u code=%d", l->number, rc);
        env_fatal(l->env, rc > 0 ? rc : ENV_EXIT_MEMORY, "cannot start the groups");
    }
}

/* Only told: the log's time does not rest on this clock alone (shard_clock.c). */
static void note_clock_step(struct lane *l)
{
    int64_t seen = (int64_t)env_wall_ms(l->env) - (int64_t)(env_clock_ns(l->env) / 1000000u);
    int64_t step = seen - l->wall_less_clock_ms;
    if (l->ticks > 0 && (step > 1000 || step < -1000)) {
        log_warn(&l->log, "the wall clock stepped", "lane=%u ms=%lld", l->number, (long long)step);
    }
    l->wall_less_clock_ms = seen;
}

/* shard_tick() frees no shard; those that are stirred meanwhile come to the front, for the next tick. */
static void tick_stirred(struct lane *l)
{
    for (struct shard **at = &l->stirred; *at != NULL;) {
        struct shard *s = *at;
        if (shard_tick(s)) {
            at = &s->stirred_next;
            continue;
        }
        while (*at != s) {
            at = &(*at)->stirred_next;
        }
        *at = s->stirred_next;
        s->stirred = false;
    }
}

static void tick(struct env_timer *t)
{
    struct lane *l = container_of(t, struct lane, tick);
    note_clock_step(l);
    env_timer_start_ms(&l->tick, LANE_TICK_MS);
    l->ticks++;
    bool retention = l->ticks % (LANE_RETENTION_MS / LANE_TICK_MS) == 0;
    tick_stirred(l);
    for (struct shard *s = retention ? l->shards : NULL; s != NULL; s = s->next) {
        shard_retention_step(s);
    }
    if (l->ticks % (LANE_CONNECTIONS_MS / LANE_TICK_MS) == 0) {
        shard_batches_tick(l);
        connections_tick(l);
    }
    uint64_t status_ms = l->stirred == NULL && l->status_settled ? LANE_STATUS_IDLE_MS : LANE_STATUS_MS;
    if (l->ticks % (status_ms / LANE_TICK_MS) == 0) {
        lane_status_changed(l);
    }
    if (l->stopping && !l->closing) {
        lane_transfer_step(l);
    }
}

/* ---- messages between lanes ---- */

struct lane_message {
    struct env_msg msg;
    struct lane *to;
    void (*fn)(struct lane *l, void *arg);
    void *arg;
};

static void run_message(struct env_msg *m)
{
    struct lane_message *lm = container_of(m, struct lane_message, msg);
    lm->fn(lm->to, lm->arg);
    free(lm);
}

void lane_run(struct lane *l, void (*fn)(struct lane *l, void *arg), void *arg)
{
    struct lane_message *lm = xcalloc(1, sizeof *lm);
    *lm = (struct lane_message){ .to = l, .fn = fn, .arg = arg };
    env_post(l->env, &lm->msg, run_message);
}

static void tell_opened(struct lane *zero, void *arg) { (void)arg; node_lane_opened(zero->node); }
static void tell_serving(struct lane *zero, void *arg) { (void)arg; node_lane_serving(zero->node); }

static void lane_main(struct env *env, void *arg)
{
    struct lane *l = arg;
    set_env(l, env);
    open_storage(l);
    lane_run(l->node->lanes[0], tell_opened, NULL);
}

int lane_start(struct lane *l)
{
    if (l->number == 0) {
        open_storage(l);
        lane_run(l, tell_opened, NULL);
        return 0;
    }
    char name[16];
    snprintf(name, sizeof name, "lane-%u", l->number);
    struct env *env; /* the lane sets l->env itself, on its own thread */
    return env_lane_start(l->node->env, name, lane_main, l, &env);
}

/* A record of a group that is not open on this lane. Its memory lives only during the call, so it is copied. */
struct stray_record { struct env_msg msg; struct lane *to; uint32_t from; struct link_message m; struct link_entry *entries; void *payload; };

static void stray_arrived(struct env_msg *msg)
{
    struct stray_record *r = container_of(msg, struct stray_record, msg);
    if (r->to->groups != NULL && !r->to->closing && groups_find(r->to->groups, r->m.group) != NULL) {
        groups_receive(r->to->groups, r->from, &r->m);
    }
    free(r->entries);
    if (r->m.payload_owned != NULL || r->payload == NULL) {
        free(r->m.payload_owned);
    }
    free(r);
}

static void stray(void *arg, uint32_t from_node, struct link_message *m)
{
    struct lane *l = arg;
    struct lane *to = lane_for_group(l, m->group);
    if (to == l || m->group == 0) {
        return; /* no such replica on this node */
    }
    struct stray_record *r = xcalloc(1, sizeof *r);
    r->to = to;
    r->from = from_node;
    r->m = *m;
    r->m.payload_owned = NULL;
    if (m->n_entries > 0) {
        r->entries = xcalloc(m->n_entries, sizeof *r->entries);
        memcpy(r->entries, m->entries, m->n_entries * sizeof *r->entries);
        r->m.entries = r->entries;
    }
    if (m->payload_len > 0) {
        r->payload = xmalloc(m->payload_len);
        memcpy(r->payload, m->payload, m->payload_len);
        r->m.payload = r->m.payload_owned = r->payload;
    }
    env_post(to->env, &r->msg, stray_arrived);
}

struct lane *lane_for_group(struct lane *from, uint64_t group)
{
    const struct route *r = routes_group(&from->routes, group);
    unsigned lane = r != NULL ? r->lane : group == CONTROLLER_GROUP ? 0 : (unsigned)(group % from->node->n_lanes);
    return from->node->lanes[lane];
}

struct shard *lane_shard(struct lane *l, uint64_t group)
{
    struct shard *s = l->by_group[group % ARRAY_LEN(l->by_group)];
    while (s != NULL && s->group_id != group) {
        s = s->hash_next;
    }
    return s;
}

void lane_node_address(const struct lane *l, uint32_t node, char buf[96])
{
    buf[0] = 0;
    const struct map_node *n = node != 0 && l->map != NULL ? cluster_map_node(l->map, node) : NULL;
    if (n != NULL) {
        snprintf(buf, 96, strchr(n->host, ':') != NULL ? "[%s]:%u" : "%s:%u", n->host, n->port);
    }
}

/* ---- memory bound ---- */

void lane_hold(struct lane *l, uint64_t bytes)
{
    l->bytes_held += bytes;
    l->metrics.memory_bytes = l->bytes_held;
    if (l->bytes_held >= l->bytes_max) {
        l->reads_paused = true;
    }
}

void lane_release(struct lane *l, uint64_t bytes)
{
    l->bytes_held -= bytes;
    l->metrics.memory_bytes = l->bytes_held;
    if (l->reads_paused && l->bytes_held < l->bytes_max / 4 * 3) {
        l->reads_paused = false;
        connections_resume(l);
    }
}

/* ---- status ---- */

static void status_due(struct env_timer *t)
{
    struct lane *l = container_of(t, struct lane, status_timer);
    l->status_armed = false;
    lane_send_status(l);
}

void lane_status_changed(struct lane *l)
{
    if (l->serving && !l->status_armed && !l->closing) {
        l->status_armed = true;
        env_timer_start_ms(&l->status_timer, STATUS_GATHER_MS + l->n_shards / STATUS_GATHER_SHARDS);
    }
}

/* ---- serving ---- */

struct serve { size_t n, n_notes; struct lane_route *routes; struct lane_note *notes; };

static void serve_here(struct lane *l, void *arg)
{
    struct serve *s = arg;
    struct node *n = l->node;
    for (size_t i = 0; i < s->n; i++) {
        routes_set(&l->routes, s->routes[i].group, s->routes[i].lane, NULL, 0);
    }
    for (size_t i = 0; i < s->n_notes; i++) { /* of the peers' lanes that call this one; with more lanes than before, another may have known them */
        if (groups_note_lane(&s->notes[i].note) % n->n_lanes == l->number) {
            groups_take_note(l->groups, &s->notes[i].note, s->notes[i].lane == l->number);
        }
    }
    free(s->routes);
    free(s->notes);
    free(s);
    if (env_timer_init(l->env, &l->tick, tick) != 0 || env_timer_init(l->env, &l->status_timer, status_due) != 0) {
        env_fatal(l->env, ENV_EXIT_MEMORY, "no timers");
        return;
    }
    struct map_node nodes[NODES_MAX];
    char err[256];
    int n_nodes = n->settings.cluster[0] != 0 ? formation_parse_cluster(n->settings.cluster, nodes, NODES_MAX, err) : 0;
    for (int i = 0; i < n_nodes; i++) {
        if (nodes[i].id != n->identity.node_id) {
            links_set_peer(groups_links(l->groups), nodes[i].id, nodes[i].host, nodes[i].port);
        }
    }
    lane_open_recovered(l);
    l->serving = true;
    env_timer_start_ms(&l->tick, LANE_TICK_MS);
    if (!l->listening) {
        uint16_t port = n->port;
        int rc = lane_listen(l, n->host, &port);
        if (rc != 0) {
            log_error(&l->log, "cannot listen", "lane=%u address=%s:%u reason=\"%s\"", l->number, n->host, n->port, strerror(-rc));
            env_fatal(l->env, 1, "cannot listen");
            return;
        }
    }
    lane_run(n->lanes[0], tell_serving, NULL);
}

void lane_serve(struct lane *l, const struct lane_route *all, size_t n_all, const struct lane_note *notes, size_t n_notes)
{
    struct serve *s = xcalloc(1, sizeof *s);
    *s = (struct serve){ .n = n_all, .n_notes = n_notes, .routes = xcalloc(n_all + 1, sizeof *s->routes), .notes = xcalloc(n_notes + 1, sizeof *s->notes) };
    memcpy(s->routes, all, n_all * sizeof *s->routes);
    memcpy(s->notes, notes, n_notes * sizeof *s->notes);
    lane_run(l, serve_here, s);
}

static void map_here(struct lane *l, void *arg)
{
    struct cluster_map *map = arg;
    if (l->closing || (l->map != NULL && map->version <= l->map->version)) {
        cluster_map_unref(map);
        return;
    }
    if (l->map != NULL) {
        cluster_map_unref(l->map);
    }
    l->map = map;
    struct links *links = groups_links(l->groups);
    for (unsigned i = 0; i < map->n_nodes; i++) {
        const struct map_node *n = &map->nodes[i];
        if (n->id == l->node->identity.node_id) {
            continue;
        }
        if (n->state == NODE_REMOVED) {
            links_remove_peer(links, n->id);
        } else {
            links_set_peer(links, n->id, n->host, n->port);
        }
    }
    for (struct shard *s = l->shards; s != NULL; s = s->next) {
        shard_push_map(s);
    }
    lane_reconcile(l);
    for (struct shard *s = l->shards; s != NULL; s = s->next) {
        shard_control_step(s);
    }
    if (l->kinesis != NULL) {
        kinesis_map(l->kinesis);
    }
    lane_status_changed(l);
}

void lane_map(struct lane *l, struct cluster_map *map)
{
    lane_run(l, map_here, map);
}
