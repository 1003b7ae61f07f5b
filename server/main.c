/* main.c: sluiced: settings, an event loop, a node. Exit codes: 0 stopped as asked, 1 failed, 2 usage, 10.. enum env_exit (storage/env.h). */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "proto/base.h"
#include "proto/error.h"
#include "server/node.h"
#include "server/settings.h"
#include "storage/env_uv.h"

extern char **environ;

struct daemon {
    struct env *env;
    struct node *node;
    struct env_signal term, interrupt, hangup;
    struct env_timer timer;
    bool stopping;
    char waiting_for[256];
};

static void print_setting(void *arg, const char *name, const char *type, const char *def, const char *text)
{
    (void)arg;
    char flag[64];
    snprintf(flag, sizeof flag, "--%s %s", name, type);
    printf("  %-34s %s (default: %s)\n", flag, text, def[0] != 0 ? def : "none");
}

static void help(void)
{
    printf("Usage: sluiced [--config FILE] [--SETTING VALUE ...]\n\n"
           "A node of Sluice: replicated, durable record streams. Without arguments: one node, data in ./sluice-data, loopback only.\n"
           "Every setting is a flag, an environment variable (SLUICE_NODE_ID) or a line of FILE (node-id = 1); the first of these counts.\n\n"
           "  --config FILE                      read settings from FILE\n"
           "  --help, --version\n");
    settings_each(print_setting, NULL);
    printf("\nExit status: 0 stopped as asked; 1 failed; 2 wrong settings; 10 disk error; 11 foreign data folder; 12 damage; 13 folder in use;\n"
           "14 newer format; 15 out of memory.\n");
}

static void stopped(void *arg)
{
    struct daemon *d = arg;
    env_stop(d->env);
}

static void on_signal(struct env_signal *s)
{
    struct daemon *d = s->signum == SIGTERM ? container_of(s, struct daemon, term) : container_of(s, struct daemon, interrupt);
    if (!d->stopping) {
        d->stopping = true;
        env_timer_close(&d->timer);
        node_stop(d->node, stopped, d);
    }
}

static void on_hangup(struct env_signal *s) { node_reload_tls(container_of(s, struct daemon, hangup)->node); }

/* Tells on stderr when the node is ready, and while it is not, what it waits for. */
static void check_ready(struct env_timer *t)
{
    struct daemon *d = container_of(t, struct daemon, timer);
    char why[256];
    if (node_ready(d->node, why)) {
        fprintf(stderr, "sluiced: node %u is ready\n", node_id(d->node));
        return;
    }
    if (strcmp(why, d->waiting_for) != 0) {
        snprintf(d->waiting_for, sizeof d->waiting_for, "%s", why);
        fprintf(stderr, "sluiced: not ready: %s\n", why);
    }
    env_timer_start_ms(&d->timer, 20);
}

/* The exit status for what node_start() answered: a full or failing disk and damage have their own, also when they are met before a lane runs. */
static int start_status(int rc)
{
    switch (rc) {
    case SLUICE_E_INVALID: return 2;
    case ENV_EXIT_DAMAGE: return rc;
    case -EIO:
    case -ENOSPC:
    case -EDQUOT:
    case -EROFS: return ENV_EXIT_DISK;
    default: return 1;
    }
}

/* Descriptors that this process may have: as many as the system lets it take without asking. 0: not known. */
static uint64_t raise_files_max(void)
{
    struct rlimit files;
    if (getrlimit(RLIMIT_NOFILE, &files) != 0) {
        return 0;
    }
    rlim_t was = files.rlim_cur;
    files.rlim_cur = files.rlim_max;
    return setrlimit(RLIMIT_NOFILE, &files) == 0 ? files.rlim_cur : was;
}

int main(int argc, char **argv)
{
    struct settings settings;
    bool wants_help;
    char err[256];
    if (settings_load(&settings, argc, argv, environ, &wants_help, err) != 0) {
        fprintf(stderr, "sluiced: %s\n", err);
        return 2;
    }
    if (wants_help) {
        for (int i = 1; i < argc; i++) {
            if (strcmp(argv[i], "--version") == 0) {
                printf("sluiced %s\n", SLUICE_VERSION);
                return 0;
            }
        }
        help();
        return 0;
    }
    long cores = sysconf(_SC_NPROCESSORS_ONLN);
    settings.cores = cores < 1 ? 1 : cores > 64 ? 64 : (uint32_t)cores;
    settings.files_max = raise_files_max();
    signal(SIGPIPE, SIG_IGN);
    struct daemon d = { 0 };
    int rc = env_uv_open(&d.env);
    if (rc != 0) {
        fprintf(stderr, "sluiced: cannot start the event loop: %s\n", strerror(-rc));
        return 1;
    }
    env_uv_set_spin(d.env, (unsigned)settings.spin_us);
    rc = node_start(d.env, &settings, &d.node, err);
    if (rc != 0) {
        fprintf(stderr, "sluiced: %s\n", err);
        env_uv_close(d.env);
        return start_status(rc);
    }
    if (env_signal_start(d.env, &d.term, SIGTERM, on_signal) != 0 || env_signal_start(d.env, &d.interrupt, SIGINT, on_signal) != 0 ||
        (settings.kinesis_tls_cert[0] != 0 && env_signal_start(d.env, &d.hangup, SIGHUP, on_hangup) != 0) ||
        env_timer_init(d.env, &d.timer, check_ready) != 0) {
        fprintf(stderr, "sluiced: cannot watch signals\n");
        return 1;
    }
    env_timer_start_ms(&d.timer, 1);
    env_uv_run(d.env);
    env_uv_close(d.env);
    return 0;
}
