/* h1_parse.h: HTTP/1 heads and chunked bodies: pure, strict, without copies. Fuzzed (tests/fuzz/server_http_parse_fuzz.c).
 *
 * Refused, because servers and proxies that disagree about it are how requests are smuggled: LF without CR and CR without LF, folded header lines, blanks
 * before a colon, control characters, Content-Length that is doubled, signed, a list or next to Transfer-Encoding, any Transfer-Encoding but exactly "chunked",
 * HTTP/1.1 without exactly one Host. */
#ifndef SLUICE_HTTP_H1_PARSE_H
#define SLUICE_HTTP_H1_PARSE_H

#include "server/http/http.h"

struct h1_head {
    struct http_view method, target; /* target: path and query; scheme and authority of an absolute form are taken off */
    enum http_version version;
    uint64_t content_length;         /* UINT64_MAX: none */
    bool chunked, keep_alive, expect_continue;
    unsigned n_headers;
};

/* Where the head ends: its length with the empty line; 0: more is needed; -1: it can be no head. *scanned is the caller's memory between calls (0 at first). */
long h1_head_end(const char *p, size_t n, size_t *scanned);
/* A whole head, as h1_head_end() told. Returns 0 or the HTTP status to refuse it with. */
int h1_head_parse(const char *p, size_t n, struct http_header *headers, unsigned max, struct h1_head *out);

bool http_token_char(unsigned char c);
/* A field's value may have that byte: no controls but HTAB. */
static inline bool http_value_char(unsigned char c) { return (c >= ' ' && c != 127) || c == '\t'; }
/* Decimal digits only, without overflow. */
bool http_number(struct http_view v, uint64_t *out);

enum { H1_TRAILERS_MAX = 8192, H1_EXTENSIONS_MAX = 4096 };

/* A chunked body's place. Zeroed at first. */
struct h1_chunks {
    enum {
        H1_CHUNK_SIZE, H1_CHUNK_BLANK, H1_CHUNK_EXT, H1_CHUNK_SIZE_LF, H1_CHUNK_DATA, H1_CHUNK_CR, H1_CHUNK_LF,
        H1_TRAILER_START, H1_TRAILER_NAME, H1_TRAILER_VALUE, H1_TRAILER_LF, H1_LAST_LF, H1_CHUNKS_DONE, H1_CHUNKS_BAD
    } state;
    uint64_t left;                        /* of this chunk */
    unsigned digits, extensions, trailers; /* digits of this size; bytes of all extensions and trailers */
};
/* Goes on with p[0, n): returns how many bytes were used up to and with one run of body bytes (*data, *len; len 0: none). The caller calls again until all is used or
 * the state is DONE or BAD. */
size_t h1_chunks_next(struct h1_chunks *s, const uint8_t *p, size_t n, const uint8_t **data, size_t *len);

#endif
