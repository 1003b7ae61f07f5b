/* The controller and the reconciler on whole simulated nodes: streams come and go, dead nodes are replaced, blank disks rejoin, nodes join and drain, and the
 * controller's leader may die in the middle of all of it. No records here: what happens to them is the simulator's business (tests/sim). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "proto/base.h"
#include "proto/error.h"
#include "server/node_impl.h"
#include "sluice.pb-c.h"
#include "storage/env_sim.h"

enum { NODES = 5 };

struct test_node { struct sim_host *host; struct node *node; uint32_t id; unsigned first; bool join; unsigned lanes; unsigned exits; };
struct world { struct sim *sim; struct test_node nodes[NODES]; unsigned first; uint64_t seed; };
static struct world *the_world; /* of this child process */

#define CHECK(cond) \
    do { \
        if (!(cond)) { \
            fprintf(stderr, "seed %llu: %s (line %d)\n", (unsigned long long)the_world->seed, #cond, __LINE__); \
            if (getenv("VERBOSE") != NULL) { \
                sim_print_tail(the_world->sim, 50); \
            } \
            _exit(1); \
        } \
    } while (0)

static void log_line(void *arg, struct sim_host *host, const char *line, size_t n)
{
    (void)arg;
    if (getenv("VERBOSE") != NULL) {
        fprintf(stderr, "%8.3f %s %.*s\n", (double)sim_now_ns(the_world->sim) / 1e9, sim_host_name(host), (int)n, line);
    }
}

static void exited(void *arg, struct sim_host *host, int code, const char *why)
{
    struct world *w = arg;
    for (unsigned i = 0; i < NODES; i++) {
        if (w->nodes[i].host == host) {
            w->nodes[i].exits++;
            fprintf(stderr, "%s exited with %d: %s\n", sim_host_name(host), code, why != NULL ? why : "");
        }
    }
}

static void node_main(struct env *env, void *arg)
{
    struct test_node *t = arg;
    struct settings s;
    settings_defaults(&s);
    s.node_id = t->id;
    snprintf(s.data, sizeof s.data, "data");
    snprintf(s.listen, sizeof s.listen, "n%u:4570", t->id);
    snprintf(s.admin, sizeof s.admin, "n%u:4571", t->id);
    s.kinesis[0] = 0;
    snprintf(s.kinesis, sizeof s.kinesis, "n%u:4567", t->id);
    size_t at = 0;
    for (unsigned i = 0; i < t->first; i++) {
        at += (size_t)snprintf(s.cluster + at, sizeof s.cluster - at, "%s%u=n%u:4570", i > 0 ? "," : "", i + 1, i + 1);
    }
    s.join = t->join;
    s.lanes = t->lanes;
    s.replace_after_s = 20;
    s.segment_first = 65536;
    s.segment_max = 1 << 20;
    s.pool_max = 0;
    s.disk_reserve = 0;
    char err[256] = "";
    t->node = NULL;
    int rc = node_start(env, &s, &t->node, err);
    if (rc != 0) {
        fprintf(stderr, "node %u cannot start: %d %s\n", t->id, rc, err);
        _exit(1);
    }
}

static void up(struct world *w, unsigned i)
{
    if (!sim_process_up(w->nodes[i].host)) {
        CHECK(sim_process_start(w->nodes[i].host, node_main, &w->nodes[i]) == 0);
    }
}

static void down(struct world *w, unsigned i)
{
    if (sim_process_up(w->nodes[i].host)) {
        sim_process_crash(w->nodes[i].host, sim_random(w->sim) % 2 == 0 ? SIM_CRASH_KILL : SIM_CRASH_POWER);
    }
    w->nodes[i].node = NULL;
}

static void run_ms(struct world *w, uint64_t ms) { sim_run_until(w->sim, sim_now_ns(w->sim) + ms * 1000000); }

static void world_open(struct world *w, uint64_t seed, unsigned first, unsigned lanes)
{
    memset(w, 0, sizeof *w);
    the_world = w;
    w->seed = seed;
    w->first = first;
    struct sim_options o = {.seed = seed, .net = {.delay_ns = {100000, 1000000}}, .log = log_line, .exited = exited, .arg = w,
                            .disk = {.sync_ns = {100000, 2000000}, .write_ns = {10000, 50000}, .read_ns = {10000, 50000}}};
    w->sim = sim_open(&o);
    for (unsigned i = 0; i < NODES; i++) {
        char name[8];
        snprintf(name, sizeof name, "n%u", i + 1);
        w->nodes[i] = (struct test_node){.host = sim_host_add(w->sim, name), .id = i + 1, .first = first, .lanes = lanes};
    }
    for (unsigned i = 0; i < first; i++) {
        up(w, i);
    }
}

/* ---- asking a node ---- */

struct answer { bool came; uint8_t kind; int code; char text[200]; uint8_t *message; size_t len; };

static void on_reply(void *arg, void *frame, size_t len)
{
    struct answer *a = arg;
    struct frame_header h;
    CHECK(!a->came && len >= FRAME_HEADER_SIZE && frame_header_decode(&h, frame) == 0 && h.correlation == 77);
    a->came = true;
    a->kind = h.kind;
    a->len = len - FRAME_HEADER_SIZE;
    a->message = malloc(a->len + 1);
    memcpy(a->message, (uint8_t *)frame + FRAME_HEADER_SIZE, a->len);
    if (h.kind == FRAME_ERROR) {
        Sluice__Error *e = sluice__error__unpack(NULL, a->len, a->message);
        a->code = (int)e->code;
        snprintf(a->text, sizeof a->text, "%s", e->message);
        sluice__error__free_unpacked(e, NULL);
    }
    free(frame);
}

static struct answer ask(struct world *w, unsigned i, uint8_t kind, const ProtobufCMessage *m)
{
    struct answer *a = calloc(1, sizeof *a); /* a crash of the node may leave the request behind */
    uint8_t *bytes = malloc(protobuf_c_message_get_packed_size(m) + 1);
    size_t n = protobuf_c_message_pack(m, bytes);
    CHECK(w->nodes[i].node != NULL);
    node_control(w->nodes[i].node, kind, 77, bytes, n, false, on_reply, a);
    free(bytes);
    for (unsigned k = 0; k < 300 && !a->came; k++) {
        run_ms(w, 50);
    }
    CHECK(a->came);
    return *a;
}

static struct answer create(struct world *w, unsigned i, const char *name, uint32_t shards, uint32_t replicas, uint8_t request)
{
    Sluice__StreamCreate m = SLUICE__STREAM_CREATE__INIT;
    uint8_t id[16];
    memset(id, request, sizeof id);
    m.name = (char *)(uintptr_t)name;
    m.shards = shards;
    m.replicas = replicas;
    m.request_id = (ProtobufCBinaryData){.len = request != 0 ? 16 : 0, .data = id};
    return ask(w, i, FRAME_STREAM_CREATE, &m.base);
}

static struct answer change(struct world *w, unsigned i, Sluice__NodeChange__Kind kind, uint32_t node, const char *address)
{
    Sluice__NodeChange m = SLUICE__NODE_CHANGE__INIT;
    m.kind = kind;
    m.node = node;
    m.address = (char *)(uintptr_t)address;
    return ask(w, i, FRAME_NODE_CHANGE, &m.base);
}

/* Waits until the cluster, as node i tells, has what `want` asks for; at most ms. */
struct status { uint32_t leaderless, under, alive, leader, replicas[NODES + 1], leaders[NODES + 1], state[NODES + 1]; };

static struct status status(struct world *w, unsigned i)
{
    Sluice__ClusterStatusReply empty = SLUICE__CLUSTER_STATUS_REPLY__INIT;
    struct answer a = ask(w, i, FRAME_CLUSTER_STATUS, &empty.base);
    struct status s = {0};
    if (a.code != 0 && sluice_error_retry(a.code) == SLUICE_RETRY_SAME) {
        return s; /* the node is starting */
    }
    Sluice__ClusterStatusReply *m = a.code == 0 ? sluice__cluster_status_reply__unpack(NULL, a.len, a.message) : NULL;
    CHECK(m != NULL);
    s.leaderless = m->shards_without_leader;
    s.under = m->under_replicated;
    s.leader = m->controller_leader;
    for (size_t k = 0; k < m->n_nodes; k++) {
        s.alive += m->nodes[k]->state == SLUICE__NODE_INFO__STATE__ALIVE;
        s.replicas[m->nodes[k]->id] = m->nodes[k]->replicas;
        s.leaders[m->nodes[k]->id] = m->nodes[k]->leaders;
        s.state[m->nodes[k]->id] = (uint32_t)m->nodes[k]->state;
    }
    if (getenv("VERBOSE") != NULL) {
        for (size_t k = 0; k < m->n_notes; k++) {
            fprintf(stderr, "         note: %s\n", m->notes[k]);
        }
    }
    sluice__cluster_status_reply__free_unpacked(m, NULL);
    return s;
}

/* Voters of the controller group that follow, as its leader sees them. */
static unsigned controller_voters(struct world *w)
{
    unsigned voters = 0;
    for (unsigned k = 0; k < NODES; k++) {
        const struct node *n = sim_process_up(w->nodes[k].host) ? w->nodes[k].node : NULL;
        const struct group *g = n != NULL && n->controller != NULL ? groups_find(n->lanes[0]->groups, CONTROLLER_GROUP) : NULL;
        if (g != NULL && group_ready(g)) {
            struct group_peer peers[16];
            unsigned n_peers = group_peers(g, peers, 16);
            unsigned here = 0;
            for (unsigned p = 0; p < n_peers; p++) {
                here += peers[p].voter && (peers[p].recent || peers[p].raft_id == group_raft_id(g));
            }
            voters = here > voters ? here : voters;
        }
    }
    return voters;
}

static void whole(struct world *w, unsigned i, unsigned alive, uint64_t ms)
{
    struct status s = {0};
    for (uint64_t t = 0; t < ms; t += 500) {
        run_ms(w, 500);
        s = status(w, i);
        if (s.alive == alive && s.leaderless == 0 && s.under == 0 && s.leader != 0 && controller_voters(w) == 3) {
            return;
        }
    }
    for (unsigned k = 0; k < NODES; k++) {
        const struct node *n = w->nodes[k].node;
        if (n != NULL && n->controller != NULL) {
            const struct group *g = groups_find(n->lanes[0]->groups, CONTROLLER_GROUP);
            fprintf(stderr, "n%u: raft id %llx role %d term %llu leader %llx last %llu commit %llu\n", k + 1, (unsigned long long)group_raft_id(g), group_role(g),
                    (unsigned long long)group_term(g), (unsigned long long)group_leader(g), (unsigned long long)group_last_index(g), (unsigned long long)group_commit_index(g));
            struct group_peer peers[16];
            unsigned n_peers = group_peers(g, peers, 16);
            for (unsigned p = 0; p < n_peers; p++) {
                fprintf(stderr, "    %llx %s match %llu recent %d\n", (unsigned long long)peers[p].raft_id, peers[p].voter ? "voter" : peers[p].standby ? "standby" : "spare",
                        (unsigned long long)peers[p].match_index, peers[p].recent);
            }
        }
    }
    fprintf(stderr, "alive %u leaderless %u under %u leader %u\n", s.alive, s.leaderless, s.under, s.leader);
    CHECK(!"the cluster is whole");
}

static void in_child(void (*run)(uint64_t seed), uint64_t seed)
{
    fflush(NULL);
    pid_t pid = fork();
    if (pid == 0) {
        run(seed);
        _exit(0);
    }
    int code;
    assert_int_equal(waitpid(pid, &code, 0), pid);
    if (code != 0) {
        fail_msg("seed %llu failed with status %d", (unsigned long long)seed, code);
    }
}

/* SEEDS=n in the environment: n seeds of each story. */
static void seeds(void (*run)(uint64_t seed), uint64_t first, uint64_t count)
{
    const char *more = getenv("SEEDS");
    count = more != NULL ? strtoull(more, NULL, 10) : count;
    for (uint64_t seed = first; seed < first + count; seed++) {
        in_child(run, seed);
    }
}

/* ---- the stories ---- */

static void run_streams(uint64_t seed)
{
    struct world w;
    world_open(&w, seed, 3, 1 + seed % 2);
    whole(&w, 0, 3, 10000);
    CHECK(create(&w, (unsigned)(seed % 3), "a", 4, 0, 1).kind == FRAME_STREAM_CREATE_REPLY);
    CHECK(create(&w, 1, "a", 4, 0, 1).kind == FRAME_STREAM_CREATE_REPLY); /* the same request again */
    CHECK(create(&w, 2, "a", 4, 0, 2).code == SLUICE_E_EXISTS);
    CHECK(create(&w, 0, "b c", 1, 0, 0).code == SLUICE_E_INVALID);
    CHECK(create(&w, 0, "b", 0, 0, 0).code == SLUICE_E_INVALID);
    CHECK(create(&w, 0, "b", 1, 4, 0).code == SLUICE_E_INVALID); /* more replicas than nodes */
    for (unsigned i = 0; i < 3; i++) { /* every node tells of it, with leaders */
        Sluice__StreamDescribe d = SLUICE__STREAM_DESCRIBE__INIT;
        d.name = (char *)(uintptr_t)"a";
        struct answer a = ask(&w, i, FRAME_STREAM_DESCRIBE, &d.base);
        CHECK(a.kind == FRAME_STREAM_DESCRIBE_REPLY);
        Sluice__StreamReply *m = sluice__stream_reply__unpack(NULL, a.len, a.message);
        CHECK(m != NULL && m->stream->status == SLUICE__STREAM_INFO__STATUS__ACTIVE && m->stream->n_shards == 4 && m->n_nodes == 3);
        for (unsigned k = 0; k < 4; k++) {
            CHECK(m->stream->shards[k]->n_replicas == 3);
            CHECK(m->stream->shards[k]->leader != 0);
        }
        sluice__stream_reply__free_unpacked(m, NULL);
    }
    Sluice__StreamDelete del = SLUICE__STREAM_DELETE__INIT;
    del.name = (char *)(uintptr_t)"a";
    CHECK(ask(&w, 2, FRAME_STREAM_DELETE, &del.base).kind == FRAME_STREAM_DELETE_REPLY);
    CHECK(ask(&w, 1, FRAME_STREAM_DELETE, &del.base).code == SLUICE_E_NOT_FOUND);
    CHECK(create(&w, 0, "a", 2, 3, 3).kind == FRAME_STREAM_CREATE_REPLY);
    struct status s = status(&w, 0);
    CHECK(s.replicas[1] == 2 && s.replicas[2] == 2 && s.replicas[3] == 2);
    sim_close(w.sim);
}

static void streams_come_and_go(void **state)
{
    (void)state;
    seeds(run_streams, 1, 4);
}

/* The controller's leader dies while a stream is created: asked again with the same id it exists exactly once. */
static void run_leader_dies(uint64_t seed)
{
    struct world w;
    world_open(&w, seed, 3, 1);
    whole(&w, 0, 3, 10000);
    unsigned leader = status(&w, 0).leader - 1;
    unsigned other = (leader + 1) % 3;
    struct answer *a = calloc(1, sizeof *a);
    Sluice__StreamCreate m = SLUICE__STREAM_CREATE__INIT;
    uint8_t id[16];
    memset(id, 9, sizeof id);
    m.name = (char *)(uintptr_t)"a";
    m.shards = 3;
    m.request_id = (ProtobufCBinaryData){.len = 16, .data = id};
    uint8_t bytes[200];
    size_t n = sluice__stream_create__pack(&m, bytes);
    node_control(w.nodes[other].node, FRAME_STREAM_CREATE, 77, bytes, n, false, on_reply, a);
    run_ms(&w, sim_random(w.sim) % 40);
    down(&w, leader);
    for (unsigned k = 0; k < 300 && !a->came; k++) {
        run_ms(&w, 50);
    }
    CHECK(a->came && a->kind == FRAME_STREAM_CREATE_REPLY);
    struct answer again = create(&w, other, "a", 3, 0, 9);
    CHECK(again.kind == FRAME_STREAM_CREATE_REPLY);
    up(&w, leader);
    whole(&w, other, 3, 30000);
    CHECK(status(&w, other).replicas[leader + 1] == 3);
    sim_close(w.sim);
}

static void the_leader_dies_while_a_stream_is_created(void **state)
{
    (void)state;
    seeds(run_leader_dies, 20, 10);
}

/* Every replica on a node has a generation of its own since its disk was lost: the first ones were spent (F5). */
static void check_renewed(struct world *w, unsigned teller, uint32_t node)
{
    const struct cluster_map *map = w->nodes[teller].node->map;
    for (unsigned i = 0; i < map->n_streams; i++) {
        for (unsigned k = 0; k < map->streams[i].n_shards; k++) {
            const struct map_replica *r = cluster_map_replica(&map->streams[i].shards[k], node);
            CHECK(r == NULL || (r->generation > 1 && !r->first));
        }
    }
    for (unsigned i = 0; i < map->n_controller; i++) {
        CHECK(map->controller[i].node != node || map->controller[i].generation > 1);
    }
}

static void erase_one(void *arg, const char *name)
{
    char path[300];
    snprintf(path, sizeof path, "data/lane-0/%s", name);
    CHECK(env_unlink(arg, path) == 0);
}

static void eraser(struct env *env, void *arg)
{
    (void)arg;
    CHECK(env_dir_list(env, "data/lane-0", erase_one, env) == 0 && env_dir_sync(env, "data/lane-0") == 0);
}

/* The journal is gone, but the folder still knows whose it is: the node must not begin again under ids that have voted. */
static void run_erased(uint64_t seed)
{
    struct world w;
    world_open(&w, seed, 3, 1);
    whole(&w, 0, 3, 10000);
    CHECK(create(&w, 0, "a", 4, 3, 1).kind == FRAME_STREAM_CREATE_REPLY);
    unsigned i = (unsigned)(seed % 3);
    run_ms(&w, 2000);
    down(&w, i);
    CHECK(sim_process_start(w.nodes[i].host, eraser, NULL) == 0);
    sim_process_crash(w.nodes[i].host, SIM_CRASH_KILL);
    run_ms(&w, sim_random(w.sim) % 5000);
    up(&w, i);
    run_ms(&w, 3000);
    whole(&w, (i + 1) % 3, 3, 40000);
    check_renewed(&w, (i + 1) % 3, i + 1);
    sim_close(w.sim);
}

static void a_lost_journal_is_not_begun_again(void **state)
{
    (void)state;
    seeds(run_erased, 50, 3);
}

static void run_blank(uint64_t seed)
{
    struct world w;
    world_open(&w, seed, 3, 1 + seed % 2);
    whole(&w, 0, 3, 10000);
    CHECK(create(&w, 0, "a", 4, 3, 1).kind == FRAME_STREAM_CREATE_REPLY);
    for (unsigned k = 0; k < 3; k++) { /* one after another loses its disk: in the end nothing is left of the first configuration */
        unsigned i = (unsigned)((seed + k) % 3);
        down(&w, i);
        sim_disk_wipe(w.nodes[i].host);
        run_ms(&w, sim_random(w.sim) % 3000);
        up(&w, i);
        run_ms(&w, 3000);
        whole(&w, (i + 1) % 3, 3, 40000);
        CHECK(cluster_map_node(w.nodes[(i + 1) % 3].node->map, i + 1)->blank_since > 0);
        CHECK(w.nodes[(i + 1) % 3].node->map->n_controller_voters == 3);
        check_renewed(&w, (i + 1) % 3, i + 1);
    }
    sim_close(w.sim);
}

static void blank_disks_rejoin_under_new_generations(void **state)
{
    (void)state;
    seeds(run_blank, 40, 6);
}

static void run_join_and_drain(uint64_t seed)
{
    struct world w;
    world_open(&w, seed, 3, 1);
    whole(&w, 0, 3, 10000);
    CHECK(create(&w, 0, "a", 3, 3, 1).kind == FRAME_STREAM_CREATE_REPLY);
    w.nodes[3].join = true;
    up(&w, 3);
    whole(&w, 0, 4, 20000);
    unsigned leaves = (unsigned)(seed % 3);
    unsigned stays = (leaves + 1) % 3;
    CHECK(change(&w, stays, SLUICE__NODE_CHANGE__KIND__REMOVE, leaves + 1, "").code == SLUICE_E_CONFLICT); /* it still holds replicas */
    CHECK(change(&w, stays, SLUICE__NODE_CHANGE__KIND__DRAIN, leaves + 1, "").kind == FRAME_NODE_CHANGE_REPLY);
    if (seed % 2 == 0) { /* the controller's leader dies on the way */
        run_ms(&w, sim_random(w.sim) % 1000);
        unsigned leader = status(&w, stays).leader - 1;
        if (leader != stays && leader != leaves) {
            down(&w, leader);
            run_ms(&w, 3000);
            up(&w, leader);
        }
    }
    struct status s = {0};
    for (unsigned k = 0; k < 100; k++) {
        run_ms(&w, 500);
        s = status(&w, stays);
        if (s.replicas[leaves + 1] == 0 && s.replicas[4] == 3 && s.under == 0) {
            break;
        }
    }
    CHECK(s.replicas[leaves + 1] == 0 && s.replicas[4] == 3 && s.under == 0);
    CHECK(change(&w, stays, SLUICE__NODE_CHANGE__KIND__REMOVE, leaves + 1, "").kind == FRAME_NODE_CHANGE_REPLY);
    down(&w, leaves);
    whole(&w, stays, 3, 20000);
    run_ms(&w, 3000);
    CHECK(w.nodes[stays].node->map->n_controller == 3 && w.nodes[stays].node->map->n_controller_voters == 3);
    run_ms(&w, 40000); /* the new node takes its share of leaderships */
    s = status(&w, stays);
    for (uint32_t n = 1; n <= 4; n++) {
        CHECK(s.leaders[n] == (n == leaves + 1 ? 0 : 1));
    }
    sim_close(w.sim);
}

static void a_node_joins_and_another_one_drains(void **state)
{
    (void)state;
    seeds(run_join_and_drain, 60, 6);
}

/* What status tells of a death is true about as fast as the failure detector is; without a majority no leader is named. */
static void run_honest(uint64_t seed)
{
    struct world w;
    world_open(&w, seed, 3, 1);
    whole(&w, 0, 3, 10000);
    CHECK(create(&w, 0, "a", 4, 3, 1).kind == FRAME_STREAM_CREATE_REPLY);
    run_ms(&w, 3000);
    unsigned leads = status(&w, 0).leader - 1, first = (leads + 1) % 3, second = (leads + 2) % 3;
    down(&w, first);
    run_ms(&w, 1000);
    struct status s = status(&w, second);
    CHECK(s.leader == leads + 1 && s.alive == 2 && s.state[first + 1] == SLUICE__NODE_INFO__STATE__DEAD);
    CHECK(s.under == 4 && s.leaders[first + 1] == 0);
    down(&w, seed % 2 == 0 ? leads : second);
    unsigned left = seed % 2 == 0 ? second : leads;
    run_ms(&w, 1000);
    s = status(&w, left);
    CHECK(s.leader == 0 && s.alive == 1 && s.under == 4 && s.leaderless == 4);
    up(&w, first);
    for (unsigned k = 0; k < 30 && (s.leader == 0 || s.alive != 2 || s.leaderless > 0); k++) {
        run_ms(&w, 500);
        s = status(&w, left);
    }
    CHECK(s.leader != 0 && s.alive == 2 && s.leaderless == 0 && s.under == 4);
    sim_close(w.sim);
}

static void status_tells_of_deaths_at_once(void **state)
{
    (void)state;
    seeds(run_honest, 70, 4);
}

static void run_replace(uint64_t seed)
{
    struct world w;
    world_open(&w, seed, 4, 1);
    whole(&w, 0, 4, 10000);
    CHECK(create(&w, 0, "a", 4, 3, 1).kind == FRAME_STREAM_CREATE_REPLY);
    unsigned dead = (unsigned)(seed % 4);
    unsigned other = (dead + 1) % 4;
    CHECK(status(&w, other).replicas[dead + 1] == 3);
    down(&w, dead);
    run_ms(&w, 10000); /* not yet: replace-after is 20 s */
    CHECK(status(&w, other).replicas[dead + 1] == 3);
    run_ms(&w, 20000);
    struct status s = {0};
    for (unsigned k = 0; k < 40; k++) {
        run_ms(&w, 500);
        s = status(&w, other);
        if (s.under == 0 && s.replicas[dead + 1] == 0) {
            break;
        }
    }
    CHECK(s.under == 0 && s.replicas[dead + 1] == 0 && s.leaderless == 0);
    up(&w, dead); /* it comes back: its replicas were given away, it holds none and may take new ones */
    whole(&w, other, 4, 20000);
    CHECK(status(&w, other).replicas[dead + 1] == 0);
    run_ms(&w, 2000);
    for (const struct test_node *t = &w.nodes[dead]; t != NULL; t = NULL) {
        uint64_t cursor = 0;
        unsigned groups = 0;
        while (groups_next(t->node->lanes[0]->groups, &cursor) != NULL) {
            groups++;
        }
        CHECK(groups == 1); /* the controller's */
    }
    sim_close(w.sim);
}

static void replicas_of_a_dead_node_are_replaced(void **state)
{
    (void)state;
    seeds(run_replace, 80, 4);
}

static void run_leaders(uint64_t seed)
{
    struct world w;
    world_open(&w, seed, 3, 1);
    whole(&w, 0, 3, 10000);
    CHECK(create(&w, 0, "a", 6, 3, 1).kind == FRAME_STREAM_CREATE_REPLY);
    struct status s = status(&w, 0);
    CHECK(s.leaders[1] == 2 && s.leaders[2] == 2 && s.leaders[3] == 2);
    unsigned i = (unsigned)(seed % 3);
    down(&w, i);
    run_ms(&w, 5000);
    s = status(&w, (i + 1) % 3);
    CHECK(s.leaderless == 0 && s.leaders[i + 1] == 0);
    up(&w, i);
    run_ms(&w, 40000);
    s = status(&w, (i + 1) % 3);
    CHECK(s.leaders[1] == 2 && s.leaders[2] == 2 && s.leaders[3] == 2); /* moved back */
    sim_close(w.sim);
}

static void leaders_are_spread_and_move_back(void **state)
{
    (void)state;
    seeds(run_leaders, 90, 4);
}

/* One thing after another goes wrong, each before the cluster has settled from the last: crashes, pauses, cuts, and (only when all is whole) a lost disk; streams
 * come and go meanwhile. At the end everything heals, and the map is what it should be: every shard has its replicas, each on a node of its own, nothing joining. */
static void run_storm(uint64_t seed)
{
    struct world w;
    world_open(&w, seed, 4, 1);
    whole(&w, 0, 4, 10000);
    CHECK(create(&w, 0, "keep", 4, 3, 1).kind == FRAME_STREAM_CREATE_REPLY);
    for (unsigned k = 0; k < 12; k++) {
        unsigned i = (unsigned)(sim_random(w.sim) % 4);
        unsigned other = (i + 1 + (unsigned)(sim_random(w.sim) % 3)) % 4;
        uint64_t ms = sim_random(w.sim) % 5000;
        bool wipe = k % 4 == 3;
        if (wipe) {
            whole(&w, other, 4, 60000);
        }
        switch (sim_random(w.sim) % 4) {
        case 0:
            down(&w, i);
            if (wipe) {
                sim_disk_wipe(w.nodes[i].host);
            }
            run_ms(&w, ms);
            up(&w, i);
            break;
        case 1:
            sim_process_pause(w.nodes[i].host, true);
            run_ms(&w, ms);
            sim_process_pause(w.nodes[i].host, false);
            break;
        case 2:
            sim_cut(w.sim, w.nodes[i].host, w.nodes[other].host, true);
            run_ms(&w, ms);
            sim_cut(w.sim, w.nodes[i].host, w.nodes[other].host, false);
            break;
        case 3: {
            char name[8];
            snprintf(name, sizeof name, "s%u", k % 3);
            Sluice__StreamDelete del = SLUICE__STREAM_DELETE__INIT;
            del.name = name;
            int code = k % 2 == 0 ? create(&w, other, name, 2, 3, (uint8_t)(k + 2)).code : ask(&w, other, FRAME_STREAM_DELETE, &del.base).code;
            CHECK(code == 0 || code == SLUICE_E_EXISTS || code == SLUICE_E_NOT_FOUND || sluice_error_retry(code) != SLUICE_RETRY_NEVER);
            break;
        }
        }
        run_ms(&w, sim_random(w.sim) % 2000);
    }
    whole(&w, 0, 4, 90000);
    run_ms(&w, 15000);
    const struct cluster_map *map = w.nodes[0].node->map;
    for (unsigned i = 1; i < 4; i++) {
        CHECK(w.nodes[i].node->map->version == map->version);
    }
    CHECK(cluster_map_stream(map, "000000000000", "keep") != NULL);
    for (unsigned i = 0; i < map->n_streams; i++) {
        CHECK(map->streams[i].status == STREAM_ACTIVE);
        for (unsigned k = 0; k < map->streams[i].n_shards; k++) {
            const struct map_shard *x = &map->streams[i].shards[k];
            CHECK(x->n_replicas == 3);
            for (unsigned r = 0; r < 3; r++) {
                CHECK(!x->replicas[r].joining && !x->replicas[r].leaving && cluster_map_replica(x, x->replicas[r].node) == &x->replicas[r]);
                struct node *n = w.nodes[x->replicas[r].node - 1].node;
                struct group *g = groups_find(n->lanes[0]->groups, x->group);
                CHECK(g != NULL && group_raft_id(g) == raft_id_make(x->replicas[r].node, x->replicas[r].generation));
            }
        }
    }
    CHECK(map->n_controller == 4 && map->n_controller_voters == 3);
    for (unsigned i = 0; i < 4; i++) {
        CHECK(w.nodes[i].exits == 0);
    }
    sim_close(w.sim);
}

static void a_storm_leaves_nothing_behind(void **state)
{
    (void)state;
    const char *one = getenv("SEED"); /* plays one seed again */
    seeds(run_storm, one != NULL ? strtoull(one, NULL, 10) : 1000, one != NULL ? 1 : 6);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(streams_come_and_go),
        cmocka_unit_test(the_leader_dies_while_a_stream_is_created),
        cmocka_unit_test(blank_disks_rejoin_under_new_generations),
        cmocka_unit_test(a_lost_journal_is_not_begun_again),
        cmocka_unit_test(status_tells_of_deaths_at_once), cmocka_unit_test(a_node_joins_and_another_one_drains),
        cmocka_unit_test(replicas_of_a_dead_node_are_replaced),
        cmocka_unit_test(leaders_are_spread_and_move_back),
        cmocka_unit_test(a_storm_leaves_nothing_behind),
    };
    cmocka_set_test_filter(getenv("TEST"));
    return cmocka_run_group_tests(tests, NULL, NULL);
}
