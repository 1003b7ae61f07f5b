/* fetch_room.c: see fetch_room.h. */
#include "server/fetch_room.h"

#include "proto/base.h"

struct fetch_account {
    uint64_t id, used;
    unsigned claims;               /* that have something or wait */
    struct fetch_claim *first, **last; /* that wait */
    bool in_ring;
    struct fetch_account *ring_next;
};

void fetch_room_init(struct fetch_room *room, uint64_t max)
{
    *room = (struct fetch_room){ .max = max };
    room->ring_tail = &room->ring;
    room->newest = &room->oldest;
}

void fetch_room_deinit(struct fetch_room *room)
{
    sluice_assert(room->accounts.n == 0 && room->waiting == 0 && room->used == 0);
    id_table_deinit(&room->accounts);
}

/* How much of `want` the account may take now, at least `first`; 0: nothing. */
static uint64_t may_take(const struct fetch_room *room, const struct fetch_account *a, uint64_t first, uint64_t want)
{
    uint64_t need = first + FETCH_ROOM_OVERHEAD;
    uint64_t free_bytes = room->max > room->used ? room->max - room->used : 0;
    uint64_t share = free_bytes / FETCH_ROOM_SHARE;
    uint64_t left = share > a->used ? share - a->used : 0;
    if (need > left && (a->used > 0 || (need > free_bytes && room->used > 0))) {
        return 0;
    }
    /* The first answer of a connection is let in as long as there is any room for it; a batch larger than all of the room is read alone. */
    return max_u64(first, left > FETCH_ROOM_OVERHEAD ? min_u64(want, left - FETCH_ROOM_OVERHEAD) : 0);
}

static struct fetch_account *account_of(struct fetch_room *room, uint64_t connection)
{
    struct fetch_account *a = id_table_get(&room->accounts, connection);
    if (a == NULL) {
        a = xcalloc(1, sizeof *a);
        a->id = connection;
        a->last = &a->first;
        id_table_put(&room->accounts, connection, a);
    }
    return a;
}

static void ring_add(struct fetch_room *room, struct fetch_account *a)
{
    if (!a->in_ring && a->first != NULL) {
        a->in_ring = true;
        a->ring_next = NULL;
        *room->ring_tail = a;
        room->ring_tail = &a->ring_next;
    }
}

/* at: what points to it. */
static void ring_take(struct fetch_room *room, struct fetch_account **at)
{
    struct fetch_account *a = *at;
    *at = a->ring_next;
    if (*at == NULL) {
        room->ring_tail = at;
    }
    a->in_ring = false;
}

static void account_drop(struct fetch_room *room, struct fetch_account *a)
{
    if (--a->claims > 0) {
        return;
    }
    sluice_assert(a->used == 0 && a->first == NULL);
    if (a->in_ring) {
        struct fetch_account **at = &room->ring;
        while (*at != a) {
            at = &(*at)->ring_next;
        }
        ring_take(room, at);
    }
    id_table_take(&room->accounts, a->id);
    free(a);
}

static void wait_begins(struct fetch_room *room, struct fetch_claim *c, uint64_t now_ms)
{
    struct fetch_account *a = c->account;
    c->waiting = true;
    c->since_ms = now_ms;
    c->next = NULL;
    *a->last = c;
    a->last = &c->next;
    c->later = NULL;
    c->earlier = room->newest;
    *room->newest = c;
    room->newest = &c->later;
    room->waiting++;
    if (a->used == 0) { /* else what it has comes back one day, and then it is looked at */
        ring_add(room, a);
    }
}

static void wait_ends(struct fetch_room *room, struct fetch_claim *c)
{
    struct fetch_account *a = c->account;
    struct fetch_claim **at = &a->first;
    while (*at != c) {
        at = &(*at)->next;
    }
    *at = c->next;
    if (*at == NULL) {
        a->last = at;
    }
    *c->earlier = c->later;
    if (c->later != NULL) {
        c->later->earlier = c->earlier;
    } else {
        room->newest = c->earlier;
    }
    c->waiting = false;
    room->waiting--;
}

uint64_t fetch_room_claim(struct fetch_room *room, struct fetch_claim *c, uint64_t connection, uint64_t first, uint64_t want, uint64_t now_ms)
{
    sluice_assert(c->account == NULL && !c->waiting && c->bytes == 0);
    struct fetch_account *a = account_of(room, connection);
    a->claims++;
    c->account = a;
    c->first = first;
    /* Nobody overtakes those that wait in the ring or earlier claims of the same connection. */
    uint64_t granted = c->turn || (room->ring == NULL && a->first == NULL) ? may_take(room, a, first, want) : 0;
    c->turn = false;
    if (granted == 0) {
        wait_begins(room, c, now_ms);
        return 0;
    }
    fetch_room_settle(room, c, granted);
    return granted;
}

void fetch_room_settle(struct fetch_room *room, struct fetch_claim *c, uint64_t bytes)
{
    sluice_assert(c->account != NULL && !c->waiting);
    uint64_t has = bytes + FETCH_ROOM_OVERHEAD;
    room->used += has - c->bytes;
    c->account->used += has - c->bytes;
    bool less = has < c->bytes;
    c->bytes = has;
    if (less) {
        ring_add(room, c->account);
    }
}

void fetch_room_release(struct fetch_room *room, struct fetch_claim *c)
{
    struct fetch_account *a = c->account;
    if (a == NULL) {
        return;
    }
    if (c->waiting) {
        wait_ends(room, c);
    }
    room->used -= c->bytes;
    a->used -= c->bytes;
    c->bytes = 0;
    c->account = NULL;
    ring_add(room, a);
    account_drop(room, a);
}

struct fetch_claim *fetch_room_next(struct fetch_room *room, uint64_t now_ms)
{
    struct fetch_account **at = &room->ring;
    while (*at != NULL) {
        struct fetch_account *a = *at;
        struct fetch_claim *c = a->first;
        if (c != NULL && may_take(room, a, c->first, c->first) > 0) {
            ring_take(room, at);
            wait_ends(room, c);
            ring_add(room, a); /* behind the others */
            c->account = NULL;
            c->turn = true;
            account_drop(room, a);
            return c;
        }
        if (c == NULL || a->used > 0) {
            ring_take(room, at); /* it comes back with the next of its answers that is gone */
        } else if (now_ms - c->since_ms >= FETCH_ROOM_PASS_MS) {
            return NULL;
        } else {
            at = &a->ring_next;
        }
    }
    return NULL;
}

bool fetch_room_crowded(const struct fetch_room *room)
{
    return room->ring != NULL || room->used > room->max / 4 * 3;
}

struct fetch_claim *fetch_room_of(const struct fetch_room *room, uint64_t connection)
{
    const struct fetch_account *a = id_table_get(&room->accounts, connection);
    return a != NULL ? a->first : NULL;
}
