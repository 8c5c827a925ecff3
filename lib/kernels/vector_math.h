/* exp, weigh and the small vector work, in vectors of any width: include after a vector_<isa>.h. */
#ifndef ATTND_KERNELS_VECTOR_MATH_H
#define ATTND_KERNELS_VECTOR_MATH_H

#include "base/shape.h"
#include "kernels/kernels.h"
#include <math.h>

/* e^x = 2^n e^r with n = round(x / ln 2), |r| <= ln(2)/2. Adding 1.5 * 2^23 rounds, and leaves n in the low bits of the sum.
 * e^r = 1 + r + r^2 P(r): the minimax polynomial of its relative error (Remez exchange in 40 digits, the first two
 * coefficients held at 1), 3.1e-9 off, a twentieth of an ulp; evaluated in pairs, which shortens the chain. */
#define ROUNDER 12582912.0f
#define LN2 0x1.62e43p-1f       /* ln 2 rounded up */
#define LN2_REST 0x1.05c61p-29f /* and what it is too large by */

INLINE vf v_exp_rounded(vf x)
{
    return v_fma(x, v_set1(1.44269504f), v_set1(ROUNDER));
}

INLINE vf v_exp_fraction(vf r)
{
    vf r2 = v_mul(r, r);
    vf c = v_fma(v_set1(0x1.6a2434p-10f), r, v_set1(0x1.1239e2p-7f));
    vf b = v_fma(v_set1(0x1.5558f2p-5f), r, v_set1(0x1.555492p-3f));
    vf a = v_fma(v_set1(0x1.fffffcp-2f), r, v_set1(1));
    return v_fma(v_fma(v_fma(c, r2, b), r2, a), r, v_set1(1));
}

/* Over the whole range: ln 2 in two parts, and 2^n as two factors, so that a denormal result is rounded once and a large one
 * overflows. The order of v_min's and v_max's operands lets a NaN stay. */
INLINE vf v_exp(vf x)
{
    x = v_max(v_set1(-105), v_min(v_set1(89), x));
    vf rounded = v_exp_rounded(x), n = v_sub(rounded, v_set1(ROUNDER));
    vf y = v_exp_fraction(v_fma(n, v_set1(LN2_REST), v_fma(n, v_set1(-LN2), x)));
    vi whole = v_sub_bits(v_bits(rounded), v_bits(v_set1(ROUNDER))), half = v_shift_right(whole, 1), bias = v_set1_bits(127);
    vf a = v_floats(v_shift_left(v_add_bits(half, bias), 23));
    vf b = v_floats(v_shift_left(v_add_bits(v_sub_bits(whole, half), bias), 23));
    return v_mul(v_mul(y, a), b);
}

/* Weights of softmax, x <= 0. What would be below e^-86.5 = 2.7e-38 of the largest counts as 0: so the result is never
 * denormal, which some CPUs multiply slowly, and adding n to the exponent is enough. With ln 2 as one float the relative error
 * grows by 1.9e-9 per n: less than an ulp down to e^-43, and 4 ulp at the end. */
INLINE vf v_exp_weight(vf x)
{
    vf rounded = v_exp_rounded(x), n = v_sub(rounded, v_set1(ROUNDER));
    vf y = v_exp_fraction(v_fma(n, v_set1(-LN2), x));
    return v_above(x, v_set1(-86.5f), v_floats(v_add_bits(v_bits(y), v_shift_left(v_bits(rounded), 23))));
}

TARGET static inline void exponential(const float *x, size_t n, float *y)
{
    size_t i = 0;
    for (; i + W <= n; i += W)
        v_store(y + i, v_exp(v_load(x + i)));
    if (i < n)
        v_store_lanes(y + i, 0, n - i, v_exp(v_load_lanes(x + i, 0, n - i)));
}

/* The vectors of [lo, hi): the first and last may be there in part. Lanes are those of index mod W, so that a sum's order depends
 * on where rows lie in their panels and on nothing else. */
INLINE vf weigh_load(float *s, const float *log_w, size_t j, size_t from, size_t to)
{
    vf x = v_load_lanes(s + j, from, to);
    if (log_w) {
        x = v_add(x, v_load_lanes(log_w + j, from, to));
        v_store_lanes(s + j, from, to, x);
    }
    return v_keep_lanes(x, from, to, v_set1(-INFINITY));
}

INLINE vf weigh_part(float *s, size_t j, size_t from, size_t to, vf max)
{
    vf p = v_exp_weight(v_sub(v_load_lanes(s + j, from, to), max));
    v_store_lanes(s + j, from, to, p);
    return v_keep_lanes(p, from, to, v_set1(0));
}

TARGET static inline float weigh(float *s, size_t lo, size_t hi, size_t n, const float *log_w, float *max, float *sum)
{
    float old = *max;
    vf m = v_set1(old), total = v_set1(0);
    size_t begin = lo / W * W, first = lo % W ? begin + W : begin, last = hi / W * W, j = first;
    bool part = lo < hi && lo % W, rest = lo < hi && hi % W && last >= first;
    if (part)
        m = v_max(weigh_load(s, log_w, begin, lo - begin, hi - begin), m);
    if (log_w)
        for (; j < last; j += W) {
            vf x = v_add(v_load(s + j), v_load(log_w + j));
            v_store(s + j, x);
            m = v_max(x, m);
        }
    else
        for (; j < last; j += W)
            m = v_max(v_load(s + j), m);
    if (rest)
        m = v_max(weigh_load(s, log_w, last, 0, hi - last), m);
    float largest = v_max_lanes(m);
    if (lo >= hi || largest == -INFINITY) {
        memset(s, 0, n * sizeof *s);
        return old > -INFINITY ? 1 : 0;
    }

    m = v_set1(largest);
    if (lo)
        memset(s, 0, lo * sizeof *s);
    if (part)
        total = weigh_part(s, begin, lo - begin, hi - begin, m);
    for (j = first; j < last; j += W) {
        vf p = v_exp_weight(v_sub(v_load(s + j), m));
        v_store(s + j, p);
        total = v_add(total, p);
    }
    if (rest)
        total = v_add(total, weigh_part(s, last, 0, hi - last, m));
    if (hi < n)
        memset(s + hi, 0, (n - hi) * sizeof *s);
    float f = old == largest ? 1 : old > -INFINITY ? v_first(v_exp(v_set1(old - largest))) : 0;
    *sum = (f > 0 ? *sum * f : 0) + v_sum_lanes(total);
    *max = largest;
    return f;
}

TARGET static inline void multiply(const float *a, const float *b, size_t n, float *out)
{
    size_t c = 0;
    for (; c + W <= n; c += W)
        v_store(out + c, v_mul(v_load(a + c), v_load(b + c)));
    for (; c < n; c++)
        out[c] = a[c] * b[c];
}

TARGET static inline void multiply_add(float w, const float *a, const float *b, size_t n, float *acc)
{
    size_t c = 0;
    for (; c + W <= n; c += W)
        v_store(acc + c, v_fma(v_mul(v_set1(w), v_load(a + c)), v_load(b + c), v_load(acc + c)));
    for (; c < n; c++)
        acc[c] += w * a[c] * b[c];
}

TARGET static inline void combine(float f, float *y, float g, const float *x, size_t n)
{
    size_t c = 0;
    for (; c + W <= n; c += W)
        v_store(y + c, v_fma(v_load(y + c), v_set1(f), v_mul(v_load(x + c), v_set1(g))));
    for (; c < n; c++)
        y[c] = y[c] * f + x[c] * g;
}

#endif
