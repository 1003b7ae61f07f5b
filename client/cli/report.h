/* report.h: what the parts of `sluice bench report` share.
 *
 * report.c: the command: runs the set, notes a line per run; report_plan.c: the set and the goals; report_machine.c: what the machine is; report_data.c: medians
 * out of the lines; report_page.c: the page. The page is made of the lines alone, so it can be made again. */
#ifndef SLUICE_REPORT_H
#define SLUICE_REPORT_H

#include "client/cli/cli.h"

/* One run of the set: `sluice bench ARGS`, on a stream of its own. */
struct report_test {
    const char *id, *title;
    const char *full, *quick; /* arguments of `sluice bench`, apart by single spaces */
    const char *stream;       /* tests with the same one use it one after another; NULL: no stream is made */
    uint32_t shards;
    bool last;                /* the stream is deleted after it */
};
extern const struct report_test report_tests[];
extern const size_t report_tests_n;

/* A figure that is wanted: the median over the rounds of A, A / B or A - B. */
struct report_goal {
    const char *title, *unit;
    const char *id, *field;
    char op;                    /* '\0', '/' or '-' */
    const char *other_id, *other_field;
    double factor;              /* for the unit */
    bool at_least;
    double goal;
};
extern const struct report_goal report_goals[];
extern const size_t report_goals_n;

/* Over the rounds. n 0: nothing was measured. */
struct report_figure { size_t n; double median, low, high; };
struct report_figure report_figure(const json_t *lines, const char *id, const char *field);
struct report_figure report_figure_of(const json_t *lines, const struct report_goal *g);
/* The median distribution: shares and milliseconds into arrays of max; returns the number of points. */
size_t report_curve(const json_t *lines, const char *id, double *share, double *ms, size_t max);
/* The first line of a test, or NULL; the machine's line has the id "machine". */
const json_t *report_line(const json_t *lines, const char *id);
const char *report_string(const json_t *line, const char *field); /* "" if it has none */

/* Facts about this machine and the file system of a folder. */
json_t *report_machine(const char *dir);

/* Writes the whole page. */
void report_page(FILE *to, const json_t *lines);

#endif
