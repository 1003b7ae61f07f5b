/* The network between simulated hosts: listening, connecting, accepting; cuts, resets, death of processes.
 *
 * An attempt to connect is a `syn` event at the other host: a listener there takes it into its backlog and the answer travels
 * back; no listener: refused; a cut on the way: tried again every second until it is given up after three. */
#include "env_sim_impl.h"

#include <stdio.h>
#include <stdlib.h>

#define SIM_CONNECT_NS 3000000000u
#define SIM_SYN_RETRY_NS 1000000000u
#define SIM_GHOST_NS 3000000000u

/* ---- hosts and ways ------------------------------------------------------------------------------------------------ */

bool sim_is_cut(const struct sim_host *from, const struct sim_host *to)
{
    return to->id < from->n_cut_to && from->cut_to[to->id];
}

uint64_t sim_net_delay(struct sim *s, const struct sim_host *from, const struct sim_host *to)
{
    if (from == to) {
        return sim_rng_in(&s->rng, (struct sim_range){ 10000, 50000 });
    }
    return sim_rng_in(&s->rng, s->opt.net.delay_ns);
}

void sim_set_net(struct sim *s, const struct sim_net *n) { s->opt.net = *n; }

void sim_cut(struct sim *s, struct sim_host *from, struct sim_host *to, bool cut)
{
    if (to->id >= from->n_cut_to) {
        unsigned n = s->n_hosts;
        from->cut_to = xrealloc(from->cut_to, n * sizeof *from->cut_to);
        memset(from->cut_to + from->n_cut_to, 0, (n - from->n_cut_to) * sizeof *from->cut_to);
        from->n_cut_to = n;
    }
    if (from->cut_to[to->id] == cut) {
        return;
    }
    from->cut_to[to->id] = cut;
    for (struct sim_link *l = s->links; !cut && l != NULL; l = l->next) {
        for (unsigned i = 0; i < 2; i++) {
            if (l->end[i].host == from && l->end[i].peer->host == to) {
                sim_end_heal(s, &l->end[i]);
            }
        }
    }
}

static struct sim_host *resolve(struct sim_host *self, const char *name)
{
    if (strcmp(name, "127.0.0.1") == 0 || strcmp(name, "::1") == 0 || strcmp(name, "localhost") == 0) {
        return self;
    }
    return sim_host_find(self->sim, name);
}

static uint16_t free_port(struct sim_host *h)
{
    for (;;) {
        uint16_t port = h->next_port;
        h->next_port = port == 60999 ? 32768 : (uint16_t)(port + 1);
        const struct sim_listener *l = h->listeners;
        while (l != NULL && (l->closed || l->user->port != port)) {
            l = l->next;
        }
        if (l == NULL) {
            return port;
        }
    }
}

/* ---- life of a connection ------------------------------------------------------------------------------------------ */

static struct sim_link *link_new(struct sim *s, struct sim_host *from, struct sim_host *to)
{
    struct sim_link *l = sim_pool_get(&s->link_pool);
    for (unsigned i = 0; i < 2; i++) {
        struct sim_end *e = &l->end[i];
        e->link = l;
        e->peer = &l->end[1 - i];
        e->host = i == 0 ? from : to;
        e->state = SIM_END_CLOSED;
        e->out_tail = &e->out;
        e->done_tail = &e->done;
    }
    l->end[0].port = free_port(from);
    l->give_up = s->now + SIM_CONNECT_NS;
    l->prev = s->links_last;
    *(l->prev != NULL ? &l->prev->next : &s->links) = l;
    s->links_last = l;
    return l;
}

static void end_open(struct sim_end *e, struct sim_loop *loop, struct env_conn *user, enum sim_end_state state)
{
    struct sim_process *p = loop->proc;
    e->loop = loop;
    e->user = user;
    e->state = state;
    user->impl = e;
    e->prev = p->ends_last;
    *(e->prev != NULL ? &e->prev->next : &p->ends) = e;
    p->ends_last = e;
}

static void end_leave_process(struct sim_end *e)
{
    if (e->loop == NULL) {
        return;
    }
    struct sim_process *p = e->loop->proc;
    *(e->prev != NULL ? &e->prev->next : &p->ends) = e->next;
    *(e->next != NULL ? &e->next->prev : &p->ends_last) = e->prev;
}

static void link_free(struct sim *s, struct sim_link *l)
{
    for (unsigned i = 0; i < 2; i++) {
        struct sim_end *e = &l->end[i];
        end_leave_process(e);
        sim_chunks_free(&e->in);
        sim_chunks_free(&e->flight);
        sim_chunks_free(&e->held);
    }
    *(l->prev != NULL ? &l->prev->next : &s->links) = l->next;
    *(l->next != NULL ? &l->next->prev : &s->links_last) = l->prev;
    sim_pool_put(&s->link_pool, l);
}

void sim_link_release(struct sim *s, struct sim_link *l)
{
    if (l->events == 0 && l->end[0].state == SIM_END_CLOSED && l->end[1].state == SIM_END_CLOSED) {
        link_free(s, l);
    }
}

void sim_net_close(struct sim *s)
{
    while (s->links != NULL) {
        link_free(s, s->links);
    }
}

/* ---- listening ----------------------------------------------------------------------------------------------------- */

int sim_listen(struct env *e, struct env_listener *user, const char *host, uint16_t port, bool share_port)
{
    struct sim_loop *loop = sim_loop_of(e);
    struct sim_host *h = loop->proc->host;
    (void)host; /* a simulated host has one address */
    for (const struct sim_listener *l = h->listeners; l != NULL && port != 0; l = l->next) {
        if (!l->closed && l->user->port == port && !(l->shared && share_port && l->loop->proc == loop->proc)) {
            return -EADDRINUSE;
        }
    }
    struct sim_listener *l = sim_pool_get(&h->sim->listener_pool);
    user->port = port != 0 ? port : free_port(h);
    user->impl = l;
    l->user = user;
    l->loop = loop;
    l->host = h;
    l->shared = share_port;
    l->prev = h->listeners_last;
    *(l->prev != NULL ? &l->prev->next : &h->listeners) = l;
    h->listeners_last = l;
    return 0;
}

static void listener_release(struct sim_listener *l)
{
    if (!l->closed || l->events > 0) {
        return;
    }
    struct sim_host *h = l->host;
    *(l->prev != NULL ? &l->prev->next : &h->listeners) = l->next;
    *(l->next != NULL ? &l->next->prev : &h->listeners_last) = l->prev;
    sim_pool_put(&h->sim->listener_pool, l);
}

/* The other side learns of an end that is gone: at once, or when the host has power again. */
static void end_abandon(struct sim_end *e, bool power)
{
    struct sim *s = e->host->sim;
    e->state = SIM_END_CLOSED;
    e->user = NULL;
    e->out = NULL;
    e->done = NULL;
    if (e->peer->state == SIM_END_CLOSED) {
        sim_link_release(s, e->link);
    } else if (power) {
        e->reset_owed = true;
    } else if (!sim_is_cut(e->host, e->peer->host) && !e->link->broken && sim_rng_below(&s->rng, 2) == 0) {
        /* The reset overtakes data that was on its way and is lost with it. */
        sim_end_reset_at(s, e->peer, s->now + sim_net_delay(s, e->host, e->peer->host));
    } else {
        sim_end_send_mark(s, e, SIM_CHUNK_RESET);
    }
}

static void listener_abandon(struct sim_listener *l, bool power)
{
    while (l->head != NULL) {
        struct sim_end *e = l->head;
        l->head = e->next_waiting;
        end_abandon(e, power);
    }
    l->tail = NULL;
    l->n_waiting = 0;
    l->closed = true;
    listener_release(l);
}

void sim_listener_close(struct env_listener *user)
{
    struct sim_loop *loop = sim_loop_of(user->env);
    if (!loop->proc->dead && !loop->proc->dying) {
        listener_abandon(user->impl, false);
    }
}

/* ---- connecting ---------------------------------------------------------------------------------------------------- */

static void link_push(struct sim *s, uint64_t time, enum sim_kind kind, struct sim_loop *loop, struct sim_link *l, uint64_t u)
{
    l->events++;
    sim_event_push(s, time, kind, loop, l, u);
}

int sim_connect(struct env *e, struct env_conn *c, const char *host, uint16_t port)
{
    struct sim_loop *loop = sim_loop_of(e);
    struct sim *s = loop->sim;
    struct sim_host *from = loop->proc->host;
    struct sim_host *to = resolve(from, host);
    struct sim_link *l = link_new(s, from, to);
    end_open(&l->end[0], loop, c, SIM_END_CONNECTING);
    l->end[1].port = port;
    if (loop->proc->dying) {
        return 0;
    }
    if (to == NULL) {
        link_push(s, s->now + 1000000, SIM_EV_CONNECTED, loop, l, EHOSTUNREACH);
        return 0;
    }
    link_push(s, s->now + sim_net_delay(s, from, to), SIM_EV_SYN, NULL, l, port);
    if (from != to && sim_rng_chance(&s->rng, s->opt.net.duplicate_connect_ppm)) {
        struct sim_link *ghost = link_new(s, from, to);
        ghost->ghost = true;
        ghost->end[1].port = port;
        uint64_t late = s->now + sim_net_delay(s, from, to) + sim_rng_below(&s->rng, SIM_GHOST_NS);
        link_push(s, late, SIM_EV_SYN, NULL, ghost, port);
    }
    return 0;
}

/* One of several listeners on a port is chosen by chance, as the system's hash would. */
static struct sim_listener *find_listener(struct sim *s, const struct sim_host *h, uint16_t port)
{
    struct sim_listener *found = NULL;
    uint64_t n = 0;
    for (struct sim_listener *l = h->listeners; l != NULL; l = l->next) {
        if (!l->closed && l->user->port == port && (++n == 1 || sim_rng_below(&s->rng, n) == 0)) {
            found = l;
        }
    }
    return found;
}

static void syn_again(struct sim *s, struct sim_link *l)
{
    if (l->ghost) {
        return;
    }
    uint64_t next = s->now + SIM_SYN_RETRY_NS;
    if (next < l->give_up) {
        link_push(s, next, SIM_EV_SYN, NULL, l, l->end[1].port);
    } else {
        link_push(s, l->give_up, SIM_EV_CONNECTED, l->end[0].loop, l, ETIMEDOUT);
    }
}

static void syn_arrived(struct sim *s, struct sim_link *l)
{
    struct sim_end *client = &l->end[0];
    struct sim_end *server = &l->end[1];
    if (client->state != SIM_END_CONNECTING && !l->ghost) {
        return; /* its owner gave up, or died */
    }
    struct sim_listener *to = find_listener(s, server->host, server->port);
    if (sim_is_cut(client->host, server->host) || sim_is_cut(server->host, client->host) || (to == NULL && server->host->off) ||
        (to != NULL && to->n_waiting >= SIM_BACKLOG)) {
        syn_again(s, l);
        return;
    }
    uint64_t answer = s->now + sim_net_delay(s, server->host, client->host);
    if (to == NULL) {
        if (!l->ghost) {
            link_push(s, answer, SIM_EV_CONNECTED, client->loop, l, ECONNREFUSED);
        }
        return;
    }
    server->state = SIM_END_WAITING;
    server->next_waiting = NULL;
    *(to->tail != NULL ? &to->tail->next_waiting : &to->head) = server;
    to->tail = server;
    to->n_waiting++;
    to->events++;
    sim_event_push(s, s->now, SIM_EV_ACCEPT, to->loop, to, server->port);
    if (l->ghost) {
        sim_end_reset_at(s, server, s->now + sim_rng_below(&s->rng, SIM_SYN_RETRY_NS));
    } else {
        server->last_arrival = answer; /* its bytes come after the answer */
        link_push(s, answer, SIM_EV_CONNECTED, client->loop, l, 0);
    }
}

void sim_syn_run(struct sim *s, struct sim_event *ev, bool live)
{
    struct sim_link *l = ev->a;
    l->events--;
    if (live) {
        syn_arrived(s, l);
    }
    sim_link_release(s, l);
}

void sim_connected_run(struct sim *s, struct sim_event *ev, bool live)
{
    struct sim_link *l = ev->a;
    struct sim_end *client = &l->end[0];
    l->events--;
    if (live && client->state == SIM_END_CONNECTING) {
        int status = -(int)ev->u;
        if (status == 0 && sim_is_cut(client->peer->host, client->host)) {
            uint64_t next = s->now + SIM_SYN_RETRY_NS;
            link_push(s, max_u64(client->peer->last_arrival, min_u64(next, l->give_up)), SIM_EV_CONNECTED, client->loop, l,
                next < l->give_up ? 0 : ETIMEDOUT);
            return;
        }
        sim_end_opened(s, client, status);
    }
    sim_link_release(s, l);
}

void sim_accept_run(struct sim *s, struct sim_event *ev, bool live)
{
    (void)s;
    struct sim_listener *l = ev->a;
    l->events--;
    if (live && !l->closed) {
        l->user->cb(l->user); /* may close the listener */
        return;
    }
    listener_release(l);
}

int sim_accept(struct env_listener *user, struct env_conn *c)
{
    (void)sim_loop_of(user->env);
    struct sim_listener *l = user->impl;
    struct sim_end *e = l->head;
    if (e == NULL) {
        return -EAGAIN;
    }
    l->head = e->next_waiting;
    if (l->head == NULL) {
        l->tail = NULL;
    }
    l->n_waiting--;
    end_open(e, l->loop, c, SIM_END_OPEN);
    return 0;
}

void sim_conn_peer(const struct env_conn *c, char *buf, size_t n)
{
    const struct sim_end *e = c->impl;
    const struct sim_host *h = e == NULL ? NULL : e->peer->host;
    snprintf(buf, n, "%s:%u", h == NULL ? "?" : h->name, e == NULL ? 0 : (unsigned)e->peer->port);
}

/* ---- death and resets ---------------------------------------------------------------------------------------------- */

void sim_net_process_died(struct sim_process *p, enum sim_crash how)
{
    bool power = how == SIM_CRASH_POWER;
    for (struct sim_listener *l = p->host->listeners, *next; l != NULL; l = next) {
        next = l->next;
        if (l->loop->proc == p && !l->closed) {
            listener_abandon(l, power);
        }
    }
    for (struct sim_end *e = p->ends, *next; e != NULL; e = next) {
        next = e->next;
        if (e->state != SIM_END_CLOSED) {
            end_abandon(e, power);
        }
    }
}

void sim_net_host_back(struct sim_host *h)
{
    for (struct sim_link *l = h->sim->links; l != NULL; l = l->next) {
        for (unsigned i = 0; i < 2; i++) {
            struct sim_end *e = &l->end[i];
            if (e->host == h && e->reset_owed && e->peer->state != SIM_END_CLOSED) {
                e->reset_owed = false;
                sim_end_send_mark(h->sim, e, SIM_CHUNK_RESET);
            }
        }
    }
}

void sim_reset_connections(struct sim *s, struct sim_host *a, struct sim_host *b)
{
    for (struct sim_link *l = s->links; l != NULL; l = l->next) {
        const struct sim_host *x = l->end[0].host;
        const struct sim_host *y = l->end[1].host;
        if ((x == a && y == b) || (x == b && y == a)) {
            for (unsigned i = 0; i < 2; i++) {
                if (l->end[i].state != SIM_END_CLOSED) {
                    sim_end_reset_at(s, &l->end[i], s->now);
                }
            }
        }
    }
}
