/* Levels of codes as bytes without a sign, counted from the storage's lowest level: what products of bytes need. Include after
 * vector_avx512_quant.h. */
#ifndef ATTND_KERNELS_VNNI_LEVELS_H
#define ATTND_KERNELS_VNNI_LEVELS_H

#include "kernels/quant.h"

INLINE int32_t lowest_level(enum storage_id id)
{
    return quant_bits(id) == 8 ? -128 : quant_levels(id)[0];
}

/* Entry i of each 16: level i above the lowest. */
INLINE vi levels_above_lowest(enum storage_id id)
{
    if (quant_bits(id) == 8)
        return v_set1_bits(0);
    __m128i levels = _mm_loadu_si128((const void *)quant_levels(id));
    return _mm512_broadcast_i32x4(_mm_sub_epi8(levels, _mm_set1_epi8((char)lowest_level(id))));
}

/* To each byte, modulo 256: so it is less 128, too, and of a code of 8 bits the level above the lowest. */
INLINE vi bytes_plus_128(vi bytes)
{
    return _mm512_xor_si512(bytes, _mm512_set1_epi8((char)0x80));
}

/* The low 4 bits of each byte. Levels of ggml's types are the codes. */
INLINE vi levels_of_nibbles(enum storage_id id, vi table, vi codes)
{
    codes = v_and(codes, v_set1_bits(0x0f0f0f0f));
    return id == STORAGE_ROT4 ? _mm512_shuffle_epi8(table, codes) : codes;
}

/* The low 2 bits of each byte, and with 3 bits, bit 2 of third's. */
INLINE vi levels_of_pairs(enum storage_id id, vi table, vi codes, vi third)
{
    codes = v_and(codes, v_set1_bits(0x03030303));
    if (quant_bits(id) == 3)
        codes = v_or(codes, v_and(third, v_set1_bits(0x04040404)));
    return _mm512_shuffle_epi8(table, codes);
}

#endif
