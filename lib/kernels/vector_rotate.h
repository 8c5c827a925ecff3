/* The rotation of rotate.h in vectors: the same sums in the same order, so the same bits. Include after a vector_<isa>_quant.h.
 * Room for whole vectors is needed behind the last coordinate: buffers of ROTATE_ROOM(n) floats. */
#ifndef ATTND_KERNELS_VECTOR_ROTATE_H
#define ATTND_KERNELS_VECTOR_ROTATE_H

#include "kernels/rotate.h"

/* A piece of whole vectors: within vectors first, then across. */
INLINE void hadamard_vectors(float *x, size_t len)
{
    for (size_t c = 0; c < len; c += W) {
        vf y = v_butterfly(v_butterfly(v_load(x + c), 1), 2);
        y = v_butterfly(y, 4);
        if (W > 8)
            y = v_butterfly(y, W / 2);
        v_store(x + c, y);
    }
    for (size_t h = W; h < len; h *= 2)
        for (size_t i = 0; i < len; i += 2 * h)
            for (size_t c = i; c < i + h; c += W) {
                vf a = v_load(x + c), b = v_load(x + c + h);
                v_store(x + c, v_add(a, b));
                v_store(x + c + h, v_sub(a, b));
            }
}

INLINE void hadamard_any(float *x, size_t n)
{
    size_t at = 0;
    for (size_t len; n - at >= W; at += len) {
        len = rotate_piece(n - at);
        hadamard_vectors(x + at, len);
    }
    hadamard(x + at, n - at);
}

INLINE void multiply_factors(const float *x, const float *factor, size_t n, float *y)
{
    size_t c = 0;
    for (; c + W <= n; c += W)
        v_store(y + c, v_mul(v_load(x + c), v_load(factor + c)));
    for (; c < n; c++)
        y[c] = x[c] * factor[c];
}

#endif
