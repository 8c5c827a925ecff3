/* The AVX-512 tables' quantised rows. */
#ifdef __x86_64__

#include "kernels/vector_avx512.h"
#include "kernels/vector_avx512_quant.h"

#define VECTOR_PREFIX avx512
#include "kernels/vector_quant_table.h"

#else
typedef int no_avx512_here; /* a file must not be empty */
#endif
