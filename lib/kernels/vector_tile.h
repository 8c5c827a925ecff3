/* What the two matrix products of attention share: m queries by nv vectors of rows (vector_score.h) or of value columns
 * (vector_accumulate.h) live in registers. Include after a vector_<isa>.h.
 *
 * Accumulators are an array that only constants index (EACH expands a statement for t = 0..23, and those past m * nv vanish),
 * because compilers keep such an array in registers at -O2, and don't when a loop variable indexes it. m and nv are constants
 * wherever these functions are inlined. A sum is made in the order of its index, whatever the tile: so results don't depend on
 * how many queries or rows share a call. */
#ifndef ATTND_KERNELS_VECTOR_TILE_H
#define ATTND_KERNELS_VECTOR_TILE_H

#include "base/shape.h"
#include "kernels/kernels.h"

#define EACH_8(X, n) X(n) X((n) + 1) X((n) + 2) X((n) + 3) X((n) + 4) X((n) + 5) X((n) + 6) X((n) + 7)
#define EACH(X) EACH_8(X, 0) EACH_8(X, 8) EACH_8(X, 16)
#define EACH_OF_4(X) X(0) X(1) X(2) X(3)

/* X of m queries, 1 to TILE_QUERIES, as a constant: each number of them is code of its own. */
#define WITH_QUERIES(m, X)                                                                                                     \
    switch (m) {                                                                                                               \
    case 1: X(1); break;                                                                                                       \
    case 2: X(2); break;                                                                                                       \
    case 3: X(3); break;                                                                                                       \
    case 4: X(4); break;                                                                                                       \
    case 5: X(5); break;                                                                                                       \
    default: X(6); break;                                                                                                      \
    }

enum {
    MAX_VECTORS = 8,
    MAX_ACCUMULATORS = 24,
    LINE_BYTES = 64,
    PAGE_BYTES = 4096,
    AHEAD_BYTES = 4 * PAGE_BYTES, /* rows are fetched into the caches this long before they are used */
};

/* What is fetched while a tile is computed, two lines at a time. A CPU's own prefetching begins anew with each page of 4096
 * bytes, so the lines of four pages take turns: of a group of AHEAD_BYTES line 0 of page 0 and of page 1, of 2 and of 3, then
 * their lines 1, ... */
struct fetch {
    const char *at;
    ptrdiff_t apart, step, sum; /* the second line of a pair; to the next pair: step, sum - step, in turns */
};

/* `bytes` of progress into `rows`, which end at `end`: what lies AHEAD_BYTES further. tile_bytes: one tile's. */
INLINE struct fetch fetch_ahead(const char *rows, size_t bytes, const char *end, size_t tile_bytes)
{
    const char *group = rows + (bytes / AHEAD_BYTES + 1) * AHEAD_BYTES;
    if (group >= end)
        return (struct fetch){rows + bytes, 0, 0, 0}; /* again and again a line that is there */
    if (tile_bytes > AHEAD_BYTES)
        return (struct fetch){rows + bytes + AHEAD_BYTES, LINE_BYTES, 2 * LINE_BYTES, 4 * LINE_BYTES};
    return (struct fetch){group + bytes % AHEAD_BYTES / 4, PAGE_BYTES, 2 * PAGE_BYTES, LINE_BYTES};
}

/* `bytes` of progress into the block before `next`: its counterpart there. */
INLINE struct fetch fetch_block(const char *next, size_t bytes, const char *end)
{
    next += bytes / AHEAD_BYTES * AHEAD_BYTES;
    return (struct fetch){next + bytes % AHEAD_BYTES / 4, PAGE_BYTES, 2 * PAGE_BYTES, LINE_BYTES};
}

INLINE void fetch_next(struct fetch *f)
{
    f->at += f->step;
    f->step = f->sum - f->step;
}

INLINE vf v_magnitude(vf x)
{
    return v_floats(v_and(v_bits(x), v_set1_bits(0x7fffffff)));
}

/* Two coordinates of W rows, from pairs of 16-bit elements: the even one in the low half of each lane, the odd one in the high
 * half. A bf16 is the upper half of an f32. A half's exponent and fraction moved to an f32's place stand for the number times
 * 2^-112 (see element.h); the arithmetic shift repeats the sign, and the mask drops the repetitions. */
INLINE vf v_even(enum storage_id id, vi pair)
{
    pair = v_shift_left(pair, 16);
    if (id == STORAGE_BF16)
        return v_floats(pair);
    return v_mul(v_floats(v_and(v_shift_right(pair, 3), v_set1_bits((int32_t)0x8fffe000))), v_set1(0x1p112f));
}

INLINE vf v_odd(enum storage_id id, vi pair)
{
    if (id == STORAGE_BF16)
        return v_floats(v_shift_left(v_shift_right(pair, 16), 16));
    return v_mul(v_floats(v_and(v_shift_right(pair, 3), v_set1_bits((int32_t)0x8fffe000))), v_set1(0x1p112f));
}

/* Queries of a block: as equal as possible. */
INLINE size_t block_of(size_t n_q, size_t index, size_t n_blocks)
{
    return n_q / n_blocks + (index < n_q % n_blocks);
}

#endif
