/* request_resolve.c: FRAME_RESOLVE: what became of a producer's batch. */
#include <string.h>

#include "server/shard.h"
#include "sluice.pb-c.h"

void request_resolve(struct request *r, const struct frame *f)
{
    Sluice__Resolve *m = sluice__resolve__unpack(NULL, f->message_len, f->message);
    if (m == NULL || m->stream_id.len != 16 || m->producer_id.len != 16) {
        if (m != NULL) {
            sluice__resolve__free_unpacked(m, NULL);
        }
        request_error(r, SLUICE_E_PROTOCOL, "malformed Resolve", 0, 0);
        return;
    }
    memcpy(r->stream_id, m->stream_id.data, 16);
    r->shard = m->shard;
    memcpy(r->u.resolve.key.id, m->producer_id.data, 16);
    r->u.resolve.key.epoch = m->epoch;
    r->u.resolve.key.sequence = m->sequence;
    sluice__resolve__free_unpacked(m, NULL);
    request_to_shard(r, shard_resolve);
}
