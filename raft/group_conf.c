/* group_conf.c: configurations: decoding with bounds (libraft's decoder has none), and R7: which configuration is the committed one.
 *
 * libraft 0.15 rolls an uncommitted change back by decoding the entry of the configuration before it, and crashes if a snapshot has replaced that entry; a restart
 * does not remember that the last change may be uncommitted. So the shim keeps the bytes of all changes in the log and of the committed configuration. */
#include "group_impl.h"

#include <stdio.h>
#include <stdlib.h>

enum { CONF_FORMAT = 1 }; /* raft_configuration_encode(): u8 format | u64 n | n x {u64 id, address with 0 at its end, u8 role} | padding */

int group_conf_decode(const void *data, size_t n, struct raft_configuration *out)
{
    const uint8_t *p = data, *end = p + n;
    if (n < 9 || p[0] != CONF_FORMAT) {
        return SLUICE_E_PROTOCOL;
    }
    uint64_t count = get_u64(p + 1);
    p += 9;
    if (count == 0 || count > GROUP_MEMBERS_MAX) {
        return SLUICE_E_PROTOCOL;
    }
    struct raft_configuration c;
    raft_configuration_init(&c);
    for (uint64_t i = 0; i < count; i++) {
        const uint8_t *zero = end - p > 8 ? memchr(p + 8, 0, (size_t)(end - p - 8)) : NULL;
        if (zero == NULL || end - zero < 2 || zero[1] > RAFT_SPARE || get_u64(p) == 0 ||
            raft_configuration_add(&c, get_u64(p), (const char *)p + 8, zero[1]) != 0) {
            raft_configuration_close(&c);
            return SLUICE_E_PROTOCOL;
        }
        p = zero + 2;
    }
    if (out != NULL) {
        *out = c;
    } else {
        raft_configuration_close(&c);
    }
    return 0;
}

void group_conf_clean(void *data, size_t n)
{
    uint8_t *p = data, *end = p + n;
    sluice_assert(n >= 9);
    uint64_t count = get_u64(p + 1);
    p += 9;
    for (uint64_t i = 0; i < count; i++) {
        uint8_t *zero = end - p > 8 ? memchr(p + 8, 0, (size_t)(end - p - 8)) : NULL;
        sluice_assert(zero != NULL && end - zero >= 2);
        p = zero + 2;
    }
    memset(p, 0, (size_t)(end - p));
}

int group_conf_encode(const struct raft_configuration *c, struct raft_buffer *out)
{
    int rv = raft_configuration_encode(c, out);
    if (rv == 0) {
        group_conf_clean(out->base, out->len);
    }
    return rv;
}

int group_conf_encode_members(const struct group_member *members, unsigned n, struct raft_buffer *out)
{
    struct raft_configuration c;
    raft_configuration_init(&c);
    uint64_t last = 0;
    int rv = 0;
    for (unsigned i = 0; i < n && rv == 0; i++) { /* in the order of ids, so that it is the same on every member */
        const struct group_member *next = NULL;
        for (unsigned k = 0; k < n; k++) {
            if (members[k].raft_id > last && (next == NULL || members[k].raft_id < next->raft_id)) {
                next = &members[k];
            }
        }
        if (next == NULL) {
            rv = RAFT_DUPLICATEID;
            break;
        }
        last = next->raft_id;
        char text[24];
        snprintf(text, sizeof text, "%llu", (unsigned long long)last);
        rv = raft_configuration_add(&c, last, text, next->voter ? RAFT_VOTER : RAFT_STANDBY);
    }
    if (rv == 0) {
        rv = group_conf_encode(&c, out);
    }
    raft_configuration_close(&c);
    return rv;
}

struct raft_server *group_server(const struct group *g, uint64_t id, unsigned *at)
{
    for (unsigned i = 0; i < g->raft.configuration.n; i++) {
        if (g->raft.configuration.servers[i].id == id) {
            if (at != NULL) {
                *at = i;
            }
            return &g->raft.configuration.servers[i];
        }
    }
    return NULL;
}

/* ---- R7 ---- */

void group_conf_note(struct group *g, uint64_t index, const struct raft_buffer *bytes)
{
    struct conf_entry e = {index, {xmalloc(bytes->len), bytes->len}};
    memcpy(e.bytes.base, bytes->base, bytes->len);
    group_conf_truncate(g, index);
    g->confs = xrealloc(g->confs, (g->n_confs + 1) * sizeof *g->confs);
    g->confs[g->n_confs++] = e;
}

void group_conf_truncate(struct group *g, uint64_t index)
{
    while (g->n_confs > 0 && g->confs[g->n_confs - 1].index >= index) {
        free(g->confs[--g->n_confs].bytes.base);
    }
}

/* The last one at or below the commit index; NULL: a joining replica that has none. */
const struct conf_entry *group_conf_committed(const struct group *g)
{
    const struct conf_entry *found = NULL;
    for (unsigned i = 0; i < g->n_confs && g->confs[i].index <= g->raft.commit_index; i++) {
        found = &g->confs[i];
    }
    return found;
}

void group_conf_settle(struct group *g)
{
    const struct conf_entry *c = group_conf_committed(g);
    unsigned drop = c == NULL ? 0 : (unsigned)(c - g->confs);
    for (unsigned i = 0; i < drop; i++) {
        free(g->confs[i].bytes.base);
    }
    if (drop > 0) {
        memmove(g->confs, g->confs + drop, (g->n_confs - drop) * sizeof *g->confs);
        g->n_confs -= drop;
    }
}

/* A leader's entries are about to replace ours from `conflict` on: an uncommitted change among them is rolled back here, so that libraft has nothing to roll back. What
 * counts then is the last change that stays in the log. That need not be the committed one: after a restart several changes lie above what is known to be committed. */
void group_conf_before_conflict(struct group *g, uint64_t conflict)
{
    if (!group_rule_on(g, GROUP_RULE_R7) || g->raft.configuration_uncommitted_index == 0 || g->raft.configuration_uncommitted_index < conflict ||
        conflict <= g->raft.commit_index) {
        return;
    }
    const struct conf_entry *committed = group_conf_committed(g), *stays = NULL;
    for (unsigned i = 0; i < g->n_confs && g->confs[i].index < conflict; i++) {
        stays = &g->confs[i];
    }
    struct raft_configuration conf;
    raft_configuration_init(&conf);
    if (stays != NULL && group_conf_decode(stays->bytes.base, stays->bytes.len, &conf) != 0) {
        env_fatal(g->gs->o.env, ENV_EXIT_DAMAGE, "a configuration in the log does not decode");
        return;
    }
    raft_configuration_close(&g->raft.configuration);
    g->raft.configuration = conf;
    g->raft.configuration_index = committed != NULL ? committed->index : 0;
    g->raft.configuration_uncommitted_index = stays != NULL && stays != committed ? stays->index : 0;
}

/* After raft_start(): the last change counts as uncommitted if it lies above what is known to be committed. */
void group_conf_after_start(struct group *g)
{
    if (!group_rule_on(g, GROUP_RULE_R7) || g->n_confs == 0) {
        return;
    }
    uint64_t last = g->confs[g->n_confs - 1].index;
    const struct conf_entry *committed = group_conf_committed(g);
    if (last > g->raft.commit_index && committed != NULL) {
        g->raft.configuration_uncommitted_index = last;
        g->raft.configuration_index = committed->index;
    }
}
