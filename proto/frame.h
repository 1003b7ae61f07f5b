/* frame.h: the frame of the native protocol and of the links between nodes.
 *
 *   frame = header (FRAME_HEADER_SIZE bytes) | message (protobuf, message_len) | payload (raw bytes, payload_len)
 *   header, little-endian: 0 u16 magic 0x4c53 ("SL") | 2 u8 version = 1 | 3 u8 kind (enum frame_kind) | 4 u32 message_len
 *           8 u32 payload_len | 12 u32 crc: CRC32C of the message, then of header bytes 0..12 and 16..24 | 16 u64 correlation id
 *
 * The payload is not covered: it is batches (or link records), which carry checksums of their own.
 * Requests carry a correlation id chosen by the client; the answer carries the same; answers may come in any order, except that puts
 * of one connection to one shard are taken in the order sent. The first frame of a connection is HELLO. */
#ifndef SLUICE_FRAME_H
#define SLUICE_FRAME_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    FRAME_HEADER_SIZE = 24,
    FRAME_MAGIC = 0x4c53,
    FRAME_VERSION = 1,
    FRAME_MESSAGE_MAX = 4 << 20,                  /* protobuf part */
    FRAME_PAYLOAD_MAX = (16 << 20)                /* raw part */
};

/* Requests are even, answers the request's kind + 1. ERROR answers any request. Values are wire values: never reused. */
enum frame_kind {
    FRAME_HELLO = 2, FRAME_HELLO_REPLY = 3,
    FRAME_PUT = 4, FRAME_PUT_REPLY = 5,
    FRAME_FETCH = 6, FRAME_FETCH_REPLY = 7,
    FRAME_STREAM_CREATE = 8, FRAME_STREAM_CREATE_REPLY = 9,
    FRAME_STREAM_UPDATE = 10, FRAME_STREAM_UPDATE_REPLY = 11,
    FRAME_STREAM_DELETE = 12, FRAME_STREAM_DELETE_REPLY = 13,
    FRAME_STREAM_LIST = 14, FRAME_STREAM_LIST_REPLY = 15,
    FRAME_STREAM_DESCRIBE = 16, FRAME_STREAM_DESCRIBE_REPLY = 17, /* the shard map of a stream, with leaders */
    FRAME_CLUSTER_STATUS = 18, FRAME_CLUSTER_STATUS_REPLY = 19,
    FRAME_POSITION = 20, FRAME_POSITION_REPLY = 21,               /* resolves one of the five read positions to an offset */
    FRAME_RESOLVE = 22, FRAME_RESOLVE_REPLY = 23,                 /* what became of (producer, epoch, sequence) */
    FRAME_NODE_CHANGE = 24, FRAME_NODE_CHANGE_REPLY = 25,         /* add, drain, remove */
    FRAME_PING = 26, FRAME_PING_REPLY = 27,
    FRAME_TRANSFER = 28, FRAME_TRANSFER_REPLY = 29,               /* move the leadership of a shard (operators, rebalancing) */
    FRAME_STREAM_RESHARD = 30, FRAME_STREAM_RESHARD_REPLY = 31,   /* split, merge, another number of shards */
    FRAME_CONSUMER_REGISTER = 32, FRAME_CONSUMER_REGISTER_REPLY = 33,
    FRAME_CONSUMER_REMOVE = 34, FRAME_CONSUMER_REMOVE_REPLY = 35,
    FRAME_CONSUMER_LIST = 36, FRAME_CONSUMER_LIST_REPLY = 37,
    FRAME_RESOURCE_CHANGE = 38, FRAME_RESOURCE_CHANGE_REPLY = 39, /* tags and policies of streams and consumers */
    FRAME_RESOURCE_GET = 40, FRAME_RESOURCE_GET_REPLY = 41,
    FRAME_ACCOUNT = 42, FRAME_ACCOUNT_REPLY = 43,                 /* settings of an account */
    FRAME_SUBSCRIBE = 44, FRAME_SUBSCRIBE_REPLY = 45,             /* push: then FRAME_PUSH with the same correlation id, again and again */
    FRAME_CREDIT = 46, FRAME_PUSH = 47,                           /* CREDIT is not answered */
    FRAME_CLIENT_LAST = FRAME_SUBSCRIBE,                          /* the highest request of clients that is answered */
    FRAME_ERROR = 1,
    /* Between nodes; refused from clients. */
    FRAME_LINK = 64,          /* payload: link records (raft/link_codec.h); correlation id: the sender's journal position */
    FRAME_FORWARD = 66, FRAME_FORWARD_REPLY = 67, /* a control request handed to the controller's leader */
    FRAME_REPORT = 68, FRAME_REPORT_REPLY = 69,   /* a node's report of its replicas to the controller's leader */
    FRAME_REPLICA = 70, FRAME_REPLICA_REPLY = 71, /* the controller's orders to the leader of a group: change membership, transfer */
    FRAME_FORM = 72, FRAME_FORM_REPLY = 73        /* first formation of a cluster and asking whether there is one */
};

struct frame_header {
    uint8_t version, kind;
    uint32_t message_len, payload_len, crc;
    uint64_t correlation;
};

/* 0, SLUICE_E_PROTOCOL (not our magic), SLUICE_E_VERSION or SLUICE_E_TOO_LARGE. The crc is checked by frame_message_ok(). */
int frame_header_decode(struct frame_header *h, const void *data);
bool frame_message_ok(const void *header24, const void *message, size_t n);
/* Writes the header for a message already encoded at `message`. */
void frame_header_encode(void *header24, uint8_t kind, uint64_t correlation, const void *message, uint32_t message_len, uint32_t payload_len);

/* Encodes a protobuf-c message into one malloc'ed buffer: header + message (payload follows separately). The caller's to free; NULL: out of
 * memory, or a message above FRAME_MESSAGE_MAX. *n: bytes. `message` is a ProtobufCMessage * (void so that this header needs no protobuf-c). */
void *frame_encode(uint8_t kind, uint64_t correlation, const void *message, uint32_t payload_len, size_t *n);

/* Incremental reader of a byte stream: an env_conn's `buffer` and `read` callbacks map onto it. Bounded: one frame at a time;
 * a large payload is read straight into the memory it stays in. */
struct frame_reader {
    uint32_t message_max, payload_max; /* bounds for this connection; raised after the hello */
    struct frame_header header;
    uint8_t *small;          /* staging for headers, messages and small payloads: bytes small_pos..small_len are unread */
    size_t small_len, small_cap, small_pos;
    uint8_t *payload;        /* malloc'ed, payload_len bytes; being filled */
    size_t payload_have, payload_before; /* bytes there; length of the former frame's payload */
    int state;               /* enum in frame_reader.c */
    int error;               /* the code that ended the stream; repeated by every further call */
    bool direct;             /* the last frame_reader_buffer() gave payload memory, not staging */
    uint8_t *message;        /* malloc'ed copy of the present frame's message, if its payload was not whole yet */
};
struct frame {
    uint8_t kind;
    uint64_t correlation;
    const uint8_t *message; size_t message_len; /* valid until the next frame_reader call */
    void *payload; size_t payload_len;          /* malloc'ed; taken by frame_take_payload(), else freed at the next call */
};
void frame_reader_init(struct frame_reader *r, uint32_t message_max, uint32_t payload_max);
void frame_reader_deinit(struct frame_reader *r);
/* Where the next bytes should be read to (for env_conn_ops.buffer): at least one byte, valid until the next frame_reader call. 0: out of
 * memory, or the stream has ended in an error. */
size_t frame_reader_buffer(struct frame_reader *r, void **base);
/* Tells that n bytes were read to what frame_reader_buffer() gave. */
void frame_reader_fed(struct frame_reader *r, size_t n);
/* 1: *f is the next whole frame; 0: more bytes needed; < 0: -(SLUICE_E_ code), the connection must be closed. Call until 0. */
int frame_reader_next(struct frame_reader *r, struct frame *f);
/* The payload becomes the caller's (free()). */
void *frame_take_payload(struct frame_reader *r, struct frame *f);

#endif
