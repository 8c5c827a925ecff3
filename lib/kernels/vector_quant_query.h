/* Queries of quantised keys as whole numbers, in vectors of any width: include after a vector_<isa>_quant.h.
 *
 * A query is rotated where its keys are, and rounded to 16 bits of its largest coordinate: q = unit * whole numbers, off by at most
 * max |q| 2^-16 in a coordinate. Levels are whole numbers of 8 bits, so products and their sums over coordinates that share a
 * scale are exact in 32 bits; then score = unit * sum over scales (scale * sum). A query's bits do not depend on the others. */
#ifndef ATTND_KERNELS_VECTOR_QUANT_QUERY_H
#define ATTND_KERNELS_VECTOR_QUANT_QUERY_H

#include "kernels/quant.h"
#include "kernels/vector_math.h"
#include "kernels/vector_rotate.h"
#include "kernels/vector_tile.h"

enum {
    UNITS_OF_BLOCK = QUANT_BLOCK / 4, /* of levels */
    PANEL_VECTORS = PANEL / W,        /* of rows */
    WHOLE_MOST = 32639,               /* 127 * 256 + 127: two bytes, both signed */
    EXACT_BLOCKS = 8,                 /* 256 coordinates: 256 * 128 * WHOLE_MOST < 2^31 */
};

/* Bytes that panels are fetched before they are used; past the last one, the values that follow in a page of rows are met with. */
#define CODES_AHEAD(bits) ((bits) == 8 ? 8192 : 4096)

/* X(unit, codes, third) of each unit of levels of a block whose codes have 2 bits, or 3: unit 2 s + u is bits 2 s of unit u of codes, to
 * bit 0, and bit 2 s + u of the third unit, to bit 2. */
#define EACH_UNIT_OF_2(X, x0, x1, x2)                                                                                          \
    X(0, x0, v_shift_left(x2, 2))                                                                                              \
    X(1, x1, v_shift_left(x2, 1))                                                                                              \
    X(2, v_shift_down(x0, 2), x2)                                                                                              \
    X(3, v_shift_down(x1, 2), v_shift_down(x2, 1))                                                                             \
    X(4, v_shift_down(x0, 4), v_shift_down(x2, 2))                                                                             \
    X(5, v_shift_down(x1, 4), v_shift_down(x2, 3))                                                                             \
    X(6, v_shift_down(x0, 6), v_shift_down(x2, 4))                                                                             \
    X(7, v_shift_down(x1, 6), v_shift_down(x2, 5))

/* Blocks from b on whose sum is one number of 32 bits. */
INLINE size_t exact_end(size_t b, size_t scale_end)
{
    return scale_end - b < EXACT_BLOCKS ? scale_end : b + EXACT_BLOCKS;
}

/* The whole numbers, whole blocks of them; returns the unit. */
INLINE float round_query(enum storage_id id, const float *q, size_t d, const float *factor, int32_t whole[QUANT_ROOM])
{
    float x[QUANT_ROOM];
    size_t padded = quant_blocks(d) * QUANT_BLOCK;
    row_to_cut(id, q, d, factor, x);
    vf most = v_set1(0);
    for (size_t c = 0; c < padded; c += W)
        most = v_max(v_floats(v_and(v_bits(v_load(x + c)), v_set1_bits(0x7fffffff))), most);
    float largest = v_max_lanes(most), inverse = largest > 0x1p-100f ? WHOLE_MOST / largest : 0;
    for (size_t c = 0; c < padded; c += W)
        v_store_bits(whole + c, v_to_integers(v_mul(v_load(x + c), v_set1(inverse))));
    return inverse > 0 ? largest / WHOLE_MOST : 0;
}

/* The scales of W rows. scales: the panel's first unit of them, past the rows before. */
INLINE vf scales_of_rows(enum storage_id id, const char *scales, size_t k)
{
    if (!quant_scales_blocks(id))
        return v_load((const float *)(const void *)(scales + k * PANEL * 4));
    vi pair = v_load_bits(scales + k / 2 * PANEL * 4);
    return k % 2 ? v_odd(STORAGE_F16, pair) : v_even(STORAGE_F16, pair);
}

#endif
