/* aws_token.h: opaque texts that a client brings back: shard iterators and NextTokens. Nothing is remembered on the server, any node of the cluster can open
 * them, and nobody else can make or read them.
 *
 * A token is base64 of: 0000000000000001 (8 bytes, as AWS's begin) | 24 random bytes | sealed content | 16 bytes tag. Content and tag are multiples of 16 bytes.
 * It is sealed with AES-256-GCM under a key of its own, HMAC-SHA256(cluster key, purpose, first 12 random bytes), with the other 12 as nonce: nonces may thus be random for
 * ever (under one key for all, random nonces would be good for 2^32 tokens only, which a cluster makes in days). Purpose and the first 8 bytes are authenticated. */
#ifndef SLUICE_AWS_TOKEN_H
#define SLUICE_AWS_TOKEN_H

#include "server/aws/aws_error.h"

enum {
    AWS_TOKEN_KEY = 32,      /* bytes of the cluster's key */
    AWS_TOKEN_RANDOM = 24,   /* bytes from env_random for each token */
    AWS_ITERATOR_SIZE = 129, /* NUL included; AWS allows 512 characters */
    AWS_CURSOR_MAX = 512,    /* bytes of a list's own in its NextToken */
    AWS_NEXT_TOKEN_SIZE = 1024,
    AWS_TOKEN_LIFE_MS = 300000 /* both kinds */
};

enum aws_position { AWS_POSITION_OFFSET = 0, AWS_POSITION_TRIM_HORIZON = 1, AWS_POSITION_LATEST = 2, AWS_POSITION_TIME = 3 };

/* Where a reader of a shard is. LATEST should be turned into an offset when the iterator is given out, else records between are lost to the reader. */
struct aws_iterator {
    uint8_t stream[16]; /* the stream's incarnation: another stream of the same name is another */
    uint32_t shard;
    enum aws_position position;
    uint64_t at;        /* OFFSET: of the next record; TIME: milliseconds since 1970; otherwise 0 */
    int64_t issued_ms;  /* milliseconds since 1970 */
};

void aws_iterator_seal(char out[AWS_ITERATOR_SIZE], const uint8_t key[AWS_TOKEN_KEY], const uint8_t random[AWS_TOKEN_RANDOM], const struct aws_iterator *it);

/* AWS_E_NONE, InvalidArgumentException or ExpiredIteratorException with the words of AWS in `message`. Double quotes around the text do not matter. With
 * ExpiredIteratorException *out is set too. */
enum { AWS_TOKEN_MESSAGE_SIZE = 256 };
enum aws_error aws_iterator_open(struct aws_text text, const uint8_t key[AWS_TOKEN_KEY], int64_t now_ms, struct aws_iterator *out,
                                 char message[AWS_TOKEN_MESSAGE_SIZE]);

/* A NextToken of an operation: cursor is what the list needs to go on, n bytes of its own format, at most AWS_CURSOR_MAX (asserted). */
void aws_next_token_seal(char out[AWS_NEXT_TOKEN_SIZE], const uint8_t key[AWS_TOKEN_KEY], const uint8_t random[AWS_TOKEN_RANDOM], enum aws_op op, int64_t issued_ms,
                         const void *cursor, size_t n);
/* AWS_E_NONE, InvalidArgumentException (also for a token of another operation) or ExpiredNextTokenException. */
enum aws_error aws_next_token_open(struct aws_text text, const uint8_t key[AWS_TOKEN_KEY], enum aws_op op, int64_t now_ms, uint8_t cursor[AWS_CURSOR_MAX],
                                   size_t *n, char message[AWS_TOKEN_MESSAGE_SIZE]);

#endif
