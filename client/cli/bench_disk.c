/* sluice bench disk: the bound of a durable majority commit on this machine, without any of Sluice's code in the way.
 *
 * A leader and two followers, a process each, joined by loopback TCP. Each has a recycled file (written and synced before), writes every
 * commit in pieces of 64 KiB and calls fdatasync; a commit counts when two of the three have done so. A node gathers what has arrived
 * while it was syncing into its next write: group commit. The payload crosses the network once per follower. This file uses the
 * system directly, as it measures the system. */
#include "client/cli/bench.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <signal.h>
#include <time.h>
#include <unistd.h>


enum { FILE_BYTES = 128 << 20, PIECE = 64 << 10, NODES_MAX = 9, DEPTH_MAX = 64, BUFFER = 4 << 20 };

struct disk_file { int fd; uint64_t pos; uint8_t *data; };

static uint64_t clock_now(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

static void write_pieces(int fd, const uint8_t *data, size_t n, uint64_t pos)
{
    while (n > 0) {
        size_t part = n < PIECE ? n : PIECE;
        ssize_t r = pwrite(fd, data, part, (off_t)pos);
        if (r <= 0) {
            fprintf(stderr, "sluice: bench disk: cannot write: %s\n", strerror(errno));
            _exit(CLI_FAILED);
        }
        data += r;
        n -= (size_t)r;
        pos += (uint64_t)r;
    }
}

/* A file whose blocks are all written and on the disk, then used again from the start. */
static bool file_open(struct disk_file *f, const char *dir, int node)
{
    char path[4096];
    snprintf(path, sizeof path, "%s/sluice-bench-%d-%d", dir, (int)getpid(), node);
    f->fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (f->fd < 0) {
        cli_error("bench disk: cannot make '%s': %s", path, strerror(errno));
        return false;
    }
    unlink(path);
    f->pos = 0;
    f->data = xmalloc(BUFFER);
    uint64_t x = clock_now() | 1;
    for (size_t i = 0; i < BUFFER; i += 8) {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        put_u64(f->data + i, x);
    }
    for (uint64_t pos = 0; pos < FILE_BYTES; pos += BUFFER) {
        write_pieces(f->fd, f->data, BUFFER, pos);
    }
    if (fdatasync(f->fd) != 0) {
        cli_error("bench disk: cannot sync: %s", strerror(errno));
        return false;
    }
    return true;
}

static void file_commit(struct disk_file *f, size_t n)
{
    if (f->pos + n > FILE_BYTES) {
        f->pos = 0;
    }
    write_pieces(f->fd, f->data, n, f->pos);
    f->pos += n;
    if (fdatasync(f->fd) != 0) {
        fprintf(stderr, "sluice: bench disk: cannot sync: %s\n", strerror(errno));
        _exit(CLI_FAILED);
    }
}

/* ---- followers ------------------------------------------------------------------------------------------------------------- */

/* Reads commits of `size` bytes, makes what has arrived durable, answers with how many are durable. */
static _Noreturn void follower(int sock, struct disk_file *f, size_t size)
{
    sluice_assert(size > 0 && size <= BUFFER);
    uint64_t received = 0, durable = 0, written = 0;
    while (true) {
        /* At least one whole commit, and what else is there, up to the buffer. */
        size_t have = (size_t)(received - written);
        do {
            ssize_t r = recv(sock, f->data + have, BUFFER - have, have >= size ? MSG_DONTWAIT : 0);
            if (r == 0 || (r < 0 && errno != EAGAIN && errno != EINTR)) {
                _exit(0);
            }
            if (r < 0) {
                break;
            }
            have += (size_t)r;
            received += (uint64_t)r;
        } while (have < BUFFER);
        size_t whole = have / size * size;
        if (whole == 0) {
            continue;
        }
        file_commit(f, whole);
        written += whole;
        memmove(f->data, f->data + whole, have - whole);
        durable = written / size;
        if (send(sock, &durable, sizeof durable, MSG_NOSIGNAL) != (ssize_t)sizeof durable) {
            _exit(0);
        }
    }
}

/* ---- leader ---------------------------------------------------------------------------------------------------------------- */

struct leader_disk {
    struct disk_file file;
    pthread_mutex_t mutex;
    pthread_cond_t cond;
    uint64_t wanted, durable; /* commits */
    size_t size;
    bool end;
    int event;
};

static void *leader_sync(void *arg)
{
    struct leader_disk *d = arg;
    pthread_mutex_lock(&d->mutex);
    while (!d->end) {
        uint64_t n = d->wanted - d->durable;
        if (n == 0) {
            pthread_cond_wait(&d->cond, &d->mutex);
            continue;
        }
        n = min_u64(n, BUFFER / d->size);
        pthread_mutex_unlock(&d->mutex);
        file_commit(&d->file, n * d->size);
        pthread_mutex_lock(&d->mutex);
        d->durable += n;
        uint64_t one = 1;
        ssize_t r = write(d->event, &one, sizeof one);
        (void)r;
    }
    pthread_mutex_unlock(&d->mutex);
    return NULL;
}

/* A follower's connection: what is still to be sent, what it has told. */
struct peer { int sock; uint64_t to_send, sent; uint64_t durable; uint8_t answer[8]; size_t answer_have; };

static bool peer_send(struct peer *p, const uint8_t *data, size_t size)
{
    while (p->sent < p->to_send) {
        size_t at = (size_t)(p->sent % size), part = min_u64(size - at, p->to_send - p->sent);
        ssize_t r = send(p->sock, data + at, part, MSG_DONTWAIT | MSG_NOSIGNAL);
        if (r < 0) {
            return errno == EAGAIN || errno == EINTR;
        }
        p->sent += (uint64_t)r;
    }
    return true;
}

static bool peer_read(struct peer *p)
{
    while (true) {
        ssize_t r = recv(p->sock, p->answer + p->answer_have, 8 - p->answer_have, MSG_DONTWAIT);
        if (r == 0) {
            return false;
        }
        if (r < 0) {
            return errno == EAGAIN || errno == EINTR;
        }
        p->answer_have += (size_t)r;
        if (p->answer_have == 8) {
            p->durable = get_u64(p->answer);
            p->answer_have = 0;
        }
    }
}

static int compare_down(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return x > y ? -1 : x < y;
}

/* rate: commits per second that are begun whatever became of those before, as far as depth allows; 0: the next one when one has ended. */
struct measure { size_t size; unsigned depth, rate, seconds, nodes; bool curve; };

/* One pattern; prints its line. */
static bool lead(const struct measure *m, struct peer *peers, struct leader_disk *d)
{
    struct histogram *h = xcalloc(1, sizeof *h);
    uint64_t begun[DEPTH_MAX] = {0}, started = 0, committed = 0;
    uint64_t start = clock_now(), end = start + m->seconds * 1000000000ull, now = start;
    bool good = true;
    while (good && (now < end || committed < started)) {
        uint64_t due = m->rate == 0 ? now : start + started * 1000000000u / m->rate;
        while (now < end && now >= due && started - committed < m->depth) {
            begun[started % DEPTH_MAX] = due;
            started++;
            due = m->rate == 0 ? now : start + started * 1000000000u / m->rate;
        }
        pthread_mutex_lock(&d->mutex);
        if (d->wanted != started) {
            d->wanted = started;
            pthread_cond_signal(&d->cond);
        }
        uint64_t have[NODES_MAX] = {d->durable};
        pthread_mutex_unlock(&d->mutex);
        struct pollfd fds[NODES_MAX] = {{.fd = d->event, .events = POLLIN}};
        for (unsigned i = 1; i < m->nodes; i++) {
            struct peer *p = &peers[i];
            p->to_send = started * m->size;
            good = good && peer_send(p, d->file.data, m->size) && peer_read(p);
            have[i] = p->durable;
            fds[i] = (struct pollfd){.fd = p->sock, .events = (short)(POLLIN | (p->sent < p->to_send ? POLLOUT : 0))};
        }
        qsort(have, m->nodes, sizeof have[0], compare_down);
        uint64_t majority = have[m->nodes / 2];
        now = clock_now();
        bool moved = committed < majority;
        for (; committed < majority; committed++) {
            histogram_add(h, now - begun[committed % DEPTH_MAX]);
        }
        if (!moved && good) {
            bool answers_only = m->rate == 0 || now >= end || started - committed == m->depth;
            uint64_t wait = answers_only ? 1000000000u : due > now ? due - now : 0;
            const struct timespec most = {.tv_sec = (time_t)(wait / 1000000000u), .tv_nsec = (long)(wait % 1000000000u)};
            ppoll(fds, m->nodes, &most, NULL);
            uint64_t drop;
            ssize_t r = read(d->event, &drop, sizeof drop);
            (void)r;
            now = clock_now();
        }
    }
    double s = (double)(now - start) / 1e9;
    printf("{\"test\":\"disk\",\"bytes\":%zu,\"in_flight\":%u,\"nodes\":%u,\"commits\":%llu,\"seconds\":%.3f,\"commits_per_s\":%.1f,\"mb_per_s\":%.3f,"
           "\"rate\":%u,\"p50_ms\":%.3f,\"p99_ms\":%.3f",
           m->size, m->depth, m->nodes, (unsigned long long)committed, s, (double)committed / s, (double)committed * (double)m->size / 1e6 / s, m->rate,
           (double)histogram_quantile(h, 0.5) / 1e6, (double)histogram_quantile(h, 0.99) / 1e6);
    if (m->curve) {
        bench_print_curve(h);
    }
    puts("}");
    fflush(stdout);
    free(h);
    return good;
}

/* A connected pair over loopback TCP. */
static bool tcp_pair(int pair[2])
{
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t n = sizeof a;
    int on = 1, listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    pair[0] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    bool good = listener >= 0 && pair[0] >= 0 && bind(listener, (struct sockaddr *)&a, sizeof a) == 0 && listen(listener, 1) == 0 &&
                getsockname(listener, (struct sockaddr *)&a, &n) == 0 && connect(pair[0], (struct sockaddr *)&a, sizeof a) == 0;
    pair[1] = good ? accept4(listener, NULL, NULL, SOCK_CLOEXEC) : -1;
    close(listener);
    for (int i = 0; i < 2 && pair[1] >= 0; i++) {
        setsockopt(pair[i], IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    }
    return pair[1] >= 0;
}

static bool measure(const struct measure *m, const char *dir)
{
    struct peer peers[NODES_MAX] = {0};
    pid_t pids[NODES_MAX] = {0};
    struct leader_disk d = {.size = m->size, .mutex = PTHREAD_MUTEX_INITIALIZER, .cond = PTHREAD_COND_INITIALIZER};
    struct disk_file files[NODES_MAX];
    for (unsigned i = 0; i < NODES_MAX; i++) {
        files[i] = (struct disk_file){.fd = -1};
    }
    bool good = true;
    for (unsigned i = 0; i < m->nodes && good; i++) {
        good = file_open(&files[i], dir, (int)i);
    }
    for (unsigned i = 1; i < m->nodes && good; i++) {
        int pair[2];
        good = tcp_pair(pair);
        pids[i] = good ? fork() : -1;
        if (pids[i] == 0) {
            prctl(PR_SET_PDEATHSIG, SIGKILL);
            for (unsigned j = 1; j < i; j++) {
                close(peers[j].sock);
            }
            close(pair[0]);
            follower(pair[1], &files[i], m->size);
        }
        good = pids[i] > 0;
        peers[i].sock = pair[0];
        close(pair[1]);
    }
    pthread_t thread;
    d.file = files[0];
    d.event = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    good = good && pthread_create(&thread, NULL, leader_sync, &d) == 0;
    if (good) {
        good = lead(m, peers, &d);
        pthread_mutex_lock(&d.mutex);
        d.end = true;
        pthread_cond_signal(&d.cond);
        pthread_mutex_unlock(&d.mutex);
        pthread_join(thread, NULL);
    }
    for (unsigned i = 0; i < m->nodes; i++) {
        if (i > 0 && pids[i] > 0) {
            close(peers[i].sock);
            kill(pids[i], SIGKILL);
            waitpid(pids[i], NULL, 0);
        }
        if (files[i].fd >= 0) {
            close(files[i].fd);
        }
        free(files[i].data);
    }
    close(d.event);
    return good;
}

static int disk(struct cli *c)
{
    uint64_t nodes, seconds, rate;
    const char *dir = cli_value(c, "dir") != NULL ? cli_value(c, "dir") : ".";
    if (!cli_number(c, "nodes", 3, 1, NODES_MAX, &nodes) || !cli_number(c, "seconds", 3, 1, 600, &seconds) || !cli_number(c, "rate", 0, 0, 1000000, &rate)) {
        return CLI_USAGE;
    }
    static const struct { size_t size; unsigned depth; } patterns[] = {{4 << 10, 1}, {64 << 10, 8}, {1 << 20, 4}};
    for (size_t i = 0; i < (rate == 0 ? ARRAY_LEN(patterns) : 1); i++) {
        const struct measure m = {.size = patterns[i].size, .depth = rate == 0 ? patterns[i].depth : DEPTH_MAX, .rate = (unsigned)rate, .seconds = (unsigned)seconds, .nodes = (unsigned)nodes, .curve = cli_flag(c, "curve")};
        if (!measure(&m, dir)) {
            return cli_error("bench disk: a node ended early");
        }
    }
    return CLI_DONE;
}

const struct cli_command cli_bench_disk = {
    "bench", "disk", "", 0, 0,
    "Measure the bound of a durable majority commit on this machine: no server is needed. A JSON line each for 4 KiB x 1, 64 KiB x 8 and 1 MiB x 4 in flight, or, "
    "with --rate, for commits of 4 KiB at that rate, whose latency counts from the moment at which they should have begun.",
    {{"nodes", "N", "how many copies (default 3)"}, {"dir", "DIR", "where the files are made (default: here)"}, {"seconds", "S", "for each pattern (default 3)"},
     {"rate", "N", "commits of 4 KiB per second"},
     {"curve", NULL, "tell the whole distribution of latencies, too"}},
    disk};
