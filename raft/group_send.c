/* group_send.c: raft_io.send.
 *
 * R5: nothing leaves before what it rests on is durable: every message waits for the latest term record; RequestVote, InstallSnapshot and TimeoutNow also for the
 * latest append. AppendEntries of a leader with further voters may leave while its own copy is still being written; a leader that is the only voter waits (R12).
 * R8: returns 0 always (but for R3's gate) and calls back later, never from inside.
 * R9: AppendEntries is cut into fragments that are valid requests of their own; what is under way to a peer is not sent again; the bytes under way are bounded. */
#include "group_impl.h"

#include <errno.h>
#include <stdlib.h>

static void owe_callback(struct group *g, struct raft_io_send *req, raft_io_send_cb cb, int status)
{
    if (cb == NULL) {
        return; /* raft_transfer(): req is part of memory of the caller's and not kept */
    }
    if (g->n_sent == g->cap_sent) {
        g->cap_sent = g->cap_sent == 0 ? 8 : 2 * g->cap_sent;
        g->sent = xrealloc(g->sent, g->cap_sent * sizeof *g->sent);
    }
    req->cb = cb;
    g->sent[g->n_sent++] = (struct sent_callback){req, cb, status};
}

bool group_run_sent(struct group *g)
{
    bool any = g->n_sent > 0;
    while (g->n_sent > 0) {
        unsigned n = g->n_sent;
        struct sent_callback *list = g->sent;
        g->sent = NULL;
        g->n_sent = g->cap_sent = 0;
        for (unsigned i = 0; i < n; i++) {
            list[i].cb(list[i].req, list[i].status);
        }
        if (g->sent == NULL) {
            g->sent = list; /* keep the room */
            g->cap_sent = n;
        } else {
            free(list);
        }
    }
    return any;
}

/* Told that a probe was lost, libraft would begin again behind what it knows to match: at entry 1, as long as R3's gate keeps all acknowledgements from it. It
 * repeats a probe by itself; only a peer that it sends to without waiting must be probed anew. */
static int append_status(const struct group *g, uint64_t to, int status)
{
    unsigned at;
    if (status == 0 || !group_leads(g) || g->raft.leader_state.progress == NULL || group_server(g, to, &at) == NULL) {
        return status;
    }
    return g->raft.leader_state.progress[at].state == PROGRESS_PROBE ? 0 : status;
}

void group_send_req_done(struct group *g, struct send_req *r)
{
    if (r != NULL && --r->refs == 0) {
        owe_callback(g, r->req, r->cb, r->to != 0 ? append_status(g, r->to, r->status) : r->status);
        free(r->data);
        free(r);
    }
}

static void outgoing_done(struct link_send *s)
{
    struct outgoing *o = container_of(s, struct outgoing, send);
    struct group *g = o->g;
    group_enter(g);
    g->busy--;
    if (s->status != 0 && o->req != NULL) {
        o->req->status = RAFT_NOCONNECTION;
    }
    group_send_req_done(g, o->req);
    free(o);
    group_leave(g);
}

static void let_go(struct group *g, struct outgoing *o)
{
    if (o->small) {
        links_post(g->gs->links, o->node, &o->send.message);
        g->busy--;
        free(o);
    } else {
        o->send.done = outgoing_done;
        links_send(g->gs->links, o->node, &o->send);
    }
}

void group_release_held(struct group *g)
{
    uint64_t durable = g->held == NULL ? 0 : journal_durable(g->gs->o.journal);
    while (g->held != NULL && (g->held->need <= durable || g->state == GROUP_CLOSING)) {
        struct outgoing *o = g->held;
        g->held = o->next;
        if (g->held == NULL) {
            g->held_tail = &g->held;
        }
        if (o->need <= durable) {
            let_go(g, o);
        } else { /* closing: what was not yet allowed to leave never leaves */
            g->busy--;
            if (o->req != NULL) {
                o->req->status = RAFT_CANCELED;
            }
            group_send_req_done(g, o->req);
            free(o);
        }
    }
}

static void hold(struct group *g, struct outgoing *o)
{
    o->next = NULL;
    *g->held_tail = o;
    g->held_tail = &o->next;
}

static bool must_hold(struct group *g, uint64_t need)
{
    if (!group_rule_on(g, GROUP_RULE_R5)) {
        return false;
    }
    return g->held != NULL || need > journal_durable(g->gs->o.journal);
}

static void address(struct group *g, uint64_t to, struct link_message *m)
{
    m->group = g->id;
    m->from = g->raft_id;
    m->to = to;
}

/* A small message without payload. */
void group_post(struct group *g, uint64_t to, struct link_message *m, uint64_t need)
{
    address(g, to, m);
    uint32_t node = raft_id_node(to);
    if (!must_hold(g, need)) {
        links_post(g->gs->links, node, m);
        return;
    }
    struct outgoing *o = xcalloc(1, sizeof *o);
    o->g = g;
    o->send.message = *m;
    o->need = need;
    o->node = node;
    o->small = true;
    g->busy++;
    hold(g, o);
}

/* A message with payload: room for its parts and entries comes with it; the caller fills them and sends it by send_outgoing(). */
static struct outgoing *new_outgoing(struct group *g, uint64_t to, const struct link_message *m, unsigned n_parts, struct iovec **parts, struct link_entry **entries)
{
    struct outgoing *o = xmalloc(sizeof *o + n_parts * sizeof **parts + m->n_entries * sizeof **entries);
    *o = (struct outgoing){.g = g, .send.message = *m, .send.n_parts = n_parts, .node = raft_id_node(to)};
    address(g, to, &o->send.message);
    *parts = (struct iovec *)(o + 1);
    *entries = (struct link_entry *)(*parts + n_parts);
    o->send.parts = *parts;
    o->send.message.entries = *entries;
    return o;
}

static void send_outgoing(struct group *g, struct outgoing *o, struct send_req *req, uint64_t need)
{
    o->req = req;
    o->need = need;
    if (req != NULL) {
        req->refs++;
    }
    g->busy++;
    if (must_hold(g, need)) {
        hold(g, o);
    } else {
        let_go(g, o);
    }
}

/* `parts` are copied, what they point to is not: it stays valid until req's callback. */
void group_send_parts(struct group *g, uint64_t to, struct link_message *m, const struct iovec *parts, unsigned n_parts, struct send_req *req, uint64_t need)
{
    struct iovec *own;
    struct link_entry *none;
    sluice_assert(m->n_entries == 0);
    struct outgoing *o = new_outgoing(g, to, m, n_parts, &own, &none);
    memcpy(own, parts, n_parts * sizeof *parts);
    send_outgoing(g, o, req, need);
}

/* ---- AppendEntries ---- */

static uint64_t window(const struct group *g) { return max_u64(g->gs->o.in_flight_bytes, 1 << 20); }

/* The fragment of entries first.. of a request: sends it and says where it ended. */
static uint64_t send_fragment(struct group *g, const struct raft_append_entries *a, uint64_t to, uint64_t first, uint64_t room, struct send_req *req, uint64_t need)
{
    uint64_t last = a->prev_log_index + a->n_entries, bytes = 0;
    const struct raft_entry *e = &a->entries[first - a->prev_log_index - 1];
    unsigned n = 0;
    for (; first + n <= last && n < GROUP_FRAGMENT_ENTRIES; n++) {
        if (n > 0 && (bytes + e[n].buf.len > GROUP_FRAGMENT_BYTES || bytes + e[n].buf.len > room)) {
            break;
        }
        bytes += e[n].buf.len;
    }
    uint64_t prev = first - 1;
    struct link_message m = {.type = LINK_APPEND, .term = a->term, .a = prev, .b = prev == a->prev_log_index ? a->prev_log_term : e[-1].term,
                             .c = min_u64(a->leader_commit, prev + n), .n_entries = n, .payload_len = (uint32_t)bytes};
    struct iovec *parts;
    struct link_entry *table;
    struct outgoing *o = new_outgoing(g, to, &m, n, &parts, &table);
    for (unsigned i = 0; i < n; i++) {
        table[i] = (struct link_entry){.term = e[i].term, .len = (uint32_t)e[i].buf.len, .type = e[i].type};
        const struct slot *slot = group_log_at(&g->log, first + i);
        if (slot != NULL && slot->term == e[i].term && slot->place.len == e[i].buf.len) { /* the journal has it, and its checksum */
            table[i].crc_known = true;
            table[i].crc = slot->place.crc;
        }
        parts[i] = (struct iovec){e[i].buf.base, e[i].buf.len};
    }
    send_outgoing(g, o, req, need);
    return prev + n;
}

static void send_heartbeat(struct group *g, struct peer *p, uint64_t term, uint64_t prev, uint64_t prev_term, uint64_t commit)
{
    struct link_message m = {.type = LINK_APPEND, .term = term, .a = prev, .b = prev_term, .c = min_u64(commit, prev)};
    p->commit_told = m.c;
    group_post(g, p->id, &m, g->term_end);
}

static int send_append(struct group *g, struct raft_io_send *req, uint64_t to, const struct raft_append_entries *a, raft_io_send_cb cb)
{
    if (group_leads(g) && g->barrier_term != g->raft.current_term) {
        return RAFT_NOCONNECTION; /* R3; nothing is kept */
    }
    struct peer *p = group_peer(g, to);
    uint32_t node = raft_id_node(to);
    uint64_t epoch = links_epoch(g->gs->links, node), now = group_now(g);
    if (a->n_entries == 0) {
        send_heartbeat(g, p, a->term, a->prev_log_index, a->prev_log_term, a->leader_commit);
        owe_callback(g, req, cb, 0);
        return 0;
    }
    if (epoch == 0) {
        owe_callback(g, req, cb, append_status(g, to, RAFT_NOCONNECTION));
        return 0;
    }
    uint64_t last = a->prev_log_index + a->n_entries, first = a->prev_log_index + 1;
    bool self;
    bool sole = group_voters(g, &self) <= 1 && self && group_rule_on(g, GROUP_RULE_R12);
    uint64_t need = sole ? max_u64(g->term_end, g->append_end) : g->term_end;
    bool r9 = group_rule_on(g, GROUP_RULE_R9);
    if (p->epoch != epoch || p->sent_end <= p->ack || now - p->progress_ms > 2 * g->heartbeat_ms + g->gs->o.silence_ms) {
        p->epoch = epoch;
        p->sent_from = first;
        p->sent_end = first - 1; /* nothing of ours is under way */
        p->progress_ms = now;
    } else if (first < p->sent_from) {
        p->sent_from = first;
        p->sent_end = first - 1;
    } else if (first > p->sent_end + 1 && r9) {
        owe_callback(g, req, cb, append_status(g, to, RAFT_NOCONNECTION)); /* behind a gap: the peer would refuse it */
        return 0;
    } else if (r9) {
        first = p->sent_end + 1; /* the rest is on its way already */
    }
    if (first > last) {
        send_heartbeat(g, p, a->term, last, a->entries[a->n_entries - 1].term, a->leader_commit);
        owe_callback(g, req, cb, 0);
        return 0;
    }
    struct send_req *sr = xcalloc(1, sizeof *sr);
    *sr = (struct send_req){.req = req, .cb = cb, .refs = 1, .to = to};
    uint64_t done = max_u64(p->ack, p->sent_from - 1);
    while (first <= last) {
        uint64_t under_way = p->sent_end > done ? group_log_bytes_to(&g->log, p->sent_end) - group_log_bytes_to(&g->log, done) : 0;
        uint64_t bytes = a->entries[first - a->prev_log_index - 1].buf.len;
        if (r9 && under_way > 0 && under_way + bytes > window(g)) {
            sr->status = RAFT_NOCONNECTION; /* full: libraft probes and comes again with the next acknowledgement */
            break;
        }
        uint64_t end = send_fragment(g, a, to, first, window(g) > under_way ? window(g) - under_way : 0, sr, need);
        p->commit_told = min_u64(a->leader_commit, end);
        p->sent_end = end;
        first = end + 1;
    }
    group_send_req_done(g, sr);
    return 0;
}

/* Followers of an idle leader learn of a commit at once, not with the next heartbeat. */
void group_send_commit(struct group *g)
{
    if (!group_leads(g) || g->raft.leader_state.progress == NULL || g->ready_term != g->raft.current_term) {
        return;
    }
    for (unsigned i = 0; i < g->raft.configuration.n; i++) {
        const struct raft_server *s = &g->raft.configuration.servers[i];
        const struct raft_progress *progress = &g->raft.leader_state.progress[i];
        if (s->id == g->raft_id || s->role == RAFT_SPARE || progress->state == PROGRESS_SNAPSHOT) {
            continue;
        }
        struct peer *p = group_peer(g, s->id);
        uint64_t match = progress->match_index, term = group_log_term(&g->log, match);
        uint64_t commit = min_u64(g->raft.commit_index, match);
        if (term != 0 && p->commit_told < commit) {
            struct link_message m = {.type = LINK_APPEND, .flags = LINK_QUIET, .term = g->raft.current_term, .a = match, .b = term, .c = commit};
            p->commit_told = commit;
            group_post(g, p->id, &m, g->term_end);
        }
    }
}

/* ---- the others ---- */

static void send_install(struct group *g, struct raft_io_send *req, uint64_t to, const struct raft_install_snapshot *a, raft_io_send_cb cb)
{
    struct raft_buffer conf;
    if (group_conf_encode(&a->conf, &conf) != 0) {
        owe_callback(g, req, cb, RAFT_NOMEM);
        return;
    }
    struct send_req *sr = xcalloc(1, sizeof *sr);
    *sr = (struct send_req){.req = req, .cb = cb, .refs = 1, .data = conf.base};
    struct iovec parts[2] = {{conf.base, conf.len}, {a->data.base, a->data.len}};
    struct link_message m = {.type = LINK_INSTALL, .term = a->term, .a = a->last_index, .b = a->last_term, .c = a->conf_index, .d = conf.len,
                             .payload_len = (uint32_t)(conf.len + a->data.len)};
    group_peer(g, to)->offered_ms = group_now(g);
    group_send_parts(g, to, &m, parts, 2, sr, max_u64(g->term_end, g->append_end));
    group_send_req_done(g, sr);
    g->gs->stats.installs++;
}

/* F23: TimeoutNow goes when the target has all of our log and ours is durable. */
void group_send_timeout_now(struct group *g)
{
    struct link_message *m = &g->timeout_now_out;
    unsigned at;
    if (m->type == 0) {
        return;
    }
    if (!group_leads(g) || g->raft.transfer == NULL || group_server(g, m->to, &at) == NULL) {
        m->type = 0;
        return;
    }
    if (g->raft.leader_state.progress[at].match_index == group_log_last(&g->log) && g->append_end <= journal_durable(g->gs->o.journal)) {
        struct link_message out = *m;
        m->type = 0;
        out.a = group_log_last(&g->log);
        out.b = group_log_term(&g->log, out.a);
        group_post(g, out.to, &out, max_u64(g->term_end, g->append_end));
    }
}

int io_send(struct raft_io *io, struct raft_io_send *req, const struct raft_message *message, raft_io_send_cb cb)
{
    struct group *g = io->impl;
    uint64_t to = message->server_id;
    if (message->type == RAFT_IO_APPEND_ENTRIES) {
        return send_append(g, req, to, &message->append_entries, cb);
    }
    if (!group_rule_on(g, GROUP_RULE_R8) && links_epoch(g->gs->links, raft_id_node(to)) == 0) {
        return RAFT_NOCONNECTION; /* the mistake that the rule forbids: libraft frees a request twice when its answer cannot be sent */
    }
    if (to == 0) { /* a result for a leader that was forgotten meanwhile */
        owe_callback(g, req, cb, 0);
        return 0;
    }
    struct link_message m;
    switch (message->type) {
    case RAFT_IO_APPEND_ENTRIES_RESULT: {
        struct raft_append_entries_result r = message->append_entries_result;
        if (r.rejected != 0) {
            r.last_log_index = group_retreat(g, r.rejected, r.last_log_index);
        }
        if (!g->mute_result && group_clamp(g, &r)) {
            m = (struct link_message){.type = LINK_APPEND_RESULT, .term = r.term, .a = r.rejected, .b = r.last_log_index,
                                      .flags = group_installing(g) ? LINK_INSTALLING : 0};
            group_post(g, to, &m, g->term_end);
        }
        break;
    }
    case RAFT_IO_REQUEST_VOTE: {
        const struct raft_request_vote *v = &message->request_vote;
        m = (struct link_message){.type = LINK_VOTE, .term = v->term, .a = v->candidate_id, .b = v->last_log_index, .c = v->last_log_term,
                                  .flags = (uint8_t)((v->disrupt_leader ? LINK_DISRUPT : 0) | (v->pre_vote ? LINK_PREVOTE : 0))};
        group_post(g, to, &m, max_u64(g->term_end, g->append_end));
        break;
    }
    case RAFT_IO_REQUEST_VOTE_RESULT: {
        const struct raft_request_vote_result *v = &message->request_vote_result;
        /* libraft hides our term from a pre-vote that it refuses: of two survivors, one with the longer log and one with the higher term, neither would ever win. */
        uint64_t term = v->pre_vote == raft_tribool_true && !v->vote_granted ? max_u64(v->term, g->raft.current_term) : v->term;
        m = (struct link_message){.type = LINK_VOTE_RESULT, .term = term,
                                  .flags = (uint8_t)((v->vote_granted ? LINK_GRANTED : 0) | (v->pre_vote == raft_tribool_true ? LINK_PREVOTE : 0) |
                                                     (v->pre_vote != raft_tribool_unknown ? LINK_PREVOTE_KNOWN : 0))};
        group_post(g, to, &m, g->term_end);
        if (v->vote_granted) {
            group_vote_given(g, to, v->pre_vote == raft_tribool_true);
        } else if (v->pre_vote != raft_tribool_true) {
            group_vote_refused(g, to);
        }
        break;
    }
    case RAFT_IO_INSTALL_SNAPSHOT:
        send_install(g, req, to, &message->install_snapshot, cb);
        return 0;
    case RAFT_IO_TIMEOUT_NOW:
        g->timeout_now_out = (struct link_message){.type = LINK_TIMEOUT_NOW, .term = message->timeout_now.term};
        address(g, to, &g->timeout_now_out);
        return 0; /* cb is NULL and req not ours to keep (R8) */
    default:
        break;
    }
    owe_callback(g, req, cb, 0);
    return 0;
}
