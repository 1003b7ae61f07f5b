/* request_fetch.c: FRAME_FETCH: records from an offset on, perhaps waiting for them. */
#include <string.h>

#include "proto/base.h"
#include "server/shard.h"
#include "sluice.pb-c.h"

void request_fetch(struct request *r, const struct frame *f)
{
    Sluice__Fetch *m = sluice__fetch__unpack(NULL, f->message_len, f->message);
    if (m == NULL || m->stream_id.len != 16) {
        if (m != NULL) {
            sluice__fetch__free_unpacked(m, NULL);
        }
        request_error(r, SLUICE_E_PROTOCOL, "malformed Fetch", 0, 0);
        return;
    }
    memcpy(r->stream_id, m->stream_id.data, 16);
    r->shard = m->shard;
    r->u.fetch = (struct fetch){ .offset = m->offset, .max_bytes = m->max_bytes, .wait_ms = (uint32_t)min_u64(m->wait_ms, SHARD_WAIT_MAX_MS),
                                 .max_records = m->max_records, .fresh = m->mode == SLUICE__READ_MODE__FRESH, .shared = m->shared, .continued = m->continued,
                                 .from_horizon = m->from_horizon };
    sluice__fetch__free_unpacked(m, NULL);
    request_to_shard(r, shard_fetch);
}
