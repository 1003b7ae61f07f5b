/* request_put.c: FRAME_PUT: one batch for one shard. */
#include <string.h>

#include "server/connection.h"
#include "server/shard.h"
#include "sluice.pb-c.h"

void request_put(struct request *r, const struct frame *f)
{
    Sluice__Put *m = sluice__put__unpack(NULL, f->message_len, f->message);
    if (m == NULL || m->stream_id.len != 16) {
        if (m != NULL) {
            sluice__put__free_unpacked(m, NULL);
        }
        request_error(r, SLUICE_E_PROTOCOL, "malformed Put", 0, 0);
        return;
    }
    memcpy(r->stream_id, m->stream_id.data, 16);
    r->shard = m->shard;
    sluice__put__free_unpacked(m, NULL);
    if (r->payload_len < BATCH_HEADER_SIZE) {
        request_error(r, SLUICE_E_INVALID, "the batch is missing", 0, 0);
        return;
    }
    request_to_shard(r, shard_put);
}
