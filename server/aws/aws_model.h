/* aws_model.h: the Kinesis API as tables: operations and the shapes of their inputs with bounds, patterns and enumerated values.
 *
 * The tables are facts of the public service model (make_model writes them); they are constant and shared by all lanes. Members and operations
 * have numbers: AWS_M_StreamName, AWS_OP_PutRecords, spelled as on the wire. */
#ifndef SLUICE_AWS_MODEL_H
#define SLUICE_AWS_MODEL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "server/aws/aws_names.h"

enum aws_op {
#define X(name) AWS_OP_##name,
    AWS_OPERATIONS(X)
#undef X
    AWS_OPERATION_COUNT
};

enum aws_member_id {
#define X(name) AWS_M_##name,
    AWS_MEMBERS(X)
#undef X
    AWS_MEMBER_COUNT
};

enum aws_type {
    AWS_STRING, AWS_BLOB, AWS_INTEGER, AWS_LONG, AWS_DOUBLE, AWS_BOOLEAN, AWS_TIMESTAMP, AWS_LIST, AWS_MAP, AWS_STRUCTURE
};

struct aws_member;

/* Bounds count characters (code points) of strings, bytes of blobs, entries of lists and maps; of numbers they bound the value. */
struct aws_shape {
    const char *name;
    enum aws_type type;
    bool bounded;
    int64_t min, max;                 /* INT64_MIN, INT64_MAX: no bound on that side */
    const char *pattern;              /* as told in errors; NULL: none */
    const char *match;                /* the same without groups, for aws_pattern_match(); NULL: as pattern */
    const char *const *values;        /* enumerated values, n_values; NULL: any */
    unsigned n_values;
    const struct aws_shape *key;      /* of maps */
    const struct aws_shape *item;     /* entries of lists, values of maps */
    const struct aws_member *members; /* of structures, n_members */
    unsigned n_members;
};

struct aws_member {
    enum aws_member_id id;
    bool required;
    const struct aws_shape *shape;
};

struct aws_operation {
    const char *name;
    const struct aws_shape *input;
    bool has_output;   /* false: a success has an empty body */
    bool event_stream; /* SubscribeToShard: the answer is a stream of frames */
};

enum { AWS_STRUCTURE_MEMBERS_MAX = 16, AWS_DEPTH_MAX = 8 }; /* of the tables; checked by a test */

extern const struct aws_operation aws_operations[AWS_OPERATION_COUNT];
extern const char *const aws_member_names[AWS_MEMBER_COUNT];

/* The operation of a header "X-Amz-Target: Kinesis_20131202.PutRecords" (its value, n bytes), or -1. */
int aws_operation_find(const char *target, size_t n);

/* Does the whole text match? `match` holds alternatives (`|`) of atoms: a character, \d, \S, \w, an escaped character, `.`, a class in brackets; each
 * with *, +, {n} or {n,m} or without. Work is bounded: a text that needs more steps than 256 per byte and 65536 in all does not match. */
bool aws_pattern_match(const char *match, const char *text, size_t n);

#endif
