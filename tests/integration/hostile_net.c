/* Sockets and frames for sluice-hostile: plain blocking calls, so that nothing stands between the test and the wire. */
#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "proto/base.h"
#include "proto/error.h"
#include "tests/integration/hostile.h"

static int64_t now_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

int dial(const char *address)
{
    char host[96];
    const char *colon = strrchr(address, ':');
    if (colon == NULL || colon - address >= (ptrdiff_t)sizeof host) {
        return -1;
    }
    snprintf(host, sizeof host, "%.*s", (int)(colon - address), address);
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM}, *list;
    if (getaddrinfo(host, colon + 1, &hints, &list) != 0) {
        return -1;
    }
    int fd = socket(list->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    const struct timeval limit = {.tv_sec = 10};
    if (fd >= 0) {
        setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &(int){1}, sizeof(int));
        if (connect(fd, list->ai_addr, list->ai_addrlen) != 0) {
            close(fd);
            fd = -1;
        }
    }
    freeaddrinfo(list);
    return fd;
}

size_t send_some(int fd, const void *data, size_t n, int ms)
{
    size_t sent = 0;
    while (sent < n) {
        ssize_t r = send(fd, (const char *)data + sent, n - sent, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (r > 0) {
            sent += (size_t)r;
            continue;
        }
        if (r < 0 && errno != EAGAIN && errno != EINTR) {
            break;
        }
        struct pollfd p = {.fd = fd, .events = POLLOUT};
        if (poll(&p, 1, ms) <= 0) {
            break;
        }
    }
    return sent;
}

bool send_all(int fd, const void *data, size_t n)
{
    return send_some(fd, data, n, 10000) == n;
}

/* 1: all of it; 0: the peer closed; -1: not in time. */
static int receive_all(int fd, void *data, size_t n, int64_t deadline)
{
    size_t have = 0;
    while (have < n) {
        int64_t left = deadline - now_ms();
        struct pollfd p = {.fd = fd, .events = POLLIN};
        if (left <= 0 || poll(&p, 1, (int)left) == 0) {
            return -1;
        }
        ssize_t r = recv(fd, (char *)data + have, n - have, 0);
        if (r > 0) {
            have += (size_t)r;
        } else if (r == 0 || errno != EINTR) {
            return 0;
        }
    }
    return 1;
}

void receive(int fd, struct answer *a, int ms)
{
    *a = (struct answer){.what = ANSWER_CLOSED};
    int64_t deadline = now_ms() + ms;
    uint8_t head[FRAME_HEADER_SIZE];
    int got = receive_all(fd, head, sizeof head, deadline);
    if (got <= 0) {
        a->what = got == 0 ? ANSWER_CLOSED : ANSWER_NONE;
        return;
    }
    struct frame_header h;
    a->what = ANSWER_GARBAGE;
    if (frame_header_decode(&h, head) != 0 || h.message_len > FRAME_MESSAGE_MAX || h.payload_len > FRAME_PAYLOAD_MAX) {
        return;
    }
    a->message = xmalloc(h.message_len + 1);
    a->payload = xmalloc(h.payload_len + 1);
    a->message_len = h.message_len;
    a->payload_len = h.payload_len;
    a->kind = h.kind;
    a->correlation = h.correlation;
    if (receive_all(fd, a->message, h.message_len, deadline) <= 0 || !frame_message_ok(head, a->message, h.message_len) ||
        receive_all(fd, a->payload, h.payload_len, deadline) <= 0) {
        return;
    }
    a->what = ANSWER_FRAME;
    if (h.kind == FRAME_ERROR) {
        Sluice__Error *e = sluice__error__unpack(NULL, h.message_len, a->message);
        a->code = e != NULL && e->code != 0 ? (int)e->code : -1;
        snprintf(a->text, sizeof a->text, "%s", e != NULL ? e->message : "");
        if (e != NULL) {
            sluice__error__free_unpacked(e, NULL);
        }
    }
}

void answer_free(struct answer *a)
{
    free(a->message);
    free(a->payload);
    a->message = a->payload = NULL;
}

const char *answer_text(const struct answer *a)
{
    static const char *const texts[] = {"a frame", "the end of the connection", "no answer", "garbage"};
    return a->what == ANSWER_FRAME && a->kind == FRAME_ERROR ? sluice_error_name(a->code) : texts[a->what];
}

bool send_raw_frame(int fd, uint8_t kind, uint64_t correlation, const void *message, size_t message_len, const void *payload, size_t payload_len)
{
    uint8_t head[FRAME_HEADER_SIZE];
    frame_header_encode(head, kind, correlation, message, (uint32_t)message_len, (uint32_t)payload_len);
    return send_all(fd, head, sizeof head) && send_all(fd, message, message_len) && send_all(fd, payload, payload_len);
}

bool send_frame(int fd, uint8_t kind, uint64_t correlation, const void *message, const void *payload, size_t payload_len)
{
    if (message == NULL) {
        return send_raw_frame(fd, kind, correlation, "", 0, payload, payload_len);
    }
    size_t n;
    void *frame = frame_encode(kind, correlation, message, (uint32_t)payload_len, &n);
    sluice_assert(frame != NULL);
    bool sent = send_all(fd, frame, n) && send_all(fd, payload, payload_len);
    free(frame);
    return sent;
}

int dial_client(const char *address)
{
    int fd = dial(address);
    if (fd < 0) {
        return -1;
    }
    Sluice__Hello hello = SLUICE__HELLO__INIT;
    hello.version_min = hello.version_max = FRAME_VERSION;
    hello.agent = (char *)(uintptr_t) "sluice-hostile";
    struct answer a;
    if (!send_frame(fd, FRAME_HELLO, 1, &hello, NULL, 0)) {
        close(fd);
        return -1;
    }
    receive(fd, &a, ANSWER_MS);
    bool fine = a.what == ANSWER_FRAME && a.kind == FRAME_HELLO_REPLY;
    answer_free(&a);
    if (!fine) {
        close(fd);
        return -1;
    }
    return fd;
}
