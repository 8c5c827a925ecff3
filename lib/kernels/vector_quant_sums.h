/* accumulate of quantised values, by the names that tables.h declares: include after the kernel of values, with VECTOR_PREFIX defined,
 * what the names begin with. */
#include "kernels/tables.h"

#define ACCUMULATE_OF(id, x)                                                                                                   \
    TARGET void SLOT(accumulate_##x)(const float *p, size_t ldp, const float *f, size_t n_q, const void *values, size_t row,   \
                                     size_t n, size_t e, float *acc, size_t lda)                                               \
    {                                                                                                                          \
        accumulate_quant(id, p, ldp, f, n_q, values, row, n, e, acc, lda);                                                     \
    }
ACCUMULATE_OF(STORAGE_Q8_0, q8_0)
ACCUMULATE_OF(STORAGE_Q4_0, q4_0)
ACCUMULATE_OF(STORAGE_Q4_0H, q4_0h)
ACCUMULATE_OF(STORAGE_ROT8, rot8)
ACCUMULATE_OF(STORAGE_ROT4, rot4)
ACCUMULATE_OF(STORAGE_ROT3, rot3)
ACCUMULATE_OF(STORAGE_ROT2, rot2)
#undef ACCUMULATE_OF
