/* kinesis_keys.h: the configured access keys: which secret belongs to each, and whose account it opens. */
#ifndef SLUICE_KINESIS_KEYS_H
#define SLUICE_KINESIS_KEYS_H

#include "server/aws/aws_signature.h"
#include "storage/env.h"

enum { KEYS_MAX = 4096, KEYS_ACCOUNTS_MAX = 256, KEY_TEXT_MAX = 128, KEYS_FILE_MAX = 4 << 20 };

struct kinesis_keys;
struct kinesis_key;

/* Reads them from a text: a line each, "ACCESS-KEY SECRET" and maybe the account's 12 digits, with blanks between; empty lines and what follows a # at a line's start do
 * not count. NULL with the reason (which line; no secret) in err. */
struct kinesis_keys *kinesis_keys_parse(const char *text, size_t n, const char *default_account, char err[256]);
/* The same from a file; blocks. */
struct kinesis_keys *kinesis_keys_load(struct env *env, const char *path, const char *default_account, char err[256]);
void kinesis_keys_free(struct kinesis_keys *keys);

/* NULL: there is none of that name. */
struct kinesis_key *kinesis_keys_find(struct kinesis_keys *keys, struct aws_text access_key);
const char *kinesis_key_account(const struct kinesis_key *key);
/* The signing key (AWS_SHA256 bytes) of a day, kept: today's and one more. */
const uint8_t *kinesis_key_signing(struct kinesis_key *key, struct aws_text date, const char *region);

#endif
