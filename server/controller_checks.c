/* Checks and defaults of control requests, on the node that has the client: what is passed on is complete (request id, account). */
#include "server/controller_impl.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "server/tag_text.h"

/* ---- checks: 0, or a code with *why ---- */

static int invalid(const char **why, const char *text)
{
    *why = text;
    return SLUICE_E_INVALID;
}

static int check_record_max(uint32_t bytes, const char **why)
{
    bool ok = bytes == 0 || (bytes >= RECORD_MAX_LEAST && bytes <= RECORD_MAX_MOST);
    return ok ? SLUICE_E_OK : invalid(why, "the largest record must be 1 MiB to 10 MiB");
}

static bool retention_ok(uint32_t hours) { return hours == 0 || (hours >= 24 && hours <= 8760); }

static int check_tags(Sluice__Tag *const *tags, size_t n, const char **why)
{
    if (n > TAGS_MAX) {
        *why = "a stream or consumer has at most 50 tags";
        return SLUICE_E_LIMIT;
    }
    for (size_t i = 0; i < n; i++) {
        if (tags[i]->key[0] == '\0' || strncasecmp(tags[i]->key, "aws:", 4) == 0) {
            return invalid(why, "a tag's key has 1 to 128 characters and does not begin with aws:");
        }
        if (!tag_key_ok(tags[i]->key) || !tag_value_ok(tags[i]->value)) {
            return invalid(why, "Some tags contain invalid characters. Valid characters: Unicode letters, digits, white space, _ . / = + - % @.");
        }
        for (size_t k = 0; k < i; k++) {
            if (strcmp(tags[k]->key, tags[i]->key) == 0) {
                return invalid(why, "a tag's key is given twice");
            }
        }
    }
    return SLUICE_E_OK;
}

static int check_create(struct call *call, void *message, const char **why)
{
    Sluice__StreamCreate *m = message;
    if (m->record_max != 0 || m->n_tags != 0 || m->warm_mibps != 0) {
        call->level = 2;
    }
    if (m->on_demand && m->shards == 0) {
        m->shards = ON_DEMAND_SHARDS;
    }
    if (!stream_name_ok(m->name)) {
        return invalid(why, "a stream's name has 1 to 128 characters of a-z A-Z 0-9 _ . -");
    }
    if (m->shards < 1 || m->shards > STREAM_SHARDS_MAX) {
        return invalid(why, "shards must be 1 to 10000");
    }
    if (!retention_ok(m->retention_hours)) {
        return invalid(why, "retention must be 24 to 8760 hours");
    }
    if (m->replicas > STREAM_REPLICAS_MAX) {
        return invalid(why, "at most 5 replicas");
    }
    int code = check_record_max(m->record_max, why);
    return code != SLUICE_E_OK ? code : check_tags(m->tags, m->n_tags, why);
}

static int check_update(struct call *call, void *message, const char **why)
{
    const Sluice__StreamUpdate *m = message;
    if (m->record_max != 0 || m->mode != 0 || m->metrics_on != 0 || m->metrics_off != 0 || m->warm || m->retention != 0) {
        call->level = 2;
    }
    if (!retention_ok(m->retention_hours)) {
        return invalid(why, "retention must be 24 to 8760 hours");
    }
    if ((unsigned)m->limits > SLUICE__STREAM_UPDATE__LIMITS__OFF || (unsigned)m->mode > SLUICE__STREAM_UPDATE__MODE__ON_DEMAND
        || (unsigned)m->retention > SLUICE__STREAM_UPDATE__RETENTION__DOWN) {
        return invalid(why, "unknown limits, mode or way of the retention");
    }
    if (((m->metrics_on | m->metrics_off) & ~(uint32_t)METRICS_ALL) != 0) {
        return invalid(why, "unknown metrics");
    }
    return check_record_max(m->record_max, why);
}

static int check_reshard(struct call *call, void *message, const char **why)
{
    (void)call;
    const Sluice__StreamReshard *m = message;
    if ((unsigned)m->kind > SLUICE__STREAM_RESHARD__KIND__COUNT) {
        return invalid(why, "unknown kind of reshard");
    }
    return m->hash.len != 0 && m->hash.len != 16 ? invalid(why, "a hash key has 16 bytes") : SLUICE_E_OK;
}

static int check_register(struct call *call, void *message, const char **why)
{
    const Sluice__ConsumerRegister *m = message;
    call->level = 2;
    return stream_name_ok(m->name) ? check_tags(m->tags, m->n_tags, why) : invalid(why, "a consumer's name has 1 to 128 characters of a-z A-Z 0-9 _ . -");
}

static int check_remove(struct call *call, void *message, const char **why)
{
    const Sluice__ConsumerRemove *m = message;
    call->level = 2;
    return m->name[0] == '\0' && m->id == 0 ? invalid(why, "a consumer's name or id is needed") : SLUICE_E_OK;
}

static int check_resource(struct call *call, void *message, const char **why)
{
    const Sluice__ResourceChange *m = message;
    bool policy = m->policy[0] != '\0';
    call->level = 2;
    if (m->n_tags == 0 && m->n_untag == 0 && !policy && !m->drop_policy) {
        return invalid(why, "nothing to change");
    }
    if (policy && (m->drop_policy || !policy_ok(m->policy))) {
        return invalid(why, m->drop_policy ? "a policy is either set or dropped" : "a policy is a JSON object of at most 20 KiB");
    }
    if (m->n_untag > TAGS_MAX) {
        return invalid(why, "at most 50 tags can be taken away at once");
    }
    for (size_t i = 0; i < m->n_untag; i++) {
        if (m->untag[i][0] == '\0' || strlen(m->untag[i]) > TAG_KEY_BYTES) {
            return invalid(why, "a tag's key has 1 to 128 characters");
        }
    }
    return check_tags(m->tags, m->n_tags, why);
}

static int check_account(struct call *call, void *message, const char **why)
{
    const Sluice__AccountChange *m = message;
    call->level = 2;
    call->read = m->commitment == 0;
    return m->commitment > 2 ? invalid(why, "a commitment is 1 (on) or 2 (off)") : SLUICE_E_OK;
}

/* ---- the kinds ---- */

struct normal_kind {
    uint8_t kind;
    const ProtobufCMessageDescriptor *message; /* NULL: taken as it is, what it says is the leader's to judge */
    bool read;
    int (*check)(struct call *call, void *message, const char **why); /* may complete the message, too; NULL: nothing to check */
};

static const struct normal_kind *find_kind(uint8_t kind)
{
    static const struct normal_kind kinds[] = {
        {FRAME_STREAM_CREATE, &sluice__stream_create__descriptor, false, check_create},
        {FRAME_STREAM_UPDATE, &sluice__stream_update__descriptor, false, check_update},
        {FRAME_STREAM_RESHARD, &sluice__stream_reshard__descriptor, false, check_reshard},
        {FRAME_STREAM_DELETE, &sluice__stream_delete__descriptor, false, NULL},
        {FRAME_STREAM_LIST, &sluice__stream_list__descriptor, true, NULL},
        {FRAME_STREAM_DESCRIBE, &sluice__stream_describe__descriptor, true, NULL},
        {FRAME_CONSUMER_REGISTER, &sluice__consumer_register__descriptor, false, check_register},
        {FRAME_CONSUMER_REMOVE, &sluice__consumer_remove__descriptor, false, check_remove},
        {FRAME_CONSUMER_LIST, &sluice__consumer_list__descriptor, true, NULL},
        {FRAME_RESOURCE_CHANGE, &sluice__resource_change__descriptor, false, check_resource},
        {FRAME_RESOURCE_GET, &sluice__resource_get__descriptor, true, NULL},
        {FRAME_ACCOUNT, &sluice__account_change__descriptor, false, check_account},
        {FRAME_CLUSTER_STATUS, NULL, true, NULL},
        {FRAME_NODE_CHANGE, NULL, false, NULL},
        {FRAME_TRANSFER, NULL, false, NULL},
        {FRAME_FORM, NULL, false, NULL},
    };
    for (size_t i = 0; i < ARRAY_LEN(kinds); i++) {
        if (kinds[i].kind == kind) {
            return &kinds[i];
        }
    }
    return NULL;
}

/* The member of a message, or NULL. */
static void *member(ProtobufCMessage *m, const char *name)
{
    const ProtobufCFieldDescriptor *f = protobuf_c_message_descriptor_get_field_by_name(m->descriptor, name);
    return f != NULL ? (char *)m + f->offset : NULL;
}

int call_normalize(struct call *call, const void *message, size_t len, const char **why)
{
    const struct normal_kind *k = find_kind(call->kind);
    if (k == NULL) {
        return SLUICE_E_NOT_SUPPORTED;
    }
    call->read = k->read;
    call->level = FEATURE_LEVEL_FIRST;
    if (k->message == NULL) {
        call->message = xmalloc(len + 1);
        memcpy(call->message, len > 0 ? message : "", len);
        call->len = len;
        return SLUICE_E_OK;
    }
    ProtobufCMessage *m = protobuf_c_message_unpack(k->message, NULL, len, message);
    if (m == NULL) {
        return SLUICE_E_PROTOCOL;
    }
    /* What is filled in is borrowed while the message is packed; what was there comes back before it is freed. */
    uint8_t random[16];
    ProtobufCBinaryData *id = member(m, "request_id");
    char **account = member(m, "account");
    sluice_assert(account != NULL); /* every message of the table has one */
    ProtobufCBinaryData old_id = id != NULL ? *id : (ProtobufCBinaryData){0};
    char *old_account = *account;
    int code = id != NULL && id->len != 0 && id->len != 16 ? invalid(why, "request_id must have 16 bytes") : SLUICE_E_OK;
    if (id != NULL && id->len == 0) {
        env_random(call->c->o.env, random, sizeof random);
        *id = (ProtobufCBinaryData){.len = sizeof random, .data = random};
    }
    if ((*account)[0] == '\0') {
        *account = (char *)call->c->settings->account;
    }
    if (code == SLUICE_E_OK && id != NULL && !account_ok(*account)) {
        code = invalid(why, "account must be 12 digits");
    }
    code = code == SLUICE_E_OK && k->check != NULL ? k->check(call, m, why) : code;
    if (code == SLUICE_E_OK) {
        call->len = protobuf_c_message_get_packed_size(m);
        call->message = xmalloc(call->len + 1);
        protobuf_c_message_pack(m, call->message);
    }
    if (id != NULL) {
        *id = old_id;
    }
    *account = old_account;
    protobuf_c_message_free_unpacked(m, NULL);
    return code;
}
