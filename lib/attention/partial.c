#include "attention/partial.h"

#include <float.h>
#include <math.h>
#include <string.h>

void partial_clear(float *partial, size_t e)
{
    partial[PARTIAL_MAX_NUM] = partial[PARTIAL_MAX_DEN] = -INFINITY;
    memset(partial + PARTIAL_SUM, 0, (PARTIAL_HEAD - PARTIAL_SUM + e) * sizeof *partial);
}

/* The exponents that rebase both sides on the larger maximum, which it puts in *max; -inf for an empty side. */
static void rebase(float *max, float other, float x[2])
{
    float m = other > *max ? other : *max;
    x[0] = m > -INFINITY ? *max - m : -INFINITY;
    x[1] = m > -INFINITY ? other - m : -INFINITY;
    *max = m;
}

void partial_merge(const struct kernels *kernels, float *into, const float *from, size_t e)
{
    float x[4], factor[4]; /* of the numerator's two sides, and of the denominator's */
    rebase(&into[PARTIAL_MAX_NUM], from[PARTIAL_MAX_NUM], x);
    rebase(&into[PARTIAL_MAX_DEN], from[PARTIAL_MAX_DEN], x + 2);
    kernels->exponential(x, 4, factor);
    into[PARTIAL_SUM] = into[PARTIAL_SUM] * factor[2] + from[PARTIAL_SUM] * factor[3];
    kernels->combine(factor[0], into + PARTIAL_HEAD, factor[1], from + PARTIAL_HEAD, e);
}

void partial_add_logit(float *partial, float logit)
{
    float max = partial[PARTIAL_MAX_DEN], m = logit > max ? logit : max;
    if (m == -INFINITY)
        return;
    partial[PARTIAL_SUM] = partial[PARTIAL_SUM] * expf(max - m) + expf(logit - m);
    partial[PARTIAL_MAX_DEN] = m;
}

/* to[c] = from[c] factor. In blocks of whole vectors of any instruction set. */
static void scale(float *restrict to, const float *restrict from, float factor, size_t n)
{
    enum { BLOCK = 16 };
    size_t c = 0;
    for (; c + BLOCK <= n; c += BLOCK)
        for (size_t i = 0; i < BLOCK; i++)
            to[c + i] = from[c + i] * factor;
    for (; c < n; c++)
        to[c] = from[c] * factor;
}

void partial_finish(const struct kernels *kernels, const float *partial, size_t e, float *out, float *lse)
{
    float max_num = partial[PARTIAL_MAX_NUM], max_den = partial[PARTIAL_MAX_DEN], sum = partial[PARTIAL_SUM];
    bool any = max_den > -INFINITY && sum > 0;
    float factor = 0, x = max_num - max_den;
    if (any && max_num > -INFINITY) {
        kernels->exponential(&x, 1, &factor);
        factor = fminf(factor / sum, FLT_MAX); /* estimators may put far more weight above than below: never 0 * inf */
    }
    if (factor == 0)
        memset(out, 0, e * sizeof *out);
    else
        scale(out, partial + PARTIAL_HEAD, factor, e);
    if (lse)
        *lse = any ? max_den + logf(sum) : -INFINITY;
}
