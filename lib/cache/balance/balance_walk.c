#include "cache/balance/balance_walk.h"

#include "base/coins.h"

#include <assert.h>
#include <math.h>

/* What the block is measured by. */
struct measure {
    float mean[SHAPE_DIM_MAX];   /* (d,) of the keys */
    float square[WALK_ROWS_MAX]; /* scale |k^_i|^2 at first, then |y_i|^2 */
    float max, b, largest;       /* largest: R^2 */
};

static float dot(const float *a, const float *b, size_t n)
{
    float sum = 0;
    for (size_t c = 0; c < n; c++)
        sum += a[c] * b[c];
    return sum;
}

/* The key of a row less the mean: (d,). */
static void read_centred(const struct walk *w, const struct rows *rows, const struct measure *m, size_t row, float *key)
{
    rows_read_keys(rows, w->format, w->kernels, row, 1, key);
    for (size_t c = 0; c < w->format->d; c++)
        key[c] -= m->mean[c];
}

static void measure_block(const struct walk *w, const struct rows *rows, size_t first, size_t n, struct measure *m)
{
    size_t d = w->format->d, e = w->format->e;
    float key[SHAPE_DIM_MAX], value[SHAPE_DIM_MAX], values[WALK_ROWS_MAX];
    for (size_t c = 0; c < d; c++)
        m->mean[c] = 0;
    for (size_t i = 0; i < n; i++) {
        rows_read_keys(rows, w->format, w->kernels, first + i, 1, key);
        w->kernels->combine(1, m->mean, 1 / (float)n, key, d);
    }
    m->b = m->largest = 0;
    m->max = -INFINITY;
    for (size_t i = 0; i < n; i++) {
        read_centred(w, rows, m, first + i, key);
        m->square[i] = w->scale * dot(key, key, d);
        m->max = m->square[i] > m->max ? m->square[i] : m->max;
        rows_read_values(rows, w->format, w->kernels, first + i, 1, value);
        values[i] = dot(value, value, e);
        m->b += values[i] / (float)n;
    }
    for (size_t i = 0; i < n; i++) {
        m->square[i] = expf(m->square[i] - m->max) * (values[i] + m->b);
        m->largest = m->square[i] > m->largest ? m->square[i] : m->largest;
    }
}

/* <y_i, sum_(j < i) sign_j y_j>; i > 0. */
static float against_earlier(const struct walk *w, const struct segment *block, const struct rows *rows,
                             const struct measure *m, const float *sign, size_t i)
{
    const struct row_format *f = w->format;
    float query[SHAPE_DIM_MAX], value[SHAPE_DIM_MAX], sum[SHAPE_DIM_MAX];
    float s[WALK_ROWS_MAX + 2 * PANEL], p[WALK_ROWS_MAX];
    const float fresh = 0;
    size_t panel = block->row / PANEL * PANEL, lead = block->row - panel;
    read_centred(w, rows, m, block->row + i, query);
    for (size_t c = 0; c < f->d; c++)
        query[c] *= w->scale;
    w->kernels->score[f->key_storage->id](query, 1, f->d, block->keys, panel, lead + i, s, WALK_ROWS_MAX + 2 * PANEL);
    float offset = dot(query, m->mean, f->d) + m->max, total = 0;
    for (size_t j = 0; j < i; j++)
        s[lead + j] -= offset;
    w->kernels->exponential(s + lead, i, p);
    for (size_t j = 0; j < i; j++) {
        p[j] *= sign[j];
        total += p[j];
    }
    w->kernels->accumulate[f->value_storage->id](p, i, &fresh, 1, block->values, block->row, i, f->e, sum, f->e);
    rows_read_values(rows, f, w->kernels, block->row + i, 1, value);
    return dot(value, sum, f->e) + m->b * total;
}

double walk_signs(const struct walk *walk, const struct rows *rows, size_t first, size_t n, bool *plus)
{
    struct measure m;
    float sign[WALK_ROWS_MAX];
    struct segment block = rows_segment(rows, walk->format, first, n, 0, 0);
    size_t n_plus = 0;
    double length = 0, squares = 0;
    assert(n % 2 == 0 && n <= WALK_ROWS_MAX);
    measure_block(walk, rows, first, n, &m);
    for (size_t i = 0; i < n; i++) {
        double product = i > 0 ? (double)against_earlier(walk, &block, rows, &m, sign, i) : 0;
        double tilt = m.largest > 0 ? product / (2 * walk->constant * (double)m.largest) : 0;
        plus[i] = coin(walk->seed, LANE_BALANCE, walk->token, i) < 0.5 - tilt;
        if (n_plus == n / 2 || i - n_plus == n / 2)
            plus[i] = n_plus < n / 2;
        n_plus += plus[i];
        sign[i] = plus[i] ? 1 : -1;
        length += 2 * (double)sign[i] * product + (double)m.square[i];
        squares += (double)m.square[i];
    }
    return squares > 0 ? length / squares : 0;
}
