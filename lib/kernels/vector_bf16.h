/* Products of pairs of bf16, and what makes the pairs. Include after a vector_<isa>.h, with VECTOR_PREFIX (tables.h).
 *
 * Where AVX-512 has BF16 (VECTOR_BF16) two products and their sum are one instruction, twice the multiply-adds of f32; elsewhere
 * pairs are widened and meet two FMAs, in the instruction's order: the odd one first. So all have the same bits, but for
 * products and sums below the smallest normal float, which the instruction takes for 0. */
#ifndef ATTND_KERNELS_VECTOR_BF16_H
#define ATTND_KERNELS_VECTOR_BF16_H

#include "kernels/tables.h"
#include "kernels/vector_math.h"
#include "kernels/vector_rows.h"
#include "kernels/vector_tile.h"

/* acc + <a, b>, a pair in each lane. */
INLINE vf v_add_product(vf acc, vi a, vi b)
{
#ifdef VECTOR_BF16
    return _mm512_dpbf16_ps(acc, (__m512bh)a, (__m512bh)b);
#else
    acc = v_fma(v_odd(STORAGE_BF16, a), v_odd(STORAGE_BF16, b), acc);
    return v_fma(v_even(STORAGE_BF16, a), v_even(STORAGE_BF16, b), acc);
#endif
}

INLINE void store_bf16(void *p, vf x)
{
#ifdef VECTOR_BF16
    _mm256_storeu_si256(p, (__m256i)_mm512_cvtneps_pbh(x));
#else
    v_store_low(p, v_to_bf16(x));
#endif
}

/* ------------------------------------------------------------------ pairs of rows */

/* A unit of each of W columns: x in the low half, y in the high one. */
INLINE vi pairs_of(vf x, vf y)
{
#ifdef VECTOR_BF16
    vi lane = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15); /* takes halves i and 16 + i of both */
    vi halves = v_or(lane, v_shift_left(v_add_bits(lane, v_set1_bits(16)), 16));
    return _mm512_permutexvar_epi16(halves, (vi)_mm512_cvtne2ps_pbh(y, x));
#else
    return v_or(v_to_bf16(x), v_shift_left(v_to_bf16(y), 16));
#endif
}

TARGET void SLOT(pair_rows)(const float *rows, size_t n, size_t width, uint32_t *pairs)
{
    size_t panel_units = (n + 1) / 2 * PANEL;
    for (size_t j = 0; j < n; j += 2, rows += 2 * width, pairs += PANEL)
        for (size_t c = 0; c < width; c += W) {
            size_t lanes = width - c;
            vf x = lanes < W ? v_load_lanes(rows + c, 0, lanes) : v_load(rows + c), y = v_set1(0);
            if (j + 1 < n)
                y = lanes < W ? v_load_lanes(rows + width + c, 0, lanes) : v_load(rows + width + c);
            v_store_bits(pairs + c / PANEL * panel_units + c % PANEL, pairs_of(x, y));
        }
}

/* ------------------------------------------------------------------ weights */

/* As v_exp_weight, for weights that are rounded to 8 bits: 1.0e-4 off, a twentieth of that rounding. 1 + r P(r), minimax as there, but
 * with the first coefficient free. */
INLINE vf v_exp_weight_bf16(vf x)
{
    vf rounded = v_exp_rounded(x), r = v_fma(v_sub(rounded, v_set1(ROUNDER)), v_set1(-LN2), x);
    vf y = v_fma(v_fma(v_set1(0x1.5249c4p-3f), r, v_set1(0x1.021d6p-1f)), r, v_set1(0x1.000cd6p0f));
    y = v_fma(y, r, v_set1(1));
    return v_above(x, v_set1(-86.5f), v_floats(v_add_bits(v_bits(y), v_shift_left(v_bits(rounded), 23))));
}

/* Scores and log weights of W rows, which are -inf outside [lo, hi). */
INLINE vf weighed_scores(const float *s, const float *log_w, size_t j, size_t lo, size_t hi)
{
    if (j >= lo && j + W <= hi)
        return log_w ? v_add(v_load(s + j), v_load(log_w + j)) : v_load(s + j);
    size_t from = j < lo ? lo - j : 0, to = hi - j;
    vf x = v_load_lanes(s + j, from, to);
    if (log_w)
        x = v_add(x, v_load_lanes(log_w + j, from, to));
    return v_keep_lanes(x, from, to, v_set1(-INFINITY));
}

TARGET float SLOT(weigh_bf16)(const float *s, size_t lo, size_t hi, size_t n, const float *log_w, float *max, float *sum,
                              uint32_t *pairs)
{
    float old = *max;
    char *p = (char *)pairs;
    size_t begin = lo < hi ? lo / W * W : 0, end = lo < hi ? (hi + W - 1) / W * W : 0, room = (n + PANEL - 1) / PANEL * PANEL;
    vf m = v_set1(old), total = v_set1(0);
    for (size_t j = begin; j < end; j += W)
        m = v_max(weighed_scores(s, log_w, j, lo, hi), m);
    float largest = v_max_lanes(m);
    if (begin == end || largest == -INFINITY) {
        memset(p, 0, room * 2);
        return old > -INFINITY ? 1 : 0;
    }

    m = v_set1(largest);
    memset(p, 0, begin * 2);
    for (size_t j = begin; j < end; j += W) {
        vf x = v_exp_weight_bf16(v_sub(weighed_scores(s, log_w, j, lo, hi), m));
        store_bf16(p + j * 2, x);
        total = v_add(total, x);
    }
    memset(p + end * 2, 0, (room - end) * 2);
    float f = old == largest ? 1 : old > -INFINITY ? v_first(v_exp(v_set1(old - largest))) : 0;
    *sum = (f > 0 ? *sum * f : 0) + v_sum_lanes(total);
    *max = largest;
    return f;
}

/* ------------------------------------------------------------------ products */

/* Vectors of a tile: of four panels where a panel is one vector, else of one panel. */
enum { PRODUCT_VECTORS = (int)W < (int)PANEL ? PANEL / W : 4 };

/* The product of m queries and nv vectors of columns. */
INLINE void product_tile(size_t m, size_t nv, const uint32_t *a, size_t lda, const uint32_t *panel, size_t n_pairs,
                         const float *f, float *out, size_t ldo)
{
    size_t panel_units = n_pairs * PANEL;
    vf acc[MAX_ACCUMULATORS];
    vi b[MAX_VECTORS];
#define READ(t)                                                                                                                \
    if ((t) < m * nv)                                                                                                          \
        acc[t] = f && f[(t) / nv] != 0 ? v_mul(v_load(out + (t) / nv * ldo + (t) % nv * W), v_set1(f[(t) / nv])) : v_set1(0);
#define LOAD(v)                                                                                                                \
    if ((v) < nv)                                                                                                              \
        b[v] = v_load_bits(panel + (v)*W / PANEL * panel_units + (v)*W % PANEL);
#define MULTIPLY(t)                                                                                                            \
    if ((t) < m * nv)                                                                                                          \
        acc[t] = v_add_product(acc[t], v_set1_bits((int32_t)a[(t) / nv * lda + u]), b[(t) % nv]);
#define WRITE(t)                                                                                                               \
    if ((t) < m * nv)                                                                                                          \
        v_store(out + (t) / nv * ldo + (t) % nv * W, acc[t]);
    EACH(READ)
    for (size_t u = 0; u < n_pairs; u++, panel += PANEL) {
        EACH_8(LOAD, 0)
        EACH(MULTIPLY)
    }
    EACH(WRITE)
#undef READ
#undef LOAD
#undef MULTIPLY
#undef WRITE
}

/* m queries against a few panels. */
INLINE void product_panels(size_t m, const uint32_t *a, size_t lda, const uint32_t *panel, size_t n_pairs, size_t n_panels,
                           const float *f, float *out, size_t ldo)
{
    enum { WIDE = PRODUCT_VECTORS * W / PANEL };
    for (; n_panels >= WIDE; n_panels -= WIDE, panel += WIDE * n_pairs * PANEL, out += WIDE * PANEL)
        product_tile(m, PRODUCT_VECTORS, a, lda, panel, n_pairs, f, out, ldo);
    for (; n_panels; n_panels--, panel += n_pairs * PANEL, out += PANEL)
        product_tile(m, PANEL / W, a, lda, panel, n_pairs, f, out, ldo);
}

TARGET void SLOT(product_bf16)(const uint32_t *a, size_t lda, size_t n_q, const uint32_t *panels, size_t n_pairs, size_t n,
                               const float *f, float *out, size_t ldo)
{
    enum { WIDE = PRODUCT_VECTORS * W / PANEL };
    size_t n_panels = (n + PANEL - 1) / PANEL, n_blocks = (n_q + TILE_QUERIES - 1) / TILE_QUERIES;
    for (size_t i = 0; i < n_panels; i += WIDE, panels += WIDE * n_pairs * PANEL, out += WIDE * PANEL) {
        size_t now = n_panels - i < WIDE ? n_panels - i : WIDE;
        for (size_t block = 0, first = 0; block < n_blocks; block++) {
            size_t m = block_of(n_q, block, n_blocks);
            const uint32_t *at = a + first * lda;
            const float *factor = f ? f + first : NULL;
            float *to = out + first * ldo;
#define OF(m) product_panels(m, at, lda, panels, n_pairs, now, factor, to, ldo)
            WITH_QUERIES(m, OF)
#undef OF
            first += m;
        }
    }
}

#endif
