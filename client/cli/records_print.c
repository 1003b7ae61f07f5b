/* Records as lines: data and a newline, or a JSON object. */
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <unistd.h>

#include "client/cli/records.h"

enum { OUT_BYTES = 256 << 10 };

void records_out_open(struct records_out *o, bool json)
{
    *o = (struct records_out){.text = xmalloc(OUT_BYTES), .json = json};
}

void records_out_close(struct records_out *o)
{
    free(o->text);
    o->text = NULL;
}

static void out_write(struct records_out *o, const char *data, size_t n)
{
    while (n > 0 && !o->broken) {
        ssize_t r = write(STDOUT_FILENO, data, n);
        if (r < 0 && errno == EINTR) {
            continue;
        }
        if (r < 0) {
            if (errno != EPIPE) {
                cli_error("cannot write the output: %s", strerror(errno));
            }
            o->broken = true;
            return;
        }
        data += r;
        n -= (size_t)r;
    }
}

bool records_out_flush(struct records_out *o)
{
    size_t n = o->len;
    o->len = 0;
    out_write(o, o->text, n);
    return !o->broken;
}

static void out_add(struct records_out *o, const void *data, size_t n)
{
    if (o->len + n > OUT_BYTES) {
        records_out_flush(o);
    }
    if (n > OUT_BYTES) {
        out_write(o, data, n);
    } else if (n > 0) {
        memcpy(o->text + o->len, data, n);
        o->len += n;
    }
}

bool records_out_gone(void)
{
    struct pollfd out = {.fd = STDOUT_FILENO};
    return poll(&out, 1, 0) == 1 && (out.revents & (POLLERR | POLLHUP)) != 0;
}

/* Text if it is valid UTF-8, else base64 under another name. */
static void json_bytes(json_t *j, const char *name, const char *name_base64, const uint8_t *data, size_t n)
{
    json_t *text = json_stringn((const char *)data, n);
    if (text != NULL) {
        json_object_set_new(j, name, text);
        return;
    }
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    char *coded = xmalloc((n + 2) / 3 * 4 + 1);
    size_t len = 0;
    for (size_t i = 0; i < n; i += 3) {
        uint32_t v = (uint32_t)data[i] << 16 | (i + 1 < n ? (uint32_t)data[i + 1] << 8 : 0) | (i + 2 < n ? data[i + 2] : 0);
        coded[len++] = digits[v >> 18];
        coded[len++] = digits[v >> 12 & 63];
        coded[len++] = i + 1 < n ? digits[v >> 6 & 63] : '=';
        coded[len++] = i + 2 < n ? digits[v & 63] : '=';
    }
    json_object_set_new(j, name_base64, json_stringn(coded, len));
    free(coded);
}

static void add_json(struct records_out *o, const struct sluice_records *b, size_t i)
{
    char sequence[SEQNO_TEXT_MAX];
    sluice_record_sequence(b, i, sequence);
    json_t *j = json_pack("{s:I, s:s, s:I, s:I}", "shard", (json_int_t)b->shard, "sequence", sequence, "offset", (json_int_t)b->v[i].offset, "time_ms",
                          (json_int_t)b->time_ms);
    json_bytes(j, "key", "key_base64", b->v[i].key, b->v[i].key_len);
    json_bytes(j, "data", "data_base64", b->v[i].data, b->v[i].data_len);
    char *text = json_dumps(j, JSON_COMPACT);
    out_add(o, text, strlen(text));
    free(text);
    json_decref(j);
}

bool records_out_add(struct records_out *o, const struct sluice_records *b, size_t i)
{
    if (o->json) {
        add_json(o, b, i);
    } else {
        out_add(o, b->v[i].data, b->v[i].data_len);
    }
    out_add(o, "\n", 1);
    return !o->broken;
}
