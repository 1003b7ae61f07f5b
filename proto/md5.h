/* md5.h: MD5, which places partition keys on shards as Kinesis does. Not for security. */
#ifndef SLUICE_MD5_H
#define SLUICE_MD5_H

#include <stddef.h>
#include <stdint.h>

void md5(const void *data, size_t n, uint8_t out[16]);

#endif
