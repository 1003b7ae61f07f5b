/* What users write: a configuration file, a list of nodes, an address. First byte: which. What is taken passes the same reader again. */
#include "fuzz.h"

#include <stdio.h>
#include <sys/mman.h>
#include <unistd.h>

#include "server/formation.h"
#include "server/settings.h"

static void config_file(const uint8_t *p, size_t n)
{
    int fd = memfd_create("config", MFD_CLOEXEC);
    sluice_assert(fd >= 0);
    sluice_assert(write(fd, p, n) == (ssize_t)n);
    char path[64];
    snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
    char *argv[] = {(char *)"sluiced", (char *)"--config", path, NULL};
    char *environment[] = {NULL};
    struct settings s;
    bool help = false;
    char err[256] = "";
    settings_defaults(&s);
    if (settings_load(&s, 3, argv, environment, &help, err) == 0) {
        settings_check(&s, err);
    } else {
        sluice_assert(err[0] != '\0'); /* every refusal says why */
    }
    close(fd);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0) {
        return 0;
    }
    size_t n = size - 1;
    char *text = malloc(n + 1);
    memcpy(text, data + 1, n);
    text[n] = '\0';
    switch (data[0] % 3) {
    case 0: config_file(data + 1, n); break;
    case 1: {
        struct map_node nodes[8];
        memset(nodes, 0, sizeof(nodes));
        char err[256] = "";
        int count = formation_parse_cluster(text, nodes, ARRAY_LEN(nodes), err);
        sluice_assert(count <= (int)ARRAY_LEN(nodes));
        sluice_assert(count >= 0 || err[0] != '\0');
        break;
    }
    default: {
        char host[64];
        uint16_t port = 0;
        if (formation_parse_address(text, host, &port)) {
            sluice_assert(strlen(host) < sizeof(host));
        }
        break;
    }
    }
    free(text);
    return 0;
}
