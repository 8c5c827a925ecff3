#include "cache/ranked/likeness.h"
#include "sketch/dot.h"

enum { TILE_FLOATS = 8 * SHAPE_DIM_MAX };

void likeness_mean(const struct held *held, const struct held_plan *plan, const struct kernels *kernels, float *mean)
{
    size_t d = plan->format.d, tile = TILE_FLOATS / d;
    float keys[TILE_FLOATS];
    for (size_t c = 0; c < d; c++)
        mean[c] = 0;
    for (size_t row = 0, n; row < held->n; row += n) {
        n = held->n - row < tile ? held->n - row : tile;
        rows_read_keys(&held->rows, &plan->format, kernels, row, n, keys);
        for (size_t i = 0; i < n; i++)
            kernels->combine(1, mean, inverse_norm(keys + i * d, d) / (float)held->n, keys + i * d, d);
    }
}

void likeness_of(const float *mean, const float *keys, size_t n, size_t d, float *out)
{
    for (size_t i = 0; i < n; i++)
        out[i] = dot(keys + i * d, mean, d) * inverse_norm(keys + i * d, d);
}
