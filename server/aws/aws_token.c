/* aws_token.c: shard iterators and NextTokens. */
#include "server/aws/aws_token.h"

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <stdio.h>

#include "proto/base.h"
#include "server/aws/aws_time.h"
#include "server/aws/base64.h"

enum {
    HEAD = 8,
    TAG = 16,
    NONCE = 12,
    BLOCK = 16,
    FRAME = HEAD + AWS_TOKEN_RANDOM + TAG, /* what is not content */
    ITERATOR_CONTENT = 40,                 /* with 24 + 16 bytes around it a multiple of 16 */
    PAGE_HEAD = 10,                        /* issued_ms, bytes of the cursor */
    CONTENT_MAX = AWS_CURSOR_MAX + PAGE_HEAD + 2 * BLOCK,
    SEALED_MAX = FRAME + CONTENT_MAX
};
_Static_assert((ITERATOR_CONTENT + AWS_TOKEN_RANDOM + TAG) % BLOCK == 0, "iterators look like AWS's");
_Static_assert(AWS_ITERATOR_SIZE > (FRAME + ITERATOR_CONTENT + 2) / 3 * 4, "an iterator fits");
_Static_assert(AWS_NEXT_TOKEN_SIZE > (SEALED_MAX + 2) / 3 * 4, "a NextToken fits");

static const uint8_t head[HEAD] = {0, 0, 0, 0, 0, 0, 0, 1};

/* ---- sealing ------------------------------------------------------------------------------------------------------------ */

static void own_key(uint8_t out[32], const uint8_t key[AWS_TOKEN_KEY], const char *purpose, const uint8_t *random)
{
    uint8_t text[64 + NONCE] = {0};
    size_t n = strlen(purpose);
    sluice_assert(n < 64);
    memcpy(text, purpose, n);
    memcpy(text + 64, random, NONCE);
    unsigned size = 0;
    sluice_assert(HMAC(EVP_sha256(), key, AWS_TOKEN_KEY, text, sizeof(text), out, &size) != NULL && size == 32);
}

/* Content n bytes; returns the characters written, and a NUL behind them. */
static size_t token_seal(char *out, const uint8_t key[AWS_TOKEN_KEY], const char *purpose, const uint8_t random[AWS_TOKEN_RANDOM], const uint8_t *content, size_t n)
{
    sluice_assert(n <= CONTENT_MAX);
    uint8_t sealed[SEALED_MAX], cipher_key[32];
    memcpy(sealed, head, HEAD);
    memcpy(sealed + HEAD, random, AWS_TOKEN_RANDOM);
    own_key(cipher_key, key, purpose, random);
    uint8_t *body = sealed + HEAD + AWS_TOKEN_RANDOM;
    EVP_CIPHER_CTX *c = EVP_CIPHER_CTX_new();
    int done = 0, rest = 0;
    sluice_assert(c != NULL && EVP_EncryptInit_ex(c, EVP_aes_256_gcm(), NULL, cipher_key, random + NONCE) == 1);
    sluice_assert(EVP_EncryptUpdate(c, NULL, &done, sealed, HEAD) == 1 && EVP_EncryptUpdate(c, body, &done, content, (int)n) == 1);
    sluice_assert(EVP_EncryptFinal_ex(c, body + done, &rest) == 1 && (size_t)(done + rest) == n);
    sluice_assert(EVP_CIPHER_CTX_ctrl(c, EVP_CTRL_GCM_GET_TAG, TAG, body + n) == 1);
    EVP_CIPHER_CTX_free(c);
    OPENSSL_cleanse(cipher_key, sizeof(cipher_key));
    size_t characters = base64_encoded_size(FRAME + n);
    base64_encode(out, sealed, FRAME + n);
    out[characters] = '\0';
    return characters;
}

/* The content, n bytes of it; false: not ours. */
static bool token_open(struct aws_text text, const uint8_t key[AWS_TOKEN_KEY], const char *purpose, uint8_t content[CONTENT_MAX], size_t *n)
{
    uint8_t sealed[(SEALED_MAX + 2) / 3 * 4]; /* decoding may write over as many bytes as it reads */
    size_t size, bad_at;
    if (text.n > (SEALED_MAX + 2) / 3 * 4 || base64_decode(sealed, text.p, text.n, &size, &bad_at) != BASE64_OK || size <= FRAME || size > SEALED_MAX ||
        memcmp(sealed, head, HEAD) != 0) {
        return false;
    }
    *n = size - FRAME;
    uint8_t cipher_key[32];
    uint8_t *random = sealed + HEAD, *body = random + AWS_TOKEN_RANDOM;
    own_key(cipher_key, key, purpose, random);
    EVP_CIPHER_CTX *c = EVP_CIPHER_CTX_new();
    int done = 0, rest = 0;
    sluice_assert(c != NULL && EVP_DecryptInit_ex(c, EVP_aes_256_gcm(), NULL, cipher_key, random + NONCE) == 1);
    sluice_assert(EVP_DecryptUpdate(c, NULL, &done, sealed, HEAD) == 1 && EVP_DecryptUpdate(c, content, &done, body, (int)*n) == 1);
    sluice_assert(EVP_CIPHER_CTX_ctrl(c, EVP_CTRL_GCM_SET_TAG, TAG, body + *n) == 1);
    bool ok = EVP_DecryptFinal_ex(c, content + done, &rest) == 1;
    EVP_CIPHER_CTX_free(c);
    OPENSSL_cleanse(cipher_key, sizeof(cipher_key));
    return ok;
}

/* ---- iterators ------------------------------------------------------------------------------------------------------------ */

void aws_iterator_seal(char out[AWS_ITERATOR_SIZE], const uint8_t key[AWS_TOKEN_KEY], const uint8_t random[AWS_TOKEN_RANDOM], const struct aws_iterator *it)
{
    uint8_t content[ITERATOR_CONTENT] = {0};
    memcpy(content, it->stream, 16);
    put_u32(content + 16, it->shard);
    content[20] = (uint8_t)it->position;
    put_u64(content + 24, it->at);
    put_u64(content + 32, (uint64_t)it->issued_ms);
    token_seal(out, key, "shard iterator", random, content, sizeof(content));
}

enum aws_error aws_iterator_open(struct aws_text text, const uint8_t key[AWS_TOKEN_KEY], int64_t now_ms, struct aws_iterator *out,
                                 char message[AWS_TOKEN_MESSAGE_SIZE])
{
    if (text.n >= 2 && text.p[0] == '"' && text.p[text.n - 1] == '"') {
        text.p++;
        text.n -= 2;
    }
    uint8_t content[CONTENT_MAX];
    size_t n;
    if (!token_open(text, key, "shard iterator", content, &n) || n != ITERATOR_CONTENT || content[20] > AWS_POSITION_TIME) {
        snprintf(message, AWS_TOKEN_MESSAGE_SIZE, "Invalid ShardIterator.");
        return AWS_E_InvalidArgumentException;
    }
    memcpy(out->stream, content, 16);
    out->shard = get_u32(content + 16);
    out->position = (enum aws_position)content[20];
    out->at = get_u64(content + 24);
    out->issued_ms = (int64_t)get_u64(content + 32);
    if (now_ms - out->issued_ms <= AWS_TOKEN_LIFE_MS) {
        message[0] = '\0';
        return AWS_E_NONE; /* one from the future too: another node's clock made it */
    }
    char issued[AWS_TIME_LONG_SIZE], now[AWS_TIME_LONG_SIZE];
    aws_time_long(issued, out->issued_ms / 1000);
    aws_time_long(now, now_ms / 1000);
    snprintf(message, AWS_TOKEN_MESSAGE_SIZE,
             "Iterator expired. The iterator was created at time %s while right now it is %s which is further in the future than the tolerated delay of %d "
             "milliseconds.",
             issued, now, AWS_TOKEN_LIFE_MS);
    return AWS_E_ExpiredIteratorException;
}

/* ---- NextTokens ------------------------------------------------------------------------------------------------------------- */

void aws_next_token_seal(char out[AWS_NEXT_TOKEN_SIZE], const uint8_t key[AWS_TOKEN_KEY], const uint8_t random[AWS_TOKEN_RANDOM], enum aws_op op, int64_t issued_ms,
                         const void *cursor, size_t n)
{
    sluice_assert(n <= AWS_CURSOR_MAX);
    uint8_t content[CONTENT_MAX] = {0};
    put_u64(content, (uint64_t)issued_ms);
    put_u16(content + 8, (uint16_t)n);
    memcpy(content + PAGE_HEAD, cursor, n);
    size_t size = ALIGN_UP(PAGE_HEAD + n + 8, BLOCK) - 8; /* with the 40 bytes around it a multiple of 16 */
    token_seal(out, key, aws_operations[op].name, random, content, size);
}

enum aws_error aws_next_token_open(struct aws_text text, const uint8_t key[AWS_TOKEN_KEY], enum aws_op op, int64_t now_ms, uint8_t cursor[AWS_CURSOR_MAX],
                                   size_t *n, char message[AWS_TOKEN_MESSAGE_SIZE])
{
    uint8_t content[CONTENT_MAX];
    size_t size;
    if (!token_open(text, key, aws_operations[op].name, content, &size) || size < PAGE_HEAD || get_u16(content + 8) > min_u64(size - PAGE_HEAD, AWS_CURSOR_MAX)) {
        snprintf(message, AWS_TOKEN_MESSAGE_SIZE, "Invalid NextToken.");
        return AWS_E_InvalidArgumentException;
    }
    if (now_ms - (int64_t)get_u64(content) > AWS_TOKEN_LIFE_MS) {
        snprintf(message, AWS_TOKEN_MESSAGE_SIZE, "NextToken expired: it is valid for %d seconds.", AWS_TOKEN_LIFE_MS / 1000);
        return AWS_E_ExpiredNextTokenException;
    }
    *n = get_u16(content + 8);
    memcpy(cursor, content + PAGE_HEAD, *n);
    message[0] = '\0';
    return AWS_E_NONE;
}
