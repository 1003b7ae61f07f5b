/* debug_read.c: this replica's committed records, read directly: for checkers that compare replicas. Batch by batch, without quota or waiting. */
#include <stdlib.h>

#include "proto/base.h"
#include "server/node_impl.h"
#include "server/shard.h"

struct debug_read {
    struct node *node;
    uint64_t group, end;
    struct shard *shard;
    node_debug_batch cb;
    void *arg;
    struct batch_read read;
};

static void next(struct debug_read *d);

static void finish(struct debug_read *d, int status)
{
    if (d->shard != NULL) {
        shard_unpin(d->shard);
    }
    d->cb(d->arg, d->group, d->read.offset, NULL, 0, status);
    free(d);
}

static void got(struct debug_read *d)
{
    int status = d->read.status;
    for (unsigned i = 0; status == 0 && i < d->read.n; i++) {
        struct batch_header h;
        const struct journal_read *r = &d->read.reads[i];
        status = batch_header_decode(&h, r->data, r->place.len, false, NULL);
        if (status == 0) {
            d->cb(d->arg, d->group, h.first_offset, r->data, r->place.len, 0);
        }
    }
    uint64_t from = d->read.next_offset;
    batch_read_end(&d->read);
    if (status != 0) {
        finish(d, status);
        return;
    }
    d->read.offset = from;
    next(d);
}

static void read_done(struct batch_read *r)
{
    got(container_of(r, struct debug_read, read));
}

static void next(struct debug_read *d)
{
    uint64_t from = d->read.offset;
    if (from >= d->end || d->shard->phase != SHARD_RUNNING) {
        finish(d, 0);
        return;
    }
    d->read.max_bytes = 1 << 20;
    d->read.limit = d->end;
    d->read.done = read_done;
    if (batch_read_begin(d->shard->batches, &d->read) == 1) {
        got(d);
    }
}

static void start_here(struct lane *l, void *arg)
{
    struct debug_read *d = arg;
    struct shard *s = l->closing ? NULL : lane_shard(l, d->group);
    if (s == NULL || s->phase != SHARD_RUNNING) {
        finish(d, SLUICE_E_NOT_FOUND);
        return;
    }
    d->shard = s;
    shard_pin(s);
    d->end = s->state.next;
    d->read.offset = s->state.first;
    next(d);
}

void node_debug_read(struct node *n, uint64_t group, node_debug_batch cb, void *arg)
{
    struct debug_read *d = xcalloc(1, sizeof *d);
    d->node = n;
    d->group = group;
    d->cb = cb;
    d->arg = arg;
    lane_run(lane_for_group(n->lanes[0], group), start_here, d);
}
