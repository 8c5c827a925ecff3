/* Test numbers: repeatable, and aligned memory for rows. */
#ifndef ATTND_TESTS_NUMBERS_H
#define ATTND_TESTS_NUMBERS_H

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

struct numbers {
    uint64_t state;
};

static inline uint32_t numbers_bits(struct numbers *r)
{
    r->state = r->state * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(r->state >> 32);
}

/* 0 <= x < n */
static inline size_t numbers_below(struct numbers *r, size_t n)
{
    return numbers_bits(r) % n;
}

/* Uniform in [-1, 1). */
static inline float numbers_unit(struct numbers *r)
{
    return (float)(int32_t)numbers_bits(r) * 0x1p-31f;
}

static inline void numbers_fill(struct numbers *r, float *x, size_t n, float scale)
{
    for (size_t i = 0; i < n; i++)
        x[i] = numbers_unit(r) * scale;
}

/* Zeroed, 64-byte aligned, as the pages of caches are. */
static inline void *numbers_block(size_t bytes)
{
    size_t size = (bytes + 63) / 64 * 64 + 64;
    void *block = aligned_alloc(64, size);
    return block ? memset(block, 0, size) : NULL;
}

#endif
