/* The Kinesis endpoint of a simulated node, whose clock can be played forward: what names nothing, iterators that expire, and the 5 minutes of SubscribeToShard. */
#include "server_cluster_fixture.h"

/* One HTTP/1.1 request on a connection of its own, and all that came back. */
struct call {
    struct world *w;
    struct env_conn conn;
    struct env_write write;
    struct iovec iov;
    char request[4096], buffer[4096], answer[1 << 16];
    size_t n;
    bool ended;
};

static void written(struct env_write *w) { (void)w; }

static void connected(struct env_conn *conn, int status)
{
    struct call *c = conn->user;
    CHECK(status == 0);
    env_conn_read(conn, true);
    c->write.iov = &c->iov;
    c->write.n_iov = 1;
    env_conn_write(conn, &c->write, written);
}

static size_t buffer(struct env_conn *conn, void **base)
{
    struct call *c = conn->user;
    *base = c->buffer;
    return sizeof c->buffer;
}

static void received(struct env_conn *conn, void *data, ssize_t n)
{
    struct call *c = conn->user;
    if (n <= 0) {
        c->ended = true;
        env_conn_close(conn);
        return;
    }
    CHECK(c->n + (size_t)n < sizeof c->answer);
    memcpy(c->answer + c->n, data, (size_t)n);
    c->n += (size_t)n;
}

static void closed(struct env_conn *conn) { (void)conn; }

static struct call *call_begin(struct world *w, unsigned node, const char *operation, const char *body)
{
    static const struct env_conn_ops ops = {.connected = connected, .buffer = buffer, .read = received, .closed = closed};
    struct call *c = xcalloc(1, sizeof *c);
    c->w = w;
    c->conn.ops = &ops;
    c->conn.user = c;
    int n = snprintf(c->request, sizeof c->request,
                     "POST / HTTP/1.1\r\nHost: n1\r\nConnection: close\r\nContent-Type: application/x-amz-json-1.1\r\nX-Amz-Target: Kinesis_20131202.%s\r\nX-Amz-Date: 20260101T000000Z\r\n"
                     "Authorization: AWS4-HMAC-SHA256 Credential=any/20260101/us-east-1/kinesis/aws4_request, SignedHeaders=host;x-amz-date, Signature=%064d\r\n"
                     "Content-Length: %zu\r\n\r\n%s", operation, 0, strlen(body), body);
    CHECK(n > 0 && (size_t)n < sizeof c->request);
    c->iov = (struct iovec){.iov_base = c->request, .iov_len = (size_t)n};
    char host[8];
    snprintf(host, sizeof host, "n%u", node + 1);
    CHECK(env_connect(w->env, &c->conn, host, 4567) == 0);
    return c;
}

/* The body of the answer; its status must be this one. */
static const char *call_at(struct world *w, unsigned node, unsigned status, const char *operation, const char *body)
{
    struct call *c = call_begin(w, node, operation, body);
    for (unsigned i = 0; i < 10000 && !c->ended; i++) {
        run_ms(w, 1);
    }
    CHECK(c->ended);
    char head[32];
    snprintf(head, sizeof head, "HTTP/1.1 %u ", status);
    const char *empty_line = strstr(c->answer, "\r\n\r\n");
    if (strncmp(c->answer, head, strlen(head)) != 0 || empty_line == NULL) {
        fprintf(stderr, "%s: %s\n", operation, c->answer);
    }
    CHECK(strncmp(c->answer, head, strlen(head)) == 0 && empty_line != NULL);
    return empty_line + 4;
}

static const char *call(struct world *w, unsigned status, const char *operation, const char *body) { return call_at(w, 0, status, operation, body); }

/* The text of a member of a flat answer. */
static void member(const char *body, const char *name, char out[1024])
{
    char key[64];
    snprintf(key, sizeof key, "\"%s\":\"", name);
    const char *at = strstr(body, key);
    CHECK(at != NULL);
    at += strlen(key);
    size_t n = strcspn(at, "\"");
    CHECK(n < 1024);
    memcpy(out, at, n);
    out[n] = '\0';
}

static void endpoint(struct settings *s, unsigned node) { snprintf(s->kinesis, sizeof s->kinesis, "n%u:4567", node + 1); }

static void open_alone(struct world *w)
{
    w->tune = endpoint;
    world_open(w, 1);
    create_stream(w, 0, "s", 1);
}

STORY(shards_that_are_none)
{
    open_alone(w);
    static const char *const nonsense[] = {"nonsense", "shardId-", "shardId-x", "shardId-1x", "shardId-2147483648", "-1-2"};
    for (unsigned i = 0; i < ARRAY_LEN(nonsense); i++) {
        char body[256], words[256];
        snprintf(body, sizeof body, "{\"StreamName\":\"s\",\"ShardId\":\"%s\",\"ShardIteratorType\":\"LATEST\"}", nonsense[i]);
        snprintf(words, sizeof words, "Could not find shard %s in stream s under account 000000000000.\"", nonsense[i]);
        const char *answer = call(w, 400, "GetShardIterator", body);
        CHECK(strstr(answer, "ResourceNotFoundException") != NULL && strstr(answer, words) != NULL);
    }
    const char *answer = call(w, 400, "GetShardIterator", "{\"StreamName\":\"s\",\"ShardId\":\"9\",\"ShardIteratorType\":\"LATEST\"}");
    CHECK(strstr(answer, "Shard shardId-000000000009 in stream s under account 000000000000 does not exist\"") != NULL);
    call(w, 200, "GetShardIterator", "{\"StreamName\":\"s\",\"ShardId\":\"0\",\"ShardIteratorType\":\"LATEST\"}");
}

static void get(struct world *w, unsigned status, const char *iterator, char out[2048])
{
    char body[1200];
    snprintf(body, sizeof body, "{\"ShardIterator\":\"%s\"}", iterator);
    snprintf(out, 2048, "%s", call(w, status, "GetRecords", body));
}

/* Good for five minutes, and each call gives one that is good for five more. */
STORY(iterators_expire)
{
    open_alone(w);
    char first[1024], next[1024], answer[2048];
    member(call(w, 200, "GetShardIterator", "{\"StreamName\":\"s\",\"ShardId\":\"0\",\"ShardIteratorType\":\"TRIM_HORIZON\"}"), "ShardIterator", first);
    run_ms(w, 295000);
    get(w, 200, first, answer);
    member(answer, "NextShardIterator", next);
    run_ms(w, 10000);
    get(w, 400, first, answer);
    CHECK(strstr(answer, "ExpiredIteratorException") != NULL && strstr(answer, "Iterator expired. The iterator was created at time ") != NULL &&
          strstr(answer, "further in the future than the tolerated delay of 300000 milliseconds.") != NULL);
    get(w, 200, next, answer);
    run_ms(w, 305000);
    get(w, 400, next, answer);
    CHECK(strstr(answer, "ExpiredIteratorException") != NULL);
}

static unsigned count(const struct call *c, const char *words)
{
    unsigned n = 0;
    for (size_t i = 0; i + strlen(words) <= c->n; i++) {
        n += memcmp(c->answer + i, words, strlen(words)) == 0;
    }
    return n;
}

/* An idle subscription has an event at least every 5 s and a clean end after 5 minutes; the next one goes on at its last number. */
STORY(subscriptions_end)
{
    open_alone(w);
    char arn[1024], body[2400];
    member(call(w, 200, "RegisterStreamConsumer", "{\"StreamARN\":\"arn:aws:kinesis:us-east-1:000000000000:stream/s\",\"ConsumerName\":\"c\"}"), "ConsumerARN", arn);
    run_ms(w, 1000);
    snprintf(body, sizeof body, "{\"ConsumerARN\":\"%s\",\"ShardId\":\"shardId-000000000000\",\"StartingPosition\":{\"Type\":\"LATEST\"}}", arn);
    struct call *c = call_begin(w, 0, "SubscribeToShard", body);
    uint64_t began = now_ms(w);
    unsigned events = 0;
    while (!c->ended && now_ms(w) - began < 320000) {
        run_ms(w, 5000);
        unsigned seen = count(c, "SubscribeToShardEvent");
        CHECK(seen > events || c->ended || count(c, "\r\n0\r\n\r\n") == 1);
        events = seen;
    }
    uint64_t lasted = now_ms(w) - began;
    CHECK(c->ended && lasted >= 300000 && lasted <= 306000);
    CHECK(strncmp(c->answer, "HTTP/1.1 200 ", 13) == 0 && count(c, "initial-response") == 1 && count(c, "exception") == 0 && count(c, "\r\n0\r\n\r\n") == 1);
    char number[1024] = "";
    for (size_t i = 0; i + 40 < c->n; i++) {
        if (memcmp(c->answer + i, "\"ContinuationSequenceNumber\":\"", 30) == 0) {
            member(c->answer + i, "ContinuationSequenceNumber", number);
        }
    }
    put_some(w, 1);
    snprintf(body, sizeof body, "{\"ConsumerARN\":\"%s\",\"ShardId\":\"shardId-000000000000\",\"StartingPosition\":{\"Type\":\"AFTER_SEQUENCE_NUMBER\",\"SequenceNumber\":\"%s\"}}", arn, number);
    c = call_begin(w, 0, "SubscribeToShard", body);
    run_ms(w, 500);
    CHECK(count(c, "\"PartitionKey\":\"key\"") == 1);
}

/* What was changed through one node is what the next change, through another one, begins with. */
STORY(metrics_over_nodes)
{
    w->tune = endpoint;
    world_open(w, 3);
    create_stream(w, 0, "s", 3);
    run_ms(w, 1000);
    for (unsigned i = 0; i < 30; i++) {
        const char *answer = call_at(w, i % 3, 200, "EnableEnhancedMonitoring", "{\"StreamName\":\"s\",\"ShardLevelMetrics\":[\"IncomingBytes\"]}");
        CHECK(strstr(answer, "\"CurrentShardLevelMetrics\":[]") != NULL && strstr(answer, "\"DesiredShardLevelMetrics\":[\"IncomingBytes\"]") != NULL);
        answer = call_at(w, (i + 1) % 3, 200, "DisableEnhancedMonitoring", "{\"StreamName\":\"s\",\"ShardLevelMetrics\":[\"ALL\"]}");
        CHECK(strstr(answer, "\"CurrentShardLevelMetrics\":[\"IncomingBytes\"]") != NULL && strstr(answer, "\"DesiredShardLevelMetrics\":[]") != NULL);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(shards_that_are_none), cmocka_unit_test(iterators_expire), cmocka_unit_test(subscriptions_end), cmocka_unit_test(metrics_over_nodes)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
