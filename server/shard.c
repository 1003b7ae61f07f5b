/* shard.c: the life of a replica, and what its Raft group tells it (see shard.h). */
#include "server/shard.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proto/base.h"
#include "server/node_impl.h"

/* ---- sink ---- */

static void stop_format(struct shard *s, uint64_t index)
{
    char why[160];
    snprintf(why, sizeof why, "group %llu: entry %llu is of a kind or version that this program does not know; a newer version wrote it", (unsigned long long)s->group_id,
             (unsigned long long)index);
    log_error(&s->lane->log, "unknown entry", "group=%llu index=%llu", (unsigned long long)s->group_id, (unsigned long long)index);
    env_fatal(s->lane->env, ENV_EXIT_FORMAT, why);
}

static void apply_batch(struct shard *s, const struct batch_header *h, const void *data, const struct place *place)
{
    shard_state_batch(&s->state, h);
    struct locator l = { .offset = h->first_offset, .time_ms = h->time_ms, .place = *place, .count = h->record_count };
    batch_log_append(s->batches, &l);
    if (s->fetched_ns != 0 && env_now_ns(s->lane->env) - s->fetched_ns < SHARD_FOLLOWED_NS) {
        journal_cache_put(s->lane->journal, place, data); /* somebody follows; who comes later reads from the disk first */
    }
    shard_stir(s);
    s->written_bytes += h->total_len;
    shard_fetch_wake(s);
    shard_push_wake(s);
}

static void sink_apply(void *arg, uint64_t index, uint64_t term, const void *data, uint32_t len, const struct place *place)
{
    struct shard *s = arg;
    (void)term;
    const uint8_t *bytes = data;
    if (len >= 2 && bytes[1] == ENTRY_BATCH) {
        struct batch_header h;
        if (batch_header_decode(&h, data, len, false, NULL) != 0) {
            stop_format(s, index);
            return;
        }
        apply_batch(s, &h, data, place);
        return;
    }
    struct shard_entry e;
    if (!shard_entry_decode(&e, data, len)) {
        stop_format(s, index);
        return;
    }
    unsigned effects = shard_state_entry(&s->state, &e);
    if (effects & SHARD_EFFECT_TRIM) {
        batch_log_trim(s->batches, s->state.first);
        if (s->group != NULL) {
            group_trim(s->group, s->state.first);
        }
        s->lane->metrics.trims_total++;
    }
    if (effects & SHARD_EFFECT_OPEN) {
        lane_announce(s->lane, s->group_id, true, s->state.identity.stream_id, s->state.identity.shard);
        lane_status_changed(s->lane);
    }
    if (effects & SHARD_EFFECT_CLOSE) {
        s->lane->metrics.closed_total += s->ready;
        s->close_in_flight = true;
        shard_put_closed(s);
        shard_fetch_wake(s);
        shard_push_wake(s);
        lane_status_changed(s->lane);
        log_info(&s->lane->log, "closed", "group=%llu shard=%u end=%llu", (unsigned long long)s->group_id, s->state.identity.shard, (unsigned long long)s->state.next);
    }
}

static int sink_snapshot(void *arg, void **data, uint32_t *len)
{
    struct shard *s = arg;
    *data = shard_snapshot_encode(&s->state, len);
    return *data != NULL ? 0 : SLUICE_E_MEMORY;
}

static int sink_restore(void *arg, const void *data, uint32_t len, bool local)
{
    struct shard *s = arg;
    struct shard_state state;
    shard_state_init(&state);
    state.ignore_producers = s->state.ignore_producers;
    if (!shard_snapshot_decode(&state, data, len)) {
        shard_state_deinit(&state);
        return SLUICE_E_CORRUPT;
    }
    shard_state_deinit(&s->state);
    s->state = state;
    if (state.opened) {
        lane_announce(s->lane, s->group_id, true, state.identity.stream_id, state.identity.shard);
    }
    if (!local) {
        shard_fetch_wake(s);
    }
    return 0;
}

static int sink_range(void *arg, const void *data, uint32_t len, uint64_t *first, uint64_t *next)
{
    (void)arg;
    return shard_snapshot_range(data, len, first, next) ? 0 : SLUICE_E_CORRUPT;
}

/* A term ended or began. What was in flight belonged to the old one (F18): forgotten here; its proposals end by themselves, as unknown. */
static void sink_role(void *arg)
{
    struct shard *s = arg;
    if (s->group == NULL) {
        return;
    }
    uint64_t term = group_term(s->group);
    bool leading = group_role(s->group) == GROUP_LEADER;
    bool ready = leading && group_ready(s->group);
    bool new_term = term != s->term || !leading;
    if (new_term && s->in_flight != NULL) {
        dedupe_in_flight_clear(s->in_flight);
    }
    s->term = term;
    s->leading = leading;
    s->ready = ready;
    /* Once per term, not each time `ready` comes back: during a hand-over that fails a leader is not ready for a while, and what it proposed before is still in flight. */
    if (ready && s->in_flight_term != term) {
        s->in_flight_term = term;
        if (s->in_flight == NULL) {
            s->in_flight = xcalloc(1, sizeof *s->in_flight);
        }
        bool keep = (s->lane->node->settings.test_disable_server & SERVER_RULE_F18) != 0 && s->next_in_flight != 0;
        if (!keep) {
            s->next_in_flight = s->state.next;
        }
        s->time_in_flight = s->state.time_ms;
        s->clocks_seen_ms = 0;
        s->close_in_flight = s->state.closed;
        log_info(&s->lane->log, "leads", "group=%llu term=%llu next=%llu", (unsigned long long)s->group_id, (unsigned long long)term,
                 (unsigned long long)s->state.next);
        shard_control_step(s);
    }
    if (!ready && s->queue != NULL) {
        shard_put_reject_queue(s, leading ? SLUICE_E_NOT_READY : SLUICE_E_NOT_LEADER);
    }
    if (new_term) {
        shard_push_reject(s, SLUICE_E_NOT_LEADER);
    } else if (ready) {
        shard_push_wake(s);
    }
    shard_stir(s);
    lane_status_changed(s->lane);
}

static void sink_nudge(void *arg) { shard_nudge(arg); }

static void sink_seeded(void *arg, const struct locator *l)
{
    struct shard *s = arg;
    batch_log_insert(s->batches, l);
}

/* ---- life ---- */

static void finish_close(struct shard *s)
{
    if (!s->group_closed || s->pins > 0) {
        return;
    }
    sluice_assert(s->queue == NULL && s->waiters == NULL && s->subscriptions == NULL && s->places == NULL);
    struct lane *l = s->lane;
    void (*closed)(struct lane *) = s->closed;
    *s->prev = s->next;
    if (s->next != NULL) {
        s->next->prev = s->prev;
    }
    if (s->stirred) {
        struct shard **at = &l->stirred;
        while (*at != s) {
            at = &(*at)->stirred_next;
        }
        *at = s->stirred_next;
    }
    struct shard **slot = &l->by_group[s->group_id % ARRAY_LEN(l->by_group)];
    while (*slot != s) {
        slot = &(*slot)->hash_next;
    }
    *slot = s->hash_next;
    l->n_shards--;
    batch_log_close(s->batches);
    shard_state_deinit(&s->state);
    free(s->in_flight);
    free(s);
    lane_status_changed(l);
    if (closed != NULL) {
        closed(l);
    }
}

int shard_open(struct lane *l, const struct shard_open_options *o, struct shard **out)
{
    struct shard *s = xcalloc(1, sizeof *s);
    s->lane = l;
    s->group_id = o->group;
    s->raft_id = o->raft_id;
    s->queue_tail = &s->queue;
    shard_state_init(&s->state);
    s->state.ignore_producers = (l->node->settings.test_disable_server & SERVER_RULE_F20) != 0;
    s->batches = batch_log_open(l->journal, o->group);
    shard_limits_init(s);
    s->next = l->shards;
    s->prev = &l->shards;
    if (s->next != NULL) {
        s->next->prev = &s->next;
    }
    l->shards = s;
    struct shard **bucket = &l->by_group[o->group % ARRAY_LEN(l->by_group)];
    s->hash_next = *bucket;
    *bucket = s;
    l->n_shards++;
    struct group_options go = {
        .group = o->group, .raft_id = o->raft_id, .members = o->members, .n_members = o->n_members, .recovered = o->recovered,
        .sink = { .arg = s, .apply = sink_apply, .snapshot = sink_snapshot, .restore = sink_restore, .range = sink_range, .role = sink_role, .seeded = sink_seeded, .nudge = sink_nudge },
        .batches = s->batches, .prefer_leader = o->prefer_leader
    };
    lane_announce(l, o->group, true, NULL, 0);
    int rc = group_open(l->groups, &go, &s->group);
    if (rc != 0) {
        lane_announce(l, o->group, false, NULL, 0);
        s->phase = SHARD_CLOSING;
        s->group_closed = true;
        s->group = NULL;
        finish_close(s);
        return rc;
    }
    *out = s;
    sink_role(s);
    return 0;
}

static void group_closed(void *arg)
{
    struct shard *s = arg;
    s->group_closed = true;
    s->group = NULL;
    finish_close(s);
}

void shard_close(struct shard *s, bool remove, void (*closed)(struct lane *l))
{
    if (s->phase != SHARD_RUNNING) {
        s->closed = closed != NULL ? closed : s->closed;
        return;
    }
    s->phase = SHARD_CLOSING;
    s->remove = remove;
    s->closed = closed;
    s->ready = false;
    int code = remove ? SLUICE_E_NOT_LEADER : SLUICE_E_SHUTTING_DOWN;
    shard_put_reject_queue(s, code);
    shard_fetch_reject(s, code);
    shard_push_reject(s, code);
    if (remove) {
        lane_announce(s->lane, s->group_id, false, NULL, 0);
    }
    group_close(s->group, remove, group_closed, s);
}

void shard_pin(struct shard *s)
{
    s->pins++;
}

void shard_unpin(struct shard *s)
{
    sluice_assert(s->pins > 0);
    s->pins--;
    if (s->phase == SHARD_CLOSING) {
        finish_close(s);
    }
}

/* ---- what the files of requests share ---- */

void shard_not_leader(struct shard *s, struct request *r)
{
    uint64_t leader = s->group != NULL ? group_leader(s->group) : 0;
    uint32_t node = leader != 0 ? raft_id_node(leader) : 0;
    if (s->phase != SHARD_RUNNING) {
        request_error(r, s->remove ? SLUICE_E_NOT_LEADER : SLUICE_E_SHUTTING_DOWN, NULL, node, 0);
    } else if (s->leading || node == 0 || node == s->lane->node->identity.node_id) {
        request_error(r, SLUICE_E_NOT_READY, NULL, 0, 50);
    } else {
        request_error(r, SLUICE_E_NOT_LEADER, NULL, node, 0);
    }
}

bool shard_answer_if_stale(struct shard *s, struct request *r)
{
    if (s->phase != SHARD_RUNNING) {
        shard_not_leader(s, r);
        return true;
    }
    if (s->leading || (s->lane->node->settings.test_disable_server & SERVER_RULE_F28) != 0) {
        return false;
    }
    if (!group_joined(s->group)) {
        request_error(r, SLUICE_E_STALE, "this replica is still joining the shard", raft_id_node(group_leader(s->group)), 0);
        return true;
    }
    if (group_contact_age_ms(s->group) > SHARD_STALE_MS) {
        request_error(r, SLUICE_E_STALE, NULL, raft_id_node(group_leader(s->group)), 0);
        return true;
    }
    return false;
}

uint64_t shard_first_readable(const struct shard *s)
{
    uint64_t retention_ms = (uint64_t)s->state.settings.retention_hours * 3600000;
    if (!s->state.opened || s->state.time_ms <= retention_ms) {
        return s->state.first;
    }
    uint64_t older = batch_log_older_than(s->batches, s->state.time_ms - retention_ms);
    return min_u64(max_u64(s->state.first, older), s->state.next);
}

bool shard_request_ok(struct shard *s, struct request *r)
{
    if (s->state.opened && (memcmp(s->state.identity.stream_id, r->stream_id, 16) != 0 || s->state.identity.shard != r->shard)) {
        request_error(r, SLUICE_E_NOT_FOUND, "the stream was deleted or created anew", 0, 0);
        return false;
    }
    return true;
}

/* Caught up: the leader is in contact, and what is applied is either of now or has not grown for a while. The leader's own end is not told by Raft, so this is as near as
 * one gets without asking. */
static void check_caught_up(struct shard *s)
{
    uint64_t now = env_now_ms(s->lane->env);
    bool up = s->ready;
    if (!up && !s->leading && group_joined(s->group) && group_leader(s->group) != 0 && group_contact_age_ms(s->group) < 1000) {
        uint64_t commit = group_commit_index(s->group);
        if (commit != s->still_commit || s->still_since_ms == 0) {
            s->still_commit = commit;
            s->still_since_ms = now;
        }
        up = now - s->still_since_ms >= 300 || s->state.time_ms + 2000 > env_wall_ms(s->lane->env);
    }
    if (up) {
        s->caught_up = true;
        lane_status_changed(s->lane);
    }
}

void shard_stir(struct shard *s)
{
    if (!s->stirred && s->phase == SHARD_RUNNING) {
        s->stirred = true;
        s->stirred_next = s->lane->stirred;
        s->lane->stirred = s;
        s->rate_from_ms = env_now_ms(s->lane->env);
    }
}

bool shard_tick(struct shard *s)
{
    if (s->phase != SHARD_RUNNING) {
        return false;
    }
    if (!s->caught_up) {
        check_caught_up(s);
    }
    if (s->ready) {
        shard_control_step(s);
        if (s->queue != NULL) {
            shard_put_pump(s);
        }
    }
    uint64_t now = env_now_ms(s->lane->env);
    if (now - s->rate_from_ms >= 1000) {
        s->write_bytes_per_s = (s->written_bytes - s->rate_from_bytes) * 1000 / (now - s->rate_from_ms);
        s->rate_from_bytes = s->written_bytes;
        s->rate_from_ms = now;
    }
    bool written = s->write_bytes_per_s != 0 || s->written_bytes != s->rate_from_bytes;
    return !s->caught_up || s->queue != NULL || (s->ready && s->control_due) || written;
}
