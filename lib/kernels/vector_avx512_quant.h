/* What quantised rows need of AVX-512 beyond vector_avx512.h, with the meaning that vector_avx2_quant.h gives it. */
#ifndef ATTND_KERNELS_VECTOR_AVX512_QUANT_H
#define ATTND_KERNELS_VECTOR_AVX512_QUANT_H

#include "kernels/quant.h"
#include "kernels/vector_avx512.h"

enum { QUANT_QUERIES = 4 };

INLINE vf v_butterfly(vf x, size_t h)
{
    __mmask16 minus = h == 1 ? 0xaaaa : h == 2 ? 0xcccc : h == 4 ? 0xf0f0 : 0xff00;
    vf other = h == 1   ? _mm512_permute_ps(x, 0xb1)
               : h == 2 ? _mm512_permute_ps(x, 0x4e)
               : h == 4 ? _mm512_shuffle_f32x4(x, x, 0xb1)
                        : _mm512_shuffle_f32x4(x, x, 0x4e);
    return _mm512_mask_sub_ps(_mm512_add_ps(other, x), minus, other, x);
}

INLINE vf v_to_floats(vi x)
{
    return _mm512_cvtepi32_ps(x);
}

INLINE vi v_to_integers(vf x)
{
    return _mm512_cvtps_epi32(x);
}

INLINE vi v_truncate(vf x)
{
    return _mm512_cvttps_epi32(x);
}

INLINE void v_store_bytes(void *p, vi x)
{
    _mm_storeu_si128(p, _mm512_cvtepi32_epi8(x));
}

INLINE vi v_load_bytes(const void *p)
{
    return _mm512_cvtepi8_epi32(_mm_loadu_si128(p));
}

INLINE vf v_lookup_pairs(const float table[4], uint32_t word, size_t first)
{
    (void)first; /* 0 */
    vi shift = _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30);
    vi codes = _mm512_srlv_epi32(v_set1_bits((int32_t)word), shift);
    return _mm512_permutevar_ps(_mm512_broadcast_f32x4(_mm_loadu_ps(table)), codes);
}

INLINE vi v_multiply_pairs(vi a, vi b)
{
    return _mm512_madd_epi16(a, b);
}

INLINE vi v_add_pairs(vi sum, vi a, vi b)
{
    return v_add_bits(sum, _mm512_madd_epi16(a, b));
}

INLINE vi v_even_bytes(vi x)
{
    return _mm512_srai_epi16(_mm512_slli_epi16(x, 8), 8);
}

INLINE vi v_odd_bytes(vi x)
{
    return _mm512_srai_epi16(x, 8);
}

INLINE vi v_pin(vi x)
{
    __asm__("" : "+v"(x));
    return x;
}

#define v_shift_down(x, k) _mm512_srli_epi32(x, k)

INLINE vi v_lookup(const int8_t table[16], vi index)
{
    return _mm512_shuffle_epi8(_mm512_broadcast_i32x4(_mm_loadu_si128((const void *)table)), index);
}

#endif
