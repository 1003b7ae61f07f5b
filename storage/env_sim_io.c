/* The file functions of env.h over a simulated disk: handles, locks, queues with latency, injected errors.
 *
 * An asynchronous request takes effect when its completion is delivered. What a crash finds in the queues was cut off at a point
 * chosen by chance: the first requests of each queue had happened though nobody was told, the next one partly, the rest not. */
#include "env_sim_impl.h"

#include <stdlib.h>

static struct sim_store *store_of(const struct sim_loop *l) { return &l->proc->host->store; }

/* From the moment a process is to die, its code reaches nothing any more. */
static bool dying(const struct sim_loop *l) { return l->proc->dying || l->proc->dead; }

/* ---- handles ------------------------------------------------------------------------------------------------------- */

static struct env_file *file_new(struct sim_loop *l, struct sim_inode *n, unsigned flags)
{
    struct env_file *f = xcalloc(1, sizeof *f);
    f->proc = l->proc;
    f->inode = n;
    f->flags = flags;
    sim_inode_ref(n);
    n->opens++;
    sim_inode_charge(n);
    f->next = l->proc->files;
    if (f->next != NULL) {
        f->next->prev = f;
    }
    l->proc->files = f;
    return f;
}

void sim_file_drop(struct env_file *f)
{
    struct sim_inode *n = f->inode;
    if (n->locked_by == f) {
        n->locked_by = NULL;
    }
    n->opens--;
    sim_inode_charge(n);
    sim_inode_unref(n);
    *(f->prev != NULL ? &f->prev->next : &f->proc->files) = f->next;
    if (f->next != NULL) {
        f->next->prev = f->prev;
    }
    free(f);
}

static int open_inode(struct sim_loop *l, const char *path, unsigned flags, struct sim_inode **out)
{
    if (dying(l)) {
        return -EIO;
    }
    char normal[SIM_PATH_MAX];
    int rv = sim_path_normal(normal, path);
    if (rv != 0) {
        return rv;
    }
    struct sim_name *name = sim_store_find(store_of(l), normal);
    if (name == NULL || name->visible == NULL) {
        return (flags & ENV_OPEN_CREATE) == 0 ? -ENOENT : sim_store_create(store_of(l), normal, false, out);
    }
    if ((flags & ENV_OPEN_CREATE) && (flags & ENV_OPEN_EXCL)) {
        return -EEXIST;
    }
    *out = name->visible;
    return (*out)->dir ? -EISDIR : 0;
}

int sim_file_open(struct env *e, const char *path, unsigned flags, struct env_file **out)
{
    struct sim_loop *l = sim_loop_of(e);
    struct sim_inode *n;
    int rv = open_inode(l, path, flags, &n);
    if (rv == 0) {
        *out = file_new(l, n, flags);
    }
    return rv;
}

int sim_lock(struct env *e, const char *path, struct env_file **out)
{
    struct sim_loop *l = sim_loop_of(e);
    struct sim_inode *n;
    int rv = open_inode(l, path, ENV_OPEN_READ | ENV_OPEN_WRITE | ENV_OPEN_CREATE, &n);
    if (rv != 0) {
        return rv;
    }
    if (n->locked_by != NULL) {
        return -EWOULDBLOCK;
    }
    *out = file_new(l, n, ENV_OPEN_READ | ENV_OPEN_WRITE);
    n->locked_by = *out;
    return 0;
}

void sim_file_close(struct env *e, struct env_file *f)
{
    struct sim_loop *l = sim_loop_of(e);
    if (l->proc->dead) {
        return;
    }
    if (f->in_flight > 0) {
        f->closed = true;
    } else {
        sim_file_drop(f);
    }
}

/* ---- reading and writing ------------------------------------------------------------------------------------------- */

static bool misaligned(const struct env_file *f, const void *buf, size_t n, uint64_t pos)
{
    return (f->flags & ENV_OPEN_DIRECT) != 0 && ((uintptr_t)buf | n | pos) % SIM_PAGE != 0;
}

/* The rest of the file's unsynced data is gone too: the system marks pages clean after a failed write-back. */
static int write_failed(struct env_file *f)
{
    struct sim *s = f->proc->sim;
    if (!sim_rng_chance(&s->rng, f->inode->store->opt.write_error_ppm)) {
        return 0;
    }
    sim_inode_lose(f->inode);
    return -EIO;
}

static ssize_t read_part(struct env_file *f, void *buf, size_t n, uint64_t pos)
{
    struct sim *s = f->proc->sim;
    const struct sim_disk *o = &f->inode->store->opt;
    if (misaligned(f, buf, n, pos)) {
        return -EINVAL;
    }
    if (sim_rng_chance(&s->rng, o->read_error_ppm)) {
        return -EIO;
    }
    size_t got = sim_inode_read(f->inode, buf, n, pos, (f->flags & ENV_OPEN_DIRECT) != 0);
    if (got > 0 && sim_rng_chance(&s->rng, o->flip_ppm)) {
        uint64_t bit = sim_rng_below(&s->rng, (uint64_t)got * 8);
        ((uint8_t *)buf)[bit / 8] ^= (uint8_t)(1u << (bit % 8));
    }
    return (ssize_t)got;
}

static int write_part(struct env_file *f, const void *buf, size_t n, uint64_t pos)
{
    if ((f->flags & ENV_OPEN_WRITE) == 0) {
        return -EBADF;
    }
    if (misaligned(f, buf, n, pos)) {
        return -EINVAL;
    }
    return sim_inode_write(f->inode, buf, n, pos);
}

static int sync_file(struct env_file *f)
{
    int rv = write_failed(f);
    if (rv == 0) {
        sim_inode_sync(f->inode);
    }
    return rv;
}

int64_t sim_file_size(struct env *e, struct env_file *f)
{
    (void)sim_loop_of(e);
    return (int64_t)f->inode->size;
}

int64_t sim_file_allocated(struct env *e, struct env_file *f)
{
    (void)sim_loop_of(e);
    return (int64_t)f->inode->charged;
}

ssize_t sim_file_pread(struct env *e, struct env_file *f, void *buf, size_t n, uint64_t pos)
{
    return dying(sim_loop_of(e)) ? -EIO : read_part(f, buf, n, pos);
}

int sim_file_pwrite(struct env *e, struct env_file *f, const void *buf, size_t n, uint64_t pos)
{
    if (dying(sim_loop_of(e))) {
        return -EIO;
    }
    int rv = write_part(f, buf, n, pos);
    return rv != 0 ? rv : write_failed(f);
}

int sim_file_sync(struct env *e, struct env_file *f) { return dying(sim_loop_of(e)) ? -EIO : sync_file(f); }

int sim_file_truncate(struct env *e, struct env_file *f, uint64_t size)
{
    if (dying(sim_loop_of(e))) {
        return -EIO;
    }
    if ((f->flags & ENV_OPEN_WRITE) == 0) {
        return -EBADF;
    }
    return sim_inode_truncate(f->inode, size);
}

/* ---- names --------------------------------------------------------------------------------------------------------- */

int sim_mkdir(struct env *e, const char *path)
{
    struct sim_loop *l = sim_loop_of(e);
    char normal[SIM_PATH_MAX];
    int rv = dying(l) ? -EIO : sim_path_normal(normal, path);
    if (rv != 0 || normal[0] == '\0') {
        return rv;
    }
    const struct sim_name *name = sim_store_find(store_of(l), normal);
    if (name != NULL && name->visible != NULL) {
        return name->visible->dir ? 0 : -EEXIST;
    }
    return sim_store_create(store_of(l), normal, true, NULL);
}

int sim_dir_list(struct env *e, const char *path, env_dir_cb cb, void *arg)
{
    return sim_store_list(store_of(sim_loop_of(e)), path, false, cb, arg);
}

int sim_dir_sync(struct env *e, const char *path)
{
    struct sim_loop *l = sim_loop_of(e);
    return dying(l) ? -EIO : sim_store_dir_sync(store_of(l), path);
}

int sim_rename(struct env *e, const char *from, const char *to)
{
    struct sim_loop *l = sim_loop_of(e);
    return dying(l) ? -EIO : sim_store_rename(store_of(l), from, to);
}

int sim_unlink(struct env *e, const char *path)
{
    struct sim_loop *l = sim_loop_of(e);
    return dying(l) ? -EIO : sim_store_unlink(store_of(l), path);
}

int sim_disk_free(struct env *e, const char *path, uint64_t *bytes)
{
    (void)path;
    const struct sim_store *d = store_of(sim_loop_of(e));
    uint64_t capacity = d->opt.capacity != 0 ? d->opt.capacity : (uint64_t)1 << 40;
    *bytes = capacity > d->used ? capacity - d->used : 0;
    return 0;
}

/* A simulated process has no share of the real one that could be told. */
void sim_usage(struct env *e, struct env_usage *out)
{
    (void)e;
    *out = (struct env_usage){0};
}

/* ---- asynchronous requests ----------------------------------------------------------------------------------------- */

static uint64_t latency(struct sim *s, const struct sim_disk *o, enum env_io_op op)
{
    uint64_t ns = 0;
    if (op == ENV_IO_READ) {
        return sim_rng_in(&s->rng, o->read_ns);
    }
    if (op != ENV_IO_SYNC) {
        ns += sim_rng_in(&s->rng, o->write_ns);
    }
    if (op != ENV_IO_WRITE) {
        ns += sim_rng_in(&s->rng, sim_rng_chance(&s->rng, o->slow_ppm) ? o->slow_ns : o->sync_ns);
    }
    return ns;
}

void sim_io_submit(struct env *e, enum env_queue q, struct env_io *io)
{
    struct sim_loop *l = sim_loop_of(e);
    struct sim_queue *queue = &l->queues[q];
    io->env = e;
    io->next = NULL;
    io->impl = queue;
    if (dying(l)) {
        return; /* never happens, never calls back */
    }
    io->file->in_flight++;
    *queue->last = io;
    queue->last = &io->next;
    queue->busy_until = max_u64(queue->busy_until, l->sim->now) + latency(l->sim, &store_of(l)->opt, io->op);
    sim_event_push(l->sim, queue->busy_until, SIM_EV_IO, l, io, (uint64_t)io->op | io->pos << 2);
}

/* Writes at most `limit` bytes of the request. */
static int io_write(struct env_io *io, uint64_t limit)
{
    uint64_t pos = io->pos;
    for (unsigned i = 0; i < io->n_iov && limit > 0; i++) {
        size_t n = (size_t)min_u64(io->iov[i].iov_len, limit);
        int rv = write_part(io->file, io->iov[i].iov_base, n, pos);
        if (rv != 0) {
            return rv;
        }
        io->n_done += n;
        pos += n;
        limit -= n;
    }
    return 0;
}

static int io_read(struct env_io *io)
{
    uint64_t pos = io->pos;
    for (unsigned i = 0; i < io->n_iov; i++) {
        ssize_t n = read_part(io->file, io->iov[i].iov_base, io->iov[i].iov_len, pos);
        if (n < 0) {
            return (int)n;
        }
        io->n_done += (size_t)n;
        pos += (uint64_t)n;
        if ((size_t)n < io->iov[i].iov_len) {
            break;
        }
    }
    return 0;
}

static int io_execute(struct env_io *io)
{
    io->n_done = 0;
    if (io->op == ENV_IO_READ) {
        return io_read(io);
    }
    int rv = 0;
    if (io->op != ENV_IO_SYNC) {
        rv = io_write(io, UINT64_MAX);
    }
    if (rv == 0) {
        rv = io->op == ENV_IO_WRITE ? write_failed(io->file) : sync_file(io->file);
    }
    return rv;
}

static void queue_pop(struct sim_queue *q)
{
    q->first = q->first->next;
    if (q->first == NULL) {
        q->last = &q->first;
    }
}

void sim_io_run(struct sim *s, struct sim_event *ev, bool live)
{
    if (!live) {
        return; /* sim_io_crash() decided */
    }
    struct env_io *io = ev->a;
    struct sim_queue *q = io->impl;
    sluice_assert(q->first == io);
    queue_pop(q);
    io->status = io_execute(io);
    sim_trace_mix(s, (uint64_t)io->status ^ (uint64_t)io->n_done << 16);
    struct env_file *f = io->file;
    f->in_flight--;
    if (f->closed && f->in_flight == 0) {
        sim_file_drop(f);
    }
    io->cb(io);
}

/* Of a request that was cut off, a first part of the write happened and no sync. */
static void io_cut_off(struct env_io *io, struct sim_rng *r)
{
    if (io->op != ENV_IO_WRITE && io->op != ENV_IO_WRITE_SYNC) {
        return;
    }
    uint64_t len = 0;
    for (unsigned i = 0; i < io->n_iov; i++) {
        len += io->iov[i].iov_len;
    }
    uint64_t pages = sim_rng_below(r, len / SIM_PAGE + 2);
    io->n_done = 0;
    (void)io_write(io, pages * SIM_PAGE);
}

void sim_io_crash(struct sim_loop *l)
{
    struct sim *s = l->sim;
    for (unsigned i = 0; i < ENV_QUEUES; i++) {
        struct sim_queue *q = &l->queues[i];
        uint64_t n = 0;
        for (const struct env_io *io = q->first; io != NULL; io = io->next) {
            n++;
        }
        uint64_t happened = n == 0 ? 0 : sim_rng_below(&s->rng, n + 1);
        for (; q->first != NULL; queue_pop(q)) {
            struct env_io *io = q->first;
            if (happened > 0) {
                happened--;
                if (io->op != ENV_IO_READ) {
                    (void)io_execute(io);
                }
            } else if (sim_rng_below(&s->rng, 2) == 0) {
                io_cut_off(io, &s->rng);
                break;
            } else {
                break;
            }
        }
        q->first = NULL;
        q->last = &q->first;
    }
}

/* ---- jobs ---------------------------------------------------------------------------------------------------------- */

void sim_job_submit(struct env *e, enum env_queue q, struct env_job *j)
{
    struct sim_loop *l = sim_loop_of(e);
    struct sim *s = l->sim;
    struct sim_queue *queue = &l->queues[q];
    j->env = e;
    if (dying(l)) {
        return;
    }
    const struct sim_disk *o = &store_of(l)->opt;
    uint64_t work = max_u64(queue->busy_until, s->now) + sim_rng_in(&s->rng, q == ENV_QUEUE_READ ? o->read_ns : o->write_ns);
    queue->busy_until = work + sim_rng_below(&s->rng, 5000);
    sim_event_push(s, work, SIM_EV_JOB_WORK, l, j, q);
    sim_event_push(s, queue->busy_until, SIM_EV_JOB_DONE, l, j, q);
}

void sim_job_work_run(struct sim *s, struct sim_event *ev, bool live)
{
    (void)s;
    struct env_job *j = ev->a;
    if (live) {
        j->work(j);
    }
}

void sim_job_done_run(struct sim *s, struct sim_event *ev, bool live)
{
    (void)s;
    struct env_job *j = ev->a;
    if (live) {
        j->cb(j);
    }
}
