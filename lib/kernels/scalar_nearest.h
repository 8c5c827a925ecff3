/* The nearest row, in its plainest form: what kernels.h says of `nearest`. Include after scalar_rows.h, in scalar.c. */
#ifndef ATTND_KERNELS_SCALAR_NEAREST_H
#define ATTND_KERNELS_SCALAR_NEAREST_H

#include "kernels/scalar_rows.h"
#include <math.h>

static inline size_t nearest_any(enum storage_id id, const float *x, size_t d, const void *keys, size_t n, float *distance)
{
    size_t row = 0;
    *distance = INFINITY;
    for (size_t j = 0; j < n; j++) {
        float sum = 0;
        for (size_t c = 0; c < d; c++) {
            float off = x[c] - key_get(id, keys, d, j, c), square = off * off;
            sum += square;
        }
        if (sum < *distance) {
            *distance = sum;
            row = j;
        }
    }
    return row;
}

#define NEAREST_OF(id, x)                                                                                                      \
    static size_t nearest_##x(const float *key, size_t d, const void *keys, size_t n, float *distance)                         \
    {                                                                                                                          \
        return nearest_any(id, key, d, keys, n, distance);                                                                     \
    }
NEAREST_OF(STORAGE_F32, f32)
NEAREST_OF(STORAGE_BF16, bf16)
NEAREST_OF(STORAGE_F16, f16)
#undef NEAREST_OF

#endif
