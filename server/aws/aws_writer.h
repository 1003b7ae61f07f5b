/* aws_writer.h: answers, in JSON or CBOR, through one interface.
 *
 * Calls follow the answer's structure: aws_write_object(), then for each member aws_write_key() and a value, then aws_write_object_end(). What is absent is not
 * written at all: clients tell null from absent. CBOR objects and lists have indefinite length, as AWS writes them. Errors stick: after one the rest
 * does nothing, and aws_writer_end() tells.
 *
 * The bytes lie in blocks of the writer's own and, for CBOR, also in payloads of the caller's, which are not copied: those stay valid and unchanged until the
 * answer has left. JSON has to copy, as base64. */
#ifndef SLUICE_AWS_WRITER_H
#define SLUICE_AWS_WRITER_H

#include <sys/uio.h>

#include "server/aws/aws_source.h"

enum {
    AWS_WRITER_DEPTH_MAX = 32,
    AWS_WRITER_BLOCK = 32 * 1024,
    AWS_BLOB_BY_REFERENCE = 512 /* bytes from which on a CBOR blob is not copied */
};

struct aws_writer_block;

/* Blocks that are kept for the next answer: fresh memory costs more than what is written into it. One per lane, embedded by the caller. */
struct aws_block_pool {
    struct aws_writer_block *free;
    unsigned n, max;
};

/* max: blocks of AWS_WRITER_BLOCK bytes that are kept at most. */
void aws_block_pool_init(struct aws_block_pool *pool, unsigned max);
void aws_block_pool_deinit(struct aws_block_pool *pool);

/* Embedded by the caller. */
struct aws_writer {
    enum aws_format format;
    struct aws_block_pool *pool;
    struct aws_writer_block *blocks; /* the newest first */
    char *at, *end, *from;           /* in the newest: free room; where the piece began that is in no iovec yet */
    struct iovec *iov;
    unsigned n_iov, iov_room;
    size_t bytes, limit; /* of the answer so far, without the present piece */
    unsigned depth;
    uint32_t begun; /* a bit per depth: something stands there already (JSON's commas) */
    bool after_key;
    bool failed;
};

/* limit: bytes the answer may have. pool: where blocks come from and go back to, outlives the writer; NULL: the system's memory. */
void aws_writer_init(struct aws_writer *w, enum aws_format format, size_t limit, struct aws_block_pool *pool);
void aws_writer_deinit(struct aws_writer *w);
/* The whole answer as pieces, which are the writer's until aws_writer_deinit(). 0, or -ENOMEM beyond the limit or without memory. All objects and lists must be closed. */
int aws_writer_end(struct aws_writer *w, const struct iovec **iov, unsigned *n_iov, size_t *bytes);

void aws_write_object(struct aws_writer *w);
void aws_write_object_end(struct aws_writer *w);
void aws_write_list(struct aws_writer *w);
void aws_write_list_end(struct aws_writer *w);
void aws_write_key(struct aws_writer *w, const char *key);
/* Bytes that are not UTF-8 become question marks. */
void aws_write_text(struct aws_writer *w, const char *p, size_t n);
void aws_write_blob(struct aws_writer *w, const void *p, size_t n);
void aws_write_integer(struct aws_writer *w, int64_t v);
void aws_write_boolean(struct aws_writer *w, bool v);
/* Milliseconds since 1970, UTC: seconds with three decimals in JSON, tag 1 and whole milliseconds in CBOR. */
void aws_write_time(struct aws_writer *w, int64_t ms);

/* Key and value at once. A text that is NULL is absent. */
void aws_member_write_text(struct aws_writer *w, const char *key, const char *text);
void aws_member_write_integer(struct aws_writer *w, const char *key, int64_t v);
void aws_member_write_boolean(struct aws_writer *w, const char *key, bool v);
void aws_member_write_time(struct aws_writer *w, const char *key, int64_t ms);

#endif
