/* What streams, consumers and accounts carry beside their shards, in the controller's machine: tags, policies, registered consumers, modes, the key of tokens; and the
 * cluster's feature level. */
#include "server/controller_machine_impl.h"

#include <stdlib.h>
#include <string.h>

#include "proto/base.h"
#include "proto/error.h"
#include "server/map_resource.h"

/* ---- tags and policies ---- */

static unsigned find(const struct map_tag *tags, unsigned n, const char *key, bool *found)
{
    unsigned at = 0;
    while (at < n && strcmp(tags[at].key, key) < 0) {
        at++;
    }
    *found = at < n && strcmp(tags[at].key, key) == 0;
    return at;
}

/* Takes away first, then sets. Puts the new state in place of *r, if it is within the bounds. */
static int resource_change(struct controller_machine *m, struct map_resource *r, const struct controller_entry *e)
{
    struct map_tag tags[2 * TAGS_MAX];
    unsigned n = 0;
    bool found;
    for (unsigned i = 0; i < r->n_tags; i++) {
        bool gone = false;
        for (unsigned k = 0; k < e->n_untags && !gone; k++) {
            gone = strcmp(e->untags[k].key, r->tags[i].key) == 0;
        }
        if (!gone) {
            tags[n++] = r->tags[i];
        }
    }
    for (unsigned i = 0; i < e->n_tags; i++) {
        unsigned at = find(tags, n, e->tags[i].key, &found);
        if (!found) {
            memmove(&tags[at + 1], &tags[at], (n - at) * sizeof tags[0]);
            n++;
        }
        tags[at] = e->tags[i];
    }
    if (n > TAGS_MAX) {
        return SLUICE_E_LIMIT;
    }
    if (e->policy_op == POLICY_DROP && r->policy == NULL) {
        return SLUICE_E_NOT_FOUND;
    }
    struct map_resource new;
    map_resource_make(&new, tags, n, e->policy_op == POLICY_SET ? e->policy : e->policy_op == POLICY_DROP ? NULL : r->policy);
    uint64_t bytes = m->resource_bytes - map_resource_bytes(r) + map_resource_bytes(&new);
    if (bytes > RESOURCES_BYTES_MAX && bytes > m->resource_bytes) {
        map_resource_unref(&new);
        return SLUICE_E_LIMIT;
    }
    m->resource_bytes = bytes;
    map_resource_unref(r);
    *r = new;
    return SLUICE_E_OK;
}

int machine_resource_make(struct controller_machine *m, const struct controller_entry *e, struct map_resource *out)
{
    *out = (struct map_resource){0};
    return resource_change(m, out, e);
}

void machine_resource_drop(struct controller_machine *m, struct map_resource *r)
{
    m->resource_bytes -= map_resource_bytes(r);
    map_resource_unref(r);
}

/* The stream, if it is not being deleted. */
static struct map_stream *stream_of(struct controller_machine *m, const struct controller_entry *e, struct controller_result *r)
{
    struct map_stream *s = machine_stream_by_id(m, e->stream_id);
    memcpy(r->stream_id, e->stream_id, 16);
    if (s == NULL || s->status == STREAM_DELETING) {
        r->code = SLUICE_E_NOT_FOUND;
        return NULL;
    }
    return s;
}

void machine_resource(struct controller_machine *m, const struct controller_entry *e, struct controller_result *r)
{
    struct map_stream *s = stream_of(m, e, r);
    struct map_consumer *of = s != NULL && e->consumer != 0 ? (struct map_consumer *)cluster_map_consumer_by_id(s, e->consumer) : NULL;
    if (s == NULL || (e->consumer != 0 && of == NULL)) {
        r->code = SLUICE_E_NOT_FOUND;
        return;
    }
    r->code = resource_change(m, of != NULL ? &of->resource : &s->resource, e);
}

/* ---- consumers ---- */

void machine_consumer_register(struct controller_machine *m, const struct controller_entry *e, struct controller_result *r)
{
    struct map_stream *s = stream_of(m, e, r);
    if (s == NULL) {
        return;
    }
    if (!stream_name_ok(e->name)) {
        r->code = SLUICE_E_INVALID;
        return;
    }
    if (cluster_map_consumer(s, e->name, strlen(e->name)) != NULL) {
        r->code = SLUICE_E_IN_USE;
        return;
    }
    if (s->n_consumers >= (s->on_demand ? CONSUMERS_ON_DEMAND : CONSUMERS_PROVISIONED)) {
        r->code = SLUICE_E_LIMIT;
        return;
    }
    struct map_consumer new = {.id = m->index, .created_ms = m->time_ms};
    memcpy(new.name, e->name, sizeof new.name);
    r->code = machine_resource_make(m, e, &new.resource);
    if (r->code != SLUICE_E_OK) {
        return;
    }
    unsigned at = 0;
    while (at < s->n_consumers && strcmp(s->consumers[at].name, new.name) < 0) {
        at++;
    }
    s->consumers = xrealloc(s->consumers, (s->n_consumers + 1) * sizeof *s->consumers);
    memmove(&s->consumers[at + 1], &s->consumers[at], (s->n_consumers - at) * sizeof *s->consumers);
    s->consumers[at] = new;
    s->n_consumers++;
}

void machine_consumer_remove(struct controller_machine *m, const struct controller_entry *e, struct controller_result *r)
{
    struct map_stream *s = stream_of(m, e, r);
    struct map_consumer *old = s != NULL ? (struct map_consumer *)cluster_map_consumer_by_id(s, e->consumer) : NULL;
    if (old == NULL) {
        r->code = SLUICE_E_NOT_FOUND;
        return;
    }
    machine_resource_drop(m, &old->resource);
    memmove(old, old + 1, (size_t)(&s->consumers[s->n_consumers] - (old + 1)) * sizeof *old);
    s->n_consumers--;
}

/* ---- streams ---- */

int machine_retention_ok(const struct map_stream *s, uint32_t hours, enum retention_way way)
{
    if (hours == 0) {
        return SLUICE_E_OK;
    }
    bool wrong_way = (way == RETENTION_UP && hours < s->settings.retention_hours) || (way == RETENTION_DOWN && hours > s->settings.retention_hours);
    return hours < 24 || hours > 8760 || wrong_way ? SLUICE_E_INVALID : SLUICE_E_OK;
}

void machine_stream_change(struct controller_machine *m, const struct controller_entry *e, struct controller_result *r)
{
    struct map_stream *s = stream_of(m, e, r);
    if (s == NULL) {
        return;
    }
    bool record_ok = e->record_max == 0 || (e->record_max >= RECORD_MAX_LEAST && e->record_max <= RECORD_MAX_MOST);
    r->code = machine_retention_ok(s, e->retention_hours, e->way);
    if (r->code != SLUICE_E_OK || !record_ok || ((e->metrics_on | e->metrics_off) & ~(uint32_t)METRICS_ALL) != 0) {
        r->code = SLUICE_E_INVALID;
        return;
    }
    struct stream_settings now = s->settings;
    now.retention_hours = e->retention_hours != 0 ? e->retention_hours : now.retention_hours;
    now.limits_off = e->limits != 0 ? e->limits == 2 : now.limits_off;
    now.record_max = e->record_max != 0 ? e->record_max : now.record_max;
    if (now.retention_hours != s->settings.retention_hours || now.limits_off != s->settings.limits_off || now.record_max != s->settings.record_max) {
        now.version++; /* shards hear of it through their own logs (rule F32) */
        s->settings = now;
    }
    s->on_demand = e->mode != MODE_SAME ? e->mode == MODE_ON_DEMAND : s->on_demand;
    s->metrics = (s->metrics | e->metrics_on) & ~e->metrics_off;
    s->warm_mibps = e->warm ? e->warm_mibps : s->warm_mibps;
}

void machine_stream_drop(struct controller_machine *m, const struct controller_entry *e, struct controller_result *r)
{
    struct map_stream *s = machine_stream_by_id(m, e->stream_id);
    memcpy(r->stream_id, e->stream_id, 16);
    if (s == NULL) {
        r->code = SLUICE_E_NOT_FOUND;
    } else if (s->status != STREAM_DELETING && s->n_consumers > 0) {
        r->code = SLUICE_E_IN_USE;
    } else {
        s->status = STREAM_DELETING;
    }
}

/* ---- the cluster ---- */

void machine_account(struct controller_machine *m, const struct controller_entry *e, struct controller_result *r)
{
    unsigned at = 0;
    while (at < m->n_accounts && strcmp(m->accounts[at].account, e->account) < 0) {
        at++;
    }
    bool found = at < m->n_accounts && strcmp(m->accounts[at].account, e->account) == 0;
    if (!account_ok(e->account) || (!found && m->n_accounts == ACCOUNTS_MAX)) {
        r->code = account_ok(e->account) ? SLUICE_E_LIMIT : SLUICE_E_INVALID;
        return;
    }
    if (!found) {
        m->accounts = xrealloc(m->accounts, (m->n_accounts + 1) * sizeof *m->accounts);
        memmove(&m->accounts[at + 1], &m->accounts[at], (m->n_accounts - at) * sizeof *m->accounts);
        m->accounts[at] = (struct map_account){0};
        memcpy(m->accounts[at].account, e->account, sizeof e->account);
        m->n_accounts++;
    }
    if (m->accounts[at].commitment != e->commitment) {
        m->accounts[at].commitment = e->commitment;
        m->accounts[at].since_ms = m->time_ms;
    }
}

void machine_token_key(struct controller_machine *m, const struct controller_entry *e, struct controller_result *r)
{
    if (m->has_token_key) {
        r->code = SLUICE_E_CONFLICT; /* tokens that are out were sealed with the one there is */
        return;
    }
    memcpy(m->token_key, e->token_key, sizeof m->token_key);
    m->has_token_key = true;
}

void machine_level(struct controller_machine *m, const struct controller_entry *e, struct controller_result *r)
{
    (void)r;
    m->level = e->level > m->level ? e->level : m->level; /* never back */
}
