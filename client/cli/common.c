/* What the commands share: the loop, requests, output. */
#include "client/cli/cli.h"

#include <stdarg.h>
#include <stdlib.h>
#include <time.h>

int cli_error(const char *format, ...)
{
    va_list args;
    va_start(args, format);
    fputs("sluice: ", stderr);
    vfprintf(stderr, format, args);
    va_end(args);
    fputc('\n', stderr);
    return CLI_FAILED;
}

int cli_failed(const char *what, int code, enum sluice_outcome outcome, const char *message, const char *hint)
{
    if (strcmp(message, sluice_error_text(code)) == 0) {
        message = "";
    }
    fprintf(stderr, "sluice: %s: %s%s%s%s\n", what, sluice_error_text(code), message[0] != '\0' ? " (" : "", message, message[0] != '\0' ? ")" : "");
    if (hint[0] != '\0') {
        fprintf(stderr, "  %s\n", hint);
    }
    if (outcome == SLUICE_UNKNOWN) {
        fputs("  It is not known whether it was carried out.\n", stderr);
    }
    return outcome == SLUICE_UNKNOWN ? CLI_UNKNOWN : CLI_FAILED;
}

/* ---- the loop -------------------------------------------------------------------------------------------------------------- */

/* While nothing has been reached at all, who waits wants to know why. */
static void trouble(void *user, const char *address, const char *why)
{
    struct cli *c = user;
    struct sluice_client_stats stats = {0};
    if (c->client != NULL) {
        sluice_client_stats(c->client, &stats);
    }
    if (stats.connects == 0) {
        fprintf(stderr, "sluice: %s: %s; trying again\n", address, why);
    }
}

bool cli_open(struct cli *c)
{
    if (c->client != NULL) {
        return true;
    }
    if (c->env == NULL && env_uv_open(&c->env) != 0) {
        cli_error("cannot open an event loop");
        return false;
    }
    const struct sluice_client_options o = {.endpoints = c->endpoints, .agent = "sluice-cli/" SLUICE_VERSION, .call_timeout_ms = 15000, .trouble = trouble, .user = c};
    if (sluice_client_open(c->env, &o, &c->client) != 0) {
        cli_error("the list of endpoints '%s' cannot be read: host:port,host:port,...", c->endpoints);
        return false;
    }
    return true;
}

static void client_closed(void *user)
{
    struct cli *c = user;
    c->closed = true;
    env_stop(c->env);
}

void cli_close(struct cli *c)
{
    if (c->client != NULL) {
        sluice_client_close(c->client, client_closed, c);
        while (!c->closed) {
            env_uv_run(c->env);
        }
        c->client = NULL;
    }
    if (c->env != NULL) {
        env_uv_close(c->env);
        c->env = NULL;
    }
}

struct sleep { struct env_timer timer; bool over; };

static void sleep_over(struct env_timer *t)
{
    struct sleep *s = container_of(t, struct sleep, timer);
    s->over = true;
    env_stop(t->env);
}

void cli_sleep(struct cli *c, unsigned ms)
{
    struct sleep s = {0};
    env_timer_init(c->env, &s.timer, sleep_over);
    env_timer_start_ms(&s.timer, ms);
    while (!s.over) {
        env_uv_run(c->env);
    }
    env_timer_close(&s.timer);
}

/* ---- requests -------------------------------------------------------------------------------------------------------------- */

struct asked {
    struct cli *cli;
    bool done;
    int code;
    enum sluice_outcome outcome;
    char message[256], hint[256];
    ProtobufCMessage *reply;
};

static void answered(const struct sluice_result *r, void *user)
{
    struct asked *a = user;
    a->done = true;
    a->code = r->code;
    a->outcome = r->outcome;
    snprintf(a->message, sizeof a->message, "%s", r->message);
    snprintf(a->hint, sizeof a->hint, "%s", r->hint);
    if (r->reply != NULL) {
        size_t n = protobuf_c_message_get_packed_size(r->reply);
        uint8_t *packed = xmalloc(n + 1);
        protobuf_c_message_pack(r->reply, packed);
        a->reply = protobuf_c_message_unpack(r->reply->descriptor, NULL, n, packed);
        free(packed);
    }
    env_stop(a->cli->env);
}

static void ask(struct cli *c, enum frame_kind kind, const ProtobufCMessage *message, const struct sluice_call_options *o, struct asked *a)
{
    *a = (struct asked){.cli = c};
    int code = sluice_call(c->client, kind, message, o, answered, a);
    sluice_assert(code == 0);
    while (!a->done) {
        env_uv_run(c->env);
    }
}

int cli_ask(struct cli *c, enum frame_kind kind, const ProtobufCMessage *message, const struct sluice_call_options *o, void *reply_out,
            char *message_out, size_t message_size)
{
    struct asked a;
    ask(c, kind, message, o, &a);
    *(ProtobufCMessage **)reply_out = a.reply;
    if (message_out != NULL) {
        snprintf(message_out, message_size, "%s", a.message);
    }
    return a.code;
}

int cli_request(struct cli *c, enum frame_kind kind, const ProtobufCMessage *message, const struct sluice_call_options *o, void *reply_out)
{
    if (!cli_open(c)) {
        return CLI_FAILED;
    }
    struct asked a;
    ask(c, kind, message, o, &a);
    if (a.code != 0) {
        char what[64];
        snprintf(what, sizeof what, "%s%s%s", c->command->noun, c->command->verb != NULL ? " " : "", c->command->verb != NULL ? c->command->verb : "");
        return cli_failed(what, a.code, a.outcome, a.message, a.hint);
    }
    *(ProtobufCMessage **)reply_out = a.reply;
    return 0;
}

void cli_free(void *message)
{
    if (message != NULL) {
        protobuf_c_message_free_unpacked(message, NULL);
    }
}

int cli_describe(struct cli *c, const char *stream, Sluice__StreamReply **reply)
{
    Sluice__StreamDescribe m = SLUICE__STREAM_DESCRIBE__INIT;
    m.name = (char *)(uintptr_t)stream;
    int status = cli_request(c, FRAME_STREAM_DESCRIBE, &m.base, NULL, reply);
    sluice_assert(status != 0 || *reply != NULL);
    if (status == 0 && (*reply)->stream == NULL) {
        cli_free(*reply);
        return cli_error("the node's answer names no stream");
    }
    return status;
}

/* The end of each shard, asked of its leader. */
struct ends { struct cli *cli; size_t waiting; };
struct end { struct ends *all; Sluice__ShardInfo *shard; };

static void end_known(const struct sluice_result *r, void *user)
{
    struct end *e = user;
    if (r->code == 0) {
        const Sluice__PositionReply *p = (const Sluice__PositionReply *)r->reply;
        e->shard->first_offset = p->first_offset;
        e->shard->end_offset = p->offset;
    }
    if (--e->all->waiting == 0) {
        env_stop(e->all->cli->env);
    }
}

void cli_ask_ends(struct cli *c, Sluice__StreamInfo *s)
{
    struct ends all = {.cli = c};
    struct end *each = xcalloc(s->n_shards + 1, sizeof *each);
    for (size_t i = 0; i < s->n_shards; i++) {
        Sluice__Position m = SLUICE__POSITION__INIT;
        m.shard = s->shards[i]->shard;
        m.kind = SLUICE__POSITION__KIND__LATEST;
        const struct sluice_call_options o = {.stream = s->name, .shard = m.shard, .timeout_ms = 2000};
        each[i] = (struct end){.all = &all, .shard = s->shards[i]};
        s->shards[i]->first_offset = s->shards[i]->end_offset = CLI_NO_OFFSET;
        if (sluice_call(c->client, FRAME_POSITION, &m.base, &o, end_known, &each[i]) == 0) {
            all.waiting++;
        }
    }
    while (all.waiting > 0) {
        env_uv_run(c->env);
    }
    free(each);
}

bool cli_records(const Sluice__StreamInfo *s, uint64_t *n)
{
    bool known = true;
    *n = 0;
    for (size_t i = 0; i < s->n_shards; i++) {
        const Sluice__ShardInfo *sh = s->shards[i];
        known = known && sh->end_offset != CLI_NO_OFFSET;
        *n += sh->end_offset - min_u64(sh->first_offset, sh->end_offset);
    }
    return known;
}

bool cli_wait_active(struct cli *c, const char *stream, unsigned ms)
{
    Sluice__StreamDescribe m = SLUICE__STREAM_DESCRIBE__INIT;
    m.name = (char *)(uintptr_t)stream;
    uint64_t end = env_clock_ns(c->env) + ms * 1000000ull;
    while (env_clock_ns(c->env) < end) {
        Sluice__StreamReply *reply;
        int code = cli_ask(c, FRAME_STREAM_DESCRIBE, &m.base, NULL, &reply, NULL, 0);
        bool active = code == 0 && reply->stream != NULL && reply->stream->status == SLUICE__STREAM_INFO__STATUS__ACTIVE;
        for (size_t i = 0; active && i < reply->stream->n_shards; i++) {
            active = !reply->stream->shards[i]->open || reply->stream->shards[i]->leader != 0;
        }
        cli_free(reply);
        if (active) {
            return true;
        }
        cli_sleep(c, 30);
    }
    return false;
}

/* Over? The shard of the request is closed and the stream active, or it has the number of shards. */
static bool reshard_over(const Sluice__StreamInfo *s, const Sluice__StreamReshard *m)
{
    if (s->status != SLUICE__STREAM_INFO__STATUS__ACTIVE) {
        return false;
    }
    if (m->kind == SLUICE__STREAM_RESHARD__KIND__COUNT) {
        return s->shard_count == m->target;
    }
    for (size_t i = 0; i < s->n_shards; i++) {
        if (s->shards[i]->shard == m->shard) {
            return !s->shards[i]->open;
        }
    }
    return true; /* closed and expired */
}

int cli_reshard(struct cli *c, const Sluice__StreamReshard *m, bool no_wait, Sluice__StreamReply **out)
{
    /* ACTIVE and as before: undone, or told by a node whose map is older; the nodes are asked in turn, so only the former lasts. */
    enum { POLL_MS = 30, UNDONE_POLLS = 50, WAIT_MS = 600000 };
    Sluice__StreamReply *reply = NULL;
    int status = cli_request(c, FRAME_STREAM_RESHARD, &m->base, NULL, &reply);
    if (status != CLI_DONE) {
        return status;
    }
    unsigned as_before = 0;
    uint64_t end = env_clock_ns(c->env) + WAIT_MS * 1000000ull;
    sluice_assert(reply != NULL);
    while (!no_wait && !reshard_over(reply->stream, m)) {
        as_before = reply->stream->status == SLUICE__STREAM_INFO__STATUS__ACTIVE ? as_before + 1 : 0;
        cli_free(reply);
        if (as_before == UNDONE_POLLS) {
            return cli_error("it was undone: the new shards got no leaders in time. The stream is as before");
        }
        if (env_clock_ns(c->env) >= end) {
            return cli_error("it goes on, but is not over after %d s: see 'sluice cluster status'", WAIT_MS / 1000);
        }
        cli_sleep(c, POLL_MS);
        reply = NULL;
        status = cli_describe(c, m->name, &reply);
        if (status != CLI_DONE) {
            return status;
        }
        sluice_assert(reply != NULL);
    }
    *out = reply;
    return CLI_DONE;
}

/* ---- texts ----------------------------------------------------------------------------------------------------------------- */

bool cli_parse_time(const char *text, uint64_t *ms)
{
    struct tm tm = {0};
    char *end = strptime(text, "%Y-%m-%d", &tm);
    double fraction = 0;
    if (end != NULL) {
        if (*end == 'T' || *end == ' ') {
            char *rest = strptime(end + 1, "%H:%M:%S", &tm);
            end = rest != NULL ? rest : strptime(end + 1, "%H:%M", &tm);
        }
        if (end == NULL) {
            return false;
        }
        if (*end == '.') {
            fraction = strtod(end, &end);
        }
        time_t s = timegm(&tm);
        if (*end == 'Z') {
            end++;
        }
        if (*end != '\0' || s < 0) {
            return false;
        }
        *ms = (uint64_t)s * 1000 + (uint64_t)(fraction * 1000);
        return true;
    }
    double s = strtod(text, &end);
    if (end == text || *end != '\0' || !(s >= 0) || s > 1e11) {
        return false;
    }
    *ms = (uint64_t)(s * 1000 + 0.5);
    return true;
}

void cli_time_text(uint64_t ms, char text[32])
{
    time_t s = (time_t)(ms / 1000);
    struct tm tm;
    gmtime_r(&s, &tm);
    strftime(text, 32, "%Y-%m-%dT%H:%M:%SZ", &tm);
}

void cli_hash_text(const ProtobufCBinaryData *d, char text[40])
{
    text[0] = '\0';
    if (d->len == 16) {
        struct hash128 h;
        memcpy(h.b, d->data, 16);
        hash_to_decimal(&h, text);
    }
}

void cli_hex(const ProtobufCBinaryData *d, char text[33])
{
    size_t n = d->len < 16 ? d->len : 16;
    for (size_t i = 0; i < n; i++) {
        text[2 * i] = "0123456789abcdef"[d->data[i] >> 4];
        text[2 * i + 1] = "0123456789abcdef"[d->data[i] & 15];
    }
    text[2 * n] = '\0';
}

json_t *cli_ids(const uint32_t *ids, size_t n)
{
    json_t *a = json_array();
    for (size_t i = 0; i < n; i++) {
        json_array_append_new(a, json_integer(ids[i]));
    }
    return a;
}

void cli_print_json(json_t *j)
{
    json_dumpf(j, stdout, JSON_COMPACT);
    putchar('\n');
    json_decref(j);
}

void cli_table_cell(struct cli_table *t, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    char *text;
    int n = vasprintf(&text, format, args);
    va_end(args);
    sluice_assert(n >= 0);
    t->cells = xrealloc(t->cells, (t->n + 1) * sizeof *t->cells);
    t->cells[t->n++] = text;
}

void cli_table_print(struct cli_table *t, FILE *to)
{
    size_t widths[CLI_COLUMNS_MAX] = {0}; /* counted once: a stream may have thousands of shards */
    sluice_assert(t->columns > 0 && t->columns <= CLI_COLUMNS_MAX);
    for (size_t i = 0; i < t->n; i++) {
        widths[i % t->columns] = max_u64(widths[i % t->columns], strlen(t->cells[i]));
    }
    for (size_t i = 0; i < t->n; i++) {
        if (i % t->columns == t->columns - 1) {
            fprintf(to, "%s\n", t->cells[i]);
        } else {
            fprintf(to, "%-*s  ", (int)widths[i % t->columns], t->cells[i]);
        }
    }
    cli_table_free(t);
}

void cli_table_free(struct cli_table *t)
{
    for (size_t i = 0; i < t->n; i++) {
        free(t->cells[i]);
    }
    free(t->cells);
    t->cells = NULL;
    t->n = 0;
}

int cli_print_list(struct cli *c, json_t *all, struct cli_table *t)
{
    if (c->json) {
        cli_print_json(all);
        cli_table_free(t);
    } else {
        cli_table_print(t, stdout);
        json_decref(all);
    }
    return CLI_DONE;
}

const char *cli_bytes(double n, char out[32])
{
    static const char *const units[] = {"B", "kB", "MB", "GB", "TB", "PB"};
    unsigned u = 0;
    while (n >= 1000 && u + 1 < ARRAY_LEN(units)) {
        n /= 1000;
        u++;
    }
    snprintf(out, 32, u == 0 ? "%.0f %s" : "%.1f %s", n, units[u]);
    return out;
}
