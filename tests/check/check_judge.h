/* check_judge.h: what the judge's own files share. */
#ifndef SLUICE_CHECK_JUDGE_H
#define SLUICE_CHECK_JUDGE_H

#include "tests/check/check.h"

struct judge {
    const struct history *h;
    struct check_summary *s;
    FILE *out;
};
__attribute__((format(printf, 3, 4))) void anomaly(struct judge *j, unsigned kind, const char *format, ...);
/* The final log of one shard, or NULL: the longest of its replicas. */
const struct check_final *check_final_of(const struct history *h, uint32_t shard);
/* check_lineage.c */
bool check_is_child(const struct history *h, uint32_t shard);
void check_lineage(struct judge *j);

#endif
