/* journal.h: a lane's log: Raft's log of all its groups and the record store at once.
 *
 * A journal is a folder of segment files. All appends of a loop turn become one flush block: one write and one fdatasync for all groups
 * (group commit), on the env's SYNC queue, at most two flushes in flight; completions come strictly in the order of appends.
 * Bytes are written once: a batch is read back from the place where Raft's entry was put.
 *
 * Life of a record: journal_append() queues it for the flush at the end of the turn (no copy: the bytes must stay valid and unchanged until
 * `done`) -> its `place` is known at once -> block written and synced -> done(status 0). A failed write or sync is never retried: the process
 * ends with ENV_EXIT_DISK before anything is acknowledged (env_fatal).
 *
 * Identity: every record has a journal sequence number (jseq), rising by 1. A carried copy keeps the jseq of its original: recovery takes it
 * as another place of the very same record, never as a later event. Term, vote, snapshot and trim ("state records") are numbered per group
 * (`number`); recovery takes the highest number.
 *
 * Recovery (journal_open) reads sealed segments' footers and scans only unsealed ones, finds the highest position that any flush vouched
 * for, cuts a torn tail at or beyond it, reports damage below it per group, fdatasyncs what it accepted, and hands over per group: the state
 * records and the list of entries in the order of their jseq with truncates applied. */
#ifndef SLUICE_JOURNAL_H
#define SLUICE_JOURNAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "storage/env.h"

struct journal;

/* Where bytes lie. segment 0: nowhere. pos counts bytes from the start of the segment file; crc is the CRC-32C of the bytes. */
struct place {
    uint64_t segment;
    uint32_t pos;
    uint32_t len;
    uint32_t crc;
};

enum journal_kind {
    JOURNAL_ENTRY = 1,    /* a Raft log entry: (group, index, term); `a` = first offset, `b` = record count, `c` = time_ms if it is a batch; bytes: the entry */
    JOURNAL_TRUNCATE = 2, /* entries of the group from `index` on are gone */
    JOURNAL_BATCH = 3,    /* a committed batch that came by bulk copy (seeding, repair): `a`, `b`, `c` as above; bytes: the batch */
    JOURNAL_TERM = 4,     /* state: term and vote; `a` = term, `b` = vote */
    JOURNAL_SNAPSHOT = 5, /* state: bytes: the caller's encoding of a snapshot; index, term: its last entry; implies that entries at or below
                           * index are not needed for Raft any more */
    JOURNAL_TRIM = 6,     /* state: `a` = first offset kept */
    JOURNAL_GROUP = 7,    /* state: the group lives here; `a` = raft id; bytes: caller's (first configuration and so on); b = 1: removed for ever */
    JOURNAL_NOTE = 8      /* state of the lane itself (group 0), `a` = which note; index, term, `b` and bytes: the caller's; the highest `number` per note counts */
};

struct journal_record {
    enum journal_kind kind;
    uint8_t type;             /* caller's: the Raft entry type */
    uint64_t group, index, term, a, b, c;
    uint64_t number;          /* state records: rising per (group, kind[, note]); set by the journal on append */
    const void *data;         /* bytes; may be NULL when len is 0 */
    uint32_t len;
};

/* A pending append, embedded by the caller. */
struct journal_append;
typedef void (*journal_append_done)(struct journal_append *a);
struct journal_append {
    struct journal_record record; /* in; data stays valid until done */
    struct iovec *parts;          /* optional: the bytes in pieces instead of record.data (n_parts > 0; lens sum up to record.len) */
    unsigned n_parts;
    journal_append_done done;     /* in the order of appends; never inside journal_append(); may be NULL */
    struct place place;           /* out, valid at once */
    uint64_t jseq;                /* out */
    uint64_t end;                 /* out: journal position (bytes ever appended, rising over segments) that must be durable for this record */
    struct journal_append *next;  /* journal's own */
};

struct journal_options {
    struct env *env;
    const char *dir;              /* created if absent */
    uint8_t cluster_id[16];
    uint32_t node_id, lane;
    uint64_t incarnation;         /* of this process's life; later than any before */
    uint32_t segment_first;       /* bytes of the first segment (default 4 MiB), doubling up to segment_max (default 256 MiB) */
    uint32_t segment_max;
    uint64_t pool_max;            /* bytes of files at most that are kept ready to be overwritten; 0: freed segments only. How much of it is pre-written
                                   * follows the traffic; never before the first append is served */
    uint32_t flush_max;           /* bytes in one flush block (default 4 MiB); more waits for the next */
    uint64_t reserve;             /* bytes of disk kept for state records, trims and truncates: `journal_space` is false below it */
    uint64_t cache_bytes;         /* read cache (storage/cache.h): bound in bytes */
    bool after_io_error;          /* the identity file says the last life ended by an I/O error: the unsealed tail (always read with O_DIRECT) is rewritten
                                   * into a fresh segment before anything of it counts */
    /* Optional: called once before the process ends because a write or sync failed, so that the owner can note it in the identity file (it may
     * block). The next life then opens with after_io_error. */
    void (*io_error)(void *arg);
    void *io_error_arg;
    unsigned test_disable;        /* simulator builds: bit mask of storage rules that are switched off (enum journal_rule) */
};
enum journal_rule {
    JOURNAL_RULE_F1 = 1,  /* carried records keep their identity */
    JOURNAL_RULE_F2 = 2,  /* a torn tail is told from damage by the vouched position */
    JOURNAL_RULE_F3 = 4,  /* recovery syncs before any group starts */
    JOURNAL_RULE_F7 = 8,  /* a segment is recycled only after what frees it is durable */
    JOURNAL_RULE_F8 = 16, /* salted checksums */
    JOURNAL_RULE_SYNC = 32 /* acknowledge without fdatasync (to prove that the checker sees it) */
};

/* What recovery found for a group; owned by the journal until journal_recovered_free(). Places in it hold until the first journal_collect(): from
 * then on records may be carried, which only `moved` tells. */
struct recovered_entry {
    uint64_t index, term, a, b, c;
    struct place place;
    uint32_t crc;
    uint8_t type;
    bool damaged;             /* known from its header, but the bytes are bad */
};
struct recovered_group {
    uint64_t group, raft_id;
    bool removed;
    bool lost;                /* a header, term or vote of this group may be gone: it must not vote and joins anew */
    bool has_term, has_snapshot;
    uint64_t term, vote;
    uint64_t snapshot_index, snapshot_term;
    struct place snapshot;    /* bytes of the snapshot record */
    struct place group_data;  /* bytes of the JOURNAL_GROUP record */
    uint64_t trim;            /* first offset kept */
    struct recovered_entry *entries;   /* by index, contiguous above the snapshot; also those at or below it that are still stored */
    size_t n_entries;
    struct recovered_entry *batches;   /* JOURNAL_BATCH records, by first offset; duplicates of an entry's offsets removed */
    size_t n_batches;
};
struct recovered_note {
    uint64_t note, index, term, b;     /* JOURNAL_NOTE's `a`, and the rest of it */
    struct place place;                /* its bytes: journal_read_blocking() */
};
struct recovered {
    struct recovered_group *groups;    /* by group id */
    size_t n_groups;
    struct recovered_note *notes;      /* by note */
    size_t n_notes;
    bool blank;                        /* the folder was empty */
    bool gaps;                         /* whole blocks are damaged: they may have held groups that nothing else here tells of */
    uint64_t end;                      /* journal position where the accepted log ends */
    uint64_t prior_incarnation, prior_end; /* the life before this one, and where its log ended; 0: none */
    uint64_t cut_bytes;                /* torn tail that was cut, for the log */
    char message[256];                 /* what was found, for the log; empty if all was well */
};

/* Blocks (recovery). 0; -errno; or a positive enum env_exit when the folder must not be used (message in err). *rec is the caller's to free. */
int journal_open(struct journal **out, const struct journal_options *o, struct recovered **rec, char err[256]);
void journal_recovered_free(struct recovered *rec);
/* Bytes of a recovered entry, snapshot or group record, checked; malloc'ed. Blocks: for recovery only. 0, -EIO (damaged) or -ENOMEM. */
int journal_read_blocking(struct journal *j, const struct place *p, void **out);
/* Waits for nothing: appends not yet done are dropped without `done`. Bytes of a flush under way must stay valid until the env's helper threads have
 * ended. */
void journal_close(struct journal *j);

/* Queues. Never fails (R4: libraft cannot undo an append): when the disk is nearly full the caller must have asked journal_space() before; on a disk error the process ends. */
void journal_append(struct journal *j, struct journal_append *a);
/* Fires once everything appended so far is durable (like an empty append). */
void journal_barrier(struct journal *j, struct journal_append *a);
/* Positions: what was appended, and what is known durable here. */
uint64_t journal_end(const struct journal *j);
uint64_t journal_durable(const struct journal *j);
/* How long a flush takes lately, in ns, for time-outs: the slowest of the last few, and at least what the one that is being written has taken already. 0: none yet. */
uint64_t journal_flush_ns(const struct journal *j);
/* Where the newest durable flush ends that holds more than notes and copies of the journal's own: what this journal can be held to have acknowledged (rule F27). Notes must not
 * move it: nodes note this of each other, and would keep each other awake for ever. */
uint64_t journal_acknowledged(const struct journal *j);
/* False: refuse new data (SLUICE_E_NO_SPACE); state records still go. Becomes true again by itself when there is room. */
bool journal_space(const struct journal *j);

/* What the owner of a group still needs. The journal calls it when it looks for segments to free; cheap. Entries at or below `entry_needed - 1` and
 * batches below `offset_needed` are dead; state records are dead when a later number is durable. */
struct journal_needs {
    uint64_t entry_needed;   /* lowest index that Raft needs after a restart (durable snapshot index + 1) */
    uint64_t offset_needed;  /* durable trim point */
    bool removed;            /* nothing is needed */
};
typedef void (*journal_needs_fn)(void *arg, uint64_t group, struct journal_needs *out);
/* When a record was carried to another segment: the owner moves its locators. old and new lie in different segments. */
typedef void (*journal_moved_fn)(void *arg, const struct journal_record *r, const struct place *from, const struct place *to);
/* A record other than a note was just appended, so a flush comes anyway: the owner may append notes that go along with it. */
typedef void (*journal_ride_fn)(void *arg);
/* The lane sets them before the first append; each may be NULL. */
void journal_set_owner(struct journal *j, void *arg, journal_needs_fn needs, journal_moved_fn moved, journal_ride_fn ride);
/* Looks for sealed segments that can be freed or carried forward, a bounded step at a time; call it every second or so. Order per segment: trims
 * and carried copies durable -> free record durable -> no pins -> to the pool. */
void journal_collect(struct journal *j);

/* ---- reading ---- */

/* A pinned range of bytes: valid until journal_unpin(). Pins also keep a segment from being recycled. */
struct journal_read;
typedef void (*journal_read_done)(struct journal_read *r);
struct journal_read {
    struct place place;       /* in */
    void *user;               /* the caller's */
    journal_read_done done;   /* never inside journal_read() */
    int status;               /* out: 0, -EIO (bytes do not match their checksum: damage), -ENOENT (recycled), -ENOMEM */
    const void *data;         /* out: place.len bytes */
    struct env_io io;         /* journal's own, as all below */
    struct iovec iov;
    void *impl;
    struct journal_read *next;
    struct journal *journal;
};
/* 1: finished now (status says how: cached, or -ENOENT/-ENOMEM); done will not be called. 0: done will be called. A place that is not durable yet and
 * not in the cache waits for its flush. Every read that succeeded is ended by journal_unpin(), others may be. The checksum is verified when bytes come
 * from disk; a segment read in order is read ahead into the cache. */
int journal_read(struct journal *j, struct journal_read *r);
void journal_unpin(struct journal *j, struct journal_read *r);
/* Copies the bytes into the cache. Called at apply for batches that readers will want soon. */
void journal_cache_put(struct journal *j, const struct place *p, const void *data);

struct journal_stats {
    uint64_t appends, flushes, bytes_payload, bytes_written, flush_ns_sum, flush_ns_max;
    uint64_t segments, pool_segments, carried_bytes, freed_segments, cache_bytes, cache_hits, cache_misses, disk_reads, backlog;
    uint64_t pool_bytes, pool_want; /* in the pool; how much should be ready */
    uint64_t pool_written;    /* bytes pre-written to warm the pool */
};
void journal_stats(const struct journal *j, struct journal_stats *out);

#endif
