/* What is to be sent (see http_impl.h).
 *
 * Normal course: protocols append to `building`: small things by copy, into blocks that are used again and again, bodies by reference. At the end of the turn, if
 * no write is under way, `building` becomes `flying` and goes out as one write (conn.c). When that is done each body that has no further reference joins the
 * server's list, and its release function runs from there, so never inside a call of its owner. */
#include <stdlib.h>
#include <string.h>

#include "proto/base.h"
#include "server/http/http_impl.h"

enum { BLOCK_BYTES = 4096, SPARE_BLOCKS_MAX = 64, KEEP_IOV = 64 };

/* ---- bodies ---- */

struct out_body *out_body_new(struct request *r, const struct http_bytes *bytes)
{
    struct out_body *b = xcalloc(1, sizeof *b + bytes->n_iov * sizeof b->iov[0]);
    b->server = r->pub.server;
    b->req = r;
    r->refs++;
    b->refs = 1;
    b->release = bytes->release;
    b->arg = bytes->arg;
    for (unsigned i = 0; i < bytes->n_iov; i++) {
        if (bytes->iov[i].iov_len > 0) {
            b->iov[b->n_iov++] = bytes->iov[i];
            b->total += bytes->iov[i].iov_len;
        }
    }
    b->left = b->total;
    r->queued += b->total;
    b->server->counters.memory_bytes += b->total;
    if (r->conn != NULL) {
        r->conn->memory += b->total;
    }
    return b;
}

void out_body_unref(struct out_body *b)
{
    sluice_assert(b->refs > 0);
    if (--b->refs > 0) {
        return;
    }
    struct http_server *s = b->server;
    b->next = NULL;
    *s->released_end = b;
    s->released_end = &b->next;
    server_defer(s);
}

void out_release_all(struct http_server *s)
{
    while (s->released != NULL) {
        struct out_body *b = s->released;
        s->released = b->next;
        if (s->released == NULL) {
            s->released_end = &s->released;
        }
        struct request *r = b->req;
        s->counters.memory_bytes -= b->total;
        r->queued -= b->total;
        if (r->conn != NULL) {
            r->conn->memory -= b->total;
        }
        if (b->release != NULL) {
            b->release(b->arg);
        }
        free(b);
        if (r->above && r->queued <= s->limits.stream_high_bytes / 2) {
            r->above = false;
            if (r->state == REQUEST_STREAMING && s->o.callbacks.writable != NULL) {
                s->o.callbacks.writable(&r->pub);
            }
        }
        request_unref(r);
    }
}

/* ---- batches ---- */

static void batch_iov(struct out_batch *b, const void *p, size_t n)
{
    if (b->n_iov > 0 && (char *)b->iov[b->n_iov - 1].iov_base + b->iov[b->n_iov - 1].iov_len == p) {
        b->iov[b->n_iov - 1].iov_len += n; /* goes on where the last one ended: neighbours in a block */
    } else {
        if (b->n_iov == b->cap_iov) {
            b->cap_iov = b->cap_iov > 0 ? b->cap_iov * 2 : 8;
            b->iov = xrealloc(b->iov, b->cap_iov * sizeof *b->iov);
        }
        b->iov[b->n_iov++] = (struct iovec){.iov_base = (void *)(uintptr_t)p, .iov_len = n};
    }
    b->bytes += n;
}

static struct out_block *block_new(struct http_server *s, size_t n)
{
    struct out_block *block = s->blocks;
    if (n <= BLOCK_BYTES && block != NULL) {
        s->blocks = block->next;
        s->n_blocks--;
    } else {
        size_t cap = n > BLOCK_BYTES ? n : BLOCK_BYTES;
        block = xmalloc(sizeof *block + cap);
        block->cap = cap;
    }
    block->used = 0;
    block->next = NULL;
    return block;
}

char *out_reserve(struct conn *c, size_t n)
{
    struct out_batch *b = &c->building;
    if (b->blocks == NULL || b->blocks->cap - b->blocks->used < n) {
        struct out_block *block = block_new(c->server, n);
        block->next = b->blocks;
        b->blocks = block;
    }
    return b->blocks->data + b->blocks->used;
}

void out_commit(struct conn *c, size_t n)
{
    struct out_batch *b = &c->building;
    if (n > 0) {
        sluice_assert(b->blocks != NULL && b->blocks->cap - b->blocks->used >= n);
        batch_iov(b, b->blocks->data + b->blocks->used, n);
        b->blocks->used += n;
    }
}

void out_copy(struct conn *c, const void *p, size_t n)
{
    while (n > 0) {
        size_t part = min_u64(n, BLOCK_BYTES);
        memcpy(out_reserve(c, part), p, part);
        out_commit(c, part);
        p = (const char *)p + part;
        n -= part;
    }
}

void out_refer(struct conn *c, struct out_body *body, size_t n)
{
    struct out_batch *b = &c->building;
    sluice_assert(n <= body->left);
    if (b->n_bodies == 0 || b->bodies[b->n_bodies - 1] != body) {
        if (b->n_bodies == b->cap_bodies) {
            b->cap_bodies = b->cap_bodies > 0 ? b->cap_bodies * 2 : 4;
            b->bodies = xrealloc(b->bodies, b->cap_bodies * sizeof(struct out_body *));
        }
        b->bodies[b->n_bodies++] = body;
        body->refs++;
    }
    body->left -= n;
    while (n > 0) {
        const struct iovec *iov = &body->iov[body->at];
        size_t part = min_u64(iov->iov_len - body->at_pos, n);
        batch_iov(b, (char *)iov->iov_base + body->at_pos, part);
        n -= part;
        body->at_pos += part;
        if (body->at_pos == iov->iov_len) {
            body->at++;
            body->at_pos = 0;
        }
    }
}

void out_batch_clear(struct http_server *s, struct out_batch *b)
{
    for (unsigned i = 0; i < b->n_bodies; i++) {
        out_body_unref(b->bodies[i]);
    }
    while (b->blocks != NULL) {
        struct out_block *block = b->blocks;
        b->blocks = block->next;
        if (block->cap == BLOCK_BYTES && s->n_blocks < SPARE_BLOCKS_MAX) {
            block->next = s->blocks;
            s->blocks = block;
            s->n_blocks++;
        } else {
            free(block);
        }
    }
    b->n_bodies = b->n_iov = 0;
    b->bytes = 0;
    if (b->cap_iov > KEEP_IOV) { /* a thousand idle connections hold little */
        free(b->iov);
        b->iov = NULL;
        b->cap_iov = 0;
    }
}

void out_batch_deinit(struct http_server *s, struct out_batch *b)
{
    out_batch_clear(s, b);
    free(b->iov);
    free(b->bodies);
    *b = (struct out_batch){0};
}
