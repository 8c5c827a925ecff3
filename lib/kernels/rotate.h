/* The rotation of storages: a randomised Hadamard transform, the same for every row of a stream and every stream.
 *
 *     rotate    y = H (sign o x) / sqrt(len)      unrotate  x = sign o (H y) / sqrt(len)      inverse of one another
 *
 * piece by piece: a row of n coordinates is cut into powers of two, the largest first (96 = 64 + 32), and a piece of `len` gets
 * its own transform. Signs are coins (base/coins.h) with a fixed seed, so rows need no state and can be read anywhere. Each result
 * is a tree of sums whose order is given (strides 1, 2, 4, ...), so that every instruction set gives the same bits. */
#ifndef ATTND_KERNELS_ROTATE_H
#define ATTND_KERNELS_ROTATE_H

#include "base/coins.h"
#include <math.h>
#include <stddef.h>
#include <string.h>

#define ROTATION_SEED UINT64_C(0x726f74617465)

/* The length of the piece that begins a rest of n > 0 coordinates. */
static inline size_t rotate_piece(size_t n)
{
    size_t len = 1;
    while (2 * len <= n)
        len *= 2;
    return len;
}

/* factor[c] = sign_c / sqrt(len of its piece), of the transform of this seed. */
static inline void rotate_factors_of(uint64_t seed, size_t n, float *factor)
{
    for (size_t at = 0, len; at < n; at += len) {
        len = rotate_piece(n - at);
        float scale = 1 / sqrtf((float)len);
        for (size_t c = at; c < at + len; c++)
            factor[c] = scale;
    }
    for (size_t at = 0; at < n; at += 64) {
        uint64_t coins = ~mix(seed + at / 64);
        for (size_t c = 0; c < 64 && at + c < n; c++) {
            uint32_t bits;
            memcpy(&bits, factor + at + c, sizeof bits);
            bits ^= (uint32_t)(coins >> c & 1) << 31; /* heads: + */
            memcpy(factor + at + c, &bits, sizeof bits);
        }
    }
}

static inline void rotate_factors(size_t n, float *factor)
{
    rotate_factors_of(ROTATION_SEED, n, factor);
}

static inline void hadamard(float *x, size_t n)
{
    for (size_t at = 0, len; at < n; at += len) {
        len = rotate_piece(n - at);
        for (size_t h = 1; h < len; h *= 2)
            for (size_t i = at; i < at + len; i += 2 * h)
                for (size_t c = i; c < i + h; c++) {
                    float a = x[c], b = x[c + h];
                    x[c] = a + b;
                    x[c + h] = a - b;
                }
    }
}

/* y may be x. */
static inline void rotate(const float *x, size_t n, const float *factor, float *y)
{
    for (size_t c = 0; c < n; c++)
        y[c] = x[c] * factor[c];
    hadamard(y, n);
}

static inline void unrotate(float *y, size_t n, const float *factor)
{
    hadamard(y, n);
    for (size_t c = 0; c < n; c++)
        y[c] *= factor[c];
}

#endif
