/* request_position.c: FRAME_POSITION: one of the five read positions as an offset. */
#include <stdio.h>
#include <string.h>

#include "server/shard.h"
#include "sluice.pb-c.h"

void request_position(struct request *r, const struct frame *f)
{
    Sluice__Position *m = sluice__position__unpack(NULL, f->message_len, f->message);
    if (m == NULL || m->stream_id.len != 16 || strlen(m->sequence) >= sizeof r->u.position.sequence) {
        if (m != NULL) {
            sluice__position__free_unpacked(m, NULL);
        }
        request_error(r, SLUICE_E_PROTOCOL, "malformed Position", 0, 0);
        return;
    }
    memcpy(r->stream_id, m->stream_id.data, 16);
    r->shard = m->shard;
    r->u.position.kind = (int)m->kind;
    r->u.position.shared = m->shared;
    r->u.position.time_ms = m->time_ms;
    snprintf(r->u.position.sequence, sizeof r->u.position.sequence, "%s", m->sequence);
    sluice__position__free_unpacked(m, NULL);
    request_to_shard(r, shard_position);
}
