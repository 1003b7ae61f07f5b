/* group_io.c: raft_io over the lane's journal: term, vote, append, truncate, close.
 *
 * R4: an append never fails here; completions go back strictly in the order of submission. R5: set_term and set_vote return before they are durable; what may not
 * leave before them is held (group_send.c). */
#include "group_impl.h"

#include <stdlib.h>

#include "proto/batch.h"

static struct group *of(struct raft_io *io) { return io->impl; }

static int io_init(struct raft_io *io, raft_id id, const char *address)
{
    (void)io;
    (void)id;
    (void)address;
    return 0;
}

static void io_close(struct raft_io *io, raft_io_close_cb cb) { of(io)->close_cb = cb; }

static int io_start(struct raft_io *io, unsigned msecs, raft_io_tick_cb tick, raft_io_recv_cb recv)
{
    (void)msecs;
    of(io)->tick = tick;
    of(io)->recv = recv;
    return 0;
}

static int io_not_ours(struct raft_io *io, const struct raft_configuration *c)
{
    (void)io;
    (void)c;
    return RAFT_INVALID; /* group_open() writes first configurations itself */
}

static void state_written(struct journal_append *a)
{
    struct state_write *w = container_of(a, struct state_write, append);
    struct group *g = w->g;
    group_enter(g);
    g->busy--;
    if (w->done != NULL) {
        w->done(g, w);
    }
    free(w->data);
    free(w);
    group_leave(g);
}

void group_write_state(struct group *g, struct journal_record record, void *data, uint64_t value, void (*done)(struct group *g, struct state_write *w))
{
    struct state_write *w = xcalloc(1, sizeof *w);
    w->g = g;
    w->done = done;
    w->value = value;
    w->data = data;
    w->append.record = record;
    w->append.record.group = g->id;
    w->append.done = state_written;
    g->busy++;
    journal_append(g->gs->o.journal, &w->append);
    if (record.kind == JOURNAL_TERM) {
        g->term_end = w->append.end;
    } else if (record.kind == JOURNAL_ENTRY || record.kind == JOURNAL_TRUNCATE) {
        g->append_end = w->append.end;
    }
}

static int io_set_term(struct raft_io *io, raft_term term)
{
    struct group *g = of(io);
    g->disk_term = term;
    group_write_state(g, (struct journal_record){.kind = JOURNAL_TERM, .a = term, .b = 0}, NULL, 0, NULL);
    return 0;
}

static int io_set_vote(struct raft_io *io, raft_id vote)
{
    struct group *g = of(io);
    /* Not raft.current_term: in an election libraft raises that only after both calls. */
    group_write_state(g, (struct journal_record){.kind = JOURNAL_TERM, .a = g->disk_term, .b = vote}, NULL, 0, NULL);
    return 0;
}

/* ---- appends ---- */

static void append_written(struct journal_append *a)
{
    struct append_op *op = container_of(a, struct append_op, last_record);
    struct group *g = op->g;
    group_enter(g);
    g->busy--;
    op->durable = true;
    group_leave(g);
}

/* Bytes of entries go into the journal straight from libraft's buffers, which stay valid until the completion. */
static int io_append(struct raft_io *io, struct raft_io_append *req, const struct raft_entry entries[], unsigned n, raft_io_append_cb cb)
{
    struct group *g = of(io);
    sluice_assert(n > 0);
    struct append_op *op = calloc(1, sizeof *op + (n - 1) * sizeof op->records[0]);
    if (op == NULL) {
        return RAFT_NOMEM;
    }
    req->cb = cb;
    op->g = g;
    op->req = req;
    op->first = group_log_last(&g->log) + 1;
    op->term = g->raft.current_term;
    op->by_leader = group_leads(g);
    op->refused = op->durable = !group_rule_on(g, GROUP_RULE_R4) && !journal_space(g->gs->o.journal);
    for (unsigned i = 0; i < n; i++) {
        const struct raft_entry *e = &entries[i];
        struct journal_append *a = i + 1 < n ? &op->records[i] : &op->last_record;
        uint64_t index = group_log_last(&g->log) + 1;
        if (e->type == RAFT_BARRIER && op->by_leader) {
            memset(e->buf.base, 0, e->buf.len); /* libraft leaves it as malloc() gave it */
        } else if (e->type == RAFT_CHANGE && op->by_leader) {
            group_conf_clean(e->buf.base, e->buf.len);
        }
        a->record = (struct journal_record){.kind = JOURNAL_ENTRY, .type = (uint8_t)e->type, .group = g->id, .index = index, .term = e->term,
                                            .data = e->buf.base, .len = (uint32_t)e->buf.len};
        if (g->abc) {
            a->record.a = g->a;
            a->record.b = g->b;
            a->record.c = g->c;
        } else if (e->type == RAFT_COMMAND && e->buf.len >= BATCH_HEADER_SIZE) {
            const uint8_t *p = e->buf.base;
            if (p[0] == BATCH_VERSION && p[1] == ENTRY_BATCH) {
                a->record.a = get_u64(p + 16);
                a->record.b = get_u32(p + 24);
                a->record.c = get_u64(p + 32);
            }
        }
        if (i + 1 == n) {
            a->done = append_written;
        }
        if (!op->refused) {
            journal_append(g->gs->o.journal, a);
        }
        struct slot *slot = group_log_push(&g->log, e->term, (uint8_t)e->type, (uint32_t)e->buf.len, &a->place);
        slot->offset = a->record.a;
        slot->count = (uint32_t)a->record.b;
        g->gs->log_bytes += e->buf.len;
        if (e->type == RAFT_CHANGE) {
            group_conf_note(g, index, &e->buf);
        }
        op->last = index;
        g->append_end = max_u64(g->append_end, a->end);
    }
    g->busy += !op->refused;
    *g->ops_tail = op;
    g->ops_tail = &op->next;
    return 0;
}

static void shadow_truncate(struct group *g, uint64_t index)
{
    uint64_t before = group_log_bytes_to(&g->log, UINT64_MAX);
    group_log_truncate(&g->log, index);
    g->gs->log_bytes -= before - group_log_bytes_to(&g->log, UINT64_MAX);
    group_conf_truncate(g, index);
}

/* Delivers what is durable, in order; true if anything was. */
bool group_deliver_appends(struct group *g)
{
    bool any = false;
    while (g->ops != NULL && g->ops->durable) {
        struct append_op *op = g->ops;
        if (g->barrier_term == g->raft.current_term && !g->barrier_durable && group_leads(g) && op->by_leader && op->term == g->barrier_term &&
            op->last >= g->barrier_index) {
            group_open_gate(g);
            any = true;
            continue; /* what the replayed acknowledgements did may have changed our role */
        }
        if (group_hold_back(g, op)) {
            break;
        }
        g->ops = op->next;
        if (g->ops == NULL) {
            g->ops_tail = &g->ops;
        }
        op->req->cb(op->req, op->refused ? RAFT_NOSPACE : 0);
        if (op->refused && op->by_leader) {
            shadow_truncate(g, op->first); /* as libraft has just done with its own log */
        }
        free(op);
        any = true;
    }
    return any;
}

static int io_truncate(struct raft_io *io, raft_index index)
{
    struct group *g = of(io);
    shadow_truncate(g, index);
    group_write_state(g, (struct journal_record){.kind = JOURNAL_TRUNCATE, .index = index, .term = g->raft.current_term}, NULL, 0, NULL);
    return 0;
}

static raft_time io_time(struct raft_io *io) { return group_now(of(io)); }

static int io_random(struct raft_io *io, int min, int max)
{
    return max <= min ? min : min + (int)env_random_below(of(io)->gs->o.env, (uint64_t)(max - min));
}

static int io_async_work(struct raft_io *io, struct raft_io_async_work *req, raft_io_async_work_cb cb)
{
    (void)io;
    (void)req;
    (void)cb;
    return RAFT_INVALID; /* our snapshots are small and taken at once */
}

static int io_bootstrap(struct raft_io *io, const struct raft_configuration *c) { return io_not_ours(io, c); }

void group_io_init(struct group *g)
{
    g->io = (struct raft_io){.version = 2, .impl = g, .init = io_init, .close = io_close, .load = io_load, .start = io_start, .bootstrap = io_bootstrap,
                             .recover = io_not_ours, .set_term = io_set_term, .set_vote = io_set_vote, .send = io_send, .append = io_append,
                             .truncate = io_truncate, .snapshot_put = io_snapshot_put, .snapshot_get = io_snapshot_get, .time = io_time,
                             .random = io_random, .async_work = io_async_work};
    g->fsm = (struct raft_fsm){.version = 1, .data = g, .apply = fsm_apply, .snapshot = fsm_snapshot, .restore = fsm_restore};
}
