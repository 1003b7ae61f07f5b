/* sluice put: a record per line.
 *
 * A helper thread reads the input in large blocks while the loop cuts them into lines and puts those; a producer that is full stops
 * the cutting until it is writable again. */
#include "client/cli/cli.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <regex.h>
#include <signal.h>
#include <stdlib.h>
#include <unistd.h>

#include "client/lines.h"

enum { BLOCK_BYTES = 1 << 20, PROGRESS_MS = 250, INTERRUPT_MS = 2000, LINE_MAX_BYTES = BATCH_RECORD_BYTES_MAX };

struct block { char *data; size_t n; int error; bool eof; };

struct putting {
    struct cli *cli;
    struct sluice_producer *producer;
    int fd;
    const char *key;
    regex_t regex;
    bool by_regex;
    uint64_t key_seed, key_count;
    /* Input: one block is cut while the next is read. */
    struct env_job job;
    struct block reading, cutting;
    bool job_runs, block_ready, eof;
    struct lines lines;
    const char *line; /* cut and not yet taken by the producer */
    size_t line_len;
    bool has_line;
    /* Outcome. */
    uint64_t n_lines, acked, bytes, first_failed, start_ns, unknown;
    int failed_code;
    enum sluice_outcome failed_outcome;
    char failed_text[256];
    bool stop, flushing, done, terminal;
    struct env_timer progress;
    /* Ctrl-C: nothing more is read; what is under way gets a moment, or until the second one. */
    bool interrupted;
    struct env_signal signal;
    struct env_timer patience;
};

static void cut(struct putting *p);
static void finish_when_read(struct putting *p);

static uint64_t acked_per_s(const struct putting *p, uint64_t now)
{
    double s = (double)(now - p->start_ns) / 1e9;
    return s > 0 ? (uint64_t)((double)p->acked / s) : 0;
}

static void progress(struct env_timer *t)
{
    struct putting *p = container_of(t, struct putting, progress);
    char bytes[32];
    fprintf(stderr, "\r%llu lines acknowledged, %s, %llu/s \033[K", (unsigned long long)p->acked, cli_bytes((double)p->bytes, bytes),
            (unsigned long long)acked_per_s(p, env_now_ns(p->cli->env)));
    env_timer_start_ms(t, PROGRESS_MS);
}

/* ---- outcome --------------------------------------------------------------------------------------------------------------- */

static void fail_line(struct putting *p, uint64_t line, int code, enum sluice_outcome outcome, const char *message)
{
    p->unknown += outcome == SLUICE_UNKNOWN;
    if (p->first_failed == 0 || line < p->first_failed) {
        p->first_failed = line;
        p->failed_code = code;
        p->failed_outcome = outcome;
        snprintf(p->failed_text, sizeof p->failed_text, "%s", message);
    }
    p->stop = true; /* nothing more is read: what is under way is waited for */
    finish_when_read(p);
}

/* The record's user pointer is its line number: no memory per line is needed. */
static void put_done(const struct sluice_put_result *r, void *user)
{
    struct putting *p = r->producer_user;
    if (r->code == 0) {
        p->acked++;
    } else {
        fail_line(p, (uint64_t)(uintptr_t)user, r->code, r->outcome, r->message);
    }
}

static void flushed(void *user)
{
    struct putting *p = user;
    p->done = true;
    env_stop(p->cli->env);
}

static void finish_when_read(struct putting *p)
{
    if (!p->flushing && (p->stop || (p->eof && !p->has_line))) {
        p->flushing = true;
        sluice_producer_flush(p->producer, flushed, p);
    }
}

static void patience_over(struct env_timer *t) { flushed(container_of(t, struct putting, patience)); }

static void on_interrupt(struct env_signal *s)
{
    struct putting *p = container_of(s, struct putting, signal);
    if (p->interrupted) {
        flushed(p);
        return;
    }
    p->interrupted = true;
    p->stop = true;
    env_timer_start_ms(&p->patience, INTERRUPT_MS);
    finish_when_read(p);
}

/* ---- input ----------------------------------------------------------------------------------------------------------------- */

/* On a helper thread. Waits for the first bytes, then takes what is there. */
static void read_work(struct env_job *j)
{
    struct putting *p = container_of(j, struct putting, job);
    struct block *b = &p->reading;
    b->n = 0;
    while (b->n < BLOCK_BYTES && !b->eof && b->error == 0) {
        ssize_t r = read(p->fd, b->data + b->n, BLOCK_BYTES - b->n);
        if (r > 0) {
            b->n += (size_t)r;
        } else if (r == 0) {
            b->eof = true;
        } else if (errno != EINTR) {
            b->error = errno;
        }
        struct pollfd now = {.fd = p->fd, .events = POLLIN};
        if (b->n > 0 && poll(&now, 1, 0) == 0) {
            break; /* a slow writer's lines should not wait for a full block */
        }
    }
}

static void read_done(struct env_job *j);

static void read_more(struct putting *p)
{
    if (!p->job_runs && !p->block_ready && !p->reading.eof && p->reading.error == 0 && !p->stop) {
        p->job_runs = true;
        env_job_submit(p->cli->env, ENV_QUEUE_BULK, &p->job, read_work, read_done);
    }
}

static void read_done(struct env_job *j)
{
    struct putting *p = container_of(j, struct putting, job);
    p->job_runs = false;
    p->block_ready = true;
    cut(p);
}

/* ---- lines to records ------------------------------------------------------------------------------------------------------ */

/* A key of its own for each record spreads them evenly. */
static size_t spread_key(struct putting *p, char out[16])
{
    uint64_t x = p->key_seed + p->key_count++ * 0x9e3779b97f4a7c15ull;
    for (int i = 0; i < 16; i++) {
        out[i] = "0123456789abcdef"[x >> (4 * i) & 15];
    }
    return 16;
}

static bool put_line(struct putting *p)
{
    char spread[16];
    struct sluice_record r = {.data = p->line, .data_len = p->line_len, .key = p->key};
    regmatch_t m[2] = {{.rm_so = 0, .rm_eo = (regoff_t)p->line_len}, {.rm_so = -1}};
    if (p->key != NULL) {
        r.key_len = strlen(p->key);
    } else if (p->by_regex && regexec(&p->regex, p->line, 2, m, REG_STARTEND) == 0) {
        const regmatch_t *found = m[1].rm_so >= 0 ? &m[1] : &m[0];
        r.key = p->line + found->rm_so;
        r.key_len = (size_t)(found->rm_eo - found->rm_so);
    }
    if (r.key_len == 0) { /* also a line in which the expression finds nothing */
        r.key = spread;
        r.key_len = spread_key(p, spread);
    }
    int code = sluice_producer_put(p->producer, &r, put_done, (void *)(uintptr_t)(p->n_lines + 1));
    if (code == SLUICE_E_BUSY) {
        if (r.key == spread) {
            p->key_count--;
        }
        return false;
    }
    p->n_lines++;
    p->bytes += p->line_len;
    if (code != 0) {
        const char *message = "";
        if (sluice_producer_error(p->producer, &message) == 0) {
            message = "";
        }
        fail_line(p, p->n_lines, code, SLUICE_REJECTED, message);
    }
    return true;
}

/* Takes lines until the producer is full, the input waits, or something failed. */
static void cut(struct putting *p)
{
    while (!p->stop) {
        if (!p->has_line) {
            int got = lines_next(&p->lines, &p->line, &p->line_len);
            if (got < 0) {
                fail_line(p, p->n_lines + 1, SLUICE_E_TOO_LARGE, SLUICE_REJECTED, "a line is longer than the largest record");
                break;
            }
            p->has_line = got == 1;
        }
        if (p->has_line) {
            if (!put_line(p)) {
                return; /* `writable` goes on */
            }
            p->has_line = false;
            continue;
        }
        if (p->block_ready) {
            struct block full = p->reading;
            p->reading = (struct block){.data = p->cutting.data, .eof = full.eof, .error = full.error};
            p->cutting = full;
            p->block_ready = false;
            lines_feed(&p->lines, full.data, full.n);
            read_more(p);
        } else if (p->job_runs) {
            return; /* the block is the helper's until read_done */
        } else if (p->reading.error != 0) {
            fail_line(p, p->n_lines + 1, SLUICE_E_INVALID, SLUICE_REJECTED, strerror(p->reading.error));
        } else if (p->reading.eof) {
            if (p->eof) {
                break;
            }
            p->eof = true;
            p->has_line = lines_last(&p->lines, &p->line, &p->line_len) == 1;
            if (!p->has_line) {
                break;
            }
        } else {
            read_more(p);
            return;
        }
    }
    finish_when_read(p);
}

static void writable(struct sluice_producer *producer, void *user)
{
    struct putting *p = user;
    const char *message;
    int code = sluice_producer_error(producer, &message);
    if (code != 0) {
        fail_line(p, p->n_lines + 1, code, SLUICE_REJECTED, message);
        return;
    }
    cut(p);
}

/* ---- the command ----------------------------------------------------------------------------------------------------------- */

static int report(struct putting *p)
{
    struct sluice_client_stats cs;
    sluice_client_stats(p->cli->client, &cs);
    double s = (double)(env_now_ns(p->cli->env) - p->start_ns) / 1e9;
    char bytes[32];
    if (p->terminal) {
        fputs("\r\033[K", stderr);
    }
    if (p->cli->json) {
        json_t *first = p->first_failed != 0 ? json_integer((json_int_t)p->first_failed) : json_null();
        cli_print_json(json_pack("{s:s, s:I, s:I, s:I, s:f, s:o, s:I, s:I, s:b}", "stream", p->cli->words[0], "lines", (json_int_t)p->n_lines, "acknowledged",
                                 (json_int_t)p->acked, "bytes", (json_int_t)p->bytes, "seconds", s, "first_not_acknowledged", first, "retries",
                                 (json_int_t)cs.retries, "unknown", (json_int_t)p->unknown, "interrupted", p->interrupted));
    }
    fprintf(stderr, "%llu line%s acknowledged, %s in %.2f s (%llu/s)%s", (unsigned long long)p->acked, p->acked == 1 ? "" : "s",
            cli_bytes((double)p->bytes, bytes), s, (unsigned long long)acked_per_s(p, env_now_ns(p->cli->env)), cs.retries > 0 ? "" : "\n");
    if (cs.retries > 0) {
        fprintf(stderr, ", %llu retries\n", (unsigned long long)cs.retries);
    }
    if (p->interrupted) {
        fprintf(stderr, "interrupted: %llu of the %llu lines read were not acknowledged: %llu surely not stored, %llu unknown\n",
                (unsigned long long)(p->n_lines - p->acked), (unsigned long long)p->n_lines, (unsigned long long)(p->n_lines - p->acked - p->unknown),
                (unsigned long long)p->unknown);
        return CLI_INTERRUPTED;
    }
    if (p->first_failed == 0) {
        return CLI_DONE;
    }
    char what[64];
    snprintf(what, sizeof what, "line %llu is the first not acknowledged", (unsigned long long)p->first_failed);
    int status = cli_failed(what, p->failed_code, p->failed_outcome, p->failed_text, "");
    return p->unknown > 0 ? CLI_UNKNOWN : status;
}

static int put(struct cli *c)
{
    struct putting *p = xcalloc(1, sizeof *p);
    p->cli = c;
    p->key = cli_value(c, "key");
    const char *re = cli_value(c, "key-regex"), *file = c->n_words > 1 ? c->words[1] : "-";
    uint64_t timeout_s;
    if (p->key != NULL && re != NULL) {
        return cli_usage(c, "--key and --key-regex exclude each other");
    }
    if (p->key != NULL && (p->key[0] == '\0' || strlen(p->key) > BATCH_KEY_MAX)) {
        return cli_usage(c, "--key: 1 to %d bytes", BATCH_KEY_MAX);
    }
    if (!cli_number(c, "timeout", 120, 0, 1000000000, &timeout_s)) {
        return CLI_USAGE;
    }
    if (re != NULL) {
        int rc = regcomp(&p->regex, re, REG_EXTENDED);
        if (rc != 0) {
            char why[128];
            regerror(rc, &p->regex, why, sizeof why);
            return cli_usage(c, "--key-regex: %s", why);
        }
        p->by_regex = true;
    }
    p->fd = strcmp(file, "-") == 0 ? STDIN_FILENO : open(file, O_RDONLY | O_CLOEXEC);
    if (p->fd < 0) {
        return cli_error("cannot open '%s': %s", file, strerror(errno));
    }
    if (!cli_open(c)) {
        return CLI_FAILED;
    }
    p->key_seed = env_random_u64(c->env);
    p->reading.data = xmalloc(BLOCK_BYTES);
    p->cutting.data = xmalloc(BLOCK_BYTES);
    lines_init(&p->lines, LINE_MAX_BYTES);
    p->terminal = isatty(STDERR_FILENO);
    p->start_ns = env_now_ns(c->env);
    const struct sluice_producer_options o = {.writable = writable, .user = p, .delivery_timeout_ms = timeout_s == 0 ? UINT64_MAX : timeout_s * 1000};
    int code = sluice_producer_open(c->client, c->words[0], &o, &p->producer);
    if (code != 0) {
        return cli_failed("put", code, SLUICE_REJECTED, "", "");
    }
    env_timer_init(c->env, &p->progress, progress);
    if (p->terminal) {
        env_timer_start_ms(&p->progress, PROGRESS_MS);
    }
    env_timer_init(c->env, &p->patience, patience_over);
    if (env_signal_start(c->env, &p->signal, SIGINT, on_interrupt) != 0) {
        signal(SIGINT, SIG_DFL);
    }
    read_more(p);
    while (!p->done) {
        env_uv_run(c->env);
    }
    env_timer_close(&p->progress);
    env_timer_close(&p->patience);
    env_signal_stop(c->env, &p->signal);
    p->flushing = true; /* what ends now starts nothing any more */
    sluice_producer_close(p->producer); /* tells the outcome of what is still under way */
    int status = report(p);
    if (p->job_runs) {
        /* The helper may wait for input that never comes. */
        fflush(stdout);
        _exit(status);
    }
    if (p->by_regex) {
        regfree(&p->regex);
    }
    lines_deinit(&p->lines);
    free(p->reading.data);
    free(p->cutting.data);
    if (p->fd != STDIN_FILENO) {
        close(p->fd);
    }
    cli_close(c); /* the producer's memory goes with the loop's last turn, p after it */
    free(p);
    return status;
}

const struct cli_command cli_put_command = {
    "put", NULL, "STREAM [FILE|-]", 1, 2,
    "Put each line of a file or the standard input as a record. Idempotent: retried through failures without duplicates, in input order per shard. "
    "Without a key the lines are spread evenly over the shards. Ctrl-C stops reading and tells what became of the lines read.",
    {{"key", "K", "partition key of every record"},
     {"key-regex", "RE", "the key is what the extended expression's first group (or all of it) finds in the line"},
     {"timeout", "SECONDS", "give a line up after so long (default 120; 0: never)"}},
    put};
