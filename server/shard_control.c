/* shard_control.c: the entries a leader proposes by itself: OPEN (who the shard is), SETTINGS (as the controller's map has them), CLOSE (its keys went to its children),
 * TRIM (what has expired).
 *
 * What the map says is committed in the controller's log, so whoever leads may act upon it, at any time, however old the map (rule F29): a parent closes when its
 * reshard is decided; a child opens when every parent has ended, in its own log.
 *
 * One at a time; each is harmless if it comes twice, because apply takes only what goes forward. */
#include <string.h>

#include "proto/base.h"
#include "server/node_impl.h"
#include "server/shard.h"

enum {
    TRIM_SHARE = 10,        /* at most a tenth of what is kept per entry (F31): a leader whose clock is wrong cannot empty the shard at once */
    TRIM_SMALL = 100000     /* records: a shard that keeps less than ten times this is trimmed in steps of this */
};

/* What could not be proposed, or did not commit, is tried again with the next tick. */
static void stay_due(struct shard *s)
{
    s->control_due = true;
    shard_stir(s);
}

static void control_done(struct group_propose *p, int status)
{
    struct shard *s = container_of(p, struct shard, control);
    s->control_busy = false;
    if (status != 0) {
        s->close_in_flight = s->state.closed;
        stay_due(s);
    }
    if (s->ready && s->phase == SHARD_RUNNING) {
        shard_control_step(s);
    }
}

static bool try_propose(struct shard *s, const struct shard_entry *e)
{
    uint8_t bytes[SHARD_ENTRY_MAX];
    size_t n = shard_entry_encode(e, bytes);
    void *data = group_buffer_alloc(n);
    if (data == NULL) {
        return false;
    }
    memcpy(data, bytes, n);
    if (group_propose(s->group, &s->control, data, (uint32_t)n, 0, 0, 0, control_done) != 0) {
        group_buffer_free(data);
        return false;
    }
    s->control_busy = true;
    s->time_in_flight = max_u64(s->time_in_flight, e->time_ms);
    return true;
}

static void propose(struct shard *s, const struct shard_entry *e)
{
    if (!try_propose(s, e)) {
        stay_due(s);
    }
}

static void fill_settings(const struct shard *s, const struct map_stream *stream, struct shard_settings *out)
{
    const struct settings *node = &s->lane->node->settings;
    *out = (struct shard_settings){
        .version = stream->settings.version,
        .retention_hours = stream->settings.retention_hours != 0 ? stream->settings.retention_hours : 24,
        .limits_off = stream->settings.limits_off,
        .record_max = (uint32_t)min_u64(stream->settings.record_max != 0 ? stream->settings.record_max : node->record_max, BATCH_RECORD_BYTES_MAX),
        /* Bounds of the replicated state must be the same on every replica: the proposing leader's settings count. */
        .producers_max = (uint32_t)node->producers_per_shard,
        .producer_expiry_ms = node->producer_expiry_s * 1000
    };
}

/* What has expired by now under the settings in force. */
static uint64_t expired_to(const struct shard *s, uint64_t now_ms)
{
    uint64_t retention_ms = (uint64_t)s->state.settings.retention_hours * 3600000;
    return now_ms > retention_ms ? batch_log_older_than(s->batches, now_ms - retention_ms) : 0;
}

/* The children's number, in CLOSE and in what writers are told. */
static bool propose_close(struct shard *s, const struct map_shard *m)
{
    if (m == NULL || !m->closed || s->state.closed) {
        return false;
    }
    struct shard_entry e = { .kind = SHARD_ENTRY_CLOSE, .time_ms = shard_time(s), .reshard = m->reshard, .n_children = (uint32_t)min_u64(m->n_children, SHARD_CHILDREN_MAX),
                             .children = { m->children[0], m->children[1] } };
    propose(s, &e);
    s->close_in_flight = s->control_busy; /* puts wait from here on: they are behind it */
    return true;
}

/* May a child take batches? When each of its parents has ended; *from_ms: no earlier than their logs' last times (rule F33). A parent that has vanished ended long ago. */
static bool may_open(const struct shard *s, const struct map_shard *m, uint64_t *from_ms)
{
    *from_ms = 0;
    if (m->coming) {
        return false;
    }
    for (unsigned i = 0; i < m->n_parents; i++) {
        const struct map_shard *parent = cluster_map_shard(m->stream, m->parents[i]);
        if (parent != NULL && !parent->ended && (s->lane->node->settings.test_disable_server & SERVER_RULE_OPEN) == 0) {
            return false;
        }
        *from_ms = max_u64(*from_ms, parent != NULL ? parent->ended_ms : 0);
    }
    return true;
}

void shard_control_step(struct shard *s)
{
    if (s->control_busy || !s->ready || s->phase != SHARD_RUNNING || s->lane->map == NULL) {
        return;
    }
    s->control_due = false;
    const struct map_shard *m = cluster_map_shard_by_group(s->lane->map, s->group_id);
    if (s->state.opened) {
        if (propose_close(s, m)) {
            return;
        }
        const struct map_stream *stream = cluster_map_stream_by_id(s->lane->map, s->state.identity.stream_id);
        if (stream == NULL || stream->settings.version <= s->state.settings.version) {
            return;
        }
        struct shard_entry e = { .kind = SHARD_ENTRY_SETTINGS, .time_ms = shard_time(s) };
        /* What expired under the old settings is trimmed by the same entry: raising the retention never brings it back (F32). */
        e.trim = shard_clocks_agree(s) ? expired_to(s, e.time_ms) : 0;
        fill_settings(s, stream, &e.settings);
        propose(s, &e);
        return;
    }
    uint64_t from_ms;
    if (m == NULL || !may_open(s, m, &from_ms)) {
        return;
    }
    struct shard_entry e = { .kind = SHARD_ENTRY_OPEN, .time_ms = max_u64(shard_time(s), from_ms) };
    e.identity = (struct shard_identity){ .group = m->group, .created_s = m->created_s, .shard = m->shard, .n_parents = (uint32_t)min_u64(m->n_parents, SHARD_PARENTS_MAX),
                                          .parents = { m->parents[0], m->parents[1] }, .first = m->first, .last = m->last };
    memcpy(e.identity.stream_id, m->stream->id, 16);
    fill_settings(s, m->stream, &e.settings);
    propose(s, &e);
}

/* A closed shard is done with when its last record, and its end itself, are older than the retention. */
static void look_whether_expired(struct shard *s, uint64_t now_ms)
{
    const struct map_shard *m = s->lane->map != NULL ? cluster_map_shard_by_group(s->lane->map, s->group_id) : NULL;
    uint64_t retention_ms = (uint64_t)s->state.settings.retention_hours * 3600000;
    bool expired = s->state.closed && s->state.first == s->state.next && m != NULL && m->ended && now_ms > m->ended_ms + retention_ms;
    if (expired != s->expired) {
        s->expired = expired;
        lane_status_changed(s->lane);
    }
}

void shard_retention_step(struct shard *s)
{
    if (s->control_busy || !s->ready || s->phase != SHARD_RUNNING || !s->state.opened || !shard_clocks_agree(s)) {
        return;
    }
    uint64_t now_ms = shard_time(s);
    look_whether_expired(s, now_ms);
    uint64_t to = min_u64(expired_to(s, now_ms), s->state.next);
    if (to <= s->state.first) {
        return;
    }
    uint64_t step = max_u64((s->state.next - s->state.first) / TRIM_SHARE, TRIM_SMALL);
    struct shard_entry e = { .kind = SHARD_ENTRY_TRIM, .time_ms = now_ms, .trim = min_u64(to, s->state.first + step) };
    propose(s, &e);
}

void shard_nudge(struct shard *s)
{
    if (!s->control_busy && s->ready && s->phase == SHARD_RUNNING && s->state.opened) {
        try_propose(s, &(struct shard_entry){ .kind = SHARD_ENTRY_TICK, .time_ms = shard_time(s) });
    }
}
