/* Vectors of 16 floats on AVX-512 (F, BW, DQ, VL): the operations that the vector_*.h kernels are written in, with the meaning
 * that vector_avx2.h gives them. */
#ifndef ATTND_KERNELS_VECTOR_AVX512_H
#define ATTND_KERNELS_VECTOR_AVX512_H

#include <immintrin.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#ifdef VECTOR_BF16
#define TARGET __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,avx2,fma,f16c")))
#elif defined VECTOR_VNNI
#define TARGET __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx512vbmi,avx2,fma,f16c")))
#else
#define TARGET __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,f16c")))
#endif
#define INLINE static inline __attribute__((always_inline)) TARGET

enum { W = 16 };

/* 32 registers: up to 24 accumulators beside their operands. */
enum { TILE_QUERIES = 6 };
#define VECTORS(m) ((m) <= 2 ? 8 : 4)
#define SCORE_VECTORS(id, m) VECTORS(m)

typedef __m512 vf;
typedef __m512i vi;

INLINE vf v_set1(float x)
{
    return _mm512_set1_ps(x);
}

INLINE vi v_set1_bits(int32_t x)
{
    return _mm512_set1_epi32(x);
}

INLINE vf v_load(const float *p)
{
    return _mm512_loadu_ps(p);
}

INLINE void v_store(float *p, vf x)
{
    _mm512_storeu_ps(p, x);
}

INLINE __mmask16 v_lanes(size_t lo, size_t hi)
{
    return (__mmask16)(((1u << (hi < 16 ? hi : 16)) - 1) & ~((1u << (lo < 16 ? lo : 16)) - 1));
}

INLINE vf v_load_lanes(const float *p, size_t lo, size_t hi)
{
    return _mm512_maskz_loadu_ps(v_lanes(lo, hi), p);
}

INLINE void v_store_lanes(float *p, size_t lo, size_t hi, vf x)
{
    _mm512_mask_storeu_ps(p, v_lanes(lo, hi), x);
}

INLINE vf v_keep_lanes(vf x, size_t lo, size_t hi, vf other)
{
    return _mm512_mask_blend_ps(v_lanes(lo, hi), other, x);
}

INLINE vf v_add(vf a, vf b)
{
    return _mm512_add_ps(a, b);
}

INLINE vf v_sub(vf a, vf b)
{
    return _mm512_sub_ps(a, b);
}

INLINE vf v_mul(vf a, vf b)
{
    return _mm512_mul_ps(a, b);
}

INLINE vf v_fma(vf a, vf b, vf c)
{
    return _mm512_fmadd_ps(a, b, c);
}

INLINE vf v_max(vf a, vf b)
{
    return _mm512_max_ps(a, b);
}

INLINE vf v_min(vf a, vf b)
{
    return _mm512_min_ps(a, b);
}

INLINE vf v_above(vf x, vf limit, vf y)
{
    return _mm512_maskz_mov_ps(_mm512_cmp_ps_mask(x, limit, _CMP_GT_OQ), y);
}

INLINE vi v_bits(vf x)
{
    return _mm512_castps_si512(x);
}

INLINE vf v_floats(vi x)
{
    return _mm512_castsi512_ps(x);
}

INLINE vi v_load_bits(const void *p)
{
    return _mm512_loadu_si512(p);
}

INLINE void v_store_bits(void *p, vi x)
{
    _mm512_storeu_si512(p, x);
}

#define v_shift_left(x, k) _mm512_slli_epi32(x, k)
#define v_shift_right(x, k) _mm512_srai_epi32(x, k)

INLINE vi v_and(vi a, vi b)
{
    return _mm512_and_si512(a, b);
}

INLINE vi v_or(vi a, vi b)
{
    return _mm512_or_si512(a, b);
}

INLINE vi v_add_bits(vi a, vi b)
{
    return _mm512_add_epi32(a, b);
}

INLINE vi v_sub_bits(vi a, vi b)
{
    return _mm512_sub_epi32(a, b);
}

INLINE vi v_max_bits(vi a, vi b)
{
    return _mm512_max_epi32(a, b);
}

INLINE vi v_select_above(vi a, vi b, vi x, vi y)
{
    return _mm512_mask_blend_epi32(_mm512_cmpgt_epi32_mask(a, b), y, x);
}

INLINE vf v_load_bf16(const void *p)
{
    return v_floats(v_shift_left(_mm512_cvtepu16_epi32(_mm256_loadu_si256(p)), 16));
}

INLINE vf v_load_f16(const void *p)
{
    return _mm512_cvtph_ps(_mm256_loadu_si256(p));
}

INLINE vf v_low_bf16(const void *pairs)
{
    return v_floats(v_shift_left(v_load_bits(pairs), 16));
}

INLINE vf v_high_bf16(vf low, const void *pairs)
{
    return v_floats(_mm512_mask_mov_epi16(v_bits(low), 0xaaaaaaaa, v_load_bits(pairs)));
}

INLINE vf v_set_pair(const float *x)
{
    double pair;
    memcpy(&pair, x, sizeof pair);
    return _mm512_castpd_ps(_mm512_set1_pd(pair));
}

/* Lanes 0, 2, 4, ... of a and b in a row; plus 1: the odd ones. */
INLINE vi v_even_lanes(void)
{
    return _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30);
}

INLINE void v_split(vf *a, vf *b)
{
    vf even = _mm512_permutex2var_ps(*a, v_even_lanes(), *b);
    *b = _mm512_permutex2var_ps(*a, v_or(v_even_lanes(), v_set1_bits(1)), *b);
    *a = even;
}

INLINE vf v_pair_sums(vf a, vf b)
{
    v_split(&a, &b);
    return v_add(a, b);
}

INLINE void v_join(vf *a, vf *b)
{
    vi low = _mm512_setr_epi32(0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
    vf first = _mm512_permutex2var_ps(*a, low, *b);
    *b = _mm512_permutex2var_ps(*a, v_add_bits(low, v_set1_bits(8)), *b);
    *a = first;
}

INLINE void v_store_low(void *p, vi x)
{
    _mm256_storeu_si256(p, _mm512_cvtepi32_epi16(x));
}

INLINE void v_store_f16(void *p, vf x)
{
    _mm256_storeu_si256(p, _mm512_cvtps_ph(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
}

INLINE float v_sum_lanes(vf x)
{
    return _mm512_reduce_add_ps(x);
}

INLINE float v_max_lanes(vf x)
{
    return _mm512_reduce_max_ps(x);
}

/* 2 by 2, 4 by 4, then the quarters: as v_transpose of vector_avx2.h. */
INLINE void v_transpose(vf x[W])
{
    vf y[W], z[W];
#define PAIR(i) (y[i] = _mm512_unpacklo_ps(x[i], x[i + 1]), y[i + 1] = _mm512_unpackhi_ps(x[i], x[i + 1]))
    PAIR(0), PAIR(2), PAIR(4), PAIR(6), PAIR(8), PAIR(10), PAIR(12), PAIR(14);
#undef PAIR
#define QUAD(i)                                                                                                                \
    (z[i] = _mm512_shuffle_ps(y[i], y[i + 2], 0x44), z[i + 1] = _mm512_shuffle_ps(y[i], y[i + 2], 0xee),                       \
     z[i + 2] = _mm512_shuffle_ps(y[i + 1], y[i + 3], 0x44), z[i + 3] = _mm512_shuffle_ps(y[i + 1], y[i + 3], 0xee))
    QUAD(0), QUAD(4), QUAD(8), QUAD(12);
#undef QUAD
    /* z[4g + c], quarter h: rows 4g..4g+3 of column 4h + c */
#define COLUMN(c)                                                                                                              \
    (y[c] = _mm512_shuffle_f32x4(z[c], z[c + 4], 0x88), y[c + 4] = _mm512_shuffle_f32x4(z[c], z[c + 4], 0xdd),                 \
     y[c + 8] = _mm512_shuffle_f32x4(z[c + 8], z[c + 12], 0x88), y[c + 12] = _mm512_shuffle_f32x4(z[c + 8], z[c + 12], 0xdd))
    COLUMN(0), COLUMN(1), COLUMN(2), COLUMN(3);
#undef COLUMN
#define WHOLE(c)                                                                                                               \
    (x[c] = _mm512_shuffle_f32x4(y[c], y[c + 8], 0x88), x[c + 8] = _mm512_shuffle_f32x4(y[c], y[c + 8], 0xdd),                 \
     x[c + 4] = _mm512_shuffle_f32x4(y[c + 4], y[c + 12], 0x88), x[c + 12] = _mm512_shuffle_f32x4(y[c + 4], y[c + 12], 0xdd))
    WHOLE(0), WHOLE(1), WHOLE(2), WHOLE(3);
#undef WHOLE
}

INLINE float v_first(vf x)
{
    return _mm512_cvtss_f32(x);
}

INLINE void v_prefetch(const void *p)
{
    _mm_prefetch(p, _MM_HINT_T0);
}

INLINE void v_prefetch_far(const void *p)
{
    _mm_prefetch(p, _MM_HINT_T1);
}

#endif
