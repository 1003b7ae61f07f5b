/* sluice: the command line. Arguments are read here, each noun has a file of its own. */
#include "client/cli/cli.h"

#include <errno.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>

const struct cli_command *const cli_commands[] = {
    &cli_stream_create, &cli_stream_update, &cli_stream_list, &cli_stream_describe, &cli_stream_delete, &cli_stream_tag, &cli_stream_policy,
    &cli_put_command, &cli_get_command, &cli_tail_command,
    &cli_shard_list, &cli_shard_split, &cli_shard_merge, &cli_shard_transfer,
    &cli_consumer_register, &cli_consumer_list, &cli_consumer_remove,
    &cli_cluster_status,
    &cli_node_list, &cli_node_add, &cli_node_drain, &cli_node_undrain, &cli_node_remove,
    &cli_top_command,
    &cli_bench_put, &cli_bench_read, &cli_bench_e2e, &cli_bench_push, &cli_bench_latency, &cli_bench_scale, &cli_bench_disk, &cli_bench_report,
    NULL,
};

/* ---- help ------------------------------------------------------------------------------------------------------------------ */

static void print_title(const struct cli_command *k, FILE *to)
{
    fprintf(to, "sluice %s%s%s%s%s", k->noun, k->verb != NULL ? " " : "", k->verb != NULL ? k->verb : "", k->words[0] != '\0' ? " " : "",
            k->words);
}

static void print_command(const struct cli_command *k, FILE *to)
{
    fprintf(to, "Usage: ");
    print_title(k, to);
    fprintf(to, "%s\n\n%s\n", k->options[0].name != NULL ? " [options]" : "", k->summary);
    for (const struct cli_option *o = k->options; o->name != NULL; o++) {
        char name[64];
        snprintf(name, sizeof name, "--%s%s%s", o->name, o->arg != NULL ? " " : "", o->arg != NULL ? o->arg : "");
        fprintf(to, "%s  %-26s %s\n", o == k->options ? "\n" : "", name, o->help);
    }
}

static void print_help(FILE *to)
{
    fputs("Usage: sluice [--endpoint HOST:PORT,...] [-o json|text] COMMAND ...\n\n"
          "  --endpoint LIST   nodes of the cluster (default: $SLUICE_ENDPOINTS, else 127.0.0.1:4570)\n"
          "  -o FORMAT         text (default) or json\n"
          "  --help, --version\n\nCommands (sluice help COMMAND tells more):\n", to);
    for (const struct cli_command *const *k = cli_commands; *k != NULL; k++) {
        char title[64];
        snprintf(title, sizeof title, "%s%s%s", (*k)->noun, (*k)->verb != NULL ? " " : "", (*k)->verb != NULL ? (*k)->verb : "");
        int first = (int)strcspn((*k)->summary, ".:;(");
        fprintf(to, "  %-18s %.*s\n", title, first, (*k)->summary);
    }
    fputs("\nExit status: 0 done, 1 failed, 2 usage, 3 outcome unknown, 4 the controller has no leader (cluster status, node list), 130 interrupted.\n", to);
}

/* ---- reading arguments ------------------------------------------------------------------------------------------------------ */

int cli_usage(const struct cli *c, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    fputs("sluice: ", stderr);
    vfprintf(stderr, format, args);
    va_end(args);
    if (c->command != NULL) {
        fprintf(stderr, "\nTry 'sluice help %s%s%s'.\n", c->command->noun, c->command->verb != NULL ? " " : "",
                c->command->verb != NULL ? c->command->verb : "");
    } else {
        fputs("\nTry 'sluice --help'.\n", stderr);
    }
    return CLI_USAGE;
}

/* The command that the first words name; *used is how many. */
static const struct cli_command *command_find(char **words, int n, int *used)
{
    for (const struct cli_command *const *k = cli_commands; *k != NULL; k++) {
        if (n >= 1 && strcmp(words[0], (*k)->noun) == 0) {
            if ((*k)->verb == NULL) {
                *used = 1;
                return *k;
            }
            if (n >= 2 && strcmp(words[1], (*k)->verb) == 0) {
                *used = 2;
                return *k;
            }
        }
    }
    return NULL;
}

static int option_index(const struct cli_command *k, const char *name, size_t len)
{
    for (int i = 0; k->options[i].name != NULL; i++) {
        if (strlen(k->options[i].name) == len && strncmp(k->options[i].name, name, len) == 0) {
            return i;
        }
    }
    return -1;
}

const char *cli_value(const struct cli *c, const char *name)
{
    int i = option_index(c->command, name, strlen(name));
    sluice_assert(i >= 0);
    return c->values[i];
}

bool cli_has(const struct cli *c, const char *name)
{
    return option_index(c->command, name, strlen(name)) >= 0;
}

bool cli_flag(const struct cli *c, const char *name)
{
    return cli_value(c, name) != NULL;
}

bool cli_parse_number(const char *text, uint64_t *out)
{
    char *end;
    errno = 0;
    unsigned long long v = strtoull(text, &end, 10);
    if (text[0] < '0' || text[0] > '9' || *end != '\0' || errno != 0) {
        return false;
    }
    *out = v;
    return true;
}

static bool number(const struct cli *c, const char *name, const char *digits, uint64_t factor, uint64_t min, uint64_t max, uint64_t *out)
{
    if (!cli_parse_number(digits, out) || *out > UINT64_MAX / factor || *out * factor < min || *out * factor > max) {
        cli_usage(c, "--%s: a number from %llu to %llu is needed, not '%s'", name, (unsigned long long)min, (unsigned long long)max,
                  cli_value(c, name));
        return false;
    }
    *out *= factor;
    return true;
}

bool cli_number(const struct cli *c, const char *name, uint64_t otherwise, uint64_t min, uint64_t max, uint64_t *out)
{
    const char *text = cli_value(c, name);
    *out = otherwise;
    return text == NULL || number(c, name, text, 1, min, max, out);
}

bool cli_size(const struct cli *c, const char *name, uint64_t otherwise, uint64_t min, uint64_t max, uint64_t *out)
{
    const char *text = cli_value(c, name);
    *out = otherwise;
    if (text == NULL) {
        return true;
    }
    char digits[32];
    size_t n = strlen(text);
    uint64_t factor = 1;
    if (n > 1 && n < sizeof digits) {
        char last = text[n - 1];
        factor = last == 'k' || last == 'K' ? 1024 : last == 'm' || last == 'M' ? 1 << 20 : last == 'g' || last == 'G' ? 1 << 30 : 1;
    }
    snprintf(digits, sizeof digits, "%.*s", (int)(factor > 1 ? n - 1 : n), text);
    return number(c, name, digits, factor, min, max, out);
}

/* An empty list is a variable that was not set rather than the wish for the default. */
static int take_endpoints(struct cli *c, const char *list)
{
    c->endpoints = list;
    return list[0] != '\0' ? 0 : cli_usage(c, "--endpoint: host:port,host:port,... is needed, not ''");
}

/* One argument; *i moves on by what was used. 0 or the exit status. */
static int take_global(struct cli *c, char **argv, int argc, int *i, bool *taken)
{
    const char *a = argv[*i];
    const char *value = NULL;
    *taken = true;
    if (strncmp(a, "--endpoint=", 11) == 0) {
        return take_endpoints(c, a + 11);
    }
    bool endpoint = strcmp(a, "--endpoint") == 0, output = strcmp(a, "-o") == 0 || strcmp(a, "--output") == 0;
    if (endpoint || output) {
        if (*i + 1 >= argc) {
            return cli_usage(c, "%s needs a value", a);
        }
        value = argv[++*i];
    } else if (strncmp(a, "-o", 2) == 0 && a[2] != '\0') {
        output = true;
        value = a + 2;
    } else if (strncmp(a, "--output=", 9) == 0) {
        output = true;
        value = a + 9;
    }
    if (endpoint) {
        return take_endpoints(c, value);
    } else if (output) {
        if (strcmp(value, "json") != 0 && strcmp(value, "text") != 0) {
            return cli_usage(c, "-o: json or text, not '%s'", value);
        }
        c->json = strcmp(value, "json") == 0;
    } else {
        *taken = false;
    }
    return 0;
}

static int take_option(struct cli *c, char **argv, int argc, int *i)
{
    const char *name = argv[*i] + 2;
    size_t len = strcspn(name, "=");
    int at = option_index(c->command, name, len);
    if (at < 0) {
        return cli_usage(c, "unknown option '--%.*s'", (int)len, name);
    }
    bool flag = c->command->options[at].arg == NULL;
    if (flag && name[len] == '=') {
        return cli_usage(c, "--%.*s takes no value", (int)len, name);
    }
    if (!flag && name[len] != '=' && *i + 1 >= argc) {
        return cli_usage(c, "--%s needs a value", name);
    }
    c->values[at] = flag ? "" : name[len] == '=' ? name + len + 1 : argv[++*i];
    return 0;
}

static int help(char **words, int n)
{
    int used;
    if (n == 0) {
        print_help(stdout);
        return CLI_DONE;
    }
    const struct cli_command *k = command_find(words, n, &used);
    if (k != NULL) {
        print_command(k, stdout);
        return CLI_DONE;
    }
    bool any = false;
    for (const struct cli_command *const *p = cli_commands; *p != NULL; p++) {
        if (strcmp((*p)->noun, words[0]) == 0) {
            print_title(*p, stdout);
            putchar('\n');
            any = true;
        }
    }
    return any ? CLI_DONE : cli_usage(&(struct cli){0}, "no command '%s'", words[0]);
}

/* A variable that is there but empty is taken for absent. */
static const char *variable(const char *name, const char *or_name)
{
    const char *text = getenv(name);
    return text != NULL && text[0] != '\0' ? text : or_name != NULL ? variable(or_name, NULL) : NULL;
}

int main(int argc, char **argv)
{
    struct cli c = {.endpoints = getenv("SLUICE_ENDPOINTS"), .access_key = variable("AWS_ACCESS_KEY_ID", NULL), .secret_key = variable("AWS_SECRET_ACCESS_KEY", NULL),
                    .region = variable("AWS_REGION", "AWS_DEFAULT_REGION"), .authorities = variable("AWS_CA_BUNDLE", NULL)};
    signal(SIGPIPE, SIG_IGN); /* a broken pipe is an error of the write that meets it */
    char *words[CLI_WORDS_MAX + 3];
    int n_words = 0;
    bool wants_help = false, only_words = false;
    /* The command's words come first among the non-options; its options may stand anywhere behind them, global ones anywhere. */
    for (int i = 1; i < argc; i++) {
        bool taken = false;
        int status = only_words ? 0 : take_global(&c, argv, argc, &i, &taken);
        if (status != 0) {
            return status;
        }
        if (taken) {
            continue;
        }
        if (!only_words && strcmp(argv[i], "--") == 0) {
            only_words = true;
        } else if (!only_words && (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0)) {
            wants_help = true;
        } else if (!only_words && strcmp(argv[i], "--version") == 0) {
            puts("sluice " SLUICE_VERSION);
            return CLI_DONE;
        } else if (!only_words && argv[i][0] == '-' && argv[i][1] != '\0') {
            if (c.command == NULL) {
                return cli_usage(&c, "unknown option '%s'", argv[i]);
            }
            if (strncmp(argv[i], "--", 2) != 0) {
                return cli_usage(&c, "unknown option '%s'", argv[i]);
            }
            status = take_option(&c, argv, argc, &i);
            if (status != 0) {
                return status;
            }
        } else if (n_words == (int)ARRAY_LEN(words)) {
            return cli_usage(&c, "too many arguments: '%s'", argv[i]);
        } else {
            words[n_words++] = argv[i];
            int used;
            if (c.command == NULL && strcmp(words[0], "help") != 0) {
                c.command = command_find(words, n_words, &used);
            }
        }
    }
    if (n_words > 0 && strcmp(words[0], "help") == 0) {
        return help(words + 1, n_words - 1);
    }
    if (wants_help || n_words == 0) {
        if (!wants_help) {
            print_help(stderr);
            return CLI_USAGE;
        }
        return help(words, n_words);
    }
    if (c.command == NULL) {
        return cli_usage(&c, "no command '%s%s%s'", words[0], n_words > 1 ? " " : "", n_words > 1 ? words[1] : "");
    }
    int skip = c.command->verb != NULL ? 2 : 1;
    for (int i = skip; i < n_words; i++) {
        if (c.n_words == c.command->words_max) {
            return cli_usage(&c, "too many arguments: '%s'", words[i]);
        }
        c.words[c.n_words++] = words[i];
    }
    if (c.n_words < c.command->words_min) {
        return cli_usage(&c, "%s is needed", c.command->words);
    }
    int status = c.command->run(&c);
    cli_close(&c);
    if (fflush(stdout) != 0 && status == CLI_DONE) {
        return cli_error("cannot write the output: %s", strerror(errno));
    }
    return status;
}
