/* shard_state.c: see shard_state.h. */
#include "server/shard_state.h"

#include <string.h>

#include "proto/base.h"

enum { PRODUCERS_DEFAULT = 4096 };

void shard_state_init(struct shard_state *s)
{
    memset(s, 0, sizeof *s);
    s->dedupe = dedupe_open(PRODUCERS_DEFAULT, 7ull * 86400 * 1000);
}

void shard_state_deinit(struct shard_state *s)
{
    dedupe_close(s->dedupe);
    s->dedupe = NULL;
}

bool shard_batch_key(const struct batch_header *h, struct dedupe_key *k)
{
    static const uint8_t none[16];
    if (memcmp(h->producer_id, none, 16) == 0) {
        return false;
    }
    memcpy(k->id, h->producer_id, 16);
    k->epoch = h->producer_epoch;
    k->sequence = h->producer_sequence;
    return true;
}

static void advance_time(struct shard_state *s, uint64_t time_ms)
{
    if (time_ms > s->time_ms) {
        s->time_ms = time_ms;
    }
}

void shard_state_batch(struct shard_state *s, const struct batch_header *h)
{
    sluice_assert(s->opened);
    sluice_assert(!s->closed);
    sluice_assert(h->first_offset == s->next);
    sluice_assert(h->record_count > 0);
    sluice_assert(h->time_ms >= s->time_ms);
    s->next += h->record_count;
    advance_time(s, h->time_ms);
    struct dedupe_key k;
    if (shard_batch_key(h, &k)) {
        struct dedupe_numbers numbers = { .offset = h->first_offset, .time_ms = h->time_ms, .count = h->record_count };
        bool consistent = dedupe_record(s->dedupe, &k, &numbers);
        sluice_assert(consistent || s->ignore_producers);
    } else {
        dedupe_expire(s->dedupe, s->time_ms);
    }
}

static void take_settings(struct shard_state *s, const struct shard_settings *settings)
{
    s->settings = *settings;
    if (!s->closed) {
        dedupe_set_bounds(s->dedupe, settings->producers_max, settings->producer_expiry_ms);
    }
}

static unsigned trim(struct shard_state *s, uint64_t to)
{
    to = min_u64(to, s->next);
    if (to <= s->first) {
        return 0;
    }
    s->first = to;
    return SHARD_EFFECT_TRIM;
}

unsigned shard_state_entry(struct shard_state *s, const struct shard_entry *e)
{
    advance_time(s, e->time_ms);
    if (!s->closed) { /* a closed shard goes on telling what it took, as long as it exists (F21) */
        dedupe_expire(s->dedupe, s->time_ms);
    }
    switch (e->kind) {
    case SHARD_ENTRY_OPEN:
        if (s->opened) {
            return 0; /* a second leader proposed it again: the first one counts */
        }
        s->opened = true;
        s->identity = e->identity;
        take_settings(s, &e->settings);
        return SHARD_EFFECT_OPEN | SHARD_EFFECT_SETTINGS;
    case SHARD_ENTRY_SETTINGS:
        if (!s->opened || e->settings.version <= s->settings.version) {
            return 0; /* settings only go forward, whichever leader was slow */
        } else {
            unsigned effects = trim(s, e->trim);
            take_settings(s, &e->settings);
            return effects | SHARD_EFFECT_SETTINGS;
        }
    case SHARD_ENTRY_TRIM:
        return trim(s, e->trim);
    case SHARD_ENTRY_CLOSE:
        if (s->closed) {
            return 0;
        }
        s->closed = true;
        s->reshard = e->reshard;
        s->n_children = e->n_children;
        memcpy(s->children, e->children, sizeof s->children);
        return SHARD_EFFECT_CLOSE;
    case SHARD_ENTRY_TICK:
        return 0;
    }
    sluice_assert(!"entry kind");
    return 0;
}
