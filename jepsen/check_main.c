/* check_main.c: sluice-check FILE...: judges histories written as JSON lines; prints anomalies, and how long shards went without an acknowledgement
 * after each mark (a fault that the driver noted). Exit status 0: valid; 1: anomalies; 2: unreadable or too little happened to judge. */
#include "proto/base.h"
#include "proto/seqno.h"
#include "tests/check/check.h"

#include <jansson.h>
#include <stdlib.h>

struct mark { uint64_t at; char kind[16]; };
struct marks { struct mark *v; size_t n, cap; };

static bool offset_of(const json_t *sequence, uint64_t *offset)
{
    struct seqno s;
    if (!json_is_string(sequence) || !seqno_parse(json_string_value(sequence), &s)) {
        return false;
    }
    *offset = s.offset;
    return true;
}

static enum check_result result_of(const json_t *line)
{
    const char *r = json_string_value(json_object_get(line, "r"));
    return r == NULL ? CHECK_INFO : strcmp(r, "ok") == 0 ? CHECK_OK : strcmp(r, "fail") == 0 ? CHECK_FAIL : CHECK_INFO;
}

static uint64_t number(const json_t *line, const char *name) { return (uint64_t)json_integer_value(json_object_get(line, name)); }

static struct check_record *records_of(const json_t *line, size_t *n)
{
    const json_t *list = json_object_get(line, "recs");
    *n = json_array_size(list);
    struct check_record *v = xmalloc((*n + 1) * sizeof *v);
    for (size_t i = 0; i < *n; i++) {
        const json_t *pair = json_array_get(list, i);
        if (!offset_of(json_array_get(pair, 0), &v[i].offset)) {
            free(v);
            return NULL;
        }
        v[i].value = (uint64_t)json_integer_value(json_array_get(pair, 1));
    }
    return v;
}

static bool take_line(struct history *h, struct marks *marks, const json_t *line)
{
    const char *op = json_string_value(json_object_get(line, "op"));
    if (op == NULL) {
        return false;
    }
    if (strcmp(op, "put") == 0) {
        struct check_put p = {.process = (uint32_t)number(line, "p"), .shard = (uint32_t)number(line, "shard"), .start = number(line, "s"),
                              .end = number(line, "e"), .result = result_of(line), .value = number(line, "val"),
                              .idempotent = json_is_true(json_object_get(line, "idem")), .order = number(line, "order")};
        if (p.result == CHECK_OK && !offset_of(json_object_get(line, "seq"), &p.offset)) {
            return false;
        }
        history_put(h, &p);
        return true;
    }
    if (strcmp(op, "mark") == 0) {
        if (marks->n == marks->cap) {
            marks->cap = marks->cap ? marks->cap * 2 : 64;
            marks->v = xrealloc(marks->v, marks->cap * sizeof *marks->v);
        }
        struct mark *m = &marks->v[marks->n++];
        m->at = number(line, "at");
        const char *kind = json_string_value(json_object_get(line, "kind"));
        snprintf(m->kind, sizeof m->kind, "%s", kind != NULL ? kind : "");
        return true;
    }
    if (strcmp(op, "read") != 0 && strcmp(op, "final") != 0) {
        return true;
    }
    size_t n;
    struct check_record *records = records_of(line, &n);
    if (records == NULL) {
        return false;
    }
    if (strcmp(op, "read") == 0) {
        history_read(h, (struct check_read){.process = (uint32_t)number(line, "p"), .shard = (uint32_t)number(line, "shard"),
                                            .session = (uint32_t)number(line, "sess"), .start = number(line, "s"), .end = number(line, "e"),
                                            .result = result_of(line), .from = UINT64_MAX}, records, n);
    } else {
        history_final(h, (struct check_final){.shard = (uint32_t)number(line, "shard"), .node = (uint32_t)number(line, "node"),
                                              .trim = number(line, "trim")}, records, n);
    }
    free(records);
    return true;
}

struct ack { uint32_t shard; uint64_t at; };
static int by_shard_time(const void *a, const void *b)
{
    const struct ack *x = a, *y = b;
    if (x->shard != y->shard) {
        return x->shard < y->shard ? -1 : 1;
    }
    return x->at < y->at ? -1 : x->at > y->at;
}
static int by_number(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return x < y ? -1 : x > y;
}

/* For every mark the longest gap of each shard that begins within 5 s after it (or just before); only gaps of shards that the fault touched, told by
 * gaps above 40 ms, count for the percentiles, as the other shards' gaps would flatter them. */
static void print_gaps(const struct history *h, const struct marks *marks, const char *kind)
{
    struct ack *acks = xmalloc((h->n_puts + 1) * sizeof *acks);
    size_t n = 0;
    for (size_t i = 0; i < h->n_puts; i++) {
        if (h->puts[i].result == CHECK_OK) {
            acks[n++] = (struct ack){h->puts[i].shard, h->puts[i].end};
        }
    }
    qsort(acks, n, sizeof *acks, by_shard_time);
    uint64_t *gaps = xmalloc((marks->n * 64 + 1) * sizeof *gaps);
    size_t n_gaps = 0, n_marks = 0;
    for (size_t m = 0; m < marks->n; m++) {
        if (strcmp(marks->v[m].kind, kind) != 0) {
            continue;
        }
        n_marks++;
        uint64_t at = marks->v[m].at, longest = 0;
        for (size_t i = 1; i <= n; i++) {
            bool last = i == n || acks[i].shard != acks[i - 1].shard;
            if (!last && acks[i].at > at && acks[i - 1].at < at + 5000000000ull && acks[i - 1].at + 200000000ull > at) {
                longest = max_u64(longest, acks[i].at - acks[i - 1].at);
            }
            if (last) {
                if (longest > 40000000ull && n_gaps < marks->n * 64) {
                    gaps[n_gaps++] = longest;
                }
                longest = 0;
            }
        }
    }
    if (n_marks > 0) {
        qsort(gaps, n_gaps, sizeof *gaps, by_number);
        if (n_gaps == 0) {
            printf("%s: %zu marks, no shard went without an acknowledgement for 40 ms\n", kind, n_marks);
        } else {
            printf("%s: %zu marks, %zu gaps between acknowledgements per shard: p50 %.0f ms, p99 %.0f ms, longest %.0f ms\n", kind, n_marks, n_gaps,
                   (double)gaps[n_gaps / 2] / 1e6, (double)gaps[n_gaps * 99 / 100] / 1e6, (double)gaps[n_gaps - 1] / 1e6);
        }
    }
    free(gaps);
    free(acks);
}

int main(int argc, char **argv)
{
    struct history h;
    struct marks marks = {0};
    history_init(&h);
    for (int i = 1; i < argc; i++) {
        FILE *f = fopen(argv[i], "r");
        if (f == NULL) {
            perror(argv[i]);
            return 2;
        }
        char *line = NULL;
        size_t cap = 0, lines = 0;
        while (getline(&line, &cap, f) > 0) {
            lines++;
            json_error_t e;
            json_t *j = json_loads(line, 0, &e);
            if (j == NULL || !take_line(&h, &marks, j)) {
                fprintf(stderr, "%s:%zu: not a line of a history\n", argv[i], lines);
                return 2;
            }
            json_decref(j);
        }
        free(line);
        fclose(f);
    }
    struct check_summary s;
    check(&h, &s, stdout);
    printf("%zu acknowledged, %zu unknown, %zu failed, %zu records read, %zu in the replicas; %zu anomalies (lost %zu, duplicate %zu, out of order %zu, "
           "gaps in readers %zu, divergent %zu)\n",
           s.acked, s.unknown, s.failed, s.records_read, s.records_final, s.anomalies, s.by_kind[2], s.by_kind[5], s.by_kind[7] + s.by_kind[10],
           s.by_kind[8], s.by_kind[1]);
    print_gaps(&h, &marks, "kill");
    print_gaps(&h, &marks, "pause");
    print_gaps(&h, &marks, "kill-all");
    history_deinit(&h);
    free(marks.v);
    if (s.anomalies > 0) {
        return 1;
    }
    if (s.acked < 1000) {
        fprintf(stderr, "too little happened to judge: %zu acknowledged puts\n", s.acked);
        return 2;
    }
    return 0;
}
