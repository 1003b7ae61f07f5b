/* request_control.c: requests for the controller: streams, cluster, nodes, and what nodes ask each other. They are handed to lane 0 as they came. */
#include <stdlib.h>
#include <string.h>

#include "proto/base.h"
#include "server/node_impl.h"
#include "server/request.h"

static void answered(void *arg, void *frame, size_t len)
{
    struct request *r = arg;
    int code = 0;
    if (frame == NULL) {
        request_error(r, SLUICE_E_MEMORY, NULL, 0, 100);
        return;
    }
    struct frame_header h;
    if (len >= FRAME_HEADER_SIZE && frame_header_decode(&h, frame) == 0 && h.kind == FRAME_ERROR) {
        code = SLUICE_E_REFUSED;
    }
    request_answer_frame(r, code, frame, len);
}

static void on_lane_zero(struct env_msg *m)
{
    struct request *r = container_of(m, struct request, msg);
    node_control(r->at->node, r->kind, r->correlation, r->message, r->message_len, r->from_peer, answered, r);
}

void request_control(struct request *r, const struct frame *f)
{
    struct lane *zero = r->home->node->lanes[0];
    if (r->home == zero) {
        node_control(zero->node, r->kind, r->correlation, f->message, f->message_len, r->from_peer, answered, r);
        return;
    }
    r->message = malloc(f->message_len + 1);
    if (r->message == NULL) {
        request_error(r, SLUICE_E_MEMORY, NULL, 0, 100);
        return;
    }
    memcpy(r->message, f->message, f->message_len);
    r->message_len = f->message_len;
    r->at = zero;
    r->home->metrics.handed_over_total++;
    env_post(zero->env, &r->msg, on_lane_zero);
}
