/* kinesis_consumers.c: registered consumers: made, described, listed, taken away. A consumer that is there is ACTIVE. */
#include <stdio.h>
#include <string.h>

#include "proto/base.h"
#include "server/kinesis/kinesis_text.h"

enum { LIST_CONSUMERS_MAX_RESULTS = 100 };

static void write_consumer(struct call *c, struct aws_writer *w, const struct map_stream *s, const struct map_consumer *consumer, const char *status)
{
    char arn[AWS_ARN_SIZE];
    call_consumer_arn(c, s, consumer, arn);
    aws_member_write_text(w, "ConsumerName", consumer->name);
    aws_member_write_text(w, "ConsumerARN", arn);
    aws_member_write_text(w, "ConsumerStatus", status);
    aws_member_write_time(w, "ConsumerCreationTimestamp", (int64_t)(consumer->created_ms / 1000 * 1000));
}

/* ---- registering --------------------------------------------------------------------------------------------------------------- */

static void registered(struct call *c, const struct sluice_result *r)
{
    struct aws_text name = aws_member_text(c->input, AWS_M_ConsumerName);
    const struct map_stream *s = call_stream(c);
    if (s == NULL) {
        return;
    }
    if (r->code == SLUICE_E_IN_USE || r->code == SLUICE_E_EXISTS) {
        call_fail(c, AWS_E_ResourceInUseException, "Consumer %.*s under stream %s already exists for account %s.", (int)name.n, name.p, s->name, s->account);
        return;
    }
    if (r->code == SLUICE_E_LIMIT) {
        call_fail(c, AWS_E_LimitExceededException, "Stream %s under account %s has as many registered consumers as it can have.", s->name, s->account);
        return;
    }
    const Sluice__ConsumerInfo *info = r->code == 0 ? ((const Sluice__ConsumerReply *)r->reply)->consumer : NULL;
    if (info == NULL || strlen(info->name) > NAME_MAX_LEN) {
        call_native_error(c, r->code != 0 ? r->code : SLUICE_E_INTERNAL, r->message, (struct aws_text){NULL, 0});
        return;
    }
    struct map_consumer consumer = {.id = info->id, .created_ms = info->created_ms};
    snprintf(consumer.name, sizeof consumer.name, "%s", info->name);
    struct aws_writer *w = call_writer(c);
    aws_write_key(w, "Consumer");
    aws_write_object(w);
    write_consumer(c, w, s, &consumer, "CREATING"); /* as AWS says here, though it is ACTIVE already */
    aws_write_object_end(w);
    call_reply(c);
}

void kinesis_RegisterStreamConsumer(struct call *c)
{
    const struct map_stream *s = call_stream(c);
    if (s == NULL) {
        return;
    }
    if (s->status == STREAM_CREATING || s->status == STREAM_DELETING) {
        call_active_stream(c); /* answers */
        return;
    }
    Sluice__ConsumerRegister m = SLUICE__CONSUMER_REGISTER__INIT;
    m.stream = (char *)s->name;
    m.name = call_text(c, aws_member_text(c->input, AWS_M_ConsumerName));
    if (m.name != NULL && call_tags(c, &m.tags, &m.n_tags)) {
        call_native(c, FRAME_CONSUMER_REGISTER, &m.base, registered);
    }
}

static void removed(struct call *c, const struct sluice_result *r)
{
    if (r->code == 0 || r->code == SLUICE_E_NOT_FOUND) { /* it was there when the call came */
        call_reply_empty(c);
    } else {
        call_native_error(c, r->code, r->message, (struct aws_text){NULL, 0});
    }
}

void kinesis_DeregisterStreamConsumer(struct call *c)
{
    const struct map_stream *s;
    const struct map_consumer *consumer;
    if (!call_consumer(c, &s, &consumer)) {
        return;
    }
    Sluice__ConsumerRemove m = SLUICE__CONSUMER_REMOVE__INIT;
    m.stream = (char *)s->name;
    m.name = (char *)consumer->name;
    m.id = consumer->id;
    call_native(c, FRAME_CONSUMER_REMOVE, &m.base, removed);
}

/* ---- telling -------------------------------------------------------------------------------------------------------------------- */

void kinesis_DescribeStreamConsumer(struct call *c)
{
    const struct map_stream *s;
    const struct map_consumer *consumer;
    if (!call_consumer(c, &s, &consumer)) {
        return;
    }
    char arn[AWS_ARN_SIZE];
    call_stream_arn(c, s, arn);
    struct aws_writer *w = call_writer(c);
    aws_write_key(w, "ConsumerDescription");
    aws_write_object(w);
    write_consumer(c, w, s, consumer, "ACTIVE");
    aws_member_write_text(w, "StreamARN", arn);
    aws_write_object_end(w);
    call_reply(c);
}

/* A NextToken has the stream's incarnation and the last name that was told. */
static bool start_of(struct call *c, const struct map_stream *s, char after[NAME_MAX_LEN + 1])
{
    struct aws_text token = aws_member_text(c->input, AWS_M_NextToken);
    uint8_t cursor[AWS_CURSOR_MAX];
    size_t n;
    after[0] = '\0';
    if (token.p == NULL) {
        return true;
    }
    if (!call_token_open(c, token, cursor, &n)) {
        return false;
    }
    if (n < sizeof s->id || n > sizeof s->id + NAME_MAX_LEN || memcmp(cursor, s->id, sizeof s->id) != 0) {
        call_fail_text(c, AWS_E_InvalidArgumentException, "NextToken does not belong to this stream.");
        return false;
    }
    memcpy(after, cursor + sizeof s->id, n - sizeof s->id);
    after[n - sizeof s->id] = '\0';
    return true;
}

void kinesis_ListStreamConsumers(struct call *c)
{
    const struct map_stream *s = call_stream(c);
    char after[NAME_MAX_LEN + 1];
    if (s == NULL || !call_creation_agrees(c, s) || !start_of(c, s, after)) {
        return;
    }
    int64_t limit = aws_member_integer(c->input, AWS_M_MaxResults, LIST_CONSUMERS_MAX_RESULTS);
    unsigned from = 0;
    while (from < s->n_consumers && strcmp(s->consumers[from].name, after) <= 0) {
        from++;
    }
    unsigned end = from + (unsigned)min_u64((uint64_t)limit, s->n_consumers - from);
    char next[AWS_NEXT_TOKEN_SIZE];
    if (end < s->n_consumers) {
        uint8_t cursor[sizeof s->id + NAME_MAX_LEN];
        size_t n = strlen(s->consumers[end - 1].name);
        memcpy(cursor, s->id, sizeof s->id);
        memcpy(cursor + sizeof s->id, s->consumers[end - 1].name, n);
        if (!call_token_seal(c, cursor, sizeof s->id + n, next)) {
            return;
        }
    }
    struct aws_writer *w = call_writer(c);
    aws_write_key(w, "Consumers");
    aws_write_list(w);
    for (unsigned i = from; i < end; i++) {
        aws_write_object(w);
        write_consumer(c, w, s, &s->consumers[i], "ACTIVE");
        aws_write_object_end(w);
    }
    aws_write_list_end(w);
    aws_member_write_text(w, "NextToken", end < s->n_consumers ? next : NULL);
    call_reply(c);
}
