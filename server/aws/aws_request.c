/* aws_request.c: a request's head, up to the point where its operation is known. */
#include "server/aws/aws_request.h"

#include <stdio.h>
#include <strings.h>

#include "proto/base.h"
#include "server/aws/base64.h"

static struct aws_text trimmed(struct aws_text t)
{
    while (t.n > 0 && (t.p[0] == ' ' || t.p[0] == '\t')) {
        t.p++;
        t.n--;
    }
    while (t.n > 0 && (t.p[t.n - 1] == ' ' || t.p[t.n - 1] == '\t')) {
        t.n--;
    }
    return t;
}

struct aws_text aws_request_header(const struct aws_request *r, const char *name)
{
    size_t n = strlen(name);
    for (unsigned i = 0; i < r->n_headers; i++) {
        if (r->headers[i].name.n == n && strncasecmp(r->headers[i].name.p, name, n) == 0) {
            return trimmed(r->headers[i].value);
        }
    }
    return (struct aws_text){NULL, 0};
}

const char *aws_content_type(enum aws_format format) { return format == AWS_JSON ? "application/x-amz-json-1.1" : "application/x-amz-cbor-1.1"; }

/* ---- fixed answers ---------------------------------------------------------------------------------------------------- */

#define XML_TYPE "text/xml"

static const struct aws_fixed denied = {
    403, XML_TYPE,
    "<AccessDeniedException>\n  <Message>Unable to determine service/operation name to be authorized</Message>\n</AccessDeniedException>\n"};
static const struct aws_fixed unknown_xml = {404, XML_TYPE, "<UnknownOperationException/>\n"};
static const struct aws_fixed plain_unknown = {404, "application/json",
                                               "{\"Output\":{\"__type\":\"com.amazon.coral.service#UnknownOperationException\"},\"Version\":\"1.0\"}"};
static const struct aws_fixed plain_unparsable = {400, "application/json",
                                                  "{\"Output\":{\"__type\":\"com.amazon.coral.service#SerializationException\"},\"Version\":\"1.0\"}"};

static void fixed(struct aws_front *f, const struct aws_fixed *answer)
{
    f->kind = AWS_FRONT_FIXED;
    f->fixed = *answer;
}

static void error(struct aws_front *f, enum aws_error e)
{
    f->kind = AWS_FRONT_ERROR;
    f->error = e;
}

/* Parameters behind a semicolon do not matter. */
static bool content_type_is(struct aws_text t, const char *type)
{
    const char *semicolon = t.n > 0 ? memchr(t.p, ';', t.n) : NULL;
    if (semicolon != NULL) {
        t.n = (size_t)(semicolon - t.p);
    }
    t = trimmed(t);
    return t.n == strlen(type) && strncasecmp(t.p, type, t.n) == 0;
}

void aws_front(const struct aws_request *r, struct aws_front *out)
{
    *out = (struct aws_front){.op = -1};
    if (aws_text_is(r->method, "OPTIONS") && aws_request_header(r, "origin").p != NULL) {
        out->kind = AWS_FRONT_CORS;
        return;
    }
    if (!aws_text_is(r->method, "POST")) {
        fixed(out, &denied);
        return;
    }
    struct aws_text type = aws_request_header(r, "content-type"), target = aws_request_header(r, "x-amz-target");
    bool json = content_type_is(type, "application/x-amz-json-1.1"), cbor = content_type_is(type, "application/x-amz-cbor-1.1");
    out->plain_json = content_type_is(type, "application/json");
    out->op = target.n > 0 ? aws_operation_find(target.p, target.n) : -1;
    if (r->body_n == 0) {
        out->format = json ? AWS_JSON : AWS_CBOR;
        error(out, out->op >= 0 ? AWS_E_SerializationException : AWS_E_UnknownOperationException);
    } else if (json || cbor || out->plain_json) {
        out->kind = AWS_FRONT_DECODE;
        out->format = cbor ? AWS_CBOR : AWS_JSON;
        out->op = out->plain_json ? -1 : out->op;
    } else {
        fixed(out, target.n > 0 && memchr(target.p, '.', target.n) != NULL ? &unknown_xml : &denied);
    }
}

void aws_front_unparsable(struct aws_front *f)
{
    if (f->plain_json) {
        fixed(f, &plain_unparsable);
    } else {
        error(f, AWS_E_SerializationException);
    }
}

void aws_front_unknown(struct aws_front *f)
{
    if (f->plain_json) {
        fixed(f, &plain_unknown);
    } else {
        error(f, AWS_E_UnknownOperationException);
    }
}

/* ---- headers of answers -------------------------------------------------------------------------------------------------- */

static unsigned header_add(struct aws_header *out, unsigned n, const char *name, struct aws_text value)
{
    if (value.p == NULL) {
        return n;
    }
    out[n] = (struct aws_header){{name, strlen(name)}, value};
    return n + 1;
}

static struct aws_text words(const char *text) { return (struct aws_text){text, strlen(text)}; }

unsigned aws_cors_headers(const struct aws_request *r, struct aws_header out[AWS_CORS_HEADERS_MAX])
{
    if (aws_request_header(r, "origin").p == NULL) {
        return 0;
    }
    unsigned n = header_add(out, 0, "Access-Control-Allow-Origin", words("*"));
    if (!aws_text_is(r->method, "OPTIONS")) {
        return header_add(out, n, "Access-Control-Expose-Headers",
                          words("x-amzn-RequestId,x-amzn-ErrorType,x-amz-request-id,x-amz-id-2,x-amzn-ErrorMessage,Date"));
    }
    n = header_add(out, n, "Access-Control-Allow-Headers", aws_request_header(r, "access-control-request-headers"));
    n = header_add(out, n, "Access-Control-Allow-Methods", aws_request_header(r, "access-control-request-method"));
    return header_add(out, n, "Access-Control-Max-Age", words("172800"));
}

void aws_request_id(char out[AWS_REQUEST_ID_SIZE], const uint8_t random[16])
{
    uint8_t b[16];
    memcpy(b, random, sizeof(b));
    b[6] = (uint8_t)((b[6] & 0x0f) | 0x40);
    b[8] = (uint8_t)((b[8] & 0x3f) | 0x80);
    snprintf(out, AWS_REQUEST_ID_SIZE, "%02x%02x%02x%02x-%02x%02x-%02x%02x-%02x%02x-%02x%02x%02x%02x%02x%02x", b[0], b[1], b[2], b[3], b[4], b[5], b[6], b[7], b[8],
             b[9], b[10], b[11], b[12], b[13], b[14], b[15]);
}

void aws_id_2(char out[AWS_ID_2_SIZE], const uint8_t random[AWS_ID_2_RANDOM])
{
    base64_encode(out, random, AWS_ID_2_RANDOM);
    out[AWS_ID_2_SIZE - 1] = '\0';
}
