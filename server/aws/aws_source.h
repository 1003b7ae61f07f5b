/* aws_source.h: JSON and CBOR as one sequence of tokens, for aws_decode.c alone.
 *
 * A source stands in a body and is pulled. Texts are unescaped, base64 is decoded and pieces of CBOR strings are joined in place: the body is written over, and
 * nothing is allocated. Both readers refuse what is not well-formed; after a refusal (BAD, -1, false) the source is not used again. */
#ifndef SLUICE_AWS_SOURCE_H
#define SLUICE_AWS_SOURCE_H

#include "server/aws/aws_value.h"
#include "server/aws/base64.h"

enum aws_format { AWS_JSON, AWS_CBOR };

enum aws_token {
    AWS_TOKEN_BAD,
    AWS_TOKEN_NULL,
    AWS_TOKEN_BOOLEAN, /* .boolean */
    AWS_TOKEN_INTEGER, /* .integer */
    AWS_TOKEN_FLOAT,   /* .number; in JSON also integers beyond 64 bits */
    AWS_TOKEN_TEXT,    /* to be read by source_text() or source_blob() */
    AWS_TOKEN_BYTES,   /* CBOR only: .text */
    AWS_TOKEN_LIST,    /* entries follow: source_more() before each */
    AWS_TOKEN_MAP      /* the same, with source_key() before each value */
};

struct aws_source {
    enum aws_format format;
    char *at;
    char *end;
    bool boolean;
    bool tagged_time; /* CBOR: tag 1 stood before the number */
    int64_t integer;
    double number;
    struct aws_text text;
};

/* Where a list or map has got to. */
struct aws_level {
    uint64_t left;   /* CBOR: entries that are still to come */
    bool indefinite; /* CBOR: up to a break */
    bool begun;      /* JSON: a comma comes before the next entry */
    bool map;
};

/* The head of the next value. For a list or map *level is set. */
enum aws_token aws_source_next(struct aws_source *s, struct aws_level *level);
/* 1: an entry follows, 0: the list or map ended, -1: bad. */
int aws_source_more(struct aws_source *s, struct aws_level *level);
/* The key of a map's next entry. */
bool aws_source_key(struct aws_source *s, struct aws_text *key);
/* After AWS_TOKEN_TEXT: the text. */
bool aws_source_text(struct aws_source *s, struct aws_text *text);
/* After AWS_TOKEN_TEXT: its base64 decoded. False only if the source is bad; *error tells about the base64, then `text` is its beginning (at most 64 bytes) for the error's
 * words,
 * bad the character and given the length. */
struct aws_blob_error {
    enum base64_error error;
    char text[64];
    size_t text_n;
    size_t given;
    char bad;
};
bool aws_source_blob(struct aws_source *s, struct aws_text *blob, struct aws_blob_error *error);
/* Nothing but blanks is left. */
bool aws_source_ended(struct aws_source *s);

/* ---- the two readers ---- */
enum aws_token aws_json_next(struct aws_source *s, struct aws_level *level);
int aws_json_more(struct aws_source *s, struct aws_level *level);
bool aws_json_key(struct aws_source *s, struct aws_text *key);
bool aws_json_text(struct aws_source *s, struct aws_text *text);
bool aws_json_ended(struct aws_source *s);
enum aws_token aws_cbor_next(struct aws_source *s, struct aws_level *level);
int aws_cbor_more(struct aws_source *s, struct aws_level *level);
bool aws_cbor_key(struct aws_source *s, struct aws_text *key);

#endif
