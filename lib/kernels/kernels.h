/* Kernels: one complete table of functions per instruction set, chosen once, passed down, never global.
 *
 * Every slot of every table is filled: scalar.c is complete and readable, avx2 and avx512 overlay what they do better.
 * All functions are pure: restrict pointers, sizes, scalars; no allocation, threads, errors, globals. Sizes may be 0.
 * Pointers to rows are 64-byte aligned at row 0; q, p, acc and scores need only 4 bytes. Wire elements may be unaligned.
 *
 * Attention is three steps over a tile of rows (softmax decode: the queries are one GQA group; tensor attention: the
 * elementwise products of q with rows of stream 1; a prompt: tokens x group):
 *     score       s[i][j]   = <q_i, k_j>                      (q carries the scale already)
 *     weigh       p[j]      = exp(s[j] + log_w[j] - m)        one query at a time, m the running maximum
 *     accumulate  acc[i][:] = acc[i][:] f_i + sum_j p[i][j] v_j */
#ifndef ATTND_KERNELS_KERNELS_H
#define ATTND_KERNELS_KERNELS_H

#include "base/shape.h"
#include "kernels/storage.h"
#include <stdbool.h>

struct kernels {
    const char *isa; /* "scalar", "avx2", "avx512", "avx512_vnni", "avx512_bf16", "neon" */

    /* Quantised rows (kernels/quant.h) may meet queries rounded to 16 bits of their largest coordinate, and weights rounded to 16
     * bits of the largest of 32 or 128 rows: a hundredth or less of what storing the rows has cost. A query's bits do not depend on the
     * other queries, nor on how rows are cut into calls at multiples of PANEL. */

    /* Whether score and accumulate multiply quantised rows but kivi2 as whole numbers of 16 bits; else, and all others, as f32. */
    bool whole_keys, whole_values;

    /* s[i*lds + j] = <q_i, k_(row+j)>, i < n_q, j < n rounded up to PANEL (the padding lanes are finite or garbage scores of
     * rows that are not there: mask them). q (n_q, d) contiguous; keys: the block's row 0; row: a multiple of PANEL. */
    void (*score[N_STORAGE])(const float *q, size_t n_q, size_t d, const void *keys, size_t row, size_t n, float *s,
                             size_t lds);

    /* Online softmax of one query's tile, in place. Over j in [lo, hi): with w_j = log_w ? log_w[j] : 0 and
     *     m = max(*max, max_j s_j + w_j),  s_j <- exp(s_j + w_j - m),  *sum <- *sum f + sum_j s_j,  *max <- m,
     * s_j <- 0 for j in [0, lo) and [hi, n); returns f = exp(old *max - m), the factor for what was accumulated before
     * (1 when nothing changed; 0 when *max was -inf). -inf scores or weights leave a row out; all left out: m stays. */
    float (*weigh)(float *s, size_t lo, size_t hi, size_t n, const float *log_w, float *max, float *sum);

    /* acc[i*lda + c] = acc[i*lda + c] * f[i] + sum_(j<n) p[i*ldp + j] v_(row+j),c   c < e. f_i = 0 overwrites (acc may be
     * uninitialised then). values: the block's row 0. */
    void (*accumulate[N_STORAGE])(const float *p, size_t ldp, const float *f, size_t n_q, const void *values, size_t row,
                                  size_t n, size_t e, float *acc, size_t lda);

    /* The three steps in bf16, for tensor attention that asks for it: queries, keys, weights and values are rounded to bf16 and
     * multiplied in pairs, sums and the weights' own sum are f32. The same in every table, but what is below the smallest
     * normal float may count as 0; faster than f32 where the CPU has an instruction for it (avx512_bf16).
     *
     * Pairs of bf16 lie in units of 32 bits, the first in the low half. A matrix (n, width) is the right side of a product as
     * panels of PANEL columns, [width / PANEL, rounded up][n_pairs = (n + 1) / 2][PANEL] pairs of rows; what an odd n leaves is
     * 0, columns past width are whatever they were. Panels of keys in bf16 (storage.h) are that of the transposed keys.
     *
     *     pair_rows    panels of the rows (n, width), rounded to nearest even
     *     weigh_bf16   as weigh, but s stays, and weights go, rounded, to pairs (n rounded up to PANEL, 0 outside [lo, hi))
     *     product_bf16 out[i*ldo + j] = out[i*ldo + j] f[i] + sum_(u<n_pairs) <a[i*lda + u], pair u of column j>, j < n rounded
     *                  up to PANEL; f_i = 0, and f NULL, overwrite. One chain of multiply-adds, of each pair the odd one first. */
    void (*pair_rows)(const float *rows, size_t n, size_t width, uint32_t *pairs);
    float (*weigh_bf16)(const float *s, size_t lo, size_t hi, size_t n, const float *log_w, float *max, float *sum,
                        uint32_t *pairs);
    void (*product_bf16)(const uint32_t *a, size_t lda, size_t n_q, const uint32_t *pairs, size_t n_pairs, size_t n,
                         const float *f, float *out, size_t ldo);

    /* The row of [0, n) whose key is nearest to x (d,), the lower of equally near ones: argmin_j sum_c (x_c - k_jc)^2, and that
     * sum: differences squared, no norms, so that near rows far from 0 keep their digits. Each product and each sum is rounded, in
     * the order of c: the same bits in every table. keys: the block's row 0; n < 2^31. Where every sum overflows, or n is 0: row 0
     * and infinity. */
    size_t (*nearest[N_STORAGE])(const float *x, size_t d, const void *keys, size_t n, float *distance);

    /* out[c] = a[c] * b[c] (out may be a);  acc[c] += w * a[c] * b[c];  y[c] = y[c] * f + x[c] * g. The small vector work around the tiles. */
    void (*multiply)(const float *a, const float *b, size_t n, float *out);
    void (*multiply_add)(float w, const float *a, const float *b, size_t n, float *acc);
    void (*combine)(float f, float *y, float g, const float *x, size_t n);

    /* y = exp(x), at most 2 ulp off over the whole range, denormal results included; exp(-inf) = 0, exp(large) = inf. */
    void (*exponential)(const float *x, size_t n, float *y);

    /* Rows [row, row + n) of a block, from (n, d) or (n, e) contiguous f32, rounded to nearest even; and back. */
    void (*pack_keys[N_STORAGE])(const float *rows, size_t n, size_t d, void *keys, size_t row);
    void (*pack_values[N_STORAGE])(const float *rows, size_t n, size_t e, void *values, size_t row);
    void (*unpack_keys[N_STORAGE])(const void *keys, size_t row, size_t n, size_t d, float *rows);
    void (*unpack_values[N_STORAGE])(const void *values, size_t row, size_t n, size_t e, float *rows);

    /* Rows [row, row + n) of a block of f32, bf16 or f16 keys, bit by bit from rows of row_bytes in the same type, `stride` bytes apart. */
    void (*copy_keys)(const void *in, size_t n, size_t row_bytes, size_t stride, void *keys, size_t row);

    /* Wire elements to f32 times a factor: (n, width), row i at in + i * stride elements, to contiguous out. */
    void (*widen[N_ELEMENT])(const void *in, size_t n, size_t width, size_t stride, float factor, float *out);

    /* The largest |x|; NaN or infinity anywhere gives infinity. */
    float (*magnitude[N_ELEMENT])(const void *in, size_t n);
};

/* The best table that this CPU runs; or the one of this name, NULL when unknown or not runnable here. */
const struct kernels *kernels_best(void);
const struct kernels *kernels_find(const char *isa);

/* Every table that this CPU runs, scalar first; returns their number. For tests and benches. */
enum { KERNELS_MAX = 5 };
size_t kernels_runnable(const struct kernels *out[KERNELS_MAX]);

#endif
