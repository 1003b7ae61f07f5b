/* kinesis_text.c: see kinesis_text.h. */
#include "server/kinesis/kinesis_text.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proto/base.h"
#include "server/tag_text.h"

/* ---- inputs --------------------------------------------------------------------------------------------------------------------- */

static void *room(struct call *c, size_t n)
{
    void *p = arena_alloc(&c->arena, n);
    if (p == NULL) {
        call_fail_text(c, AWS_E_ServiceUnavailable, "The input is too large.");
    }
    return p;
}

char *call_text(struct call *c, struct aws_text t)
{
    char *p = room(c, t.n + 1);
    if (p != NULL && t.n > 0) {
        memcpy(p, t.p, t.n);
    }
    return p;
}

/* A key or value, of characters that tags may have; how long each may be was checked with the input, the rest is the controller's. */
static char *tag_text(struct call *c, struct aws_text t)
{
    char *text = call_text(c, t);
    if (text != NULL && (strlen(text) != t.n || !tag_value_ok(text))) {
        call_fail_text(c, AWS_E_InvalidArgumentException, "Some tags contain invalid characters. Valid characters: Unicode letters, digits, white space, _ . / = + - % @.");
        return NULL;
    }
    return text;
}

bool call_tags(struct call *c, Sluice__Tag ***tags, size_t *n)
{
    const struct aws_value *v = aws_member(c->input, AWS_M_Tags);
    *n = v != NULL ? v->list.n : 0;
    if (*n == 0) {
        return true;
    }
    *tags = room(c, *n * sizeof **tags);
    Sluice__Tag *all = *tags != NULL ? room(c, *n * sizeof *all) : NULL;
    for (size_t i = 0; all != NULL && i < *n; i++) {
        struct aws_text key = v->list.v[2 * i].text, value = v->list.v[2 * i + 1].text;
        sluice__tag__init(&all[i]);
        (*tags)[i] = &all[i];
        all[i].key = tag_text(c, key);
        all[i].value = all[i].key != NULL ? tag_text(c, value) : NULL;
        if (all[i].value == NULL) {
            return false;
        }
    }
    return all != NULL;
}

bool call_tag_keys(struct call *c, char ***keys, size_t *n)
{
    const struct aws_value *v = aws_member(c->input, AWS_M_TagKeys);
    *n = v != NULL ? v->list.n : 0;
    if (*n == 0) {
        return true;
    }
    *keys = room(c, *n * sizeof **keys);
    for (size_t i = 0; *keys != NULL && i < *n; i++) {
        (*keys)[i] = tag_text(c, v->list.v[i].text);
        if ((*keys)[i] == NULL) {
            return false;
        }
    }
    return *keys != NULL;
}

bool call_shard_number(struct call *c, struct aws_text id, int64_t *number)
{
    uint32_t shard;
    if (!aws_shard_id_parse(id, &shard)) {
        call_fail(c, AWS_E_InvalidArgumentException, "ExclusiveStartShardId %.*s is no shard id.", (int)id.n, id.p);
        return false;
    }
    *number = shard;
    return true;
}

/* ---- NextTokens --------------------------------------------------------------------------------------------------------------------- */

bool call_token_open(struct call *c, struct aws_text token, uint8_t cursor[AWS_CURSOR_MAX], size_t *n)
{
    const uint8_t *key = call_token_key(c);
    char message[AWS_TOKEN_MESSAGE_SIZE];
    if (key == NULL) {
        return false;
    }
    enum aws_error e = aws_next_token_open(token, key, (enum aws_op)c->op_number, (int64_t)env_wall_ms(c->k->env), cursor, n, message);
    if (e != AWS_E_NONE) {
        call_fail_text(c, e, message);
    }
    return e == AWS_E_NONE;
}

bool call_token_seal(struct call *c, const void *cursor, size_t n, char token[AWS_NEXT_TOKEN_SIZE])
{
    const uint8_t *key = call_token_key(c);
    if (key == NULL) {
        return false;
    }
    uint8_t random[AWS_TOKEN_RANDOM];
    env_random(c->k->env, random, sizeof random);
    aws_next_token_seal(token, key, random, (enum aws_op)c->op_number, (int64_t)env_wall_ms(c->k->env), cursor, n);
    return true;
}

void call_changed_error(struct call *c, const struct sluice_result *r)
{
    const struct map_stream *s = r->code == SLUICE_E_NOT_FOUND || r->code == SLUICE_E_NOT_ACTIVE ? call_active_stream(c) : NULL;
    if (s != NULL || (r->code != SLUICE_E_NOT_FOUND && r->code != SLUICE_E_NOT_ACTIVE)) { /* otherwise answered, with what the map says now */
        call_native_error(c, r->code, r->message, (struct aws_text){NULL, 0});
    }
}

/* ---- answers ------------------------------------------------------------------------------------------------------------------------- */

static void write_shard_id(struct aws_writer *w, const char *key, uint32_t shard)
{
    char id[AWS_SHARD_ID_SIZE];
    aws_shard_id_format(id, shard);
    aws_member_write_text(w, key, id);
}

void call_write_hash_range(struct aws_writer *w, const struct map_shard *shard)
{
    char key[40];
    aws_write_key(w, "HashKeyRange");
    aws_write_object(w);
    hash_to_decimal(&shard->first, key);
    aws_member_write_text(w, "StartingHashKey", key);
    hash_to_decimal(&shard->last, key);
    aws_member_write_text(w, "EndingHashKey", key);
    aws_write_object_end(w);
}

void call_write_shard(struct aws_writer *w, const struct map_shard *shard)
{
    char text[SEQNO_TEXT_MAX];
    aws_write_object(w);
    write_shard_id(w, "ShardId", shard->shard);
    if (shard->n_parents > 0) {
        write_shard_id(w, "ParentShardId", shard->parents[0]);
    }
    if (shard->n_parents > 1) {
        write_shard_id(w, "AdjacentParentShardId", shard->parents[1]);
    }
    call_write_hash_range(w, shard);
    aws_write_key(w, "SequenceNumberRange");
    aws_write_object(w);
    call_sequence(text, shard->created_s, shard->shard, 0, shard->created_s * 1000);
    aws_member_write_text(w, "StartingSequenceNumber", text);
    if (shard->closed) {
        call_sequence(text, shard->created_s, shard->shard, SEQNO_OFFSET_MAX, shard->ended ? shard->ended_ms : shard->created_s * 1000);
        aws_member_write_text(w, "EndingSequenceNumber", text);
    }
    aws_write_object_end(w);
    aws_write_object_end(w);
}

const char *const kinesis_metric_names[METRIC_BITS] = {
    "IncomingBytes", "IncomingRecords", "OutgoingBytes", "OutgoingRecords", "WriteProvisionedThroughputExceeded", "ReadProvisionedThroughputExceeded", "IteratorAgeMilliseconds"
};

void call_write_metrics(struct aws_writer *w, const char *key, uint32_t bits)
{
    aws_write_key(w, key);
    aws_write_list(w);
    for (unsigned i = 0; i < METRIC_BITS; i++) {
        if ((bits >> i & 1) != 0) {
            aws_write_text(w, kinesis_metric_names[i], strlen(kinesis_metric_names[i]));
        }
    }
    aws_write_list_end(w);
}

void call_write_warm(struct aws_writer *w, const struct map_stream *s)
{
    aws_write_key(w, "WarmThroughput");
    aws_write_object(w);
    aws_member_write_integer(w, "TargetMiBps", s->warm_mibps);
    aws_member_write_integer(w, "CurrentMiBps", s->warm_mibps);
    aws_write_object_end(w);
}

void call_write_tags(struct aws_writer *w, const struct map_tag *tags, unsigned n)
{
    aws_write_key(w, "Tags");
    aws_write_list(w);
    for (unsigned i = 0; i < n; i++) {
        aws_write_object(w);
        aws_member_write_text(w, "Key", tags[i].key);
        aws_member_write_text(w, "Value", tags[i].value);
        aws_write_object_end(w);
    }
    aws_write_list_end(w);
}
