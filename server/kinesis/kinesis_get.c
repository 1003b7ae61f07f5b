/* kinesis_get.c: GetRecords: from an iterator to records and the next iterator.
 *
 * A call is one shared fetch at the shard's leader, and further ones of the same call as long as there is more and it may be given: a fetch gives at most 64 batches. Each answer is
 * written as it comes, in one pass over its batches: JSON takes the data as base64; CBOR refers to it, so the batches' bytes are kept until the answer has left. The cut at
 * Limit or 10 MiB is exact: the next iterator may point into the middle of a batch. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proto/base.h"
#include "server/kinesis/kinesis_get.h"
#include "server/kinesis/kinesis_text.h"

enum {
    GET_BYTES_MAX = 10 << 20,       /* keys and data of one answer */
    GET_RECORDS_MAX = 10000,
    FETCH_BYTES = 2 << 20,          /* of one fetch, as stored */
    FETCH_BYTES_CROWDED = 256 << 10,
    ROUNDS_MAX = 200, ROUNDS_MS = 1000, /* fetches of a call, and how long it begins new ones */
    GET_MS = 8000
};

/* Of a call, until its answer has left. */
struct get {
    struct call *call;              /* NULL once it is answered */
    struct kinesis *k;
    struct sluice_client *client;
    struct sluice_fetch *fetch;     /* under way */
    struct aws_iterator it;
    char stream[NAME_MAX_LEN + 1];
    uint32_t limit, records, rounds;
    uint64_t next, bytes, began_ms;
    uint64_t gathered, awaited;     /* bytes that count in k->get_bytes and k->get_awaited */
    bool full;                      /* Limit or the bytes are reached */
    uint64_t cut_ms;                /* full: arrival of the first record that was left over; 0: none was */
    void **kept;                    /* memory that the answer refers to */
    unsigned n_kept, kept_room;
    void *scratch;                  /* for decompression */
    size_t scratch_size;
};

void call_read_error(struct call *c, int code, const char *message, uint32_t shard, const char *stream)
{
    if (code == SLUICE_E_THROTTLED) {
        char id[AWS_SHARD_ID_SIZE];
        aws_shard_id_format(id, shard);
        call_fail(c, AWS_E_ProvisionedThroughputExceededException, "Rate exceeded for shard %s in stream %s under account %s.", id, stream, c->account);
    } else {
        call_native_error(c, code, message, (struct aws_text){stream, strlen(stream)});
    }
}

/* ---- memory ---------------------------------------------------------------------------------------------------------------- */

static void gather(struct get *g, uint64_t bytes)
{
    g->gathered += bytes;
    g->k->get_bytes += bytes;
}

static void give_back(struct get *g, uint64_t bytes)
{
    g->gathered -= bytes;
    g->k->get_bytes -= bytes;
}

/* What the fetch under way may bring. */
static void await(struct get *g, uint64_t bytes)
{
    g->k->get_awaited += bytes - g->awaited;
    g->awaited = bytes;
}

static uint64_t memory_in_use(const struct kinesis *k) { return k->get_bytes + http_server_counters(k->http)->memory_bytes; }

/* Half of the lane's memory for requests and answers is in use, or may soon be: calls get one small fetch. */
static bool crowded(const struct kinesis *k) { return memory_in_use(k) + k->get_awaited > k->memory_max / 2; }

/* Three quarters are in use: the rest is left to those that write or ask for little. */
static bool full_up(const struct kinesis *k) { return memory_in_use(k) > k->memory_max / 4 * 3; }

static void get_free(void *arg)
{
    struct get *g = arg;
    for (unsigned i = 0; i < g->n_kept; i++) {
        free(g->kept[i]);
    }
    free(g->kept);
    free(g->scratch);
    free(g);
}

static void keep(struct get *g, void *memory)
{
    if (g->n_kept == g->kept_room) {
        g->kept_room = g->kept_room == 0 ? 8 : 2 * g->kept_room;
        g->kept = xrealloc(g->kept, g->kept_room * sizeof *g->kept);
    }
    g->kept[g->n_kept++] = memory;
}

/* The call is answered or given up: what it had gathered counts with the HTTP server now, or is gone. */
static void get_leave(struct get *g)
{
    struct call *c = g->call;
    g->call = NULL;
    await(g, 0);
    g->k->get_bytes -= g->gathered;
    c->user = NULL;
    c->abandoned = NULL;
    call_release(c);
}

static void get_abandoned(struct call *c)
{
    struct get *g = c->user;
    if (g->fetch != NULL) {
        sluice_fetch_cancel(g->fetch);
    }
    get_leave(g);
    get_free(g);
}

static void get_fail(struct get *g, int code, const char *message)
{
    call_read_error(g->call, code, message, g->it.shard, g->stream);
    get_leave(g);
    get_free(g);
}

/* ---- records --------------------------------------------------------------------------------------------------------------- */

void kinesis_write_record(struct aws_writer *w, uint32_t shard, uint64_t created_s, uint64_t time_ms, const struct batch_record *r)
{
    char sequence[SEQNO_TEXT_MAX];
    call_sequence(sequence, created_s, shard, r->offset, time_ms);
    aws_write_object(w);
    aws_member_write_text(w, "SequenceNumber", sequence);
    aws_member_write_time(w, "ApproximateArrivalTimestamp", (int64_t)time_ms);
    aws_write_key(w, "Data");
    aws_write_blob(w, r->data, r->data_len);
    aws_write_key(w, "PartitionKey");
    aws_write_text(w, (const char *)r->key, r->key_len);
    aws_write_object_end(w);
}

static void write_record(struct get *g, const struct batch_record *r, uint64_t time_ms, uint64_t created_s)
{
    kinesis_write_record(&g->call->writer, g->it.shard, created_s, time_ms, r);
    g->next = r->offset + 1;
    g->records++;
    g->bytes += r->key_len + r->data_len;
}

static bool room_for(const struct get *g, const struct batch_record *r)
{
    return g->records < g->limit && (g->records == 0 || g->bytes + r->key_len + r->data_len <= GET_BYTES_MAX);
}

/* One batch from g->next on. *referred: the answer refers to `batch`. False: it is damaged inside. */
static bool write_batch(struct get *g, const uint8_t *batch, size_t len, uint64_t created_s, bool *referred)
{
    struct batch_reader br;
    struct batch_record r;
    bool refers = false;
    if (batch_reader_open_verified(&br, batch, len, &g->scratch, &g->scratch_size, NULL) != 0) {
        return false;
    }
    int got;
    while ((got = batch_reader_next(&br, &r)) == 1) {
        if (r.offset < g->next) {
            continue;
        }
        if (!room_for(g, &r)) {
            g->full = true;
            g->cut_ms = br.header.time_ms;
            break;
        }
        write_record(g, &r, br.header.time_ms, created_s);
        refers = refers || (g->call->format == AWS_CBOR && r.data_len >= AWS_BLOB_BY_REFERENCE);
    }
    if (refers && br.header.codec == BATCH_LZ4) {
        gather(g, g->scratch_size);
        keep(g, g->scratch);
        g->scratch = NULL;
        g->scratch_size = 0;
    } else if (refers) {
        *referred = true;
    }
    return got >= 0;
}

/* ---- the answer ------------------------------------------------------------------------------------------------------------ */

static void write_child(struct aws_writer *w, const struct map_shard *s)
{
    char id[AWS_SHARD_ID_SIZE];
    aws_write_object(w);
    aws_shard_id_format(id, s->shard);
    aws_member_write_text(w, "ShardId", id);
    aws_write_key(w, "ParentShards");
    aws_write_list(w);
    for (unsigned i = 0; i < s->n_parents; i++) {
        aws_shard_id_format(id, s->parents[i]);
        aws_write_text(w, id, strlen(id));
    }
    aws_write_list_end(w);
    call_write_hash_range(w, s);
    aws_write_object_end(w);
}

bool kinesis_children_known(const struct map_stream *s, const uint32_t *children, size_t n)
{
    bool any = false;
    for (size_t i = 0; i < n; i++) {
        const struct map_shard *child = cluster_map_shard(s, children[i]);
        if (child != NULL ? child->coming : children[i] >= s->next_shard) {
            return false;
        }
        any = any || child != NULL;
    }
    return any; /* children that are gone were expired themselves */
}

void kinesis_write_children(struct aws_writer *w, const struct map_stream *s, const uint32_t *children, size_t n)
{
    aws_write_key(w, "ChildShards");
    aws_write_list(w);
    for (size_t i = 0; i < n; i++) {
        const struct map_shard *child = cluster_map_shard(s, children[i]);
        if (child != NULL) {
            write_child(w, child);
        }
    }
    aws_write_list_end(w);
}

static void get_answer(struct get *g, const struct sluice_fetched *f)
{
    struct call *c = g->call;
    struct aws_writer *w = &c->writer;
    const struct map_stream *s = cluster_map_stream_by_id(c->k->lane->map, g->it.stream);
    bool ended = f->code == 0 && f->closed && g->next == f->next_offset && s != NULL && kinesis_children_known(s, f->children, f->n_children);
    char iterator[AWS_ITERATOR_SIZE];
    g->it.position = AWS_POSITION_OFFSET;
    g->it.at = g->next;
    if (!ended && !call_iterator_seal(c, &g->it, iterator)) {
        get_leave(g);
        get_free(g);
        return;
    }
    aws_write_list_end(w);
    if (ended) {
        kinesis_write_children(w, s, f->children, f->n_children);
    } else {
        aws_member_write_text(w, "NextShardIterator", iterator);
    }
    uint64_t now = env_wall_ms(c->k->env);
    uint64_t behind = g->cut_ms == 0 ? f->millis_behind : now > g->cut_ms ? now - g->cut_ms : 1; /* 0 means that there is nothing more */
    aws_member_write_integer(w, "MillisBehindLatest", (int64_t)behind);
    c->k->metrics.get_records_total += g->records;
    get_leave(g);
    call_reply_referring(c, get_free, g);
}

/* ---- fetching -------------------------------------------------------------------------------------------------------------- */

static void fetched(struct sluice_fetched *f, void *user);

static int fetch_more(struct get *g)
{
    const struct sluice_fetch_options o = {.offset = g->next, .from_horizon = true, .stream_id = g->it.stream, .max_records = g->limit - g->records, .timeout_ms = GET_MS, .shared = true,
                                           .max_bytes = crowded(g->k) ? FETCH_BYTES_CROWDED : FETCH_BYTES, .continued = g->rounds > 0};
    g->rounds++;
    int code = sluice_fetch(g->client, g->stream, g->it.shard, &o, fetched, g, &g->fetch);
    if (code == 0) {
        await(g, o.max_bytes);
    }
    return code;
}

/* Is there more that may be given with this answer? */
static bool wants_more(const struct get *g, const struct sluice_fetched *f)
{
    return !g->full && g->records < g->limit && g->bytes < GET_BYTES_MAX && g->next < f->end_offset && g->rounds < ROUNDS_MAX && f->len > 0 &&
           !crowded(g->k) && env_now_ms(g->k->env) - g->began_ms < ROUNDS_MS;
}

static void fetched(struct sluice_fetched *f, void *user)
{
    struct get *g = user;
    g->fetch = NULL;
    await(g, 0);
    if (f->code != 0 && g->records == 0) {
        get_fail(g, f->code, f->message);
        return;
    }
    if (f->code != 0) { /* what was fetched before is good */
        g->cut_ms = env_wall_ms(g->k->env) - 1;
        get_answer(g, f);
        return;
    }
    if (g->rounds == 1) {
        struct aws_writer *w = call_writer(g->call);
        aws_write_key(w, "Records");
        aws_write_list(w);
    }
    g->next = max_u64(g->next, f->offset);
    gather(g, f->len);
    size_t written = g->call->writer.bytes;
    bool referred = false, sound = true;
    for (size_t pos = 0; pos < f->len && sound && !g->full;) {
        uint32_t len = get_u32(f->data + pos + 4); /* checked when it came */
        sound = write_batch(g, f->data + pos, len, f->shard_created_s, &referred);
        pos += len;
    }
    if (referred) {
        keep(g, sluice_fetched_take(f));
    } else {
        give_back(g, f->len);
        gather(g, g->call->writer.bytes - written);
    }
    if (!sound) {
        get_fail(g, SLUICE_E_CORRUPT, "a batch's records are malformed");
        return;
    }
    if (!wants_more(g, f) || fetch_more(g) != 0) {
        get_answer(g, f);
    }
}

/* The stream and the shard that the iterator is of. */
static const struct map_stream *stream_of(struct call *c, const struct aws_iterator *it)
{
    const struct map_stream *s = cluster_map_stream_by_id(c->k->lane->map, it->stream);
    if (aws_member(c->input, AWS_M_StreamARN) != NULL) {
        const struct map_stream *named = call_stream(c);
        if (named == NULL) {
            return NULL;
        }
        if (named != s) {
            call_fail_text(c, AWS_E_InvalidArgumentException, "Invalid ShardIterator.");
            return NULL;
        }
    }
    const struct map_shard *shard = s != NULL ? cluster_map_shard(s, it->shard) : NULL;
    bool usable = s != NULL && strcmp(s->account, c->account) == 0 && stream_has_data(s);
    if (!usable || shard == NULL || shard->coming) {
        char id[AWS_SHARD_ID_SIZE];
        aws_shard_id_format(id, it->shard);
        call_fail(c, AWS_E_ResourceNotFoundException, "Shard %s in stream %s under account %s does not exist", id, usable ? s->name : "of the iterator", c->account);
        return NULL;
    }
    return s;
}

void kinesis_GetRecords(struct call *c)
{
    const uint8_t *key = call_token_key(c);
    if (key == NULL) {
        return;
    }
    struct aws_iterator it;
    char message[AWS_TOKEN_MESSAGE_SIZE];
    enum aws_error e = aws_iterator_open(aws_member_text(c->input, AWS_M_ShardIterator), key, (int64_t)env_wall_ms(c->k->env), &it, message);
    if (e == AWS_E_NONE && it.position != AWS_POSITION_OFFSET && it.position != AWS_POSITION_TRIM_HORIZON) {
        e = AWS_E_InvalidArgumentException; /* no such ones are given out */
        snprintf(message, sizeof message, "Invalid ShardIterator.");
    }
    if (e != AWS_E_NONE) {
        call_fail_text(c, e, message);
        return;
    }
    const struct map_stream *s = stream_of(c, &it);
    if (s == NULL) {
        return;
    }
    if (full_up(c->k)) {
        call_read_error(c, SLUICE_E_THROTTLED, NULL, it.shard, s->name);
        return;
    }
    struct sluice_client *client = call_client(c);
    if (client == NULL) {
        return;
    }
    struct get *g = xcalloc(1, sizeof *g);
    *g = (struct get){.call = c, .k = c->k, .client = client, .it = it, .limit = (uint32_t)aws_member_integer(c->input, AWS_M_Limit, GET_RECORDS_MAX),
                      .next = it.position == AWS_POSITION_OFFSET ? it.at : 0, .began_ms = env_now_ms(c->k->env)};
    memcpy(g->stream, s->name, sizeof g->stream);
    call_hold(c);
    c->user = g;
    c->abandoned = get_abandoned;
    int code = fetch_more(g);
    if (code != 0) {
        get_fail(g, code, NULL);
    }
}
