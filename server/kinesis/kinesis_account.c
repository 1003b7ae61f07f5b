/* kinesis_account.c: limits and settings of an account; channels, which there are none of. */
#include <stdio.h>
#include <string.h>

#include "proto/base.h"
#include "server/kinesis/kinesis_text.h"

enum { ON_DEMAND_STREAM_LIMIT = 50 };

/* ---- limits --------------------------------------------------------------------------------------------------------------------- */

static bool counts(const struct call *c, const struct map_stream *s) { return strcmp(s->account, c->account) == 0 && s->status != STREAM_DELETING; }

unsigned long long account_open_shards(const struct call *c)
{
    const struct cluster_map *m = c->k->lane->map;
    unsigned long long open = 0;
    for (unsigned i = 0; i < m->n_streams; i++) {
        open += counts(c, &m->streams[i]) && !m->streams[i].on_demand ? m->streams[i].n_open : 0;
    }
    return open;
}

/* The limits are AWS's usual ones, told for clients that plan with them; here the cluster's own bounds count (README.md). */
void kinesis_DescribeLimits(struct call *c)
{
    const struct cluster_map *m = c->k->lane->map;
    uint64_t open = account_open_shards(c), on_demand = 0;
    for (unsigned i = 0; i < m->n_streams; i++) {
        on_demand += counts(c, &m->streams[i]) && m->streams[i].on_demand;
    }
    struct aws_writer *w = call_writer(c);
    aws_member_write_integer(w, "ShardLimit", (int64_t)max_u64(ACCOUNT_SHARD_LIMIT, open));
    aws_member_write_integer(w, "OpenShardCount", (int64_t)open);
    aws_member_write_integer(w, "OnDemandStreamCount", (int64_t)on_demand);
    aws_member_write_integer(w, "OnDemandStreamCountLimit", (int64_t)max_u64(ON_DEMAND_STREAM_LIMIT, on_demand));
    call_reply(c);
}

/* ---- settings -------------------------------------------------------------------------------------------------------------------- */

enum { COMMITMENT_ON = 1, COMMITMENT_OFF = 2 };

static void answer_commitment(struct call *c, uint32_t commitment, uint64_t since_ms)
{
    struct aws_writer *w = call_writer(c);
    aws_write_key(w, "MinimumThroughputBillingCommitment");
    aws_write_object(w);
    aws_member_write_text(w, "Status", commitment == COMMITMENT_ON ? "ENABLED" : "DISABLED");
    if (commitment != 0) {
        aws_member_write_time(w, commitment == COMMITMENT_ON ? "StartedAt" : "EndedAt", (int64_t)(since_ms / 1000 * 1000));
    }
    aws_write_object_end(w);
    call_reply(c);
}

void kinesis_DescribeAccountSettings(struct call *c)
{
    const struct cluster_map *m = c->k->lane->map;
    for (unsigned i = 0; i < m->n_accounts; i++) {
        if (strcmp(m->accounts[i].account, c->account) == 0) {
            answer_commitment(c, m->accounts[i].commitment, m->accounts[i].since_ms);
            return;
        }
    }
    answer_commitment(c, 0, 0);
}

static void settings_changed(struct call *c, const struct sluice_result *r)
{
    if (r->code != 0) {
        call_native_error(c, r->code, r->message, (struct aws_text){NULL, 0});
        return;
    }
    const Sluice__AccountReply *reply = (const Sluice__AccountReply *)r->reply;
    answer_commitment(c, reply->commitment, reply->commitment_since_ms);
}

void kinesis_UpdateAccountSettings(struct call *c)
{
    const struct aws_value *in = aws_member(c->input, AWS_M_MinimumThroughputBillingCommitment);
    Sluice__AccountChange m = SLUICE__ACCOUNT_CHANGE__INIT;
    m.commitment = aws_text_is(aws_member_text(in, AWS_M_Status), "ENABLED") ? COMMITMENT_ON : COMMITMENT_OFF;
    call_native(c, FRAME_ACCOUNT, &m.base, settings_changed);
}

/* ---- channels ---------------------------------------------------------------------------------------------------------------------- */

void kinesis_CreateChannel(struct call *c)
{
    call_fail_text(c, AWS_E_InvalidArgumentException, "Channels are not supported: there is no S3 here that they could deliver to.");
}

static void no_channel(struct call *c)
{
    struct aws_text arn = aws_member_text(c->input, AWS_M_ChannelARN);
    call_fail(c, AWS_E_ResourceNotFoundException, "Channel %.*s under account %s not found.", (int)min_u64(arn.n, 512), arn.p, c->account);
}

void kinesis_DeleteChannel(struct call *c) { no_channel(c); }
void kinesis_DescribeChannel(struct call *c) { no_channel(c); }
void kinesis_UpdateChannel(struct call *c) { no_channel(c); }

void kinesis_ListChannels(struct call *c)
{
    struct aws_writer *w = call_writer(c);
    aws_write_key(w, "ChannelSummaries");
    aws_write_list(w);
    aws_write_list_end(w);
    call_reply(c);
}
