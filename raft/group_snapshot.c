/* group_snapshot.c: snapshots of metadata: taken here by bytes of log, offered to peers that are too far behind, installed from a leader.
 *
 * An install (F11): the leader's snapshot_get hands out the state of the moment -> LINK_INSTALL -> libraft calls snapshot_put with trailing 0 -> the batches that the
 * snapshot speaks of and that are missing here are pulled (group_seed.c) -> the snapshot record is durable -> sink.restore -> the put completes, the leader is
 * answered. Until then the replica gets neither tick nor TimeoutNow (R6).
 *
 * In the journal an install is the snapshot record and behind it a truncate record, in one flush: what this replica had applied before stays where it is, as batches
 * below the snapshot; all above is void. The order matters: a truncate without its snapshot would lose entries that were acknowledged. Should only the snapshot
 * survive a torn flush, its `kept` tells group_open() what the truncate would have.
 *
 * Bytes of JOURNAL_SNAPSHOT: u32 version | u32 length of the configuration | u64 index | u64 term | u64 index of the configuration | u32 length of the machine's state |
 * u32 reserved | u64 kept: 0, or for an install 1 + the last index applied before it | u64 raft id of this replica | configuration | state. */
#include "group_impl.h"

#include <limits.h>
#include <stdlib.h>

enum { SNAPSHOT_VERSION = 1, SNAPSHOT_HEADER = 56 };

bool group_installing(const struct group *g) { return g->raft.snapshot.put.data != NULL && g->raft.snapshot.pending.term == 0; }

static uint8_t *encode(const struct snapshot_meta *m, uint32_t *len)
{
    *len = (uint32_t)(SNAPSHOT_HEADER + m->conf.len + m->data.len);
    uint8_t *p = malloc(*len);
    if (p == NULL) {
        return NULL;
    }
    put_u32(p, SNAPSHOT_VERSION);
    put_u32(p + 4, (uint32_t)m->conf.len);
    put_u64(p + 8, m->index);
    put_u64(p + 16, m->term);
    put_u64(p + 24, m->conf_index);
    put_u32(p + 32, (uint32_t)m->data.len);
    put_u32(p + 36, 0);
    put_u64(p + 40, m->kept);
    put_u64(p + 48, m->raft_id);
    memcpy(p + SNAPSHOT_HEADER, m->conf.base, m->conf.len);
    if (m->data.len > 0) {
        memcpy(p + SNAPSHOT_HEADER + m->conf.len, m->data.base, m->data.len);
    }
    return p;
}

int group_snapshot_decode(const void *data, size_t n, struct snapshot_meta *out)
{
    const uint8_t *p = data;
    if (n < SNAPSHOT_HEADER || get_u32(p) != SNAPSHOT_VERSION || (uint64_t)get_u32(p + 4) + get_u32(p + 32) + SNAPSHOT_HEADER != n) {
        return SLUICE_E_PROTOCOL;
    }
    *out = (struct snapshot_meta){.index = get_u64(p + 8), .term = get_u64(p + 16), .conf_index = get_u64(p + 24), .kept = get_u64(p + 40), .raft_id = get_u64(p + 48)};
    out->conf = (struct raft_buffer){(void *)(uintptr_t)(p + SNAPSHOT_HEADER), get_u32(p + 4)};
    out->data = (struct raft_buffer){(void *)(uintptr_t)(p + SNAPSHOT_HEADER + out->conf.len), get_u32(p + 32)};
    return out->index == 0 || out->term == 0 || out->conf_index == 0 || out->conf_index > out->index ? SLUICE_E_PROTOCOL : 0;
}

/* Takes over bytes that decode; they stay as the latest snapshot. */
static void keep(struct group *g, const uint8_t *bytes, uint32_t len)
{
    struct snapshot_meta m;
    int rv = group_snapshot_decode(bytes, len, &m);
    sluice_assert(rv == 0);
    free(g->snap.conf.base);
    free(g->snap.data.base);
    g->snap = m;
    g->snap.conf.base = xmalloc(m.conf.len);
    memcpy(g->snap.conf.base, m.conf.base, m.conf.len);
    g->snap.data.base = xmalloc(m.data.len > 0 ? m.data.len : 1);
    memcpy(g->snap.data.base, m.data.base, m.data.len);
    g->snap_durable = m.index;
}

/* ---- the machine ---- */

int fsm_apply(struct raft_fsm *fsm, const struct raft_buffer *buf, void **result)
{
    struct group *g = fsm->data;
    uint64_t index = g->raft.last_applied + 1; /* raised after each entry */
    if (!group_rule_on(g, GROUP_RULE_R10)) {
        index = ++g->applies; /* the mistake that the rule forbids: barriers and configurations are not applied, but have an index */
    }
    const struct slot *s = group_log_at(&g->log, index);
    sluice_assert(s != NULL);
    *result = NULL;
    g->sink.apply(g->sink.arg, index, s->term, buf->base, (uint32_t)buf->len, &s->place);
    uint64_t bytes = group_log_bytes_to(&g->log, index) - g->snap_bytes;
    if (bytes >= g->gs->o.snapshot_bytes || index - g->raft.log.snapshot.last_index >= GROUP_SNAPSHOT_ENTRIES || group_holds_much(g)) {
        group_want_snapshot(g);
    }
    return 0;
}

/* libraft takes it after the next apply. */
void group_want_snapshot(struct group *g) { raft_set_snapshot_threshold(&g->raft, 1); }

/* From half of the memory on, all groups together may keep a quarter of it, however many they are: what is above is free for those that are written to. */
static bool memory_is_short(const struct groups *gs) { return gs->log_bytes > gs->o.memory_max / 2; }
static uint64_t share(const struct groups *gs) { return max_u64(gs->o.memory_max / 4 / max_u64(gs->n_groups, 1), GROUP_SHARE_MIN); }

bool group_holds_much(const struct group *g)
{
    return memory_is_short(g->gs) && group_log_bytes_to(&g->log, UINT64_MAX) - g->log.base_bytes > share(g->gs);
}

/* How many entries stay in memory behind a snapshot: as many as trailing_bytes hold. */
static unsigned trailing(const struct group *g, uint64_t index)
{
    uint64_t keep_bytes = memory_is_short(g->gs) ? min_u64(g->gs->o.trailing_bytes / 8, share(g->gs) / 2) : g->gs->o.trailing_bytes;
    uint64_t end = group_log_bytes_to(&g->log, index), low = g->log.first, high = index;
    while (low < high) { /* the lowest index whose successors up to the snapshot fit */
        uint64_t mid = low + (high - low) / 2;
        if (end - group_log_bytes_to(&g->log, mid) <= keep_bytes) {
            high = mid;
        } else {
            low = mid + 1;
        }
    }
    uint64_t n = index - low;
    return (unsigned)(n < 1 ? 1 : n > 4 * GROUP_SNAPSHOT_ENTRIES ? 4 * GROUP_SNAPSHOT_ENTRIES : n);
}

int fsm_snapshot(struct raft_fsm *fsm, struct raft_buffer *bufs[], unsigned *n_bufs)
{
    struct group *g = fsm->data;
    /* R7: a snapshot holds a committed configuration, and is taken only after a later command. */
    if (group_rule_on(g, GROUP_RULE_R7) && (g->raft.configuration_uncommitted_index != 0 || g->raft.last_applied <= g->raft.configuration_index)) {
        return RAFT_BUSY;
    }
    /* A leader keeps the log that a peer needs after its install, as long as memory allows. */
    if (group_leads(g) && g->raft.leader_state.progress != NULL && g->gs->log_bytes < g->gs->o.memory_max / 2) {
        uint64_t held = group_log_bytes_to(&g->log, UINT64_MAX) - g->log.base_bytes;
        for (unsigned i = 0; i < g->raft.configuration.n && held < 8ull * g->gs->o.snapshot_bytes + g->gs->o.trailing_bytes; i++) {
            if (g->raft.leader_state.progress[i].state == PROGRESS_SNAPSHOT) {
                return RAFT_BUSY;
            }
        }
    }
    void *data = NULL;
    uint32_t len = 0;
    if (g->sink.snapshot(g->sink.arg, &data, &len) != 0) {
        return RAFT_BUSY;
    }
    struct raft_buffer *b = raft_malloc(sizeof *b);
    if (b == NULL) {
        free(data);
        return RAFT_NOMEM;
    }
    *b = (struct raft_buffer){data != NULL ? data : raft_malloc(1), len};
    *bufs = b;
    *n_bufs = 1;
    raft_set_snapshot_threshold(&g->raft, UINT_MAX);
    raft_set_snapshot_trailing(&g->raft, trailing(g, g->raft.last_applied));
    g->gs->stats.snapshots++;
    return 0;
}

int fsm_restore(struct raft_fsm *fsm, struct raft_buffer *buf)
{
    struct group *g = fsm->data;
    g->applies = g->loading ? g->snap_durable : g->put_index;
    if (!g->loading) {
        if (g->batches != NULL && g->put_next > 0) {
            batch_log_reset(g->batches, g->put_first, g->put_next);
        }
        if (g->sink.restore(g->sink.arg, buf->base, (uint32_t)buf->len, false) != 0) {
            env_fatal(g->gs->o.env, ENV_EXIT_FORMAT, "the snapshot of the leader does not decode");
            return RAFT_MALFORMED;
        }
    }
    raft_free(buf->base);
    return 0;
}

/* ---- storing ---- */

static void local_written(struct group *g, struct state_write *w)
{
    struct raft_io_snapshot_put *req = g->put;
    keep(g, w->data, w->append.record.len);
    g->put = NULL;
    uint64_t before = g->log.base_bytes;
    g->put_cb(req, 0); /* libraft drops what lies behind the trailing entries */
    if (g->raft.state != RAFT_UNAVAILABLE) {
        group_log_trim(&g->log, g->raft.log.offset + 1);
        g->gs->log_bytes -= g->log.base_bytes - before;
    }
}

static void install_written(struct group *g, struct state_write *w)
{
    (void)w;
    struct raft_io_snapshot_put *req = g->put;
    if (req == NULL) {
        return; /* closed meanwhile */
    }
    keep(g, g->put_bytes, g->put_len);
    free(g->put_bytes);
    g->put_bytes = NULL;
    g->put = NULL;
    g->snap_bytes = g->log.base_bytes;
    if (g->put_request_term == g->verified_term) {
        g->verified = max_u64(g->verified, g->put_index); /* R1: installed from the leader of this term */
    }
    /* R6: an answer of another term belongs to nobody. */
    g->mute_result = g->put_request_term != g->raft.current_term && group_rule_on(g, GROUP_RULE_R6);
    g->put_cb(req, 0);
    g->mute_result = false;
    g->raft.configuration_uncommitted_index = 0; /* R7: libraft forgets to */
    while (g->n_confs > 0) {
        free(g->confs[--g->n_confs].bytes.base);
    }
    group_conf_note(g, g->snap.conf_index, &g->snap.conf);
    g->gs->stats.installs++;
}

/* Every batch is durable here: now the snapshot may be. */
void group_install_seeded(struct group *g)
{
    if (g->put == NULL || g->put_bytes == NULL) {
        return;
    }
    group_write_state(g, (struct journal_record){.kind = JOURNAL_SNAPSHOT, .index = g->put_index, .term = g->put_term, .data = g->put_bytes, .len = g->put_len},
                      NULL, 0, NULL);
    group_write_state(g, (struct journal_record){.kind = JOURNAL_TRUNCATE, .index = g->put_kept + 1}, NULL, 0, install_written);
}

void group_cancel_install(struct group *g)
{
    /* put_bytes may be with the journal: freed with the group, which waits for that. */
    if (g->put != NULL && g->put_bytes != NULL) {
        struct raft_io_snapshot_put *req = g->put;
        g->put = NULL;
        g->put_cb(req, RAFT_CANCELED);
    }
}

int io_snapshot_put(struct raft_io *io, unsigned keep_entries, struct raft_io_snapshot_put *req, const struct raft_snapshot *s, raft_io_snapshot_put_cb cb)
{
    struct group *g = io->impl;
    bool install = keep_entries == 0;
    struct snapshot_meta m = {.index = s->index, .term = s->term, .conf_index = s->configuration_index, .data = s->bufs[0], .raft_id = g->raft_id};
    g->put_kept = g->raft.last_applied;
    m.kept = install ? g->put_kept + 1 : 0;
    if (group_conf_encode(&s->configuration, &m.conf) != 0) {
        return RAFT_NOMEM;
    }
    uint32_t len;
    uint8_t *bytes = encode(&m, &len);
    raft_free(m.conf.base);
    if (bytes == NULL) {
        return RAFT_NOMEM;
    }
    req->cb = cb;
    g->put = req;
    g->put_cb = cb;
    if (!install) {
        g->snap_bytes = group_log_bytes_to(&g->log, s->index);
        group_write_state(g, (struct journal_record){.kind = JOURNAL_SNAPSHOT, .index = s->index, .term = s->term, .data = bytes, .len = len}, bytes, 0,
                          local_written);
        return 0;
    }
    /* libraft has emptied its log already. */
    g->gs->log_bytes -= group_log_bytes_to(&g->log, UINT64_MAX) - g->log.base_bytes;
    group_log_reset(&g->log, s->index + 1, s->term);
    g->put_index = s->index;
    g->put_term = s->term;
    g->put_bytes = bytes;
    g->put_len = len;
    g->put_first = g->put_next = 0;
    if (g->sink.range != NULL && g->sink.range(g->sink.arg, m.data.base, (uint32_t)m.data.len, &g->put_first, &g->put_next) != 0) {
        g->put_first = g->put_next = 0; /* checked when it arrived */
    }
    groups_log(g, "installing snapshot %llu, offsets [%llu, %llu)", (unsigned long long)s->index, (unsigned long long)g->put_first,
               (unsigned long long)g->put_next);
    if (g->batches != NULL && g->put_next > 0) {
        group_seed_begin(g, g->put_first, g->put_next);
    } else {
        group_install_seeded(g);
    }
    return 0;
}

/* ---- offering ---- */

int io_snapshot_get(struct raft_io *io, struct raft_io_snapshot_get *req, raft_io_snapshot_get_cb cb)
{
    struct group *g = io->impl;
    if (g->n_gets == ARRAY_LEN(g->gets)) {
        return RAFT_BUSY;
    }
    req->cb = cb;
    g->gets[g->n_gets].req = req;
    g->gets[g->n_gets++].cb = cb;
    return 0;
}

/* The state of the moment is newer than the stored one and leaves less log to send; libraft takes any index at or above its own snapshot's. */
static struct raft_snapshot *offer(struct group *g)
{
    struct snapshot_meta m = g->snap;
    void *data = NULL;
    uint32_t len = 0;
    uint64_t applied = g->raft.last_applied;
    const struct conf_entry *conf = group_conf_committed(g);
    bool fresh = conf != NULL && applied > conf->index && group_log_term(&g->log, applied) != 0 && g->sink.snapshot(g->sink.arg, &data, &len) == 0;
    if (fresh) {
        m = (struct snapshot_meta){.index = applied, .term = group_log_term(&g->log, applied), .conf_index = conf->index, .conf = conf->bytes,
                                   .data = {data, len}};
    }
    struct raft_snapshot *s = m.index == 0 ? NULL : raft_calloc(1, sizeof *s);
    if (s != NULL) {
        s->index = m.index;
        s->term = m.term;
        s->configuration_index = m.conf_index;
        s->bufs = raft_calloc(1, sizeof *s->bufs);
        s->n_bufs = 1;
        void *copy = raft_malloc(m.data.len > 0 ? m.data.len : 1);
        if (s->bufs == NULL || copy == NULL || group_conf_decode(m.conf.base, m.conf.len, &s->configuration) != 0) {
            raft_free(copy);
            raft_free(s->bufs);
            raft_free(s);
            s = NULL;
        } else {
            if (m.data.len > 0) {
                memcpy(copy, m.data.base, m.data.len);
            }
            s->bufs[0] = (struct raft_buffer){copy, m.data.len};
        }
    }
    free(data);
    return s;
}

bool group_run_gets(struct group *g)
{
    bool any = g->n_gets > 0;
    while (g->n_gets > 0) {
        struct raft_io_snapshot_get *req = g->gets[0].req;
        raft_io_snapshot_get_cb cb = g->gets[0].cb;
        memmove(&g->gets[0], &g->gets[1], --g->n_gets * sizeof g->gets[0]);
        struct raft_snapshot *s = g->state == GROUP_RUNNING ? offer(g) : NULL;
        cb(req, s, s == NULL ? RAFT_CANCELED : 0);
    }
    return any;
}

/* libraft waits for the outcome of an install for an hour. If the peer lives but is not installing (the offer or its answer was lost), it is offered again. */
void group_snapshot_watch(struct group *g, uint64_t peer_id, bool installing)
{
    unsigned at;
    if (group_server(g, peer_id, &at) == NULL || g->raft.leader_state.progress == NULL) {
        return;
    }
    struct raft_progress *p = &g->raft.leader_state.progress[at];
    struct peer *peer = group_peer(g, peer_id);
    if (p->state != PROGRESS_SNAPSHOT || installing) {
        peer->offered_ms = group_now(g);
    } else if (group_now(g) - peer->offered_ms > GROUP_INSTALL_RETRY_MS) {
        peer->offered_ms = group_now(g);
        p->state = PROGRESS_PROBE;
        p->snapshot_index = 0;
    }
}

/* ---- the trim point ---- */

static void trim_written(struct group *g, struct state_write *w) { g->trim_durable = max_u64(g->trim_durable, w->value); }

void group_trim(struct group *g, uint64_t first)
{
    if (first <= g->trim_last) {
        return;
    }
    g->trim_last = first;
    group_write_state(g, (struct journal_record){.kind = JOURNAL_TRIM, .a = first}, NULL, first, trim_written);
}
