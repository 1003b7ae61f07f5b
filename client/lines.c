/* Cutting a byte stream into lines. */
#include "client/lines.h"

#include <stdlib.h>

#include "proto/base.h"

void lines_init(struct lines *l, size_t line_max)
{
    *l = (struct lines){.line_max = line_max};
}

void lines_deinit(struct lines *l)
{
    free(l->carry);
    *l = (struct lines){0};
}

void lines_feed(struct lines *l, const char *data, size_t n)
{
    sluice_assert(l->p == l->end);
    l->p = data;
    l->end = data + n;
}

static void carry_add(struct lines *l, const char *data, size_t n)
{
    if (l->carry_len + n > l->carry_cap) {
        l->carry_cap = l->carry_len + n > 2 * l->carry_cap ? l->carry_len + n : 2 * l->carry_cap;
        l->carry = xrealloc(l->carry, l->carry_cap);
    }
    if (n > 0) {
        memcpy(l->carry + l->carry_len, data, n);
    }
    l->carry_len += n;
}

static void carry_drop_used(struct lines *l)
{
    if (l->carry_used) {
        l->carry_used = false;
        l->carry_len = 0;
    }
}

int lines_next(struct lines *l, const char **line, size_t *len)
{
    carry_drop_used(l);
    if (l->p == l->end) {
        return 0;
    }
    const char *nl = memchr(l->p, '\n', (size_t)(l->end - l->p));
    size_t part = (size_t)((nl != NULL ? nl : l->end) - l->p);
    if (l->carry_len + part > l->line_max) {
        return -1;
    }
    if (nl == NULL) {
        carry_add(l, l->p, part);
        l->p = l->end;
        return 0;
    }
    if (l->carry_len > 0) {
        carry_add(l, l->p, part);
        *line = l->carry;
        *len = l->carry_len;
        l->carry_used = true;
    } else {
        *line = l->p;
        *len = part;
    }
    l->p = nl + 1;
    return 1;
}

int lines_last(struct lines *l, const char **line, size_t *len)
{
    carry_drop_used(l);
    if (l->carry_len == 0) {
        return 0;
    }
    *line = l->carry;
    *len = l->carry_len;
    l->carry_used = true;
    return 1;
}
