/* env_tls.h: TLS as a filter of bytes, for both sides: ciphertext in, plain bytes out, and back. No sockets, no clock of its own: it stands between env_conn and a protocol.
 *
 * TLS 1.2 and 1.3, no renegotiation, no compression, no session cache (tickets carry what is resumed). Randomness is OpenSSL's own, also in the simulator: a
 * simulated run with TLS is not replayed byte for byte. */
#ifndef SLUICE_ENV_TLS_H
#define SLUICE_ENV_TLS_H

#include <errno.h>

#include "storage/env.h"

struct tls_context; /* certificate, key, settings: never changes, may be shared by threads */
struct tls;         /* one connection */

struct tls_options {
    const char *certificate; /* PEM: the server's certificate, then those between it and the root */
    size_t certificate_len;
    const char *key;         /* PEM, not encrypted */
    size_t key_len;
    const uint8_t *alpn;     /* the protocols spoken, best first, each with its length in a byte before it ("\x02h2"); stays valid. NULL: none */
    unsigned alpn_len;
};
/* 0, or -EINVAL with the reason in err. The texts are not needed afterwards. */
int tls_context_open(struct tls_context **out, const struct tls_options *o, char err[256]);
/* The same from files, read through env: blocks, so before serving or on a job. certificate and key of *o are not looked at. -errno if a file cannot be read. */
int tls_context_load(struct env *env, struct tls_context **out, const char *certificate_path, const char *key_path, const struct tls_options *o, char err[256]);
/* For clients: a server's certificate must lead to one of the authorities in the PEM file, NULL: to those that the system trusts. Blocks. 0, or -errno with the reason. */
int tls_context_client(struct env *env, struct tls_context **out, const char *authorities_path, char err[256]);
struct tls_context *tls_context_ref(struct tls_context *c); /* any thread */
void tls_context_unref(struct tls_context *c);              /* any thread; NULL is nothing */

/* NULL if memory is short. Keeps a reference to the context. */
struct tls *tls_open(struct tls_context *c);
/* The client's side, of a client's context: the server must prove to be `host`, a name or a literal address. The first output is there at once. */
struct tls *tls_open_to(struct tls_context *c, const char *host);
void tls_close(struct tls *t);

#define TLS_ENDED (-EPIPE) /* the peer ended the connection orderly */
/* Ciphertext that arrived; stays valid until tls_read() has told that it needs more, or an error. */
void tls_give(struct tls *t, const void *p, size_t n);
/* Plain bytes: > 0; 0: all that was given is used up; TLS_ENDED; another negative: broken (tls_error()). Also carries the handshake on: look for output afterwards. */
ssize_t tls_read(struct tls *t, void *buf, size_t n);
/* The handshake is over: tls_write() is allowed. */
bool tls_ready(const struct tls *t);
/* Encrypts all of it to the output. 0 or -EPROTO. */
int tls_write(struct tls *t, const void *p, size_t n);
/* Says to the peer that nothing more comes. */
void tls_end(struct tls *t);
size_t tls_output_bytes(const struct tls *t);
/* The output so far becomes the caller's: free(). NULL if there is none. */
void *tls_output_take(struct tls *t, size_t *n);
/* The protocol that was agreed on equals name? */
bool tls_alpn_is(const struct tls *t, const char *name);
const char *tls_error(const struct tls *t);

#endif
