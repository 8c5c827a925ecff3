/* score of quantised keys, by the names that tables.h declares: include after a vector_<isa>_quant.h, with VECTOR_PREFIX defined, what
 * the names begin with. */
#include "kernels/tables.h"
#include "kernels/vector_quant_keys.h"

#define SCORE_OF(id, x)                                                                                                        \
    TARGET void SLOT(score_##x)(const float *q, size_t n_q, size_t d, const void *keys, size_t row, size_t n, float *s,        \
                                size_t lds)                                                                                    \
    {                                                                                                                          \
        score_quant(id, q, n_q, d, keys, row, n, s, lds);                                                                      \
    }
SCORE_OF(STORAGE_Q8_0, q8_0)
SCORE_OF(STORAGE_Q4_0, q4_0)
SCORE_OF(STORAGE_Q4_0H, q4_0h)
SCORE_OF(STORAGE_ROT8, rot8)
SCORE_OF(STORAGE_ROT4, rot4)
SCORE_OF(STORAGE_ROT3, rot3)
SCORE_OF(STORAGE_ROT2, rot2)
#undef SCORE_OF
