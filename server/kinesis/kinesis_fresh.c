/* kinesis_fresh.c: what this node's map does not show may have been made through another node a moment ago. Before a call is told that it is not there, the
 * controller's leader is asked how far the map has come, and the call waits until this lane's has come as far; then its operation runs again. */
#include <string.h>

#include "proto/base.h"
#include "server/kinesis/kinesis_impl.h"
#include "sluice.pb-c.h"

enum { REFRESHING_MAX = 16 }; /* per lane: whoever asks for what is not there, again and again, is a burden to this lane alone */

void call_refresh_end(struct call *c)
{
    if (c->refreshing) {
        c->refreshing = false;
        c->k->n_refreshing--;
    }
}

static void refreshed(struct call *c, const struct sluice_result *r)
{
    const Sluice__ClusterStatusReply *m = r->code == 0 ? (const Sluice__ClusterStatusReply *)r->reply : NULL;
    call_refresh_end(c);
    if (m == NULL || m->controller_leader == 0 || m->answering_node != m->controller_leader) {
        call_fail(c, AWS_E_ServiceUnavailable, "The cluster's controller cannot be asked now, and this node does not know what was asked for.");
        return;
    }
    kinesis_run_now(c);
}

bool call_refresh(struct call *c)
{
    if (c->fresh || c->k->n_refreshing >= REFRESHING_MAX) {
        return false;
    }
    Sluice__Empty m = SLUICE__EMPTY__INIT;
    c->refreshing = true;
    c->k->n_refreshing++;
    call_native(c, FRAME_CLUSTER_STATUS, &m.base, refreshed);
    return true;
}
