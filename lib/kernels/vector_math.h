/* exp, weigh and the small vector work, in vectors of any width: include after a vector_<isa>.h. */
#ifndef ATTND_KERNELS_VECTOR_MATH_H
#define ATTND_KERNELS_VECTOR_MATH_H

#include "base/shape.h"
#include "kernels/kernels.h"
#include <math.h>

/* e^x = 2^n e^r with n = round(x / ln 2), |r| <= ln(2)/2. Adding 1.5 * 2^23 rounds, and leaves n in the low bits of the sum.
 * ln 2 is split so that n * LN2_HIGH is exact (16 bits of it, n has 8). e^r = 1 + r + r^2 P(r): the minimax polynomial of its
 * relative error (Remez exchange in 40 digits, the first two coefficients held at 1), 3.1e-9 off, a twentieth of an ulp. */
#define ROUNDER 12582912.0f
#define LN2_HIGH 0x1.62e4p-1f
#define LN2_LOW 0x1.7f7d1cp-20f

INLINE vf v_exp_rounded(vf x)
{
    return v_fma(x, v_set1(1.44269504f), v_set1(ROUNDER));
}

INLINE vf v_exp_fraction(vf x, vf rounded)
{
    vf n = v_sub(rounded, v_set1(ROUNDER)), r = v_fma(n, v_set1(-LN2_HIGH), x);
    r = v_fma(n, v_set1(-LN2_LOW), r);
    vf y = v_fma(v_set1(0x1.6a2434p-10f), r, v_set1(0x1.1239e2p-7f));
    y = v_fma(y, r, v_set1(0x1.5558f2p-5f));
    y = v_fma(y, r, v_set1(0x1.555492p-3f));
    y = v_fma(y, r, v_set1(0x1.fffffcp-2f));
    y = v_fma(y, r, v_set1(1));
    return v_fma(y, r, v_set1(1));
}

/* Over the whole range: 2^n is multiplied in as two factors, so that a denormal result is rounded once and a large one
 * overflows. Order of v_min's and v_max's operands: a NaN stays. */
INLINE vf v_exp(vf x)
{
    x = v_max(v_set1(-105), v_min(v_set1(89), x));
    vf rounded = v_exp_rounded(x), y = v_exp_fraction(x, rounded);
    vi n = v_sub_bits(v_bits(rounded), v_set1_bits(0x4b400000)), half = v_shift_right(n, 1), bias = v_set1_bits(127);
    vf a = v_floats(v_shift_left(v_add_bits(half, bias), 23));
    vf b = v_floats(v_shift_left(v_add_bits(v_sub_bits(n, half), bias), 23));
    return v_mul(v_mul(y, a), b);
}

/* Weights of softmax, x <= 0: what would be below e^-86.5 = 2.7e-38 of the largest counts as 0. So the result is never
 * denormal (which some CPUs multiply slowly), and adding n to the exponent is enough. */
INLINE vf v_exp_weight(vf x)
{
    vf rounded = v_exp_rounded(x);
    vi y = v_add_bits(v_bits(v_exp_fraction(x, rounded)), v_shift_left(v_bits(rounded), 23));
    return v_above(x, v_set1(-86.5f), v_floats(y));
}

TARGET static void exponential(const float *x, size_t n, float *y)
{
    size_t i = 0;
    for (; i + W <= n; i += W)
        v_store(y + i, v_exp(v_load(x + i)));
    if (i < n)
        v_store_lanes(y + i, 0, n - i, v_exp(v_load_lanes(x + i, 0, n - i)));
}

TARGET static float weigh(float *s, size_t lo, size_t hi, size_t n, const float *log_w, float *max, float *sum)
{
    float old = *max;
    vf m = v_set1(old), least = v_set1(-INFINITY), total = v_set1(0);
    if (lo < hi)
        for (size_t j = lo / W * W; j < hi; j += W) {
            size_t from = lo > j ? lo - j : 0, to = hi - j;
            bool whole = from == 0 && to >= W;
            vf x = whole ? v_load(s + j) : v_load_lanes(s + j, from, to);
            if (log_w) {
                x = v_add(x, whole ? v_load(log_w + j) : v_load_lanes(log_w + j, from, to));
                v_store_lanes(s + j, from, to, x);
            }
            m = v_max(whole ? x : v_keep_lanes(x, from, to, least), m);
        }
    float largest = v_max_lanes(m);
    if (lo >= hi || largest == -INFINITY) {
        memset(s, 0, n * sizeof *s);
        return old > -INFINITY ? 1 : 0;
    }

    m = v_set1(largest);
    memset(s, 0, lo * sizeof *s);
    for (size_t j = lo / W * W; j < hi; j += W) {
        size_t from = lo > j ? lo - j : 0, to = hi - j;
        if (from == 0 && to >= W) {
            vf p = v_exp_weight(v_sub(v_load(s + j), m));
            v_store(s + j, p);
            total = v_add(total, p);
        } else {
            vf p = v_exp_weight(v_sub(v_load_lanes(s + j, from, to), m));
            v_store_lanes(s + j, from, to, p);
            total = v_add(total, v_keep_lanes(p, from, to, v_set1(0)));
        }
    }
    memset(s + hi, 0, (n - hi) * sizeof *s);
    float f = old == largest ? 1 : old > -INFINITY ? v_first(v_exp(v_set1(old - largest))) : 0;
    *sum = (f > 0 ? *sum * f : 0) + v_sum_lanes(total);
    *max = largest;
    return f;
}

TARGET static void multiply(const float *a, const float *b, size_t n, float *out)
{
    size_t c = 0;
    for (; c + W <= n; c += W)
        v_store(out + c, v_mul(v_load(a + c), v_load(b + c)));
    for (; c < n; c++)
        out[c] = a[c] * b[c];
}

TARGET static void multiply_add(float w, const float *a, const float *b, size_t n, float *acc)
{
    size_t c = 0;
    for (; c + W <= n; c += W)
        v_store(acc + c, v_fma(v_mul(v_set1(w), v_load(a + c)), v_load(b + c), v_load(acc + c)));
    for (; c < n; c++)
        acc[c] += w * a[c] * b[c];
}

TARGET static void combine(float f, float *y, float g, const float *x, size_t n)
{
    size_t c = 0;
    for (; c + W <= n; c += W)
        v_store(y + c, v_fma(v_load(y + c), v_set1(f), v_mul(v_load(x + c), v_set1(g))));
    for (; c < n; c++)
        y[c] = y[c] * f + x[c] * g;
}

#endif
