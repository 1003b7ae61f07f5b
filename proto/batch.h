/* batch.h: records committed together; one encoding on the wire, in Raft entries and in the journal.
 *
 *   batch = header (BATCH_HEADER_SIZE bytes) | body (body_len bytes; + 16 bytes tag when sealed)
 *   body  = LZ4 block (codec 1) or plain (codec 0) of the records, one after another:
 *   record = u32 data_len | u16 key_len | u16 flags | [16 bytes explicit hash key, big-endian, if flags & 1] | key | data
 *
 * Header, little-endian but for the hash keys (big-endian 128-bit, so that memcmp orders them):
 *     0 u8  version = 1            1 u8  kind = ENTRY_BATCH        2 u8  codec            3 u8  cipher (0 none)
 *     4 u32 total_len (header, body and tag)                       8 u32 header_crc: CRC32C of bytes 12..HEADER_SIZE and 0..8
 *    12 u32 body_crc: CRC32C of what follows the header           16 u64 first_offset    24 u32 record_count
 *    28 u32 raw_len (records before compression)                  32 u64 time_ms (the log's time of arrival, given by the leader)
 *    40 16B producer id (all zero: not idempotent)                56 u32 producer_epoch  60 u32 shard number
 *    64 u64 producer_sequence                                     72 u64 raft_index of the first proposal (for checking only)
 *    80 16B stream incarnation                                    96 16B lowest hash key 112 16B highest hash key
 *   128 u32 key_id (wrapped data key; 0 none)                    132 12B nonce          144 u64 settings_version  152 u64 reserved = 0
 *
 * The producer leaves first_offset, time_ms, raft_index, settings_version, cipher, key_id and nonce zero and fills the rest;
 * the leader fills those (batch_stamp, which renews header_crc) after batch_check() and never touches the body, so body_crc, made
 * once by the producer, guards the payload on every hop, and the producer's header_crc guards what the producer says on the first.
 * Hash keys: the header carries the exact lowest and highest one, and the leader checks the records against them by decompressing
 * (4.7 GB/s): that saves 16 bytes per record. An explicit hash key stays with its record.
 * Codes: TOO_LARGE (a bound), VERSION (another version), NOT_SUPPORTED (a codec, cipher or flag from the future), CORRUPT (a
 * checksum), INVALID (everything else); 0 is done.
 */
#ifndef SLUICE_BATCH_H
#define SLUICE_BATCH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

enum { BATCH_HEADER_SIZE = 160, BATCH_RECORD_HEADER = 8, BATCH_VERSION = 1, BATCH_TAG_SIZE = 16 };
enum batch_codec { BATCH_PLAIN = 0, BATCH_LZ4 = 1 };

/* First two bytes of every Raft command: version, kind. Kind 1 is a batch; the others are listed in server/shard_entry.h and
 * server/controller_entry.h. */
enum { ENTRY_BATCH = 1 };

/* 128 bits in big-endian byte order: hash keys. memcmp orders them. */
struct hash128 { uint8_t b[16]; };

struct batch_header {
    uint8_t version, kind, codec, cipher;
    uint32_t total_len, header_crc, body_crc;
    uint64_t first_offset;
    uint32_t record_count, raw_len;
    uint64_t time_ms;
    uint8_t producer_id[16];
    uint32_t producer_epoch, shard;
    uint64_t producer_sequence, raft_index;
    uint8_t stream_id[16];
    struct hash128 hash_min, hash_max;
    uint32_t key_id;
    uint8_t nonce[12];
    uint64_t settings_version;
};

/* Bounds that both sides check. */
enum {
    BATCH_RECORDS_MAX = 65536,
    BATCH_RECORD_BYTES_MAX = 10 << 20,                                 /* key + data of one record: the largest setting */
    BATCH_BYTES_MAX = (10 << 20) + (64 << 10),                         /* total_len */
    BATCH_RAW_MAX = (10 << 20) + (64 << 10),                           /* raw_len */
    BATCH_KEY_MAX = 1024                                               /* bytes of a key: 256 characters of UTF-8 */
};

/* Decodes and checks a header: version, kind, lengths against the bounds and `n` (the
 * bytes at `data`: the whole batch, other batches may follow), header_crc.
 * `fresh`: as a producer sends it, so the leader's fields must be zero. 0 or a SLUICE_E_ code; *why (if not NULL) is a static text. */
int batch_header_decode(struct batch_header *h, const void *data, size_t n, bool fresh, const char **why);
/* Writes the 160 bytes including header_crc. */
void batch_header_encode(const struct batch_header *h, void *out);
/* The leader's part: writes first_offset, time_ms, raft_index, settings_version into an encoded batch and its header_crc. */
void batch_stamp(void *batch, uint64_t first_offset, uint64_t time_ms, uint64_t raft_index, uint64_t settings_version);
/* Is total_len n and body_crc right? */
bool batch_body_ok(const void *batch, size_t n);

/* Keys and data of a batch as they are without compression: what limits count. By the header alone (raw_len, record_count), so 16 bytes too many for each explicit hash key. */
static inline uint32_t batch_weight(uint32_t raw_len, uint32_t records)
{
    return raw_len > records * BATCH_RECORD_HEADER ? raw_len - records * BATCH_RECORD_HEADER : 0;
}

struct batch_record {
    uint64_t offset;      /* first_offset + position in the batch */
    const uint8_t *key;
    const uint8_t *data;
    uint32_t key_len, data_len;
    bool has_hash;
    struct hash128 hash;  /* the explicit hash key if has_hash */
};

/* Reads the records of a batch. `scratch` receives the decompressed body when the codec needs it: *scratch is (re)allocated as
 * needed and stays the caller's to free. */
struct batch_reader {
    struct batch_header header;
    const uint8_t *p, *end;
    uint32_t left;
    uint64_t next_offset;
};
/* Checks the header, that n is its total_len, body_crc, and decompresses. 0 or a SLUICE_E_ code. */
int batch_reader_open(struct batch_reader *r, const void *batch, size_t n, void **scratch, size_t *scratch_size, const char **why);
/* The same without body_crc, for a batch that batch_body_ok() was asked about before. */
int batch_reader_open_verified(struct batch_reader *r, const void *batch, size_t n, void **scratch, size_t *scratch_size, const char **why);
/* 1: *rec is the next; 0: no more (and the body ended exactly there); < 0: malformed. */
int batch_reader_next(struct batch_reader *r, struct batch_record *rec);

/* The leader's full check of a fresh batch: header, body_crc, body decompresses to raw_len, exactly record_count records, no record
 * above record_max bytes (key + data) nor an empty key, keys at most BATCH_KEY_MAX bytes, and the lowest and highest hash key of the
 * records (their explicit hash key or the MD5 of their key) are those of the header: so whoever trusts the header's range need not look
 * at the records again. 0 or a SLUICE_E_ code with *why. */
int batch_check(const void *batch, size_t n, uint32_t record_max, void **scratch, size_t *scratch_size, struct batch_header *out, const char **why);

/* Builds a batch. Memory bounded by BATCH_RAW_MAX. */
struct batch_builder {
    uint8_t *buf;      /* header room, then the records */
    size_t len, cap;   /* len counts header room */
    size_t hint;       /* size of the last batch: the next one starts with so much room */
    uint32_t count;
    struct hash128 min, max;
};
void batch_builder_init(struct batch_builder *b);
void batch_builder_deinit(struct batch_builder *b);
void batch_builder_reset(struct batch_builder *b);
/* Size of the batch if this record were added. */
size_t batch_builder_size_with(const struct batch_builder *b, size_t key_len, size_t data_len, bool has_hash);
/* hash: the record's hash key (MD5 of the key or the explicit one); explicit_hash: store it with the record. 0, SLUICE_E_TOO_LARGE (the
 * batch is full or the record too large: nothing changed), SLUICE_E_INVALID (empty key) or SLUICE_E_MEMORY. */
int batch_builder_add(struct batch_builder *b, const void *key, size_t key_len, const void *data, size_t data_len,
                      const struct hash128 *hash, bool explicit_hash);
struct batch_identity {
    const uint8_t *stream_id;   /* 16 bytes */
    uint32_t shard;
    const uint8_t *producer_id; /* 16 bytes or NULL */
    uint32_t producer_epoch;
    uint64_t producer_sequence;
};
/* Finishes: compresses if that saves at least 1/8 and lz4 is wished, fills the producer's header fields. *out is malloc'ed, the caller's; the
 * builder is reset. At least one record must have been added. 0 or SLUICE_E_MEMORY (nothing changed). */
int batch_builder_finish(struct batch_builder *b, const struct batch_identity *id, bool lz4, void **out, size_t *out_len);

/* MD5 of a partition key. */
void hash_key_of(const void *key, size_t n, struct hash128 *out);
/* The hash keys of up to HASH_KEYS_MAX records: the explicit one, else the MD5. Several at once cost little more than one. */
enum { HASH_KEYS_MAX = 4 };
void hash_keys_of(const struct batch_record *records, size_t n, struct hash128 *out);
int hash_compare(const struct hash128 *a, const struct hash128 *b);
/* Decimal <-> 128 bits. text has room for 40 bytes. parse: false if not a decimal integer below 2^128
 * without needless leading zeros. */
void hash_to_decimal(const struct hash128 *h, char text[40]);
bool hash_from_decimal(const char *text, struct hash128 *out);
/* Range i of n equal ranges: width floor(2^128 / n), the last one ends at 2^128 - 1. */
void hash_range(uint32_t i, uint32_t n, struct hash128 *first, struct hash128 *last);
/* Which of them holds the key. */
uint32_t hash_range_of(const struct hash128 *h, uint32_t n);
/* One below; h must not be 0. */
void hash_before(const struct hash128 *h, struct hash128 *out);
/* b is a + 1. */
bool hash_follows(const struct hash128 *a, const struct hash128 *b);
/* The key that halves a range: the first one of its upper half. */
void hash_middle(const struct hash128 *first, const struct hash128 *last, struct hash128 *out);

#endif
