/* The server: listener, the end of a turn, time limits, stop (see http_impl.h). */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proto/base.h"
#include "server/http/http_impl.h"
#include "storage/env_tls.h"

enum { TICK_MS = 250 };

/* ---- the end of a turn ---- */

static void finish(struct http_server *s)
{
    env_timer_close(&s->timer);
    while (s->blocks != NULL) {
        struct out_block *b = s->blocks;
        s->blocks = b->next;
        free(b);
    }
    h2_deinit(s);
    tls_context_unref(s->tls);
    void (*done)(void *) = s->done;
    void *arg = s->done_arg;
    free(s);
    if (done != NULL) {
        done(arg);
    }
}

static void begin_stop(struct http_server *s)
{
    s->stop_asked = false;
    bool at_once = env_now_ms(s->env) >= s->stop_at_ms;
    for (struct conn *c = s->connections, *next; c != NULL; c = next) {
        next = c->next;
        if (at_once) {
            conn_close(c);
        } else {
            conn_stop(c);
        }
    }
}

static void end_of_turn(struct env_task *t)
{
    struct http_server *s = container_of(t, struct http_server, task);
    if (s->stop_asked) {
        begin_stop(s);
    }
    while (s->dirty != NULL || s->released != NULL) {
        while (s->dirty != NULL) {
            struct conn *c = s->dirty;
            s->dirty = c->dirty_next;
            c->in_dirty_list = false;
            conn_flush(c);
        }
        out_release_all(s);
    }
    if (s->closing && !s->stop_asked && s->connections == NULL && !t->queued) {
        finish(s);
    }
}

void server_defer(struct http_server *s) { env_defer(s->env, &s->task, end_of_turn); }

/* ---- time ---- */

uint64_t server_patience_ms(const struct http_server *s, uint64_t period_ms)
{
    return s->counters.memory_bytes > s->limits.memory_max / 2 ? min_u64(s->limits.tight_ms, period_ms) : period_ms;
}

static void on_tick(struct env_timer *t)
{
    struct http_server *s = container_of(t, struct http_server, timer);
    uint64_t now_ms = env_now_ms(s->env);
    bool out_of_time = s->closing && now_ms >= s->stop_at_ms;
    for (struct conn *c = s->connections, *next; c != NULL; c = next) {
        next = c->next; /* connections leave the list in `closed` alone, never in here */
        if (out_of_time) {
            conn_close(c);
        } else {
            conn_tick(c, now_ms);
        }
    }
    s->timer_on = s->connections != NULL;
    if (s->timer_on) {
        env_timer_start_ms(&s->timer, TICK_MS);
    }
}

/* Days since 1970 to a civil date (Gregorian, years from March on so that the leap day comes last). */
static void civil(uint64_t days, unsigned *year, unsigned *month, unsigned *day)
{
    uint64_t z = days + 719468, era = z / 146097, doe = z % 146097;
    uint64_t yoe = (doe - doe / 1460 + doe / 36524 - doe / 146096) / 365;
    uint64_t doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
    uint64_t mp = (5 * doy + 2) / 153;
    *day = (unsigned)(doy - (153 * mp + 2) / 5 + 1);
    *month = (unsigned)(mp < 10 ? mp + 3 : mp - 9);
    *year = (unsigned)(yoe + era * 400 + (*month <= 2));
}

void http_date(uint64_t unix_s, char out[32])
{
    static const char days[7][4] = {"Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"};
    static const char months[12][4] = {"Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"};
    unsigned year, month, day;
    civil(unix_s / 86400, &year, &month, &day);
    snprintf(out, 32, "%s, %02u %s %04u %02u:%02u:%02u GMT", days[unix_s / 86400 % 7], day, months[month - 1], year % 10000,
             (unsigned)(unix_s / 3600 % 24), (unsigned)(unix_s / 60 % 60), (unsigned)(unix_s % 60));
}

const char *server_date(struct http_server *s)
{
    uint64_t now_s = env_wall_ms(s->env) / 1000;
    if (now_s != s->date_s || s->date[0] == '\0') {
        s->date_s = now_s;
        http_date(now_s, s->date);
    }
    return s->date;
}

const char *http_status_text(int status)
{
    static const struct { int status; const char *text; } texts[] = {
        {200, "OK"}, {201, "Created"}, {202, "Accepted"}, {204, "No Content"}, {301, "Moved Permanently"}, {302, "Found"}, {304, "Not Modified"},
        {307, "Temporary Redirect"}, {400, "Bad Request"}, {401, "Unauthorized"}, {403, "Forbidden"}, {404, "Not Found"}, {405, "Method Not Allowed"},
        {408, "Request Timeout"}, {409, "Conflict"}, {411, "Length Required"}, {413, "Content Too Large"}, {415, "Unsupported Media Type"},
        {417, "Expectation Failed"}, {421, "Misdirected Request"}, {429, "Too Many Requests"}, {431, "Request Header Fields Too Large"},
        {500, "Internal Server Error"}, {501, "Not Implemented"}, {503, "Service Unavailable"}, {505, "HTTP Version Not Supported"},
    };
    for (unsigned i = 0; i < ARRAY_LEN(texts); i++) {
        if (texts[i].status == status) {
            return texts[i].text;
        }
    }
    return "Other";
}

/* ---- life ---- */

static void on_accept(struct env_listener *l)
{
    struct http_server *s = container_of(l, struct http_server, listener);
    conn_accept(s);
    if (!s->timer_on) {
        s->timer_on = true;
        env_timer_start_ms(&s->timer, TICK_MS);
    }
}

int http_server_open(struct http_server **out, const struct http_options *o)
{
    struct http_server *s = xcalloc(1, sizeof *s);
    s->o = *o;
    s->env = o->env;
    s->limits = o->limits;
#define X(name, value) \
    if (s->limits.name == 0) { \
        s->limits.name = (value); \
    }
    HTTP_LIMITS(X)
#undef X
    s->released_end = &s->released;
    sluice_assert(o->callbacks.request != NULL && o->callbacks.gone != NULL);
    int rc = -EINVAL;
    /* A connection may use half of the memory: the largest request must fit. TLS alone needs a context. */
    if (s->limits.body_max + s->limits.head_max * 2 > s->limits.memory_max / 2 || (o->tls_only && o->tls == NULL)) {
        goto no_timer;
    }
    rc = env_timer_init(s->env, &s->timer, on_tick);
    if (rc != 0) {
        goto no_timer;
    }
    rc = h2_init(s) ? 0 : -ENOMEM;
    if (rc != 0) {
        goto no_h2;
    }
    rc = env_listen(s->env, &s->listener, o->host, o->port, o->share_port, on_accept);
    if (rc != 0) {
        goto no_listener;
    }
    s->tls = o->tls != NULL ? tls_context_ref(o->tls) : NULL;
    *out = s;
    return 0;
no_listener:
    h2_deinit(s);
no_h2:
    env_timer_close(&s->timer);
no_timer:
    free(s);
    return rc;
}

uint16_t http_server_port(const struct http_server *s) { return s->listener.port; }
const struct http_counters *http_server_counters(const struct http_server *s) { return &s->counters; }

void http_server_set_tls(struct http_server *s, struct tls_context *tls)
{
    struct tls_context *old = s->tls;
    s->tls = tls != NULL ? tls_context_ref(tls) : NULL;
    tls_context_unref(old);
}

void http_server_close(struct http_server *s, uint64_t grace_ms, void (*done)(void *arg), void *arg)
{
    sluice_assert(!s->closing);
    env_listener_close(&s->listener);
    s->closing = s->stop_asked = true;
    s->stop_at_ms = env_now_ms(s->env) + grace_ms;
    s->done = done;
    s->done_arg = arg;
    server_defer(s); /* this may be inside a callback of a connection that is to be closed */
}
