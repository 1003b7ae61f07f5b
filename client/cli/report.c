/* sluice bench report: runs the set of report_plan.c and writes a page.
 *
 * Every run is a `sluice bench ...` of its own, as it would be typed; its line goes to lines.jsonl with an id and the round, and report.html is made of these lines
 * after every round. Each round begins with the bare machine, so that ratios are of the same few minutes. */
#include "client/cli/report.h"

#include <errno.h>
#include <fcntl.h>
#include <spawn.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

enum { ARGS_MAX = 40, LINE_MAX_BYTES = 1 << 20, STREAM_WAIT_MS = 60000 };

extern char **environ;

struct report {
    struct cli *cli;
    const char *out, *dir, *only;
    bool quick;
    json_t *lines;
    FILE *raw;
    unsigned failed;
};

static void note(struct report *r, json_t *line)
{
    char *text = json_dumps(line, JSON_COMPACT | JSON_REAL_PRECISION(9));
    fprintf(r->raw, "%s\n", text);
    fflush(r->raw);
    free(text);
    json_array_append_new(r->lines, line);
}

/* ---- one run --------------------------------------------------------------------------------------------------------------- */

/* Starts this program with the arguments; its output can be read from the file returned, which the caller closes. */
static FILE *start(char *const *argv, pid_t *pid)
{
    int ends[2];
    if (pipe2(ends, O_CLOEXEC) != 0) {
        return NULL;
    }
    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_adddup2(&actions, ends[1], STDOUT_FILENO);
    int code = posix_spawn(pid, "/proc/self/exe", &actions, NULL, argv, environ);
    posix_spawn_file_actions_destroy(&actions);
    close(ends[1]);
    FILE *f = code == 0 ? fdopen(ends[0], "r") : NULL;
    if (f == NULL) {
        close(ends[0]);
        errno = code != 0 ? code : errno;
    }
    return f;
}

static void take_line(struct report *r, const struct report_test *t, unsigned round, const char *command, const char *text)
{
    json_t *line = json_loads(text, 0, NULL);
    if (!json_is_object(line)) {
        json_decref(line);
        return;
    }
    char id[64];
    bool disk = strcmp(t->id, "disk") == 0; /* a line per pattern */
    if (disk) {
        snprintf(id, sizeof id, "disk-%lld", (long long)json_integer_value(json_object_get(line, "bytes")));
    } else {
        snprintf(id, sizeof id, "%s", t->id);
    }
    if (round > 1) {
        json_object_del(line, "rss_bytes_per_replica"); /* the nodes reuse what they held in the first round */
    }
    json_t *all = json_pack("{s:s, s:i, s:s, s:s}", "id", id, "round", (int)round, "title", t->title, "command", command);
    json_object_update(all, line);
    json_decref(line);
    note(r, all);
}

static bool run(struct report *r, const struct report_test *t, unsigned round)
{
    char args[512], command[600], *argv[ARGS_MAX], *save;
    unsigned n = 0;
    snprintf(args, sizeof args, "%s", r->quick ? t->quick : t->full);
    snprintf(command, sizeof command, "sluice bench %s", args);
    argv[n++] = (char *)(uintptr_t)"sluice";
    if (r->cli->endpoints != NULL) {
        argv[n++] = (char *)(uintptr_t)"--endpoint";
        argv[n++] = (char *)(uintptr_t)r->cli->endpoints;
    }
    argv[n++] = (char *)(uintptr_t)"bench";
    for (char *a = strtok_r(args, " ", &save); a != NULL && n + 4 < ARGS_MAX; a = strtok_r(NULL, " ", &save)) {
        argv[n++] = a;
    }
    if (t->stream != NULL) {
        argv[n++] = (char *)(uintptr_t)"--stream";
        argv[n++] = (char *)(uintptr_t)t->stream;
    } else if (strncmp(t->id, "disk", 4) == 0) {
        argv[n++] = (char *)(uintptr_t)"--dir";
        argv[n++] = (char *)(uintptr_t)r->dir;
    }
    argv[n] = NULL;
    pid_t pid;
    FILE *f = start(argv, &pid);
    if (f == NULL) {
        cli_error("bench report: cannot start '%s': %s", command, strerror(errno));
        return false;
    }
    char *text = NULL;
    size_t size = 0;
    while (getline(&text, &size, f) > 0 && size < LINE_MAX_BYTES) {
        take_line(r, t, round, command, text);
    }
    free(text);
    fclose(f);
    int status;
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR) {
    }
    return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

/* ---- streams --------------------------------------------------------------------------------------------------------------- */

static int stream_drop(struct report *r, const char *name, bool quietly)
{
    Sluice__StreamDelete m = SLUICE__STREAM_DELETE__INIT;
    m.name = (char *)(uintptr_t)name;
    Sluice__StreamReply *reply = NULL;
    int code = cli_ask(r->cli, FRAME_STREAM_DELETE, &m.base, NULL, &reply, NULL, 0);
    cli_free(reply);
    return code == 0 || quietly ? 0 : cli_error("bench report: cannot delete '%s': %s", name, sluice_error_text(code));
}

/* A new stream without limits, all shards led. */
static int stream_make(struct report *r, const struct report_test *t)
{
    Sluice__StreamCreate m = SLUICE__STREAM_CREATE__INIT;
    m.name = (char *)(uintptr_t)t->stream;
    m.shards = t->shards;
    Sluice__StreamUpdate u = SLUICE__STREAM_UPDATE__INIT;
    u.name = m.name;
    u.limits = SLUICE__STREAM_UPDATE__LIMITS__OFF;
    Sluice__StreamReply *reply;
    stream_drop(r, t->stream, true); /* of a report that was broken off */
    int status = cli_request(r->cli, FRAME_STREAM_CREATE, &m.base, NULL, &reply);
    if (status != 0) {
        return status;
    }
    cli_free(reply);
    if (!cli_wait_active(r->cli, t->stream, STREAM_WAIT_MS)) {
        return cli_error("bench report: not every shard of '%s' has a leader", t->stream);
    }
    status = cli_request(r->cli, FRAME_STREAM_UPDATE, &u.base, NULL, &reply);
    if (status == 0) {
        cli_free(reply);
    }
    return status;
}

/* ---- the set --------------------------------------------------------------------------------------------------------------- */

static bool chosen(const struct report *r, const struct report_test *t)
{
    const char *p = r->only;
    for (size_t n; p != NULL && *p != '\0'; p += n + (p[n] == ',')) {
        n = strcspn(p, ",");
        if (strlen(t->id) == n && strncmp(t->id, p, n) == 0) {
            return true;
        }
    }
    return r->only == NULL;
}

static int page(const struct report *r)
{
    char path[4096];
    snprintf(path, sizeof path, "%s/report.html", r->out);
    FILE *f = fopen(path, "we");
    if (f == NULL) {
        return cli_error("bench report: cannot write '%s': %s", path, strerror(errno));
    }
    report_page(f, r->lines);
    bool bad = ferror(f) != 0;
    bad = fclose(f) != 0 || bad;
    return bad ? cli_error("bench report: cannot write '%s'", path) : 0;
}

static int run_round(struct report *r, unsigned round, unsigned rounds)
{
    const char *made = NULL; /* the stream that is there now */
    for (size_t i = 0; i < report_tests_n; i++) {
        const struct report_test *t = &report_tests[i];
        if (chosen(r, t)) {
            fprintf(stderr, "round %u of %u, %zu of %zu: %s\n", round, rounds, i + 1, report_tests_n, t->title);
            int status = t->stream != NULL && (made == NULL || strcmp(made, t->stream) != 0) ? stream_make(r, t) : 0;
            if (status != 0) {
                return status;
            }
            made = t->stream;
            if (!run(r, t, round)) {
                r->failed++;
            }
        }
        if (made != NULL && t->last && strcmp(made, t->stream) == 0) {
            int status = stream_drop(r, made, false);
            if (status != 0) {
                return status;
            }
            made = NULL;
        }
    }
    return page(r);
}

static int measure(struct report *r, unsigned rounds)
{
    char path[4096];
    snprintf(path, sizeof path, "%s/lines.jsonl", r->out);
    r->raw = fopen(path, "we");
    if (r->raw == NULL) {
        return cli_error("bench report: cannot write '%s': %s", path, strerror(errno));
    }
    json_t *machine = report_machine(r->dir);
    Sluice__Empty empty = SLUICE__EMPTY__INIT;
    Sluice__ClusterStatusReply *cluster;
    int status = cli_request(r->cli, FRAME_CLUSTER_STATUS, &empty.base, NULL, &cluster);
    if (status == 0) {
        json_object_set_new(machine, "nodes", json_integer((json_int_t)cluster->n_nodes));
        json_object_set_new(machine, "rounds", json_integer((json_int_t)rounds));
        json_object_set_new(machine, "quick", json_boolean(r->quick));
        cli_free(cluster);
    }
    note(r, machine);
    for (unsigned round = 1; round <= rounds && status == 0; round++) {
        status = run_round(r, round, rounds);
    }
    bool bad = fclose(r->raw) != 0;
    return status != 0 ? status : bad ? cli_error("bench report: cannot write '%s'", path) : 0;
}

/* The lines of an earlier report. */
static int load(struct report *r, const char *path)
{
    FILE *f = fopen(path, "re");
    if (f == NULL) {
        return cli_error("bench report: cannot read '%s': %s", path, strerror(errno));
    }
    char *text = NULL;
    size_t size = 0, n = 0;
    int status = 0;
    while (status == 0 && getline(&text, &size, f) > 0) {
        n++;
        json_t *line = json_loads(text, 0, NULL);
        if (!json_is_object(line)) {
            json_decref(line);
            status = cli_error("bench report: line %zu of '%s' is no JSON object", n, path);
        } else {
            json_array_append_new(r->lines, line);
        }
    }
    free(text);
    fclose(f);
    return status;
}

static int report(struct cli *c)
{
    struct report r = {.cli = c, .out = cli_value(c, "out"), .dir = cli_value(c, "dir"), .only = cli_value(c, "only"), .quick = cli_flag(c, "quick")};
    uint64_t rounds;
    if (!cli_number(c, "rounds", r.quick ? 1 : 5, 1, 99, &rounds)) {
        return CLI_USAGE;
    }
    if (r.out == NULL) {
        return cli_usage(c, "--out: a folder is needed");
    }
    if (mkdir(r.out, 0777) != 0 && errno != EEXIST) {
        return cli_error("bench report: cannot make '%s': %s", r.out, strerror(errno));
    }
    r.dir = r.dir != NULL ? r.dir : r.out;
    r.lines = json_array();
    int status;
    if (cli_value(c, "from") != NULL) {
        status = load(&r, cli_value(c, "from"));
        status = status == 0 ? page(&r) : status;
    } else {
        status = cli_open(c) ? measure(&r, (unsigned)rounds) : CLI_FAILED;
    }
    if (status == 0) {
        printf("%s/report.html\n", r.out);
    }
    json_decref(r.lines);
    return status != 0 ? status : r.failed > 0 ? cli_error("bench report: %u runs had errors", r.failed) : CLI_DONE;
}

const struct cli_command cli_bench_report = {
    "bench", "report", "", 0, 0,
    "Run a set of benchmarks and write a page: tables and plots (report.html), and the line of every run (lines.jsonl). Takes some minutes; makes and deletes "
    "streams report-... of its own, without limits.",
    {{"out", "DIR", "where the page goes; made if it is not there"}, {"quick", NULL, "shorter runs, one round"},
     {"rounds", "N", "figures are medians over so many rounds (default 5)"}, {"only", "ID,ID", "only these runs, named as in lines.jsonl (disk, put-1k, latency ...)"},
     {"dir", "DIR", "where the bare machine's files are made: the file system of the nodes' data (default: the folder of --out)"},
     {"from", "FILE", "measure nothing, make the page from the lines of an earlier report"}},
    report};
