/* group_open.c: a replica's first creation, its return after a restart, and its end.
 *
 *   OPENING --what must be durable first is--> RUNNING --group_close()--> CLOSING --nothing under way any more--> CLOSED (freed)
 *
 * Durable before it takes part: at first creation the JOURNAL_GROUP record with the raft id and the first members, the first entry and term 1; for a sole voter a
 * raised term (R12), since it leads at every start without asking anybody. */
#include "group_impl.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>

enum { GROUP_RECORD_VERSION = 1 }; /* bytes of JOURNAL_GROUP: u32 version | u32 length of the configuration | configuration of entry 1 (none: joining) */

int io_load(struct raft_io *io, raft_term *term, raft_id *vote, struct raft_snapshot **snapshot, raft_index *start, struct raft_entry *entries[], size_t *n)
{
    struct group *g = io->impl;
    *term = g->load_term;
    *vote = g->load_vote;
    *snapshot = g->load_snapshot;
    *start = g->load_start;
    *entries = g->load_entries;
    *n = g->load_n;
    g->load_snapshot = NULL;
    g->load_entries = NULL;
    g->load_n = 0;
    return 0;
}

/* The configuration that libraft will see: the last one in the log, committed or not. */
static bool loads_as_sole_voter(const struct group *g)
{
    if (g->n_confs == 0) {
        return false;
    }
    struct raft_configuration c;
    const struct conf_entry *last = &g->confs[g->n_confs - 1];
    if (group_conf_decode(last->bytes.base, last->bytes.len, &c) != 0) {
        return false;
    }
    unsigned voters = 0;
    bool self = false;
    for (unsigned i = 0; i < c.n; i++) {
        if (c.servers[i].role == RAFT_VOTER) {
            voters++;
            self |= c.servers[i].id == g->raft_id;
        }
    }
    raft_configuration_close(&c);
    return voters == 1 && self;
}

/* The group's record and first entry are durable (or the raised term): it takes part from now on. */
static void opened(struct group *g, struct state_write *w)
{
    (void)w;
    if (g->state == GROUP_OPENING && group_start(g) != 0) {
        env_fatal(g->gs->o.env, ENV_EXIT_MEMORY, "a replica could not start");
    }
}

int group_start(struct group *g)
{
    group_enter(g);
    g->state = GROUP_RUNNING;
    g->sole_term = g->load_term;
    g->disk_term = g->load_term;
    g->loading = true;
    int rv = raft_start(&g->raft);
    g->loading = false;
    if (rv == 0) {
        group_conf_after_start(g);
        g->started = true;
        g->seen_term = g->raft.current_term;
        g->seen_commit = g->raft.commit_index;
    } else {
        groups_log(g, "libraft refused to start: %s", raft_strerror(rv));
    }
    group_leave(g);
    return rv;
}

static int load_entry(struct group *g, uint64_t index, uint64_t term, uint8_t type, void *bytes, uint32_t len, const struct place *place, uint64_t a, uint64_t b)
{
    struct raft_entry *e = &g->load_entries[g->load_n++];
    *e = (struct raft_entry){.term = term, .type = type, .buf = {bytes, len}};
    struct slot *slot = group_log_push(&g->log, term, type, len, place);
    slot->offset = a;
    slot->count = (uint32_t)b;
    g->gs->log_bytes += len;
    if (type == RAFT_CHANGE) {
        if (group_conf_decode(bytes, len, NULL) != 0) {
            return -EIO;
        }
        group_conf_note(g, index, &e->buf);
    }
    return 0;
}

/* An install of which only the snapshot record survived: entries that it made void are still there. *kept: the last one that counts. */
static bool install_was_torn(const struct recovered_group *rec, const struct snapshot_meta *m, uint64_t *kept)
{
    if (m->kept == 0) {
        return false;
    }
    *kept = m->kept - 1;
    for (size_t i = 0; i < rec->n_entries; i++) {
        if (rec->entries[i].index > *kept && rec->entries[i].index <= m->index) {
            return true;
        }
    }
    return false;
}

static int load_snapshot(struct group *g, struct recovered_group *rec)
{
    void *bytes;
    int rv = journal_read_blocking(g->gs->o.journal, &rec->snapshot, &bytes);
    if (rv != 0) {
        return rv;
    }
    struct snapshot_meta m;
    if (group_snapshot_decode(bytes, rec->snapshot.len, &m) != 0 || m.index != rec->snapshot_index) {
        free(bytes);
        return ENV_EXIT_FORMAT;
    }
    if (m.raft_id != g->raft_id) { /* of a replica that was removed from here before this one came */
        free(bytes);
        if (m.raft_id > g->raft_id) {
            return -EIO; /* no: of one that came later, whose first record is lost */
        }
        rec->has_snapshot = false;
        rec->snapshot_index = 0;
        return 0;
    }
    uint64_t kept;
    if (install_was_torn(rec, &m, &kept)) {
        while (rec->n_entries > 0 && rec->entries[rec->n_entries - 1].index > kept) {
            rec->n_entries--;
        }
        g->load_truncate = kept + 1;
    }
    struct raft_snapshot *s = raft_calloc(1, sizeof *s);
    s->index = m.index;
    s->term = m.term;
    s->configuration_index = m.conf_index;
    s->bufs = raft_calloc(1, sizeof *s->bufs);
    s->n_bufs = 1;
    s->bufs[0].len = m.data.len;
    s->bufs[0].base = raft_malloc(m.data.len > 0 ? m.data.len : 1);
    memcpy(s->bufs[0].base, m.data.base, m.data.len);
    rv = group_conf_decode(m.conf.base, m.conf.len, &s->configuration);
    if (rv == 0) {
        group_conf_note(g, m.conf_index, &m.conf);
        g->snap = m;
        g->snap.conf.base = xmalloc(m.conf.len);
        memcpy(g->snap.conf.base, m.conf.base, m.conf.len);
        g->snap.data.base = xmalloc(m.data.len > 0 ? m.data.len : 1);
        memcpy(g->snap.data.base, m.data.base, m.data.len);
        g->snap_durable = m.index;
        g->load_snapshot = s;
        group_log_reset(&g->log, m.index + 1, m.term);
        rv = g->sink.restore(g->sink.arg, m.data.base, (uint32_t)m.data.len, true) == 0 ? 0 : ENV_EXIT_FORMAT;
        uint64_t first = 0, next = 0;
        if (rv == 0 && g->batches != NULL && g->sink.range != NULL && g->sink.range(g->sink.arg, m.data.base, (uint32_t)m.data.len, &first, &next) == 0 &&
            next > 0 && batch_log_next(g->batches) != next) {
            uint64_t hole_from, hole_to;
            if (batch_log_recover(g->batches, rec, max_u64(first, rec->trim), next, &hole_from, &hole_to) != 0) {
                groups_log(g, "batches [%llu, %llu) are damaged or missing here: fetching them from peers", (unsigned long long)hole_from,
                           (unsigned long long)hole_to);
                group_seed_begin(g, max_u64(first, rec->trim), next);
            }
        }
    } else {
        rv = ENV_EXIT_FORMAT;
        raft_free(s->bufs[0].base);
        raft_free(s->bufs);
        raft_free(s);
    }
    free(bytes);
    return rv;
}

static int load_recovered(struct group *g, const struct recovered_group *found)
{
    struct recovered_group copy = *found, *rec = &copy; /* its count of entries may shrink */
    struct journal *j = g->gs->o.journal;
    if (rec->removed || rec->lost || rec->group != g->id || (g->raft_id != 0 && rec->raft_id != g->raft_id)) {
        return -EINVAL; /* joins anew under a raft id of its own, or never */
    }
    g->raft_id = rec->raft_id;
    g->load_term = rec->has_term ? rec->term : 0;
    g->load_vote = rec->has_term ? rec->vote : 0;
    g->trim_last = g->trim_durable = rec->trim;
    int rv = rec->has_snapshot ? load_snapshot(g, rec) : 0;
    if (rv != 0) {
        return rv;
    }
    uint64_t base = g->snap_durable;
    size_t from = 0;
    while (from < rec->n_entries && rec->entries[from].index <= base) {
        from++;
    }
    size_t n = rec->n_entries - from;
    g->load_entries = n > 0 || base == 0 ? raft_calloc(n + 1, sizeof *g->load_entries) : NULL;
    if (base == 0 && (n == 0 || rec->entries[from].index == 2) && rec->group_data.segment != 0) {
        /* The first entry is in the group's record too. */
        void *bytes;
        rv = journal_read_blocking(j, &rec->group_data, &bytes);
        if (rv != 0) {
            return rv;
        }
        const uint8_t *p = bytes;
        uint32_t len = rec->group_data.len >= 8 ? get_u32(p + 4) : 0;
        if (rec->group_data.len < 8 || get_u32(p) != GROUP_RECORD_VERSION || len > rec->group_data.len - 8) {
            free(bytes);
            return ENV_EXIT_FORMAT;
        }
        if (len > 0) {
            void *conf = raft_malloc(len);
            memcpy(conf, p + 8, len);
            rv = load_entry(g, 1, 1, RAFT_CHANGE, conf, len, &(struct place){0}, 0, 0);
        }
        free(bytes);
    }
    for (size_t i = from; i < rec->n_entries && rv == 0; i++) {
        const struct recovered_entry *e = &rec->entries[i];
        void *bytes = NULL;
        if (e->index != group_log_last(&g->log) + 1 || e->damaged) {
            return -EIO; /* it cannot be read here: this replica must not vote, the caller tells it as lost */
        }
        rv = e->place.len > 0 ? journal_read_blocking(j, &e->place, &bytes) : 0;
        if (rv == 0) {
            bytes = bytes != NULL ? bytes : raft_malloc(1);
            rv = load_entry(g, e->index, e->term, e->type, bytes, e->place.len, &e->place, e->a, e->b);
        }
    }
    if (g->load_n == 0 && g->load_entries != NULL) {
        raft_free(g->load_entries);
        g->load_entries = NULL;
    }
    uint64_t last_term = group_log_term(&g->log, group_log_last(&g->log));
    if (g->load_term < last_term) {
        return ENV_EXIT_DAMAGE; /* entries of a term that was never recorded: the vote of that term may be lost */
    }
    return rv;
}

static int create(struct group *g, const struct group_options *o)
{
    struct raft_buffer conf = {NULL, 0};
    if (o->n_members > GROUP_MEMBERS_MAX || (o->n_members > 0 && group_conf_encode_members(o->members, o->n_members, &conf) != 0)) {
        return -EINVAL;
    }
    uint8_t *data = xmalloc(8 + conf.len);
    put_u32(data, GROUP_RECORD_VERSION);
    put_u32(data + 4, (uint32_t)conf.len);
    if (conf.len > 0) {
        memcpy(data + 8, conf.base, conf.len);
    }
    g->load_entries = conf.len > 0 ? raft_calloc(1, sizeof *g->load_entries) : NULL;
    void (*done)(struct group *g, struct state_write *w) = conf.len > 0 ? NULL : opened;
    if (groups_take_removed(g->gs, g->id)) { /* another replica of the group lived here: its entries are not ours */
        group_write_state(g, (struct journal_record){.kind = JOURNAL_TRUNCATE, .index = 1}, NULL, 0, NULL);
    }
    group_write_state(g, (struct journal_record){.kind = JOURNAL_GROUP, .a = g->raft_id, .data = data, .len = (uint32_t)(8 + conf.len)}, data, 0, done);
    if (conf.len == 0) {
        return 0;
    }
    struct place nowhere = {0};
    void *copy = xmalloc(conf.len);
    memcpy(copy, conf.base, conf.len);
    int rv = load_entry(g, 1, 1, RAFT_CHANGE, conf.base, (uint32_t)conf.len, &nowhere, 0, 0);
    sluice_assert(rv == 0);
    group_write_state(g, (struct journal_record){.kind = JOURNAL_ENTRY, .type = RAFT_CHANGE, .index = 1, .term = 1, .data = copy, .len = (uint32_t)conf.len},
                      copy, 0, NULL);
    g->load_term = loads_as_sole_voter(g) && group_rule_on(g, GROUP_RULE_R12) ? 2 : 1;
    group_write_state(g, (struct journal_record){.kind = JOURNAL_TERM, .a = g->load_term}, NULL, 0, opened);
    return 0;
}

static void free_group(struct group *g)
{
    g->gs->log_bytes -= group_log_bytes_to(&g->log, UINT64_MAX) - g->log.base_bytes;
    for (unsigned i = 0; i < g->n_confs; i++) {
        free(g->confs[i].bytes.base);
    }
    group_log_free(&g->log);
    free(g->confs);
    free(g->peers);
    free(g->sent);
    free(g->snap.conf.base);
    free(g->snap.data.base);
    free(g->put_bytes);
    for (size_t i = 0; i < g->load_n; i++) {
        raft_free(g->load_entries[i].buf.base);
    }
    raft_free(g->load_entries);
    if (g->load_snapshot != NULL) {
        raft_configuration_close(&g->load_snapshot->configuration);
        raft_free(g->load_snapshot->bufs[0].base);
        raft_free(g->load_snapshot->bufs);
        raft_free(g->load_snapshot);
    }
    free(g);
}

int group_open(struct groups *gs, const struct group_options *o, struct group **out)
{
    if (groups_find(gs, o->group) != NULL || o->group == 0 || (o->recovered == NULL && o->raft_id == 0)) {
        return -EINVAL;
    }
    struct group *g = calloc(1, sizeof *g);
    if (g == NULL) {
        return -ENOMEM;
    }
    g->gs = gs;
    g->id = o->group;
    g->raft_id = o->raft_id;
    g->sink = o->sink;
    g->batches = o->batches;
    g->prefer_leader = o->prefer_leader;
    g->heartbeat_ms = o->heartbeat_ms != 0 ? o->heartbeat_ms : gs->o.heartbeat_ms;
    g->election_ms = o->election_ms != 0 ? o->election_ms : gs->o.election_ms;
    g->state = GROUP_OPENING;
    g->log.first = 1;
    g->load_start = 1;
    g->opened_ms = group_now(g);
    g->ops_tail = &g->ops;
    g->held_tail = &g->held;
    g->completions_tail = &g->completions;
    g->fresh_tail = &g->fresh;
    group_io_init(g);
    int rv = 0;
    bool wait = true;
    if (o->recovered != NULL) {
        rv = load_recovered(g, o->recovered);
    }
    char address[24];
    snprintf(address, sizeof address, "%llu", (unsigned long long)g->raft_id);
    if (rv != 0 || raft_init(&g->raft, &g->io, &g->fsm, g->raft_id, address) != 0) {
        group_seed_stop(g);
        free_group(g);
        return rv != 0 ? rv : -ENOMEM;
    }
    raft_set_election_timeout(&g->raft, g->election_ms);
    raft_set_heartbeat_timeout(&g->raft, g->heartbeat_ms);
    raft_set_install_snapshot_timeout(&g->raft, GROUP_INSTALL_MS);
    raft_set_pre_vote(&g->raft, true);
    raft_set_snapshot_threshold(&g->raft, UINT_MAX);
    raft_set_snapshot_trailing(&g->raft, 1);
    raft_set_max_catch_up_rounds(&g->raft, 100);
    raft_set_max_catch_up_round_duration(&g->raft, 5 * 1000); /* one that fell silent; only replicas that are close are promoted */
    groups_insert(g);
    *out = g;
    if (o->recovered == NULL) {
        rv = create(g, o);
    } else {
        g->load_start = g->snap_durable + 1;
        if (g->load_truncate != 0) {
            group_write_state(g, (struct journal_record){.kind = JOURNAL_TRUNCATE, .index = g->load_truncate}, NULL, 0, NULL);
        }
        g->snap_bytes = g->log.base_bytes;
        if (loads_as_sole_voter(g) && group_rule_on(g, GROUP_RULE_R12)) {
            g->load_term++;
            g->load_vote = 0;
            group_write_state(g, (struct journal_record){.kind = JOURNAL_TERM, .a = g->load_term}, NULL, 0, opened);
        } else {
            wait = false;
        }
    }
    if (rv == 0 && !wait) {
        rv = group_start(g) == 0 ? 0 : -ENOMEM;
    }
    if (rv != 0) {
        groups_forget(g);
        raft_free(g->raft.address);
        free_group(g);
    }
    return rv;
}

/* ---- the end ---- */

static void on_raft_closed(struct raft *r)
{
    struct group *g = container_of(r, struct group, raft);
    g->raft_closed = true;
}

void group_close(struct group *g, bool remove, void (*done)(void *arg), void *arg)
{
    sluice_assert(g->state != GROUP_CLOSING && g->state != GROUP_CLOSED);
    group_enter(g);
    g->remove = remove;
    g->close_done = done;
    g->close_arg = arg;
    g->elect_at_ms = 0;
    group_read_fail(g, SLUICE_E_NOT_LEADER);
    group_seed_stop(g);
    g->state = GROUP_CLOSING;
    raft_close(&g->raft, on_raft_closed);
    group_cancel_install(g);
    /* Settled at the end of the turn: done is never called inside this call. */
    g->depth--;
    groups_later(g);
}

static void removed_written(struct group *g, struct state_write *w)
{
    (void)w;
    g->remove = false;
    groups_set_removed(g->gs, g->id);
}

/* R4: libraft's memory goes only when the journal and the links have let go of it and every completion was delivered. */
void group_maybe_closed(struct group *g)
{
    if (g->state != GROUP_CLOSING || g->depth > 0 || g->settling || g->in_later || g->busy > 0 || g->ops != NULL || g->n_sent > 0 || g->n_gets > 0 ||
        g->completions != NULL || g->held != NULL || g->answers != NULL) {
        return;
    }
    if (g->close_cb != NULL) {
        raft_io_close_cb cb = g->close_cb;
        g->close_cb = NULL;
        cb(&g->io);
    }
    if (!g->raft_closed) {
        return;
    }
    if (g->remove) {
        group_write_state(g, (struct journal_record){.kind = JOURNAL_GROUP, .a = g->raft_id, .b = 1}, NULL, 0, removed_written);
        return;
    }
    g->state = GROUP_CLOSED;
    void (*done)(void *arg) = g->close_done;
    void *arg = g->close_arg;
    struct groups *gs = g->gs;
    groups_forget(g);
    free_group(g);
    if (done != NULL) {
        done(arg);
    }
    if (gs->closing) {
        env_defer(gs->o.env, &gs->later_task, gs->later_task.cb);
    }
}
