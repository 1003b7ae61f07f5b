/* Formation: from a data folder without a cluster to one with an identity.
 *
 * States: BLANK -> PROPOSING (the lowest of the first nodes, once all others answered that they are not formed) -> formed when all accepted.
 *         BLANK -> ACCEPTED (the others) -> formed when they hear of a node that is formed with the cluster id they accepted.
 *         BLANK -> JOINED -> formed: another node is formed already, and the controller's leader gave this life new generations.
 * Every state is on disk (DATA/formation) before anybody hears of it; identity.formed is set last. What can go wrong:
 *   - the proposer dies: the others wait for it; it goes on with the same cluster id from its file. Its disk is lost: it asks again, nobody is formed, it proposes a
 *     new id, which those who only accepted take instead; if one was formed, it joins.
 *   - a blank node hears of a formed one: it never accepts a proposal any more, so it cannot slip into a first configuration it may have used up. */
#include "server/formation_impl.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proto/base.h"
#include "proto/error.h"
#include "server/controller_entry.h"
#include "sluice.pb-c.h"

void formation_note(struct formation *f, const char *text)
{
    if (strcmp(f->state, text) != 0) {
        snprintf(f->state, sizeof f->state, "%s", text);
        if (f->o.note != NULL) {
            f->o.note(f->o.arg, f->state);
        }
    }
}

/* ---- the file ---- */

static void path(const struct formation *f, const char *suffix, char out[1200]) { snprintf(out, 1200, "%s/formation%s", f->o.dir, suffix); }

static int load(struct formation *f, char err[256])
{
    char name[1200];
    path(f, "", name);
    struct env_file *file;
    int rc = env_file_open(f->o.env, name, ENV_OPEN_READ, &file);
    if (rc == -ENOENT) {
        return 0;
    }
    if (rc != 0) {
        snprintf(err, 256, "cannot open DATA/formation: %s", strerror(-rc));
        return rc;
    }
    uint8_t *data = xmalloc(FILE_MAX);
    ssize_t n = env_file_pread(f->o.env, file, data, FILE_MAX, 0);
    env_file_close(f->o.env, file);
    if (n < 0) {
        rc = (int)n;
        snprintf(err, 256, "cannot read %.100s/formation: %s", f->o.dir, strerror(-rc));
    } else if (!formation_file_decode(&f->file, data, (size_t)n)) {
        rc = ENV_EXIT_DAMAGE;
        snprintf(err, 256, "%.100s/formation is damaged: empty the folder and let the node join anew", f->o.dir);
    }
    free(data);
    return rc;
}

/* Replaced as a whole: written beside, synced, renamed, folder synced. A failure ends the process: nothing was told to anybody yet. */
static int save(struct formation *f)
{
    struct out_buffer out = {0};
    formation_file_encode(&f->file, &out);
    char name[1200];
    char new_name[1200];
    path(f, "", name);
    path(f, ".new", new_name);
    struct env_file *file;
    int rc = env_file_open(f->o.env, new_name, ENV_OPEN_WRITE | ENV_OPEN_CREATE, &file);
    if (rc == 0) {
        rc = env_file_truncate(f->o.env, file, 0);
        rc = rc == 0 ? env_file_pwrite(f->o.env, file, out.data, out.len, 0) : rc;
        rc = rc == 0 ? env_file_sync(f->o.env, file) : rc;
        env_file_close(f->o.env, file);
    }
    rc = rc == 0 ? env_rename(f->o.env, new_name, name) : rc;
    rc = rc == 0 ? env_dir_sync(f->o.env, f->o.dir) : rc;
    free(out.data);
    return rc;
}

bool formation_save(struct formation *f)
{
    int rc = save(f);
    if (rc != 0) {
        env_fatal(f->o.env, ENV_EXIT_DISK, "cannot write DATA/formation");
    }
    return rc == 0;
}

bool formation_save_identity(struct formation *f)
{
    int rc = identity_save(f->o.env, f->o.dir, f->o.identity);
    if (rc != 0) {
        env_fatal(f->o.env, ENV_EXIT_DISK, "cannot write DATA/identity");
    }
    return rc == 0;
}

/* The last step of every way: from here on this node belongs to the cluster of its file. */
void formation_formed(struct formation *f)
{
    memcpy(f->o.identity->cluster_id, f->file.cluster_id, 16);
    f->o.identity->formed = true;
    if (formation_save_identity(f)) {
        f->joining = false;
        f->finishing = true;
    }
}

/* ---- asking ---- */

/* A request came back; false if nothing must be done with it any more. */
bool formation_came_back(struct formation *f)
{
    f->out--;
    if (f->closed) {
        if (f->out == 0) {
            free(f);
        }
        return false;
    }
    return true;
}

static void on_answer(void *arg, int code, uint8_t kind, const void *message, size_t len)
{
    struct other *x = arg;
    struct formation *f = x->f;
    x->asking = false;
    if (!formation_came_back(f)) {
        return;
    }
    Sluice__FormReply *m = code == SLUICE_E_OK && kind == FRAME_FORM_REPLY ? sluice__form_reply__unpack(NULL, len, message) : NULL;
    if (m == NULL) {
        return;
    }
    x->answered_ms = env_now_ms(f->o.env);
    x->formed = m->formed && m->cluster_id.len == 16;
    f->heard_formed = f->heard_formed || x->formed;
    if (x->formed) {
        memcpy(x->cluster_id, m->cluster_id.data, 16);
    }
    x->accepted = x->accepted || (m->accepted && m->cluster_id.len == 16 && memcmp(m->cluster_id.data, f->file.cluster_id, 16) == 0);
    sluice__form_reply__free_unpacked(m, NULL);
}

void formation_fill_info(Sluice__NodeInfo *info, const struct map_node *n, char address[80])
{
    sluice__node_info__init(info);
    snprintf(address, 80, strchr(n->host, ':') != NULL ? "[%s]:%u" : "%s:%u", n->host, n->port);
    info->id = n->id;
    info->address = address;
}

static void ask(struct formation *f, struct other *x, bool propose)
{
    if (x->asking) {
        return;
    }
    Sluice__Form m = SLUICE__FORM__INIT;
    Sluice__NodeInfo infos[NODES_MAX];
    Sluice__NodeInfo *list[NODES_MAX];
    char addresses[NODES_MAX][80];
    m.node = f->o.identity->node_id;
    m.blank = true;
    m.incarnation = f->o.identity->incarnation;
    if (propose) {
        m.cluster_id = (ProtobufCBinaryData){.len = 16, .data = f->file.cluster_id};
        for (unsigned i = 0; i < f->file.n_nodes; i++) {
            formation_fill_info(&infos[i], &f->file.nodes[i], addresses[i]);
            list[i] = &infos[i];
        }
        m.n_nodes = f->file.n_nodes;
        m.nodes = list;
    }
    if (peer_client_request(f->peers, x->node.id, FRAME_FORM, &m, ASK_TIMEOUT_MS, on_answer, x) == 0) {
        x->asking = true;
        f->out++;
    }
}

/* ---- deciding ---- */

static bool is_proposer(const struct formation *f) { return !f->o.settings->join && f->n_first > 0 && f->first[0].id == f->o.identity->node_id; }

static bool same_list(const struct map_node *a, unsigned n_a, const struct map_node *b, unsigned n_b)
{
    bool same = n_a == n_b;
    for (unsigned i = 0; same && i < n_a; i++) {
        same = a[i].id == b[i].id && strcmp(a[i].host, b[i].host) == 0 && a[i].port == b[i].port;
    }
    return same;
}

static void propose(struct formation *f)
{
    if (f->file.step != FORMATION_PROPOSING || !same_list(f->file.nodes, f->file.n_nodes, f->first, f->n_first)) {
        memset(&f->file, 0, sizeof f->file);
        f->file.step = FORMATION_PROPOSING;
        env_random(f->o.env, f->file.cluster_id, 16);
        memcpy(f->file.nodes, f->first, sizeof f->first);
        f->file.n_nodes = f->n_first;
        f->file.generation = 1;
        for (unsigned i = 0; i < f->n_others; i++) {
            f->others[i].accepted = false;
        }
        if (!formation_save(f)) {
            return;
        }
    }
    bool all = true;
    for (unsigned i = 0; i < f->n_others; i++) {
        all = all && f->others[i].accepted;
    }
    if (all) {
        formation_formed(f);
        return;
    }
    for (unsigned i = 0; i < f->n_others; i++) {
        if (!f->others[i].accepted) {
            ask(f, &f->others[i], true);
        }
    }
}

static void decide(struct formation *f)
{
    uint64_t now = env_now_ms(f->o.env);
    unsigned fresh = 0;
    for (unsigned i = 0; i < f->n_others; i++) {
        const struct other *x = &f->others[i];
        fresh += x->answered_ms != 0 && now - x->answered_ms < FRESH_MS;
        if (!x->formed) {
            continue;
        }
        if (!f->joining && f->file.step == FORMATION_ACCEPTED && memcmp(x->cluster_id, f->file.cluster_id, 16) == 0) {
            formation_formed(f);
            return;
        }
        if (!f->joining) {
            f->joining = f->join_all = true;
            memcpy(f->join_cluster, x->cluster_id, 16);
            formation_note(f, "joins the cluster");
        }
    }
    if (f->joining) {
        formation_join(f);
        return;
    }
    if (is_proposer(f) && fresh == f->n_others) {
        formation_note(f, "forms a new cluster");
        propose(f);
        return;
    }
    char text[160];
    snprintf(text, sizeof text, "forms a cluster: %u of %u other nodes answered", fresh, f->n_others);
    formation_note(f, f->file.step == FORMATION_ACCEPTED ? "forms a cluster: waits for the node that proposed it" : f->o.settings->join ? "looks for a cluster to join" : text);
}

static void finish(struct formation *f)
{
    f->finishing = false;
    formation_note(f, "formed");
    struct formation_result r = {.opened = f->file.opened, .join_incarnation = f->file.join_incarnation, .controller_generation = f->file.generation};
    if (f->file.step != FORMATION_JOINED) {
        memcpy(r.first_nodes, f->file.nodes, sizeof r.first_nodes);
        r.n_first = f->file.n_nodes;
        r.controller_generation = 1;
    }
    f->o.done(f->o.arg, &r);
}

static void on_tick(struct env_timer *t)
{
    struct formation *f = container_of(t, struct formation, timer);
    if (!f->finishing) {
        decide(f); /* first, so that a proposal is not held up by a question */
        for (unsigned i = 0; i < f->n_others; i++) {
            if (!f->joining || !f->others[i].formed) {
                ask(f, &f->others[i], false);
            }
        }
    }
    if (f->finishing) {
        finish(f);
        return;
    }
    env_timer_start_ms(&f->timer, TICK_MS);
}

/* ---- what others ask ---- */

static bool may_accept(struct formation *f, const Sluice__Form *m)
{
    struct map_node list[NODES_MAX];
    if (f->o.settings->join || f->heard_formed || f->joining || m->n_nodes < 2 || m->n_nodes > NODES_MAX || f->n_first == 0 || m->node != f->first[0].id
        || is_proposer(f)) {
        return false;
    }
    for (size_t i = 0; i < m->n_nodes; i++) {
        list[i] = (struct map_node){.id = m->nodes[i]->id};
        if (!formation_parse_address(m->nodes[i]->address, list[i].host, &list[i].port)) {
            return false;
        }
    }
    return same_list(list, (unsigned)m->n_nodes, f->first, f->n_first);
}

void formation_request(struct formation *f, uint64_t correlation, const void *message, size_t len, control_reply reply, void *arg)
{
    Sluice__Form *m = sluice__form__unpack(NULL, len, message);
    Sluice__FormReply r = SLUICE__FORM_REPLY__INIT;
    struct identity *id = f->o.identity;
    if (m != NULL && m->cluster_id.len == 16 && !id->formed && may_accept(f, m)) {
        bool again = f->file.step == FORMATION_ACCEPTED && memcmp(f->file.cluster_id, m->cluster_id.data, 16) == 0;
        if (!again) {
            memset(&f->file, 0, sizeof f->file);
            f->file.step = FORMATION_ACCEPTED;
            memcpy(f->file.cluster_id, m->cluster_id.data, 16);
            memcpy(f->file.nodes, f->first, sizeof f->first);
            f->file.n_nodes = f->n_first;
            f->file.generation = 1;
            again = formation_save(f);
        }
        r.accepted = again;
    }
    if (m != NULL && id->formed) {
        r.accepted = m->cluster_id.len == 16 && f->file.step != FORMATION_JOINED && memcmp(m->cluster_id.data, id->cluster_id, 16) == 0 && m->n_nodes > 1;
    }
    r.formed = id->formed;
    r.blank = !id->formed && f->file.step == FORMATION_BLANK;
    const uint8_t *cluster = id->formed ? id->cluster_id : f->file.cluster_id;
    r.cluster_id = (ProtobufCBinaryData){.len = r.blank ? 0 : 16, .data = (uint8_t *)cluster};
    size_t n;
    void *frame = frame_encode(FRAME_FORM_REPLY, correlation, &r, 0, &n);
    sluice_assert(frame != NULL);
    if (m != NULL) {
        sluice__form__free_unpacked(m, NULL);
    }
    reply(arg, frame, n);
}

/* ---- life ---- */

static int add_others(struct formation *f, char err[256])
{
    struct identity *id = f->o.identity;
    int n = formation_parse_cluster(f->o.settings->cluster, f->first, NODES_MAX, err);
    if (n < 0) {
        return SLUICE_E_INVALID;
    }
    f->n_first = (unsigned)n;
    f->self.id = id->node_id;
    if (f->o.address != NULL && !formation_parse_address(f->o.address, f->self.host, &f->self.port)) {
        snprintf(err, 256, "\"%.100s\" is not host:port", f->o.address);
        return SLUICE_E_INVALID;
    }
    bool listed = false;
    for (unsigned i = 0; i < f->n_first; i++) {
        if (f->first[i].id == id->node_id) {
            f->self = f->first[i];
            listed = true;
        } else {
            struct other *x = &f->others[f->n_others++];
            x->f = f;
            x->node = f->first[i];
        }
    }
    if (n == 0) {
        if (f->o.settings->join) {
            snprintf(err, 256, "join needs the addresses of the cluster: set cluster");
            return SLUICE_E_INVALID;
        }
        f->first[0] = f->self;
        f->n_first = 1;
    } else if (!listed && !f->o.settings->join) {
        snprintf(err, 256, "cluster does not list this node (%u); to join an existing cluster set join", id->node_id);
        return SLUICE_E_INVALID;
    }
    return 0;
}

static int open_peers(struct formation *f)
{
    if (f->peers == NULL && f->n_others > 0) {
        struct peer_client_options po = {.env = f->o.env, .node_id = f->o.identity->node_id, .incarnation = f->o.identity->incarnation};
        if (f->o.identity->formed) {
            memcpy(po.cluster_id, f->o.identity->cluster_id, 16);
        }
        int rc = peer_client_open(&f->peers, &po);
        if (rc != 0) {
            return rc;
        }
        f->own_peers = true;
    }
    for (unsigned i = 0; i < f->n_others; i++) {
        peer_client_set(f->peers, f->others[i].node.id, f->others[i].node.host, f->others[i].node.port);
    }
    return 0;
}

int formation_start(struct formation **out, const struct formation_options *o, char err[256])
{
    struct formation *f = xcalloc(1, sizeof *f);
    f->o = *o;
    f->peers = o->peers;
    int rc = add_others(f, err);
    rc = rc == 0 ? load(f, err) : rc;
    if (rc != 0) {
        goto fail;
    }
    struct identity *id = o->identity;
    if (id->formed) {
        if (f->file.step == FORMATION_BLANK || memcmp(f->file.cluster_id, id->cluster_id, 16) != 0) {
            /* The file is gone: what it said is in the journal if this node ever opened the controller group; else it must join anew. */
            memset(&f->file, 0, sizeof f->file);
            f->file.step = FORMATION_JOINED;
            f->file.opened = true;
            memcpy(f->file.cluster_id, id->cluster_id, 16);
        }
        f->finishing = true;
    } else {
        rc = open_peers(f);
        if (rc != 0) {
            snprintf(err, 256, "cannot open connections: %s", strerror(-rc));
            goto fail;
        }
        if (f->file.step == FORMATION_JOINED) {
            f->file.step = FORMATION_BLANK; /* it was given generations but identity was not saved: asks again in this life */
        }
    }
    rc = env_timer_init(o->env, &f->timer, on_tick);
    if (rc != 0) {
        snprintf(err, 256, "cannot make a timer");
        goto fail;
    }
    env_timer_start_ns(&f->timer, 1);
    *out = f;
    return 0;
fail:
    if (f->own_peers) {
        peer_client_close(f->peers, NULL, NULL);
    }
    free(f);
    return rc;
}

int formation_opened(struct formation *f)
{
    if (f->file.opened) {
        return 0;
    }
    f->file.opened = true;
    return save(f);
}

bool formation_alone(const struct formation *f) { return f->n_others == 0; }

void formation_rejoin(struct formation *f, bool all)
{
    sluice_assert(f->o.identity->formed);
    f->joining = true;
    f->join_all = all;
    memcpy(f->join_cluster, f->o.identity->cluster_id, 16);
    formation_note(f, "its controller replica is lost: joins the cluster anew");
    if (open_peers(f) == 0) {
        env_timer_start_ms(&f->timer, TICK_MS);
    }
}

const char *formation_state(const struct formation *f) { return f->state; }

void formation_close(struct formation *f)
{
    env_timer_close(&f->timer);
    f->closed = true;
    f->out++; /* holds f while the peer client calls back */
    if (f->own_peers) {
        peer_client_close(f->peers, NULL, NULL);
    }
    if (--f->out == 0) {
        free(f);
    }
}
