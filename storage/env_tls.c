/* TLS through OpenSSL (see env_tls.h). The BIO under it reads from the bytes last given, without a copy, and appends to the output. */
#include "storage/env_tls.h"

#include <errno.h>
#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proto/base.h"

enum { PEM_FILE_MAX = 1 << 20, WRITE_MAX = 1 << 30 };

struct tls_context {
    SSL_CTX *ctx;
    BIO_METHOD *method;
    const uint8_t *alpn;
    unsigned alpn_len;
    unsigned refs; /* atomic */
};

struct tls {
    SSL *ssl;
    struct tls_context *context;
    const uint8_t *in;
    size_t in_len;
    uint8_t *out;
    size_t out_len, out_cap;
    char error[160];
};

/* ---- the BIO ---- */

static int bio_read(BIO *bio, char *buf, int n)
{
    struct tls *t = BIO_get_data(bio);
    BIO_clear_retry_flags(bio);
    if (t->in_len == 0) {
        BIO_set_retry_read(bio);
        return -1;
    }
    size_t part = min_u64((uint64_t)n, t->in_len);
    memcpy(buf, t->in, part);
    t->in += part;
    t->in_len -= part;
    return (int)part;
}

static int bio_write(BIO *bio, const char *p, int n)
{
    struct tls *t = BIO_get_data(bio);
    BIO_clear_retry_flags(bio);
    size_t len = (size_t)n;
    if (t->out_cap - t->out_len < len) {
        size_t cap = max_u64(t->out_cap * 2, ALIGN_UP(t->out_len + len, 4096));
        uint8_t *out = realloc(t->out, cap);
        if (out == NULL) {
            return -1;
        }
        t->out = out;
        t->out_cap = cap;
    }
    memcpy(t->out + t->out_len, p, len);
    t->out_len += len;
    return n;
}

static long bio_ctrl(BIO *bio, int cmd, long num, void *ptr)
{
    (void)bio;
    (void)num;
    (void)ptr;
    return cmd == BIO_CTRL_FLUSH;
}

/* ---- contexts ---- */

static int refuse(char err[256], const char *what)
{
    unsigned long code = ERR_peek_last_error();
    const char *reason = code != 0 ? ERR_reason_error_string(code) : NULL;
    snprintf(err, 256, reason != NULL ? "%s: %s" : "%s", what, reason);
    ERR_clear_error();
    return -EINVAL;
}

static int no_password(char *buf, int size, int writing, void *arg)
{
    (void)buf;
    (void)size;
    (void)writing;
    (void)arg;
    return 0;
}

static int choose_alpn(SSL *ssl, const unsigned char **out, unsigned char *out_len, const unsigned char *in, unsigned in_len, void *arg)
{
    (void)ssl;
    const struct tls_context *c = arg;
    unsigned char *chosen;
    if (SSL_select_next_proto(&chosen, out_len, c->alpn, c->alpn_len, in, in_len) != OPENSSL_NPN_NEGOTIATED) {
        return SSL_TLSEXT_ERR_ALERT_FATAL; /* RFC 7301: a client that speaks none of ours learns it now */
    }
    *out = chosen;
    return SSL_TLSEXT_ERR_OK;
}

static int use_certificates(SSL_CTX *ctx, const struct tls_options *o, char err[256])
{
    BIO *bio = o->certificate_len <= PEM_FILE_MAX ? BIO_new_mem_buf(o->certificate, (int)o->certificate_len) : NULL;
    if (bio == NULL) {
        return refuse(err, "certificate: too large, or no memory");
    }
    int rc = 0;
    unsigned n = 0;
    for (X509 *x; rc == 0 && (x = PEM_read_bio_X509(bio, NULL, no_password, NULL)) != NULL; n++) {
        bool taken = (n == 0 ? SSL_CTX_use_certificate(ctx, x) : SSL_CTX_add1_chain_cert(ctx, x)) == 1;
        X509_free(x);
        if (!taken) {
            rc = refuse(err, "certificate: OpenSSL does not take it");
        }
    }
    BIO_free(bio);
    if (rc == 0 && (n == 0 || ERR_GET_REASON(ERR_peek_last_error()) != PEM_R_NO_START_LINE)) {
        rc = refuse(err, n == 0 ? "certificate: none found" : "certificate: a later one of the chain cannot be read");
    }
    ERR_clear_error();
    return rc;
}

static int use_key(SSL_CTX *ctx, const struct tls_options *o, char err[256])
{
    BIO *bio = o->key_len <= PEM_FILE_MAX ? BIO_new_mem_buf(o->key, (int)o->key_len) : NULL;
    EVP_PKEY *key = bio != NULL ? PEM_read_bio_PrivateKey(bio, NULL, no_password, NULL) : NULL;
    BIO_free(bio);
    if (key == NULL) {
        return refuse(err, "private key: cannot be read (PEM without a password is needed)");
    }
    int rc = 0;
    if (SSL_CTX_use_PrivateKey(ctx, key) != 1 || SSL_CTX_check_private_key(ctx) != 1) {
        rc = refuse(err, "private key: does not belong to the certificate");
    }
    EVP_PKEY_free(key);
    return rc;
}

/* What both sides have in common. */
static int context_new(struct tls_context **out, const SSL_METHOD *side, char err[256])
{
    ERR_clear_error();
    struct tls_context *c = xcalloc(1, sizeof *c);
    c->refs = 1;
    c->ctx = SSL_CTX_new(side);
    c->method = BIO_meth_new(BIO_TYPE_SOURCE_SINK, "sluice");
    if (c->ctx == NULL || c->method == NULL) {
        tls_context_unref(c);
        return refuse(err, "TLS cannot be set up");
    }
    BIO_meth_set_read(c->method, bio_read);
    BIO_meth_set_write(c->method, bio_write);
    BIO_meth_set_ctrl(c->method, bio_ctrl);
    SSL_CTX_set_min_proto_version(c->ctx, TLS1_2_VERSION);
    SSL_CTX_set_options(c->ctx, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION | SSL_OP_CIPHER_SERVER_PREFERENCE);
    SSL_CTX_set_mode(c->ctx, SSL_MODE_RELEASE_BUFFERS); /* idle connections hold little */
    SSL_CTX_set_session_cache_mode(c->ctx, SSL_SESS_CACHE_OFF);
    *out = c;
    return 0;
}

int tls_context_open(struct tls_context **out, const struct tls_options *o, char err[256])
{
    struct tls_context *c;
    int rc = context_new(&c, TLS_server_method(), err);
    if (rc != 0) {
        return rc;
    }
    c->alpn = o->alpn;
    c->alpn_len = o->alpn_len;
    SSL_CTX_set_session_id_context(c->ctx, (const unsigned char *)"sluice", 6);
    if (c->alpn != NULL) {
        SSL_CTX_set_alpn_select_cb(c->ctx, choose_alpn, c);
    }
    rc = use_certificates(c->ctx, o, err);
    if (rc == 0) {
        rc = use_key(c->ctx, o, err);
    }
    if (rc != 0) {
        tls_context_unref(c);
        return rc;
    }
    *out = c;
    return 0;
}

static int read_file(struct env *env, const char *path, char **text, size_t *len, char err[256])
{
    struct env_file *f;
    int rc = env_file_open(env, path, ENV_OPEN_READ, &f);
    if (rc != 0) {
        snprintf(err, 256, "%.150s: %s", path, strerror(-rc));
        return rc;
    }
    int64_t size = env_file_size(env, f);
    if (size < 0 || size > PEM_FILE_MAX) {
        snprintf(err, 256, "%.150s: %s", path, size < 0 ? strerror((int)-size) : "too large");
        rc = size < 0 ? (int)size : -EFBIG;
    } else {
        *text = xmalloc((size_t)size + 1);
        ssize_t n = env_file_pread(env, f, *text, (size_t)size, 0);
        if (n < 0) {
            snprintf(err, 256, "%.150s: %s", path, strerror((int)-n));
            free(*text);
            *text = NULL;
            rc = (int)n;
        } else {
            *len = (size_t)n;
        }
    }
    env_file_close(env, f);
    return rc;
}

int tls_context_load(struct env *env, struct tls_context **out, const char *certificate_path, const char *key_path, const struct tls_options *o, char err[256])
{
    char *certificate = NULL, *key = NULL;
    struct tls_options with = *o;
    int rc = read_file(env, certificate_path, &certificate, &with.certificate_len, err);
    if (rc != 0) {
        return rc;
    }
    rc = read_file(env, key_path, &key, &with.key_len, err);
    if (rc == 0) {
        with.certificate = certificate;
        with.key = key;
        rc = tls_context_open(out, &with, err);
        OPENSSL_cleanse(key, with.key_len);
        free(key);
    }
    free(certificate);
    return rc;
}

/* The system's authorities come from where OpenSSL looks for them. */
static int trust(SSL_CTX *ctx, const char *pem, size_t len, char err[256])
{
    BIO *bio = BIO_new_mem_buf(pem, (int)len);
    if (bio == NULL) {
        return refuse(err, "certificates of authorities: no memory");
    }
    unsigned n = 0;
    for (X509 *x; (x = PEM_read_bio_X509(bio, NULL, no_password, NULL)) != NULL;) {
        n += X509_STORE_add_cert(SSL_CTX_get_cert_store(ctx), x) == 1;
        X509_free(x);
    }
    BIO_free(bio);
    if (n == 0) {
        return refuse(err, "no certificate of an authority found");
    }
    ERR_clear_error();
    return 0;
}

int tls_context_client(struct env *env, struct tls_context **out, const char *authorities_path, char err[256])
{
    struct tls_context *c;
    int rc = context_new(&c, TLS_client_method(), err);
    if (rc != 0) {
        return rc;
    }
    SSL_CTX_set_verify(c->ctx, SSL_VERIFY_PEER, NULL);
    if (authorities_path == NULL) {
        rc = SSL_CTX_set_default_verify_paths(c->ctx) == 1 ? 0 : refuse(err, "the system's certificates cannot be read");
    } else {
        char *pem = NULL;
        size_t len = 0;
        rc = read_file(env, authorities_path, &pem, &len, err);
        rc = rc == 0 ? trust(c->ctx, pem, len, err) : rc;
        free(pem);
    }
    if (rc != 0) {
        tls_context_unref(c);
        return rc;
    }
    *out = c;
    return 0;
}

struct tls_context *tls_context_ref(struct tls_context *c)
{
    __atomic_add_fetch(&c->refs, 1, __ATOMIC_RELAXED);
    return c;
}

void tls_context_unref(struct tls_context *c)
{
    if (c != NULL && __atomic_sub_fetch(&c->refs, 1, __ATOMIC_ACQ_REL) == 0) {
        SSL_CTX_free(c->ctx);
        BIO_meth_free(c->method);
        free(c);
    }
}

/* ---- connections ---- */

static struct tls *open_side(struct tls_context *c)
{
    struct tls *t = calloc(1, sizeof *t);
    if (t == NULL) {
        return NULL;
    }
    ERR_clear_error();
    t->ssl = SSL_new(c->ctx);
    BIO *bio = BIO_new(c->method);
    if (t->ssl == NULL || bio == NULL) {
        SSL_free(t->ssl);
        BIO_free(bio);
        free(t);
        return NULL;
    }
    t->context = tls_context_ref(c);
    BIO_set_data(bio, t);
    BIO_set_init(bio, 1);
    SSL_set_bio(t->ssl, bio, bio);
    return t;
}

struct tls *tls_open(struct tls_context *c)
{
    struct tls *t = open_side(c);
    if (t != NULL) {
        SSL_set_accept_state(t->ssl);
    }
    return t;
}

struct tls *tls_open_to(struct tls_context *c, const char *host)
{
    struct tls *t = open_side(c);
    if (t == NULL) {
        return NULL;
    }
    /* A literal address is proved by the certificate's addresses, and is never told as a name. */
    SSL_set_connect_state(t->ssl);
    bool literal = X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(t->ssl), host) == 1;
    if (!literal && (SSL_set_tlsext_host_name(t->ssl, host) != 1 || SSL_set1_host(t->ssl, host) != 1)) {
        tls_close(t);
        return NULL;
    }
    ERR_clear_error();
    SSL_do_handshake(t->ssl);
    ERR_clear_error();
    return t;
}

void tls_close(struct tls *t)
{
    if (t != NULL) {
        SSL_free(t->ssl);
        tls_context_unref(t->context);
        free(t->out);
        free(t);
    }
}

void tls_give(struct tls *t, const void *p, size_t n)
{
    sluice_assert(t->in_len == 0);
    t->in = p;
    t->in_len = n;
}

static int broken(struct tls *t)
{
    unsigned long code = ERR_peek_last_error();
    const char *reason = code != 0 ? ERR_reason_error_string(code) : NULL;
    long verified = SSL_get_verify_result(t->ssl); /* always good on the server's side, which asks for no certificate */
    snprintf(t->error, sizeof t->error, "%s", verified != X509_V_OK ? X509_verify_cert_error_string(verified) : reason != NULL ? reason : "broken");
    ERR_clear_error();
    t->in_len = 0;
    return -EPROTO;
}

ssize_t tls_read(struct tls *t, void *buf, size_t n)
{
    ERR_clear_error();
    int got = SSL_read(t->ssl, buf, (int)min_u64(n, WRITE_MAX));
    if (got > 0) {
        return got;
    }
    switch (SSL_get_error(t->ssl, got)) {
    case SSL_ERROR_WANT_READ:
        return 0;
    case SSL_ERROR_ZERO_RETURN:
        t->in_len = 0;
        return TLS_ENDED;
    default:
        return broken(t);
    }
}

bool tls_ready(const struct tls *t) { return SSL_is_init_finished(t->ssl); }

int tls_write(struct tls *t, const void *p, size_t n)
{
    while (n > 0) {
        ERR_clear_error();
        int put = SSL_write(t->ssl, p, (int)min_u64(n, WRITE_MAX));
        if (put <= 0) {
            return broken(t);
        }
        p = (const char *)p + put;
        n -= (size_t)put;
    }
    return 0;
}

void tls_end(struct tls *t)
{
    ERR_clear_error();
    if (SSL_is_init_finished(t->ssl)) {
        SSL_shutdown(t->ssl);
    }
    ERR_clear_error();
}

size_t tls_output_bytes(const struct tls *t) { return t->out_len; }

void *tls_output_take(struct tls *t, size_t *n)
{
    void *p = t->out;
    *n = t->out_len;
    t->out = NULL;
    t->out_len = t->out_cap = 0;
    return p;
}


bool tls_alpn_is(const struct tls *t, const char *name)
{
    const unsigned char *p;
    unsigned n;
    SSL_get0_alpn_selected(t->ssl, &p, &n);
    return n == strlen(name) && n > 0 && memcmp(p, name, n) == 0;
}

const char *tls_error(const struct tls *t) { return t->error; }
