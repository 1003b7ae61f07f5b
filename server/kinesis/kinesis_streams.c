/* kinesis_streams.c: streams made, described, listed and deleted. */
#include <stdio.h>
#include <string.h>

#include "proto/base.h"
#include "server/kinesis/kinesis_impl.h"
#include "server/kinesis/kinesis_text.h"
#include "server/node_impl.h"

enum { ON_DEMAND_SHARDS = 4, DESCRIBE_LIMIT = 100, LIST_LIMIT = 100 };

static const char *mode_name(const struct map_stream *s) { return s->on_demand ? "ON_DEMAND" : "PROVISIONED"; }

static void write_mode(struct aws_writer *w, const struct map_stream *s)
{
    aws_write_key(w, "StreamModeDetails");
    aws_write_object(w);
    aws_member_write_text(w, "StreamMode", mode_name(s));
    aws_write_object_end(w);
}

/* ---- making and deleting ---------------------------------------------------------------------------------------------------- */

static void created(struct call *c, const struct sluice_result *r)
{
    struct aws_text name = aws_member_text(c->input, AWS_M_StreamName);
    if (r->code == SLUICE_E_EXISTS) {
        call_fail(c, AWS_E_ResourceInUseException, "Stream %.*s under account %s already exists.", (int)name.n, name.p, c->account);
    } else {
        call_native_empty(c, r);
    }
}

void kinesis_CreateStream(struct call *c)
{
    const struct aws_value *in = c->input, *mode = aws_member(in, AWS_M_StreamModeDetails);
    bool on_demand = aws_text_is(aws_member_text(mode, AWS_M_StreamMode), "ON_DEMAND");
    int64_t shards = aws_member_integer(in, AWS_M_ShardCount, ON_DEMAND_SHARDS), warm = aws_member_integer(in, AWS_M_WarmThroughputMiBps, 0);
    if (on_demand && aws_member(in, AWS_M_ShardCount) != NULL) {
        call_fail_text(c, AWS_E_InvalidArgumentException, "ShardCount must not be given for a stream in mode ON_DEMAND.");
        return;
    }
    if (aws_text_is(aws_member_text(in, AWS_M_RecordDistributionStrategy), "AUTO")) {
        call_fail_text(c, AWS_E_InvalidArgumentException, "RecordDistributionStrategy AUTO is not supported: records are distributed by their partition keys.");
        return;
    }
    if (shards > ACCOUNT_SHARD_LIMIT) {
        call_fail(c, AWS_E_LimitExceededException,
                   "This request would exceed the shard limit for the account %s in %s. Current shard count for the account: %llu. Limit: %d. Number of additional shards that would have "
                   "resulted from this request: %lld. Refer to the AWS Service Limits page (https://docs.aws.amazon.com/general/latest/gr/aws_service_limits.html) for current "
                   "limits and how to request higher limits.",
                   c->account, c->k->lane->node->settings.region, account_open_shards(c), ACCOUNT_SHARD_LIMIT, (long long)shards);
        return;
    }
    Sluice__StreamCreate m = SLUICE__STREAM_CREATE__INIT;
    m.name = call_text(c, aws_member_text(in, AWS_M_StreamName));
    m.shards = (uint32_t)shards;
    m.on_demand = on_demand;
    m.record_max = (uint32_t)aws_member_integer(in, AWS_M_MaxRecordSizeInKiB, 0) * 1024;
    m.warm_mibps = (uint32_t)min_u64((uint64_t)warm, UINT32_MAX);
    if (m.name == NULL || !call_tags(c, &m.tags, &m.n_tags)) {
        return;
    }
    call_native(c, FRAME_STREAM_CREATE, &m.base, created);
}

static void deleted(struct call *c, const struct sluice_result *r)
{
    if (r->code == SLUICE_E_NOT_FOUND) {
        call_reply_empty(c); /* it was there when the call came: another deleted it meanwhile */
    } else {
        call_native_empty(c, r);
    }
}

void kinesis_DeleteStream(struct call *c)
{
    const struct map_stream *s = call_stream(c);
    if (s == NULL) {
        return;
    }
    bool enforced = aws_member_boolean(c->input, AWS_M_EnforceConsumerDeletion, false);
    if (s->n_consumers > 0 && !enforced) {
        call_fail(c, AWS_E_ResourceInUseException, "Stream %s under account %s has %u registered consumers; deregister them, or set EnforceConsumerDeletion.", s->name,
                   s->account, s->n_consumers);
        return;
    }
    if (s->status == STREAM_DELETING) {
        call_fail(c, AWS_E_ResourceInUseException, "Stream %s under account %s not ACTIVE, instead in state DELETING", s->name, s->account);
        return;
    }
    Sluice__StreamDelete m = SLUICE__STREAM_DELETE__INIT;
    m.name = (char *)s->name;
    m.keep_if_consumers = !enforced; /* one may be registered meanwhile */
    call_native(c, FRAME_STREAM_DELETE, &m.base, deleted);
}

/* ---- describing ---------------------------------------------------------------------------------------------------------------- */

static void write_common(struct call *c, struct aws_writer *w, const struct map_stream *s)
{
    char arn[AWS_ARN_SIZE];
    call_stream_arn(c, s, arn);
    aws_member_write_text(w, "StreamName", s->name);
    aws_member_write_text(w, "StreamARN", arn);
    aws_member_write_text(w, "StreamStatus", stream_status_name(s));
    write_mode(w, s);
    aws_member_write_integer(w, "RetentionPeriodHours", s->settings.retention_hours);
    aws_member_write_time(w, "StreamCreationTimestamp", (int64_t)(s->created_ms / 1000 * 1000));
    aws_write_key(w, "EnhancedMonitoring");
    aws_write_list(w);
    aws_write_object(w);
    call_write_metrics(w, "ShardLevelMetrics", s->metrics);
    aws_write_object_end(w);
    aws_write_list_end(w);
    aws_member_write_text(w, "EncryptionType", "NONE");
}

void kinesis_DescribeStreamSummary(struct call *c)
{
    const struct map_stream *s = call_stream(c);
    if (s == NULL) {
        return;
    }
    struct aws_writer *w = call_writer(c);
    aws_write_key(w, "StreamDescriptionSummary");
    aws_write_object(w);
    write_common(c, w, s);
    aws_member_write_integer(w, "OpenShardCount", s->n_open);
    aws_member_write_integer(w, "ConsumerCount", s->n_consumers);
    aws_member_write_integer(w, "MaxRecordSizeInKiB", s->settings.record_max / 1024);
    if (s->warm_mibps > 0) {
        call_write_warm(w, s);
    }
    aws_write_object_end(w);
    call_reply(c);
}

void kinesis_DescribeStream(struct call *c)
{
    const struct map_stream *s = call_stream(c);
    if (s == NULL) {
        return;
    }
    struct aws_text after = aws_member_text(c->input, AWS_M_ExclusiveStartShardId);
    int64_t from = -1;
    if (after.p != NULL && !call_shard_number(c, after, &from)) {
        return;
    }
    struct aws_writer *w = call_writer(c);
    aws_write_key(w, "StreamDescription");
    aws_write_object(w);
    write_common(c, w, s);
    aws_write_key(w, "Shards");
    aws_write_list(w);
    int64_t limit = aws_member_integer(c->input, AWS_M_Limit, DESCRIBE_LIMIT), n = 0;
    bool more = false;
    for (unsigned i = 0; i < s->n_shards && !more; i++) {
        const struct map_shard *shard = &s->shards[i];
        if (shard->coming || (int64_t)shard->shard <= from) {
            continue;
        }
        more = n == limit;
        if (!more) {
            call_write_shard(w, shard);
            n++;
        }
    }
    aws_write_list_end(w);
    aws_member_write_boolean(w, "HasMoreShards", more);
    aws_write_object_end(w);
    call_reply(c);
}

/* ---- listing ---------------------------------------------------------------------------------------------------------------------- */

static void write_summary(struct call *c, struct aws_writer *w, const struct map_stream *s)
{
    char arn[AWS_ARN_SIZE];
    call_stream_arn(c, s, arn);
    aws_write_object(w);
    aws_member_write_text(w, "StreamName", s->name);
    aws_member_write_text(w, "StreamARN", arn);
    aws_member_write_text(w, "StreamStatus", stream_status_name(s));
    write_mode(w, s);
    aws_member_write_time(w, "StreamCreationTimestamp", (int64_t)(s->created_ms / 1000 * 1000));
    aws_write_object_end(w);
}

/* The first stream of the account behind that name. */
static unsigned first_after(const struct cluster_map *m, const char *account, const char *name)
{
    unsigned low = 0, high = m->n_streams;
    while (low < high) {
        unsigned middle = low + (high - low) / 2;
        int order = strcmp(m->streams[middle].account, account);
        order = order != 0 ? order : strcmp(m->streams[middle].name, name);
        if (order <= 0) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

void kinesis_ListStreams(struct call *c)
{
    struct aws_text start = aws_member_text(c->input, AWS_M_ExclusiveStartStreamName), token = aws_member_text(c->input, AWS_M_NextToken);
    char after[NAME_MAX_LEN + 1] = "";
    if (token.p != NULL) {
        uint8_t cursor[AWS_CURSOR_MAX];
        size_t n;
        if (!call_token_open(c, token, cursor, &n)) {
            return;
        }
        memcpy(after, cursor, min_u64(n, NAME_MAX_LEN));
    } else if (start.p != NULL) {
        memcpy(after, start.p, min_u64(start.n, NAME_MAX_LEN));
    }
    const struct cluster_map *m = c->k->lane->map;
    int64_t limit = aws_member_integer(c->input, AWS_M_Limit, LIST_LIMIT);
    unsigned from = first_after(m, c->account, after), end = from;
    while (end < m->n_streams && strcmp(m->streams[end].account, c->account) == 0 && (int64_t)(end - from) < limit) {
        end++;
    }
    bool more = end < m->n_streams && strcmp(m->streams[end].account, c->account) == 0;
    char next[AWS_NEXT_TOKEN_SIZE];
    if (more && !call_token_seal(c, m->streams[end - 1].name, strlen(m->streams[end - 1].name), next)) {
        return;
    }
    struct aws_writer *w = call_writer(c);
    aws_write_key(w, "StreamNames");
    aws_write_list(w);
    for (unsigned i = from; i < end; i++) {
        aws_write_text(w, m->streams[i].name, strlen(m->streams[i].name));
    }
    aws_write_list_end(w);
    aws_member_write_boolean(w, "HasMoreStreams", more);
    aws_member_write_text(w, "NextToken", more ? next : NULL);
    aws_write_key(w, "StreamSummaries");
    aws_write_list(w);
    for (unsigned i = from; i < end; i++) {
        write_summary(c, w, &m->streams[i]);
    }
    aws_write_list_end(w);
    call_reply(c);
}
