/* The AVX2 table's quantised rows. */
#ifdef __x86_64__

#include "kernels/vector_avx2.h"
#include "kernels/vector_avx2_quant.h"

#include "kernels/avx2_values.h"

#define VECTOR_PREFIX avx2
#include "kernels/vector_quant_sums.h"
#include "kernels/vector_quant_table.h"

#else
typedef int no_avx2_here; /* a file must not be empty */
#endif
