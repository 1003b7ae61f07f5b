/* kinesis_reshard.c: SplitShard, MergeShards, UpdateShardCount. The controller checks the same again; what is found here has AWS's words. */
#include <stdio.h>
#include <string.h>

#include "proto/base.h"
#include "server/kinesis/kinesis_text.h"

enum { SHARDS_OF_STREAM_MAX = 10000 };

static void begun(struct call *c, const struct sluice_result *r)
{
    if (r->code == 0) {
        call_reply_empty(c);
    } else if (r->code == SLUICE_E_TOO_LARGE) {
        call_fail_text(c, AWS_E_LimitExceededException, r->message);
    } else {
        call_changed_error(c, r);
    }
}

static bool open_shard(struct call *c, const struct map_stream *s, const struct map_shard *shard)
{
    if (shard != NULL && shard->closed) {
        char id[AWS_SHARD_ID_SIZE];
        aws_shard_id_format(id, shard->shard);
        call_fail(c, AWS_E_ResourceInUseException, "Shard %s in stream %s under account %s has already been merged or split, and thus is not eligible for merging or splitting.", id,
                   s->name, s->account);
    }
    return shard != NULL && !shard->closed;
}

static bool provisioned(struct call *c, const struct map_stream *s)
{
    if (s->on_demand) {
        call_fail(c, AWS_E_ValidationException, "Request is invalid. Stream %s under account %s is in On-Demand mode.", s->name, s->account);
    }
    return !s->on_demand;
}

void kinesis_SplitShard(struct call *c)
{
    const struct map_stream *s = call_active_stream(c);
    if (s == NULL || !provisioned(c, s)) {
        return;
    }
    const struct map_shard *shard = call_shard(c, s, aws_member_text(c->input, AWS_M_ShardToSplit));
    if (!open_shard(c, s, shard)) {
        return;
    }
    char *key = call_text(c, aws_member_text(c->input, AWS_M_NewStartingHashKey));
    struct hash128 at;
    if (key == NULL) {
        return;
    }
    bool fits = hash_from_decimal(key, &at);
    if (!fits || hash_compare(&at, &shard->first) <= 0 || hash_follows(&shard->first, &at) || hash_compare(&at, &shard->last) >= 0) {
        char first[40], last[40], id[AWS_SHARD_ID_SIZE];
        hash_to_decimal(&shard->first, first);
        hash_to_decimal(&shard->last, last);
        aws_shard_id_format(id, shard->shard);
        call_fail(c, AWS_E_InvalidArgumentException,
                   "NewStartingHashKey %s used in SplitShard() on shard %s in stream %s under account %s is not both greater than one plus the shard's StartingHashKey %s and less "
                   "than the shard's EndingHashKey %s.",
                   key, id, s->name, s->account, first, last);
        return;
    }
    Sluice__StreamReshard m = SLUICE__STREAM_RESHARD__INIT;
    m.name = (char *)s->name;
    m.kind = SLUICE__STREAM_RESHARD__KIND__SPLIT;
    m.shard = shard->shard;
    m.hash = (ProtobufCBinaryData){.len = sizeof at.b, .data = at.b};
    call_native(c, FRAME_STREAM_RESHARD, &m.base, begun);
}

void kinesis_MergeShards(struct call *c)
{
    const struct map_stream *s = call_active_stream(c);
    if (s == NULL || !provisioned(c, s)) {
        return;
    }
    const struct map_shard *lower = call_shard(c, s, aws_member_text(c->input, AWS_M_ShardToMerge));
    const struct map_shard *upper = lower != NULL ? call_shard(c, s, aws_member_text(c->input, AWS_M_AdjacentShardToMerge)) : NULL;
    if (upper == NULL || !open_shard(c, s, lower) || !open_shard(c, s, upper)) {
        return;
    }
    if (!hash_follows(&lower->last, &upper->first)) {
        char a[AWS_SHARD_ID_SIZE], b[AWS_SHARD_ID_SIZE];
        aws_shard_id_format(a, lower->shard);
        aws_shard_id_format(b, upper->shard);
        call_fail(c, AWS_E_InvalidArgumentException, "Shards %s and %s in stream %s under account %s are not an adjacent pair of shards eligible for merging", a, b, s->name,
                   s->account);
        return;
    }
    Sluice__StreamReshard m = SLUICE__STREAM_RESHARD__INIT;
    m.name = (char *)s->name;
    m.kind = SLUICE__STREAM_RESHARD__KIND__MERGE;
    m.shard = lower->shard;
    m.adjacent = upper->shard;
    call_native(c, FRAME_STREAM_RESHARD, &m.base, begun);
}

/* What is told of a change of the number of shards; kept while it is asked for. */
struct count { char name[NAME_MAX_LEN + 1], arn[AWS_ARN_SIZE]; uint32_t now, target; };

static void answer_count(struct call *c, const struct count *n)
{
    struct aws_writer *w = call_writer(c);
    aws_member_write_text(w, "StreamName", n->name);
    aws_member_write_integer(w, "CurrentShardCount", n->now);
    aws_member_write_integer(w, "TargetShardCount", n->target);
    aws_member_write_text(w, "StreamARN", n->arn);
    call_reply(c);
}

static void count_begun(struct call *c, const struct sluice_result *r)
{
    if (r->code == 0) {
        answer_count(c, c->user);
    } else {
        begun(c, r);
    }
}

void kinesis_UpdateShardCount(struct call *c)
{
    const struct map_stream *s = call_active_stream(c);
    if (s == NULL || !provisioned(c, s)) {
        return;
    }
    int64_t target = aws_member_integer(c->input, AWS_M_TargetShardCount, 0), now = s->n_open;
    if (target > 2 * now || 2 * target < now) {
        call_fail(c, AWS_E_LimitExceededException, "UpdateShardCount cannot scale %s your current open shard count. Current open shard count: %lld, Target shard count: %lld",
                   target > now ? "up over double" : "down below half", (long long)now, (long long)target);
        return;
    }
    if (target > SHARDS_OF_STREAM_MAX) {
        call_fail(c, AWS_E_LimitExceededException, "A stream has at most %d shards. Target shard count: %lld", SHARDS_OF_STREAM_MAX, (long long)target);
        return;
    }
    struct count *n = arena_alloc(&c->arena, sizeof *n);
    if (n == NULL) {
        call_fail_text(c, AWS_E_ServiceUnavailable, NULL);
        return;
    }
    memcpy(n->name, s->name, sizeof n->name);
    call_stream_arn(c, s, n->arn);
    n->now = (uint32_t)now;
    n->target = (uint32_t)target;
    c->user = n;
    Sluice__StreamReshard m = SLUICE__STREAM_RESHARD__INIT;
    m.name = (char *)s->name;
    m.kind = SLUICE__STREAM_RESHARD__KIND__COUNT;
    m.target = n->target;
    call_native(c, FRAME_STREAM_RESHARD, &m.base, count_begun);
}
