/* memory.c: malloc and its relatives for the simulator, which is one thread and short-lived.
 *
 * Nodes that crash never give back what they had, as in the real world only the end of a process does. So a seed's memory only grows, by some 20 MiB, and with the
 * usual allocator a third of the simulator's time went into the system's page faults. Here memory is cut off one reservation made of huge pages,
 * freed blocks wait in a list per size for the next one of that size, and the next seed of the process begins again at the start. Sanitizer builds leave this file out: they bring an allocator that looks for mistakes. */
#include <errno.h>
#include <malloc.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "tests/sim/memory.h"

enum {
    HUGE_PAGE = 2 << 20,
    UNIT = 16,                 /* alignment, and the step of the small sizes */
    SMALL_CLASSES = 64,        /* of UNIT, 2 UNIT, ... 1024 bytes */
    CLASSES = SMALL_CLASSES + 4 * 26,
};
#define RESERVED (16ull << 30) /* of addresses, not of memory */

/* Before every block. */
struct block {
    uint32_t class;            /* of the piece that the block lies in; FREED while nobody has it */
    uint32_t back;             /* bytes from the piece's own header to this one (blocks aligned to more than UNIT) */
    size_t capacity;           /* bytes behind this header */
};
#define FREED 0x80000000u
_Static_assert(sizeof(struct block) == UNIT, "blocks are aligned");

struct free_piece {
    struct block header;
    struct free_piece *next;
};

/* The allocator's state cannot be anywhere but here: malloc() takes no context. */
static struct {
    char *next, *end;
    char *begin, *used; /* of the seeds in this process: where they begin, and how far memory is no longer zeros */
    struct free_piece *free[CLASSES];
} memory;

static _Noreturn void give_up(const char *why)
{
    ssize_t ignored = write(STDERR_FILENO, why, strlen(why));
    (void)ignored;
    abort();
}

/* Bytes of the class' pieces without their header: small sizes exactly, others with four steps to the doubling. */
static unsigned class_of(size_t n)
{
    if (n <= SMALL_CLASSES * UNIT) {
        return (unsigned)((n + UNIT - 1) / UNIT) - (n > 0);
    }
    unsigned log = 63 - (unsigned)__builtin_clzll(n - 1); /* 2^log < n <= 2^(log + 1) */
    unsigned quarter = (unsigned)((n - 1) >> (log - 2)) & 3;
    return SMALL_CLASSES + 4 * (log - 10) + quarter;
}

static size_t class_size(unsigned c)
{
    if (c < SMALL_CLASSES) {
        return ((size_t)c + 1) * UNIT;
    }
    unsigned log = 10 + (c - SMALL_CLASSES) / 4;
    return (size_t)(5 + (c - SMALL_CLASSES) % 4) << (log - 2);
}

static bool reserve(void)
{
    char *p = mmap(NULL, RESERVED, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (p == MAP_FAILED) {
        return false;
    }
    (void)madvise(p, RESERVED, MADV_HUGEPAGE); /* a wish: small pages are slower, that is all */
    memory.next = (char *)(((uintptr_t)p + HUGE_PAGE - 1) / HUGE_PAGE * HUGE_PAGE);
    memory.end = p + RESERVED;
    return true;
}

/* *fresh: never used, so all zeros. */
static struct block *piece_get(size_t n, bool *fresh)
{
    unsigned c = n > (RESERVED >> 1) ? CLASSES : class_of(n);
    if (c >= CLASSES) {
        return NULL;
    }
    struct free_piece *p = memory.free[c];
    *fresh = false;
    if (p != NULL) {
        memory.free[c] = p->next;
    } else {
        size_t size = sizeof(struct block) + class_size(c);
        if (memory.end == NULL && !reserve()) {
            return NULL;
        }
        if ((size_t)(memory.end - memory.next) < size) {
            return NULL;
        }
        p = (struct free_piece *)memory.next;
        *fresh = memory.next >= memory.used;
        memory.next += size;
    }
    p->header = (struct block){.class = c, .capacity = class_size(c)};
    return &p->header;
}

static struct block *header_of(void *p)
{
    struct block *b = (struct block *)p - 1;
    if (b->class >= CLASSES) {
        give_up("sluice-sim: a block was freed twice, or is no block\n");
    }
    return b;
}

void memory_begin_seed(void)
{
    if (memory.begin == NULL) { /* beyond what the parent ever wrote to */
        memory.begin = (char *)(((uintptr_t)memory.next + HUGE_PAGE - 1) / HUGE_PAGE * HUGE_PAGE);
        memory.used = memory.begin;
    }
    memory.used = memory.next > memory.used ? memory.next : memory.used;
    memory.next = memory.begin;
    memset(memory.free, 0, sizeof memory.free);
}

void *malloc(size_t n)
{
    bool fresh;
    struct block *b = piece_get(n, &fresh);
    if (b == NULL) {
        errno = ENOMEM;
        return NULL;
    }
    return b + 1;
}

void free(void *p)
{
    if (p == NULL) {
        return;
    }
    struct block *b = header_of(p);
    struct free_piece *piece = (struct free_piece *)((char *)b - b->back);
    unsigned c = b->class;
    b->class = FREED;
    piece->header.class = FREED;
    piece->next = memory.free[c];
    memory.free[c] = piece;
}

void *calloc(size_t n, size_t size)
{
    size_t total;
    bool fresh;
    struct block *b = __builtin_mul_overflow(n, size, &total) ? NULL : piece_get(total, &fresh);
    if (b == NULL) {
        errno = ENOMEM;
        return NULL;
    }
    return fresh ? b + 1 : memset(b + 1, 0, total);
}

void *realloc(void *p, size_t n)
{
    if (p == NULL) {
        return malloc(n);
    }
    struct block *b = header_of(p);
    if (n <= b->capacity) {
        return p;
    }
    void *bigger = malloc(n);
    if (bigger != NULL) {
        memcpy(bigger, p, b->capacity);
        free(p);
    }
    return bigger;
}

void *reallocarray(void *p, size_t n, size_t size)
{
    size_t total;
    if (__builtin_mul_overflow(n, size, &total)) {
        errno = ENOMEM;
        return NULL;
    }
    return realloc(p, total);
}

void *aligned_alloc(size_t align, size_t n)
{
    if (align <= UNIT) {
        return malloc(n);
    }
    char *p = n > SIZE_MAX - align ? NULL : malloc(n + align);
    if (p == NULL) {
        errno = ENOMEM;
        return NULL;
    }
    struct block *own = header_of(p);
    size_t back = (align - (uintptr_t)p % align) % align;
    if (back > 0) {
        struct block *b = (struct block *)(p + back) - 1;
        *b = (struct block){.class = own->class, .back = (uint32_t)back, .capacity = own->capacity - back};
    }
    return p + back;
}

void *memalign(size_t align, size_t n) { return aligned_alloc(align, n); }
void *valloc(size_t n) { return aligned_alloc(4096, n); }

int posix_memalign(void **out, size_t align, size_t n)
{
    void *p = aligned_alloc(align, n);
    if (p == NULL) {
        return ENOMEM;
    }
    *out = p;
    return 0;
}

size_t malloc_usable_size(void *p) { return p == NULL ? 0 : header_of(p)->capacity; }
