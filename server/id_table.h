/* id_table.h: a small hash table from non-zero 64-bit ids to pointers. Open addressing; deletion moves what follows up, so there are no tombstones.
 * Order of iteration depends on the ids alone. */
#ifndef SLUICE_ID_TABLE_H
#define SLUICE_ID_TABLE_H

#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include "proto/base.h"

struct id_table { struct id_slot { uint64_t id; void *value; } *slots; size_t cap, n; };

static inline size_t id_table_home(const struct id_table *t, uint64_t id) { return (size_t)((id * 0x9e3779b97f4a7c15u) >> 20) & (t->cap - 1); }

static inline void *id_table_get(const struct id_table *t, uint64_t id)
{
    if (t->cap == 0 || id == 0) {
        return NULL;
    }
    for (size_t i = id_table_home(t, id); t->slots[i].id != 0; i = (i + 1) & (t->cap - 1)) {
        if (t->slots[i].id == id) {
            return t->slots[i].value;
        }
    }
    return NULL;
}

static inline void id_table_put(struct id_table *t, uint64_t id, void *value)
{
    sluice_assert(id != 0);
    if ((t->n + 1) * 2 > t->cap) {
        struct id_table bigger = {.cap = t->cap == 0 ? 16 : t->cap * 2};
        bigger.slots = xcalloc(bigger.cap, sizeof *bigger.slots);
        for (size_t i = 0; i < t->cap; i++) {
            if (t->slots[i].id != 0) {
                id_table_put(&bigger, t->slots[i].id, t->slots[i].value);
            }
        }
        free(t->slots);
        *t = bigger;
    }
    size_t i = id_table_home(t, id);
    while (t->slots[i].id != 0 && t->slots[i].id != id) {
        i = (i + 1) & (t->cap - 1);
    }
    t->n += t->slots[i].id == 0;
    t->slots[i] = (struct id_slot){.id = id, .value = value};
}

/* Returns what was there, or NULL. */
static inline void *id_table_take(struct id_table *t, uint64_t id)
{
    if (id_table_get(t, id) == NULL) {
        return NULL;
    }
    size_t i = id_table_home(t, id);
    while (t->slots[i].id != id) {
        i = (i + 1) & (t->cap - 1);
    }
    void *value = t->slots[i].value;
    t->slots[i] = (struct id_slot){0};
    t->n--;
    for (size_t j = (i + 1) & (t->cap - 1); t->slots[j].id != 0; j = (j + 1) & (t->cap - 1)) {
        size_t home = id_table_home(t, t->slots[j].id);
        if (((j - home) & (t->cap - 1)) >= ((j - i) & (t->cap - 1))) {
            t->slots[i] = t->slots[j];
            t->slots[j] = (struct id_slot){0};
            i = j;
        }
    }
    return value;
}

static inline void id_table_deinit(struct id_table *t) { free(t->slots); *t = (struct id_table){0}; }

#endif
