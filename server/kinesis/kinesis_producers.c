/* kinesis_producers.c: the native producers of an endpoint: one for each incarnation of a stream that its callers write to, opened when it is first needed, closed when it has
 * rested for a minute or the stream is gone. */
#include <stdlib.h>
#include <string.h>

#include "proto/base.h"
#include "server/kinesis/kinesis_put.h"

enum {
    PRODUCERS_MAX = 512,            /* of a lane */
    PRODUCER_BYTES_MAX = 16 << 20,  /* records that one of them holds; calls wait above it */
    PUT_BYTES_MAX = 128 << 20,      /* of all calls that are being put; above it they are refused */
    PUT_MS = 10000,                 /* a record is delivered in that time, or told as failed; so long a call waits for room, too */
    IDLE_MS = 60000,
    TICK_MS = 1000
};

struct stream_producer {
    struct stream_producer *next, **prev;
    struct kinesis *k;
    struct sluice_producer *producer;
    uint8_t stream_id[16];
    unsigned users;                 /* calls with records in it or waiting for it */
    uint64_t used_ms;
    struct put_call *waiting;       /* for room, oldest first */
};

struct kinesis_producers {
    struct kinesis *k;
    struct stream_producer *first;
    unsigned n;
    uint64_t bytes;
    struct env_timer timer;
};

static void tick(struct env_timer *t);

/* ---- waiting --------------------------------------------------------------------------------------------------------------- */

static void wait_at(struct put_call *p, struct put_call **at)
{
    p->wait_next = *at;
    p->wait_prev = at;
    if (p->wait_next != NULL) {
        p->wait_next->wait_prev = &p->wait_next;
    }
    *at = p;
}

void put_producer_unwait(struct put_call *p)
{
    if (p->wait_prev != NULL) {
        *p->wait_prev = p->wait_next;
        if (p->wait_next != NULL) {
            p->wait_next->wait_prev = p->wait_prev;
        }
        p->wait_prev = NULL;
    }
}

static void writable(struct sluice_producer *producer, void *user)
{
    struct stream_producer *sp = user;
    while (sp->waiting != NULL) {
        struct put_call *p = sp->waiting;
        put_producer_unwait(p);
        if (!put_feed(p, producer)) {
            wait_at(p, &sp->waiting); /* first again */
            return;
        }
    }
}

/* ---- life ------------------------------------------------------------------------------------------------------------------ */

/* Its records are completed: those that were not sent as rejected, the others as unknown; what waits, with the code. */
static void drop(struct stream_producer *sp, int code)
{
    struct kinesis_producers *all = sp->k->producers;
    *sp->prev = sp->next;
    if (sp->next != NULL) {
        sp->next->prev = sp->prev;
    }
    all->n--;
    sluice_producer_close(sp->producer);
    while (sp->waiting != NULL) {
        struct put_call *p = sp->waiting;
        put_producer_unwait(p);
        put_give_up(p, code);
    }
    sluice_assert(sp->users == 0);
    free(sp);
}

/* The one that has rested longest makes room. */
static bool make_room(struct kinesis_producers *all)
{
    struct stream_producer *oldest = NULL;
    for (struct stream_producer *sp = all->first; sp != NULL; sp = sp->next) {
        if (sp->users == 0 && (oldest == NULL || sp->used_ms < oldest->used_ms)) {
            oldest = sp;
        }
    }
    if (oldest != NULL) {
        drop(oldest, SLUICE_E_SHUTTING_DOWN);
    }
    return oldest != NULL;
}

static struct kinesis_producers *producers_of(struct kinesis *k)
{
    if (k->producers == NULL) {
        k->producers = xcalloc(1, sizeof *k->producers);
        k->producers->k = k;
        sluice_assert(env_timer_init(k->env, &k->producers->timer, tick) == 0);
    }
    return k->producers;
}

static struct stream_producer *find(struct kinesis_producers *all, const uint8_t id[16])
{
    struct stream_producer *sp = all->first;
    while (sp != NULL && memcmp(sp->stream_id, id, sizeof sp->stream_id) != 0) {
        sp = sp->next;
    }
    if (sp != NULL && sluice_producer_error(sp->producer, NULL) != 0) { /* its nodes could not be reached for long: a new one tries anew */
        drop(sp, SLUICE_E_NO_CONNECTION);
        sp = NULL;
    }
    return sp;
}

static struct stream_producer *producer_for(struct kinesis_producers *all, struct sluice_client *client, const struct map_stream *s)
{
    struct stream_producer *sp = find(all, s->id);
    if (sp != NULL || (all->n >= PRODUCERS_MAX && !make_room(all))) {
        return sp;
    }
    sp = xcalloc(1, sizeof *sp);
    sp->k = all->k;
    memcpy(sp->stream_id, s->id, sizeof sp->stream_id);
    const struct sluice_producer_options o = {.no_throttle_wait = true, .stream_id = s->id, .record_max = BATCH_RECORD_BYTES_MAX, .buffered_bytes_max = PRODUCER_BYTES_MAX,
                                              .delivery_timeout_ms = PUT_MS, .writable = writable, .user = sp};
    if (sluice_producer_open(client, s->name, &o, &sp->producer) != 0) {
        free(sp);
        return NULL;
    }
    sp->next = all->first;
    sp->prev = &all->first;
    if (sp->next != NULL) {
        sp->next->prev = &sp->next;
    }
    all->first = sp;
    if (all->n++ == 0) {
        env_timer_start_ms(&all->timer, TICK_MS);
    }
    return sp;
}

static void tick(struct env_timer *t)
{
    struct kinesis_producers *all = container_of(t, struct kinesis_producers, timer);
    uint64_t now = env_now_ms(all->k->env);
    for (struct stream_producer *sp = all->first, *next; sp != NULL; sp = next) {
        next = sp->next;
        while (sp->waiting != NULL && now - sp->waiting->waits_since_ms >= PUT_MS) {
            struct put_call *p = sp->waiting;
            put_producer_unwait(p);
            put_give_up(p, SLUICE_E_BUSY);
        }
        if (sp->users == 0 && now - sp->used_ms >= IDLE_MS) {
            drop(sp, SLUICE_E_SHUTTING_DOWN);
        }
    }
    if (all->n > 0) {
        env_timer_start_ms(&all->timer, TICK_MS);
    }
}

void kinesis_producers_map(struct kinesis *k)
{
    if (k->producers == NULL) {
        return;
    }
    for (struct stream_producer *sp = k->producers->first, *next; sp != NULL; sp = next) {
        next = sp->next;
        const struct map_stream *s = cluster_map_stream_by_id(k->lane->map, sp->stream_id);
        if (s == NULL || s->status == STREAM_DELETING) {
            drop(sp, SLUICE_E_NOT_FOUND);
        }
    }
}

void kinesis_producers_close(struct kinesis *k)
{
    if (k->producers == NULL) {
        return;
    }
    while (k->producers->first != NULL) {
        drop(k->producers->first, SLUICE_E_SHUTTING_DOWN);
    }
    env_timer_close(&k->producers->timer);
    free(k->producers);
    k->producers = NULL;
}

/* ---- calls ----------------------------------------------------------------------------------------------------------------- */

void put_producer_use(struct put_call *p, struct sluice_client *client, const struct map_stream *s)
{
    struct kinesis_producers *all = producers_of(p->call->k);
    struct stream_producer *sp = all->bytes + p->bytes <= PUT_BYTES_MAX ? producer_for(all, client, s) : NULL;
    if (sp == NULL) {
        put_give_up(p, SLUICE_E_MEMORY);
        return;
    }
    p->producer = sp;
    sp->users++;
    sp->used_ms = env_now_ms(p->call->k->env);
    all->bytes += p->bytes;
    p->waits_since_ms = sp->used_ms;
    struct put_call **end = &sp->waiting;
    while (*end != NULL) {
        end = &(*end)->wait_next;
    }
    if (end != &sp->waiting || !put_feed(p, sp->producer)) {
        wait_at(p, end);
    }
}

void put_producer_leave(struct put_call *p)
{
    struct stream_producer *sp = p->producer;
    if (sp != NULL) {
        put_producer_unwait(p);
        p->producer = NULL;
        sp->users--;
        sp->used_ms = env_now_ms(sp->k->env);
        sp->k->producers->bytes -= p->bytes;
    }
}
