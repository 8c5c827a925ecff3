/* Vectors of 8 floats on AVX2 + FMA + F16C: the operations that the vector_*.h kernels are written in. vector_avx512.h has the
 * same with 16. Nothing here needs alignment. */
#ifndef ATTND_KERNELS_VECTOR_AVX2_H
#define ATTND_KERNELS_VECTOR_AVX2_H

#include <immintrin.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define TARGET __attribute__((target("avx2,fma,f16c")))
#define INLINE static inline __attribute__((always_inline)) TARGET

enum { W = 8 };

/* How many vectors of rows or columns go with m queries in a micro-kernel, so that m * VECTORS(m) accumulators hide the latency
 * of an FMA (8 in flight) and fit 16 registers beside their operands. */
enum { TILE_QUERIES = 6 };
#define VECTORS(m) ((m) == 1 ? 8 : (m) == 2 ? 4 : 2)
#define SCORE_VECTORS(id, m) ((id) == STORAGE_F16 ? ((m) <= 3 ? 4 : 2) : VECTORS(m))

typedef __m256 vf;  /* floats */
typedef __m256i vi; /* their bits, as signed integers */

INLINE vf v_set1(float x)
{
    return _mm256_set1_ps(x);
}

INLINE vi v_set1_bits(int32_t x)
{
    return _mm256_set1_epi32(x);
}

INLINE vf v_load(const float *p)
{
    return _mm256_loadu_ps(p);
}

INLINE void v_store(float *p, vf x)
{
    _mm256_storeu_ps(p, x);
}

/* Lanes lo <= lane < hi. */
INLINE vi v_lanes(size_t lo, size_t hi)
{
    vi lane = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
    vi from = _mm256_cmpgt_epi32(v_set1_bits((int32_t)lo), lane), to = _mm256_cmpgt_epi32(v_set1_bits((int32_t)hi), lane);
    return _mm256_andnot_si256(from, to);
}

/* Only lanes lo <= lane < hi are touched in memory; the others load as 0. */
INLINE vf v_load_lanes(const float *p, size_t lo, size_t hi)
{
    return _mm256_maskload_ps(p, v_lanes(lo, hi));
}

INLINE void v_store_lanes(float *p, size_t lo, size_t hi, vf x)
{
    _mm256_maskstore_ps(p, v_lanes(lo, hi), x);
}

/* x in lanes lo <= lane < hi, other elsewhere. */
INLINE vf v_keep_lanes(vf x, size_t lo, size_t hi, vf other)
{
    return _mm256_blendv_ps(other, x, _mm256_castsi256_ps(v_lanes(lo, hi)));
}

INLINE vf v_add(vf a, vf b)
{
    return _mm256_add_ps(a, b);
}

INLINE vf v_sub(vf a, vf b)
{
    return _mm256_sub_ps(a, b);
}

INLINE vf v_mul(vf a, vf b)
{
    return _mm256_mul_ps(a, b);
}

/* a b + c */
INLINE vf v_fma(vf a, vf b, vf c)
{
    return _mm256_fmadd_ps(a, b, c);
}

/* Where one is a NaN: b. */
INLINE vf v_max(vf a, vf b)
{
    return _mm256_max_ps(a, b);
}

INLINE vf v_min(vf a, vf b)
{
    return _mm256_min_ps(a, b);
}

/* y where x > limit, else 0. */
INLINE vf v_above(vf x, vf limit, vf y)
{
    return _mm256_and_ps(_mm256_cmp_ps(x, limit, _CMP_GT_OQ), y);
}

INLINE vi v_bits(vf x)
{
    return _mm256_castps_si256(x);
}

INLINE vf v_floats(vi x)
{
    return _mm256_castsi256_ps(x);
}

INLINE vi v_load_bits(const void *p)
{
    return _mm256_loadu_si256(p);
}

INLINE void v_store_bits(void *p, vi x)
{
    _mm256_storeu_si256(p, x);
}

#define v_shift_left(x, k) _mm256_slli_epi32(x, k)
#define v_shift_right(x, k) _mm256_srai_epi32(x, k) /* arithmetic */

INLINE vi v_and(vi a, vi b)
{
    return _mm256_and_si256(a, b);
}

INLINE vi v_or(vi a, vi b)
{
    return _mm256_or_si256(a, b);
}

INLINE vi v_add_bits(vi a, vi b)
{
    return _mm256_add_epi32(a, b);
}

INLINE vi v_sub_bits(vi a, vi b)
{
    return _mm256_sub_epi32(a, b);
}

INLINE vi v_max_bits(vi a, vi b)
{
    return _mm256_max_epi32(a, b);
}

/* a > b ? x : y */
INLINE vi v_select_above(vi a, vi b, vi x, vi y)
{
    return _mm256_blendv_epi8(y, x, _mm256_cmpgt_epi32(a, b));
}

/* W consecutive 16-bit elements, widened. */
INLINE vf v_load_bf16(const void *p)
{
    return v_floats(v_shift_left(_mm256_cvtepu16_epi32(_mm_loadu_si128(p)), 16));
}

INLINE vf v_load_f16(const void *p)
{
    return _mm256_cvtph_ps(_mm_loadu_si128(p));
}

/* Of W pairs of bf16: the first ones; and the second ones, where `low` is what v_low_bf16 gave: its lower halves are 0. */
INLINE vf v_low_bf16(const void *pairs)
{
    return v_floats(v_shift_left(v_load_bits(pairs), 16));
}

INLINE vf v_high_bf16(vf low, const void *pairs)
{
    return v_floats(_mm256_blend_epi16(v_bits(low), v_load_bits(pairs), 0xaa));
}

/* x[0], x[1], x[0], x[1], ... */
INLINE vf v_set_pair(const float *x)
{
    double pair;
    memcpy(&pair, x, sizeof pair);
    return _mm256_castpd_ps(_mm256_set1_pd(pair));
}

/* a0 + a1, a2 + a3, ..., b0 + b1, b2 + b3, ... */
INLINE vf v_pair_sums(vf a, vf b)
{
    __m256d sums = _mm256_castps_pd(_mm256_hadd_ps(a, b));
    return _mm256_castpd_ps(_mm256_permute4x64_pd(sums, 0xd8));
}

/* The lanes of a and b in a row, split into even and odd ones, and back. */
INLINE void v_split(vf *a, vf *b)
{
    vf low = _mm256_permute2f128_ps(*a, *b, 0x20), high = _mm256_permute2f128_ps(*a, *b, 0x31);
    *a = _mm256_shuffle_ps(low, high, 0x88);
    *b = _mm256_shuffle_ps(low, high, 0xdd);
}

INLINE void v_join(vf *a, vf *b)
{
    vf low = _mm256_unpacklo_ps(*a, *b), high = _mm256_unpackhi_ps(*a, *b);
    *a = _mm256_permute2f128_ps(low, high, 0x20);
    *b = _mm256_permute2f128_ps(low, high, 0x31);
}

/* The low 16 bits of each lane, and floats rounded to halves, to W consecutive 16-bit elements. */
INLINE void v_store_low(void *p, vi x)
{
    vi packed = _mm256_packus_epi32(v_and(x, v_set1_bits(0xffff)), _mm256_setzero_si256());
    _mm_storeu_si128(p, _mm256_castsi256_si128(_mm256_permute4x64_epi64(packed, 0x08)));
}

INLINE void v_store_f16(void *p, vf x)
{
    _mm_storeu_si128(p, _mm256_cvtps_ph(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
}

/* Over the lanes, as a tree. */
INLINE float v_sum_lanes(vf x)
{
    __m128 y = _mm_add_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1));
    y = _mm_add_ps(y, _mm_movehl_ps(y, y));
    return _mm_cvtss_f32(_mm_add_ss(y, _mm_movehdup_ps(y)));
}

INLINE float v_max_lanes(vf x)
{
    __m128 y = _mm_max_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1));
    y = _mm_max_ps(y, _mm_movehl_ps(y, y));
    return _mm_cvtss_f32(_mm_max_ss(y, _mm_movehdup_ps(y)));
}

/* x[i] lane j <-> x[j] lane i: 2 by 2, then 4 by 4, then the halves. */
INLINE void v_transpose(vf x[W])
{
    vf y[W], z[W];
#define PAIR(i) (y[i] = _mm256_unpacklo_ps(x[i], x[i + 1]), y[i + 1] = _mm256_unpackhi_ps(x[i], x[i + 1]))
    PAIR(0), PAIR(2), PAIR(4), PAIR(6);
#undef PAIR
#define QUAD(i, a)                                                                                                             \
    (z[i] = _mm256_shuffle_ps(y[a], y[a + 2], 0x44), z[i + 1] = _mm256_shuffle_ps(y[a], y[a + 2], 0xee),                       \
     z[i + 2] = _mm256_shuffle_ps(y[a + 1], y[a + 3], 0x44), z[i + 3] = _mm256_shuffle_ps(y[a + 1], y[a + 3], 0xee))
    QUAD(0, 0), QUAD(4, 4);
#undef QUAD
#define HALF(i) (x[i] = _mm256_permute2f128_ps(z[i], z[i + 4], 0x20), x[i + 4] = _mm256_permute2f128_ps(z[i], z[i + 4], 0x31))
    HALF(0), HALF(1), HALF(2), HALF(3);
#undef HALF
}

INLINE float v_first(vf x)
{
    return _mm256_cvtss_f32(x);
}

/* Brings the cache line of p nearer. Any address is allowed. */
INLINE void v_prefetch(const void *p)
{
    _mm_prefetch(p, _MM_HINT_T0);
}

/* The same, no nearer than the second-level cache. */
INLINE void v_prefetch_far(const void *p)
{
    _mm_prefetch(p, _MM_HINT_T1);
}

#endif
