/* Products of pairs of bf16 in their plainest form: what vector_bf16.h does faster. */
#include "kernels/element.h"
#include "kernels/tables.h"
#include <math.h>

static uint32_t pair_of(float x, float y)
{
    return bf16_of_f32(x) | (uint32_t)bf16_of_f32(y) << 16;
}

void scalar_pair_rows(const float *rows, size_t n, size_t width, uint32_t *pairs)
{
    size_t n_pairs = (n + 1) / 2;
    for (size_t u = 0; u < n_pairs; u++)
        for (size_t c = 0; c < width; c++) {
            const float *at = rows + 2 * u * width + c;
            pairs[(c / PANEL * n_pairs + u) * PANEL + c % PANEL] = pair_of(at[0], 2 * u + 1 < n ? at[width] : 0);
        }
}

float scalar_weigh_bf16(const float *s, size_t lo, size_t hi, size_t n, const float *log_w, float *max, float *sum,
                        uint32_t *pairs)
{
    float old = *max, m = old, total = 0, f = 0;
    for (size_t j = lo; j < hi; j++)
        m = fmaxf(m, s[j] + (log_w ? log_w[j] : 0));
    for (size_t j = 0; j < (n + PANEL - 1) / PANEL * PANEL; j++) {
        float x = j >= lo && j < hi && m > -INFINITY ? s[j] + (log_w ? log_w[j] : 0) - m : -INFINITY, w;
        kernels_scalar.exponential(&x, 1, &w);
        total += w;
        pairs[j / 2] = j % 2 ? pairs[j / 2] | pair_of(0, w) : pair_of(w, 0);
    }
    if (old > -INFINITY) {
        float x = old - m;
        kernels_scalar.exponential(&x, 1, &f);
    }
    *sum = (f > 0 ? *sum * f : 0) + total;
    *max = m;
    return f;
}

void scalar_product_bf16(const uint32_t *a, size_t lda, size_t n_q, const uint32_t *pairs, size_t n_pairs, size_t n,
                         const float *f, float *out, size_t ldo)
{
    for (size_t i = 0; i < n_q; i++)
        for (size_t j = 0; j < n; j++) {
            float sum = f && f[i] != 0 ? out[i * ldo + j] * f[i] : 0;
            for (size_t u = 0; u < n_pairs; u++) {
                uint32_t x = a[i * lda + u], y = pairs[(j / PANEL * n_pairs + u) * PANEL + j % PANEL];
                sum += bf16_to_f32((uint16_t)(x >> 16)) * bf16_to_f32((uint16_t)(y >> 16));
                sum += bf16_to_f32((uint16_t)x) * bf16_to_f32((uint16_t)y);
            }
            out[i * ldo + j] = sum;
        }
}
