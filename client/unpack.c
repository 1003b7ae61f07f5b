/* The records of one stored batch, as an array. */
#include "client/unpack.h"

#include <stdlib.h>

#include "proto/base.h"

void unpacker_free(struct unpacker *u)
{
    free(u->scratch);
    free(u->v);
    *u = (struct unpacker){0};
}

static bool reserve(struct unpacker *u, uint32_t n)
{
    if (n > u->cap) {
        struct batch_record *more = realloc(u->v, n * sizeof *more);
        if (more == NULL) {
            return false;
        }
        u->v = more;
        u->cap = n;
    }
    return true;
}

int unpack_batch(struct unpacker *u, const uint8_t *data, uint64_t from, uint64_t until, struct sluice_records *out, uint32_t *len, const char **why)
{
    struct batch_reader br;
    *len = get_u32(data + 4);
    int code = batch_reader_open_verified(&br, data, *len, &u->scratch, &u->scratch_size, why);
    if (code != 0) {
        return code == SLUICE_E_MEMORY ? code : SLUICE_E_CORRUPT;
    }
    if (!reserve(u, br.header.record_count)) {
        *why = "no memory for the records of a batch";
        return SLUICE_E_MEMORY;
    }
    size_t n = 0;
    struct batch_record rec;
    int got;
    while ((got = batch_reader_next(&br, &rec)) == 1) {
        if (rec.offset >= from && rec.offset < until) {
            u->v[n++] = rec;
        }
    }
    if (got < 0) {
        *why = "a batch's records are malformed";
        return SLUICE_E_CORRUPT;
    }
    out->time_ms = br.header.time_ms;
    out->n = n;
    out->v = u->v;
    return 0;
}
