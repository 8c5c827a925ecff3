/* The table of the vector_*.h kernels on vector_wide.h: the logic of the AVX-512 table, on any CPU. */
#include "vector_wide.h"

#include "isas.h"
#define VECTOR_PREFIX wide
#include "kernels/vector_table.h"

/* Every other table has sums of its own. */
#define wide_accumulate_q8_0 scalar_accumulate_q8_0
#define wide_accumulate_q4_0 scalar_accumulate_q4_0
#define wide_accumulate_q4_0h scalar_accumulate_q4_0h
#define wide_accumulate_rot8 scalar_accumulate_rot8
#define wide_accumulate_rot4 scalar_accumulate_rot4
#define wide_accumulate_rot3 scalar_accumulate_rot3
#define wide_accumulate_rot2 scalar_accumulate_rot2
const struct kernels kernels_wide = VECTOR_TABLE("wide", true, false, wide, wide, wide);

size_t test_isas(const struct kernels *out[TEST_ISAS_MAX])
{
    size_t n = kernels_runnable(out);
    out[n] = &kernels_wide;
    return n + 1;
}
