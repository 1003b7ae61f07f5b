/* aws_event.c: frames of application/vnd.amazon.eventstream. */
#include "server/aws/aws_event.h"

#include <zlib.h>

#include "proto/base.h"

enum { PRELUDE = 12, HEADER_STRING = 7 };

static void put_be32(uint8_t *p, uint32_t v) { put_u32(p, __builtin_bswap32(v)); }
static uint32_t get_be32(const uint8_t *p) { return __builtin_bswap32(get_u32(p)); }

static uint32_t crc_add(uint32_t crc, const void *p, size_t n) { return (uint32_t)crc32_z(crc, p, n); }

static void put_header(struct aws_event *e, const char *name, const char *value)
{
    size_t name_n = strlen(name), value_n = strlen(value);
    sluice_assert(e->head_n + 4 + name_n + value_n <= sizeof(e->head));
    uint8_t *p = e->head + e->head_n;
    *p++ = (uint8_t)name_n;
    memcpy(p, name, name_n);
    p += name_n;
    *p++ = HEADER_STRING;
    *p++ = (uint8_t)(value_n >> 8);
    *p++ = (uint8_t)value_n;
    memcpy(p, value, value_n);
    e->head_n += 4 + name_n + value_n;
}

static void seal(struct aws_event *e, enum aws_format format, bool exception, const char *type, const struct iovec *payload, unsigned n_iov)
{
    e->head_n = PRELUDE;
    put_header(e, ":message-type", exception ? "exception" : "event");
    put_header(e, exception ? ":exception-type" : ":event-type", type);
    put_header(e, ":content-type", format == AWS_JSON ? "application/x-amz-json-1.1" : "application/x-amz-cbor-1.1");

    size_t payload_n = 0;
    for (unsigned i = 0; i < n_iov; i++) {
        payload_n += payload[i].iov_len;
    }
    sluice_assert(payload_n <= AWS_EVENT_PAYLOAD_MAX);
    put_be32(e->head, (uint32_t)(e->head_n + payload_n + AWS_EVENT_TAIL));
    put_be32(e->head + 4, (uint32_t)(e->head_n - PRELUDE));
    put_be32(e->head + 8, crc_add(0, e->head, 8));
    uint32_t crc = crc_add(0, e->head, e->head_n);
    for (unsigned i = 0; i < n_iov; i++) {
        crc = crc_add(crc, payload[i].iov_base, payload[i].iov_len);
    }
    put_be32(e->tail, crc);
}

void aws_event_seal(struct aws_event *e, enum aws_format format, const char *type, const struct iovec *payload, unsigned n_iov)
{
    seal(e, format, false, type, payload, n_iov);
}

void aws_event_seal_exception(struct aws_event *e, enum aws_format format, enum aws_error error, const struct iovec *payload, unsigned n_iov)
{
    seal(e, format, true, aws_error_name(error), payload, n_iov);
}

size_t aws_event_initial_response(uint8_t out[AWS_EVENT_HEAD_MAX], enum aws_format format)
{
    uint8_t empty[2] = {'{', '}'};
    if (format == AWS_CBOR) {
        memcpy(empty, "\xbf\xff", 2);
    }
    struct iovec payload = {empty, sizeof(empty)};
    struct aws_event e;
    aws_event_seal(&e, format, "initial-response", &payload, 1);
    size_t n = e.head_n + sizeof(empty) + sizeof(e.tail);
    sluice_assert(n <= AWS_EVENT_HEAD_MAX);
    memcpy(out, e.head, e.head_n);
    memcpy(out + e.head_n, empty, sizeof(empty));
    memcpy(out + e.head_n + sizeof(empty), e.tail, sizeof(e.tail));
    return n;
}

ssize_t aws_event_read(const uint8_t *p, size_t n, struct aws_event_view *view)
{
    *view = (struct aws_event_view){0};
    if (n < PRELUDE) {
        return 0;
    }
    size_t total = get_be32(p), headers = get_be32(p + 4);
    if (get_be32(p + 8) != crc_add(0, p, 8) || total > AWS_EVENT_PAYLOAD_MAX + AWS_EVENT_HEAD_MAX + AWS_EVENT_TAIL ||
        total < PRELUDE + headers + AWS_EVENT_TAIL) {
        return -1;
    }
    if (n < total) {
        return 0;
    }
    if (get_be32(p + total - AWS_EVENT_TAIL) != crc_add(0, p, total - AWS_EVENT_TAIL)) {
        return -1;
    }
    static const char *const names[] = {":message-type", ":event-type", ":exception-type", ":content-type"};
    struct aws_text *const found[] = {&view->message_type, &view->event_type, &view->exception_type, &view->content_type};
    const uint8_t *at = p + PRELUDE, *end = at + headers;
    while (at < end) {
        size_t name_n = *at;
        if ((size_t)(end - at) < 4 + name_n || at[1 + name_n] != HEADER_STRING) {
            return -1; /* the service has headers of no other type */
        }
        struct aws_text name = {(const char *)at + 1, name_n};
        size_t value_n = (size_t)at[2 + name_n] << 8 | at[3 + name_n];
        at += 4 + name_n;
        if ((size_t)(end - at) < value_n) {
            return -1;
        }
        for (size_t i = 0; i < ARRAY_LEN(names); i++) {
            if (aws_text_is(name, names[i])) {
                *found[i] = (struct aws_text){(const char *)at, value_n};
            }
        }
        at += value_n;
    }
    view->payload = end;
    view->payload_n = total - PRELUDE - headers - AWS_EVENT_TAIL;
    return (ssize_t)total;
}
