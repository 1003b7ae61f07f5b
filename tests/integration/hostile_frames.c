/* Attacks on the framing: what never was a frame, frames cut at every byte, lies about lengths, checksums, versions, kinds and order. */
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "proto/base.h"
#include "proto/crc32c.h"
#include "proto/error.h"
#include "tests/integration/hostile.h"

/* The lane that a node names for requests instead of a link (PEER_CONTROL_LANE of the server). */
enum { CONTROL_LANE = 0xffff };

/* Sends bytes on a fresh connection, says that no more will come, and expects its end. */
static void bytes_then_end(struct hostile *h, const char *what, const void *data, size_t n)
{
    int fd = dial(h->endpoint);
    note(h, fd >= 0, "%s: no connection", what);
    if (fd < 0) {
        return;
    }
    send_some(fd, data, n, 2000);
    shutdown(fd, SHUT_WR);
    expect_end(h, fd, what, ANSWER_MS);
    close(fd);
}

static void garbage(struct hostile *h)
{
    uint8_t data[70000];
    static const size_t sizes[] = {1, 2, 23, 24, 25, 100, 4096, 65536, 70000};
    for (size_t i = 0; i < ARRAY_LEN(sizes); i++) {
        for (int round = 0; round < 10; round++) {
            random_bytes(h, data, sizes[i]);
            bytes_then_end(h, "garbage", data, sizes[i]);
        }
    }
    memset(data, 0, sizeof data);
    bytes_then_end(h, "zeros", data, sizeof data);
    memset(data, 0xff, sizeof data);
    bytes_then_end(h, "ones", data, sizeof data);
    for (size_t i = 0; i < sizeof data; i += 2) {
        memcpy(data + i, "SL", 2);
    }
    bytes_then_end(h, "nothing but magic", data, sizeof data);
    /* After a good HELLO as well. */
    for (int round = 0; round < 20; round++) {
        int fd = dial_client(h->endpoint);
        random_bytes(h, data, 5000);
        send_some(fd, data, 5000, 2000);
        expect_end(h, fd, "garbage after HELLO", ANSWER_MS);
        close(fd);
    }
}

static void other_protocols(struct hostile *h)
{
    static const char http[] = "GET / HTTP/1.1\r\nHost: localhost\r\nUser-Agent: curl/8\r\nAccept: */*\r\n\r\n";
    static const char post[] = "POST / HTTP/1.1\r\nHost: localhost\r\nX-Amz-Target: Kinesis_20131202.ListStreams\r\nContent-Length: 2\r\n\r\n{}";
    static const uint8_t tls[] = {0x16, 3, 1, 0, 0x2f, 1, 0, 0, 0x2b, 3, 3, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16,
                                  17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31, 32, 0, 0, 4, 0x13, 1, 0x13, 2, 1, 0};
    static const char ssh[] = "SSH-2.0-OpenSSH_9.2\r\n";
    static const char http2[] = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    static const uint8_t kafka[] = {0, 0, 0, 20, 0, 18, 0, 3, 0, 0, 0, 1, 0, 4, 't', 'e', 's', 't', 0, 0, 0, 0, 0, 0};
    bytes_then_end(h, "HTTP", http, sizeof http - 1);
    bytes_then_end(h, "a Kinesis request", post, sizeof post - 1);
    bytes_then_end(h, "TLS", tls, sizeof tls);
    bytes_then_end(h, "SSH", ssh, sizeof ssh - 1);
    bytes_then_end(h, "HTTP/2", http2, sizeof http2 - 1);
    bytes_then_end(h, "Kafka", kafka, sizeof kafka);
    bytes_then_end(h, "nothing at all", "", 0);
    /* Without the end of our side: the node must not wait for more of what can never be a frame. */
    int fd = dial(h->endpoint);
    send_all(fd, http, sizeof http - 1);
    expect_error(h, fd, "HTTP, and waiting", true, CODES(SLUICE_E_PROTOCOL));
    expect_end(h, fd, "HTTP, and waiting", ANSWER_MS);
    close(fd);
}

/* A HELLO and a PUT as a client sends them. */
static size_t good_conversation(struct hostile *h, uint8_t *out, size_t size, size_t *hello_len)
{
    Sluice__Hello hello = SLUICE__HELLO__INIT;
    hello.version_min = hello.version_max = FRAME_VERSION;
    hello.agent = (char *)(uintptr_t) "cut";
    void *frame = frame_encode(FRAME_HELLO, 1, &hello, 0, hello_len);
    memcpy(out, frame, *hello_len);
    free(frame);

    struct batch_builder b;
    batch_builder_init(&b);
    struct hash128 hash = h->shards[0].first;
    batch_builder_add(&b, "key", 3, "never to be stored", 18, &hash, true);
    void *batch;
    size_t batch_len, put_len;
    const struct batch_identity id = {.stream_id = h->stream_id};
    batch_builder_finish(&b, &id, false, &batch, &batch_len);
    batch_builder_deinit(&b);
    Sluice__Put put = SLUICE__PUT__INIT;
    put.stream_id = (ProtobufCBinaryData){.len = 16, .data = h->stream_id};
    frame = frame_encode(FRAME_PUT, 2, &put, (uint32_t)batch_len, &put_len);
    sluice_assert(*hello_len + put_len + batch_len <= size);
    memcpy(out + *hello_len, frame, put_len);
    memcpy(out + *hello_len + put_len, batch, batch_len);
    free(frame);
    free(batch);
    return *hello_len + put_len + batch_len;
}

/* Every length but the whole: nothing of a put that did not arrive whole may be stored. */
static void cut_everywhere(struct hostile *h)
{
    uint8_t data[1024];
    size_t hello_len, n = good_conversation(h, data, sizeof data, &hello_len);
    for (size_t cut = 0; cut < n; cut++) {
        int fd = dial(h->shards[0].leader);
        send_all(fd, data, cut);
        shutdown(fd, SHUT_WR);
        struct answer a;
        receive(fd, &a, ANSWER_MS);
        bool replied = a.what == ANSWER_FRAME && a.kind == FRAME_HELLO_REPLY;
        answer_free(&a);
        if (replied && cut >= hello_len) {
            receive(fd, &a, ANSWER_MS);
            answer_free(&a);
        }
        note(h, a.what == ANSWER_CLOSED || (a.what == ANSWER_FRAME && a.kind == FRAME_ERROR), "cut after %zu of %zu bytes: %s", cut, n, answer_text(&a));
        close(fd);
    }
    /* The same, ended by a reset instead of an orderly close. */
    for (size_t cut = 1; cut < n; cut += 3) {
        int fd = dial(h->shards[0].leader);
        const struct linger now = {.l_onoff = 1};
        send_all(fd, data, cut);
        setsockopt(fd, SOL_SOCKET, SO_LINGER, &now, sizeof now);
        close(fd);
    }
}

/* One byte of the header of an otherwise good frame is another: before and after HELLO. */
static void bad_headers(struct hostile *h)
{
    uint8_t data[1024];
    size_t hello_len, n = good_conversation(h, data, sizeof data, &hello_len);
    for (size_t at = 0; at < FRAME_HEADER_SIZE; at++) {
        for (int bit = 0; bit < 8; bit++) {
            uint8_t bad[1024];
            memcpy(bad, data, n);
            bad[at] ^= (uint8_t)(1 << bit);
            int fd = dial(h->endpoint);
            send_all(fd, bad, hello_len);
            shutdown(fd, SHUT_WR);
            expect_end(h, fd, "a HELLO with a flipped bit in its header", ANSWER_MS);
            close(fd);
            memcpy(bad, data, n);
            bad[hello_len + at] ^= (uint8_t)(1 << bit);
            fd = dial(h->shards[0].leader);
            send_all(fd, bad, n);
            shutdown(fd, SHUT_WR);
            struct answer a;
            receive(fd, &a, ANSWER_MS);
            answer_free(&a);
            expect_end(h, fd, "a PUT with a flipped bit in its header", ANSWER_MS);
            close(fd);
        }
    }
}

/* A header that says what it likes, with a right checksum over what stands behind it. */
static void lengths(struct hostile *h)
{
    static const uint32_t big[] = {1u << 31, 0xffffffffu, 0x7fffffffu, (16u << 20) + 1, (10u << 20) + (64u << 10) + 1, 64u << 20};
    for (size_t i = 0; i < ARRAY_LEN(big); i++) {
        for (int where = 0; where < 4; where++) {
            uint8_t head[FRAME_HEADER_SIZE];
            char what[96];
            bool after_hello = where >= 2, payload = where % 2 == 1;
            snprintf(what, sizeof what, "a %s of %u bytes %s HELLO", payload ? "payload" : "message", big[i], after_hello ? "after" : "before");
            frame_header_encode(head, after_hello ? FRAME_PUT : FRAME_HELLO, 5, "", 0, 0);
            put_u32(head + (payload ? 8 : 4), big[i]);
            put_u32(head + 12, crc32c(crc32c(0, head, 12), head + 16, 8));
            int fd = after_hello ? dial_client(h->endpoint) : dial(h->endpoint);
            send_all(fd, head, sizeof head);
            expect_error(h, fd, what, false, CODES(SLUICE_E_TOO_LARGE));
            expect_end(h, fd, what, ANSWER_MS);
            close(fd);
        }
    }
    /* Within the bound of links, beyond that of clients; and any payload before HELLO. */
    uint8_t head[FRAME_HEADER_SIZE];
    frame_header_encode(head, FRAME_HELLO, 5, "", 0, 1);
    int fd = dial(h->endpoint);
    send_all(fd, head, sizeof head);
    expect_error(h, fd, "HELLO with a payload", false, CODES(SLUICE_E_TOO_LARGE, SLUICE_E_PROTOCOL));
    close(fd);
}

static void versions_and_magic(struct hostile *h)
{
    for (int version = 0; version < 256; version += version < 4 ? 1 : 63) {
        if (version == FRAME_VERSION) {
            continue;
        }
        uint8_t head[FRAME_HEADER_SIZE];
        frame_header_encode(head, FRAME_PING, 5, "", 0, 0);
        head[2] = (uint8_t)version;
        for (int after_hello = 0; after_hello < 2; after_hello++) {
            int fd = after_hello ? dial_client(h->endpoint) : dial(h->endpoint);
            send_all(fd, head, sizeof head);
            expect_error(h, fd, "a frame of another version", false, CODES(SLUICE_E_VERSION));
            expect_end(h, fd, "a frame of another version", ANSWER_MS);
            close(fd);
        }
    }
    uint8_t head[FRAME_HEADER_SIZE];
    frame_header_encode(head, FRAME_PING, 5, "", 0, 0);
    head[0] ^= 1;
    int fd = dial_client(h->endpoint);
    send_all(fd, head, sizeof head);
    expect_error(h, fd, "wrong magic", false, CODES(SLUICE_E_PROTOCOL));
    expect_end(h, fd, "wrong magic", ANSWER_MS);
    close(fd);
    frame_header_encode(head, FRAME_PING, 5, "", 0, 0);
    head[12] ^= 1;
    fd = dial_client(h->endpoint);
    send_all(fd, head, sizeof head);
    expect_error(h, fd, "a wrong checksum", false, CODES(SLUICE_E_PROTOCOL));
    expect_end(h, fd, "a wrong checksum", ANSWER_MS);
    close(fd);
}

static void hello_with(struct hostile *h, const char *what, const Sluice__Hello *hello, const int *codes)
{
    int fd = dial(h->endpoint);
    send_frame(fd, FRAME_HELLO, 9, hello, NULL, 0);
    expect_error(h, fd, what, false, codes);
    expect_end(h, fd, what, ANSWER_MS);
    close(fd);
}

static void hellos(struct hostile *h)
{
    Sluice__Hello m = SLUICE__HELLO__INIT;
    hello_with(h, "HELLO of version 0", &m, CODES(SLUICE_E_VERSION));
    m.version_min = 2;
    m.version_max = 9;
    hello_with(h, "HELLO of versions to come", &m, CODES(SLUICE_E_VERSION));
    m.version_min = 9;
    m.version_max = 1;
    hello_with(h, "HELLO of no version", &m, CODES(SLUICE_E_VERSION));
    m.version_min = m.version_max = FRAME_VERSION;
    m.role = (Sluice__Hello__Role)7;
    hello_with(h, "HELLO of an unknown role", &m, CODES(SLUICE_E_PROTOCOL, SLUICE_E_NOT_SUPPORTED));
    m.role = SLUICE__HELLO__ROLE__CLIENT;
    char *agent = xmalloc(8001);
    memset(agent, 'a', 8000);
    agent[8000] = '\0';
    m.agent = agent;
    hello_with(h, "HELLO of 8000 bytes", &m, CODES(SLUICE_E_TOO_LARGE));
    free(agent);

    for (int round = 0; round < 50; round++) {
        uint8_t data[64];
        random_bytes(h, data, sizeof data);
        data[0] = 0x0b; /* a group: never valid */
        int fd = dial(h->endpoint);
        send_raw_frame(fd, FRAME_HELLO, 1, data, sizeof data, NULL, 0);
        expect_error(h, fd, "HELLO of garbage", false, CODES(SLUICE_E_PROTOCOL, SLUICE_E_VERSION));
        close(fd);
    }

    /* Order. */
    m = (Sluice__Hello)SLUICE__HELLO__INIT;
    m.version_min = m.version_max = FRAME_VERSION;
    int fd = dial_client(h->endpoint);
    send_frame(fd, FRAME_HELLO, 2, &m, NULL, 0);
    expect_error(h, fd, "a second HELLO", false, CODES(SLUICE_E_PROTOCOL));
    expect_end(h, fd, "a second HELLO", ANSWER_MS);
    close(fd);
    for (int kind = 0; kind < 256; kind++) {
        if (kind != FRAME_HELLO) {
            fd = dial(h->endpoint);
            send_frame(fd, (uint8_t)kind, 2, NULL, NULL, 0);
            expect_error(h, fd, "a request before HELLO", false, CODES(SLUICE_E_PROTOCOL));
            expect_end(h, fd, "a request before HELLO", ANSWER_MS);
            close(fd);
        }
    }
}

/* A client that calls itself a node: of no cluster, of another, this very node, one that called the wrong number. */
static void false_peers(struct hostile *h)
{
    uint8_t strange[16];
    random_bytes(h, strange, sizeof strange);
    Sluice__Hello m = SLUICE__HELLO__INIT;
    m.version_min = m.version_max = FRAME_VERSION;
    m.role = SLUICE__HELLO__ROLE__PEER;
    m.node_id = 99;
    m.incarnation = 1;
    m.lanes = 1;
    m.cluster_id = (ProtobufCBinaryData){.len = 16, .data = strange};
    hello_with(h, "a node of another cluster", &m, CODES(SLUICE_E_WRONG_CLUSTER));
    m.to_lane = CONTROL_LANE;
    hello_with(h, "a node of another cluster, for control", &m, CODES(SLUICE_E_WRONG_CLUSTER));
    m.to_lane = 0;
    m.cluster_id = (ProtobufCBinaryData){.len = 16, .data = h->cluster_id};
    m.node_id = 0;
    hello_with(h, "node 0", &m, CODES(SLUICE_E_REFUSED, SLUICE_E_INVALID));
    m.node_id = h->node_id;
    hello_with(h, "the node itself", &m, CODES(SLUICE_E_REFUSED));
    m.node_id = 99;
    m.to_node = h->node_id + 50;
    hello_with(h, "a node that wants another", &m, CODES(SLUICE_E_REFUSED));
    m.to_node = h->node_id;
    m.cluster_id.len = 15;
    hello_with(h, "a node with a short cluster id", &m, CODES(SLUICE_E_WRONG_CLUSTER, SLUICE_E_REFUSED, SLUICE_E_PROTOCOL, SLUICE_E_NOT_READY));
    m.cluster_id.len = 0;
    hello_with(h, "a node of no cluster that wants a link", &m, CODES(SLUICE_E_WRONG_CLUSTER, SLUICE_E_REFUSED, SLUICE_E_NOT_READY));

    /* A node of no cluster may ask for one, and nothing else. */
    m.to_lane = CONTROL_LANE;
    static const uint8_t kinds[] = {FRAME_PUT, FRAME_FETCH, FRAME_STREAM_DELETE, FRAME_STREAM_CREATE, FRAME_NODE_CHANGE, FRAME_LINK, FRAME_FORWARD, FRAME_REPORT, FRAME_REPLICA, 200};
    for (size_t i = 0; i < ARRAY_LEN(kinds); i++) {
        int fd = dial(h->endpoint);
        struct answer a;
        send_frame(fd, FRAME_HELLO, 1, &m, NULL, 0);
        receive(fd, &a, ANSWER_MS);
        note(h, a.what == ANSWER_FRAME && a.kind == FRAME_HELLO_REPLY, "a node of no cluster: %s", answer_text(&a));
        answer_free(&a);
        send_frame(fd, kinds[i], 2, NULL, NULL, 0);
        expect_error(h, fd, "a request of a node of no cluster", true, CODES(SLUICE_E_WRONG_CLUSTER, SLUICE_E_REFUSED));
        close(fd);
    }

    /* Links of a node that does not exist carry garbage. */
    m.cluster_id.len = 16;
    m.to_lane = 0;
    for (int round = 0; round < 40; round++) {
        int fd = dial(h->endpoint);
        struct answer a;
        send_frame(fd, FRAME_HELLO, 1, &m, NULL, 0);
        receive(fd, &a, ANSWER_MS);
        if (a.what == ANSWER_FRAME && a.kind == FRAME_HELLO_REPLY) {
            uint8_t data[600];
            random_bytes(h, data, sizeof data);
            size_t n = random_u64(h) % sizeof data;
            if (round % 2 == 0) {
                data[0] = (uint8_t)(round / 2); /* a kind that may exist */
            }
            send_frame(fd, FRAME_LINK, 0, NULL, data, n);
            send_frame(fd, FRAME_PING, 3, NULL, NULL, 0); /* nothing but link frames may follow */
            answer_free(&a);
            receive(fd, &a, ANSWER_MS);
        }
        note(h, a.what == ANSWER_CLOSED || (a.what == ANSWER_FRAME && a.kind == FRAME_ERROR), "garbage on a link: %s (kind %d)", answer_text(&a), a.kind);
        answer_free(&a);
        close(fd);
    }
}

const struct attack frame_attacks[] = {
    {"garbage", garbage},
    {"other protocols", other_protocols},
    {"frames cut at every byte", cut_everywhere},
    {"flipped bits in headers", bad_headers},
    {"oversized lengths", lengths},
    {"versions, magic, checksums", versions_and_magic},
    {"HELLO: wrong, twice, missing", hellos},
    {"false nodes", false_peers},
    {NULL, NULL},
};
