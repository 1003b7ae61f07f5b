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
    bool takes;             /* keeps the memory that it is offered */
    void *taken;
    const void *taken_payload;
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
    if (e->takes && m->payload_owned != NULL) {
        free(e->taken);
        e->taken = m->payload_owned;
        e->taken_payload = m->payload;
        m->payload_owned = NULL;
    }
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

static uint64_t own_position; /* of end 0 */
static uint64_t tell_position(void *arg) { return ((struct end *)arg)->at == 0 ? own_position : 0; }
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
                              .receive = on_receive, .peer_changed = on_changed, .position = tell_position};
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
    CHECK(links_receive(l, &(struct links_origin){.node = 2, .incarnation = incarnation}, frame, LINK_HEADER_SIZE) == 0 && ends[0].downs == 1);
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

struct written { unsigned n; struct links_memory m[8]; };
static void write_memory(void *arg, const struct links_memory *m)
{
    struct written *w = arg;
    w->m[w->n++ % 8] = *m;
}

/* Every frame tells the sender's position as of when it is made; the receiver remembers it for the lane and incarnation that said hello, and gives out what should be
 * written: with a flush that comes anyway, at most every 20 ms, or by itself when it has stood still for a second or waited for ten (F27). Clocks ride in the liveness records. */
STORY(positions)
{
    struct world *w = two_ends(36);
    struct links *l = ends[1].l;
    run_ms(w, 1000);
    int64_t offset;
    CHECK(links_clock_offset(l, 1, &offset));
    struct env *env = w->nodes[1].env;
    offset += (int64_t)env_now_ms(env) - (int64_t)env_wall_ms(env);
    CHECK(offset >= -5 && offset <= 5);
    struct written out = {0};
    const struct links_memory *m = links_recall(l, 1, 0);
    CHECK(m == NULL);
    own_position = 100; /* nobody told the lane of the peer's hello yet: frames alone prove nothing */
    run_ms(w, 200);
    CHECK(links_recall(l, 1, 0) == NULL);
    links_remember(l, &(struct links_memory){.node = 1, .lane = 0, .incarnation = 1, .life = 77}, false);
    links_remember(l, &(struct links_memory){.node = 1, .lane = 3, .incarnation = 1, .life = 77, .position = 9}, true); /* found in the journal */
    run_ms(w, 200);
    m = links_recall(l, 1, 0);
    CHECK(m->position == 100 && m->incarnation == 1 && m->life == 77 && links_recall(l, 1, 3)->position == 9);
    links_write_memory(l, false, write_memory, &out);
    CHECK(out.n == 0);
    links_write_memory(l, true, write_memory, &out);
    CHECK(out.n == 1 && out.m[0].node == 1 && out.m[0].lane == 0 && out.m[0].position == 100 && out.m[0].life == 77);
    links_write_memory(l, true, write_memory, &out);
    CHECK(out.n == 1); /* written once */

    /* The frame that brings a message brings the position of that moment, not that of the last liveness record. */
    own_position = 200;
    links_post(ends[0].l, 2, &(struct link_message){.type = LINK_APPEND_RESULT, .group = 5, .a = 1});
    unsigned before = ends[1].received;
    for (unsigned k = 0; ends[1].received == before; k++) {
        run_ms(w, 1);
        CHECK(k < 30);
    }
    CHECK(links_recall(l, 1, 0)->position == 200);
    run_ms(w, 100);
    links_write_memory(l, true, write_memory, &out);
    CHECK(out.n == 2 && out.m[1].position == 200);
    own_position = 201;
    links_post(ends[0].l, 2, &(struct link_message){.type = LINK_APPEND_RESULT, .group = 5, .a = 2});
    run_ms(w, 5);
    links_write_memory(l, true, write_memory, &out);
    CHECK(out.n == 2 && links_recall(l, 1, 0)->position == 201); /* too soon to ride again */
    run_ms(w, 1100);
    links_write_memory(l, false, write_memory, &out);
    CHECK(out.n == 3 && out.m[2].position == 201);
    run_ms(w, 20000);
    links_write_memory(l, false, write_memory, &out);
    CHECK(out.n == 3);
    /* A peer that is never quiet is written at times. */
    for (unsigned k = 0; k < 200; k++) {
        own_position++;
        run_ms(w, 100);
        links_write_memory(l, false, write_memory, &out);
    }
    CHECK(out.n == 4);

    /* A later incarnation takes the place of an earlier one, never the other way round; of one incarnation the higher position counts. */
    links_remember(l, &(struct links_memory){.node = 1, .lane = 0, .incarnation = 3, .life = 78, .position = 5}, false);
    CHECK(m->incarnation == 3 && m->life == 78 && m->position == 5);
    links_remember(l, &(struct links_memory){.node = 1, .lane = 0, .incarnation = 2, .life = 79, .position = 500}, false);
    links_remember(l, &(struct links_memory){.node = 1, .lane = 0, .incarnation = 3, .life = 80, .position = 4}, false);
    CHECK(m->incarnation == 3 && m->life == 78 && m->position == 5);
    run_ms(w, 500);
    CHECK(m->position == 5); /* what comes on a connection of the first incarnation is not about this one */
}

/* One chunk that is the whole record already, with `inside` as that record. */
static int receive_whole(struct links *l, uint64_t id, const void *inside, uint32_t n)
{
    struct link_message m = {.type = LINK_CHUNK, .group = 1, .from = 1, .to = 2, .a = id, .b = 0, .c = n, .payload_len = n};
    struct iovec part = {(void *)inside, n};
    uint8_t *frame = xmalloc(LINK_HEADER_SIZE + n);
    link_record_encode(&m, &part, 1, frame);
    memcpy(frame + LINK_HEADER_SIZE, inside, n);
    return links_receive(l, &(struct links_origin){.node = 1, .incarnation = 1}, frame, LINK_HEADER_SIZE + n);
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
        CHECK(links_receive(l, &(struct links_origin){.node = 1, .incarnation = 1}, frame, LINK_HEADER_SIZE + sizeof ordinary) == SLUICE_E_PROTOCOL);
    }
    CHECK(receive_whole(l, 10, ordinary, sizeof ordinary) == 0); /* the link itself is none the worse */
}

/* A frame of two records of the given payloads, as the link's owner gets it. */
static int receive_two(struct links *l, uint64_t a, uint32_t first, uint32_t second)
{
    size_t n = 2 * (LINK_HEADER_SIZE + LINK_ENTRY_SIZE) + first + second;
    uint8_t *frame = xmalloc(n), *at = frame;
    uint32_t lengths[2] = {first, second};
    for (unsigned i = 0; i < 2; i++) {
        struct link_entry entry = {.term = 1, .len = lengths[i], .type = 1};
        struct link_message m = {.type = LINK_APPEND, .group = 1, .from = 1, .to = 2, .a = a + i, .entries = &entry, .n_entries = 1, .payload_len = lengths[i]};
        uint8_t *payload = at + LINK_HEADER_SIZE + LINK_ENTRY_SIZE;
        for (uint32_t k = 0; k < lengths[i]; k++) {
            payload[k] = (uint8_t)(m.a + k);
        }
        link_record_encode(&m, &(struct iovec){payload, lengths[i]}, 1, at);
        at = payload + lengths[i];
    }
    return links_receive(l, &(struct links_origin){.node = 1, .incarnation = 1}, frame, n);
}

/* What arrived in one piece is not copied: the receiver of a frame's last record may keep the frame's memory, if little else is in it. */
STORY(the_last_records_memory_may_be_taken)
{
    two_ends(38);
    struct links *l = ends[1].l;
    struct end *e = &ends[1];
    e->takes = true;
    CHECK(receive_two(l, 1, 40000, 40000) == 0);
    CHECK(e->taken == NULL && e->last[1] == 2); /* half of it would be kept for nothing */
    CHECK(receive_two(l, 3, 40000, 10) == 0);
    CHECK(e->taken == NULL && e->last[1] == 4); /* the first one's never: the second is still to be read */
    CHECK(receive_two(l, 5, 10, 40000) == 0);
    CHECK(e->taken != NULL && e->last[1] == 6 && e->bad == 0);
    CHECK((const uint8_t *)e->taken_payload - (const uint8_t *)e->taken == 2 * (LINK_HEADER_SIZE + LINK_ENTRY_SIZE) + 10);
    CHECK(((const uint8_t *)e->taken_payload)[39999] == (uint8_t)(6 + 39999));
    free(e->taken);
    e->taken = NULL;
    e->takes = false;
    CHECK(receive_two(l, 7, 10, 40000) == 0); /* and who does not take it leaves it to the link */
    CHECK(e->last[1] == 8 && e->bad == 0);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(keeps_order), cmocka_unit_test(small_ones_overtake), cmocka_unit_test(bounds),
        cmocka_unit_test(reconnects),  cmocka_unit_test(silence),             cmocka_unit_test(positions),
        cmocka_unit_test(chunks_of_chunks_are_refused), cmocka_unit_test(a_late_loop_accuses_nobody),
        cmocka_unit_test(the_last_records_memory_may_be_taken), cmocka_unit_test(last_words),
    };
    if (argc > 1) {
        cmocka_set_test_filter(argv[1]);
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
