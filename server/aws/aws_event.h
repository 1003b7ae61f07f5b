/* aws_event.h: frames of application/vnd.amazon.eventstream, which carry SubscribeToShard's answer.
 *
 * A frame is total length, header length, CRC32 of these two | headers | payload | CRC32 of all before; numbers are big-endian. The payload stays where it is:
 * a sealed frame is sent as head, the payload's pieces, tail. Each frame goes into a chunk or DATA frame of its own, since some clients lose
 * what comes together. */
#ifndef SLUICE_AWS_EVENT_H
#define SLUICE_AWS_EVENT_H

#include <sys/uio.h>

#include "server/aws/aws_error.h"

enum {
    AWS_EVENT_HEAD_MAX = 320,
    AWS_EVENT_TAIL = 4,
    AWS_EVENT_PAYLOAD_MAX = 16 * 1024 * 1024 - AWS_EVENT_HEAD_MAX - AWS_EVENT_TAIL /* what clients take at most */
};

#define AWS_EVENT_CONTENT_TYPE "application/vnd.amazon.eventstream"

struct aws_event {
    uint8_t head[AWS_EVENT_HEAD_MAX];
    size_t head_n;
    uint8_t tail[AWS_EVENT_TAIL];
};

/* Seals a frame around the payload's pieces (n_iov; together at most AWS_EVENT_PAYLOAD_MAX bytes, asserted). `format` tells the payload's content type.

 * An event: "initial-response" (the first frame, payload {}) or "SubscribeToShardEvent". */
void aws_event_seal(struct aws_event *e, enum aws_format format, const char *type, const struct iovec *payload, unsigned n_iov);
/* An error in the course of the stream; the payload is {"message": ...}. The stream ends after it. */
void aws_event_seal_exception(struct aws_event *e, enum aws_format format, enum aws_error error, const struct iovec *payload, unsigned n_iov);

/* The whole first frame, which boto3 insists on; returns its bytes, at most AWS_EVENT_HEAD_MAX. */
size_t aws_event_initial_response(uint8_t out[AWS_EVENT_HEAD_MAX], enum aws_format format);

/* ---- reading frames, for tests and for our own clients ---- */
struct aws_event_view {
    struct aws_text message_type, event_type, exception_type, content_type; /* {NULL, 0}: not there */
    const uint8_t *payload;
    size_t payload_n;
};

/* Looks at the frame at the beginning of n bytes. > 0: its length, *view points into it; 0: more bytes are needed; -1: no frame. */
ssize_t aws_event_read(const uint8_t *p, size_t n, struct aws_event_view *view);

#endif
