/* Helper threads: a loop hands file requests and jobs to them and gets them back through its inbox, in order per queue.
 *
 * Both directions move whole batches under a lock that is held for a few instructions; a thread is woken only when it had
 * run dry. A helper returns each request when it is done and does not wait for the rest of its batch: the outcome of a
 * flush is what acknowledgements wait for.
 */
#include "storage/env_uv_impl.h"

#include <signal.h>
#include <stdlib.h>

static void env_uv_items_push(struct uv_items *items, struct uv_item item)
{
    if (items->n == items->cap) {
        items->cap = items->cap == 0 ? 64 : items->cap * 2;
        items->v = xrealloc(items->v, items->cap * sizeof(struct uv_item));
    }
    items->v[items->n++] = item;
}

static void hand_back(struct env_uv *e, struct uv_item item)
{
    pthread_mutex_lock(&e->inbox_mutex);
    bool was_empty = e->inbox_done.n == 0 && e->inbox == NULL;
    env_uv_items_push(&e->inbox_done, item);
    pthread_mutex_unlock(&e->inbox_mutex);
    if (was_empty) {
        env_uv_wake(e);
    }
}

static void *helper_main(void *arg)
{
    struct uv_helper *h = arg;
    struct uv_items batch = {0};
    for (;;) {
        pthread_mutex_lock(&h->mutex);
        while (h->todo.n == 0 && !h->stop) {
            h->waiting = true;
            pthread_cond_wait(&h->cond, &h->mutex);
            h->waiting = false;
        }
        struct uv_items swap = h->todo;
        h->todo = batch;
        batch = swap;
        pthread_mutex_unlock(&h->mutex);
        if (batch.n == 0) {
            break; /* stopped, and nothing left to do */
        }
        for (unsigned i = 0; i < batch.n; i++) {
            if (batch.v[i].is_job) {
                struct env_job *j = batch.v[i].req;
                j->work(j);
            } else {
                env_uv_io_execute(batch.v[i].req);
            }
            hand_back(h->e, batch.v[i]);
        }
        batch.n = 0;
    }
    free(batch.v);
    return NULL;
}

static void helper_start(struct uv_helper *h)
{
    static const char *const names[ENV_QUEUES] = {"sluice-sync", "sluice-read", "sluice-bulk"};
    /* Signals are the loops' business. */
    sigset_t all, old;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    int rc = pthread_create(&h->thread, NULL, helper_main, h);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    if (rc != 0) {
        env_fatal(&h->e->env, ENV_EXIT_MEMORY, "cannot start a helper thread");
    }
    pthread_setname_np(h->thread, names[h->queue]);
    h->started = true;
}

static void submit(struct env_uv *e, enum env_queue q, struct uv_item item)
{
    sluice_assert(q < ENV_QUEUES);
    struct uv_helper *h = &e->helpers[q];
    if (!h->started) {
        helper_start(h);
    }
    pthread_mutex_lock(&h->mutex);
    env_uv_items_push(&h->todo, item);
    bool wake = h->waiting;
    pthread_mutex_unlock(&h->mutex);
    if (wake) {
        pthread_cond_signal(&h->cond);
    }
}

void env_uv_io_submit(struct env *env, enum env_queue q, struct env_io *io)
{
    io->env = env;
    io->status = 0;
    io->n_done = 0;
    submit(env_uv_of(env), q, (struct uv_item){.req = io, .is_job = false});
}

void env_uv_job_submit(struct env *env, enum env_queue q, struct env_job *j)
{
    j->env = env;
    submit(env_uv_of(env), q, (struct uv_item){.req = j, .is_job = true});
}

void env_uv_helpers_deliver(struct env_uv *e, struct uv_items *done)
{
    for (unsigned i = 0; i < done->n && !e->closing; i++) {
        if (done->v[i].is_job) {
            struct env_job *j = done->v[i].req;
            j->cb(j);
        } else {
            struct env_io *io = done->v[i].req;
            io->cb(io);
        }
    }
    done->n = 0;
}

void env_uv_helpers_init(struct env_uv *e)
{
    for (unsigned q = 0; q < ENV_QUEUES; q++) {
        struct uv_helper *h = &e->helpers[q];
        h->e = e;
        h->queue = (enum env_queue)q;
        pthread_mutex_init(&h->mutex, NULL);
        pthread_cond_init(&h->cond, NULL);
    }
}

void env_uv_helpers_stop(struct env_uv *e)
{
    for (unsigned q = 0; q < ENV_QUEUES; q++) {
        struct uv_helper *h = &e->helpers[q];
        if (h->started) {
            pthread_mutex_lock(&h->mutex);
            h->stop = true;
            pthread_mutex_unlock(&h->mutex);
            pthread_cond_signal(&h->cond);
            pthread_join(h->thread, NULL);
        }
        free(h->todo.v);
        pthread_mutex_destroy(&h->mutex);
        pthread_cond_destroy(&h->cond);
    }
}
