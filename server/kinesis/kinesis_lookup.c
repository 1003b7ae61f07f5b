/* kinesis_lookup.c: what an input names, in the lane's map; and the names of what is there. */
#include <stdio.h>
#include <string.h>

#include "proto/base.h"
#include "server/kinesis/kinesis_impl.h"
#include "server/node_impl.h"

#define TEXT(t) (int)min_u64((t).n, 512), (t).n > 0 ? (t).p : ""

static struct aws_scope scope_of(const struct call *c) { return (struct aws_scope){.region = c->k->lane->node->settings.region, .account = c->account}; }
static struct aws_text text_of(const char *s) { return (struct aws_text){s, strlen(s)}; }

void call_no_stream(struct call *c, struct aws_text name)
{
    call_fail(c, AWS_E_ResourceNotFoundException, "Stream %.*s under account %s not found.", TEXT(name), c->account);
}

static const struct map_stream *find(struct call *c, struct aws_text name)
{
    char text[NAME_MAX_LEN + 1];
    if (name.n > NAME_MAX_LEN) {
        return NULL;
    }
    memcpy(text, name.p, name.n);
    text[name.n] = '\0';
    return cluster_map_stream(c->k->lane->map, c->account, text);
}

static const struct map_stream *find_or_answer(struct call *c, struct aws_text name)
{
    const struct map_stream *s = find(c, name);
    if (s == NULL && !call_refresh(c)) {
        call_no_stream(c, name);
    }
    return s;
}

const struct map_stream *call_stream(struct call *c)
{
    struct aws_scope scope = scope_of(c);
    struct aws_text name;
    const char *message;
    enum aws_error e = aws_stream_of(c->input, &scope, &c->arena, &name, &message);
    if (e != AWS_E_NONE) {
        call_fail_text(c, e, message);
        return NULL;
    }
    return find_or_answer(c, name);
}

const char *stream_status_name(const struct map_stream *s)
{
    static const char *const names[] = {"CREATING", "ACTIVE", "UPDATING", "DELETING"};
    return names[s->status];
}

bool stream_has_data(const struct map_stream *s) { return s->status == STREAM_ACTIVE || s->status == STREAM_UPDATING; }

const struct map_stream *call_data_stream(struct call *c)
{
    const struct map_stream *s = call_stream(c);
    if (s != NULL && !stream_has_data(s)) {
        call_no_stream(c, text_of(s->name));
        return NULL;
    }
    return s;
}

static bool active(struct call *c, const struct map_stream *s)
{
    if (s->status == STREAM_ACTIVE) {
        return true;
    }
    call_fail(c, AWS_E_ResourceInUseException, "Stream %s under account %s not ACTIVE, instead in state %s", s->name, s->account, stream_status_name(s));
    return false;
}

const struct map_stream *call_active_stream(struct call *c)
{
    const struct map_stream *s = call_stream(c);
    return s != NULL && active(c, s) ? s : NULL;
}

const struct map_shard *call_shard(struct call *c, const struct map_stream *s, struct aws_text id)
{
    uint32_t number;
    bool sound = aws_shard_id_parse(id, &number);
    const struct map_shard *shard = sound ? cluster_map_shard(s, number) : NULL;
    if (shard != NULL && !shard->coming) {
        return shard;
    }
    if (call_refresh(c)) {
        return NULL;
    }
    if (!sound || c->op_number == AWS_OP_SplitShard || c->op_number == AWS_OP_MergeShards) {
        call_fail(c, AWS_E_ResourceNotFoundException, "Could not find shard %.*s in stream %s under account %s.", TEXT(id), s->name, s->account);
    } else { /* by its full name, however it was written */
        char text[AWS_SHARD_ID_SIZE];
        aws_shard_id_format(text, number);
        call_fail(c, AWS_E_ResourceNotFoundException, "Shard %s in stream %s under account %s does not exist", text, s->name, s->account);
    }
    return NULL;
}

/* Both of what an ARN of a consumer names. */
static bool consumer_of(struct call *c, const struct aws_arn *arn, const struct map_stream **s, const struct map_consumer **consumer)
{
    *s = find_or_answer(c, arn->stream);
    if (*s == NULL) {
        return false;
    }
    *consumer = cluster_map_consumer(*s, arn->consumer.p, arn->consumer.n);
    /* A consumer's ARN has the second of its creation: one that was made anew under the name is another. */
    if (*consumer == NULL || (arn->consumer_created_s >= 0 && (uint64_t)arn->consumer_created_s != (*consumer)->created_ms / 1000)) {
        if (call_refresh(c)) {
            return false;
        }
        call_fail(c, AWS_E_ResourceNotFoundException, "Consumer %.*s, stream %.*s in account %s not found.", TEXT(arn->consumer), TEXT(arn->stream), c->account);
        return false;
    }
    return true;
}

bool call_consumer(struct call *c, const struct map_stream **s, const struct map_consumer **consumer)
{
    struct aws_scope scope = scope_of(c);
    struct aws_arn arn;
    const char *message;
    enum aws_error e = aws_consumer_of(c->input, &scope, &c->arena, &arn, &message);
    if (e != AWS_E_NONE) {
        call_fail_text(c, e, message);
        return false;
    }
    return consumer_of(c, &arn, s, consumer);
}

bool call_resource(struct call *c, const struct map_stream **s, const struct map_consumer **consumer)
{
    *consumer = NULL;
    if (aws_member(c->input, AWS_M_ResourceARN) == NULL) {
        *s = call_stream(c);
        return *s != NULL;
    }
    struct aws_scope scope = scope_of(c);
    struct aws_arn arn;
    const char *message;
    enum aws_error e = aws_resource_of(c->input, &scope, &c->arena, &arn, &message);
    if (e != AWS_E_NONE) {
        call_fail_text(c, e, message);
        return false;
    }
    if (arn.consumer.p != NULL) {
        return consumer_of(c, &arn, s, consumer);
    }
    *s = find_or_answer(c, arn.stream);
    return *s != NULL;
}

void call_stream_arn(const struct call *c, const struct map_stream *s, char out[AWS_ARN_SIZE])
{
    struct aws_arn arn = {.region = text_of(c->k->lane->node->settings.region), .account = text_of(s->account), .stream = text_of(s->name)};
    arn.region.n = min_u64(arn.region.n, 64);
    aws_arn_format(out, &arn);
}

void call_consumer_arn(const struct call *c, const struct map_stream *s, const struct map_consumer *consumer, char out[AWS_ARN_SIZE])
{
    struct aws_arn arn = {.region = text_of(c->k->lane->node->settings.region), .account = text_of(s->account), .stream = text_of(s->name),
                          .consumer = text_of(consumer->name), .consumer_created_s = (int64_t)(consumer->created_ms / 1000)};
    arn.region.n = min_u64(arn.region.n, 64);
    aws_arn_format(out, &arn);
}

const uint8_t *call_token_key(struct call *c)
{
    const struct cluster_map *m = c->k->lane->map;
    if (!m->has_token_key) {
        call_fail_text(c, AWS_E_ServiceUnavailable, "The cluster is being formed.");
        return NULL;
    }
    return m->token_key;
}

bool call_sequence_parse(struct aws_text text, struct seqno *out)
{
    char decimal[SEQNO_TEXT_MAX];
    if (text.p == NULL || text.n >= sizeof decimal) {
        return false;
    }
    memcpy(decimal, text.p, text.n);
    decimal[text.n] = '\0';
    return seqno_parse(decimal, out);
}

void call_sequence(char text[SEQNO_TEXT_MAX], uint64_t created_s, uint32_t shard, uint64_t offset, uint64_t time_ms)
{
    seqno_format(&(struct seqno){.shard_created_s = created_s, .shard = shard, .offset = offset, .time_s = time_ms / 1000}, text);
}
