/* sim_main.c: sluice-sim: plays seeds, each in a process of its own, and prints those that fail.
 *
 * sluice-sim --seeds A-B [--jobs N] [--nodes N] [--shards N] [--seconds N] [--operations N] [--faults MASK] [--repeat]
 *            [--profile NAME] [--disable-raft MASK] [--disable-journal MASK] [--disable-server MASK] [--expect-harm] [--verbose]
 * --profile sets the circumstances (profiles.c); options behind it change them. --repeat plays each seed twice and compares the trace hashes. --expect-harm turns the verdict round: at least one seed of the range must be caught
 * (the proof that a rule is needed and that the checker sees its absence). */
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

struct job { pid_t pid; int fd; uint64_t seed; };

struct totals { uint64_t seeds, failed, simulated_ns, events, acked, unknown, faults, crashes; };

static double seconds_now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void start(struct job *job, const struct world_options *base, uint64_t seed, bool repeat)
{
    int fds[2];
    if (pipe(fds) != 0) {
        perror("pipe");
        exit(1);
    }
    fflush(NULL);
    job->seed = seed;
    job->pid = fork();
    if (job->pid == 0) {
        close(fds[0]);
#ifdef SIM_MEMORY
        memory_own_pages();
#endif
        struct world_options o = *base;
        o.seed = seed;
        struct world_result r;
        run_seed(&o, &r);
        if (repeat) {
            struct world_result again;
            run_seed(&o, &again);
            if (again.trace_hash != r.trace_hash && r.anomalies == 0) {
                r.anomalies = 1;
                snprintf(r.message, sizeof r.message, "not deterministic: trace %016llx, then %016llx", (unsigned long long)r.trace_hash,
                         (unsigned long long)again.trace_hash);
            }
        }
        ssize_t n = write(fds[1], &r, sizeof r);
        _exit(n == (ssize_t)sizeof r ? 0 : 1);
    }
    close(fds[1]);
    job->fd = fds[0];
}

static void finish(struct job *job, int status, struct totals *t, bool quiet)
{
    struct world_result r;
    memset(&r, 0, sizeof r);
    ssize_t n = read(job->fd, &r, sizeof r);
    close(job->fd);
    t->seeds++;
    if (n != (ssize_t)sizeof r) {
        t->failed++;
        if (!quiet) {
            printf("seed %llu: FAIL: the process ended with %s %d before the verdict\n", (unsigned long long)job->seed,
                   WIFSIGNALED(status) ? "signal" : "status", WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status));
        }
        return;
    }
    t->simulated_ns += r.simulated_ns;
    t->events += r.events;
    t->acked += r.acked;
    t->unknown += r.unknown;
    t->faults += r.faults;
    t->crashes += r.crashes;
    if (r.anomalies > 0) {
        t->failed++;
        if (!quiet) {
            printf("seed %llu: FAIL: %llu anomalies: %s\n", (unsigned long long)r.seed, (unsigned long long)r.anomalies, r.message);
        }
    }
    fflush(stdout);
}

static unsigned mask_of(const char *text) { return (unsigned)strtoul(text, NULL, 0); }

int main(int argc, char **argv)
{
    struct world_options o = {.faults = FAULT_ALL, .profile = profile_find("")};
    uint64_t first = 1, last = 20;
    unsigned jobs = 2;
    bool repeat = false, expect_harm = false;
    enum { SEEDS = 1, JOBS, NODES, SHARDS, SECONDS, OPERATIONS, FAULTS, REPEAT, RAFT, JOURNAL, SERVER, HARM, VERBOSE, FIXED, PROFILE };
    static const struct option options[] = {
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
    if (jobs < 1 || jobs > 64 || last < first) {
        fprintf(stderr, "sluice-sim: --jobs 1..64, --seeds A-B with A <= B\n");
        return 2;
    }
    struct job running[64];
    unsigned n = 0;
    struct totals t = {0};
    double begun = seconds_now();
    uint64_t next = first;
    while (next <= last || n > 0) {
        while (n < jobs && next <= last && !(expect_harm && t.failed > 0)) {
            start(&running[n++], &o, next++, repeat);
        }
        if (n == 0) {
            break;
        }
        int status;
        pid_t pid = waitpid(-1, &status, 0);
        for (unsigned i = 0; i < n; i++) {
            if (running[i].pid == pid) {
                finish(&running[i], status, &t, expect_harm);
                running[i] = running[--n];
                break;
            }
        }
    }
    double took = seconds_now() - begun;
    struct rusage used;
    getrusage(RUSAGE_CHILDREN, &used);
    double cpu = (double)(used.ru_utime.tv_sec + used.ru_stime.tv_sec) + (double)(used.ru_utime.tv_usec + used.ru_stime.tv_usec) / 1e6;
    printf("seeds %llu-%llu: %llu played, %llu failed; %.1f simulated hours in %.1f s (%.1f s of CPU): %.0f times real time per core; %llu events, "
           "%llu acknowledged, %llu unknown, %llu faults, %llu crashes\n",
           (unsigned long long)first, (unsigned long long)last, (unsigned long long)t.seeds, (unsigned long long)t.failed,
           (double)t.simulated_ns / 3.6e12, took, cpu, (double)t.simulated_ns / 1e9 / cpu, (unsigned long long)t.events,
           (unsigned long long)t.acked, (unsigned long long)t.unknown, (unsigned long long)t.faults, (unsigned long long)t.crashes);
    if (expect_harm) {
        printf("%s\n", t.failed > 0 ? "harm was caught" : "no harm was caught");
        return t.failed > 0 ? 0 : 1;
    }
    return t.failed > 0;
}
