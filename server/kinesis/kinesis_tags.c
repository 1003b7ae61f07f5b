/* kinesis_tags.c: tags of streams and consumers, by name or by ARN, and resource policies. */
#include <jansson.h>
#include <stdio.h>
#include <string.h>

#include "proto/base.h"
#include "server/kinesis/kinesis_text.h"

enum { LIST_TAGS_LIMIT = 50 };

/* What the input names, for a change of it. */
static bool resource_of(struct call *c, Sluice__ResourceChange *m)
{
    const struct map_stream *s;
    const struct map_consumer *consumer;
    if (!call_resource(c, &s, &consumer)) {
        return false;
    }
    m->stream = (char *)s->name;
    if (consumer != NULL) {
        m->consumer = (char *)consumer->name;
    }
    return true;
}

static void not_there(struct call *c)
{
    const struct map_stream *s;
    const struct map_consumer *consumer;
    if (call_resource(c, &s, &consumer)) { /* else answered: it vanished meanwhile */
        call_fail(c, AWS_E_ResourceNotFoundException, "Stream %s under account %s not found.", s->name, s->account);
    }
}

/* ---- tags ------------------------------------------------------------------------------------------------------------------------- */

static void tagged(struct call *c, const struct sluice_result *r)
{
    if (r->code == 0) {
        call_reply_empty(c);
    } else if (r->code == SLUICE_E_LIMIT) {
        const struct map_stream *s;
        const struct map_consumer *consumer;
        if (call_resource(c, &s, &consumer)) {
            call_fail(c, AWS_E_InvalidArgumentException, "Failed to add tags to stream %s under account %s because a given stream cannot have more than %d tags associated with it.",
                       s->name, s->account, TAGS_MAX);
        }
    } else if (r->code == SLUICE_E_NOT_FOUND) {
        not_there(c);
    } else {
        call_native_error(c, r->code, r->message, (struct aws_text){NULL, 0});
    }
}

static void add_tags(struct call *c)
{
    Sluice__ResourceChange m = SLUICE__RESOURCE_CHANGE__INIT;
    if (resource_of(c, &m) && call_tags(c, &m.tags, &m.n_tags)) {
        call_native(c, FRAME_RESOURCE_CHANGE, &m.base, tagged);
    }
}

static void remove_tags(struct call *c)
{
    Sluice__ResourceChange m = SLUICE__RESOURCE_CHANGE__INIT;
    if (resource_of(c, &m) && call_tag_keys(c, &m.untag, &m.n_untag)) {
        call_native(c, FRAME_RESOURCE_CHANGE, &m.base, tagged);
    }
}

void kinesis_AddTagsToStream(struct call *c) { add_tags(c); }
void kinesis_TagResource(struct call *c) { add_tags(c); }
void kinesis_RemoveTagsFromStream(struct call *c) { remove_tags(c); }
void kinesis_UntagResource(struct call *c) { remove_tags(c); }

/* Is the key at or before the text? Both by bytes, as the map sorts them. */
static bool at_or_before(const char *key, struct aws_text text)
{
    size_t n = strlen(key);
    int order = memcmp(key, text.p, min_u64(n, text.n));
    return order < 0 || (order == 0 && n <= text.n);
}

void kinesis_ListTagsForStream(struct call *c)
{
    const struct map_stream *s = call_stream(c);
    if (s == NULL) {
        return;
    }
    struct aws_text after = aws_member_text(c->input, AWS_M_ExclusiveStartTagKey);
    unsigned from = 0, limit = (unsigned)aws_member_integer(c->input, AWS_M_Limit, LIST_TAGS_LIMIT);
    while (after.p != NULL && from < s->resource.n_tags && at_or_before(s->resource.tags[from].key, after)) {
        from++;
    }
    unsigned n = (unsigned)min_u64(limit, s->resource.n_tags - from);
    struct aws_writer *w = call_writer(c);
    call_write_tags(w, s->resource.tags + from, n);
    aws_member_write_boolean(w, "HasMoreTags", from + n < s->resource.n_tags);
    call_reply(c);
}

void kinesis_ListTagsForResource(struct call *c)
{
    const struct map_stream *s;
    const struct map_consumer *consumer;
    if (call_resource(c, &s, &consumer)) {
        const struct map_resource *r = consumer != NULL ? &consumer->resource : &s->resource;
        call_write_tags(call_writer(c), r->tags, r->n_tags);
        call_reply(c);
    }
}

/* ---- policies ----------------------------------------------------------------------------------------------------------------------- */

static void policy_changed(struct call *c, const struct sluice_result *r)
{
    if (r->code == 0) {
        call_reply_empty(c);
    } else if (r->code == SLUICE_E_NOT_FOUND && c->op_number == AWS_OP_DeleteResourcePolicy) {
        struct aws_text arn = aws_member_text(c->input, AWS_M_ResourceARN);
        call_fail(c, AWS_E_ResourceNotFoundException, "No resource policy found for resource ARN %.*s.", (int)min_u64(arn.n, AWS_ARN_SIZE), arn.p);
    } else if (r->code == SLUICE_E_NOT_FOUND) {
        not_there(c);
    } else {
        call_native_error(c, r->code, r->message, (struct aws_text){NULL, 0});
    }
}

/* It is kept and given back, and nothing is decided by it: whoever has an access key of the account may do everything. */
void kinesis_PutResourcePolicy(struct call *c)
{
    struct aws_text policy = aws_member_text(c->input, AWS_M_Policy);
    Sluice__ResourceChange m = SLUICE__RESOURCE_CHANGE__INIT;
    if (!resource_of(c, &m)) {
        return;
    }
    if (policy.n > POLICY_BYTES) {
        call_fail(c, AWS_E_InvalidArgumentException, "The policy is longer than %d bytes.", POLICY_BYTES);
        return;
    }
    json_t *json = json_loadb(policy.p != NULL ? policy.p : "", policy.n, 0, NULL);
    bool object = json_is_object(json) && json_object_size(json) > 0;
    json_decref(json);
    if (!object) {
        call_fail_text(c, AWS_E_InvalidArgumentException, "The policy is not a JSON object with members.");
        return;
    }
    m.policy = call_text(c, policy);
    if (m.policy != NULL) {
        call_native(c, FRAME_RESOURCE_CHANGE, &m.base, policy_changed);
    }
}

void kinesis_DeleteResourcePolicy(struct call *c)
{
    Sluice__ResourceChange m = SLUICE__RESOURCE_CHANGE__INIT;
    if (resource_of(c, &m)) {
        m.drop_policy = true;
        call_native(c, FRAME_RESOURCE_CHANGE, &m.base, policy_changed);
    }
}

void kinesis_GetResourcePolicy(struct call *c)
{
    const struct map_stream *s;
    const struct map_consumer *consumer;
    if (call_resource(c, &s, &consumer)) {
        const char *policy = consumer != NULL ? consumer->resource.policy : s->resource.policy;
        aws_member_write_text(call_writer(c), "Policy", policy != NULL ? policy : "{}");
        call_reply(c);
    }
}
