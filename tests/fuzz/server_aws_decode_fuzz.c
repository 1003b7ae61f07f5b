/* Bodies of requests in JSON and CBOR. First byte: the operation and the format. Whatever is decoded is checked against its shape once more. */
#include "fuzz.h"

#include "server/aws/aws_decode.h"
#include "server/aws/utf8.h"

static void walk(const struct aws_value *v, const uint8_t *from, const uint8_t *to)
{
    if (v->shape == NULL) {
        return;
    }
    switch (v->shape->type) {
    case AWS_STRING:
        sluice_assert(utf8_valid(v->text.p, v->text.n)); /* falls through */
    case AWS_BLOB:
        sluice_assert((const uint8_t *)v->text.p >= from && (const uint8_t *)v->text.p + v->text.n <= to);
        break;
    case AWS_LIST:
    case AWS_STRUCTURE:
    case AWS_MAP:
        for (uint32_t i = 0; i < v->list.n * (v->shape->type == AWS_MAP ? 2 : 1); i++) {
            walk(&v->list.v[i], from, to);
        }
        break;
    default: break;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0) {
        return 0;
    }
    unsigned op = (data[0] >> 1) % (AWS_OPERATION_COUNT + 1);
    enum aws_format format = data[0] & 1 ? AWS_CBOR : AWS_JSON;
    uint8_t *body = fuzz_copy(data + 1, size - 1);
    struct arena arena;
    arena_init(&arena, AWS_DECODE_MEMORY);
    const struct aws_value *value;
    const char *message;
    enum aws_decoded outcome = aws_decode(format, op < AWS_OPERATION_COUNT ? aws_operations[op].input : NULL, body, size - 1, &arena, &value, &message);
    sluice_assert((outcome == AWS_WRONG_TYPE || outcome == AWS_INVALID) == (message != NULL));
    sluice_assert(message == NULL || utf8_valid(message, strlen(message)));
    sluice_assert(arena.total <= arena.limit);
    if (value != NULL) {
        sluice_assert(outcome == AWS_DECODED && aws_validate(value, &arena) == NULL);
        walk(value, body, body + size - 1);
    }
    arena_deinit(&arena);
    free(body);
    return 0;
}
