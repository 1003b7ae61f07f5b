/* identity.h: who a data folder belongs to: cluster, node, life.
 *
 * File DIR/identity (written beside and renamed, so there is always a whole one): cluster id, node id, incarnation (rises by 1 at every start, durable before anything
 * else happens), lanes, whether the last life ended cleanly or by an I/O error. DIR/lock keeps a second process out. */
#ifndef SLUICE_IDENTITY_H
#define SLUICE_IDENTITY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "storage/env.h"

enum identity_end { IDENTITY_RUNNING = 0, IDENTITY_CLEAN = 1, IDENTITY_IO_ERROR = 2 };

struct identity {
    uint8_t cluster_id[16];   /* zero until formed */
    uint32_t node_id;
    uint64_t incarnation;
    uint64_t life;            /* a random number of this start, not stored: tells two starts of the same incarnation apart, as a folder that was put back makes them */
    uint32_t lanes;           /* lanes that have a journal here */
    enum identity_end last_end; /* of the life before; out only */
    enum identity_end end;    /* of this life: RUNNING from identity_open() on; set it and save to note how it ends */
    bool formed;
    struct env_file *lock;    /* held until identity_close() */
};

/* Takes the lock, reads or creates the folder's identity and starts a new life (incarnation + 1, durable). node_id: as configured; a folder of
 * another node is refused. 0, -errno or a positive enum env_exit with a message. */
int identity_open(struct env *env, const char *dir, uint32_t node_id, struct identity *out, char err[256]);
/* Durable change of cluster id / lanes / end note. 0 or -errno. */
int identity_save(struct env *env, const char *dir, const struct identity *id);
/* Gives the lock back (as the end of the process does). */
void identity_close(struct env *env, struct identity *id);

/* ---- bytes (4096: magic, version, checksum; storage/README.md) ---- */
enum { IDENTITY_BYTES = 4096 };
void identity_encode(uint8_t buf[IDENTITY_BYTES], const struct identity *id);
/* 0, ENV_EXIT_FORMAT (a newer version) or ENV_EXIT_DAMAGE. The stored end goes to id->last_end. */
int identity_decode(const uint8_t *buf, size_t len, struct identity *id);

#endif
