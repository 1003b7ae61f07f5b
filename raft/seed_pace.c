/* seed_pace.c: how fast a source gives batches to replicas that lack them while it takes puts at the same time.
 *
 * The puts come first: what tells whether they suffer is how long the journal's group commits take. The rate rises by steps while they take about as
 * long as they did before anybody was seeded, and is halved when they take longer (additive increase, multiplicative decrease; Chiu and Jain,
 * "Analysis of the increase and decrease algorithms", 1989). */
#include "group_impl.h"

enum {
    PUTS_FRESH_MS = 500,            /* so long after a proposal the lane counts as busy with puts */
    LOOK_MS = 100,                  /* between two adjustments */
    QUIET_MS = 1000,                /* so long after an answer commits count as undisturbed */
    RATE_MIN = 8 << 20, RATE_STEP = 512 << 10, /* bytes per second */
    RATE_LEAST = 1 << 20,           /* below, an answer would take longer than a replica waits for one */
};

bool seed_pace_applies(const struct groups *gs)
{
    return gs->o.seed_bytes_per_s > 0 && gs->proposed_ms != 0 && env_now_ms(gs->o.env) - gs->proposed_ms < PUTS_FRESH_MS;
}

/* The mean time of the commits since the last look; 0 if there was none. */
static uint64_t look(struct groups *gs)
{
    struct seed_pace *p = &gs->pace;
    struct journal_stats now;
    journal_stats(gs->o.journal, &now);
    uint64_t n = now.flushes - p->flushes;
    uint64_t mean = n > 0 ? (now.flush_ns_sum - p->flush_ns) / n : 0;
    p->flushes = now.flushes;
    p->flush_ns = now.flush_ns_sum;
    p->looked_ms = env_now_ms(gs->o.env);
    return mean;
}

void seed_pace_tick(struct groups *gs)
{
    struct seed_pace *p = &gs->pace;
    if (env_now_ms(gs->o.env) - p->given_ms < QUIET_MS) {
        return;
    }
    p->rate = 0;
    uint64_t mean = look(gs);
    if (mean > 0) {
        p->calm_ns = p->calm_ns == 0 ? mean : (7 * p->calm_ns + mean) / 8;
    }
}

static void adjust(struct groups *gs)
{
    struct seed_pace *p = &gs->pace;
    uint64_t mean = look(gs);
    if (p->rate == 0) {
        p->rate = RATE_MIN;
    } else if (mean > p->calm_ns + p->calm_ns / 4 && p->calm_ns > 0) {
        p->rate /= 2;
    } else {
        p->rate += RATE_STEP;
    }
    uint64_t most = max_u64(gs->o.seed_bytes_per_s, RATE_LEAST);
    p->rate = max_u64(min_u64(p->rate, most), min_u64(RATE_MIN, most));
}

uint64_t seed_pace_take(struct groups *gs, uint64_t bytes)
{
    struct seed_pace *p = &gs->pace;
    uint64_t now_ms = env_now_ms(gs->o.env), now = env_clock_ns(gs->o.env);
    if (p->rate == 0 || now_ms - p->looked_ms >= LOOK_MS) {
        adjust(gs);
    }
    p->given_ms = now_ms;
    p->due_ns = max_u64(p->due_ns, now);
    uint64_t wait = p->due_ns - now;
    p->due_ns += bytes * 1000000000u / p->rate;
    return wait / 1000000u;
}

void seed_pace_refund(struct groups *gs, uint64_t charged, uint64_t used)
{
    struct seed_pace *p = &gs->pace;
    if (charged > used && p->rate > 0) {
        p->due_ns -= min_u64(p->due_ns, (charged - used) * 1000000000u / p->rate);
    }
}
