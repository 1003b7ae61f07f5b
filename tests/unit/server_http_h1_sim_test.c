/* HTTP/1 in the simulated world: requests and answers of every shape, and peers that mean no good. */
#include "server_http_fixture.h"

#define GET(path) "GET " path " HTTP/1.1\r\nHost: a\r\n\r\n"

static void answer_held(void *arg)
{
    struct app *a = arg;
    for (unsigned i = 0; i < a->n_held; i++) {
        if (a->held[i] != NULL) {
            char text[32];
            snprintf(text, sizeof text, "held %u", i);
            a->in_call = true;
            http_answer_text(a->held[i], 200, NULL, text);
            a->in_call = false;
            a->held[i] = NULL;
        }
    }
    a->n_held = 0;
}

static void requests_and_answers(void **state)
{
    (void)state;
    struct world w;
    world_open(&w, NULL);
    struct peer *p = peer_open(&w);
    const char *got = peer_ask(p, GET("/echo?x=1"));
    assert_true(has(got, "HTTP/1.1 200 OK\r\nDate: Thu, 01 Jan 2026 00:00:0"));
    assert_true(has(got, "Server: test\r\nContent-Length: 18\r\nContent-Type: application/octet-stream\r\n\r\nGET /echo?x=1 0\n") || has(got, "Content-Length: 16\r\n"));
    assert_string_equal(w.app.last_host, "a");
    /* The same connection again, and again. */
    assert_true(has(peer_ask(p, "POST /echo HTTP/1.1\r\nhOST: b:1\r\nContent-Length: 5\r\n\r\nhello"), "POST /echo 5\nhello"));
    assert_string_equal(w.app.last_host, "b:1");
    assert_true(has(peer_ask(p, "\r\nPOST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nhel\r\n2\r\nlo\r\n0\r\nTrailer: x\r\n\r\n"), "POST /echo 5\nhello"));
    assert_true(has(peer_ask(p, GET("/nothing")), "404 Not Found"));
    /* HEAD tells the length and sends no body: what follows is the next answer. */
    got = peer_ask(p, "HEAD /big HTTP/1.1\r\nHost: a\r\n\r\n" GET("/echo"));
    assert_true(has(got, "Content-Length: 10485760\r\n"));
    assert_true(has(got, "\r\n\r\nHTTP/1.1 200 OK"));
    assert_int_equal(w.app.released, 1);
    assert_int_equal(http_server_counters(w.app.server)->connections_total, 1);
    /* Connection: close and HTTP/1.0 end it. */
    got = peer_ask(p, "GET /echo HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
    assert_true(has(got, "Connection: close\r\n"));
    assert_true(p->ended && !p->failed);
    peer_close(p);
    p = peer_open(&w);
    assert_true(has(peer_ask(p, "GET /echo HTTP/1.0\r\n\r\n"), "GET /echo 0\n"));
    assert_true(p->ended && !p->failed);
    peer_close(p);
    world_close(&w);
}

/* A body that comes byte by byte, a head too, wherever they are cut. */
static void any_pieces(void **state)
{
    (void)state;
    struct world w;
    world_open(&w, NULL);
    static const char *texts[] = {"POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nnine byte", "POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nnine\r\n5\r\n byte\r\n0\r\n\r\n"};
    for (unsigned k = 0; k < 2; k++) {
        for (size_t cut = 1; cut < strlen(texts[k]); cut++) {
            struct peer *p = peer_open(&w);
            peer_send(p, texts[k], cut);
            run_ms(&w, 1);
            peer_send(p, texts[k] + cut, strlen(texts[k]) - cut);
            run_ms(&w, 1);
            assert_true(has(p->got, "POST /echo 9\nnine byte"));
            peer_close(p);
        }
        struct peer *p = peer_open(&w);
        for (size_t i = 0; i < strlen(texts[k]); i++) {
            peer_send(p, texts[k] + i, 1);
            run_ms(&w, 1);
        }
        assert_true(has(p->got, "POST /echo 9\nnine byte"));
        peer_close(p);
    }
    world_close(&w);
}

/* Pipelined requests are answered in order, also if the first answer comes last. */
static void pipelining(void **state)
{
    (void)state;
    struct world w;
    world_open(&w, NULL);
    struct peer *p = peer_open(&w);
    peer_ask(p, GET("/hold") GET("/echo?2") "POST /echo?3 HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc" GET("/hold") GET("/echo?5"));
    assert_int_equal(p->n, 0);
    assert_int_equal(w.app.taken, 1);
    world_call(&w, answer_held, &w.app);
    run_ms(&w, 10);
    const char *second = strstr(p->got, "GET /echo?2 0"), *third = strstr(p->got, "POST /echo?3 3\nabc"), *first = strstr(p->got, "held 0");
    assert_true(first != NULL && second != NULL && third != NULL && first < second && second < third && !has(p->got, "/echo?5"));
    world_call(&w, answer_held, &w.app);
    run_ms(&w, 10);
    assert_true(has(third, "held 0") && has(third, "GET /echo?5 0"));
    /* A hundred thousand bytes of pipelined requests behind one that waits: taken later, not lost, and not all at once into memory. */
    p->n = 0;
    unsigned n = 4000;
    peer_text(p, GET("/hold"));
    for (unsigned i = 0; i < n; i++) {
        peer_text(p, GET("/echo?many"));
    }
    run_ms(&w, 500);
    assert_true(http_server_counters(w.app.server)->memory_bytes < 512 << 10);
    unsigned before = w.app.taken;
    world_call(&w, answer_held, &w.app);
    run_ms(&w, 500);
    assert_int_equal(w.app.taken - before, n);
    unsigned answers = 0;
    for (const char *at = p->got; (at = strstr(at, "GET /echo?many 0\n")) != NULL; at++) {
        answers++;
    }
    assert_int_equal(answers, n);
    peer_close(p);
    world_close(&w);
}

static void expect_continue(void **state)
{
    (void)state;
    struct world w;
    struct http_limits limits = {.body_max = 1000};
    world_open(&w, &limits);
    struct peer *p = peer_open(&w);
    assert_string_equal(peer_ask(p, "PUT /echo HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n"), "HTTP/1.1 100 Continue\r\n\r\n");
    assert_true(has(peer_ask(p, "ab"), "PUT /echo 2\nab"));
    /* Whoever does not wait is not told to go on; whoever would send too much is told not to. */
    assert_false(has(peer_ask(p, "PUT /echo HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\nab"), "100 Continue"));
    assert_true(has(peer_ask(p, "PUT /echo HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 1001\r\n\r\n"), "HTTP/1.1 413 "));
    peer_close(p);
    world_close(&w);
}

/* A refusal is told, the connection ends, and others do not notice. */
static void refusals(void **state)
{
    (void)state;
    struct world w;
    world_open(&w, NULL);
    struct peer *other = peer_open(&w);
    static char many[20000], large[70000 + 64];
    size_t at = (size_t)sprintf(many, "GET / HTTP/1.1\r\nHost: a\r\n");
    for (unsigned i = 0; i < 100; i++) {
        at += (size_t)sprintf(many + at, "x: y\r\n");
    }
    sprintf(many + at, "\r\n");
    memset(large, 'a', sizeof large - 1);
    memcpy(large, "GET /", 5);
    const struct { const char *status, *text; } cases[] = {
        {"400", "GET / HTTP/1.1\nHost: a\n\n"},
        {"400", "\x01\x02"},
        {"400", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"},
        {"400", "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n"},
        {"400", "GET / HTTP/1.1\r\n\r\n"},
        {"413", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1073741824\r\n\r\n"},
        {"413", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 16777217\r\n\r\n"},
        {"431", many},
        {"431", large},
        {"501", "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip\r\n\r\n"},
        {"505", "GET / HTTP/3.0\r\nHost: a\r\n\r\n"},
    };
    for (unsigned i = 0; i < ARRAY_LEN(cases); i++) {
        struct peer *p = peer_open(&w);
        const char *got = peer_ask(p, cases[i].text);
        if (strncmp(got, "HTTP/1.1 ", 9) != 0 || strncmp(got + 9, cases[i].status, 3) != 0) {
            fail_msg("%s expected, got %s", cases[i].status, got);
        }
        assert_true(has(got, "Connection: close\r\n"));
        run_ms(&w, 3000);
        assert_true(p->ended);
        peer_close(p);
        assert_true(has(peer_ask(other, GET("/echo")), "GET /echo 0\n"));
    }
    assert_int_equal(w.app.taken, ARRAY_LEN(cases));
    assert_int_equal(http_server_counters(w.app.server)->memory_bytes, 0);
    peer_close(other);
    world_close(&w);
}

/* A body of 1 GiB in chunks: refused at the limit, and the sender gets to read why, although it goes on for a while. */
static void endless_body(void **state)
{
    (void)state;
    struct world w;
    world_open(&w, NULL);
    struct peer *p = peer_open(&w);
    peer_text(p, "POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n");
    static char chunk[65536 + 16];
    size_t n = (size_t)sprintf(chunk, "10000\r\n");
    memset(chunk + n, 'x', 65536);
    memcpy(chunk + n + 65536, "\r\n", 2);
    uint64_t most = 0;
    unsigned sent = 0;
    for (; sent < 16384 && !p->ended; sent++) {
        peer_send(p, chunk, n + 65538);
        run_ms(&w, 2);
        most = max_u64(most, http_server_counters(w.app.server)->memory_bytes);
    }
    assert_true(has(p->got, "HTTP/1.1 413 "));
    assert_true(p->ended && sent < 16384);
    assert_true(most <= (16u << 20) + (64u << 10));
    assert_int_equal(http_server_counters(w.app.server)->memory_bytes, 0);
    check_well(&w);
    peer_close(p);
    world_close(&w);
}

static void too_slow(void **state)
{
    (void)state;
    struct world w;
    struct http_limits limits = {.idle_ms = 30000};
    world_open(&w, &limits);
    struct peer *silent = peer_open(&w), *slow_head = peer_open(&w), *slow_body = peer_open(&w), *idle = peer_open(&w), *steady = peer_open(&w);
    assert_true(has(peer_ask(idle, GET("/echo")), "200 OK"));
    peer_text(slow_head, "GET / HTTP/1.1\r\n");
    peer_text(slow_body, "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\n");
    peer_text(steady, "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\n");
    static char part[2500];
    memset(part, 'x', sizeof part);
    for (unsigned s = 0; s < 9; s++) {
        run_ms(&w, 1000);
        peer_text(slow_head, "X: y\r\n");
        peer_text(slow_body, "x");
        peer_send(steady, part, sizeof part);
    }
    assert_false(silent->ended || slow_head->ended || slow_body->ended);
    run_ms(&w, 1500);
    assert_true(has(slow_head->got, "408 Request Timeout"));
    assert_true(has(silent->got, "408 Request Timeout") || silent->ended);
    assert_true(has(slow_body->got, "408 Request Timeout"));
    for (unsigned s = 0; s < 31; s++) {
        peer_send(steady, part, sizeof part);
        run_ms(&w, 1000);
    }
    assert_true(has(steady->got, "POST /echo 100000\nxxx"));
    assert_true(idle->ended && !idle->failed);
    check_well(&w);
    struct peer *all[] = {silent, slow_head, slow_body, idle, steady};
    for (unsigned i = 0; i < ARRAY_LEN(all); i++) {
        peer_close(all[i]);
    }
    world_close(&w);
}

/* A peer that asks and never reads: no memory beyond one answer, then it is cut off; its answers are released. */
static void never_reads(void **state)
{
    (void)state;
    struct world w;
    world_open(&w, NULL);
    struct peer *p = peer_open_as(&w, true);
    for (unsigned i = 0; i < 20; i++) {
        peer_text(p, GET("/big"));
    }
    run_ms(&w, 1000);
    assert_int_equal(w.app.taken, 1);
    check_well(&w);
    run_ms(&w, 61000); /* in the first period the system's buffers took something */
    assert_int_equal(http_server_counters(w.app.server)->connections, 0);
    assert_int_equal(http_server_counters(w.app.server)->slow_total, 1);
    assert_int_equal(w.app.released, 1);
    assert_int_equal(http_server_counters(w.app.server)->memory_bytes, 0);
    peer_close(p);
    world_close(&w);
}

/* While memory is short, who reads nothing is not waited for long. */
static void never_reads_when_memory_is_short(void **state)
{
    (void)state;
    struct world w;
    struct http_limits limits = {.body_max = 64 << 10, .memory_max = 512 << 10};
    world_open(&w, &limits);
    struct peer *p = peer_open_as(&w, true);
    peer_text(p, GET("/big"));
    run_ms(&w, 1000);
    assert_int_equal(http_server_counters(w.app.server)->connections, 1);
    assert_true(http_server_counters(w.app.server)->memory_bytes > limits.memory_max / 2);
    run_ms(&w, 5000);
    assert_int_equal(http_server_counters(w.app.server)->connections, 0);
    assert_int_equal(http_server_counters(w.app.server)->memory_bytes, 0);
    check_well(&w);
    peer_close(p);
    world_close(&w);
}

/* A chunk that is larger than any body is refused before it comes. */
static void announced_chunk(void **state)
{
    (void)state;
    struct world w;
    world_open(&w, NULL);
    struct peer *p = peer_open(&w);
    peer_text(p, "POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n10000000000\r\nx");
    run_ms(&w, 100);
    assert_true(has(p->got, "HTTP/1.1 413 "));
    check_well(&w);
    peer_close(p);
    world_close(&w);
}

static void big_answers_come_whole(void **state)
{
    (void)state;
    struct world w;
    world_open(&w, NULL);
    struct peer *p = peer_open(&w);
    peer_text(p, GET("/big") GET("/big"));
    run_ms(&w, 3000);
    char *body = strstr(p->got, "\r\n\r\n") + 4;
    assert_memory_equal(body, w.app.big, BIG_BYTES);
    body = strstr(body + BIG_BYTES, "\r\n\r\n") + 4;
    assert_memory_equal(body, w.app.big, BIG_BYTES);
    assert_int_equal(body + BIG_BYTES - p->got, p->n);
    assert_int_equal(w.app.released, 2);
    peer_close(p);
    world_close(&w);
}

/* Bodies count against a budget; beyond it requests are refused at once, and taken again later. */
static void memory_budget(void **state)
{
    (void)state;
    struct world w;
    struct http_limits limits = {.memory_max = 8 << 20, .body_max = 3 << 20};
    world_open(&w, &limits);
    static char body[3 << 20];
    memset(body, 'b', sizeof body);
    struct peer *p[4];
    for (unsigned i = 0; i < 4; i++) {
        p[i] = peer_open(&w);
        peer_text(p[i], "POST /hold HTTP/1.1\r\nHost: a\r\nContent-Length: 3145728\r\n\r\n");
        run_ms(&w, 2);
        if (i < 2) {
            peer_send(p[i], body, sizeof body);
            run_ms(&w, 500);
        }
    }
    assert_int_equal(w.app.n_held, 2);
    assert_true(has(p[2]->got, "HTTP/1.1 503 Service Unavailable\r\n") && has(p[2]->got, "Retry-After: 1\r\n"));
    assert_true(has(p[3]->got, "HTTP/1.1 503 Service Unavailable\r\n"));
    assert_int_equal(http_server_counters(w.app.server)->refused_memory_total, 2);
    world_call(&w, answer_held, &w.app);
    run_ms(&w, 10);
    struct peer *again = peer_open(&w);
    peer_text(again, "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 3145728\r\n\r\n");
    peer_send(again, body, sizeof body);
    run_ms(&w, 1000);
    assert_true(has(again->got, "POST /echo 3145728\nbbb"));
    run_ms(&w, 100);
    assert_int_equal(http_server_counters(w.app.server)->memory_bytes, 0);
    for (unsigned i = 0; i < 4; i++) {
        peer_close(p[i]);
    }
    peer_close(again);
    world_close(&w);
}

/* ---- streaming answers ---- */

static char stream_text[1 << 20];

static void write_twice(void *arg)
{
    struct app *a = arg;
    a->in_call = true;
    struct iovec iov[2] = {{stream_text, 3}, {stream_text + 3, 4}};
    struct http_bytes bytes = {.iov = iov, .n_iov = 2, .release = app_release, .arg = a};
    assert_int_equal(http_stream_write(a->held[0], &bytes), 0);
    bytes.n_iov = 1;
    assert_int_equal(http_stream_write(a->held[0], &bytes), 0);
    bytes.n_iov = 0; /* nothing is no end of the stream */
    assert_int_equal(http_stream_write(a->held[0], &bytes), 0);
    a->in_call = false;
}

static void write_large(void *arg)
{
    struct app *a = arg;
    struct iovec iov = {stream_text, sizeof stream_text};
    int rc;
    while ((rc = http_stream_write(a->held[0], &(struct http_bytes){.iov = &iov, .n_iov = 1, .release = app_release, .arg = a})) == 0) {
    }
    assert_int_equal(rc, -ENOBUFS);
}

static void end_stream(void *arg)
{
    struct app *a = arg;
    a->in_call = true;
    http_stream_end(a->held[0]);
    a->in_call = false;
    a->n_held = 0;
}

static void streams(void **state)
{
    (void)state;
    memset(stream_text, 's', sizeof stream_text);
    struct world w;
    world_open(&w, NULL);
    struct peer *p = peer_open(&w);
    peer_ask(p, GET("/stream") GET("/echo?after"));
    assert_true(has(p->got, "Transfer-Encoding: chunked\r\n") && has(p->got, "\r\n\r\n"));
    p->n = 0;
    world_call(&w, write_twice, &w.app);
    run_ms(&w, 5);
    assert_string_equal(p->got, "7\r\nsssssss\r\n3\r\nsss\r\n");
    assert_int_equal(w.app.released, 3);
    assert_int_equal(w.app.writable, 0);
    p->n = 0;
    world_call(&w, end_stream, &w.app);
    run_ms(&w, 5);
    assert_int_equal(strncmp(p->got, "0\r\n\r\nHTTP/1.1 200 OK", 20), 0);
    assert_true(has(p->got, "GET /echo?after 0"));
    assert_int_equal(w.app.gone, 0);
    /* More than is taken: refused, the queue told, `writable` when it got short. */
    p->n = 0;
    peer_ask(p, GET("/stream"));
    world_call(&w, write_large, &w.app);
    run_ms(&w, 3000);
    assert_int_equal(w.app.writable, 1);
    assert_int_equal(w.app.released, 3 + 16);
    assert_int_equal(http_stream_queued(w.app.held[0]), 0);
    /* The peer leaves: gone, once. */
    peer_close(p);
    run_ms(&w, 100);
    assert_int_equal(w.app.gone, 1);
    assert_null(w.app.held[0]);
    world_close(&w);
}

/* A reader that stops in the middle of a stream is cut off after stream_stall_ms, and the owner hears of it. */
static void stalled_stream(void **state)
{
    (void)state;
    struct world w;
    struct http_limits limits = {.stream_stall_ms = 60000};
    world_open(&w, &limits);
    struct peer *p = peer_open_as(&w, true);
    peer_text(p, GET("/stream"));
    run_ms(&w, 10);
    world_call(&w, write_large, &w.app);
    run_ms(&w, 110000);
    assert_int_equal(w.app.gone, 0);
    run_ms(&w, 12000);
    assert_int_equal(w.app.gone, 1);
    assert_int_equal(w.app.released, 16);
    peer_close(p);
    world_close(&w);
}

/* ---- ends ---- */

static void gone_and_half_closed(void **state)
{
    (void)state;
    struct world w;
    world_open(&w, NULL);
    struct peer *p = peer_open(&w);
    assert_string_equal(peer_ask(p, GET("/reset")), "");
    assert_true(p->ended);
    assert_int_equal(w.app.gone, 0); /* it was the owner who ended it */
    peer_close(p);
    p = peer_open(&w);
    peer_ask(p, "POST /hold HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nabc");
    peer_close(p); /* in the middle of a body: nobody hears of it */
    run_ms(&w, 100);
    assert_int_equal(w.app.taken, 1);
    assert_int_equal(w.app.gone, 0);
    assert_int_equal(http_server_counters(w.app.server)->memory_bytes, 0);
    assert_int_equal(http_server_counters(w.app.server)->requests, 0);
    world_close(&w);
}

static void connection_limit(void **state)
{
    (void)state;
    struct world w;
    struct http_limits limits = {.connections_max = 3};
    world_open(&w, &limits);
    struct peer *p[5];
    for (unsigned i = 0; i < 5; i++) {
        p[i] = peer_open(&w);
    }
    run_ms(&w, 10);
    assert_true(p[3]->ended && p[4]->ended && !p[2]->ended);
    assert_true(has(peer_ask(p[0], GET("/echo")), "200 OK"));
    for (unsigned i = 0; i < 5; i++) {
        peer_close(p[i]);
    }
    check_well(&w);
    world_close(&w);
}

static void orderly_stop(void **state)
{
    (void)state;
    struct world w;
    world_open(&w, NULL);
    struct peer *idle = peer_open(&w), *busy = peer_open(&w), *stuck = peer_open(&w);
    peer_ask(idle, GET("/echo"));
    peer_ask(busy, GET("/hold") GET("/echo"));
    peer_ask(stuck, GET("/hold"));
    world_call(&w, world_stop_now, &w);
    run_ms(&w, 10);
    assert_true(idle->ended && !busy->ended && !stuck->ended);
    struct http_request *second = w.app.held[1];
    w.app.n_held = 1;
    world_call(&w, answer_held, &w.app);
    run_ms(&w, 10);
    assert_true(has(busy->got, "held 0") && has(busy->got, "Connection: close\r\n") && !has(busy->got, "GET /echo"));
    assert_true(busy->ended && !busy->failed);
    assert_int_equal(w.app.closed, 0);
    w.app.held[0] = second;
    w.app.n_held = 1;
    run_ms(&w, 2000);
    assert_int_equal(w.app.gone, 1);
    assert_int_equal(w.app.closed, 1);
    peer_close(idle);
    peer_close(busy);
    peer_close(stuck);
    world_close(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(requests_and_answers), cmocka_unit_test(any_pieces), cmocka_unit_test(pipelining), cmocka_unit_test(expect_continue), cmocka_unit_test(refusals),
        cmocka_unit_test(endless_body), cmocka_unit_test(too_slow), cmocka_unit_test(never_reads), cmocka_unit_test(never_reads_when_memory_is_short), cmocka_unit_test(announced_chunk), cmocka_unit_test(big_answers_come_whole), cmocka_unit_test(memory_budget),
        cmocka_unit_test(streams), cmocka_unit_test(stalled_stream), cmocka_unit_test(gone_and_half_closed), cmocka_unit_test(connection_limit), cmocka_unit_test(orderly_stop),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
