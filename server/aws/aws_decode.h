/* aws_decode.h: from a request's body to a checked tree of values.
 *
 * One pass over the body, in place: strings are unescaped and base64 is decoded where they stand, so the body is written over (hash it for the signature before)
 * and stays with the tree. Order of what is found, as AWS answers it: not well-formed (before authentication); a wrong type; bounds, patterns and required members.
 * Unknown members and null are ignored; a member that is given twice makes the body ill-formed. */
#ifndef SLUICE_AWS_DECODE_H
#define SLUICE_AWS_DECODE_H

#include "server/aws/arena.h"
#include "server/aws/aws_source.h"
#include "server/aws/aws_value.h"

enum {
    AWS_NESTING_MAX = 32,             /* lists and maps within each other, unknown members included */
    AWS_UNBOUNDED_LIST_MAX = 1000,    /* entries that are kept of a list to which the model gives no bound */
    AWS_ERRORS_MAX = 10,              /* of one ValidationException */
    AWS_VALUE_TEXT_MAX = 1024,        /* bytes of a value in an error's text; more is cut */
    AWS_DECODE_MEMORY = 1024 * 1024   /* an arena with this limit holds every valid input of operations on streams */
};

enum aws_decoded {
    AWS_DECODED,
    AWS_UNPARSABLE, /* SerializationException without a message */
    AWS_WRONG_TYPE, /* SerializationException with `Message` = message */
    AWS_INVALID,    /* ValidationException, message */
    AWS_NO_MEMORY   /* the arena's limit: far more entries than any operation takes; or the system has no memory */
};

/* Decodes and checks the body (n bytes) as `input`, of an operation; NULL, for an unknown one, only looks whether the body is well-formed. *value is set
 * with AWS_DECODED, *message (NUL-terminated) with WRONG_TYPE and INVALID; both live in the arena, as the tree does, whose texts lie in the body. */
enum aws_decoded aws_decode(enum aws_format format, const struct aws_shape *input, void *body, size_t n, struct arena *arena, const struct aws_value **value,
                            const char **message);

/* Checks a tree against its shape: NULL, or the message of the ValidationException (in the arena; a fixed text if that is full). */
const char *aws_validate(const struct aws_value *value, struct arena *arena);

/* PutRecord and PutRecords on a stream whose records are distributed by the user's keys: the model calls PartitionKey optional, such streams do not. NULL, or
 * the message of the ValidationException. `input` is that of PutRecord or PutRecords. */
const char *aws_validate_partition_keys(const struct aws_value *input, struct arena *arena);

#endif
