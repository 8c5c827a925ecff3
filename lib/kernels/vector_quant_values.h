/* Weighted sums of quantised values, in vectors of any width: include after a vector_<isa>_quant.h.
 *
 * The rows' scales go into the weights, once for all columns that share a scale; then levels, which are whole numbers, are widened
 * and multiplied as they are. Sums are made apart from acc, so that they can be rotated back once. */
#ifndef ATTND_KERNELS_VECTOR_QUANT_VALUES_H
#define ATTND_KERNELS_VECTOR_QUANT_VALUES_H

#include "kernels/quant.h"
#include "kernels/vector_accumulate.h"
#include "kernels/vector_math.h"
#include "kernels/vector_rotate.h"
#include "kernels/vector_tile.h"

enum { QUANT_ROWS = 128 /* side by side: their bytes and weights stay in the first-level cache */ };

/* Scale k of rows [0, n), into floats. */
INLINE void scales_of_values(enum storage_id id, const char *values, size_t row_bytes, size_t n, size_t k, float *scale)
{
    const char *at = values + quant_value_scale(id, k);
    if (!quant_scales_blocks(id)) {
        for (size_t j = 0; j < n; j++)
            memcpy(scale + j, at + j * row_bytes, sizeof *scale);
        return;
    }
    uint16_t half[QUANT_ROWS];
    for (size_t j = 0; j < n; j++)
        memcpy(half + j, at + j * row_bytes, sizeof *half);
    memset(half + n, 0, ((n + W - 1) / W * W - n) * sizeof *half);
    for (size_t j = 0; j < n; j += W)
        v_store(scale + j, v_load_f16(half + j));
}

/* sum[i*lds + v*W + lane] += sum_(j<n) w[i*QUANT_ROWS + j] v_levels(row j's block, first + v), i < m, v < nv. */
INLINE void accumulate_levels(enum storage_id id, size_t m, size_t nv, int first, const float *w, const uint8_t *codes,
                              size_t row_bytes, size_t n, float *sum, size_t lds)
{
    vf acc[8], x[4];
#define PLACE(t) (sum + (t) / nv * lds + (t) % nv * W)
#define READ(t)                                                                                                                \
    if ((t) < m * nv)                                                                                                          \
        acc[t] = v_load(PLACE(t));
#define LOAD(v)                                                                                                                \
    if ((v) < nv)                                                                                                              \
        x[v] = v_levels(v_block(id, codes), first + (v));
#define MULTIPLY(t)                                                                                                            \
    if ((t) < m * nv)                                                                                                          \
        acc[t] = v_fma(v_set1(w[(t) / nv * QUANT_ROWS + j]), x[(t) % nv], acc[t]);
#define WRITE(t)                                                                                                               \
    if ((t) < m * nv)                                                                                                          \
        v_store(PLACE(t), acc[t]);
    EACH_8(READ, 0)
    for (size_t j = 0; j < n; j++, codes += row_bytes) {
        LOAD(0)
        LOAD(1)
        LOAD(2)
        LOAD(3)
        EACH_8(MULTIPLY, 0)
    }
    EACH_8(WRITE, 0)
#undef PLACE
#undef READ
#undef LOAD
#undef MULTIPLY
#undef WRITE
}

/* Rows [0, n), n <= QUANT_ROWS, for m queries. sum (m, lds). */
INLINE void accumulate_quant_rows(enum storage_id id, size_t m, const float *p, size_t ldp, const char *values,
                                  size_t row_bytes, size_t n, size_t e, float *sum, size_t lds)
{
    float scale[QUANT_ROWS], w[QUANT_QUERIES * QUANT_ROWS];
    size_t n_blocks = quant_blocks(e), nv = QUANT_VECTORS(m), k = 0;
    for (size_t b = 0, end; b < n_blocks; b = end, k++) {
        end = quant_scale_end(id, e, b);
        scales_of_values(id, values, row_bytes, n, k, scale);
        for (size_t i = 0; i < m; i++)
            multiply(p + i * ldp, scale, n, w + i * QUANT_ROWS);
        for (size_t c = b; c < end; c++) {
            const uint8_t *codes = (const uint8_t *)values + quant_value_codes(id, e, c);
            float *to = sum + c * QUANT_BLOCK;
#define COLUMNS(first)                                                                                                         \
    if ((first) < QUANT_BLOCK_VECTORS && (first) % nv == 0)                                                                    \
        accumulate_levels(id, m, nv, first, w, codes, row_bytes, n, to + (first)*W, lds);
            COLUMNS(0)
            COLUMNS(1)
            COLUMNS(2)
            COLUMNS(3)
#undef COLUMNS
        }
    }
}

/* From vectors of a block to its columns, in units of 1. */
INLINE void sums_in_order(const float *sum, size_t e, float *ordered)
{
    for (size_t b = 0; b < quant_blocks(e); b++, sum += QUANT_BLOCK, ordered += QUANT_BLOCK)
        for (size_t v = 0; v < QUANT_BLOCK_VECTORS; v++)
            for (size_t l = 0; l < W; l++)
                ordered[quant_column(v, l)] = sum[v * W + l] * LEVEL_UNIT;
}

INLINE void accumulate_quant(enum storage_id id, const float *p, size_t ldp, const float *f, size_t n_q, const void *values,
                             size_t row, size_t n, size_t e, float *acc, size_t lda)
{
    float factor[SHAPE_DIM_MAX], sum[QUANT_QUERIES * SHAPE_DIM_MAX], ordered[SHAPE_DIM_MAX];
    size_t row_bytes = quant_value_bytes(id, e), lds = quant_blocks(e) * QUANT_BLOCK;
    size_t m;
    const char *at = (const char *)values + row * row_bytes;
    if (quant_rotates(id))
        rotate_factors(e, factor);
    for (; n_q; n_q -= m, p += m * ldp, acc += m * lda, f += m) { /* four, or one: each size is code for each type */
        m = n_q >= QUANT_QUERIES ? QUANT_QUERIES : 1;
        memset(sum, 0, m * lds * sizeof *sum);
        for (size_t j = 0, now; j < n; j += now) {
            now = n - j < QUANT_ROWS ? n - j : QUANT_ROWS;
            const char *here = at + j * row_bytes;
            if (m == 1)
                accumulate_quant_rows(id, 1, p + j, ldp, here, row_bytes, now, e, sum, lds);
            else
                accumulate_quant_rows(id, QUANT_QUERIES, p + j, ldp, here, row_bytes, now, e, sum, lds);
        }
        rescale(f, m, e, acc, lda);
        for (size_t i = 0; i < m; i++) {
            sums_in_order(sum + i * lds, e, ordered);
            if (quant_rotates(id)) {
                hadamard_any(ordered, e);
                multiply_factors(ordered, factor, e, ordered);
            }
            combine(1, acc + i * lda, 1, ordered, e);
        }
    }
}

#endif
