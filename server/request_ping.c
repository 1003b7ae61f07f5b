/* request_ping.c: FRAME_PING: is anyone there. */
#include "server/request.h"
#include "sluice.pb-c.h"

void request_ping(struct request *r, const struct frame *f)
{
    (void)f;
    Sluice__Empty reply = SLUICE__EMPTY__INIT;
    request_answer(r, FRAME_PING_REPLY, &reply);
}
