/* Weighted sums of quantised values by products of bytes (AVX-512 VNNI and VBMI). Include after vector_avx512_quant.h.
 *
 * Rows go in groups of GROUP, aligned to the block's row 0. The rows' scales go into the weights, and a query's weights of a group
 * are rounded to 16 bits of the largest, w = unit * whole numbers, each off by at most max |w| 2^-16, and cut into bytes:
 * 256 high + low, both signed. Levels are counted from the lowest one, so that they are bytes without a sign, and a sum over a group
 * is exact in 32 bits; sums of groups are floats. Groups are the same whatever rows or queries share a call.
 *
 * Four rows make a quad: a lane of 32 bits holds one column of them, and one instruction adds its four products with the high or
 * the low bytes of the quad's weights. */
#ifndef ATTND_KERNELS_VNNI_VALUES_H
#define ATTND_KERNELS_VNNI_VALUES_H

#include "kernels/element.h"
#include "kernels/vector_accumulate.h"
#include "kernels/vector_math.h"
#include "kernels/vector_quant_query.h"
#include "kernels/vector_rotate.h"
#include "kernels/vnni_levels.h"
#include "kernels/x86_scales.h"

enum { GROUP = 128, GROUP_QUADS = GROUP / 4, GROUP_VECTORS = GROUP / W };

/* The weights of one group and one scale: bytes of whole numbers, 4 rows to a lane, and what to multiply sums with. */
struct group_weights {
    int32_t high[QUANT_QUERIES][GROUP_QUADS], low[QUANT_QUERIES][GROUP_QUADS];
    int32_t start[QUANT_QUERIES]; /* the lowest level, once for every row */
    float unit[QUANT_QUERIES];
};

/* Scale at `at` of 16 rows, row_bytes apart. */
INLINE vf scales_of_16(enum storage_id id, const char *at, size_t row_bytes)
{
    return _mm512_insertf32x8(_mm512_castps256_ps512(scales_of_8(id, at, row_bytes)),
                              scales_of_8(id, at + 8 * row_bytes, row_bytes), 1);
}

/* Sums over all lanes of a, b, c, d. */
INLINE __m128i sums_of_4(vi a, vi b, vi c, vi d)
{
    vi ab = v_add_bits(_mm512_unpacklo_epi32(a, b), _mm512_unpackhi_epi32(a, b)),
       cd = v_add_bits(_mm512_unpacklo_epi32(c, d), _mm512_unpackhi_epi32(c, d));
    vi all = v_add_bits(_mm512_unpacklo_epi64(ab, cd), _mm512_unpackhi_epi64(ab, cd));
    __m256i half = _mm256_add_epi32(_mm512_castsi512_si256(all), _mm512_extracti32x8_epi32(all, 1));
    return _mm_add_epi32(_mm256_castsi256_si128(half), _mm256_extracti128_si256(half, 1));
}

/* The largest of each, lane i % 4 vector i's. */
INLINE __m128 largest_of_4(vf a, vf b, vf c, vf d)
{
    vf ab = v_max(_mm512_unpacklo_ps(a, b), _mm512_unpackhi_ps(a, b)),
       cd = v_max(_mm512_unpacklo_ps(c, d), _mm512_unpackhi_ps(c, d));
    vf all = v_max(_mm512_shuffle_ps(ab, cd, 0x44), _mm512_shuffle_ps(ab, cd, 0xee));
    __m256 half = _mm256_max_ps(_mm512_castps512_ps256(all), _mm512_extractf32x8_ps(all, 1));
    return _mm_max_ps(_mm256_castps256_ps128(half), _mm256_extractf128_ps(half, 1));
}

/* m queries' weights of a group, p (m, ldp), times one of the rows' scales, as bytes; 0 behind the first n_rows, whole vectors. A row of
 * weight 0 changes nothing. */
INLINE void round_weights(enum storage_id id, size_t m, const float *p, size_t ldp, size_t n_rows, const char *scales,
                          size_t row_bytes, struct group_weights *w)
{
    vf scale[GROUP_VECTORS], x[QUANT_QUERIES][GROUP_VECTORS], most[QUANT_QUERIES];
    vi total[QUANT_QUERIES], ones = _mm512_set1_epi8(1);
    float factor[QUANT_QUERIES];
    for (size_t v = 0; v < GROUP_VECTORS; v++)
        scale[v] = v * W < n_rows ? scales_of_16(id, scales + v * W * row_bytes, row_bytes) : v_set1(0);
#define MOST(i)                                                                                                                \
    if ((i) < m) {                                                                                                             \
        most[i] = v_set1(0);                                                                                                   \
        for (size_t v = 0; v < GROUP_VECTORS; v++) {                                                                           \
            x[i][v] = v * W < n_rows ? v_mul(v_load(p + (i)*ldp + v * W), scale[v]) : v_set1(0);                               \
            most[i] = v_max(_mm512_abs_ps(x[i][v]), most[i]);                                                                  \
        }                                                                                                                      \
    }
    EACH_OF_4(MOST)
    __m128 largest = largest_of_4(most[0], most[m > 1 ? 1 : 0], most[m > 1 ? 2 : 0], most[m > 1 ? 3 : 0]);
    __mmask8 some = _mm_cmp_ps_mask(largest, _mm_set1_ps(0x1p-100f), _CMP_GT_OQ);
    _mm_storeu_ps(factor, _mm_maskz_div_ps(some, _mm_set1_ps(WHOLE_MOST), largest));
    _mm_storeu_ps(w->unit, _mm_maskz_mul_ps(some, largest, _mm_set1_ps(1.0f / WHOLE_MOST)));

    /* A float of this size has units of 1: the whole number plus 128 is in its low bits, whose second byte is `high`, and whose
     * first is `low` plus 128. */
    vf whole = v_set1(0x1.8p23f + 128);
    vi bytes = _mm512_setr_epi64(0x1d1915110d090501, 0x3d3935312d292521, 0x5d5955514d494541, 0x7d7975716d696561,
                                 0x1c1814100c080400, 0x3c3834302c282420, 0x5c5854504c484440, 0x7c7874706c686460);
#define ROUND(v) v_bits(v_fma(x[i][v], by, whole))
#define CUT(i_)                                                                                                                \
    if ((i_) < m) {                                                                                                            \
        enum { i = i_ };                                                                                                       \
        total[i] = v_set1_bits(0);                                                                                             \
        vf by = v_set1(factor[i]);                                                                                             \
        for (size_t v = 0; v < GROUP_VECTORS; v += 4) {                                                                        \
            vi first = _mm512_permutex2var_epi8(ROUND(v), bytes, ROUND(v + 1));                                                \
            vi second = _mm512_permutex2var_epi8(ROUND(v + 2), bytes, ROUND(v + 3));                                           \
            vi high = _mm512_inserti64x4(first, _mm512_castsi512_si256(second), 1);                                            \
            vi low = bytes_plus_128(_mm512_shuffle_i64x2(first, second, 0xee));                                                \
            v_store_bits(w->high[i] + v * W / 4, high);                                                                        \
            v_store_bits(w->low[i] + v * W / 4, low);                                                                          \
            vi both = v_shift_left(_mm512_dpbusd_epi32(v_set1_bits(0), ones, high), 8);                                        \
            total[i] = v_add_bits(total[i], _mm512_dpbusd_epi32(both, ones, low));                                             \
        }                                                                                                                      \
    }
    EACH_OF_4(CUT)
    __m128i all = sums_of_4(total[0], total[m > 1 ? 1 : 0], total[m > 1 ? 2 : 0], total[m > 1 ? 3 : 0]);
    _mm_storeu_si128((void *)w->start, _mm_mullo_epi32(all, _mm_set1_epi32(lowest_level(id))));
#undef MOST
#undef ROUND
#undef CUT
}

/* ---- a quad of rows: columns of a block, 0..15 in x[0] and 16..31 in x[1] */

/* Where the bytes of a quad's lanes lie among its rows' codes, one after another. */
struct quad_places {
    vi first, second; /* of 8 bits: columns 16..31; of 3: the third bits, in their own bytes */
};

INLINE struct quad_places quad_places(enum storage_id id)
{
    vi lane = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    vi column = _mm512_mullo_epi32(lane, v_set1_bits(0x01010101)), of_8 = v_and(column, v_set1_bits(0x07070707)),
       of_4 = v_and(column, v_set1_bits(0x03030303));
    switch (quant_bits(id)) { /* the rows' beginnings are added, the first one's lowest */
    case 8:
        return (struct quad_places){v_add_bits(column, v_set1_bits(0x60402000)), v_add_bits(column, v_set1_bits(0x70503010))};
    case 4: return (struct quad_places){v_add_bits(column, v_set1_bits(0x30201000)), column};
    default: return (struct quad_places){v_add_bits(of_8, v_set1_bits(0x18100800)), v_add_bits(of_4, v_set1_bits(0x0c080400))};
    }
}

INLINE __m128i eight_bytes_of_2(const char *a, const char *b)
{
    return _mm_unpacklo_epi64(_mm_loadl_epi64((const void *)a), _mm_loadl_epi64((const void *)b));
}

INLINE int32_t word_at(const char *at)
{
    int32_t x;
    memcpy(&x, at, sizeof x);
    return x;
}

/* rows: a block's codes in the quad's first row, `stride` bytes to the next row's. */
INLINE void levels_of_quad(enum storage_id id, const struct quad_places *places, vi table, const char *rows, size_t stride,
                           vi x[2])
{
#define ROW(r) ((const void *)(rows + (r)*stride))
    if (quant_bits(id) == 8) {
        vi ab = _mm512_inserti64x4(_mm512_castsi256_si512(_mm256_loadu_si256(ROW(0))), _mm256_loadu_si256(ROW(1)), 1);
        vi cd = _mm512_inserti64x4(_mm512_castsi256_si512(_mm256_loadu_si256(ROW(2))), _mm256_loadu_si256(ROW(3)), 1);
        x[0] = bytes_plus_128(_mm512_permutex2var_epi8(ab, places->first, cd));
        x[1] = bytes_plus_128(_mm512_permutex2var_epi8(ab, places->second, cd));
    } else if (quant_bits(id) == 4) {
        __m256i ab = _mm256_inserti128_si256(_mm256_castsi128_si256(_mm_loadu_si128(ROW(0))), _mm_loadu_si128(ROW(1)), 1);
        __m256i cd = _mm256_inserti128_si256(_mm256_castsi128_si256(_mm_loadu_si128(ROW(2))), _mm_loadu_si128(ROW(3)), 1);
        vi codes = _mm512_permutexvar_epi8(places->first, _mm512_inserti64x4(_mm512_castsi256_si512(ab), cd, 1));
        x[0] = levels_of_nibbles(id, table, codes);
        x[1] = levels_of_nibbles(id, table, v_shift_down(codes, 4));
    } else {
        vi low = _mm512_setr_epi32(0, 0, 0, 0, 0, 0, 0, 0, 2, 2, 2, 2, 2, 2, 2, 2), third = low;
        __m256i all = _mm256_inserti128_si256(_mm256_castsi128_si256(eight_bytes_of_2(ROW(0), ROW(1))),
                                              eight_bytes_of_2(ROW(2), ROW(3)), 1);
        vi codes = _mm512_srlv_epi32(_mm512_permutexvar_epi8(places->first, _mm512_castsi256_si512(all)), low);
        if (quant_bits(id) == 3) { /* bit c % 8 / 4 + 2 (c / 8), to bit 2 */
            vi shift = _mm512_setr_epi32(0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3);
            __m128i words = _mm_setr_epi32(word_at(rows + 8), word_at(rows + stride + 8), word_at(rows + 2 * stride + 8),
                                           word_at(rows + 3 * stride + 8));
            third = _mm512_permutexvar_epi8(places->second, _mm512_castsi128_si512(words));
            third = v_shift_left(_mm512_srlv_epi32(third, shift), 2);
        }
        x[0] = levels_of_pairs(id, table, codes, third);
        x[1] = levels_of_pairs(id, table, v_shift_down(codes, 4), v_shift_down(third, 4));
    }
#undef ROW
}

/* One block of a group's quads for m queries. rows: its codes in the group's row 0. ahead: what is fetched meanwhile, `step` bytes a quad. */
INLINE void accumulate_block(enum storage_id id, size_t m, const char *rows, size_t stride, size_t n_quads,
                             const struct group_weights *w, const char *ahead, size_t step, float *sum, size_t lds)
{
    vi high[QUANT_QUERIES][2], low[QUANT_QUERIES][2], x[2], table = levels_above_lowest(id);
    struct quad_places places = quad_places(id);
#define START(i)                                                                                                               \
    if ((i) < m) {                                                                                                             \
        high[i][0] = high[i][1] = v_set1_bits(0);                                                                              \
        low[i][0] = low[i][1] = v_set1_bits(w->start[i]);                                                                      \
    }
#define MULTIPLY(i)                                                                                                            \
    if ((i) < m) {                                                                                                             \
        vi by_high = v_set1_bits(w->high[i][t]), by_low = v_set1_bits(w->low[i][t]);                                           \
        high[i][0] = v_pin(_mm512_dpbusd_epi32(high[i][0], x[0], by_high));                                                    \
        high[i][1] = v_pin(_mm512_dpbusd_epi32(high[i][1], x[1], by_high));                                                    \
        low[i][0] = v_pin(_mm512_dpbusd_epi32(low[i][0], x[0], by_low));                                                       \
        low[i][1] = v_pin(_mm512_dpbusd_epi32(low[i][1], x[1], by_low));                                                       \
    }
#define ADD_HALF(i, h)                                                                                                         \
    v_store(sum + (i)*lds + (h)*W, v_fma(v_to_floats(v_add_bits(v_shift_left(high[i][h], 8), low[i][h])), v_set1(w->unit[i]),  \
                                         v_load(sum + (i)*lds + (h)*W)));
#define ADD(i)                                                                                                                 \
    if ((i) < m) {                                                                                                             \
        ADD_HALF(i, 0)                                                                                                         \
        ADD_HALF(i, 1)                                                                                                         \
    }
    EACH_OF_4(START)
    for (size_t t = 0; t < n_quads; t++, rows += 4 * stride) {
        for (size_t line = 0; line < quant_bits(id) / 4 + 1; line++) /* all that `step` bytes lie on */
            if (quant_bits(id) == 8) /* a group of these and the next are half of a first-level cache */
                v_prefetch_far(ahead + line * LINE_BYTES);
            else
                v_prefetch(ahead + line * LINE_BYTES);
        ahead += step;
        levels_of_quad(id, &places, table, rows, stride, x);
        EACH_OF_4(MULTIPLY)
    }
    EACH_OF_4(ADD)
#undef START
#undef MULTIPLY
#undef ADD_HALF
#undef ADD
}

/* A group of m queries, from its row 0: n_rows, whole vectors, that are all there, p: a weight for each. */
INLINE void accumulate_group(enum storage_id id, size_t m, const float *p, size_t ldp, const char *rows, size_t row_bytes,
                             size_t n_rows, size_t e, const char *ahead, float *sum, size_t lds)
{
    struct group_weights w[QUANT_BLOCKS_MAX];
    size_t n_blocks = quant_blocks(e), step = row_bytes * 4 / n_blocks, k = 0;
    for (size_t b = 0; b < n_blocks; b = quant_scale_end(id, e, b), k++)
        round_weights(id, m, p, ldp, n_rows, rows + quant_value_scale(id, k), row_bytes, &w[k]);
    k = 0;
    for (size_t b = 0, end; b < n_blocks; b = end, k++) {
        end = quant_scale_end(id, e, b);
        for (size_t c = b; c < end; c++, ahead += step * GROUP_QUADS)
            accumulate_block(id, m, rows + quant_value_codes(id, e, c), row_bytes, n_rows / 4, &w[k], ahead, step,
                             sum + c * QUANT_BLOCK, lds);
    }
}

/* The rows of a group that are there, [lo, hi) of these, between rows and weights of 0; returns how many, whole vectors. p: of lo. */
INLINE size_t copy_group(size_t m, const float *p, size_t ldp, const char *rows, size_t row_bytes, size_t lo, size_t hi,
                         float *weights, char *copy)
{
    size_t n_rows = (hi + W - 1) / W * W;
    memset(copy, 0, lo * row_bytes);
    memcpy(copy + lo * row_bytes, rows + lo * row_bytes, (hi - lo) * row_bytes);
    memset(copy + hi * row_bytes, 0, (n_rows - hi) * row_bytes);
    memset(weights, 0, m * GROUP * sizeof *weights);
    for (size_t i = 0; i < m; i++)
        memcpy(weights + i * GROUP + lo, p + i * ldp, (hi - lo) * sizeof *p);
    return n_rows;
}

/* m queries, rows [row, row + n). */
INLINE void accumulate_rows(enum storage_id id, size_t m, const float *p, size_t ldp, const char *values, size_t row, size_t n,
                            size_t e, float *sum, size_t lds)
{
    float weights[QUANT_QUERIES * GROUP];
    char copy[GROUP * SHAPE_DIM_MAX / QUANT_BLOCK * 34]; /* for rows of any storage */
    size_t row_bytes = quant_value_bytes(id, e);
    for (size_t at = row, now; at < row + n; at += now) {
        const char *rows = values + at / W * W * row_bytes, *ahead = rows + GROUP * row_bytes;
        now = row + n - at < GROUP - at % GROUP ? row + n - at : GROUP - at % GROUP;
        if (now == GROUP) {
            accumulate_group(id, m, p + (at - row), ldp, rows, row_bytes, GROUP, e, ahead, sum, lds);
            continue;
        }
        size_t n_rows = copy_group(m, p + (at - row), ldp, rows, row_bytes, at % W, at % W + now, weights, copy);
        accumulate_group(id, m, weights, GROUP, copy, row_bytes, n_rows, e, ahead, sum, lds);
    }
}

INLINE void accumulate_quant(enum storage_id id, const float *p, size_t ldp, const float *f, size_t n_q, const void *values,
                             size_t row, size_t n, size_t e, float *acc, size_t lda)
{
    float factor[SHAPE_DIM_MAX], sum[QUANT_QUERIES * SHAPE_DIM_MAX];
    size_t lds = quant_blocks(e) * QUANT_BLOCK, m;
    if (quant_rotates(id))
        rotate_factors(e, factor);
    for (; n_q; n_q -= m, p += m * ldp, acc += m * lda, f += m) { /* four, or one: each size is code for each type */
        m = n_q >= QUANT_QUERIES ? QUANT_QUERIES : 1;
        memset(sum, 0, m * lds * sizeof *sum);
        if (m == 1)
            accumulate_rows(id, 1, p, ldp, values, row, n, e, sum, lds);
        else
            accumulate_rows(id, QUANT_QUERIES, p, ldp, values, row, n, e, sum, lds);
        rescale(f, m, e, acc, lda);
        for (size_t i = 0; i < m; i++) {
            if (quant_rotates(id))
                unrotate_row(sum + i * lds, e, factor, sum + i * lds);
            combine(1, acc + i * lda, 1, sum + i * lds, e);
        }
    }
}

#endif
