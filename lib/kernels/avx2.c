/* The AVX2 table: the kernels of vector_*.h on this instruction set's vectors. */
#ifdef __x86_64__

#include "kernels/vector_avx2.h"

#define VECTOR_PREFIX avx2
#include "kernels/vector_table.h"

const struct kernels kernels_avx2 = VECTOR_TABLE("avx2", true, true, avx2, avx2, avx2);

#else
typedef int no_avx2_here; /* a file must not be empty */
#endif
