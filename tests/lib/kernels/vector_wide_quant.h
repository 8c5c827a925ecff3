/* lib/kernels/vector_avx512_quant.h on plain arrays: include after vector_wide.h. */
#ifndef ATTND_TESTS_VECTOR_WIDE_QUANT_H
#define ATTND_TESTS_VECTOR_WIDE_QUANT_H

#include "kernels/quant_code.h"
#include "vector_wide.h"

enum { QUANT_QUERIES = 4 };

INLINE vf v_butterfly(vf x, size_t h)
{
    LANES(vf, l & h ? x.x[l ^ h] - x.x[l] : x.x[l ^ h] + x.x[l]);
}

INLINE vf v_to_floats(vi x)
{
    LANES(vf, (float)x.x[l]);
}

INLINE vi v_to_integers(vf x)
{
    LANES(vi, (int32_t)nearbyintf(x.x[l]));
}

INLINE vi v_truncate(vf x)
{
    LANES(vi, (int32_t)x.x[l]);
}

INLINE void v_store_bytes(void *p, vi x)
{
    for (size_t l = 0; l < W; l++)
        ((uint8_t *)p)[l] = (uint8_t)x.x[l];
}

INLINE vi v_load_bytes(const void *p)
{
    LANES(vi, ((const int8_t *)p)[l]);
}

INLINE vf v_lookup_pairs(const float table[4], uint32_t word, size_t first)
{
    LANES(vf, table[word >> 2 * (first + l) & 3]);
}

INLINE vi v_multiply_pairs(vi a, vi b)
{
    LANES(vi, (int16_t)a.x[l] * (int16_t)b.x[l] + (int16_t)(a.x[l] >> 16) * (int16_t)(b.x[l] >> 16));
}

INLINE vi v_add_pairs(vi sum, vi a, vi b)
{
    return v_add_bits(sum, v_multiply_pairs(a, b));
}

INLINE vi v_even_bytes(vi x)
{
    LANES(vi, (int32_t)(((uint32_t)(int8_t)x.x[l] & 0xffffu) | (uint32_t)(int8_t)(x.x[l] >> 16) << 16));
}

INLINE vi v_odd_bytes(vi x)
{
    LANES(vi, (int32_t)(((uint32_t)(int8_t)(x.x[l] >> 8) & 0xffffu) | (uint32_t)(int8_t)(x.x[l] >> 24) << 16));
}

INLINE vi v_pin(vi x)
{
    return x;
}

INLINE vi v_shift_down(vi x, int k)
{
    LANES(vi, (int32_t)((uint32_t)x.x[l] >> k));
}

INLINE vi v_lookup(const int8_t table[16], vi index)
{
    uint8_t bytes[4 * W];
    memcpy(bytes, index.x, sizeof bytes);
    for (size_t i = 0; i < sizeof bytes; i++)
        bytes[i] = (uint8_t)table[bytes[i] & 15];
    vi y;
    memcpy(y.x, bytes, sizeof bytes);
    return y;
}

#endif
