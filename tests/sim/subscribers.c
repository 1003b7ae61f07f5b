/* subscribers.c: registered consumers of the simulated cluster, each an application of its own that has every shard's records pushed to it, writing what it gets into the
 * history.
 *
 * A seat is one consumer at one shard. It has one subscription, which survives what the faults do to leaders and links; now and then a rival takes the seat over from where the
 * application has got to, as a second worker would. Whoever lost it ends with SUPERSEDED, whoever came too soon with IN_USE; a seat that is empty is taken again. Seats of
 * children begin when those of their parents have come to their ends. The second consumer is slow: it gives credit back late. A third one comes and goes. */
#include "tests/sim/world.h"

#include "client/sluice.h"
#include "proto/base.h"
#include "server/cluster_map.h"

#include <stdio.h>
#include <stdlib.h>

enum { CONSUMERS = 2, SLOW = 1, SHARDS_MAX = 1024, TICK_MS = 100, RIVAL_EVERY = 40, PROCESS = 300, CREDIT_SMALL = 4 << 10, HEARTBEAT_MS = 1000, VISIT_TICKS = 30, LATE_MS = 5000 };

struct seat;
struct subscriber {
    struct seat *seat;
    struct sluice_subscription *subscription;
    struct subscriber *next;
    uint64_t offset, last_read, unread;
    uint32_t session;
    bool begun;                  /* its first offset is known */
    bool started;                /* the leader took it */
};
struct seat {
    struct subscribers *all;
    struct seat *next;
    unsigned consumer;
    uint32_t shard;
    struct subscriber *list;     /* newest first */
    uint64_t offset;             /* everything below was handed over to the application */
    uint64_t again_ms;           /* not before: an empty seat is taken again */
    uint64_t left_ms;            /* when the last one left */
    bool taken, begun, ended;
    uint32_t children[2];
    size_t n_children;
};
struct visitor { struct sluice_subscription *subscription; unsigned ticks; bool registered, removed, asking; };
struct subscribers {
    struct world *world;
    struct env *env;
    struct sluice_client *client;
    struct env_timer timer;
    struct seat *seats[CONSUMERS][SHARDS_MAX];
    struct seat *list;           /* all of them */
    bool registered[CONSUMERS], asking[CONSUMERS];
    bool map_wanted, map_asked;
    uint32_t sessions;
    struct visitor visitor;
    void *scratch;
    size_t scratch_size;
};
struct registration { struct subscribers *all; unsigned consumer; };

static const char *const names[CONSUMERS] = {"steady", "slow"};

static uint64_t now(const struct subscribers *a) { return sim_now_ns(a->world->sim); }
static void take_seat(struct seat *t);

/* ---- what is pushed ---- */

static void leave(struct subscriber *u)
{
    struct subscriber **at = &u->seat->list;
    while (*at != u) {
        at = &(*at)->next;
    }
    *at = u->next;
    sluice_subscription_close(u->subscription);
    free(u);
}

static void record_read(struct subscriber *u, const struct check_record *records, size_t n, uint64_t from, bool closed)
{
    struct seat *t = u->seat;
    history_read(&t->all->world->history,
                 (struct check_read){.process = PROCESS + t->consumer, .application = 1 + t->consumer, .shard = t->shard, .session = u->session, .start = u->last_read,
                                     .end = now(t->all), .result = CHECK_OK, .from = from, .closed = closed},
                 records, n);
    u->last_read = now(t->all);
}

static void on_pushed(struct sluice_subscription *s, struct sluice_pushed *p, void *user)
{
    (void)s;
    struct subscriber *u = user;
    struct seat *t = u->seat;
    struct subscribers *a = t->all;
    struct check_record *records = xmalloc((p->next_offset - p->offset + 1) * sizeof *records);
    size_t n = 0;
    for (size_t at = 0; at < p->len; at += get_u32(p->data + at + 4)) {
        struct batch_reader br;
        struct batch_record record;
        const char *why = "";
        int code = batch_reader_open(&br, p->data + at, get_u32(p->data + at + 4), &a->scratch, &a->scratch_size, &why);
        int got = 0;
        while (code == 0 && (got = batch_reader_next(&br, &record)) == 1) {
            uint64_t value = 0;
            memcpy(&value, record.data, min_u64(record.data_len, sizeof value));
            if (record.offset >= p->offset && n < p->next_offset - p->offset) {
                records[n++] = (struct check_record){record.offset, value};
            }
        }
        if (code != 0 || got < 0) {
            world_fail(a->world, 8, "a batch pushed to consumer %s of shard %u is damaged: %s", names[t->consumer], t->shard, why);
            break;
        }
    }
    if (p->len > 0) {
        a->world->result->pushed += n;
        record_read(u, records, n, u->begun ? u->offset : UINT64_MAX, false);
        u->begun = true;
        u->offset = p->next_offset;
        t->offset = max_u64(t->offset, u->offset);
        t->begun = true;
        if (t->consumer == SLOW) { /* given back with a later tick */
            p->taken = true;
            free((void *)(uintptr_t)p->data);
            u->unread += p->len;
        }
    }
    free(records);
}

static void seat_ended(struct seat *t, const struct sluice_read_end *end)
{
    t->ended = true;
    t->offset = max_u64(t->offset, end->next_offset);
    t->n_children = end->n_children;
    memcpy(t->children, end->children, end->n_children * sizeof t->children[0]);
    t->all->map_wanted = true;
    while (t->list != NULL) {
        leave(t->list);
    }
}

static void on_started(struct sluice_subscription *s, void *user)
{
    (void)s;
    ((struct subscriber *)user)->started = true;
}

static void on_ended(struct sluice_subscription *s, const struct sluice_read_end *end, void *user)
{
    (void)s;
    struct subscriber *u = user;
    struct seat *t = u->seat;
    struct subscribers *a = t->all;
    bool alone = t->list == u && u->next == NULL;
    if (end->code == 0 && end->closed && end->n_children > 0 && end->n_children <= ARRAY_LEN(t->children)) {
        record_read(u, NULL, 0, end->next_offset, true);
        seat_ended(t, end);
        return;
    }
    /* Whoever was let in is only ever told to go by another one. By one that came later, but for a leader that is new to both and hears the older one late, perhaps a message of
     * one that has left. */
    bool other = !alone || (t->left_ms != 0 && now(a) / 1000000 - t->left_ms < LATE_MS);
    bool expected = (end->code == SLUICE_E_IN_USE && !u->started) || (end->code == SLUICE_E_SUPERSEDED && other);
    if (!expected) {
        world_fail(a->world, 8, "the subscription of consumer %s to shard %u ended at offset %llu: %s: %s", names[t->consumer], t->shard,
                   (unsigned long long)end->next_offset, sluice_error_text(end->code), end->message);
    }
    leave(u);
    t->left_ms = now(a) / 1000000;
    if (alone) {
        t->again_ms = now(a) / 1000000 + 1000;
    }
}

static void take_seat(struct seat *t)
{
    struct subscribers *a = t->all;
    struct subscriber *u = xcalloc(1, sizeof *u);
    *u = (struct subscriber){.seat = t, .session = ++a->sessions, .next = t->list, .offset = t->offset, .begun = t->begun, .last_read = now(a)};
    struct sluice_subscription_options o = {.consumer = names[t->consumer], .heartbeat_ms = HEARTBEAT_MS, .credit = t->consumer == SLOW ? CREDIT_SMALL : 0,
                                            .started = on_started, .pushed = on_pushed, .ended = on_ended, .user = u};
    struct sluice_position from = {.kind = t->begun ? SLUICE_AT_OFFSET : SLUICE_TRIM_HORIZON, .offset = t->offset};
    t->list = u;
    sluice_assert(sluice_subscription_open(a->client, "s", t->shard, &from, &o, &u->subscription) == 0);
}

/* ---- whose turn it is ---- */

static void begin_seat(struct subscribers *a, unsigned consumer, uint32_t shard)
{
    if (shard >= SHARDS_MAX || a->seats[consumer][shard] != NULL) {
        return;
    }
    struct seat *t = xcalloc(1, sizeof *t);
    *t = (struct seat){.all = a, .next = a->list, .consumer = consumer, .shard = shard};
    a->seats[consumer][shard] = a->list = t;
    take_seat(t);
}

/* Shards without parents, and those whose parents were pushed to their ends. */
static void map_told(const struct sluice_result *r, void *user)
{
    struct subscribers *a = user;
    a->map_asked = false;
    if (r->code != 0) {
        return;
    }
    a->map_wanted = false;
    const Sluice__StreamInfo *info = ((const Sluice__StreamReply *)r->reply)->stream;
    for (unsigned c = 0; c < CONSUMERS; c++) {
        for (size_t i = 0; i < info->n_shards && a->registered[c]; i++) {
            const Sluice__ShardInfo *s = info->shards[i];
            bool ready = s->n_parents > 0 || s->shard < a->world->n_shards;
            for (size_t p = 0; p < s->n_parents; p++) {
                const struct seat *parent = s->parents[p] < SHARDS_MAX ? a->seats[c][s->parents[p]] : NULL;
                ready = ready && parent != NULL && parent->ended;
            }
            if (ready) {
                begin_seat(a, c, s->shard);
            }
        }
    }
    for (const struct seat *t = a->list; t != NULL; t = t->next) { /* a node whose map is older does not know the children yet */
        for (size_t k = 0; k < t->n_children; k++) {
            a->map_wanted = a->map_wanted || (t->children[k] < SHARDS_MAX && a->seats[t->consumer][t->children[k]] == NULL);
        }
    }
}

/* ---- registering ---- */

static void registered(const struct sluice_result *r, void *user)
{
    struct registration *g = user;
    g->all->asking[g->consumer] = false;
    /* IN_USE: a former attempt was carried out though its answer got lost. */
    if (r->code == 0 || r->code == SLUICE_E_IN_USE || r->code == SLUICE_E_EXISTS) {
        g->all->registered[g->consumer] = g->all->map_wanted = true;
    }
    free(g);
}

static void send_register(struct subscribers *a, const char *name, sluice_call_cb done, void *user)
{
    Sluice__ConsumerRegister m = SLUICE__CONSUMER_REGISTER__INIT;
    m.stream = (char *)"s";
    m.name = (char *)(uintptr_t)name;
    struct sluice_call_options o = {.timeout_ms = 3000};
    sluice_assert(sluice_call(a->client, FRAME_CONSUMER_REGISTER, &m.base, &o, done, user) == 0);
}

static void register_consumers(struct subscribers *a)
{
    for (unsigned c = 0; c < CONSUMERS; c++) {
        if (!a->registered[c] && !a->asking[c]) {
            struct registration *g = xcalloc(1, sizeof *g);
            *g = (struct registration){a, c};
            a->asking[c] = true;
            send_register(a, names[c], registered, g);
        }
    }
}

/* ---- a consumer that comes and goes ---- */

static void visitor_pushed(struct sluice_subscription *s, struct sluice_pushed *p, void *user)
{
    (void)s;
    (void)p;
    (void)user;
}

static void visitor_ended(struct sluice_subscription *s, const struct sluice_read_end *end, void *user)
{
    struct subscribers *a = user;
    struct visitor *v = &a->visitor;
    /* Removed it is known to nobody; a shard may still take the one before for its holder. */
    if (end->code != 0 && end->code != SLUICE_E_NOT_FOUND && end->code != SLUICE_E_IN_USE) {
        world_fail(a->world, 8, "the subscription of a visiting consumer ended: %s: %s", sluice_error_text(end->code), end->message);
    }
    sluice_subscription_close(s);
    v->subscription = NULL;
}

static void visitor_answered(const struct sluice_result *r, void *user)
{
    struct subscribers *a = user;
    struct visitor *v = &a->visitor;
    v->asking = false;
    if (!v->registered) {
        v->registered = r->code == 0 || r->code == SLUICE_E_IN_USE || r->code == SLUICE_E_EXISTS;
        v->ticks = 0;
    } else if (r->code == 0 || r->code == SLUICE_E_NOT_FOUND) {
        v->registered = false;
        v->removed = true;
        v->ticks = 0;
    }
}

static void visitor_tick(struct subscribers *a)
{
    struct visitor *v = &a->visitor;
    v->ticks++;
    if (v->asking || v->ticks < VISIT_TICKS) {
        return;
    }
    if (!v->registered && v->subscription == NULL) {
        v->asking = true;
        v->removed = false;
        send_register(a, "visitor", visitor_answered, a);
    } else if (v->registered && v->subscription == NULL && v->ticks < 2 * VISIT_TICKS) {
        struct sluice_subscription_options o = {.consumer = "visitor", .heartbeat_ms = HEARTBEAT_MS, .pushed = visitor_pushed, .ended = visitor_ended, .user = a};
        struct sluice_position from = {.kind = SLUICE_TRIM_HORIZON};
        sluice_assert(sluice_subscription_open(a->client, "s", (uint32_t)env_random_below(a->env, a->world->n_shards), &from, &o, &v->subscription) == 0);
    } else if (v->registered && v->ticks >= 2 * VISIT_TICKS) {
        Sluice__ConsumerRemove m = SLUICE__CONSUMER_REMOVE__INIT;
        m.stream = (char *)"s";
        m.name = (char *)"visitor";
        struct sluice_call_options o = {.timeout_ms = 3000};
        v->asking = true;
        sluice_assert(sluice_call(a->client, FRAME_CONSUMER_REMOVE, &m.base, &o, visitor_answered, a) == 0);
    }
}

/* ---- time ---- */

static void seat_tick(struct subscribers *a, struct seat *t)
{
    for (struct subscriber *u = t->list; u != NULL; u = u->next) {
        if (u->unread > 0 && env_random_below(a->env, 4) == 0) {
            sluice_subscription_credit(u->subscription, u->unread);
            u->unread = 0;
        }
    }
    bool calm = a->world->healed_at != 0;
    if (t->ended) {
        return;
    }
    if (t->list == NULL) {
        if (now(a) / 1000000 >= t->again_ms) {
            take_seat(t);
        }
    } else if (!calm && t->list->next == NULL && env_random_below(a->env, RIVAL_EVERY) == 0) {
        take_seat(t);
    }
}

static void tick(struct env_timer *timer)
{
    struct subscribers *a = container_of(timer, struct subscribers, timer);
    register_consumers(a);
    visitor_tick(a);
    for (struct seat *t = a->list; t != NULL; t = t->next) {
        seat_tick(a, t);
    }
    if (a->map_wanted && !a->map_asked) {
        a->map_asked = true;
        sluice_stream_describe(a->client, "s", map_told, a);
    }
    env_timer_start_ms(timer, TICK_MS);
}

static void subscribers_main(struct env *env, void *arg)
{
    struct subscribers *a = arg;
    struct sluice_client_options o = {.endpoints = a->world->endpoints, .agent = "sim"};
    a->env = env;
    sluice_assert(sluice_client_open(env, &o, &a->client) == 0);
    sluice_assert(env_timer_init(env, &a->timer, tick) == 0);
    env_timer_start_ms(&a->timer, TICK_MS);
}

struct subscribers *subscribers_start(struct world *w)
{
    struct subscribers *a = xcalloc(1, sizeof *a);
    a->world = w;
    sim_client_start(sim_host_add(w->sim, "subscribers"), subscribers_main, a);
    return a;
}

bool subscribers_caught_up(const struct subscribers *a, uint32_t shard, uint64_t end)
{
    for (unsigned c = 0; c < CONSUMERS && shard < SHARDS_MAX; c++) {
        const struct seat *t = a->seats[c][shard];
        if (end > 0 && (t == NULL || t->offset != end)) {
            return false;
        }
    }
    return true;
}

uint64_t subscribers_got(const struct subscribers *a, uint32_t shard)
{
    uint64_t least = UINT64_MAX;
    for (unsigned c = 0; c < CONSUMERS && shard < SHARDS_MAX; c++) {
        const struct seat *t = a->seats[c][shard];
        least = min_u64(least, t != NULL ? t->offset : 0);
    }
    return least;
}

void subscribers_told_children(const struct subscribers *a, const struct map_shard *m)
{
    for (unsigned c = 0; c < CONSUMERS && m->shard < SHARDS_MAX; c++) {
        const struct seat *t = a->seats[c][m->shard];
        if (t != NULL && t->ended && (t->n_children != m->n_children || memcmp(t->children, m->children, m->n_children * sizeof m->children[0]) != 0)) {
            world_fail(a->world, 9, "consumer %s of shard %u was told of other children than it has", names[c], m->shard);
        }
    }
}
