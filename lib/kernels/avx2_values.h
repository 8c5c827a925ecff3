/* Weighted sums of quantised values on AVX2. Include after vector_avx2_quant.h.
 *
 * Rows go in groups of GROUP, aligned to the block's row 0. The rows' scales go into the weights, and a query's weights of a group
 * are rounded to 16 bits of the largest: w = unit * whole numbers, each off by at most max |w| 2^-16. Levels are whole numbers
 * of 8 bits, so a group's sum is exact in 32 bits; sums of groups are floats. With weights of one sign the error of a sum is below
 * GROUP 2^-16 = 2^-11 of the sum of |w level|, and typically 2^-16. Groups are the same whatever rows or queries share a call.
 *
 * Two rows are paired: a lane of 32 bits holds columns c and c + 1 of both, its even bytes make one pair of 16 bits and its odd
 * bytes the other. Codes of 8 and 4 bits are read where they lie, once for QUANT_QUERIES queries; those of 3 and 2 bits become
 * levels in a buffer first, once for twice as many. */
#ifndef ATTND_KERNELS_AVX2_VALUES_H
#define ATTND_KERNELS_AVX2_VALUES_H

#include "kernels/element.h"
#include "kernels/vector_accumulate.h"
#include "kernels/vector_avx2_quant.h"
#include "kernels/vector_math.h"
#include "kernels/vector_rotate.h"
#include "kernels/vector_tile.h"
#include "kernels/x86_scales.h"

enum { GROUP = 32, GROUP_PAIRS = GROUP / 2, GROUP_VECTORS = GROUP / W };

/* Groups that go together, as what is waited for in one is worked on in another: about 8 KB, while as much is fetched. */
enum { GROUPS_MAX = 4 };
INLINE size_t groups_of(enum storage_id id)
{
    return quant_bits(id) == 8 ? GROUPS_MAX / 2 : GROUPS_MAX;
}

/* The weights of one group and one scale: pairs of whole numbers, and what to multiply sums with. */
struct group_weights {
    int32_t pair[QUANT_QUERIES][GROUP_PAIRS];
    int32_t start[QUANT_QUERIES]; /* the lowest level, once for every row */
    float unit[QUANT_QUERIES];
};

/* The largest magnitudes of m queries' weights, lane i % 4 query i's, from vectors of magnitudes. */
INLINE vf largest_of_4(vf a, vf b, vf c, vf d)
{
    vf ab = v_max(_mm256_unpacklo_ps(a, b), _mm256_unpackhi_ps(a, b)),
       cd = v_max(_mm256_unpacklo_ps(c, d), _mm256_unpackhi_ps(c, d));
    vf all = v_max(_mm256_shuffle_ps(ab, cd, 0x44), _mm256_shuffle_ps(ab, cd, 0xee));
    return v_max(all, _mm256_permute2f128_ps(all, all, 1));
}

/* Codes of 4 bits are multiplied as levels above the lowest, which are not negative and fit 8 bits: sums start with the lowest for
 * all rows. */
INLINE int32_t lowest_level(enum storage_id id)
{
    return quant_bits(id) == 4 ? quant_levels(id)[0] : 0;
}

/* Sums over all lanes of a, b, c, d. */
INLINE __m128i sums_of_4(vi a, vi b, vi c, vi d)
{
    vi all = _mm256_hadd_epi32(_mm256_hadd_epi32(a, b), _mm256_hadd_epi32(c, d));
    return _mm_add_epi32(_mm256_castsi256_si128(all), _mm256_extracti128_si256(all, 1));
}

INLINE float float_at(const char *at)
{
    float x;
    memcpy(&x, at, sizeof x);
    return x;
}

/* As scales_of_8, of rows [lo, hi) of the 8; 0 for the others, which may not be there. */
INLINE vf scales_of_some(enum storage_id id, const char *at, size_t row_bytes, size_t lo, size_t hi)
{
    float scale[W] = {0};
    for (size_t j = lo; j < hi; j++)
        if (quant_scales_blocks(id)) {
            uint16_t half;
            memcpy(&half, at + j * row_bytes, sizeof half);
            scale[j] = f16_to_f32(half);
        } else {
            scale[j] = float_at(at + j * row_bytes);
        }
    return v_load(scale);
}

/* Codes of 2 and 3 bits become levels in a buffer; others are read where they are. */
INLINE bool quant_buffers(enum storage_id id)
{
    return quant_bits(id) < 4;
}

/* Levels of rows [lo, hi), `width` bytes each. */
INLINE void levels_of_rows(enum storage_id id, const char *values, size_t row_bytes, size_t lo, size_t hi, size_t e,
                           size_t width, char *levels)
{
    for (size_t b = 0; b < quant_blocks(e); b++) {
        const char *from = values + quant_value_codes(id, e, b) + lo * row_bytes;
        char *to = levels + b * QUANT_BLOCK + lo * width;
        for (size_t j = lo; j < hi; j++, from += row_bytes, to += width)
            v_store_bits(to, v_block(id, (const uint8_t *)from));
    }
}

/* A block of two rows, a and b, codes or levels: columns c and c + 1 of a, then of b, in the bytes of a lane of 32 bits: those of
 * 0..7 and 16..23 (half 0) or 8..15 and 24..31 (half 1). Codes of 4 bits are the low bits of their bytes. */
INLINE vi bytes_of_pair(enum storage_id id, int half, const char *a, const char *b)
{
    if (quant_bits(id) != 4) {
        vi x = v_load_bits(a), y = v_load_bits(b);
        return half ? _mm256_unpackhi_epi16(x, y) : _mm256_unpacklo_epi16(x, y);
    }
    vi x = _mm256_broadcastsi128_si256(_mm_loadu_si128((const void *)a)),
       y = _mm256_broadcastsi128_si256(_mm_loadu_si128((const void *)b));
    x = half ? _mm256_unpackhi_epi16(x, y) : _mm256_unpacklo_epi16(x, y);
    return _mm256_srlv_epi32(x, _mm256_setr_epi32(0, 0, 0, 0, 4, 4, 4, 4));
}

/* Even and odd bytes of bytes_of_pair, to levels as pairs of 16 bits; of codes of 4 bits: levels above the lowest. */
INLINE void levels_of_pair(enum storage_id id, vi both, vi table, vi *even, vi *odd)
{
    if (quant_bits(id) != 4) {
        *even = v_even_bytes(both);
        *odd = v_odd_bytes(both);
        return;
    }
    *even = v_and(both, _mm256_set1_epi16(15));
    *odd = v_and(_mm256_srli_epi16(both, 8), _mm256_set1_epi16(15));
    if (id == STORAGE_ROT4) {
        *even = _mm256_shuffle_epi8(table, *even); /* code 0 has level 0, so upper bytes stay 0 */
        *odd = _mm256_shuffle_epi8(table, *odd);
    }
}

/* Entry i: level i above the lowest. */
INLINE vi levels_above_lowest(enum storage_id id)
{
    __m128i levels = _mm_loadu_si128((const void *)quant_levels(id));
    return _mm256_broadcastsi128_si256(_mm_sub_epi8(levels, _mm_set1_epi8((char)lowest_level(id))));
}

/* One block of a group for m queries, half as in bytes_of_pair. rows: the block's codes in the group's row 0, `stride` bytes to
 * the next row's. sum: vectors of even columns and of odd ones, half after half. */
INLINE void accumulate_half(enum storage_id id, size_t m, int half, const char *rows, size_t stride,
                            const struct group_weights *w, const char *ahead, size_t step, float *sum, size_t lds)
{
    vi acc[8], even, odd, table = levels_above_lowest(id);
#define CLEAR(i)                                                                                                               \
    if ((i) < m)                                                                                                               \
        acc[2 * (i)] = acc[2 * (i) + 1] = v_set1_bits(quant_bits(id) == 4 ? w->start[i] : 0);
#define MULTIPLY(i)                                                                                                            \
    if ((i) < m) {                                                                                                             \
        vi pair = v_set1_bits(w->pair[i][j]);                                                                                  \
        acc[2 * (i)] = v_pin(v_add_pairs(acc[2 * (i)], even, pair));                                                           \
        acc[2 * (i) + 1] = v_pin(v_add_pairs(acc[2 * (i) + 1], odd, pair));                                                    \
    }
#define PAIR                                                                                                                   \
    levels_of_pair(id, bytes_of_pair(id, half, rows, rows + stride), table, &even, &odd);                                      \
    EACH_OF_4(MULTIPLY)                                                                                                        \
    rows += 2 * stride;                                                                                                        \
    j++;
#define ADD(i)                                                                                                                 \
    if ((i) < m) {                                                                                                             \
        float *to = sum + (i)*lds;                                                                                             \
        vf unit = v_set1(w->unit[i]);                                                                                          \
        v_store(to, v_fma(v_to_floats(acc[2 * (i)]), unit, v_load(to)));                                                       \
        v_store(to + W, v_fma(v_to_floats(acc[2 * (i) + 1]), unit, v_load(to + W)));                                           \
    }
    EACH_OF_4(CLEAR)
    for (size_t j = 0; j < GROUP_PAIRS;) {
        v_prefetch(ahead);
        ahead += step;
        PAIR PAIR
    }
    EACH_OF_4(ADD)
#undef CLEAR
#undef MULTIPLY
#undef PAIR
#undef ADD
}

/* What rounding the weights of a group needs: p (m, ldp), from the group's row 0, the rows' scales, and per query what takes the
 * largest product to 32767. */
struct group_scales {
    vf scale[GROUP_VECTORS];
    float factor[W];
    const float *p;
    size_t ldp;
    float padded[QUANT_QUERIES * GROUP]; /* p where rows are not there */
};

#define EACH_VECTOR(X) X(0) X(1) X(2) X(3)
#define PRODUCT(i, v) x[v] = v_mul(v_load(s->p + (i)*s->ldp + (v)*W), s->scale[v]);
#define PRODUCTS(i) PRODUCT(i, 0) PRODUCT(i, 1) PRODUCT(i, 2) PRODUCT(i, 3)

/* The rows' scales, and the units that they and p give. Rows [lo, hi) are there, the others weigh nothing. */
INLINE void find_units(enum storage_id id, size_t m, const float *p, size_t ldp, const char *scales, size_t row_bytes,
                       size_t lo, size_t hi, struct group_scales *s, float unit[QUANT_QUERIES])
{
    vf most[QUANT_QUERIES], x[GROUP_VECTORS], sign = v_set1(-0.0f);
#define SCALES(v) s->scale[v] = scales_of_8(id, scales + (v)*W * row_bytes, row_bytes);
#define SOME(v)                                                                                                                \
    s->scale[v] = scales_of_some(id, scales + (v)*W * row_bytes, row_bytes, lo > (v)*W ? lo - (v)*W : 0,                       \
                                 hi > (v)*W ? (hi - (v)*W < W ? hi - (v)*W : W) : 0);
#define MAGNITUDE(v) _mm256_andnot_ps(sign, x[v])
#define MOST(i)                                                                                                                \
    if ((i) < m) {                                                                                                             \
        PRODUCTS(i)                                                                                                            \
        most[i] = v_max(v_max(MAGNITUDE(0), MAGNITUDE(1)), v_max(MAGNITUDE(2), MAGNITUDE(3)));                                 \
    }
    s->p = p;
    s->ldp = ldp;
    if (hi - lo == GROUP) {
        EACH_VECTOR(SCALES)
    } else {
        EACH_VECTOR(SOME)
        memset(s->padded, 0, sizeof s->padded);
        for (size_t i = 0; i < m; i++)
            memcpy(s->padded + i * GROUP + lo, p + i * ldp + lo, (hi - lo) * sizeof *p);
        s->p = s->padded;
        s->ldp = GROUP;
    }
    EACH_OF_4(MOST)
    vf largest = largest_of_4(most[0], most[m > 1 ? 1 : 0], most[m > 1 ? 2 : 0], most[m > 1 ? 3 : 0]);
    vf some = _mm256_cmp_ps(largest, v_set1(0x1p-100f), _CMP_GT_OQ);
    v_store(s->factor, _mm256_and_ps(some, _mm256_div_ps(v_set1(32767), largest)));
    _mm_storeu_ps(unit, _mm256_castps256_ps128(_mm256_and_ps(some, v_mul(largest, v_set1(1.0f / 32767)))));
#undef SCALES
#undef SOME
#undef MAGNITUDE
#undef MOST
}

/* The products to whole numbers. */
INLINE void round_weights(enum storage_id id, size_t m, const struct group_scales *s, struct group_weights *w)
{
    vf x[GROUP_VECTORS];
    vi total[QUANT_QUERIES], one = _mm256_set1_epi16(1);
#define ROUND(v) v_to_integers(v_mul(x[v], factor))
#define ROUND_ALL(i)                                                                                                           \
    if ((i) < m) {                                                                                                             \
        vf factor = v_set1(s->factor[i]);                                                                                      \
        PRODUCTS(i)                                                                                                            \
        vi low = _mm256_packs_epi32(ROUND(0), ROUND(1)), high = _mm256_packs_epi32(ROUND(2), ROUND(3));                        \
        v_store_bits(w->pair[i], _mm256_permute4x64_epi64(low, 0xd8));                                                         \
        v_store_bits(w->pair[i] + W, _mm256_permute4x64_epi64(high, 0xd8));                                                    \
        if (quant_bits(id) == 4)                                                                                               \
            total[i] = v_add_bits(v_multiply_pairs(low, one), v_multiply_pairs(high, one));                                    \
    }
    EACH_OF_4(ROUND_ALL)
#undef ROUND_ALL
    if (quant_bits(id) == 4) {
        __m128i all = sums_of_4(total[0], total[m > 1 ? 1 : 0], total[m > 1 ? 2 : 0], total[m > 1 ? 3 : 0]);
        _mm_storeu_si128((__m128i *)(void *)w->start, _mm_mullo_epi32(all, _mm_set1_epi32(lowest_level(id))));
    }
#undef ROUND
}
#undef EACH_VECTOR
#undef PRODUCT
#undef PRODUCTS

/* A tile's codes: block c of row 0 at row + first + c * step, the next row `stride` further. */
struct codes {
    const char *row;
    size_t first, step, stride;
};

/* buffer: for whole groups of rows. Rows of a group that are not there are read too, but count for nothing, as their weights are 0:
 * then what is there is copied. */
INLINE struct codes codes_of_tile(enum storage_id id, const char *values, size_t row_bytes, size_t lo, size_t hi, size_t e,
                                  char *buffer)
{
    size_t first = quant_value_codes(id, e, 0), step = quant_value_codes(id, e, 1) - first;
    size_t width = quant_buffers(id) ? quant_blocks(e) * QUANT_BLOCK : row_bytes;
    bool whole = lo == 0 && hi % GROUP == 0;
    if (!whole)
        memset(buffer, 0, (hi + GROUP - 1) / GROUP * GROUP * width);
    if (quant_buffers(id)) {
        levels_of_rows(id, values, row_bytes, lo, hi, e, width, buffer);
        return (struct codes){buffer, 0, QUANT_BLOCK, width};
    }
    if (!whole)
        memcpy(buffer + lo * row_bytes, values + lo * row_bytes, (hi - lo) * row_bytes);
    return (struct codes){whole ? values : buffer, first, step, row_bytes};
}

/* m queries and rows [lo, hi) from a group's row 0, at most groups_of(id) groups. p: of that row. */
INLINE void accumulate_groups(enum storage_id id, size_t m, const float *p, size_t ldp, const char *values, size_t row_bytes,
                              size_t lo, size_t hi, const struct codes *codes, size_t e, float *sum, size_t lds)
{
    struct group_weights w[GROUPS_MAX];
    struct group_scales s[GROUPS_MAX];
    size_t k = 0, n_groups = (hi + GROUP - 1) / GROUP;
    const char *ahead = values + hi * row_bytes; /* the next rows: fetched bit by bit meanwhile */
    size_t step = row_bytes * 2 / quant_blocks(e);
    for (size_t b = 0, end; b < quant_blocks(e); b = end, k++) {
        const char *scales = values + quant_value_scale(id, k);
        end = quant_scale_end(id, e, b);
        for (size_t g = 0, at = 0; g < n_groups; g++, at += GROUP)
            find_units(id, m, p + at, ldp, scales + at * row_bytes, row_bytes, lo > at ? lo - at : 0,
                       hi - at < GROUP ? hi - at : GROUP, &s[g], w[g].unit);
        for (size_t g = 0; g < n_groups; g++)
            round_weights(id, m, &s[g], &w[g]);
        for (size_t c = b; c < end; c++)
            for (int half = 0; half < 2; half++)
                for (size_t g = 0; g < n_groups; g++) {
                    const char *from = codes->row + g * GROUP * codes->stride + codes->first + c * codes->step;
                    if (half)
                        accumulate_half(id, m, 1, from, codes->stride, &w[g], ahead, step, sum + c * QUANT_BLOCK + 2 * W, lds);
                    else
                        accumulate_half(id, m, 0, from, codes->stride, &w[g], ahead, step, sum + c * QUANT_BLOCK, lds);
                    ahead += step * GROUP_PAIRS / 2;
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
    enum { QUERIES = 2 * QUANT_QUERIES, ROOM = GROUP * SHAPE_DIM_MAX / QUANT_BLOCK * 34 }; /* for GROUP rows of any storage */
    float factor[SHAPE_DIM_MAX], sum[QUERIES * SHAPE_DIM_MAX], ordered[SHAPE_DIM_MAX];
    char buffer[ROOM];
    size_t row_bytes = quant_value_bytes(id, e), lds = quant_blocks(e) * QUANT_BLOCK;
    size_t rows = ROOM / (row_bytes > lds ? row_bytes : lds) / GROUP * GROUP;
    rows = rows < groups_of(id) * GROUP ? rows : groups_of(id) * GROUP;
    if (quant_rotates(id))
        rotate_factors(e, factor);
    rescale(f, n_q, e, acc, lda);
    for (size_t first = 0, now; first < n_q; first += now, p += now * ldp, acc += now * lda) {
        now = n_q - first < QUERIES ? n_q - first : QUERIES;
        memset(sum, 0, now * lds * sizeof *sum);
        for (size_t at = row / GROUP * GROUP; at < row + n; at += rows) {
            size_t lo = at < row ? row - at : 0, hi = row + n - at < rows ? row + n - at : rows;
            const char *here = (const char *)values + at * row_bytes;
            struct codes codes = codes_of_tile(id, here, row_bytes, lo, hi, e, buffer);
            for (size_t i = 0, m; i < now; i += m) {
                const float *w = p + i * ldp + at - row;
                float *to = sum + i * lds;
                m = now - i < QUANT_QUERIES ? 1 : QUANT_QUERIES; /* each size is code for each type */
                if (m == 1)
                    accumulate_groups(id, 1, w, ldp, here, row_bytes, lo, hi, &codes, e, to, lds);
                else
                    accumulate_groups(id, QUANT_QUERIES, w, ldp, here, row_bytes, lo, hi, &codes, e, to, lds);
            }
        }
        for (size_t i = 0; i < now; i++) {
            sums_in_order(sum + i * lds, e, ordered);
            if (quant_rotates(id))
                unrotate_row(ordered, e, factor, ordered);
            combine(1, acc + i * lda, 1, ordered, e);
        }
    }
}

#endif
