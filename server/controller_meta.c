/* Consumers, tags, policies, accounts: what requests about them do on the leader, and answers from this node's own map. */
#include "server/controller_impl.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- answers ---- */

void tags_fill(struct tag_infos *x, const struct map_resource *r, size_t *n, Sluice__Tag ***list)
{
    x->infos = xcalloc(r->n_tags + 1, sizeof *x->infos);
    x->list = xcalloc(r->n_tags + 1, sizeof *x->list);
    for (unsigned i = 0; i < r->n_tags; i++) {
        sluice__tag__init(&x->infos[i]);
        x->infos[i].key = r->tags[i].key;
        x->infos[i].value = r->tags[i].value;
        x->list[i] = &x->infos[i];
    }
    *n = r->n_tags;
    *list = x->list;
}

void tags_free(struct tag_infos *x)
{
    free(x->infos);
    free(x->list);
}

static void fill_consumer(Sluice__ConsumerInfo *info, const struct map_consumer *x, struct tag_infos *tags)
{
    sluice__consumer_info__init(info);
    info->name = (char *)x->name;
    info->id = x->id;
    info->created_ms = x->created_ms;
    tags_fill(tags, &x->resource, &info->n_tags, &info->tags);
}

static void answer_list(struct call *call, const struct map_stream *s)
{
    Sluice__ConsumerListReply reply = SLUICE__CONSUMER_LIST_REPLY__INIT;
    Sluice__ConsumerInfo infos[CONSUMERS_MAX];
    Sluice__ConsumerInfo *list[CONSUMERS_MAX];
    struct tag_infos tags[CONSUMERS_MAX] = {0};
    for (unsigned i = 0; i < s->n_consumers; i++) {
        fill_consumer(&infos[i], &s->consumers[i], &tags[i]);
        list[i] = &infos[i];
    }
    reply.n_consumers = s->n_consumers;
    reply.consumers = list;
    reply.stream_id = (ProtobufCBinaryData){.len = 16, .data = (uint8_t *)s->id};
    reply.map_version = call->c->map->version;
    call_answer(call, FRAME_CONSUMER_LIST_REPLY, &reply);
    for (unsigned i = 0; i < reply.n_consumers; i++) {
        tags_free(&tags[i]);
    }
}

static void answer_resource(struct call *call, const struct map_resource *r, uint8_t kind)
{
    Sluice__ResourceReply reply = SLUICE__RESOURCE_REPLY__INIT;
    struct tag_infos tags = {0};
    tags_fill(&tags, r, &reply.n_tags, &reply.tags);
    reply.policy = r->policy != NULL ? r->policy : reply.policy;
    reply.map_version = call->c->map->version;
    call_answer(call, kind, &reply);
    tags_free(&tags);
}

static void answer_account(struct call *call, const char *account)
{
    const struct cluster_map *map = call->c->map;
    Sluice__AccountReply reply = SLUICE__ACCOUNT_REPLY__INIT;
    for (unsigned i = 0; i < map->n_accounts; i++) {
        if (strcmp(map->accounts[i].account, account) == 0) {
            reply.commitment = map->accounts[i].commitment;
            reply.commitment_since_ms = map->accounts[i].since_ms;
        }
    }
    reply.map_version = map->version;
    call_answer(call, FRAME_ACCOUNT_REPLY, &reply);
}

/* ---- what requests name ---- */

/* Requests of all these kinds, as far as they name something. */
struct named { const char *account, *stream, *consumer; uint64_t id; };
struct found { const struct map_stream *stream; const struct map_consumer *consumer; };

/* Not found: 0 or a code with the reason. A consumer counts if it is named or has an id. */
static int find(const struct controller *c, const struct named *n, struct found *f, char *why, size_t size)
{
    *f = (struct found){.stream = cluster_map_stream(c->map, n->account, n->stream)};
    if (f->stream == NULL) {
        snprintf(why, size, "there is no stream %.128s", n->stream);
        return SLUICE_E_NOT_FOUND;
    }
    if (n->consumer[0] == '\0' && n->id == 0) {
        return SLUICE_E_OK;
    }
    f->consumer = n->id != 0 ? cluster_map_consumer_by_id(f->stream, n->id) : cluster_map_consumer(f->stream, n->consumer, strlen(n->consumer));
    if (f->consumer != NULL && n->consumer[0] != '\0' && strcmp(f->consumer->name, n->consumer) != 0) {
        f->consumer = NULL;
    }
    if (f->consumer == NULL) {
        snprintf(why, size, "stream %.128s has no consumer %.128s", n->stream, n->consumer);
        return SLUICE_E_NOT_FOUND;
    }
    return SLUICE_E_OK;
}

/* The names in a read; *m is freed by the caller. */
static struct named read_names(const struct call *call, ProtobufCMessage **out)
{
    if (call->kind == FRAME_CONSUMER_LIST) {
        Sluice__ConsumerList *m = sluice__consumer_list__unpack(NULL, call->len, call->message);
        *out = &m->base;
        return (struct named){m->account, m->stream, m->consumer, 0};
    }
    if (call->kind == FRAME_RESOURCE_GET) {
        Sluice__ResourceGet *m = sluice__resource_get__unpack(NULL, call->len, call->message);
        *out = &m->base;
        return (struct named){m->account, m->stream, m->consumer, 0};
    }
    Sluice__AccountChange *m = sluice__account_change__unpack(NULL, call->len, call->message);
    *out = &m->base;
    return (struct named){m->account, "", "", 0};
}

bool meta_known(const struct call *call)
{
    ProtobufCMessage *m;
    struct named n = read_names(call, &m);
    struct found f;
    char why[320];
    bool known = call->kind == FRAME_ACCOUNT || (call->c->map != NULL && find(call->c, &n, &f, why, sizeof why) == SLUICE_E_OK);
    protobuf_c_message_free_unpacked(m, NULL);
    return known;
}

void read_meta(struct call *call)
{
    ProtobufCMessage *m;
    struct named n = read_names(call, &m);
    n.consumer = call->kind == FRAME_CONSUMER_LIST ? "" : n.consumer; /* the list tells whether it has the one that is looked for */
    struct found f = {0};
    char why[320] = "";
    int code = call->kind == FRAME_ACCOUNT ? SLUICE_E_OK : find(call->c, &n, &f, why, sizeof why);
    if (code != SLUICE_E_OK) {
        call_error(call, code, why);
    } else if (call->kind == FRAME_ACCOUNT) {
        answer_account(call, n.account);
    } else if (call->kind == FRAME_CONSUMER_LIST) {
        answer_list(call, f.stream);
    } else {
        answer_resource(call, f.consumer != NULL ? &f.consumer->resource : &f.stream->resource, FRAME_RESOURCE_GET_REPLY);
    }
    protobuf_c_message_free_unpacked(m, NULL);
}

/* ---- changes ---- */

/* The entry's view of a message's tags; malloc'ed, the texts are the message's. */
static struct map_tag *entry_tags(Sluice__Tag *const *tags, size_t n)
{
    struct map_tag *out = xcalloc(n + 1, sizeof *out);
    for (size_t i = 0; i < n; i++) {
        out[i] = (struct map_tag){.key = tags[i]->key, .value = tags[i]->value};
    }
    return out;
}

void entry_take_tags(struct controller_entry *e, Sluice__Tag *const *tags, size_t n)
{
    e->tags = entry_tags(tags, n);
    e->n_tags = (uint32_t)n;
}

static const char *reason(int code)
{
    return code == SLUICE_E_LIMIT ? "too many tags, or the cluster's room for tags and policies is used up" : NULL;
}

static void register_applied(struct call *call, const struct controller_result *r)
{
    Sluice__ConsumerRegister *m = sluice__consumer_register__unpack(NULL, call->len, call->message);
    const struct map_stream *s = cluster_map_stream_by_id(call->c->map, r->stream_id);
    const struct map_consumer *x = s != NULL ? cluster_map_consumer(s, m->name, strlen(m->name)) : NULL;
    if (r->code != SLUICE_E_OK || x == NULL) {
        call_error(call, r->code != SLUICE_E_OK ? r->code : SLUICE_E_NOT_FOUND, reason(r->code));
    } else {
        Sluice__ConsumerReply reply = SLUICE__CONSUMER_REPLY__INIT;
        Sluice__ConsumerInfo info;
        struct tag_infos tags = {0};
        fill_consumer(&info, x, &tags);
        reply.consumer = &info;
        reply.stream_id = (ProtobufCBinaryData){.len = 16, .data = (uint8_t *)s->id};
        reply.map_version = call->c->map->version;
        call_answer(call, FRAME_CONSUMER_REGISTER_REPLY, &reply);
        tags_free(&tags);
    }
    sluice__consumer_register__free_unpacked(m, NULL);
}

static void lead_register(struct call *call)
{
    struct controller *c = call->c;
    Sluice__ConsumerRegister *m = sluice__consumer_register__unpack(NULL, call->len, call->message);
    struct controller_result known;
    const struct map_stream *s = cluster_map_stream(c->map, m->account, m->stream);
    char why[320] = "";
    int code = SLUICE_E_OK;
    if (controller_machine_known_request(c->machine, m->request_id.data, &known)) {
        sluice__consumer_register__free_unpacked(m, NULL);
        register_applied(call, &known);
        return;
    }
    unsigned most = s != NULL && s->on_demand ? CONSUMERS_ON_DEMAND : CONSUMERS_PROVISIONED;
    if (s == NULL || s->status == STREAM_DELETING) {
        code = SLUICE_E_NOT_FOUND;
        snprintf(why, sizeof why, "there is no stream %.128s", m->stream);
    } else if (cluster_map_consumer(s, m->name, strlen(m->name)) != NULL) {
        code = SLUICE_E_IN_USE;
        snprintf(why, sizeof why, "stream %.128s has a consumer %.128s already", m->stream, m->name);
    } else if (s->n_consumers >= most) {
        code = SLUICE_E_LIMIT;
        snprintf(why, sizeof why, "stream %.128s has %u consumers: no more than %u can be registered", m->stream, s->n_consumers, most);
    }
    if (code != SLUICE_E_OK) {
        call_error(call, code, why);
    } else {
        struct controller_entry e = {.kind = CONTROLLER_CONSUMER_REGISTER};
        memcpy(e.request_id, m->request_id.data, 16);
        memcpy(e.stream_id, s->id, 16);
        snprintf(e.name, sizeof e.name, "%s", m->name);
        entry_take_tags(&e, m->tags, m->n_tags);
        call_propose(call, &e, register_applied);
        free(e.tags);
    }
    sluice__consumer_register__free_unpacked(m, NULL);
}

static void remove_applied(struct call *call, const struct controller_result *r)
{
    if (r->code != SLUICE_E_OK) {
        call_error(call, r->code, NULL);
        return;
    }
    Sluice__ConsumerRemove *m = sluice__consumer_remove__unpack(NULL, call->len, call->message);
    Sluice__ConsumerReply reply = SLUICE__CONSUMER_REPLY__INIT;
    Sluice__ConsumerInfo info = SLUICE__CONSUMER_INFO__INIT;
    info.name = m->name;
    info.id = m->id;
    reply.consumer = &info;
    reply.stream_id = (ProtobufCBinaryData){.len = 16, .data = (uint8_t *)r->stream_id};
    reply.map_version = call->c->map->version;
    call_answer(call, FRAME_CONSUMER_REMOVE_REPLY, &reply);
    sluice__consumer_remove__free_unpacked(m, NULL);
}

static void lead_remove(struct call *call)
{
    struct controller *c = call->c;
    Sluice__ConsumerRemove *m = sluice__consumer_remove__unpack(NULL, call->len, call->message);
    struct controller_result known;
    struct found f;
    char why[320];
    if (controller_machine_known_request(c->machine, m->request_id.data, &known)) {
        sluice__consumer_remove__free_unpacked(m, NULL);
        remove_applied(call, &known);
        return;
    }
    int code = find(c, &(struct named){m->account, m->stream, m->name, m->id}, &f, why, sizeof why);
    if (code != SLUICE_E_OK) {
        call_error(call, code, why);
    } else if (f.consumer == NULL) {
        call_error(call, SLUICE_E_INVALID, "no consumer is named");
    } else {
        struct controller_entry e = {.kind = CONTROLLER_CONSUMER_REMOVE, .consumer = f.consumer->id};
        memcpy(e.request_id, m->request_id.data, 16);
        memcpy(e.stream_id, f.stream->id, 16);
        call_propose(call, &e, remove_applied);
    }
    sluice__consumer_remove__free_unpacked(m, NULL);
}

static void resource_applied(struct call *call, const struct controller_result *r)
{
    Sluice__ResourceChange *m = sluice__resource_change__unpack(NULL, call->len, call->message);
    const struct map_stream *s = cluster_map_stream_by_id(call->c->map, r->stream_id);
    const struct map_consumer *x = s != NULL && m->consumer[0] != '\0' ? cluster_map_consumer(s, m->consumer, strlen(m->consumer)) : NULL;
    bool gone = s == NULL || (m->consumer[0] != '\0' && x == NULL);
    if (r->code != SLUICE_E_OK || gone) {
        bool no_policy = !gone && r->code == SLUICE_E_NOT_FOUND && m->drop_policy;
        call_error(call, r->code != SLUICE_E_OK ? r->code : SLUICE_E_NOT_FOUND, no_policy ? "it has no policy" : reason(r->code));
    } else {
        answer_resource(call, x != NULL ? &x->resource : &s->resource, FRAME_RESOURCE_CHANGE_REPLY);
    }
    sluice__resource_change__free_unpacked(m, NULL);
}

static void lead_resource(struct call *call)
{
    struct controller *c = call->c;
    Sluice__ResourceChange *m = sluice__resource_change__unpack(NULL, call->len, call->message);
    struct controller_result known;
    struct found f;
    char why[320];
    if (controller_machine_known_request(c->machine, m->request_id.data, &known)) {
        sluice__resource_change__free_unpacked(m, NULL);
        resource_applied(call, &known);
        return;
    }
    int code = find(c, &(struct named){m->account, m->stream, m->consumer, 0}, &f, why, sizeof why);
    if (code != SLUICE_E_OK) {
        call_error(call, code, why);
    } else {
        struct controller_entry e = {.kind = CONTROLLER_RESOURCE, .consumer = f.consumer != NULL ? f.consumer->id : 0, .policy = m->policy,
                                     .policy_op = m->drop_policy ? POLICY_DROP : m->policy[0] != '\0' ? POLICY_SET : POLICY_SAME};
        memcpy(e.request_id, m->request_id.data, 16);
        memcpy(e.stream_id, f.stream->id, 16);
        entry_take_tags(&e, m->tags, m->n_tags);
        e.untags = xcalloc(m->n_untag + 1, sizeof *e.untags);
        e.n_untags = (uint32_t)m->n_untag;
        for (size_t i = 0; i < m->n_untag; i++) {
            e.untags[i].key = m->untag[i];
        }
        call_propose(call, &e, resource_applied);
        free(e.tags);
        free(e.untags);
    }
    sluice__resource_change__free_unpacked(m, NULL);
}

static void account_applied(struct call *call, const struct controller_result *r)
{
    if (r->code != SLUICE_E_OK) {
        call_error(call, r->code, r->code == SLUICE_E_LIMIT ? "the cluster keeps settings of at most 1024 accounts" : NULL);
        return;
    }
    Sluice__AccountChange *m = sluice__account_change__unpack(NULL, call->len, call->message);
    answer_account(call, m->account);
    sluice__account_change__free_unpacked(m, NULL);
}

static void lead_account(struct call *call)
{
    Sluice__AccountChange *m = sluice__account_change__unpack(NULL, call->len, call->message);
    struct controller_entry e = {.kind = CONTROLLER_ACCOUNT, .commitment = (uint8_t)m->commitment};
    memcpy(e.request_id, m->request_id.data, 16);
    snprintf(e.account, sizeof e.account, "%s", m->account);
    sluice__account_change__free_unpacked(m, NULL);
    call_propose(call, &e, account_applied); /* a repeated one is answered by the machine */
}

void lead_meta(struct call *call)
{
    controller_fresh_map(call->c);
    switch (call->kind) {
    case FRAME_CONSUMER_REGISTER:
        lead_register(call);
        break;
    case FRAME_CONSUMER_REMOVE:
        lead_remove(call);
        break;
    case FRAME_RESOURCE_CHANGE:
        lead_resource(call);
        break;
    case FRAME_ACCOUNT:
        lead_account(call);
        break;
    default:
        call_error(call, SLUICE_E_NOT_SUPPORTED, NULL);
    }
}
