/* aws_canonical.h: the canonical form of a request's head, for aws_signature*.c alone: its query, its headers, its path. */
#ifndef SLUICE_AWS_CANONICAL_H
#define SLUICE_AWS_CANONICAL_H

#include "server/aws/aws_signature.h"

struct aws_parameter {
    struct aws_text name, value;                 /* decoded */
    struct aws_text encoded_name, encoded_value; /* with everything but unreserved characters as %XX */
};

struct aws_query {
    struct aws_parameter p[AWS_QUERY_PARAMETERS_MAX];
    unsigned n;
};

/* Takes the target's query apart. False: more parameters than the bound, a bad %XX, or the arena is full. */
bool aws_query_parse(struct aws_text target, struct arena *arena, struct aws_query *q);
struct aws_text aws_query_value(const struct aws_query *q, const char *name);
/* Sorted by encoded name and value. */
void aws_query_sort(struct aws_query *q);

/* Where the parts of a canonical form go, piece by piece. */
struct aws_sink {
    void (*add)(struct aws_sink *s, const void *p, size_t n);
};

/* Method, path, query (without X-Amz-Signature), the signed headers with their names, the payload's hash, each on its line. False: a signed
 * header is missing, or there are too many. Sorts the query. */
bool aws_canonical_request(struct aws_sink *sink, const struct aws_request *r, struct aws_query *q, struct aws_text signed_headers, struct aws_text payload_hash,
                           struct arena *arena);

#endif
