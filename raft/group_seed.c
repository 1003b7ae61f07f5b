/* group_seed.c: bulk copy of committed batches from journal to journal (F11).
 *
 * A snapshot is metadata only: it speaks of the batches of [first, next). Before an install may complete, the receiver asks the leader for what it
 * lacks of that range, an answer at a time: ask (LINK_SEED) -> the holder reads whole batches from its journal (LINK_SEED_DATA) -> each is checked by its own
 * header and checksum and by its offset -> journaled (JOURNAL_BATCH) -> durable: told to the sink -> the next is asked for. Lost questions and answers are asked
 * again; a range that the holder has trimmed meanwhile cancels the install, the leader then offers a newer snapshot. */
#include "group_impl.h"

#include "proto/batch.h"

#include <errno.h>
#include <stdlib.h>

struct seeder {
    struct completion completion;
    uint64_t next;             /* [at, next) is still to come */
    uint64_t at;
    uint64_t request, asked_ms;
    bool writing, finished;
};

/* The batches of one answer on their way into the journal. */
struct seed_write;
struct seed_batch { struct journal_append append; struct seed_write *write; };
struct seed_write {
    struct group *g;
    uint64_t request, next;
    uint8_t *data;
    unsigned n, left;
    struct seed_batch batches[];
};

struct seed_answer {
    struct seed_answer *next;
    struct group *g;
    struct link_message question;
    struct batch_read read;
};

/* ---- the side that lacks something ---- */

static void ask(struct group *g)
{
    struct seeder *s = g->seeder;
    s->asked_ms = group_now(g);
    s->request++;
    uint64_t leader = group_leader(g);
    if (leader == 0 || leader == g->raft_id) {
        return; /* asked again by group_seed_tick() */
    }
    struct link_message m = {.type = LINK_SEED, .a = s->at, .b = s->next, .c = GROUP_SEED_BYTES, .d = s->request};
    group_post(g, leader, &m, 0);
}

static void seeded(struct group *g, struct completion *c)
{
    struct seeder *s = container_of(c, struct seeder, completion);
    if (g->seeder == s) {
        g->seeder = NULL;
        group_install_seeded(g);
    }
    free(s);
}

/* Asks for the next hole, or says that there is none. */
static void go_on(struct group *g)
{
    struct seeder *s = g->seeder;
    uint64_t from, to;
    if (s->at < s->next && batch_log_hole(g->batches, s->at, s->next, &from, &to)) {
        s->at = from;
        ask(g);
        return;
    }
    s->finished = true;
    group_complete(g, &s->completion, 0);
}

/* group_install_seeded() runs later, once nothing of [first, next) is missing here. */
void group_seed_begin(struct group *g, uint64_t first, uint64_t next)
{
    sluice_assert(g->seeder == NULL);
    struct seeder *s = xcalloc(1, sizeof *s);
    s->completion.run = seeded;
    s->at = first;
    s->next = g->batches != NULL ? next : first;
    s->request = group_now(g) << 8; /* answers to a former seeder do not match */
    g->seeder = s;
    go_on(g);
}

void group_seed_tick(struct group *g)
{
    struct seeder *s = g->seeder;
    if (s != NULL && !s->writing && !s->finished && group_now(g) - s->asked_ms >= GROUP_SEED_RETRY_MS) {
        ask(g);
    }
}

void group_seed_stop(struct group *g)
{
    struct seeder *s = g->seeder;
    g->seeder = NULL;
    if (s != NULL && !s->finished) {
        free(s);
    } /* else seeded() frees it */
}

/* Once all batches of an answer are durable they are the sink's, and the next ones are asked for. */
static void batch_written(struct journal_append *append)
{
    struct seed_write *w = container_of(append, struct seed_batch, append)->write;
    struct group *g = w->g;
    if (--w->left > 0) {
        return;
    }
    group_enter(g);
    g->busy--;
    for (unsigned i = 0; i < w->n; i++) {
        const struct journal_append *a = &w->batches[i].append;
        struct locator l = {.offset = a->record.a, .count = (uint32_t)a->record.b, .time_ms = a->record.c, .place = a->place};
        g->sink.seeded(g->sink.arg, &l);
        g->gs->stats.seeded_bytes += a->record.len;
    }
    struct seeder *s = g->seeder;
    if (s != NULL && s->request == w->request && s->writing) {
        s->writing = false;
        s->at = w->next;
        go_on(g);
    }
    free(w->data);
    free(w);
    group_leave(g);
}

/* The batches of an answer, checked: their number, or 0 if anything about them is wrong. Fills w's appends if it is not NULL. */
static unsigned take_batches(const struct seeder *s, struct group *g, const uint8_t *data, size_t n, struct seed_write *w, uint64_t *next)
{
    unsigned count = 0;
    uint64_t at = s->at;
    while (n > 0) {
        struct batch_header h;
        if (batch_header_decode(&h, data, n, false, NULL) != 0 || h.total_len > n || h.first_offset != at || !batch_body_ok(data, h.total_len)) {
            return 0;
        }
        if (w != NULL) {
            w->batches[count].write = w;
            w->batches[count].append.record = (struct journal_record){.kind = JOURNAL_BATCH, .type = RAFT_COMMAND, .group = g->id, .index = h.raft_index,
                                                            .a = h.first_offset, .b = h.record_count, .c = h.time_ms, .data = data, .len = h.total_len};
        }
        at += h.record_count;
        data += h.total_len;
        n -= h.total_len;
        count++;
    }
    *next = at;
    return count;
}

void group_seed_data(struct group *g, struct link_message *m)
{
    struct seeder *s = g->seeder;
    if (s == NULL || s->finished || s->writing || m->d != s->request || m->a != s->at) {
        return;
    }
    if (m->c == SLUICE_E_EXPIRED) {
        group_seed_stop(g);
        group_cancel_install(g);
        return;
    }
    uint64_t next;
    unsigned n = m->c == 0 ? take_batches(s, g, m->payload, m->payload_len, NULL, &next) : 0;
    if (n == 0) {
        return; /* busy there, or not what we asked for: asked again soon */
    }
    struct seed_write *w = xcalloc(1, sizeof *w + n * sizeof w->batches[0]);
    *w = (struct seed_write){.g = g, .request = s->request, .next = next, .n = n, .left = n};
    const uint8_t *bytes = m->payload; /* inside payload_owned, if that is set */
    w->data = m->payload_owned;
    m->payload_owned = NULL;
    if (w->data == NULL) {
        bytes = w->data = memcpy(xmalloc(m->payload_len), m->payload, m->payload_len);
    }
    take_batches(s, g, bytes, m->payload_len, w, &next);
    s->writing = true;
    g->busy++;
    for (unsigned i = 0; i < n; i++) {
        w->batches[i].append.done = batch_written;
        journal_append(g->gs->o.journal, &w->batches[i].append);
    }
}

/* ---- the side that has it ---- */

static void answer(struct seed_answer *a)
{
    struct group *g = a->g;
    struct batch_read *r = &a->read;
    struct link_message m = {.type = LINK_SEED_DATA, .a = a->question.a, .b = r->next_offset, .d = a->question.d};
    size_t len = 0;
    switch (r->status) {
    case 0:
        break;
    case -ENOENT:
        m.c = SLUICE_E_EXPIRED;
        break;
    case -ENODATA:
        m.c = SLUICE_E_AHEAD;
        break;
    case -EIO:
        m.c = SLUICE_E_CORRUPT;
        break;
    default:
        m.c = SLUICE_E_BUSY;
        break;
    }
    for (unsigned i = 0; r->status == 0 && i < r->n; i++) {
        len += r->reads[i].place.len;
    }
    if (len == 0) {
        m.c = m.c == 0 ? SLUICE_E_AHEAD : m.c;
        group_post(g, a->question.from, &m, 0);
    } else {
        /* A copy, so that nothing stays pinned while the link is slow. */
        uint8_t *copy = xmalloc(len), *p = copy;
        for (unsigned i = 0; i < r->n; i++) {
            memcpy(p, r->reads[i].data, r->reads[i].place.len);
            p += r->reads[i].place.len;
        }
        struct send_req *req = xcalloc(1, sizeof *req);
        req->refs = 1;
        req->data = copy;
        m.payload_len = (uint32_t)len;
        struct iovec part = {copy, len};
        group_send_parts(g, a->question.from, &m, &part, 1, req, 0);
    }
    batch_read_end(r);
    struct seed_answer **at = &g->answers;
    while (*at != a) {
        at = &(*at)->next;
    }
    *at = a->next;
    g->busy--;
    free(a);
}

static void on_read(struct batch_read *r)
{
    struct seed_answer *a = container_of(r, struct seed_answer, read);
    struct group *g = a->g;
    group_enter(g);
    answer(a);
    group_leave(g);
}

void group_seed_asked(struct group *g, const struct link_message *m)
{
    if (g->batches == NULL || g->state != GROUP_RUNNING) {
        return;
    }
    for (const struct seed_answer *a = g->answers; a != NULL; a = a->next) {
        if (a->question.from == m->from) {
            return; /* one at a time and peer */
        }
    }
    struct seed_answer *a = xcalloc(1, sizeof *a);
    a->g = g;
    a->question = *m;
    a->read = (struct batch_read){.offset = m->a, .limit = min_u64(m->b, batch_log_next(g->batches)),
                                  .max_bytes = (uint32_t)min_u64(m->c, GROUP_SEED_BYTES), .done = on_read};
    a->next = g->answers;
    g->answers = a;
    g->busy++;
    if (batch_read_begin(g->batches, &a->read) == 1) {
        answer(a);
    }
}

/* Closing: reads that are under way finish by themselves; they hold the group by its busy count. */
void group_seed_answers_stop(struct group *g) { (void)g; }
