/* aws_signature.h: AWS Signature version 4, in the Authorization header or presigned in the query.
 *
 * aws_signature_parse() takes a request's signature apart and complains about missing parts as AWS does; it is all that happens while no credentials are configured.
 * aws_signature_verify() then checks it with the secret's signing key. The caller looks the secret up in between (UnrecognizedClientException if
 * there is none) and keeps signing keys: they stay the same for a day.
 *
 * Only version 4 with HMAC-SHA256 is known. The received Host header is what is verified. */
#ifndef SLUICE_AWS_SIGNATURE_H
#define SLUICE_AWS_SIGNATURE_H

#include "server/aws/arena.h"
#include "server/aws/aws_request.h"

enum {
    AWS_SHA256 = 32,
    AWS_SKEW_S = 300,                /* how far the client's clock may be off, seconds */
    AWS_PRESIGNED_MAX_S = 604800,    /* longest life of a presigned request */
    AWS_QUERY_PARAMETERS_MAX = 64,
    AWS_SIGNED_HEADERS_MAX = 64,
    AWS_SIGNATURE_MEMORY = 256 * 1024 /* an arena with this limit holds what the query needs; longer ones are refused */
};

struct aws_signature {
    bool presigned;
    struct aws_text algorithm;
    struct aws_text access_key, date, region, service; /* of the credential's scope; date: YYYYMMDD */
    struct aws_text credential, signed_headers, signature, security_token;
    struct aws_text timestamp; /* X-Amz-Date, or Date, as given */
    int64_t expires_s;         /* presigned: its life from the timestamp on */
    bool scoped;               /* the credential has its five parts, the last one aws4_request */
};

/* Takes it apart. AWS_E_NONE, or the error with *message (in the arena). The texts of *out point into the request or the arena. */
enum aws_error aws_signature_parse(const struct aws_request *r, struct arena *arena, struct aws_signature *out, const char **message);

/* The key of a secret for a day, a region and a service ("kinesis"). Texts are not ended by NUL. */
void aws_signing_key(struct aws_text secret, struct aws_text date, struct aws_text region, struct aws_text service, uint8_t key[AWS_SHA256]);

struct aws_verify_options {
    int64_t now_s;                  /* seconds since 1970, UTC */
    const char *region;             /* the scope's region and service must be these */
    const char *service;
    const uint8_t *key;             /* AWS_SHA256 bytes, aws_signing_key() of the scope */
    const uint8_t *body_sha256;     /* AWS_SHA256 bytes */
    bool unsigned_payload;          /* x-amz-content-sha256: UNSIGNED-PAYLOAD is accepted */
    bool streaming_payload;         /* ... and STREAMING-AWS4-HMAC-SHA256-PAYLOAD, whose chunks aws_signature_chunk() checks */
};

/* Checks scope, time and signature. AWS_E_NONE, or InvalidSignatureException or IncompleteSignatureException with *message (in the arena, or fixed). The
 * signature is compared in constant time. */
enum aws_error aws_signature_verify(const struct aws_request *r, const struct aws_signature *s, struct arena *arena, const struct aws_verify_options *o,
                                    const char **message);

/* The signature that a request of this head should have, as 64 hexadecimal digits: signs with all that `s` says but its signature. timestamp: YYYYMMDDTHHMMSSZ. False: the
 * request is beyond the bounds, or a signed header is missing. */
bool aws_signature_compute(const struct aws_request *r, const struct aws_signature *s, struct arena *arena, struct aws_text timestamp,
                           const uint8_t key[AWS_SHA256], struct aws_text payload_hash, char out[2 * AWS_SHA256 + 1]);

/* A chunk of a streaming payload: writes the signature it should have, after that of the chunk before (the request's own for the first). chunk_sha256: of its bytes. */
void aws_signature_chunk(const struct aws_signature *s, struct aws_text timestamp, const uint8_t key[AWS_SHA256], const char previous[2 * AWS_SHA256],
                         const uint8_t chunk_sha256[AWS_SHA256], char out[2 * AWS_SHA256 + 1]);

void aws_sha256(uint8_t out[AWS_SHA256], const void *p, size_t n);
/* Equal bytes, in a time that does not tell where they differ. */
bool aws_equal(const void *a, const void *b, size_t n);

#endif
