/* kinesis_shards.c: ListShards, its filters and its NextTokens, which are bound to the listing they belong to. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proto/base.h"
#include "server/kinesis/kinesis_text.h"
#include "server/kinesis/shard_filter.h"

enum { LIST_SHARDS_MAX_RESULTS = 1000 };

/* The filter of the input, or answered. */
static bool filter_of(struct call *c, const struct map_stream *s, struct shard_filter *f)
{
    const struct aws_value *in = aws_member(c->input, AWS_M_ShardFilter);
    struct aws_text type = aws_member_text(in, AWS_M_Type), start = aws_member_text(c->input, AWS_M_ExclusiveStartShardId);
    *f = (struct shard_filter){.kind = SHARDS_ALL};
    memcpy(f->stream, s->id, sizeof f->stream);
    int64_t after = -1;
    if (start.p != NULL && !call_shard_number(c, start, &after)) {
        return false;
    }
    if (type.p != NULL && !shard_filter_kind(type, &f->kind)) {
        call_fail(c, AWS_E_InvalidArgumentException, "ShardFilter.Type %.*s is unknown.", (int)type.n, type.p);
        return false;
    }
    if (f->kind == SHARDS_AT_TIMESTAMP || f->kind == SHARDS_FROM_TIMESTAMP) {
        if (aws_member(in, AWS_M_Timestamp) == NULL) {
            call_fail(c, AWS_E_InvalidArgumentException, "ShardFilter of type %.*s needs a Timestamp.", (int)type.n, type.p);
            return false;
        }
        int64_t at = aws_member_integer(in, AWS_M_Timestamp, 0);
        f->time_ms = at > 0 ? (uint64_t)at : 0;
    } else if (f->kind == SHARDS_AFTER_SHARD_ID) {
        struct aws_text id = aws_member_text(in, AWS_M_ShardId);
        int64_t behind;
        if (id.p == NULL) {
            call_fail_text(c, AWS_E_InvalidArgumentException, "ShardFilter of type AFTER_SHARD_ID needs a ShardId.");
            return false;
        }
        if (!call_shard_number(c, id, &behind)) {
            return false;
        }
        after = after > behind ? after : behind;
        f->kind = SHARDS_ALL;
    }
    f->next = (uint32_t)(after + 1);
    return true;
}

/* Of a listing that goes on. */
static const struct map_stream *go_on(struct call *c, struct aws_text token, struct shard_filter *f)
{
    uint8_t cursor[AWS_CURSOR_MAX];
    size_t n;
    if (!call_token_open(c, token, cursor, &n)) {
        return NULL;
    }
    const struct map_stream *s = shard_filter_unpack(f, cursor, n) ? cluster_map_stream_by_id(c->k->lane->map, f->stream) : NULL;
    if (s == NULL || strcmp(s->account, c->account) != 0) {
        call_fail_text(c, AWS_E_ResourceNotFoundException, "The stream of this NextToken is not there any more.");
        return NULL;
    }
    return s;
}

/* Which stream of the name is meant, if there were several one after another. */
bool call_creation_agrees(struct call *c, const struct map_stream *s)
{
    const struct aws_value *v = aws_member(c->input, AWS_M_StreamCreationTimestamp);
    if (v == NULL || v->integer / 1000 == (int64_t)(s->created_ms / 1000)) {
        return true;
    }
    call_fail(c, AWS_E_ResourceNotFoundException, "Stream %s under account %s of that creation time not found.", s->name, s->account);
    return false;
}

static const struct map_stream *begin(struct call *c, struct shard_filter *f)
{
    const struct map_stream *s = call_stream(c);
    return s != NULL && call_creation_agrees(c, s) && filter_of(c, s, f) ? s : NULL;
}

void kinesis_ListShards(struct call *c)
{
    const struct aws_value *in = c->input;
    struct aws_text token = aws_member_text(in, AWS_M_NextToken);
    bool named = aws_member(in, AWS_M_StreamName) != NULL || aws_member(in, AWS_M_StreamARN) != NULL;
    if (token.p == NULL && !named) {
        call_fail_text(c, AWS_E_InvalidArgumentException, "Either NextToken or StreamName should be provided.");
        return;
    }
    if (token.p != NULL && named) {
        call_fail_text(c, AWS_E_InvalidArgumentException, "NextToken and StreamName cannot be provided together.");
        return;
    }
    if (token.p != NULL && (aws_member(in, AWS_M_StreamCreationTimestamp) != NULL || aws_member(in, AWS_M_ExclusiveStartShardId) != NULL || aws_member(in, AWS_M_ShardFilter) != NULL)) {
        call_fail_text(c, AWS_E_InvalidArgumentException, "NextToken cannot be provided together with ExclusiveStartShardId, StreamCreationTimestamp or ShardFilter.");
        return;
    }
    struct shard_filter f;
    const struct map_stream *s = token.p != NULL ? go_on(c, token, &f) : begin(c, &f);
    if (s == NULL) {
        return;
    }
    uint64_t now_ms = env_wall_ms(c->k->env);
    int64_t left = aws_member_integer(in, AWS_M_MaxResults, LIST_SHARDS_MAX_RESULTS);
    struct aws_writer *w = call_writer(c);
    aws_write_key(w, "Shards");
    aws_write_list(w);
    bool more = false;
    for (unsigned i = 0; i < s->n_shards && !more; i++) {
        const struct map_shard *shard = &s->shards[i];
        if (!shard_filter_takes(&f, s, shard, now_ms)) {
            continue;
        }
        more = left == 0;
        if (!more) {
            call_write_shard(w, shard);
            left--;
            f.next = shard->shard + 1;
        }
    }
    aws_write_list_end(w);
    if (more) {
        uint8_t cursor[SHARD_FILTER_BYTES];
        char next[AWS_NEXT_TOKEN_SIZE];
        shard_filter_pack(&f, cursor);
        if (!call_token_seal(c, cursor, sizeof cursor, next)) {
            return;
        }
        aws_member_write_text(w, "NextToken", next);
    }
    call_reply(c);
}
