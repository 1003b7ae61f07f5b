/* Attacks by well-framed messages: unknown kinds, kinds of nodes from a client, protobuf garbage, values out of every range. */
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "proto/base.h"
#include "proto/error.h"
#include "tests/integration/hostile.h"

static ProtobufCBinaryData id_of(struct hostile *h)
{
    return (ProtobufCBinaryData){.len = 16, .data = h->stream_id};
}

static bool is_request(int kind)
{
    return kind >= FRAME_PUT && kind <= FRAME_CLIENT_LAST && kind % 2 == 0;
}

/* The connection must stay usable: an unknown request is refused alone. */
static void unknown_kinds(struct hostile *h)
{
    int fd = dial_client(h->endpoint);
    for (int kind = 0; kind < 256; kind++) {
        if (is_request(kind) || kind == FRAME_HELLO || kind == FRAME_CREDIT) { /* CREDIT is not answered */
            continue;
        }
        char what[64];
        snprintf(what, sizeof what, "kind %d", kind);
        note(h, send_frame(fd, (uint8_t)kind, (uint64_t)kind, NULL, NULL, 0), "%s: the connection is gone", what);
        expect_error(h, fd, what, false, CODES(SLUICE_E_NOT_SUPPORTED, SLUICE_E_REFUSED));
        /* With a message and a payload. */
        uint8_t data[100];
        random_bytes(h, data, sizeof data);
        send_raw_frame(fd, (uint8_t)kind, (uint64_t)kind, data, 50, data, sizeof data);
        expect_error(h, fd, what, false, CODES(SLUICE_E_NOT_SUPPORTED, SLUICE_E_REFUSED));
    }
    close(fd);
}

/* What nodes say to each other, from a client that said so: orders, reports, formation. */
static void kinds_of_nodes(struct hostile *h)
{
    int fd = dial_client(h->endpoint);
    Sluice__Forward forward = SLUICE__FORWARD__INIT;
    forward.kind = FRAME_STREAM_DELETE;
    Sluice__StreamDelete victim = SLUICE__STREAM_DELETE__INIT;
    victim.name = (char *)(uintptr_t)h->stream;
    uint8_t packed[512];
    sluice_assert(sluice__stream_delete__get_packed_size(&victim) <= sizeof packed);
    forward.message = (ProtobufCBinaryData){.len = sluice__stream_delete__pack(&victim, packed), .data = packed};
    send_frame(fd, FRAME_FORWARD, 1, &forward, NULL, 0);
    expect_error(h, fd, "FORWARD from a client", false, CODES(SLUICE_E_REFUSED));

    Sluice__Report report = SLUICE__REPORT__INIT;
    report.node = h->node_id;
    report.incarnation = UINT64_MAX;
    report.complete = report.stopping = true;
    send_frame(fd, FRAME_REPORT, 2, &report, NULL, 0);
    expect_error(h, fd, "REPORT from a client", false, CODES(SLUICE_E_REFUSED));

    for (int kind = 0; kind < 8; kind++) {
        Sluice__ReplicaOrder order = SLUICE__REPLICA_ORDER__INIT;
        order.group = 1;
        order.kind = (Sluice__ReplicaOrder__Kind)kind;
        order.raft_id = 1;
        send_frame(fd, FRAME_REPLICA, 3, &order, NULL, 0);
        expect_error(h, fd, "REPLICA from a client", false, CODES(SLUICE_E_REFUSED));
    }
    Sluice__Form form = SLUICE__FORM__INIT;
    form.node = 99;
    form.blank = true;
    form.cluster_id = (ProtobufCBinaryData){.len = 16, .data = h->stream_id};
    send_frame(fd, FRAME_FORM, 4, &form, NULL, 0);
    expect_error(h, fd, "FORM from a client", false, CODES(SLUICE_E_REFUSED));
    uint8_t link[256];
    random_bytes(h, link, sizeof link);
    send_frame(fd, FRAME_LINK, 5, NULL, link, sizeof link);
    expect_error(h, fd, "LINK from a client", false, CODES(SLUICE_E_REFUSED));
    close(fd);
}

/* Random bytes as the message of each request. Whatever comes back, it is an answer of that request. */
static void protobuf_garbage(struct hostile *h)
{
    for (int kind = FRAME_PUT; kind <= FRAME_CLIENT_LAST; kind += 2) {
        for (int round = 0; round < 60; round++) {
            uint8_t data[300];
            size_t n = 1 + random_u64(h) % (sizeof data - 1);
            random_bytes(h, data, n);
            if (round % 3 == 1) { /* a field that exists, with a length that does not fit */
                data[0] = (uint8_t)(1 << 3 | 2);
                data[1] = 0xff;
            } else if (round % 3 == 2) {
                data[0] = 0x0b; /* a group */
            }
            int fd = dial_client(h->endpoint);
            send_raw_frame(fd, (uint8_t)kind, 42, data, n, NULL, 0);
            struct answer a;
            receive(fd, &a, ANSWER_MS);
            bool fine = a.what == ANSWER_FRAME && a.correlation == 42 && (a.kind == FRAME_ERROR || a.kind == kind + 1);
            if (round % 3 != 0 && kind != FRAME_PING && kind != FRAME_CLUSTER_STATUS) { /* those two say nothing in theirs */
                fine = fine && a.kind == FRAME_ERROR;
            }
            note(h, fine, "garbage as message of kind %d: %s (kind %d)", kind, answer_text(&a), a.kind);
            answer_free(&a);
            close(fd);
        }
    }
}

/* An empty message: every field at its default. */
static void empty_messages(struct hostile *h)
{
    int fd = dial_client(h->endpoint);
    for (int kind = FRAME_PUT; kind <= FRAME_CLIENT_LAST; kind += 2) {
        if (kind == FRAME_STREAM_LIST || kind == FRAME_CLUSTER_STATUS || kind == FRAME_PING || kind == FRAME_ACCOUNT) {
            continue;
        }
        char what[64];
        snprintf(what, sizeof what, "kind %d without fields", kind);
        send_frame(fd, (uint8_t)kind, 1, NULL, NULL, 0);
        expect_error(h, fd, what, false, CODES(SLUICE_E_INVALID, SLUICE_E_PROTOCOL, SLUICE_E_NOT_FOUND));
    }
    close(fd);
}

static void create(struct hostile *h, int fd, const char *what, const char *name, uint32_t shards, uint32_t hours, uint32_t replicas, const char *account, size_t request_id_len)
{
    uint8_t id[32] = {0};
    Sluice__StreamCreate m = SLUICE__STREAM_CREATE__INIT;
    m.name = (char *)(uintptr_t)name;
    m.shards = shards;
    m.retention_hours = hours;
    m.replicas = replicas;
    m.account = (char *)(uintptr_t)account;
    m.request_id = (ProtobufCBinaryData){.len = request_id_len, .data = id};
    send_frame(fd, FRAME_STREAM_CREATE, 1, &m, NULL, 0);
    expect_error(h, fd, what, false, CODES(SLUICE_E_INVALID, SLUICE_E_TOO_LARGE, SLUICE_E_PROTOCOL));
}

static void bad_control(struct hostile *h)
{
    int fd = dial_client(h->endpoint);
    char *name = xmalloc(100001);
    memset(name, 'n', 100000);
    name[129] = '\0';
    create(h, fd, "a name of 129 bytes", name, 1, 0, 0, "", 16);
    name[129] = 'n';
    name[100000] = '\0';
    create(h, fd, "a name of 100000 bytes", name, 1, 0, 0, "", 16);
    free(name);
    static const char *const names[] = {"", " ", "a b", "a/b", "../../etc", "a\nb", "\xc3\xa4", "a\xff", "%s%n", "a\"b"};
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        create(h, fd, "a bad name", names[i], 1, 0, 0, "", 16);
    }
    create(h, fd, "10001 shards", "x", 10001, 0, 0, "", 16);
    create(h, fd, "2^32-1 shards", "x", UINT32_MAX, 0, 0, "", 16);
    create(h, fd, "1 hour", "x", 1, 1, 0, "", 16);
    create(h, fd, "8761 hours", "x", 1, 8761, 0, "", 16);
    create(h, fd, "2^32-1 hours", "x", 1, UINT32_MAX, 0, "", 16);
    create(h, fd, "99 replicas", "x", 1, 0, 99, "", 16);
    create(h, fd, "2^32-1 replicas", "x", 1, 0, UINT32_MAX, "", 16);
    create(h, fd, "an account of letters", "x", 1, 0, 0, "abcdefghijkl", 16);
    create(h, fd, "an account of 13 digits", "x", 1, 0, 0, "1234567890123", 16);
    create(h, fd, "a request id of 5 bytes", "x", 1, 0, 0, "", 5);
    create(h, fd, "a request id of 17 bytes", "x", 1, 0, 0, "", 17);

    Sluice__StreamUpdate update = SLUICE__STREAM_UPDATE__INIT;
    update.name = (char *)(uintptr_t)h->stream;
    update.retention_hours = 1;
    send_frame(fd, FRAME_STREAM_UPDATE, 1, &update, NULL, 0);
    expect_error(h, fd, "retention of 1 hour", false, CODES(SLUICE_E_INVALID));
    update.retention_hours = 0;
    update.limits = (Sluice__StreamUpdate__Limits)9;
    send_frame(fd, FRAME_STREAM_UPDATE, 1, &update, NULL, 0);
    expect_error(h, fd, "limits of kind 9", false, CODES(SLUICE_E_INVALID, SLUICE_E_NOT_SUPPORTED));
    update.name = (char *)(uintptr_t) "no-such-stream";
    update.limits = SLUICE__STREAM_UPDATE__LIMITS__OFF;
    send_frame(fd, FRAME_STREAM_UPDATE, 1, &update, NULL, 0);
    expect_error(h, fd, "an update of nothing", false, CODES(SLUICE_E_NOT_FOUND));
    Sluice__StreamDelete gone = SLUICE__STREAM_DELETE__INIT;
    gone.name = (char *)(uintptr_t) "no-such-stream";
    send_frame(fd, FRAME_STREAM_DELETE, 1, &gone, NULL, 0);
    expect_error(h, fd, "deleting nothing", false, CODES(SLUICE_E_NOT_FOUND));
    gone.name = (char *)(uintptr_t)h->stream;
    gone.account = (char *)(uintptr_t) "999999999999";
    send_frame(fd, FRAME_STREAM_DELETE, 1, &gone, NULL, 0);
    expect_error(h, fd, "deleting another account's", false, CODES(SLUICE_E_NOT_FOUND));

    for (int kind = 0; kind < 6; kind++) {
        Sluice__NodeChange change = SLUICE__NODE_CHANGE__INIT;
        change.kind = (Sluice__NodeChange__Kind)kind;
        change.node = kind == SLUICE__NODE_CHANGE__KIND__ADD ? 0 : 4242;
        change.address = (char *)(uintptr_t) "not an address";
        send_frame(fd, FRAME_NODE_CHANGE, 1, &change, NULL, 0);
        expect_error(h, fd, "a change of a node that is none", false, CODES(SLUICE_E_INVALID, SLUICE_E_NOT_FOUND, SLUICE_E_NOT_SUPPORTED, SLUICE_E_PROTOCOL));
    }
    Sluice__Transfer transfer = SLUICE__TRANSFER__INIT;
    transfer.stream_id = id_of(h);
    transfer.to_node = 4242;
    send_frame(fd, FRAME_TRANSFER, 1, &transfer, NULL, 0);
    expect_error(h, fd, "a transfer to nobody", false, CODES(SLUICE_E_INVALID, SLUICE_E_NOT_FOUND));
    transfer.shard = 4242;
    send_frame(fd, FRAME_TRANSFER, 1, &transfer, NULL, 0);
    expect_error(h, fd, "a transfer of no shard", false, CODES(SLUICE_E_NOT_FOUND, SLUICE_E_INVALID));
    close(fd);
}

/* A change of the stream's tags or policy that must be refused. */
static void resource(struct hostile *h, int fd, const char *what, const char *key, const char *value, size_t times, const char *policy)
{
    Sluice__ResourceChange m = SLUICE__RESOURCE_CHANGE__INIT;
    Sluice__Tag tag = SLUICE__TAG__INIT;
    tag.key = (char *)(uintptr_t)key;
    tag.value = (char *)(uintptr_t)value;
    Sluice__Tag **list = xcalloc(times + 1, sizeof *list);
    for (size_t i = 0; i < times; i++) {
        list[i] = &tag;
    }
    m.stream = (char *)(uintptr_t)h->stream;
    m.n_tags = times;
    m.tags = list;
    m.policy = (char *)(uintptr_t)policy;
    send_frame(fd, FRAME_RESOURCE_CHANGE, 1, &m, NULL, 0);
    expect_error(h, fd, what, false, CODES(SLUICE_E_INVALID, SLUICE_E_LIMIT, SLUICE_E_PROTOCOL));
    free(list);
}

static void bad_resources(struct hostile *h)
{
    int fd = dial_client(h->endpoint);
    char *text = xmalloc(100001);
    memset(text, 't', 100000);
    text[100000] = '\0';
    resource(h, fd, "a tag's key of 100000 bytes", text, "", 1, "");
    resource(h, fd, "a tag's value of 100000 bytes", "k", text, 1, "");
    resource(h, fd, "5000 tags", "k", "v", 5000, "");
    resource(h, fd, "the same tag twice", "k", "v", 2, "");
    static const char *const keys[] = {"", "a\xff", "\xed\xa0\x80", "\xc0\xaf", "aws:x", "a\nb!", "%s%n;", "\xf0\x9f\x98\x80"};
    for (size_t i = 0; i < ARRAY_LEN(keys); i++) {
        resource(h, fd, "a bad key", keys[i], "", 1, "");
    }
    memset(text, '[', 100000);
    resource(h, fd, "a policy of 100000 brackets", "k", "v", 1, text);
    text[20000] = '\0';
    resource(h, fd, "a policy of 20000 brackets", "k", "v", 1, text);
    resource(h, fd, "a policy that is no JSON", "k", "v", 1, "{\"a\":\xff}");
    free(text);
    Sluice__ConsumerRegister consumer = SLUICE__CONSUMER_REGISTER__INIT;
    consumer.stream = (char *)(uintptr_t)h->stream;
    static const char *const names[] = {"", "a b", "../x", "\xc3\xa4", "a\xff"};
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        consumer.name = (char *)(uintptr_t)names[i];
        send_frame(fd, FRAME_CONSUMER_REGISTER, 1, &consumer, NULL, 0);
        expect_error(h, fd, "a bad consumer", false, CODES(SLUICE_E_INVALID));
    }
    Sluice__StreamUpdate update = SLUICE__STREAM_UPDATE__INIT;
    update.name = (char *)(uintptr_t)h->stream;
    update.record_max = UINT32_MAX;
    send_frame(fd, FRAME_STREAM_UPDATE, 1, &update, NULL, 0);
    expect_error(h, fd, "records of 4 GiB", false, CODES(SLUICE_E_INVALID));
    update.record_max = 0;
    update.metrics_on = UINT32_MAX;
    send_frame(fd, FRAME_STREAM_UPDATE, 1, &update, NULL, 0);
    expect_error(h, fd, "all metrics that could be", false, CODES(SLUICE_E_INVALID));
    update.metrics_on = 0;
    update.mode = (Sluice__StreamUpdate__Mode)7;
    send_frame(fd, FRAME_STREAM_UPDATE, 1, &update, NULL, 0);
    expect_error(h, fd, "a mode of kind 7", false, CODES(SLUICE_E_INVALID));
    close(fd);
}

static void fetch(struct hostile *h, int fd, const char *what, const uint8_t *id, size_t id_len, uint32_t shard, uint64_t offset, const int *codes)
{
    Sluice__Fetch m = SLUICE__FETCH__INIT;
    m.stream_id = (ProtobufCBinaryData){.len = id_len, .data = (uint8_t *)(uintptr_t)id};
    m.shard = shard;
    m.offset = offset;
    m.max_bytes = UINT32_MAX;
    send_frame(fd, FRAME_FETCH, 1, &m, NULL, 0);
    expect_error(h, fd, what, false, codes);
}

static void position(struct hostile *h, int fd, const char *what, int kind, const char *sequence)
{
    Sluice__Position m = SLUICE__POSITION__INIT;
    m.stream_id = id_of(h);
    m.kind = (Sluice__Position__Kind)kind;
    m.sequence = (char *)(uintptr_t)sequence;
    send_frame(fd, FRAME_POSITION, 1, &m, NULL, 0);
    expect_error(h, fd, what, false, CODES(SLUICE_E_INVALID, SLUICE_E_PROTOCOL, SLUICE_E_NOT_FOUND, SLUICE_E_NOT_SUPPORTED));
}

static void bad_reads(struct hostile *h)
{
    int fd = dial_client(h->shards[0].leader);
    uint8_t strange[16];
    random_bytes(h, strange, sizeof strange);
    fetch(h, fd, "a fetch of an unknown stream", strange, 16, 0, 0, CODES(SLUICE_E_NOT_FOUND));
    fetch(h, fd, "a fetch with an id of 15 bytes", h->stream_id, 15, 0, 0, CODES(SLUICE_E_PROTOCOL, SLUICE_E_INVALID));
    fetch(h, fd, "a fetch without an id", h->stream_id, 0, 0, 0, CODES(SLUICE_E_PROTOCOL, SLUICE_E_INVALID));
    fetch(h, fd, "a fetch of an unknown shard", h->stream_id, 16, 4242, 0, CODES(SLUICE_E_NOT_FOUND));
    fetch(h, fd, "a fetch of shard 2^32-1", h->stream_id, 16, UINT32_MAX, 0, CODES(SLUICE_E_NOT_FOUND));
    fetch(h, fd, "a fetch beyond the end", h->stream_id, 16, 0, UINT64_MAX, CODES(SLUICE_E_AHEAD));
    fetch(h, fd, "a fetch just beyond the end", h->stream_id, 16, 0, h->shards[0].end + 1, CODES(SLUICE_E_AHEAD));
    position(h, fd, "a position of kind 99", 99, "");
    static const char *const sequences[] = {"", "0", "-1", "abc", "49590338271490256608559692538361571095921575989136588898x",
                                            "99999999999999999999999999999999999999999999999999999999999", "1e9", " 1", "%n",
                                            "49590338271490256608559692538361571095921575989136588898"};
    for (size_t i = 0; i < ARRAY_LEN(sequences); i++) {
        position(h, fd, sequences[i], SLUICE__POSITION__KIND__AT_SEQUENCE, sequences[i]);
    }
    char *digits = xmalloc(50001);
    memset(digits, '7', 50000);
    digits[50000] = '\0';
    position(h, fd, "a sequence number of 50000 digits", SLUICE__POSITION__KIND__AFTER_SEQUENCE, digits);
    free(digits);
    Sluice__Resolve m = SLUICE__RESOLVE__INIT;
    m.stream_id = id_of(h);
    m.producer_id = (ProtobufCBinaryData){.len = 3, .data = h->stream_id};
    send_frame(fd, FRAME_RESOLVE, 1, &m, NULL, 0);
    expect_error(h, fd, "a producer id of 3 bytes", false, CODES(SLUICE_E_PROTOCOL, SLUICE_E_INVALID));
    m.producer_id.len = 16;
    m.shard = 4242;
    send_frame(fd, FRAME_RESOLVE, 1, &m, NULL, 0);
    expect_error(h, fd, "resolving in an unknown shard", false, CODES(SLUICE_E_NOT_FOUND));
    close(fd);

    /* Long polls whose clients go away, by thousands: each must be forgotten. */
    for (int round = 0; round < 20; round++) {
        fd = dial_client(h->shards[0].leader);
        for (int i = 0; i < 500; i++) {
            Sluice__Fetch f = SLUICE__FETCH__INIT;
            f.stream_id = id_of(h);
            f.offset = h->shards[0].end;
            f.wait_ms = UINT32_MAX;
            f.mode = (Sluice__ReadMode)(i % 3); /* the third does not exist */
            send_frame(fd, FRAME_FETCH, (uint64_t)i, &f, NULL, 0);
        }
        close(fd);
    }
}

const struct attack message_attacks[] = {
    {"unknown kinds", unknown_kinds},
    {"kinds of nodes", kinds_of_nodes},
    {"protobuf garbage", protobuf_garbage},
    {"empty messages", empty_messages},
    {"bad control requests", bad_control},
    {"bad tags, policies and consumers", bad_resources},
    {"bad reads", bad_reads},
    {NULL, NULL},
};
