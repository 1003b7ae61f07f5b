/* kinesis_settings.c: what can be changed of a stream: retention, mode, size of records, warm throughput, shard-level metrics; encryption, which there is not. */
#include <stdio.h>
#include <string.h>

#include "proto/base.h"
#include "server/kinesis/kinesis_text.h"

enum { RETENTION_MIN_H = 24, RETENTION_MAX_H = 8760 };

static void changed(struct call *c, const struct sluice_result *r)
{
    if (r->code != 0) {
        call_changed_error(c, r);
    } else {
        call_reply_empty(c);
    }
}

static void update(struct call *c, const struct map_stream *s, Sluice__StreamUpdate *m, void (*done)(struct call *c, const struct sluice_result *r))
{
    m->name = (char *)s->name;
    call_native(c, FRAME_STREAM_UPDATE, &m->base, done);
}

/* ---- retention ------------------------------------------------------------------------------------------------------------------ */

static void change_retention(struct call *c, bool up)
{
    const struct map_stream *s = call_active_stream(c);
    if (s == NULL) {
        return;
    }
    long long hours = aws_member_integer(c->input, AWS_M_RetentionPeriodHours, 0), now = s->settings.retention_hours;
    if (hours < RETENTION_MIN_H || hours > RETENTION_MAX_H) {
        bool low = hours < RETENTION_MIN_H;
        call_fail(c, AWS_E_InvalidArgumentException, "%s allowed retention period is %d hours. Requested retention period (%lld hours) is too %s.", low ? "Minimum" : "Maximum",
                   low ? RETENTION_MIN_H : RETENTION_MAX_H, hours, low ? "short" : "long");
        return;
    }
    if (up ? hours < now : hours > now) {
        call_fail(c, AWS_E_InvalidArgumentException,
                   "Requested retention period (%lld hours) for stream %s can not be %s than existing retention period (%lld hours). Use %sRetentionPeriod API.", hours, s->name,
                   up ? "shorter" : "longer", now, up ? "Decrease" : "Increase");
        return;
    }
    Sluice__StreamUpdate m = SLUICE__STREAM_UPDATE__INIT;
    m.retention_hours = (uint32_t)hours;
    m.retention = up ? SLUICE__STREAM_UPDATE__RETENTION__UP : SLUICE__STREAM_UPDATE__RETENTION__DOWN;
    update(c, s, &m, changed);
}

void kinesis_IncreaseStreamRetentionPeriod(struct call *c) { change_retention(c, true); }
void kinesis_DecreaseStreamRetentionPeriod(struct call *c) { change_retention(c, false); }

/* ---- mode, size of records, warm throughput ---------------------------------------------------------------------------------------- */

static uint32_t warm_of(const struct call *c) { return (uint32_t)min_u64((uint64_t)aws_member_integer(c->input, AWS_M_WarmThroughputMiBps, 0), UINT32_MAX); }

void kinesis_UpdateStreamMode(struct call *c)
{
    const struct map_stream *s = call_active_stream(c);
    if (s == NULL) {
        return;
    }
    bool on_demand = aws_text_is(aws_member_text(aws_member(c->input, AWS_M_StreamModeDetails), AWS_M_StreamMode), "ON_DEMAND");
    Sluice__StreamUpdate m = SLUICE__STREAM_UPDATE__INIT;
    m.mode = on_demand ? SLUICE__STREAM_UPDATE__MODE__ON_DEMAND : SLUICE__STREAM_UPDATE__MODE__PROVISIONED;
    m.warm = aws_member(c->input, AWS_M_WarmThroughputMiBps) != NULL;
    m.warm_mibps = warm_of(c);
    if (m.warm && !on_demand) {
        call_fail_text(c, AWS_E_InvalidArgumentException, "WarmThroughputMiBps is for streams in mode ON_DEMAND.");
        return;
    }
    update(c, s, &m, changed);
}

void kinesis_UpdateMaxRecordSize(struct call *c)
{
    const struct map_stream *s = call_active_stream(c);
    if (s == NULL) {
        return;
    }
    Sluice__StreamUpdate m = SLUICE__STREAM_UPDATE__INIT;
    m.record_max = (uint32_t)aws_member_integer(c->input, AWS_M_MaxRecordSizeInKiB, 0) * 1024;
    update(c, s, &m, changed);
}

static void warmed(struct call *c, const struct sluice_result *r)
{
    if (r->code != 0) {
        call_changed_error(c, r);
        return;
    }
    const struct map_stream *s = call_stream(c);
    if (s == NULL) {
        return;
    }
    char arn[AWS_ARN_SIZE];
    call_stream_arn(c, s, arn);
    struct aws_writer *w = call_writer(c);
    aws_member_write_text(w, "StreamARN", arn);
    aws_member_write_text(w, "StreamName", s->name);
    call_write_warm(w, s);
    call_reply(c);
}

void kinesis_UpdateStreamWarmThroughput(struct call *c)
{
    const struct map_stream *s = call_active_stream(c);
    if (s == NULL) {
        return;
    }
    if (!s->on_demand) {
        call_fail(c, AWS_E_ValidationException, "Request is invalid. Stream %s under account %s is in Provisioned mode.", s->name, s->account);
        return;
    }
    Sluice__StreamUpdate m = SLUICE__STREAM_UPDATE__INIT;
    m.warm = true;
    m.warm_mibps = warm_of(c);
    update(c, s, &m, warmed);
}

void kinesis_UpdateStreamRecordDistributionStrategy(struct call *c)
{
    if (call_active_stream(c) == NULL) {
        return;
    }
    if (aws_text_is(aws_member_text(c->input, AWS_M_RecordDistributionStrategy), "AUTO")) {
        call_fail_text(c, AWS_E_InvalidArgumentException, "RecordDistributionStrategy AUTO is not supported: records are distributed by their partition keys.");
        return;
    }
    call_reply_empty(c);
}

/* ---- shard-level metrics -------------------------------------------------------------------------------------------------------------- */

static uint32_t metric_bits(const struct call *c)
{
    const struct aws_value *v = aws_member(c->input, AWS_M_ShardLevelMetrics);
    uint32_t bits = 0;
    for (uint32_t i = 0; v != NULL && i < v->list.n; i++) {
        for (unsigned k = 0; k < METRIC_BITS; k++) {
            bits |= aws_text_is(v->list.v[i].text, kinesis_metric_names[k]) ? 1u << k : 0;
        }
        bits |= aws_text_is(v->list.v[i].text, "ALL") ? (1u << METRIC_BITS) - 1 : 0;
    }
    return bits;
}

struct monitoring { char name[NAME_MAX_LEN + 1], arn[AWS_ARN_SIZE]; uint32_t before, after; };

static void monitored(struct call *c, const struct sluice_result *r)
{
    if (r->code != 0) {
        call_changed_error(c, r);
        return;
    }
    const struct monitoring *m = c->user;
    const Sluice__StreamInfo *info = ((const Sluice__StreamReply *)r->reply)->stream;
    struct aws_writer *w = call_writer(c);
    aws_member_write_text(w, "StreamName", m->name);
    call_write_metrics(w, "CurrentShardLevelMetrics", m->before);
    call_write_metrics(w, "DesiredShardLevelMetrics", info != NULL ? info->metrics : m->after);
    aws_member_write_text(w, "StreamARN", m->arn);
    call_reply(c);
}

static void change_monitoring(struct call *c, bool on)
{
    const struct map_stream *s = call_active_stream(c);
    if (s == NULL || call_refresh(c)) { /* the answer tells what was on before: this node may not know yet what was changed through another one */
        return;
    }
    struct monitoring *k = arena_alloc(&c->arena, sizeof *k);
    if (k == NULL) {
        call_fail_text(c, AWS_E_ServiceUnavailable, NULL);
        return;
    }
    uint32_t bits = metric_bits(c);
    memcpy(k->name, s->name, sizeof k->name);
    call_stream_arn(c, s, k->arn);
    k->before = s->metrics;
    k->after = on ? s->metrics | bits : s->metrics & ~bits;
    c->user = k;
    Sluice__StreamUpdate m = SLUICE__STREAM_UPDATE__INIT;
    m.metrics_on = on ? bits : 0;
    m.metrics_off = on ? 0 : bits;
    update(c, s, &m, monitored);
}

void kinesis_EnableEnhancedMonitoring(struct call *c) { change_monitoring(c, true); }
void kinesis_DisableEnhancedMonitoring(struct call *c) { change_monitoring(c, false); }

/* ---- encryption -------------------------------------------------------------------------------------------------------------------------- */

static void refuse_encryption(struct call *c)
{
    const struct map_stream *s = call_active_stream(c);
    if (s == NULL) {
        return;
    }
    if (aws_text_is(aws_member_text(c->input, AWS_M_EncryptionType), "NONE")) {
        call_fail_text(c, AWS_E_InvalidArgumentException, "EncryptionType must be KMS.");
        return;
    }
    struct aws_text key = aws_member_text(c->input, AWS_M_KeyId);
    call_fail(c, AWS_E_KMSNotFoundException, "Key '%.*s' does not exist: there is no key service here, and streams are not encrypted by it.", (int)min_u64(key.n, 512), key.p);
}

void kinesis_StartStreamEncryption(struct call *c) { refuse_encryption(c); }
void kinesis_StopStreamEncryption(struct call *c) { refuse_encryption(c); }
