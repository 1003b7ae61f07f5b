/* Consumers, tags, policies, accounts, modes and the feature level in the controller's machine: bounds, first wins, what goes with a stream, snapshots of each level. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "proto/base.h"
#include "proto/error.h"
#include "server/controller_machine.h"
#include "tests/unit/server_machine_fixture.h"

#define T(k, v) {.key = (char *)(uintptr_t)(k), .value = (char *)(uintptr_t)(v)}

struct world { struct controller_machine *m; uint64_t index, now_ms; };

static int apply(struct world *w, struct controller_entry *e)
{
    struct out_buffer out = {0};
    struct controller_result r;
    static const uint8_t none[16];
    e->now_ms = w->now_ms;
    if (memcmp(e->stream_id, none, 16) == 0) {
        memset(e->stream_id, 1, 16);
    }
    controller_entry_encode(e, &out);
    for (size_t n = 0; n < out.len; n++) { /* no part of an entry is one */
        struct controller_entry part;
        assert_int_not_equal(controller_entry_decode(&part, out.data, n), 0);
    }
    assert_int_equal(controller_machine_apply(w->m, ++w->index, out.data, out.len, &r), 0);
    free(out.data);
    return r.code;
}

static int raise_level(struct world *w)
{
    struct controller_entry e = {.kind = CONTROLLER_LEVEL, .level = 2};
    return apply(w, &e);
}

static int create(struct world *w, enum controller_entry_kind kind, const char *name, uint8_t id, struct map_tag *tags, unsigned n)
{
    uint32_t placement[] = {1};
    struct controller_entry e = {.kind = kind, .shards = 1, .replicas = 1, .retention_hours = 48, .record_max = 1 << 20, .account = "000000000000", .placement = placement, .tags = tags,
                                 .n_tags = n, .warm_mibps = 7};
    memset(e.stream_id, id, 16);
    snprintf(e.name, sizeof e.name, "%s", name);
    return apply(w, &e);
}

/* One node, one stream "s" of id 1. */
static void begin(struct world *w, bool level)
{
    struct map_node node = {.id = 1, .host = "n1"};
    *w = (struct world){.m = controller_machine_new(), .now_ms = 5000};
    struct controller_entry e = {.kind = CONTROLLER_INIT, .nodes = &node, .n_nodes = 1, .n_voters = 1, .cluster_id = {7}};
    assert_int_equal(apply(w, &e), 0);
    assert_int_equal(create(w, CONTROLLER_STREAM_CREATE, "s", 1, NULL, 0), 0);
    if (level) {
        assert_int_equal(raise_level(w), 0);
    }
}

static uint8_t snap(struct world *w) { return machine_through_snapshot(&w->m, 1); }

static void end(struct world *w)
{
    snap(w);
    controller_machine_free(w->m);
}

static int enrol(struct world *w, const char *name, struct map_tag *tags, unsigned n)
{
    struct controller_entry e = {.kind = CONTROLLER_CONSUMER_REGISTER, .tags = tags, .n_tags = n};
    snprintf(e.name, sizeof e.name, "%s", name);
    return apply(w, &e);
}

static int expel(struct world *w, uint64_t id)
{
    struct controller_entry e = {.kind = CONTROLLER_CONSUMER_REMOVE, .consumer = id};
    return apply(w, &e);
}

static int change(struct world *w, uint64_t consumer, struct map_tag *set, unsigned n_set, struct map_tag *gone, unsigned n_gone)
{
    struct controller_entry e = {.kind = CONTROLLER_RESOURCE, .consumer = consumer, .tags = set, .n_tags = n_set, .untags = gone, .n_untags = n_gone};
    return apply(w, &e);
}

static int policy(struct world *w, uint64_t consumer, enum policy_op op, char *text)
{
    struct controller_entry e = {.kind = CONTROLLER_RESOURCE, .consumer = consumer, .policy_op = op, .policy = text};
    return apply(w, &e);
}

static int mode(struct world *w, enum stream_mode to)
{
    struct controller_entry e = {.kind = CONTROLLER_STREAM_CHANGE, .mode = to};
    return apply(w, &e);
}

static const struct map_stream *stream(struct cluster_map *map) { return cluster_map_stream(map, "000000000000", "s"); }

/* Rule F37. */
static void nothing_new_below_its_level(void **state)
{
    (void)state;
    struct world w;
    begin(&w, false);
    assert_int_equal(controller_machine_level(w.m), 1);
    struct controller_entry key = {.kind = CONTROLLER_TOKEN_KEY, .token_key = {1}};
    struct controller_entry account = {.kind = CONTROLLER_ACCOUNT, .account = "000000000000", .commitment = 1};
    struct controller_entry drop = {.kind = CONTROLLER_STREAM_DROP};
    assert_int_equal(enrol(&w, "c", NULL, 0), SLUICE_E_NOT_SUPPORTED);
    assert_int_equal(change(&w, 0, NULL, 0, NULL, 0), SLUICE_E_NOT_SUPPORTED);
    assert_int_equal(mode(&w, MODE_ON_DEMAND), SLUICE_E_NOT_SUPPORTED);
    assert_int_equal(apply(&w, &key), SLUICE_E_NOT_SUPPORTED);
    assert_int_equal(apply(&w, &account), SLUICE_E_NOT_SUPPORTED);
    assert_int_equal(apply(&w, &drop), SLUICE_E_NOT_SUPPORTED);
    assert_int_equal(create(&w, CONTROLLER_STREAM_CREATE_WITH, "t", 2, NULL, 0), SLUICE_E_NOT_SUPPORTED);
    assert_int_equal(snap(&w), 2); /* which a program of level 1 reads */
    assert_int_equal(raise_level(&w), 0);
    assert_int_equal(snap(&w), 3);
    assert_int_equal(controller_machine_level(w.m), 2);
    assert_int_equal(enrol(&w, "c", NULL, 0), 0);
    /* A level that this program does not know stops it, in the log and in a snapshot. */
    struct controller_entry next = {.kind = CONTROLLER_LEVEL, .level = FEATURE_LEVEL + 1};
    struct out_buffer out = {0};
    controller_entry_encode(&next, &out);
    assert_int_equal(controller_machine_apply(w.m, 100, out.data, out.len, NULL), SLUICE_E_NOT_SUPPORTED);
    out.len = 0;
    controller_machine_snapshot(w.m, &out);
    size_t at = 4 + 16 + 24 + 4;
    assert_int_equal(get_u32(out.data + at), 2);
    put_u32(out.data + at, FEATURE_LEVEL + 1);
    struct controller_machine *none;
    assert_int_equal(controller_machine_restore(&none, out.data, out.len), SLUICE_E_VERSION);
    free(out.data);
    end(&w);
}

static void consumers_come_and_go(void **state)
{
    (void)state;
    struct world w;
    begin(&w, true);
    struct map_tag tag = T("k", "v");
    w.now_ms = 9000;
    assert_int_equal(enrol(&w, "b", &tag, 1), 0);
    uint64_t b = w.index;
    assert_int_equal(enrol(&w, "a", NULL, 0), 0);
    uint64_t a = w.index;
    assert_int_equal(enrol(&w, "b", NULL, 0), SLUICE_E_IN_USE);
    assert_int_equal(enrol(&w, "", NULL, 0), SLUICE_E_INVALID);
    assert_int_equal(enrol(&w, "a b", NULL, 0), SLUICE_E_INVALID);
    snap(&w);
    struct cluster_map *map = controller_machine_map(w.m);
    const struct map_stream *s = stream(map);
    assert_int_equal(s->n_consumers, 2);
    assert_string_equal(s->consumers[0].name, "a"); /* in order */
    assert_int_equal(s->consumers[0].id, a);
    assert_ptr_equal(cluster_map_consumer(s, "b", 1), &s->consumers[1]);
    assert_ptr_equal(cluster_map_consumer_by_id(s, b), &s->consumers[1]);
    assert_null(cluster_map_consumer(s, "bb", 2));
    assert_null(cluster_map_consumer(s, "b", 0));
    assert_int_equal(s->consumers[1].created_ms, 9000);
    assert_string_equal(s->consumers[1].resource.tags[0].value, "v");
    assert_int_equal(expel(&w, b), 0);
    assert_int_equal(expel(&w, b), SLUICE_E_NOT_FOUND);
    assert_int_equal(enrol(&w, "b", NULL, 0), 0);
    struct cluster_map *after = controller_machine_map(w.m);
    assert_true(cluster_map_consumer(stream(after), "b", 1)->id > b); /* another one */
    assert_int_equal(cluster_map_consumer(stream(after), "b", 1)->resource.n_tags, 0);
    assert_int_equal(change(&w, b, &tag, 1, NULL, 0), SLUICE_E_NOT_FOUND); /* what was meant for the old one does not reach the new one */
    assert_string_equal(s->consumers[1].resource.tags[0].value, "v");      /* the older map is as it was */
    cluster_map_unref(map);
    cluster_map_unref(after);
    end(&w);
}

static void consumers_have_a_bound(void **state)
{
    (void)state;
    struct world w;
    begin(&w, true);
    char name[16];
    for (unsigned i = 0; i < 20; i++) {
        snprintf(name, sizeof name, "c%u", i);
        assert_int_equal(enrol(&w, name, NULL, 0), 0);
    }
    assert_int_equal(enrol(&w, "more", NULL, 0), SLUICE_E_LIMIT);
    assert_int_equal(mode(&w, MODE_ON_DEMAND), 0);
    for (unsigned i = 20; i < 50; i++) {
        snprintf(name, sizeof name, "c%u", i);
        assert_int_equal(enrol(&w, name, NULL, 0), 0);
    }
    assert_int_equal(enrol(&w, "more", NULL, 0), SLUICE_E_LIMIT);
    assert_int_equal(mode(&w, MODE_PROVISIONED), 0); /* those that are there stay */
    snap(&w);
    struct cluster_map *map = controller_machine_map(w.m);
    assert_int_equal(stream(map)->n_consumers, 50);
    cluster_map_unref(map);
    end(&w);
}

static void tags_are_set_and_taken_away(void **state)
{
    (void)state;
    struct world w;
    begin(&w, true);
    struct map_tag first[] = {T("b", "1"), T("a", "2"), T("c", "")};
    struct map_tag then[] = {T("b", "9"), T("d", "4")};
    struct map_tag gone[] = {T("a", NULL), T("nobody", NULL), T("d", NULL)};
    assert_int_equal(change(&w, 0, first, 3, NULL, 0), 0);
    assert_int_equal(change(&w, 0, then, 2, gone, 3), 0); /* taken away first */
    assert_int_equal(change(&w, 77, then, 2, NULL, 0), SLUICE_E_NOT_FOUND);
    snap(&w);
    struct cluster_map *map = controller_machine_map(w.m);
    const struct map_resource *r = &stream(map)->resource;
    assert_int_equal(r->n_tags, 3);
    assert_string_equal(r->tags[0].key, "b");
    assert_string_equal(r->tags[0].value, "9");
    assert_string_equal(r->tags[1].key, "c");
    assert_string_equal(r->tags[1].value, "");
    assert_string_equal(r->tags[2].key, "d");
    assert_null(r->policy);
    cluster_map_unref(map);
    /* At most 50, whatever is taken away with it. */
    char names[48][8];
    struct map_tag many[48];
    for (unsigned i = 0; i < 48; i++) {
        snprintf(names[i], sizeof names[i], "t%u", i);
        many[i] = (struct map_tag)T(names[i], "x");
    }
    assert_int_equal(change(&w, 0, many, 48, NULL, 0), SLUICE_E_LIMIT);
    assert_int_equal(change(&w, 0, many, 47, NULL, 0), 0);
    assert_int_equal(change(&w, 0, &many[47], 1, NULL, 0), SLUICE_E_LIMIT);
    assert_int_equal(change(&w, 0, many, 48, &gone[2], 1), 0);
    assert_int_equal(create(&w, CONTROLLER_STREAM_CREATE_WITH, "t", 2, many, 48), 0);
    snap(&w);
    map = controller_machine_map(w.m);
    assert_int_equal(stream(map)->resource.n_tags, 50);
    const struct map_stream *t = cluster_map_stream(map, "000000000000", "t");
    assert_int_equal(t->resource.n_tags, 48);
    assert_int_equal(t->warm_mibps, 7);
    assert_int_equal(t->settings.retention_hours, 48);
    cluster_map_unref(map);
    end(&w);
}

static void policies_are_kept(void **state)
{
    (void)state;
    struct world w;
    begin(&w, true);
    char text[] = "{\"a\":1}";
    struct map_tag tag = T("k", "v");
    assert_int_equal(policy(&w, 0, POLICY_DROP, NULL), SLUICE_E_NOT_FOUND);
    assert_int_equal(policy(&w, 0, POLICY_SET, text), 0);
    assert_int_equal(enrol(&w, "c", NULL, 0), 0);
    uint64_t c = w.index;
    assert_int_equal(policy(&w, c, POLICY_SET, text), 0);
    assert_int_equal(change(&w, 0, &tag, 1, NULL, 0), 0); /* the policy stays */
    snap(&w);
    struct cluster_map *map = controller_machine_map(w.m);
    assert_string_equal(stream(map)->resource.policy, text);
    assert_string_equal(stream(map)->consumers[0].resource.policy, text);
    cluster_map_unref(map);
    assert_int_equal(policy(&w, 0, POLICY_DROP, NULL), 0);
    assert_int_equal(policy(&w, 0, POLICY_DROP, NULL), SLUICE_E_NOT_FOUND);
    map = controller_machine_map(w.m);
    assert_null(stream(map)->resource.policy);
    assert_int_equal(stream(map)->resource.n_tags, 1);
    assert_string_equal(stream(map)->consumers[0].resource.policy, text);
    cluster_map_unref(map);
    end(&w);
}

static void settings_change(void **state)
{
    (void)state;
    struct world w;
    begin(&w, true);
    struct controller_entry e = {.kind = CONTROLLER_STREAM_CHANGE, .metrics_on = 5, .warm = true, .warm_mibps = 100, .mode = MODE_ON_DEMAND};
    assert_int_equal(apply(&w, &e), 0);
    struct cluster_map *map = controller_machine_map(w.m);
    assert_int_equal(stream(map)->settings.version, 1); /* nothing that shards must hear */
    assert_true(stream(map)->on_demand && stream(map)->metrics == 5 && stream(map)->warm_mibps == 100);
    cluster_map_unref(map);
    e = (struct controller_entry){.kind = CONTROLLER_STREAM_CHANGE, .metrics_on = 2, .metrics_off = 4, .record_max = 10 << 20, .limits = 2, .retention_hours = 72, .way = RETENTION_UP};
    assert_int_equal(apply(&w, &e), 0);
    assert_int_equal(apply(&w, &e), 0); /* to what it is: no change */
    snap(&w);
    map = controller_machine_map(w.m);
    const struct map_stream *s = stream(map);
    assert_int_equal(s->settings.version, 2);
    assert_int_equal(s->settings.record_max, 10 << 20);
    assert_true(s->settings.limits_off && s->settings.retention_hours == 72 && s->metrics == 3 && s->on_demand && s->warm_mibps == 100);
    cluster_map_unref(map);
    const struct controller_entry bad[] = {
        {.retention_hours = 71, .way = RETENTION_UP}, {.retention_hours = 73, .way = RETENTION_DOWN}, {.retention_hours = 23},         {.retention_hours = 8761},
        {.record_max = (1 << 20) - 1},                {.record_max = (10 << 20) + 1},               {.metrics_on = METRICS_ALL + 1}, {.metrics_off = METRICS_ALL + 1},
    };
    for (unsigned i = 0; i < ARRAY_LEN(bad); i++) {
        e = bad[i];
        e.kind = CONTROLLER_STREAM_CHANGE;
        e.mode = MODE_PROVISIONED;
        assert_int_equal(apply(&w, &e), SLUICE_E_INVALID);
    }
    e = (struct controller_entry){.kind = CONTROLLER_STREAM_CHANGE, .retention_hours = 24, .way = RETENTION_DOWN};
    assert_int_equal(apply(&w, &e), 0);
    map = controller_machine_map(w.m);
    assert_true(stream(map)->on_demand && stream(map)->settings.retention_hours == 24);
    cluster_map_unref(map);
    end(&w);
}

static void all_goes_with_the_stream(void **state)
{
    (void)state;
    struct world w;
    begin(&w, true);
    char text[] = "{}";
    struct map_tag tag = T("k", "v");
    struct controller_entry drop = {.kind = CONTROLLER_STREAM_DROP};
    struct controller_entry delete = {.kind = CONTROLLER_STREAM_DELETE};
    assert_int_equal(enrol(&w, "c", &tag, 1), 0);
    assert_int_equal(policy(&w, 0, POLICY_SET, text), 0);
    assert_int_equal(apply(&w, &drop), SLUICE_E_IN_USE);
    assert_int_equal(apply(&w, &delete), 0);
    assert_int_equal(apply(&w, &drop), 0); /* on its way already */
    assert_int_equal(enrol(&w, "d", NULL, 0), SLUICE_E_NOT_FOUND);
    assert_int_equal(change(&w, 0, &tag, 1, NULL, 0), SLUICE_E_NOT_FOUND);
    snap(&w);
    delete.done = true;
    assert_int_equal(apply(&w, &delete), 0);
    assert_int_equal(create(&w, CONTROLLER_STREAM_CREATE, "s", 3, NULL, 0), 0);
    struct cluster_map *map = controller_machine_map(w.m);
    assert_int_equal(stream(map)->n_consumers, 0);
    assert_int_equal(stream(map)->resource.n_tags, 0);
    assert_null(stream(map)->resource.policy);
    cluster_map_unref(map);
    memset(drop.stream_id, 3, 16);
    assert_int_equal(apply(&w, &drop), 0);
    memset(drop.stream_id, 9, 16);
    assert_int_equal(apply(&w, &drop), SLUICE_E_NOT_FOUND);
    end(&w);
}

/* 64 MiB for all of them; what makes room is taken at any time. */
static void tags_and_policies_have_a_bound_in_all(void **state)
{
    (void)state;
    struct world w;
    begin(&w, true);
    char value[TAG_VALUE_BYTES + 1];
    memset(value, 'x', TAG_VALUE_BYTES);
    value[TAG_VALUE_BYTES] = '\0';
    char names[50][8];
    struct map_tag tags[50], gone[50];
    for (unsigned i = 0; i < 50; i++) {
        snprintf(names[i], sizeof names[i], "t%03u", i);
        tags[i] = (struct map_tag){names[i], value};
        gone[i] = (struct map_tag){names[i], NULL};
    }
    unsigned n = 0;
    int code = 0;
    while (code == 0 && n < 5000) {
        uint32_t placement[] = {1};
        struct controller_entry e = {.kind = CONTROLLER_STREAM_CREATE_WITH, .shards = 1, .replicas = 1, .retention_hours = 24, .account = "000000000000", .placement = placement, .tags = tags, .n_tags = 50};
        snprintf(e.name, sizeof e.name, "x%u", n);
        put_u32(e.stream_id, 1000 + n);
        struct out_buffer out = {0};
        struct controller_result r;
        controller_entry_encode(&e, &out);
        assert_int_equal(controller_machine_apply(w.m, ++w.index, out.data, out.len, &r), 0);
        free(out.data);
        code = r.code;
        n += code == 0;
    }
    assert_int_equal(code, SLUICE_E_LIMIT);
    assert_int_equal(n, (64 << 20) / (50 * (TAG_VALUE_BYTES + 4)));
    assert_int_equal(change(&w, 0, tags, 50, NULL, 0), SLUICE_E_LIMIT);
    struct controller_entry e = {.kind = CONTROLLER_RESOURCE, .untags = gone, .n_untags = 50};
    put_u32(e.stream_id, 1000);
    assert_int_equal(apply(&w, &e), 0);
    assert_int_equal(change(&w, 0, tags, 50, NULL, 0), 0);
    struct controller_entry delete = {.kind = CONTROLLER_STREAM_DELETE};
    put_u32(delete.stream_id, 1001);
    assert_int_equal(apply(&w, &delete), 0);
    delete.done = true;
    assert_int_equal(apply(&w, &delete), 0);
    e = (struct controller_entry){.kind = CONTROLLER_RESOURCE, .tags = tags, .n_tags = 50};
    put_u32(e.stream_id, 1000);
    assert_int_equal(apply(&w, &e), 0); /* in the room that the deleted one has left */
    controller_machine_free(w.m);
}

static void the_first_key_stays(void **state)
{
    (void)state;
    struct world w;
    begin(&w, true);
    struct cluster_map *map = controller_machine_map(w.m);
    assert_false(map->has_token_key);
    cluster_map_unref(map);
    struct controller_entry e = {.kind = CONTROLLER_TOKEN_KEY};
    memset(e.token_key, 5, sizeof e.token_key);
    assert_int_equal(apply(&w, &e), 0);
    memset(e.token_key, 6, sizeof e.token_key);
    assert_int_equal(apply(&w, &e), SLUICE_E_CONFLICT);
    snap(&w);
    assert_true(controller_machine_has_token_key(w.m));
    map = controller_machine_map(w.m);
    assert_true(map->has_token_key && map->token_key[0] == 5 && map->token_key[31] == 5);
    cluster_map_unref(map);
    end(&w);
}

static void accounts_are_kept(void **state)
{
    (void)state;
    struct world w;
    begin(&w, true);
    struct controller_entry e = {.kind = CONTROLLER_ACCOUNT, .commitment = 1};
    for (unsigned i = 0; i < ACCOUNTS_MAX; i++) {
        snprintf(e.account, sizeof e.account, "%012u", (i * 37) % ACCOUNTS_MAX);
        assert_int_equal(apply(&w, &e), 0);
    }
    snprintf(e.account, sizeof e.account, "%012u", ACCOUNTS_MAX);
    assert_int_equal(apply(&w, &e), SLUICE_E_LIMIT);
    w.now_ms = 8000;
    snprintf(e.account, sizeof e.account, "%012u", 7);
    assert_int_equal(apply(&w, &e), 0); /* no change: since then */
    snprintf(e.account, sizeof e.account, "%012u", 8);
    e.commitment = 2;
    assert_int_equal(apply(&w, &e), 0);
    snprintf(e.account, sizeof e.account, "x");
    assert_int_equal(apply(&w, &e), SLUICE_E_INVALID);
    struct cluster_map *map = controller_machine_map(w.m);
    assert_int_equal(map->n_accounts, ACCOUNTS_MAX);
    assert_string_equal(map->accounts[7].account, "000000000007");
    assert_true(map->accounts[7].since_ms == 5000 && map->accounts[7].commitment == 1);
    assert_true(map->accounts[8].since_ms == 8000 && map->accounts[8].commitment == 2);
    cluster_map_unref(map);
    struct out_buffer out = {0};
    controller_machine_snapshot(w.m, &out);
    struct controller_machine *copy;
    assert_int_equal(controller_machine_restore(&copy, out.data, out.len), 0);
    controller_machine_free(copy);
    free(out.data);
    controller_machine_free(w.m);
}

/* Entries and snapshots with one byte changed never do more than fail. */
static void noise_does_no_harm(void **state)
{
    (void)state;
    struct world w;
    begin(&w, true);
    struct map_tag tags[] = {T("k", "v"), T("l", "w")};
    char text[] = "{}";
    struct controller_entry entries[] = {
        {.kind = CONTROLLER_RESOURCE, .tags = tags, .n_tags = 2, .untags = tags, .n_untags = 2, .policy_op = POLICY_SET, .policy = text},
        {.kind = CONTROLLER_CONSUMER_REGISTER, .name = "c", .tags = tags, .n_tags = 2},
        {.kind = CONTROLLER_STREAM_CHANGE, .mode = MODE_ON_DEMAND, .record_max = 1 << 20},
        {.kind = CONTROLLER_ACCOUNT, .account = "000000000000", .commitment = 1},
        {.kind = CONTROLLER_TOKEN_KEY}, {.kind = CONTROLLER_LEVEL, .level = 2}, {.kind = CONTROLLER_CONSUMER_REMOVE, .consumer = 5}, {.kind = CONTROLLER_STREAM_DROP},
    };
    for (unsigned i = 0; i < ARRAY_LEN(entries); i++) {
        struct out_buffer out = {0};
        memset(entries[i].stream_id, 1, 16);
        controller_entry_encode(&entries[i], &out);
        for (size_t at = 12; at < out.len; at++) {
            for (unsigned bit = 0; bit < 8; bit++) {
                out.data[at] ^= (uint8_t)(1u << bit);
                controller_machine_apply(w.m, ++w.index, out.data, out.len, NULL);
                out.data[at] ^= (uint8_t)(1u << bit);
            }
        }
        free(out.data);
    }
    struct out_buffer out = {0};
    controller_machine_snapshot(w.m, &out);
    for (size_t at = 0; at < out.len; at++) {
        for (unsigned bit = 0; bit < 8; bit++) {
            struct controller_machine *m;
            out.data[at] ^= (uint8_t)(1u << bit);
            if (controller_machine_restore(&m, out.data, out.len) == 0) {
                controller_machine_free(m);
            }
            out.data[at] ^= (uint8_t)(1u << bit);
        }
    }
    free(out.data);
    end(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nothing_new_below_its_level),
        cmocka_unit_test(consumers_come_and_go),
        cmocka_unit_test(consumers_have_a_bound),
        cmocka_unit_test(tags_are_set_and_taken_away),
        cmocka_unit_test(policies_are_kept),
        cmocka_unit_test(settings_change),
        cmocka_unit_test(all_goes_with_the_stream),
        cmocka_unit_test(tags_and_policies_have_a_bound_in_all),
        cmocka_unit_test(the_first_key_stays),
        cmocka_unit_test(accounts_are_kept),
        cmocka_unit_test(noise_does_no_harm),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
