/* What a run of `sluice bench` cost: processor time and bytes written of all nodes by their own metrics, and what else used this machine meanwhile. */
#include <stdlib.h>
#include <sys/resource.h>
#include <unistd.h>

#include "client/cli/bench.h"

/* Seconds that the cores of this machine were busy since it was started; negative: not known. */
static double machine_busy_s(void)
{
    FILE *f = fopen("/proc/stat", "re");
    if (f == NULL) {
        return -1;
    }
    char line[256] = "";
    bool good = fgets(line, sizeof line, f) != NULL && strncmp(line, "cpu ", 4) == 0;
    fclose(f);
    enum { USER, NICE, SYSTEM, IDLE, WAIT, IRQ, SOFTIRQ, FIELDS };
    uint64_t ticks[FIELDS];
    char *at = line + 4;
    for (size_t i = 0; good && i < FIELDS; i++) {
        char *end;
        ticks[i] = strtoull(at, &end, 10);
        good = end != at;
        at = end;
    }
    return good ? (double)(ticks[USER] + ticks[NICE] + ticks[SYSTEM] + ticks[IRQ] + ticks[SOFTIRQ]) / (double)sysconf(_SC_CLK_TCK) : -1;
}

void bench_spent(struct bench *b, struct bench_spent *out)
{
    cli_nodes_refresh(b->cli, &b->nodes);
    cli_nodes_ask(b->cli, &b->nodes);
    out->nodes_known = cli_nodes_all(&b->nodes);
    out->server_cpu_s = cli_nodes_sum(&b->nodes, "process_cpu_seconds_total");
    out->written = cli_nodes_sum(&b->nodes, "sluice_journal_written_bytes_total");
    out->prewritten = cli_nodes_sum(&b->nodes, "sluice_journal_pool_written_bytes_total");
    out->resident_max = cli_nodes_max(&b->nodes, "process_resident_memory_bytes");
    struct rusage u;
    getrusage(RUSAGE_SELF, &u);
    out->client_cpu_s = (double)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) + (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec) / 1e6;
    out->busy_s = machine_busy_s();
}

void bench_print_cost(const struct bench *b, double seconds)
{
    const struct bench_spent *from = &b->before, *to = &b->after;
    double client = to->client_cpu_s - from->client_cpu_s, bytes = (double)b->load.acked * (double)b->record_size;
    printf(",\"client_cpu_s\":%.3f", client);
    if (!from->nodes_known || !to->nodes_known) {
        return; /* a node without an admin address: no sum over all of them */
    }
    double server = to->server_cpu_s - from->server_cpu_s;
    printf(",\"server_cpu_s\":%.3f,\"server_rss_mb_max\":%.1f", server, to->resident_max / 1e6);
    if (b->counted > 0) {
        printf(",\"server_cpu_us_per_record\":%.3f", server * 1e6 / (double)b->counted);
    }
    if (bytes > 0) {
        printf(",\"written_per_byte\":%.3f,\"prewritten_per_byte\":%.3f", (to->written - from->written) / bytes, (to->prewritten - from->prewritten) / bytes);
    }
    if (cli_nodes_local(&b->nodes) && from->busy_s >= 0 && to->busy_s >= 0 && seconds > 0) {
        double others = (to->busy_s - from->busy_s - server - client) / seconds;
        printf(",\"others_cores\":%.2f", others > 0 ? others : 0);
    }
}
