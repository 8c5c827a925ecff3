#include "cache/merge/metric.h"
#include "sketch/dot.h"

#include <string.h>

void metric_apply(const struct metric *m, const float *x, size_t n, float *out)
{
    size_t d = m->d;
    float row[SHAPE_DIM_MAX];
    for (size_t i = 0; !m->full && i < n; i++)
        m->kernels->multiply(x + i * d, m->diagonal, d, out + i * d);
    if (!m->full)
        return;
    memset(out, 0, n * d * sizeof *out);
    for (size_t c = 0; c < d; c++) {
        moments_rows(m->full, c, 1, false, row);
        for (size_t i = 0; i < n; i++)
            m->kernels->combine(1, out + i * d, x[i * d + c], row, d);
    }
}

float metric_square(const struct metric *m, const float *k, const float *l)
{
    float apart[SHAPE_DIM_MAX], measured[SHAPE_DIM_MAX];
    for (size_t c = 0; c < m->d; c++)
        apart[c] = k[c] - l[c];
    metric_apply(m, apart, 1, measured);
    float square = dot(apart, measured, m->d);
    return square > 0 ? square : 0;
}
