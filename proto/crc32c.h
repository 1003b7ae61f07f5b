/* crc32c.h: CRC-32C (Castagnoli), by the SSE4.2 instruction where there is one, by tables elsewhere. Thread-safe. */
#ifndef SLUICE_CRC32C_H
#define SLUICE_CRC32C_H

#include <stddef.h>
#include <stdint.h>

/* crc: 0 for the first piece, the former result to go on. crc32c(crc32c(0, a), b) == crc32c(0, a || b). */
uint32_t crc32c(uint32_t crc, const void *data, size_t n);
/* crc32c(0, a || b) from crc32c(0, a), crc32c(0, b) and the length of b; worth it from CRC32C_JOIN_MIN bytes on. */
enum { CRC32C_JOIN_MIN = 8 << 10 };
uint32_t crc32c_join(uint32_t a, uint32_t b, uint64_t b_len);
/* crc32c() by tables alone: for processors without the instruction, and for tests to compare with. */
uint32_t crc32c_portable(uint32_t crc, const void *data, size_t n);

#endif
