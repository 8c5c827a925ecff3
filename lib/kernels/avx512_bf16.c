/* Products of pairs of bf16 where AVX-512 has BF16: two of them and their sum are one instruction. */
#ifdef __x86_64__

#define VECTOR_BF16
#include "kernels/vector_avx512.h"

#define VECTOR_PREFIX avx512_bf16
#include "kernels/vector_bf16.h"

#else
typedef int no_avx512_here; /* a file must not be empty */
#endif
