/* sluice-hostile: a client that means harm. hostile.sh starts the nodes, fills a stream and runs it.
 *
 *   sluice-hostile --endpoint HOST:PORT --stream NAME --pid PID [--pid PID ...] [--rss-max MIB] [--only PART|ATTACK]
 *   sluice-hostile hold HOST:PORT N      holds N connections until the standard input ends
 *
 * After each attack: every process lives, its memory is bounded, the node answers, and cluster and records are what they were. */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "proto/base.h"
#include "proto/crc32c.h"
#include "proto/error.h"
#include "tests/integration/hostile.h"

uint64_t random_u64(struct hostile *h)
{
    uint64_t z = h->random += 0x9e3779b97f4a7c15ull;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9ull;
    z = (z ^ z >> 27) * 0x94d049bb133111ebull;
    return z ^ z >> 31;
}

void random_bytes(struct hostile *h, void *out, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        ((uint8_t *)out)[i] = (uint8_t)random_u64(h);
    }
}

void note(struct hostile *h, bool fine, const char *format, ...)
{
    h->checks++;
    if (!fine) {
        h->failures++;
        va_list args;
        va_start(args, format);
        printf("FAIL: ");
        vprintf(format, args);
        putchar('\n');
        va_end(args);
    }
}

/* ---- what must not change ---- */

static void pause_ms(long ms)
{
    const struct timespec t = {.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000};
    nanosleep(&t, NULL);
}

/* A request and its answer; false: said. */
static bool ask(struct hostile *h, int fd, uint8_t kind, const void *message, struct answer *a, const char *after)
{
    bool sent = send_frame(fd, kind, 77, message, NULL, 0);
    *a = (struct answer){.what = ANSWER_CLOSED};
    if (sent) {
        receive(fd, a, ANSWER_MS);
    }
    bool fine = a->what == ANSWER_FRAME && a->kind == kind + 1 && a->correlation == 77;
    note(h, fine, "after %s: kind %d is answered by %s", after, kind, answer_text(a));
    if (!fine) {
        answer_free(a);
    }
    return fine;
}

static bool sum_batches(const struct answer *a, uint64_t *offset, uint32_t *sum)
{
    void *scratch = NULL;
    size_t scratch_size = 0, at = 0;
    bool fine = true;
    while (fine && at < a->payload_len) {
        struct batch_header head;
        struct batch_reader r;
        struct batch_record rec;
        int more = -1;
        fine = batch_header_decode(&head, a->payload + at, a->payload_len - at, false, NULL) == 0 &&
               batch_reader_open(&r, a->payload + at, head.total_len, &scratch, &scratch_size, NULL) == 0;
        while (fine && (more = batch_reader_next(&r, &rec)) > 0) {
            if (rec.offset < *offset) {
                continue;
            }
            fine = rec.offset == *offset;
            ++*offset;
            *sum = crc32c(*sum, &rec.offset, sizeof rec.offset);
            *sum = crc32c(*sum, rec.key, rec.key_len);
            *sum = crc32c(*sum, rec.data, rec.data_len);
        }
        fine = fine && more == 0;
        at += fine ? head.total_len : 0;
    }
    free(scratch);
    return fine;
}

/* Reads a shard from its first record to its end. */
static bool read_shard(struct hostile *h, int fd, uint32_t shard, uint64_t *end, uint32_t *sum, const char *after)
{
    uint64_t offset = 0;
    *sum = 0;
    for (;;) {
        Sluice__Fetch m = SLUICE__FETCH__INIT;
        m.stream_id = (ProtobufCBinaryData){.len = 16, .data = h->stream_id};
        m.shard = shard;
        m.offset = offset;
        m.max_bytes = 1 << 20;
        struct answer a;
        if (!ask(h, fd, FRAME_FETCH, &m, &a, after)) {
            return false;
        }
        Sluice__FetchReply *reply = sluice__fetch_reply__unpack(NULL, a.message_len, a.message);
        bool fine = reply != NULL && sum_batches(&a, &offset, sum) && offset == reply->next_offset;
        bool ended = fine && offset >= reply->end_offset;
        uint64_t was = reply != NULL ? reply->end_offset : 0;
        note(h, fine, "after %s: the records of shard %u from %llu on cannot be read", after, shard, (unsigned long long)m.offset);
        if (reply != NULL) {
            sluice__fetch_reply__free_unpacked(reply, NULL);
        }
        answer_free(&a);
        if (!fine || ended || offset == m.offset) {
            *end = was;
            return fine && ended;
        }
    }
}

static uint64_t rss_kib(int pid)
{
    char path[64], line[256];
    snprintf(path, sizeof path, "/proc/%d/status", pid);
    FILE *f = fopen(path, "r");
    uint64_t kib = 0;
    bool zombie = false;
    while (f != NULL && fgets(line, sizeof line, f) != NULL) {
        unsigned long long v;
        if (sscanf(line, "VmRSS: %llu", &v) == 1) {
            kib = v;
        }
        zombie = zombie || strncmp(line, "State:\tZ", 8) == 0;
    }
    if (f != NULL) {
        fclose(f);
    }
    return zombie ? 0 : kib;
}

void all_is_well(struct hostile *h, const char *after)
{
    for (unsigned i = 0; i < h->n_pids; i++) {
        uint64_t kib = rss_kib(h->pids[i]);
        note(h, kib > 0, "after %s: process %d is gone", after, h->pids[i]);
        note(h, kib <= h->rss_max_kib, "after %s: process %d holds %llu MiB", after, h->pids[i], (unsigned long long)kib >> 10);
        if (kib == 0) {
            printf("a node died: nothing more can be learned\n");
            exit(1);
        }
    }
    int fd = dial_client(h->endpoint);
    for (int i = 0; fd < 0 && i < 50; i++) { /* after a crowd the node may need a moment to see that it left */
        pause_ms(100);
        fd = dial_client(h->endpoint);
    }
    note(h, fd >= 0, "after %s: the node takes no connection", after);
    if (fd < 0) {
        return;
    }
    struct answer a;
    if (ask(h, fd, FRAME_PING, NULL, &a, after)) {
        answer_free(&a);
    }
    if (ask(h, fd, FRAME_CLUSTER_STATUS, NULL, &a, after)) {
        Sluice__ClusterStatusReply *s = sluice__cluster_status_reply__unpack(NULL, a.message_len, a.message);
        note(h, s != NULL && s->streams == h->n_streams, "after %s: there are %u streams instead of %u", after, s != NULL ? s->streams : 0, h->n_streams);
        note(h, s != NULL && s->n_nodes == h->n_nodes, "after %s: there are %zu nodes instead of %u", after, s != NULL ? s->n_nodes : 0, h->n_nodes);
        note(h, s != NULL && s->shards_without_leader == 0, "after %s: %u shards have no leader", after, s != NULL ? s->shards_without_leader : 0);
        for (size_t i = 0; s != NULL && i < s->n_nodes; i++) {
            note(h, s->nodes[i]->state == SLUICE__NODE_INFO__STATE__ALIVE, "after %s: node %u is in state %d", after, s->nodes[i]->id, (int)s->nodes[i]->state);
        }
        if (s != NULL) {
            sluice__cluster_status_reply__free_unpacked(s, NULL);
        }
        answer_free(&a);
    }
    for (uint32_t i = 0; i < h->n_shards; i++) {
        uint64_t end;
        uint32_t sum;
        if (read_shard(h, fd, i, &end, &sum, after)) {
            note(h, end == h->shards[i].end && sum == h->shards[i].sum, "after %s: shard %u has changed: end %llu, was %llu", after, i,
                 (unsigned long long)end, (unsigned long long)h->shards[i].end);
        }
    }
    close(fd);
}

/* ---- judging answers ---- */

bool expect_error(struct hostile *h, int fd, const char *what, bool may_close, const int *codes)
{
    struct answer a;
    receive(fd, &a, ANSWER_MS);
    bool fine = may_close && a.what == ANSWER_CLOSED;
    for (const int *c = codes; *c >= 0; c++) {
        fine = fine || (a.what == ANSWER_FRAME && a.kind == FRAME_ERROR && a.code == *c);
    }
    note(h, fine, "%s: answered by %s (kind %d: %s)", what, answer_text(&a), a.kind, a.text);
    answer_free(&a);
    return fine;
}

bool expect_end(struct hostile *h, int fd, const char *what, int ms)
{
    struct answer a;
    for (int i = 0; i < 2; i++) {
        receive(fd, &a, ms);
        answer_free(&a);
        if (a.what == ANSWER_CLOSED) {
            note(h, true, "closed");
            return true;
        }
        if (a.what != ANSWER_FRAME || a.kind != FRAME_ERROR) {
            break;
        }
    }
    note(h, false, "%s: the connection should end, but there is %s (kind %d)", what, answer_text(&a), a.kind);
    return false;
}

/* ---- the story ---- */

static bool learn(struct hostile *h)
{
    int fd = dial(h->endpoint);
    Sluice__Hello hello = SLUICE__HELLO__INIT;
    hello.version_min = hello.version_max = FRAME_VERSION;
    struct answer a;
    if (fd < 0 || !ask(h, fd, FRAME_HELLO, &hello, &a, "nothing yet")) {
        return false;
    }
    Sluice__HelloReply *r = sluice__hello_reply__unpack(NULL, a.message_len, a.message);
    sluice_assert(r != NULL && r->cluster_id.len == 16);
    h->record_max = r->record_max;
    h->node_id = r->node_id;
    memcpy(h->cluster_id, r->cluster_id.data, 16);
    sluice__hello_reply__free_unpacked(r, NULL);
    answer_free(&a);

    Sluice__StreamDescribe m = SLUICE__STREAM_DESCRIBE__INIT;
    m.name = (char *)(uintptr_t)h->stream;
    if (!ask(h, fd, FRAME_STREAM_DESCRIBE, &m, &a, "nothing yet")) {
        return false;
    }
    Sluice__StreamReply *s = sluice__stream_reply__unpack(NULL, a.message_len, a.message);
    sluice_assert(s != NULL && s->stream != NULL && s->stream->id.len == 16 && s->stream->n_shards <= SHARDS_MAX);
    memcpy(h->stream_id, s->stream->id.data, 16);
    h->n_shards = (uint32_t)s->stream->n_shards;
    for (uint32_t i = 0; i < h->n_shards; i++) {
        const Sluice__ShardInfo *info = s->stream->shards[i];
        memcpy(h->shards[i].first.b, info->hash_first.data, 16);
        memcpy(h->shards[i].last.b, info->hash_last.data, 16);
        for (size_t n = 0; n < s->n_nodes; n++) {
            if (s->nodes[n]->id == info->leader) {
                snprintf(h->shards[i].leader, sizeof h->shards[i].leader, "%s", s->nodes[n]->address);
            }
        }
        sluice_assert(h->shards[i].leader[0] != '\0');
    }
    sluice__stream_reply__free_unpacked(s, NULL);
    answer_free(&a);

    if (!ask(h, fd, FRAME_CLUSTER_STATUS, NULL, &a, "nothing yet")) {
        return false;
    }
    Sluice__ClusterStatusReply *c = sluice__cluster_status_reply__unpack(NULL, a.message_len, a.message);
    sluice_assert(c != NULL);
    h->n_streams = c->streams;
    h->n_nodes = (uint32_t)c->n_nodes;
    sluice__cluster_status_reply__free_unpacked(c, NULL);
    answer_free(&a);
    for (uint32_t i = 0; i < h->n_shards; i++) {
        int leader = dial_client(h->shards[i].leader);
        bool read = leader >= 0 && read_shard(h, leader, i, &h->shards[i].end, &h->shards[i].sum, "nothing yet");
        close(leader);
        /* A follower hears of the last commits with the next heartbeat. */
        uint64_t end = 0;
        uint32_t sum;
        for (int tries = 0; read && end != h->shards[i].end && tries < 100; tries++) {
            read = read_shard(h, fd, i, &end, &sum, "nothing yet");
            pause_ms(100);
        }
        if (!read || end != h->shards[i].end) {
            return false;
        }
        printf("shard %u: %llu records, led by %s\n", i, (unsigned long long)h->shards[i].end, h->shards[i].leader);
    }
    close(fd);
    return true;
}

static void run(struct hostile *h, const struct attack *list, const char *part, const char *only)
{
    for (const struct attack *a = list; a->name != NULL; a++) {
        if (only != NULL && strcmp(only, part) != 0 && strcmp(only, a->name) != 0) {
            continue;
        }
        unsigned failures = h->failures, checks = h->checks;
        struct timespec from, to;
        clock_gettime(CLOCK_MONOTONIC, &from);
        a->run(h);
        all_is_well(h, a->name);
        clock_gettime(CLOCK_MONOTONIC, &to);
        uint64_t most = 0;
        for (unsigned i = 0; i < h->n_pids; i++) {
            most = max_u64(most, rss_kib(h->pids[i]));
        }
        printf("%s %s: %s (%u checks, %.1f s, %llu MiB)\n", h->failures == failures ? "ok" : "FAIL:", part, a->name, h->checks - checks,
               (double)(to.tv_sec - from.tv_sec) + (double)(to.tv_nsec - from.tv_nsec) / 1e9, (unsigned long long)most >> 10);
        fflush(stdout);
    }
}

static int usage(void)
{
    fprintf(stderr, "usage: sluice-hostile --endpoint HOST:PORT --stream NAME --pid PID [--pid PID ...] [--rss-max MIB] [--only frames|messages|batches|crowd|ATTACK]\n"
                    "       sluice-hostile hold HOST:PORT N\n");
    return 2;
}

int main(int argc, char **argv)
{
    if (argc == 4 && strcmp(argv[1], "hold") == 0) {
        return crowd_hold(argv[2], (unsigned)strtoul(argv[3], NULL, 10));
    }
    struct hostile h = {.rss_max_kib = 512 << 10, .random = 20240601};
    const char *only = NULL;
    for (int i = 1; i + 1 < argc; i += 2) {
        if (strcmp(argv[i], "--endpoint") == 0) {
            h.endpoint = argv[i + 1];
        } else if (strcmp(argv[i], "--stream") == 0) {
            h.stream = argv[i + 1];
        } else if (strcmp(argv[i], "--pid") == 0 && h.n_pids < PIDS_MAX) {
            h.pids[h.n_pids++] = (int)strtol(argv[i + 1], NULL, 10);
        } else if (strcmp(argv[i], "--rss-max") == 0) {
            h.rss_max_kib = strtoul(argv[i + 1], NULL, 10) << 10;
        } else if (strcmp(argv[i], "--only") == 0) {
            only = argv[i + 1];
        } else {
            return usage();
        }
    }
    if (h.endpoint == NULL || h.stream == NULL || h.n_pids == 0) {
        return usage();
    }
    if (!learn(&h)) {
        printf("FAIL: the stream cannot be read before any attack\n");
        return 1;
    }
    run(&h, frame_attacks, "frames", only);
    run(&h, message_attacks, "messages", only);
    run(&h, batch_attacks, "batches", only);
    run(&h, crowd_attacks, "crowd", only);
    printf("%u checks, %u failed\n", h.checks, h.failures);
    return h.failures == 0 ? 0 : 1;
}
