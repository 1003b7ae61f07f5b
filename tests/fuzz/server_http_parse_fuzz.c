/* Heads of HTTP/1 and chunked bodies. First byte: which, and where the bytes are cut. What is taken is what it says, wherever it was cut. */
#include "fuzz.h"

#include "server/http/h1_parse.h"

static void head(const char *p, size_t n, size_t cut)
{
    size_t whole = 0, scanned = 0;
    long len = h1_head_end(p, n, &whole);
    long again = h1_head_end(p, cut, &scanned);
    if (again == 0) {
        again = h1_head_end(p, n, &scanned);
    }
    sluice_assert(again == len && len <= (long)n);
    if (len <= 0) {
        return;
    }
    char *copy = (char *)fuzz_copy((const uint8_t *)p, (size_t)len);
    struct http_header headers[16];
    struct h1_head h;
    int status = h1_head_parse(copy, (size_t)len, headers, ARRAY_LEN(headers), &h);
    sluice_assert(status == 0 || (status >= 400 && status < 600));
    if (status == 0) {
        sluice_assert(h.n_headers <= ARRAY_LEN(headers) && h.method.n > 0 && h.target.n > 0);
        sluice_assert(!(h.chunked && h.content_length != UINT64_MAX));
        unsigned hosts = 0, lengths = 0;
        for (unsigned i = 0; i < h.n_headers; i++) {
            for (size_t k = 0; k < headers[i].name.n; k++) {
                sluice_assert(http_token_char((unsigned char)headers[i].name.p[k]));
            }
            for (size_t k = 0; k < headers[i].value.n; k++) {
                sluice_assert(http_value_char((unsigned char)headers[i].value.p[k]));
            }
            hosts += http_view_is_nocase(headers[i].name, "host");
            lengths += http_view_is_nocase(headers[i].name, "content-length");
        }
        sluice_assert(lengths <= 1 && (hosts == 1 || (hosts == 0 && h.version == HTTP_1_0)));
    }
    free(copy);
}

struct sum { int state; uint64_t bytes, hash; size_t used; };

static struct sum chunks(const uint8_t *p, size_t n, size_t step)
{
    struct h1_chunks s = {0};
    struct sum sum = {.hash = 14695981039346656037u};
    while (sum.used < n && s.state != H1_CHUNKS_DONE && s.state != H1_CHUNKS_BAD) {
        size_t part = min_u64(step, n - sum.used), len;
        uint8_t *copy = fuzz_copy(p + sum.used, part);
        const uint8_t *data;
        size_t took = h1_chunks_next(&s, copy, part, &data, &len);
        sluice_assert(took > 0 && took <= part && (len == 0 || (data >= copy && data + len <= copy + part)));
        for (size_t i = 0; i < len; i++) {
            sum.hash = (sum.hash ^ data[i]) * 1099511628211u;
        }
        sum.bytes += len;
        sum.used += took;
        free(copy);
    }
    sum.state = s.state;
    return sum;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0) {
        return 0;
    }
    uint8_t which = data[0];
    size_t n = size - 1;
    uint8_t *copy = fuzz_copy(data + 1, n);
    if (which & 1) {
        head((char *)copy, n, n * (which >> 1) / 128);
    } else {
        struct sum whole = chunks(copy, n, SIZE_MAX), cut = chunks(copy, n, (size_t)(which >> 1) + 1);
        sluice_assert(whole.state == cut.state && whole.bytes == cut.bytes && whole.hash == cut.hash && whole.used == cut.used);
    }
    free(copy);
    return 0;
}
