/* controller_machine.h: the controller's state: pure, deterministic; entries in, state and an answer out.
 *
 * Same entries in the same order give the same state and the same bytes of snapshot on every replica. An entry is checked again when applied,
 * so a proposal that came second loses without harm; a refused entry changes nothing (but the clock). A request id that was answered before answers the same.
 *
 * Generations are issued per group from one counter, for whatever node: so a (group, node, generation) is never given twice (F5). Group ids come from one
 * counter too and are never given twice. */
#ifndef SLUICE_CONTROLLER_MACHINE_H
#define SLUICE_CONTROLLER_MACHINE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "server/cluster_map.h"
#include "server/controller_entry.h"

struct controller_machine;

struct controller_result {
    int code;                /* SLUICE_E_ */
    uint8_t stream_id[16];   /* STREAM_* */
    uint32_t generation;     /* NODE_LIFE: of the node's controller replica */
    uint64_t incarnation;    /* NODE_LIFE: highest known */
};

struct controller_machine *controller_machine_new(void);
void controller_machine_free(struct controller_machine *m);
/* 0; or SLUICE_E_INVALID, _VERSION, _NOT_SUPPORTED for bytes that are no entry: the replica must stop. *r (may be NULL) is the answer. */
int controller_machine_apply(struct controller_machine *m, uint64_t index, const void *data, size_t n, struct controller_result *r);
/* What applying would answer, without doing it: for checks before a proposal. */
bool controller_machine_known_request(const struct controller_machine *m, const uint8_t request_id[16], struct controller_result *r);
/* Simulator: switches rules off (enum server_rule). */
void controller_machine_disable(struct controller_machine *m, unsigned rules);
/* The cluster's feature level (rule F37): entries of a higher one are refused. */
unsigned controller_machine_level(const struct controller_machine *m);
bool controller_machine_has_token_key(const struct controller_machine *m);
bool controller_machine_initialized(const struct controller_machine *m);
/* Milliseconds: the highest time an entry carried. */
uint64_t controller_machine_time_ms(const struct controller_machine *m);
/* A new immutable map (one reference, the caller's), or NULL before INIT. */
struct cluster_map *controller_machine_map(const struct controller_machine *m);
void controller_machine_snapshot(const struct controller_machine *m, struct out_buffer *out);
/* 0 and a new machine; or SLUICE_E_INVALID / _VERSION. */
int controller_machine_restore(struct controller_machine **out, const void *data, size_t n);

/* May the retention become so (0: unchanged)? 0 or INVALID. */
int machine_retention_ok(const struct map_stream *s, uint32_t hours, enum retention_way way);
/* [a-zA-Z0-9_.-]{1,128}; 12 digits. */
bool stream_name_ok(const char *name);
bool account_ok(const char *account);

#endif
