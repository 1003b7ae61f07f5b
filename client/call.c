/* Calls: one request, tried at one node after another until there is an answer that counts.
 *
 *   START -> (needs a shard: MAP, until the stream's map is known) -> SENT -> answer: done, or WAIT for a while -> SENT ...
 *
 * Every error goes through call_answered(): the retry column of proto/error.h decides, within the call's time. */
#include <stdlib.h>

#include "client/client_impl.h"

enum { WAIT_MIN_MS = 5, WAIT_BASE_MS = 20, WAIT_CAP_MS = 250, LEADERLESS_MS = 4000 };

struct call {
    struct sluice_client *client;
    struct call *prev, *next;
    struct request request;
    uint8_t *packed;
    const ProtobufCMessageDescriptor *reply;
    ProtobufCMessage *message; /* kept while its stream_id is not known */
    struct stream *stream;     /* NULL: any node */
    struct stream_watch watch;
    bool watching;
    uint32_t shard;
    struct target target;
    struct node *node, *failed;
    unsigned turn, attempts;
    bool once, no_throttle_wait, maybe;
    bool any;                  /* any replica will do */
    uint64_t timeout_ms, deadline_ns;
    int last_code;
    char last_text[256];
    struct env_timer timer;
    sluice_call_cb cb;
    void *user;
};

static void call_try(struct call *k);

uint8_t *message_pack(const ProtobufCMessage *m, size_t *n)
{
    *n = protobuf_c_message_get_packed_size(m);
    uint8_t *packed = xmalloc(*n + 1);
    protobuf_c_message_pack(m, packed);
    return packed;
}

ProtobufCMessage *answer_unpack(const ProtobufCMessageDescriptor *d, const struct frame *f)
{
    return protobuf_c_message_unpack(d, NULL, f->message_len, f->message);
}

static bool call_kinds(enum frame_kind kind, const ProtobufCMessageDescriptor **request, const ProtobufCMessageDescriptor **reply)
{
    static const struct {
        enum frame_kind kind;
        const ProtobufCMessageDescriptor *request, *reply;
    } kinds[] = {
        {FRAME_STREAM_CREATE, &sluice__stream_create__descriptor, &sluice__stream_reply__descriptor},
        {FRAME_STREAM_UPDATE, &sluice__stream_update__descriptor, &sluice__stream_reply__descriptor},
        {FRAME_STREAM_DELETE, &sluice__stream_delete__descriptor, &sluice__stream_reply__descriptor},
        {FRAME_STREAM_LIST, &sluice__stream_list__descriptor, &sluice__stream_list_reply__descriptor},
        {FRAME_STREAM_DESCRIBE, &sluice__stream_describe__descriptor, &sluice__stream_reply__descriptor},
        {FRAME_CLUSTER_STATUS, &sluice__empty__descriptor, &sluice__cluster_status_reply__descriptor},
        {FRAME_POSITION, &sluice__position__descriptor, &sluice__position_reply__descriptor},
        {FRAME_RESOLVE, &sluice__resolve__descriptor, &sluice__resolve_reply__descriptor},
        {FRAME_NODE_CHANGE, &sluice__node_change__descriptor, &sluice__cluster_status_reply__descriptor},
        {FRAME_PING, &sluice__empty__descriptor, &sluice__empty__descriptor},
        {FRAME_TRANSFER, &sluice__transfer__descriptor, &sluice__empty__descriptor},
        {FRAME_CONSUMER_LIST, &sluice__consumer_list__descriptor, &sluice__consumer_list_reply__descriptor},
        {FRAME_STREAM_RESHARD, &sluice__stream_reshard__descriptor, &sluice__stream_reply__descriptor},
        {FRAME_CONSUMER_REGISTER, &sluice__consumer_register__descriptor, &sluice__consumer_reply__descriptor},
        {FRAME_CONSUMER_REMOVE, &sluice__consumer_remove__descriptor, &sluice__consumer_reply__descriptor},
        {FRAME_RESOURCE_CHANGE, &sluice__resource_change__descriptor, &sluice__resource_reply__descriptor},
        {FRAME_RESOURCE_GET, &sluice__resource_get__descriptor, &sluice__resource_reply__descriptor},
        {FRAME_ACCOUNT, &sluice__account_change__descriptor, &sluice__account_reply__descriptor},
    };
    for (size_t i = 0; i < ARRAY_LEN(kinds); i++) {
        if (kinds[i].kind == kind) {
            *request = kinds[i].request;
            *reply = kinds[i].reply;
            return true;
        }
    }
    return false;
}

/* ---- ending ---------------------------------------------------------------------------------------------------------------- */

static void call_free(struct call *k)
{
    struct sluice_client *c = k->client;
    request_cancel(&k->request);
    env_timer_close(&k->timer);
    if (k->watching) {
        stream_watch_remove(k->stream, &k->watch);
    }
    if (k->stream != NULL) {
        stream_put(k->stream);
    }
    *(k->prev != NULL ? &k->prev->next : &c->calls) = k->next;
    if (k->next != NULL) {
        k->next->prev = k->prev;
    }
    if (k->message != NULL) {
        protobuf_c_message_free_unpacked(k->message, NULL);
    }
    free(k->packed);
    free(k);
}

static void call_finish(struct call *k, const struct sluice_result *r)
{
    sluice_call_cb cb = k->cb;
    void *user = k->user;
    call_free(k);
    cb(r, user);
}

static void call_fail(struct call *k, int code, const char *message, const char *hint)
{
    bool unknown = k->maybe || sluice_error_outcome(code) == SLUICE_UNKNOWN;
    char text[sizeof k->last_text];
    strncpy(text, message, sizeof text - 1);
    text[sizeof text - 1] = '\0';
    char hint_text[256] = "";
    strncpy(hint_text, hint, sizeof hint_text - 1);
    call_finish(k, &(struct sluice_result){.code = code, .outcome = unknown ? SLUICE_UNKNOWN : SLUICE_REJECTED, .message = text,
                                           .hint = hint_text, .attempts = k->attempts});
}

void calls_drop(struct sluice_client *c)
{
    while (c->calls != NULL) {
        call_fail(c->calls, SLUICE_E_SHUTTING_DOWN, "the client was closed", "");
    }
}

/* ---- trying ---------------------------------------------------------------------------------------------------------------- */

static void call_timer(struct env_timer *t)
{
    struct call *k = container_of(t, struct call, timer);
    call_try(k);
}

static void call_wait(struct call *k, uint64_t ms)
{
    uint64_t now = env_now_ns(k->client->env);
    uint64_t left = k->deadline_ns > now ? k->deadline_ns - now : 0;
    env_timer_start_ns(&k->timer, min_u64(ms * 1000000u, left + 1));
}

static void call_answered(struct request *r, const struct answer *a)
{
    struct call *k = container_of(r, struct call, request);
    k->attempts++;
    if (a->code == 0) {
        ProtobufCMessage *reply = answer_unpack(k->reply, a->frame);
        if (reply == NULL) {
            k->maybe = true;
            call_fail(k, SLUICE_E_PROTOCOL, "malformed answer", "");
            return;
        }
        call_finish(k, &(struct sluice_result){.code = 0, .outcome = SLUICE_DONE, .message = "", .hint = "", .attempts = k->attempts,
                                               .kind = a->frame->kind, .reply = reply});
        protobuf_c_message_free_unpacked(reply, NULL);
        return;
    }
    k->maybe = k->maybe || a->maybe;
    enum sluice_retry retry = sluice_error_retry(a->code);
    if (retry == SLUICE_RETRY_NEVER || (a->maybe && k->once) || (a->code == SLUICE_E_THROTTLED && k->no_throttle_wait)) {
        call_fail(k, a->code, a->message, a->hint);
        return;
    }
    /* A node takes 3 s to say so. One more attempt that runs out of time would make an outcome that is sure by now unknown. */
    if (a->code == SLUICE_E_NO_CONTROLLER && !k->maybe && k->deadline_ns < env_now_ns(k->client->env) + LEADERLESS_MS * 1000000ull) {
        call_fail(k, a->code, a->message, a->hint);
        return;
    }
    k->client->stats.retries++;
    k->last_code = a->code;
    strncpy(k->last_text, a->message, sizeof k->last_text - 1);
    k->failed = k->node;
    if (k->stream != NULL) {
        target_learn(&k->target, k->stream, k->shard, k->node, a);
    }
    uint64_t ms = a->retry_after_ms;
    if (ms == 0) {
        bool try_others = retry == SLUICE_RETRY_ELSEWHERE && k->attempts < k->client->n_nodes;
        ms = try_others ? 0 : backoff_ms(k->client->env, k->attempts, WAIT_MIN_MS, WAIT_BASE_MS, WAIT_CAP_MS);
    }
    call_wait(k, ms);
}

/* Fills an empty stream_id, now that it is known. */
static void call_pack(struct call *k)
{
    for (unsigned i = 0; k->stream != NULL && i < k->message->descriptor->n_fields; i++) {
        const ProtobufCFieldDescriptor *f = &k->message->descriptor->fields[i];
        if (strcmp(f->name, "stream_id") == 0) {
            ProtobufCBinaryData *id = (ProtobufCBinaryData *)((char *)k->message + f->offset);
            if (id->len == 0) {
                id->data = xmalloc(sizeof k->stream->id); /* freed with the message */
                id->len = sizeof k->stream->id;
                memcpy(id->data, k->stream->id, id->len);
            }
        }
    }
    k->packed = message_pack(k->message, &k->request.packed_len);
    k->request.packed = k->packed;
    protobuf_c_message_free_unpacked(k->message, NULL);
    k->message = NULL;
}

static void call_try(struct call *k)
{
    struct sluice_client *c = k->client;
    uint64_t now = env_now_ns(c->env);
    env_timer_stop(&k->timer);
    if (k->deadline_ns == 0) {
        k->deadline_ns = now + k->timeout_ms * 1000000u; /* counts from the loop's turn, not from a call made outside of it */
    }
    if (now >= k->deadline_ns) {
        int code = k->maybe ? SLUICE_E_TIMEOUT : k->last_code != 0 ? k->last_code : SLUICE_E_NO_CONNECTION;
        char unreachable[sizeof k->last_text];
        nodes_out_of_reach(c, unreachable, sizeof unreachable);
        bool nobody = code == SLUICE_E_NO_CONNECTION || code == SLUICE_E_TIMEOUT;
        call_fail(k, code, nobody && unreachable[0] != '\0' ? unreachable : k->last_text[0] != '\0' ? k->last_text : "no node answered in time", "");
        return;
    }
    if (k->stream != NULL && !k->stream->known) {
        call_wait(k, (k->deadline_ns - now) / 1000000u + 1); /* the watch comes first */
        stream_refresh(k->stream);
        return;
    }
    if (k->message != NULL) {
        call_pack(k);
    }
    k->node = k->stream != NULL ? target_choose(&k->target, k->stream, k->shard, k->any) : node_in_turn(c, &k->turn, k->failed);
    k->request.timeout_ms = (uint32_t)min_u64(c->options.request_timeout_ms, (k->deadline_ns - now) / 1000000u + 1);
    if (k->node == NULL || request_send(k->node, &k->request) != 0) {
        call_wait(k, backoff_ms(c->env, 1, WAIT_MIN_MS, WAIT_BASE_MS, WAIT_CAP_MS));
    }
}

static void call_map_changed(struct stream_watch *w, int code, const char *message)
{
    struct call *k = container_of(w, struct call, watch);
    if (code == 0 && !request_active(&k->request) && k->message != NULL) {
        call_try(k);
    } else if (code != 0 && !k->stream->known && k->message != NULL) {
        if (sluice_error_retry(code) == SLUICE_RETRY_NEVER) {
            call_fail(k, code, message, "");
        } else {
            k->last_code = code;
            stream_refresh(k->stream);
        }
    }
}

/* ---- starting -------------------------------------------------------------------------------------------------------------- */

/* A copy of the message with its request_id and account filled in. */
static ProtobufCMessage *message_copy(struct sluice_client *c, const ProtobufCMessage *m)
{
    size_t n;
    uint8_t *packed = message_pack(m, &n);
    ProtobufCMessage *copy = protobuf_c_message_unpack(m->descriptor, NULL, n, packed);
    free(packed);
    for (unsigned i = 0; copy != NULL && i < copy->descriptor->n_fields; i++) {
        const ProtobufCFieldDescriptor *f = &copy->descriptor->fields[i];
        ProtobufCBinaryData *id = (ProtobufCBinaryData *)((char *)copy + f->offset);
        if (strcmp(f->name, "request_id") == 0 && id->len == 0) {
            id->data = xmalloc(16);
            id->len = 16;
            env_random(c->env, id->data, 16);
        }
        char **account = (char **)((char *)copy + f->offset);
        if (strcmp(f->name, "account") == 0 && c->options.account != NULL && (*account)[0] == '\0') {
            *account = xstrdup(c->options.account); /* an empty one is protobuf-c's own, not to be freed */
        }
    }
    return copy;
}

int sluice_call(struct sluice_client *c, enum frame_kind kind, const ProtobufCMessage *message, const struct sluice_call_options *o,
                sluice_call_cb cb, void *user)
{
    static const struct sluice_call_options defaults;
    o = o != NULL ? o : &defaults;
    const ProtobufCMessageDescriptor *request, *reply;
    if (!call_kinds(kind, &request, &reply) || message->descriptor != request || c->closing) {
        return SLUICE_E_INVALID;
    }
    struct call *k = xcalloc(1, sizeof *k);
    *k = (struct call){.client = c, .reply = reply, .shard = o->shard, .turn = c->options.in_order ? 0 : c->turn++, .once = o->once, .no_throttle_wait = o->no_throttle_wait,
                       .cb = cb, .user = user};
    k->message = message_copy(c, message);
    if (k->message == NULL) {
        free(k);
        return SLUICE_E_MEMORY;
    }
    k->request.kind = (uint8_t)kind;
    k->request.done = call_answered;
    k->timeout_ms = o->timeout_ms != 0 ? o->timeout_ms : c->options.call_timeout_ms;
    env_timer_init(c->env, &k->timer, call_timer);
    k->next = c->calls;
    if (k->next != NULL) {
        k->next->prev = k;
    }
    c->calls = k;
    if (o->stream != NULL) {
        k->stream = stream_get(c, o->stream);
        k->watch.changed = call_map_changed;
        stream_watch_add(k->stream, &k->watch);
        k->watching = true;
    }
    env_timer_start_ns(&k->timer, 0); /* callbacks never run inside the call that started them */
    return 0;
}

int sluice_stream_create(struct sluice_client *c, const char *name, uint32_t shards, uint32_t retention_hours, uint32_t replicas,
                         sluice_call_cb cb, void *user)
{
    Sluice__StreamCreate m = SLUICE__STREAM_CREATE__INIT;
    m.name = (char *)(uintptr_t)name;
    m.shards = shards;
    m.retention_hours = retention_hours;
    m.replicas = replicas;
    return sluice_call(c, FRAME_STREAM_CREATE, &m.base, NULL, cb, user);
}

int sluice_stream_describe(struct sluice_client *c, const char *name, sluice_call_cb cb, void *user)
{
    Sluice__StreamDescribe m = SLUICE__STREAM_DESCRIBE__INIT;
    m.name = (char *)(uintptr_t)name;
    return sluice_call(c, FRAME_STREAM_DESCRIBE, &m.base, NULL, cb, user);
}

int sluice_stream_delete(struct sluice_client *c, const char *name, sluice_call_cb cb, void *user)
{
    Sluice__StreamDelete m = SLUICE__STREAM_DELETE__INIT;
    m.name = (char *)(uintptr_t)name;
    return sluice_call(c, FRAME_STREAM_DELETE, &m.base, NULL, cb, user);
}

int sluice_cluster_status(struct sluice_client *c, sluice_call_cb cb, void *user)
{
    Sluice__Empty m = SLUICE__EMPTY__INIT;
    return sluice_call(c, FRAME_CLUSTER_STATUS, &m.base, NULL, cb, user);
}
