/* journal_impl.h: what the files journal_*.c share; nobody else includes it.
 *
 * journal.c          open, append: which block and which place a record gets; positions; space
 * journal_flush.c    blocks to bytes; at most two in flight; completions in order
 * journal_segment.c  segment files: names, the spare that is ready for the next change
 * journal_pool.c     files that are kept to be overwritten
 * journal_state.c    per group: the state records of the moment and live truncates, kept in memory
 * journal_scan.c     recovery: reads files, finds blocks and records
 * journal_accept.c   recovery: what of a segment counts
 * journal_recover.c  recovery: files, order, the cut, the fresh segment
 * journal_rewrite.c  recovery after an I/O error
 * journal_replay.c   recovery: directory entries in the order of jseq -> what each group has
 * journal_collect.c  frees and carries forward
 * journal_read.c     reads through the cache */
#ifndef SLUICE_JOURNAL_IMPL_H
#define SLUICE_JOURNAL_IMPL_H

#include "proto/base.h"
#include "storage/cache.h"
#include "storage/env.h"
#include "storage/journal.h"
#include "storage/journal_format.h"

enum {
    JOURNAL_IN_FLIGHT_MAX = 2,             /* blocks being written at once; what comes meanwhile gathers in the next one */
    JOURNAL_PATH_MAX = 512,
    JOURNAL_RECORD_MAX = 1 << 30,          /* bytes of one record; places are 32 bits wide */
    JOURNAL_READ_AHEAD = 256 * 1024,
    JOURNAL_READ_STREAMS = 16,             /* sequential readers that are told apart */
    JOURNAL_CARRY_PER_CALL = 4 * 1024 * 1024,
    JOURNAL_CHECKS_PER_CALL = 16384,       /* (segment, group) pairs looked at in one journal_collect() */
    JOURNAL_STABLE_CALLS = 4               /* a segment is carried when its live share stood still for so many looks */
};

/* What a segment holds of one group, for a cheap answer to "is all of it dead?". */
struct segment_group {
    uint64_t group;
    uint64_t index_max;   /* of entries */
    uint64_t end_max;     /* offset after the last record of its batches */
    uint64_t jseq_min;    /* of entries: a truncate with a lower jseq does not concern them */
    uint64_t bytes;
};

enum segment_state { SEGMENT_ACTIVE, SEGMENT_SEALED, SEGMENT_FREEING, SEGMENT_FREE };

struct segment {
    uint64_t number, salt, size, position, prior, prior_end, first_seq, first_jseq, rewrites;
    uint64_t allocated;           /* bytes of the file that were written at some time */
    enum segment_state state;
    struct env_file *file;        /* NULL until the spare is taken over */
    uint32_t tail;                /* next block goes here; sealed: end of what is valid */
    uint32_t prev_crc;
    uint32_t footer_pos;          /* 0: no footer, then dir stays in memory */
    struct jf_dirent *dir;
    size_t n_dir, cap_dir;
    struct segment_group *groups; /* by group */
    size_t n_groups, cap_groups;
    unsigned live_states;         /* state records whose newest number lies here */
    unsigned live_truncates;      /* truncates whose newest copy lies here */
    unsigned pins;                /* reads in flight */
    bool damaged;                 /* something in it does not match its checksum: never carried, so that it is not hidden */
    bool header_durable;
    uint32_t vouch_pos;           /* end of the last block that was written only to vouch */
    uint64_t live_seen;           /* live bytes at the last look */
    unsigned stable;
    struct journal_append free_append;
    struct journal *journal;
};

enum state_slot { STATE_TERM, STATE_SNAPSHOT, STATE_TRIM, STATE_GROUP, STATE_SLOTS };
struct state_record {
    struct jf_dirent d;           /* c: number */
    uint64_t segment;             /* 0: none */
    void *data;                   /* own copy of the bytes */
};
struct journal_truncate {
    uint64_t index, jseq, segment;
};
struct journal_group {
    uint64_t group;
    uint64_t last_index;          /* of the newest entry appended; 0: none */
    struct state_record state[STATE_SLOTS];
    struct journal_truncate *truncates; /* that may still matter to an entry somewhere */
    unsigned n_truncates, cap_truncates;
};
struct journal_note_state {
    uint64_t note;
    struct state_record state;
};

enum unit_kind { UNIT_BLOCK, UNIT_FOOTER, UNIT_HEADER };
struct unit_record {
    const void *data;
    const struct iovec *parts;
    unsigned n_parts;
    uint32_t len;
};
/* One write to a segment file, from the first record put into it to the completion of its sync. */
struct unit {
    enum unit_kind kind;
    bool closed;                  /* takes no more records */
    bool submitted;
    bool acknowledges;            /* holds more than notes and what the journal writes for itself */
    struct segment *segment;
    uint32_t pos;                 /* in the file */
    uint64_t length;              /* bytes, when closed */
    uint64_t position;            /* journal position of its start */
    uint64_t body;                /* bytes of records so far */
    uint64_t payload;
    uint64_t first_jseq;
    size_t first_dir;             /* its entries in segment->dir */
    size_t n;
    struct unit_record *records;
    size_t cap_records;
    struct journal_append *head, *tail; /* fired in order when it is durable */
    void *owned;                  /* bytes that only this unit needs */
    uint8_t *meta;                /* headers, directories, padding */
    size_t cap_meta;
    struct iovec *iov;
    size_t cap_iov;
    struct env_io io;
    uint64_t started_ns;
    struct journal *journal;
    struct unit *next;
};

struct pool_file {
    uint64_t id;                  /* in its name */
    uint64_t size;
};
enum spare_state { SPARE_NONE, SPARE_RUNNING, SPARE_READY };
/* A blocking job on the BULK queue. */
struct segment_job {
    struct env_job job;
    struct journal *journal;
    char from[JOURNAL_PATH_MAX], to[JOURNAL_PATH_MAX]; /* from may be empty */
    struct env_file *file;
    uint64_t size, number, written, step;
    uint64_t free_bytes;
    int status;
};

struct carry;
struct carried;
struct disk_read;

struct journal {
    struct journal_options o;
    struct env *env;
    char dir[JOURNAL_PATH_MAX - 64];
    bool dead;                    /* env_fatal() was called: touch the world no more */
    bool closed;
    bool blocking;                /* inside journal_open(): units are written in place */
    unsigned refs;                /* requests in flight */

    struct segment **segments;    /* by number; the last one is active */
    size_t n_segments, cap_segments;
    struct segment *active;
    uint64_t next_number, next_seq, next_jseq;
    uint64_t planned_size;

    /* flushing */
    struct unit *head, *tail;     /* in order; the last may be open */
    struct unit *idle;            /* for reuse */
    unsigned n_idle;
    unsigned in_flight;
    uint64_t recent_flush_ns; /* the slowest of late; fades by an eighth with every flush */
    struct env_task flush_task, ready_task;
    struct journal_append *ready_head, *ready_tail; /* barriers that have nothing to wait for */
    uint64_t end;                 /* of what was appended */
    uint64_t durable;             /* journal position */
    uint64_t acknowledged;        /* journal_acknowledged() */
    uint64_t durable_segment;     /* the same as a place */
    uint32_t durable_pos;
    uint64_t vouched;             /* what the newest block written vouches for */
    uint64_t backlog;
    bool served;                  /* something was appended and is durable: background work may begin */

    /* segment files */
    enum spare_state spare_state;
    struct segment_job spare;
    struct pool_file *pool;
    size_t n_pool, cap_pool;
    uint64_t pool_bytes;          /* of the files in it */
    uint64_t next_pool_id;
    bool pool_busy;               /* a step of pre-writing is under way */
    struct segment_job pool_job;  /* file != NULL or pool_busy: a file that is being pre-written */
    struct env_timer pool_timer;  /* the next step */
    bool pool_armed;
    uint64_t pool_step_bytes;     /* stats.bytes_written at the last step */
    uint64_t pool_step_ns;        /* when that was */
    bool pool_beside;             /* records came in at that time */
    uint64_t pool_tick_ns, pool_tick_bytes; /* clock and stats.bytes_written at the last tick */
    uint64_t pool_level, pool_want; /* bytes: of about the last minute; to be kept ready */
    bool space_busy;
    struct segment_job space_job;
    uint64_t disk_free;           /* as of the last look */
    uint64_t grown;               /* bytes by which files grew since */

    /* groups */
    struct journal_group *groups; /* by group */
    size_t n_groups, cap_groups;
    struct journal_note_state *notes;
    size_t n_notes, cap_notes;

    void *owner;
    journal_needs_fn needs;
    journal_moved_fn moved;
    journal_ride_fn ride;
    size_t collect_cursor;
    struct carry *carry;
    struct carried *carried;       /* copies being made or on their way */

    struct cache *cache;
    struct disk_read *disk_reads; /* in flight */
    struct journal_read *waiting, *waiting_tail; /* reads of places that are not durable yet */
    struct { uint64_t segment; uint32_t end; } streams[JOURNAL_READ_STREAMS];
    unsigned next_stream;

    struct journal_stats stats;
};

static inline bool rule_off(const struct journal *j, enum journal_rule r) { return (j->o.test_disable & (unsigned)r) != 0; }
static inline uint64_t segment_position(const struct segment *s, uint32_t pos) { return s->position + (pos - JF_DATA); }
static inline bool kind_is_state(unsigned kind)
{
    return kind == JOURNAL_TERM || kind == JOURNAL_SNAPSHOT || kind == JOURNAL_TRIM || kind == JOURNAL_GROUP || kind == JOURNAL_NOTE;
}
static inline bool kind_is_stored(unsigned kind) { return kind == JOURNAL_ENTRY || kind == JOURNAL_BATCH; }

/* journal.c */
/* A copy of the record d, which keeps its identity; a->record gives the bytes. */
void journal_put_carried(struct journal *j, struct journal_append *a, const struct jf_dirent *d);
/* The same without a look at the groups' state (recovery, before that is known); the checksum is d's, whatever the bytes are. */
void journal_put_raw(struct journal *j, struct journal_append *a, const struct jf_dirent *d);
void journal_put_own(struct journal *j, struct journal_append *a);  /* records of the journal itself */
void journal_unref(struct journal *j);
void journal_refresh_space(struct journal *j);

/* journal_flush.c */
struct unit *unit_add(struct journal *j, enum unit_kind kind, struct segment *s);
void unit_close(struct journal *j, struct unit *u);
void unit_free_all(struct journal *j);
/* Writes what may be written now; _later: at the end of the turn. */
void journal_flush(struct journal *j);
void journal_flush_later(struct journal *j);
void journal_disk_error(struct journal *j, const char *what, int status);

/* journal_segment.c */
struct segment *segment_find(const struct journal *j, uint64_t number);
struct segment *segment_add(struct journal *j, uint64_t number);
void segment_remove(struct journal *j, struct segment *s);
void segment_note(struct segment *s, const struct jf_dirent *d);       /* adds to the summary */
void segment_dir_add(struct segment *s, const struct jf_dirent *d);
/* Begins the next segment: its header waits in the queue of units. need: bytes that the first block and the footer take at least. */
void segment_begin(struct journal *j, uint64_t need);
void segment_header_bytes(const struct journal *j, const struct segment *s, uint8_t *buf);
void segment_path(const struct journal *j, char *buf, const char *prefix, uint64_t number);
void spare_prepare(struct journal *j);
/* The segment holds nothing any more and nobody reads it. */
void segment_recycle(struct journal *j, struct segment *s);
void segment_unpin(struct journal *j, struct segment *s);

/* journal_pool.c */
int pool_open(struct journal *j);
void pool_close(struct journal *j);
/* A file that belongs to the pool from now on. */
void pool_note(struct journal *j, uint64_t id, uint64_t size);
/* The largest file for the next segment: job->from and size; from is empty if there is none. */
void pool_take(struct journal *j, struct segment_job *job);
/* The name in the pool for a file of job->size bytes that is free: job->to and number; to is empty if it is not worth keeping. */
void pool_name(struct journal *j, struct segment_job *job);
/* Once a second: how much should be ready, and the first step if it is not. */
void pool_tick(struct journal *j);

/* journal_state.c */
struct journal_group *group_get(struct journal *j, uint64_t group);   /* creates */
/* Where the newest state record of d's group, kind (and note) is kept; NULL if d is not a state record. */
struct state_record *state_of(struct journal *j, const struct jf_dirent *d);
/* d was put into s: takes over what is newer. data: its bytes or parts. */
void state_note(struct journal *j, struct segment *s, const struct jf_dirent *d, const void *data, const struct iovec *parts, unsigned n_parts);
void truncate_note(struct journal *j, struct segment *s, const struct jf_dirent *d);
bool truncate_is_live(const struct journal *j, uint64_t group, const struct journal_truncate *t);
/* An entry that a later truncate took away. */
bool entry_is_truncated(const struct journal *j, const struct jf_dirent *d);
void state_free_all(struct journal *j);

/* journal_scan.c */
struct scanned_block {
    uint32_t pos, length;
    uint64_t seq, position, vouched, incarnation, first_jseq;
    uint32_t crc;
    uint16_t kind;
    bool complete;                /* both headers, directory and every byte of it are right */
    size_t first, n;              /* in scan.dir; entries that could be read */
    size_t n_lost;                /* records of it of which no copy of the header is left */
};
struct scan {
    struct scanned_block *blocks;
    size_t n_blocks, cap_blocks;
    struct jf_dirent *dir;
    bool *bad;                    /* per entry of dir: its bytes do not match */
    size_t n_dir, cap_dir;
    uint64_t unreadable;          /* file position behind the last page that could not be read; 0: none */
};
/* Opens the file of s for reading past the page cache: what a failed or forgotten write left in the cache alone is not seen. */
int scan_open_direct(struct journal *j, struct segment *s, struct env_file **out);
/* Reads the blocks of s up to `limit` (file position). 0 or -errno. */
int scan_segment(struct journal *j, struct segment *s, uint64_t limit, bool direct, struct scan *out);
void scan_free(struct scan *s);
/* The footer that ends at `end`: true, and entries in *dir (malloc'ed), if it is there and right. */
bool scan_footer(struct journal *j, struct segment *s, uint64_t end, struct jf_dirent **dir, size_t *n, uint32_t *footer_pos, struct jf_block_header *h);

/* journal_replay.c */
struct replay_entry {
    struct jf_dirent d;
    struct segment *segment;
    bool damaged;
};
struct replay {
    struct replay_entry *entries;
    size_t n, cap;
    uint64_t lost_below;          /* records with a lower jseq may be lost without a trace; 0: none */
};
void replay_add(struct replay *r, const struct jf_dirent *d, struct segment *s, bool damaged);
/* Fills rec and the journal's own state. 0 or -errno. */
int replay_run(struct journal *j, struct replay *r, struct recovered *rec);
void replay_free(struct replay *r);

/* journal_rewrite.c: what was accepted of the tail goes into a fresh segment, and the tail is deleted. replay's entries move along. */
int rewrite_tail(struct journal *j, struct replay *replay, struct segment *old);

/* journal_recover.c */
int journal_recover(struct journal *j, struct recovered *rec, char err[256]);
/* Blocks: n bytes at pos that must have this checksum; tries again before it says -EIO. */
int journal_pread(struct journal *j, struct segment *s, void *buf, size_t n, uint64_t pos, uint32_t crc);

/* journal_read.c */
void journal_reads_wake(struct journal *j);
void journal_reads_free(struct journal *j);

/* journal_collect.c */
void carry_abort(struct journal *j);
void carried_free_all(struct journal *j);

#endif
