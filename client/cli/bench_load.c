/* The load of `sluice bench`: producers that put as fast as their depth allows, or at a rate. */
#include <stdlib.h>

#include "client/cli/bench.h"

enum { POOL_BYTES = 4 << 20, PACER_NS = 200000 };

void bench_load_pool(struct bench *b)
{
    b->key_seed = env_random_u64(b->cli->env);
    b->pool_size = POOL_BYTES + b->record_size;
    b->pool = xmalloc(b->pool_size);
    if (!b->compressible) {
        env_random(b->cli->env, b->pool, b->pool_size);
        return;
    }
    uint64_t x = 1;
    for (size_t n = 0; n < b->pool_size;) {
        char text[160];
        x = x * 6364136223846793005ull + 1442695040888963407ull;
        int len = snprintf(text, sizeof text, "{\"id\":%llu,\"user\":\"u%05llu\",\"event\":\"page_view\",\"path\":\"/item/%llu\",\"ok\":true}\n",
                           (unsigned long long)(x >> 40), (unsigned long long)(x >> 33) % 50000, (unsigned long long)(x >> 50));
        size_t part = min_u64((uint64_t)len, b->pool_size - n);
        memcpy(b->pool + n, text, part);
        n += part;
    }
}

uint8_t *bench_load_data(const struct bench *b, uint64_t i) { return b->pool + (i * 4099) % POOL_BYTES; }

void bench_load_key(const struct bench *b, uint64_t i, char key[BENCH_KEY])
{
    uint64_t x = b->key_seed + i * 0x9e3779b97f4a7c15ull;
    for (int k = 0; k < BENCH_KEY; k++) {
        key[k] = "0123456789abcdef"[x >> (4 * k) & 15];
    }
}

uint64_t bench_load_intended(const struct bench_load *l, uint64_t i, uint64_t now)
{
    return l->rate == 0 ? now : l->start_ns + (uint64_t)((double)i * 1e9 / (double)l->rate);
}

uint64_t bench_load_due(struct bench_load *l, uint64_t now)
{
    if (l->deadline_ns != 0 && now >= l->deadline_ns) {
        l->records = min_u64(l->records, l->sent);
    }
    return l->rate == 0 ? l->records : min_u64(l->records, (uint64_t)((double)(now - l->start_ns) * (double)l->rate / 1e9) + 1);
}

static void fill(struct bench *b);

static void completed(struct bench *b)
{
    if (++b->load.completed == b->load.records) {
        b->load.completed_all(b);
    }
}

/* The user pointer is the intended time. */
static void put_done(const struct sluice_put_result *r, void *user)
{
    struct bench_producer *p = r->producer_user;
    struct bench *b = p->bench;
    struct bench_load *l = &b->load;
    if (l->closing) {
        return;
    }
    p->in_flight--;
    if (r->code != 0) {
        l->failed++;
        bench_error(b, r->code, r->message);
    } else {
        uint64_t now = bench_clock(b), intended = (uint64_t)(uintptr_t)user;
        histogram_add(l->latency, now > intended ? now - intended : 0);
        l->acked++;
    }
    completed(b);
    if (l->rate == 0 && l->completed < l->records && p->in_flight <= p->depth - (p->depth + 3) / 4) {
        fill(b); /* refilled by quarters, so that small depths stay exact and large ones are cheap */
    }
}

static bool put_one(struct bench *b, struct bench_producer *p, uint64_t intended)
{
    struct bench_load *l = &b->load;
    uint64_t i = l->sent;
    char key[BENCH_KEY];
    bench_load_key(b, i, key);
    uint8_t *data = bench_load_data(b, i);
    if (l->stamped) { /* copied by the put, so the pool may be written over */
        put_u64(data, intended);
        put_u64(data + 8, i);
    }
    const struct sluice_record r = {.key = key, .key_len = sizeof key, .data = data, .data_len = b->record_size};
    int code = sluice_producer_put(p->producer, &r, put_done, (void *)(uintptr_t)intended);
    if (code == SLUICE_E_BUSY) {
        p->full = true;
        return false;
    }
    l->sent++;
    if (code != 0) {
        const char *message = "";
        sluice_producer_error(p->producer, &message);
        bench_error(b, code, message);
        l->failed++;
        completed(b);
        return true;
    }
    p->in_flight++;
    return true;
}

/* The next producer in turn that may send, or NULL. */
static struct bench_producer *next_producer(struct bench_load *l)
{
    for (unsigned i = 0; i < l->n_producers; i++) {
        struct bench_producer *p = &l->producers[l->turn++ % l->n_producers];
        if (!p->full && p->in_flight < p->depth) {
            return p;
        }
    }
    return NULL;
}

static void fill(struct bench *b)
{
    struct bench_load *l = &b->load;
    uint64_t now = env_clock_ns(b->cli->env);
    bool more = l->sent < l->records;
    uint64_t due = bench_load_due(l, now);
    if (more && l->completed == l->records) { /* the time is over */
        l->completed_all(b);
    }
    for (struct bench_producer *p; l->sent < due && (p = next_producer(l)) != NULL;) {
        put_one(b, p, bench_load_intended(l, l->sent, now));
    }
}

static void pace(struct env_timer *t)
{
    struct bench *b = container_of(t, struct bench, load.pacer);
    struct bench_load *l = &b->load;
    fill(b);
    if (l->sent < l->records) {
        uint64_t now = env_clock_ns(b->cli->env), next = bench_load_intended(l, l->sent, now);
        env_timer_start_ns(t, next > now ? max_u64(next - now, 1000) : PACER_NS);
    }
}

static void writable(struct sluice_producer *producer, void *user)
{
    struct bench_producer *p = user;
    struct bench *b = p->bench;
    struct bench_load *l = &b->load;
    const char *message;
    int code = sluice_producer_error(producer, &message);
    if (l->n_open < l->n_producers) {
        if (code != 0) {
            bench_error(b, code, message);
        }
        if (code != 0 || ++l->n_open == l->n_producers) {
            bench_stop(b);
        }
        return;
    }
    p->full = false;
    if (l->started && !l->closing) {
        fill(b);
    }
}

int bench_load_open(struct bench *b)
{
    struct bench_load *l = &b->load;
    bench_load_pool(b);
    l->producers = xcalloc(l->n_producers, sizeof *l->producers);
    for (unsigned i = 0; i < l->n_producers; i++) {
        struct bench_producer *p = &l->producers[i];
        p->bench = b;
        p->depth = l->depth / l->n_producers + (i < l->depth % l->n_producers);
        const struct sluice_client_options co = {.endpoints = b->cli->endpoints, .agent = "sluice-bench/" SLUICE_VERSION};
        if (sluice_client_open(b->cli->env, &co, &p->client) != 0) {
            return CLI_FAILED;
        }
        const struct sluice_producer_options o = {.buffered_bytes_max = 256u << 20, .no_lz4 = false, .writable = writable, .user = p};
        int code = sluice_producer_open(p->client, b->stream, &o, &p->producer);
        if (code != 0) {
            return cli_failed("bench", code, SLUICE_REJECTED, "", "");
        }
        /* The first answer is BUSY: it makes the producer tell when it is open. */
        const struct sluice_record probe = {.key = "k", .key_len = 1};
        code = sluice_producer_put(p->producer, &probe, NULL, NULL);
        sluice_assert(code == SLUICE_E_BUSY);
    }
    env_timer_init(b->cli->env, &l->pacer, pace);
    bench_run(b);
    return b->errors == 0 ? 0 : cli_error("bench: %s", b->first_error);
}

void bench_load_go(struct bench *b, uint64_t records)
{
    struct bench_load *l = &b->load;
    l->records = records;
    l->sent = l->completed = l->failed = l->acked = 0;
    *l->latency = (struct histogram){0};
    l->completed_all = l->completed_all != NULL ? l->completed_all : bench_stop;
    l->start_ns = env_clock_ns(b->cli->env);
    l->deadline_ns = l->seconds != 0 ? l->start_ns + l->seconds * 1000000000u : 0;
    l->started = true;
    for (unsigned i = 0; i < l->n_producers; i++) {
        l->producers[i].full = false;
    }
    if (l->rate != 0) {
        pace(&l->pacer);
    } else {
        fill(b);
    }
}

bool bench_load_quietly(struct bench *b, uint64_t records)
{
    struct bench_load *l = &b->load;
    uint64_t rate = l->rate, seconds = l->seconds;
    void (*then)(struct bench *) = l->completed_all;
    l->rate = l->seconds = 0;
    l->completed_all = bench_stop;
    bench_load_go(b, records);
    bench_run(b);
    l->rate = rate;
    l->seconds = seconds;
    l->completed_all = then;
    l->acked = 0;
    *l->latency = (struct histogram){0};
    return b->errors == 0;
}

void bench_load_close(struct bench *b)
{
    struct bench_load *l = &b->load;
    l->closing = true; /* what is completed now is not counted */
    env_timer_close(&l->pacer);
    for (unsigned i = 0; l->producers != NULL && i < l->n_producers; i++) {
        if (l->producers[i].producer != NULL) {
            sluice_producer_close(l->producers[i].producer);
        }
        if (l->producers[i].client != NULL) {
            bench_client_close(b, l->producers[i].client);
        }
    }
    free(l->producers);
    l->producers = NULL;
}
