/* The tables behind kernels_find, one file each; for lib/kernels only. */
#ifndef ATTND_KERNELS_TABLES_H
#define ATTND_KERNELS_TABLES_H

#include "kernels/kernels.h"

extern const struct kernels kernels_scalar;
#ifdef __x86_64__
extern const struct kernels kernels_avx2, kernels_avx512, kernels_avx512_vnni, kernels_avx512_bf16;
#endif
#ifdef __aarch64__
extern const struct kernels kernels_neon;
#endif

/* The kernels of quantised rows, in files of their own: scalar_quant.c, scalar_kivi.c and scalar_sketch.c; <isa>_quant.c. */
#define KEY_SLOTS(isa, x)                                                                                                      \
    void isa##_score_##x(const float *q, size_t n_q, size_t d, const void *keys, size_t row, size_t n, float *s, size_t lds);  \
    void isa##_pack_keys_##x(const float *rows, size_t n, size_t d, void *keys, size_t row);                                   \
    void isa##_unpack_keys_##x(const void *keys, size_t row, size_t n, size_t d, float *rows);                                 \
    size_t isa##_nearest_##x(const float *key, size_t d, const void *keys, size_t n, float *distance);
#define VALUE_SLOTS(isa, x)                                                                                                    \
    void isa##_accumulate_##x(const float *p, size_t ldp, const float *f, size_t n_q, const void *values, size_t row,          \
                              size_t n, size_t e, float *acc, size_t lda);                                                     \
    void isa##_pack_values_##x(const float *rows, size_t n, size_t e, void *values, size_t row);                               \
    void isa##_unpack_values_##x(const void *values, size_t row, size_t n, size_t e, float *rows);
#define BOTH_SLOTS(isa, x)                                                                                                     \
    KEY_SLOTS(isa, x)                                                                                                          \
    VALUE_SLOTS(isa, x)
#define QUANT_SLOTS(isa)                                                                                                       \
    BOTH_SLOTS(isa, q8_0)                                                                                                      \
    BOTH_SLOTS(isa, q4_0)                                                                                                      \
    BOTH_SLOTS(isa, q4_0h)                                                                                                     \
    BOTH_SLOTS(isa, rot8)                                                                                                      \
    BOTH_SLOTS(isa, rot4)                                                                                                      \
    BOTH_SLOTS(isa, rot3)                                                                                                      \
    BOTH_SLOTS(isa, rot2)                                                                                                      \
    BOTH_SLOTS(isa, kivi2)                                                                                                     \
    KEY_SLOTS(isa, rot4s)                                                                                                      \
    KEY_SLOTS(isa, rot3s)                                                                                                      \
    KEY_SLOTS(isa, rot2s)
QUANT_SLOTS(scalar)
#ifdef __x86_64__
QUANT_SLOTS(avx2)
QUANT_SLOTS(avx512)      /* of these, all but what vector_quant_sums.h has are there, */
QUANT_SLOTS(avx512_vnni) /* of these, what that and vector_quant_scores.h have */
#endif

/* Products of pairs of bf16: of scalar_bf16.c and vector_bf16.h. */
#define BF16_SLOTS(isa)                                                                                                        \
    void isa##_pair_rows(const float *rows, size_t n, size_t width, uint32_t *pairs);                                          \
    float isa##_weigh_bf16(const float *s, size_t lo, size_t hi, size_t n, const float *log_w, float *max, float *sum,         \
                           uint32_t *pairs);                                                                                   \
    void isa##_product_bf16(const uint32_t *a, size_t lda, size_t n_q, const uint32_t *pairs, size_t n_pairs, size_t n,        \
                            const float *f, float *out, size_t ldo);
BF16_SLOTS(scalar)
#ifdef __x86_64__
BF16_SLOTS(avx2)
BF16_SLOTS(avx512)
BF16_SLOTS(avx512_bf16)
#endif
#ifdef __aarch64__
BF16_SLOTS(neon)
#endif

/* The name of a slot's function where VECTOR_PREFIX says whose it is. */
#define SLOT(name) SLOT_NAMED(VECTOR_PREFIX, name)
#define SLOT_NAMED(prefix, name) SLOT_JOINED(prefix, name)
#define SLOT_JOINED(prefix, name) prefix##_##name

/* A slot's functions, one per storage or element type, by their names' ends; `quant` is what those of quantised rows begin with.
 * Keys with a sketch have functions of their own, values beside them are those of the plain storage. */
#define PER_KEY_STORAGE(slot, quant) PER_STORAGE_NAMED(slot, quant, s)
#define PER_VALUE_STORAGE(slot, quant) PER_STORAGE_NAMED(slot, quant, )
#define PER_STORAGE_NAMED(slot, quant, s)                                                                                      \
    {                                                                                                                          \
        [STORAGE_F32] = slot##_f32, [STORAGE_BF16] = slot##_bf16, [STORAGE_F16] = slot##_f16, [STORAGE_Q8_0] = quant##_q8_0,   \
        [STORAGE_Q4_0] = quant##_q4_0, [STORAGE_Q4_0H] = quant##_q4_0h, [STORAGE_ROT8] = quant##_rot8,                         \
        [STORAGE_ROT4] = quant##_rot4, [STORAGE_ROT3] = quant##_rot3, [STORAGE_ROT2] = quant##_rot2,                           \
        [STORAGE_KIVI2] = quant##_kivi2, [STORAGE_ROT4S] = quant##_rot4##s, [STORAGE_ROT3S] = quant##_rot3##s,                 \
        [STORAGE_ROT2S] = quant##_rot2##s                                                                                      \
    }
#define PER_ELEMENT(slot)                                                                                                      \
    {                                                                                                                          \
        [ELEMENT_F32] = slot##_f32, [ELEMENT_BF16] = slot##_bf16, [ELEMENT_F16] = slot##_f16                                   \
    }

#endif
