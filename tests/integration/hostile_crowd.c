/* Attacks by patience and by number: half-open connections, senders of a byte at a time, more connections than are allowed, readers
 * that never read, payloads that never end. hostile.sh starts the nodes with small limits, so that they are reached. */
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "proto/base.h"
#include "proto/error.h"
#include "tests/integration/hostile.h"

enum { HELLO_LIMIT_MS = 5000, SLACK_MS = 4000, CROWD = 3000 };

static int64_t now_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

static bool ended(int fd, int ms)
{
    struct answer a;
    receive(fd, &a, ms);
    answer_free(&a);
    if (a.what == ANSWER_FRAME) {
        receive(fd, &a, ms);
        answer_free(&a);
    }
    return a.what == ANSWER_CLOSED;
}

static bool ping(int fd)
{
    struct answer a;
    if (fd < 0 || !send_frame(fd, FRAME_PING, 3, NULL, NULL, 0)) {
        return false;
    }
    receive(fd, &a, ANSWER_MS);
    answer_free(&a);
    return a.what == ANSWER_FRAME && a.kind == FRAME_PING_REPLY;
}

/* Connections that say nothing, or the first bytes of a HELLO, end after some seconds by themselves. */
static void half_open(struct hostile *h)
{
    enum { EACH = 100 };
    int fds[2 * EACH];
    uint8_t head[FRAME_HEADER_SIZE];
    frame_header_encode(head, FRAME_HELLO, 1, "", 0, 0);
    for (int i = 0; i < 2 * EACH; i++) {
        fds[i] = dial(h->endpoint);
        if (i >= EACH) {
            send_all(fds[i], head, (size_t)(i % FRAME_HEADER_SIZE));
        }
    }
    int64_t deadline = now_ms() + HELLO_LIMIT_MS + SLACK_MS;
    unsigned open = 0;
    for (int i = 0; i < 2 * EACH; i++) {
        int64_t left = deadline - now_ms();
        open += !ended(fds[i], left > 1 ? (int)left : 1);
        close(fds[i]);
    }
    note(h, open == 0, "%u of %d connections without HELLO are open after %d ms", open, 2 * EACH, HELLO_LIMIT_MS + SLACK_MS);
}

/* A byte at a time: slow is no crime, but a HELLO must not take for ever. */
static void slow(struct hostile *h)
{
    int fd = dial_client(h->endpoint);
    uint8_t head[FRAME_HEADER_SIZE];
    for (int round = 0; round < 3; round++) {
        frame_header_encode(head, FRAME_PING, (uint64_t)round, "", 0, 0);
        for (size_t i = 0; i < sizeof head; i++) {
            send_all(fd, head + i, 1);
            poll(NULL, 0, 15);
        }
        struct answer a;
        receive(fd, &a, ANSWER_MS);
        note(h, a.what == ANSWER_FRAME && a.kind == FRAME_PING_REPLY, "a slow PING is answered by %s", answer_text(&a));
        answer_free(&a);
    }
    close(fd);
    Sluice__Hello hello = SLUICE__HELLO__INIT;
    hello.version_min = hello.version_max = FRAME_VERSION;
    char agent[401];
    memset(agent, 'a', 400);
    agent[400] = '\0';
    hello.agent = agent;
    size_t n;
    uint8_t *frame = frame_encode(FRAME_HELLO, 1, &hello, 0, &n);
    fd = dial(h->endpoint);
    int64_t from = now_ms();
    bool closed = false;
    for (size_t i = 0; i < n && !closed && now_ms() - from < 3 * HELLO_LIMIT_MS; i++) {
        send_some(fd, frame + i, 1, 100);
        struct pollfd p = {.fd = fd, .events = POLLIN};
        closed = poll(&p, 1, 200) > 0;
    }
    note(h, closed && now_ms() - from <= HELLO_LIMIT_MS + SLACK_MS, "a HELLO that trickles in is waited for longer than %d ms", HELLO_LIMIT_MS + SLACK_MS);
    close(fd);
    free(frame);
}

static unsigned crowd_open(const char *address, int *fds, unsigned n)
{
    const struct rlimit files = {.rlim_cur = n + 100, .rlim_max = n + 100};
    struct rlimit was;
    if (getrlimit(RLIMIT_NOFILE, &was) == 0 && was.rlim_cur < files.rlim_cur) {
        was.rlim_cur = was.rlim_max < files.rlim_cur ? was.rlim_max : files.rlim_cur;
        setrlimit(RLIMIT_NOFILE, &was);
    }
    unsigned taken = 0;
    for (unsigned i = 0; i < n; i++) {
        fds[i] = dial_client(address);
        taken += fds[i] >= 0;
    }
    return taken;
}

int crowd_hold(const char *address, unsigned n)
{
    int *fds = xcalloc(n, sizeof *fds);
    printf("%u\n", crowd_open(address, fds, n));
    fflush(stdout);
    /* A place that becomes free is taken at once. */
    for (struct pollfd in = {.fd = 0, .events = POLLIN}; poll(&in, 1, 5) == 0;) {
        for (unsigned i = 0; i < n; i++) {
            struct pollfd p = {.fd = fds[i], .events = POLLIN};
            if (fds[i] >= 0 && poll(&p, 1, 0) > 0) {
                close(fds[i]);
                fds[i] = -1;
            }
        }
        for (unsigned i = 0, tries = 0; i < n && tries < 20; i++) {
            if (fds[i] < 0) {
                fds[i] = dial_client(address);
                tries++;
            }
        }
    }
    free(fds);
    return 0;
}

/* More clients than connections-max: the surplus is refused with a reason, those inside are served, and when they leave there is room. */
static void crowd(struct hostile *h)
{
    int inside = dial_client(h->endpoint);
    int *fds = xcalloc(CROWD, sizeof *fds);
    unsigned taken = crowd_open(h->endpoint, fds, CROWD);
    printf("%u of %d connections were taken\n", taken, CROWD);
    note(h, taken > 0 && taken < CROWD, "%u of %d connections were taken: there is a bound, but not none", taken, CROWD);
    note(h, ping(inside), "a client inside is not served beside the crowd");
    for (unsigned i = 0; i < CROWD; i += 97) {
        note(h, fds[i] < 0 || ping(fds[i]), "connection %u of the crowd is not served", i);
    }
    int fd = dial(h->endpoint);
    if (fd >= 0) {
        expect_error(h, fd, "one connection too many", true, CODES(SLUICE_E_BUSY));
        close(fd);
    }
    for (unsigned i = 0; i < CROWD; i++) {
        if (fds[i] >= 0) {
            close(fds[i]);
        }
    }
    free(fds);
    note(h, ping(inside), "a client inside is not served after the crowd");
    close(inside);
    /* Connections that come and go at once. */
    for (int i = 0; i < CROWD; i++) {
        fd = dial(h->endpoint);
        if (fd >= 0) {
            close(fd);
        }
    }
}

/* Asks for everything again and again and reads nothing. */
static void never_reads(struct hostile *h)
{
    enum { READERS = 40, ASKS = 4000 };
    int fds[READERS];
    size_t asked = 0;
    for (int i = 0; i < READERS; i++) {
        fds[i] = dial_client(h->shards[0].leader);
        bool stuck = false;
        for (int n = 0; n < ASKS && !stuck; n++) {
            Sluice__Fetch m = SLUICE__FETCH__INIT;
            m.stream_id = (ProtobufCBinaryData){.len = 16, .data = h->stream_id};
            m.max_bytes = UINT32_MAX;
            size_t len;
            void *frame = frame_encode(FRAME_FETCH, (uint64_t)n, &m, 0, &len);
            stuck = send_some(fds[i], frame, len, 200) < len;
            asked += !stuck;
            free(frame);
        }
    }
    printf("%zu fetches went in, unread\n", asked);
    all_is_well(h, "readers that never read (still there)");
    for (int i = 0; i < READERS; i++) {
        close(fds[i]);
    }
}

/* Requests without end whose answers are not read: the node stops reading from such a client, it does not collect answers. */
static void never_reads_pings(struct hostile *h)
{
    int fd = dial_client(h->endpoint);
    uint8_t many[FRAME_HEADER_SIZE * 1000];
    for (int i = 0; i < 1000; i++) {
        frame_header_encode(many + i * FRAME_HEADER_SIZE, FRAME_CLUSTER_STATUS, (uint64_t)i, "", 0, 0);
    }
    size_t sent = 0, n;
    do {
        n = send_some(fd, many, sizeof many, 500);
        sent += n;
    } while (n == sizeof many && sent < 256u << 20);
    note(h, sent < 256u << 20, "a client that does not read could send %zu MiB of requests", sent >> 20);
    printf("%zu KiB of requests went in before the node stopped reading\n", sent >> 10);
    all_is_well(h, "requests without reading (still there)");
    close(fd);
}

/* Puts of which all but the last byte arrives. */
static void unfinished_payloads(struct hostile *h)
{
    enum { SENDERS = 150, BYTES = 8 << 20 };
    uint8_t *data = xcalloc(1, BYTES);
    int fds[SENDERS];
    Sluice__Put m = SLUICE__PUT__INIT;
    m.stream_id = (ProtobufCBinaryData){.len = 16, .data = h->stream_id};
    size_t len, sent = 0;
    void *frame = frame_encode(FRAME_PUT, 1, &m, BYTES, &len);
    for (int i = 0; i < SENDERS; i++) {
        fds[i] = dial_client(h->shards[0].leader);
        if (fds[i] >= 0) {
            send_some(fds[i], frame, len, 500);
            sent += send_some(fds[i], data, BYTES - 1, 100);
        }
    }
    printf("%zu MiB of unfinished payloads were taken\n", sent >> 20);
    all_is_well(h, "unfinished payloads (still there)");
    for (int i = 0; i < SENDERS; i++) {
        if (fds[i] >= 0) {
            close(fds[i]);
        }
    }
    free(frame);
    free(data);
}

const struct attack crowd_attacks[] = {
    {"half-open connections", half_open},
    {"a byte at a time", slow},
    {"readers that never read", never_reads},
    {"requests without reading", never_reads_pings},
    {"payloads that never end", unfinished_payloads},
    {"more connections than allowed", crowd},
    {NULL, NULL},
};
