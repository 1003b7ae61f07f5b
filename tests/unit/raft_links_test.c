/* Links alone: order, chunks, overtaking, bounds, reconnecting, the detector. Two nodes of the fixture without groups; a hook takes what arrives. */
#include "raft_fixture.h"

#include "raft/links_impl.h"

struct end {
    struct world *w;
    unsigned at;
    struct links *l;
    struct env_listener listener;
    unsigned received, bad;
    uint64_t last[64];      /* by group: highest `a` */
    uint64_t big_at, small_at; /* ms of the last of each */
    uint64_t bytes;
    unsigned ups, downs, resets;
    uint64_t down_ms;
    struct env *env;
};
static struct end ends[2];

static void on_receive(void *arg, uint32_t from, struct link_message *m)
{
    struct end *e = arg;
    e->received++;
    if (from != 2 - e->at || m->a <= e->last[m->group]) {
        e->bad++; /* out of order */
    }
    e->last[m->group] = m->a;
    e->bytes += m->payload_len;
    for (uint32_t i = 0; i < m->payload_len; i += 997) {
        e->bad += ((const uint8_t *)m->payload)[i] != (uint8_t)(m->a + i);
    }
    if (m->payload_len > 1000) {
        e->big_at = now_ms(e->w);
    } else {
        e->small_at = now_ms(e->w);
    }
}

static void on_changed(void *arg, uint32_t node, bool up, bool by_reset)
{
    (void)node;
    struct end *e = arg;
    e->ups += up;
    e->downs += !up;
    e->resets += !up && by_reset;
    if (!up) {
        e->down_ms = now_ms(e->w);
    }
}

static unsigned silence_ms[2]; /* 0: the default */

/* The fixture's server works on a node; it needs only the links. */
static struct groups shells[2];

static void end_main(struct env *env, void *arg)
{
    struct end *e = arg;
    struct node *n = &e->w->nodes[e->at];
    e->env = env;
    n->env = env;
    n->closed = false;
    struct links_options o = {.env = env, .cluster_id = {1}, .node_id = e->at + 1, .lanes = 1, .incarnation = ++n->incarnation, .arg = e, .silence_ms = silence_ms[e->at],
                              .receive = on_receive, .peer_changed = on_changed};
    CHECK(links_open(&e->l, &o) == 0);
    shells[e->at].links = e->l;
    n->gs = &shells[e->at];
    CHECK(env_listen(env, &n->listener, n->name, FIX_PORT, false, server_accept) == 0);
    links_set_peer(e->l, 2 - e->at, e->w->nodes[1 - e->at].name, FIX_PORT);
}

static struct world *two_ends(uint64_t seed)
{
    struct world *w = world_new(seed, 2, 0);
    for (unsigned i = 0; i < 2; i++) {
        ends[i] = (struct end){.w = w, .at = i};
        CHECK(sim_process_start(w->nodes[i].host, end_main, &ends[i]) == 0);
    }
    run_ms(w, 200);
    CHECK(ends[0].ups == 1 && ends[1].ups == 1 && links_peer_up(ends[0].l, 2));
    return w;
}

struct big { struct link_send s; struct iovec iov; int *ended; };
static int last_status;
static void big_done(struct link_send *s)
{
    struct big *b = container_of(s, struct big, s);
    last_status = s->status;
    ++*b->ended;
    free(b->iov.iov_base);
    free(b);
}

static void send_big(struct links *l, uint64_t group, uint64_t a, uint32_t len, int *ended)
{
    struct big *b = xcalloc(1, sizeof *b);
    uint8_t *p = xmalloc(len);
    for (uint32_t i = 0; i < len; i++) {
        p[i] = (uint8_t)(a + i);
    }
    b->iov = (struct iovec){p, len};
    b->ended = ended;
    b->s.message = (struct link_message){.type = LINK_SEED_DATA, .group = group, .a = a, .payload_len = len};
    b->s.parts = &b->iov;
    b->s.n_parts = 1;
    b->s.done = big_done;
    int before = *ended;
    links_send(l, 2, &b->s);
    CHECK(*ended == before);
}

/* Messages of a group stay in order, whatever their size; all are answered for. */
STORY(keeps_order)
{
    struct world *w = two_ends(31);
    int ended = 0;
    unsigned sent = 0;
    for (uint64_t a = 1; a <= 400; a++) {
        uint64_t g = 1 + a % 3;
        if (sim_random(w->sim) % 2 == 0) {
            send_big(ends[0].l, g, a, 1 + (uint32_t)(sim_random(w->sim) % 150000), &ended);
            sent++;
        } else {
            links_post(ends[0].l, 2, &(struct link_message){.type = LINK_READ_INDEX, .group = g, .a = a});
        }
        run_ms(w, a % 4 == 0 ? 3 : 0);
    }
    run_ms(w, 2000);
    CHECK(ended == (int)sent && ends[1].bad == 0);
    CHECK(ends[1].received == 400);
}

/* Small messages of other groups overtake a large one. */
STORY(small_ones_overtake)
{
    struct world *w = two_ends(32);
    int ended = 0;
    for (uint64_t a = 1; a <= 8; a++) {
        send_big(ends[0].l, 1, a, 1900000, &ended);
    }
    run_ms(w, 1);
    links_post(ends[0].l, 2, &(struct link_message){.type = LINK_VOTE, .group = 2, .a = 1});
    run_ms(w, 3000);
    CHECK(ended == 8 && ends[1].bad == 0 && ends[1].received == 9);
    printf("small after %llu, large after %llu ms\n", (unsigned long long)ends[1].small_at, (unsigned long long)ends[1].big_at);
    CHECK(ends[1].small_at <= ends[1].big_at);
}

/* Beyond the window bulk is refused with -EAGAIN, later, not inside the call; without a connection with -ENOTCONN. */
STORY(bounds)
{
    struct world *w = two_ends(33);
    int ended = 0;
    for (uint64_t a = 1; a <= 20; a++) {
        send_big(ends[0].l, 1, a, 1 << 20, &ended);
    }
    struct links_stats stats;
    links_stats(ends[0].l, &stats);
    CHECK(stats.queued <= (16u << 20) + 10000 && ended == 0);
    run_ms(w, 0);
    CHECK(ended >= 4 && last_status == -EAGAIN);
    run_ms(w, 3000);
    CHECK(ended == 20 && ends[1].bad == 0);
    sim_process_crash(w->nodes[1].host, SIM_CRASH_KILL);
    run_ms(w, 100);
    send_big(ends[0].l, 1, 100, 1000, &ended);
    run_ms(w, 1);
    CHECK(ended == 21 && last_status == -ENOTCONN);
}

/* A reset is seen at once; the link comes back by itself. */
STORY(reconnects)
{
    struct world *w = two_ends(34);
    uint64_t epoch = links_epoch(ends[0].l, 2);
    for (unsigned k = 1; k <= 5; k++) {
        uint64_t start = now_ms(w);
        sim_reset_connections(w->sim, w->nodes[0].host, w->nodes[1].host);
        run_ms(w, 20);
        CHECK(ends[0].downs == k && ends[0].resets == k && ends[0].down_ms - start < 10);
        run_ms(w, 500);
        CHECK(ends[0].ups == k + 1 && links_peer_up(ends[0].l, 2) && links_peer_up(ends[1].l, 1));
        CHECK(links_epoch(ends[0].l, 2) > epoch);
        epoch = links_epoch(ends[0].l, 2);
    }
    uint64_t start = now_ms(w);
    sim_process_crash(w->nodes[1].host, SIM_CRASH_KILL);
    run_ms(w, 20);
    CHECK(!links_peer_up(ends[0].l, 2) && ends[0].down_ms - start < 10);
    CHECK(sim_process_start(w->nodes[1].host, end_main, &ends[1]) == 0);
    run_ms(w, 600);
    CHECK(links_peer_up(ends[0].l, 2));
}

/* Our connection to a peer that died may end before what it sent on its own is read. Whoever listened to that is told again that the peer is down. */
STORY(last_words)
{
    struct world *w = two_ends(36);
    struct links *l = ends[0].l;
    uint64_t incarnation = w->nodes[1].incarnation;
    sim_process_crash(w->nodes[1].host, SIM_CRASH_KILL);
    run_ms(w, 10);
    CHECK(ends[0].downs == 1 && !links_peer_up(l, 2));
    links_incoming(l, 2, incarnation, true);
    links_incoming(l, 2, incarnation, false);
    CHECK(ends[0].downs == 1); /* it said nothing */
    links_incoming(l, 2, incarnation, true);
    struct link_message m = {.type = LINK_VOTE, .group = 1, .a = 1};
    uint8_t *frame = xmalloc(LINK_HEADER_SIZE);
    link_record_encode(&m, NULL, 0, frame);
    CHECK(links_receive(l, 2, frame, LINK_HEADER_SIZE) == 0 && ends[0].downs == 1);
    links_incoming(l, 2, incarnation, false);
    CHECK(ends[0].downs == 2);
}

/* Silence is noticed after 800 ms and not before; an own pause accuses nobody. */
STORY(silence)
{
    struct world *w = two_ends(35);
    run_ms(w, 5000);
    CHECK(ends[0].downs == 0);
    uint64_t start = now_ms(w);
    sim_process_pause(w->nodes[1].host, true);
    run_ms(w, 2000);
    CHECK(ends[0].downs == 1 && ends[0].resets == 0);
    printf("silence noticed after %llu ms\n", (unsigned long long)(ends[0].down_ms - start));
    CHECK(ends[0].down_ms - start >= 750 && ends[0].down_ms - start < 950);
    sim_process_pause(w->nodes[1].host, false);
    run_ms(w, 2000);
    CHECK(links_peer_up(ends[0].l, 2) && links_peer_up(ends[1].l, 1));
    unsigned downs = ends[0].downs;
    sim_process_pause(w->nodes[0].host, true); /* short enough for the other */
    run_ms(w, 600);
    sim_process_pause(w->nodes[0].host, false);
    run_ms(w, 1000);
    CHECK(ends[0].downs == downs);
}

/* Whoever slept longer than the silence that he bears accuses nobody when he wakes: what was sent meanwhile waits to be read (F22). The other bears more here. */
STORY(a_late_loop_accuses_nobody)
{
    silence_ms[1] = 5000;
    struct world *w = two_ends(38);
    for (unsigned k = 0; k < 20; k++) {
        run_ms(w, 2000 + k * 7);
        sim_process_pause(w->nodes[0].host, true);
        run_ms(w, 900 + k * 30);
        sim_process_pause(w->nodes[0].host, false);
        run_ms(w, 1000);
        CHECK(ends[0].downs == 0 && ends[1].downs == 0);
    }
    silence_ms[1] = 0;
}

/* Positions and clocks ride in the liveness records (F27). */
STORY(positions)
{
    struct world *w = two_ends(36);
    links_set_journal_position(ends[0].l, 12345);
    run_ms(w, 1000);
    uint64_t incarnation;
    CHECK(links_peer_position(ends[1].l, 1, &incarnation) == 12345 && incarnation == 1);
    /* One incarnation has one life; a later one may have another; who does not tell is believed. */
    CHECK(links_peer_life(ends[1].l, 1, 2, 77) && links_peer_life(ends[1].l, 1, 2, 77));
    CHECK(!links_peer_life(ends[1].l, 1, 2, 78) && links_peer_life(ends[1].l, 1, 2, 0));
    CHECK(links_peer_life(ends[1].l, 1, 3, 78) && !links_peer_life(ends[1].l, 1, 3, 77));
    int64_t offset;
    CHECK(links_clock_offset(ends[1].l, 1, &offset));
    struct env *env = w->nodes[1].env;
    offset += (int64_t)env_now_ms(env) - (int64_t)env_wall_ms(env);
    CHECK(offset >= -5 && offset <= 5);
}

/* One chunk that is the whole record already, with `inside` as that record. */
static int receive_whole(struct links *l, uint64_t id, const void *inside, uint32_t n)
{
    struct link_message m = {.type = LINK_CHUNK, .group = 1, .from = 1, .to = 2, .a = id, .b = 0, .c = n, .payload_len = n};
    struct iovec part = {(void *)inside, n};
    uint8_t *frame = xmalloc(LINK_HEADER_SIZE + n);
    link_record_encode(&m, &part, 1, frame);
    memcpy(frame + LINK_HEADER_SIZE, inside, n);
    return links_receive(l, 1, frame, LINK_HEADER_SIZE + n);
}

/* What chunks join to is a record, never again a chunk: a peer cannot make us recurse. Nor may a chunk lie beyond its record. */
STORY(chunks_of_chunks_are_refused)
{
    two_ends(37);
    struct links *l = ends[1].l;
    uint8_t ordinary[LINK_HEADER_SIZE], chunk[LINK_HEADER_SIZE * 2];
    link_record_encode(&(struct link_message){.type = LINK_READ_INDEX, .group = 1, .from = 1, .to = 2, .a = 7}, NULL, 0, ordinary);
    unsigned before = ends[1].received;
    CHECK(receive_whole(l, 1, ordinary, sizeof ordinary) == 0);
    CHECK(ends[1].received == before + 1 && ends[1].last[1] == 7 && ends[1].bad == 0);

    struct link_message nested = {.type = LINK_CHUNK, .group = 1, .from = 1, .to = 2, .a = 3, .b = 0, .c = sizeof ordinary,
                                  .payload_len = sizeof ordinary};
    link_record_encode(&nested, &(struct iovec){ordinary, sizeof ordinary}, 1, chunk);
    memcpy(chunk + LINK_HEADER_SIZE, ordinary, sizeof ordinary);
    CHECK(receive_whole(l, 2, chunk, sizeof chunk) == SLUICE_E_PROTOCOL);
    CHECK(ends[1].received == before + 1);

    /* Also behind a record that is in order. */
    uint8_t both[LINK_HEADER_SIZE * 3];
    link_record_encode(&(struct link_message){.type = LINK_READ_INDEX, .group = 1, .from = 1, .to = 2, .a = 8}, NULL, 0, both);
    memcpy(both + LINK_HEADER_SIZE, chunk, sizeof chunk);
    CHECK(receive_whole(l, 4, both, sizeof both) == SLUICE_E_PROTOCOL);
    CHECK(ends[1].last[1] == 8);

    static const struct { uint64_t b, c; } wild[] = {
        {0, LINK_RECORD_MAX + 1ull}, {0, 1}, {1, LINK_HEADER_SIZE}, {UINT64_MAX, LINK_HEADER_SIZE}, {0, UINT64_MAX}, {LINK_HEADER_SIZE + 1, LINK_HEADER_SIZE},
    };
    for (unsigned i = 0; i < sizeof wild / sizeof wild[0]; i++) {
        struct link_message m = {.type = LINK_CHUNK, .group = 1, .from = 1, .to = 2, .a = 9, .b = wild[i].b, .c = wild[i].c, .payload_len = sizeof ordinary};
        uint8_t *frame = xmalloc(LINK_HEADER_SIZE + sizeof ordinary);
        link_record_encode(&m, &(struct iovec){ordinary, sizeof ordinary}, 1, frame);
        memcpy(frame + LINK_HEADER_SIZE, ordinary, sizeof ordinary);
        CHECK(links_receive(l, 1, frame, LINK_HEADER_SIZE + sizeof ordinary) == SLUICE_E_PROTOCOL);
    }
    CHECK(receive_whole(l, 10, ordinary, sizeof ordinary) == 0); /* the link itself is none the worse */
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(keeps_order), cmocka_unit_test(small_ones_overtake), cmocka_unit_test(bounds),
        cmocka_unit_test(reconnects),  cmocka_unit_test(silence),             cmocka_unit_test(positions),
        cmocka_unit_test(chunks_of_chunks_are_refused), cmocka_unit_test(a_late_loop_accuses_nobody),
        cmocka_unit_test(last_words),
    };
    if (argc > 1) {
        cmocka_set_test_filter(argv[1]);
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
