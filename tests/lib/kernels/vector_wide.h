/* Vectors of 16 floats as plain arrays: the operations of lib/kernels/vector_avx512.h with the same meaning to the bit (fma is
 * fused), so that what the vector_*.h kernels do with vectors of that width is tested on any CPU. */
#ifndef ATTND_TESTS_VECTOR_WIDE_H
#define ATTND_TESTS_VECTOR_WIDE_H

#include "kernels/element.h"
#include <math.h>
#include <stddef.h>

#define TARGET
#define INLINE static inline

enum { W = 16 };
enum { TILE_QUERIES = 6 };
#define VECTORS(m) ((m) <= 2 ? 8 : 4)
#define SCORE_VECTORS(id, m) VECTORS(m)

typedef struct {
    float x[W];
} vf;
typedef struct {
    int32_t x[W];
} vi;

#define LANES(type, expression)                                                                                                \
    type y;                                                                                                                    \
    for (size_t l = 0; l < W; l++)                                                                                             \
        y.x[l] = (expression);                                                                                                 \
    return y

INLINE vf v_set1(float x)
{
    LANES(vf, x);
}

INLINE vi v_set1_bits(int32_t x)
{
    LANES(vi, x);
}

INLINE vf v_load(const float *p)
{
    vf y;
    memcpy(&y, p, sizeof y);
    return y;
}

INLINE void v_store(float *p, vf x)
{
    memcpy(p, x.x, sizeof x);
}

INLINE vf v_load_lanes(const float *p, size_t lo, size_t hi)
{
    LANES(vf, l >= lo && l < hi ? p[l] : 0);
}

INLINE void v_store_lanes(float *p, size_t lo, size_t hi, vf x)
{
    for (size_t l = lo; l < W && l < hi; l++)
        p[l] = x.x[l];
}

INLINE vf v_keep_lanes(vf x, size_t lo, size_t hi, vf other)
{
    LANES(vf, l >= lo && l < hi ? x.x[l] : other.x[l]);
}

INLINE vf v_add(vf a, vf b)
{
    LANES(vf, a.x[l] + b.x[l]);
}

INLINE vf v_sub(vf a, vf b)
{
    LANES(vf, a.x[l] - b.x[l]);
}

INLINE vf v_mul(vf a, vf b)
{
    LANES(vf, a.x[l] * b.x[l]);
}

INLINE vf v_fma(vf a, vf b, vf c)
{
    LANES(vf, fmaf(a.x[l], b.x[l], c.x[l]));
}

INLINE vf v_max(vf a, vf b)
{
    LANES(vf, a.x[l] > b.x[l] ? a.x[l] : b.x[l]);
}

INLINE vf v_min(vf a, vf b)
{
    LANES(vf, a.x[l] < b.x[l] ? a.x[l] : b.x[l]);
}

INLINE vf v_above(vf x, vf limit, vf y_)
{
    LANES(vf, x.x[l] > limit.x[l] ? y_.x[l] : 0);
}

INLINE vi v_bits(vf x)
{
    LANES(vi, (int32_t)f32_bits(x.x[l]));
}

INLINE vf v_floats(vi x)
{
    LANES(vf, f32_of_bits((uint32_t)x.x[l]));
}

INLINE vi v_load_bits(const void *p)
{
    vi y;
    memcpy(&y, p, sizeof y);
    return y;
}

INLINE void v_store_bits(void *p, vi x)
{
    memcpy(p, &x, sizeof x);
}

INLINE vi v_shift_left(vi x, int k)
{
    LANES(vi, (int32_t)((uint32_t)x.x[l] << k));
}

INLINE vi v_shift_right(vi x, int k)
{
    LANES(vi, x.x[l] >> k);
}

INLINE vi v_and(vi a, vi b)
{
    LANES(vi, a.x[l] & b.x[l]);
}

INLINE vi v_or(vi a, vi b)
{
    LANES(vi, a.x[l] | b.x[l]);
}

INLINE vi v_add_bits(vi a, vi b)
{
    LANES(vi, (int32_t)((uint32_t)a.x[l] + (uint32_t)b.x[l]));
}

INLINE vi v_sub_bits(vi a, vi b)
{
    LANES(vi, (int32_t)((uint32_t)a.x[l] - (uint32_t)b.x[l]));
}

INLINE vi v_max_bits(vi a, vi b)
{
    LANES(vi, a.x[l] > b.x[l] ? a.x[l] : b.x[l]);
}

INLINE vi v_select_above(vi a, vi b, vi x, vi y_)
{
    LANES(vi, a.x[l] > b.x[l] ? x.x[l] : y_.x[l]);
}

INLINE uint16_t wide_half(const void *p, size_t l)
{
    uint16_t h;
    memcpy(&h, (const char *)p + 2 * l, sizeof h);
    return h;
}

INLINE vf v_load_bf16(const void *p)
{
    LANES(vf, bf16_to_f32(wide_half(p, l)));
}

INLINE vf v_load_f16(const void *p)
{
    LANES(vf, f16_to_f32(wide_half(p, l)));
}

INLINE vf v_low_bf16(const void *pairs)
{
    LANES(vf, bf16_to_f32(wide_half(pairs, 2 * l)));
}

INLINE vf v_high_bf16(vf low, const void *pairs)
{
    vi high = v_load_bits(pairs);
    LANES(vf, f32_of_bits((f32_bits(low.x[l]) & 0xffffu) | ((uint32_t)high.x[l] & 0xffff0000u)));
}

INLINE vf v_set_pair(const float *x_)
{
    LANES(vf, x_[l % 2]);
}

INLINE void v_split(vf *a, vf *b)
{
    vf from[2] = {*a, *b};
    for (size_t l = 0; l < W; l++) {
        a->x[l] = from[2 * l / W].x[2 * l % W];
        b->x[l] = from[2 * l / W].x[2 * l % W + 1];
    }
}

INLINE void v_join(vf *a, vf *b)
{
    vf even = *a, odd = *b;
    for (size_t l = 0; l < 2 * (size_t)W; l++)
        (l < W ? a : b)->x[l % W] = (l % 2 ? odd : even).x[l / 2];
}

INLINE vf v_pair_sums(vf a, vf b)
{
    v_split(&a, &b);
    return v_add(a, b);
}

INLINE void v_store_low(void *p, vi x)
{
    for (size_t l = 0; l < W; l++)
        memcpy((char *)p + 2 * l, &(uint16_t){(uint16_t)x.x[l]}, 2);
}

INLINE void v_store_f16(void *p, vf x)
{
    for (size_t l = 0; l < W; l++)
        memcpy((char *)p + 2 * l, &(uint16_t){f16_of_f32(x.x[l])}, 2);
}

INLINE float v_sum_lanes(vf x)
{
    for (size_t half = W / 2; half; half /= 2)
        for (size_t l = 0; l < half; l++)
            x.x[l] += x.x[l + half];
    return x.x[0];
}

INLINE float v_max_lanes(vf x)
{
    for (size_t l = 1; l < W; l++)
        x.x[0] = x.x[l] > x.x[0] ? x.x[l] : x.x[0];
    return x.x[0];
}

INLINE void v_transpose(vf x[W])
{
    for (size_t i = 0; i < W; i++)
        for (size_t j = 0; j < i; j++) {
            float swap = x[i].x[j];
            x[i].x[j] = x[j].x[i];
            x[j].x[i] = swap;
        }
}

INLINE float v_first(vf x)
{
    return x.x[0];
}

INLINE void v_prefetch(const void *p)
{
}

INLINE void v_prefetch_far(const void *p)
{
}

#endif
