/* The shard map of a stream, and where to send a shard's requests.
 *
 * A map is fetched when first needed and again when an answer shows that it is old. It is a hint: a wrong leader costs a round
 * trip. Between two claims about a shard's leader the higher term wins, so that a node that lags behind cannot lead astray. */
#include <stdlib.h>

#include "client/client_impl.h"

enum { REFRESH_MIN_MS = 50, REFRESH_TIMEOUT_MS = 3000 };

/* ---- the list of streams --------------------------------------------------------------------------------------------------- */

static void shards_free(struct shard *shards, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        free(shards[i].replicas);
        free(shards[i].parents);
        free(shards[i].children);
    }
    free(shards);
}

static void stream_free(struct stream *s)
{
    env_timer_close(&s->timer);
    shards_free(s->shards, s->n_shards);
    free(s->name);
    free(s);
}

static void refresh_timer(struct env_timer *t);

struct stream *stream_get(struct sluice_client *c, const char *name)
{
    struct stream *s = c->streams;
    while (s != NULL && strcmp(s->name, name) != 0) {
        s = s->next;
    }
    if (s == NULL) {
        s = xcalloc(1, sizeof *s);
        s->client = c;
        s->name = xstrdup(name);
        env_timer_init(c->env, &s->timer, refresh_timer);
        s->next = c->streams;
        c->streams = s;
    }
    s->refs++;
    return s;
}

void stream_put(struct stream *s)
{
    sluice_assert(s->refs > 0);
    if (--s->refs > 0) {
        return;
    }
    struct stream **p = &s->client->streams;
    while (*p != s) {
        p = &(*p)->next;
    }
    *p = s->next;
    stream_free(s);
}

void streams_drop(struct sluice_client *c)
{
    while (c->streams != NULL) {
        struct stream *s = c->streams;
        c->streams = s->next;
        stream_free(s);
    }
}

void stream_watch_add(struct stream *s, struct stream_watch *w)
{
    w->next = s->watches;
    s->watches = w;
}

void stream_watch_remove(struct stream *s, struct stream_watch *w)
{
    struct stream_watch **lists[] = {&s->watches, &s->todo};
    for (size_t i = 0; i < ARRAY_LEN(lists); i++) {
        for (struct stream_watch **p = lists[i]; *p != NULL; p = &(*p)->next) {
            if (*p == w) {
                *p = w->next;
                return;
            }
        }
    }
}

struct shard *stream_shard(const struct stream *s, uint32_t id)
{
    size_t low = 0, high = s->n_shards;
    while (low < high) {
        size_t mid = (low + high) / 2;
        if (s->shards[mid].id < id) {
            low = mid + 1;
        } else {
            high = mid;
        }
    }
    return low < s->n_shards && s->shards[low].id == id ? &s->shards[low] : NULL;
}

/* ---- refreshing ------------------------------------------------------------------------------------------------------------ */

static uint32_t *ids_copy(const uint32_t *ids, size_t n)
{
    uint32_t *copy = xmalloc((n + 1) * sizeof *copy);
    if (n > 0) {
        memcpy(copy, ids, n * sizeof *copy);
    }
    return copy;
}

static int shard_by_id(const void *a, const void *b)
{
    uint32_t x = ((const struct shard *)a)->id, y = ((const struct shard *)b)->id;
    return x < y ? -1 : x > y;
}

/* Takes the map over. NULL or what is wrong with it. */
static const char *map_take(struct stream *s, const Sluice__StreamReply *reply)
{
    const Sluice__StreamInfo *info = reply->stream;
    if (info == NULL || info->id.len != sizeof s->id) {
        return "the map names no stream";
    }
    for (size_t i = 0; i < info->n_shards; i++) {
        if (info->shards[i]->hash_first.len != 16 || info->shards[i]->hash_last.len != 16) {
            return "the map has a shard without a range";
        }
    }
    bool same = s->known && memcmp(s->id, info->id.data, sizeof s->id) == 0;
    if (same && info->map_version < s->map_version) {
        /* From a node that lags behind. Taken, it would open a shard again that was split or merged, and a producer would begin to number its batches anew there. */
        return NULL;
    }
    s->map_version = info->map_version;
    s->record_max = info->record_max;
    struct shard *shards = xcalloc(info->n_shards + 1, sizeof *shards);
    for (size_t i = 0; i < info->n_shards; i++) {
        const Sluice__ShardInfo *from = info->shards[i];
        struct shard *to = &shards[i];
        *to = (struct shard){.id = from->shard, .open = from->open, .leader = from->leader, .term = from->term,
                             .created_s = from->created_s, .first_offset = from->first_offset, .end_offset = from->end_offset,
                             .n_replicas = (uint32_t)from->n_replicas, .n_parents = (uint32_t)from->n_parents,
                             .n_children = (uint32_t)from->n_children};
        memcpy(to->first.b, from->hash_first.data, 16);
        memcpy(to->last.b, from->hash_last.data, 16);
        to->replicas = ids_copy(from->replicas, from->n_replicas);
        to->parents = ids_copy(from->parents, from->n_parents);
        to->children = ids_copy(from->children, from->n_children);
        const struct shard *old = same ? stream_shard(s, to->id) : NULL;
        if (old != NULL && old->term > to->term) {
            to->term = old->term;
            to->leader = old->leader;
        }
    }
    qsort(shards, info->n_shards, sizeof *shards, shard_by_id);
    shards_free(s->shards, s->n_shards);
    s->shards = shards;
    s->n_shards = info->n_shards;
    memcpy(s->id, info->id.data, sizeof s->id);
    s->known = true;
    for (size_t i = 0; i < reply->n_nodes; i++) {
        const Sluice__NodeInfo *ni = reply->nodes[i];
        if (ni->state != SLUICE__NODE_INFO__STATE__REMOVED && ni->address[0] != '\0') {
            struct node *n = node_get(s->client, ni->address);
            if (n != NULL) {
                n->id = ni->id;
            }
        }
    }
    return NULL;
}

static void tell(struct stream *s, int code, const char *message)
{
    s->todo = s->watches;
    s->watches = NULL;
    while (s->todo != NULL) {
        struct stream_watch *w = s->todo;
        s->todo = w->next;
        w->next = s->watches;
        s->watches = w;
        w->changed(w, code, message);
    }
}

static void refresh_done(const struct sluice_result *r, void *user)
{
    struct stream *s = user;
    s->refreshing = false;
    int code = r->code;
    const char *message = r->message;
    if (code == 0) {
        const char *wrong = map_take(s, (const Sluice__StreamReply *)r->reply);
        if (wrong != NULL) {
            code = SLUICE_E_PROTOCOL;
            message = wrong;
        }
    }
    s->failures = code == 0 ? 0 : s->failures + 1;
    tell(s, code, message);
    stream_put(s);
}

static void refresh_timer(struct env_timer *t)
{
    struct stream *s = container_of(t, struct stream, timer);
    s->refreshed_ns = env_now_ns(s->client->env);
    s->client->stats.map_refreshes++;
    Sluice__StreamDescribe m = SLUICE__STREAM_DESCRIBE__INIT;
    m.name = s->name;
    const struct sluice_call_options o = {.timeout_ms = REFRESH_TIMEOUT_MS};
    int code = sluice_call(s->client, FRAME_STREAM_DESCRIBE, &m.base, &o, refresh_done, s);
    sluice_assert(code == 0);
}

void stream_refresh(struct stream *s)
{
    if (s->refreshing || s->client->closing) {
        return;
    }
    s->refreshing = true;
    s->refs++; /* until refresh_done */
    uint64_t now = env_now_ns(s->client->env);
    uint64_t gap = (uint64_t)REFRESH_MIN_MS * 1000000u << (s->failures < 4 ? s->failures : 4);
    uint64_t due = s->refreshed_ns != 0 ? s->refreshed_ns + gap : now;
    env_timer_start_ns(&s->timer, due > now ? due - now : 0);
}

/* ---- targets --------------------------------------------------------------------------------------------------------------- */

struct node *target_choose(struct target *t, const struct stream *s, uint32_t shard, bool any)
{
    struct sluice_client *c = s->client;
    if (t->hint != NULL && node_usable(t->hint)) {
        return t->hint;
    }
    t->hint = NULL;
    const struct shard *sh = stream_shard(s, shard);
    if (sh == NULL) {
        return node_in_turn(c, &t->turn, t->failed);
    }
    struct node *leader = node_by_id(c, sh->leader);
    if (!any && leader != NULL && leader != t->failed && node_usable(leader)) {
        return leader;
    }
    for (unsigned i = 0; i < sh->n_replicas; i++) {
        struct node *n = node_by_id(c, sh->replicas[(t->turn + i) % sh->n_replicas]);
        if (n != NULL && n != t->failed && node_usable(n)) {
            t->turn += any ? i : i + 1;
            return n;
        }
    }
    /* Nobody else: the one that failed may be well again, or any node may know. */
    if (t->failed != NULL && node_usable(t->failed)) {
        return t->failed;
    }
    return node_in_turn(c, &t->turn, NULL);
}

void target_learn(struct target *t, struct stream *s, uint32_t shard, struct node *n, const struct answer *a)
{
    (void)shard;
    if (a == NULL) {
        t->failed = NULL;
        return;
    }
    enum sluice_retry retry = sluice_error_retry(a->code);
    struct node *hint = NULL;
    if (a->leader_node != 0) {
        hint = node_by_id(s->client, a->leader_node);
    }
    if (hint == NULL && a->leader_address[0] != '\0') {
        hint = node_get(s->client, a->leader_address);
        if (hint != NULL && a->leader_node != 0) {
            hint->id = a->leader_node;
        }
    }
    if (retry == SLUICE_RETRY_SAME && hint == NULL && a->code != SLUICE_E_NOT_READY) {
        return; /* the right node, only not now. One that knows no leader may be cut off: others are asked */
    }
    t->failed = n;
    t->hint = hint != n && hint != NULL && node_usable(hint) ? hint : NULL;
    if (t->hint == NULL) {
        t->turn++;
        stream_refresh(s);
    }
}

uint64_t target_pause_ms(const struct target *t, struct env *env, unsigned n, const struct answer *a)
{
    enum { MIN_MS = 5, BASE_MS = 20, CAP_MS = 200 }; /* looking for the leader: a failover takes some 300 ms */
    if (a != NULL && a->retry_after_ms != 0) {
        return a->retry_after_ms;
    }
    return a != NULL && t->hint != NULL && n < 2 ? 0 : backoff_ms(env, n, MIN_MS, BASE_MS, CAP_MS);
}
