/* aws_model.c: finding operations by their target; patterns. */
#include "server/aws/aws_model.h"

#include "proto/base.h"

int aws_operation_find(const char *target, size_t n)
{
    static const char service[] = "Kinesis_20131202.";
    size_t skip = sizeof(service) - 1;
    if (n <= skip || memcmp(target, service, skip) != 0) {
        return -1;
    }
    for (int i = 0; i < AWS_OPERATION_COUNT; i++) {
        const char *name = aws_operations[i].name;
        if (strlen(name) == n - skip && memcmp(name, target + skip, n - skip) == 0) {
            return i;
        }
    }
    return -1;
}

/* ---- patterns ---------------------------------------------------------------------------------------------------- */

/* An atom of a pattern with how often it may stand. */
struct atom {
    const char *set; /* what stands in the pattern: `x`, `\x`, `.` or `[...]`, set_n characters */
    size_t set_n;
    size_t min, max;
};

struct matcher {
    const char *text;
    size_t n;
    uint64_t steps; /* left */
};

static bool digit(unsigned char c) { return c >= '0' && c <= '9'; }

static bool escaped_fits(char escape, unsigned char c)
{
    switch (escape) {
    case 'd': return digit(c);
    case 'S': return c != ' ' && (c < '\t' || c > '\r');
    case 'w': return digit(c) || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_';
    default: return c == (unsigned char)escape;
    }
}

static bool class_fits(const char *p, const char *end, unsigned char c)
{
    bool negated = p < end && *p == '^';
    p += negated;
    bool found = false;
    while (p < end && !found) {
        if (*p == '\\' && p + 1 < end) {
            found = escaped_fits(p[1], c);
            p += 2;
        } else if (p + 2 < end && p[1] == '-') {
            found = c >= (unsigned char)p[0] && c <= (unsigned char)p[2];
            p += 3;
        } else {
            found = c == (unsigned char)*p++;
        }
    }
    return found != negated;
}

static bool atom_fits(const struct atom *a, unsigned char c)
{
    switch (a->set[0]) {
    case '[': return class_fits(a->set + 1, a->set + a->set_n - 1, c);
    case '\\': return escaped_fits(a->set[1], c);
    case '.': return c != '\n';
    default: return c == (unsigned char)a->set[0];
    }
}

/* Reads the atom at p; returns where the next one begins. The patterns are our own tables: a malformed one is a bug. */
static const char *atom_read(const char *p, const char *end, struct atom *a)
{
    a->set = p;
    if (*p == '[') {
        while (p < end && *p != ']') {
            p += *p == '\\' ? 2 : 1;
        }
        p++;
    } else {
        p += *p == '\\' ? 2 : 1;
    }
    sluice_assert(p <= end);
    a->set_n = (size_t)(p - a->set);
    a->min = a->max = 1;
    if (p < end && (*p == '*' || *p == '+')) {
        a->min = *p == '+';
        a->max = SIZE_MAX;
        p++;
    } else if (p < end && *p == '{') {
        size_t bounds[2] = {0, 0};
        unsigned which = 0;
        for (p++; p < end && *p != '}'; p++) {
            if (*p == ',') {
                which = 1;
            } else {
                bounds[which] = bounds[which] * 10 + (size_t)(*p - '0');
            }
        }
        p++;
        a->min = bounds[0];
        a->max = which == 1 ? bounds[1] : bounds[0];
    }
    return p;
}

/* Greedy, with a way back. The recursion is as deep as the pattern has atoms. */
static bool match_from(struct matcher *m, const char *p, const char *end, size_t at)
{
    if (p == end) {
        return at == m->n;
    }
    struct atom a;
    const char *next = atom_read(p, end, &a);
    size_t most = 0;
    while (most < a.max && at + most < m->n && atom_fits(&a, (unsigned char)m->text[at + most])) {
        most++;
    }
    if (m->steps < most + 1) {
        m->steps = 0;
        return false;
    }
    m->steps -= most + 1;
    if (most < a.min) {
        return false;
    }
    if (next == end) {
        return at + most == m->n;
    }
    for (size_t count = most + 1; count-- > a.min && m->steps > 0;) {
        if (match_from(m, next, end, at + count)) {
            return true;
        }
    }
    return false;
}

bool aws_pattern_match(const char *match, const char *text, size_t n)
{
    struct matcher m = {text, n, 65536 + 256 * (uint64_t)n};
    const char *p = match;
    for (;;) {
        const char *end = p;
        for (bool inside = false; *end != '\0' && (inside || *end != '|'); end++) {
            if (*end == '\\') {
                end++;
            } else if (*end == '[') {
                inside = true;
            } else if (*end == ']') {
                inside = false;
            }
        }
        if (match_from(&m, p, end, 0)) {
            return true;
        }
        if (*end == '\0') {
            return false;
        }
        p = end + 1;
    }
}
