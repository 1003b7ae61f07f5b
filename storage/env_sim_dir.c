/* Names of simulated files.
 *
 * A path has a visible file and a durable one. A change of a name (create, remove, rename) is visible at once and kept in a list
 * until its folder is synced; a power cut keeps each change of the list or not, a rename as a whole. Syncing a file does not sync
 * its name. */
#include "env_sim_impl.h"

#include <stdlib.h>

/* ---- paths --------------------------------------------------------------------------------------------------------- */

int sim_path_normal(char *out, const char *path)
{
    size_t n = 0;
    for (const char *p = path; *p != '\0';) {
        while (*p == '/') {
            p++;
        }
        size_t len = strcspn(p, "/");
        if (len == 0 || (len == 1 && p[0] == '.')) {
            p += len;
            continue;
        }
        sluice_assert(!(len == 2 && p[0] == '.' && p[1] == '.'));
        if (n + len + 2 > SIM_PATH_MAX) {
            return -ENAMETOOLONG;
        }
        out[n++] = '/';
        memcpy(out + n, p, len);
        n += len;
        p += len;
    }
    out[n] = '\0';
    return 0;
}

static size_t parent_len(const char *normal) { return (size_t)(strrchr(normal, '/') - normal); }

static bool parent_is(const char *normal, const char *dir)
{
    size_t n = strlen(dir);
    return parent_len(normal) == n && memcmp(normal, dir, n) == 0;
}

/* ---- the table of names -------------------------------------------------------------------------------------------- */

static size_t lower_bound(const struct sim_store *d, const char *normal)
{
    size_t low = 0;
    size_t high = d->n_names;
    while (low < high) {
        size_t mid = (low + high) / 2;
        if (strcmp(d->names[mid]->path, normal) < 0) {
            low = mid + 1;
        } else {
            high = mid;
        }
    }
    return low;
}

struct sim_name *sim_store_find(struct sim_store *d, const char *normal)
{
    size_t i = lower_bound(d, normal);
    return i < d->n_names && strcmp(d->names[i]->path, normal) == 0 ? d->names[i] : NULL;
}

struct sim_name *sim_store_name(struct sim_store *d, const char *normal)
{
    size_t i = lower_bound(d, normal);
    if (i < d->n_names && strcmp(d->names[i]->path, normal) == 0) {
        return d->names[i];
    }
    if (d->n_names == d->cap_names) {
        d->cap_names = d->cap_names == 0 ? 32 : d->cap_names * 2;
        d->names = xrealloc(d->names, d->cap_names * sizeof(struct sim_name *));
    }
    memmove(d->names + i + 1, d->names + i, (d->n_names - i) * sizeof(struct sim_name *));
    d->n_names++;
    d->names[i] = xcalloc(1, sizeof(struct sim_name));
    d->names[i]->path = xstrdup(normal);
    return d->names[i];
}

void sim_name_set(struct sim_inode **slot, struct sim_inode *n, bool visible)
{
    struct sim_inode *before = *slot;
    if (n != NULL) {
        sim_inode_ref(n);
        n->names += visible;
        sim_inode_charge(n);
    }
    *slot = n;
    if (before != NULL) {
        before->names -= visible;
        sim_inode_charge(before);
        sim_inode_unref(before);
    }
}

/* Forgets entries that are neither visible nor durable. */
static void sweep(struct sim_store *d)
{
    size_t kept = 0;
    for (size_t i = 0; i < d->n_names; i++) {
        struct sim_name *name = d->names[i];
        if (name->visible != NULL || name->durable != NULL) {
            d->names[kept++] = name;
        } else {
            free(name->path);
            free(name);
        }
    }
    d->n_names = kept;
}

static bool dir_exists(struct sim_store *d, const char *normal, size_t len)
{
    if (len == 0) {
        return true;
    }
    char dir[SIM_PATH_MAX];
    memcpy(dir, normal, len);
    dir[len] = '\0';
    const struct sim_name *name = sim_store_find(d, dir);
    return name != NULL && name->visible != NULL && name->visible->dir;
}

void sim_store_init(struct sim_store *d, struct sim *s, const struct sim_disk *opt)
{
    *d = (struct sim_store){ .sim = s, .opt = *opt };
    d->ops_tail = &d->ops;
}

/* ---- changes not yet synced ---------------------------------------------------------------------------------------- */

static void op_add(struct sim_store *d, enum sim_name_op_kind kind, const char *path, const char *to, struct sim_inode *n)
{
    struct sim_name_op *op = xcalloc(1, sizeof *op);
    op->kind = kind;
    op->path = xstrdup(path);
    op->to = to == NULL ? NULL : xstrdup(to);
    op->inode = n;
    sim_inode_ref(n);
    *d->ops_tail = op;
    d->ops_tail = &op->next;
}

/* Takes the operation at *at out of the list. */
static void op_remove(struct sim_store *d, struct sim_name_op **at)
{
    struct sim_name_op *op = *at;
    *at = op->next;
    if (d->ops_tail == &op->next) {
        d->ops_tail = at;
    }
    sim_inode_unref(op->inode);
    free(op->path);
    free(op->to);
    free(op);
}

static void op_apply(struct sim_store *d, const struct sim_name_op *op)
{
    struct sim_name *name = sim_store_name(d, op->path);
    if (op->kind == SIM_NAME_LINK) {
        sim_name_set(&name->durable, op->inode, false);
        return;
    }
    if (name->durable == op->inode) {
        sim_name_set(&name->durable, NULL, false);
    }
    if (op->kind == SIM_NAME_RENAME) {
        sim_name_set(&sim_store_name(d, op->to)->durable, op->inode, false);
    }
}

int sim_store_dir_sync(struct sim_store *d, const char *path)
{
    char normal[SIM_PATH_MAX];
    int rv = sim_path_normal(normal, path);
    if (rv != 0) {
        return rv;
    }
    if (!dir_exists(d, normal, strlen(normal))) {
        return -ENOENT;
    }
    for (struct sim_name_op **at = &d->ops; *at != NULL;) {
        struct sim_name_op *op = *at;
        if (parent_is(op->path, normal) || (op->to != NULL && parent_is(op->to, normal))) {
            op_apply(d, op);
            op_remove(d, at);
        } else {
            at = &op->next;
        }
    }
    sweep(d);
    return 0;
}

void sim_store_power_cut(struct sim_store *d, struct sim_rng *r)
{
    static const unsigned keep[3] = { 0, 4, 2 };
    unsigned keep_of_4 = keep[sim_rng_below(r, 3)];
    while (d->ops != NULL) {
        if (sim_rng_below(r, 4) < keep_of_4) {
            op_apply(d, d->ops);
        }
        op_remove(d, &d->ops);
    }
    /* Parents sort before their children: what lies in a folder whose own name was lost is lost. */
    for (size_t i = 0; i < d->n_names; i++) {
        struct sim_name *name = d->names[i];
        sim_name_set(&name->visible, NULL, true);
        if (name->durable != NULL && !dir_exists(d, name->path, parent_len(name->path))) {
            sim_name_set(&name->durable, NULL, false);
        }
        if (name->durable != NULL) {
            sim_name_set(&name->visible, name->durable, true);
        }
    }
    sweep(d);
    for (struct sim_inode *n = d->first; n != NULL; n = n->next) {
        sim_inode_power_cut(n, r);
    }
}

void sim_store_clear(struct sim_store *d)
{
    while (d->ops != NULL) {
        op_remove(d, &d->ops);
    }
    for (size_t i = 0; i < d->n_names; i++) {
        sim_name_set(&d->names[i]->visible, NULL, true);
        sim_name_set(&d->names[i]->durable, NULL, false);
    }
    sweep(d);
    free(d->names);
    d->names = NULL;
    d->cap_names = 0;
}

/* ---- what processes do --------------------------------------------------------------------------------------------- */

int sim_store_create(struct sim_store *d, const char *normal, bool dir, struct sim_inode **out)
{
    if (normal[0] == '\0') {
        return -EISDIR;
    }
    if (!dir_exists(d, normal, parent_len(normal))) {
        return -ENOENT;
    }
    if (d->opt.capacity != 0 && d->used + SIM_PAGE > d->opt.capacity) {
        return -ENOSPC;
    }
    struct sim_inode *n = sim_inode_new(d, dir);
    sim_name_set(&sim_store_name(d, normal)->visible, n, true);
    op_add(d, SIM_NAME_LINK, normal, NULL, n);
    if (out != NULL) {
        *out = n;
    }
    return 0;
}

static int find_file(struct sim_store *d, const char *path, char *normal, struct sim_name **out)
{
    int rv = sim_path_normal(normal, path);
    if (rv != 0) {
        return rv;
    }
    *out = normal[0] == '\0' ? NULL : sim_store_find(d, normal);
    if (*out == NULL || (*out)->visible == NULL) {
        return -ENOENT;
    }
    return (*out)->visible->dir ? -EISDIR : 0;
}

int sim_store_rename(struct sim_store *d, const char *from, const char *to)
{
    char a[SIM_PATH_MAX];
    char b[SIM_PATH_MAX];
    struct sim_name *name;
    int rv = find_file(d, from, a, &name);
    if (rv == 0) {
        rv = sim_path_normal(b, to);
    }
    if (rv != 0) {
        return rv;
    }
    if (b[0] == '\0') {
        return -EISDIR;
    }
    if (!dir_exists(d, b, parent_len(b))) {
        return -ENOENT;
    }
    struct sim_name *target = sim_store_name(d, b);
    if (target->visible != NULL && target->visible->dir) {
        return -EISDIR;
    }
    if (target == name) {
        return 0;
    }
    struct sim_inode *n = name->visible;
    op_add(d, SIM_NAME_RENAME, a, b, n);
    sim_name_set(&target->visible, n, true);
    sim_name_set(&name->visible, NULL, true);
    return 0;
}

int sim_store_unlink(struct sim_store *d, const char *path)
{
    char normal[SIM_PATH_MAX];
    struct sim_name *name;
    int rv = find_file(d, path, normal, &name);
    if (rv != 0) {
        return rv;
    }
    op_add(d, SIM_NAME_UNLINK, normal, NULL, name->visible);
    sim_name_set(&name->visible, NULL, true);
    return 0;
}

int sim_store_list(struct sim_store *d, const char *path, bool durable, env_dir_cb cb, void *arg)
{
    char normal[SIM_PATH_MAX];
    int rv = sim_path_normal(normal, path);
    if (rv != 0) {
        return rv;
    }
    const struct sim_name *self = normal[0] == '\0' ? NULL : sim_store_find(d, normal);
    const struct sim_inode *inode = self == NULL ? NULL : durable ? self->durable : self->visible;
    if (normal[0] != '\0' && inode == NULL) {
        return -ENOENT;
    }
    if (inode != NULL && !inode->dir) {
        return -ENOTDIR;
    }
    /* Names first, callbacks after: a callback may create and remove. */
    char **found = NULL;
    size_t n = 0;
    for (size_t i = 0; i < d->n_names; i++) {
        const struct sim_name *name = d->names[i];
        if ((durable ? name->durable : name->visible) != NULL && parent_is(name->path, normal)) {
            found = xrealloc(found, (n + 1) * sizeof *found);
            found[n++] = xstrdup(name->path + parent_len(name->path) + 1);
        }
    }
    for (size_t i = 0; i < n; i++) {
        cb(arg, found[i]);
        free(found[i]);
    }
    free(found);
    return 0;
}
