/* Scales of quantised values, a row's here, the next one's row_bytes further, as a vector of AVX2. Include after vector_avx2.h or
 * vector_avx512.h. */
#ifndef ATTND_KERNELS_X86_SCALES_H
#define ATTND_KERNELS_X86_SCALES_H

#include "kernels/quant.h"

/* Scale at `at` of 8 rows, row_bytes apart. Halves: 16 bytes from one on are read, all of them its row's. */
INLINE __m256 scales_of_8(enum storage_id id, const char *at, size_t row_bytes)
{
#define WORD(j) _mm_loadu_si32(at + (j)*row_bytes)
#define HALVES(j) _mm_loadu_si128((const void *)(at + (j)*row_bytes))
    if (quant_scales_blocks(id)) {
        __m128i a = _mm_unpacklo_epi16(HALVES(0), HALVES(1)), b = _mm_unpacklo_epi16(HALVES(2), HALVES(3));
        __m128i c = _mm_unpacklo_epi16(HALVES(4), HALVES(5)), d = _mm_unpacklo_epi16(HALVES(6), HALVES(7));
        return _mm256_cvtph_ps(_mm_unpacklo_epi64(_mm_unpacklo_epi32(a, b), _mm_unpacklo_epi32(c, d)));
    }
    __m128i a = _mm_unpacklo_epi32(WORD(0), WORD(1)), b = _mm_unpacklo_epi32(WORD(2), WORD(3));
    __m128i c = _mm_unpacklo_epi32(WORD(4), WORD(5)), d = _mm_unpacklo_epi32(WORD(6), WORD(7));
    return _mm256_castsi256_ps(_mm256_set_m128i(_mm_unpacklo_epi64(c, d), _mm_unpacklo_epi64(a, b)));
#undef WORD
#undef HALVES
}

#endif
