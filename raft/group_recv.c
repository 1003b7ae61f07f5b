/* group_recv.c: messages from other replicas of the group: checked, then handed to libraft, whose own assertions are compiled out. */
#include "group_impl.h"

#include <stdio.h>
#include <stdlib.h>

static void address_of(uint64_t raft_id, char text[24]) { snprintf(text, 24, "%llu", (unsigned long long)raft_id); }

/* Nobody else can lead in a term in which we lead: libraft would take the message and mix up its states. */
static bool impossible_leader(struct group *g, const struct link_message *m)
{
    if (group_leads(g) && m->term == g->raft.current_term) {
        groups_log(g, "two leaders in term %llu: message of %llx dropped", (unsigned long long)m->term, (unsigned long long)m->from);
        return true;
    }
    return false;
}

/* ---- AppendEntries ---- */

static bool append_well_formed(const struct link_message *m)
{
    if (m->term == 0 || m->a > UINT64_MAX / 2 || (m->a == 0) != (m->b == 0) || m->b > m->term) {
        return false;
    }
    uint64_t term = m->b;
    const uint8_t *bytes = m->payload;
    for (uint32_t i = 0; i < m->n_entries; i++) {
        const struct link_entry *e = &m->entries[i];
        if (e->term < term || e->term == 0 || e->term > m->term || e->type < RAFT_COMMAND || e->type > RAFT_CHANGE) {
            return false;
        }
        if (e->type == RAFT_CHANGE && group_conf_decode(bytes, e->len, NULL) != 0) {
            return false;
        }
        term = e->term;
        bytes += e->len;
    }
    return true;
}

/* How many entries at the front need not be shown to libraft, because they are committed here. libraft can't compare what it has compacted away: it would refuse a
 * request that begins there, the leader would step back to the very first entry, and that one libraft would append at the end of the log. What is committed here
 * is in the log of every later leader, so the request may as well begin at our commit index. */
static uint32_t already_committed(const struct group *g, const struct link_message *m, uint64_t *prev, uint64_t *prev_term)
{
    uint64_t commit = g->raft.commit_index, term = group_log_term(&g->log, commit);
    *prev = m->a;
    *prev_term = m->b;
    if (m->a >= commit || m->term < g->raft.current_term || term == 0 || group_installing(g)) {
        return 0;
    }
    if (commit != g->raft.log.snapshot.last_index && commit <= g->raft.log.offset) {
        return 0;
    }
    uint32_t skip = (uint32_t)min_u64(m->n_entries, commit - m->a);
    if (m->a + skip == commit && skip > 0 && m->entries[skip - 1].term != term) {
        return 0; /* contradicts what is committed: libraft stops the replica */
    }
    *prev = commit;
    *prev_term = term;
    return skip;
}

static void receive_append(struct group *g, struct link_message *m)
{
    if (!append_well_formed(m) || impossible_leader(g, m)) {
        return;
    }
    if (m->n_entries > 0 && g->gs->log_bytes > g->gs->o.memory_max + g->gs->o.memory_max / 4) {
        if (group_holds_much(g)) {
            group_want_snapshot(g);
        }
        return; /* the leader repeats it */
    }
    struct raft_message msg = {.type = RAFT_IO_APPEND_ENTRIES, .server_id = m->from};
    struct raft_append_entries *a = &msg.append_entries;
    uint64_t prev, prev_term;
    uint32_t skip = already_committed(g, m, &prev, &prev_term);
    uint32_t n = m->n_entries - skip;
    a->term = m->term;
    a->prev_log_index = prev;
    a->prev_log_term = prev_term;
    /* Only up to what this request has compared; beyond may lie leftovers of former terms. */
    a->leader_commit = min_u64(m->c, prev + n);
    if (n > 0) {
        struct raft_entry *entries = raft_calloc(n, sizeof *entries);
        uint8_t *batch = m->payload_owned;
        const uint8_t *bytes = m->payload;
        if (batch == NULL) {
            batch = raft_malloc(m->payload_len > 0 ? m->payload_len : 1);
            if (batch != NULL && m->payload_len > 0) {
                memcpy(batch, m->payload, m->payload_len);
            }
            bytes = batch;
        }
        if (entries == NULL || batch == NULL) {
            raft_free(entries);
            if (m->payload_owned == NULL) {
                raft_free(batch);
            }
            return;
        }
        m->payload_owned = NULL;
        for (uint32_t i = 0; i < m->n_entries; i++) {
            if (i >= skip) {
                entries[i - skip] = (struct raft_entry){.term = m->entries[i].term, .type = m->entries[i].type, .batch = batch,
                                                        .buf = {(uint8_t *)(uintptr_t)bytes, m->entries[i].len}};
            }
            bytes += m->entries[i].len;
        }
        a->entries = entries;
        a->n_entries = n;
        if (a->term >= g->raft.current_term && !group_installing(g)) {
            for (uint32_t i = 0; i < n; i++) {
                uint64_t term = group_log_term(&g->log, prev + 1 + i);
                if (term == 0) {
                    break;
                }
                if (term != entries[i].term) {
                    group_conf_before_conflict(g, prev + 1 + i);
                    break;
                }
            }
        }
    }
    group_verify(g, a);
    if (m->term >= g->raft.current_term) {
        g->contact_ms = group_now(g);
    }
    char text[24];
    address_of(m->from, text);
    msg.server_address = text;
    g->mute_result = (m->flags & LINK_QUIET) != 0;
    g->recv(&g->io, &msg);
    g->mute_result = false;
}

static struct raft_progress *progress_of(struct group *g, uint64_t id)
{
    unsigned at;
    return group_server(g, id, &at) != NULL && g->raft.leader_state.progress != NULL ? &g->raft.leader_state.progress[at] : NULL;
}

static void receive_append_result(struct group *g, const struct link_message *m)
{
    struct raft_message msg = {.type = RAFT_IO_APPEND_ENTRIES_RESULT, .server_id = m->from, .server_address = ""};
    msg.append_entries_result = (struct raft_append_entries_result){.term = m->term, .rejected = m->a, .last_log_index = m->b};
    if (group_leads(g) && m->term == g->raft.current_term) {
        if (group_server(g, m->from, NULL) == NULL) {
            return;
        }
        group_peer(g, m->from)->heard_ms = group_now(g);
        group_snapshot_watch(g, m->from, (m->flags & LINK_INSTALLING) != 0);
        if (m->a != 0) {
            group_peer(g, m->from)->sent_end = 0; /* what is under way will be refused as well */
        } else if (!group_take_ack(g, m->from, &msg.append_entries_result)) {
            /* Kept back by R3: libraft would send the next window of a long log only with the next heartbeat. */
            struct raft_progress *p = progress_of(g, m->from);
            if (p != NULL && p->state == PROGRESS_PROBE && group_peer(g, m->from)->sent_end < group_log_last(&g->log)) {
                p->last_send = 0;
                g->tick(&g->io);
            }
            return;
        }
        struct raft_progress *p = progress_of(g, m->from), before = *p;
        g->recv(&g->io, &msg);
        p = group_leads(g) ? progress_of(g, m->from) : NULL;
        if (p != NULL && p->state == PROGRESS_PROBE && (before.state == PROGRESS_SNAPSHOT || p->next_index < before.next_index)) {
            /* Installed: what came meanwhile follows at once, before it is compacted away. Refused: the next probe goes at once. libraft would wait for a heartbeat. */
            p->last_send = 0;
            g->tick(&g->io);
        }
        return;
    }
    g->recv(&g->io, &msg);
}

/* ---- elections ---- */

static void receive_vote(struct group *g, const struct link_message *m)
{
    if (m->a != m->from || m->term == 0 || m->c > m->term) {
        return;
    }
    if ((m->flags & LINK_PREVOTE) != 0 && group_ignores_prevote(g, m->from)) {
        return;
    }
    char text[24];
    address_of(m->from, text);
    struct raft_message msg = {.type = RAFT_IO_REQUEST_VOTE, .server_id = m->from, .server_address = text};
    msg.request_vote = (struct raft_request_vote){.term = m->term, .candidate_id = m->a, .last_log_index = m->b, .last_log_term = m->c,
                                                  .disrupt_leader = (m->flags & LINK_DISRUPT) != 0, .pre_vote = (m->flags & LINK_PREVOTE) != 0};
    /* libraft 0.15 gives the target of a hand-over its vote even if it has voted for another in that term: two leaders. It must not see that there is one. */
    struct raft_transfer *transfer = g->raft.transfer;
    g->raft.transfer = NULL;
    /* And a replica that has not heard yet that it is a voter gives none: the promotion may be known just to those who need that vote to commit it. Who is asked
     * votes; the candidate counts those that its own configuration holds. */
    struct raft_server *self = group_server(g, g->raft_id, NULL);
    int role = self != NULL ? self->role : RAFT_VOTER;
    if (self != NULL) {
        self->role = RAFT_VOTER;
    }
    g->recv(&g->io, &msg);
    self = group_server(g, g->raft_id, NULL);
    if (self != NULL) {
        self->role = role;
    }
    if (g->raft.state != RAFT_UNAVAILABLE) {
        g->raft.transfer = transfer;
    }
}

static void receive_vote_result(struct group *g, const struct link_message *m)
{
    if (m->term == 0) {
        return;
    }
    if ((m->flags & (LINK_GRANTED | LINK_PREVOTE)) == 0 && m->term == g->raft.current_term) {
        group_peer(g, m->from)->refused = true;
    }
    struct raft_message msg = {.type = RAFT_IO_REQUEST_VOTE_RESULT, .server_id = m->from, .server_address = ""};
    msg.request_vote_result = (struct raft_request_vote_result){
        .term = m->term, .vote_granted = (m->flags & LINK_GRANTED) != 0,
        .pre_vote = (m->flags & LINK_PREVOTE_KNOWN) == 0 ? raft_tribool_unknown : TO_RAFT_TRIBOOL((m->flags & LINK_PREVOTE) != 0)};
    g->recv(&g->io, &msg);
}

/* ---- TimeoutNow: waits until our appends are durable (R5) and no snapshot is being installed (R6) ---- */

void group_deliver_timeout_now(struct group *g)
{
    struct link_message m = g->timeout_now_in;
    bool wait = (g->ops != NULL && group_rule_on(g, GROUP_RULE_R5)) || (group_installing(g) && group_rule_on(g, GROUP_RULE_R6));
    if (m.type == 0 || (wait && group_now(g) - g->timeout_now_ms < g->election_ms)) {
        return;
    }
    g->timeout_now_in.type = 0;
    if (wait || m.term != g->raft.current_term) {
        return;
    }
    struct raft_message msg = {.type = RAFT_IO_TIMEOUT_NOW, .server_id = m.from, .server_address = ""};
    msg.timeout_now = (struct raft_timeout_now){.term = m.term, .last_log_index = m.a, .last_log_term = m.b};
    g->recv(&g->io, &msg);
}

/* ---- InstallSnapshot ---- */

static void receive_install(struct group *g, const struct link_message *m)
{
    uint64_t first = 0, next = 0;
    if (m->term == 0 || m->a == 0 || m->b == 0 || m->b > m->term || m->c == 0 || m->c > m->a || m->d > m->payload_len || impossible_leader(g, m)) {
        return;
    }
    const uint8_t *data = (const uint8_t *)m->payload + m->d;
    uint32_t len = m->payload_len - (uint32_t)m->d;
    if (g->sink.range != NULL && (g->sink.range(g->sink.arg, data, len, &first, &next) != 0 || first > next)) {
        groups_log(g, "malformed snapshot from %llx", (unsigned long long)m->from);
        return;
    }
    struct raft_message msg = {.type = RAFT_IO_INSTALL_SNAPSHOT, .server_id = m->from};
    struct raft_install_snapshot *a = &msg.install_snapshot;
    raft_configuration_init(&a->conf);
    if (group_conf_decode(m->payload, m->d, &a->conf) != 0) {
        return;
    }
    *a = (struct raft_install_snapshot){.term = m->term, .last_index = m->a, .last_term = m->b, .conf = a->conf, .conf_index = m->c};
    a->data.len = len;
    a->data.base = raft_malloc(len > 0 ? len : 1);
    if (a->data.base == NULL) {
        raft_configuration_close(&a->conf);
        return;
    }
    memcpy(a->data.base, data, len);
    if (m->term >= g->raft.current_term) {
        g->contact_ms = group_now(g);
        if (m->term > g->verified_term) {
            g->verified_term = m->term;
            g->verified = 0;
        }
        /* R1: what we hold up to there is the leader's if it is committed, or ends in the same term; else only the install itself proves it. */
        if (m->a <= g->raft.commit_index || group_log_term(&g->log, m->a) == m->b) {
            g->verified = max_u64(g->verified, m->a);
        }
    }
    char text[24];
    address_of(m->from, text);
    msg.server_address = text;
    g->put_request_term = group_installing(g) ? g->put_request_term : m->term;
    g->recv(&g->io, &msg);
}

void group_receive(struct group *g, uint32_t from_node, struct link_message *m)
{
    if (g->state != GROUP_RUNNING || m->to != g->raft_id || m->from == g->raft_id || raft_id_node(m->from) != from_node) {
        return;
    }
    group_enter(g);
    switch (m->type) {
    case LINK_APPEND:
        receive_append(g, m);
        break;
    case LINK_APPEND_RESULT:
        receive_append_result(g, m);
        break;
    case LINK_VOTE:
        receive_vote(g, m);
        break;
    case LINK_VOTE_RESULT:
        receive_vote_result(g, m);
        break;
    case LINK_INSTALL:
        receive_install(g, m);
        break;
    case LINK_TIMEOUT_NOW:
        g->timeout_now_in = *m;
        g->timeout_now_in.payload = NULL;
        g->timeout_now_ms = group_now(g);
        break;
    case LINK_READ_INDEX:
        group_read_asked(g, m);
        break;
    case LINK_READ_INDEX_RESULT:
        group_read_confirmed(g, m);
        break;
    case LINK_SEED:
        group_seed_asked(g, m);
        break;
    case LINK_SEED_DATA:
        group_seed_data(g, m);
        break;
    default:
        break;
    }
    group_leave(g);
}
