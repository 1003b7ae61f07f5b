/* kinesis_events.c: what was pushed becomes events of the stream, each a frame of its own (server/aws/aws_event.h).
 *
 * An event holds records of one push, as many as fit. CBOR refers to the data where it lies: the push, and what LZ4 unpacked, live until the event has left. */
#include <stdlib.h>
#include <string.h>

#include "proto/base.h"
#include "server/aws/aws_event.h"
#include "server/kinesis/kinesis_subscribe.h"

enum {
    EVENT_BYTES = 1 << 20, /* keys and data in one event, unless one record has more */
    EVENT_RECORDS = 10000
};

struct kept_memory { struct kept_memory *next; void *memory; };

/* One event on its way. */
struct event {
    struct call *call;       /* held: the writer's blocks are the endpoint's */
    struct push *push;
    struct kept_memory *kept;
    struct aws_writer writer;
    struct aws_event frame;
    struct iovec iov[];      /* head, payload, tail */
};

void push_unref(struct push *p)
{
    if (--p->refs > 0) {
        return;
    }
    *p->live_prev = p->live_next;
    if (p->live_next != NULL) {
        p->live_next->live_prev = p->live_prev;
    }
    if (p->s != NULL && p->s->subscription != NULL && p->len > 0) {
        sluice_subscription_credit(p->s->subscription, p->len);
    }
    free(p->data);
    free(p);
}

static void kept_free(struct kept_memory *k)
{
    while (k != NULL) {
        struct kept_memory *next = k->next;
        free(k->memory);
        free(k);
        k = next;
    }
}

static void event_left(void *arg)
{
    struct event *e = arg;
    struct call *c = e->call;
    aws_writer_deinit(&e->writer);
    kept_free(e->kept);
    if (e->push != NULL) {
        push_unref(e->push);
    }
    free(e);
    call_release(c);
}

static bool event_send(struct subscriber *s, struct aws_writer *w, struct push *p, struct kept_memory *kept, enum aws_error exception)
{
    const struct iovec *iov;
    unsigned n;
    size_t bytes;
    struct call *c = s->call;
    if (aws_writer_end(w, &iov, &n, &bytes) != 0 || bytes > AWS_EVENT_PAYLOAD_MAX) {
        aws_writer_deinit(w);
        kept_free(kept);
        return false;
    }
    struct event *e = xcalloc(1, sizeof *e + (n + 2) * sizeof e->iov[0]);
    *e = (struct event){.call = c, .push = p, .kept = kept, .writer = *w};
    if (exception != AWS_E_NONE) {
        aws_event_seal_exception(&e->frame, c->format, exception, iov, n);
    } else {
        aws_event_seal(&e->frame, c->format, "SubscribeToShardEvent", iov, n);
    }
    e->iov[0] = (struct iovec){e->frame.head, e->frame.head_n};
    memcpy(e->iov + 1, iov, n * sizeof *iov);
    e->iov[n + 1] = (struct iovec){e->frame.tail, AWS_EVENT_TAIL};
    call_hold(c);
    if (p != NULL) {
        p->refs++;
    }
    if (http_stream_write(c->http, &(struct http_bytes){.iov = e->iov, .n_iov = n + 2, .release = event_left, .arg = e}) != 0) {
        event_left(e);
        return false;
    }
    return true;
}

static void event_begin(struct subscriber *s, struct aws_writer *w)
{
    aws_writer_init(w, s->call->format, AWS_EVENT_PAYLOAD_MAX, &s->k->blocks);
    aws_write_object(w);
}

static void continuation(const struct subscriber *s, struct aws_writer *w, uint64_t last_ms)
{
    char text[SEQNO_TEXT_MAX];
    if (last_ms != 0) {
        call_sequence(text, s->created_s, s->shard, s->next_offset - 1, last_ms);
    } else {
        call_sequence(text, s->created_s, s->shard, s->next_offset, 0);
    }
    aws_member_write_text(w, "ContinuationSequenceNumber", text);
}

/* An event in the making. */
struct gathering {
    struct aws_writer w;
    struct kept_memory *kept; /* what LZ4 unpacked and CBOR refers to */
    void *scratch;
    size_t scratch_size;
    uint64_t bytes, last_ms;
    unsigned records;
    bool full;
};

/* The records of the push's present batch from s->next_offset on, as many as fit. False: it is damaged inside. */
static bool gather_batch(struct subscriber *s, struct push *p, struct gathering *g)
{
    const uint8_t *batch = p->data + p->pos;
    uint32_t len = get_u32(batch + 4); /* checked when it came */
    struct batch_reader br;
    struct batch_record r;
    if (batch_reader_open_verified(&br, batch, len, &g->scratch, &g->scratch_size, NULL) != 0) {
        return false;
    }
    int got;
    while ((got = batch_reader_next(&br, &r)) == 1) {
        if (r.offset < s->next_offset) {
            continue;
        }
        g->full = g->records > 0 && (g->records == EVENT_RECORDS || g->bytes + r.key_len + r.data_len > EVENT_BYTES);
        if (g->full) {
            break;
        }
        kinesis_write_record(&g->w, s->shard, s->created_s, br.header.time_ms, &r);
        g->bytes += r.key_len + r.data_len;
        g->last_ms = br.header.time_ms;
        g->records++;
        s->next_offset = r.offset + 1;
    }
    p->pos += got == 0 ? len : 0;
    if (br.header.codec == BATCH_LZ4 && s->call->format == AWS_CBOR) {
        struct kept_memory *k = xcalloc(1, sizeof *k);
        *k = (struct kept_memory){.next = g->kept, .memory = g->scratch};
        g->kept = k;
        g->scratch = NULL;
        g->scratch_size = 0;
    }
    return got >= 0;
}

/* The next records of a push, as many as fit into one event. False: damaged, or no memory. */
static bool records_event(struct subscriber *s, struct push *p)
{
    struct gathering g = {0};
    event_begin(s, &g.w);
    aws_write_key(&g.w, "Records");
    aws_write_list(&g.w);
    bool sound = true;
    while (sound && !g.full && p->pos < p->len) {
        sound = gather_batch(s, p, &g);
    }
    free(g.scratch);
    if (!sound || g.records == 0) {
        aws_writer_deinit(&g.w);
        kept_free(g.kept);
        return sound;
    }
    aws_write_list_end(&g.w);
    continuation(s, &g.w, g.last_ms);
    uint64_t now = env_wall_ms(s->k->env);
    aws_member_write_integer(&g.w, "MillisBehindLatest", (int64_t)(p->pos == p->len ? p->millis_behind : now > g.last_ms ? now - g.last_ms : 1));
    aws_write_object_end(&g.w);
    s->k->metrics.pushed_records_total += g.records;
    return event_send(s, &g.w, p, g.kept, AWS_E_NONE);
}

static bool empty_event(struct subscriber *s, uint64_t millis_behind)
{
    struct aws_writer w;
    event_begin(s, &w);
    aws_write_key(&w, "Records");
    aws_write_list(&w);
    aws_write_list_end(&w);
    continuation(s, &w, 0);
    aws_member_write_integer(&w, "MillisBehindLatest", (int64_t)millis_behind);
    aws_write_object_end(&w);
    return event_send(s, &w, NULL, NULL, AWS_E_NONE);
}

bool events_write_push(struct subscriber *s)
{
    struct push *p = s->queue;
    s->next_offset = max_u64(s->next_offset, p->offset);
    bool fine = p->len > 0 ? records_event(s, p) : empty_event(s, p->millis_behind);
    if (fine && p->pos == p->len) {
        s->queue = p->next;
        if (s->queue == NULL) {
            s->queue_tail = &s->queue;
        }
        push_unref(p);
    }
    return fine;
}

bool events_write_children(struct subscriber *s, const struct map_stream *m)
{
    struct aws_writer w;
    event_begin(s, &w);
    aws_write_key(&w, "Records");
    aws_write_list(&w);
    aws_write_list_end(&w);
    aws_member_write_integer(&w, "MillisBehindLatest", 0);
    kinesis_write_children(&w, m, s->children, s->n_children);
    aws_write_object_end(&w);
    return event_send(s, &w, NULL, NULL, AWS_E_NONE);
}

bool events_write_exception(struct subscriber *s)
{
    struct aws_writer w;
    event_begin(s, &w);
    aws_member_write_text(&w, "message", s->message);
    aws_write_object_end(&w);
    return event_send(s, &w, NULL, NULL, s->error);
}
