/* What quantised rows need of AVX2 beyond vector_avx2.h: bytes in lanes, products of 16 bits, codes to floats. Include after it. */
#ifndef ATTND_KERNELS_VECTOR_AVX2_QUANT_H
#define ATTND_KERNELS_VECTOR_AVX2_QUANT_H

#include "kernels/quant.h"
#include "kernels/vector_avx2.h"

enum { QUANT_QUERIES = 4 }; /* side by side in the kernels of quantised rows */

/* Lane l of the result: x[l] + x[l ^ h] where l & h is 0, else x[l ^ h] - x[l]. h: 1, 2, ... W / 2, a constant. */
INLINE vf v_butterfly(vf x, size_t h)
{
    vf minus = h == 1   ? _mm256_setr_ps(0.0f, -0.0f, 0.0f, -0.0f, 0.0f, -0.0f, 0.0f, -0.0f)
               : h == 2 ? _mm256_setr_ps(0.0f, 0.0f, -0.0f, -0.0f, 0.0f, 0.0f, -0.0f, -0.0f)
                        : _mm256_setr_ps(0.0f, 0.0f, 0.0f, 0.0f, -0.0f, -0.0f, -0.0f, -0.0f);
    vf other = h == 1 ? _mm256_permute_ps(x, 0xb1) : h == 2 ? _mm256_permute_ps(x, 0x4e) : _mm256_permute2f128_ps(x, x, 1);
    return _mm256_add_ps(other, _mm256_xor_ps(x, minus));
}

/* Integers to floats, and floats to the nearest integers. */
INLINE vf v_to_floats(vi x)
{
    return _mm256_cvtepi32_ps(x);
}

INLINE vi v_to_integers(vf x)
{
    return _mm256_cvtps_epi32(x);
}

/* Towards 0. */
INLINE vi v_truncate(vf x)
{
    return _mm256_cvttps_epi32(x);
}

/* The low bytes of all lanes, to W bytes; and W signed bytes to lanes. */
INLINE void v_store_bytes(void *p, vi x)
{
    vi low = _mm256_setr_epi8(0, 4, 8, 12, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, 0, 4, 8, 12, -1, -1,
                              -1, -1, -1, -1, -1, -1);
    vi y = _mm256_shuffle_epi8(x, low);
    _mm_storel_epi64(p, _mm_or_si128(_mm256_castsi256_si128(y), _mm256_extracti128_si256(y, 1)));
}

INLINE vi v_load_bytes(const void *p)
{
    return _mm256_cvtepi8_epi32(_mm_loadl_epi64(p));
}

/* Lane l: table[code], the code being bits 2 (first + l) and the next of a word; first: 0, or W where that is not too far. */
INLINE vf v_lookup_pairs(const float table[4], uint32_t word, size_t first)
{
    vi shift = _mm256_add_epi32(_mm256_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14), v_set1_bits((int32_t)(2 * first)));
    vi codes = _mm256_srlv_epi32(v_set1_bits((int32_t)word), shift); /* what is above 2 bits is not looked at */
    return _mm256_permutevar_ps(_mm256_broadcast_ps((const void *)table), codes);
}

/* Lanes as pairs of signed 16-bit integers: a0 b0 + a1 b1. */
INLINE vi v_multiply_pairs(vi a, vi b)
{
    return _mm256_madd_epi16(a, b);
}

/* Products of pairs added to what lanes have. */
INLINE vi v_add_pairs(vi sum, vi a, vi b)
{
    return v_add_bits(sum, _mm256_madd_epi16(a, b));
}

/* Bytes 0 and 2 of each lane, or bytes 1 and 3, as pairs of signed 16-bit integers. */
INLINE vi v_even_bytes(vi x)
{
    return _mm256_srai_epi16(_mm256_slli_epi16(x, 8), 8);
}

INLINE vi v_odd_bytes(vi x)
{
    return _mm256_srai_epi16(x, 8);
}

/* Keeps compilers from adding up products before they meet x: that needs more registers than there are. */
INLINE vi v_pin(vi x)
{
    __asm__("" : "+x"(x));
    return x;
}

#define v_shift_down(x, k) _mm256_srli_epi32(x, k) /* logical */

/* table[i] for each byte i < 16. */
INLINE vi v_lookup(const int8_t table[16], vi index)
{
    return _mm256_shuffle_epi8(_mm256_broadcastsi128_si256(_mm_loadu_si128((const void *)table)), index);
}

/* A block's levels, of codes of 2 or 3 bits, byte c column c's. */
INLINE vi v_block(enum storage_id id, const uint8_t *codes)
{
    int64_t low;
    memcpy(&low, codes, sizeof low);
    vi x = _mm256_srlv_epi64(_mm256_set1_epi64x(low), _mm256_setr_epi64x(0, 2, 4, 6));
    x = _mm256_and_si256(x, _mm256_set1_epi8(3));
    if (quant_bits(id) == 3) {
        int32_t third;
        memcpy(&third, codes + 8, sizeof third);
        vi bit = _mm256_srlv_epi32(v_set1_bits(third), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
        x = _mm256_or_si256(x, _mm256_slli_epi32(_mm256_and_si256(bit, _mm256_set1_epi8(1)), 2));
    }
    return v_lookup(quant_levels(id), x);
}

#endif
