/* kinesis_front.c: from a request to its operation, through AWS's order of checks (server/aws/README.md, "A request's way"). */
#include <stdlib.h>
#include <string.h>

#include "proto/base.h"
#include "server/aws/aws_signature.h"
#include "server/kinesis/kinesis_impl.h"
#include "server/node_impl.h"

/* The head as server/aws reads it, in the call's arena. False: no memory. */
static bool head_of(struct call *c, struct aws_request *out)
{
    const struct http_request *r = c->http;
    struct aws_header *headers = arena_alloc(&c->arena, (r->n_headers + 1) * sizeof *headers);
    if (headers == NULL) {
        return false;
    }
    for (unsigned i = 0; i < r->n_headers; i++) {
        headers[i] = (struct aws_header){{r->headers[i].name.p, r->headers[i].name.n}, {r->headers[i].value.p, r->headers[i].value.n}};
    }
    *out = (struct aws_request){.method = {r->method.p, r->method.n}, .target = {r->target.p, r->target.n}, .headers = headers, .n_headers = r->n_headers, .body_n = r->body_len};
    return true;
}

/* An answer that the head alone, or the wrong body, has brought. */
static void answer_front(struct call *c, const struct aws_front *f)
{
    c->format = f->format;
    switch (f->kind) {
    case AWS_FRONT_CORS:
        call_reply_fixed(c, 200, NULL, NULL);
        break;
    case AWS_FRONT_FIXED:
        call_reply_fixed(c, f->fixed.status, f->fixed.content_type, f->fixed.body);
        break;
    default:
        call_fail_text(c, f->error, NULL);
    }
}

static bool refuse(struct call *c, enum aws_error e, const char *message)
{
    c->k->metrics.signatures_refused_total++;
    call_fail_text(c, e, message);
    return false;
}

static bool verify(struct call *c, const struct aws_request *r, const struct aws_signature *s, const uint8_t body_sha256[AWS_SHA256], struct arena *arena)
{
    struct kinesis_key *key = kinesis_keys_find(c->k->keys, s->access_key);
    if (key == NULL) {
        return refuse(c, AWS_E_UnrecognizedClientException, "The security token included in the request is invalid.");
    }
    const char *region = c->k->lane->node->settings.region, *message;
    struct aws_verify_options o = {.now_s = (int64_t)(env_wall_ms(c->k->env) / 1000), .region = region, .service = "kinesis",
                                   .key = kinesis_key_signing(key, s->date, region), .body_sha256 = body_sha256};
    enum aws_error e = aws_signature_verify(r, s, arena, &o, &message);
    if (e != AWS_E_NONE) {
        return refuse(c, e, message);
    }
    memcpy(c->account, kinesis_key_account(key), 13);
    return true;
}

/* Whoever calls: an access key of the file with the right signature, or, without a file, anyone who gives a signature at all. False: answered. */
static bool authenticate(struct call *c, const struct aws_request *r, const uint8_t body_sha256[AWS_SHA256])
{
    struct arena arena;
    arena_init(&arena, AWS_SIGNATURE_MEMORY);
    struct aws_signature s;
    const char *message;
    enum aws_error e = aws_signature_parse(r, &arena, &s, &message);
    bool ok = e == AWS_E_NONE ? c->k->keys == NULL || verify(c, r, &s, body_sha256, &arena) : refuse(c, e, message);
    arena_deinit(&arena);
    return ok;
}

void kinesis_front(struct kinesis *k, struct http_request *r)
{
    struct call *c = call_new(k, r);
    struct aws_request head;
    struct aws_front front;
    if (!head_of(c, &head)) {
        call_reply_fixed(c, 503, NULL, NULL);
        return;
    }
    aws_front(&head, &front);
    if (front.kind != AWS_FRONT_DECODE) {
        answer_front(c, &front);
        return;
    }
    c->format = front.format;
    uint8_t body_sha256[AWS_SHA256] = {0};
    if (k->keys != NULL) {
        aws_sha256(body_sha256, r->body, r->body_len); /* decoding writes over the body */
    }
    const struct aws_operation *op = front.op >= 0 ? &aws_operations[front.op] : NULL;
    const char *message = NULL;
    enum aws_decoded decoded = aws_decode(front.format, op != NULL ? op->input : NULL, (void *)(uintptr_t)r->body, r->body_len, &c->arena, &c->input, &message);
    if (decoded == AWS_UNPARSABLE) {
        aws_front_unparsable(&front);
        answer_front(c, &front);
        return;
    }
    if (op == NULL) {
        aws_front_unknown(&front);
        answer_front(c, &front);
        return;
    }
    c->op = op;
    c->op_number = front.op;
    k->metrics.requests[front.op]++;
    if (!authenticate(c, &head, body_sha256)) {
        return;
    }
    switch (decoded) {
    case AWS_DECODED:
        kinesis_run(c);
        break;
    case AWS_WRONG_TYPE:
        call_fail_text(c, AWS_E_SerializationException, message);
        break;
    case AWS_INVALID:
        call_fail_text(c, AWS_E_ValidationException, message);
        break;
    default:
        call_fail_text(c, AWS_E_ValidationException, "1 validation error detected: the input has more entries than any operation takes");
    }
}
