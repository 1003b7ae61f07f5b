/* Contents of simulated files: what a reader sees and what a power cut leaves.
 *
 * A file is an array of pages, allocated when something other than zeros is written to them. The unit of durability is the
 * sector of 512 bytes: the first write to a clean sector keeps its durable bytes in page->old; a sync forgets them; a power cut
 * decides by chance which of the two versions stays. */
#include "env_sim_impl.h"

#include <stdlib.h>

#define SECTORS (SIM_PAGE / SIM_SECTOR)

/* ---- life ---------------------------------------------------------------------------------------------------------- */

struct sim_inode *sim_inode_new(struct sim_store *d, bool dir)
{
    struct sim_inode *n = xcalloc(1, sizeof *n);
    n->store = d;
    n->dir = dir;
    n->prev = d->last;
    *(d->last != NULL ? &d->last->next : &d->first) = n;
    d->last = n;
    return n;
}

static void page_free(struct sim_page *p)
{
    if (p != NULL) {
        free(p->old);
        free(p);
    }
}

void sim_inode_ref(struct sim_inode *n) { n->refs++; }

void sim_inode_unref(struct sim_inode *n)
{
    sluice_assert(n->refs > 0);
    if (--n->refs > 0) {
        return;
    }
    struct sim_store *d = n->store;
    d->used -= n->charged;
    *(n->prev != NULL ? &n->prev->next : &d->first) = n->next;
    *(n->next != NULL ? &n->next->prev : &d->last) = n->prev;
    for (size_t i = 0; i < n->n_pages; i++) {
        page_free(n->pages[i]);
    }
    free(n->pages);
    free(n->dirty);
    free(n);
}

/* Space counts while a visible name or a handle holds the file; holes count too, which is on the safe side. */
void sim_inode_charge(struct sim_inode *n)
{
    uint64_t charge = n->names > 0 || n->opens > 0 ? ALIGN_UP(n->size, (uint64_t)SIM_PAGE) : 0;
    n->store->used += charge - n->charged;
    n->charged = charge;
}

/* ---- pages --------------------------------------------------------------------------------------------------------- */

static struct sim_page *page_at(const struct sim_inode *n, uint64_t index)
{
    return index < n->n_pages ? n->pages[index] : NULL;
}

static struct sim_page *page_make(struct sim_inode *n, uint64_t index)
{
    if (index >= n->n_pages) {
        size_t count = max_u64(index + 1, n->n_pages + n->n_pages / 2);
        n->pages = xrealloc(n->pages, count * sizeof(struct sim_page *));
        memset(n->pages + n->n_pages, 0, (count - n->n_pages) * sizeof(struct sim_page *));
        n->n_pages = count;
    }
    if (n->pages[index] == NULL) {
        struct sim_page *p = xmalloc(sizeof *p);
        memset(p, 0, sizeof *p);
        p->fresh = true;
        n->pages[index] = p;
    }
    return n->pages[index];
}

static bool is_zero(const uint8_t *p, size_t n)
{
    return n == 0 || (p[0] == 0 && memcmp(p, p + 1, n - 1) == 0);
}

/* Marks the sectors that [off, off + len) of the page touches as dirty, keeping their durable bytes first. */
static void page_dirty(struct sim_inode *n, uint64_t index, struct sim_page *p, size_t off, size_t len)
{
    unsigned first = (unsigned)(off / SIM_SECTOR);
    unsigned last = (unsigned)((off + len - 1) / SIM_SECTOR);
    uint8_t mask = (uint8_t)(((2u << last) - 1) & ~((1u << first) - 1));
    uint8_t clean = mask & (uint8_t) ~(p->dirty | p->lost);
    if (clean != 0 && (p->old != NULL || !p->fresh)) {
        if (p->old == NULL) {
            p->old = xmalloc(SIM_PAGE); /* read only where a bit is set */
        }
        for (unsigned i = first; i <= last; i++) {
            if (clean & (1u << i)) {
                memcpy(p->old + i * SIM_SECTOR, p->data + i * SIM_SECTOR, SIM_SECTOR);
            }
        }
    }
    if (p->dirty == 0) {
        if (n->n_dirty == n->cap_dirty) {
            n->cap_dirty = n->cap_dirty == 0 ? 16 : n->cap_dirty * 2;
            n->dirty = xrealloc(n->dirty, n->cap_dirty * sizeof *n->dirty);
        }
        n->dirty[n->n_dirty++] = (uint32_t)index;
    }
    p->dirty |= mask;
    p->lost &= (uint8_t)~mask;
}

static void write_pages(struct sim_inode *n, const uint8_t *buf, size_t len, uint64_t pos)
{
    while (len > 0) {
        uint64_t index = pos / SIM_PAGE;
        size_t off = (size_t)(pos % SIM_PAGE);
        size_t part = (size_t)min_u64(len, SIM_PAGE - off);
        struct sim_page *p = page_at(n, index);
        /* Zeros over a hole change nothing: files written ahead cost no memory. */
        if (p != NULL || (buf != NULL && !is_zero(buf, part))) {
            p = page_make(n, index);
            page_dirty(n, index, p, off, part);
            if (buf != NULL) {
                memcpy(p->data + off, buf, part);
            } else {
                memset(p->data + off, 0, part);
            }
        }
        buf = buf == NULL ? NULL : buf + part;
        pos += part;
        len -= part;
    }
}

/* ---- reading and writing ------------------------------------------------------------------------------------------- */

static int resize(struct sim_inode *n, uint64_t size)
{
    const struct sim_store *d = n->store;
    uint64_t more = ALIGN_UP(size, (uint64_t)SIM_PAGE) - min_u64(ALIGN_UP(size, (uint64_t)SIM_PAGE), n->charged);
    if (size > n->size && more > 0 && d->opt.capacity != 0 && d->used + more > d->opt.capacity) {
        return -ENOSPC;
    }
    n->size = size;
    sim_inode_charge(n);
    return 0;
}

int sim_inode_write(struct sim_inode *n, const void *buf, size_t len, uint64_t pos)
{
    if (len == 0) {
        return 0;
    }
    if (pos > (uint64_t)INT64_MAX - len || (pos + len) / SIM_PAGE >= UINT32_MAX) {
        return -EFBIG;
    }
    if (pos + len > n->size) {
        int rv = resize(n, pos + len);
        if (rv != 0) {
            return rv;
        }
    }
    write_pages(n, buf, len, pos);
    return 0;
}

static void read_sector_old(const struct sim_page *p, unsigned sector, uint8_t *out, size_t off, size_t len)
{
    if (p->old != NULL) {
        memcpy(out, p->old + sector * SIM_SECTOR + off, len);
    } else {
        memset(out, 0, len);
    }
}

/* Sectors with a bit in `p->dirty & dirty_mask` or `p->lost & lost_mask` are read as they are on the disk. */
static void read_pages(const struct sim_inode *n, uint8_t *out, size_t len, uint64_t pos, uint8_t dirty_mask, uint8_t lost_mask)
{
    while (len > 0) {
        struct sim_page *p = page_at(n, pos / SIM_PAGE);
        size_t off = (size_t)(pos % SIM_PAGE);
        size_t part = (size_t)min_u64(len, SIM_PAGE - off);
        uint8_t old = p == NULL ? 0 : (uint8_t)((p->dirty & dirty_mask) | (p->lost & lost_mask));
        if (p == NULL) {
            memset(out, 0, part);
        } else if (old == 0) {
            memcpy(out, p->data + off, part);
        } else {
            part = (size_t)min_u64(part, SIM_SECTOR - off % SIM_SECTOR);
            unsigned sector = (unsigned)(off / SIM_SECTOR);
            if (old & (1u << sector)) {
                read_sector_old(p, sector, out, off % SIM_SECTOR, part);
            } else {
                memcpy(out, p->data + off, part);
            }
        }
        out += part;
        pos += part;
        len -= part;
    }
}

size_t sim_inode_read(const struct sim_inode *n, void *buf, size_t len, uint64_t pos, bool direct)
{
    if (pos >= n->size) {
        return 0;
    }
    len = (size_t)min_u64(len, n->size - pos);
    /* A direct read makes the system write dirty pages first, so it sees them; it does not see what will never be written. */
    read_pages(n, buf, len, pos, 0, direct ? 0xff : 0);
    return len;
}

size_t sim_inode_read_durable(const struct sim_inode *n, void *buf, size_t len, uint64_t pos)
{
    if (pos >= n->durable_size) {
        return 0;
    }
    len = (size_t)min_u64(len, n->durable_size - pos);
    read_pages(n, buf, len, pos, 0xff, 0xff);
    return len;
}

int sim_inode_truncate(struct sim_inode *n, uint64_t size)
{
    if (size > (uint64_t)INT64_MAX || size / SIM_PAGE >= UINT32_MAX) {
        return -EFBIG;
    }
    uint64_t before = n->size;
    int rv = resize(n, size);
    if (rv == 0 && size < before) {
        write_pages(n, NULL, (size_t)(before - size), size); /* zeros, so that it may come back until the next sync */
    }
    return rv;
}

/* ---- sync, loss, power cut ----------------------------------------------------------------------------------------- */

static void page_settle(struct sim_page *p)
{
    p->dirty = 0;
    if (p->lost == 0) {
        free(p->old);
        p->old = NULL;
    } else if (p->old == NULL) {
        p->old = xcalloc(1, SIM_PAGE);
    }
    p->fresh = false;
}

void sim_inode_sync(struct sim_inode *n)
{
    for (size_t i = 0; i < n->n_dirty; i++) {
        uint32_t index = n->dirty[i];
        struct sim_page *p = n->pages[index];
        page_settle(p);
        if ((uint64_t)index * SIM_PAGE >= n->size && p->lost == 0) {
            page_free(p);
            n->pages[index] = NULL;
        }
    }
    n->n_dirty = 0;
    n->durable_size = n->size;
}

void sim_inode_lose(struct sim_inode *n)
{
    for (size_t i = 0; i < n->n_dirty; i++) {
        struct sim_page *p = n->pages[n->dirty[i]];
        p->lost |= p->dirty;
        p->dirty = 0;
    }
    n->any_lost = n->any_lost || n->n_dirty > 0;
    n->n_dirty = 0;
}

static int compare_u32(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a;
    uint32_t y = *(const uint32_t *)b;
    return x < y ? -1 : x > y;
}

/* The sector holds the new bytes up to a point and then the old ones, or garbage. */
static void tear_sector(uint8_t *data, const uint8_t *old, struct sim_rng *r)
{
    size_t at = (size_t)sim_rng_below(r, SIM_SECTOR);
    if (sim_rng_below(r, 2) == 0) {
        memcpy(data + at, old + at, SIM_SECTOR - at);
        return;
    }
    for (size_t i = at; i < SIM_SECTOR; i++) {
        data[i] = (uint8_t)sim_rng_next(r);
    }
}

static void page_power_cut(struct sim_page *p, unsigned keep_of_4, int torn, struct sim_rng *r)
{
    static const uint8_t zeros[SIM_SECTOR];
    for (unsigned i = 0; i < SECTORS; i++) {
        uint8_t *data = p->data + i * SIM_SECTOR;
        const uint8_t *old = p->old != NULL ? p->old + i * SIM_SECTOR : zeros;
        if (p->lost & (1u << i)) {
            memcpy(data, old, SIM_SECTOR);
        } else if (p->dirty & (1u << i)) {
            if ((int)i == torn) {
                tear_sector(data, old, r);
            } else if (sim_rng_below(r, 4) >= keep_of_4) {
                memcpy(data, old, SIM_SECTOR);
            }
        }
    }
    p->lost = 0;
    page_settle(p);
}

static void size_power_cut(struct sim_inode *n, struct sim_rng *r)
{
    uint64_t low = min_u64(n->size, n->durable_size);
    uint64_t high = max_u64(n->size, n->durable_size);
    uint64_t size = n->size;
    if (low != high) {
        switch (sim_rng_below(r, 3)) {
        case 0: size = n->durable_size; break;
        case 1: break;
        default: size = n->size < n->durable_size ? n->size : min_u64(high, ALIGN_UP(low + sim_rng_below(r, high - low), (uint64_t)SIM_SECTOR));
        }
    }
    for (uint64_t i = size / SIM_PAGE; i < n->n_pages; i++) {
        struct sim_page *p = n->pages[i];
        if (p != NULL && i * SIM_PAGE >= size) {
            page_free(p);
            n->pages[i] = NULL;
        } else if (p != NULL) {
            memset(p->data + size % SIM_PAGE, 0, SIM_PAGE - size % SIM_PAGE);
        }
    }
    n->size = n->durable_size = size;
    sim_inode_charge(n);
}

/* A quarter of the files lose all that was not synced, a quarter keep all, the others keep each sector or not; one sector a file
 * at most is torn. */
void sim_inode_power_cut(struct sim_inode *n, struct sim_rng *r)
{
    if (n->n_dirty > 0) {
        static const unsigned keep[4] = { 0, 4, 2, 3 };
        unsigned keep_of_4 = keep[sim_rng_below(r, 4)];
        size_t torn_page = SIZE_MAX;
        if (sim_rng_below(r, 4) == 0) {
            torn_page = (size_t)sim_rng_below(r, n->n_dirty);
        }
        qsort(n->dirty, n->n_dirty, sizeof *n->dirty, compare_u32);
        for (size_t i = 0; i < n->n_dirty; i++) {
            struct sim_page *p = n->pages[n->dirty[i]];
            page_power_cut(p, keep_of_4, i == torn_page ? __builtin_ctz(p->dirty) : -1, r);
        }
        n->n_dirty = 0;
    }
    if (n->any_lost) {
        for (size_t i = 0; i < n->n_pages; i++) {
            if (n->pages[i] != NULL && n->pages[i]->lost != 0) {
                page_power_cut(n->pages[i], 0, -1, r);
            }
        }
        n->any_lost = false;
    }
    size_power_cut(n, r);
}

/* ---- damage and copies --------------------------------------------------------------------------------------------- */

/* The byte at pos becomes (byte & keep) ^ flip, in the cache and on the disk. */
void sim_inode_damage(struct sim_inode *n, uint64_t pos, uint8_t keep_mask, uint8_t flip_mask)
{
    struct sim_page *p = page_at(n, pos / SIM_PAGE);
    if (p == NULL) {
        if (flip_mask == 0) {
            return;
        }
        p = page_make(n, pos / SIM_PAGE);
        p->fresh = false;
    }
    size_t off = (size_t)(pos % SIM_PAGE);
    uint8_t *data = p->data + off;
    *data = (uint8_t)((*data & keep_mask) ^ flip_mask);
    if ((p->dirty | p->lost) & (1u << (off / SIM_SECTOR)) && p->old != NULL) {
        p->old[off] = (uint8_t)((p->old[off] & keep_mask) ^ flip_mask);
    }
}

struct sim_inode *sim_inode_clone_durable(struct sim_store *d, const struct sim_inode *from)
{
    struct sim_inode *n = sim_inode_new(d, from->dir);
    n->size = n->durable_size = from->durable_size;
    uint8_t page[SIM_PAGE];
    for (uint64_t i = 0; i < from->n_pages && i * SIM_PAGE < n->size; i++) {
        if (from->pages[i] != NULL) {
            size_t len = sim_inode_read_durable(from, page, SIM_PAGE, i * SIM_PAGE);
            if (!is_zero(page, len)) {
                struct sim_page *p = page_make(n, i);
                memcpy(p->data, page, len);
                p->fresh = false;
            }
        }
    }
    return n;
}
