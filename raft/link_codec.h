/* link_codec.h: the records inside a FRAME_LINK frame. Pure functions.
 *
 *   frame: correlation id = how far the sender's journal may have acknowledged anything (rule F27), once for all records in it; 0: nothing yet
 *   payload of a frame = records, one after another
 *   record = u32 length (of all of it) | u8 type | u8 flags | u16 n_entries | u32 crc (CRC32C of the fixed part without crc, then of all that follows)
 *          | u32 reserved | u64 group | u64 from raft id | u64 to raft id | u64 term | u64 a | u64 b | u64 c | u64 d
 *          | n_entries x {u64 term, u32 length, u16 type, u16 reserved} | payload (entries' bytes, one after another; or the record's own)
 * Chunks of a larger record: type LINK_CHUNK: a = id of the whole, b = position, c = total length, payload = bytes; joined by the receiver, bounded by
 * LINK_RECORD_MAX, at most one per group in pieces. */
#ifndef SLUICE_LINK_CODEC_H
#define SLUICE_LINK_CODEC_H

#include <stddef.h>
#include <stdint.h>
#include <stdbool.h>
#include <sys/uio.h>

enum link_type {
    LINK_ALIVE = 1,          /* d = wall clock ms; a, b, c were a position once and are 0 */
    LINK_APPEND = 2,         /* term, a = prev_log_index, b = prev_log_term, c = leader_commit; entries */
    LINK_APPEND_RESULT = 3,  /* term, a = rejected, b = last_log_index */
    LINK_VOTE = 4,           /* term, a = candidate raft id, b = last_log_index, c = last_log_term, flags: LINK_DISRUPT, LINK_PREVOTE */
    LINK_VOTE_RESULT = 5,    /* term, flags: LINK_GRANTED, LINK_PREVOTE (the answer to a pre-vote), LINK_PREVOTE_KNOWN */
    LINK_INSTALL = 6,        /* term, a = last_index, b = last_term, c = conf_index, d = length of the configuration; payload: configuration, snapshot */
    LINK_TIMEOUT_NOW = 7,    /* term, a = last_log_index, b = last_log_term */
    LINK_READ_INDEX = 8,     /* term, a = round */
    LINK_READ_INDEX_RESULT = 9, /* term, a = round, flags: LINK_GRANTED */
    LINK_SEED = 10,          /* ask for committed batches: term = of the asker, a = from offset, b = to offset, c = bytes wished, d = request id */
    LINK_SEED_DATA = 11,     /* a = from offset, b = next offset, c = status (SLUICE_E_), d = request id; payload: whole batches */
    LINK_CHUNK = 14,         /* a part of a larger record, see above. 12 and 13 are kept free for asking a peer for single damaged entries */
    LINK_BEAT = 15,          /* heartbeats of idle groups, from and to are nodes; payload: n x {u64 group, u64 term, u64 commit index}, ascending (group_beat.c) */
    LINK_BEAT_RESULT = 16    /* those of a LINK_BEAT that the sender agrees with */
};
enum {
    LINK_DISRUPT = 1, LINK_PREVOTE = 2, LINK_GRANTED = 4, LINK_PREVOTE_KNOWN = 8,
    LINK_INSTALLING = 16, /* LINK_APPEND_RESULT: the sender is installing a snapshot */
    LINK_QUIET = 32       /* LINK_APPEND without entries that only tells the commit index: no answer is wanted */
};
enum {
    LINK_HEADER_SIZE = 80,
    LINK_ENTRY_SIZE = 16,
    LINK_CHUNK_MAX = 64 << 10,
    LINK_POST_MAX = 8 << 10, /* payload of a record that links_post() copies */
    LINK_RECORD_MAX = (16 << 20),
    LINK_ENTRIES_MAX = 4096
};

struct link_entry {
    uint64_t term;
    uint32_t len;
    uint16_t type;
    bool crc_known; /* for encoding: the bytes' CRC32C is known already, so they need not be gone through again for each peer */
    uint32_t crc;
};

struct link_message {
    enum link_type type;
    uint8_t flags;
    uint64_t group, from, to; /* raft ids; group 0 for records of the node itself (LINK_ALIVE, LINK_BEAT), which name nodes */
    uint64_t term, a, b, c, d;
    const struct link_entry *entries; /* decode: points into memory owned by the decoder, valid during the call */
    uint32_t n_entries;
    const void *payload;
    uint32_t payload_len;
    void *payload_owned;      /* decode: set if the payload is malloc'ed memory of its own that the receiver may take (set to NULL when taken) */
};

/* Bytes of the encoded record without its payload. */
size_t link_record_size(const struct link_message *m);
/* Writes the record's header and entry table (not the payload) to out; the crc covers the payload parts too. Where the
 * parts are the entries, one each, checksums that are known are used. */
void link_record_encode(const struct link_message *m, const struct iovec *parts, unsigned n_parts, void *out);
/* Decodes the record at data. Returns its length (> 0), 0 if n is too short, < 0: -(SLUICE_E_PROTOCOL or _TOO_LARGE or _CORRUPT). The payload points into data;
 * entries are written to `table` (room for LINK_ENTRIES_MAX). All lengths are checked: entries' lengths sum up to the payload. */
long link_record_decode(struct link_message *m, const void *data, size_t n, struct link_entry *table);

#endif
