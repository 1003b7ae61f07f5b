/* kinesis_answer.c: answers of calls: their headers, their bodies, errors. */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proto/base.h"
#include "server/kinesis/kinesis_impl.h"

enum { MESSAGE_MAX = 1024 };

static struct http_header header(const char *name, const char *p, size_t n) { return (struct http_header){http_view_of(name), {p, n}}; }

/* The request's head as server/aws reads it: those of its headers that matter here. */
static unsigned cors(struct call *c, struct http_header *out)
{
    const struct http_view *origin = http_header(c->http, "origin");
    if (origin == NULL) {
        return 0;
    }
    static const char *const names[] = {"origin", "access-control-request-headers", "access-control-request-method"};
    struct aws_header headers[ARRAY_LEN(names)], found[AWS_CORS_HEADERS_MAX];
    struct aws_request r = {.method = {c->http->method.p, c->http->method.n}, .headers = headers};
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        const struct http_view *v = http_header(c->http, names[i]);
        if (v != NULL) {
            headers[r.n_headers++] = (struct aws_header){{names[i], strlen(names[i])}, {v->p, v->n}};
        }
    }
    unsigned n = aws_cors_headers(&r, found);
    unsigned taken = 0;
    for (unsigned i = 0; i < n; i++) {
        if (found[i].value.n <= MESSAGE_MAX) { /* echoed ones are the client's: longer ones do not come back */
            out[taken++] = (struct http_header){{found[i].name.p, found[i].name.n}, {found[i].value.p, found[i].value.n}};
        }
    }
    return taken;
}

unsigned call_headers(struct call *c, const char *content_type, struct http_header out[CALL_HEADERS_MAX])
{
    unsigned n = 0;
    out[n++] = header("x-amzn-RequestId", c->request_id, AWS_REQUEST_ID_SIZE - 1);
    char *id_2 = http_view_is(c->http->method, "OPTIONS") ? NULL : arena_alloc(&c->arena, AWS_ID_2_SIZE);
    if (id_2 != NULL) {
        uint8_t random[AWS_ID_2_RANDOM];
        env_random(c->k->env, random, sizeof random);
        aws_id_2(id_2, random);
        out[n++] = header("x-amz-id-2", id_2, AWS_ID_2_SIZE - 1);
    }
    if (content_type != NULL) {
        out[n++] = header("Content-Type", content_type, strlen(content_type));
    }
    n += cors(c, out + n);
    sluice_assert(n <= CALL_HEADERS_MAX);
    return n;
}

/* What keeps a body until it has left. */
struct leaving { struct call *call; void (*release)(void *arg); void *arg; };

static void left(void *arg)
{
    struct leaving *l = arg;
    struct call *c = l->call;
    if (l->release != NULL) {
        l->release(l->arg);
    }
    call_release(c);
}

static void ended(struct call *c)
{
    sluice_assert(!c->answered && !c->gone);
    c->answered = true;
    c->http = NULL;
    c->input = NULL;
    c->k->metrics.calls--;
    call_release(c);
}

void call_streamed(struct call *c) { ended(c); }

static void answer(struct call *c, unsigned status, const char *type, const struct http_bytes *body)
{
    struct http_header headers[CALL_HEADERS_MAX];
    struct http_answer_head head = {.status = (int)status, .headers = headers, .n_headers = call_headers(c, type, headers)};
    http_answer(c->http, &head, body);
    ended(c);
}

/* The writer's bytes, which hold the call until they have left. */
static void answer_written(struct call *c, unsigned status, void (*release)(void *arg), void *arg)
{
    const struct iovec *iov;
    unsigned n;
    size_t bytes;
    struct leaving *l = arena_alloc(&c->arena, sizeof *l);
    if (l == NULL || aws_writer_end(&c->writer, &iov, &n, &bytes) != 0) {
        answer(c, 500, NULL, NULL);
        if (release != NULL) {
            release(arg);
        }
        return;
    }
    *l = (struct leaving){.call = c, .release = release, .arg = arg};
    call_hold(c);
    answer(c, status, aws_content_type(c->format), &(struct http_bytes){.iov = iov, .n_iov = n, .release = left, .arg = l});
}

struct aws_writer *call_writer(struct call *c)
{
    if (c->writing) {
        aws_writer_deinit(&c->writer);
    }
    c->writing = true;
    aws_writer_init(&c->writer, c->format, CALL_BYTES_MAX, &c->k->blocks);
    aws_write_object(&c->writer);
    return &c->writer;
}

void call_reply_referring(struct call *c, void (*release)(void *arg), void *arg)
{
    sluice_assert(c->writing);
    if (c->gone) {
        if (release != NULL) {
            release(arg);
        }
        return;
    }
    aws_write_object_end(&c->writer);
    answer_written(c, 200, release, arg);
}

void call_reply(struct call *c) { call_reply_referring(c, NULL, NULL); }

void call_reply_empty(struct call *c)
{
    if (!c->gone) {
        answer(c, 200, aws_content_type(c->format), NULL);
    }
}

void call_reply_fixed(struct call *c, unsigned status, const char *type, const char *body)
{
    struct iovec iov = {.iov_base = (void *)(uintptr_t)body, .iov_len = body != NULL ? strlen(body) : 0};
    answer(c, status, type, body != NULL ? &(struct http_bytes){.iov = &iov, .n_iov = 1} : NULL);
}

/* ---- errors -------------------------------------------------------------------------------------------------------------------- */

void call_fail_text(struct call *c, enum aws_error e, const char *message)
{
    if (c->gone) {
        return;
    }
    c->k->metrics.errors[e]++;
    if (c->writing) {
        aws_writer_deinit(&c->writer);
    }
    c->writing = true;
    aws_writer_init(&c->writer, c->format, CALL_BYTES_MAX, &c->k->blocks);
    aws_write_error(&c->writer, e, message);
    answer_written(c, aws_error_status(e), NULL, NULL);
}

void call_fail(struct call *c, enum aws_error e, const char *format, ...)
{
    char text[MESSAGE_MAX];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    call_fail_text(c, e, text);
}

void call_native_error(struct call *c, int code, const char *message, struct aws_text stream)
{
    const char *text = message != NULL && message[0] != '\0' ? message : sluice_error_text(code);
    switch (code) {
    case SLUICE_E_INVALID:
    case SLUICE_E_TOO_LARGE:
        call_fail_text(c, AWS_E_InvalidArgumentException, text);
        break;
    case SLUICE_E_NOT_FOUND:
        if (stream.n > 0) {
            call_no_stream(c, stream);
        } else {
            call_fail_text(c, AWS_E_ResourceNotFoundException, text);
        }
        break;
    case SLUICE_E_EXISTS:
    case SLUICE_E_IN_USE:
    case SLUICE_E_NOT_ACTIVE:
    case SLUICE_E_CONFLICT:
        call_fail_text(c, AWS_E_ResourceInUseException, text);
        break;
    case SLUICE_E_LIMIT:
        call_fail_text(c, AWS_E_LimitExceededException, text);
        break;
    case SLUICE_E_REFUSED:
        call_fail_text(c, AWS_E_AccessDeniedException, text);
        break;
    case SLUICE_E_THROTTLED:
        call_fail_text(c, AWS_E_ProvisionedThroughputExceededException, text);
        break;
    case SLUICE_E_NOT_LEADER:
    case SLUICE_E_NOT_READY:
    case SLUICE_E_BUSY:
    case SLUICE_E_NO_SPACE:
    case SLUICE_E_STALE:
    case SLUICE_E_SHUTTING_DOWN:
    case SLUICE_E_NO_CONTROLLER:
    case SLUICE_E_NO_CONNECTION:
    case SLUICE_E_MEMORY:
        call_fail_text(c, AWS_E_ServiceUnavailable, text); /* surely nothing happened; SDKs try again */
        break;
    default:
        call_fail_text(c, AWS_E_InternalFailure, text);
    }
}
