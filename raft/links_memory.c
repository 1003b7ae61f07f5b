/* links_memory.c: what this lane remembers of the journals of its peers' lanes (rule F27), and when that is written down. */
#include "links_impl.h"

#include <stdlib.h>

enum {
    RIDE_MS = 20,      /* notes go along with a flush at most this often: each costs a directory entry in its block and in the footer */
    QUIET_MS = 1000,   /* what has stood still for so long is written by itself */
    LATE_MS = 10000    /* and so is what has changed since, but was not written for so long */
};

static struct links_remembered *find(const struct links *l, uint32_t node, uint32_t lane)
{
    for (unsigned i = 0; i < l->n_memory; i++) {
        if (l->memory[i].m.node == node && l->memory[i].m.lane == lane) {
            return &l->memory[i];
        }
    }
    return NULL;
}

static bool same(const struct links_memory *a, const struct links_memory *b)
{
    return a->incarnation == b->incarnation && a->life == b->life && a->position == b->position;
}

static void changed(struct links *l, struct links_remembered *r)
{
    r->changed_ms = env_now_ms(l->o.env);
    if (!r->due) {
        r->due = true;
        r->due_ms = r->changed_ms;
        l->n_due++;
    }
}

const struct links_memory *links_recall(const struct links *l, uint32_t node, uint32_t lane)
{
    const struct links_remembered *r = find(l, node, lane);
    return r != NULL ? &r->m : NULL;
}

void links_remember(struct links *l, const struct links_memory *m, bool noted)
{
    struct links_remembered *r = find(l, m->node, m->lane);
    if (r == NULL) {
        if (l->n_memory == LINKS_MEMORY_MAX) {
            return;
        }
        l->memory = xrealloc(l->memory, (l->n_memory + 1) * sizeof *l->memory);
        r = &l->memory[l->n_memory++];
        *r = (struct links_remembered){.m = {.node = m->node, .lane = m->lane}};
    }
    struct links_memory before = r->m;
    if (m->incarnation > r->m.incarnation) {
        r->m = *m;
    } else if (m->incarnation == r->m.incarnation) {
        r->m.life = r->m.life != 0 ? r->m.life : m->life;
        r->m.position = max_u64(r->m.position, m->position);
    }
    if (!same(&before, &r->m) && !noted) {
        changed(l, r);
    }
}

void links_told(struct links *l, const struct links_origin *from)
{
    struct links_remembered *r = find(l, from->node, from->lane);
    if (r != NULL && r->m.incarnation == from->incarnation && r->m.position < from->position) {
        r->m.position = from->position;
        changed(l, r);
    }
}

void links_write_memory(struct links *l, bool rides, void (*write)(void *arg, const struct links_memory *m), void *arg)
{
    if (l->n_due == 0) {
        return;
    }
    uint64_t now = env_now_ms(l->o.env);
    if (rides && now < l->ride_after_ms) {
        return;
    }
    bool wrote = false;
    for (unsigned i = 0; i < l->n_memory; i++) {
        struct links_remembered *r = &l->memory[i];
        if (r->due && (rides || now - r->changed_ms >= QUIET_MS || now - r->due_ms >= LATE_MS)) {
            r->due = false;
            l->n_due--;
            wrote = true;
            write(arg, &r->m);
        }
    }
    if (wrote) {
        l->ride_after_ms = now + RIDE_MS;
    }
}
