/* The load of `sluice bench put --kinesis`: connections that put one request after the other.
 *
 * Records are counted once, when their outcome is told: acknowledged; rejected, if the server says that it did nothing; or unknown, if it says that something went wrong within it, or
 * nothing any more. What is throttled is put again after a pause; nothing else is, so that no record is stored twice. */
#include <stdlib.h>

#include "client/cli/bench_kinesis.h"
#include "client/kinesis_answer.h"

enum {
    ANSWER_MS = 30000,    /* a request without an answer for so long is given up */
    THROTTLED_MS = 30000, /* so long are throttled records put again */
    RECONNECT_MS = 100, GIVE_UP_MS = 3000,
    PAUSE_MS = 50, PAUSE_MAX_MS = 1000,
    ENTRIES_BYTES = 64 << 20,
    PACER_NS = 200000
};

/* ---- outcomes ------------------------------------------------------------------------------------------------------------------- */

static void completed(struct kinesis_bench *k, uint64_t n)
{
    struct bench_load *l = &k->b.load;
    l->completed += n;
    if (k->running && l->completed == l->records) {
        bench_stop(&k->b);
    }
}

static void failed(struct kinesis_bench *k, uint64_t n, uint64_t *count, const char *what, const char *message)
{
    char text[300];
    snprintf(text, sizeof text, "%s%s%s", what, message[0] != '\0' ? ": " : "", message);
    *count += n;
    k->b.load.failed += n;
    bench_errors(&k->b, n, text);
    completed(k, n);
}

static void outcome(void *user, size_t i, const struct kinesis_outcome *o)
{
    struct kinesis_connection *c = user;
    struct kinesis_bench *k = c->k;
    if (o->stored) {
        uint64_t now = bench_clock(&k->b);
        histogram_add(k->b.load.latency, now > c->intended_ns[i] ? now - c->intended_ns[i] : 0);
        k->b.load.acked++;
        completed(k, 1);
    } else if (kinesis_throttled(o->code)) {
        c->entries[c->n_throttled] = c->entries[i];
        c->intended_ns[c->n_throttled++] = c->intended_ns[i];
    } else if (o->code[0] != '\0' && strcmp(o->code, "InternalFailure") != 0) {
        failed(k, 1, &k->rejected, o->code, o->message);
    } else {
        failed(k, 1, &k->unknown, o->code[0] != '\0' ? o->code : "an answer says nothing of a record", o->message);
    }
}

/* Tells the outcome of all records at hand. */
static void all_failed(struct kinesis_connection *c, uint64_t *count, const char *what, const char *message)
{
    unsigned n = c->n;
    c->n = 0;
    failed(c->k, n, count, what, message);
}

/* ---- sending -------------------------------------------------------------------------------------------------------------------- */

/* The body's pieces: neighbours among the entries are one piece. Returns their number. */
static unsigned body_make(struct kinesis_connection *c, struct iovec *iov)
{
    struct kinesis_bench *k = c->k;
    iov[0] = (struct iovec){c->prefix, kinesis_prefix_write(k->cbor, k->b.stream, c->n, c->prefix)};
    unsigned n = 1;
    for (unsigned i = 0; i < c->n; i++) {
        if (i > 0 && c->entries[i] == c->entries[i - 1] + 1) {
            iov[n - 1].iov_len += k->entry_size;
        } else {
            iov[n++] = (struct iovec){k->entries + (size_t)c->entries[i] * k->entry_size, k->entry_size};
        }
    }
    return kinesis_body_end(k->cbor, iov, n);
}

static void send_request(struct kinesis_connection *c, const char *operation, bool cbor, unsigned n_iov, const uint8_t sha256[KINESIS_SHA256])
{
    size_t body = 0;
    for (unsigned i = 1; i < n_iov; i++) {
        body += c->iov[i].iov_len;
    }
    size_t head = kinesis_head(&c->place->signer, operation, cbor, env_wall_ms(c->k->b.cli->env), sha256, body, c->head);
    c->iov[0] = (struct iovec){c->head, head};
    c->state = KINESIS_WAITING;
    env_timer_start_ms(&c->timer, ANSWER_MS);
    http_client_send(&c->http, c->iov, n_iov);
}

static void send_records(struct kinesis_connection *c)
{
    struct kinesis_bench *k = c->k;
    unsigned n = body_make(c, c->iov + 1), slot = c->entries[0] / (unsigned)k->batch;
    uint8_t other[KINESIS_SHA256], *sha256 = other;
    /* A full slot has the same body each time, so its hash, the dearest part of a request, is the same. */
    bool full = c->n == k->batch && c->entries[0] % k->batch == 0 && c->entries[c->n - 1] - c->entries[0] == c->n - 1;
    if (full) {
        sha256 = k->slots[slot].sha256;
    }
    if (!full || !k->slots[slot].known) {
        kinesis_hash(c->iov + 1, n, sha256);
        k->slots[slot].known = k->slots[slot].known || full;
    }
    k->requests++;
    send_request(c, "PutRecords", k->cbor, n + 1, sha256);
}

/* Takes what is due and sends it. */
static void next_request(struct kinesis_connection *c)
{
    struct kinesis_bench *k = c->k;
    struct bench_load *l = &k->b.load;
    sluice_assert(c->state == KINESIS_IDLE && c->n == 0);
    if (!k->running || k->b.done) {
        return;
    }
    uint64_t now = env_clock_ns(k->b.cli->env), due = bench_load_due(l, now);
    if (l->sent == l->records && l->completed == l->records) { /* the time was over while nothing was under way */
        bench_stop(&k->b);
    }
    unsigned n = (unsigned)min_u64(due - min_u64(due, l->sent), k->batch);
    if (n == 0) {
        return;
    }
    if (k->at + n > k->n_slots * k->batch) {
        k->at = 0;
    }
    for (unsigned i = 0; i < n; i++) {
        c->entries[i] = k->at++;
        c->intended_ns[i] = bench_load_intended(l, l->sent++, now);
    }
    k->at += n == k->batch ? 0 : (unsigned)((k->batch - k->at % k->batch) % k->batch); /* the next one begins at a slot again */
    c->n = n;
    c->tries = 0;
    c->taken_ns = now;
    send_records(c);
}

static void pace(struct env_timer *t)
{
    struct kinesis_bench *k = container_of(t, struct kinesis_bench, b.load.pacer);
    struct bench_load *l = &k->b.load;
    for (unsigned i = 0; i < k->n_connections && !k->b.done; i++) {
        if (k->connections[i].state == KINESIS_IDLE) {
            next_request(&k->connections[i]);
        }
    }
    if (l->rate != 0 && !k->b.done && l->sent < l->records) {
        uint64_t now = env_clock_ns(k->b.cli->env), next = bench_load_intended(l, l->sent, now);
        env_timer_start_ns(t, next > now ? max_u64(next - now, 1000) : PACER_NS);
    }
}

/* ---- answers ---------------------------------------------------------------------------------------------------------------------- */

/* Throttled records are put again after a pause, for a while. */
static void pause_or_give_up(struct kinesis_connection *c, const char *why)
{
    struct kinesis_bench *k = c->k;
    uint64_t now = env_clock_ns(k->b.cli->env);
    k->throttled += c->n;
    if (now - c->taken_ns > THROTTLED_MS * 1000000ull) {
        all_failed(c, &k->rejected, why, "for too long");
        return;
    }
    uint64_t most = min_u64(PAUSE_MAX_MS, (uint64_t)PAUSE_MS << min_u64(c->tries++, 10));
    env_timer_start_ms(&c->timer, 1 + env_random_below(k->b.cli->env, most));
    c->state = KINESIS_PAUSED;
}

static void records_answered(struct kinesis_connection *c, const struct http_answer *a)
{
    struct kinesis_bench *k = c->k;
    if (a->status == 200) {
        c->n_throttled = 0;
        if (!kinesis_outcomes_read(k->cbor, a->body, a->n, c->n, outcome, c)) {
            all_failed(c, &k->unknown, "an answer cannot be read, or tells of another number of records", "");
            return;
        }
        c->n = c->n_throttled;
        if (c->n > 0) {
            pause_or_give_up(c, "throttled");
        }
        return;
    }
    char type[64], message[200], what[100];
    kinesis_error_read(k->cbor, a->body, a->n, type, message);
    snprintf(what, sizeof what, "%u %s", a->status, type);
    if (a->status < 500 && kinesis_throttled(type)) {
        pause_or_give_up(c, what);
    } else {
        all_failed(c, a->status < 500 ? &k->rejected : &k->unknown, what, message);
    }
}

static void on_answer(struct http_client *h, const struct http_answer *a)
{
    struct kinesis_connection *c = h->user;
    env_timer_stop(&c->timer);
    c->state = KINESIS_IDLE;
    if (c->calling) {
        c->status = a->status;
        c->answer = xmalloc(a->n + 1);
        memcpy(c->answer, a->body, a->n);
        c->answer[a->n] = '\0';
        c->answer_n = a->n;
        env_stop(c->k->b.cli->env);
        return;
    }
    records_answered(c, a);
    if (c->state == KINESIS_IDLE && !a->last) {
        next_request(c);
    }
}

/* ---- connections -------------------------------------------------------------------------------------------------------------------- */

static void connect_again(struct kinesis_connection *c);

static void given_up(struct kinesis_connection *c)
{
    struct kinesis_bench *k = c->k;
    c->state = KINESIS_GIVEN_UP;
    if (c->n > 0) {
        all_failed(c, &k->rejected, "throttled, then no connection", k->trouble);
    }
    k->n_given_up++;
    if (c->calling) {
        env_stop(k->b.cli->env);
    } else if (!k->running || k->n_given_up == k->n_connections) {
        bench_errors(&k->b, 1, k->trouble);
        bench_stop(&k->b);
    }
}

static void down(struct kinesis_connection *c, const char *why)
{
    struct kinesis_bench *k = c->k;
    uint64_t now = env_clock_ns(k->b.cli->env);
    c->state = KINESIS_DOWN;
    c->down_since_ns = c->down_since_ns != 0 ? c->down_since_ns : now;
    snprintf(k->trouble, sizeof k->trouble, "%.150s: %.80s", c->place->url.authority, why);
    if (now - c->down_since_ns > GIVE_UP_MS * 1000000ull) {
        given_up(c);
    } else {
        env_timer_start_ms(&c->timer, RECONNECT_MS);
    }
}

static void on_gone(struct http_client *h, const char *why)
{
    struct kinesis_connection *c = h->user;
    struct kinesis_bench *k = c->k;
    env_timer_stop(&c->timer);
    bool waited = c->state == KINESIS_WAITING;
    k->n_up -= c->state != KINESIS_DOWN;
    down(c, why);
    if (waited && c->n > 0) {
        all_failed(c, &k->unknown, "a connection ended before the answer", k->trouble);
    }
    if (k->b.load.closing || c->calling) {
        env_stop(k->b.cli->env);
    }
}

static void on_ready(struct http_client *h)
{
    struct kinesis_connection *c = h->user;
    struct kinesis_bench *k = c->k;
    c->state = KINESIS_IDLE;
    c->down_since_ns = 0;
    k->n_up++;
    if (c->calling) {
        env_stop(k->b.cli->env);
    } else if (c->n > 0) {
        send_records(c);
    } else if (k->running) {
        next_request(c);
    } else if (k->n_up == k->n_connections) {
        bench_stop(&k->b);
    }
}

static const struct http_client_ops http_ops = {.ready = on_ready, .answer = on_answer, .gone = on_gone};

static void connect_again(struct kinesis_connection *c)
{
    int code = http_client_open(&c->http, c->k->b.cli->env, &c->place->url, c->k->tls);
    if (code != 0) {
        down(c, strerror(-code));
    }
}

static void timer(struct env_timer *t)
{
    struct kinesis_connection *c = container_of(t, struct kinesis_connection, timer);
    if (c->k->b.load.closing) {
        return;
    }
    if (c->state == KINESIS_DOWN) {
        connect_again(c);
    } else if (c->state == KINESIS_PAUSED) {
        send_records(c);
    } else if (c->state == KINESIS_WAITING) {
        http_client_close(&c->http, "no answer for 30 s");
    }
}

static void entries_write(struct kinesis_bench *k)
{
    k->entry_size = kinesis_entry_size(k->cbor, BENCH_KEY, k->b.record_size);
    k->n_slots = (unsigned)min_u64(KINESIS_SLOTS_MAX, max_u64(2, ENTRIES_BYTES / (k->entry_size * k->batch)));
    k->entries = xmalloc(k->n_slots * k->batch * k->entry_size + 1);
    bench_load_pool(&k->b);
    for (unsigned i = 0; i < k->n_slots * k->batch; i++) {
        char key[BENCH_KEY];
        bench_load_key(&k->b, i, key);
        kinesis_entry_write(k->cbor, key, sizeof key, bench_load_data(&k->b, i), k->b.record_size, k->entries + i * k->entry_size);
    }
}

int kinesis_load_open(struct kinesis_bench *k)
{
    entries_write(k);
    env_timer_init(k->b.cli->env, &k->b.load.pacer, pace);
    k->connections = xcalloc(k->n_connections, sizeof *k->connections);
    for (unsigned i = 0; i < k->n_connections; i++) {
        struct kinesis_connection *c = &k->connections[i];
        c->k = k;
        c->place = &k->places[i % k->n_places];
        c->http.ops = &http_ops;
        c->http.user = c;
        env_timer_init(k->b.cli->env, &c->timer, timer);
        connect_again(c);
    }
    bench_run(&k->b);
    return k->n_up == k->n_connections ? 0 : cli_error("bench: %s", k->trouble);
}

void kinesis_load_run(struct kinesis_bench *k, uint64_t records)
{
    struct bench_load *l = &k->b.load;
    l->records = records;
    l->sent = l->completed = l->failed = l->acked = 0;
    k->requests = k->throttled = k->unknown = k->rejected = 0;
    *l->latency = (struct histogram){0};
    l->start_ns = env_clock_ns(k->b.cli->env);
    l->deadline_ns = l->seconds != 0 ? l->start_ns + l->seconds * 1000000000u : 0;
    k->running = true;
    k->b.done = false;
    if (k->n_given_up == k->n_connections) {
        bench_errors(&k->b, 1, k->trouble);
    } else {
        pace(&l->pacer);
        bench_run(&k->b);
    }
    k->running = false;
}

void kinesis_load_close(struct kinesis_bench *k)
{
    k->b.load.closing = true;
    k->running = false;
    for (unsigned i = 0; k->connections != NULL && i < k->n_connections; i++) {
        struct kinesis_connection *c = &k->connections[i];
        while (c->http.open) {
            http_client_close(&c->http, "done");
            env_uv_run(k->b.cli->env);
        }
        env_timer_close(&c->timer);
        http_client_deinit(&c->http);
        free(c->answer);
    }
    free(k->connections);
    k->connections = NULL;
    free(k->entries);
    k->entries = NULL;
}

/* ---- calls ------------------------------------------------------------------------------------------------------------------------ */

unsigned kinesis_call(struct kinesis_bench *k, const char *operation, const char *body)
{
    struct kinesis_connection *c = &k->connections[0];
    free(c->answer);
    c->answer = NULL;
    c->status = 0;
    c->calling = true;
    while (c->state == KINESIS_DOWN) { /* closed after the last call, as some servers do */
        env_uv_run(k->b.cli->env);
    }
    if (c->state == KINESIS_IDLE) {
        c->iov[1] = (struct iovec){(char *)(uintptr_t)body, strlen(body)};
        uint8_t sha256[KINESIS_SHA256];
        kinesis_hash(&c->iov[1], 1, sha256);
        send_request(c, operation, false, 2, sha256);
        while (c->state == KINESIS_WAITING) {
            env_uv_run(k->b.cli->env);
        }
    }
    c->calling = false;
    return c->status;
}
