/* Vectors of 16 floats on AVX-512 (F, BW, DQ, VL): the operations that the vector_*.h kernels are written in, with the meaning
 * that vector_avx2.h gives them. */
#ifndef ATTND_KERNELS_VECTOR_AVX512_H
#define ATTND_KERNELS_VECTOR_AVX512_H

#include <immintrin.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define TARGET __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,f16c")))
#define INLINE static inline __attribute__((always_inline)) TARGET

enum { W = 16 };

/* 32 registers: up to 24 accumulators beside their operands. */
enum { TILE_QUERIES = 6 };
#define VECTORS(m) ((m) <= 2 ? 8 : 4)

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

INLINE float v_first(vf x)
{
    return _mm512_cvtss_f32(x);
}

INLINE void v_prefetch(const void *p)
{
    _mm_prefetch(p, _MM_HINT_T0);
}

#endif
