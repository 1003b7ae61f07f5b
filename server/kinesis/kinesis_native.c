/* kinesis_native.c: native control requests of calls, and the wait until this lane's map shows what they have changed: who then asks this node for it must find it. */
#include <stdlib.h>

#include "proto/base.h"
#include "server/kinesis/kinesis_impl.h"

/* The version of the map that has what the reply tells; 0: it does not say. */
static uint64_t reply_version(const ProtobufCMessage *reply)
{
    const ProtobufCFieldDescriptor *f = protobuf_c_message_descriptor_get_field_by_name(reply->descriptor, "map_version");
    return f != NULL && f->type == PROTOBUF_C_TYPE_UINT64 ? *(const uint64_t *)((const char *)reply + f->offset) : 0;
}

static bool map_is_there(struct call *c)
{
    const struct cluster_map *m = c->k->lane->map;
    return m != NULL && m->version >= c->map_version;
}

static void wait_end(struct call *c)
{
    c->map_waiting = false;
    env_timer_close(&c->map_timer);
}

static void free_reply(struct call *c)
{
    if (c->map_reply != NULL) {
        protobuf_c_message_free_unpacked(c->map_reply, NULL);
        c->map_reply = NULL;
    }
}

static void go_on(struct call *c)
{
    wait_end(c);
    c->native_done(c, &(struct sluice_result){.outcome = SLUICE_DONE, .message = "", .hint = "", .reply = c->map_reply});
    free_reply(c);
    call_release(c);
}

/* It was carried out; this node only does not know yet. */
static void waited(struct env_timer *t)
{
    go_on(container_of(t, struct call, map_timer));
}

bool call_native_map(struct call *c)
{
    bool there = c->map_waiting && map_is_there(c);
    if (there) {
        go_on(c);
    }
    return there;
}

void call_native_gone(struct call *c)
{
    if (c->map_waiting) {
        wait_end(c);
        free_reply(c);
        call_release(c);
    }
}

static ProtobufCMessage *copy_of(const ProtobufCMessage *m)
{
    size_t n = protobuf_c_message_get_packed_size(m);
    uint8_t *packed = xmalloc(n + 1);
    protobuf_c_message_pack(m, packed);
    ProtobufCMessage *copy = protobuf_c_message_unpack(m->descriptor, NULL, n, packed);
    free(packed);
    return copy;
}

static void answered(const struct sluice_result *r, void *user)
{
    struct call *c = user;
    if (c->gone || c->answered) {
        call_release(c);
        return;
    }
    if (r->code == 0) {
        c->map_version = reply_version(r->reply);
        if (!map_is_there(c) && env_timer_init(c->k->env, &c->map_timer, waited) == 0) {
            c->map_reply = copy_of(r->reply);
            sluice_assert(c->map_reply != NULL);
            c->map_waiting = true;
            env_timer_start_ms(&c->map_timer, CALL_MAP_WAIT_MS);
            return; /* what is under way keeps its hold */
        }
    }
    c->native_done(c, r);
    call_release(c);
}

void call_native(struct call *c, enum frame_kind kind, const ProtobufCMessage *m, void (*done)(struct call *c, const struct sluice_result *r))
{
    struct sluice_client *client = call_client(c);
    if (client == NULL) {
        return;
    }
    c->native_done = done;
    c->fresh = true;
    call_hold(c);
    const struct sluice_call_options o = {.timeout_ms = CALL_NATIVE_MS};
    int rc = sluice_call(client, kind, m, &o, answered, c);
    if (rc != 0) {
        call_fail(c, rc == SLUICE_E_MEMORY ? AWS_E_ServiceUnavailable : AWS_E_InternalFailure, "%s", sluice_error_text(rc));
        call_release(c);
    }
}

void call_native_empty(struct call *c, const struct sluice_result *r)
{
    if (r->code != 0) {
        call_native_error(c, r->code, r->message, aws_member_text(c->input, AWS_M_StreamName));
    } else {
        call_reply_empty(c);
    }
}
