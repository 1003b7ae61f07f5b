/* kinesis_request.h: requests to the Kinesis API from the client's side: heads signed with Signature version 4, and bodies of PutRecords.
 *
 * A body is put together without copies: all records of a load are written once as *entries* of equal size, one behind the other, and a body is a prefix, some entries, and
 * in JSON a suffix. Nothing here knows sockets or clocks. */
#ifndef SLUICE_KINESIS_REQUEST_H
#define SLUICE_KINESIS_REQUEST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

enum {
    KINESIS_SHA256 = 32,
    KINESIS_HEAD_MAX = 2048,   /* bytes of a request's head */
    KINESIS_PREFIX_MAX = 512,  /* bytes before the entries, for names of up to 128 bytes */
    KINESIS_CREDENTIAL_MAX = 128,
    KINESIS_REGION_MAX = 64,
    KINESIS_RECORDS_MAX = 500  /* in one request */
};

/* Who signs, and for whom. The key is made anew when the day changes. */
struct kinesis_signer {
    char access_key[KINESIS_CREDENTIAL_MAX + 1], secret[KINESIS_CREDENTIAL_MAX + 1], region[KINESIS_REGION_MAX + 1];
    char host[300]; /* as in the header Host */
    char day[9];
    uint8_t key[KINESIS_SHA256];
};

/* False: a text is longer than the bounds. */
bool kinesis_signer_init(struct kinesis_signer *s, const char *access_key, const char *secret, const char *region, const char *host);
/* The SHA-256 of the pieces in order. */
void kinesis_hash(const struct iovec *iov, unsigned n_iov, uint8_t out[KINESIS_SHA256]);
/* Writes the head of a POST, down to the empty line; returns its bytes. operation: "PutRecords". */
size_t kinesis_head(struct kinesis_signer *s, const char *operation, bool cbor, uint64_t wall_ms, const uint8_t body_sha256[KINESIS_SHA256], size_t body_n,
                    char out[KINESIS_HEAD_MAX]);

/* Bytes of an entry with a key of `key_n` characters, which need no escapes, and n bytes of data. In JSON the comma behind it is part of it. */
size_t kinesis_entry_size(bool cbor, size_t key_n, size_t n);
void kinesis_entry_write(bool cbor, const char *key, size_t key_n, const void *data, size_t n, uint8_t *out);
/* What stands before the entries of a body with so many records; returns its bytes. stream: up to 128 bytes, needs no escapes. */
size_t kinesis_prefix_write(bool cbor, const char *stream, unsigned records, uint8_t out[KINESIS_PREFIX_MAX]);
/* What ends the pieces of a body whose entries are there: cuts the last comma and adds the suffix, in JSON. Room for one more piece. Returns the number of pieces. */
unsigned kinesis_body_end(bool cbor, struct iovec *iov, unsigned n_iov);

#endif
