/* The identity file: its bytes, taking the folder at start, and replacing the file (layout: README.md). */
#include "storage/identity.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "proto/base.h"
#include "proto/crc32c.h"

#define IDENTITY_MAGIC 0x4449454349554c53ull /* "SLUICEID" */
enum { IDENTITY_VERSION = 1, PATH_BYTES = 512 };

static void __attribute__((format(printf, 2, 3))) complain(char *err, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    vsnprintf(err, 256, format, args);
    va_end(args);
}

void identity_encode(uint8_t buf[IDENTITY_BYTES], const struct identity *id)
{
    memset(buf, 0, IDENTITY_BYTES);
    put_u64(buf, IDENTITY_MAGIC);
    put_u32(buf + 8, IDENTITY_VERSION);
    memcpy(buf + 16, id->cluster_id, 16);
    put_u32(buf + 32, id->node_id);
    put_u32(buf + 36, id->lanes);
    put_u64(buf + 40, id->incarnation);
    put_u32(buf + 48, (uint32_t)id->end);
    put_u32(buf + 52, id->formed);
    put_u32(buf + 12, crc32c(crc32c(0, buf, 12), buf + 16, IDENTITY_BYTES - 16));
}

int identity_decode(const uint8_t *buf, size_t len, struct identity *id)
{
    if (len < IDENTITY_BYTES || get_u64(buf) != IDENTITY_MAGIC || get_u32(buf + 12) != crc32c(crc32c(0, buf, 12), buf + 16, IDENTITY_BYTES - 16)) {
        return ENV_EXIT_DAMAGE;
    }
    if (get_u32(buf + 8) != IDENTITY_VERSION) {
        return ENV_EXIT_FORMAT;
    }
    memset(id, 0, sizeof *id);
    memcpy(id->cluster_id, buf + 16, 16);
    id->node_id = get_u32(buf + 32);
    id->lanes = get_u32(buf + 36);
    id->incarnation = get_u64(buf + 40);
    id->last_end = (enum identity_end)get_u32(buf + 48);
    id->formed = get_u32(buf + 52) != 0;
    return 0;
}

int identity_save(struct env *env, const char *dir, const struct identity *id)
{
    char path[PATH_BYTES], beside[PATH_BYTES];
    snprintf(path, sizeof path, "%s/identity", dir);
    snprintf(beside, sizeof beside, "%s/identity.new", dir);
    uint8_t *buf = xmalloc(IDENTITY_BYTES);
    identity_encode(buf, id);
    struct env_file *file;
    int e = env_file_open(env, beside, ENV_OPEN_WRITE | ENV_OPEN_CREATE, &file);
    if (e == 0) {
        e = env_file_pwrite(env, file, buf, IDENTITY_BYTES, 0);
        e = e == 0 ? env_file_sync(env, file) : e;
        env_file_close(env, file);
    }
    free(buf);
    e = e == 0 ? env_rename(env, beside, path) : e;
    return e == 0 ? env_dir_sync(env, dir) : e;
}

static void lane_found(void *arg, const char *name)
{
    bool *found = arg;
    *found = *found || strncmp(name, "lane", 4) == 0;
}

/* 0 (id filled), -ENOENT, or another error with a message. */
static int identity_load(struct env *env, const char *dir, struct identity *id, char *err)
{
    char path[PATH_BYTES];
    snprintf(path, sizeof path, "%s/identity", dir);
    struct env_file *file;
    int e = env_file_open(env, path, ENV_OPEN_READ, &file);
    if (e == -ENOENT) {
        return e;
    }
    if (e != 0) {
        complain(err, "cannot open %s: %s", path, strerror(-e));
        return e;
    }
    uint8_t *buf = xmalloc(IDENTITY_BYTES);
    ssize_t n = env_file_pread(env, file, buf, IDENTITY_BYTES, 0);
    env_file_close(env, file);
    e = n < 0 ? (int)n : identity_decode(buf, (size_t)n, id);
    free(buf);
    if (e == ENV_EXIT_FORMAT) {
        complain(err, "%s was written by a newer version", path);
    } else if (e == ENV_EXIT_DAMAGE) {
        complain(err, "%s is damaged: wipe the folder and let the node join anew", path);
    } else if (e != 0) {
        complain(err, "cannot read %s: %s", path, strerror(-e));
    }
    return e;
}

static int begin_life(struct env *env, const char *dir, uint32_t node_id, struct identity *out, char *err)
{
    memset(out, 0, sizeof *out);
    int e = identity_load(env, dir, out, err);
    if (e == -ENOENT) {
        bool lanes = false;
        e = env_dir_list(env, dir, lane_found, &lanes);
        if (e != 0 || lanes) {
            complain(err, "%s has data but no identity file", dir);
            return e != 0 ? e : ENV_EXIT_IDENTITY;
        }
        out->node_id = node_id;
        out->last_end = IDENTITY_CLEAN;
    } else if (e != 0) {
        return e;
    }
    if (out->node_id != node_id) {
        complain(err, "%s belongs to node %u, not to node %u", dir, out->node_id, node_id);
        return ENV_EXIT_IDENTITY;
    }
    out->incarnation++;
    out->life = env_random_u64(env) | 1; /* 0 means unknown */
    out->end = IDENTITY_RUNNING;
    e = identity_save(env, dir, out);
    if (e != 0) {
        complain(err, "cannot write %s/identity: %s", dir, strerror(-e));
    }
    return e;
}

int identity_open(struct env *env, const char *dir, uint32_t node_id, struct identity *out, char err[256])
{
    err[0] = '\0';
    if (strlen(dir) >= PATH_BYTES - 32) {
        complain(err, "the data folder's name is too long");
        return -ENAMETOOLONG;
    }
    int e = env_mkdir(env, dir);
    if (e != 0) {
        complain(err, "cannot make %s: %s", dir, strerror(-e));
        return e;
    }
    char path[PATH_BYTES];
    snprintf(path, sizeof path, "%s", dir);
    char *slash = strrchr(path, '/');
    if (slash == NULL || slash == path) {
        snprintf(path, sizeof path, "%s", slash != NULL ? "/" : ".");
    } else {
        *slash = '\0';
    }
    e = env_dir_sync(env, path); /* or the folder itself may be gone after a power cut */
    if (e != 0) {
        complain(err, "cannot sync %s: %s", path, strerror(-e));
        return e;
    }
    snprintf(path, sizeof path, "%s/lock", dir);
    struct env_file *lock;
    e = env_lock(env, path, &lock);
    if (e != 0) {
        complain(err, e == -EWOULDBLOCK ? "%s is locked: another process uses the data folder" : "cannot lock %s: %s", path, strerror(-e));
        return e == -EWOULDBLOCK ? ENV_EXIT_LOCKED : e;
    }
    e = begin_life(env, dir, node_id, out, err);
    if (e != 0) {
        env_file_close(env, lock);
        lock = NULL;
    }
    out->lock = lock;
    return e;
}

void identity_close(struct env *env, struct identity *id)
{
    if (id->lock != NULL) {
        env_file_close(env, id->lock);
        id->lock = NULL;
    }
}
