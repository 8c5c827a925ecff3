/* The kernels of quantised rows of one instruction set, by the names that tables.h declares: include last, after a
 * vector_<isa>_quant.h and the kernel of values, with VECTOR_PREFIX defined, what the names begin with. */
#include "kernels/vector_accumulate.h"
#include "kernels/vector_math.h"
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

#define ACCUMULATE_OF(id, x)                                                                                                   \
    TARGET static void accumulate_##x(const float *p, size_t ldp, const float *f, size_t n_q, const void *values, size_t row,  \
                                      size_t n, size_t e, float *acc, size_t lda)                                              \
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

/* The names of what is there as statics; scores that vector_quant_scores.h has are named already. */
#define NAME_SCORE(x)                                                                                                          \
    TARGET void NAMED(VECTOR_PREFIX, score_##x)(const float *q, size_t n_q, size_t d, const void *keys, size_t row, size_t n,  \
                                                float *s, size_t lds)                                                          \
    {                                                                                                                          \
        score_##x(q, n_q, d, keys, row, n, s, lds);                                                                            \
    }
#define NAME_KEYS(x)                                                                                                           \
    TARGET void NAMED(VECTOR_PREFIX, pack_keys_##x)(const float *rows, size_t n, size_t d, void *keys, size_t row)             \
    {                                                                                                                          \
        pack_keys_##x(rows, n, d, keys, row);                                                                                  \
    }                                                                                                                          \
    TARGET void NAMED(VECTOR_PREFIX, unpack_keys_##x)(const void *keys, size_t row, size_t n, size_t d, float *rows)           \
    {                                                                                                                          \
        unpack_keys_##x(keys, row, n, d, rows);                                                                                \
    }                                                                                                                          \
    TARGET size_t NAMED(VECTOR_PREFIX, nearest_##x)(const float *key, size_t d, const void *keys, size_t n, float *distance)   \
    {                                                                                                                          \
        return nearest_##x(key, d, keys, n, distance);                                                                         \
    }
#define NAME_VALUES(x)                                                                                                         \
    TARGET void NAMED(VECTOR_PREFIX, accumulate_##x)(const float *p, size_t ldp, const float *f, size_t n_q,                   \
                                                     const void *values, size_t row, size_t n, size_t e, float *acc,           \
                                                     size_t lda)                                                               \
    {                                                                                                                          \
        accumulate_##x(p, ldp, f, n_q, values, row, n, e, acc, lda);                                                           \
    }                                                                                                                          \
    TARGET void NAMED(VECTOR_PREFIX, pack_values_##x)(const float *rows, size_t n, size_t e, void *values, size_t row)         \
    {                                                                                                                          \
        pack_values_##x(rows, n, e, values, row);                                                                              \
    }                                                                                                                          \
    TARGET void NAMED(VECTOR_PREFIX, unpack_values_##x)(const void *values, size_t row, size_t n, size_t e, float *rows)       \
    {                                                                                                                          \
        unpack_values_##x(values, row, n, e, rows);                                                                            \
    }
NAME_KEYS(q8_0)
NAME_VALUES(q8_0)
NAME_KEYS(q4_0)
NAME_VALUES(q4_0)
NAME_KEYS(q4_0h)
NAME_VALUES(q4_0h)
NAME_KEYS(rot8)
NAME_VALUES(rot8)
NAME_KEYS(rot4)
NAME_VALUES(rot4)
NAME_KEYS(rot3)
NAME_VALUES(rot3)
NAME_KEYS(rot2)
NAME_VALUES(rot2)
NAME_KEYS(kivi2)
NAME_VALUES(kivi2)
NAME_SCORE(kivi2)
NAME_SCORE(rot4s)
NAME_KEYS(rot4s)
NAME_SCORE(rot3s)
NAME_KEYS(rot3s)
NAME_SCORE(rot2s)
NAME_KEYS(rot2s)
#undef NAME_SCORE
#undef NAME_KEYS
#undef NAME_VALUES
