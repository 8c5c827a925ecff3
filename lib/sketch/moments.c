#include "sketch/moments.h"

#include <string.h>

static const uint64_t COUNT_MAX = 1 << 24;

static size_t second_floats(size_t d, bool full)
{
    return full ? d * (d + 1) / 2 : d;
}

size_t moments_bytes(size_t d, bool full)
{
    return sizeof(uint64_t) + (d + second_floats(d, full)) * sizeof(float);
}

static float *mean_of(const struct moments *m)
{
    return (float *)(void *)((char *)m->block + sizeof(uint64_t));
}

/* Row c of the second moment up to its diagonal; or the diagonal, whatever c. */
static float *second_of(const struct moments *m, size_t c)
{
    return mean_of(m) + m->d + (m->full ? c * (c + 1) / 2 : 0);
}

uint64_t moments_count(const struct moments *m)
{
    uint64_t n;
    memcpy(&n, m->block, sizeof n);
    return n;
}

const float *moments_mean(const struct moments *m)
{
    return mean_of(m);
}

void moments_add(const struct moments *m, const struct kernels *kernels, const float *x, size_t n)
{
    uint64_t count = moments_count(m);
    for (size_t i = 0; i < n; i++, x += m->d) {
        count++;
        float share = 1 / (float)(count < COUNT_MAX ? count : COUNT_MAX);
        kernels->combine(1 - share, mean_of(m), share, x, m->d);
        for (size_t c = 0; m->full && c < m->d; c++)
            kernels->combine(1 - share, second_of(m, c), share * x[c], x, c + 1);
        for (size_t c = 0; !m->full && c < m->d; c++)
            second_of(m, 0)[c] += share * (x[c] * x[c] - second_of(m, 0)[c]);
    }
    memcpy(m->block, &count, sizeof count);
}

static float second_at(const struct moments *m, size_t a, size_t b)
{
    if (!m->full)
        return a == b ? second_of(m, 0)[a] : 0;
    return a > b ? second_of(m, a)[b] : second_of(m, b)[a];
}

void moments_rows(const struct moments *m, size_t c, size_t n, bool central, float *out)
{
    const float *mean = mean_of(m);
    for (size_t a = c; a < c + n; a++, out += m->d)
        for (size_t b = 0; b < m->d; b++) {
            out[b] = second_at(m, a, b);
            if (central && (m->full || a == b))
                out[b] -= mean[a] * mean[b];
        }
}

void moments_diagonal(const struct moments *m, float *out)
{
    for (size_t c = 0; c < m->d; c++)
        out[c] = second_at(m, c, c);
}
