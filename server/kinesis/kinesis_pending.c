/* kinesis_pending.c: operations and hooks that are still missing. */
#include "server/kinesis/kinesis_impl.h"

#define PENDING(name) \
    void kinesis_##name(struct call *c) { call_error_text(c, AWS_E_InternalFailure, "not built yet"); }
PENDING(SubscribeToShard)

void kinesis_subscribers_map(struct kinesis *k) { (void)k; }
void kinesis_subscribers_close(struct kinesis *k) { (void)k; }
