/* HTTP/2 in the simulated world: streams, both directions of flow control, and floods of every kind. */
#include "server_http_h2_fixture.h"

static void answer_all_backwards(void *arg)
{
    struct app *a = arg;
    while (a->n_held > 0) {
        struct http_request *r = a->held[--a->n_held];
        if (r != NULL) {
            a->in_call = true;
            http_answer_text(r, 200, NULL, "held");
            a->in_call = false;
        }
    }
}

static void requests_and_answers(void **state)
{
    (void)state;
    struct world w;
    world_open(&w, NULL);
    struct h2_client *h = h2_open(&w);
    struct reply *r = h2_ask(h, "GET", "/echo?x");
    assert_int_equal(r->status, 200);
    assert_string_equal(r->body, "GET /echo?x 0\n");
    assert_true(r->closed && r->error == 0);
    assert_string_equal(w.app.last_host, "auth:1");
    assert_int_equal(h2_ask(h, "GET", "/nothing")->status, 404);
    r = h2_ask(h, "HEAD", "/big");
    assert_true(r->status == 200 && r->closed && r->n == 0);
    assert_int_equal(w.app.released, 1);
    r = h2_ask(h, "GET", "/reset");
    assert_true(r->closed && r->error == NGHTTP2_INTERNAL_ERROR);
    assert_int_equal(w.app.gone, 0);
    /* A body, with a length and without, with trailers. */
    int32_t id = h2_send(h, "POST", "/echo", "hello", 5, "content-length", "5");
    run_ms(&w, 20);
    assert_string_equal(reply_of(h, id)->body, "POST /echo 5\nhello");
    id = h2_send(h, "PUT", "/echo", "hello", 5, "expect", "100-continue");
    run_ms(&w, 20);
    assert_string_equal(reply_of(h, id)->body, "PUT /echo 5\nhello");
    nghttp2_nv nv[] = {HC_NV(":method", "POST"), HC_NV(":path", "/echo"), HC_NV(":scheme", "http"), HC_NV("host", "other")};
    nghttp2_nv trailer[] = {HC_NV("x-trailer", "y")};
    id = nghttp2_submit_headers(h->session, NGHTTP2_FLAG_NONE, -1, NULL, nv, 4, NULL);
    hc_flush(h);
    raw_send(h, NGHTTP2_DATA, 0, (uint32_t)id, "abc", 3);
    nghttp2_submit_trailer(h->session, id, trailer, 1);
    hc_flush(h);
    run_ms(&w, 20);
    assert_string_equal(reply_of(h, id)->body, "POST /echo 3\nabc");
    assert_string_equal(w.app.last_host, "other");
    assert_false(h->goaway);
    h2_close(h);
    world_close(&w);
}

static void answers_in_any_order(void **state)
{
    (void)state;
    struct world w;
    world_open(&w, NULL);
    struct h2_client *h = h2_open(&w);
    int32_t first = h2_send(h, "GET", "/hold", NULL, 0, "", "");
    int32_t second = h2_send(h, "GET", "/hold", NULL, 0, "", "");
    assert_string_equal(h2_ask(h, "GET", "/echo")->body, "GET /echo 0\n");
    assert_int_equal(reply_of(h, first)->status, 0);
    world_call(&w, answer_all_backwards, &w.app);
    run_ms(&w, 10);
    assert_true(reply_of(h, first)->closed && reply_of(h, second)->closed);
    /* No more than streams_max at once; those above are refused and may be sent again. */
    for (unsigned i = 0; i < 200; i++) {
        h2_send(h, "GET", "/hold", NULL, 0, "", "");
    }
    run_ms(&w, 20);
    assert_int_equal(w.app.n_held, 128);
    world_call(&w, answer_all_backwards, &w.app);
    run_ms(&w, 20);
    assert_int_equal(w.app.n_held, 72);
    world_call(&w, answer_all_backwards, &w.app);
    run_ms(&w, 20);
    assert_int_equal(http_server_counters(w.app.server)->requests, 0);
    h2_close(h);
    world_close(&w);
}

static void large_bodies_both_ways(void **state)
{
    (void)state;
    struct world w;
    world_open(&w, NULL);
    struct h2_client *h = h2_open(&w);
    int32_t a = h2_send(h, "GET", "/big", NULL, 0, "", ""), b = h2_send(h, "GET", "/big", NULL, 0, "", "");
    run_ms(&w, 5000);
    assert_int_equal(reply_of(h, a)->n, BIG_BYTES);
    assert_memory_equal(reply_of(h, a)->body, w.app.big, BIG_BYTES);
    assert_memory_equal(reply_of(h, b)->body, w.app.big, BIG_BYTES);
    assert_int_equal(w.app.released, 2);
    int32_t up = h2_send(h, "POST", "/echo", w.app.big, BIG_BYTES, "", "");
    run_ms(&w, 5000);
    struct reply *r = reply_of(h, up);
    assert_true(r->status == 200 && r->n > BIG_BYTES);
    assert_memory_equal(r->body + r->n - BIG_BYTES, w.app.big, BIG_BYTES);
    assert_int_equal(http_server_counters(w.app.server)->memory_bytes, 0);
    h2_close(h);
    world_close(&w);
}

/* ---- streaming answers ---- */

static char text[200000];

static void write_thrice(void *arg)
{
    struct app *a = arg;
    static const size_t sizes[] = {5, 7, 20000};
    a->in_call = true;
    for (unsigned i = 0; i < 3; i++) {
        struct iovec iov[2] = {{text, 2}, {text + 2, sizes[i] - 2}};
        assert_int_equal(http_stream_write(a->held[0], &(struct http_bytes){.iov = iov, .n_iov = 2, .release = app_release, .arg = a}), 0);
    }
    a->in_call = false;
}

static void end_first(void *arg)
{
    struct app *a = arg;
    http_stream_end(a->held[0]);
    a->n_held = 0;
}

static void write_much(void *arg)
{
    struct app *a = arg;
    struct iovec iov = {text, sizeof text};
    for (unsigned i = 0; i < 3; i++) {
        assert_int_equal(http_stream_write(a->held[0], &(struct http_bytes){.iov = &iov, .n_iov = 1, .release = app_release, .arg = a}), 0);
    }
}

static void streams(void **state)
{
    (void)state;
    struct world w;
    world_open(&w, NULL);
    struct h2_client *h = h2_open(&w);
    struct reply *r = h2_ask(h, "POST", "/stream");
    assert_int_equal(r->status, 200);
    assert_false(r->ended);
    world_call(&w, write_thrice, &w.app);
    run_ms(&w, 10);
    assert_int_equal(r->frames, 4); /* the third is larger than a frame; none holds parts of two */
    assert_true(r->lengths[0] == 5 && r->lengths[1] == 7 && r->lengths[2] + r->lengths[3] == 20000);
    assert_int_equal(w.app.released, 3);
    world_call(&w, end_first, &w.app);
    run_ms(&w, 10);
    assert_true(r->ended && r->closed && r->error == 0);
    assert_int_equal(w.app.gone, 0);
    /* To HEAD as well, without being gone before its end. */
    r = h2_ask(h, "HEAD", "/stream");
    world_call(&w, write_thrice, &w.app);
    world_call(&w, end_first, &w.app);
    run_ms(&w, 10);
    assert_true(r->closed && r->error == 0 && r->n == 0);
    assert_int_equal(w.app.released, 6);
    /* The peer cancels: gone, once, and what was queued is released. */
    h->hold_windows = true;
    int32_t id = h2_send(h, "GET", "/stream", NULL, 0, "", "");
    run_ms(&w, 10);
    world_call(&w, write_much, &w.app);
    run_ms(&w, 10);
    assert_int_equal(w.app.gone, 0);
    assert_true(w.app.released < 9);
    nghttp2_submit_rst_stream(h->session, NGHTTP2_FLAG_NONE, id, NGHTTP2_CANCEL);
    hc_flush(h);
    run_ms(&w, 10);
    assert_int_equal(w.app.gone, 1);
    assert_int_equal(w.app.released, 9);
    assert_int_equal(http_server_counters(w.app.server)->memory_bytes, 0);
    h2_close(h);
    world_close(&w);
}

/* Back-pressure: what a shut window keeps back is told as queued, and `writable` comes when it opens. */
static void back_pressure(void **state)
{
    (void)state;
    struct world w;
    struct http_limits limits = {.stream_stall_ms = 60000};
    world_open(&w, &limits);
    struct h2_client *h = h2_open(&w);
    h->hold_windows = true;
    int32_t id = h2_send(h, "GET", "/stream", NULL, 0, "", "");
    run_ms(&w, 10);
    world_call(&w, write_much, &w.app);
    run_ms(&w, 100);
    struct reply *r = reply_of(h, id);
    assert_int_equal(r->n, 65535);
    assert_true(http_stream_queued(w.app.held[0]) >= 600000 - 65535);
    assert_int_equal(w.app.writable, 0);
    h->hold_windows = false;
    nghttp2_session_consume(h->session, id, r->n);
    hc_flush(h);
    run_ms(&w, 100);
    assert_int_equal(r->n, 600000);
    assert_int_equal(http_stream_queued(w.app.held[0]), 0);
    assert_int_equal(w.app.writable, 1);
    /* Shut for good: the stream is reset after the time for that, the connection lives. */
    h->hold_windows = true;
    world_call(&w, write_much, &w.app);
    run_ms(&w, 125000);
    assert_true(r->closed && r->error == NGHTTP2_CANCEL);
    assert_int_equal(w.app.gone, 1);
    assert_int_equal(w.app.released, 6);
    assert_false(h->goaway);
    h2_close(h);
    world_close(&w);
}

/* ---- hostile peers ---- */

/* It was cut off with GOAWAY and that error, nothing of it is left, others are well. */
static void check_cut_off(struct world *w, struct h2_client *h, uint32_t error)
{
    run_ms(w, 4000);
    assert_true(h->goaway);
    assert_int_equal(h->goaway_error, error);
    assert_true(h->peer->ended);
    const struct http_counters *n = http_server_counters(w->app.server);
    assert_int_equal(n->connections, 0);
    assert_int_equal(n->requests, 0);
    assert_int_equal(n->memory_bytes, 0);
    check_well(w);
    h2_close(h);
}

static void rapid_reset(void **state)
{
    (void)state;
    struct world w;
    world_open(&w, NULL);
    struct h2_client *h = h2_open(&w);
    for (uint32_t i = 0; i < 3000; i++) {
        raw_send(h, NGHTTP2_HEADERS, NGHTTP2_FLAG_END_HEADERS | NGHTTP2_FLAG_END_STREAM, i * 2 + 1, raw_get, sizeof raw_get);
        raw_send(h, NGHTTP2_RST_STREAM, 0, i * 2 + 1, "\0\0\0\x08", 4);
        if (i % 100 == 99) {
            run_ms(&w, 1);
        }
    }
    check_cut_off(&w, h, NGHTTP2_ENHANCE_YOUR_CALM);
    assert_true(w.app.taken <= 1100);
    assert_int_equal(w.app.gone + 1, w.app.taken); /* all but check_well's */
    assert_int_equal(http_server_counters(w.app.server)->floods_total, 1);
    world_close(&w);
}

/* The peer makes us reset its streams, by window updates of nothing. */
static void resets_on_demand(void **state)
{
    (void)state;
    struct world w;
    world_open(&w, NULL);
    struct h2_client *h = h2_open(&w);
    for (uint32_t i = 0; i < 3000; i++) {
        raw_send(h, NGHTTP2_HEADERS, NGHTTP2_FLAG_END_HEADERS | NGHTTP2_FLAG_END_STREAM, i * 2 + 1, raw_get, sizeof raw_get);
        raw_send(h, NGHTTP2_WINDOW_UPDATE, 0, i * 2 + 1, "\0\0\0\0", 4);
        if (i % 50 == 49) {
            run_ms(&w, 1);
        }
    }
    run_ms(&w, 4000);
    assert_true(h->peer->ended && h->goaway);
    assert_true(w.app.taken <= 1200);
    assert_int_equal(http_server_counters(w.app.server)->memory_bytes, 0);
    check_well(&w);
    h2_close(h);
    world_close(&w);
}

static void continuation_flood(void **state)
{
    (void)state;
    struct world w;
    world_open(&w, NULL);
    struct h2_client *h = h2_open(&w);
    raw_send(h, NGHTTP2_HEADERS, NGHTTP2_FLAG_END_STREAM, 1, raw_get, sizeof raw_get);
    uint64_t most = 0;
    for (unsigned i = 0; i < 10000 && !h->peer->ended; i++) {
        raw_send(h, NGHTTP2_CONTINUATION, 0, 1, "", 0);
        if (i % 100 == 99) {
            run_ms(&w, 1);
            most = max_u64(most, http_server_counters(w.app.server)->memory_bytes);
        }
    }
    assert_true(most < 100000);
    run_ms(&w, 4000);
    assert_true(h->peer->ended);
    assert_int_equal(w.app.taken, 0);
    check_well(&w);
    h2_close(h);
    world_close(&w);
}

/* A header that is kept once and named often makes much out of little. */
static void hpack_bomb(void **state)
{
    (void)state;
    struct world w;
    world_open(&w, NULL);
    struct h2_client *h = h2_open(&w);
    static uint8_t block[16384];
    size_t n = 0;
    memcpy(block, raw_get, sizeof raw_get);
    n += sizeof raw_get;
    block[n++] = 0x40; /* literal, kept: name "x", value of 3,900 bytes */
    block[n++] = 1;
    block[n++] = 'x';
    block[n++] = 0x7f;
    block[n++] = (3900 - 127) % 128 | 0x80;
    block[n++] = (3900 - 127) / 128;
    memset(block + n, 'y', 3900);
    n += 3900;
    memset(block + n, 0xbe, sizeof block - n); /* index 62, twelve thousand times: 48 MB */
    raw_send(h, NGHTTP2_HEADERS, NGHTTP2_FLAG_END_HEADERS | NGHTTP2_FLAG_END_STREAM, 1, block, sizeof block);
    check_cut_off(&w, h, NGHTTP2_ENHANCE_YOUR_CALM);
    world_close(&w);
}

static void bad_hpack(void **state)
{
    (void)state;
    struct world w;
    world_open(&w, NULL);
    struct h2_client *h = h2_open(&w);
    int32_t held = h2_send(h, "GET", "/hold", NULL, 0, "", "");
    run_ms(&w, 10);
    raw_send(h, NGHTTP2_HEADERS, NGHTTP2_FLAG_END_HEADERS | NGHTTP2_FLAG_END_STREAM, (uint32_t)held + 2, "\xff\xff\xff\xff\xff\xff\xff", 7);
    check_cut_off(&w, h, NGHTTP2_COMPRESSION_ERROR);
    assert_int_equal(w.app.gone, 1); /* the one that was under way */
    assert_true(http_server_counters(w.app.server)->refused_bad_total > 0);
    world_close(&w);
}

static void control_floods(void **state)
{
    (void)state;
    static const struct { uint8_t type; uint32_t stream; size_t n; bool bursts; } kinds[] = {
        {NGHTTP2_PING, 0, 8, true}, {NGHTTP2_SETTINGS, 0, 0, true}, {NGHTTP2_PRIORITY, 1, 5, true}, {NGHTTP2_PING, 0, 8, false},
    };
    for (unsigned k = 0; k < ARRAY_LEN(kinds); k++) {
        struct world w;
        world_open(&w, NULL);
        struct h2_client *h = h2_open(&w);
        bool settings = kinds[k].type == NGHTTP2_SETTINGS;
        h->peer->on_bytes = settings ? NULL : h->peer->on_bytes; /* the client's nghttp2 stops at acknowledgements of settings that it did not send */
        for (unsigned i = 0; i < 20000 && !h->peer->ended; i++) {
            raw_send(h, kinds[k].type, 0, kinds[k].stream, "\0\0\0\3\1\0\0\0", kinds[k].n);
            if (!kinds[k].bursts || i % 200 == 199) {
                run_ms(&w, 2);
            }
        }
        run_ms(&w, 4000);
        if (settings) {
            h->goaway = memcmp(h->peer->got + h->peer->n - 14, "\7\0\0\0\0\0\0\0\0\0\0\0\0\x0b", 14) == 0;
            h->goaway_error = (uint8_t)h->peer->got[h->peer->n - 1];
        }
        assert_int_equal(http_server_counters(w.app.server)->floods_total, 1);
        check_cut_off(&w, h, NGHTTP2_ENHANCE_YOUR_CALM);
        world_close(&w);
    }
    /* Empty DATA frames. */
    struct world w;
    world_open(&w, NULL);
    struct h2_client *h = h2_open(&w);
    raw_send(h, NGHTTP2_HEADERS, NGHTTP2_FLAG_END_HEADERS, 1, raw_get, sizeof raw_get);
    for (unsigned i = 0; i < 3000; i++) {
        raw_send(h, NGHTTP2_DATA, 0, 1, "", 0);
    }
    check_cut_off(&w, h, NGHTTP2_ENHANCE_YOUR_CALM);
    world_close(&w);
    /* A ping every 100 ms for a minute is none. */
    world_open(&w, NULL);
    h = h2_open(&w);
    for (unsigned i = 0; i < 600; i++) {
        raw_send(h, NGHTTP2_PING, 0, 0, "12345678", 8);
        run_ms(&w, 100);
    }
    assert_false(h->goaway);
    h2_close(h);
    world_close(&w);
}

static void refusals(void **state)
{
    (void)state;
    struct world w;
    struct http_limits limits = {.body_max = 1 << 20, .memory_max = 4 << 20};
    world_open(&w, &limits);
    struct h2_client *h = h2_open(&w);
    static char large[2 << 20];
    /* Announced, and not announced: 413, and the rest of the body is called off. */
    int32_t id = h2_send(h, "POST", "/echo", large, sizeof large, "content-length", "1073741824");
    run_ms(&w, 500);
    assert_int_equal(reply_of(h, id)->status, 413);
    assert_true(reply_of(h, id)->closed && reply_of(h, id)->error == NGHTTP2_NO_ERROR);
    id = h2_send(h, "POST", "/echo", large, sizeof large, "", "");
    run_ms(&w, 500);
    assert_int_equal(reply_of(h, id)->status, 413);
    assert_true(reply_of(h, id)->closed);
    /* Too large a head, two hosts. */
    static char value[65400]; /* nghttp2 takes no field of more than 64 KiB */
    memset(value, 'v', sizeof value - 1);
    id = h2_send(h, "GET", "/echo", NULL, 0, "x", value);
    run_ms(&w, 100);
    assert_int_equal(reply_of(h, id)->status, 431);
    id = h2_send(h, "GET", "/echo", NULL, 0, "host", "other");
    run_ms(&w, 100);
    assert_int_equal(reply_of(h, id)->status, 400);
    id = h2_send(h, "GET", "/echo", NULL, 0, "host", "auth:1");
    run_ms(&w, 100);
    assert_int_equal(reply_of(h, id)->status, 200);
    /* Half of the memory is this connection's, no more. */
    id = h2_send(h, "POST", "/hold", large, 1 << 20, "", "");
    run_ms(&w, 500);
    id = h2_send(h, "POST", "/hold", large, 1 << 20, "", "");
    run_ms(&w, 500);
    assert_int_equal(reply_of(h, id)->status, 503);
    assert_string_equal(reply_of(h, id)->retry_after, "1");
    assert_int_equal(w.app.n_held, 1);
    check_well(&w);
    assert_false(h->goaway);
    assert_true(http_server_counters(w.app.server)->memory_bytes < 2 << 20);
    h2_close(h);
    run_ms(&w, 10);
    assert_int_equal(http_server_counters(w.app.server)->memory_bytes, 0);
    world_close(&w);
}

static void too_slow(void **state)
{
    (void)state;
    struct world w;
    struct http_limits limits = {.idle_ms = 30000};
    world_open(&w, &limits);
    struct h2_client *slow_body = h2_open(&w), *slow_head = h2_open(&w), *idle = h2_open(&w), *waiting = h2_open(&w);
    assert_int_equal(h2_ask(idle, "GET", "/echo")->status, 200);
    h2_send(waiting, "GET", "/hold", NULL, 0, "", "");
    raw_send(slow_head, NGHTTP2_HEADERS, NGHTTP2_FLAG_END_STREAM, 1, raw_get, sizeof raw_get);
    nghttp2_nv nv[] = {HC_NV(":method", "POST"), HC_NV(":path", "/echo"), HC_NV(":scheme", "http"), HC_NV(":authority", "a")};
    int32_t id = nghttp2_submit_headers(slow_body->session, NGHTTP2_FLAG_NONE, -1, NULL, nv, 4, NULL);
    hc_flush(slow_body);
    for (unsigned i = 0; i < 11; i++) {
        run_ms(&w, 1000);
        raw_send(slow_body, NGHTTP2_DATA, 0, (uint32_t)id, "x", 1);
    }
    assert_int_equal(reply_of(slow_body, id)->status, 408);
    assert_true(slow_head->goaway);
    run_ms(&w, 22000);
    assert_true(idle->goaway && idle->goaway_error == 0 && idle->peer->ended && !idle->peer->failed);
    assert_false(waiting->goaway);
    h2_close(slow_body);
    h2_close(slow_head);
    h2_close(idle);
    h2_close(waiting);
    world_close(&w);
}

/* One that never reads from its socket, with a hundred requests for 10 MiB: bounded by the memory budget, cut off in time. */
static void never_reads(void **state)
{
    (void)state;
    struct world w;
    world_open(&w, NULL);
    struct h2_client *h = h2_open(&w);
    nghttp2_session_set_local_window_size(h->session, 0, 0, 1 << 30);
    hc_flush(h);
    run_ms(&w, 5);
    env_conn_read(&h->peer->conn, false);
    for (unsigned i = 0; i < 100; i++) {
        h2_send(h, "GET", "/big", NULL, 0, "", "");
    }
    run_ms(&w, 100);
    assert_true(http_server_counters(w.app.server)->memory_bytes <= (128u << 20) + BIG_BYTES + (1 << 20));
    check_well(&w);
    run_ms(&w, 62000);
    assert_int_equal(http_server_counters(w.app.server)->memory_bytes, 0);
    assert_true(http_server_counters(w.app.server)->slow_total >= 10);
    run_ms(&w, 125000); /* without a stream it is idle */
    assert_int_equal(http_server_counters(w.app.server)->connections, 0);
    assert_int_equal(http_server_counters(w.app.server)->memory_bytes, 0);
    h2_close(h);
    world_close(&w);
}

static void orderly_stop(void **state)
{
    (void)state;
    struct world w;
    world_open(&w, NULL);
    struct h2_client *idle = h2_open(&w), *busy = h2_open(&w), *stuck = h2_open(&w);
    int32_t id = h2_send(busy, "GET", "/hold", NULL, 0, "", "");
    run_ms(&w, 5);
    h2_send(stuck, "GET", "/hold", NULL, 0, "", "");
    run_ms(&w, 5);
    world_call(&w, world_stop_now, &w);
    run_ms(&w, 10);
    assert_true(idle->goaway && idle->peer->ended && busy->goaway && !busy->peer->ended);
    assert_int_equal(busy->goaway_last, id);
    struct http_request *second = w.app.held[1];
    w.app.n_held = 1;
    world_call(&w, answer_all_backwards, &w.app);
    run_ms(&w, 10);
    assert_int_equal(reply_of(busy, id)->status, 200);
    assert_true(busy->peer->ended && !busy->peer->failed);
    w.app.held[0] = second;
    w.app.n_held = 1;
    run_ms(&w, 2000);
    assert_int_equal(w.app.gone, 1);
    assert_int_equal(w.app.closed, 1);
    h2_close(idle);
    h2_close(busy);
    h2_close(stuck);
    world_close(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(requests_and_answers), cmocka_unit_test(answers_in_any_order), cmocka_unit_test(large_bodies_both_ways), cmocka_unit_test(streams),
        cmocka_unit_test(back_pressure), cmocka_unit_test(rapid_reset), cmocka_unit_test(resets_on_demand), cmocka_unit_test(continuation_flood), cmocka_unit_test(hpack_bomb),
        cmocka_unit_test(bad_hpack), cmocka_unit_test(control_floods), cmocka_unit_test(refusals), cmocka_unit_test(too_slow), cmocka_unit_test(never_reads),
        cmocka_unit_test(orderly_stop),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
