/* The kernels of plain rows of one instruction set, and how its table is made: include last, with VECTOR_PREFIX. Those of
 * quantised rows are a file of their own, which vector_quant_table.h makes. */
#include "kernels/tables.h"
#include "kernels/vector_accumulate.h"
#include "kernels/vector_bf16.h"
#include "kernels/vector_math.h"
#include "kernels/vector_nearest.h"
#include "kernels/vector_rows.h"
#include "kernels/vector_score.h"

#define SLOTS_OF_STORAGE(id, x)                                                                                                \
    TARGET static void score_##x(const float *q, size_t n_q, size_t d, const void *keys, size_t row, size_t n, float *s,       \
                                 size_t lds)                                                                                   \
    {                                                                                                                          \
        score_any(id, q, n_q, d, keys, row, n, s, lds);                                                                        \
    }                                                                                                                          \
    TARGET static void accumulate_##x(const float *p, size_t ldp, const float *f, size_t n_q, const void *values, size_t row,  \
                                      size_t n, size_t e, float *acc, size_t lda)                                              \
    {                                                                                                                          \
        accumulate_any(id, p, ldp, f, n_q, values, row, n, e, acc, lda);                                                       \
    }                                                                                                                          \
    TARGET static void pack_keys_##x(const float *rows, size_t n, size_t d, void *keys, size_t row)                            \
    {                                                                                                                          \
        pack_keys_any(id, rows, n, d, keys, row);                                                                              \
    }                                                                                                                          \
    TARGET static void pack_values_##x(const float *rows, size_t n, size_t e, void *values, size_t row)                        \
    {                                                                                                                          \
        narrow_run(element_of(id), rows, n *e, (char *)values + row * e * bytes_of(element_of(id)));                           \
    }                                                                                                                          \
    TARGET static void unpack_keys_##x(const void *keys, size_t row, size_t n, size_t d, float *rows)                          \
    {                                                                                                                          \
        unpack_keys_any(id, keys, row, n, d, rows);                                                                            \
    }                                                                                                                          \
    TARGET static void unpack_values_##x(const void *values, size_t row, size_t n, size_t e, float *rows)                      \
    {                                                                                                                          \
        widen_run(element_of(id), (const char *)values + row * e * bytes_of(element_of(id)), n * e, 1, rows);                  \
    }                                                                                                                          \
    TARGET static size_t nearest_##x(const float *key, size_t d, const void *keys, size_t n, float *distance)                  \
    {                                                                                                                          \
        return nearest_any(id, key, d, keys, n, distance);                                                                     \
    }

#define SLOTS_OF_ELEMENT(id, x)                                                                                                \
    TARGET static void widen_##x(const void *in, size_t n, size_t width, size_t stride, float factor, float *out)              \
    {                                                                                                                          \
        widen_any(id, in, n, width, stride, factor, out);                                                                      \
    }                                                                                                                          \
    TARGET static float magnitude_##x(const void *in, size_t n)                                                                \
    {                                                                                                                          \
        return magnitude_any(id, in, n);                                                                                       \
    }

SLOTS_OF_STORAGE(STORAGE_F32, f32)
SLOTS_OF_STORAGE(STORAGE_BF16, bf16)
SLOTS_OF_STORAGE(STORAGE_F16, f16)
SLOTS_OF_ELEMENT(ELEMENT_F32, f32)
SLOTS_OF_ELEMENT(ELEMENT_BF16, bf16)
SLOTS_OF_ELEMENT(ELEMENT_F16, f16)

/* The table: plain rows are this file's; quantised ones are of the functions that begin with `quant`, their attention of those that
 * begin with `sums` (tables.h), products of bf16 of those that begin with `pairs`. whole: whether keys, and values, are multiplied as
 * whole numbers. */
#define VECTOR_TABLE(name, whole_keys_, whole_values_, sums, quant, pairs)                                                     \
    {                                                                                                                          \
        .isa = (name), .whole_keys = (whole_keys_), .whole_values = (whole_values_),                                           \
        .score = PER_KEY_STORAGE(score, sums##_score), .weigh = weigh, .pair_rows = pairs##_pair_rows,                         \
        .weigh_bf16 = pairs##_weigh_bf16, .product_bf16 = pairs##_product_bf16,                                                \
        .accumulate = PER_VALUE_STORAGE(accumulate, sums##_accumulate), .nearest = PER_KEY_STORAGE(nearest, quant##_nearest),  \
        .multiply = multiply, .multiply_add = multiply_add, .combine = combine, .exponential = exponential,                    \
        .pack_keys = PER_KEY_STORAGE(pack_keys, quant##_pack_keys),                                                            \
        .pack_values = PER_VALUE_STORAGE(pack_values, quant##_pack_values),                                                    \
        .unpack_keys = PER_KEY_STORAGE(unpack_keys, quant##_unpack_keys),                                                      \
        .unpack_values = PER_VALUE_STORAGE(unpack_values, quant##_unpack_values), .copy_keys = copy_keys,                      \
        .widen = PER_ELEMENT(widen), .magnitude = PER_ELEMENT(magnitude),                                                      \
    }
