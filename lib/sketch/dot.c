#include "sketch/dot.h"

#include <math.h>

enum { SUMS = 8 };

float dot(const float *a, const float *b, size_t n)
{
    float sum[SUMS] = {0};
    size_t c = 0;
    for (; c + SUMS <= n; c += SUMS)
        for (size_t i = 0; i < SUMS; i++)
            sum[i] += a[c + i] * b[c + i];
    for (size_t i = 0; c + i < n; i++)
        sum[i] += a[c + i] * b[c + i];
    return ((sum[0] + sum[4]) + (sum[1] + sum[5])) + ((sum[2] + sum[6]) + (sum[3] + sum[7]));
}

float inverse_norm(const float *a, size_t n)
{
    float square = dot(a, a, n);
    return square > 0 ? 1 / sqrtf(square) : 0;
}
