/* Joining a cluster that is there: a new node, or one that lost its disk. The answer gives this life an incarnation above all earlier ones and a new
 * generation for its controller replica (its shards' replicas get theirs in the map). */
#include <stdio.h>
#include <string.h>

#include "proto/base.h"
#include "proto/error.h"
#include "proto/frame.h"
#include "server/controller_entry.h"
#include "server/formation_impl.h"

static void on_join(void *arg, int code, uint8_t kind, const void *message, size_t len)
{
    struct formation *f = arg;
    if (!formation_came_back(f)) {
        return;
    }
    f->join_out = false;
    f->join_after_ms = env_now_ms(f->o.env) + 4 * TICK_MS;
    Sluice__FormReply *m = code == SLUICE_E_OK && kind == FRAME_FORM_REPLY ? sluice__form_reply__unpack(NULL, len, message) : NULL;
    if (m == NULL) {
        char text[160];
        if (code == SLUICE_E_NOT_FOUND) {
            snprintf(text, sizeof text, "waits to be admitted: the cluster does not know node %u", f->o.identity->node_id);
            f->join_after_ms += ADMIT_PAUSE_MS;
        } else {
            snprintf(text, sizeof text, "joins the cluster: %s", sluice_error_text(code));
        }
        formation_note(f, text);
        return;
    }
    uint32_t generation = m->controller_generation;
    if (m->accepted && generation > 0) {
        memcpy(f->file.cluster_id, f->join_cluster, 16);
        f->file.step = FORMATION_JOINED;
        f->file.opened = false;
        f->file.n_nodes = 0;
        f->file.join_incarnation = f->o.identity->incarnation;
        f->file.generation = generation;
        if (formation_save(f)) {
            formation_formed(f);
        }
    } else {
        const Sluice__NodeInfo *own = NULL;
        for (size_t i = 0; i < m->n_nodes; i++) {
            own = m->nodes[i]->id == f->o.identity->node_id ? m->nodes[i] : own;
        }
        if (own == NULL || own->state == SLUICE__NODE_INFO__STATE__REMOVED) {
            char text[160];
            snprintf(text, sizeof text, "waits to be admitted: the cluster does not know node %u", f->o.identity->node_id);
            formation_note(f, text);
            f->join_after_ms += ADMIT_PAUSE_MS;
        } else if (own->incarnation + BLANK_LIFE_JUMP > f->o.identity->incarnation) {
            /* Another disk of this node may have been there before and counted further: this life counts above all that it can have counted. */
            f->o.identity->incarnation = own->incarnation + BLANK_LIFE_JUMP;
            formation_save_identity(f);
        }
    }
    sluice__form_reply__free_unpacked(m, NULL);
}

void formation_join(struct formation *f)
{
    uint64_t now = env_now_ms(f->o.env);
    if (f->join_out || now < f->join_after_ms || f->n_others == 0) {
        return;
    }
    struct other *x = NULL;
    for (unsigned i = 0; i < f->n_others && x == NULL; i++) { /* formed nodes take turns */
        struct other *y = &f->others[f->join_turn++ % f->n_others];
        x = y->formed && memcmp(y->cluster_id, f->join_cluster, 16) == 0 ? y : NULL;
    }
    if (x == NULL) {
        return;
    }
    Sluice__Form m = SLUICE__FORM__INIT;
    Sluice__NodeInfo info;
    Sluice__NodeInfo *list[1] = {&info};
    char address[80];
    formation_fill_info(&info, &f->self, address);
    info.zone = (char *)f->o.settings->zone;
    info.kinesis = (char *)(f->o.kinesis != NULL ? f->o.kinesis : "");
    info.admin = (char *)(f->o.admin != NULL ? f->o.admin : "");
    info.state = f->o.settings->join ? SLUICE__NODE_INFO__STATE__JOINING : SLUICE__NODE_INFO__STATE__ALIVE;
    m.node = f->o.identity->node_id;
    m.blank = f->join_all;
    m.incarnation = f->o.identity->incarnation;
    m.cluster_id = (ProtobufCBinaryData){.len = 16, .data = f->join_cluster};
    m.n_nodes = 1;
    m.nodes = list;
    if (peer_client_request(f->peers, x->node.id, FRAME_FORM, &m, JOIN_TIMEOUT_MS, on_join, f) == 0) {
        f->join_out = true;
        f->out++;
    }
}
