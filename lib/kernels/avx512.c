/* The AVX-512 tables: the kernels of vector_*.h on this instruction set's vectors; with VNNI attention to quantised rows is another,
 * with BF16 products of pairs of bf16. */
#ifdef __x86_64__

#include "kernels/vector_avx512.h"

#define VECTOR_PREFIX avx512
#include "kernels/vector_table.h"

/* AVX2's products of 16 bits are faster than sums of f32. */
#define avx512_accumulate_q8_0 avx2_accumulate_q8_0
#define avx512_accumulate_q4_0 avx2_accumulate_q4_0
#define avx512_accumulate_q4_0h avx2_accumulate_q4_0h
#define avx512_accumulate_rot8 avx2_accumulate_rot8
#define avx512_accumulate_rot4 avx2_accumulate_rot4
#define avx512_accumulate_rot3 avx2_accumulate_rot3
#define avx512_accumulate_rot2 avx2_accumulate_rot2
const struct kernels kernels_avx512 = VECTOR_TABLE("avx512", true, true, avx512, avx512, avx512);

#define avx512_vnni_score_kivi2 avx512_score_kivi2
#define avx512_vnni_score_rot4s avx512_score_rot4s
#define avx512_vnni_score_rot3s avx512_score_rot3s
#define avx512_vnni_score_rot2s avx512_score_rot2s
#define avx512_vnni_accumulate_kivi2 avx512_accumulate_kivi2
const struct kernels kernels_avx512_vnni = VECTOR_TABLE("avx512_vnni", true, true, avx512_vnni, avx512, avx512);
const struct kernels kernels_avx512_bf16 = VECTOR_TABLE("avx512_bf16", true, true, avx512_vnni, avx512, avx512_bf16);

#else
typedef int no_avx512_here; /* a file must not be empty */
#endif
