/* Frames of the event stream, and the tokens that clients bring back. First byte: which. Whatever is sealed is opened again; what the fuzzer makes up is not. */
#include "fuzz.h"

#include "server/aws/aws_event.h"
#include "server/aws/aws_token.h"

static const uint8_t key[AWS_TOKEN_KEY] = "a key";

static void tokens(const uint8_t *data, size_t size)
{
    char message[AWS_TOKEN_MESSAGE_SIZE];
    struct aws_iterator it;
    uint8_t cursor[AWS_CURSOR_MAX];
    size_t n;
    uint8_t *copy = fuzz_copy(data, size);
    struct aws_text text = {(const char *)copy, size};
    sluice_assert(aws_iterator_open(text, key, 0, &it, message) == AWS_E_InvalidArgumentException);
    sluice_assert(aws_next_token_open(text, key, AWS_OP_ListShards, 0, cursor, &n, message) == AWS_E_InvalidArgumentException);
    free(copy);

    uint8_t random[AWS_TOKEN_RANDOM] = {0};
    memcpy(random, data, min_u64(size, sizeof(random)));
    char token[AWS_NEXT_TOKEN_SIZE];
    aws_next_token_seal(token, key, random, AWS_OP_ListShards, 5, data, min_u64(size, AWS_CURSOR_MAX));
    text = (struct aws_text){token, strlen(token)};
    sluice_assert(aws_next_token_open(text, key, AWS_OP_ListShards, 5, cursor, &n, message) == AWS_E_NONE);
    sluice_assert(n == min_u64(size, AWS_CURSOR_MAX) && memcmp(cursor, data, n) == 0);
    token[size % text.n] ^= 1;
    sluice_assert(aws_next_token_open(text, key, AWS_OP_ListShards, 5, cursor, &n, message) == AWS_E_InvalidArgumentException);
}

static void frames(const uint8_t *data, size_t size)
{
    uint8_t *copy = fuzz_copy(data, size);
    struct aws_event_view v;
    ssize_t n = aws_event_read(copy, size, &v);
    sluice_assert(n <= (ssize_t)size);
    if (n > 0) {
        sluice_assert(v.payload >= copy && v.payload + v.payload_n + AWS_EVENT_TAIL == copy + n);
    }
    free(copy);

    /* Checksums are hard to guess: the same bytes as a payload, and damaged. */
    struct iovec payload = {(void *)(uintptr_t)data, size};
    struct aws_event e;
    aws_event_seal(&e, size & 1 ? AWS_CBOR : AWS_JSON, "SubscribeToShardEvent", &payload, 1);
    size_t total = e.head_n + size + sizeof(e.tail);
    uint8_t *frame = malloc(total);
    memcpy(frame, e.head, e.head_n);
    memcpy(frame + e.head_n, data, size);
    memcpy(frame + e.head_n + size, e.tail, sizeof(e.tail));
    sluice_assert(aws_event_read(frame, total, &v) == (ssize_t)total && v.payload_n == size && memcmp(v.payload, data, size) == 0);
    sluice_assert(aws_event_read(frame, total - 1, &v) == 0);
    frame[(size * 7 + (size > 0 ? data[0] : 0)) % total] ^= 0x20;
    sluice_assert(aws_event_read(frame, total, &v) <= 0);
    free(frame);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0) {
        return 0;
    }
    if (data[0] & 1) {
        tokens(data + 1, size - 1);
    } else {
        frames(data + 1, size - 1);
    }
    return 0;
}
