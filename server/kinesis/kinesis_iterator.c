/* kinesis_iterator.c: GetShardIterator: where a reader of a shard begins.
 *
 * TRIM_HORIZON is looked up when the iterator is used. All others become an offset at once, by the shard's leader: what comes after LATEST was asked for is not missed, however
 * late the iterator is used. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "proto/base.h"
#include "server/kinesis/kinesis_get.h"

enum from { AT_SEQUENCE_NUMBER, AFTER_SEQUENCE_NUMBER, TRIM_HORIZON, LATEST, AT_TIMESTAMP };
static const char *const type_names[] = {"AT_SEQUENCE_NUMBER", "AFTER_SEQUENCE_NUMBER", "TRIM_HORIZON", "LATEST", "AT_TIMESTAMP"};

/* In the call's arena. */
struct iterate {
    struct call *call;
    struct aws_iterator it;
    enum from from;
    uint64_t offset;         /* of the sequence number; UINT64_MAX: the end of a closed shard */
    char sequence[SEQNO_TEXT_MAX];
    char stream[NAME_MAX_LEN + 1];
};

bool call_iterator_seal(struct call *c, struct aws_iterator *it, char out[AWS_ITERATOR_SIZE])
{
    const uint8_t *key = call_token_key(c);
    if (key != NULL) {
        uint8_t random[AWS_TOKEN_RANDOM];
        env_random(c->k->env, random, sizeof random);
        it->issued_ms = (int64_t)env_wall_ms(c->k->env);
        aws_iterator_seal(out, key, random, it);
    }
    return key != NULL;
}

static void answer(struct iterate *g)
{
    char text[AWS_ITERATOR_SIZE];
    if (call_iterator_seal(g->call, &g->it, text)) {
        aws_member_write_text(call_writer(g->call), "ShardIterator", text);
        call_reply(g->call);
    }
}

static void invalid(struct iterate *g, const char *why)
{
    char id[AWS_SHARD_ID_SIZE];
    aws_shard_id_format(id, g->it.shard);
    call_fail(g->call, AWS_E_InvalidArgumentException, "StartingSequenceNumber %s used in GetShardIterator on shard %s in stream %s under account %s is invalid%s.", g->sequence, id, g->stream,
               g->call->account, why);
}

/* ---- resolving ------------------------------------------------------------------------------------------------------------- */

static void resolved(struct iterate *g, const Sluice__PositionReply *at)
{
    g->it.position = AWS_POSITION_OFFSET;
    if (g->from == LATEST || g->from == AT_TIMESTAMP) {
        g->it.at = at->offset;
    } else if (g->offset == UINT64_MAX) {
        g->it.at = at->end_offset;
    } else if (g->offset > at->end_offset) {
        invalid(g, "");
        return;
    } else { /* at the end: the number that a shard begins with, and no record has it yet */
        g->it.at = min_u64(g->offset + (g->from == AFTER_SEQUENCE_NUMBER), at->end_offset);
    }
    answer(g);
}

static void positioned(const struct sluice_result *r, void *user)
{
    struct iterate *g = user;
    struct call *c = g->call;
    if (c->gone) {
        call_release(c);
        return;
    }
    if (r->code == 0) {
        resolved(g, (const Sluice__PositionReply *)r->reply);
    } else {
        call_read_error(c, r->code, r->message, g->it.shard, g->stream);
    }
    call_release(c);
}

static void resolve(struct iterate *g, int64_t time_ms)
{
    struct call *c = g->call;
    struct sluice_client *client = call_client(c);
    if (client == NULL) {
        return;
    }
    Sluice__Position m = SLUICE__POSITION__INIT;
    m.stream_id = (ProtobufCBinaryData){.len = sizeof g->it.stream, .data = g->it.stream};
    m.shard = g->it.shard;
    m.kind = g->from == AT_TIMESTAMP ? SLUICE__POSITION__KIND__AT_TIME : SLUICE__POSITION__KIND__LATEST;
    m.time_ms = time_ms > 0 ? (uint64_t)time_ms : 0;
    m.shared = true;
    const struct sluice_call_options o = {.timeout_ms = CALL_NATIVE_MS, .stream = g->stream, .shard = g->it.shard, .no_throttle_wait = true};
    call_hold(c);
    int code = sluice_call(client, FRAME_POSITION, &m.base, &o, positioned, g);
    if (code != 0) {
        call_native_error(c, code, NULL, (struct aws_text){NULL, 0});
        call_release(c);
    }
}

/* ---- checks ---------------------------------------------------------------------------------------------------------------- */

/* The sequence number must be one of this shard. */
static bool sequence_ok(struct iterate *g, const struct map_shard *shard, struct aws_text text)
{
    struct seqno q;
    snprintf(g->sequence, sizeof g->sequence, "%.*s", (int)text.n, text.p);
    if (!call_sequence_parse(text, &q)) {
        invalid(g, "");
        return false;
    }
    if (q.shard != shard->shard) {
        char its[AWS_SHARD_ID_SIZE], used[AWS_SHARD_ID_SIZE];
        aws_shard_id_format(its, q.shard);
        aws_shard_id_format(used, shard->shard);
        call_fail(g->call, AWS_E_InvalidArgumentException, "Invalid StartingSequenceNumber. It encodes %s, while it was used in a call to a shard with %s", its, used);
        return false;
    }
    if (q.shard_created_s != shard->created_s) {
        invalid(g, " because it did not come from this stream");
        return false;
    }
    g->offset = q.offset;
    if (q.time_s == 0) { /* of an event of SubscribeToShard without records: it stands before the record of that offset, which has a time */
        g->from = AT_SEQUENCE_NUMBER;
    }
    if (q.offset == SEQNO_OFFSET_MAX) { /* EndingSequenceNumber of a closed shard */
        if (g->from == AFTER_SEQUENCE_NUMBER) {
            call_fail(g->call, AWS_E_InvalidArgumentException,
                       "Invalid SequenceNumber for ShardIteratorType AFTER_SEQUENCE_NUMBER, SequenceNumber has reached max possible value for the shard.");
            return false;
        }
        g->offset = UINT64_MAX;
    }
    return true;
}

static bool arguments_fit(struct call *c, enum from from, struct aws_text sequence)
{
    bool by_sequence = from == AT_SEQUENCE_NUMBER || from == AFTER_SEQUENCE_NUMBER, given = sequence.p != NULL;
    if ((given && (from == TRIM_HORIZON || from == LATEST)) || (!given && by_sequence)) {
        call_fail(c, AWS_E_InvalidArgumentException,
                   "Must either specify (1) AT_SEQUENCE_NUMBER or AFTER_SEQUENCE_NUMBER and StartingSequenceNumber or (2) TRIM_HORIZON or LATEST and no StartingSequenceNumber. Request specified %s and %s.",
                   type_names[from], given ? "also a StartingSequenceNumber" : "no StartingSequenceNumber");
        return false;
    }
    if (from != AT_TIMESTAMP) {
        return true;
    }
    int64_t now = (int64_t)env_wall_ms(c->k->env), time = aws_member_integer(c->input, AWS_M_Timestamp, -1);
    if (aws_member(c->input, AWS_M_Timestamp) == NULL) {
        call_fail(c, AWS_E_InvalidArgumentException, "Must specify timestampInMillis parameter for iterator of type AT_TIMESTAMP. Current request has no timestamp parameter.");
        return false;
    }
    if (time > now) {
        call_fail(c, AWS_E_InvalidArgumentException,
                   "The timestampInMillis parameter cannot be greater than the currentTimestampInMillis. timestampInMillis: %" PRId64 ", currentTimestampInMillis: %" PRId64, time, now);
        return false;
    }
    return true;
}

void kinesis_GetShardIterator(struct call *c)
{
    const struct map_stream *s = call_data_stream(c);
    if (s == NULL) {
        return;
    }
    const struct map_shard *shard = call_shard(c, s, aws_member_text(c->input, AWS_M_ShardId));
    if (shard == NULL) {
        return;
    }
    struct aws_text type = aws_member_text(c->input, AWS_M_ShardIteratorType), sequence = aws_member_text(c->input, AWS_M_StartingSequenceNumber);
    enum from from = AT_SEQUENCE_NUMBER;
    while (!aws_text_is(type, type_names[from])) {
        from++;
        sluice_assert((size_t)from < ARRAY_LEN(type_names)); /* validated */
    }
    if (!arguments_fit(c, from, sequence)) {
        return;
    }
    struct iterate *g = arena_alloc(&c->arena, sizeof *g);
    if (g == NULL) {
        call_fail_text(c, AWS_E_ServiceUnavailable, "The node has no memory for the call.");
        return;
    }
    *g = (struct iterate){.call = c, .from = from, .it = {.shard = shard->shard, .position = AWS_POSITION_TRIM_HORIZON}};
    memcpy(g->it.stream, s->id, sizeof g->it.stream);
    memcpy(g->stream, s->name, sizeof g->stream);
    if (from == TRIM_HORIZON) {
        answer(g);
    } else if ((from != AT_SEQUENCE_NUMBER && from != AFTER_SEQUENCE_NUMBER) || sequence_ok(g, shard, sequence)) {
        resolve(g, aws_member_integer(c->input, AWS_M_Timestamp, 0));
    }
}
