/* sim_main.c: sluice-sim: plays seeds, a few in each of its child processes, and prints those that fail.
 *
 * A child plays one seed after the other in the same memory, because fresh pages cost more than they should (memory.c). A seed that fails there, or ends the child,
 * is played again in a child of its own, and that verdict is the one that counts: so each failure that is reported can be repeated with --seed.
 * Its options: --help. */
#include "tests/sim/world.h"

#include "proto/base.h"
#include "tests/sim/memory.h"

#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { BATCH_MAX = 32, JOBS_MAX = 64, RUNNING_MAX = JOBS_MAX * (BATCH_MAX + 1), SEED_SECONDS_MAX = 240 };

struct job {
    pid_t pid;
    int fd;
    uint64_t seed, last;
    uint64_t after; /* not 0: this seed failed in a child that had begun with that one */
};

struct totals { uint64_t seeds, failed, simulated_ns, events, acked, unknown, faults, crashes, reshards, pushed; };

static double seconds_now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void play(const struct world_options *o, bool repeat, struct world_result *r)
{
#ifdef SIM_MEMORY
    memory_begin_seed();
#endif
    run_seed(o, r);
    if (!repeat) {
        return;
    }
#ifdef SIM_MEMORY
    memory_begin_seed();
#endif
    struct world_result again;
    run_seed(o, &again);
    if (again.trace_hash != r->trace_hash && r->anomalies == 0) {
        r->anomalies = 1;
        snprintf(r->message, sizeof r->message, "not deterministic: trace %016llx, then %016llx", (unsigned long long)r->trace_hash,
                 (unsigned long long)again.trace_hash);
    }
}

static void start(struct job *job, const struct world_options *base, bool repeat)
{
    int fds[2];
    if (pipe(fds) != 0) {
        perror("pipe");
        exit(1);
    }
    fflush(NULL);
    job->pid = fork();
    if (job->pid == 0) {
        close(fds[0]);
        for (uint64_t seed = job->seed; seed <= job->last; seed++) {
            struct world_options o = *base;
            o.seed = seed;
            struct world_result r;
            alarm(SEED_SECONDS_MAX); /* one that never ends fails as well: the child is killed */
            play(&o, repeat, &r);
            if (write(fds[1], &r, sizeof r) != (ssize_t)sizeof r) { /* a pipe holds all the results of a batch */
                _exit(1);
            }
        }
        _exit(0);
    }
    close(fds[1]);
    job->fd = fds[0];
}

static void count(struct totals *t, const struct world_result *r)
{
    t->seeds++;
    t->simulated_ns += r->simulated_ns;
    t->events += r->events;
    t->acked += r->acked;
    t->unknown += r->unknown;
    t->faults += r->faults;
    t->crashes += r->crashes;
    t->reshards += r->reshards;
    t->pushed += r->pushed;
}

/* The verdict on a seed whose child had played nothing before it. r == NULL: the child ended first. */
static void judge_alone(const struct job *job, const struct world_result *r, int status, struct totals *t, bool quiet)
{
    static const struct world_result nothing;
    count(t, r != NULL ? r : &nothing);
    if (r != NULL && r->anomalies == 0 && job->after == 0) {
        return;
    }
    t->failed++;
    if (quiet) {
        return;
    }
    printf("seed %llu: FAIL: ", (unsigned long long)job->seed);
    if (r == NULL) {
        printf("the process ended with %s %d before the verdict\n", WIFSIGNALED(status) ? "signal" : "status",
               WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status));
    } else if (r->anomalies > 0) {
        printf("%llu anomalies: %s\n", (unsigned long long)r->anomalies, r->message);
    } else {
        printf("only in a process that had played the seeds from %llu on: something reads memory that it never wrote\n", (unsigned long long)job->after);
    }
}

/* Takes the results of a child that has ended; starts over what it left. */
static void finish(struct job job, int status, struct totals *t, bool quiet, struct job *left, unsigned *n_left)
{
    uint64_t first = job.seed;
    for (; job.seed <= job.last; job.seed++) {
        struct world_result r;
        bool ended = read(job.fd, &r, sizeof r) != (ssize_t)sizeof r;
        bool fails = ended || r.anomalies > 0;
        if (job.seed == first) {
            judge_alone(&job, ended ? NULL : &r, status, t, quiet);
        } else if (fails) {
            left[(*n_left)++] = (struct job){.seed = job.seed, .last = job.seed, .after = first};
        } else {
            count(t, &r);
        }
        if (ended && job.seed < job.last) {
            left[(*n_left)++] = (struct job){.seed = job.seed + 1, .last = job.last};
            break;
        }
    }
    close(job.fd);
    fflush(stdout);
}

static const char usage[] =
    "sluice-sim [--seeds A-B] [--jobs N] [--nodes N] [--shards N] [--seconds N] [--operations N] [--faults MASK] [--repeat]\n"
    "           [--profile NAME] [--disable-raft MASK] [--disable-journal MASK] [--disable-server MASK] [--expect-harm] [--verbose]\n"
    "Plays whole clusters in simulated time, one per seed (1-20 unless told), and prints the seeds that break a promise: each can be repeated with --seed N.\n"
    "  --profile NAME   the circumstances, below; options behind it change them\n"
    "  --seconds N      of simulated time in which clients work; --operations N: how much they do\n"
    "  --faults MASK    kinds of faults from which each seed takes some; --fixed-faults MASK: all of them in every seed\n"
    "  --repeat         play each seed twice and compare what happened\n"
    "  --disable-...    without single rules (raft/README.md, storage/README.md, server/README.md)\n"
    "  --expect-harm    at least one seed must be caught: the proof that a rule is needed and that its absence is seen\n"
    "Exit status: 0 as it should be, 1 a seed failed, 2 a wrong argument.\n";

static unsigned mask_of(const char *text) { return (unsigned)strtoul(text, NULL, 0); }

int main(int argc, char **argv)
{
    struct world_options o = {.faults = FAULT_ALL, .profile = profile_find("")};
    uint64_t first = 1, last = 20;
    unsigned jobs = 2;
    bool repeat = false, expect_harm = false;
    enum { HELP = 1, SEEDS, JOBS, NODES, SHARDS, SECONDS, OPERATIONS, FAULTS, REPEAT, RAFT, JOURNAL, SERVER, HARM, VERBOSE, FIXED, PROFILE };
    static const struct option options[] = {
        {"help", no_argument, NULL, HELP},
        {"seeds", required_argument, NULL, SEEDS},     {"seed", required_argument, NULL, SEEDS},
        {"jobs", required_argument, NULL, JOBS},       {"nodes", required_argument, NULL, NODES},
        {"shards", required_argument, NULL, SHARDS},   {"seconds", required_argument, NULL, SECONDS},
        {"operations", required_argument, NULL, OPERATIONS}, {"faults", required_argument, NULL, FAULTS},
        {"repeat", no_argument, NULL, REPEAT},         {"disable-raft", required_argument, NULL, RAFT},
        {"disable-journal", required_argument, NULL, JOURNAL}, {"disable-server", required_argument, NULL, SERVER},
        {"expect-harm", no_argument, NULL, HARM},      {"verbose", no_argument, NULL, VERBOSE},
        {"fixed-faults", required_argument, NULL, FIXED}, {"profile", required_argument, NULL, PROFILE},
        {NULL, 0, NULL, 0},
    };
    for (int c; (c = getopt_long(argc, argv, "", options, NULL)) != -1;) {
        switch (c) {
        case HELP:
            printf("%s", usage);
            profiles_print();
            return 0;
        case SEEDS: {
            char *end;
            first = last = strtoull(optarg, &end, 10);
            if (*end == '-') {
                last = strtoull(end + 1, NULL, 10);
            }
            break;
        }
        case JOBS: jobs = mask_of(optarg); break;
        case NODES: o.nodes = mask_of(optarg); break;
        case SHARDS: o.shards = mask_of(optarg); break;
        case SECONDS: o.seconds = mask_of(optarg); break;
        case OPERATIONS: o.operations = mask_of(optarg); break;
        case FAULTS: o.faults = mask_of(optarg); break;
        case FIXED: o.faults = mask_of(optarg); o.fixed_faults = true; break;
        case REPEAT: repeat = true; break;
        case RAFT: o.disable_raft = mask_of(optarg); break;
        case JOURNAL: o.disable_journal = mask_of(optarg); break;
        case SERVER: o.disable_server = mask_of(optarg); break;
        case HARM: expect_harm = true; break;
        case VERBOSE: o.verbose = true; break;
        case PROFILE:
            o.profile = profile_find(optarg);
            if (o.profile == NULL) {
                fprintf(stderr, "sluice-sim: there is no profile '%s'\n", optarg);
                profiles_print();
                return 2;
            }
            o.faults = o.profile->faults;
            o.fixed_faults = o.profile->fixed;
            o.nodes = o.profile->nodes;
            o.shards = o.profile->shards;
            o.seconds = o.profile->seconds;
            o.operations = o.profile->operations;
            break;
        default: return 2;
        }
    }
    if (jobs < 1 || jobs > JOBS_MAX || last < first) {
        fprintf(stderr, "sluice-sim: --jobs 1..64, --seeds A-B with A <= B\n");
        return 2;
    }
    static struct job running[RUNNING_MAX];
    unsigned n = 0;
    struct totals t = {0};
    double begun = seconds_now();
    uint64_t next = first, batch = (last - first) / (jobs * 4) + 1;
    batch = min_u64(batch, BATCH_MAX);
    while (next <= last || n > 0) {
        while (n < jobs && next <= last && !(expect_harm && t.failed > 0)) {
            running[n] = (struct job){.seed = next, .last = min_u64(last, next + batch - 1)};
            next = running[n].last + 1;
            start(&running[n++], &o, repeat);
        }
        if (n == 0) {
            break;
        }
        int status;
        pid_t pid = waitpid(-1, &status, 0);
        for (unsigned i = 0; i < n; i++) {
            if (running[i].pid == pid) {
                struct job ended = running[i];
                running[i] = running[--n];
                unsigned before = n;
                finish(ended, status, &t, expect_harm, running, &n);
                for (unsigned k = before; k < n; k++) {
                    start(&running[k], &o, repeat);
                }
                break;
            }
        }
    }
    double took = seconds_now() - begun;
    struct rusage used;
    getrusage(RUSAGE_CHILDREN, &used);
    double cpu = (double)(used.ru_utime.tv_sec + used.ru_stime.tv_sec) + (double)(used.ru_utime.tv_usec + used.ru_stime.tv_usec) / 1e6;
    printf("seeds %llu-%llu: %llu played, %llu failed; %.1f simulated hours in %.1f s (%.1f s of CPU): %.0f times real time per core; %llu events, "
           "%llu acknowledged, %llu unknown, %llu faults, %llu crashes, %llu shards split or merged, %llu records pushed\n",
           (unsigned long long)first, (unsigned long long)last, (unsigned long long)t.seeds, (unsigned long long)t.failed,
           (double)t.simulated_ns / 3.6e12, took, cpu, (double)t.simulated_ns / 1e9 / cpu, (unsigned long long)t.events,
           (unsigned long long)t.acked, (unsigned long long)t.unknown, (unsigned long long)t.faults, (unsigned long long)t.crashes,
           (unsigned long long)t.reshards, (unsigned long long)t.pushed);
    if (expect_harm) {
        printf("%s\n", t.failed > 0 ? "harm was caught" : "no harm was caught");
        return t.failed > 0 ? 0 : 1;
    }
    return t.failed > 0;
}
