/* The journal on a simulated disk: what was acknowledged survives crashes, in order. */
#include "storage_fixture.h"

/* Appends of several groups are acknowledged in order, and a reopened journal has all of them. */
static void story_roundtrip(uint64_t seed)
{
    struct world *w = world_new(seed);
    world_start(w);
    CHECK(w->open_error == 0 && w->rec->blank);
    put_group(w, 1, 77);
    put_term(w, 1, 3, 2);
    for (int i = 0; i < 200; i++) {
        put_entry(w, 1 + (uint64_t)i % 3, 3, 100 + (uint32_t)i * 7, 2);
        if (i % 5 == 0) {
            world_run_ms(w, 1);
        }
    }
    world_run_ms(w, 100);
    CHECK(w->acks == 202);
    CHECK(journal_durable(w->j) == journal_end(w->j));
    CHECK(journal_backlog(w->j) == 0);
    uint64_t end = journal_end(w->j);
    world_crash(w, SIM_CRASH_POWER);
    world_start(w);
    check_recovered(w);
    const struct recovered_group *g = rec_group(w, 1);
    CHECK(g->raft_id == 77 && g->term == 3 && g->vote == 2 && !w->rec->blank);
    CHECK(w->rec->prior_incarnation == 1 && w->rec->prior_end == end && w->rec->cut_bytes == 0);
    CHECK(rec_entry(g, 5)->b == 2 && rec_entry(g, 5)->c == 50 && rec_entry(g, 5)->type == 1);
    void *bytes;
    CHECK(journal_read_blocking(w->j, &g->group_data, &bytes) == 0);
    uint8_t want[24];
    fill(want, 24, 77);
    CHECK(memcmp(bytes, want, 24) == 0);
}

static void random_work(struct world *w, unsigned steps, bool collect)
{
    for (unsigned i = 0; i < steps && sim_process_up(w->host); i++) {
        uint64_t id = 1 + sim_random(w->sim) % (GROUPS_MAX - 1);
        struct model_group *m = &w->g[id];
        switch (sim_random(w->sim) % 16) {
        case 0:
            put_term(w, id, m->term + 1, sim_random(w->sim) % 3 + 1);
            break;
        case 1:
            if (m->last > m->needed_entry + 1 && m->last > 2) {
                uint64_t at = m->last - sim_random(w->sim) % 2;
                if (at >= m->needed_entry) {
                    put_truncate_at(w, id, at);
                    put_term(w, id, m->term + 1, 1);
                }
            }
            break;
        case 2:
            if (m->last > 2) {
                uint64_t at = m->needed_entry + sim_random(w->sim) % 3;
                if (at < m->last && m->e[at].acked && at >= m->needed_entry) {
                    put_snapshot(w, id, at, m->e[at].term, false);
                    put_trim(w, id, max_u64(m->trim_acked, m->e[at].a));
                }
            }
            break;
        case 3:
            put_entry(w, id, m->term, 20000 + (uint32_t)(sim_random(w->sim) % 40000), 1);
            break;
        case 4:
            world_run_ms(w, 3);
            break;
        default:
            put_entry(w, id, m->term, (uint32_t)(sim_random(w->sim) % 3000), 1);
            break;
        }
        if (collect && i % 8 == 0) {
            journal_collect(w->j);
        }
        if (sim_random(w->sim) % 3 == 0) {
            sim_run_until(w->sim, sim_now_ns(w->sim) + sim_random(w->sim) % 2000000);
        }
    }
}

/* Crashes at random points, power cuts and kills mixed: everything acknowledged is there each time, nothing is out of order. */
static void story_crashes(uint64_t seed)
{
    struct world *w = world_new(seed);
    w->o.pool_target = seed % 3;
    for (int life = 0; life < 6; life++) {
        world_start(w);
        check_recovered(w);
        adopt(w);
        random_work(w, 40 + (unsigned)(sim_random(w->sim) % 60), seed % 2 == 0);
        world_crash(w, sim_random(w->sim) % 3 == 0 ? SIM_CRASH_KILL : SIM_CRASH_POWER);
    }
}

static void test_roundtrip(void **state)
{
    (void)state;
    run_story(story_roundtrip, 1);
}

static void test_crashes(void **state)
{
    (void)state;
    const char *from = getenv("SEED");
    const char *count = getenv("SEEDS");
    uint64_t first = from != NULL ? strtoull(from, NULL, 10) : 1;
    uint64_t n = count != NULL ? strtoull(count, NULL, 10) : from != NULL ? 1 : 100;
    for (uint64_t seed = first; seed < first + n; seed++) {
        run_story(story_crashes, seed);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_roundtrip),
        cmocka_unit_test(test_crashes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
