/* The rotation of rotate.h in vectors: the same sums in the same order, so the same bits. Include after a vector_<isa>_quant.h.
 * Room for whole vectors is needed behind the last coordinate: buffers of QUANT_ROOM floats. */
#ifndef ATTND_KERNELS_VECTOR_ROTATE_H
#define ATTND_KERNELS_VECTOR_ROTATE_H

#include "kernels/quant.h"
#include "kernels/rotate.h"

enum { QUANT_ROOM = SHAPE_DIM_MAX + QUANT_BLOCK /* floats or integers of a row, whole blocks */ };

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

/* As rotate and unrotate in rotate.h; out may be x. */
INLINE void rotate_row(const float *x, size_t d, const float *factor, float *out)
{
    multiply_factors(x, factor, d, out);
    hadamard_any(out, d);
}

INLINE void unrotate_row(float *x, size_t d, const float *factor, float *out)
{
    hadamard_any(x, d);
    multiply_factors(x, factor, d, out);
}

/* A row as its storage cuts it into blocks: rotated where that rotates, with zeros behind the last coordinate. */
INLINE void row_to_cut(enum storage_id id, const float *row, size_t n, const float *factor, float x[QUANT_ROOM])
{
    if (quant_rotates(id))
        rotate_row(row, n, factor, x);
    else
        memcpy(x, row, n * sizeof *x);
    memset(x + n, 0, (quant_blocks(n) * QUANT_BLOCK - n) * sizeof *x);
}

#endif
