/* The pure parts of the Kinesis endpoint: files of access keys, rates of the control plane, filters and pages of ListShards. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <cmocka.h>
#include <stdio.h>
#include <string.h>

#include "proto/base.h"
#include "server/aws/aws_model.h"
#include "server/kinesis/kinesis_keys.h"
#include "server/kinesis/kinesis_rates.h"
#include "server/kinesis/shard_filter.h"

#define TEXT(s) ((struct aws_text){s, strlen(s)})

/* ---- access keys ---- */

static struct kinesis_keys *parse(const char *text, char err[256]) { return kinesis_keys_parse(text, strlen(text), "000000000001", err); }

static void keys_are_found(void **state)
{
    (void)state;
    char err[256] = "";
    struct kinesis_keys *keys = parse("# ours\n\nBBB secret/b+= 123456789012\r\n  AAA\tsecret-a  \nAA x", err);
    assert_non_null(keys);
    assert_string_equal(kinesis_key_account(kinesis_keys_find(keys, TEXT("BBB"))), "123456789012");
    assert_string_equal(kinesis_key_account(kinesis_keys_find(keys, TEXT("AAA"))), "000000000001");
    assert_non_null(kinesis_keys_find(keys, TEXT("AA")));
    assert_null(kinesis_keys_find(keys, TEXT("A")));
    assert_null(kinesis_keys_find(keys, TEXT("AAAA")));
    assert_null(kinesis_keys_find(keys, TEXT("BB")));
    assert_null(kinesis_keys_find(keys, TEXT("")));
    kinesis_keys_free(keys);
}

static void signing_keys_are_kept_by_day(void **state)
{
    (void)state;
    char err[256];
    struct kinesis_keys *keys = parse("AAA wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY", err);
    struct kinesis_key *key = kinesis_keys_find(keys, TEXT("AAA"));
    static const char *const days[] = {"20261123", "20261124", "20261123", "20261125", "20261124"};
    for (size_t i = 0; i < ARRAY_LEN(days); i++) {
        uint8_t expected[AWS_SHA256];
        aws_signing_key(TEXT("wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"), TEXT(days[i]), TEXT("us-east-1"), TEXT("kinesis"), expected);
        assert_memory_equal(kinesis_key_signing(key, TEXT(days[i]), "us-east-1"), expected, sizeof expected);
    }
    kinesis_keys_free(keys);
}

static void bad_files_are_refused(void **state)
{
    (void)state;
    static const struct { const char *text, *why; } bad[] = {
        {"", "no access key"},
        {"# nothing\n\n", "no access key"},
        {"AAA s\nBBB\n", "line 2: an access key without a secret"},
        {"AAA s 12345678901\n", "line 1: an account"},
        {"AAA s 12345678901x\n", "line 1: an account"},
        {"AAA s 123456789012 more\n", "line 1: more than"},
        {"AAA s\n\nBBB t\nAAA u\n", "lines 1 and 4"},
        {"AAA s\303\244\n", "not printable"},
    };
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        char err[256] = "";
        assert_null(parse(bad[i].text, err));
        assert_non_null(strstr(err, bad[i].why));
    }
    char text[64 * (KEYS_ACCOUNTS_MAX + 1)], err[256];
    size_t n = 0;
    for (unsigned i = 0; i < KEYS_ACCOUNTS_MAX + 1; i++) {
        n += (size_t)snprintf(text + n, sizeof text - n, "KEY%u s %012u\n", i, i);
    }
    assert_null(parse(text, err));
    assert_non_null(strstr(err, "accounts"));
}

/* ---- rates ---- */

static unsigned take_all(struct kinesis_rates *r, const char *account, unsigned operation, uint32_t per_s, uint64_t now_ms)
{
    unsigned n = 0;
    while (rates_take(r, account, operation, per_s, now_ms)) {
        n++;
    }
    return n;
}

static void rates_hold(void **state)
{
    (void)state;
    struct kinesis_rates *r = rates_make();
    assert_int_equal(take_all(r, "1", AWS_OP_CreateStream, 5, 7), 10); /* two seconds' worth */
    assert_int_equal(take_all(r, "1", AWS_OP_DeleteStream, 5, 7), 10); /* each operation has its own, */
    assert_int_equal(take_all(r, "2", AWS_OP_CreateStream, 5, 7), 10); /* and each account */
    assert_int_equal(take_all(r, "1", AWS_OP_CreateStream, 5, 206), 0);
    assert_int_equal(take_all(r, "1", AWS_OP_CreateStream, 5, 207), 1);
    assert_int_equal(take_all(r, "1", AWS_OP_CreateStream, 5, 1000207), 10);
    uint64_t taken = 0;
    for (uint64_t now = 2000000; now < 2010000; now += 3) {
        taken += take_all(r, "1", AWS_OP_DescribeLimits, 1, now);
    }
    assert_in_range(taken, 11, 12); /* ten seconds and the burst */
    for (unsigned i = 0; i < 2000; i++) { /* more accounts than are remembered */
        char account[16];
        snprintf(account, sizeof account, "%012u", i);
        assert_true(rates_take(r, account, AWS_OP_ListStreams, 5, 3000000));
    }
    rates_free(r);
}

/* ---- ListShards ---- */

enum { NOW_MS = 1800000000, HOUR_MS = 3600000 };

/* 0 was split into 1 and 2 at T1, which were merged into 3 at T2; 4 is being prepared. */
enum { T1 = NOW_MS - 10 * HOUR_MS, T2 = NOW_MS - 5 * HOUR_MS };

static unsigned told(const struct map_stream *s, struct shard_filter f)
{
    unsigned bits = 0;
    for (unsigned i = 0; i < s->n_shards; i++) {
        bits |= shard_filter_takes(&f, s, &s->shards[i], NOW_MS) ? 1u << s->shards[i].shard : 0;
    }
    return bits;
}

static void filters_take(void **state)
{
    (void)state;
    struct map_shard shards[] = {
        {.shard = 0, .closed = true, .ended = true, .ended_ms = T1},
        {.shard = 1, .closed = true, .ended = true, .ended_ms = T2, .n_parents = 1, .created_s = T1 / 1000},
        {.shard = 2, .closed = true, .ended = true, .ended_ms = T2, .n_parents = 1, .created_s = T1 / 1000},
        {.shard = 3, .n_parents = 2, .parents = {1, 2}, .created_s = T2 / 1000},
        {.shard = 4, .coming = true},
    };
    struct map_stream s = {.shards = shards, .n_shards = ARRAY_LEN(shards), .settings.retention_hours = 24};
    assert_int_equal(told(&s, (struct shard_filter){.kind = SHARDS_ALL}), 15);
    assert_int_equal(told(&s, (struct shard_filter){.kind = SHARDS_ALL, .next = 2}), 12);
    assert_int_equal(told(&s, (struct shard_filter){.kind = SHARDS_AT_LATEST}), 8);
    assert_int_equal(told(&s, (struct shard_filter){.kind = SHARDS_AT_TRIM_HORIZON}), 1);
    s.settings.retention_hours = 7;
    assert_int_equal(told(&s, (struct shard_filter){.kind = SHARDS_AT_TRIM_HORIZON}), 6);
    assert_int_equal(told(&s, (struct shard_filter){.kind = SHARDS_AT_TIMESTAMP, .time_ms = T1 - 1}), 1);
    assert_int_equal(told(&s, (struct shard_filter){.kind = SHARDS_AT_TIMESTAMP, .time_ms = T1}), 6);
    assert_int_equal(told(&s, (struct shard_filter){.kind = SHARDS_AT_TIMESTAMP, .time_ms = T2}), 8);
    assert_int_equal(told(&s, (struct shard_filter){.kind = SHARDS_FROM_TIMESTAMP, .time_ms = T1}), 15);
    assert_int_equal(told(&s, (struct shard_filter){.kind = SHARDS_FROM_TIMESTAMP, .time_ms = T1 + 1}), 14);
    assert_int_equal(told(&s, (struct shard_filter){.kind = SHARDS_FROM_TIMESTAMP, .time_ms = T2 + 1}), 8);
}

static void pages_go_on(void **state)
{
    (void)state;
    struct shard_filter f = {.stream = "0123456789abcde", .kind = SHARDS_FROM_TIMESTAMP, .time_ms = 0x123456789abcdefull, .next = 4000000000u}, back;
    uint8_t bytes[SHARD_FILTER_BYTES];
    shard_filter_pack(&f, bytes);
    assert_true(shard_filter_unpack(&back, bytes, sizeof bytes));
    assert_memory_equal(back.stream, f.stream, sizeof f.stream);
    assert_true(back.kind == f.kind && back.time_ms == f.time_ms && back.next == f.next);
    assert_false(shard_filter_unpack(&back, bytes, sizeof bytes - 1));
    bytes[16] = 200;
    assert_false(shard_filter_unpack(&back, bytes, sizeof bytes));
    enum shard_filter_kind kind;
    assert_true(shard_filter_kind(TEXT("AT_LATEST"), &kind) && kind == SHARDS_AT_LATEST);
    assert_false(shard_filter_kind(TEXT("AT_LATES"), &kind));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(keys_are_found), cmocka_unit_test(signing_keys_are_kept_by_day), cmocka_unit_test(bad_files_are_refused),
        cmocka_unit_test(rates_hold), cmocka_unit_test(filters_take), cmocka_unit_test(pages_go_on),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
