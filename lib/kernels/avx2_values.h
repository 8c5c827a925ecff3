/* Weighted sums of quantised values on AVX2. Include after vector_avx2_quant.h.
 *
 * Rows go in groups of GROUP, aligned to the block's row 0. The rows' scales go into the weights, and a query's weights of a group
 * are rounded to 16 bits of the largest: w = unit * whole numbers, each off by at most max |w| 2^-16. Levels are whole numbers
 * of 8 bits, so a group's sum is exact in 32 bits; sums of groups are floats. With weights of one sign the error of a sum is below
 * GROUP 2^-16 = 2^-12 of the sum of |w level|, and typically 2^-16. Groups are the same whatever rows or queries share a call.
 *
 * Codes become levels first, a group at a time, once for all queries. Two rows' levels are then paired: a lane of 32 bits holds
 * columns c and c + 1 of both, its even bytes make one pair of 16 bits and its odd bytes the other. */
#ifndef ATTND_KERNELS_AVX2_VALUES_H
#define ATTND_KERNELS_AVX2_VALUES_H

#include "kernels/vector_avx2_quant.h"
#include "kernels/vector_rotate.h"
#include "kernels/vector_tile.h"

enum { GROUP = 16, GROUP_PAIRS = GROUP / 2 };

/* Groups that go together: what is waited for in one is worked on in another. */
enum { GROUPS = 8 };

/* The weights of one group and one scale: pairs of whole numbers, and what to multiply sums with. */
struct group_weights {
    int32_t pair[QUANT_QUERIES][GROUP_PAIRS];
    float unit[QUANT_QUERIES];
};

/* w (GROUP,) to whole numbers. */
INLINE void round_weights(vf w0, vf w1, int32_t *pair, float *unit)
{
    vf sign = v_set1(-0.0f), most = v_max(_mm256_andnot_ps(sign, w0), _mm256_andnot_ps(sign, w1));
    __m128 x = _mm_max_ps(_mm256_castps256_ps128(most), _mm256_extractf128_ps(most, 1));
    x = _mm_max_ps(x, _mm_permute_ps(x, 0x4e));
    x = _mm_max_ps(x, _mm_permute_ps(x, 0xb1)); /* in all lanes */
    __m128 some = _mm_cmpgt_ps(x, _mm_set1_ps(0x1p-100f));
    __m128 inverse = _mm_and_ps(some, _mm_div_ps(_mm_set1_ps(32767), x));
    vf both = _mm256_insertf128_ps(_mm256_castps128_ps256(inverse), inverse, 1);
    vi pairs = _mm256_packs_epi32(v_to_integers(v_mul(w0, both)), v_to_integers(v_mul(w1, both)));
    v_store_bits(pair, _mm256_permute4x64_epi64(pairs, 0xd8));
    *unit = _mm_cvtss_f32(_mm_and_ps(some, _mm_mul_ps(x, _mm_set1_ps(1.0f / 32767))));
}

INLINE float float_at(const char *at)
{
    float x;
    memcpy(&x, at, sizeof x);
    return x;
}

INLINE int16_t half_at(const char *at)
{
    int16_t x;
    memcpy(&x, at, sizeof x);
    return x;
}

/* A scale of 8 rows, at `at`, row_bytes apart. */
INLINE vf scales_of_8(enum storage_id id, const char *at, size_t row_bytes)
{
#define ROW(j) (at + (j)*row_bytes)
    if (quant_scales_blocks(id))
        return _mm256_cvtph_ps(_mm_setr_epi16(half_at(ROW(0)), half_at(ROW(1)), half_at(ROW(2)), half_at(ROW(3)),
                                              half_at(ROW(4)), half_at(ROW(5)), half_at(ROW(6)), half_at(ROW(7))));
    return _mm256_setr_ps(float_at(ROW(0)), float_at(ROW(1)), float_at(ROW(2)), float_at(ROW(3)), float_at(ROW(4)),
                          float_at(ROW(5)), float_at(ROW(6)), float_at(ROW(7)));
#undef ROW
}

/* The same for rows [lo, hi) of the 8; 0 for the others, which may not be there. */
INLINE vf scales_of_some(enum storage_id id, const char *at, size_t row_bytes, size_t lo, size_t hi)
{
    float scale[W] = {0};
    for (size_t j = lo; j < hi; j++)
        scale[j] = quant_scales_blocks(id) ? f16_to_f32((uint16_t)half_at(at + j * row_bytes)) : float_at(at + j * row_bytes);
    return v_load(scale);
}

INLINE void levels_of_rows(enum storage_id id, const char *values, size_t row_bytes, size_t lo, size_t hi, size_t e,
                           char *levels)
{
    size_t n_blocks = quant_blocks(e), step = quant_value_codes(id, e, 1) - quant_value_codes(id, e, 0);
    values += quant_value_codes(id, e, 0);
    for (size_t j = lo; j < hi; j++)
        for (size_t b = 0; b < n_blocks; b++)
            v_store_bits(levels + (j * n_blocks + b) * QUANT_BLOCK,
                         v_block(id, (const uint8_t *)values + j * row_bytes + b * step));
}

/* One block of a group for m queries: half 0 is columns 0..7 and 16..23, half 1 the others. sum: vectors of even columns and of odd
 * ones, half after half. */
INLINE void accumulate_half(size_t m, int half, const char *levels, size_t width, const struct group_weights *w, float *sum,
                            size_t lds)
{
    vi acc[8];
#define EACH_OF_4(X) X(0) X(1) X(2) X(3)
#define CLEAR(i)                                                                                                               \
    if ((i) < m)                                                                                                               \
        acc[2 * (i)] = acc[2 * (i) + 1] = v_set1_bits(0);
#define MULTIPLY(i)                                                                                                            \
    if ((i) < m) {                                                                                                             \
        vi pair = v_set1_bits(w->pair[i][j]);                                                                                  \
        acc[2 * (i)] = v_pin(v_add_bits(acc[2 * (i)], v_multiply_pairs(even, pair)));                                          \
        acc[2 * (i) + 1] = v_pin(v_add_bits(acc[2 * (i) + 1], v_multiply_pairs(odd, pair)));                                   \
    }
#define ADD(i)                                                                                                                 \
    if ((i) < m) {                                                                                                             \
        float *to = sum + (i)*lds;                                                                                             \
        vf unit = v_set1(w->unit[i]);                                                                                          \
        v_store(to, v_fma(v_to_floats(acc[2 * (i)]), unit, v_load(to)));                                                       \
        v_store(to + W, v_fma(v_to_floats(acc[2 * (i) + 1]), unit, v_load(to + W)));                                           \
    }
    EACH_OF_4(CLEAR)
    for (size_t j = 0; j < GROUP_PAIRS; j++, levels += 2 * width) {
        vi a = v_load_bits(levels), b = v_load_bits(levels + width);
        vi both = half ? _mm256_unpackhi_epi16(a, b) : _mm256_unpacklo_epi16(a, b);
        vi even = v_even_bytes(both), odd = v_odd_bytes(both);
        EACH_OF_4(MULTIPLY)
    }
    EACH_OF_4(ADD)
#undef CLEAR
#undef MULTIPLY
#undef ADD
}

/* One group and one scale. p: of the group's row 0; rows [lo, hi) are there. */
INLINE void weights_of_group(enum storage_id id, size_t m, const float *p, size_t ldp, const char *scales, size_t row_bytes,
                             size_t lo, size_t hi, struct group_weights *w)
{
    if (hi - lo == GROUP) {
        vf s0 = scales_of_8(id, scales, row_bytes), s1 = scales_of_8(id, scales + W * row_bytes, row_bytes);
        for (size_t i = 0; i < m; i++, p += ldp)
            round_weights(v_mul(v_load(p), s0), v_mul(v_load(p + W), s1), w->pair[i], &w->unit[i]);
        return;
    }
    size_t lo1 = lo > W ? lo - W : 0, hi1 = hi > W ? hi - W : 0, lo0 = lo < W ? lo : W, hi0 = hi < W ? hi : W;
    vf s0 = scales_of_some(id, scales, row_bytes, lo0, hi0),
       s1 = scales_of_some(id, scales + W * row_bytes, row_bytes, lo1, hi1);
    for (size_t i = 0; i < m; i++, p += ldp)
        round_weights(v_mul(v_load_lanes(p, lo0, hi0), s0), v_mul(v_load_lanes(p + W, lo1, hi1), s1), w->pair[i], &w->unit[i]);
}

/* m queries and rows [lo, hi) from a group's row 0, at most GROUPS groups, whose levels are there. p: of that row. */
INLINE void accumulate_groups(enum storage_id id, size_t m, const float *p, size_t ldp, const char *values, size_t row_bytes,
                              size_t lo, size_t hi, const char *levels, size_t e, float *sum, size_t lds)
{
    struct group_weights w[GROUPS];
    size_t k = 0, width = quant_blocks(e) * QUANT_BLOCK, n_groups = (hi + GROUP - 1) / GROUP;
    const char *ahead = values + hi * row_bytes; /* the next rows: fetched bit by bit meanwhile */
    size_t ahead_bytes = (row_bytes * GROUP / (2 * quant_blocks(e)) + 63) / 64 * 64;
    for (size_t b = 0, end; b < quant_blocks(e); b = end, k++) {
        const char *scales = values + quant_value_scale(id, k);
        end = quant_scale_end(id, e, b);
        for (size_t g = 0, at = 0; g < n_groups; g++, at += GROUP)
            weights_of_group(id, m, p + at, ldp, scales + at * row_bytes, row_bytes, lo > at ? lo - at : 0,
                             hi - at < GROUP ? hi - at : GROUP, &w[g]);
        for (size_t c = b; c < end; c++)
            for (int half = 0; half < 2; half++)
                for (size_t g = 0; g < n_groups; g++) {
                    const char *from = levels + g * GROUP * width + c * QUANT_BLOCK;
                    for (size_t line = 0; line < ahead_bytes; line += 64)
                        v_prefetch(ahead + line);
                    ahead += ahead_bytes;
                    if (half)
                        accumulate_half(m, 1, from, width, &w[g], sum + c * QUANT_BLOCK + 2 * W, lds);
                    else
                        accumulate_half(m, 0, from, width, &w[g], sum + c * QUANT_BLOCK, lds);
                }
    }
}

/* From the halves' vectors to columns. */
INLINE void sums_in_order(const float *sum, size_t e, float *ordered)
{
    for (size_t b = 0; b < quant_blocks(e); b++, sum += QUANT_BLOCK, ordered += QUANT_BLOCK)
        for (size_t half = 0; half < 2; half++) {
            vf even = v_load(sum + half * 2 * W), odd = v_load(sum + half * 2 * W + W);
            vf low = _mm256_unpacklo_ps(even, odd),
               high = _mm256_unpackhi_ps(even, odd); /* columns 0..3 | 16..19, 4..7 | ... */
            v_store(ordered + half * W, _mm256_permute2f128_ps(low, high, 0x20));
            v_store(ordered + half * W + 16, _mm256_permute2f128_ps(low, high, 0x31));
        }
}

INLINE void accumulate_quant(enum storage_id id, const float *p, size_t ldp, const float *f, size_t n_q, const void *values,
                             size_t row, size_t n, size_t e, float *acc, size_t lda)
{
    enum { QUERIES = 2 * QUANT_QUERIES, LEVELS = GROUP * SHAPE_DIM_MAX }; /* levels are made once for so many queries */
    float factor[SHAPE_DIM_MAX], sum[QUERIES * SHAPE_DIM_MAX], ordered[SHAPE_DIM_MAX];
    char levels[LEVELS];
    size_t row_bytes = quant_value_bytes(id, e), lds = quant_blocks(e) * QUANT_BLOCK, rows = LEVELS / lds / GROUP * GROUP;
    rows = rows < GROUPS * GROUP ? rows : GROUPS * GROUP;
    if (n < rows)
        memset(levels, 0, rows * lds); /* rows that are not there have weight 0, but are read */
    if (quant_rotates(id))
        rotate_factors(e, factor);
    rescale(f, n_q, e, acc, lda);
    for (size_t first = 0, now; first < n_q; first += now, p += now * ldp, acc += now * lda) {
        now = n_q - first < QUERIES ? n_q - first : QUERIES;
        memset(sum, 0, now * lds * sizeof *sum);
        for (size_t at = row / GROUP * GROUP; at < row + n; at += rows) {
            size_t lo = at < row ? row - at : 0, hi = row + n - at < rows ? row + n - at : rows;
            const char *here = (const char *)values + at * row_bytes;
            levels_of_rows(id, here, row_bytes, lo, hi, e, levels);
            for (size_t i = 0, m; i < now; i += m) {
                const float *w = p + i * ldp + at - row;
                float *to = sum + i * lds;
                m = now - i < QUANT_QUERIES ? 1 : QUANT_QUERIES; /* each size is code for each type */
                if (m == 1)
                    accumulate_groups(id, 1, w, ldp, here, row_bytes, lo, hi, levels, e, to, lds);
                else
                    accumulate_groups(id, QUANT_QUERIES, w, ldp, here, row_bytes, lo, hi, levels, e, to, lds);
            }
        }
        for (size_t i = 0; i < now; i++) {
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
