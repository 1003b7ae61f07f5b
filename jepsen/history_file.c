/* history_file.c: writes history lines; reads one node's replicas with the plain wire protocol, no client library in between. */
#include "jepsen/history_file.h"

#include "proto/base.h"

#include <errno.h>
#include <inttypes.h>
#include <netdb.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

uint64_t history_file_clock(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000ull + (uint64_t)t.tv_nsec;
}

void history_file_put(FILE *f, const char *stream, unsigned process, uint64_t start, uint64_t end, const char *outcome, uint64_t value, uint32_t shard,
                      const char *sequence, uint64_t order)
{
    fprintf(f, "{\"op\":\"put\",\"p\":%u,\"s\":%" PRIu64 ",\"e\":%" PRIu64 ",\"r\":\"%s\",\"stream\":\"%s\",\"val\":%" PRIu64 ",\"shard\":%u,", process, start,
            end, outcome, stream, value, shard);
    if (sequence[0] != '\0') {
        fprintf(f, "\"seq\":\"%s\",", sequence);
    }
    fprintf(f, "\"idem\":true,\"order\":%" PRIu64 "}\n", order);
}

static uint64_t value_of(const struct batch_record *r)
{
    uint64_t v = 0;
    if (r->data_len >= 8) {
        memcpy(&v, r->data, 8);
    }
    return v;
}

static void print_record(FILE *f, bool first, const struct seqno *s, uint64_t value)
{
    char text[SEQNO_TEXT_MAX];
    seqno_format(s, text);
    fprintf(f, "%s[\"%s\",%" PRIu64 "]", first ? "" : ",", text, value);
}

void history_file_read(FILE *f, unsigned process, uint64_t start, uint64_t end, uint32_t shard, unsigned session, const struct sluice_records *batch)
{
    fprintf(f, "{\"op\":\"read\",\"p\":%u,\"s\":%" PRIu64 ",\"e\":%" PRIu64 ",\"r\":\"ok\",\"shard\":%u,\"sess\":%u,\"from\":null,\"recs\":[", process, start,
            end, shard, session);
    for (size_t i = 0; i < batch->n; i++) {
        struct seqno s = {batch->shard_created_s, batch->shard, batch->v[i].offset, batch->time_ms / 1000};
        print_record(f, i == 0, &s, value_of(&batch->v[i]));
    }
    fprintf(f, "]}\n");
}

/* ---- one node's replicas ---- */

struct wire { int fd; struct frame_reader reader; uint64_t correlation; };

static int wire_open(struct wire *w, const char *address)
{
    char host[128];
    const char *colon = strrchr(address, ':');
    if (colon == NULL || (size_t)(colon - address) >= sizeof host) {
        return -1;
    }
    memcpy(host, address, (size_t)(colon - address));
    host[colon - address] = '\0';
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM}, *found;
    if (getaddrinfo(host, colon + 1, &hints, &found) != 0) {
        return -1;
    }
    w->fd = socket(found->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    int rc = w->fd >= 0 ? connect(w->fd, found->ai_addr, found->ai_addrlen) : -1;
    freeaddrinfo(found);
    struct timeval limit = {.tv_sec = 10};
    setsockopt(w->fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    frame_reader_init(&w->reader, FRAME_MESSAGE_MAX, FRAME_PAYLOAD_MAX);
    w->correlation = 0;
    return rc;
}

/* Sends a request and waits for its answer; *f is valid until the next call. */
static int wire_call(struct wire *w, uint8_t kind, const ProtobufCMessage *message, struct frame *f)
{
    size_t n;
    void *bytes = frame_encode(kind, ++w->correlation, message, 0, &n);
    ssize_t sent = bytes != NULL ? send(w->fd, bytes, n, MSG_NOSIGNAL) : -1;
    free(bytes);
    if (sent != (ssize_t)n) {
        return -1;
    }
    for (;;) {
        int rc = frame_reader_next(&w->reader, f);
        if (rc < 0) {
            return -1;
        }
        if (rc == 1 && f->correlation == w->correlation) {
            return 0;
        }
        if (rc == 0) {
            void *base;
            size_t room = frame_reader_buffer(&w->reader, &base);
            ssize_t got = recv(w->fd, base, room, 0);
            if (got <= 0) {
                return -1;
            }
            frame_reader_fed(&w->reader, (size_t)got);
        }
    }
}

/* Fetches on until the node has nothing more. Returns 0, 1 (no replica here) or -1. */
static int final_of_shard(FILE *out, struct wire *w, const Sluice__StreamInfo *stream, const Sluice__ShardInfo *shard, unsigned number)
{
    uint64_t next = 0, trim = 0;
    bool known = false, first = true;
    char *records = NULL;
    size_t records_len = 0;
    FILE *text = open_memstream(&records, &records_len);
    void *scratch = NULL;
    size_t scratch_size = 0;
    int rc = 0;
    for (;;) {
        Sluice__Fetch m = SLUICE__FETCH__INIT;
        m.stream_id = stream->id;
        m.shard = shard->shard;
        m.offset = next;
        m.max_bytes = 1 << 20;
        struct frame f;
        if (wire_call(w, FRAME_FETCH, &m.base, &f) != 0) {
            rc = -1;
            break;
        }
        if (f.kind == FRAME_ERROR) {
            Sluice__Error *e = sluice__error__unpack(NULL, f.message_len, f.message);
            int code = e != NULL ? (int)e->code : SLUICE_E_PROTOCOL;
            if (e != NULL) {
                sluice__error__free_unpacked(e, NULL);
            }
            if (code == SLUICE_E_EXPIRED && !known) {
                Sluice__Position p = SLUICE__POSITION__INIT;
                p.stream_id = stream->id;
                p.shard = shard->shard;
                p.kind = SLUICE__POSITION__KIND__TRIM_HORIZON;
                if (wire_call(w, FRAME_POSITION, &p.base, &f) == 0 && f.kind == FRAME_POSITION_REPLY) {
                    Sluice__PositionReply *reply = sluice__position_reply__unpack(NULL, f.message_len, f.message);
                    next = reply != NULL ? reply->offset : 0;
                    known = true;
                    sluice__position_reply__free_unpacked(reply, NULL);
                    continue;
                }
            }
            rc = code == SLUICE_E_AHEAD || code == SLUICE_E_STALE ? 0 : 1;
            break;
        }
        Sluice__FetchReply *reply = f.kind == FRAME_FETCH_REPLY ? sluice__fetch_reply__unpack(NULL, f.message_len, f.message) : NULL;
        if (reply == NULL) {
            rc = -1;
            break;
        }
        if (!known) {
            trim = next = max_u64(next, reply->first_offset);
            known = true;
        }
        uint64_t before = next;
        const uint8_t *p = f.payload;
        size_t left = f.payload_len;
        while (left >= BATCH_HEADER_SIZE) {
            struct batch_reader reader;
            uint32_t len = get_u32(p + 4);
            if (len > left || batch_reader_open(&reader, p, len, &scratch, &scratch_size, NULL) != 0) {
                rc = -1;
                break;
            }
            struct batch_record r;
            while (batch_reader_next(&reader, &r) == 1) {
                if (r.offset >= next) {
                    struct seqno s = {reply->shard_created_s, shard->shard, r.offset, reader.header.time_ms / 1000};
                    print_record(text, first, &s, value_of(&r));
                    first = false;
                    next = r.offset + 1;
                }
            }
            p += len;
            left -= len;
        }
        sluice__fetch_reply__free_unpacked(reply, NULL);
        if (rc != 0 || next == before) {
            break;
        }
    }
    fclose(text);
    if (rc == 0) {
        fprintf(out, "{\"op\":\"final\",\"shard\":%u,\"node\":%u,\"trim\":%" PRIu64 ",\"recs\":[%s]}\n", shard->shard, number, trim, records);
    }
    free(records);
    free(scratch);
    return rc;
}

int history_file_final(FILE *f, const char *endpoints, const char *stream, const char *node, unsigned number)
{
    (void)endpoints;
    struct wire w;
    if (node == NULL || wire_open(&w, node) != 0) {
        fprintf(stderr, "sluice-workload: cannot connect to node %u (%s)\n", number, node != NULL ? node : "--node is missing");
        return 1;
    }
    Sluice__Hello hello = SLUICE__HELLO__INIT;
    hello.version_min = hello.version_max = 1;
    hello.agent = (char *)"sluice-workload";
    struct frame reply;
    Sluice__StreamDescribe describe = SLUICE__STREAM_DESCRIBE__INIT;
    describe.name = (char *)stream;
    if (wire_call(&w, FRAME_HELLO, &hello.base, &reply) != 0 || reply.kind != FRAME_HELLO_REPLY ||
        wire_call(&w, FRAME_STREAM_DESCRIBE, &describe.base, &reply) != 0 || reply.kind != FRAME_STREAM_DESCRIBE_REPLY) {
        fprintf(stderr, "sluice-workload: node %u does not know the stream %s\n", number, stream);
        return 1;
    }
    Sluice__StreamReply *info = sluice__stream_reply__unpack(NULL, reply.message_len, reply.message);
    int status = info != NULL && info->stream != NULL ? 0 : 1;
    for (size_t i = 0; status == 0 && i < info->stream->n_shards; i++) {
        if (final_of_shard(f, &w, info->stream, info->stream->shards[i], number) < 0) {
            fprintf(stderr, "sluice-workload: node %u: reading shard %u failed\n", number, info->stream->shards[i]->shard);
            status = 1;
        }
    }
    sluice__stream_reply__free_unpacked(info, NULL);
    frame_reader_deinit(&w.reader);
    close(w.fd);
    return fclose(f) == 0 ? status : 1;
}
