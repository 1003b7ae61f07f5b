/* Checks and defaults of control requests, on the node that has the client: what is passed on is complete (request id, account). */
#include "server/controller_impl.h"

#include <stdlib.h>
#include <string.h>

/* Packs a completed message. */
static void repack(const void *protobuf_message, uint8_t **out, size_t *len)
{
    *len = protobuf_c_message_get_packed_size(protobuf_message);
    *out = xmalloc(*len + 1);
    protobuf_c_message_pack(protobuf_message, *out);
}

/* Fields of these messages are borrowed from the stack or the settings while they are packed, then restored before the message is freed. */
struct completion { uint8_t id[16]; ProtobufCBinaryData old_id; char *old_account; };

static int complete(struct controller *c, struct completion *x, ProtobufCBinaryData *request_id, char **account, const char **why)
{
    x->old_id = *request_id;
    x->old_account = *account;
    if (request_id->len != 0 && request_id->len != 16) {
        *why = "request_id must have 16 bytes";
        return SLUICE_E_INVALID;
    }
    if (request_id->len == 0) {
        env_random(c->o.env, x->id, sizeof x->id);
        *request_id = (ProtobufCBinaryData){.len = 16, .data = x->id};
    }
    if ((*account)[0] == '\0') {
        *account = (char *)c->settings->account;
    }
    if (!account_ok(*account)) {
        *why = "account must be 12 digits";
        return SLUICE_E_INVALID;
    }
    return SLUICE_E_OK;
}

static int check_create(struct controller *c, const Sluice__StreamCreate *m, const char **why)
{
    if (!stream_name_ok(m->name)) {
        *why = "a stream's name has 1 to 128 characters of a-z A-Z 0-9 _ . -";
        return SLUICE_E_INVALID;
    }
    if (m->shards < 1 || m->shards > STREAM_SHARDS_MAX) {
        *why = "shards must be 1 to 10000";
        return SLUICE_E_INVALID;
    }
    if (m->retention_hours != 0 && (m->retention_hours < 24 || m->retention_hours > 8760)) {
        *why = "retention must be 24 to 8760 hours";
        return SLUICE_E_INVALID;
    }
    if (m->replicas > STREAM_REPLICAS_MAX) {
        *why = "at most 5 replicas";
        return SLUICE_E_INVALID;
    }
    (void)c;
    return SLUICE_E_OK;
}

#define NORMALIZE_BEGIN(lower, Type) \
    Sluice__##Type *m = sluice__##lower##__unpack(NULL, len, message); \
    if (m == NULL) { \
        return SLUICE_E_PROTOCOL; \
    }

static int normalize_create(struct controller *c, const void *message, size_t len, uint8_t **out, size_t *out_len, const char **why)
{
    NORMALIZE_BEGIN(stream_create, StreamCreate)
    struct completion x;
    int code = complete(c, &x, &m->request_id, &m->account, why);
    code = code != SLUICE_E_OK ? code : check_create(c, m, why);
    if (code == SLUICE_E_OK) {
        repack(m, out, out_len);
    }
    m->request_id = x.old_id;
    m->account = x.old_account;
    sluice__stream_create__free_unpacked(m, NULL);
    return code;
}

static int normalize_update(struct controller *c, const void *message, size_t len, uint8_t **out, size_t *out_len, const char **why)
{
    NORMALIZE_BEGIN(stream_update, StreamUpdate)
    struct completion x;
    int code = complete(c, &x, &m->request_id, &m->account, why);
    if (code == SLUICE_E_OK && m->retention_hours != 0 && (m->retention_hours < 24 || m->retention_hours > 8760)) {
        *why = "retention must be 24 to 8760 hours";
        code = SLUICE_E_INVALID;
    }
    if (code == SLUICE_E_OK && (unsigned)m->limits > SLUICE__STREAM_UPDATE__LIMITS__OFF) {
        *why = "unknown limits";
        code = SLUICE_E_INVALID;
    }
    if (code == SLUICE_E_OK) {
        repack(m, out, out_len);
    }
    m->request_id = x.old_id;
    m->account = x.old_account;
    sluice__stream_update__free_unpacked(m, NULL);
    return code;
}

static int normalize_reshard(struct controller *c, const void *message, size_t len, uint8_t **out, size_t *out_len, const char **why)
{
    NORMALIZE_BEGIN(stream_reshard, StreamReshard)
    struct completion x;
    int code = complete(c, &x, &m->request_id, &m->account, why);
    if (code == SLUICE_E_OK && (unsigned)m->kind > SLUICE__STREAM_RESHARD__KIND__COUNT) {
        *why = "unknown kind of reshard";
        code = SLUICE_E_INVALID;
    }
    if (code == SLUICE_E_OK && m->hash.len != 0 && m->hash.len != 16) {
        *why = "a hash key has 16 bytes";
        code = SLUICE_E_INVALID;
    }
    if (code == SLUICE_E_OK) {
        repack(m, out, out_len);
    }
    m->request_id = x.old_id;
    m->account = x.old_account;
    sluice__stream_reshard__free_unpacked(m, NULL);
    return code;
}

static int normalize_delete(struct controller *c, const void *message, size_t len, uint8_t **out, size_t *out_len, const char **why)
{
    NORMALIZE_BEGIN(stream_delete, StreamDelete)
    struct completion x;
    int code = complete(c, &x, &m->request_id, &m->account, why);
    if (code == SLUICE_E_OK) {
        repack(m, out, out_len);
    }
    m->request_id = x.old_id;
    m->account = x.old_account;
    sluice__stream_delete__free_unpacked(m, NULL);
    return code;
}

static int normalize_read(struct controller *c, bool list, const void *message, size_t len, uint8_t **out, size_t *out_len)
{
    if (list) {
        NORMALIZE_BEGIN(stream_list, StreamList)
        char *old = m->account;
        m->account = old[0] == '\0' ? (char *)c->settings->account : old;
        repack(m, out, out_len);
        m->account = old;
        sluice__stream_list__free_unpacked(m, NULL);
    } else {
        NORMALIZE_BEGIN(stream_describe, StreamDescribe)
        char *old = m->account;
        m->account = old[0] == '\0' ? (char *)c->settings->account : old;
        repack(m, out, out_len);
        m->account = old;
        sluice__stream_describe__free_unpacked(m, NULL);
    }
    return SLUICE_E_OK;
}

int call_normalize(struct controller *c, uint8_t kind, const void *message, size_t len, uint8_t **out, size_t *out_len, const char **why)
{
    switch (kind) {
    case FRAME_STREAM_CREATE:
        return normalize_create(c, message, len, out, out_len, why);
    case FRAME_STREAM_UPDATE:
        return normalize_update(c, message, len, out, out_len, why);
    case FRAME_STREAM_RESHARD:
        return normalize_reshard(c, message, len, out, out_len, why);
    case FRAME_STREAM_DELETE:
        return normalize_delete(c, message, len, out, out_len, why);
    case FRAME_STREAM_LIST:
    case FRAME_STREAM_DESCRIBE:
        return normalize_read(c, kind == FRAME_STREAM_LIST, message, len, out, out_len);
    case FRAME_CLUSTER_STATUS:
    case FRAME_NODE_CHANGE:
    case FRAME_TRANSFER:
    case FRAME_FORM:
        *out = xmalloc(len + 1);
        if (len > 0) {
            memcpy(*out, message, len);
        }
        *out_len = len;
        return SLUICE_E_OK;
    default:
        return SLUICE_E_NOT_SUPPORTED;
    }
}
