/* log.c: see log.h. */
#include "server/log.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "proto/base.h"

enum { LINE_MAX_BYTES = 2048 };

static const char *const level_names[] = { "error", "warn", "info", "debug" };

bool log_level_parse(const char *name, enum log_level *out)
{
    for (unsigned i = 0; i < ARRAY_LEN(level_names); i++) {
        if (strcmp(name, level_names[i]) == 0) {
            *out = (enum log_level)i;
            return true;
        }
    }
    return false;
}

struct text { char *p; int n, len; };

static void add_char(struct text *t, char c)
{
    if (t->len < t->n - 1) {
        t->p[t->len++] = c;
    }
}

static void add_text(struct text *t, const char *s, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        add_char(t, s[i]);
    }
}

/* Control characters never reach a log: a line stays one line, whatever a client sent. */
static void add_clean(struct text *t, const char *s, size_t n, bool json)
{
    for (size_t i = 0; i < n; i++) {
        unsigned char c = (unsigned char)s[i];
        if (c < 0x20 || c == 0x7f) {
            add_char(t, '?');
        } else {
            if (json && (c == '"' || c == '\\')) {
                add_char(t, '\\');
            }
            add_char(t, (char)c);
        }
    }
}

/* key=value key="two words": as JSON members, all values as strings. */
static void add_json_pairs(struct text *t, const char *s)
{
    while (*s != 0) {
        while (*s == ' ') {
            s++;
        }
        const char *eq = strchr(s, '=');
        if (eq == NULL) {
            return;
        }
        const char *value = eq + 1;
        const char *end;
        const char *next;
        if (*value == '"') {
            value++;
            end = strchr(value, '"');
            end = end != NULL ? end : value + strlen(value);
            next = *end != 0 ? end + 1 : end;
        } else {
            end = value + strcspn(value, " ");
            next = end;
        }
        add_text(t, ",\"", 2);
        add_clean(t, s, (size_t)(eq - s), true);
        add_text(t, "\":\"", 3);
        add_clean(t, value, (size_t)(end - value), true);
        add_char(t, '"');
        s = next;
    }
}

int log_format(char *out, int n, const struct log *l, uint64_t wall_ms, enum log_level level, const char *message, const char *pairs)
{
    time_t seconds = (time_t)(wall_ms / 1000);
    struct tm tm;
    char stamp[40];
    if (gmtime_r(&seconds, &tm) == NULL) {
        memset(&tm, 0, sizeof tm);
    }
    size_t k = strftime(stamp, sizeof stamp, "%Y-%m-%dT%H:%M:%S", &tm);
    snprintf(stamp + k, sizeof stamp - k, ".%03uZ", (unsigned)(wall_ms % 1000));
    struct text t = { .p = out, .n = n };
    char head[160];
    if (l->json) {
        int h = snprintf(head, sizeof head, "{\"time\":\"%s\",\"level\":\"%s\",\"node\":%u,\"message\":\"", stamp, level_names[level], l->node);
        add_text(&t, head, (size_t)h);
        add_clean(&t, message, strlen(message), true);
        add_char(&t, '"');
        add_json_pairs(&t, pairs);
        add_char(&t, '}');
    } else {
        int h = snprintf(head, sizeof head, "%s %-5s node=%u ", stamp, level_names[level], l->node);
        add_text(&t, head, (size_t)h);
        add_clean(&t, message, strlen(message), false);
        if (*pairs != 0) {
            add_char(&t, ' ');
            add_clean(&t, pairs, strlen(pairs), false);
        }
    }
    out[t.len] = 0;
    return t.len;
}

void log_write(const struct log *l, enum log_level level, const char *message, const char *pairs, ...)
{
    if (level > l->level) {
        return;
    }
    char text[LINE_MAX_BYTES];
    text[0] = 0;
    if (pairs != NULL) {
        va_list ap;
        va_start(ap, pairs);
        vsnprintf(text, sizeof text, pairs, ap);
        va_end(ap);
    }
    char line[LINE_MAX_BYTES + 256];
    int n = log_format(line, (int)sizeof line, l, env_wall_ms(l->env), level, message, text);
    env_log_line(l->env, line, (size_t)n);
}

bool log_limit_ok(struct log_limit *lim, uint64_t now_ms, uint32_t burst, uint64_t period_ms)
{
    if (now_ms - lim->since_ms >= period_ms) {
        lim->since_ms = now_ms;
        lim->count = 0;
    }
    return lim->count++ < burst;
}
