/* workload.c: producers and readers of the simulated cluster, through the client library, writing what they see into the history.
 *
 * One client process holds the stream's producers, another its readers. Every put carries a value of its own; producers are idempotent (all but the
 * last one in some seeds) and try for ever, so each put ends as done, or as unknown when the run ends. Each shard has a tailing reader, which begins when those of its
 * parents have come to their ends; now and then a fresh LATEST asks the leader for its end. Where splits and merges are on, a client asks for one after the other. */
#include "tests/sim/world.h"

#include "client/sluice.h"
#include "proto/base.h"
#include "server/cluster_map.h"

#include <stdio.h>
#include <stdlib.h>

#define MS 1000000ull
enum { SHARDS_MAX = 2048, SHARDS_OPEN_MAX = 10, PRODUCERS = 4, OPEN_MAX = 2048, BURST = 60, BURST_EVERY = 40 };

struct producer {
    struct workload *workload;
    struct sluice_client *client;
    struct sluice_producer *producer;
    struct env_timer timer;
    unsigned number;
    bool idempotent;
    uint64_t sent, open;
};

struct pending {                 /* a put without an outcome */
    struct producer *producer;
    uint64_t value, start, order, key;
    struct pending *next, *previous;
};

struct shard_reader {
    struct workload *workload;
    struct sluice_reader *reader;
    uint32_t shard;
    uint64_t next, last_read;
    bool begun, started, ended;
    uint32_t children[2];        /* as it was told at its end */
    size_t n_children;
};

struct fresh_call { struct workload *workload; uint32_t shard; uint64_t start; };

struct workload {
    struct world *world;
    struct env *producer_env, *reader_env;
    struct sluice_client *control, *reader_client;
    struct subscribers *subscribers; /* NULL: not in this seed */
    struct producer producers[PRODUCERS];
    struct shard_reader readers[SHARDS_MAX];
    struct shard_reader *followed[SHARDS_MAX];
    unsigned n_followed;
    struct env_timer create_timer, fresh_timer, map_timer, reshard_timer;
    uint64_t last_ack[SHARDS_MAX];
    struct pending open;         /* list head */
    uint64_t next_value, n_open;
    bool ready, running, stopped, no_reshards;
    bool map_wanted;             /* a reader has come to its end: who goes on? */
    uint8_t data[64 << 10];      /* of the put that is being made */
};

static uint64_t now(const struct workload *l) { return sim_now_ns(l->world->sim); }

static struct sluice_client *connect_client(struct workload *l, struct env *env)
{
    struct sluice_client *c = NULL;
    struct sluice_client_options o = {.endpoints = l->world->endpoints, .agent = "sim"};
    sluice_assert(sluice_client_open(env, &o, &c) == 0);
    return c;
}

/* ---- producers ---- */

static uint64_t keys(const struct workload *l) { return l->world->options.profile->keys != 0 ? l->world->options.profile->keys : 1000; }
static uint64_t some_key(struct workload *l) { return 1 + env_random_below(l->producer_env, keys(l)); }
static uint64_t key_within(const struct workload *l, const struct hash128 *first, const struct hash128 *last);

/* Any key; after the last fault every other one is of a shard that has not taken a write since, as a shard may have but one key of a thousand. */
static uint64_t wanted_key(struct workload *l)
{
    uint64_t key = some_key(l);
    const struct map_stream *s = l->world->healed_at != 0 && key % 2 == 0 ? world_stream(l->world) : NULL;
    for (unsigned i = 0; s != NULL && i < s->n_open; i++) {
        const struct map_shard *m = s->open[(key / 2 + i) % s->n_open];
        uint64_t within = l->last_ack[m->shard] < l->world->healed_at ? key_within(l, &m->first, &m->last) : 0;
        if (within != 0) {
            return within;
        }
    }
    return key;
}


static int key_text(uint64_t key, char text[32]) { return snprintf(text, 32, "k%llu", (unsigned long long)key); }

static void hash_of_key(uint64_t key, struct hash128 *out)
{
    char text[32];
    hash_key_of(text, (size_t)key_text(key, text), out);
}

static void put_done(const struct sluice_put_result *r, void *user)
{
    struct pending *p = user;
    struct producer *producer = p->producer;
    struct workload *l = producer->workload;
    enum check_result result = r->code == 0 ? CHECK_OK : r->outcome == SLUICE_UNKNOWN ? CHECK_INFO : CHECK_FAIL;
    struct check_put put = {.process = producer->number, .shard = r->shard, .start = p->start, .end = now(l), .result = result, .value = p->value, .offset = r->offset,
                            .idempotent = producer->idempotent, .order = p->order, .key = p->key};
    hash_of_key(p->key, &put.hash);
    history_put(&l->world->history, &put);
    if (result == CHECK_OK && r->shard < SHARDS_MAX) {
        l->last_ack[r->shard] = p->start;
    }
    p->next->previous = p->previous;
    p->previous->next = p->next;
    l->n_open--;
    producer->open--;
    free(p);
}

static void put_one(struct producer *p)
{
    struct workload *l = p->workload;
    uint8_t *data = l->data;
    uint64_t value = ++l->next_value;
    memset(data, (int)(value & 0xff), 4096);
    memcpy(data, &value, sizeof value);
    char key[32];
    uint64_t number = wanted_key(l);
    int key_len = key_text(number, key);
    size_t len = 8 + env_random_below(l->producer_env, env_random_below(l->producer_env, 20) == 0 ? 4000 : 200);
    if (l->world->options.profile->record_bytes != 0) {
        len = min_u64(l->world->options.profile->record_bytes, sizeof l->data);
        for (size_t i = 8; i + 8 <= len; i += 8) { /* does not compress */
            put_u64(data + i, (value + i) * 0x9e3779b97f4a7c15u);
        }
    }
    struct pending *q = xcalloc(1, sizeof *q);
    *q = (struct pending){.producer = p, .value = value, .start = now(l), .order = ++p->sent, .key = number};
    struct sluice_record r = {.key = key, .key_len = (size_t)key_len, .data = data, .data_len = len};
    int rc = sluice_producer_put(p->producer, &r, put_done, q);
    if (rc != 0) {
        free(q);
        if (rc != SLUICE_E_BUSY) {
            world_fail(l->world, 22, "producer %u: put was refused: %s", p->number, sluice_error_text(rc));
        }
        return;
    }
    q->next = &l->open;
    q->previous = l->open.previous;
    l->open.previous->next = q;
    l->open.previous = q;
    l->n_open++;
    p->open++;
}

static void arm(struct producer *p)
{
    struct workload *l = p->workload;
    unsigned rate = l->world->options.operations != 0 ? l->world->options.operations : 30 + (unsigned)(l->world->options.seed % 21);
    uint64_t mean_us = 1000000ull * PRODUCERS / rate;
    env_timer_start_ns(&p->timer, (mean_us / 2 + env_random_below(l->producer_env, mean_us)) * 1000);
}

static void put_tick(struct env_timer *t)
{
    struct producer *p = container_of(t, struct producer, timer);
    if (p->workload->stopped) {
        return;
    }
    /* Now and then more at once than one batch holds: several of a producer's batches are under way then. */
    const struct world_profile *profile = p->workload->world->options.profile;
    bool calm = profile->record_bytes != 0 || profile->steady;
    unsigned n = !calm && env_random_below(p->workload->producer_env, BURST_EVERY) == 0 ? BURST : 1;
    for (unsigned i = 0; i < n && p->open < OPEN_MAX; i++) {
        put_one(p);
    }
    arm(p);
}

static void open_producers(struct workload *l)
{
    for (unsigned i = 0; i < PRODUCERS; i++) {
        struct producer *p = &l->producers[i];
        p->workload = l;
        p->number = i + 1;
        p->idempotent = !(i == PRODUCERS - 1 && l->world->options.seed % 4 == 1);
        p->client = connect_client(l, l->producer_env);
        struct sluice_producer_options o = {.not_idempotent = !p->idempotent, .delivery_timeout_ms = UINT64_MAX, .batch_bytes = i % 2 == 0 ? 8 << 10 : 1 << 10};
        sluice_assert(sluice_producer_open(p->client, "s", &o, &p->producer) == 0);
        sluice_assert(env_timer_init(l->producer_env, &p->timer, put_tick) == 0);
    }
}

static void created(const struct sluice_result *r, void *user)
{
    struct workload *l = user;
    if (r->code != 0) {
        env_timer_start_ms(&l->create_timer, 100);
        return;
    }
    const Sluice__StreamReply *reply = (const Sluice__StreamReply *)r->reply;
    if (reply->stream == NULL || reply->stream->status != SLUICE__STREAM_INFO__STATUS__ACTIVE) {
        sluice_stream_describe(l->control, "s", created, l);
        return;
    }
    l->ready = true;
}

static void create_tick(struct env_timer *t)
{
    struct workload *l = container_of(t, struct workload, create_timer);
    sluice_stream_create(l->control, "s", l->world->n_shards, 0, l->world->options.profile->replicas, created, l);
}

/* ---- splits and merges ---- */

/* 14: what is told of the shards covers every hash key exactly once, at every moment and by every node. */
static void check_answer(struct workload *l, const Sluice__StreamInfo *info)
{
    struct check_shard *shards = xcalloc(info->n_shards + 1, sizeof *shards);
    for (size_t i = 0; i < info->n_shards; i++) {
        const Sluice__ShardInfo *s = info->shards[i];
        shards[i] = (struct check_shard){.shard = s->shard, .closed = !s->open};
        memcpy(shards[i].first.b, s->hash_first.data, 16);
        memcpy(shards[i].last.b, s->hash_last.data, 16);
    }
    if (!check_tiles(shards, info->n_shards)) {
        world_fail(l->world, 14, "a node described open shards that do not cover every hash key exactly once");
    }
    free(shards);
}

static int by_first(const void *a, const void *b)
{
    return memcmp((*(Sluice__ShardInfo *const *)a)->hash_first.data, (*(Sluice__ShardInfo *const *)b)->hash_first.data, 16);
}

static void reshard_answered(const struct sluice_result *r, void *user)
{
    (void)r; /* done, refused or lost: the next one asks anew what there is */
    (void)user;
}

static void choose_reshard(struct workload *l, const Sluice__StreamInfo *info)
{
    Sluice__ShardInfo **open = xcalloc(info->n_shards + 1, sizeof *open);
    size_t n = 0;
    for (size_t i = 0; i < info->n_shards; i++) {
        if (info->shards[i]->open) {
            open[n++] = info->shards[i];
        }
    }
    qsort(open, n, sizeof *open, by_first);
    Sluice__StreamReshard m = SLUICE__STREAM_RESHARD__INIT;
    struct hash128 at;
    m.name = (char *)"s";
    size_t i = env_random_below(l->producer_env, n);
    uint64_t what = env_random_below(l->producer_env, 8);
    if (what < 3) {
        m.kind = SLUICE__STREAM_RESHARD__KIND__COUNT;
        m.target = (uint32_t)min_u64((n + 1) / 2 + env_random_below(l->producer_env, 2 * n - (n + 1) / 2 + 1), SHARDS_OPEN_MAX);
    } else if (n == 1 || (n < SHARDS_OPEN_MAX && what % 2 == 0)) {
        m.kind = SLUICE__STREAM_RESHARD__KIND__SPLIT;
        m.shard = open[i]->shard;
        if (what == 4) { /* at the hash of a key, which may lie elsewhere: then it is refused */
            hash_of_key(some_key(l), &at);
            m.hash = (ProtobufCBinaryData){.len = 16, .data = at.b};
        }
    } else {
        m.kind = SLUICE__STREAM_RESHARD__KIND__MERGE;
        i = i + 1 < n ? i : i - 1;
        m.shard = open[i]->shard;
        m.adjacent = open[i + 1]->shard;
    }
    struct sluice_call_options o = {.timeout_ms = 2000};
    sluice_call(l->control, FRAME_STREAM_RESHARD, &m.base, &o, reshard_answered, l);
    free(open);
}

static void reshard_described(const struct sluice_result *r, void *user)
{
    struct workload *l = user;
    if (r->code != 0) {
        return;
    }
    const Sluice__StreamReply *reply = (const Sluice__StreamReply *)r->reply;
    check_answer(l, reply->stream);
    if (!l->no_reshards && reply->stream->n_shards < SHARDS_MAX / 2) {
        choose_reshard(l, reply->stream);
    }
}

static void reshard_tick(struct env_timer *t)
{
    struct workload *l = container_of(t, struct workload, reshard_timer);
    uint64_t ms = l->world->options.profile->reshard_ms;
    if (l->no_reshards) {
        return;
    }
    sluice_stream_describe(l->control, "s", reshard_described, l);
    env_timer_start_ms(t, ms / 2 + env_random_below(l->producer_env, ms));
}

static void producers_main(struct env *env, void *arg)
{
    struct workload *l = arg;
    l->producer_env = env;
    l->control = connect_client(l, env);
    sluice_assert(env_timer_init(env, &l->create_timer, create_tick) == 0);
    sluice_assert(env_timer_init(env, &l->reshard_timer, reshard_tick) == 0);
    env_timer_start_ms(&l->create_timer, 50);
}

/* ---- readers ---- */

static void on_records(struct sluice_reader *reader, const struct sluice_records *batch, void *user)
{
    (void)reader;
    struct shard_reader *r = user;
    struct workload *l = r->workload;
    struct check_record *records = xmalloc(batch->n * sizeof *records);
    for (size_t i = 0; i < batch->n; i++) {
        uint64_t value = 0;
        if (batch->v[i].data_len >= 8) {
            memcpy(&value, batch->v[i].data, 8);
        }
        records[i] = (struct check_record){batch->v[i].offset, value};
    }
    history_read(&l->world->history,
                 (struct check_read){.process = 100 + r->shard, .shard = r->shard, .session = r->shard + 1, .start = r->last_read, .end = now(l),
                                     .result = CHECK_OK, .from = r->begun ? r->next : UINT64_MAX},
                 records, batch->n);
    if (batch->n > 0) {
        r->next = batch->v[batch->n - 1].offset + 1;
        r->begun = true;
    }
    r->last_read = now(l);
    free(records);
}

static void on_ended(struct sluice_reader *reader, const struct sluice_read_end *end, void *user)
{
    (void)reader;
    struct shard_reader *r = user;
    struct workload *l = r->workload;
    if (end->code == 0 && end->closed && end->n_children > 0 && end->n_children <= ARRAY_LEN(r->children)) {
        history_read(&l->world->history,
                     (struct check_read){.process = 100 + r->shard, .shard = r->shard, .session = r->shard + 1, .start = r->last_read, .end = now(l), .result = CHECK_OK,
                                         .from = end->next_offset, .closed = true},
                     NULL, 0);
        r->ended = true;
        r->next = end->next_offset;
        r->n_children = end->n_children;
        memcpy(r->children, end->children, end->n_children * sizeof r->children[0]);
        l->map_wanted = true;
        return;
    }
    world_fail(r->workload->world, 8, "the reader of shard %u ended at offset %llu: %s: %s", r->shard, (unsigned long long)end->next_offset,
               sluice_error_text(end->code), end->message != NULL ? end->message : "");
}

static void fresh_done(const struct sluice_result *r, void *user)
{
    struct fresh_call *f = user;
    if (r->code == 0) {
        const Sluice__PositionReply *reply = (const Sluice__PositionReply *)r->reply;
        history_read(&f->workload->world->history,
                     (struct check_read){.process = 200, .shard = f->shard, .start = f->start, .end = now(f->workload), .result = CHECK_OK,
                                         .from = reply->offset, .fresh = true, .tail = true},
                     NULL, 0);
    }
    free(f);
}

static void fresh_tick(struct env_timer *t)
{
    struct workload *l = container_of(t, struct workload, fresh_timer);
    struct fresh_call *f = xcalloc(1, sizeof *f);
    *f = (struct fresh_call){l, l->followed[env_random_below(l->reader_env, l->n_followed)]->shard, now(l)};
    Sluice__Position m = SLUICE__POSITION__INIT;
    m.shard = f->shard;
    m.kind = SLUICE__POSITION__KIND__LATEST;
    struct sluice_call_options o = {.stream = "s", .shard = f->shard, .timeout_ms = 2000};
    if (sluice_call(l->reader_client, FRAME_POSITION, &m.base, &o, fresh_done, f) != 0) {
        free(f);
    }
    env_timer_start_ms(&l->fresh_timer, 300);
}

static void follow(struct workload *l, uint32_t shard)
{
    if (shard >= SHARDS_MAX || l->readers[shard].started) {
        return;
    }
    struct shard_reader *r = &l->readers[shard];
    *r = (struct shard_reader){.workload = l, .shard = shard, .started = true};
    struct sluice_reader_options o = {.records = on_records, .ended = on_ended, .user = r, .spread = l->world->options.seed % 2 == 0};
    struct sluice_position from = {.kind = SLUICE_TRIM_HORIZON};
    sluice_assert(sluice_reader_open(l->reader_client, "s", shard, &from, &o, &r->reader) == 0);
    l->followed[l->n_followed++] = r;
}

/* Shards whose parents have been read to their ends. */
static void map_told(const struct sluice_result *r, void *user)
{
    struct workload *l = user;
    if (r->code != 0) {
        return;
    }
    const Sluice__StreamInfo *info = ((const Sluice__StreamReply *)r->reply)->stream;
    check_answer(l, info);
    for (size_t i = 0; i < info->n_shards; i++) {
        const Sluice__ShardInfo *s = info->shards[i];
        bool ready = s->n_parents > 0;
        for (size_t p = 0; p < s->n_parents; p++) {
            ready = ready && s->parents[p] < SHARDS_MAX && l->readers[s->parents[p]].ended;
        }
        if (ready) {
            follow(l, s->shard);
        }
    }
    l->map_wanted = false;
    for (unsigned i = 0; i < l->n_followed; i++) {
        const struct shard_reader *e = l->followed[i];
        for (size_t k = 0; k < e->n_children; k++) {
            l->map_wanted = l->map_wanted || (e->children[k] < SHARDS_MAX && !l->readers[e->children[k]].started);
        }
    }
}

static void map_tick(struct env_timer *t)
{
    struct workload *l = container_of(t, struct workload, map_timer);
    if (l->map_wanted) {
        sluice_stream_describe(l->reader_client, "s", map_told, l);
    }
    env_timer_start_ms(t, 200);
}

static void readers_main(struct env *env, void *arg)
{
    struct workload *l = arg;
    l->reader_env = env;
    l->reader_client = connect_client(l, env);
    sluice_assert(env_timer_init(env, &l->fresh_timer, fresh_tick) == 0);
    for (uint32_t s = 0; s < l->world->n_shards; s++) {
        follow(l, s);
    }
    env_timer_start_ms(&l->fresh_timer, 500);
    sluice_assert(env_timer_init(env, &l->map_timer, map_tick) == 0);
    env_timer_start_ms(&l->map_timer, 200);
}

/* ---- the driver's side ---- */

static void start_puts(void *arg)
{
    struct workload *l = arg;
    open_producers(l);
    for (unsigned i = 0; i < PRODUCERS; i++) {
        arm(&l->producers[i]);
    }
    const struct world_profile *p = l->world->options.profile;
    if (p->reshard_ms != 0 && (p->name[0] != '\0' || l->world->options.seed % 3 != 0)) {
        env_timer_start_ms(&l->reshard_timer, p->reshard_ms);
    }
}

struct workload *workload_start(struct world *w)
{
    struct workload *l = xcalloc(1, sizeof *l);
    l->world = w;
    l->open.next = l->open.previous = &l->open;
    sim_client_start(sim_host_add(w->sim, "producers"), producers_main, l);
    return l;
}

bool workload_ready(const struct workload *l) { return l->ready; }

void workload_run(struct workload *l)
{
    sim_client_start(sim_host_add(l->world->sim, "readers"), readers_main, l);
    if (l->world->options.profile->subscribers || (l->world->options.profile->name[0] == '\0' && l->world->options.seed % 4 == 3)) {
        l->subscribers = subscribers_start(l->world);
    }
    sim_call(l->producer_env, sim_now_ns(l->world->sim), start_puts, l);
}

void workload_stop_reshards(struct workload *l) { l->no_reshards = true; }
void workload_stop_puts(struct workload *l) { l->stopped = true; }
bool workload_drained(const struct workload *l) { return l->n_open == 0; }

bool workload_caught_up(const struct workload *l, uint32_t shard, uint64_t end)
{
    return l->readers[shard].next == end && (l->subscribers == NULL || subscribers_caught_up(l->subscribers, shard, end));
}

uint64_t workload_read_to(const struct workload *l, uint32_t shard)
{
    return min_u64(l->readers[shard].next, l->subscribers != NULL ? subscribers_got(l->subscribers, shard) : UINT64_MAX);
}

uint64_t workload_last_ack(const struct workload *l, uint32_t shard) { return l->last_ack[shard]; }

/* The first key of a range; 0: none. */
static uint64_t key_within(const struct workload *l, const struct hash128 *first, const struct hash128 *last)
{
    for (uint64_t key = 1; key <= keys(l); key++) {
        struct hash128 hash;
        hash_of_key(key, &hash);
        if (hash_compare(first, &hash) <= 0 && hash_compare(&hash, last) <= 0) {
            return key;
        }
    }
    return 0;
}

bool workload_has_key(const struct workload *l, const struct hash128 *first, const struct hash128 *last)
{
    return key_within(l, first, last) != 0;
}

void workload_told_children(struct workload *l, const struct map_stream *s)
{
    for (unsigned i = 0; i < s->n_shards; i++) {
        const struct map_shard *m = &s->shards[i];
        const struct shard_reader *r = m->shard < SHARDS_MAX ? &l->readers[m->shard] : NULL;
        if (l->subscribers != NULL) {
            subscribers_told_children(l->subscribers, m);
        }
        if (r != NULL && r->ended && (r->n_children != m->n_children || memcmp(r->children, m->children, m->n_children * sizeof m->children[0]) != 0)) {
            world_fail(l->world, 9, "the reader of shard %u was told of other children than it has", m->shard);
        }
    }
}

/* ---- moving replicas ---- */

struct drain_order { struct workload *workload; unsigned node; bool on; };

static void drain_answered(const struct sluice_result *r, void *user)
{
    (void)r; /* lost or refused: then not; the next strike, or healing, orders again */
    (void)user;
}

static void send_drain(void *arg)
{
    struct drain_order *o = arg;
    Sluice__NodeChange m = SLUICE__NODE_CHANGE__INIT;
    m.kind = o->on ? SLUICE__NODE_CHANGE__KIND__DRAIN : SLUICE__NODE_CHANGE__KIND__UNDRAIN;
    m.node = o->node;
    struct sluice_call_options options = {.timeout_ms = o->on ? 3000 : 15000};
    sluice_call(o->workload->control, FRAME_NODE_CHANGE, &m.base, &options, drain_answered, NULL);
    free(o);
}

void workload_drain(struct workload *l, unsigned node, bool on)
{
    struct drain_order *o = xmalloc(sizeof *o);
    *o = (struct drain_order){l, node, on};
    sim_call(l->producer_env, sim_now_ns(l->world->sim), send_drain, o);
}

void workload_finish(struct workload *l)
{
    for (struct pending *p = l->open.next; p != &l->open; p = p->next) {
        history_put(&l->world->history, &(struct check_put){.process = p->producer->number, .start = p->start, .end = UINT64_MAX,
                                                            .result = CHECK_INFO, .value = p->value, .idempotent = p->producer->idempotent});
    }
}
