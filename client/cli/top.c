/* sluice top: the cluster, its nodes and the rates of its streams, again and again.
 *
 * On a terminal it draws over the last picture and takes keys; else it prints one picture below the other, or a JSON line each with -o json. */
#include "client/cli/top.h"

#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <unistd.h>

enum { KEY_CTRL_C = 3, SLICE_MS = 50 };

struct top {
    struct cli *cli;
    struct cli_nodes nodes;
    struct top_look before, now;
    struct top_view view;
    bool screen, quit;
    struct termios saved;
    struct env_signal term;
};

static const char *const sorts[] = {[TOP_BY_NAME] = "name", [TOP_BY_IN] = "in", [TOP_BY_OUT] = "out", [TOP_BY_BEHIND] = "behind"};

/* ---- the terminal ---------------------------------------------------------------------------------------------------------- */

static void terminated(struct env_signal *s)
{
    struct top *t = container_of(s, struct top, term);
    t->quit = true;
}

/* Keys come one by one and unseen; Ctrl-C comes as a key, so that the terminal is always put back. */
static void screen_open(struct top *t)
{
    struct termios raw;
    t->screen = isatty(STDOUT_FILENO) && isatty(STDIN_FILENO) && !t->cli->json && tcgetattr(STDIN_FILENO, &t->saved) == 0;
    if (!t->screen) {
        return;
    }
    raw = t->saved;
    raw.c_lflag &= ~(tcflag_t)(ICANON | ECHO | ISIG);
    tcsetattr(STDIN_FILENO, TCSANOW, &raw);
    env_signal_start(t->cli->env, &t->term, SIGTERM, terminated);
    fputs("\033[?1049h\033[?25l", stdout); /* another page, no cursor */
}

static void screen_close(struct top *t)
{
    if (t->screen) {
        fputs("\033[?25h\033[?1049l", stdout);
        fflush(stdout);
        tcsetattr(STDIN_FILENO, TCSANOW, &t->saved);
        env_signal_stop(t->cli->env, &t->term);
    }
}

/* As much of the text as there is room for. */
static void draw(const char *text)
{
    struct winsize size = {.ws_row = 24, .ws_col = 80};
    ioctl(STDOUT_FILENO, TIOCGWINSZ, &size);
    int rows = size.ws_row > 1 ? size.ws_row : 24, columns = size.ws_col > 1 ? size.ws_col : 80;
    fputs("\033[H", stdout);
    for (int row = 0; row < rows - 1 && *text != '\0'; row++) {
        size_t n = strcspn(text, "\n");
        printf("%.*s\033[K\n", (int)min_u64(n, (uint64_t)columns), text);
        text += n + (text[n] == '\n');
    }
    fputs("\033[J", stdout);
    fflush(stdout);
}

static void show(struct top *t)
{
    if (t->cli->json) {
        cli_print_json(top_json(&t->before, &t->now));
    } else if (!t->screen) {
        top_print(stdout, &t->before, &t->now, t->view);
        putchar('\n');
    } else {
        char *text;
        size_t n;
        FILE *f = open_memstream(&text, &n);
        sluice_assert(f != NULL);
        fprintf(f, "q quit, s shards %s, sorted by %s (n name, i in, o out, b behind)\n", t->view.shards ? "off" : "on", sorts[t->view.sort]);
        top_print(f, &t->before, &t->now, t->view);
        fclose(f);
        draw(text);
        free(text);
    }
    fflush(stdout);
}

/* ---- keys ------------------------------------------------------------------------------------------------------------------ */

static void key(struct top *t, char k)
{
    switch (k) {
    case 'q': case KEY_CTRL_C: t->quit = true; return;
    case 's': t->view.shards = !t->view.shards; break;
    case 'n': t->view.sort = TOP_BY_NAME; break;
    case 'i': t->view.sort = TOP_BY_IN; break;
    case 'o': t->view.sort = TOP_BY_OUT; break;
    case 'b': t->view.sort = TOP_BY_BEHIND; break;
    default: return;
    }
    show(t);
}

static void keys(struct top *t)
{
    struct pollfd p = {.fd = STDIN_FILENO, .events = POLLIN};
    while (!t->quit && poll(&p, 1, 0) > 0) {
        char k;
        if (read(STDIN_FILENO, &k, 1) != 1) {
            t->quit = true; /* the terminal is gone */
            return;
        }
        key(t, k);
    }
}

static void rest(struct top *t, uint64_t ms)
{
    uint64_t end = env_clock_ns(t->cli->env) + ms * 1000000u;
    do {
        uint64_t now = env_clock_ns(t->cli->env);
        cli_sleep(t->cli, (unsigned)min_u64(t->screen ? SLICE_MS : ms, end > now ? (end - now) / 1000000u + 1 : 1));
        if (t->screen) {
            keys(t);
        }
    } while (!t->quit && env_clock_ns(t->cli->env) < end);
}

static int top(struct cli *c)
{
    struct top t = {.cli = c, .view = {.sort = TOP_BY_IN, .shards = !cli_flag(c, "no-shards")}};
    uint64_t interval, count;
    if (!cli_number(c, "interval", 1, 1, 3600, &interval) || !cli_number(c, "count", 0, 0, UINT64_MAX, &count)) {
        return CLI_USAGE;
    }
    const char *sort = cli_value(c, "sort");
    for (size_t i = 0; sort != NULL && i <= ARRAY_LEN(sorts); i++) {
        if (i == ARRAY_LEN(sorts)) {
            return cli_usage(c, "--sort: name, in, out or behind, not '%s'", sort);
        }
        if (strcmp(sort, sorts[i]) == 0) {
            t.view.sort = (enum top_sort)i;
            break;
        }
    }
    if (!cli_open(c)) {
        return CLI_FAILED;
    }
    int status = 0;
    screen_open(&t);
    for (uint64_t i = 0; status == 0 && !t.quit && (count == 0 || i < count) && !ferror(stdout); i++) {
        if (i > 0) {
            rest(&t, interval * 1000);
            if (t.quit) {
                break;
            }
        }
        top_look_free(&t.before);
        t.before = t.now;
        status = top_look(c, &t.nodes, &t.now);
        if (status == 0) {
            show(&t);
        }
    }
    screen_close(&t);
    top_look_free(&t.before);
    top_look_free(&t.now);
    cli_nodes_free(&t.nodes);
    return status;
}

const struct cli_command cli_top_command = {
    "top", NULL, "", 0, 0,
    "Show the cluster live: its nodes, and the rates of its streams and shards. On a terminal q ends it, s shows or hides the shards, n, i, o and b sort. "
    "IN/S and OUT/S are records; BEHIND is how many log entries a shard's slowest replica lacks.",
    {{"interval", "SECONDS", "between two looks (default 1)"}, {"count", "N", "end after N looks (default 0: never)"},
     {"sort", "BY", "streams by name, in, out or behind (default in)"}, {"no-shards", NULL, "streams only"}},
    top};
