/* sluice tail: the records of a stream on the standard output, pushed by the shards' leaders to a registered consumer.
 *
 * A subscription per shard. What was pushed is held as it came and unpacked batch by batch, so that a shard that is paused holds no more than its credit: that is given back
 * when a push was delivered, and the leader sends no more than that. */
#include <stdlib.h>

#include "client/cli/records.h"
#include "client/unpack.h"

struct chunk { struct chunk *next; uint8_t *data; size_t len, pos; uint64_t offset, shard_created_s, millis_behind; bool all; };

struct tail { const char *consumer; uint64_t consumer_id, map_version; struct unpacker unpacker; };

struct tail_shard {
    struct records_shard *shard;
    struct sluice_subscription *subscription;
    struct chunk *chunks, **chunks_end;
    struct env_timer again;    /* goes on after a pause */
    bool paused, delivering;
    struct sluice_read_end *end; /* came while records still wait */
};

/* ---- delivering ------------------------------------------------------------------------------------------------------------ */

static void end_free(struct sluice_read_end *e)
{
    if (e != NULL) {
        free((void *)(uintptr_t)e->message);
        free((void *)(uintptr_t)e->children);
        free(e);
    }
}

static struct sluice_read_end *end_copy(const struct sluice_read_end *e)
{
    struct sluice_read_end *copy = xmalloc(sizeof *copy);
    uint32_t *children = xmalloc((e->n_children + 1) * sizeof *children);
    for (size_t i = 0; i < e->n_children; i++) {
        children[i] = e->children[i];
    }
    *copy = *e;
    copy->message = xstrdup(e->message);
    copy->children = children;
    return copy;
}

static void tell_end(struct tail_shard *t, int code, const char *message, uint64_t next_offset)
{
    const struct sluice_read_end e = {.code = code, .message = message, .next_offset = next_offset};
    records_ended(t->shard, &e);
}

/* False: the shard has ended. */
static bool deliver_batch(struct tail_shard *t, struct chunk *k)
{
    struct tail *all = t->shard->all->user;
    struct sluice_records records = {.shard = t->shard->shard, .shard_created_s = k->shard_created_s, .millis_behind = k->millis_behind};
    uint32_t len;
    const char *why = "";
    int code = unpack_batch(&all->unpacker, k->data + k->pos, k->offset, UINT64_MAX, &records, &len, &why);
    if (code != 0) {
        tell_end(t, code, why, k->offset);
        return false;
    }
    k->pos += len;
    if (records.n > 0) {
        k->offset = records.v[records.n - 1].offset + 1;
        records_came(t->shard, &records);
    }
    return true;
}

static void deliver(struct tail_shard *t)
{
    const struct records *g = t->shard->all;
    if (t->delivering || t->shard->ended) {
        return;
    }
    t->delivering = true;
    for (struct chunk *k; !t->paused && !g->done && (k = t->chunks) != NULL;) {
        if (k->pos < k->len) {
            if (!deliver_batch(t, k)) {
                break;
            }
            continue;
        }
        t->chunks = k->next;
        t->chunks_end = t->chunks != NULL ? t->chunks_end : &t->chunks;
        if (t->chunks == NULL && k->all) {
            records_caught_up(t->shard);
        }
        sluice_subscription_credit(t->subscription, k->len);
        free(k->data);
        free(k);
    }
    t->delivering = false;
    if (t->chunks == NULL && t->end != NULL && !t->shard->ended && !g->done) {
        records_ended(t->shard, t->end);
    }
}

static void deliver_again(struct env_timer *timer)
{
    deliver(container_of(timer, struct tail_shard, again));
}

/* ---- the subscription ------------------------------------------------------------------------------------------------------ */

static void started(struct sluice_subscription *u, void *user)
{
    struct tail_shard *t = user;
    if (sluice_subscription_caught_up(u)) {
        records_caught_up(t->shard);
    }
}

static void pushed(struct sluice_subscription *u, struct sluice_pushed *p, void *user)
{
    struct tail_shard *t = user;
    struct chunk *k = xmalloc(sizeof *k);
    *k = (struct chunk){.data = (uint8_t *)(uintptr_t)p->data, .len = p->len, .offset = p->offset, .shard_created_s = p->shard_created_s,
                        .millis_behind = p->millis_behind, .all = sluice_subscription_caught_up(u)};
    p->taken = true;
    *t->chunks_end = k;
    t->chunks_end = &k->next;
    deliver(t);
}

static void ended(struct sluice_subscription *u, const struct sluice_read_end *end, void *user)
{
    struct tail_shard *t = user;
    (void)u;
    t->end = end_copy(end);
    if (end->code != 0) { /* told at once: what waits would only hide it */
        records_ended(t->shard, t->end);
    } else {
        deliver(t);
    }
}

/* ---- the source ------------------------------------------------------------------------------------------------------------ */

static int tail_open(struct records_shard *s, const struct sluice_position *from)
{
    const struct records *g = s->all;
    const struct tail *all = g->user;
    struct tail_shard *t = xcalloc(1, sizeof *t);
    *t = (struct tail_shard){.shard = s, .chunks_end = &t->chunks};
    const struct sluice_subscription_options o = {.consumer = all->consumer, .consumer_id = all->consumer_id, .map_version = all->map_version, .started = started, .pushed = pushed,
                                                  .ended = ended, .user = t};
    int code = sluice_subscription_open(g->cli->client, g->cli->words[0], s->shard, from, &o, &t->subscription);
    if (code != 0) {
        free(t);
        return code;
    }
    env_timer_init(g->cli->env, &t->again, deliver_again);
    s->from = t;
    return 0;
}

static void tail_pause(struct records_shard *s, bool paused)
{
    struct tail_shard *t = s->from;
    t->paused = paused;
    if (!paused) {
        env_timer_start_ms(&t->again, 0);
    }
}

static void tail_close(struct records_shard *s)
{
    struct tail_shard *t = s->from;
    sluice_subscription_close(t->subscription);
    env_timer_close(&t->again);
    for (struct chunk *k; (k = t->chunks) != NULL;) {
        t->chunks = k->next;
        free(k->data);
        free(k);
    }
    end_free(t->end);
    free(t);
    s->from = NULL;
}

static const char *tail_hint(int code)
{
    switch (code) {
    case SLUICE_E_IN_USE:
        return "Someone began to read as this consumer less than five seconds ago. After that a new reader takes the place over; to read beside it, register another consumer.";
    case SLUICE_E_SUPERSEDED:
        return "A program that began later reads as this consumer now. To read beside it, register another consumer.";
    case SLUICE_E_EXPIRED:
        return "Records of that position are older than the stream's retention; --from trim-horizon begins with the oldest that is kept.";
    default:
        return "";
    }
}

/* ---- the command ----------------------------------------------------------------------------------------------------------- */

/* The consumer's number, asked for once rather than by each subscription. 0 or the exit status. */
static int find_consumer(struct cli *c, const char *name, struct tail *t)
{
    Sluice__ConsumerList m = SLUICE__CONSUMER_LIST__INIT;
    m.stream = (char *)(uintptr_t)c->words[0];
    m.consumer = (char *)(uintptr_t)name;
    Sluice__ConsumerListReply *reply;
    int status = cli_request(c, FRAME_CONSUMER_LIST, &m.base, NULL, &reply);
    if (status != CLI_DONE) {
        return status;
    }
    for (size_t i = 0; i < reply->n_consumers; i++) {
        if (strcmp(reply->consumers[i]->name, name) == 0) {
            t->consumer = name;
            t->consumer_id = reply->consumers[i]->id;
            t->map_version = reply->map_version;
        }
    }
    cli_free(reply);
    return t->consumer_id != 0 ? CLI_DONE : cli_error("tail: the stream has no consumer '%s'; 'sluice consumer register %s %s' makes it", name, c->words[0], name);
}

static int tail(struct cli *c)
{
    static const struct records_source source = {tail_open, tail_pause, tail_close, tail_hint};
    struct tail t = {0};
    struct records g = {.source = &source, .user = &t, .follow = true};
    const char *consumer = cli_value(c, "consumer");
    int status = records_options(&g, c, SLUICE_LATEST);
    if (status != 0) {
        return status;
    }
    if (consumer == NULL || consumer[0] == '\0') {
        return cli_usage(c, "--consumer is needed: the name of a registered consumer");
    }
    status = find_consumer(c, consumer, &t);
    status = status == 0 ? records_run(&g) : status;
    unpacker_free(&t.unpacker);
    return status;
}

const struct cli_command cli_tail_command = {
    "tail", NULL, "STREAM", 1, 1,
    "Write a stream's records to the standard output as they are pushed to a registered consumer, each with a newline: in order within a shard, over shards by arrival time. "
    "Goes on until it is interrupted, or the end of all shards.",
    {{"consumer", "NAME", "of the registered consumer (needed)"},
     {"from", "POSITION", "latest (default), trim-horizon, a sequence number, or a time"},
     RECORDS_OPTIONS_SHARD,
     RECORDS_OPTIONS_FORMAT},
    tail};
