/* base.h: what every folder uses: assertions that stay on, little-endian access, small helpers. */
#ifndef SLUICE_BASE_H
#define SLUICE_BASE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

/* A broken invariant ends the process before anything more is acknowledged: "assertion failed: cond (file:line)" on
 * stderr, then abort(). Also on in release builds. */
#define sluice_assert(cond) \
    do { \
        if (__builtin_expect(!(cond), 0)) { \
            sluice_assert_failed(#cond, __FILE__, __LINE__); \
        } \
    } while (0)
_Noreturn void sluice_assert_failed(const char *cond, const char *file, int line);

#ifndef container_of
#define container_of(ptr, type, member) ((type *)((char *)(ptr)-offsetof(type, member)))
#endif
#define ARRAY_LEN(a) (sizeof(a) / sizeof((a)[0]))
#define ALIGN_UP(n, a) (((n) + (a)-1) / (a) * (a))

static inline uint16_t get_u16(const void *p) { uint16_t v; memcpy(&v, p, 2); return v; }
static inline uint32_t get_u32(const void *p) { uint32_t v; memcpy(&v, p, 4); return v; }
static inline uint64_t get_u64(const void *p) { uint64_t v; memcpy(&v, p, 8); return v; }
static inline void put_u16(void *p, uint16_t v) { memcpy(p, &v, 2); }
static inline void put_u32(void *p, uint32_t v) { memcpy(p, &v, 4); }
static inline void put_u64(void *p, uint64_t v) { memcpy(p, &v, 8); }
_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "byte layouts are little-endian and read in place");

static inline uint64_t min_u64(uint64_t a, uint64_t b) { return a < b ? a : b; }
static inline uint64_t max_u64(uint64_t a, uint64_t b) { return a > b ? a : b; }

/* malloc family that ends the process instead of returning NULL; for control-plane objects of bounded size. Data-path buffers
 * use malloc and report. */
void *xmalloc(size_t n);
void *xcalloc(size_t n, size_t size);
void *xrealloc(void *p, size_t n);
char *xstrdup(const char *s);

#endif
