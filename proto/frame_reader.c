/* The incremental reader of frames.
 *
 * Normal course: bytes are read into staging, where header and message are parsed in place. A payload that lies in
 * staging as a whole is copied to memory of its own; of a longer one the staged start is copied and the rest is read
 * straight into its place. Only when little of it is missing does the rest go through staging, so that the read also
 * brings the frames behind it. Large payloads come in a row: behind one, only a little is read into staging, so that of
 * the next one, too, little is copied.
 *
 * What a peer can make us allocate: staging grows only as bytes arrive; the payload, which the peer merely announces,
 * is bounded by payload_max and allocated after the message's checksum, which covers the announced length, was right.
 *
 *   HEADER -> MESSAGE -> [PAYLOAD] -> DONE -> HEADER ...          any -> FAILED, for good */
#include <stdlib.h>

#include "proto/base.h"
#include "proto/error.h"
#include "proto/frame.h"

enum frame_reader_state { READ_HEADER, READ_MESSAGE, READ_PAYLOAD, READ_DONE, READ_FAILED };

enum {
    STAGING_FIRST = 4 << 10,  /* a connection that says little stays small */
    STAGING_USUAL = 64 << 10, /* one that keeps its staging full gets this much */
    DIRECT_MIN = 4 << 10,     /* missing payload bytes that are worth a read of their own */
    LARGE = 32 << 10          /* payloads whose copying costs more than a second read */
};

void frame_reader_init(struct frame_reader *r, uint32_t message_max, uint32_t payload_max)
{
    *r = (struct frame_reader){.message_max = message_max, .payload_max = payload_max, .state = READ_HEADER};
}

void frame_reader_deinit(struct frame_reader *r)
{
    free(r->small);
    free(r->payload);
    free(r->message);
    *r = (struct frame_reader){.state = READ_FAILED, .error = SLUICE_E_PROTOCOL};
}

static size_t staged(const struct frame_reader *r) { return r->small_len - r->small_pos; }

/* Makes room in staging for at least one byte; false: out of memory. */
static bool staging_make_room(struct frame_reader *r)
{
    if (r->small_pos == r->small_len) {
        r->small_pos = r->small_len = 0;
        if (r->small_cap > STAGING_USUAL) {
            free(r->small);
            r->small = NULL;
            r->small_cap = 0;
        }
    } else if (r->small_pos > 0 && r->small_cap - r->small_len < r->small_cap / 2) {
        memmove(r->small, r->small + r->small_pos, staged(r));
        r->small_len = staged(r);
        r->small_pos = 0;
    }
    if (r->small_len < r->small_cap) {
        return true;
    }
    /* Full with a frame that is not whole: it grows by what arrived, and never beyond one frame without payload. */
    size_t cap = r->small_cap == 0 ? STAGING_FIRST : r->small_cap * 2;
    uint8_t *bigger = realloc(r->small, cap);
    if (bigger == NULL) {
        return false;
    }
    r->small = bigger;
    r->small_cap = cap;
    return true;
}

size_t frame_reader_buffer(struct frame_reader *r, void **base)
{
    *base = NULL;
    r->direct = false;
    if (r->state == READ_FAILED) {
        return 0;
    }
    if (r->state == READ_PAYLOAD && r->header.payload_len - r->payload_have >= DIRECT_MIN) {
        sluice_assert(staged(r) == 0);
        r->direct = true;
        *base = r->payload + r->payload_have;
        return r->header.payload_len - r->payload_have;
    }
    if (!staging_make_room(r)) {
        return 0;
    }
    *base = r->small + r->small_len;
    size_t room = r->small_cap - r->small_len;
    return r->payload_before >= LARGE && staged(r) < DIRECT_MIN ? min_u64(room, DIRECT_MIN) : room;
}

void frame_reader_fed(struct frame_reader *r, size_t n)
{
    if (r->direct) {
        sluice_assert(n <= r->header.payload_len - r->payload_have);
        r->payload_have += n;
        r->direct = false;
        return;
    }
    sluice_assert(n <= r->small_cap - r->small_len);
    r->small_len += n;
    /* A read that fills staging to the brim says that more is waiting: read more at once from now on. */
    if (r->small_len == r->small_cap && r->small_cap < STAGING_USUAL) {
        uint8_t *bigger = realloc(r->small, r->small_cap * 2);
        if (bigger != NULL) {
            r->small = bigger;
            r->small_cap *= 2;
        }
    }
}

static int reader_fail(struct frame_reader *r, int code)
{
    r->state = READ_FAILED;
    r->error = code;
    return -code;
}

/* Forgets the frame that was handed out last. */
static void reader_release(struct frame_reader *r)
{
    free(r->payload);
    free(r->message);
    r->payload = NULL;
    r->message = NULL;
    r->payload_before = r->payload_have;
    r->payload_have = 0;
    r->state = READ_HEADER;
}

static size_t take_staged_payload(struct frame_reader *r, const uint8_t *from, size_t have)
{
    size_t n = min_u64(r->header.payload_len - r->payload_have, have);
    if (n > 0) {
        memcpy(r->payload + r->payload_have, from, n);
        r->payload_have += n;
    }
    return n;
}

static int reader_done(struct frame_reader *r, struct frame *f, const uint8_t *message)
{
    *f = (struct frame){
        .kind = r->header.kind,
        .correlation = r->header.correlation,
        .message = message,
        .message_len = r->header.message_len,
        .payload = r->payload,
        .payload_len = r->header.payload_len,
    };
    r->state = READ_DONE;
    return 1;
}

static int read_header(struct frame_reader *r)
{
    int code = frame_header_decode(&r->header, r->small + r->small_pos);
    if (code == SLUICE_E_OK && (r->header.message_len > r->message_max || r->header.payload_len > r->payload_max)) {
        code = SLUICE_E_TOO_LARGE;
    }
    return code;
}

int frame_reader_next(struct frame_reader *r, struct frame *f)
{
    if (r->state == READ_FAILED) {
        return -r->error;
    }
    if (r->state == READ_DONE) {
        reader_release(r);
    }
    if (r->state == READ_HEADER) {
        if (staged(r) < FRAME_HEADER_SIZE) {
            return 0;
        }
        int code = read_header(r);
        if (code != SLUICE_E_OK) {
            return reader_fail(r, code);
        }
        r->state = READ_MESSAGE;
    }
    if (r->state == READ_MESSAGE) {
        size_t head = FRAME_HEADER_SIZE + (size_t)r->header.message_len;
        if (staged(r) < head) {
            return 0;
        }
        const uint8_t *start = r->small + r->small_pos;
        const uint8_t *message = start + FRAME_HEADER_SIZE;
        if (!frame_message_ok(start, message, r->header.message_len)) {
            return reader_fail(r, SLUICE_E_PROTOCOL);
        }
        if (r->header.payload_len > 0) {
            r->payload = malloc(r->header.payload_len);
            if (r->payload == NULL) {
                return reader_fail(r, SLUICE_E_MEMORY);
            }
        }
        size_t taken = take_staged_payload(r, start + head, staged(r) - head);
        r->small_pos += head + taken;
        if (r->payload_have == r->header.payload_len) {
            return reader_done(r, f, message);
        }
        r->message = malloc(r->header.message_len > 0 ? r->header.message_len : 1);
        if (r->message == NULL) {
            return reader_fail(r, SLUICE_E_MEMORY);
        }
        memcpy(r->message, message, r->header.message_len);
        r->state = READ_PAYLOAD;
    }
    r->small_pos += take_staged_payload(r, r->small + r->small_pos, staged(r));
    if (r->payload_have < r->header.payload_len) {
        return 0;
    }
    return reader_done(r, f, r->message);
}

void *frame_take_payload(struct frame_reader *r, struct frame *f)
{
    void *payload = r->payload;
    sluice_assert(f->payload == payload);
    r->payload = NULL;
    f->payload = NULL;
    return payload;
}
