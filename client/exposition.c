/* Finding samples in the Prometheus text. */
#include "client/exposition.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static const char *next_line(const char *p)
{
    const char *end = strchr(p, '\n');
    return end != NULL ? end + 1 : p + strlen(p);
}

static bool number(const char *p, double *out)
{
    char *end;
    *out = strtod(p, &end);
    return end != p && (*end == '\n' || *end == '\0' || *end == ' ');
}

bool exposition_value(const char *text, const char *name, double *out)
{
    size_t n = strlen(name);
    for (const char *p = text; *p != '\0'; p = next_line(p)) {
        if (strncmp(p, name, n) == 0 && p[n] == ' ') {
            return number(p + n + 1, out);
        }
    }
    return false;
}

bool exposition_histogram_add(const char *text, const char *name, struct exposition_histogram *sum)
{
    static const char label[] = "_bucket{le=\"";
    size_t n = strlen(name);
    unsigned i = 0;
    bool fresh = sum->n == 0;
    for (const char *p = text; *p != '\0'; p = next_line(p)) {
        if (strncmp(p, name, n) != 0 || strncmp(p + n, label, sizeof label - 1) != 0) {
            continue;
        }
        char *end;
        double below, le = strtod(p + n + sizeof label - 1, &end); /* takes "+Inf", too */
        if (strncmp(end, "\"} ", 3) != 0 || !number(end + 3, &below) || i == EXPOSITION_BUCKETS_MAX || (!fresh && (i >= sum->n || sum->le[i] != le))) {
            return false;
        }
        sum->le[i] = le;
        sum->below[i] += below;
        i++;
    }
    if (fresh) {
        sum->n = i;
    }
    return i > 0 && i == sum->n && isinf(sum->le[i - 1]);
}

double exposition_quantile(const struct exposition_histogram *before, const struct exposition_histogram *after, double q)
{
    bool delta = before != NULL && before->n == after->n;
    double total = after->n == 0 ? 0 : after->below[after->n - 1] - (delta ? before->below[after->n - 1] : 0);
    if (total <= 0) {
        return -1;
    }
    double low = 0, low_count = 0;
    for (unsigned i = 0; i < after->n; i++) {
        double count = after->below[i] - (delta ? before->below[i] : 0);
        if (count >= q * total && count > low_count) {
            /* Nothing is known of the last bucket but where it begins. */
            return isinf(after->le[i]) ? low : low + (after->le[i] - low) * (q * total - low_count) / (count - low_count);
        }
        low = after->le[i];
        low_count = count;
    }
    return low;
}
