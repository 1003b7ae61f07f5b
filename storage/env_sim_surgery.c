/* What drivers do to disks from outside: damage, wipe, copy, put back, look. */
#include "env_sim_impl.h"

#include <stdlib.h>

struct sim_disk_copy {
    struct sim_store store;
};

static struct sim_inode *find_visible(struct sim_host *h, const char *path)
{
    char normal[SIM_PATH_MAX];
    if (sim_path_normal(normal, path) != 0) {
        return NULL;
    }
    const struct sim_name *name = sim_store_find(&h->store, normal);
    return name == NULL || name->visible == NULL || name->visible->dir ? NULL : name->visible;
}

static struct sim_inode *find_durable(struct sim_host *h, const char *path)
{
    char normal[SIM_PATH_MAX];
    if (sim_path_normal(normal, path) != 0) {
        return NULL;
    }
    const struct sim_name *name = sim_store_find(&h->store, normal);
    return name == NULL || name->durable == NULL || name->durable->dir ? NULL : name->durable;
}

int sim_disk_flip_bit(struct sim_host *h, const char *path, uint64_t bit)
{
    struct sim_inode *n = find_visible(h, path);
    if (n == NULL) {
        return -ENOENT;
    }
    if (bit / 8 >= n->size) {
        return -EINVAL;
    }
    sim_inode_damage(n, bit / 8, 0xff, (uint8_t)(1u << (bit % 8)));
    return 0;
}

int sim_disk_zero(struct sim_host *h, const char *path, uint64_t pos, uint64_t len)
{
    struct sim_inode *n = find_visible(h, path);
    if (n == NULL) {
        return -ENOENT;
    }
    if (pos > n->size || len > n->size - pos) {
        return -EINVAL;
    }
    for (uint64_t i = 0; i < len; i++) {
        sim_inode_damage(n, pos + i, 0, 0);
    }
    return 0;
}

void sim_disk_wipe(struct sim_host *h)
{
    sluice_assert(h->proc == NULL);
    sim_store_clear(&h->store);
}

static void copy_durable(struct sim_store *to, const struct sim_store *from)
{
    for (size_t i = 0; i < from->n_names; i++) {
        const struct sim_name *name = from->names[i];
        if (name->durable != NULL) {
            struct sim_inode *n = sim_inode_clone_durable(to, name->durable);
            struct sim_name *copy = sim_store_name(to, name->path);
            sim_name_set(&copy->durable, n, false);
            sim_name_set(&copy->visible, n, true);
        }
    }
}

struct sim_disk_copy *sim_disk_copy(struct sim_host *h)
{
    struct sim_disk_copy *c = xcalloc(1, sizeof *c);
    sim_store_init(&c->store, h->sim, &h->store.opt);
    copy_durable(&c->store, &h->store);
    return c;
}

void sim_disk_restore(struct sim_host *h, struct sim_disk_copy *c)
{
    sim_disk_wipe(h);
    copy_durable(&h->store, &c->store);
}

void sim_disk_copy_free(struct sim_disk_copy *c)
{
    if (c != NULL) {
        sim_store_clear(&c->store);
        free(c);
    }
}

int64_t sim_disk_size(struct sim_host *h, const char *path)
{
    const struct sim_inode *n = find_durable(h, path);
    return n == NULL ? -ENOENT : (int64_t)n->durable_size;
}

ssize_t sim_disk_read(struct sim_host *h, const char *path, void *buf, size_t n, uint64_t pos)
{
    const struct sim_inode *inode = find_durable(h, path);
    return inode == NULL ? -ENOENT : (ssize_t)sim_inode_read_durable(inode, buf, n, pos);
}
