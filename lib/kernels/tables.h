/* The tables behind kernels_find, one file each; for lib/kernels only. */
#ifndef ATTND_KERNELS_TABLES_H
#define ATTND_KERNELS_TABLES_H

#include "kernels/kernels.h"

extern const struct kernels kernels_scalar;
#ifdef __x86_64__
extern const struct kernels kernels_avx2, kernels_avx512;
#endif

/* A slot's functions, one per storage or element type, by their names' ends. */
#define PER_STORAGE(slot)                                                                                                      \
    {                                                                                                                          \
        [STORAGE_F32] = slot##_f32, [STORAGE_BF16] = slot##_bf16, [STORAGE_F16] = slot##_f16                                   \
    }
#define PER_ELEMENT(slot)                                                                                                      \
    {                                                                                                                          \
        [ELEMENT_F32] = slot##_f32, [ELEMENT_BF16] = slot##_bf16, [ELEMENT_F16] = slot##_f16                                   \
    }

#endif
