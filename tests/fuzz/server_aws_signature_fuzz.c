/* A request's head with its signature. First byte: switches; then lines, the first one the method, the second one the target, the others headers. What is signed
 * by the same key afterwards is accepted, and is not with another body. */
#include "fuzz.h"

#include "server/aws/aws_ids.h"
#include "server/aws/aws_signature.h"
#include "server/aws/aws_time.h"

enum { HEADERS = 24 };

static struct aws_text line_cut(const uint8_t **p, const uint8_t *end)
{
    const uint8_t *stop = *p < end ? memchr(*p, '\n', (size_t)(end - *p)) : NULL;
    stop = stop != NULL ? stop : end;
    struct aws_text line = {(const char *)*p, (size_t)(stop - *p)};
    *p = stop < end ? stop + 1 : end;
    return line;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0) {
        return 0;
    }
    uint8_t *copy = fuzz_copy(data + 1, size - 1);
    const uint8_t *p = copy, *end = copy + size - 1;
    struct aws_header headers[HEADERS];
    struct aws_request r = {.headers = headers, .body_n = data[0] & 1};
    r.method = line_cut(&p, end);
    r.target = line_cut(&p, end);
    while (p < end && r.n_headers < HEADERS) {
        struct aws_text line = line_cut(&p, end);
        const char *colon = line.n > 0 ? memchr(line.p, ':', line.n) : NULL;
        size_t n = colon != NULL ? (size_t)(colon - line.p) : line.n;
        headers[r.n_headers++] = (struct aws_header){{line.p, n}, {colon != NULL ? colon + 1 : line.p + n, colon != NULL ? line.n - n - 1 : 0}};
    }
    struct aws_front front;
    aws_front(&r, &front);
    struct aws_header cors[AWS_CORS_HEADERS_MAX];
    aws_cors_headers(&r, cors);

    struct arena arena;
    arena_init(&arena, 4 * AWS_SIGNATURE_MEMORY);
    struct aws_signature s;
    const char *message;
    enum aws_error e = aws_signature_parse(&r, &arena, &s, &message);
    sluice_assert((e == AWS_E_NONE) == (message == NULL));
    int64_t signed_s;
    if (e == AWS_E_NONE && aws_time_parse(s.timestamp, &signed_s)) {
        uint8_t key[AWS_SHA256] = {1}, hash[AWS_SHA256] = {2};
        char region[65] = "", basic[AWS_TIME_BASIC_SIZE], made[2 * AWS_SHA256 + 1];
        memcpy(region, s.region.p != NULL ? s.region.p : "", min_u64(s.region.n, 64));
        struct aws_verify_options o = {.now_s = signed_s, .region = region, .service = "kinesis", .key = key, .body_sha256 = hash, .unsigned_payload = data[0] & 2,
                                       .streaming_payload = data[0] & 4};
        enum aws_error verified = aws_signature_verify(&r, &s, &arena, &o, &message);
        sluice_assert(verified != AWS_E_NONE); /* nobody guesses a signature */
        aws_time_basic(basic, signed_s);
        static const char hex[] = "0200000000000000000000000000000000000000000000000000000000000000";
        if (aws_signature_compute(&r, &s, &arena, (struct aws_text){basic, 16}, key, (struct aws_text){hex, 64}, made)) {
            /* A presigned request's signature stands outside of what it signs; a header's too, unless authorization is signed itself. */
            s.signature = (struct aws_text){made, 64};
            o.unsigned_payload = o.streaming_payload = false;
            verified = aws_signature_verify(&r, &s, &arena, &o, &message);
            sluice_assert(verified == AWS_E_NONE || strncmp(message, "The request signature we calculated", 35) != 0);
            hash[0] ^= 1;
            sluice_assert(aws_signature_verify(&r, &s, &arena, &o, &message) != AWS_E_NONE);
        }
    }
    struct aws_arn arn;
    for (unsigned i = 0; i < r.n_headers; i++) {
        if (aws_arn_parse(headers[i].value, &arn) && arn.region.n <= 64) {
            char text[AWS_ARN_SIZE];
            struct aws_arn again;
            aws_arn_format(text, &arn);
            sluice_assert(aws_arn_parse((struct aws_text){text, strlen(text)}, &again) && again.consumer_created_s == arn.consumer_created_s);
        }
        uint32_t shard;
        aws_shard_id_parse(headers[i].value, &shard);
    }
    arena_deinit(&arena);
    free(copy);
    return 0;
}
