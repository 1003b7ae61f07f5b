/* journal_format.h: the bytes of a segment file, and nothing else: pure functions from bytes to structs and back.
 *
 *   0      segment header (4096 bytes)
 *   4096   the same again
 *   8192   flush blocks, back to back, each a multiple of 4096 bytes; the last one of a sealed segment is its footer
 *
 * A flush block:
 *   block header (96)
 *   per record: record header (80: its directory entry), bytes, zeros up to a multiple of 8
 *   directory: one entry (72) per record                       (at header.dir_pos)
 *   zeros
 *   block trailer (96): the header again under another magic   (ends at a multiple of 4096)
 * A footer is a block whose directory lists every record of the segment and which has no records of its own.
 *
 * So everything that tells what a record is stands twice, in places far from each other, and three times in a sealed segment. Headers carry
 * the segment's salt and checksums seeded with it: bytes of a former use of the file, or bytes that a client made up, never pass.
 * Decoders take any bytes; they return false for whatever is not valid and read nothing beyond `len`. */
#ifndef SLUICE_JOURNAL_FORMAT_H
#define SLUICE_JOURNAL_FORMAT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    JF_VERSION = 1,
    JF_ALIGN = 4096,
    JF_SEGMENT_HEADER_SIZE = 4096,
    JF_DATA = 2 * JF_SEGMENT_HEADER_SIZE, /* where blocks begin */
    JF_BLOCK_HEADER_SIZE = 96,
    JF_RECORD_HEADER_SIZE = 80,
    JF_DIRENT_SIZE = 72
};

#define JF_SEGMENT_MAGIC 0x4745534543494c53ull /* "SLICESEG" */
#define JF_BLOCK_MAGIC 0x4b424c53u             /* "SLBK" */
#define JF_TRAILER_MAGIC 0x54424c53u           /* "SLBT" */
#define JF_RECORD_MAGIC 0x52424c53u            /* "SLBR" */

struct jf_segment_header {
    uint8_t cluster_id[16];
    uint32_t version, node_id, lane;
    uint64_t number;      /* never used twice in a journal: it is the epoch of this use of the file */
    uint64_t salt;        /* random per use */
    uint64_t size;        /* bytes; blocks end at or before it */
    uint64_t position;    /* journal position of the byte at JF_DATA */
    uint64_t incarnation; /* life that began the segment */
    uint64_t prior;       /* segment before this one in the stream; 0: none */
    uint64_t prior_end;   /* where the prior's valid bytes end in its file: the seal, or the cut that a recovery made */
    uint64_t first_seq;   /* of its first block */
    uint64_t first_jseq;  /* records that are not carried have this jseq or a higher one */
    uint64_t rewrites;    /* 0, or: this segment takes the place of that one after an I/O error; void until a free record for it is here */
};

enum jf_block_kind { JF_BLOCK_DATA = 1, JF_BLOCK_FOOTER = 2 };

struct jf_block_header {
    uint32_t crc;         /* out of decoding: what the next block names as its prev_crc */
    uint64_t salt;
    uint64_t seq;         /* of the block, rising by 1 over the whole journal */
    uint64_t position;    /* journal position of its first byte */
    uint64_t vouched;     /* everything below this journal position was known durable when the block was built */
    uint64_t incarnation;
    uint64_t first_jseq;  /* records in it that are not carried have this jseq or a higher one, those of earlier blocks a lower one */
    uint32_t length;      /* whole block, multiple of 4096 */
    uint32_t n_records;   /* directory entries */
    uint32_t dir_pos;     /* of the directory, from the start of the block */
    uint32_t dir_crc;     /* salted */
    uint32_t prev_crc;    /* header checksum of the block before; 0 for the first of a segment */
    uint16_t kind;
};

enum jf_dirent_flags { JF_CARRIED = 1 }; /* a further copy of the record with this jseq */

/* Kinds of the journal itself, beside enum journal_kind. Their group is 0. */
enum jf_kind {
    JF_KIND_MANIFEST = 64, /* first record of each segment: bytes: (u64 number, u64 salt, u64 end; 0: not sealed yet) of every segment in use */
    JF_KIND_FREE = 65      /* segment `a` with salt `b` holds nothing that is needed */
};
enum { JF_MANIFEST_ENTRY = 24 };

struct jf_dirent {
    uint64_t group, index, term, a, b;
    uint64_t c;           /* of state records: their number */
    uint64_t jseq;
    uint32_t pos;         /* of the bytes in the segment file */
    uint32_t len;
    uint32_t crc;         /* CRC-32C of the bytes */
    uint8_t kind, type;
    uint16_t flags;
};

/* buf: JF_SEGMENT_HEADER_SIZE bytes, all written. */
void jf_segment_header_encode(uint8_t *buf, const struct jf_segment_header *h);
/* True if magic and checksum are right; version is not judged. */
bool jf_segment_header_decode(const uint8_t *buf, size_t len, struct jf_segment_header *h);

/* Returns the header's checksum. trailer: the copy at the end. buf: JF_BLOCK_HEADER_SIZE bytes. */
uint32_t jf_block_header_encode(uint8_t *buf, const struct jf_block_header *h, bool trailer);
bool jf_block_header_decode(const uint8_t *buf, size_t len, uint64_t salt, bool trailer, struct jf_block_header *h);

void jf_dirent_encode(uint8_t *buf, const struct jf_dirent *d);
/* No check of its own: the directory's or the record header's checksum covers it. len >= JF_DIRENT_SIZE. */
void jf_dirent_decode(const uint8_t *buf, struct jf_dirent *d);
uint32_t jf_directory_crc(uint64_t salt, const uint8_t *buf, size_t len);

void jf_record_header_encode(uint8_t *buf, uint64_t salt, const struct jf_dirent *d);
bool jf_record_header_decode(const uint8_t *buf, size_t len, uint64_t salt, struct jf_dirent *d);

/* Length of a block whose records take `body` bytes (record headers and padding included). */
static inline uint64_t jf_block_length(uint64_t body, uint64_t n_records)
{
    uint64_t n = 2 * JF_BLOCK_HEADER_SIZE + body + n_records * JF_DIRENT_SIZE;
    return (n + JF_ALIGN - 1) / JF_ALIGN * JF_ALIGN;
}
static inline uint64_t jf_record_length(uint64_t len) { return JF_RECORD_HEADER_SIZE + (len + 7) / 8 * 8; }

#endif
