/* Attention to quantised rows where AVX-512 multiplies bytes (VNNI) and permutes them (VBMI). */
#ifdef __x86_64__

#define VECTOR_VNNI
#include "kernels/vector_avx512.h"
#include "kernels/vector_avx512_quant.h"

#include "kernels/vnni_keys.h"
#include "kernels/vnni_values.h"

#define VECTOR_PREFIX avx512_vnni
#include "kernels/vector_quant_scores.h"
#include "kernels/vector_quant_sums.h"

#else
typedef int no_avx512_here; /* a file must not be empty */
#endif
