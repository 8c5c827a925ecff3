/* Scores of quantised keys where AVX-512 has VNNI: products of 16 bits and their sum are one instruction. The same bits as avx512's. */
#ifdef __x86_64__

#define VECTOR_VNNI
#include "kernels/vector_avx512.h"
#include "kernels/vector_avx512_quant.h"

#define VECTOR_PREFIX avx512_vnni
#include "kernels/vector_quant_scores.h"

#else
typedef int no_avx512_here; /* a file must not be empty */
#endif
