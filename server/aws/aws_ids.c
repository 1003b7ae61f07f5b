/* aws_ids.c: shard ids and ARNs. */
#include "server/aws/aws_ids.h"

#include <stdarg.h>
#include <stdio.h>

#include "proto/base.h"

enum { MESSAGE_MAX = 1024 };

/* ---- shard ids ---------------------------------------------------------------------------------------------------------- */

void aws_shard_id_format(char out[AWS_SHARD_ID_SIZE], uint32_t shard) { snprintf(out, AWS_SHARD_ID_SIZE, "shardId-%012u", shard); }

/* All digits. False: none, another character, or more than `max`. */
static bool decimal(struct aws_text t, uint64_t max, uint64_t *out)
{
    *out = 0;
    for (size_t i = 0; i < t.n; i++) {
        unsigned digit = (unsigned)(t.p[i] - '0');
        if (t.p[i] < '0' || digit > 9 || *out > (max - digit) / 10) {
            return false;
        }
        *out = *out * 10 + digit;
    }
    return t.n > 0;
}

bool aws_shard_id_parse(struct aws_text t, uint32_t *shard)
{
    const char *dash = t.n > 0 ? memchr(t.p, '-', t.n) : NULL;
    if (dash != NULL) {
        t.n -= (size_t)(dash + 1 - t.p);
        t.p = dash + 1;
    }
    uint64_t v = 0;
    if (!decimal(t, INT32_MAX, &v)) {
        return false;
    }
    *shard = (uint32_t)v;
    return true;
}

/* ---- ARNs ----------------------------------------------------------------------------------------------------------------- */

/* What stands before the next `c`; *rest goes behind it. False: there is none. */
static bool cut_at(struct aws_text *rest, char c, struct aws_text *out)
{
    const char *stop = rest->n > 0 ? memchr(rest->p, c, rest->n) : NULL;
    if (stop == NULL) {
        return false;
    }
    *out = (struct aws_text){rest->p, (size_t)(stop - rest->p)};
    rest->n -= out->n + 1;
    rest->p = stop + 1;
    return true;
}

static bool starts(struct aws_text *t, const char *prefix)
{
    size_t n = strlen(prefix);
    if (t->n < n || memcmp(t->p, prefix, n) != 0) {
        return false;
    }
    t->p += n;
    t->n -= n;
    return true;
}

static bool name_valid(struct aws_text t, size_t max) { return t.n >= 1 && t.n <= max && aws_pattern_match("[a-zA-Z0-9_.-]+", t.p, t.n); }

bool aws_arn_parse(struct aws_text text, struct aws_arn *out)
{
    *out = (struct aws_arn){.consumer_created_s = -1};
    struct aws_text rest = text, word;
    if (!cut_at(&rest, ':', &word) || !aws_text_is(word, "arn") || !cut_at(&rest, ':', &word) || word.n < 3 || memcmp(word.p, "aws", 3) != 0 ||
        !cut_at(&rest, ':', &word) || !aws_text_is(word, "kinesis") || !cut_at(&rest, ':', &out->region) || !cut_at(&rest, ':', &out->account) ||
        !starts(&rest, "stream/")) {
        return false;
    }
    uint64_t number;
    if (out->account.n != 12 || !decimal(out->account, 999999999999ULL, &number)) {
        return false;
    }
    if (!cut_at(&rest, '/', &out->stream)) {
        out->stream = rest;
        return name_valid(rest, AWS_STREAM_NAME_MAX);
    }
    if (!name_valid(out->stream, AWS_STREAM_NAME_MAX) || !starts(&rest, "consumer/") || !cut_at(&rest, ':', &out->consumer) ||
        !name_valid(out->consumer, AWS_CONSUMER_NAME_MAX) || !decimal(rest, INT64_MAX, &number)) {
        return false;
    }
    out->consumer_created_s = (int64_t)number;
    return true;
}

#define TEXT(t) (int)(t).n, (t).p

void aws_arn_format(char out[AWS_ARN_SIZE], const struct aws_arn *a)
{
    sluice_assert(a->region.n <= 64 && a->account.n <= 64 && a->stream.n <= AWS_STREAM_NAME_MAX && a->consumer.n <= AWS_CONSUMER_NAME_MAX);
    int n = snprintf(out, AWS_ARN_SIZE, "arn:aws:kinesis:%.*s:%.*s:stream/%.*s", TEXT(a->region), TEXT(a->account), TEXT(a->stream));
    if (a->consumer.p != NULL) {
        snprintf(out + n, AWS_ARN_SIZE - (size_t)n, "/consumer/%.*s:%lld", TEXT(a->consumer), (long long)a->consumer_created_s);
    }
}

/* ---- what an input names ---------------------------------------------------------------------------------------------------- */

__attribute__((format(printf, 4, 5))) static enum aws_error refuse(struct arena *arena, const char **message, enum aws_error e, const char *format, ...)
{
    char *text = arena_alloc(arena, MESSAGE_MAX);
    *message = "The resource's name is invalid.";
    if (text != NULL) {
        va_list args;
        va_start(args, format);
        vsnprintf(text, MESSAGE_MAX, format, args);
        va_end(args);
        *message = text;
    }
    return e;
}

/* An ARN of this region and account. `wanted`: what kind, for the words of the error. */
static enum aws_error arn_here(struct aws_text text, const struct aws_scope *scope, struct arena *arena, const char *wanted, struct aws_arn *out,
                               const char **message)
{
    if (!aws_arn_parse(text, out)) {
        return refuse(arena, message, AWS_E_InvalidArgumentException, "%s %.*s is invalid.", wanted, (int)min_u64(text.n, 512), text.p);
    }
    if (!aws_text_is(out->account, scope->account) || !aws_text_is(out->region, scope->region)) {
        return refuse(arena, message, AWS_E_ResourceNotFoundException, "Stream %.*s under account %.*s not found.", TEXT(out->stream), TEXT(out->account));
    }
    return AWS_E_NONE;
}

static bool same_text(struct aws_text a, struct aws_text b) { return a.n == b.n && (a.n == 0 || memcmp(a.p, b.p, a.n) == 0); }

enum aws_error aws_stream_of(const struct aws_value *input, const struct aws_scope *scope, struct arena *arena, struct aws_text *name, const char **message)
{
    struct aws_text given = aws_member_text(input, AWS_M_StreamName), arn_text = aws_member_text(input, AWS_M_StreamARN);
    *message = NULL;
    *name = given;
    if (given.p == NULL && arn_text.p == NULL) {
        return refuse(arena, message, AWS_E_InvalidArgumentException, "Either StreamARN or StreamName must be provided.");
    }
    if (arn_text.p == NULL) {
        return AWS_E_NONE;
    }
    struct aws_arn arn;
    enum aws_error e = arn_here(arn_text, scope, arena, "StreamARN", &arn, message);
    if (e != AWS_E_NONE) {
        return e;
    }
    if (arn.consumer.p != NULL) {
        return refuse(arena, message, AWS_E_InvalidArgumentException, "StreamARN %.*s is invalid.", (int)min_u64(arn_text.n, 512), arn_text.p);
    }
    if (given.p != NULL && !same_text(given, arn.stream)) {
        return refuse(arena, message, AWS_E_InvalidArgumentException, "StreamARN %.*s does not match StreamName %.*s.", (int)min_u64(arn_text.n, 512), arn_text.p,
                      TEXT(given));
    }
    *name = arn.stream;
    return AWS_E_NONE;
}

enum aws_error aws_consumer_of(const struct aws_value *input, const struct aws_scope *scope, struct arena *arena, struct aws_arn *out, const char **message)
{
    struct aws_text arn_text = aws_member_text(input, AWS_M_ConsumerARN), stream = aws_member_text(input, AWS_M_StreamARN);
    struct aws_text name = aws_member_text(input, AWS_M_ConsumerName);
    struct aws_arn of_stream;
    *message = NULL;
    if (arn_text.p == NULL && (stream.p == NULL || name.p == NULL)) {
        return refuse(arena, message, AWS_E_InvalidArgumentException, "Either ConsumerARN or both StreamARN and ConsumerName must be provided.");
    }
    enum aws_error e = arn_text.p != NULL ? arn_here(arn_text, scope, arena, "ConsumerARN", out, message) : AWS_E_NONE;
    if (e == AWS_E_NONE && stream.p != NULL) {
        e = arn_here(stream, scope, arena, "StreamARN", &of_stream, message);
    }
    if (e != AWS_E_NONE) {
        return e;
    }
    if (arn_text.p == NULL) {
        *out = of_stream;
        out->consumer = name;
        out->consumer_created_s = -1;
    }
    if ((stream.p != NULL && of_stream.consumer.p != NULL) || out->consumer.p == NULL) {
        return refuse(arena, message, AWS_E_InvalidArgumentException, "StreamARN or ConsumerARN is invalid.");
    }
    if ((stream.p != NULL && !same_text(of_stream.stream, out->stream)) || (name.p != NULL && !same_text(name, out->consumer))) {
        return refuse(arena, message, AWS_E_InvalidArgumentException, "ConsumerARN does not match StreamARN and ConsumerName.");
    }
    return AWS_E_NONE;
}

enum aws_error aws_resource_of(const struct aws_value *input, const struct aws_scope *scope, struct arena *arena, struct aws_arn *out, const char **message)
{
    *message = NULL;
    return arn_here(aws_member_text(input, AWS_M_ResourceARN), scope, arena, "ResourceARN", out, message);
}
