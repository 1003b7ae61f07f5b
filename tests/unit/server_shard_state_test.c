/* The shard machine: entries and snapshots as bytes, the order of offsets, settings, trims and close; the same log gives the same state. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h>

#include "proto/base.h"
#include "server/shard_state.h"

static struct shard_entry open_entry(void)
{
    struct shard_entry e = { .kind = SHARD_ENTRY_OPEN, .time_ms = 1000 };
    e.identity = (struct shard_identity){ .group = 7, .created_s = 1700000000, .shard = 3, .n_parents = 2, .parents = { 1, 2 } };
    memset(e.identity.stream_id, 0xab, 16);
    memset(e.identity.last.b, 0xff, 16);
    e.settings = (struct shard_settings){ .version = 5, .producer_expiry_ms = 100000, .retention_hours = 24, .record_max = 1 << 20, .producers_max = 4, .limits_off = true };
    return e;
}

static struct batch_header batch(uint64_t offset, uint32_t count, uint64_t time_ms, unsigned producer, uint64_t sequence)
{
    struct batch_header h = { .first_offset = offset, .record_count = count, .time_ms = time_ms, .producer_sequence = sequence };
    memcpy(h.producer_id, &producer, sizeof producer);
    return h;
}

static void entries_round_trip(void **state)
{
    (void)state;
    struct shard_entry all[] = {
        open_entry(),
        { .kind = SHARD_ENTRY_SETTINGS, .time_ms = 1, .trim = 99, .settings = { .version = 9, .producer_expiry_ms = 7, .retention_hours = 48, .record_max = 10, .producers_max = 1 } },
        { .kind = SHARD_ENTRY_TRIM, .time_ms = 2, .trim = 12345 },
        { .kind = SHARD_ENTRY_CLOSE, .time_ms = 3, .reshard = 4, .n_children = 2, .children = { 8, 9 } },
        { .kind = SHARD_ENTRY_TICK, .time_ms = 4 },
    };
    for (size_t i = 0; i < ARRAY_LEN(all); i++) {
        uint8_t bytes[SHARD_ENTRY_MAX];
        size_t n = shard_entry_encode(&all[i], bytes);
        struct shard_entry back;
        assert_true(shard_entry_decode(&back, bytes, n));
        assert_int_equal(back.kind, all[i].kind);
        assert_int_equal(back.time_ms, all[i].time_ms);
        assert_int_equal(back.trim, all[i].trim);
        assert_int_equal(back.reshard, all[i].reshard);
        assert_memory_equal(back.children, all[i].children, sizeof back.children);
        assert_int_equal(back.identity.group, all[i].identity.group);
        assert_memory_equal(back.identity.last.b, all[i].identity.last.b, 16);
        assert_int_equal(back.identity.parents[1], all[i].identity.parents[1]);
        assert_int_equal(back.settings.version, all[i].settings.version);
        assert_int_equal(back.settings.limits_off, all[i].settings.limits_off);
        assert_int_equal(back.settings.producers_max, all[i].settings.producers_max);
        for (size_t cut = 0; cut < n; cut++) {
            assert_false(shard_entry_decode(&back, bytes, cut));
        }
        bytes[0] = 2; /* a version of the future */
        assert_false(shard_entry_decode(&back, bytes, n));
        bytes[0] = 1;
        bytes[1] = 77; /* a kind of the future */
        assert_false(shard_entry_decode(&back, bytes, n));
    }
}

static void records_continue_and_time_never_falls(void **state)
{
    (void)state;
    struct shard_state s;
    shard_state_init(&s);
    struct shard_entry e = open_entry();
    assert_int_equal(shard_state_entry(&s, &e), SHARD_EFFECT_OPEN | SHARD_EFFECT_SETTINGS);
    assert_int_equal(shard_state_entry(&s, &e), 0); /* proposed twice: the first counts */
    struct batch_header h = batch(0, 10, 1000, 1, 0);
    shard_state_batch(&s, &h);
    h = batch(10, 5, 1005, 0, 0);
    shard_state_batch(&s, &h);
    assert_int_equal(s.next, 15);
    struct shard_entry tick = { .kind = SHARD_ENTRY_TICK, .time_ms = 900 };
    shard_state_entry(&s, &tick);
    assert_int_equal(s.time_ms, 1005);
    shard_state_deinit(&s);
}

static void trims_and_settings_go_forward(void **state)
{
    (void)state;
    struct shard_state s;
    shard_state_init(&s);
    struct shard_entry e = open_entry();
    shard_state_entry(&s, &e);
    struct batch_header h = batch(0, 100, 2000, 0, 0);
    shard_state_batch(&s, &h);
    struct shard_entry trim = { .kind = SHARD_ENTRY_TRIM, .time_ms = 2000, .trim = 40 };
    assert_int_equal(shard_state_entry(&s, &trim), SHARD_EFFECT_TRIM);
    assert_int_equal(shard_state_entry(&s, &trim), 0);
    trim.trim = 30;
    assert_int_equal(shard_state_entry(&s, &trim), 0);
    assert_int_equal(s.first, 40);
    struct shard_entry set = { .kind = SHARD_ENTRY_SETTINGS, .time_ms = 2000, .trim = 60, .settings = { .version = 5, .retention_hours = 1, .record_max = 1, .producers_max = 1 } };
    assert_int_equal(shard_state_entry(&s, &set), 0); /* not newer: nothing, not even its trim */
    assert_int_equal(s.first, 40);
    set.settings.version = 6;
    set.settings.retention_hours = 48;
    assert_int_equal(shard_state_entry(&s, &set), SHARD_EFFECT_TRIM | SHARD_EFFECT_SETTINGS);
    assert_int_equal(s.first, 60);
    assert_int_equal(s.settings.retention_hours, 48);
    trim.trim = 1000; /* never beyond the end */
    shard_state_entry(&s, &trim);
    assert_int_equal(s.first, 100);
    shard_state_deinit(&s);
}

static void snapshot_is_the_state(void **state)
{
    (void)state;
    struct shard_state a, b;
    shard_state_init(&a);
    struct shard_entry e = open_entry();
    shard_state_entry(&a, &e);
    uint64_t offset = 0;
    for (unsigned i = 0; i < 60; i++) {
        struct batch_header h = batch(offset, 1 + i % 3, 2000 + i, 1 + i % 6, i / 6);
        /* Six producers take turns, four are remembered: each comes back as unknown and may only begin anew at the leader; apply takes what is in the log. */
        shard_state_batch(&a, &h);
        offset += h.record_count;
        uint32_t n, m;
        uint8_t *bytes = shard_snapshot_encode(&a, &n);
        shard_state_init(&b);
        assert_true(shard_snapshot_decode(&b, bytes, n));
        uint8_t *again = shard_snapshot_encode(&b, &m);
        assert_int_equal(n, m);
        assert_memory_equal(bytes, again, n);
        uint64_t first, next;
        assert_true(shard_snapshot_range(bytes, n, &first, &next));
        assert_int_equal(next, offset);
        free(bytes);
        free(again);
        shard_state_deinit(&b);
    }
    shard_state_deinit(&a);
}

static void damaged_snapshot_is_refused(void **state)
{
    (void)state;
    struct shard_state a, b;
    shard_state_init(&a);
    struct shard_entry e = open_entry();
    shard_state_entry(&a, &e);
    struct batch_header h = batch(0, 3, 2000, 1, 0);
    shard_state_batch(&a, &h);
    struct shard_entry close = { .kind = SHARD_ENTRY_CLOSE, .time_ms = 3000, .reshard = 1, .n_children = 1, .children = { 4, 0 } };
    assert_int_equal(shard_state_entry(&a, &close), SHARD_EFFECT_CLOSE);
    uint32_t n;
    uint8_t *bytes = shard_snapshot_encode(&a, &n);
    for (uint32_t i = 0; i < n; i++) {
        bytes[i] ^= 0x10;
        shard_state_init(&b);
        assert_false(shard_snapshot_decode(&b, bytes, n));
        shard_state_deinit(&b);
        bytes[i] ^= 0x10;
        shard_state_init(&b);
        assert_false(shard_snapshot_decode(&b, bytes, i));
        shard_state_deinit(&b);
    }
    shard_state_init(&b);
    assert_true(shard_snapshot_decode(&b, bytes, n));
    assert_true(b.closed);
    assert_int_equal(b.children[0], 4);
    shard_state_deinit(&b);
    free(bytes);
    shard_state_deinit(&a);
}

/* F19: a batch that does not continue ends the process before anything is said of it: neither skipped nor taken twice. */
static bool survives(struct batch_header h, bool closed)
{
    fflush(NULL);
    pid_t pid = fork();
    if (pid == 0) {
        struct shard_state s;
        if (freopen("/dev/null", "w", stderr) == NULL) {
            _exit(2);
        }
        shard_state_init(&s);
        struct shard_entry e = open_entry();
        shard_state_entry(&s, &e);
        struct batch_header first = batch(0, 10, 2000, 1, 0);
        shard_state_batch(&s, &first);
        if (closed) {
            e = (struct shard_entry){ .kind = SHARD_ENTRY_CLOSE, .time_ms = 2000 };
            shard_state_entry(&s, &e);
        }
        shard_state_batch(&s, &h);
        _exit(0);
    }
    int status = 0;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFSIGNALED(status) || (WIFEXITED(status) && WEXITSTATUS(status) == 0));
    return WIFEXITED(status);
}

static void what_does_not_continue_ends_the_process(void **state)
{
    (void)state;
    assert_true(survives(batch(10, 5, 2000, 1, 1), false));
    assert_false(survives(batch(11, 5, 2000, 1, 1), false)); /* a gap */
    assert_false(survives(batch(9, 5, 2000, 1, 1), false));  /* overlaps */
    assert_false(survives(batch(0, 10, 2000, 1, 0), false)); /* the same again */
    assert_false(survives(batch(10, 5, 1999, 1, 1), false)); /* time falls */
    assert_false(survives(batch(10, 5, 2000, 1, 2), false)); /* the producer's sequence has a gap */
    assert_false(survives(batch(10, 5, 2000, 1, 0), false)); /* or comes again */
    assert_false(survives(batch(10, 5, 2000, 1, 1), true));  /* behind the closing entry */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(entries_round_trip), cmocka_unit_test(records_continue_and_time_never_falls), cmocka_unit_test(trims_and_settings_go_forward),
        cmocka_unit_test(snapshot_is_the_state), cmocka_unit_test(damaged_snapshot_is_refused),
        cmocka_unit_test(what_does_not_continue_ends_the_process),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
