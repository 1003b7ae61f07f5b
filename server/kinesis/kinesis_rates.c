/* kinesis_rates.c: see kinesis_rates.h. */
#include "server/kinesis/kinesis_rates.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proto/base.h"
#include "server/kinesis/kinesis_impl.h"
#include "server/node_impl.h"
#include "server/quota.h"

enum { BURST_S = 2, ACCOUNTS_KEPT = 512 };

struct account_rates {
    struct account_rates *next;
    char account[16];
    struct quota buckets[AWS_OPERATION_COUNT]; /* of rate 0: not asked for yet */
};

struct kinesis_rates {
    struct account_rates *accounts; /* the one asked for last comes first */
    unsigned n;
};

struct kinesis_rates *rates_make(void) { return xcalloc(1, sizeof(struct kinesis_rates)); }

void rates_free(struct kinesis_rates *r)
{
    while (r != NULL && r->accounts != NULL) {
        struct account_rates *a = r->accounts;
        r->accounts = a->next;
        free(a);
    }
    free(r);
}

static struct account_rates *account_of(struct kinesis_rates *r, const char *account)
{
    struct account_rates **at = &r->accounts;
    while (*at != NULL && strcmp((*at)->account, account) != 0) {
        if ((*at)->next == NULL && r->n == ACCOUNTS_KEPT) { /* the one that was not asked for longest is as good as new */
            free(*at);
            *at = NULL;
            r->n--;
            break;
        }
        at = &(*at)->next;
    }
    struct account_rates *a = *at;
    if (a == NULL) {
        a = xcalloc(1, sizeof *a);
        snprintf(a->account, sizeof a->account, "%s", account);
        r->n++;
    } else {
        *at = a->next;
    }
    a->next = r->accounts;
    r->accounts = a;
    return a;
}

bool rates_take(struct kinesis_rates *r, const char *account, unsigned operation, uint32_t per_s, uint64_t now_ms)
{
    sluice_assert(operation < AWS_OPERATION_COUNT && per_s > 0);
    struct quota *q = &account_of(r, account)->buckets[operation];
    if (q->rate == 0) {
        quota_init(q, per_s, (uint64_t)per_s * BURST_S, now_ms);
    }
    bool allowed = quota_wait_ms(q, 1, now_ms) == 0;
    if (allowed) {
        quota_take(q, 1, now_ms);
    }
    return allowed;
}

/* ---- between lanes ---- */

struct question {
    struct call *call;
    struct lane *from;
    char account[16];
    unsigned operation;
    uint32_t per_s;
    bool allowed;
    void (*then)(struct call *c);
};

static void answered(struct call *c, bool allowed, void (*then)(struct call *c))
{
    if (c->gone || c->answered) {
        return;
    }
    if (allowed) {
        then(c);
        return;
    }
    c->k->metrics.rate_exceeded_total++;
    call_fail(c, AWS_E_LimitExceededException, "Rate exceeded for account %s.", c->account);
}

static void answer_here(struct lane *l, void *arg)
{
    (void)l;
    struct question *q = arg;
    answered(q->call, q->allowed, q->then);
    call_release(q->call);
    free(q);
}

static void ask_here(struct lane *zero, void *arg)
{
    struct question *q = arg;
    struct kinesis_rates *rates = zero->kinesis != NULL ? zero->kinesis->rates : NULL; /* none: it has closed already, the others are about to */
    q->allowed = rates == NULL || rates_take(rates, q->account, q->operation, q->per_s, env_now_ms(zero->env));
    lane_run(q->from, answer_here, q);
}

void kinesis_rates_ask(struct call *c, uint32_t per_s, void (*then)(struct call *c))
{
    struct lane *l = c->k->lane, *zero = l->node->lanes[0];
    if (l == zero) {
        answered(c, rates_take(c->k->rates, c->account, (unsigned)c->op_number, per_s, env_now_ms(l->env)), then);
        return;
    }
    struct question *q = xcalloc(1, sizeof *q);
    *q = (struct question){.call = c, .from = l, .operation = (unsigned)c->op_number, .per_s = per_s, .then = then};
    memcpy(q->account, c->account, sizeof q->account);
    call_hold(c);
    lane_run(zero, ask_here, q);
}
