/* shard_limits.c: a shard's throughput limits, by its leader: of what is put, and of what readers take that share them (Fetch.shared, Position.shared). */
#include <stdio.h>
#include <string.h>

#include "proto/base.h"
#include "server/node_impl.h"
#include "server/shard.h"

void shard_limits_init(struct shard *s)
{
    const struct settings *set = &s->lane->node->settings;
    uint64_t now = env_now_ms(s->lane->env);
    quota_init(&s->bytes, set->shard_bytes_per_s, 0, now);
    quota_init(&s->records, set->shard_records_per_s, 0, now);
    quota_init(&s->read_calls, set->shard_read_calls_per_s, 0, now);
    quota_init(&s->position_calls, set->shard_read_calls_per_s, 0, now);
    quota_init(&s->read_payload, set->shard_read_bytes_per_s, 0, now);
}

bool shard_limited(const struct shard *s)
{
    return !s->state.settings.limits_off && strcmp(s->lane->node->settings.limits, "off") != 0;
}

static bool throttled(struct shard *s, struct request *r, const char *what, uint64_t rate, uint64_t wait_ms)
{
    char why[160];
    snprintf(why, sizeof why, "shard %u gives its shared readers at most %llu %s a second", s->state.identity.shard, (unsigned long long)rate, what);
    s->lane->metrics.reads_throttled_total++;
    request_error(r, SLUICE_E_THROTTLED, why, 0, (uint32_t)min_u64(wait_ms, 60000));
    return false;
}

bool shard_shared_read_ok(struct shard *s, struct request *r, struct quota *calls)
{
    if (!s->ready || s->phase != SHARD_RUNNING) {
        shard_not_leader(s, r);
        return false;
    }
    if (!shard_limited(s)) {
        return true;
    }
    uint64_t now = env_now_ms(s->lane->env), wait = quota_wait_ms(calls, 1, now);
    if (wait > 0) {
        return throttled(s, r, calls == &s->read_calls ? "fetches" : "positions", calls->rate, wait);
    }
    if (calls == &s->read_calls && (wait = quota_wait_ms(&s->read_payload, 1, now)) > 0) { /* a large answer is paid back first */
        return throttled(s, r, "bytes", s->read_payload.rate, wait);
    }
    quota_take(calls, 1, now);
    return true;
}
