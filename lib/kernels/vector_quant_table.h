/* The kernels of quantised rows of one instruction set but accumulate (vector_quant_sums.h), by the names that tables.h declares:
 * include last, after a vector_<isa>_quant.h, with VECTOR_PREFIX defined, what the names begin with. */
#include "kernels/vector_accumulate.h"
#include "kernels/vector_math.h"
#include "kernels/vector_quant_keys.h"
#include "kernels/vector_quant_rows.h"
#include "kernels/vector_quant_scores.h"
#include "kernels/vector_score.h"

/* For blocks of f32 that others are read back to. */
APART void score_f32(const float *q, size_t n_q, size_t d, const void *keys, size_t row, size_t n, float *s, size_t lds)
{
    score_any(STORAGE_F32, q, n_q, d, keys, row, n, s, lds);
}

APART void accumulate_f32(const float *p, size_t ldp, const float *f, size_t n_q, const void *values, size_t row, size_t n,
                          size_t e, float *acc, size_t lda)
{
    accumulate_any(STORAGE_F32, p, ldp, f, n_q, values, row, n, e, acc, lda);
}

#include "kernels/vector_kivi.h"
#include "kernels/vector_sketch.h"
