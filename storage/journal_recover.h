/* journal_recover.h: what journal_recover.c and journal_accept.c share while a journal is opened. */
#ifndef SLUICE_JOURNAL_RECOVER_H
#define SLUICE_JOURNAL_RECOVER_H

#include "storage/journal_impl.h"

struct found {
    uint64_t number;
    struct env_file *file;
    struct jf_segment_header h;
    bool begun, unreadable, one_bad;
    int64_t size;
};
struct names {
    struct journal *j;
    struct found *files;
    size_t n, cap;
};
struct manifest {
    uint64_t segment, jseq;
    uint8_t *bytes;
    size_t n;
};
/* `err` gets the reason when opening fails. */
struct recovery {
    struct names names;
    struct manifest manifest;
    struct jf_dirent *frees; /* free records */
    size_t n_frees, cap_frees;
    struct replay replay;
    uint64_t vouched, damaged_records, damaged_blocks, lost_blocks, header_copies;
    struct recovered *rec;
    char *err;
};

void __attribute__((format(printf, 2, 3))) recovery_complain(struct recovery *r, const char *format, ...);
/* Takes what is good of a segment that has no footer. limit: file position where it ends at the latest; is_tail: the newest segment, which may be
 * torn. 0, -errno or a positive enum env_exit. */
int recover_scanned(struct journal *j, struct recovery *r, struct segment *s, uint64_t limit, bool is_tail);
/* By the footer that ends at `end`; by a scan if the footer is damaged. */
int recover_sealed(struct journal *j, struct recovery *r, struct segment *s, uint64_t end);

#endif
