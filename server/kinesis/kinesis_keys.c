/* kinesis_keys.c: the file of access keys, and their signing keys. Sorted by name, so that a look-up takes no longer than the names are long. */
#include "server/kinesis/kinesis_keys.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proto/base.h"

struct kinesis_key {
    char name[KEY_TEXT_MAX + 1], secret[KEY_TEXT_MAX + 1], account[13];
    unsigned line;
    struct { char date[9]; uint8_t key[AWS_SHA256]; } days[2]; /* around midnight two are in use */
    unsigned newest;
};

struct kinesis_keys {
    struct kinesis_key *v;
    unsigned n, room;
};

static int by_name(const void *a, const void *b) { return strcmp(((const struct kinesis_key *)a)->name, ((const struct kinesis_key *)b)->name); }
static int by_account(const void *a, const void *b) { return strcmp(((const struct kinesis_key *)a)->account, ((const struct kinesis_key *)b)->account); }

static bool blank(char c) { return c == ' ' || c == '\t' || c == '\r'; }

/* The next word of a line; {.n = 0}: none is left. */
static struct aws_text word(struct aws_text *rest)
{
    while (rest->n > 0 && blank(rest->p[0])) {
        rest->p++;
        rest->n--;
    }
    struct aws_text w = {rest->p, 0};
    while (rest->n > 0 && !blank(rest->p[0])) {
        rest->p++;
        rest->n--;
        w.n++;
    }
    return w;
}

/* NULL, or what is wrong. */
static const char *take_line(struct kinesis_keys *keys, struct aws_text line, unsigned number, const char *default_account)
{
    struct aws_text name = word(&line), secret = word(&line), account = word(&line);
    if (name.n == 0 || name.p[0] == '#') {
        return NULL;
    }
    if (secret.n == 0) {
        return "an access key without a secret";
    }
    if (word(&line).n > 0) {
        return "more than access key, secret and account";
    }
    if (name.n > KEY_TEXT_MAX || secret.n > KEY_TEXT_MAX) {
        return "an access key or secret of more than 128 characters";
    }
    for (size_t i = 0; i < name.n + secret.n; i++) {
        char c = i < name.n ? name.p[i] : secret.p[i - name.n];
        if (c <= ' ' || c > '~') {
            return "an access key or secret with a character that is not printable ASCII";
        }
    }
    if (account.n > 0 && (account.n != 12 || strspn(account.p, "0123456789") < 12)) {
        return "an account that is not 12 digits";
    }
    if (keys->n == KEYS_MAX) {
        return "more than 4096 access keys";
    }
    if (keys->n == keys->room) {
        keys->room = keys->room * 2 + 16;
        keys->v = xrealloc(keys->v, keys->room * sizeof *keys->v);
    }
    struct kinesis_key *k = &keys->v[keys->n++];
    memset(k, 0, sizeof *k);
    k->line = number;
    memcpy(k->name, name.p, name.n);
    memcpy(k->secret, secret.p, secret.n);
    memcpy(k->account, account.n > 0 ? account.p : default_account, 12);
    return NULL;
}

/* 0, or SOME reason in err. */
static bool check_all(struct kinesis_keys *keys, char err[256])
{
    if (keys->n == 0) {
        snprintf(err, 256, "no access key in it");
        return false;
    }
    unsigned accounts = 1;
    qsort(keys->v, keys->n, sizeof *keys->v, by_account);
    for (unsigned i = 1; i < keys->n; i++) {
        accounts += strcmp(keys->v[i].account, keys->v[i - 1].account) != 0;
    }
    if (accounts > KEYS_ACCOUNTS_MAX) {
        snprintf(err, 256, "%u accounts; at most %d", accounts, KEYS_ACCOUNTS_MAX);
        return false;
    }
    qsort(keys->v, keys->n, sizeof *keys->v, by_name);
    for (unsigned i = 1; i < keys->n; i++) {
        if (strcmp(keys->v[i].name, keys->v[i - 1].name) == 0) {
            unsigned a = keys->v[i].line, b = keys->v[i - 1].line;
            snprintf(err, 256, "lines %u and %u have the same access key", a < b ? a : b, a < b ? b : a);
            return false;
        }
    }
    return true;
}

struct kinesis_keys *kinesis_keys_parse(const char *text, size_t n, const char *default_account, char err[256])
{
    struct kinesis_keys *keys = xcalloc(1, sizeof *keys);
    unsigned number = 0;
    for (size_t at = 0; at < n;) {
        const char *end = memchr(text + at, '\n', n - at);
        size_t length = end != NULL ? (size_t)(end - text) - at : n - at;
        const char *wrong = take_line(keys, (struct aws_text){text + at, length}, ++number, default_account);
        if (wrong != NULL) {
            snprintf(err, 256, "line %u: %s", number, wrong);
            kinesis_keys_free(keys);
            return NULL;
        }
        at += length + 1;
    }
    if (!check_all(keys, err)) {
        kinesis_keys_free(keys);
        return NULL;
    }
    return keys;
}

struct kinesis_keys *kinesis_keys_load(struct env *env, const char *path, const char *default_account, char err[256])
{
    struct env_file *f;
    int rc = env_file_open(env, path, ENV_OPEN_READ, &f);
    if (rc != 0) {
        snprintf(err, 256, "%s", strerror(-rc));
        return NULL;
    }
    struct kinesis_keys *keys = NULL;
    int64_t size = env_file_size(env, f);
    if (size < 0 || size > KEYS_FILE_MAX) {
        snprintf(err, 256, "%s", size < 0 ? strerror((int)-size) : "more than 4 MiB");
    } else {
        char *text = xmalloc((size_t)size + 1);
        ssize_t got = env_file_pread(env, f, text, (size_t)size, 0);
        if (got != (ssize_t)size) {
            snprintf(err, 256, "%s", got < 0 ? strerror((int)-got) : "it cannot be read whole");
        } else {
            keys = kinesis_keys_parse(text, (size_t)size, default_account, err);
        }
        explicit_bzero(text, (size_t)size);
        free(text);
    }
    env_file_close(env, f);
    return keys;
}

void kinesis_keys_free(struct kinesis_keys *keys)
{
    if (keys == NULL) {
        return;
    }
    if (keys->v != NULL) {
        explicit_bzero(keys->v, keys->room * sizeof *keys->v);
    }
    free(keys->v);
    free(keys);
}

struct kinesis_key *kinesis_keys_find(struct kinesis_keys *keys, struct aws_text access_key)
{
    unsigned low = 0, high = keys->n;
    while (low < high) {
        unsigned middle = low + (high - low) / 2;
        const char *name = keys->v[middle].name;
        size_t n = strlen(name);
        int order = memcmp(name, access_key.p, n < access_key.n ? n : access_key.n);
        order = order != 0 ? order : (n > access_key.n) - (n < access_key.n);
        if (order == 0) {
            return &keys->v[middle];
        }
        if (order < 0) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return NULL;
}

const char *kinesis_key_account(const struct kinesis_key *key) { return key->account; }

const uint8_t *kinesis_key_signing(struct kinesis_key *key, struct aws_text date, const char *region)
{
    for (unsigned i = 0; i < 2; i++) {
        if (date.n == 8 && memcmp(key->days[i].date, date.p, 8) == 0) {
            return key->days[i].key;
        }
    }
    unsigned at = key->newest ^ 1;
    key->newest = at;
    memset(key->days[at].date, 0, sizeof key->days[at].date);
    memcpy(key->days[at].date, date.p, date.n < 8 ? date.n : 8);
    aws_signing_key((struct aws_text){key->secret, strlen(key->secret)}, date, (struct aws_text){region, strlen(region)}, (struct aws_text){"kinesis", 7}, key->days[at].key);
    return key->days[at].key;
}
