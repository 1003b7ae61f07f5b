/* settings.c: see settings.h. Precedence: flag, then environment, then file, then default. */
#include "server/settings.h"

#include <errno.h>
#include <ini.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "proto/base.h"
#include "proto/batch.h"
#include "proto/error.h"
#include "server/cluster_map.h"
#include "server/log.h"

enum setting_type { TYPE_TEXT, TYPE_NUMBER, TYPE_SIZE, TYPE_BOOL };

struct setting {
    const char *name;
    enum setting_type type;
    size_t at;
    const char *text_default;
    uint64_t number_default, min, max;
    const char *text;
};

/* Defaults are text or numbers depending on the type: one macro each picks the fitting one. */
#define DEFAULT_TEXT_TEXT(def) def
#define DEFAULT_TEXT_NUMBER(def) NULL
#define DEFAULT_TEXT_SIZE(def) NULL
#define DEFAULT_TEXT_BOOL(def) NULL
#define DEFAULT_NUMBER_TEXT(def) 0
#define DEFAULT_NUMBER_NUMBER(def) def
#define DEFAULT_NUMBER_SIZE(def) def
#define DEFAULT_NUMBER_BOOL(def) def

static const struct setting table[] = {
#define X(type, field, name, def, min, max, text) \
    { name, TYPE_##type, offsetof(struct settings, field), DEFAULT_TEXT_##type(def), DEFAULT_NUMBER_##type(def), min, max, text },
    SLUICE_SETTINGS(X)
#undef X
};

void settings_defaults(struct settings *s)
{
    memset(s, 0, sizeof *s);
    for (size_t i = 0; i < ARRAY_LEN(table); i++) {
        const struct setting *t = &table[i];
        void *field = (char *)s + t->at;
        switch (t->type) {
        case TYPE_TEXT: snprintf(field, 1024, "%s", t->text_default); break;
        case TYPE_BOOL: *(bool *)field = t->number_default != 0; break;
        case TYPE_NUMBER:
        case TYPE_SIZE: *(uint64_t *)field = t->number_default; break;
        }
    }
}

static const struct setting *setting_find(const char *name)
{
    for (size_t i = 0; i < ARRAY_LEN(table); i++) {
        if (strcmp(table[i].name, name) == 0) {
            return &table[i];
        }
    }
    return NULL;
}

/* Edit distance of two short names (bounded at 63 characters). */
static unsigned distance(const char *a, const char *b)
{
    size_t n = strnlen(a, 63);
    size_t m = strnlen(b, 63);
    unsigned row[64];
    for (size_t j = 0; j <= m; j++) {
        row[j] = (unsigned)j;
    }
    for (size_t i = 1; i <= n; i++) {
        unsigned diagonal = row[0];
        row[0] = (unsigned)i;
        for (size_t j = 1; j <= m; j++) {
            unsigned up = row[j];
            unsigned best = diagonal + (a[i - 1] != b[j - 1]);
            best = up + 1 < best ? up + 1 : best;
            best = row[j - 1] + 1 < best ? row[j - 1] + 1 : best;
            row[j] = best;
            diagonal = up;
        }
    }
    return row[m];
}

static int refuse_unknown(const char *name, char err[256])
{
    const char *nearest = NULL;
    unsigned best = 0;
    for (size_t i = 0; i < ARRAY_LEN(table); i++) {
        unsigned d = distance(name, table[i].name);
        if (nearest == NULL || d < best) {
            nearest = table[i].name;
            best = d;
        }
    }
    if (best <= 3 || strstr(nearest, name) != NULL) {
        snprintf(err, 256, "unknown setting \"%.60s\"; did you mean \"%s\"?", name, nearest);
    } else {
        snprintf(err, 256, "unknown setting \"%.60s\"; --help lists all settings", name);
    }
    return SLUICE_E_INVALID;
}

/* A decimal number, for SIZE with an optional unit. False if it is none or does not fit. */
static bool number_parse(const char *text, bool size, uint64_t *out)
{
    if (*text < '0' || *text > '9') {
        return false;
    }
    errno = 0;
    char *end;
    unsigned long long v = strtoull(text, &end, 10);
    if (errno != 0) {
        return false;
    }
    unsigned shift = 0;
    if (size && *end != 0) {
        static const struct { const char *unit; unsigned shift; } units[] = {
            { "B", 0 }, { "K", 10 }, { "KB", 10 }, { "KiB", 10 }, { "M", 20 }, { "MB", 20 }, { "MiB", 20 }, { "G", 30 }, { "GB", 30 }, { "GiB", 30 }, { "TiB", 40 }
        };
        size_t i = 0;
        while (i < ARRAY_LEN(units) && strcasecmp(end, units[i].unit) != 0) {
            i++;
        }
        if (i == ARRAY_LEN(units)) {
            return false;
        }
        shift = units[i].shift;
        end += strlen(end);
    }
    if (*end != 0 || v > UINT64_MAX >> shift) {
        return false;
    }
    *out = (uint64_t)v << shift;
    return true;
}

int settings_set(struct settings *s, const char *name, const char *value, char err[256])
{
    const struct setting *t = setting_find(name);
    if (t == NULL) {
        return refuse_unknown(name, err);
    }
    void *field = (char *)s + t->at;
    if (t->type == TYPE_TEXT) {
        if (strlen(value) >= 1024) {
            snprintf(err, 256, "setting %s: the value is longer than 1023 bytes", name);
            return SLUICE_E_INVALID;
        }
        snprintf(field, 1024, "%s", value);
        return 0;
    }
    if (t->type == TYPE_BOOL) {
        if (strcmp(value, "1") == 0 || strcasecmp(value, "true") == 0 || strcasecmp(value, "on") == 0 || strcasecmp(value, "yes") == 0) {
            *(bool *)field = true;
        } else if (strcmp(value, "0") == 0 || strcasecmp(value, "false") == 0 || strcasecmp(value, "off") == 0 || strcasecmp(value, "no") == 0) {
            *(bool *)field = false;
        } else {
            snprintf(err, 256, "setting %s: \"%.60s\" is neither true nor false", name, value);
            return SLUICE_E_INVALID;
        }
        return 0;
    }
    uint64_t v;
    if (!number_parse(value, t->type == TYPE_SIZE, &v)) {
        snprintf(err, 256, "setting %s: \"%.60s\" is not %s", name, value, t->type == TYPE_SIZE ? "a size (bytes, or with KiB, MiB, GiB)" : "a whole number");
        return SLUICE_E_INVALID;
    }
    if (v < t->min || v > t->max) {
        snprintf(err, 256, "setting %s: %llu is not within %llu and %llu", name, (unsigned long long)v, (unsigned long long)t->min, (unsigned long long)t->max);
        return SLUICE_E_INVALID;
    }
    *(uint64_t *)field = v;
    return 0;
}

struct file_load { struct settings *s; char *err; int code; };

static int file_line(void *user, const char *section, const char *name, const char *value)
{
    struct file_load *f = user;
    if (f->code != 0) {
        return 1;
    }
    if (section[0] != 0) {
        snprintf(f->err, 256, "sections are not used in the configuration file: [%.60s]", section);
        f->code = SLUICE_E_INVALID;
        return 0;
    }
    f->code = settings_set(f->s, name, value, f->err);
    return f->code == 0;
}

static int load_file(struct settings *s, const char *path, char err[256])
{
    struct file_load f = { .s = s, .err = err };
    int line = ini_parse(path, file_line, &f);
    if (line < 0) {
        snprintf(err, 256, "cannot read the configuration file %.200s", path);
        return SLUICE_E_INVALID;
    }
    if (f.code != 0 || line > 0) {
        char why[256];
        snprintf(why, sizeof why, "%s", f.code != 0 ? err : "not of the form key = value");
        snprintf(err, 256, "%.80s, line %d: %.150s", path, line, why);
        return SLUICE_E_INVALID;
    }
    return 0;
}

/* SLUICE_SHARD_BYTES_PER_S -> shard-bytes-per-s. False if it is no SLUICE_ variable or too long for a setting. */
static bool environment_name(const char *variable, char name[64], const char **value)
{
    if (strncmp(variable, "SLUICE_", 7) != 0) {
        return false;
    }
    const char *eq = strchr(variable, '=');
    if (eq == NULL || eq - variable - 7 >= 64 || eq - variable == 7) {
        return false;
    }
    size_t n = 0;
    for (const char *p = variable + 7; p < eq; p++) {
        char c = *p;
        name[n++] = (char)(c == '_' ? '-' : c >= 'A' && c <= 'Z' ? c - 'A' + 'a' : c);
    }
    name[n] = 0;
    *value = eq + 1;
    return true;
}

/* Variables that clients use; a server started from the same shell ignores them. */
static bool environment_of_clients(const char *name)
{
    static const char *const names[] = { "endpoint", "endpoints", "ca", "cert", "key", "output" };
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        if (strcmp(names[i], name) == 0) {
            return true;
        }
    }
    return false;
}

/* Splits argv[i] into name and value; *used: further arguments taken. */
static int flag_parse(int argc, char **argv, int i, char name[64], const char **value, int *used, char err[256])
{
    const char *arg = argv[i];
    if (strncmp(arg, "--", 2) != 0 || arg[2] == 0) {
        snprintf(err, 256, "unexpected argument \"%.100s\": settings are given as --name value", arg);
        return SLUICE_E_INVALID;
    }
    arg += 2;
    size_t n = strcspn(arg, "=");
    if (n >= 64) {
        snprintf(err, 256, "unknown setting \"%.60s...\"", arg);
        return SLUICE_E_INVALID;
    }
    memcpy(name, arg, n);
    name[n] = 0;
    *used = 0;
    if (arg[n] == '=') {
        *value = arg + n + 1;
        return 0;
    }
    const struct setting *t = setting_find(name);
    if (t != NULL && t->type == TYPE_BOOL && (i + 1 >= argc || strncmp(argv[i + 1], "--", 2) == 0)) {
        *value = "true";
        return 0;
    }
    if (t == NULL && strcmp(name, "config") != 0) {
        return refuse_unknown(name, err);
    }
    if (i + 1 >= argc) {
        snprintf(err, 256, "setting %s: the value is missing", name);
        return SLUICE_E_INVALID;
    }
    *value = argv[i + 1];
    *used = 1;
    return 0;
}

int settings_load(struct settings *s, int argc, char **argv, char **environ_, bool *help, char err[256])
{
    err[0] = 0;
    *help = false;
    settings_defaults(s);
    char name[64];
    const char *value;
    int used;
    const char *config = NULL;
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0 || strcmp(argv[i], "--version") == 0) {
            *help = true;
            return 0;
        }
        int rc = flag_parse(argc, argv, i, name, &value, &used, err);
        if (rc != 0) {
            return rc;
        }
        if (strcmp(name, "config") == 0) {
            config = value;
        }
        i += used;
    }
    for (char **e = environ_; config == NULL && e != NULL && *e != NULL; e++) {
        if (strncmp(*e, "SLUICE_CONFIG=", 14) == 0) {
            config = *e + 14;
        }
    }
    if (config != NULL) {
        int rc = load_file(s, config, err);
        if (rc != 0) {
            return rc;
        }
    }
    for (char **e = environ_; e != NULL && *e != NULL; e++) {
        if (!environment_name(*e, name, &value) || strcmp(name, "config") == 0 || environment_of_clients(name)) {
            continue;
        }
        char why[256];
        int rc = settings_set(s, name, value, why);
        if (rc != 0) {
            snprintf(err, 256, "environment %.*s: %.180s", (int)strcspn(*e, "="), *e, why);
            return rc;
        }
    }
    for (int i = 1; i < argc; i++) {
        int rc = flag_parse(argc, argv, i, name, &value, &used, err);
        if (rc == 0 && strcmp(name, "config") != 0) {
            rc = settings_set(s, name, value, err);
        }
        if (rc != 0) {
            return rc;
        }
        i += used;
    }
    return settings_check(s, err);
}

/* host:port, [v6]:port; port 0 is allowed (a free one). */
static bool address_ok(const char *text)
{
    const char *colon = strrchr(text, ':');
    if (colon == NULL || colon == text || colon - text > 255) {
        return false;
    }
    uint64_t port;
    return number_parse(colon + 1, false, &port) && port <= 65535;
}

static int check_cluster(const struct settings *s, char err[256])
{
    if (s->cluster[0] == 0) {
        if (s->join) {
            snprintf(err, 256, "join needs the setting cluster: the addresses of nodes of the cluster to join");
            return SLUICE_E_INVALID;
        }
        return 0;
    }
    char copy[1024];
    snprintf(copy, sizeof copy, "%s", s->cluster);
    bool self = false;
    uint64_t seen[NODES_MAX];
    unsigned n = 0;
    char *save = NULL;
    for (char *item = strtok_r(copy, ", ", &save); item != NULL; item = strtok_r(NULL, ", ", &save)) {
        char *eq = strchr(item, '=');
        uint64_t id = 0;
        if (eq != NULL) {
            *eq = 0;
        }
        if (eq == NULL || !number_parse(item, false, &id) || id == 0 || id > 65535 || !address_ok(eq + 1)) {
            snprintf(err, 256, "setting cluster: \"%.80s\" is not of the form id=host:port", item);
            return SLUICE_E_INVALID;
        }
        for (unsigned i = 0; i < n; i++) {
            if (seen[i] == id) {
                snprintf(err, 256, "setting cluster: node %llu is named twice", (unsigned long long)id);
                return SLUICE_E_INVALID;
            }
        }
        if (n == NODES_MAX) {
            snprintf(err, 256, "setting cluster: more than %d nodes", NODES_MAX);
            return SLUICE_E_INVALID;
        }
        seen[n++] = id;
        self = self || id == s->node_id;
    }
    if (!self && !s->join) {
        snprintf(err, 256, "setting cluster does not name this node (node-id %llu); a node that joins an existing cluster needs --join", (unsigned long long)s->node_id);
        return SLUICE_E_INVALID;
    }
    return 0;
}

int settings_check(const struct settings *s, char err[256])
{
    err[0] = 0;
    enum log_level level;
    if (s->data[0] == 0) {
        snprintf(err, 256, "setting data: the folder's name is empty");
    } else if (strlen(s->data) > 900) {
        snprintf(err, 256, "setting data: the folder's name is too long");
    } else if (!address_ok(s->listen)) {
        snprintf(err, 256, "setting listen: \"%.80s\" is not of the form host:port", s->listen);
    } else if (s->admin[0] != 0 && !address_ok(s->admin)) {
        snprintf(err, 256, "setting admin: \"%.80s\" is not of the form host:port", s->admin);
    } else if (s->kinesis[0] != 0 && !address_ok(s->kinesis)) {
        snprintf(err, 256, "setting kinesis: \"%.80s\" is not of the form host:port", s->kinesis);
    } else if ((s->kinesis_tls_cert[0] != 0) != (s->kinesis_tls_key[0] != 0)) {
        bool cert = s->kinesis_tls_cert[0] != 0;
        snprintf(err, 256, "setting kinesis-tls-%s needs kinesis-tls-%s too: a certificate and its key, or neither", cert ? "cert" : "key", cert ? "key" : "cert");
    } else if (strlen(s->zone) > 31) {
        snprintf(err, 256, "setting zone: longer than 31 bytes");
    } else if (strlen(s->account) != 12 || strspn(s->account, "0123456789") != 12) {
        snprintf(err, 256, "setting account: \"%.40s\" is not 12 digits", s->account);
    } else if (strcmp(s->limits, "kinesis") != 0 && strcmp(s->limits, "off") != 0) {
        snprintf(err, 256, "setting limits: \"%.40s\" is neither kinesis nor off", s->limits);
    } else if (s->controller_nodes % 2 == 0) {
        snprintf(err, 256, "setting controller-nodes: %llu; it must be 1, 3 or 5", (unsigned long long)s->controller_nodes);
    } else if (s->segment_first > s->segment_max) {
        snprintf(err, 256, "setting segment-first is larger than segment-max");
    } else if (s->election_ms < 3 * s->heartbeat_ms) {
        snprintf(err, 256, "setting election-ms must be at least three times heartbeat-ms");
    } else if (!log_level_parse(s->log_level, &level)) {
        snprintf(err, 256, "setting log-level: \"%.40s\" is none of error, warn, info, debug", s->log_level);
    } else if (strcmp(s->log_format, "text") != 0 && strcmp(s->log_format, "json") != 0) {
        snprintf(err, 256, "setting log-format: \"%.40s\" is neither text nor json", s->log_format);
    } else {
        return check_cluster(s, err);
    }
    return SLUICE_E_INVALID;
}

void settings_each(void (*cb)(void *arg, const char *name, const char *type, const char *def, const char *text), void *arg)
{
    for (size_t i = 0; i < ARRAY_LEN(table); i++) {
        const struct setting *t = &table[i];
        char number[32];
        snprintf(number, sizeof number, "%llu", (unsigned long long)t->number_default);
        static const char *const types[] = { "TEXT", "NUMBER", "SIZE", "true|false" };
        const char *def = t->type == TYPE_TEXT ? t->text_default : t->type == TYPE_BOOL ? (t->number_default != 0 ? "true" : "false") : number;
        cb(arg, t->name, types[t->type], def, t->text);
    }
}
