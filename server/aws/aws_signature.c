/* aws_signature.c: the parts of a signature, and what should have been signed. */
#include "server/aws/aws_signature.h"

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <stdarg.h>
#include <stdio.h>

#include "proto/base.h"
#include "server/aws/aws_canonical.h"
#include "server/aws/aws_time.h"

enum { MESSAGE_MAX = 2048 };

#define ALGORITHM "AWS4-HMAC-SHA256"

/* ---- texts -------------------------------------------------------------------------------------------------------------- */

struct message {
    char *text; /* MESSAGE_MAX of the arena */
    size_t n;
};

__attribute__((format(printf, 2, 3))) static void add(struct message *m, const char *format, ...)
{
    if (m->text == NULL) {
        return;
    }
    va_list args;
    va_start(args, format);
    int n = vsnprintf(m->text + m->n, MESSAGE_MAX - m->n, format, args);
    va_end(args);
    m->n = min_u64(m->n + (size_t)n, MESSAGE_MAX - 1);
}

static const char *ended(const struct message *m) { return m->text != NULL ? m->text : "The request's signature could not be read."; }

__attribute__((format(printf, 2, 3))) static const char *sentence(struct arena *arena, const char *format, ...)
{
    char *text = arena_alloc(arena, MESSAGE_MAX);
    if (text == NULL) {
        return "The request's signature could not be checked.";
    }
    va_list args;
    va_start(args, format);
    vsnprintf(text, MESSAGE_MAX, format, args);
    va_end(args);
    return text;
}

/* A text for %.*s, cut. */
#define CUT(t) (int)min_u64((t).n, 256), (t).n > 0 ? (t).p : ""

/* ---- taking apart --------------------------------------------------------------------------------------------------------- */

/* KEY/YYYYMMDD/REGION/SERVICE/aws4_request; the key may have slashes. */
static void credential_split(struct aws_signature *s)
{
    struct aws_text parts[4] = {{NULL, 0}}; /* from the end: aws4_request, service, region, date */
    size_t end = s->credential.n;
    for (unsigned i = 0; i < 4; i++) {
        size_t from = end;
        while (from > 0 && s->credential.p[from - 1] != '/') {
            from--;
        }
        if (from == 0) {
            return;
        }
        parts[i] = (struct aws_text){s->credential.p + from, end - from};
        end = from - 1;
    }
    s->access_key = (struct aws_text){s->credential.p, end};
    s->date = parts[3];
    s->region = parts[2];
    s->service = parts[1];
    s->scoped = end > 0 && s->date.n == 8 && aws_text_is(parts[0], "aws4_request");
}

/* The value of "Name=" in a header whose parts are separated by commas or blanks. */
static struct aws_text header_part(struct aws_text header, const char *name)
{
    size_t n = strlen(name);
    const char *p = header.p, *end = header.p + header.n;
    while (p < end) {
        const char *stop = p;
        while (stop < end && *stop != ',' && *stop != ' ') {
            stop++;
        }
        if ((size_t)(stop - p) > n && memcmp(p, name, n) == 0 && p[n] == '=') {
            return (struct aws_text){p + n + 1, (size_t)(stop - p) - n - 1};
        }
        p = stop + 1;
    }
    return (struct aws_text){NULL, 0};
}

static enum aws_error parse_header(const struct aws_request *r, struct aws_text header, struct aws_signature *out, struct message *m)
{
    const char *blank = memchr(header.p, ' ', header.n);
    out->algorithm = (struct aws_text){header.p, blank != NULL ? (size_t)(blank - header.p) : header.n};
    struct aws_text rest = {header.p + out->algorithm.n, header.n - out->algorithm.n};
    out->credential = header_part(rest, "Credential");
    out->signature = header_part(rest, "Signature");
    out->signed_headers = header_part(rest, "SignedHeaders");
    out->security_token = aws_request_header(r, "x-amz-security-token");
    out->timestamp = aws_request_header(r, "x-amz-date");
    if (out->timestamp.n == 0) {
        out->timestamp = aws_request_header(r, "date");
    }
    const struct {
        struct aws_text value;
        const char *name;
    } needed[] = {{out->credential, "Credential"}, {out->signature, "Signature"}, {out->signed_headers, "SignedHeaders"}};
    for (size_t i = 0; i < ARRAY_LEN(needed); i++) {
        if (needed[i].value.n == 0) {
            add(m, "Authorization header requires '%s' parameter. ", needed[i].name);
        }
    }
    if (out->timestamp.n == 0) {
        add(m, "Authorization header requires existence of either a 'X-Amz-Date' or a 'Date' header. ");
    }
    if (m->n > 0) {
        add(m, "Authorization=%.*s", (int)min_u64(header.n, 1024), header.p);
        return AWS_E_IncompleteSignatureException;
    }
    return AWS_E_NONE;
}

static enum aws_error parse_query(const struct aws_query *q, struct aws_signature *out, struct message *m)
{
    out->presigned = true;
    out->algorithm = aws_query_value(q, "X-Amz-Algorithm");
    out->credential = aws_query_value(q, "X-Amz-Credential");
    out->signature = aws_query_value(q, "X-Amz-Signature");
    out->signed_headers = aws_query_value(q, "X-Amz-SignedHeaders");
    out->timestamp = aws_query_value(q, "X-Amz-Date");
    out->security_token = aws_query_value(q, "X-Amz-Security-Token");
    const struct {
        struct aws_text value;
        const char *name;
    } needed[] = {
        {out->algorithm, "X-Amz-Algorithm"},          {out->credential, "X-Amz-Credential"}, {out->signature, "X-Amz-Signature"},
        {out->signed_headers, "X-Amz-SignedHeaders"}, {out->timestamp, "X-Amz-Date"},
    };
    for (size_t i = 0; i < ARRAY_LEN(needed); i++) {
        if (needed[i].value.n == 0) {
            add(m, "AWS query-string parameters must include '%s'. ", needed[i].name);
        }
    }
    struct aws_text expires = aws_query_value(q, "X-Amz-Expires");
    out->expires_s = expires.n > 0 && expires.n <= 9 ? 0 : expires.n == 0 ? AWS_SKEW_S : -1;
    for (size_t i = 0; i < expires.n && out->expires_s >= 0; i++) {
        bool digit = expires.p[i] >= '0' && expires.p[i] <= '9';
        out->expires_s = digit ? out->expires_s * 10 + (expires.p[i] - '0') : -1;
    }
    if (m->n > 0) {
        add(m, "Re-examine the query-string parameters.");
        return AWS_E_IncompleteSignatureException;
    }
    return AWS_E_NONE;
}

enum aws_error aws_signature_parse(const struct aws_request *r, struct arena *arena, struct aws_signature *out, const char **message)
{
    *out = (struct aws_signature){0};
    *message = NULL;
    struct aws_text header = aws_request_header(r, "authorization");
    struct aws_query *q = arena_alloc(arena, sizeof(*q));
    struct message m = {.text = arena_alloc(arena, MESSAGE_MAX)};
    if (q == NULL || m.text == NULL || !aws_query_parse(r->target, arena, q)) {
        *message = "The query string cannot be read, or is too long.";
        return AWS_E_IncompleteSignatureException;
    }
    bool in_query = aws_query_value(q, "X-Amz-Algorithm").p != NULL;
    enum aws_error e;
    if (header.n > 0 && in_query) {
        add(&m, "Found both 'X-Amz-Algorithm' as a query-string param and 'Authorization' as HTTP header.");
        e = AWS_E_InvalidSignatureException;
    } else if (header.n == 0 && !in_query) {
        add(&m, "Missing Authentication Token");
        e = AWS_E_MissingAuthenticationTokenException;
    } else {
        e = in_query ? parse_query(q, out, &m) : parse_header(r, header, out, &m);
    }
    if (e != AWS_E_NONE) {
        *message = ended(&m);
        return e;
    }
    credential_split(out);
    return AWS_E_NONE;
}

/* ---- hashes ------------------------------------------------------------------------------------------------------------------ */

void aws_sha256(uint8_t out[AWS_SHA256], const void *p, size_t n)
{
    unsigned size = 0;
    sluice_assert(EVP_Digest(p, n, out, &size, EVP_sha256(), NULL) == 1 && size == AWS_SHA256);
}

bool aws_equal(const void *a, const void *b, size_t n) { return CRYPTO_memcmp(a, b, n) == 0; }

static void hmac(uint8_t out[AWS_SHA256], const void *key, size_t key_n, const void *p, size_t n)
{
    unsigned size = 0;
    sluice_assert(HMAC(EVP_sha256(), key, (int)key_n, p, n, out, &size) != NULL && size == AWS_SHA256);
}

static void hex_write(char *out, const uint8_t *p, size_t n)
{
    static const char digits[] = "0123456789abcdef";
    for (size_t i = 0; i < n; i++) {
        out[2 * i] = digits[p[i] >> 4];
        out[2 * i + 1] = digits[p[i] & 15];
    }
    out[2 * n] = '\0';
}

void aws_signing_key(struct aws_text secret, struct aws_text date, struct aws_text region, struct aws_text service, uint8_t key[AWS_SHA256])
{
    char first[4 + 256];
    size_t n = min_u64(secret.n, sizeof(first) - 4); /* secrets have 40 characters; of longer ones the first 256 count */
    memcpy(first, "AWS4", 4);
    memcpy(first + 4, secret.p, n);
    hmac(key, first, 4 + n, date.p, date.n);
    hmac(key, key, AWS_SHA256, region.p, region.n);
    hmac(key, key, AWS_SHA256, service.p, service.n);
    hmac(key, key, AWS_SHA256, "aws4_request", 12);
    OPENSSL_cleanse(first, sizeof(first));
}

struct hash_sink {
    struct aws_sink sink;
    EVP_MD_CTX *context;
};

static void hash_add(struct aws_sink *sink, const void *p, size_t n)
{
    sluice_assert(n == 0 || EVP_DigestUpdate(container_of(sink, struct hash_sink, sink)->context, p, n) == 1);
}

/* ---- signing ------------------------------------------------------------------------------------------------------------------ */

/* Signs "kind, timestamp, scope, rest", each on its line. */
static void sign(const struct aws_signature *s, const char *kind, struct aws_text timestamp, const char *rest, const uint8_t key[AWS_SHA256],
                 char out[2 * AWS_SHA256 + 1])
{
    uint8_t mac[AWS_SHA256];
    char text[1024];
    int n = snprintf(text, sizeof(text), "%s\n%.*s\n%.*s/%.*s/%.*s/aws4_request\n%s", kind, CUT(timestamp), CUT(s->date), CUT(s->region), CUT(s->service), rest);
    hmac(mac, key, AWS_SHA256, text, min_u64((size_t)n, sizeof(text) - 1));
    hex_write(out, mac, sizeof(mac));
}

bool aws_signature_compute(const struct aws_request *r, const struct aws_signature *s, struct arena *arena, struct aws_text timestamp,
                           const uint8_t key[AWS_SHA256], struct aws_text payload_hash, char out[2 * AWS_SHA256 + 1])
{
    struct aws_query *q = arena_alloc(arena, sizeof(*q));
    struct hash_sink sink = {.sink = {.add = hash_add}, .context = EVP_MD_CTX_new()};
    bool ok = q != NULL && sink.context != NULL && aws_query_parse(r->target, arena, q) && EVP_DigestInit_ex(sink.context, EVP_sha256(), NULL) == 1 &&
        aws_canonical_request(&sink.sink, r, q, s->signed_headers, payload_hash, arena);
    if (ok) {
        uint8_t hash[AWS_SHA256];
        char hash_hex[2 * AWS_SHA256 + 1];
        sluice_assert(EVP_DigestFinal_ex(sink.context, hash, NULL) == 1);
        hex_write(hash_hex, hash, sizeof(hash));
        sign(s, ALGORITHM, timestamp, hash_hex, key, out);
    }
    EVP_MD_CTX_free(sink.context);
    return ok;
}

void aws_signature_chunk(const struct aws_signature *s, struct aws_text timestamp, const uint8_t key[AWS_SHA256], const char previous[2 * AWS_SHA256],
                         const uint8_t chunk_sha256[AWS_SHA256], char out[2 * AWS_SHA256 + 1])
{
    static const char empty[] = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"; /* the hash of no bytes */
    char chunk[2 * AWS_SHA256 + 1], rest[3 * (2 * AWS_SHA256 + 1) + 1];
    hex_write(chunk, chunk_sha256, AWS_SHA256);
    snprintf(rest, sizeof(rest), "%.*s\n%s\n%s", 2 * AWS_SHA256, previous, empty, chunk);
    sign(s, ALGORITHM "-PAYLOAD", timestamp, rest, key, out);
}

/* ---- verifying ------------------------------------------------------------------------------------------------------------------ */

static bool header_signed(const struct aws_signature *s, const char *name)
{
    size_t n = strlen(name), from = 0;
    for (size_t i = 0; i <= s->signed_headers.n; i++) {
        if (i == s->signed_headers.n || s->signed_headers.p[i] == ';') {
            if (i - from == n && memcmp(s->signed_headers.p + from, name, n) == 0) {
                return true;
            }
            from = i + 1;
        }
    }
    return false;
}

static const char *scope_check(const struct aws_signature *s, struct arena *arena, const struct aws_verify_options *o, const char *timestamp)
{
    if (!aws_text_is(s->service, o->service)) {
        return sentence(arena, "Credential should be scoped to correct service: '%s'. ", o->service);
    }
    if (!aws_text_is(s->region, o->region)) {
        return sentence(arena, "Credential should be scoped to a valid region, not '%.*s'. ", CUT(s->region));
    }
    if (memcmp(s->date.p, timestamp, 8) != 0) {
        return sentence(arena, "Date in Credential scope does not match YYYYMMDD from ISO-8601 version of date from HTTP: '%.*s' != '%.8s', from '%s'.",
                        CUT(s->date), timestamp, timestamp);
    }
    return NULL;
}

static const char *time_check(const struct aws_signature *s, struct arena *arena, int64_t now_s, int64_t signed_s, const char *timestamp)
{
    char now[AWS_TIME_BASIC_SIZE], bound[AWS_TIME_BASIC_SIZE];
    aws_time_basic(now, now_s);
    if (signed_s > now_s + AWS_SKEW_S) {
        aws_time_basic(bound, now_s + AWS_SKEW_S);
        return sentence(arena, "Signature not yet current: %s is still later than %s (%s + 5 min.)", timestamp, bound, now);
    }
    if (s->presigned && (s->expires_s < 0 || s->expires_s > AWS_PRESIGNED_MAX_S)) {
        return sentence(arena, "X-Amz-Expires must be between 0 and %d seconds", AWS_PRESIGNED_MAX_S);
    }
    int64_t life_s = s->presigned ? s->expires_s : AWS_SKEW_S;
    if (signed_s < now_s - life_s) {
        aws_time_basic(bound, now_s - life_s);
        return sentence(arena, "Signature expired: %s is now earlier than %s (%s - %lld %s.)", timestamp, bound, now,
                        (long long)(s->presigned ? life_s : life_s / 60), s->presigned ? "s" : "min");
    }
    return NULL;
}

/* What the signature covers must include what the request is about. */
static const char *headers_check(const struct aws_request *r, const struct aws_signature *s, struct arena *arena)
{
    if (!header_signed(s, "host")) {
        return "'Host' or ':authority' must be a 'SignedHeader' in the AWS Authorization.";
    }
    static const char *const needed[] = {"x-amz-date", "x-amz-target", "x-amz-security-token", "x-amz-content-sha256"};
    for (size_t i = 0; i < ARRAY_LEN(needed); i++) {
        if (aws_request_header(r, needed[i]).p != NULL && !header_signed(s, needed[i])) {
            return sentence(arena, "'%s' must be a 'SignedHeader' in the AWS Authorization.", needed[i]);
        }
    }
    return NULL;
}

enum aws_error aws_signature_verify(const struct aws_request *r, const struct aws_signature *s, struct arena *arena, const struct aws_verify_options *o,
                                    const char **message)
{
    *message = NULL;
    int64_t signed_s;
    if (!aws_text_is(s->algorithm, ALGORITHM)) {
        *message = sentence(arena, "Unsupported AWS 'algorithm': '%.*s'. ", CUT(s->algorithm));
        return AWS_E_IncompleteSignatureException;
    }
    if (!s->scoped) {
        *message = sentence(arena, "Credential must have exactly 5 slash-delimited elements, e.g. keyid/date/region/service/term, got '%.*s'", CUT(s->credential));
        return AWS_E_IncompleteSignatureException;
    }
    if (!aws_time_parse(s->timestamp, &signed_s)) {
        *message = sentence(arena, "Date must be in ISO-8601 'basic format'. Got '%.*s'. See http://en.wikipedia.org/wiki/ISO_8601", CUT(s->timestamp));
        return AWS_E_IncompleteSignatureException;
    }
    char timestamp[AWS_TIME_BASIC_SIZE];
    aws_time_basic(timestamp, signed_s);
    if ((*message = scope_check(s, arena, o, timestamp)) != NULL || (*message = time_check(s, arena, o->now_s, signed_s, timestamp)) != NULL ||
        (*message = headers_check(r, s, arena)) != NULL) {
        return AWS_E_InvalidSignatureException;
    }

    /* The body's own hash, but where the client was allowed to say that it does not sign the body here. */
    char body_hex[2 * AWS_SHA256 + 1];
    hex_write(body_hex, o->body_sha256, AWS_SHA256);
    struct aws_text payload = {body_hex, 2 * AWS_SHA256}, said = aws_request_header(r, "x-amz-content-sha256");
    if ((o->unsigned_payload && aws_text_is(said, "UNSIGNED-PAYLOAD")) || (o->streaming_payload && aws_text_is(said, "STREAMING-AWS4-HMAC-SHA256-PAYLOAD"))) {
        payload = said;
    }
    char expected[2 * AWS_SHA256 + 1];
    bool ok = aws_signature_compute(r, s, arena, (struct aws_text){timestamp, 16}, o->key, payload, expected);
    if (!ok || s->signature.n != 2 * AWS_SHA256 || !aws_equal(expected, s->signature.p, 2 * AWS_SHA256)) {
        *message = "The request signature we calculated does not match the signature you provided. Check your AWS Secret Access Key and signing method. Consult the "
                   "service documentation for details.";
        return AWS_E_InvalidSignatureException;
    }
    return AWS_E_NONE;
}
