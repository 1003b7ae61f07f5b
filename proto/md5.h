/* md5.h: MD5, which places partition keys on shards as Kinesis does. Not for security. */
#ifndef SLUICE_MD5_H
#define SLUICE_MD5_H

#include <stddef.h>
#include <stdint.h>

void md5(const void *data, size_t n, uint8_t out[16]);

/* Four texts of at most MD5_SHORT bytes each side by side, for a little more than one takes alone. */
enum { MD5_SHORT = 55 };
void md5_four(const void *const data[4], const size_t n[4], uint8_t *const out[4]);

#endif
