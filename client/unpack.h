/* unpack.h: the records of stored batches, for those who deliver them: the reader, `sluice tail`, `sluice bench push`. */
#ifndef SLUICE_UNPACK_H
#define SLUICE_UNPACK_H

#include "client/sluice.h"

/* Memory that is used again from batch to batch. Starts as zeroes. */
struct unpacker { void *scratch; size_t scratch_size; struct batch_record *v; uint32_t cap; };
void unpacker_free(struct unpacker *u);
/* The records of the batch at `data` with offsets in [from, until). The batch is whole and was checked before (as what a subscription or a fetch delivers): *len is its
 * length. Sets time_ms, n and v of *out, valid until the next call. 0, or SLUICE_E_MEMORY or SLUICE_E_CORRUPT and *why. */
int unpack_batch(struct unpacker *u, const uint8_t *data, uint64_t from, uint64_t until, struct sluice_records *out, uint32_t *len, const char **why);

#endif
