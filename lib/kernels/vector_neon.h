/* Vectors of 8 floats on NEON (any AArch64): two registers each, so that 32 registers of 4 are what AVX2's 16 of 8 are, and the
 * vector_*.h kernels keep their shapes. The operations mean what they mean in vector_avx2.h. */
#ifndef ATTND_KERNELS_VECTOR_NEON_H
#define ATTND_KERNELS_VECTOR_NEON_H

#include <arm_neon.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define TARGET
#define INLINE static inline __attribute__((always_inline))

enum { W = 8 };
enum { TILE_QUERIES = 6 };
#define VECTORS(m) ((m) == 1 ? 8 : (m) == 2 ? 4 : 2)
#define SCORE_VECTORS(id, m) ((id) == STORAGE_F16 ? ((m) <= 3 ? 4 : 2) : VECTORS(m))

typedef struct {
    float32x4_t lo, hi;
} vf;
typedef struct {
    int32x4_t lo, hi;
} vi;

#define BOTH(type, half)                                                                                                       \
    return (type)                                                                                                              \
    {                                                                                                                          \
        half(lo), half(hi)                                                                                                     \
    }

INLINE vf v_set1(float x)
{
    return (vf){vdupq_n_f32(x), vdupq_n_f32(x)};
}

INLINE vi v_set1_bits(int32_t x)
{
    return (vi){vdupq_n_s32(x), vdupq_n_s32(x)};
}

INLINE vf v_load(const float *p)
{
    return (vf){vld1q_f32(p), vld1q_f32(p + 4)};
}

INLINE void v_store(float *p, vf x)
{
    vst1q_f32(p, x.lo);
    vst1q_f32(p + 4, x.hi);
}

/* Only lanes lo <= lane < hi are touched in memory; the others load as 0. */
INLINE vf v_load_lanes(const float *p, size_t lo, size_t hi)
{
    float lane[W] = {0};
    for (size_t l = lo; l < hi && l < W; l++)
        lane[l] = p[l];
    return v_load(lane);
}

INLINE void v_store_lanes(float *p, size_t lo, size_t hi, vf x)
{
    float lane[W];
    v_store(lane, x);
    for (size_t l = lo; l < hi && l < W; l++)
        p[l] = lane[l];
}

/* x in lanes lo <= lane < hi, other elsewhere. */
INLINE vf v_keep_lanes(vf x, size_t lo, size_t hi, vf other)
{
    float lane[W], to[W];
    v_store(lane, x);
    v_store(to, other);
    for (size_t l = lo; l < hi && l < W; l++)
        to[l] = lane[l];
    return v_load(to);
}

INLINE vf v_add(vf a, vf b)
{
#define OF(half) vaddq_f32(a.half, b.half)
    BOTH(vf, OF);
#undef OF
}

INLINE vf v_sub(vf a, vf b)
{
#define OF(half) vsubq_f32(a.half, b.half)
    BOTH(vf, OF);
#undef OF
}

INLINE vf v_mul(vf a, vf b)
{
#define OF(half) vmulq_f32(a.half, b.half)
    BOTH(vf, OF);
#undef OF
}

/* a b + c */
INLINE vf v_fma(vf a, vf b, vf c)
{
#define OF(half) vfmaq_f32(c.half, a.half, b.half)
    BOTH(vf, OF);
#undef OF
}

/* Where one is a NaN: b. */
INLINE vf v_max(vf a, vf b)
{
#define OF(half) vbslq_f32(vcgtq_f32(a.half, b.half), a.half, b.half)
    BOTH(vf, OF);
#undef OF
}

INLINE vf v_min(vf a, vf b)
{
#define OF(half) vbslq_f32(vcltq_f32(a.half, b.half), a.half, b.half)
    BOTH(vf, OF);
#undef OF
}

INLINE vi v_bits(vf x)
{
#define OF(half) vreinterpretq_s32_f32(x.half)
    BOTH(vi, OF);
#undef OF
}

INLINE vf v_floats(vi x)
{
#define OF(half) vreinterpretq_f32_s32(x.half)
    BOTH(vf, OF);
#undef OF
}

INLINE vi v_load_bits(const void *p)
{
    return v_bits(v_load(p));
}

INLINE void v_store_bits(void *p, vi x)
{
    v_store(p, v_floats(x));
}

INLINE vi v_shift_left(vi x, int k)
{
#define OF(half) vshlq_s32(x.half, vdupq_n_s32(k))
    BOTH(vi, OF);
#undef OF
}

/* Arithmetic. */
INLINE vi v_shift_right(vi x, int k)
{
    return v_shift_left(x, -k);
}

INLINE vi v_and(vi a, vi b)
{
#define OF(half) vandq_s32(a.half, b.half)
    BOTH(vi, OF);
#undef OF
}

INLINE vi v_or(vi a, vi b)
{
#define OF(half) vorrq_s32(a.half, b.half)
    BOTH(vi, OF);
#undef OF
}

INLINE vi v_add_bits(vi a, vi b)
{
#define OF(half) vaddq_s32(a.half, b.half)
    BOTH(vi, OF);
#undef OF
}

INLINE vi v_sub_bits(vi a, vi b)
{
#define OF(half) vsubq_s32(a.half, b.half)
    BOTH(vi, OF);
#undef OF
}

INLINE vi v_max_bits(vi a, vi b)
{
#define OF(half) vmaxq_s32(a.half, b.half)
    BOTH(vi, OF);
#undef OF
}

/* a > b ? x : y */
INLINE vi v_select_above(vi a, vi b, vi x, vi y)
{
#define OF(half) vbslq_s32(vcgtq_s32(a.half, b.half), x.half, y.half)
    BOTH(vi, OF);
#undef OF
}

/* y where x > limit, else 0. */
INLINE vf v_above(vf x, vf limit, vf y)
{
#define OF(half) vbslq_f32(vcgtq_f32(x.half, limit.half), y.half, vdupq_n_f32(0))
    BOTH(vf, OF);
#undef OF
}

/* W consecutive 16-bit elements, widened. */
INLINE vf v_load_bf16(const void *p)
{
    uint16x8_t x = vreinterpretq_u16_u8(vld1q_u8(p));
    return (vf){vreinterpretq_f32_u32(vshll_n_u16(vget_low_u16(x), 16)), vreinterpretq_f32_u32(vshll_high_n_u16(x, 16))};
}

INLINE vf v_load_f16(const void *p)
{
    float16x8_t x = vreinterpretq_f16_u8(vld1q_u8(p));
    return (vf){vcvt_f32_f16(vget_low_f16(x)), vcvt_high_f32_f16(x)};
}

/* Of W pairs of bf16: the first ones; and the second ones. */
INLINE vf v_low_bf16(const void *pairs)
{
    return v_floats(v_shift_left(v_load_bits(pairs), 16));
}

INLINE vf v_high_bf16(vf low, const void *pairs)
{
    return v_floats(v_and(v_load_bits(pairs), v_set1_bits((int32_t)0xffff0000)));
}

/* x[0], x[1], x[0], x[1], ... */
INLINE vf v_set_pair(const float *x)
{
    float32x2_t pair = vld1_f32(x);
    return (vf){vcombine_f32(pair, pair), vcombine_f32(pair, pair)};
}

/* a0 + a1, a2 + a3, ..., b0 + b1, b2 + b3, ... */
INLINE vf v_pair_sums(vf a, vf b)
{
    return (vf){vpaddq_f32(a.lo, a.hi), vpaddq_f32(b.lo, b.hi)};
}

/* The lanes of a and b in a row, split into even and odd ones, and back. */
INLINE void v_split(vf *a, vf *b)
{
    vf even = {vuzp1q_f32(a->lo, a->hi), vuzp1q_f32(b->lo, b->hi)}, odd = {vuzp2q_f32(a->lo, a->hi), vuzp2q_f32(b->lo, b->hi)};
    *a = even;
    *b = odd;
}

INLINE void v_join(vf *a, vf *b)
{
    vf first = {vzip1q_f32(a->lo, b->lo), vzip2q_f32(a->lo, b->lo)},
       second = {vzip1q_f32(a->hi, b->hi), vzip2q_f32(a->hi, b->hi)};
    *a = first;
    *b = second;
}

/* The low 16 bits of each lane, and floats rounded to halves, to W consecutive 16-bit elements. */
INLINE void v_store_low(void *p, vi x)
{
    vst1q_u8(p, vreinterpretq_u8_s16(vcombine_s16(vmovn_s32(x.lo), vmovn_s32(x.hi))));
}

INLINE void v_store_f16(void *p, vf x)
{
    vst1q_u8(p, vreinterpretq_u8_f16(vcombine_f16(vcvt_f16_f32(x.lo), vcvt_f16_f32(x.hi))));
}

/* Over the lanes, as a tree. */
INLINE float v_sum_lanes(vf x)
{
    float32x4_t four = vaddq_f32(x.lo, x.hi);
    float32x2_t two = vadd_f32(vget_low_f32(four), vget_high_f32(four));
    return vget_lane_f32(vpadd_f32(two, two), 0);
}

INLINE float v_max_lanes(vf x)
{
    return vmaxvq_f32(vmaxq_f32(x.lo, x.hi));
}

/* Four vectors of four: x[i] lane j <-> x[j] lane i. */
INLINE void v_transpose_block(float32x4_t *a, float32x4_t *b, float32x4_t *c, float32x4_t *d)
{
    float32x4x2_t ab = vtrnq_f32(*a, *b), cd = vtrnq_f32(*c, *d);
    *a = vcombine_f32(vget_low_f32(ab.val[0]), vget_low_f32(cd.val[0]));
    *b = vcombine_f32(vget_low_f32(ab.val[1]), vget_low_f32(cd.val[1]));
    *c = vcombine_f32(vget_high_f32(ab.val[0]), vget_high_f32(cd.val[0]));
    *d = vcombine_f32(vget_high_f32(ab.val[1]), vget_high_f32(cd.val[1]));
}

/* x[i] lane j <-> x[j] lane i: the four blocks of 4 by 4, then the two off the diagonal change places. */
INLINE void v_transpose(vf x[W])
{
    v_transpose_block(&x[0].lo, &x[1].lo, &x[2].lo, &x[3].lo);
    v_transpose_block(&x[0].hi, &x[1].hi, &x[2].hi, &x[3].hi);
    v_transpose_block(&x[4].lo, &x[5].lo, &x[6].lo, &x[7].lo);
    v_transpose_block(&x[4].hi, &x[5].hi, &x[6].hi, &x[7].hi);
    for (size_t i = 0; i < 4; i++) {
        float32x4_t above = x[i].hi;
        x[i].hi = x[i + 4].lo;
        x[i + 4].lo = above;
    }
}

INLINE float v_first(vf x)
{
    return vgetq_lane_f32(x.lo, 0);
}

/* Brings the cache line of p nearer. Any address is allowed. */
INLINE void v_prefetch(const void *p)
{
    __builtin_prefetch(p, 0, 3);
}

/* The same, no nearer than the second-level cache. */
INLINE void v_prefetch_far(const void *p)
{
    __builtin_prefetch(p, 0, 2);
}

#undef BOTH
#endif
