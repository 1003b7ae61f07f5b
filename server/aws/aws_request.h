/* aws_request.h: a request's head as the HTTP side hands it over, and what becomes of it before its operation is known. */
#ifndef SLUICE_AWS_REQUEST_H
#define SLUICE_AWS_REQUEST_H

#include "server/aws/aws_error.h"

struct aws_header {
    struct aws_text name; /* any case; from HTTP/2 `:authority` comes as `host` */
    struct aws_text value;
};

struct aws_request {
    struct aws_text method;
    struct aws_text target; /* path and query as received, percent-encoded */
    const struct aws_header *headers;
    unsigned n_headers;
    size_t body_n; /* bytes of the body */
};

/* The value of the first header of that name (given in lower case), without blanks around it; {NULL, 0}: none. */
struct aws_text aws_request_header(const struct aws_request *r, const char *name);

/* ---- the order of checks ------------------------------------------------------------------------------------------------
 * CORS and method, body, content type; the body is well-formed; target; authentication; types; bounds (aws_decode.h). aws_front() does what comes before
 * the body is read. With AWS_FRONT_DECODE the caller hashes the body, decodes it (`op`, or NULL's shape if op is -1), and answers
 *   AWS_UNPARSABLE: aws_front_unparsable(), then op -1: aws_front_unknown(), then what aws_signature_parse() and _verify() tell, then AWS_WRONG_TYPE, AWS_INVALID. */

/* An answer of fixed text. content_type NULL: none, and no body. */
struct aws_fixed {
    unsigned status;
    const char *content_type;
    const char *body;
};

enum aws_front_kind {
    AWS_FRONT_CORS,  /* OPTIONS with Origin: 200, no body, no x-amz-id-2; the headers of aws_cors_headers() */
    AWS_FRONT_FIXED, /* .fixed */
    AWS_FRONT_ERROR, /* .error without a message, written in .format */
    AWS_FRONT_DECODE /* .format, .op */
};

struct aws_front {
    enum aws_front_kind kind;
    enum aws_format format;
    int op;    /* of aws_operations, -1: none */
    bool plain_json; /* application/json, which AWS decodes and then does not know what to do with */
    struct aws_fixed fixed;
    enum aws_error error;
};

void aws_front(const struct aws_request *r, struct aws_front *out);
/* The body was not well-formed; the operation is unknown: turns a front of kind DECODE into FIXED or ERROR. */
void aws_front_unparsable(struct aws_front *f);
void aws_front_unknown(struct aws_front *f);

const char *aws_content_type(enum aws_format format);

/* The headers that a request with Origin gets, name and value; the echoed ones are the request's own. Returns how many (0 without Origin). */
enum { AWS_CORS_HEADERS_MAX = 4 };
unsigned aws_cors_headers(const struct aws_request *r, struct aws_header out[AWS_CORS_HEADERS_MAX]);

/* ---- ids of an answer ----
 * x-amzn-RequestId from 16 random bytes (of env_random) as a version 4 UUID; x-amz-id-2 from 72. Both NUL-terminated. */
enum { AWS_REQUEST_ID_SIZE = 37, AWS_ID_2_RANDOM = 72, AWS_ID_2_SIZE = 97 };
void aws_request_id(char out[AWS_REQUEST_ID_SIZE], const uint8_t random[16]);
void aws_id_2(char out[AWS_ID_2_SIZE], const uint8_t random[AWS_ID_2_RANDOM]);

#endif
