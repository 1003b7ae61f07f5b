/* kinesis_put.c: PutRecord and PutRecords: the records of a call, checked, handed to the stream's producer, answered in their order.
 *
 *   checks (all records, before any is put) -> feed: to the producer as far as it takes them, the rest waits for room -> each completed -> answer
 *
 * A record is told as done only when the producer says so. One whose outcome is unknown, or that surely was not taken for another reason than the shard's limits, is an
 * InternalFailure: the caller may put it again, which is all that AWS promises as well. */
#include <stdio.h>
#include <string.h>

#include "proto/base.h"
#include "server/kinesis/kinesis_put.h"

enum {
    CALL_BYTES_PUT_MAX = 10 << 20, /* keys and data of one PutRecords */
    MESSAGE_MAX = 2048,
    ERRORS_TOLD_MAX = 10
};

static const char internal_failure[] = "Internal service failure.";

/* ---- checks ---------------------------------------------------------------------------------------------------------------- */

/* AWS's words for records that are larger than the stream allows. True: there is one, and the call was answered. */
static bool too_large(struct call *c, const struct aws_value *records, uint32_t n, uint32_t record_max)
{
    char list[MESSAGE_MAX];
    size_t len = 0;
    unsigned errors = 0;
    for (uint32_t i = 0; i < n && errors < ERRORS_TOLD_MAX; i++) {
        struct aws_text data = aws_member_text(&records[i], AWS_M_Data), key = aws_member_text(&records[i], AWS_M_PartitionKey);
        if (data.n + key.n <= record_max) {
            continue;
        }
        char at[48] = "data";
        if (c->op_number == AWS_OP_PutRecords) {
            snprintf(at, sizeof at, "records.%u.member.data", i + 1);
        }
        int written = snprintf(list + len, sizeof list - len, "%sValue 'java.nio.HeapByteBuffer[pos=0 lim=%zu cap=%zu]' at '%s' failed to satisfy constraint: Member must have length less than or equal to %u",
                               errors > 0 ? "; " : "", data.n, data.n, at, record_max);
        sluice_assert(written > 0 && (size_t)written < sizeof list - len);
        len += (size_t)written;
        errors++;
    }
    if (errors > 0) {
        call_fail(c, AWS_E_ValidationException, "%u validation error%s detected: %s", errors, errors > 1 ? "s" : "", list);
    }
    return errors > 0;
}

static bool hash_of(const struct aws_value *record, struct hash128 *out)
{
    struct aws_text text = aws_member_text(record, AWS_M_ExplicitHashKey);
    char decimal[48];
    if (text.n >= sizeof decimal) {
        return false;
    }
    memcpy(decimal, text.p, text.n);
    decimal[text.n] = '\0';
    return hash_from_decimal(decimal, out);
}

/* The records' slots, with their explicit hash keys. NULL: answered. */
static struct put_slot *slots_of(struct call *c, const struct aws_value *records, uint32_t n)
{
    struct put_slot *slots = arena_alloc(&c->arena, n * sizeof *slots);
    if (slots == NULL) {
        call_fail_text(c, AWS_E_ServiceUnavailable, "The node has no memory for the call.");
        return NULL;
    }
    for (uint32_t i = 0; i < n; i++) {
        slots[i].has_hash = aws_member(&records[i], AWS_M_ExplicitHashKey) != NULL;
        if (slots[i].has_hash && !hash_of(&records[i], &slots[i].hash)) {
            struct aws_text text = aws_member_text(&records[i], AWS_M_ExplicitHashKey);
            call_fail(c, AWS_E_InvalidArgumentException, "Invalid ExplicitHashKey. ExplicitHashKey must be in the range: [0, 2^128-1]. Specified value was %.*s", (int)text.n, text.p);
            return NULL;
        }
    }
    return slots;
}

/* The number of an earlier record: one that this service may have given, not of the future. What it asks for, a higher number for this record, each put has anyway. */
static bool ordering_ok(struct call *c, const struct map_stream *s)
{
    struct aws_text text = aws_member_text(c->input, AWS_M_SequenceNumberForOrdering);
    if (text.p == NULL) {
        return true;
    }
    struct seqno q;
    bool ok = aws_text_is(text, "0") || (call_sequence_parse(text, &q) && q.time_s <= env_wall_ms(c->k->env) / 1000 + 1);
    if (!ok) {
        call_fail(c, AWS_E_InvalidArgumentException, "ExclusiveMinimumSequenceNumber %.*s used in PutRecord on stream %s under account %s is invalid.", (int)text.n, text.p, s->name,
                   c->account);
    }
    return ok;
}

/* ---- answers --------------------------------------------------------------------------------------------------------------- */

static void count_error(struct kinesis *k, int code, uint32_t n)
{
    if (code == SLUICE_E_THROTTLED) {
        k->metrics.put_throttled_total += n;
    } else {
        k->metrics.put_failed_total += n;
    }
}

static void throttled_text(const struct put_call *p, uint32_t shard, char out[MESSAGE_MAX])
{
    char id[AWS_SHARD_ID_SIZE];
    aws_shard_id_format(id, shard);
    snprintf(out, MESSAGE_MAX, "Rate exceeded for shard %s in stream %s under account %s.", id, p->stream, p->call->account);
}

static void write_place(struct aws_writer *w, const struct put_slot *slot)
{
    char text[SEQNO_TEXT_MAX], id[AWS_SHARD_ID_SIZE];
    call_sequence(text, slot->shard_created_s, slot->shard, slot->offset, slot->time_ms);
    aws_shard_id_format(id, slot->shard);
    aws_member_write_text(w, "SequenceNumber", text);
    aws_member_write_text(w, "ShardId", id);
}

static void answer_one(struct put_call *p)
{
    struct call *c = p->call;
    const struct put_slot *slot = &p->slots[0];
    char text[MESSAGE_MAX];
    if (slot->code == 0) {
        write_place(call_writer(c), slot);
        call_reply(c);
    } else if (slot->code == SLUICE_E_THROTTLED) {
        throttled_text(p, slot->shard, text);
        call_fail_text(c, AWS_E_ProvisionedThroughputExceededException, text);
    } else if (slot->unknown) {
        call_fail_text(c, AWS_E_InternalFailure, internal_failure);
    } else {
        call_native_error(c, slot->code, NULL, (struct aws_text){p->stream, strlen(p->stream)});
    }
}

static void answer_all(struct put_call *p)
{
    struct call *c = p->call;
    uint32_t failed = 0, not_found = 0;
    for (uint32_t i = 0; i < p->n; i++) {
        failed += p->slots[i].code != 0;
        not_found += p->slots[i].code == SLUICE_E_NOT_FOUND && !p->slots[i].unknown;
    }
    if (not_found == p->n) { /* it was deleted meanwhile */
        call_no_stream(c, (struct aws_text){p->stream, strlen(p->stream)});
        return;
    }
    struct aws_writer *w = call_writer(c);
    aws_member_write_integer(w, "FailedRecordCount", failed);
    aws_write_key(w, "Records");
    aws_write_list(w);
    char text[MESSAGE_MAX];
    for (uint32_t i = 0; i < p->n; i++) {
        const struct put_slot *slot = &p->slots[i];
        aws_write_object(w);
        if (slot->code == 0) {
            write_place(w, slot);
        } else if (slot->code == SLUICE_E_THROTTLED) {
            throttled_text(p, slot->shard, text);
            aws_member_write_text(w, "ErrorCode", "ProvisionedThroughputExceededException");
            aws_member_write_text(w, "ErrorMessage", text);
        } else {
            aws_member_write_text(w, "ErrorCode", "InternalFailure");
            aws_member_write_text(w, "ErrorMessage", internal_failure);
        }
        aws_write_object_end(w);
    }
    aws_write_list_end(w);
    call_reply(c);
}

/* Everything is completed. */
static void put_end(struct put_call *p)
{
    struct call *c = p->call;
    c->user = NULL;
    c->abandoned = NULL;
    put_producer_leave(p);
    if (!c->gone && c->op_number == AWS_OP_PutRecords) {
        answer_all(p);
    } else if (!c->gone) {
        answer_one(p);
    }
    call_release(c); /* p lies in its arena */
}

/* ---- putting --------------------------------------------------------------------------------------------------------------- */

static void put_done(const struct sluice_put_result *r, void *user)
{
    struct put_slot *slot = user;
    struct put_call *p = slot->put;
    struct kinesis *k = p->call->k;
    slot->code = r->code;
    slot->shard = r->shard;
    if (r->code == 0) {
        slot->offset = r->offset;
        slot->time_ms = r->time_ms;
        slot->shard_created_s = r->shard_created_s;
        k->metrics.put_records_total++;
    } else {
        slot->unknown = r->outcome == SLUICE_UNKNOWN;
        count_error(k, r->code, 1);
    }
    sluice_assert(p->pending > 0);
    if (--p->pending == 0 && p->next == p->n && !p->feeding) {
        put_end(p);
    }
}

bool put_feed(struct put_call *p, struct sluice_producer *producer)
{
    p->feeding = true;
    bool room = true;
    while (p->next < p->n) {
        const struct aws_value *v = &p->records[p->next];
        struct aws_text key = aws_member_text(v, AWS_M_PartitionKey), data = aws_member_text(v, AWS_M_Data);
        struct put_slot *slot = &p->slots[p->next];
        const struct sluice_record record = {.key = key.p, .key_len = key.n, .data = data.p != NULL ? data.p : "", .data_len = data.n, .hash = slot->has_hash ? &slot->hash : NULL};
        slot->put = p;
        p->pending++;
        int code = sluice_producer_put(producer, &record, put_done, slot);
        if (code != 0) {
            p->pending--;
            if (code == SLUICE_E_BUSY) {
                room = false;
                break;
            }
            slot->code = code;
            count_error(p->call->k, code, 1);
        }
        p->next++;
    }
    p->feeding = false;
    if (room && p->pending == 0) {
        put_end(p);
    }
    return room;
}

void put_give_up(struct put_call *p, int code)
{
    uint32_t left = p->n - p->next;
    for (uint32_t i = p->next; i < p->n; i++) {
        p->slots[i].code = code;
    }
    p->next = p->n;
    count_error(p->call->k, code, left);
    if (p->pending == 0 && !p->feeding) {
        put_end(p);
    }
}

/* The peer is gone, and with it the records that were not put yet. */
static void put_abandoned(struct call *c)
{
    struct put_call *p = c->user;
    put_producer_unwait(p);
    put_give_up(p, SLUICE_E_SHUTTING_DOWN);
}

static void put(struct call *c, const struct map_stream *s, const struct aws_value *records, struct put_slot *slots, uint32_t n, uint64_t bytes)
{
    struct sluice_client *client = call_client(c);
    if (client == NULL) {
        return;
    }
    struct put_call *p = arena_alloc(&c->arena, sizeof *p);
    if (p == NULL) {
        call_fail_text(c, AWS_E_ServiceUnavailable, "The node has no memory for the call.");
        return;
    }
    *p = (struct put_call){.call = c, .records = records, .slots = slots, .n = n, .bytes = bytes};
    memcpy(p->stream, s->name, sizeof p->stream);
    call_hold(c);
    c->user = p;
    c->abandoned = put_abandoned;
    put_producer_use(p, client, s);
}

void kinesis_PutRecord(struct call *c)
{
    const char *wrong = aws_validate_partition_keys(c->input, &c->arena);
    if (wrong != NULL) {
        call_fail_text(c, AWS_E_ValidationException, wrong);
        return;
    }
    const struct map_stream *s = call_data_stream(c);
    if (s == NULL || too_large(c, c->input, 1, s->settings.record_max)) {
        return;
    }
    struct put_slot *slots = slots_of(c, c->input, 1);
    if (slots == NULL || !ordering_ok(c, s)) {
        return;
    }
    put(c, s, c->input, slots, 1, aws_member_text(c->input, AWS_M_Data).n + aws_member_text(c->input, AWS_M_PartitionKey).n);
}

void kinesis_PutRecords(struct call *c)
{
    const char *wrong = aws_validate_partition_keys(c->input, &c->arena);
    if (wrong != NULL) {
        call_fail_text(c, AWS_E_ValidationException, wrong);
        return;
    }
    const struct map_stream *s = call_data_stream(c);
    if (s == NULL) {
        return;
    }
    const struct aws_value *list = aws_member(c->input, AWS_M_Records);
    uint64_t bytes = 0;
    for (uint32_t i = 0; i < list->list.n; i++) {
        bytes += aws_member_text(&list->list.v[i], AWS_M_Data).n + aws_member_text(&list->list.v[i], AWS_M_PartitionKey).n;
    }
    if (too_large(c, list->list.v, list->list.n, s->settings.record_max)) {
        return;
    }
    if (bytes > CALL_BYTES_PUT_MAX) {
        call_fail_text(c, AWS_E_InvalidArgumentException, "Records size exceeds 10 MB limit");
        return;
    }
    struct put_slot *slots = slots_of(c, list->list.v, list->list.n);
    if (slots != NULL) {
        put(c, s, list->list.v, slots, list->list.n, bytes);
    }
}
