/* group_seed.c: bulk copy of committed batches from another replica's journal into ours (F11, and holes found by recovery).
 *
 * One request at a time: LINK_SEED asks for what is missing from the first hole on; the answer's batches are checked (header, checksums, offsets join), written as
 * JOURNAL_BATCH, and count when they are durable; then the next hole. A source that does not answer, or that lacks the data, is changed for another.
 * A source that takes puts at the same time gives no more than these leave room for (seed_pace.c). */
#include "group_impl.h"

#include <errno.h>
#include <stdlib.h>

#include "proto/batch.h"

struct seeder {
    uint64_t first, next;     /* wanted */
    uint64_t skip;            /* trimmed everywhere below this */
    uint64_t request, asked, asked_ms, source;
    bool waiting;
    unsigned writing, tries;
};

struct seed_write {
    struct journal_append append;
    struct group *g;
    struct locator locator;
    void *bytes;
};

/* ---- asking ---- */

/* The leader and the other members in turn, those that are up. Ours may be an old configuration, of which nobody answers any more: the leader has every second turn. */
static uint64_t choose_source(const struct group *g, unsigned tries)
{
    uint64_t leader = group_leader(g);
    bool leader_up = leader != 0 && leader != g->raft_id && links_peer_up(g->gs->links, raft_id_node(leader));
    if (leader_up && tries % 2 == 0) {
        return leader;
    }
    unsigned n = g->raft.configuration.n;
    for (unsigned i = 0; i < n; i++) {
        const struct raft_server *s = &g->raft.configuration.servers[(i + tries / 2) % n];
        if (s->id != g->raft_id && s->id != leader && s->role != RAFT_SPARE && links_peer_up(g->gs->links, raft_id_node(s->id))) {
            return s->id;
        }
    }
    return leader_up ? leader : 0;
}

static void step(struct group *g)
{
    struct seeder *s = g->seeder;
    uint64_t from, to;
    if (s == NULL || s->writing > 0 || s->waiting || g->state != GROUP_RUNNING) {
        return;
    }
    if (max_u64(s->first, s->skip) >= s->next || !batch_log_hole(g->batches, max_u64(s->first, s->skip), s->next, &from, &to)) {
        group_seed_stop(g);
        group_install_seeded(g);
        return;
    }
    s->source = choose_source(g, s->tries);
    if (s->source == 0) {
        return; /* nobody there: the tick tries again */
    }
    s->waiting = true;
    s->asked = from;
    s->asked_ms = group_now(g);
    struct link_message m = {.type = LINK_SEED, .term = g->raft.current_term, .a = from, .b = to, .c = GROUP_SEED_BYTES, .d = ++s->request};
    group_post(g, s->source, &m, 0);
}

void group_seed_begin(struct group *g, uint64_t first, uint64_t next)
{
    if (g->seeder == NULL) {
        g->seeder = xcalloc(1, sizeof *g->seeder);
        g->seeder->request = env_random_u64(g->gs->o.env); /* answers to a former seeder are not taken for ours */
    }
    g->seeder->first = first;
    g->seeder->next = next;
    step(g);
}

void group_seed_stop(struct group *g)
{
    free(g->seeder);
    g->seeder = NULL;
}

void group_seed_tick(struct group *g)
{
    struct seeder *s = g->seeder;
    if (s == NULL) {
        return;
    }
    if (s->waiting && (group_now(g) - s->asked_ms > GROUP_SEED_RETRY_MS || !links_peer_up(g->gs->links, raft_id_node(s->source)))) {
        s->waiting = false;
        s->tries++;
    }
    step(g);
}

static void batch_written(struct journal_append *a)
{
    struct seed_write *w = container_of(a, struct seed_write, append);
    struct group *g = w->g;
    group_enter(g);
    g->busy--;
    if (g->state == GROUP_RUNNING) {
        if (batch_log_insert(g->batches, &w->locator) == 0) {
            g->gs->stats.seeded_bytes += w->locator.place.len;
            if (g->sink.seeded != NULL) {
                g->sink.seeded(g->sink.arg, &w->locator);
            }
        }
        if (g->seeder != NULL && g->seeder->writing > 0 && --g->seeder->writing == 0) {
            step(g);
        }
    }
    free(w->bytes);
    free(w);
    group_leave(g);
}

static void write_batch(struct group *g, const struct batch_header *h, const void *bytes)
{
    struct seed_write *w = xcalloc(1, sizeof *w);
    w->g = g;
    w->bytes = xmalloc(h->total_len);
    memcpy(w->bytes, bytes, h->total_len);
    w->append.record = (struct journal_record){.kind = JOURNAL_BATCH, .group = g->id, .a = h->first_offset, .b = h->record_count, .c = h->time_ms,
                                               .data = w->bytes, .len = h->total_len};
    w->append.done = batch_written;
    g->busy++;
    g->seeder->writing++;
    journal_append(g->gs->o.journal, &w->append);
    w->locator = (struct locator){.offset = h->first_offset, .time_ms = h->time_ms, .place = w->append.place, .count = h->record_count};
}

void group_seed_data(struct group *g, struct link_message *m)
{
    struct seeder *s = g->seeder;
    if (s == NULL || !s->waiting || m->d != s->request || m->from != s->source) {
        return;
    }
    s->waiting = false;
    if (m->c == SLUICE_E_EXPIRED && m->b > s->asked) {
        /* Trimmed at the source by an entry that is on its way to us too: nothing to have. */
        s->skip = max_u64(s->skip, min_u64(m->b, s->next));
        step(g);
        return;
    }
    if (m->c != 0) {
        s->tries++;
        return; /* the tick asks another one */
    }
    const uint8_t *p = m->payload;
    uint64_t left = m->payload_len, at = s->asked;
    bool first = true;
    while (left > 0) {
        struct batch_header h;
        if (batch_header_decode(&h, p, left, false, NULL) != 0 || h.total_len > left || h.record_count == 0 || !batch_body_ok(p, h.total_len) ||
            (first ? h.first_offset > at || h.first_offset + h.record_count <= at : h.first_offset != at)) {
            groups_log(g, "batches from %llx at offset %llu are malformed", (unsigned long long)m->from, (unsigned long long)at);
            s->tries++;
            break;
        }
        if (h.first_offset >= s->next) {
            break;
        }
        write_batch(g, &h, p);
        first = false;
        at = h.first_offset + h.record_count;
        p += h.total_len;
        left -= h.total_len;
    }
    if (s->writing == 0) {
        s->tries++; /* an empty answer */
    }
}

/* ---- answering ---- */

enum {
    ANSWERS_MAX = 4,
    PACE_MS_MAX = GROUP_SEED_RETRY_MS / 2 /* what would have to wait longer is left to be asked again, perhaps of another source */
};

struct seed_answer {
    struct seed_answer *next;
    struct group *g;
    struct batch_read read;
    struct raft_io_send sent; /* told when the bytes have left */
    struct env_timer timer;   /* the answer's turn */
    struct link_message asked;
    uint64_t charged;         /* bytes of the lane's rate taken for it and not given yet */
};

static void answer_free(struct seed_answer *a)
{
    struct seed_answer **p = &a->g->answers;
    while (*p != a) {
        p = &(*p)->next;
    }
    *p = a->next;
    seed_pace_refund(a->g->gs, a->charged, 0);
    batch_read_end(&a->read);
    env_timer_close(&a->timer);
    free(a);
}

static void answer_sent(struct raft_io_send *req, int status)
{
    (void)status;
    answer_free(container_of(req, struct seed_answer, sent));
}

static void answer(struct group *g, struct seed_answer *a)
{
    struct batch_read *r = &a->read;
    struct link_message m = {.type = LINK_SEED_DATA, .a = r->offset, .b = r->next_offset, .d = a->asked.d};
    if (r->status != 0 || g->state != GROUP_RUNNING) {
        m.c = r->status == -ENOENT ? SLUICE_E_EXPIRED : r->status == -EIO ? SLUICE_E_CORRUPT : SLUICE_E_AHEAD;
        m.b = batch_log_first(g->batches);
        if (g->state == GROUP_RUNNING) {
            group_post(g, a->asked.from, &m, 0);
        }
        answer_free(a);
        return;
    }
    struct iovec parts[BATCH_READ_MAX];
    for (unsigned i = 0; i < r->n; i++) {
        parts[i] = (struct iovec){(void *)(uintptr_t)r->reads[i].data, r->reads[i].place.len};
        m.payload_len += r->reads[i].place.len;
    }
    seed_pace_refund(g->gs, a->charged, m.payload_len);
    a->charged = 0;
    struct send_req *sr = xcalloc(1, sizeof *sr);
    *sr = (struct send_req){.req = &a->sent, .cb = answer_sent, .refs = 1};
    group_send_parts(g, a->asked.from, &m, parts, r->n, sr, 0);
    group_send_req_done(g, sr);
}

static void answer_read(struct batch_read *r)
{
    struct seed_answer *a = container_of(r, struct seed_answer, read);
    struct group *g = a->g;
    group_enter(g);
    g->busy--;
    answer(g, a);
    group_leave(g);
}

static void log_entry_read(struct journal_read *r)
{
    struct seed_answer *a = r->user;
    a->read.status = r->status;
    answer_read(&a->read);
}

/* Only committed batches are in the batch log. A new leader does not know yet that the end of its log is committed, and will not before an entry of its own is, which may
 * take the very replica that asks. Whatever a replica of our term or an earlier one was told to be committed is in our log, so it is given from there. */
static const struct slot *uncommitted_batch(const struct group *g, const struct link_message *m)
{
    if (!group_leads(g) || m->term > g->raft.current_term || m->a < batch_log_next(g->batches)) {
        return NULL;
    }
    for (uint64_t i = max_u64(g->raft.last_applied + 1, g->log.first); i <= group_log_last(&g->log); i++) {
        const struct slot *s = group_log_at(&g->log, i);
        if (s != NULL && s->count > 0 && s->offset <= m->a && m->a < s->offset + s->count) {
            return s;
        }
    }
    return NULL;
}

static void answer_begin(struct group *g, struct seed_answer *a)
{
    const struct link_message *m = &a->asked;
    a->read.offset = m->a;
    a->read.max_bytes = (uint32_t)min_u64(m->c, GROUP_SEED_BYTES);
    a->read.limit = min_u64(m->b, batch_log_next(g->batches));
    a->read.done = answer_read;
    const struct slot *s = uncommitted_batch(g, m);
    if (s != NULL) {
        a->read.n = 1;
        a->read.next_offset = s->offset + s->count;
        a->read.reads[0] = (struct journal_read){.place = s->place, .user = a, .done = log_entry_read};
    }
    if (s != NULL ? journal_read(g->gs->o.journal, &a->read.reads[0]) == 1 : batch_read_begin(g->batches, &a->read) == 1) {
        a->read.status = s != NULL ? a->read.reads[0].status : a->read.status;
        g->busy--;
        answer(g, a);
    }
}

static void answer_due(struct env_timer *t)
{
    struct seed_answer *a = container_of(t, struct seed_answer, timer);
    struct group *g = a->g;
    group_enter(g);
    if (g->state == GROUP_RUNNING) {
        answer_begin(g, a);
    } else {
        g->busy--;
        answer_free(a);
    }
    group_leave(g);
}

void group_seed_asked(struct group *g, const struct link_message *m)
{
    struct groups *gs = g->gs;
    unsigned n = 0;
    for (struct seed_answer *a = g->answers; a != NULL; a = a->next) {
        n++;
    }
    if (g->batches == NULL || m->a >= m->b || n >= ANSWERS_MAX) {
        return; /* asked again later */
    }
    struct seed_answer *a = calloc(1, sizeof *a);
    if (a == NULL || env_timer_init(gs->o.env, &a->timer, answer_due) != 0) {
        free(a);
        return;
    }
    a->g = g;
    a->asked = *m;
    a->next = g->answers;
    g->answers = a;
    uint64_t wait = 0;
    if (seed_pace_applies(gs)) {
        a->charged = min_u64(m->c, GROUP_SEED_BYTES);
        wait = seed_pace_take(gs, a->charged);
        if (wait > PACE_MS_MAX) {
            answer_free(a);
            return;
        }
    }
    g->busy++;
    if (wait > 0) {
        env_timer_start_ms(&a->timer, wait);
    } else {
        answer_begin(g, a);
    }
}
