/* The table of the vector_*.h kernels on vector_wide.h: the logic of the AVX-512 table, on any CPU. */
#include "vector_wide.h"
#include "vector_wide_quant.h"

#include "kernels/vector_accumulate.h"
#include "kernels/vector_math.h"
#include "kernels/vector_rows.h"
#include "kernels/vector_score.h"

#include "kernels/vector_quant_keys.h"
#include "kernels/vector_quant_values.h"

#include "isas.h"
#include "kernels/tables.h"
#define VECTOR_TABLE kernels_wide
#define VECTOR_ISA "wide"
#include "kernels/vector_table.h"

size_t test_isas(const struct kernels *out[TEST_ISAS_MAX])
{
    size_t n = kernels_runnable(out);
    out[n] = &kernels_wide;
    return n + 1;
}
