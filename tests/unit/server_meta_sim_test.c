/* Consumers, tags, policies and accounts on whole simulated nodes: what was acknowledged survives leaders of the controller that die, requests that are repeated do no
 * more than once, every node answers from its own map; and a program that does not know them keeps them out of the log (rule F37). */
#include "server_cluster_fixture.h"

/* ---- asking ---- */

struct reply { int code; char text[256]; Sluice__ConsumerReply *consumer; Sluice__ConsumerListReply *list; Sluice__ResourceReply *resource; Sluice__AccountReply *account; Sluice__StreamReply *stream; };

static struct reply reply_of(const struct got *g)
{
    struct reply r = {.code = -1}; /* nothing came */
    if (g == NULL) {
        return r;
    }
    r.code = 0;
    switch (g->kind) {
    case FRAME_ERROR: {
        Sluice__Error *e = sluice__error__unpack(NULL, g->len, g->message);
        r.code = (int)e->code;
        snprintf(r.text, sizeof r.text, "%s", e->message);
        sluice__error__free_unpacked(e, NULL);
        break;
    }
    case FRAME_CONSUMER_REGISTER_REPLY:
    case FRAME_CONSUMER_REMOVE_REPLY:
        r.consumer = sluice__consumer_reply__unpack(NULL, g->len, g->message);
        CHECK(r.consumer != NULL);
        break;
    case FRAME_CONSUMER_LIST_REPLY:
        r.list = sluice__consumer_list_reply__unpack(NULL, g->len, g->message);
        CHECK(r.list != NULL);
        break;
    case FRAME_RESOURCE_CHANGE_REPLY:
    case FRAME_RESOURCE_GET_REPLY:
        r.resource = sluice__resource_reply__unpack(NULL, g->len, g->message);
        CHECK(r.resource != NULL);
        break;
    case FRAME_ACCOUNT_REPLY:
        r.account = sluice__account_reply__unpack(NULL, g->len, g->message);
        CHECK(r.account != NULL);
        break;
    default:
        r.stream = sluice__stream_reply__unpack(NULL, g->len, g->message);
        CHECK(r.stream != NULL);
    }
    return r;
}

static struct reply ask(struct client *c, uint8_t kind, const void *m) { return reply_of(client_await(c, client_send(c, kind, m, NULL, 0), 20000)); }

#define TEXT(s) ((char *)(uintptr_t)(s))

static struct reply enrol(struct client *c, const char *name, uint8_t request)
{
    Sluice__ConsumerRegister m = SLUICE__CONSUMER_REGISTER__INIT;
    uint8_t id[16];
    memset(id, request, sizeof id);
    m.stream = TEXT("s");
    m.name = TEXT(name);
    m.request_id = (ProtobufCBinaryData){.len = request != 0 ? 16 : 0, .data = id};
    return ask(c, FRAME_CONSUMER_REGISTER, &m);
}

static struct reply expel(struct client *c, const char *name, uint64_t id)
{
    Sluice__ConsumerRemove m = SLUICE__CONSUMER_REMOVE__INIT;
    m.stream = TEXT("s");
    m.name = TEXT(name);
    m.id = id;
    return ask(c, FRAME_CONSUMER_REMOVE, &m);
}

static struct reply tag(struct client *c, const char *consumer, const char *key, const char *value, const char *gone)
{
    Sluice__ResourceChange m = SLUICE__RESOURCE_CHANGE__INIT;
    Sluice__Tag t = SLUICE__TAG__INIT;
    Sluice__Tag *list[] = {&t};
    char *keys[] = {TEXT(gone)};
    t.key = TEXT(key);
    t.value = TEXT(value);
    m.stream = TEXT("s");
    m.consumer = TEXT(consumer);
    m.n_tags = key != NULL;
    m.tags = list;
    m.n_untag = gone != NULL;
    m.untag = keys;
    return ask(c, FRAME_RESOURCE_CHANGE, &m);
}

static struct reply policy(struct client *c, const char *text, bool drop)
{
    Sluice__ResourceChange m = SLUICE__RESOURCE_CHANGE__INIT;
    m.stream = TEXT("s");
    m.policy = TEXT(text);
    m.drop_policy = drop;
    return ask(c, FRAME_RESOURCE_CHANGE, &m);
}

static struct reply consumers(struct client *c)
{
    Sluice__ConsumerList m = SLUICE__CONSUMER_LIST__INIT;
    m.stream = TEXT("s");
    return ask(c, FRAME_CONSUMER_LIST, &m);
}

static struct reply resource(struct client *c, const char *consumer)
{
    Sluice__ResourceGet m = SLUICE__RESOURCE_GET__INIT;
    m.stream = TEXT("s");
    m.consumer = TEXT(consumer);
    return ask(c, FRAME_RESOURCE_GET, &m);
}

static struct reply account(struct client *c, uint32_t commitment)
{
    Sluice__AccountChange m = SLUICE__ACCOUNT_CHANGE__INIT;
    m.commitment = commitment;
    return ask(c, FRAME_ACCOUNT, &m);
}

static struct reply describe(struct client *c)
{
    Sluice__StreamDescribe m = SLUICE__STREAM_DESCRIBE__INIT;
    m.name = TEXT("s");
    return ask(c, FRAME_STREAM_DESCRIBE, &m);
}

static unsigned controller_of(struct world *w)
{
    for (unsigned k = 0; k < 200; k++) {
        for (unsigned i = 0; i < w->first; i++) {
            struct node *n = w->nodes[i].node;
            uint32_t leader = n != NULL && n->controller != NULL ? controller_leader_node(n->controller) : 0;
            if (leader != 0 && w->nodes[leader - 1].node != NULL) {
                return leader - 1;
            }
        }
        run_ms(w, 50);
    }
    CHECK(!"the controller has a leader");
    return 0;
}

static const struct cluster_map *map_of(struct world *w, unsigned i) { return w->nodes[i].node->map; }

/* Until the map of a node shows what an answer tells of. */
static void await_map(struct world *w, unsigned i, uint64_t version)
{
    for (unsigned k = 0; k < 400 && map_of(w, i)->version < version; k++) {
        run_ms(w, 10);
    }
    CHECK(map_of(w, i)->version >= version);
}

/* ---- stories ---- */

STORY(every_node_takes_and_answers)
{
    world_open(w, 3);
    create_stream(w, 0, "s", 3);
    struct client *c[3] = {dial(w, 0), dial(w, 1), dial(w, 2)};
    struct reply r = enrol(c[0], "app", 0);
    CHECK(r.code == 0 && strcmp(r.consumer->consumer->name, "app") == 0 && r.consumer->consumer->id != 0 && memcmp(r.consumer->stream_id.data, w->stream_id, 16) == 0);
    uint64_t id = r.consumer->consumer->id;
    for (unsigned i = 0; i < 3; i++) { /* a node that has not heard of it asks */
        struct reply got = resource(c[i], "app");
        CHECK(got.code == 0 && got.resource->n_tags == 0 && got.resource->policy[0] == '\0');
        await_map(w, i, r.consumer->map_version);
        struct reply list = consumers(c[i]);
        CHECK(list.code == 0 && list.list->n_consumers == 1 && list.list->consumers[0]->id == id && list.list->map_version >= r.consumer->map_version);
        const struct map_stream *s = cluster_map_stream(map_of(w, i), "000000000000", "s");
        CHECK(cluster_map_consumer(s, "app", 3)->id == id && map_of(w, i)->has_token_key);
        CHECK(memcmp(map_of(w, i)->token_key, map_of(w, 0)->token_key, 32) == 0);
    }
    r = enrol(c[1], "app", 0);
    CHECK(r.code == SLUICE_E_IN_USE && strstr(r.text, "app") != NULL);
    CHECK(enrol(c[1], "a b", 0).code == SLUICE_E_INVALID && expel(c[1], "", 0).code == SLUICE_E_INVALID);
    r = tag(c[2], "app", "k", "v", NULL);
    CHECK(r.code == 0 && r.resource->n_tags == 1 && strcmp(r.resource->tags[0]->value, "v") == 0);
    r = tag(c[1], "", "a", "1", NULL);
    CHECK(r.code == 0 && r.resource->n_tags == 1);
    r = tag(c[0], "", "b", "2", "a");
    CHECK(r.code == 0 && r.resource->n_tags == 1 && strcmp(r.resource->tags[0]->key, "b") == 0);
    CHECK(tag(c[0], "", "aws:b", "2", NULL).code == SLUICE_E_INVALID && tag(c[0], "", "!", "2", NULL).code == SLUICE_E_INVALID && tag(c[0], "", NULL, NULL, NULL).code == SLUICE_E_INVALID);
    CHECK(tag(c[0], "nobody", "b", "2", NULL).code == SLUICE_E_NOT_FOUND);
    CHECK(policy(c[2], "", true).code == SLUICE_E_NOT_FOUND && policy(c[2], "[]", false).code == SLUICE_E_INVALID && policy(c[2], "{}", false).code == 0);
    CHECK(account(c[0], 0).account->commitment == 0);
    r = account(c[1], 1);
    CHECK(r.code == 0 && r.account->commitment == 1 && r.account->commitment_since_ms != 0);
    await_map(w, 2, r.account->map_version);
    CHECK(account(c[2], 0).account->commitment == 1 && account(c[2], 3).code == SLUICE_E_INVALID);
    r = describe(c[0]);
    CHECK(r.code == 0 && r.stream->stream->n_tags == 1 && r.stream->stream->consumers == 1 && r.stream->stream->record_max == 1 << 20);
    /* The shards hear of what concerns them. */
    Sluice__StreamUpdate u = SLUICE__STREAM_UPDATE__INIT;
    u.name = TEXT("s");
    u.record_max = 3 << 20;
    u.mode = SLUICE__STREAM_UPDATE__MODE__ON_DEMAND;
    CHECK(ask(c[1], FRAME_STREAM_UPDATE, &u).code == 0);
    run_ms(w, 3000);
    CHECK(shard_on(w, 0)->state.settings.record_max == 3 << 20 && shard_on(w, 2)->state.settings.record_max == 3 << 20);
    u.record_max = 1;
    CHECK(ask(c[1], FRAME_STREAM_UPDATE, &u).code == SLUICE_E_INVALID);
    u.record_max = 0;
    u.retention_hours = 25;
    u.retention = SLUICE__STREAM_UPDATE__RETENTION__DOWN;
    r = ask(c[1], FRAME_STREAM_UPDATE, &u);
    CHECK(r.code == SLUICE_E_INVALID && strstr(r.text, "(25 hours)") != NULL && strstr(r.text, "IncreaseRetentionPeriod") != NULL);
    Sluice__StreamDelete d = SLUICE__STREAM_DELETE__INIT;
    d.name = TEXT("s");
    d.keep_if_consumers = true;
    CHECK(ask(c[2], FRAME_STREAM_DELETE, &d).code == SLUICE_E_IN_USE);
    CHECK(expel(c[2], "app", id + 1).code == SLUICE_E_NOT_FOUND && expel(c[0], "", id).code == 0 && expel(c[1], "app", 0).code == SLUICE_E_NOT_FOUND);
    r = ask(c[2], FRAME_STREAM_DELETE, &d);
    CHECK(r.code == 0 && r.stream->map_version > 0);
    CHECK(consumers(c[0]).code == SLUICE_E_NOT_FOUND && tag(c[1], "", "k", "v", NULL).code == SLUICE_E_NOT_FOUND);
}

/* A cluster of one has its key as soon as it serves. */
STORY(alone_at_once)
{
    world_open(w, 1);
    CHECK(map_of(w, 0)->has_token_key);
    create_stream(w, 0, "s", 1);
    CHECK(enrol(dial(w, 0), "app", 0).code == 0);
    uint8_t key[32];
    memcpy(key, map_of(w, 0)->token_key, 32);
    node_down(w, 0, SIM_CRASH_POWER);
    node_up(w, 0);
    await_leader(w, NO_NODE);
    run_ms(w, 1000);
    CHECK(memcmp(key, map_of(w, 0)->token_key, 32) == 0);
    CHECK(consumers(dial(w, 0)).list->n_consumers == 1);
}

/* Leaders of the controller die in the middle of changes. What was acknowledged is there at the end, in every map; what was repeated was done once. */
static void changes_while_leaders_die(struct world *w)
{
    enum { ROUNDS = 14 };
    world_open(w, 3);
    create_stream(w, 0, "s", 3);
    bool there[ROUNDS] = {false}, sure[ROUNDS] = {false};
    uint64_t ids[ROUNDS] = {0};
    char tagged[ROUNDS][8] = {{0}};
    for (unsigned i = 0; i < ROUNDS; i++) {
        unsigned strike = controller_of(w);
        unsigned via = (strike + 1 + sim_random(w->sim) % 2) % 3;
        struct client *c = dial(w, via);
        char name[16], value[8];
        snprintf(name, sizeof name, "c%u", i);
        snprintf(value, sizeof value, "%u", (unsigned)(sim_random(w->sim) % 1000));
        Sluice__ConsumerRegister m = SLUICE__CONSUMER_REGISTER__INIT;
        uint8_t id[16];
        memset(id, (int)i + 1, sizeof id);
        m.stream = TEXT("s");
        m.name = name;
        m.request_id = (ProtobufCBinaryData){.len = 16, .data = id};
        uint64_t asked = client_send(c, FRAME_CONSUMER_REGISTER, &m, NULL, 0);
        run_ms(w, sim_random(w->sim) % 30);
        if (i % 2 == 0) {
            node_down(w, strike, sim_random(w->sim) % 2 == 0 ? SIM_CRASH_KILL : SIM_CRASH_POWER);
        }
        struct reply r = reply_of(client_await(c, asked, 20000));
        if (r.code == 0) {
            there[i] = sure[i] = true;
            ids[i] = r.consumer->consumer->id;
            struct reply again = enrol(c, name, (uint8_t)(i + 1)); /* the same request, until there is an answer, as a client does it */
            for (unsigned k = 0; k < 3 && sluice_error_retry(again.code) != SLUICE_RETRY_NEVER; k++) {
                again = enrol(c, name, (uint8_t)(i + 1));
            }
            CHECK(again.code == 0 && again.consumer->consumer->id == ids[i]);
            CHECK(enrol(c, name, 0).code == SLUICE_E_IN_USE);
            r = tag(c, name, "k", value, NULL);
            if (r.code == 0) {
                snprintf(tagged[i], sizeof tagged[i], "%s", value);
            }
        }
        if (i % 3 == 2 && sure[i - 1]) {
            char before[16];
            snprintf(before, sizeof before, "c%u", i - 1);
            r = expel(c, before, ids[i - 1]);
            there[i - 1] = r.code != 0;
            sure[i - 1] = r.code == 0;
        }
        if (w->nodes[strike].node == NULL) {
            node_up(w, strike);
        }
        run_ms(w, 500);
    }
    run_ms(w, 8000);
    unsigned known = 0;
    for (unsigned n = 0; n < 3; n++) {
        const struct map_stream *s = cluster_map_stream(map_of(w, n), "000000000000", "s");
        CHECK(s != NULL);
        for (unsigned i = 0; i < ROUNDS; i++) {
            char name[16];
            snprintf(name, sizeof name, "c%u", i);
            const struct map_consumer *x = cluster_map_consumer(s, name, strlen(name));
            if (!sure[i]) {
                continue;
            }
            known++;
            CHECK((x != NULL) == there[i]);
            CHECK(x == NULL || x->id == ids[i]);
            CHECK(x == NULL || tagged[i][0] == '\0' || (x->resource.n_tags == 1 && strcmp(x->resource.tags[0].value, tagged[i]) == 0));
        }
        CHECK(memcmp(map_of(w, n)->token_key, map_of(w, 0)->token_key, 32) == 0 && map_of(w, n)->has_token_key);
    }
    CHECK(known >= 3 * ROUNDS / 2); /* or it shows nothing */
}

static void acknowledged_changes_survive(void **state)
{
    (void)state;
    const char *more = getenv("SEEDS");
    uint64_t n = more != NULL ? strtoull(more, NULL, 10) : 6;
    for (uint64_t seed = 1; seed <= n; seed++) {
        if (!story_holds(changes_while_leaders_die, seed)) {
            fail_msg("seed %llu", (unsigned long long)seed);
        }
    }
}

/* ---- F37 ---- */

static unsigned old_node = NODES; /* runs a program of feature level 1 */

static void tune_old(struct settings *s, unsigned node) { s->test_features = node == old_node ? 1 : 0; }

static void await_level(struct world *w, unsigned ms)
{
    struct client *c = dial(w, 0);
    int code = -1;
    for (unsigned t = 0; t < ms && code != 0; t += 200) {
        code = account(c, 1).code;
        run_ms(w, 200);
    }
    CHECK(code == 0);
}

/* While one program is old nothing it does not know is in the log, whoever leads; what it knows works. Then it is upgraded. */
static void an_old_program(struct world *w)
{
    old_node = (unsigned)(w->seed % 3);
    w->tune = tune_old;
    world_open(w, 3);
    create_stream(w, 0, "s", 3);
    for (unsigned round = 0; round < 2; round++) {
        for (unsigned i = 0; i < 3; i++) {
            struct client *c = dial(w, i);
            struct reply r = enrol(c, "app", 0);
            CHECK(r.code == SLUICE_E_NOT_SUPPORTED && (controller_of(w) != i || strstr(r.text, "node") != NULL));
            CHECK(tag(c, "", "k", "v", NULL).code == SLUICE_E_NOT_SUPPORTED && account(c, 1).code == SLUICE_E_NOT_SUPPORTED);
            Sluice__StreamUpdate u = SLUICE__STREAM_UPDATE__INIT;
            u.name = TEXT("s");
            u.record_max = 2 << 20;
            CHECK(ask(c, FRAME_STREAM_UPDATE, &u).code == SLUICE_E_NOT_SUPPORTED); /* not done by halves */
            u.record_max = 0;
            u.retention_hours = 30 + round * 3 + i;
            r = ask(c, FRAME_STREAM_UPDATE, &u);
            CHECK(r.code == 0 && r.stream->stream->retention_hours == u.retention_hours);
            CHECK(consumers(c).list->n_consumers == 0 && !map_of(w, i)->has_token_key);
            if (i == controller_of(w)) {
                char name[16];
                snprintf(name, sizeof name, "node %u", old_node + 1);
                CHECK(strstr(enrol(c, "app", 0).text, name) != NULL); /* it says whose fault it is */
            }
            env_conn_close(&c->conn);
        }
        unsigned leader_now = controller_of(w);
        node_down(w, leader_now, SIM_CRASH_KILL);
        run_ms(w, 4000);
        node_up(w, leader_now);
        run_ms(w, 4000);
    }
    node_down(w, old_node, SIM_CRASH_KILL);
    run_ms(w, 5000);
    struct client *c = dial(w, (old_node + 1) % 3);
    CHECK(enrol(c, "app", 0).code == SLUICE_E_NOT_SUPPORTED); /* it may come back as it was */
    unsigned upgraded = old_node;
    old_node = NODES;
    node_up(w, upgraded);
    await_level(w, 20000);
    CHECK(enrol(dial(w, 0), "app", 0).code == 0);
    node_down(w, upgraded, SIM_CRASH_KILL); /* what is in the log stays so, whoever is down */
    run_ms(w, 5000);
    CHECK(enrol(dial(w, (upgraded + 1) % 3), "other", 0).code == 0);
    node_up(w, upgraded);
    run_ms(w, 5000);
    CHECK(map_of(w, upgraded)->has_token_key);
}

static void an_old_program_holds_back_new_entries(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 3; seed++) {
        if (!story_holds(an_old_program, seed)) {
            fail_msg("seed %llu", (unsigned long long)seed);
        }
    }
}

/* The controller's leader loses its power with a change on its way to it: nothing says so but its silence. The change is done by the next leader, once, whether or not
 * a report of the node's was on its way too. */
STORY(changes_outlive_a_silent_leader)
{
    for (unsigned after = 0; after < 1000; after += 100) {
        world_open(w, 3);
        create_stream(w, 0, "s", 3);
        run_ms(w, 3000);
        unsigned controller = controller_of(w);
        struct client *c = dial(w, (controller + 1) % 3), *other = dial(w, (controller + 2) % 3);
        run_ms(w, after);
        node_down(w, controller, SIM_CRASH_POWER);
        uint64_t asked = now_ms(w);
        CHECK(enrol(c, "app", 7).code == 0 && now_ms(w) - asked < 1500);
        struct reply again = enrol(other, "app", 7);
        CHECK(again.code == 0);
        await_map(w, (controller + 2) % 3, again.consumer->map_version);
        CHECK(consumers(other).list->n_consumers == 1);
    }
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_node_takes_and_answers),
        cmocka_unit_test(alone_at_once),
        cmocka_unit_test(acknowledged_changes_survive),
        cmocka_unit_test(changes_outlive_a_silent_leader),
        cmocka_unit_test(an_old_program_holds_back_new_entries),
    };
    if (argc > 1) {
        cmocka_set_test_filter(argv[1]);
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
