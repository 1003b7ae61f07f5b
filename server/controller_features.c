/* The cluster's feature level (rule F37) and what the leader adds once all nodes know it: the key of tokens.
 *
 * A program that meets an entry of a kind it does not know must stop. So none above level 1 is proposed before every node that is not removed has told in a report that
 * it can do it; then LEVEL says so in the log, and it stays so: a node that is down later changes nothing, an older program that comes back stops. */
#include "server/controller_impl.h"

#include <stdio.h>
#include <string.h>

enum { HEARD_PATIENCE_MS = 3000 }; /* so long after it began to lead a leader expects to be told by nodes that are up */

unsigned controller_features(const struct controller *c) { return c->settings->test_features != 0 ? c->settings->test_features : FEATURE_LEVEL; }

/* The first node that cannot do `level`, or has not told yet; NULL: all can. */
static const struct map_node *one_below(struct controller *c, unsigned level)
{
    const struct cluster_map *map = controller_fresh_map(c);
    for (unsigned i = 0; i < map->n_nodes; i++) {
        const struct map_node *n = &map->nodes[i];
        const struct actual_node *a = actual_node(c, n->id);
        unsigned features = n->id == c->self ? controller_features(c) : a != NULL ? a->features : 0;
        if (n->state != NODE_REMOVED && features < level) {
            return n;
        }
    }
    return NULL;
}

int controller_level_missing(struct controller *c, unsigned level, char *why, size_t size)
{
    if (controller_machine_level(c->machine) >= level) {
        return SLUICE_E_OK;
    }
    const struct map_node *n = one_below(c, level);
    const struct actual_node *a = n != NULL ? actual_node(c, n->id) : NULL;
    bool heard = n != NULL && (n->id == c->self || (a != NULL && a->features != 0));
    if (n == NULL || (!heard && controller_now(c) - c->leading_since_ms < HEARD_PATIENCE_MS)) {
        return SLUICE_E_NOT_READY; /* in a moment */
    }
    if (heard) {
        snprintf(why, size, "node %u runs version %.31s, which does not know this: all nodes must be upgraded first", n->id, n->id == c->self ? SLUICE_VERSION : a->version);
    } else {
        snprintf(why, size, "node %u has not told what its version can do: start it, or remove it from the cluster", n->id);
    }
    return SLUICE_E_NOT_SUPPORTED;
}

static void proposed(void *arg, int code, const struct controller_result *r)
{
    (void)code; /* what is still missing is proposed again */
    (void)r;
    struct controller *c = arg;
    c->feature_proposed = false;
}

void controller_features_step(struct controller *c)
{
    if (c->feature_proposed || !controller_ready(c) || !controller_machine_initialized(c->machine)) {
        return;
    }
    struct controller_entry e = {.kind = CONTROLLER_LEVEL, .level = controller_features(c)};
    unsigned level = controller_machine_level(c->machine);
    if (level >= controller_entry_level(CONTROLLER_TOKEN_KEY) && !controller_machine_has_token_key(c->machine)) {
        e.kind = CONTROLLER_TOKEN_KEY;
        env_random(c->o.env, e.token_key, sizeof e.token_key);
    } else if (level >= e.level || one_below(c, e.level) != NULL) {
        return;
    }
    c->feature_proposed = controller_propose(c, &e, proposed, c) == SLUICE_E_OK;
    explicit_bzero(e.token_key, sizeof e.token_key);
}
