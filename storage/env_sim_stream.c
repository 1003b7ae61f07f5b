/* The bytes of a connection.
 *
 * A write is copied into chunks as far as the window allows (SIM_WINDOW bytes of a direction sent and not read); each chunk
 * travels for a delay of its own but never overtakes one of its direction. What the reader has read opens the window again. A
 * closing or resetting side sends a mark in order behind its data.
 *
 * Ways to fail: a lost chunk breaks the connection (reset on both sides, on one of them perhaps late); a cut keeps chunks back at
 * their arrival, and when it heals they are released or the connection breaks. */
#include "env_sim_impl.h"

#include <stdlib.h>

#define SIM_READ_MAX (64u * 1024)          /* bytes given to one `read` without ops->buffer */
#define SIM_RESEND_NS 300000000u           /* after a heal, until the sender tries again */
#define SIM_SILENCE_NS 5000000000u         /* after a break, until the second side notices */
#define SIM_HEAL_BREAK_PPM 250000u
#define SIM_RELEASE UINT64_MAX             /* u of a chunk event: what a cut kept back may go on */

static void end_fail(struct sim *s, struct sim_end *e, int error);

/* ---- lists --------------------------------------------------------------------------------------------------------- */

static void chunks_add(struct sim_chunks *l, struct sim_chunk *c)
{
    c->next = NULL;
    *(l->tail != NULL ? &l->tail->next : &l->head) = c;
    l->tail = c;
}

static struct sim_chunk *chunks_pop(struct sim_chunks *l)
{
    struct sim_chunk *c = l->head;
    l->head = c->next;
    if (l->head == NULL) {
        l->tail = NULL;
    }
    return c;
}

void sim_chunks_free(struct sim_chunks *l)
{
    while (l->head != NULL) {
        free(chunks_pop(l));
    }
}

static struct sim_chunk *chunk_new(enum sim_chunk_kind kind, size_t len)
{
    struct sim_chunk *c = xmalloc(sizeof *c + len);
    c->next = NULL;
    c->kind = kind;
    c->len = (uint32_t)len;
    c->pos = 0;
    return c;
}

static void sim_end_push(struct sim *s, uint64_t time, enum sim_kind kind, struct sim_end *e, uint64_t u)
{
    e->link->events++;
    sim_event_push(s, time, kind, e->loop, e, u);
}

/* ---- sending ------------------------------------------------------------------------------------------------------- */

void sim_end_reset_at(struct sim *s, struct sim_end *to, uint64_t time) { sim_end_push(s, time, SIM_EV_RESET, to, 0); }

static void link_break(struct sim *s, struct sim_link *l)
{
    if (l->broken) {
        return;
    }
    l->broken = true;
    unsigned first = (unsigned)sim_rng_below(&s->rng, 2);
    uint64_t at = s->now + sim_net_delay(s, l->end[0].host, l->end[1].host);
    sim_end_reset_at(s, &l->end[first], at);
    if (sim_rng_below(&s->rng, 2) == 0) {
        at += sim_rng_below(&s->rng, SIM_SILENCE_NS);
    }
    sim_end_reset_at(s, &l->end[1 - first], at);
}

/* Takes the chunk. */
static void end_send(struct sim *s, struct sim_end *from, struct sim_chunk *c)
{
    struct sim_end *to = from->peer;
    uint64_t at = s->now + sim_net_delay(s, from->host, to->host);
    if (from->link->broken) {
        free(c);
        return;
    }
    if (from->host != to->host) {
        const struct sim_net *n = &s->opt.net;
        if (sim_rng_chance(&s->rng, n->loss_ppm)) {
            free(c);
            link_break(s, from->link);
            return;
        }
        if (sim_rng_chance(&s->rng, n->reorder_ppm)) {
            at += sim_rng_below(&s->rng, n->delay_ns.max * 10 + 1);
        }
        if (sim_rng_chance(&s->rng, n->stall_ppm)) {
            at += sim_rng_in(&s->rng, n->stall_ns);
        }
        if (c->len > 0 && sim_rng_chance(&s->rng, n->corrupt_ppm)) {
            uint64_t bit = sim_rng_below(&s->rng, (uint64_t)c->len * 8);
            c->data[bit / 8] ^= (uint8_t)(1u << (bit % 8));
        }
    }
    from->last_arrival = max_u64(at, from->last_arrival);
    chunks_add(&from->flight, c);
    sim_end_push(s, from->last_arrival, SIM_EV_CHUNK, to, c->len | (uint64_t)c->kind << 32);
}

void sim_end_send_mark(struct sim *s, struct sim_end *from, enum sim_chunk_kind kind)
{
    end_send(s, from, chunk_new(kind, 0));
}

static void write_done(struct sim *s, struct sim_end *e, struct env_write *w, int status)
{
    w->status = status;
    w->next = NULL;
    *e->done_tail = w;
    e->done_tail = &w->next;
    if (!e->written_event) {
        e->written_event = true;
        sim_end_push(s, s->now, SIM_EV_WRITTEN, e, 0);
    }
}

static size_t write_bytes(const struct env_write *w)
{
    size_t n = 0;
    for (unsigned i = 0; i < w->n_iov; i++) {
        n += w->iov[i].iov_len;
    }
    return n;
}

static void copy_out(const struct env_write *w, uint8_t *out, size_t n)
{
    size_t skip = w->sent;
    for (unsigned i = 0; n > 0; i++) {
        size_t len = w->iov[i].iov_len;
        if (skip >= len) {
            skip -= len;
            continue;
        }
        size_t part = min_u64(len - skip, n);
        memcpy(out, (const uint8_t *)w->iov[i].iov_base + skip, part);
        out += part;
        n -= part;
        skip = 0;
    }
}

/* Sends what the window allows. */
static void pump(struct sim *s, struct sim_end *e)
{
    while (e->out != NULL) {
        struct env_write *w = e->out;
        size_t total = (size_t)(uintptr_t)w->impl;
        size_t n = min_u64(total - w->sent, SIM_WINDOW - e->in_window);
        if (n == 0 && w->sent < total) {
            e->blocked = true;
            return;
        }
        if (n > 1 && sim_rng_chance(&s->rng, s->opt.net.split_ppm)) {
            n = 1 + sim_rng_below(&s->rng, n);
        }
        if (n > 0) {
            struct sim_chunk *c = chunk_new(SIM_CHUNK_DATA, n);
            copy_out(w, c->data, n);
            w->sent += n;
            e->unsent -= n;
            e->in_window += n;
            end_send(s, e, c);
        }
        if (w->sent == total) {
            e->out = w->next;
            if (e->out == NULL) {
                e->out_tail = &e->out;
            }
            write_done(s, e, w, 0);
        }
    }
}

static void fail_writes(struct sim *s, struct sim_end *e, int status)
{
    while (e->out != NULL) {
        struct env_write *w = e->out;
        e->out = w->next;
        write_done(s, e, w, status);
    }
    e->out_tail = &e->out;
    e->unsent = 0;
}

void sim_conn_write(struct env_conn *conn, struct env_write *w)
{
    struct sim_loop *l = sim_loop_of(conn->env);
    struct sim_end *e = conn->impl;
    w->conn = conn;
    w->next = NULL;
    w->sent = 0;
    w->status = 0;
    if (l->proc->dying || l->proc->dead) {
        return;
    }
    if (e == NULL) {
        w->status = -ECANCELED;
        sim_event_push(l->sim, l->sim->now, SIM_EV_WRITTEN, l, w, 1);
        return;
    }
    if (e->state == SIM_END_CLOSED || e->error != 0) {
        write_done(l->sim, e, w, e->state == SIM_END_CLOSED ? -ECANCELED : e->error);
        return;
    }
    size_t total = write_bytes(w);
    w->impl = (void *)(uintptr_t)total;
    *e->out_tail = w;
    e->out_tail = &w->next;
    e->unsent += total;
    if (e->state == SIM_END_OPEN) {
        pump(l->sim, e);
    }
}

size_t sim_conn_unsent(const struct env_conn *c)
{
    const struct sim_end *e = c->impl;
    return e == NULL ? 0 : e->unsent;
}

/* Only the writes finished by now: one that a callback adds waits for the next turn. */
static void tell_written(struct sim_end *e)
{
    struct env_write *w = e->done;
    e->done = NULL;
    e->done_tail = &e->done;
    while (w != NULL && !e->loop->proc->dying) {
        struct env_write *next = w->next;
        w->cb(w);
        w = next;
    }
}

/* Takes back the event's hold on the end. */
static struct sim_end *end_of(struct sim_event *ev)
{
    struct sim_end *e = ev->a;
    sluice_assert(e->link->events > 0);
    e->link->events--;
    return e;
}

void sim_written_run(struct sim *s, struct sim_event *ev, bool live)
{
    if (ev->u == 1) {
        struct env_write *w = ev->a;
        if (live) {
            w->cb(w);
        }
        return;
    }
    struct sim_end *e = end_of(ev);
    e->written_event = false;
    if (live) {
        e->link->events++; /* a callback may close */
        tell_written(e);
        e->link->events--;
    }
    sim_link_release(s, e->link);
}

void sim_writable_run(struct sim *s, struct sim_event *ev, bool live)
{
    struct sim_end *e = end_of(ev);
    e->writable_event = false;
    if (live && e->state == SIM_END_OPEN && e->error == 0) {
        e->link->events++;
        pump(s, e);
        if (e->out == NULL && e->blocked) {
            e->blocked = false;
            tell_written(e);
            if (e->state == SIM_END_OPEN && e->out == NULL && !e->loop->proc->dying && e->user->ops->drained != NULL) {
                e->user->ops->drained(e->user);
            }
        }
        e->link->events--;
    }
    sim_link_release(s, e->link);
}

/* ---- receiving ----------------------------------------------------------------------------------------------------- */

static void window_open(struct sim *s, struct sim_end *writer, size_t n)
{
    sluice_assert(writer->in_window >= n);
    writer->in_window -= n;
    if (writer->out != NULL && !writer->writable_event && writer->state == SIM_END_OPEN) {
        writer->writable_event = true;
        sim_end_push(s, s->now + sim_net_delay(s, writer->peer->host, writer->host), SIM_EV_WRITABLE, writer, 0);
    }
}

static void was_read(struct sim *s, struct sim_end *reader, size_t n)
{
    if (sim_is_cut(reader->host, reader->peer->host)) {
        reader->peer->acks_held += n;
    } else {
        window_open(s, reader->peer, n);
    }
}

static bool may_read(const struct sim_end *e)
{
    return e->state == SIM_END_OPEN && e->reading && !e->ended && !e->loop->proc->dying;
}

static void read_some(struct sim *s, struct sim_end *e)
{
    struct sim_chunk *c = e->in.head;
    void *base = c->data + c->pos;
    size_t n = min_u64(c->len - c->pos, SIM_READ_MAX);
    if (e->user->ops->buffer != NULL) {
        size_t room = e->user->ops->buffer(e->user, &base);
        sluice_assert(room > 0 && base != NULL);
        n = min_u64(c->len - c->pos, room);
        memcpy(base, c->data + c->pos, n);
    }
    c->pos += (uint32_t)n;
    bool last = c->pos == c->len;
    if (last) {
        chunks_pop(&e->in);
    }
    was_read(s, e, n);
    e->user->ops->read(e->user, base, (ssize_t)n);
    if (last) {
        free(c);
    }
}

/* Gives the owner what there is to read, then the end or the error. The caller holds the link. */
static void feed(struct sim *s, struct sim_end *e)
{
    while (may_read(e) && e->in.head != NULL) {
        read_some(s, e);
    }
    if (may_read(e) && (e->error != 0 || e->eof)) {
        e->ended = true;
        e->user->ops->read(e->user, NULL, e->error);
    }
}

void sim_conn_read(struct env_conn *conn, bool on)
{
    struct sim_loop *l = sim_loop_of(conn->env);
    struct sim_end *e = conn->impl;
    if (e == NULL || l->proc->dead) {
        return;
    }
    e->reading = on;
    if (may_read(e) && (e->in.head != NULL || e->eof || e->error != 0) && !e->readable_event) {
        e->readable_event = true;
        sim_end_push(l->sim, l->sim->now, SIM_EV_READABLE, e, 0);
    }
}

void sim_readable_run(struct sim *s, struct sim_event *ev, bool live)
{
    struct sim_end *e = ev->a;
    e->readable_event = false;
    if (live) {
        feed(s, e);
    }
    sim_link_release(s, end_of(ev)->link);
}

/* The content goes into the trace too, as far as it is cheap: two runs that differ in bytes differ in hash. */
static void trace_chunk(struct sim *s, const struct sim_chunk *c)
{
    uint64_t v = c->len;
    if (c->len >= 8) {
        v ^= get_u64(c->data) * 0x9e3779b97f4a7c15u + get_u64(c->data + c->len - 8);
    }
    sim_trace_mix(s, v);
}

/* Takes the chunk. */
static void arrive(struct sim *s, struct sim_end *e, struct sim_chunk *c)
{
    if (e->state == SIM_END_CLOSED) {
        /* Nobody is there any more: the writer is told, unless the machine is off. */
        if (c->kind == SIM_CHUNK_DATA && !e->reset_owed && e->peer->state != SIM_END_CLOSED && e->peer->error == 0) {
            sim_end_send_mark(s, e, SIM_CHUNK_RESET);
        }
        free(c);
    } else if (c->kind == SIM_CHUNK_DATA && e->error == 0 && !e->eof) {
        trace_chunk(s, c);
        chunks_add(&e->in, c);
    } else {
        enum sim_chunk_kind kind = c->kind;
        free(c);
        if (kind == SIM_CHUNK_FIN) {
            e->eof = true;
        } else if (kind == SIM_CHUNK_RESET) {
            end_fail(s, e, -ECONNRESET);
        }
    }
}

void sim_chunk_run(struct sim *s, struct sim_event *ev, bool live)
{
    struct sim_end *e = ev->a;
    struct sim_end *from = e->peer;
    bool release = ev->u == SIM_RELEASE;
    struct sim_chunk *c = release ? NULL : chunks_pop(&from->flight);
    if (!live && e->state != SIM_END_CLOSED) {
        free(c); /* its loop has stopped, or the world ends */
    } else if (sim_is_cut(from->host, e->host) || (!release && from->held.head != NULL)) {
        if (c != NULL) {
            chunks_add(&from->held, c); /* not before what is older */
        }
    } else {
        if (c != NULL) {
            arrive(s, e, c);
        }
        while (from->held.head != NULL && c == NULL) {
            arrive(s, e, chunks_pop(&from->held));
        }
        if (live) {
            feed(s, e);
        }
    }
    sim_link_release(s, end_of(ev)->link);
}

void sim_end_heal(struct sim *s, struct sim_end *from)
{
    struct sim_end *to = from->peer;
    if (from->held.head != NULL) {
        if (sim_rng_chance(&s->rng, SIM_HEAL_BREAK_PPM)) {
            link_break(s, from->link);
        } else {
            sim_end_push(s, s->now + sim_net_delay(s, from->host, to->host) + sim_rng_below(&s->rng, SIM_RESEND_NS), SIM_EV_CHUNK, to,
                SIM_RELEASE);
        }
    }
    if (to->acks_held > 0) {
        size_t n = to->acks_held;
        to->acks_held = 0;
        window_open(s, to, n);
    }
}

/* ---- ends ---------------------------------------------------------------------------------------------------------- */

/* The caller holds the link; the owner is told by feed(). */
static void end_fail(struct sim *s, struct sim_end *e, int error)
{
    if (e->error == 0 && e->state != SIM_END_CLOSED) {
        e->error = error;
        fail_writes(s, e, error);
    }
}

void sim_reset_run(struct sim *s, struct sim_event *ev, bool live)
{
    struct sim_end *e = ev->a;
    e->link->broken = true;
    if (live) {
        end_fail(s, e, -ECONNRESET);
        feed(s, e);
    }
    sim_link_release(s, end_of(ev)->link);
}

void sim_end_opened(struct sim *s, struct sim_end *e, int status)
{
    e->link->events++;
    status = status != 0 ? status : e->error;
    if (status != 0) {
        end_fail(s, e, status);
        e->ended = true;
    } else {
        e->state = SIM_END_OPEN;
    }
    if (e->user->ops->connected != NULL) {
        e->user->ops->connected(e->user, status);
    }
    if (e->state == SIM_END_OPEN && !e->loop->proc->dying) {
        pump(s, e);
        feed(s, e);
    }
    e->link->events--;
}

void sim_conn_close(struct env_conn *conn)
{
    struct sim_loop *l = sim_loop_of(conn->env);
    struct sim_end *e = conn->impl;
    if (e == NULL || e->state == SIM_END_CLOSED || l->proc->dying || l->proc->dead) {
        return;
    }
    struct sim *s = l->sim;
    fail_writes(s, e, -ECANCELED);
    e->state = SIM_END_CLOSED;
    if (e->error == 0 && e->peer->state != SIM_END_CLOSED) {
        /* Unread data turns the polite end into a reset, as the system does it. */
        sim_end_send_mark(s, e, e->in.head != NULL ? SIM_CHUNK_RESET : SIM_CHUNK_FIN);
    }
    sim_end_push(s, s->now, SIM_EV_CLOSED, e, 0);
}

void sim_closed_run(struct sim *s, struct sim_event *ev, bool live)
{
    struct sim_end *e = ev->a;
    if (live) {
        struct env_conn *user = e->user;
        tell_written(e);
        if (!e->loop->proc->dying) {
            user->impl = NULL;
            e->user = NULL;
            if (user->ops->closed != NULL) {
                user->ops->closed(user);
            }
        }
    }
    sim_link_release(s, end_of(ev)->link);
}
