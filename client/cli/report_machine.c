/* What a report says about the machine it ran on. This file asks the system directly, as it is about the system. */
#include <stdlib.h>
#include <sys/utsname.h>
#include <time.h>
#include <unistd.h>

#include "client/cli/report.h"

#ifndef SLUICE_COMMIT
#define SLUICE_COMMIT "unknown"
#endif

/* The value behind "name : value" of a file of /proc. */
static void proc_field(const char *path, const char *name, char *out, size_t size)
{
    char line[512];
    FILE *f = fopen(path, "re");
    snprintf(out, size, "unknown");
    while (f != NULL && fgets(line, sizeof line, f) != NULL) {
        char *colon = strchr(line, ':');
        if (colon != NULL && strncmp(line, name, strlen(name)) == 0) {
            char *value = colon + 1 + strspn(colon + 1, " \t");
            value[strcspn(value, "\n")] = '\0';
            snprintf(out, size, "%s", value);
            break;
        }
    }
    if (f != NULL) {
        fclose(f);
    }
}

/* The mount that holds a folder: "ext4 (/dev/vda1)". */
static void file_system(const char *dir, char *out, size_t size)
{
    char line[4096], *real = realpath(dir, NULL);
    size_t best = 0;
    FILE *f = fopen("/proc/self/mounts", "re");
    snprintf(out, size, "unknown");
    while (f != NULL && real != NULL && fgets(line, sizeof line, f) != NULL) {
        char *save, *device = strtok_r(line, " ", &save), *at = strtok_r(NULL, " ", &save), *type = strtok_r(NULL, " ", &save);
        if (device == NULL || at == NULL || type == NULL) {
            continue;
        }
        size_t n = strlen(at);
        bool inside = strncmp(real, at, n) == 0 && (n == 1 || real[n] == '/' || real[n] == '\0');
        if (inside && n >= best) { /* a later mount at the same place lies above the earlier one */
            best = n;
            snprintf(out, size, "%s (%s)", type, device);
        }
    }
    if (f != NULL) {
        fclose(f);
    }
    free(real);
}

json_t *report_machine(const char *dir)
{
    char cpu[256], memory[64], files[512], when[64];
    struct utsname u;
    uname(&u);
    proc_field("/proc/cpuinfo", "model name", cpu, sizeof cpu);
    proc_field("/proc/meminfo", "MemTotal", memory, sizeof memory);
    file_system(dir, files, sizeof files);
    time_t now = time(NULL);
    struct tm tm;
    strftime(when, sizeof when, "%Y-%m-%dT%H:%M:%SZ", gmtime_r(&now, &tm));
    return json_pack("{s:s, s:s, s:i, s:f, s:s, s:s, s:s, s:s, s:s}", "id", "machine", "cpu", cpu, "cores", (int)sysconf(_SC_NPROCESSORS_ONLN), "memory_gib",
                     strtod(memory, NULL) / (1 << 20), "kernel", u.release, "file_system", files, "version", SLUICE_VERSION, "commit", SLUICE_COMMIT, "time",
                     when);
}
