/* kinesis.c: the endpoint of a lane: its port, its calls from their beginning to their end, its own end. */
#include "server/kinesis/kinesis.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "proto/base.h"
#include "server/kinesis/kinesis_impl.h"
#include "server/node_impl.h"

enum {
    BLOCKS_KEPT = 512,     /* of AWS_WRITER_BLOCK bytes: one full answer of GetRecords */
    BODY_MAX = 15u << 20,  /* PutRecords of 10 MiB in base64, keys and names around them */
    LANE_MEMORY_MIN = 64u << 20,
    SERVER_CONNECTIONS_MIN = 64
};

/* The last of what there was ends the endpoint. */
static void end_step(struct kinesis *k)
{
    if (!k->closing || k->http != NULL || k->clients != NULL || k->calls != NULL) {
        return;
    }
    void (*done)(void *) = k->done;
    void *arg = k->done_arg;
    rates_free(k->rates);
    kinesis_keys_free(k->keys);
    aws_block_pool_deinit(&k->blocks);
    free(k);
    done(arg);
}

/* ---- calls ------------------------------------------------------------------------------------------------------------------ */

struct call *call_new(struct kinesis *k, struct http_request *r)
{
    struct call *c = xcalloc(1, sizeof *c);
    c->k = k;
    c->http = r;
    c->holds = 1; /* until it is answered or its peer is gone */
    c->op_number = -1;
    arena_init(&c->arena, CALL_MEMORY);
    memcpy(c->account, k->lane->node->settings.account, 12);
    uint8_t random[16];
    env_random(k->env, random, sizeof random);
    aws_request_id(c->request_id, random);
    c->next = k->calls;
    c->prev = &k->calls;
    if (c->next != NULL) {
        c->next->prev = &c->next;
    }
    k->calls = c;
    k->metrics.calls++;
    r->user = c;
    return c;
}

void call_hold(struct call *c) { c->holds++; }

void call_release(struct call *c)
{
    sluice_assert(c->holds > 0);
    if (--c->holds > 0) {
        return;
    }
    sluice_assert((c->answered || c->gone) && !c->map_waiting && c->map_reply == NULL);
    *c->prev = c->next;
    if (c->next != NULL) {
        c->next->prev = c->prev;
    }
    if (c->writing) {
        aws_writer_deinit(&c->writer);
    }
    arena_deinit(&c->arena);
    struct kinesis *k = c->k;
    free(c);
    end_step(k);
}

static void on_request(void *arg, struct http_request *r) { kinesis_front(arg, r); }

static void on_gone(struct http_request *r)
{
    struct call *c = r->user;
    c->k->metrics.calls--;
    c->gone = true;
    c->http = NULL;
    c->input = NULL; /* its texts lay in the request */
    call_native_gone(c);
    call_refresh_end(c);
    if (c->abandoned != NULL) {
        c->abandoned(c);
    }
    call_release(c);
}

static void on_writable(struct http_request *r)
{
    struct call *c = r->user;
    if (c->writable != NULL) {
        c->writable(c);
    }
}

/* ---- the endpoint -------------------------------------------------------------------------------------------------------------- */

static uint64_t at_least(uint64_t v, uint64_t least) { return v > least ? v : least; }

int kinesis_open(struct kinesis **out, struct lane *l, const char *host, uint16_t *port)
{
    const struct settings *s = &l->node->settings;
    unsigned n_lanes = l->node->n_lanes;
    struct kinesis *k = xcalloc(1, sizeof *k);
    k->lane = l;
    k->env = l->env;
    char err[256];
    if (s->access_keys[0] != '\0' && (k->keys = kinesis_keys_load(l->env, s->access_keys, s->account, err)) == NULL) {
        log_error(&l->log, "the file of access keys cannot be used", "file=\"%s\" reason=\"%s\"", s->access_keys, err);
        free(k);
        return -EINVAL;
    }
    k->memory_max = at_least(s->memory / 4 / n_lanes, LANE_MEMORY_MIN);
    struct http_options http = {
        .env = l->env, .host = host, .port = *port, .share_port = n_lanes > 1, .arg = k, .tls = l->node->kinesis_tls, .tls_only = l->node->kinesis_tls != NULL,
        .limits = {.body_max = BODY_MAX, .connections_max = at_least(s->connections_max / n_lanes + 1, SERVER_CONNECTIONS_MIN),
                   .memory_max = k->memory_max},
        .callbacks = {.request = on_request, .gone = on_gone, .writable = on_writable},
    };
    int rc = http_server_open(&k->http, &http);
    if (rc != 0) {
        kinesis_keys_free(k->keys);
        free(k);
        return rc;
    }
    *port = http_server_port(k->http);
    kinesis_clients_open(k);
    if (l->number == 0) {
        k->rates = rates_make();
    }
    aws_block_pool_init(&k->blocks, BLOCKS_KEPT);
    *out = k;
    return 0;
}

/* Answers free calls and may answer others, so the walk begins anew after each. */
void kinesis_map(struct kinesis *k)
{
    kinesis_producers_map(k);
    kinesis_subscribers_map(k);
    for (struct call *c = k->calls; c != NULL;) {
        if (call_native_map(c)) {
            c = k->calls;
        } else {
            c = c->next;
        }
    }
}

void kinesis_set_tls(struct kinesis *k, struct tls_context *tls)
{
    if (k->http != NULL) {
        http_server_set_tls(k->http, tls);
    }
}

static void clients_closed(void *arg)
{
    struct kinesis *k = arg;
    k->clients = NULL;
    end_step(k);
}

static void http_closed(void *arg)
{
    struct kinesis *k = arg;
    k->http = NULL;
    kinesis_subscribers_close(k);
    kinesis_producers_close(k);
    kinesis_clients_close(k, clients_closed, k);
}

void kinesis_close(struct kinesis *k, uint64_t grace_ms, void (*done)(void *arg), void *arg)
{
    sluice_assert(!k->closing);
    k->closing = true;
    k->done = done;
    k->done_arg = arg;
    kinesis_subscribers_close(k);
    http_server_close(k->http, grace_ms, http_closed, k);
}

void kinesis_metrics(const struct kinesis *k, struct kinesis_metrics *out)
{
    *out = k->metrics;
    if (k->http != NULL) {
        out->http = *http_server_counters(k->http);
    }
}
