/* aws_value.h: a decoded input: a tree of values, each of a shape of the model. Lives in the request's arena; texts and blobs point into the request's body. */
#ifndef SLUICE_AWS_VALUE_H
#define SLUICE_AWS_VALUE_H

#include "server/aws/aws_model.h"

struct aws_text {
    const char *p; /* not ended by NUL */
    size_t n;
};

struct aws_value {
    const struct aws_shape *shape; /* NULL: absent (not given, or null) */
    union {
        struct aws_text text; /* strings (valid UTF-8) and blobs */
        int64_t integer;      /* integers; timestamps: milliseconds since 1970, UTC */
        double number;
        bool boolean;
        struct {
            /* A structure's members in the shape's order; a list's entries; a map's keys and values in turn. */
            struct aws_value *v;
            uint32_t n;     /* entries (pairs of a map) that are stored: never more than the shape allows */
            uint32_t given; /* entries that were given */
        } list;
    };
};

/* The member of a structure, or NULL if it is absent. `structure` may be NULL: then so is the member. */
const struct aws_value *aws_member(const struct aws_value *structure, enum aws_member_id id);

/* Members by type. Absent: {NULL, 0}, the given default, false. */
struct aws_text aws_member_text(const struct aws_value *structure, enum aws_member_id id);
int64_t aws_member_integer(const struct aws_value *structure, enum aws_member_id id, int64_t absent);
bool aws_member_boolean(const struct aws_value *structure, enum aws_member_id id, bool absent);
/* Is it that word, NUL-terminated? Enumerated values are compared so. */
bool aws_text_is(struct aws_text text, const char *word);

#endif
