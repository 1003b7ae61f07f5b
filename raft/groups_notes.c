/* groups_notes.c: what the links remember of peers' journals (rule F27), as notes of this lane's journal.
 *
 * A note: `a` = peer << 16 | its lane, index = position, term = incarnation, `b` = life; no bytes. It is written with a flush that happens anyway, or by itself when the peer has
 * been quiet for a second. Notes do not count for the position that is told (journal_acknowledged()), so that writing one gives no peer anything to write. */
#include "group_impl.h"

#include <stdlib.h>

uint64_t groups_position(void *arg)
{
    const struct groups *gs = arg;
    return journal_acknowledged(gs->o.journal);
}

static void note_done(struct journal_append *a) { free(a); }

static void write_note(void *arg, const struct links_memory *m)
{
    struct groups *gs = arg;
    struct journal_append *a = xcalloc(1, sizeof *a);
    a->record = (struct journal_record){.kind = JOURNAL_NOTE, .a = (uint64_t)m->node << 16 | m->lane, .index = m->position, .term = m->incarnation, .b = m->life};
    a->done = note_done;
    journal_append(gs->o.journal, a);
}

void groups_ride(void *arg)
{
    struct groups *gs = arg;
    links_write_memory(gs->links, true, write_note, gs);
}

void groups_write_notes(struct groups *gs)
{
    if (journal_space(gs->o.journal)) {
        links_write_memory(gs->links, false, write_note, gs);
    }
}

void groups_take_note(struct groups *gs, const struct recovered_note *note, bool own)
{
    struct links_memory m = {.node = (uint32_t)(note->note >> 16), .lane = groups_note_lane(note), .incarnation = note->term, .life = note->b, .position = note->index};
    links_remember(gs->links, &m, own);
}
