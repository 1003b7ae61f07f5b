/* Requests to the Kinesis API (see kinesis_request.h). The signature is computed here and once more in the server, which has to understand any request, while this is always the
 * same one: four headers, no query. What both would share is a chain of five HMACs; that they were written twice lets each check the other. */
#include "client/kinesis_request.h"

#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "proto/base.h"

enum { HEX = 2 * KINESIS_SHA256 + 1, CANONICAL_MAX = 1024 };

#define SIGNED "content-type;host;x-amz-date;x-amz-target"

bool kinesis_signer_init(struct kinesis_signer *s, const char *access_key, const char *secret, const char *region, const char *host)
{
    *s = (struct kinesis_signer){0};
    return (size_t)snprintf(s->access_key, sizeof s->access_key, "%s", access_key) < sizeof s->access_key &&
        (size_t)snprintf(s->secret, sizeof s->secret, "%s", secret) < sizeof s->secret &&
        (size_t)snprintf(s->region, sizeof s->region, "%s", region) < sizeof s->region &&
        (size_t)snprintf(s->host, sizeof s->host, "%s", host) < sizeof s->host;
}

static void hex(const uint8_t hash[KINESIS_SHA256], char out[HEX])
{
    for (size_t i = 0; i < KINESIS_SHA256; i++) {
        out[2 * i] = "0123456789abcdef"[hash[i] >> 4];
        out[2 * i + 1] = "0123456789abcdef"[hash[i] & 15];
    }
    out[HEX - 1] = '\0';
}

void kinesis_hash(const struct iovec *iov, unsigned n_iov, uint8_t out[KINESIS_SHA256])
{
    EVP_MD_CTX *context = EVP_MD_CTX_new();
    sluice_assert(context != NULL && EVP_DigestInit_ex(context, EVP_sha256(), NULL) == 1);
    for (unsigned i = 0; i < n_iov; i++) {
        sluice_assert(EVP_DigestUpdate(context, iov[i].iov_base, iov[i].iov_len) == 1);
    }
    sluice_assert(EVP_DigestFinal_ex(context, out, NULL) == 1);
    EVP_MD_CTX_free(context);
}

static void mac(uint8_t out[KINESIS_SHA256], const void *key, size_t key_n, const char *text)
{
    sluice_assert(HMAC(EVP_sha256(), key, (int)key_n, (const uint8_t *)text, strlen(text), out, NULL) != NULL);
}

static void key_make(struct kinesis_signer *s, const char *day)
{
    char first[4 + KINESIS_CREDENTIAL_MAX + 1];
    int n = snprintf(first, sizeof first, "AWS4%s", s->secret);
    snprintf(s->day, sizeof s->day, "%s", day);
    mac(s->key, first, (size_t)n, day);
    mac(s->key, s->key, KINESIS_SHA256, s->region);
    mac(s->key, s->key, KINESIS_SHA256, "kinesis");
    mac(s->key, s->key, KINESIS_SHA256, "aws4_request");
}

size_t kinesis_head(struct kinesis_signer *s, const char *operation, bool cbor, uint64_t wall_ms, const uint8_t body_sha256[KINESIS_SHA256], size_t body_n,
                    char out[KINESIS_HEAD_MAX])
{
    char stamp[17], day[9];
    struct tm tm;
    gmtime_r(&(time_t){(time_t)(wall_ms / 1000)}, &tm);
    strftime(stamp, sizeof stamp, "%Y%m%dT%H%M%SZ", &tm);
    snprintf(day, sizeof day, "%.8s", stamp);
    if (strcmp(day, s->day) != 0) {
        key_make(s, day);
    }
    const char *type = cbor ? "application/x-amz-cbor-1.1" : "application/x-amz-json-1.1";
    char digest[HEX], canonical[CANONICAL_MAX], text[CANONICAL_MAX];
    uint8_t hash[KINESIS_SHA256];
    hex(body_sha256, digest);
    int n = snprintf(canonical, sizeof canonical, "POST\n/\n\ncontent-type:%s\nhost:%s\nx-amz-date:%s\nx-amz-target:Kinesis_20131202.%s\n\n" SIGNED "\n%s", type, s->host,
                     stamp, operation, digest);
    sluice_assert(n > 0 && (size_t)n < sizeof canonical);
    kinesis_hash(&(struct iovec){canonical, (size_t)n}, 1, hash);
    hex(hash, digest);
    n = snprintf(text, sizeof text, "AWS4-HMAC-SHA256\n%s\n%s/%s/kinesis/aws4_request\n%s", stamp, day, s->region, digest);
    sluice_assert(n > 0 && (size_t)n < sizeof text);
    mac(hash, s->key, KINESIS_SHA256, text);
    hex(hash, digest);
    n = snprintf(out, KINESIS_HEAD_MAX,
                 "POST / HTTP/1.1\r\nHost: %s\r\nContent-Type: %s\r\nX-Amz-Date: %s\r\nX-Amz-Target: Kinesis_20131202.%s\r\n"
                 "Authorization: AWS4-HMAC-SHA256 Credential=%s/%s/%s/kinesis/aws4_request, SignedHeaders=" SIGNED ", Signature=%s\r\n"
                 "User-Agent: sluice-bench/" SLUICE_VERSION "\r\nContent-Length: %zu\r\n\r\n",
                 s->host, type, stamp, operation, s->access_key, day, s->region, digest, body_n);
    sluice_assert(n > 0 && n < KINESIS_HEAD_MAX);
    return (size_t)n;
}

/* ---- bodies ------------------------------------------------------------------------------------------------------------------- */

/* Pieces that are counted when `out` is NULL. */
static size_t put(uint8_t *out, size_t at, const void *p, size_t n)
{
    if (out != NULL) {
        memcpy(out + at, p, n);
    }
    return at + n;
}

static size_t put_text(uint8_t *out, size_t at, const char *text) { return put(out, at, text, strlen(text)); }

enum cbor_major { CBOR_BYTES = 2, CBOR_TEXT = 3, CBOR_LIST = 4, CBOR_MAP = 5 };

static size_t put_head(uint8_t *out, size_t at, enum cbor_major major, uint64_t n)
{
    unsigned bytes = n < 24 ? 0 : n < 0x100 ? 1 : n < 0x10000 ? 2 : 4;
    uint8_t head[5] = {(uint8_t)((unsigned)major << 5 | (bytes == 0 ? n : bytes == 1 ? 24 : bytes == 2 ? 25 : 26))};
    for (unsigned i = 0; i < bytes; i++) {
        head[1 + i] = (uint8_t)(n >> 8 * (bytes - 1 - i));
    }
    return put(out, at, head, 1 + bytes);
}

static size_t put_string(uint8_t *out, size_t at, const char *p, size_t n) { return put(out, put_head(out, at, CBOR_TEXT, n), p, n); }
static size_t put_name(uint8_t *out, size_t at, const char *name) { return put_string(out, at, name, strlen(name)); }

static size_t entry(bool cbor, const char *key, size_t key_n, const void *data, size_t n, uint8_t *out)
{
    if (cbor) {
        size_t at = put_name(out, put_head(out, 0, CBOR_MAP, 2), "Data");
        at = put(out, put_head(out, at, CBOR_BYTES, n), data, n);
        return put_string(out, put_name(out, at, "PartitionKey"), key, key_n);
    }
    size_t at = put_text(out, 0, "{\"Data\":\"");
    if (out != NULL) {
        EVP_EncodeBlock(out + at, data, (int)n); /* ends with a NUL, which the next piece writes over */
    }
    at = put_text(out, at + (n + 2) / 3 * 4, "\",\"PartitionKey\":\"");
    return put_text(out, put(out, at, key, key_n), "\"},");
}

size_t kinesis_entry_size(bool cbor, size_t key_n, size_t n) { return entry(cbor, NULL, key_n, NULL, n, NULL); }
void kinesis_entry_write(bool cbor, const char *key, size_t key_n, const void *data, size_t n, uint8_t *out) { entry(cbor, key, key_n, data, n, out); }

size_t kinesis_prefix_write(bool cbor, const char *stream, unsigned records, uint8_t out[KINESIS_PREFIX_MAX])
{
    if (cbor) {
        size_t at = put_name(out, put_head(out, 0, CBOR_MAP, 2), "StreamName");
        at = put_name(out, put_name(out, at, stream), "Records");
        return put_head(out, at, CBOR_LIST, records);
    }
    return (size_t)snprintf((char *)out, KINESIS_PREFIX_MAX, "{\"StreamName\":\"%s\",\"Records\":[", stream);
}

unsigned kinesis_body_end(bool cbor, struct iovec *iov, unsigned n_iov)
{
    if (cbor) {
        return n_iov;
    }
    static const char suffix[] = "]}";
    iov[n_iov - 1].iov_len--;
    iov[n_iov] = (struct iovec){(void *)(uintptr_t)suffix, 2};
    return n_iov + 1;
}
