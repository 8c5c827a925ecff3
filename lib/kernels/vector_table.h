/* The table of one instruction set from the vector_*.h kernels. Include last, with VECTOR_TABLE and VECTOR_ISA defined; and
 * VECTOR_WITHOUT_QUANT where vector_quant_*.h are not included: quantised rows are scalar.c's then. */
#include "kernels/vector_nearest.h"

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
    }

#define SLOTS_OF_QUANT(id, x)                                                                                                  \
    TARGET static void score_##x(const float *q, size_t n_q, size_t d, const void *keys, size_t row, size_t n, float *s,       \
                                 size_t lds)                                                                                   \
    {                                                                                                                          \
        score_quant(id, q, n_q, d, keys, row, n, s, lds);                                                                      \
    }                                                                                                                          \
    TARGET static void accumulate_##x(const float *p, size_t ldp, const float *f, size_t n_q, const void *values, size_t row,  \
                                      size_t n, size_t e, float *acc, size_t lda)                                              \
    {                                                                                                                          \
        accumulate_quant(id, p, ldp, f, n_q, values, row, n, e, acc, lda);                                                     \
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

#ifdef VECTOR_WITHOUT_QUANT
#define QUANT_SLOT(slot) scalar_##slot
#else
#define QUANT_SLOT(slot) slot
#include "kernels/vector_kivi.h"
#include "kernels/vector_quant_rows.h"
#include "kernels/vector_sketch.h"
SLOTS_OF_QUANT(STORAGE_Q8_0, q8_0)
SLOTS_OF_QUANT(STORAGE_Q4_0, q4_0)
SLOTS_OF_QUANT(STORAGE_Q4_0H, q4_0h)
SLOTS_OF_QUANT(STORAGE_ROT8, rot8)
SLOTS_OF_QUANT(STORAGE_ROT4, rot4)
SLOTS_OF_QUANT(STORAGE_ROT3, rot3)
SLOTS_OF_QUANT(STORAGE_ROT2, rot2)
#endif

const struct kernels VECTOR_TABLE = {
    .isa = VECTOR_ISA,
#ifndef VECTOR_WITHOUT_QUANT
    .whole_keys = true,
#endif
#ifdef VECTOR_WHOLE_VALUES
    .whole_values = true,
#endif
    .score = PER_KEY_STORAGE(score, QUANT_SLOT(score)),
    .weigh = weigh,
    .accumulate = PER_VALUE_STORAGE(accumulate, QUANT_SLOT(accumulate)),
    .nearest = PER_KEY_STORAGE(nearest, QUANT_SLOT(nearest)),
    .multiply = multiply,
    .multiply_add = multiply_add,
    .combine = combine,
    .exponential = exponential,
    .pack_keys = PER_KEY_STORAGE(pack_keys, QUANT_SLOT(pack_keys)),
    .pack_values = PER_VALUE_STORAGE(pack_values, QUANT_SLOT(pack_values)),
    .unpack_keys = PER_KEY_STORAGE(unpack_keys, QUANT_SLOT(unpack_keys)),
    .unpack_values = PER_VALUE_STORAGE(unpack_values, QUANT_SLOT(unpack_values)),
    .copy_keys = copy_keys,
    .widen = PER_ELEMENT(widen),
    .magnitude = PER_ELEMENT(magnitude),
};
